//! `ezz world prune`: destroys generations that nothing needs any more. It also has what `ezz world delete` shares with
//! it.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;

use crate::cli::confirm::confirm;
use crate::cli::numbers::only_in;
use crate::cli::{CliError, Context, DryRun, error};
use crate::execute::ApplyError;
use crate::model::{Half, Inventory};
use crate::name::{DatasetName, GenerationId};
use crate::plan::prune::{Kept, Reason, Request, kept, moved, prune};
use crate::plan::world::restore;
use crate::plan::{Commit, Doomed, Observed, Plan, PlanError, Step, ways};
use crate::ports::{PortError, Query, Row};
use crate::report::{Exit, Kind as Json, bytes};
use crate::session::{Around, Scope, Session, SessionError};
use crate::text::first_few;

/// Destroy generations that no track or jail uses
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz world prune --dry-run\n  ezz world prune --older 30 --yes\n\nA generation that no track has been swapped to yet stays, unless you name it or --older covers it. Bases and skeletons are destroyed separately: a jail keeps the skeleton that it was made from, some megabytes, but not the base of that time. ezz prints the reason why each one stays. Snapshots that ezz did not create keep a generation, unless you give --foreign-snapshots.\n\nJSON: a `prune-result` for each generation, then `freed`"
)]
pub struct Prune {
    /// Generations to destroy, even if no track has been swapped to them yet: number, LABEL.N or label
    #[arg(value_name = "GENERATION")]
    generations: Vec<String>,
    /// Days since their seal after which generations that no track has been swapped to are destroyed, too
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(..=36_500))]
    older: Option<u32>,
    /// Number of the newest generations to keep in any case
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep: usize,
    #[command(flatten)]
    how: How,
}

