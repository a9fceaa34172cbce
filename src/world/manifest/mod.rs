//! The manifest of a sealed base: every file with everything about it that matters, as mtree(5) text.
//!
//! The manifest is stored compressed in the base itself, below [`DIR`]. The ledger of accounts is the only file of that
//! directory that the manifest lists. The SHA-256 of the manifest is stored on the sealed snapshot. Each line is
//! complete (no `/set`), and the lines are sorted as a walk is, so that two manifests can be compared line by line. An
//! extension of mtree(5) is `xattr.NAME=SHA-256`: a file capability must not change unnoticed. The time of the root is
//! not in the manifest, because writing the manifest changes it.
//! This module must not decide what a difference means.

mod text;
mod verify;

pub use verify::{Change, Difference, Step, diff, verify};

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{FileType, Mode, OFlags};
use sha2::Digest as _;

use super::dirs::{DirError, Dirs, kind};
use super::error::WorldError;
use super::input::Digest;
use super::meta::{self, Meta};
use super::numbers;
use super::progress::{Context, Phase};
use super::walk::{Visit, names, walk};
use super::writer::Writer;
use crate::profile::RelPath;
use text::Line;

/// The directory that ezz owns in every base.
pub const DIR: &str = ".ezz";
/// The path of the manifest below the root.
pub const PATH: &str = ".ezz/manifest.mtree.zst";

const FILE: &str = "manifest.mtree.zst";
const LEVEL: i32 = 6;
/// No honest manifest is larger. The compressed file may come from another machine.
const SIZE_MAX: u64 = 512 << 20;

/// The result of writing a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// SHA-256 of the uncompressed text.
    pub sha256: Digest,
    /// The number of files in the manifest.
    pub entries: u64,
    /// The number of bytes that were hashed.
    pub bytes: u64,
}

/// Creates the manifest of a tree and writes it into the tree, replacing an existing one.
///
/// # Errors
/// The world has other files below [`DIR`], or the system refuses an operation.
pub fn write(root: &Path, context: &Context<'_>) -> Result<Written, WorldError> {
    if let Some(foreign) = foreign(root)?.into_iter().next() {
        return Err(WorldError::Occupied { path: foreign });
    }
    let lines = scan(root, context)?;
    let text = text::render(&lines);
    let sha256 = Digest::of(text.as_bytes());
    let host = root.join(PATH);
    let failed = |e: io::Error| WorldError::io("write", &host, e);
    let packed = zstd::bulk::compress(text.as_bytes(), LEVEL).map_err(failed)?;

    let own = Meta::own;
    let mut writer = Writer::open(root)?;
    let refused = |e: super::writer::WriteError| {
        e.of_entry(|problem| WorldError::io("write", &host, io::Error::other(problem)))
    };
    let path = RelPath::parse(PATH.as_bytes()).unwrap_or_default();
    writer.dir(&path.parent(), own(0o755)).map_err(refused)?;
    let mut file = writer.create(&path).map_err(refused)?;
    file.write_all(&packed).map_err(failed)?;
    writer.close(&path, &file, &own(0o644))?;
    writer.finish()?;
    let bytes = lines.iter().map(|line| line.size).sum();
    Ok(Written {
        sha256,
        entries: lines.len() as u64,
        bytes,
    })
}

/// Returns the SHA-256 of the manifest that a tree would have, without times. Two trees with the same digest have the
/// same content.
///
/// # Errors
/// The system refuses an operation.
pub fn content(root: &Path, context: &Context<'_>) -> Result<Digest, WorldError> {
    let mut lines = scan(root, context)?;
    for line in &mut lines {
        line.words.remove("time");
    }
    Ok(Digest::of(text::render(&lines).as_bytes()))
}

