//! Walks a plan. Decides nothing: what is done, and in which order, is the plan's; what happens
//! after a failure is one rule, that the rest of that jail's steps are left out and the other
//! jails go on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use thiserror::Error;

use crate::model::{Changed, Inventory, Kind, track_link};
use crate::name::{DatasetName, GenerationId, JailName};
use crate::observe::{self, ObserveError};
use crate::plan::{Plan, PlanError, Step, run};
use crate::ports::{BaseMount, Host, HostError, JailSpec, PortError, Zfs};
use crate::profile::Profile;

/// Mounts at once: the kernel does the work, a few threads keep it busy.
const MOUNT_THREADS: usize = 16;

/// Why a step failed.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// ZFS.
    #[error(transparent)]
    Zfs(#[from] PortError),
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The site cannot be read again.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A jail cannot be understood.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No profile of that name is known.
    #[error("{generation} was installed by the profile {profile:?}, which this ezz does not know")]
    Profile {
        /// Whose world.
        generation: String,
        /// Which profile.
        profile: String,
    },
    /// A derived file of ezz itself.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl ApplyError {
    /// Whether the site changed since it was read: observe and plan again.
    pub fn stale(&self) -> bool {
        matches!(self, ApplyError::Zfs(PortError::Stale { .. }))
    }
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// How many steps changed something.
    pub changed: usize,
    /// Jails whose own steps failed, with the first failure of each.
    pub failed: Vec<(JailName, ApplyError)>,
}

/// What a plan is applied with.
#[derive(Debug)]
pub struct Apply<'a> {
    /// The ZFS.
    pub zfs: &'a dyn Zfs,
    /// The host.
    pub host: &'a dyn Host,
    /// The site.
    pub site: &'a DatasetName,
    /// Called before each step.
    pub on_step: fn(&Step),
    /// Whether one jail's failure ends it all: so before a commit, which speaks for all of them.
    pub strict: bool,
}

