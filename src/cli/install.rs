//! `ezz install`: brings a world in as a new sealed generation.
//!
//! Number and datasets first, then the long work on them, then one program that seals. Whatever
//! fails or interrupts before the seal, the datasets are destroyed again; a kill leaves them
//! unsealed, and the next install or `doctor --repair` clears them away.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::progress::Shown;
use super::{CliError, Context, DryRun, error};
use crate::apply::Applied;
use crate::crash;
use crate::model::{Inventory, Seal, World};
use crate::name::{GenerationId, TrackName};
use crate::plan::{Plan, Step, world as plan};
use crate::profile::Profile;
use crate::report::{Exit, Report, bytes};
use crate::session::{Scope, Session};
use crate::world::{self, Context as Work, Digest, Source, WorldError, manifest};

/// Bring a world in: an archive, a directory or standard input becomes a sealed generation
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz install debian-12.tar.zst --sha256 4f1c...\n  xz -dc base.txz | ezz install - --track 14\n\nJSON: {\"generation\", \"label\", \"track\", \"current\", \"files\", \"bytes\", \"source\", \"manifest\", \"skeleton_files\", \"skeleton_bytes\"}"
)]
pub struct Install {
    /// A tar archive (plain, gzip, xz or zstd), a directory, or - for standard input
    source: PathBuf,
    /// The SHA-256 that the archive must have
    #[arg(long, value_name = "HEX")]
    sha256: Option<Digest>,
    /// The track that gets it if it has no generation yet
    #[arg(long, default_value = "main")]
    track: TrackName,
    /// The profile; else the one whose files the world has
    #[arg(long, value_parser = profile)]
    profile: Option<String>,
    /// Go on although the world has what looks like a secret: every jail will have it
    #[arg(long)]
    allow_secrets: bool,
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
}

/// What the long work on a staged generation came to.
struct Built {
    world: World,
    seal: Seal,
    files: u64,
    bytes: u64,
    skeleton_files: u64,
    skeleton_bytes: u64,
}

impl Install {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let session = context.session(self.dry_run)?;
        if self.source != Path::new("-") && !self.source.exists() {
            return Err(CliError::Usage {
                what: format!("there is no file or directory {}", self.source.display()),
                hint: "name a tar archive, a directory, or - for standard input".to_owned(),
            });
        }
        if self.dry_run.dry_run {
            let inventory = session.inventory(&Scope::none())?;
            let (mut stage, id) = plan::stage(&inventory)?;
            stage.note(format!(
                "then {} is read into it, scrubbed, its skeleton made, its manifest written, and generation {id} sealed",
                self.source.display()
            ));
            context.plan(&stage);
            return Ok(Exit::Done);
        }
        reap(context, &session)?;
        let (id, stage, _lock) = stage(&session)?;
        let built = session
            .run(&stage)
            .map_err(CliError::from)
            .and_then(|applied: Applied| {
                debug_assert!(applied.failed.is_empty(), "a stage has no jail's steps");
                self.build(context, &session, id)
            });
        let (built, sealed) = match built.and_then(|built| {
            let outcome = self.seal(context, &session, id, &built)?;
            Ok((built, outcome))
        }) {
            Ok(done) => done,
            Err(first) => return Err(undo(&session, id, first)),
        };
        self.tell(context.report, id, &built, sealed);
        Ok(Exit::Done)
    }

    fn build(
        &self,
        context: &Context<'_>,
        session: &Session,
        id: GenerationId,
    ) -> Result<Built, CliError> {
        let origin = self.source.display().to_string();
        let failed = |source| match source {
            WorldError::Interrupted => CliError::Interrupted,
            source => CliError::World {
                origin: origin.clone(),
                source,
            },
        };
        let directory = session.inventory(&Scope::none())?.site.directory;
        let base = directory.join("basejail").join(id.to_string());
        let skeleton = directory.join("newjail").join(id.to_string());
        let progress = Shown::new(context.report);
        let work = Work {
            progress: &progress,
            cancel: context.machine.cancel(),
        };
        crash::point();
        let extracted = world::extract(Source::from_arg(&self.source), &base, self.sha256, &work)
            .map_err(failed)?;
        if extracted.dropped_devices > 0 {
            context.report.note(format!(
                "{} device nodes, fifos and sockets were left out",
                extracted.dropped_devices
            ));
        }
        let profile = match &self.profile {
            Some(name) => Profile::builtin()
                .iter()
                .find(|profile| profile.name == *name),
            None => Some(world::detect(&base).map_err(failed)?),
        };
        let Some(profile) = profile else {
            return Err(CliError::Usage {
                what: "there is no such profile".to_owned(),
                hint: format!("the profiles are {}", profiles()),
            });
        };
        crash::point();
        world::scrub(&base, profile, &work).map_err(failed)?;
        crash::point();
        let secrets = world::find_secrets(&base, profile, &work).map_err(failed)?;
        if !secrets.is_empty() {
            let list: Vec<String> = secrets.iter().map(ToString::to_string).collect();
            if !self.allow_secrets {
                return Err(CliError::Secrets { list });
            }
            for secret in list {
                context.report.note(format!("allowed: {secret}"));
            }
        }
        let label = world::label(&base, profile).map_err(failed)?;
        crash::point();
        let made = world::make_skeleton(&base, &skeleton, profile, &work).map_err(failed)?;
        crash::point();
        let written = manifest::write(&base, &work).map_err(failed)?;
        Ok(Built {
            world: World {
                label: label.label,
                profile: label.profile,
                os: label.os.as_str().to_owned(),
                arch: label.arch.to_owned(),
                source: extracted.sha256.map(|digest| digest.to_string()),
                parent: None,
                other: serde_json::Map::new(),
            },
            seal: Seal {
                manifest: written.sha256.to_string(),
                at: jiff::Timestamp::now()
                    .strftime("%Y-%m-%dT%H:%M:%SZ")
                    .to_string(),
                other: serde_json::Map::new(),
            },
            files: extracted.files,
            bytes: extracted.bytes,
            skeleton_files: made.files,
            skeleton_bytes: made.bytes,
        })
    }

    /// Returns whether the track points to it from now on.
    fn seal(
        &self,
        context: &Context<'_>,
        session: &Session,
        id: GenerationId,
        built: &Built,
    ) -> Result<bool, CliError> {
        crash::point();
        context
            .machine
            .cancel()
            .check()
            .map_err(|_| CliError::Interrupted)?;
        let (outcome, _) = context.transact(session, "install", &Scope::none(), |observed| {
            let inventory = &observed.inventory;
            Ok(plan::seal(
                inventory,
                id,
                &built.world,
                &built.seal,
                &self.track,
            )?)
        })?;
        Ok(outcome
            .plan
            .steps
            .iter()
            .any(|step| matches!(step, Step::Link { generation, .. } if *generation == id)))
    }

    fn tell(&self, report: Report, id: GenerationId, built: &Built, current: bool) {
        report.object(&Installed {
            generation: id,
            label: &built.world.label,
            track: &self.track,
            current,
            files: built.files,
            bytes: built.bytes,
            source: built.world.source.as_deref(),
            manifest: &built.seal.manifest,
            skeleton_files: built.skeleton_files,
            skeleton_bytes: built.skeleton_bytes,
        });
        report.said(format!(
            "{}.{id}: sealed; base {} in {} files, skeleton {} in {} files",
            built.world.label,
            bytes(built.bytes),
            built.files,
            bytes(built.skeleton_bytes),
            built.skeleton_files,
        ));
    }
}

