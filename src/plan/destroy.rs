//! Destroys jails that were never finished, and the remains of dead intents.

use std::collections::BTreeMap;

use crate::model::{Inventory, Jail};
use crate::plan::{Commit, Doomed, Epoch, Plan, Step};

/// Adds the steps that destroy unfinished jails, which have no snapshots or children. Their directories are removed
/// first, because a destroyed dataset no longer tells where it was mounted. `after` is destroyed after them.
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
            // The intents that named the jails stay until the jails are destroyed.
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

/// Returns how a piece of debris is destroyed: by name and guid.
pub(super) fn doomed(jail: &Jail) -> Doomed {
    Doomed {
        name: jail.dataset.to_string(),
        guid: jail.guid,
    }
}
