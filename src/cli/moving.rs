//! Jails between their stop and their start in another basejail. Who is killed there, or fails, leaves
//! them down; the next `converge` or roll-out knows by a file for each that they were not meant to be.
//! After a boot nothing runs, and what starts then starts all.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{CliError, Context};
use crate::name::JailName;

/// The jails of one site that are being moved.
#[derive(Debug)]
pub(super) struct Moving(PathBuf);

impl Moving {
    /// Those of the site with this id.
    pub(super) fn of(context: &Context<'_>, site_id: &str) -> Self {
        let id: String = site_id
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        Moving(context.machine.run_directory().join(format!("{id}-moving")))
    }

    /// Which they are.
    ///
    /// # Errors
    /// [`CliError::Write`].
    pub(super) fn names(&self) -> Result<BTreeSet<JailName>, CliError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(failed(&self.0)(error)),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(failed(&self.0))?.file_name();
            names.extend(name.to_str().and_then(|name| JailName::parse(name).ok()));
        }
        Ok(names)
    }

    /// A jail is going to be stopped and started.
    ///
    /// # Errors
    /// [`CliError::Write`].
    pub(super) fn add(&self, jail: &JailName) -> Result<(), CliError> {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&self.0)
            .map_err(failed(&self.0))?;
        let file = self.0.join(jail.as_str());
        fs::write(&file, "").map_err(failed(&file))
    }

    /// It runs again.
    ///
    /// # Errors
    /// [`CliError::Write`].
    pub(super) fn remove(&self, jail: &JailName) -> Result<(), CliError> {
        let file = self.0.join(jail.as_str());
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&file)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> CliError {
    let path = path.display().to_string();
    move |source| CliError::Write {
        path: path.clone(),
        source,
    }
}
