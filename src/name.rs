//! Names of datasets, snapshots, jails, tracks and generations, parsed once at the edge into types.
//!
//! Nothing below the command line checks a name again, least of all the channel programs, which accept any name
//! (zfs/CONTRACT.md). This module must not know of pools or hosts.

mod simple;

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hint::Hint;

pub use simple::{FlavourName, FleetName};

/// The longest path of a dataset or snapshot, in bytes (ZFS_MAX_DATASET_NAME_LEN less its NUL, include/sys/fs/zfs.h).
pub const MAX_PATH: usize = 255;

/// The longest name of a jail or track, in bytes: that of a DNS label.
pub const MAX_LABEL: usize = 63;

/// Names that no jail can have, because they are directories of the site.
pub const RESERVED: [&str; 4] = ["basejail", "newjail", "flavours", "archive"];

/// Words of ezz's own command line. No new jail can have such a name.
pub const WORDS: [&str; 3] = ["help", "version", "all"];

/// The largest number of names that one pattern may expand to.
pub const MAX_EXPANSION: usize = 100_000;

/// The error for a name that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// The text is not a valid name of a jail.
    #[error("bad jail name {0:?}: {1}")]
    Jail(String, &'static str),
    /// The text is not a valid name of a track.
    #[error("bad track name {0:?}: {1}")]
    Track(String, &'static str),
    /// The text is not a valid name of a fleet or a flavour.
    #[error("bad {0} name {1:?}: {2}")]
    Simple(&'static str, String, &'static str),
    /// The text is not a path of a dataset that both OpenZFS and ezz accept.
    #[error("bad dataset name {0:?}: {1}")]
    Dataset(String, &'static str),
    /// The text is not a valid `dataset@snapshot`.
    #[error("bad snapshot name {0:?}: {1}")]
    Snapshot(String, &'static str),
    /// The text is not the number of a generation.
    #[error("bad generation {0:?}: expected a number such as 7 or LABEL.7")]
    Generation(String),
    /// The text has a range, such as `web{01..20}`, that cannot be expanded.
    #[error("bad range in {0:?}: {1}")]
    Range(String, &'static str),
}

impl Hint for NameError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            NameError::Jail(..) => {
                "a jail's name is a to z, 0 to 9 and '-', begins with a letter, does not end with '-', and has at most 63 characters"
            }
            NameError::Track(..) => {
                "a track's name is a to z, 0 to 9 and '-', neither first nor last a '-', at most 63 characters"
            }
            NameError::Simple(..) => {
                "it is a to z, 0 to 9 and '-', neither first nor last a '-', at most 63 characters"
            }
            NameError::Dataset(..) => "a dataset is POOL/NAME, for example tank/ezz",
            NameError::Snapshot(..) => "a snapshot is DATASET@NAME",
            NameError::Generation(_) => "`ezz world list` shows the generations",
            NameError::Range(..) => "a range is NAME{01..20}",
        };
        Some(hint.to_owned())
    }
}

fn label(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > MAX_LABEL {
        return Err("it is longer than 63 characters");
    }
    if !text
        .bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    {
        return Err("it has a character other than a to z, 0 to 9 and '-'");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("it begins or ends with '-'");
    }
    Ok(())
}

/// The name of a jail: a DNS label in lower case that begins with a letter and is not reserved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JailName(String);

impl JailName {
    /// Parses a jail name.
    ///
    /// # Errors
    /// [`NameError::Jail`], with the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        label(text).map_err(|why| NameError::Jail(text.to_owned(), why))?;
        // jail(8) takes a name of digits only for a jid, and rc(8) makes variables of names.
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(NameError::Jail(
                text.to_owned(),
                "it does not begin with a letter",
            ));
        }
        if RESERVED.contains(&text) {
            return Err(NameError::Jail(text.to_owned(), "it is reserved"));
        }
        Ok(JailName(text.to_owned()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a track: a DNS label in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrackName(String);

impl TrackName {
    /// Parses a track name. Unlike a jail's name it may begin with a digit (`14`), because the links of tracks have a
    /// directory of their own, which contains no numbers of generations.
    ///
    /// # Errors
    /// [`NameError::Track`], with the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        label(text).map_err(|why| NameError::Track(text.to_owned(), why))?;
        Ok(TrackName(text.to_owned()))
    }

    /// Returns the track that is used when a command names none.
    pub fn main() -> Self {
        TrackName("main".to_owned())
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The number of a generation; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationId(pub u32);

impl GenerationId {
    /// Parses the last component of the name of a generation's dataset: digits without a leading zero.
    pub fn from_component(text: &str) -> Option<Self> {
        let canonical =
            !text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        if !canonical {
            return None;
        }
        text.parse().ok().map(GenerationId)
    }
}

/// The path of a filesystem dataset, `pool/a/b`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatasetName(String);

impl DatasetName {
    /// Parses a dataset path. Blanks are allowed, as in OpenZFS (module/zcommon/zfs_namecheck.c). `%` is not, because
    /// OpenZFS hides such datasets.
    ///
    /// # Errors
    /// [`NameError::Dataset`], with the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bad = |why| Err(NameError::Dataset(text.to_owned(), why));
        if text.is_empty() {
            return bad("it is empty");
        }
        if text.len() > MAX_PATH {
            return bad("it is longer than 255 bytes");
        }
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return bad("it does not begin with a letter");
        }
        for component in text.split('/') {
            if component.is_empty() || component == "." || component == ".." {
                return bad("it has an empty component, '.' or '..'");
            }
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.: ".contains(&b);
            if !component.bytes().all(allowed) {
                return bad("it has a character that OpenZFS does not allow");
            }
        }
        Ok(DatasetName(text.to_owned()))
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the pool, which is everything before the first `/`.
    pub fn pool(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// Returns the last component of the path.
    pub fn leaf(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the parent dataset; none for the root of a pool.
    pub fn parent(&self) -> Option<DatasetName> {
        self.0
            .rsplit_once('/')
            .map(|(parent, _)| DatasetName(parent.to_owned()))
    }

    /// Returns the name of a child of this dataset.
    ///
    /// # Errors
    /// [`NameError::Dataset`] if the path is too long or the component is not allowed.
    pub fn child(&self, component: &str) -> Result<DatasetName, NameError> {
        DatasetName::parse(&format!("{}/{component}", self.0))
    }

    /// Reports whether `other` is this dataset or lies below it.
    pub fn contains(&self, other: &DatasetName) -> bool {
        other.0 == self.0
            || other
                .0
                .strip_prefix(&self.0)
                .is_some_and(|rest| rest.starts_with('/'))
    }

    /// Returns the name of a snapshot of this dataset.
    ///
    /// # Errors
    /// [`NameError::Snapshot`] if the path is too long or the snapshot's name is not allowed.
    pub fn at(&self, snapshot: &str) -> Result<SnapshotName, NameError> {
        SnapshotName::parse(&format!("{}@{snapshot}", self.0))
    }
}

/// The name of a snapshot, `dataset@name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName {
    dataset: DatasetName,
    snapshot: String,
}

impl SnapshotName {
    /// Parses `dataset@snapshot`.
    ///
    /// # Errors
    /// [`NameError::Snapshot`], with the rule that is broken.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bad = |why| NameError::Snapshot(text.to_owned(), why);
        let (dataset, snapshot) = text.split_once('@').ok_or_else(|| bad("it has no '@'"))?;
        if text.len() > MAX_PATH {
            return Err(bad("it is longer than 255 bytes"));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.: ".contains(&b);
        if snapshot.is_empty() || !snapshot.bytes().all(allowed) {
            return Err(bad("its part after '@' is not one that OpenZFS allows"));
        }
        let dataset = DatasetName::parse(dataset).map_err(|_| bad("its dataset is not valid"))?;
        Ok(SnapshotName {
            dataset,
            snapshot: snapshot.to_owned(),
        })
    }

    /// Returns the dataset of the snapshot.
    pub fn dataset(&self) -> &DatasetName {
        &self.dataset
    }

    /// Returns the part after `@`.
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }
}

impl fmt::Display for JailName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for TrackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.dataset, self.snapshot)
    }
}
impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! text_conversions {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                $name::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.to_string()
            }
        }
        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                $name::parse(text)
            }
        }
    )*};
}
text_conversions!(
    JailName,
    TrackName,
    DatasetName,
    SnapshotName,
    FleetName,
    FlavourName
);

