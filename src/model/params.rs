//! Parameters of jail(8) for which ezz has no options of its own.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest name of a parameter, in bytes. The name is a node in the kernel's tree of parameters.
const NAME_MAX: usize = 100;

/// The longest value, in bytes. The whole configuration of a jail is one property, and ZFS limits that to 8191 bytes.
const VALUE_MAX: usize = 1024;

/// The parameters that ezz sets itself, each with what a user can do instead.
const OWN: [(&str, &str); 17] = [
    ("name", "it is the name that `ezz create NAME` gives"),
    (
        "jid",
        "the kernel gives each start its number; commands take the name",
    ),
    (
        "path",
        "a jail is at NAME below the site directory, which `ezz init --directory` chooses",
    ),
    ("host.hostname", "use --hostname"),
    ("ip4", "use --address, or --network host or none"),
    ("ip4.addr", "use --address"),
    ("ip6", "use --address, or --network host or none"),
    ("ip6.addr", "use --address"),
    ("interface", "use --address 'INTERFACE|ADDRESS'"),
    ("vnet", "use --network vnet"),
    (
        "mount.fstab",
        "use --param 'mount=LINE', once for each line of that file",
    ),
    (
        "osrelease",
        "the world sets it; choose the world by --track or --pin",
    ),
    (
        "osreldate",
        "the world sets it; choose the world by --track or --pin",
    ),
    (
        "exec.consolelog",
        "what a jail prints at its start is in /var/log/ezz/NAME.log",
    ),
    ("depend", "use `depends` in a fleet file, and `ezz apply`"),
    (
        "persist",
        "ezz always sets it: a jail exists until it is stopped, even without processes",
    ),
    ("command", "use --param exec.start=COMMAND"),
];

/// A parameter that every jail has. Users may give it, and ezz leaves it out.
const ALWAYS: &str = "persist";

/// One parameter: a name, and a value unless it is a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    name: String,
    value: Option<String>,
}

/// The error for a parameter that cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParamError {
    /// The name does not have the form of a parameter's name.
    #[error(
        "bad parameter name {0:?}: expected words of lower-case letters, digits and '_', joined by '.'"
    )]
    Name(String),
    /// ezz sets the parameter itself.
    #[error("ezz sets the parameter {name} itself: {instead}")]
    Own {
        /// The name of the parameter.
        name: String,
        /// What the user can do instead.
        instead: &'static str,
    },
    /// The value is too long, or has a NUL, which jail(8) cannot read.
    #[error("bad value of the parameter {0}: at most {VALUE_MAX} bytes, and no NUL")]
    Value(String),
    /// A flag and its negation are both given.
    #[error("the parameters {0} and {1} contradict each other")]
    Contrary(String, String),
    /// One name is given both as a flag and with a value.
    #[error("the parameter {0} is given with and without a value")]
    Mixed(String),
}

/// Reads `KEY=VALUE`, or `KEY` for a flag.
impl FromStr for Param {
    type Err = ParamError;

    fn from_str(text: &str) -> Result<Self, ParamError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        check_name(name)?;
        if value.as_deref().is_some_and(|value| !is_value(value)) {
            return Err(ParamError::Value(name.to_owned()));
        }
        if name == ALWAYS && value.as_deref().is_some_and(|value| !is_true(value)) {
            return Err(own(name));
        }
        Ok(Param {
            name: name.to_owned(),
            value,
        })
    }
}

fn is_value(value: &str) -> bool {
    value.len() <= VALUE_MAX && !value.contains('\0')
}

fn check_name(name: &str) -> Result<(), ParamError> {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if name.len() > NAME_MAX || !name.split('.').all(word) {
        return Err(ParamError::Name(name.to_owned()));
    }
    let same = |own: &str| own == name || contrary(own) == name;
    if name == ALWAYS {
        return Ok(());
    }
    match OWN.iter().any(|(own, _)| same(own)) {
        true => Err(own(name)),
        false => Ok(()),
    }
}

