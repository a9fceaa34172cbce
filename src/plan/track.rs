//! How a track moves: the generations that it can move to, and the program that sets it with its log and the mark of
//! the generation that it leaves.

use crate::model::{Generation, Inventory, MAX_VALUE, Served, Swap, Track, encode, property};
use crate::name::{GenerationId, TrackName};
use crate::plan::{Expect, PlanError, Set, lookup, sets};

/// The number of swaps that a track's log keeps; fewer if they do not fit into a property.
const KEPT: usize = 20;

/// The target of a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The previous generation of the track.
    Previous,
    /// This generation, as the user named it; it may be a rejected one.
    Named(String),
    /// This generation, unless it was rejected.
    Generation(GenerationId),
}

/// The request of a swap.
#[derive(Debug, Clone)]
pub struct Request {
    /// The track to move.
    pub track: TrackName,
    /// The target of the swap.
    pub to: To,
    /// The generation that the track must still be at, because the target was made from it.
    pub from: Option<GenerationId>,
    /// The time of the swap, RFC 3339 in UTC.
    pub at: String,
    /// The user who asked for the swap.
    pub by: String,
    /// The reason for the swap.
    pub why: String,
}

/// Returns the target generation of a swap.
///
/// # Errors
/// [`PlanError`]: the track or the generation does not exist; the track has no previous generation; the generation was
/// rejected, or another one has its number.
pub fn target<'a>(
    inventory: &'a Inventory,
    request: &Request,
) -> Result<&'a Generation, PlanError> {
    let name = &request.track;
    let track = lookup::track(inventory, name)?;
    let sealed = |id| inventory.sealed(id).ok_or(PlanError::NotSealed(id));
    let (found, named) = match &request.to {
        To::Named(text) => (inventory.find_generation(text)?, true),
        To::Generation(id) => (sealed(*id)?, false),
        To::Previous => {
            let id = track
                .previous
                .ok_or_else(|| PlanError::NoPrevious(name.clone()))?;
            let found = sealed(id)?;
            let guid = found.base.as_ref().and_then(|half| half.snapshot);
            if track.previous_guid.is_some() && track.previous_guid != guid {
                return Err(PlanError::Replaced {
                    generation: id,
                    track: name.clone(),
                });
            }
            (found, false)
        }
    };
    // Jails that are created afterwards are clones of the skeleton.
    if inventory.skeleton(found.id).is_none() {
        return Err(PlanError::NotSealed(found.id));
    }
    if let Some(from) = request.from {
        if track.current != Some(from) && track.current != Some(found.id) {
            return Err(PlanError::TrackMoved {
                track: name.clone(),
                from,
                made: found.id,
            });
        }
    }
    match &found.rejected {
        Some(rejected) if !named => Err(PlanError::Rejected {
            track: name.clone(),
            generation: found.display(),
            why: rejected.why.clone(),
        }),
        Some(_) | None => Ok(found),
    }
}

/// Whether a generation is sealed and no sign exists that a track was ever at it: it was staged, and waits for its
/// swap. A track marks each generation that it leaves. Generations of the time before these marks are recognised by the
/// log of swaps and by generations that were made from them; without either, a generation counts as untried.
pub fn untried(inventory: &Inventory, generation: &Generation) -> bool {
    let id = generation.id;
    let tracks = || inventory.tracks.values();
    let mut logs = inventory.swaps.keys();
    let swapped = |swap: &Swap| swap.to == id || swap.from == Some(id);
    // An update starts from the generation that its track is at.
    let mut parents = inventory.generations.values().filter_map(|other| {
        let world = other.world.as_ref()?;
        world.parent
    });
    generation.sealed()
        && generation.rejected.is_none()
        && generation.served.is_none()
        && !tracks().any(|track| track.current == Some(id) || track.previous == Some(id))
        && !logs.any(|name| done(inventory, name).iter().any(swapped))
        && !parents.any(|parent| parent == id)
}

/// Returns the mark for a generation that a track leaves; `None` if it has one already or no longer exists.
fn served(
    inventory: &Inventory,
    track: &TrackName,
    left: Option<GenerationId>,
) -> Result<Option<Set>, PlanError> {
    let found = left.and_then(|id| inventory.sealed(id));
    let Some(found) = found.filter(|found| found.served.is_none()) else {
        return Ok(None);
    };
    let dataset = inventory.site.layout.base(found.id)?;
    let mark = Served {
        track: track.clone(),
        other: serde_json::Map::new(),
    };
    Ok(Some(Set {
        value: Some(encode(&dataset, property::SERVED, &mark)?),
        dataset: dataset.to_string(),
        property: property::SERVED.to_owned(),
        expect: Expect::Any,
    }))
}

