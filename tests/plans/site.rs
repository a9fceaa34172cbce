//! `init`, `track create`, `track delete`, the adoption of a replica.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ezz::model::{Base, JailConfig, Kind, Layout, SwapLog, property};
use ezz::name::GenerationId;
use ezz::plan::site::{Adopt, Init, adopt, init, track_create, track_delete};
use ezz::plan::{Commit, Expect, PlanError};

use super::inventory::*;

fn initial() -> Init {
    Init {
        layout: Layout::new(dataset("tank/a/ezz")).expect("short"),
        directory: PathBuf::from("/srv/jails"),
        id: "id".to_owned(),
        existing: Vec::new(),
        parents: Vec::new(),
        initialised: false,
        unready: None,
        native: BTreeMap::new(),
        snapdir_disabled: true,
    }
}

#[test]
fn a_new_site_is_complete_before_it_is_one() {
    let request = Init {
        parents: vec![dataset("tank/a")],
        native: BTreeMap::from([("acltype".to_owned(), "posix".to_owned())]),
        ..initial()
    };
    assert_eq!(
        told(&init(&request)),
        [
            "create tank/a canmount=off mountpoint=none",
            "create tank/a/ezz acltype=posix atime=off devices=off mountpoint=/srv/jails",
            "create tank/a/ezz/basejail canmount=off com.sun:auto-snapshot=false readonly=on snapdir=disabled",
            "create tank/a/ezz/newjail canmount=off com.sun:auto-snapshot=false",
            "create tank/a/ezz/jails canmount=off mountpoint=/srv/jails",
            "commit: make it a site with id id",
            "mount tank/a/ezz at /srv/jails",
        ]
    );
}

#[test]
fn what_an_interrupted_init_made_is_kept_and_gets_its_properties() {
    let request = Init {
        existing: vec![dataset("tank/a/ezz"), dataset("tank/a/ezz/newjail")],
        snapdir_disabled: false,
        ..initial()
    };
    assert_eq!(
        told(&init(&request)),
        [
            "set canmount=off on tank/a/ezz/newjail",
            "set com.sun:auto-snapshot=false on tank/a/ezz/newjail",
            "set atime=off on tank/a/ezz",
            "set devices=off on tank/a/ezz",
            "set mountpoint=/srv/jails on tank/a/ezz",
            "create tank/a/ezz/basejail canmount=off com.sun:auto-snapshot=false readonly=on",
            "create tank/a/ezz/jails canmount=off mountpoint=/srv/jails",
            "commit: make it a site with id id",
            "mount tank/a/ezz at /srv/jails",
        ]
    );
    let done = init(&Init {
        initialised: true,
        ..initial()
    });
    assert!(done.steps.is_empty());
    assert_eq!(done.notes, ["tank/a/ezz is already a site"]);
}

#[test]
fn a_track_is_set_only_if_nobody_set_it_meanwhile() {
    let site = installed();
    let plan = track_create(&site.0.inventory, &track_name("14"), Some("1")).expect("a plan");
    assert_eq!(
        told(&plan),
        [
            r#"epoch 5: ezz:track:14 of tank/ezz/basejail to {"current":1,"previous":null}"#,
            "link the track 14 to generation 1",
        ]
    );
    let [
        Commit::Set {
            sets,
            sealed,
            adopt,
            ..
        },
    ] = commits(&plan)[..]
    else {
        panic!("{plan}");
    };
    assert_eq!((&sets[0].expect, *adopt), (&Expect::Absent, false));
    let sealed: Vec<String> = sealed.iter().map(ToString::to_string).collect();
    assert_eq!(sealed, ["tank/ezz/basejail/1@1", "tank/ezz/newjail/1@1"]);
    let empty = track_create(&site.0.inventory, &track_name("new"), None).expect("a plan");
    assert_eq!(told(&empty).len(), 1, "there is nothing to link to");
}

#[test]
fn a_track_that_exists_stays_as_it_is() {
    let site = installed().sealed(2).thin("web");
    let create =
        |name: &str, generation| track_create(&site.0.inventory, &track_name(name), generation);
    for generation in [None, Some("1")] {
        let plan = create("main", generation).expect("a plan");
        // After a kill the link of the track may be missing.
        assert_eq!(told(&plan), ["link the track main to generation 1"]);
        assert_eq!(plan.notes, ["the track main already exists"]);
    }
    assert!(matches!(
        create("main", Some("2")),
        Err(PlanError::TrackExists(_))
    ));
    assert!(matches!(
        create("web", None),
        Err(PlanError::TrackIsJail(_))
    ));
    assert!(matches!(
        create("new", Some("9")),
        Err(PlanError::Generation(_))
    ));
}

