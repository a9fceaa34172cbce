//! The plans around a merge: a jail's own files are brought from the skeleton that it was made from or
//! merged to last, to that of its target.
//!
//! A mark on the jail keeps it from being started in between, and a snapshot takes back what an
//! interrupted merge has done. A second one, after it, makes of the two the way back (`ways`).

use crate::model::{Base, Inventory, Jail, JailConfig, Kind, Merging, encode, property};
use crate::name::{GenerationId, JailName, NameError, SnapshotName, TrackName};
use crate::plan::{
    Commit, Doomed, Epoch, Expect, MountAs, Observed, Plan, PlanError, Set, Step, run, site, ways,
    world, writable,
};

/// A jail whose own files are those of another generation than its target.
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

impl Due {
    /// The way from the one to the other generation, the other way round.
    pub fn reversed(&self) -> Due {
        Due {
            from: self.to,
            to: self.from,
            ..self.clone()
        }
    }
}

/// What it takes to bring a jail to its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It is there, or nothing brings it there: it is thick, unfinished, or its target is a world of another system.
    There,
    /// Its own files are right as they are: this configuration says so.
    Noted(Box<JailConfig>),
    /// Its own files have to be merged, or a merge of them was interrupted.
    Files(Due),
}

/// What brings a jail to its target. It may run.
///
/// # Errors
/// [`PlanError`]: no such jail or track; a target that is not there.
pub fn way(observed: &Observed, name: &JailName) -> Result<Way, PlanError> {
    let config = run::config(&observed.inventory, name)?;
    way_of(observed, name, config)
}

/// What brings a jail to its target once it has this configuration.
///
/// # Errors
/// As [`way`].
pub fn way_of(observed: &Observed, name: &JailName, config: &JailConfig) -> Result<Way, PlanError> {
    let inventory = &observed.inventory;
    let jail = run::known(inventory, name)?;
    if config.kind == Kind::Thick || !config.todo.is_empty() {
        return Ok(Way::There);
    }
    let (to, follow) = run::target(inventory, config)?;
    let target = inventory.sealed(to).ok_or_else(|| PlanError::NoBase {
        jail: name.clone(),
        generation: to,
    })?;
    let foreign = world::native(target, observed.os).is_err();
    let there = config.skel == to && follow.is_none();
    if jail.merging.is_none() && (foreign || there) {
        return Ok(Way::There);
    }
    if jail.merging.is_none() && inventory.same_skeleton(config.skel, to) {
        return Ok(Way::Noted(Box::new(brought(config, to, follow.as_ref()))));
    }
    Ok(Way::Files(Due {
        jail: name.clone(),
        from: config.skel,
        to,
        follow,
    }))
}

/// The configuration of a jail whose own files have been brought to a generation.
fn brought(config: &JailConfig, to: GenerationId, follow: Option<&TrackName>) -> JailConfig {
    let config = match follow {
        Some(track) => config.rebased(Base::Track(track.clone())),
        None => config.clone(),
    };
    JailConfig { skel: to, ..config }
}

/// What a merge of a jail would be, to its target or to what a track has; none if there is nothing to do. It
/// may run.
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
    let (to, follow) = match follow.map(|track| Base::Track(track.clone())) {
        Some(base) => {
            let other = base != config.base;
            (
                run::due(inventory, &base)?,
                follow.filter(|_| other).cloned(),
            )
        }
        None => run::target(inventory, config)?,
    };
    let from = config.skel;
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

/// The configuration that is right for the files of a jail, which have this record or none; none if they are those of its
/// last merge, or of none. Files without a record are those that it was made with.
pub fn rolled_back(
    inventory: &Inventory,
    jail: &Jail,
    config: &JailConfig,
    found: Option<GenerationId>,
) -> Option<JailConfig> {
    if config.kind == Kind::Thick || config.record.is_none() || config.record == found {
        return None;
    }
    let made_of = || {
        let below = jail.origin.as_deref()?;
        let below = below.strip_prefix(inventory.site.layout.newjail.as_str())?;
        let (number, _) = below.strip_prefix('/')?.split_once('@')?;
        GenerationId::from_component(number)
    };
    Some(JailConfig {
        skel: found.or_else(made_of)?,
        record: found,
        ..config.clone()
    })
}

