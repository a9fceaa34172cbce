//! What an observation finds of a site: values of one moment, which plans are made from.

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

/// One half of a generation as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    /// The dataset.
    pub dataset: DatasetName,
    /// Its guid.
    pub guid: u64,
    /// Where it is mounted now, if it is.
    pub mounted: bool,
    /// The flags of its mount at its mountpoint, if they were read and it is mounted there.
    pub flags: Option<Flags>,
    /// Its mountpoint of the moment.
    pub mountpoint: PathBuf,
    /// Bytes it refers to.
    pub referenced: u64,
    /// Bytes that are only its own.
    pub used: u64,
    /// The snapshot that it is a clone of, if it is one.
    pub origin: Option<String>,
    /// The guid of its snapshot @N, if that is there.
    pub snapshot: Option<u64>,
    /// The seal on that snapshot.
    pub seal: Option<Seal>,
    /// Whether a prune of it was begun: without its snapshot it is debris then.
    pub pruned: bool,
    /// Snapshots of other generations that a promotion has moved here, with their guids.
    pub moved: BTreeMap<GenerationId, u64>,
    /// Bytes written since the snapshot: 0 unless somebody tampered with it.
    pub written: u64,
    /// Whether ezz's hold is on the snapshot.
    pub held: bool,
}

impl Half {
    /// Whether a killed prune has left it without its snapshot.
    pub fn half_gone(&self) -> bool {
        self.pruned && self.snapshot.is_none()
    }
}

/// A generation as observed. Sealed if both halves are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub id: GenerationId,
    /// `ezz:world` of a sealed one.
    pub world: Option<World>,
    /// `ezz:populated`, if its files are complete.
    pub populated: Option<Populated>,
    /// `ezz:rejected`, if a roll-out of it failed.
    pub rejected: Option<Rejected>,
    /// `ezz:served`, if a track has left it.
    pub served: Option<Served>,
    /// Whether it has the mark of a seal that is under way. If it is not sealed, that was stopped in its middle.
    pub sealing: bool,
    /// SITE/basejail/N.
    pub base: Option<Half>,
    /// SITE/newjail/N.
    pub skeleton: Option<Half>,
}

impl Generation {
    /// Whether it is finished for ever.
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

    /// Whether a prune has destroyed its base, and has left its skeleton to jails that were made from it.
    pub fn pruned(&self) -> bool {
        let skeleton = self.skeleton.as_ref();
        self.base.is_none() && skeleton.is_some_and(|half| !half.pruned)
    }

    /// The seal of its base.
    pub fn seal(&self) -> Option<&Seal> {
        self.base.as_ref().and_then(|half| half.seal.as_ref())
    }

    /// Its release, without patch level; none if the seal does not tell it.
    pub fn release(&self) -> Option<&str> {
        let seals = [&self.skeleton, &self.base].into_iter().flatten();
        let mut releases = seals.filter_map(|half| half.seal.as_ref()?.release.as_deref());
        releases.next()
    }

    /// The digest of its skeleton; none if the seal does not have it.
    fn skeleton_digest(&self) -> Option<&str> {
        let seals = [&self.skeleton, &self.base].into_iter().flatten();
        let mut digests = seals.filter_map(|half| half.seal.as_ref()?.skeleton.as_deref());
        digests.next()
    }

    /// How it is shown: `14.3-RELEASE-p2.7`.
    pub fn display(&self) -> String {
        match &self.world {
            Some(world) => format!("{}.{}", world.label, self.id),
            None => self.id.to_string(),
        }
    }
}

/// A jail as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jail {
    /// Its name.
    pub name: JailName,
    /// Its dataset.
    pub dataset: DatasetName,
    /// Its guid.
    pub guid: u64,
    /// Its configuration; none if the property is missing or does not parse: such a dataset is
    /// shown and left alone.
    pub config: Result<JailConfig, String>,
    /// `ezz:merging`, if a merge of it is under way or was interrupted.
    pub merging: Option<Merging>,
    /// The snapshot it is a clone of.
    pub origin: Option<String>,
    /// Where it is mounted when it is.
    pub mountpoint: PathBuf,
    /// Whether it is mounted on the host.
    pub mounted: bool,
    /// The flags of its mount at its mountpoint, if they were read and it is mounted there.
    pub flags: Option<Flags>,
    /// Bytes of its own.
    pub used: u64,
    /// Bytes it refers to.
    pub referenced: u64,
    /// Its quota in bytes; 0 is none.
    pub quota: u64,
}

/// A clone of an intent's origin that the intent names: the command that was to make a jail of it
/// did not commit. It is no jail, whatever properties it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debris {
    /// The dataset as a jail's, for the sake of its name, guid and mount; its `config` is an error.
    pub jail: Jail,
    /// The property that names it.
    pub intent: String,
    /// Whether it was being deleted; else it was being made.
    pub deleted: bool,
    /// Snapshots and datasets below it, which ezz did not make: with any, it is not cleared away
    /// unasked.
    pub below: Vec<String>,
}

/// The snapshot of a clone that was interrupted before it was handed over to its clones: to be destroyed
/// after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftSnapshot {
    /// Its name.
    pub name: String,
    /// Its guid.
    pub guid: u64,
    /// The mark of the intent that tells of it.
    pub mark: String,
}

/// Whether an operation had anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[must_use]
pub enum Changed {
    /// It was so already.
    Already,
    /// It is so now.
    Done,
}

