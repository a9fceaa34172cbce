//! `ezz world`: the generations of a site. This file lists and verifies them.

mod delete;
mod diff;
mod prune;
mod tree;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::list::line;
use super::{CliError, Context, DryRun, verify};
use crate::model::{Base, Generation, Half, Inventory, JailState, Kind};
use crate::name::{GenerationId, TrackName};
use crate::plan::prune::{Request, kept};
use crate::plan::world::repair;
use crate::plan::{Observed, lookup};
use crate::report::{Exit, Kind as Json, bytes};
use crate::session::{Scope, Session};

/// Manage generations, the worlds of a site
#[derive(Debug, Subcommand)]
pub enum WorldVerb {
    List(List),
    Show(Show),
    Verify(Verify),
    Diff(diff::Diff),
    Tree(tree::Tree),
    Prune(prune::Prune),
    Delete(delete::Delete),
}

/// List generations
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz world list\n\nJSON: a `world` for each")]
pub struct List {}

/// Show one generation
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz world show 7\n\nJSON: a `world`")]
pub struct Show {
    /// Generation: a number, LABEL.N or a label
    generation: String,
}

/// Compare generations with their seals and manifests
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz world verify --all\n  ezz world verify 7 --repair\n\nThe exit code is 1 if something differs and is not repaired.\n\nJSON: a `verification` for each generation, and another after its repair"
)]
pub struct Verify {
    /// Generation: a number, LABEL.N or a label [default: the current ones of all tracks]
    #[arg(conflicts_with = "all")]
    generation: Option<String>,
    /// Verify all sealed generations
    #[arg(long)]
    all: bool,
    /// Only check whether anything was written since the seal
    #[arg(long)]
    quick: bool,
    /// Roll back a base that differs to its snapshot; no jail may run on it
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

/// The state of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Staged,
    Sealed,
    /// Sealed, and rejected by a roll-out.
    Rejected,
    /// Only the skeleton is left.
    Pruned,
    Broken,
}

impl State {
    fn of(generation: &Generation) -> State {
        if generation.rejected.is_some() {
            State::Rejected
        } else if generation.sealed() {
            State::Sealed
        } else if generation.staged() {
            State::Staged
        } else if generation.pruned() {
            State::Pruned
        } else {
            State::Broken
        }
    }

    fn word(self) -> &'static str {
        match self {
            State::Staged => "staged",
            State::Sealed => "sealed",
            State::Rejected => "rejected",
            State::Pruned => "pruned",
            State::Broken => "broken",
        }
    }
}

#[derive(Debug, Serialize)]
struct Line {
    generation: GenerationId,
    state: State,
    label: Option<String>,
    profile: Option<String>,
    os: Option<String>,
    arch: Option<String>,
    sealed: Option<String>,
    tracks: Vec<TrackName>,
    following: usize,
    pinned: usize,
    running: usize,
    size: u64,
    delta: u64,
    parent: Option<GenerationId>,
    rejected: Option<String>,
    kept_by: Vec<String>,
    source: Option<String>,
    manifest: Option<String>,
}

#[derive(Debug, Serialize)]
struct Verified {
    generation: GenerationId,
    ok: bool,
    quick: bool,
    differences: Vec<String>,
}

impl WorldVerb {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let dry_run = match &self {
            WorldVerb::Prune(args) => args.dry_run(),
            WorldVerb::Delete(args) => args.dry_run(),
            WorldVerb::Verify(args) => args.dry_run,
            WorldVerb::List(_) | WorldVerb::Show(_) | WorldVerb::Diff(_) | WorldVerb::Tree(_) => {
                DryRun::default()
            }
        };
        let session = context.session(dry_run)?;
        match self {
            WorldVerb::Diff(args) => args.run(context, &session),
            WorldVerb::Tree(args) => args.run(context, &session),
            WorldVerb::Prune(args) => args.run(context, &session),
            WorldVerb::Delete(args) => args.run(context, &session),
            WorldVerb::List(_) => list(context, &session.observe(&Scope::all())?),
            WorldVerb::Show(args) => {
                let observed = session.observe(&Scope::all())?;
                let id = shown(&observed.inventory, &args.generation)?;
                show(
                    context,
                    &lines(&observed)[&id],
                    &observed.inventory.generations[&id],
                );
                Ok(Exit::Done)
            }
            WorldVerb::Verify(args) => args.run(context, &session),
        }
    }
}

