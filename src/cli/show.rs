//! `ezz show`: shows all details of one jail, or of the site.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::list::{Held, Line, line};
use super::{CliError, Context, DryRun};
use crate::model::{Kind, Limits, Params};
use crate::name::{DatasetName, FlavourName, GenerationId, JailName};
use crate::plan::{Observed, PlanError};
use crate::report::{Exit, Kind as Json, bytes};
use crate::session::Scope;

/// Show one jail, or the site
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz show www\n\nJSON: a `jail`; without a name a `site`")]
pub struct Show {
    /// Jail to show [default: the site]
    name: Option<JailName>,
}

#[derive(Debug, Serialize)]
struct Jail {
    #[serde(flatten)]
    line: Line,
    dataset: DatasetName,
    root: PathBuf,
    mounted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    referenced: u64,
    quota: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    world: Option<String>,
    flavours: Vec<FlavourName>,
    depends: Vec<JailName>,
    order: i32,
    limits: Limits,
    /// The limits that the host gives a jail which has none of its own.
    built_in_limits: Limits,
    nested_userns: bool,
    params: Params,
    datasets: Vec<DatasetName>,
}

#[derive(Debug, Serialize)]
struct Site<'a> {
    site: &'a DatasetName,
    id: &'a str,
    format: u32,
    epoch: u64,
    directory: &'a PathBuf,
    replica: bool,
    available: u64,
    generations: usize,
    tracks: usize,
}

impl Show {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let session = context.session(DryRun::default())?;
        match self.name {
            Some(name) => {
                let built_in = session.host.built_in_limits();
                let observed = session.observe(&Scope::of([name.clone()]))?;
                jail(context, &observed, &name, built_in)
            }
            None => {
                site(context, &session.observe(&Scope::none())?);
                Ok(Exit::Done)
            }
        }
    }
}

fn jail(
    context: &Context<'_>,
    observed: &Observed,
    name: &JailName,
    built_in: Limits,
) -> Result<Exit, CliError> {
    let inventory = &observed.inventory;
    let found = inventory
        .jails
        .get(name)
        .or_else(|| Some(&inventory.debris.get(name)?.jail))
        .ok_or_else(|| PlanError::NoJail(name.clone()))?;
    let line = line(observed, found);
    let config = found.config.as_ref().ok();
    let id = line.generation.or(line.skeleton);
    let shown = Jail {
        world: id
            .and_then(|id| inventory.generations.get(&id))
            .map(crate::model::Generation::display),
        line,
        dataset: found.dataset.clone(),
        root: found.mountpoint.clone(),
        mounted: found.mounted,
        origin: found.origin.clone(),
        referenced: found.referenced,
        quota: found.quota,
        flavours: config.map(|it| it.flavours.clone()).unwrap_or_default(),
        depends: config.map(|it| it.depends.clone()).unwrap_or_default(),
        order: config.map_or(0, |it| it.order),
        nested_userns: config.is_some_and(|it| it.nested_userns),
        built_in_limits: config
            .map(|it| it.limits.leaves(built_in))
            .unwrap_or_default(),
        limits: config.map(|it| it.limits.clone()).unwrap_or_default(),
        params: config.map(|it| it.params.clone()).unwrap_or_default(),
        datasets: config.map(|it| it.datasets.clone()).unwrap_or_default(),
    };
    context.report.object(Json::Jail, &shown);
    let line = &shown.line;
    let none = || "-".to_owned();
    let number = |id: Option<GenerationId>| id.map_or_else(none, |id| id.to_string());
    let state = match line.exit {
        Some(code) => format!("{}, last exit {code}", line.state),
        None => line.state.to_owned(),
    };
    let follows = match (&line.track, line.kind) {
        (Some(track), _) => track.clone(),
        (None, Some(Kind::Thick)) => {
            "no track: it has a copy of its base, and no update reaches it".to_owned()
        }
        (None, _) => none(),
    };
    let made_from = line.kind == Some(Kind::Thick);
    let (runs_on, of) = match made_from {
        true => (None, line.generation),
        false => (line.generation, None),
    };
    let due = match line.behind {
        true => format!(
            "{}: ezz brings it there before it starts next",
            number(line.due)
        ),
        false => number(line.due),
    };
    let rows = [
        ("name", line.jail.to_string()),
        ("state", state),
        (
            "kind",
            match line.kind {
                Some(Kind::Thin) => "thin".to_owned(),
                Some(Kind::Thick) => "thick".to_owned(),
                None => none(),
            },
        ),
        ("world", shown.world.clone().unwrap_or_else(none)),
        ("follows", follows),
        ("pinned to", number(line.pin)),
        ("held", line.held.as_ref().map_or_else(none, held)),
        ("made from", number(of)),
        ("runs on", number(runs_on)),
        ("own files at", number(line.skeleton.filter(|_| !made_from))),
        ("due", due),
        ("hostname", line.hostname.clone().unwrap_or_else(none)),
        (
            "addresses",
            if line.addresses.is_empty() {
                none()
            } else {
                line.addresses.join(" ")
            },
        ),
        (
            "labels",
            if line.labels.is_empty() {
                none()
            } else {
                line.labels.texts().join(" ")
            },
        ),
        (
            "fleet",
            line.fleet.as_ref().map_or_else(none, ToString::to_string),
        ),
        ("flavours", listed(&shown.flavours)),
        ("starts after", listed(&shown.depends)),
        (
            "boot",
            match line.boot {
                Some(false) => "off: `ezz start --all` leaves it out".to_owned(),
                Some(true) | None => none(),
            },
        ),
        (
            "user namespaces",
            match shown.nested_userns {
                true => "its processes may make them".to_owned(),
                false => none(),
            },
        ),
        ("dataset", shown.dataset.to_string()),
        ("origin", shown.origin.clone().unwrap_or_else(none)),
        (
            "root",
            format!(
                "{}{}",
                shown.root.display(),
                if shown.mounted { "" } else { " (not mounted)" }
            ),
        ),
        ("used", bytes(line.used)),
        (
            "quota",
            if shown.quota == 0 {
                none()
            } else {
                bytes(shown.quota)
            },
        ),
        ("limits", limits(&shown.limits, &shown.built_in_limits)),
        ("parameters", listed(&shown.params.texts())),
        ("datasets", listed(&shown.datasets)),
        ("problem", line.problem.clone().unwrap_or_else(none)),
    ];
    print(context, &rows);
    Ok(Exit::Done)
}

