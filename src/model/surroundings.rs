//! What of a host jails may run into: addresses, services, what it lacks. Values of one look, which is
//! made once for a command, however many jails it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::name::{DatasetName, JailName};

/// What a host has around some jails. What was not looked at, since none of them needs it, is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The host's own name.
    pub hostname: Option<String>,
    /// The addresses that it has, of those at least that the jails have, each with its interface where that
    /// is known; none if they could not be told.
    pub addresses: Option<BTreeMap<IpAddr, Option<String>>>,
    /// Its interfaces; none if they do not matter, or could not be told.
    pub interfaces: Option<BTreeSet<String>>,
    /// Whether it gives the interface that an address names that address when the jail starts, and takes
    /// it away when the jail stops.
    pub assigns: bool,
    /// What listens.
    pub listeners: BTreeSet<Listener>,
    /// Addresses that jails run with, also such as are not of the site.
    pub taken: BTreeSet<(IpAddr, Owner)>,
    /// What it lacks that one of the jails needs.
    pub lacks: Vec<Lack>,
    /// What keeps it from starting jails when it boots.
    pub boot: Vec<Lack>,
    /// What could not be told, and why.
    pub unread: Vec<String>,
}

/// What a host lacks, and what brings it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lack {
    /// What.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// Why a jail cannot start by its name on a host, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What has the name.
    pub by: String,
    /// What to do.
    pub hint: String,
}

impl Taken {
    /// What to do about a jail that is there.
    pub fn hint_for(&self, jail: &DatasetName) -> String {
        let (parent, _) = jail.as_str().rsplit_once('/').unwrap_or_default();
        format!(
            "{}; `zfs rename {jail} {parent}/NEW` gives the jail another name while it is stopped",
            self.hint
        )
    }
}

/// Whose something is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A jail of the site.
    Jail(JailName),
    /// Somebody else, as they are to be called.
    Other(String),
}

impl Owner {
    /// Whether it is this jail.
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

/// On which addresses something listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// On all of these families.
    All {
        /// IPv4.
        v4: bool,
        /// IPv6.
        v6: bool,
    },
    /// On one.
    One(IpAddr),
}

impl Bound {
    /// Whether a packet to an address comes there.
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

/// A socket that waits for whoever comes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Its port.
    pub port: u16,
    /// Whose it is, or which program's, where that is known.
    pub by: Option<Owner>,
    /// Where.
    pub bound: Bound,
}

/// `tcp 22 (sshd)`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.port)?;
        match &self.by {
            Some(owner) => write!(f, " ({owner})"),
            None => Ok(()),
        }
    }
}
