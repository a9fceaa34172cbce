//! Commits: the channel programs that a plan runs, each with what it compares and changes.
//!
//! It is the only vocabulary for them: `pool/encode.rs` makes the arguments of the programs from it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::listed;
use crate::model::Inventory;
use crate::name::{DatasetName, GenerationId, JailName, SnapshotName};

/// A property change inside a commit: compared, then set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Set {
    /// The dataset or snapshot.
    pub dataset: String,
    /// The name of the user property.
    pub property: String,
    /// What it must be before.
    pub expect: Expect,
    /// What it is afterwards; none removes it.
    pub value: Option<String>,
}

/// What a property must be for a commit to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// Anything.
    Any,
    /// Not set here.
    Absent,
    /// Exactly this.
    Value(String),
}

/// A jail to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewJail {
    /// Its name.
    pub name: JailName,
    /// The snapshot it is a clone of: a sealed one, or that of a jail.
    pub origin: SnapshotName,
    /// Its `ezz:jail`.
    pub config: String,
}

/// A dataset or snapshot to destroy, known by its guid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doomed {
    /// Its name when it was observed.
    pub name: String,
    /// Its guid: another dataset of that name is left alone.
    pub guid: u64,
}

/// One channel program: all or nothing. Each compares the epoch and raises it by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "program", rename_all = "lowercase")]
pub enum Commit {
    /// Makes a dataset a site.
    Init {
        /// The new `ezz:id`.
        id: String,
    },
    /// Takes the next generation number.
    Stage {
        /// The epoch the plan was made from.
        epoch: u64,
        /// The last number given away.
        seq: u32,
    },
    /// Seals a generation.
    Seal {
        /// The epoch the plan was made from.
        epoch: u64,
        /// Which generation.
        generation: GenerationId,
        /// Its `ezz:world`.
        world: String,
        /// Its `ezz:sealed`.
        sealed: String,
        /// A track that points to it from now on, with what the track must be before.
        track: Option<Set>,
    },
    /// Clones jails.
    Create {
        /// The epoch the plan was made from.
        epoch: u64,
        /// The jails.
        jails: Vec<NewJail>,
        /// Properties of SITE/jails that announce them, with their text: the program sets them
        /// first and removes them last, so that they are left if a signal stopped it in the middle.
        intents: BTreeMap<String, String>,
        /// A snapshot of a jail, made first and handed over to the clones of it: it goes with the last.
        #[serde(skip_serializing_if = "Option::is_none")]
        snapshot: Option<SnapshotName>,
    },
    /// Sets properties.
    Set {
        /// The epoch the plan was made from.
        epoch: u64,
        /// What to set.
        sets: Vec<Set>,
        /// Snapshots that must be sealed for it: what a track is set to.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        sealed: Vec<SnapshotName>,
        /// Whether the epoch may be a received one: the adoption of a replica.
        adopt: bool,
    },
    /// Destroys datasets and snapshots, in this order.
    Destroy {
        /// The epoch the plan was made from.
        epoch: u64,
        /// What goes.
        doomed: Vec<Doomed>,
        /// Properties of SITE/jails that name jails among it, with their text, as of `Create`: one
        /// that is left says that the rest is to go too.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        intents: BTreeMap<String, String>,
    },
    /// Destroys one half of a generation with its sealed snapshot.
    Prune {
        /// The epoch the plan was made from.
        epoch: u64,
        /// The half.
        dataset: DatasetName,
        /// Its guid: another dataset of that name is left alone.
        guid: u64,
        /// The newest base that is a clone of it, which takes its place for others.
        heir: Option<DatasetName>,
    },
}

impl Commit {
    /// Sets properties.
    pub fn set(epoch: u64, sets: Vec<Set>) -> Self {
        Commit::set_if_sealed(epoch, sets, Vec::new())
    }

    /// The epoch of the site that the plan was made from, which the program compares. [`Commit::Init`] makes
    /// a site and compares none.
    pub fn epoch(&self) -> Option<u64> {
        match self {
            Commit::Init { .. } => None,
            Commit::Stage { epoch, .. }
            | Commit::Seal { epoch, .. }
            | Commit::Create { epoch, .. }
            | Commit::Set { epoch, .. }
            | Commit::Destroy { epoch, .. }
            | Commit::Prune { epoch, .. } => Some(*epoch),
        }
    }

    /// Sets properties if these snapshots have their seals.
    pub fn set_if_sealed(epoch: u64, sets: Vec<Set>, sealed: Vec<SnapshotName>) -> Self {
        Commit::Set {
            epoch,
            sets,
            sealed,
            adopt: false,
        }
    }
}

/// The epoch as a plan of several commits sees it: each raises it by one.
#[derive(Debug)]
pub struct Epoch(u64);

impl Epoch {
    /// Begins at what was observed.
    pub fn of(inventory: &Inventory) -> Self {
        Epoch(inventory.site.epoch)
    }

    /// The epoch without taking it. It names the batch that the next commit begins.
    pub fn batch(&self) -> u64 {
        self.0
    }

    /// The epoch that the next commit is to find.
    pub fn take(&mut self) -> u64 {
        let found = self.0;
        self.0 += 1;
        found
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Commit::Init { id } => write!(f, "make it a site with id {id}"),
            Commit::Stage { seq, .. } => write!(f, "take the generation number {}", seq + 1),
            Commit::Seal {
                generation, track, ..
            } => {
                write!(f, "seal generation {generation}")?;
                if let Some(set) = track {
                    write!(
                        f,
                        " and set {} to {}",
                        set.property,
                        or_nothing(set.value.as_deref())
                    )?;
                }
                Ok(())
            }
            Commit::Create {
                jails, snapshot, ..
            } => {
                if let Some(snapshot) = snapshot {
                    write!(f, "snapshot {snapshot}, ")?;
                }
                write!(f, "clone")?;
                for jail in jails {
                    write!(f, " {} from {}", jail.name, jail.origin)?;
                }
                Ok(())
            }
            Commit::Set { sets, .. } => {
                for (index, set) in sets.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    let value = or_nothing(set.value.as_deref());
                    write!(f, "{comma}{} of {} to {value}", set.property, set.dataset)?;
                }
                Ok(())
            }
            Commit::Destroy { doomed, .. } => {
                write!(f, "destroy {}", listed(doomed.iter().map(|d| &d.name)))
            }
            Commit::Prune { dataset, heir, .. } => {
                write!(f, "destroy {dataset}")?;
                match heir {
                    Some(heir) => write!(f, ", its place taken by {heir}"),
                    None => Ok(()),
                }
            }
        }
    }
}

fn or_nothing(value: Option<&str>) -> &str {
    value.unwrap_or("nothing")
}
