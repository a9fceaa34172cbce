//! `ezz list`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::select::Jails;
use super::{CliError, Context, DryRun};
use crate::fleet::Written;
use crate::model::{Base, Inventory, Jail, JailState, Kind, Labels};
use crate::name::{FleetName, GenerationId, JailName, TrackName};
use crate::observe;
use crate::plan::Observed;
use crate::plan::behind::late;
use crate::plan::lookup::{self, generation_of};
use crate::report::{Exit, Kind as Json, bytes};
use crate::session::Scope;

/// List jails: the named ones, or all
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz list\n  ezz list --state running --sort used\n  ezz list -o name,address --no-header 'web*'\n  ezz list --only-names --label tier=front\n  ezz list --fleet shop 'web*' > shop.toml\n\nOn a terminal the table fits its width (or COLUMNS); elsewhere each jail takes one line, and nothing is cut. `> N` after a generation means that the jail is behind its track: ezz brings it to N before it starts next, or with `ezz converge`. The base `held (TRACK N)` means that the jail's own files could not be merged to N. A thick jail follows no track: it has a writable copy of its base.\n\nJSON: a `jail` for each. generation is the one that a running jail has mounted, skeleton the one that its own files are at, and due the one that it is brought to before it starts next; behind is true if it is not at due yet"
)]
pub struct List {
    #[command(flatten)]
    jails: Jails,
    /// States of the jails to list, e.g. running,stopped
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<State>,
    /// Column to sort by
    #[arg(long, value_name = "COLUMN", default_value = "name")]
    sort: Column,
    /// Columns of the table, in this order, e.g. name,address
    #[arg(long, short = 'o', value_name = "COLUMN", value_delimiter = ',')]
    columns: Vec<Column>,
    /// Omit the header line
    #[arg(long)]
    no_header: bool,
    /// Print only the names, one per line
    #[arg(long, conflicts_with_all = ["fleet", "columns"])]
    only_names: bool,
    /// Fleet to print as a fleet file for `ezz apply`: the named jails, else those that belong to the fleet
    #[arg(long, value_name = "FLEET", conflicts_with_all = ["state", "columns", "no_header"])]
    fleet: Option<FleetName>,
}

/// A state that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Running,
    Stopped,
    Starting,
    Dying,
    Unfinished,
}

impl State {
    fn is(self, line: &Line) -> bool {
        let word = match self {
            State::Running => "running",
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Dying => "dying",
            State::Unfinished => "unfinished",
        };
        line.state == word
    }
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Column {
    Name,
    State,
    Generation,
    Due,
    Base,
    Kind,
    Used,
    Hostname,
    Address,
    Labels,
    Fleet,
    Boot,
    Problem,
}

impl Column {
    /// The columns that are shown by default.
    const USUAL: [Column; 8] = [
        Column::Name,
        Column::State,
        Column::Generation,
        Column::Base,
        Column::Kind,
        Column::Used,
        Column::Hostname,
        Column::Address,
    ];

    fn head(self) -> &'static str {
        match self {
            Column::Name => "NAME",
            Column::State => "STATE",
            Column::Generation => "GENERATION",
            Column::Due => "DUE",
            Column::Base => "BASE",
            Column::Kind => "KIND",
            Column::Used => "USED",
            Column::Hostname => "HOSTNAME",
            Column::Address => "ADDRESS",
            Column::Labels => "LABELS",
            Column::Fleet => "FLEET",
            Column::Boot => "BOOT",
            Column::Problem => "PROBLEM",
        }
    }

    fn order(self, inventory: &Inventory, one: &Line, other: &Line) -> Ordering {
        match self {
            // Sorted by the numbers, not by their texts.
            Column::Used => one.used.cmp(&other.used),
            Column::Generation => one
                .generation
                .or(one.skeleton)
                .cmp(&other.generation.or(other.skeleton)),
            Column::Due => one.due.cmp(&other.due),
            column => {
                let cell = |line| cell(column, inventory, line);
                cell(one).cmp(&cell(other))
            }
        }
    }
}

