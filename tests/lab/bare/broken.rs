//! Datasets and snapshots that another program has destroyed: the damage is reported, the rest continues to work, and
//! nothing more is lost.

use crate::support::*;

fn findings() -> String {
    let told = ezz(&["doctor", "--json"]).json();
    let list = told[0]["findings"].as_array().expect("a list").clone();
    list.iter()
        .map(|finding| {
            format!(
                "{} {}: {}\n",
                finding["severity"].as_str().unwrap_or_default(),
                finding["object"].as_str().unwrap_or_default(),
                finding["what"].as_str().unwrap_or_default()
            )
        })
        .collect()
}

#[track_caller]
fn told(finding: &str) {
    let found = findings();
    assert!(found.contains(finding), "no {finding:?} in {found}");
}

#[test]
fn a_jail_without_its_dataset_is_forgotten() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a", "b", "c", "--start"]).ok();
    ezz(&["stop", "b"]).ok();
    sh("umount /srv/jails/b && zfs destroy tank/ezz/jails/b").ok();
    told("jail b: the host keeps files of a jail that does not exist");
    let before = everything();
    for verb in ["start", "stop", "show", "restart"] {
        ezz(&[verb, "b"]).refused(1, "there is no jail b");
    }
    ezz(&["delete", "a", "b", "--yes"]).refused(1, "there is no jail b");
    assert_eq!(everything(), before, "a goes with b or not at all");
    ezz(&["doctor", "--repair"]).ok();
    assert_eq!(everything(), before);
    ezz(&["create", "b", "--start"]).ok();
    for jail in ["a", "b", "c"] {
        assert_eq!(ezz(&["exec", jail, "--", "id", "-u"]).ok().stdout, "0\n");
    }
    assert_eq!(findings(), "");
}

/// Jails run on the base of a generation that lost its snapshot: it is no debris.
#[test]
fn a_generation_that_lost_its_snapshot_is_not_cleared_away() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a", "b", "--start"]).ok();
    ezz(&["stop", "b"]).ok();
    ezz(&["install", "/tmp/runnable.tar"]).ok();
    ezz(&["create", "other", "--pin", "2", "--start"]).ok();
    sh("zfs release ezz tank/ezz/basejail/1@1 && zfs destroy tank/ezz/basejail/1@1").ok();
    told("broken generation debian-12.1.1: it was sealed, but its snapshot is missing");
    told("broken track main: it names generation 1");
    told("broken jail a: the generation 1 that it was merged to does not exist");
    let listed = ezz(&["world", "list", "--json"]).ok().json();
    assert_eq!(listed.len(), 2);
    let before = everything();
    for refused in [
        &["start", "b"][..],
        &["create", "new"],
        &["world", "verify", "1"],
    ] {
        ezz(refused).refused(1, "1");
        assert_eq!(everything(), before, "{refused:?}");
    }
    assert_eq!(ezz(&["doctor", "--repair"]).code, 1);
    assert_eq!(everything(), before, "doctor took something away");
    // Everything else works, and a new generation can be created.
    assert_eq!(ezz(&["exec", "other", "--", "id", "-u"]).ok().stdout, "0\n");
    ezz(&["restart", "other"]).ok();
    ezz(&["install", "/tmp/runnable.tar"]).ok();
    assert!(exists("tank/ezz/basejail/1") && exists("tank/ezz/newjail/1@1"));
    ezz(&["create", "new", "--pin", "3", "--start"]).ok();
    ezz(&["stop", "a"]).ok();
    ezz(&["delete", "a", "b", "--yes"]).ok();
    // Without one of its clones, still nothing of it is destroyed.
    assert_eq!(ezz(&["doctor", "--repair"]).code, 1);
    assert!(exists("tank/ezz/basejail/1") && exists("tank/ezz/newjail/1@1"));
}

