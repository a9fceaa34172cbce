//! How a track moves: where it can go, and the program that sets it with its log and the mark of what it leaves.

use crate::model::{Generation, Inventory, MAX_VALUE, Served, Swap, Track, encode, property};
use crate::name::{GenerationId, TrackName};
use crate::plan::{Expect, PlanError, Set, lookup, sets};

/// How many swaps a track's log keeps; fewer if they do not fit into a property.
const KEPT: usize = 20;

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// Where the track was before.
    Previous,
    /// This generation, in the words of the user: a rejected one too.
    Named(String),
    /// This generation, unless it was rejected.
    Generation(GenerationId),
}

/// What a swap was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which track.
    pub track: TrackName,
    /// Where to.
    pub to: To,
    /// Where the track must be still, because what it goes to was made from that.
    pub from: Option<GenerationId>,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
}

/// The generation that a swap is to go to.
///
/// # Errors
/// [`PlanError`]: no such track or generation, none before, a rejected one, another one under its
/// number.
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
    // Jails that are made from then on are clones of it.
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

/// Whether a generation is sealed and nothing says that a track was ever at it: it was staged, and waits
/// for its swap. A track that leaves a generation marks it. Of the time before there were such marks,
/// the log of swaps and what was made from a generation show it; without either it counts as untried.
pub fn untried(inventory: &Inventory, generation: &Generation) -> bool {
    let id = generation.id;
    let tracks = || inventory.tracks.values();
    let mut logs = inventory.swaps.keys();
    let swapped = |swap: &Swap| swap.to == id || swap.from == Some(id);
    // An update begins with the generation that its track is at.
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

/// The mark of a generation that a track leaves; nothing if it has one, or is gone.
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

/// The swaps of a track's log, without a last one that a stopped program has noted and not done.
pub fn done<'a>(inventory: &'a Inventory, name: &TrackName) -> &'a [Swap] {
    let swaps = inventory.swaps.get(name).map_or(&[][..], |log| &log.swaps);
    let current = inventory.tracks.get(name).and_then(|track| track.current);
    match swaps {
        [before @ .., last] if Some(last.to) != current => before,
        all => all,
    }
}

/// A track that has moved: where it was is what a rollback goes back to.
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

/// What changes when a track moves forwards.
///
/// # Errors
/// As [`sets`].
pub(super) fn forwards(
    inventory: &Inventory,
    request: &Request,
    to: GenerationId,
) -> Result<Vec<Set>, PlanError> {
    sets(inventory, request, &moved(inventory, &request.track, to)?)
}

/// What changes when a track becomes another: the mark of the generation that it leaves, its log, then
/// itself. A signal can stop a program between two of its changes, and the track is what counts.
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

/// What changes when a track goes: the mark of what it leaves, its log, then itself, as in [`sets`].
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

/// The compare-and-set of the log with one swap more. The oldest go where there is no room.
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
