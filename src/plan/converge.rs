//! The plan of `converge`: running jails that have another basejail than they are due to have are
//! started again.

use std::collections::BTreeSet;

use crate::model::{Inventory, Jail, JailState, Kind};
use crate::name::{GenerationId, JailName};
use crate::plan::{Observed, Plan, PlanError, run};

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
    let due = run::due(&observed.inventory, config).ok()?;
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

/// Plans the restart of those of the jails that are behind, and the start of those that an earlier
/// restart has left down.
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
        if behind(observed, jail).is_some() || !runs && down.contains(name) {
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
