//! `doctor`: the findings that properties, mounts, directories and snapshots lead to.

use std::path::PathBuf;

use ezz::model::{Base, Flags, JailConfig, JailState, Kind, Merging, Mount, Stranger};
use ezz::name::GenerationId;
use ezz::plan::Doomed;
use ezz::plan::doctor::{Dataset, Diagnosis, Entry, EntryKind, Facts, Setting, Snapshot, diagnose};
use ezz::plan::finding::{Finding, Severity, What};
use ezz::plan::ways::Snapshots;

use super::doctor::{diagnosed, findings, healthy, snapshot};
use super::inventory::*;

/// Returns a site with a jail `a`, and facts of all kinds, none of which is odd.
fn looked_at() -> (Built, Facts) {
    let site = installed().thin("a");
    let mut facts = healthy(&site);
    for (name, own) in [
        ("tank/ezz", &["mountpoint=/srv/jails"][..]),
        ("tank/ezz/basejail", &["canmount=off", "readonly=on"]),
        ("tank/ezz/basejail/1", &["readonly=on"]),
        ("tank/ezz/newjail", &["canmount=off"]),
        ("tank/ezz/newjail/1", &["canmount=noauto"]),
        ("tank/ezz/jails", &["canmount=off"]),
        (
            "tank/ezz/jails/a",
            &["mountpoint=/srv/jails/a", "ezz:jail={}"],
        ),
    ] {
        let below = name.strip_prefix("tank/ezz").expect("below");
        let mut dataset = Dataset::new();
        let mountpoint = format!("mountpoint=/srv/jails{below}");
        let usual = [
            "canmount=on",
            "readonly=off",
            "sync=standard",
            "devices=off",
            "setuid=on",
            "exec=on",
            "sharenfs=off",
            "sharesmb=off",
            &mountpoint,
        ];
        for pair in usual.iter().chain(own) {
            let (property, value) = pair.split_once('=').expect("a pair");
            dataset.insert(property.to_owned(), setting(value, false));
        }
        facts.datasets.insert(name.to_owned(), dataset);
    }
    for half in ["basejail", "newjail"] {
        let name = format!("tank/ezz/{half}/1@1");
        let snapshot = Snapshot {
            sealed: true,
            holds: 1,
        };
        facts.snapshots.insert(name, snapshot);
    }
    facts.mounts = vec![
        mount("tank/ezz", "/srv/jails", false),
        mount("tank/ezz/basejail/1", "/srv/jails/basejail/1", true),
        mount("tank/ezz/jails/a", "/srv/jails/a", false),
    ];
    for (path, kind) in [
        ("basejail", EntryKind::Full),
        ("newjail", EntryKind::Full),
        ("basejail/tracks", EntryKind::Full),
        ("basejail/1", EntryKind::Full),
        ("newjail/1", EntryKind::Empty),
    ] {
        facts.entries.push(entry(path, kind));
    }
    (site, facts)
}

fn setting(value: &str, own: bool) -> Setting {
    Setting {
        value: value.to_owned(),
        own,
    }
}

fn mount(source: &str, target: &str, read_only: bool) -> Mount {
    Mount {
        source: source.to_owned(),
        whole: true,
        target: PathBuf::from(target),
        flags: Flags {
            read_only,
            nosuid: true,
            nodev: true,
            noatime: true,
        },
    }
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: PathBuf::from("/srv/jails").join(path),
        kind,
    }
}

/// Returns the only finding.
#[track_caller]
fn only(diagnosis: &Diagnosis) -> (What, Severity, &str) {
    match diagnosis.findings.as_slice() {
        [one] => (one.kind, one.severity, one.object.as_str()),
        _ => panic!("{:#?}", findings(diagnosis)),
    }
}

#[test]
fn a_site_that_was_looked_at_closely_is_healthy() {
    let (site, facts) = looked_at();
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(findings(&diagnosis), [""; 0]);
    assert!(diagnosis.plan.steps.is_empty());
}

