//! What it takes to bring a jail to its target.

use crate::model::{Base, JailConfig, Kind};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::{Observed, PlanError, generation, lookup};

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
    let config = lookup::config(&observed.inventory, name)?;
    way_of(observed, name, config)
}

/// What brings a jail to its target once it has this configuration.
///
/// # Errors
/// As [`way`].
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

/// The configuration of a jail whose own files have been brought to a generation.
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
