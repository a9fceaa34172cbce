//! What a site is made of, as plain values: the JSON that `ezz:*` properties hold (`stored`), what an
//! observation finds (`observed`), and the names of a site's datasets.
//!
//! Pure: no pool, no host, no clock. Fields that this version does not know are kept, so that an
//! older ezz does not lose what a newer one wrote.

mod address;
mod asked;
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
mod surroundings;
mod text;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use address::{AddressPool, PoolError};
pub use asked::{AskedLimits, Defaults, OrNone};
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
pub use surroundings::{Bound, Lack, Listener, Owner, Surroundings, Taken};
pub use text::{MEMORY_LEAST, deceptive, hostname, in_units, memory, printable, processes, size};

pub use crate::profile::Os;

use crate::name::{DatasetName, GenerationId, JailName, NameError, SnapshotName, TrackName};

/// The format of the pool that this version writes.
pub const FORMAT: u32 = 1;

/// Longest value of an `ezz:*` property in bytes. ZFS takes 8191 (dsl_prop.c).
pub const MAX_VALUE: usize = 8000;

/// What the snapshots of jails begin with that ezz makes before a merge.
pub const MERGE_SNAPSHOT: &str = "ezz-merge-";

/// What the snapshots of jails begin with that ezz makes after a merge: what differs from the one before is
/// what the merge wrote.
pub const MERGED_SNAPSHOT: &str = "ezz-merged-";

/// What the snapshots of jails begin with that their clones are made from. They go with the last clone.
pub const CLONE_SNAPSHOT: &str = "ezz-clone-";

/// The tag of ezz's holds.
pub const HOLD_TAG: &str = "ezz";

/// Property names.
pub mod property {
    /// Gives a dataset to a jail: a native one, which FreeBSD and Linux call differently.
    pub const DELEGATED: &str = if cfg!(target_os = "freebsd") {
        "jailed"
    } else {
        "zoned"
    };
    /// Format of the site, on the site.
    pub const FORMAT: &str = "ezz:format";
    /// UUID of the site, on the site.
    pub const ID: &str = "ezz:id";
    /// The last generation number that was given away, on the site.
    pub const SEQ: &str = "ezz:seq";
    /// Raised by every commit, on the site.
    pub const EPOCH: &str = "ezz:epoch";
    /// Prefix of a track's property, on SITE/basejail.
    pub const TRACK: &str = "ezz:track:";
    /// Prefix of the log of a track's swaps, on SITE/basejail.
    pub const SWAPS: &str = "ezz:swaps:";
    /// Prefix of a track's roll-out that is under way, on SITE/basejail.
    pub const ROLLOUT: &str = "ezz:rollout:";
    /// Prefix of accounts that only pruned generations had, by profile and number, on SITE/basejail.
    pub const ACCOUNTS: &str = "ezz:accounts:";
    /// That a roll-out of a generation failed, on SITE/basejail/N.
    pub const REJECTED: &str = "ezz:rejected";
    /// That a track was at a generation and has left it, on SITE/basejail/N.
    pub const SERVED: &str = "ezz:served";
    /// That the files of a stage are complete, on SITE/basejail/N.
    pub const POPULATED: &str = "ezz:populated";
    /// That a seal is under way, on SITE/basejail/N: until a track has been there, it is not sealed.
    pub const SEALING: &str = "ezz:sealing";
    /// That half of a generation is being destroyed, on it.
    pub const PRUNED: &str = "ezz:pruned";
    /// What a generation holds, on SITE/basejail/N.
    pub const WORLD: &str = "ezz:world";
    /// The seal, on both snapshots @N.
    pub const SEALED: &str = "ezz:sealed";
    /// A jail's configuration, on SITE/jails/NAME.
    pub const JAIL: &str = "ezz:jail";
    /// That a jail's files are being merged, on SITE/jails/NAME.
    pub const MERGING: &str = "ezz:merging";
    /// Prefix of an intent's property, on SITE/jails.
    pub const INTENT: &str = "ezz:intent:";
}

