//! Everything that matters about a machine, as text, so that two final states of a command can be compared.
//!
//! Values that must differ are left out: guids, times, the epoch and the id of the site. Generations are renumbered in
//! their order, as their numbers may differ too.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::SITE;
use super::files;
use super::machine::SimMachine;

/// A machine as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump(pub Vec<String>);

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Dump {
    /// Dumps a machine, without the values that must differ.
    pub fn of(machine: &SimMachine) -> Dump {
        Dump::made(machine, true)
    }

    /// Dumps a machine with every value: two of these are equal if nothing was changed.
    pub fn exact(machine: &SimMachine) -> Dump {
        Dump::made(machine, false)
    }

    /// Returns the lines that only one of the two has.
    pub fn difference(&self, other: &Dump) -> String {
        let only = |a: &Dump, b: &Dump, sign: char| -> Vec<String> {
            let lines = a.0.iter().filter(|line| !b.0.contains(line));
            lines.map(|line| format!("{sign} {line}")).collect()
        };
        [only(self, other, '-'), only(other, self, '+')]
            .concat()
            .join("\n")
    }

    fn made(machine: &SimMachine, normal: bool) -> Dump {
        let directory = machine.directory();
        let state = machine.state();
        let numbers = if normal {
            numbers(&state.pool)
        } else {
            BTreeMap::new()
        };
        let rename = |text: &str| renumber(text, &numbers);
        let mut lines = Vec::new();
        let datasets = state.pool.datasets.iter().map(|(name, found)| {
            let origin = found
                .origin
                .and_then(|guid| state.pool.snapshot_by_guid(guid));
            let origin = origin.map(|name| rename(name));
            (
                name,
                &found.own,
                format!("origin {origin:?} written {}", found.written),
                found.guid,
            )
        });
        let snapshots = state.pool.snapshots.iter().map(|(name, found)| {
            (
                name,
                &found.own,
                format!("holds {:?}", found.holds),
                found.guid,
            )
        });
        for (name, own, what, guid) in datasets.chain(snapshots) {
            let guid = if normal {
                String::new()
            } else {
                format!(" guid {guid}")
            };
            lines.push(format!("{}: {what}{guid}", rename(name)));
            for (kind, values) in [("local", &own.local), ("received", &own.received)] {
                for (property, value) in values {
                    let value = if normal {
                        common(property, value, &numbers)
                    } else {
                        value.clone()
                    };
                    lines.push(format!("{}: {kind} {property}={value}", rename(name)));
                }
            }
        }
        for mount in &state.mounts.table {
            let target = rename(&mount.target.display().to_string());
            let source = rename(&mount.source);
            let flags = mount.flags.words().join(",");
            lines.push(format!("mount {source} at {target} {flags}"));
        }
        for ((_, name), jail) in &state.host.running {
            let uses: Vec<String> = jail.uses.iter().map(|used| rename(used)).collect();
            lines.push(format!("host {name}: {:?} on {uses:?}", jail.phase));
        }
        for (name, text) in &state.host.derived {
            lines.push(format!("derived {name}: {}", rename(text)));
        }
        for (_, name) in state.host.logs.keys() {
            lines.push(format!("log {name}"));
        }
        // Names alone: files have times, and each jail has its own files.
        for line in files::list(&directory) {
            let path = line.split(' ').next().unwrap_or_default();
            let shallow = path.trim_end_matches('/').matches('/').count() < 2;
            if shallow || line.contains("tracks/") {
                // Without the mode: directories that `zfs mount -a` creates have another one.
                let line = if line.contains(" -> ") {
                    line.as_str()
                } else {
                    path
                };
                lines.push(format!(
                    "file {}",
                    rename(&format!("{}/{line}", directory.display()))
                ));
            }
        }
        lines.sort();
        Dump(lines)
    }
}

/// Maps the numbers of generations to their order, from 1.
fn numbers(pool: &super::pool::Pool) -> BTreeMap<u64, u64> {
    let prefix = format!("{SITE}/basejail/");
    let mut found: Vec<u64> = pool
        .datasets
        .keys()
        .filter_map(|name| name.strip_prefix(&prefix)?.parse().ok())
        .collect();
    found.sort_unstable();
    found.into_iter().zip(1..).collect()
}

/// Replaces the numbers of generations in names and paths: `basejail/N`, `newjail/N`, `@N`, `../N`.
fn renumber(text: &str, numbers: &BTreeMap<u64, u64>) -> String {
    let normal = !numbers.is_empty();
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            let first = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..first]);
            rest = &rest[first..];
            continue;
        }
        let whole = rest[digits..]
            .chars()
            .next()
            .is_none_or(|c| !c.is_ascii_alphanumeric());
        let marked = ["basejail/", "newjail/", "@", "../"]
            .iter()
            .any(|mark| out.ends_with(mark));
        let number = rest[..digits]
            .parse()
            .ok()
            .and_then(|n: u64| numbers.get(&n));
        // The number after it is an epoch.
        if normal && out.ends_with("@ezz-clone-") {
            out.push('*');
            rest = &rest[digits..];
            continue;
        }
        match number.filter(|_| whole && marked) {
            Some(number) => out.push_str(&number.to_string()),
            None => out.push_str(&rest[..digits]),
        }
        rest = &rest[digits..];
    }
    out
}

/// Returns a property without the values that must differ.
fn common(property: &str, value: &str, numbers: &BTreeMap<u64, u64>) -> String {
    match property {
        "ezz:id" | "ezz:epoch" | "ezz:seq" => return "*".to_owned(),
        _ => {}
    }
    match serde_json::from_str(value) {
        Ok(Value::Object(mut map)) => {
            renumber_fields(&mut map, numbers);
            Value::Object(map).to_string()
        }
        Ok(Value::Array(mut list)) => {
            for map in list.iter_mut().filter_map(Value::as_object_mut) {
                renumber_fields(map, numbers);
            }
            Value::Array(list).to_string()
        }
        _ => value.to_owned(),
    }
}

fn renumber_fields(map: &mut serde_json::Map<String, Value>, numbers: &BTreeMap<u64, u64>) {
    for (name, value) in map.iter_mut() {
        match (name.as_str(), &mut *value) {
            // A made-up world is unpacked each time: the times of directories differ.
            ("at" | "manifest" | "previous_guid", _) => *value = Value::from("*"),
            (
                "current" | "previous" | "skel" | "pin" | "from" | "to" | "parent" | "of"
                | "record",
                Value::Number(number),
            ) => {
                let found = number.as_u64().and_then(|number| numbers.get(&number));
                if let Some(found) = found {
                    *value = Value::from(*found);
                }
            }
            (_, Value::Object(inner)) => renumber_fields(inner, numbers),
            _ => {}
        }
    }
}
