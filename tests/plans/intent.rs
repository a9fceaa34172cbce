//! Where programs cannot clone: the plan of `create`, and how each verb deals with what a killed one left.

use ezz::model::{Intent, Kind, Labels, MAX_VALUE};
use ezz::name::GenerationId;
use ezz::plan::create::{Of, Request, create};
use ezz::plan::delete::{delete, unfinished};
use ezz::plan::deletion;
use ezz::plan::doctor::{Facts, diagnose};
use ezz::plan::finding::Severity;
use ezz::plan::new::Choice;
use ezz::plan::{Commit, Directory, Expect, MOST_IN_ONE, Plan, PlanError, Step, power};

use super::inventory::*;

fn request(list: &[&str]) -> Request {
    Request {
        names: names(list),
        of: Of::World {
            kind: Kind::Thin,
            base: Choice::Track(track_name("main")),
            network: ezz::model::Network::Host,
            health: None,
        },
        hostname: None,
        addresses: Vec::new(),
        pools: Vec::new(),
        labels: Labels::default(),
        limits: ezz::model::AskedLimits::default(),
        params: ezz::model::Params::default(),
        datasets: Vec::new(),
        quota: None,
        defaults: ezz::model::Defaults::default(),
        boot: None,
        nested_userns: None,
        flavours: Vec::new(),
        start: false,
        atomic: false,
    }
}

fn old() -> Built {
    installed().no_sync_clone()
}

/// Returns a site with the intent 3:0: x and y are debris, and z was not cloned yet.
fn interrupted() -> Built {
    installed()
        .intent("ezz:intent:3:0", &["x", "y", "z"])
        .debris("x", "ezz:intent:3:0")
        .debris("y", "ezz:intent:3:0")
}

const CLEARED: [&str; 6] = [
    "unmount tank/ezz/jails/x from /srv/jails/x",
    "unmount tank/ezz/jails/y from /srv/jails/y",
    "remove the empty directory /srv/jails/x",
    "remove the empty directory /srv/jails/y",
    "epoch 5: destroy tank/ezz/jails/x tank/ezz/jails/y",
    "epoch 6: ezz:intent:3:0 of tank/ezz/jails to nothing",
];

const NOTE: &str = "x, y: cleaning up after an interrupted command";

#[test]
fn an_intent_then_clones_then_one_commit() {
    let quota = Some(ezz::model::OrNone(Some(1 << 30)));
    let with_quota = Request {
        quota,
        ..request(&["a", "b"])
    };
    let plan = create(&old().0, &with_quota).expect("a plan");
    let told = told(&plan);
    assert_eq!(
        told[..2],
        [
            r#"epoch 5: ezz:intent:5:0 of tank/ezz/jails to {"kind":"thin","skel":1,"jails":["a","b"]}"#,
            "clone tank/ezz/jails/a from tank/ezz/newjail/1@1 tank/ezz/jails/b from tank/ezz/newjail/1@1",
        ]
    );
    assert!(told[2].starts_with("epoch 6: ezz:jail of tank/ezz/jails/a to "));
    assert!(told[2].ends_with(", ezz:intent:5:0 of tank/ezz/jails to nothing"));
    assert_eq!(told[5], "mount tank/ezz/jails/a at /srv/jails/a");
    assert!(told[9].starts_with("epoch 7: ezz:jail of"), "{told:?}");
    let [
        Commit::Set { sets: intent, .. },
        Commit::Set { sets, .. },
        _,
    ] = commits(&plan)[..]
    else {
        panic!("{plan}");
    };
    assert_eq!(intent[0].expect, Expect::Absent);
    assert_eq!(sets[0].expect, Expect::Absent, "a jail is made once");
    assert!(sets[0].value.as_deref().expect("a value").contains("todo"));
    let text = intent[0].value.clone().expect("a text");
    assert_eq!(sets[2].expect, Expect::Value(text), "its own intent");
}

#[test]
fn a_program_that_clones_has_its_intent_with_it() {
    let plan = create(&installed().0, &request(&["a", "b"])).expect("a plan");
    let [Commit::Create { intents, .. }] = commits(&plan)[..] else {
        panic!("{plan}");
    };
    let text = r#"{"kind":"thin","skel":1,"jails":["a","b"]}"#;
    let expected = ("ezz:intent:5:0".to_owned(), text.to_owned());
    assert_eq!(Vec::from_iter(intents.clone()), [expected]);
}

