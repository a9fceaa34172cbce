//! How jails are brought to their target before they start: own files first.
//!
//! Whether that can be done is found out while a jail still runs, so that one with conflicts is not down
//! for nothing. Then: stop, snapshot, merge; whoever brings it on starts it. A merge that fails all the same
//! is taken back. A jail that cannot be brought on starts on what its own files are at; with a conflict or an obstacle it
//! is pinned to that, since only an administrator can settle these.
//! Jails whose own files are right as they are need none of it: the plans of their start note that they are there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::converge::Failure;
use super::merge::tell;
use super::merging::{Conflicts, Differences, conflicting, look, merge};
use super::moving::Moving;
use super::{CliError, Context, error, record};
use crate::hint::Hint as _;
use crate::model::JailState;
use crate::name::JailName;
use crate::plan::converge::stay;
use crate::plan::due::{Due, Way as Needs, way};
use crate::plan::{Observed, Plan, PlanError, Step, lookup, order, run, writable};
use crate::report::Exit;
use crate::session::{Scope, Session};
use crate::text::first_few;

/// What becomes of a jail with conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmergeable {
    /// It is pinned to what it has.
    Stays,
    /// It fails.
    Fails,
}

/// Where a jail is then.
#[derive(Debug)]
pub(super) enum Way {
    /// Down, and its own files are at its target.
    Merged,
    /// At what its own files are at, and pinned to that if only an administrator can settle why; it may be down.
    Stays,
    /// Not there.
    Failed(Failure),
}

/// What came of bringing jails on that are to start.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// Those that start on what their own files are at.
    pub(super) stayed: BTreeSet<JailName>,
    /// Those that cannot start.
    pub(super) failed: BTreeSet<JailName>,
}

impl Brought {
    /// The exit code of a command, with what came of this.
    pub(super) fn exit(&self, of_the_rest: Exit, started: usize) -> Exit {
        match of_the_rest {
            Exit::Done if !self.failed.is_empty() && started == 0 => Exit::Failed,
            Exit::Done if !self.failed.is_empty() || !self.stayed.is_empty() => Exit::Partly,
            other => other,
        }
    }
}

/// Brings those of the jails on whose own files have to be merged before they start. The others need nothing.
///
/// # Errors
/// [`CliError`]: interrupted; what concerns more than single jails.
pub(super) fn bring_all(
    context: &Context<'_>,
    session: &Session,
    observed: &Observed,
    names: &[JailName],
    differences: &Differences<'_>,
    brought: &mut Brought,
) -> Result<(), CliError> {
    writable(&observed.inventory)?;
    let mut now = Cow::Borrowed(observed);
    if mounted(session, observed, names)? {
        now = Cow::Owned(session.observe(&Scope::of(names.iter().cloned()))?);
    }
    let observed = &*now;
    let mut merged = BTreeMap::new();
    for name in names {
        if let Err(error) = record::check(observed, name) {
            context.report.error(&error, error.hint().as_slice());
            brought.failed.insert(name.clone());
        } else if let Needs::Files(due) = way(observed, name)? {
            merged.insert(name.clone(), due);
        }
    }
    let config = |name: &JailName| lookup::config(&observed.inventory, name).ok();
    let first = order::dependents(names, &merged.keys().cloned().collect(), config);
    for name in &order::stop_order(names, config) {
        if brought.failed.contains(name) {
            continue;
        }
        if first.contains(name) && observed.state(name).running() {
            if take_down(context, session, name)?.is_some() {
                brought.failed.insert(name.clone());
            }
            continue;
        }
        let Some(due) = merged.remove(name) else {
            continue;
        };
        match bring(
            context,
            session,
            observed,
            &due,
            Unmergeable::Stays,
            differences,
        )? {
            Way::Merged => {}
            Way::Stays => {
                brought.stayed.insert(name.clone());
            }
            Way::Failed(_) => {
                brought.failed.insert(name.clone());
            }
        }
    }
    Ok(())
}

