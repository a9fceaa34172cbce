//! The only place that locks: advisory locks of ezz processes against each other.
//!
//! Locks are for convenience, the epoch is for truth. ezz makes a lock file once and never replaces it: two
//! processes that lock different inodes of one name would both have the lock. If someone removes the file, the
//! next process notices and locks the new file. The old holder may still be at work; then the epoch decides. Lock files are close-on-exec, so a child never keeps a lock.

mod holder;
mod starts;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::hint::{self, Hint};
use crate::name::{GenerationId, JailName, TrackName};

pub use holder::Holder;
pub use starts::Start;

/// Where ezz keeps what does not outlive a boot.
pub const RUN_DIRECTORY: &str = if cfg!(target_os = "freebsd") {
    "/var/run/ezz"
} else {
    "/run/ezz"
};

/// How many lock files all jails of a site share: a command may name thousands, and holds each of its lock files open.
/// Half of the 64 files that a process may be limited to are left for its work.
const STRIPES: u64 = 32;

/// How often a waiter looks at a lock, and at whether a signal has come.
const LOOK: Duration = Duration::from_millis(50);

/// After this time a waiter says what it waits for.
const PATIENT: Duration = Duration::from_secs(1);

/// How long a holder may hold on at least that was made to let go.
const AFTER: Duration = Duration::from_secs(30);

/// A lock that could not be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another ezz has it.
    #[error("another ezz is working on {what}{}", named(.holder.as_ref()))]
    Held {
        /// What it works on.
        what: &'static str,
        /// The process that holds the lock, if that is certain.
        holder: Option<Holder>,
    },
    /// A signal asked the command to stop before it had the lock.
    #[error("interrupted{}", .waiting.as_ref().map(|it| format!(" while waiting for {it}")).unwrap_or_default())]
    Interrupted {
        /// What it waited for, if it had to wait.
        waiting: Option<String>,
    },
    /// The file cannot be used.
    #[error("cannot lock {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Hint for LockError {
    fn hint(&self) -> Option<String> {
        match self {
            LockError::Held { holder, .. } => Some(match holder {
                Some(Holder { pid, .. }) => format!(
                    "`ps -o pid,etime,args -p {pid}` shows what it does; --wait SECONDS waits longer"
                ),
                None => "try again, or wait longer with --wait SECONDS".to_owned(),
            }),
            LockError::File { path, source, .. } => hint::file_failed(path, source),
            LockError::Interrupted { .. } => None,
        }
    }
}

fn named(holder: Option<&Holder>) -> String {
    holder.map(|it| format!(": {it}")).unwrap_or_default()
}

/// Locks that are held until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Held(Vec<Flock<File>>);

impl Drop for Held {
    fn drop(&mut self) {
        // This process may live on, and the next holder may fail to overwrite the line.
        self.0.iter().for_each(|file| holder::clear(file));
    }
}

/// How a command waits for locks, and how other commands name it while they wait for it.
#[derive(Clone)]
pub struct Manners {
    /// Whether a signal asked the command to stop.
    pub stop: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Tells the user what the command waits for.
    pub tell: Arc<dyn Fn(&str) + Send + Sync>,
    /// The line that the command writes into the files that it locks.
    line: String,
}

impl Manners {
    /// For a command with this command line, started at that time.
    pub fn new(
        stop: impl Fn() -> bool + Send + Sync + 'static,
        tell: impl Fn(&str) + Send + Sync + 'static,
        command: &str,
        since: &str,
    ) -> Self {
        Manners {
            stop: Arc::new(stop),
            tell: Arc::new(tell),
            line: holder::own_line(command, since),
        }
    }
}

/// Ignores signals, prints nothing, and leaves no name.
impl Default for Manners {
    fn default() -> Self {
        Manners {
            stop: Arc::new(|| false),
            tell: Arc::new(|_| {}),
            line: String::new(),
        }
    }
}

impl fmt::Debug for Manners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manners")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

/// The locks of one site.
#[derive(Debug, Clone)]
pub struct Locks {
    directory: PathBuf,
    id: String,
    wait: Duration,
    manners: Manners,
}

impl Locks {
    /// Locks of the site with this id. A command waits up to `wait` for the locks that it takes at once.
    pub fn new(directory: &Path, id: &str, wait: Duration) -> Self {
        Locks {
            directory: directory.to_owned(),
            id: id.to_owned(),
            wait,
            manners: Manners::default(),
        }
    }

    /// The same locks for a command that signals can stop and that others can name.
    #[must_use]
    pub fn with(self, manners: Manners) -> Self {
        Locks { manners, ..self }
    }

    /// The same locks for steps that finish or undo what the command began: no signal stops them.
    #[must_use]
    pub fn steadfast(&self) -> Self {
        let stop: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(|| false);
        let manners = Manners {
            stop,
            ..self.manners.clone()
        };
        self.clone().with(manners)
    }

    /// Whether a signal asked the command to stop.
    pub fn stop(&self) -> &(dyn Fn() -> bool + Send + Sync) {
        &*self.manners.stop
    }

    /// Waits for something other than a lock.
    ///
    /// # Errors
    /// [`LockError::Interrupted`], at once.
    pub fn pause(&self, length: Duration, waiting: &str) -> Result<(), LockError> {
        let until = Instant::now() + length;
        loop {
            self.going_on(|| Some(waiting.to_owned()))?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    fn going_on(&self, waiting: impl FnOnce() -> Option<String>) -> Result<(), LockError> {
        if (self.manners.stop)() {
            return Err(LockError::Interrupted { waiting: waiting() });
        }
        Ok(())
    }

    /// The line that names this process: what it writes into the files that it locks.
    pub fn line(&self) -> &str {
        &self.manners.line
    }

    /// The run directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// From observation to commit.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn site(&self) -> Result<Held, LockError> {
        self.take(&["site".to_owned()], "this site", None)
    }

    /// While a generation is built.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn stage(&self, generation: GenerationId) -> Result<Held, LockError> {
        self.take(&[format!("stage-{generation}")], "this generation", None)
    }