/// A conflict that keeps a jail from its track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Held {
    /// The track.
    pub(super) track: TrackName,
    /// The generation that its own files could not be brought to.
    pub(super) generation: GenerationId,
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
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<GenerationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) skeleton: Option<GenerationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<GenerationId>,
    pub(super) behind: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) track: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pin: Option<GenerationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) held: Option<Held>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hostname: Option<String>,
    pub(super) addresses: Vec<String>,
    pub(super) labels: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fleet: Option<FleetName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) boot: Option<bool>,
    pub(super) used: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

impl List {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let selected = self.jails.parse()?;
        let session = context.session(DryRun::default())?;
        let plain = self.jails.is_empty() && self.state.is_empty() && self.sort == Column::Name;
        if self.only_names && plain {
            for jail in observe::names(session.zfs.as_ref(), &session.site)? {
                self.name(context, &jail);
            }
            return Ok(Exit::Done);
        }
        let wanted = selected.of(&session)?;
        let scope = if self.jails.is_empty() {
            Scope::all()
        } else {
            Scope::of(wanted.iter().cloned())
        };
        let observed = session.observe(&scope)?;
        let inventory = &observed.inventory;
        let debris = inventory.debris.iter();
        let shown: BTreeMap<&JailName, &Jail> = debris
            .filter(|(name, _)| wanted.is_empty() || wanted.contains(name))
            .map(|(name, debris)| (name, &debris.jail))
            .chain(&inventory.jails)
            .collect();
        if let Some(missing) = wanted.iter().find(|name| !shown.contains_key(*name)) {
            return Err(crate::plan::PlanError::NoJail(missing.clone()).into());
        }
        if let Some(fleet) = &self.fleet {
            return self.export(context, &observed, fleet);
        }
        let lines = shown.into_values().map(|jail| line(&observed, jail));
        let mut lines: Vec<Line> = lines
            .filter(|line| self.state.is_empty() || self.state.iter().any(|state| state.is(line)))
            .collect();
        lines.sort_by(|one, other| self.sort.order(inventory, one, other));
        if self.only_names {
            lines.iter().for_each(|line| self.name(context, &line.jail));
            return Ok(Exit::Done);
        }
        let columns = match self.columns.as_slice() {
            [] => &Column::USUAL[..],
            named => named,
        };
        let mut rows = Vec::new();
        for line in &lines {
            context.report.object(Json::Jail, line);
            let cells = columns.iter().map(|column| cell(*column, inventory, line));
            rows.push(cells.collect());
        }
        if self.no_header {
            context.report.rows(rows);
        } else {
            let head: Vec<&str> = columns.iter().map(|column| column.head()).collect();
            context.report.table(&head, rows);
        }
        let strangers = &inventory.strangers;
        if let Some(first) = strangers.first() {
            let more = match strangers.len() {
                1 => String::new(),
                n => format!(
                    "; {} more were not created by ezz; `ezz doctor` shows them",
                    n - 1
                ),
            };
            let note = format!("{}: {}{more}", first.dataset, first.why);
            context.report.warning(note);
        }
        Ok(Exit::Done)
    }

    fn name(&self, context: &Context<'_>, jail: &JailName) {
        context.report.object(Json::Jail, &Name { jail });
        context.report.line(jail.as_str());
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
            // A jail that does not belong to the fleet is claimed only if it was named.
            let ours = config.fleet.as_ref() == Some(fleet);
            if config.todo.is_empty() && (ours || !self.jails.is_empty()) {
                let running = matches!(observed.state(&jail.name), JailState::Running { .. });
                file.add(jail, config, running);
            }
        }
        if file.is_empty() {
            context.report.note(format!(
                "no jail belongs to the fleet {fleet}; name the jails that should, e.g. `ezz list --fleet {fleet} 'web*'`"
            ));
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
        skeleton: None,
        due: None,
        behind: late(observed, jail).is_some(),
        track: None,
        pin: None,
        held: None,
        hostname: None,
        addresses: Vec::new(),
        labels: Labels::default(),
        fleet: None,
        boot: None,
        used: jail.used,
        problem: None,
    };
    match &jail.config {
        Err(why) => {
            line.problem = Some(why.clone());
            if observed.inventory.debris.contains_key(&jail.name) {
                line.state = "unfinished";
                // A list does not wait for another command.
                line.problem = Some(format!("{why}, or is still at work"));
            }
        }
        Ok(config) => {
            line.kind = Some(config.kind);
            line.hostname = Some(config.hostname.clone());
            line.addresses = config.addresses.iter().map(ToString::to_string).collect();
            line.labels.clone_from(&config.labels);
            line.fleet.clone_from(&config.fleet);
            line.boot = Some(config.boot);
            line.skeleton = Some(config.skel);
            match config.kind {
                // A thick jail has a copy of that generation's files, which no update affects.
                Kind::Thick => line.generation = Some(config.skel),
                Kind::Thin => {
                    let target = lookup::target(&observed.inventory, config).ok();
                    line.due = target.map(|(generation, _)| generation);
                    line.held = config.held().map(|held| Held {
                        track: held.track.clone(),
                        generation: held.of,
                    });
                    match &config.base {
                        Base::Track(track) => line.track = Some(track.to_string()),
                        Base::Pin(id) => line.pin = Some(*id),
                    }
                }
            }
            if !config.todo.is_empty() {
                line.state = "unfinished";
            }
        }
    }
    line
}

