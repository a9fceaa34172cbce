//! Removes from a clone the files that identify its source, which the profile marks as identity.
//!
//! The tree belongs to a jail, whose root user may have put anything anywhere. So only the directories that the profile
//! names are examined, through no link, and only files and links are removed: a directory in the place of a key is not
//! a key.
//! This module must not know which files are the identity; the profile does.

use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType};

use super::dirs::{DirError, Dirs, kind};
use super::error::WorldError;
use super::scrub::rewrite;
use super::walk::Node;
use crate::profile::{Profile, ScrubAction, ScrubRule};

/// Removes the identity, and returns how many files that were. A jail can put millions of files there, so `stop` is
/// called before each of them.
///
/// # Errors
/// The system refuses an operation; [`WorldError::Interrupted`].
pub fn clear_identity(
    root: &Path,
    profile: &Profile,
    stop: &dyn Fn() -> bool,
) -> Result<usize, WorldError> {
    let mut dirs = Dirs::open(root)?;
    let rules = profile.scrub.iter().filter(|rule| rule.identity);
    let mut cleared = 0;
    for rule in rules {
        cleared += apply(&mut dirs, rule, stop)?;
    }
    Ok(cleared)
}

fn apply(dirs: &mut Dirs, rule: &ScrubRule, stop: &dyn Fn() -> bool) -> Result<usize, WorldError> {
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
    // Entries are read one after the other, not all into memory.
    for entry in Dir::read_from(parent).map_err(|e| at("list", e))? {
        if stop() {
            return Err(WorldError::Interrupted);
        }
        let entry = entry.map_err(|e| at("list", e))?;
        let name = entry.file_name();
        // An entry that is not a valid file name cannot be in the profile.
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
            // A link, or something else that is not a file, identifies the source as much as the file would.
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;

    #[test]
    fn it_ends_between_two_files() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let keys = directory.path().join("etc/ssh");
        fs::create_dir_all(&keys)?;
        for number in 0..100 {
            fs::write(keys.join(format!("ssh_host_{number}")), "key")?;
        }
        let mut profiles = Profile::builtin().iter();
        let profile = profiles.find(|it| it.name == "debian").ok_or("none")?;
        let left = Cell::new(50);
        let stop = || {
            left.set(left.get() - 1);
            left.get() == 0
        };
        let ended = clear_identity(directory.path(), profile, &stop);
        assert!(matches!(ended, Err(WorldError::Interrupted)), "{ended:?}");
        assert!(fs::read_dir(&keys)?.count() > 50);
        clear_identity(directory.path(), profile, &|| false)?;
        assert_eq!(fs::read_dir(&keys)?.count(), 0);
        Ok(())
    }
}
