//! Hosts and pools with faults, and commands that are killed or run beside others.

use std::path::Path;

use crate::support::*;

const LIBRARIES: &str = "/usr/lib/*/libzfs_core.so* /lib/*/libzfs_core.so*";

#[test]
fn without_openzfs_every_verb_says_so() {
    init();
    sh(&format!(
        "mkdir /tmp/away; for f in {LIBRARIES}; do [ -e $f ] && mv $f /tmp/away; done; true"
    ))
    .ok();
    // The programs are removed, too: nothing of OpenZFS is left.
    sh("for d in /usr/local/sbin /usr/sbin /sbin; do rm -f $d/zfs $d/zpool; done").ok();
    for verb in [
        &["list"][..],
        &["doctor"],
        &["init", "tank/x"],
        &["--site", SITE, "create", "a"],
    ] {
        let told = ezz(verb).refused(1, "OpenZFS is not installed");
        assert!(told.stderr.contains("hint: install OpenZFS"), "{told:#?}");
    }
    // Commands that do not need OpenZFS work.
    ezz(&["--help"]).ok();
    ezz(&["completions", "fish"]).ok();
}

#[test]
fn without_the_kernel_module_it_says_so() {
    init();
    install_small();
    let hidden = sh(&format!(
        "unshare -m sh -c 'mount -t tmpfs none /dev; mknod /dev/null c 1 3; {EZZ} create a'"
    ));
    let told = hidden.refused(
        1,
        "cannot open /dev/zfs: the OpenZFS kernel module is not loaded",
    );
    assert!(told.stderr.contains("hint: load the module"), "{told:#?}");
    assert!(!exists("tank/ezz/jails/a"));
    let denied = sh(&format!(
        "unshare -m sh -c 'mount -t tmpfs none /dev; mknod /dev/null c 1 3; mknod /dev/zfs c 99 99; {EZZ} list'"
    ));
    denied.refused(1, "cannot open /dev/zfs");
}

#[test]
fn a_pool_that_is_exported_is_missed() {
    init();
    install_small();
    ezz(&["create", "a"]).ok();
    export();
    ezz(&["list"]).refused(1, "no pool of this host has a site");
    let told = ezz(&["--site", SITE, "start", "a"]).refused(1, "there is no dataset tank/ezz");
    assert!(told.stderr.contains("is its pool imported?"), "{told:#?}");
    sh("zpool import -d /run/lab tank").ok();
    ezz(&["doctor", "--repair"]).ok();
    assert!(mounted_at("/srv/jails/a").is_some());
    assert!(mounted_at("/srv/jails/basejail/1").is_some());
}

