//! Creates jails for `create`, `clone` and `apply`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::{Address, AddressPool, Base, Inventory, JailConfig, Todo, encode, property};
use crate::name::{FlavourName, GenerationId, JailName, TrackName, WORDS};
use crate::plan::{
    Commit, Directory, Epoch, NewJail, Observed, Plan, PlanError, Step, fallback, generation,
    intent, lookup, steps,
};

/// The basejail that new jails run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The jails follow a track.
    Track(TrackName),
    /// The jails stay on a generation: number, `LABEL.N` or label.
    Pin(String),
}

/// ZFS's estimate for a clone and its property, in bytes: blocks × 16 KiB × 3 (zcp_synctask.c). The running total must
/// stay below 2 GiB and below the free space. It is also enough where programs cannot clone: the committing program
/// needs 192 KiB for each jail, after the clones have taken their space.
const CLONE_ESTIMATE: u64 = (144 + 96) * 1024;

/// Adds the steps that create jails from their configurations: the clones, of a generation or of a jail, and what is
/// left to do on the host. The caller must have cleared dead intents.
///
/// # Errors
/// [`PlanError`]: a generation that does not exist; a name or value that is too long; too little space by ZFS's
/// estimate.
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

/// Refuses jails for which there is too little space by ZFS's own estimate.
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

/// Returns the basejail of a choice, and the generation that a jail with it is made from.
///
/// # Errors
/// [`PlanError`]: a track or generation that does not exist; a track without a generation; a world of another system.
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
                // The observation does not always have all generations.
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
    // If the generation is missing, the error will be about the skeleton that the jails are made from.
    if let Some(generation) = inventory.sealed(id) {
        generation::ensure_native(generation, observed.os)?;
    }
    Ok((base, id))
}

/// Adds a flavour to the configuration of a new jail.
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

/// Takes this many addresses of a pool, the lowest free ones.
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

/// Refuses the name of a track, and a word of the command line.
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

/// Refuses a name that no jail has, if something else is in its way.
pub(super) fn free(observed: &Observed, name: &JailName) -> Result<(), PlanError> {
    not_in_use(&observed.inventory, name)?;
    free_directory(observed, name)
}

/// Refuses a name whose dataset exists but is not a jail, and the name of debris that stays because something was
/// created below it.
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
