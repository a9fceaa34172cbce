//! A finding: what is wrong or remarkable, which object it concerns, and what can be done. This module must not contain
//! rules.

use serde::Serialize;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Information; no promise is broken.
    Info,
    /// Something left over or derived. `--repair` clears it, except for what another program put there.
    Debris,
    /// A promise no longer holds.
    Broken,
}

/// The kind of a finding. The names in JSON never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The site was received.
    Replica,
    /// The site is read-only.
    ReadOnly,
    /// The site has a format that this version does not know.
    FormatUnknown,
    /// The last number that was taken is lower than that of an existing generation.
    SeqBehind,
    /// One of the four datasets of the site does not exist.
    DatasetMissing,
    /// Users other than root can enter the site directory.
    DirectoryOpen,
    /// A dataset that should be mounted is not.
    NotMounted,
    /// A dataset is mounted elsewhere than it should be.
    MountedElsewhere,
    /// A sealed base can be written through a mount.
    MountedWritable,
    /// A mount on the host lacks flags that ezz gives it.
    MountFlags,
    /// Another file system is mounted over a dataset.
    MountedOver,
    /// An empty directory without a dataset.
    DirectoryLeft,
    /// A file or directory of the site directory that ezz does not know.
    DirectoryForeign,
    /// A track names a generation that does not exist or is not sealed.
    TrackBroken,
    /// The link of a track is missing or points elsewhere.
    LinkWrong,
    /// A link has the name of a track that does not exist.
    LinkLeft,
    /// A generation that is being built.
    Building,
    /// A generation was never sealed, and no process is building it any more.
    Unsealed,
    /// A sealed generation that has the mark of a seal that is under way.
    SealMarked,
    /// Half of a generation.
    Half,
    /// A skeleton whose base was pruned, and that no jail needs.
    SkeletonAlone,
    /// A jail's files are being merged, or the merge was interrupted.
    Merging,
    /// Jails are being brought to another generation, or the roll-out was interrupted.
    Rollout,
    /// A jail was promoted with zfs(8), and has the snapshot of a seal.
    Promoted,
    /// A snapshot of a seal is missing.
    SnapshotMissing,
    /// A snapshot of a seal that has no `ezz:sealed`.
    SealMissing,
    /// `ezz:world` is missing or not valid.
    WorldMissing,
    /// The world of a generation is of another system than the host's.
    WorldForeign,
    /// A sealed base was written to.
    Written,
    /// ezz's hold is missing.
    HoldMissing,
    /// Other programs hold sealed snapshots.
    HoldForeign,
    /// Snapshots and bookmarks that ezz did not create.
    SnapshotForeign,
    /// Datasets that ezz did not create.
    DatasetForeign,
    /// The `ezz:jail` of a dataset is ignored.
    JailIgnored,
    /// A property removes a protection of the host.
    PropertyDangerous,
    /// A property makes the others unreadable.
    PropertyUnreadable,
    /// A property does not have the value that ezz set.
    PropertyChanged,
    /// The configuration of a jail is missing or not valid.
    JailInvalid,
    /// A jail was never finished.
    Unfinished,
    /// A clone that no command has committed, or the intent of one.
    Uncommitted,
    /// A generation that a jail needs does not exist.
    GenerationMissing,
    /// A jail is not a clone.
    OriginMissing,
    /// A jail has limits that this version does not know.
    LimitsUnknown,
    /// A running jail lacks a limit that every jail gets.
    LimitsMissing,
    /// A running jail has other parameters than its configuration.
    ParametersDiffer,
    /// Something else on the host has the name of a jail.
    NameTaken,
    /// A dataset that a jail is to administer does not exist or is not marked.
    OwnDatasetLacking,
    /// Derived files are missing or differ.
    DerivedWrong,
    /// The host has the remains of a jail that does not exist, or of a run that has ended.
    HostLeft,
    /// A jail runs, but its dataset does not exist.
    RunsWithoutDataset,
    /// A jail is behind: it runs on another generation than is due, or its own files are at another one.
    Behind,
    /// A jail's own files were rolled back with zfs(8), and its configuration does not match them.
    RolledBack,
    /// A jail is pinned because its own files could not be brought to its track's generation.
    Held,
    /// A jail that was to be started again is down.
    LeftDown,
    /// No interface of the host has an address of a jail.
    AddressMissing,
    /// An address names an interface or bridge that the host does not have.
    InterfaceMissing,
    /// An address of a jail is the host's own.
    AddressOfHost,
    /// Several jails have the same address.
    AddressShared,
    /// A service of the host listens on an address of a jail, or on all addresses.
    ServiceListens,
    /// Several jails have the same host name.
    HostnameShared,
    /// A host name that this host cannot set.
    HostnameBad,
    /// The host lacks something that a jail needs.
    HostLacks,
    /// Something that jails may depend on could not be examined.
    LookFailed,
}

/// One problem or remark that doctor reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind of the finding.
    pub kind: What,
    /// The severity of the finding.
    pub severity: Severity,
    /// The object that it concerns.
    pub object: String,
    /// What is wrong with the object.
    pub what: String,
    /// Whether `--repair` clears it.
    pub repairable: bool,
    /// All objects, if it concerns several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// The cause, if only one is possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// What the user can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// Makes a finding that `--repair` does not clear.
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

    /// Adds the cause.
    pub fn made_by(mut self, cause: &'static str) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Adds what the user can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
