//! Compares texts of jails in a process of ezz that has no other rights: it is confined, its time is limited, and a
//! signal to the command ends it.
//!
//! The command reads the bytes, since that needs root; the process interprets them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{OFlags, fcntl_setfl};

use crate::confine::confine;
use crate::exec::{Exec, GONE, gone};
use crate::report::Exit;
use crate::world::text::{Answer, Request, Texts, answer, frames};
use crate::world::{Cancel, WorldError};

/// The argument that makes a process of ezz answer requests instead of running a command.
pub(super) const WORD: &str = "--text-worker";

/// The text that the process writes when it is confined.
const READY: &str = "ready\n";

/// The time limit of one answer. The work is bounded, and takes at most a second or two on any machine; the limit is
/// for a process that does not work as it should.
const LIMIT: Duration = Duration::from_secs(60);

/// The pause between two checks for an interruption, in milliseconds.
const LOOK: u8 = 100;

/// Asks a confined process, which is started for the first request.
#[derive(Debug)]
pub(super) struct Worker {
    program: Exec,
    limit: Duration,
    running: Option<Running>,
}

impl Worker {
    /// Makes a worker that runs this program.
    pub(super) fn new() -> Self {
        Worker::of(Exec::at(&this_program()).arg(WORD), LIMIT)
    }

    fn of(program: Exec, limit: Duration) -> Self {
        Worker {
            program,
            limit,
            running: None,
        }
    }
}

/// Returns the path of this program; on Linux that of the running file, also after an upgrade has replaced it.
fn this_program() -> PathBuf {
    if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        // If the system does not know the path, the start fails with an error that names the program.
        std::env::current_exe().unwrap_or_else(|_| PathBuf::from("ezz"))
    }
}

impl Texts for Worker {
    fn answer(&mut self, request: &Request<'_>, cancel: &Cancel) -> Result<Answer, WorldError> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.program, self.limit, cancel)?,
        };
        let answered = running.ask(&frames::request(request), self.limit, cancel, |bytes| {
            frames::answer(bytes)
        });
        // A process that was interrupted from the terminal ends before the command does.
        cancel.check()?;
        Ok(match answered {
            Some(answer) => {
                self.running = Some(running);
                answer
            }
            None => Answer::NoAnswer,
        })
    }
}

/// The process, which is killed when this is dropped.
#[derive(Debug)]
struct Running {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself. A killed process ends at once and leaves nothing.
        let _ = self.child.kill();
        let _ = gone(&mut self.child, GONE);
    }
}

impl Running {
    fn start(program: &Exec, limit: Duration, cancel: &Cancel) -> Result<Self, WorldError> {
        let failed = |why: String| WorldError::Worker(format!("{}: {why}", program.shown()));
        let spawn = || -> io::Result<Running> {
            let mut child = program
                .command()
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()?;
            let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            let running = Running { child, to, from };
            fcntl_setfl(&running.to, OFlags::NONBLOCK)?;
            fcntl_setfl(&running.from, OFlags::NONBLOCK)?;
            Ok(running)
        };
        let mut running = spawn().map_err(|error| failed(error.to_string()))?;
        let mut said = String::new();
        let ready = running.ask(&[], limit, cancel, |bytes| {
            said = String::from_utf8_lossy(bytes).into_owned();
            Ok(said.ends_with('\n').then(|| said == READY))
        });
        cancel.check()?;
        match ready {
            Some(true) => Ok(running),
            Some(false) => Err(failed(said.trim_end().to_owned())),
            None => Err(failed("it ended, or did not answer".to_owned())),
        }
    }

