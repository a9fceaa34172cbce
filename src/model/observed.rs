//! The results of an observation of a site: values of one moment, from which plans are made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;
use thiserror::Error;

use super::{
    Base, Flags, JailConfig, Layout, Merging, Populated, Rejected, Rollout, Seal, Served, Swap,
    Track, World,
};
use crate::hint::Hint;
use crate::name::{DatasetName, GenerationId, JailName, TrackName};

/// One half of a generation, as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    /// The name of the dataset.
    pub dataset: DatasetName,
    /// The guid of the dataset.
    pub guid: u64,
    /// Whether it is mounted now.
    pub mounted: bool,
    /// The flags of the mount at its mountpoint; none if it is not mounted there, or if they were not read.
    pub flags: Option<Flags>,
    /// The mountpoint that it has now.
    pub mountpoint: PathBuf,
    /// The number of bytes that it refers to.
    pub referenced: u64,
    /// The number of bytes that it shares with no other dataset.
    pub used: u64,
    /// The snapshot that it is a clone of; none if it is not a clone.
    pub origin: Option<String>,
    /// The guid of its snapshot @N; none if that does not exist.
    pub snapshot: Option<u64>,
    /// The seal on that snapshot.
    pub seal: Option<Seal>,
    /// Whether a prune has begun to destroy it. If its snapshot is missing, it is debris.
    pub pruned: bool,
    /// Snapshots of other generations that a promotion has moved here, each with its guid.
    pub moved: BTreeMap<GenerationId, u64>,
    /// The number of bytes written since the snapshot: 0 unless something has changed the dataset.
    pub written: u64,
    /// Whether the snapshot has ezz's hold.
    pub held: bool,
}

impl Half {
    /// Reports whether an interrupted prune has left it without its snapshot.
    pub fn half_gone(&self) -> bool {
        self.pruned && self.snapshot.is_none()
    }
}

/// A generation, as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The number of the generation.
    pub id: GenerationId,
    /// The value of `ezz:world`; none if it is staged.
    pub world: Option<World>,
    /// The value of `ezz:populated`; none unless the files of the stage are complete.
    pub populated: Option<Populated>,
    /// The value of `ezz:rejected`; none unless a roll-out of it failed.
    pub rejected: Option<Rejected>,
    /// The value of `ezz:served`; none unless a track has left it.
    pub served: Option<Served>,
    /// Whether it has the mark of a seal that is under way. If it is not sealed, that was stopped in its middle.
    pub sealing: bool,
    /// SITE/basejail/N.
    pub base: Option<Half>,
    /// The skeleton, SITE/newjail/N; none if that does not exist.
    pub skeleton: Option<Half>,
}

impl Generation {
    /// Reports whether it is sealed.
    pub fn sealed(&self) -> bool {
        self.seal().is_some()
    }

    /// Whether it is being built, or is what a killed install left: its base is there, with neither
    /// the snapshot nor the `ezz:world` that a seal makes. What lost its snapshot by hand is not,
    /// and neither is a skeleton alone: bases are made first, and go last. What a killed prune left of
    /// a base is as good as that, and so is what a seal left that was stopped in its middle.
    pub fn staged(&self) -> bool {
        let bare = |half: &Half| {
            let made = half.snapshot.is_some() || self.world.is_some();
            half.half_gone() || !made || self.sealing && !self.sealed()
        };
        self.base.as_ref().is_some_and(bare)
    }

    /// Reports whether a prune has destroyed the base, and has kept the skeleton for the jails that were made from it.
    pub fn pruned(&self) -> bool {
        let skeleton = self.skeleton.as_ref();
        self.base.is_none() && skeleton.is_some_and(|half| !half.pruned)
    }

    /// Returns the seal of the base.
    pub fn seal(&self) -> Option<&Seal> {
        self.base.as_ref().and_then(|half| half.seal.as_ref())
    }

    /// Returns the release without its patch level; none if no seal has it.
    pub fn release(&self) -> Option<&str> {
        let seals = [&self.skeleton, &self.base].into_iter().flatten();
        let mut releases = seals.filter_map(|half| half.seal.as_ref()?.release.as_deref());
        releases.next()
    }

    /// Returns the digest of the skeleton; none if no seal has it.
    fn skeleton_digest(&self) -> Option<&str> {
        let seals = [&self.skeleton, &self.base].into_iter().flatten();
        let mut digests = seals.filter_map(|half| half.seal.as_ref()?.skeleton.as_deref());
        digests.next()
    }

    /// Returns how the generation is shown, such as `14.3-RELEASE-p2.7`.
    pub fn display(&self) -> String {
        match &self.world {
            Some(world) => format!("{}.{}", world.label, self.id),
            None => self.id.to_string(),
        }
    }
}

