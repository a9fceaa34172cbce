//! What keeps a merge from being done, found before a jail is stopped for it.
//! Must not be here: what is to be done.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use rustix::fs::{Stat, StatVfsMountFlags};

use super::super::dirs::{DirError, Dirs};
use super::super::error::WorldError;
use super::{Change, What};
use crate::profile::RelPath;

/// What keeps a merge from being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A flag of a file keeps it from being changed, or a directory's what is in it.
    Immutable(RelPath),
    /// Another file system is mounted there: the snapshot that takes a merge back has nothing of it.
    Mount(RelPath),
    /// The jail's lists of accounts are too long to be read, and a file that is taken belongs to an account.
    Accounts(RelPath),
    /// The jail's file system is mounted read-only.
    ReadOnly,
    /// The release's files need more room, in bytes, than there is.
    Room {
        /// What they need at least.
        needs: u64,
        /// What the jail may still use.
        free: u64,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Immutable(path) => {
                write!(f, "{path} has a flag that keeps it from being changed")
            }
            Obstacle::Mount(path) => write!(f, "another file system is mounted at {path}"),
            Obstacle::Accounts(path) => write!(
                f,
                "its lists of accounts are larger than 1 MiB, so that the owner of {path} is not known"
            ),
            Obstacle::ReadOnly => write!(f, "its file system is read-only"),
            Obstacle::Room { needs, free } => write!(
                f,
                "the release's files need {needs} bytes, and it has {free} left"
            ),
        }
    }
}

/// Looks for what would keep these changes from being made. `bytes` has the size of each file that is taken.
pub(super) fn find(
    jail: &Path,
    changes: &[Change],
    renewed: &[RelPath],
    bytes: &dyn Fn(&RelPath) -> u64,
) -> Result<Vec<Obstacle>, WorldError> {
    let mut found = Vec::new();
    let stays = |change: &Change| matches!(change.what, What::Left(_));
    if changes.iter().all(stays) && renewed.is_empty() {
        return Ok(found);
    }
    let root = Dirs::open(jail)?.into_root();
    let failed = |e| WorldError::io("look at", jail, e);
    let device = rustix::fs::fstat(&root).map_err(failed)?.st_dev;
    let system = rustix::fs::fstatvfs(&root).map_err(failed)?;
    if system.f_flag.contains(StatVfsMountFlags::RDONLY) {
        found.push(Obstacle::ReadOnly);
    }
    let needs: u64 = changes.iter().map(|change| size(change, bytes)).sum();
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if needs > free {
        found.push(Obstacle::Room { needs, free });
    }
    let mut dirs = Dirs::open(jail)?;
    let mut seen = BTreeSet::new();
    let written = changes.iter().filter_map(|change| match &change.what {
        What::Take | What::Remove | What::Merge(_) => Some(&change.path),
        What::Conflict(_) => change.put_beside(),
        What::Left(_) => None,
    });
    for written in written.chain(renewed) {
        // The file, and the directory that has its name; of what comes into a new one, that one is looked at.
        for path in [written.parent(), written.clone()] {
            if !seen.insert(path.clone()) {
                continue;
            }
            let stat = match dirs.stat(&path) {
                Ok(Some(stat)) => stat,
                Ok(None) | Err(DirError::Missing(_) | DirError::Link(_) | DirError::File(_)) => {
                    continue;
                }
                Err(DirError::Sys(error)) => return Err(error),
            };
            if stat.st_dev != device {
                found.push(Obstacle::Mount(path));
            } else if immutable(&mut dirs, &path, &stat)? {
                found.push(Obstacle::Immutable(path));
            }
        }
    }
    Ok(found)
}

/// The bytes that a change writes, of files alone.
fn size(change: &Change, bytes: &dyn Fn(&RelPath) -> u64) -> u64 {
    let beside = change.beside.iter();
    match &change.what {
        What::Take => bytes(&change.path),
        What::Merge(text) => text.len() as u64,
        What::Conflict(_) => beside.map(|(from, _)| bytes(from)).sum(),
        What::Remove | What::Left(_) => 0,
    }
}

/// Whether a flag keeps a file from being changed, removed, or, of a directory, from getting or losing
/// entries.
#[cfg(target_os = "linux")]
fn immutable(dirs: &mut Dirs, path: &RelPath, _stat: &Stat) -> Result<bool, WorldError> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};

    let host = path.under(dirs.root());
    let (parent, name) = match path.is_root() {
        true => (dirs.dir(path, false), std::ffi::OsStr::new(".")),
        false => (dirs.parent(path, false), path.name()),
    };
    let parent = parent.map_err(|e| e.in_tree(&host))?;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statx(parent, name, flags, StatxFlags::MODE) {
        Ok(found) => Ok(found
            .stx_attributes
            .intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND)),
        // A jail that runs has just removed it.
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(e) => Err(WorldError::io("look at", host, e)),
    }
}

/// See chflags(2).
#[cfg(not(target_os = "linux"))]
fn immutable(_dirs: &mut Dirs, _path: &RelPath, stat: &Stat) -> Result<bool, WorldError> {
    /// UF_ and SF_IMMUTABLE, UF_ and SF_APPEND, UF_ and SF_NOUNLINK of sys/stat.h.
    const FLAGS: u64 = 0x2 | 0x4 | 0x10 | 0x2_0000 | 0x4_0000 | 0x10_0000;
    Ok(super::super::dirs::wide(stat.st_flags) & FLAGS != 0)
}
