//! Steps that several verbs share: they start a jail, configure it anew, and finish a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{FLAVOURS, Inventory, JailConfig, JailSpec, Kind, Todo};
use crate::name::{GenerationId, JailName};
use crate::plan::due::{self, Way};
use crate::plan::{
    Commit, Epoch, JailStep, Lane, MountAs, Mounting, Observed, Plan, PlanError, SpecError, Step,
    generation, lookup, order, sets, spec,
};

/// The most jails in one program (design.md §5).
pub const MOST_IN_ONE: usize = 1000;

/// A jail to start, with the configuration that it will then have.
#[derive(Debug, Clone)]
pub(super) struct ToStart {
    pub(super) name: JailName,
    pub(super) config: JailConfig,
    pub(super) from: From,
}

/// The state of a jail before its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// The same plan creates and finishes the jail.
    New,
    /// The jail does not run.
    Down,
    /// The jail runs, or may run.
    Up,
}

/// Adds the steps that start jails, in this order. Jails that were never finished are finished first. A running jail is
/// stopped in its lane, so that it is down as briefly as possible.
pub(super) fn start(
    plan: &mut Plan,
    epoch: &mut Epoch,
    observed: &Observed,
    jails: &[ToStart],
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let there = || jails.iter().filter(|it| it.from != From::New);
    for jail in there() {
        ensure_startable(inventory, &jail.name)?;
    }
    let unfinished: Vec<_> = there()
        .filter(|it| !it.config.todo.is_empty())
        .map(|it| (it.name.clone(), it.config.clone()))
        .collect();
    if !unfinished.is_empty() {
        for (name, _) in &unfinished {
            plan.note(format!("{name} was never finished; finishing it"));
        }
        finish_new(plan, inventory, epoch, &unfinished)?;
    }
    for jail in jails.iter().filter(|it| it.from == From::Down) {
        plan.extend(mount(inventory, jail)?.map(|it| Step::Mount { mounts: vec![it] }));
    }
    let mut bases = BTreeSet::new();
    for jail in jails {
        ensure_limits_known(&jail.name, &jail.config)?;
        if jail.config.kind == Kind::Thin && bases.insert(jail.config.skel) {
            mount_base(plan, inventory, &jail.name, jail.config.skel)?;
        }
    }
    move_jails(plan, inventory, jails)
}

/// Adds the lanes that start jails, and that stop those which run.
fn move_jails(plan: &mut Plan, inventory: &Inventory, jails: &[ToStart]) -> Result<(), PlanError> {
    // What cannot be started is not stopped.
    let spec = |jail: &ToStart| spec::spec(inventory, &jail.name, &finished(&jail.config));
    let restarted = jails.iter().filter(|it| it.from == From::Up);
    let restarted: Vec<&ToStart> = restarted.filter(|it| spec(it).is_ok()).collect();
    let configs = jails.iter().map(|it| (&it.name, &it.config));
    let configs: BTreeMap<&JailName, &JailConfig> = configs.collect();
    let config = |name: &JailName| configs.get(name).copied();
    // Those that depend on each other are down at once, so each has a lane for its stop and one for its start.
    let linked = order::linked(&restarted.iter().map(|it| &it.name).collect(), config);
    let names: Vec<JailName> = restarted.iter().map(|it| it.name.clone()).collect();
    for name in order::stop_order(&names, config) {
        if linked.contains(&name) {
            plan.push_lane(Lane::new(&name, stop(inventory, &name)));
        }
    }
    for jail in jails {
        let (name, again) = (&jail.name, jail.from == From::Up);
        let mut steps = Vec::new();
        let start = match spec(jail) {
            Ok(spec) => {
                if again && !linked.contains(name) {
                    steps.push(stop(inventory, name));
                }
                JailStep::Start { spec, again }
            }
            Err(why) => refusal(name, why),
        };
        if again {
            steps.extend(mount(inventory, jail)?.map(JailStep::Mount));
        }
        steps.push(start);
        for (at, step) in steps.into_iter().enumerate() {
            match at == 0 && linked.contains(name) {
                true => plan.push_lane(Lane::new(name, step)),
                false => plan.push_for(name, step),
            }
        }
    }
    Ok(())
}

fn refusal(jail: &JailName, why: SpecError) -> JailStep {
    JailStep::Refuse {
        jail: jail.clone(),
        why,
    }
}