/// Describes what keeps a jail from its track, for people.
fn held(held: &Held) -> String {
    let (of, track) = (held.generation, &held.track);
    format!(
        "its own files could not be merged to generation {of} of the track {track}; it follows the track again from the next generation on"
    )
}

/// Describes the limits in effect, for people: a jail's own, and those that the host gives it.
fn limits(own: &Limits, built_in: &Limits) -> String {
    let memory = |limits: &Limits| limits.memory.map(|most| format!("memory {}", bytes(most)));
    let processes = |limits: &Limits| limits.processes.map(|most| format!("processes {most}"));
    let given = |limit: Option<String>| limit.map(|limit| format!("{limit} (built-in)"));
    let words = [
        memory(own).or_else(|| given(memory(built_in))),
        own.cpus.map(|most| format!("processors {most}")),
        processes(own).or_else(|| given(processes(built_in))),
        own.cpuset.as_ref().map(|list| format!("on {list}")),
    ];
    let unknown = own.unknown().into_iter();
    let unknown = unknown.map(|name| format!("{name} (unknown to this ezz)"));
    let words: Vec<String> = words.into_iter().flatten().chain(unknown).collect();
    if words.is_empty() {
        return "-".to_owned();
    }
    words.join(", ")
}

/// Formats names on one line.
fn listed<T: ToString>(names: &[T]) -> String {
    if names.is_empty() {
        return "-".to_owned();
    }
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(" ")
}

fn site(context: &Context<'_>, observed: &Observed) {
    let inventory = &observed.inventory;
    let found = &inventory.site;
    context.report.object(
        Json::Site,
        &Site {
            site: &found.layout.site,
            id: &found.id,
            format: found.format,
            epoch: found.epoch,
            directory: &found.directory,
            replica: found.replica,
            available: found.available,
            generations: inventory.generations.len(),
            tracks: inventory.tracks.len(),
        },
    );
    let rows = [
        ("site", found.layout.site.to_string()),
        ("id", found.id.clone()),
        ("format", found.format.to_string()),
        ("epoch", found.epoch.to_string()),
        ("directory", found.directory.display().to_string()),
        (
            "replica",
            if found.replica {
                "yes, read-only"
            } else {
                "no"
            }
            .to_owned(),
        ),
        ("available", bytes(found.available)),
        ("generations", inventory.generations.len().to_string()),
        ("tracks", inventory.tracks.len().to_string()),
    ];
    print(context, &rows);
}

fn print(context: &Context<'_>, rows: &[(&str, String)]) {
    for (name, value) in rows.iter().filter(|(_, value)| value != "-") {
        context.report.line(format!("{name:<12} {value}"));
    }
}
