//! Creates a tree below a root from hostile input: nothing is written through a link.
//!
//! Files are always created (`O_EXCL`), and existing ones never opened for writing. A file in the way is unlinked
//! first; a directory never is. Owner, mode and time of directories are set at the end, so that their entries do not
//! change them, and so that no default ACL affects what is created below them.
//! This module must not know where the tree comes from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::dirs::{DirError, Dirs, kind};
use super::error::{EntryError, WorldError};
use super::meta::Meta;
use crate::profile::RelPath;

/// The input asked for something that is not allowed, or the system refused an operation.
#[derive(Debug)]
pub(super) enum WriteError {
    Entry(EntryError),
    World(WorldError),
}

impl WriteError {
    /// Converts the error; `entry` makes the error for a problem of an archive entry.
    pub(super) fn of_entry(self, entry: impl FnOnce(EntryError) -> WorldError) -> WorldError {
        match self {
            WriteError::Entry(problem) => entry(problem),
            WriteError::World(error) => error,
        }
    }
}

impl From<WorldError> for WriteError {
    fn from(error: WorldError) -> WriteError {
        WriteError::World(error)
    }
}

impl From<EntryError> for WriteError {
    fn from(error: EntryError) -> WriteError {
        WriteError::Entry(error)
    }
}

impl From<DirError> for WriteError {
    fn from(error: DirError) -> WriteError {
        match error {
            DirError::Link(path) => EntryError::ThroughLink(path).into(),
            DirError::File(path) => EntryError::ThroughFile(path).into(),
            DirError::Missing(path) => EntryError::MissingTarget(path).into(),
            DirError::Sys(error) => error.into(),
        }
    }
}

/// The number of links that one name may lead through (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// A tree that is being created.
#[derive(Debug)]
pub(super) struct Writer {
    dirs: Dirs,
    pending: BTreeMap<RelPath, Meta>,
}

impl Writer {
    /// Opens the root, which must exist.
    pub(super) fn open(root: &Path) -> Result<Writer, WorldError> {
        Ok(Writer {
            dirs: Dirs::open(root)?,
            pending: BTreeMap::new(),
        })
    }

    /// Returns the path that a name stands for: a directory in it that is a link to another one below the root is
    /// replaced by the target. No file is created.
    pub(super) fn resolve(&mut self, path: &RelPath) -> Result<RelPath, WriteError> {
        let mut path = path.clone();
        let mut last = RelPath::root();
        for _ in 0..LINKS_MAX {
            let link = match self.dirs.parent(&path, false) {
                Ok(_) => return Ok(path),
                // The caller creates a missing directory, or reports it.
                Err(DirError::Missing(_)) => return Ok(path),
                Err(DirError::Link(link)) => link,
                Err(error) => return Err(error.into()),
            };
            let through = || WriteError::from(EntryError::ThroughLink(link.clone()));
            let host = link.under(self.dirs.root());
            let parent = self.dirs.parent(&link, false)?;
            let target = rustix::fs::readlinkat(parent, link.name(), Vec::new())
                .map_err(|e| WorldError::io("read the link", host, e))?;
            let target = leads(&link, target.as_bytes()).ok_or_else(through)?;
            // The target must exist: nothing is created through a link that leads nowhere.
            match self.dirs.dir(&target, false) {
                Ok(_) | Err(DirError::Link(_)) => {}
                Err(DirError::Sys(error)) => return Err(error.into()),
                Err(DirError::Missing(_) | DirError::File(_)) => return Err(through()),
            }
            // The part that begins with the slash after the link, which is not the last component.
            let rest = &path.as_bytes()[link.as_bytes().len() + 1..];
            path = target
                .join(rest)
                .map_err(|e| WriteError::from(EntryError::Name(e)))?;
            last = link;
        }
        Err(EntryError::ThroughLink(last).into())
    }