#[test]
fn properties_that_endanger_the_host_are_broken_and_others_told() {
    for (dataset, property, value, kind, severity) in [
        (
            "tank/ezz/jails/a",
            "devices",
            "on",
            What::PropertyDangerous,
            Severity::Broken,
        ),
        (
            "tank/ezz",
            "sharenfs",
            "on",
            What::PropertyDangerous,
            Severity::Broken,
        ),
        (
            "tank/ezz/jails/a",
            "mountpoint",
            "/home/a",
            What::PropertyDangerous,
            Severity::Broken,
        ),
        (
            "tank/ezz/basejail/1",
            "readonly",
            "off",
            What::PropertyDangerous,
            Severity::Broken,
        ),
        (
            "tank/ezz/basejail/1",
            "sync",
            "disabled",
            What::PropertyChanged,
            Severity::Info,
        ),
        (
            "tank/ezz/newjail/1",
            "canmount",
            "on",
            What::PropertyChanged,
            Severity::Info,
        ),
        (
            "tank/ezz/jails/a",
            "canmount",
            "off",
            What::PropertyChanged,
            Severity::Info,
        ),
        (
            "tank/ezz/jails/a",
            "exec",
            "off",
            What::PropertyChanged,
            Severity::Info,
        ),
        (
            "tank/ezz/jails",
            "canmount",
            "on",
            What::PropertyChanged,
            Severity::Info,
        ),
    ] {
        let (site, mut facts) = looked_at();
        let settings = facts.datasets.get_mut(dataset).expect("it is there");
        settings.insert(property.to_owned(), setting(value, true));
        let diagnosis = diagnosed(&site, &facts);
        assert_eq!(only(&diagnosis), (kind, severity, dataset), "{property}");
        assert!(diagnosis.plan.steps.is_empty(), "{property}");
        let hint = diagnosis.findings[0].hint.as_deref().unwrap_or_default();
        assert!(hint.contains(&format!("zfs inherit {property} {dataset}")));
        // On a replica the value came with the receive, and is a matter for the one who adopts it.
        let replica = diagnosed(&site.clone().replica(), &facts);
        assert_eq!(only(&replica).0, What::Replica);
    }
    // A value that the pool's owner chose for the whole pool.
    let (site, mut facts) = looked_at();
    let settings = facts
        .datasets
        .get_mut("tank/ezz/basejail/1")
        .expect("there");
    settings.insert("sync".to_owned(), setting("always", false));
    settings.insert("sharesmb".to_owned(), setting("-", false));
    assert_eq!(findings(&diagnosed(&site, &facts)), [""; 0]);
}

/// The state that `zfs mount -a` leaves at every boot.
#[cfg(target_os = "linux")]
#[test]
fn mounts_without_their_flags_are_named_and_mended() {
    let (site, healthy) = looked_at();
    let with = |at: usize, words: &str| {
        let mut facts = healthy.clone();
        facts.mounts[at].flags = Flags::parse(words);
        diagnosed(&site, &facts)
    };
    for (at, words, object, lacks, step) in [
        (
            0,
            "nodev,noatime",
            "tank/ezz",
            "without nosuid: only the mode",
            "mount tank/ezz at /srv/jails",
        ),
        (
            1,
            "ro,noatime",
            "tank/ezz/basejail/1",
            "without nosuid, nodev: only the mode",
            "mount tank/ezz/basejail/1 at /srv/jails/basejail/1, read-only",
        ),
        (
            2,
            "nosuid",
            "tank/ezz/jails/a",
            "without nodev, noatime: only the mode",
            "mount tank/ezz/jails/a at /srv/jails/a",
        ),
        (
            2,
            "nosuid,nodev",
            "tank/ezz/jails/a",
            "without noatime: reading",
            "mount tank/ezz/jails/a at /srv/jails/a",
        ),
    ] {
        let diagnosis = with(at, words);
        assert_eq!(only(&diagnosis), (What::MountFlags, Severity::Info, object));
        assert!(diagnosis.findings[0].repairable);
        let text = &findings(&diagnosis)[0];
        assert!(text.contains(lacks), "{text}");
        let steps = diagnosis.plan.to_string();
        assert_eq!(steps.trim(), format!("1. {step}"));
    }
    // If the site directory is open to others, nothing else protects the host.
    let mut open = healthy.clone();
    open.directory = Some((0o755, 0));
    open.mounts[2].flags = Flags::parse("nodev,noatime");
    let diagnosis = diagnosed(&site, &open);
    let flags = diagnosis
        .findings
        .iter()
        .find(|finding| finding.kind == What::MountFlags);
    let flags = flags.expect("it is found");
    assert_eq!(flags.severity, Severity::Debris);
    assert!(flags.what.ends_with("as root"), "{}", flags.what);
    // An additional flag is an administrator's choice.
    let more = with(2, "ro,nosuid,nodev,noatime");
    assert_eq!(findings(&more), [""; 0]);
    // A mount at another directory is an administrator's own.
    let mut facts = healthy.clone();
    let mut other = mount("tank/ezz/jails/a", "/mnt", false);
    other.flags = Flags::default();
    facts.mounts.push(other);
    assert_eq!(findings(&diagnosed(&site, &facts)), [""; 0]);
}

