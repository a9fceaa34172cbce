//! What a plan is made of: shared steps, and lanes of steps that are one jail's own.
//!
//! A step says all that is needed to carry it out. What is one call, such as the mounts of many datasets, is one step.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Commit, MountAs, NewClone, SpecError, listed};
use crate::model::{Inventory, Jail, JailSpec};
use crate::name::{DatasetName, FlavourName, GenerationId, JailName, SnapshotName, TrackName};

/// A dataset to mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mounting {
    /// The dataset.
    pub dataset: DatasetName,
    /// The directory.
    pub at: PathBuf,
    /// How.
    pub how: MountAs,
    /// The jail whose own files these are, if they are a jail's: left out once a step of that jail has failed.
    #[serde(skip)]
    pub jail: Option<JailName>,
}

/// A dataset to unmount, with what is below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmounting {
    /// The dataset.
    pub dataset: DatasetName,
    /// The directory.
    pub at: PathBuf,
}

/// A step that is about the site, or about many jails at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Creates a dataset.
    Create {
        /// The dataset.
        dataset: DatasetName,
        /// Its properties.
        properties: BTreeMap<String, String>,
    },
    /// Runs a program.
    Commit {
        /// The site.
        site: DatasetName,
        /// What it does.
        commit: Commit,
    },
    /// Clones datasets, each by itself: they are nothing until a commit says what they are.
    Clone {
        /// The clones.
        clones: Vec<NewClone>,
    },
    /// Puts ezz's hold on snapshots.
    Hold {
        /// The snapshots.
        snapshots: Vec<SnapshotName>,
    },
    /// Takes ezz's hold off snapshots.
    Release {
        /// The snapshots.
        snapshots: Vec<SnapshotName>,
    },
    /// Mounts datasets, in one call.
    Mount {
        /// The datasets. The site's own stands alone: what is mounted below it before it would be hidden by it.
        mounts: Vec<Mounting>,
    },
    /// Mounts a snapshot, to read it.
    MountSnapshot {
        /// The snapshot.
        snapshot: SnapshotName,
        /// The directory.
        at: PathBuf,
    },
    /// Unmounts datasets and what is below them, in one call.
    Unmount {
        /// The datasets.
        mounts: Vec<Unmounting>,
    },
    /// Removes an empty directory that a mount had.
    RemoveDirectory {
        /// The directory.
        at: PathBuf,
    },
    /// Makes a snapshot.
    Snapshot {
        /// The snapshot.
        snapshot: SnapshotName,
    },
    /// Hands a snapshot over to its clones: it goes with the last of them.
    HandOver {
        /// The snapshot.
        snapshot: SnapshotName,
    },
    /// Rolls a dataset that is not mounted back to a snapshot, its latest.
    Rollback {
        /// The snapshot.
        snapshot: SnapshotName,
    },
    /// Destroys one dataset of a staged generation, which has no snapshots.
    Destroy {
        /// The dataset.
        dataset: DatasetName,
    },
    /// Sets a native property.
    Property {
        /// The dataset.
        dataset: DatasetName,
        /// The property.
        property: String,
        /// Its value.
        value: String,
    },
    /// Points the derived link of a track to a generation.
    Link {
        /// The track.
        track: TrackName,
        /// The generation.
        generation: GenerationId,
        /// The site directory.
        #[serde(skip)]
        directory: PathBuf,
    },
    /// Removes what the site directory keeps of a track: what was downloaded for its updates, and its
    /// derived link.
    Unlink {
        /// The track.
        track: TrackName,
        /// The site directory.
        #[serde(skip)]
        directory: PathBuf,
    },
    /// Ends what a killed command left in the world of a generation that is being built.
    ClearWorld {
        /// The generation.
        generation: GenerationId,
    },
    /// Carries out lanes side by side, and waits for all of them.
    Lanes {
        /// The lanes; those that are free to begin do so in this order.
        lanes: Vec<Lane>,
    },
}

/// Steps of one jail, and what they wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// The jail.
    pub jail: JailName,
    /// What is done, in this order; a step that fails ends it.
    pub steps: Vec<JailStep>,
    /// The lanes that have to succeed before this one begins, by their place in the step. Without them it is skipped.
    #[serde(skip)]
    pub after: Vec<usize>,
    /// Lanes of an earlier turn are over before this one begins, whatever came of them.
    #[serde(skip)]
    pub turn: usize,
}

