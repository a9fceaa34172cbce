//! Many jails at once. The jails have an init that takes three seconds to end, and that writes down when it was
//! started, asked to end, and done. What is judged are these times, by the clock that all jails share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::inspect;
use crate::support::*;

/// The init. With a certain file it ends at once.
const INIT: &str = r#"#!/bin/sh
now() { read up rest </proc/uptime; echo "$1 $up" >>/root/times; }
down() { now asked; sleep 3; now ended; exit 0; }
if [ -e /etc/broken ]; then echo no disk; exit 7; fi
trap down TERM
now started
while :; do sleep 1000 & wait $!; done
"#;

const WEBS: [&str; 6] = ["web1", "web2", "web3", "web4", "web5", "web6"];

/// A site whose jails have that init: six that depend on one, and one that does not.
#[track_caller]
fn fleet() {
    init();
    let world = Path::new("/tmp/world");
    crate::worlds::runnable_world(world);
    std::fs::write(world.join("usr/sbin/init"), INIT).expect("written");
    sh("chmod 755 /tmp/world/usr/sbin/init; tar -cf /tmp/init.tar -C /tmp/world .").ok();
    ezz(&["-q", "install", "/tmp/init.tar"]).ok();
    let fleet = "fleet = \"f\"\n[defaults]\nnetwork = \"none\"\n[[jail]]\nname = \"db\"
        [[jail]]\nnames = [\"web{1..6}\"]\ndepends = [\"db\"]\n[[jail]]\nname = \"x\"\n";
    std::fs::write("/tmp/fleet.toml", fleet).expect("written");
    ezz(&["apply", "/tmp/fleet.toml"]).ok();
}

/// When something happened to a jail last, in hundredths of a second.
#[track_caller]
fn when(jail: &str, event: &str) -> u64 {
    let at = format!("/srv/jails/{jail}/root/times");
    let text = std::fs::read_to_string(&at).unwrap_or_else(|error| panic!("{at}: {error}"));
    let lines = text.lines().rev();
    let mut found = lines.filter_map(|line| line.strip_prefix(event)?.strip_prefix(' '));
    let found = found.next();
    let found = found.unwrap_or_else(|| panic!("{jail} was never {event}: {text}"));
    found.replace('.', "").parse().expect("a number")
}

fn first(jails: &[&str], event: &str) -> u64 {
    let all = jails.iter().map(|jail| when(jail, event));
    all.min().expect("jails")
}

fn last(jails: &[&str], event: &str) -> u64 {
    let all = jails.iter().map(|jail| when(jail, event));
    all.max().expect("jails")
}

fn states() -> BTreeMap<String, String> {
    let listed = ezz(&["list", "--json"]).ok().json();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let pair = |jail: &serde_json::Value| (text(&jail["jail"]), text(&jail["state"]));
    listed.iter().map(pair).collect()
}

#[track_caller]
fn all_are(state: &str) {
    let states = states();
    assert!(states.values().all(|it| it == state), "{states:?}");
}

/// The threads of a process.
fn threads(pid: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    tasks.map_or(0, Iterator::count)
}

#[test]
fn jails_of_a_level_end_at_once_and_what_they_depend_on_after_them() {
    fleet();
    ezz(&["start", "--all", "--jobs", "3"]).ok();
    all_are("running");
    assert!(when("db", "started") < first(&WEBS, "started"));

    // More jails than are worked on at once: all are asked before the first has ended.
    let mut stop = spawn(
        "/",
        &format!("exec {EZZ} stop --all --jobs 2 >/tmp/out 2>&1"),
    );
    wait_for("all to be asked", 60, || {
        let asked = |jail: &&&str| {
            let times = std::fs::read_to_string(format!("/srv/jails/{jail}/root/times"));
            times.is_ok_and(|times| times.contains("asked"))
        };
        WEBS.iter().filter(asked).count() == WEBS.len()
    });
    let threads = threads(stop.id());
    let status = stop.wait().expect("a child");
    let said = std::fs::read_to_string("/tmp/out").expect("it is there");
    assert!(status.success(), "{said}");
    // The one that waits, and two that work.
    assert!((1..=3).contains(&threads), "{threads}");
    all_are("stopped");
    let (asked, ended) = (last(&WEBS, "asked"), first(&WEBS, "ended"));
    assert!(asked < ended, "asked until {asked}, ended from {ended}");
    let all = last(&WEBS, "ended") - first(&WEBS, "asked");
    assert!(all < 600, "six ends of three seconds took {all} hundredths");
    assert!(last(&WEBS, "ended") <= when("db", "asked"));
    // Its line comes last, and no line is torn.
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 8, "{said}");
    assert!(
        lines.iter().all(|line| line.ends_with(": stopped")),
        "{said}"
    );
    assert_eq!(lines[7], "db: stopped");

    let started = ezz(&["start", "--all", "--json"]).ok();
    assert_eq!(started.json().len(), 8, "{started:#?}");
    assert!(when("db", "started") < first(&WEBS, "started"));

    // Those that depend on each other are down together; another is restarted by itself.
    ezz(&["restart", "db", "web1", "x"]).ok();
    assert!(when("web1", "ended") <= when("db", "asked"));
    assert!(when("db", "ended") < when("db", "started"));
    assert!(when("db", "started") < when("web1", "started"));
    let next = "cp -r /tmp/world /tmp/next; echo 2 >/tmp/next/usr/share/two; tar -cf /tmp/next.tar -C /tmp/next .";
    sh(next).ok();
    ezz(&["-q", "update", "--from", "/tmp/next.tar"]).ok();
    let converged = ezz(&["converge", "web2", "db"]).ok();
    assert!(converged.stdout.contains("db: restarted"), "{converged:#?}");
    assert!(when("web2", "ended") <= when("db", "asked"));
    assert!(when("db", "started") < when("web2", "started"));
    ezz(&["rollback", "--restart"]).ok();
    assert!(when("web2", "ended") <= when("db", "asked"));
    assert!(when("db", "started") < when("web2", "started"));
    assert_eq!(inspect::site(SITE), [""; 0]);
}