/// A jail, as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jail {
    /// The name of the jail.
    pub name: JailName,
    /// The name of its dataset.
    pub dataset: DatasetName,
    /// The guid of its dataset.
    pub guid: u64,
    /// The configuration. It is an error if the property is missing or does not parse; ezz lists such a dataset and
    /// does not touch it.
    pub config: Result<JailConfig, String>,
    /// The value of `ezz:merging`; none unless a merge is under way or was interrupted.
    pub merging: Option<Merging>,
    /// The snapshot that it is a clone of; none if it is not a clone.
    pub origin: Option<String>,
    /// Its mountpoint.
    pub mountpoint: PathBuf,
    /// Whether it is mounted on the host.
    pub mounted: bool,
    /// The flags of the mount at its mountpoint; none if it is not mounted there, or if they were not read.
    pub flags: Option<Flags>,
    /// The number of bytes that it shares with no other dataset.
    pub used: u64,
    /// The number of bytes that it refers to.
    pub referenced: u64,
    /// Its quota in bytes; 0 means none.
    pub quota: u64,
}

/// A dataset that an intent names, and that has the origin or the guid that the intent records. The command that wrote
/// the intent did not commit, so the dataset is no jail, whatever properties it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debris {
    /// The dataset in the form of a jail, which has its name, guid and mount; its `config` is an error.
    pub jail: Jail,
    /// The name of the intent's property.
    pub intent: String,
    /// Whether it was being deleted, and not created.
    pub deleted: bool,
    /// The snapshots and datasets below it, which ezz did not make. If there are any, ezz does not destroy it unless an
    /// administrator requests it.
    pub below: Vec<String>,
}

/// A snapshot from which a jail was being cloned when the command was interrupted, before the snapshot was handed over
/// to its clones. It has to be destroyed after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftSnapshot {
    /// The name of the snapshot.
    pub name: String,
    /// The guid of the snapshot.
    pub guid: u64,
    /// The mark of the intent that records it.
    pub mark: String,
}

/// Whether an operation changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[must_use]
pub enum Changed {
    /// Everything was already as requested.
    Already,
    /// The operation made a change.
    Done,
}

/// The state of one jail on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JailState {
    /// It does not run.
    Stopped {
        /// The exit status of its first process, where the host remembers it.
        exit: Option<i32>,
    },
    /// It runs.
    Running {
        /// The process id of its init on Linux, its jid on FreeBSD.
        id: u32,
        /// The dataset that is mounted at /basejail, according to the kernel's mount table.
        base: Option<String>,
    },
    /// It is being started, or its start was killed.
    Starting,
    /// It was removed, or its first process has ended, but the kernel has not finished with it.
    Dying,
}

impl JailState {
    /// Reports whether processes of the jail may be running.
    pub fn running(&self) -> bool {
        !matches!(self, JailState::Stopped { .. })
    }
}

/// A dataset or snapshot in the site that ezz did not make or cannot use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// The name of the dataset or snapshot.
    pub dataset: String,
    /// Why ezz does not touch it.
    pub why: String,
}

/// The site itself, as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The names of its datasets.
    pub layout: Layout,
    /// The value of `ezz:id`.
    pub id: String,
    /// The value of `ezz:format`.
    pub format: u32,
    /// The value of `ezz:seq`.
    pub seq: u32,
    /// The value of `ezz:epoch`.
    pub epoch: u64,
    /// Whether its properties were received by `zfs receive`. If so, ezz changes nothing.
    pub replica: bool,
    /// The path of the site directory.
    pub directory: PathBuf,
    /// Whether the site is mounted.
    pub mounted: bool,
    /// The number of bytes that the pool has available for it.
    pub available: u64,
    /// Whether nothing can be written to it, because the pool was imported read-only or because of `readonly=on`. The
    /// former is known only while the site is mounted.
    pub read_only: bool,
}

/// The log of a track's swaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwapLog {
    /// The text of the property as it was read. A commit compares it with the property.
    pub text: String,
    /// The swaps, oldest first; empty if the text does not parse.
    pub swaps: Vec<Swap>,
}

/// A roll-out that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// The text of the property as it was read. A commit compares it with the property.
    pub text: String,
    /// The roll-out; an error if the text does not parse.
    pub rollout: Result<Rollout, String>,
}

