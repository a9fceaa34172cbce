//! Releases of FreeBSD: their names, their sets on a mirror, who vouches for what was fetched.
//!
//! A set counts as what it says it is only when its SHA-256 is one that somebody vouches for: the mirror's own
//! MANIFEST, if it came over TLS; a manifest that is kept on this host; or whoever gives the digest by hand. What
//! does not fit is removed.
//! Must not be here: what is in a set, and where it goes.

mod fetch;
mod manifest;
mod packages;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::hint::Hint;
use crate::profile::Os;
use crate::world::{Context, Digest, WorldError};

pub use fetch::{Client, Patience};
pub use manifest::{Manifest, ManifestError};
pub use packages::{Packaged, PackagedError};

/// Where releases are, if nobody says otherwise (release announcements; bsdinstall mirrorselect).
pub const MIRROR: &str = "https://download.freebsd.org/releases";

/// Where the port misc/freebsd-release-manifests keeps manifests.
const LOCAL: &str = "usr/local/share/freebsd/MANIFESTS";

/// A release, such as `14.3-RELEASE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// From its name, or from that of a patched system: mirrors know no patch levels.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, branch) = text.split_once('-')?;
        let (major, minor) = number.split_once('.')?;
        let digits = |text: &str| {
            (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let branch = match branch.split_once("-p") {
            Some((branch, patch)) if digits(patch) => branch,
            Some(_) => return None,
            None => branch,
        };
        let known = branch == "RELEASE"
            || ["BETA", "RC"]
                .iter()
                .any(|it| branch.strip_prefix(it).is_some_and(digits));
        (digits(major) && digits(minor) && known).then(|| Version(format!("{number}-{branch}")))
    }

    /// The 15 of 15.1.
    pub fn major(&self) -> u32 {
        self.numbers().0
    }

    /// The 1 of 15.1.
    pub fn minor(&self) -> u32 {
        self.numbers().1
    }

    fn numbers(&self) -> (u32, u32) {
        let number = self.0.split('-').next().unwrap_or_default();
        let (major, minor) = number.split_once('.').unwrap_or_default();
        // Two digits each, as `parse` has it.
        let of = |text: &str| text.parse().unwrap_or_default();
        (of(major), of(minor))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A processor architecture, as mirrors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch {
    machine: &'static str,
    arch: &'static str,
}

/// Those that have releases with sets: MACHINE and MACHINE_ARCH (release(7)).
const ARCHES: [Arch; 5] = [
    arch("amd64", "amd64"),
    arch("arm64", "aarch64"),
    arch("i386", "i386"),
    arch("powerpc", "powerpc64le"),
    arch("riscv", "riscv64"),
];

const fn arch(machine: &'static str, arch: &'static str) -> Arch {
    Arch { machine, arch }
}

impl Arch {
    /// By either of its names.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = |it: &&Arch| it.machine == text || it.arch == text;
        ARCHES.iter().find(known).copied().ok_or_else(|| {
            let all: Vec<&str> = ARCHES.iter().map(|it| it.arch).collect();
            format!("expected one of {}", all.join(", "))
        })
    }

    /// That of this program.
    pub fn of_host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Self::parse("amd64").ok(),
            other => Self::parse(other).ok(),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.arch)
    }
}

/// The name of a set, such as `base`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetName(String);

impl SetName {
    /// Checks it.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(plain) {
            Ok(SetName(text.to_owned()))
        } else {
            Err("expected the name of a set, such as base, lib32, src".to_owned())
        }
    }

    /// Its file on a mirror.
    pub fn file(&self) -> String {
        format!("{}.txz", self.0)
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which sets of which release, and from where.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The release.
    pub version: Version,
    /// The architecture.
    pub arch: Arch,
    /// URL of the directory that has MACHINE/ARCH/VERSION below it.
    pub mirror: String,
    /// The sets, in the order in which they are unpacked.
    pub sets: Vec<SetName>,
    /// The digest that the only set must have.
    pub sha256: Option<Digest>,
}

/// A set that is here, and is what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Which.
    pub set: SetName,
    /// Its file.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: Digest,
    /// Who says that this is its digest.
    pub vouched: Vec<String>,
}