/// Reads the manifest of a tree; also returns its SHA-256, which the caller compares with the one on the snapshot.
///
/// # Errors
/// The manifest is missing or damaged.
pub fn read(root: &Path) -> Result<(String, Digest), WorldError> {
    let host = root.join(PATH);
    let failed = |e: io::Error| WorldError::io("read", &host, e);
    let dir = RelPath::parse(DIR.as_bytes()).unwrap_or_default();
    let mut dirs = Dirs::open(root)?;
    let parent = dirs.dir(&dir, false).map_err(|e| e.in_tree(root))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd =
        rustix::fs::openat(parent, FILE, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let mut text = Vec::new();
    zstd::stream::read::Decoder::new(File::from(fd))
        .and_then(|decoder| decoder.take(SIZE_MAX).read_to_end(&mut text))
        .map_err(failed)?;
    let sha256 = Digest::of(&text);
    let text = String::from_utf8(text).map_err(|e| WorldError::Manifest {
        line: text::line_of(e.as_bytes(), e.utf8_error().valid_up_to()),
        problem: "it is not text".to_owned(),
    })?;
    Ok((text, sha256))
}

/// Returns the numbers of the users and groups that own files of a sealed base, as far as the paths of the files count.
///
/// # Errors
/// The manifest is missing or damaged.
pub(super) fn owners(
    root: &Path,
    counts: impl Fn(&RelPath) -> bool,
) -> Result<(BTreeSet<u32>, BTreeSet<u32>), WorldError> {
    let (text, _) = read(root)?;
    let (mut users, mut groups) = (BTreeSet::new(), BTreeSet::new());
    for line in text::parse(&text)?.iter().filter(|line| counts(&line.path)) {
        let number = |keyword: &str| line.words.get(keyword)?.parse::<u32>().ok();
        users.extend(number("uid"));
        groups.extend(number("gid"));
    }
    Ok((users, groups))
}

/// Whether a path is the directory that ezz owns, or lies in it.
fn is_own(path: &RelPath) -> bool {
    path.components().next() == Some(DIR.as_bytes())
}

/// Parses the text of a manifest and renders it again, which gives the same text.
///
/// # Errors
/// The text is not a manifest as [`write`] produces it.
#[doc(hidden)]
pub fn rewrite(text: &str) -> Result<String, WorldError> {
    text::parse(text).map(|lines| text::render(&lines))
}

/// Lists the files below [`DIR`] that are not ezz's.
fn foreign(root: &Path) -> Result<Vec<RelPath>, WorldError> {
    let dir = RelPath::parse(DIR.as_bytes()).unwrap_or_default();
    let mut dirs = Dirs::open(root)?;
    let fd = match dirs.dir(&dir, false) {
        Ok(fd) => fd,
        Err(DirError::Missing(_)) => return Ok(Vec::new()),
        Err(DirError::Link(path) | DirError::File(path)) => return Ok(vec![path]),
        Err(DirError::Sys(error)) => return Err(error),
    };
    let inside = names(fd).map_err(|e| WorldError::io("list", dir.under(root), e))?;
    let other = inside.iter().filter(|name| {
        ![FILE, numbers::FILE]
            .map(str::as_bytes)
            .contains(&name.as_bytes())
    });
    Ok(other
        .filter_map(|name| dir.join(name.as_bytes()).ok())
        .collect())
}

/// Reads the whole tree into lines, sorted as the walk.
fn scan(root: &Path, context: &Context<'_>) -> Result<Vec<Line>, WorldError> {
    let mut lines: Vec<Line> = Vec::new();
    walk(root, &context.cancel, &mut |node| {
        if is_own(node.path) {
            if node.path.as_bytes() == DIR.as_bytes() {
                return Ok(Visit::Enter);
            }
            if node.path.name() != numbers::FILE {
                return Ok(Visit::Skip);
            }
        }
        let stat = node.stat;
        let meta = Meta::of(stat);
        let mut line = Line::new(node.path.clone(), node.kind());
        // The kernel ignores the mode of a link: it is 0777 on Linux, and depends on the umask on FreeBSD.
        let mode = match node.kind() {
            FileType::Symlink => 0o777,
            _ => meta.mode,
        };
        line.set("mode", format!("0{mode:03o}"));
        line.set("uid", meta.uid.to_string());
        line.set("gid", meta.gid.to_string());
        if !node.path.is_root() {
            line.set("time", format!("{}.{:09}", meta.mtime, meta.nsec));
        }
        match node.kind() {
            FileType::RegularFile => {
                line.size = stat.st_size as u64;
                line.set("size", line.size.to_string());
                line.set("nlink", stat.st_nlink.to_string());
            }
            FileType::Symlink => line.set("link", text::escape(&node.link_target()?)),
            _ => {}
        }
        lines.push(line);
        Ok(Visit::Enter)
    })?;

    let phase = Phase::start(
        context,
        "manifest",
        Some(lines.iter().map(|line| line.size).sum()),
    );
    lines.par_iter_mut().with_min_len(16).try_for_each_init(
        || (Dirs::open(root), vec![0u8; 256 << 10]),
        |(dirs, buffer), line| {
            context.cancel.check()?;
            match dirs {
                Ok(dirs) => opened(line, dirs, buffer, context, &phase),
                // The error cannot be moved out of the shared value, so open the root again to get it.
                Err(_) => Dirs::open(root).map(drop),
            }
        },
    )?;
    Ok(lines)
}

/// Adds the attributes and the digest, for which the file must be opened.
fn opened(
    line: &mut Line,
    dirs: &mut Dirs,
    buffer: &mut [u8],
    context: &Context<'_>,
    phase: &Phase<'_>,
) -> Result<(), WorldError> {
    let root = dirs.root().to_path_buf();
    let failed = |op, e: io::Error| WorldError::io(op, line.path.under(&root), e);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match line.kind {
        FileType::Directory => dirs
            .dir(&line.path, false)
            .map_err(|e| e.in_tree(&root))?
            .try_clone_to_owned()
            .map_err(|e| failed("open", e))?,
        FileType::RegularFile => {
            let parent = dirs
                .parent(&line.path, false)
                .map_err(|e| e.in_tree(&root))?;
            rustix::fs::openat(parent, line.path.name(), flags, Mode::empty())
                .map_err(|e| failed("open", e.into()))?
        }
        _ => return Ok(()),
    };
    let mut file = File::from(fd);
    let attributes = meta::attributes(&file).map_err(|e| failed("read the attributes of", e))?;
    let mut digest = None;
    if line.kind == FileType::RegularFile {
        let now = rustix::fs::fstat(&file).map_err(|e| failed("stat", e.into()))?;
        if kind(&now) != FileType::RegularFile {
            return Err(failed("read", rustix::io::Errno::STALE.into()));
        }
        let mut hash = sha2::Sha256::new();
        loop {
            match file.read(buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hash.update(&buffer[..n]);
                    phase.advance(n as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed("read", e)),
            }
            context.cancel.check()?;
        }
        digest = Some(Digest::new(hash.finalize().into()));
    }
    if let Some(digest) = digest {
        line.set("sha256digest", digest.to_string());
    }
    for (name, value) in attributes {
        let key = format!("xattr.{}", text::escape(name.as_bytes()));
        line.set(&key, Digest::of(&value).to_string());
    }
    Ok(())
}
