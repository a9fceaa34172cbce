//! Mounts and unmounts datasets. It reads the mount table once for many datasets, and never touches a mount that is not
//! ezz's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use ezz_zfs::restrict;
use ezz_zfs::{MountError, MountFlags};
use rayon::prelude::*;

use crate::crash;
use crate::model::{Changed, Flags, Mount};
use crate::name::{DatasetName, SnapshotName};
use crate::plan::MountAs;
use crate::plan::is_open;
use crate::ports::{MOUNT_FLAGS, PortError, PropertyValue, Row, Source};

/// The number of mounts at once. The kernel does the work, and a few threads are enough to keep it busy.
const MOUNT_THREADS: usize = 16;

/// The number of paths up to which the kernel is asked about each; for more, the whole mount table is read once.
const FEW: usize = 16;

/// Adds `mounted` to rows, with the values of zfs(8): whether the dataset is mounted at any path.
pub(super) fn fill(rows: &mut BTreeMap<String, Row>) -> Result<(), PortError> {
    let Some(first) = rows.keys().next().cloned() else {
        return Ok(());
    };
    let mounts = ezz_zfs::mounted().map_err(unread(&first))?;
    let mounted: BTreeSet<&str> = mounts.iter().map(|mount| mount.source.as_str()).collect();
    // The last mount at a path hides the others.
    let places: BTreeMap<&Path, &ezz_zfs::Mounted> = mounts
        .iter()
        .map(|mount| (mount.target.as_path(), mount))
        .collect();
    for (name, row) in rows.iter_mut() {
        if let Some(here) = home(row).and_then(|at| places.get(at.as_path()).copied()) {
            note_flags(name, row, here);
        }
        let volume = row
            .0
            .get("type")
            .is_some_and(|found| found.value == "volume");
        let value = match mounted.contains(name.as_str()) {
            _ if volume || name.contains('@') => "-",
            true => "yes",
            false => "no",
        };
        row.0.insert(super::MOUNTED.to_owned(), computed(value));
    }
    Ok(())
}

/// Adds `mounted` to a few rows: whether the dataset is mounted at its mountpoint.
pub(super) fn fill_at(rows: &mut BTreeMap<String, Row>) -> Result<(), PortError> {
    for (name, row) in rows.iter_mut() {
        let Some(home) = home(row) else {
            continue;
        };
        let here = ezz_zfs::mounted_at(&home).map_err(unread(name))?;
        let here = here.filter(|mount| mount.source == *name);
        let value = if here.is_some() { "yes" } else { "no" };
        row.0.insert(super::MOUNTED.to_owned(), computed(value));
        if let Some(mount) = here {
            note_flags(name, row, &mount);
        }
    }
    Ok(())
}

/// Returns the mountpoint of a row.
fn home(row: &Row) -> Option<PathBuf> {
    let found = row.0.get("mountpoint")?;
    Some(PathBuf::from(&found.value))
}

/// Adds the flags of the mount to a row, if the dataset is mounted at its mountpoint.
fn note_flags(name: &str, row: &mut Row, here: &ezz_zfs::Mounted) {
    if here.source == name {
        let words = flags_of(here).words().join(",");
        row.0.insert(MOUNT_FLAGS.to_owned(), computed(&words));
    }
}

fn computed(value: &str) -> PropertyValue {
    PropertyValue {
        value: value.to_owned(),
        source: Source::Elsewhere,
    }
}

/// Returns the error for mounts of a dataset, or of this host, that could not be read.
pub(super) fn unread(of: &str) -> impl Fn(MountError) -> PortError {
    cannot("read the mounts for", of)
}

/// Converts a mount into the type of the ports.
pub(super) fn seen(mount: &ezz_zfs::Mounted) -> Mount {
    Mount {
        whole: mount.root == Path::new("/"),
        source: mount.source.clone(),
        target: mount.target.clone(),
        flags: flags_of(mount),
    }
}

fn flags_of(mount: &ezz_zfs::Mounted) -> Flags {
    Flags {
        read_only: mount.read_only,
        nosuid: mount.nosuid,
        nodev: mount.nodev,
        noatime: mount.noatime,
    }
}

