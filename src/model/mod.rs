//! The parts of a site as plain values: the JSON of the `ezz:*` properties (`stored`), the results of an observation
//! (`observed`), and the names of a site's datasets.
//!
//! This module is pure: it must not access pools, hosts or clocks. It keeps fields that this version does not know, so
//! that an older ezz does not lose what a newer one wrote.

mod address;
mod asked;
mod conditions;
mod cpuset;
mod flags;
mod killed;
mod labels;
mod limits;
mod mount;
mod observed;
mod params;
mod spec;
mod stored;
mod text;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use address::{AddressPool, PoolError};
pub use asked::{AskedLimits, Defaults, OrNone};
pub use conditions::{Bound, HostConditions, Lack, Listener, Owner, Taken};
pub use cpuset::{Cpuset, CpusetError};
pub use flags::Flags;
pub use killed::Killed;
pub use labels::{Label, LabelError, Labels};
pub use limits::{Cpus, CpusError, Limits};
pub use mount::Mount;
pub use observed::{
    Changed, Debris, Generation, GenerationError, Half, Inventory, Jail, JailState, LeftSnapshot,
    Site, Stranger, SwapLog, UnderWay,
};
pub use params::{Param, ParamError, Params};
pub use spec::{BaseMount, JailSpec};
pub use stored::{
    Address, AddressError, Base, Instead, Intent, JailConfig, Kind, Merging, Network, Phase,
    Populated, Rejected, Rollout, Seal, Served, Swap, Todo, Track, World,
};
pub use text::{MEMORY_LEAST, deceptive, hostname, in_units, memory, printable, processes, size};

pub use crate::profile::Os;

use crate::name::{DatasetName, GenerationId, JailName, NameError, SnapshotName, TrackName};

/// The format of the pool that this version writes.
pub const FORMAT: u32 = 1;

/// The longest value of an `ezz:*` property, in bytes. ZFS takes 8191 (dsl_prop.c).
pub const MAX_VALUE: usize = 8000;

/// The prefix of the snapshots of jails that ezz creates before a merge.
pub const MERGE_SNAPSHOT: &str = "ezz-merge-";

/// The prefix of the snapshots of jails that ezz creates after a merge. The difference between the two snapshots is
/// what the merge wrote.
pub const MERGED_SNAPSHOT: &str = "ezz-merged-";

/// The prefix of the snapshots from which clones of jails are made. ezz destroys such a snapshot with its last clone.
pub const CLONE_SNAPSHOT: &str = "ezz-clone-";

/// The tag of the ZFS holds that ezz places.
pub const HOLD_TAG: &str = "ezz";

/// The names of the properties.
pub mod property {
    /// The native property that gives a dataset to a jail. FreeBSD and Linux have different names for it.
    pub const DELEGATED: &str = if cfg!(target_os = "freebsd") {
        "jailed"
    } else {
        "zoned"
    };
    /// On the site: the format of the site.
    pub const FORMAT: &str = "ezz:format";
    /// On the site: its UUID.
    pub const ID: &str = "ezz:id";
    /// On the site: the number that was last given to a generation.
    pub const SEQ: &str = "ezz:seq";
    /// On the site: the epoch, which every commit raises.
    pub const EPOCH: &str = "ezz:epoch";
    /// On SITE/basejail: the prefix of a track's property.
    pub const TRACK: &str = "ezz:track:";
    /// On SITE/basejail: the prefix of the log of a track's swaps.
    pub const SWAPS: &str = "ezz:swaps:";
    /// On SITE/basejail: the prefix of the record of a roll-out while it is under way.
    pub const ROLLOUT: &str = "ezz:rollout:";
    /// Prefix of accounts that only pruned generations had, by profile and number, on SITE/basejail.
    pub const ACCOUNTS: &str = "ezz:accounts:";
    /// That a roll-out of a generation failed, on SITE/basejail/N.
    pub const REJECTED: &str = "ezz:rejected";
    /// On SITE/basejail/N: records that a track pointed to the generation and has left it.
    pub const SERVED: &str = "ezz:served";
    /// On SITE/basejail/N: records that the files of the stage are complete.
    pub const POPULATED: &str = "ezz:populated";
    /// That a seal is under way, on SITE/basejail/N: until a track has been there, it is not sealed.
    pub const SEALING: &str = "ezz:sealing";
    /// That half of a generation is being destroyed, on it.
    pub const PRUNED: &str = "ezz:pruned";
    /// On SITE/basejail/N: describes the world of the generation.
    pub const WORLD: &str = "ezz:world";
    /// On both snapshots @N: the seal.
    pub const SEALED: &str = "ezz:sealed";
    /// On SITE/jails/NAME: the configuration of the jail.
    pub const JAIL: &str = "ezz:jail";
    /// On SITE/jails/NAME: records that the files of the jail are being merged.
    pub const MERGING: &str = "ezz:merging";
    /// On SITE/jails: the prefix of an intent's property.
    pub const INTENT: &str = "ezz:intent:";
}

