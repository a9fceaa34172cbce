//! A jail's own files, from one skeleton to another: three-way, with the old skeleton as what both
//! come from.
//!
//! What only the release has changed is taken, what only the administrator has changed stays, and what
//! both have changed is merged line by line or is a conflict: then the jail's version stays, and the
//! release's is put beside it. The jail must not run; its links are never followed.
//! Must not be here: which jails, and what protects them while this works.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use super::dirs::{DirError, Dirs, kind};
use super::error::WorldError;
use super::input::Digest;
use super::keyed;
use super::meta::Meta;
use super::progress::{Context, Phase};
use super::walk::{Node, Visit, walk};
use super::writer::Writer;
use crate::profile::{Profile, RelPath};

/// What the release's version of a conflict is called: the name and this.
pub const BESIDE: &str = ".ezz-new";

/// Nothing longer is merged line by line.
const TEXT_MAX: u64 = 1 << 20;

/// What happens to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The release's is taken.
    Take,
    /// It goes, as it went from the release.
    Remove,
    /// Both have changed it, in different lines.
    Merge(Vec<u8>),
    /// Both have changed it: the jail's stays, the release's is put beside it.
    Conflict,
}

/// A file that is not simply left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub path: RelPath,
    /// What happens to it.
    pub what: What,
    /// How its lines change, where they do: for people.
    pub diff: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.what {
            What::Take => "take",
            What::Remove => "remove",
            What::Merge(_) => "merge",
            What::Conflict => "CONFLICT",
        };
        write!(f, "{word} {}", self.path)
    }
}

/// A file as far as a merge minds it: times do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    File(Meta, Digest),
    Link(Vec<u8>),
    Directory(Meta),
    Other,
}

impl State {
    fn of(node: &Node<'_>) -> Result<State, WorldError> {
        let plain = |meta: Meta| Meta {
            mtime: 0,
            nsec: 0,
            ..meta
        };
        Ok(match node.kind() {
            FileType::RegularFile => {
                let mut file = node.open()?;
                let meta = Meta::of_file(node.stat, &file)
                    .map_err(|e| node.error("read the attributes of", e))?;
                let digest = Digest::of_reader(&mut file).map_err(|e| node.error("read", e))?;
                State::File(plain(meta), digest)
            }
            FileType::Symlink => State::Link(node.link_target()?),
            FileType::Directory => State::Directory(plain(Meta::of(node.stat))),
            _ => State::Other,
        })
    }
}

/// Which files of a skeleton are merged: those that the profile lists, and the links to the base.
fn minds(profile: &Profile, path: &RelPath) -> bool {
    let merge = &profile.merge;
    if profile.shared.contains(path) {
        return true;
    }
    let listed = merge.paths.iter().any(|pattern| pattern.matches(path));
    listed && !merge.keep.iter().any(|pattern| pattern.matches(path))
}

fn tree(
    root: &Path,
    profile: &Profile,
    context: &Context<'_>,
    wanted: impl Fn(&RelPath) -> bool,
) -> Result<BTreeMap<RelPath, State>, WorldError> {
    let mut found = BTreeMap::new();
    walk(root, &context.cancel, &mut |node| {
        if minds(profile, node.path) && wanted(node.path) {
            found.insert(node.path.clone(), State::of(node)?);
        }
        Ok(Visit::Enter)
    })?;
    Ok(found)
}

/// Finds out what has to happen to a jail's files, and changes nothing.
///
/// # Errors
/// [`WorldError`]: a tree cannot be read; interrupted.
pub fn examine(
    old: &Path,
    new: &Path,
    jail: &Path,
    profile: &Profile,
    context: &Context<'_>,
) -> Result<Vec<Change>, WorldError> {
    let phase = Phase::start(context, "compare", None);
    let before = tree(old, profile, context, |_| true)?;
    let after = tree(new, profile, context, |_| true)?;
    // A jail may have a million files: only those that the release has changed are looked at.
    let mut changed: Vec<&RelPath> = before
        .keys()
        .chain(after.keys())
        .filter(|path| before.get(*path) != after.get(*path))
        .collect();
    changed.sort();
    changed.dedup();
    let mut changes = Vec::new();
    for path in changed {
        context.cancel.check()?;
        let own = one(jail, path)?;
        let (was, is) = (before.get(path), after.get(path));
        phase.advance(1);
        if own.as_ref() == is {
            continue;
        }
        let change = |what, diff| Change {
            path: path.clone(),
            what,
            diff,
        };
        changes.push(match (is, own.as_ref() == was) {
            (Some(_), true) => change(What::Take, patch(jail, new, path)?),
            (None, true) => change(What::Remove, None),
            // What the release has dropped, and the jail has made its own, is the jail's.
            (None, false) => continue,
            (Some(is), false) => {
                match merged(old, new, jail, profile, path, (was, is, own.as_ref()))? {
                    Some((text, diff)) => change(What::Merge(text), Some(diff)),
                    None => change(What::Conflict, patch(jail, new, path)?),
                }
            }
        });
    }
    Ok(changes)
}

