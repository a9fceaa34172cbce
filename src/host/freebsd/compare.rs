//! Checks that running jails have the parameters of their configuration. The parameters that protect the host from a
//! jail must not depend on who has started it, or by which version of ezz.
//!
//! `jail -e` prints the configuration that jail(8) reads from /etc/jail.conf and all its includes, and jls(8) prints
//! the parameters in the kernel. Each runs once, however many jails are running.

use std::collections::{BTreeMap, BTreeSet};

use super::{FreeBsd, params, program_of};
use crate::name::JailName;
use crate::ports::HostError;

/// The separator of parameters in the output of `jail -e`. It is a control character, which no value has.
const SEPARATOR: &str = "\u{1f}";

/// The parameters that protect the host, besides `allow.*`. A jail cannot change any of them, except that it can raise
/// its securelevel.
const NUMBERS: [&str; 4] = [
    "children.max",
    "devfs_ruleset",
    "enforce_statfs",
    "securelevel",
];

/// The compared parameters of one jail, with their values.
type Values = BTreeMap<String, i64>;

impl FreeBsd {
    /// Returns the running jails whose parameters differ from those of /etc/jail.conf, with the differences.
    pub(super) fn differing(&self) -> Result<BTreeMap<JailName, Vec<String>>, HostError> {
        let view = self.look()?;
        let running: Vec<JailName> = view.running_names();
        // If it does not include the jails, each is started by its own file alone.
        if running.is_empty() || !self.included() {
            return Ok(BTreeMap::new());
        }
        let failed = || program_of("compare", "running jails with their configuration");
        let main = self.places.main_conf.as_os_str();
        let jail = self.system.exec("jail").map_err(failed())?;
        let said = jail.arg("-f").arg(main).args(["-e", SEPARATOR]);
        let said = said.run().map_err(failed())?;
        let said = exhibited(&String::from_utf8_lossy(&said.stdout));
        let known = params::Known::of_kernel(self.system.as_ref())?;
        let names: BTreeSet<&String> = running
            .iter()
            .filter_map(|name| said.get(name.as_str()))
            .flat_map(BTreeMap::keys)
            .filter(|name| known.in_kernel(name))
            .collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let jls = self.system.exec("jls").map_err(failed())?;
        let jls = jls.args(["--libxo", "json", "-n", "name"]).args(names);
        let has = jls.run().map_err(failed())?;
        let has = kernels(&has.stdout).map_err(|why| HostError::Parse {
            what: "the output of jls".to_owned(),
            why,
        })?;
        let mut all = BTreeMap::new();
        for name in running {
            if let (Some(said), Some(has)) = (said.get(name.as_str()), has.get(name.as_str())) {
                let differs = differences(said, has);
                if !differs.is_empty() {
                    all.insert(name, differs);
                }
            }
        }
        Ok(all)
    }
}

fn differences(said: &Values, has: &Values) -> Vec<String> {
    let both = said
        .iter()
        .filter_map(|(name, said)| Some((name, *said, *has.get(name)?)));
    both.filter(|(name, said, has)| match name.as_str() {
        "securelevel" => has < said,
        _ => has != said,
    })
    .map(
        |(name, said, has)| match (name.starts_with("allow."), has) {
            (true, 0) => format!("{name} is off, not on"),
            (true, _) => format!("{name} is on, not off"),
            (false, _) => format!("{name} is {has}, not {said}"),
        },
    )
    .collect()
}

/// Parses the output of `jail -e`: a line for each jail, which begins with its name. A value may contain line breaks.
fn exhibited(text: &str) -> BTreeMap<String, Values> {
    let mut all: BTreeMap<String, Values> = BTreeMap::new();
    let mut current = String::new();
    for item in text.split(SEPARATOR) {
        let (item, next) = match item.rsplit_once("\nname=") {
            Some((item, next)) => (item, Some(next)),
            None => (item, None),
        };
        let first = current.is_empty().then(|| item.strip_prefix("name="));
        match first.flatten() {
            Some(name) => current = name.trim_end().to_owned(),
            None => {
                let values = all.entry(current.clone()).or_default();
                values.extend(value(item.trim_end()));
            }
        }
        if let Some(next) = next {
            current = next.trim_end().to_owned();
        }
    }
    all
}

