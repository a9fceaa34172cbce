//! What a `create` does where programs cannot clone, and what a killed one leaves.
//!
//! Intents and their clones are made by hand where both kernels must handle them: a pool may move from one to the
//! other.

use crate::support::*;

const INTENT: &str = r#"{"kind":"thin","skel":1,"jails":["x","y","z"]}"#;

fn clone(name: &str) {
    // Mounted as after a reboot: without a mountpoint as argument, by zfs(8).
    sh(&format!(
        "zfs clone tank/ezz/newjail/1@1 tank/ezz/jails/{name}"
    ))
    .ok();
}

/// Creates the site that a create of x, y and z leaves when it is killed before its commit; z was not cloned.
fn interrupted() {
    init();
    install_small();
    sh(&format!("zfs set ezz:intent:2:0='{INTENT}' tank/ezz/jails")).ok();
    clone("x");
    clone("y");
    sh("zfs unmount tank/ezz/jails/y && rmdir /srv/jails/y").ok();
    // A signal can stop the committing program in the middle: some jails have their ezz:jail by then.
    let config = r#"{"kind":"thin","base":{"track":"main"},"skel":1,"hostname":"y"}"#;
    sh(&format!("zfs set ezz:jail='{config}' tank/ezz/jails/y")).ok();
}

fn intents() -> Vec<String> {
    let got = sh("zfs get -Hpo property,value all tank/ezz/jails | grep ^ezz:intent:");
    got.stdout.lines().map(str::to_owned).collect()
}

#[track_caller]
fn cleared() {
    assert_eq!(intents(), [""; 0]);
    for name in ["x", "y", "z"] {
        assert!(!exists(&format!("tank/ezz/jails/{name}")), "{name}");
        let directory = format!("/srv/jails/{name}");
        assert!(mounted_at(&directory).is_none(), "{name}");
        assert!(!std::path::Path::new(&directory).exists(), "{name}");
    }
    let told = ezz(&["doctor", "--json"]).json();
    assert_eq!(
        told[0]["findings"].as_array().map(Vec::len),
        Some(0),
        "{told:#?}"
    );
}

