//! The work of a merge: what protects a jail while its files are brought to another generation, and how
//! it is taken back. `ezz merge` does it for those that are named, a change of release on the way.

use std::cell::{Cell, RefCell};

use super::doctor::facts::left_by_readers;
use super::progress::Shown;
use super::{CliError, Context, build, error, uid};
use crate::apply;
use crate::crash;
use crate::model::{Inventory, MERGE_SNAPSHOT};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::merge::{self, Due, Snapshots, begin, due_now, finish, forget, undo};
use crate::plan::{Doomed, MountAs, Plan, PlanError, Step};
use crate::ports::{PortError, Query, Row, Zfs};
use crate::session::{Scope, Session};
use crate::world::merge::{Change, Examined, Patches, Reason, Sides, carry_out, examine};

/// What happens to a jail that has conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conflicts {
    /// Its own version stays, and the release's is put beside it.
    KeepBoth,
    /// Nothing of it is changed.
    Refuse,
}

/// Merges one jail that does not run, to what it is due to run on or to what a track has. None if there
/// was nothing to do. A dry run only looks.
///
/// # Errors
/// [`CliError::Conflicts`] where they are refused; [`CliError::Obstacles`], of a dry run too;
/// [`CliError`]. All that was done is taken back then.
pub(super) fn merge(
    context: &Context<'_>,
    session: &Session,
    name: &JailName,
    follow: Option<&TrackName>,
    conflicts: Conflicts,
) -> Result<Option<(Due, Examined)>, CliError> {
    let scope = Scope::of([name.clone()]);
    let _lock = session.lock_jails(&scope.jails)?;
    let mut observed = session.observe(&scope)?;
    due_now(&observed, name, follow)?;
    let jail = observed.inventory.jails.get(name);
    if !session.dry_run && jail.is_some_and(|jail| jail.merging.is_some()) {
        context.report.note(format!(
            "the last merge of {name} was interrupted: it is taken back"
        ));
        let _site = session.lock_site()?;
        back(session, name)?;
        observed = session.observe(&scope)?;
    }
    let Some(due) = due_now(&observed, name, follow)? else {
        return Ok(None);
    };
    let inventory = &observed.inventory;
    if session.dry_run {
        let examined = files(context, session, inventory, &due, Patches::Made, &|_| {
            Ok(false)
        })?;
        return Ok(Some((due, examined)));
    }
    let (begun, earlier) = (Cell::new(false), RefCell::new(Vec::new()));
    // What is refused is refused before anything is changed.
    let carry = |examined: &Examined| {
        let jail = name.clone();
        let list = conflicting(examined);
        if !examined.obstacles.is_empty() {
            let obstacles = examined.obstacles.clone();
            return Err(CliError::Obstacles { jail, obstacles });
        }
        if conflicts == Conflicts::Refuse && !list.is_empty() {
            return Err(CliError::Conflicts { jail, list });
        }
        let _site = session.lock_site()?;
        let inventory = session.inventory(&scope)?;
        let there = snapshots(session.zfs.as_ref(), &inventory, name)?;
        let (plan, others) = begin(&inventory, &due, &there)?;
        earlier.replace(others);
        begun.set(true);
        session.run(&plan)?;
        crash::point();
        Ok(true)
    };
    let work = || -> Result<Examined, CliError> {
        let examined = files(context, session, inventory, &due, Patches::Left, &carry)?;
        crash::point();
        // Taking the merge back would need the lock too.
        let _site = session.locks.steadfast().site()?;
        let inventory = session.inventory(&scope)?;
        session.run(&finish(&inventory, &due)?)?;
        let clear = || -> Result<(), CliError> {
            let inventory = session.inventory(&scope)?;
            session.run(&forget(&inventory, earlier.take()))?;
            Ok(())
        };
        if let Err(error) = clear() {
            // Somebody holds or has cloned one. The merge is done.
            context.report.note(format!(
                "{name}: a snapshot of an earlier merge stays: {}",
                error::one_line(&error)
            ));
        }
        Ok(examined)
    };
    let done = work();
    let how = match &done {
        Ok(_) => "done".to_owned(),
        Err(error) => format!("failed: {error}"),
    };
    context.machine.log(&format!(
        "uid {}: merge {name} on {}: {how}",
        uid(),
        session.site
    ));
    let examined = done.map_err(|first| match begun.get() {
        true => take_back(session, name, first),
        false => first,
    })?;
    Ok(Some((due, examined)))
}

/// What a merge of a jail would be, which may run meanwhile; nothing of it is changed.
///
/// # Errors
/// [`CliError`].
pub(super) fn look(
    context: &Context<'_>,
    session: &Session,
    inventory: &Inventory,
    due: &Due,
) -> Result<Examined, CliError> {
    files(context, session, inventory, due, Patches::Left, &|_| {
        Ok(false)
    })
}

/// The files that are in conflict, each with the reason where it is not that both have changed it.
pub(super) fn conflicting(examined: &Examined) -> Vec<String> {
    let named = |change: &Change| match change.reason()? {
        Reason::BothChanged => Some(change.path.to_string()),
        reason => Some(format!("{} ({reason})", change.path)),
    };
    examined.changes.iter().filter_map(named).collect()
}

