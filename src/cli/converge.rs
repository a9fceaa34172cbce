//! `ezz converge`: running jails get the basejail that they are due to have.
//!
//! Batch after batch: each is restarted and asked whether it is well before the next begins, so that
//! what fails, fails few.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;

use super::error::Restarted;
use super::jail_reporter::done;
use super::merging::{Differences, clear_left};
use super::restart_marks::RestartMarks;
use super::select::Jails;
use super::upgrade::{Unmergeable, Way, after, bring, foresee, take_down};
use super::vouch::Asks;
use super::{CliError, Context, DryRun};
use crate::model::{Jail, JailState, Kind};
use crate::name::{JailName, TrackName};
use crate::plan::Observed;
use crate::plan::behind::behind;
use crate::plan::converge::{converge, needs_merge};
use crate::plan::{lookup, order};
use crate::report::Exit;
use crate::session::{Outcome, Scope, Session};
use crate::text::first_few;

/// Restart jails that do not run the generation of their track: the named ones, or all
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz converge\n  ezz converge web01 web02 --batch 1 --health 'curl -fs localhost'\n\nThe first batch that fails ends the command; ezz leaves the remaining jails as they are. The jails of a batch restart at once, up to --jobs of them; one that another depends on is stopped after it and started before it.\n\nIf the skeletons of the two generations differ, ezz merges the jail's own files while the jail is stopped, as `ezz merge` does. A jail with conflicts, or with an obstacle to the merge such as a full quota, is pinned to its generation until its track has another one. If a merge fails nevertheless, ezz undoes it, and the next start tries again. The exit code is then 3.\n\nJSON: a `jail-result` for each jail, and before it a `merge` if its files were merged"
)]
pub struct Converge {
    #[command(flatten)]
    jails: Jails,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    dry_run: DryRun,
}

/// How jails are restarted.
#[derive(Debug, Clone, Args)]
pub(super) struct Pace {
    /// Number of jails to restart before their health is checked
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) batch: u32,
    /// Seconds to pause between batches
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(super) pause: u64,
    /// Shell command that checks the health of each restarted jail; exit status 0 means healthy, and
    /// ezz repeats it until then or until --health-limit
    #[arg(long, value_name = "COMMAND")]
    pub(super) health: Option<String>,
    /// Seconds within which a jail must be healthy
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
    /// They are pinned to what they had, as their own files cannot be merged.
    pub(super) stayed: Vec<JailName>,
    /// They were not touched.
    pub(super) left: Vec<JailName>,
    /// How many of all were restarted.
    pub(super) restarted: usize,
}

/// Why a jail failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It does not stop, or start, or is not well on what it should run.
    Unwell(String),
    /// Its own files could not be merged: not the generation's fault.
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
        let selected = self.jails.parse()?;
        let session = context.session(self.dry_run)?;
        clear_left(context, &session)?;
        let mut wanted = selected.of(&session)?;
        let (thick, held);
        if self.jails.is_empty() {
            let late = late(context, &session, None)?;
            (wanted, thick, held) = (late.jails, late.thick, late.held);
            match (wanted.is_empty(), held.is_empty()) {
                (false, _) => {}
                (true, true) => context.report.note("all running thin jails are up to date"),
                (true, false) => context
                    .report
                    .note("all other running thin jails are up to date"),
            }
        } else {
            let observed = session.observe(&Scope::of(wanted.iter().cloned()))?;
            let all = || observed.inventory.jails.values();
            thick = all().filter(|jail| is_thick(jail)).map(named).collect();
            held = all().filter_map(|jail| is_held(&observed, jail)).collect();
        }
        unreached(context, &thick);
        for held in &held {
            context.report.warning(held);
        }
        if session.dry_run {
            return planned(context, &session, wanted);
        }
        let moved = batches(context, &session, &wanted, &self.pace, Unmergeable::Stays)?;
        Ok(moved.exit())
    }
}

fn is_thick(jail: &Jail) -> bool {
    let config = jail.config.as_ref();
    config.is_ok_and(|config| config.kind == Kind::Thick)
}

/// That a conflict holds a running jail, and the way out.
fn is_held(observed: &Observed, jail: &Jail) -> Option<String> {
    runs(observed, &jail.name)
        .then(|| lookup::held(&observed.inventory, &jail.name))
        .flatten()
}

fn named(jail: &Jail) -> JailName {
    jail.name.clone()
}

/// Reports thick jails, which no converge reaches.
fn unreached(context: &Context<'_>, thick: &[JailName]) {
    if !thick.is_empty() {
        context.report.note(format!(
            "{}: a thick jail has its own copy of the base; updates do not affect it",
            first_few(thick, 5, ", ")
        ));
    }
}

/// Running jails that a swap concerns.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Those that are behind, or that a restart has left down.
    pub(super) jails: Vec<JailName>,
    /// Thick ones, which have bases of their own.
    pub(super) thick: Vec<JailName>,
    /// What is to be said of those that a conflict holds.
    pub(super) held: Vec<String>,
}

