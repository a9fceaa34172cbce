//! Jails that come to another release: on the way their own files are merged to it.
//!
//! Whether that can be done is found out while a jail still runs, so that one with conflicts is not down
//! for nothing. Then: stop, snapshot, merge; whoever converges starts it.

use super::converge::Failure;
use super::merge::tell;
use super::merging::{Conflicts, conflicting, look, merge};
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
) -> Result<Way, CliError> {
    let name = &due.jail;
    let refused = |list: Vec<String>| match unmergeable {
        Unmergeable::Stays => pin(context, session, observed, due, &list),
        Unmergeable::Fails | Unmergeable::KeepsBoth => {
            let why = format!(
                "its own files are in conflict with the release: {}",
                few(&list)
            );
            context.report.note(format!("{name}: {why}"));
            Ok(Way::Failed(Failure::Files(why)))
        }
    };
    let broken = |error: CliError| match error {
        error if error.interrupted() => Err(error),
        error => {
            context.report.error(&error, &hints::hints_of(&error));
            Ok(Way::Failed(Failure::Files(error::one_line(&error))))
        }
    };
    if unmergeable != Unmergeable::KeepsBoth {
        match look(context, session, &observed.inventory, due) {
            Ok(changes) => match conflicting(&changes) {
                list if list.is_empty() => {}
                list => return refused(list),
            },
            Err(error) => return broken(error),
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
    match merge(context, session, name, None, conflicts) {
        Ok(Some((due, changes))) => {
            tell(context, false, &due, &changes);
            Ok(Way::Merged)
        }
        Ok(None) => Ok(Way::Merged),
        Err(CliError::Conflicts { list, .. }) => refused(list),
        Err(error) => broken(error),
    }
}

/// Pins a jail to what it has.
fn pin(
    context: &Context<'_>,
    session: &Session,
    observed: &Observed,
    due: &Due,
    list: &[String],
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
    context.report.note(format!(
        "{} stays on {shown}, pinned: its own files are in conflict with the release: {}; `ezz merge {name} --follow {follow} --dry-run` shows them, and without --dry-run keeps both versions of each, when it is stopped",
        jail.name,
        few(list)
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
fn few(list: &[String]) -> String {
    match list {
        [a, b, c, _, ..] => format!("{a}, {b}, {c} and {} more", list.len() - 3),
        list => list.join(", "),
    }
}
