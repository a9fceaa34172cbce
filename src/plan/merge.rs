//! The plans around a merge: a jail's own files are brought from the skeleton that it was made from or
//! merged to last, to that of its target.
//!
//! A mark on the jail keeps it from being started in between, and a snapshot takes back what an
//! interrupted merge has done. A second one, after it, makes of the two the way back (`ways`).

use crate::model::{Base, Inventory, Jail, JailConfig, Kind, Merging, encode, property};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::due::{Due, brought};
use crate::plan::undo::{self, commit, destroy, unmark};
use crate::plan::ways::{self, Snapshots};
use crate::plan::{
    Doomed, Epoch, Expect, Observed, Plan, PlanError, Set, Step, lookup, sets, steps, writable,
};

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
    let jail = lookup::jail(inventory, name)?;
    let set = sets::set_jail(&jail.dataset, lookup::config(inventory, name)?, config)?;
    let mut plan = Plan::default();
    plan.push(commit(inventory, &mut Epoch::of(inventory), vec![set]));
    Ok(plan)
}

/// Plans what comes before the files are touched: the mark, the snapshot. Snapshots that would have the same
/// names go before; what other snapshots of merges there are is returned: they go at the end, see
/// [`forget`]. The jail has no mark of an earlier merge any more, see [`undo()`].
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

/// Plans the end of a merge: the jail is merged to the new skeleton, and may start. `kept` is whether it leaves
/// a way back: then the snapshot after it is made before the mark goes.
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
    // What starts it without ezz finds the base that its files are of.
    steps::derive(&mut plan, inventory, &due.jail, &changed);
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
