//! `ezz merge`: a jail's own files follow the generation that it runs on.

use clap::Args;
use serde::Serialize;

use super::doctor::facts::left_by_readers;
use super::progress::Shown;
use super::{CliError, Context, DryRun, build, error, names, uid};
use crate::apply;
use crate::crash;
use crate::model::{Inventory, MERGE_SNAPSHOT};
use crate::name::{GenerationId, JailName};
use crate::plan::merge::{Due, begin, due, finish, undo};
use crate::plan::{Doomed, MountAs, Plan, PlanError, Step};
use crate::ports::{PortError, Query, Zfs};
use crate::report::Exit;
use crate::session::{Scope, Session};
use crate::world::merge::{BESIDE, Change, What, carry_out, examine};

/// Bring the own files of stopped jails to the generation that they start on
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz merge web01 --dry-run\n  ezz merge 'web{01..20}'\n\nThree-way, with the skeleton that the jail comes from: what only the release has changed is taken, what only you have changed stays, and what both have changed is merged line by line. Where that cannot be done it is a conflict: your file stays, and the release's is put beside it as NAME.ezz-new. The snapshot ezz-merge-OLD-NEW of the jail is the way back.\n\nThe exit code is 3 if there are conflicts.\n\nJSON: one {\"jail\", \"from\", \"to\", \"did\", \"taken\", \"removed\", \"merged\", \"conflicts\"} a jail"
)]
pub struct Merge {
    /// Names, or ranges such as web{01..20}; without any, all stopped jails that need it
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Default, Serialize)]
struct Told<'a> {
    jail: Option<&'a JailName>,
    from: Option<GenerationId>,
    to: Option<GenerationId>,
    did: &'a str,
    taken: Vec<String>,
    removed: Vec<String>,
    merged: Vec<String>,
    conflicts: Vec<String>,
}

impl Merge {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let session = context.session(self.dry_run)?;
        let mut wanted = names(&self.names)?;
        if self.names.is_empty() {
            let observed = session.observe(&Scope::all())?;
            let needs = |name: &&JailName| matches!(due(&observed, name), Ok(Some(_)));
            wanted = observed
                .inventory
                .jails
                .keys()
                .filter(needs)
                .cloned()
                .collect();
            if wanted.is_empty() {
                context.report.note("no stopped jail needs a merge");
            }
        }
        // All are looked at before any is touched.
        let observed = session.observe(&Scope::of(wanted.iter().cloned()))?;
        for name in &wanted {
            due(&observed, name)?;
        }
        let mut exit = Exit::Done;
        for name in &wanted {
            if one(context, &session, name)? {
                exit = Exit::Partly;
            }
        }
        Ok(exit)
    }
}

/// Merges one jail; whether there were conflicts.
fn one(context: &Context<'_>, session: &Session, name: &JailName) -> Result<bool, CliError> {
    let scope = Scope::of([name.clone()]);
    let _lock = session.locks.jails(&scope.jails)?;
    let observed = session.observe(&scope)?;
    let Some(due) = due(&observed, name)? else {
        context.report.note(format!("{name} is merged already"));
        let jail = Some(name);
        context.report.object(&Told {
            jail,
            did: "already",
            ..Told::default()
        });
        return Ok(false);
    };
    if !session.dry_run {
        let earlier = earlier(session.zfs.as_ref(), &observed.inventory, name)?;
        let plan = begin(&observed, &due, &earlier)?;
        for note in &plan.notes {
            context.report.note(note);
        }
        let _site = session.locks.site()?;
        session.run(&plan)?;
    }
    crash::point();
    let work = || -> Result<Vec<Change>, CliError> {
        let changes = files(context, session, &observed.inventory, &due)?;
        crash::point();
        if !session.dry_run {
            let _site = session.locks.site()?;
            let inventory = session.inventory(&scope)?;
            session.run(&finish(&inventory, &due)?)?;
        }
        Ok(changes)
    };
    let done = work();
    if !session.dry_run {
        let how = match &done {
            Ok(_) => "done".to_owned(),
            Err(error) => format!("failed: {error}"),
        };
        context.machine.log(&format!(
            "uid {}: merge {name} on {}: {how}",
            uid(),
            session.site
        ));
    }
    let changes = done.map_err(|first| take_back(session, &due, first))?;
    Ok(tell(context, session.dry_run, &due, &changes))
}

/// Compares, and unless it is a dry run changes, the files.
fn files(
    context: &Context<'_>,
    session: &Session,
    inventory: &Inventory,
    due: &Due,
) -> Result<Vec<Change>, CliError> {
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
    let progress = Shown::new(context.report);
    let work = build::work(context, &progress);
    session.run_always(&left_mounted(context, session, inventory)?)?;
    session.run_always(&mounts)?;
    let done = examine(&at(due.from), &at(due.to), &jail.mountpoint, profile, &work)
        .and_then(|changes| {
            crash::point();
            if !session.dry_run {
                carry_out(&changes, &at(due.to), &jail.mountpoint, &work)?;
            }
            Ok(changes)
        })
        .map_err(failed);
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
    if session.dry_run {
        return first;
    }
    let back = || -> Result<(), CliError> {
        let _site = session.locks.site()?;
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

fn tell(context: &Context<'_>, dry_run: bool, due: &Due, changes: &[Change]) -> bool {
    let of = |wanted: &dyn Fn(&What) -> bool| -> Vec<String> {
        let all = changes.iter().filter(|change| wanted(&change.what));
        all.map(|change| change.path.to_string()).collect()
    };
    let told = Told {
        jail: Some(&due.jail),
        from: Some(due.from),
        to: Some(due.to),
        did: if dry_run { "would be merged" } else { "merged" },
        taken: of(&|what| *what == What::Take),
        removed: of(&|what| *what == What::Remove),
        merged: of(&|what| matches!(what, What::Merge(_))),
        conflicts: of(&|what| *what == What::Conflict),
    };
    context.report.object(&told);
    for change in changes {
        if dry_run {
            context.report.line(format!("{}: {change}", due.jail));
            for line in change.diff.iter().flat_map(|diff| diff.lines()) {
                context.report.line(format!("    {line}"));
            }
        } else if change.what == What::Conflict {
            context.report.note(format!(
                "{}: {change}: yours stays, the release's is beside it as {}{BESIDE}",
                due.jail, change.path
            ));
        }
    }
    context.report.said(format!(
        "{}: {} from generation {} to {}: {} taken, {} removed, {} merged, {} in conflict",
        due.jail,
        told.did,
        due.from,
        due.to,
        told.taken.len(),
        told.removed.len(),
        told.merged.len(),
        told.conflicts.len()
    ));
    !told.conflicts.is_empty()
}