/// What a jail has at a path; nothing also where a link of the jail's leads away above it.
fn one(jail: &Path, path: &RelPath) -> Result<Option<State>, WorldError> {
    let mut dirs = Dirs::open(jail)?;
    let stat = match dirs.stat(path) {
        Ok(Some(stat)) => stat,
        Ok(None) | Err(DirError::Missing(_)) => return Ok(None),
        Err(DirError::Link(_) | DirError::File(_)) => return Ok(Some(State::Other)),
        Err(DirError::Sys(error)) => return Err(error),
    };
    let parent = dirs.parent(path, false).map_err(|e| e.in_tree(jail))?;
    State::of(&Node {
        path,
        parent,
        stat: &stat,
        root: jail,
        is_mount: false,
    })
    .map(Some)
}

/// What is looked at when texts are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Lines and their neighbours.
    Line,
    /// The name that each line begins with.
    Name,
    /// The same, and that no two get one number.
    Account,
}

/// What both sides have made of a text, as one; none if they contradict each other.
pub fn texts(base: &str, ours: &str, theirs: &str, by: By) -> Option<String> {
    match by {
        By::Line => diffy::merge(base, ours, theirs).ok(),
        By::Name | By::Account => keyed::merge(base, ours, theirs, by == By::Account),
    }
}

/// The three versions merged line by line or name by name, if they are texts and it can be done.
fn merged(
    old: &Path,
    new: &Path,
    jail: &Path,
    profile: &Profile,
    path: &RelPath,
    (was, is, own): (Option<&State>, &State, Option<&State>),
) -> Result<Option<(Vec<u8>, String)>, WorldError> {
    let (Some(State::File(..)), State::File(..), Some(State::File(..))) = (was, is, own) else {
        return Ok(None);
    };
    let (Some(base), Some(ours), Some(theirs)) =
        (text(old, path)?, text(jail, path)?, text(new, path)?)
    else {
        return Ok(None);
    };
    let by = if profile.merge.numbered.contains(path) {
        By::Account
    } else if profile.merge.keyed.contains(path) {
        By::Name
    } else {
        By::Line
    };
    let merged = texts(&base, &ours, &theirs, by);
    Ok(merged.map(|merged| {
        let diff = diffy::create_patch(&ours, &merged).to_string();
        (merged.into_bytes(), diff)
    }))
}

/// How the lines of the jail's version become the release's, where both are texts.
fn patch(jail: &Path, new: &Path, path: &RelPath) -> Result<Option<String>, WorldError> {
    match (text(jail, path)?, text(new, path)?) {
        (Some(ours), Some(theirs)) if ours != theirs => {
            Ok(Some(diffy::create_patch(&ours, &theirs).to_string()))
        }
        _ => Ok(None),
    }
}

/// A regular file that is a text and not too long.
fn text(root: &Path, path: &RelPath) -> Result<Option<String>, WorldError> {
    let bytes = Dirs::open(root)?.read(path, TEXT_MAX + 1)?;
    let text = bytes.filter(|bytes| bytes.len() as u64 <= TEXT_MAX && !bytes.contains(&0));
    Ok(text.and_then(|bytes| String::from_utf8(bytes).ok()))
}

/// Carries out what [`examine`] has found.
///
/// # Errors
/// [`WorldError`]: the system refuses something; what was done stays until the caller takes it back.
pub fn carry_out(
    changes: &[Change],
    new: &Path,
    jail: &Path,
    profile: &Profile,
    context: &Context<'_>,
) -> Result<(), WorldError> {
    let phase = Phase::start(context, "merge", Some(changes.len() as u64));
    let mut writer = Writer::open(jail)?;
    for change in changes {
        context.cancel.check()?;
        match &change.what {
            What::Take => copy(&mut writer, new, jail, &change.path, &change.path)?,
            What::Merge(text) => write(&mut writer, jail, &change.path, text)?,
            What::Conflict => {
                let name = [change.path.name().as_encoded_bytes(), BESIDE.as_bytes()].concat();
                // Not where a link of the jail's leads away: that one is named and no more.
                let parent = change.path.parent();
                let there = match Dirs::open(jail)?.dir(&parent, false) {
                    Ok(_) | Err(DirError::Missing(_)) => true,
                    Err(DirError::Link(_) | DirError::File(_)) => false,
                    Err(DirError::Sys(error)) => return Err(error),
                };
                if let (true, Ok(beside)) = (there, parent.join(&name)) {
                    copy(&mut writer, new, jail, &change.path, &beside)?;
                }
            }
            What::Remove => {}
        }
        phase.advance(1);
    }
    writer.finish()?;
    renewed(changes, jail, profile)?;
    // The deepest first: a directory goes when nothing of the jail's is left in it.
    for change in changes.iter().rev().filter(|c| c.what == What::Remove) {
        remove(jail, &change.path)?;
    }
    Ok(())
}