/// Takes the next number in one program; the rest of the plan makes and mounts the datasets.
/// The lock says, for as long as this process lives, that somebody builds this generation.
fn stage(session: &Session) -> Result<(GenerationId, Plan, crate::lock::Held), CliError> {
    let mut taken = None;
    session.transact(&Scope::none(), |observed| {
        let (mut all, id) = plan::stage(&observed.inventory)?;
        // The lock of an earlier try, which was stale, may be the same one.
        taken = None;
        // Before the number is committed, so that nobody takes what follows for abandoned.
        let lock = session.locks.stage(id)?;
        let commit = |step: &Step| matches!(step, Step::Commit { .. });
        let first = all.steps.iter().position(commit).map_or(0, |at| at + 1);
        let rest = all.steps.split_off(first);
        taken = Some((
            id,
            Plan {
                steps: rest,
                notes: Vec::new(),
            },
            lock,
        ));
        Ok(all)
    })?;
    taken.ok_or(CliError::Interrupted)
}

/// Clears a staged generation away after a failure; keeps both causes if that fails too.
fn undo(session: &Session, id: GenerationId, first: CliError) -> CliError {
    let cleared = session
        .inventory(&Scope::none())
        .map_err(CliError::from)
        .and_then(|found| match found.generations.get(&id) {
            Some(generation) if !generation.sealed() => {
                session
                    .run(&plan::reap(generation))
                    .map_err(CliError::from)?;
                Ok(())
            }
            Some(_) | None => Ok(()),
        });
    match cleared {
        Ok(()) => first,
        Err(undo) => CliError::Undo {
            first: Box::new(first),
            undo: error::one_line(&undo),
        },
    }
}

/// Clears away what earlier installs left that were killed.
pub(super) fn reap(context: &Context<'_>, session: &Session) -> Result<(), CliError> {
    let inventory = session.inventory(&Scope::none())?;
    crate::plan::writable(&inventory)?;
    let abandoned = abandoned(session, &inventory)?;
    if !abandoned.is_empty() {
        session.run(&Plan::on(&inventory))?;
    }
    for generation in abandoned {
        let id = generation.id;
        // A skeleton alone is not what an install leaves: doctor looks at it closely.
        if generation.base.is_none() {
            continue;
        }
        context.report.note(format!(
            "generation {id} was never sealed: it is cleared away"
        ));
        session.run(&plan::reap(generation))?;
    }
    Ok(())
}

/// Staged generations that nobody is building.
pub(super) fn abandoned<'a>(
    session: &Session,
    inventory: &'a Inventory,
) -> Result<Vec<&'a crate::model::Generation>, CliError> {
    let mut abandoned = Vec::new();
    for generation in inventory.generations.values() {
        if generation.staged() && session.locks.stage_is_free(generation.id)? {
            abandoned.push(generation);
        }
    }
    Ok(abandoned)
}

fn profiles() -> String {
    let names: Vec<&str> = Profile::builtin().iter().map(|p| p.name.as_str()).collect();
    names.join(", ")
}

fn profile(text: &str) -> Result<String, String> {
    if Profile::builtin()
        .iter()
        .any(|profile| profile.name == text)
    {
        Ok(text.to_owned())
    } else {
        Err(format!("expected one of {}", profiles()))
    }
}
