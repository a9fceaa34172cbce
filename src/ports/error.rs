//! The errors of hosts and of ZFS. `hints.rs` has what users can do about them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use thiserror::Error;

use crate::model::Taken;
use crate::name::{DatasetName, JailName};
use crate::profile::Os;

/// An error of a host.
#[derive(Debug, Error)]
pub enum HostError {
    /// A program failed or is missing.
    #[error("cannot {action} {jail}")]
    Program {
        /// What ezz tried to do.
        action: &'static str,
        /// The name of the jail.
        jail: String,
        /// The failure of the program.
        source: crate::exec::ExecError,
    },
    /// An operation on a file of the host failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What ezz tried to do.
        action: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A mount or unmount failed.
    #[error("cannot {action} for {jail}")]
    Mount {
        /// What ezz tried to do.
        action: &'static str,
        /// The name of the jail.
        jail: String,
        /// The failure of the mount.
        source: ezz_zfs::mount::MountError,
    },
    /// The host lacks something that the command needs.
    #[error("this host lacks {what}")]
    Missing {
        /// What the host lacks.
        what: String,
        /// What the user can do about it.
        hint: String,
    },
    /// The jail is running, and must be stopped first.
    #[error("{0} is running")]
    Running(JailName),
    /// The jail is not running, and must be started first.
    #[error("{0} is not running")]
    NotRunning(JailName),
    /// The jail did not do something in time.
    #[error("{jail} did not {action} within {seconds} s")]
    Timeout {
        /// The name of the jail.
        jail: JailName,
        /// What it should have done.
        action: &'static str,
        /// The seconds that ezz waited.
        seconds: u64,
    },
    /// Another jail or object of this host has the name.
    #[error("the name {jail} is in use on this host: {by}")]
    Taken {
        /// The name of the jail.
        jail: JailName,
        /// What has the name.
        by: String,
        /// What the user can do about it.
        hint: String,
    },
    /// Another command or a signal has ended the start before it was complete; the user knows why.
    #[error("the start of {0} was interrupted and undone")]
    Ended(JailName),
    /// The world of the jail is of another operating system.
    #[error("{jail} cannot start: its world {world} needs {needs}, but this host runs {host}")]
    Foreign {
        /// The name of the jail.
        jail: JailName,
        /// The label of its world.
        world: String,
        /// The system that the world needs.
        needs: String,
        /// The system of this host.
        host: Os,
    },
    /// The OCI runtime or jail(8) did not start the jail.
    #[error("{jail} did not start: {why}")]
    Start {
        /// The name of the jail.
        jail: JailName,
        /// The message of the runtime.
        why: String,
    },
    /// A command could not be run in the jail.
    #[error("cannot run the command in {jail}: {why}")]
    Command {
        /// The name of the jail.
        jail: JailName,
        /// The message of the runtime, or what is wrong with the request.
        why: String,
    },
    /// The jail does not have the command, or cannot execute it.
    #[error("cannot run {command:?} in {jail}: {why}")]
    NoCommand {
        /// The name of the jail.
        jail: JailName,
        /// The command, without its arguments.
        command: String,
        /// Why it cannot be executed.
        why: String,
        /// Whether the command does not exist.
        missing: bool,
    },
    /// A command could not be run in the jail as the requested user, or as the jail's root.
    #[error("cannot run the command in {jail}: {why}")]
    Account {
        /// The name of the jail.
        jail: JailName,
        /// Why the jail has no such account, or none that can be used.
        why: String,
        /// Whether no jail can have the requested account.
        asked: bool,
        /// What the user can do about it.
        hint: String,
    },
    /// The health command of the jail failed.
    #[error("{jail} failed its health check: {command:?} {why}")]
    Unwell {
        /// The name of the jail.
        jail: JailName,
        /// The health command.
        command: String,
        /// How the command ended, and the last lines that it printed.
        why: String,
    },
    /// Something that the host has printed or stored does not parse.
    #[error("cannot read {what}: {why}")]
    Parse {
        /// What was read.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl HostError {
    /// Returns the error for the first name that is taken; none if no name is.
    pub fn taken(names: BTreeMap<JailName, Taken>) -> Option<Self> {
        let (jail, Taken { by, hint }) = names.into_iter().next()?;
        Some(HostError::Taken { jail, by, hint })
    }

    /// Returns the error for a health command that failed: how it ended, and what it printed last.
    pub fn unwell(jail: &JailName, command: &[String], how: &str, said: &str) -> Self {
        let said = super::one_line(said);
        let colon = if said.is_empty() { "" } else { ": " };
        HostError::Unwell {
            jail: jail.clone(),
            command: command.last().cloned().unwrap_or_default(),
            why: format!("{how}{colon}{said}"),
        }
    }
}

/// An error of ZFS.
#[derive(Debug, Error)]
pub enum PortError {
    /// The host has no usable OpenZFS.
    #[error("OpenZFS cannot be used here")]
    Open(#[source] ezz_zfs::OpenError),
    /// A call of libzfs_core failed.
    #[error(transparent)]
    Call(ezz_zfs::ZfsError),
    /// A channel program did not run to its end. What it changed is unknown until the site is observed again.
    #[error("the {program} program did not finish on {site}")]
    Program {
        /// The name of the program.
        program: &'static str,
        /// The site on which it ran.
        site: DatasetName,
        /// Why it did not finish.
        source: ezz_zfs::ProgramError,
    },
    /// Another ezz process has committed since the plan was made.
    #[error("{site} has changed since it was read (epoch {found}, expected {expected})")]
    Stale {
        /// The name of the site.
        site: DatasetName,
        /// The epoch from which the plan was made.
        expected: u64,
        /// The epoch that the program found.
        found: String,
    },
    /// The checks of the program refused, and nothing was changed.
    #[error("the {program} program refused: {dataset}: {why}")]
    Refused {
        /// The name of the program.
        program: &'static str,
        /// The dataset that it refused.
        dataset: String,
        /// The check that refused.
        reason: ezz_zfs::program::Why,
        /// The message of the program.
        why: String,
    },
    /// The program failed half-way. It has undone its changes, except for `left`.
    #[error("the {program} program failed: {dataset}: {why}{}{left}", if left.is_empty() { "" } else { "; could not undo: " })]
    Failed {
        /// The name of the program.
        program: &'static str,
        /// The dataset where it failed.
        dataset: String,
        /// The message of the program.
        why: String,
        /// What could not be undone; empty if everything was.
        left: String,
    },
    /// The command `zfs` failed.
    #[error("cannot {action} {dataset}")]
    Command {
        /// What ezz tried to do.
        action: &'static str,
        /// The name of the dataset.
        dataset: String,
        /// The failure of the command.
        source: crate::exec::ExecError,
    },
    /// A mount or unmount failed.
    #[error("cannot {action} {dataset}")]
    Mount {
        /// What ezz tried to do.
        action: &'static str,
        /// The name of the dataset.
        dataset: String,
        /// The failure of the mount.
        source: ezz_zfs::mount::MountError,
    },
    /// A process uses the dataset.
    #[error("{dataset} is busy: a process on this host uses {}", at.display())]
    Busy {
        /// The name of the dataset.
        dataset: String,
        /// The path where it is mounted.
        at: PathBuf,
    },
    /// Something else is mounted at the path, and a mount would hide it.
    #[error("cannot mount {dataset} at {}: {by} is mounted there", at.display())]
    Occupied {
        /// The name of the dataset.
        dataset: String,
        /// The path of the mount.
        at: PathBuf,
        /// What is mounted there.
        by: String,
    },
    /// A foreign mount hides what should be used, or lies below what should be unmounted.
    #[error("{dataset} is hidden: {by} is mounted at {}", at.display())]
    Covered {
        /// The name of the dataset.
        dataset: String,
        /// The path of the foreign mount.
        at: PathBuf,
        /// What is mounted there.
        by: String,
    },
    /// A directory is in the way, or cannot be created.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// The path of the directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The output of a command does not parse.
    #[error("cannot read the properties of {dataset}: {why}")]
    Parse {
        /// The dataset whose properties were read.
        dataset: String,
        /// What is wrong with it.
        why: String,
    },
    /// ezz cannot convert a property for libzfs_core.
    #[error("cannot set {property}={value} when creating {dataset}")]
    Property {
        /// The dataset that was to be created.
        dataset: DatasetName,
        /// The name of the property.
        property: String,
        /// The value of the property.
        value: String,
    },
}

impl PortError {
    /// Reports whether a program refused because this OpenZFS cannot clone in programs.
    pub fn unsupported(&self) -> bool {
        matches!(
            self,
            PortError::Refused {
                reason: ezz_zfs::program::Why::Unsupported,
                ..
            }
        )
    }

    /// Reports whether a program refused because a dataset is mounted or in use.
    pub fn refused_busy(&self) -> bool {
        matches!(self, PortError::Refused { reason, .. }
            if *reason == ezz_zfs::program::Why::Busy)
    }

    /// The dataset that could not be unmounted or destroyed, since something uses it.
    pub fn busy_dataset(&self) -> Option<&String> {
        match self {
            PortError::Busy { dataset, .. }
            | PortError::Refused {
                reason: ezz_zfs::program::Why::Busy,
                dataset,
                ..
            } => Some(dataset),
            _ => None,
        }
    }

    /// Whether the pool was imported read-only.
    pub fn read_only(&self) -> bool {
        matches!(self, PortError::Program { source, .. }
            if matches!(source, ezz_zfs::ProgramError::ReadOnly { .. }))
    }

    /// Reports whether a call failed because its dataset or snapshot does not exist.
    pub fn no_such_dataset(&self) -> bool {
        matches!(self, PortError::Call(error) if error.errno.name() == Some("ENOENT"))
    }
}