/// `zfs mount -a` also mounts a base that was being built. A stage that is being destroyed or built is left alone.
#[cfg(target_os = "linux")]
#[test]
fn a_stage_gets_its_flags_at_boot() {
    let (site, mut facts) = looked_at();
    let site = site.staged(2);
    let mut at_boot = mount("tank/ezz/basejail/2", "/srv/jails/basejail/2", false);
    at_boot.flags = Flags::parse("nodev");
    facts.mounts.push(at_boot);
    let flags = |facts: &Facts, derived_only| {
        let diagnosis = diagnose(&site.0, facts, derived_only).expect("a plan");
        let kinds = diagnosis.findings.iter().map(|finding| finding.kind);
        kinds.filter(|kind| *kind == What::MountFlags).count()
    };
    assert_eq!(flags(&facts, true), 0);
    facts.abandoned.push(GenerationId(2));
    assert_eq!(flags(&facts, true), 1);
    assert_eq!(flags(&facts, false), 0);
}

#[test]
fn mounts_in_the_wrong_place_or_over_something_are_broken() {
    let (site, healthy) = looked_at();
    let with = |change: &dyn Fn(&mut Vec<Mount>)| {
        let mut facts = healthy.clone();
        change(&mut facts.mounts);
        diagnosed(&site, &facts)
    };
    let writable = with(&|mounts| mounts[1].flags.read_only = false);
    let base = "tank/ezz/basejail/1";
    assert_eq!(
        only(&writable),
        (What::MountedWritable, Severity::Broken, base)
    );
    let moved = with(&|mounts| mounts[1].target = PathBuf::from("/mnt"));
    assert_eq!(
        only(&moved),
        (What::MountedElsewhere, Severity::Broken, base)
    );
    assert!(findings(&moved)[0].contains("mounted at /mnt, not at /srv/jails/basejail/1"));
    let jail = "tank/ezz/jails/a";
    let over = with(&|mounts| mounts.push(mount("tmpfs", "/srv/jails/a", false)));
    assert_eq!(only(&over), (What::MountedOver, Severity::Broken, jail));
    let hidden = with(&|mounts| mounts.push(mount("tank", "/srv/jails", false)));
    assert_eq!(
        only(&hidden),
        (What::MountedOver, Severity::Broken, "tank/ezz")
    );
    // The mounts of a running jail, and one below its directory.
    let own = with(&|mounts| {
        mounts.push(mount(base, "/run/ezz/id/jails/a/base", true));
        mounts.push(mount(jail, "/run/ezz/id/jails/a/root", false));
        mounts.push(mount("tmpfs", "/srv/jails/a/tmp", false));
    });
    assert_eq!(findings(&own), [""; 0]);
}

#[test]
fn empty_directories_go_and_full_ones_stay() {
    let (site, mut facts) = looked_at();
    for (path, kind) in [
        ("gone", EntryKind::Empty),
        ("basejail/3", EntryKind::Empty),
        ("basejail/4", EntryKind::Full),
        ("full", EntryKind::Full),
        ("Not-A-Jail", EntryKind::Empty),
        ("file", EntryKind::Other),
        ("basejail/tracks/main.new", EntryKind::Other),
    ] {
        facts.entries.push(entry(path, kind));
    }
    let diagnosis = diagnosed(&site, &facts);
    let told: Vec<String> = findings(&diagnosis);
    assert_eq!(told.len(), 7, "{told:#?}");
    let mended: Vec<&str> = diagnosis
        .findings
        .iter()
        .filter(|found| found.repairable)
        .map(|found| found.object.as_str())
        .collect();
    assert_eq!(mended, ["/srv/jails/gone", "/srv/jails/basejail/3"]);
    assert_eq!(
        super::inventory::told(&diagnosis.plan),
        [
            "remove the empty directory /srv/jails/gone",
            "remove the empty directory /srv/jails/basejail/3",
        ]
    );
    let others = diagnosis.findings.iter().filter(|found| !found.repairable);
    assert!(
        others.clone().count() == 5 && others.into_iter().all(|f| f.severity == Severity::Info)
    );
}