/// A pool on a sparse file in a file system that is full: its writes fail, and it suspends.
#[test]
fn a_suspended_pool_is_named() {
    sh("set -e; mkdir /run/lab/small-disk; mount -t tmpfs -o size=96M none /run/lab/small-disk
        truncate -s 1G /run/lab/small-disk/img; zpool create -f -o failmode=continue sick /run/lab/small-disk/img")
    .ok();
    ezz(&["init", "sick/ezz", "--directory", "/srv/sick"]).ok();
    install_runnable("sick/ezz");
    ezz(&["--site", "sick/ezz", "create", "runs", "--start"]).ok();
    ezz(&["--site", "sick/ezz", "create", "stopped"]).ok();
    // The writer hangs, and must not keep the pipes of this test open.
    sh("(head -c 200M /dev/urandom | dd of=/srv/sick/fill bs=1M) >/dev/null 2>&1 &").ok();
    wait_for("the pool to suspend", 60, || {
        sh("zpool status sick").stdout.contains("SUSPENDED")
    });
    let sick = |args: &[&str]| ezz(&[&["--site", "sick/ezz"], args].concat());
    for told in [
        sick(&["list"]),
        sick(&["create", "a"]),
        sick(&["doctor"]),
        sick(&["doctor", "--repair"]),
        sick(&["start", "stopped"]),
        sick(&["stop", "runs"]),
        sick(&["restart", "runs"]),
        sick(&["exec", "runs", "--", "id"]),
        sick(&["delete", "stopped", "--yes"]),
        sick(&["install", "/tmp/runnable.tar"]),
        sick(&["track", "create", "new"]),
        ezz(&["init", "sick/more", "--directory", "/srv/more"]),
    ] {
        let told = told.refused(1, "suspended");
        assert!(told.stderr.contains("zpool clear"), "{told:#?}");
    }
    // A healthy site beside it works.
    init();
    ezz(&["list"]).ok();
    // The way out that the hint names; a guest with a suspended pool cannot power off.
    sh("mount -o remount,size=2G /run/lab/small-disk && zpool clear sick").ok();
    wait_for("the pool to go on", 60, || {
        sh("zpool status sick").stdout.contains("state: ONLINE")
    });
    sick(&["list"]).ok();
    sick(&["stop", "runs"]).ok();
    sick(&["start", "runs", "stopped"]).ok();
    // The pool keeps the errors of the suspension until two scrubs have found none.
    let told = sick(&["doctor"]).exits(1);
    assert!(told.stdout.contains("data errors"), "{told:#?}");
    sh("rm -f /srv/sick/fill; zpool scrub -w sick && zpool scrub -w sick").ok();
    sick(&["doctor", "--repair"]).ok();
    sick(&["delete", "runs", "stopped", "--yes"]).ok();
}

#[test]
fn a_full_pool_makes_no_jail() {
    sh("set -e; truncate -s 128M /run/lab/tiny.img; zpool create -f tiny /run/lab/tiny.img").ok();
    ezz(&["init", "tiny/ezz", "--directory", "/srv/tiny"]).ok();
    let tiny = |args: &[&str]| ezz(&[&["--site", "tiny/ezz"], args].concat());
    small_world(Path::new("/tmp/small"), "12.1");
    tiny(&["install", "/tmp/small.tar"]).ok();
    sh("dd if=/dev/urandom of=/srv/tiny/fill bs=64k 2>/dev/null; zpool sync tiny; dd if=/dev/urandom of=/srv/tiny/more bs=4k 2>/dev/null; zpool sync tiny").exits(0);
    let before = everything_of("tiny");
    let told = tiny(&["create", "a{01..40}"]).refused(1, "space");
    assert!(!told.stderr.contains("could not undo"), "{told:#?}");
    assert_eq!(everything_of("tiny"), before);
    tiny(&["install", "/tmp/small.tar"]).exits(1);
    assert!(!exists("tiny/ezz/basejail/2"));
    tiny(&["list"]).ok();
    sh("rm /srv/tiny/fill /srv/tiny/more; zpool sync tiny").ok();
    tiny(&["create", "a{01..40}"]).ok();
    tiny(&["doctor"]).ok();
}

/// Returns the number of jails with this prefix, once the kernel has finished the work of killed processes. Clones
/// without an `ezz:jail` of their own do not count; and while the first part of a batch's intent exists, none of the
/// batch counts, because a signal stops a program in the middle.
fn settled(prefix: &str) -> usize {
    sh("zpool sync tank").ok();
    let own = sh("zfs get -Ho property -s local all tank/ezz/jails").ok();
    let mark = |line: &str| line.starts_with("ezz:intent:") && line.ends_with(":0");
    if own.stdout.lines().any(mark) {
        return 0;
    }
    let list = sh("zfs get -Hro name -s local ezz:jail tank/ezz/jails").ok();
    let prefix = format!("tank/ezz/jails/{prefix}");
    list.stdout
        .lines()
        .filter(|line| line.starts_with(&prefix))
        .count()
}

#[test]
fn two_hundred_jails_are_all_there_or_none_whenever_it_is_killed() {
    init();
    install_small();
    let mut seen = (0, 0);
    // Moments before, during and after the command; without a program that clones it takes several times as long.
    let mut moments = if sync_clone() {
        vec![0.3, 0.8, 1.3, 1.9]
    } else {
        vec![0.5, 1.5, 3.0, 6.0]
    };
    // On a busy machine even the last of these may be too early.
    moments.extend([8.0, 16.0, 32.0]);
    for moment in moments {
        if moment >= 8.0 && seen.1 > 0 {
            break;
        }
        sh(&format!(
            "{EZZ} create 'j{{001..200}}' & pid=$!; sleep {moment}; kill -9 $pid; wait $pid; true"
        ));
        match settled("j") {
            0 => seen.0 += 1,
            200 => seen.1 += 1,
            some => panic!("{some} of 200 after {moment} s"),
        }
        let listed = ezz(&["list", "--json"]).ok().json();
        let ready = listed.iter().filter(|jail| jail["state"] != "unfinished");
        assert!([0, 200].contains(&ready.count()), "after {moment} s");
        ezz(&["doctor", "--repair", "-q"]).ok();
        assert_eq!(findings(), [""; 0], "after {moment} s");
        let there = sh("zfs list -Hro name tank/ezz/jails | grep -c jails/j").stdout;
        assert_eq!(
            there.trim(),
            settled("j").to_string(),
            "no orphans after {moment} s"
        );
        if settled("j") == 200 {
            let mounted = mounts_of("tank")
                .iter()
                .filter(|line| line.contains("/jails/j"))
                .count();
            assert_eq!(mounted, 200, "after {moment} s");
            ezz(&["delete", "j{001..200}", "--yes", "-q"]).ok();
        }
    }
    assert!(seen.1 > 0, "it was always too early: {seen:?}");
    // The same command again ends as if it had not been interrupted.
    ezz(&["create", "j{001..200}", "-q"]).ok();
    assert_eq!(settled("j"), 200);
}

#[track_caller]
fn findings() -> Vec<String> {
    let told = ezz(&["doctor", "--json"]).json();
    let list = told[0]["findings"].as_array().expect("a list").clone();
    list.iter().map(ToString::to_string).collect()
}

/// With a quota there is work between the first program and the second, which removes `todo`.
#[test]
fn a_kill_between_clone_and_ready_leaves_what_the_next_command_mends() {
    init();
    install_small();
    let create = "create 'q{01..20}' --quota 1G";
    sh(&format!(
        "{EZZ} {create} & pid=$!
         for i in $(seq 200); do [ \"$(zfs get -Hpo value quota tank/ezz/jails/q05 2>/dev/null)\" = 1073741824 ] && break; sleep 0.05; done
         kill -9 $pid; wait $pid; true"
    ))
    .ok();
    assert_eq!(settled("q"), 20, "all were cloned");
    for name in ["q01", "q20"] {
        let todo = json_property(&format!("tank/ezz/jails/{name}"), "ezz:jail")["todo"].clone();
        assert!(todo.is_array(), "{name} is not ready");
    }
    let listed = ezz(&["list", "--json"]).ok().json();
    assert!(
        listed.iter().all(|jail| jail["state"] == "unfinished"),
        "{listed:?}"
    );
    // First doctor finishes them, then the same command again.
    ezz(&["doctor", "--repair", "-q"]).ok();
    assert_eq!(findings(), [""; 0]);
    assert_eq!(property("tank/ezz/jails/q20", "quota"), "1073741824");
    let guid = property("tank/ezz/jails/q01", "guid");
    sh(r#"for n in 01 02; do zfs set ezz:jail="$(zfs get -Hpo value ezz:jail tank/ezz/jails/q$n | sed 's/}$/,"todo":[{"quota":1073741824}]}/')" tank/ezz/jails/q$n; done"#).ok();
    ezz(&["create", "q{01..02}", "--quota", "1G"]).ok();
    assert_ne!(
        property("tank/ezz/jails/q01", "guid"),
        guid,
        "it was made again"
    );
    assert_eq!(findings(), [""; 0]);
}

#[test]
fn of_two_that_create_the_same_jail_one_wins() {
    init();
    install_small();
    for round in 0..3 {
        let ended = sh(&format!(
            "{EZZ} -q create w{round} 2>/tmp/a & a=$!; {EZZ} -q create w{round} 2>/tmp/b & b=$!
             wait $a; x=$?; wait $b; y=$?; cat /tmp/a /tmp/b >&2; echo $x $y"
        ))
        .ok();
        let codes = ended.stdout.lines().last();
        assert!(
            codes.is_some_and(|codes| ["0 1", "1 0"].contains(&codes)),
            "{ended:#?}"
        );
        assert!(ended.stderr.contains("already exists"), "{ended:#?}");
        assert!(mounted_at(&format!("/srv/jails/w{round}")).is_some());
    }
    assert_eq!(findings(), [""; 0]);
}

#[test]
fn eight_that_create_different_jails_all_succeed() {
    init();
    install_small();
    let epoch = || {
        property(SITE, "ezz:epoch")
            .parse::<u64>()
            .expect("a number")
    };
    let before = epoch();
    sh(&format!(
        "for n in 1 2 3 4 5 6 7 8; do {EZZ} --wait 120 create e$n-a e$n-b & pids=\"$pids $!\"; done
         for pid in $pids; do wait $pid || exit 1; done"
    ))
    .ok();
    assert_eq!(settled("e"), 16);
    let raised = 8 * commits_of_create();
    assert_eq!(epoch(), before + raised, "each commit raised it once");
    assert_eq!(findings(), [""; 0]);
    assert_eq!(ezz(&["list", "--json"]).ok().json().len(), 16);
}