impl Late {
    /// Reports how many thick jails a swap leaves alone.
    pub(super) fn note_thick(&self, context: &Context<'_>) {
        match self.thick.len() {
            0 => {}
            1 => context
                .report
                .note("1 running thick jail has its own base; updates do not affect it"),
            many => context.report.note(format!(
                "{many} running thick jails have their own bases; updates do not affect them"
            )),
        }
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
    let down = RestartMarks::of(context, session).names()?;
    let mut moves = Vec::new();
    for name in &wanted {
        if needs_merge(&observed, name, &down)?.is_some() {
            moves.push(name.clone());
        }
    }
    let differences = Differences::new(context, session);
    let (merged, stays) = foresee(context, &observed, &moves, &differences)?;
    wanted.retain(|name| !stays.contains(name));
    let plan = |observed: &Observed| Ok(converge(&after(observed, &merged), &wanted, &down)?);
    Ok(context.transact(session, "converge", &scope, plan)?.1)
}

/// All jails of the site that are behind, or that a restart has left down, and thick ones that run; or those of
/// them that follow a track, or were made from it.
pub(super) fn late(
    context: &Context<'_>,
    session: &Session,
    track: Option<&TrackName>,
) -> Result<Late, CliError> {
    // Only those that run, or were to: a site may have thousands that do not.
    let moving = RestartMarks::of(context, session);
    let down = moving.names()?;
    let states = session.states()?.into_iter();
    let up = states.filter(|(_, state)| matches!(state, JailState::Running { .. }));
    let candidates: BTreeSet<JailName> = up
        .map(|(name, _)| name)
        .chain(down.iter().cloned())
        .collect();
    if candidates.is_empty() {
        return Ok(Late::default());
    }
    let observed = session.observe(&Scope::of(candidates))?;
    let gone = down
        .iter()
        .filter(|name| !observed.inventory.jails.contains_key(*name));
    if !session.dry_run {
        gone.for_each(|name| moving.forget(context, name));
    }
    let follows = |jail: &Jail| match (track, &jail.config) {
        (None, _) => true,
        (Some(track), Ok(config)) => config.follows() == Some(track),
        (Some(_), Err(_)) => false,
    };
    // A running jail has a mark if a signal ended the wait for its health command.
    let marked = |jail: &Jail| down.contains(&jail.name) && jail.config.is_ok();
    let jails = || {
        let jails = observed.inventory.jails.values();
        jails.filter(|jail| follows(jail))
    };
    let late = |jail: &&Jail| behind(&observed, jail).is_some() || marked(jail);
    let thick = |jail: &&Jail| is_thick(jail) && runs(&observed, &jail.name);
    Ok(Late {
        jails: jails().filter(late).map(named).collect(),
        thick: jails().filter(thick).map(named).collect(),
        held: jails()
            .filter_map(|jail| is_held(&observed, jail))
            .collect(),
    })
}

/// Restarts those of the jails that are behind, and says what came of each. Ends after the first
/// batch that fails. Their own files are merged while they are down, where that is needed.
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
    let differences = Differences::new(context, session);
    let jails = in_order(session, jails)?;
    let mut batches = jails.chunks(pace.batch as usize).peekable();
    let mut interrupted = None;
    while let Some(batch) = batches.next() {
        if context.machine.cancel().check().is_err() {
            moved.left.extend(batch.iter().cloned());
            interrupted = Some(CliError::Interrupted);
            break;
        }
        match one(
            context,
            session,
            batch,
            pace,
            (unmergeable, &differences),
            &mut moved,
        ) {
            Err(error) if error.interrupted() => {
                interrupted = Some(error);
                break;
            }
            other => other?,
        }
        if !moved.failed.is_empty() {
            break;
        }
        if batches.peek().is_some() {
            // The check before the next batch sees the signal.
            let _ = context.pause(Duration::from_secs(pace.pause));
        }
    }
    moved.left.extend(batches.flatten().cloned());
    did(context, session, &moved.left, "left");
    match interrupted {
        None => Ok(moved),
        Some(CliError::Interrupted) => Err(CliError::RestartsInterrupted(Restarted {
            restarted: moved.restarted,
            left: moved.left.len(),
        })),
        Some(error) => Err(error),
    }
}

/// The jails in the order of their starts: what others depend on is in no later batch than they are.
fn in_order(session: &Session, jails: &[JailName]) -> Result<Vec<JailName>, CliError> {
    if jails.len() < 2 {
        return Ok(jails.to_vec());
    }
    let inventory = session.inventory(&Scope::of(jails.iter().cloned()))?;
    let config = |name: &JailName| lookup::config(&inventory, name).ok();
    Ok(order::start_order(jails, config))
}

/// The result of the merges of a batch.
#[derive(Default)]
struct Brought {
    /// Jails to restart.
    rest: Vec<JailName>,
    /// Those of them that keep their old basejail.
    stayed: BTreeSet<JailName>,
    /// Whether one of them may be down.
    down: bool,
    /// Set if a signal came, or an error that concerns more than one jail; the remaining jails of the batch
    /// are then in no other field.
    ended: Option<CliError>,
}

