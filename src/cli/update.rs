//! `ezz update`: makes a new generation beside the current one, and swaps to it.
//!
//! The steps are stage, seal, swap and converge; each can be run alone. Before the swap no jail sees the new
//! generation. If the command was interrupted and the files of its stage are complete, the same command continues with
//! it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::build::{Built, Stage, Wanted, profile, reap, resume, sealed, stage};
use super::converge::Pace;
use super::freebsd_source::{self, FromRelease, Release};
use super::rollback::{follow, swap_checked, unchanged, why};
use super::source::{Run, Source, named, own_words, usual};
use super::taking::{Taking, extract, opened, there, updates};
use super::{CliError, Context, DryRun, packages, rollout, verify};
use crate::crash;
use crate::freebsd_release::Fetched;
use crate::model::{Generation, Inventory, Populated, update_cache};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::track::{self, Request, To};
use crate::plan::{Plan, PlanError, Step, lookup, world as plan};
use crate::report::{Exit, Kind as Json};
use crate::session::{Scope, Session};
use crate::world::{Bounds, Digest, Opened, manifest};

/// Update the world that jails run on: build a new generation, seal it, and swap the track to it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz update\n  ezz update --track web --run sh -c 'apt-get update && apt-get install -y nginx'\n  ezz update --from debian-12.15.tar.zst --stage-only\n  ezz update --from 14.4-RELEASE --restart\n  ezz update --swap 7\n\nRunning jails keep their generation until they are restarted: by `ezz converge`, or at once with --restart. `ezz rollback` reverts the swap.\n\nAn account keeps its number in all generations of a site. If a new world has other numbers, ezz renumbers its files while it is staged; renumbered in JSON counts them.\n\nIf a command changes no file (except for times), ezz seals nothing, and the track stays where it is. Options of ezz come before --run.\n\nJSON: an `update`, then a `swap-result`; with --restart a `jail-result` for each jail; for a FreeBSD release, before them, a `download` for each set"
)]
pub struct Update {
    /// Name of the track
    #[arg(long, default_value = "main")]
    track: TrackName,
    /// New world that replaces the current one: a tar archive, a directory, - for standard input, or a
    /// FreeBSD release, e.g. 14.4-RELEASE
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["run", "swap", "resume", "abort"])]
    from: Option<PathBuf>,
    #[command(flatten)]
    release: FromRelease,
    /// Expected SHA-256 of the archive
    #[arg(long, value_name = "HEX", requires = "from")]
    sha256: Option<Digest>,
    /// Command that changes the world, run in a container with the world as its root and with the
    /// variables of the profile's updater; takes the rest of the line
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true, conflicts_with_all = ["swap", "resume", "abort"])]
    run: Vec<String>,
    /// Run the command on this host; EZZ_ROOT is the path of the world
    #[arg(long, requires = "run")]
    on_host: bool,
    /// Time limit of the command, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Profile of the new world [default: recognized by its files]
    #[arg(long, value_parser = profile, requires = "from")]
    profile: Option<String>,
    #[command(flatten)]
    taking: Taking,
    /// Seal the new generation, but do not swap the track
    #[arg(long, conflicts_with_all = ["swap", "restart"])]
    stage_only: bool,
    /// Sealed generation to swap to; nothing is built
    #[arg(long, value_name = "GENERATION")]
    swap: Option<String>,
    /// Reason, for the track's log
    #[arg(long, value_name = "TEXT", default_value = "update", value_parser = why)]
    why: String,
    /// Restart the jails that follow the track, batch by batch; roll back if one is not healthy
    #[arg(long)]
    restart: bool,
    /// Jail to restart first; the track is swapped only if it is healthy on the new generation; repeatable
    #[arg(long, value_name = "NAME", requires = "restart")]
    canary: Vec<JailName>,
    /// Continue an interrupted roll-out
    #[arg(long = "continue", conflicts_with_all = ["swap", "restart", "stage_only", "abort"])]
    resume: bool,
    /// Roll back an interrupted roll-out
    #[arg(long, conflicts_with_all = ["swap", "restart", "stage_only"])]
    abort: bool,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Updated<'a> {
    generation: GenerationId,
    label: &'a str,
    parent: Option<GenerationId>,
    manifest: &'a str,
    resumed: bool,
    renumbered: usize,
}

