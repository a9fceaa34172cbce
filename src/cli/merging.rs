//! The work of a merge: what protects a jail while its files are brought to another generation, and how
//! it is taken back. `ezz merge` does it for those that are named, a change of release on the way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::doctor::facts::{left_by_readers, left_by_undo};
use super::progress::Shown;
use super::undoing::Pair;
use super::{CliError, Context, build, error, record, uid};
use crate::crash;
use crate::model::{Generation, Inventory};
use crate::name::{DatasetName, GenerationId, JailName, TrackName};
use crate::plan::due::Due;
use crate::plan::merge::{begin, due, due_now, finish, forget, undo};
use crate::plan::undo::taken;
use crate::plan::ways::{self, Snapshots, Way};
use crate::plan::{Doomed, MountAs, Observed, Plan, PlanError, Step, lookup, spec};
use crate::ports::{PortError, Query, Row, Zfs};
use crate::session::{Scope, Session};
use crate::world::merge::{
    Difference, Examined, Patches, Undo, carry_out, examine, examine_back, examine_undo,
};
use crate::world::{self, WorldError};

/// What happens to a jail that has conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conflicts {
    /// Its own version stays, and the release's is put beside it.
    KeepBoth,
    /// Nothing of it is changed.
    Refuse,
}

/// What differs between skeletons, found once for each pair that a command needs. A skeleton is mounted when it is
/// needed first, and unmounted by [`Differences::close`] or when this is dropped.
#[derive(Debug)]
pub(super) struct Differences<'a> {
    context: &'a Context<'a>,
    session: &'a Session,
    mounted: RefCell<BTreeMap<GenerationId, DatasetName>>,
    /// Bases that a dry run has mounted to read them.
    bases: RefCell<Vec<(DatasetName, PathBuf)>>,
    found: RefCell<BTreeMap<(GenerationId, GenerationId), Rc<Difference>>>,
}

impl<'a> Differences<'a> {
    /// None yet.
    pub(super) fn new(context: &'a Context<'a>, session: &'a Session) -> Self {
        Differences {
            context,
            session,
            mounted: RefCell::default(),
            bases: RefCell::default(),
            found: RefCell::default(),
        }
    }

    /// What differs between the skeletons of two generations; `jail` is named in the progress that is shown.
    ///
    /// # Errors
    /// [`CliError`].
    fn of(&self, inventory: &Inventory, due: &Due) -> Result<Rc<Difference>, CliError> {
        let pair = (due.from, due.to);
        if let Some(found) = self.found.borrow().get(&pair) {
            return Ok(Rc::clone(found));
        }
        let to = inventory
            .sealed(due.to)
            .ok_or(PlanError::NotSealed(due.to))?;
        let world = to.world.as_ref().ok_or(PlanError::NotSealed(due.to))?;
        let profile = spec::profile(to, world).map_err(PlanError::from)?;
        let (old, new) = (
            self.mount(inventory, due.from)?,
            self.mount(inventory, due.to)?,
        );
        let progress = Shown::about(self.context.report, &due.jail);
        let work = build::work(self.context, &progress);
        let base = self.base(to)?;
        let found = Difference::between(&old, &new, profile, &work);
        let mut found = found.map_err(|source| failed(due, source))?;
        if let Some(from) = inventory.sealed(due.from) {
            found = found.with_old_base(self.base(from)?);
        }
        let found = Rc::new(found.with_base(base));
        self.found.borrow_mut().insert(pair, Rc::clone(&found));
        Ok(found)
    }