/// Why a release could not be had.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// The mirror has no such file.
    #[error("the mirror has no {url}")]
    NotThere {
        /// What was asked for.
        url: String,
    },
    /// The mirror could not be asked, or did not send all of it, however often.
    #[error("cannot fetch {url}: {why}")]
    Fetch {
        /// What was asked for.
        url: String,
        /// The last reason.
        why: String,
    },
    /// A manifest is none.
    #[error("{origin} is not the manifest of a release")]
    Manifest {
        /// Which.
        origin: String,
        /// Why not.
        source: ManifestError,
    },
    /// There is no such set.
    #[error("{origin} has no set {set}; it has {there}")]
    NoSet {
        /// Which manifest.
        origin: String,
        /// Which set.
        set: String,
        /// What it has.
        there: String,
    },
    /// Those who vouch for a set do not agree.
    #[error("{set}: {first} and {second} have different digests")]
    Disagree {
        /// Which set.
        set: String,
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// Nobody whom one can believe vouches for a set.
    #[error("cannot verify {set}: {mirror} does not use TLS, and this host has no manifest")]
    Unvouched {
        /// Which set.
        set: String,
        /// From where.
        mirror: String,
    },
    /// What came is not what it should be.
    #[error("the SHA-256 of {url} is {found}, but {vouched} says {expected}")]
    Digest {
        /// What was fetched.
        url: String,
        /// What it has.
        found: String,
        /// What it should have.
        expected: String,
        /// Who says so.
        vouched: String,
    },
    /// A file of this host.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It was interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl Hint for ReleaseError {
    fn hint(&self) -> Option<String> {
        Some(match self {
        ReleaseError::NotThere { .. } => {
            "is there such a release for this architecture? Old ones are kept elsewhere: --mirror"
                .to_owned()
        }
        ReleaseError::Fetch { .. } => {
            "try again, which goes on where it broke off, or another --mirror".to_owned()
        }
        ReleaseError::NoSet { .. } => "name one that is there with --set".to_owned(),
        ReleaseError::Unvouched { .. } => unvouched(Os::THIS).to_owned(),
        ReleaseError::Manifest { .. } => {
            "is it the directory of releases? try another --mirror".to_owned()
        }
        ReleaseError::Disagree { .. } | ReleaseError::Digest { .. } => {
            "do not trust this mirror: use another, or fetch the file again".to_owned()
        }
        ReleaseError::File { .. } | ReleaseError::Interrupted => {
            "what has been fetched is kept for the next try".to_owned()
        }
        })
    }
}

/// Who else may vouch for a release; the port is FreeBSD's.
fn unvouched(os: Os) -> &'static str {
    match os {
        Os::Linux => "use an https mirror, or give --sha256",
        Os::FreeBsd => {
            "use an https mirror, install misc/freebsd-release-manifests, or give --sha256"
        }
    }
}

impl From<WorldError> for ReleaseError {
    fn from(_: WorldError) -> Self {
        ReleaseError::Interrupted
    }
}

