//! Releases as base packages: which repository has them, whose signature is trusted, and what pkg(8) needs to know.
//! This module must not run pkg(8).

use std::path::{Path, PathBuf};

use super::{Arch, SetName, Version};

/// The default repository of base packages (usr.sbin/pkg/FreeBSD.conf.quarterly-release).
const REPOSITORIES: &str = "https://pkg.FreeBSD.org";

/// The directories with the keys that a host trusts, one for each major version from 15 on (share/keys).
const KEYS: &str = "/usr/share/keys/pkgbase-";

/// The directory in the world for keys that the user gave.
const OWN_KEYS: &str = "/usr/share/keys/ezz-base";

/// The first major version whose releases consist of packages (release notes of 15.0).
const FIRST: u32 = 15;

/// The base packages to install of a release, where they come from, and whose signature is trusted.
#[derive(Debug, Clone)]
pub struct Packaged {
    /// The version of the release.
    pub version: Version,
    /// The architecture of the release.
    pub arch: Arch,
    /// URL of the directory that has ABI/base_release_MINOR below it; `None` for FreeBSD's own.
    pub mirror: Option<String>,
    /// A directory with `trusted`: fingerprints of keys (pkg-repository(5)); `None` for FreeBSD's own keys as the host
    /// has them.
    pub keys: Option<PathBuf>,
    /// The sets, which are the packages `FreeBSD-set-NAME`.
    pub sets: Vec<SetName>,
}

/// Why a request for packages is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackagedError {
    /// The release is older than base packages.
    #[error("{0} has no base packages: they exist from {FIRST}.0 on")]
    TooOld(Version),
    /// pkg(8) would not read this text as a URL.
    #[error("bad mirror {0:?}")]
    Mirror(String),
    /// No signature would be trusted: this directory of keys is missing.
    #[error("keys of base packages in {}", .0.display())]
    NoKeys(PathBuf),
}

impl Packaged {
    /// Returns the default sets: everything that a jail can use (release/packages/sets).
    pub fn usual() -> Vec<SetName> {
        SetName::parse("base-jail").into_iter().collect()
    }

    /// Checks everything that is known before anything is created; `root` is that of the host.
    ///
    /// # Errors
    /// [`PackagedError`].
    pub fn check(&self, root: &Path) -> Result<(), PackagedError> {
        if self.version.major() < FIRST {
            return Err(PackagedError::TooOld(self.version.clone()));
        }
        if let Some(mirror) = &self.mirror {
            // The URL is written into a UCL file in quotes.
            let plain = |byte: u8| byte.is_ascii_graphic() && !br#""\$"#.contains(&byte);
            let scheme = ["https://", "http://", "file:///"];
            if !scheme.iter().any(|it| mirror.starts_with(it)) || !mirror.bytes().all(plain) {
                return Err(PackagedError::Mirror(mirror.clone()));
            }
        }
        let keys = self.keys();
        let below = keys.strip_prefix("/").unwrap_or(&keys);
        let trusted = match &self.keys {
            Some(given) => given.join("trusted"),
            None => root.join(below).join("trusted"),
        };
        let mut there = trusted.read_dir().into_iter().flatten();
        match there.next() {
            Some(_) => Ok(()),
            None => Err(PackagedError::NoKeys(trusted)),
        }
    }

    fn keys(&self) -> PathBuf {
        let own = || format!("{KEYS}{}", self.version.major()).into();
        self.keys.clone().unwrap_or_else(own)
    }

    /// Returns the environment of the profile's command, as `NAME=value`.
    pub fn environment(&self) -> Vec<String> {
        let (major, minor) = (self.version.major(), self.version.minor());
        let abi = format!("FreeBSD:{major}:{}", self.arch.arch);
        let place = format!("{abi}/base_release_{minor}");
        // `pkg+` makes pkg(8) find FreeBSD's own servers by SRV records.
        let (url, how) = match &self.mirror {
            None => (format!("pkg+{REPOSITORIES}/{place}"), "srv"),
            Some(mirror) => (format!("{}/{place}", mirror.trim_end_matches('/')), "none"),
        };
        let keys = self.keys();
        let keys_at = match &self.keys {
            Some(_) => OWN_KEYS.to_owned(),
            None => keys.display().to_string(),
        };
        let packages: Vec<String> = self.sets.iter().map(package).collect();
        let own = self.mirror.is_some() || self.keys.is_some();
        [
            ("EZZ_ABI", abi),
            // The value for a point release, as in the release notes of 15.1.
            (
                "EZZ_OSVERSION",
                format!("{}", major * 100_000 + minor * 1000),
            ),
            ("EZZ_REPOSITORY", url),
            ("EZZ_MIRROR_TYPE", how.to_owned()),
            ("EZZ_KEYS", keys.display().to_string()),
            ("EZZ_KEYS_AT", keys_at),
            ("EZZ_PACKAGES", packages.join(" ")),
            ("EZZ_REMEMBER", if own { "yes" } else { "no" }.to_owned()),
        ]
        .map(|(name, value)| format!("{name}={value}"))
        .to_vec()
    }

