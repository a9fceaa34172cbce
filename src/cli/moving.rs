//! Jails between their stop and their start in another basejail. If the command that moves them is killed there, or
//! fails, they stay down. A file for each, the mark, says that they were not meant to: the next `converge` or roll-out
//! starts them, and `doctor` names them. A mark goes with the next start, stop or delete of its jail, which says what
//! the jail is to be from then on.
//!
//! After a boot nothing runs, and what starts then starts all: the marks are in /run.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{CliError, Context};
use crate::lock::Holder;
use crate::name::JailName;
use crate::session::Session;

/// How often a mark is made, if another command removes the directory that it is in.
const TRIES: u32 = 10;

/// The jails of one site that are being moved.
#[derive(Debug)]
pub(super) struct Moving {
    directory: PathBuf,
    /// What a mark says: who has made it.
    line: String,
}

impl Moving {
    /// Those of a site, for a command.
    pub(super) fn of(context: &Context<'_>, session: &Session) -> Self {
        Moving::at(context.machine.run_directory(), session)
    }

    /// The same, for who only looks.
    pub(super) fn at(run: &Path, session: &Session) -> Self {
        let id = session.id.chars();
        let id: String = id
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        Moving {
            directory: run.join(format!("{id}-moving")),
            line: session.locks.line().to_owned(),
        }
    }

    /// Which they are.
    ///
    /// # Errors
    /// [`CliError::Write`].
    pub(super) fn names(&self) -> Result<BTreeSet<JailName>, CliError> {
        let failed = failed(&self.directory);
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(&failed)?.file_name();
            names.extend(name.to_str().and_then(|name| JailName::parse(name).ok()));
        }
        Ok(names)
    }

    /// Those that nobody moves any more.
    ///
    /// # Errors
    /// [`CliError::Write`].
    pub(super) fn abandoned(&self) -> Result<BTreeSet<JailName>, CliError> {
        let mut names = self.names()?;
        names.retain(|name| {
            let line = fs::read_to_string(self.mark(name)).unwrap_or_default();
            Holder::at_work(&line).is_none()
        });
        Ok(names)
    }

    /// A jail is going to be stopped and started.
    ///
    /// # Errors
    /// [`CliError::Write`].
    pub(super) fn add(&self, jail: &JailName) -> Result<(), CliError> {
        let file = self.mark(jail);
        let mut tries = 1;
        loop {
            DirBuilder::new()
                .mode(0o700)
                .recursive(true)
                .create(&self.directory)
                .map_err(failed(&self.directory))?;
            match fs::write(&file, &self.line) {
                Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => tries += 1,
                done => return done.map_err(failed(&file)),
            }
        }
    }

    /// It runs again, or is not to; the directory goes with the last mark.
    ///
    /// # Errors
    /// [`CliError::Write`].
    pub(super) fn remove(&self, jail: &JailName) -> Result<(), CliError> {
        let file = self.mark(jail);
        let removed = fs::remove_file(&file);
        self.tidy();
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&file)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The same, for who has done what was asked and cannot fail by this.
    pub(super) fn forget(&self, context: &Context<'_>, jail: &JailName) {
        if let Err(error) = self.remove(jail) {
            context.report.warning(super::error::one_line(&error));
        }
    }

    /// Removes the directory if it is empty.
    pub(super) fn tidy(&self) {
        // It is not, or not there.
        let _kept = fs::remove_dir(&self.directory);
    }

    fn mark(&self, jail: &JailName) -> PathBuf {
        self.directory.join(jail.as_str())
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CliError {
    let path = path.display().to_string();
    move |source| CliError::Write {
        path: path.clone(),
        source,
    }
}
