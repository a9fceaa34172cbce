//! Reads the site directory: whatever is in the way of jails, and the flavours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::ObserveError;
use crate::model::{FLAVOURS, Inventory, Mount};
use crate::name::{FlavourName, JailName};
use crate::plan::Directory;
use crate::ports::Zfs;

/// Returns the state of the directories of the named jails. For a jail that does not exist yet, it is what exists at
/// its path. For one that exists, it is whether a foreign mount lies on the directory or, on Linux, below it; on
/// FreeBSD a running jail has mounts of its own below it.
///
/// # Errors
/// [`ObserveError::Zfs`] if the mounts cannot be read.
pub fn directories(
    zfs: &dyn Zfs,
    inventory: &Inventory,
    asked: &BTreeSet<JailName>,
) -> Result<BTreeMap<JailName, Directory>, ObserveError> {
    if asked.is_empty() {
        return Ok(BTreeMap::new());
    }
    let failed = |source| ObserveError::Zfs {
        site: inventory.site.layout.site.to_string(),
        source,
    };
    // Only existing jails need the mount table.
    let mounts = match asked.iter().any(|name| inventory.jails.contains_key(name)) {
        true => zfs.mounts().map_err(failed)?,
        false => Vec::new(),
    };
    let state = |name: &JailName| -> Result<Option<Directory>, ObserveError> {
        match inventory.jails.get(name) {
            Some(jail) => {
                let dataset = jail.dataset.as_str();
                let on = |mount: &Mount| {
                    mount.target == jail.mountpoint
                        || cfg!(target_os = "linux") && mount.target.starts_with(&jail.mountpoint)
                };
                let over = mounts
                    .iter()
                    .any(|mount| on(mount) && !mount.belongs_to(dataset));
                Ok(over.then_some(Directory::Mounted))
            }
            None => {
                let at = inventory.site.directory.join(name.as_str());
                let debris = inventory.debris.get(name);
                Ok(Some(match zfs.mounted_at(&at).map_err(failed)? {
                    // The debris is unmounted before it is destroyed.
                    Some(mount)
                        if debris.is_some_and(|d| mount.source == d.jail.dataset.as_str()) =>
                    {
                        Directory::Free
                    }
                    Some(_) => Directory::Mounted,
                    None => directory(&at),
                }))
            }
        }
    };
    let mut found = BTreeMap::new();
    for name in asked {
        found.extend(state(name)?.map(|state| (name.clone(), state)));
    }
    Ok(found)
}

/// Returns the flavours of a site: the directories below `flavours`. There are none if the site is not mounted.
pub fn flavours(inventory: &Inventory) -> BTreeSet<FlavourName> {
    let at = inventory.site.directory.join(FLAVOURS);
    let entries = std::fs::read_dir(at).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .filter_map(|entry| FlavourName::parse(entry.file_name().to_str()?).ok())
        .collect()
}

fn directory(at: &Path) -> Directory {
    match std::fs::symlink_metadata(at) {
        Err(_) => Directory::Free,
        Ok(found) if !found.is_dir() => Directory::Occupied,
        Ok(_) => match std::fs::read_dir(at) {
            Ok(mut entries) => match entries.next() {
                None => Directory::Free,
                Some(_) => Directory::Occupied,
            },
            Err(_) => Directory::Occupied,
        },
    }
}
