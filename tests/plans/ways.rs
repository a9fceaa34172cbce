//! The snapshots around merges: which way brings a jail to a generation, how a merge is undone, and which snapshots are
//! destroyed.

use std::collections::BTreeMap;

use ezz::model::{Base, Kind, Merging, Phase, Rollout, Served, UnderWay};
use ezz::name::GenerationId;
use ezz::plan::Doomed;
use ezz::plan::due::Due;
use ezz::plan::merge::{begin, finish, undo};
use ezz::plan::prune::{Request, prune};
use ezz::plan::ways::{Snapshots, Way, last, way};

use super::inventory::{Built, config, installed, jail_name, told, track_name};

const JAIL: &str = "tank/ezz/jails/a";

/// Returns a site with generations 1 to 3; the track main is at 1, and was at 2; the files of jail a are at 2.
fn rolled_back() -> Built {
    let mut site = installed()
        .sealed(2)
        .sealed(3)
        .jail("a", config(Kind::Thin, 2));
    let inventory = &mut site.0.inventory;
    let main = inventory
        .tracks
        .get_mut(&track_name("main"))
        .expect("there");
    main.previous = Some(GenerationId(2));
    let two = inventory
        .generations
        .get_mut(&GenerationId(2))
        .expect("there");
    two.served = Some(Served {
        track: track_name("main"),
        other: serde_json::Map::new(),
    });
    site
}

fn due(from: u32, to: u32) -> Due {
    Due {
        jail: jail_name("a"),
        from: GenerationId(from),
        to: GenerationId(to),
        follow: None,
    }
}

fn doomed(names: &[&str]) -> Vec<Doomed> {
    let each = names.iter().zip(1..);
    each.map(|(name, guid)| Doomed {
        name: format!("{JAIL}@{name}"),
        guid,
    })
    .collect()
}

fn pair(from: u32, to: u32) -> Option<(GenerationId, GenerationId)> {
    Some((GenerationId(from), GenerationId(to)))
}

fn undo_of(from: u32, to: u32) -> Way {
    Way::Undo {
        from: GenerationId(from),
        to: GenerationId(to),
    }
}

#[test]
fn the_last_merge_is_one_with_both_snapshots_and_none_after_it() {
    for (names, expected) in [
        (&["a@ezz-merge-1-2", "a@ezz-merged-1-2"][..], pair(1, 2)),
        (&["a@ezz-merge-1-2"], None),
        (&["a@ezz-merged-1-2"], None),
        (&[], None),
        // A merge that was done after an interrupted one.
        (
            &["a@ezz-merge-1-2", "a@ezz-merged-1-2", "a@ezz-merge-2-3"],
            None,
        ),
        (
            &[
                "a@ezz-merge-1-2",
                "a@ezz-merged-1-2",
                "a@ezz-merge-2-3",
                "a@ezz-merged-2-3",
            ],
            pair(2, 3),
        ),
        (&["a@ezz-merge-1-x", "a@ezz-merged-1-x"], None),
    ] {
        assert_eq!(last(names), expected, "{names:?}");
    }
}

#[test]
fn a_jail_comes_back_only_on_the_way_that_it_went() {
    let site = rolled_back();
    let inventory = &site.0.inventory;
    let back = due(2, 1);
    assert_eq!(way(inventory, &back, pair(1, 2)), undo_of(1, 2));
    assert_eq!(way(inventory, &back, pair(3, 2)), Way::Back);
    assert_eq!(way(inventory, &back, None), Way::Back);
    assert_eq!(way(inventory, &due(2, 3), None), Way::Forward);
    // A merge that was itself the way back is not undone on the way forward.
    assert_eq!(way(inventory, &due(1, 2), pair(2, 1)), Way::Forward);
    // Another track may be at an older number; its conflicts are left to the administrator.
    let mut other = rolled_back();
    other.with_jail("a", |jail| {
        jail.config.as_mut().expect("valid").base = Base::Track(track_name("other"));
    });
    assert_eq!(way(&other.0.inventory, &back, None), Way::Forward);
    assert_eq!(way(&other.0.inventory, &back, pair(1, 2)), undo_of(1, 2));
    let follow = Due {
        follow: Some(track_name("main")),
        ..back
    };
    assert_eq!(way(inventory, &follow, None), Way::Forward);
}

/// A generation with the skeleton of another needs no merge: the numbers of the last one are not those of the way back.
#[test]
fn a_merge_is_undone_across_generations_with_the_same_skeleton() {
    let site = |digests: [&str; 3]| {
        let mut site = rolled_back();
        for (id, digest) in (1..).zip(digests) {
            site = site.content(id, digest);
        }
        site.with_jail("a", |jail| {
            jail.config.as_mut().expect("valid").skel = GenerationId(3)
        });
        site
    };
    // It went from 1 to 2, and was at 3 without a merge; or it went from 1 to 3, and comes back to 2.
    for (digests, back, last) in [
        (["a", "b", "b"], due(3, 1), pair(1, 2)),
        (["a", "a", "b"], due(3, 2), pair(1, 3)),
    ] {
        let (from, to) = last.expect("there");
        let expected = Way::Undo { from, to };
        let (site, other) = (site(digests), site(["a", "b", "c"]));
        assert_eq!(way(&site.0.inventory, &back, last), expected);
        assert_ne!(way(&other.0.inventory, &back, last), expected);
    }
    // So the snapshots of the merge are needed as long as such a generation is.
    for (digests, names) in [
        (["a", "b", "b"], ["ezz-merge-1-2", "ezz-merged-1-2"]),
        (["a", "a", "b"], ["ezz-merge-1-3", "ezz-merged-1-3"]),
    ] {
        let mut site = site(digests);
        let tracks = &mut site.0.inventory.tracks;
        let previous = if digests[1] == "a" { 2 } else { 1 };
        tracks.get_mut(&track_name("main")).expect("there").previous = Some(GenerationId(previous));
        let request = Request {
            of_merges: doomed(&names),
            ..Request::default()
        };
        let steps = told(&prune(&site.0, &request).expect("planned"));
        let goes = |what: &str| steps.iter().any(|step| step.contains(what));
        assert!(!goes(names[0]), "{steps:#?}");
        // What the way back is known by is the skeleton that the merge came from.
        assert!(!goes("newjail/1"), "{steps:#?}");
    }
}