    /// Writes bytes, and reads until the answer is complete; returns `None` if no answer will come.
    fn ask<T>(
        &mut self,
        bytes: &[u8],
        limit: Duration,
        cancel: &Cancel,
        mut whole: impl FnMut(&[u8]) -> io::Result<Option<T>>,
    ) -> Option<T> {
        let begun = Instant::now();
        let mut rest = bytes;
        let mut came = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while begun.elapsed() < limit && !cancel.is_cancelled() {
            let mut fds = vec![PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            if !rest.is_empty() {
                fds.push(PollFd::new(self.to.as_fd(), PollFlags::POLLOUT));
            }
            match poll(&mut fds, PollTimeout::from(LOOK)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
            let waits = |e: &io::Error| {
                matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                )
            };
            match self.to.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(e) if waits(&e) => {}
                Err(_) => return None,
            }
            match self.from.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => came.extend_from_slice(&buffer[..count]),
                Err(e) if waits(&e) => continue,
                Err(_) => return None,
            }
            match whole(&came) {
                Ok(Some(answer)) => return Some(answer),
                Ok(None) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

/// Answers requests on the standard streams, confined, until the input ends.
pub(super) fn serve() -> Exit {
    let streams = || -> io::Result<(File, File)> {
        let (from, to) = (io::stdin(), io::stdout());
        let (from, to) = (from.as_fd(), to.as_fd());
        Ok((
            from.try_clone_to_owned()?.into(),
            to.try_clone_to_owned()?.into(),
        ))
    };
    let Ok((mut from, mut to)) = streams() else {
        return Exit::Failed;
    };
    let confined = confine();
    let line = match &confined {
        Ok(()) => READY.to_owned(),
        Err(error) => format!("{error}\n"),
    };
    if to.write_all(line.as_bytes()).is_err() || confined.is_err() {
        return Exit::Failed;
    }
    let mut work = || -> io::Result<()> {
        while let Some(asked) = frames::read_request(&mut from)? {
            frames::write_answer(&mut to, &answer(&asked.request()?))?;
        }
        Ok(())
    };
    match work() {
        Ok(()) => Exit::Done,
        Err(_) => Exit::Failed,
    }
}

/// Whether the first argument asks for [`serve`].
pub(super) fn is_asked(argument: Option<&OsStr>) -> bool {
    argument.is_some_and(|argument| argument == WORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request<'static> = Request::Patch { old: "", new: "" };

    fn worker(script: &str, limit: Duration) -> Worker {
        let sh = Exec::new("sh").expect("every host has sh");
        Worker::of(sh.args(["-c", script]), limit)
    }

    fn asked(script: &str) -> Result<Answer, WorldError> {
        worker(script, Duration::from_millis(500)).answer(&REQUEST, &Cancel::default())
    }

    #[test]
    fn a_process_that_does_not_answer_is_given_up() {
        for script in [
            "echo ready; exec sleep 100",
            "echo ready",
            "echo ready; read x; printf T; exec sleep 100",
            "echo ready; head -c 1 >/dev/null; printf X; exec sleep 100",
            "echo ready; head -c 1 >/dev/null; yes C",
        ] {
            let begun = Instant::now();
            assert!(matches!(asked(script), Ok(Answer::NoAnswer)), "{script}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{script}");
        }
        let answer = asked("echo ready; head -c 1 >/dev/null; printf C; exec sleep 100");
        assert!(matches!(answer, Ok(Answer::Conflict)), "{answer:?}");
    }

    #[test]
    fn one_that_could_not_be_confined_is_an_error() {
        for (script, why) in [
            ("echo 'cannot use landlock: no'", "cannot use landlock: no"),
            ("exit 3", "it ended, or did not answer"),
            ("exec sleep 100", "it ended, or did not answer"),
        ] {
            let error = asked(script).expect_err(script).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn an_interrupt_ends_it() {
        let cancel = Cancel::default();
        let mut worker = worker("echo ready; exec sleep 100", Duration::from_secs(100));
        let other = cancel.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            other.cancel();
        });
        let begun = Instant::now();
        let answer = worker.answer(&REQUEST, &cancel);
        assert!(matches!(answer, Err(WorldError::Interrupted)), "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