/// Returns the error for a parameter that ezz sets itself.
fn own(name: &str) -> ParamError {
    let same = |own: &str| own == name || contrary(own) == name;
    let found = OWN.iter().find(|(own, _)| same(own));
    ParamError::Own {
        name: name.to_owned(),
        instead: found.map_or("", |(_, instead)| *instead),
    }
}

/// Reports whether a value of a flag means true, as jail(8) reads it (usr.sbin/jail/config.c, `bool_param`).
fn is_true(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.parse::<i64>().is_ok_and(|number| number != 0)
}

/// Returns the negation of a flag: `allow.noraw_sockets` for `allow.raw_sockets`. jail(8) reads it as the same flag
/// with the value false.
fn contrary(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((node, last)) => format!("{node}.no{last}"),
        None => format!("no{name}"),
    }
}

/// The parameters of a jail, by name, each with its values in order. A flag has no values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<String, Vec<String>>",
    into = "BTreeMap<String, Vec<String>>"
)]
pub struct Params(BTreeMap<String, Vec<String>>);

impl Params {
    /// Collects parameters. Those with the same name become a list of values.
    ///
    /// # Errors
    /// Returns [`ParamError::Contrary`] for a flag and its negation, and [`ParamError::Mixed`] for a name with and
    /// without a value.
    pub fn new(all: impl IntoIterator<Item = Param>) -> Result<Self, ParamError> {
        let mut params: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Param { name, value } in all.into_iter().filter(|it| it.name != ALWAYS) {
            let flag = params.get(&name).map(Vec::is_empty);
            if flag.is_some_and(|flag| flag || value.is_none()) && flag != Some(value.is_none()) {
                return Err(ParamError::Mixed(name));
            }
            params.entry(name).or_default().extend(value);
        }
        for name in params.keys() {
            let contrary = contrary(name);
            if params.contains_key(&contrary) {
                return Err(ParamError::Contrary(name.clone(), contrary));
            }
        }
        Ok(Params(params))
    }

    /// Reports whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the values of a parameter; none if it is not given.
    pub fn get(&self, name: &str) -> Option<&[String]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Reports whether a parameter or its negation is given.
    pub fn says(&self, name: &str) -> bool {
        self.0.contains_key(name) || self.0.contains_key(&contrary(name))
    }

    /// Returns an iterator over the parameters and their values.
    pub fn iter(&self) -> btree_map::Iter<'_, String, Vec<String>> {
        self.0.iter()
    }

    /// Returns each parameter as `KEY` or `KEY=VALUE`.
    pub fn texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        for (name, values) in &self.0 {
            if values.is_empty() {
                texts.push(name.clone());
            }
            texts.extend(values.iter().map(|value| format!("{name}={value}")));
        }
        texts
    }

    /// Returns these parameters, and those of the others that these do not set.
    #[must_use]
    pub fn or(mut self, other: &Params) -> Params {
        for (name, values) in &other.0 {
            let said = self.says(name) || self.0.keys().any(|own| contrary(own) == *name);
            if !said {
                self.0.insert(name.clone(), values.clone());
            }
        }
        self
    }
}

/// Writes the parameters as `KEY` or `KEY=VALUE`, separated by blanks.
impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().join(" "))
    }
}

impl From<Params> for BTreeMap<String, Vec<String>> {
    fn from(params: Params) -> Self {
        params.0
    }
}

impl TryFrom<BTreeMap<String, Vec<String>>> for Params {
    type Error = ParamError;