/// Returns what a column shows of a jail, on one line.
fn cell(column: Column, inventory: &Inventory, line: &Line) -> String {
    let none = || "-".to_owned();
    let listed = |texts: &[String]| match texts.is_empty() {
        true => none(),
        false => texts.join(" "),
    };
    match column {
        Column::Name => line.jail.to_string(),
        Column::State => match line.exit {
            Some(code) if code != 0 => format!("{} ({code})", line.state),
            _ => line.state.to_owned(),
        },
        Column::Generation => generation(inventory, line),
        Column::Due => line.due.map_or_else(none, |id| id.to_string()),
        Column::Base => match (&line.track, &line.held, line.pin, line.kind) {
            (Some(track), ..) => track.clone(),
            (None, Some(held), ..) => format!("held ({} {})", held.track, held.generation),
            (None, None, Some(_), _) => "pinned".to_owned(),
            (None, None, None, Some(Kind::Thick)) => "own".to_owned(),
            (None, None, None, _) => none(),
        },
        Column::Kind => match line.kind {
            Some(Kind::Thin) => "thin".to_owned(),
            Some(Kind::Thick) => "thick".to_owned(),
            None => "?".to_owned(),
        },
        Column::Used => bytes(line.used),
        Column::Hostname => match &line.hostname {
            Some(hostname) if hostname == line.jail.as_str() => none(),
            Some(hostname) => hostname.clone(),
            None => line.problem.clone().unwrap_or_else(none),
        },
        Column::Address => listed(&line.addresses),
        Column::Labels => listed(&line.labels.texts()),
        Column::Fleet => line.fleet.as_ref().map_or_else(none, ToString::to_string),
        Column::Boot => match line.boot {
            Some(true) => "on".to_owned(),
            Some(false) => "off".to_owned(),
            None => none(),
        },
        Column::Problem => line.problem.clone().unwrap_or_else(none),
    }
}

/// Returns the generation that a jail has or would start on, and the one that is due.
fn generation(inventory: &Inventory, line: &Line) -> String {
    let shown = |id: GenerationId| {
        inventory
            .generations
            .get(&id)
            .map_or_else(|| id.to_string(), crate::model::Generation::display)
    };
    match (line.generation.or(line.skeleton), line.due) {
        (Some(now), Some(due)) if now == due && !line.behind => shown(now),
        (Some(now), Some(due)) => format!("{} > {due}", shown(now)),
        (Some(id), None) | (None, Some(id)) => shown(id),
        (None, None) => "-".to_owned(),
    }
}
