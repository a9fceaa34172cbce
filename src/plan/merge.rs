//! The plans around a merge: a jail's own files are brought from the skeleton that it was made from or
//! merged to last, to that of the generation that it is due to run on.
//!
//! A mark on the jail keeps it from being started in between, and a snapshot takes back what an
//! interrupted merge has done.

use crate::model::{
    Base, Generation, Inventory, Jail, JailConfig, Kind, MERGE_SNAPSHOT, Merging, encode, property,
};
use crate::name::{GenerationId, JailName, NameError, SnapshotName, TrackName};
use crate::plan::{
    Commit, Doomed, Epoch, Expect, MountAs, Observed, Plan, PlanError, Set, Step, run, site,
    writable,
};

/// A jail whose files are those of another generation than it is due to run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub jail: JailName,
    /// Whose skeleton its files come from.
    pub from: GenerationId,
    /// Whose they are brought to.
    pub to: GenerationId,
    /// The track that it follows from then on, if it did not before.
    pub follow: Option<TrackName>,
}

/// What a merge of a jail would be, to what it is due to run on or to what a track has; none if there
/// is nothing to do. It may run.
///
/// # Errors
/// [`PlanError`]: no such jail or track; a thick jail; a skeleton that is gone.
pub fn due(
    inventory: &Inventory,
    name: &JailName,
    follow: Option<&TrackName>,
) -> Result<Option<Due>, PlanError> {
    let config = run::config(inventory, name)?;
    let cannot = |why: String| PlanError::NoMerge {
        jail: name.clone(),
        why,
    };
    if config.kind == Kind::Thick {
        return Err(cannot(
            "it is thick, and has all files of its own".to_owned(),
        ));
    }
    let base = follow.map(|track| Base::Track(track.clone()));
    let base = base.as_ref().unwrap_or(&config.base);
    let (from, to) = (config.skel, run::due(inventory, base)?);
    let follow = follow.filter(|_| *base != config.base).cloned();
    if from == to && follow.is_none() {
        return Ok(None);
    }
    for id in [from, to] {
        if inventory.skeleton(id).is_none() {
            return Err(cannot(format!(
                "the skeleton of generation {id} is not there"
            )));
        }
    }
    Ok(Some(Due {
        jail: name.clone(),
        from,
        to,
        follow,
    }))
}

/// As [`due`], of a jail that is to be merged now.
///
/// # Errors
/// As [`due`]; [`PlanError::NoMerge`] if its files are to change and it runs.
pub fn due_now(
    observed: &Observed,
    name: &JailName,
    follow: Option<&TrackName>,
) -> Result<Option<Due>, PlanError> {
    let found = due(&observed.inventory, name, follow)?;
    if observed.state(name).running() && found.as_ref().is_some_and(|due| due.from != due.to) {
        return Err(PlanError::MergeRunning(name.clone()));
    }
    Ok(found)
}

/// Whether two generations are of different releases, and not only of different patch levels.
pub fn other_release(inventory: &Inventory, from: GenerationId, to: GenerationId) -> bool {
    let release = |id| inventory.generations.get(&id).and_then(Generation::release);
    let (from, to) = (release(from), release(to));
    from.is_some() && to.is_some() && from != to
}

/// The snapshot that takes a merge back.
///
/// # Errors
/// [`NameError`] if its name is too long.
pub fn snapshot(jail: &Jail, due: &Due) -> Result<SnapshotName, NameError> {
    jail.dataset
        .at(&format!("{MERGE_SNAPSHOT}{}-{}", due.from, due.to))
}

