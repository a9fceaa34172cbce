//! Walks a plan. Decides nothing: what is done, and in which order, is the plan's; what happens
//! after a failure is one rule, that the rest of that jail's steps are left out and the other
//! jails go on.

mod files;
mod ready;
mod start;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::crash;
use crate::lock::Locks;
use crate::model::{Changed, Generation, Inventory, Kind, World, track_link, update_cache};
use crate::name::{DatasetName, GenerationId, JailName};
use crate::observe::{self, ObserveError, Reading};
use crate::plan::{MountAs, Plan, PlanError, Step, foreseen};
use crate::ports::{BaseMount, Host, HostError, JailSpec, PortError, Zfs};
use crate::profile::Profile;
use crate::world::WorldError;

pub use ready::Ready;

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
    /// The files of a new jail.
    #[error(transparent)]
    World(#[from] WorldError),
    /// No profile of that name is known.
    #[error("{generation} was installed by the profile {profile:?}, which this ezz does not know")]
    Profile {
        /// Whose world.
        generation: String,
        /// Which profile.
        profile: String,
    },
    /// Another command, such as a stop or a delete of the jail, ended this start.
    #[error("the start of {jail} was ended by {by}; nothing of it is left")]
    StartEnded {
        /// Which jail.
        jail: JailName,
        /// The process that asked.
        by: String,
    },
    /// A signal asked to stop, before or while a jail was started.
    #[error("interrupted; {0} was not started")]
    Interrupted(JailName),
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
    /// Whether the kernel called a dataset busy that was to be destroyed: nothing has changed.
    pub fn busy(&self) -> bool {
        matches!(self, ApplyError::Zfs(error) if error.refused_busy())
    }

    /// Whether the site changed since it was read: observe and plan again.
    pub fn stale(&self) -> bool {
        matches!(self, ApplyError::Zfs(PortError::Stale { .. }))
    }

    /// Whether the kernel's programs cannot clone, which is said before anything is changed.
    pub fn unsupported(&self) -> bool {
        matches!(self, ApplyError::Zfs(error) if error.unsupported())
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

type Specs = BTreeMap<JailName, Result<JailSpec, ApplyError>>;

/// What is known of the site between two commits.
#[derive(Debug, Default)]
struct Known<'a> {
    inventory: Option<Cow<'a, Inventory>>,
    specs: Option<Specs>,
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
    /// The site as it was observed, while nothing of it was committed since.
    pub known: Option<&'a Inventory>,
    /// Told of each step that is done.
    pub ready: Option<&'a Ready<'a>>,
    /// Whether one jail's failure ends it all: so before a commit, which speaks for all of them.
    pub strict: bool,
    /// Where starts are recorded; they tell whether a signal has come, too.
    pub locks: &'a Locks,
    /// Seconds that a jail has to end, if the user has set them.
    pub stop_timeout: Option<u32>,
}

impl Apply<'_> {
    /// Does the steps in their order.
    ///
    /// # Errors
    /// [`ApplyError`] of the first failed step that is not one jail's own; those before it are
    /// done. Failures of one jail's own steps are in [`Applied::failed`].
    pub fn run(&self, plan: &[Step], applied: &mut Applied) -> Result<(), ApplyError> {
        let mut known = Known {
            inventory: self.known.map(Cow::Borrowed),
            specs: None,
        };
        let mut index = 0;
        while index < plan.len() {
            // Not the site's own: what is mounted below it before it would be hidden by it.
            let mounts = plan[index..]
                .iter()
                .take_while(|step| matches!(step, Step::Mount { how, .. } if *how != MountAs::Site))
                .count();
            if mounts > 1 {
                let mut wanted = Vec::with_capacity(mounts);
                for step in &plan[index..index + mounts] {
                    if let (Step::Mount { dataset, at, how }, false) =
                        (step, self.of_failed(step, applied))
                    {
                        wanted.push((dataset, at.as_path(), *how));
                    }
                }
                if !wanted.is_empty() {
                    self.uncovered(known.inventory.as_deref())?;
                }
                applied.changed += self.zfs.mount_all(&wanted)?;
                let done = &plan[index..index + mounts];
                let done = done.iter().filter(|step| !self.of_failed(step, applied));
                done.for_each(|step| self.done(step));
                index += mounts;
                continue;
            }
            let unmounts: Vec<(&DatasetName, &Path)> = plan[index..]
                .iter()
                .map_while(|step| match step {
                    Step::Unmount { dataset, at } => Some((dataset, at.as_path())),
                    _ => None,
                })
                .collect();
            if unmounts.len() > 1 {
                applied.changed += self.zfs.unmount_all(&unmounts)?;
                let done = &plan[index..index + unmounts.len()];
                done.iter().for_each(|step| self.done(step));
                index += unmounts.len();
                continue;
            }
            let files = plan[index..]
                .iter()
                .take_while(|step| files::of(step).is_some())
                .count();
            if files > 0 {
                self.files(&plan[index..index + files], plan, &mut known, applied)?;
                index += files;
                continue;
            }
            let step = &plan[index];
            index += 1;
            if self.of_failed(step, applied) {
                continue;
            }
            crash::point();
            let jail = match step {
                Step::Derive { jail }
                | Step::Forget { jail }
                | Step::Start { jail }
                | Step::Stop { jail } => Some(jail),
                Step::Create { .. }
                | Step::Commit { .. }
                | Step::Clone { .. }
                | Step::Hold { .. }
                | Step::Release { .. }
                | Step::Mount { .. }
                | Step::MountSnapshot { .. }
                | Step::Unmount { .. }
                | Step::RemoveDirectory { .. }
                | Step::Snapshot { .. }
                | Step::HandOver { .. }
                | Step::Rollback { .. }
                | Step::Destroy { .. }
                | Step::Property { .. }
                | Step::Link { .. }
                | Step::Unlink { .. }
                | Step::ClearIdentity { .. }
                | Step::Flavour { .. }
                | Step::ClearWorld { .. } => None,
            };
            let Some(jail) = jail else {
                let inventory = known.inventory.as_deref();
                if self.step(step, inventory)? == Changed::Done {
                    applied.changed += 1;
                }
                self.done(step);
                if let Step::Commit { commit, .. } = step {
                    let before = known.inventory.take();
                    let after = before.and_then(|it| foreseen::after(it.into_owned(), commit));
                    known = Known {
                        inventory: after.map(Cow::Owned),
                        specs: None,
                    };
                }
                continue;
            };
            if applied.failed.iter().any(|(name, _)| name == jail) {
                continue;
            }
            match self.host_step(step, jail, plan, &mut known) {
                Ok(changed) => {
                    applied.changed += usize::from(changed == Changed::Done);
                    self.done(step);
                }
                Err(error) if self.strict || matches!(error, ApplyError::Interrupted(_)) => {
                    return Err(error);
                }
                Err(error) => applied.failed.push((jail.clone(), error)),
            }
        }
        Ok(())
    }

    fn done(&self, step: &Step) {
        if let Some(ready) = self.ready {
            ready.done(step);
        }
    }

    /// Whether it mounts a jail of which an earlier step has failed: what is mounted is complete.
    fn of_failed(&self, step: &Step, applied: &Applied) -> bool {
        let Step::Mount { dataset, .. } = step else {
            return false;
        };
        let mut failed = applied.failed.iter();
        ready::jail_of(self.site, dataset.as_str())
            .is_some_and(|name| failed.any(|(jail, _)| *jail == name))
    }

    fn host_step(
        &self,
        step: &Step,
        jail: &JailName,
        plan: &[Step],
        known: &mut Known<'_>,
    ) -> Result<Changed, ApplyError> {
        match step {
            Step::Forget { .. } => Ok(self.host.forget(jail)?),
            Step::Stop { .. } => {
                // The rules of its world say how it is asked to stop; without them it is killed.
                let specs = self.specs(plan, known).ok();
                let spec = specs.and_then(|specs| specs.get(jail)?.as_ref().ok());
                self.stop(jail, spec)
            }
            _ => {
                let specs = self.specs(plan, known)?;
                match (step, specs.get(jail)) {
                    (Step::Derive { .. }, Some(Ok(spec))) => Ok(self.host.derive(spec)?),
                    (Step::Start { .. }, Some(Ok(spec))) => {
                        let stop = Step::Stop { jail: jail.clone() };
                        self.start(spec, plan.contains(&stop))
                    }
                    _ => Err(match specs.remove(jail) {
                        Some(Err(error)) => error,
                        Some(Ok(_)) | None => PlanError::NoJail(jail.clone()).into(),
                    }),
                }
            }
        }
    }

    /// What is known of the jails that the host is to do something with. Read once after each
    /// commit, for all of them.
    fn specs<'k>(
        &self,
        plan: &[Step],
        known: &'k mut Known<'_>,
    ) -> Result<&'k mut Specs, ApplyError> {
        if known.specs.is_none() {
            let names: BTreeSet<JailName> = plan
                .iter()
                .filter_map(|step| match step {
                    Step::Derive { jail }
                    | Step::ClearIdentity { jail }
                    | Step::Flavour { jail, .. }
                    | Step::Start { jail }
                    | Step::Stop { jail } => Some(jail.clone()),
                    _ => None,
                })
                .collect();
            let read;
            let inventory = match &known.inventory {
                Some(inventory) => inventory,
                None => {
                    let jails = Some(&names);
                    let reading = Reading {
                        jails,
                        ..Reading::default()
                    };
                    read = observe::inventory(self.zfs, self.site, reading)?;
                    &read
                }
            };
            let specs = names.into_iter().map(|name| {
                let spec = spec(inventory, &name);
                (name, spec)
            });
            known.specs = Some(specs.collect());
        }
        Ok(known.specs.get_or_insert_default())
    }

    fn step(&self, step: &Step, known: Option<&Inventory>) -> Result<Changed, ApplyError> {
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
            Step::Clone { clones } => Ok(self.zfs.clone_all(clones).map(|()| Changed::Done)?),
            Step::Hold { snapshots } => Ok(self.zfs.hold(snapshots)?),
            Step::Release { snapshots } => Ok(self.zfs.release(snapshots)?),
            Step::Mount { dataset, at, how } => {
                if *how != MountAs::Site {
                    self.uncovered(known)?;
                }
                Ok(self.zfs.mount(dataset, at, *how)?)
            }
            Step::MountSnapshot { snapshot, at } => Ok(self.zfs.mount_snapshot(snapshot, at)?),
            Step::Unmount { dataset, at } => Ok(self.zfs.unmount(dataset, at)?),
            Step::RemoveDirectory { at } => remove_directory(at),
            Step::Snapshot { snapshot } => {
                self.zfs.snapshot(snapshot)?;
                Ok(Changed::Done)
            }
            Step::HandOver { snapshot } => {
                self.zfs.hand_over(snapshot)?;
                Ok(Changed::Done)
            }
            Step::Rollback { snapshot } => {
                self.zfs.rollback(snapshot)?;
                Ok(Changed::Done)
            }
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
                let directory = self.site_directory(known)?;
                link(&track_link(&directory, track), *generation)
            }
            Step::Unlink { track } => {
                let directory = self.site_directory(known)?;
                // The link last: by it `doctor` finds one that was cut short.
                let downloads = remove(update_cache(&directory, track), true)?;
                let link = remove(track_link(&directory, track), false)?;
                Ok(match (downloads, link) {
                    (Changed::Already, Changed::Already) => Changed::Already,
                    _ => Changed::Done,
                })
            }
            Step::ClearWorld { generation } => Ok(self.host.clear_world(*generation)?),
            Step::Derive { .. }
            | Step::ClearIdentity { .. }
            | Step::Flavour { .. }
            | Step::Forget { .. }
            | Step::Start { .. }
            | Step::Stop { .. } => Ok(Changed::Already),
        }
    }

    /// That nothing of somebody else's lies over the site directory: what is mounted below it would be
    /// mounted there.
    fn uncovered(&self, known: Option<&Inventory>) -> Result<(), ApplyError> {
        let Some(inventory) = known else {
            return Ok(());
        };
        let directory = &inventory.site.directory;
        match self.seen_at(directory)? {
            Some(by) if by != self.site.as_str() => Err(self.covered(directory, by)),
            Some(_) | None => Ok(()),
        }
    }

    /// Where the files of the site are to be written: its own, and not what somebody mounted over
    /// it or what is below its mount.
    fn site_directory(&self, known: Option<&Inventory>) -> Result<PathBuf, ApplyError> {
        let directory = match known {
            Some(inventory) => inventory.site.directory.clone(),
            None => observe::named_site(self.zfs, self.site)?.directory,
        };
        match self.seen_at(&directory)? {
            Some(by) if by == self.site.as_str() => Ok(directory),
            by => Err(self.covered(&directory, by.unwrap_or_else(|| "nothing".to_owned()))),
        }
    }

    /// What is mounted at a directory. Mounts have no links in their paths.
    fn seen_at(&self, directory: &Path) -> Result<Option<String>, ApplyError> {
        let target = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        Ok(self.zfs.mounted_at(&target)?.map(|mount| mount.source))
    }

    fn covered(&self, directory: &Path, by: String) -> ApplyError {
        let covered = PortError::Covered {
            dataset: self.site.to_string(),
            at: directory.to_owned(),
            by,
        };
        covered.into()
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
    // Of a thin jail too: what its own files were brought to, and no other base.
    let id = config.skel;
    let generation = match config.kind {
        Kind::Thick => inventory.rules(id),
        Kind::Thin => inventory.sealed(id),
    };
    let no_base = || PlanError::NoBase {
        jail: name.clone(),
        generation: id,
    };
    let generation = generation.ok_or_else(no_base)?;
    let world = generation.world.clone().ok_or_else(no_base)?;
    let profile = Cow::Borrowed(profile(generation, &world)?);
    let half = generation.base.as_ref().ok_or_else(no_base)?;
    let base = (config.kind == Kind::Thin).then(|| BaseMount {
        generation: id,
        dataset: half.dataset.clone(),
        path: half.mountpoint.clone(),
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

/// The rules of a generation's world.
///
/// # Errors
/// [`ApplyError::Profile`].
pub fn profile(generation: &Generation, world: &World) -> Result<&'static Profile, ApplyError> {
    let mut known = Profile::builtin().iter();
    known
        .find(|profile| profile.name == world.profile)
        .ok_or_else(|| ApplyError::Profile {
            generation: generation.display(),
            profile: world.profile.clone(),
        })
}

fn remove_directory(at: &Path) -> Result<Changed, ApplyError> {
    match std::fs::remove_dir(at) {
        Ok(()) => Ok(Changed::Done),
        // With something in it, it is not only a mount's any more.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(Changed::Already)
        }
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

/// Removes a file, or a directory and all below it; it may be gone already.
#[expect(
    clippy::disallowed_methods,
    reason = "only of downloads, where nothing of a jail is ever mounted"
)]
fn remove(path: PathBuf, tree: bool) -> Result<Changed, ApplyError> {
    let removed = if tree {
        std::fs::remove_dir_all(&path)
    } else {
        std::fs::remove_file(&path)
    };
    match removed {
        Ok(()) => Ok(Changed::Done),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Changed::Already),
        Err(source) => Err(ApplyError::File {
            action: "remove",
            path,
            source,
        }),
    }
}

/// The steps up to and with the last commit, and the rest: the site lock covers only the first.
pub fn split(plan: &Plan) -> (&[Step], &[Step]) {
    let last = plan
        .steps
        .iter()
        .rposition(|step| matches!(step, Step::Commit { .. }));
    plan.steps.split_at(last.map_or(0, |index| index + 1))
}