fn file(action: &'static str, path: &Path) -> impl Fn(io::Error) -> ReleaseError {
    move |source| ReleaseError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Fetches what is not in the cache yet, and checks all of it.
///
/// # Errors
/// [`ReleaseError`]. What does not fit its digest is removed; what is not complete yet is kept for the next try.
pub fn fetch(
    wanted: &Wanted,
    client: &Client,
    cache: &Path,
    root: &Path,
    context: &Context<'_>,
) -> Result<Vec<Fetched>, ReleaseError> {
    let Wanted {
        version,
        arch,
        mirror,
        ..
    } = wanted;
    let mirror = mirror.trim_end_matches('/');
    let base = format!("{mirror}/{}/{}/{version}", arch.machine, arch.arch);
    let keep = cache.join(format!("releases/{version}-{}", arch.arch));
    fs::create_dir_all(&keep).map_err(file("make", &keep))?;
    let witnesses = witnesses(wanted, client, &base, root, context)?;
    let mut fetched = Vec::new();
    for set in &wanted.sets {
        let (sha256, vouched) = vouch(&witnesses, set, mirror)?;
        let path = keep.join(set.file());
        let url = format!("{base}/{}", set.file());
        if !is(&path, sha256)? {
            get(client, &url, &path, sha256, &vouched, context)?;
        }
        fetched.push(Fetched {
            set: set.clone(),
            path,
            sha256,
            vouched,
        });
    }
    Ok(fetched)
}

/// Somebody who says what digests sets have.
struct Witness {
    name: String,
    digests: BTreeMap<String, Digest>,
    /// Whether one can believe it.
    trusted: bool,
    /// Whether it must know each set.
    complete: bool,
}

fn witnesses(
    wanted: &Wanted,
    client: &Client,
    base: &str,
    root: &Path,
    context: &Context<'_>,
) -> Result<Vec<Witness>, ReleaseError> {
    let mut all = Vec::new();
    if let (Some(digest), [set]) = (wanted.sha256, &wanted.sets[..]) {
        all.push(Witness {
            name: "--sha256".to_owned(),
            digests: BTreeMap::from([(set.file(), digest)]),
            trusted: true,
            complete: false,
        });
    }
    let Wanted { version, arch, .. } = wanted;
    let local = root
        .join(LOCAL)
        .join(format!("{}-{}-{version}", arch.machine, arch.arch));
    match fs::read(&local) {
        Ok(text) => all.push(read(&text, local.display().to_string(), true)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file("read", &local)(error)),
    }
    let url = format!("{base}/MANIFEST");
    let text = client.text(&url, &context.cancel)?;
    let tls = url.starts_with("https://");
    all.push(read(&text, url, tls)?);
    Ok(all)
}

fn read(text: &[u8], origin: String, trusted: bool) -> Result<Witness, ReleaseError> {
    match Manifest::parse(text) {
        Ok(manifest) => Ok(Witness {
            name: origin,
            digests: manifest.sets,
            trusted,
            complete: true,
        }),
        Err(source) => Err(ReleaseError::Manifest { origin, source }),
    }
}

/// The digest of a set, and who vouches for it: all who know it agree.
fn vouch(
    witnesses: &[Witness],
    set: &SetName,
    mirror: &str,
) -> Result<(Digest, Vec<String>), ReleaseError> {
    let mut found: Option<(Digest, &Witness)> = None;
    let mut trusted = false;
    let mut names = Vec::new();
    for witness in witnesses {
        let Some(digest) = witness.digests.get(&set.file()) else {
            if !witness.complete {
                continue;
            }
            let there = witness
                .digests
                .keys()
                .map(|name| name.trim_end_matches(".txz"));
            return Err(ReleaseError::NoSet {
                origin: witness.name.clone(),
                set: set.to_string(),
                there: there.collect::<Vec<_>>().join(", "),
            });
        };
        if let Some((_, first)) = found.filter(|(other, _)| other != digest) {
            return Err(ReleaseError::Disagree {
                set: set.to_string(),
                first: first.name.clone(),
                second: witness.name.clone(),
            });
        }
        found = found.or(Some((*digest, witness)));
        trusted |= witness.trusted;
        if witness.trusted {
            names.push(witness.name.clone());
        }
    }
    match found {
        Some((digest, _)) if trusted => Ok((digest, names)),
        _ => Err(ReleaseError::Unvouched {
            set: set.to_string(),
            mirror: mirror.to_owned(),
        }),
    }
}

/// The digest of a file.
fn digest(path: &Path) -> io::Result<Digest> {
    Digest::of_reader(&mut fs::File::open(path)?)
}

/// Whether a file is there and has the digest. One that has another is removed.
fn is(path: &Path, sha256: Digest) -> Result<bool, ReleaseError> {
    match digest(path) {
        Ok(found) if found == sha256 => return Ok(true),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(file("read", path)(error)),
    }
    fs::remove_file(path).map_err(file("remove", path))?;
    Ok(false)
}

fn get(
    client: &Client,
    url: &str,
    path: &Path,
    sha256: Digest,
    vouched: &[String],
    context: &Context<'_>,
) -> Result<(), ReleaseError> {
    let part = path.with_extension("part");
    let resumed = fs::metadata(&part).is_ok_and(|found| found.len() > 0);
    client.download(url, &part, context)?;
    let mut found = digest(&part).map_err(file("read", &part))?;
    if found != sha256 && resumed {
        // What was begun earlier may have been of another file.
        fs::remove_file(&part).map_err(file("remove", &part))?;
        client.download(url, &part, context)?;
        found = digest(&part).map_err(file("read", &part))?;
    }
    if found != sha256 {
        fs::remove_file(&part).map_err(file("remove", &part))?;
        return Err(ReleaseError::Digest {
            url: url.to_owned(),
            found: found.to_string(),
            expected: sha256.to_string(),
            vouched: vouched.join(" and "),
        });
    }
    fs::rename(&part, path).map_err(file("keep", path))
}

#[cfg(test)]
mod tests;
