//! What a site is made of, as plain values: the site, its generations, tracks and jails, and the
//! JSON that `ezz:*` properties hold.
//!
//! Pure: no pool, no host, no clock. Fields that this version does not know are kept, so that an
//! older ezz does not lose what a newer one wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::name::{DatasetName, GenerationId, JailName, NameError, SnapshotName, TrackName};

/// The format of the pool that this version writes.
pub const FORMAT: u32 = 1;

/// Longest value of an `ezz:*` property in bytes. ZFS takes 8191 (dsl_prop.c).
pub const MAX_VALUE: usize = 8000;

/// The tag of ezz's holds.
pub const HOLD_TAG: &str = "ezz";

/// Property names.
pub mod property {
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
    /// What a generation holds, on SITE/basejail/N.
    pub const WORLD: &str = "ezz:world";
    /// The seal, on both snapshots @N.
    pub const SEALED: &str = "ezz:sealed";
    /// A jail's configuration, on SITE/jails/NAME.
    pub const JAIL: &str = "ezz:jail";
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
    /// A value that must not be written.
    #[error("the value of {property} for {dataset} {why}")]
    Value {
        /// The dataset it was meant for.
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
    if text.len() > MAX_VALUE {
        return Err(bad("is longer than 8000 bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err(bad("has a control character"));
    }
    Ok(text)
}

/// Decodes a property.
///
/// # Errors
/// [`ModelError::Json`].
pub fn decode<T: for<'a> Deserialize<'a>>(
    dataset: &str,
    property: &str,
    text: &str,
) -> Result<T, ModelError> {
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
}

/// `ezz:world`: what a generation holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// Read from the finished world, e.g. `14.3-RELEASE-p2`, `debian-12.15`.
    pub label: String,
    /// The profile it was installed by, e.g. `debian`.
    pub profile: String,
    /// `freebsd` or `linux`.
    pub os: String,
    /// Machine, e.g. `amd64`.
    pub arch: String,
    /// SHA-256 of the archive it came from; none for a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The generation it was made from by an update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<GenerationId>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `ezz:sealed`: the promise that a generation is finished for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// SHA-256 of the manifest's text.
    pub manifest: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `ezz:track:NAME`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// What followers start on.
    #[serde(default)]
    pub current: Option<GenerationId>,
    /// What a rollback goes back to.
    #[serde(default)]
    pub previous: Option<GenerationId>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a jail gets its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A clone of the skeleton, with a basejail mounted read-only.
    Thin,
    /// A clone of the base: all files its own.
    Thick,
}

/// Which basejail a thin jail is to run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Whatever the track has as current.
    Track(TrackName),
    /// Always this generation.
    Pin(GenerationId),
}

/// An address with its prefix length, and on FreeBSD an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// `em0` in `em0|192.0.2.7/24`.
    pub interface: Option<String>,
    /// The address.
    pub ip: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
}

/// An address that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bad address {0:?}: expected [INTERFACE|]ADDRESS[/PREFIX]")]
pub struct AddressError(pub String);

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = || AddressError(text.to_owned());
        let (interface, rest) = match text.split_once('|') {
            Some((interface, rest)) => (Some(interface), rest),
            None => (None, text),
        };
        let interface_ok = |name: &str| {
            (1..=15).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if interface.is_some_and(|name| !interface_ok(name)) {
            return Err(bad());
        }
        let (ip, prefix) = match rest.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (rest, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| bad())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(text) => text.parse().ok().filter(|p| *p <= most).ok_or_else(bad)?,
        };
        Ok(Address {
            interface: interface.map(str::to_owned),
            ip,
            prefix,
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(interface) = &self.interface {
            write!(f, "{interface}|")?;
        }
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}
impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

/// What network a jail sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// Only a loopback of its own.
    None,
}

/// A step that is left to do before a new jail is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Todo {
    /// Set `quota`, in bytes: a native property, which no program can set.
    Quota(u64),
}

/// `ezz:jail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailConfig {
    /// Thin or thick.
    pub kind: Kind,
    /// What it runs on; of a thick jail, what it was made from and which world's rules it follows.
    pub base: Base,
    /// The generation whose skeleton (thick: whose base) it was made from or merged to.
    pub skel: GenerationId,
    /// Its host name; the jail's name if none was given.
    pub hostname: String,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Its network.
    #[serde(default)]
    pub network: Network,
    /// What is left to do; a jail with any of it has never run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub todo: Vec<Todo>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One half of a generation as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    /// The dataset.
    pub dataset: DatasetName,
    /// Its guid.
    pub guid: u64,
    /// Where it is mounted now, if it is.
    pub mounted: bool,
    /// Its mountpoint of the moment.
    pub mountpoint: PathBuf,
    /// Bytes it refers to.
    pub referenced: u64,
    /// Bytes that are only its own.
    pub used: u64,
    /// The guid of its snapshot @N, if that is there.
    pub snapshot: Option<u64>,
    /// The seal on that snapshot.
    pub seal: Option<Seal>,
    /// Bytes written since the snapshot: 0 unless somebody tampered with it.
    pub written: u64,
    /// Whether ezz's hold is on the snapshot.
    pub held: bool,
}

