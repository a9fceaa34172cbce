//! Kills of ezz while it starts and stops jails of a real world: see `bare::kills`.

use crate::bare::kills::play;

#[test]
fn start_at_each_step() {
    play(&["steps", "start"]);
}

#[test]
fn stop_at_each_step() {
    play(&["steps", "stop"]);
}
