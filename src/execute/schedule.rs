//! Which lane of a step comes next. Pure: it knows no thread, no host and no clock.
//!
//! A lane is free once its turn has come and the lanes that it waits for have succeeded. What only stops a jail is
//! asked for first, for all lanes that are free: no jail waits with its shutdown until another's is over. A lane
//! whose predecessor fails is skipped. After a signal no lane begins that moves a jail, except one that starts a jail
//! again which this step has stopped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::task::Task;
use crate::name::JailName;
use crate::plan::Lane;

/// How far a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Others have to end before it.
    Waits,
    /// A worker can take it.
    Free,
    /// Its jail is being asked, or its steps are carried out.
    Begun,
    /// It succeeded.
    Done,
    /// It failed, or was skipped since another has failed.
    Failed,
    /// It was left out after a signal.
    Unreached,
}

/// The lanes of a step, and how far each is.
#[derive(Debug)]
pub(super) struct Schedule<'a> {
    lanes: &'a [Lane],
    phases: Vec<Phase>,
    /// For each lane, how many others it waits for.
    waits: Vec<usize>,
    /// For each lane, those that wait for it.
    before: Vec<Vec<usize>>,
    /// How many lanes of each turn are not over.
    turns: BTreeMap<usize, usize>,
    /// Lanes that are free apart from their turn, by that and by whether they begin without a question.
    free: BTreeSet<(usize, bool, usize)>,
    /// Lanes whose jails have been asked.
    asked: VecDeque<usize>,
    /// Lanes that are skipped since an earlier step failed with what they wait for.
    skipped: Vec<(usize, usize)>,
    halted: bool,
}

impl<'a> Schedule<'a> {
    /// The lanes; those of jails with which an earlier step has failed are over.
    pub(super) fn new(lanes: &'a [Lane], failed: impl Fn(&JailName) -> bool) -> Self {
        let mut schedule = Schedule {
            lanes,
            phases: vec![Phase::Waits; lanes.len()],
            waits: vec![0; lanes.len()],
            before: vec![Vec::new(); lanes.len()],
            turns: BTreeMap::new(),
            free: BTreeSet::new(),
            asked: VecDeque::new(),
            skipped: Vec::new(),
            halted: false,
        };
        for (at, lane) in lanes.iter().enumerate() {
            *schedule.turns.entry(lane.turn).or_default() += 1;
            for other in &lane.after {
                // Nothing waits for what comes later: that would never end.
                let earlier = lanes.get(*other).is_some_and(|it| it.turn <= lane.turn);
                if earlier && *other != at {
                    schedule.before[*other].push(at);
                    schedule.waits[at] += 1;
                }
            }
        }
        for at in 0..lanes.len() {
            if schedule.waits[at] == 0 {
                schedule.set_free(at);
            }
        }
        for (at, lane) in lanes.iter().enumerate() {
            if failed(&lane.jail) && schedule.phases[at] != Phase::Failed {
                let skipped = schedule.fail(at);
                schedule.skipped.extend(skipped);
            }
        }
        schedule
    }

    /// The lanes that are skipped since an earlier step has failed with what they wait for, each with that one.
    pub(super) fn skipped(&mut self) -> Vec<(usize, usize)> {
        std::mem::take(&mut self.skipped)
    }

    /// What a worker can do now; nothing while all that is left waits for what has begun.
    pub(super) fn next(&mut self, signalled: bool) -> Option<Task> {
        if signalled && !self.halted {
            self.halt(|lane| lane.starts() || lane.stops());
        }
        let turn = self.turns.keys().next().copied()?;
        let free = self.free.range((turn, false, 0)..(turn + 1, false, 0));
        let first = free.copied().next();
        let (found, at) = match first {
            Some((_, false, at)) => (Task::Ask(at), at),
            _ => match self.asked.pop_front() {
                Some(at) => return Some(Task::Run(at)),
                None => first.map(|(_, _, at)| (Task::Run(at), at))?,
            },
        };
        self.free.remove(&self.key(at));
        self.phases[at] = Phase::Begun;
        Some(found)
    }

    /// The place of a lane among those that are free.
    fn key(&self, at: usize) -> (usize, bool, usize) {
        let lane = &self.lanes[at];
        (lane.turn, lane.starts() || !lane.stops(), at)
    }

