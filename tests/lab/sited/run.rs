//! Running jails: `start`, `stop`, `restart`, `exec`.

use std::time::Duration;

use crate::support::*;

/// Returns the host's pid of a jail's first process.
#[track_caller]
pub(super) fn init_of(jail: &str) -> u32 {
    let found = sh(&format!("cat /run/ezz/*/jails/{jail}/pid")).ok().stdout;
    found
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("no pid of {jail}: {found:?}"))
}

/// Returns the mount of the kernel at /basejail in a jail.
fn base_of(jail: &str) -> String {
    let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", init_of(jail)));
    let table = table.expect("it runs");
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/basejail"));
    line.unwrap_or_else(|| panic!("nothing at /basejail:\n{table}"))
        .to_owned()
}

/// Checks that nothing of a stopped jail is left on the host.
#[track_caller]
pub(super) fn nothing_runs(jail: &str) {
    assert_eq!(processes(&format!("--name {jail} ")), Vec::<u32>::new());
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    let at = format!("/jails/{jail}/");
    let left: Vec<&str> = table
        .lines()
        .filter(|line| line.contains("/run/ezz") && line.contains(&at))
        .collect();
    assert!(left.is_empty(), "{left:#?}");
    assert_eq!(
        sh("ls /run/ezz/ids 2>/dev/null").stdout,
        "",
        "ids are given back"
    );
    assert_eq!(
        sh(&format!("ls -d /sys/fs/cgroup/ezz/*/{jail} 2>/dev/null")).stdout,
        ""
    );
}

#[test]
fn a_jail_starts_and_stops_and_nothing_is_left() {
    ezz(&["create", "a", "b"]).ok();
    let done = ezz(&["start", "a", "b", "--json"]).ok().json();
    assert_eq!(done[0]["did"], "started");
    let base = base_of("a");
    assert!(base.contains("tank/ezz/basejail/1"), "{base}");
    assert!(
        base.split(' ')
            .nth(5)
            .is_some_and(|options| options.starts_with("ro,")),
        "{base}"
    );
    let listed = ezz(&["list", "--json"]).ok().json();
    for line in &listed {
        assert_eq!(line["state"], "running");
        assert_eq!(line["generation"], 1);
    }
    let again = ezz(&["start", "a"]).ok();
    assert!(again.stderr.contains("already running"), "{again:#?}");
    let before = init_of("a");
    ezz(&["restart", "a"]).ok();
    assert_ne!(init_of("a"), before);
    ezz(&["stop", "a", "b"]).ok();
    nothing_runs("a");
    nothing_runs("b");
    let again = ezz(&["stop", "a"]).ok();
    assert!(again.stderr.contains("already stopped"), "{again:#?}");
    ezz(&["doctor"]).ok();
    ezz(&["start", "--all"]).ok();
    assert_eq!(ezz(&["list", "--json"]).ok().json()[1]["state"], "running");
    ezz(&["delete", "a", "b", "--yes"]).ok();
    nothing_runs("a");
    assert!(!exists("tank/ezz/jails/a"));
    assert_eq!(
        sh("ls /var/log/ezz/*/ 2>/dev/null").stdout,
        "",
        "its log went with it"
    );
}

#[test]
fn exec_passes_status_streams_user_and_environment() {
    ezz(&["create", "a", "--start", "--hostname", "a.example.org"]).ok();
    let run = |script: &str| ezz(&["exec", "a", "--", "sh", "-c", script]);
    assert_eq!(run("exit 7").code, 7);
    assert_eq!(run("kill -9 $$").code, 137);
    assert_eq!(run("hostname").ok().stdout, "a.example.org\n");
    assert_eq!(run("echo out; echo err >&2").ok().stderr, "err\n");
    let missing = ezz(&["exec", "a", "--", "nosuchprogram"]).exits(127);
    assert!(
        missing
            .stderr
            .contains("error: cannot run \"nosuchprogram\" in a: "),
        "{missing:#?}"
    );
    let bytes = sh(&format!(
        "head -c 300000 /dev/urandom >/tmp/in; {EZZ} exec a -- cat </tmp/in >/tmp/out; cmp /tmp/in /tmp/out"
    ));
    assert_eq!(bytes.ok().stdout, "");
    run("echo 'joe:x:1000:1000::/home/joe:/bin/sh' >>/etc/passwd; echo joe:x:1000: >>/etc/group")
        .ok();
    let as_joe = ezz(&[
        "exec",
        "a",
        "--user",
        "joe",
        "--directory",
        "/tmp",
        "--env",
        "X=1 2",
        "--",
        "sh",
        "-c",
        "id -un; pwd; echo $X; grep CapEff /proc/self/status",
    ]);
    assert_eq!(
        as_joe.ok().stdout,
        "joe\n/tmp\n1 2\nCapEff:\t0000000000000000\n"
    );
    let refused = ezz(&["exec", "a", "--user", "nobodyhere", "--", "id"]).exits(1);
    assert!(refused.stderr.contains("nobodyhere"), "{refused:#?}");
    ezz(&["stop", "a"]).ok();
    ezz(&["exec", "a", "--", "id"]).refused(1, "a is not running");
    ezz(&["exec", "none", "--", "id"]).refused(1, "there is no jail none");
    ezz(&["exec", "a"]).exits(2);
}

