//! The plans around a new generation: stage, seal, repair.

use std::collections::BTreeMap;

use crate::model::{
    Generation, Inventory, JailState, Os, Populated, Seal, Track, World, encode, property,
};
use crate::name::{DatasetName, GenerationId, TrackName};
use crate::plan::generation::{add_missing, unmount_and_destroy};
use crate::plan::{
    Commit, Epoch, Expect, MountAs, NewClone, Observed, Plan, PlanError, Set, Step, generation,
    lookup, sets, writable,
};

/// Plans the two datasets of a new generation, mounted and writable. Both are empty, unless the generation is made from
/// another one: then its base is a clone of that generation's base.
///
/// # Errors
/// [`PlanError`]: a replica, a site whose name is too long, a generation that is not sealed.
pub fn stage(
    inventory: &Inventory,
    from: Option<GenerationId>,
) -> Result<(Plan, GenerationId), PlanError> {
    writable(inventory)?;
    let found = &inventory.site;
    let id = GenerationId(found.seq + 1);
    let mut plan = Plan::on(inventory);
    // The lock is taken before the number is committed, so that no other command treats the datasets as abandoned.
    plan.stage = Some(id);
    plan.push(Step::Commit {
        site: found.layout.site.clone(),
        commit: Commit::Stage {
            epoch: found.epoch,
            seq: found.seq,
        },
    });
    // Steps that a kill after a seal left undone.
    for sealed in inventory.generations.values().filter(|g| g.sealed()) {
        add_missing(&mut plan, inventory, sealed);
    }
    let base = found.layout.base(id)?;
    let skeleton = found.layout.skeleton(id)?;
    match from {
        None => plan.push(Step::Create {
            dataset: base.clone(),
            properties: own(&[("readonly", "off"), SYNC]),
        }),
        Some(parent) => {
            inventory
                .sealed(parent)
                .ok_or(PlanError::NotSealed(parent))?;
            plan.push(Step::Clone {
                clones: vec![NewClone {
                    dataset: base.clone(),
                    origin: found.layout.base_seal(parent)?,
                }],
            });
            for (property, value) in [("readonly", "off"), SYNC] {
                plan.push(Step::Property {
                    dataset: base.clone(),
                    property: property.to_owned(),
                    value: value.to_owned(),
                });
            }
        }
    }
    plan.push(empty_skeleton(&skeleton));
    for (dataset, half) in [(base, "basejail"), (skeleton, "newjail")] {
        let at = found.directory.join(half).join(id.to_string());
        plan.push(Step::mount(dataset, at, MountAs::Staged));
    }
    Ok((plan, id))
}

/// Plans to continue with a stage whose files are complete: its skeleton is created anew.
pub fn resume(inventory: &Inventory, generation: &Generation) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let found = &inventory.site;
    let mut plan = Plan::on(inventory);
    plan.push(Step::ClearWorld {
        generation: generation.id,
    });
    if let Some(half) = &generation.skeleton {
        unmount_and_destroy(&mut plan, half);
    }
    let base = found.layout.base(generation.id)?;
    let skeleton = found.layout.skeleton(generation.id)?;
    plan.push(empty_skeleton(&skeleton));
    for (dataset, half) in [(base, "basejail"), (skeleton, "newjail")] {
        plan.push(Step::mount(
            dataset,
            found.directory.join(half).join(generation.id.to_string()),
            MountAs::Staged,
        ));
    }
    Ok(plan)
}

/// Plans to record that the files of a stage are complete, or that they no longer are.
///
/// # Errors
/// [`PlanError`]: a replica, or a value that is too long.
pub fn populated(
    inventory: &Inventory,
    id: GenerationId,
    populated: Option<&Populated>,
) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let base = inventory.site.layout.base(id)?;
    let mut plan = Plan::default();
    let set = Set {
        dataset: base.to_string(),
        property: property::POPULATED.to_owned(),
        expect: Expect::Any,
        value: populated
            .map(|populated| encode(&base, property::POPULATED, populated))
            .transpose()?,
    };
    plan.push(Step::commit(
        inventory,
        Commit::set(inventory.site.epoch, vec![set]),
    ));
    Ok(plan)
}

/// With `sync=standard` the intent log would leave its first block in the dataset for ever, and each mount after the
/// seal would rewrite its header, so that `written@N` would never be 0 (zil_destroy in module/zfs/zil.c; seen in the
/// lab). The seal makes the dataset inherit `sync`; by then everything that it seals is on disk.
const SYNC: (&str, &str) = ("sync", "disabled");