    /// Where the base of a generation is mounted; a jail that is brought to it is started on it next. For a dry run one
    /// that is not mounted is mounted to be read, as `world verify` does it.
    fn base(&self, generation: &Generation) -> Result<PathBuf, CliError> {
        let base = generation.base.as_ref();
        let base = base.ok_or(PlanError::NotSealed(generation.id))?;
        let dataset = base.dataset.clone();
        let dry_run = self.session.dry_run;
        let mut at = base.mountpoint.clone();
        if dry_run && !base.mounted {
            let read = self
                .bases
                .borrow()
                .iter()
                .find(|(it, _)| *it == dataset)
                .cloned();
            if let Some((_, at)) = read {
                return Ok(at);
            }
            let machine = &self.context.machine;
            let name = format!("verify-{}-{}", machine.process_id(), generation.id);
            at = machine.run_directory().join(name);
            let found = (dataset.clone(), at.clone());
            self.bases.borrow_mut().push(found);
        }
        let mut plan = Plan::default();
        if !base.mounted || !dry_run && MountAs::Base.wanted(base.mounted, base.flags) {
            plan.push(Step::mount(dataset, at.clone(), MountAs::Base));
        }
        self.session.run_always(&plan)?;
        Ok(at)
    }

    /// Where a skeleton is mounted to be read.
    fn mount(&self, inventory: &Inventory, id: GenerationId) -> Result<PathBuf, CliError> {
        let at = self.at(id);
        if self.mounted.borrow().contains_key(&id) {
            return Ok(at);
        }
        if self.mounted.borrow().is_empty() {
            clear_left(self.context, self.session)?;
        }
        let half = inventory.skeleton(id).ok_or(PlanError::NotSealed(id))?;
        let dataset = half.dataset.clone();
        self.mounted.borrow_mut().insert(id, dataset.clone());
        let mut plan = Plan::default();
        plan.push(Step::mount(dataset, at.clone(), MountAs::Base));
        self.session.run_always(&plan)?;
        Ok(at)
    }

    fn at(&self, id: GenerationId) -> PathBuf {
        let machine = &self.context.machine;
        let run = machine.run_directory();
        run.join(format!("merge-{}-{id}", machine.process_id()))
    }

    /// Unmounts the skeletons.
    ///
    /// # Errors
    /// [`CliError`]: one is busy.
    pub(super) fn close(&self) -> Result<(), CliError> {
        self.found.borrow_mut().clear();
        let mut plan = Plan::default();
        let skeletons = self.mounted.take().into_iter();
        let skeletons = skeletons.map(|(id, dataset)| (dataset, self.at(id)));
        for (dataset, at) in skeletons.chain(self.bases.take()) {
            plan.push(Step::unmount(dataset, at.clone()));
            plan.push(Step::RemoveDirectory { at });
        }
        self.session.run_always(&plan)?;
        Ok(())
    }
}

impl Drop for Differences<'_> {
    fn drop(&mut self) {
        // A second panic while this one unwinds would abort.
        if std::thread::panicking() {
            return;
        }
        if let Err(error) = self.close() {
            // The next merge, or a repair, unmounts it.
            self.context.report.warning(format!(
                "a skeleton stays mounted: {}",
                error::one_line(&error)
            ));
        }
    }
}

fn failed(due: &Due, source: WorldError) -> CliError {
    match source {
        WorldError::Interrupted => CliError::Interrupted,
        source => CliError::Merge {
            jail: due.jail.clone(),
            source,
        },
    }
}

