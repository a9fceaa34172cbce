//! The plans of `delete`, and the clearing of jails that were never finished.

use std::collections::BTreeSet;

use crate::model::Jail;
use crate::name::JailName;
use crate::plan::deletion::{self, Request};
use crate::plan::{Epoch, Observed, Plan, PlanError, Step, destroy, intent, writable};

/// Plans the deletion of jails. Running jails are stopped first. The remains of dead intents are destroyed, too, and
/// can also be named.
///
/// # Errors
/// [`PlanError`]: a jail that does not exist; snapshots or children that ezz did not create, unless the request allows
/// them; clones that depend on a snapshot; a snapshot that is held; a mount on the jail that is not ezz's.
pub fn delete(observed: &Observed, request: &Request) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    deletion::add(&mut plan, &mut epoch, observed, request)?;
    Ok(plan)
}

/// Plans to mount jails again that a failed deletion had unmounted.
pub fn restore(observed: &Observed, unmounted: &BTreeSet<JailName>) -> Plan {
    let mut plan = Plan::of(&observed.inventory);
    let jails = observed.inventory.jails.values();
    // `mounted` would also be true for a jail that is mounted elsewhere.
    for jail in jails.filter(|jail| unmounted.contains(&jail.name)) {
        plan.push(Step::mount_jail(jail));
    }
    plan
}

/// Plans to destroy the jails in scope that were never finished, and the remains of dead intents.
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
