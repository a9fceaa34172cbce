//! Finds the jails that are not at the generation that is due.

use crate::model::{Jail, JailState, Kind};
use crate::name::{GenerationId, JailName};
use crate::plan::{Observed, generation, lookup};

/// A jail that is not at the generation that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The name of the jail.
    pub jail: JailName,
    /// The generation it runs on; `None` if it is stopped, or if its mounted base is not a generation of the site.
    pub runs: Option<GenerationId>,
    /// The generation that its own files are at.
    pub files: GenerationId,
    /// The generation that is due.
    pub target: GenerationId,
}

/// Returns whether and how a running jail is behind: it runs on another generation than is due, or its own files are at
/// another one.
pub fn behind(observed: &Observed, jail: &Jail) -> Option<Behind> {
    matches!(observed.state(&jail.name), JailState::Running { .. })
        .then(|| late(observed, jail))
        .flatten()
}

/// Returns whether and how a jail, running or stopped, is behind. For a stopped jail, its own files decide.
pub fn late(observed: &Observed, jail: &Jail) -> Option<Behind> {
    let config = jail.config.as_ref().ok()?;
    if config.kind == Kind::Thick {
        return None;
    }
    let (target, again) = lookup::target(&observed.inventory, config).ok()?;
    // No jail is brought to a world of another system, where it would not start.
    let target_world = observed.inventory.sealed(target);
    if target_world.is_some_and(|found| generation::ensure_native(found, observed.os).is_err()) {
        return None;
    }
    let (up, runs) = match observed.state(&jail.name) {
        JailState::Running { base, .. } => (
            true,
            base.and_then(|base| lookup::generation_of(&observed.inventory, &base)),
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
