//! `doctor`: what it finds, and the plan of `--repair`.

use std::path::PathBuf;

use ezz::model::{Base, JailConfig, Kind, Stranger};
use ezz::name::{GenerationId, SnapshotName};
use ezz::plan::doctor::{Dataset, Diagnosis, Facts, Setting, diagnose};
use ezz::plan::finding::Severity;
use ezz::plan::generation::seals;

use super::inventory::*;

/// Returns the facts of a healthy site.
pub fn healthy(built: &Built) -> Facts {
    let inventory = &built.0.inventory;
    let mut facts = Facts {
        directory: Some((0o700, 0)),
        ..Facts::default()
    };
    for id in inventory.generations.keys() {
        for snapshot in seals(&inventory.site.layout, *id) {
            facts.holds.insert(snapshot, Some(vec!["ezz".to_owned()]));
        }
    }
    for (name, track) in &inventory.tracks {
        let link = track.current.map(|id| PathBuf::from(format!("../{id}")));
        facts.links.insert(name.clone(), link);
    }
    facts
}

#[track_caller]
pub fn diagnosed(built: &Built, facts: &Facts) -> Diagnosis {
    diagnose(&built.0, facts, false).expect("a diagnosis")
}

pub fn snapshot(text: &str) -> SnapshotName {
    SnapshotName::parse(text).expect("a snapshot's name")
}

/// Returns each finding as `Severity object: what`, with a mark if it can be repaired.
pub fn findings(diagnosis: &Diagnosis) -> Vec<String> {
    let line = |found: &ezz::plan::finding::Finding| {
        let mend = if found.repairable { ", mended" } else { "" };
        format!(
            "{:?} {}: {}{mend}",
            found.severity, found.object, found.what
        )
    };
    diagnosis.findings.iter().map(line).collect()
}

#[test]
fn a_healthy_site_has_no_findings_and_no_plan() {
    let site = installed().thin("a").running("a");
    let diagnosis = diagnosed(&site, &healthy(&site));
    assert_eq!(findings(&diagnosis), [""; 0]);
    assert!(diagnosis.plan.steps.is_empty());
}

/// Findings of every kind at once: those of the site come first, then tracks, generations, jails, and the host.
fn ailing() -> (Built, Facts) {
    let mut site = installed().staged(2).thin("a").unfinished("b");
    site.0.inventory.site.mounted = false;
    site.with_base(1, |base| base.mounted = false);
    site.with_jail("a", |jail| jail.mounted = false);
    let mut facts = healthy(&site);
    facts.abandoned = vec![GenerationId(2)];
    facts
        .links
        .insert(track_name("main"), Some(PathBuf::from("../9")));
    facts
        .holds
        .insert(snapshot("tank/ezz/newjail/1@1"), Some(Vec::new()));
    facts
        .drift
        .insert(jail_name("a"), vec![PathBuf::from("/etc/a.conf")]);
    facts.derived = vec![jail_name("a"), jail_name("gone")];
    (site, facts)
}

#[test]
fn a_repair_goes_from_the_site_to_the_jails() {
    let (site, facts) = ailing();
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        findings(&diagnosis),
        [
            "Debris tank/ezz: it is not mounted, mended",
            "Debris track main: its link does not point to its generation, mended",
            "Debris generation debian-12.1.1: its base is not mounted, mended",
            "Debris tank/ezz/newjail/1@1: ezz's hold is missing, mended",
            "Debris generation 2: it was never sealed, and no command is building it, mended",
            "Debris jail a: it is not mounted, mended",
            "Debris jail a: derived files are missing or differ: /etc/a.conf, mended",
            "Debris jail b: it was never finished, mended",
            "Debris jail gone: the host keeps files of a jail that does not exist, mended",
        ]
    );
    let told = told(&diagnosis.plan);
    let finish_b = told
        .iter()
        .position(|line| line == "mount tank/ezz/jails/b at /srv/jails/b");
    assert_eq!(
        told[..8],
        [
            "mount tank/ezz at /srv/jails",
            "link the track main to generation 1",
            "mount tank/ezz/basejail/1 at /srv/jails/basejail/1, read-only",
            "hold tank/ezz/newjail/1@1",
            "end what runs in the stage of generation 2",
            "unmount tank/ezz/newjail/2 from /srv/jails/newjail/2",
            "remove the empty directory /srv/jails/newjail/2",
            "destroy tank/ezz/newjail/2",
        ]
    );
    assert_eq!(finish_b, Some(14), "{told:#?}");
    assert_eq!(
        told.last().map(String::as_str),
        Some("remove the derived files of gone")
    );
}

/// At boot only mounts, links and files are restored: nothing is destroyed, committed or held.
#[test]
fn derived_only_touches_nothing_of_the_pool() {
    let (site, facts) = ailing();
    let diagnosis = diagnose(&site.0, &facts, true).expect("a diagnosis");
    assert_eq!(
        told(&diagnosis.plan),
        [
            "mount tank/ezz at /srv/jails",
            "link the track main to generation 1",
            "mount tank/ezz/basejail/1 at /srv/jails/basejail/1, read-only",
            "mount tank/ezz/jails/a at /srv/jails/a",
            "write the derived files of a",
            "remove the derived files of gone",
        ]
    );
    assert_eq!(diagnosis.findings.len(), 9, "the rest is told all the same");
}

