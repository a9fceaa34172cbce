//! Plans: what a command is going to do, as a value.
//!
//! A plan is made by a pure function from what was observed and what was asked, is printed by
//! `--dry-run`, and is walked by `apply`, which decides nothing. Nothing here looks at a pool, a
//! file or a clock. Longer than other files: steps, commits and errors are one vocabulary, which each
//! verb's file uses, and which is read as a whole.

// What the plans of several verbs share. None of these files knows a verb.
pub mod behind;
pub mod delegated;
pub mod deletion;
mod destroy;
pub mod due;
mod error;
mod fallback;
pub mod finding;
pub mod foreseen;
pub mod generation;
pub mod intent;
pub mod lookup;
mod mount;
pub mod new;
pub mod order;
pub mod sanity;
mod sets;
mod source;
mod steps;
pub mod track;
pub mod undo;
pub mod ways;

// The plans of the verbs. None of them knows another.
pub mod converge;
pub mod create;
pub mod delete;
pub mod doctor;
pub mod fleet;
pub mod merge;
pub mod prune;
pub mod rollout;
pub mod run;
pub mod site;
pub mod swap;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::model::{Inventory, JailState, Os};
use crate::name::{DatasetName, FlavourName, GenerationId, JailName, SnapshotName, TrackName};

pub use error::PlanError;
pub use mount::{MountAs, is_open};
pub use steps::MOST_IN_ONE;

/// All that a plan is made from.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The pool's side.
    pub inventory: Inventory,
    /// The host's side: jails that run, or ended.
    pub states: BTreeMap<JailName, JailState>,
    /// What is at the directories of the jails that were asked for and do not exist; and those that
    /// do exist and have somebody else's mount on them.
    pub directories: BTreeMap<JailName, Directory>,
    /// The flavours that the site has.
    pub flavours: BTreeSet<FlavourName>,
    /// The system whose worlds the host's jails can run.
    pub os: Os,
    /// Whether programs can clone: assumed until the kernel has said no, which is OpenZFS before
    /// 2.4.
    pub sync_clone: bool,
}

impl Observed {
    /// The state of a jail; one the host does not know is stopped.
    pub fn state(&self, name: &JailName) -> JailState {
        self.states
            .get(name)
            .cloned()
            .unwrap_or(JailState::Stopped { exit: None })
    }

    /// Whether the host keeps anything of a jail: it runs, or it died and left its mounts.
    pub fn known_to_host(&self, name: &JailName) -> bool {
        self.states.contains_key(name)
    }
}

/// What is where a jail's directory is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory {
    /// Nothing, or an empty directory.
    Free,
    /// A directory with something in it, or no directory.
    Occupied,
    /// Something is mounted there.
    Mounted,
}

/// A property change inside a commit: compared, then set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Set {
    /// The dataset or snapshot.
    pub dataset: String,
    /// Which user property.
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

/// A dataset to clone outside of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewClone {
    /// The dataset that is made.
    pub dataset: DatasetName,
    /// The snapshot it is a clone of.
    pub origin: SnapshotName,
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
        /// first and removes them last, so that they tell if a signal stopped it in its middle.
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
        /// Which generation.
        generation: GenerationId,
        /// The newest base that is a clone of it, which takes its place for others.
        heir: Option<DatasetName>,
    },
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Creates a dataset.
    Create {
        /// Which.
        dataset: DatasetName,
        /// With which properties.
        properties: BTreeMap<String, String>,
    },
    /// Runs a program.
    Commit {
        /// On which site.
        site: DatasetName,
        /// What it does.
        commit: Commit,
    },
    /// Clones datasets, each by itself: they are nothing until a commit says what they are.
    Clone {
        /// Which.
        clones: Vec<NewClone>,
    },
    /// Puts ezz's hold on snapshots.
    Hold {
        /// Which.
        snapshots: Vec<SnapshotName>,
    },
    /// Takes ezz's hold off snapshots.
    Release {
        /// Which.
        snapshots: Vec<SnapshotName>,
    },
    /// Mounts a dataset.
    Mount {
        /// Which.
        dataset: DatasetName,
        /// Where.
        at: PathBuf,
        /// How.
        how: MountAs,
    },
    /// Mounts a snapshot, to read it.
    MountSnapshot {
        /// Which.
        snapshot: SnapshotName,
        /// Where.
        at: PathBuf,
    },
    /// Unmounts a dataset and what is below it.
    Unmount {
        /// Which.
        dataset: DatasetName,
        /// From where.
        at: PathBuf,
    },
    /// Removes an empty directory that a mount had.
    RemoveDirectory {
        /// Which.
        at: PathBuf,
    },
    /// Makes a snapshot.
    Snapshot {
        /// Which.
        snapshot: SnapshotName,
    },
    /// Hands a snapshot over to its clones: it goes with the last of them.
    HandOver {
        /// Which.
        snapshot: SnapshotName,
    },
    /// Rolls a dataset that is not mounted back to a snapshot, its latest.
    Rollback {
        /// Which snapshot.
        snapshot: SnapshotName,
    },
    /// Destroys one dataset of a staged generation, which has no snapshots.
    Destroy {
        /// Which.
        dataset: DatasetName,
    },
    /// Sets a native property.
    Property {
        /// On which dataset.
        dataset: DatasetName,
        /// Which.
        property: String,
        /// To what.
        value: String,
    },
    /// Points the derived link of a track to a generation.
    Link {
        /// The track.
        track: TrackName,
        /// The generation.
        generation: GenerationId,
    },
    /// Removes what the site directory keeps of a track: what was downloaded for its updates, and its
    /// derived link.
    Unlink {
        /// The track.
        track: TrackName,
    },
    /// Ends what a killed command left in the world of a generation that is being built.
    ClearWorld {
        /// Which generation.
        generation: GenerationId,
    },
    /// Makes the derived files of a jail what they should be.
    Derive {
        /// Which jail.
        jail: JailName,
    },
    /// Clears away what a clone has of the identity of its source.
    ClearIdentity {
        /// Which jail.
        jail: JailName,
    },
    /// Lays a flavour over a new jail.
    Flavour {
        /// Which jail.
        jail: JailName,
        /// Which flavour.
        flavour: FlavourName,
    },
    /// Removes what the host keeps of a jail.
    Forget {
        /// Which jail.
        jail: JailName,
    },
    /// Starts a jail.
    Start {
        /// Which jail.
        jail: JailName,
    },
    /// Stops a jail.
    Stop {
        /// Which jail.
        jail: JailName,
    },
}

