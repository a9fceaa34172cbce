//! A jail's own files follow its base: the generation that a jail starts on, and what holds it back.

use ezz::model::{Base, Instead, JailConfig, Kind, decode, property};
use ezz::name::GenerationId;
use ezz::plan::behind::{behind, late};
use ezz::plan::converge::{converge, needs_merge, stay};
use ezz::plan::due::{Way, way};
use ezz::plan::power::{restart, start};
use ezz::plan::prune::{Reason, Request, kept};
use ezz::plan::{Commit, Step};

use super::inventory::*;

const MOVED: &str =
    r#"{"kind":"thin","base":{"track":"main"},"skel":2,"hostname":"h","network":"host"}"#;

/// Returns a site with generations 1 and 2, and with the track at 2; own files of jails are at 1.
fn updated() -> Built {
    installed().sealed(2).track("main", Some(2))
}

/// Returns the configuration of a jail that is held at 1 because of a conflict with a generation.
fn held(with: u32) -> JailConfig {
    JailConfig {
        base: Base::Pin(GenerationId(1)),
        instead: Some(Instead {
            track: track_name("main"),
            of: GenerationId(with),
            other: serde_json::Map::new(),
        }),
        ..config(Kind::Thin, 1)
    }
}

#[test]
fn equal_skeletons_are_one_commit_of_all_jails_that_start() {
    let site = updated().content(1, "x").content(2, "x").unmounted_base(2);
    let site = site.thin("a").thin("b");
    let plan = start(&site.0, &names(&["a", "b"])).expect("a plan");
    assert_eq!(
        told(&plan),
        [
            format!(
                "epoch 5: ezz:jail of tank/ezz/jails/a to {MOVED}, ezz:jail of tank/ezz/jails/b to {MOVED}"
            ),
            "mount tank/ezz/basejail/2 at /srv/jails/basejail/2, read-only".to_owned(),
            "start a".to_owned(),
            "start b".to_owned(),
        ]
    );
    let Step::Commit {
        commit: Commit::Set { sealed, .. },
        ..
    } = &plan.steps[0]
    else {
        panic!("{plan}");
    };
    assert_eq!(sealed.len(), 2, "generation 2 must be sealed still");
    let site = site.running_on("a", 1).running_on("b", 1);
    let plan = restart(&site.0, &names(&["a", "b"])).expect("a plan");
    assert_eq!(told(&plan).len(), 6, "{plan}");
    let plan = converge(&site.0, &names(&["a", "b"]), &[].into()).expect("a plan");
    assert_eq!(told(&plan).len(), 6, "{plan}");
}

#[test]
fn without_a_merge_a_jail_starts_on_what_its_own_files_are_at() {
    for site in [
        // An older ezz has sealed one or both of them.
        updated(),
        updated().content(2, "x"),
        updated().content(1, "x").content(2, "y"),
    ] {
        let site = site.unmounted_base(1).unmounted_base(2).thin("a");
        let plan = start(&site.0, &names(&["a"])).expect("a plan");
        assert_eq!(
            told(&plan),
            [
                "mount tank/ezz/basejail/1 at /srv/jails/basejail/1, read-only",
                "start a",
            ]
        );
        assert!(plan.notes[0].contains("`ezz converge a`"), "{plan}");
        let spec = ezz::plan::spec::observed(&site.0.inventory, &jail_name("a")).expect("complete");
        let base = spec.base.as_ref().expect("thin");
        assert_eq!(base.generation, GenerationId(1));
        assert!(base.path.ends_with("basejail/1"), "{:?}", base.path);
    }
}

#[test]
fn a_jail_that_runs_is_not_restarted_before_its_files_are_merged() {
    let site = updated().thin("a").running_on("a", 1);
    let jail = &site.0.inventory.jails[&jail_name("a")];
    let found = behind(&site.0, jail).expect("it is behind");
    assert_eq!(
        (found.runs, found.target),
        (Some(GenerationId(1)), GenerationId(2))
    );
    let due = needs_merge(&site.0, &jail_name("a"), &[].into()).expect("it can be told");
    assert_eq!(due.expect("a merge").to, GenerationId(2));
    let plan = converge(&site.0, &names(&["a"]), &[].into()).expect("a plan");
    assert!(plan.steps.is_empty(), "{plan}");
    // A jail that a killed restart left down is started in any case.
    let site = updated().thin("a");
    let down = names(&["a"]).into_iter().collect();
    let plan = converge(&site.0, &names(&["a"]), &down).expect("a plan");
    assert_eq!(told(&plan), ["start a"]);
}

