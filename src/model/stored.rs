//! What the pool stores: the JSON of the `ezz:*` properties. Reading and writing them is elsewhere.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Labels, Limits, Params};
use crate::hint::Hint;
use crate::name::{DatasetName, FlavourName, FleetName, GenerationId, JailName, TrackName};
use crate::profile::Os;

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
    /// What looks like a secret in it and was allowed: where, and of what kind. Not what it is: every user can
    /// read this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl World {
    /// Whether jails of it run on this system.
    pub fn runs_on(&self, os: Os) -> bool {
        self.os == os.as_str()
    }

    /// The system that it needs, as people write it.
    pub fn system(&self) -> &str {
        match self.os.as_str() {
            "freebsd" => "FreeBSD",
            "linux" => "Linux",
            other => other,
        }
    }
}

/// `ezz:sealed`: the promise that a generation is finished for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// SHA-256 of the manifest's text.
    pub manifest: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// The release, without patch level, e.g. `14.3-RELEASE`, `debian-12`. It is here and not in
    /// `ezz:world` because a skeleton outlives its base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// SHA-256 of what the skeleton has, times apart: two skeletons with one digest need no merge. None in a seal
    /// of an older ezz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skeleton: Option<String>,
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
    /// The guid that the sealed snapshot of `previous` had when the track left it: what a rollback
    /// finds under that name must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_guid: Option<u64>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One swap of a track, as its log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Who: the name of the user that called ezz, as far as it is known.
    pub by: String,
    /// From which generation; none if the track had none.
    #[serde(default)]
    pub from: Option<GenerationId>,
    /// To which.
    pub to: GenerationId,
    /// Why: the verb, or what the user said.
    pub why: String,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How far a roll-out is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The track is where it was; the canaries are pinned to the new generation.
    Canaries,
    /// The track is at the new generation, and the jails follow.
    Swapped,
    /// Something failed: the track is back, and the jails that had moved follow.
    Back,
}

/// `ezz:rollout:TRACK` on SITE/basejail, while jails are moved to another generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Where the track was.
    pub from: GenerationId,
    /// Where it goes.
    pub to: GenerationId,
    /// What the track had as previous, and has again if all goes back.
    #[serde(default)]
    pub previous: Option<GenerationId>,
    /// How far it is.
    pub phase: Phase,
    /// Jails that go first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<JailName>,
    /// How many jails are restarted at once.
    pub batch: u32,
    /// Seconds between batches.
    #[serde(default)]
    pub pause: u64,
    /// The health command of jails that have none of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Seconds until a jail must be well.
    pub limit: u64,
    /// Why it goes back, if a jail was not well; without it somebody wanted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Rejected>,
    /// Whether that was not the generation's fault: it is not rejected then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spared: bool,
    /// When it began, RFC 3339 in UTC.
    pub at: String,
    /// Who began it.
    pub by: String,
    /// Why.
    pub why: String,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `ezz:rejected` on SITE/basejail/N: a roll-out of this generation failed, and no track is swapped
/// to it unless it is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Why, for people.
    pub why: String,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `ezz:served` on SITE/basejail/N: a track has left this generation, so it was in use once. The log of
/// swaps keeps only the last ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The track.
    pub track: TrackName,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `ezz:populated` on SITE/basejail/N, from when the files of a stage are complete: what is left is
/// ezz's own work, which can be done again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Populated {
    /// The track that it is for.
    pub track: TrackName,
    /// The generation that it was made from.
    #[serde(default)]
    pub parent: Option<GenerationId>,
    /// SHA-256 of how it was made, to tell the same command from another.
    pub by: String,
    /// The digest of the archive it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a jail gets its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// Why a jail is pinned that followed a track: its own files could not be brought to what the track had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instead {
    /// The track that it followed, and follows again when the track has another generation.
    pub track: TrackName,
    /// The generation that its own files could not be brought to.
    pub of: GenerationId,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
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

/// An address that does not parse, and why.
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

