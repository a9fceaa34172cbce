//! Every process of a jail is asked to end, by whatever command stops it; and what commands that were killed left of
//! running jails.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::inspect;
use crate::support::*;

/// A service that takes a second to end, by a program of its own. It is on its way if that is told to end, too.
const SERVICE: &str =
    "(trap 'sleep 1 && echo saved >/root/saved; exit' TERM; while :; do sleep 0.1; done)";

/// Forks all the time, and does not look after what it has forked.
const FORKS: &str = "(while :; do sleep 1000 & sleep 0.02; done)";

/// Takes no signal until it goes on.
const STOPPED: &str = "(sleep 2000 & kill -STOP $!; exit)";

/// An init of the world's own: it ends its service itself, and stays. In a jail with a certain file it takes no signal.
const INIT: &str = "#!/bin/sh
mkfifo /run/wait
(trap 'sleep 1 && echo saved >/root/saved; exit' TERM; while :; do sleep 0.1; done) &
if [ -e /etc/deaf ]; then trap '' TERM; else trap 'kill $!; wait' TERM; fi
wait
while :; do read line </run/wait; done
";

#[track_caller]
fn serve(jail: &str, services: &[&str]) {
    for service in services {
        let script = format!("{service} </dev/null >/dev/null 2>&1 &");
        ezz(&["exec", jail, "--", "sh", "-c", &script]).ok();
    }
}

/// Runs ezz, which has to kill no process, within so many seconds.
#[track_caller]
fn gently(seconds: u64, args: &[&str]) -> Ended {
    let begun = Instant::now();
    let ended = ezz(args).ok();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(seconds), "{took:?}: {ended:#?}");
    assert!(!ended.stderr.contains("killed"), "{ended:#?}");
    assert!(!ended.stdout.contains("killed"), "{ended:#?}");
    ended
}

#[track_caller]
fn saved(jail: &str) {
    let at = format!("/srv/jails/{jail}/root/saved");
    let text = std::fs::read_to_string(&at).unwrap_or_default();
    assert_eq!(text, "saved\n", "{jail}");
    std::fs::remove_file(&at).expect("it is there");
}

#[track_caller]
fn state(jail: &str) -> String {
    let listed = ezz(&["list", jail, "--json"]).ok().json();
    listed[0]["state"].as_str().expect("a state").to_owned()
}

#[track_caller]
fn kept(jail: &str) -> String {
    let places = [
        format!("/run/ezz/*/jails/{jail}"),
        format!("/run/ezz/*/crun/*-{jail}"),
        format!("/sys/fs/cgroup/ezz/*/{jail}"),
        format!("/sys/fs/cgroup/ezz/*/_{jail}"),
    ];
    let found = sh(&format!(
        "ls -d {} 2>/dev/null; ls -l /run/ezz/ids | grep /{jail}$",
        places.join(" ")
    ));
    found.stdout
}

/// Kills a move of a jail where that is down.
#[track_caller]
fn cut_down(jail: &str) {
    for step in 1..200 {
        sh(&format!("EZZ_DIE_BEFORE_STEP={step} {EZZ} converge {jail}")).exits(137);
        if state(jail) == "stopped" && sh("ls /run/ezz/*-moving").stdout.contains(jail) {
            return;
        }
    }
    panic!("{jail} is never down");
}

fn mark(jail: &str) -> bool {
    sh(&format!("ls -d /run/ezz/*-moving/{jail}")).code == 0
}

