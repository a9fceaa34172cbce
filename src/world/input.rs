//! Where a world comes from, and its bytes. One thread reads and digests the input, one decompresses it, and the
//! caller's thread takes the result. Bounded queues of large chunks lie between them.
//!
//! This module must not know what the bytes mean (`decode`, `tarball`).

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use sha2::Digest as _;

use super::decode;
use super::error::WorldError;
use super::look;
use super::progress::{Cancel, Phase};

const CHUNK: usize = 1 << 20;
const QUEUE: usize = 4;

/// Where a world comes from.
pub enum Source {
    /// A directory that holds a world.
    Dir(PathBuf),
    /// An archive: tar, plain or compressed by gzip, xz or zstd.
    File(PathBuf),
    /// A tar archive as in `File`, read from a pipe.
    Stdin(Box<dyn Read + Send>),
}

impl Source {
    /// Parses an argument: `-` is standard input, a directory is a `Dir`, and everything else is an archive.
    pub fn from_arg(arg: &Path) -> Source {
        if arg == Path::new("-") {
            Source::Stdin(Box::new(io::stdin()))
        } else if arg.is_dir() {
            Source::Dir(arg.to_path_buf())
        } else {
            Source::File(arg.to_path_buf())
        }
    }

    /// Returns the name of the source for messages.
    pub fn origin(&self) -> String {
        match self {
            Source::Dir(path) | Source::File(path) => path.display().to_string(),
            Source::Stdin(_) => "standard input".to_owned(),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.origin()).finish()
    }
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Makes a digest from its 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// Computes the digest of some bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// Computes the digest of everything that a reader returns until its end.
    ///
    /// # Errors
    /// The errors of the reader.
    pub fn of_reader(reader: &mut impl Read) -> io::Result<Digest> {
        let mut hasher = sha2::Sha256::new();
        let mut buffer = [0; 64 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Digest(hasher.finalize().into())),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the 64 hexadecimal digits of a SHA-256")]
pub struct DigestError;

impl std::str::FromStr for Digest {
    type Err = DigestError;
    /// Parses 64 hexadecimal digits of either case.
    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| DigestError)?;
        Ok(Digest(bytes))
    }
}

type Chunk = Result<Vec<u8>, WorldError>;

/// The receiving end of a queue of chunks; an empty chunk is the end.
pub(super) struct Chunks {
    queue: Receiver<Chunk>,
    cancel: Cancel,
    origin: String,
    chunk: Vec<u8>,
    used: usize,
    ended: bool,
    before: u64,
}

impl Chunks {
    fn new(queue: Receiver<Chunk>, cancel: Cancel, origin: String) -> Chunks {
        Chunks {
            queue,
            cancel,
            origin,
            chunk: Vec::new(),
            used: 0,
            ended: false,
            before: 0,
        }
    }

    /// Returns how many bytes were consumed.
    pub(super) fn offset(&self) -> u64 {
        self.before + self.used as u64
    }

    /// Returns the bytes that have arrived, at least one; empty only at the end.
    pub(super) fn fill(&mut self) -> Result<&[u8], WorldError> {
        if self.used == self.chunk.len() && !self.ended {
            let next = self.receive()?;
            self.before += self.chunk.len() as u64;
            self.chunk = next;
            self.used = 0;
        }
        Ok(&self.chunk[self.used..])
    }

    /// Returns at least `n` bytes, or fewer if the end comes before that.
    pub(super) fn peek(&mut self, n: usize) -> Result<&[u8], WorldError> {
        while self.chunk.len() - self.used < n && !self.ended {
            let next = self.receive()?;
            self.before += self.used as u64;
            self.chunk.drain(..self.used);
            self.used = 0;
            self.chunk.extend_from_slice(&next);
        }
        Ok(&self.chunk[self.used..])
    }

    /// Marks bytes of the last [`Chunks::fill`] or [`Chunks::peek`] as used.
    pub(super) fn consume_bytes(&mut self, n: usize) {
        self.used = (self.used + n).min(self.chunk.len());
    }

    /// Discards the remaining bytes.
    fn drain(&mut self) -> Result<(), WorldError> {
        loop {
            let length = self.fill()?.len();
            if length == 0 {
                return Ok(());
            }
            self.consume_bytes(length);
        }
    }

