//! The steps that delete jails, which `delete` and `apply` share.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{CLONE_SNAPSHOT, Jail};
use crate::name::JailName;
use crate::plan::{
    Commit, Directory, Doomed, Epoch, JailStep, Observed, Plan, PlanError, Step, destroy, intent,
    lookup, order, steps, ways,
};

/// The request of `delete`, with what was found below the jails.
#[derive(Debug, Clone)]
pub struct Request {
    /// The jails to delete.
    pub names: Vec<JailName>,
    /// Whether snapshots and children that ezz did not create are destroyed, too.
    pub foreign: bool,
    /// Snapshots and datasets below each jail, deepest first, with the clones that depend on them.
    pub below: Vec<Below>,
}

/// Something below a jail's dataset: a snapshot or a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// The name of the snapshot or child.
    pub name: String,
    /// The guid of the snapshot or child.
    pub guid: u64,
    /// Clones of it that are not below the same jail.
    pub clones: Vec<String>,
    /// Whether a hold keeps it; only the program that set a hold may release it.
    pub held: bool,
}

/// Adds the deletion of jails to a plan, and the clearing of dead intents. Its first program must be the first of the
/// plan.
///
/// # Errors
/// Those of [`delete`].
pub(super) fn add(
    plan: &mut Plan,
    epoch: &mut Epoch,
    observed: &Observed,
    request: &Request,
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let mut jails = Vec::new();
    for name in &request.names {
        let debris = inventory.debris.get(name);
        let jail = inventory
            .jails
            .get(name)
            .or_else(|| debris.map(|debris| &debris.jail));
        let Some(jail) = jail else {
            if inventory.deleting.contains(name) {
                plan.note(format!("{name} was deleted by an interrupted command"));
                continue;
            }
            return Err(PlanError::NoJail(name.clone()));
        };
        if jails.iter().any(|other: &&Jail| other.name == *name) {
            return Err(PlanError::Twice(name.clone()));
        }
        if let (Err(why), None) = (&jail.config, debris) {
            return Err(PlanError::Stranger {
                dataset: jail.dataset.clone(),
                why: why.clone(),
            });
        }
        jails.push(jail);
    }
    for jail in &jails {
        if observed.directories.get(&jail.name) == Some(&Directory::Mounted) {
            return Err(PlanError::Directory {
                jail: jail.name.clone(),
                at: jail.mountpoint.clone(),
                why: "something else is mounted there, or below",
            });
        }
    }
    let mut doomed = Vec::new();
    let datasets: BTreeSet<&str> = jails.iter().map(|jail| jail.dataset.as_str()).collect();
    jails = clones_first(jails);
    let left: Vec<Doomed> = intent::left(inventory, &request.names).collect();
    for jail in &jails {
        let below: Vec<&Below> = request
            .below
            .iter()
            .filter(|item| is_below(jail, &item.name))
            .filter(|item| left.iter().all(|left| left.name != item.name))
            .collect();
        let clones: Vec<String> = below
            .iter()
            .flat_map(|item| item.clones.iter().cloned())
            .filter(|clone| !datasets.contains(clone.as_str()))
            .collect();
        if !clones.is_empty() {
            return Err(PlanError::Dependents {
                dataset: jail.dataset.clone(),
                list: clones,
            });
        }
        let foreign = below
            .iter()
            .filter(|item| !is_own_snapshot(jail, &item.name));
        let list: Vec<String> = foreign.map(|item| item.name.clone()).collect();
        if !list.is_empty() && !request.foreign {
            return Err(PlanError::Foreign {
                dataset: jail.dataset.clone(),
                list,
            });
        }
        let held: Vec<String> = below
            .iter()
            .filter(|item| item.held)
            .map(|item| item.name.clone())
            .collect();
        if !held.is_empty() {
            return Err(PlanError::Held {
                dataset: jail.dataset.clone(),
                list: held,
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
        // For a jail that died by itself, the stop removes the mounts that keep its dataset busy.
        if observed.known_to_host(&jail.name) {
            plan.push_for(&jail.name, steps::stop(&observed.inventory, &jail.name));
        }
    }
    order::arrange(plan, |name| lookup::config(inventory, name).ok());
    // What dead intents left goes first: the deletion's own commit is to be the last, because once
    // it is done a second try would not find the jails any more. With debris among the jails the
    // intents have to wait for it.
    let mut names = request.names.iter();
    let has_debris = names.any(|name| inventory.debris.contains_key(name));
    let others: Vec<&Jail> = if has_debris {
        intent::clearable(inventory, &request.names).collect()
    } else {
        intent::clear(plan, inventory, epoch);
        Vec::new()
    };
    intent::note(plan, &others);
    doomed.extend(others.iter().map(|jail| destroy::doomed(jail)));
    if has_debris {
        doomed.extend(left);
    }
    for jail in jails.iter().chain(&others) {
        plan.push(destroy::unmount(jail));
    }
    // The datasets come last: as long as they exist, the same command can be repeated.
    for jail in &jails {
        let name = &jail.name;
        plan.push_for(name, JailStep::Forget { jail: name.clone() });
        let at = inventory.site.directory.join(name.as_str());
        plan.push_for(name, JailStep::RemoveDirectory { at });
    }
    let directories = others
        .iter()
        .map(|jail| destroy::remove_directory(inventory, jail));
    plan.extend(directories);
    if !doomed.is_empty() {
        let batch = epoch.take();
        // A single jail needs no intent: until it is destroyed, it exists and can be named again.
        let intents = if jails.len() > 1 {
            intent::deleting(&inventory.site.layout, batch, &jails)?
        } else {
            BTreeMap::new()
        };
        plan.push(Step::Commit {
            site: inventory.site.layout.site.clone(),
            commit: Commit::Destroy {
                epoch: batch,
                doomed,
                intents,
            },
        });
        plan.end(jails.iter().map(|jail| &jail.name));
    }
    if has_debris {
        intent::forget(plan, inventory, epoch, &request.names);
    }
    Ok(())
}

/// Whether ezz has created a snapshot of a jail.
pub(super) fn is_own_snapshot(jail: &Jail, snapshot: &str) -> bool {
    let name = snapshot.strip_prefix(jail.dataset.as_str());
    let name = name.and_then(|rest| rest.strip_prefix('@'));
    ways::of_merge(jail, snapshot) || name.is_some_and(|name| name.starts_with(CLONE_SNAPSHOT))
}

/// Sorts jails so that each one precedes the jails that it is a clone of.
fn clones_first(mut jails: Vec<&Jail>) -> Vec<&Jail> {
    let by_dataset: BTreeMap<&str, &Jail> = jails
        .iter()
        .map(|jail| (jail.dataset.as_str(), *jail))
        .collect();
    let source = |jail: &Jail| {
        let (dataset, _) = jail.origin.as_deref()?.split_once('@')?;
        by_dataset.get(dataset).copied()
    };
    let depth = |jail: &Jail| std::iter::successors(source(jail), |jail| source(jail)).count();
    jails.sort_by_cached_key(|jail| std::cmp::Reverse(depth(jail)));
    jails
}

fn is_below(jail: &Jail, name: &str) -> bool {
    name.strip_prefix(jail.dataset.as_str())
        .is_some_and(|rest| rest.starts_with('/') || rest.starts_with('@'))
}
