//! Replicas: a site that came to a second pool by `zfs receive`, and its adoption.

use std::path::Path;

use crate::support::*;

const REPLICA: &str = "back/ezz";

/// Creates the pool `back` with a replica of the site.
#[track_caller]
fn replicate() {
    sh(
        "set -e; truncate -s 2G /run/lab/back.img; zpool create -f back /run/lab/back.img
        zfs snapshot -r tank/ezz@sent; zfs send -R tank/ezz@sent | zfs receive -u back/ezz",
    )
    .ok();
}

/// Runs ezz on the replica.
fn there(args: &[&str]) -> Ended {
    ezz(&[&["--site", REPLICA], args].concat())
}

#[track_caller]
fn adopt() {
    there(&["doctor", "--adopt", "--directory", "/srv/replica"]).ok();
}

#[test]
fn a_replica_is_read_and_not_changed() {
    ezz(&["create", "a", "b"]).ok();
    replicate();
    let before = (everything_of("back"), mounts_of("back"), mounts_of("tank"));
    let jails = there(&["list", "--json"]).ok().json();
    assert_eq!(jails.len(), 2);
    assert!(
        jails.iter().all(|jail| jail["state"] == "stopped"),
        "{jails:?}"
    );
    assert_eq!(there(&["show", "--json"]).ok().json()[0]["replica"], true);
    let shown = there(&["show", "a", "--json"]).ok().json();
    assert_eq!(shown[0]["origin"], "back/ezz/newjail/1@1");
    assert_eq!(
        there(&["world", "list", "--json"]).ok().json()[0]["label"],
        "debian-12.15"
    );
    there(&["world", "verify"]).ok();
    there(&["world", "verify", "--quick"]).ok();
    there(&["track", "list"]).ok();
    let told = there(&["doctor"]);
    assert!(
        told.stdout.contains("a replica: ") && told.stdout.contains("hint: `ezz doctor --adopt`"),
        "{told:#?}"
    );
    there(&["doctor", "--repair"]);
    small_world(Path::new("/tmp/small"), "12.1");
    for refused in [
        &["create", "new"][..],
        &["create", "new", "--dry-run"],
        &["delete", "a", "--yes"],
        &["start", "a"],
        &["restart", "a"],
        &["install", "/tmp/small.tar"],
        &["track", "create", "new"],
    ] {
        let told = there(refused).refused(1, "is a replica");
        assert!(
            told.stderr.contains("hint: `ezz doctor --adopt`"),
            "{told:#?}"
        );
    }
    let after = (everything_of("back"), mounts_of("back"), mounts_of("tank"));
    assert_eq!(
        after, before,
        "neither the replica nor what it is a replica of"
    );
    // The original site still counts as the only one of this host.
    assert_eq!(ezz(&["show", "--json"]).ok().json()[0]["site"], SITE);
}