    fn try_from(mut map: BTreeMap<String, Vec<String>>) -> Result<Self, ParamError> {
        let always = map.remove(ALWAYS).unwrap_or_default();
        if !always.iter().all(|value| is_true(value)) {
            return Err(own(ALWAYS));
        }
        for (name, values) in &map {
            check_name(name)?;
            if !values.iter().all(|value| is_value(value)) {
                return Err(ParamError::Value(name.clone()));
            }
            if map.contains_key(&contrary(name)) {
                return Err(ParamError::Contrary(name.clone(), contrary(name)));
            }
        }
        Ok(Params(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(texts: &[&str]) -> Result<Params, ParamError> {
        let all: Result<Vec<Param>, _> = texts.iter().map(|text| text.parse()).collect();
        Params::new(all?)
    }

    #[test]
    fn names_and_values() {
        let made = params(&[
            "allow.raw_sockets",
            "children.max=5",
            "exec.prestart=/bin/echo a, 'b'; #",
            "exec.prestart=second",
            "meta=",
        ])
        .expect("valid");
        assert_eq!(made.get("allow.raw_sockets"), Some(&[][..]));
        assert_eq!(made.get("exec.prestart").expect("two").len(), 2);
        assert_eq!(made.get("meta"), Some(&[String::new()][..]));
        let json = serde_json::to_string(&made).expect("text");
        assert_eq!(
            serde_json::from_str::<Params>(&json).expect("the same"),
            made
        );
        assert!(
            made.to_string()
                .starts_with("allow.raw_sockets children.max=5 ")
        );
        for bad in [
            "",
            "=",
            "a b=1",
            "A=1",
            "a..b",
            ".a",
            "a.",
            "-c",
            "1a=2",
            "a;b=1",
            "a\n=1",
            "a{=1",
            "*=1",
            "a=\0",
            &format!("a={}", "x".repeat(2000)),
            &"a".repeat(200),
        ] {
            assert!(params(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_ezzs_own_is_refused_with_how_it_is_said() {
        for own in [
            "path=/",
            "name=x",
            "ip4.addr=192.0.2.1",
            "nopersist",
            "vnet",
            "novnet",
            "persist=0",
            "persist=false",
        ] {
            let error = params(&[own]).expect_err(own).to_string();
            assert!(error.contains("ezz sets the parameter"), "{error}");
        }
        // Each entry names the option that sets the parameter, or explains why there is none.
        for (name, instead) in OWN {
            let said = [
                "--",
                "`ezz ",
                "/var/log",
                "commands take",
                "until it is stopped",
            ];
            assert!(
                said.iter().any(|it| instead.contains(it)),
                "{name}: {instead}"
            );
            assert!(params(&[&format!("{name}=x")]).is_err(), "{name}");
        }
        assert!(serde_json::from_str::<Params>(r#"{"path":["/"]}"#).is_err());
        assert!(serde_json::from_str::<Params>(r#"{"x":["a\u0000"]}"#).is_err());
    }

    /// Many a jail.conf(5) has it, and every jail has it.
    #[test]
    fn what_every_jail_has_may_be_said() {
        for same in ["persist", "persist=1", "persist=true"] {
            assert_eq!(params(&[same]), Ok(Params::default()), "{same}");
        }
        let read = serde_json::from_str::<Params>(r#"{"persist":[],"securelevel":["2"]}"#);
        assert_eq!(read.expect("valid").to_string(), "securelevel=2");
        assert!(serde_json::from_str::<Params>(r#"{"persist":["0"]}"#).is_err());
    }

    #[test]
    fn contraries_are_refused() {
        for two in [
            ["allow.mount", "allow.nomount"],
            ["allow.nomount", "allow.mount"],
        ] {
            assert!(
                matches!(params(&two), Err(ParamError::Contrary(..))),
                "{two:?}"
            );
        }
        for two in [["a", "a=1"], ["a=1", "a"]] {
            assert!(matches!(params(&two), Err(ParamError::Mixed(_))), "{two:?}");
        }
        assert_eq!(
            params(&["a", "a"]).expect("once"),
            params(&["a"]).expect("once")
        );
    }

    #[test]
    fn those_of_a_source_give_way() {
        let own = params(&["allow.nomount", "securelevel=2"]).expect("valid");
        let source = params(&["allow.mount", "securelevel=3", "children.max=1"]).expect("valid");
        assert_eq!(
            own.or(&source).to_string(),
            "allow.nomount children.max=1 securelevel=2"
        );
    }
}
