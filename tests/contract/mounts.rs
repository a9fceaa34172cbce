//! Mounts: each is made once, never over something else, and never taken off while it is in use; and which mounts the
//! programs see.

use std::os::unix::fs::PermissionsExt;

use ezz::plan::MountAs;

use super::{Script, doomed, sealing, site, staged};

/// Mounts once, on a free directory, which is created if it is missing.
pub fn mounting(s: &mut Script<'_>) {
    site(s);
    staged(s, 1);
    s.mount("", "", MountAs::Site);
    s.mount("", "", MountAs::Site);
    s.quietly(|s| {
        s.create("jails/a", &[]);
        s.create("jails/b", &[]);
    });
    s.mount("jails/a", "a", MountAs::Jail);
    s.mount("jails/a", "a", MountAs::Jail);
    s.mount("jails/b", "a", MountAs::Jail);
    s.mount("jails/nosuch", "c", MountAs::Jail);
    let mode = |s: &Script<'_>, at: &str| {
        let found = std::fs::metadata(s.bench.directory().join(at)).expect("it is there");
        format!("{:o}", found.permissions().mode() & 0o7777)
    };
    let told = [mode(s, ""), mode(s, "a"), mode(s, "c")].join(" ");
    s.note("modes", Ok(&told));
    s.show("jails/a", &["mounted", "mountpoint"]);
    s.destroy("jails/a");
    s.unmount("jails/a", "a");
    s.unmount("jails/a", "a");
    s.unmount("jails/b", "a");
    s.destroy("jails/a");
    let told = mode(s, "a");
    s.note("the directory", Ok(&told));
    s.expect(&[
        "mount  at : done",
        "mount  at : already",
        "mount jails/a at a: done",
        "mount jails/a at a: already",
        "mount jails/b at a: occupied: DIR/a by SITE/jails/a",
        "mount jails/nosuch at c: mount: ENOENT",
        "modes: 700 755 700",
        "show jails/a: mounted=yes, mountpoint=DIR/a",
        "destroy jails/a: EBUSY",
        "unmount jails/a from a: done",
        "unmount jails/a from a: already",
        "unmount jails/b from a: already",
        "destroy jails/a: ok",
        "the directory: 700",
    ]);
    s.unmount("", "");
    s.expect(&["unmount  from : done"]);
}

/// A mount that is in use stays, and a seal requires both halves to be unmounted.
pub fn busy(s: &mut Script<'_>) {
    site(s);
    staged(s, 1);
    s.mount("basejail/1", "basejail/1", MountAs::Staged);
    s.commit("mounted", &sealing(1, 1, None));
    let at = s.bench.directory().join("basejail/1");
    let dataset = s.dataset("basejail/1").to_string();
    let bench = s.bench;
    bench.with_open_file(&dataset, &at, &mut || s.unmount("basejail/1", "basejail/1"));
    s.unmount("basejail/1", "basejail/1");
    s.commit("unmounted", &sealing(1, 1, None));
    s.mount("basejail/1", "basejail/1", MountAs::Base);
    s.mount("basejail/1", "elsewhere", MountAs::Staged);
    s.mount("basejail/1", "elsewhere", MountAs::Base);
    let guids =
        ["basejail/1@1", "basejail/1"].map(|name| (format!("{}/{name}", s.site), s.guid(name)));
    s.commit("destroy", &doomed(2, &guids));
    s.unmount("basejail/1", "elsewhere");
    s.commit("destroy", &doomed(2, &guids));
    s.unmount("basejail/1", "basejail/1");
    s.commit("destroy", &doomed(2, &guids));
    s.expect(&[
        "mount basejail/1 at basejail/1: done",
        "mounted: refused: SITE/basejail/1: busy",
        "unmount basejail/1 from basejail/1: busy: DIR/basejail/1",
        "unmount basejail/1 from basejail/1: done",
        "unmounted: ok",
        "mount basejail/1 at basejail/1: done",
        "mount basejail/1 at elsewhere: mount: EBUSY",
        "mount basejail/1 at elsewhere: done",
        "destroy: refused: SITE/basejail/1: busy",
        "unmount basejail/1 from elsewhere: done",
        "destroy: refused: SITE/basejail/1: busy",
        "unmount basejail/1 from basejail/1: done",
        "destroy: ok",
    ]);
}

/// A mount below another, and a mount that hides another.
pub fn nested(s: &mut Script<'_>) {
    site(s);
    s.quietly(|s| {
        s.create("jails/a", &[]);
        s.create("other", &[]);
    });
    s.mount("", "", MountAs::Site);
    s.mount("jails/a", "a", MountAs::Jail);
    s.mount("other", "a/other", MountAs::Jail);
    // Its own mount and those of datasets below it are removed; a foreign mount in it keeps it.
    s.unmount("jails/a", "a");
    s.unmount("", "");
    s.list(&["jails"], Some(1), &["filesystem"]);
    s.show("other", &["mounted"]);
    // A dataset that was mounted before its parent is hidden below it, and cannot be reached.
    s.mount("jails/a", "a", MountAs::Jail);
    s.mount("", "", MountAs::Site);
    s.unmount("jails/a", "a");
    s.show("jails/a", &["mounted"]);
    s.expect(&[
        "mount  at : done",
        "mount jails/a at a: done",
        "mount other at a/other: done",
        "unmount jails/a from a: covered: SITE/other at DIR/a/other",
        "unmount  from : done",
        "list: jails jails/a",
        "show other: mounted=no",
        "mount jails/a at a: done",
        "mount  at : done",
        "unmount jails/a from a: not mounted: DIR/a",
        "show jails/a: mounted=yes",
    ]);
}
