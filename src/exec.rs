//! The only place that starts a process.
//!
//! Programs are found in a fixed list of directories, never by the caller's `PATH`; the
//! environment is cleared, the working directory is `/`, descriptors are close-on-exec (as all
//! of Rust's are). Every error names the program *and* its arguments. No decision is taken here:
//! a non-zero exit is reported, the caller knows what it means. [`wait`] has how ezz waits for
//! programs, and with which limits.

pub mod signals;
pub mod wait;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use thiserror::Error;

use signals::Caught;

use crate::hint::{self, Hint};
use crate::profile::Os;
pub use wait::{Ended, GONE, Watch, Watched, gone};

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

/// How long a program may run for which the caller sets no other limit. Most such programs take
/// milliseconds; a machine that is starved of memory or processors may need many seconds for them.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How many bytes such a program may print.
const MOST: usize = 16 << 20;

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
    /// It exceeded its time.
    #[error("{command} did not end within {seconds} s{}", killed(*left))]
    TimedOut {
        /// Program and arguments.
        command: Shown,
        /// Its limit.
        seconds: u64,
        /// The number of its process, if that is still there although it was killed.
        left: Option<u32>,
    },
    /// It was killed, since whoever had started it wanted no more of it.
    #[error("{command} was interrupted before it finished{}", .left.map(|pid| format!(", but its process {pid} is still running")).unwrap_or_default())]
    Stopped {
        /// Program and arguments.
        command: Shown,
        /// The number of its process, if that is still there although it was killed.
        left: Option<u32>,
    },
    /// It printed more than ezz collects.
    #[error("{command} printed more than {bytes} bytes{}", killed(*left))]
    Flooded {
        /// Program and arguments.
        command: Shown,
        /// Its limit.
        bytes: usize,
        /// The number of its process, if that is still there although it was killed.
        left: Option<u32>,
    },
    /// It succeeded, and whether all of its output has come cannot be told.
    #[error("{command} has exited, but a process that it started keeps its output open")]
    Open {
        /// Program and arguments.
        command: Shown,
    },
}

impl Hint for ExecError {
    fn hint(&self) -> Option<String> {
        match self {
        ExecError::NotFound(program) => Some(hint::missing_program(
            Os::THIS,
            &format!("install the package that has {program}"),
        )),
        ExecError::TimedOut {
            left: Some(pid), ..
        } => Some(format!(
            "`ps -o pid,stat,wchan,args -p {pid}` shows what it waits for; run the command again when it has exited"
        )),
        ExecError::TimedOut { left: None, .. } => Some(
            "run the command again; if that does not help, `ezz doctor` checks what the host has"
                .to_owned(),
        ),
        ExecError::Failed { .. }
        | ExecError::Start { .. }
        | ExecError::Flooded { .. }
        | ExecError::Stopped { .. }
        | ExecError::Open { .. } => None,
        }
    }
}

impl ExecError {
    /// Whether the program was killed because it exceeded its time.
    pub fn timed_out(&self) -> bool {
        matches!(self, ExecError::TimedOut { .. })
    }
}

fn killed(left: Option<u32>) -> String {
    match left {
        None => " and was killed".to_owned(),
        Some(pid) => format!(" and was killed, but its process {pid} is still running"),
    }
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
    limit: Duration,
    most: usize,
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
            limit: LIMIT,
            most: MOST,
        }
    }

    /// Sets how long it may run, instead of [`LIMIT`].
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets how many bytes it may print, instead of 16 MiB.
    #[must_use]
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.most = bytes;
        self
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

    /// The prepared command, for callers that need its pipes or descriptors. They have to wait for
    /// it with a limit of their own: by [`Watch::over`] or [`gone`]. It has a process group of its own: Ctrl-C at the
    /// terminal is for ezz, which finishes or undoes what it began.
    pub fn command(&self) -> Command {
        let mut command = self.prepared();
        command.process_group(0);
        command
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this module is the only one that may"
    )]
    fn prepared(&self) -> Command {
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

    /// Runs it on the caller's own terminal and waits for its exit status. Signals to ezz are passed on to it.
    /// It has no limit: this is for commands that the administrator runs on purpose (`ezz exec`,
    /// `ezz console`), and can interrupt.
    ///
    /// # Errors
    /// [`ExecError::Start`].
    pub fn interactive(&self) -> Result<ExitStatus, ExecError> {
        let run = || -> io::Result<ExitStatus> {
            let caught = Caught::new(io::stdin().is_terminal())?;
            caught.until_ended(&mut self.prepared().spawn()?)
        };
        run().map_err(|source| ExecError::Start {
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

    /// A terminal sends Ctrl-C to all of its foreground group: to ezz, and not to what ezz has begun.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_has_a_process_group_of_its_own() {
        let script = "read -r pid _ _ _ group _ </proc/$$/stat; echo $((pid - group))";
        let shell = Exec::new("sh").expect("every host has sh");
        let output = shell.args(["-c", script]).run().expect("it succeeds");
        assert_eq!(output.stdout, b"0\n");
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
