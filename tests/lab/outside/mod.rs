//! Tests that run on the host and drive the lab, because they pull the plug of a guest, or give it disks.
//!
//! But for `machine` a test is one scenario of tests/guest/scenario.rs: its pool is prepared once on a disk image;
//! the command is measured once; then each cut has a copy of that image, a moment from a seed, and
//! a second boot in which `lab-guest` judges what is left. `EZZ_CUTS` is how many cuts a scenario
//! gets (1, of those in `world` and `moved` 3), `EZZ_CUT_SEED` the seed of the first, the next ones count up. `EZZ_SOAK` names a
//! directory for a record of each cut; a cut that has one is not made again.

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
    // Worlds that change under jails.
    world, WORLD, 3 {
        update: "update",
        swap: "swap",
        prune: "prune",
        merge: "merge",
        merge_back: "merge-back",
    }
    // The same with jails that run: each costs ten seconds.
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