/// Plans what comes before the files are touched: earlier snapshots of merges go, the mark, the
/// snapshot. What an interrupted merge has done is taken back first. `earlier` are the snapshots of
/// merges that the jail has.
///
/// # Errors
/// [`PlanError`].
pub fn begin(observed: &Observed, due: &Due, earlier: &[Doomed]) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let jail = run::known(inventory, &due.jail)?;
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    back(&mut plan, jail, earlier)?;
    if !earlier.is_empty() {
        plan.push(Step::Commit {
            site: inventory.site.layout.site.clone(),
            commit: Commit::Destroy {
                intents: std::collections::BTreeMap::new(),
                epoch: epoch.take(),
                doomed: earlier.to_vec(),
            },
        });
    }
    let merging = Merging {
        from: due.from,
        to: due.to,
        other: serde_json::Map::new(),
    };
    let mark = Set {
        dataset: jail.dataset.to_string(),
        property: property::MERGING.to_owned(),
        expect: Expect::Any,
        value: Some(encode(&jail.dataset, property::MERGING, &merging)?),
    };
    plan.push(commit(inventory, &mut epoch, vec![mark]));
    plan.push(Step::Snapshot {
        snapshot: snapshot(jail, due)?,
    });
    if MountAs::Jail.wanted(jail.mounted, jail.flags) && jail.merging.is_none() {
        plan.push(mount(jail));
    }
    Ok(plan)
}

/// Adds what takes an interrupted merge back: its snapshot, if it came so far.
fn back(plan: &mut Plan, jail: &Jail, earlier: &[Doomed]) -> Result<(), PlanError> {
    let Some(merging) = &jail.merging else {
        return Ok(());
    };
    let made = snapshot(
        jail,
        &Due {
            jail: jail.name.clone(),
            from: merging.from,
            to: merging.to,
            follow: None,
        },
    )?;
    plan.note(format!(
        "the last merge of {} was interrupted: it is taken back",
        jail.name
    ));
    if earlier.iter().any(|found| found.name == made.to_string()) {
        plan.push(Step::Unmount {
            dataset: jail.dataset.clone(),
            at: jail.mountpoint.clone(),
        });
        plan.push(Step::Rollback { snapshot: made });
    }
    plan.push(mount(jail));
    Ok(())
}

/// Plans the end of a merge: the jail is merged to the new skeleton, and may start.
///
/// # Errors
/// [`PlanError`].
pub fn finish(inventory: &Inventory, due: &Due) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let jail = run::known(inventory, &due.jail)?;
    let config = run::config(inventory, &due.jail)?;
    let changed = JailConfig {
        skel: due.to,
        base: match &due.follow {
            Some(track) => Base::Track(track.clone()),
            None => config.base.clone(),
        },
        ..config.clone()
    };
    let sets = vec![
        site::set_jail(&jail.dataset, config, &changed)?,
        unmark(jail),
    ];
    let mut plan = Plan::default();
    plan.push(commit(inventory, &mut Epoch::of(inventory), sets));
    Ok(plan)
}

/// Plans that a merge that failed is taken back.
///
/// # Errors
/// [`PlanError`].
pub fn undo(inventory: &Inventory, due: &Due, earlier: &[Doomed]) -> Result<Plan, PlanError> {
    let jail = run::known(inventory, &due.jail)?;
    let mut plan = Plan::default();
    back(&mut plan, jail, earlier)?;
    plan.notes.clear();
    let mut epoch = Epoch::of(inventory);
    plan.push(commit(inventory, &mut epoch, vec![unmark(jail)]));
    Ok(plan)
}

fn unmark(jail: &Jail) -> Set {
    Set {
        dataset: jail.dataset.to_string(),
        property: property::MERGING.to_owned(),
        expect: Expect::Any,
        value: None,
    }
}

fn mount(jail: &Jail) -> Step {
    Step::Mount {
        dataset: jail.dataset.clone(),
        at: jail.mountpoint.clone(),
        how: MountAs::Jail,
    }
}

fn commit(inventory: &Inventory, epoch: &mut Epoch, sets: Vec<Set>) -> Step {
    Step::Commit {
        site: inventory.site.layout.site.clone(),
        commit: Commit::Set {
            epoch: epoch.take(),
            sets,
            sealed: Vec::new(),
            adopt: false,
        },
    }
}