impl Apply<'_> {
    /// Does the steps in their order.
    ///
    /// # Errors
    /// [`ApplyError`] of the first failed step that is not one jail's own; those before it are
    /// done. Failures of one jail's own steps are in [`Applied::failed`].
    pub fn run(&self, plan: &[Step], applied: &mut Applied) -> Result<(), ApplyError> {
        let mut specs: Option<BTreeMap<JailName, Result<JailSpec, ApplyError>>> = None;
        let mut index = 0;
        while index < plan.len() {
            let mounts = plan[index..]
                .iter()
                .take_while(|step| matches!(step, Step::Mount { .. }))
                .count();
            if mounts > 1 {
                self.mount_all(&plan[index..index + mounts], applied)?;
                index += mounts;
                continue;
            }
            let step = &plan[index];
            index += 1;
            (self.on_step)(step);
            let jail = match step {
                Step::Derive { jail }
                | Step::Forget { jail }
                | Step::Start { jail }
                | Step::Stop { jail } => Some(jail),
                Step::Create { .. }
                | Step::Commit { .. }
                | Step::Hold { .. }
                | Step::Release { .. }
                | Step::Mount { .. }
                | Step::Unmount { .. }
                | Step::RemoveDirectory { .. }
                | Step::Destroy { .. }
                | Step::Property { .. }
                | Step::Link { .. }
                | Step::Unlink { .. } => None,
            };
            let Some(jail) = jail else {
                if matches!(step, Step::Commit { .. }) {
                    specs = None;
                }
                if self.step(step)? == Changed::Done {
                    applied.changed += 1;
                }
                continue;
            };
            if applied.failed.iter().any(|(name, _)| name == jail) {
                continue;
            }
            let done = match step {
                Step::Stop { .. } | Step::Forget { .. } => self.host_step(step, jail, None),
                _ => {
                    let specs = match &mut specs {
                        Some(specs) => specs,
                        none => none.insert(self.specs(plan)?),
                    };
                    match specs.get(jail) {
                        Some(Ok(spec)) => self.host_step(step, jail, Some(spec)),
                        Some(Err(_)) | None => match specs.remove(jail) {
                            Some(Err(error)) => Err(error),
                            Some(Ok(_)) | None => Err(PlanError::NoJail(jail.clone()).into()),
                        },
                    }
                }
            };
            match done {
                Ok(Changed::Done) => applied.changed += 1,
                Ok(Changed::Already) => {}
                Err(error) if self.strict => return Err(error),
                Err(error) => applied.failed.push((jail.clone(), error)),
            }
        }
        Ok(())
    }

    fn mount_all(&self, steps: &[Step], applied: &mut Applied) -> Result<(), ApplyError> {
        let mount = |step: &Step| match step {
            Step::Mount { dataset, at, how } => self.zfs.mount(dataset, at, *how),
            _ => Ok(Changed::Already),
        };
        steps.iter().for_each(self.on_step);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(MOUNT_THREADS)
            .build();
        let done: Vec<Result<Changed, PortError>> = match pool {
            Ok(pool) => pool.install(|| steps.par_iter().map(mount).collect()),
            Err(_) => steps.iter().map(mount).collect(),
        };
        for result in done {
            if result? == Changed::Done {
                applied.changed += 1;
            }
        }
        Ok(())
    }

    fn host_step(
        &self,
        step: &Step,
        jail: &JailName,
        spec: Option<&JailSpec>,
    ) -> Result<Changed, ApplyError> {
        match (step, spec) {
            (Step::Stop { .. }, _) => {
                // The rules of its world say how it is asked to stop; without them it is killed.
                let profile = self.profile_of(jail);
                Ok(self.host.stop(jail, profile.as_ref())?)
            }
            (Step::Forget { .. }, _) => Ok(self.host.forget(jail)?),
            (Step::Derive { .. }, Some(spec)) => Ok(self.host.derive(spec)?),
            (Step::Start { .. }, Some(spec)) => Ok(self.host.start(spec)?),
            _ => Ok(Changed::Already),
        }
    }

    fn profile_of(&self, jail: &JailName) -> Option<Profile> {
        let scope = BTreeSet::from([jail.clone()]);
        let inventory = observe::inventory(self.zfs, self.site, Some(&scope)).ok()?;
        spec(&inventory, jail).ok().map(|spec| spec.profile)
    }

    fn specs(
        &self,
        plan: &[Step],
    ) -> Result<BTreeMap<JailName, Result<JailSpec, ApplyError>>, ApplyError> {
        let names: BTreeSet<JailName> = plan
            .iter()
            .filter_map(|step| match step {
                Step::Derive { jail } | Step::Start { jail } => Some(jail.clone()),
                _ => None,
            })
            .collect();
        let inventory = observe::inventory(self.zfs, self.site, Some(&names))?;
        Ok(names
            .into_iter()
            .map(|name| {
                let spec = spec(&inventory, &name);
                (name, spec)
            })
            .collect())
    }

    fn step(&self, step: &Step) -> Result<Changed, ApplyError> {
        match step {
            Step::Create {
                dataset,
                properties,
            } => {
                self.zfs.create(dataset, properties)?;
                Ok(Changed::Done)
            }
            Step::Commit { site, commit } => {
                self.zfs.commit(site, commit)?;
                Ok(Changed::Done)
            }
            Step::Hold { snapshots } => Ok(self.zfs.hold(snapshots)?),
            Step::Release { snapshots } => Ok(self.zfs.release(snapshots)?),
            Step::Mount { dataset, at, how } => Ok(self.zfs.mount(dataset, at, *how)?),
            Step::Unmount { dataset, at } => Ok(self.zfs.unmount(dataset, at)?),
            Step::RemoveDirectory { at } => remove_directory(at),
            Step::Destroy { dataset } => {
                self.zfs.destroy(dataset)?;
                Ok(Changed::Done)
            }
            Step::Property {
                dataset,
                property,
                value,
            } => {
                self.zfs.set(dataset, property, value)?;
                Ok(Changed::Done)
            }
            Step::Link { track, generation } => {
                let directory = self.site_directory()?;
                link(&track_link(&directory, track), *generation)
            }
            Step::Unlink { track } => {
                let directory = self.site_directory()?;
                let path = track_link(&directory, track);
                match std::fs::remove_file(&path) {
                    Ok(()) => Ok(Changed::Done),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        Ok(Changed::Already)
                    }
                    Err(source) => Err(ApplyError::File {
                        action: "remove",
                        path,
                        source,
                    }),
                }
            }
            Step::Derive { .. } | Step::Forget { .. } | Step::Start { .. } | Step::Stop { .. } => {
                Ok(Changed::Already)
            }
        }
    }

    fn site_directory(&self) -> Result<PathBuf, ApplyError> {
        let scope = BTreeSet::new();
        Ok(observe::inventory(self.zfs, self.site, Some(&scope))?
            .site
            .directory)
    }
}

