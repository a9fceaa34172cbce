//! Walks a plan. Decides nothing and looks nothing up: what is done, with what, and in which order, is the plan's;
//! what happens after a failure is one rule, that the rest of that jail's steps and the lanes that wait for them are
//! left out, and the other jails go on.

mod board;
mod lanes;
mod schedule;
mod start;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::crash;
use crate::hint::{self, Hint};
use crate::lock::Locks;
use crate::model::{Changed, track_link, update_cache};
use crate::name::{DatasetName, GenerationId, JailName};
use crate::plan::{End, MountAs, Mounting, Plan, SpecError, Step};
use crate::ports::{Host, HostError, PortError, Zfs};
use crate::world::WorldError;

/// Why a step failed.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// ZFS.
    #[error(transparent)]
    Zfs(#[from] PortError),
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A jail cannot be run.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The files of a new jail.
    #[error(transparent)]
    World(#[from] WorldError),
    /// Another command, such as a stop or a delete of the jail, ended this start.
    #[error("the start of {jail} was interrupted by {by} and undone")]
    StartEnded {
        /// The jail whose start was ended.
        jail: JailName,
        /// The process that asked.
        by: String,
    },
    /// A signal came: these jails were not reached.
    #[error("interrupted; {0}")]
    Interrupted(Unreached),
    /// A lane was left out, as one that it waits for has failed.
    #[error("skipped: {}", skipped(jail, other, *stops))]
    Skipped {
        /// The jail whose lane was left out.
        jail: JailName,
        /// The jail whose lane has failed.
        other: JailName,
        /// Whether it stops the jail; else it starts it.
        stops: bool,
        /// The command that does with both jails what was to be done.
        verb: &'static str,
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

fn skipped(jail: &JailName, other: &JailName, stops: bool) -> String {
    match stops {
        true => format!("{other}, which depends on {jail}, was not stopped"),
        false => format!("{jail} depends on {other}, which was not started"),
    }
}

/// The jails that a plan has not reached since a signal came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// The jails that were left as they were.
    pub jails: Vec<JailName>,
    /// What was to be done with them: `started`, `stopped` or `restarted`.
    pub did: &'static str,
    /// How many other jails were reached.
    pub reached: usize,
}

impl Unreached {
    /// A start that a signal has ended, or kept from being begun.
    fn start_of(jail: &JailName) -> Self {
        Unreached {
            jails: vec![jail.clone()],
            did: "started",
            reached: 0,
        }
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.jails.iter().map(JailName::as_str).collect();
        match names.as_slice() {
            [one] => write!(f, "{one} was not {}", self.did),
            [first @ .., last] => {
                let first = first.join(", ");
                write!(f, "{first} and {last} were not {}", self.did)
            }
            [] => write!(f, "no jail was {}", self.did),
        }
    }
}

impl Hint for ApplyError {
    fn hint(&self) -> Option<String> {
        match self {
            ApplyError::Zfs(inner) => inner.hint(),
            ApplyError::Host(inner) => inner.hint(),
            ApplyError::Spec(inner) => inner.hint(),
            ApplyError::World(inner) => inner.hint(),
            ApplyError::StartEnded { jail, .. } => {
                Some(format!("`ezz start {jail}` starts it again"))
            }
            ApplyError::Interrupted(_) => Some("the same command does the rest".to_owned()),
            ApplyError::Skipped {
                jail, other, verb, ..
            } => Some(format!("`ezz {verb} {other} {jail}` tries both again")),
            ApplyError::File { path, source, .. } => hint::file_failed(path, source),
        }
    }
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

impl Applied {
    fn has_failed(&self, jail: &JailName) -> bool {
        self.failed.iter().any(|(name, _)| name == jail)
    }
}

impl fmt::Debug for Apply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apply")
            .field("site", &self.site)
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}

/// What a plan is applied with.
pub struct Apply<'a> {
    /// The ZFS.
    pub zfs: &'a dyn Zfs,
    /// The host.
    pub host: &'a dyn Host,
    /// The site.
    pub site: &'a DatasetName,
    /// How many lanes are carried out at once, at most.
    pub jobs: usize,
    /// Whether one jail's failure ends it all: so before a commit, which speaks for all of them.
    pub strict: bool,
    /// Where starts are recorded; they tell whether a signal has come, too.
    pub locks: &'a Locks,
}

impl Apply<'_> {
    /// Does a part of the steps of a plan in their order. `done` is called with each jail with which nothing more is
    /// done, in the thread that calls this.
    ///
    /// # Errors
    /// [`ApplyError`] of the first failed step that is not one jail's own; those before it are
    /// done. Failures of one jail's own steps are in [`Applied::failed`].
    pub fn run(
        &self,
        plan: &Plan,
        part: Range<usize>,
        applied: &mut Applied,
        done: &dyn Fn(&JailName),
    ) -> Result<(), ApplyError> {
        let mut ends: BTreeMap<usize, BTreeMap<End, &JailName>> = BTreeMap::new();
        for (jail, end) in plan.ends.iter().filter(|(_, end)| part.contains(&end.step)) {
            ends.entry(end.step).or_default().insert(*end, jail);
        }
        for (index, step) in plan.steps.iter().enumerate() {
            if !part.contains(&index) {
                continue;
            }
            let mut last = ends.remove(&index).unwrap_or_default();
            let directory = plan.directory.as_deref();
            if let Step::Lanes { lanes } = step {
                let ending: BTreeSet<&JailName> = last.into_values().collect();
                self.lanes(lanes, &ending, directory, applied, done)?;
                continue;
            }
            crash::point();
            applied.changed += self.step(step, directory, &applied.failed)?;
            last.retain(|_, jail| !applied.has_failed(jail));
            last.into_values().for_each(done);
        }
        Ok(())
    }

    /// Does one shared step, and returns how much it has changed.
    fn step(
        &self,
        step: &Step,
        directory: Option<&Path>,
        failed: &[(JailName, ApplyError)],
    ) -> Result<usize, ApplyError> {
        let changed = match step {
            Step::Create {
                dataset,
                properties,
            } => {
                self.zfs.create(dataset, properties)?;
                Changed::Done
            }
            Step::Commit { site, commit } => {
                self.zfs.commit(site, commit)?;
                Changed::Done
            }
            Step::Clone { clones } => self.zfs.clone_all(clones).map(|()| Changed::Done)?,
            Step::Hold { snapshots } => self.zfs.hold(snapshots)?,
            Step::Release { snapshots } => self.zfs.release(snapshots)?,
            Step::Mount { mounts } => return self.mount(mounts, directory, failed),
            Step::MountSnapshot { snapshot, at } => self.zfs.mount_snapshot(snapshot, at)?,
            Step::Unmount { mounts } => match mounts.as_slice() {
                [one] => self.zfs.unmount(&one.dataset, &one.at)?,
                all => {
                    let all: Vec<(&DatasetName, &Path)> = all
                        .iter()
                        .map(|it| (&it.dataset, it.at.as_path()))
                        .collect();
                    return Ok(self.zfs.unmount_all(&all)?);
                }
            },
            Step::RemoveDirectory { at } => remove_directory(at)?,
            Step::Snapshot { snapshot } => {
                self.zfs.snapshot(snapshot)?;
                Changed::Done
            }
            Step::HandOver { snapshot } => {
                self.zfs.destroy_deferred(snapshot)?;
                Changed::Done
            }
            Step::Rollback { snapshot } => {
                self.zfs.rollback(snapshot)?;
                Changed::Done
            }
            Step::Destroy { dataset } => {
                self.zfs.destroy(dataset)?;
                Changed::Done
            }
            Step::Property {
                dataset,
                property,
                value,
            } => {
                self.zfs.set(dataset, property, value)?;
                Changed::Done
            }
            Step::Link {
                track,
                generation,
                directory,
            } => {
                self.ensure_own(directory)?;
                link(&track_link(directory, track), *generation)?
            }
            Step::Unlink { track, directory } => {
                self.ensure_own(directory)?;
                // The link last: by it `doctor` finds one that was cut short.
                let downloads = remove(update_cache(directory, track), true)?;
                let link = remove(track_link(directory, track), false)?;
                match (downloads, link) {
                    (Changed::Already, Changed::Already) => Changed::Already,
                    _ => Changed::Done,
                }
            }
            Step::ClearWorld { generation } => self.host.clear_world(*generation)?,
            // Those of jails, which are carried out as such.
            Step::Lanes { .. } => Changed::Already,
        };
        Ok(usize::from(changed == Changed::Done))
    }

    /// Mounts datasets, but for jails of which an earlier step has failed: what is mounted is complete.
    fn mount(
        &self,
        mounts: &[Mounting],
        directory: Option<&Path>,
        failed: &[(JailName, ApplyError)],
    ) -> Result<usize, ApplyError> {
        let fails = |it: &&Mounting| {
            let jail = it.jail.as_ref();
            jail.is_some_and(|jail| failed.iter().any(|(name, _)| name == jail))
        };
        let wanted: Vec<&Mounting> = mounts.iter().filter(|it| !fails(it)).collect();
        if wanted.iter().any(|it| it.how != MountAs::Site) {
            self.ensure_uncovered(directory)?;
        }
        match wanted.as_slice() {
            [one] => {
                let changed = self.zfs.mount(&one.dataset, &one.at, one.how)?;
                Ok(usize::from(changed == Changed::Done))
            }
            all => {
                let all: Vec<_> = all
                    .iter()
                    .map(|it| (&it.dataset, it.at.as_path(), it.how))
                    .collect();
                Ok(self.zfs.mount_all(&all)?)
            }
        }
    }

    /// That nothing of somebody else's lies over the site directory: what is mounted below it would be
    /// mounted there.
    fn ensure_uncovered(&self, directory: Option<&Path>) -> Result<(), ApplyError> {
        let Some(directory) = directory else {
            return Ok(());
        };
        match self.seen_at(directory)? {
            Some(by) if by != self.site.as_str() => Err(self.covered(directory, by)),
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses to write into the site directory while another file system is mounted over
    /// it or what is below its mount.
    fn ensure_own(&self, directory: &Path) -> Result<(), ApplyError> {
        match self.seen_at(directory)? {
            Some(by) if by == self.site.as_str() => Ok(()),
            by => Err(self.covered(directory, by.unwrap_or_else(|| "nothing".to_owned()))),
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