    /// Returns the directory in which downloads are kept, below the cache of a site.
    pub fn cache(&self, cache: &Path) -> PathBuf {
        cache.join(format!("packages/{}-{}", self.version, self.arch))
    }

    /// Describes the packages, for messages.
    pub fn shown(&self) -> String {
        let all: Vec<String> = self.sets.iter().map(package).collect();
        format!("{} of {}", all.join(", "), self.version)
    }
}

fn package(set: &SetName) -> String {
    format!("FreeBSD-set-{set}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packaged(version: &str) -> Packaged {
        Packaged {
            version: Version::parse(version).expect("a release"),
            arch: Arch::parse("arm64").expect("one"),
            mirror: None,
            keys: None,
            sets: Packaged::usual(),
        }
    }

    #[test]
    fn pkg_is_told_whose_packages_and_of_which_release() {
        assert_eq!(
            packaged("15.1-RELEASE").environment(),
            [
                "EZZ_ABI=FreeBSD:15:aarch64",
                "EZZ_OSVERSION=1501000",
                "EZZ_REPOSITORY=pkg+https://pkg.FreeBSD.org/FreeBSD:15:aarch64/base_release_1",
                "EZZ_MIRROR_TYPE=srv",
                "EZZ_KEYS=/usr/share/keys/pkgbase-15",
                "EZZ_KEYS_AT=/usr/share/keys/pkgbase-15",
                "EZZ_PACKAGES=FreeBSD-set-base-jail",
                "EZZ_REMEMBER=no",
            ]
        );
        let own = Packaged {
            mirror: Some("file:///repo/".to_owned()),
            keys: Some("/root/my keys".into()),
            sets: ["minimal-jail", "lib32"]
                .iter()
                .filter_map(|set| SetName::parse(set).ok())
                .collect(),
            ..packaged("15.0-RELEASE")
        };
        assert_eq!(
            own.environment()[2..],
            [
                "EZZ_REPOSITORY=file:///repo/FreeBSD:15:aarch64/base_release_0",
                "EZZ_MIRROR_TYPE=none",
                "EZZ_KEYS=/root/my keys",
                "EZZ_KEYS_AT=/usr/share/keys/ezz-base",
                "EZZ_PACKAGES=FreeBSD-set-minimal-jail FreeBSD-set-lib32",
                "EZZ_REMEMBER=yes",
            ]
        );
    }

    #[test]
    fn what_could_never_be_installed_is_refused() {
        let host = tempfile::tempdir().expect("a directory");
        let check = |packaged: &Packaged| packaged.check(host.path());
        let old = packaged("14.3-RELEASE");
        assert_eq!(check(&old), Err(PackagedError::TooOld(old.version.clone())));

        let new = packaged("15.0-RELEASE");
        let trusted = host.path().join("usr/share/keys/pkgbase-15/trusted");
        assert_eq!(check(&new), Err(PackagedError::NoKeys(trusted.clone())));
        std::fs::create_dir_all(&trusted).expect("writable");
        assert_eq!(check(&new), Err(PackagedError::NoKeys(trusted.clone())));
        std::fs::write(trusted.join("one"), "").expect("writable");
        assert_eq!(check(&new), Ok(()));

        for (mirror, good) in [
            ("https://pkg.example.org", true),
            ("file:///repo", true),
            ("file://repo", false),
            ("/repo", false),
            ("https://a\"; enabled: no", false),
            ("https://${ABI}", false),
            ("https://a\n", false),
            ("https://é", false),
        ] {
            let new = Packaged {
                mirror: Some(mirror.to_owned()),
                ..new.clone()
            };
            assert_eq!(check(&new).is_ok(), good, "{mirror}");
        }
        let given = Packaged {
            keys: Some(host.path().join("none")),
            ..new
        };
        let none = host.path().join("none/trusted");
        assert_eq!(check(&given), Err(PackagedError::NoKeys(none)));
    }
}
