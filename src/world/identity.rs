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

/// Clears the identity away; how many files that were. A jail can put millions of files there: `stop` is
/// asked before each.
///
/// # Errors
/// Whatever the system refuses; [`WorldError::Interrupted`].
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
    // One after the other, not all in memory.
    for entry in Dir::read_from(parent).map_err(|e| at("list", e))? {
        if stop() {
            return Err(WorldError::Interrupted);
        }
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