    /// The jail of a lane has been asked to end.
    pub(super) fn asked(&mut self, at: usize) {
        self.asked.push_back(at);
    }

    /// A lane has ended. Gives the lanes that are skipped since it failed, each with the one that it waited for.
    pub(super) fn ended(&mut self, at: usize, succeeded: bool) -> Vec<(usize, usize)> {
        if succeeded {
            self.leave(at, Phase::Done);
            return Vec::new();
        }
        self.fail(at)
    }

    fn fail(&mut self, at: usize) -> Vec<(usize, usize)> {
        let mut skipped = Vec::new();
        let mut left = VecDeque::from([at]);
        while let Some(at) = left.pop_front() {
            let waiting = self.before[at].clone();
            self.leave(at, Phase::Failed);
            let up = self.failed_to_stop(at);
            for next in waiting {
                // What it needs still runs, so that it must not stay down.
                if up && self.lanes[next].starts() && self.was_stopped(next) {
                    continue;
                }
                if matches!(self.phases[next], Phase::Waits | Phase::Free) {
                    self.free.remove(&self.key(next));
                    // Over from here on, so that it is skipped once.
                    self.phases[next] = Phase::Begun;
                    skipped.push((next, at));
                    left.push_back(next);
                }
            }
        }
        skipped
    }

    /// Whether the jail of a lane was to be stopped, and that failed.
    fn failed_to_stop(&self, at: usize) -> bool {
        self.any_stop_of(at, |phase| phase == Phase::Failed)
    }

    /// Whether this step has stopped the jail of a lane.
    fn was_stopped(&self, at: usize) -> bool {
        self.any_stop_of(at, |phase| phase == Phase::Done)
    }

    fn any_stop_of(&self, at: usize, is: impl Fn(Phase) -> bool) -> bool {
        let jail = &self.lanes[at].jail;
        let mut lanes = self.lanes.iter().zip(&self.phases);
        lanes
            .any(|(lane, phase)| lane.jail == *jail && lane.stops() && !lane.starts() && is(*phase))
    }

    /// No lane begins any more.
    pub(super) fn stop(&mut self) {
        self.halt(|_| true);
    }

    /// The lanes that were left out after a signal.
    pub(super) fn unreached(&self) -> Vec<usize> {
        let all = 0..self.lanes.len();
        let left = |at: &usize| self.phases[*at] == Phase::Unreached;
        all.filter(left).collect()
    }

    /// Leaves out what has not begun and is not owed to its jail.
    fn halt(&mut self, leaves: impl Fn(&Lane) -> bool) {
        self.halted = true;
        let begun = |at: &usize| matches!(self.phases[*at], Phase::Begun | Phase::Done);
        let all = 0..self.lanes.len();
        let stopped: BTreeSet<&JailName> = all
            .clone()
            .filter(begun)
            .map(|at| &self.lanes[at].jail)
            .collect();
        let waits = |at: &usize| matches!(self.phases[*at], Phase::Waits | Phase::Free);
        let owed = |at: &usize| stopped.contains(&self.lanes[*at].jail);
        let left: Vec<usize> = all
            .filter(waits)
            .filter(|at| leaves(&self.lanes[*at]) && !owed(at))
            .collect();
        for at in left {
            self.leave(at, Phase::Unreached);
        }
    }

    fn set_free(&mut self, at: usize) {
        self.phases[at] = Phase::Free;
        self.free.insert(self.key(at));
    }

    /// Ends a lane; those that waited for it alone are free.
    fn leave(&mut self, at: usize, phase: Phase) {
        let turn = self.lanes[at].turn;
        self.free.remove(&self.key(at));
        self.phases[at] = phase;
        if let Some(left) = self.turns.get_mut(&turn) {
            *left -= 1;
            if *left == 0 {
                self.turns.remove(&turn);
            }
        }
        for next in std::mem::take(&mut self.before[at]) {
            self.waits[next] -= 1;
            if self.waits[next] == 0 && self.phases[next] == Phase::Waits {
                self.set_free(next);
            }
        }
    }
}

#[cfg(test)]
mod tests;