/// Adds the restart of jails to a plan.
pub(super) fn restart(
    plan: &mut Plan,
    epoch: &mut Epoch,
    observed: &Observed,
    names: &[JailName],
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let all: Vec<&JailName> = names.iter().collect();
    let moved = bring(plan, observed, epoch, &all)?;
    let mut jails = Vec::with_capacity(names.len());
    for name in order::start_order(names, |name| lookup::config(inventory, name).ok()) {
        let found = lookup::config(inventory, &name)?;
        jails.push(ToStart {
            config: moved.get(&name).unwrap_or(found).clone(),
            from: match observed.state(&name).running() {
                true => From::Up,
                false => From::Down,
            },
            name,
        });
    }
    start(plan, epoch, observed, &jails)
}

/// Refuses to start a jail whose merge has not ended, or whose mountpoint was changed.
fn ensure_startable(inventory: &Inventory, name: &JailName) -> Result<(), PlanError> {
    let jail = lookup::jail(inventory, name)?;
    if jail.merging.is_some() {
        return Err(PlanError::Merging(name.clone()));
    }
    // Mounted elsewhere, its files could hide those of the host, or be within reach of the host's users.
    let at = inventory.site.directory.join(name.as_str());
    if jail.mountpoint != at {
        return Err(PlanError::Elsewhere {
            dataset: jail.dataset.clone(),
            found: jail.mountpoint.clone(),
            at,
        });
    }
    Ok(())
}

/// Returns the mount of a jail's own files, if the jail needs one. A jail that the same plan finishes is mounted by
/// then.
fn mount(inventory: &Inventory, jail: &ToStart) -> Result<Option<Mounting>, PlanError> {
    let found = lookup::jail(inventory, &jail.name)?;
    let wanted = MountAs::Jail.wanted(found.mounted, found.flags) && jail.config.todo.is_empty();
    Ok(wanted.then(|| Mounting::of_jail(found)))
}

/// Returns the configuration of a jail without anything left to do.
pub(super) fn finished(config: &JailConfig) -> JailConfig {
    JailConfig {
        todo: Vec::new(),
        ..config.clone()
    }
}

/// Adds a step that brings the derived files of a jail up to date.
pub(super) fn derive(plan: &mut Plan, inventory: &Inventory, name: &JailName, config: &JailConfig) {
    with_spec(plan, inventory, name, config, |spec| JailStep::Derive {
        spec,
    });
}

/// Adds a step that needs the specification of a jail; if the specification cannot be made, a step that fails.
fn with_spec(
    plan: &mut Plan,
    inventory: &Inventory,
    name: &JailName,
    config: &JailConfig,
    step: impl FnOnce(Arc<JailSpec>) -> JailStep,
) {
    let step = match spec::spec(inventory, name, config) {
        Ok(spec) => step(spec),
        Err(why) => refusal(name, why),
    };
    plan.push_for(name, step);
}

/// Returns the stop of a jail, by the rules of its world if they are known.
pub(super) fn stop(inventory: &Inventory, name: &JailName) -> JailStep {
    JailStep::Stop {
        jail: name.clone(),
        spec: spec::observed(inventory, name).ok(),
        timeout: None,
    }
}

/// Adds the programs that bring jails to the generation that is due, where their own files fit it as they are, and
/// returns the new configurations. A jail whose files have to be merged stays where it is.
pub(super) fn bring(
    plan: &mut Plan,
    observed: &Observed,
    epoch: &mut Epoch,
    names: &[&JailName],
) -> Result<BTreeMap<JailName, JailConfig>, PlanError> {
    let inventory = &observed.inventory;
    let mut moved = BTreeMap::new();
    for name in names {
        match due::way(observed, name)? {
            Way::There => {}
            Way::Noted(config) => {
                moved.insert((*name).clone(), *config);
            }
            Way::Files(due) => plan.note(format!(
                "{name} starts on generation {}: its own files are not merged to {} yet; `ezz converge {name}` merges them",
                due.from, due.to
            )),
        }
    }
    configure(plan, inventory, epoch, &moved)?;
    Ok(moved)
}

