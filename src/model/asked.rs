//! Limits as a command or a fleet file requests them: a value, `none`, or nothing. Also the defaults that a new jail
//! gets where nothing is requested.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::Visitor;
use serde::de::value::{F64Deserializer, I64Deserializer};
use serde::{Deserialize, Deserializer};

use super::{Cpus, Cpuset, Limits};

/// A requested value, or the word `none`, which removes the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrNone<T>(pub Option<T>);

impl<T> OrNone<T> {
    /// Parses a text with `parse`, unless the text is `none`.
    ///
    /// # Errors
    /// Returns the errors of `parse`.
    pub fn parse<E>(text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Self, E> {
        match text {
            "none" => Ok(OrNone(None)),
            text => parse(text).map(|value| OrNone(Some(value))),
        }
    }
}

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        OrNone::parse(text, str::parse)
    }
}

/// Reads `"none"`, or a value in the form that `T` reads. This is no untagged enum, because the errors of those do not
/// say what is wrong.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrNone<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ValueOrNone(PhantomData))
    }
}

struct ValueOrNone<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ValueOrNone<T> {
    type Value = OrNone<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or \"none\"")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
        T::deserialize(I64Deserializer::<E>::new(number)).map(|value| OrNone(Some(value)))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Self::Value, E> {
        T::deserialize(F64Deserializer::<E>::new(number)).map(|value| OrNone(Some(value)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "none" => Ok(OrNone(None)),
            text => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }
}

/// The limits that a command line requests for a jail; a field is none if its option was not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedLimits {
    /// The most memory, in bytes.
    pub memory: Option<OrNone<u64>>,
    /// The most processor time, in processors.
    pub cpus: Option<OrNone<Cpus>>,
    /// The largest number of processes.
    pub processes: Option<OrNone<u32>>,
    /// The processors that the jail may run on.
    pub cpuset: Option<OrNone<Cpuset>>,
}

impl AskedLimits {
    /// Returns `limits` with the requested values in place of their own.
    #[must_use]
    pub fn over(&self, limits: Limits) -> Limits {
        fn either<T: Clone>(asked: Option<&OrNone<T>>, otherwise: Option<T>) -> Option<T> {
            asked.map_or(otherwise, |asked| asked.0.clone())
        }
        Limits {
            memory: either(self.memory.as_ref(), limits.memory),
            cpus: either(self.cpus.as_ref(), limits.cpus),
            processes: either(self.processes.as_ref(), limits.processes),
            cpuset: either(self.cpuset.as_ref(), limits.cpuset),
            other: limits.other,
        }
    }
}

/// The limits that the host's configuration gives a new jail that requests none. They are copied into the jail when it
/// is created, so a later change of the configuration changes no jail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The most memory, in bytes.
    pub memory: Option<u64>,
    /// The largest number of processes.
    pub processes: Option<u32>,
    /// The quota in bytes.
    pub quota: Option<u64>,
}

impl Defaults {
    /// Returns the defaults that are limits, which is all but the quota.
    pub fn limits(self) -> Limits {
        Limits {
            memory: self.memory,
            processes: self.processes,
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::size;

    #[test]
    fn none_is_a_value() {
        assert_eq!(OrNone::parse("none", size), Ok(OrNone(None)));
        assert_eq!(OrNone::parse("1K", size), Ok(OrNone(Some(1024))));
        assert!(OrNone::parse("None", size).is_err());
        assert_eq!("none".parse::<OrNone<Cpus>>(), Ok(OrNone(None)));
        let cpus: Cpus = "1.5".parse().expect("a number");
        assert_eq!("1.5".parse(), Ok(OrNone(Some(cpus))));
        for (json, value) in [
            ("1.5", Some(OrNone(Some(cpus)))),
            ("\"none\"", Some(OrNone(None))),
            ("\"1.5\"", None),
            ("1.234", None),
            ("true", None),
        ] {
            let read = serde_json::from_str::<OrNone<Cpus>>(json).ok();
            assert_eq!(read, value, "{json}");
        }
    }

    #[test]
    fn what_is_not_asked_stays() {
        let text = r#"{"memory":1024,"processes":7,"cpuset":"0-1","io":{"read":7}}"#;
        let limits: Limits = serde_json::from_str(text).expect("valid");
        assert_eq!(AskedLimits::default().over(limits.clone()), limits);
        let asked = AskedLimits {
            memory: Some(OrNone(Some(9))),
            processes: Some(OrNone(None)),
            ..AskedLimits::default()
        };
        assert_eq!(
            asked.over(limits).to_string(),
            r#"memory=9 cpuset=0-1 io={"read":7}"#
        );
    }
}