/// Implements [`crate::ports::Zfs::mount_all`].
pub(super) fn mount_all(what: &[(&DatasetName, &Path, MountAs)]) -> Result<usize, PortError> {
    let Some((first, ..)) = what.first() else {
        return Ok(0);
    };
    // Of several mounts at one path, the last one counts.
    let mut there = BTreeMap::new();
    if what.len() <= FEW {
        for (dataset, at, _) in what {
            let found = ezz_zfs::mounted_at(at).map_err(cannot("mount", dataset.as_str()))?;
            there.extend(found.map(|mount| (*at, mount)));
        }
    } else {
        let mounts = ezz_zfs::mounted().map_err(cannot("mount", first.as_str()))?;
        let all: BTreeMap<&Path, &ezz_zfs::Mounted> = mounts
            .iter()
            .map(|mount| (mount.target.as_path(), mount))
            .collect();
        let found = what
            .iter()
            .filter_map(|(_, at, _)| Some((*at, (*all.get(at)?).clone())));
        there.extend(found);
    }
    let one = |(dataset, at, how): &(&DatasetName, &Path, MountAs)| {
        crash::point();
        mount(there.get(at), dataset, at, *how)
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(MOUNT_THREADS.min(what.len()))
        .build();
    let done: Vec<Result<Changed, PortError>> = match pool {
        Ok(pool) if what.len() > 1 => pool.install(|| what.par_iter().map(one).collect()),
        Ok(_) | Err(_) => what.iter().map(one).collect(),
    };
    let mut changed = 0;
    for result in done {
        changed += usize::from(result? == Changed::Done);
    }
    Ok(changed)
}

/// Implements [`crate::ports::Zfs::unmount_all`].
pub(super) fn unmount_all(what: &[(&DatasetName, &Path)]) -> Result<usize, PortError> {
    let Some((first, _)) = what.first() else {
        return Ok(0);
    };
    let mounts = ezz_zfs::mounted().map_err(cannot("unmount", first.as_str()))?;
    let table = Table::of(&mounts);
    let mut done = 0;
    for (dataset, at) in what {
        crash::point();
        done += usize::from(unmount(&table, dataset, at)? == Changed::Done);
    }
    Ok(done)
}

/// The mounts by their path, because there may be thousands and each is looked up.
struct Table<'a>(BTreeMap<&'a Path, Vec<(usize, &'a ezz_zfs::Mounted)>>);

impl<'a> Table<'a> {
    fn of(mounts: &'a [ezz_zfs::Mounted]) -> Self {
        let mut table: BTreeMap<&Path, Vec<(usize, &ezz_zfs::Mounted)>> = BTreeMap::new();
        for (index, mount) in mounts.iter().enumerate() {
            let there = table.entry(mount.target.as_path()).or_default();
            there.push((index, mount));
        }
        Table(table)
    }

    /// Returns the mounts at a directory or below it. A path sorts right before the paths below it.
    fn within(&self, at: &'a Path) -> impl Iterator<Item = (usize, &'a ezz_zfs::Mounted)> {
        self.0
            .range(at..)
            .take_while(move |(target, _)| target.starts_with(at))
            .flat_map(|(_, mounts)| mounts.iter().copied())
    }
}

/// Mounts a dataset, or gives its mount the flags that it lacks. No other mount may be there.
fn mount(
    there: Option<&ezz_zfs::Mounted>,
    dataset: &DatasetName,
    at: &Path,
    how: MountAs,
) -> Result<Changed, PortError> {
    let mut changed = Changed::Already;
    match there {
        Some(other) if other.source != dataset.as_str() => {
            return Err(PortError::Occupied {
                dataset: dataset.to_string(),
                at: at.to_owned(),
                by: other.source.clone(),
            });
        }
        Some(mount) => {
            let lacks = how.lacks(flags_of(mount));
            if lacks.any() {
                restrict(at, of(lacks)).map_err(cannot("remount", dataset.as_str()))?;
                changed = Changed::Done;
            }
        }
        None => {
            make_directory(at, how)?;
            ezz_zfs::mount(dataset.as_str(), at, of(how.flags()))
                .map_err(cannot("mount", dataset.as_str()))?;
            changed = Changed::Done;
        }
    }
    // The root of a new dataset has the mode 0755, but only root may see what is below it.
    if how == MountAs::Site && protect(at)? == Changed::Done {
        changed = Changed::Done;
    }
    Ok(changed)
}

/// Implements [`crate::ports::Zfs::mount_snapshot`].
pub(super) fn mount_snapshot(snapshot: &SnapshotName, at: &Path) -> Result<Changed, PortError> {
    let name = snapshot.to_string();
    let there = ezz_zfs::mounted_at(at).map_err(cannot("mount", &name))?;
    match there {
        Some(mount) if mount.source == name => Ok(Changed::Already),
        Some(other) => Err(PortError::Occupied {
            dataset: name,
            at: at.to_owned(),
            by: other.source,
        }),
        None => {
            make_directory(at, MountAs::Base)?;
            ezz_zfs::mount(&name, at, of(MountAs::Base.flags())).map_err(cannot("mount", &name))?;
            Ok(Changed::Done)
        }
    }
}

/// Unmounts a dataset, and whatever belongs to it at or below a directory.
fn unmount(table: &Table<'_>, dataset: &DatasetName, at: &Path) -> Result<Changed, PortError> {
    // The deepest path comes first; of several mounts at one path, the last one comes first.
    let own = |mount: &ezz_zfs::Mounted| mount.belongs_to(dataset.as_str());
    let there: Vec<(usize, &ezz_zfs::Mounted)> = table.within(at).collect();
    let mut targets: Vec<(PathBuf, usize)> = there
        .iter()
        .filter(|(_, mount)| own(mount))
        .map(|(index, mount)| (mount.target.clone(), *index))
        .collect();
    // umount(2) of a path ends the last mount there, which could be a foreign one instead of ours.
    for (target, index) in &targets {
        let over = there.iter().find(|(other, mount)| {
            let on = mount.target == *target && other > index;
            !own(mount) && (on || mount.target != *target && mount.target.starts_with(target))
        });
        if let Some((_, mount)) = over {
            return Err(PortError::Covered {
                dataset: dataset.to_string(),
                at: mount.target.clone(),
                by: mount.source.clone(),
            });
        }
    }
    targets.sort_by_key(|(target, index)| std::cmp::Reverse((target.components().count(), *index)));
    if targets.is_empty() {
        return Ok(Changed::Already);
    }
    for (target, _) in targets {
        match ezz_zfs::unmount(&target) {
            Ok(()) => {}
            Err(MountError::Busy { .. }) => {
                return Err(PortError::Busy {
                    dataset: dataset.to_string(),
                    at: target,
                });
            }
            Err(source) => return Err(cannot("unmount", dataset.as_str())(source)),
        }
    }
    Ok(Changed::Done)
}

fn cannot(action: &'static str, dataset: &str) -> impl Fn(MountError) -> PortError {
    let dataset = dataset.to_owned();
    move |source| PortError::Mount {
        action,
        dataset: dataset.clone(),
        source,
    }
}

fn of(flags: Flags) -> MountFlags {
    MountFlags {
        read_only: flags.read_only,
        nosuid: flags.nosuid,
        nodev: flags.nodev,
        noexec: false,
        noatime: flags.noatime,
    }
}

/// Is never called with a flag: see [`MountAs::lacks`].
#[cfg(not(target_os = "linux"))]
fn restrict(_at: &Path, _flags: MountFlags) -> Result<(), MountError> {
    Ok(())
}

/// Gives a site directory to root, and closes it to all other users.
fn protect(at: &Path) -> Result<Changed, PortError> {
    let failed = |source| PortError::Directory {
        path: at.to_owned(),
        source,
    };
    let found = std::fs::metadata(at).map_err(failed)?;
    if !is_open(found.mode() & 0o7777, found.uid()) {
        return Ok(Changed::Already);
    }
    std::os::unix::fs::chown(at, Some(0), Some(0)).map_err(failed)?;
    std::fs::set_permissions(at, Permissions::from_mode(0o700)).map_err(failed)?;
    // A directory that was reported closed must also be closed after a power cut.
    std::fs::File::open(at)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)?;
    Ok(Changed::Done)
}

fn make_directory(at: &Path, how: MountAs) -> Result<(), PortError> {
    if at.is_dir() {
        return Ok(());
    }
    let recursive = how == MountAs::Site;
    let failed = |source| PortError::Directory {
        path: at.to_owned(),
        source,
    };
    if let Some(parent) = at.parent() {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(parent)
            .map_err(failed)?;
    }
    DirBuilder::new()
        .mode(0o700)
        .recursive(recursive)
        .create(at)
        .map_err(failed)
}
