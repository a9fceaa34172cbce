//! The compare-and-set of the properties that store a jail or a track.

use crate::model::{Inventory, JailConfig, Track, encode, property};
use crate::name::{DatasetName, GenerationId, TrackName};
use crate::plan::{Commit, Expect, PlanError, Set, Step, generation};

/// Returns the compare-and-set of a track from the observed value to a new one; `None` removes the track.
///
/// # Errors
/// [`PlanError::Model`] if the value cannot be encoded.
pub fn set_track(
    inventory: &Inventory,
    name: &TrackName,
    track: Option<&Track>,
) -> Result<Set, PlanError> {
    let dataset = &inventory.site.layout.basejail;
    let property = format!("{}{name}", property::TRACK);
    let expect = match inventory.tracks.get(name) {
        None => Expect::Absent,
        Some(old) => Expect::Value(encode(dataset, &property, old)?),
    };
    let value = match track {
        None => None,
        Some(track) => Some(encode(dataset, &property, track)?),
    };
    Ok(Set {
        dataset: dataset.to_string(),
        property,
        expect,
        value,
    })
}

/// Returns the compare-and-set of a jail's `ezz:jail`.
///
/// # Errors
/// [`PlanError::Model`] if the value cannot be encoded.
pub fn set_jail(
    dataset: &DatasetName,
    old: &JailConfig,
    new: &JailConfig,
) -> Result<Set, PlanError> {
    Ok(Set {
        dataset: dataset.to_string(),
        property: property::JAIL.to_owned(),
        expect: Expect::Value(encode(dataset, property::JAIL, old)?),
        value: Some(encode(dataset, property::JAIL, new)?),
    })
}

/// Returns the program that applies these sets, provided that the target still has its seals.
pub(super) fn commit_at(inventory: &Inventory, sets: Vec<Set>, to: GenerationId) -> Step {
    let sealed = generation::seals(&inventory.site.layout, to);
    Step::commit(
        inventory,
        Commit::set_if_sealed(inventory.site.epoch, sets, sealed),
    )
}
