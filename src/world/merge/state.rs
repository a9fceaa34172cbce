//! What is at a path of a skeleton or a jail, as far as a merge minds it.
//! Must not be here: what happens to it.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Dir, FileType, Stat};
use rustix::io::Errno;

use super::super::dirs::{DirError, Dirs, kind};
use super::super::error::WorldError;
use super::super::input::Digest;
use super::super::meta::Meta;
use super::super::numbers::{Owners, Side};
use super::super::progress::Cancel;
use super::super::walk::Node;
use super::difference::Difference;
use crate::profile::{Class, RelPath};

/// A file as far as a merge minds it: times do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// With its size and the digest of its content; without a digest it is no file of a skeleton.
    File(Meta, u64, Option<Digest>),
    Link(Vec<u8>),
    Directory(Meta),
    Other,
    /// Nothing: what is named here, above it, is no directory.
    Blocked(RelPath),
}

/// A type of file, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A directory.
    Directory,
    /// A device, a fifo, a socket, or nothing.
    Other,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::File => "a file",
            Type::Link => "a symbolic link",
            Type::Directory => "a directory",
            Type::Other => "a special file",
        })
    }
}

impl State {
    /// What a file is. The content of one is read only where its size is `of_interest`: a jail can make a
    /// file as large as it likes, and what has another size than the skeletons' files differs from them.
    pub(super) fn of(
        node: &Node<'_>,
        of_interest: impl Fn(u64) -> bool,
        cancel: &Cancel,
    ) -> Result<State, WorldError> {
        let plain = |meta: Meta| Meta {
            mtime: 0,
            nsec: 0,
            ..meta
        };
        Ok(match node.kind() {
            FileType::RegularFile => {
                let file = node.open()?;
                let meta = match Meta::of_file(node.stat, &file) {
                    Ok(meta) => meta,
                    // More than any skeleton has.
                    Err(e) if e.kind() == io::ErrorKind::FileTooLarge => return Ok(State::Other),
                    Err(e) => return Err(node.error("read the attributes of", e)),
                };
                let size = node.stat.st_size as u64;
                let digest = if of_interest(size) {
                    // It may grow while it is read, if the jail runs.
                    let digest = Digest::of_reader(&mut cancel.reader(file.take(size)));
                    let failed = |e| WorldError::unwrap_io(e, |e| node.error("read", e));
                    Some(digest.map_err(failed)?)
                } else {
                    None
                };
                State::File(plain(meta), size, digest)
            }
            FileType::Symlink => State::Link(node.link_target()?),
            FileType::Directory => match Meta::of_file(node.stat, &node.open()?) {
                Ok(meta) => State::Directory(plain(meta)),
                Err(e) if e.kind() == io::ErrorKind::FileTooLarge => State::Other,
                Err(e) => return Err(node.error("read the attributes of", e)),
            },
            _ => State::Other,
        })
    }

    pub(super) fn size(&self) -> Option<u64> {
        match self {
            State::File(_, size, _) => Some(*size),
            State::Link(_) | State::Directory(_) | State::Other | State::Blocked(_) => None,
        }
    }

    /// Owner and mode of a file or a directory.
    pub(super) fn meta(&self) -> Option<&Meta> {
        match self {
            State::File(meta, ..) | State::Directory(meta) => Some(meta),
            State::Link(_) | State::Other | State::Blocked(_) => None,
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self, State::Directory(_))
    }

    pub(super) fn is_directory_by(stat: &Stat) -> bool {
        kind(stat) == FileType::Directory
    }

    /// What a skeleton has, with the owner that it has in a jail.
    pub(super) fn in_jail(&self, side: Side, owners: &Owners) -> State {
        match self {
            State::File(meta, size, digest) => {
                State::File(owners.owner_in_jail(side, meta), *size, *digest)
            }
            State::Directory(meta) => State::Directory(owners.owner_in_jail(side, meta)),
            State::Link(_) | State::Other | State::Blocked(_) => self.clone(),
        }
    }

    pub(super) fn kind(&self) -> Type {
        match self {
            State::File(..) => Type::File,
            State::Link(_) => Type::Link,
            State::Directory(_) => Type::Directory,
            State::Other | State::Blocked(_) => Type::Other,
        }
    }
}

