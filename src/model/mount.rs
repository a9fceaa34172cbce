//! A line of the host's mount table.

use std::path::PathBuf;

use super::Flags;

/// A line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What: a dataset, if it is ZFS.
    pub source: String,
    /// Whether it is the whole of it, and not a directory of it.
    pub whole: bool,
    /// Where.
    pub target: PathBuf,
    /// Its flags.
    pub flags: Flags,
}

impl Mount {
    /// Whether it is of this dataset, of one below it, or of a snapshot of these.
    pub fn belongs_to(&self, dataset: &str) -> bool {
        let below = self.source.strip_prefix(dataset);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['@', '/']))
    }
}
