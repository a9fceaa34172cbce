//! A network of a jail's own: for each bridge that its addresses name a pair of interfaces (epair(4)), one end
//! on the bridge, the other in the jail.
//!
//! Their names come from the site and the jail, so that what a failed start or a crash left is found by the
//! next one.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::{FreeBsd, checks};
use crate::model::{Address, JailConfig, Network};
use crate::name::JailName;
use crate::ports::{HostError, JailSpec};

/// So many bridges are looked for of a jail whose file is lost.
pub const PAIRS_MAX: usize = 8;

/// What makes interfaces.
pub const IFCONFIG: &str = "/sbin/ifconfig";

/// One pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The host's end.
    pub host: String,
    /// The jail's end.
    pub jail: String,
    /// The bridge that the host's end is on.
    pub bridge: &'a str,
    /// The addresses of the jail's end.
    pub addresses: Vec<&'a Address>,
}

/// The pairs of a jail, in the order of its addresses; an address without a bridge has none.
pub fn pairs<'a>(site_id: &str, name: &JailName, config: &'a JailConfig) -> Vec<Pair<'a>> {
    if config.network != Network::Vnet {
        return Vec::new();
    }
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    for address in &config.addresses {
        let Some(bridge) = address.interface.as_deref() else {
            continue;
        };
        let next = pairs.len();
        let at = *places.entry(bridge).or_insert(next);
        if at == next {
            pairs.push(Pair {
                host: interface(site_id, name, next, 'a'),
                jail: interface(site_id, name, next, 'b'),
                bridge,
                addresses: Vec::new(),
            });
        }
        pairs[at].addresses.push(address);
    }
    pairs
}

/// At most 15 bytes (`IFNAMSIZ`), and not ending with a digit, which ifconfig(8) would take for a unit.
fn interface(site_id: &str, name: &JailName, number: usize, end: char) -> String {
    let digest = Sha256::digest(format!("{site_id}\n{name}"));
    let hash: String = digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("ez{hash}{number}{end}")
}

impl FreeBsd {
    /// That the bridges which the addresses of a jail name are there: else only a command of the start would
    /// miss them. A look that fails keeps no jail from its start.
    pub(super) fn has_bridges(&self, spec: &JailSpec) -> Result<(), HostError> {
        let pairs = pairs(&spec.site_id, &spec.name, &spec.config);
        if pairs.is_empty() {
            return Ok(());
        }
        let Ok(there) = checks::run(self.system.as_ref(), "ifconfig", &["-l"]) else {
            return Ok(());
        };
        let there: BTreeSet<&str> = there.split_ascii_whitespace().collect();
        let missing = pairs.iter().find(|pair| !there.contains(pair.bridge));
        missing.map_or(Ok(()), |Pair { bridge, .. }| {
            Err(HostError::Missing {
                what: format!("the bridge {bridge}, which an address of {} names", spec.name),
                hint: format!(
                    "`ifconfig bridge create name {bridge}` makes it; cloned_interfaces of rc.conf(5) has those \
                     that are made at boot"
                ),
            })
        })
    }
}

impl Pair<'_> {
    /// What makes it, on the host, before the jail is there. What was left of it goes first.
    pub fn make(&self) -> String {
        let Pair {
            host, jail, bridge, ..
        } = self;
        format!(
            "{IFCONFIG} {host} destroy 2>/dev/null; p=$({IFCONFIG} epair create) && {IFCONFIG} $p name {host} >/dev/null && \
             {IFCONFIG} ${{p%a}}b name {jail} >/dev/null && {IFCONFIG} {bridge} addm {host} && {IFCONFIG} {host} up"
        )
    }

    /// What gives the jail's end its addresses, in the jail.
    pub fn configure(&self) -> Vec<String> {
        let Pair { jail, .. } = self;
        let mut commands = Vec::new();
        if self.addresses.iter().any(|address| address.ip.is_ipv6()) {
            // As an interface is that no rc.conf speaks of.
            commands.push(format!("{IFCONFIG} {jail} inet6 -ifdisabled"));
        }
        commands.extend(self.addresses.iter().map(|address| {
            let family = if address.ip.is_ipv4() {
                "inet"
            } else {
                "inet6"
            };
            let Address { ip, prefix, .. } = address;
            format!("{IFCONFIG} {jail} {family} {ip}/{prefix} alias")
        }));
        commands.push(format!("{IFCONFIG} {jail} up"));
        commands
    }

    /// What removes it, both ends, on the host.
    pub fn remove(&self) -> String {
        remove(&self.host)
    }
}

/// The same by the number of a pair.
pub fn removal(site_id: &str, name: &JailName, number: usize) -> String {
    remove(&interface(site_id, name, number, 'a'))
}

fn remove(host: &str) -> String {
    format!("{IFCONFIG} {host} destroy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::freebsd::testing::spec;

    #[test]
    fn one_pair_for_each_bridge() {
        let spec = spec("web");
        let mut config = spec.config.clone();
        config.addresses = [
            "bridge0|10.0.0.2/24",
            "dmz|fd00::2/64",
            "bridge0|10.0.1.2/24",
            "192.0.2.1",
        ]
        .map(|text| text.parse().expect("an address"))
        .to_vec();
        assert!(
            pairs("0f0e", &spec.name, &config).is_empty(),
            "the network is the host's"
        );
        config.network = Network::Vnet;
        let made = pairs("0f0e", &spec.name, &config);
        assert_eq!(made.len(), 2);
        assert_eq!((made[0].bridge, made[1].bridge), ("bridge0", "dmz"));
        assert_eq!(made[0].addresses.len(), 2);
        for pair in &made {
            assert!(pair.host.len() <= 15 && pair.host != pair.jail, "{pair:?}");
            assert!(pair.host.ends_with('a'), "{pair:?}");
        }
        assert_eq!(
            made[1].configure(),
            [
                format!("/sbin/ifconfig {} inet6 -ifdisabled", made[1].jail),
                format!("/sbin/ifconfig {} inet6 fd00::2/64 alias", made[1].jail),
                format!("/sbin/ifconfig {} up", made[1].jail),
            ]
        );
        let other = pairs("1a1b", &spec.name, &config);
        assert_ne!(made[0].host, other[0].host, "of another site");
    }
}
