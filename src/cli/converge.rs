//! `ezz converge`: running jails get the basejail that they are due to have.
//!
//! Batch after batch: each is restarted and asked whether it is well before the next begins, so that
//! what fails, fails few.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clap::Args;

use super::merge::tell;
use super::merging::look;
use super::moving::Moving;
use super::release::{Unmergeable, Way, bring};
use super::select::Jails;
use super::{CliError, Context, Did, DryRun, JailFailure, error, hints};
use crate::apply;
use crate::model::{Base, Inventory, Jail, JailState};
use crate::name::{JailName, TrackName};
use crate::plan::converge::{behind, converge, needs_merge};
use crate::plan::{Observed, Step};
use crate::ports::HostError;
use crate::report::Exit;
use crate::session::{Scope, Session};

/// Restart jails that run an older or newer basejail than they should: those that are named, or all
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz converge\n  ezz converge web01 web02 --batch 1 --health 'curl -fs localhost'\n\nA batch that fails ends it: the jails after it go on as they are.\n\nA jail that comes to another release, not only to another patch level, has its own files merged while it is down, as `ezz merge` does it. One with conflicts stays on what it has, pinned; the exit code is 3 then.\n\nJSON: one {\"jail\", \"did\"} a jail: restarted, already, stopped, kept, or left; before it, if its files were merged, the object of `ezz merge`"
)]
pub struct Converge {
    #[command(flatten)]
    jails: Jails,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Between two tries of a health command.
const AGAIN: Duration = Duration::from_secs(1);

/// How jails are restarted.
#[derive(Debug, Clone, Args)]
pub(super) struct Pace {
    /// How many jails are restarted before it is asked whether they are well
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) batch: u32,
    /// Seconds between a batch and the next
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(super) pause: u64,
    /// A command for a shell in each restarted jail: it is well if that ends with 0; tried again
    /// until it does
    #[arg(long, value_name = "COMMAND")]
    pub(super) health: Option<String>,
    /// Seconds until a jail must be well
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) health_limit: u64,
}

/// What came of restarting jails.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// They run what they should, and are well.
    pub(super) well: Vec<JailName>,
    /// They do not, and why; the last batch.
    pub(super) failed: Vec<(JailName, Failure)>,
    /// They are pinned to what they had, as their own files cannot be merged to another release.
    pub(super) stayed: Vec<JailName>,
    /// They were not touched.
    pub(super) left: Vec<JailName>,
}

/// Why a jail failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It does not stop, or start, or is not well on what it should run.
    Unwell(String),
    /// Its own files could not be brought to another release: not the generation's fault.
    Files(String),
}

impl Failure {
    /// In words.
    pub(super) fn why(&self) -> &str {
        match self {
            Failure::Unwell(why) | Failure::Files(why) => why,
        }
    }
}

impl Moved {
    /// The exit code of a command that did this and nothing else.
    pub(super) fn exit(&self) -> Exit {
        let failed = !self.failed.is_empty();
        match (failed, self.stayed.is_empty(), self.well.is_empty()) {
            (false, true, _) => Exit::Done,
            (true, true, true) => Exit::Failed,
            _ => Exit::Partly,
        }
    }
}

impl Converge {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let session = context.session(self.dry_run)?;
        let mut wanted = self.jails.select(&session)?;
        if self.jails.is_empty() {
            wanted = late(context, &session, None)?;
            if wanted.is_empty() {
                context
                    .report
                    .note("all running jails have what they should");
            }
        }
        if session.dry_run {
            return planned(context, &session, wanted);
        }
        let moved = batches(context, &session, &wanted, &self.pace, Unmergeable::Stays)?;
        Ok(moved.exit())
    }
}

