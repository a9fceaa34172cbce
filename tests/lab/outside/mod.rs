//! Tests that run on the host and control the lab, because they cut the power of a guest, or give it disks.
//!
//! Except in `machine`, a test is one scenario of tests/guest/scenario.rs. Its pool is prepared once on a disk image,
//! and the command is measured once. Then each cut has a copy of that image, a moment that its seed determines, and a
//! second boot in which `lab-guest` judges what is left. `EZZ_CUTS` is the number of cuts of a scenario (by default 1;
//! 3 in `world` and `moved`), `EZZ_CUT_SEED` the seed of the first; the following seeds count up. `EZZ_SOAK` names a
//! directory for a record of each cut; a cut with a record is not repeated.

mod harness;
mod machine;

macro_rules! scenarios {
    ($($module:ident, $names:ident, $default:literal { $($test:ident: $name:literal,)* })*) => {
        $(mod $module {
            $(#[test]
            fn $test() {
                super::harness::cuts($name, $default);
            })*
        }
        const $names: &[&str] = &[$($name),*];)*
    };
}

scenarios! {
    cut, CUT, 1 {
        init: "init",
        install: "install",
        install_debian: "install-debian",
        create_one: "create-one",
        create_fifty: "create-fifty",
        create_quota: "create-quota",
        create_thick: "create-thick",
        create_thousand: "create-thousand",
        clone_twenty: "clone-twenty",
        delete_thousand: "delete-thousand",
        delete_one: "delete-one",
        delete_fifty: "delete-fifty",
        track: "track",
        track_delete: "track-delete",
        adopt: "adopt",
        repair: "repair",
        start: "start",
        stop: "stop",
        delete_running: "delete-running",
    }
    // Scenarios whose worlds change under jails.
    world, WORLD, 3 {
        update: "update",
        swap: "swap",
        prune: "prune",
        merge: "merge",
        merge_back: "merge-back",
    }
    // The same with running jails: each costs ten seconds.
    moved, MOVED, 3 {
        rollout: "rollout",
        rollout_back: "rollout-back",
        rollback: "rollback",
        converge: "converge",
    }
}

#[test]
fn every_scenario_has_a_test() {
    let mut scenarios = harness::scenarios();
    let mut tested = [CUT, WORLD, MOVED].concat();
    scenarios.sort();
    tested.sort_unstable();
    assert_eq!(scenarios, tested);
}