#[test]
fn a_stopped_jail_is_marked_too() {
    let site = updated().thin("a").jail("b", config(Kind::Thin, 2));
    let late = |name: &str| late(&site.0, &site.0.inventory.jails[&jail_name(name)]);
    assert!(late("a").is_some() && late("b").is_none());
    let thick = updated().jail("t", config(Kind::Thick, 1));
    assert!(matches!(way(&thick.0, &jail_name("t")), Ok(Way::There)));
}

#[test]
fn a_conflict_pins_until_the_track_has_another_generation() {
    let site = updated().thin("a").jail(
        "hand",
        JailConfig {
            base: Base::Pin(GenerationId(2)),
            ..config(Kind::Thin, 1)
        },
    );
    let plan = stay(&site.0.inventory, &jail_name("a"), GenerationId(2)).expect("a plan");
    let text = told(&plan).remove(0);
    let (_, text) = text.split_once(" to ").expect("a value");
    let pinned: JailConfig = decode("t/e/jails/a", property::JAIL, text).expect("valid");
    assert_eq!(pinned, held(2));
    // A jail that an administrator has pinned stays pinned.
    let plan = stay(&site.0.inventory, &jail_name("hand"), GenerationId(2)).expect("a plan");
    assert!(plan.steps.is_empty(), "{plan}");

    let site = updated().jail("a", held(2));
    assert!(matches!(way(&site.0, &jail_name("a")), Ok(Way::There)));
    // When the track moves forward, the merge is tried again; if it succeeds, the jail follows the track.
    let next = updated()
        .sealed(3)
        .track("main", Some(3))
        .jail("a", held(2));
    let Ok(Way::Files(due)) = way(&next.0, &jail_name("a")) else {
        panic!("nothing to merge");
    };
    assert_eq!(
        (due.to, due.follow),
        (GenerationId(3), Some(track_name("main")))
    );
    // When the track moves back, the jail is already at its generation, and only follows again.
    let back = installed().sealed(2).jail("a", held(2)).running_on("a", 1);
    let plan = restart(&back.0, &names(&["a"])).expect("a plan");
    let text = &told(&plan)[0];
    let (_, text) = text.split_once(" to ").expect("a value");
    let follows: JailConfig = decode("t/e/jails/a", property::JAIL, text).expect("valid");
    assert_eq!(follows, config(Kind::Thin, 1));
    // If the track was removed, the jail stays as it is.
    let mut gone = updated().jail("a", held(2));
    gone.0.inventory.tracks.clear();
    assert!(matches!(way(&gone.0, &jail_name("a")), Ok(Way::There)));
}

#[test]
fn a_base_stays_as_long_as_own_files_are_at_it() {
    let site = updated().sealed(3).track("main", Some(3));
    let pruned = |site: &Built| kept(&site.0, &Request::default());
    let reasons = |site: &Built, id: u32| {
        let reasons = pruned(site).remove(&GenerationId(id)).unwrap_or_default();
        let words = reasons.base.iter().map(ToString::to_string);
        words.collect::<Vec<_>>().join("; ")
    };
    let asked = Request {
        older: Some("2030-01-01T00:00:00Z".to_owned()),
        ..Request::default()
    };
    let untouched = kept(&site.0, &asked).remove(&GenerationId(1));
    assert!(untouched.unwrap_or_default().base.is_empty());
    let stopped = site.clone().thin("a");
    assert!(
        reasons(&stopped, 1).contains("`ezz merge a` frees it"),
        "{}",
        reasons(&stopped, 1)
    );
    let running = site.clone().thin("a").running_on("a", 1);
    assert!(reasons(&running, 1).contains("`ezz converge a` frees it"));
    let held = site.jail("a", held(3));
    let kept = kept(&held.0, &Request::default()).remove(&GenerationId(1));
    let reason = Reason::Held(jail_name("a"), track_name("main"));
    assert!(kept.expect("kept").base.contains(&reason));
    assert!(reason.to_string().contains("`ezz merge a --follow main`"));
}