/// Restarts a batch. A signal ends every wait in it, except that jails which are down for a merge start first.
///
/// # Errors
/// [`CliError`]: what concerns more than single jails; interrupted.
fn one(
    context: &Context<'_>,
    session: &Session,
    batch: &[JailName],
    pace: &Pace,
    (unmergeable, differences): (Unmergeable, &Differences<'_>),
    moved: &mut Moved,
) -> Result<(), CliError> {
    let before = session.observe(&Scope::of(batch.iter().cloned()))?;
    let moving = RestartMarks::of(context, session);
    let marked = moving.names()?;
    for jail in batch.iter().filter(|jail| runs(&before, jail)) {
        moving.add(jail)?;
    }
    let down = moving.names()?;
    let mut brought = Brought::default();
    let mut merged = BTreeMap::new();
    for jail in batch {
        merged.extend(needs_merge(&before, jail, &down)?.map(|due| (jail.clone(), due)));
    }
    let config = |name: &JailName| lookup::config(&before.inventory, name).ok();
    let first = order::dependents(batch, &merged.keys().cloned().collect(), config);
    for jail in &order::stop_order(batch, config) {
        if first.contains(jail) && runs(&before, jail) {
            // What it depends on is stopped for a merge.
            match take_down(context, session, jail) {
                Err(error) => {
                    brought.ended = Some(error);
                    break;
                }
                Ok(Some(why)) => {
                    moved.failed.push((jail.clone(), Failure::Unwell(why)));
                    continue;
                }
                Ok(None) => brought.down = true,
            }
        }
        let way = match merged.remove(jail) {
            None => None,
            Some(due) => match bring(context, session, &before, &due, unmergeable, differences) {
                Err(error) => {
                    brought.ended = Some(error);
                    break;
                }
                Ok(way) => Some(way),
            },
        };
        match way {
            None => {}
            Some(Way::Merged) => brought.down = true,
            Some(Way::Stays) => {
                brought.down = true;
                brought.stayed.insert(jail.clone());
            }
            Some(Way::Failed(why)) => {
                moved.failed.push((jail.clone(), why));
                continue;
            }
        }
        brought.rest.push(jail.clone());
    }
    if brought.ended.is_some() && !brought.down {
        brought.rest.clear();
    }
    brought.rest = batch
        .iter()
        .filter(|jail| brought.rest.contains(jail))
        .cloned()
        .collect();
    let mut done = BTreeSet::new();
    if !brought.rest.is_empty() {
        match restart(context, session, &brought, &down) {
            Err(error) => brought.ended = Some(error),
            Ok((outcome, after)) => {
                done.extend(&brought.rest);
                let asks = Asks {
                    context,
                    session,
                    pace,
                    moving: &moving,
                    down: &down,
                    stayed: &brought.stayed,
                    outcome: &outcome,
                    after: &after,
                };
                for jail in &brought.rest {
                    let asked = asks.one(jail, moved)?;
                    if !asked && brought.ended.is_none() {
                        brought.ended = Some(CliError::Interrupted);
                    }
                }
            }
        }
    }
    let Some(ended) = brought.ended else {
        return Ok(());
    };
    done.extend(moved.failed.iter().map(|(name, _)| name));
    let left = batch.iter().filter(|jail| !done.contains(jail));
    let left: Vec<JailName> = left.cloned().collect();
    leave(context, session, &left, &marked, &moving)?;
    moved.left.extend(left);
    Err(ended)
}

fn restart(
    context: &Context<'_>,
    session: &Session,
    brought: &Brought,
    down: &BTreeSet<JailName>,
) -> Result<(Outcome, Observed), CliError> {
    let mut scope = Scope::of(brought.rest.iter().cloned());
    scope.steadfast = brought.down;
    let (outcome, _) = context.transact(session, "converge", &scope, |observed| {
        Ok(converge(observed, &brought.rest, down)?)
    })?;
    let after = session.observe(&scope)?;
    Ok((outcome, after))
}

/// Leaves jails of a batch as they are: removes the marks of those that run, and reports those that do not.
fn leave(
    context: &Context<'_>,
    session: &Session,
    jails: &[JailName],
    marked: &BTreeSet<JailName>,
    moving: &RestartMarks,
) -> Result<(), CliError> {
    let states = session.states()?;
    let marks = moving.names()?;
    for jail in jails.iter().filter(|jail| marks.contains(*jail)) {
        if !states.get(jail).is_some_and(JailState::running) {
            context.report.warning(format!(
                "{jail} is stopped; `ezz converge {jail}` finishes the move"
            ));
        } else if !marked.contains(jail) {
            moving.remove(jail)?;
        }
    }
    Ok(())
}

pub(super) fn runs(observed: &Observed, jail: &JailName) -> bool {
    matches!(observed.state(jail), JailState::Running { .. })
}

pub(super) fn did(context: &Context<'_>, session: &Session, jails: &[JailName], word: &str) {
    for jail in jails {
        let changed = word == "restarted";
        done(&context.report, session.host.as_ref(), jail, word, changed);
    }
}
