//! `ezz start`, `ezz stop`, `ezz restart`.

use std::collections::BTreeSet;

use clap::Args;

use super::merging::{Differences, clear_left};
use super::restart_marks::RestartMarks;
use super::select::Jails;
use super::upgrade::{Brought, after, bring_all, foresee, up};
use super::{CliError, Context, DryRun, JailReporter, preflight, record};
use crate::name::JailName;
use crate::plan::due::{Due, Way, way};
use crate::plan::{JailStep, Observed, Plan, PlanError, lookup, order, power, writable};
use crate::report::Exit;
use crate::session::{Around, Scope, Session};

/// Which jails.
#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    jails: Jails,
    /// All jails of the site
    #[arg(long, conflicts_with_all = ["names", "names_from", "labels"])]
    all: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

/// How long a stop may take.
#[derive(Debug, Default, Args)]
struct Time {
    /// Seconds before ezz kills the processes that are left, 0 for at once
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=LONGEST))]
    timeout: Option<u32>,
}

/// The longest time that a stop may take: a day.
const LONGEST: i64 = 86_400;

/// Start jails, each on the generation that is due
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz start www\n\nezz first brings a thin jail to the generation of its track: it merges the jail's own files as `ezz merge` does. A jail with conflicts, or with an obstacle to the merge such as a full quota, is pinned to its generation and starts on that. If a merge fails nevertheless, ezz undoes it, and the next start tries again. The exit code is then 3. `ezz list` marks it, and ezz removes the pin when the track has another generation. A jail that is already running is left as it is.\n\nezz warns on standard error about conflicts with the host, such as an address that no interface has. Warnings never block.\n\nA jail starts after those of the named jails that it depends on. Jails that do not depend on each other start at once, up to --jobs of them.\n\nJSON: a `jail-result` for each jail, and before it a `merge` if its files were merged"
)]
pub struct Start {
    #[command(flatten)]
    which: Which,
}

/// Stop jails: shut them down, then kill what is left
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz stop www\n  ezz stop www --timeout 5\n  ezz stop --all\n\nIf the world of a jail has an init, that shuts the jail down. In any other jail every process gets SIGTERM. ezz kills the processes that exceed the time limit, and names them on standard error and in the log: on Linux after 30 seconds, or 100 with an init; on FreeBSD 30 seconds after /etc/rc.shutdown, unless the jail has another stop.timeout. --timeout sets another limit for this stop.\n\nIf a start of the jail has been running for 10 seconds, ezz ends it first.\n\nA jail stops after those of the named jails that depend on it; the others shut down at the same time.\n\nJSON: a `jail-result` for each jail"
)]
pub struct Stop {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    time: Time,
}

/// Stop jails and start them again
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz restart www\n\nWhile a thin jail is stopped, ezz brings it to the generation of its track, as `ezz start` does. ezz checks whether its own files can be merged before it stops the jail.\n\nA jail that another one of them depends on is stopped after that one and started before it. Jails that do not depend on each other restart independently, up to --jobs at once.\n\nJSON: a `jail-result` for each jail, and before it a `merge` if its files were merged"
)]
pub struct Restart {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    time: Time,
}

impl Start {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        self.which.run(context, Verb::Start, &Time::default())
    }
}

impl Stop {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        self.which.run(context, Verb::Stop, &self.time)
    }
}

impl Restart {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        self.which.run(context, Verb::Restart, &self.time)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Start,
    Stop,
    Restart,
}

