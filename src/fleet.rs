//! Fleet files: the jails of a fleet, and the configuration of each of them.
//!
//! This module reads TOML into jails that are complete, and checked as far as the text alone allows. Whether the site
//! can have them is decided by the plan. Every error has its place in the file. This module must not know of pools or
//! hosts, or of the way to bring a site to that state.

mod file;
mod write;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::model::{Address, AddressPool, Kind, Labels, Limits, Network, Params};
use crate::name::{DatasetName, FlavourName, FleetName, JailName, TrackName};

pub use write::Written;

/// The largest number of jails that a file may name.
pub const MOST: usize = 100_000;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// A value and its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// The place of the value.
    pub place: Place,
}

/// An error in a fleet file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {}, column {}: {what}", place.line, place.column)]
pub struct FleetError {
    /// The place of the error.
    pub place: Place,
    /// The message.
    pub what: String,
}

impl FleetError {
    /// Creates an error at a place.
    pub fn new(place: Place, what: impl ToString) -> Self {
        FleetError {
            place,
            what: what.to_string(),
        }
    }
}

/// A fleet file, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// The name of the fleet. A jail belongs to at most one fleet.
    pub name: FleetName,
    /// The jails of the fleet.
    pub jails: BTreeMap<JailName, Wanted>,
}

/// The requested state of a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// It exists and runs.
    Running,
    /// It exists and does not run.
    Stopped,
    /// It does not exist.
    Absent,
}

/// The origin of a jail's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The current generation of this track, which the jail follows.
    Track(At<TrackName>),
    /// This generation, to which the jail is pinned: a number, `LABEL.N` or a label.
    Pin(At<String>),
    /// Another jail, of which it is a clone.
    Jail(At<JailName>),
}

/// The requested configuration of one jail. If a field is none, the file does not mention it: a new jail gets the
/// default of `ezz create`, and an existing jail keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The place in the file where the jail is named.
    pub place: Place,
    /// Whether the jail is to run, to be stopped, or not to exist.
    pub wish: Option<Wish>,
    /// The origin of its files.
    pub origin: Option<Origin>,
    /// Whether it is thin or thick.
    pub kind: Option<Kind>,
    /// The host name.
    pub hostname: Option<String>,
    /// The addresses of this jail.
    pub addresses: Option<Vec<At<Address>>>,
    /// The address pools; the jail gets one address from each. If these or `addresses` are given, the jail has no other
    /// addresses.
    pub pools: Option<Vec<At<AddressPool>>>,
    /// The labels. If they are given, the jail has no others.
    pub labels: Option<Labels>,
    /// The network that the jail has.
    pub network: Option<Network>,
    /// The limits. If they are given, the jail has no others.
    pub limits: Option<Limits>,
    /// Parameters of jail(8).
    pub params: Option<Params>,
    /// Datasets that the jail administers itself.
    pub datasets: Option<Vec<At<DatasetName>>>,
    /// The health command; empty for none.
    pub health: Option<String>,
    /// The quota in bytes; 0 for none.
    pub quota: Option<u64>,
    /// The flavours that are laid over the jail when it is created.
    pub flavours: Vec<At<FlavourName>>,
    /// The jails that are started before it.
    pub depends: Option<Vec<At<JailName>>>,
    /// The position in the order of starts: of jails that do not depend on each other, those with a lower number start
    /// first.
    pub order: Option<i32>,
    /// Whether the jail is started when the host boots. If the file does not mention it, it follows from the requested
    /// state.
    pub boot: Option<bool>,
    /// Whether its processes may create user namespaces.
    pub nested_userns: Option<bool>,
}

impl Wanted {
    /// Reports whether the file gives the jail's addresses.
    pub fn names_addresses(&self) -> bool {
        self.addresses.is_some() || self.pools.is_some()
    }
}

impl Fleet {
    /// Reads a file.
    ///
    /// # Errors
    /// Returns [`FleetError`] for a text that is not TOML, an unknown key, a value that does not parse, a jail that is
    /// named twice, and jails that depend on each other in a circle.
    pub fn parse(text: &str) -> Result<Fleet, FleetError> {
        let fleet = file::read(text)?;
        fleet.without_cycles()?;
        Ok(fleet)
    }

    /// Refuses jails that depend on each other in a circle.
    fn without_cycles(&self) -> Result<(), FleetError> {
        // `fine` has the jails from which no circle can be reached; `path` leads to the jail that is examined.
        let mut fine: std::collections::BTreeSet<&JailName> = std::collections::BTreeSet::new();
        for first in self.jails.keys() {
            let mut path: Vec<(&JailName, usize)> = vec![(first, 0)];
            while let Some((name, next)) = path.pop() {
                let depends = self
                    .jails
                    .get(name)
                    .and_then(|jail| jail.depends.as_deref());
                let depends = depends.unwrap_or_default();
                let Some(At { value, place }) = depends.get(next) else {
                    fine.insert(name);
                    continue;
                };
                path.push((name, next + 1));
                if let Some(at) = path.iter().position(|(on, _)| *on == value) {
                    let circle = path[at..].iter().map(|(on, _)| on.as_str());
                    let circle: Vec<&str> = circle.chain([value.as_str()]).collect();
                    let what = format!("these wait for each other: {}", circle.join(", "));
                    return Err(FleetError::new(*place, what));
                }
                if !fine.contains(value) {
                    path.push((value, 0));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
