//! Waiting for programs. Nothing here waits without a limit.
//!
//! - [`Exec::run`] and [`Exec::ended`] are for the programs that ezz itself needs: their output is
//!   collected, and both their time and their output have a limit.
//! - [`Watch::over`] is for commands of a profile or an administrator, such as updaters and health commands:
//!   the caller sets the limit, can cancel them, and may log what they print.
//! - [`gone`] is for a child of [`Exec::command`] that should have ended by now.
//!
//! A program that has to go gets SIGKILL, because SIGTERM can be ignored. One that the kernel does
//! not let go, such as `zfs` on a suspended pool, is left behind and named in the error: to wait
//! for it would hang ezz as well.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use super::{Exec, ExecError, Output, STDERR_TAIL};

/// How often ezz looks whether a program that it watches has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How often it is asked whether a program whose output is collected is to be killed.
const ASK: Duration = Duration::from_millis(50);

/// How long a killed program may take to be gone, and its last words to arrive.
pub const GONE: Duration = Duration::from_secs(5);

/// How much of what a program prints to one stream goes into its log, in bytes; then its last words.
const LOG_MAX: u64 = 4 << 20;

/// How many pieces of output may wait to be collected: a program that floods its output is held up.
const PIECES: usize = 16;

/// How a program ended whose output was collected.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Whether that is all: something that it left behind may keep its output open.
    pub whole: bool,
}

/// What the threads that wait for a program have to say.
enum Event {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Closed,
    Exited,
}

/// Why a program was killed.
enum Fault {
    Late,
    Flood,
    Stopped,
}

impl Exec {
    /// Runs it with no standard input and waits; a non-zero exit is an error.
    ///
    /// # Errors
    /// [`ExecError`].
    pub fn run(&self) -> Result<Output, ExecError> {
        let ended = self.ended()?;
        if !ended.status.success() {
            return Err(self.failed(ended.status, &ended.stderr));
        }
        if !ended.whole {
            return Err(ExecError::Open {
                command: self.shown(),
            });
        }
        Ok(Output {
            stdout: ended.stdout,
        })
    }

    /// Runs it with no standard input and waits, however it ends. It is killed when it exceeds its
    /// limits.
    ///
    /// # Errors
    /// [`ExecError::Start`], [`ExecError::TimedOut`], [`ExecError::Flooded`].
    pub fn ended(&self) -> Result<Ended, ExecError> {
        self.ended_unless(&|| false)
    }

    /// The same, of a program that is killed as soon as `stop`, which is asked again and again, says so.
    ///
    /// # Errors
    /// As [`Exec::ended`]; [`ExecError::Stopped`].
    pub fn ended_unless(&self, stop: &dyn Fn() -> bool) -> Result<Ended, ExecError> {
        let failed = |source| ExecError::Start {
            command: self.shown(),
            source,
        };
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let fault = match self.collect(&mut child, stop) {
            Ok(Ok(ended)) => return Ok(ended),
            Ok(Err(fault)) => Ok(fault),
            Err(error) => Err(error),
        };
        Self::kill(Pid::from_child(&child));
        let left = gone(&mut child, GONE).map_err(failed)?.is_none();
        let left = left.then(|| child.id());
        Err(match fault.map_err(failed)? {
            Fault::Late => ExecError::TimedOut {
                command: self.shown(),
                seconds: self.limit.as_secs(),
                left,
            },
            Fault::Flood => ExecError::Flooded {
                command: self.shown(),
                bytes: self.most,
                left,
            },
            Fault::Stopped => ExecError::Stopped {
                command: self.shown(),
                left,
            },
        })
    }

    /// The error for an exit status that the caller did not want.
    pub fn failed(&self, status: ExitStatus, stderr: &[u8]) -> ExecError {
        let tail = &stderr[stderr.len().saturating_sub(STDERR_TAIL)..];
        ExecError::Failed {
            command: self.shown(),
            status,
            stderr: String::from_utf8_lossy(tail).trim().replace('\n', "; "),
        }
    }

    /// Runs it with no standard input, and kills it if it is to end and does not.
    ///
    /// # Errors
    /// [`ExecError::Start`].
    pub fn watched(&self, watch: Watch<'_>) -> Result<Watched, ExecError> {
        let run = || {
            let mut child = self
                .command()
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let id = Pid::from_child(&child);
            watch.over(&mut child, || Self::kill(id))
        };
        run().map_err(|source| ExecError::Start {
            command: self.shown(),
            source,
        })
    }

    /// Kills the program, which has not been waited for, with its process group.
    fn kill(id: Pid) {
        // Either may fail because it has ended just now.
        let _ = kill_process_group(id, Signal::KILL);
        let _ = kill_process(id, Signal::KILL);
    }

