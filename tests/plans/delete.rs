//! `delete`.

use ezz::plan::delete::{delete, restore};
use ezz::plan::deletion::{Below, Request};
use ezz::plan::{Commit, Directory, PlanError};

use super::inventory::*;

fn request(list: &[&str], foreign: bool, below: &[(&str, &[&str])]) -> Request {
    let below = below.iter().zip(900..).map(|((name, clones), guid)| Below {
        name: (*name).to_owned(),
        guid,
        clones: clones.iter().map(|clone| (*clone).to_owned()).collect(),
        held: false,
    });
    Request {
        names: names(list),
        foreign,
        below: below.collect(),
    }
}

#[test]
fn it_stops_unmounts_destroys_in_one_program_and_clears_up() {
    let site = installed().thin("a").thin("b").running("b");
    let plan = delete(&site.0, &request(&["a", "b"], false, &[])).expect("a plan");
    assert_eq!(
        told(&plan),
        [
            "stop b",
            "unmount tank/ezz/jails/a from /srv/jails/a",
            "unmount tank/ezz/jails/b from /srv/jails/b",
            "remove the derived files of a",
            "remove the empty directory /srv/jails/a",
            "remove the derived files of b",
            "remove the empty directory /srv/jails/b",
            "epoch 5: destroy tank/ezz/jails/a tank/ezz/jails/b",
        ]
    );
    // Datasets are destroyed by guid: another dataset with that name stays.
    let [Commit::Destroy { doomed, .. }] = commits(&plan)[..] else {
        panic!("{plan}");
    };
    let guids: Vec<u64> = doomed.iter().map(|doomed| doomed.guid).collect();
    assert_eq!(guids, [7000, 7001]);
}

#[test]
fn of_a_jail_that_died_the_host_clears_up_first() {
    let site = installed().thin("a").thin("b").ended("a", 137);
    let plan = delete(&site.0, &request(&["a", "b"], false, &[])).expect("a plan");
    assert_eq!(told(&plan)[0], "stop a", "its mounts would keep it busy");
    assert!(!told(&plan).contains(&"stop b".to_owned()), "it never ran");
}

#[test]
fn what_ezz_did_not_make_is_named_and_goes_only_when_told() {
    let site = installed().thin("a").thin("ab");
    let below: &[(&str, &[&str])] = &[
        ("tank/ezz/jails/a/sub@s", &[]),
        ("tank/ezz/jails/a/sub", &[]),
        ("tank/ezz/jails/a@backup", &[]),
    ];
    let why = delete(&site.0, &request(&["a"], false, below)).expect_err("foreign");
    assert_eq!(
        why.to_string(),
        "tank/ezz/jails/a contains objects that ezz did not create: tank/ezz/jails/a/sub@s, \
         tank/ezz/jails/a/sub, tank/ezz/jails/a@backup"
    );
    // The dataset does not belong to another jail whose name has the same beginning.
    delete(&site.0, &request(&["ab"], false, below)).expect("a plan");
    let plan = delete(&site.0, &request(&["a"], true, below)).expect("told to");
    assert_eq!(
        told(&plan)[3],
        "epoch 5: destroy tank/ezz/jails/a/sub@s tank/ezz/jails/a/sub \
         tank/ezz/jails/a@backup tank/ezz/jails/a"
    );
}

#[test]
fn a_clone_elsewhere_stops_it_even_when_told() {
    let site = installed().thin("a");
    let below: &[(&str, &[&str])] = &[("tank/ezz/jails/a@s", &["tank/theirs"])];
    let why = delete(&site.0, &request(&["a"], true, below)).expect_err("a dependent");
    assert!(matches!(&why, PlanError::Dependents { list, .. } if list == &["tank/theirs"]));
}

#[test]
fn the_wrong_jails_are_refused() {
    let site = installed().thin("a").stranger("odd");
    let why = |list: &[&str]| {
        let refused = delete(&site.0, &request(list, true, &[]));
        refused.expect_err("no plan").to_string()
    };
    assert_eq!(why(&["a", "nosuch"]), "there is no jail nosuch");
    assert_eq!(why(&["a", "a"]), "the jail a is named twice");
    assert!(why(&["odd"]).ends_with("it is odd"));
    let replica = delete(&site.clone().replica().0, &request(&["a"], false, &[]));
    assert!(matches!(replica, Err(PlanError::Replica(_))));
}

#[test]
fn a_held_snapshot_stops_it_before_anything_is_stopped() {
    let site = installed().thin("a").running("a");
    let mut request = request(&["a"], true, &[("tank/ezz/jails/a@s", &[])]);
    request.below[0].held = true;
    let why = delete(&site.0, &request).expect_err("held");
    assert_eq!(
        why.to_string(),
        "cannot destroy tank/ezz/jails/a: tank/ezz/jails/a@s is held by another program"
    );
}

#[test]
fn somebody_elses_mount_on_a_jail_stops_it() {
    let mut site = installed().thin("a");
    let directories = &mut site.0.directories;
    directories.insert(jail_name("a"), Directory::Mounted);
    let why = delete(&site.0, &request(&["a"], false, &[])).expect_err("in the way");
    assert!(
        why.to_string()
            .contains("something else is mounted there, or below")
    );
}

#[test]
fn after_a_failure_what_was_unmounted_is_mounted_again() {
    let site = installed().thin("a").thin("b");
    let plan = restore(&site.0, &[jail_name("a")].into());
    assert_eq!(told(&plan), ["mount tank/ezz/jails/a at /srv/jails/a"]);
}

#[test]
fn a_site_that_is_read_only_is_not_changed() {
    let mut site = installed().thin("a").running("a");
    site.0.inventory.site.read_only = true;
    let why = delete(&site.0, &request(&["a"], false, &[])).expect_err("read-only");
    assert_eq!(why.to_string(), "tank/ezz is read-only");
}
