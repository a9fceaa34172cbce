//! `ezz doctor` after changes by others: properties, mounts, directories, halves of generations. All of it is reported
//! with its kind; only what an interrupted command leaves is repaired.

use std::path::Path;

use serde_json::Value;

use crate::support::*;

/// Returns the kind and the object of all findings of doctor.
#[track_caller]
fn kinds(code: i32) -> Vec<(String, String)> {
    let told = ezz(&["doctor", "--json"]).exits(code).json();
    let text = |found: &Value, field: &str| found[field].as_str().expect("text").to_owned();
    let list = told[0]["findings"].as_array().expect("a list");
    list.iter()
        .map(|found| (text(found, "kind"), text(found, "object")))
        .collect()
}

#[track_caller]
fn has(found: &[(String, String)], kind: &str, object: &str) {
    assert!(
        found.iter().any(|(k, o)| k == kind && o == object),
        "no {kind} of {object}: {found:#?}"
    );
}

#[test]
fn what_endangers_the_host_is_told_and_no_property_or_mount_is_touched() {
    repaired_at_boot();
    ezz(&["create", "a", "b"]).ok();
    sh("set -e
        zfs set devices=on exec=off tank/ezz/jails/a
        zfs set readonly=off tank/ezz/basejail/1
        zfs set sync=disabled tank/ezz/newjail/1
        mount -t tmpfs none /srv/jails/b
        zfs snapshot tank/ezz/jails/a@theirs
        zfs hold backup tank/ezz/jails/a@theirs
        zfs bookmark tank/ezz/jails/a@theirs tank/ezz/jails/a#mark
        zfs create -u tank/ezz/other
        zfs create -u tank/ezz/jails/a/inner")
    .ok();
    let found = kinds(1);
    for (kind, object) in [
        ("property-dangerous", "tank/ezz/jails/a"),
        ("property-changed", "tank/ezz/jails/a"),
        ("property-dangerous", "tank/ezz/basejail/1"),
        ("mounted-writable", "tank/ezz/basejail/1"),
        ("property-changed", "tank/ezz/newjail/1"),
        ("mounted-over", "tank/ezz/jails/b"),
        ("snapshot-foreign", "jail a"),
        ("dataset-foreign", "tank/ezz/other"),
        ("dataset-foreign", "tank/ezz/jails/a/inner"),
    ] {
        has(&found, kind, object);
    }
    // `zfs set` has mounted again without the flags that no property has: they are restored, and nothing else changes.
    ezz(&["doctor", "--repair"]).exits(1);
    let before = (everything(), mounts_of("tank"));
    let told = ezz(&["doctor", "--repair"]).exits(1);
    for words in [
        "devices is on, not off",
        "none is mounted over it, at /srv/jails/b",
        "2 snapshots and bookmarks that ezz did not create, 1 of them held: #mark, @theirs",
        "hint: `umount /srv/jails/b`",
        "hint: `zfs inherit readonly tank/ezz/basejail/1`",
    ] {
        assert!(told.stdout.contains(words), "no {words:?}: {told:#?}");
    }
    assert_eq!((everything(), mounts_of("tank")), before);
    // The hints do repair it.
    sh("set -e
        umount /srv/jails/b
        zfs inherit devices tank/ezz/jails/a
        zfs inherit exec tank/ezz/jails/a
        zfs inherit readonly tank/ezz/basejail/1
        zfs inherit sync tank/ezz/newjail/1")
    .ok();
    // zfs(8) has mounted once more.
    ezz(&["doctor", "--repair"]).ok();
    let left = kinds(0);
    assert!(
        left.iter().all(|(kind, _)| kind.ends_with("-foreign")),
        "{left:#?}"
    );
}

#[test]
fn what_interrupted_commands_leave_on_the_host_goes() {
    repaired_at_boot();
    let id = property(SITE, "ezz:id");
    let group = format!("/sys/fs/cgroup/ezz/{}/_ghost", &id[..8]);
    sh(&format!(
        "set -e; cd /srv/jails
         mkdir gone full basejail/9 newjail/9; touch full/file note
         ln -s ../1 basejail/tracks/old
         mkdir -p /run/ezz/verify-999999-1; mount -t zfs -o ro,zfsutil tank/ezz/basejail/1 /run/ezz/verify-999999-1
         mkdir -p /run/ezz/ids {group}; ln -s {id}/slot /run/ezz/ids/5; ln -s other/slot /run/ezz/ids/6"
    ))
    .ok();
    let found = kinds(1);
    for (kind, object) in [
        ("directory-left", "/srv/jails/gone"),
        ("directory-left", "/srv/jails/basejail/9"),
        ("directory-left", "/srv/jails/newjail/9"),
        ("directory-foreign", "/srv/jails/full"),
        ("directory-foreign", "/srv/jails/note"),
        ("link-left", "track old"),
        ("host-left", "jail slot"),
        ("host-left", "jail ghost"),
        ("host-left", "/run/ezz/verify-999999-1"),
    ] {
        has(&found, kind, object);
    }
    assert_eq!(found.len(), 9, "{found:#?}");
    let told = ezz(&["doctor", "--repair", "--json"]).ok().json();
    let mended = told[0]["mended"].as_array().expect("a list");
    assert_eq!(mended.len(), 7, "{told:#?}");
    assert!(mended.iter().all(|found| found["cause"].is_string()));
    for gone in [
        "/srv/jails/gone",
        "/srv/jails/basejail/9",
        "/srv/jails/newjail/9",
        "/srv/jails/basejail/tracks/old",
        "/run/ezz/ids/5",
        "/run/ezz/verify-999999-1",
        &group,
    ] {
        let path = Path::new(gone);
        assert!(path.symlink_metadata().is_err(), "{gone} is still there");
    }
    // A directory that is not empty, a file, and an id that belongs to a jail of another site.
    for stays in ["/srv/jails/full/file", "/srv/jails/note", "/run/ezz/ids/6"] {
        let path = Path::new(stays);
        assert!(path.symlink_metadata().is_ok(), "{stays} is gone");
    }
    assert_eq!(kinds(0).len(), 2);
}

#[test]
fn half_of_a_generation_is_broken_and_keeps_no_install_away() {
    ezz(&["create", "a"]).ok();
    sh("set -e
        umount /srv/jails/basejail/1
        zfs release ezz tank/ezz/basejail/1@1
        zfs destroy -r tank/ezz/basejail/1")
    .ok();
    let found = kinds(1);
    has(&found, "half", "generation 1");
    // The jail has its skeleton; it cannot start because of the track.
    has(&found, "track-broken", "track main");
    let before = everything();
    ezz(&["doctor", "--repair"]).exits(1);
    assert_eq!(everything(), before);
    install_small();
    assert!(exists("tank/ezz/basejail/2@2") && exists("tank/ezz/newjail/1@1"));
}

#[test]
fn seals_and_numbers_that_were_changed_by_hand_are_told() {
    sh("set -e
        zfs inherit ezz:sealed tank/ezz/newjail/1@1
        zfs set ezz:seq=0 tank/ezz
        zfs snapshot tank/ezz/newjail/1@theirs")
    .ok();
    let found = kinds(1);
    has(&found, "seal-missing", "tank/ezz/newjail/1@1");
    has(&found, "seq-behind", "tank/ezz");
    has(&found, "snapshot-foreign", "tank/ezz/newjail/1@theirs");
    let before = everything();
    let told = ezz(&["doctor", "--repair"]).exits(1);
    assert!(
        told.stdout.contains("hint: `zfs set ezz:seq=1 tank/ezz`"),
        "{told:#?}"
    );
    assert_eq!(everything(), before);
}

#[test]
fn a_jail_that_runs_on_the_generation_before_is_behind() {
    repaired_at_boot();
    ezz(&["create", "a", "--start"]).ok();
    install_small();
    sh(
        r#"zfs set ezz:track:main='{"current":2,"previous":1}' tank/ezz/basejail
          ln -sfn ../2 /srv/jails/basejail/tracks/main"#,
    )
    .ok();
    let found = kinds(0);
    assert_eq!(found, [("behind".to_owned(), "jail a".to_owned())]);
    sh(
        r#"zfs set ezz:track:main='{"current":1,"previous":2}' tank/ezz/basejail
          ln -sfn ../1 /srv/jails/basejail/tracks/main"#,
    )
    .ok();
    assert_eq!(kinds(0), []);
}

/// At the next boot no unit would start the jails: the lab has no systemd.
#[test]
fn doctor_says_what_a_boot_would_do() {
    let told = ezz(&["doctor"]).ok();
    for words in ["start at boot: no jail", "import at boot: "] {
        assert!(told.stdout.contains(words), "{told:#?}");
    }
    sh("set -e; mkdir -p /etc/systemd/system/multi-user.target.wants
        cp templates/systemd/ezz.service /etc/systemd/system/ 2>/dev/null || : >/etc/systemd/system/ezz.service
        ln -s ../ezz.service /etc/systemd/system/multi-user.target.wants/ezz.service")
    .ok();
    let told = ezz(&["doctor"]).ok();
    assert!(
        told.stdout
            .contains("start at boot: every jail, by ezz.service"),
        "{told:#?}"
    );
    // The kernel writes the cache file where the property says, some time later; a copy of it is one too.
    sh("zpool set cachefile=/run/lab/cache tank").ok();
    wait_for("the cache file", 30, || {
        std::fs::metadata("/run/lab/cache").is_ok_and(|file| file.len() > 0)
    });
    sh("set -e; mkdir -p /etc/zfs; cp /run/lab/cache /etc/zfs/copy
        zpool set cachefile=/etc/zfs/zpool.cache tank; mv /etc/zfs/copy /etc/zfs/zpool.cache")
    .ok();
    let told = ezz(&["doctor"]).ok();
    assert!(
        told.stdout
            .contains("import at boot: tank is in /etc/zfs/zpool.cache"),
        "{told:#?}"
    );
}
