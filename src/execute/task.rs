//! What workers are given and what they send back, while lanes are carried out.

use super::ApplyError;
use crate::ports::Asked;

/// What a worker does next with a lane, by its place in the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Asks its jail to end, and does not wait for that.
    Ask(usize),
    /// Carries out its steps.
    Run(usize),
    /// Looks whether the jail that it has started is still up.
    Check(usize),
}

/// What came of a task.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Whom the host has asked to end.
    Asked(Option<Asked>),
    /// The steps of a lane.
    Ran(Ran),
    /// Whether the jail that was started is still up.
    Checked(Result<(), ApplyError>),
}

/// What came of the steps of a lane.
#[derive(Debug)]
pub(super) struct Ran {
    /// How many have changed something.
    pub(super) changed: usize,
    /// Whether one has started the jail.
    pub(super) started: bool,
    /// The failure that has ended them.
    pub(super) result: Result<(), ApplyError>,
}

/// A task for a worker.
pub(super) struct Work {
    pub(super) task: Task,
    /// Whom an earlier task has asked to end.
    pub(super) asked: Option<Asked>,
}
