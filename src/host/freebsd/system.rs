//! The system below the adapter: its programs, its table of mounts, umount(2). One small port, so that the
//! adapter as a whole runs on programs that stand in for FreeBSD's (tests/standins).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ezz_zfs::{MountError, Mounted};

use crate::exec::{self, Exec, ExecError};

/// What the adapter asks of the system it runs on.
pub trait System: fmt::Debug + Send + Sync {
    /// The absolute path of a program of the base system.
    ///
    /// # Errors
    /// [`ExecError::NotFound`].
    fn program(&self, name: &str) -> Result<PathBuf, ExecError>;

    /// All mounts, oldest first.
    ///
    /// # Errors
    /// The table cannot be read.
    fn mounted(&self) -> Result<Arc<Vec<Mounted>>, MountError>;

    /// Unmounts what is mounted at a directory. There is no word for force.
    ///
    /// # Errors
    /// In use, not mounted, or something else.
    fn unmount(&self, at: &Path) -> Result<(), MountError>;
}

impl dyn System + '_ {
    /// A program to run.
    ///
    /// # Errors
    /// [`ExecError::NotFound`].
    pub fn exec(&self, name: &str) -> Result<Exec, ExecError> {
        Ok(Exec::at(&self.program(name)?))
    }
}

/// The system that this process runs on.
#[derive(Debug)]
pub struct ThisSystem;

impl System for ThisSystem {
    fn program(&self, name: &str) -> Result<PathBuf, ExecError> {
        exec::find(name)
    }

    fn mounted(&self) -> Result<Arc<Vec<Mounted>>, MountError> {
        ezz_zfs::mounted()
    }

    fn unmount(&self, at: &Path) -> Result<(), MountError> {
        ezz_zfs::unmount(at)
    }
}
