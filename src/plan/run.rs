//! The plans of `start`, `stop` and `restart`.
//!
//! A thin jail starts on the generation that its own files were brought to, and on no other. What brings them to its
//! target comes before these plans, which only note a target whose skeleton has the same files.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Base, Inventory, Jail, JailConfig, JailState, Kind};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::merge::{self, Way};
use crate::plan::{
    Commit, Epoch, MountAs, Observed, Plan, PlanError, Step, create, site, writable,
};

/// Plans the start of jails. One that was never finished is finished first.
///
/// # Errors
/// [`PlanError`]: no such jail, or its base is not there.
pub fn start(observed: &Observed, names: &[JailName]) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    // One that is dying is started: the host waits until the kernel is done with it.
    let runs = |name: &&JailName| matches!(observed.state(name), JailState::Running { .. });
    let down: Vec<&JailName> = names.iter().filter(|name| !runs(name)).collect();
    let moved = bring(&mut plan, observed, &mut epoch, &down)?;
    for name in &in_order(names, |name| config(inventory, name).ok()) {
        let found = config(inventory, name)?;
        if runs(&name) {
            plan.note(format!("{name} is running already"));
            continue;
        }
        let config = moved.get(name).unwrap_or(found);
        start_one(&mut plan, observed, &mut epoch, name, config)?;
    }
    Ok(plan)
}

/// Plans the stop of jails.
///
/// # Errors
/// [`PlanError::NoJail`].
pub fn stop(observed: &Observed, names: &[JailName]) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let inventory = &observed.inventory;
    for name in &stop_order(names, |name| config(inventory, name).ok()) {
        known(&observed.inventory, name)?;
        match observed.state(name) {
            JailState::Stopped { .. } => {
                plan.note(format!("{name} is stopped already"));
                // One that died, or whose stop was killed, may have left its mounts.
                if observed.known_to_host(name) {
                    plan.push(Step::Stop { jail: name.clone() });
                }
            }
            JailState::Running { .. } | JailState::Starting | JailState::Dying => {
                plan.push(Step::Stop { jail: name.clone() });
            }
        }
    }
    Ok(plan)
}

/// Jails in the order in which they are started: after those that they depend on, and else by their
/// `order`, then as they were named. Those that wait for each other come last.
pub fn in_order<'a>(
    names: &[JailName],
    config: impl Fn(&JailName) -> Option<&'a JailConfig>,
) -> Vec<JailName> {
    let index: BTreeMap<&JailName, usize> = names
        .iter()
        .enumerate()
        .map(|(at, name)| (name, at))
        .collect();
    let mut waits: BTreeMap<usize, usize> = BTreeMap::new();
    let mut after: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let order = |at: usize| config(&names[at]).map_or(0, |config| config.order);
    for (at, name) in names.iter().enumerate() {
        let depends = config(name).map_or(&[][..], |config| &config.depends);
        for on in depends.iter().filter_map(|on| index.get(on)) {
            *waits.entry(at).or_default() += 1;
            after.entry(*on).or_default().push(at);
        }
    }
    let mut ready: BTreeSet<(i32, usize)> = (0..names.len())
        .filter(|at| !waits.contains_key(at))
        .map(|at| (order(at), at))
        .collect();
    let mut sorted = Vec::with_capacity(names.len());
    while let Some((_, at)) = ready.pop_first() {
        sorted.push(names[at].clone());
        for next in after.remove(&at).unwrap_or_default() {
            let left = waits.entry(next).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                waits.remove(&next);
                ready.insert((order(next), next));
            }
        }
    }
    sorted.extend(waits.into_keys().map(|at| names[at].clone()));
    sorted
}

/// Jails in the order in which they are stopped: the other way round, but as they were named where
/// nothing says otherwise.
pub fn stop_order<'a>(
    names: &[JailName],
    config: impl Fn(&JailName) -> Option<&'a JailConfig>,
) -> Vec<JailName> {
    let reversed: Vec<JailName> = names.iter().rev().cloned().collect();
    let mut sorted = in_order(&reversed, config);
    sorted.reverse();
    sorted
}