/// A generation as observed. Sealed if both halves are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub id: GenerationId,
    /// `ezz:world` of a sealed one.
    pub world: Option<World>,
    /// SITE/basejail/N.
    pub base: Option<Half>,
    /// SITE/newjail/N.
    pub skeleton: Option<Half>,
}

impl Generation {
    /// Whether it is finished for ever.
    pub fn sealed(&self) -> bool {
        self.seal().is_some()
    }

    /// The seal of its base.
    pub fn seal(&self) -> Option<&Seal> {
        self.base.as_ref().and_then(|half| half.seal.as_ref())
    }

    /// How it is shown: `14.3-RELEASE-p2.7`.
    pub fn display(&self) -> String {
        match &self.world {
            Some(world) => format!("{}.{}", world.label, self.id),
            None => self.id.to_string(),
        }
    }
}

/// A jail as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jail {
    /// Its name.
    pub name: JailName,
    /// Its dataset.
    pub dataset: DatasetName,
    /// Its guid.
    pub guid: u64,
    /// Its configuration; none if the property is missing or does not parse: such a dataset is
    /// shown and left alone.
    pub config: Result<JailConfig, String>,
    /// The snapshot it is a clone of.
    pub origin: Option<String>,
    /// Where it is mounted when it is.
    pub mountpoint: PathBuf,
    /// Whether it is mounted on the host.
    pub mounted: bool,
    /// Bytes of its own.
    pub used: u64,
    /// Bytes it refers to.
    pub referenced: u64,
    /// Its quota in bytes; 0 is none.
    pub quota: u64,
}

/// Whether an operation had anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[must_use]
pub enum Changed {
    /// It was so already.
    Already,
    /// It is so now.
    Done,
}

/// What a host knows of one jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JailState {
    /// It does not run.
    Stopped {
        /// The exit status of its first process, where the host remembers it.
        exit: Option<i32>,
    },
    /// It runs.
    Running {
        /// Process id of its init (Linux), jid (FreeBSD).
        id: u32,
        /// The dataset that the kernel has mounted at /basejail, from the mount table.
        base: Option<String>,
    },
    /// It was removed and the kernel is not done with it.
    Dying,
}

impl JailState {
    /// Whether processes of it may run.
    pub fn running(&self) -> bool {
        !matches!(self, JailState::Stopped { .. })
    }
}

/// Something in the site that ezz did not make or cannot use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// The dataset or snapshot.
    pub dataset: String,
    /// Why it is left alone.
    pub why: String,
}

/// The site itself as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its datasets.
    pub layout: Layout,
    /// `ezz:id`.
    pub id: String,
    /// `ezz:format`.
    pub format: u32,
    /// `ezz:seq`.
    pub seq: u32,
    /// `ezz:epoch`.
    pub epoch: u64,
    /// Whether its properties came with a `zfs receive`: then nothing is changed.
    pub replica: bool,
    /// The site directory.
    pub directory: PathBuf,
    /// Whether it is mounted.
    pub mounted: bool,
    /// Bytes the pool can still give it.
    pub available: u64,
}

/// What was seen of a site in one observation. `jails` holds those that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The site.
    pub site: Site,
    /// Its tracks.
    pub tracks: BTreeMap<TrackName, Track>,
    /// Its generations, staged ones too.
    pub generations: BTreeMap<GenerationId, Generation>,
    /// Its jails: all, or those named.
    pub jails: BTreeMap<JailName, Jail>,
    /// Which names were looked for; none = all.
    pub scope: Option<BTreeSet<JailName>>,
    /// What is there and not ezz's.
    pub strangers: Vec<Stranger>,
}

impl Inventory {
    /// A sealed generation by its number.
    pub fn sealed(&self, id: GenerationId) -> Option<&Generation> {
        self.generations
            .get(&id)
            .filter(|generation| generation.sealed())
    }

    /// The generation a jail is to run on when it next starts.
    pub fn due(&self, base: &Base) -> Option<GenerationId> {
        match base {
            Base::Pin(id) => Some(*id),
            Base::Track(track) => self.tracks.get(track).and_then(|track| track.current),
        }
    }

    /// A sealed generation by number, `LABEL.N`, or a label that only one has.
    pub fn find_generation(&self, text: &str) -> Result<&Generation, GenerationError> {
        let sealed = || {
            self.generations
                .values()
                .filter(|generation| generation.sealed())
        };
        let by_id = |text| GenerationId::from_component(text).and_then(|id| self.sealed(id));
        if let Some(found) = by_id(text) {
            return Ok(found);
        }
        if let Some(found) = sealed().find(|generation| generation.display() == text) {
            return Ok(found);
        }
        let labelled: Vec<&Generation> = sealed()
            .filter(|generation| generation.world.as_ref().is_some_and(|w| w.label == text))
            .collect();
        match labelled.as_slice() {
            [] => Err(GenerationError::Unknown(text.to_owned())),
            [only] => Ok(only),
            several => Err(GenerationError::Ambiguous(
                text.to_owned(),
                several
                    .iter()
                    .map(|generation| generation.display())
                    .collect(),
            )),
        }
    }
}

/// A generation that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenerationError {
    /// None has that number or label.
    #[error("there is no sealed generation {0:?}")]
    Unknown(String),
    /// More than one has that label.
    #[error("{0:?} is the label of several generations: {list}", list = .1.join(", "))]
    Ambiguous(String, Vec<String>),
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