#[test]
fn what_a_killed_verify_mounted_goes() {
    let (site, mut facts) = looked_at();
    let at = "/run/ezz/verify-77-1";
    facts.verify = vec![(GenerationId(1), PathBuf::from(at))];
    facts.mounts.push(mount("tank/ezz/basejail/1", at, true));
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(only(&diagnosis), (What::HostLeft, Severity::Debris, at));
    assert_eq!(
        told(&diagnosis.plan),
        [
            "unmount tank/ezz/basejail/1 from /run/ezz/verify-77-1",
            "remove the empty directory /run/ezz/verify-77-1"
        ]
    );
}

#[test]
fn a_snapshot_that_a_killed_merge_had_mounted_is_unmounted() {
    let (site, mut facts) = looked_at();
    let at = "/run/ezz/undo-77-before";
    facts.undo = vec![PathBuf::from(at)];
    let remove = format!("remove the empty directory {at}");
    assert_eq!(
        told(&diagnosed(&site, &facts).plan),
        std::slice::from_ref(&remove)
    );
    facts
        .mounts
        .push(mount("tank/ezz/jails/a@ezz-merge-1-2", at, true));
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(only(&diagnosis), (What::HostLeft, Severity::Debris, at));
    let unmount = format!("unmount tank/ezz/jails/a from {at}");
    assert_eq!(told(&diagnosis.plan), [unmount, remove]);
    // A snapshot of a jail that belongs to another site.
    let mount = facts.mounts.last_mut().expect("there");
    mount.source = "other/ezz/jails/a@ezz-merge-1-2".to_owned();
    assert_eq!(told(&diagnosed(&site, &facts).plan), [""; 0]);
}

#[test]
fn a_link_without_a_track_goes() {
    let (site, mut facts) = looked_at();
    facts
        .links
        .insert(track_name("old"), Some(PathBuf::from("../1")));
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        only(&diagnosis),
        (What::LinkLeft, Severity::Debris, "track old")
    );
    assert_eq!(
        told(&diagnosis.plan),
        ["remove the link and the downloads of the track old"]
    );
}

#[test]
fn snapshots_of_others_are_told_once_a_jail() {
    let (site, mut facts) = looked_at();
    let plain = Snapshot {
        sealed: false,
        holds: 0,
    };
    for name in ["a@1", "a@2", "a@3", "a@4", "a#b", "ab@x", "a/in@y"] {
        facts
            .snapshots
            .insert(format!("tank/ezz/jails/{name}"), plain);
    }
    facts
        .snapshots
        .insert("tank/ezz/newjail/1@theirs".to_owned(), plain);
    facts.snapshots.insert(
        "tank/ezz/jails/a@4".to_owned(),
        Snapshot { holds: 2, ..plain },
    );
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        findings(&diagnosis),
        [
            "Info tank/ezz/newjail/1@theirs: a snapshot that ezz did not create",
            "Info jail a: 5 snapshots and bookmarks that ezz did not create, 1 of them held: #b, @1, @2 …",
        ]
    );
    assert!(diagnosis.plan.steps.is_empty());
}

/// A host where a timer takes snapshots gets two findings; the JSON output has all names.
#[test]
fn many_snapshots_of_others_are_few_findings() {
    let (site, mut facts) = looked_at();
    let mut site = ["b", "c", "d"].into_iter().fold(site, Built::thin);
    let plain = Snapshot {
        sealed: false,
        holds: 0,
    };
    for number in 0..100 {
        for dataset in [
            "basejail/1",
            "newjail/1",
            "jails/a",
            "jails/b",
            "jails/c",
            "jails/d",
        ] {
            let name = format!("tank/ezz/{dataset}@auto_{number:02}");
            facts.snapshots.insert(name, plain);
        }
        // The observation also has the snapshots of bases.
        site.0.inventory.strangers.push(Stranger {
            dataset: format!("tank/ezz/basejail/1@auto_{number:02}"),
            why: "a snapshot that ezz did not create".to_owned(),
        });
    }
    let diagnosis = diagnosed(&site, &facts);
    let found: Vec<&Finding> = diagnosis
        .findings
        .iter()
        .filter(|it| it.kind == What::SnapshotForeign)
        .collect();
    let whats: Vec<String> = found
        .iter()
        .map(|it| format!("{}: {}", it.object, it.what))
        .collect();
    assert_eq!(
        whats,
        [
            "tank/ezz/basejail/1: 100 snapshots and bookmarks that ezz did not create: @auto_00, @auto_01, @auto_02 …",
            "tank/ezz/newjail/1: 100 snapshots and bookmarks that ezz did not create: @auto_00, @auto_01, @auto_02 …",
            "tank/ezz/jails: 400 snapshots and bookmarks on 4 jails that ezz did not create, such as tank/ezz/jails/a@auto_00",
        ]
    );
    let counts: Vec<usize> = found.iter().map(|it| it.objects.len()).collect();
    assert_eq!(counts, [100, 100, 400]);
    let all_have_a_way = found.iter().all(|it| {
        it.hint
            .as_ref()
            .is_some_and(|it| it.contains("--foreign-snapshots"))
    });
    assert!(all_have_a_way);
}