/// The first that is found below a directory of the jail and is the jail's own: that the old skeleton has not, or
/// has otherwise, or that is mounted there, or that no merge removes. None if all of it may go.
pub(super) fn first_own(
    jail: &Path,
    dir: &RelPath,
    difference: &Difference,
    cancel: &Cancel,
) -> Result<Option<RelPath>, WorldError> {
    cancel.check()?;
    let mut dirs = Dirs::open(jail)?;
    let failed = |e: Errno| WorldError::io("list", dir.under(jail), e);
    let fd = match dirs.dir(dir, false) {
        Ok(fd) => fd,
        // A jail that runs has just changed it.
        Err(DirError::Missing(_) | DirError::Link(_) | DirError::File(_)) => {
            return Ok(Some(dir.clone()));
        }
        Err(DirError::Sys(error)) => return Err(error),
    };
    let device = rustix::fs::fstat(fd).map_err(failed)?.st_dev;
    // Not sorted: what has more entries than the skeleton ends at the first that is not in it.
    for entry in Dir::read_from(fd).map_err(failed)? {
        let entry = match entry {
            Err(Errno::NOENT) => return Ok(Some(dir.clone())),
            entry => entry.map_err(failed)?,
        };
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let Ok(path) = dir.join(name) else {
            return Ok(Some(dir.clone()));
        };
        let Some(state) = difference.before(&path) else {
            return Ok(Some(path));
        };
        let stays = matches!(difference.own(&path).class, Class::Seeded | Class::Kept);
        let elsewhere = match Dirs::open(jail)?.stat(&path) {
            Ok(Some(stat)) => stat.st_dev != device,
            Ok(None) | Err(DirError::Missing(_) | DirError::Link(_) | DirError::File(_)) => true,
            Err(DirError::Sys(error)) => return Err(error),
        };
        if stays
            || elsewhere
            || one(jail, &path, [Some(state), None], cancel)?.as_ref() != Some(state)
        {
            return Ok(Some(path));
        }
        if state.is_directory() {
            if let Some(own) = first_own(jail, &path, difference, cancel)? {
                return Ok(Some(own));
            }
        }
    }
    Ok(None)
}

/// The first entry of a directory of the jail that is not to go.
pub(super) fn first_left(
    jail: &Path,
    dir: &RelPath,
    goes: &dyn Fn(&RelPath) -> bool,
) -> Result<Option<RelPath>, WorldError> {
    let mut dirs = Dirs::open(jail)?;
    let failed = |e: Errno| WorldError::io("list", dir.under(jail), e);
    let fd = match dirs.dir(dir, false) {
        Ok(fd) => fd,
        Err(DirError::Missing(_) | DirError::Link(_) | DirError::File(_)) => return Ok(None),
        Err(DirError::Sys(error)) => return Err(error),
    };
    // Not sorted: a jail can put a million files there.
    for entry in Dir::read_from(fd).map_err(failed)? {
        let entry = match entry {
            // A jail that runs has just removed it.
            Err(Errno::NOENT) => return Ok(None),
            entry => entry.map_err(failed)?,
        };
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match dir.join(name) {
            Ok(path) if goes(&path) => {}
            Ok(path) => return Ok(Some(path)),
            Err(_) => return Ok(Some(dir.clone())),
        }
    }
    Ok(None)
}

/// How often a file is looked at again that changes while it is looked at.
const LOOKS: u32 = 3;

/// What a jail has at a path. The jail may run: what changes at every look is like no file of a skeleton.
pub(super) fn one(
    jail: &Path,
    path: &RelPath,
    like: [Option<&State>; 2],
    cancel: &Cancel,
) -> Result<Option<State>, WorldError> {
    for _ in 0..LOOKS {
        match look(jail, path, like, cancel) {
            Err(error) if error.is_of_a_change() => {}
            other => return other,
        }
    }
    Ok(Some(State::Other))
}

fn look(
    jail: &Path,
    path: &RelPath,
    like: [Option<&State>; 2],
    cancel: &Cancel,
) -> Result<Option<State>, WorldError> {
    let mut dirs = Dirs::open(jail)?;
    let stat = match dirs.stat(path) {
        Ok(Some(stat)) => stat,
        Ok(None) | Err(DirError::Missing(_)) => return Ok(None),
        Err(DirError::Link(by) | DirError::File(by)) => return Ok(Some(State::Blocked(by))),
        Err(DirError::Sys(error)) => return Err(error),
    };
    let parent = dirs.parent(path, false).map_err(|e| e.in_tree(jail))?;
    let node = Node {
        path,
        parent,
        stat: &stat,
        root: jail,
        is_mount: false,
    };
    let as_large = |size| like.into_iter().flatten().any(|it| it.size() == Some(size));
    State::of(&node, as_large, cancel).map(Some)
}
