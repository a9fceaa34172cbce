//! Checks and gives the addresses of new jails, which no other jail may have.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::request::Request;
use crate::model::{Inventory, JailConfig};
use crate::name::JailName;
use crate::plan::PlanError;
use crate::plan::new::take;

/// Refuses addresses that existing jails have.
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

/// Gives each new jail one address of each pool, which no jail of the site has.
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