/// Plans stop and start, jail after jail, so that each is down as short as can be.
///
/// # Errors
/// As [`start`].
pub fn restart(observed: &Observed, names: &[JailName]) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let mut plan = Plan::on(inventory);
    restart_in(&mut plan, &mut Epoch::of(inventory), observed, names)?;
    Ok(plan)
}

/// Adds the same to a plan.
pub(super) fn restart_in(
    plan: &mut Plan,
    epoch: &mut Epoch,
    observed: &Observed,
    names: &[JailName],
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let all: Vec<&JailName> = names.iter().collect();
    let moved = bring(plan, observed, epoch, &all)?;
    for name in names {
        let found = config(inventory, name)?;
        if observed.state(name).running() {
            plan.push(Step::Stop { jail: name.clone() });
        }
        let config = moved.get(name).unwrap_or(found);
        start_one(plan, observed, epoch, name, config)?;
    }
    Ok(())
}

/// Adds the programs by which jails are at their target whose own files are right for it as they are, and returns
/// their new configurations. A jail whose files have to be merged stays where it is.
fn bring(
    plan: &mut Plan,
    observed: &Observed,
    epoch: &mut Epoch,
    names: &[&JailName],
) -> Result<BTreeMap<JailName, JailConfig>, PlanError> {
    let inventory = &observed.inventory;
    let mut moved = BTreeMap::new();
    for name in names {
        match merge::way(observed, name)? {
            Way::There => {}
            Way::Noted(config) => {
                moved.insert((*name).clone(), *config);
            }
            Way::Files(due) => plan.note(format!(
                "{name} starts on generation {}: its own files are not brought to {} yet; `ezz converge {name}` does it",
                due.from, due.to
            )),
        }
    }
    note(plan, inventory, epoch, &moved)?;
    Ok(moved)
}

/// Adds the programs that configure jails anew, each for a thousand at most, if what they are at is still sealed.
pub(super) fn note(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    moved: &BTreeMap<JailName, JailConfig>,
) -> Result<(), PlanError> {
    let all: Vec<_> = moved.iter().collect();
    for chunk in all.chunks(create::MOST_IN_ONE) {
        let mut sets = Vec::with_capacity(chunk.len());
        for (name, after) in chunk {
            let dataset = &known(inventory, name)?.dataset;
            sets.push(site::set_jail(dataset, config(inventory, name)?, after)?);
        }
        let at: BTreeSet<GenerationId> = chunk.iter().map(|(_, after)| after.skel).collect();
        let sealed = at.into_iter();
        let sealed = sealed.flat_map(|id| site::holds(&inventory.site.layout, id));
        plan.push(Step::Commit {
            site: inventory.site.layout.site.clone(),
            commit: Commit::Set {
                epoch: epoch.take(),
                sets,
                sealed: sealed.collect(),
                adopt: false,
            },
        });
    }
    Ok(())
}

/// Adds the start of jails that the same plan makes from one configuration.
///
/// # Errors
/// [`PlanError::NoBase`].
pub fn start_new(
    plan: &mut Plan,
    inventory: &Inventory,
    config: &JailConfig,
    names: &[JailName],
) -> Result<(), PlanError> {
    // The same for all.
    if let Some(name) = names.first() {
        base(plan, inventory, name, config)?;
    }
    let starts = names.iter().map(|name| Step::Start { jail: name.clone() });
    plan.steps.extend(starts);
    Ok(())
}

fn missing(inventory: &Inventory, name: &JailName) -> PlanError {
    if inventory.debris.contains_key(name) {
        PlanError::Interrupted(name.clone())
    } else {
        PlanError::NoJail(name.clone())
    }
}