/// Mounts the own files of jails that are to be looked at, as after a boot; whether any were not.
fn mounted(session: &Session, observed: &Observed, names: &[JailName]) -> Result<bool, CliError> {
    let inventory = &observed.inventory;
    let mut plan = Plan::on(inventory);
    let mut found = false;
    for name in names {
        let jail = lookup::jail(inventory, name)?;
        // One whose files need no look is mounted by the plan of its start.
        let merged = lookup::config(inventory, name).is_ok_and(|config| config.record.is_some());
        let looked_at = merged || matches!(way(observed, name), Ok(Needs::Files(_)));
        // Elsewhere it is not started either, which the plan of the start says.
        let at = inventory.site.directory.join(name.as_str());
        if looked_at && !jail.mounted && jail.mountpoint == at {
            plan.push(Step::mount_jail(jail));
            found = true;
        }
    }
    if found {
        session.run(&plan)?;
    }
    Ok(found)
}

/// Shows the merges that would come before jails start, and returns the jails as they would be then.
///
/// # Errors
/// [`CliError`].
pub(super) fn foresee(
    context: &Context<'_>,
    observed: &Observed,
    names: &[JailName],
    differences: &Differences<'_>,
) -> Result<(Vec<Due>, BTreeSet<JailName>), CliError> {
    let (mut merged, mut stays) = (Vec::new(), BTreeSet::new());
    for name in names {
        let Needs::Files(due) = way(observed, name)? else {
            continue;
        };
        if !lookup::jail(&observed.inventory, name)?.mounted {
            context.report.note(format!(
                "{name} is not mounted; its own files are compared when it starts"
            ));
            continue;
        }
        let examined = look(context, differences, &observed.inventory, &due)?;
        let conflicts = tell(context, true, &due, &examined);
        for obstacle in &examined.obstacles {
            context.report.warning(format!("{name}: {obstacle}"));
        }
        if conflicts || !examined.obstacles.is_empty() {
            context
                .report
                .warning(format!("{name} would stay pinned to its generation"));
            stays.insert(name.clone());
        } else {
            merged.push(due);
        }
    }
    Ok((merged, stays))
}

/// An observation as it would be after merges.
pub(super) fn after(observed: &Observed, merged: &[Due]) -> Observed {
    let mut observed = observed.clone();
    for due in merged {
        let jail = observed.inventory.jails.get_mut(&due.jail);
        if let Some(Ok(config)) = jail.map(|jail| &mut jail.config) {
            config.skel = due.to;
            if let Some(track) = &due.follow {
                *config = config.rebased(crate::model::Base::Track(track.clone()));
            }
        }
    }
    observed
}

/// Brings the own files of one jail to its target. It is down then, and has a mark if it ran.
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
        Unmergeable::Stays => stays(context, session, observed, due, &why),
        Unmergeable::Fails => {
            context.report.warning(format!("{name}: {why}"));
            Ok(Way::Failed(Failure::Files(why.to_string())))
        }
    };
    if !observed.state(name).running() {
        mounted(session, observed, std::slice::from_ref(name))?;
    }
    // One that is down is looked at by the merge itself, after what an interrupted one has left is taken back.
    if observed.state(name).running() {
        match look(context, differences, &observed.inventory, due) {
            Ok(examined) => {
                let conflicts = conflicting(&examined);
                if !examined.obstacles.is_empty() {
                    let list = examined.obstacles.iter().map(ToString::to_string);
                    return refused(Why::Obstacles(list.collect()));
                }
                if !conflicts.is_empty() {
                    return refused(Why::Conflicts(conflicts));
                }
            }
            Err(error) if error.interrupted() => return Err(error),
            Err(error) => {
                context.report.error(&error, error.hint().as_slice());
                return refused(Why::Error(error::one_line(&error)));
            }
        }
        if let Some(why) = take_down(context, session, name)? {
            return Ok(Way::Failed(Failure::Unwell(why)));
        }
    }
    let refuse = Conflicts::Refuse;
    let why = match merge(context, session, name, None, refuse, differences) {
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
            context.report.error(&error, error.hint().as_slice());
            let why = error::one_line(&error);
            if matches!(error, CliError::Undo { .. }) {
                // It has the mark still, and does not start; the others of its batch must.
                return Ok(Way::Failed(Failure::Files(why)));
            }
            Why::Error(why)
        }
    };
    // It is down, and starts on what it had; after a roll-out that fails by it, the way back starts it.
    refused(why)
}

