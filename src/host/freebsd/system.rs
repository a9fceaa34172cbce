//! The system below the adapter: its programs, its mount table and umount(2). This is a small port, so that the whole
//! adapter can run on stand-ins for FreeBSD's programs (tests/standins).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ezz_zfs::{MountError, Mounted};

use crate::exec::{self, Exec, ExecError};

/// What the adapter needs from the system on which it runs.
pub trait System: fmt::Debug + Send + Sync {
    /// Returns the absolute path of a program of the base system.
    ///
    /// # Errors
    /// [`ExecError::NotFound`] if the program does not exist.
    fn program(&self, name: &str) -> Result<PathBuf, ExecError>;

    /// Returns all mounts, oldest first.
    ///
    /// # Errors
    /// Returns an error if the mount table cannot be read.
    fn mounted(&self) -> Result<Arc<Vec<Mounted>>, MountError>;

    /// Unmounts what is mounted at a directory. There is no way to force it.
    ///
    /// # Errors
    /// Returns an error if the mount is in use, does not exist, or cannot be unmounted.
    fn unmount(&self, at: &Path) -> Result<(), MountError>;
}

impl dyn System + '_ {
    /// Returns a program, ready to run.
    ///
    /// # Errors
    /// [`ExecError::NotFound`] if the program does not exist.
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
