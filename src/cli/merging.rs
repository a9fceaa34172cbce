//! The work of a merge: what protects a jail while its files are brought to another generation, and how
//! it is taken back. `ezz merge` does it for those that are named, a change of release on the way.

use super::doctor::facts::left_by_readers;
use super::progress::Shown;
use super::{CliError, Context, build, error, uid};
use crate::apply;
use crate::crash;
use crate::model::{Inventory, MERGE_SNAPSHOT};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::merge::{Due, begin, due_now, finish, undo};
use crate::plan::{Doomed, MountAs, Plan, PlanError, Step};
use crate::ports::{PortError, Query, Zfs};
use crate::session::{Scope, Session};
use crate::world::merge::{Change, Patches, Sides, What, carry_out, examine};

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
/// [`CliError::Conflicts`] where they are refused; [`CliError`]. All that was done is taken back then.
pub(super) fn merge(
    context: &Context<'_>,
    session: &Session,
    name: &JailName,
    follow: Option<&TrackName>,
    conflicts: Conflicts,
) -> Result<Option<(Due, Vec<Change>)>, CliError> {
    let scope = Scope::of([name.clone()]);
    let _lock = session.lock_jails(&scope.jails)?;
    let observed = session.observe(&scope)?;
    let Some(due) = due_now(&observed, name, follow)? else {
        return Ok(None);
    };
    let inventory = &observed.inventory;
    if session.dry_run {
        let changes = files(context, session, inventory, &due, Patches::Made, &|_| {
            Ok(false)
        })?;
        return Ok(Some((due, changes)));
    }
    if due.from != due.to {
        let earlier = earlier(session.zfs.as_ref(), inventory, name)?;
        let plan = begin(&observed, &due, &earlier)?;
        for note in &plan.notes {
            context.report.note(note);
        }
        let begun = session.lock_site().map(|_site| session.run(&plan));
        // The mark may be there, without the snapshot.
        begun?.map_err(|first| take_back(session, &due, first.into()))?;
    }
    crash::point();
    let carry = |changes: &[Change]| match (conflicts, conflicting(changes)) {
        (Conflicts::Refuse, list) if !list.is_empty() => Err(CliError::Conflicts {
            jail: name.clone(),
            list,
        }),
        (Conflicts::Refuse | Conflicts::KeepBoth, _) => Ok(true),
    };
    let work = || -> Result<Vec<Change>, CliError> {
        let changes = files(context, session, inventory, &due, Patches::Left, &carry)?;
        crash::point();
        // Taking the merge back would need the lock too.
        let _site = session.locks.steadfast().site()?;
        let inventory = session.inventory(&scope)?;
        session.run(&finish(&inventory, &due)?)?;
        Ok(changes)
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
    let changes = done.map_err(|first| take_back(session, &due, first))?;
    Ok(Some((due, changes)))
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
) -> Result<Vec<Change>, CliError> {
    files(context, session, inventory, due, Patches::Left, &|_| {
        Ok(false)
    })
}

/// The files that are in conflict.
pub(super) fn conflicting(changes: &[Change]) -> Vec<String> {
    let conflicts = changes
        .iter()
        .filter(|c| matches!(c.what, What::Conflict(_)));
    conflicts.map(|change| change.path.to_string()).collect()
}

/// Compares the files, and changes them if `carry` says so.
fn files(
    context: &Context<'_>,
    session: &Session,
    inventory: &Inventory,
    due: &Due,
    patches: Patches,
    carry: &dyn Fn(&[Change]) -> Result<bool, CliError>,
) -> Result<Vec<Change>, CliError> {
    if due.from == due.to {
        return Ok(Vec::new());
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
    let done = || -> Result<Vec<Change>, CliError> {
        let (from, to, own) = (&at(due.from), &at(due.to), &jail.mountpoint);
        let sides = Sides {
            old: from,
            new: to,
            jail: own,
        };
        let mut texts = context.machine.texts();
        let changes = examine(sides, profile, texts.as_mut(), patches, &work).map_err(failed)?;
        crash::point();
        if carry(&changes)? {
            carry_out(&changes, to, own, profile, &work).map_err(failed)?;
        }
        Ok(changes)
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

/// The snapshots of earlier merges.
fn earlier(
    zfs: &dyn Zfs,
    inventory: &Inventory,
    name: &JailName,
) -> Result<Vec<Doomed>, PortError> {
    let Some(jail) = inventory.jails.get(name) else {
        return Ok(Vec::new());
    };
    let rows = zfs.read(&Query {
        roots: &[jail.dataset.to_string()],
        depth: Some(1),
        types: &["snapshot"],
        properties: &["guid"],
    })?;
    let own = format!("{}@{MERGE_SNAPSHOT}", jail.dataset);
    let guid = |row: &crate::ports::Row| {
        let guid = row.0.get("guid");
        guid.and_then(|guid| guid.value.parse().ok()).unwrap_or(0)
    };
    Ok(rows
        .iter()
        .filter(|(snapshot, _)| snapshot.starts_with(&own))
        .map(|(snapshot, row)| Doomed {
            name: snapshot.clone(),
            guid: guid(row),
        })
        .collect())
}

/// Takes back what a merge that failed has done; keeps both causes if that fails too.
fn take_back(session: &Session, due: &Due, first: CliError) -> CliError {
    let back = || -> Result<(), CliError> {
        let _site = session.locks.steadfast().site()?;
        let inventory = session.inventory(&Scope::of([due.jail.clone()]))?;
        let earlier = earlier(session.zfs.as_ref(), &inventory, &due.jail)?;
        session.run(&undo(&inventory, due, &earlier)?)?;
        Ok(())
    };
    match back() {
        Ok(()) => first,
        Err(undo) => CliError::Undo {
            first: Box::new(first),
            undo: error::one_line(&undo),
        },
    }
}