/// Stops a jail that is to be started again, and gives the reason if it does not stop. It has a mark from then on.
///
/// # Errors
/// [`CliError`]: interrupted; what concerns more than this jail.
pub(super) fn take_down(
    context: &Context<'_>,
    session: &Session,
    name: &JailName,
) -> Result<Option<String>, CliError> {
    Moving::of(context, session).add(name)?;
    let scope = Scope::of([name.clone()]);
    let names = [name.clone()];
    let (stopped, _) = context.transact(session, "converge", &scope, |observed| {
        Ok(run::stop(observed, &names)?)
    })?;
    let failed = stopped.applied.failed.first();
    Ok(failed.map(|(_, why)| error::one_line(why)))
}

/// Why a jail's own files are not brought to its target.
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
            Why::Conflicts(list) => {
                write!(f, "its own files are in conflict with it: {}", few(list))
            }
            Why::Obstacles(list) => write!(f, "its own files cannot be merged: {}", few(list)),
            Why::Error(error) => write!(f, "its own files cannot be merged: {error}"),
        }
    }
}

/// Lets a jail stay at what its own files are at: pinned, unless trying again may do. Without that base it cannot
/// start.
fn stays(
    context: &Context<'_>,
    session: &Session,
    observed: &Observed,
    due: &Due,
    why: &Why,
) -> Result<Way, CliError> {
    let name = &due.jail;
    let inventory = &observed.inventory;
    let config = lookup::config(inventory, name)?;
    let follow = config.follows().map_or("TRACK", |track| track.as_str());
    let shown = |id| {
        let found = inventory.generations.get(&id);
        found.map_or_else(|| id.to_string(), crate::model::Generation::display)
    };
    let (at, to) = (shown(due.from), shown(due.to));
    let way = match why {
        Why::Conflicts(_) => "shows them, and without --dry-run keeps both versions of each",
        Why::Obstacles(_) | Why::Error(_) => {
            "shows whether it can be done, and without --dry-run does it"
        }
    };
    let way =
        format!("`ezz merge {name} --follow {follow} --dry-run` {way}, when {name} is stopped");
    if let Err(error) = lookup::sealed_for(inventory, name, due.from) {
        let error = CliError::Plan(PlanError::Spec(error));
        context.report.error(&error, error.hint().as_slice());
        let why = format!("it cannot be merged to {to}: {why}");
        context.report.warning(format!("{name}: {why}; {way}"));
        return Ok(Way::Failed(Failure::Files(why)));
    }
    if matches!(why, Why::Error(_)) {
        context.report.warning(format!(
            "{name} stays on {at} and is not merged to {to}: {why}; its next start tries again"
        ));
        return Ok(Way::Stays);
    }
    let scope = Scope::of([name.clone()]);
    context.transact(session, "converge", &scope, |observed| {
        Ok(stay(&observed.inventory, name, due.to)?)
    })?;
    context.report.warning(format!(
        "{name} stays pinned to {at} and is not merged to {to}: {why}; {way}"
    ));
    Ok(Way::Stays)
}

/// Whether a jail runs, or is about to.
pub(super) fn up(observed: &Observed, jail: &JailName) -> bool {
    matches!(
        observed.state(jail),
        JailState::Running { .. } | JailState::Starting
    )
}

/// The first of many.
pub(super) fn few(list: &[String]) -> String {
    first_few(list, 3, ", ")
}
