//! How a generation is built: the stage of its two datasets, the work on their files, the seal. How
//! the files come into the stage is the verb's: `install` and `update`.
//!
//! Number and datasets first, then the long work on them, then one program that seals. Whatever
//! fails or interrupts before the seal, the datasets are destroyed again; a kill leaves them
//! unsealed, and the next install, update or `doctor --repair` clears them away.

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

/// A generation that is being built. For as long as this lives nobody takes it for abandoned.
#[derive(Debug)]
pub(super) struct Stage {
    /// Its number.
    pub(super) id: GenerationId,
    /// Where its base is mounted, writable.
    pub(super) base: PathBuf,
    /// Where its skeleton is.
    pub(super) skeleton: PathBuf,
    /// What to tell in errors where its files come from.
    pub(super) origin: String,
    /// Whether another command can go on with its files: not while they are renumbered.
    pub(super) complete: Cell<bool>,
    _lock: Held,
}

/// What is to become of a stage whose files are complete.
#[derive(Debug, Clone)]
pub(super) struct Wanted<'a> {
    /// Which profile; else the one whose files the world has.
    pub(super) profile: Option<&'a str>,
    /// What of it is taken.
    pub(super) taking: &'a Taking,
    /// The digest of the archive it came from.
    pub(super) source: Option<String>,
    /// The generation that it follows.
    pub(super) parent: Option<&'a Generation>,
}

/// What the long work on a staged generation came to.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) world: World,
    pub(super) seal: Seal,
    /// Files of the base, directories and links counted.
    pub(super) files: u64,
    /// Bytes of the base.
    pub(super) bytes: u64,
    pub(super) skeleton_files: u64,
    pub(super) skeleton_bytes: u64,
    /// Whether this host cannot run it.
    pub(super) foreign: bool,
    /// The numbers that its accounts have got.
    pub(super) numbers: RefCell<Numbered>,
}

/// What stops and shows long work.
pub(super) fn work<'a>(context: &Context<'_>, progress: &'a Shown) -> Work<'a> {
    Work {
        progress,
        cancel: context.machine.cancel(),
    }
}

impl Stage {
    /// The failure of work on its files.
    pub(super) fn failed(&self, source: WorldError) -> CliError {
        match source {
            WorldError::Interrupted => CliError::Interrupted,
            source => CliError::World {
                origin: self.origin.clone(),
                source,
            },
        }
    }

    /// Does what every world gets before its seal: the scrub, the numbers of its accounts, a look for secrets,
    /// the skeleton, the manifest.
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

    /// Seals it. Returns whether the track points to it from now on.
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
            // Its accounts may have got the numbers of this world's.
            numbers.compare(self, context, session)?;
        };
        let commit =
            |step: &Step| matches!(step, Step::Link { generation, .. } if *generation == id);
        Ok(outcome.plan.steps.iter().any(commit))
    }

    /// Clears it away.
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

    /// Clears it away after a failure; keeps both causes if that fails too.
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

/// Says what was sealed.
pub(super) fn sealed(context: &Context<'_>, id: GenerationId, built: &Built, base: &str) {
    context.report.said(format!(
        "{}.{id}: sealed; base {base}, skeleton {} in {} files",
        built.world.label,
        bytes(built.skeleton_bytes),
        built.skeleton_files,
    ));
}

/// Takes the next number in one program; the rest of the plan makes and mounts the datasets: empty
/// ones, or a clone of a base.
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

/// Goes on with a stage whose files are complete.
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

/// Clears away what earlier installs left that were killed.
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
        // A skeleton alone is not what an install leaves: doctor looks at it closely.
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

/// Staged generations that no process is building.
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

/// That a track does not pass from one system to another: the files of its jails are of the one that it has.
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

/// A profile by its name.
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

/// The name of a profile, as an argument.
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