/// Neither the jail nor its generation was destroyed: a promotion has exchanged the two.
#[test]
fn a_promoted_jail_is_one_finding_with_the_way_back() {
    let (mut site, mut facts) = looked_at();
    let plain = Snapshot {
        sealed: true,
        holds: 1,
    };
    facts.snapshots.remove("tank/ezz/newjail/1@1");
    facts
        .snapshots
        .insert("tank/ezz/jails/a@1".to_owned(), plain);
    facts.holds.insert(snapshot("tank/ezz/newjail/1@1"), None);
    let generations = &mut site.0.inventory.generations;
    let one = generations.get_mut(&GenerationId(1)).expect("there");
    let skeleton = one.skeleton.as_mut().expect("there");
    skeleton.origin = Some("tank/ezz/jails/a@1".to_owned());
    let jails = &mut site.0.inventory.jails;
    let jail = jails.values_mut().next().expect("there");
    jail.origin = None;
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        only(&diagnosis),
        (What::Promoted, Severity::Broken, "tank/ezz/newjail/1")
    );
    let hint = diagnosis.findings[0].hint.as_deref();
    assert_eq!(hint, Some("`zfs promote tank/ezz/newjail/1` reverts that"));
    assert!(diagnosis.plan.steps.is_empty());
}

/// A prune that was killed has released the hold of a skeleton whose base was destroyed.
#[test]
fn a_skeleton_that_outlives_its_base_is_held_again() {
    let (mut site, mut facts) = looked_at();
    let generations = &mut site.0.inventory.generations;
    let one = generations.get_mut(&GenerationId(1)).expect("there");
    one.base = None;
    site.0.inventory.tracks.clear();
    facts.links.clear();
    facts.holds.clear();
    facts
        .holds
        .insert(snapshot("tank/ezz/newjail/1@1"), Some(Vec::new()));
    facts.snapshots.remove("tank/ezz/basejail/1@1");
    let diagnosis = diagnosed(&site, &facts);
    let kinds: Vec<What> = diagnosis.findings.iter().map(|it| it.kind).collect();
    assert!(
        kinds.contains(&What::HoldMissing),
        "{:#?}",
        findings(&diagnosis)
    );
    let plan = told(&diagnosis.plan);
    assert!(
        plan.iter()
            .any(|step| step.contains("hold tank/ezz/newjail/1@1")),
        "{plan:#?}"
    );
}

/// The jail does not start, so this is more than information; but a merge that is still at work is not undone.
#[test]
fn an_interrupted_merge_is_debris_and_taken_back() {
    let (mut site, mut facts) = looked_at();
    let jails = &mut site.0.inventory.jails;
    let jail = jails.values_mut().next().expect("there");
    let name = jail.name.clone();
    jail.merging = Some(Merging {
        from: GenerationId(1),
        to: GenerationId(2),
        other: serde_json::Map::new(),
    });
    let at_work = diagnosed(&site, &facts);
    assert_eq!(only(&at_work), (What::Merging, Severity::Info, "jail a"));
    assert!(at_work.plan.steps.is_empty());
    let own = Doomed {
        name: "tank/ezz/jails/a@ezz-merge-1-2".to_owned(),
        guid: 7,
    };
    let mut snapshots = Snapshots {
        of_merges: vec![own],
        ..Snapshots::default()
    };
    facts.interrupted.insert(name.clone(), snapshots.clone());
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        only(&diagnosis),
        (What::Merging, Severity::Debris, "jail a")
    );
    assert!(diagnosis.findings[0].repairable);
    let plan = told(&diagnosis.plan);
    let at = |words: &str| plan.iter().position(|step| step.contains(words));
    let (back, gone) = (at("roll back to"), at("destroy"));
    assert!(
        back.is_some() && back < gone && gone.is_some_and(|gone| gone + 1 < plan.len()),
        "{plan:#?}"
    );
    // Without the snapshot, the merge has not changed anything yet.
    facts.interrupted.insert(name.clone(), Snapshots::default());
    let plan = told(&diagnosed(&site, &facts).plan);
    assert!(
        !plan.iter().any(|step| step.contains("roll back")),
        "{plan:#?}"
    );
    // A snapshot that others have taken since is not destroyed.
    snapshots.newer.push("tank/ezz/jails/a@hourly".to_owned());
    facts.interrupted.insert(name, snapshots);
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        only(&diagnosis),
        (What::Merging, Severity::Broken, "jail a")
    );
    assert!(diagnosis.plan.steps.is_empty());
}

