//! The plans around a new generation: stage, seal, and the clearing of one that was not finished.

use std::collections::BTreeMap;

use crate::model::{Generation, Half, Inventory, Seal, Track, World, encode, property};
use crate::name::{GenerationId, TrackName};
use crate::plan::{Commit, MountAs, Plan, PlanError, Step, site, writable};

/// Plans the two datasets of a new generation, mounted and writable.
///
/// # Errors
/// [`PlanError`]: a replica, or a site whose name is too long.
pub fn stage(inventory: &Inventory) -> Result<(Plan, GenerationId), PlanError> {
    writable(inventory)?;
    let found = &inventory.site;
    let id = GenerationId(found.seq + 1);
    let mut plan = Plan::on(inventory);
    plan.push(Step::Commit {
        site: found.layout.site.clone(),
        commit: Commit::Stage {
            epoch: found.epoch,
            seq: found.seq,
        },
    });
    // What a kill after a seal left undone.
    for sealed in inventory.generations.values().filter(|g| g.sealed()) {
        let base = sealed.base.iter();
        for half in base.clone().filter(|half| !half.held) {
            debug_assert!(half.seal.is_some(), "it is sealed");
            plan.push(Step::Hold {
                snapshots: site::holds(&found.layout, sealed.id),
            });
        }
        plan.steps
            .extend(base.filter(|half| !half.mounted).map(|half| Step::Mount {
                dataset: half.dataset.clone(),
                at: half.mountpoint.clone(),
                how: MountAs::Base,
            }));
    }
    let base = found.layout.base(id)?;
    let skeleton = found.layout.skeleton(id)?;
    // Without `sync=disabled` the intent log leaves its first block in the dataset for ever, and
    // each mount after the seal rewrites its header: `written@N` would never be 0 (zil_destroy in
    // module/zfs/zil.c; seen in the lab). The seal inherits it; what it seals is on disk by then.
    let properties = |name: &str, value: &str| {
        [(name, value), ("sync", "disabled")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<BTreeMap<String, String>>()
    };
    plan.push(Step::Create {
        dataset: base.clone(),
        properties: properties("readonly", "off"),
    });
    plan.push(Step::Create {
        dataset: skeleton.clone(),
        properties: properties("canmount", "noauto"),
    });
    for (dataset, half) in [(base, "basejail"), (skeleton, "newjail")] {
        let at = found.directory.join(half).join(id.to_string());
        plan.push(Step::Mount {
            dataset,
            at,
            how: MountAs::Staged,
        });
    }
    Ok((plan, id))
}

/// Plans the seal of a staged generation, after which it never changes. A track that has no
/// generation yet points to it from then on.
///
/// # Errors
/// [`PlanError`]: a replica, or a value that is too long.
pub fn seal(
    inventory: &Inventory,
    id: GenerationId,
    world: &World,
    seal: &Seal,
    track: &TrackName,
) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let found = &inventory.site;
    let base = found.layout.base(id)?;
    let skeleton = found.layout.skeleton(id)?;
    let mut plan = Plan::default();
    let at = |half: &str| found.directory.join(half).join(id.to_string());
    plan.push(Step::Unmount {
        dataset: base.clone(),
        at: at("basejail"),
    });
    plan.push(Step::Unmount {
        dataset: skeleton,
        at: at("newjail"),
    });
    let before = inventory.tracks.get(track).and_then(|track| track.current);
    let set = if before.is_none() {
        let old = inventory.tracks.get(track).cloned().unwrap_or_default();
        Some(site::set_track(
            inventory,
            track,
            &Track {
                current: Some(id),
                ..old
            },
        )?)
    } else {
        plan.note(format!(
            "the track {track} stays where it is; `ezz create --pin {id}` uses the new generation"
        ));
        None
    };
    plan.push(Step::Commit {
        site: found.layout.site.clone(),
        commit: Commit::Seal {
            epoch: found.epoch,
            generation: id,
            world: encode(&base, property::WORLD, world)?,
            sealed: encode(&base, property::SEALED, seal)?,
            track: set,
        },
    });
    let mut snapshots = site::holds(&found.layout, id);
    let mut mounts = vec![(base, at("basejail"))];
    // An install that was killed after its seal did not come so far; this one is the next command.
    for earlier in inventory.generations.values().filter(|g| g.sealed()) {
        let Some(half) = &earlier.base else { continue };
        if !half.held {
            snapshots.extend(site::holds(&found.layout, earlier.id));
        }
        if !half.mounted {
            mounts.push((half.dataset.clone(), half.mountpoint.clone()));
        }
    }
    plan.push(Step::Hold { snapshots });
    plan.steps
        .extend(mounts.into_iter().map(|(dataset, at)| Step::Mount {
            dataset,
            at,
            how: MountAs::Base,
        }));
    plan.push(Step::Link {
        track: track.clone(),
        generation: before.unwrap_or(id),
    });
    Ok(plan)
}

/// Plans the clearing of a generation that was never sealed.
pub fn reap(generation: &Generation) -> Plan {
    let mut plan = Plan::default();
    for half in [&generation.skeleton, &generation.base]
        .into_iter()
        .flatten()
    {
        unmount_and_destroy(&mut plan, half);
    }
    plan
}

fn unmount_and_destroy(plan: &mut Plan, half: &Half) {
    plan.push(Step::Unmount {
        dataset: half.dataset.clone(),
        at: half.mountpoint.clone(),
    });
    plan.push(Step::RemoveDirectory {
        at: half.mountpoint.clone(),
    });
    plan.push(Step::Destroy {
        dataset: half.dataset.clone(),
    });
}
