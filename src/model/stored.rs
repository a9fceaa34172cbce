//! The values that the pool stores: the JSON of the `ezz:*` properties. Other modules read and write the properties.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Labels, Limits, Params};
use crate::hint::Hint;
use crate::name::{DatasetName, FlavourName, FleetName, GenerationId, JailName, TrackName};
use crate::profile::Os;

/// `ezz:world`: the world of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// The label, read from the finished world, such as `14.3-RELEASE-p2` or `debian-12.15`.
    pub label: String,
    /// The profile by which it was installed, such as `debian`.
    pub profile: String,
    /// The operating system: `freebsd` or `linux`.
    pub os: String,
    /// The machine architecture, such as `amd64`.
    pub arch: String,
    /// The SHA-256 of the archive from which it was installed; none for a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The generation from which an update made it; none if it was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<GenerationId>,
    /// The apparent secrets that were allowed: the path and the kind of each, but not its content, because every user
    /// can read this property.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl World {
    /// Reports whether jails of this world run on this system.
    pub fn runs_on(&self, os: Os) -> bool {
        self.os == os.as_str()
    }

    /// Returns the name of the operating system as people write it.
    pub fn system(&self) -> &str {
        match self.os.as_str() {
            "freebsd" => "FreeBSD",
            "linux" => "Linux",
            other => other,
        }
    }
}

/// `ezz:sealed`: records that a generation is finished for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The SHA-256 of the manifest's text.
    pub manifest: String,
    /// When it was sealed, as RFC 3339 in UTC.
    pub at: String,
    /// The release without its patch level, such as `14.3-RELEASE` or `debian-12`. It is here and not in `ezz:world`
    /// because a skeleton outlives its base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The SHA-256 of the skeleton's files without their times. No merge is needed between two skeletons with the same
    /// digest. It is none in the seal of an older ezz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skeleton: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `ezz:track:NAME`: the generations of a track.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// The generation on which the jails that follow the track start.
    #[serde(default)]
    pub current: Option<GenerationId>,
    /// The generation to which a rollback returns.
    #[serde(default)]
    pub previous: Option<GenerationId>,
    /// The guid that the sealed snapshot of `previous` had when the track left it. A rollback requires that the
    /// snapshot of that name still has this guid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_guid: Option<u64>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One entry in the log of a track's swaps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// When it happened, as RFC 3339 in UTC.
    pub at: String,
    /// The name of the user who called ezz, as far as it is known.
    pub by: String,
    /// The generation that the track left; none if it had none.
    #[serde(default)]
    pub from: Option<GenerationId>,
    /// The generation that the track points to since.
    pub to: GenerationId,
    /// The reason: the verb, or the text that the user gave.
    pub why: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The progress of a roll-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The track still points to the old generation, and the canaries are pinned to the new one.
    Canaries,
    /// The track points to the new generation, and the jails are restarted on it.
    Swapped,
    /// Something failed: the track points to the old generation again, and the jails that had moved return to it.
    Back,
}

/// `ezz:rollout:TRACK` on SITE/basejail: exists while a roll-out moves jails to another generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The generation that the track had when the roll-out began.
    pub from: GenerationId,
    /// The generation that the track gets.
    pub to: GenerationId,
    /// The previous generation of the track when the roll-out began. The track gets it again if everything goes back.
    #[serde(default)]
    pub previous: Option<GenerationId>,
    /// The progress of the roll-out.
    pub phase: Phase,
    /// The jails that are restarted first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<JailName>,
    /// The number of jails that are restarted at once.
    pub batch: u32,
    /// The pause between two batches, in seconds.
    #[serde(default)]
    pub pause: u64,
    /// The health command of jails that have none of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// The seconds within which a restarted jail must become healthy.
    pub limit: u64,
    /// The failure because of which everything goes back; none if an administrator decided to go back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Rejected>,
    /// Whether the generation did not cause the failure. If so, it is not rejected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spared: bool,
    /// When it began, as RFC 3339 in UTC.
    pub at: String,
    /// The name of the user who began it.
    pub by: String,
    /// The reason, as in the log of swaps.
    pub why: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `ezz:rejected` on SITE/basejail/N: a roll-out of this generation failed. No track is swapped to it again unless a
