//! What others put on ezz's datasets and directories: snapshots, holds, bookmarks, clones, mounts. Each verb works, or
//! is refused with their names; nothing of theirs is destroyed without a request.

use std::path::Path;

use crate::support::*;

#[test]
fn snapshots_holds_bookmarks_and_clones_are_named_and_stay() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a", "b", "c", "d", "--start"]).ok();
    sh("set -e
        for ds in tank/ezz tank/ezz/basejail tank/ezz/newjail tank/ezz/jails; do zfs snapshot $ds@theirs; zfs hold theirs $ds@theirs; done
        for ds in tank/ezz/basejail/1 tank/ezz/newjail/1; do zfs snapshot $ds@theirs; zfs hold theirs $ds@1; zfs bookmark $ds@1 $ds#theirs; done
        zfs clone -o mountpoint=none tank/ezz/basejail/1@1 tank/base-clone
        zfs clone -o mountpoint=none tank/ezz/newjail/1@1 tank/skeleton-clone
        zfs clone tank/ezz/newjail/1@1 tank/ezz/jails/stranger
        zfs create -V 8M tank/ezz/jails/volume; zfs create tank/ezz/elsewhere; zfs create -o mountpoint=none tank/ezz/basejail/theirs
        zfs snapshot tank/ezz/jails/a@held; zfs hold theirs tank/ezz/jails/a@held
        zfs create tank/ezz/jails/b/child; zfs snapshot -r tank/ezz/jails/b@theirs; zfs bookmark tank/ezz/jails/b@theirs tank/ezz/jails/b#theirs
        zfs snapshot tank/ezz/jails/c@theirs; zfs clone -o mountpoint=none tank/ezz/jails/c@theirs tank/jail-clone").ok();
    let before = everything();
    let running = || {
        let listed = ezz(&["list", "--json"]).ok().json();
        let of = |name: &str| {
            let found = listed
                .iter()
                .find(|jail| jail["jail"] == name || jail["name"] == name);
            found.is_some_and(|jail| jail["state"] == "running")
        };
        ["a", "b", "c", "d"].map(of)
    };
    assert_eq!(running(), [true; 4]);
    for (verb, words) in [
        (&["delete", "a", "--yes"][..], "tank/ezz/jails/a@held"),
        (
            &["delete", "a", "--yes", "--foreign-snapshots"],
            "tank/ezz/jails/a@held",
        ),
        (&["delete", "b", "--yes"], "tank/ezz/jails/b/child"),
        (&["delete", "c", "--yes"], "tank/jail-clone"),
        (
            &["delete", "c", "--yes", "--foreign-snapshots"],
            "tank/jail-clone",
        ),
        (
            &["delete", "d", "c", "--yes", "--foreign-snapshots"],
            "tank/jail-clone",
        ),
        (
            &["delete", "stranger", "--yes", "--foreign-snapshots"],
            "tank/ezz/jails/stranger",
        ),
        (&["start", "stranger"], "tank/ezz/jails/stranger"),
        (&["create", "stranger"], "tank/ezz/jails/stranger"),
        (&["create", "volume"], "it is a volume"),
        (
            &["delete", "volume", "--yes", "--foreign-snapshots"],
            "it is a volume",
        ),
    ] {
        ezz(verb).refused(1, words);
        assert_eq!(everything(), before, "{verb:?}");
        assert_eq!(
            running(),
            [true; 4],
            "{verb:?} stopped a jail before it refused"
        );
    }
    for verb in [
        &["list"][..],
        &["show", "b"],
        &["world", "verify", "1"],
        &["restart", "a", "b", "c"],
        &["create", "e", "--start"],
        &["create", "t", "--thick", "--start"],
        &["delete", "e", "t", "--yes"],
        &["install", "/tmp/runnable.tar"],
        &["track", "create", "new"],
        &["init", "tank/ezz"],
    ] {
        ezz(verb).ok();
    }
    let told = ezz(&["doctor", "--repair", "--json"]).json();
    let findings = told[0]["findings"].to_string();
    for name in [
        "basejail/1@1",
        "basejail/1@theirs",
        "jail stranger",
        "jail volume",
        "basejail/theirs",
    ] {
        assert!(findings.contains(name), "no {name} in {findings}");
    }
    for line in before
        .lines()
        .filter(|line| line.contains("theirs") || line.contains("clone"))
    {
        let name = line.split('\t').next().expect("a name");
        assert!(exists(name) || name.contains('#'), "{name} is gone");
    }
    // On request it destroys what is below the jail, and nothing else.
    ezz(&["delete", "b", "--yes", "--foreign-snapshots"]).ok();
    assert!(!exists("tank/ezz/jails/b"));
    sh("zfs release theirs tank/ezz/jails/a@held; zfs destroy tank/jail-clone").ok();
    ezz(&["delete", "a", "c", "--yes", "--foreign-snapshots"]).ok();
    for name in [
        "tank/base-clone",
        "tank/skeleton-clone",
        "tank/ezz/jails@theirs",
        "tank/ezz/basejail/1@theirs",
        "tank/ezz/jails/volume",
        "tank/ezz/elsewhere",
    ] {
        assert!(exists(name), "{name}");
    }
    ezz(&["exec", "d", "--", "id"]).ok();
    properties_that_endanger_the_host();
}