/// No command of ezz leaves half of a generation, so no half may be destroyed.
#[test]
fn halves_of_a_generation_are_broken_and_left_alone() {
    let (mut site, mut facts) = looked_at();
    let generations = &mut site.0.inventory.generations;
    let one = generations.get_mut(&GenerationId(1)).expect("there");
    one.base = None;
    facts.abandoned = vec![GenerationId(1)];
    facts.holds.clear();
    facts.snapshots.remove("tank/ezz/basejail/1@1");
    let diagnosis = diagnosed(&site, &facts);
    let all = findings(&diagnosis);
    assert!(
        all.contains(
            &"Broken generation debian-12.1.1: its base is missing, and its skeleton is sealed"
                .to_owned()
        ),
        "{all:#?}"
    );
    assert!(diagnosis.plan.steps.is_empty(), "{}", diagnosis.plan);

    let (mut site, facts) = looked_at();
    let generations = &mut site.0.inventory.generations;
    generations
        .get_mut(&GenerationId(1))
        .expect("there")
        .skeleton = None;
    let diagnosis = diagnosed(&site, &facts);
    let kinds: Vec<What> = diagnosis
        .findings
        .iter()
        .map(|finding| finding.kind)
        .collect();
    assert_eq!(kinds, [What::Half, What::GenerationMissing]);

    let (site, mut facts) = looked_at();
    let name = "tank/ezz/newjail/1@1";
    facts.snapshots.get_mut(name).expect("there").sealed = false;
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        only(&diagnosis),
        (What::SealMissing, Severity::Broken, name)
    );

    // Neither half is sealed, but one has a snapshot: this is not left by an install, which takes snapshots at the
    // seal.
    let site = installed().staged(2);
    let mut facts = healthy(&site);
    facts.abandoned = vec![GenerationId(2)];
    let plain = Snapshot {
        sealed: false,
        holds: 0,
    };
    facts
        .snapshots
        .insert("tank/ezz/newjail/2@2".to_owned(), plain);
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        only(&diagnosis),
        (What::SealMissing, Severity::Broken, "generation 2")
    );
    assert!(diagnosis.plan.steps.is_empty(), "{}", diagnosis.plan);
}

#[test]
fn a_running_jail_without_limits_is_told() {
    let mut site = installed().jail("a", config(Kind::Thin, 1));
    site = site.jail("b", config(Kind::Thin, 1));
    let base = Some("tank/ezz/basejail/1".to_owned());
    let state = JailState::Running { id: 42, base };
    site.0.states.insert(jail_name("a"), state);
    let mut facts = healthy(&site);
    assert!(diagnosed(&site, &facts).findings.is_empty());
    // A jail that has ended meanwhile has no limits either, and needs none.
    facts.without_limits = vec![jail_name("a"), jail_name("b")];
    let found = diagnosed(&site, &facts);
    assert_eq!(
        only(&found),
        (What::LimitsMissing, Severity::Info, "jail a")
    );
    assert!(found.plan.steps.is_empty(), "{}", found.plan);
}