    /// Creates a directory; an existing one is kept, with the new owner, mode and time.
    pub(super) fn dir(&mut self, path: &RelPath, meta: Meta) -> Result<(), WriteError> {
        if !path.is_root() {
            let host = path.under(self.dirs.root());
            let parent = self.dirs.parent(path, true)?;
            let made = rustix::fs::mkdirat(parent, path.name(), Mode::from_raw_mode(0o700));
            match made {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    let there = rustix::fs::statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|e| WorldError::io("stat", &host, e))?;
                    if kind(&there) != FileType::Directory {
                        unlink(parent, path, &host)?;
                        rustix::fs::mkdirat(parent, path.name(), Mode::from_raw_mode(0o700))
                            .map_err(|e| WorldError::io("make the directory", &host, e))?;
                    }
                }
                Err(e) => return Err(WorldError::io("make the directory", &host, e).into()),
            }
        }
        self.pending.insert(path.clone(), meta);
        Ok(())
    }

    /// Creates a symbolic link. Its target may be anything, because no program follows it from outside.
    pub(super) fn symlink(
        &mut self,
        path: &RelPath,
        target: &[u8],
        meta: &Meta,
    ) -> Result<(), WriteError> {
        let host = self.host(path)?;
        let root = self.dirs.root().to_path_buf();
        let parent = self.dirs.parent(path, true)?;
        replacing(parent, path, &host, || {
            rustix::fs::symlinkat(target, parent, path.name())
        })?;
        meta.apply_to_link(parent, path, &|p| p.under(&root))?;
        Ok(())
    }

    /// Creates another name for an existing file.
    pub(super) fn hard_link(&mut self, path: &RelPath, target: &RelPath) -> Result<(), WriteError> {
        let host = self.host(path)?;
        if path == target {
            return Err(EntryError::SelfLink.into());
        }
        match self.dirs.stat(target)?.map(|stat| kind(&stat)) {
            None => return Err(EntryError::MissingTarget(target.clone()).into()),
            Some(FileType::Directory) => {
                return Err(EntryError::DirectoryTarget(target.clone()).into());
            }
            Some(_) => {}
        }
        let from = self.dirs.parent(target, false)?.try_clone_to_owned();
        let from = from.map_err(|e| WorldError::io("open the directory of", &host, e))?;
        let parent = self.dirs.parent(path, true)?;
        // Without AT_SYMLINK_FOLLOW a link to a symbolic link is one to the link itself.
        replacing(parent, path, &host, || {
            rustix::fs::linkat(&from, target.name(), parent, path.name(), AtFlags::empty())
        })?;
        Ok(())
    }

    /// Creates an empty file. [`Writer::close`] sets its owner, mode and time.
    pub(super) fn create(&mut self, path: &RelPath) -> Result<File, WriteError> {
        let host = self.host(path)?;
        let parent = self.dirs.parent(path, true)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = replacing(parent, path, &host, || {
            rustix::fs::openat(parent, path.name(), flags, Mode::from_raw_mode(0o600))
        })?;
        Ok(File::from(fd))
    }

    /// Finishes a file by setting its owner, mode and time.
    pub(super) fn close(&self, path: &RelPath, file: &File, meta: &Meta) -> Result<(), WorldError> {
        meta.apply(file, path, &|p| p.under(self.dirs.root()))
    }

    /// Sets owner, mode and time of the directories, the deepest first.
    pub(super) fn finish(mut self) -> Result<(), WorldError> {
        let root = self.dirs.root().to_path_buf();
        let pending = std::mem::take(&mut self.pending);
        for (path, meta) in pending.iter().rev() {
            let fd = self.dirs.dir(path, false).map_err(|e| e.in_tree(&root))?;
            let fd = fd
                .try_clone_to_owned()
                .map_err(|e| WorldError::io("open the directory", path.under(&root), e))?;
            let directory = File::from(fd);
            meta.strip(&directory, path)?;
            meta.apply(&directory, path, &|p| p.under(&root))?;
        }
        Ok(())
    }

    fn host(&self, path: &RelPath) -> Result<std::path::PathBuf, WriteError> {
        if path.is_root() {
            return Err(EntryError::ReplacesRoot.into());
        }
        Ok(path.under(self.dirs.root()))
    }
}

/// Returns the path below the root to which a link in a real directory leads, or `None`. An absolute target is one
/// below the root, as it is in a jail. A target that goes up from a directory that it names is not followed, since that
/// directory may itself be a link.
fn leads(link: &RelPath, target: &[u8]) -> Option<RelPath> {
    let start = link.parent();
    let mut parts: Vec<&[u8]> = match target.first() {
        Some(b'/') => Vec::new(),
        _ => start.components().collect(),
    };
    let mut down = false;
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if down => return None,
            b".." => {
                parts.pop()?;
            }
            name => {
                parts.push(name);
                down = true;
            }
        }
    }
    RelPath::parse(&parts.join(&b'/')).ok()
}

/// Creates something; if another file is in the way, removes it and tries again.
fn replacing<T>(
    parent: impl AsFd,
    path: &RelPath,
    host: &Path,
    make: impl Fn() -> rustix::io::Result<T>,
) -> Result<T, WriteError> {
    let made = match make() {
        Err(Errno::EXIST) => {
            unlink(&parent, path, host)?;
            make()
        }
        other => other,
    };
    made.map_err(|e| WorldError::io("make", host, e).into())
}

fn unlink(parent: impl AsFd, path: &RelPath, host: &Path) -> Result<(), WriteError> {
    match rustix::fs::unlinkat(&parent, path.name(), AtFlags::empty()) {
        Ok(()) => Ok(()),
        // Linux returns EISDIR, POSIX and FreeBSD EPERM.
        Err(e @ (Errno::ISDIR | Errno::PERM)) => {
            let there = rustix::fs::statat(&parent, path.name(), AtFlags::SYMLINK_NOFOLLOW);
            match there.map(|stat| kind(&stat)) {
                Ok(FileType::Directory) => Err(EntryError::ReplacesDirectory.into()),
                _ => Err(WorldError::io("replace", host, e).into()),
            }
        }
        Err(e) => Err(WorldError::io("replace", host, e).into()),
    }
}

/// Writes data at an offset; long runs of zeros become holes.
pub(super) fn write_at(file: &mut File, offset: u64, data: &[u8]) -> std::io::Result<()> {
    const RUN: usize = 64 << 10;
    let mut at = offset;
    let mut position = None;
    for run in data.chunks(RUN) {
        if run.len() < RUN || run.iter().any(|b| *b != 0) {
            if position != Some(at) {
                file.seek(SeekFrom::Start(at))?;
            }
            file.write_all(run)?;
            position = Some(at + run.len() as u64);
        }
        at += run.len() as u64;
    }
    Ok(())
}
