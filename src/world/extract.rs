//! Puts a world into an empty directory, from an archive or from another directory.
//!
//! This module must not know the format (`tarball`), nor how files are written safely (`writer`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use xattr::FileExt;

use super::acl::{self, Accounts};
use super::copy;
use super::dirs::Dirs;
use super::error::WorldError;
use super::header::BLOCK;
use super::input::{Digest, Input, Source};
use super::label;
use super::progress::{Context, Phase};
use super::tarball::{Entry, Kind, Tarball};
use super::writer::{WriteError, Writer, write_at};
use crate::profile::RelPath;

/// What was extracted, and what was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtractReport {
    /// The number of files, without further names of them.
    pub files: u64,
    /// The number of directories.
    pub dirs: u64,
    /// The number of symbolic links and further names of files.
    pub links: u64,
    /// The size of the files in bytes.
    pub bytes: u64,
    /// Devices, fifos and sockets that were left out.
    pub dropped_devices: u64,
    /// Files whose flags (`schg`) were left out.
    pub dropped_flags: u64,
    /// Extended attributes and lists that were left out because they belong to another system.
    pub dropped_attributes: u64,
    /// Directories of the source that were other file systems, and were copied empty.
    pub skipped_mounts: u64,
    /// The digest of the input; `None` for a directory.
    pub sha256: Option<Digest>,
    /// The size of the input in bytes; 0 for a directory.
    pub input_bytes: u64,
}

/// The bounds within which a world is extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most bytes that the world may unpack to, counted by the sizes of its files and their headers.
    pub most: u64,
    /// Whether the input is known to be a world. If it is not, a profile must recognise what the first [`SO_FAR`] bytes
    /// unpacked to.
    pub known: bool,
}

impl Bounds {
    /// Returns bounds that accept every world.
    pub fn none() -> Bounds {
        Bounds {
            most: u64::MAX,
            known: true,
        }
    }
}

/// The amount that is unpacked of an input that may not be a world.
pub const SO_FAR: u64 = 4 << 30;

/// A world that can be extracted: its source exists, and does not look like something else.
#[derive(Debug)]
pub struct Opened(Inner);

#[derive(Debug)]
enum Inner {
    Dir(PathBuf),
    Archive {
        input: Box<Input>,
        expected: Option<Digest>,
    },
}

/// Opens a source and examines its beginning. Nothing is created.
///
/// # Errors
/// The source cannot be read, or is neither an archive nor a world in a directory; a digest is given for a directory.
pub fn open(
    source: Source,
    expected: Option<Digest>,
    context: &Context<'_>,
) -> Result<Opened, WorldError> {
    match source {
        Source::Dir(path) if expected.is_some() => Err(WorldError::DigestOfDirectory { path }),
        Source::Dir(path) => Ok(Opened(Inner::Dir(path))),
        Source::File(_) | Source::Stdin(_) => {
            let input = Box::new(Input::open(source, &context.cancel)?);
            Ok(Opened(Inner::Archive { input, expected }))
        }
    }
}

/// Extracts a world into `root`, which exists and is empty, without bounds.
///
/// # Errors
/// Those of [`open`] and [`Opened::extract`].
pub fn extract(
    source: Source,
    root: &Path,
    expected: Option<Digest>,
    context: &Context<'_>,
) -> Result<ExtractReport, WorldError> {
    open(source, expected, context)?.extract(root, Bounds::none(), context)
}

