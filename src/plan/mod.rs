//! Plans: what a command is going to do, as a value.
//!
//! A pure function makes a plan from what was observed and what the user asked for. `--dry-run` prints the plan, and
//! `apply` carries it out without deciding anything. This module must not access a pool, a file or a clock.

// Parts that the plans of several verbs share. None of these files knows a verb.
pub mod behind;
pub mod check;
mod commit;
pub mod delegated;
pub mod deletion;
mod destroy;
pub mod due;
mod error;
pub mod fallback;
pub mod finding;
pub mod generation;
mod hints;
pub mod intent;
pub mod lookup;
mod mount;
pub mod new;
pub mod order;
pub mod preflight;
mod sets;
mod source;
pub mod spec;
mod step;
mod steps;
pub mod track;
pub mod undo;
pub mod ways;

// The plans of the verbs, none of which knows another one.
pub mod converge;
pub mod create;
pub mod delete;
pub mod doctor;
pub mod fleet;
pub mod merge;
pub mod power;
pub mod prune;
pub mod rollout;
pub mod site;
pub mod swap;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::model::{Inventory, JailState, Os};
use crate::name::{DatasetName, FlavourName, GenerationId, JailName, SnapshotName};

pub use commit::{Commit, Doomed, Epoch, Expect, NewJail, Set};
pub use error::{PlanError, SpecError};
pub use mount::{MountAs, is_open};
pub use step::{JailStep, Lane, Mounting, Part, Step, Unmounting};
pub use steps::MOST_IN_ONE;

/// Everything that a plan is made from.
#[derive(Debug, Clone)]
pub struct Observed {
    /// What was read of the pool.
    pub inventory: Inventory,
    /// The state of the jails on the host: those that run or have ended.
    pub states: BTreeMap<JailName, JailState>,
    /// The state of the directories of requested jails that do not exist, and of existing jails whose directories have
    /// a mount that is not ezz's.
    pub directories: BTreeMap<JailName, Directory>,
    /// The flavours that the site has.
    pub flavours: BTreeSet<FlavourName>,
    /// The operating system whose worlds the host's jails can run.
    pub os: Os,
    /// Whether programs can clone. This is assumed until the kernel has refused it, which OpenZFS before 2.4 does.
    pub sync_clone: bool,
}

impl Observed {
    /// Returns the state of a jail; a jail that the host does not know is stopped.
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

/// What exists at the path of a jail's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory {
    /// Nothing, or an empty directory.
    Free,
    /// A directory that is not empty, or a file of another kind.
    Occupied,
    /// Something is mounted there.
    Mounted,
}

/// A dataset that is cloned outside of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewClone {
    /// The dataset to create.
    pub dataset: DatasetName,
    /// The snapshot that it is cloned from.
    pub origin: SnapshotName,
}

/// A plan: the steps in their order, and messages for the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps to carry out.
    pub steps: Vec<Step>,
    /// Messages about what is not done because it already is so, and other remarks.
    pub notes: Vec<String>,
    /// What may go wrong with the jails on this host.
    pub warnings: Vec<String>,
    /// For each jail, the last step that does something with it.
    pub ends: BTreeMap<JailName, End>,
    /// The site directory, if something may be mounted below it: nothing else may be mounted over it.
    pub directory: Option<PathBuf>,
    /// The generation that is begun: its lock is taken before the first step, and kept after the last one.
    pub stage: Option<GenerationId>,
    ended: usize,
}

/// The last step that does something with a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The index of the step.
    pub step: usize,
    /// Jails that end with the same step are reported in this order.
    pub order: usize,
}

impl Plan {
    /// Makes a plan for a site. After a boot the site may not be mounted; mounting it would hide what was mounted below
    /// its directory before it.
    pub fn on(inventory: &Inventory) -> Self {
        let mut plan = Plan::of(inventory);
        let site = &inventory.site;
        if !site.mounted {
            plan.push(Step::mount(
                site.layout.site.clone(),
                site.directory.clone(),
                MountAs::Site,
            ));
        }
        plan
    }

    /// Makes a plan for a site that is mounted, or need not be.
    pub fn of(inventory: &Inventory) -> Self {
        Plan {
            directory: Some(inventory.site.directory.clone()),
            ..Plan::default()
        }
    }

    /// Makes a plan of these steps, which mount nothing below the site directory.
    pub fn from_steps(steps: impl IntoIterator<Item = Step>) -> Self {
        let mut plan = Plan::default();
        plan.extend(steps);
        plan
    }

    /// Whether the plan has a program, which compares the epoch.
    pub fn commits(&self) -> bool {
        self.programs().next().is_some()
    }

    /// Returns the programs of the plan.
    pub fn programs(&self) -> impl Iterator<Item = &Commit> {
        self.steps.iter().filter_map(|step| match step {
            Step::Commit { commit, .. } => Some(commit),
            _ => None,
        })
    }

