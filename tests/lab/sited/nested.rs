//! A jail nests cgroups so that it cannot be stopped, and programs that ezz runs do not end.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use super::run::{init_of, nothing_runs};
use crate::support::*;

/// The limits of every jail, as documented.
const DEPTH: u32 = 15;
const DESCENDANTS: u32 = 1024;

/// In namespaces of its own, root of a jail may mount cgroup2 and create cgroups below its own: as deep as possible,
/// with a process in the deepest, and then as many as possible beside them. It tries to raise its limits first.
const ATTACK: &str = r#"
    mkdir -p /tmp/cg && mount -t cgroup2 none /tmp/cg || exit 90
    cd /tmp/cg || exit 91
    for file in cgroup.max.depth cgroup.max.descendants; do
        for at in /tmp/cg /sys/fs/cgroup; do
            [ -e $at/$file ] || exit 92
            (echo max >$at/$file) 2>/dev/null && exit 93
        done
    done
    n=0
    while [ $n -lt 600 ] && mkdir d 2>/tmp/deep; do cd d || exit 94; n=$((n + 1)); done
    echo deep $n
    sleep 100000 </dev/null >/dev/null 2>&1 &
    echo $! >cgroup.procs || exit 95
    cd /tmp/cg; n=0
    while [ $n -lt 5000 ]; do
        mkdir $(seq -f s%.0f $n $((n + 99))) 2>/tmp/wide || break
        n=$((n + 100))
    done
    echo wide $(ls -d s* | wc -l)
    grep -c 'temporarily unavailable' /tmp/deep
    tail -n 1 /tmp/wide | grep -c 'temporarily unavailable'
"#;

#[track_caller]
pub(super) fn attack(jail: &str) -> String {
    let unshare = ["exec", jail, "--", "unshare", "-UrCm", "sh", "-c", ATTACK];
    ezz(&unshare).ok().stdout
}

/// Runs ezz, which must end within this many seconds.
#[track_caller]
fn within(seconds: u64, args: &[&str]) -> Ended {
    let begun = Instant::now();
    let ended = ezz(args);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(seconds), "{took:?}: {ended:#?}");
    ended
}

#[track_caller]
fn cgroup_of(jail: &str) -> PathBuf {
    let found = sh(&format!("ls -d /sys/fs/cgroup/ezz/*/{jail}"))
        .ok()
        .stdout;
    found.trim().into()
}

