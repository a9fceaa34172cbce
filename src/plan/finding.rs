//! A finding: what is wrong or remarkable, of which object, and what can be done. Must not be here: any rule.

use serde::Serialize;

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
    /// A track names a generation that does not exist or is not sealed.
    TrackBroken,
    /// The link of a track is missing or points elsewhere.
    LinkWrong,
    /// The link of a track that is not there.
    LinkLeft,
    /// A generation that is being built.
    Building,
    /// A generation that nobody builds any more.
    Unsealed,
    /// A sealed generation that has the mark of a seal that is under way.
    SealMarked,
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