/// Prints what would be done, merges included.
fn planned(
    context: &Context<'_>,
    session: &Session,
    mut wanted: Vec<JailName>,
) -> Result<Exit, CliError> {
    let scope = Scope::of(wanted.iter().cloned());
    let observed = session.observe(&scope)?;
    let down = Moving::of(context, &session.id).names()?;
    let mut merged = Vec::new();
    for name in wanted.clone() {
        if let Some(due) = needs_merge(&observed, &name, &down)? {
            let changes = look(context, session, &observed.inventory, &due)?;
            if tell(context, true, &due, &changes) {
                context
                    .report
                    .note(format!("{name} would stay on what it has, pinned"));
                wanted.retain(|other| *other != name);
            }
            merged.push(due);
        }
    }
    let plan = |observed: &Observed| {
        let mut observed = observed.clone();
        for due in &merged {
            let jail = observed.inventory.jails.get_mut(&due.jail);
            if let Some(Ok(config)) = jail.map(|jail| &mut jail.config) {
                config.skel = due.to;
            }
        }
        Ok(converge(&observed, &wanted, &down)?)
    };
    Ok(context.transact(session, "converge", &scope, plan)?.1)
}

/// All jails of the site that are behind, or that a restart has left down; or those of them that
/// follow a track.
pub(super) fn late(
    context: &Context<'_>,
    session: &Session,
    track: Option<&TrackName>,
) -> Result<Vec<JailName>, CliError> {
    // Only those that run, or were to: a site may have thousands that do not.
    let down = Moving::of(context, &session.id).names()?;
    let states = session.host.states()?.into_iter();
    let up = states.filter(|(_, state)| matches!(state, JailState::Running { .. }));
    let candidates: BTreeSet<JailName> = up
        .map(|(name, _)| name)
        .chain(down.iter().cloned())
        .collect();
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let observed = session.observe(&Scope::of(candidates))?;
    let follows = |jail: &Jail| match (track, &jail.config) {
        (None, _) => true,
        (Some(track), Ok(config)) => config.base == Base::Track(track.clone()),
        (Some(_), Err(_)) => false,
    };
    let left_down = |jail: &Jail| {
        down.contains(&jail.name) && jail.config.is_ok() && !runs(&observed, &jail.name)
    };
    let jails = observed.inventory.jails.values();
    Ok(jails
        .filter(|jail| follows(jail))
        .filter(|jail| behind(&observed, jail).is_some() || left_down(jail))
        .map(|jail| jail.name.clone())
        .collect())
}

/// Restarts those of the jails that are behind, and says what came of each. Ends after the first
/// batch that fails. One that comes to another release has its files merged while it is down.
///
/// # Errors
/// [`CliError`]: what concerns more than single jails.
pub(super) fn batches(
    context: &Context<'_>,
    session: &Session,
    jails: &[JailName],
    pace: &Pace,
    unmergeable: Unmergeable,
) -> Result<Moved, CliError> {
    let mut moved = Moved::default();
    let mut batches = jails.chunks(pace.batch as usize).peekable();
    while let Some(batch) = batches.next() {
        if context.machine.cancel().check().is_err() {
            moved.left.extend(batch.iter().cloned());
            moved.left.extend(batches.flatten().cloned());
            did(context, &moved.left, "left");
            return Err(CliError::Interrupted);
        }
        one(context, session, batch, pace, unmergeable, &mut moved)?;
        if !moved.failed.is_empty() {
            break;
        }
        if batches.peek().is_some() {
            std::thread::sleep(Duration::from_secs(pace.pause));
        }
    }
    moved.left.extend(batches.flatten().cloned());
    did(context, &moved.left, "left");
    Ok(moved)
}