/// Returns the generation that a text means; a number may also be that of an unsealed generation.
fn shown(inventory: &Inventory, text: &str) -> Result<GenerationId, CliError> {
    let by_id = GenerationId::from_component(text);
    match by_id.filter(|id| inventory.generations.contains_key(id)) {
        Some(id) => Ok(id),
        None => Ok(inventory.find_generation(text)?.id),
    }
}

fn lines(observed: &Observed) -> BTreeMap<GenerationId, Line> {
    let inventory = &observed.inventory;
    let running: Vec<Option<GenerationId>> = inventory
        .jails
        .values()
        .filter(|jail| matches!(observed.state(&jail.name), JailState::Running { .. }))
        .map(|jail| line(observed, jail))
        .filter(|line| line.kind == Some(Kind::Thin))
        .map(|line| line.generation)
        .collect();
    let count = |wanted: &dyn Fn(&Base) -> bool| {
        let configs = inventory
            .jails
            .values()
            .filter_map(|jail| jail.config.as_ref().ok());
        // Thick jails have a copy, whatever they were made from.
        let thin = configs.filter(|config| config.kind == Kind::Thin);
        thin.filter(|config| wanted(&config.base)).count()
    };
    let kept = kept(observed, &Request::default());
    let one = |generation: &Generation| {
        let id = generation.id;
        let tracks: Vec<TrackName> = lookup::tracks_at(inventory, id).cloned().collect();
        let world = generation.world.as_ref();
        let size = |half: &Option<Half>| half.as_ref().map_or(0, |half| half.referenced);
        Line {
            generation: id,
            state: State::of(generation),
            label: world.map(|world| world.label.clone()),
            profile: world.map(|world| world.profile.clone()),
            os: world.map(|world| world.os.clone()),
            arch: world.map(|world| world.arch.clone()),
            sealed: generation.seal().map(|seal| seal.at.clone()),
            following: count(&|base| matches!(base, Base::Track(t) if tracks.contains(t))),
            pinned: count(&|base| *base == Base::Pin(id)),
            running: running.iter().filter(|found| **found == Some(id)).count(),
            size: size(&generation.base) + size(&generation.skeleton),
            delta: generation.base.as_ref().map_or(0, |half| half.used),
            parent: world.and_then(|world| world.parent),
            rejected: generation.rejected.as_ref().map(|found| found.why.clone()),
            kept_by: kept.get(&id).map_or_else(Vec::new, |kept| {
                let reasons = if generation.pruned() {
                    &kept.skeleton
                } else {
                    &kept.base
                };
                reasons.iter().map(ToString::to_string).collect()
            }),
            source: world.and_then(|world| world.source.clone()),
            manifest: generation.seal().map(|seal| seal.manifest.clone()),
            tracks,
        }
    };
    inventory
        .generations
        .values()
        .map(|generation| (generation.id, one(generation)))
        .collect()
}

fn list(context: &Context<'_>, observed: &Observed) -> Result<Exit, CliError> {
    let mut rows = Vec::new();
    for line in lines(observed).into_values() {
        context.report.object(Json::World, &line);
        let text = |value: Option<&String>| value.cloned().unwrap_or_else(|| "-".to_owned());
        let tracks: Vec<&str> = line.tracks.iter().map(TrackName::as_str).collect();
        rows.push(vec![
            observed.inventory.generations[&line.generation].display(),
            line.state.word().to_owned(),
            if tracks.is_empty() {
                "-".to_owned()
            } else {
                tracks.join(" ")
            },
            line.following.to_string(),
            line.pinned.to_string(),
            line.running.to_string(),
            bytes(line.size),
            bytes(line.delta),
            text(line.arch.as_ref()),
        ]);
    }
    let head = [
        "GENERATION",
        "STATE",
        "TRACKS",
        "FOLLOW",
        "PIN",
        "RUN",
        "SIZE",
        "DELTA",
        "ARCH",
    ];
    context.report.table(&head, rows);
    Ok(Exit::Done)
}

