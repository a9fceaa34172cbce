//! Directory descriptors below a root, kept open along the path in use.
//!
//! Every step is one `openat` with `O_NOFOLLOW`, so no link in the tree leads anywhere; and a walk
//! that goes from neighbour to neighbour opens each directory once. The cache is right as long as
//! nobody replaces a directory, which nothing in this module's users does. A tree may be deeper than a process may have
//! descriptors: of deep ones only the first and the last are kept.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::WorldError;
use crate::profile::RelPath;

/// Why a directory below the root could not be opened.
#[derive(Debug)]
pub(super) enum DirError {
    /// The directory, or one above it, is a symbolic link.
    Link(RelPath),
    /// The directory, or one above it, is a file.
    File(RelPath),
    /// The directory, or one above it, is missing.
    Missing(RelPath),
    /// The system refused an operation.
    Sys(WorldError),
}

/// The open directories from the root to the one that was used last.
#[derive(Debug)]
pub(super) struct Dirs {
    root: OwnedFd,
    path: PathBuf,
    /// Names, with the descriptors of the first [`KEPT`] and of the last.
    stack: Vec<(Vec<u8>, Option<OwnedFd>)>,
}

/// So many directories of a path are kept open.
const KEPT: usize = 24;

const DIR_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Dirs {
    /// Opens a root. The root itself belongs to the caller and may be reached through links.
    pub(super) fn open(root: &Path) -> Result<Dirs, WorldError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|e| WorldError::io("open the directory", root, e))?;
        Ok(Dirs {
            root: fd,
            path: root.to_path_buf(),
            stack: Vec::new(),
        })
    }

    /// Returns the descriptor of the root alone.
    pub(super) fn into_root(self) -> OwnedFd {
        self.root
    }

    /// Returns the path of the root, for messages.
    pub(super) fn root(&self) -> &Path {
        &self.path
    }

    /// Returns the descriptor of a directory; with `create`, missing ones are created (root's, 0755).
    pub(super) fn dir(&mut self, dir: &RelPath, create: bool) -> Result<BorrowedFd<'_>, DirError> {
        let same = self
            .stack
            .iter()
            .zip(dir.components())
            .take_while(|((a, _), b)| a == b)
            .count();
        self.stack.truncate(same);
        while self.stack.last().is_some_and(|(_, fd)| fd.is_none()) {
            self.stack.pop();
        }
        let same = self.stack.len();
        for part in dir.components().skip(same) {
            let name = OsStr::from_bytes(part);
            let parent = self.last();
            let opened = match rustix::fs::openat(parent, name, DIR_FLAGS, Mode::empty()) {
                Err(Errno::NOENT) if create => made(parent, name),
                other => other,
            };
            match opened {
                Ok(fd) => {
                    if self.stack.len() > KEPT {
                        if let Some((_, above)) = self.stack.last_mut() {
                            *above = None;
                        }
                    }
                    self.stack.push((part.to_vec(), Some(fd)));
                }
                Err(errno) => return Err(self.failure(dir, errno)),
            }
        }
        Ok(self.last())
    }

    /// The descriptor of the last directory on the stack.
    fn last(&self) -> BorrowedFd<'_> {
        let last = self.stack.last().and_then(|(_, fd)| fd.as_ref());
        last.map_or(self.root.as_fd(), AsFd::as_fd)
    }

    /// Returns the descriptor of the directory that holds a path, as [`Dirs::dir`].
    pub(super) fn parent(
        &mut self,
        path: &RelPath,
        create: bool,
    ) -> Result<BorrowedFd<'_>, DirError> {
        self.dir(&path.parent(), create)
    }

    /// Returns the status of a path, without following a link there; `None` if nothing exists there.
    pub(super) fn stat(&mut self, path: &RelPath) -> Result<Option<Stat>, DirError> {
        let host = path.under(&self.path);
        if path.is_root() {
            let stat = rustix::fs::fstat(&self.root);
            return stat
                .map(Some)
                .map_err(|e| DirError::Sys(WorldError::io("stat", host, e)));
        }
        let parent = match self.parent(path, false) {
            Err(DirError::Missing(_)) => return Ok(None),
            other => other?,
        };
        match rustix::fs::statat(parent, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(DirError::Sys(WorldError::io("stat", host, e))),
        }
    }

    /// Opens a regular file or directory for reading, through no link; returns `None` if neither exists there. Never
    /// waits for the other end of a fifo.
    pub(super) fn open_file(&mut self, path: &RelPath) -> Result<Option<File>, WorldError> {
        let host = path.under(&self.path);
        let parent = match self.parent(path, false) {
            Ok(parent) => parent,
            Err(DirError::Sys(error)) => return Err(error),
            Err(_) => return Ok(None),
        };
        let name = if path.is_root() {
            OsStr::new(".")
        } else {
            path.name()
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            // A link gives ELOOP on Linux and EMLINK on FreeBSD; a socket gives ENXIO or EOPNOTSUPP.
            Err(Errno::NOENT | Errno::LOOP | Errno::MLINK | Errno::NXIO | Errno::OPNOTSUPP) => {
                return Ok(None);
            }
            Err(e) => return Err(WorldError::io("open", host, e)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| WorldError::io("stat", host, e))?;
        let usable = matches!(kind(&stat), FileType::RegularFile | FileType::Directory);
        Ok(usable.then(|| File::from(fd)))
    }

    /// Reads the beginning of a regular file, with the guarantees of [`Dirs::open_file`].
    pub(super) fn read(
        &mut self,
        path: &RelPath,
        most: u64,
    ) -> Result<Option<Vec<u8>>, WorldError> {
        let host = path.under(&self.path);
        let Some(file) = self.open_file(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        match file.take(most).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::IsADirectory => Ok(None),
            Err(e) => Err(WorldError::io("read", host, e)),
        }
    }

    /// Returns the error for the component that follows those on the stack.
    fn failure(&self, dir: &RelPath, errno: Errno) -> DirError {
        let parts: Vec<&[u8]> = dir.components().take(self.stack.len() + 1).collect();
        let at = RelPath::parse(&parts.join(&b'/')).unwrap_or_default();
        if errno == Errno::NOENT {
            return DirError::Missing(at);
        }
        let parent = self.last();
        match rustix::fs::statat(parent, at.name(), AtFlags::SYMLINK_NOFOLLOW).map(|s| kind(&s)) {
            Ok(FileType::Symlink) => DirError::Link(at),
            Ok(FileType::Directory) | Err(_) => DirError::Sys(WorldError::io(
                "open the directory",
                at.under(&self.path),
                errno,
            )),
            Ok(_) => DirError::File(at),
        }
    }
}

impl DirError {
    /// Converts the error to that of a tree that should have been well-formed.
    pub(super) fn in_tree(self, root: &Path) -> WorldError {
        match self {
            DirError::Link(path) | DirError::File(path) => WorldError::NotADirectory {
                path,
                root: root.to_path_buf(),
            },
            DirError::Missing(path) => {
                WorldError::io("open the directory", path.under(root), Errno::NOENT)
            }
            DirError::Sys(error) => error,
        }
    }
}

/// Widens a number whose width differs between systems.
pub(super) fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// Creates a directory that the input does not describe, regardless of the umask.
fn made(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(parent, name, mode)?;
    let fd = rustix::fs::openat(parent, name, DIR_FLAGS, Mode::empty())?;
    rustix::fs::fchmod(&fd, mode)?;
    Ok(fd)
}

/// Returns the type of a file from its status.
pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode as rustix::fs::RawMode)
}
