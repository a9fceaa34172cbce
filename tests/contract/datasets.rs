//! Datasets, properties, holds and clones: calls that are no program.

use super::{Script, sealing, site, staged};

/// Names that are taken, parents that are missing, properties that cannot be given.
pub fn creation(s: &mut Script<'_>) {
    s.create("a/b", &[]);
    s.create("", &[("canmount", "off"), ("mountpoint", "none")]);
    s.create("", &[]);
    s.create("a/b", &[]);
    s.create("a", &[("canmount", "noauto"), ("x:y", "v")]);
    s.create("a", &[]);
    s.create("c", &[("no-such", "on")]);
    s.create("c", &[("canmount", "perhaps")]);
    s.expect(&[
        "create a/b: ENOENT",
        "create : ok",
        "create : EEXIST",
        "create a/b: ENOENT",
        "create a: ok",
        "create a: EEXIST",
        "create c: property: no-such",
        "create c: property: canmount",
    ]);
    s.list(&["a", "c"], Some(0), &["filesystem"]);
    s.expect(&["list: a"]);
}

/// The sources of properties: what children inherit, and what they do not.
pub fn sources(s: &mut Script<'_>) {
    site(s);
    staged(s, 1);
    s.show(
        "",
        &["canmount", "devices", "readonly", "ezz:epoch", "x:none"],
    );
    s.show(
        "basejail",
        &["canmount", "readonly", "ezz:epoch", "mountpoint", "origin"],
    );
    s.show(
        "basejail/1",
        &[
            "canmount",
            "readonly",
            "sync",
            "mountpoint",
            "mounted",
            "quota",
        ],
    );
    s.show("newjail/1", &["canmount", "readonly", "type", "userrefs"]);
    s.show("nosuch", &["type"]);
    s.set("newjail/1", "quota", "1048576");
    s.set("newjail/1", "readonly", "on");
    s.set("nosuch", "quota", "1048576");
    s.set("newjail/1", "quota", "much");
    s.show("newjail/1", &["quota", "readonly"]);
    s.create("newjail/1/below", &[]);
    s.show(
        "newjail/1/below",
        &["quota", "readonly", "canmount", "mountpoint"],
    );
    s.expect(&[
        "show : canmount=on, devices=off local, readonly=off, ezz:epoch=1 local, x:none=-",
        "show basejail: canmount=off local, readonly=on local, ezz:epoch=1, mountpoint=DIR/basejail, origin=-",
        "show basejail/1: canmount=on, readonly=off local, sync=disabled local, mountpoint=DIR/basejail/1, mounted=no, quota=0",
        "show newjail/1: canmount=noauto local, readonly=off, type=filesystem, userrefs=-",
        "show nosuch: absent",
        "set quota=1048576 newjail/1: ok",
        "set readonly=on newjail/1: ok",
        "set quota=1048576 nosuch: refused",
        "set quota=much newjail/1: refused",
        "show newjail/1: quota=1048576 local, readonly=on local",
        "create newjail/1/below: ok",
        "show newjail/1/below: quota=0, readonly=on, canmount=on, mountpoint=DIR/newjail/1/below",
    ]);
}

/// What prevents the destroy of a dataset, and which of two reasons is reported.
pub fn destroy_order(s: &mut Script<'_>) {
    site(s);
    s.quietly(|s| {
        s.create("jails/a", &[]);
        s.create("jails/a/b", &[]);
    });
    s.bench.snapshot(&format!("{}/jails/a/b@s", s.site));
    s.destroy("jails/a");
    s.destroy("jails/a/b");
    s.destroy("jails/nosuch");
    s.bench.snapshot(&format!("{}/jails/a@s", s.site));
    s.destroy("jails/a");
    s.list(&["jails"], None, &["filesystem", "snapshot"]);
    s.list(&["jails"], Some(1), &["filesystem", "snapshot"]);
    s.list(&["jails"], Some(2), &["snapshot"]);
    s.list(&["jails/a", "jails/nosuch"], Some(0), &["filesystem"]);
    s.expect(&[
        "destroy jails/a: EEXIST",
        "destroy jails/a/b: EBUSY",
        "destroy jails/nosuch: ENOENT",
        "destroy jails/a: EBUSY",
        "list: jails jails/a jails/a/b jails/a/b@s jails/a@s",
        "list: jails jails/a",
        "list: jails/a@s",
        "list: jails/a",
    ]);
}