/// Merges one jail that does not run, to what it is due to run on or to what a track has; on the way back it
/// undoes its last merge. None if there was nothing to do. A dry run only looks.
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
    differences: &Differences<'_>,
) -> Result<Option<(Due, Examined)>, CliError> {
    let scope = Scope::of([name.clone()]);
    let _lock = session.lock_jails(&scope.jails)?;
    let mut observed = session.observe(&scope)?;
    let due_of = |observed: &Observed| match session.dry_run {
        // What only looks does not mind that it runs.
        true => due(&observed.inventory, name, follow),
        false => due_now(observed, name, follow),
    };
    due_of(&observed)?;
    let jail = observed.inventory.jails.get(name);
    if !session.dry_run && jail.is_some_and(|jail| jail.merging.is_some()) {
        context.report.note(format!(
            "the last merge of {name} was interrupted: it is taken back"
        ));
        let _site = session.lock_site()?;
        back(session, name)?;
        observed = session.observe(&scope)?;
    }
    if mounted(session, &observed, name, follow)? {
        observed = session.observe(&scope)?;
    }
    if let Some(files) = record::accept(session, &mut observed, name)? {
        context.report.warning(format!(
            "the files of {name} were rolled back with zfs(8): they are those of generation {files}"
        ));
        if !session.dry_run {
            observed = session.observe(&scope)?;
        }
    }
    let Some(due) = due_of(&observed)? else {
        return Ok(None);
    };
    let inventory = &observed.inventory;
    if session.dry_run {
        if observed.state(name).running() && due.from != due.to {
            context
                .report
                .note(format!("{name} runs: it has to be stopped to be merged"));
        }
        let patches = Patches::Made;
        let examined = files(context, differences, inventory, &due, patches, &|_| {
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
        let patches = Patches::Left;
        let examined = files(context, differences, inventory, &due, patches, &carry)?;
        crash::point();
        if !inventory.same_skeleton(due.from, due.to) {
            let jail = inventory.jails.get(name);
            let root = jail.map(|jail| &jail.mountpoint);
            let written = root.map_or(Ok(()), |root| world::record::write(root, due.to.0));
            written.map_err(|source| CliError::Merge {
                jail: name.clone(),
                source,
            })?;
        }
        // Taking back what was begun would need the lock, too.
        let steadfast = session.locks.steadfast();
        let _site = match begun.get() {
            true => steadfast.site()?,
            false => session.lock_site()?,
        };
        let inventory = session.inventory(&scope)?;
        let leaves_a_way_back = begun.get() && !examined.undone;
        session.run(&finish(&inventory, &due, leaves_a_way_back)?)?;
        let clear = || -> Result<(), CliError> {
            let inventory = session.inventory(&scope)?;
            let doomed = match examined.undone {
                true => snapshots(session.zfs.as_ref(), &inventory, name)?.of_merges,
                false => earlier.take(),
            };
            session.run(&forget(&inventory, doomed))?;
            Ok(())
        };
        if let Err(error) = clear() {
            // Somebody holds or has cloned one. The merge is done.
            context.report.warning(format!(
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

/// Mounts the own files of a jail that an import without mounts has left out, since the directory in their place has
/// none; whether it did.
///
/// # Errors
/// [`PlanError::NotMounted`]: in a dry run, or if they belong elsewhere.
fn mounted(
    session: &Session,
    observed: &Observed,
    name: &JailName,
    follow: Option<&TrackName>,
) -> Result<bool, CliError> {
    let jail = lookup::jail(&observed.inventory, name)?;
    let due = match session.dry_run {
        true => due(&observed.inventory, name, follow),
        false => due_now(observed, name, follow),
    }?;
    let looked_at = due.is_some_and(|due| due.from != due.to) || !session.dry_run;
    if jail.mounted || !looked_at {
        return Ok(false);
    }
    let at = observed.inventory.site.directory.join(name.as_str());
    if session.dry_run || jail.mountpoint != at {
        return Err(PlanError::NotMounted(name.clone()).into());
    }
    let mut plan = Plan::on(&observed.inventory);
    plan.push(Step::mount(jail.dataset.clone(), at, MountAs::Jail));
    session.run(&plan)?;
    Ok(true)
}

/// What a merge of a jail would be, which may run meanwhile; nothing of it is changed.
///
/// # Errors
/// [`CliError`].
pub(super) fn look(
    context: &Context<'_>,
    differences: &Differences<'_>,
    inventory: &Inventory,
    due: &Due,
) -> Result<Examined, CliError> {
    let patches = Patches::Left;
    files(context, differences, inventory, due, patches, &|_| {
        Ok(false)
    })
}

/// The files that are in conflict, each with the reason.
pub(super) fn conflicting(examined: &Examined) -> Vec<String> {
    let all = examined.changes.iter();
    all.filter_map(|change| Some(format!("{} ({})", change.path, change.conflict()?)))
        .collect()
}

/// Compares the files, and changes them if `carry` says so.
fn files(
    context: &Context<'_>,
    differences: &Differences<'_>,
    inventory: &Inventory,
    due: &Due,
    patches: Patches,
    carry: &dyn Fn(&Examined) -> Result<bool, CliError>,
) -> Result<Examined, CliError> {
    // With the same skeleton the way back of the last merge stays what it is.
    if inventory.same_skeleton(due.from, due.to) {
        return Ok(Examined::default());
    }
    let jail = inventory
        .jails
        .get(&due.jail)
        .ok_or_else(|| PlanError::NoJail(due.jail.clone()))?;
    let session = differences.session;
    let last = snapshots(session.zfs.as_ref(), inventory, &due.jail)?.last;
    let way = ways::way(inventory, due, last);
    let progress = Shown::about(context.report, &due.jail);
    let work = build::work(context, &progress);
    let failed = |source| failed(due, source);
    let mut texts = context.machine.texts();
    let own = &jail.mountpoint;
    let carried = |examined: Examined, source: &Path| -> Result<Examined, CliError> {
        crash::point();
        if carry(&examined)? {
            carry_out(&examined, source, own, &work).map_err(failed)?;
        }
        Ok(examined)
    };
    if let Way::Undo { from, to } = way {
        let merged = differences.of(inventory, &due.reversed())?;
        let pair = Pair::of(context, jail, (from, to))?;
        let mounts = Plan::from_steps(pair.mounts());
        let mut undone = || -> Result<Examined, CliError> {
            session.run_always(&mounts)?;
            let trees = Undo {
                merged: &merged,
                before: pair.before(),
                after: pair.after(),
                jail: own,
            };
            let examined = examine_undo(trees, texts.as_mut(), patches, &work).map_err(failed)?;
            carried(examined, pair.before())
        };
        let undone = undone();
        session.run_always(&Plan::from_steps(pair.unmounts()))?;
        return undone;
    }
    let difference = differences.of(inventory, due)?;
    let examined = match way {
        Way::Back => examine_back(&difference, own, texts.as_mut(), patches, &work),
        Way::Forward | Way::Undo { .. } => {
            examine(&difference, own, texts.as_mut(), patches, &work)
        }
    };
    let examined = examined.map_err(failed)?;
    carried(examined, difference.newer())
}

/// Unmounts what commands that were killed had mounted to read. Where there is nothing of that kind, neither the site
/// nor the table of mounts is read. A dry run leaves it to the next command that is not one.
///
/// # Errors
/// [`CliError`].
pub(super) fn clear_left(context: &Context<'_>, session: &Session) -> Result<(), CliError> {
    let run = context.machine.run_directory();
    if session.dry_run {
        return Ok(());
    }
    if !left_by_readers(run).is_empty() || !left_by_undo(run).is_empty() {
        let inventory = session.inventory(&Scope::all())?;
        session.run_always(&left_mounted(context, session, &inventory)?)?;
    }
    Ok(())
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
        let layout = &inventory.site.layout;
        let there = mounts.iter().rfind(|mount| mount.target == at);
        // Another site of this host has generations of the same numbers.
        let own = [layout.skeleton(id)?, layout.base(id)?].into_iter();
        let mut own = own.filter(|it| there.is_some_and(|mount| mount.source == it.as_str()));
        let own = own.next();
        if own.is_none() && there.is_some() {
            continue;
        }
        plan.extend(own.map(|dataset| Step::unmount(dataset, at.clone())));
        plan.push(Step::RemoveDirectory { at });
    }
    for at in left_by_undo(context.machine.run_directory()) {
        let steps = ways::left(inventory, &mounts, &at);
        plan.extend(steps.into_iter().flatten());
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
    let made = jail.merging.as_ref().and_then(|merging| {
        let snapshot = taken(jail, merging).ok()?.to_string();
        Some(number(rows.get(&snapshot)?, "createtxg"))
    });
    let mut found = Snapshots::default();
    let mut in_order: BTreeMap<u64, &str> = BTreeMap::new();
    for (name, row) in &rows {
        let guid = number(row, "guid");
        if ways::of_merge(jail, name) {
            in_order.insert(number(row, "createtxg"), name);
            let name = name.clone();
            found.of_merges.push(Doomed { name, guid });
        } else if made.is_some_and(|made| number(row, "createtxg") > made) {
            found.newer.push(name.clone());
        }
    }
    found.last = ways::last(&in_order.into_values().collect::<Vec<_>>());
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
