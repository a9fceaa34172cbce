//! The plan of `apply`, which brings the jails of a site to the state that a fleet file describes.
//!
//! First the difference is computed, which is also shown. Then one plan does everything: deletions, configurations and
//! new jails are one program each (new jails one for each thousand, and one for each jail that is cloned), then stops,
//! restarts and starts in their order.

mod addresses;
mod diff;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::fleet::{Fleet, Wish};
use crate::model::{Defaults, JailConfig, JailState};
use crate::name::JailName;
use crate::plan::deletion::{self, Below};
use crate::plan::due::{self, Way};
use crate::plan::steps::{From, MOST_IN_ONE, ToStart};
use crate::plan::{
    Commit, Epoch, Observed, Plan, PlanError, Step, destroy, intent, lookup, new, order, sets,
    steps,
};

pub use diff::diff;

/// The request of `apply`.
#[derive(Debug, Clone)]
pub struct Request {
    /// The fleet that the file describes.
    pub fleet: Fleet,
    /// Whether jails of the fleet that the file does not name are deleted.
    pub prune: bool,
    /// Whether running jails whose new configuration needs it are restarted.
    pub restart: bool,
    /// The defaults for limits and quota of new jails for which the file has none.
    pub defaults: Defaults,
}

impl Request {
    /// Whether the request can delete a jail.
    pub fn may_delete(&self) -> bool {
        let mut jails = self.fleet.jails.values();
        self.prune || jails.any(|jail| jail.wish == Some(Wish::Absent))
    }
}

/// An action on a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Does {
    /// The jail is created.
    Create,
    /// The jail is configured anew.
    Change,
    /// The jail is deleted.
    Delete,
    /// The jail is started.
    Start,
    /// The jail is stopped.
    Stop,
    /// The jail is stopped and started.
    Restart,
}

/// A value in a jail's configuration that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// The name of the field.
    pub field: &'static str,
    /// The old value; empty for a new jail.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// The new value.
    pub to: String,
}

/// The changes of a jail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The actions, in this order.
    pub does: Vec<Does>,
    /// The values that change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

/// A jail to create.
#[derive(Debug, Clone)]
pub struct New {
    /// The name of the jail.
    pub name: JailName,
    /// The configuration of the jail.
    pub config: JailConfig,
    /// The jail that it is a clone of.
    pub source: Option<JailName>,
}

/// What the host knows about jails besides their state, such as the remains of a killed command.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Running jails that were started with other values than their configuration has, apart from the basejail.
    pub old: BTreeSet<JailName>,
    /// Jails of which an interrupted start or stop has left something.
    pub left: BTreeSet<JailName>,
}

/// The difference between a site and a fleet file.
#[derive(Debug, Clone, Default)]
pub struct Diff {
    /// The changes of each jail that changes.
    pub changes: BTreeMap<JailName, Change>,
    /// The jails to create.
    pub new: Vec<New>,
    /// The jails among `new` that exist, but were never finished.
    pub unfinished: Vec<JailName>,
    /// The configurations before and after.
    pub configured: BTreeMap<JailName, (JailConfig, JailConfig)>,
    /// New quotas of existing jails; 0 means none.
    pub quotas: BTreeMap<JailName, u64>,
    /// Notes for the user.
    pub notes: Vec<String>,
}

impl Diff {
    /// Returns the jails for which an action is done.
    pub fn that(&self, does: Does) -> impl Iterator<Item = &JailName> {
        let changes = self.changes.iter();
        changes.filter_map(move |(name, change)| change.does.contains(&does).then_some(name))
    }
}

/// Returns the jails that are started, but whose own files have to be merged first; until that is done, the plan starts
/// no jail.
///
/// # Errors
/// [`PlanError`]: a generation that does not exist.
pub fn merged_first(observed: &Observed, diff: &Diff) -> Result<Vec<JailName>, PlanError> {
    let ways = ways(observed, diff)?.into_iter();
    let files = ways.filter(|(_, way)| matches!(way, Way::Files(_)));
    Ok(files.map(|(name, _)| name).collect())
}