fn state(name: &str) -> String {
    let listed = ezz(&["list", name, "--json"]).ok().json();
    assert_eq!(listed.len(), 1, "only what was asked for: {listed:#?}");
    listed[0]["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn an_interrupted_create_is_shown_and_cleared_by_the_next() {
    interrupted();
    assert_eq!((&*state("x"), &*state("y")), ("unfinished", "unfinished"));
    let shown = ezz(&["show", "x", "--json"]).ok().json();
    assert_eq!(shown[0]["state"], "unfinished");
    ezz(&["show", "z"]).refused(1, "there is no jail z");
    let told = ezz(&["start", "x"]).refused(1, "the creation or deletion of x was interrupted");
    assert!(
        told.stderr.contains("`ezz create x` creates it again"),
        "{told:#?}"
    );
    let told = ezz(&["create", "other"]).ok();
    assert!(
        told.stderr
            .contains("x, y: cleaning up after an interrupted command"),
        "{told:#?}"
    );
    cleared();
    assert_eq!(state("other"), "stopped");
}

#[test]
fn the_same_create_again_ends_as_if_nothing_had_been() {
    interrupted();
    let guid = property("tank/ezz/jails/x", "guid");
    ezz(&["create", "x", "y", "z"]).ok();
    assert_eq!(intents(), [""; 0]);
    assert_ne!(
        property("tank/ezz/jails/x", "guid"),
        guid,
        "it was made again"
    );
    for name in ["x", "y", "z"] {
        assert_eq!(state(name), "stopped");
        assert!(mounted_at(&format!("/srv/jails/{name}")).is_some());
    }
    ezz(&["doctor"]).ok();
}

#[test]
fn delete_clears_what_it_names_and_the_rest() {
    interrupted();
    ezz(&["delete", "z", "--yes"]).refused(1, "there is no jail z");
    ezz(&["delete", "x", "--yes"]).ok();
    cleared();
}

/// The command was stopped between the removal of the first part and that of the other: all are jails.
#[test]
fn without_its_mark_an_intent_names_nothing() {
    init();
    install_small();
    ezz(&["create", "x", "y"]).ok();
    sh(&format!("zfs set ezz:intent:2:1='{INTENT}' tank/ezz/jails")).ok();
    let guid = property("tank/ezz/jails/x", "guid");
    assert_eq!(state("x"), "stopped");
    let told = ezz(&["doctor"]).exits(1);
    assert!(
        told.stdout.contains("ezz:intent:2:1 is left over from"),
        "{told:#?}"
    );
    ezz(&["doctor", "--repair"]).ok();
    assert_eq!(intents(), [""; 0]);
    assert_eq!(property("tank/ezz/jails/x", "guid"), guid);
    assert_eq!((&*state("x"), &*state("y")), ("stopped", "stopped"));
}

#[test]
fn delete_of_another_jail_clears_it_too() {
    init();
    install_small();
    ezz(&["create", "www"]).ok();
    sh(&format!("zfs set ezz:intent:2:0='{INTENT}' tank/ezz/jails")).ok();
    clone("x");
    ezz(&["delete", "www", "--yes"]).ok();
    assert!(!exists("tank/ezz/jails/www"));
    cleared();
}

#[test]
fn doctor_tells_and_clears_but_not_at_boot() {
    interrupted();
    let told = ezz(&["doctor"]).exits(1);
    for name in ["x", "y"] {
        let words = format!("debris  jail {name}: its creation was interrupted");
        assert!(told.stdout.contains(&words), "{told:#?}");
    }
    let before = everything();
    ezz(&["doctor", "--repair", "--derived"]).exits(1);
    ezz(&["doctor", "--repair", "--dry-run"]).ok();
    assert_eq!(everything(), before);
    ezz(&["doctor", "--repair"]).ok();
    cleared();
    let after = everything();
    ezz(&["doctor", "--repair"]).ok();
    assert_eq!(everything(), after, "twice is once");
}

/// A dataset with a name in an intent that is not a clone of the origin belongs to another program.
#[test]
fn only_clones_of_the_origin_are_cleared() {
    init();
    install_small();
    ezz(&["create", "www"]).ok();
    sh("set -e; zfs create tank/ezz/jails/plain
        zfs clone tank/ezz/basejail/1@1 tank/ezz/jails/elsewhere
        zfs clone tank/ezz/newjail/1@1 tank/ezz/jails/used; zfs snapshot tank/ezz/jails/used@mine
        zfs clone tank/ezz/newjail/1@1 tank/ezz/jails/used-too; zfs create tank/ezz/jails/used-too/below
        zfs clone tank/ezz/newjail/1@1 tank/ezz/jails/given; zfs unmount tank/ezz/jails/given; zfs set zoned=on tank/ezz/jails/given
        zfs clone tank/ezz/newjail/1@1 tank/ezz/jails/unnamed
        zfs clone tank/ezz/newjail/1@1 tank/ezz/jails/dead")
    .ok();
    let names = r#""plain","elsewhere","used","used-too","given","dead""#;
    sh(&format!(
        "zfs set ezz:intent:2:0='{{\"kind\":\"thin\",\"skel\":1,\"jails\":[{names}]}}' tank/ezz/jails
         zfs set ezz:intent:2:1='not json' tank/ezz/jails"
    ))
    .ok();
    let stay = [
        "www",
        "plain",
        "elsewhere",
        "used",
        "used-too",
        "given",
        "unnamed",
    ];
    let guids = || stay.map(|name| property(&format!("tank/ezz/jails/{name}"), "guid"));
    let before = guids();
    ezz(&["create", "other"]).ok();
    ezz(&["doctor", "--repair"]).exits(1);
    ezz(&["delete", "other", "--yes"]).ok();
    assert_eq!(guids(), before);
    assert!(!exists("tank/ezz/jails/dead"));
    assert_eq!(intents().len(), 2, "used and used-too are still announced");
    assert_eq!(state("www"), "stopped");
    // By name, and only on request.
    ezz(&["delete", "plain", "--yes"]).refused(1, "not a jail that ezz can use");
    ezz(&["create", "used"]).refused(1, "tank/ezz/jails/used@mine");
    ezz(&["delete", "used", "--yes"]).refused(1, "tank/ezz/jails/used@mine");
    ezz(&["delete", "used", "used-too", "--yes", "--foreign-snapshots"]).ok();
    assert!(!exists("tank/ezz/jails/used") && !exists("tank/ezz/jails/used-too"));
    assert_eq!(intents(), ["ezz:intent:2:1\tnot json"]);
}

#[test]
fn a_dry_run_tells_the_steps_of_this_kernel() {
    init();
    install_small();
    let before = (everything(), mounts_of("tank"));
    let epoch: u64 = property(SITE, "ezz:epoch").parse().expect("a number");
    let plan = ezz(&["create", "a", "b", "--dry-run"]).ok().stdout;
    assert_eq!((everything(), mounts_of("tank")), before);
    let steps: Vec<&str> = plan.lines().collect();
    if sync_clone() {
        assert!(!plan.contains("intent"), "{plan}");
        assert!(
            steps[0].contains("commit on tank/ezz: clone a from"),
            "{plan}"
        );
    } else {
        let intent = format!("commit on tank/ezz: ezz:intent:{epoch}:0 of tank/ezz/jails to");
        assert!(steps[0].contains(&intent), "{plan}");
        let origin = "from tank/ezz/newjail/1@1";
        let clones = format!("clone tank/ezz/jails/a {origin} tank/ezz/jails/b {origin}");
        assert!(steps[1].ends_with(&clones), "{plan}");
        assert!(
            steps[2].contains("commit on tank/ezz: ezz:jail of tank/ezz/jails/a"),
            "{plan}"
        );
        assert!(steps[2].ends_with("of tank/ezz/jails to nothing"), "{plan}");
    }
    ezz(&["create", "a", "b"]).ok();
    assert_eq!(intents(), [""; 0]);
    let after: u64 = property(SITE, "ezz:epoch").parse().expect("a number");
    assert_eq!(after, epoch + commits_of_create());
    let told = ezz(&["doctor"]).ok();
    let says = told
        .stdout
        .contains("no clones in programs: `create` announces");
    assert_eq!(says, !sync_clone(), "{told:#?}");
}

/// ezz is killed when some of the clones exist: the kernel finishes those that it has begun.
#[test]
fn a_kill_among_the_clones_leaves_no_jail() {
    init();
    install_small();
    sh(&format!(
        "{EZZ} create 'j{{001..200}}' & pid=$!
         for i in $(seq 500); do [ -e /proc/$pid ] || break; zfs list -H tank/ezz/jails/j020 >/dev/null 2>&1 && break; done
         kill -9 $pid; wait $pid; zpool sync tank; true"
    ))
    .ok();
    let jails = sh("zfs get -Hro name -s local ezz:jail tank/ezz/jails")
        .ok()
        .stdout;
    let jails = jails.lines().count();
    let clones = sh("zfs list -Hro name tank/ezz/jails | grep -c jails/j").stdout;
    let clones: usize = clones.trim().parse().expect("a number");
    if sync_clone() || intents().is_empty() {
        assert_eq!((jails, clones), (200, 200), "it was committed");
    } else {
        assert_eq!(jails, 0, "none is a jail before the commit");
        assert!(clones > 0, "the kill came too early");
    }
    ezz(&["create", "other"]).ok();
    assert_eq!(intents(), [""; 0]);
    let left = sh("zfs list -Hro name tank/ezz/jails | grep -c jails/j").stdout;
    assert_eq!(left.trim(), jails.to_string());
}

/// Another dataset takes the name of a jail that is being created: it stays, and no jail is created.
#[test]
fn a_name_that_is_taken_meanwhile_makes_no_jail() {
    init();
    install_small();
    // This zfs(8) creates a dataset after the plan was observed and before the clones are made.
    let late = "tank/ezz/jails/b";
    sh(&format!(
        "zfs=$(command -v zfs); mv $zfs $zfs.real
         printf '#!/bin/sh\\n%s.real \"$@\"; e=$?\\ncase \"$*\" in *{late}*) %s.real create -u {late} 2>/dev/null;; esac\\nexit $e\\n' $zfs $zfs >$zfs
         chmod 755 $zfs"
    ))
    .ok();
    ezz(&["create", "a", "b", "c"]).exits(1);
    assert!(exists(late));
    assert_eq!(property(late, "origin"), "-");
    for name in ["a", "c"] {
        assert!(!exists(&format!("tank/ezz/jails/{name}")), "{name}");
    }
    assert_eq!(intents(), [""; 0]);
}

/// The pool fills up between the plan, which calculates the space, and the clones.
#[test]
fn a_pool_that_fills_up_meanwhile_gets_no_jail() {
    sh("set -e; truncate -s 128M /run/lab/tiny.img; zpool create -f tiny /run/lab/tiny.img").ok();
    ezz(&["init", "tiny/ezz", "--directory", "/srv/tiny"]).ok();
    let tiny = |args: &[&str]| ezz(&[&["--site", "tiny/ezz"], args].concat());
    small_world(std::path::Path::new("/tmp/small"), "12.1");
    tiny(&["install", "/tmp/small.tar"]).ok();
    let before = everything_of("tiny");
    // More than a program looks at: `zfs` reads them, and the pool is full afterwards.
    let full = |wrapped: &str| {
        format!(
            "zfs=$(command -v zfs); mv $zfs $zfs.real
             printf '#!/bin/sh\\n%s.real \"$@\"; e=$?\\ncase \"$*\" in {wrapped}) sh /tmp/fill;; esac\\nexit $e\\n' $zfs >$zfs
             chmod 755 $zfs"
        )
    };
    std::fs::write(
        "/tmp/fill",
        "[ -e /srv/tiny/fill ] && exit 0
         dd if=/dev/urandom of=/srv/tiny/fill bs=64k 2>/dev/null; zpool sync tiny
         dd if=/dev/urandom of=/srv/tiny/more bs=4k 2>/dev/null; zpool sync tiny",
    )
    .expect("writable");
    sh(&full("*tiny/ezz/jails/a01*")).ok();
    let told = tiny(&["create", "a{01..70}"]).exits(1);
    assert!(!told.stderr.contains("could not"), "{told:#?}");
    let kept = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains("ezz:epoch"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(kept(&everything_of("tiny")), kept(&before));
    sh("rm /srv/tiny/more; zpool sync tiny; dd if=/dev/zero of=/srv/tiny/fill count=0; zpool sync tiny").ok();
    tiny(&["create", "a{01..70}"]).ok();
    tiny(&["doctor"]).ok();
}
