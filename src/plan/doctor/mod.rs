//! What is wrong with a site, and the plan that mends what is derived or debris and nothing else.
//!
//! The rules stand by their subject: `site`, `generations`, `jails`, `settings` (properties) and
//! `mounts`. All are pure: what they judge is an observation and the [`Facts`] that the verb
//! gathered. Must not be here: looking at anything, and mending what is broken.

mod facts;
mod foreign;
mod generations;
mod jails;
mod mounts;
mod settings;
mod site;

pub use facts::{Dataset, Entry, EntryKind, Facts, Setting, Snapshot};

use crate::plan::finding::{Finding, Severity, What};
use crate::plan::sanity::{Subject, cautions};
use crate::plan::{Observed, Plan, PlanError, Step};

/// Findings and the plan that mends those that can be.
#[derive(Debug, Default)]
pub struct Diagnosis {
    /// Sorted as they are to be read: site, tracks, generations, jails, host.
    pub findings: Vec<Finding>,
    /// What `--repair` does.
    pub plan: Plan,
}

impl Diagnosis {
    fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Adds a finding and the steps that mend it.
    fn mend(&mut self, finding: Finding, steps: impl IntoIterator<Item = Step>) {
        self.findings.push(Finding {
            repairable: true,
            ..finding
        });
        for step in steps {
            if !self.plan.has(&step) {
                self.plan.push(step);
            }
        }
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
    let mut found = Diagnosis {
        plan: Plan::of(inventory),
        ..Diagnosis::default()
    };
    if let Some(why) = &facts.unreadable {
        let what =
            format!("the datasets below it were not examined, and the pool is not repaired: {why}");
        let site = &inventory.site.layout.site;
        found.add(
            Finding::new(What::PropertyUnreadable, Severity::Broken, site, what)
                .made_by(
                    "who may set properties of a dataset below it, such as a jail that has one",
                )
                .hint("find it with `zfs get -r -s local all`, and remove it with `zfs inherit`"),
        );
    }
    let derived_only = derived_only || facts.unreadable.is_some();
    site::check(inventory, facts, &mut found);
    for generation in inventory.generations.values() {
        generations::check(inventory, generation, facts, derived_only, &mut found);
        if !derived_only {
            generations::foreign(generation, observed.os, &mut found);
        }
    }
    jails::check(observed, facts, derived_only, &mut found)?;
    // A replica is where its receiver wants it, and read-only most likely.
    if !inventory.site.replica {
        settings::check(inventory, facts, &mut found);
        mounts::check(inventory, facts, derived_only, &mut found);
        if !derived_only {
            around(observed, facts, &mut found);
        }
    }
    foreign::check(inventory, facts, &mut found);
    if inventory.site.read_only {
        let site = &inventory.site.layout.site;
        let what = "it is read-only: only mounts can be repaired";
        found.add(
            Finding::new(What::ReadOnly, Severity::Info, site, what)
                .hint("`zpool get readonly` and `zfs get readonly` show why"),
        );
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

/// What its jails run into on the host, or will.
fn around(observed: &Observed, facts: &Facts, found: &mut Diagnosis) {
    let jails = observed.inventory.jails.iter();
    let subjects: Vec<Subject<'_>> = jails
        .filter_map(|(name, jail)| {
            let config = jail.config.as_ref().ok()?;
            let runs = observed.state(name).running();
            Some(Subject { name, config, runs })
        })
        .collect();
    let cautions = cautions(&subjects, &observed.inventory, &facts.around);
    cautions.into_iter().for_each(|it| found.add(it));
}