#[test]
fn a_thousand_long_names_are_several_properties_of_one_program() {
    let wanted: Vec<String> = (0..MOST_IN_ONE)
        .map(|n| format!("{}{n:04}", "j".repeat(59)))
        .collect();
    let list: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let plan = create(&old().0, &request(&list)).expect("a plan");
    told(&plan);
    let [Commit::Set { sets: intent, .. }, Commit::Set { sets, .. }] = commits(&plan)[..] else {
        panic!("{}", plan.steps.len());
    };
    let mut named = Vec::new();
    for set in intent {
        let text = set.value.as_deref().expect("a text");
        assert!(
            text.len() <= MAX_VALUE && text.len() > MAX_VALUE / 4,
            "{}",
            text.len()
        );
        let parsed: Intent = serde_json::from_str(text).expect("an intent");
        assert_eq!((parsed.kind, parsed.skel), (Kind::Thin, GenerationId(1)));
        named.extend(parsed.jails);
    }
    let removed: Vec<&str> = sets[MOST_IN_ONE..]
        .iter()
        .map(|set| &*set.property)
        .collect();
    let announced: Vec<&str> = intent.iter().map(|set| &*set.property).collect();
    assert_eq!(
        removed, announced,
        "the mark goes first: from then on all are jails"
    );
    assert_eq!(named, names(&list), "each once, in order");
    assert_eq!(sets.len(), MOST_IN_ONE + intent.len());
    assert!(matches!(&plan.steps[1], Step::Clone { clones } if clones.len() == MOST_IN_ONE));
}

#[test]
fn too_little_space_is_refused_beforehand() {
    let mut site = old();
    // The space that the committing program needs for 100 properties and their undo.
    site.0.inventory.site.available = 100 * 2 * 96 * 1024;
    let wanted: Vec<String> = (0..100).map(|n| format!("j{n}")).collect();
    let list: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let refused = create(&site.0, &request(&list)).expect_err("no plan");
    assert!(matches!(refused, PlanError::Space { .. }), "{refused}");
}

#[test]
fn what_a_killed_create_left_is_cleared_first() {
    let expect = |plan: &Plan, next: &str| {
        let told = told(plan);
        assert_eq!(told[..6], CLEARED);
        assert!(told[6].starts_with(next), "{told:?}");
        assert_eq!(plan.notes[0], NOTE);
    };
    // The same names again or others, with either kind of program.
    for list in [&["x", "y", "z"][..], &["other"]] {
        let plan = create(&interrupted().0, &request(list)).expect("a plan");
        expect(&plan, "epoch 7: clone ");
        let site = interrupted().no_sync_clone();
        let plan = create(&site.0, &request(list)).expect("a plan");
        expect(&plan, "epoch 7: ezz:intent:7:0 of ");
    }
    let plan = unfinished(&interrupted().0).expect("a plan");
    assert_eq!(told(&plan), CLEARED);
    // A start that commits nothing leaves the debris to a command that does.
    let plan = power::start(&interrupted().thin("b").0, &names(&["b"])).expect("a plan");
    assert!(commits(&plan).is_empty(), "{plan}");
}

#[test]
fn delete_takes_it_along_and_by_name() {
    let site = interrupted().thin("www");
    let wanted = |list: &[&str], below: &[&str]| deletion::Request {
        names: names(list),
        foreign: true,
        below: below
            .iter()
            .map(|name| deletion::Below {
                name: (*name).to_owned(),
                guid: 900,
                clones: Vec::new(),
                held: false,
            })
            .collect(),
    };
    let plan = delete(&site.0, &wanted(&["www", "x"], &[])).expect("a plan");
    assert_eq!(
        told(&plan),
        [
            "unmount tank/ezz/jails/www from /srv/jails/www",
            "unmount tank/ezz/jails/x from /srv/jails/x",
            "unmount tank/ezz/jails/y from /srv/jails/y",
            "remove the derived files of www",
            "remove the empty directory /srv/jails/www",
            "remove the derived files of x",
            "remove the empty directory /srv/jails/x",
            "remove the empty directory /srv/jails/y",
            "epoch 5: destroy tank/ezz/jails/www tank/ezz/jails/x tank/ezz/jails/y",
            "epoch 6: ezz:intent:3:0 of tank/ezz/jails to nothing",
        ]
    );
    let mut site = site;
    site.with_debris("x", |debris| {
        debris.below = vec!["tank/ezz/jails/x@s".to_owned()]
    });
    let plan = delete(&site.0, &wanted(&["x"], &["tank/ezz/jails/x@s"])).expect("a plan");
    assert_eq!(
        told(&plan)[5..7],
        [
            "epoch 5: destroy tank/ezz/jails/x@s tank/ezz/jails/x tank/ezz/jails/y",
            "epoch 6: ezz:intent:3:0 of tank/ezz/jails to nothing",
        ]
    );
}

