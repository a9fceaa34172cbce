//! Walks a tree through directory descriptors, sorted, without following links or leaving its file system.
//! This module must not know what is done with the files.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::dirs::{Dirs, kind};
use super::error::WorldError;
use super::progress::Cancel;
use crate::profile::RelPath;

/// A file of a tree.
pub(super) struct Node<'a> {
    /// The path of the file below the root.
    pub(super) path: &'a RelPath,
    /// The directory that holds the file; for the root, the root itself.
    pub(super) parent: BorrowedFd<'a>,
    /// The status of the file.
    pub(super) stat: &'a Stat,
    /// The root of the walk, for messages.
    pub(super) root: &'a Path,
    /// Whether the file is the root of another file system, which is not entered.
    pub(super) is_mount: bool,
}

/// What to do with the entries of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visit {
    /// Visit the entries.
    Enter,
    /// Skip the entries.
    Skip,
}

const DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// The flags for opening a file; a fifo that has taken its place is not waited for.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

impl Node<'_> {
    /// Returns the type of the file.
    pub(super) fn kind(&self) -> FileType {
        kind(self.stat)
    }

    /// Makes an error about the file.
    pub(super) fn error(&self, op: &'static str, e: impl Into<std::io::Error>) -> WorldError {
        WorldError::io(op, self.path.under(self.root), e)
    }

    /// Opens a regular file or a directory for reading, and checks that it is still the same file.
    pub(super) fn open(&self) -> Result<File, WorldError> {
        let flags = if self.kind() == FileType::Directory {
            DIR
        } else {
            FILE
        };
        let name = if self.path.is_root() {
            ".".as_ref()
        } else {
            self.path.name()
        };
        let fd = rustix::fs::openat(self.parent, name, flags, Mode::empty())
            .map_err(|e| self.error("open", e))?;
        let now = rustix::fs::fstat(&fd).map_err(|e| self.error("stat", e))?;
        if (now.st_dev, now.st_ino) != (self.stat.st_dev, self.stat.st_ino) {
            return Err(self.error("read", rustix::io::Errno::STALE));
        }
        Ok(File::from(fd))
    }

    /// Returns the target of a symbolic link.
    pub(super) fn link_target(&self) -> Result<Vec<u8>, WorldError> {
        rustix::fs::readlinkat(self.parent, self.path.name(), Vec::new())
            .map(CString::into_bytes)
            .map_err(|e| self.error("read the link", e))
    }
}

/// Visits the root and everything below it: a directory before its entries, and the entries by name.
///
/// `.zfs` in the root does not belong to the tree. Directories on other file systems are visited and marked, but not
/// entered.
pub(super) fn walk(
    root: &Path,
    cancel: &Cancel,
    visit: &mut dyn FnMut(&Node<'_>) -> Result<Visit, WorldError>,
) -> Result<(), WorldError> {
    let fd = Dirs::open(root)?.into_root();
    let stat = rustix::fs::fstat(&fd).map_err(|e| WorldError::io("stat", root, e))?;
    let path = RelPath::root();
    let node = Node {
        path: &path,
        parent: fd.as_fd(),
        stat: &stat,
        root,
        is_mount: false,
    };
    if visit(&node)? == Visit::Skip {
        return Ok(());
    }
    Walk {
        root,
        device: stat.st_dev,
        cancel,
        visit,
    }
    .entries(&path, fd)
    .map(drop)
}

/// So many directories of a path are open at a time: a tree may be deeper than a process may have descriptors.
const OPEN: usize = 24;

struct Walk<'a> {
    root: &'a Path,
    device: rustix::fs::Dev,
    cancel: &'a Cancel,
    visit: &'a mut dyn FnMut(&Node<'_>) -> Result<Visit, WorldError>,
}

impl Walk<'_> {
    /// Visits what is in a directory. Returns its descriptor, which may be another one by then.
    fn entries(&mut self, dir: &RelPath, mut fd: OwnedFd) -> Result<OwnedFd, WorldError> {
        self.cancel.check()?;
        let deep = dir.components().count() > OPEN;
        for name in names(&fd).map_err(|e| WorldError::io("list", dir.under(self.root), e))? {
            if dir.is_root() && name.as_bytes() == b".zfs" {
                continue;
            }
            // A tree that is deeper than the longest path ends here.
            let path = dir
                .join(name.as_bytes())
                .map_err(|source| WorldError::Name {
                    name: name.as_bytes().escape_ascii().to_string(),
                    dir: dir.under(self.root),
                    source,
                })?;
            let host = || path.under(self.root);
            let stat = rustix::fs::statat(&fd, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| WorldError::io("stat", host(), e))?;
            let is_mount = stat.st_dev != self.device;
            let node = Node {
                path: &path,
                parent: fd.as_fd(),
                stat: &stat,
                root: self.root,
                is_mount,
            };
            let next = (self.visit)(&node)?;
            if kind(&stat) == FileType::Directory && next == Visit::Enter && !is_mount {
                let child = rustix::fs::openat(&fd, name.as_c_str(), DIR, Mode::empty())
                    .map_err(|e| WorldError::io("open the directory", host(), e))?;
                if deep {
                    fd = self.below(dir, fd, &path, child)?;
                } else {
                    self.entries(&path, child)?;
                }
            }
        }
        Ok(fd)
    }

    /// Visits a directory while the one above it is closed, which is opened again by it.
    fn below(
        &mut self,
        dir: &RelPath,
        fd: OwnedFd,
        path: &RelPath,
        child: OwnedFd,
    ) -> Result<OwnedFd, WorldError> {
        let failed = |e: Errno| WorldError::io("open the directory", dir.under(self.root), e);
        let id = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|it| (it.st_dev, it.st_ino));
        let was = id(&fd).map_err(failed)?;
        drop(fd);
        let child = self.entries(path, child)?;
        let failed = |e: Errno| WorldError::io("open the directory", dir.under(self.root), e);
        let above = rustix::fs::openat(&child, "..", DIR, Mode::empty()).map_err(failed)?;
        // Somebody has moved it meanwhile.
        match id(&above).map_err(failed)? == was {
            true => Ok(above),
            false => Err(failed(Errno::STALE)),
        }
    }
}

/// Returns the names in a directory, sorted.
pub(super) fn names(fd: impl AsFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