#[test]
fn the_umask_of_who_calls_counts_for_nothing() {
    ezz(&["create", "a", "--start"]).ok();
    sh(&format!("umask 077; {EZZ} create b --start")).ok();
    let modes = |jail: &str| {
        let list = sh(&format!(
            "cd /srv/jails/{jail} && find . -xdev -printf '%m %u %p\\n' | sort -k3"
        ));
        list.ok().stdout
    };
    assert!(modes("a").lines().count() > 100);
    assert_eq!(modes("a"), modes("b"));
    let umask = |before: &str| {
        let said = sh(&format!("umask {before}; {EZZ} exec b -- sh -c umask"));
        said.ok().stdout
    };
    assert_eq!(umask("077"), "0022\n");
    let hosts = ["exec", "b", "--user", "nobody", "--", "cat", "/etc/hosts"];
    assert!(ezz(&hosts).ok().stdout.contains("localhost"));
    // Users of the host cannot reach any of it.
    assert_eq!(sh("stat -c %a /srv/jails").ok().stdout, "700\n");
}

#[test]
fn a_jail_outlives_ezz_and_its_terminal() {
    ezz(&["create", "a"]).ok();
    // script(1) gives the start a terminal, which disappears when the start ends.
    sh(&format!("script -qec '{EZZ} start a' /dev/null </dev/null")).ok();
    std::thread::sleep(Duration::from_secs(1));
    let pid = init_of("a");
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    ezz(&["exec", "a", "--", "true"]).ok();
}

#[test]
fn a_jail_that_dies_is_seen_as_stopped() {
    ezz(&["create", "a", "b", "--start"]).ok();
    sh(&format!("kill -9 {}", init_of("a"))).ok();
    wait_for("a to be seen as stopped", 20, || {
        ezz(&["list", "a", "--json"]).ok().json()[0]["state"] == "stopped"
    });
    let line = &ezz(&["list", "a", "--json"]).ok().json()[0];
    assert_eq!(line["exit"], 137, "{line}");
    assert!(ezz(&["show", "a"]).ok().stdout.contains("last exit 137"));
    // The next start clears its remains away.
    ezz(&["start", "a"]).ok();
    ezz(&["exec", "a", "--", "true"]).ok();
    // The same without the monitor, as after an out-of-memory kill.
    for pid in processes("--name b ") {
        sh(&format!("kill -9 {pid}")).ok();
    }
    sh(&format!("kill -9 {}", init_of("b"))).ok();
    wait_for("b to be seen as stopped", 20, || {
        ezz(&["list", "b", "--json"]).ok().json()[0]["state"] == "stopped"
    });
    ezz(&["start", "b"]).ok();
    ezz(&["stop", "a", "b"]).ok();
    nothing_runs("b");
}

#[test]
fn a_jail_that_is_dying_is_listed_with_the_others() {
    ezz(&["create", "a", "b", "--start"]).ok();
    let init = init_of("a");
    // The kernel removes a jail only after the last of its processes was waited for. The parent of this process belongs
    // to the host, and does not wait.
    let mut parent = spawn(
        "/",
        &format!("exec nsenter --pid --target {init} sleep 1000"),
    );
    let child = || {
        let found = processes("sleep 1000");
        found.into_iter().find(|pid| *pid != parent.id())
    };
    wait_for("its child", 20, || child().is_some());
    let child = child().expect("it sleeps");
    // A parent that has not stopped yet would still wait for its child.
    let stat = format!("/proc/{}/stat", parent.id());
    sh(&format!("kill -STOP {}", parent.id())).ok();
    wait_for("its parent to stop", 20, || {
        sh(&format!("cat {stat}")).ok().stdout.contains(") T ")
    });
    sh(&format!("kill -9 {init}")).ok();
    let state = |jail: &str| {
        let listed = ezz(&["list", jail, "--json"]).ok().json();
        listed[0]["state"].as_str().expect("a state").to_owned()
    };
    wait_for("a to be dying", 20, || state("a") == "dying");
    let zombie = sh(&format!("cat /proc/{child}/stat")).ok();
    assert!(zombie.stdout.contains(" Z "), "{zombie:#?}");
    assert_eq!(state("b"), "running");
    ezz(&["show", "a"]).ok();
    ezz(&["exec", "a", "--", "true"]).refused(1, "a is not running");
    ezz(&["restart", "b"]).ok();
    ezz(&["doctor"]).ok();
    assert_eq!(state("a"), "dying");
    // A start waits until the jail is removed.
    let mut start = spawn("/", &format!("exec {EZZ} start a"));
    std::thread::sleep(Duration::from_secs(1));
    assert!(start.try_wait().expect("waited for").is_none());
    sh(&format!("kill -CONT {}", parent.id())).ok();
    parent.wait().expect("waited for");
    assert!(start.wait().expect("waited for").success());
    assert_eq!(state("a"), "running");
    ezz(&["exec", "a", "--", "true"]).ok();
}

