//! The skeleton: what each jail owns of a world, and relative links to what it shares.
//!
//! Relative links are right from inside a jail and from the host. A private link that leads through
//! a shared directory needs no change: the kernel goes through the skeleton's own link.
//! Must not be here: what is shared; that is the profile.

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

/// What a skeleton has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SkeletonReport {
    /// Shared directories that the world has, each a link in the skeleton.
    pub shared: Vec<RelPath>,
    /// Files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symbolic links and further names of files, without those to the base.
    pub links: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Files that have other names in the shared part: those are two files now.
    pub broken_links: u64,
}

/// Makes the skeleton of a scrubbed base in an empty directory.
///
/// # Errors
/// A world that has `/basejail` itself, or whatever the system refuses.
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

/// `usr/bin` → `../basejail/usr/bin`.
fn link_to_base(path: &RelPath) -> Vec<u8> {
    let mut target = b"../".repeat(path.depth() - 1);
    target.extend_from_slice(BASEJAIL.as_bytes());
    target.push(b'/');
    target.extend_from_slice(path.as_bytes());
    target
}

/// A directory to mount on. A link is refused: jail(8) follows none below a jail's path, and an OCI
/// runtime should not.
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
    // Not by mkdir: the umask would count.
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
