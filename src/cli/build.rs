//! Builds a generation: the stage with its two datasets, the work on their files, the seal. The verbs `install` and
//! `update` bring the files into the stage.
//!
//! Number and datasets come first, then the long work on them, then one program that seals. If anything fails or a
//! signal comes before the seal, the datasets are destroyed again. A kill leaves them unsealed, and the next install,
//! update or `doctor --repair` destroys them.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;

use super::numbers::{Numbered, settle};
use super::progress::Shown;
use super::taking::Taking;
use super::{CliError, Context, error, secrets};
use crate::crash;
use crate::lock::Held;
use crate::model::{Generation, Inventory, Seal, World};
use crate::name::{GenerationId, TrackName};
use crate::plan::{Observed, Plan, PlanError, Step, generation, world as plan};
use crate::profile::Profile;
use crate::report::bytes;
use crate::session::{Around, Scope, Session};
use crate::world::{self, Context as Work, WorldError, manifest};

/// A generation that is being built. As long as this value exists, no other command treats the generation as abandoned.
#[derive(Debug)]
pub(super) struct Stage {
    /// The number of the generation.
    pub(super) id: GenerationId,
    /// The directory at which its base is mounted, writable.
    pub(super) base: PathBuf,
    /// The directory at which its skeleton is mounted.
    pub(super) skeleton: PathBuf,
    /// The source of its files, for errors.
    pub(super) origin: String,
    /// Whether another command can continue with its files: not while they are renumbered.
    pub(super) complete: Cell<bool>,
    _lock: Held,
}

/// What is wanted of a stage whose files are complete.
#[derive(Debug, Clone)]
pub(super) struct Wanted<'a> {
    /// The profile that was asked for; otherwise the one that recognises the files is used.
    pub(super) profile: Option<&'a str>,
    /// The options that say which worlds are accepted.
    pub(super) taking: &'a Taking,
    /// The digest of the archive that it came from.
    pub(super) source: Option<String>,
    /// The generation that it follows.
    pub(super) parent: Option<&'a Generation>,
}

/// The result of the long work on a staged generation.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) world: World,
    pub(super) seal: Seal,
    /// The number of files of the base, including directories and links.
    pub(super) files: u64,
    /// The size of the base in bytes.
    pub(super) bytes: u64,
    pub(super) skeleton_files: u64,
    pub(super) skeleton_bytes: u64,
    /// Whether this host cannot run the world.
    pub(super) foreign: bool,
    /// The numbers of its accounts.
    pub(super) numbers: RefCell<Numbered>,
}

/// Returns what stops long work and shows its progress.
pub(super) fn work<'a>(context: &Context<'_>, progress: &'a Shown) -> Work<'a> {
    Work {
        progress,
        cancel: context.machine.cancel(),
    }
}

impl Stage {
    /// Converts the failure of work on its files.
    pub(super) fn failed(&self, source: WorldError) -> CliError {
        match source {
            WorldError::Interrupted => CliError::Interrupted,
            source => CliError::World {
                origin: self.origin.clone(),
                source,
            },
        }
    }

