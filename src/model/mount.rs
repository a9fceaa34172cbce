//! A line of the host's mount table.

use std::path::PathBuf;

use super::Flags;

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted: the name of the dataset, if it is ZFS.
    pub source: String,
    /// Whether all of the source is mounted, and not one of its directories.
    pub whole: bool,
    /// The path where it is mounted.
    pub target: PathBuf,
    /// The flags of the mount.
    pub flags: Flags,
}

impl Mount {
    /// Reports whether the source is this dataset, a dataset below it, or a snapshot of one of these.
    pub fn belongs_to(&self, dataset: &str) -> bool {
        let below = self.source.strip_prefix(dataset);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['@', '/']))
    }
}