/// command names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// When it was rejected, as RFC 3339 in UTC.
    pub at: String,
    /// The reason, for people to read.
    pub why: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `ezz:served` on SITE/basejail/N: a track has left this generation, so it has been in use. The log of swaps cannot
/// show that, because it keeps only the last swaps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The track that has left it.
    pub track: TrackName,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `ezz:populated` on SITE/basejail/N: the files of the stage are complete. The rest of the work is ezz's own, which
/// can be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Populated {
    /// The track for which the generation is made.
    pub track: TrackName,
    /// The generation from which an update made it; none for an install.
    #[serde(default)]
    pub parent: Option<GenerationId>,
    /// The SHA-256 of the way it was made, which distinguishes the same command from another.
    pub by: String,
    /// The digest of the archive from which it was installed; none if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a jail gets its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A clone of the skeleton, with a basejail mounted read-only.
    Thin,
    /// A clone of the base: all files are its own.
    Thick,
}

/// Which basejail a thin jail is to run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// The current generation of this track.
    Track(TrackName),
    /// This generation, whatever any track does.
    Pin(GenerationId),
}

/// Records why a jail is pinned that followed a track: its own files could not be merged to the generation of the
/// track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instead {
    /// The track that it followed. The jail follows it again when the track gets another generation.
    pub track: TrackName,
    /// The generation to which its own files could not be merged.
    pub of: GenerationId,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An address with its prefix length and, on FreeBSD, an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// The interface: `em0` in `em0|192.0.2.7/24`.
    pub interface: Option<String>,
    /// The IP address.
    pub ip: IpAddr,
    /// The prefix length.
    pub prefix: u8,
}

/// The error for a text that is not an address: the text, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bad address {0:?}: {1}")]
pub struct AddressError(pub String, pub &'static str);

impl Hint for AddressError {
    fn hint(&self) -> Option<String> {
        Some("for example 192.0.2.7/24 or em0|2001:db8::7/64".to_owned())
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = |why| AddressError(text.to_owned(), why);
        let (interface, rest) = match text.split_once('|') {
            Some((interface, rest)) => (Some(interface), rest),
            None => (None, text),
        };
        let interface_ok = |name: &str| {
            (1..=15).contains(&name.len())
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if interface.is_some_and(|name| !interface_ok(name)) {
            return Err(bad(
                "before the | is the name of an interface, of at most 15 characters",
            ));
        }
        let (ip, prefix) = match rest.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (rest, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| {
            bad("expected [INTERFACE|]ADDRESS[/PREFIX], and ADDRESS is an IPv4 or IPv6 address")
        })?;
        let (most, range) = match ip {
            IpAddr::V4(_) => (
                32,
                "the prefix length of an IPv4 address is a number from 0 to 32",
            ),
            IpAddr::V6(_) => (
                128,
                "the prefix length of an IPv6 address is a number from 0 to 128",
            ),
        };
        let prefix = match prefix {
            None => most,
            Some(text) => {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let prefix = text.parse().ok().filter(|p| digits && *p <= most);
                prefix.ok_or_else(|| bad(range))?
            }
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

/// The network that a jail has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The network of the host.
    #[default]
    Host,
    /// Only a loopback interface of its own.
    None,
    /// A network stack of its own (vnet(9)), with a pair of interfaces to each bridge that its addresses name.
    Vnet,
}

impl std::fmt::Display for Network {
    /// Writes the word that is stored.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Network::Host => "host",
            Network::None => "none",
            Network::Vnet => "vnet",
        })
    }
}

/// A step that remains to be done before a new jail is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Todo {
    /// Sets `quota`, in bytes: a native property, which no channel program can set.
    Quota(u64),
    /// Lays a flavour over the jail.
    Flavour(FlavourName),
    /// Removes the identity of the jail's source, such as its host keys, because the jail is a clone.
    Identity,
}

