//! Fleet files: which jails there are to be, and what each of them is to be.
//!
//! Read from TOML into jails that are complete and checked as far as the text alone tells; whether the
//! site can have them is the plan's business. Every error has its place in the file.
//! Must not be here: pools, hosts, and how a site gets there.

mod file;
mod write;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::model::{Address, AddressPool, Kind, Labels, Limits, Network, Params};
use crate::name::{DatasetName, FlavourName, FleetName, JailName, TrackName};

pub use write::Written;

/// Most jails that a file may name.
pub const MOST: usize = 100_000;

/// A place in a file; both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {}, column {}: {what}", place.line, place.column)]
pub struct FleetError {
    /// Where.
    pub place: Place,
    /// What.
    pub what: String,
}

impl FleetError {
    /// At a place.
    pub fn new(place: Place, what: impl ToString) -> Self {
        FleetError {
            place,
            what: what.to_string(),
        }
    }
}

/// A file, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// The fleet: jails belong to one at most.
    pub name: FleetName,
    /// Its jails.
    pub jails: BTreeMap<JailName, Wanted>,
}

/// Whether a jail is to run, or to be at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// It runs.
    Running,
    /// It is there and does not run.
    Stopped,
    /// There is no such jail.
    Absent,
}

/// What a jail is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A generation, by the track that it follows.
    Track(At<TrackName>),
    /// A generation that it stays on: number, `LABEL.N` or label.
    Pin(At<String>),
    /// Another jail.
    Jail(At<JailName>),
}

/// What one jail is to be. What the file does not say (`None`) a new jail has as `ezz create` has it, and
/// one that is there keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is named.
    pub place: Place,
    /// Whether it is to run.
    pub wish: Option<Wish>,
    /// What it is made of.
    pub origin: Option<Origin>,
    /// Whether it is thick, where the file says so.
    pub kind: Option<Kind>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Addresses of its own.
    pub addresses: Option<Vec<At<Address>>>,
    /// Networks that it has an address of each. With these or `addresses` it has no others.
    pub pools: Option<Vec<At<AddressPool>>>,
    /// Its labels, and no others.
    pub labels: Option<Labels>,
    /// Its network.
    pub network: Option<Network>,
    /// What it may take of the host, and no other limits.
    pub limits: Option<Limits>,
    /// Parameters of jail(8).
    pub params: Option<Params>,
    /// Datasets that it administers itself.
    pub datasets: Option<Vec<At<DatasetName>>>,
    /// Its health command; empty for none.
    pub health: Option<String>,
    /// Its quota in bytes; 0 for none.
    pub quota: Option<u64>,
    /// What is laid over it when it is made.
    pub flavours: Vec<At<FlavourName>>,
    /// Jails that are started before it.
    pub depends: Option<Vec<At<JailName>>>,
    /// Among those that do not depend on each other, the lower first.
    pub order: Option<i32>,
    /// Whether it is started when the host starts; if the file does not say so, what it says of the state
    /// counts.
    pub boot: Option<bool>,
    /// Whether its processes may make user namespaces.
    pub nested_userns: Option<bool>,
}

impl Wanted {
    /// Whether the file says which addresses it has.
    pub fn names_addresses(&self) -> bool {
        self.addresses.is_some() || self.pools.is_some()
    }
}

impl Fleet {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FleetError`]: no TOML; an unknown key; a value that does not parse; a jail that is named twice;
    /// jails that depend on each other.
    pub fn parse(text: &str) -> Result<Fleet, FleetError> {
        let fleet = file::read(text)?;
        fleet.without_cycles()?;
        Ok(fleet)
    }

    /// Refuses jails that wait for each other.
    fn without_cycles(&self) -> Result<(), FleetError> {
        // Those that are known to end; the path that leads to the one that is looked at.
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
