//! The plan of `create`: clones in one program, then mounts and what no program can do.

mod addresses;
mod request;

use std::collections::BTreeSet;

use crate::model::{Inventory, JailConfig, JailState, Todo, encode, property};
use crate::name::{JailName, TrackName, WORDS};
use crate::plan::{
    Commit, Directory, Epoch, MountAs, NewJail, Observed, Plan, PlanError, Step, delegated, delete,
    intent, site, writable,
};

pub(super) use addresses::take;
use addresses::{addressed, free_addresses};
pub use request::{Choice, Of, Request};
pub(super) use request::{choose, with_flavour};
use request::{is_same, template, with_name};

/// Most jails in one program (design.md §5).
pub const MOST_IN_ONE: usize = 1000;

/// Most jails that can be all or none.
pub const MOST_ATOMIC: usize = 2000;

/// What ZFS reckons for a clone and its property, in bytes: blocks × 16 KiB × 3
/// (zcp_synctask.c); the running total must stay below 2 GiB and the free space. Where programs
/// cannot clone it is enough too: the committing program asks for 192 KiB each, once the clones
/// have taken theirs.
const CLONE_ESTIMATE: u64 = (144 + 96) * 1024;

/// Plans the creation of jails.
///
/// # Errors
/// [`PlanError`]: a name that is taken, reserved or too long; no such base; an address in use;
/// not enough space by ZFS's own estimate; a replica.
pub fn create(observed: &Observed, request: &Request) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    if request.names.len() > 1 {
        if request.hostname.is_some() {
            return Err(PlanError::OnlyOne("a host name"));
        }
        if !request.addresses.is_empty() {
            return Err(PlanError::OnlyOne("an address"));
        }
        if !request.datasets.is_empty() {
            return Err(PlanError::OnlyOne("a dataset"));
        }
    }
    let config = template(observed, request)?;
    free_addresses(inventory, request)?;
    for dataset in &request.datasets {
        delegated::may_have(inventory, request.names.first(), dataset, |_| None)?;
    }
    if request.atomic && request.names.len() > MOST_ATOMIC {
        return Err(PlanError::NotAtomic {
            jails: request.names.len(),
            most: MOST_ATOMIC,
        });
    }
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    let mut seen = BTreeSet::new();
    let mut debris = Vec::new();
    let mut made = BTreeSet::new();
    let mut taken = Vec::new();
    for name in &request.names {
        if !seen.insert(name) {
            return Err(PlanError::Twice(name.clone()));
        }
        no_track(inventory, name)?;
        match inventory.jails.get(name) {
            Some(jail) => match &jail.config {
                Ok(found) if found.todo.is_empty() => {
                    if is_same(inventory, jail, &with_name(&config, request, name), request) {
                        made.insert(name);
                    } else {
                        taken.push(name.clone());
                    }
                }
                Ok(_) => debris.push(jail),
                Err(why) => {
                    return Err(PlanError::Stranger {
                        dataset: jail.dataset.clone(),
                        why: why.clone(),
                    });
                }
            },
            None => {
                free(observed, name)?;
            }
        }
    }
    // Jails that are there already are refused, unless this same command was cut off after it had
    // made them: then something is missing that comes after that.
    let cut_off = |name: &&&JailName| {
        let mounted = inventory.jails.get(**name).is_some_and(|jail| jail.mounted);
        !mounted || request.start && !matches!(observed.state(name), JailState::Running { .. })
    };
    let complete = debris.is_empty() && made.iter().find(cut_off).is_none();
    if complete || !taken.is_empty() {
        taken.extend(made.iter().map(|name| (*name).clone()));
    }
    match &mut taken[..] {
        [] => {}
        [one] => return Err(PlanError::JailExists(one.clone())),
        several => {
            several.sort();
            return Err(PlanError::JailsExist(several.to_vec()));
        }
    }
    intent::clear(&mut plan, inventory, &mut epoch);
    if !debris.is_empty() {
        for jail in &debris {
            plan.note(format!(
                "{} was never finished: it is made again",
                jail.name
            ));
        }
        delete::destroy(&mut plan, inventory, &mut epoch, &debris, Vec::new());
    }
    let new = request.names.iter().filter(|name| !made.contains(name));
    let new: Vec<(JailName, JailConfig)> = new
        .map(|name| (name.clone(), with_name(&config, request, name)))
        .collect();
    // Also if they are several programs: some of them would be made, and no more.
    room(inventory, &new)?;
    let new = addressed(inventory, request, new)?;
    for chunk in new.chunks(if request.atomic {
        MOST_ATOMIC
    } else {
        MOST_IN_ONE
    }) {
        make(&mut plan, observed, &mut epoch, chunk, request.of.source())?;
    }
    for name in &made {
        plan.note(format!("{name} exists already: what it lacks is done"));
        let jail = &inventory.jails[*name];
        plan.push(Step::Derive {
            jail: (*name).clone(),
        });
        if MountAs::Jail.wanted(jail.mounted, jail.flags) {
            plan.push(Step::Mount {
                dataset: jail.dataset.clone(),
                at: jail.mountpoint.clone(),
                how: MountAs::Jail,
            });
        }
    }
    if request.start {
        super::run::start_new(&mut plan, inventory, &config, &request.names)?;
    }
    Ok(plan)
}

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
        if source.is_none() && inventory.sealed(config.skel).is_none() {
            return Err(PlanError::NoBase {
                jail: name.clone(),
                generation: config.skel,
            });
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
        intent::make(plan, inventory, epoch, jails, new, source)?;
    }
    finish(plan, inventory, epoch, jails)
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

