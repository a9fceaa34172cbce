//! The lanes of a plan: the steps of single jails, each jail's in their order.

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;

use super::{Applied, Apply, ApplyError, remove_directory};
use crate::crash;
use crate::model::Changed;
use crate::name::JailName;
use crate::plan::{JailStep, Lane};
use crate::ports::Stopping;
use crate::world::{self, WorldError};

/// What came of a lane: how many steps changed something, and the failure that ended it.
type Outcome = (usize, Result<(), ApplyError>);

impl Apply<'_> {
    /// Carries out lanes. `ending` are the jails with which nothing more is done afterwards.
    pub(super) fn lanes(
        &self,
        lanes: &[Lane],
        ending: &BTreeSet<&JailName>,
        directory: Option<&Path>,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        let lanes: Vec<&Lane> = lanes
            .iter()
            .filter(|lane| !applied.has_failed(&lane.jail))
            .collect();
        let files = |lane: &&&Lane| lane.steps.iter().all(is_of_files);
        let (files, others): (Vec<&Lane>, Vec<&Lane>) = lanes.iter().partition(|lane| files(lane));
        let stop = self.locks.stop();
        let work = |lane: &&Lane| change_files(lane, stop);
        let done: Vec<Outcome> = files.par_iter().map(work).collect();
        for (lane, outcome) in files.into_iter().zip(done) {
            self.end(lane, outcome, ending, applied)?;
        }
        for lane in others {
            let mut changed = 0;
            let done = lane.steps.iter().try_for_each(|step| {
                crash::point();
                let done = self.jail_step(step, directory)?;
                changed += usize::from(done == Changed::Done);
                Ok(())
            });
            self.end(lane, (changed, done), ending, applied)?;
        }
        Ok(())
    }

    /// Notes what came of a lane.
    fn end(
        &self,
        lane: &Lane,
        (changed, done): Outcome,
        ending: &BTreeSet<&JailName>,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        applied.changed += changed;
        match done {
            Ok(()) if ending.contains(&lane.jail) => (self.done)(&lane.jail),
            Ok(()) => {}
            Err(error) if self.strict || matches!(error, ApplyError::Interrupted(_)) => {
                return Err(error);
            }
            Err(error) => applied.failed.push((lane.jail.clone(), error)),
        }
        Ok(())
    }

    fn jail_step(&self, step: &JailStep, directory: Option<&Path>) -> Result<Changed, ApplyError> {
        match step {
            JailStep::Derive { spec } => Ok(self.host.derive(spec)?),
            JailStep::Forget { jail } => Ok(self.host.forget(jail)?),
            JailStep::RemoveDirectory { at } => remove_directory(at),
            JailStep::Mount(mount) => {
                self.ensure_uncovered(directory)?;
                Ok(self.zfs.mount(&mount.dataset, &mount.at, mount.how)?)
            }
            JailStep::Start { spec, again } => self.start(spec, *again),
            JailStep::Stop {
                jail,
                spec,
                timeout,
            } => {
                let how = Stopping {
                    profile: spec.as_ref().map(|spec| &*spec.profile),
                    timeout: *timeout,
                };
                Ok(self.host.stop(jail, how)?)
            }
            JailStep::Refuse { why, .. } => Err(why.clone().into()),
            JailStep::ClearIdentity { .. } | JailStep::Flavour { .. } => {
                change_file(step, self.locks.stop())?;
                Ok(Changed::Done)
            }
        }
    }
}

/// Whether it changes files of a new jail, which can be done for many at once.
fn is_of_files(step: &JailStep) -> bool {
    matches!(
        step,
        JailStep::ClearIdentity { .. } | JailStep::Flavour { .. }
    )
}

fn change_files(lane: &Lane, stop: &dyn Fn() -> bool) -> Outcome {
    let done = lane.steps.iter().try_for_each(|step| {
        crash::point();
        change_file(step, stop)
    });
    let changed = match &done {
        Ok(()) => lane.steps.len(),
        Err(_) => 0,
    };
    (changed, done.map_err(ApplyError::from))
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