#[test]
fn what_depends_on_a_failure_is_skipped_and_the_rest_goes_on() {
    fleet();
    let fleet = "fleet = \"f\"\n[defaults]\nnetwork = \"none\"\n[[jail]]\nname = \"db\"
        [[jail]]\nname = \"web1\"\ndepends = [\"db\"]\n[[jail]]\nname = \"web2\"\ndepends = [\"web1\"]
        [[jail]]\nnames = [\"web{3..6}\"]\ndepends = [\"db\"]\n[[jail]]\nname = \"x\"\n";
    std::fs::write("/tmp/fleet.toml", fleet).expect("written");
    ezz(&["apply", "/tmp/fleet.toml"]).ok();
    std::fs::write("/srv/jails/web1/etc/broken", "").expect("written");
    let started = ezz(&["start", "--all"]).exits(3);
    for words in [
        "cannot start web1",
        "its first process exited at once with status 7: no disk",
        "cannot start web2",
        "web2 depends on web1, which was not started",
        "`ezz start web1 web2` tries both again",
    ] {
        assert!(started.stderr.contains(words), "no {words:?}: {started:#?}");
    }
    let lines: BTreeSet<&str> = started.stdout.lines().collect();
    let expected =
        ["db", "web3", "web4", "web5", "web6", "x"].map(|jail| format!("{jail}: started"));
    assert_eq!(lines, expected.iter().map(String::as_str).collect());
    let states = states();
    let down = states.iter().filter(|(_, state)| *state == "stopped");
    let down: Vec<&str> = down.map(|(jail, _)| jail.as_str()).collect();
    assert_eq!(down, ["web1", "web2"]);
    // Nothing of it is left on the host.
    assert_eq!(sh("ls -d /run/ezz/*/jails/web1 2>/dev/null").stdout, "");
    std::fs::remove_file("/srv/jails/web1/etc/broken").expect("it is there");
    ezz(&["start", "web1", "web2"]).ok();
    all_are("running");
    assert!(when("web1", "started") < when("web2", "started"));
    assert_eq!(inspect::site(SITE), [""; 0]);
}

#[test]
fn after_a_signal_no_lane_begins_and_the_rest_is_named() {
    fleet();
    let all: BTreeSet<String> = states().into_keys().collect();
    let (mut some, mut none) = (0, 0);
    for step in [1, 40, 80] {
        let line = format!("EZZ_INTERRUPT_BEFORE_STEP={step} {EZZ} start --all --jobs 2");
        let ended = sh(&line);
        let started: BTreeSet<String> = ended
            .stdout
            .lines()
            .filter_map(|line| Some(line.strip_suffix(": started")?.to_owned()))
            .collect();
        assert_eq!(
            ended.code,
            if started.is_empty() { 1 } else { 3 },
            "{ended:#?}"
        );
        let said = ended.stderr.lines();
        let said = said.filter_map(|line| line.strip_prefix("error: interrupted; "));
        let said: Vec<&str> = said.collect();
        assert_eq!(said.len(), 1, "{ended:#?}");
        let (names, _) = said[0].split_once(';').expect("what became of the rest");
        let (names, _) = names.rsplit_once(" not ").expect("what was not done");
        let names = names.strip_suffix(" was").or(names.strip_suffix(" were"));
        let names = names.expect("a verb").replace(" and ", ", ");
        let left: BTreeSet<String> = names.split(", ").map(str::to_owned).collect();
        assert!(left.is_disjoint(&started), "{ended:#?}");
        assert_eq!(
            left.union(&started).cloned().collect::<BTreeSet<_>>(),
            all,
            "{ended:#?}"
        );
        let running = states().into_iter().filter(|(_, state)| state == "running");
        assert_eq!(
            running.map(|(jail, _)| jail).collect::<BTreeSet<_>>(),
            started
        );
        some += usize::from(!started.is_empty());
        none += usize::from(started.is_empty());
        ezz(&["stop", "--all"]).ok();
    }
    assert!(some > 0 && none > 0, "{some} and {none}");
    // What was asked to end is waited for: its jails are stopped. What comes after them is named.
    ezz(&["start", "--all"]).ok();
    let mut stop = spawn("/", &format!("exec {EZZ} stop --all >/tmp/out 2>&1"));
    wait_for("the first to be asked", 60, || {
        std::fs::read_to_string("/srv/jails/web1/root/times").is_ok_and(|it| {
            it.ends_with("\n") && it.lines().last().is_some_and(|it| it.starts_with("asked"))
        })
    });
    sh(&format!("kill -INT {}", stop.id())).ok();
    let status = stop.wait().expect("a child");
    let said = std::fs::read_to_string("/tmp/out").expect("it is there");
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(
        said.contains("db was not stopped; finished changes are kept"),
        "{said}"
    );
    assert_eq!(states()["db"], "running");
    ezz(&["stop", "--all"]).ok();
    all_are("stopped");
    assert_eq!(inspect::site(SITE), [""; 0]);
}
