//! Writes a fleet file of existing jails.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Wish;
use crate::model::{Base, Cpus, Cpuset, Jail, JailConfig, Kind, Network, in_units};
use crate::name::{FleetName, JailName};

/// A fleet file to be written.
#[derive(Debug)]
pub struct Written {
    fleet: String,
    /// The entries without names, each with the names of the jails that it describes.
    jails: Vec<(Entry, Vec<JailName>)>,
}

/// The file as TOML.
#[derive(Debug, Serialize)]
struct File {
    fleet: String,
    jail: Vec<Entry>,
}

/// An entry for one jail, or for several that differ only in their names.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
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
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    nested_userns: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    datasets: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    params: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limited>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Creates a file without jails.
    pub fn new(fleet: &FleetName) -> Self {
        Written {
            fleet: fleet.to_string(),
            jails: Vec::new(),
        }
    }

    /// Adds a jail with its present configuration.
    pub fn add(&mut self, jail: &Jail, config: &JailConfig, running: bool) {
        let (track, pin) = match (config.follows(), &config.base) {
            (Some(track), _) | (None, Base::Track(track)) => (Some(track.to_string()), None),
            (None, Base::Pin(id)) => (None, Some(id.to_string())),
        };
        let limits = &config.limits;
        // As a pattern, the host name is equal for jails that differ only in their names.
        let hostname = match config.hostname.strip_prefix(jail.name.as_str()) {
            Some("") => None,
            Some(domain) if domain.starts_with('.') => Some(format!("{{name}}{domain}")),
            Some(_) | None => Some(config.hostname.clone()),
        };
        let texts = |names: &[JailName]| names.iter().map(ToString::to_string).collect();
        let entry = Entry {
            name: None,
            names: Vec::new(),
            state: if running {
                Wish::Running
            } else {
                Wish::Stopped
            },
            track,
            pin,
            thick: config.kind == Kind::Thick,
            hostname,
            addresses: config.addresses.iter().map(ToString::to_string).collect(),
            network: config.network,
            health: config.health.clone(),
            quota: (jail.quota > 0).then(|| in_units(jail.quota)),
            flavours: config.flavours.iter().map(ToString::to_string).collect(),
            depends: texts(&config.depends),
            order: (config.order != 0).then_some(config.order),
            // It is left out if it follows from the state.
            boot: (config.boot != running).then_some(config.boot),
            nested_userns: config.nested_userns,
            datasets: config.datasets.iter().map(ToString::to_string).collect(),
            params: config.params.texts(),
            limits: (!limits.is_empty()).then(|| Limited {
                memory: limits.memory.map(in_units),
                cpus: limits.cpus,
                processes: limits.processes,
                cpuset: limits.cpuset.clone(),
            }),
            labels: config.labels.clone().into_iter().collect(),
        };
        // Only one jail can have an address or a dataset.
        let own = !entry.addresses.is_empty() || !entry.datasets.is_empty();
        let same = self
            .jails
            .iter_mut()
            .find(|(other, _)| !own && *other == entry);
        match same {
            Some((_, names)) => names.push(jail.name.clone()),
            None => self.jails.push((entry, vec![jail.name.clone()])),
        }
    }

    /// Reports whether the file has no jail.
    pub fn is_empty(&self) -> bool {
        self.jails.is_empty()
    }

    /// Returns the text of the file.
    ///
    /// # Errors
    /// Returns an error if TOML cannot represent a value.
    pub fn text(&self) -> Result<String, toml::ser::Error> {
        let entry = |(entry, names): &(Entry, Vec<JailName>)| {
            let mut entry = entry.clone();
            match &fold(names)[..] {
                [one] => entry.name = Some(one.clone()),
                several => entry.names = several.to_vec(),
            }
            entry
        };
        toml::to_string(&File {
            fleet: self.fleet.clone(),
            jail: self.jails.iter().map(entry).collect(),
        })
    }
}

/// Combines names into the form that [`expand`](crate::name::expand) reads: consecutive numbers become a range.
fn fold(names: &[JailName]) -> Vec<String> {
    // The groups are by the text before the number and, if the number has leading zeros, by its width.
    let mut groups: BTreeMap<(&str, usize), BTreeSet<u32>> = BTreeMap::new();
    let mut folded = Vec::new();
    let mut unpadded = Vec::new();
    for name in names {
        let name = name.as_str();
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (head, number) = name.split_at(name.len() - digits);
        // A range may have at most this number of digits.
        match number.parse::<u32>() {
            Ok(value) if digits <= 9 && number.starts_with('0') => {
                groups.entry((head, digits)).or_default().insert(value);
            }
            Ok(value) if digits <= 9 => unpadded.push((head, digits, value)),
            Ok(_) | Err(_) => folded.push(name.to_owned()),
        }
    }
    for (head, digits, value) in unpadded {
        // 10 continues both 09 and 9.
        let width = if groups.contains_key(&(head, digits)) {
            digits
        } else {
            0
        };
        groups.entry((head, width)).or_default().insert(value);
    }
    for ((head, width), numbers) in groups {
        let shown = |number: u32| format!("{number:0width$}");
        let mut numbers = numbers.into_iter().peekable();
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last - first {
                0 => folded.push(format!("{head}{}", shown(first))),
                1 => folded.extend([first, last].map(|it| format!("{head}{}", shown(it)))),
                _ => folded.push(format!("{head}{{{}..{}}}", shown(first), shown(last))),
            }
        }
    }
    folded.sort();
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::expand;

    #[test]
    fn names_that_follow_each_other_are_a_range() {
        for (names, folded) in [
            ("a", "a"),
            ("web1 web2", "web1 web2"),
            ("web1 web2 web3 web5", "web5 web{1..3}"),
            ("web08 web09 web10 web11", "web{08..11}"),
            ("web8 web9 web10 web11", "web{8..11}"),
            ("a00 a01 a02 a1 a2 a3", "a{00..02} a{1..3}"),
            ("a98 a99 a100 a101 a099", "a98 a99 a{099..101}"),
            ("x1y x2y x3y", "x1y x2y x3y"),
            ("j4294967295 j12345678901234", "j12345678901234 j4294967295"),
        ] {
            let mut names: Vec<JailName> = names
                .split(' ')
                .map(|name| JailName::parse(name).expect("a name"))
                .collect();
            let told = fold(&names);
            assert_eq!(told.join(" "), folded);
            // The ranges expand to the same names.
            let mut back: Vec<JailName> = told
                .iter()
                .flat_map(|it| expand(it).expect("a range"))
                .map(|name| JailName::parse(&name).expect("a name"))
                .collect();
            names.sort();
            back.sort();
            assert_eq!(back, names);
        }
    }
}
