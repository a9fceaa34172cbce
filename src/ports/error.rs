//! What hosts and ZFS could not do, in words. What to do about it is in `hints.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use thiserror::Error;

use crate::model::Taken;
use crate::name::{DatasetName, JailName};
use crate::profile::Os;

/// What a host could not do.
#[derive(Debug, Error)]
pub enum HostError {
    /// A program failed or is missing.
    #[error("cannot {action} {jail}")]
    Program {
        /// What was being done.
        action: &'static str,
        /// To which jail.
        jail: String,
        /// The program's failure.
        source: crate::exec::ExecError,
    },
    /// A file of the host.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A mount.
    #[error("cannot {action} for {jail}")]
    Mount {
        /// What was being done.
        action: &'static str,
        /// For which jail.
        jail: String,
        /// Why not.
        source: ezz_zfs::mount::MountError,
    },
    /// The host lacks something.
    #[error("this host lacks {what}")]
    Missing {
        /// What.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// It must be stopped first.
    #[error("{0} is running")]
    Running(JailName),
    /// It must run.
    #[error("{0} is not running")]
    NotRunning(JailName),
    /// It did not do what it should within its time.
    #[error("{jail} did not {action} within {seconds} s")]
    Timeout {
        /// Which jail.
        jail: JailName,
        /// What it should have done.
        action: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// Something else on this host has its name.
    #[error("the name {jail} is in use on this host: {by}")]
    Taken {
        /// Which jail.
        jail: JailName,
        /// What has the name.
        by: String,
        /// What to do about it.
        hint: String,
    },
    /// Its start was ended before it was done: whoever asked for that knows why.
    #[error("the start of {0} was interrupted and undone")]
    Ended(JailName),
    /// Its world is of another system.
    #[error("{jail} cannot start: its world {world} needs {needs}, but this host runs {host}")]
    Foreign {
        /// Which jail.
        jail: JailName,
        /// The label of its world.
        world: String,
        /// The system that the world needs.
        needs: String,
        /// The system of this host.
        host: Os,
    },
    /// The runtime or jail(8) refused it.
    #[error("{jail} did not start: {why}")]
    Start {
        /// Which jail.
        jail: JailName,
        /// The runtime's own words.
        why: String,
    },
    /// A command could not be run in it.
    #[error("cannot run the command in {jail}: {why}")]
    Command {
        /// Which jail.
        jail: JailName,
        /// The runtime's own words, or what was asked wrongly.
        why: String,
    },
    /// A command that it does not have, or that cannot be executed.
    #[error("cannot run {command:?} in {jail}: {why}")]
    NoCommand {
        /// Which jail.
        jail: JailName,
        /// The command, without its arguments.
        command: String,
        /// Why not.
        why: String,
        /// Whether it is not there.
        missing: bool,
    },
    /// A command could not be run in it as the user that was asked for, or as its root.
    #[error("cannot run the command in {jail}: {why}")]
    Account {
        /// Which jail.
        jail: JailName,
        /// Why it has no such account, or none that can be used.
        why: String,
        /// Whether it is what was asked for that no jail can have.
        asked: bool,
        /// What to do about it.
        hint: String,
    },
    /// Its health command says that it is not well.
    #[error("{jail} failed its health check: {command:?} {why}")]
    Unwell {
        /// Which jail.
        jail: JailName,
        /// The command.
        command: String,
        /// How it ended, and its last words.
        why: String,
    },
    /// Something the host printed or keeps does not parse.
    #[error("cannot read {what}: {why}")]
    Parse {
        /// What was read.
        what: String,
        /// What is wrong.
        why: String,
    },
}

impl HostError {
    /// The first of the names that are taken.
    pub fn taken(names: BTreeMap<JailName, Taken>) -> Option<Self> {
        let (jail, Taken { by, hint }) = names.into_iter().next()?;
        Some(HostError::Taken { jail, by, hint })
    }

    /// A jail whose health command ended badly: how, and what it said last.
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

/// What ZFS could not do.
#[derive(Debug, Error)]
pub enum PortError {
    /// There is no usable OpenZFS.
    #[error("OpenZFS cannot be used here")]
    Open(#[source] ezz_zfs::OpenError),
    /// A call of libzfs_core failed.
    #[error(transparent)]
    Call(ezz_zfs::ZfsError),
    /// The program did not run to its end. What it did is unknown until observed again.
    #[error("the {program} program did not finish on {site}")]
    Program {
        /// Which program.
        program: &'static str,
        /// On which site.
        site: DatasetName,
        /// Why.
        source: ezz_zfs::ProgramError,
    },
    /// Another ezz committed since the plan was made.
    #[error("{site} has changed since it was read (epoch {found}, expected {expected})")]
    Stale {
        /// Which site.
        site: DatasetName,
        /// The epoch the plan was made from.
        expected: u64,
        /// The epoch that was found.
        found: String,
    },
    /// The program's checks refused, and nothing has changed.
    #[error("the {program} program refused: {dataset}: {why}")]
    Refused {
        /// Which program.
        program: &'static str,
        /// On which dataset.
        dataset: String,
        /// Which check.
        reason: ezz_zfs::program::Why,
        /// Its own words.
        why: String,
    },
    /// The program failed in the middle; what it had done is undone, but for `left`.
    #[error("the {program} program failed: {dataset}: {why}{}{left}", if left.is_empty() { "" } else { "; could not undo: " })]
    Failed {
        /// Which program.
        program: &'static str,
        /// On which dataset.
        dataset: String,
        /// Its own words.
        why: String,
        /// What could not be undone.
        left: String,
    },
    /// A `zfs` command failed.
    #[error("cannot {action} {dataset}")]
    Command {
        /// What was being done.
        action: &'static str,
        /// To which dataset.
        dataset: String,
        /// Its failure.
        source: crate::exec::ExecError,
    },
    /// A mount failed.
    #[error("cannot {action} {dataset}")]
    Mount {
        /// What was being done.
        action: &'static str,
        /// Which dataset.
        dataset: String,
        /// Why not.
        source: ezz_zfs::mount::MountError,
    },
    /// Something uses the dataset.
    #[error("{dataset} is busy: a process on this host uses {}", at.display())]
    Busy {
        /// Which dataset.
        dataset: String,
        /// Where it is mounted.
        at: PathBuf,
    },
    /// Something else is mounted where it should be: a mount would hide that.
    #[error("cannot mount {dataset} at {}: {by} is mounted there", at.display())]
    Occupied {
        /// Which dataset.
        dataset: String,
        /// Where.
        at: PathBuf,
        /// What is there.
        by: String,
    },
    /// Somebody else's mount hides what should be used, or lies below what should be unmounted.
    #[error("{dataset} is hidden: {by} is mounted at {}", at.display())]
    Covered {
        /// Which dataset.
        dataset: String,
        /// Where the other mount is.
        at: PathBuf,
        /// What it is of.
        by: String,
    },
    /// A directory is in the way, or cannot be made.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Something does not parse.
    #[error("cannot read the properties of {dataset}: {why}")]
    Parse {
        /// Of which dataset.
        dataset: String,
        /// What is wrong.
        why: String,
    },
    /// A property that ezz does not know how to give to libzfs_core.
    #[error("cannot set {property}={value} when creating {dataset}")]
    Property {
        /// On which dataset.
        dataset: DatasetName,
        /// Which property.
        property: String,
        /// To which value.
        value: String,
    },
}

impl PortError {
    /// Whether the program said that this OpenZFS cannot clone in programs.
    pub fn unsupported(&self) -> bool {
        matches!(
            self,
            PortError::Refused {
                reason: ezz_zfs::program::Why::Unsupported,
                ..
            }
        )
    }

    /// Whether a program refused since a dataset is mounted somewhere or in use.
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

    /// Whether the call said that the dataset or snapshot it was about does not exist.
    pub fn no_such_dataset(&self) -> bool {
        matches!(self, PortError::Call(error) if error.errno.name() == Some("ENOENT"))
    }
}