/// Returns how each jail that is started is brought to the generation that is due.
fn ways(observed: &Observed, diff: &Diff) -> Result<Vec<(JailName, Way)>, PlanError> {
    let starts = diff.that(Does::Start).chain(diff.that(Does::Restart));
    let there = starts.filter_map(|name| {
        let found = observed.inventory.jails.get(name)?.config.as_ref().ok()?;
        let after = diff.configured.get(name).map(|(_, after)| after);
        let new = diff.new.iter().any(|new| new.name == *name);
        (!new).then_some((name, after.unwrap_or(found)))
    });
    there
        .map(|(name, config)| Ok((name.clone(), due::way_of(observed, name, config)?)))
        .collect()
}

/// Plans the change from the observed state to the wanted one. `below` lists what exists below the jails to delete.
///
/// # Errors
/// A [`PlanError`] of the plans of a deletion or a creation.
pub fn plan(observed: &Observed, diff: &Diff, below: Vec<Below>) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    // Jails whose own files fit another generation as they are only get a new configuration, together with the others.
    let mut noted = diff.clone();
    for (name, way) in ways(observed, diff)? {
        if let Way::Noted(after) = way {
            let found = lookup::config(inventory, &name)?.clone();
            noted.configured.insert(name, (found, *after));
        }
    }
    let diff = &noted;
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    if diff.changes.is_empty() && inventory.intents.is_empty() {
        plan.notes.clone_from(&diff.notes);
        return Ok(plan);
    }
    let request = deletion::Request {
        names: diff.that(Does::Delete).cloned().collect(),
        foreign: false,
        below,
    };
    if request.names.is_empty() {
        intent::clear(&mut plan, inventory, &mut epoch);
    } else {
        deletion::add(&mut plan, &mut epoch, observed, &request)?;
    }
    let unfinished = diff.unfinished.iter();
    let unfinished: Vec<_> = unfinished.filter_map(|n| inventory.jails.get(n)).collect();
    if !unfinished.is_empty() {
        destroy::destroy_unfinished(&mut plan, inventory, &mut epoch, &unfinished, Vec::new());
    }
    configure(&mut plan, &mut epoch, observed, diff)?;
    make(&mut plan, &mut epoch, observed, diff)?;
    move_jails(&mut plan, &mut epoch, observed, diff)?;
    let configs = configs(observed, diff);
    order::arrange(&mut plan, |name| configs.get(name).copied());
    plan.notes.extend(diff.notes.iter().cloned());
    Ok(plan)
}

/// Adds the configurations, one program for each thousand jails, and the quotas, which no program can set.
fn configure(
    plan: &mut Plan,
    epoch: &mut Epoch,
    observed: &Observed,
    diff: &Diff,
) -> Result<(), PlanError> {
    let layout = &observed.inventory.site.layout;
    let mut sets = Vec::with_capacity(diff.configured.len());
    for (name, (before, after)) in &diff.configured {
        sets.push(sets::set_jail(&layout.jail(name)?, before, after)?);
    }
    for chunk in sets.chunks(MOST_IN_ONE) {
        plan.push(Step::commit(
            &observed.inventory,
            Commit::set(epoch.take(), chunk.to_vec()),
        ));
        plan.end(diff.configured.keys());
    }
    for (name, quota) in &diff.quotas {
        plan.push(Step::Property {
            dataset: layout.jail(name)?,
            property: "quota".to_owned(),
            value: match quota {
                0 => "none".to_owned(),
                bytes => bytes.to_string(),
            },
        });
        plan.end([name]);
    }
    Ok(())
}

/// Adds the new jails: those that are made from generations together, and the clones of each jail together.
fn make(
    plan: &mut Plan,
    epoch: &mut Epoch,
    observed: &Observed,
    diff: &Diff,
) -> Result<(), PlanError> {
    let mut by_source: BTreeMap<Option<&JailName>, Vec<(JailName, JailConfig)>> = BTreeMap::new();
    for new in &diff.new {
        let jails = by_source.entry(new.source.as_ref()).or_default();
        jails.push((new.name.clone(), new.config.clone()));
    }
    let all: Vec<_> = by_source.values().flatten().cloned().collect();
    new::room(&observed.inventory, &all)?;
    for (source, jails) in by_source {
        for chunk in jails.chunks(MOST_IN_ONE) {
            new::make(plan, observed, epoch, chunk, source)?;
        }
    }
    Ok(())
}

