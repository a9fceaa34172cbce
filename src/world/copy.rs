//! Copies a world from a directory, with the same guarantees as for an archive, through the same writer. The private
//! part that becomes a skeleton is copied in the same way.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rustix::fs::FileType;

use super::dirs::{Dirs, kind, wide};
use super::error::{EntryError, WorldError};
use super::extract::{Bounds, ExtractReport, Size};
use super::meta::Meta;
use super::progress::{Context, Phase};
use super::walk::{Node, Visit, walk};
use super::writer::{WriteError, Writer, write_at};
use crate::profile::RelPath;

/// Copies one tree into another file by file.
pub(super) struct Copier {
    pub(super) writer: Writer,
    pub(super) report: ExtractReport,
    /// The first copied name of each file that has several names, and how many of them were copied.
    names: BTreeMap<(u64, u64), (RelPath, u64, u64)>,
    buffer: Vec<u8>,
}

impl Copier {
    pub(super) fn new(root: &Path) -> Result<Copier, WorldError> {
        Ok(Copier {
            writer: Writer::open(root)?,
            report: ExtractReport::default(),
            names: BTreeMap::new(),
            buffer: vec![0; 1 << 20],
        })
    }

    /// Copies the visited file, without the files below it.
    pub(super) fn copy(
        &mut self,
        node: &Node<'_>,
        context: &Context<'_>,
    ) -> Result<(), WorldError> {
        let made = match node.kind() {
            FileType::RegularFile => return self.file(node, context),
            FileType::Directory => {
                let meta = Meta::of_file(node.stat, &node.open()?);
                let meta = meta.map_err(|e| node.error("read the attributes of", e))?;
                self.report.dirs += 1;
                self.report.skipped_mounts += u64::from(node.is_mount);
                self.writer.dir(node.path, meta)
            }
            FileType::Symlink => {
                self.report.links += 1;
                let target = node.link_target()?;
                self.writer
                    .symlink(node.path, &target, &Meta::of(node.stat))
            }
            _ => {
                self.report.dropped_devices += 1;
                Ok(())
            }
        };
        made.map_err(|e| in_copy(e, node))
    }

    fn file(&mut self, node: &Node<'_>, context: &Context<'_>) -> Result<(), WorldError> {
        let id = (wide(node.stat.st_dev), wide(node.stat.st_ino));
        if node.stat.st_nlink > 1 {
            if let Some((first, copied, _)) = self.names.get_mut(&id) {
                *copied += 1;
                self.report.links += 1;
                return self
                    .writer
                    .hard_link(node.path, first)
                    .map_err(|e| in_copy(e, node));
            }
            let links = wide(node.stat.st_nlink);
            self.names.insert(id, (node.path.clone(), 1, links));
        }
        let mut source = node.open()?;
        let meta = Meta::of_file(node.stat, &source);
        let meta = meta.map_err(|e| node.error("read the attributes of", e))?;
        let mut file = self
            .writer
            .create(node.path)
            .map_err(|e| in_copy(e, node))?;
        let mut at = 0;
        loop {
            let n = match io::Read::read(&mut source, &mut self.buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(node.error("read", e)),
            };
            write_at(&mut file, at, &self.buffer[..n])
                .map_err(|e| node.error("write the copy of", e))?;
            at += n as u64;
            context.cancel.check()?;
        }
        file.set_len(at)
            .map_err(|e| node.error("write the copy of", e))?;
        self.writer.close(node.path, &file, &meta)?;
        self.report.files += 1;
        self.report.bytes += at;
        Ok(())
    }

    /// Returns the number of files some of whose names were not copied, so that they became separate files.
    pub(super) fn broken_links(&self) -> u64 {
        self.names
            .values()
            .filter(|(_, copied, links)| copied < links)
            .count() as u64
    }
}

/// Converts an error of the writer to an error about the source tree.
pub(super) fn in_copy(error: WriteError, node: &Node<'_>) -> WorldError {
    error.of_entry(|problem: EntryError| node.error("copy", io::Error::other(problem)))
}

/// Copies a whole tree into an empty directory.
pub(super) fn copy_tree(
    from: &Path,
    to: &Path,
    bounds: Bounds,
    context: &Context<'_>,
) -> Result<ExtractReport, WorldError> {
    let phase = Phase::start(context, "copy", None);
    let mut copier = Copier::new(to)?;
    let mut size = Size::new(bounds, &from.display().to_string());
    walk(from, &context.cancel, &mut |node| {
        let bytes = match node.kind() {
            FileType::RegularFile => node.stat.st_size as u64,
            _ => 0,
        };
        size.add(to, bytes)?;
        let before = copier.report.bytes;
        copier.copy(node, context)?;
        phase.advance(copier.report.bytes - before);
        Ok(Visit::Enter)
    })?;
    let Copier { writer, report, .. } = copier;
    writer.finish()?;
    Ok(report)
}

/// Copies a tree over another that has never been used. Files are added or replaced, and existing directories keep
/// their owner and mode. No link of either tree is followed.
///
/// # Errors
/// A [`WorldError`]; a file below a link, such as a link of a jail into its basejail, is also an error.
pub fn lay_over(from: &Path, to: &Path) -> Result<(), WorldError> {
    let context = Context::quiet();
    let mut copier = Copier::new(to)?;
    let mut there = Dirs::open(to)?;
    walk(from, &context.cancel, &mut |node| {
        let found = there.stat(node.path);
        let found = found.map_err(|e| in_copy(e.into(), node))?;
        match (node.kind(), found.map(|stat| kind(&stat))) {
            (FileType::Directory, Some(FileType::Directory)) => {}
            // The files below the link do not belong to the jail, and would be missing in it without the link.
            (FileType::Directory, Some(FileType::Symlink)) => {
                let through = EntryError::ThroughLink(node.path.clone());
                return Err(in_copy(through.into(), node));
            }
            _ => copier.copy(node, &context)?,
        }
        Ok(Visit::Enter)
    })?;
    copier.writer.finish()
}
