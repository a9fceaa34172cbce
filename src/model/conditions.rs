//! The parts of a host that its jails may conflict with: addresses, services, and what the host lacks. A command reads
//! them once, however many jails it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::name::{DatasetName, JailName};

/// The state of a host around some jails. A field that was not read, because none of the jails needs it, is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostConditions {
    /// The host name of the host itself.
    pub hostname: Option<String>,
    /// The host's addresses, at least those that the jails have, each with its interface where that is known.
    /// It is none if they could not be read.
    pub addresses: Option<BTreeMap<IpAddr, Option<String>>>,
    /// The host's interfaces; none if they do not matter, or could not be read.
    pub interfaces: Option<BTreeSet<String>>,
    /// Whether the host assigns an address to the interface that it names when the jail starts, and removes it when the
    /// jail stops.
    pub assigns: bool,
    /// The sockets of the host that accept connections or packets.
    pub listeners: BTreeSet<Listener>,
    /// The addresses that running jails have, including jails that are not of the site.
    pub taken: BTreeSet<(IpAddr, Owner)>,
    /// What the host lacks that one of the jails needs.
    pub lacks: Vec<Lack>,
    /// What keeps the host from starting jails when it boots.
    pub boot: Vec<Lack>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// Something that a host lacks, and how to get it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lack {
    /// What the host lacks.
    pub what: String,
    /// What the user can do about it.
    pub hint: String,
}

/// Why a jail cannot start under its name on a host, and what the user can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What has the name.
    pub by: String,
    /// What the user can do about it.
    pub hint: String,
}

impl Taken {
    /// Returns what the user can do about a jail that exists already.
    pub fn hint_for(&self, jail: &DatasetName) -> String {
        let (parent, _) = jail.as_str().rsplit_once('/').unwrap_or_default();
        format!(
            "{}; `zfs rename {jail} {parent}/NEW` gives the jail another name while it is stopped",
            self.hint
        )
    }
}

/// The owner of an address or a socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A jail of the site.
    Jail(JailName),
    /// Another owner, as messages name it.
    Other(String),
}

impl Owner {
    /// Reports whether the owner is this jail.
    pub fn is(&self, name: &JailName) -> bool {
        matches!(self, Owner::Jail(own) if own == name)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Jail(name) => write!(f, "jail {name}"),
            Owner::Other(words) => f.write_str(words),
        }
    }
}

/// The addresses on which a socket listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// All addresses of these families.
    All {
        /// Whether it listens on IPv4.
        v4: bool,
        /// Whether it listens on IPv6.
        v6: bool,
    },
    /// One address.
    One(IpAddr),
}

impl Bound {
    /// Reports whether a packet to this address reaches the socket.
    pub fn covers(self, ip: IpAddr) -> bool {
        match self {
            Bound::All { v4, v6 } => match ip {
                IpAddr::V4(_) => v4,
                IpAddr::V6(_) => v6,
            },
            Bound::One(one) => one == ip,
        }
    }
}

/// A socket that accepts connections or packets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The port number.
    pub port: u16,
    /// The jail or the program that has the socket, where that is known.
    pub by: Option<Owner>,
    /// The addresses on which it listens.
    pub bound: Bound,
}

/// Writes it as `tcp 22 (sshd)`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.port)?;
        match &self.by {
            Some(owner) => write!(f, " ({owner})"),
            None => Ok(()),
        }
    }
}
