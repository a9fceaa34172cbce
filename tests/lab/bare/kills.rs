//! Kills of ezz alone: before each of its steps, and at random moments.
//!
//! The scenarios are those of the power cuts (tests/guest/scenario.rs); `lab-guest` plays them, a
//! round each: reset, the command, the kill, the same judgement as after a cut. To repeat what
//! failed at a moment: `EZZ_CUT_SEED` with the seed that was printed. Start, stop and delete of jails that run:
//! `sited::kills`, on a real world.

use crate::support::*;

/// The same moments in each run, so that a failure is one of what was changed.
const SEED: &str = "1";

/// A kill costs seconds: `make lab-soak` does them before each step.
const EVERY: &str = "8";

/// Plays a scenario in this guest.
#[track_caller]
pub fn play(words: &[&str]) {
    play_every(EVERY, words);
}

/// The same, with so many steps between two kills.
#[track_caller]
pub fn play_every(every: &str, words: &[&str]) {
    let guest = env!("CARGO_BIN_EXE_lab-guest");
    let line = words.join(" ");
    let every = variable("EZZ_KILL_EVERY").unwrap_or_else(|| every.to_owned());
    let ended = sh(&format!(
        "EZZ_KILL_EVERY={every} EZZ_BIN={EZZ} {guest} {line}"
    ));
    let told: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(ended.code, 0, "{line}: {told:#?} {}", ended.stderr);
}

fn at_moments(name: &str, rounds: u32) {
    let seed = variable("EZZ_CUT_SEED").unwrap_or_else(|| SEED.to_owned());
    play(&["kill", name, &rounds.to_string(), &seed]);
}

#[test]
fn init_at_each_step() {
    play(&["steps", "init"]);
}

#[test]
fn install_at_each_step() {
    play(&["steps", "install"]);
}

#[test]
fn create_at_each_step() {
    play(&["steps", "create-thick"]);
}

#[test]
fn clone_at_each_step() {
    play(&["steps", "clone-twenty"]);
}

#[test]
fn clone_at_random_moments() {
    at_moments("clone-twenty", 2);
}

#[test]
fn delete_at_each_step() {
    play(&["steps", "delete-one"]);
}

#[test]
fn track_at_each_step() {
    play(&["steps", "track"]);
}

#[test]
fn track_delete_at_each_step() {
    play(&["steps", "track-delete"]);
}

#[test]
fn repair_at_each_step() {
    play(&["steps", "repair"]);
}

#[test]
fn adopt_at_each_step() {
    play(&["steps", "adopt"]);
}

#[test]
fn install_at_random_moments() {
    at_moments("install", 3);
}

#[test]
fn create_at_random_moments() {
    at_moments("create-quota", 2);
}

#[test]
fn delete_at_random_moments() {
    at_moments("delete-fifty", 2);
}

#[test]
fn update_at_each_step() {
    play(&["steps", "update"]);
}

#[test]
fn swap_at_each_step() {
    play(&["steps", "swap"]);
}

#[test]
fn prune_at_each_step() {
    play(&["steps", "prune"]);
}

#[test]
fn merge_at_each_step() {
    play(&["steps", "merge"]);
}

#[test]
fn merge_back_at_each_step() {
    play(&["steps", "merge-back"]);
}

// Those with running jails have two hundred steps, and each judgement takes seconds.

#[test]
fn converge_at_each_step() {
    play_every("61", &["steps", "converge"]);
}

#[test]
fn rollback_at_each_step() {
    play_every("61", &["steps", "rollback"]);
}

#[test]
fn rollout_at_each_step() {
    play_every("97", &["steps", "rollout"]);
}

#[test]
fn a_rollout_that_fails_at_each_step() {
    play_every("97", &["steps", "rollout-back"]);
}
