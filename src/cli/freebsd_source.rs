//! Releases of FreeBSD as worlds: which one is meant, its sets or packages, and what is reported about them.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::build::{Stage, work};
use super::progress::Shown;
use super::taking::extract as extract_one;
use super::{CliError, Context, packages};
use crate::freebsd_release::{
    self, Arch, Client, Fetched, MIRROR, Packaged, ReleaseError, SetName, Version, Wanted,
};
use crate::model::CACHE;
use crate::report::Kind as Json;
use crate::session::{Scope, Session};
use crate::world::{self, Bounds, Digest, ExtractReport, Source};

/// The options that say how a release is fetched.
#[derive(Debug, Args)]
pub(super) struct FromRelease {
    /// Distribution set of a release to install; repeatable [default: base; with --packages: base-jail]
    #[arg(long = "set", value_name = "SET", value_parser = SetName::parse)]
    sets: Vec<SetName>,
    /// Architecture of a release [default: that of this host]
    #[arg(long, value_parser = Arch::parse)]
    arch: Option<Arch>,
    /// URL of another mirror's directory of releases, or of base repositories
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Install the base packages of a release with pkg(8) instead of its sets (FreeBSD hosts)
    #[arg(long)]
    packages: bool,
    /// Directory of the keys to trust for packages [default: the host's, e.g. /usr/share/keys/pkgbase-15]
    #[arg(long, value_name = "DIR", requires = "packages")]
    keys: Option<PathBuf>,
}

/// A release that is to become a world.
#[derive(Debug)]
pub(super) enum Release {
    /// A release that is installed from its sets.
    Sets(Wanted),
    /// A release that is installed from its base packages.
    Packages(Packaged),
}

/// The report about a set.
#[derive(Serialize)]
struct Told<'a> {
    set: String,
    sha256: String,
    vouched: &'a [String],
}

impl FromRelease {
    /// Returns the release that a source means, unless a file of that name exists.
    ///
    /// # Errors
    /// [`CliError::Usage`].
    pub(super) fn of(
        &self,
        source: &Path,
        sha256: Option<Digest>,
    ) -> Result<Option<Release>, CliError> {
        let usage = |what: &str, hint: &str| {
            Err(CliError::Usage {
                what: what.to_owned(),
                hint: hint.to_owned(),
            })
        };
        let version = source.to_str().and_then(Version::parse);
        let Some(version) = version.filter(|_| !source.exists()) else {
            return self
                .unused_with(&source.display().to_string())
                .map(|()| None);
        };
        let Some(arch) = self.arch.or_else(Arch::of_host) else {
            return usage(
                "this host's architecture has no releases",
                "name one with --arch",
            );
        };
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = self.sets.iter().find(|set| !seen.insert(*set)) {
            return usage(&format!("the set {twice} is named twice"), "name each once");
        }
        if self.packages {
            if sha256.is_some() {
                return usage(
                    "--sha256 is of one file, and packages are many",
                    "omit it: pkg(8) checks the signatures of packages",
                );
            }
            return self.packages(version, arch).map(Some);
        }
        let mirror = self.mirror.clone().unwrap_or_else(|| MIRROR.to_owned());
        if !["https://", "http://"]
            .iter()
            .any(|it| mirror.starts_with(it))
        {
            return usage(
                &format!("bad mirror {mirror:?}"),
                "expected a URL, such as https://mirror.example.org/FreeBSD/releases",
            );
        }
        let mut sets = self.sets.clone();
        if sets.is_empty() {
            sets = SetName::parse("base").into_iter().collect();
        }
        if sha256.is_some() && sets.len() > 1 {
            return usage(
                "--sha256 is of one file, and several sets are asked for",
                "leave it out, or install one set",
            );
        }
        Ok(Some(Release::Sets(Wanted {
            version,
            arch,
            mirror,
            sets,
            sha256,
        })))
    }

