//! A fleet file of the jails that are there.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Wish;
use crate::model::{Base, Cpus, Cpuset, Jail, JailConfig, Kind, Network};
use crate::name::{FleetName, JailName};

/// A file to be written.
#[derive(Debug, Serialize)]
pub struct Written {
    fleet: String,
    jail: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    state: Wish,
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    thick: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    network: Network,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flavours: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    datasets: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    params: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limited>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Limited {
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<Cpus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpuset: Option<Cpuset>,
}

impl Written {
    /// A file without jails.
    pub fn new(fleet: &FleetName) -> Self {
        Written {
            fleet: fleet.to_string(),
            jail: Vec::new(),
        }
    }

    /// Adds a jail as it is.
    pub fn add(&mut self, jail: &Jail, config: &JailConfig, running: bool) {
        let (track, pin) = match &config.base {
            Base::Track(track) => (Some(track.to_string()), None),
            Base::Pin(id) => (None, Some(id.to_string())),
        };
        let limits = &config.limits;
        let named = config.hostname != jail.name.as_str();
        let texts = |names: &[JailName]| names.iter().map(ToString::to_string).collect();
        self.jail.push(Entry {
            name: jail.name.to_string(),
            state: if running {
                Wish::Running
            } else {
                Wish::Stopped
            },
            track,
            pin,
            thick: config.kind == Kind::Thick,
            hostname: named.then(|| config.hostname.clone()),
            addresses: config.addresses.iter().map(ToString::to_string).collect(),
            network: config.network,
            health: config.health.clone(),
            quota: (jail.quota > 0).then(|| jail.quota.to_string()),
            flavours: config.flavours.iter().map(ToString::to_string).collect(),
            depends: texts(&config.depends),
            order: (config.order != 0).then_some(config.order),
            // Else it follows from the state.
            boot: (config.boot != running).then_some(config.boot),
            datasets: config.datasets.iter().map(ToString::to_string).collect(),
            params: config.params.texts(),
            limits: (!limits.is_empty()).then(|| Limited {
                memory: limits.memory.map(|bytes| bytes.to_string()),
                cpus: limits.cpus,
                processes: limits.processes,
                cpuset: limits.cpuset.clone(),
            }),
            labels: config.labels.clone().into_iter().collect(),
        });
    }

    /// The text.
    ///
    /// # Errors
    /// What TOML cannot hold.
    pub fn text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}
