//! Address pools: networks from which new jails get their addresses.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

use super::Address;

/// A network, written `[INTERFACE|]NETWORK/PREFIX`, from which each jail gets an address that no other jail of the site
/// has. The pool leaves out the network's own address and, for IPv4, its broadcast address (RFC 919, RFC 4291 §2.6.1).
/// It uses all addresses of a network that has only two (RFC 3021) or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPool {
    interface: Option<String>,
    network: IpAddr,
    prefix: u8,
}

/// The error for a text that is not an address pool: the text, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bad pool {0:?}: expected [INTERFACE|]NETWORK/PREFIX, e.g. 10.0.0.0/22: {1}")]
pub struct PoolError(pub String, pub &'static str);

impl AddressPool {
    /// Returns the number of bits that distinguish one host of the network from another.
    fn bits(&self) -> u32 {
        let all = if self.network.is_ipv4() { 32 } else { 128 };
        all - u32::from(self.prefix)
    }

    /// Reports whether an address is in this network.
    pub fn holds(&self, ip: IpAddr) -> bool {
        // `checked_shr` returns none for a shift by all bits.
        let start = |ip| value(ip).checked_shr(self.bits()).unwrap_or(0);
        self.network.is_ipv4() == ip.is_ipv4() && start(ip) == start(self.network)
    }

    /// Returns the free addresses of the network, lowest first; the only bound is the size of the network.
    pub fn free<'a>(&'a self, taken: &'a BTreeSet<IpAddr>) -> impl Iterator<Item = Address> + 'a {
        let (bits, base) = (self.bits(), value(self.network));
        let last = 1_u128.checked_shl(bits).map_or(u128::MAX, |size| size - 1);
        let (low, high) = match bits {
            0 | 1 => (0, last),
            _ if self.network.is_ipv4() => (1, last - 1),
            _ => (1, last),
        };
        (low..=high)
            .map(move |host| ip(base + host, self.network.is_ipv4()))
            .filter(|ip| !taken.contains(ip))
            .map(|ip| Address {
                interface: self.interface.clone(),
                ip,
                prefix: self.prefix,
            })
    }
}

fn value(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn ip(value: u128, v4: bool) -> IpAddr {
    match u32::try_from(value) {
        Ok(value) if v4 => IpAddr::V4(Ipv4Addr::from(value)),
        _ => IpAddr::V6(Ipv6Addr::from(value)),
    }
}

impl FromStr for AddressPool {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Self, PoolError> {
        let bad = |why| PoolError(text.to_owned(), why);
        if !text.contains('/') {
            return Err(bad("it has no prefix"));
        }
        let address: Address = text.parse().map_err(|_| bad("it is no address"))?;
        let pool = AddressPool {
            interface: address.interface,
            network: address.ip,
            prefix: address.prefix,
        };
        let mask = 1_u128
            .checked_shl(pool.bits())
            .map_or(u128::MAX, |size| size - 1);
        if value(pool.network) & mask != 0 {
            return Err(bad("bits below the prefix are set"));
        }
        Ok(pool)
    }
}

impl fmt::Display for AddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(interface) = &self.interface {
            write!(f, "{interface}|")?;
        }
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(pool: &str, taken: &[&str], most: usize) -> Vec<String> {
        let pool: AddressPool = pool.parse().expect("it is good");
        let taken = taken.iter().map(|ip| ip.parse().expect("it is good"));
        let taken = taken.collect();
        pool.free(&taken)
            .take(most)
            .map(|a| a.to_string())
            .collect()
    }

    #[test]
    fn the_lowest_that_nobody_has() {
        let addresses = free("em0|10.0.0.0/29", &["10.0.0.2", "10.0.0.3"], 9);
        assert_eq!(
            addresses,
            [
                "em0|10.0.0.1/29",
                "em0|10.0.0.4/29",
                "em0|10.0.0.5/29",
                "em0|10.0.0.6/29"
            ]
        );
        assert_eq!(
            free("fd00::/64", &["fd00::1"], 2),
            ["fd00::2/64", "fd00::3/64"]
        );
        assert_eq!(free("10.0.0.8/31", &[], 9), ["10.0.0.8/31", "10.0.0.9/31"]);
        assert_eq!(free("10.0.0.8/32", &["10.0.0.8"], 9), [""; 0]);
        assert_eq!(free("0.0.0.0/0", &[], 1), ["0.0.0.1/0"]);
        assert_eq!(free("::/0", &[], 1), ["::1/0"]);
        assert_eq!(free("10.0.0.0/22", &[], 2000).len(), 1022);
    }

    #[test]
    fn a_pool_is_a_network() {
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.1/24",
            "fd00::1/64",
            "x/24",
            "10.0.0.0/33",
        ] {
            assert!(bad.parse::<AddressPool>().is_err(), "{bad:?}");
        }
        let pool: AddressPool = "10.0.4.0/22".parse().expect("it is good");
        for (ip, of_it) in [
            ("10.0.7.255", true),
            ("10.0.8.0", false),
            ("::a00:401", false),
        ] {
            assert_eq!(pool.holds(ip.parse().expect("it is good")), of_it, "{ip}");
        }
        let all: AddressPool = "::/0".parse().expect("it is good");
        assert!(all.holds("fd00::1".parse().expect("it is good")));
    }
}
