//! `ezz start`, `ezz stop`, `ezz restart`.

use std::cell::RefCell;
use std::collections::BTreeSet;

use clap::Args;

use super::moving::Moving;
use super::sanity::Sanity;
use super::select::Jails;
use super::{CliError, Context, DryRun, Told};
use crate::model::JailState;
use crate::name::JailName;
use crate::plan::{Observed, Plan, PlanError, Step, run};
use crate::report::Exit;
use crate::session::{Scope, Session};

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
    /// Kill what has not ended after this time, 0 for at once
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=LONGEST))]
    timeout: Option<u32>,
}

/// The longest time that a stop may take: a day.
const LONGEST: i64 = 86_400;

/// Start jails
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz start www\n\nezz warns on standard error of what they will meet on this host, such as an address that no interface has. A warning stops nothing.\n\nJSON: one {\"jail\", \"did\"} a jail"
)]
pub struct Start {
    #[command(flatten)]
    which: Which,
}

/// Stop jails: by their own shutdown, then by signals
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz stop www\n  ezz stop www --timeout 5\n  ezz stop --all\n\nA jail whose world has an init of its own is shut down by that. In any other jail every process gets SIGTERM. ezz kills what has not ended when its time is over, and names it on standard error and in the log: on Linux after 30 seconds, or 100 with an init; on FreeBSD 30 seconds after /etc/rc.shutdown, unless the jail has another stop.timeout. --timeout sets another time for this stop.\n\nA start of the jail that has been at work for 10 seconds is ended first.\n\nJSON: one {\"jail\", \"did\"} a jail; if processes were killed, also killed, a list of objects with pid and name"
)]
pub struct Stop {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    time: Time,
}

/// Stop jails and start them again, each before the next
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz restart www\n\nJSON: one {\"jail\", \"did\"} a jail; processes that were killed as for `ezz stop`"
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

    fn plan(self, observed: &Observed, names: &[JailName]) -> Result<Plan, PlanError> {
        match self {
            Verb::Start => run::start(observed, names),
            Verb::Stop => run::stop(observed, names),
            Verb::Restart => run::restart(observed, names),
        }
    }
}

impl Which {
    fn run(self, context: &Context<'_>, verb: Verb, time: &Time) -> Result<Exit, CliError> {
        let (word, did) = verb.words();
        if !self.all {
            self.jails.some("--label or --all")?;
        }
        let mut session = context.session(self.dry_run)?;
        session.stop_timeout = time.timeout;
        let mut names = match self.all {
            true => all(context, &session, verb)?,
            false => self.jails.select(&session)?,
        };
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        let mut scope = Scope::of(names.iter().cloned());
        scope.ends_starts = verb == Verb::Stop;
        let moving = Moving::of(context, &session);
        let asked: BTreeSet<&JailName> = names.iter().collect();
        let told = Told::new(&context.report, &session);
        // A stop of what does not run clears away what its run has left.
        let moved = RefCell::new(BTreeSet::new());
        let sanity = Sanity::default();
        let tell = |jail: &JailName| {
            // Who has started or stopped it has said what it is to be.
            moving.forget(context, jail);
            if asked.contains(jail) && moved.borrow().contains(jail) {
                told.say(jail, did);
            }
        };
        let (outcome, exit) = context.transact_and_tell(
            &session,
            word,
            &scope,
            |observed| {
                let mut plan = verb.plan(observed, &names)?;
                if !session.dry_run {
                    let up = |name: &JailName| observed.state(name).running();
                    let kept = |name: &JailName| match verb {
                        Verb::Start => !up(name),
                        Verb::Stop => false,
                        Verb::Restart => true,
                    };
                    let so = names.iter().filter(|name| !kept(name));
                    so.for_each(|name| moving.forget(context, name));
                }
                sanity.note(&session, observed, &mut plan);
                let moves = plan.steps.iter().filter_map(|step| match step {
                    Step::Start { jail } => Some(jail),
                    Step::Stop { jail } if observed.state(jail).running() => Some(jail),
                    _ => None,
                });
                *moved.borrow_mut() = moves.cloned().collect();
                Ok(plan)
            },
            &tell,
        )?;
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

/// All jails that a verb is about; of those that are kept from starting, only such as run. Their locks are taken
/// by name, so the names are read before the locks, and the rest under them.
fn all(context: &Context<'_>, session: &Session, verb: Verb) -> Result<Vec<JailName>, CliError> {
    let inventory = session.inventory(&Scope::all())?;
    let jails = inventory.jails.iter();
    let jails = jails.filter_map(|(name, jail)| Some((name, jail.config.as_ref().ok()?)));
    let (mut names, off): (Vec<_>, Vec<_>) =
        jails.partition(|(_, config)| verb == Verb::Stop || config.boot);
    let mut left = off.len();
    if left > 0 {
        let states = session.states()?;
        names.extend(off.into_iter().filter(|(name, _)| {
            let runs = states.get(*name).is_some_and(JailState::running);
            left -= usize::from(runs);
            runs
        }));
        names.sort_by_key(|(name, _)| *name);
    }
    let off = left;
    if off > 0 {
        let (verb, _) = verb.words();
        context.report.note(format!(
            "left out: {off} with boot off (`ezz list -o name,boot` shows them, and `ezz {verb} NAME` starts one)"
        ));
    }
    Ok(names.into_iter().map(|(name, _)| name.clone()).collect())
}