fn one(
    context: &Context<'_>,
    session: &Session,
    batch: &[JailName],
    pace: &Pace,
    unmergeable: Unmergeable,
    moved: &mut Moved,
) -> Result<(), CliError> {
    let scope = Scope::of(batch.iter().cloned());
    let before = session.observe(&scope)?;
    let moving = Moving::of(context, &session.id);
    for jail in batch.iter().filter(|jail| runs(&before, jail)) {
        moving.add(jail)?;
    }
    let down = moving.names()?;
    let mut stayed = BTreeSet::new();
    let mut unmerged = BTreeMap::new();
    for jail in batch {
        let Some(due) = needs_merge(&before, jail, &down)? else {
            continue;
        };
        match bring(context, session, &before, &due, unmergeable)? {
            Way::Merged => {}
            Way::Stays => {
                stayed.insert(jail.clone());
            }
            Way::Failed(why) => {
                unmerged.insert(jail.clone(), why);
            }
        }
    }
    let rest = batch.iter().filter(|jail| !unmerged.contains_key(*jail));
    let rest: Vec<JailName> = rest.cloned().collect();
    moved.failed.extend(unmerged);
    let (outcome, _) = context.transact(session, "converge", &scope, |observed| {
        Ok(converge(observed, &rest, &down)?)
    })?;
    let after = session.observe(&scope)?;
    let starts = |jail: &JailName| {
        let mut steps = outcome.plan.steps.iter();
        steps.any(|step| matches!(step, Step::Start { jail: name } if name == jail))
    };
    for jail in &rest {
        let broken = outcome.applied.failed.iter().find(|(name, _)| name == jail);
        let broken = broken.map(|(_, why)| error::one_line(why));
        let moved_on = || {
            let again = needs_merge(&after, jail, &down).is_ok_and(|due| due.is_some());
            again.then(|| "its track has gone on to another release meanwhile".to_owned())
        };
        if let Some(why) = broken.or_else(moved_on) {
            moved.failed.push((jail.clone(), Failure::Unwell(why)));
            continue;
        }
        moving.remove(jail)?;
        let up = runs(&after, jail);
        let word = match (starts(jail), up) {
            _ if stayed.contains(jail) => "kept",
            (true, _) => "restarted",
            (false, true) => "already",
            (false, false) => "stopped",
        };
        if up || starts(jail) {
            if let Err(why) = well(session, &after.inventory, jail, pace) {
                context.report.error(&why, &hints::hints_of(&why));
                let words = std::error::Error::source(&why).map(error::one_line);
                let why = Failure::Unwell(words.unwrap_or_default());
                moved.failed.push((jail.clone(), why));
                continue;
            }
        }
        did(context, std::slice::from_ref(jail), word);
        if stayed.contains(jail) {
            moved.stayed.push(jail.clone());
        } else {
            moved.well.push(jail.clone());
        }
    }
    Ok(())
}

fn runs(observed: &Observed, jail: &JailName) -> bool {
    matches!(observed.state(jail), JailState::Running { .. })
}

/// Asks a running jail whether it is well: by the command that was given, else by its own. One that
/// has none is well when it runs.
///
/// # Errors
/// [`CliError::Jail`] if it is not, or cannot be asked.
pub(super) fn well(
    session: &Session,
    inventory: &Inventory,
    jail: &JailName,
    pace: &Pace,
) -> Result<(), CliError> {
    let unwell = |source: &dyn std::error::Error| CliError::Jail {
        verb: "vouch for",
        jail: jail.clone(),
        source: JailFailure::from_ref(source),
    };
    let spec = apply::spec(inventory, jail).map_err(|error| unwell(&error))?;
    let Some(health) = pace.health.as_ref().or(spec.config.health.as_ref()) else {
        return Ok(());
    };
    let command = ["/bin/sh".to_owned(), "-c".to_owned(), health.clone()];
    let begun = Instant::now();
    let limit = Duration::from_secs(pace.health_limit);
    loop {
        // A service needs a moment until it answers.
        let left = limit.saturating_sub(begun.elapsed());
        match session.host.probe(&spec, &command, left.max(AGAIN)) {
            Ok(()) => return Ok(()),
            Err(HostError::Unwell { .. }) if begun.elapsed() + AGAIN < limit => {
                std::thread::sleep(AGAIN);
            }
            Err(error) => return Err(unwell(&error)),
        }
    }
}

fn did(context: &Context<'_>, jails: &[JailName], word: &str) {
    for jail in jails {
        context.report.object(&Did { jail, did: word });
        context.report.said(format!("{jail}: {word}"));
    }
}