/// A step of one jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum JailStep {
    /// Makes the derived files what they should be.
    Derive {
        /// The jail.
        #[serde(rename = "jail", serialize_with = "name_only")]
        spec: Arc<JailSpec>,
    },
    /// Clears away what a clone has of the identity of its source.
    ClearIdentity {
        /// The jail.
        #[serde(rename = "jail", serialize_with = "name_only")]
        spec: Arc<JailSpec>,
    },
    /// Lays a flavour over a new jail.
    Flavour {
        /// The jail.
        #[serde(rename = "jail", serialize_with = "name_only")]
        spec: Arc<JailSpec>,
        /// The flavour.
        flavour: FlavourName,
        /// The directory that has its files.
        #[serde(skip)]
        from: PathBuf,
    },
    /// Removes what the host keeps of the jail.
    Forget {
        /// The jail.
        jail: JailName,
    },
    /// Removes the empty directory that its mount had.
    RemoveDirectory {
        /// The directory.
        at: PathBuf,
    },
    /// Mounts the jail's own files.
    Mount(Mounting),
    /// Starts the jail.
    Start {
        /// The jail.
        #[serde(rename = "jail", serialize_with = "name_only")]
        spec: Arc<JailSpec>,
        /// Whether it was up before: then it is to be up after a signal, too.
        #[serde(skip)]
        again: bool,
    },
    /// Stops the jail.
    Stop {
        /// The jail.
        jail: JailName,
        /// Its rules say how it is asked to stop; without them it is killed.
        #[serde(skip)]
        spec: Option<Arc<JailSpec>>,
        /// Seconds that it has to end, if the user has set them.
        #[serde(skip)]
        timeout: Option<u32>,
    },
    /// Fails: the jail cannot be run.
    Refuse {
        /// The jail.
        jail: JailName,
        /// Why not.
        why: SpecError,
    },
}

fn name_only<S: Serializer>(spec: &Arc<JailSpec>, serializer: S) -> Result<S::Ok, S::Error> {
    spec.name.serialize(serializer)
}

impl Step {
    /// Runs a program on the site that was observed.
    pub fn commit(inventory: &Inventory, commit: Commit) -> Self {
        Step::Commit {
            site: inventory.site.layout.site.clone(),
            commit,
        }
    }

    /// A mount.
    pub fn mount(dataset: DatasetName, at: PathBuf, how: MountAs) -> Self {
        let jail = None;
        Step::Mount {
            mounts: vec![Mounting {
                dataset,
                at,
                how,
                jail,
            }],
        }
    }

    /// The mount of a jail's own files, where they are to be.
    pub fn mount_jail(jail: &Jail) -> Self {
        Step::Mount {
            mounts: vec![Mounting::of_jail(jail)],
        }
    }

    /// An unmount.
    pub fn unmount(dataset: DatasetName, at: PathBuf) -> Self {
        Step::Unmount {
            mounts: vec![Unmounting { dataset, at }],
        }
    }

    /// A lane with one step.
    pub fn lane(jail: JailName, step: JailStep) -> Self {
        Step::Lanes {
            lanes: vec![Lane::new(&jail, step)],
        }
    }

    /// Adds a step to this one if the two are one call; else gives it back.
    pub(super) fn join(&mut self, next: Step) -> Option<Step> {
        let site = |mounts: &[Mounting]| mounts.iter().any(|mount| mount.how == MountAs::Site);
        match (self, next) {
            (Step::Mount { mounts }, Step::Mount { mounts: more })
                if !site(mounts) && !site(&more) =>
            {
                mounts.extend(more);
                None
            }
            (Step::Unmount { mounts }, Step::Unmount { mounts: more }) => {
                mounts.extend(more);
                None
            }
            (_, next) => Some(next),
        }
    }

    /// Whether all that another step does is in this one.
    pub(super) fn has(&self, other: &Step) -> bool {
        match (self, other) {
            (Step::Mount { mounts }, Step::Mount { mounts: other }) => {
                other.iter().all(|mount| mounts.contains(mount))
            }
            (Step::Unmount { mounts }, Step::Unmount { mounts: other }) => {
                other.iter().all(|mount| mounts.contains(mount))
            }
            (Step::Lanes { lanes }, Step::Lanes { lanes: other }) => other.iter().all(|lane| {
                let same = lanes.iter().filter(|it| it.jail == lane.jail);
                let mut steps = same.flat_map(|it| &it.steps);
                lane.steps.iter().all(|step| steps.any(|it| it == step))
            }),
            _ => self == other,
        }
    }

