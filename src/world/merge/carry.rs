//! Doing what was found out to a jail's files.
//! Must not be here: what is to be done.

use std::ffi::CString;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use super::super::dirs::{DirError, Dirs, kind};
use super::super::error::WorldError;
use super::super::meta::Meta;
use super::super::numbers::{Owners, Side};
use super::super::progress::{Context, Phase};
use super::super::writer::{WriteError, Writer};
use super::{Change, Examined, What};
use crate::profile::RelPath;

/// Carries out what [`super::examine`] or [`super::examine_undo`] has found. What is taken comes from `new`: the new
/// skeleton, or the jail as it was before the merge.
///
/// # Errors
/// [`WorldError`]: the system refuses something; what was done stays until the caller takes it back.
pub fn carry_out(
    examined: &Examined,
    new: &Path,
    jail: &Path,
    context: &Context<'_>,
) -> Result<(), WorldError> {
    let (changes, owners) = (&examined.changes, &examined.owners);
    let phase = Phase::start(context, "merge", Some(changes.len() as u64));
    let mut writer = Writer::open(jail)?;
    for change in changes {
        context.cancel.check()?;
        match &change.what {
            What::Take => {
                make_room(changes, jail, &change.path, new)?;
                copy(&mut writer, (new, owners), jail, &change.path, &change.path)?;
            }
            What::Merge(text) => write(&mut writer, jail, &change.path, text)?,
            What::Conflict(_) => {
                for (from, to) in &change.beside {
                    copy(&mut writer, (new, owners), jail, from, to)?;
                }
            }
            What::Remove | What::Left(_) => {}
        }
        phase.advance(1);
    }
    writer.finish()?;
    renew(&examined.renewed, jail)?;
    // The deepest first: a directory goes when nothing of the jail's is left in it.
    for change in changes.iter().rev().filter(|c| c.what == What::Remove) {
        remove(jail, &change.path)?;
    }
    Ok(())
}

/// Removes a directory of the jail that the release has made something else, and what was in it.
fn make_room(
    changes: &[Change],
    jail: &Path,
    path: &RelPath,
    new: &Path,
) -> Result<(), WorldError> {
    let is_directory = |root: &Path| -> Result<bool, WorldError> {
        let stat = Dirs::open(root)?.stat(path).map_err(|e| e.in_tree(root))?;
        Ok(stat.is_some_and(|stat| kind(&stat) == FileType::Directory))
    };
    if !is_directory(jail)? || is_directory(new)? {
        return Ok(());
    }
    let within = changes
        .iter()
        .rev()
        .filter(|change| change.what == What::Remove && change.path.is_within(path));
    for change in within {
        remove(jail, &change.path)?;
    }
    let mut dirs = Dirs::open(jail)?;
    let parent = dirs.parent(path, false).map_err(|e| e.in_tree(jail))?;
    rustix::fs::unlinkat(parent, path.name(), AtFlags::REMOVEDIR)
        .map_err(|e| WorldError::io("remove", path.under(jail), e))
}

/// Texts that a database is made from are newer than it, whatever time the release gave them: that is how
/// the jail's start sees that it has to be made again.
fn renew(texts: &[RelPath], jail: &Path) -> Result<(), WorldError> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW as _,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    for text in texts {
        if let Some(file) = Dirs::open(jail)?.open_file(text)? {
            rustix::fs::futimens(&file, &times)
                .map_err(|e| WorldError::io("set the time of", text.under(jail), e))?;
        }
    }
    Ok(())
}

fn copy(
    writer: &mut Writer,
    (new, owners): (&Path, &Owners),
    jail: &Path,
    from: &RelPath,
    to: &RelPath,
) -> Result<(), WorldError> {
    let refused = |e: WriteError| {
        e.of_entry(|problem| WorldError::io("write", to.under(jail), io::Error::other(problem)))
    };
    let mut dirs = Dirs::open(new)?;
    let Some(stat) = dirs.stat(from).map_err(|e| e.in_tree(new))? else {
        return Ok(());
    };
    let failed = |e: io::Error| WorldError::io("copy", from.under(new), e);
    let own = |meta: &Meta| owners.owner_in_jail(Side::New, meta);
    match kind(&stat) {
        FileType::Directory => {
            let Some(source) = dirs.open_file(from)? else {
                return Ok(());
            };
            let meta = own(&Meta::of_file(&stat, &source).map_err(failed)?);
            writer.dir(to, meta).map_err(refused)
        }
        FileType::Symlink => {
            let parent = dirs.parent(from, false).map_err(|e| e.in_tree(new))?;
            let target = rustix::fs::readlinkat(parent, from.name(), Vec::new())
                .map(CString::into_bytes)
                .map_err(|e| failed(e.into()))?;
            writer
                .symlink(to, &target, &own(&Meta::of(&stat)))
                .map_err(refused)
        }
        FileType::RegularFile => {
            let Some(mut source) = dirs.open_file(from)? else {
                return Ok(());
            };
            let meta = own(&Meta::of_file(&stat, &source).map_err(failed)?);
            let mut file = writer.create(to).map_err(refused)?;
            io::copy(&mut source, &mut file).map_err(failed)?;
            meta.strip(&file, to)?;
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
    let refused = |e: WriteError| {
        e.of_entry(|problem| WorldError::io("write", &host, io::Error::other(problem)))
    };
    let mut file = writer.create(path).map_err(refused)?;
    file.write_all(text).map_err(failed)?;
    meta.strip(&file, path)?;
    writer.close(path, &file, &meta)
}

fn remove(jail: &Path, path: &RelPath) -> Result<(), WorldError> {
    let mut dirs = Dirs::open(jail)?;
    let is_directory = match dirs.stat(path) {
        Ok(Some(stat)) => kind(&stat) == FileType::Directory,
        // With a directory that became something else it went before.
        Ok(None) | Err(DirError::Missing(_) | DirError::Link(_) | DirError::File(_)) => {
            return Ok(());
        }
        Err(DirError::Sys(error)) => return Err(error),
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