/// What network a jail sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// Only a loopback of its own.
    None,
    /// A network stack of its own (vnet(9)), with a pair of interfaces to each bridge that its addresses
    /// name.
    Vnet,
}

impl std::fmt::Display for Network {
    /// As it is stored.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Network::Host => "host",
            Network::None => "none",
            Network::Vnet => "vnet",
        })
    }
}

/// A step that is left to do before a new jail is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Todo {
    /// Set `quota`, in bytes: a native property, which no program can set.
    Quota(u64),
    /// Lay a flavour over it.
    Flavour(FlavourName),
    /// Clear away what tells its source from other machines, such as its host keys: it is a clone.
    Identity,
}

/// `ezz:jail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailConfig {
    /// Thin or thick.
    pub kind: Kind,
    /// What it runs on; of a thick jail, what it was made from and which world's rules it follows.
    pub base: Base,
    /// Beside a pin: that a conflict made it. Not a part of `base`, where an older ezz would not understand it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Instead>,
    /// The generation whose skeleton (thick: whose base) it was made from or merged to. A thin jail starts on the
    /// base of this generation and on no other.
    pub skel: GenerationId,
    /// The generation that a record in its own files names, since a merge wrote it there. If the record in the
    /// files differs, zfs(8) has rolled them back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<GenerationId>,
    /// Its host name; the jail's name if none was given.
    #[serde(deserialize_with = "super::text::plain")]
    pub hostname: String,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Its network.
    #[serde(default)]
    pub network: Network,
    /// What it may take of the host.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Parameters of jail(8) beside those that the rest means.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// Datasets outside of the site that it administers itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<DatasetName>,
    /// A command for a shell in the jail, which ends with 0 if the jail is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// The fleet that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    /// The flavours that were laid over it when it was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flavours: Vec<FlavourName>,
    /// The jails that are started before it, where it is started together with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends: Vec<JailName>,
    /// Of jails that do not depend on each other those with a lower one are started first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub order: i32,
    /// Whether it is started when the host starts, and by `start --all`.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub boot: bool,
    /// Whether its processes may make user namespaces; Linux only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nested_userns: bool,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What is left to do; a jail with any of it has never run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub todo: Vec<Todo>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl JailConfig {
    /// One without anything of its own.
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

    /// The conflict that has pinned it, if one has.
    pub fn held(&self) -> Option<&Instead> {
        let pinned = matches!(self.base, Base::Pin(_));
        self.instead.as_ref().filter(|_| pinned)
    }

    /// The track that it follows, or followed until a conflict pinned it.
    pub fn follows(&self) -> Option<&TrackName> {
        match &self.base {
            Base::Track(track) => Some(track),
            Base::Pin(_) => self.held().map(|instead| &instead.track),
        }
    }

    /// This configuration with another base, which settles a conflict that had pinned the jail.
    #[must_use]
    pub fn rebased(&self, base: Base) -> Self {
        JailConfig {
            base,
            instead: None,
            ..self.clone()
        }
    }
}

/// For serde.
fn yes() -> bool {
    true
}

/// For serde, which gives a reference.
fn is_zero(order: &i32) -> bool {
    *order == 0
}

/// `ezz:merging` on a jail, while its own files are brought from one skeleton to another: it must not
/// start then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merging {
    /// The generation that it was merged to before.
    pub from: GenerationId,
    /// The one that it is merged to.
    pub to: GenerationId,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `ezz:intent:BATCH:N` on SITE/jails: clones that are being made, or jails that are being deleted. While part 0 of a batch is there, none of them is a jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Clones of skeletons or of bases.
    pub kind: Kind,
    /// Of which generation: together the origin, in a form that survives a rename of the site.
    pub skel: GenerationId,
    /// The jail that they are clones of, if it is one: of its snapshot of this batch; then `kind` and
    /// `skel` are what it has itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<JailName>,
    /// The jails.
    pub jails: Vec<JailName>,
    /// The guids of their datasets, in the same order, if they are being deleted: then `kind` and
    /// `skel` mean nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guids: Vec<u64>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}