    /// Returns the steps of single jails.
    pub fn lane_steps(&self) -> impl Iterator<Item = (&JailName, &JailStep)> {
        let lanes = self.steps.iter().filter_map(|step| match step {
            Step::Lanes { lanes } => Some(lanes),
            _ => None,
        });
        lanes.flatten().flat_map(|lane| {
            let Lane { jail, steps, .. } = lane;
            steps.iter().map(move |step| (jail, step))
        })
    }

    /// Whether the plan starts a jail.
    pub fn starts(&self, name: &JailName) -> bool {
        self.lane_steps()
            .any(|(jail, step)| jail == name && matches!(step, JailStep::Start { .. }))
    }

    /// Whether the plan already contains what a step does.
    pub fn has(&self, step: &Step) -> bool {
        self.steps.iter().any(|it| it.has(step))
    }

    /// Adds a step; it is joined with the last one if the two are one call.
    pub fn push(&mut self, step: Step) {
        if let Step::Lanes { lanes } = step {
            for Lane { jail, steps, .. } in lanes {
                steps
                    .into_iter()
                    .for_each(|step| self.push_for(&jail, step));
            }
            return;
        }
        let about = about(&step);
        let left = match self.steps.last_mut() {
            Some(last) => last.join(step),
            None => Some(step),
        };
        self.steps.extend(left);
        self.end(about.iter());
    }

    /// Adds a step of one jail to its lane, if the last step has one.
    pub fn push_for(&mut self, jail: &JailName, step: JailStep) {
        let last = self.steps.len().wrapping_sub(1);
        let has_lane = self.ends.get(jail).is_some_and(|end| end.step == last);
        match self.steps.last_mut() {
            Some(Step::Lanes { lanes }) => {
                let own = lanes
                    .iter_mut()
                    .rfind(|lane| has_lane && lane.jail == *jail);
                match own {
                    Some(lane) => lane.steps.push(step),
                    None => lanes.push(Lane::new(jail, step)),
                }
            }
            Some(_) | None => self.steps.push(Step::Lanes {
                lanes: vec![Lane::new(jail, step)],
            }),
        }
        self.end([jail]);
    }

    /// Adds a lane of its own, also for a jail that has one in the last step.
    pub fn push_lane(&mut self, lane: Lane) {
        let jail = lane.jail.clone();
        match self.steps.last_mut() {
            Some(Step::Lanes { lanes }) => lanes.push(lane),
            Some(_) | None => self.steps.push(Step::Lanes { lanes: vec![lane] }),
        }
        self.end([&jail]);
    }

    /// The plan up to its last program, and the rest.
    pub fn split(mut self) -> (Plan, Plan) {
        let last = self.last_program();
        let rest = Plan {
            steps: self.steps.split_off(last),
            ends: BTreeMap::new(),
            directory: self.directory.clone(),
            ..Plan::default()
        };
        (self, rest)
    }

    /// Returns the number of steps up to and including the last program.
    pub fn last_program(&self) -> usize {
        let mut steps = self.steps.iter();
        let last = steps.rposition(|step| matches!(step, Step::Commit { .. }));
        last.map_or(0, |index| index + 1)
    }

    /// Adds steps.
    pub fn extend(&mut self, steps: impl IntoIterator<Item = Step>) {
        steps.into_iter().for_each(|step| self.push(step));
    }

    /// Records that the last step is so far the last one that does something with these jails.
    pub fn end<'a>(&mut self, jails: impl IntoIterator<Item = &'a JailName>) {
        let Some(step) = self.steps.len().checked_sub(1) else {
            return;
        };
        for jail in jails {
            let order = self.ended;
            self.ended += 1;
            self.ends.insert(jail.clone(), End { step, order });
        }
    }

    /// Sets the time limit of the stops, if the user has given one.
    pub fn stop_within(&mut self, seconds: Option<u32>) {
        for step in &mut self.steps {
            let Step::Lanes { lanes } = step else {
                continue;
            };
            for step in lanes.iter_mut().flat_map(|lane| &mut lane.steps) {
                if let JailStep::Stop { timeout, .. } = step {
                    *timeout = seconds;
                }
            }
        }
    }

    /// Adds a note for the user.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Returns what the plan does, one part after the other, as it is shown.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        self.steps.iter().flat_map(Step::parts)
    }
}

/// Returns the jails that a step names.
fn about(step: &Step) -> Vec<JailName> {
    match step {
        Step::Mount { mounts } => mounts.iter().filter_map(|it| it.jail.clone()).collect(),
        Step::Commit {
            commit: Commit::Create { jails, .. },
            ..
        } => jails.iter().map(|jail| jail.name.clone()).collect(),
        _ => Vec::new(),
    }
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            steps: Vec<Part<'a>>,
            notes: &'a [String],
            warnings: &'a [String],
        }
        let shown = Shown {
            steps: self.parts().collect(),
            notes: &self.notes,
            warnings: &self.warnings,
        };
        shown.serialize(serializer)
    }
}

/// Refuses to change a replica, a site with another format, or a read-only site.
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
        for (number, part) in self.parts().enumerate() {
            writeln!(f, "{:>3}. {part}", number + 1)?;
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

/// Formats items with a space between them.
fn listed<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}
