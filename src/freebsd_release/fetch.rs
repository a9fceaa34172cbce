//! Fetches files from a mirror over TLS with the host's own authorities; continues interrupted downloads, and tries
//! again.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::manifest;
use super::{ReleaseError, file};
use crate::world::{Cancel, Context};

/// The number of tries without any progress.
const TRIES: u32 = 5;

/// The number of bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// The time limits for a mirror, which are shorter in tests.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The limit for connecting, and until the answer begins.
    pub answer: Duration,
    /// The limit for a pause without any bytes of the answer.
    pub stalled: Duration,
    /// The pause before the second try; each later pause is twice as long.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            answer: Duration::from_secs(30),
            stalled: Duration::from_secs(60),
            pause: Duration::from_secs(1),
        }
    }
}

/// A client that fetches files from mirrors.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    patience: Patience,
}

/// Why one try failed.
enum Failed {
    /// Another try would fail in the same way.
    Final(ReleaseError),
    /// Another try may succeed.
    Again(String),
    /// Another try may succeed, and some bytes have arrived.
    GotOn(String),
}

impl From<ReleaseError> for Failed {
    fn from(error: ReleaseError) -> Self {
        Failed::Final(error)
    }
}

impl Client {
    /// Creates a client that trusts the host's authorities. `SSL_CERT_FILE` names others, as for all programs that use
    /// OpenSSL.
    pub fn new(patience: Patience) -> Self {
        let found = rustls_native_certs::load_native_certs();
        let roots: Vec<Certificate<'static>> = found
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(5)
            .timeout_connect(Some(patience.answer))
            .timeout_recv_response(Some(patience.answer))
            .user_agent(concat!("ezz/", env!("CARGO_PKG_VERSION")))
            .build();
        Client {
            agent: config.new_agent(),
            patience,
        }
    }

    /// Fetches a small file.
    ///
    /// # Errors
    /// [`ReleaseError::NotThere`], [`ReleaseError::Fetch`], [`ReleaseError::Interrupted`].
    pub fn text(&self, url: &str, cancel: &Cancel) -> Result<Vec<u8>, ReleaseError> {
        self.tries(url, cancel, || {
            let answer = self.ask(url, 0, cancel)?;
            let mut text = Vec::new();
            self.body(url, answer, cancel, &mut |chunk| {
                text.extend_from_slice(chunk);
                if text.len() as u64 > manifest::MOST {
                    return Err(Failed::Final(fetch_error(url, "it is far too long")));
                }
                Ok(())
            })?;
            Ok(text)
        })
    }

