//! `ezz install`: brings a world in as a new sealed generation.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::build::{Built, Wanted, profile, reap, sealed, stage};
use super::freebsd_source::{self, FromRelease, Release};
use super::taking::{Taking, extract, opened, there};
use super::{CliError, Context, DryRun, packages};
use crate::name::{GenerationId, TrackName};
use crate::plan::world as plan;
use crate::report::{Exit, Kind as Json, bytes};
use crate::session::Scope;
use crate::world::{Digest, ExtractReport};

/// Install a world: an archive, a directory, standard input or a FreeBSD release
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz install debian-12.tar.zst --sha256 4f1c...\n  ezz install 14.3-RELEASE --set base --set lib32\n  ezz install 15.0-RELEASE --packages\n  xz -dc base.txz | ezz install - --track 14\n\nFor a release, ezz fetches the distribution sets from a mirror over TLS. Each must match its SHA-256 in the mirror's MANIFEST and, if you have them, in a manifest of misc/freebsd-release-manifests and in --sha256. Fetched sets stay in .cache of the site directory.\n\nFrom 15.0 on, a FreeBSD host can install base packages instead (--packages): pkg(8) installs the set base-jail, or those of --set, and checks their signatures with the host's keys for that release, or with those of --keys. `ezz update` updates such a world with pkg(8), too.\n\nJSON: an `install`; for a FreeBSD release, before it, a `download` for each set"
)]
pub struct Install {
    /// Source of the world: a tar archive (plain, gzip, xz or zstd), a directory, - for standard input,
    /// or a FreeBSD release, e.g. 14.3-RELEASE
    source: PathBuf,
    #[command(flatten)]
    from: FromRelease,
    /// Expected SHA-256 of the archive
    #[arg(long, value_name = "HEX")]
    sha256: Option<Digest>,
    /// Track that is set to the new generation if it has none yet
    #[arg(long, default_value = "main")]
    track: TrackName,
    /// Profile of the world [default: recognized by its files]
    #[arg(long, value_parser = profile)]
    profile: Option<String>,
    #[command(flatten)]
    taking: Taking,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Installed<'a> {
    generation: GenerationId,
    label: &'a str,
    track: &'a TrackName,
    current: bool,
    files: u64,
    bytes: u64,
    source: Option<&'a str>,
    manifest: &'a str,
    skeleton_files: u64,
    skeleton_bytes: u64,
    renumbered: usize,
}

impl Install {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let release = self.from.of(&self.source, self.sha256)?;
        if release.is_none() {
            there(&self.source)?;
        }
        let session = context.session(self.dry_run)?;
        if let Some(release) = &release {
            freebsd_source::ready(&session, release)?;
            self.taking.takes_release(session.host.os())?;
        }
        let inventory = session.inventory(&Scope::none())?;
        crate::plan::writable(&inventory)?;
        let profile = self.profile.as_deref();
        // A pipe can be read only once.
        let opened = match &release {
            None if !self.dry_run.dry_run || self.source != Path::new("-") => Some(opened(
                context,
                &session,
                &self.source,
                self.sha256,
                (&self.taking, profile),
            )?),
            _ => None,
        };
        if self.dry_run.dry_run {
            let (mut stage, id) = plan::stage(&inventory, None)?;
            let filled = match &release {
                Some(Release::Packages(packaged)) => {
                    format!("pkg(8) installs {} into it, which is", packaged.shown())
                }
                Some(Release::Sets(_)) | None => {
                    format!("{} is read into it,", self.source.display())
                }
            };
            stage.note(format!(
                "then {filled} scrubbed, its skeleton made, its manifest written, and generation {id} sealed"
            ));
            context.plan(&stage);
            return Ok(Exit::Done);
        }
        let fetched = match &release {
            Some(Release::Sets(wanted)) => Some(freebsd_source::fetch(context, &session, wanted)?),
            Some(Release::Packages(_)) | None => None,
        };
        reap(context, &session, |_| false)?;
        let stage = stage(&session, None, self.source.display().to_string())?;
        let bounds = self.taking.bounds(&inventory, profile);
        let work = || {
            let mut extracted = match (&fetched, &release, opened) {
                (Some(sets), ..) => freebsd_source::extract(context, &stage, sets, bounds)?,
                (None, Some(Release::Packages(packaged)), _) => {
                    packages::install(context, &session, &stage, packaged)?;
                    ExtractReport::default()
                }
                (None, _, Some(opened)) => extract(context, &stage, opened, bounds)?,
                // Only in a dry run is nothing opened.
                (None, _, None) => ExtractReport::default(),
            };
            let wanted = Wanted {
                profile,
                taking: &self.taking,
                source: extracted.sha256.map(|digest| digest.to_string()),
                parent: None,
            };
            let built = stage.finish(context, &session, &wanted)?;
            if let Some(Release::Packages(_)) = &release {
                (extracted.files, extracted.bytes) = (built.files, built.bytes);
            }
            let current = stage.seal(context, &session, "install", &built, &self.track)?;
            Ok((extracted, built, current))
        };
        let (extracted, built, current) = work().map_err(|first| stage.undo(&session, first))?;
        self.tell(context, stage.id, &extracted, &built, current);
        Ok(Exit::Done)
    }

    fn tell(
        &self,
        context: &Context<'_>,
        id: GenerationId,
        extracted: &ExtractReport,
        built: &Built,
        current: bool,
    ) {
        context.report.result(
            Json::Install,
            true,
            &Installed {
                generation: id,
                label: &built.world.label,
                track: &self.track,
                current,
                files: extracted.files,
                bytes: extracted.bytes,
                source: built.world.source.as_deref(),
                manifest: &built.seal.manifest,
                skeleton_files: built.skeleton_files,
                skeleton_bytes: built.skeleton_bytes,
                renumbered: built.numbers.borrow().count,
            },
        );
        let base = format!("{} in {} files", bytes(extracted.bytes), extracted.files);
        sealed(context, id, built, &base);
        let track = &self.track;
        if !current && built.foreign {
            context.report.note(format!(
                "no track points to it, since this host cannot run it: `ezz track create NAME {id}` creates one for a host that can"
            ));
        } else if !current {
            context.report.note(format!(
                "the track {track} stays where it is: `ezz update --track {track} --swap {id}` moves it, `ezz create --pin {id}` uses the new generation"
            ));
        }
    }
}
