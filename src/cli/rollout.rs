//! The roll-out of a generation: what `update --restart`, `--continue` and `--abort` do.
//!
//! It reads from the pool how far it is, does what comes next, and reads again; so it does not matter
//! who began it. While it works it has a lock of its own.

use serde::Serialize;

use super::converge::{Failure, Late, Moved, Pace, batches, late};
use super::error::Restarted;
use super::merging::clear_left;
use super::restart_marks::RestartMarks;
use super::rollback::{checked, native};
use super::upgrade::Unmergeable;
use super::{CliError, Context};
use crate::model::{Base, Inventory, Phase, Rejected, Rollout, printable};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::track::{self, Request, To};
use crate::plan::{PlanError, lookup, rollout as plan};
use crate::report::{Exit, Kind as Json};
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
    let _lock = session.lock_rollout(track)?;
    clear_left(context, session)?;
    let inventory = session.inventory(&Scope::none())?;
    let same = |other: &Rollout| request.to == To::Generation(other.to);
    if plan::under_way(&inventory, track).is_ok_and(same) {
        // The same again: an earlier one was interrupted, maybe on its way back.
        return go(context, session, track);
    }
    let target = track::target(&inventory, request)?;
    native(session, &inventory, track, target)?;
    checked(context, session, target)?;
    let found = lookup::track(&inventory, track)?;
    let from = found
        .current
        .ok_or_else(|| PlanError::EmptyTrack(track.clone()))?;
    let rollout = Rollout {
        from,
        to: target.id,
        previous: found.previous,
        phase: if begin.canaries.is_empty() {
            Phase::Swapped
        } else {
            Phase::Canaries
        },
        canaries: begin.canaries.clone(),
        batch: pace.batch,
        pause: pace.pause,
        health: pace.health.clone(),
        limit: pace.health_limit,
        failed: None,
        spared: false,
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
    late.note_thick(context);
    Ok(batches(context, session, &late.jails, pace, Unmergeable::Stays)?.exit())
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
    let _lock = session.lock_rollout(track)?;
    clear_left(context, session)?;
    let inventory = session.inventory(&Scope::none())?;
    let rollout = plan::under_way(&inventory, track)?;
    if abort && rollout.phase != Phase::Back {
        turn(context, session, track, rollout, None)?;
    }
    go(context, session, track)
}

/// Does what comes next, until nothing does.
fn go(context: &Context<'_>, session: &Session, track: &TrackName) -> Result<Exit, CliError> {
    let mut earlier = 0;
    phases(context, session, track, &mut earlier).map_err(|error| {
        let restarted = match error {
            CliError::RestartsInterrupted(last) => Restarted {
                restarted: earlier + last.restarted,
                left: last.left,
            },
            error if error.interrupted() => Restarted {
                restarted: earlier,
                left: 0,
            },
            error => return error,
        };
        CliError::RolloutInterrupted {
            track: track.clone(),
            restarted,
        }
    })
}

