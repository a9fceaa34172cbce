//! The reasons why a plan is refused, which every verb may report.

use std::path::PathBuf;

use serde::Serialize;
use thiserror::Error;

use crate::fleet::FleetError;
use crate::model::{GenerationError, ModelError, Os};
use crate::name::{DatasetName, FlavourName, GenerationId, JailName, NameError, TrackName};
use crate::text::first_few;

/// Why no plan could be made. Nothing has been changed.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The site was received by `zfs receive`.
    #[error("{0} is a replica: it arrived by zfs receive, and ezz does not change it")]
    Replica(DatasetName),
    /// The pool was imported read-only, or the site's `readonly` is on.
    #[error("{0} is read-only")]
    ReadOnly(DatasetName),
    /// A newer ezz has written the site.
    #[error("{site} has format {found}, but this ezz supports {known}")]
    Format {
        /// The site.
        site: DatasetName,
        /// The format of the site.
        found: u32,
        /// The format that this version supports.
        known: u32,
    },
    /// The specification of a jail cannot be made.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A jail with the name of a new jail exists.
    #[error("the jail {0} already exists")]
    JailExists(JailName),
    /// An interrupted merge cannot be undone, because a rollback would destroy snapshots that ezz did not create.
    #[error(
        "cannot undo the interrupted merge of {jail}: {count} newer snapshots exist, the first is {first}"
    )]
    MergedBefore {
        /// The jail.
        jail: JailName,
        /// The first of the newer snapshots by name.
        first: String,
        /// The number of newer snapshots.
        count: usize,
    },
    /// The mountpoint of a jail was changed.
    #[error("the mountpoint of {dataset} is {}, not {}", found.display(), at.display())]
    Elsewhere {
        /// The dataset of the jail.
        dataset: DatasetName,
        /// The current mountpoint.
        found: PathBuf,
        /// The mountpoint that the jail should have.
        at: PathBuf,
    },
    /// The jail does not exist.
    #[error("there is no jail {0}")]
    NoJail(JailName),
    /// A new jail would have the name of a track.
    #[error("{0} is the name of a track, and cannot be the name of a jail")]
    JailIsTrack(JailName),
    /// The name of a new jail would be taken for something else on a command line.
    #[error("{0} is a word of ezz's command line, and cannot be the name of a new jail")]
    JailIsWord(JailName),
    /// A new track would have the name of a jail.
    #[error("{0} is the name of a jail, and cannot be the name of a track")]
    TrackIsJail(TrackName),
    /// A fleet file asks for something impossible.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The site has no such flavour.
    #[error("there is no flavour {0}")]
    NoFlavour(FlavourName),
    /// One command names a jail twice.
    #[error("the jail {0} is named twice")]
    Twice(JailName),
    /// The command that was to create or delete the jail was interrupted, so it is not a jail.
    #[error("the creation or deletion of {0} was interrupted, or is under way")]
    Interrupted(JailName),
    /// The dataset of the jail is not one that ezz can use.
    #[error("{dataset} is not a jail that ezz can use: {why}")]
    Stranger {
        /// The dataset.
        dataset: DatasetName,
        /// Why ezz cannot use it.
        why: String,
    },
    /// Something is in the way of the jail's directory.
    #[error("{} is in the way of the jail {jail}: {why}", at.display())]
    Directory {
        /// The jail.
        jail: JailName,
        /// The path that is in the way.
        at: PathBuf,
        /// What exists there.
        why: &'static str,
    },
    /// One host name or address was given for several jails.
    #[error("{0} is only possible for a single jail")]
    OnlyOne(&'static str),
    /// The address belongs to another jail.
    #[error("the address {address} belongs to the jail {owner}")]
    AddressTaken {
        /// The address.
        address: String,
        /// The jail that has it.
        owner: JailName,
    },
    /// A newer ezz has given the jail limits that this version cannot enforce.
    #[error("{jail} has limits that this ezz does not know: {limits}")]
    UnknownLimits {
        /// The jail.
        jail: JailName,
        /// The unknown limits.
        limits: String,
    },
    /// A jail would administer the site or a part of it.
    #[error("cannot give {dataset} to a jail: it is part of the site {site}, or contains it")]
    SiteDataset {
        /// The dataset.
        dataset: DatasetName,
        /// The site.
        site: DatasetName,
    },
    /// One of the datasets contains the other, or both are the same, and another jail administers one of them.
    #[error("the dataset {dataset} belongs to the jail {owner}, at least in part")]
    DatasetTaken {
        /// The dataset.
        dataset: DatasetName,
        /// The jail that administers it.
        owner: JailName,
    },
    /// A network has too few free addresses.
    #[error("{pool} has {free} free addresses, but {wanted} jails need one each")]
    PoolTooSmall {
        /// The network.
        pool: String,
        /// The number of addresses that are needed.
        wanted: usize,
        /// The number of free addresses.
        free: usize,
    },
    /// There are more jails than one program accepts.
    #[error("cannot create {jails} jails in one transaction: the maximum is {most}")]
    NotAtomic {
        /// The number of jails.
        jails: usize,
        /// The greatest number of jails.
        most: usize,
    },
    /// Several of the names belong to existing jails.
    #[error("{} jails already exist: {}", .0.len(), first_few(.0, 10, ", "))]
    JailsExist(Vec<JailName>),
    /// The track does not exist.
    #[error("there is no track {0}")]
    NoTrack(TrackName),
    /// The site has no world from which a jail could be made.
    #[error("{0} has no world yet")]
    NoWorld(DatasetName),
    /// The track exists, and is at another generation.
    #[error("the track {0} already exists, at another generation")]
    TrackExists(TrackName),
    /// Jails follow the track.
    #[error("the track {track} is followed by {}", first_few(.jails, 10, ", "))]
    TrackFollowed {
        /// The track.
        track: TrackName,
        /// The jails that follow it.
        jails: Vec<JailName>,
    },
    /// The track has no generation.
    #[error("the track {0} has no generation yet")]
    EmptyTrack(TrackName),
    /// Another command has moved the track meanwhile.
    #[error(
        "the track {track} is no longer at generation {from}, which generation {made} was made from"
    )]
    TrackMoved {
        /// The track.
        track: TrackName,
        /// The generation that it was at.
        from: GenerationId,
        /// The generation that it was to be swapped to.
        made: GenerationId,
    },
    /// The track has no previous generation to return to.
    #[error("the track {0} has no previous generation")]
    NoPrevious(TrackName),
    /// A roll-out of the generation failed.
    #[error("generation {generation} was rejected: {why}")]
    Rejected {
        /// The track that was to be swapped to it.
        track: TrackName,
        /// The generation.
        generation: String,
        /// The reason that was recorded then.
        why: String,
    },
    /// The generation does not exist.
    #[error("there is no generation {0}")]
    NoGeneration(GenerationId),
    /// Something needs the generation that was to be deleted.
    #[error("generation {generation} is in use: {}", first_few(reasons, 10, "; "))]
    GenerationKept {
        /// The generation.
        generation: String,
        /// What keeps it.
        reasons: Vec<String>,
    },
    /// The generation of a track no longer exists, or is not sealed.
    #[error("generation {0} does not exist or is not sealed")]
    NotSealed(GenerationId),
    /// A merge of the jail is under way, or was interrupted.
    #[error("a merge of {0} is under way, or was interrupted")]
    Merging(JailName),
    /// Something that a merge needs is missing.
    #[error("cannot merge {jail}: {why}")]
    NoMerge {
        /// The jail.
        jail: JailName,
        /// Why it cannot be merged.
        why: String,
    },
    /// The jail's own files are not mounted.
    #[error("the own files of {0} are not mounted, and cannot be compared")]
    NotMounted(JailName),
    /// The jail runs, and its files can be merged only while it is stopped.
    #[error("cannot merge {0} while it is running")]
    MergeRunning(JailName),
    /// A roll-out is just bringing jails to another generation.
    #[error("a roll-out of the track {0} is under way")]
    RolloutUnderWay(TrackName),
    /// There is no roll-out to continue.
    #[error("no roll-out of the track {0} is under way")]
    NoRollout(TrackName),
    /// The stored state of a roll-out is not valid.
    #[error("the roll-out of the track {track} cannot be read: {why}")]
    BadRollout {
        /// The track.
        track: TrackName,
        /// What is wrong with the state.
        why: String,
    },
    /// The jail cannot be a canary.
    #[error("{jail} cannot be a canary: {why}")]
    Canary {
        /// The jail.
        jail: JailName,
        /// Why it cannot be a canary.
        why: &'static str,
    },
    /// A jail runs on the generation.
    #[error("{generation} is in use: {jail} runs on it")]
    InUse {
        /// The generation.
        generation: String,
        /// The jail that runs on it.
        jail: JailName,
    },
    /// The number of the previous generation now belongs to another generation.
    #[error(
        "generation {generation} is not the one that the track {track} left: it has another snapshot"
    )]
    Replaced {
        /// The number of the generation.
        generation: GenerationId,
        /// The track.
        track: TrackName,
    },
    /// The world needs another operating system, so that no jail of this host can run it.
    #[error("{generation} needs {needs}, but this host runs {host}")]
    OtherSystem {
        /// The generation.
        generation: String,
        /// The system that its world needs.
        needs: String,
        /// The system of this host.
        host: Os,
    },
    /// By ZFS's estimate the pool has too little space, or it is too much for one program.
    #[error(
        "{what} needs {need} bytes of free space in the pool by ZFS's estimate, but only {have} are free"
    )]
    Space {
        /// What needs the space.
        what: String,
        /// The bytes that are needed by ZFS's estimate.
        need: u64,
        /// The bytes that are free.
        have: u64,
    },
    /// The dataset contains objects that ezz did not create.
    #[error("{dataset} contains objects that ezz did not create: {}", three(list))]
    Foreign {
        /// The dataset.
        dataset: DatasetName,
        /// The names of the objects.
        list: Vec<String>,
    },
    /// The dataset that is to become a site is not empty.
    #[error("{dataset} is not empty: it has {has}")]
    NotEmpty {
        /// The dataset.
        dataset: DatasetName,
        /// An example of what it contains.
        has: String,
    },
    /// The dataset has clones.
    #[error("cannot destroy {dataset}: {} were cloned from it", three(list))]
    Dependents {
        /// The dataset.
        dataset: DatasetName,
        /// The names of the clones.
        list: Vec<String>,
    },
    /// Another program holds snapshots of the dataset.
    #[error("cannot destroy {dataset}: {} held by another program", held(list))]
    Held {
        /// The dataset.
        dataset: DatasetName,
        /// The held snapshots.
        list: Vec<String>,
    },
    /// The generation cannot be determined.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// A value cannot be encoded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A name is too long for the site.
    #[error(transparent)]
    Name(#[from] NameError),
}

fn held(list: &[String]) -> String {
    let are = if list.len() == 1 { "is" } else { "are" };
    format!("{} {are}", three(list))
}

impl PlanError {
    /// Whether the error is a mistake in the arguments that would be one on every site.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            PlanError::Twice(_) | PlanError::OnlyOne(_) | PlanError::NotAtomic { .. }
        )
    }
}

/// Names at most three: a host that takes snapshots by a timer has hundreds.
fn three(list: &[String]) -> String {
    first_few(list, 3, ", ")
}

/// Why the specification of a jail cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum SpecError {
    /// The base of the jail does not exist or is not sealed.
    #[error(
        "the generation {generation} that the jail {jail} needs does not exist or is not sealed"
    )]
    NoBase {
        /// The jail.
        jail: JailName,
        /// The generation that the jail needs.
        generation: GenerationId,
    },
    /// No profile with this name is known.
    #[error(
        "{generation} was installed with the profile {profile:?}, which this ezz does not know"
    )]
    Profile {
        /// The generation that has the profile.
        generation: String,
        /// The name of the profile.
        profile: String,
    },
    /// The name of the jail's dataset is too long.
    #[error(transparent)]
    Name(
        #[serde(skip)]
        #[from]
        NameError,
    ),
}