    fn collect(
        &self,
        child: &mut Child,
        stop: &dyn Fn() -> bool,
    ) -> io::Result<Result<Ended, Fault>> {
        let (events, hears) = mpsc::sync_channel(PIECES);
        let mut open = 0;
        if let Some(pipe) = child.stdout.take() {
            read(pipe, Event::Stdout, events.clone())?;
            open += 1;
        }
        if let Some(pipe) = child.stderr.take() {
            read(pipe, Event::Stderr, events.clone())?;
            open += 1;
        }
        let id = Pid::from_child(child);
        thread("wait", move || {
            // It stays a zombie until its owner reaps it, so that ezz cannot kill another process by
            // its number.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(id), options) {}
            let _ = events.send(Event::Exited);
        })?;
        let begun = Instant::now();
        let (mut stdout, mut stderr, mut exited) = (Vec::new(), Vec::new(), false);
        while open > 0 || !exited {
            let left = self.limit.saturating_sub(begun.elapsed());
            let wait = match exited {
                true => left.min(GONE),
                false if stop() => return Ok(Err(Fault::Stopped)),
                false => left.min(ASK),
            };
            match hears.recv_timeout(wait) {
                Ok(Event::Stdout(more)) => stdout.extend(more),
                Ok(Event::Stderr(more)) => stderr.extend(more),
                Ok(Event::Closed) => open -= 1,
                Ok(Event::Exited) => exited = true,
                Err(_) if exited => break,
                Err(RecvTimeoutError::Timeout) if left > wait => {}
                Err(RecvTimeoutError::Timeout) => return Ok(Err(Fault::Late)),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if stdout.len() + stderr.len() > self.most {
                return Ok(Err(Fault::Flood));
            }
        }
        let Some(status) = gone(child, GONE)? else {
            return Ok(Err(Fault::Late));
        };
        Ok(Ok(Ended {
            status,
            stdout,
            stderr,
            whole: open == 0,
        }))
    }
}

/// Reads a pipe until it ends or the receiver is gone.
fn read(
    mut pipe: impl Read + Send + 'static,
    event: impl Fn(Vec<u8>) -> Event + Send + 'static,
    events: SyncSender<Event>,
) -> io::Result<()> {
    thread("read", move || {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match pipe.read(&mut buffer) {
                Ok(count @ 1..) => {
                    if events.send(event(buffer[..count].to_vec())).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        let _ = events.send(Event::Closed);
    })
}

/// Starts a thread without joining it, because the event that it waits for may never come.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map(drop)
}

/// Waits until a child has ended, but no longer than this; none if it has not.
///
/// # Errors
/// The system's.
pub fn gone(child: &mut Child, time: Duration) -> io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        let status = child.try_wait()?;
        if status.is_some() || begun.elapsed() >= time {
            return Ok(status);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK);
    }
}

/// How a program is waited for that prints into pipes.
pub struct Watch<'a> {
    /// How long it may run.
    pub limit: Duration,
    /// Whether it is to be stopped before that; asked again and again.
    pub stop: &'a dyn Fn() -> bool,
    /// Where what it prints goes: of each stream the first 4 MiB, and its last words.
    pub log: Option<File>,
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// How a watched program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its status; none if it had to be killed.
    pub status: Option<ExitStatus>,
    /// The tail of what it printed.
    pub said: String,
}

impl Watch<'_> {
    /// Waits for it. `kill` is called once if it is to end and does not; if that does not help, the
    /// child itself is killed.
    ///
    /// # Errors
    /// The program cannot be waited for, or its log not be written.
    pub fn over(self, child: &mut Child, kill: impl FnOnce()) -> io::Result<Watched> {
        let (said, hears) = mpsc::channel();
        let mut pipes: Vec<Box<dyn Read + Send>> = Vec::new();
        pipes.extend(child.stdout.take().map(|pipe| Box::new(pipe) as _));
        pipes.extend(child.stderr.take().map(|pipe| Box::new(pipe) as _));
        for pipe in pipes {
            let said = said.clone();
            let log = self.log.as_ref().map(File::try_clone).transpose()?;
            // Not waited for: something that the program left behind may keep the pipe open.
            std::thread::spawn(move || {
                // A receiver that is gone has no more use for it.
                let _ = said.send(tail(pipe, log));
            });
        }
        drop(said);
        let begun = Instant::now();
        let mut status = None;
        while status.is_none() && begun.elapsed() < self.limit && !(self.stop)() {
            status = child.try_wait()?;
            if status.is_none() {
                std::thread::sleep(LOOK);
            }
        }
        if status.is_none() {
            kill();
            if gone(child, GONE)?.is_none() {
                child.kill()?;
                // One that does not end now is not waited for; what clears up after it says so.
                let _ = gone(child, GONE)?;
            }
        }
        let mut words = Vec::new();
        while let Ok(more) = hears.recv_timeout(GONE) {
            words.extend(more?);
        }
        let said = String::from_utf8_lossy(&words).trim().to_owned();
        Ok(Watched { status, said })
    }
}

/// The last bytes of a stream, read to its end; all of them go into the log first.
fn tail(mut stream: impl Read, mut log: Option<File>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let (mut printed, mut logged) = (0, 0);
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let new = &buffer[..count];
        if let Some(log) = log.as_mut().filter(|_| printed < LOG_MAX) {
            log.write_all(new)?;
            logged += count as u64;
        }
        printed += count as u64;
        kept.extend_from_slice(new);
        let old = kept.len().saturating_sub(STDERR_TAIL);
        kept.drain(..old);
    }
    // What a program says last tells why it failed.
    let left = printed.saturating_sub(logged + kept.len() as u64);
    if let Some(log) = log.as_mut().filter(|_| left > 0) {
        log.write_all(format!("\n[{left} bytes are left out]\n").as_bytes())?;
        log.write_all(&kept)?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests;
