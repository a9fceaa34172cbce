//! The plan of `delete`, and how jails that were never finished are cleared away.

use crate::model::{Inventory, Jail};
use crate::name::JailName;
use crate::plan::{Commit, Doomed, Epoch, Observed, Plan, PlanError, Step, writable};

/// What `delete` was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// The jails.
    pub names: Vec<JailName>,
    /// Whether snapshots and children that ezz did not make go too.
    pub foreign: bool,
    /// Snapshots and datasets below each jail, deepest first, with the clones that depend on them.
    pub below: Vec<Below>,
}

/// Something below a jail's dataset: a snapshot or a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// Its name.
    pub name: String,
    /// Its guid.
    pub guid: u64,
    /// Datasets that are clones of it and not below the same jail.
    pub clones: Vec<String>,
}

/// Plans the deletion of jails, running ones too: they are stopped first.
///
/// # Errors
/// [`PlanError`]: no such jail; snapshots or children that ezz did not make, unless told;
/// clones that depend on a snapshot.
pub fn delete(observed: &Observed, request: &Request) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let mut plan = Plan::default();
    let mut jails = Vec::new();
    for name in &request.names {
        let jail = inventory
            .jails
            .get(name)
            .ok_or_else(|| PlanError::NoJail(name.clone()))?;
        if jails.iter().any(|other: &&Jail| other.name == *name) {
            return Err(PlanError::Twice(name.clone()));
        }
        if let Err(why) = &jail.config {
            return Err(PlanError::Stranger {
                dataset: jail.dataset.clone(),
                why: why.clone(),
            });
        }
        jails.push(jail);
    }
    let mut doomed = Vec::new();
    for jail in &jails {
        let below: Vec<&Below> = request
            .below
            .iter()
            .filter(|item| is_below(jail, &item.name))
            .collect();
        let clones: Vec<String> = below
            .iter()
            .flat_map(|item| item.clones.iter().cloned())
            .collect();
        if !clones.is_empty() {
            return Err(PlanError::Dependents {
                dataset: jail.dataset.clone(),
                list: clones,
            });
        }
        if !below.is_empty() && !request.foreign {
            return Err(PlanError::Foreign {
                dataset: jail.dataset.clone(),
                list: below.iter().map(|item| item.name.clone()).collect(),
            });
        }
        doomed.extend(below.iter().map(|item| Doomed {
            name: item.name.clone(),
            guid: item.guid,
        }));
        doomed.push(Doomed {
            name: jail.dataset.to_string(),
            guid: jail.guid,
        });
    }
    for jail in &jails {
        // Of one that died by itself the stop takes the mounts away, which keep its dataset busy.
        if observed.known_to_host(&jail.name) {
            plan.push(Step::Stop {
                jail: jail.name.clone(),
            });
        }
    }
    for jail in &jails {
        plan.push(unmount(jail));
    }
    if !doomed.is_empty() {
        plan.push(Step::Commit {
            site: inventory.site.layout.site.clone(),
            commit: Commit::Destroy {
                epoch: inventory.site.epoch,
                doomed,
            },
        });
    }
    for jail in &jails {
        plan.push(Step::Forget {
            jail: jail.name.clone(),
        });
        plan.push(Step::RemoveDirectory {
            at: directory(inventory, jail),
        });
    }
    Ok(plan)
}

/// Plans the clearing of the jails in scope that were never finished.
///
/// # Errors
/// [`PlanError`]: a replica.
pub fn unfinished(observed: &Observed) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let mut plan = Plan::default();
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
        destroy(&mut plan, inventory, &mut Epoch::of(inventory), &jails);
        plan.steps
            .extend(jails.iter().map(|jail| Step::RemoveDirectory {
                at: directory(inventory, jail),
            }));
    }
    Ok(plan)
}

/// Adds the steps that destroy jails without snapshots or children: those never finished.
pub fn destroy(plan: &mut Plan, inventory: &Inventory, epoch: &mut Epoch, jails: &[&Jail]) {
    for jail in jails {
        plan.push(unmount(jail));
    }
    let doomed = jails
        .iter()
        .map(|jail| Doomed {
            name: jail.dataset.to_string(),
            guid: jail.guid,
        })
        .collect();
    plan.push(Step::Commit {
        site: inventory.site.layout.site.clone(),
        commit: Commit::Destroy {
            epoch: epoch.take(),
            doomed,
        },
    });
}

fn unmount(jail: &Jail) -> Step {
    Step::Unmount {
        dataset: jail.dataset.clone(),
        at: jail.mountpoint.clone(),
    }
}

fn directory(inventory: &Inventory, jail: &Jail) -> std::path::PathBuf {
    inventory.site.directory.join(jail.name.as_str())
}

fn is_below(jail: &Jail, name: &str) -> bool {
    name.strip_prefix(jail.dataset.as_str())
        .is_some_and(|rest| rest.starts_with('/') || rest.starts_with('@'))
}
