//! The plans of `delete`, and how jails that were never finished are cleared away.

use std::collections::BTreeSet;

use crate::model::Jail;
use crate::name::JailName;
use crate::plan::deletion::{self, Request};
use crate::plan::{Epoch, Observed, Plan, PlanError, Step, destroy, intent, writable};

/// Plans the deletion of jails, running ones too: they are stopped first. What dead intents left
/// goes with them, and can be named as well.
///
/// # Errors
/// [`PlanError`]: no such jail; snapshots or children that ezz did not make, unless told;
/// clones that depend on a snapshot; a snapshot that is held; somebody else's mount on the jail.
pub fn delete(observed: &Observed, request: &Request) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    deletion::add(&mut plan, &mut epoch, observed, request)?;
    Ok(plan)
}

/// Plans the return of jails that a failed deletion had unmounted.
pub fn restore(observed: &Observed, unmounted: &BTreeSet<JailName>) -> Plan {
    let mut plan = Plan::of(&observed.inventory);
    let jails = observed.inventory.jails.values();
    // `mounted` would be true also of one that is mounted somewhere else.
    for jail in jails.filter(|jail| unmounted.contains(&jail.name)) {
        plan.push(Step::mount_jail(jail));
    }
    plan
}

/// Plans the clearing of the jails in scope that were never finished, and of what dead intents
/// left.
///
/// # Errors
/// [`PlanError`]: a replica.
pub fn unfinished(observed: &Observed) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    intent::clear(&mut plan, inventory, &mut epoch);
    let scope = inventory.scope.iter().flatten();
    let jails: Vec<&Jail> = scope
        .filter_map(|name| inventory.jails.get(name))
        .filter(|jail| {
            jail.config
                .as_ref()
                .is_ok_and(|config| !config.todo.is_empty())
        })
        .collect();
    if !jails.is_empty() {
        destroy::destroy_unfinished(&mut plan, inventory, &mut epoch, &jails, Vec::new());
    }
    Ok(plan)
}