#[test]
fn a_running_jail_that_is_behind_is_told() {
    let runs = |config: JailConfig, base: &str| {
        let mut site = installed()
            .sealed(2)
            .track("main", Some(2))
            .jail("a", config);
        let base = Some(format!("tank/ezz/basejail/{base}"));
        let state = JailState::Running { id: 42, base };
        site.0.states.insert(jail_name("a"), state);
        let facts = healthy(&site);
        diagnosed(&site, &facts)
    };
    let pinned = JailConfig {
        base: Base::Pin(GenerationId(1)),
        ..config(Kind::Thin, 1)
    };
    let behind = runs(config(Kind::Thin, 1), "1");
    assert_eq!(only(&behind), (What::Behind, Severity::Info, "jail a"));
    assert!(
        findings(&behind)[0]
            .ends_with("but generation 2 is due: its own files are at generation 1")
    );
    for (config, base) in [
        (config(Kind::Thin, 2), "2"),
        (pinned, "1"),
        (config(Kind::Thick, 1), "1"),
    ] {
        assert_eq!(findings(&runs(config, base)), [""; 0]);
    }
}

#[test]
fn a_number_that_would_be_given_away_twice_is_broken() {
    let mut site = installed();
    site.0.inventory.site.seq = 0;
    let facts = healthy(&site);
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        only(&diagnosis),
        (What::SeqBehind, Severity::Broken, "tank/ezz")
    );
    let hint = diagnosis.findings[0].hint.as_deref();
    assert_eq!(hint, Some("`zfs set ezz:seq=1 tank/ezz`"));
}

#[test]
fn a_part_of_the_site_that_is_missing_is_broken() {
    let (site, mut facts) = looked_at();
    facts.datasets.remove("tank/ezz/newjail");
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        only(&diagnosis),
        (What::DatasetMissing, Severity::Broken, "tank/ezz/newjail")
    );
}

/// The names in the JSON output are stable.
#[test]
fn json_says_kind_cause_and_hint() {
    let site = installed().staged(2);
    let mut facts = healthy(&site);
    facts.abandoned = vec![GenerationId(2)];
    let diagnosis = diagnose(&site.0, &facts, true).expect("a diagnosis");
    let json = serde_json::to_value(&diagnosis.findings[0]).expect("JSON");
    assert_eq!(
        json,
        serde_json::json!({
            "kind": "unsealed",
            "severity": "debris",
            "object": "generation 2",
            "what": "it was never sealed, and no command is building it",
            "repairable": false,
            "cause": "an install or update that was killed",
        })
    );
    let kinds = [
        (What::RunsWithoutDataset, "runs-without-dataset"),
        (What::PropertyDangerous, "property-dangerous"),
        (What::HoldForeign, "hold-foreign"),
    ];
    for (kind, text) in kinds {
        assert_eq!(serde_json::to_value(kind).expect("JSON"), text);
    }
}

/// A clone that was never committed, and its directory.
#[test]
fn the_directory_of_an_uncommitted_clone_goes_with_it() {
    let mut site = installed()
        .intent("ezz:intent:3:0", &["y"])
        .debris("y", "ezz:intent:3:0");
    let facts = Facts {
        entries: vec![entry("y", EntryKind::Empty)],
        ..healthy(&site)
    };
    for mounted in [true, false] {
        let debris = site.0.inventory.debris.get_mut(&jail_name("y"));
        debris.expect("it was added").jail.mounted = mounted;
        let diagnosis = diagnosed(&site, &facts);
        let left = |found: &&ezz::plan::finding::Finding| found.kind == What::DirectoryLeft;
        assert!(
            !diagnosis.findings.iter().any(|f| left(&f)),
            "it is the clone's"
        );
        let removals = told(&diagnosis.plan);
        let removals = removals.iter().filter(|line| line.starts_with("remove"));
        assert_eq!(removals.count(), 1, "{}", diagnosis.plan);
    }
}

/// Its owner decides whether the jail is to run.
#[test]
fn a_jail_that_a_move_left_down_is_named_and_not_started() {
    let site = installed().thin("a").thin("b").running("b");
    let facts = Facts {
        moving: [jail_name("a"), jail_name("b"), jail_name("gone")].into(),
        ..healthy(&site)
    };
    let diagnosis = diagnosed(&site, &facts);
    assert_eq!(
        findings(&diagnosis),
        ["Broken jail a: it is stopped: it was not started again on another basejail"]
    );
    let hint = diagnosis.findings[0].hint.as_deref();
    assert_eq!(
        hint,
        Some("`ezz converge a` starts it, `ezz stop a` leaves it stopped")
    );
    assert_eq!(diagnosis.findings[0].kind, What::LeftDown);
    assert!(diagnosis.plan.steps.is_empty());
}
