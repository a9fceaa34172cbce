//! Looks up in an observation what a plan is about: jails, tracks, and the generation that is due for a jail.

use crate::model::{Base, Generation, Inventory, Jail, JailConfig, Track};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::{PlanError, SpecError};

/// Returns the jail of this name.
///
/// # Errors
/// [`PlanError::NoJail`]; [`PlanError::Interrupted`] if its creation was interrupted.
pub fn jail<'a>(inventory: &'a Inventory, name: &JailName) -> Result<&'a Jail, PlanError> {
    inventory
        .jails
        .get(name)
        .ok_or_else(|| missing(inventory, name))
}

/// Returns the configuration of the jail of this name.
///
/// # Errors
/// Those of [`jail`]; [`PlanError::Stranger`].
pub fn config<'a>(inventory: &'a Inventory, name: &JailName) -> Result<&'a JailConfig, PlanError> {
    let jail = jail(inventory, name)?;
    jail.config.as_ref().map_err(|why| PlanError::Stranger {
        dataset: jail.dataset.clone(),
        why: why.clone(),
    })
}

/// Returns the generation that a jail needs.
///
/// # Errors
/// [`SpecError::NoBase`] if it does not exist or is not sealed.
pub fn sealed_for<'a>(
    inventory: &'a Inventory,
    jail: &JailName,
    generation: GenerationId,
) -> Result<&'a Generation, SpecError> {
    inventory
        .sealed(generation)
        .ok_or_else(|| SpecError::NoBase {
            jail: jail.clone(),
            generation,
        })
}

fn missing(inventory: &Inventory, name: &JailName) -> PlanError {
    if inventory.debris.contains_key(name) {
        PlanError::Interrupted(name.clone())
    } else {
        PlanError::NoJail(name.clone())
    }
}

/// Returns the generation that is due for a jail. If a conflict has pinned the jail, and its track has left the
/// generation of the conflict, also returns the track that the jail follows again.
///
/// # Errors
/// Those of [`generation_of_base`].
pub fn target(
    inventory: &Inventory,
    config: &JailConfig,
) -> Result<(GenerationId, Option<TrackName>), PlanError> {
    if let Some(held) = config.held() {
        let current = inventory.tracks.get(&held.track).and_then(|it| it.current);
        if let Some(current) = current.filter(|current| *current != held.of) {
            return Ok((current, Some(held.track.clone())));
        }
    }
    Ok((generation_of_base(inventory, &config.base)?, None))
}

/// Describes the conflict that holds a jail on its generation, and the way out; returns `None` if its track brings the
/// jail to another generation again.
pub fn held(inventory: &Inventory, name: &JailName) -> Option<String> {
    let config = config(inventory, name).ok()?;
    let held = config.held()?;
    let (at, follows) = target(inventory, config).ok()?;
    if follows.is_some() {
        return None;
    }
    let track = &held.track;
    Some(format!(
        "{name} is held on generation {at}: its own files were not brought to generation {} of the track {track}; `ezz stop {name} && ezz merge {name} --follow {track}` does it",
        held.of
    ))
}

/// Returns the generation that is due for a jail with this base.
///
/// # Errors
/// [`PlanError::NoTrack`], [`PlanError::EmptyTrack`].
pub fn generation_of_base(inventory: &Inventory, base: &Base) -> Result<GenerationId, PlanError> {
    match base {
        Base::Pin(id) => Ok(*id),
        Base::Track(track) => match inventory.tracks.get(track) {
            None => Err(PlanError::NoTrack(track.clone())),
            Some(found) => found
                .current
                .ok_or_else(|| PlanError::EmptyTrack(track.clone())),
        },
    }
}

/// Returns the generation whose base this dataset is.
pub fn generation_of(inventory: &Inventory, dataset: &str) -> Option<GenerationId> {
    let below = dataset.strip_prefix(inventory.site.layout.basejail.as_str())?;
    GenerationId::from_component(below.strip_prefix('/')?)
}

/// Returns the track of this name.
///
/// # Errors
/// [`PlanError::NoTrack`].
pub fn track<'a>(inventory: &'a Inventory, name: &TrackName) -> Result<&'a Track, PlanError> {
    inventory
        .tracks
        .get(name)
        .ok_or_else(|| PlanError::NoTrack(name.clone()))
}

/// Returns the jails that follow a track, running or not, and those that a conflict keeps from it.
pub fn followers<'a>(
    inventory: &'a Inventory,
    name: &'a TrackName,
) -> impl Iterator<Item = &'a JailName> {
    let follows = move |jail: &&Jail| {
        let config = jail.config.as_ref();
        config.is_ok_and(|config| config.follows() == Some(name))
    };
    let jails = inventory.jails.values();
    jails.filter(follows).map(|jail| &jail.name)
}

/// Returns the tracks whose current generation this is.
pub fn tracks_at(inventory: &Inventory, id: GenerationId) -> impl Iterator<Item = &TrackName> {
    let all = inventory.tracks.iter();
    all.filter(move |(_, track)| track.current == Some(id))
        .map(|(name, _)| name)
}

/// Checks that no roll-out of a track is under way; during one, only the roll-out may move the track.
///
/// # Errors
/// [`PlanError::RolloutUnderWay`].
pub fn ensure_no_rollout(inventory: &Inventory, name: &TrackName) -> Result<(), PlanError> {
    if inventory.rollouts.contains_key(name) {
        return Err(PlanError::RolloutUnderWay(name.clone()));
    }
    Ok(())
}
