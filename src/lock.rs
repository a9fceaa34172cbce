//! The only place that locks: advisory locks of ezz processes against each other.
//!
//! Locks are for convenience, the epoch is for truth. Files are made once and never replaced:
//! two processes that lock different inodes of one name would both have it. They are
//! close-on-exec, so a child never keeps one.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::name::{GenerationId, JailName, TrackName};

/// Where ezz keeps what does not outlive a boot.
pub const RUN_DIRECTORY: &str = if cfg!(target_os = "freebsd") {
    "/var/run/ezz"
} else {
    "/run/ezz"
};

/// How many lock files all jails of a site share: a command may name thousands.
const STRIPES: u64 = 64;

/// A lock that could not be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another ezz has it.
    #[error("another ezz is working on {0}")]
    Held(String),
    /// The file cannot be used.
    #[error("cannot lock {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Locks that are held until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Held(#[expect(dead_code, reason = "held for its drop")] Vec<Flock<File>>);

/// The locks of one site.
#[derive(Debug, Clone)]
pub struct Locks {
    directory: PathBuf,
    id: String,
    wait: Duration,
}

impl Locks {
    /// Locks of the site with this id; each is waited for that long.
    pub fn new(directory: &Path, id: &str, wait: Duration) -> Self {
        Locks {
            directory: directory.to_owned(),
            id: id.to_owned(),
            wait,
        }
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
        self.take(&["site".to_owned()], "this site")
    }

    /// While a generation is built.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn stage(&self, generation: GenerationId) -> Result<Held, LockError> {
        self.take(&[format!("stage-{generation}")], "this generation")
    }

    /// While a roll-out of this track is carried out. Taken before those of jails.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn rollout(&self, track: &TrackName) -> Result<Held, LockError> {
        self.take(&[format!("rollout-{track}")], "this track's roll-out")
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
        // In the order of the stripes, so that two commands cannot wait for each other.
        let stripes: BTreeSet<u64> = names.into_iter().map(stripe).collect();
        let files: Vec<String> = stripes
            .iter()
            .map(|stripe| format!("jail-{stripe:02}"))
            .collect();
        self.take(&files, "these jails")
    }

    /// Whether no command works on this jail, or on one that shares its lock.
    ///
    /// # Errors
    /// [`LockError::File`].
    pub fn jail_is_free(&self, name: &JailName) -> Result<bool, LockError> {
        free(self.at_once().jails([name]))
    }

    fn at_once(&self) -> Locks {
        Locks {
            wait: Duration::ZERO,
            ..self.clone()
        }
    }

    fn take(&self, files: &[String], what: &str) -> Result<Held, LockError> {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&self.directory)
            .map_err(|source| LockError::File {
                path: self.directory.clone(),
                source,
            })?;
        let deadline = Instant::now() + self.wait;
        let mut held = Vec::with_capacity(files.len());
        for file in files {
            let path = self.directory.join(format!("{}-{file}.lock", self.id));
            held.push(lock(&path, deadline, what)?);
        }
        Ok(Held(held))
    }
}

fn free(taken: Result<Held, LockError>) -> Result<bool, LockError> {
    match taken {
        Ok(_) => Ok(true),
        Err(LockError::Held(_)) => Ok(false),
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

fn lock(path: &Path, deadline: Instant, what: &str) -> Result<Flock<File>, LockError> {
    let failed = |source| LockError::File {
        path: path.to_owned(),
        source,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((file, nix::errno::Errno::EAGAIN)) => file,
            Err((_, errno)) => return Err(failed(io::Error::from(errno))),
        };
        if Instant::now() >= deadline {
            return Err(LockError::Held(what.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_waits_and_gives_up() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let locks = Locks::new(directory.path(), "id", Duration::from_millis(120));
        let held = locks.site().expect("free");
        assert!(matches!(locks.site(), Err(LockError::Held(_))));
        drop(held);
        let _again = locks.site().expect("free again");
    }

    #[test]
    fn many_jails_need_few_files() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let locks = Locks::new(directory.path(), "id", Duration::ZERO);
        let names: Vec<JailName> = (0..2000)
            .map(|n| JailName::parse(&format!("j{n}")).expect("valid"))
            .collect();
        let _held = locks.jails(&names).expect("free");
        let files = std::fs::read_dir(directory.path())
            .expect("readable")
            .count();
        assert!(files as u64 <= STRIPES, "{files}");
    }
}
