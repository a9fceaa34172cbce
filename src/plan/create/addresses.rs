//! The addresses of new jails: none that another jail has.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Request;
use crate::model::{Address, AddressPool, Inventory, JailConfig};
use crate::name::JailName;
use crate::plan::PlanError;

/// Refuses addresses that jails have.
pub(super) fn free_addresses(inventory: &Inventory, request: &Request) -> Result<(), PlanError> {
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

/// Takes so many addresses of a pool, the lowest that are free.
///
/// # Errors
/// [`PlanError::PoolTooSmall`].
pub(in crate::plan) fn take(
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

/// Gives each jail an address of each pool that no jail of the site has.
pub(super) fn addressed(
    inventory: &Inventory,
    request: &Request,
    mut jails: Vec<(JailName, JailConfig)>,
) -> Result<Vec<(JailName, JailConfig)>, PlanError> {
    if request.pools.is_empty() {
        return Ok(jails);
    }
    let configs = inventory
        .jails
        .values()
        .filter_map(|jail| jail.config.as_ref().ok());
    let theirs = configs.flat_map(|config| &config.addresses);
    let mut taken: BTreeSet<IpAddr> = theirs.chain(&request.addresses).map(|a| a.ip).collect();
    for pool in &request.pools {
        let free = take(pool, &mut taken, jails.len())?;
        for ((_, config), address) in jails.iter_mut().zip(free) {
            config.addresses.push(address);
        }
    }
    Ok(jails)
}
