//! Takes back a merge that failed or was interrupted.

use std::collections::BTreeMap;

use crate::model::{Inventory, Jail, Merging, property};
use crate::name::{NameError, SnapshotName};
use crate::plan::ways::{self, Snapshots};
use crate::plan::{Commit, Doomed, Epoch, Expect, Plan, PlanError, Set, Step};

/// The snapshot that takes back the merge of which a jail has the mark.
///
/// # Errors
/// [`NameError`] if its name is too long.
pub fn taken(jail: &Jail, merging: &Merging) -> Result<SnapshotName, NameError> {
    ways::before(jail, merging.from, merging.to)
}

/// Adds the program that destroys snapshots of merges, if there are any.
pub(super) fn destroy(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    doomed: Vec<Doomed>,
) {
    if !doomed.is_empty() {
        plan.push(Step::Commit {
            site: inventory.site.layout.site.clone(),
            commit: Commit::Destroy {
                intents: BTreeMap::new(),
                epoch: epoch.take(),
                doomed,
            },
        });
    }
}

/// Adds the steps that take back a merge that failed or was interrupted, and that leave nothing of it. Its snapshot is
/// destroyed before its mark: after a kill in between, the mark is found and there is nothing to take back.
///
/// # Errors
/// [`PlanError::MergedBefore`]; [`PlanError::Name`].
pub fn undo(
    plan: &mut Plan,
    epoch: &mut Epoch,
    inventory: &Inventory,
    jail: &Jail,
    snapshots: &Snapshots,
) -> Result<(), PlanError> {
    // A signal can stop the program that ends a merge between its two properties: the files are merged then.
    let ended = |merging: &Merging| {
        let config = jail.config.as_ref();
        merging.from != merging.to && config.is_ok_and(|config| config.skel == merging.to)
    };
    if jail.merging.as_ref().is_some_and(ended) {
        plan.push(commit(inventory, epoch, vec![unmark(jail)]));
        return Ok(());
    }
    if let Some(merging) = &jail.merging {
        let made = taken(jail, merging)?;
        let called = |name: &SnapshotName| -> Vec<Doomed> {
            let all = snapshots.of_merges.iter();
            let name = name.to_string();
            all.filter(|it| it.name == name).cloned().collect()
        };
        // None if the merge was interrupted before it was made: then nothing was written.
        let before = called(&made);
        if !before.is_empty() {
            if let Some(first) = snapshots.newer.first() {
                return Err(PlanError::MergedBefore {
                    jail: jail.name.clone(),
                    first: first.clone(),
                    count: snapshots.newer.len(),
                });
            }
            // A rollback reaches only the latest snapshot, so the one after the merge goes first.
            let after = called(&ways::after(jail, merging.from, merging.to)?);
            destroy(plan, inventory, epoch, after);
            plan.push(Step::unmount(jail.dataset.clone(), jail.mountpoint.clone()));
            plan.push(Step::Rollback { snapshot: made });
        }
        plan.push(mount(jail));
        destroy(plan, inventory, epoch, before);
    }
    plan.push(commit(inventory, epoch, vec![unmark(jail)]));
    Ok(())
}

pub(super) fn unmark(jail: &Jail) -> Set {
    Set {
        dataset: jail.dataset.to_string(),
        property: property::MERGING.to_owned(),
        expect: Expect::Any,
        value: None,
    }
}

fn mount(jail: &Jail) -> Step {
    Step::mount_jail(jail)
}

pub(super) fn commit(inventory: &Inventory, epoch: &mut Epoch, sets: Vec<Set>) -> Step {
    Step::commit(inventory, Commit::set(epoch.take(), sets))
}
