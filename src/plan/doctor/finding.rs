//! What a finding is, and what doctor looked at. Must not be here: any rule.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use crate::model::{Flags, Lack, Surroundings, Taken};
use crate::name::{DatasetName, GenerationId, JailName, SnapshotName, TrackName};
use crate::plan::merge::Snapshots;

/// What doctor looked at beyond an observation. What is empty was not looked at.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Staged generations that nobody is building.
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
    /// Places where a `worlds verify` or `merge` that was killed had mounted a base or a skeleton, to
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
    pub around: Surroundings,
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

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; no promise is broken.
    Info,
    /// Left over or derived: `--repair` mends it, but for what somebody else put there.
    Debris,
    /// A promise is broken.
    Broken,
}

/// What is found. The names in JSON stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The site came with a receive.
    Replica,
    /// The site cannot be written.
    ReadOnly,
    /// A format that this version does not know.
    FormatUnknown,
    /// The last number given away is lower than one that is there.
    SeqBehind,
    /// One of the four datasets of a site is not there.
    DatasetMissing,
    /// Others may reach into the site directory.
    DirectoryOpen,
    /// A dataset that should be mounted is not.
    NotMounted,
    /// It is mounted elsewhere than it should be.
    MountedElsewhere,
    /// A sealed base that could be written through a mount.
    MountedWritable,
    /// The host's mount lacks flags that ezz gives it.
    MountFlags,
    /// Something else is mounted over it.
    MountedOver,
    /// An empty directory without a dataset.
    DirectoryLeft,
    /// A file or directory of the site directory that ezz does not know.
    DirectoryForeign,
    /// A track names a generation that is not there or not sealed.
    TrackBroken,
    /// The link of a track is missing or points elsewhere.
    LinkWrong,
    /// The link of a track that is not there.
    LinkLeft,
    /// A generation that is being built.
    Building,
    /// A generation that nobody builds any more.
    Unsealed,
    /// Half of a generation.
    Half,
    /// A skeleton whose base was pruned, and that no jail needs.
    SkeletonAlone,
    /// A jail's files are being merged, or were when that was interrupted.
    Merging,
    /// Jails are being moved to another generation, or were when it was interrupted.
    Rollout,
    /// A jail was promoted with zfs(8), and has the snapshot of a seal.
    Promoted,
    /// A snapshot of a seal is missing.
    SnapshotMissing,
    /// A snapshot of a seal that has no `ezz:sealed`.
    SealMissing,
    /// `ezz:world` is missing or not valid.
    WorldMissing,
    /// A world of another system than the host's.
    WorldForeign,
    /// A sealed base was written to.
    Written,
    /// ezz's hold is missing.
    HoldMissing,
    /// Holds of others.
    HoldForeign,
    /// Snapshots and bookmarks of others.
    SnapshotForeign,
    /// Datasets of others.
    DatasetForeign,
    /// A dataset whose `ezz:jail` does not count.
    JailIgnored,
    /// A property that takes away what protects the host.
    PropertyDangerous,
    /// A property that makes the others unreadable.
    PropertyUnreadable,
    /// A property that is not as ezz sets it.
    PropertyChanged,
    /// The configuration of a jail is missing or not valid.
    JailInvalid,
    /// A jail that was never finished.
    Unfinished,
    /// A clone that no command committed, or the intent of one.
    Uncommitted,
    /// A generation that a jail needs is not there.
    GenerationMissing,
    /// A jail that is no clone.
    OriginMissing,
    /// Limits of a jail that this version does not know.
    LimitsUnknown,
    /// A running jail lacks a limit which every jail gets.
    LimitsMissing,
    /// A running jail has other parameters than its configuration says.
    ParametersDiffer,
    /// Something else on the host has the name of a jail.
    NameTaken,
    /// A dataset that a jail is to administer is not there or not marked.
    OwnDatasetLacking,
    /// Derived files are missing or differ.
    DerivedWrong,
    /// The host keeps something of a jail that is not there or of a run that is over.
    HostLeft,
    /// A jail runs and has no dataset.
    RunsWithoutDataset,
    /// A jail is not at its target: it runs on another generation, or its own files are those of another.
    Behind,
    /// A jail's own files were rolled back with zfs(8), and it is not configured so.
    RolledBack,
    /// A jail is pinned, since its own files could not be brought to what its track has.
    Held,
    /// A jail is down that was to be started again.
    LeftDown,
    /// No interface of the host has the address of a jail.
    AddressMissing,
    /// An address names an interface or bridge that the host has not.
    InterfaceMissing,
    /// The address of a jail is the host's own.
    AddressOfHost,
    /// Several jails have one address.
    AddressShared,
    /// Something listens where a jail would.
    ServiceListens,
    /// A host name that several have.
    HostnameShared,
    /// A host name that this host cannot set.
    HostnameBad,
    /// The host lacks something that a jail needs.
    HostLacks,
    /// Something that jails may run into could not be looked at.
    LookFailed,
}

/// One thing that doctor found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing it is.
    pub kind: What,
    /// How bad it is.
    pub severity: Severity,
    /// Which object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Whether `--repair` mends it.
    pub repairable: bool,
    /// All objects, if it is about several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// What made it so, where only one thing can have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// What the user can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// A finding that `--repair` does not mend.
    pub fn new(
        kind: What,
        severity: Severity,
        object: impl ToString,
        what: impl Into<String>,
    ) -> Self {
        Finding {
            kind,
            severity,
            object: object.to_string(),
            what: what.into(),
            repairable: false,
            objects: Vec::new(),
            cause: None,
            hint: None,
        }
    }

    /// With what made it so.
    pub fn made_by(mut self, cause: &'static str) -> Self {
        self.cause = Some(cause);
        self
    }

    /// With what the user can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
