//! Reads tar archives: v7, ustar, pax, and the extensions of GNU tar (long names, sparse files, binary numbers).
//!
//! This is our own reader and not that of a crate, because a world comes from outside: extended headers are bounded, an
//! archive without its end mark is truncated and not just short, every error has its offset, and all three pax sparse
//! formats are known (bsdtar writes one of them without being asked). The layouts are those of POSIX.1-2001 pax, and of
//! the GNU tar manual, "Basic Tar Format".
//! This module must not write files.

use rustix::fs::FileType;

use super::error::{EntryError, NO_END, WorldError};
use super::header::{
    BLOCK, Field, GID, Header, LINK, MODE, MTIME, SIZE, TYPE, UID, checksum_is_right, numeric,
};
use super::input::Chunks;
use super::meta::{Meta, NO_CHANGE};
use super::pax::{self, Pax, Sparse, field};
use crate::profile::{PATH_MAX, RelPath, RelPathError};

const LAYER: &str = "archive";
/// The largest extended header or long name. Linux limits all attributes of a file to 64 KiB.
const EXTENDED_MAX: u64 = 1 << 20;
/// The most pieces of a sparse file.
const PIECES_MAX: usize = 1 << 20;
/// The most extended headers and long names before one entry; honest programs need three.
const HEADERS_MAX: usize = 16;
/// The most zeros behind the end mark. Programs fill up a block of a tape, which has some megabytes at most.
const PADDING_MAX: u64 = 64 << 20;
/// The longest target of a symbolic link, which is that of a path.
const TARGET_MAX: usize = PATH_MAX;

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file, whose data follow.
    File,
    /// A directory.
    Dir,
    /// A symbolic link with its target.
    Symlink(Vec<u8>),
    /// Another name for an earlier entry.
    HardLink(RelPath),
    /// A device or fifo, which no world may have.
    Special(FileType),
}

/// One entry of an archive.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: RelPath,
    pub(super) kind: Kind,
    pub(super) meta: Meta,
    /// The length of the file in bytes.
    pub(super) size: u64,
    /// Offset and length of the pieces of data that follow.
    pub(super) pieces: Vec<(u64, u64)>,
    /// Whether the entry has file flags, which are not restored.
    pub(super) flags: bool,
    /// Access control lists with names, each with the attribute that it becomes.
    pub(super) named_acls: Vec<(&'static str, Vec<u8>)>,
    /// The number of attributes that are not restored.
    pub(super) dropped_attributes: u64,
}

/// An archive from its beginning to its end mark.
pub(super) struct Tarball<'a> {
    input: &'a mut Chunks,
    origin: &'a str,
    /// Whether something other than the end mark shows that the archive is complete.
    whole: bool,
    /// Data of the current entry that were not read yet; `padding` is what follows them.
    data: u64,
    padding: u64,
    /// Offset of the header of the current entry.
    at: u64,
    name: String,
}

