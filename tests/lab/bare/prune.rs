//! `ezz world diff`, `tree` and `prune`.

use crate::support::*;
use crate::worlds::runnable_world;

/// Creates the next generations, each built from the one before it.
#[track_caller]
pub(super) fn updates(count: u32) {
    static DONE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    for _ in 0..count {
        // An update that changes nothing would create no generation.
        let number = DONE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let script = format!("echo {number} > /usr/share/version; echo x > /usr/share/new{number}");
        ezz(&["update", "--run", "/bin/sh", "-c", &script]).ok();
    }
}

#[track_caller]
pub(super) fn runnable() {
    init();
    runnable_world(std::path::Path::new("/tmp/runnable"));
    ezz(&["install", "/tmp/runnable.tar"]).ok();
}

/// Returns the halves of generations that exist: `b1 n1 b2 …`.
pub(super) fn halves() -> String {
    let mut names = Vec::new();
    for (half, letter) in [("basejail", "b"), ("newjail", "n")] {
        let parent = format!("tank/ezz/{half}");
        let listed = zfs(&["list", "-Hd1", "-o", "name", &parent]).ok().stdout;
        names.extend(
            listed
                .lines()
                .filter_map(|line| line.strip_prefix(&format!("{parent}/")))
                .map(|number| format!("{letter}{number}")),
        );
    }
    names.join(" ")
}

fn snapshots() -> Vec<String> {
    let listed = zfs(&[
        "list",
        "-Hrt",
        "snapshot",
        "-o",
        "name",
        "tank/ezz/basejail",
    ])
    .ok();
    listed.stdout.lines().map(str::to_owned).collect()
}

#[track_caller]
pub(super) fn whole() {
    ezz(&["world", "verify", "--all"]).ok();
    let told = ezz(&["doctor", "--json"]).ok().json();
    let findings = told[0]["findings"].as_array().cloned().unwrap_or_default();
    let behind = |finding: &serde_json::Value| finding["kind"] == "behind";
    assert!(findings.iter().all(behind), "{findings:#?}");
}

#[test]
fn a_line_of_updates_is_cut_down_to_what_is_needed() {
    runnable();
    ezz(&["create", "old", "--start"]).ok();
    updates(3);
    let differs = ezz(&["world", "diff", "4", "--json"]).ok().json();
    let told: Vec<String> = differs
        .iter()
        .map(|line| format!("{} {}", line["did"], line["path"]))
        .collect();
    assert_eq!(
        told,
        [
            r#""added" "usr/share/new2""#,
            r#""changed" "usr/share/version""#
        ]
    );
    let back = ezz(&["world", "diff", "4", "1"]).ok().stdout;
    assert!(
        back.ends_with("0 added, 4 removed, 0 changed: -8B\n"),
        "{back}"
    );
    let tree = ezz(&["world", "tree"]).ok().stdout;
    let lines: Vec<&str> = tree
        .lines()
        .map(|line| line.split("  ").next().unwrap_or_default())
        .collect();
    let tail: Vec<&str> = tree.lines().map(str::trim_start).collect();
    assert!(
        lines[0] == "debian-12.1.1" && tail[1].starts_with("`-- debian-12.1.2"),
        "{tree}"
    );
    assert!(tree.contains("[main]"), "{tree}");
    let listed = ezz(&["world", "list", "--json"]).ok().json();
    assert_eq!(listed[1]["kept_by"].to_string(), "[]");
    assert_eq!(listed[3]["parent"], 3);
    assert!(listed[3]["delta"].as_u64() < Some(200_000), "{listed:#?}");
    // A running jail keeps its base, although it is not the one that is due.
    let before = everything();
    let planned = ezz(&["world", "prune", "--dry-run"]).ok();
    assert!(
        planned.stdout.contains("destroy tank/ezz/basejail/2"),
        "{planned:#?}"
    );
    assert!(planned.stdout.contains("old runs on it"), "{planned:#?}");
    assert_eq!(everything(), before);
    let lines = ezz(&["world", "prune", "--yes", "--json"]).ok().json();
    assert_eq!(
        (&lines[1]["base"], &lines[1]["skeleton"]),
        (&"pruned".into(), &"pruned".into())
    );
    assert_eq!(halves(), "b1 b3 b4 n1 n3 n4");
    // The third generation was a clone of the second, and is one of the first now.
    assert_eq!(
        property("tank/ezz/basejail/3", "origin"),
        "tank/ezz/basejail/1@1"
    );
    whole();
    // After a restart, a jail that was created three generations ago keeps only its skeleton.
    ezz(&["converge"]).ok();
    let lines = ezz(&["world", "prune", "--yes", "--json"]).ok().json();
    assert!(
        lines
            .last()
            .is_some_and(|line| line["freed"].as_u64() > Some(0)),
        "{lines:#?}"
    );
    assert_eq!(halves(), "b3 b4 n1 n3 n4");
    assert_eq!(
        snapshots(),
        ["tank/ezz/basejail/3@3", "tank/ezz/basejail/4@4"]
    );
    whole();
    // A second prune has nothing to do.
    let before = everything();
    let again = ezz(&["world", "prune", "--yes"]).ok();
    assert!(again.stderr.contains("nothing to destroy"), "{again:#?}");
    assert_eq!(everything(), before);
    // The jail still works, and so does the way back.
    ezz(&["rollback", "--restart"]).ok();
    assert_eq!(
        ezz(&["exec", "old", "--", "cat", "/usr/share/version"])
            .ok()
            .stdout,
        "1\n"
    );
}

