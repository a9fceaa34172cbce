//! `ezz rollback`: returns a track to its previous generation, or to another one.

use clap::Args;
use serde::Serialize;

use super::converge::{Pace, batches, late};
use super::merging::clear_left;
use super::upgrade::Unmergeable;
use super::{CliError, Context, DryRun, verify};
use crate::model::{Generation, Inventory, deceptive};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::behind::behind;
use crate::plan::due::{Way, way};
use crate::plan::generation::ensure_native;
use crate::plan::lookup::followers;
use crate::plan::swap::swap;
use crate::plan::track::{Request, To, target};
use crate::plan::{Observed, PlanError};
use crate::report::{Exit, Kind as Json};
use crate::session::{Scope, Session};
use crate::text::first_few;

/// Point a track back to its previous generation, or to any other; running it twice undoes it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz rollback\n  ezz rollback --track 14 --to 14.3-RELEASE.7 --restart\n\nRunning jails keep their generation until they are restarted: by `ezz converge`, or at once with --restart. Both undo the merge that brought a jail's own files to the generation that the track leaves. A file that has not changed since the merge gets its old contents back; a file that the jail has changed since stays, with a note. A conflict never blocks the way back. A jail whose file system is read-only or full stays where it is, pinned; the exit code is then 3. A jail that was held by a conflict follows its track again.\n\nJSON: a `swap-result`; with --restart a `jail-result` for each jail"
)]
pub struct Rollback {
    /// Name of the track
    #[arg(long, default_value = "main")]
    track: TrackName,
    /// Generation to go back to, even a rejected one: a number, LABEL.N or a label [default: the previous one]
    #[arg(long, value_name = "GENERATION")]
    to: Option<String>,
    /// Reason, for the track's log
    #[arg(long, value_name = "TEXT", default_value = "rollback", value_parser = why)]
    why: String,
    /// Restart the jails that then run another generation
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Swapped<'a> {
    track: &'a TrackName,
    from: Option<GenerationId>,
    to: GenerationId,
    did: &'a str,
}

impl Rollback {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let session = context.session(self.dry_run)?;
        let request = Request {
            track: self.track,
            to: self.to.map_or(To::Previous, To::Named),
            from: None,
            at: context.machine.now(),
            by: context.machine.user(),
            why: self.why,
        };
        swap_checked(context, &session, "rollback", &request, None)?;
        if session.dry_run {
            return Ok(Exit::Done);
        }
        let restart = self.restart.then_some(&self.pace);
        follow(context, &session, &request.track, restart)
    }
}

/// Swaps a track after checking that the target is as it was sealed. The site is not read again for what the caller
/// already knows.
///
/// # Errors
/// [`CliError::Tampered`]; [`CliError`].
pub(super) fn swap_checked(
    context: &Context<'_>,
    session: &Session,
    verb: &'static str,
    request: &Request,
    known: Option<Inventory>,
) -> Result<(), CliError> {
    let inventory = match known {
        Some(inventory) => inventory,
        None => session.inventory(&Scope::none())?,
    };
    let target = target(&inventory, request)?;
    native(session, &inventory, &request.track, target)?;
    checked(context, session, target)?;
    let from = inventory
        .tracks
        .get(&request.track)
        .and_then(|track| track.current);
    let (outcome, _) = context.transact(session, verb, &Scope::none(), |observed| {
        Ok(swap(&observed.inventory, request)?)
    })?;
    if session.dry_run {
        return Ok(());
    }
    let did = if outcome.plan.commits() {
        "swapped"
    } else {
        "already"
    };
    context.report.result(
        Json::SwapResult,
        did == "swapped",
        &Swapped {
            track: &request.track,
            from,
            to: target.id,
            did,
        },
    );
    if did == "swapped" {
        let from = from.and_then(|id| inventory.generations.get(&id));
        let from = from.map_or_else(|| "nothing".to_owned(), |from| from.display());
        context.report.said(format!(
            "track {}: from {from} to {}",
            request.track,
            target.display()
        ));
    }
    Ok(())
}