impl<'a> Tarball<'a> {
    /// Creates a reader. `whole` says that a truncated input would be noticed without an end mark, by its compression
    /// or its digest.
    pub(super) fn new(input: &'a mut Chunks, origin: &'a str, whole: bool) -> Tarball<'a> {
        Tarball {
            input,
            origin,
            whole,
            data: 0,
            padding: 0,
            at: 0,
            name: String::new(),
        }
    }

    /// Returns the next entry; `None` at the end mark, after which only zeros may follow.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, WorldError> {
        let mut pax: Option<Pax> = None;
        let mut long_name = None;
        let mut long_link = None;
        let mut headers = 0;
        loop {
            self.skip_data()?;
            self.at = self.input.offset();
            let Some(block) = self.header(headers == 0)? else {
                return self.end().map(|()| None);
            };
            headers += 1;
            if headers > HEADERS_MAX {
                return Err(self.malformed("too many extended headers before one entry"));
            }
            let header = Header(block);
            if !checksum_is_right(&header.0) {
                return Err(self.malformed("the checksum of the header is wrong"));
            }
            self.name = header.path().escape_ascii().to_string();
            let size = self.number(&header, SIZE, "size")?;
            match header.0[TYPE] {
                b'x' => {
                    let data = self.extended(size)?;
                    pax = Some(pax::parse(&data).map_err(|e| self.entry(e))?);
                }
                b'g' => {
                    // A global header holds for all entries that follow. Only comments are harmless.
                    let data = self.extended(size)?;
                    let global = pax::parse(&data).map_err(|e| self.entry(e))?;
                    if global != Pax::default() {
                        return Err(self.malformed("a global header that changes entries"));
                    }
                }
                b'L' => long_name = Some(trimmed(self.extended(size)?)),
                b'K' => long_link = Some(trimmed(self.extended(size)?)),
                _ => {
                    let mut pax = pax.unwrap_or_default();
                    pax.path = pax.path.or(long_name);
                    pax.linkpath = pax.linkpath.or(long_link);
                    return self.make(&header, size, pax).map(Some);
                }
            }
        }
    }

    /// Returns the next piece of the data of the current entry; empty at their end.
    pub(super) fn data(&mut self) -> Result<&[u8], WorldError> {
        if self.data == 0 {
            return Ok(&[]);
        }
        if self.input.fill()?.is_empty() {
            return Err(self.truncated("the content of a file"));
        }
        let there = self.input.fill()?;
        Ok(&there[..there
            .len()
            .min(usize::try_from(self.data).unwrap_or(usize::MAX))])
    }

    /// Marks bytes of the last [`Tarball::data`] as used.
    pub(super) fn consume(&mut self, n: usize) {
        self.input.consume_bytes(n);
        self.data -= n as u64;
    }

    /// Returns the offset of the header of the current entry.
    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    /// Returns an error about the current entry.
    pub(super) fn entry(&self, source: EntryError) -> WorldError {
        WorldError::Entry {
            name: self.name.clone(),
            offset: self.at,
            source,
        }
    }

    fn make(&mut self, header: &Header, size: u64, pax: Pax) -> Result<Entry, WorldError> {
        let raw = pax.path.clone().unwrap_or_else(|| header.path());
        self.name = raw.escape_ascii().to_string();
        let path = below(&raw).map_err(|e| self.entry(EntryError::Name(e)))?;
        if path.components().next() == Some(b".zfs") {
            return Err(self.entry(EntryError::OfZfs));
        }
        let link = pax.linkpath.unwrap_or_else(|| header.text(LINK).to_vec());
        // In v7 a directory is a file whose name ends with a slash.
        let directory_name = raw.ends_with(b"/");
        let kind = match header.0[TYPE] {
            0 | b'0' | b'7' if directory_name => Kind::Dir,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink(below(&link).map_err(|problem| {
                let target = link.escape_ascii().to_string();
                self.entry(EntryError::HardLinkName { target, problem })
            })?),
            b'2' => {
                if link.is_empty() || link.len() > TARGET_MAX || link.contains(&0) {
                    return Err(self.entry(EntryError::LinkTarget));
                }
                Kind::Symlink(link)
            }
            b'3' => Kind::Special(FileType::CharacterDevice),
            b'4' => Kind::Special(FileType::BlockDevice),
            b'5' => Kind::Dir,
            b'6' => Kind::Special(FileType::Fifo),
            other => {
                let shown = other.escape_ascii().to_string();
                return Err(self.entry(EntryError::UnknownType(shown)));
            }
        };
        let size = pax.size.unwrap_or(size);
        self.data = 0;
        self.padding = 0;
        match kind {
            Kind::File => self.expect(size),
            // Some programs give a directory or link the size that it has on disk, without data.
            _ if size == 0 || kind == Kind::Dir => {}
            // Old programs give a further name the size of the file, and no data; by POSIX.1-2001 the data may follow
            // once more. The next block shows which of the two it is.
            Kind::HardLink(_) => {
                if !self.begins_header()? {
                    self.expect(size);
                }
            }
            Kind::Symlink(_) | Kind::Special(_) | Kind::Dir => {
                return Err(self.malformed("a link or device that has data"));
            }
        }
        let (size, pieces) = match (&kind, pax.sparse) {
            (Kind::File, Some(sparse)) => self.pax_sparse(sparse)?,
            (Kind::File, None) if header.0[TYPE] == b'S' => self.gnu_sparse(header, size)?,
            _ => (size, vec![(0, size)]),
        };
        let (mtime, nsec) = match pax.mtime {
            Some(time) => time,
            None => (self.signed(header, MTIME, "time")?, 0),
        };
        let uid = match pax.uid {
            Some(uid) => uid,
            None => self.number(header, UID, "owner")?,
        };
        let gid = match pax.gid {
            Some(gid) => gid,
            None => self.number(header, GID, "group")?,
        };
        let id = |what, id: u64| match u32::try_from(id) {
            Ok(id) if id != NO_CHANGE => Ok(id),
            _ => Err(self.entry(EntryError::Owner { what, id })),
        };
        let meta = Meta {
            mode: (self.number(header, MODE, "mode")? & 0o7777) as u32,
            uid: id("owner", uid)?,
            gid: id("group", gid)?,
            mtime,
            nsec,
            attributes: pax.attributes,
        };
        Ok(Entry {
            path,
            kind,
            meta,
            size,
            pieces,
            flags: pax.flags,
            named_acls: pax.named_acls,
            dropped_attributes: pax.dropped,
        })
    }

    fn expect(&mut self, data: u64) {
        self.data = data;
        self.padding = data.wrapping_neg() % BLOCK as u64;
    }

    /// Returns the map of a pax sparse file. In version 1.0 it is the beginning of the data: decimal numbers, one a
    /// line, the first one the number of pieces, padded to a whole block.
    fn pax_sparse(&mut self, mut sparse: Sparse) -> Result<(u64, Vec<(u64, u64)>), WorldError> {
        if sparse.map_in_data {
            let mut block = Vec::new().into_iter();
            let mut line = Vec::new();
            let mut numbers: Vec<u64> = Vec::new();
            let mut wanted = 1;
            while numbers.len() < wanted {
                let Some(byte) = block.next() else {
                    block = self.data_block()?.into_iter();
                    continue;
                };
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(self.entry(field("sparse map", &line)));
                    }
                    continue;
                }
                let number = pax::number("sparse map", &line).map_err(|e| self.entry(e))?;
                line.clear();
                numbers.push(number);
                if numbers.len() == 1 {
                    let pieces = usize::try_from(number).unwrap_or(usize::MAX);
                    if pieces > PIECES_MAX {
                        return Err(self.entry(field("sparse map", number.to_string().as_bytes())));
                    }
                    wanted = 1 + 2 * pieces;
                }
            }
            sparse.map = numbers[1..]
                .chunks_exact(2)
                .map(|pair| (pair[0], pair[1]))
                .collect();
        }
        self.checked(sparse.map, sparse.size)
    }

    /// Returns the map of an old GNU sparse file: four pieces in the header, and 21 in each block after it.
    fn gnu_sparse(
        &mut self,
        header: &Header,
        stored: u64,
    ) -> Result<(u64, Vec<(u64, u64)>), WorldError> {
        let real = self.number(header, (483, 12), "sparse size")?;
        let mut map = Vec::new();
        let mut block = header.0;
        let (mut at, mut more) = (386, 482);
        loop {
            while at + 24 <= more {
                let piece = Header(block);
                if piece.0[at] != 0 {
                    let offset = self.number(&piece, (at, 12), "sparse map")?;
                    map.push((offset, self.number(&piece, (at + 12, 12), "sparse map")?));
                }
                at += 24;
            }
            if block[more] == 0 {
                break;
            }
            if map.len() > PIECES_MAX {
                return Err(self.malformed("a sparse file with too many pieces"));
            }
            block = self.block()?.ok_or_else(|| self.truncated("a header"))?;
            (at, more) = (0, 504);
        }
        self.expect(stored);
        self.checked(map, real)
    }

    fn checked(
        &self,
        map: Vec<(u64, u64)>,
        size: u64,
    ) -> Result<(u64, Vec<(u64, u64)>), WorldError> {
        let data = pax::check_map(&map, size).map_err(|e| self.entry(e))?;
        if data != self.data {
            return Err(self.malformed("a sparse file whose data are not as long as its map says"));
        }
        Ok((size, map))
    }

    fn data_block(&mut self) -> Result<Vec<u8>, WorldError> {
        if self.data < BLOCK as u64 {
            return Err(self.malformed("a sparse file without its map"));
        }
        let block = self
            .block()?
            .ok_or_else(|| self.truncated("the content of a file"))?;
        self.data -= BLOCK as u64;
        Ok(block.to_vec())
    }

    fn skip_data(&mut self) -> Result<(), WorldError> {
        while self.data > 0 {
            let n = self.data()?.len();
            self.consume(n);
        }
        while self.padding > 0 {
            let there = self.input.fill()?.len();
            if there == 0 {
                return Err(self.truncated("the content of a file"));
            }
            let n = there.min(self.padding as usize);
            self.input.consume_bytes(n);
            self.padding -= n as u64;
        }
        Ok(())
    }

    /// Reads the data of an extended header or long name.
    fn extended(&mut self, size: u64) -> Result<Vec<u8>, WorldError> {
        if size > EXTENDED_MAX {
            return Err(self.malformed("an extended header that is too large"));
        }
        self.expect(size);
        let mut data = Vec::with_capacity(size as usize);
        loop {
            let piece = self.data()?;
            let n = piece.len();
            if n == 0 {
                break;
            }
            data.extend_from_slice(piece);
            self.consume(n);
        }
        self.skip_data()?;
        Ok(data)
    }

    /// Whether a header, the end mark or the end of the input comes next.
    fn begins_header(&mut self) -> Result<bool, WorldError> {
        let there = self.input.peek(BLOCK)?;
        Ok(match there.first_chunk::<BLOCK>() {
            Some(block) => checksum_is_right(block) || block.iter().all(|b| *b == 0),
            None => there.is_empty(),
        })
    }

    /// Reads a header. Returns `None` at a block of zeros, which is the end mark. If the archive is known to be
    /// complete, an end between two entries counts as an end mark, as for GNU tar and bsdtar.
    fn header(&mut self, between: bool) -> Result<Option<[u8; BLOCK]>, WorldError> {
        match self.block()? {
            None if between && self.whole && self.at > 0 => Ok(None),
            None => Err(self.truncated(NO_END)),
            Some(block) if block.iter().all(|b| *b == 0) => Ok(None),
            Some(block) => Ok(Some(block)),
        }
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, WorldError> {
        let there = self.input.peek(BLOCK)?;
        if there.is_empty() {
            return Ok(None);
        }
        let Some(block) = there.first_chunk::<BLOCK>().copied() else {
            let n = there.len();
            self.input.consume_bytes(n);
            return Err(self.truncated("a header"));
        };
        self.input.consume_bytes(BLOCK);
        Ok(Some(block))
    }

    /// Checks that only zeros follow the end mark, and reads all of them, so that they are digested.
    fn end(&mut self) -> Result<(), WorldError> {
        let mark = self.input.offset();
        loop {
            let there = self.input.fill()?;
            let length = there.len();
            if length == 0 {
                return Ok(());
            }
            if self.input.offset() - mark > PADDING_MAX {
                return Err(self.malformed("more zeros behind its end than any writer makes"));
            }
            let there = self.input.fill()?;
            if let Some(at) = there.iter().position(|b| *b != 0) {
                return Err(WorldError::Trailing {
                    origin: self.origin.to_owned(),
                    offset: self.input.offset() + at as u64,
                    layer: LAYER,
                });
            }
            self.input.consume_bytes(length);
        }
    }

    fn number(&self, header: &Header, at: Field, what: &'static str) -> Result<u64, WorldError> {
        let value = self.signed(header, at, what)?;
        u64::try_from(value).map_err(|_| self.entry(field(what, value.to_string().as_bytes())))
    }

    fn signed(&self, header: &Header, at: Field, what: &'static str) -> Result<i64, WorldError> {
        let bytes = header.field(at);
        numeric(bytes).ok_or_else(|| self.entry(field(what, bytes)))
    }

    fn malformed(&self, problem: &str) -> WorldError {
        WorldError::Malformed {
            origin: self.origin.to_owned(),
            offset: self.at,
            problem: problem.to_owned(),
        }
    }

    fn truncated(&self, within: &'static str) -> WorldError {
        WorldError::Truncated {
            origin: self.origin.to_owned(),
            offset: self.input.offset(),
            layer: LAYER,
            within,
        }
    }
}

/// Parses a name below the root. A slash at its beginning is removed, as tar(1) does it.
fn below(name: &[u8]) -> Result<RelPath, RelPathError> {
    let start = name.iter().position(|b| *b != b'/').unwrap_or(name.len());
    RelPath::parse(&name[start..])
}

/// Removes the NUL at the end of a GNU long name.
fn trimmed(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}
