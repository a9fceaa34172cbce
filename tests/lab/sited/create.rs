//! `ezz create`, `list`, `show`, `delete` on a real world, without starting jails.

use std::path::Path;

use crate::support::*;

#[test]
fn jails_are_clones_that_cost_nothing() {
    let done = ezz(&["create", "web{01..03}", "--json"]).ok();
    assert_eq!(done.json().len(), 3);
    for name in ["web01", "web02", "web03"] {
        let dataset = format!("tank/ezz/jails/{name}");
        assert_eq!(property(&dataset, "origin"), "tank/ezz/newjail/1@1");
        let config = json_property(&dataset, "ezz:jail");
        assert_eq!(config["kind"], "thin");
        assert_eq!(config["skel"], 1);
        assert_eq!(config["hostname"], name);
        assert_eq!(source(&dataset, "ezz:jail"), "local");
        let at = format!("/srv/jails/{name}");
        let line = mounted_at(&at).expect("mounted");
        assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
    }
    sh("zpool sync").ok();
    let used: u64 = property("tank/ezz/jails/web01", "used")
        .parse()
        .expect("a number");
    assert!(used <= 64 << 10, "a new jail costs {used} bytes");
    // One program created them, and nothing was left to do.
    let programs = sh("zpool history -i tank | grep -c 'clone tank/ezz/jails/web'").stdout;
    assert_eq!(programs.trim(), "3");
}

#[test]
fn a_thick_jail_has_all_files_and_a_quota_is_set() {
    ezz(&["create", "big", "--thick", "--quota", "2G"]).ok();
    assert_eq!(
        property("tank/ezz/jails/big", "origin"),
        "tank/ezz/basejail/1@1"
    );
    assert_eq!(
        property("tank/ezz/jails/big", "quota"),
        (2_u64 << 30).to_string()
    );
    let config = json_property("tank/ezz/jails/big", "ezz:jail");
    assert!(config.get("todo").is_none(), "{config}");
    assert!(Path::new("/srv/jails/big/usr/bin/dpkg").is_file());
    sh("touch /srv/jails/big/usr/bin/mine").ok();
}

#[test]
fn all_or_nothing() {
    ezz(&["create", "b"]).ok();
    let before = everything();
    ezz(&["create", "a", "b", "c"]).refused(1, "the jail b already exists");
    ezz(&["create", "x", "x"]).refused(2, "named twice");
    ezz(&["create", "p", "q", "--hostname", "one"]).refused(2, "only possible for a single jail");
    ezz(&["create", "p", "--pin", "9"]).refused(1, "no sealed generation");
    ezz(&["create", "p", "--track", "none"]).refused(1, "there is no track none");
    ezz(&["create", "main"]).refused(1, "the name of a track");
    for bad in [
        "Upper",
        "a.b",
        "-x",
        "a_b",
        "basejail",
        "a/b",
        "../x",
        "a b",
        "",
        "web{3..1}",
    ] {
        ezz(&["create", "--", bad]).exits(2);
    }
    ezz(&["create", "p", "--address", "1.2.3"]).exits(2);
    ezz(&["create", "p", "--quota", "much"]).exits(2);
    sh("mkdir /srv/jails/occupied && touch /srv/jails/occupied/file").ok();
    ezz(&["create", "p", "occupied"]).refused(1, "in the way");
    sh("mkdir /srv/jails/other && mount -t tmpfs none /srv/jails/other").ok();
    ezz(&["create", "other"]).refused(1, "mounted there");
    assert_eq!(everything(), before);
}

#[test]
fn a_dataset_that_ezz_did_not_make_is_left_alone() {
    // An inherited `ezz:jail` does not make it a jail either.
    let inherited =
        r#"{"kind":"thin","base":{"pin":1},"skel":1,"hostname":"theirs","network":"host"}"#;
    sh(&format!(
        "zfs create -u tank/ezz/jails/theirs && zfs set ezz:jail='{inherited}' tank/ezz/jails"
    ))
    .ok();
    ezz(&["start", "theirs"]).refused(1, "no ezz:jail of its own");
    ezz(&["create", "theirs"]).refused(1, "no ezz:jail of its own");
    ezz(&["delete", "theirs", "--yes"]).refused(1, "no ezz:jail of its own");
    assert!(exists("tank/ezz/jails/theirs"));
}

#[test]
fn an_address_is_one_jails() {
    ezz(&[
        "create",
        "a",
        "--address",
        "192.0.2.7/24",
        "--hostname",
        "a.example.org",
    ])
    .ok();
    ezz(&["create", "b", "--address", "192.0.2.7"]).refused(1, "belongs to the jail a");
    let shown = ezz(&["list", "a", "--json"]).ok().json();
    assert_eq!(shown[0]["addresses"][0], "192.0.2.7/24");
    assert_eq!(shown[0]["hostname"], "a.example.org");
}

