//! Determines what is needed to bring a jail to the generation that is due.

use crate::model::{Base, JailConfig, Kind};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::{Observed, PlanError, generation, lookup};

/// A jail whose own files are at another generation than the one that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The name of the jail.
    pub jail: JailName,
    /// The generation whose skeleton its files come from.
    pub from: GenerationId,
    /// The generation whose skeleton they are brought to.
    pub to: GenerationId,
    /// The track that the jail follows afterwards, if it did not before.
    pub follow: Option<TrackName>,
}

impl Due {
    /// Returns the way in the opposite direction.
    pub fn reversed(&self) -> Due {
        Due {
            from: self.to,
            to: self.from,
            ..self.clone()
        }
    }
}

/// How a jail is brought to the generation that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// The jail is at it, or cannot be brought to it: the jail is thick or unfinished, or the world is of another
    /// system.
    There,
    /// The own files fit as they are; only this new configuration has to be set.
    Noted(Box<JailConfig>),
    /// The own files have to be merged, or a merge of them was interrupted.
    Files(Due),
}

/// Returns how a jail is brought to the generation that is due. The jail may run.
///
/// # Errors
/// [`PlanError`]: a jail, track or generation that does not exist.
pub fn way(observed: &Observed, name: &JailName) -> Result<Way, PlanError> {
    let config = lookup::config(&observed.inventory, name)?;
    way_of(observed, name, config)
}

/// Returns how a jail with this configuration would be brought to the generation that is due.
///
/// # Errors
/// Those of [`way`].
pub fn way_of(observed: &Observed, name: &JailName, config: &JailConfig) -> Result<Way, PlanError> {
    let inventory = &observed.inventory;
    let jail = lookup::jail(inventory, name)?;
    if config.kind == Kind::Thick || !config.todo.is_empty() {
        return Ok(Way::There);
    }
    let (to, follow) = lookup::target(inventory, config)?;
    let target = lookup::sealed_for(inventory, name, to)?;
    let foreign = generation::ensure_native(target, observed.os).is_err();
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

/// Returns the configuration of a jail after its own files were brought to a generation.
pub(super) fn brought(
    config: &JailConfig,
    to: GenerationId,
    follow: Option<&TrackName>,
) -> JailConfig {
    let config = match follow {
        Some(track) => config.rebased(Base::Track(track.clone())),
        None => config.clone(),
    };
    JailConfig { skel: to, ..config }
}