#[test]
fn the_mark_goes_last_and_stays_with_what_stays() {
    let mut site = installed()
        .intent("ezz:intent:3:0", &["v"])
        .intent("ezz:intent:3:1", &["w"])
        .intent("ezz:intent:3:2", &["x"])
        .debris("x", "ezz:intent:3:2");
    let removed = |site: &Built| -> Vec<String> {
        let plan = unfinished(&site.0).expect("a plan");
        let commits = commits(&plan);
        let Some(Commit::Set { sets, .. }) = commits.last() else {
            panic!("{plan}");
        };
        let parts = sets
            .iter()
            .map(|set| set.property["ezz:intent:".len()..].to_owned());
        parts.collect()
    };
    assert_eq!(removed(&site), ["3:2", "3:1", "3:0"]);
    site.with_debris("x", |debris| {
        debris.below = vec!["tank/ezz/jails/x@s".to_owned()]
    });
    assert_eq!(removed(&site), ["3:1"]);
}

/// Another program took a snapshot of the debris: ezz does not destroy it unasked, and the intent stays.
#[test]
fn debris_with_something_below_it_stays_with_its_intent() {
    let mut site = interrupted();
    site.with_debris("x", |debris| {
        debris.below = vec!["tank/ezz/jails/x@s".to_owned()]
    });
    let plan = create(&site.0, &request(&["other"])).expect("a plan");
    assert_eq!(
        told(&plan)[..4],
        [
            "unmount tank/ezz/jails/y from /srv/jails/y",
            "remove the empty directory /srv/jails/y",
            "epoch 5: destroy tank/ezz/jails/y",
            "epoch 6: clone other from tank/ezz/newjail/1@1",
        ]
    );
    let refused = create(&site.0, &request(&["x"])).expect_err("no plan");
    assert!(matches!(refused, PlanError::Foreign { .. }), "{refused}");
    let found = diagnose(&site.0, &Facts::default(), false).expect("a diagnosis");
    let x = found
        .findings
        .iter()
        .find(|f| f.object == "jail x")
        .expect("told");
    assert!(!x.repairable && x.what.contains("x@s"), "{x:?}");
}

#[test]
fn it_is_no_jail_to_other_verbs() {
    let site = interrupted();
    for refused in [
        power::start(&site.0, &names(&["x"])),
        power::stop(&site.0, &names(&["x"])),
        power::restart(&site.0, &names(&["x"])),
    ] {
        let refused = refused.expect_err("no plan").to_string();
        assert_eq!(
            refused,
            "the creation or deletion of x was interrupted, or is under way"
        );
    }
    // Files in its directory are not hidden by a mount of the next jail.
    let occupied = site.directory("x", Directory::Occupied);
    let refused = create(&occupied.0, &request(&["x"])).expect_err("no plan");
    assert!(matches!(refused, PlanError::Directory { .. }), "{refused}");
}

#[test]
fn doctor_finds_and_clears_it_but_not_at_boot() {
    let found = |built: &Built, derived| {
        diagnose(&built.0, &Facts::default(), derived).expect("a diagnosis")
    };
    let of = |diagnosis: &ezz::plan::doctor::Diagnosis| -> Vec<(Severity, String, bool)> {
        let ours = |object: &str| object.starts_with("jail ") || object == "tank/ezz/jails";
        let findings = diagnosis.findings.iter().filter(|f| ours(&f.object));
        findings
            .map(|f| (f.severity, f.object.clone(), f.repairable))
            .collect()
    };
    let both = |repairable| {
        ["jail x", "jail y"].map(|jail| (Severity::Debris, jail.to_owned(), repairable))
    };
    let repair = found(&interrupted(), false);
    assert_eq!(of(&repair), both(true));
    let told: Vec<String> = told(&repair.plan);
    assert!(told.ends_with(&CLEARED.map(str::to_owned)), "{told:?}");
    let boot = found(&interrupted(), true);
    assert_eq!(of(&boot), both(false));
    assert!(commits(&boot.plan).is_empty(), "{}", boot.plan);
    // An intent whose clones were never made, or were destroyed.
    let only = installed().intent("ezz:intent:3:0", &["x"]);
    let repair = found(&only, false);
    assert_eq!(
        of(&repair),
        [(Severity::Debris, "tank/ezz/jails".to_owned(), true)]
    );
    assert_eq!(commits(&repair.plan).len(), 1);
}