/// `ezz:jail`: the configuration of a jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailConfig {
    /// Whether the jail is thin or thick.
    pub kind: Kind,
    /// The generation that it runs on, or the track that it follows. For a thick jail: what it was made from, and whose
    /// world's rules apply to it.
    pub base: Base,
    /// Records that a conflict made the pin in `base`; none otherwise. It is no part of `base`, where an older ezz
    /// would not understand it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Instead>,
    /// The generation from which the jail was made, or to which it was last merged: its skeleton for a thin jail, its
    /// base for a thick one. A thin jail starts only on the base of this generation.
    pub skel: GenerationId,
    /// The generation that the record in the jail's own files names, since a merge wrote the record; none before the
    /// first merge. If the record in the files differs, zfs(8) has rolled the files back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<GenerationId>,
    /// The host name, which is the jail's name unless another was given.
    #[serde(deserialize_with = "super::text::plain")]
    pub hostname: String,
    /// The addresses of the jail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// The network that the jail has.
    #[serde(default)]
    pub network: Network,
    /// What the jail may use of the host.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Parameters of jail(8), besides those that the other fields set.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// Datasets outside of the site that the jail administers itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<DatasetName>,
    /// The health command: a shell command that is run in the jail, and exits with 0 if the jail is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// The fleet that the jail belongs to; none if it belongs to no fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    /// The flavours that were laid over the jail when it was created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flavours: Vec<FlavourName>,
    /// The jails that are started before this one when they are started together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends: Vec<JailName>,
    /// The position in the order of starts: of jails that do not depend on each other, those with a lower number start
    /// first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub order: i32,
    /// Whether the jail is started when the host boots, and by `start --all`.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub boot: bool,
    /// Whether its processes may create user namespaces; Linux only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nested_userns: bool,
    /// The labels of the jail.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The steps that remain to be done; a jail that has any has never run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub todo: Vec<Todo>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl JailConfig {
    /// Creates a configuration with the defaults for everything else.
    pub fn new(kind: Kind, base: Base, skel: GenerationId) -> Self {
        JailConfig {
            kind,
            base,
            instead: None,
            skel,
            record: None,
            hostname: String::new(),
            addresses: Vec::new(),
            network: Network::default(),
            limits: Limits::default(),
            params: Params::default(),
            datasets: Vec::new(),
            health: None,
            fleet: None,
            flavours: Vec::new(),
            depends: Vec::new(),
            order: 0,
            boot: true,
            nested_userns: false,
            labels: Labels::default(),
            todo: Vec::new(),
            other: Map::new(),
        }
    }

    /// Returns the conflict that has pinned the jail; none if no conflict has.
    pub fn held(&self) -> Option<&Instead> {
        let pinned = matches!(self.base, Base::Pin(_));
        self.instead.as_ref().filter(|_| pinned)
    }

    /// Returns the track that the jail follows, or followed until a conflict pinned it.
    pub fn follows(&self) -> Option<&TrackName> {
        match &self.base {
            Base::Track(track) => Some(track),
            Base::Pin(_) => self.held().map(|instead| &instead.track),
        }
    }

    /// Returns this configuration with another base, which settles a conflict that had pinned the jail.
    #[must_use]
    pub fn rebased(&self, base: Base) -> Self {
        JailConfig {
            base,
            instead: None,
            ..self.clone()
        }
    }
}

/// The default of `boot`.
fn yes() -> bool {
    true
}

/// Takes a reference because serde passes one.
fn is_zero(order: &i32) -> bool {
    *order == 0
}

/// `ezz:merging` on a jail: its own files are being brought from one skeleton to another, and it must not start until
/// that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merging {
    /// The generation to which its files belonged before the merge.
    pub from: GenerationId,
    /// The generation to which its files are being brought.
    pub to: GenerationId,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `ezz:intent:BATCH:N` on SITE/jails: names clones that are being made, or jails that are being deleted. While part 0
/// of a batch exists, none of them is a jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Whether they are clones of skeletons or of bases.
    pub kind: Kind,
    /// The generation. With `kind` it identifies the origin in a form that survives a rename of the site.
    pub skel: GenerationId,
    /// The jail that is being cloned; none if the jails are made from a generation. The origin is then the jail's
    /// snapshot of this batch, and `kind` and `skel` are the jail's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<JailName>,
    /// The names of the jails.
    pub jails: Vec<JailName>,
    /// The guids of the jails' datasets, in the same order, if they are being deleted; `kind` and `skel` then have no
    /// meaning. Empty if they are being created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guids: Vec<u64>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
