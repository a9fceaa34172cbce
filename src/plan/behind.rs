//! Which jails are not at their target.

use crate::model::{Jail, JailState, Kind};
use crate::name::{GenerationId, JailName};
use crate::plan::{Observed, generation, lookup};

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
    let (target, again) = lookup::target(&observed.inventory, config).ok()?;
    // Nothing brings it to a world of another system, and it does not start.
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