/// A jail with a broken property does not start, or the start repairs it.
#[track_caller]
fn properties_that_endanger_the_host() {
    ezz(&["stop", "d"]).ok();
    zfs(&["set", "mountpoint=/mnt/elsewhere", "tank/ezz/jails/d"]).ok();
    for verb in ["start", "restart"] {
        let words = "the mountpoint of tank/ezz/jails/d is /mnt/elsewhere, not /srv/jails/d";
        let refused = ezz(&[verb, "d"]).refused(1, words);
        let hint = "zfs inherit mountpoint tank/ezz/jails/d";
        assert!(refused.stderr.contains(hint), "{refused:#?}");
    }
    sh(
        "zfs inherit mountpoint tank/ezz/jails/d; zfs set devices=on tank/ezz/jails/d
        zfs unmount tank/ezz/jails/d; zfs mount tank/ezz/jails/d",
    )
    .ok();
    ezz(&["start", "d"]).ok();
    let table = sh("grep ' /srv/jails/d ' /proc/self/mountinfo").ok().stdout;
    assert!(
        table.contains("nodev") && table.contains("nosuid"),
        "{table}"
    );
}

fn mount(at: &str) {
    sh(&format!("mount -t tmpfs theirs {at} && touch {at}/theirs")).ok();
}

#[track_caller]
fn theirs(at: &str) {
    assert!(
        Path::new(at).join("theirs").exists(),
        "their mount at {at} is gone"
    );
}

