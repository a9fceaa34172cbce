//! What stays as the jail has it in a merge or on its way back, and why.

use std::fmt;

use super::Reason;
use super::state::Type;
use crate::profile::RelPath;

/// A file that stays as the jail has it, in whole or in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its path in the jail.
    pub path: RelPath,
    /// The reason, for the report.
    pub why: Why,
}

/// Why a file stays as the jail has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The jail has changed it since the merge.
    Changed,
    /// The jail has deleted it since the merge, or the directory in which it was.
    Deleted,
    /// The jail has made something of another type of it since the merge.
    Became(Type),
    /// What is named here, above it, is no directory in the jail.
    InTheWay(RelPath),
    /// What is named here, in it, is the jail's own.
    Holds(RelPath),
    /// The entries of these names were changed by the jail since the merge.
    Entries(Vec<String>),
    /// These accounts own files of the jail.
    Own(Vec<String>),
    /// These accounts are in a list that cannot be changed.
    Listed(Vec<String>),
    /// It is a directory of state, and the jail has written what is named here, in it.
    Together(RelPath),
    /// A flag keeps it from being changed.
    Immutable,
    /// Another file system is mounted there.
    Mount,
    /// The jail and the generation that it comes back to have made different things of it.
    Conflict(Reason),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Changed => write!(f, "the jail has changed it since"),
            Why::Deleted => write!(f, "the jail has deleted it since"),
            Why::Became(kind) => write!(f, "the jail has made it {kind} since"),
            Why::InTheWay(path) => write!(f, "{path} is no directory in the jail"),
            Why::Holds(path) => write!(f, "it holds {path}"),
            Why::Entries(names) => {
                write!(
                    f,
                    "the jail has changed the entries of {}",
                    names.join(", ")
                )
            }
            Why::Own(names) => write!(f, "these still own files: {}", names.join(", ")),
            Why::Listed(names) => write!(
                f,
                "these are in a list that cannot be changed: {}",
                names.join(", ")
            ),
            Why::Together(path) => write!(
                f,
                "its files belong together, and the jail has changed {path} since"
            ),
            Why::Immutable => write!(f, "a flag keeps it from being changed"),
            Why::Mount => write!(f, "another file system is mounted there"),
            Why::Conflict(reason) => write!(f, "{reason}"),
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stays: {}", self.path, self.why)
    }
}
