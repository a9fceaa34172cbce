//! How `install` and `update --from` accept a world: the checks of a source before anything is created for it, and
//! reading it into a stage.

use std::io;
use std::path::Path;

use clap::Args;

use super::build::{Stage, work};
use super::progress::Shown;
use super::{CliError, Context};
use crate::crash;
use crate::model::{Inventory, Os, size};
use crate::plan::PlanError;
use crate::profile::Profile;
use crate::session::Session;
use crate::world::{self, Bounds, Digest, ExtractReport, Opened, Source, WorldError};

/// The default limit of the size to which a world may unpack. The largest published worlds have some gigabytes.
const MOST: u64 = 64 << 30;

/// This much is tried however full the pool is; if it is too much, the pool reports it.
const LEAST: u64 = 1 << 30;

/// The options that say which worlds are accepted.
#[derive(Debug, Clone, Args)]
pub(super) struct Taking {
    /// Accept secrets in the world, which every jail will share; later updates accept the same ones
    #[arg(long)]
    pub(super) allow_secrets: bool,
    /// Size limit of the unpacked world, e.g. 200G [default: twice the pool's free space, from 1G to 64G]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Accept a world that this host cannot run, e.g. FreeBSD on Linux, for a pool that moves to another host
    #[arg(long)]
    pub(super) foreign: bool,
}

impl Taking {
    /// Returns how much is unpacked.
    pub(super) fn bounds(&self, inventory: &Inventory, profile: Option<&str>) -> Bounds {
        let usual = inventory
            .site
            .available
            .saturating_mul(2)
            .clamp(LEAST, MOST);
        Bounds {
            most: self.max_size.unwrap_or(usual),
            known: profile.is_some(),
        }
    }

    /// Checks that this host can run a release of FreeBSD.
    ///
    /// # Errors
    /// Those of [`Taking::takes`].
    pub(super) fn takes_release(&self, host: Os) -> Result<(), CliError> {
        let mut all = Profile::builtin().iter();
        match all.find(|profile| profile.os == Os::FreeBsd) {
            Some(profile) => self.takes(profile, host),
            None => Ok(()),
        }
    }

    /// Checks that this host can run worlds of a profile.
    ///
    /// # Errors
    /// [`CliError::Foreign`].
    pub(super) fn takes(&self, profile: &Profile, host: Os) -> Result<(), CliError> {
        if self.foreign || profile.os == host {
            return Ok(());
        }
        Err(CliError::Foreign {
            profile: profile.name.clone(),
            needs: profile.os,
            host,
        })
    }
}

/// Checks that a source exists, before anything is created.
///
/// # Errors
/// [`CliError::Usage`].
pub(super) fn there(source: &Path) -> Result<(), CliError> {
    if source == Path::new("-") {
        return Ok(());
    }
    let text = source.to_string_lossy();
    let usage = |what: String, hint: String| Err(CliError::Usage { what, hint });
    if source.exists() {
        return match is_hosts_root(source) {
            true => usage(
                format!(
                    "{text} is this host's own root, which is in use and has what identifies this host"
                ),
                format!("make a world of its own: {DEBIAN}"),
            ),
            false => Ok(()),
        };
    }
    if ["https://", "http://", "ftp://"]
        .iter()
        .any(|it| text.starts_with(it))
    {
        let file = text.rsplit('/').next().filter(|name| !name.is_empty());
        let file = file.unwrap_or("world.tar");
        return usage(
            format!("ezz fetches releases of FreeBSD only, and {text} is a URL"),
            format!(
                "`curl -fLO '{text}'`, then `ezz install {file} --sha256 ITS-PUBLISHED-SHA256`"
            ),
        );
    }
    let what = format!("there is no file or directory {text}");
    let release = ["debian", "ubuntu", "bookworm", "trixie", "noble"];
    let lower = text.to_ascii_lowercase();
    if !text.contains('/') && release.iter().any(|name| lower.starts_with(name)) {
        return usage(what, DEBIAN.to_owned());
    }
    usage(
        what,
        "name a tar archive, a directory, a release of FreeBSD such as 14.3-RELEASE, or - for standard input"
            .to_owned(),
    )
}

/// The command that makes a Debian world, for hints.
const DEBIAN: &str =
    "`mmdebstrap --variant=minbase trixie debian-13.tar`, then `ezz install debian-13.tar`";

/// Whether a directory is the root of this system, whatever its path.
fn is_hosts_root(source: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| -> io::Result<(u64, u64)> {
        let found = std::fs::metadata(path)?;
        Ok((found.dev(), found.ino()))
    };
    matches!((id(source), id(Path::new("/"))), (Ok(one), Ok(root)) if one == root)
}

/// Opens a source and examines its beginning, so that an input that is not a world is refused before a generation is
/// begun.
///
/// # Errors
/// [`CliError::World`], [`CliError::Interrupted`], [`CliError::Foreign`].
pub(super) fn opened(
    context: &Context<'_>,
    session: &Session,
    source: &Path,
    expected: Option<Digest>,
    (taking, profile): (&Taking, Option<&str>),
) -> Result<Opened, CliError> {
    let progress = Shown::new(context.report);
    let work = work(context, &progress);
    let from = Source::from_arg(source);
    let origin = from.origin();
    let failed = |source| match source {
        WorldError::Interrupted => CliError::Interrupted,
        source => CliError::World { origin, source },
    };
    let is_directory = matches!(from, Source::Dir(_));
    let opened = world::open(from, expected, &work).map_err(failed)?;
    if is_directory && profile.is_none() {
        let origin = source.display().to_string();
        let found = world::detect(source).map_err(|source| CliError::World { origin, source })?;
        taking.takes(found, session.host.os())?;
    }
    Ok(opened)
}

/// Reads a world into an empty stage.
///
/// # Errors
/// [`CliError::World`], [`CliError::Interrupted`].
pub(super) fn extract(
    context: &Context<'_>,
    stage: &Stage,
    opened: Opened,
    bounds: Bounds,
) -> Result<ExtractReport, CliError> {
    crash::point();
    let progress = Shown::new(context.report);
    let work = work(context, &progress);
    let extracted = opened
        .extract(&stage.base, bounds, &work)
        .map_err(|source| stage.failed(source))?;
    if extracted.dropped_devices > 0 {
        context.report.note(format!(
            "{} device nodes, fifos and sockets were left out",
            extracted.dropped_devices
        ));
    }
    Ok(extracted)
}

/// Checks that an update of a generation would be for jails that this host can run.
///
/// # Errors
/// [`PlanError::OtherSystem`].
pub(super) fn updates(
    taking: &Taking,
    session: &Session,
    current: &crate::model::Generation,
) -> Result<(), PlanError> {
    match taking.foreign {
        true => Ok(()),
        false => crate::plan::generation::ensure_native(current, session.host.os()),
    }
}
