//! A jail's own files, from one skeleton to another: three-way, with the old skeleton as what both
//! come from.
//!
//! What becomes of which file is a table, `docs/own-files.md`: by the class of its path, by what upstream has
//! done, and by what the jail has. The jail's links are never followed. [`examine`] may look at a jail that runs;
//! [`carry_out`] wants one that does not.
//! Must not be here: which jails, and what protects them while this works.

mod accounts;
mod aside;
mod beside;
mod carry;
mod difference;
mod examine;
mod kept;
mod obstacle;
mod same;
mod state;
mod texts;
mod undo;

use std::fmt;

use super::numbers::{Owners, Taken};
use crate::profile::RelPath;

pub use carry::carry_out;
pub use difference::Difference;
pub use examine::{examine, examine_back};
pub use kept::{Kept, Why};
pub use obstacle::Obstacle;
pub use state::Type;
pub use undo::{Undo, examine_undo};

/// What happens to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The release's is taken.
    Take,
    /// It goes, as it went from the release.
    Remove,
    /// Both have changed it, and this is what becomes of it.
    Merge(Vec<u8>),
    /// Both have changed it: the jail's stays, the release's is put beside it.
    Conflict(Reason),
    /// The release has changed it, and the jail's stays.
    Left(Reason),
}

/// Why the jail's version of a file stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Both have changed the same part of it, or it is no text.
    BothChanged,
    /// The release has added it, and the jail has something else there.
    BothAdded,
    /// The release has changed it, and the jail has deleted it.
    Deleted,
    /// The release has removed it, and the jail has changed it.
    Removed,
    /// The release has removed a directory, and what is named here, in it, stays.
    NotEmpty(RelPath),
    /// The release has changed it, and the jail has made something of another type of it.
    Made(Type),
    /// The release made something of another type of it, and the jail has changed it.
    Became(Type),
    /// The release made something else of a directory, and what is named here, in it, is the jail's own.
    Holds(Type, RelPath),
    /// What is named here, above it, is no directory in the jail.
    InTheWay(RelPath),
    /// Another file system is mounted at what is named here.
    Mounted(RelPath),
    /// It is one thing with all that is in it, and the jail has one.
    Whole,
    /// It is too long, or the versions are too different, to be compared line by line.
    TooDifferent,
    /// The process that compares texts ended, or exceeded its time.
    NoAnswer,
    /// The number of an account that comes with the release is another's in the jail, and the base's files
    /// belong to it.
    Taken(Taken),
}

/// A file that is not simply left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub path: RelPath,
    /// What happens to it.
    pub what: What,
    /// Of a conflict, what of the release is put where: the file itself, then all in it if it is a
    /// directory. Empty where a link of the jail's would lead it away, or no name for it is free.
    pub beside: Vec<(RelPath, RelPath)>,
    /// How its lines change, where they do: for people.
    pub diff: Option<String>,
}

/// What a merge would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// What changes and what is left, a directory before what is in it.
    pub changes: Vec<Change>,
    /// The texts that get a new time: the jail makes databases from them again when it starts.
    pub renewed: Vec<RelPath>,
    /// What keeps it from being done.
    pub obstacles: Vec<Obstacle>,
    /// By which numbers the jail knows the accounts of the skeletons.
    owners: Owners,
    /// What stays as the jail has it, most of it on the way back.
    pub kept: Vec<Kept>,
    /// Whether it undoes an earlier merge.
    pub undone: bool,
}

impl Change {
    /// Where the release's version of a conflict is put.
    pub fn put_beside(&self) -> Option<&RelPath> {
        self.beside.first().map(|(_, to)| to)
    }

    /// Why it is in conflict, if it is.
    pub fn conflict(&self) -> Option<&Reason> {
        match &self.what {
            What::Conflict(reason) => Some(reason),
            What::Take | What::Remove | What::Merge(_) | What::Left(_) => None,
        }
    }

    /// Why the jail's stays, in conflict or not.
    pub fn reason(&self) -> Option<&Reason> {
        match &self.what {
            What::Conflict(reason) | What::Left(reason) => Some(reason),
            What::Take | What::Remove | What::Merge(_) => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::BothChanged => write!(f, "both have changed it"),
            Reason::BothAdded => {
                write!(f, "the release added it, and you have one of your own")
            }
            Reason::Deleted => write!(f, "the release changed it, and you have deleted it"),
            Reason::Removed => write!(f, "the release removed it, and you have changed it"),
            Reason::NotEmpty(path) => write!(f, "the release removed it, and {path} stays"),
            Reason::Made(kind) => {
                write!(f, "the release changed it, and you have made it {kind}")
            }
            Reason::Became(kind) => {
                write!(f, "the release made it {kind}, and you have changed it")
            }
            Reason::Holds(kind, own) => {
                write!(f, "the release made it {kind}, and {own} is yours")
            }
            Reason::InTheWay(path) => write!(f, "{path} is no directory in the jail"),
            Reason::Mounted(path) => write!(f, "another file system is mounted at {path}"),
            Reason::Whole => write!(f, "you have one, and parts of another do not fit into it"),
            Reason::TooDifferent => write!(f, "too long or too different to compare"),
            Reason::NoAnswer => write!(f, "the comparison did not end"),
            Reason::Taken(taken) => write!(f, "{taken}"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match &self.what {
            What::Take => "take",
            What::Remove => "remove",
            What::Merge(_) => "merge",
            What::Conflict(_) => "CONFLICT",
            What::Left(_) => "leave",
        };
        write!(f, "{word} {}", self.path)?;
        match self.reason() {
            None => Ok(()),
            Some(reason) => write!(f, " ({reason})"),
        }
    }
}

/// Whether the changes come with the lines that change, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patches {
    /// They do.
    Made,
    /// They do not; it is work that nothing depends on.
    Left,
}