impl Update {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let release = self.check()?;
        let session = context.session(self.dry_run)?;
        let inventory = session.inventory(&Scope::of(self.canary.iter().cloned()))?;
        crate::plan::writable(&inventory)?;
        // A generation that was made from an earlier one of the track must not undo what another update has swapped in
        // meanwhile.
        let from = match &self.swap {
            Some(_) => None,
            None => lookup::track(&inventory, &self.track)?.current,
        };
        let request = |to| Request {
            track: self.track.clone(),
            to,
            from,
            at: context.machine.now(),
            by: context.machine.user(),
            why: self.why.clone(),
        };
        if self.resume || self.abort {
            return rollout::resume(context, &session, &self.track, self.abort);
        }
        if self.swap.is_none() {
            lookup::ensure_no_rollout(&inventory, &self.track)?;
            // Checked before a world is built rather than after.
            crate::plan::rollout::ensure_canaries(&inventory, &self.track, &self.canary)?;
        }
        let id = match &self.swap {
            Some(text) => inventory.find_generation(text)?.id,
            None => match self.build(context, &session, &inventory, release)? {
                Some(id) if !self.stage_only => id,
                Some(_) | None => return Ok(Exit::Done),
            },
        };
        crash::point();
        let to = To::Generation(id);
        if self.restart {
            let begin = rollout::Begin {
                request: request(to),
                canaries: self.canary.clone(),
                pace: self.pace.clone(),
            };
            return rollout::begin(context, &session, &begin);
        }
        let known = self.swap.is_some().then_some(inventory);
        swap_checked(context, &session, "update", &request(to), known)?;
        if session.dry_run {
            return Ok(Exit::Done);
        }
        follow(context, &session, &self.track, None)
    }

    /// Refuses requests that are impossible on any site, and returns the release that `--from` means.
    ///
    /// # Errors
    /// [`CliError::Usage`].
    fn check(&self) -> Result<Option<Release>, CliError> {
        own_words(&self.run)?;
        if (self.resume || self.abort) && self.dry_run.dry_run {
            return Err(CliError::Usage {
                what: "the next steps of a roll-out depend on the state of its jails".to_owned(),
                hint: "`ezz track list` shows its progress".to_owned(),
            });
        }
        let Some(from) = &self.from else {
            self.release.unused()?;
            return Ok(None);
        };
        let release = self.release.of(from, self.sha256)?;
        if release.is_none() {
            there(from)?;
        }
        Ok(release)
    }

    /// Builds and seals the new generation; a dry run only prints the plan.
    fn build(
        &self,
        context: &Context<'_>,
        session: &Session,
        inventory: &Inventory,
        release: Option<Release>,
    ) -> Result<Option<GenerationId>, CliError> {
        let track = lookup::track(inventory, &self.track)?;
        let current = track
            .current
            .ok_or_else(|| PlanError::EmptyTrack(self.track.clone()))?;
        let current = inventory
            .sealed(current)
            .ok_or(PlanError::NotSealed(current))?;
        updates(&self.taking, session, current)?;
        let source = self.source(session, inventory, current, release)?;
        if !session.dry_run {
            return self.work(context, session, current, &source);
        }
        let (mut stage, id) = plan::stage(inventory, source.parent(current.id))?;
        stage.note(format!(
            "then {}, it is scrubbed, its accounts get the numbers of the site, its skeleton is made, its manifest is written, and generation {id} is sealed",
            source.shown()
        ));
        if !self.stage_only {
            stage.note(format!("then the track {} is swapped to it", self.track));
        }
        context.plan(&stage);
        Ok(None)
    }

    fn source(
        &self,
        session: &Session,
        inventory: &Inventory,
        current: &Generation,
        release: Option<Release>,
    ) -> Result<Source, CliError> {
        if let Some(release) = release {
            freebsd_source::ready(session, &release)?;
            self.taking.takes_release(session.host.os())?;
            return Ok(Source::Release(release));
        }
        if let Some(from) = &self.from {
            return Ok(Source::From(from.clone()));
        }
        let updater = match self.run.is_empty() {
            true => usual(current)?,
            false => named(&self.run, self.on_host, current)?,
        };
        Ok(Source::Run(Run {
            updater,
            cache: update_cache(&inventory.site.directory, &self.track),
            limit: Duration::from_secs(self.limit),
        }))
    }

    fn work(
        &self,
        context: &Context<'_>,
        session: &Session,
        current: &Generation,
        source: &Source,
    ) -> Result<Option<GenerationId>, CliError> {
        let populated = Populated {
            track: self.track.clone(),
            parent: source.parent(current.id),
            by: Digest::of(source.identity().as_bytes()).to_string(),
            source: None,
            other: serde_json::Map::new(),
        };
        let same = |found: &Populated| {
            found.track == populated.track
                && found.parent == populated.parent
                && found.by == populated.by
        };
        let complete = |generation: &Generation| {
            let populated = generation.populated.as_ref();
            // What a seal that was stopped has made of it cannot be written again.
            !generation.sealing && populated.is_some_and(same)
        };
        reap(context, session, complete)?;
        let inventory = session.inventory(&Scope::none())?;
        let bounds = self.taking.bounds(&inventory, self.profile.as_deref());
        let mut sealed = inventory.generations.values().rev();
        if let Some(found) = sealed.find(|g| complete(g) && track::untried(&inventory, g)) {
            context.report.note(format!(
                "resuming with {}, sealed by the previous attempt",
                found.display()
            ));
            return Ok(Some(found.id));
        }
        let half_way = inventory
            .generations
            .values()
            .find(|generation| generation.staged() && complete(generation));
        let (stage, digest) = match half_way {
            Some(found) => {
                context.report.note(format!(
                    "resuming with generation {}, whose files the previous attempt completed",
                    found.id
                ));
                let digest = found.populated.as_ref().and_then(|p| p.source.clone());
                (resume(session, found.id, source.origin())?, digest)
            }
            None => {
                let fetched = match source {
                    Source::Release(Release::Sets(wanted)) => {
                        freebsd_source::fetch(context, session, wanted)?
                    }
                    Source::Release(Release::Packages(_)) | Source::From(_) | Source::Run(_) => {
                        Vec::new()
                    }
                };
                let brought = match source {
                    Source::From(from) => {
                        let how = (&self.taking, self.profile.as_deref());
                        Some(opened(context, session, from, self.sha256, how)?)
                    }
                    Source::Release(_) | Source::Run(_) => None,
                };
                let brought = Brought {
                    opened: brought,
                    fetched: &fetched,
                    bounds,
                };
                let stage = stage(session, source.parent(current.id), source.origin())?;
                let filled = self.fill(
                    context,
                    session,
                    &stage,
                    current,
                    (source, brought),
                    &populated,
                );
                let digest = filled.map_err(|first| stage.undo(session, first))?;
                (stage, digest)
            }
        };
        let wanted = Wanted {
            profile: self.profile.as_deref(),
            taking: &self.taking,
            source: digest,
            parent: Some(current),
        };
        let work = || {
            let built = stage.finish(context, session, &wanted)?;
            if source.may_be_unchanged() && same_files(context, session, current, &stage)? {
                return Ok(None);
            }
            stage.seal(context, session, "update", &built, &self.track)?;
            Ok(Some(built))
        };
        // A complete stage is kept for the next try if this one was only interrupted.
        let built = work().map_err(|first: CliError| match first {
            first if first.interrupted() && stage.complete.get() => CliError::Kept {
                generation: stage.id,
            },
            first => stage.undo(session, first),
        })?;
        let Some(built) = built else {
            stage.clear(session)?;
            // A killed swap may have left the link of the track at the old generation.
            let mut link = Plan::default();
            link.push(Step::Link {
                track: self.track.clone(),
                generation: current.id,
                directory: inventory.site.directory.clone(),
            });
            session.run_always(&link)?;
            unchanged(context, &self.track, current);
            return Ok(None);
        };
        tell(context, &stage, &built, half_way.is_some());
        Ok(Some(stage.id))
    }

    /// Brings the files in, and records on the pool that they are complete.
    fn fill(
        &self,
        context: &Context<'_>,
        session: &Session,
        stage: &Stage,
        current: &Generation,
        (source, brought): (&Source, Brought<'_>),
        populated: &Populated,
    ) -> Result<Option<String>, CliError> {
        let bounds = brought.bounds;
        let digest = match source {
            Source::From(_) => match brought.opened {
                Some(opened) => extract(context, stage, opened, bounds)?.sha256,
                None => None,
            },
            Source::Release(Release::Sets(_)) => {
                freebsd_source::extract(context, stage, brought.fetched, bounds)?.sha256
            }
            Source::Release(Release::Packages(packaged)) => {
                packages::install(context, session, stage, packaged)?;
                None
            }
            Source::Run(run) => {
                run.change(context, session, stage, current)?;
                None
            }
        };
        let digest = digest.map(|digest| digest.to_string());
        crash::point();
        let populated = Populated {
            source: digest.clone(),
            ..populated.clone()
        };
        session.transact(&Scope::none(), |observed| {
            Ok(plan::populated(
                &observed.inventory,
                stage.id,
                Some(&populated),
            )?)
        })?;
        crash::point();
        Ok(digest)
    }
}

