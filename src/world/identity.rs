//! Clearing away of a clone what tells its source from other machines: what the profile calls identity.
//!
//! The tree is a jail's, whose root may have put anything anywhere. So only the directories that the
//! profile names are looked into, through no link, and only files and links are touched: a directory
//! in the place of a key is no key.
//! Must not be here: what the identity is; that is the profile.

use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType};

use super::dirs::{DirError, Dirs, kind};
use super::error::WorldError;
use super::scrub::rewrite;
use super::walk::Node;
use crate::profile::{Profile, ScrubAction, ScrubRule};

/// Clears the identity away; how many files that were.
///
/// # Errors
/// Whatever the system refuses.
pub fn clear_identity(root: &Path, profile: &Profile) -> Result<usize, WorldError> {
    let mut dirs = Dirs::open(root)?;
    let rules = profile.scrub.iter().filter(|rule| rule.identity);
    let mut cleared = 0;
    for rule in rules {
        cleared += apply(&mut dirs, rule)?;
    }
    Ok(cleared)
}

fn apply(dirs: &mut Dirs, rule: &ScrubRule) -> Result<usize, WorldError> {
    let root = dirs.root().to_owned();
    let Some(directory) = rule.directory() else {
        return Ok(0);
    };
    let parent = match dirs.dir(&directory, false) {
        Ok(parent) => parent,
        Err(DirError::Link(_) | DirError::File(_) | DirError::Missing(_)) => return Ok(0),
        Err(DirError::Sys(error)) => return Err(error),
    };
    let at = |op, e: rustix::io::Errno| WorldError::io(op, directory.under(&root), e);
    let mut cleared = 0;
    // One after the other: a jail can put millions into its directory.
    for entry in Dir::read_from(parent).map_err(|e| at("list", e))? {
        let entry = entry.map_err(|e| at("list", e))?;
        let name = entry.file_name();
        // One that is no name of a file is none of the profile's.
        let Ok(path) = directory.join(name.to_bytes()) else {
            continue;
        };
        if !rule.path.matches(&path) {
            continue;
        }
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| at("stat something in", e))?;
        let node = Node {
            path: &path,
            parent,
            stat: &stat,
            root: &root,
            is_mount: false,
        };
        let content = match (&rule.action, kind(&stat)) {
            (ScrubAction::Empty, _) | (_, FileType::Directory) => continue,
            (ScrubAction::Truncate, FileType::RegularFile) if stat.st_size == 0 => continue,
            (ScrubAction::Truncate, FileType::RegularFile) => Some(""),
            (ScrubAction::Reset(content), FileType::RegularFile) => Some(content.as_str()),
            // A link, or what is no file, in the place of one tells as much as the file.
            _ => None,
        };
        match content {
            Some(content) => rewrite(&node, content.as_bytes())?,
            None => rustix::fs::unlinkat(parent, name, AtFlags::empty())
                .map_err(|e| node.error("remove", e))?,
        }
        cleared += 1;
    }
    Ok(cleared)
}