#[test]
fn an_unfinished_jail_is_finished() {
    ezz(&["create", "half", "whole"]).ok();
    let guid = property("tank/ezz/jails/half", "guid");
    // The state that a kill between the clone and the end of its host steps leaves.
    sh(r#"zfs set ezz:jail='{"kind":"thin","base":{"track":"main"},"skel":1,"hostname":"half","network":"host","todo":[{"quota":1073741824}]}' tank/ezz/jails/half"#).ok();
    let listed = ezz(&["list", "half", "--json"]).ok().json();
    assert_eq!(listed[0]["state"], "unfinished");
    let told = ezz(&["doctor"]).exits(1);
    assert!(
        told.stdout.contains("jail half: it was never finished"),
        "{told:#?}"
    );
    ezz(&["doctor", "--repair"]).ok();
    assert_eq!(
        property("tank/ezz/jails/half", "guid"),
        guid,
        "it stays: a kill in the middle must not lose it"
    );
    assert_eq!(property("tank/ezz/jails/half", "quota"), "1073741824");
    assert!(
        json_property("tank/ezz/jails/half", "ezz:jail")
            .get("todo")
            .is_none()
    );
    assert!(mounted_at("/srv/jails/half").is_some());
}

#[test]
fn a_create_that_cannot_finish_leaves_nothing() {
    ezz(&["create", "before"]).ok();
    let before = everything();
    // The guest's root is a layer of its own, so zfs(8) can be replaced: this one sets nothing.
    sh("zfs=$(command -v zfs); mv $zfs $zfs.real
        printf '#!/bin/sh\\n[ \"$1\" = set ] && { echo no >&2; exit 1; }\\nexec %s.real \"$@\"\\n' $zfs >$zfs; chmod 755 $zfs")
    .ok();
    ezz(&["create", "a", "b", "--quota", "1G"]).exits(1);
    for name in ["a", "b"] {
        assert!(!exists(&format!("tank/ezz/jails/{name}")));
        assert!(!Path::new("/srv/jails").join(name).exists());
    }
    let kept = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains("ezz:epoch"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(kept(&everything()), kept(&before));
}

#[test]
fn delete_asks_and_deletes() {
    ezz(&["create", "a", "b"]).ok();
    ezz(&["delete", "a"]).refused(1, "cannot ask for confirmation");
    assert!(exists("tank/ezz/jails/a"));
    ezz(&["delete", "a", "nosuch", "--yes"]).refused(1, "there is no jail nosuch");
    assert!(exists("tank/ezz/jails/a"));
    let plan = ezz(&["delete", "a", "--dry-run"]).ok();
    assert!(
        plan.stdout.contains("destroy tank/ezz/jails/a"),
        "{plan:#?}"
    );
    assert!(exists("tank/ezz/jails/a"));
    ezz(&["delete", "a", "b", "--yes"]).ok();
    for name in ["a", "b"] {
        assert!(!exists(&format!("tank/ezz/jails/{name}")));
        assert!(!Path::new("/srv/jails").join(name).exists());
    }
    assert!(exists("tank/ezz/newjail/1@1"));
    ezz(&["delete", "a", "--yes"]).refused(1, "there is no jail a");
}

#[test]
fn foreign_snapshots_and_clones_are_named_first() {
    ezz(&["create", "a"]).ok();
    sh("zfs snapshot tank/ezz/jails/a@backup").ok();
    ezz(&["delete", "a", "--yes"]).refused(1, "tank/ezz/jails/a@backup");
    sh("zfs clone -o mountpoint=none tank/ezz/jails/a@backup tank/theirs").ok();
    ezz(&["delete", "a", "--yes", "--foreign-snapshots"]).refused(1, "tank/theirs");
    sh("zfs destroy tank/theirs").ok();
    ezz(&["delete", "a", "--yes", "--foreign-snapshots"]).ok();
    assert!(!exists("tank/ezz/jails/a"));
}

#[test]
fn a_busy_jail_is_not_half_deleted() {
    ezz(&["create", "a"]).ok();
    let before = everything();
    let ended = sh(&format!("cd /srv/jails/a && exec {EZZ} delete a --yes"));
    ended.refused(1, "busy");
    assert_eq!(everything(), before);
    ezz(&["delete", "a", "--yes"]).ok();
}

#[test]
fn another_ezz_is_waited_for_and_then_exit_4() {
    let id = property(SITE, "ezz:id");
    let held = sh(&format!(
        "mkdir -p /run/ezz; flock /run/ezz/{id}-site.lock sh -c '{EZZ} --wait 1 create a'"
    ));
    held.refused(4, "another ezz is working");
    assert!(!exists("tank/ezz/jails/a"));
}

#[test]
fn a_read_only_pool_refuses() {
    ezz(&["create", "a"]).ok();
    sh("zfs unmount -f /srv/jails/a").ok();
    export();
    sh("zpool import -d /dev -d /run/lab -o readonly=on tank").ok();
    let refused = ezz(&["create", "b"]).exits(1);
    assert!(refused.stderr.contains("error: "), "{refused:#?}");
    ezz(&["list"]).ok();
}
