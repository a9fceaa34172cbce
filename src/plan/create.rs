//! The plan of `create`: clones in one program, then mounts and the steps that no program can do.

mod addresses;
mod request;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{JailConfig, JailState};
use crate::name::JailName;
use crate::plan::{
    Epoch, MountAs, Observed, Plan, PlanError, Step, delegated, destroy, intent, new, steps,
    writable,
};

use addresses::{addressed, free_addresses};
pub use request::{MOST_ATOMIC, Of, Request};
use request::{is_same, template, with_name};
use steps::{From, MOST_IN_ONE, ToStart};

/// Plans the creation of jails.
///
/// # Errors
/// [`PlanError`]: a name that is in use, reserved or too long; a base that does not exist; an address in use; too
/// little space by ZFS's own estimate; a replica.
pub fn create(observed: &Observed, request: &Request) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    request.check()?;
    let config = template(observed, request)?;
    free_addresses(inventory, request)?;
    for dataset in &request.datasets {
        delegated::may_have(inventory, request.names.first(), dataset, |_| None)?;
    }
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    let mut debris = Vec::new();
    let mut made = BTreeSet::new();
    let mut taken = Vec::new();
    for name in &request.names {
        new::no_track(inventory, name)?;
        match inventory.jails.get(name) {
            Some(jail) => match &jail.config {
                Ok(found) if found.todo.is_empty() => {
                    if is_same(inventory, jail, &with_name(&config, request, name), request) {
                        made.insert(name);
                    } else {
                        taken.push(name.clone());
                    }
                }
                Ok(_) => debris.push(jail),
                Err(why) => {
                    return Err(PlanError::Stranger {
                        dataset: jail.dataset.clone(),
                        why: why.clone(),
                    });
                }
            },
            None => {
                new::free(observed, name)?;
            }
        }
    }
    // Existing jails are refused, unless an interrupted run of the same command has created them: then a later step of
    // it is missing.
    let cut_off = |name: &&&JailName| {
        let mounted = inventory.jails.get(**name).is_some_and(|jail| jail.mounted);
        !mounted || request.start && !matches!(observed.state(name), JailState::Running { .. })
    };
    let complete = debris.is_empty() && made.iter().find(cut_off).is_none();
    if complete || !taken.is_empty() {
        taken.extend(made.iter().map(|name| (*name).clone()));
    }
    match &mut taken[..] {
        [] => {}
        [one] => return Err(PlanError::JailExists(one.clone())),
        several => {
            several.sort();
            return Err(PlanError::JailsExist(several.to_vec()));
        }
    }
    intent::clear(&mut plan, inventory, &mut epoch);
    if !debris.is_empty() {
        for jail in &debris {
            plan.note(format!(
                "{} was never finished; creating it again",
                jail.name
            ));
        }
        destroy::destroy_unfinished(&mut plan, inventory, &mut epoch, &debris, Vec::new());
    }
    let wanted = request.names.iter().filter(|name| !made.contains(name));
    let wanted: Vec<(JailName, JailConfig)> = wanted
        .map(|name| (name.clone(), with_name(&config, request, name)))
        .collect();
    // Checked for all programs together: otherwise some of the jails would be created, and then no more.
    new::room(inventory, &wanted)?;
    let wanted = addressed(inventory, request, wanted)?;
    for chunk in wanted.chunks(if request.atomic {
        MOST_ATOMIC
    } else {
        MOST_IN_ONE
    }) {
        new::make(&mut plan, observed, &mut epoch, chunk, request.of.source())?;
    }
    for name in &made {
        plan.note(format!("{name} already exists; completing its setup"));
        let jail = &inventory.jails[*name];
        let found = jail.config.as_ref().unwrap_or(&config);
        steps::derive(&mut plan, inventory, name, found);
        if MountAs::Jail.wanted(jail.mounted, jail.flags) {
            plan.push(Step::mount_jail(jail));
        }
    }
    if request.start {
        let new: BTreeMap<_, _> = wanted.iter().map(|(name, it)| (name, it)).collect();
        let started = request.names.iter().map(|name| {
            let made = || inventory.jails.get(name)?.config.as_ref().ok();
            let found = new.get(name).copied().or_else(made);
            ToStart {
                name: name.clone(),
                config: found.unwrap_or(&config).clone(),
                from: From::New,
            }
        });
        let started: Vec<_> = started.collect();
        steps::start(&mut plan, &mut epoch, observed, &started)?;
    }
    Ok(plan)
}
