//! Releases of FreeBSD: their names, their sets on a mirror, and who vouches for the files that were fetched.
//!
//! A set is accepted only if a trusted witness vouches for its SHA-256: the mirror's own MANIFEST, if it came over TLS;
//! a manifest that is stored on this host; or the digest that the user gave. A file with another digest is removed.
//! This module must not know what is in a set, nor where it is unpacked.

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

/// The default mirror of releases (release announcements; bsdinstall mirrorselect).
pub const MIRROR: &str = "https://download.freebsd.org/releases";

/// The directory in which the port misc/freebsd-release-manifests installs manifests.
const LOCAL: &str = "usr/local/share/freebsd/MANIFESTS";

/// The version of a release, such as `14.3-RELEASE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// Parses the name of a release or of a patched system, whose patch level is dropped because mirrors have none.
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

    /// Returns the major version, such as 15 of 15.1.
    pub fn major(&self) -> u32 {
        self.numbers().0
    }

    /// Returns the minor version, such as 1 of 15.1.
    pub fn minor(&self) -> u32 {
        self.numbers().1
    }

    fn numbers(&self) -> (u32, u32) {
        let number = self.0.split('-').next().unwrap_or_default();
        let (major, minor) = number.split_once('.').unwrap_or_default();
        // `parse` accepts at most two digits each.
        let of = |text: &str| text.parse().unwrap_or_default();
        (of(major), of(minor))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A processor architecture under the names that mirrors use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch {
    machine: &'static str,
    arch: &'static str,
}

/// The architectures that have releases with sets: MACHINE and MACHINE_ARCH (release(7)).
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
    /// Parses either name of an architecture.
    ///
    /// # Errors
    /// A description of what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = |it: &&Arch| it.machine == text || it.arch == text;
        ARCHES.iter().find(known).copied().ok_or_else(|| {
            let all: Vec<&str> = ARCHES.iter().map(|it| it.arch).collect();
            format!("expected one of {}", all.join(", "))
        })
    }

    /// Returns the architecture that this program was built for.
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
    /// Parses the name of a set.
    ///
    /// # Errors
    /// A description of what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(plain) {
            Ok(SetName(text.to_owned()))
        } else {
            Err("expected the name of a set, such as base, lib32, src".to_owned())
        }
    }

    /// Returns the name of the set's file on a mirror.
    pub fn file(&self) -> String {
        format!("{}.txz", self.0)
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The sets to fetch of a release, and from where.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The version of the release.
    pub version: Version,
    /// The architecture of the release.
    pub arch: Arch,
    /// URL of the directory that has MACHINE/ARCH/VERSION below it.
    pub mirror: String,
    /// The sets in the order in which they are unpacked.
    pub sets: Vec<SetName>,
    /// The digest of the set, which must then be the only one.
    pub sha256: Option<Digest>,
}

/// A set that has been fetched and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The name of the set.
    pub set: SetName,
    /// The path of its file.
    pub path: PathBuf,
    /// The SHA-256 of its file.
    pub sha256: Digest,
    /// The names of the witnesses that vouch for the digest.
    pub vouched: Vec<String>,
}

/// Why a release could not be fetched.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// The mirror has no such file.
    #[error("the mirror has no {url}")]
    NotThere {
        /// The URL that was requested.
        url: String,
    },
    /// The mirror could not be reached, or did not send the whole file, after several tries.
    #[error("cannot fetch {url}: {why}")]
    Fetch {
        /// The URL that was requested.
        url: String,
        /// The last error.
        why: String,
    },
    /// A manifest is not valid.
    #[error("{origin} is not the manifest of a release")]
    Manifest {
        /// The name of the manifest.
        origin: String,
        /// What is wrong with the manifest.
        source: ManifestError,
    },
    /// The release has no set of this name.
    #[error("{origin} has no set {set}; it has {there}")]
    NoSet {
        /// The name of the manifest.
        origin: String,
        /// The set that was asked for.
        set: String,
        /// The sets that the manifest has.
        there: String,
    },
    /// Two witnesses have different digests for a set.
    #[error("{set}: {first} and {second} have different digests")]
    Disagree {
        /// The name of the set.
        set: String,
        /// The name of one witness.
        first: String,
        /// The name of the other witness.
        second: String,
    },
    /// No trusted witness vouches for a set.
    #[error("cannot verify {set}: {mirror} does not use TLS, and this host has no manifest")]
    Unvouched {
        /// The name of the set.
        set: String,
        /// The URL of the mirror.
        mirror: String,
    },
    /// A file that was fetched has the wrong digest.
    #[error("the SHA-256 of {url} is {found}, but {vouched} says {expected}")]
    Digest {
        /// The URL of the file.
        url: String,
        /// The digest of the file.
        found: String,
        /// The expected digest.
        expected: String,
        /// The name of the witness with the expected digest.
        vouched: String,
    },
    /// An operation on a file of this host failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The operation, as a verb.
        action: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A signal interrupted the work.
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
            "run the command again, which resumes the download, or give another --mirror".to_owned()
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

/// Returns what the user can do if no witness vouches for a release; the port exists on FreeBSD only.
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

/// Fetches the sets that are not in the cache, and verifies all of them.
///
/// # Errors
/// [`ReleaseError`]. A file with a wrong digest is removed; an incomplete one is kept for the next try.
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

/// A source of digests of sets.
struct Witness {
    name: String,
    digests: BTreeMap<String, Digest>,
    /// Whether the witness is trusted.
    trusted: bool,
    /// Whether the witness must know each set.
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

/// Returns the digest of a set, and the witnesses that vouch for it; all that know the set must agree.
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

/// Returns the digest of a file.
fn digest(path: &Path) -> io::Result<Digest> {
    Digest::of_reader(&mut fs::File::open(path)?)
}

/// Whether a file exists and has the digest. A file with another digest is removed.
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
        // The part that an earlier try left may be of another file.
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
