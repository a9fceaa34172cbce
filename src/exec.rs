//! The only place that starts a process.
//!
//! Programs are found in a fixed list of directories, never by the caller's `PATH`; the
//! environment is cleared, the working directory is `/`, descriptors are close-on-exec (as all
//! of Rust's are). Every error names the program *and* its arguments. No decision is taken here:
//! a non-zero exit is reported, the caller knows what it means.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

/// Where programs are looked for, in this order.
pub const DIRECTORIES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// How much of a failed program's standard error is kept, in bytes.
const STDERR_TAIL: usize = 4096;

/// A program that could not be run, or failed.
#[derive(Debug, Error)]
pub enum ExecError {
    /// It is in none of [`DIRECTORIES`].
    #[error("the program {0} is not installed")]
    NotFound(String),
    /// The system would not start it.
    #[error("cannot run {command}")]
    Start {
        /// Program and arguments.
        command: Shown,
        /// Why not.
        source: io::Error,
    },
    /// It ran and failed.
    #[error("{command} failed: {status}{}{stderr}", if stderr.is_empty() { "" } else { ": " })]
    Failed {
        /// Program and arguments.
        command: Shown,
        /// How it ended.
        status: ExitStatus,
        /// The tail of its standard error.
        stderr: String,
    },
}

/// A command line, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(Vec<OsString>);

/// More words of a command line are not shown.
const SHOWN: usize = 40;

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().take(SHOWN).enumerate() {
            let space = if index == 0 { "" } else { " " };
            let text = word.to_string_lossy();
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@=,+%".contains(&b);
            if !text.is_empty() && text.bytes().all(plain) {
                write!(f, "{space}{text}")?;
            } else {
                write!(f, "{space}{text:?}")?;
            }
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// The absolute path of a program.
///
/// # Errors
/// [`ExecError::NotFound`].
pub fn find(program: &str) -> Result<PathBuf, ExecError> {
    DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| ExecError::NotFound(program.to_owned()))
}

/// A program to run, with its arguments.
#[derive(Debug)]
pub struct Exec {
    words: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

/// What a program that succeeded printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Standard output, byte for byte.
    pub stdout: Vec<u8>,
}

impl Exec {
    /// A program by name; it is looked for in [`DIRECTORIES`].
    ///
    /// # Errors
    /// [`ExecError::NotFound`].
    pub fn new(program: &str) -> Result<Self, ExecError> {
        Ok(Exec::at(&find(program)?))
    }

    /// A program by its absolute path.
    pub fn at(program: &Path) -> Self {
        Exec {
            words: vec![program.as_os_str().to_owned()],
            environment: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.words.push(word.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.words
            .extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Sets a variable in the otherwise empty environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The command line, for messages and tests.
    pub fn shown(&self) -> Shown {
        Shown(self.words.clone())
    }

    /// The words, program first.
    pub fn words(&self) -> &[OsString] {
        &self.words
    }

    /// The prepared command, for callers that need its pipes or descriptors.
    #[expect(
        clippy::disallowed_methods,
        reason = "this module is the only one that may"
    )]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command
            .args(&self.words[1..])
            .env_clear()
            .env("PATH", DIRECTORIES.join(":"))
            .env("LC_ALL", "C")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/");
        // The loader's path is kept: it is how a private OpenZFS userland is brought in.
        for name in ["LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// Runs it with no standard input and waits; a non-zero exit is an error.
    ///
    /// # Errors
    /// [`ExecError::Start`], [`ExecError::Failed`].
    pub fn run(&self) -> Result<Output, ExecError> {
        let output = self
            .command()
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ExecError::Start {
                command: self.shown(),
                source,
            })?;
        if output.status.success() {
            return Ok(Output {
                stdout: output.stdout,
            });
        }
        let stderr = &output.stderr[output.stderr.len().saturating_sub(STDERR_TAIL)..];
        Err(ExecError::Failed {
            command: self.shown(),
            status: output.status,
            stderr: String::from_utf8_lossy(stderr).trim().replace('\n', "; "),
        })
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
            watch.over(&mut child, || {
                // It may have ended just now.
                let _ = kill_process(id, Signal::KILL);
            })
        };
        run().map_err(|source| ExecError::Start {
            command: self.shown(),
            source,
        })
    }

    /// Runs it on the caller's own terminal and waits for its exit status.
    ///
    /// # Errors
    /// [`ExecError::Start`].
    pub fn interactive(&self) -> Result<ExitStatus, ExecError> {
        self.command().status().map_err(|source| ExecError::Start {
            command: self.shown(),
            source,
        })
    }
}

/// The exit code of a process as a shell tells it: 128 and the signal if one ended it.
pub fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// How often it is looked whether a program has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long a killed program may take to be gone, and its last words to arrive.
const GONE: Duration = Duration::from_secs(5);

/// How much of what a program prints goes into its log, in bytes.
const LOG_MAX: u64 = 64 << 20;

/// How a program is waited for that prints into pipes.
pub struct Watch<'a> {
    /// How long it may run.
    pub limit: Duration,
    /// Whether it is to be stopped before that; asked again and again.
    pub stop: &'a dyn Fn() -> bool,
    /// Where what it prints goes; the first 64 MiB of it.
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
    /// Waits for it. `kill` is called once if it is to end and does not.
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
            let killed = Instant::now();
            while child.try_wait()?.is_none() {
                if killed.elapsed() > GONE {
                    child.kill()?;
                    child.wait()?;
                    break;
                }
                std::thread::sleep(LOOK);
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
    let mut logged = 0;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let new = &buffer[..count];
        if let Some(log) = log.as_mut().filter(|_| logged < LOG_MAX) {
            log.write_all(new)?;
            logged += count as u64;
        }
        kept.extend_from_slice(new);
        let old = kept.len().saturating_sub(STDERR_TAIL);
        kept.drain(..old);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_program_arguments_and_stderr() {
        let error = Exec::new("sh")
            .expect("every host has sh")
            .args(["-c", "echo 'no such thing' >&2; exit 3"])
            .run()
            .expect_err("it exits 3");
        let text = error.to_string();
        assert!(text.contains("/sh -c \"echo"), "{text}");
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("no such thing"), "{text}");
    }

    #[test]
    fn a_program_is_watched_and_its_last_words_kept() {
        let run = |script: &str, limit| {
            let watch = Watch {
                limit,
                stop: &|| false,
                log: None,
            };
            let exec = Exec::new("sh").expect("every host has sh");
            let ended = exec.args(["-c", script]).watched(watch).expect("it starts");
            (ended.status, ended.said)
        };
        let long = Duration::from_secs(60);
        let (status, words) = run("echo out; echo err >&2; exit 7", long);
        assert_eq!(status.and_then(|status| status.code()), Some(7));
        assert!(words.contains("out") && words.contains("err"), "{words}");
        let (status, words) = run("seq 100000; exit 0", long);
        assert!(status.is_some_and(|status| status.success()));
        assert!(words.ends_with("99999\n100000"), "{}", words.len());
        assert!(words.len() <= STDERR_TAIL);
        let (status, _) = run("exec sleep 100", Duration::from_millis(100));
        assert_eq!(status, None);
    }

    #[test]
    fn the_environment_is_cleared() {
        let output = Exec::new("env")
            .expect("every host has env")
            .run()
            .expect("env succeeds");
        let text = String::from_utf8(output.stdout).expect("text");
        let mut names: Vec<_> = text.lines().filter_map(|l| l.split('=').next()).collect();
        names.sort_unstable();
        names.retain(|name| *name != "LD_LIBRARY_PATH");
        assert_eq!(names, ["LC_ALL", "PATH"]);
    }
}