/// An input from outside, as far as it is open before the stage exists.
#[derive(Debug)]
struct Brought<'a> {
    /// The archive or directory.
    opened: Option<Opened>,
    /// The sets of a release.
    fetched: &'a [Fetched],
    /// How much of it is extracted.
    bounds: Bounds,
}

/// Whether a stage has the same files as a generation, without regard to their times.
fn same_files(
    context: &Context<'_>,
    session: &Session,
    current: &Generation,
    stage: &Stage,
) -> Result<bool, CliError> {
    // Its base may have been mounted since it was observed.
    let inventory = session.inventory(&Scope::none())?;
    let current = inventory.generations.get(&current.id).unwrap_or(current);
    let old = verify::sealed_manifest(context, session, current)?;
    let (new, _) = manifest::read(&stage.base).map_err(|source| stage.failed(source))?;
    let steps = manifest::diff(&old, &new).map_err(|source| stage.failed(source))?;
    Ok(steps.is_empty())
}

fn tell(context: &Context<'_>, stage: &Stage, built: &Built, resumed: bool) {
    context.report.result(
        Json::Update,
        true,
        &Updated {
            generation: stage.id,
            label: &built.world.label,
            parent: built.world.parent,
            manifest: &built.seal.manifest,
            resumed,
            renumbered: built.numbers.borrow().count,
        },
    );
    let base = format!("{} files", built.files);
    sealed(context, stage.id, built, &base);
}