    /// While a roll-out of this track is carried out. Taken before those of jails.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn rollout(&self, track: &TrackName) -> Result<Held, LockError> {
        self.take(&[format!("rollout-{track}")], "this track's roll-out", None)
    }

    /// Whether nobody builds this generation.
    ///
    /// # Errors
    /// [`LockError::File`].
    pub fn stage_is_free(&self, generation: GenerationId) -> Result<bool, LockError> {
        free(self.at_once().stage(generation))
    }

    /// While jails are made, started, stopped or deleted. Taken before the site's.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn jails<'a>(
        &self,
        names: impl IntoIterator<Item = &'a JailName>,
    ) -> Result<Held, LockError> {
        self.take_jails(names, None)
    }

    fn take_jails<'a>(
        &self,
        names: impl IntoIterator<Item = &'a JailName>,
        meanwhile: Option<Meanwhile<'_>>,
    ) -> Result<Held, LockError> {
        // In the order of the stripes, so that two commands cannot wait for each other.
        let stripes: BTreeSet<u64> = names.into_iter().map(stripe).collect();
        let files: Vec<String> = stripes
            .iter()
            .map(|stripe| format!("jail-{stripe:02}"))
            .collect();
        self.take(&files, "these jails", meanwhile)
    }

    /// Whether no command works on this jail, or on one that shares its lock.
    ///
    /// # Errors
    /// [`LockError::File`].
    pub fn jail_is_free(&self, name: &JailName) -> Result<bool, LockError> {
        free(self.at_once().jails([name]))
    }

    /// To test a lock without waiting. Signals make no difference to that.
    fn at_once(&self) -> Locks {
        Locks {
            wait: Duration::ZERO,
            ..self.steadfast()
        }
    }

    fn take(
        &self,
        files: &[String],
        what: &'static str,
        meanwhile: Option<Meanwhile<'_>>,
    ) -> Result<Held, LockError> {
        let mut wait = Wait::new(what, self.wait, meanwhile);
        let mut held = Held(Vec::with_capacity(files.len()));
        for file in files {
            let path = self.directory.join(format!("{}-{file}.lock", self.id));
            held.0.push(self.lock(&path, &mut wait)?);
        }
        // A signal may have come with the lock: nothing has been read or changed yet.
        self.going_on(|| wait.waited.take())?;
        for file in &held.0 {
            holder::write(file, &self.manners.line);
        }
        Ok(held)
    }

    /// Locks one file as soon as it is free.
    fn lock(&self, path: &Path, wait: &mut Wait<'_>) -> Result<Flock<File>, LockError> {
        let failed = |source| LockError::File {
            path: path.to_owned(),
            source,
        };
        loop {
            let file = self.open(path).map_err(failed)?;
            let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) if is_still(&held, path) => return Ok(held),
                Ok(_removed) => continue,
                Err((file, nix::errno::Errno::EAGAIN)) => file,
                Err((_, errno)) => return Err(failed(io::Error::from(errno))),
            };
            if wait.meanwhile.map_or(Ok(false), |act| act())? {
                // The holder may have more to do.
                wait.begun = Instant::now();
                wait.limit = wait.limit.max(AFTER);
                continue;
            }
            let (waited, what) = (wait.begun.elapsed(), wait.what);
            let holder = holder::read(&mut file);
            if waited >= wait.limit {
                return Err(LockError::Held { what, holder });
            }
            let who = holder.map_or_else(|| "another ezz".to_owned(), |it| it.to_string());
            let waiting = format!("{who} to finish with {what}");
            if waited >= PATIENT && !wait.told {
                wait.told = true;
                (self.manners.tell)(&format!("waiting for {waiting}"));
            }
            wait.waited = Some(waiting);
            self.going_on(|| wait.waited.take())?;
            std::thread::sleep(LOOK.min(wait.limit - waited));
        }
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
        };
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .mode(0o700)
                    .recursive(true)
                    .create(&self.directory)?;
                open()
            }
            other => other,
        }
    }
}

/// What a waiter does that may make the holder let go; whether it has.
type Meanwhile<'a> = &'a dyn Fn() -> Result<bool, LockError>;

/// The wait for one or more files.
struct Wait<'a> {
    begun: Instant,
    /// How long it may take.
    limit: Duration,
    /// What is done at each look at a lock that is held.
    meanwhile: Option<Meanwhile<'a>>,
    /// What the locks protect.
    what: &'static str,
    /// What it waited for, if it had to wait: the words after "waiting for".
    waited: Option<String>,
    /// Whether the user was told.
    told: bool,
}

impl<'a> Wait<'a> {
    fn new(what: &'static str, limit: Duration, meanwhile: Option<Meanwhile<'a>>) -> Self {
        Wait {
            begun: Instant::now(),
            limit,
            meanwhile,
            what,
            waited: None,
            told: false,
        }
    }
}

/// Whether the path still names this open file.
fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(own), Ok(there)) => (own.dev(), own.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn free(taken: Result<Held, LockError>) -> Result<bool, LockError> {
    match taken {
        Ok(_) => Ok(true),
        Err(LockError::Held { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

fn stripe(name: &JailName) -> u64 {
    // FNV-1a: every version of ezz must choose the same file.
    let hash = name
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    hash % STRIPES
}

#[cfg(test)]
mod tests;