/// Returns the swaps of a track's log, without a last one that a stopped program recorded but did not carry out.
pub fn done<'a>(inventory: &'a Inventory, name: &TrackName) -> &'a [Swap] {
    let swaps = inventory.swaps.get(name).map_or(&[][..], |log| &log.swaps);
    let current = inventory.tracks.get(name).and_then(|track| track.current);
    match swaps {
        [before @ .., last] if Some(last.to) != current => before,
        all => all,
    }
}

/// Returns the moved track; the generation that it was at is the one that a rollback returns to.
///
/// # Errors
/// [`PlanError::NoTrack`].
pub(super) fn moved(
    inventory: &Inventory,
    name: &TrackName,
    to: GenerationId,
) -> Result<Track, PlanError> {
    let old = lookup::track(inventory, name)?;
    let left = old.current.and_then(|id| inventory.generations.get(&id));
    Ok(Track {
        current: Some(to),
        previous: old.current,
        previous_guid: left
            .and_then(|generation| generation.base.as_ref())
            .and_then(|half| half.snapshot),
        other: old.other.clone(),
    })
}

/// Returns the changes for a track that moves forwards.
///
/// # Errors
/// Those of [`sets`].
pub(super) fn forwards(
    inventory: &Inventory,
    request: &Request,
    to: GenerationId,
) -> Result<Vec<Set>, PlanError> {
    sets(inventory, request, &moved(inventory, &request.track, to)?)
}

/// Returns the changes for a track that moves: the mark of the generation that it leaves, its log, then the track
/// itself. A signal can stop a program between two changes, and then the track decides.
///
/// # Errors
/// [`PlanError::NoTrack`], [`PlanError::Model`].
pub(super) fn sets(
    inventory: &Inventory,
    request: &Request,
    new: &Track,
) -> Result<Vec<Set>, PlanError> {
    let name = &request.track;
    let left = lookup::track(inventory, name)?.current;
    let mut all = Vec::new();
    all.extend(served(inventory, name, left)?);
    if let Some(to) = new.current {
        all.push(log(inventory, request, to)?);
    }
    all.push(sets::set_track(inventory, name, Some(new))?);
    Ok(all)
}

/// Returns the changes for a track that is deleted: the mark of the generation that it leaves, its log, then the track
/// itself, as in [`sets`].
///
/// # Errors
/// [`PlanError::Model`].
pub(super) fn gone(inventory: &Inventory, name: &TrackName) -> Result<Vec<Set>, PlanError> {
    let log = inventory.swaps.get(name).map(|log| Set {
        dataset: inventory.site.layout.basejail.to_string(),
        property: format!("{}{name}", property::SWAPS),
        expect: Expect::Value(log.text.clone()),
        value: None,
    });
    let left = lookup::track(inventory, name)?.current;
    let mark = served(inventory, name, left)?;
    let track = sets::set_track(inventory, name, None)?;
    Ok(mark.into_iter().chain(log).chain([track]).collect())
}

/// Returns the compare-and-set of the log with one more swap. The oldest swaps are dropped if there is no space.
fn log(inventory: &Inventory, request: &Request, to: GenerationId) -> Result<Set, PlanError> {
    let from = lookup::track(inventory, &request.track)?.current;
    let dataset = &inventory.site.layout.basejail;
    let property = format!("{}{}", property::SWAPS, request.track);
    let old = inventory.swaps.get(&request.track);
    let mut swaps = done(inventory, &request.track).to_vec();
    swaps.push(Swap {
        at: request.at.clone(),
        by: request.by.clone(),
        from,
        to,
        why: request.why.clone(),
        other: serde_json::Map::new(),
    });
    let too_many = swaps.len().saturating_sub(KEPT);
    swaps.drain(..too_many);
    while swaps.len() > 1 && serde_json::to_string(&swaps).is_ok_and(|text| text.len() > MAX_VALUE)
    {
        swaps.remove(0);
    }
    Ok(Set {
        dataset: dataset.to_string(),
        expect: old.map_or(Expect::Absent, |log| Expect::Value(log.text.clone())),
        value: Some(encode(dataset, &property, &swaps)?),
        property,
    })
}
