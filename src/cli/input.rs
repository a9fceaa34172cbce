//! Reads standard input so that a signal ends the wait: Rust's own reads restart after a signal.

use std::io::{self, Read};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{CliError, Machine, ThisMachine};
use crate::world::Cancel;

/// The pause between two checks for a signal while waiting for input, in milliseconds.
const LOOK: u16 = 100;

/// The standard input of this process, whatever machine the command works on.
struct Input(Cancel);

impl Input {
    fn new() -> Self {
        Input(ThisMachine.cancel())
    }

    /// Reads the input, and distinguishes an interruption from an error.
    fn read_by<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> io::Result<T>,
        failed: impl Fn(io::Error) -> CliError,
    ) -> Result<T, CliError> {
        read(self).map_err(|error| match self.0.is_cancelled() {
            true => CliError::Interrupted,
            false => failed(error),
        })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stdin = io::stdin();
        loop {
            if self.0.is_cancelled() {
                // `Interrupted` is not used, because readers try again after it.
                return Err(io::Error::other("a signal came"));
            }
            let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(LOOK)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(rustix::io::read(&stdin, buffer)?),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Reads all of standard input, up to `most` bytes.
///
/// # Errors
/// [`CliError::Interrupted`]; otherwise the error that `failed` makes.
pub(super) fn text(most: u64, failed: impl Fn(io::Error) -> CliError) -> Result<String, CliError> {
    let read = |input: &mut Input| {
        let mut text = String::new();
        input.take(most).read_to_string(&mut text)?;
        Ok(text)
    };
    Input::new().read_by(read, failed)
}

/// Reads one line. The end of the input gives an empty line.
///
/// # Errors
/// [`CliError::Interrupted`]; [`CliError::Read`].
pub(super) fn line() -> Result<String, CliError> {
    let read = |input: &mut Input| {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < 256 && input.read(&mut byte)? == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    };
    let failed = |source| CliError::Read {
        path: "standard input".to_owned(),
        source,
    };
    Input::new().read_by(read, failed)
}
