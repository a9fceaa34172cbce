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
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use super::dirs::{DirError, Dirs, kind};
use super::error::WorldError;
use super::input::Digest;
use super::meta::Meta;
use super::progress::{Cancel, Context, Phase};
use super::text::{Answer, By, Request, TEXT_MAX, Texts};
use super::walk::{Node, Visit, walk};
use super::writer::Writer;
use crate::profile::{Profile, RelPath};

/// What the release's version of a conflict is called: the name and this.
pub const BESIDE: &str = ".ezz-new";

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
    Conflict(Reason),
}

/// Why the versions of a file are in conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Both have changed the same part of it, or it is no text.
    BothChanged,
    /// It is too long, or the versions are too different, to be compared line by line.
    TooDifferent,
    /// The process that compares texts ended, or exceeded its time.
    NoAnswer,
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
        let (word, why) = match self.what {
            What::Take => ("take", ""),
            What::Remove => ("remove", ""),
            What::Merge(_) => ("merge", ""),
            What::Conflict(Reason::BothChanged) => ("CONFLICT", ""),
            What::Conflict(Reason::TooDifferent) => {
                ("CONFLICT", " (too long or too different to compare)")
            }
            What::Conflict(Reason::NoAnswer) => ("CONFLICT", " (the comparison did not end)"),
        };
        write!(f, "{word} {}{why}", self.path)
    }
}

/// A file as far as a merge minds it: times do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// With its size and the digest of its content; without a digest it is no file of a skeleton.
    File(Meta, u64, Option<Digest>),
    Link(Vec<u8>),
    Directory(Meta),
    Other,
}

impl State {
    /// What a file is. The content of one is read only where its size is `of_interest`: a jail can make a
    /// file as large as it likes, and what has another size than the skeletons' files differs from them.
    fn of(
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
            FileType::Directory => State::Directory(plain(Meta::of(node.stat))),
            _ => State::Other,
        })
    }

    fn size(&self) -> Option<u64> {
        match self {
            State::File(_, size, _) => Some(*size),
            State::Link(_) | State::Directory(_) | State::Other => None,
        }
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
            let state = State::of(node, |_| true, &context.cancel)?;
            found.insert(node.path.clone(), state);
        }
        Ok(Visit::Enter)
    })?;
    Ok(found)
}

/// Whose files are compared.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// The skeleton that the jail's files come from.
    pub old: &'a Path,
    /// The skeleton that they are brought to.
    pub new: &'a Path,
    /// The jail.
    pub jail: &'a Path,
}

/// Whether the changes come with the lines that change, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patches {
    /// They do.
    Made,
    /// They do not; it is work that nothing depends on.
    Left,
}

/// Finds out what has to happen to a jail's files, and changes nothing.
///
/// # Errors
/// [`WorldError`]: a tree cannot be read; interrupted.
pub fn examine(
    sides: Sides<'_>,
    profile: &Profile,
    texts: &mut dyn Texts,
    patches: Patches,
    context: &Context<'_>,
) -> Result<Vec<Change>, WorldError> {
    let Sides { old, new, jail } = sides;
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
    let mut ask = |request: Request<'_>| texts.answer(&request, &context.cancel);
    let mut changes = Vec::new();
    for path in changed {
        context.cancel.check()?;
        let (was, is) = (before.get(path), after.get(path));
        let own = one(jail, path, [was, is], &context.cancel)?;
        phase.advance(1);
        if own.as_ref() == is {
            continue;
        }
        let what = match (is, own.as_ref() == was) {
            (Some(_), true) => What::Take,
            (None, true) => What::Remove,
            // What the release has dropped, and the jail has made its own, is the jail's.
            (None, false) => continue,
            (Some(is), false) => merged(sides, profile, path, (was, is, own.as_ref()), &mut ask)?,
        };
        let diff = match (&what, patches) {
            (What::Remove, _) | (_, Patches::Left) => None,
            (What::Merge(text), Patches::Made) => patch(
                text_of(jail, path)?,
                Some(String::from_utf8_lossy(text).into_owned()),
                &mut ask,
            )?,
            (What::Take | What::Conflict(_), Patches::Made) => {
                patch(text_of(jail, path)?, text_of(new, path)?, &mut ask)?
            }
        };
        let path = path.clone();
        changes.push(Change { path, what, diff });
    }
    Ok(changes)
}

/// What a jail has at a path; nothing also where a link of the jail's leads away above it.
fn one(
    jail: &Path,
    path: &RelPath,
    like: [Option<&State>; 2],
    cancel: &Cancel,
) -> Result<Option<State>, WorldError> {
    let mut dirs = Dirs::open(jail)?;
    let stat = match dirs.stat(path) {
        Ok(Some(stat)) => stat,
        Ok(None) | Err(DirError::Missing(_)) => return Ok(None),
        Err(DirError::Link(_) | DirError::File(_)) => return Ok(Some(State::Other)),
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

/// Asks who compares texts.
type Ask<'a> = dyn FnMut(Request<'_>) -> Result<Answer, WorldError> + 'a;

/// The three versions merged line by line or name by name, if they are texts and it can be done.
fn merged(
    sides: Sides<'_>,
    profile: &Profile,
    path: &RelPath,
    (was, is, own): (Option<&State>, &State, Option<&State>),
    ask: &mut Ask<'_>,
) -> Result<What, WorldError> {
    let conflict = |reason| Ok(What::Conflict(reason));
    let (Some(State::File(..)), State::File(..), Some(State::File(_, size, _))) = (was, is, own)
    else {
        return conflict(Reason::BothChanged);
    };
    if *size > TEXT_MAX {
        return conflict(Reason::TooDifferent);
    }
    let (Some(base), Some(ours), Some(theirs)) = (
        text_of(sides.old, path)?,
        text_of(sides.jail, path)?,
        text_of(sides.new, path)?,
    ) else {
        return conflict(Reason::BothChanged);
    };
    let by = if profile.merge.numbered.contains(path) {
        By::Account
    } else if profile.merge.keyed.contains(path) {
        By::Name
    } else {
        By::Line
    };
    let answer = ask(Request::Merge {
        by,
        base: &base,
        ours: &ours,
        theirs: &theirs,
    })?;
    Ok(match answer {
        Answer::Text(text) => What::Merge(text.into_bytes()),
        Answer::Conflict => What::Conflict(Reason::BothChanged),
        Answer::TooDifferent => What::Conflict(Reason::TooDifferent),
        Answer::NoAnswer => What::Conflict(Reason::NoAnswer),
    })
}

/// How the lines of one text become another's, where there are both.
fn patch(
    old: Option<String>,
    new: Option<String>,
    ask: &mut Ask<'_>,
) -> Result<Option<String>, WorldError> {
    let (Some(old), Some(new)) = (old, new) else {
        return Ok(None);
    };
    if old == new {
        return Ok(None);
    }
    let (old, new) = (old.as_str(), new.as_str());
    Ok(match ask(Request::Patch { old, new })? {
        Answer::Text(text) => Some(text),
        Answer::Conflict | Answer::TooDifferent | Answer::NoAnswer => None,
    })
}

/// A regular file that is a text and not too long.
fn text_of(root: &Path, path: &RelPath) -> Result<Option<String>, WorldError> {
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
            What::Conflict(_) => {
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
