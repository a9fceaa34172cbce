//! Mounting and unmounting: one look at the table of mounts for many of them, and never anything of
//! somebody else's.

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

/// Mounts at once: the kernel does the work, a few threads keep it busy.
const MOUNT_THREADS: usize = 16;

/// Up to so many are each asked of the kernel; else all that is mounted is read once.
const FEW: usize = 16;

/// Adds to rows whether they are mounted, anywhere, in the words of zfs(8).
pub(super) fn fill(rows: &mut BTreeMap<String, Row>) -> Result<(), PortError> {
    let Some(first) = rows.keys().next().cloned() else {
        return Ok(());
    };
    let mounts = ezz_zfs::mounted().map_err(unread(&first))?;
    let mounted: BTreeSet<&str> = mounts.iter().map(|mount| mount.source.as_str()).collect();
    // The last mount at a place hides the others.
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

/// The same of a few: whether they are mounted where they should be.
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

/// Where it should be mounted.
fn home(row: &Row) -> Option<PathBuf> {
    let found = row.0.get("mountpoint")?;
    Some(PathBuf::from(&found.value))
}

/// Adds the flags of its mount in its place to a row.
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

/// That the mounts could not be told, of a dataset or of this host.
pub(super) fn unread(of: &str) -> impl Fn(MountError) -> PortError {
    cannot("read the mounts for", of)
}

/// A mount in the words of the ports.
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

/// See [`crate::ports::Zfs::mount_all`].
pub(super) fn mount_all(what: &[(&DatasetName, &Path, MountAs)]) -> Result<usize, PortError> {
    let Some((first, ..)) = what.first() else {
        return Ok(0);
    };
    // Of several at one place the last counts.
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

/// See [`crate::ports::Zfs::unmount_all`].
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

/// The mounts, by where they are: among thousands each is looked for.
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

    /// Those at a directory or below it. A path sorts right before those below it.
    fn within(&self, at: &'a Path) -> impl Iterator<Item = (usize, &'a ezz_zfs::Mounted)> {
        self.0
            .range(at..)
            .take_while(move |(target, _)| target.starts_with(at))
            .flat_map(|(_, mounts)| mounts.iter().copied())
    }
}

/// Mounts a dataset, or gives its mount the flags that it lacks; nothing else may be there.
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
    // The root of a new dataset is 0755, and what is below is for root alone.
    if how == MountAs::Site && protect(at)? == Changed::Done {
        changed = Changed::Done;
    }
    Ok(changed)
}

/// See [`crate::ports::Zfs::mount_snapshot`].
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

/// Unmounts what is mounted at or below a directory of a dataset.
fn unmount(table: &Table<'_>, dataset: &DatasetName, at: &Path) -> Result<Changed, PortError> {
    // Deepest first, and of several at one place the last one first.
    let own = |mount: &ezz_zfs::Mounted| mount.belongs_to(dataset.as_str());
    let there: Vec<(usize, &ezz_zfs::Mounted)> = table.within(at).collect();
    let mut targets: Vec<(PathBuf, usize)> = there
        .iter()
        .filter(|(_, mount)| own(mount))
        .map(|(index, mount)| (mount.target.clone(), *index))
        .collect();
    // A directory names the last mount on it: somebody else's would go instead of ours.
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

/// Never called with any flag: see [`MountAs::lacks`].
#[cfg(not(target_os = "linux"))]
fn restrict(_at: &Path, _flags: MountFlags) -> Result<(), MountError> {
    Ok(())
}

/// Makes a site directory root's own.
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
    // What was said to be closed is closed after a power cut too.
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
