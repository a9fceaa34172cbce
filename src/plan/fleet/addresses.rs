//! Assigns the addresses of a fleet's jails: those that the file gives, those of the pools that the jails already have,
//! and otherwise the lowest free ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::fleet::{At, FleetError, Wanted};
use crate::model::{Address, AddressPool, Inventory};
use crate::name::JailName;
use crate::plan::new;

/// A pool, and the jails that lack an address of it, each with the position of that address.
type Lacking<'a> = (&'a At<AddressPool>, Vec<(&'a JailName, usize)>);

/// Returns the addresses of each jail in the file; `gone` are jails whose addresses become free.
///
/// # Errors
/// [`FleetError`]: an address that another jail has; a pool that is too small.
pub(super) fn assign(
    inventory: &Inventory,
    wanted: &BTreeMap<&JailName, &Wanted>,
    gone: &BTreeSet<JailName>,
) -> Result<BTreeMap<JailName, Vec<Address>>, FleetError> {
    let mut owners: BTreeMap<IpAddr, &JailName> = BTreeMap::new();
    for (name, jail) in &inventory.jails {
        let said = wanted.get(name).is_some_and(|it| it.names_addresses());
        if !gone.contains(name) && !said {
            let theirs = jail.config.iter().flat_map(|config| &config.addresses);
            owners.extend(theirs.map(|address| (address.ip, name)));
        }
    }
    for (name, jail) in wanted {
        for At { value, place } in jail.addresses.iter().flatten() {
            if let Some(owner) = owners.insert(value.ip, name) {
                let what = format!("the address {} already belongs to {owner}", value.ip);
                return Err(FleetError::new(*place, what));
            }
        }
    }
    let mut assigned: BTreeMap<JailName, Vec<Option<Address>>> = BTreeMap::new();
    let mut lacking: Vec<Lacking<'_>> = Vec::new();
    for (name, jail) in wanted {
        let found = inventory.jails.get(*name);
        let has: &[Address] = match found.map(|jail| &jail.config) {
            Some(Ok(config)) => &config.addresses,
            Some(Err(_)) | None => &[],
        };
        let mut slots = Vec::new();
        for (index, pool) in jail.pools.iter().flatten().enumerate() {
            let kept = has
                .iter()
                .find(|a| pool.value.holds(a.ip) && !owners.contains_key(&a.ip));
            if let Some(kept) = kept {
                owners.insert(kept.ip, name);
            } else {
                match lacking.iter_mut().find(|(of, _)| of.value == pool.value) {
                    Some((_, jails)) => jails.push((name, index)),
                    None => lacking.push((pool, vec![(name, index)])),
                }
            }
            slots.push(kept.cloned());
        }
        assigned.insert((*name).clone(), slots);
    }
    let mut taken: BTreeSet<IpAddr> = owners.into_keys().collect();
    for (pool, jails) in lacking {
        let free = new::take(&pool.value, &mut taken, jails.len());
        let free = free.map_err(|why| FleetError::new(pool.place, why))?;
        for ((name, index), address) in jails.into_iter().zip(free) {
            if let Some(slot) = assigned
                .get_mut(name)
                .and_then(|slots| slots.get_mut(index))
            {
                *slot = Some(address);
            }
        }
    }
    let all = assigned.into_iter().map(|(name, pooled)| {
        let wanted = wanted[&name];
        if !wanted.names_addresses() {
            let jail = inventory.jails.get(&name);
            let config = jail.and_then(|jail| jail.config.as_ref().ok());
            let has = config.map_or_else(Vec::new, |config| config.addresses.clone());
            return (name, has);
        }
        let own = wanted.addresses.iter().flatten().map(|at| at.value.clone());
        let addresses = own.chain(pooled.into_iter().flatten()).collect();
        (name, addresses)
    });
    Ok(all.collect())
}
