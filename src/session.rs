//! One command at work on one site: lock, observe, plan, commit, host; and again from the
//! observation if somebody else committed in between.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

use crate::execute::{Applied, Apply, ApplyError};
use crate::hint::Hint;
use crate::lock::{Held, LockError, Locks};
use crate::model::{Inventory, JailState};
use crate::name::{DatasetName, GenerationId, JailName, TrackName};
use crate::observe::{self, ObserveError, Reading, Top};
use crate::plan::{Observed, Plan, PlanError, fallback};
use crate::ports::{Host, HostError, Zfs};

/// How often a command observes and plans before it gives up against others. The site lock makes a
/// second try rare; where it is not shared (another /run, its files removed) twelve were too few for
/// eight processes at once on a busy machine.
const TRIES: u32 = 40;

/// After so many tries it waits a little before the next, each time longer.
const AT_ONCE: u32 = 3;

/// How often a dataset that is busy, though ezz has just unmounted it, is tried, and how much longer
/// each pause is. A container that is being made, whoever makes it, has a copy of all mounts of the
/// host until it has its own root; where the host's mounts are not shared, ours is in it.
const BUSY_TRIES: u32 = 8;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// How long. Not the same for all, so that two do not keep step.
fn longer(tries: u32) -> Duration {
    let step = 10 + u64::from(std::process::id() % 23);
    Duration::from_millis(step * u64::from(tries.saturating_sub(AT_ONCE)))
}

/// Why a command did not do its work.
#[derive(Debug, Error)]
pub enum SessionError {
    /// Another ezz has the lock.
    #[error(transparent)]
    Lock(LockError),
    /// A signal asked the command to stop while it waited, or before it began.
    #[error("{how}; {}", if *.changed { "finished changes are kept" } else { "nothing was changed" })]
    Interrupted {
        /// That, and what it waited for, or which jails it has not reached.
        how: String,
        /// Whether the command had changed something by then.
        changed: bool,
        /// How many jails were reached, of those that the plan moves.
        reached: usize,
        /// Jails whose own steps failed before.
        failed: Vec<(JailName, ApplyError)>,
    },
    /// The site cannot be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The host cannot be asked.
    #[error("cannot find out which jails are running")]
    Host(#[from] HostError),
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A step failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl Hint for SessionError {
    fn hint(&self) -> Option<String> {
        match self {
            SessionError::Lock(inner) => inner.hint(),
            SessionError::Interrupted { changed, .. } => {
                changed.then(|| "the same command does the rest".to_owned())
            }
            SessionError::Observe(inner) => inner.hint(),
            SessionError::Host(inner) => inner.hint(),
            SessionError::Plan(inner) => inner.hint(),
            SessionError::Apply(inner) => inner.hint(),
        }
    }
}

/// Which jails a command is about.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Those that it locks.
    pub jails: BTreeSet<JailName>,
    /// Those that it reads beside them.
    pub also: BTreeSet<JailName>,
    /// Whether all jails of the site are read, and not only those.
    pub whole: bool,
    /// Whether of the generations those are enough that tracks are at.
    pub current: bool,
    /// Whether it finishes or undoes what the command began: then no signal stops it.
    pub steadfast: bool,
    /// Whether it may end a start of one of its jails that keeps it waiting.
    pub ends_starts: bool,
}

impl Scope {
    /// Some jails.
    pub fn of(jails: impl IntoIterator<Item = JailName>) -> Self {
        Scope {
            jails: jails.into_iter().collect(),
            also: BTreeSet::new(),
            whole: false,
            current: false,
            steadfast: false,
            ends_starts: false,
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

    /// The same scope for what ends jails, whoever is starting one of them.
    #[must_use]
    pub fn ending_starts(self) -> Self {
        Scope {
            ends_starts: true,
            ..self
        }
    }

    /// The same scope for what finishes or undoes something: no signal stops it.
    #[must_use]
    pub fn steadfast(self) -> Self {
        Scope {
            steadfast: true,
            ..self
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
    /// The lock of the generation that the plan began.
    pub stage: Option<Held>,
}

/// What happens around a plan that comes with a value of its own.
pub struct Around<'a, T> {
    /// Before the plan is applied, or shown. What it adds to the plan are notes.
    pub before: &'a dyn Fn(&Observed, &mut Plan, &T),
    /// Once nothing more is done with a jail.
    pub done: &'a dyn Fn(&JailName, &T),
}

impl<T> Around<'_, T> {
    /// Nothing happens around it.
    pub fn nothing() -> Self {
        Around {
            before: &|_, _, _| {},
            done: &|_, _| {},
        }
    }
}

impl<T> fmt::Debug for Around<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
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
    /// Its `ezz:id`.
    pub id: String,
    /// Its locks.
    pub locks: Locks,
    /// How many lanes of a plan are carried out at once, at most.
    pub jobs: usize,
    /// Plans are made and not applied.
    pub dry_run: bool,
    /// Observations are those of a command that commits, see [`Zfs::look`].
    pub looks: bool,
    /// What was read of the site to find it, for the first observation of a plan that commits.
    pub top: Mutex<Option<Top>>,
    /// Whether the kernel has said that its programs cannot clone; false until it was asked.
    pub no_sync_clone: AtomicBool,
    /// Whether the command has changed anything yet.
    pub changed: AtomicBool,
}

impl Session {
    /// Locks the site.
    ///
    /// # Errors
    /// [`SessionError::Lock`]; [`SessionError::Interrupted`].
    pub fn lock_site(&self) -> Result<Held, SessionError> {
        self.waited(self.locks.site())
    }

