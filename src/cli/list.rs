//! `ezz list`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::select::Jails;
use super::{CliError, Context, DryRun};
use crate::fleet::Written;
use crate::model::{Base, Inventory, Jail, JailState, Kind};
use crate::name::{FleetName, GenerationId, JailName};
use crate::observe;
use crate::plan::converge::generation_of;
use crate::plan::{Observed, run};
use crate::report::{Exit, bytes};
use crate::session::Scope;

/// List jails: those that are named, or all
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz list\n  ezz list --fleet shop 'web*' > shop.toml\n\nJSON: one object a jail: {\"jail\", \"state\", \"exit\", \"kind\", \"generation\", \"due\", \"track\", \"pin\", \"hostname\", \"addresses\", \"labels\", \"fleet\", \"used\", \"problem\"}; sizes are in bytes, generations are numbers; generation is what a running jail has, due is what it starts on next"
)]
pub struct List {
    #[command(flatten)]
    jails: Jails,
    /// Print only names, of all jails: one a line
    #[arg(long, conflicts_with_all = ["names", "names_from", "labels", "fleet"])]
    only_names: bool,
    /// Print a fleet file for `ezz apply` instead, of the jails that are named, or of those that belong to
    /// this fleet or to none
    #[arg(long, value_name = "FLEET")]
    fleet: Option<FleetName>,
}

/// A jail of which only the name was asked for.
#[derive(Serialize)]
struct Name<'a> {
    jail: &'a JailName,
}

/// A jail as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) jail: JailName,
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exit: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<GenerationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<GenerationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) track: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pin: Option<GenerationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hostname: Option<String>,
    pub(super) addresses: Vec<String>,
    pub(super) labels: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fleet: Option<FleetName>,
    pub(super) used: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

impl List {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let session = context.session(DryRun::default())?;
        if self.only_names {
            for jail in observe::names(session.zfs.as_ref(), &session.site)? {
                context.report.object(&Name { jail: &jail });
                context.report.line(jail.as_str());
            }
            return Ok(Exit::Done);
        }
        let wanted = self.jails.select(&session)?;
        let scope = if self.jails.is_empty() {
            Scope::all()
        } else {
            Scope::of(wanted.iter().cloned())
        };
        let observed = session.observe(&scope)?;
        let debris = observed.inventory.debris.iter();
        let shown: BTreeMap<&JailName, &Jail> = debris
            .filter(|(name, _)| wanted.is_empty() || wanted.contains(name))
            .map(|(name, debris)| (name, &debris.jail))
            .chain(&observed.inventory.jails)
            .collect();
        if let Some(missing) = wanted.iter().find(|name| !shown.contains_key(*name)) {
            return Err(crate::plan::PlanError::NoJail(missing.clone()).into());
        }
        if let Some(fleet) = &self.fleet {
            return self.export(context, &observed, fleet);
        }
        let mut rows = Vec::new();
        for jail in shown.into_values() {
            let line = line(&observed, jail);
            context.report.object(&line);
            rows.push(row(&observed.inventory, &line));
        }
        let head = [
            "NAME",
            "STATE",
            "GENERATION",
            "BASE",
            "KIND",
            "USED",
            "HOSTNAME",
            "ADDRESS",
        ];
        context.report.table(&head, rows);
        for stranger in &observed.inventory.strangers {
            context
                .report
                .note(format!("{}: {}", stranger.dataset, stranger.why));
        }
        Ok(Exit::Done)
    }
}

impl List {
    fn export(
        &self,
        context: &Context<'_>,
        observed: &Observed,
        fleet: &FleetName,
    ) -> Result<Exit, CliError> {
        let mut file = Written::new(fleet);
        for jail in observed.inventory.jails.values() {
            let Ok(config) = &jail.config else {
                continue;
            };
            let ours = config.fleet.as_ref().is_none_or(|of| of == fleet);
            if config.todo.is_empty() && (ours || !self.jails.is_empty()) {
                let running = matches!(observed.state(&jail.name), JailState::Running { .. });
                file.add(jail, config, running);
            }
        }
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| CliError::FleetFile {
            action: "write",
            path: fleet.to_string(),
            source,
        };
        let text = file.text().map_err(|e| failed(e.into()))?;
        let written = context.report.file(text.as_bytes());
        written.map_err(|e| failed(e.into()))?;
        Ok(Exit::Done)
    }
}

