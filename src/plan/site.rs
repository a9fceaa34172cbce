//! The plans of `init`, `track` and the adoption of a replica.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::{Inventory, Layout, Track, property};
use crate::name::{DatasetName, JailName, TrackName};
use crate::plan::{
    Commit, Expect, MountAs, Plan, PlanError, Set, Step, generation, lookup, sets, track, writable,
};

/// The request of `init`, with what was found on the host.
#[derive(Debug, Clone)]
pub struct Init {
    /// The datasets of the site.
    pub layout: Layout,
    /// The site directory.
    pub directory: PathBuf,
    /// The id of the new site.
    pub id: String,
    /// Those of the site's four datasets that exist.
    pub existing: Vec<DatasetName>,
    /// The missing ancestors of the site, which are created first, outermost first.
    pub parents: Vec<DatasetName>,
    /// Whether the site already has a format.
    pub initialised: bool,
    /// The directory at which an initialised site should be mounted, if it is not mounted or is open to others: the
    /// power may fail between the commit of `init` and its last step.
    pub unready: Option<PathBuf>,
    /// Properties for ACLs and extended attributes, which depend on the host's kind of ZFS.
    pub native: BTreeMap<String, String>,
    /// Whether `snapdir=disabled` is known (OpenZFS 2.3 and later).
    pub snapdir_disabled: bool,
}

/// Plans a new site, or finishes one that an interrupted `init` has begun.
pub fn init(request: &Init) -> Plan {
    let Init {
        layout, directory, ..
    } = request;
    let mut plan = Plan::default();
    if request.initialised {
        plan.note(format!("{} is already a site", layout.site));
        plan.extend(
            request
                .unready
                .iter()
                .map(|at| Step::mount(layout.site.clone(), at.clone(), MountAs::Site)),
        );
        return plan;
    }
    let directory = directory.to_string_lossy().into_owned();
    let own = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    for parent in &request.parents {
        plan.push(Step::Create {
            dataset: parent.clone(),
            properties: own(&[("canmount", "off"), ("mountpoint", "none")]),
        });
    }
    let mut site = own(&[
        ("mountpoint", &directory),
        ("devices", "off"),
        ("atime", "off"),
    ]);
    site.extend(request.native.clone());
    let mut basejail = own(&[
        ("canmount", "off"),
        ("readonly", "on"),
        ("com.sun:auto-snapshot", "false"),
    ]);
    if request.snapdir_disabled {
        basejail.insert("snapdir".to_owned(), "disabled".to_owned());
    }
    let newjail = own(&[("canmount", "off"), ("com.sun:auto-snapshot", "false")]);
    let jails = own(&[("canmount", "off"), ("mountpoint", &directory)]);
    let own = [
        (&layout.site, site),
        (&layout.basejail, basejail),
        (&layout.newjail, newjail),
        (&layout.jails, jails),
    ];
    // A dataset is created in one transaction and gets its properties in the next: after a power failure it may exist
    // without them. The site itself comes last, because its mountpoint moves the mounts of the others.
    for (dataset, properties) in own.iter().rev() {
        if request.existing.contains(dataset) {
            plan.extend(properties.iter().map(|(property, value)| Step::Property {
                dataset: (*dataset).clone(),
                property: property.clone(),
                value: value.clone(),
            }));
        }
    }
    for (dataset, properties) in own {
        if !request.existing.contains(dataset) {
            plan.push(Step::Create {
                dataset: dataset.clone(),
                properties,
            });
        }
    }
    plan.push(Step::Commit {
        site: layout.site.clone(),
        commit: Commit::Init {
            id: request.id.clone(),
        },
    });
    plan.push(Step::mount(
        layout.site.clone(),
        request.directory.clone(),
        MountAs::Site,
    ));
    plan
}

/// Plans a new track, with or without a generation.
///
/// # Errors
/// [`PlanError`]: the track exists at another generation, a jail has the name, or the generation does not exist.
pub fn track_create(
    inventory: &Inventory,
    name: &TrackName,
    generation: Option<&str>,
) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let current = match generation {
        Some(text) => Some(inventory.find_generation(text)?.id),
        None => None,
    };
    if JailName::parse(name.as_str()).is_ok_and(|jail| inventory.jails.contains_key(&jail)) {
        return Err(PlanError::TrackIsJail(name.clone()));
    }
    let mut plan = Plan::on(inventory);
    if let Some(track) = inventory.tracks.get(name) {
        if current.is_some() && track.current != current {
            return Err(PlanError::TrackExists(name.clone()));
        }
        plan.note(format!("the track {name} already exists"));
        // The link may be missing if an earlier command was killed.
        plan.extend(track.current.map(|generation| Step::Link {
            track: name.clone(),
            generation,
            directory: inventory.site.directory.clone(),
        }));
        return Ok(plan);
    }
    let track = Track {
        current,
        ..Track::default()
    };
    let sets = vec![sets::set_track(inventory, name, Some(&track))?];
    let sealed = current.map(|id| generation::seals(&inventory.site.layout, id));
    plan.push(Step::commit(
        inventory,
        Commit::set_if_sealed(inventory.site.epoch, sets, sealed.unwrap_or_default()),
    ));
    if let Some(generation) = current {
        plan.push(Step::Link {
            track: name.clone(),
            generation,
            directory: inventory.site.directory.clone(),
        });
    }
    Ok(plan)
}