#[test]
fn what_is_needed_stays_and_is_told() {
    runnable();
    ezz(&["create", "thick", "--thick"]).ok();
    updates(1);
    ezz(&["create", "pinned", "--pin", "2"]).ok();
    updates(3);
    ezz(&["rollback", "--to", "5"]).ok();
    let foreign = "tank/ezz/newjail/3@mine";
    zfs(&["snapshot", foreign]).ok();
    let lines = ezz(&["world", "prune", "--yes", "--json"]).ok().json();
    let why = |index: usize, half: &str| lines[index][half].to_string();
    assert_eq!(
        why(0, "base_kept_by"),
        r#"["thick thick is a clone of it"]"#
    );
    assert_eq!(why(1, "base_kept_by"), r#"["pinned is pinned to it"]"#);
    assert_eq!(
        why(2, "skeleton_kept_by"),
        format!(r#"["{foreign} is not ezz's"]"#)
    );
    assert_eq!(why(3, "base_kept_by"), r#"["previous of main"]"#);
    assert_eq!(why(4, "base_kept_by"), r#"["current of main"]"#);
    assert_eq!(halves(), "b1 b2 b4 b5 n1 n2 n3 n4 n5");
    whole_but_foreign(foreign);
    // More generations are kept on request.
    zfs(&["destroy", foreign]).ok();
    ezz(&["delete", "--yes", "pinned"]).ok();
    ezz(&["world", "prune", "--keep", "4", "--yes"]).ok();
    assert_eq!(halves(), "b1 b2 b4 b5 n1 n2 n4 n5");
    ezz(&["delete", "--yes", "thick"]).ok();
    ezz(&["world", "prune", "--yes"]).ok();
    assert_eq!(halves(), "b4 b5 n4 n5");
    whole();
}

#[track_caller]
fn whole_but_foreign(foreign: &str) {
    ezz(&["world", "verify", "--all"]).ok();
    let told = ezz(&["doctor", "--json"]).json();
    let findings = told[0]["findings"].as_array().cloned().unwrap_or_default();
    assert!(
        findings
            .iter()
            .all(|finding| finding.to_string().contains(foreign)
                || finding["kind"] == "skeleton-alone"),
        "{findings:#?}"
    );
}

#[test]
fn one_that_somebody_uses_is_put_back() {
    runnable();
    updates(3);
    // A process of the host uses the base that is to be destroyed.
    let mut user = spawn("/srv/jails/basejail/2", "exec sleep 100");
    let refused = ezz(&["world", "prune", "--yes"]).exits(1);
    assert!(refused.stderr.contains("busy"), "{refused:#?}");
    user.kill().expect("it runs");
    user.wait().expect("it ends");
    whole();
    // A foreign clone of a base, and a hold on another.
    zfs(&["clone", "tank/ezz/basejail/2@2", "tank/other"]).ok();
    let lines = ezz(&["world", "prune", "--yes", "--json"]).exits(0).json();
    assert_eq!(halves(), "b3 b4 n3 n4");
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert_eq!(property("tank/other", "origin"), "tank/ezz/basejail/3@2");
    zfs(&["destroy", "tank/other"]).ok();
    ezz(&["world", "prune", "--yes"]).ok();
    assert_eq!(
        snapshots(),
        ["tank/ezz/basejail/3@3", "tank/ezz/basejail/4@4"]
    );
    whole();
}

#[test]
fn snapshots_of_others_keep_what_they_are_of_until_it_is_told() {
    init();
    install_small();
    install_small();
    install_small();
    ezz(&["update", "--swap", "3"]).ok();
    ezz(&["rollback", "--to", "2"]).ok();
    ezz(&["rollback", "--to", "3"]).ok();
    for name in [
        "basejail/1@daily",
        "basejail/1@hourly",
        "newjail/1@daily",
        "basejail/2@daily",
    ] {
        zfs(&["snapshot", &format!("tank/ezz/{name}")]).ok();
    }
    let told = ezz(&["world", "prune", "--yes"]).ok();
    let why = "tank/ezz/basejail/1@daily and 1 more snapshots are not ezz's";
    assert!(told.stdout.contains(why), "{told:#?}");
    let way = "generation 1 stays only because of snapshots that ezz did not create";
    assert!(
        told.stderr.contains(way) && told.stderr.contains("--foreign-snapshots"),
        "{told:#?}"
    );
    assert_eq!(halves(), "b1 b2 b3 n1 n2 n3");
    // A generation with a foreign hold stays, with everything on it.
    zfs(&["hold", "mine", "tank/ezz/newjail/1@daily"]).ok();
    let refused =
        ezz(&["world", "prune", "--foreign-snapshots", "--yes"]).refused(1, "newjail/1@daily");
    assert!(refused.stderr.contains("held"), "{refused:#?}");
    assert_eq!(halves(), "b1 b2 b3 n1 n2 n3");
    assert!(exists("tank/ezz/basejail/1@daily"));
    zfs(&["release", "mine", "tank/ezz/newjail/1@daily"]).ok();
    let planned = ezz(&["world", "prune", "--foreign-snapshots", "--dry-run"]).ok();
    for name in ["basejail/1@daily", "basejail/1@hourly", "newjail/1@daily"] {
        assert!(planned.stdout.contains(name), "{planned:#?}");
    }
    ezz(&["world", "prune", "--foreign-snapshots", "--yes"]).ok();
    assert_eq!(halves(), "b2 b3 n2 n3");
    // The foreign snapshots of what stays, stay too.
    assert!(exists("tank/ezz/basejail/2@daily"));
    many_snapshots_are_few_lines();
    a_promoted_jail_is_told_with_the_way_back();
}

/// The snapshots that sanoid, zrepl and `zfs snapshot -r` leave.
#[track_caller]
fn many_snapshots_are_few_lines() {
    ezz(&["create", "s{1..5}"]).ok();
    sh("for n in 01 02 03 04 05 06 07 08 09 10; do zfs snapshot -r tank/ezz@auto_$n; done").ok();
    let listed = ezz(&["list"]).ok();
    assert_eq!(listed.stderr.lines().count(), 1, "{listed:#?}");
    let looked = ezz(&["doctor"]).ok();
    let lines = looked
        .stdout
        .lines()
        .filter(|line| line.contains("ezz did not create"));
    let lines: Vec<&str> = lines.collect();
    assert!(
        lines.len() <= 2 && looked.stdout.lines().count() < 30,
        "{looked:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("50 snapshots and bookmarks on 5 jails")),
        "{lines:#?}"
    );
    let all = ezz(&["doctor", "--json"]).ok().stdout;
    for name in [
        "jails/s1@auto_01",
        "jails/s5@auto_10",
        "basejail/3@auto_07",
        "newjail/2@auto_03",
    ] {
        assert!(all.contains(name), "no {name} in {all}");
    }
    let refused = ezz(&["delete", "--yes", "s1"]).refused(1, "@auto_08 and 7 more");
    assert!(refused.stderr.len() < 400, "{refused:#?}");
    let pruned = ezz(&["world", "prune", "--yes"]).ok();
    assert!(
        pruned
            .stdout
            .lines()
            .chain(pruned.stderr.lines())
            .all(|line| line.len() < 400),
        "{pruned:#?}"
    );
    ezz(&["delete", "--yes", "--foreign-snapshots", "s{1..5}"]).ok();
    sh(
        "for n in 01 02 03 04 05 06 07 08 09 10; do zfs destroy -r tank/ezz@auto_$n; done
        zfs destroy tank/ezz/basejail/2@daily",
    )
    .ok();
}

#[track_caller]
fn a_promoted_jail_is_told_with_the_way_back() {
    ezz(&["create", "thin", "other"]).ok();
    let (before, findings) = (everything(), |told: Ended| {
        told.json()[0]["findings"].clone()
    });
    let (jail, half) = ("thin", "tank/ezz/newjail/3");
    zfs(&["promote", &format!("tank/ezz/jails/{jail}")]).ok();
    let told = findings(ezz(&["doctor", "--json"]));
    assert_eq!(
        (told.as_array().map(Vec::len), &told[0]["kind"]),
        (Some(1), &"promoted".into()),
        "{told:#}"
    );
    let words = told[0]["what"].to_string();
    assert!(
        words.contains(&format!("the jail {jail} owns its snapshot")),
        "{words}"
    );
    let way = format!("zfs promote {half}");
    assert!(told[0]["hint"].to_string().contains(&way), "{told:#}");
    let refused = ezz(&["delete", "--yes", jail]).refused(1, "were cloned from it");
    assert!(refused.stderr.contains(&way), "{refused:#?}");
    ezz(&["doctor", "--repair"]).exits(1);
    sh(&way).ok();
    assert_eq!(everything(), before);
    let told = findings(ezz(&["doctor", "--json"]).ok());
    assert_eq!(told.to_string(), "[]");
    ezz(&["delete", "--yes", "thin", "other"]).ok();
}

/// Answers a question that a command asks on a terminal.
fn answered(answer: &str, command: &str) -> Ended {
    sh(&format!(
        "(sleep 1; echo {answer}; sleep 3) | script -qec '{EZZ} {command}' /dev/null"
    ))
}

#[test]
fn a_staged_world_stays_until_it_is_named_and_the_question_names_what_goes() {
    runnable();
    updates(1);
    let stage = ["update", "--stage-only", "--run", "/bin/sh", "-c"];
    ezz(&[&stage[..], &["echo staged > /usr/share/staged"]].concat()).ok();
    // If nothing can be destroyed, there is no question.
    let told = ezz(&["world", "prune"]).ok();
    assert!(told.stderr.contains("nothing to destroy"), "{told:#?}");
    assert!(
        told.stdout
            .contains("base kept (no track has been swapped to it yet)"),
        "{told:#?}"
    );
    for (generation, why) in [("1", "previous of main"), ("2", "current of main")] {
        ezz(&["world", "delete", generation, "--yes"]).refused(1, why);
    }
    ezz(&["create", "pinned", "--pin", "3"]).ok();
    ezz(&["world", "delete", "3", "--yes"]).refused(1, "pinned is pinned to it");
    ezz(&["delete", "pinned", "--yes"]).ok();
    ezz(&["world", "delete", "9", "--yes"]).refused(1, "there is no sealed generation");
    assert_eq!(halves(), "b1 b2 b3 n1 n2 n3");
    ezz(&["world", "prune", "--older", "1", "--yes"]).ok();
    assert_eq!(halves(), "b1 b2 b3 n1 n2 n3");
    // A generation that a track has left is marked, so the log may forget it.
    ezz(&["update", "--swap", "3"]).ok();
    assert_eq!(
        property("tank/ezz/basejail/1", "ezz:served"),
        r#"{"track":"main"}"#
    );
    zfs(&["inherit", "ezz:swaps:main", "tank/ezz/basejail"]).ok();
    // A generation without a mark and a log, as on a site of an older ezz: its use is in doubt, so it stays.
    install_small();
    let refused = ezz(&["world", "prune"]).refused(1, "cannot ask for confirmation");
    assert!(
        refused.stderr.contains("`ezz world prune --yes`"),
        "{refused:#?}"
    );
    let before = everything();
    let asked = answered("n", "world prune").exits(1);
    assert!(
        asked
            .stdout
            .contains("destroy base and skeleton of debian-12.1.1"),
        "{asked:#?}"
    );
    assert!(!asked.stdout.contains("12.1.4"), "{asked:#?}");
    assert_eq!(everything(), before);
    answered("y", "world prune").exits(0);
    assert_eq!(halves(), "b2 b3 b4 n2 n3 n4");
    // Without a mark, a log or a descendant its use is in doubt; naming it on the command line decides.
    ezz(&["world", "prune", "--yes"]).ok();
    assert_eq!(halves(), "b2 b3 b4 n2 n3 n4");
    let planned = ezz(&["world", "delete", "4", "--dry-run"]).ok();
    assert!(
        planned.stdout.contains("destroy tank/ezz/basejail/4"),
        "{planned:#?}"
    );
    answered("y", "world delete 4").exits(0);
    assert_eq!(halves(), "b2 b3 n2 n3");
    install_small();
    ezz(&["world", "prune", "--older", "0", "--yes"]).ok();
    assert_eq!(halves(), "b2 b3 n2 n3");
    ezz(&["world", "prune", "2", "--yes"]).ok();
    assert_eq!(halves(), "b2 b3 n2 n3", "it is the previous one");
    whole();
}
