//! What makes jails: shared by `create`, `clone` and `apply`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::{Address, AddressPool, Base, Inventory, JailConfig, Todo, encode, property};
use crate::name::{FlavourName, GenerationId, JailName, TrackName, WORDS};
use crate::plan::{
    Commit, Directory, Epoch, NewJail, Observed, Plan, PlanError, Step, fallback, generation,
    intent, lookup, steps,
};

/// Which basejail the new jails are to run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Follow a track.
    Track(TrackName),
    /// Stay on a generation: number, `LABEL.N` or label.
    Pin(String),
}

/// What ZFS reckons for a clone and its property, in bytes: blocks × 16 KiB × 3
/// (zcp_synctask.c); the running total must stay below 2 GiB and the free space. Where programs
/// cannot clone it is enough too: the committing program asks for 192 KiB each, once the clones
/// have taken theirs.
const CLONE_ESTIMATE: u64 = (144 + 96) * 1024;

/// Adds the steps that make jails from their configurations: the clones, of a generation or of a jail, and
/// what is left to do.
/// Dead intents must have been cleared.
///
/// # Errors
/// [`PlanError`]: no such generation, a name or value too long, no space by ZFS's estimate.
pub fn make(
    plan: &mut Plan,
    observed: &Observed,
    epoch: &mut Epoch,
    jails: &[(JailName, JailConfig)],
    source: Option<&JailName>,
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let layout = &inventory.site.layout;
    let snapshot = source.map(|source| layout.clone_snapshot(source, epoch.batch()));
    let snapshot = snapshot.transpose()?;
    room(inventory, jails)?;
    let mut new = Vec::with_capacity(jails.len());
    for (name, config) in jails {
        if source.is_none() {
            lookup::sealed_for(inventory, name, config.skel)?;
        }
        let dataset = layout.jail(name)?;
        new.push(NewJail {
            name: name.clone(),
            origin: match &snapshot {
                Some(snapshot) => snapshot.clone(),
                None => layout.origin(config.kind, config.skel)?,
            },
            config: encode(&dataset, property::JAIL, config)?,
        });
    }
    if observed.sync_clone {
        let epoch = epoch.take();
        plan.push(Step::Commit {
            site: layout.site.clone(),
            commit: Commit::Create {
                epoch,
                jails: new,
                intents: intent::intents(layout, epoch, jails, source)?,
                snapshot,
            },
        });
    } else {
        fallback::make_jails(plan, inventory, epoch, jails, new, source)?;
    }
    steps::finish_new(plan, inventory, epoch, jails)
}

/// Refuses what ZFS's own estimate has no room for.
pub(super) fn room(
    inventory: &Inventory,
    jails: &[(JailName, JailConfig)],
) -> Result<(), PlanError> {
    let need = CLONE_ESTIMATE * jails.len() as u64;
    if need <= inventory.site.available {
        return Ok(());
    }
    Err(PlanError::Space {
        what: match jails {
            [(name, _)] => format!("the jail {name}"),
            _ => format!("cloning {} jails", jails.len()),
        },
        need,
        have: inventory.site.available,
    })
}

/// The basejail of a choice, and the generation that a jail of it is made from.
///
/// # Errors
/// [`PlanError`]: no such track or generation; a track without one; a world of another system.
pub(super) fn choose(
    observed: &Observed,
    choice: &Choice,
) -> Result<(Base, GenerationId), PlanError> {
    let inventory = &observed.inventory;
    let (base, id) = match choice {
        Choice::Pin(text) => {
            let id = inventory.find_generation(text)?.id;
            (Base::Pin(id), id)
        }
        Choice::Track(name) => {
            let track = inventory.tracks.get(name).ok_or_else(|| {
                // Which generations there are is not always looked at.
                match inventory.site.seq {
                    0 => PlanError::NoWorld(inventory.site.layout.site.clone()),
                    _ => PlanError::NoTrack(name.clone()),
                }
            })?;
            let id = track
                .current
                .ok_or_else(|| PlanError::EmptyTrack(name.clone()))?;
            (Base::Track(name.clone()), id)
        }
    };
    // That it is missing is said of the skeleton that the jails are made from.
    if let Some(generation) = inventory.sealed(id) {
        generation::ensure_native(generation, observed.os)?;
    }
    Ok((base, id))
}

/// Adds a flavour to what a new jail is to get.
///
/// # Errors
/// [`PlanError::NoFlavour`].
pub(super) fn with_flavour(
    observed: &Observed,
    config: &mut JailConfig,
    flavour: &FlavourName,
) -> Result<(), PlanError> {
    if !observed.flavours.contains(flavour) {
        return Err(PlanError::NoFlavour(flavour.clone()));
    }
    config.flavours.push(flavour.clone());
    config.todo.push(Todo::Flavour(flavour.clone()));
    Ok(())
}

/// Takes so many addresses of a pool, the lowest that are free.
///
/// # Errors
/// [`PlanError::PoolTooSmall`].
pub(super) fn take(
    pool: &AddressPool,
    taken: &mut BTreeSet<IpAddr>,
    wanted: usize,
) -> Result<Vec<Address>, PlanError> {
    let free: Vec<Address> = pool.free(taken).take(wanted).collect();
    if free.len() < wanted {
        return Err(PlanError::PoolTooSmall {
            pool: pool.to_string(),
            wanted,
            free: free.len(),
        });
    }
    taken.extend(free.iter().map(|address| address.ip));
    Ok(free)
}

/// Refuses the name of a track.
pub(super) fn no_track(inventory: &Inventory, name: &JailName) -> Result<(), PlanError> {
    if WORDS.contains(&name.as_str()) && !inventory.jails.contains_key(name) {
        return Err(PlanError::JailIsWord(name.clone()));
    }
    let track = TrackName::parse(name.as_str());
    if track.is_ok_and(|track| inventory.tracks.contains_key(&track)) {
        return Err(PlanError::JailIsTrack(name.clone()));
    }
    Ok(())
}

/// Refuses a name that no jail has, and that something else is in the way of.
pub(super) fn free(observed: &Observed, name: &JailName) -> Result<(), PlanError> {
    not_in_use(&observed.inventory, name)?;
    free_directory(observed, name)
}

/// Refuses a name that a dataset has which is no jail, and debris that stays because others made
/// something below it.
fn not_in_use(inventory: &Inventory, name: &JailName) -> Result<(), PlanError> {
    let dataset = inventory.site.layout.jail(name)?;
    let mut strangers = inventory.strangers.iter();
    if let Some(found) = strangers.find(|found| found.dataset == dataset.as_str()) {
        return Err(PlanError::Stranger {
            dataset,
            why: found.why.clone(),
        });
    }
    match inventory.debris.get(name) {
        Some(debris) if !debris.below.is_empty() => Err(PlanError::Foreign {
            dataset: debris.jail.dataset.clone(),
            list: debris.below.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

fn free_directory(observed: &Observed, name: &JailName) -> Result<(), PlanError> {
    let why = match observed.directories.get(name) {
        None | Some(Directory::Free) => return Ok(()),
        Some(Directory::Occupied) => "it is not an empty directory",
        Some(Directory::Mounted) => "something else is mounted there",
    };
    let at = observed.inventory.site.directory.join(name.as_str());
    Err(PlanError::Directory {
        jail: name.clone(),
        at,
        why,
    })
}
