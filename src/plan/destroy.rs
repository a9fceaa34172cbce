//! Destroys jails that were never finished, and what dead intents left.

use std::collections::BTreeMap;

use crate::model::{Inventory, Jail};
use crate::plan::{Commit, Doomed, Epoch, Plan, Step};

/// Adds the steps that destroy jails without snapshots or children: those never finished. Their
/// directories are removed first, because a destroyed dataset no longer says where it was mounted.
/// `after` goes after them.
pub fn destroy_unfinished(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    jails: &[&Jail],
    after: Vec<Doomed>,
) {
    plan.extend(jails.iter().map(|jail| unmount(jail)));
    let directories = jails.iter().map(|jail| remove_directory(inventory, jail));
    plan.extend(directories);
    let mut doomed: Vec<Doomed> = jails.iter().map(|jail| doomed(jail)).collect();
    doomed.extend(after);
    plan.push(Step::Commit {
        site: inventory.site.layout.site.clone(),
        commit: Commit::Destroy {
            epoch: epoch.take(),
            doomed,
            // The intents that named them stay until they are gone.
            intents: BTreeMap::new(),
        },
    });
}

pub(super) fn unmount(jail: &Jail) -> Step {
    Step::unmount(jail.dataset.clone(), jail.mountpoint.clone())
}

pub(super) fn remove_directory(inventory: &Inventory, jail: &Jail) -> Step {
    Step::RemoveDirectory {
        at: inventory.site.directory.join(jail.name.as_str()),
    }
}

/// How debris is destroyed: by name and guid.
pub(super) fn doomed(jail: &Jail) -> Doomed {
    Doomed {
        name: jail.dataset.to_string(),
        guid: jail.guid,
    }
}
