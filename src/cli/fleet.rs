//! `ezz apply`: brings the jails of a site to the state that a fleet file describes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::confirm::confirm;
use super::create::undo;
use super::delete::below;
use super::merging::Differences;
use super::restart_marks::RestartMarks;
use super::select::text_of;
use super::shared_network::{self, Way};
use super::upgrade::{Brought, bring_all};
use super::{CliError, Context, DryRun, JailReporter, delegated, preflight};
use crate::fleet::{Fleet, FleetError, Wish};
use crate::model::{Inventory, JailState};
use crate::name::JailName;
use crate::plan::fleet::{Change, Diff, Does, Request, Seen, diff, merged_first, plan};
use crate::plan::{Observed, Plan, PlanError, lookup, order, power, spec};
use crate::ports::HostError;
use crate::report::{Exit, Kind as Json};
use crate::session::{Around, Scope, Session, SessionError};

const HELP: &str = r#"A fleet file is TOML. A key that an entry omits has its value from [defaults]. If [defaults] omits it too, a
new jail gets what `ezz create` would give it, including the defaults of the host's configuration file, and an
existing jail keeps its value. To remove something, say so: quota = "none", health = "", labels = {},
limits = {}, addresses = [], params = [], depends = []. A value replaces the old one completely: with
limits = { memory = "1G" } a jail has no other limit, not even one from the configuration file.

  fleet = "shop"                  # jails belong to one fleet at most
  [defaults]                      # all keys of a jail but name, addresses
  track = "main"
  [[jail]]
  name = "web{01..20}"            # or names = ["a", "b{1..3}"]
  state = "running"               # or stopped, absent; else as it is
  boot = true                     # whether it starts with the host
  track = "main"                  # or pin = "7"; or clone = "web0", if new
  thick = false
  hostname = "{name}.example.org"
  ip_pools = ["em0|10.0.0.0/22"]  # an address of each for each jail
  network = "host"                # or none; without it host, and a warning
  labels = { tier = "front" }
  flavours = ["web"]              # laid over new jails
  quota = "10G"                   # or none
  health = "true"                 # a shell command: ends with 0 if healthy
  depends = ["db1"]               # started before it; it is stopped first
  order = 0                       # else the lower first
  nested_userns = false           # may it make user namespaces (Linux)
  [jail.limits]
  memory = "512M"
  cpus = 1.5
  processes = 500
  cpuset = "0-3"
  [[jail]]
  name = "db1"
  addresses = ["em0|192.0.2.7/24"]  # of one jail
  ip_pools = []

FreeBSD has two keys more. Datasets of one jail, which administers them
itself, and parameters of jail(8):

  datasets = ["tank/data/web"]
  params = ["allow.raw_sockets", "children.max=5"]

Examples:
  ezz apply shop.toml --dry-run
  ezz list --fleet shop > shop.toml && ezz apply shop.toml

JSON: a `jail-result` for each jail; with --dry-run a `change` for each jail, then the `plan`"#;

/// Create, change and delete jails to match a fleet file
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Apply {
    /// Fleet file; - for standard input
    #[arg(value_name = "FLEET")]
    file: PathBuf,
    /// Delete jails of the fleet that the file does not name
    #[arg(long)]
    prune: bool,
    /// Restart running jails whose configuration has changed since they started
    #[arg(long)]
    restart: bool,
    /// Do not ask before deleting jails
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

/// A jail of the difference, for scripts.
#[derive(Serialize)]
struct Line<'a> {
    jail: &'a JailName,
    #[serde(flatten)]
    change: &'a Change,
}