impl Verb {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Verb::Start => ("start", "started"),
            Verb::Stop => ("stop", "stopped"),
            Verb::Restart => ("restart", "restarted"),
        }
    }

    /// The jails that it starts. This was observed without their locks, so a jail that does not exist, or that another
    /// command is creating, is left out: the plan that is made under the locks decides.
    fn moves(self, observed: &Observed, names: &[JailName]) -> Vec<JailName> {
        let exists = |name: &&JailName| lookup::config(&observed.inventory, name).is_ok();
        let started = |name: &&JailName| match self {
            Verb::Start => !up(observed, name),
            Verb::Stop => false,
            Verb::Restart => true,
        };
        let names = names.iter().filter(exists);
        names.filter(started).cloned().collect()
    }

    fn plan(self, observed: &Observed, names: &[JailName]) -> Result<Plan, PlanError> {
        match self {
            Verb::Start => power::start(observed, names),
            Verb::Stop => power::stop(observed, names),
            Verb::Restart => power::restart(observed, names),
        }
    }
}

impl Which {
    fn run(self, context: &Context<'_>, verb: Verb, time: &Time) -> Result<Exit, CliError> {
        if !self.all {
            self.jails.some("--label or --all")?;
        }
        let selected = self.jails.parse()?;
        let session = context.session(self.dry_run)?;
        if verb != Verb::Stop {
            clear_left(context, &session)?;
        }
        let mut names = selected.of(&session)?;
        let mut seen_all = None;
        if self.all {
            let observed = session.observe(&Scope::all())?;
            names = all(context, &observed, verb);
            seen_all = Some(observed);
        }
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        let work = Work {
            context,
            session: &session,
            verb,
            timeout: time.timeout,
            told: JailReporter::new(&context.report, &session),
            differences: Differences::new(context, &session),
        };
        match verb {
            Verb::Stop => work.of(&names, &[]),
            Verb::Start | Verb::Restart if session.dry_run => {
                let observed = session.observe(&Scope::of(names.iter().cloned()))?;
                let moves: Vec<JailName> = verb.moves(&observed, &names);
                let (merged, _) = foresee(context, &observed, &moves, &work.differences)?;
                work.of(&names, &merged)
            }
            Verb::Start | Verb::Restart => {
                let observed = match seen_all {
                    Some(observed) => observed,
                    None => session.observe(&Scope::of(names.iter().cloned()))?,
                };
                match verb {
                    Verb::Restart => work.restart(&observed, &names),
                    Verb::Start | Verb::Stop => work.start(&observed, names),
                }
            }
        }
    }
}

/// A verb at work on a site.
struct Work<'a> {
    context: &'a Context<'a>,
    session: &'a Session,
    verb: Verb,
    /// Seconds that a jail has to end, if the user has set them.
    timeout: Option<u32>,
    told: JailReporter<'a>,
    differences: Differences<'a>,
}