/// A hold is set once, and is not set if one of several snapshots is missing.
pub fn holds(s: &mut Script<'_>) {
    site(s);
    s.quietly(|s| s.create("jails/a", &[]));
    for name in ["1", "2"] {
        s.bench.snapshot(&format!("{}/jails/a@{name}", s.site));
    }
    s.hold(&["jails/a@1"]);
    s.hold(&["jails/a@1"]);
    s.hold(&["jails/a@1", "jails/a@2"]);
    s.hold(&["jails/a@1", "jails/a@3"]);
    s.hold(&["jails/nosuch@1"]);
    s.holds("jails/a@2");
    s.holds("jails/a@3");
    s.show(
        "jails/a@1",
        &["userrefs", "type", "mounted", "mountpoint", "quota"],
    );
    s.release(&["jails/a@1", "jails/a@2"]);
    s.release(&["jails/a@1"]);
    s.release(&["jails/a@3"]);
    s.show("jails/a@1", &["userrefs"]);
    s.expect(&[
        "hold jails/a@1: done",
        "hold jails/a@1: already",
        "hold jails/a@1 jails/a@2: done",
        "hold jails/a@1 jails/a@3: ENOENT",
        "hold jails/nosuch@1: ENOENT",
        "holds jails/a@2: ezz",
        "holds jails/a@3: ENOENT",
        "show jails/a@1: userrefs=1, type=snapshot, mounted=-, mountpoint=-, quota=-",
        "release jails/a@1 jails/a@2: done",
        "release jails/a@1: already",
        "release jails/a@3: ENOENT",
        "show jails/a@1: userrefs=0",
    ]);
}

/// Clones without a program.
pub fn clones(s: &mut Script<'_>) {
    site(s);
    staged(s, 1);
    s.quietly(|s| s.commit("seal", &sealing(1, 1, None)));
    s.clone_all(&[("jails/a", "newjail/1@1")]);
    s.clone_all(&[("jails/a", "newjail/1@1")]);
    s.clone_all(&[("jails/b", "newjail/1@2")]);
    s.clone_all(&[("nosuch/b", "newjail/1@1")]);
    s.clone_all(&[("jails/b", "basejail/1@1")]);
    s.show(
        "jails/a",
        &["origin", "ezz:jail", "canmount", "sync", "mountpoint"],
    );
    s.show("jails/b", &["origin", "readonly", "written"]);
    s.show("newjail/1@1", &["clones", "ezz:sealed"]);
    s.destroy("newjail/1");
    s.expect(&[
        "clone jails/a: ok",
        "clone jails/a: EEXIST",
        "clone jails/b: ENOENT",
        "clone nosuch/b: ENOENT",
        "clone jails/b: ok",
        "show jails/a: origin=SITE/newjail/1@1, ezz:jail=-, canmount=on, sync=standard, mountpoint=DIR/a",
        "show jails/b: origin=SITE/basejail/1@1, readonly=off, written=0",
        "show newjail/1@1: clones=SITE/jails/a, ezz:sealed={\"s\":1} local",
        "destroy newjail/1: EBUSY",
    ]);
}

/// The properties of a site after `zfs send -R | zfs receive`.
pub fn replica(s: &mut Script<'_>) {
    site(s);
    staged(s, 1);
    s.quietly(|s| {
        s.commit("seal", &sealing(1, 1, None));
        s.hold(&["newjail/1@1"]);
        s.clone_all(&[("jails/a", "newjail/1@1")]);
        let jail = super::set(
            &s.dataset("jails/a"),
            "ezz:jail",
            ezz::plan::Expect::Absent,
            Some("{}"),
        );
        s.commit("jail", &super::sets(2, vec![jail]));
    });
    let from = s.site.clone();
    let to = format!("{from}-copy");
    s.bench.replicate(&from, "copy", &to);
    s.site = to;
    s.show("", &["ezz:epoch", "ezz:format", "mountpoint", "canmount"]);
    s.show(
        "basejail/1",
        &["ezz:world", "readonly", "canmount", "mounted"],
    );
    s.show("newjail/1@1", &["ezz:sealed", "userrefs"]);
    s.show("jails/a", &["ezz:jail", "origin", "ezz:epoch"]);
    let world = |value: &str| {
        let world = super::set(
            &s.dataset("basejail/1"),
            "ezz:world",
            ezz::plan::Expect::Any,
            Some(value),
        );
        vec![world]
    };
    let (plain, adopted) = (world("{\"w\":2}"), world("{\"w\":3}"));
    s.commit("as a site", &super::sets(3, plain));
    let adopt = ezz::plan::Commit::Set {
        epoch: 3,
        sets: adopted,
        sealed: Vec::new(),
        adopt: true,
    };
    s.commit("to adopt", &adopt);
    s.show("", &["ezz:epoch", "ezz:format"]);
    s.show("basejail/1", &["ezz:world"]);
    s.expect(&[
        "show : ezz:epoch=3 received, ezz:format=1 received, mountpoint=DIR received, canmount=on",
        "show basejail/1: ezz:world={\"w\":1} received, readonly=on, canmount=on, mounted=no",
        "show newjail/1@1: ezz:sealed={\"s\":1} received, userrefs=0",
        "show jails/a: ezz:jail={} received, origin=SITE/newjail/1@1, ezz:epoch=3",
        "as a site: refused: SITE: no-epoch",
        "to adopt: ok",
        "show : ezz:epoch=4 local, ezz:format=1 received",
        "show basejail/1: ezz:world={\"w\":3} local",
    ]);
}
