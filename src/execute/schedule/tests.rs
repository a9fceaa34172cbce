use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::model::{Base, JailConfig, JailSpec, Kind, World};
use crate::name::{DatasetName, GenerationId, JailName, TrackName};
use crate::plan::{JailStep, SpecError};
use crate::profile::Profile;

fn name(text: &str) -> JailName {
    JailName::parse(text).expect("valid")
}

/// A lane that stops a jail.
fn stop(jail: &str, turn: usize, after: &[usize]) -> Lane {
    let step = JailStep::Stop {
        jail: name(jail),
        spec: None,
        timeout: None,
    };
    Lane {
        turn,
        after: after.to_vec(),
        ..Lane::new(&name(jail), step)
    }
}

/// A lane that starts a jail.
fn start(jail: &str, turn: usize, after: &[usize]) -> Lane {
    let generation = GenerationId(7);
    let spec = Arc::new(JailSpec {
        site_id: "0f0e".to_owned(),
        name: name(jail),
        dataset: DatasetName::parse(&format!("tank/ezz/jails/{jail}")).expect("a dataset"),
        root: PathBuf::from("/srv/jails").join(jail),
        base: None,
        config: JailConfig::new(Kind::Thin, Base::Track(TrackName::main()), generation),
        profile: Cow::Borrowed(&Profile::builtin()[0]),
        world: World {
            label: "debian-12.1".to_owned(),
            profile: "debian".to_owned(),
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            source: None,
            parent: None,
            allowed: Vec::new(),
            other: serde_json::Map::new(),
        },
    });
    let step = JailStep::Start { spec, again: true };
    Lane {
        turn,
        after: after.to_vec(),
        ..Lane::new(&name(jail), step)
    }
}

/// A lane that does something else.
fn other(jail: &str, turn: usize) -> Lane {
    let why = SpecError::Profile {
        generation: "7".to_owned(),
        profile: "x".to_owned(),
    };
    let jail = name(jail);
    let step = JailStep::Refuse {
        jail: jail.clone(),
        why,
    };
    Lane {
        turn,
        ..Lane::new(&jail, step)
    }
}

/// All tasks that can be done at once.
fn tasks(schedule: &mut Schedule<'_>, signalled: bool) -> Vec<Task> {
    std::iter::from_fn(|| schedule.next(signalled)).collect()
}

#[test]
fn all_jails_of_a_level_are_asked_before_one_is_waited_for() {
    let lanes = [
        stop("a", 0, &[]),
        stop("b", 0, &[]),
        stop("db", 0, &[0, 1]),
        stop("z", 1, &[]),
    ];
    let mut schedule = Schedule::new(&lanes, |_| false);
    assert_eq!(tasks(&mut schedule, false), [Task::Ask(0), Task::Ask(1)]);
    schedule.asked(1);
    schedule.asked(0);
    assert_eq!(tasks(&mut schedule, false), [Task::Run(1), Task::Run(0)]);
    assert_eq!(schedule.ended(0, true), []);
    assert_eq!(tasks(&mut schedule, false), [], "b runs still");
    assert_eq!(schedule.ended(1, true), []);
    assert_eq!(tasks(&mut schedule, false), [Task::Ask(2)]);
    schedule.asked(2);
    assert_eq!(tasks(&mut schedule, false), [Task::Run(2)]);
    assert_eq!(schedule.ended(2, false), []);
    // Another turn comes, whatever became of the one before.
    assert_eq!(tasks(&mut schedule, false), [Task::Ask(3)]);
}

#[test]
fn what_depends_on_a_failure_is_skipped_and_others_go_on() {
    let lanes = [
        start("a", 0, &[]),
        start("b", 0, &[0]),
        start("c", 0, &[1]),
        start("d", 0, &[]),
        start("e", 1, &[0, 3]),
    ];
    let mut schedule = Schedule::new(&lanes, |_| false);
    assert_eq!(tasks(&mut schedule, false), [Task::Run(0), Task::Run(3)]);
    assert_eq!(schedule.ended(0, false), [(1, 0), (4, 0), (2, 1)]);
    assert_eq!(schedule.ended(3, true), []);
    assert_eq!(tasks(&mut schedule, false), []);
    assert_eq!(schedule.unreached(), [0; 0]);
}

#[test]
fn a_signal_leaves_out_what_has_not_begun() {
    let lanes = [stop("a", 0, &[]), stop("b", 0, &[0]), other("c", 1)];
    let mut schedule = Schedule::new(&lanes, |_| false);
    assert_eq!(tasks(&mut schedule, false), [Task::Ask(0)]);
    // What was asked to end is waited for.
    schedule.asked(0);
    assert_eq!(tasks(&mut schedule, true), [Task::Run(0)]);
    assert_eq!(schedule.ended(0, true), []);
    assert_eq!(tasks(&mut schedule, true), [Task::Run(2)]);
    assert_eq!(schedule.unreached(), [1]);
}

#[test]
fn a_jail_that_was_stopped_to_be_started_is_started_after_a_signal() {
    // web depends on db, and both are restarted.
    let lanes = [
        stop("web", 0, &[]),
        stop("db", 0, &[0]),
        start("db", 0, &[1]),
        start("web", 0, &[0, 2]),
    ];
    let mut schedule = Schedule::new(&lanes, |_| false);
    assert_eq!(tasks(&mut schedule, false), [Task::Ask(0)]);
    schedule.asked(0);
    assert_eq!(tasks(&mut schedule, true), [Task::Run(0)]);
    assert_eq!(schedule.ended(0, true), []);
    assert_eq!(tasks(&mut schedule, true), [Task::Run(3)]);
    assert_eq!(schedule.ended(3, true), []);
    assert_eq!(schedule.unreached(), [1, 2]);
    assert_eq!(tasks(&mut schedule, true), []);
}

#[test]
fn jails_that_have_failed_before_are_left_out() {
    let lanes = [stop("a", 0, &[]), stop("b", 0, &[]), stop("c", 0, &[0])];
    let mut schedule = Schedule::new(&lanes, |jail| *jail == name("a"));
    assert_eq!(schedule.skipped(), [(2, 0)]);
    assert_eq!(tasks(&mut schedule, false), [Task::Ask(1)]);
    schedule.stop();
    schedule.asked(1);
    assert_eq!(tasks(&mut schedule, false), [Task::Run(1)]);
}

#[test]
fn a_jail_is_started_again_if_the_one_that_it_needs_could_not_be_stopped() {
    let lanes = [
        stop("web", 0, &[]),
        stop("db", 0, &[0]),
        start("db", 0, &[1]),
        start("web", 0, &[0, 2]),
    ];
    let mut schedule = Schedule::new(&lanes, |_| false);
    assert_eq!(tasks(&mut schedule, false), [Task::Ask(0)]);
    schedule.asked(0);
    assert_eq!(tasks(&mut schedule, false), [Task::Run(0)]);
    assert_eq!(schedule.ended(0, true), []);
    assert_eq!(tasks(&mut schedule, false), [Task::Ask(1)]);
    schedule.asked(1);
    assert_eq!(tasks(&mut schedule, false), [Task::Run(1)]);
    assert_eq!(schedule.ended(1, false), [(2, 1)]);
    assert_eq!(tasks(&mut schedule, false), [Task::Run(3)]);
}
