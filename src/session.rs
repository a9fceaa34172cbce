//! One command at work on one site: lock, observe, plan, commit, host; and again from the
//! observation if somebody else committed in between.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::apply::{Applied, Apply, ApplyError, split};
use crate::lock::{LockError, Locks};
use crate::model::Inventory;
use crate::name::{DatasetName, JailName};
use crate::observe::{self, ObserveError};
use crate::plan::{Observed, Plan, PlanError, Step};
use crate::ports::{Host, HostError, Zfs};

/// How often a command observes and plans before it gives up against others.
const TRIES: usize = 3;

/// Why a command did not do its work.
#[derive(Debug, Error)]
pub enum SessionError {
    /// Another ezz has the lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The site cannot be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The host cannot be asked.
    #[error("cannot ask the host what runs")]
    Host(#[from] HostError),
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A step failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Which jails a command is about.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Those that it locks.
    pub jails: BTreeSet<JailName>,
    /// Whether all jails of the site are read, and not only those.
    pub whole: bool,
}

impl Scope {
    /// Some jails.
    pub fn of(jails: impl IntoIterator<Item = JailName>) -> Self {
        Scope {
            jails: jails.into_iter().collect(),
            whole: false,
        }
    }

    /// The site, without a jail of it.
    pub fn none() -> Self {
        Scope::of([])
    }

    /// All jails are read; none is locked.
    pub fn all() -> Self {
        Scope {
            whole: true,
            ..Scope::none()
        }
    }
}

/// A command's plan, and what came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The plan.
    pub plan: Plan,
    /// What came of it; nothing of a dry run.
    pub applied: Applied,
    /// The epoch before.
    pub epoch: u64,
}

/// A site with what is needed to work on it.
#[derive(Debug)]
pub struct Session {
    /// The ZFS.
    pub zfs: Box<dyn Zfs>,
    /// The host.
    pub host: Box<dyn Host>,
    /// The site.
    pub site: DatasetName,
    /// Its locks.
    pub locks: Locks,
    /// Plans are made and not applied.
    pub dry_run: bool,
    /// Told of each step.
    pub on_step: fn(&Step),
}

impl Session {
    /// Observes the pool and the host.
    ///
    /// # Errors
    /// [`SessionError::Observe`], [`SessionError::Host`].
    pub fn observe(&self, scope: &Scope) -> Result<Observed, SessionError> {
        let inventory = self.inventory(scope)?;
        // A replica has the id of the site it came from, whose jails this host may run.
        let states = if inventory.site.replica {
            BTreeMap::new()
        } else {
            self.host.states()?
        };
        let directories = observe::directories(&inventory);
        Ok(Observed {
            inventory,
            states,
            directories,
        })
    }

    /// Observes the pool alone.
    ///
    /// # Errors
    /// [`ObserveError`].
    pub fn inventory(&self, scope: &Scope) -> Result<Inventory, ObserveError> {
        let named = (!scope.whole).then_some(&scope.jails);
        observe::inventory(self.zfs.as_ref(), &self.site, named)
    }

    /// Makes a plan and applies it. The site lock covers observation to the last commit; the
    /// locks of the jails cover all.
    ///
    /// # Errors
    /// [`SessionError`]. Failures of single jails are in the outcome.
    pub fn transact(
        &self,
        scope: &Scope,
        mut plan: impl FnMut(&Observed) -> Result<Plan, SessionError>,
    ) -> Result<Outcome, SessionError> {
        let _jails = self.locks.jails(&scope.jails)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let site_lock = self.locks.site()?;
            let observed = self.observe(scope)?;
            let epoch = observed.inventory.site.epoch;
            let plan = plan(&observed)?;
            let mut applied = Applied::default();
            if self.dry_run {
                return Ok(Outcome {
                    plan,
                    applied,
                    epoch,
                });
            }
            let (commits, rest) = split(&plan);
            match self.apply(true).run(commits, &mut applied) {
                Err(error) if error.stale() && tries < TRIES => continue,
                result => result?,
            }
            drop(site_lock);
            self.apply(false).run(rest, &mut applied)?;
            return Ok(Outcome {
                plan,
                applied,
                epoch,
            });
        }
    }

    /// Applies a plan that needs no observation of its own.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn run(&self, plan: &Plan) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        if !self.dry_run {
            self.apply(false).run(&plan.steps, &mut applied)?;
        }
        Ok(applied)
    }

    fn apply(&self, strict: bool) -> Apply<'_> {
        Apply {
            zfs: self.zfs.as_ref(),
            host: self.host.as_ref(),
            site: &self.site,
            on_step: self.on_step,
            strict,
        }
    }
}
