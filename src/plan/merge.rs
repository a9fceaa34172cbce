//! The plans around a merge, which brings a jail's own files from the skeleton that it was made from or last merged to,
//! to the skeleton of the generation that is due.
//!
//! A mark on the jail keeps it from being started meanwhile, and a snapshot allows an interrupted merge to be undone. A
//! second snapshot, after the merge, makes the two the way back (`ways`).

use crate::model::{Base, Inventory, Jail, JailConfig, Kind, Merging, encode, property};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::due::{Due, brought};
use crate::plan::undo::{self, commit, destroy, unmark};
use crate::plan::ways::{self, Snapshots};
use crate::plan::{
    Doomed, Epoch, Expect, Observed, Plan, PlanError, Set, Step, lookup, sets, steps, writable,
};

/// Returns what a merge of a jail would do, to the generation that is due or to that of a track; `None` if there is
/// nothing to do. The jail may run.
///
/// # Errors
/// [`PlanError`]: a jail or track that does not exist; a thick jail; a skeleton that no longer exists.
pub fn due(
    inventory: &Inventory,
    name: &JailName,
    follow: Option<&TrackName>,
) -> Result<Option<Due>, PlanError> {
    let config = lookup::config(inventory, name)?;
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
                lookup::generation_of_base(inventory, &base)?,
                follow.filter(|_| other).cloned(),
            )
        }
        None => lookup::target(inventory, config)?,
    };
    let from = config.skel;
    if from == to && follow.is_none() {
        return Ok(None);
    }
    for id in [from, to] {
        if inventory.skeleton(id).is_none() {
            return Err(cannot(format!(
                "the skeleton of generation {id} does not exist"
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

/// Returns what [`due`] does, for a jail that is to be merged now.
///
/// # Errors
/// Those of [`due`]; [`PlanError::NoMerge`] if its files are to change and it runs.
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

/// Returns the configuration that fits the files of a jail, given the record in them; `None` if the files are those of
/// its last merge, or if it was never merged. Files without a record are those that the jail was created with.
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

/// Plans to configure a jail to fit its files, which were rolled back.
///
/// # Errors
/// [`PlanError`].
pub fn accept(
    inventory: &Inventory,
    name: &JailName,
    config: &JailConfig,
) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let jail = lookup::jail(inventory, name)?;
    let set = sets::set_jail(&jail.dataset, lookup::config(inventory, name)?, config)?;
    let mut plan = Plan::default();
    plan.push(commit(inventory, &mut Epoch::of(inventory), vec![set]));
    Ok(plan)
}

/// Plans the steps before the files are touched: the mark and the snapshot. Snapshots that would have the same names
/// are destroyed first. Other snapshots of merges are returned, and are destroyed at the end, see [`forget`]. The jail
/// no longer has the mark of an earlier merge, see [`undo()`].
///
/// # Errors
/// [`PlanError`].
pub fn begin(
    inventory: &Inventory,
    due: &Due,
    snapshots: &Snapshots,
) -> Result<(Plan, Vec<Doomed>), PlanError> {
    writable(inventory)?;
    let jail = lookup::jail(inventory, &due.jail)?;
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

/// Splits the snapshots of a jail's merges into those of this merge and those of others.
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

/// Plans the end of a merge: the jail is merged to the new skeleton, and may start. `kept` says whether the merge
/// leaves a way back: then the second snapshot is created before the mark is removed.
///
/// # Errors
/// [`PlanError`].
pub fn finish(inventory: &Inventory, due: &Due, kept: bool) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let jail = lookup::jail(inventory, &due.jail)?;
    let config = lookup::config(inventory, &due.jail)?;
    let changed = JailConfig {
        // The merge has written it, unless there was nothing to merge.
        record: match inventory.same_skeleton(due.from, due.to) {
            true => config.record,
            false => Some(due.to),
        },
        ..brought(config, due.to, due.follow.as_ref())
    };
    let sets = vec![
        sets::set_jail(&jail.dataset, config, &changed)?,
        unmark(jail),
    ];
    let mut plan = Plan::default();
    if kept {
        plan.push(Step::Snapshot {
            snapshot: ways::after(jail, due.from, due.to)?,
        });
    }
    plan.push(commit(inventory, &mut Epoch::of(inventory), sets));
    // A jail that is started without ezz then finds the base that fits its files.
    steps::derive(&mut plan, inventory, &due.jail, &changed);
    Ok(plan)
}

/// Plans to destroy the snapshots of earlier merges, after a newer way back exists.
pub fn forget(inventory: &Inventory, earlier: Vec<Doomed>) -> Plan {
    let mut plan = Plan::default();
    destroy(&mut plan, inventory, &mut Epoch::of(inventory), earlier);
    plan
}

/// Plans to undo a merge that failed or was interrupted, without leaving anything of it. Its snapshot is destroyed
/// before its mark is removed: if the command is killed in between, the mark remains, and there is nothing left to
/// undo.
///
/// # Errors
/// [`PlanError`].
pub fn undo(
    inventory: &Inventory,
    name: &JailName,
    snapshots: &Snapshots,
) -> Result<Plan, PlanError> {
    let jail = lookup::jail(inventory, name)?;
    let mut plan = Plan::of(inventory);
    undo::undo(
        &mut plan,
        &mut Epoch::of(inventory),
        inventory,
        jail,
        snapshots,
    )?;
    Ok(plan)
}