    /// Does what every world needs before its seal: the scrub, the numbers of its accounts, the search for secrets, the
    /// skeleton and the manifest.
    ///
    /// # Errors
    /// [`CliError::World`], [`CliError::Secrets`], [`CliError::Foreign`], [`CliError::OtherProfile`],
    /// [`CliError::Usage`] for an unknown profile.
    pub(super) fn finish(
        &self,
        context: &Context<'_>,
        session: &Session,
        wanted: &Wanted<'_>,
    ) -> Result<Built, CliError> {
        let progress = Shown::new(context.report);
        let work = work(context, &progress);
        let failed = |source| self.failed(source);
        let (base, skeleton) = (&self.base, &self.skeleton);
        let profile = match wanted.profile {
            Some(name) => named(name)?,
            None => world::detect(base).map_err(failed)?,
        };
        let host = session.host.os();
        wanted.taking.takes(profile, host)?;
        same_profile(wanted.parent, profile)?;
        crash::point();
        let scrubbed = world::scrub(base, profile, &work).map_err(failed)?;
        scrubbed.owners_known(profile).map_err(failed)?;
        crash::point();
        let numbers = settle(self, context, session, (profile, wanted.parent), &work)?;
        crash::point();
        let secrets = world::find_secrets(base, profile, &work).map_err(failed)?;
        let allowed = secrets::allowed(context, session, wanted, (profile, secrets))?;
        let label = world::label(base, profile).map_err(failed)?;
        crash::point();
        let made = world::make_skeleton(base, skeleton, profile, &work).map_err(failed)?;
        let content = manifest::content(skeleton, &work).map_err(failed)?;
        crash::point();
        let written = manifest::write(base, &work).map_err(failed)?;
        Ok(Built {
            world: World {
                label: label.label,
                profile: label.profile,
                os: label.os.as_str().to_owned(),
                arch: label.arch.to_owned(),
                source: wanted.source.clone(),
                parent: wanted.parent.map(|parent| parent.id),
                allowed,
                other: serde_json::Map::new(),
            },
            seal: Seal {
                manifest: written.sha256.to_string(),
                at: context.machine.now(),
                release: Some(label.release),
                skeleton: Some(content.to_string()),
                other: serde_json::Map::new(),
            },
            files: written.entries,
            bytes: written.bytes,
            skeleton_files: made.files,
            skeleton_bytes: made.bytes,
            foreign: profile.os != host,
            numbers: RefCell::new(numbers),
        })
    }

    /// Seals the generation. Returns whether the track points to it from now on.
    ///
    /// # Errors
    /// [`CliError`].
    pub(super) fn seal(
        &self,
        context: &Context<'_>,
        session: &Session,
        verb: &'static str,
        built: &Built,
        track: &TrackName,
    ) -> Result<bool, CliError> {
        crash::point();
        context
            .machine
            .cancel()
            .check()
            .map_err(|_| CliError::Interrupted)?;
        let id = self.id;
        let mut numbers = built.numbers.borrow_mut();
        let outcome = loop {
            let plan = |observed: &Observed| {
                let inventory = &observed.inventory;
                if numbers.is_late(inventory) {
                    return Ok((Plan::default(), true));
                }
                let (world, seal) = (&built.world, &built.seal);
                let os = session.host.os();
                let plan = plan::seal(inventory, id, world, seal, track, os)?;
                Ok((plan, false))
            };
            let none = Scope::none();
            let (outcome, _, late) =
                context.transact_around(session, verb, &none, plan, &Around::nothing())?;
            if !late {
                break outcome;
            }
            // The accounts of the generation that was sealed meanwhile may have the same numbers as those of this
            // world.
            numbers.compare(self, context, session)?;
        };
        let commit =
            |step: &Step| matches!(step, Step::Link { generation, .. } if *generation == id);
        Ok(outcome.plan.steps.iter().any(commit))
    }

    /// Destroys the stage.
    ///
    /// # Errors
    /// [`CliError`].
    pub(super) fn clear(&self, session: &Session) -> Result<(), CliError> {
        let inventory = session.inventory(&Scope::none())?;
        if let Some(generation) = inventory.generations.get(&self.id).filter(|g| !g.sealed()) {
            session.run(&generation::reap(generation))?;
        }
        Ok(())
    }

    /// Destroys the stage after a failure; if that fails, too, the error has both causes.
    pub(super) fn undo(&self, session: &Session, first: CliError) -> CliError {
        match self.clear(session) {
            Ok(()) if first.interrupted() => CliError::Interrupted,
            Ok(()) => first,
            Err(undo) => CliError::Undo {
                first: Box::new(first),
                undo: error::one_line(&undo),
            },
        }
    }
}

/// Reports what was sealed.
pub(super) fn sealed(context: &Context<'_>, id: GenerationId, built: &Built, base: &str) {
    context.report.said(format!(
        "{}.{id}: sealed; base {base}, skeleton {} in {} files",
        built.world.label,
        bytes(built.skeleton_bytes),
        built.skeleton_files,
    ));
}