    fn packages(&self, version: Version, arch: Arch) -> Result<Release, CliError> {
        let mut sets = self.sets.clone();
        if sets.is_empty() {
            sets = Packaged::usual();
        }
        // pkg(8) changes its working directory.
        let keys = self.keys.as_deref().map(std::path::absolute).transpose();
        let packaged = Packaged {
            version,
            arch,
            mirror: self.mirror.clone(),
            keys: keys.map_err(|source| CliError::Usage {
                what: format!("bad directory of keys: {source}"),
                hint: "expected the directory that `trusted` is in".to_owned(),
            })?,
            sets,
        };
        Ok(Release::Packages(packaged))
    }

    /// Checks that no option of a release is given if nothing is fetched.
    ///
    /// # Errors
    /// [`CliError::Usage`].
    pub(super) fn unused(&self) -> Result<(), CliError> {
        self.unused_with("what is asked for")
    }

    fn unused_with(&self, source: &str) -> Result<(), CliError> {
        if self.sets.is_empty() && self.arch.is_none() && self.mirror.is_none() && !self.packages {
            return Ok(());
        }
        Err(CliError::Usage {
            what: format!("{source} is not a release"),
            hint: "--set, --arch, --mirror and --packages are for releases, such as 14.3-RELEASE"
                .to_owned(),
        })
    }
}

/// Checks that a release can be installed on this host, before anything is created.
///
/// # Errors
/// Those of [`packages::ready`].
pub(super) fn ready(session: &Session, release: &Release) -> Result<(), CliError> {
    match release {
        Release::Sets(_) => Ok(()),
        Release::Packages(packaged) => packages::ready(session, packaged),
    }
}

/// Fetches the sets of a release, and reports who vouches for them.
///
/// # Errors
/// [`CliError::Release`], [`CliError::Interrupted`]; [`CliError`].
pub(super) fn fetch(
    context: &Context<'_>,
    session: &Session,
    wanted: &Wanted,
) -> Result<Vec<Fetched>, CliError> {
    let site = session.inventory(&Scope::none())?.site.directory;
    let progress = Shown::new(context.report);
    let client = Client::new(freebsd_release::Patience::default());
    let work = work(context, &progress);
    let fetched = freebsd_release::fetch(wanted, &client, &site.join(CACHE), Path::new("/"), &work);
    let fetched = fetched.map_err(|source| match source {
        ReleaseError::Interrupted => CliError::Interrupted,
        source => CliError::Release {
            release: wanted.version.to_string(),
            source,
        },
    })?;
    for Fetched {
        set,
        sha256,
        vouched,
        ..
    } in &fetched
    {
        context.report.object(
            Json::Download,
            &Told {
                set: set.to_string(),
                sha256: sha256.to_string(),
                vouched,
            },
        );
        let by = vouched.join(" and ");
        context
            .report
            .note(format!("{set}: SHA-256 {sha256}, as {by} has it"));
    }
    Ok(fetched)
}

/// Unpacks the sets one after the other.
///
/// # Errors
/// Those of extracting one archive.
pub(super) fn extract(
    context: &Context<'_>,
    stage: &Stage,
    sets: &[Fetched],
    bounds: Bounds,
) -> Result<ExtractReport, CliError> {
    // The content of a release is known.
    let bounds = Bounds {
        known: true,
        ..bounds
    };
    let mut all = ExtractReport::default();
    for set in sets {
        let progress = Shown::new(context.report);
        let work = work(context, &progress);
        let source = Source::File(set.path.clone());
        let opened = world::open(source, Some(set.sha256), &work);
        let opened = opened.map_err(|source| stage.failed(source))?;
        let one = extract_one(context, stage, opened, bounds)?;
        all.files += one.files;
        all.dirs += one.dirs;
        all.links += one.links;
        all.bytes += one.bytes;
        all.input_bytes += one.input_bytes;
        all.dropped_devices += one.dropped_devices;
        // Of several digests the first is kept, whose set gives the world its name.
        all.sha256 = all.sha256.or(one.sha256);
    }
    Ok(all)
}