pub(super) fn start_one(
    plan: &mut Plan,
    observed: &Observed,
    epoch: &mut Epoch,
    name: &JailName,
    config: &JailConfig,
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let jail = known(inventory, name)?;
    if jail.merging.is_some() {
        return Err(PlanError::Merging(name.clone()));
    }
    // Its files would be in the place of the host's, or where the host's users reach them.
    let at = inventory.site.directory.join(name.as_str());
    if jail.mountpoint != at {
        return Err(PlanError::Elsewhere {
            dataset: jail.dataset.clone(),
            found: jail.mountpoint.clone(),
            at,
        });
    }
    if !config.todo.is_empty() {
        plan.note(format!("{name} was never finished: it is finished now"));
        create::finish(plan, inventory, epoch, &[(name.clone(), config.clone())])?;
    } else if MountAs::Jail.wanted(jail.mounted, jail.flags) {
        plan.push(Step::Mount {
            dataset: jail.dataset.clone(),
            at: jail.mountpoint.clone(),
            how: MountAs::Jail,
        });
    }
    base(plan, inventory, name, config)?;
    plan.push(Step::Start { jail: name.clone() });
    Ok(())
}

/// Refuses to start a jail with limits that nobody would hold it to; before anything is stopped for it.
fn limits_known(name: &JailName, config: &JailConfig) -> Result<(), PlanError> {
    let unknown = config.limits.unknown();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(PlanError::UnknownLimits {
        jail: name.clone(),
        limits: unknown.join(", "),
    })
}

/// Adds what mounts the base that a jail starts on, unless the plan has it already.
pub(super) fn base(
    plan: &mut Plan,
    inventory: &Inventory,
    name: &JailName,
    config: &JailConfig,
) -> Result<(), PlanError> {
    limits_known(name, config)?;
    if config.kind == Kind::Thick {
        return Ok(());
    }
    let missing = || PlanError::NoBase {
        jail: name.clone(),
        generation: config.skel,
    };
    let half = inventory
        .sealed(config.skel)
        .and_then(|generation| generation.base.as_ref())
        .ok_or_else(missing)?;
    if MountAs::Base.wanted(half.mounted, half.flags) {
        let step = Step::Mount {
            dataset: half.dataset.clone(),
            at: half.mountpoint.clone(),
            how: MountAs::Base,
        };
        if !plan.steps.contains(&step) {
            plan.push(step);
        }
    }
    Ok(())
}

/// The generation that a jail is to be brought to, and the track that it follows again from then on, if a conflict
/// had pinned it and the track has left what the conflict was with.
///
/// # Errors
/// As [`due`].
pub fn target(
    inventory: &Inventory,
    config: &JailConfig,
) -> Result<(GenerationId, Option<TrackName>), PlanError> {
    if let Some(held) = config.held() {
        let current = inventory.tracks.get(&held.track).and_then(|it| it.current);
        if let Some(current) = current.filter(|current| *current != held.of) {
            return Ok((current, Some(held.track.clone())));
        }
    }
    Ok((due(inventory, &config.base)?, None))
}

/// The generation that a jail with this base is to be brought to.
///
/// # Errors
/// [`PlanError::NoTrack`], [`PlanError::EmptyTrack`].
pub fn due(inventory: &Inventory, base: &Base) -> Result<GenerationId, PlanError> {
    match base {
        Base::Pin(id) => Ok(*id),
        Base::Track(track) => match inventory.tracks.get(track) {
            None => Err(PlanError::NoTrack(track.clone())),
            Some(found) => found
                .current
                .ok_or_else(|| PlanError::EmptyTrack(track.clone())),
        },
    }
}

/// The jail of that name.
///
/// # Errors
/// [`PlanError::NoJail`]; [`PlanError::Interrupted`] if its creation was.
pub fn known<'a>(inventory: &'a Inventory, name: &JailName) -> Result<&'a Jail, PlanError> {
    inventory
        .jails
        .get(name)
        .ok_or_else(|| missing(inventory, name))
}

/// The configuration of the jail of that name.
///
/// # Errors
/// As [`known`]; [`PlanError::Stranger`].
pub fn config<'a>(inventory: &'a Inventory, name: &JailName) -> Result<&'a JailConfig, PlanError> {
    let jail = known(inventory, name)?;
    jail.config.as_ref().map_err(|why| PlanError::Stranger {
        dataset: jail.dataset.clone(),
        why: why.clone(),
    })
}
