//! Why there is no plan: what every verb may refuse.

use std::path::PathBuf;

use serde::Serialize;
use thiserror::Error;

use crate::fleet::FleetError;
use crate::model::{GenerationError, ModelError, Os};
use crate::name::{DatasetName, FlavourName, GenerationId, JailName, NameError, TrackName};
use crate::text::first_few;

/// Why there is no plan. Nothing has been done.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The site came by `zfs receive`.
    #[error("{0} is a replica: its properties came with a zfs receive, and ezz only reads it")]
    Replica(DatasetName),
    /// The pool was imported read-only, or the site's `readonly` is on.
    #[error("{0} is read-only")]
    ReadOnly(DatasetName),
    /// A newer ezz wrote it.
    #[error("{site} has format {found}, but this ezz supports {known}")]
    Format {
        /// Which site.
        site: DatasetName,
        /// Its format.
        found: u32,
        /// What this version writes.
        known: u32,
    },
    /// There is no specification of a jail.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A jail that must not exist.
    #[error("the jail {0} already exists")]
    JailExists(JailName),
    /// An interrupted merge cannot be taken back, since a rollback would destroy snapshots of others.
    #[error(
        "cannot undo the interrupted merge of {jail}: {count} newer snapshots exist, the first is {first}"
    )]
    MergedBefore {
        /// Which jail.
        jail: JailName,
        /// The first of them by name.
        first: String,
        /// How many there are.
        count: usize,
    },
    /// The mountpoint of a jail was changed.
    #[error("the mountpoint of {dataset} is {}, not {}", found.display(), at.display())]
    Elsewhere {
        /// Its dataset.
        dataset: DatasetName,
        /// What it is.
        found: PathBuf,
        /// What it is to be.
        at: PathBuf,
    },
    /// A jail that must exist.
    #[error("there is no jail {0}")]
    NoJail(JailName),
    /// The name of a track.
    #[error("{0} is the name of a track, and cannot be the name of a jail")]
    JailIsTrack(JailName),
    /// What it is called would be taken for something else on a command line.
    #[error("{0} is a word of ezz's command line, and cannot be the name of a new jail")]
    JailIsWord(JailName),
    /// The name of a jail.
    #[error("{0} is the name of a jail, and cannot be the name of a track")]
    TrackIsJail(TrackName),
    /// A fleet file asks for what cannot be.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The site has no such flavour.
    #[error("there is no flavour {0}")]
    NoFlavour(FlavourName),
    /// Named twice in one command.
    #[error("the jail {0} is named twice")]
    Twice(JailName),
    /// A command creates or deletes it, or did until it was interrupted: it is not a jail.
    #[error("the creation or deletion of {0} was interrupted, or is under way")]
    Interrupted(JailName),
    /// Its dataset is not one of ezz's.
    #[error("{dataset} is not a jail that ezz can use: {why}")]
    Stranger {
        /// Which dataset.
        dataset: DatasetName,
        /// Why not.
        why: String,
    },
    /// Something is in the way of its directory.
    #[error("{} is in the way of the jail {jail}: {why}", at.display())]
    Directory {
        /// Which jail.
        jail: JailName,
        /// Where.
        at: PathBuf,
        /// What is there.
        why: &'static str,
    },
    /// One host name or address for several jails.
    #[error("{0} is only possible for a single jail")]
    OnlyOne(&'static str),
    /// The address is another jail's.
    #[error("the address {address} belongs to the jail {owner}")]
    AddressTaken {
        /// Which address.
        address: String,
        /// Whose.
        owner: JailName,
    },
    /// A newer ezz has given a jail limits that this one cannot hold it to.
    #[error("{jail} has limits that this ezz does not know: {limits}")]
    UnknownLimits {
        /// Which jail.
        jail: JailName,
        /// Which limits.
        limits: String,
    },
    /// A jail would administer the site, or a part of it.
    #[error("cannot give {dataset} to a jail: it is part of the site {site}, or contains it")]
    SiteDataset {
        /// Which dataset.
        dataset: DatasetName,
        /// The site.
        site: DatasetName,
    },
    /// Another jail administers the dataset, or a part of it.
    #[error("the dataset {dataset} belongs to the jail {owner}, at least in part")]
    DatasetTaken {
        /// Which dataset.
        dataset: DatasetName,
        /// Whose.
        owner: JailName,
    },
    /// A network has too few addresses that no jail has.
    #[error("{pool} has {free} free addresses, but {wanted} jails need one each")]
    PoolTooSmall {
        /// Which network.
        pool: String,
        /// How many are wanted.
        wanted: usize,
        /// How many there are.
        free: usize,
    },
    /// More jails than one program takes.
    #[error("cannot create {jails} jails in one transaction: the maximum is {most}")]
    NotAtomic {
        /// How many are wanted.
        jails: usize,
        /// How many can be.
        most: usize,
    },
    /// Several names are taken.
    #[error("{} jails already exist: {}", .0.len(), first_few(.0, 10, ", "))]
    JailsExist(Vec<JailName>),
    /// No such track.
    #[error("there is no track {0}")]
    NoTrack(TrackName),
    /// Nothing that a jail could be made from.
    #[error("{0} has no world yet")]
    NoWorld(DatasetName),
    /// A track that must not exist.
    #[error("the track {0} already exists, at another generation")]
    TrackExists(TrackName),
    /// A track that is needed.
    #[error("the track {track} is followed by {}", first_few(.jails, 10, ", "))]
    TrackFollowed {
        /// Which track.
        track: TrackName,
        /// By whom.
        jails: Vec<JailName>,
    },
    /// A track without a generation.
    #[error("the track {0} has no generation yet")]
    EmptyTrack(TrackName),
    /// Somebody else has moved it meanwhile.
    #[error(
        "the track {track} is no longer at generation {from}, which generation {made} was made from"
    )]
    TrackMoved {
        /// Which track.
        track: TrackName,
        /// Where it was.
        from: GenerationId,
        /// What was to come.
        made: GenerationId,
    },
    /// There is nothing to go back to.
    #[error("the track {0} has no previous generation")]
    NoPrevious(TrackName),
    /// A roll-out of it failed.
    #[error("generation {generation} was rejected: {why}")]
    Rejected {
        /// The track that was to be swapped to it.
        track: TrackName,
        /// Which generation.
        generation: String,
        /// What was noted then.
        why: String,
    },
    /// No such generation.
    #[error("there is no generation {0}")]
    NoGeneration(GenerationId),
    /// Something needs a generation that was to be deleted.
    #[error("generation {generation} is in use: {}", first_few(reasons, 10, "; "))]
    GenerationKept {
        /// Which generation.
        generation: String,
        /// What keeps it.
        reasons: Vec<String>,
    },
    /// A track's generation is gone or not sealed.
    #[error("generation {0} does not exist or is not sealed")]
    NotSealed(GenerationId),
    /// A merge of it is under way, or was interrupted.
    #[error("a merge of {0} is under way, or was interrupted")]
    Merging(JailName),
    /// What a merge needs is gone.
    #[error("cannot merge {jail}: {why}")]
    NoMerge {
        /// Which jail.
        jail: JailName,
        /// Why not.
        why: String,
    },
    /// Its files cannot be seen.
    #[error("the own files of {0} are not mounted, and cannot be compared")]
    NotMounted(JailName),
    /// Its files are merged while it is down.
    #[error("cannot merge {0} while it is running")]
    MergeRunning(JailName),
    /// Jails are just being moved.
    #[error("a roll-out of the track {0} is under way")]
    RolloutUnderWay(TrackName),
    /// There is nothing to go on with.
    #[error("no roll-out of the track {0} is under way")]
    NoRollout(TrackName),
    /// What was stored of a roll-out makes no sense.
    #[error("the roll-out of the track {track} cannot be read: {why}")]
    BadRollout {
        /// Which track.
        track: TrackName,
        /// What is wrong.
        why: String,
    },
    /// A jail that cannot go first.
    #[error("{jail} cannot be a canary: {why}")]
    Canary {
        /// Which jail.
        jail: JailName,
        /// Why not.
        why: &'static str,
    },
    /// A jail runs on it.
    #[error("{generation} is in use: {jail} runs on it")]
    InUse {
        /// Which generation.
        generation: String,
        /// By which jail.
        jail: JailName,
    },
    /// Under the number of the previous generation is another one.
    #[error(
        "generation {generation} is not the one that the track {track} left: it has another snapshot"
    )]
    Replaced {
        /// Which generation.
        generation: GenerationId,
        /// Which track.
        track: TrackName,
    },
    /// A world of another system, which no jail of this host can run.
    #[error("{generation} needs {needs}, but this host runs {host}")]
    OtherSystem {
        /// Which generation.
        generation: String,
        /// The system that its world needs.
        needs: String,
        /// The system of this host.
        host: Os,
    },
    /// Too much for one program or the pool.
    #[error(
        "{what} needs {need} bytes of free space in the pool by ZFS's estimate, but only {have} are free"
    )]
    Space {
        /// What was asked.
        what: String,
        /// By ZFS's estimate.
        need: u64,
        /// What is free.
        have: u64,
    },
    /// It has things that ezz did not make.
    #[error("{dataset} contains objects that ezz did not create: {}", three(list))]
    Foreign {
        /// Which dataset.
        dataset: DatasetName,
        /// What it has.
        list: Vec<String>,
    },
    /// What is to be a site has something else.
    #[error("{dataset} is not empty: it has {has}")]
    NotEmpty {
        /// Which dataset.
        dataset: DatasetName,
        /// For example.
        has: String,
    },
    /// Others are clones of it.
    #[error("cannot destroy {dataset}: {} were cloned from it", three(list))]
    Dependents {
        /// Which dataset.
        dataset: DatasetName,
        /// The clones.
        list: Vec<String>,
    },
    /// Somebody holds its snapshots.
    #[error("cannot destroy {dataset}: {} held by another program", held(list))]
    Held {
        /// Which dataset.
        dataset: DatasetName,
        /// The snapshots.
        list: Vec<String>,
    },
    /// The generation cannot be told.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// A value cannot be written.
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
    /// Whether it is a mistake in the arguments alone, on every site.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            PlanError::Twice(_) | PlanError::OnlyOne(_) | PlanError::NotAtomic { .. }
        )
    }
}

/// A host that takes snapshots by a timer has hundreds.
fn three(list: &[String]) -> String {
    first_few(list, 3, ", ")
}

/// Why there is no specification of a jail.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum SpecError {
    /// Its base does not exist or is not sealed.
    #[error(
        "the generation {generation} that the jail {jail} needs does not exist or is not sealed"
    )]
    NoBase {
        /// The jail.
        jail: JailName,
        /// What it needs.
        generation: GenerationId,
    },
    /// No profile of that name is known.
    #[error(
        "{generation} was installed with the profile {profile:?}, which this ezz does not know"
    )]
    Profile {
        /// Whose world.
        generation: String,
        /// The profile's name.
        profile: String,
    },
    /// The name of its dataset is too long.
    #[error(transparent)]
    Name(
        #[serde(skip)]
        #[from]
        NameError,
    ),
}