#[test]
fn a_jail_cannot_nest_cgroups_without_end_and_stops() {
    // A jail without permission cannot create the namespaces for it, by whichever call.
    ezz(&["create", "plain", "--start"]).ok();
    for unshare in [
        "unshare -U true",
        "unshare -Ur true",
        "setpriv --reuid 1000 --clear-groups unshare -U true",
    ] {
        let refused = ezz(&["exec", "plain", "--", "sh", "-c", unshare]);
        assert_ne!(refused.code, 0, "{refused:#?}");
        assert!(
            refused.stderr.contains("Operation not permitted"),
            "{refused:#?}"
        );
    }
    ezz(&[
        "exec",
        "plain",
        "--",
        "sh",
        "-c",
        "(true) & wait; unshare -i true || true; ls | cat",
    ])
    .ok();
    let clone = [
        "clone",
        "plain",
        "allowed",
        "--nested-userns",
        "on",
        "--start",
    ];
    ezz(&clone).ok();
    ezz(&["exec", "allowed", "--", "unshare", "-Ur", "true"]).ok();
    let shown = ezz(&["show", "allowed", "--json"]).ok().json();
    assert_eq!(shown[0]["nested_userns"], true);
    ezz(&["delete", "plain", "allowed", "--yes"]).ok();
    ezz(&["create", "a", "b", "c", "--nested-userns", "on", "--start"]).ok();
    for jail in ["a", "b", "c"] {
        let at = cgroup_of(jail);
        let limit = |file: &str| std::fs::read_to_string(at.join(file)).expect("it is there");
        assert_eq!(limit("cgroup.max.depth"), format!("{DEPTH}\n"));
        assert_eq!(limit("cgroup.max.descendants"), format!("{DESCENDANTS}\n"));
        let said = attack(jail);
        let wide = DESCENDANTS - DEPTH;
        assert_eq!(said, format!("deep {DEPTH}\nwide {wide}\n1\n1\n"));
        assert_eq!(limit("cgroup.max.depth"), format!("{DEPTH}\n"));
    }
    ezz(&["doctor"]).ok();
    // These cgroups do not prevent commands in the jail either.
    ezz(&["exec", "a", "--", "true"]).ok();
    within(60, &["stop", "a"]).ok();
    assert!(!sh("ls -d /sys/fs/cgroup/ezz/*/a").stdout.contains("ezz"));
    within(60, &["restart", "b"]).ok();
    within(60, &["delete", "c", "--yes"]).ok();
    attack("b");
    within(60, &["stop", "--all"]).ok();
    for jail in ["a", "b", "c"] {
        nothing_runs(jail);
    }
    assert_eq!(
        sh("ls /run/ezz/*/jails /run/ezz/*/crun")
            .stdout
            .trim()
            .lines()
            .filter(|line| !line.ends_with(':') && !line.is_empty())
            .count(),
        0
    );
    ezz(&["doctor"]).ok();
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Creates nested cgroups; returns the deepest.
fn nest(root: &Path, name: &str, depth: u32) -> OwnedFd {
    let mut here = openat(CWD, root, DIRECTORY, Mode::empty()).expect("opened");
    for _ in 0..depth {
        mkdirat(&here, name, Mode::RWXU).expect("made");
        here = openat(&here, name, DIRECTORY, Mode::empty()).expect("opened");
    }
    here
}

fn moves(pid: u32, cgroup: &impl AsFd) {
    use std::io::Write as _;
    let procs = openat(cgroup, "cgroup.procs", OFlags::WRONLY, Mode::empty());
    let mut procs = File::from(procs.expect("opened"));
    procs.write_all(pid.to_string().as_bytes()).expect("moved");
}

/// A jail that an ezz without these limits has started, with ten thousand cgroups: its first process is in one whose
/// path is longer than `PATH_MAX`, others are as in a hostile jail.
#[test]
fn a_jail_without_limits_stops_whatever_cgroups_it_has() {
    ezz(&["create", "a", "b", "--start"]).ok();
    let root = cgroup_of("a");
    for file in ["cgroup.max.depth", "cgroup.max.descendants"] {
        std::fs::write(root.join(file), "max").expect("written");
    }
    let found = ezz(&["doctor", "--json"]).ok().json();
    let findings = found[0]["findings"].as_array().expect("a list");
    let of = |kind: &str| {
        let mut found = findings.iter().filter(|it| it["kind"] == kind);
        found
            .next()
            .map(|it| (it["object"].clone(), it["severity"].clone()))
    };
    assert_eq!(of("limits-missing"), Some(("jail a".into(), "info".into())));

    let sleeps = |many: u32| {
        let script =
            format!("for i in $(seq {many}); do sleep 100000 </dev/null >/dev/null 2>&1 & done");
        ezz(&["exec", "a", "--", "sh", "-c", &script]).ok();
    };
    sleeps(20);
    let mut pids: Vec<u32> = processes("sleep 100000");
    assert!(pids.len() >= 20, "{pids:?}");
    let deep = nest(&root, "d", 600);
    moves(pids.pop().expect("one of them"), &deep);
    let far = nest(&root, &"x".repeat(250), 40);
    moves(pids.pop().expect("one of them"), &far);
    for number in 0..4000 {
        std::fs::create_dir(root.join(format!("s{number}"))).expect("made");
    }
    for number in 0..2700 {
        let at = root.join(format!("t{number}/u"));
        std::fs::create_dir_all(&at).expect("made");
        if let (0, Some(pid)) = (number % 200, pids.pop()) {
            moves(
                pid,
                &openat(CWD, &at, DIRECTORY, Mode::empty()).expect("opened"),
            );
        }
    }
    let init = init_of("a");
    moves(init, &far);
    // Linux 6.1 does not report the path at all, 7.2 as much of it as fits.
    match std::fs::read_to_string(format!("/proc/{init}/cgroup")) {
        Ok(text) => assert!((4000..4200).contains(&text.len()), "{}", text.len()),
        Err(error) => assert_eq!(error.raw_os_error(), Some(36), "ENAMETOOLONG"),
    }

    // The state of the jail, and of those beside it, is still known.
    let listed = ezz(&["list", "--json"]).ok().json();
    let states: Vec<_> = listed.iter().map(|line| &line["state"]).collect();
    assert_eq!(states, ["running", "running"]);
    ezz(&["exec", "a", "--", "true"]).ok();
    let begun = Instant::now();
    sh(&format!("ulimit -n 64; exec {EZZ} stop a")).ok();
    let took = begun.elapsed();
    println!("stopped after {took:?}");
    assert!(took < Duration::from_secs(90), "{took:?}");
    assert_eq!(processes("sleep 100000"), Vec::<u32>::new());
    assert!(!root.exists());
    within(60, &["start", "a"]).ok();
    let found = ezz(&["doctor"]).ok();
    assert!(
        !found.stdout.contains("its cgroups have no limits"),
        "{found:#?}"
    );
    within(60, &["stop", "--all"]).ok();
    nothing_runs("a");
    nothing_runs("b");
    ezz(&["doctor"]).ok();
}

/// Installs a crun that hangs at some of its commands, first in the search path.
fn crun_hangs_at(command: &str) {
    sh(&format!(
        "printf '%s\\n' '#!/bin/sh' 'trap \"\" TERM INT HUP' 'for word; do' \
         '[ \"$word\" = {command} ] && {{ sleep 1000; exit 1; }}' 'done' 'exec /usr/bin/crun \"$@\"' \
         >/usr/local/sbin/crun && chmod 755 /usr/local/sbin/crun"
    ))
    .ok();
}

fn crun_works() {
    sh("rm -f /usr/local/sbin/crun").ok();
}

#[track_caller]
fn nothing_left(jail: &str) {
    nothing_runs(jail);
    let left = sh(&format!(
        "ls -d /run/ezz/*/jails/{jail} /run/ezz/*/crun/*-{jail} 2>/dev/null"
    ));
    assert_eq!(left.stdout, "");
    assert_eq!(processes("sleep 1000"), Vec::<u32>::new());
}

#[test]
fn a_crun_that_hangs_at_delete_keeps_no_jail() {
    ezz(&["create", "a", "b", "--start"]).ok();
    crun_hangs_at("delete");
    let stopped = within(90, &["stop", "a"]).ok();
    let words = "delete --force";
    assert!(stopped.stderr.contains(words), "{stopped:#?}");
    let words =
        "did not end within 30 s and was killed; ezz has removed its container without crun";
    assert!(stopped.stderr.contains(words), "{stopped:#?}");
    nothing_left_of_a();
    ezz(&["doctor"]).ok();
    let again = within(20, &["stop", "a"]).ok();
    assert!(again.stderr.contains("already stopped"), "{again:#?}");
    crun_works();
    ezz(&["start", "a"]).ok();
    ezz(&["exec", "a", "--", "true"]).ok();
    ezz(&["stop", "--all"]).ok();
    nothing_left("a");
    nothing_left("b");
}

/// Checks that nothing is left of the jail a, and that the other jail still runs.
#[track_caller]
fn nothing_left_of_a() {
    assert_eq!(processes("--name a "), Vec::<u32>::new());
    let left = sh(
        "ls -d /run/ezz/*/jails/a /run/ezz/*/crun/*-a /sys/fs/cgroup/ezz/*/a /sys/fs/cgroup/ezz/*/_a 2>/dev/null",
    );
    assert_eq!(left.stdout, "");
    assert_eq!(processes("sleep 1000"), Vec::<u32>::new());
    let listed = ezz(&["list", "--json"]).ok().json();
    let states: Vec<_> = listed.iter().map(|line| &line["state"]).collect();
    assert_eq!(states, ["stopped", "running"]);
}

/// Starts the jail a in the background; its messages go to a file.
fn start_a() -> std::process::Child {
    spawn("/", &format!("exec {EZZ} start a 2>/tmp/said"))
}

/// Makes a start look old: one that has just begun is not ended.
fn begun_long_ago(jail: &str) {
    sh(&format!("touch -d @0 /run/ezz/*-start-{jail}.lock")).ok();
}

#[track_caller]
fn was_ended(mut start: std::process::Child, words: &str) {
    let status = start.wait().expect("a child");
    assert_eq!(status.code(), Some(1), "{status:?}");
    let said = std::fs::read_to_string("/tmp/said").expect("it is there");
    assert!(said.contains(words), "no {words:?} in {said}");
    nothing_left_of_a();
    assert_eq!(sh("ls /run/ezz/*-start-* 2>/dev/null").stdout, "");
}

#[test]
fn a_crun_that_hangs_at_start_leaves_nothing() {
    ezz(&["create", "a", "b"]).ok();
    ezz(&["start", "b"]).ok();
    crun_hangs_at("start");
    let hangs = || processes("sleep 1000").len() == 1;
    // A stop of the jail ends it after ten seconds, a signal at once.
    let start = start_a();
    wait_for("it to hang", 20, hangs);
    let listed = ezz(&["list", "a", "--json"]).ok().json();
    assert_eq!(listed[0]["state"], "starting");
    let stopped = within(40, &["stop", "a"]).ok();
    let words = format!(
        "ending the start of a by pid {} (ezz start a, since 20",
        start.id()
    );
    assert!(stopped.stderr.contains(&words), "{stopped:#?}");
    was_ended(start, "the start of a was interrupted by pid ");
    let start = start_a();
    wait_for("it to hang", 20, hangs);
    sh(&format!("kill -TERM {}", start.id())).ok();
    was_ended(start, "interrupted; a was not started");
    // A start that is suspended continues, and undoes itself.
    let start = start_a();
    wait_for("it to hang", 20, hangs);
    sh(&format!("kill -STOP {}", start.id())).ok();
    begun_long_ago("a");
    let stopped = within(20, &["stop", "a"]).ok();
    assert!(!stopped.stderr.contains("ezz sent it"), "{stopped:#?}");
    was_ended(start, "the start of a was interrupted by pid ");
    // A start that reacts to no signal, with everything that it has begun, is killed after a while.
    let frozen = "/sys/fs/cgroup/frozen";
    let mut start = spawn(
        "/",
        &format!("mkdir {frozen}; echo $$ >{frozen}/cgroup.procs; exec {EZZ} start a"),
    );
    wait_for("it to hang", 20, hangs);
    sh(&format!("echo 1 >{frozen}/cgroup.freeze")).ok();
    wait_for("it to freeze", 20, || {
        sh(&format!("cat {frozen}/cgroup.events"))
            .stdout
            .contains("frozen 1")
    });
    begun_long_ago("a");
    let stopped = within(60, &["stop", "a"]).ok();
    for word in ["SIGTERM", "SIGKILL"] {
        let words = format!("does not end the start of a; ezz sent it {word}");
        assert!(stopped.stderr.contains(&words), "{stopped:#?}");
    }
    let status = start.wait().expect("a child");
    assert_eq!(status.signal(), Some(9), "{status:?}");
    // The processes of the stand-in for crun do not belong to ezz.
    sh(&format!("echo 1 >{frozen}/cgroup.kill")).ok();
    wait_for("its end", 20, || processes("sleep 1000").is_empty());
    sh(&format!("rmdir {frozen}")).ok();
    nothing_left_of_a();
    assert_eq!(sh("ls /run/ezz/*-start-*.end 2>/dev/null").stdout, "");
    ezz(&["doctor"]).ok();
    crun_works();
    ezz(&["start", "a"]).ok();
    ezz(&["stop", "--all"]).ok();
    nothing_left("a");
    nothing_left("b");
}
