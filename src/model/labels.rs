//! Labels of a jail, by which commands select jails.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A label, written `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// The key: letters, digits, `.`, `_`, `-` and `/`. It begins with a letter or a digit, and has at most 63 bytes.
    pub key: String,
    /// The value: the characters of a key, and `:`, `@` and `+`. It may be empty, and has at most 63 bytes.
    pub value: String,
}

/// The error for a text that is not a label.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "bad label {0:?}: expected KEY=VALUE of letters, digits and ._-/ (in values also :@+), each of at most 63"
)]
pub struct LabelError(pub String);

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let bad = || LabelError(text.to_owned());
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        let key_ok = (1..=63).contains(&key.len())
            && key.bytes().all(plain)
            && key.starts_with(|c: char| c.is_ascii_alphanumeric());
        let value_ok = value.len() <= 63 && value.bytes().all(|b| plain(b) || b":@+".contains(&b));
        if key_ok && value_ok {
            Ok(Label {
                key: key.to_owned(),
                value: value.to_owned(),
            })
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// The labels of one jail; each key has one value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Reports whether the jail has no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reports whether the jail has this label.
    pub fn has(&self, label: &Label) -> bool {
        self.0.get(&label.key) == Some(&label.value)
    }

    /// Returns each label as `KEY=VALUE`, in the order of the keys.
    pub fn texts(&self) -> Vec<String> {
        let all = self.0.iter();
        all.map(|(key, value)| format!("{key}={value}")).collect()
    }
}

impl Extend<(String, String)> for Labels {
    /// Adds labels. If a key occurs more than once, its last value counts.
    fn extend<T: IntoIterator<Item = (String, String)>>(&mut self, pairs: T) {
        self.0.extend(pairs);
    }
}

impl IntoIterator for Labels {
    type Item = (String, String);
    type IntoIter = std::collections::btree_map::IntoIter<String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Label> for Labels {
    /// Collects labels. If a key occurs more than once, its last value counts.
    fn from_iter<T: IntoIterator<Item = Label>>(labels: T) -> Self {
        let pairs = labels.into_iter().map(|label| (label.key, label.value));
        Labels(pairs.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_key_and_value() {
        for good in ["a=", "a=b", "tier=front", "example.org/role=db:1@x+y"] {
            assert_eq!(
                good.parse::<Label>().map(|l| l.to_string()).as_deref(),
                Ok(good)
            );
        }
        for bad in [
            "", "a", "=b", "-a=b", "a b=c", "a=b c", "a=b=c", "a=\n", "ä=b",
        ] {
            assert!(bad.parse::<Label>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn of_two_values_the_last_counts() {
        let labels: Labels = ["a=1", "b=2", "a=3"]
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        assert_eq!(labels.texts(), ["a=3", "b=2"]);
        assert!(labels.has(&"a=3".parse().expect("it is good")));
        assert!(!labels.has(&"a=1".parse().expect("it is good")));
    }
}
