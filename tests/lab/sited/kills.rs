//! Kills of ezz while it starts, stops and deletes running jails of a real world: see `bare::kills`.

use crate::bare::kills::play;

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