/// The results of one observation of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The site itself.
    pub site: Site,
    /// The tracks of the site.
    pub tracks: BTreeMap<TrackName, Track>,
    /// The log of each track's last swaps.
    pub swaps: BTreeMap<TrackName, SwapLog>,
    /// What is kept of the ledgers of pruned generations: property and text.
    pub accounts: BTreeMap<String, String>,
    /// Roll-outs that are under way.
    pub rollouts: BTreeMap<TrackName, UnderWay>,
    /// The generations of the site, including staged ones.
    pub generations: BTreeMap<GenerationId, Generation>,
    /// The intents that no command has committed, by the name of their property, with their text. For a command that
    /// has the site lock their owners are dead, because a command holds that lock from its intent to its commit.
    pub intents: BTreeMap<String, String>,
    /// The jails that these intents say were being deleted, including those whose datasets no longer exist.
    pub deleting: BTreeSet<JailName>,
    /// The datasets that these intents name, also outside the scope of the observation.
    pub debris: BTreeMap<JailName, Debris>,
    /// The snapshots that these intents record, and that are not destroyed with their last clone.
    pub left: Vec<LeftSnapshot>,
    /// The jails of the site: all of them, or those in `scope`.
    pub jails: BTreeMap<JailName, Jail>,
    /// The names of the jails to look for; none means all.
    pub scope: Option<BTreeSet<JailName>>,
    /// Datasets and snapshots in the site that are not ezz's.
    pub strangers: Vec<Stranger>,
}

impl Inventory {
    /// Returns a sealed generation by its number.
    pub fn sealed(&self, id: GenerationId) -> Option<&Generation> {
        self.generations
            .get(&id)
            .filter(|generation| generation.sealed())
    }

    /// Returns the generation that has the rules of a thick jail's world. A thick jail has a base of its own, and a
    /// promotion may have moved the generation's sealed snapshot to the jail.
    pub fn rules(&self, id: GenerationId) -> Option<&Generation> {
        let found = self.generations.get(&id)?;
        let promoted = found
            .base
            .as_ref()
            .is_some_and(|half| self.promoted(half).is_some());
        (found.sealed() || promoted).then_some(found)
    }

    /// Returns the name of the jail that zfs(8) has promoted over a half of a generation, and that has the half's
    /// sealed snapshot now.
    pub fn promoted<'a>(&self, half: &'a Half) -> Option<&'a str> {
        let below = half.origin.as_deref()?;
        let below = below.strip_prefix(self.site.layout.jails.as_str())?;
        let (jail, number) = below.strip_prefix('/')?.split_once('@')?;
        (number == half.dataset.leaf()).then_some(jail)
    }

    /// Returns the skeleton of a sealed generation, or of one whose base was pruned.
    pub fn skeleton(&self, id: GenerationId) -> Option<&Half> {
        let found = self.generations.get(&id)?;
        let finished = found.sealed() || found.base.as_ref().is_none_or(Half::half_gone);
        found.skeleton.as_ref().filter(|_| finished)
    }

    /// Reports whether the skeletons of two generations are known to have the same files.
    pub fn same_skeleton(&self, one: GenerationId, other: GenerationId) -> bool {
        let digest = |id| self.generations.get(&id)?.skeleton_digest();
        one == other || digest(one).is_some() && digest(one) == digest(other)
    }

    /// Returns the generation that is due for a jail with this base.
    pub fn due(&self, base: &Base) -> Option<GenerationId> {
        match base {
            Base::Pin(id) => Some(*id),
            Base::Track(track) => self.tracks.get(track).and_then(|track| track.current),
        }
    }

    /// Finds a sealed generation by its number, by `LABEL.N`, or by a label that only one generation has.
    pub fn find_generation(&self, text: &str) -> Result<&Generation, GenerationError> {
        let sealed = || {
            self.generations
                .values()
                .filter(|generation| generation.sealed())
        };
        let by_id = |text| GenerationId::from_component(text).and_then(|id| self.sealed(id));
        if let Some(found) = by_id(text) {
            return Ok(found);
        }
        if let Some(found) = sealed().find(|generation| generation.display() == text) {
            return Ok(found);
        }
        let labelled: Vec<&Generation> = sealed()
            .filter(|generation| generation.world.as_ref().is_some_and(|w| w.label == text))
            .collect();
        match labelled.as_slice() {
            [] => Err(GenerationError::Unknown(text.to_owned())),
            [only] => Ok(only),
            several => Err(GenerationError::Ambiguous(
                text.to_owned(),
                several
                    .iter()
                    .map(|generation| generation.display())
                    .collect(),
            )),
        }
    }
}

/// The error for a text that does not name exactly one sealed generation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenerationError {
    /// No sealed generation has that number or label.
    #[error("there is no sealed generation {0:?}")]
    Unknown(String),
    /// More than one sealed generation has that label.
    #[error("{0:?} is the label of several generations: {list}", list = .1.join(", "))]
    Ambiguous(String, Vec<String>),
}

impl Hint for GenerationError {
    fn hint(&self) -> Option<String> {
        Some("`ezz world list` shows the generations".to_owned())
    }
}
