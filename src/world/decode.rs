//! Detects the compression by the first bytes, and decompresses.
//!
//! All three formats allow several members one after the other. Data after the last member that are not padding are an
//! error. xz in several blocks, as FreeBSD's release engineering makes it, is decoded in parallel; gzip and zstd frames
//! cannot be.

use std::io::{self, BufRead};

use liblzma::stream::{Action, MtStreamBuilder, Status, Stream};

use super::error::WorldError;
use super::input::{Chunks, Sink};
use super::look;

/// The compression formats that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Gzip,
    Xz,
    Zstd,
}

const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
const LAYER: &str = "input";
/// xz -9 needs 65 MiB; no honest archive needs more than this.
const XZ_MEMORY: u64 = 1 << 30;
/// The window of `zstd --long=29`; without this setting the library accepts at most 27.
const ZSTD_WINDOW_LOG: u32 = 29;
/// Above this limit xz decodes in one thread. With zero, the default, it always would.
const XZ_THREADING_MEMORY: u64 = 512 << 20;

impl Format {
    fn of(start: &[u8]) -> Option<Format> {
        match start {
            [0x1f, 0x8b, ..] => Some(Format::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Some(Format::Zstd)
            }
            start if start.starts_with(XZ_MAGIC) => Some(Format::Xz),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Gzip => "gzip",
            Format::Xz => "xz",
            Format::Zstd => "zstd",
        }
    }

    /// Whether zeros behind the end are padding (gzip on a tape with fixed blocks; xz specification §2.2).
    fn is_padded(self) -> bool {
        matches!(self, Format::Gzip | Format::Xz)
    }
}

/// Detects the compression of an input; returns `None` for a plain tar archive. Everything else is refused.
pub(super) fn sniff(input: &mut Chunks, origin: &str) -> Result<Option<Format>, WorldError> {
    let start = input.peek(512)?;
    if let Some(format) = Format::of(start) {
        return Ok(Some(format));
    }
    if is_tar(start) {
        return Ok(None);
    }
    Err(WorldError::NotAnArchive {
        origin: origin.to_owned(),
        found: look::unlike(start),
    })
}

/// Refuses compressed data that are not a tar archive. Data that are too short to decide are left to the reader.
pub(super) fn inside(input: &mut Chunks, origin: &str) -> Result<(), WorldError> {
    let start = input.peek(512)?;
    if start.len() < 512 || is_tar(start) {
        return Ok(());
    }
    let found = match Format::of(start) {
        Some(_) => "something that is compressed twice",
        None => "a compressed file that is no archive",
    };
    Err(WorldError::NotAnArchive {
        origin: origin.to_owned(),
        found,
    })
}

fn is_tar(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar")
        || start
            .get(..512)
            .is_some_and(super::header::checksum_is_right)
}

/// Decompresses until the input ends, or until the receiver no longer exists.
pub(super) fn decompress(
    format: Format,
    mut input: Chunks,
    sink: &Sink,
    origin: &str,
) -> Result<(), WorldError> {
    loop {
        let (back, listening) = match format {
            Format::Gzip => gzip_member(input, sink, origin)?,
            Format::Xz => xz_stream(input, sink, origin)?,
            Format::Zstd => zstd_frame(input, sink, origin)?,
        };
        input = back;
        if !listening {
            return Ok(());
        }
        let end = input.offset();
        if format.is_padded() {
            skip_zeros(&mut input)?;
        }
        let next = input.peek(XZ_MAGIC.len())?;
        if next.is_empty() {
            return Ok(());
        }
        if Format::of(next) != Some(format) {
            return Err(WorldError::Trailing {
                origin: origin.to_owned(),
                offset: end,
                layer: LAYER,
            });
        }
    }
}

type Member = Result<(Chunks, bool), WorldError>;

fn gzip_member(input: Chunks, sink: &Sink, origin: &str) -> Member {
    let mut decoder = flate2::bufread::GzDecoder::new(input);
    match sink.send_all(&mut decoder) {
        Ok(listening) => Ok((decoder.into_inner(), listening)),
        Err(e) => Err(failure(e, Format::Gzip, decoder.get_ref().offset(), origin)),
    }
}

fn zstd_frame(input: Chunks, sink: &Sink, origin: &str) -> Member {
    let start = input.offset();
    let decoder = zstd::stream::read::Decoder::with_buffer(input)
        .map_err(|e| failure(e, Format::Zstd, start, origin))?;
    let mut decoder = decoder.single_frame();
    decoder
        .window_log_max(ZSTD_WINDOW_LOG)
        .map_err(|e| failure(e, Format::Zstd, start, origin))?;
    match sink.send_all(&mut decoder) {
        Ok(listening) => Ok((decoder.finish(), listening)),
        Err(e) => Err(failure(e, Format::Zstd, decoder.get_ref().offset(), origin)),
    }
}

fn xz_stream(input: Chunks, sink: &Sink, origin: &str) -> Member {
    let start = input.offset();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(16)) as u32;
    let stream = MtStreamBuilder::new()
        .threads(threads)
        .memlimit_threading(XZ_THREADING_MEMORY)
        .memlimit_stop(XZ_MEMORY)
        .decoder()
        .map_err(|e| failure(e.into(), Format::Xz, start, origin))?;
    let mut decoder = XzStream {
        input,
        stream,
        ended: false,
    };
    match sink.send_all(&mut decoder) {
        Ok(listening) => Ok((decoder.input, listening)),
        Err(e) => Err(failure(e, Format::Xz, decoder.input.offset(), origin)),
    }
}

/// One xz stream. The reader of the crate is not used, because at the end of a stream it cannot return the rest of the
/// input.
struct XzStream {
    input: Chunks,
    stream: Stream,
    ended: bool,
}

impl io::Read for XzStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stuck = false;
        while !self.ended {
            let input = self.input.fill_buf()?;
            let last = input.is_empty();
            let before = (self.stream.total_in(), self.stream.total_out());
            let action = if last { Action::Finish } else { Action::Run };
            let status = self.stream.process(input, buffer, action)?;
            let consumed = (self.stream.total_in() - before.0) as usize;
            let made = (self.stream.total_out() - before.1) as usize;
            self.input.consume_bytes(consumed);
            self.ended = status == Status::StreamEnd;
            if made > 0 {
                return Ok(made);
            }
            // A call that makes no progress may still be followed by one that does.
            if consumed == 0 && last && !self.ended {
                if stuck {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                stuck = true;
            }
        }
        Ok(0)
    }
}

fn failure(error: io::Error, format: Format, offset: u64, origin: &str) -> WorldError {
    let origin = origin.to_owned();
    WorldError::unwrap_io(error, |source| {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            WorldError::Truncated {
                origin,
                offset,
                layer: LAYER,
                within: "the compressed data",
            }
        } else {
            WorldError::Decompress {
                origin,
                format: format.name(),
                offset,
                source,
            }
        }
    })
}

fn skip_zeros(input: &mut Chunks) -> Result<(), WorldError> {
    loop {
        let chunk = input.fill()?;
        let zeros = chunk.iter().take_while(|b| **b == 0).count();
        let more = zeros == chunk.len() && zeros > 0;
        input.consume_bytes(zeros);
        if !more {
            return Ok(());
        }
    }
}