impl Apply {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let path = self.file.display().to_string();
        let text = read(&self.file)?;
        let of_file = |source: FleetError| CliError::Fleet {
            path: path.clone(),
            source,
        };
        let request = Request {
            fleet: Fleet::parse(&text).map_err(of_file)?,
            prune: self.prune,
            restart: self.restart,
            defaults: context.defaults()?,
        };
        let named = |error: CliError| match error {
            CliError::Session(SessionError::Plan(PlanError::Fleet(source))) => of_file(source),
            CliError::Plan(PlanError::Fleet(source)) => of_file(source),
            other => other,
        };
        self.apply(context, &request).map_err(named)
    }

    fn apply(&self, context: &Context<'_>, request: &Request) -> Result<Exit, CliError> {
        let session = context.session(self.dry_run)?;
        takes(&session, &request.fleet)?;
        let whole = |jails: BTreeSet<JailName>| Scope {
            whole: true,
            ..Scope::of(jails)
        };
        let mut jails: BTreeSet<JailName> = request.fleet.jails.keys().cloned().collect();

        // The site is observed in advance only to show the difference, to ask, and to find jails that the file does not
        // name.
        if self.dry_run.dry_run || request.may_delete() {
            let observed = session.observe(&whole(jails.clone()))?;
            let found = diff(&observed, request, &seen(&session, &observed, request)?)?;
            if self.dry_run.dry_run {
                show(context, &found);
            } else if !self.yes && found.that(Does::Delete).next().is_some() {
                // The plan reports errors that the difference cannot.
                let below = of_gone(&session, &observed.inventory, &found)?;
                plan(&observed, &found, below)?;
                let site = session.site.as_str();
                confirm(context, site, &shown(&found), "Delete for good?")?;
            }
            jails.extend(found.changes.keys().cloned());
        }
        let scope = whole(jails);
        let told = JailReporter::new(&context.report, &session);
        let moving = RestartMarks::of(context, &session);
        let plan = |observed: &Observed| {
            let seen = seen(&session, observed, request)?;
            let found = diff(observed, request, &seen)?;
            let below = of_gone(&session, &observed.inventory, &found)?;
            let mut plan = plan(observed, &found, below)?;
            if shares_network(&session, request, &found) {
                shared_network::warn(&mut plan, Way::File);
            }
            let waits = !merged_first(observed, &found)?.is_empty();
            Ok((plan, Asked { found, waits }))
        };
        // The jails that the last plan creates, for the way back.
        let new = RefCell::new(BTreeSet::new());
        let before = |observed: &Observed, plan: &mut Plan, asked: &Asked| {
            let found = &asked.found;
            *new.borrow_mut() = found.that(Does::Create).cloned().collect();
            if !session.dry_run {
                let down = found.that(Does::Stop).chain(found.that(Does::Delete));
                down.for_each(|name| moving.forget(context, name));
            }
            preflight::warn(&session, observed, plan);
        };
        let done = |jail: &JailName, asked: &Asked| {
            if let Some(change) = asked.found.changes.get(jail) {
                if starts(change) {
                    if asked.waits {
                        return;
                    }
                    moving.forget(context, jail);
                }
                told.say(jail, &did(change));
            }
        };
        let around = Around {
            before: &before,
            done: &done,
        };
        let (_, exit, mut asked) = context
            .transact_around(&session, "apply", &scope, plan, &around)
            .map_err(|first| undo(&session, &Scope::of(new.take()), first))?;
        if asked.waits && !session.dry_run {
            asked.waits = false;
            let changed = asked.found.changes.iter();
            let later = changed.filter(|(_, change)| starts(change));
            let later = later.map(|(name, _)| name.clone()).collect();
            let tell = |jail: &JailName| done(jail, &asked);
            return merged_and_started(context, &session, later, &tell);
        }
        if !session.dry_run && asked.found.changes.is_empty() {
            context.report.said("nothing to do");
        }
        Ok(exit)
    }
}

/// What a plan was made from.
struct Asked {
    found: Diff,
    /// Whether the plan starts no jail until the own files of some were merged.
    waits: bool,
}

/// Whether the change starts a jail.
fn starts(change: &Change) -> bool {
    let mut does = change.does.iter();
    does.any(|it| matches!(it, Does::Start | Does::Restart))
}

/// Starts jails, after merging the own files of those that need it.
fn merged_and_started(
    context: &Context<'_>,
    session: &Session,
    mut names: Vec<JailName>,
    tell: &dyn Fn(&JailName),
) -> Result<Exit, CliError> {
    let observed = session.observe(&Scope::of(names.iter().cloned()))?;
    let mut brought = Brought::default();
    bring_all(
        context,
        session,
        &observed,
        &names,
        &Differences::new(context, session),
        &mut brought,
    )?;
    names.retain(|name| !brought.failed.contains(name));
    let scope = Scope::of(names.iter().cloned());
    let plan = |observed: &Observed| {
        let config = |name: &JailName| lookup::config(&observed.inventory, name).ok();
        let plan = power::restart(observed, &order::start_order(&names, config))?;
        Ok((plan, ()))
    };
    let around = Around {
        done: &|jail, _: &()| tell(jail),
        ..Around::nothing()
    };
    let (_, exit, ()) = context.transact_around(session, "apply", &scope, plan, &around)?;
    Ok(brought.exit(exit, names.len()))
}

