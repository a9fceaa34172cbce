//! Limits of the memory, the processor time and the processes that a jail may use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

use super::Cpuset;

/// The limits of one jail. A field that is none sets no limit, with an exception: on Linux every jail has limits of
/// memory and processes, so that neither a memory leak nor a fork bomb can exhaust the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most memory, in bytes. If a jail requests more, Linux kills one of its processes (memory.max of cgroups(7)),
    /// and FreeBSD refuses the request (memoryuse of rctl(8)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// The most processor time, in processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// The largest number of processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// The processors that the jail may run on (cpuset.cpus of cgroups(7), cpuset(1)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<Cpuset>,
    /// Limits that this version does not know. It keeps them, and does not start the jail, because it could not enforce
    /// them.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Limits {
    /// Reports whether there is no limit.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// Returns those of the other limits that have no counterpart in these.
    #[must_use]
    pub fn leaves(&self, others: Limits) -> Limits {
        Limits {
            memory: others.memory.filter(|_| self.memory.is_none()),
            cpus: others.cpus.filter(|_| self.cpus.is_none()),
            processes: others.processes.filter(|_| self.processes.is_none()),
            cpuset: others.cpuset.filter(|_| self.cpuset.is_none()),
            other: Map::new(),
        }
    }

    /// Returns the names of the limits that this version does not know.
    pub fn unknown(&self) -> Vec<&str> {
        self.other.keys().map(String::as_str).collect()
    }
}

/// Writes the limits as `memory=536870912 cpus=1.5 processes=100 cpuset=0-3`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            self.memory.map(|bytes| format!("memory={bytes}")),
            self.cpus.map(|cpus| format!("cpus={cpus}")),
            self.processes.map(|most| format!("processes={most}")),
            self.cpuset.as_ref().map(|cpus| format!("cpuset={cpus}")),
        ];
        let other = self.other.iter();
        let other = other.map(|(name, value)| format!("{name}={value}"));
        let words = words.into_iter().flatten().chain(other);
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

/// Processor time as a number of processors, to a hundredth. FreeBSD counts it in percent of one processor (`pcpu` of
/// rctl(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus(u32);

/// The error for a text that is not a number of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "expected a number of processors from 0.01 to 4096, such as 1.5, with two decimals at most"
)]
pub struct CpusError;

impl Cpus {
    /// The largest value, in hundredths.
    const MOST: u32 = 409_600;

    /// Creates a value from hundredths of one processor.
    ///
    /// # Errors
    /// Returns [`CpusError`] if the number is 0, or exceeds that of 4096 processors.
    pub fn from_hundredths(hundredths: u32) -> Result<Self, CpusError> {
        match hundredths {
            1..=Self::MOST => Ok(Cpus(hundredths)),
            _ => Err(CpusError),
        }
    }

    /// Returns the value in hundredths of one processor.
    pub fn hundredths(self) -> u32 {
        self.0
    }
}

impl FromStr for Cpus {
    type Err = CpusError;

    fn from_str(text: &str) -> Result<Self, CpusError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) || !matches!(part.len(), 1 | 2) {
            return Err(CpusError);
        }
        let number = |text: &str| text.parse::<u32>().map_err(|_| CpusError);
        let tenths = if part.len() == 1 { 10 } else { 1 };
        let whole = number(whole)?.checked_mul(100).ok_or(CpusError)?;
        Self::from_hundredths(whole.saturating_add(number(part)? * tenths))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match (part, part % 10) {
            (0, _) => write!(f, "{whole}"),
            (_, 0) => write!(f, "{whole}.{}", part / 10),
            _ => write!(f, "{whole}.{part:02}"),
        }
    }
}

/// Writes a number, such as 1.5.
impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(f64::from(self.0) / 100.0)
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // The shortest text of a float has the decimals that were written.
        let number = f64::deserialize(from)?;
        number
            .to_string()
            .parse()
            .map_err(|error: CpusError| serde::de::Error::custom(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_hundredths() {
        for (text, hundredths, shown) in [
            ("1", 100, "1"),
            ("1.5", 150, "1.5"),
            ("0.25", 25, "0.25"),
            ("0.05", 5, "0.05"),
            ("2.0", 200, "2"),
            ("4096", 409_600, "4096"),
        ] {
            let cpus: Cpus = text.parse().expect(text);
            assert_eq!(cpus.hundredths(), hundredths, "{text}");
            assert_eq!(cpus.to_string(), shown);
            let json = serde_json::to_string(&cpus).expect("a number");
            assert_eq!(serde_json::from_str::<Cpus>(&json).expect(&json), cpus);
        }
        for bad in [
            "",
            "0",
            "0.0",
            "-1",
            "+1",
            "1.",
            ".5",
            "1.234",
            "4096.01",
            "1e3",
            "99999999999",
            "1,5",
            "inf",
        ] {
            assert_eq!(bad.parse::<Cpus>(), Err(CpusError), "{bad:?}");
        }
        for bad in ["0", "-1", "1.234", "1e99", "\"1\"", "null"] {
            assert!(serde_json::from_str::<Cpus>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_are_stored_as_far_as_there_are_any() {
        let limits: Limits = serde_json::from_str(r#"{"memory": 1024, "cpus": 2}"#).expect("valid");
        assert_eq!(limits.to_string(), "memory=1024 cpus=2");
        assert_eq!(
            serde_json::to_string(&limits).expect("text"),
            r#"{"memory":1024,"cpus":2.0}"#
        );
        assert!(Limits::default().is_empty());
        let built_in = Limits {
            memory: Some(7),
            processes: Some(9),
            ..Limits::default()
        };
        assert_eq!(limits.leaves(built_in).to_string(), "processes=9");
    }

    #[test]
    fn limits_of_a_newer_version_are_kept_and_named() {
        let text = r#"{"memory":1024,"cpuset":"0-1","io":{"read":7}}"#;
        let limits: Limits = serde_json::from_str(text).expect("valid");
        assert_eq!(limits.unknown(), ["io"]);
        assert!(!limits.is_empty());
        assert_eq!(
            limits.to_string(),
            r#"memory=1024 cpuset=0-1 io={"read":7}"#
        );
        assert_eq!(serde_json::to_string(&limits).expect("text"), text);
        // A known limit with a bad value is an error, not a limit of a newer version.
        assert!(serde_json::from_str::<Limits>(r#"{"cpuset":"x"}"#).is_err());
    }
}