impl Opened {
    /// Extracts the world into `root`, which exists and is empty.
    ///
    /// Numeric owners, modes, times, hard links, extended attributes and POSIX ACLs are kept. Devices, fifos and
    /// sockets are dropped and counted. So are file flags: `schg` would make the tree unremovable, and the read-only
    /// dataset protects better (freebsd-src `bsd.lib.mk`, PRECIOUSLIB). On an error the root holds part of a world,
    /// which the caller discards.
    ///
    /// # Errors
    /// The source cannot be read, is truncated or damaged, exceeds its bounds, or has another SHA-256 than the expected
    /// one; an entry would leave the root; the system refuses an operation.
    pub fn extract(
        self,
        root: &Path,
        bounds: Bounds,
        context: &Context<'_>,
    ) -> Result<ExtractReport, WorldError> {
        let (mut input, expected) = match self.0 {
            Inner::Dir(path) => return copy::copy_tree(&path, root, bounds, context),
            Inner::Archive { input, expected } => (*input, expected),
        };
        let phase = Phase::start(context, "extract", input.length);
        let whole = input.compressed || expected.is_some();
        let size = Size::new(bounds, &input.origin);
        let taken = unpack(&mut input, root, whole, size, context, &phase);
        let digest = match taken {
            // If an archive is damaged or hostile, its digest shows whether it is the intended one. If the work was
            // stopped or the disk is full, the digest does not matter.
            Err(ref e) if expected.is_some() && is_of_the_archive(e) => input.digest(),
            Err(e) => return Err(e),
            Ok(_) => input.digest(),
        };
        if let (Some(expected), Ok((found, _))) = (expected, &digest) {
            if expected != *found {
                return Err(WorldError::Digest {
                    origin: input.origin,
                    expected: expected.to_string(),
                    found: found.to_string(),
                });
            }
        }
        let mut report = taken?;
        let (sha256, input_bytes) = digest?;
        input.meter.tell(&phase);
        report.sha256 = Some(sha256);
        report.input_bytes = input_bytes;
        Ok(report)
    }
}

/// The size of a world so far.
#[derive(Debug)]
pub(super) struct Size {
    bounds: Bounds,
    origin: String,
    bytes: u64,
}

impl Size {
    pub(super) fn new(bounds: Bounds, origin: &str) -> Size {
        Size {
            bounds,
            origin: origin.to_owned(),
            bytes: 0,
        }
    }

    /// Adds an entry before it is written; an entry without content counts, too.
    pub(super) fn add(&mut self, root: &Path, bytes: u64) -> Result<(), WorldError> {
        self.bytes = self
            .bytes
            .saturating_add(bytes)
            .saturating_add(BLOCK as u64);
        if self.bytes > self.bounds.most {
            return Err(WorldError::TooLarge {
                origin: self.origin.clone(),
                most: self.bounds.most,
            });
        }
        if self.bytes > SO_FAR && !self.bounds.known {
            label::detect(root).map_err(|error| match error {
                WorldError::Unknown { known, found: None } => WorldError::NotSoFar {
                    origin: self.origin.clone(),
                    known,
                    looked: format!("{} GiB", SO_FAR >> 30),
                },
                other => other,
            })?;
            self.bounds.known = true;
        }
        Ok(())
    }
}

fn is_of_the_archive(error: &WorldError) -> bool {
    matches!(
        error,
        WorldError::Trailing {
            layer: "archive",
            ..
        } | WorldError::Malformed { .. }
            | WorldError::Entry { .. }
    )
}

fn unpack(
    input: &mut Input,
    root: &Path,
    whole: bool,
    size: Size,
    context: &Context<'_>,
    phase: &Phase<'_>,
) -> Result<ExtractReport, WorldError> {
    let Input {
        chunks,
        origin,
        meter,
        ..
    } = input;
    let mut unpacking = Unpacking {
        tarball: Tarball::new(chunks, origin, whole),
        writer: Writer::open(root)?,
        root,
        dropped: BTreeSet::new(),
        named: BTreeMap::new(),
        size,
        report: ExtractReport::default(),
    };
    loop {
        context.cancel.check()?;
        meter.tell(phase);
        let Some(entry) = unpacking.tarball.next()? else {
            break;
        };
        unpacking.entry(entry, &mut || {
            meter.tell(phase);
            context.cancel.check()
        })?;
    }
    unpacking.writer.finish()?;
    set_named(root, &unpacking.named)?;
    Ok(unpacking.report)
}