    fn receive(&mut self) -> Chunk {
        loop {
            self.cancel.check()?;
            match self.queue.recv_timeout(Duration::from_millis(100)) {
                Ok(Ok(chunk)) => {
                    self.ended = chunk.is_empty();
                    return Ok(chunk);
                }
                Ok(Err(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let broken = io::Error::from(io::ErrorKind::BrokenPipe);
                    return Err(WorldError::io("read", &self.origin, broken));
                }
            }
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume_bytes(n);
        Ok(n)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fill().map_err(io::Error::other)
    }

    fn consume(&mut self, n: usize) {
        self.consume_bytes(n);
    }
}

/// The sending end of a queue of chunks.
pub(super) struct Sink {
    queue: SyncSender<Chunk>,
}

impl Sink {
    /// Sends a chunk that is not empty; returns `false` if the receiver no longer exists.
    pub(super) fn send(&self, chunk: Vec<u8>) -> bool {
        chunk.is_empty() || self.queue.send(Ok(chunk)).is_ok()
    }

    /// Sends chunks from a reader until it ends; returns `false` if the receiver no longer exists.
    pub(super) fn send_all(&self, reader: &mut impl Read) -> io::Result<bool> {
        loop {
            let chunk = read_chunk(reader)?;
            let end = chunk.is_empty();
            if end || !self.send(chunk) {
                return Ok(end);
            }
        }
    }
}

/// Reads a full chunk, or less at the end.
fn read_chunk(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    reader.take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

/// How much of an input was read, and how much of that was reported.
pub(super) struct Meter {
    read: Arc<AtomicU64>,
    told: u64,
}

impl Meter {
    /// Reports how much was read since the last call.
    pub(super) fn tell(&mut self, phase: &Phase<'_>) {
        let read = self.read.load(Ordering::Relaxed);
        phase.advance(read - self.told);
        self.told = read;
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Input").field(&self.origin).finish()
    }
}

/// An archive being read.
pub(super) struct Input {
    /// The bytes of the archive, decompressed.
    pub(super) chunks: Chunks,
    /// The name of the source for messages.
    pub(super) origin: String,
    /// The length of the input, if it is known.
    pub(super) length: Option<u64>,
    /// Counts how much of the input was read.
    pub(super) meter: Meter,
    /// Whether the input is compressed: then its end is marked, and a truncation is noticed.
    pub(super) compressed: bool,
    digest: Receiver<(Digest, u64)>,
}

impl Input {
    /// Opens an archive and starts the threads. They end by themselves when this is dropped (the
    /// one that reads a pipe with its next chunk).
    pub(super) fn open(source: Source, cancel: &Cancel) -> Result<Input, WorldError> {
        let origin = source.origin();
        let (reader, length): (Box<dyn Read + Send>, Option<u64>) = match source {
            Source::Dir(path) => {
                let error = io::Error::from(io::ErrorKind::IsADirectory);
                return Err(WorldError::io("read", path, error));
            }
            Source::File(path) => {
                let file = File::open(&path).map_err(|e| WorldError::io("open", &path, e))?;
                let meta = file
                    .metadata()
                    .map_err(|e| WorldError::io("stat", &path, e))?;
                let length = meta.is_file().then_some(meta.len());
                (Box::new(file), length)
            }
            Source::Stdin(reader) => (reader, None),
        };
        let read = Arc::new(AtomicU64::new(0));
        let (digest_sender, digest) = sync_channel(1);
        let (sink, mut raw) = queue(cancel, &origin);
        let (counter, name) = (read.clone(), origin.clone());
        spawn("ezz-read", &origin, move || {
            read_input(reader, &name, &sink, &counter, &digest_sender)
        })?;

        let format = decode::sniff(&mut raw, &origin)?;
        let mut chunks = match format {
            None => raw,
            Some(format) => {
                let (sink, chunks) = queue(cancel, &origin);
                let name = origin.clone();
                spawn("ezz-decompress", &origin, move || {
                    if let Err(error) = decode::decompress(format, raw, &sink, &name) {
                        // The caller stops receiving only after an error of its own, so nothing is lost then.
                        let _ = sink.queue.send(Err(error));
                    } else {
                        let _ = sink.queue.send(Ok(Vec::new()));
                    }
                })?;
                chunks
            }
        };
        if format.is_some() {
            decode::inside(&mut chunks, &origin)?;
        }
        look::archive(&mut chunks, &origin)?;
        Ok(Input {
            chunks,
            compressed: format.is_some(),
            origin,
            length,
            meter: Meter { read, told: 0 },
            digest,
        })
    }

    /// Returns the digest and the length of the input, after reading the chunks to their end.
    pub(super) fn digest(&mut self) -> Result<(Digest, u64), WorldError> {
        self.chunks.drain()?;
        self.digest.recv().map_err(|_| {
            let broken = io::Error::from(io::ErrorKind::BrokenPipe);
            WorldError::io("read", &self.origin, broken)
        })
    }
}

fn queue(cancel: &Cancel, origin: &str) -> (Sink, Chunks) {
    let (sender, receiver) = sync_channel(QUEUE);
    (
        Sink { queue: sender },
        Chunks::new(receiver, cancel.clone(), origin.to_owned()),
    )
}

fn spawn(name: &str, origin: &str, work: impl FnOnce() + Send + 'static) -> Result<(), WorldError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|e| WorldError::io("start a thread to read", origin, e))
}

fn read_input(
    mut reader: Box<dyn Read + Send>,
    origin: &str,
    sink: &Sink,
    counter: &AtomicU64,
    digest: &SyncSender<(Digest, u64)>,
) {
    let mut hash = sha2::Sha256::new();
    let mut length = 0;
    loop {
        match read_chunk(&mut reader) {
            Ok(chunk) if chunk.is_empty() => break,
            Ok(chunk) => {
                hash.update(&chunk);
                length += chunk.len() as u64;
                counter.store(length, Ordering::Relaxed);
                if !sink.send(chunk) {
                    return;
                }
            }
            Err(error) => {
                let _ = sink.queue.send(Err(WorldError::io("read", origin, error)));
                return;
            }
        }
    }
    // Send the digest first, so that a receiver that sees the end of the chunks finds it.
    let _ = digest.send((Digest(hash.finalize().into()), length));
    let _ = sink.queue.send(Ok(Vec::new()));
}
