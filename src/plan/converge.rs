//! The plan of `converge`: running jails that are not at their target are started again.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Base, Instead, Inventory, Jail, JailConfig, JailState, Kind};
use crate::name::{GenerationId, JailName};
use crate::plan::merge::{self, Due, Way};
use crate::plan::{Epoch, Observed, Plan, PlanError, run, site, swap, world, writable};

/// A jail that is not at its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// Which.
    pub jail: JailName,
    /// What it runs on; none if it is stopped, or what is mounted in it is no generation of the site.
    pub runs: Option<GenerationId>,
    /// The generation that its own files are at.
    pub files: GenerationId,
    /// The generation that it is to be brought to.
    pub target: GenerationId,
}

/// Whether a running jail is not at its target: it runs on another generation, or its own files are those of another.
pub fn behind(observed: &Observed, jail: &Jail) -> Option<Behind> {
    matches!(observed.state(&jail.name), JailState::Running { .. })
        .then(|| late(observed, jail))
        .flatten()
}

/// Whether a jail, running or stopped, is not at its target. For a stopped jail, its own files decide.
pub fn late(observed: &Observed, jail: &Jail) -> Option<Behind> {
    let config = jail.config.as_ref().ok()?;
    if config.kind == Kind::Thick {
        return None;
    }
    let (target, again) = run::target(&observed.inventory, config).ok()?;
    // Nothing brings it to a world of another system, and it does not start.
    let target_world = observed.inventory.sealed(target);
    if target_world.is_some_and(|found| world::native(found, observed.os).is_err()) {
        return None;
    }
    let (up, runs) = match observed.state(&jail.name) {
        JailState::Running { base, .. } => (
            true,
            base.and_then(|base| generation_of(&observed.inventory, &base)),
        ),
        JailState::Stopped { .. } | JailState::Starting | JailState::Dying => (false, None),
    };
    let elsewhere = up && runs != Some(target);
    (elsewhere || config.skel != target || again.is_some()).then(|| Behind {
        jail: jail.name.clone(),
        runs,
        files: config.skel,
        target,
    })
}

/// The generation whose base this dataset is.
pub fn generation_of(inventory: &Inventory, dataset: &str) -> Option<GenerationId> {
    let below = dataset.strip_prefix(inventory.site.layout.basejail.as_str())?;
    GenerationId::from_component(below.strip_prefix('/')?)
}

/// The merge of a jail's own files without which it cannot be converged. None for one whose files are right for its
/// target, and for one that is stopped and no restart has left down.
///
/// # Errors
/// As [`merge::way`].
pub fn needs_merge(
    observed: &Observed,
    name: &JailName,
    down: &BTreeSet<JailName>,
) -> Result<Option<Due>, PlanError> {
    let inventory = &observed.inventory;
    let jail = run::known(inventory, name)?;
    let runs = matches!(observed.state(name), JailState::Running { .. });
    if behind(observed, jail).is_none() && (runs || !down.contains(name)) {
        return Ok(None);
    }
    Ok(match merge::way(observed, name)? {
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
    let jail = run::known(inventory, name)?;
    let config = run::config(inventory, name)?;
    let at = config.skel;
    inventory.sealed(at).ok_or_else(|| PlanError::NoBase {
        jail: name.clone(),
        generation: at,
    })?;
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
        let sets = vec![site::set_jail(&jail.dataset, config, &pinned)?];
        plan.push(swap::commit(inventory, sets, at));
    }
    Ok(plan)
}

/// Plans the restart of those of the jails that are behind, and the start of those that an earlier
/// restart has left down. One that runs, and whose own files have to be merged, goes on as it is.
///
/// # Errors
/// As [`run::restart`].
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
        let jail = run::known(inventory, name)?;
        let runs = matches!(observed.state(name), JailState::Running { .. });
        if let Some(due) = needs_merge(observed, name, down)?.filter(|_| runs) {
            notes.push(format!(
                "{name}: its own files are merged from generation {} to {} first",
                due.from, due.to
            ));
        } else if let Some(config) = follows_again(observed, jail)? {
            notes.push(format!("{name} runs what it should already"));
            follow.insert(name.clone(), config);
        } else if behind(observed, jail).is_some() || !runs && down.contains(name) {
            late.push(name.clone());
        } else if runs {
            notes.push(format!("{name} runs what it should already"));
        } else {
            notes.push(format!(
                "{name} is stopped: it is brought on when it starts"
            ));
        }
    }
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    run::note(&mut plan, inventory, &mut epoch, &follow)?;
    run::restart_in(&mut plan, &mut epoch, observed, &late)?;
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
    Ok(match merge::way(observed, &jail.name)? {
        Way::Noted(config) => Some(*config),
        Way::There | Way::Files(_) => None,
    })
}