/// Takes the next number in one program; the rest of the plan creates and mounts the datasets: empty ones, or a clone
/// of a base.
///
/// # Errors
/// [`CliError`].
pub(super) fn stage(
    session: &Session,
    from: Option<GenerationId>,
    origin: String,
) -> Result<Stage, CliError> {
    let plan = |observed: &Observed| {
        let inventory = &observed.inventory;
        let (plan, id) = plan::stage(inventory, from)?;
        let (first, rest) = plan.split();
        Ok((first, (id, rest, inventory.site.directory.clone())))
    };
    let (outcome, (id, rest, directory)) =
        session.transact_around(&Scope::none(), plan, &Around::nothing())?;
    let at = |half: &str| directory.join(half).join(id.to_string());
    let stage = Stage {
        id,
        base: at("basejail"),
        skeleton: at("newjail"),
        origin,
        complete: Cell::new(true),
        _lock: outcome.stage.ok_or(CliError::Interrupted)?,
    };
    match session.run(&rest) {
        Ok(_) => Ok(stage),
        Err(first) => Err(stage.undo(session, first.into())),
    }
}

/// Continues with a stage whose files are complete.
///
/// # Errors
/// [`CliError`].
pub(super) fn resume(
    session: &Session,
    id: GenerationId,
    origin: String,
) -> Result<Stage, CliError> {
    let lock = session.lock_stage(id)?;
    let inventory = session.inventory(&Scope::none())?;
    let gone = || CliError::Plan(PlanError::NotSealed(id));
    let generation = inventory.generations.get(&id).ok_or_else(gone)?;
    session.run(&plan::resume(&inventory, generation)?)?;
    let at = |half: &str| inventory.site.directory.join(half).join(id.to_string());
    Ok(Stage {
        id,
        base: at("basejail"),
        skeleton: at("newjail"),
        origin,
        complete: Cell::new(true),
        _lock: lock,
    })
}

/// Destroys the stages that killed installs and updates have left.
///
/// # Errors
/// [`CliError`].
pub(super) fn reap(
    context: &Context<'_>,
    session: &Session,
    keep: impl Fn(&Generation) -> bool,
) -> Result<(), CliError> {
    let inventory = session.inventory(&Scope::none())?;
    crate::plan::writable(&inventory)?;
    let abandoned = abandoned(session, &inventory)?;
    if !abandoned.is_empty() {
        session.run(&Plan::on(&inventory))?;
    }
    for generation in abandoned {
        let id = generation.id;
        // An install never leaves a skeleton alone, so that is left to doctor.
        if generation.base.is_none() || keep(generation) {
            continue;
        }
        context
            .report
            .note(format!("generation {id} was never sealed; destroying it"));
        session.run(&generation::reap(generation))?;
        context.host_notes(session);
    }
    Ok(())
}

/// Returns the staged generations that no process is building.
pub(super) fn abandoned<'a>(
    session: &Session,
    inventory: &'a Inventory,
) -> Result<Vec<&'a Generation>, CliError> {
    let mut abandoned = Vec::new();
    for generation in inventory.generations.values() {
        if generation.staged() && session.locks.stage_is_free(generation.id)? {
            abandoned.push(generation);
        }
    }
    Ok(abandoned)
}

/// Checks that a track does not pass from one profile to another: the files of its jails fit its current world.
fn same_profile(parent: Option<&Generation>, found: &Profile) -> Result<(), CliError> {
    let world = parent.and_then(|parent| Some((parent, parent.world.as_ref()?)));
    match world {
        Some((parent, world)) if world.profile != found.name => Err(CliError::OtherProfile {
            generation: parent.display(),
            profile: world.profile.clone(),
            found: found.name.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Returns the profile with this name.
fn named(name: &str) -> Result<&'static Profile, CliError> {
    let mut all = Profile::builtin().iter();
    all.find(|profile| profile.name == name)
        .ok_or_else(|| CliError::Usage {
            what: "there is no such profile".to_owned(),
            hint: format!("the profiles are {}", profiles()),
        })
}

fn profiles() -> String {
    let names: Vec<&str> = Profile::builtin().iter().map(|p| p.name.as_str()).collect();
    names.join(", ")
}

/// Parses the name of a profile in an argument.
pub(super) fn profile(text: &str) -> Result<String, String> {
    if Profile::builtin()
        .iter()
        .any(|profile| profile.name == text)
    {
        Ok(text.to_owned())
    } else {
        Err(format!("expected one of {}", profiles()))
    }
}
