//! The request of `create` and `clone`, and the configuration that follows from it.

use std::collections::BTreeSet;

use crate::model::{
    Address, AddressPool, AskedLimits, Defaults, Inventory, Jail, JailConfig, Kind, Labels,
    Network, OrNone, Params, Todo,
};
use crate::name::{DatasetName, FlavourName, JailName};
use crate::plan::new::{Choice, choose, with_flavour};
use crate::plan::{Observed, PlanError, source};

/// The most jails that `--atomic` can create.
pub const MOST_ATOMIC: usize = 2000;

/// The source of new jails.
#[derive(Debug, Clone)]
pub enum Of {
    /// A generation.
    World {
        /// Whether the jails are thin or thick.
        kind: Kind,
        /// The basejail that the jails run on.
        base: Choice,
        /// The network of the jails.
        network: Network,
        /// The health command.
        health: Option<String>,
    },
    /// Another jail, whose files and configuration the new jails get.
    Jail(JailName),
}

impl Of {
    /// Returns the jail that the new jails are clones of.
    pub fn source(&self) -> Option<&JailName> {
        match self {
            Of::World { .. } => None,
            Of::Jail(name) => Some(name),
        }
    }
}

/// The request of `create` or `clone`.
#[derive(Debug, Clone)]
pub struct Request {
    /// The names of the jails, in order.
    pub names: Vec<JailName>,
    /// The source of the jails.
    pub of: Of,
    /// The host name; if `None`, the jail's name.
    pub hostname: Option<String>,
    /// The addresses of the jail.
    pub addresses: Vec<Address>,
    /// Networks of which each jail gets a free address.
    pub pools: Vec<AddressPool>,
    /// Labels, which clones get in addition to those of their source.
    pub labels: Labels,
    /// The flavours that are laid over the jails, in this order.
    pub flavours: Vec<FlavourName>,
    /// The limits of the jails; clones get the rest from their source.
    pub limits: AskedLimits,
    /// Parameters of jail(8), which clones get in addition to those of their source.
    pub params: Params,
    /// Datasets that the jail administers itself; for a single jail only.
    pub datasets: Vec<DatasetName>,
    /// The quota in bytes; without it, clones have that of their source.
    pub quota: Option<OrNone<u64>>,
    /// The defaults for limits and quota that are not given; clones follow their source instead.
    pub defaults: Defaults,
    /// Whether the jails start with the host; without it, clones follow their source.
    pub boot: Option<bool>,
    /// Whether processes of the jails may create user namespaces; without it, clones follow their source.
    pub nested_userns: Option<bool>,
    /// Whether to start them.
    pub start: bool,
    /// Whether a single program creates all jails, however many.
    pub atomic: bool,
}

impl Request {
    /// Refuses requests that are impossible on any site.
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

/// Returns the configuration that all the jails share, without the parts that are each jail's own.
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

/// Returns the quota of the jails.
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

/// Whether an existing jail is the requested one.
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
        // The track may have moved since, and a conflict may have kept the jail from following it.
        skel: found.skel,
        base: match found.held() {
            Some(held) if wanted.follows() == Some(&held.track) => found.base.clone(),
            Some(_) | None => wanted.base.clone(),
        },
        instead: found.instead.clone(),
        record: found.record,
        // The addresses of pools are those that the jail got then.
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
