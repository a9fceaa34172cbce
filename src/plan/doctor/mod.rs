//! What is wrong with a site, and the plan that mends what is derived or debris and nothing else.
//!
//! The rules are tables of [`Check`]s, by their subject: `site`, `tracks`, `directories`, `generations`, `jails`,
//! `unfinished`, `settings` (properties), `mounts`, `foreign`, and `preflight` for conflicts with the host. All are pure:
//! what they judge is an observation and the [`Facts`] that the verb gathered. Must not be here: looking at
//! anything, and mending what is broken.

mod directories;
mod facts;
mod foreign;
mod generations;
mod jails;
mod mounts;
mod seals;
mod settings;
mod site;
mod tracks;
mod unfinished;

pub use facts::{Dataset, Entry, EntryKind, Facts, Setting, Snapshot};

use crate::model::JailConfig;
use crate::name::JailName;
use crate::plan::check::{Case, Check, Mend, Row, rows};
use crate::plan::finding::{Finding, What};
use crate::plan::preflight::{self, Subject};
use crate::plan::{Epoch, Observed, Plan, PlanError, Step, generation, intent, steps, undo};

/// Findings and the plan that mends those that can be.
#[derive(Debug, Default)]
pub struct Diagnosis {
    /// Sorted as they are to be read: site, tracks, generations, jails, host.
    pub findings: Vec<Finding>,
    /// What `--repair` does.
    pub plan: Plan,
}

/// What all checks look at.
#[derive(Clone, Copy)]
struct Site<'a> {
    observed: &'a Observed,
    facts: &'a Facts,
    /// Whether the repair restores only what is derived, as at boot.
    derived_only: bool,
}

/// A diagnosis that is being made.
struct Examination<'a> {
    site: Site<'a>,
    found: Diagnosis,
    epoch: Epoch,
    /// Jails whose creation the repair finishes.
    finished: Vec<(JailName, JailConfig)>,
}

impl Examination<'_> {
    /// Runs every check of a table on one object.
    fn run<O>(&mut self, table: &[Check<O>], object: &O) -> Result<(), PlanError> {
        for check in table {
            for mut case in (check.find)(object) {
                if check.waits && self.site.derived_only {
                    case.mend = None;
                }
                self.found.findings.push(check.finding(&case));
                if let Some(mend) = case.mend {
                    self.mend(mend)?;
                }
            }
        }
        Ok(())
    }

    fn mend(&mut self, mend: Mend) -> Result<(), PlanError> {
        let inventory = &self.site.observed.inventory;
        let plan = &mut self.found.plan;
        match mend {
            Mend::Steps(steps) => {
                for step in steps {
                    if !plan.has(&step) {
                        plan.push(step);
                    }
                }
            }
            Mend::UnmarkSeal(id) => {
                let marked = inventory.generations.get(&id).into_iter();
                let steps = generation::unmark(inventory, &mut self.epoch, marked);
                steps.into_iter().for_each(|step| plan.push(step));
            }
            Mend::UndoMerge(name) => {
                let jail = inventory.jails.get(&name);
                let snapshots = self.site.facts.interrupted.get(&name);
                if let Some((jail, snapshots)) = jail.zip(snapshots) {
                    undo::undo(plan, &mut self.epoch, inventory, jail, snapshots)?;
                }
            }
            // Once for all of them, after the jails.
            Mend::Clear => {}
            Mend::Finish(name) => {
                let jail = inventory.jails.get(&name);
                if let Some(Ok(config)) = jail.map(|jail| jail.config.clone()) {
                    self.finished.push((name, config));
                }
            }
        }
        Ok(())
    }

    /// Adds the steps that are planned for many jails at once.
    fn mend_together(&mut self) -> Result<(), PlanError> {
        let inventory = &self.site.observed.inventory;
        let (plan, epoch) = (&mut self.found.plan, &mut self.epoch);
        if !self.site.derived_only {
            intent::clear(plan, inventory, epoch);
        }
        for chunk in self.finished.chunks(steps::MOST_IN_ONE) {
            steps::finish_new(plan, inventory, epoch, chunk)?;
        }
        Ok(())
    }
}

/// Compares what is with what should be. With `derived_only` the plan restores only what is
/// derived, as at boot: mounts, links and derived files.
///
/// # Errors
/// [`PlanError`] if the remaking of an unfinished jail cannot be planned.
pub fn diagnose(
    observed: &Observed,
    facts: &Facts,
    derived_only: bool,
) -> Result<Diagnosis, PlanError> {
    let inventory = &observed.inventory;
    let site = Site {
        observed,
        facts,
        derived_only: derived_only || facts.unreadable.is_some(),
    };
    let mut examination = Examination {
        site,
        found: Diagnosis {
            plan: Plan::of(inventory),
            ..Diagnosis::default()
        },
        epoch: Epoch::of(inventory),
        finished: Vec::new(),
    };
    site::examine(&mut examination)?;
    tracks::examine(&mut examination)?;
    directories::examine(&mut examination)?;
    generations::examine(&mut examination)?;
    jails::examine(&mut examination)?;
    // A replica is where its receiver wants it, and read-only most likely.
    if !inventory.site.replica {
        settings::examine(&mut examination)?;
        mounts::examine(&mut examination)?;
        if !site.derived_only {
            let subjects = subjects(observed);
            let view = preflight::View::new(&subjects, inventory, &facts.around);
            examination.run(&preflight::checks(), &view)?;
        }
    }
    foreign::examine(&mut examination)?;
    let mut found = examination.found;
    if inventory.site.read_only {
        (found.plan.steps).retain(|step| matches!(step, Step::Mount { .. }));
        found.plan.ends.clear();
        for finding in &mut found.findings {
            finding.repairable &= matches!(finding.kind, What::NotMounted | What::MountFlags);
        }
    }
    if inventory.site.replica {
        found.plan = Plan::default();
        for finding in &mut found.findings {
            finding.repairable = false;
        }
    }
    Ok(found)
}

/// All checks, sorted by kind and severity: the reference of what doctor can find.
pub fn table() -> Vec<Row> {
    let mut all = [
        rows(&site::checks()),
        rows(&tracks::checks()),
        rows(&directories::checks()),
        generations::rows(),
        rows(&seals::checks()),
        jails::rows(),
        unfinished::rows(),
        rows(&settings::checks()),
        mounts::rows(),
        rows(&preflight::checks()),
        rows(&foreign::checks()),
    ]
    .concat();
    all.sort();
    all
}

/// The jails that conflicts with the host are looked for in.
fn subjects(observed: &Observed) -> Vec<Subject<'_>> {
    let jails = observed.inventory.jails.iter();
    let subject = jails.filter_map(|(name, jail)| {
        let config = jail.config.as_ref().ok()?;
        let runs = observed.state(name).running();
        Some(Subject { name, config, runs })
    });
    subject.collect()
}

/// A check with one case at most.
fn one(case: Option<Case>) -> Vec<Case> {
    case.into_iter().collect()
}
