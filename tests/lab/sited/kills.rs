//! Kills of ezz while it starts, stops, moves and deletes running jails of a real world: see `bare::kills`.

use crate::bare::kills::{play, play_every};

#[test]
fn start_at_each_step() {
    play(&["steps", "start"]);
}

#[test]
fn stop_at_each_step() {
    play(&["steps", "stop"]);
}

#[test]
fn delete_of_a_running_jail_at_each_step() {
    play(&["steps", "delete-running"]);
}

#[test]
fn converge_at_each_step() {
    play_every("61", &["steps", "converge"]);
}

#[test]
fn rollout_at_each_step() {
    // It has two hundred steps, and each judgement takes seconds.
    play_every("97", &["steps", "rollout"]);
}

#[test]
fn a_rollout_that_fails_at_each_step() {
    play_every("97", &["steps", "rollout-back"]);
}
