//! The plans of a roll-out: canaries are pinned to the new generation and proven, then the track is
//! swapped and the jails follow; or, when something fails, all go back.
//!
//! Its state is a property of the pool that changes in the same program as what it tells of, so that a
//! roll-out can be gone on with, or gone back from, after whatever has interrupted it.

use crate::model::{Base, Inventory, Kind, Phase, Rejected, Rollout, Track, encode, property};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::swap::{self, Request, To};
use crate::plan::{Expect, Plan, PlanError, Set, Step, run, site, world, writable};

/// The roll-out of a track that is under way.
///
/// # Errors
/// [`PlanError::NoRollout`], [`PlanError::BadRollout`].
pub fn under_way<'a>(
    inventory: &'a Inventory,
    track: &TrackName,
) -> Result<&'a Rollout, PlanError> {
    let found = inventory
        .rollouts
        .get(track)
        .ok_or_else(|| PlanError::NoRollout(track.clone()))?;
    found.rollout.as_ref().map_err(|why| PlanError::BadRollout {
        track: track.clone(),
        why: why.clone(),
    })
}

/// Plans the beginning: with canaries they are pinned, without any the track is swapped at once.
///
/// # Errors
/// [`PlanError`]: another roll-out; a target that is not sealed, or rejected; a jail that cannot be
/// a canary.
pub fn begin(
    inventory: &Inventory,
    track: &TrackName,
    rollout: &Rollout,
) -> Result<Plan, PlanError> {
    writable(inventory)?;
    swap::free(inventory, track)?;
    if rollout.canaries.is_empty() {
        return swapped(inventory, track, rollout);
    }
    let request = request(track, rollout, rollout.to, &rollout.why);
    let target = swap::target(inventory, &request)?;
    let mut plan = Plan::on(inventory);
    world::ready(&mut plan, inventory, target);
    let mut sets = vec![note(inventory, track, Some((rollout, Phase::Canaries)))?];
    for name in &rollout.canaries {
        let config = run::config(inventory, name)?;
        let cannot = |why| PlanError::Canary {
            jail: name.clone(),
            why,
        };
        if config.kind == Kind::Thick {
            return Err(cannot("it is thick, and has all files of its own"));
        }
        if config.base != Base::Track(track.clone()) {
            return Err(cannot("it does not follow the track"));
        }
        sets.push(base(inventory, name, &Base::Pin(rollout.to))?);
    }
    plan.push(swap::commit(inventory, sets, rollout.to));
    Ok(plan)
}

/// Plans the swap: the track, its log, the canaries that follow it again, and the phase.
///
/// # Errors
/// [`PlanError`].
pub fn swapped(
    inventory: &Inventory,
    track: &TrackName,
    rollout: &Rollout,
) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let request = request(track, rollout, rollout.to, &rollout.why);
    let target = swap::target(inventory, &request)?;
    let mut plan = Plan::on(inventory);
    world::ready(&mut plan, inventory, target);
    let mut sets = swap::sets(inventory, &request, rollout.to)?;
    sets.push(note(inventory, track, Some((rollout, Phase::Swapped)))?);
    sets.extend(released(inventory, track, rollout)?);
    plan.push(swap::commit(inventory, sets, rollout.to));
    plan.push(link(track, rollout.to));
    Ok(plan)
}