/// All that a host needs to know of a jail, from what was observed.
///
/// # Errors
/// [`ApplyError::Plan`] if the jail or its base is not there; [`ApplyError::Profile`].
pub fn spec(inventory: &Inventory, name: &JailName) -> Result<JailSpec, ApplyError> {
    let jail = inventory
        .jails
        .get(name)
        .ok_or_else(|| PlanError::NoJail(name.clone()))?;
    let config = jail.config.clone().map_err(|why| PlanError::Stranger {
        dataset: jail.dataset.clone(),
        why,
    })?;
    let id = match config.kind {
        Kind::Thick => config.skel,
        Kind::Thin => run::due(inventory, &config)?,
    };
    let generation = inventory.sealed(id).ok_or_else(|| PlanError::NoBase {
        jail: name.clone(),
        generation: id,
    })?;
    let no_base = || PlanError::NoBase {
        jail: name.clone(),
        generation: id,
    };
    let world = generation.world.clone().ok_or_else(no_base)?;
    let profile = Profile::builtin()
        .iter()
        .find(|profile| profile.name == world.profile)
        .cloned()
        .ok_or_else(|| ApplyError::Profile {
            generation: generation.display(),
            profile: world.profile.clone(),
        })?;
    let half = generation.base.as_ref().ok_or_else(no_base)?;
    let base = (config.kind == Kind::Thin).then(|| BaseMount {
        generation: id,
        dataset: half.dataset.clone(),
        path: half.mountpoint.clone(),
        link: match &config.base {
            crate::model::Base::Track(track) => track_link(&inventory.site.directory, track),
            crate::model::Base::Pin(_) => half.mountpoint.clone(),
        },
    });
    Ok(JailSpec {
        site_id: inventory.site.id.clone(),
        name: name.clone(),
        dataset: jail.dataset.clone(),
        root: jail.mountpoint.clone(),
        base,
        config,
        profile,
        world,
    })
}

fn remove_directory(at: &Path) -> Result<Changed, ApplyError> {
    match std::fs::remove_dir(at) {
        Ok(()) => Ok(Changed::Done),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Changed::Already),
        Err(source) => Err(ApplyError::File {
            action: "remove the directory",
            path: at.to_owned(),
            source,
        }),
    }
}

/// Points a link to a generation: a new link is renamed over the old one, so that there is always
/// one of the two.
fn link(path: &Path, generation: GenerationId) -> Result<Changed, ApplyError> {
    let target = PathBuf::from(format!("../{generation}"));
    if std::fs::read_link(path).is_ok_and(|found| found == target) {
        return Ok(Changed::Already);
    }
    let failed = |source| ApplyError::File {
        action: "write the link",
        path: path.to_owned(),
        source,
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed(source)),
    }
    std::os::unix::fs::symlink(&target, &temporary).map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)?;
    Ok(Changed::Done)
}

/// The steps up to and with the last commit, and the rest: the site lock covers only the first.
pub fn split(plan: &Plan) -> (&[Step], &[Step]) {
    let last = plan
        .steps
        .iter()
        .rposition(|step| matches!(step, Step::Commit { .. }));
    plan.steps.split_at(last.map_or(0, |index| index + 1))
}
