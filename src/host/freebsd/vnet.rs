//! The network of a jail with a network stack of its own. For each bridge that the jail's addresses name, there is a
//! pair of interfaces (epair(4)): one end is on the bridge, the other in the jail.
//!
//! The names of the interfaces are computed from the site and the jail, so that the next start finds what a failed
//! start or a crash has left.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::{FreeBsd, checks};
use crate::model::{Address, JailConfig, Network};
use crate::name::JailName;
use crate::ports::{HostError, JailSpec};

/// The number of pairs that are looked for if the file of a jail is lost.
pub const PAIRS_MAX: usize = 8;

/// The program that creates and removes interfaces.
pub const IFCONFIG: &str = "/sbin/ifconfig";

/// One pair of interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The name of the host's end.
    pub host: String,
    /// The name of the jail's end.
    pub jail: String,
    /// The name of the bridge to which the host's end belongs.
    pub bridge: &'a str,
    /// The addresses of the jail's end.
    pub addresses: Vec<&'a Address>,
}

/// Returns the pairs of a jail, in the order of its addresses. An address without a bridge has no pair.
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

/// Returns the name of an interface. It has at most 15 bytes (`IFNAMSIZ`), and does not end with a digit, which
/// ifconfig(8) would take for a unit.
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
    /// Checks that the bridges exist that the jail's addresses name; otherwise only a command of the start would fail.
    /// If the bridges cannot be read, the jail may start.
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
    /// Returns the command that creates the pair on the host, before the jail exists. It first removes what is left of
    /// the pair.
    pub fn make(&self) -> String {
        let Pair {
            host, jail, bridge, ..
        } = self;
        format!(
            "{IFCONFIG} {host} destroy 2>/dev/null; p=$({IFCONFIG} epair create) && {IFCONFIG} $p name {host} >/dev/null && \
             {IFCONFIG} ${{p%a}}b name {jail} >/dev/null && {IFCONFIG} {bridge} addm {host} && {IFCONFIG} {host} up"
        )
    }

    /// Returns the commands that run in the jail and give the jail's end its addresses.
    pub fn configure(&self) -> Vec<String> {
        let Pair { jail, .. } = self;
        let mut commands = Vec::new();
        if self.addresses.iter().any(|address| address.ip.is_ipv6()) {
            // An interface that no rc.conf mentions has IPv6 disabled.
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

    /// Returns the command that removes both ends, on the host.
    pub fn remove(&self) -> String {
        remove(&self.host)
    }
}

/// Returns the same command for a pair given by its number.
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
