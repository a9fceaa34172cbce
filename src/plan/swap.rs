//! The plans of a swap: a track gets another current generation, forwards or backwards.
//!
//! One program compares and sets the track, its log and the epoch, and asks that the target is
//! sealed. What runs is not touched: jails change when they are started again (`converge`).

use crate::model::{Generation, Inventory, MAX_VALUE, Swap, Track, encode, property};
use crate::name::{GenerationId, TrackName};
use crate::plan::{Commit, Expect, Plan, PlanError, Set, Step, site, world, writable};

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
    let track = track(inventory, name)?;
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
    match &found.rejected {
        Some(rejected) if !named => Err(PlanError::Rejected {
            generation: found.display(),
            why: rejected.why.clone(),
        }),
        Some(_) | None => Ok(found),
    }
}

/// Plans a swap.
///
/// # Errors
/// As [`target`]; a replica; a roll-out of the track; a log that cannot be written.
pub fn swap(inventory: &Inventory, request: &Request) -> Result<Plan, PlanError> {
    writable(inventory)?;
    free(inventory, &request.track)?;
    let target = target(inventory, request)?;
    let (name, id) = (&request.track, target.id);
    let mut plan = Plan::on(inventory);
    world::ready(&mut plan, inventory, target);
    if track(inventory, name)?.current == Some(id) {
        plan.note(format!(
            "the track {name} is at {} already",
            target.display()
        ));
    } else {
        let mut sets = sets(inventory, request, id)?;
        if target.rejected.is_some() {
            // Named, it is wanted: it is rejected no longer.
            sets.push(Set {
                dataset: inventory.site.layout.base(id)?.to_string(),
                property: property::REJECTED.to_owned(),
                expect: Expect::Any,
                value: None,
            });
        }
        plan.push(commit(inventory, sets, id));
    }
    plan.push(Step::Link {
        track: name.clone(),
        generation: id,
    });
    Ok(plan)
}

/// That no roll-out of a track is under way, which alone may move it then.
///
/// # Errors
/// [`PlanError::RolloutUnderWay`].
pub fn free(inventory: &Inventory, name: &TrackName) -> Result<(), PlanError> {
    if inventory.rollouts.contains_key(name) {
        return Err(PlanError::RolloutUnderWay(name.clone()));
    }
    Ok(())
}

/// What changes when a track moves: the track, and its log.
///
/// # Errors
/// [`PlanError::NoTrack`], [`PlanError::Model`].
pub(super) fn sets(
    inventory: &Inventory,
    request: &Request,
    to: GenerationId,
) -> Result<Vec<Set>, PlanError> {
    let name = &request.track;
    let old = track(inventory, name)?;
    let left = old.current.and_then(|id| inventory.generations.get(&id));
    let new = Track {
        current: Some(to),
        previous: old.current,
        previous_guid: left
            .and_then(|generation| generation.base.as_ref())
            .and_then(|half| half.snapshot),
        other: old.other.clone(),
    };
    Ok(vec![
        site::set_track(inventory, name, &new)?,
        log(inventory, request, old.current, to)?,
    ])
}

/// The program that does it, if the target still has its seals.
pub(super) fn commit(inventory: &Inventory, sets: Vec<Set>, to: GenerationId) -> Step {
    Step::Commit {
        site: inventory.site.layout.site.clone(),
        commit: Commit::Set {
            epoch: inventory.site.epoch,
            sets,
            sealed: site::holds(&inventory.site.layout, to),
            adopt: false,
        },
    }
}

/// The compare-and-set of the log with one swap more. The oldest go where there is no room.
fn log(
    inventory: &Inventory,
    request: &Request,
    from: Option<GenerationId>,
    to: GenerationId,
) -> Result<Set, PlanError> {
    let dataset = &inventory.site.layout.basejail;
    let property = format!("{}{}", property::SWAPS, request.track);
    let old = inventory.swaps.get(&request.track);
    let mut swaps = old.map(|log| log.swaps.clone()).unwrap_or_default();
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

/// The track of that name.
///
/// # Errors
/// [`PlanError::NoTrack`].
pub fn track<'a>(inventory: &'a Inventory, name: &TrackName) -> Result<&'a Track, PlanError> {
    inventory
        .tracks
        .get(name)
        .ok_or_else(|| PlanError::NoTrack(name.clone()))
}