    /// What it does, one thing after the other, as it is shown.
    pub fn parts(&self) -> Vec<Part<'_>> {
        match self {
            Step::Mount { mounts } => mounts.iter().map(Part::Mount).collect(),
            Step::Unmount { mounts } => mounts.iter().map(Part::Unmount).collect(),
            Step::Lanes { lanes } => lanes
                .iter()
                .flat_map(|lane| lane.steps.iter().map(Part::Jail))
                .collect(),
            step => vec![Part::Step(step)],
        }
    }
}

impl Lane {
    /// A lane with one step.
    pub fn new(jail: &JailName, step: JailStep) -> Self {
        Lane {
            jail: jail.clone(),
            steps: vec![step],
            after: Vec::new(),
            turn: 0,
        }
    }

    /// Whether it starts the jail.
    pub fn starts(&self) -> bool {
        let start = |step: &JailStep| matches!(step, JailStep::Start { .. });
        self.steps.iter().any(start)
    }

    /// Whether it stops the jail.
    pub fn stops(&self) -> bool {
        let stop = |step: &JailStep| matches!(step, JailStep::Stop { .. });
        self.steps.iter().any(stop)
    }
}

impl Mounting {
    /// A jail's own files, where they are to be.
    pub fn of_jail(jail: &Jail) -> Self {
        Mounting {
            dataset: jail.dataset.clone(),
            at: jail.mountpoint.clone(),
            how: MountAs::Jail,
            jail: Some(jail.name.clone()),
        }
    }
}

/// A part of a step, for who reads a plan: a line, or an object.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// All of the step.
    Step(&'a Step),
    /// A mount.
    Mount(&'a Mounting),
    /// An unmount.
    Unmount(&'a Unmounting),
    /// A step of a jail.
    Jail(&'a JailStep),
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'a, T> {
            step: &'static str,
            #[serde(flatten)]
            of: &'a T,
        }
        match self {
            Part::Step(step) => step.serialize(serializer),
            Part::Jail(step) => step.serialize(serializer),
            Part::Mount(of) => Named { step: "mount", of }.serialize(serializer),
            Part::Unmount(of) => Named {
                step: "unmount",
                of,
            }
            .serialize(serializer),
        }
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Step(step) => step.fmt(f),
            Part::Jail(step) => step.fmt(f),
            Part::Mount(mount) => mount.fmt(f),
            Part::Unmount(Unmounting { dataset, at }) => {
                write!(f, "unmount {dataset} from {}", at.display())
            }
        }
    }
}

impl fmt::Display for Mounting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            MountAs::Base => ", read-only",
            MountAs::Site | MountAs::Staged | MountAs::Jail => "",
        };
        write!(f, "mount {} at {}{how}", self.dataset, self.at.display())
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
            Step::MountSnapshot { snapshot, at } => {
                write!(f, "mount {snapshot} at {}", at.display())
            }
            Step::RemoveDirectory { at } => {
                write!(f, "remove the empty directory {}", at.display())
            }
            Step::Snapshot { snapshot } => write!(f, "snapshot {snapshot}"),
            Step::HandOver { snapshot } => {
                write!(f, "mark {snapshot} to be destroyed with its last clone")
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
            Step::Link {
                track, generation, ..
            } => {
                write!(f, "link the track {track} to generation {generation}")
            }
            Step::Unlink { track, .. } => {
                write!(f, "remove the link and the downloads of the track {track}")
            }
            Step::ClearWorld { generation } => {
                write!(f, "end what runs in the stage of generation {generation}")
            }
            Step::Mount { .. } | Step::Unmount { .. } | Step::Lanes { .. } => {
                let parts: Vec<String> = self.parts().iter().map(ToString::to_string).collect();
                f.write_str(&parts.join("; "))
            }
        }
    }
}

impl fmt::Display for JailStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JailStep::Derive { spec } => write!(f, "write the derived files of {}", spec.name),
            JailStep::ClearIdentity { spec } => {
                let jail = &spec.name;
                write!(
                    f,
                    "clear away what {jail} has of the identity of its source"
                )
            }
            JailStep::Flavour { spec, flavour, .. } => {
                write!(f, "lay the flavour {flavour} over {}", spec.name)
            }
            JailStep::Forget { jail } => write!(f, "remove the derived files of {jail}"),
            JailStep::RemoveDirectory { at } => {
                write!(f, "remove the empty directory {}", at.display())
            }
            JailStep::Mount(mount) => mount.fmt(f),
            JailStep::Start { spec, .. } => write!(f, "start {}", spec.name),
            JailStep::Stop { jail, .. } => write!(f, "stop {jail}"),
            JailStep::Refuse { jail, why } => write!(f, "{jail} cannot be run: {why}"),
        }
    }
}