/// The error for a property value that is not valid.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The value is not the JSON that was expected.
    #[error("{property} on {dataset} is not valid")]
    Json {
        /// The dataset that has the property.
        dataset: String,
        /// The name of the property.
        property: String,
        /// The error of the JSON parser.
        source: serde_json::Error,
    },
    /// The value is not a number.
    #[error("{property} on {dataset} is {value:?}, not a number")]
    Number {
        /// The dataset that has the property.
        dataset: String,
        /// The name of the property.
        property: String,
        /// The value of the property.
        value: String,
    },
    /// The value is too long for a property, or has a control character.
    #[error("the value of {property} for {dataset} {why}")]
    Value {
        /// The dataset that has the property, or was to get it.
        dataset: String,
        /// The name of the property.
        property: String,
        /// What is wrong with the value.
        why: &'static str,
    },
    /// A name does not parse.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Encodes a value as compact JSON for a property.
///
/// # Errors
/// [`ModelError::Value`] if it is longer than [`MAX_VALUE`] or has a control character.
pub fn encode<T: Serialize>(
    dataset: &DatasetName,
    property: &str,
    value: &T,
) -> Result<String, ModelError> {
    let text = serde_json::to_string(value).map_err(|source| ModelError::Json {
        dataset: dataset.to_string(),
        property: property.to_owned(),
        source,
    })?;
    let bad = |why| ModelError::Value {
        dataset: dataset.to_string(),
        property: property.to_owned(),
        why,
    };
    unfit(&text).map_or(Ok(text), |why| Err(bad(why)))
}

/// Returns why a text cannot be the value of a property, or none if it can.
fn unfit(text: &str) -> Option<&'static str> {
    if text.len() > MAX_VALUE {
        Some("is longer than 8000 bytes")
    } else if text.chars().any(char::is_control) {
        Some("has a control character")
    } else {
        None
    }
}

/// Decodes the value of a property. It refuses a value that ezz would not have written, because other programs can set
/// properties too.
///
/// # Errors
/// Returns [`ModelError::Value`] under the same conditions as [`encode`], and [`ModelError::Json`] if the text is not
/// the expected JSON.
pub fn decode<T: for<'a> Deserialize<'a>>(
    dataset: &str,
    property: &str,
    text: &str,
) -> Result<T, ModelError> {
    if let Some(why) = unfit(text) {
        return Err(ModelError::Value {
            dataset: dataset.to_owned(),
            property: property.to_owned(),
            why,
        });
    }
    serde_json::from_str(text).map_err(|source| ModelError::Json {
        dataset: dataset.to_owned(),
        property: property.to_owned(),
        source,
    })
}

/// The names of a site's datasets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The dataset of the site itself.
    pub site: DatasetName,
    /// The parent of the bases.
    pub basejail: DatasetName,
    /// The parent of the skeletons.
    pub newjail: DatasetName,
    /// The parent of the jails.
    pub jails: DatasetName,
}

impl Layout {
    /// Returns the layout of a site.
    ///
    /// # Errors
    /// [`NameError::Dataset`] if the site's name is too long for its children.
    pub fn new(site: DatasetName) -> Result<Self, NameError> {
        Ok(Layout {
            basejail: site.child("basejail")?,
            newjail: site.child("newjail")?,
            jails: site.child("jails")?,
            site,
        })
    }

    /// Returns the name of a base, SITE/basejail/N.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn base(&self, generation: GenerationId) -> Result<DatasetName, NameError> {
        self.basejail.child(&generation.to_string())
    }

    /// Returns the name of a skeleton, SITE/newjail/N.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn skeleton(&self, generation: GenerationId) -> Result<DatasetName, NameError> {
        self.newjail.child(&generation.to_string())
    }

    /// Returns the name of a base's sealed snapshot, SITE/basejail/N@N.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn base_seal(&self, generation: GenerationId) -> Result<SnapshotName, NameError> {
        self.base(generation)?.at(&generation.to_string())
    }

    /// Returns the name of a skeleton's sealed snapshot, SITE/newjail/N@N.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn skeleton_seal(&self, generation: GenerationId) -> Result<SnapshotName, NameError> {
        self.skeleton(generation)?.at(&generation.to_string())
    }

    /// Returns the name of a jail's dataset, SITE/jails/NAME.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn jail(&self, name: &JailName) -> Result<DatasetName, NameError> {
        self.jails.child(name.as_str())
    }

    /// Returns the name of the snapshot from which a batch of clones of a jail is made,
    /// SITE/jails/NAME@ezz-clone-BATCH. A batch is the clones that one channel program makes, or that are made one by
    /// one after an intent. Its number is the epoch that its first program finds.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn clone_snapshot(&self, source: &JailName, batch: u64) -> Result<SnapshotName, NameError> {
        self.jail(source)?.at(&format!("{CLONE_SNAPSHOT}{batch}"))
    }

    /// Returns the snapshot that a new jail is a clone of: the sealed snapshot of the skeleton for a thin jail, that of
    /// the base for a thick one.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn origin(&self, kind: Kind, skel: GenerationId) -> Result<SnapshotName, NameError> {
        match kind {
            Kind::Thin => self.skeleton_seal(skel),
            Kind::Thick => self.base_seal(skel),
        }
    }
}
/// Returns the path of a track's link, below the site directory.
///
/// This is not `basejail/TRACK`, because a track may be called `14`, and generation 14 is mounted at `basejail/14`.
pub fn track_link(site_directory: &Path, track: &TrackName) -> PathBuf {
    site_directory
        .join("basejail")
        .join("tracks")
        .join(track.as_str())
}