    /// Locks jails.
    ///
    /// # Errors
    /// As [`Session::lock_site`].
    pub fn lock_jails(&self, names: &BTreeSet<JailName>) -> Result<Held, SessionError> {
        self.waited(self.locks.jails(names))
    }

    /// Locks a generation that is to be built.
    ///
    /// # Errors
    /// As [`Session::lock_site`].
    pub fn lock_stage(&self, generation: GenerationId) -> Result<Held, SessionError> {
        self.waited(self.locks.stage(generation))
    }

    /// Locks the roll-out of a track.
    ///
    /// # Errors
    /// As [`Session::lock_site`].
    pub fn lock_rollout(&self, track: &TrackName) -> Result<Held, SessionError> {
        self.waited(self.locks.rollout(track))
    }

    /// Adds to an interruption whether the command had changed anything.
    fn waited<T>(&self, done: Result<T, LockError>) -> Result<T, SessionError> {
        done.map_err(|error| match error {
            LockError::Interrupted { .. } => SessionError::Interrupted {
                how: error.to_string(),
                changed: self.changed.load(Ordering::Relaxed),
                reached: 0,
                failed: Vec::new(),
            },
            other => SessionError::Lock(other),
        })
    }

    /// The same for a plan that a signal has ended, with the jails that had failed by then.
    fn begun(
        &self,
        done: Result<(), ApplyError>,
        applied: &mut Applied,
    ) -> Result<(), SessionError> {
        done.map_err(|error| match &error {
            ApplyError::Interrupted(unreached) => SessionError::Interrupted {
                changed: self.changed.load(Ordering::Relaxed),
                reached: unreached.reached,
                failed: std::mem::take(&mut applied.failed),
                how: error.to_string(),
            },
            _ => SessionError::Apply(error),
        })
    }

    /// Remembers whether anything changed.
    fn note(&self, applied: &Applied) {
        self.changed
            .fetch_or(applied.changed > 0, Ordering::Relaxed);
    }

    /// The states of the host's jails. One that a command is starting is not up yet, whatever runs in it.
    ///
    /// # Errors
    /// [`HostError`] if the host cannot be asked.
    pub fn states(&self) -> Result<BTreeMap<JailName, JailState>, HostError> {
        let mut states = self.host.states()?;
        let starts = self.locks.starts().into_iter();
        states.extend(starts.map(|name| (name, JailState::Starting)));
        Ok(states)
    }

    /// Observes the pool and the host.
    ///
    /// # Errors
    /// [`SessionError::Observe`], [`SessionError::Host`].
    pub fn observe(&self, scope: &Scope) -> Result<Observed, SessionError> {
        self.observe_on(scope, None)
    }

    /// The same, on what is known of the site itself.
    fn observe_on(&self, scope: &Scope, top: Option<Top>) -> Result<Observed, SessionError> {
        let inventory = self.inventory_on(scope, top)?;
        // A replica has the id of the site it came from, whose jails this host may run.
        let states = if inventory.site.replica {
            BTreeMap::new()
        } else {
            self.states()?
        };
        let directories = observe::directories(self.zfs.as_ref(), &inventory, &scope.jails)?;
        let flavours = observe::flavours(&inventory);
        Ok(Observed {
            inventory,
            states,
            directories,
            flavours,
            os: self.host.os(),
            sync_clone: !self.no_sync_clone.load(Ordering::Relaxed),
        })
    }

    /// Observes, and if some command seems to be between intent and commit, once more when that is
    /// over: what is left then is debris.
    ///
    /// # Errors
    /// As [`Session::observe`] and [`Session::lock_site`].
    pub fn observe_settled(&self, scope: &Scope) -> Result<Observed, SessionError> {
        let observed = self.observe(scope)?;
        if observed.inventory.intents.is_empty() || observed.inventory.site.replica {
            return Ok(observed);
        }
        let _site = self.lock_site()?;
        self.observe(scope)
    }

    /// Observes the pool alone.
    ///
    /// # Errors
    /// [`ObserveError`].
    pub fn inventory(&self, scope: &Scope) -> Result<Inventory, ObserveError> {
        self.inventory_on(scope, None)
    }

    fn inventory_on(&self, scope: &Scope, top: Option<Top>) -> Result<Inventory, ObserveError> {
        let named: BTreeSet<JailName> = scope.jails.union(&scope.also).cloned().collect();
        let reading = Reading {
            jails: (!scope.whole).then_some(&named),
            current: scope.current,
            looks: self.looks,
            top,
        };
        observe::inventory(self.zfs.as_ref(), &self.site, reading)
    }

