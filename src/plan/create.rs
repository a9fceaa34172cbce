//! The plan of `create`: clones in one program, then mounts and what no program can do.

use std::collections::BTreeSet;

use crate::model::{Address, Base, Inventory, JailConfig, Kind, Network, Todo, encode, property};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::{
    Commit, Directory, Epoch, Expect, MountAs, NewJail, Observed, Plan, PlanError, Set, Step,
    delete, writable,
};

/// Most jails in one program (design.md §5).
pub const MOST_IN_ONE: usize = 1000;

/// What ZFS reckons for a clone and its property, in bytes: blocks × 16 KiB × 3
/// (zcp_synctask.c); the running total must stay below 2 GiB and the free space.
const CLONE_ESTIMATE: u64 = (144 + 96) * 1024;

/// Which basejail the new jails are to run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Follow a track.
    Track(TrackName),
    /// Stay on a generation: number, `LABEL.N` or label.
    Pin(String),
}

/// What `create` was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// The jails, in order.
    pub names: Vec<JailName>,
    /// Thin or thick.
    pub kind: Kind,
    /// On which basejail.
    pub base: Choice,
    /// Host name; the jail's name if none.
    pub hostname: Option<String>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Network.
    pub network: Network,
    /// Quota in bytes.
    pub quota: Option<u64>,
    /// Whether to start them.
    pub start: bool,
}

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
    }
    let (base, generation) = choose(inventory, &request.base)?;
    free_addresses(inventory, request)?;
    let mut plan = Plan::default();
    let mut epoch = Epoch::of(inventory);
    let mut seen = BTreeSet::new();
    let mut debris = Vec::new();
    for name in &request.names {
        if !seen.insert(name) {
            return Err(PlanError::Twice(name.clone()));
        }
        if TrackName::parse(name.as_str()).is_ok_and(|track| inventory.tracks.contains_key(&track))
        {
            return Err(PlanError::JailIsTrack(name.clone()));
        }
        match inventory.jails.get(name) {
            Some(jail) => match &jail.config {
                Ok(config) if config.todo.is_empty() => {
                    return Err(PlanError::JailExists(name.clone()));
                }
                Ok(_) => debris.push(jail),
                Err(why) => {
                    return Err(PlanError::Stranger {
                        dataset: jail.dataset.clone(),
                        why: why.clone(),
                    });
                }
            },
            None => free_directory(observed, name)?,
        }
    }
    if !debris.is_empty() {
        for jail in &debris {
            plan.note(format!(
                "{} was never finished: it is made again",
                jail.name
            ));
        }
        delete::destroy(&mut plan, inventory, &mut epoch, &debris);
    }
    let config = JailConfig {
        kind: request.kind,
        base,
        skel: generation,
        hostname: String::new(),
        addresses: request.addresses.clone(),
        network: request.network,
        todo: request.quota.map(Todo::Quota).into_iter().collect(),
        other: serde_json::Map::new(),
    };
    for chunk in request.names.chunks(MOST_IN_ONE) {
        let jails: Vec<(JailName, JailConfig)> = chunk
            .iter()
            .map(|name| {
                let hostname = request
                    .hostname
                    .clone()
                    .unwrap_or_else(|| name.as_str().to_owned());
                (
                    name.clone(),
                    JailConfig {
                        hostname,
                        ..config.clone()
                    },
                )
            })
            .collect();
        make(&mut plan, inventory, &mut epoch, &jails)?;
    }
    if request.start {
        super::run::start_new(&mut plan, inventory, &config, &request.names)?;
    }
    Ok(plan)
}

/// Adds the steps that make jails from their configurations: clone, mount, what is left to do.
///
/// # Errors
/// [`PlanError`]: no such generation, a name or value too long, no space by ZFS's estimate.
pub fn make(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    jails: &[(JailName, JailConfig)],
) -> Result<(), PlanError> {
    let layout = &inventory.site.layout;
    let need = CLONE_ESTIMATE * jails.len() as u64;
    if need > inventory.site.available {
        return Err(PlanError::Space {
            what: format!("cloning {} jails", jails.len()),
            need,
            have: inventory.site.available,
        });
    }
    let mut new = Vec::with_capacity(jails.len());
    let mut sets = Vec::new();
    let mut after = Vec::new();
    for (name, config) in jails {
        if inventory.sealed(config.skel).is_none() {
            return Err(PlanError::NoBase {
                jail: name.clone(),
                generation: config.skel,
            });
        }
        let dataset = layout.jail(name)?;
        let origin = match config.kind {
            Kind::Thin => layout.skeleton_seal(config.skel)?,
            Kind::Thick => layout.base_seal(config.skel)?,
        };
        let text = encode(&dataset, property::JAIL, config)?;
        after.push(Step::Mount {
            dataset: dataset.clone(),
            at: inventory.site.directory.join(name.as_str()),
            how: MountAs::Jail,
        });
        for todo in &config.todo {
            match todo {
                Todo::Quota(bytes) => after.push(Step::Property {
                    dataset: dataset.clone(),
                    property: "quota".to_owned(),
                    value: bytes.to_string(),
                }),
            }
        }
        if !config.todo.is_empty() {
            let ready = JailConfig {
                todo: Vec::new(),
                ..config.clone()
            };
            sets.push(Set {
                dataset: dataset.to_string(),
                property: property::JAIL.to_owned(),
                expect: Expect::Value(text.clone()),
                value: Some(encode(&dataset, property::JAIL, &ready)?),
            });
        }
        new.push(NewJail {
            name: name.clone(),
            origin,
            config: text,
        });
    }
    let site = layout.site.clone();
    plan.push(Step::Commit {
        site: site.clone(),
        commit: Commit::Create {
            epoch: epoch.take(),
            jails: new,
        },
    });
    plan.steps.extend(after);
    if !sets.is_empty() {
        plan.push(Step::Commit {
            site,
            commit: Commit::Set {
                epoch: epoch.take(),
                sets,
                adopt: false,
            },
        });
    }
    plan.steps.extend(
        jails
            .iter()
            .map(|(name, _)| Step::Derive { jail: name.clone() }),
    );
    Ok(())
}

fn choose(inventory: &Inventory, choice: &Choice) -> Result<(Base, GenerationId), PlanError> {
    match choice {
        Choice::Pin(text) => {
            let id = inventory.find_generation(text)?.id;
            Ok((Base::Pin(id), id))
        }
        Choice::Track(name) => {
            let track = inventory
                .tracks
                .get(name)
                .ok_or_else(|| PlanError::NoTrack(name.clone()))?;
            let id = track
                .current
                .ok_or_else(|| PlanError::EmptyTrack(name.clone()))?;
            Ok((Base::Track(name.clone()), id))
        }
    }
}

fn free_addresses(inventory: &Inventory, request: &Request) -> Result<(), PlanError> {
    for address in &request.addresses {
        for (owner, jail) in &inventory.jails {
            let theirs = jail
                .config
                .as_ref()
                .map(|config| config.addresses.as_slice());
            let taken = theirs.is_ok_and(|list| list.iter().any(|other| other.ip == address.ip));
            if taken && !request.names.contains(owner) {
                return Err(PlanError::AddressTaken {
                    address: address.to_string(),
                    owner: owner.clone(),
                });
            }
        }
    }
    Ok(())
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