/// The directory of a site that holds the flavours.
pub const FLAVOURS: &str = "flavours";

/// The directory of a site that keeps what was downloaded for its worlds. No jail can have this name.
pub const CACHE: &str = ".cache";

/// Returns the directory for the downloads of a track's updates. Each track has its own directory, so that nothing that
/// one world has put there can get into another.
pub fn update_cache(site_directory: &Path, track: &TrackName) -> PathBuf {
    site_directory
        .join(CACHE)
        .join("updates")
        .join(track.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_survive() {
        let text = r#"{"kind":"thin","base":{"track":"main"},"skel":7,"hostname":"w","network":"host","color":"red"}"#;
        let config: JailConfig = decode("t/e/jails/w", property::JAIL, text).expect("valid");
        let dataset = DatasetName::parse("t/e/jails/w").expect("valid");
        assert_eq!(
            encode(&dataset, property::JAIL, &config).expect("short"),
            text
        );
    }

    /// Without `float_roundtrip` of serde_json, the last digit would change with each rewrite.
    #[test]
    fn unknown_numbers_survive() {
        let text = r#"{"current":7,"previous":null,"x":18446718446744073709551617,"y":0.1}"#;
        let dataset = DatasetName::parse("t/e/basejail").expect("valid");
        let once: Track = decode("t/e/basejail", "ezz:x", text).expect("valid");
        let written = encode(&dataset, "ezz:x", &once).expect("short");
        let again: Track = decode("t/e/basejail", "ezz:x", &written).expect("valid");
        assert_eq!(again, once);
        // serde_json chooses how an exponent is written.
        assert!(written.contains("1.8446718446744074e"), "{written}");
    }

    #[test]
    fn control_characters_and_long_values_are_refused() {
        let dataset = DatasetName::parse("t/e").expect("valid");
        assert!(encode(&dataset, "ezz:x", &"a".repeat(9000)).is_err());
        // JSON escapes ASCII control characters, but not those of C1.
        assert!(encode(&dataset, "ezz:x", &"\u{85}").is_err());
        assert_eq!(
            encode(&dataset, "ezz:x", &"a\tb").expect("escaped"),
            r#""a\tb""#
        );
        for bad in [
            "{\n}".to_owned(),
            format!(r#"{{"x":"{}"}}"#, "a".repeat(8000)),
        ] {
            let read = decode::<Track>("t/e", "ezz:x", &bad);
            assert!(matches!(read, Err(ModelError::Value { .. })), "{read:?}");
        }
    }

    #[test]
    fn a_host_name_forges_nothing() {
        for bad in ["w\\nfake  running", "w\u{202e}x", "w\\u200bx", "w\\u009b2J"] {
            let text = format!(
                r#"{{"kind":"thin","base":{{"track":"main"}},"skel":7,"hostname":"{bad}"}}"#
            );
            let read = decode::<JailConfig>("t/e/jails/w", property::JAIL, &text);
            let why = read.expect_err("refused");
            let why = std::error::Error::source(&why).map(ToString::to_string);
            assert!(why.is_some_and(|why| why.contains("U+")), "{bad}");
        }
    }

    #[test]
    fn addresses_parse_and_print() {
        for (text, shown) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("em0|192.0.2.7/24", "em0|192.0.2.7/24"),
            ("2001:db8::1/64", "2001:db8::1/64"),
        ] {
            assert_eq!(
                text.parse::<Address>().map(|a| a.to_string()).as_deref(),
                Ok(shown)
            );
        }
        for bad in [
            "",
            "1.2.3",
            "1.2.3.4/33",
            "|1.2.3.4",
            "a b|1.2.3.4",
            "1.2.3.4/-1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }
}