/// Reports that an updater has found nothing new.
pub(super) fn unchanged(context: &Context<'_>, track: &TrackName, current: &Generation) {
    context.report.result(
        Json::SwapResult,
        false,
        &Swapped {
            track,
            from: Some(current.id),
            to: current.id,
            did: "unchanged",
        },
    );
    context.report.said(format!(
        "nothing to do: track {track} stays at {}",
        current.display()
    ));
}

/// Checks that a swap does not give a world of another system to jails that run here. A track whose world already is of
/// another system may continue: the pool may only be stored on this host.
///
/// # Errors
/// [`PlanError::OtherSystem`].
pub(super) fn native(
    session: &Session,
    inventory: &Inventory,
    track: &TrackName,
    target: &Generation,
) -> Result<(), PlanError> {
    let os = session.host.os();
    let current = inventory.tracks.get(track).and_then(|track| track.current);
    let current = current.and_then(|id| inventory.sealed(id));
    match current.map(|current| ensure_native(current, os)) {
        Some(Err(_)) => Ok(()),
        Some(Ok(())) | None => ensure_native(target, os),
    }
}

/// Checks that a generation is as it was sealed. Its manifest is read only if ZFS reports writes, which may only be the
/// time of a mount.
///
/// # Errors
/// [`CliError::Tampered`]; [`CliError`].
pub(super) fn checked(
    context: &Context<'_>,
    session: &Session,
    generation: &Generation,
) -> Result<(), CliError> {
    if verify::quick(session, generation)?.is_empty() {
        return Ok(());
    }
    let list = verify::whole_base(context, session, generation)?;
    if list.is_empty() {
        return Ok(());
    }
    Err(CliError::Tampered {
        generation: generation.display(),
        list,
    })
}

/// Does what follows a swap: restarts the jails that are behind, or names them.
///
/// # Errors
/// [`CliError`].
pub(super) fn follow(
    context: &Context<'_>,
    session: &Session,
    track: &TrackName,
    restart: Option<&Pace>,
) -> Result<Exit, CliError> {
    clear_left(context, session)?;
    let late = late(context, session, Some(track))?;
    late.note_thick(context);
    let late = late.jails;
    if let Some(pace) = restart {
        return Ok(batches(context, session, &late, pace, Unmergeable::Stays)?.exit());
    }
    if session.dry_run {
        return Ok(Exit::Done);
    }
    let observed = session.observe(&Scope::all())?;
    let merges = merges(&observed, track);
    // A jail that a conflict had held may already run the generation that its track has now.
    let there = |name: &&JailName| {
        let jail = observed.inventory.jails.get(*name);
        let found = jail.and_then(|jail| behind(&observed, jail));
        found.is_some_and(|it| it.runs == Some(it.target) && it.files == it.target)
    };
    let (there, elsewhere): (Vec<&JailName>, Vec<&JailName>) = late.iter().partition(there);
    if !elsewhere.is_empty() {
        context.report.note(format!(
            "{}: still on the former generation; `ezz converge` restarts {}",
            first_few(&elsewhere, 5, ", "),
            if elsewhere.len() == 1 { "it" } else { "them" }
        ));
    }
    if !there.is_empty() {
        context.report.note(format!(
            "{}: already on this generation; the next `ezz converge` or start removes the pin",
            first_few(there, 5, ", ")
        ));
    }
    if merges > 0 {
        context.report.note(format!(
            "the own files of {} on the track {track} are merged at the next start",
            match merges {
                1 => "1 jail".to_owned(),
                _ => format!("{merges} jails"),
            }
        ));
    }
    Ok(Exit::Done)
}

/// Returns how many jails of a track have own files that must be merged to its current generation.
fn merges(observed: &Observed, track: &TrackName) -> usize {
    let followers = followers(&observed.inventory, track);
    let merged = followers.filter(|name| matches!(way(observed, name), Ok(Way::Files(_))));
    merged.count()
}

/// Parses a reason for the log: one short line.
pub(super) fn why(text: &str) -> Result<String, String> {
    if text.len() <= 200 && !text.chars().any(deceptive) {
        Ok(text.to_owned())
    } else {
        Err("expected one line of at most 200 bytes".to_owned())
    }
}