#[test]
fn halves_of_generations_that_are_gone_are_told() {
    init();
    install_runnable(SITE);
    for _ in 0..2 {
        ezz(&["install", "/tmp/runnable.tar"]).ok();
    }
    ezz(&["create", "a", "--start"]).ok();
    sh("set -e; umount /srv/jails/basejail/2; for h in basejail newjail; do zfs release ezz tank/ezz/$h/2@2; zfs release ezz tank/ezz/$h/3@3; done
        zfs destroy -r tank/ezz/basejail/2; zfs destroy -r tank/ezz/newjail/3").ok();
    told("generation 2: its base does not exist, and no jail needs its skeleton");
    told("broken generation debian-12.1.3: its skeleton is missing");
    let before = everything();
    assert_eq!(ezz(&["doctor", "--repair"]).code, 1);
    // The holds of the remaining halves are restored, and nothing else changes.
    let after = everything();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let new: Vec<String> = lines(&after)
        .into_iter()
        .filter(|line| !lines(&before).contains(line) && !line.contains("ezz:epoch"))
        .collect();
    let held = ["tank/ezz/basejail/3@3\tezz", "tank/ezz/newjail/2@2\tezz"];
    assert_eq!(new, held);
    for pin in ["2", "3"] {
        let refused = ezz(&["create", "b", "--pin", pin]);
        assert_eq!(refused.code, 1, "{refused:#?}");
        assert!(!exists("tank/ezz/jails/b"));
    }
    ezz(&["restart", "a"]).ok();
    ezz(&["create", "b", "--start"]).ok();
}

#[test]
fn a_site_without_one_of_its_parts_says_which() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a"]).ok();
    ezz(&["delete", "a", "--yes"]).ok();
    for (part, verb) in [
        ("newjail", &["create", "b"][..]),
        ("jails", &["create", "b"]),
    ] {
        sh(&format!(
            "zfs list -Hro name -t snapshot tank/ezz/{part} | while read s; do zfs release ezz $s; done; zfs destroy -r tank/ezz/{part}"
        ))
        .ok();
        let refused = ezz(verb);
        assert_eq!(refused.code, 1, "{refused:#?}");
        assert!(refused.stderr.contains(part), "{refused:#?}");
        assert!(!refused.stderr.contains("panicked"));
        ezz(&["list"]).ok();
        let doctor = ezz(&["doctor"]);
        assert!(!doctor.stderr.contains("panicked"), "{doctor:#?}");
        let repair = ezz(&["doctor", "--repair"]);
        assert!(!repair.stderr.contains("panicked"), "{repair:#?}");
        assert!(exists("tank/ezz/basejail/1@1"), "the rest stays");
    }
}

/// Between observation and commit: the `zfs` that ezz reads with does the damage right after the reading.
#[test]
fn what_vanishes_between_observation_and_commit_is_missed_by_the_program() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a", "b", "--start"]).ok();
    sh("set -e; zfs=$(readlink -f $(command -v zfs)); cp $zfs /tmp/zfs-real
        printf '#!/bin/sh\n/tmp/zfs-real \"$@\"; code=$?; [ \"$1\" = get ] && [ -e /tmp/damage ] && case \"$*\" in *ezz/jails/*) PATH=/tmp:$PATH; mv /tmp/damage /tmp/done; sh /tmp/done >/tmp/done.log 2>&1;; esac; exit $code\n' >/tmp/zfs-wrapper
        chmod 755 /tmp/zfs-wrapper; mount --bind /tmp/zfs-wrapper $zfs").ok();
    let damage = |script: &str| {
        sh(&format!(
            "cat >/tmp/damage <<'E'\n{}\nE",
            script.replace("zfs ", "/tmp/zfs-real ")
        ))
        .ok();
    };
    let happened = || {
        assert!(
            !std::path::Path::new("/tmp/damage").exists(),
            "no damage was done"
        );
        sh("rm -f /tmp/done").ok();
    };
    // The jail that is to be deleted was destroyed already.
    ezz(&["create", "c"]).ok();
    damage("umount /srv/jails/c; zfs destroy tank/ezz/jails/c");
    ezz(&["delete", "c", "b", "--yes"]).refused(1, "tank/ezz/jails/c");
    happened();
    assert!(exists("tank/ezz/jails/b"));
    ezz(&["doctor", "--repair"]).ok();
    // Another dataset has got its name.
    ezz(&["create", "c"]).ok();
    damage(
        "umount /srv/jails/c; zfs destroy tank/ezz/jails/c; zfs create -o canmount=noauto tank/ezz/jails/c; zfs snapshot tank/ezz/jails/c@keep",
    );
    let refused = ezz(&["delete", "c", "--yes"]);
    assert_eq!(refused.code, 1, "{refused:#?}");
    happened();
    assert!(
        exists("tank/ezz/jails/c@keep"),
        "somebody else's was destroyed"
    );
    sh("zfs destroy -r tank/ezz/jails/c").ok();
    // A snapshot was taken meanwhile.
    damage("zfs snapshot tank/ezz/jails/b@meanwhile");
    ezz(&["delete", "b", "--yes"]).refused(1, "tank/ezz/jails/b@meanwhile");
    happened();
    assert!(mounted_at("/srv/jails/b").is_some(), "it is mounted again");
    sh("zfs destroy tank/ezz/jails/b@meanwhile").ok();
    // The name was taken meanwhile.
    damage("zfs create -o canmount=noauto tank/ezz/jails/d");
    let refused = ezz(&["create", "d", "e"]);
    assert_eq!(refused.code, 1, "{refused:#?}");
    happened();
    assert!(!exists("tank/ezz/jails/e") && exists("tank/ezz/jails/d"));
    sh("zfs destroy tank/ezz/jails/d").ok();
    // A jail that is to be started was destroyed.
    ezz(&["create", "c"]).ok();
    damage("umount /srv/jails/c; zfs destroy tank/ezz/jails/c");
    let refused = ezz(&["start", "c", "b"]);
    assert_ne!(refused.code, 0, "{refused:#?}");
    assert!(
        refused.stderr.contains('c') && !refused.stderr.contains("panicked"),
        "{refused:#?}"
    );
    happened();
    ezz(&["start", "b"]).ok();
    ezz(&["doctor", "--repair"]).ok();
    assert_eq!(findings(), "");
}