/// For each path, the offset of the entry and its lists: the attribute and the text.
type Named = BTreeMap<RelPath, (u64, Vec<(&'static str, Vec<u8>)>)>;

/// Sets access control lists with names, after the world's account files were extracted. This is done after modes and
/// times: setting a list does not change the time, and the mode does not affect the list.
fn set_named(root: &Path, named: &Named) -> Result<(), WorldError> {
    if named.is_empty() {
        return Ok(());
    }
    let mut dirs = Dirs::open(root)?;
    let accounts = Accounts::read(&mut dirs)?;
    for (path, (offset, lists)) in named {
        for (attribute, text) in lists {
            let value = acl::from_text(text, &accounts).map_err(|source| WorldError::Entry {
                name: path.to_string(),
                offset: *offset,
                source,
            })?;
            let Some(value) = value else { continue };
            let file = dirs.open_file(path)?.ok_or_else(|| {
                WorldError::io("open", path.under(root), rustix::io::Errno::NOENT)
            })?;
            file.set_xattr(attribute, &value)
                .map_err(|source| WorldError::Attribute {
                    attribute: (*attribute).to_owned(),
                    path: path.clone(),
                    source,
                })?;
        }
    }
    Ok(())
}

struct Unpacking<'a> {
    tarball: Tarball<'a>,
    writer: Writer,
    root: &'a Path,
    dropped: BTreeSet<RelPath>,
    named: Named,
    size: Size,
    report: ExtractReport,
}

impl Unpacking<'_> {
    fn entry(
        &mut self,
        mut entry: Entry,
        tick: &mut dyn FnMut() -> Result<(), WorldError>,
    ) -> Result<(), WorldError> {
        let stored = match entry.kind {
            Kind::File => entry.size,
            _ => 0,
        };
        self.size.add(self.root, stored)?;
        self.resolve(&mut entry)?;
        self.report.dropped_flags += u64::from(entry.flags);
        self.report.dropped_attributes += entry.dropped_attributes;
        let path = &entry.path;
        // A later entry of the same name is another file.
        self.named.remove(path);
        if matches!(entry.kind, Kind::File | Kind::Dir) && !entry.named_acls.is_empty() {
            let lists = entry.named_acls.clone();
            self.named
                .insert(path.clone(), (self.tarball.offset(), lists));
        }
        let made = match &entry.kind {
            Kind::File => return self.file(&entry, tick),
            Kind::Dir => {
                self.report.dirs += 1;
                self.writer.dir(path, entry.meta)
            }
            Kind::Symlink(target) => {
                self.report.links += 1;
                self.writer.symlink(path, target, &entry.meta)
            }
            // A further name of a dropped file is dropped, too.
            Kind::HardLink(target) if self.dropped.contains(target) => {
                self.dropped.insert(path.clone());
                Ok(())
            }
            Kind::HardLink(target) => {
                self.report.links += 1;
                self.writer.hard_link(path, target)
            }
            Kind::Special(_) => {
                self.report.dropped_devices += 1;
                self.dropped.insert(path.clone());
                Ok(())
            }
        };
        made.map_err(|e| e.of_entry(|problem| self.tarball.entry(problem)))
    }

    /// Resolves names through links of the world to the directories that contain them, as tar(1) does: an archive of a
    /// world with merged /usr may have bin/sh.
    fn resolve(&mut self, entry: &mut Entry) -> Result<(), WorldError> {
        let failed = |e: WriteError| e.of_entry(|problem| self.tarball.entry(problem));
        entry.path = self.writer.resolve(&entry.path).map_err(failed)?;
        if let Kind::HardLink(target) = &mut entry.kind {
            *target = self.writer.resolve(target).map_err(failed)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        tick: &mut dyn FnMut() -> Result<(), WorldError>,
    ) -> Result<(), WorldError> {
        let path = &entry.path;
        let host = || path.under(self.root);
        let mut file = self
            .writer
            .create(path)
            .map_err(|e| e.of_entry(|problem| self.tarball.entry(problem)))?;
        for (offset, length) in &entry.pieces {
            let (mut at, end) = (*offset, offset + length);
            while at < end {
                let data = self.tarball.data()?;
                let n = data
                    .len()
                    .min(usize::try_from(end - at).unwrap_or(usize::MAX));
                write_at(&mut file, at, &data[..n])
                    .map_err(|e| WorldError::io("write", host(), e))?;
                self.tarball.consume(n);
                at += n as u64;
                if at < end {
                    tick()?;
                }
            }
        }
        // The end of the file may be a hole.
        file.set_len(entry.size)
            .map_err(|e| WorldError::io("write", host(), e))?;
        self.writer.close(path, &file, &entry.meta)?;
        self.report.files += 1;
        self.report.bytes += entry.size;
        Ok(())
    }
}