/// Texts that a database is made from are newer than it, whatever time the release gave them: that is how
/// the jail's start sees that it has to be made again.
fn renewed(changes: &[Change], jail: &Path, profile: &Profile) -> Result<(), WorldError> {
    for database in &profile.database {
        let changed = |change: &&Change| {
            change.path == database.from && matches!(change.what, What::Take | What::Merge(_))
        };
        if changes.iter().any(|change| changed(&change)) {
            if let Some(file) = Dirs::open(jail)?.open_file(&database.from)? {
                let now = Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_NOW as _,
                };
                let times = Timestamps {
                    last_access: now,
                    last_modification: now,
                };
                let at = || database.from.under(jail);
                rustix::fs::futimens(&file, &times)
                    .map_err(|e| WorldError::io("set the time of", at(), e))?;
            }
        }
    }
    Ok(())
}

fn copy(
    writer: &mut Writer,
    new: &Path,
    jail: &Path,
    from: &RelPath,
    to: &RelPath,
) -> Result<(), WorldError> {
    let refused = |e: super::writer::WriteError| {
        e.of_entry(|problem| WorldError::io("write", to.under(jail), io::Error::other(problem)))
    };
    let mut dirs = Dirs::open(new)?;
    let Some(stat) = dirs.stat(from).map_err(|e| e.in_tree(new))? else {
        return Ok(());
    };
    let failed = |e: io::Error| WorldError::io("copy", from.under(new), e);
    match kind(&stat) {
        FileType::Directory => writer.dir(to, Meta::of(&stat)).map_err(refused),
        FileType::Symlink => {
            let parent = dirs.parent(from, false).map_err(|e| e.in_tree(new))?;
            let target = rustix::fs::readlinkat(parent, from.name(), Vec::new())
                .map(CString::into_bytes)
                .map_err(|e| failed(e.into()))?;
            writer
                .symlink(to, &target, &Meta::of(&stat))
                .map_err(refused)
        }
        FileType::RegularFile => {
            let Some(mut source) = dirs.open_file(from)? else {
                return Ok(());
            };
            let meta = Meta::of_file(&stat, &source).map_err(failed)?;
            let mut file = writer.create(to).map_err(refused)?;
            io::copy(&mut source, &mut file).map_err(failed)?;
            writer.close(to, &file, &meta)
        }
        _ => Ok(()),
    }
}

/// New content for a file of the jail, whose owner and mode stay.
fn write(writer: &mut Writer, jail: &Path, path: &RelPath, text: &[u8]) -> Result<(), WorldError> {
    let host = path.under(jail);
    let failed = |e: io::Error| WorldError::io("write", &host, e);
    let mut dirs = Dirs::open(jail)?;
    let stat = dirs.stat(path).map_err(|e| e.in_tree(jail))?;
    let (Some(stat), Some(old)) = (stat, dirs.open_file(path)?) else {
        return Err(failed(Errno::STALE.into()));
    };
    let meta = Meta::of_file(&stat, &old).map_err(failed)?;
    let refused = |e: super::writer::WriteError| {
        e.of_entry(|problem| WorldError::io("write", &host, io::Error::other(problem)))
    };
    let mut file = writer.create(path).map_err(refused)?;
    file.write_all(text).map_err(failed)?;
    writer.close(path, &file, &meta)
}

fn remove(jail: &Path, path: &RelPath) -> Result<(), WorldError> {
    let mut dirs = Dirs::open(jail)?;
    let is_directory = match dirs.stat(path) {
        Ok(Some(stat)) => kind(&stat) == FileType::Directory,
        Ok(None) | Err(DirError::Missing(_)) => return Ok(()),
        Err(other) => return Err(other.in_tree(jail)),
    };
    let flags = if is_directory {
        AtFlags::REMOVEDIR
    } else {
        AtFlags::empty()
    };
    let parent = dirs.parent(path, false).map_err(|e| e.in_tree(jail))?;
    match rustix::fs::unlinkat(parent, path.name(), flags) {
        Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
        Err(e) => Err(WorldError::io("remove", path.under(jail), e)),
    }
}