/// A property value that does not mean anything.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Not the JSON that was expected.
    #[error("{property} on {dataset} is not valid")]
    Json {
        /// The dataset that carries it.
        dataset: String,
        /// Which property.
        property: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Not a number.
    #[error("{property} on {dataset} is {value:?}, not a number")]
    Number {
        /// The dataset that carries it.
        dataset: String,
        /// Which property.
        property: String,
        /// What it holds.
        value: String,
    },
    /// A value that no property may have.
    #[error("the value of {property} for {dataset} {why}")]
    Value {
        /// The dataset it is of, or was meant for.
        dataset: String,
        /// Which property.
        property: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A name in it does not parse.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Encodes a value for a property: compact JSON, within the limits of design.md §3.
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

/// Why a text is no value of a property.
fn unfit(text: &str) -> Option<&'static str> {
    if text.len() > MAX_VALUE {
        Some("is longer than 8000 bytes")
    } else if text.chars().any(char::is_control) {
        Some("has a control character")
    } else {
        None
    }
}

/// Decodes a property. What ezz would not have written is refused: others can set properties too.
///
/// # Errors
/// [`ModelError::Value`] as of [`encode`]; [`ModelError::Json`].
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

/// The names of a site's datasets. Infallible to use: [`Layout::new`] leaves room for the longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The site itself.
    pub site: DatasetName,
    /// Parent of the bases.
    pub basejail: DatasetName,
    /// Parent of the skeletons.
    pub newjail: DatasetName,
    /// Parent of the jails.
    pub jails: DatasetName,
}

impl Layout {
    /// The layout of a site.
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

    /// SITE/basejail/N.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn base(&self, generation: GenerationId) -> Result<DatasetName, NameError> {
        self.basejail.child(&generation.to_string())
    }

    /// SITE/newjail/N.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn skeleton(&self, generation: GenerationId) -> Result<DatasetName, NameError> {
        self.newjail.child(&generation.to_string())
    }

    /// SITE/basejail/N@N.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn base_seal(&self, generation: GenerationId) -> Result<SnapshotName, NameError> {
        self.base(generation)?.at(&generation.to_string())
    }

    /// SITE/newjail/N@N.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn skeleton_seal(&self, generation: GenerationId) -> Result<SnapshotName, NameError> {
        self.skeleton(generation)?.at(&generation.to_string())
    }

    /// SITE/jails/NAME.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn jail(&self, name: &JailName) -> Result<DatasetName, NameError> {
        self.jails.child(name.as_str())
    }

    /// SITE/jails/NAME@ezz-clone-BATCH: what the clones of a jail are made from that one program makes,
    /// or one after an intent; a batch is named by the epoch that its first program finds.
    ///
    /// # Errors
    /// [`NameError`] if the path is too long.
    pub fn clone_snapshot(&self, source: &JailName, batch: u64) -> Result<SnapshotName, NameError> {
        self.jail(source)?.at(&format!("{CLONE_SNAPSHOT}{batch}"))
    }

    /// The snapshot that a new jail is a clone of: the skeleton's seal, of a thick jail the base's.
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
/// The directory of the links that track names have, below the site directory.
///
/// Not `basejail/TRACK` itself: a track may be called `14`, and `basejail/14` is where
/// generation 14 is mounted.
pub fn track_link(site_directory: &Path, track: &TrackName) -> PathBuf {
    site_directory
        .join("basejail")
        .join("tracks")
        .join(track.as_str())
}

/// The directory of a site that the flavours are in.
pub const FLAVOURS: &str = "flavours";

/// Where a site directory keeps what was downloaded for its worlds; no jail can be called so.
pub const CACHE: &str = ".cache";

/// The directory for what is downloaded for the updates of a track. Each has its own: what one world has
/// put there must not come into another.
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

    /// Without serde_json's `float_roundtrip` the last digit changes with each rewrite.
    #[test]
    fn unknown_numbers_survive() {
        let text = r#"{"current":7,"previous":null,"x":18446718446744073709551617,"y":0.1}"#;
        let dataset = DatasetName::parse("t/e/basejail").expect("valid");
        let once: Track = decode("t/e/basejail", "ezz:x", text).expect("valid");
        let written = encode(&dataset, "ezz:x", &once).expect("short");
        let again: Track = decode("t/e/basejail", "ezz:x", &written).expect("valid");
        assert_eq!(again, once);
        // How an exponent is written is serde_json's.
        assert!(written.contains("1.8446718446744074e"), "{written}");
    }

    #[test]
    fn control_characters_and_long_values_are_refused() {
        let dataset = DatasetName::parse("t/e").expect("valid");
        assert!(encode(&dataset, "ezz:x", &"a".repeat(9000)).is_err());
        // JSON escapes ASCII control characters; the C1 ones it leaves.
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
