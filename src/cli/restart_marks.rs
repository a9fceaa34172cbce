//! Jails between their stop and their start on another basejail. If the command that moves them is killed or fails in
//! between, they stay down. A file for each of them, the mark, shows that they should run: the next `converge` or
//! roll-out starts them, and `doctor` names them. The next start, stop or delete of a jail removes its mark, because it
//! determines whether the jail runs from then on.
//!
//! After a boot no jail runs, and all that should are started: so the marks are in /run.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{CliError, Context};
use crate::lock::Holder;
use crate::name::JailName;
use crate::session::Session;

/// How often a mark is created again if another command removes its directory.
const TRIES: u32 = 10;

/// The jails of one site that are being moved.
#[derive(Debug)]
pub(super) struct RestartMarks {
    directory: PathBuf,
    /// The content of a mark: the command that has created it.
    line: String,
}

impl RestartMarks {
    /// Returns the marks of a site, for a command.
    pub(super) fn of(context: &Context<'_>, session: &Session) -> Self {
        RestartMarks::at(context.machine.run_directory(), session)
    }

    /// Returns the marks of a site, for a caller that only reads them.
    pub(super) fn at(run: &Path, session: &Session) -> Self {
        let id = session.id.chars();
        let id: String = id
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        RestartMarks {
            directory: run.join(format!("{id}-moving")),
            line: session.locks.line().to_owned(),
        }
    }

    /// Returns the jails that have a mark.
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

    /// Returns the jails with a mark that no command is moving any more.
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

    /// Marks a jail that is going to be stopped and started.
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

    /// Removes the mark of a jail that runs again, or is not to run; the directory is removed with the last mark.
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

    /// Removes a mark for a caller whose work is done and cannot fail because of it.
    pub(super) fn forget(&self, context: &Context<'_>, jail: &JailName) {
        if let Err(error) = self.remove(jail) {
            context.report.warning(super::error::one_line(&error));
        }
    }

    /// Removes the directory if it is empty.
    pub(super) fn tidy(&self) {
        // It fails if the directory is not empty or does not exist.
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
