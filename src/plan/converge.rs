//! The plan of `converge`: running jails that are not at their target are started again.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Base, Instead, Inventory, Jail, JailConfig, JailState};
use crate::name::{GenerationId, JailName};
use crate::plan::behind::behind;
use crate::plan::due::{self, Due, Way};
use crate::plan::{Epoch, Observed, Plan, PlanError, lookup, order, sets, steps, writable};

/// The merge of a jail's own files without which it cannot be converged. None for one whose files are right for its
/// target, and for one that is stopped and no restart has left down.
///
/// # Errors
/// As [`due::way`].
pub fn needs_merge(
    observed: &Observed,
    name: &JailName,
    down: &BTreeSet<JailName>,
) -> Result<Option<Due>, PlanError> {
    let inventory = &observed.inventory;
    let jail = lookup::jail(inventory, name)?;
    let runs = matches!(observed.state(name), JailState::Running { .. });
    if behind(observed, jail).is_none() && (runs || !down.contains(name)) {
        return Ok(None);
    }
    Ok(match due::way(observed, name)? {
        Way::Files(due) => Some(due),
        Way::There | Way::Noted(_) => None,
    })
}

/// Plans that a jail stays at the generation that its own files are at: it is pinned there, until its track has
/// another generation than the one that they could not be brought to.
///
/// # Errors
/// [`PlanError`]: a replica; no such jail; a generation that is not there.
pub fn stay(inventory: &Inventory, name: &JailName, of: GenerationId) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let jail = lookup::jail(inventory, name)?;
    let config = lookup::config(inventory, name)?;
    let at = config.skel;
    lookup::sealed_for(inventory, name, at)?;
    let mut plan = Plan::default();
    // A pin without a conflict was set by hand, and is the target itself.
    let Some(track) = config.follows() else {
        return Ok(plan);
    };
    let pinned = JailConfig {
        base: Base::Pin(at),
        instead: Some(Instead {
            track: track.clone(),
            of,
            other: serde_json::Map::new(),
        }),
        ..config.clone()
    };
    if pinned != *config {
        let sets = vec![sets::set_jail(&jail.dataset, config, &pinned)?];
        plan.push(sets::commit_at(inventory, sets, at));
    }
    Ok(plan)
}

/// Plans the restart of those of the jails that are behind, and the start of those that an earlier
/// restart has left down. One that runs, and whose own files have to be merged, goes on as it is.
///
/// # Errors
/// [`PlanError`]: no such jail, or one that cannot be understood.
pub fn converge(
    observed: &Observed,
    names: &[JailName],
    down: &BTreeSet<JailName>,
) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let (mut late, mut follow) = (Vec::new(), BTreeMap::new());
    let mut notes = Vec::new();
    for name in names {
        let jail = lookup::jail(inventory, name)?;
        let runs = matches!(observed.state(name), JailState::Running { .. });
        if let Some(due) = needs_merge(observed, name, down)?.filter(|_| runs) {
            notes.push(format!(
                "{name}: its own files are merged from generation {} to {} first",
                due.from, due.to
            ));
        } else if let Some(config) = follows_again(observed, jail)? {
            notes.push(format!("{name} is already up to date"));
            follow.insert(name.clone(), config);
        } else if behind(observed, jail).is_some() || !runs && down.contains(name) {
            late.push(name.clone());
        } else if runs && lookup::held(inventory, name).is_some() {
            // Who holds it, or finds it held, says so.
        } else if runs {
            notes.push(format!("{name} is already up to date"));
        } else {
            notes.push(format!(
                "{name} is stopped; ezz brings it up to date when it starts"
            ));
        }
    }
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    steps::configure(&mut plan, inventory, &mut epoch, &follow)?;
    steps::restart(&mut plan, &mut epoch, observed, &late)?;
    order::arrange(&mut plan, |name| lookup::config(inventory, name).ok());
    plan.notes.extend(notes);
    Ok(plan)
}

/// The configuration of a running jail that is at its target, and that only follows its track again.
fn follows_again(observed: &Observed, jail: &Jail) -> Result<Option<JailConfig>, PlanError> {
    let at_target = behind(observed, jail)
        .is_some_and(|it| it.runs == Some(it.target) && it.files == it.target);
    if !at_target {
        return Ok(None);
    }
    Ok(match due::way(observed, &jail.name)? {
        Way::Noted(config) => Some(*config),
        Way::There | Way::Files(_) => None,
    })
}