#[test]
fn an_adopted_replica_is_a_site_whose_jails_start() {
    ezz(&["create", "a", "b", "--quota", "1G"]).ok();
    ezz(&["create", "p", "--pin", "1", "--address", "192.0.2.7/24"]).ok();
    ezz(&["create", "big", "--thick"]).ok();
    sh("echo mine >/srv/jails/a/root/file; zpool sync").ok();
    replicate();
    let original = (everything(), mounts_of("tank"));
    let before = everything_of("back");
    // The directory of the original is in use.
    there(&["doctor", "--adopt"]).refused(2, "tank/ezz is mounted at the site directory");
    there(&["doctor", "--adopt", "--directory", "none"]).refused(2, "is not valid");
    let plan = there(&[
        "doctor",
        "--adopt",
        "--directory",
        "/srv/replica",
        "--dry-run",
    ])
    .ok();
    for step in [
        "set mountpoint=/srv/replica on back/ezz",
        "hold back/ezz/basejail/1@1",
        "ezz:jail of back/ezz/jails/a",
    ] {
        assert!(plan.stdout.contains(step), "no {step:?}: {plan:#?}");
    }
    assert_eq!(everything_of("back"), before);

    adopt();
    let received = sh("zfs get -Hro name,property -s received all back | grep ezz:").stdout;
    assert_eq!(received, "", "every property of ezz is local now");
    for snapshot in ["back/ezz/basejail/1@1", "back/ezz/newjail/1@1"] {
        assert!(
            sh(&format!("zfs holds -H {snapshot}"))
                .ok()
                .stdout
                .contains("\tezz\t")
        );
    }
    for name in ["a", "b", "p", "big"] {
        assert_eq!(
            property(&format!("back/ezz/jails/{name}"), "ezz:jail"),
            property(&format!("tank/ezz/jails/{name}"), "ezz:jail"),
        );
    }
    assert_ne!(
        property("back/ezz", "ezz:id"),
        property("tank/ezz", "ezz:id")
    );
    assert_eq!(property("back/ezz", "ezz:epoch"), {
        let epoch: u64 = property("tank/ezz", "ezz:epoch").parse().expect("a number");
        (epoch + 1).to_string()
    });
    let again = there(&["doctor", "--adopt"]).ok();
    assert!(again.stderr.contains("is not a replica"), "{again:#?}");

    there(&["doctor", "--repair"]).ok();
    let second = there(&["doctor", "--repair", "--json"]).ok().json();
    assert_eq!(second[0]["repaired"], 0, "{second:#?}");
    assert!(
        mounted_at("/srv/replica/basejail/1")
            .is_some_and(|line| line.contains("back/ezz/basejail/1"))
    );
    let link = std::fs::read_link("/srv/replica/basejail/tracks/main").expect("a link");
    assert_eq!(link, Path::new("../1"));
    assert_eq!(sh("cat /srv/replica/a/root/file").ok().stdout, "mine\n");
    assert_eq!(
        (everything(), mounts_of("tank")),
        original,
        "the original is as it was"
    );

    // Two sites on one host, with jails of the same names, and both run.
    ezz(&["list"]).refused(1, "several sites");
    ezz(&["--site", SITE, "start", "a"]).ok();
    assert_eq!(
        there(&["list", "a", "--json"]).ok().json()[0]["state"],
        "stopped"
    );
    there(&["start", "a", "big"]).ok();
    there(&["exec", "a", "--", "touch", "/root/there"]).ok();
    assert!(Path::new("/srv/replica/a/root/there").exists());
    assert!(!Path::new("/srv/jails/a/root/there").exists());
    ezz(&["--site", SITE, "stop", "a"]).ok();
    assert_eq!(
        there(&["list", "a", "--json"]).ok().json()[0]["state"],
        "running"
    );
    there(&["create", "new", "--start"]).ok();
    // Its snapshots came with the stream, and are not ezz's.
    there(&["delete", "b", "--yes"]).refused(1, "back/ezz/jails/b@sent");
    there(&["delete", "b", "--yes", "--foreign-snapshots"]).ok();
    assert!(exists("tank/ezz/jails/b") && !exists("back/ezz/jails/b"));
    there(&["stop", "--all"]).ok();
}

#[test]
fn a_jail_cannot_be_entered_through_a_replica() {
    ezz(&["create", "a"]).ok();
    replicate();
    ezz(&["start", "a"]).ok();
    // The replica has the id of the original, which is a part of the names of everything that runs.
    there(&["exec", "a", "--", "true"]).refused(1, "a is not running");
    there(&["stop", "a"]).ok();
    assert_eq!(
        ezz(&["list", "a", "--json"]).ok().json()[0]["state"],
        "running"
    );
    ezz(&["stop", "a"]).ok();
}

#[test]
fn a_damaged_replica_is_not_adopted() {
    ezz(&["create", "a"]).ok();
    replicate();
    for (damage, words, mend) in [
        (
            "zfs inherit ezz:sealed back/ezz/basejail/1@1",
            "it has its snapshot, but no seal on it",
            "zfs inherit -S ezz:sealed back/ezz/basejail/1@1",
        ),
        (
            "zfs inherit ezz:sealed back/ezz/newjail/1@1",
            "back/ezz/newjail/1@1: the other half of its generation is sealed, but this one is not",
            "zfs inherit -S ezz:sealed back/ezz/newjail/1@1",
        ),
        (
            "zfs inherit ezz:world back/ezz/basejail/1",
            "its ezz:world is missing",
            "zfs inherit -S ezz:world back/ezz/basejail/1",
        ),
        (
            "zfs inherit ezz:jail back/ezz/jails/a",
            "it has no ezz:jail",
            "zfs inherit -S ezz:jail back/ezz/jails/a",
        ),
    ] {
        sh(damage).ok();
        let before = everything_of("back");
        there(&["doctor", "--adopt", "--directory", "/srv/replica"]).refused(1, words);
        assert_eq!(everything_of("back"), before, "{damage}");
        sh(mend).ok();
    }
    adopt();
    // A replica that was not sent completely: a base is missing that a track names.
    sh("zfs send -R tank/ezz@sent | zfs receive -u back/part; zfs destroy -r back/part/basejail/1")
        .ok();
    let damaged = ezz(&[
        "--site",
        "back/part",
        "doctor",
        "--adopt",
        "--directory",
        "/srv/part",
    ]);
    damaged.refused(
        1,
        "it names generation 1, which does not exist or is not sealed",
    );
}
