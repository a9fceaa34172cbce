//! What doctor looked at. Must not be here: any rule.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::model::{HostConditions, Lack, Mount, Taken};
use crate::name::{DatasetName, GenerationId, JailName, SnapshotName, TrackName};
use crate::plan::ways::Snapshots;

/// What doctor looked at beyond an observation. What is empty was not looked at.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Staged generations that no process is building.
    pub abandoned: Vec<GenerationId>,
    /// Tags of the holds on sealed snapshots; none = there is no such snapshot.
    pub holds: BTreeMap<SnapshotName, Option<Vec<String>>>,
    /// Where the link of each track points now, and links of tracks that are not there.
    pub links: BTreeMap<TrackName, Option<PathBuf>>,
    /// Derived files that are missing or differ.
    pub drift: BTreeMap<JailName, Vec<PathBuf>>,
    /// Jails that have derived files, or anything else that the host keeps while it runs.
    pub derived: Vec<JailName>,
    /// Jails that do not run, and of whose last run the host has something left.
    pub left: Vec<JailName>,
    /// Jails with the mark of a merge that no command works on, with the snapshots that take it back.
    pub interrupted: BTreeMap<JailName, Snapshots>,
    /// Jails that a command had begun to move to another basejail, which is not at work any more.
    pub moving: BTreeSet<JailName>,
    /// Permission bits and owner of the site directory.
    pub directory: Option<(u32, u32)>,
    /// Every dataset of the site, with what is set of it.
    pub datasets: BTreeMap<String, Dataset>,
    /// Every snapshot and bookmark of the site.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// The mount table of the host, in its order.
    pub mounts: Vec<Mount>,
    /// Places where a `world verify` or `merge` that was killed had mounted a base or a skeleton, to
    /// read it.
    pub verify: Vec<(GenerationId, PathBuf)>,
    /// Places where a merge that was killed while it undid another had mounted a snapshot of a jail.
    pub undo: Vec<PathBuf>,
    /// Jails whose own files were rolled back, and the generation that these are of.
    pub rolled_back: BTreeMap<JailName, GenerationId>,
    /// Why the properties below the site cannot be read: then `datasets` and `snapshots` are empty.
    pub unreadable: Option<String>,
    /// What is in the site directory and in its `basejail` and `newjail`.
    pub entries: Vec<Entry>,
    /// What is around its jails on the host.
    pub around: HostConditions,
    /// Running jails that lack a limit which every jail gets.
    pub without_limits: Vec<JailName>,
    /// Whether the host is a FreeBSD, which has jail(8); else it is a Linux, with cgroups.
    pub freebsd: bool,
    /// Running jails whose parameters differ from those of their configuration, and which.
    pub differing: BTreeMap<JailName, Vec<String>>,
    /// Jails whose names something else on the host has.
    pub taken: BTreeMap<JailName, Taken>,
    /// Datasets that jails are to administer, and that are not as they must be.
    pub lacking: BTreeMap<DatasetName, Lack>,
}

/// Properties of a dataset.
pub type Dataset = BTreeMap<String, Setting>;

/// A property of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its value.
    pub value: String,
    /// Whether it was set on this very dataset (or came with a receive).
    pub own: bool,
}

/// A snapshot or bookmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether it has an `ezz:sealed` of its own.
    pub sealed: bool,
    /// How many holds are on it.
    pub holds: u64,
}

/// Something in a directory of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
}

/// What is in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory with nothing in it.
    Empty,
    /// A directory with something in it.
    Full,
    /// No directory.
    Other,
}