/// Plans that a jail is configured to be what its files are, which were rolled back.
///
/// # Errors
/// [`PlanError`].
pub fn accept(
    inventory: &Inventory,
    name: &JailName,
    config: &JailConfig,
) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let jail = run::known(inventory, name)?;
    let set = site::set_jail(&jail.dataset, run::config(inventory, name)?, config)?;
    let mut plan = Plan::default();
    plan.push(commit(inventory, &mut Epoch::of(inventory), vec![set]));
    Ok(plan)
}

/// What a jail has of snapshots, as far as a merge minds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// Those that merges have made: the ways back.
    pub of_merges: Vec<Doomed>,
    /// Those that others made after an interrupted merge had made its own. A rollback past them would
    /// destroy them.
    pub newer: Vec<String>,
    /// From where to where the last merge was, if both of its snapshots are there.
    pub last: Option<(GenerationId, GenerationId)>,
}

/// The snapshot that takes back the merge of which a jail has the mark.
///
/// # Errors
/// [`NameError`] if its name is too long.
pub fn taken(jail: &Jail, merging: &Merging) -> Result<SnapshotName, NameError> {
    ways::before(jail, merging.from, merging.to)
}

/// Plans what comes before the files are touched: the mark, the snapshot. Snapshots that would have the same
/// names go before; what other snapshots of merges there are is returned: they go at the end, see
/// [`forget`]. The jail has no mark of an earlier merge any more, see [`undo`].
///
/// # Errors
/// [`PlanError`].
pub fn begin(
    inventory: &Inventory,
    due: &Due,
    snapshots: &Snapshots,
) -> Result<(Plan, Vec<Doomed>), PlanError> {
    writable(inventory)?;
    let jail = run::known(inventory, &due.jail)?;
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    let (now, later) = own(jail, due.from, due.to, snapshots)?;
    destroy(&mut plan, inventory, &mut epoch, now);
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
        snapshot: ways::before(jail, due.from, due.to)?,
    });
    Ok((plan, later))
}

/// The snapshots of one merge, and those of others.
fn own(
    jail: &Jail,
    from: GenerationId,
    to: GenerationId,
    snapshots: &Snapshots,
) -> Result<(Vec<Doomed>, Vec<Doomed>), PlanError> {
    let names = [
        ways::before(jail, from, to)?.to_string(),
        ways::after(jail, from, to)?.to_string(),
    ];
    let all = snapshots.of_merges.iter().cloned();
    Ok(all.partition(|it| names.contains(&it.name)))
}

/// Adds what takes an interrupted merge back: its snapshot, if it came so far. A rollback reaches only the
/// latest, so that the one after the merge goes before it.
fn back(
    plan: &mut Plan,
    epoch: &mut Epoch,
    inventory: &Inventory,
    jail: &Jail,
    snapshots: &Snapshots,
) -> Result<(), PlanError> {
    let Some(merging) = &jail.merging else {
        return Ok(());
    };
    let made = taken(jail, merging)?;
    let name = made.to_string();
    if snapshots.of_merges.iter().any(|found| found.name == name) {
        if let Some(first) = snapshots.newer.first() {
            return Err(PlanError::MergedBefore {
                jail: jail.name.clone(),
                first: first.clone(),
                count: snapshots.newer.len(),
            });
        }
        let after = ways::after(jail, merging.from, merging.to)?.to_string();
        let all = snapshots.of_merges.iter();
        let after = all.filter(|it| it.name == after).cloned().collect();
        destroy(plan, inventory, epoch, after);
        plan.push(Step::Unmount {
            dataset: jail.dataset.clone(),
            at: jail.mountpoint.clone(),
        });
        plan.push(Step::Rollback { snapshot: made });
    }
    plan.push(mount(jail));
    Ok(())
}