/// A plan: the steps in their order, and what to tell the user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What is done.
    pub steps: Vec<Step>,
    /// What is not done because it is so already, and what deserves a word.
    pub notes: Vec<String>,
    /// What may go wrong with the jails on this host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Plan {
    /// A plan for a site. After a boot the site may not be mounted, and what were mounted below its
    /// directory before it would be hidden by it.
    pub fn on(inventory: &Inventory) -> Self {
        let mut plan = Plan::default();
        let site = &inventory.site;
        if !site.mounted {
            plan.push(Step::Mount {
                dataset: site.layout.site.clone(),
                at: site.directory.clone(),
                how: MountAs::Site,
            });
        }
        plan
    }

    /// Whether it has a program, which compares the epoch.
    pub fn commits(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step, Step::Commit { .. }))
    }

    /// Adds a step.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Adds a word to the user.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
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

    /// The same, without taking it: what names the batch that the next commit begins.
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

/// Refuses to change a replica, a site of another format, or one that cannot be written.
///
/// # Errors
/// [`PlanError::Replica`], [`PlanError::Format`], [`PlanError::ReadOnly`].
pub fn writable(inventory: &Inventory) -> Result<(), PlanError> {
    let site = &inventory.site;
    if site.format != crate::model::FORMAT {
        return Err(PlanError::Format {
            site: site.layout.site.clone(),
            found: site.format,
            known: crate::model::FORMAT,
        });
    }
    if site.replica {
        return Err(PlanError::Replica(site.layout.site.clone()));
    }
    if site.read_only {
        return Err(PlanError::ReadOnly(site.layout.site.clone()));
    }
    Ok(())
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>3}. {step}", number + 1)?;
        }
        for note in &self.notes {
            writeln!(f, "  - {note}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "  - warning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Create {
                dataset,
                properties,
            } => {
                write!(f, "create {dataset}")?;
                for (name, value) in properties {
                    write!(f, " {name}={value}")?;
                }
                Ok(())
            }
            Step::Commit { site, commit } => write!(f, "commit on {site}: {commit}"),
            Step::Clone { clones } => {
                write!(f, "clone")?;
                for clone in clones {
                    write!(f, " {} from {}", clone.dataset, clone.origin)?;
                }
                Ok(())
            }
            Step::Hold { snapshots } => write!(f, "hold {}", listed(snapshots)),
            Step::Release { snapshots } => write!(f, "release {}", listed(snapshots)),
            Step::Mount { dataset, at, how } => {
                let how = match how {
                    MountAs::Base => ", read-only",
                    MountAs::Site | MountAs::Staged | MountAs::Jail => "",
                };
                write!(f, "mount {dataset} at {}{how}", at.display())
            }
            Step::MountSnapshot { snapshot, at } => {
                write!(f, "mount {snapshot} at {}", at.display())
            }
            Step::Unmount { dataset, at } => write!(f, "unmount {dataset} from {}", at.display()),
            Step::RemoveDirectory { at } => {
                write!(f, "remove the empty directory {}", at.display())
            }
            Step::Snapshot { snapshot } => write!(f, "snapshot {snapshot}"),
            Step::HandOver { snapshot } => {
                write!(f, "hand {snapshot} over: it goes with its last clone")
            }
            Step::Rollback { snapshot } => write!(f, "roll back to {snapshot}"),
            Step::Destroy { dataset } => write!(f, "destroy {dataset}"),
            Step::Property {
                dataset,
                property,
                value,
            } => {
                write!(f, "set {property}={value} on {dataset}")
            }
            Step::Link { track, generation } => {
                write!(f, "link the track {track} to generation {generation}")
            }
            Step::Unlink { track } => {
                write!(f, "remove the link and the downloads of the track {track}")
            }
            Step::ClearWorld { generation } => {
                write!(f, "end what runs in the stage of generation {generation}")
            }
            Step::Derive { jail } => write!(f, "write the derived files of {jail}"),
            Step::ClearIdentity { jail } => {
                write!(
                    f,
                    "clear away what {jail} has of the identity of its source"
                )
            }
            Step::Flavour { jail, flavour } => write!(f, "lay the flavour {flavour} over {jail}"),
            Step::Forget { jail } => write!(f, "remove the derived files of {jail}"),
            Step::Start { jail } => write!(f, "start {jail}"),
            Step::Stop { jail } => write!(f, "stop {jail}"),
        }
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
                        shown(set.value.as_deref())
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
                    let value = shown(set.value.as_deref());
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

fn shown(value: Option<&str>) -> &str {
    value.unwrap_or("nothing")
}

fn listed<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}