#[test]
fn a_roll_out_to_an_older_generation_turns_back_on_the_way_that_it_went() {
    let mut site = installed().sealed(2).jail("a", config(Kind::Thin, 1));
    let rollout = |phase| Rollout {
        from: GenerationId(2),
        to: GenerationId(1),
        previous: None,
        phase,
        canaries: Vec::new(),
        batch: 1,
        pause: 0,
        health: None,
        limit: 60,
        failed: None,
        spared: false,
        at: String::new(),
        by: String::new(),
        why: String::new(),
        other: serde_json::Map::new(),
    };
    for (phase, expected) in [(Phase::Swapped, Way::Forward), (Phase::Back, undo_of(2, 1))] {
        let found = UnderWay {
            text: String::new(),
            rollout: Ok(rollout(phase)),
        };
        site.0.inventory.rollouts = BTreeMap::from([(track_name("main"), found)]);
        assert_eq!(way(&site.0.inventory, &due(1, 2), pair(2, 1)), expected);
    }
}

#[test]
fn both_snapshots_are_made_and_the_second_before_the_mark_goes() {
    let site = rolled_back();
    let there = Snapshots {
        of_merges: doomed(&["ezz-merge-2-3", "ezz-merged-2-3", "ezz-merge-1-2"]),
        ..Snapshots::default()
    };
    let (plan, later) = begin(&site.0.inventory, &due(2, 3), &there).expect("planned");
    let steps = told(&plan);
    assert!(
        steps[0].contains("ezz-merge-2-3") && steps[0].contains("ezz-merged-2-3"),
        "{steps:#?}"
    );
    assert_eq!(
        steps.last().map(String::as_str),
        Some("snapshot tank/ezz/jails/a@ezz-merge-2-3")
    );
    assert_eq!(later, doomed(&["", "", "ezz-merge-1-2"])[2..]);
    let plan = finish(&site.0.inventory, &due(2, 3), true).expect("planned");
    let steps = told(&plan);
    assert_eq!(steps[0], "snapshot tank/ezz/jails/a@ezz-merged-2-3");
    assert!(steps[1].contains("ezz:merging"), "{steps:#?}");
    let plan = finish(&site.0.inventory, &due(2, 1), false).expect("planned");
    let steps = told(&plan);
    assert!(
        !steps.iter().any(|step| step.starts_with("snapshot")),
        "an undoing leaves no way back: {steps:#?}"
    );
}

#[test]
fn a_merge_that_was_killed_after_its_second_snapshot_is_taken_back() {
    let mut site = rolled_back();
    site.with_jail("a", |jail| {
        jail.merging = Some(Merging {
            from: GenerationId(2),
            to: GenerationId(3),
            other: serde_json::Map::new(),
        });
    });
    let there = Snapshots {
        of_merges: doomed(&[
            "ezz-merge-2-3",
            "ezz-merged-2-3",
            "ezz-merge-1-2",
            "ezz-merged-1-2",
        ]),
        ..Snapshots::default()
    };
    let plan = undo(&site.0.inventory, &jail_name("a"), &there).expect("planned");
    let steps = told(&plan);
    let at = |words: &str| steps.iter().position(|step| step.contains(words));
    let second = at("@ezz-merged-2-3");
    let (back, first) = (
        at("roll back to"),
        steps.iter().rposition(|it| it.contains("@ezz-merge-2-3")),
    );
    let mark = at("ezz:merging");
    assert!(second < back && back < first && first < mark, "{steps:#?}");
    // The way back of the previous merge stays.
    assert_eq!(at("1-2"), None, "{steps:#?}");
}

#[test]
fn prune_clears_the_snapshots_of_merges_that_nothing_needs() {
    let names = ["ezz-merge-1-2", "ezz-merged-1-2"];
    let request = Request {
        of_merges: doomed(&names),
        ..Request::default()
    };
    let cleared = |site: &Built| {
        let plan = prune(&site.0, &request).expect("planned");
        told(&plan)
            .iter()
            .any(|step| names.iter().all(|name| step.contains(name)))
    };
    let previous = |site: &mut Built, id| {
        let tracks = &mut site.0.inventory.tracks;
        tracks.get_mut(&track_name("main")).expect("there").previous = Some(GenerationId(id));
    };
    let mut site = rolled_back();
    assert!(!cleared(&site), "the jail is to come back");
    let tracks = &mut site.0.inventory.tracks;
    tracks.get_mut(&track_name("main")).expect("there").current = Some(GenerationId(2));
    previous(&mut site, 1);
    assert!(!cleared(&site), "it is the way back");
    previous(&mut site, 3);
    assert!(cleared(&site), "no track goes back there");
    previous(&mut site, 1);
    site.with_jail("a", |jail| {
        jail.config.as_mut().expect("valid").skel = GenerationId(3)
    });
    assert!(cleared(&site), "it was merged once more");
    site.with_jail("a", |jail| {
        jail.merging = Some(Merging {
            from: GenerationId(1),
            to: GenerationId(2),
            other: serde_json::Map::new(),
        });
    });
    assert!(!cleared(&site), "a merge is under way");
}
