//! Removes from a new world what must not be shared: what the profile's scrub list names, and device nodes.
//!
//! Directories and files keep their times, so that the same archive always gives the same manifest.
//! This module must not know what is on the list; the profile does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::dirs::Dirs;
use super::error::WorldError;
use super::meta::Meta;
use super::progress::{Context, Phase};
use super::walk::{Node, Visit, names, walk};
use crate::profile::{Profile, RelPath, ScrubAction};

/// What a scrub has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// The outermost paths that were removed.
    pub removed: Vec<RelPath>,
    /// Files that were truncated to nothing.
    pub truncated: Vec<RelPath>,
    /// Files that were reset to their default content.
    pub reset: Vec<RelPath>,
    /// The number of device nodes, fifos and sockets that were removed.
    pub devices: u64,
    /// The number of remaining files whose owner or group does not exist in a jail of the profile.
    pub owners: u64,
    /// The first of these files: path, owner and group.
    pub owned: Vec<(RelPath, u32, u32)>,
}

impl ScrubReport {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        *self == ScrubReport::default()
    }

    /// Checks that the owners of all files exist in jails.
    ///
    /// # Errors
    /// [`WorldError::Owners`].
    pub fn owners_known(&self, profile: &Profile) -> Result<(), WorldError> {
        let shown = |(path, uid, gid): &(RelPath, u32, u32)| format!("{path} ({uid}:{gid})");
        match profile.ids {
            Some(ids) if self.owners > 0 => Err(WorldError::Owners {
                count: self.owners,
                list: self.owned.iter().map(shown).collect(),
                most: ids.saturating_sub(1),
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn look_at_owner(&mut self, node: &Node<'_>, profile: &Profile) {
        let (uid, gid) = (node.stat.st_uid, node.stat.st_gid);
        if profile.ids.is_some_and(|ids| uid >= ids || gid >= ids) {
            self.owners += 1;
            if self.owned.len() < SHOWN {
                self.owned.push((node.path.clone(), uid, gid));
            }
        }
    }
}

/// The number of files with unknown owners that are named.
const SHOWN: usize = 3;

/// Applies the profile's scrub list to a world.
///
/// # Errors
/// A path is longer than the world's kernel accepts, or the system refuses an operation.
pub fn scrub(
    root: &Path,
    profile: &Profile,
    context: &Context<'_>,
) -> Result<ScrubReport, WorldError> {
    let _phase = Phase::start(context, "scrub", None);
    let mut report = ScrubReport::default();
    let mut touched: BTreeMap<RelPath, Meta> = BTreeMap::new();
    let mut dirs: BTreeMap<RelPath, Meta> = BTreeMap::new();
    let path_max = profile.os.path_max();
    walk(root, &context.cancel, &mut |node| {
        if node.path.as_bytes().len() > path_max {
            return Err(WorldError::PathTooLong {
                path: node.path.clone(),
                most: path_max,
                os: profile.os,
            });
        }
        if node.kind() == FileType::Directory {
            dirs.insert(node.path.clone(), Meta::of(node.stat));
        }
        let changed = apply(node, profile, &mut report)?;
        if changed != Changed::Removed {
            report.look_at_owner(node, profile);
        }
        if changed == Changed::Nothing {
            return Ok(Visit::Enter);
        }
        let dir = node.path.parent();
        if let Some(meta) = dirs.get(&dir) {
            touched.insert(dir, meta.clone());
        }
        if changed == Changed::Content && node.kind() == FileType::Directory {
            touched.insert(node.path.clone(), Meta::of(node.stat));
        }
        Ok(Visit::Skip)
    })?;
    let mut open = Dirs::open(root)?;
    for (path, meta) in touched.iter().rev() {
        let fd = open.dir(path, false).map_err(|e| e.in_tree(root))?;
        rustix::fs::futimens(fd, &meta.times())
            .map_err(|e| WorldError::io("set the time of", path.under(root), e))?;
    }
    Ok(report)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    Nothing,
    Content,
    Removed,
}

fn apply(
    node: &Node<'_>,
    profile: &Profile,
    report: &mut ScrubReport,
) -> Result<Changed, WorldError> {
    if node.path.is_root() {
        return Ok(Changed::Nothing);
    }
    let kind = node.kind();
    if !matches!(
        kind,
        FileType::RegularFile | FileType::Directory | FileType::Symlink
    ) {
        unlink(node)?;
        report.devices += 1;
        return Ok(Changed::Removed);
    }
    let Some(rule) = profile
        .scrub
        .iter()
        .find(|rule| rule.path.matches(node.path))
    else {
        return Ok(Changed::Nothing);
    };
    match (&rule.action, kind) {
        (ScrubAction::Remove, FileType::Directory) => {
            report.devices += empty(node)?;
            rustix::fs::unlinkat(node.parent, node.path.name(), AtFlags::REMOVEDIR)
                .map_err(|e| node.error("remove", e))?;
            report.removed.push(node.path.clone());
            Ok(Changed::Removed)
        }
        (ScrubAction::Remove, _) => {
            unlink(node)?;
            report.removed.push(node.path.clone());
            Ok(Changed::Removed)
        }
        (ScrubAction::Empty, FileType::Directory) => {
            let inside = names(node.open()?).map_err(|e| node.error("list", e))?;
            if inside.is_empty() {
                return Ok(Changed::Nothing);
            }
            report.devices += empty(node)?;
            for name in inside {
                report.removed.extend(node.path.join(name.as_bytes()).ok());
            }
            Ok(Changed::Content)
        }
        (ScrubAction::Truncate, FileType::RegularFile) => {
            if node.stat.st_size == 0 {
                return Ok(Changed::Nothing);
            }
            rewrite(node, b"")?;
            report.truncated.push(node.path.clone());
            Ok(Changed::Content)
        }
        (ScrubAction::Reset(content), FileType::RegularFile) => {
            if is(node, content.as_bytes())? {
                return Ok(Changed::Nothing);
            }
            rewrite(node, content.as_bytes())?;
            report.reset.push(node.path.clone());
            Ok(Changed::Content)
        }
        // Directories below `var/log/**` stay, and so do links to files that are truncated elsewhere.
        _ => Ok(Changed::Nothing),
    }
}

fn unlink(node: &Node<'_>) -> Result<(), WorldError> {
    rustix::fs::unlinkat(node.parent, node.path.name(), AtFlags::empty())
        .map_err(|e| node.error("remove", e))
}

/// Removes everything in a directory, and returns the number of device nodes. A mount below it is an error: nothing may
/// be mounted in a world that is being made.
fn empty(node: &Node<'_>) -> Result<u64, WorldError> {
    fn remove(dir: impl AsFd, node: &Node<'_>) -> Result<u64, WorldError> {
        let mut devices = 0;
        for name in names(&dir).map_err(|e| node.error("list", e))? {
            let stat = rustix::fs::statat(&dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| node.error("stat something in", e))?;
            let mut flags = AtFlags::empty();
            match super::dirs::kind(&stat) {
                FileType::Directory => {
                    let open =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let child = rustix::fs::openat(&dir, name.as_c_str(), open, Mode::empty())
                        .map_err(|e| node.error("open something in", e))?;
                    devices += remove(child, node)?;
                    flags = AtFlags::REMOVEDIR;
                }
                FileType::RegularFile | FileType::Symlink => {}
                _ => devices += 1,
            }
            rustix::fs::unlinkat(&dir, name.as_c_str(), flags)
                .map_err(|e| node.error("remove something in", e))?;
        }
        Ok(devices)
    }
    remove(node.open()?, node)
}

fn is(node: &Node<'_>, content: &[u8]) -> Result<bool, WorldError> {
    if node.stat.st_size as u64 != content.len() as u64 {
        return Ok(false);
    }
    let mut found = Vec::new();
    std::io::Read::read_to_end(&mut node.open()?, &mut found).map_err(|e| node.error("read", e))?;
    Ok(found == content)
}

/// Replaces a file by a new one with the same owner, mode, time and attributes. The old file is not written to, because
/// it may have other names.
pub(super) fn rewrite(node: &Node<'_>, content: &[u8]) -> Result<(), WorldError> {
    let meta = Meta::of_file(node.stat, &node.open()?)
        .map_err(|e| node.error("read the attributes of", e))?;
    unlink(node)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(
        node.parent,
        node.path.name(),
        flags,
        Mode::from_raw_mode(0o600),
    )
    .map_err(|e| node.error("write", e))?;
    let mut file = File::from(fd);
    file.write_all(content)
        .map_err(|e| node.error("write", e))?;
    meta.apply(&file, node.path, &|path| path.under(node.root))
}
