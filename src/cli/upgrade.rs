//! Brings jails to the generation that is due before they start; their own files come first.
//!
//! Obstacles and conflicts are looked for while a jail still runs, so that a jail with conflicts is not down for
//! nothing. Then the jail is stopped, a snapshot is taken, and its files are merged; the caller starts it. A merge that
//! fails nevertheless is undone. A jail that cannot be brought on starts on the generation of its own files. If a
//! conflict or an obstacle is the reason, it is pinned to that generation, since only an administrator can settle
//! these. Jails whose own files fit as they are need none of this: the plans of their start record the new generation.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::converge::Failure;
use super::merge::tell;
use super::merging::{Conflicts, Differences, conflicting, look, merge};
use super::restart_marks::RestartMarks;
use super::{CliError, Context, JailFailure, error, record};
use crate::execute::ApplyError;
use crate::hint::Hint as _;
use crate::model::JailState;
use crate::name::JailName;
use crate::plan::converge::stay;
use crate::plan::due::{Due, Way as Needs, way};
use crate::plan::{Observed, Plan, PlanError, Step, lookup, order, power, writable};
use crate::report::Exit;
use crate::session::{Scope, Session};
use crate::text::first_few;

/// What is done with a jail that cannot be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmergeable {
    /// The jail is pinned to its generation.
    Stays,
    /// The jail fails.
    Fails,
}

/// The result of bringing a jail on.
#[derive(Debug)]
pub(super) enum Way {
    /// The jail is down, and its own files are at the generation that is due.
    Merged,
    /// The jail stays at the generation of its own files, and is pinned to it if only an administrator can settle the
    /// reason; it may be down.
    Stays,
    /// The jail could not be brought on.
    Failed(Failure),
}

/// The result of bringing on several jails that are to be started.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// The jails that start on the generation of their own files.
    pub(super) stayed: BTreeSet<JailName>,
    /// The jails that cannot start.
    pub(super) failed: BTreeSet<JailName>,
}

impl Brought {
    /// Returns the exit code of a command, given that of its other work.
    pub(super) fn exit(&self, of_the_rest: Exit, started: usize) -> Exit {
        match of_the_rest {
            Exit::Done if !self.failed.is_empty() && started == 0 => Exit::Failed,
            Exit::Done if !self.failed.is_empty() || !self.stayed.is_empty() => Exit::Partly,
            other => other,
        }
    }
}

/// Brings on those of the jails whose own files have to be merged before they start. The others need nothing.
///
/// # Errors
/// [`CliError`]: a signal; a failure that concerns more than single jails.
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
    let mut down = Vec::new();
    for name in &order::stop_order(names, config) {
        if brought.failed.contains(name) {
            continue;
        }
        if first.contains(name) && observed.state(name).running() {
            match take_down(context, session, name)? {
                Some(_) => {
                    brought.failed.insert(name.clone());
                }
                None => down.push(name),
            }
            continue;
        }
        let Some(due) = merged.remove(name) else {
            continue;
        };
        let way = bring(
            context,
            session,
            observed,
            &due,
            Unmergeable::Stays,
            differences,
        );
        if way.is_err() {
            for jail in &down {
                context.report.warning(format!(
                    "{jail} was stopped, because it depends on {name}, and was not started again; `ezz start {jail}` starts it"
                ));
            }
        }
        match way? {
            Way::Merged => {}
            Way::Stays => {
                brought.stayed.insert(name.clone());
            }
            Way::Failed(_) => {
                brought.failed.insert(name.clone());
            }
        }
    }
    skip_dependents(context, observed, names, brought);
    Ok(())
}

/// Skips the jails that depend on a jail that failed. Those that ran before are started again.
fn skip_dependents(
    context: &Context<'_>,
    observed: &Observed,
    names: &[JailName],
    brought: &mut Brought,
) {
    if brought.failed.is_empty() {
        return;
    }
    let config = |name: &JailName| lookup::config(&observed.inventory, name).ok();
    for jail in order::start_order(names, config) {
        let depends = config(&jail).map_or(&[][..], |config| &config.depends);
        let other = depends.iter().find(|it| brought.failed.contains(*it));
        let skipped = !brought.failed.contains(&jail) && !observed.state(&jail).running();
        if let Some(other) = other.filter(|_| skipped) {
            let verb = "start";
            let error = ApplyError::Skipped {
                jail: jail.clone(),
                other: other.clone(),
                stops: false,
                verb,
            };
            let hint = error.hint();
            let source = JailFailure::from_ref(&error);
            let failed = CliError::Jail {
                verb,
                jail: jail.clone(),
                source,
            };
            context.report.error(&failed, hint.as_slice());
            brought.failed.insert(jail);
        }
    }
}

/// Mounts the own files of jails that are to be examined, as after a boot; returns whether any were not mounted.
fn mounted(session: &Session, observed: &Observed, names: &[JailName]) -> Result<bool, CliError> {
    let inventory = &observed.inventory;
    let mut plan = Plan::on(inventory);
    let mut found = false;
    for name in names {
        let jail = lookup::jail(inventory, name)?;
        // A jail whose files need not be examined is mounted by the plan of its start.
        let merged = lookup::config(inventory, name).is_ok_and(|config| config.record.is_some());
        let looked_at = merged || matches!(way(observed, name), Ok(Needs::Files(_)));
        // A jail that is mounted elsewhere is not started either, which the plan of the start reports.
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

/// Returns an observation as it would be after merges.
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

/// Brings the own files of one jail to the generation that is due. Afterwards the jail is down, with a mark if it was
/// running.
///
/// # Errors
/// [`CliError`]: a signal; a failure that concerns more than this jail.
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
        // This includes the way back, where a jail that cannot return must not prevent the others from returning.
        Unmergeable::Stays => stays(context, session, observed, due, &why),
        Unmergeable::Fails => {
            context.report.warning(format!("{name}: {why}"));
            Ok(Way::Failed(Failure::Files(why.to_string())))
        }
    };
    if !observed.state(name).running() {
        mounted(session, observed, std::slice::from_ref(name))?;
    }
    // A jail that is down is examined by the merge itself, after an interrupted merge was undone.
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
                // The jail still has its mark and does not start; the others of its batch must.
                return Ok(Way::Failed(Failure::Files(why)));
            }
            Why::Error(why)
        }
    };
    // The jail is down, and starts on its old generation; if a roll-out fails because of it, the way back starts it.
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
    RestartMarks::of(context, session).add(name)?;
    let scope = Scope::of([name.clone()]);
    let names = [name.clone()];
    let (stopped, _) = context.transact(session, "converge", &scope, |observed| {
        Ok(power::stop(observed, &names)?)
    })?;
    let failed = stopped.applied.failed.first();
    Ok(failed.map(|(_, why)| error::one_line(why)))
}

/// Why a jail's own files are not brought to its target.
#[derive(Debug)]
enum Why {
    /// These files have conflicts.
    Conflicts(Vec<String>),
    /// These obstacles would make the merge fail.
    Obstacles(Vec<String>),
    /// The merge failed with this error.
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

/// Keeps a jail at the generation of its own files: pinned, unless another try may succeed. Without the base of that
/// generation the jail cannot start.
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

/// Names the first few of a list.
pub(super) fn few(list: &[String]) -> String {
    first_few(list, 3, ", ")
}
