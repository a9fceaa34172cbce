//! Creates jails on an OpenZFS whose programs cannot clone (before 2.4). One program sets the intent, the clones are
//! created one by one, and a last program, the commit point, sets every `ezz:jail` and removes the intent.
//!
//! To end the support of these versions, remove this file and what the compiler then reports as unused or missing:
//! `Observed::sync_clone` and the branch on it in `new::make`; in the session `no_sync_clone` and `cannot`;
//! `PortError::unsupported`; `Step::HandOver` with `Zfs::destroy_deferred`. `Zfs::clone_all` then clones one dataset, the base
//! of an update, so its threads can be removed. The intents stay (`intent.rs`), because a signal can stop a single
//! program, too. The tests to remove are `plans::intent`, `bare::fallback` in the lab, and those of `machine(false)` in
//! `ground`.

use std::collections::BTreeSet;

use crate::model::{Inventory, JailConfig, property};
use crate::name::{JailName, SnapshotName};
use crate::plan::{Commit, Epoch, Expect, NewClone, NewJail, Plan, PlanError, Set, Step, intent};

/// Adds the steps that create jails without a program that clones: an intent, the clones, one commit.
///
/// # Errors
/// [`PlanError::Model`] if an intent cannot be written; [`PlanError::Name`].
pub fn make_jails(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    jails: &[(JailName, JailConfig)],
    new: Vec<NewJail>,
    source: Option<&JailName>,
) -> Result<(), PlanError> {
    let layout = &inventory.site.layout;
    let batch = epoch.take();
    let intents = intent::intents(layout, batch, jails, source)?;
    let snapshot = source.map(|source| layout.clone_snapshot(source, batch));
    let snapshot = snapshot.transpose()?;
    // In the order of their properties, the mark first.
    let announce = intents.iter().map(|(property, text)| Set {
        dataset: layout.jails.to_string(),
        property: property.clone(),
        expect: Expect::Absent,
        value: Some(text.clone()),
    });
    // As in the program that clones, an origin must have its seal before anything is cloned.
    let origins: BTreeSet<SnapshotName> = new
        .iter()
        .map(|jail| jail.origin.clone())
        .filter(|origin| snapshot.as_ref() != Some(origin))
        .collect();
    let sealed = origins.into_iter().collect();
    plan.push(Step::commit(
        inventory,
        Commit::set_if_sealed(batch, announce.collect(), sealed),
    ));
    let mut clones = Vec::with_capacity(new.len());
    let mut sets = Vec::with_capacity(new.len() + intents.len());
    for jail in new {
        let dataset = layout.jail(&jail.name)?;
        sets.push(Set {
            dataset: dataset.to_string(),
            property: property::JAIL.to_owned(),
            expect: Expect::Absent,
            value: Some(jail.config),
        });
        clones.push(NewClone {
            dataset,
            origin: jail.origin,
        });
    }
    let made = snapshot.clone();
    plan.extend(made.map(|snapshot| Step::Snapshot { snapshot }));
    plan.push(Step::Clone { clones });
    // The hand-over happens while the intent that names the snapshot exists.
    plan.extend(snapshot.map(|snapshot| Step::HandOver { snapshot }));
    // The mark is the first one, because ":0" sorts before the others.
    sets.extend(
        intents
            .iter()
            .map(|(name, text)| intent::gone(layout, name, text)),
    );
    plan.push(Step::commit(inventory, Commit::set(epoch.take(), sets)));
    Ok(())
}

/// Whether the refusal of a program that clones would come too late, so that the kernel has to be asked first. That is
/// so for a dry run, which runs no program, and for a plan that has destroyed something by then, such as an unfinished
/// jail that is created again.
pub fn refused_too_late(plan: &Plan, dry_run: bool) -> bool {
    let clones = plan
        .programs()
        .position(|commit| matches!(commit, Commit::Create { .. }));
    clones.is_some_and(|at| at > 0 || dry_run)
}