    /// Makes a plan and applies it. The site lock covers observation to the last commit; the
    /// locks of the jails cover all.
    ///
    /// # Errors
    /// [`SessionError`]. Failures of single jails are in the outcome.
    pub fn transact(
        &self,
        scope: &Scope,
        plan: impl Fn(&Observed) -> Result<Plan, SessionError>,
    ) -> Result<Outcome, SessionError> {
        let plan = |observed: &Observed| Ok((plan(observed)?, ()));
        let (outcome, ()) = self.transact_around(scope, plan, &Around::nothing())?;
        Ok(outcome)
    }

    /// Like [`Session::transact`], for a plan that comes with a value: that of the plan which was applied is
    /// returned. The plan may be made several times, and begun several times if others change the site in between.
    ///
    /// # Errors
    /// As [`Session::transact`].
    pub fn transact_around<T>(
        &self,
        scope: &Scope,
        plan: impl Fn(&Observed) -> Result<(Plan, T), SessionError>,
        around: &Around<'_, T>,
    ) -> Result<(Outcome, T), SessionError> {
        let locks = match scope.steadfast {
            true => Cow::Owned(self.locks.steadfast()),
            false => Cow::Borrowed(&self.locks),
        };
        let pause = |length, waiting| self.waited(locks.pause(length, waiting));
        let _jails = self.waited(match scope.ends_starts && !self.dry_run {
            true => locks.jails_ending_starts(&scope.jails),
            false => locks.jails(&scope.jails),
        })?;
        let mut tries = 1;
        loop {
            let site_lock = self.waited(locks.site())?;
            let top = self
                .top
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let old = top.is_some();
            let observed = self.observe_on(scope, top)?;
            let epoch = observed.inventory.site.epoch;
            let (mut plan, of_plan) = match plan(&observed) {
                // Only a commit tells whether what was read before the lock still holds.
                Ok((plan, _)) if old && !plan.commits() => continue,
                Err(_) if old => continue,
                other => other?,
            };
            if self.cannot(&plan)? {
                continue;
            }
            (around.before)(&observed, &mut plan, &of_plan);
            let mut applied = Applied::default();
            if self.dry_run {
                let outcome = Outcome {
                    plan,
                    applied,
                    epoch,
                    stage: None,
                };
                return Ok((outcome, of_plan));
            }
            // The lock of an earlier try, whose number was taken by another command, is gone by now.
            let stage = plan.stage.map(|id| self.lock_stage(id)).transpose()?;
            let last = plan.last_program();
            let tell = |jail: &JailName| (around.done)(jail, &of_plan);
            let done = self
                .apply(true, &locks)
                .run(&plan, 0..last, &mut applied, &tell);
            self.note(&applied);
            match done {
                Err(error) if error.stale() && tries < TRIES => {
                    drop(site_lock);
                    pause(longer(tries), "other commands to finish with this site")?;
                    tries += 1;
                    continue;
                }
                Err(error) if error.unsupported() && observed.sync_clone => {
                    self.no_sync_clone.store(true, Ordering::Relaxed);
                    continue;
                }
                Err(error) if error.busy() && tries < BUSY_TRIES => {
                    drop(site_lock);
                    pause(BUSY_PAUSE * tries, "a dataset that is in use")?;
                    tries += 1;
                    continue;
                }
                result => self.begun(result, &mut applied)?,
            }
            drop(site_lock);
            let all = plan.steps.len();
            let apply = self.apply(false, &locks);
            let done = apply.run(&plan, last..all, &mut applied, &tell);
            self.note(&applied);
            self.begun(done, &mut applied)?;
            let outcome = Outcome {
                plan,
                applied,
                epoch,
                stage,
            };
            return Ok((outcome, of_plan));
        }
    }

    /// Whether a plan has a program that the kernel refuses, where that would be noticed too late.
    fn cannot(&self, plan: &Plan) -> Result<bool, SessionError> {
        if !fallback::refused_too_late(plan, self.dry_run) {
            return Ok(false);
        }
        let found = self.zfs.capabilities(&self.site);
        let cannot = !found.map_err(ApplyError::from)?.sync_clone;
        self.no_sync_clone.store(cannot, Ordering::Relaxed);
        Ok(cannot)
    }

    /// Applies a plan that needs no observation of its own.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn run(&self, plan: &Plan) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        if !self.dry_run {
            let all = 0..plan.steps.len();
            let apply = self.apply(false, &self.locks);
            let done = apply.run(plan, all, &mut applied, &|_| {});
            self.note(&applied);
            done?;
        }
        Ok(applied)
    }

    /// Applies a plan also for a dry run: mounts for the time of reading, which it has to see.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn run_always(&self, plan: &Plan) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        let all = 0..plan.steps.len();
        let apply = self.apply(false, &self.locks);
        apply.run(plan, all, &mut applied, &|_| {})?;
        Ok(applied)
    }

    fn apply<'a>(&'a self, strict: bool, locks: &'a Locks) -> Apply<'a> {
        Apply {
            zfs: self.zfs.as_ref(),
            host: self.host.as_ref(),
            site: &self.site,
            jobs: self.jobs,
            strict,
            locks,
        }
    }
}
