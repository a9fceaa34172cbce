//! Steps and checks of one generation that several verbs need: adding what a sealed generation may lack, and destroying
//! one that was never sealed.

use crate::model::{Generation, Half, Inventory, Layout, Os, property};
use crate::name::{GenerationId, SnapshotName};
use crate::plan::{Commit, Epoch, Expect, MountAs, Plan, PlanError, Set, Step};

/// Returns the two snapshots of a generation, which are held.
pub fn seals(layout: &Layout, id: GenerationId) -> Vec<SnapshotName> {
    [layout.base_seal(id), layout.skeleton_seal(id)]
        .into_iter()
        .flatten()
        .collect()
}

/// Checks that jails of a generation can run on this system.
///
/// # Errors
/// [`PlanError::OtherSystem`].
pub fn ensure_native(generation: &Generation, os: Os) -> Result<(), PlanError> {
    match &generation.world {
        Some(world) if !world.runs_on(os) => Err(PlanError::OtherSystem {
            generation: generation.display(),
            needs: world.system().to_owned(),
            host: os,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Adds steps for what a sealed generation may lack after a command was killed: its holds and its mount.
pub(super) fn add_missing(plan: &mut Plan, inventory: &Inventory, generation: &Generation) {
    let Some(half) = &generation.base else { return };
    if !half.held {
        plan.push(Step::Hold {
            snapshots: seals(&inventory.site.layout, generation.id),
        });
    }
    if MountAs::Base.wanted(half.mounted, half.flags) {
        plan.push(Step::mount(
            half.dataset.clone(),
            half.mountpoint.clone(),
            MountAs::Base,
        ));
    }
}

/// The program that removes marks of seals that are done, if there are any: a signal can stop a seal before its last
/// call.
pub(super) fn unmark<'a>(
    inventory: &Inventory,
    epoch: &mut Epoch,
    generations: impl Iterator<Item = &'a Generation>,
) -> Option<Step> {
    let mut sets = Vec::new();
    for generation in generations.filter(|it| it.sealing && it.sealed()) {
        sets.extend(generation.base.as_ref().map(|base| Set {
            dataset: base.dataset.to_string(),
            property: property::SEALING.to_owned(),
            expect: Expect::Any,
            value: None,
        }));
    }
    (!sets.is_empty()).then(|| Step::commit(inventory, Commit::set(epoch.take(), sets)))
}

/// Plans the clearing of a generation that was never sealed, or of what a killed prune left of a base:
/// then its skeleton, which jails may need, stays.
pub fn reap(generation: &Generation) -> Plan {
    let mut plan = Plan::default();
    plan.push(Step::ClearWorld {
        generation: generation.id,
    });
    let pruned = generation.base.as_ref().is_some_and(|half| half.pruned);
    let skeleton = generation.skeleton.as_ref().filter(|_| !pruned);
    for half in skeleton.into_iter().chain(&generation.base) {
        // Of a seal that was stopped in its middle. Whether a skeleton has one is not read, and does not matter.
        let snapshot = half.dataset.at(&generation.id.to_string());
        if let (true, Ok(snapshot)) = (generation.sealing && !generation.sealed(), snapshot) {
            plan.push(Step::HandOver { snapshot });
        }
        unmount_and_destroy(&mut plan, half);
    }
    plan
}

pub(super) fn unmount_and_destroy(plan: &mut Plan, half: &Half) {
    plan.push(Step::unmount(half.dataset.clone(), half.mountpoint.clone()));
    plan.push(Step::RemoveDirectory {
        at: half.mountpoint.clone(),
    });
    plan.push(Step::Destroy {
        dataset: half.dataset.clone(),
    });
}
