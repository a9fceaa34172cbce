//! Stage, seal, reap.

use ezz::model::{Os, Seal};
use ezz::name::GenerationId;
use ezz::plan::generation::reap;
use ezz::plan::world::{seal, stage};
use ezz::plan::{Commit, Expect, Plan};

use super::inventory::*;

fn sealing(built: &Built, id: u32, track: &str) -> Plan {
    let promise = Seal {
        manifest: "m".to_owned(),
        at: "2026-01-01T00:00:00Z".to_owned(),
        skeleton: None,
        release: None,
        other: serde_json::Map::new(),
    };
    let world = world("debian-12.1");
    let inventory = &built.0.inventory;
    seal(
        inventory,
        GenerationId(id),
        &world,
        &promise,
        &track_name(track),
        Os::Linux,
    )
    .expect("a plan")
}

#[test]
fn a_number_is_taken_before_anything_is_made_of_it() {
    let (plan, id) = stage(&installed().0.inventory, None).expect("a plan");
    assert_eq!(id, GenerationId(2));
    assert_eq!(
        told(&plan),
        [
            "epoch 5: take the generation number 2",
            "create tank/ezz/basejail/2 readonly=off sync=disabled",
            "create tank/ezz/newjail/2 canmount=noauto sync=disabled",
            "mount tank/ezz/basejail/2 at /srv/jails/basejail/2",
            "mount tank/ezz/newjail/2 at /srv/jails/newjail/2",
        ]
    );
}

/// A number that was assigned is never assigned again, even if its generation was destroyed.
#[test]
fn numbers_come_from_the_site_and_not_from_what_is_there() {
    let mut site = site();
    site.0.inventory.site.seq = 41;
    let (_, id) = stage(&site.0.inventory, None).expect("a plan");
    assert_eq!(id, GenerationId(42));
}

#[test]
fn the_first_world_of_a_track_is_its_current_one() {
    let plan = sealing(&site().staged(1), 1, "main");
    assert_eq!(
        told(&plan),
        [
            "unmount tank/ezz/basejail/1 from /srv/jails/basejail/1",
            "unmount tank/ezz/newjail/1 from /srv/jails/newjail/1",
            r#"epoch 5: seal generation 1 and set ezz:track:main to {"current":1,"previous":null}"#,
            "hold tank/ezz/basejail/1@1 tank/ezz/newjail/1@1",
            "mount tank/ezz/basejail/1 at /srv/jails/basejail/1, read-only",
            "link the track main to generation 1",
        ]
    );
    let expected = |plan: &Plan| match commits(plan)[..] {
        [Commit::Seal { track, .. }] => track.as_ref().map(|set| set.expect.clone()),
        _ => panic!("{plan}"),
    };
    assert_eq!(expected(&plan), Some(Expect::Absent));
    // An existing empty track is compared with its observed value.
    let plan = sealing(&site().staged(1).track("main", None), 1, "main");
    let was = r#"{"current":null,"previous":null}"#.to_owned();
    assert_eq!(expected(&plan), Some(Expect::Value(was)));
}

#[test]
fn a_later_world_moves_no_jail() {
    let plan = sealing(&installed().staged(2), 2, "main");
    assert_eq!(told(&plan)[2], "epoch 5: seal generation 2");
    let link = "link the track main to generation 1";
    assert_eq!(told(&plan).last().map(String::as_str), Some(link));
}

/// The generation has its seal and its track; the next install does what should have followed the commit.
#[test]
fn what_a_kill_after_the_seal_left_undone_is_done() {
    let mut site = installed().staged(2);
    let first = site.0.inventory.generations.get_mut(&GenerationId(1));
    let half = first.and_then(|found| found.base.as_mut()).expect("sealed");
    (half.held, half.mounted) = (false, false);
    assert_eq!(
        told(&sealing(&site, 2, "main"))[3..],
        [
            "hold tank/ezz/basejail/2@2 tank/ezz/newjail/2@2 tank/ezz/basejail/1@1 tank/ezz/newjail/1@1",
            "mount tank/ezz/basejail/2 at /srv/jails/basejail/2, read-only",
            "mount tank/ezz/basejail/1 at /srv/jails/basejail/1, read-only",
            "link the track main to generation 1",
        ]
    );
}

#[test]
fn what_was_not_sealed_is_cleared_skeleton_first() {
    let site = installed().staged(2);
    let plan = reap(&site.0.inventory.generations[&GenerationId(2)]);
    assert_eq!(
        told(&plan),
        [
            "end what runs in the stage of generation 2",
            "unmount tank/ezz/newjail/2 from /srv/jails/newjail/2",
            "remove the empty directory /srv/jails/newjail/2",
            "destroy tank/ezz/newjail/2",
            "unmount tank/ezz/basejail/2 from /srv/jails/basejail/2",
            "remove the empty directory /srv/jails/basejail/2",
            "destroy tank/ezz/basejail/2",
        ]
    );
}