/// The options that `world prune` and `world delete` share.
#[derive(Debug, Args)]
pub(super) struct How {
    /// Also destroy snapshots that ezz did not create; without this they keep their dataset
    #[arg(long)]
    pub(super) foreign_snapshots: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    pub(super) dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Line {
    generation: GenerationId,
    base: &'static str,
    skeleton: &'static str,
    base_kept_by: Vec<String>,
    skeleton_kept_by: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Freed {
    freed: u64,
}

impl Prune {
    pub(super) fn dry_run(&self) -> DryRun {
        self.how.dry_run
    }

    pub(super) fn run(&self, context: &Context<'_>, session: &Session) -> Result<Exit, CliError> {
        let ask = Ask {
            newest: self.keep,
            named: named(session, &self.generations)?,
            older: self.older.map(|days| context.machine.days_ago(days)),
            foreign: self.how.foreign_snapshots,
            asked: None,
        };
        let plan = |observed: &Observed, request: &Request| prune(observed, request);
        take(context, session, "world prune", &self.how, ask, &plan)
    }
}

/// Returns the generations that words name.
fn named(session: &Session, words: &[String]) -> Result<BTreeSet<GenerationId>, CliError> {
    if words.is_empty() {
        return Ok(BTreeSet::new());
    }
    let inventory = session.inventory(&Scope::none())?;
    words.iter().map(|word| id(&inventory, word)).collect()
}

/// Returns the generation that a word names, also one whose base was pruned.
pub(super) fn id(inventory: &Inventory, word: &str) -> Result<GenerationId, CliError> {
    let there = |id: &GenerationId| inventory.generations.contains_key(id);
    match GenerationId::from_component(word).filter(there) {
        Some(id) => Ok(id),
        None => Ok(inventory.find_generation(word)?.id),
    }
}

/// What to destroy, as given on the command line.
#[derive(Debug, Clone, Default)]
pub(super) struct Ask {
    /// The number of newest generations to keep.
    pub(super) newest: usize,
    /// The generations that were named.
    pub(super) named: BTreeSet<GenerationId>,
    /// A generation that was sealed up to this time is destroyed although no track has been at it.
    pub(super) older: Option<String>,
    /// Whether snapshots that ezz did not create are destroyed with their dataset.
    pub(super) foreign: bool,
    /// The generations that the confirmation question named.
    pub(super) asked: Option<BTreeSet<GenerationId>>,
}

/// Asks for confirmation, carries out a plan, and reports what happened to each generation.
pub(super) fn take(
    context: &Context<'_>,
    session: &Session,
    verb: &'static str,
    how: &How,
    mut ask: Ask,
    plan: &dyn Fn(&Observed, &Request) -> Result<Plan, PlanError>,
) -> Result<Exit, CliError> {
    let scope = Scope::all();
    if !session.dry_run && !how.yes {
        // A refusal comes before the question. The question names what is destroyed, and nothing else is.
        let observed = session.observe(&scope)?;
        let plan = plan(&observed, &ask.request(session, &observed)?)?;
        let (about, asked) = shown(&observed.inventory, &plan);
        if !about.is_empty() {
            confirm(context, session.site.as_str(), &about, "Destroy for good?")?;
            ask.asked = Some(asked);
        }
    }
    let before = used(session)?;
    let plan = |observed: &Observed| {
        let request = ask.request(session, observed).map_err(ApplyError::from)?;
        let why = kept(observed, &request);
        let generations = observed.inventory.generations.clone();
        let planned = plan(observed, &request)?;
        let inventory = &observed.inventory;
        let go: BTreeSet<&str> = halves(&planned).map(DatasetName::as_str).collect();
        let goes = |half: &Half| go.contains(half.dataset.as_str());
        let bases = inventory.generations.values();
        let bases = bases.filter(|it| it.base.as_ref().is_some_and(goes));
        let bases = bases.map(|it| it.id).collect();
        let accounts = only_in(context, session, inventory, &bases);
        let planned = match accounts.is_empty() {
            true => planned,
            false => plan(
                observed,
                &Request {
                    accounts,
                    ..request
                },
            )?,
        };
        Ok((planned, (why, generations)))
    };
    let (outcome, exit, (why, generations)) = context
        .transact_around(session, verb, &scope, plan, &Around::nothing())
        .map_err(|first| undo(session, first))?;
    let pruned: BTreeSet<String> = halves(&outcome.plan).map(ToString::to_string).collect();
    if session.dry_run && context.report.json {
        return Ok(exit);
    }
    for generation in generations.values() {
        let none = Kept::default();
        let kept = why.get(&generation.id).unwrap_or(&none);
        let named = |reasons: &BTreeSet<Reason>| reasons.contains(&Reason::NotNamed);
        if named(&kept.base) || named(&kept.skeleton) {
            continue;
        }
        let fate = |half: &Option<Half>| match half {
            None => "gone",
            Some(half) if pruned.contains(half.dataset.as_str()) => "pruned",
            Some(_) => "kept",
        };
        let line = Line {
            generation: generation.id,
            base: fate(&generation.base),
            skeleton: fate(&generation.skeleton),
            base_kept_by: words(&kept.base),
            skeleton_kept_by: words(&kept.skeleton),
        };
        context.report.line(format!(
            "{}: base {}, skeleton {}",
            generation.display(),
            told(line.base, &line.base_kept_by),
            told(line.skeleton, &line.skeleton_kept_by),
        ));
        let pruned = [line.base, line.skeleton].contains(&"pruned");
        context.report.result(Json::PruneResult, pruned, &line);
    }
    if !session.dry_run {
        let freed = before.saturating_sub(used(session)?);
        context
            .report
            .result(Json::Freed, !pruned.is_empty(), &Freed { freed });
        context.report.line(format!("freed: {}", bytes(freed)));
    }
    Ok(exit)
}

/// Returns the halves that a plan destroys.
fn halves(plan: &Plan) -> impl Iterator<Item = &DatasetName> {
    plan.steps.iter().filter_map(|step| match step {
        Step::Commit {
            commit: Commit::Prune { dataset, .. },
            ..
        } => Some(dataset),
        _ => None,
    })
}

/// Lists what a plan destroys, one line each, and returns the generations.
fn shown(inventory: &Inventory, plan: &Plan) -> (String, BTreeSet<GenerationId>) {
    let halves: BTreeSet<&str> = halves(plan).map(DatasetName::as_str).collect();
    let (mut text, mut asked) = (String::new(), BTreeSet::new());
    for generation in inventory.generations.values() {
        let goes = |half: &Option<Half>| {
            let half = half.as_ref();
            half.is_some_and(|half| halves.contains(half.dataset.as_str()))
        };
        let what = match (goes(&generation.base), goes(&generation.skeleton)) {
            (true, true) => "base and skeleton",
            (true, false) => "base",
            (false, true) => "skeleton",
            (false, false) => continue,
        };
        text += &format!("  destroy {what} of {}\n", generation.display());
        asked.insert(generation.id);
    }
    for step in &plan.steps {
        if let Step::Commit {
            commit: Commit::Destroy { doomed, .. },
            ..
        } = step
        {
            for doomed in doomed {
                text += &format!("  destroy {}\n", doomed.name);
            }
        }
    }
    (text, asked)
}

impl Ask {
    fn request(&self, session: &Session, observed: &Observed) -> Result<Request, PortError> {
        let mut request = Request {
            newest: self.newest,
            named: self.named.clone(),
            older: self.older.clone(),
            asked: self.asked.clone(),
            cloned: cloned(session, &observed.inventory)?,
            of_merges: of_merges(session, &observed.inventory)?,
            foreign: BTreeMap::new(),
            accounts: BTreeMap::new(),
            doomed: self.foreign.then(Vec::new),
        };
        let found = foreign(session, observed, &kept(observed, &request))?;
        for (id, snapshot) in found {
            let names = request.foreign.entry(id).or_default();
            names.push(snapshot.name.clone());
            request
                .doomed
                .iter_mut()
                .for_each(|all| all.push(snapshot.clone()));
        }
        Ok(request)
    }
}

/// Returns the snapshots that ezz created of jails for merges, except those that have a hold or a clone.
fn of_merges(session: &Session, inventory: &Inventory) -> Result<Vec<Doomed>, PortError> {
    let rows = session.zfs.read(&Query {
        roots: &[inventory.site.layout.jails.to_string()],
        depth: Some(2),
        types: &["snapshot"],
        properties: &["guid", "userrefs", "clones"],
    })?;
    let own = |(name, row): (String, Row)| {
        let value = |property: &str| row.0.get(property).map_or("", |found| &found.value);
        let free =
            matches!(value("userrefs"), "0" | "-" | "") && matches!(value("clones"), "-" | "");
        let guid = value("guid").parse().ok()?;
        (free && ways::is_of_merge(&name)).then_some(Doomed { name, guid })
    };
    Ok(rows.into_iter().filter_map(own).collect())
}

/// Returns the snapshots that ezz did not create, of halves that could be destroyed. Other skeletons are not read: that
/// takes seconds if there are thousands of clones.
fn foreign(
    session: &Session,
    observed: &Observed,
    kept: &BTreeMap<GenerationId, Kept>,
) -> Result<Vec<(GenerationId, Doomed)>, PortError> {
    let none = Kept::default();
    let mut candidates: BTreeMap<String, GenerationId> = BTreeMap::new();
    for generation in observed.inventory.generations.values() {
        let kept = kept.get(&generation.id).unwrap_or(&none);
        let halves = [
            (&generation.base, &kept.base),
            (&generation.skeleton, &kept.skeleton),
        ];
        for (half, reasons) in halves {
            if let Some(half) = half.as_ref().filter(|_| reasons.is_empty()) {
                candidates.insert(half.dataset.to_string(), generation.id);
            }
        }
    }
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session.zfs.read(&Query {
        roots: &candidates.keys().cloned().collect::<Vec<_>>(),
        depth: Some(1),
        types: &["snapshot"],
        properties: &["guid"],
    })?;
    let other = |(name, row): (String, Row)| {
        let (dataset, snapshot) = name.split_once('@')?;
        let id = *candidates.get(dataset)?;
        // A promotion moves the snapshots of other generations to this dataset.
        if GenerationId::from_component(snapshot).is_some() {
            return None;
        }
        let guid = row.0.get("guid")?.value.parse().ok()?;
        Some((id, Doomed { name, guid }))
    };
    Ok(rows.into_iter().filter_map(other).collect())
}

/// Returns those snapshots moved by promotions that have clones.
fn cloned(session: &Session, inventory: &Inventory) -> Result<BTreeSet<String>, PortError> {
    let roots: Vec<String> = moved(inventory)
        .into_iter()
        .map(|moved| moved.name)
        .collect();
    if roots.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = session.zfs.read(&Query {
        roots: &roots,
        depth: Some(0),
        types: &["snapshot"],
        properties: &["clones", "guid"],
    })?;
    // The remains of a base that a killed prune left are destroyed before it.
    let goes = |clone: &str| {
        let mut bases = inventory
            .generations
            .values()
            .filter_map(|g| g.base.as_ref());
        bases.any(|half| half.half_gone() && half.dataset.as_str() == clone)
    };
    let has = |row: &Row| {
        let clones = row.0.get("clones").map_or("", |clones| &clones.value);
        let mut clones = clones
            .split(',')
            .filter(|clone| !clone.is_empty() && *clone != "-");
        clones.any(|clone| !goes(clone))
    };
    let rows = rows.into_iter().filter(|(_, row)| has(row));
    Ok(rows.map(|(name, _)| name).collect())
}

fn words(reasons: &BTreeSet<Reason>) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}

/// Describes what happened to a half, and the first few reasons that keep it.
fn told(fate: &str, reasons: &[String]) -> String {
    if fate != "kept" || reasons.is_empty() {
        return fate.to_owned();
    }
    format!("{fate} ({})", first_few(reasons, 3, "; "))
}

/// Returns the bytes that the site uses. The difference is what was freed, not an estimate.
fn used(session: &Session) -> Result<u64, CliError> {
    let site = session.site.to_string();
    let rows = session.zfs.read(&Query {
        roots: std::slice::from_ref(&site),
        depth: Some(0),
        types: &["filesystem"],
        properties: &["used"],
    })?;
    let used = rows.get(&site).and_then(|row| row.0.get("used"));
    Ok(used.and_then(|used| used.value.parse().ok()).unwrap_or(0))
}

/// Restores the holds and mounts that a failed prune had released; if that fails, too, the error has both causes.
fn undo(session: &Session, first: CliError) -> CliError {
    let begun = matches!(
        first,
        CliError::Session(SessionError::Apply(_) | SessionError::Interrupted { changed: true, .. })
    );
    if session.dry_run || !begun {
        return first;
    }
    match session.transact(&Scope::all().steadfast(), |observed| Ok(restore(observed))) {
        Ok(_) => first,
        Err(undo) => CliError::Undo {
            first: Box::new(first),
            undo: error::one_line(&undo),
        },
    }
}