/// What a host knows of one jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JailState {
    /// It does not run.
    Stopped {
        /// The exit status of its first process, where the host remembers it.
        exit: Option<i32>,
    },
    /// It runs.
    Running {
        /// Process id of its init (Linux), jid (FreeBSD).
        id: u32,
        /// The dataset that the kernel has mounted at /basejail, from the mount table.
        base: Option<String>,
    },
    /// It is being started, or its start was killed.
    Starting,
    /// It was removed, or its first process has ended, and the kernel is not done with it.
    Dying,
}

impl JailState {
    /// Whether processes of it may run.
    pub fn running(&self) -> bool {
        !matches!(self, JailState::Stopped { .. })
    }
}

/// Something in the site that ezz did not make or cannot use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// The dataset or snapshot.
    pub dataset: String,
    /// Why it is left alone.
    pub why: String,
}

/// The site itself as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its datasets.
    pub layout: Layout,
    /// `ezz:id`.
    pub id: String,
    /// `ezz:format`.
    pub format: u32,
    /// `ezz:seq`.
    pub seq: u32,
    /// `ezz:epoch`.
    pub epoch: u64,
    /// Whether its properties came with a `zfs receive`: then nothing is changed.
    pub replica: bool,
    /// The site directory.
    pub directory: PathBuf,
    /// Whether it is mounted.
    pub mounted: bool,
    /// Bytes the pool can still give it.
    pub available: u64,
    /// Whether nothing can be written to it: a pool that was imported read-only, or `readonly=on`.
    /// Of a pool that is known only while the site is mounted.
    pub read_only: bool,
}

/// The log of a track's swaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwapLog {
    /// The property as it was read, which a commit compares.
    pub text: String,
    /// The swaps, oldest first; none if the text does not parse.
    pub swaps: Vec<Swap>,
}

/// A roll-out that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// The property as it was read, which a commit compares.
    pub text: String,
    /// What it says; an error if it does not parse.
    pub rollout: Result<Rollout, String>,
}

/// What was seen of a site in one observation. `jails` holds those that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The site.
    pub site: Site,
    /// Its tracks.
    pub tracks: BTreeMap<TrackName, Track>,
    /// The last swaps of each track, oldest first; of a log that does not parse, none.
    pub swaps: BTreeMap<TrackName, SwapLog>,
    /// What is kept of the ledgers of pruned generations: property and text.
    pub accounts: BTreeMap<String, String>,
    /// Roll-outs that are under way.
    pub rollouts: BTreeMap<TrackName, UnderWay>,
    /// Its generations, staged ones too.
    pub generations: BTreeMap<GenerationId, Generation>,
    /// Intents that no command has committed, and their text. Dead ones for who has the site lock:
    /// it is held from the intent to the commit.
    pub intents: BTreeMap<String, String>,
    /// Jails that those say were being deleted, also such as are gone.
    pub deleting: BTreeSet<JailName>,
    /// Clones that those name, whichever jails were asked for.
    pub debris: BTreeMap<JailName, Debris>,
    /// Snapshots that those tell of, and that do not go with their last clone.
    pub left: Vec<LeftSnapshot>,
    /// Its jails: all, or those named.
    pub jails: BTreeMap<JailName, Jail>,
    /// Which names were looked for; none = all.
    pub scope: Option<BTreeSet<JailName>>,
    /// What is there and not ezz's.
    pub strangers: Vec<Stranger>,
}

impl Inventory {
    /// A sealed generation by its number.
    pub fn sealed(&self, id: GenerationId) -> Option<&Generation> {
        self.generations
            .get(&id)
            .filter(|generation| generation.sealed())
    }

    /// The generation that a thick jail, which has its own base, reads the rules of its world from: it may have lost
    /// its seal to the jail by a promotion.
    pub fn rules(&self, id: GenerationId) -> Option<&Generation> {
        let found = self.generations.get(&id)?;
        let promoted = found
            .base
            .as_ref()
            .is_some_and(|half| self.promoted(half).is_some());
        (found.sealed() || promoted).then_some(found)
    }

    /// The name of the jail that was promoted with zfs(8) over a half of a generation: it has the snapshot of its
    /// seal.
    pub fn promoted<'a>(&self, half: &'a Half) -> Option<&'a str> {
        let below = half.origin.as_deref()?;
        let below = below.strip_prefix(self.site.layout.jails.as_str())?;
        let (jail, number) = below.strip_prefix('/')?.split_once('@')?;
        (number == half.dataset.leaf()).then_some(jail)
    }

    /// The skeleton of a finished generation, also of one whose base was pruned.
    pub fn skeleton(&self, id: GenerationId) -> Option<&Half> {
        let found = self.generations.get(&id)?;
        let finished = found.sealed() || found.base.as_ref().is_none_or(Half::half_gone);
        found.skeleton.as_ref().filter(|_| finished)
    }

    /// Whether the skeletons of two generations are known to have the same files.
    pub fn same_skeleton(&self, one: GenerationId, other: GenerationId) -> bool {
        let digest = |id| self.generations.get(&id)?.skeleton_digest();
        one == other || digest(one).is_some() && digest(one) == digest(other)
    }

    /// The generation a jail with this base is to be brought to.
    pub fn due(&self, base: &Base) -> Option<GenerationId> {
        match base {
            Base::Pin(id) => Some(*id),
            Base::Track(track) => self.tracks.get(track).and_then(|track| track.current),
        }
    }

    /// A sealed generation by number, `LABEL.N`, or a label that only one has.
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

/// A generation that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenerationError {
    /// None has that number or label.
    #[error("there is no sealed generation {0:?}")]
    Unknown(String),
    /// More than one has that label.
    #[error("{0:?} is the label of several generations: {list}", list = .1.join(", "))]
    Ambiguous(String, Vec<String>),
}

impl Hint for GenerationError {
    fn hint(&self) -> Option<String> {
        Some("`ezz world list` shows the generations".to_owned())
    }
}
