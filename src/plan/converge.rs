//! The plan of `converge`: running jails that have another basejail than they are due to have are
//! started again.

use std::collections::BTreeSet;

use crate::model::{Base, Inventory, Jail, JailConfig, JailState, Kind};
use crate::name::{GenerationId, JailName};
use crate::plan::merge::{self, Due};
use crate::plan::{Observed, Plan, PlanError, run, site, swap, writable};

/// A running jail that has something else than it is due to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// Which.
    pub jail: JailName,
    /// What it has; none if what is mounted in it is no generation of the site.
    pub runs: Option<GenerationId>,
    /// What it would start on.
    pub due: GenerationId,
}

/// Whether a jail is behind. One that is stopped is not: it simply starts on what is due.
pub fn behind(observed: &Observed, jail: &Jail) -> Option<Behind> {
    let config = jail.config.as_ref().ok()?;
    let JailState::Running { base, .. } = observed.state(&jail.name) else {
        return None;
    };
    if config.kind == Kind::Thick {
        return None;
    }
    let due = run::due(&observed.inventory, &config.base).ok()?;
    let runs = base.and_then(|base| generation_of(&observed.inventory, &base));
    (runs != Some(due)).then(|| Behind {
        jail: jail.name.clone(),
        runs,
        due,
    })
}

/// The generation whose base this dataset is.
pub fn generation_of(inventory: &Inventory, dataset: &str) -> Option<GenerationId> {
    let below = dataset.strip_prefix(inventory.site.layout.basejail.as_str())?;
    GenerationId::from_component(below.strip_prefix('/')?)
}

/// The merge of a jail's own files without which it cannot be converged: what it is due to run on is of
/// another release than they are. None for one that has what it should.
///
/// # Errors
/// As [`merge::due`].
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
    let config = run::config(inventory, name)?;
    let due = run::due(inventory, &config.base)?;
    if config.kind == Kind::Thick || !merge::other_release(inventory, config.skel, due) {
        return Ok(None);
    }
    merge::due(inventory, name, None)
}

/// Plans that a jail stays where it is: it is pinned there, and follows no track until it is told to.
///
/// # Errors
/// [`PlanError`]: a replica; no such jail; a generation that is not sealed.
pub fn stay(inventory: &Inventory, name: &JailName, at: GenerationId) -> Result<Plan, PlanError> {
    writable(inventory)?;
    inventory.sealed(at).ok_or(PlanError::NotSealed(at))?;
    let jail = run::known(inventory, name)?;
    let config = run::config(inventory, name)?;
    let pinned = JailConfig {
        base: Base::Pin(at),
        ..config.clone()
    };
    let mut plan = Plan::default();
    if pinned != *config {
        let sets = vec![site::set_jail(&jail.dataset, config, &pinned)?];
        plan.push(swap::commit(inventory, sets, at));
    }
    Ok(plan)
}

/// Plans the restart of those of the jails that are behind, and the start of those that an earlier
/// restart has left down; but of none whose files are of another release.
///
/// # Errors
/// As [`run::restart`].
pub fn converge(
    observed: &Observed,
    names: &[JailName],
    down: &BTreeSet<JailName>,
) -> Result<Plan, PlanError> {
    let mut late = Vec::new();
    let mut notes = Vec::new();
    for name in names {
        let jail = run::known(&observed.inventory, name)?;
        let runs = matches!(observed.state(name), JailState::Running { .. });
        if let Some(due) = needs_merge(observed, name, down)? {
            notes.push(format!(
                "{name} comes to another release: its own files are merged from generation {} to {} first",
                due.from, due.to
            ));
        } else if behind(observed, jail).is_some() || !runs && down.contains(name) {
            late.push(name.clone());
        } else if runs {
            notes.push(format!("{name} runs what it should already"));
        } else {
            notes.push(format!("{name} is stopped: it starts on what it should"));
        }
    }
    let mut plan = run::restart(observed, &late)?;
    plan.notes.extend(notes);
    Ok(plan)
}
