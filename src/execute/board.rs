//! How far the lanes of a step are, and what came of them: what is given to workers next, and what is made of their
//! answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::schedule::Schedule;
use super::task::{Outcome, Ran, Task, Work};
use super::{Applied, Apply, ApplyError, Unreached};
use crate::name::JailName;
use crate::plan::Lane;
use crate::ports::Asked;

/// The lanes of a step while they are carried out.
pub(super) struct Board<'a> {
    apply: &'a Apply<'a>,
    lanes: &'a [Lane],
    schedule: Schedule<'a>,
    /// Jails with which nothing more is done after the step.
    ending: &'a BTreeSet<&'a JailName>,
    /// How many lanes of each jail are left.
    left: BTreeMap<&'a JailName, usize>,
    /// Whom the host has asked to end, by lane.
    asked: BTreeMap<usize, Asked>,
    /// Lanes that have started their jails, each with the time at which it is looked whether that is up.
    started: VecDeque<(Instant, usize)>,
    /// What ended lanes, by lane.
    failed: BTreeMap<usize, ApplyError>,
    /// The lane that failed first, and was not skipped.
    first_failed: Option<usize>,
    /// Jails whose start was taken back after a signal.
    interrupted: Vec<JailName>,
    /// How many jails were done with.
    reached: usize,
    applied: &'a mut Applied,
    done: &'a dyn Fn(&JailName),
}

impl<'a> Board<'a> {
    pub(super) fn new(
        apply: &'a Apply<'a>,
        lanes: &'a [Lane],
        ending: &'a BTreeSet<&'a JailName>,
        applied: &'a mut Applied,
        done: &'a dyn Fn(&JailName),
    ) -> Self {
        let mut left: BTreeMap<&JailName, usize> = BTreeMap::new();
        for lane in lanes {
            *left.entry(&lane.jail).or_default() += 1;
        }
        let mut board = Board {
            schedule: Schedule::new(lanes, |jail| applied.has_failed(jail)),
            apply,
            lanes,
            ending,
            left,
            asked: BTreeMap::new(),
            started: VecDeque::new(),
            failed: BTreeMap::new(),
            first_failed: None,
            interrupted: Vec::new(),
            reached: 0,
            applied,
            done,
        };
        let skipped = board.schedule.skipped();
        board.skip(skipped);
        board
    }

    /// A look at a jail that was started, if it is time for it.
    pub(super) fn next_check(&mut self) -> Option<Work> {
        let (due, at) = self.started.front().copied()?;
        if due > Instant::now() {
            return None;
        }
        self.started.pop_front();
        let (task, asked) = (Task::Check(at), None);
        Some(Work { task, asked })
    }

    /// What a worker can do now.
    pub(super) fn next(&mut self) -> Option<Work> {
        let task = self.schedule.next((self.apply.locks.stop())())?;
        let asked = match task {
            Task::Run(at) => self.asked.remove(&at),
            Task::Ask(_) | Task::Check(_) => None,
        };
        Some(Work { task, asked })
    }

    /// When it is to be looked whether a jail is up.
    pub(super) fn due(&self) -> Option<Instant> {
        self.started.front().map(|(due, _)| *due)
    }

    /// Notes what came of a task.
    pub(super) fn take(&mut self, task: Task, outcome: Outcome) {
        let (Task::Ask(at) | Task::Run(at) | Task::Check(at)) = task;
        match outcome {
            Outcome::Asked(asked) => {
                self.asked.extend(asked.map(|asked| (at, asked)));
                self.schedule.asked(at);
            }
            Outcome::Ran(Ran {
                changed,
                started,
                result,
            }) => {
                self.applied.changed += changed;
                match result {
                    // It may end at once: the lane is over when that was looked at.
                    Ok(()) if started => {
                        let due = Instant::now() + self.apply.host.settles();
                        self.started.push_back((due, at));
                    }
                    result => self.end(at, result),
                }
            }
            Outcome::Checked(result) => self.end(at, result),
        }
    }

    /// Notes the end of a lane.
    fn end(&mut self, at: usize, result: Result<(), ApplyError>) {
        let jail = &self.lanes[at].jail;
        let skipped = self.schedule.ended(at, result.is_ok());
        match result {
            Ok(()) => {
                let left = self.left.entry(jail).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.reached += 1;
                    if self.ending.contains(jail) {
                        (self.done)(jail);
                    }
                }
                return;
            }
            Err(ApplyError::Interrupted(_)) => {
                // What waits for it is not reached either.
                self.interrupted.push(jail.clone());
                let others = skipped.iter().map(|(other, _)| &self.lanes[*other].jail);
                self.interrupted.extend(others.cloned());
                return;
            }
            Err(error) => {
                self.first_failed.get_or_insert(at);
                self.failed.insert(at, error);
            }
        }
        self.skip(skipped);
        if self.apply.strict {
            self.schedule.stop();
        }
    }

    /// Notes the lanes that are skipped, each with the one that it waits for.
    fn skip(&mut self, skipped: Vec<(usize, usize)>) {
        for (at, because) in skipped {
            let (lane, other) = (&self.lanes[at], &self.lanes[because]);
            let stops = !lane.starts();
            let mut of_jail = self.lanes.iter().filter(|it| it.jail == lane.jail);
            let moves = (of_jail.clone().any(Lane::stops), of_jail.any(Lane::starts));
            let verb = match moves {
                (true, true) => "restart",
                (true, false) => "stop",
                (false, _) => "start",
            };
            // Of a jail with two lanes the first tells.
            if lane.jail != other.jail {
                let error = ApplyError::Skipped {
                    jail: lane.jail.clone(),
                    other: other.jail.clone(),
                    stops,
                    verb,
                };
                self.failed.insert(at, error);
            }
        }
    }

    /// The end of the step.
    pub(super) fn close(self) -> Result<(), ApplyError> {
        let Board {
            lanes,
            mut failed,
            applied,
            ..
        } = self;
        if self.apply.strict {
            let first = self.first_failed.and_then(|at| failed.remove(&at));
            if let Some(error) = first.or_else(|| Some(failed.pop_first()?.1)) {
                return Err(error);
            }
        }
        for (at, error) in failed {
            let jail = &lanes[at].jail;
            if !applied.has_failed(jail) {
                applied.failed.push((jail.clone(), error));
            }
        }
        let left = self.schedule.unreached();
        let left = left.into_iter().map(|at| lanes[at].jail.clone());
        let mut seen = BTreeSet::new();
        let jails: Vec<JailName> = self
            .interrupted
            .into_iter()
            .chain(left)
            .filter(|jail| !applied.has_failed(jail) && seen.insert(jail.clone()))
            .collect();
        if jails.is_empty() {
            return Ok(());
        }
        let of_them = || lanes.iter().filter(|lane| seen.contains(&lane.jail));
        let did = match (of_them().any(Lane::stops), of_them().any(Lane::starts)) {
            (true, true) => "restarted",
            (true, false) => "stopped",
            (false, _) => "started",
        };
        Err(ApplyError::Interrupted(Unreached {
            jails,
            did,
            // Before a commit nothing is done with a jail that its step has reached.
            reached: if self.apply.strict { 0 } else { self.reached },
        }))
    }
}