#[test]
fn a_mount_of_somebody_else_is_left_and_hides_nothing() {
    init();
    install_runnable(SITE);
    // Before the jail exists.
    sh("mkdir /srv/jails/a").ok();
    mount("/srv/jails/a");
    ezz(&["create", "a", "b"]).refused(1, "/srv/jails/a is in the way");
    theirs("/srv/jails/a");
    assert!(!exists("tank/ezz/jails/b"));
    sh("umount /srv/jails/a").ok();
    ezz(&["create", "a", "b", "c", "--start"]).ok();

    // Over a stopped jail.
    ezz(&["stop", "a"]).ok();
    mount("/srv/jails/a");
    let before = everything();
    ezz(&["start", "a"]).refused(1, "tank/ezz/jails/a is not mounted at /srv/jails/a");
    ezz(&["delete", "a", "--yes"]).refused(1, "/srv/jails/a is in the way");
    ezz(&["doctor", "--repair"]);
    theirs("/srv/jails/a");
    assert_eq!(everything(), before);
    assert_eq!(
        sh("ls -A /srv/jails/a").ok().stdout,
        "theirs\n",
        "nothing was written into it"
    );
    sh("umount /srv/jails/a").ok();
    ezz(&["start", "a"]).ok();

    // Over a running jail: it continues, and can be stopped.
    mount("/srv/jails/b");
    assert_eq!(ezz(&["exec", "b", "--", "id", "-u"]).ok().stdout, "0\n");
    ezz(&["delete", "b", "--yes"]).refused(1, "/srv/jails/b is in the way");
    ezz(&["exec", "b", "--", "id"]).ok();
    ezz(&["stop", "b"]).ok();
    theirs("/srv/jails/b");
    sh("umount /srv/jails/b").ok();
    assert!(
        mounted_at("/srv/jails/b").is_some(),
        "the jail is below it as before"
    );

    // Below a jail's directory.
    sh("mkdir /srv/jails/c/srv/data").ok();
    mount("/srv/jails/c/srv/data");
    ezz(&["restart", "c"]).ok();
    assert_eq!(
        ezz(&["exec", "c", "--", "ls", "/srv/data"]).ok().stdout,
        "",
        "it is the host's"
    );
    ezz(&["delete", "c", "--yes"]).refused(1, "or below");
    ezz(&["exec", "c", "--", "id"]).ok();
    theirs("/srv/jails/c/srv/data");
    sh("umount /srv/jails/c/srv/data").ok();

    // The jail's own files are mounted elsewhere, or a process uses them.
    sh("mkdir /tmp/elsewhere && mount --bind /srv/jails/c /tmp/elsewhere").ok();
    ezz(&["delete", "c", "--yes"]).refused(1, "busy");
    assert!(mounted_at("/srv/jails/c").is_some(), "it is mounted again");
    sh("umount /tmp/elsewhere").ok();
    let mut inside = spawn("/srv/jails/c", "exec sleep 600");
    ezz(&["delete", "c", "--yes"]).refused(1, "its files are in use by process");
    assert!(mounted_at("/srv/jails/c").is_some());
    inside
        .kill()
        .and_then(|()| inside.wait().map(drop))
        .expect("it is ended");
    ezz(&["start", "c"]).ok();

    // Over the site itself: a command that would act below it is refused.
    mount("/srv/jails");
    for verb in [&["start", "b"][..], &["delete", "b", "--yes"]] {
        let told = ezz(verb);
        assert_eq!(told.code, 1, "{told:#?}");
        assert!(!told.stderr.contains("panicked"), "{told:#?}");
    }
    let left = sh("find /srv/jails").ok().stdout;
    assert_eq!(left, "/srv/jails\n/srv/jails/theirs\n");
    sh("umount /srv/jails").ok();
    ezz(&["doctor", "--repair"]).ok();
    assert!(exists("tank/ezz/jails/b"));
    ezz(&["start", "b"]).ok();
    ezz(&["delete", "a", "b", "c", "--yes"]).ok();
    ezz(&["doctor"]).ok();
}

/// Root of a jail may set any property on a dataset that was delegated to it, including line breaks.
#[test]
fn a_property_that_looks_like_rows_of_others_is_not_believed() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a", "b", "--start"]).ok();
    let of_b = property("tank/ezz/jails/b", "ezz:jail");
    sh(r#"set -e; zfs create -u -o zoned=on tank/ezz/jails/a/data
        t=$(printf '\t'); n='
'; config='{"kind":"thin","base":{"track":"main"},"skel":1,"hostname":"forged","network":"host"}'
        forged="x${t}local${n}tank/ezz/jails/b${t}ezz:jail${t}$config${t}local${n}tank/ezz/jails/b${t}quota${t}0"
        zfs set "ezz:jail=$forged" tank/ezz/jails/a/data; zfs set "ezz:format=1" tank/ezz/jails/a/data
        zfs set "ezz:sealed=$forged" tank/ezz/jails/a/data; zfs set "ezz:world=$forged" tank/ezz/jails/a/data"#)
    .ok();
    let before = everything();
    ezz(&["list"]).ok();
    for jail in ["a", "b"] {
        let told = ezz(&["show", jail, "--json"]).ok().json();
        assert_eq!(told[0]["hostname"], jail, "{told:#?}");
    }
    ezz(&["restart", "a", "b"]).ok();
    ezz(&["delete", "a", "--yes"]).refused(1, "tank/ezz/jails/a/data");
    let told = ezz(&["doctor", "--repair"]).exits(1);
    assert!(told.stdout.contains("line break"), "{told:#?}");
    assert_eq!(everything(), before);
    assert_eq!(property("tank/ezz/jails/b", "ezz:jail"), of_b);
    // The jail disturbs no command, and can itself be stopped and deleted.
    ezz(&["create", "c", "--start"]).ok();
    ezz(&["stop", "a"]).ok();
    ezz(&["delete", "a", "--yes", "--foreign-snapshots"]).ok();
    assert!(!exists("tank/ezz/jails/a"));
    ezz(&["doctor"]).ok();
}