/// Adds the jails that each phase has restarted to a sum, which an interruption reports.
fn phases(
    context: &Context<'_>,
    session: &Session,
    track: &TrackName,
    restarted: &mut usize,
) -> Result<Exit, CliError> {
    loop {
        let inventory = session.inventory(&Scope::none())?;
        let rollout = plan::under_way(&inventory, track)?.clone();
        // What a program that was stopped in its middle has left out.
        enter(context, session, track, &rollout)?;
        let pace = Pace {
            batch: rollout.batch.max(1),
            pause: rollout.pause,
            health: rollout.health.clone(),
            health_limit: rollout.limit.max(1),
        };
        let late = match rollout.phase {
            Phase::Canaries => Late {
                jails: canaries(context, session, &rollout)?,
                ..Late::default()
            },
            Phase::Swapped | Phase::Back => late(context, session, Some(track))?,
        };
        let unmergeable = match rollout.phase {
            Phase::Canaries => Unmergeable::Fails,
            // On the way back there are no conflicts, but for a jail that had one with the former generation before.
            Phase::Swapped | Phase::Back => Unmergeable::Stays,
        };
        let moved = batches(context, session, &late.jails, &pace, unmergeable)?;
        *restarted += moved.restarted;
        match rollout.phase {
            Phase::Canaries | Phase::Swapped if !moved.failed.is_empty() => {
                let failed = Rejected {
                    at: context.machine.now(),
                    why: why(&moved),
                    other: serde_json::Map::new(),
                };
                let unwell = |(_, why): &(_, Failure)| matches!(why, Failure::Unwell(_));
                let rollout = Rollout {
                    spared: !moved.failed.iter().any(unwell),
                    ..rollout
                };
                turn(context, session, track, &rollout, Some(failed))?;
            }
            Phase::Canaries => {
                let phase = Phase::Swapped;
                enter(context, session, track, &Rollout { phase, ..rollout })?;
            }
            Phase::Swapped | Phase::Back => {
                context.transact(session, "update", &Scope::none(), |observed| {
                    Ok(plan::end(&observed.inventory, track)?)
                })?;
                tell(context, &inventory, track, &rollout);
                late.note_thick(context);
                let all = moved.failed.is_empty() && moved.stayed.is_empty();
                return Ok(match (&rollout.failed, all) {
                    (None, true) => Exit::Done,
                    (Some(_), true) => Exit::Failed,
                    (_, false) => Exit::Partly,
                });
            }
        }
    }
}

/// Makes all as a phase promises.
fn enter(
    context: &Context<'_>,
    session: &Session,
    track: &TrackName,
    rollout: &Rollout,
) -> Result<(), CliError> {
    let scope = Scope::of(rollout.canaries.iter().cloned());
    context.transact(session, "update", &scope, |observed| {
        Ok(plan::enter(&observed.inventory, track, rollout)?)
    })?;
    Ok(())
}

/// The canaries that are there still. One that does not run proves nothing: it is started.
fn canaries(
    context: &Context<'_>,
    session: &Session,
    rollout: &Rollout,
) -> Result<Vec<JailName>, CliError> {
    let scope = Scope::of(rollout.canaries.iter().cloned());
    let inventory = session.inventory(&scope)?;
    let moving = RestartMarks::of(context, session);
    let pinned = |name: &&JailName| {
        let jail = inventory.jails.get(*name);
        let config = jail.and_then(|jail| jail.config.as_ref().ok());
        config.is_some_and(|config| config.base == Base::Pin(rollout.to))
    };
    let there: Vec<JailName> = rollout.canaries.iter().filter(pinned).cloned().collect();
    for canary in &there {
        moving.add(canary)?;
    }
    Ok(there)
}

/// Turns back.
fn turn(
    context: &Context<'_>,
    session: &Session,
    track: &TrackName,
    rollout: &Rollout,
    failed: Option<Rejected>,
) -> Result<(), CliError> {
    let why = failed.as_ref().map_or("as asked", |failed| &failed.why);
    context.report.warning(format!(
        "the track {track} goes back to generation {}: {why}",
        rollout.from
    ));
    let back = Rollout {
        phase: Phase::Back,
        failed,
        ..rollout.clone()
    };
    enter(context, session, track, &back)
}

/// Why a generation is rejected: the first jail that was not well, on one line that fits a property.
fn why(moved: &Moved) -> String {
    let first = moved.failed.first();
    let text = first.map_or("", |(_, why)| why.why());
    printable(text).chars().take(300).collect()
}

fn tell(context: &Context<'_>, inventory: &Inventory, track: &TrackName, rollout: &Rollout) {
    let shown = |id: GenerationId| {
        let found = inventory.generations.get(&id);
        found.map_or_else(|| id.to_string(), crate::model::Generation::display)
    };
    let back = rollout.phase == Phase::Back;
    let why = rollout.failed.as_ref();
    let why = why.map_or("aborted", |failed| failed.why.as_str());
    context.report.result(
        Json::Rollout,
        true,
        &Ended {
            track,
            from: rollout.from,
            to: rollout.to,
            did: if back { "went back" } else { "rolled out" },
            why: back.then_some(why),
        },
    );
    context.report.said(if back {
        format!("track {track}: back at {}: {why}", shown(rollout.from))
    } else {
        format!("track {track}: rolled out {}", shown(rollout.to))
    });
}
