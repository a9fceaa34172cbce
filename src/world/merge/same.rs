//! Whether two trees have the same at a path.
//! Must not be here: what follows from that.

use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Dir, Stat};
use rustix::io::Errno;

use super::super::dirs::{DirError, Dirs, wide};
use super::super::error::WorldError;
use super::super::progress::Cancel;
use super::state::{State, one};
use crate::profile::RelPath;

/// What is at a path: as the kernel says it, and as far as a merge minds it, without the content.
pub(super) struct There(pub(super) Stat, pub(super) State);

impl There {
    pub(super) fn at(
        root: &Path,
        path: &RelPath,
        cancel: &Cancel,
    ) -> Result<Option<There>, WorldError> {
        let state = match one(root, path, [None, None], cancel)? {
            Some(State::Blocked(_)) | None => return Ok(None),
            Some(state) => state,
        };
        let stat = match Dirs::open(root)?.stat(path) {
            Ok(stat) => stat,
            // A jail that runs has just changed it.
            Err(DirError::Missing(_) | DirError::Link(_) | DirError::File(_)) => None,
            Err(DirError::Sys(error)) => return Err(error),
        };
        Ok(stat.map(|stat| There(stat, state)))
    }

    /// Whether two are one file that was not written in between: snapshots of one file system, and that file
    /// system itself, give it one number and one time of change, which no user of a system can set.
    fn unwritten(&self, other: &There) -> bool {
        let of = |stat: &Stat| {
            let changed = (stat.st_ctime, stat.st_ctime_nsec);
            (wide(stat.st_ino), changed, stat.st_size, stat.st_mtime)
        };
        of(&self.0) == of(&other.0)
    }
}

/// Whether two trees have the same at a path.
pub(super) fn same(
    path: &RelPath,
    (a, one): (&Path, Option<&There>),
    (b, other): (&Path, Option<&There>),
    cancel: &Cancel,
) -> Result<bool, WorldError> {
    let (one, other) = match (one, other) {
        (None, None) => return Ok(true),
        (Some(one), Some(other)) => (one, other),
        (None, Some(_)) | (Some(_), None) => return Ok(false),
    };
    if one.1.kind() == other.1.kind() && one.unwritten(other) {
        return Ok(true);
    }
    match (&one.1, &other.1) {
        (State::Other, _) => Ok(false),
        (State::File(..), State::File(..)) if one.1 == other.1 => contents(path, a, b, cancel),
        (one, other) => Ok(one == other),
    }
}

/// The first at or below a directory of a jail that is not as it was in another tree: the jail has made, changed or
/// removed it, or something is mounted there. None if all is as it was, or the directory is not there.
pub(super) fn first_written(
    was: &Path,
    jail: &Path,
    dir: &RelPath,
    cancel: &Cancel,
) -> Result<Option<RelPath>, WorldError> {
    let Some(found) = There::at(jail, dir, cancel)?.filter(|it| it.1.is_directory()) else {
        return Ok(None);
    };
    written(was, jail, dir, found.0.st_dev, cancel)
}

fn written(
    was: &Path,
    jail: &Path,
    path: &RelPath,
    device: rustix::fs::Dev,
    cancel: &Cancel,
) -> Result<Option<RelPath>, WorldError> {
    cancel.check()?;
    let (then, now) = (
        There::at(was, path, cancel)?,
        There::at(jail, path, cancel)?,
    );
    let elsewhere = now.as_ref().is_some_and(|it| it.0.st_dev != device);
    if elsewhere || !same(path, (was, then.as_ref()), (jail, now.as_ref()), cancel)? {
        return Ok(Some(path.clone()));
    }
    if !now.is_some_and(|it| it.1.is_directory()) {
        return Ok(None);
    }
    // What the jail has made there ends it, however much that is. What it has removed is found in the other tree.
    for root in [was, jail] {
        let mut dirs = Dirs::open(root)?;
        let Ok(fd) = dirs.dir(path, false) else {
            return Ok(Some(path.clone()));
        };
        let failed = |e: Errno| WorldError::io("list", path.under(root), e);
        for entry in Dir::read_from(fd).map_err(failed)? {
            let entry = match entry {
                // A jail that runs has just removed it.
                Err(Errno::NOENT) => return Ok(Some(path.clone())),
                entry => entry.map_err(failed)?,
            };
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let Ok(below) = path.join(name) else {
                return Ok(Some(path.clone()));
            };
            let found = match root == was {
                true => written(was, jail, &below, device, cancel)?,
                // The same names are there, or it ends here.
                false => There::at(was, &below, cancel)?.is_none().then_some(below),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// Whether two files that are as long as each other have the same content.
fn contents(path: &RelPath, a: &Path, b: &Path, cancel: &Cancel) -> Result<bool, WorldError> {
    let (Some(one), Some(other)) = (
        Dirs::open(a)?.open_file(path)?,
        Dirs::open(b)?.open_file(path)?,
    ) else {
        return Ok(false);
    };
    let found = one
        .metadata()
        .map_err(|e| WorldError::io("stat", path.under(a), e))?;
    let size = found.len();
    // What a jail writes meanwhile may have no end.
    let mut one = io::BufReader::new(one.take(size));
    let mut other = io::BufReader::new(other.take(size));
    let (mut left, mut right) = ([0; 1 << 14], [0; 1 << 14]);
    loop {
        cancel.check()?;
        let n = full(&mut one, &mut left).map_err(|e| WorldError::io("read", path.under(a), e))?;
        let m =
            full(&mut other, &mut right).map_err(|e| WorldError::io("read", path.under(b), e))?;
        if left[..n] != right[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

/// Fills a buffer as far as there is something.
fn full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match from.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
