//! `ezz start`, `ezz stop`, `ezz restart`.

use std::collections::BTreeSet;

use clap::Args;

use super::select::Jails;
use super::{CliError, Context, Did, DryRun};
use crate::name::JailName;
use crate::plan::{Observed, Plan, PlanError, Step, run};
use crate::report::Exit;
use crate::session::Scope;

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

/// Start jails
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz start www\n\nJSON: one {\"jail\", \"did\"} a jail")]
pub struct Start {
    #[command(flatten)]
    which: Which,
}

/// Stop jails: by their own shutdown, then by signals
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz stop --all\n\nJSON: one {\"jail\", \"did\"} a jail")]
pub struct Stop {
    #[command(flatten)]
    which: Which,
}

/// Stop jails and start them again, each before the next
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz restart www\n\nJSON: one {\"jail\", \"did\"} a jail")]
pub struct Restart {
    #[command(flatten)]
    which: Which,
}

impl Start {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        self.which.run(context, "start", "started", run::start)
    }
}

impl Stop {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        self.which.run(context, "stop", "stopped", run::stop)
    }
}

impl Restart {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        self.which
            .run(context, "restart", "restarted", run::restart)
    }
}

impl Which {
    fn run(
        self,
        context: &Context<'_>,
        verb: &'static str,
        did: &'static str,
        plan: fn(&Observed, &[JailName]) -> Result<Plan, PlanError>,
    ) -> Result<Exit, CliError> {
        if !self.all {
            self.jails.some("--label or --all")?;
        }
        let session = context.session(self.dry_run)?;
        let mut names = self.jails.select(&session)?;
        if self.all {
            let all = session.inventory(&Scope::all())?;
            names = all
                .jails
                .into_iter()
                .filter(|(_, jail)| jail.config.is_ok())
                .map(|(name, _)| name)
                .collect();
        }
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        let scope = Scope::of(names.iter().cloned());
        let mut stopped = BTreeSet::new();
        let (outcome, exit) = context.transact(&session, verb, &scope, |observed| {
            let all = names.iter();
            stopped = all
                .filter(|name| !observed.state(name).running())
                .cloned()
                .collect();
            Ok(plan(observed, &names)?)
        })?;
        if session.dry_run {
            return Ok(exit);
        }
        for jail in &names {
            let failed = outcome.applied.failed.iter().any(|(name, _)| name == jail);
            let planned = outcome.plan.steps.iter().any(|step| match step {
                Step::Start { jail: name } => name == jail,
                Step::Stop { jail: name } => name == jail && !stopped.contains(jail),
                _ => false,
            });
            let did = match (failed, planned) {
                (true, _) => continue,
                (false, true) => did,
                (false, false) => "already",
            };
            context.report.object(&Did { jail, did });
            if planned {
                context.report.said(format!("{jail}: {did}"));
            }
        }
        Ok(exit)
    }
}
