//! The set of processors that a jail may run on.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A set of processor numbers, never empty. Its text has the form that cpuset(1) and `cpuset.cpus` of cgroups(7) read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cpuset(BTreeSet<u16>);

/// The error for a text that is not a list of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("expected numbers of processors from 0 to 4095 and ranges of them, such as 0-3,6")]
pub struct CpusetError;

impl Cpuset {
    /// The highest processor number that is accepted.
    const MOST: u16 = 4095;
}

impl FromStr for Cpuset {
    type Err = CpusetError;

    fn from_str(text: &str) -> Result<Self, CpusetError> {
        let number = |text: &str| match text.parse::<u16>() {
            Ok(number) if number <= Self::MOST && text.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(number)
            }
            _ => Err(CpusetError),
        };
        let mut all = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(CpusetError);
            }
            all.extend(first..=last);
        }
        Ok(Cpuset(all))
    }
}

/// Writes the processors in ascending order, as numbers and ranges, such as `0-3,6`.
impl fmt::Display for Cpuset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for cpu in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
                _ => ranges.push((*cpu, *cpu)),
            }
        }
        let texts = ranges.into_iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        f.write_str(&texts.collect::<Vec<_>>().join(","))
    }
}

impl TryFrom<String> for Cpuset {
    type Error = CpusetError;

    fn try_from(text: String) -> Result<Self, CpusetError> {
        text.parse()
    }
}

impl From<Cpuset> for String {
    fn from(cpuset: Cpuset) -> String {
        cpuset.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        for (text, shown) in [
            ("0", "0"),
            ("0-3,6", "0-3,6"),
            ("6,0-1,2,2,3", "0-3,6"),
            ("4095", "4095"),
            ("07", "7"),
        ] {
            let cpuset: Cpuset = text.parse().expect(text);
            assert_eq!(cpuset.to_string(), shown);
            let json = serde_json::to_string(&cpuset).expect("text");
            assert_eq!(serde_json::from_str::<Cpuset>(&json).expect(&json), cpuset);
        }
        for bad in [
            "", ",", "0,", "-", "1-", "-1", "3-1", "4096", "+1", "a", "0 1", "0-1-2", "0;id",
        ] {
            assert_eq!(bad.parse::<Cpuset>(), Err(CpusetError), "{bad:?}");
        }
    }
}
