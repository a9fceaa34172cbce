//! The plans of a roll-out: canaries are pinned to the new generation and proven, then the track is
//! swapped and the jails follow; or, when something fails, all go back.
//!
//! Its state is a property of the pool that changes in the same program as what it tells of, so that a
//! roll-out can be gone on with, or gone back from, after whatever has interrupted it.

use crate::model::{Base, Inventory, Kind, Phase, Rollout, Track, encode, property};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::track::{self, Request, To};
use crate::plan::{Expect, Plan, PlanError, Set, Step, generation, lookup, sets, writable};

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
    lookup::ensure_no_rollout(inventory, track)?;
    let request = Request {
        from: Some(rollout.from),
        ..request(track, rollout, rollout.to, &rollout.why)
    };
    track::target(inventory, &request)?;
    ensure_canaries(inventory, track, &rollout.canaries)?;
    enter(inventory, track, rollout)
}

/// Ensures that jails can go first in a roll-out of a track.
///
/// # Errors
/// [`PlanError::NoJail`], [`PlanError::Canary`].
pub fn ensure_canaries(
    inventory: &Inventory,
    track: &TrackName,
    canaries: &[JailName],
) -> Result<(), PlanError> {
    for name in canaries {
        let config = lookup::config(inventory, name)?;
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
    }
    Ok(())
}

/// Plans that all is as the phase of a roll-out promises: nothing if it is so already. The phase comes
/// first, so that what a stopped program has left out is made up for by the same plan again.
///
/// # Errors
/// [`PlanError`]: a replica; a generation that is not sealed.
pub fn enter(
    inventory: &Inventory,
    track: &TrackName,
    rollout: &Rollout,
) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let at = match rollout.phase {
        Phase::Canaries | Phase::Swapped => rollout.to,
        Phase::Back => rollout.from,
    };
    let target = inventory.sealed(at).ok_or(PlanError::NotSealed(at))?;
    let mut plan = Plan::on(inventory);
    generation::add_missing(&mut plan, inventory, target);
    let mut sets = Vec::new();
    let noted = note(inventory, track, Some(rollout))?;
    let old = inventory.rollouts.get(track).map(|found| &found.text);
    if noted.value.as_ref() != old {
        sets.push(noted);
    }
    match rollout.phase {
        Phase::Canaries => {
            let follows = Base::Track(track.clone());
            sets.extend(rebased(
                inventory,
                rollout,
                &follows,
                &Base::Pin(rollout.to),
            )?);
        }
        Phase::Swapped | Phase::Back => {
            let pinned = Base::Pin(rollout.to);
            let follows = Base::Track(track.clone());
            sets.extend(rejected(inventory, rollout)?);
            sets.extend(rebased(inventory, rollout, &pinned, &follows)?);
            sets.extend(moved(inventory, track, rollout, at)?);
        }
    }
    if !sets.is_empty() {
        plan.push(sets::commit_at(inventory, sets, at));
    }
    if rollout.phase != Phase::Canaries {
        plan.push(Step::Link {
            track: track.clone(),
            generation: at,
            directory: inventory.site.directory.clone(),
        });
    }
    Ok(plan)
}

/// The track, if it is not where it should be.
fn moved(
    inventory: &Inventory,
    track: &TrackName,
    rollout: &Rollout,
    at: GenerationId,
) -> Result<Vec<Set>, PlanError> {
    let found = lookup::track(inventory, track)?;
    if found.current == Some(at) {
        return Ok(Vec::new());
    }
    if rollout.phase == Phase::Swapped {
        let request = request(track, rollout, at, &rollout.why);
        return track::forwards(inventory, &request, at);
    }
    // As if it had never been: a rollback must not lead to what was just rejected.
    let was = Track {
        current: Some(rollout.from),
        previous: rollout.previous,
        previous_guid: None,
        other: found.other.clone(),
    };
    let why = rollout.failed.as_ref();
    let why = why.map_or("aborted", |failed| failed.why.as_str());
    track::sets(inventory, &request(track, rollout, at, why), &was)
}

/// That its generation is rejected, if it goes back because of that.
fn rejected(inventory: &Inventory, rollout: &Rollout) -> Result<Option<Set>, PlanError> {
    let there = inventory.generations.get(&rollout.to);
    let there = there.and_then(|generation| generation.rejected.as_ref());
    let wanted = rollout
        .failed
        .as_ref()
        .filter(|_| rollout.phase == Phase::Back && !rollout.spared);
    let Some(failed) = wanted.filter(|failed| there != Some(failed)) else {
        return Ok(None);
    };
    let dataset = inventory.site.layout.base(rollout.to)?;
    Ok(Some(Set {
        property: property::REJECTED.to_owned(),
        expect: Expect::Any,
        value: Some(encode(&dataset, property::REJECTED, failed)?),
        dataset: dataset.to_string(),
    }))
}

/// Plans the end: nothing is under way any more.
///
/// # Errors
/// [`PlanError`].
pub fn end(inventory: &Inventory, track: &TrackName) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let current = lookup::track(inventory, track)?
        .current
        .ok_or_else(|| PlanError::EmptyTrack(track.clone()))?;
    let mut plan = Plan::default();
    let sets = vec![note(inventory, track, None)?];
    plan.push(sets::commit_at(inventory, sets, current));
    Ok(plan)
}

fn request(track: &TrackName, rollout: &Rollout, to: GenerationId, why: &str) -> Request {
    Request {
        track: track.clone(),
        to: To::Generation(to),
        from: None,
        at: rollout.at.clone(),
        by: rollout.by.clone(),
        why: why.to_owned(),
    }
}

/// The compare-and-set of the roll-out itself.
fn note(inventory: &Inventory, track: &TrackName, new: Option<&Rollout>) -> Result<Set, PlanError> {
    let dataset = &inventory.site.layout.basejail;
    let property = format!("{}{track}", property::ROLLOUT);
    let old = inventory.rollouts.get(track);
    Ok(Set {
        dataset: dataset.to_string(),
        expect: old.map_or(Expect::Absent, |old| Expect::Value(old.text.clone())),
        value: new
            .map(|rollout| encode(dataset, &property, rollout))
            .transpose()?,
        property,
    })
}

/// Canaries that run on one thing are to run on another. One that was deleted, or changed by somebody
/// since, is left as it is.
fn rebased(
    inventory: &Inventory,
    rollout: &Rollout,
    from: &Base,
    to: &Base,
) -> Result<Vec<Set>, PlanError> {
    let there = rollout.canaries.iter().filter(|name| {
        let jail = inventory.jails.get(*name);
        let config = jail.and_then(|jail| jail.config.as_ref().ok());
        config.is_some_and(|config| config.base == *from)
    });
    there.map(|name| base(inventory, name, to)).collect()
}

/// The compare-and-set of what a jail runs on.
fn base(inventory: &Inventory, name: &JailName, new: &Base) -> Result<Set, PlanError> {
    let jail = lookup::jail(inventory, name)?;
    let config = lookup::config(inventory, name)?;
    sets::set_jail(&jail.dataset, config, &config.rebased(new.clone()))
}
