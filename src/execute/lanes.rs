//! The lanes of a plan: the steps of single jails. Workers carry them out, several at once; `schedule` says which comes
//! next. All that is reported, counted and decided on the way happens in the thread that calls.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::board::Board;
use super::task::{Outcome, Ran, Task, Work};
use super::{Applied, Apply, ApplyError, remove_directory};
use crate::crash;
use crate::model::{Changed, JailSpec};
use crate::name::JailName;
use crate::plan::{JailStep, Lane};
use crate::ports::{Asked, Stopping};
use crate::world::{self, WorldError};

/// What a worker sends back; its panic, if it has panicked.
type Answer = (Task, thread::Result<Outcome>);

impl Apply<'_> {
    /// Carries out lanes. `ending` are the jails with which nothing more is done afterwards.
    pub(super) fn lanes(
        &self,
        lanes: &[Lane],
        ending: &BTreeSet<&JailName>,
        directory: Option<&Path>,
        applied: &mut Applied,
        done: &dyn Fn(&JailName),
    ) -> Result<(), ApplyError> {
        let mut board = Board::new(self, lanes, ending, applied, done);
        let threads = self.jobs.min(lanes.len());
        if threads < 2 {
            self.one_by_one(&mut board, lanes, directory);
        } else {
            self.side_by_side(&mut board, lanes, directory, threads);
        }
        board.close()
    }

    /// Carries out one task after the other, in the thread that calls this.
    fn one_by_one(&self, board: &mut Board<'_>, lanes: &[Lane], directory: Option<&Path>) {
        loop {
            if let Some(work) = board.next_check().or_else(|| board.next()) {
                let task = work.task;
                let outcome = self.carry_out(lanes, work, directory);
                board.take(task, outcome);
            } else if let Some(due) = board.due() {
                thread::sleep(due.saturating_duration_since(Instant::now()));
            } else {
                return;
            }
        }
    }

    /// Carries out tasks in so many threads at most. A thread is made when there is something to do for it. Looks at jails
    /// that were started are quick, and are made by this thread: they must not wait for a worker that waits for a jail.
    fn side_by_side(
        &self,
        board: &mut Board<'_>,
        lanes: &[Lane],
        directory: Option<&Path>,
        threads: usize,
    ) {
        let (give, taken) = mpsc::channel::<Work>();
        let (answer, answers) = mpsc::channel::<Answer>();
        let taken = Mutex::new(taken);
        let worker = |answer: mpsc::Sender<Answer>| {
            loop {
                let next = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(work) = next else {
                    return;
                };
                let task = work.task;
                let done = || self.carry_out(lanes, work, directory);
                let done = catch_unwind(AssertUnwindSafe(done));
                if answer.send((task, done)).is_err() {
                    return;
                }
            }
        };
        thread::scope(|scope| {
            // Dropped at the end, or by a panic: then the workers return.
            let give = give;
            let (mut workers, mut busy, mut threads) = (0, 0, threads);
            loop {
                while let Some(work) = board.next_check() {
                    let task = work.task;
                    board.take(task, self.carry_out(lanes, work, directory));
                }
                while let Some(work) = (busy < threads).then(|| board.next()).flatten() {
                    if busy == workers {
                        let (worker, answer) = (&worker, answer.clone());
                        let thread = thread::Builder::new();
                        match thread.spawn_scoped(scope, move || worker(answer)) {
                            Ok(_) => workers += 1,
                            // As many threads as the system allows.
                            Err(_) => threads = workers.max(1),
                        }
                    }
                    if workers == 0 {
                        let task = work.task;
                        board.take(task, self.carry_out(lanes, work, directory));
                        continue;
                    }
                    busy += 1;
                    // Its receiver lives as long as this function.
                    let _given = give.send(work);
                }
                let answer = match (board.due(), busy) {
                    (None, 0) => return,
                    (None, _) => answers.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    (Some(due), _) => {
                        answers.recv_timeout(due.saturating_duration_since(Instant::now()))
                    }
                };
                // Else it is time to look at what was started.
                if let Ok((task, done)) = answer {
                    busy -= 1;
                    board.take(task, done.unwrap_or_else(|panic| resume_unwind(panic)));
                }
            }
        });
    }

    fn carry_out(&self, lanes: &[Lane], work: Work, directory: Option<&Path>) -> Outcome {
        match work.task {
            // What cannot be asked now fails in its stop, which says why.
            Task::Ask(at) => Outcome::Asked(self.ask(&lanes[at]).unwrap_or_default()),
            Task::Run(at) => Outcome::Ran(self.run_lane(&lanes[at], work.asked, directory)),
            Task::Check(at) => Outcome::Checked(self.check(&lanes[at])),
        }
    }

    /// Asks the jail of a lane to end, without waiting for it.
    fn ask(&self, lane: &Lane) -> Result<Option<Asked>, ApplyError> {
        for step in &lane.steps {
            if let JailStep::Stop { jail, .. } = step {
                crash::point();
                return Ok(self.host.ask(jail, stopping(step, None))?);
            }
        }
        Ok(None)
    }

    fn run_lane(&self, lane: &Lane, asked: Option<Asked>, directory: Option<&Path>) -> Ran {
        let (mut changed, mut started) = (0, false);
        let result = lane.steps.iter().try_for_each(|step| {
            crash::point();
            let done = self.jail_step(step, asked.as_ref(), directory)?;
            changed += usize::from(done == Changed::Done);
            started |= matches!(step, JailStep::Start { .. }) && done == Changed::Done;
            Ok(())
        });
        Ran {
            changed,
            started,
            result,
        }
    }

    /// Whether the jail that a lane has started is still up.
    fn check(&self, lane: &Lane) -> Result<(), ApplyError> {
        crash::point();
        started(lane).map_or(Ok(()), |spec| Ok(self.host.ensure_up(spec)?))
    }

    fn jail_step(
        &self,
        step: &JailStep,
        asked: Option<&Asked>,
        directory: Option<&Path>,
    ) -> Result<Changed, ApplyError> {
        match step {
            JailStep::Derive { spec } => Ok(self.host.write_config(spec)?),
            JailStep::Forget { jail } => Ok(self.host.remove_config(jail)?),
            JailStep::RemoveDirectory { at } => remove_directory(at),
            JailStep::Mount(mount) => {
                self.ensure_uncovered(directory)?;
                Ok(self.zfs.mount(&mount.dataset, &mount.at, mount.how)?)
            }
            JailStep::Start { spec, again } => self.start(spec, *again),
            JailStep::Stop { jail, .. } => Ok(self.host.stop(jail, stopping(step, asked))?),
            JailStep::Refuse { why, .. } => Err(why.clone().into()),
            JailStep::ClearIdentity { .. } | JailStep::Flavour { .. } => {
                change_file(step, self.locks.stop())?;
                Ok(Changed::Done)
            }
        }
    }
}

/// The jail that a lane starts.
fn started(lane: &Lane) -> Option<&JailSpec> {
    lane.steps.iter().find_map(|step| match step {
        JailStep::Start { spec, .. } => Some(&**spec),
        _ => None,
    })
}

/// How a step stops a jail.
fn stopping<'a>(step: &'a JailStep, asked: Option<&'a Asked>) -> Stopping<'a> {
    let (profile, timeout) = match step {
        JailStep::Stop { spec, timeout, .. } => {
            (spec.as_ref().map(|spec| &*spec.profile), *timeout)
        }
        _ => (None, None),
    };
    Stopping {
        profile,
        timeout,
        asked,
    }
}

fn change_file(step: &JailStep, stop: &dyn Fn() -> bool) -> Result<(), WorldError> {
    match step {
        JailStep::ClearIdentity { spec } => {
            world::clear_identity(&spec.root, &spec.profile, stop)?;
        }
        JailStep::Flavour { spec, from, .. } => world::lay_over(from, &spec.root)?,
        _ => {}
    }
    Ok(())
}
