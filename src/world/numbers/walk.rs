//! Gives the files of a tree the new numbers of their owners, in one walk.
//!
//! If the walk is stopped, the state of the tree is unknown: a number in it may be the old one or the new one. The
//! caller makes such a tree again, and never continues with it.
//! This module must not decide which numbers change.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};

use super::super::dirs::Dirs;
use super::super::error::WorldError;
use super::super::meta::Meta;
use super::super::progress::{Context, Phase};
use super::super::scrub::rewrite;
use super::super::walk::{Node, Visit, walk};
use super::Moves;
use super::accounts::{TEXTS, rewritten};
use crate::profile::{Profile, RelPath};

/// Moves the owners of all files of a tree, and the numbers in its account files. Permissions with setuid, setgid and
/// sticky, times, capabilities and access control lists stay. Returns the number of files that were changed.
///
/// # Errors
/// The system refuses an operation, or the work was interrupted. The tree is then half renumbered.
pub fn renumber(
    root: &Path,
    profile: &Profile,
    moves: &Moves,
    context: &Context<'_>,
) -> Result<u64, WorldError> {
    if moves.is_empty() {
        return Ok(0);
    }
    let phase = Phase::start(context, "renumber", None);
    texts(root, profile, moves)?;
    let mut changed = 0;
    let mut done: BTreeSet<u64> = BTreeSet::new();
    walk(root, &context.cancel, &mut |node| {
        context.cancel.check()?;
        phase.advance(1);
        if node.is_mount {
            return Ok(Visit::Skip);
        }
        // A further name of a file that has its new owner already.
        let several = node.kind() != FileType::Directory && node.stat.st_nlink > 1;
        if several && !done.insert(node.stat.st_ino) {
            return Ok(Visit::Enter);
        }
        changed += u64::from(one(node, moves)?);
        Ok(Visit::Enter)
    })?;
    Ok(changed)
}

/// Renumbers one file; returns whether something was changed.
fn one(node: &Node<'_>, moves: &Moves) -> Result<bool, WorldError> {
    let host = |path: &RelPath| path.under(node.root);
    match node.kind() {
        FileType::RegularFile | FileType::Directory => {
            let file = node.open()?;
            let meta = of_file(node, &file)?;
            let moved = moves.meta(&meta);
            if moved == meta {
                return Ok(false);
            }
            moved.apply(&file, node.path, &host)?;
            Ok(true)
        }
        kind => {
            let meta = Meta::of(node.stat);
            let moved = moves.meta(&meta);
            if moved == meta {
                return Ok(false);
            }
            if kind == FileType::Symlink {
                moved.apply_to_link(node.parent, node.path, &host)?;
            } else {
                let (uid, gid) = (Uid::from_raw(moved.uid), Gid::from_raw(moved.gid));
                let name = node.path.name();
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(node.parent, name, Some(uid), Some(gid), flags)
                    .map_err(|e| node.error("set the owner of", e))?;
                let mode = Mode::from_raw_mode(moved.mode as rustix::fs::RawMode);
                rustix::fs::chmodat(node.parent, name, mode, AtFlags::empty())
                    .map_err(|e| node.error("set the mode of", e))?;
            }
            Ok(true)
        }
    }
}

fn of_file(node: &Node<'_>, file: &File) -> Result<Meta, WorldError> {
    Meta::of_file(node.stat, file).map_err(|e| node.error("read the attributes of", e))
}

/// Rewrites the account files. A text from which a database is made becomes newer than the database, so that the jail
/// makes the database again at its start.
fn texts(root: &Path, profile: &Profile, moves: &Moves) -> Result<(), WorldError> {
    for (path, kind) in TEXTS {
        let path = RelPath::parse(path.as_bytes()).unwrap_or_default();
        let mut dirs = Dirs::open(root)?;
        let Some(text) = dirs.read(&path, u64::MAX)? else {
            continue;
        };
        let Some(text) = rewritten(&text, kind, moves) else {
            continue;
        };
        let Some(mut stat) = dirs.stat(&path).map_err(|e| e.in_tree(root))? else {
            continue;
        };
        let made = profile.database.iter().filter(|it| it.from == path);
        for database in made {
            let at = dirs.stat(&database.made).map_err(|e| e.in_tree(root))?;
            if let Some(at) = at.filter(|at| at.st_mtime >= stat.st_mtime) {
                stat.st_mtime = at.st_mtime + 1;
            }
        }
        let node = Node {
            path: &path,
            parent: dirs.parent(&path, false).map_err(|e| e.in_tree(root))?,
            stat: &stat,
            root,
            is_mount: false,
        };
        rewrite(&node, &text)?;
    }
    Ok(())
}