/// Parses a parameter that is compared: `allow.x`, `allow.nox`, `allow.x=true`, `securelevel=2`.
fn value(item: &str) -> Option<(String, i64)> {
    let (name, text) = match item.split_once('=') {
        Some((name, text)) => (name, Some(text)),
        None => (item, None),
    };
    if NUMBERS.contains(&name) {
        return Some((name.to_owned(), text?.parse().ok()?));
    }
    let (node, last) = name.rsplit_once('.')?;
    if !name.starts_with("allow.") || name == "allow.dying" {
        return None;
    }
    let on = match text.map(str::to_ascii_lowercase).as_deref() {
        None | Some("true") => true,
        Some("false") => false,
        Some(number) => number.parse::<i64>().ok()? != 0,
    };
    // No flag of jail(8) has a name of its own that begins with `no`.
    Some(match last.strip_prefix("no") {
        Some(last) => (format!("{node}.{last}"), i64::from(!on)),
        None => (name.to_owned(), i64::from(on)),
    })
}

/// Parses the output of jls(8). Numbers and flags may be JSON numbers and booleans, or strings.
fn kernels(text: &[u8]) -> Result<BTreeMap<String, Values>, String> {
    let whole: serde_json::Value =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let list = whole.pointer("/jail-information/jail");
    let jails = list.and_then(serde_json::Value::as_array);
    let mut all = BTreeMap::new();
    for jail in jails.into_iter().flatten() {
        let (Some(name), Some(keys)) = (jail["name"].as_str(), jail.as_object()) else {
            return Err(format!("a jail has no name: {jail}"));
        };
        let values = keys.iter().filter_map(|(key, value)| {
            let text = match value {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let number = match text.as_str() {
                "true" => 1,
                "false" => 0,
                text => text.parse().ok()?,
            };
            Some((key.clone(), number))
        });
        all.insert(name.to_owned(), values.collect());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jail_exhibits() {
        // Written from the source that prints it (usr.sbin/jail/jail.c of 15.0), not recorded on a FreeBSD host.
        let text = "name=web;allow.raw_sockets;allow.mount.nozfs;securelevel=2;exec.start=\"a b\"\n\
                    name=db;exec.poststart=\"a\nsecurelevel=9\";allow.chflags=false;children.max=5;persist\n";
        let found = exhibited(&text.replace(';', SEPARATOR));
        let of = |name: &str| -> Vec<String> {
            let values = found[name].iter();
            values
                .map(|(name, value)| format!("{name}={value}"))
                .collect()
        };
        assert_eq!(
            of("web"),
            ["allow.mount.zfs=0", "allow.raw_sockets=1", "securelevel=2"]
        );
        assert_eq!(of("db"), ["allow.chflags=0", "children.max=5"]);
        assert!(exhibited("").values().all(BTreeMap::is_empty));
    }

    #[test]
    fn what_the_kernel_has() {
        let text = br#"{"__version": "2", "jail-information": {"jail": [
            {"name":"web","allow.raw_sockets":false,"allow.mount.zfs":"false","securelevel":"-1"},
            {"name":"db","allow.chflags":true,"children.max":"5"}]}}"#;
        let has = kernels(text).expect("well-formed");
        let said: Values = ["allow.raw_sockets", "allow.mount.nozfs", "securelevel=2"]
            .into_iter()
            .filter_map(value)
            .collect();
        assert_eq!(
            differences(&said, &has["web"]),
            [
                "allow.raw_sockets is off, not on",
                "securelevel is -1, not 2"
            ]
        );
        let said: Values = ["allow.chflags=0", "children.max=5", "securelevel=2"]
            .into_iter()
            .filter_map(value)
            .collect();
        assert_eq!(
            differences(&said, &has["db"]),
            ["allow.chflags is on, not off"]
        );
        let (low, high) = (value("securelevel=1"), value("securelevel=3"));
        let differs = differences(&low.into_iter().collect(), &high.into_iter().collect());
        assert_eq!(differs, [""; 0], "a jail may raise it");
        assert_eq!(kernels(b"{}"), Ok(BTreeMap::new()));
        assert!(kernels(b"x").is_err());
    }
}