#[test]
fn every_process_is_asked_to_end() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a", "b", "c", "--start"]).ok();
    serve("a", &[SERVICE, FORKS, STOPPED]);
    serve("b", &[SERVICE]);
    serve("c", &[SERVICE]);
    wait_for("the forks", 20, || processes("sleep 1000").len() > 5);
    gently(20, &["stop", "a", "--json"]);
    saved("a");
    assert_eq!(kept("a"), "");
    assert_eq!(processes("sleep 1000"), Vec::<u32>::new());
    gently(20, &["restart", "b"]);
    saved("b");
    let next = crate::worlds::runnable_world(Path::new("/tmp/next"));
    ezz(&["-q", "update", "--from", next.to_str().expect("text")]).ok();
    gently(20, &["converge", "c"]);
    saved("c");
    assert!(
        !Path::new("/run/ezz")
            .join(format!("{}-moving", property(SITE, "ezz:id")))
            .exists()
    );

    // A jail whose number is lost runs, and is stopped as any other.
    serve("b", &[SERVICE]);
    sh("rm /run/ezz/*/jails/b/pid").ok();
    assert_eq!(state("b"), "running");
    // What a stop that is at work has not come to yet is nothing that is left.
    let mut stop = spawn("/", &format!("exec {EZZ} stop b"));
    let mut looks = 0;
    while stop.try_wait().expect("a child").is_none() {
        ezz(&["doctor"]).ok();
        looks += 1;
    }
    assert!(looks > 1 && stop.wait().expect("a child").success());
    saved("b");
    assert_eq!(kept("b"), "");

    // What a jail leaves that dies by itself is named, and cleared away.
    ezz(&["start", "b"]).ok();
    sh("kill -9 $(cat /run/ezz/*/jails/b/pid)").ok();
    wait_for("its end", 20, || state("b") == "stopped");
    wait_for("its monitor's end", 20, || {
        processes("--name b ").is_empty()
    });
    let found = ezz(&["doctor"]).exits(1);
    let words = "debris  jail b: it is not running, but mounts or files of its last run are left";
    assert!(found.stdout.contains(words), "{found:#?}");
    assert_ne!(kept("b"), "");
    ezz(&["doctor", "--repair"]).ok();
    assert_eq!(kept("b"), "");
    assert_eq!(inspect::site(SITE), [""; 0]);
    ezz(&["doctor"]).ok();

    // A killed move names the jail that it left down. Its mark ends with the next start, stop or delete.
    for done in ["stop", "start", "delete"] {
        ezz(&["start", "c"]).ok();
        let from = if sh("readlink /srv/jails/basejail/tracks/main")
            .stdout
            .contains('1')
        {
            "2"
        } else {
            "1"
        };
        ezz(&["rollback", "--to", from]).ok();
        cut_down("c");
        let found = ezz(&["doctor"]).exits(1);
        let words = "broken  jail c: it is stopped: it was not started again";
        assert!(found.stdout.contains(words), "{found:#?}");
        assert!(
            found.stdout.contains("`ezz converge c` starts it"),
            "{found:#?}"
        );
        match done {
            "delete" => ezz(&["delete", "c", "--yes"]).ok(),
            verb => ezz(&[verb, "c"]).ok(),
        };
        assert!(!mark("c"), "{done}");
        let converged = ezz(&["converge"]).ok();
        assert!(!converged.stdout.contains("restarted"), "{converged:#?}");
        if done == "stop" {
            assert_eq!(state("c"), "stopped");
        }
        ezz(&["doctor"]).ok();
    }
    assert_eq!(inspect::site(SITE), [""; 0]);

    // An init of the world's own is asked alone. It stays, without anybody left to look after.
    sh(&format!(
        "printf '%s' '{}' >/tmp/next/usr/sbin/init; chmod 755 /tmp/next/usr/sbin/init; tar -cf /tmp/init.tar -C /tmp/next .",
        INIT.replace('\'', "'\\''")
    ))
    .ok();
    ezz(&["-q", "update", "--from", "/tmp/init.tar"]).ok();
    ezz(&["create", "d", "--start"]).ok();
    wait_for("its service", 20, || processes("sleep 0.1").len() == 1);
    gently(25, &["stop", "d"]);
    saved("d");
    assert_eq!(kept("d"), "");

    // One that ignores everything is killed with all that runs, when the time is over that the user has set.
    std::fs::write("/srv/jails/d/etc/deaf", "").expect("written");
    ezz(&["start", "d"]).ok();
    wait_for("its service", 20, || processes("sleep 0.1").len() == 1);
    let words = "did not end within 1 s and were killed: ";
    let again = ezz(&["restart", "d", "--timeout", "1"]).ok();
    assert!(again.stderr.contains(words), "{again:#?}");
    wait_for("its service", 20, || processes("sleep 0.1").len() == 1);
    let stopped = ezz(&["stop", "d", "--timeout", "1", "--json"]).ok();
    assert!(stopped.stderr.contains(words), "{stopped:#?}");
    let killed = stopped.json()[0]["killed"].as_array().map(Vec::len);
    assert!(killed >= Some(2), "{stopped:#?}");
    assert!(!Path::new("/srv/jails/d/root/saved").exists());
    assert_eq!(kept("d"), "");
    ezz(&["stop", "d", "--timeout", "86401"]).exits(2);
    ezz(&["doctor"]).ok();
}

/// A descriptor of a file of one jail, which a process of another has: as if it had come through a socket.
#[test]
fn who_keeps_the_files_of_a_jail_that_is_deleted_is_named() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a", "b", "--start"]).ok();
    let script = "first=$(cat /sys/fs/cgroup/ezz/*/a/cgroup.procs | head -n1)
        exec 3</proc/$first/root/etc/passwd; echo $$ >$(ls /sys/fs/cgroup/ezz/*/b/cgroup.procs); exec sleep 3000";
    let mut holder = spawn("/", script);
    let pid = holder.id();
    wait_for("the process", 20, || {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"sleep")
    });
    let told =
        ezz(&["delete", "a", "--yes"]).refused(1, "cannot delete a: its files are in use by");
    let words = format!("process {pid} (sleep in jail b)");
    assert!(told.stderr.contains(&words), "{told:#?}");
    assert!(told.stderr.contains("`ezz stop b`"), "{told:#?}");
    // It is as it was, but for its processes.
    assert_eq!(state("a"), "stopped");
    assert!(Path::new("/srv/jails/a/etc/passwd").exists());
    ezz(&["stop", "b"]).ok();
    let _ = holder.wait();
    ezz(&["delete", "a", "--yes"]).ok();
    assert_eq!(inspect::site(SITE), [""; 0]);
}
