//! The roll-out of a generation: what `update --restart`, `--continue` and `--abort` do.
//!
//! It reads from the pool how far it is, does what comes next, and reads again; so it does not matter
//! who began it. While it works it has a lock of its own.

use serde::Serialize;

use super::converge::{Moved, Pace, batches, late};
use super::moving::Moving;
use super::rollback::checked;
use super::{CliError, Context};
use crate::model::{Inventory, Phase, Rejected, Rollout};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::swap::{self, Request, To};
use crate::plan::{Plan, PlanError, rollout as plan};
use crate::report::Exit;
use crate::session::{Scope, Session};

/// What begins a roll-out.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    /// Which track, and where to.
    pub(super) request: Request,
    /// Jails that go first.
    pub(super) canaries: Vec<JailName>,
    /// How the others follow.
    pub(super) pace: Pace,
}

#[derive(Debug, Serialize)]
struct Ended<'a> {
    track: &'a TrackName,
    from: GenerationId,
    to: GenerationId,
    did: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

/// Begins a roll-out, and carries it out.
///
/// # Errors
/// [`CliError`].
pub(super) fn begin(
    context: &Context<'_>,
    session: &Session,
    begin: &Begin,
) -> Result<Exit, CliError> {
    let (request, pace) = (&begin.request, &begin.pace);
    let track = &request.track;
    let _lock = session.locks.rollout(track)?;
    let inventory = session.inventory(&Scope::none())?;
    let same = |other: &Rollout| request.to == To::Generation(other.to);
    if plan::under_way(&inventory, track).is_ok_and(same) {
        // The same again: an earlier one was interrupted, maybe on its way back.
        return go(context, session, track);
    }
    let target = swap::target(&inventory, request)?;
    checked(context, session, target)?;
    let found = swap::track(&inventory, track)?;
    let from = found
        .current
        .ok_or_else(|| PlanError::EmptyTrack(track.clone()))?;
    let rollout = Rollout {
        from,
        to: target.id,
        previous: found.previous,
        phase: Phase::Canaries,
        canaries: begin.canaries.clone(),
        batch: pace.batch,
        pause: pace.pause,
        health: pace.health.clone(),
        limit: pace.health_limit,
        at: request.at.clone(),
        by: request.by.clone(),
        why: request.why.clone(),
        other: serde_json::Map::new(),
    };
    if from != target.id {
        let scope = Scope::of(begin.canaries.iter().cloned());
        context.transact(session, "update", &scope, |observed| {
            Ok(plan::begin(&observed.inventory, track, &rollout)?)
        })?;
        if session.dry_run {
            return Ok(Exit::Done);
        }
        return go(context, session, track);
    }
    context.report.note(format!(
        "the track {track} is at {} already",
        target.display()
    ));
    let late = late(context, session, Some(track))?;
    Ok(batches(context, session, &late, pace)?.exit())
}

/// Goes on with a roll-out, or back from it.
///
/// # Errors
/// [`CliError`].
pub(super) fn resume(
    context: &Context<'_>,
    session: &Session,
    track: &TrackName,
    abort: bool,
) -> Result<Exit, CliError> {
    let _lock = session.locks.rollout(track)?;
    let inventory = session.inventory(&Scope::none())?;
    let rollout = plan::under_way(&inventory, track)?;
    if abort && rollout.phase != Phase::Back {
        turn(context, session, track, rollout, None)?;
    }
    go(context, session, track)
}

/// Does what comes next, until nothing does.
fn go(context: &Context<'_>, session: &Session, track: &TrackName) -> Result<Exit, CliError> {
    loop {
        let inventory = session.inventory(&Scope::none())?;
        let rollout = plan::under_way(&inventory, track)?.clone();
        let pace = Pace {
            batch: rollout.batch.max(1),
            pause: rollout.pause,
            health: rollout.health.clone(),
            health_limit: rollout.limit.max(1),
        };
        let jails = match rollout.phase {
            Phase::Canaries => {
                // One that does not run proves nothing: it is started.
                let moving = Moving::of(context, &inventory.site.id);
                for canary in &rollout.canaries {
                    moving.add(canary)?;
                }
                rollout.canaries.clone()
            }
            Phase::Swapped | Phase::Back => late(context, session, Some(track))?,
        };
        let moved = batches(context, session, &jails, &pace).map_err(|error| match error {
            CliError::Interrupted => CliError::RolloutInterrupted(track.clone()),
            error => error,
        })?;
        let scope = Scope::of(rollout.canaries.iter().cloned());
        let commit = |make: &dyn Fn(&Inventory) -> Result<Plan, PlanError>| {
            context.transact(session, "update", &scope, |observed| {
                Ok(make(&observed.inventory)?)
            })
        };
        match rollout.phase {
            Phase::Canaries | Phase::Swapped if !moved.failed.is_empty() => {
                let rejected = Rejected {
                    at: context.machine.now(),
                    why: why(&moved),
                    other: serde_json::Map::new(),
                };
                turn(context, session, track, &rollout, Some(&rejected))?;
            }
            Phase::Canaries => {
                commit(&|inventory| plan::swapped(inventory, track, &rollout))?;
            }
            Phase::Swapped => {
                commit(&|inventory| plan::end(inventory, track))?;
                tell(context, &inventory, track, &rollout, None);
                return Ok(Exit::Done);
            }
            Phase::Back => {
                commit(&|inventory| plan::end(inventory, track))?;
                let rejected = inventory
                    .generations
                    .get(&rollout.to)
                    .and_then(|to| to.rejected.as_ref());
                let why = rejected.map_or("aborted", |rejected| rejected.why.as_str());
                tell(context, &inventory, track, &rollout, Some(why));
                return Ok(if moved.failed.is_empty() && rejected.is_none() {
                    Exit::Done
                } else if moved.failed.is_empty() {
                    Exit::Failed
                } else {
                    Exit::Partly
                });
            }
        }
    }
}

/// Turns back.
fn turn(
    context: &Context<'_>,
    session: &Session,
    track: &TrackName,
    rollout: &Rollout,
    rejected: Option<&Rejected>,
) -> Result<(), CliError> {
    let word = rejected.map_or("as asked", |rejected| rejected.why.as_str());
    context.report.note(format!(
        "the track {track} goes back to generation {}: {word}",
        rollout.from
    ));
    let scope = Scope::of(rollout.canaries.iter().cloned());
    context.transact(session, "update", &scope, |observed| {
        Ok(plan::back(&observed.inventory, track, rollout, rejected)?)
    })?;
    Ok(())
}

/// Why a generation is rejected: the first jail that was not well, on one line that fits a property.
fn why(moved: &Moved) -> String {
    let first = moved.failed.first();
    let text = first.map_or_else(String::new, |(_, why)| why.clone());
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

fn tell(
    context: &Context<'_>,
    inventory: &Inventory,
    track: &TrackName,
    rollout: &Rollout,
    why: Option<&str>,
) {
    let shown = |id: GenerationId| {
        let found = inventory.generations.get(&id);
        found.map_or_else(|| id.to_string(), crate::model::Generation::display)
    };
    context.report.object(&Ended {
        track,
        from: rollout.from,
        to: rollout.to,
        did: if why.is_none() {
            "rolled out"
        } else {
            "went back"
        },
        why,
    });
    context.report.said(match why {
        None => format!("track {track}: rolled out {}", shown(rollout.to)),
        Some(why) => format!("track {track}: back at {}: {why}", shown(rollout.from)),
    });
}