/// Adds that snapshots of merges go.
fn destroy(plan: &mut Plan, inventory: &Inventory, epoch: &mut Epoch, doomed: Vec<Doomed>) {
    if !doomed.is_empty() {
        plan.push(Step::Commit {
            site: inventory.site.layout.site.clone(),
            commit: Commit::Destroy {
                intents: std::collections::BTreeMap::new(),
                epoch: epoch.take(),
                doomed,
            },
        });
    }
}

/// Plans the end of a merge: the jail is merged to the new skeleton, and may start. `kept` is whether it leaves
/// a way back: then the snapshot after it is made before the mark goes.
///
/// # Errors
/// [`PlanError`].
pub fn finish(inventory: &Inventory, due: &Due, kept: bool) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let jail = run::known(inventory, &due.jail)?;
    let config = run::config(inventory, &due.jail)?;
    let changed = JailConfig {
        // The merge has written it, unless there was nothing to merge.
        record: if due.from == due.to {
            config.record
        } else {
            Some(due.to)
        },
        ..brought(config, due.to, due.follow.as_ref())
    };
    let sets = vec![
        site::set_jail(&jail.dataset, config, &changed)?,
        unmark(jail),
    ];
    let mut plan = Plan::default();
    if kept {
        plan.push(Step::Snapshot {
            snapshot: ways::after(jail, due.from, due.to)?,
        });
    }
    plan.push(commit(inventory, &mut Epoch::of(inventory), sets));
    // What starts it without ezz finds the base that its files are of.
    plan.push(Step::Derive {
        jail: due.jail.clone(),
    });
    Ok(plan)
}

/// Plans that the snapshots of earlier merges go, once there is a newer way back.
pub fn forget(inventory: &Inventory, earlier: Vec<Doomed>) -> Plan {
    let mut plan = Plan::default();
    destroy(&mut plan, inventory, &mut Epoch::of(inventory), earlier);
    plan
}

/// Plans that a merge that failed or was interrupted is taken back, and leaves nothing. Its snapshot goes
/// before its mark: who is killed in between is known by the mark, and has nothing to take back.
///
/// # Errors
/// [`PlanError`].
pub fn undo(
    inventory: &Inventory,
    name: &JailName,
    snapshots: &Snapshots,
) -> Result<Plan, PlanError> {
    let jail = run::known(inventory, name)?;
    let mut plan = Plan::default();
    undo_in(
        &mut plan,
        &mut Epoch::of(inventory),
        inventory,
        jail,
        snapshots,
    )?;
    Ok(plan)
}

/// Adds the same to a plan.
///
/// # Errors
/// [`PlanError::MergedBefore`]; [`PlanError::Name`].
pub fn undo_in(
    plan: &mut Plan,
    epoch: &mut Epoch,
    inventory: &Inventory,
    jail: &Jail,
    snapshots: &Snapshots,
) -> Result<(), PlanError> {
    // A signal can stop the program that ends a merge between its two properties: the files are merged then.
    let ended = |merging: &Merging| {
        let config = jail.config.as_ref();
        merging.from != merging.to && config.is_ok_and(|config| config.skel == merging.to)
    };
    if jail.merging.as_ref().is_some_and(ended) {
        plan.push(commit(inventory, epoch, vec![unmark(jail)]));
        return Ok(());
    }
    back(plan, epoch, inventory, jail, snapshots)?;
    if let Some(merging) = &jail.merging {
        let own = taken(jail, merging)?.to_string();
        let all = snapshots.of_merges.iter();
        let own = all.filter(|it| it.name == own).cloned().collect();
        destroy(plan, inventory, epoch, own);
    }
    plan.push(commit(inventory, epoch, vec![unmark(jail)]));
    Ok(())
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
