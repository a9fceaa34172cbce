//! What `create` and `clone` are asked, and the configuration that it means.

use std::collections::BTreeSet;

use crate::model::{
    Address, AddressPool, AskedLimits, Defaults, Inventory, Jail, JailConfig, Kind, Labels,
    Network, OrNone, Params, Todo,
};
use crate::name::{DatasetName, FlavourName, JailName};
use crate::plan::new::{Choice, choose, with_flavour};
use crate::plan::{Observed, PlanError, source};

/// Most jails that can be all or none.
pub const MOST_ATOMIC: usize = 2000;

/// What new jails are made of.
#[derive(Debug, Clone)]
pub enum Of {
    /// A generation.
    World {
        /// Thin or thick.
        kind: Kind,
        /// On which basejail.
        base: Choice,
        /// Network.
        network: Network,
        /// The command that tells whether it is well.
        health: Option<String>,
    },
    /// Another jail, of which they have the files and the configuration.
    Jail(JailName),
}

impl Of {
    /// The jail that they are clones of.
    pub fn source(&self) -> Option<&JailName> {
        match self {
            Of::World { .. } => None,
            Of::Jail(name) => Some(name),
        }
    }
}

/// What `create` or `clone` was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// The jails, in order.
    pub names: Vec<JailName>,
    /// What they are made of.
    pub of: Of,
    /// Host name; the jail's name if none.
    pub hostname: Option<String>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Networks that each of them gets an address of.
    pub pools: Vec<AddressPool>,
    /// Labels; of clones beside those of their source.
    pub labels: Labels,
    /// Flavours that are laid over them, in this order.
    pub flavours: Vec<FlavourName>,
    /// What they may take of the host; of clones, what is left open is as their source has it.
    pub limits: AskedLimits,
    /// Parameters of jail(8); of clones beside those of their source.
    pub params: Params,
    /// Datasets that it administers itself: of one jail.
    pub datasets: Vec<DatasetName>,
    /// Quota in bytes; without it, clones have that of their source.
    pub quota: Option<OrNone<u64>>,
    /// What they have of limits and quota where nothing is asked; clones are as their source is.
    pub defaults: Defaults,
    /// Whether they are started when the host starts; without it, clones are as their source is.
    pub boot: Option<bool>,
    /// Whether their processes may make user namespaces; without it, clones are as their source is.
    pub nested_userns: Option<bool>,
    /// Whether to start them.
    pub start: bool,
    /// Whether all of them are to be one program, however many.
    pub atomic: bool,
}

impl Request {
    /// Refuses what no site could do.
    ///
    /// # Errors
    /// [`PlanError::Twice`]; [`PlanError::OnlyOne`]; [`PlanError::NotAtomic`].
    pub fn check(&self) -> Result<(), PlanError> {
        if self.names.len() > 1 {
            if self.hostname.is_some() {
                return Err(PlanError::OnlyOne("a host name"));
            }
            if !self.addresses.is_empty() {
                return Err(PlanError::OnlyOne("an address"));
            }
            if !self.datasets.is_empty() {
                return Err(PlanError::OnlyOne("a dataset"));
            }
        }
        if self.atomic && self.names.len() > MOST_ATOMIC {
            return Err(PlanError::NotAtomic {
                jails: self.names.len(),
                most: MOST_ATOMIC,
            });
        }
        let mut seen = BTreeSet::new();
        match self.names.iter().find(|name| !seen.insert(*name)) {
            Some(twice) => Err(PlanError::Twice(twice.clone())),
            None => Ok(()),
        }
    }
}

/// The configuration that all of them have, but for what is each one's own.
pub(super) fn template(observed: &Observed, request: &Request) -> Result<JailConfig, PlanError> {
    let inventory = &observed.inventory;
    let mut config = match &request.of {
        Of::Jail(source) => source::template(inventory, source, &request.names)?,
        Of::World {
            kind,
            base,
            network,
            health,
        } => {
            let (base, skel) = choose(observed, base)?;
            JailConfig {
                network: *network,
                health: health.clone(),
                limits: request.defaults.limits(),
                ..JailConfig::new(*kind, base, skel)
            }
        }
    };
    config.addresses.clone_from(&request.addresses);
    config.datasets.clone_from(&request.datasets);
    config.limits = request.limits.over(config.limits);
    config.boot = request.boot.unwrap_or(config.boot);
    config.nested_userns = request.nested_userns.unwrap_or(config.nested_userns);
    config.params = request.params.clone().or(&config.params);
    for flavour in &request.flavours {
        with_flavour(observed, &mut config, flavour)?;
    }
    config.labels.extend(request.labels.clone());
    let quota = quota(inventory, request);
    config.todo.extend(quota.map(Todo::Quota));
    Ok(config)
}

/// What quota they get.
fn quota(inventory: &Inventory, request: &Request) -> Option<u64> {
    match (request.quota, request.of.source()) {
        (Some(asked), _) => asked.0,
        (None, None) => request.defaults.quota,
        (None, Some(source)) => {
            let source = inventory.jails.get(source);
            source.map(|jail| jail.quota).filter(|quota| *quota > 0)
        }
    }
}

pub(super) fn with_name(config: &JailConfig, request: &Request, name: &JailName) -> JailConfig {
    let hostname = request.hostname.clone();
    JailConfig {
        hostname: hostname.unwrap_or_else(|| name.as_str().to_owned()),
        ..config.clone()
    }
}

/// Whether a jail that exists is what was asked for.
pub(super) fn is_same(
    inventory: &Inventory,
    jail: &Jail,
    wanted: &JailConfig,
    request: &Request,
) -> bool {
    let Ok(found) = &jail.config else {
        return false;
    };
    let of_it = request
        .of
        .source()
        .is_none_or(|source| source::is_of(inventory, jail, source));
    let same = JailConfig {
        todo: Vec::new(),
        // The track may have moved since, and its own files may have been kept from it.
        skel: found.skel,
        base: match found.held() {
            Some(held) if wanted.follows() == Some(&held.track) => found.base.clone(),
            Some(_) | None => wanted.base.clone(),
        },
        instead: found.instead.clone(),
        record: found.record,
        // Of pools it has what it got then.
        addresses: found.addresses.clone(),
        ..wanted.clone()
    } == *found;
    let (own, pooled) = found
        .addresses
        .split_at_checked(wanted.addresses.len())
        .unwrap_or_default();
    let addresses = own == wanted.addresses
        && pooled.len() == request.pools.len()
        && pooled
            .iter()
            .zip(&request.pools)
            .all(|(address, pool)| pool.holds(address.ip));
    same && of_it && addresses && jail.quota == quota(inventory, request).unwrap_or(0)
}
