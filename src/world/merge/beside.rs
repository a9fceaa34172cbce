//! Where the release's version of a conflict is put: beside the jail's, by a name at which nothing of the jail's is.
//! Must not be here: what is a conflict.

use std::path::Path;

use rustix::fs::Dir;
use rustix::io::Errno;

use super::super::dirs::{DirError, Dirs};
use super::super::error::WorldError;
use super::super::progress::Cancel;
use super::difference::Difference;
use super::state::one;
use crate::profile::RelPath;

/// What the release's version of a conflict is called: the name and this.
const BESIDE: &str = ".ezz-new";

/// How many names are tried if the jail has something of its own by that name.
pub(super) const BESIDE_TRIES: u32 = 9;

/// Where the release's version of a conflict is put: beside the jail's; of a directory, `whole`, with all
/// that is in it.
pub(super) fn beside(
    jail: &Path,
    path: &RelPath,
    whole: bool,
    difference: &Difference,
    cancel: &Cancel,
) -> Result<Vec<(RelPath, RelPath)>, WorldError> {
    if difference.after(path).is_none() {
        return Ok(Vec::new());
    }
    let parent = path.parent();
    let mut dirs = Dirs::open(jail)?;
    match dirs.dir(&parent, false) {
        Ok(_) | Err(DirError::Missing(_)) => {}
        // Not where a link of the jail's leads away: that one is named and no more.
        Err(DirError::Link(_) | DirError::File(_)) => return Ok(Vec::new()),
        Err(DirError::Sys(error)) => return Err(error),
    }
    for number in 0..BESIDE_TRIES {
        let Some(top) = name_beside(path, number) else {
            break;
        };
        if !is_free(jail, &top, path, difference, cancel)? {
            continue;
        }
        let within = difference
            .within(path)
            .filter(|from| *from == path || whole);
        let to = |from: &RelPath| {
            let rest = &from.as_bytes()[path.as_bytes().len()..];
            let to = [top.as_bytes(), rest].concat();
            Some((from.clone(), RelPath::parse(&to).ok()?))
        };
        return Ok(within.map(to).collect::<Option<_>>().unwrap_or_default());
    }
    Ok(Vec::new())
}

/// The name beside a file that is tried as the one of this number.
pub(super) fn name_beside(path: &RelPath, number: u32) -> Option<RelPath> {
    let mut name = [path.name().as_encoded_bytes(), BESIDE.as_bytes()].concat();
    if number > 0 {
        name.extend(format!(".{number}").into_bytes());
    }
    path.parent().join(&name).ok()
}

/// Whether nothing of the jail's is at a name: nothing is there, or what a merge has put there, which is a version of
/// the release.
fn is_free(
    jail: &Path,
    at: &RelPath,
    path: &RelPath,
    difference: &Difference,
    cancel: &Cancel,
) -> Result<bool, WorldError> {
    cancel.check()?;
    let versions = [difference.after(path), difference.before(path)];
    let Some(there) = one(jail, at, versions, cancel)? else {
        return Ok(true);
    };
    // A directory cannot take the place of a file, nor a file that of a directory.
    let fits = |is: &super::state::State| is.is_directory() == there.is_directory();
    let of_a_merge = versions.contains(&Some(&there));
    if !of_a_merge || !difference.after(path).is_none_or(fits) {
        return Ok(false);
    }
    if !there.is_directory() {
        return Ok(true);
    }
    let failed = |e: Errno| WorldError::io("list", at.under(jail), e);
    let mut dirs = Dirs::open(jail)?;
    let Ok(fd) = dirs.dir(at, false) else {
        return Ok(false);
    };
    // Not sorted: what the jail has put there ends it, and the release has no more entries than it has.
    for entry in Dir::read_from(fd).map_err(failed)? {
        let entry = match entry {
            // A jail that runs has just removed it.
            Err(Errno::NOENT) => return Ok(false),
            entry => entry.map_err(failed)?,
        };
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let (Ok(at), Ok(path)) = (at.join(name), path.join(name)) else {
            return Ok(false);
        };
        if !is_free(jail, &at, &path, difference, cancel)? {
            return Ok(false);
        }
    }
    Ok(true)
}