fn own(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn empty_skeleton(dataset: &DatasetName) -> Step {
    Step::Create {
        dataset: dataset.clone(),
        properties: own(&[("canmount", "noauto"), SYNC]),
    }
}

/// Plans the seal of a staged generation, which never changes afterwards. A track without a generation points to it
/// from then on, if this host can run it.
///
/// # Errors
/// [`PlanError`]: a replica, or a value that is too long.
pub fn seal(
    inventory: &Inventory,
    id: GenerationId,
    world: &World,
    seal: &Seal,
    track: &TrackName,
    os: Os,
) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let found = &inventory.site;
    let base = found.layout.base(id)?;
    let skeleton = found.layout.skeleton(id)?;
    let mut plan = Plan::of(inventory);
    let at = |half: &str| found.directory.join(half).join(id.to_string());
    plan.push(Step::unmount(base.clone(), at("basejail")));
    plan.push(Step::unmount(skeleton, at("newjail")));
    let before = inventory.tracks.get(track).and_then(|track| track.current);
    let native = world.runs_on(os);
    let set = if before.is_none() && native {
        let old = inventory.tracks.get(track).cloned().unwrap_or_default();
        Some(sets::set_track(
            inventory,
            track,
            Some(&Track {
                current: Some(id),
                ..old
            }),
        )?)
    } else {
        None
    };
    let mut epoch = Epoch::of(inventory);
    plan.push(Step::Commit {
        site: found.layout.site.clone(),
        commit: Commit::Seal {
            epoch: epoch.take(),
            generation: id,
            world: encode(&base, property::WORLD, world)?,
            sealed: encode(&base, property::SEALED, seal)?,
            track: set,
        },
    });
    let mut snapshots = generation::seals(&found.layout, id);
    let mut mounts = vec![(base, at("basejail"))];
    // An install that was killed after its seal has not taken the holds; this is the next command, which does.
    for earlier in inventory.generations.values().filter(|g| g.sealed()) {
        let Some(half) = &earlier.base else { continue };
        if !half.held {
            snapshots.extend(generation::seals(&found.layout, earlier.id));
        }
        if MountAs::Base.wanted(half.mounted, half.flags) {
            mounts.push((half.dataset.clone(), half.mountpoint.clone()));
        }
    }
    plan.push(Step::Hold { snapshots });
    plan.extend(generation::unmark(
        inventory,
        &mut epoch,
        inventory.generations.values(),
    ));
    plan.extend(
        mounts
            .into_iter()
            .map(|(dataset, at)| Step::mount(dataset, at, MountAs::Base)),
    );
    if let Some(generation) = before.or(native.then_some(id)) {
        plan.push(Step::Link {
            track: track.clone(),
            generation,
            directory: inventory.site.directory.clone(),
        });
    }
    Ok(plan)
}

/// Plans to roll both halves of a generation back to their sealed snapshots.
///
/// # Errors
/// [`PlanError`]: a replica; a generation that is not sealed; a jail that runs on it.
pub fn repair(observed: &Observed, id: GenerationId) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let generation = inventory.sealed(id).ok_or(PlanError::NotSealed(id))?;
    let mut runs = inventory.jails.keys().filter(|name| {
        matches!(observed.state(name), JailState::Running { base: Some(base), .. }
            if lookup::generation_of(inventory, &base) == Some(id))
    });
    if let Some(jail) = runs.next() {
        return Err(PlanError::InUse {
            generation: generation.display(),
            jail: jail.clone(),
        });
    }
    let mut plan = Plan::on(inventory);
    for half in [&generation.base, &generation.skeleton]
        .into_iter()
        .flatten()
    {
        plan.push(Step::unmount(half.dataset.clone(), half.mountpoint.clone()));
        plan.push(Step::Rollback {
            snapshot: half.dataset.at(&id.to_string())?,
        });
    }
    add_missing(&mut plan, inventory, generation);
    if let Some(half) = &generation.base {
        let mount = Step::mount(half.dataset.clone(), half.mountpoint.clone(), MountAs::Base);
        if !plan.has(&mount) {
            plan.push(mount);
        }
    }
    Ok(plan)
}

/// Plans what sealed generations may lack after a command was killed or refused: holds and mounts.
pub fn restore(observed: &Observed) -> Plan {
    let inventory = &observed.inventory;
    let mut plan = Plan::on(inventory);
    for generation in inventory.generations.values().filter(|g| g.sealed()) {
        add_missing(&mut plan, inventory, generation);
    }
    plan
}
