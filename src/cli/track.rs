//! `ezz track`.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CliError, Context, DryRun};
use crate::model::{Inventory, Kind, Phase, track_link};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::{lookup, site, track};
use crate::report::{Exit, Kind as Json};
use crate::session::{Scope, Session};

/// Manage tracks, the lines of generations that jails follow
#[derive(Debug, Subcommand)]
pub enum Track {
    List(List),
    Create(Create),
    Delete(Delete),
    Log(Log),
}

/// Show the last swaps of a track
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz track log\n\nJSON: a `swap` for each, oldest first; the pool keeps the last twenty"
)]
pub struct Log {
    /// Name of the track
    #[arg(default_value = "main")]
    track: TrackName,
}

/// List the tracks
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz track list\n\nJSON: a `track` for each")]
pub struct List {}

/// Create a track, empty or at a generation
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz track create 15 --generation 15.0-RELEASE.9\n\nJSON: a `track-result`"
)]
pub struct Create {
    /// Name of the track
    name: TrackName,
    /// Current generation of the track: a number, LABEL.N or a label [default: none]
    #[arg(long)]
    generation: Option<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Delete a track that no jail follows; its generations stay until `ezz world prune`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz track delete 14\n\nJSON: a `track-result`")]
pub struct Delete {
    /// Name of the track
    name: TrackName,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    track: &'a TrackName,
    current: Option<GenerationId>,
    previous: Option<GenerationId>,
    followers: usize,
    rollout: Option<Phase>,
}

#[derive(Debug, Serialize)]
struct Did<'a> {
    track: &'a TrackName,
    did: &'a str,
}

impl Track {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        match self {
            Track::List(_) => list(context),
            Track::Create(args) => create(context, &args),
            Track::Delete(args) => delete(context, &args),
            Track::Log(args) => log(context, &args),
        }
    }
}

fn list(context: &Context<'_>) -> Result<Exit, CliError> {
    let session = context.session(DryRun::default())?;
    let inventory = session.inventory(&Scope::all())?;
    let mut rows = Vec::new();
    for (name, track) in &inventory.tracks {
        // A thick jail has a copy, which no swap affects.
        let thin = |jail: &&JailName| {
            let config = inventory.jails[*jail].config.as_ref();
            config.is_ok_and(|config| config.kind == Kind::Thin)
        };
        let followers = lookup::followers(&inventory, name).filter(thin).count();
        let under_way = inventory.rollouts.get(name);
        let rollout = under_way.and_then(|found| found.rollout.as_ref().ok());
        context.report.object(
            Json::Track,
            &Row {
                track: name,
                current: track.current,
                previous: track.previous,
                followers,
                rollout: rollout.map(|rollout| rollout.phase),
            },
        );
        if under_way.is_some() {
            context.report.warning(format!(
                "a roll-out of {name} is under way: `ezz update --track {name} --continue` resumes it, --abort takes it back"
            ));
        }
        rows.push(vec![
            name.to_string(),
            shown(&inventory, track.current),
            shown(&inventory, track.previous),
            followers.to_string(),
            match under_way.map(|found| &found.rollout) {
                None => "-".to_owned(),
                Some(Ok(rollout)) => {
                    let phase = match rollout.phase {
                        Phase::Canaries => "canaries",
                        Phase::Swapped => "swapped",
                        Phase::Back => "back",
                    };
                    format!("{phase}, {} to {}", rollout.from, rollout.to)
                }
                Some(Err(_)) => "unreadable".to_owned(),
            },
        ]);
    }
    let mut head = vec!["TRACK", "CURRENT", "PREVIOUS", "JAILS", "ROLLOUT"];
    if inventory.rollouts.is_empty() {
        head.pop();
        rows.iter_mut().for_each(|row| row.truncate(head.len()));
    }
    context.report.table(&head, rows);
    Ok(Exit::Done)
}

fn log(context: &Context<'_>, args: &Log) -> Result<Exit, CliError> {
    let session = context.session(DryRun::default())?;
    let inventory = session.inventory(&Scope::none())?;
    lookup::track(&inventory, &args.track)?;
    let mut rows = Vec::new();
    for swap in track::done(&inventory, &args.track) {
        context.report.object(Json::Swap, swap);
        rows.push(vec![
            swap.at.clone(),
            swap.by.clone(),
            shown(&inventory, swap.from),
            shown(&inventory, Some(swap.to)),
            swap.why.clone(),
        ]);
    }
    context
        .report
        .table(&["WHEN", "WHO", "FROM", "TO", "WHY"], rows);
    Ok(Exit::Done)
}

fn create(context: &Context<'_>, args: &Create) -> Result<Exit, CliError> {
    let session = context.session(args.dry_run)?;
    // A jail with this name would conflict with the track, so it is read, though nothing is done to it.
    let scope = Scope::of(JailName::parse(args.name.as_str()));
    let (outcome, exit) = context.transact(&session, "track create", &scope, |observed| {
        Ok(site::track_create(
            &observed.inventory,
            &args.name,
            args.generation.as_deref(),
        )?)
    })?;
    let did = if outcome.plan.commits() {
        "created"
    } else {
        "already"
    };
    tell(context, &session, &args.name, did);
    Ok(exit)
}

fn delete(context: &Context<'_>, args: &Delete) -> Result<Exit, CliError> {
    let session = context.session(args.dry_run)?;
    // Any jail may follow the track.
    let (_, exit) = context.transact(&session, "track delete", &Scope::all(), |observed| {
        let inventory = &observed.inventory;
        let link = track_link(&inventory.site.directory, &args.name).is_symlink();
        Ok(site::track_delete(inventory, &args.name, link)?)
    })?;
    tell(context, &session, &args.name, "deleted");
    Ok(exit)
}

fn tell(context: &Context<'_>, session: &Session, track: &TrackName, did: &str) {
    if session.dry_run {
        return;
    }
    let changed = did != "already";
    context
        .report
        .result(Json::TrackResult, changed, &Did { track, did });
    if did != "already" {
        context.report.said(format!("track {track}: {did}"));
    }
}

fn shown(inventory: &Inventory, id: Option<GenerationId>) -> String {
    match id {
        None => "-".to_owned(),
        Some(id) => inventory.generations.get(&id).map_or_else(
            || format!("{id} (missing)"),
            crate::model::Generation::display,
        ),
    }
}