/// Adds the steps that finish jails whose clones are there: derived files, mounts, what is in
/// `todo`, and the program that says that nothing is left. All of it can be done twice.
///
/// # Errors
/// [`PlanError`]: a name or value too long.
pub fn finish(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    jails: &[(JailName, JailConfig)],
) -> Result<(), PlanError> {
    let layout = &inventory.site.layout;
    // Before the mounts: what is mounted has all that is derived.
    plan.steps.extend(
        jails
            .iter()
            .map(|(name, _)| Step::Derive { jail: name.clone() }),
    );
    // Side by side: they are many, and none waits for another.
    for (name, _) in jails {
        plan.push(Step::Mount {
            dataset: layout.jail(name)?,
            at: inventory.site.directory.join(name.as_str()),
            how: MountAs::Jail,
        });
    }
    let clones = jails
        .iter()
        .filter(|(_, config)| config.todo.contains(&Todo::Identity));
    plan.steps
        .extend(clones.map(|(name, _)| Step::ClearIdentity { jail: name.clone() }));
    for (name, config) in jails {
        for todo in &config.todo {
            if let Todo::Flavour(flavour) = todo {
                let (jail, flavour) = (name.clone(), flavour.clone());
                plan.push(Step::Flavour { jail, flavour });
            }
        }
    }
    let mut sets = Vec::new();
    for (name, config) in jails {
        let dataset = layout.jail(name)?;
        for todo in &config.todo {
            match todo {
                Todo::Quota(bytes) => plan.push(Step::Property {
                    dataset: dataset.clone(),
                    property: "quota".to_owned(),
                    value: bytes.to_string(),
                }),
                // Those of all jails side by side, above.
                Todo::Identity | Todo::Flavour(_) => {}
            }
        }
        if !config.todo.is_empty() {
            let ready = JailConfig {
                todo: Vec::new(),
                ..config.clone()
            };
            sets.push(site::set_jail(&dataset, config, &ready)?);
        }
    }
    if !sets.is_empty() {
        plan.push(Step::Commit {
            site: layout.site.clone(),
            commit: Commit::Set {
                epoch: epoch.take(),
                sets,
                sealed: Vec::new(),
                adopt: false,
            },
        });
    }
    Ok(())
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

/// Refuses a name that a dataset has which is no jail, and debris that stays because somebody made
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