/// Adds the programs that configure jails anew, each for at most a thousand jails, provided that their generations are
/// still sealed.
pub(super) fn configure(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    moved: &BTreeMap<JailName, JailConfig>,
) -> Result<(), PlanError> {
    let all: Vec<_> = moved.iter().collect();
    for chunk in all.chunks(MOST_IN_ONE) {
        let mut sets = Vec::with_capacity(chunk.len());
        for (name, after) in chunk {
            let dataset = &lookup::jail(inventory, name)?.dataset;
            sets.push(sets::set_jail(
                dataset,
                lookup::config(inventory, name)?,
                after,
            )?);
        }
        let at: BTreeSet<GenerationId> = chunk.iter().map(|(_, after)| after.skel).collect();
        let sealed = at.into_iter();
        let sealed = sealed.flat_map(|id| generation::seals(&inventory.site.layout, id));
        plan.push(Step::commit(
            inventory,
            Commit::set_if_sealed(epoch.take(), sets, sealed.collect()),
        ));
        plan.end(chunk.iter().map(|(name, _)| *name));
    }
    Ok(())
}

/// Adds the mount of the base that a jail starts on, unless the plan has it already.
fn mount_base(
    plan: &mut Plan,
    inventory: &Inventory,
    name: &JailName,
    generation: GenerationId,
) -> Result<(), PlanError> {
    let sealed = lookup::sealed_for(inventory, name, generation)?;
    let missing = || SpecError::NoBase {
        jail: name.clone(),
        generation,
    };
    let half = sealed.base.as_ref().ok_or_else(missing)?;
    if MountAs::Base.wanted(half.mounted, half.flags) {
        let (dataset, at) = (half.dataset.clone(), half.mountpoint.clone());
        let step = Step::mount(dataset, at, MountAs::Base);
        if !plan.has(&step) {
            plan.push(step);
        }
    }
    Ok(())
}

/// Refuses to start a jail with limits that the host would not enforce, before anything is stopped for it.
fn ensure_limits_known(name: &JailName, config: &JailConfig) -> Result<(), PlanError> {
    let unknown = config.limits.unknown();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(PlanError::UnknownLimits {
        jail: name.clone(),
        limits: unknown.join(", "),
    })
}

/// Adds the steps that finish jails whose clones exist: derived files, mounts, the `todo`, and the program that clears
/// it. Each of these steps can be repeated.
///
/// # Errors
/// [`PlanError`]: a name or value that is too long.
pub fn finish_new(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    jails: &[(JailName, JailConfig)],
) -> Result<(), PlanError> {
    let layout = &inventory.site.layout;
    let directory = &inventory.site.directory;
    // The derived files come before the mounts, so that a mounted jail has all of them.
    for (name, config) in jails {
        derive(plan, inventory, name, &finished(config));
    }
    for (name, _) in jails {
        let mounting = Mounting {
            dataset: layout.jail(name)?,
            at: directory.join(name.as_str()),
            how: MountAs::Jail,
            jail: Some(name.clone()),
        };
        plan.push(Step::Mount {
            mounts: vec![mounting],
        });
    }
    for (name, config) in jails {
        if config.todo.contains(&Todo::Identity) {
            with_spec(plan, inventory, name, &finished(config), |spec| {
                JailStep::ClearIdentity { spec }
            });
        }
        for todo in &config.todo {
            if let Todo::Flavour(flavour) = todo {
                let from = directory.join(FLAVOURS).join(flavour.as_str());
                let flavour = flavour.clone();
                with_spec(plan, inventory, name, &finished(config), |spec| {
                    JailStep::Flavour {
                        spec,
                        flavour,
                        from,
                    }
                });
            }
        }
    }
    let mut sets = Vec::new();
    for (name, config) in jails {
        let dataset = layout.jail(name)?;
        for todo in &config.todo {
            match todo {
                Todo::Quota(bytes) => plan.push(Step::Property {
                    dataset: dataset.clone(),
                    property: "quota".to_owned(),
                    value: bytes.to_string(),
                }),
                // A step in the jail's lane above does this.
                Todo::Identity | Todo::Flavour(_) => {}
            }
        }
        if !config.todo.is_empty() {
            sets.push(sets::set_jail(&dataset, config, &finished(config))?);
        }
    }
    if !sets.is_empty() {
        plan.push(Step::commit(inventory, Commit::set(epoch.take(), sets)));
    }
    plan.end(jails.iter().map(|(name, _)| name));
    Ok(())
}