pub(super) fn line(observed: &Observed, jail: &Jail) -> Line {
    let state = observed.state(&jail.name);
    let running = match &state {
        JailState::Running {
            base: Some(base), ..
        } => generation_of(&observed.inventory, base),
        JailState::Running { base: None, .. }
        | JailState::Starting
        | JailState::Dying
        | JailState::Stopped { .. } => None,
    };
    let mut line = Line {
        jail: jail.name.clone(),
        state: match &state {
            JailState::Running { .. } => "running",
            JailState::Starting => "starting",
            JailState::Dying => "dying",
            JailState::Stopped { .. } => "stopped",
        },
        exit: match state {
            JailState::Stopped { exit } => exit,
            JailState::Running { .. } | JailState::Starting | JailState::Dying => None,
        },
        kind: None,
        generation: running,
        due: None,
        track: None,
        pin: None,
        hostname: None,
        addresses: Vec::new(),
        labels: Vec::new(),
        fleet: None,
        used: jail.used,
        problem: None,
    };
    match &jail.config {
        Err(why) => {
            line.problem = Some(why.clone());
            if observed.inventory.debris.contains_key(&jail.name) {
                line.state = "unfinished";
            }
        }
        Ok(config) => {
            line.kind = Some(config.kind);
            line.hostname = Some(config.hostname.clone());
            line.addresses = config.addresses.iter().map(ToString::to_string).collect();
            line.labels = config.labels.texts();
            line.fleet.clone_from(&config.fleet);
            match &config.base {
                Base::Track(track) => line.track = Some(track.to_string()),
                Base::Pin(id) => line.pin = Some(*id),
            }
            if config.kind == Kind::Thick {
                line.generation = Some(config.skel);
                line.due = Some(config.skel);
            } else {
                line.due = run::due(&observed.inventory, &config.base).ok();
            }
            if !config.todo.is_empty() {
                line.state = "unfinished";
            }
        }
    }
    line
}

fn row(inventory: &Inventory, line: &Line) -> Vec<String> {
    let shown = |id: GenerationId| {
        inventory
            .generations
            .get(&id)
            .map_or_else(|| id.to_string(), crate::model::Generation::display)
    };
    let generation = match (line.generation, line.due) {
        (Some(now), Some(due)) if now == due => shown(now),
        (Some(now), Some(due)) => format!("{} > {due}", shown(now)),
        (Some(id), None) | (None, Some(id)) => shown(id),
        (None, None) => "-".to_owned(),
    };
    let base = match (&line.track, line.pin) {
        (Some(track), _) => track.clone(),
        (None, Some(_)) => "pinned".to_owned(),
        (None, None) => "-".to_owned(),
    };
    let state = match line.exit {
        Some(code) if code != 0 => format!("{} ({code})", line.state),
        _ => line.state.to_owned(),
    };
    let kind = match line.kind {
        Some(Kind::Thin) => "thin",
        Some(Kind::Thick) => "thick",
        None => "?",
    };
    let hostname = match &line.hostname {
        Some(hostname) if hostname == line.jail.as_str() => "-".to_owned(),
        Some(hostname) => hostname.clone(),
        None => line.problem.clone().unwrap_or_default(),
    };
    let addresses = if line.addresses.is_empty() {
        "-".to_owned()
    } else {
        line.addresses.join("\n")
    };
    vec![
        line.jail.to_string(),
        state,
        generation,
        base,
        kind.to_owned(),
        bytes(line.used),
        hostname,
        addresses,
    ]
}