#[test]
fn a_track_goes_with_its_log_and_its_link() {
    let mut site = installed();
    let main = track_name("main");
    let log = SwapLog {
        swaps: Vec::new(),
        text: "[]".to_owned(),
    };
    site.0.inventory.swaps.insert(main.clone(), log);
    let plan = track_delete(&site.0.inventory, &main, true).expect("a plan");
    assert_eq!(
        told(&plan),
        [
            "epoch 5: ezz:served of tank/ezz/basejail/1 to {\"track\":\"main\"}, ezz:swaps:main of tank/ezz/basejail to nothing, ezz:track:main of tank/ezz/basejail to nothing",
            "remove the link and the downloads of the track main",
        ]
    );
    let [Commit::Set { sets, .. }] = commits(&plan)[..] else {
        panic!("{plan}");
    };
    // A mark with a constant value needs no comparison.
    let compared = sets.iter().filter(|set| set.property != property::SERVED);
    assert_eq!(compared.clone().count(), 2);
    assert!(
        compared
            .into_iter()
            .all(|set| matches!(set.expect, Expect::Value(_)))
    );
}

#[test]
fn a_track_that_is_needed_stays() {
    let pin = JailConfig {
        base: Base::Pin(GenerationId(1)),
        ..config(Kind::Thin, 1)
    };
    let site = installed().thin("web").thin("db").jail("old", pin.clone());
    let delete =
        |site: &Built, name: &str| track_delete(&site.0.inventory, &track_name(name), false);
    let refused = delete(&site, "main").expect_err("jails follow it");
    assert_eq!(refused.to_string(), "the track main is followed by db, web");
    assert!(matches!(delete(&site, "none"), Err(PlanError::NoTrack(_))));
    let left = track_delete(&site.0.inventory, &track_name("none"), true).expect("a plan");
    assert_eq!(
        told(&left),
        ["remove the link and the downloads of the track none"]
    );
    // A pin on the generation alone does not keep the track.
    let pinned = installed().jail("old", pin);
    assert_eq!(told(&delete(&pinned, "main").expect("a plan")).len(), 2);
}

fn received() -> Adopt {
    let property = |dataset: &str, name: &str, value: &str| {
        (dataset.to_owned(), name.to_owned(), value.to_owned())
    };
    Adopt {
        received: vec![
            property("tank/ezz", property::EPOCH, "5"),
            property("tank/ezz", property::FORMAT, "1"),
            property("tank/ezz", property::ID, "theirs"),
            property("tank/ezz/jails/a", property::JAIL, "{}"),
        ],
        id: "ours".to_owned(),
        directory: None,
    }
}

#[test]
fn an_adoption_ends_with_one_program_that_writes_it_all() {
    let site = installed().sealed(2).staged(3).thin("a").replica();
    let plan = adopt(&site.0.inventory, &received());
    assert_eq!(
        told(&plan),
        [
            "hold tank/ezz/basejail/1@1 tank/ezz/newjail/1@1 tank/ezz/basejail/2@2 tank/ezz/newjail/2@2",
            "epoch 5: ezz:id of tank/ezz to ours, ezz:jail of tank/ezz/jails/a to {}, ezz:format of tank/ezz to 1",
        ]
    );
    assert!(matches!(
        commits(&plan)[..],
        [Commit::Set { adopt: true, .. }]
    ));
    let moved = Adopt {
        directory: Some(PathBuf::from("/srv/replica")),
        ..received()
    };
    let told = told(&adopt(&site.0.inventory, &moved));
    assert_eq!(
        told[..2],
        [
            "set mountpoint=/srv/replica on tank/ezz",
            "set mountpoint=/srv/replica on tank/ezz/jails",
        ]
    );
    assert!(
        told[3].starts_with("epoch 5"),
        "the commit comes last: {told:?}"
    );
}

#[test]
fn what_is_no_replica_is_not_adopted_nor_moved() {
    let plan = adopt(
        &installed().0.inventory,
        &Adopt {
            directory: Some(PathBuf::from("/srv/replica")),
            ..received()
        },
    );
    assert!(plan.steps.is_empty());
    assert_eq!(plan.notes, ["tank/ezz is not a replica"]);
}