/// The configurations that jails have after the plan.
fn configs<'a>(observed: &'a Observed, diff: &'a Diff) -> BTreeMap<&'a JailName, &'a JailConfig> {
    let found = observed.inventory.jails.iter();
    let found = found.filter_map(|(name, jail)| Some((name, jail.config.as_ref().ok()?)));
    let configured = diff.configured.iter();
    let configured = configured.map(|(name, (_, after))| (name, after));
    let new = diff.new.iter().map(|new| (&new.name, &new.config));
    found.chain(configured).chain(new).collect()
}

/// Adds derived files of what does not run, and stops, restarts and starts.
fn move_jails(
    plan: &mut Plan,
    epoch: &mut Epoch,
    observed: &Observed,
    diff: &Diff,
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let new: BTreeSet<&JailName> = diff.new.iter().map(|new| &new.name).collect();
    let configs = configs(observed, diff);
    let config = |name: &JailName| configs.get(name).copied();
    let derived = diff.configured.keys().filter(|name| {
        matches!(observed.state(name), JailState::Stopped { .. })
            && !diff.changes[*name].does.contains(&Does::Start)
    });
    // A jail that starts before others may have derived files that mention them; now the others exist.
    let depend = diff.new.iter().filter(|new| {
        !new.config.depends.is_empty() && !diff.changes[&new.name].does.contains(&Does::Start)
    });
    for name in derived.chain(depend.map(|new| &new.name)) {
        if let Some(config) = config(name) {
            steps::derive(plan, inventory, name, &steps::finished(config));
        }
    }
    let stops: Vec<JailName> = diff.that(Does::Stop).cloned().collect();
    for jail in order::stop_order(&stops, config) {
        plan.push_for(&jail, steps::stop(inventory, &jail));
    }
    let first = merged_first(observed, diff)?;
    if !first.is_empty() {
        for name in &first {
            plan.note(format!(
                "the own files of {name} are merged before it starts"
            ));
        }
        return Ok(());
    }
    let again: BTreeSet<&JailName> = diff.that(Does::Restart).collect();
    let starts: Vec<JailName> = diff
        .that(Does::Start)
        .chain(again.iter().copied())
        .cloned()
        .collect();
    let starts = order::start_order(&starts, config).into_iter();
    let starts: Vec<ToStart> = starts
        .filter_map(|name| {
            let from = match (new.contains(&name), again.contains(&name)) {
                (true, _) => From::New,
                (false, true) => From::Up,
                (false, false) => From::Down,
            };
            Some(ToStart {
                config: config(&name)?.clone(),
                name,
                from,
            })
        })
        .collect();
    steps::start(plan, epoch, observed, &starts)
}

/// Returns what is done so that a jail runs or does not run, as the file wishes.
fn movement(observed: &Observed, seen: &Seen, name: &JailName, wish: Option<Wish>) -> Option<Does> {
    let running = matches!(observed.state(name), JailState::Running { .. });
    match wish {
        Some(Wish::Running) if !running => Some(Does::Start),
        Some(Wish::Stopped) if observed.state(name).running() || seen.left.contains(name) => {
            Some(Does::Stop)
        }
        _ => None,
    }
}

impl fmt::Display for Does {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Does::Create => "create",
            Does::Change => "change",
            Does::Delete => "delete",
            Does::Start => "start",
            Does::Stop => "stop",
            Does::Restart => "restart",
        })
    }
}

impl Change {
    /// Returns a line for people: `~ web1: change, restart: hostname a > b`.
    pub fn shown(&self, name: &JailName) -> String {
        let sign = match self.does.first() {
            Some(Does::Create) => '+',
            Some(Does::Delete) => '-',
            _ => '~',
        };
        let does: Vec<String> = self.does.iter().map(ToString::to_string).collect();
        let fields = self.fields.iter().map(|field| {
            let nothing = |text: &str| {
                if text.is_empty() {
                    "none".to_owned()
                } else {
                    text.to_owned()
                }
            };
            if sign == '+' {
                format!("{} {}", field.field, nothing(&field.to))
            } else {
                format!(
                    "{} {} > {}",
                    field.field,
                    nothing(&field.from),
                    nothing(&field.to)
                )
            }
        });
        let fields: Vec<String> = fields.collect();
        let colon = if fields.is_empty() { "" } else { ": " };
        format!(
            "{sign} {name}: {}{colon}{}",
            does.join(", "),
            fields.join("; ")
        )
    }
}