/// Refuses what this host could never provide. Jails with the same wishes are checked once.
fn takes(session: &Session, fleet: &Fleet) -> Result<(), CliError> {
    let jails = fleet.jails.values();
    let jails = jails.filter(|it| it.wish != Some(Wish::Absent));
    let datasets: Vec<_> = jails.flat_map(|it| it.datasets.iter().flatten()).collect();
    if let Err(error) = delegated::check(session, datasets.iter().map(|at| &at.value)) {
        // Find the dataset that is refused, and its place in the file.
        for dataset in datasets {
            let why = match delegated::check(session, [&dataset.value]) {
                Err(CliError::Host(why)) => why.to_string(),
                Err(CliError::Plan(why)) => why.to_string(),
                Ok(()) | Err(_) => continue,
            };
            let why = FleetError::new(dataset.place, why);
            return Err(CliError::Plan(PlanError::Fleet(why)));
        }
        return Err(error);
    }
    let wanted = fleet.jails.iter();
    let wanted = wanted.filter(|(_, it)| it.wish != Some(Wish::Absent));
    let names: Vec<&JailName> = wanted.map(|(name, _)| name).collect();
    if let Some(taken) = HostError::taken(session.host.taken(&names)?) {
        return Err(taken.into());
    }
    let mut asked = BTreeSet::new();
    for wanted in fleet
        .jails
        .values()
        .filter(|it| it.wish != Some(Wish::Absent))
    {
        // A jail may keep what it has already.
        let network = wanted.network.unwrap_or_default();
        let params = wanted.params.clone().unwrap_or_default();
        let nested = wanted.nested_userns == Some(true);
        if !asked.insert((network.to_string(), params.to_string(), nested)) {
            continue;
        }
        let mut takes = session.host.ensure_supported(network, &params);
        if nested {
            takes = takes.and_then(|()| session.host.takes_user_namespaces());
        }
        takes.map_err(|why| {
            let why = FleetError::new(wanted.place, why);
            CliError::Plan(PlanError::Fleet(why))
        })?;
    }
    Ok(())
}

/// Whether a new jail shares the host's network although the file does not say so.
fn shares_network(session: &Session, request: &Request, diff: &Diff) -> bool {
    diff.new.iter().any(|new| {
        let wanted = request.fleet.jails.get(&new.name);
        let chosen = wanted.and_then(|wanted| wanted.network);
        let has_addresses = !new.config.addresses.is_empty();
        shared_network::shares(session.host.as_ref(), chosen, has_addresses)
    })
}

/// Returns what the host knows about the jails of the fleet.
fn seen(session: &Session, observed: &Observed, request: &Request) -> Result<Seen, SessionError> {
    let mut old = BTreeSet::new();
    for name in request.fleet.jails.keys() {
        if !observed.inventory.jails.contains_key(name) {
            continue;
        }
        if !matches!(observed.state(name), JailState::Running { .. }) {
            continue;
        }
        let outdated = match spec::observed(&observed.inventory, name) {
            Ok(spec) => session.host.runs_stale_config(&spec)?,
            // The jail cannot be started, which the command that starts it reports.
            Err(_) => false,
        };
        if outdated {
            old.insert(name.clone());
        }
    }
    let left = session.host.leftovers()?.into_iter().collect();
    Ok(Seen { old, left })
}

/// Returns what exists below the jails to delete.
fn of_gone(
    session: &Session,
    inventory: &Inventory,
    diff: &Diff,
) -> Result<Vec<crate::plan::deletion::Below>, SessionError> {
    let gone = diff.that(Does::Delete).cloned().collect();
    let below = below(session.zfs.as_ref(), inventory, &gone);
    Ok(below.map_err(crate::execute::ApplyError::from)?)
}

fn show(context: &Context<'_>, diff: &Diff) {
    for (jail, change) in &diff.changes {
        let changed = !change.does.is_empty();
        context
            .report
            .result(Json::Change, changed, &Line { jail, change });
    }
    for line in shown(diff).lines() {
        context.report.line(line);
    }
}

fn shown(diff: &Diff) -> String {
    let lines = diff.changes.iter().map(|(name, change)| change.shown(name));
    lines.collect::<Vec<_>>().join("\n")
}

/// Describes what was done, in the past tense.
fn did(change: &Change) -> String {
    let words = change.does.iter().map(|does| match does {
        Does::Create => "created",
        Does::Change => "changed",
        Does::Delete => "deleted",
        Does::Start => "started",
        Does::Stop => "stopped",
        Does::Restart => "restarted",
    });
    words.collect::<Vec<_>>().join(" and ")
}

fn read(path: &Path) -> Result<String, CliError> {
    let failed = |source: std::io::Error| CliError::FleetFile {
        action: "read",
        path: path.display().to_string(),
        source: source.into(),
    };
    text_of(path, "split the fleet", failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It fits a terminal of 80 columns, so that it can be pasted from there.
    #[test]
    fn the_example_of_the_help_is_a_fleet_file() {
        let example = HELP.lines().skip_while(|line| !line.starts_with("  "));
        let example: Vec<&str> = example.take_while(|line| !line.is_empty()).collect();
        let wide = example.iter().find(|line| line.len() > 79);
        assert_eq!(wide, None);
        let fleet = Fleet::parse(&example.join("\n"));
        let names = fleet.map(|fleet| fleet.jails.len());
        assert!(matches!(names, Ok(21)), "{names:?}");
    }
}
