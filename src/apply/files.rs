//! The steps that change the files of new jails: many jails side by side, the steps of each in their order.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{Applied, Apply, ApplyError, Known};
use crate::crash;
use crate::model::FLAVOURS;
use crate::name::JailName;
use crate::plan::{PlanError, Step};
use crate::ports::JailSpec;
use crate::world::{self, WorldError};

/// Whether it is such a step, and of which jail.
pub(super) fn of(step: &Step) -> Option<&JailName> {
    match step {
        Step::ClearIdentity { jail } | Step::Flavour { jail, .. } => Some(jail),
        _ => None,
    }
}

impl Apply<'_> {
    /// Does such steps, which follow each other in the plan.
    pub(super) fn files(
        &self,
        steps: &[Step],
        plan: &[Step],
        known: &mut Known<'_>,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        let mut by_jail: BTreeMap<&JailName, Vec<&Step>> = BTreeMap::new();
        for step in steps {
            if let Some(jail) = of(step) {
                by_jail.entry(jail).or_default().push(step);
            }
        }
        by_jail.retain(|jail, _| applied.failed.iter().all(|(failed, _)| failed != *jail));
        let specs = self.specs(plan, known)?;
        let mut wanted: Vec<(JailSpec, Vec<&Step>)> = Vec::with_capacity(by_jail.len());
        for (jail, steps) in by_jail {
            match specs.remove(jail) {
                Some(Ok(spec)) => wanted.push((spec, steps)),
                Some(Err(error)) => return Err(error),
                None => return Err(PlanError::NoJail(jail.clone()).into()),
            }
        }
        let stop = self.locks.stop();
        let work = |(spec, steps): &(JailSpec, Vec<&Step>)| {
            steps.iter().try_for_each(|step| {
                crash::point();
                one(spec, step, stop)
            })
        };
        let done: Vec<Result<(), WorldError>> = wanted.par_iter().map(work).collect();
        for ((spec, steps), done) in wanted.into_iter().zip(done) {
            match done {
                Ok(()) => {
                    applied.changed += steps.len();
                    steps.into_iter().for_each(|step| self.done(step));
                }
                Err(error) if self.strict => return Err(error.into()),
                Err(error) => applied.failed.push((spec.name.clone(), error.into())),
            }
            specs.insert(spec.name.clone(), Ok(spec));
        }
        Ok(())
    }
}

fn one(spec: &JailSpec, step: &Step, stop: &dyn Fn() -> bool) -> Result<(), WorldError> {
    match step {
        Step::ClearIdentity { .. } => {
            world::clear_identity(&spec.root, &spec.profile, stop)?;
        }
        Step::Flavour { flavour, .. } => {
            // Beside the jails, which are directories of the site.
            let site = spec.root.parent().unwrap_or(&spec.root);
            world::lay_over(&site.join(FLAVOURS).join(flavour.as_str()), &spec.root)?;
        }
        _ => {}
    }
    Ok(())
}