impl Work<'_> {
    /// Brings on what has to be, then starts all in their order.
    fn start(&self, observed: &Observed, mut names: Vec<JailName>) -> Result<Exit, CliError> {
        let (context, session) = (self.context, self.session);
        let moves = self.verb.moves(observed, &names);
        let mut brought = Brought::default();
        bring_all(
            context,
            session,
            observed,
            &moves,
            &self.differences,
            &mut brought,
        )?;
        names.retain(|name| !brought.failed.contains(name));
        Ok(brought.exit(self.of(&names, &[])?, names.len()))
    }

    /// Restarts those that need no merge by one plan, up to the next that does. Before it those are stopped that depend
    /// on it.
    fn restart(&self, observed: &Observed, names: &[JailName]) -> Result<Exit, CliError> {
        let (context, session) = (self.context, self.session);
        writable(&observed.inventory)?;
        let config = |name: &JailName| lookup::config(&observed.inventory, name).ok();
        let (mut brought, mut exits, mut rest) = (Brought::default(), Vec::new(), Vec::new());
        let mut done = 0;
        for group in order::groups(names, config) {
            let mut merged = false;
            for name in &group {
                // A jail that another command is creating is left to the plan that is made under the locks.
                let exists = config(name).is_some();
                let rolled_back = exists && record::check(observed, name).is_err();
                merged |= rolled_back || matches!(way(observed, name), Ok(Way::Files(_)));
            }
            if merged {
                if !rest.is_empty() {
                    exits.push(self.of(&rest, &[])?);
                    done += rest.len();
                    rest.clear();
                }
                bring_all(
                    context,
                    session,
                    observed,
                    &group,
                    &self.differences,
                    &mut brought,
                )?;
            }
            let failed = |name: &JailName| brought.failed.contains(name);
            rest.extend(group.into_iter().filter(|name| !failed(name)));
        }
        if !rest.is_empty() || names.is_empty() {
            exits.push(self.of(&rest, &[])?);
            done += rest.len();
        }
        let exit = match exits.as_slice() {
            all if all.iter().all(|exit| *exit == Exit::Done) => Exit::Done,
            all if all.iter().all(|exit| *exit == Exit::Failed) => Exit::Failed,
            _ => Exit::Partly,
        };
        Ok(brought.exit(exit, done))
    }

    /// Makes and applies the plan of the verb; a dry run plans as if these had been merged.
    fn of(&self, names: &[JailName], merged: &[Due]) -> Result<Exit, CliError> {
        let Work {
            context,
            session,
            verb,
            told,
            ..
        } = self;
        let (verb, (word, did)) = (*verb, verb.words());
        let mut scope = Scope::of(names.iter().cloned());
        scope.ends_starts = verb == Verb::Stop;
        let moving = RestartMarks::of(context, session);
        let asked: BTreeSet<&JailName> = names.iter().collect();
        let plan = |observed: &Observed| {
            let mut plan = match merged {
                [] => verb.plan(observed, names)?,
                merged => verb.plan(&after(observed, merged), names)?,
            };
            plan.stop_within(self.timeout);
            // A stop of what does not run clears away what its run has left.
            let moves = plan.lane_steps().filter(|(jail, step)| match step {
                JailStep::Start { .. } => true,
                JailStep::Stop { .. } => observed.state(jail).running(),
                _ => false,
            });
            let moves: BTreeSet<JailName> = moves.map(|(jail, _)| jail.clone()).collect();
            Ok((plan, moves))
        };
        let before = |observed: &Observed, plan: &mut Plan, _: &BTreeSet<JailName>| {
            if !session.dry_run {
                let stays = |name: &&JailName| match verb {
                    Verb::Start => observed.state(name).running(),
                    Verb::Stop => true,
                    Verb::Restart => false,
                };
                let stay = names.iter().filter(stays);
                stay.for_each(|name| moving.forget(context, name));
            }
            preflight::warn(session, observed, plan);
        };
        let done = |jail: &JailName, moves: &BTreeSet<JailName>| {
            // Who has started or stopped it has said what it is to be.
            moving.forget(context, jail);
            if asked.contains(jail) && moves.contains(jail) {
                told.say(jail, did);
            }
        };
        let around = Around {
            before: &before,
            done: &done,
        };
        let (outcome, exit, _) = context.transact_around(session, word, &scope, plan, &around)?;
        if session.dry_run {
            return Ok(exit);
        }
        let failed = outcome.applied.failed.iter().map(|(name, _)| name);
        let failed: BTreeSet<&JailName> = failed.collect();
        for jail in names.iter().filter(|jail| !failed.contains(jail)) {
            told.already(jail);
        }
        Ok(exit)
    }
}

/// All jails that a verb is about; of those that are kept from starting, only such as run.
fn all(context: &Context<'_>, observed: &Observed, verb: Verb) -> Vec<JailName> {
    let (mut names, mut off) = (Vec::new(), 0);
    for (name, jail) in &observed.inventory.jails {
        let Ok(config) = &jail.config else { continue };
        if verb == Verb::Stop || config.boot || observed.state(name).running() {
            names.push(name.clone());
        } else {
            off += 1;
        }
    }
    if off > 0 {
        let (verb, _) = verb.words();
        context.report.note(format!(
            "skipped: {off} with boot off (`ezz list -o name,boot` shows them, and `ezz {verb} NAME` starts one)"
        ));
    }
    names
}
