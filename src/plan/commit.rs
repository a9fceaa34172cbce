//! Commits: the channel programs that a plan runs, each with what it compares and changes.
//!
//! This is the only representation of programs in plans; `pool/encode.rs` makes their arguments from it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::listed;
use crate::model::Inventory;
use crate::name::{DatasetName, GenerationId, JailName, SnapshotName};

/// A property change inside a commit: compared, then set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Set {
    /// The dataset or snapshot that has the property.
    pub dataset: String,
    /// The name of the user property.
    pub property: String,
    /// The value that the property must have before.
    pub expect: Expect,
    /// The new value; `None` removes the property.
    pub value: Option<String>,
}

/// The value that a property must have for a commit to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// Any value, or none.
    Any,
    /// The property is not set on the dataset itself.
    Absent,
    /// Exactly this value.
    Value(String),
}

/// A jail that is created as a clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewJail {
    /// The name of the jail.
    pub name: JailName,
    /// The snapshot that it is cloned from: a sealed one, or that of a jail.
    pub origin: SnapshotName,
    /// The value of its `ezz:jail`.
    pub config: String,
}

/// A dataset or snapshot to destroy, identified by its guid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doomed {
    /// The name when it was observed.
    pub name: String,
    /// The guid when it was observed: another dataset with the same name is not destroyed.
    pub guid: u64,
}

/// One channel program, which does everything or nothing. Each compares the epoch and raises it by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "program", rename_all = "lowercase")]
pub enum Commit {
    /// Makes a dataset a site.
    Init {
        /// The new `ezz:id`.
        id: String,
    },
    /// Takes the next number for a generation.
    Stage {
        /// The epoch that the plan was made from.
        epoch: u64,
        /// The last number that was taken.
        seq: u32,
    },
    /// Seals a generation.
    Seal {
        /// The epoch that the plan was made from.
        epoch: u64,
        /// The generation to seal.
        generation: GenerationId,
        /// The value of its `ezz:world`.
        world: String,
        /// The value of its `ezz:sealed`.
        sealed: String,
        /// The change of a track that points to the generation from now on.
        track: Option<Set>,
    },
    /// Clones jails.
    Create {
        /// The epoch that the plan was made from.
        epoch: u64,
        /// The jails to create.
        jails: Vec<NewJail>,
        /// Properties of SITE/jails that announce the jails, with their values. The program sets them first and removes
        /// them last, so that they remain if a signal stops it half-way.
        intents: BTreeMap<String, String>,
        /// A snapshot of a jail, which is created first and handed over to its clones: it is destroyed with the last of
        /// them.
        #[serde(skip_serializing_if = "Option::is_none")]
        snapshot: Option<SnapshotName>,
    },
    /// Sets properties.
    Set {
        /// The epoch that the plan was made from.
        epoch: u64,
        /// The properties to set.
        sets: Vec<Set>,
        /// Snapshots that must be sealed: those of the generation that a track is set to.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        sealed: Vec<SnapshotName>,
        /// Whether the epoch may be a received one, as in the adoption of a replica.
        adopt: bool,
    },
    /// Destroys datasets and snapshots in this order.
    Destroy {
        /// The epoch that the plan was made from.
        epoch: u64,
        /// The datasets and snapshots to destroy.
        doomed: Vec<Doomed>,
        /// Properties of SITE/jails that name the jails among them, with their values, as in `Create`: one that remains
        /// shows that the rest is to be destroyed, too.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        intents: BTreeMap<String, String>,
    },
    /// Destroys one half of a generation with its sealed snapshot.
    Prune {
        /// The epoch that the plan was made from.
        epoch: u64,
        /// The half to destroy.
        dataset: DatasetName,
        /// The guid of the half: another dataset with the same name is not destroyed.
        guid: u64,
        /// The newest base that is a clone of it, which becomes the origin of the others in its place.
        heir: Option<DatasetName>,
    },
}

impl Commit {
    /// Makes a commit that sets properties.
    pub fn set(epoch: u64, sets: Vec<Set>) -> Self {
        Commit::set_if_sealed(epoch, sets, Vec::new())
    }

    /// Returns the epoch that the plan was made from, and that the program compares. [`Commit::Init`] makes a site and
    /// compares none.
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

    /// Makes a commit that sets properties if these snapshots have their seals.
    pub fn set_if_sealed(epoch: u64, sets: Vec<Set>, sealed: Vec<SnapshotName>) -> Self {
        Commit::Set {
            epoch,
            sets,
            sealed,
            adopt: false,
        }
    }
}

/// The epoch in a plan of several commits, each of which raises it by one.
#[derive(Debug)]
pub struct Epoch(u64);

impl Epoch {
    /// Begins at the observed epoch.
    pub fn of(inventory: &Inventory) -> Self {
        Epoch(inventory.site.epoch)
    }

    /// Returns the epoch without taking it. It names the batch that the next commit begins.
    pub fn batch(&self) -> u64 {
        self.0
    }

    /// Takes the epoch that the next commit will find.
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