/// Compares the files, and changes them if `carry` says so.
fn files(
    context: &Context<'_>,
    session: &Session,
    inventory: &Inventory,
    due: &Due,
    patches: Patches,
    carry: &dyn Fn(&Examined) -> Result<bool, CliError>,
) -> Result<Examined, CliError> {
    if due.from == due.to {
        return Ok(Examined::default());
    }
    let failed = |source| match source {
        crate::world::WorldError::Interrupted => CliError::Interrupted,
        source => CliError::Merge {
            jail: due.jail.clone(),
            source,
        },
    };
    let jail = inventory
        .jails
        .get(&due.jail)
        .ok_or_else(|| PlanError::NoJail(due.jail.clone()))?;
    let to = inventory
        .sealed(due.to)
        .ok_or(PlanError::NotSealed(due.to))?;
    let world = to.world.as_ref().ok_or(PlanError::NotSealed(due.to))?;
    let profile = apply::profile(to, world)?;
    let run = context.machine.run_directory();
    let at = |id: GenerationId| run.join(format!("merge-{}-{id}", context.machine.process_id()));
    let steps = |make: &dyn Fn(GenerationId) -> Option<Vec<Step>>| {
        let steps = [due.from, due.to].into_iter().filter_map(make).flatten();
        Plan {
            steps: steps.collect(),
            notes: Vec::new(),
        }
    };
    let mounts = steps(&|id| {
        let half = inventory.skeleton(id)?;
        Some(vec![Step::Mount {
            dataset: half.dataset.clone(),
            at: at(id),
            how: MountAs::Base,
        }])
    });
    let unmounts = steps(&|id| {
        let half = inventory.skeleton(id)?;
        Some(vec![
            Step::Unmount {
                dataset: half.dataset.clone(),
                at: at(id),
            },
            Step::RemoveDirectory { at: at(id) },
        ])
    });
    let progress = Shown::about(context.report, &due.jail);
    let work = build::work(context, &progress);
    session.run_always(&left_mounted(context, session, inventory)?)?;
    session.run_always(&mounts)?;
    let done = || -> Result<Examined, CliError> {
        let (from, to, own) = (&at(due.from), &at(due.to), &jail.mountpoint);
        let sides = Sides {
            old: from,
            new: to,
            jail: own,
        };
        let mut texts = context.machine.texts();
        let examined = examine(sides, profile, texts.as_mut(), patches, &work).map_err(failed)?;
        crash::point();
        if carry(&examined)? {
            carry_out(&examined.changes, to, own, profile, &work).map_err(failed)?;
        }
        Ok(examined)
    };
    let done = done();
    session.run_always(&unmounts)?;
    done
}

/// What takes away what merges that were killed had mounted to read.
fn left_mounted(
    context: &Context<'_>,
    session: &Session,
    inventory: &Inventory,
) -> Result<Plan, CliError> {
    let mounts = session.zfs.mounts()?;
    let mut plan = Plan::default();
    for (id, at) in left_by_readers(context.machine.run_directory()) {
        let dataset = inventory.site.layout.skeleton(id)?;
        // Another site of this host has generations of the same numbers.
        let there = mounts.iter().rfind(|mount| mount.target == at);
        if there.is_some_and(|mount| mount.source == dataset.as_str()) {
            let from = at.clone();
            plan.push(Step::Unmount { dataset, at: from });
            plan.push(Step::RemoveDirectory { at });
        }
    }
    Ok(plan)
}

/// What a jail has of snapshots, as far as a merge minds them.
///
/// # Errors
/// [`PortError`].
pub(super) fn snapshots(
    zfs: &dyn Zfs,
    inventory: &Inventory,
    name: &JailName,
) -> Result<Snapshots, PortError> {
    let Some(jail) = inventory.jails.get(name) else {
        return Ok(Snapshots::default());
    };
    let rows = zfs.read(&Query {
        roots: &[jail.dataset.to_string()],
        depth: Some(1),
        types: &["snapshot"],
        properties: &["guid", "createtxg"],
    })?;
    let of_merges = format!("{}@{MERGE_SNAPSHOT}", jail.dataset);
    let made = jail.merging.as_ref().and_then(|merging| {
        let snapshot = merge::taken(jail, merging).ok()?.to_string();
        Some(number(rows.get(&snapshot)?, "createtxg"))
    });
    let mut found = Snapshots::default();
    for (name, row) in &rows {
        let guid = number(row, "guid");
        if name.starts_with(&of_merges) {
            let name = name.clone();
            found.of_merges.push(Doomed { name, guid });
        } else if made.is_some_and(|made| number(row, "createtxg") > made) {
            found.newer.push(name.clone());
        }
    }
    Ok(found)
}

fn number(row: &Row, property: &str) -> u64 {
    let found = row.0.get(property);
    found.and_then(|it| it.value.parse().ok()).unwrap_or(0)
}

/// Takes back what a merge that failed has done; keeps both causes if that fails too.
fn take_back(session: &Session, name: &JailName, first: CliError) -> CliError {
    let undone = || -> Result<(), CliError> {
        let _site = session.locks.steadfast().site()?;
        back(session, name)
    };
    match undone() {
        Ok(()) => first,
        Err(undo) => CliError::Undo {
            first: Box::new(first),
            undo: error::one_line(&undo),
        },
    }
}

/// Takes back a merge, under the lock of the site.
fn back(session: &Session, name: &JailName) -> Result<(), CliError> {
    let inventory = session.inventory(&Scope::of([name.clone()]))?;
    let snapshots = snapshots(session.zfs.as_ref(), &inventory, name)?;
    session.run(&undo(&inventory, name, &snapshots)?)?;
    Ok(())
}