#[test]
fn a_session_that_is_suspended_does_not_keep_its_jail() {
    ezz(&["create", "a", "--start"]).ok();
    // As by Ctrl-Z in a shell: the whole group stops, including the process of the host that has started `sleep` and
    // should wait for it.
    let mut session = spawn("/", &format!("exec setsid {EZZ} exec a -- sleep 1000"));
    wait_for("its command", 20, || processes("sleep 1000").len() > 1);
    sh(&format!("kill -STOP -{}", session.id())).ok();
    ezz(&["stop", "a"]).ok();
    nothing_runs("a");
    sh(&format!("kill -CONT -{}", session.id())).ok();
    session.wait().expect("waited for");
}

#[test]
fn what_the_host_lacks_is_named_and_nothing_is_left() {
    ezz(&["create", "a"]).ok();
    for program in ["/usr/bin/crun", "/usr/bin/conmon", "/usr/bin/catatonit"] {
        sh(&format!("mount --bind /dev/null $(readlink -f {program})")).ok();
        let name = program.rsplit('/').next().expect("a name");
        ezz(&["start", "a"]).refused(1, name);
        nothing_runs("a");
        ezz(&["doctor"]).exits(1);
        sh(&format!("umount $(readlink -f {program})")).ok();
    }
    // A crun with known vulnerabilities is too old.
    sh("printf '#!/bin/sh\\necho crun version 1.8\\n' >/usr/local/sbin/crun && chmod 755 /usr/local/sbin/crun").ok();
    ezz(&["start", "a"]).refused(1, "crun 1.8.1 or later");
    nothing_runs("a");
    ezz(&["doctor"]).exits(1);
    sh("rm /usr/local/sbin/crun").ok();
    let profile = "/usr/share/containers/seccomp.json";
    sh(&format!(
        "echo '{{' >/tmp/bad.json; mount --bind /tmp/bad.json $(readlink -f {profile})"
    ))
    .ok();
    ezz(&["start", "a"]).exits(1);
    nothing_runs("a");
    sh(&format!("umount $(readlink -f {profile})")).ok();
    ezz(&["start", "a"]).ok();
}

#[test]
fn a_failing_one_of_several_is_exit_3_and_named() {
    ezz(&["create", "a", "b", "c"]).ok();
    // The jail b has no usable shell: the directory that a link of its root leads to is a file.
    sh("rm /srv/jails/b/bin && echo >/srv/jails/b/bin").ok();
    let ended = ezz(&["start", "a", "b", "c"]);
    assert_eq!(ended.code, 3, "{ended:#?}");
    assert!(ended.stderr.contains("cannot start b"), "{ended:#?}");
    let listed = ezz(&["list", "--json"]).ok().json();
    let states: Vec<&str> = listed
        .iter()
        .filter_map(|line| line["state"].as_str())
        .collect();
    assert_eq!(states, ["running", "stopped", "running"]);
}

#[test]
fn two_starts_at_once_are_one() {
    ezz(&["create", "a"]).ok();
    sh(&format!(
        "{EZZ} start a & x=$!; {EZZ} start a & y=$!; wait $x && wait $y"
    ))
    .ok();
    assert_eq!(processes("--name a ").len(), 1);
}

#[test]
fn a_killed_start_is_mended_by_the_next() {
    ezz(&["create", "a"]).ok();
    for wait in ["0.3", "0.6", "0.9", "1.2", "1.5", "1.8"] {
        sh(&format!(
            "{EZZ} start a & pid=$!; sleep {wait}; kill -9 $pid; wait $pid; true"
        ))
        .ok();
        ezz(&["start", "a"]).ok();
        ezz(&["exec", "a", "--", "true"]).ok();
        ezz(&["stop", "a"]).ok();
        nothing_runs("a");
    }
}
