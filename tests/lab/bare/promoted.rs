//! Jails that an administrator has promoted with zfs(8): they have the snapshots of generations.

use super::prune::{halves, runnable, updates, whole};
use crate::support::*;

/// Two more generations: by an update, and by a roll-out.
#[track_caller]
fn swaps_say_how_many_thick_jails_they_leave_alone() {
    let run = ["--run", "/bin/sh", "-c", "echo more >> /usr/share/version"];
    ezz(&[&["update", "--stage-only"], &run[..]].concat()).ok();
    for swap in [
        &["update", "--swap", "3", "--restart"][..],
        &[&["update"], &run[..]].concat(),
        &["rollback", "--restart"],
        &["rollback"],
    ] {
        let told = ezz(swap).ok();
        let words = "1 running thick jail has its own base; updates do not affect it\n";
        assert_eq!(told.stderr.matches(words).count(), 1, "{swap:?}: {told:#?}");
    }
    let told = ezz(&["converge"]).ok();
    assert!(told.stderr.contains("second: a thick jail"), "{told:#?}");
}

/// Two thick jails have taken the seals of several generations, and with them the origin of the base that jails run on.
#[test]
fn a_promoted_thick_jail_keeps_what_it_needs_and_is_told_with_the_way_back() {
    runnable();
    ezz(&["create", "first", "--thick"]).ok();
    updates(1);
    ezz(&["create", "second", "--thick", "--start"]).ok();
    swaps_say_how_many_thick_jails_they_leave_alone();
    ezz(&["create", "thin", "--start"]).ok();
    let before = everything();
    sh("zfs promote tank/ezz/jails/first; zfs promote tank/ezz/jails/second").ok();
    let promoted = everything();
    let told = ezz(&["doctor", "--json"]).exits(1).json();
    let found = told[0]["findings"].as_array().cloned().unwrap_or_default();
    let of: Vec<_> = found
        .iter()
        .map(|it| (it["kind"].clone(), it["object"].clone(), it["hint"].clone()))
        .collect();
    let expected = ["1", "2"].map(|number| {
        let half = format!("tank/ezz/basejail/{number}");
        let hint = format!("`zfs promote {half}` reverts that");
        ("promoted".into(), half.into(), hint.into())
    });
    assert_eq!(of, expected, "{found:#?}");
    for (jail, has) in [("first", &found[0]), ("second", &found[1])] {
        let words = format!("the jail {jail} owns its snapshot");
        assert!(has["what"].to_string().contains(&words), "{has:#}");
    }
    // Nothing is destroyed that one of them or a later generation is a clone of.
    for prune in [&["world", "prune", "--yes"][..], &["doctor", "--repair"]] {
        ezz(prune);
        assert_eq!(everything(), promoted, "{prune:?}");
    }
    let lines = ezz(&["world", "prune", "--yes", "--json"]).ok().json();
    for (index, jail) in ["first", "second"].into_iter().enumerate() {
        let why = lines[index]["base_kept_by"].to_string();
        let words = format!("{jail} was promoted and has its snapshot");
        assert!(why.contains(&words), "{why}");
    }
    ezz(&["world", "delete", "1", "--yes", "--foreign-snapshots"])
        .refused(1, "first was promoted and has its snapshot");
    for (jail, half) in [("first", "1"), ("second", "2")] {
        let refused = ezz(&["delete", "--yes", jail]).refused(1, "were cloned from it");
        let way = format!("`zfs promote tank/ezz/basejail/{half}`");
        assert!(refused.stderr.contains(&way), "{refused:#?}");
    }
    // All jails run and can be started.
    ezz(&["exec", "second", "--", "cat", "/usr/share/version"]).ok();
    ezz(&["restart", "thin", "second"]).ok();
    ezz(&["start", "first"]).ok();
    ezz(&["stop", "first"]).ok();
    assert_eq!(everything(), promoted);
    // Promotions in the order of the findings restore the site.
    for half in ["1", "2"] {
        zfs(&["promote", &format!("tank/ezz/basejail/{half}")]).ok();
    }
    assert_eq!(everything(), before);
    let told = ezz(&["doctor", "--json"]).ok().json();
    assert_eq!(told[0]["findings"].to_string(), "[]");
    ezz(&["delete", "--yes", "first", "second"]).ok();
    ezz(&["world", "prune", "--yes"]).ok();
    assert_eq!(halves(), "b3 b4 n3 n4");
    whole();
}