fn show(context: &Context<'_>, line: &Line, generation: &Generation) {
    context.report.object(Json::World, line);
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let tracks: Vec<&str> = line.tracks.iter().map(TrackName::as_str).collect();
    let mut rows = vec![
        ("generation", generation.display()),
        (
            "state",
            match line.state {
                State::Pruned => "pruned: its base is gone, jails need its skeleton".to_owned(),
                state => state.word().to_owned(),
            },
        ),
        ("profile", text(&line.profile)),
        ("os", text(&line.os)),
        ("arch", text(&line.arch)),
        ("sealed", text(&line.sealed)),
        ("manifest", text(&line.manifest)),
        ("source", text(&line.source)),
        (
            "tracks",
            if tracks.is_empty() {
                "-".to_owned()
            } else {
                tracks.join(" ")
            },
        ),
        ("following", line.following.to_string()),
        ("pinned", line.pinned.to_string()),
        ("running", line.running.to_string()),
        (
            "parent",
            line.parent
                .map_or_else(|| "-".to_owned(), |id| id.to_string()),
        ),
        ("delta", bytes(line.delta)),
        (
            "kept by",
            if line.kept_by.is_empty() {
                "nothing: `ezz world prune` takes it".to_owned()
            } else {
                line.kept_by.join("; ")
            },
        ),
        ("rejected", text(&line.rejected)),
    ];
    for (name, half) in [
        ("base", &generation.base),
        ("skeleton", &generation.skeleton),
    ] {
        if let Some(half) = half {
            rows.push((
                name,
                format!("{}, {}", half.dataset, bytes(half.referenced)),
            ));
        }
    }
    for (name, value) in rows {
        context.report.line(format!("{name:<12} {value}"));
    }
}

impl Verify {
    fn run(&self, context: &Context<'_>, session: &Session) -> Result<Exit, CliError> {
        let inventory = session.inventory(&Scope::none())?;
        let chosen: Vec<&Generation> = match &self.generation {
            Some(text) => vec![inventory.find_generation(text)?],
            None => inventory
                .generations
                .values()
                .filter(|generation| generation.sealed())
                .filter(|generation| {
                    let current =
                        |track: &crate::model::Track| track.current == Some(generation.id);
                    self.all || inventory.tracks.values().any(current)
                })
                .collect(),
        };
        if chosen.is_empty() {
            context
                .report
                .note("there is no sealed generation to verify");
        }
        let mut exit = Exit::Done;
        for generation in chosen {
            let mut ok = self.one(context, session, generation)?;
            if !ok && self.repair {
                roll_back(context, session, generation.id)?;
                ok = session.dry_run || self.one(context, session, generation)?;
            }
            if !ok {
                exit = Exit::Failed;
            }
        }
        Ok(exit)
    }

    /// Reports on one generation; returns whether it is as it was sealed.
    fn one(
        &self,
        context: &Context<'_>,
        session: &Session,
        generation: &Generation,
    ) -> Result<bool, CliError> {
        let differences = if self.quick {
            verify::quick(session, generation)?
        } else {
            verify::whole(context, session, generation)?
        };
        let ok = differences.is_empty();
        let quick = self.quick;
        context.report.object(
            Json::Verification,
            &Verified {
                generation: generation.id,
                ok,
                quick,
                differences: differences.clone(),
            },
        );
        for difference in &differences {
            context
                .report
                .line(format!("{}: {difference}", generation.display()));
        }
        let word = match (ok, quick) {
            (true, true) => "nothing was written since the seal",
            (true, false) => "as it was sealed",
            (false, _) => "DIFFERS from what was sealed",
        };
        context
            .report
            .line(format!("{}: {word}", generation.display()));
        Ok(ok)
    }
}

/// Rolls the halves of a generation back to their sealed snapshots.
fn roll_back(context: &Context<'_>, session: &Session, id: GenerationId) -> Result<(), CliError> {
    let scope = Scope::all();
    context.transact(session, "world verify --repair", &scope, |observed| {
        Ok(repair(observed, id)?)
    })?;
    Ok(())
}