/// Expands the ranges in an argument: `web{01..20}` becomes 20 names, and `a{1..2}b{1..2}` four. Leading zeros set the
/// width, as in the shells that have this syntax.
///
/// # Errors
/// [`NameError::Range`] for a broken or too large range.
pub fn expand(pattern: &str) -> Result<Vec<String>, NameError> {
    let bad = |why| NameError::Range(pattern.to_owned(), why);
    // 100 000 copies of an argument of 128 KiB would exhaust the memory.
    if pattern.contains('{') && pattern.len() > MAX_PATH {
        return Err(bad("it is longer than 255 bytes"));
    }
    let mut done = vec![String::new()];
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        if before.contains('}') {
            return Err(bad("'}' without '{'"));
        }
        let close = after.find('}').ok_or_else(|| bad("'{' without '}'"))?;
        let (low, high) = after[1..close]
            .split_once("..")
            .ok_or_else(|| bad("expected FIRST..LAST"))?;
        let number = |text: &str| {
            if text.is_empty() || text.len() > 9 || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad("FIRST and LAST are numbers of at most 9 digits"));
            }
            text.parse::<u32>()
                .map_err(|_| bad("FIRST and LAST are numbers of at most 9 digits"))
        };
        let (first, last) = (number(low)?, number(high)?);
        if first > last {
            return Err(bad("FIRST is larger than LAST"));
        }
        let width = if low.starts_with('0') { low.len() } else { 1 };
        let count = (last - first) as usize + 1;
        if count.saturating_mul(done.len()) > MAX_EXPANSION {
            return Err(bad("more than 100000 names"));
        }
        done = done
            .iter()
            .flat_map(|head| (first..=last).map(move |n| format!("{head}{before}{n:0width$}")))
            .collect();
        rest = &after[close + 1..];
    }
    if rest.contains('}') {
        return Err(bad("'}' without '{'"));
    }
    for name in &mut done {
        name.push_str(rest);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jail_names_are_dns_labels() {
        for good in ["a", "web1", "a-b", "x0123456789"] {
            assert_eq!(JailName::parse(good).map(String::from).as_deref(), Ok(good));
        }
        for bad in [
            "", "1a", "-a", "a-", "A", "a.b", "a_b", "a b", "a/b", "../x", "a\0", "ä", "basejail",
            "newjail", "a@b", "a;b", "a$(id)",
        ] {
            assert!(JailName::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(JailName::parse(&"a".repeat(63)).is_ok());
        assert!(JailName::parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn datasets_may_have_blanks_but_no_tricks() {
        assert_eq!(
            DatasetName::parse("my pool/ezz")
                .map(|d| d.pool().to_owned())
                .as_deref(),
            Ok("my pool")
        );
        for bad in [
            "", "/a", "a/", "a//b", "a/../b", "a@b", "a#b", "a%b", "a\tb", "1a",
        ] {
            assert!(DatasetName::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(DatasetName::parse(&format!("a/{}", "b".repeat(254))).is_err());
    }

    #[test]
    fn containment_is_by_component() {
        let site = DatasetName::parse("tank/ezz").expect("valid");
        assert!(site.contains(&DatasetName::parse("tank/ezz/jails").expect("valid")));
        assert!(!site.contains(&DatasetName::parse("tank/ezzy").expect("valid")));
    }

    #[test]
    fn ranges_expand_with_their_width() {
        assert_eq!(
            expand("web{08..10}"),
            Ok(vec!["web08".into(), "web09".into(), "web10".into()])
        );
        assert_eq!(expand("a{1..2}b{1..2}").map(|v| v.len()), Ok(4));
        assert_eq!(expand("plain"), Ok(vec!["plain".into()]));
        for bad in [
            "a{",
            "a}",
            "a}{1..2}",
            "a{1}",
            "a{2..1}",
            "a{x..y}",
            "a{0..999999999}",
            "a{-1..2}",
            &format!("{}{{1..2}}", "a".repeat(255)),
        ] {
            assert!(expand(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn generation_numbers_are_canonical() {
        assert_eq!(GenerationId::from_component("7"), Some(GenerationId(7)));
        for bad in ["", "07", "0", "-1", "7a", "99999999999"] {
            assert_eq!(GenerationId::from_component(bad), None, "{bad:?}");
        }
    }
}
