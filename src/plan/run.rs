//! The plans of `start`, `stop` and `restart`.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Base, Inventory, Jail, JailConfig, JailState, Kind};
use crate::name::{GenerationId, JailName};
use crate::plan::{Epoch, MountAs, Observed, Plan, PlanError, Step, create, merge, writable};

/// Plans the start of jails. One that was never finished is finished first.
///
/// # Errors
/// [`PlanError`]: no such jail, or its base is not there.
pub fn start(observed: &Observed, names: &[JailName]) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    for name in &in_order(names, |name| config(inventory, name).ok()) {
        let config = config(inventory, name)?;
        // One that is dying is started: the host waits until the kernel is done with it.
        if matches!(observed.state(name), JailState::Running { .. }) {
            plan.note(format!("{name} is running already"));
            continue;
        }
        let due = due(inventory, &config.base);
        let other = |due| merge::other_release(inventory, config.skel, due);
        if config.kind == Kind::Thin && due.is_ok_and(other) {
            plan.note(format!(
                "{name} starts on another release than its own files are of: `ezz merge {name}` brings them to it"
            ));
        }
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
    let mut epoch = Epoch::of(inventory);
    for name in names {
        let config = config(inventory, name)?;
        if observed.state(name).running() {
            plan.push(Step::Stop { jail: name.clone() });
        }
        start_one(&mut plan, observed, &mut epoch, name, config)?;
    }
    Ok(plan)
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

/// Adds what mounts the base that a jail is due to run on, unless the plan has it already.
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
    let generation = due(inventory, &config.base)?;
    let missing = || PlanError::NoBase {
        jail: name.clone(),
        generation,
    };
    let half = inventory
        .sealed(generation)
        .and_then(|generation| generation.base.as_ref())
        .ok_or_else(missing)?;
    let mut steps = Vec::new();
    if MountAs::Base.wanted(half.mounted, half.flags) {
        steps.push(Step::Mount {
            dataset: half.dataset.clone(),
            at: half.mountpoint.clone(),
            how: MountAs::Base,
        });
    }
    if let Base::Track(track) = &config.base {
        steps.push(Step::Link {
            track: track.clone(),
            generation,
        });
    }
    for step in steps {
        if !plan.steps.contains(&step) {
            plan.push(step);
        }
    }
    Ok(())
}

/// The generation that a jail with this base is due to run on.
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