#[test]
fn unfinished_jails_are_finished_together() {
    let mut site = installed().unfinished("a").unfinished("b").unfinished("c");
    site.with_jail("c", |jail| {
        jail.config.as_mut().expect("valid").skel = GenerationId(9);
    });
    let diagnosis = diagnosed(&site, &healthy(&site));
    let broken = "Broken jail c: it was never finished, and generation 9 does not exist";
    assert_eq!(findings(&diagnosis)[2], broken);
    let told = told(&diagnosis.plan);
    let last = told.last().expect("a step");
    assert!(last.starts_with("epoch 5: ezz:jail of tank/ezz/jails/a to "));
    assert!(
        last.contains(", ezz:jail of tank/ezz/jails/b to "),
        "{last}"
    );
    let destroys = told.iter().filter(|line| line.contains("destroy"));
    assert_eq!(destroys.count(), 0, "a kill must leave them");
    assert!(
        !told.iter().any(|line| line.contains("jails/c")),
        "{told:#?}"
    );
}

#[test]
fn what_is_broken_is_told_and_not_touched() {
    let pinned = JailConfig {
        base: Base::Pin(GenerationId(8)),
        ..config(Kind::Thin, 7)
    };
    let mut site = installed()
        .staged(3)
        .track("old", Some(9))
        .jail("p", pinned);
    site.with_base(1, |base| base.written = 4096);
    site.with_base(3, |base| base.snapshot = Some(1));
    site = site.stranger("odd");
    let mut facts = healthy(&site);
    facts.holds.insert(snapshot("tank/ezz/newjail/1@1"), None);
    facts.derived = vec![jail_name("ghost")];
    let site = site.running("ghost");
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        findings(&diagnosis),
        [
            "Broken track old: it names generation 9, which does not exist or is not sealed",
            "Broken generation debian-12.1.1: 4096 bytes were written to its base after the seal",
            "Broken tank/ezz/newjail/1@1: the snapshot is missing",
            "Broken generation 3: it has its snapshot, but no seal on it",
            "Broken jail odd: it is odd",
            "Broken jail p: the generation 7 that it was merged to does not exist",
            "Broken jail p: it is pinned to 8, which does not exist",
            "Broken jail ghost: it is running, but has no dataset",
        ]
    );
    assert!(diagnosis.plan.steps.is_empty(), "{}", diagnosis.plan);
}

#[test]
fn what_is_not_ezzs_is_named_and_left_alone() {
    let mut site = installed().staged(2).thin("a");
    site.0.inventory.strangers.push(Stranger {
        dataset: "tank/ezz/basejail/1@theirs".to_owned(),
        why: "a snapshot that ezz did not create".to_owned(),
    });
    let mut facts = healthy(&site);
    let both = vec!["ezz".to_owned(), "zrepl".to_owned()];
    facts
        .holds
        .insert(snapshot("tank/ezz/basejail/1@1"), Some(both));
    let own = Setting {
        value: "{}".to_owned(),
        own: true,
    };
    for part in ["", "/basejail", "/newjail", "/jails"] {
        let name = format!("tank/ezz{part}");
        facts.datasets.insert(name, Dataset::new());
    }
    let inner = Dataset::from([("ezz:jail".to_owned(), own)]);
    facts
        .datasets
        .insert("tank/ezz/jails/a/inner".to_owned(), inner);
    let diagnosis = diagnosed(&site, &facts);
    assert!(
        diagnosis
            .findings
            .iter()
            .all(|found| found.severity == Severity::Info)
    );
    assert_eq!(diagnosis.findings.len(), 4, "{:?}", findings(&diagnosis));
    assert!(diagnosis.plan.steps.is_empty());
}

#[test]
fn others_may_not_reach_into_the_site_directory() {
    let site = installed();
    for (mode, owner) in [(0o755, 0), (0o700, 1000), (0o711, 0)] {
        let facts = Facts {
            directory: Some((mode, owner)),
            ..healthy(&site)
        };
        let diagnosis = diagnosed(&site, &facts);
        assert_eq!(told(&diagnosis.plan), ["mount tank/ezz at /srv/jails"]);
    }
}

#[test]
fn a_running_jails_files_wait_until_it_has_stopped() {
    let site = installed().thin("a").running("a");
    let mut facts = healthy(&site);
    facts
        .drift
        .insert(jail_name("a"), vec![PathBuf::from("/etc/a.conf")]);
    let diagnosis = diagnosed(&site, &facts);
    assert!(findings(&diagnosis)[0].ends_with("(restored after it stops)"));
    assert!(diagnosis.plan.steps.is_empty());
}

#[test]
fn a_replica_is_told_of_and_never_repaired() {
    let (site, facts) = ailing();
    let diagnosis = diagnosed(&site.replica(), &facts);
    assert!(diagnosis.plan.steps.is_empty());
    assert!(diagnosis.findings.iter().all(|found| !found.repairable));
    assert!(findings(&diagnosis)[0].starts_with("Info tank/ezz: a replica"));
}
