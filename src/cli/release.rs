//! Jails that come to another release: on the way their own files are merged to it.
//!
//! Whether that can be done is found out while a jail still runs, so that one with conflicts is not down
//! for nothing. Then: stop, snapshot, merge; whoever converges starts it. A merge that fails all the same
//! is taken back, and the jail is pinned to what it had, so that it starts as it was.

use std::fmt;

use super::converge::Failure;
use super::merge::tell;
use super::merging::{Conflicts, Differences, conflicting, look, merge};
use super::{CliError, Context, error, hints};
use crate::model::Base;
use crate::name::GenerationId;
use crate::plan::converge::{behind, stay};
use crate::plan::merge::Due;
use crate::plan::{Observed, PlanError, run};
use crate::session::{Scope, Session};

/// What becomes of a jail with conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmergeable {
    /// It is pinned to what it has.
    Stays,
    /// It fails.
    Fails,
    /// Both versions of its files are kept: who goes back must arrive.
    KeepsBoth,
}

/// Where a jail is then.
#[derive(Debug)]
pub(super) enum Way {
    /// Down, and its files are of the release that it is due to run on.
    Merged,
    /// Pinned to what it had; it may be down.
    Stays,
    /// Not there.
    Failed(Failure),
}

/// Brings the own files of one jail to the release that it is due to run on.
///
/// # Errors
/// [`CliError`]: interrupted; what concerns more than this jail.
pub(super) fn bring(
    context: &Context<'_>,
    session: &Session,
    observed: &Observed,
    due: &Due,
    unmergeable: Unmergeable,
    differences: &Differences<'_>,
) -> Result<Way, CliError> {
    let name = &due.jail;
    let refused = |why: Why| match unmergeable {
        // On the way back too: one that cannot arrive must not keep the others from it.
        Unmergeable::Stays | Unmergeable::KeepsBoth => pin(context, session, observed, due, &why),
        Unmergeable::Fails => {
            context.report.note(format!("{name}: {why}"));
            Ok(Way::Failed(Failure::Files(why.to_string())))
        }
    };
    match look(context, differences, &observed.inventory, due) {
        Ok(examined) => {
            let conflicts = conflicting(&examined);
            if !examined.obstacles.is_empty() {
                let list = examined.obstacles.iter().map(ToString::to_string);
                return refused(Why::Obstacles(list.collect()));
            }
            if !conflicts.is_empty() && unmergeable != Unmergeable::KeepsBoth {
                return refused(Why::Conflicts(conflicts));
            }
        }
        Err(error) if error.interrupted() => return Err(error),
        Err(error) => {
            context.report.error(&error, &hints::hints_of(&error));
            return refused(Why::Error(error::one_line(&error)));
        }
    }
    let scope = Scope::of([name.clone()]);
    let names = [name.clone()];
    let (stopped, _) = context.transact(session, "converge", &scope, |observed| {
        Ok(run::stop(observed, &names)?)
    })?;
    if let Some((_, why)) = stopped.applied.failed.first() {
        return Ok(Way::Failed(Failure::Unwell(error::one_line(why))));
    }
    let conflicts = match unmergeable {
        Unmergeable::KeepsBoth => Conflicts::KeepBoth,
        Unmergeable::Stays | Unmergeable::Fails => Conflicts::Refuse,
    };
    let why = match merge(context, session, name, None, conflicts, differences) {
        Ok(Some((due, examined))) => {
            tell(context, false, &due, &examined);
            return Ok(Way::Merged);
        }
        Ok(None) => return Ok(Way::Merged),
        Err(error) if error.interrupted() => return Err(error),
        Err(CliError::Conflicts { list, .. }) => Why::Conflicts(list),
        Err(CliError::Obstacles { obstacles, .. }) => {
            Why::Obstacles(obstacles.iter().map(ToString::to_string).collect())
        }
        Err(error) => {
            context.report.error(&error, &hints::hints_of(&error));
            let why = error::one_line(&error);
            if matches!(error, CliError::Undo { .. }) {
                // It has the mark still, and does not start; the others of its batch must.
                return Ok(Way::Failed(Failure::Files(why)));
            }
            Why::Error(why)
        }
    };
    // It is down. A pin lets it start on what it had; a roll-out that turns back starts it.
    refused(why)
}

/// Why a jail's own files are not brought to another release.
#[derive(Debug)]
enum Why {
    /// These files are in conflict.
    Conflicts(Vec<String>),
    /// This is in the way.
    Obstacles(Vec<String>),
    /// The merge failed.
    Error(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Conflicts(list) => write!(
                f,
                "its own files are in conflict with the release: {}",
                few(list)
            ),
            Why::Obstacles(list) => write!(f, "its own files cannot be merged: {}", few(list)),
            Why::Error(error) => write!(f, "its own files cannot be merged: {error}"),
        }
    }
}

/// Pins a jail to what it has.
fn pin(
    context: &Context<'_>,
    session: &Session,
    observed: &Observed,
    due: &Due,
    why: &Why,
) -> Result<Way, CliError> {
    let name = &due.jail;
    let inventory = &observed.inventory;
    let jail = run::known(inventory, name)?;
    let config = run::config(inventory, name)?;
    let at = stays_at(observed, due)?;
    let scope = Scope::of([name.clone()]);
    context.transact(session, "converge", &scope, |observed| {
        Ok(stay(&observed.inventory, name, at)?)
    })?;
    let shown = inventory.generations.get(&at);
    let shown = shown.map_or_else(|| at.to_string(), crate::model::Generation::display);
    let follow = match &config.base {
        Base::Track(track) => track.as_str(),
        Base::Pin(_) => "TRACK",
    };
    let way = match why {
        Why::Conflicts(_) => "shows them, and without --dry-run keeps both versions of each",
        Why::Obstacles(_) | Why::Error(_) => {
            "shows whether it can be done, and without --dry-run does it"
        }
    };
    context.report.note(format!(
        "{} stays on {shown}, pinned: {why}; `ezz merge {name} --follow {follow} --dry-run` {way}, when it is stopped",
        jail.name
    ));
    Ok(Way::Stays)
}

/// What a jail has: what it runs, or else what its files are of.
fn stays_at(observed: &Observed, due: &Due) -> Result<GenerationId, PlanError> {
    let jail = run::known(&observed.inventory, &due.jail)?;
    let runs = behind(observed, jail).and_then(|behind| behind.runs);
    Ok(runs.unwrap_or(due.from))
}

/// The first of many.
pub(super) fn few(list: &[String]) -> String {
    match list {
        [a, b, c, _, ..] => format!("{a}, {b}, {c} and {} more", list.len() - 3),
        list => list.join(", "),
    }
}