/// Plans to delete a track. Its generations stay; `prune` destroys those that nothing else needs. After an interrupted
/// deletion only the link may be left, which is then removed.
///
/// # Errors
/// [`PlanError`]: a replica; a track that does not exist; a roll-out of the track; jails that follow it.
pub fn track_delete(
    inventory: &Inventory,
    name: &TrackName,
    link: bool,
) -> Result<Plan, PlanError> {
    writable(inventory)?;
    let mut plan = Plan::on(inventory);
    let unlink = Step::Unlink {
        track: name.clone(),
        directory: inventory.site.directory.clone(),
    };
    if link && !inventory.tracks.contains_key(name) {
        plan.note(format!("the deletion of the track {name} was interrupted"));
        plan.push(unlink);
        return Ok(plan);
    }
    lookup::track(inventory, name)?;
    lookup::ensure_no_rollout(inventory, name)?;
    let jails: Vec<JailName> = lookup::followers(inventory, name).cloned().collect();
    if !jails.is_empty() {
        return Err(PlanError::TrackFollowed {
            track: name.clone(),
            jails,
        });
    }
    let sets = track::gone(inventory, name)?;
    plan.push(Step::commit(
        inventory,
        Commit::set(inventory.site.epoch, sets),
    ));
    plan.push(unlink);
    Ok(plan)
}

/// The request to adopt a replica, with what was found on the pool.
#[derive(Debug, Clone)]
pub struct Adopt {
    /// Every `ezz:*` property of the site's own datasets and sealed snapshots that was received: dataset, property,
    /// value.
    pub received: Vec<(String, String, String)>,
    /// The new id of the site. It differs from the received one, because locks and the run directories of jails are
    /// named by the id, and the original site may be on the same host.
    pub id: String,
    /// The new site directory; `None` keeps the received one.
    pub directory: Option<PathBuf>,
}

/// Plans the adoption of a replica: every received property is set locally, and the holds, which a stream does not
/// contain, are taken again.
pub fn adopt(inventory: &Inventory, request: &Adopt) -> Plan {
    let site = &inventory.site;
    let layout = &site.layout;
    let mut plan = Plan::default();
    if !site.replica {
        plan.note(format!("{} is not a replica", layout.site));
        return plan;
    }
    // The commit comes last: if the command is interrupted before it, the site is still a replica, and can be adopted
    // again.
    if let Some(directory) = &request.directory {
        for dataset in [&layout.site, &layout.jails] {
            plan.push(Step::Property {
                dataset: dataset.clone(),
                property: "mountpoint".to_owned(),
                value: directory.to_string_lossy().into_owned(),
            });
        }
    }
    let snapshots = inventory
        .generations
        .values()
        .filter(|generation| generation.sealed())
        .flat_map(|generation| generation::seals(layout, generation.id))
        .collect();
    plan.push(Step::Hold { snapshots });
    // The format is set last: a signal can stop the program between two of its changes, and a site with a local format
    // is no longer a replica.
    let is_format =
        |name: &str, dataset: &str| name == property::FORMAT && *dataset == layout.site.to_string();
    let (last, first): (Vec<_>, Vec<_>) = request
        .received
        .iter()
        .filter(|(_, name, _)| name != property::EPOCH)
        .partition(|(dataset, name, _)| is_format(name, dataset));
    let sets = first
        .into_iter()
        .chain(last)
        .map(|(dataset, name, value)| {
            let own = name == property::ID && *dataset == layout.site.to_string();
            Set {
                dataset: dataset.clone(),
                property: name.clone(),
                expect: Expect::Any,
                value: Some(if own { &request.id } else { value }.clone()),
            }
        })
        .collect();
    plan.push(Step::commit(
        inventory,
        Commit::Set {
            epoch: site.epoch,
            sets,
            sealed: Vec::new(),
            adopt: true,
        },
    ));
    plan
}
