//! The skeleton: the files of a world that each jail owns, and relative links to the shared ones.
//!
//! Relative links work both from inside a jail and from the host. A private link that leads through a shared directory
//! needs no change, because the kernel follows the skeleton's own link.
//! This module must not know which directories are shared; the profile does.

use std::path::Path;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::copy::{Copier, in_copy};
use super::dirs::Dirs;
use super::error::WorldError;
use super::meta::Meta;
use super::progress::{Context, Phase};
use super::walk::{Visit, walk};
use crate::profile::{Profile, RelPath};

/// The mount point of the base in a jail.
const BASEJAIL: &str = "basejail";

/// What a skeleton contains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SkeletonReport {
    /// The shared directories of the world, each of which is a link in the skeleton.
    pub shared: Vec<RelPath>,
    /// The number of files.
    pub files: u64,
    /// The number of directories.
    pub dirs: u64,
    /// The number of symbolic links and of further names of files, without the links to the base.
    pub links: u64,
    /// The size of the files in bytes.
    pub bytes: u64,
    /// The number of files that have other names in the shared part: each of them is two files now.
    pub broken_links: u64,
}

/// Creates the skeleton of a scrubbed base in an empty directory.
///
/// # Errors
/// The world has a `/basejail` of its own, or the system refuses an operation.
pub fn make_skeleton(
    base: &Path,
    skeleton: &Path,
    profile: &Profile,
    context: &Context<'_>,
) -> Result<SkeletonReport, WorldError> {
    let phase = Phase::start(context, "skeleton", None);
    let basejail = RelPath::parse(BASEJAIL.as_bytes()).unwrap_or_default();
    let manifest = RelPath::parse(super::manifest::DIR.as_bytes()).unwrap_or_default();
    let mut shared = Vec::new();
    let mut copier = Copier::new(skeleton)?;
    walk(base, &context.cancel, &mut |node| {
        if *node.path == basejail {
            return Err(WorldError::Occupied {
                path: basejail.clone(),
            });
        }
        if *node.path == manifest {
            return Ok(Visit::Skip);
        }
        if node.kind() == FileType::Directory && profile.shared.contains(node.path) {
            let meta = Meta {
                attributes: Vec::new(),
                ..Meta::of(node.stat)
            };
            copier
                .writer
                .symlink(node.path, &link_to_base(node.path), &meta)
                .map_err(|e| in_copy(e, node))?;
            shared.push(node.path.clone());
            return Ok(Visit::Skip);
        }
        copier.copy(node, context)?;
        phase.advance(1);
        Ok(Visit::Enter)
    })?;
    let broken_links = copier.broken_links();
    let Copier { writer, report, .. } = copier;
    let mut dirs = Dirs::open(skeleton)?;
    for path in std::iter::once(&basejail).chain(&profile.mount_points) {
        mount_point(&mut dirs, path)?;
    }
    writer.finish()?;
    Ok(SkeletonReport {
        shared,
        files: report.files,
        dirs: report.dirs,
        links: report.links,
        bytes: report.bytes,
        broken_links,
    })
}

/// Returns the target of the link to a shared directory: `usr/bin` → `../basejail/usr/bin`.
fn link_to_base(path: &RelPath) -> Vec<u8> {
    let mut target = b"../".repeat(path.depth() - 1);
    target.extend_from_slice(BASEJAIL.as_bytes());
    target.push(b'/');
    target.extend_from_slice(path.as_bytes());
    target
}

/// Creates a directory to mount on. A link is refused: jail(8) follows no link below a jail's path, and an OCI runtime
/// should not.
fn mount_point(dirs: &mut Dirs, path: &RelPath) -> Result<(), WorldError> {
    let root = dirs.root().to_path_buf();
    match dirs.dir(path, false) {
        Ok(_) => return Ok(()),
        Err(super::dirs::DirError::Missing(_)) => {}
        Err(e) => return Err(e.in_tree(&root)),
    }
    let parent = dirs.parent(path, true).map_err(|e| e.in_tree(&root))?;
    let mode = if path.name() == "tmp" { 0o1777 } else { 0o755 };
    match rustix::fs::mkdirat(parent, path.name(), Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(WorldError::io("make the directory", path.under(&root), e)),
    }
    // mkdir(2) would apply the umask.
    let fd = dirs.dir(path, false).map_err(|e| e.in_tree(&root))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))
        .map_err(|e| WorldError::io("set the mode of", path.under(&root), e))
}

#[cfg(test)]
mod tests {
    use super::{RelPath, link_to_base};

    #[test]
    fn links_are_relative() -> Result<(), crate::profile::RelPathError> {
        for (path, target) in [
            ("bin", "basejail/bin"),
            ("usr/bin", "../basejail/usr/bin"),
            ("var/lib/dpkg", "../../basejail/var/lib/dpkg"),
        ] {
            assert_eq!(link_to_base(&path.parse::<RelPath>()?), target.as_bytes());
        }
        Ok(())
    }
}
