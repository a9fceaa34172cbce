//! `start`, `stop`, `restart`.

#[cfg(target_os = "linux")]
use ezz::model::Flags;
use ezz::model::{Base, JailConfig, Kind};
use ezz::name::GenerationId;
#[cfg(target_os = "linux")]
use ezz::plan::MountAs;
use ezz::plan::power::{restart, start, stop};
use ezz::plan::{PlanError, SpecError};

use super::inventory::*;

#[test]
fn a_start_restores_what_is_missing_below_it() {
    // Newer generations, of which none is current on a track.
    let site = installed().sealed(2).staged(3);
    let mut site = site.unmounted_base(1).thin("a").thin("b");
    site.with_jail("a", |jail| jail.mounted = false);
    let plan = start(&site.0, &names(&["a", "b"])).expect("a plan");
    assert_eq!(
        told(&plan),
        [
            "mount tank/ezz/jails/a at /srv/jails/a",
            "mount tank/ezz/basejail/1 at /srv/jails/basejail/1, read-only",
            "start a",
            "start b",
        ]
    );
}

/// This applies to Linux only: on FreeBSD a jail may run on the host's mount.
#[cfg(target_os = "linux")]
#[test]
fn a_start_gives_mounts_the_flags_that_they_lack() {
    let mut site = installed().thin("a").thin("b");
    let zfs_mount = Flags::parse("nodev");
    site.with_jail("a", |jail| jail.flags = Some(zfs_mount));
    site.with_jail("b", |jail| jail.flags = Some(MountAs::Jail.flags()));
    let base = site
        .0
        .inventory
        .generations
        .get_mut(&GenerationId(1))
        .and_then(|generation| generation.base.as_mut());
    let base = base.expect("it has one");
    base.flags = Some(Flags::parse("ro,nodev"));
    let both = names(&["a", "b"]);
    let steps = told(&start(&site.0, &both).expect("a plan"));
    let mounts = [
        "mount tank/ezz/jails/a at /srv/jails/a",
        "mount tank/ezz/basejail/1 at /srv/jails/basejail/1, read-only",
    ];
    assert_eq!(steps[..2], mounts);
    assert_eq!(steps.iter().filter(|s| s.starts_with("mount")).count(), 2);
    // A running jail has mounts of its own. Its restart corrects the host's mount.
    let site = site.running("a");
    let steps = told(&restart(&site.0, &both).expect("a plan"));
    // The shared mount is corrected before any jail is stopped.
    assert_eq!(steps[..3], [mounts[1], "stop a", mounts[0]]);
}

#[test]
fn an_unfinished_jail_is_finished_before_it_starts() {
    let site = installed().unfinished("a").unfinished("b");
    let plan = start(&site.0, &names(&["a", "b"])).expect("a plan");
    let told = told(&plan);
    // One program commits all of them.
    assert_eq!(
        told[..6],
        [
            "write the derived files of a",
            "write the derived files of b",
            "mount tank/ezz/jails/a at /srv/jails/a",
            "mount tank/ezz/jails/b at /srv/jails/b",
            "set quota=1073741824 on tank/ezz/jails/a",
            "set quota=1073741824 on tank/ezz/jails/b",
        ]
    );
    assert!(
        told[6].starts_with("epoch 5: ezz:jail of tank/ezz/jails/a"),
        "{told:?}"
    );
    assert_eq!(
        told.iter().filter(|line| line.starts_with("epoch")).count(),
        1
    );
    assert_eq!(told.last().map(String::as_str), Some("start b"));
    assert_eq!(plan.notes.len(), 2);
}

#[test]
fn a_second_time_says_so() {
    let site = installed().thin("a").thin("b").running("a");
    let plan = start(&site.0, &names(&["a"])).expect("a plan");
    assert!(plan.steps.is_empty());
    assert_eq!(plan.notes, ["a is already running"]);
    let plan = stop(&site.0, &names(&["a", "b"])).expect("a plan");
    assert_eq!(told(&plan), ["stop a"]);
    assert_eq!(plan.notes, ["b is already stopped"]);
}

#[test]
fn a_restart_takes_one_jail_down_at_a_time() {
    let site = installed().thin("a").thin("b").running("a").running("b");
    let plan = restart(&site.0, &names(&["a", "b"])).expect("a plan");
    assert_eq!(told(&plan), ["stop a", "start a", "stop b", "start b",]);
}

#[test]
fn pinned_and_thick_jails_need_no_track() {
    let pinned = JailConfig {
        base: Base::Pin(GenerationId(2)),
        ..config(Kind::Thin, 2)
    };
    let site = installed().sealed(2).unmounted_base(2).unmounted_base(1);
    let site = site.jail("p", pinned).jail("t", config(Kind::Thick, 1));
    let plan = start(&site.0, &names(&["p", "t"])).expect("a plan");
    assert_eq!(
        told(&plan),
        [
            "mount tank/ezz/basejail/2 at /srv/jails/basejail/2, read-only",
            "start p",
            "start t",
        ]
    );
}

#[test]
fn without_its_base_or_on_a_replica_nothing_starts() {
    let site = site()
        .staged(1)
        .track("main", Some(1))
        .thin("a")
        .stranger("odd");
    let why = |list: &[&str]| start(&site.0, &names(list)).expect_err("no plan");
    assert!(matches!(
        why(&["a"]),
        PlanError::Spec(SpecError::NoBase { .. })
    ));
    assert!(matches!(why(&["odd"]), PlanError::Stranger { .. }));
    assert!(matches!(why(&["none"]), PlanError::NoJail(_)));
    let replica = installed().thin("a").replica();
    let why = start(&replica.0, &names(&["a"])).expect_err("a replica");
    assert!(matches!(why, PlanError::Replica(_)));
    let why = restart(&replica.0, &names(&["a"])).expect_err("a replica");
    assert!(matches!(why, PlanError::Replica(_)));
}