/// Plans the way back: the track if it was swapped, the canaries, and why the generation is rejected
/// from now on; none if it is only that somebody wants to go back.
///
/// # Errors
/// [`PlanError`].
pub fn back(
    inventory: &Inventory,
    track: &TrackName,
    rollout: &Rollout,
    rejected: Option<&Rejected>,
) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let mut plan = Plan::on(inventory);
    let mut sets = Vec::new();
    if swap::track(inventory, track)?.current == Some(rollout.to) {
        let why = rejected.map_or("aborted", |rejected| rejected.why.as_str());
        let request = request(track, rollout, rollout.from, why);
        let from = inventory
            .sealed(rollout.from)
            .ok_or(PlanError::NotSealed(rollout.from))?;
        world::ready(&mut plan, inventory, from);
        let mut moved = swap::sets(inventory, &request, rollout.from)?;
        // As if it had never been: a rollback must not lead to what was just rejected.
        let was = Track {
            current: Some(rollout.from),
            previous: rollout.previous,
            previous_guid: None,
            other: swap::track(inventory, track)?.other.clone(),
        };
        moved[0] = site::set_track(inventory, track, &was)?;
        sets.extend(moved);
    }
    sets.push(note(inventory, track, Some((rollout, Phase::Back)))?);
    sets.extend(released(inventory, track, rollout)?);
    if let Some(rejected) = rejected {
        let dataset = inventory.site.layout.base(rollout.to)?;
        sets.push(Set {
            property: property::REJECTED.to_owned(),
            expect: Expect::Any,
            value: Some(encode(&dataset, property::REJECTED, rejected)?),
            dataset: dataset.to_string(),
        });
    }
    plan.push(swap::commit(inventory, sets, rollout.from));
    plan.push(link(track, rollout.from));
    Ok(plan)
}

/// Plans the end: nothing is under way any more.
///
/// # Errors
/// [`PlanError`].
pub fn end(inventory: &Inventory, track: &TrackName) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let current = swap::track(inventory, track)?
        .current
        .ok_or_else(|| PlanError::EmptyTrack(track.clone()))?;
    let mut plan = Plan::default();
    let sets = vec![note(inventory, track, None)?];
    plan.push(swap::commit(inventory, sets, current));
    Ok(plan)
}

fn link(track: &TrackName, generation: GenerationId) -> Step {
    Step::Link {
        track: track.clone(),
        generation,
    }
}

fn request(track: &TrackName, rollout: &Rollout, to: GenerationId, why: &str) -> Request {
    Request {
        track: track.clone(),
        to: To::Generation(to),
        at: rollout.at.clone(),
        by: rollout.by.clone(),
        why: why.to_owned(),
    }
}

/// The compare-and-set of the roll-out itself.
fn note(
    inventory: &Inventory,
    track: &TrackName,
    new: Option<(&Rollout, Phase)>,
) -> Result<Set, PlanError> {
    let dataset = &inventory.site.layout.basejail;
    let property = format!("{}{track}", property::ROLLOUT);
    let old = inventory.rollouts.get(track);
    let value = new
        .map(|(rollout, phase)| {
            let rollout = Rollout {
                phase,
                ..rollout.clone()
            };
            encode(dataset, &property, &rollout)
        })
        .transpose()?;
    Ok(Set {
        dataset: dataset.to_string(),
        property,
        expect: old.map_or(Expect::Absent, |old| Expect::Value(old.text.clone())),
        value,
    })
}

/// Canaries that are pinned follow their track again. One that was deleted, or changed since, is left.
fn released(
    inventory: &Inventory,
    track: &TrackName,
    rollout: &Rollout,
) -> Result<Vec<Set>, PlanError> {
    let pinned = rollout.canaries.iter().filter(|name| {
        let jail = inventory.jails.get(*name);
        jail.and_then(|jail| jail.config.as_ref().ok())
            .is_some_and(|config| config.base == Base::Pin(rollout.to))
    });
    pinned
        .map(|name| base(inventory, name, &Base::Track(track.clone())))
        .collect()
}

/// The compare-and-set of what a jail runs on.
fn base(inventory: &Inventory, name: &JailName, new: &Base) -> Result<Set, PlanError> {
    let jail = run::known(inventory, name)?;
    let config = run::config(inventory, name)?;
    let mut changed = config.clone();
    changed.base = new.clone();
    Ok(Set {
        dataset: jail.dataset.to_string(),
        property: property::JAIL.to_owned(),
        expect: Expect::Value(encode(&jail.dataset, property::JAIL, config)?),
        value: Some(encode(&jail.dataset, property::JAIL, &changed)?),
    })
}