    /// Fetches a large file into `part`; the bytes that are in it already are not fetched again.
    ///
    /// # Errors
    /// Those of [`Client::text`]; [`ReleaseError::File`]. The bytes that have arrived stay in `part`.
    pub fn download(
        &self,
        url: &str,
        part: &Path,
        context: &Context<'_>,
    ) -> Result<(), ReleaseError> {
        let mut shown = false;
        let result = self.tries(url, &context.cancel, || {
            let have = match fs::metadata(part) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                other => other.map_err(file("look at", part))?.len(),
            };
            let answer = self.ask(url, have, &context.cancel)?;
            let mut out = OpenOptions::new()
                .create(true)
                .append(true)
                .open(part)
                .map_err(file("open", part))?;
            let resumed = answer.status() == StatusCode::PARTIAL_CONTENT;
            if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                // The file is complete, or longer than it should be; the digest will show which.
                return Ok(());
            }
            if !resumed {
                out.set_len(0).map_err(file("write", part))?;
            }
            let begun = if resumed { have } else { 0 };
            let rest = answer.body().content_length();
            if !shown {
                let name = url.rsplit('/').next().unwrap_or(url);
                context
                    .progress
                    .start(&format!("fetch {name}"), rest.map(|rest| rest + begun));
                context.progress.advance(begun);
                shown = true;
            }
            let mut came = 0;
            let got = self.body(url, answer, &context.cancel, &mut |chunk| {
                came += chunk.len() as u64;
                context.progress.advance(chunk.len() as u64);
                out.write_all(chunk)
                    .map_err(|e| Failed::Final(file("write", part)(e)))
            });
            match got {
                Ok(()) => out
                    .sync_all()
                    .map_err(|e| Failed::Final(file("write", part)(e))),
                // A download that makes progress is not given up.
                Err(Failed::Again(why)) if came > 0 => Err(Failed::GotOn(why)),
                Err(other) => Err(other),
            }
        });
        if shown {
            context.progress.finish();
        }
        result
    }

    /// Tries until a try succeeds or fails for good, or too many have failed without any progress.
    fn tries<T>(
        &self,
        url: &str,
        cancel: &Cancel,
        mut one: impl FnMut() -> Result<T, Failed>,
    ) -> Result<T, ReleaseError> {
        let mut failed = 0;
        loop {
            let why = match one() {
                Ok(done) => return Ok(done),
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::Again(why)) => why,
                Err(Failed::GotOn(why)) => {
                    failed = 0;
                    why
                }
            };
            failed += 1;
            if failed >= TRIES {
                return Err(fetch_error(url, &format!("{why} ({TRIES} tries)")));
            }
            pause(self.patience.pause * 2_u32.pow(failed - 1), cancel)?;
        }
    }

    fn ask(&self, url: &str, from: u64, cancel: &Cancel) -> Result<Response<Body>, Failed> {
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let answer =
            in_thread(url, cancel, move || request.call())?.map_err(|error| match error {
                ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::TooManyRedirects => {
                    Failed::Final(fetch_error(url, &error.to_string()))
                }
                // A certificate of another server would not become the right one at the next try.
                ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
                    Failed::Final(fetch_error(url, &error.to_string()))
                }
                ureq::Error::Io(ref source) if is_certificate(source) => {
                    Failed::Final(fetch_error(url, &error.to_string()))
                }
                error => Failed::Again(error.to_string()),
            })?;
        let status = answer.status();
        match status {
            StatusCode::OK => Ok(answer),
            StatusCode::PARTIAL_CONTENT if from > 0 && begins_at(&answer, from) => Ok(answer),
            StatusCode::PARTIAL_CONTENT => Err(Failed::Final(fetch_error(
                url,
                "the mirror sent another range than ezz requested",
            ))),
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => Ok(answer),
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                Err(Failed::Final(ReleaseError::NotThere {
                    url: url.to_owned(),
                }))
            }
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Failed::Again(format!("the mirror answered {status}")))
            }
            _ => Err(Failed::Final(fetch_error(
                url,
                &format!("the mirror answered {status}"),
            ))),
        }
    }

    /// Reads the whole answer. A thread reads it, so that the caller waits neither for a mirror that sends nothing nor
    /// after a ctrl-C; the thread ends with its next bytes.
    fn body(
        &self,
        url: &str,
        answer: Response<Body>,
        cancel: &Cancel,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let wanted = answer.body().content_length();
        let mut reader = answer.into_body().into_reader();
        let (sender, receiver) = sync_channel::<io::Result<Vec<u8>>>(4);
        let reads = move || {
            loop {
                let mut chunk = vec![0; CHUNK];
                let read = reader.read(&mut chunk);
                let end = !matches!(read, Ok(count) if count > 0);
                let sent = sender.send(read.map(|count| {
                    chunk.truncate(count);
                    chunk
                }));
                if end || sent.is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("ezz-fetch".to_owned())
            .spawn(reads)
            .map_err(|error| fetch_error(url, &error.to_string()))?;
        let mut came = 0;
        let mut last = Instant::now();
        loop {
            cancel.check().map_err(ReleaseError::from)?;
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(Ok(chunk)) if chunk.is_empty() => break,
                Ok(Ok(chunk)) => {
                    came += chunk.len() as u64;
                    last = Instant::now();
                    take(&chunk)?;
                }
                Ok(Err(error)) => return Err(Failed::Again(error.to_string())),
                Err(RecvTimeoutError::Timeout) if last.elapsed() < self.patience.stalled => {}
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.patience.stalled.as_secs();
                    return Err(Failed::Again(format!("no data arrived for {seconds} s")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failed::Again("the connection was lost".to_owned()));
                }
            }
        }
        match wanted {
            Some(wanted) if wanted != came => Err(Failed::Again(format!(
                "it ended after {came} of {wanted} bytes"
            ))),
            _ => Ok(()),
        }
    }
}

/// Runs something that may wait for a mirror in a thread of its own. A signal abandons that thread.
fn in_thread<T: Send + 'static>(
    url: &str,
    cancel: &Cancel,
    wait: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new()
        .name("ezz-ask".to_owned())
        .spawn(move || {
            // The receiver no longer exists after a signal.
            let _ = sender.send(wait());
        })
        .map_err(|error| fetch_error(url, &error.to_string()))?;
    loop {
        cancel.check().map_err(ReleaseError::from)?;
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failed::Again("the connection was lost".to_owned()));
            }
        }
    }
}

fn fetch_error(url: &str, why: &str) -> ReleaseError {
    ReleaseError::Fetch {
        url: url.to_owned(),
        why: why.to_owned(),
    }
}

/// Whether an error is about a certificate: errors of rustls arrive as I/O errors.
fn is_certificate(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// Whether a partial answer begins where it was asked to: `bytes 5-9/10`.
fn begins_at(answer: &Response<Body>, from: u64) -> bool {
    let range = answer.headers().get("Content-Range");
    let range = range
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let begin = range
        .strip_prefix("bytes ")
        .and_then(|rest| rest.split('-').next());
    begin.and_then(|begin| begin.trim().parse().ok()) == Some(from)
}

fn pause(length: Duration, cancel: &Cancel) -> Result<(), ReleaseError> {
    let until = Instant::now() + length;
    while Instant::now() < until {
        cancel.check()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
