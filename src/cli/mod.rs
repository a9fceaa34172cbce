//! The command line: what was typed, checked and turned into requests. One file a verb, each with
//! its arguments and one function that runs it.

mod console;
mod create;
mod delete;
mod docs;
mod doctor;
mod error;
mod init;
mod install;
mod list;
mod progress;
mod run;
mod show;
mod track;
mod worlds;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

pub use error::CliError;

use crate::lock::{Locks, RUN_DIRECTORY};
use crate::name::{DatasetName, JailName, expand};
use crate::plan::{Plan, Step};
use crate::pool::Pool;
use crate::report::{Exit, Report};
use crate::session::{Outcome, Scope, Session};
use crate::world::Cancel;
use crate::{config, host, observe, syslog};

/// Jails on ZFS: one sealed basejail, cloned skeletons, atomic world updates.
#[derive(Debug, Parser)]
#[command(name = "ezz", version, propagate_version = true, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every verb")]
pub struct Global {
    /// The site, e.g. tank/ezz; without it the one in the configuration, else the only one
    #[arg(long, global = true, env = "EZZ_SITE", value_name = "DATASET")]
    site: Option<DatasetName>,
    /// Print results as JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Seconds to wait for another ezz
    #[arg(long, global = true, default_value_t = 30, value_name = "SECONDS")]
    wait: u64,
}

/// What verbs that change something have too.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct DryRun {
    /// Print the plan and change nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Init),
    Install(install::Install),
    Create(create::Create),
    List(list::List),
    Show(show::Show),
    Start(run::Start),
    Stop(run::Stop),
    Restart(run::Restart),
    Console(console::Console),
    Exec(console::Exec),
    Delete(delete::Delete),
    #[command(subcommand)]
    Worlds(worlds::Worlds),
    #[command(subcommand)]
    Track(track::Track),
    Doctor(doctor::Doctor),
    Completions(docs::Completions),
    Man(docs::Man),
}

/// What a verb is run with.
#[derive(Debug)]
pub struct Context {
    global: Global,
    /// Where it prints.
    pub report: Report,
}

/// Parses the process's arguments, runs the verb and says how it ended.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wanted = error.exit_code() == 0;
            let _closed = error.print();
            return if wanted { Exit::Done } else { Exit::Usage };
        }
    };
    let report = Report {
        json: cli.global.json,
        quiet: cli.global.quiet,
    };
    let context = Context {
        global: cli.global,
        report,
    };
    let _handlers = cancel();
    let done = run(&context, cli.verb);
    done.unwrap_or_else(|error| {
        report.error(&error, &error.hints());
        error.exit()
    })
}

fn run(context: &Context, verb: Verb) -> Result<Exit, CliError> {
    if !matches!(verb, Verb::Completions(_) | Verb::Man(_)) && !nix::unistd::geteuid().is_root() {
        return Err(CliError::NotRoot);
    }
    match verb {
        Verb::Init(args) => args.run(context),
        Verb::Install(args) => args.run(context),
        Verb::Create(args) => args.run(context),
        Verb::List(args) => args.run(context),
        Verb::Show(args) => args.run(context),
        Verb::Start(args) => args.run(context),
        Verb::Stop(args) => args.run(context),
        Verb::Restart(args) => args.run(context),
        Verb::Console(args) => args.run(context),
        Verb::Exec(args) => args.run(context),
        Verb::Delete(args) => args.run(context),
        Verb::Worlds(args) => args.run(context),
        Verb::Track(args) => args.run(context),
        Verb::Doctor(args) => args.run(context),
        Verb::Completions(args) => args.run(context),
        Verb::Man(args) => args.run(),
    }
}

impl Context {
    /// The site that is meant.
    ///
    /// # Errors
    /// [`CliError`]: a bad configuration, no site, several.
    fn site(&self, pool: &Pool) -> Result<DatasetName, CliError> {
        if let Some(site) = &self.global.site {
            return Ok(site.clone());
        }
        if let Some(site) = config::load()?.site {
            return Ok(site);
        }
        Ok(observe::only_site(pool)?)
    }

    /// Opens the site for a command.
    ///
    /// # Errors
    /// [`CliError`].
    fn session(&self, dry_run: DryRun) -> Result<Session, CliError> {
        let pool = Pool::new();
        let site = self.site(&pool)?;
        self.session_of(pool, site, dry_run)
    }

    fn session_of(
        &self,
        pool: Pool,
        site: DatasetName,
        dry_run: DryRun,
    ) -> Result<Session, CliError> {
        let scope = std::collections::BTreeSet::new();
        let found = observe::inventory(&pool, &site, Some(&scope))?.site;
        let wait = Duration::from_secs(self.global.wait);
        Ok(Session {
            zfs: Box::new(pool),
            host: host::this_host(&found.id, &found.directory),
            site,
            locks: Locks::new(Path::new(RUN_DIRECTORY), &found.id, wait),
            dry_run: dry_run.dry_run,
            on_step: |_| {},
        })
    }

    /// Makes and applies a plan, prints what came of it, and writes the line in the log.
    ///
    /// # Errors
    /// [`CliError`].
    fn transact(
        &self,
        session: &Session,
        verb: &'static str,
        scope: &Scope,
        plan: impl FnMut(&crate::plan::Observed) -> Result<Plan, crate::session::SessionError>,
    ) -> Result<(Outcome, Exit), CliError> {
        let done = session.transact(scope, plan);
        let names: Vec<&str> = scope.jails.iter().map(JailName::as_str).collect();
        let what = format!("{verb} {} on {}", names.join(" "), session.site);
        match done {
            Ok(outcome) => {
                let exit = self.tell(session, verb, &outcome);
                if !session.dry_run && outcome.applied.changed > 0 {
                    let commits = commits(&outcome.plan);
                    log(&what, outcome.epoch, outcome.epoch + commits, exit);
                }
                Ok((outcome, exit))
            }
            Err(error) => {
                if !session.dry_run {
                    syslog::write(&format!("uid {}: {what}: failed: {error}", uid()));
                }
                Err(error.into())
            }
        }
    }

    fn tell(&self, session: &Session, verb: &'static str, outcome: &Outcome) -> Exit {
        if session.dry_run {
            self.plan(&outcome.plan);
            return Exit::Done;
        }
        for note in &outcome.plan.notes {
            self.report.note(note);
        }
        let failed = &outcome.applied.failed;
        for (jail, error) in failed {
            self.report.error(
                &CliError::Jail {
                    verb,
                    jail: jail.clone(),
                    source: JailFailure::from_ref(error),
                },
                &error::hints_of(error),
            );
        }
        if failed.is_empty() {
            return Exit::Done;
        }
        let tried = jails_of(&outcome.plan);
        if failed.len() >= tried {
            Exit::Failed
        } else {
            Exit::Partly
        }
    }

    /// Prints a plan.
    fn plan(&self, plan: &Plan) {
        self.report.object(plan);
        if plan.steps.is_empty() {
            self.report.line("nothing to do");
        }
        for line in plan.to_string().lines() {
            self.report.line(line);
        }
    }
}

/// The failure of one jail, for printing: its words and those of its causes.
#[derive(Debug)]
pub struct JailFailure {
    text: String,
    source: Option<Box<JailFailure>>,
}

impl JailFailure {
    fn from_ref(error: &dyn std::error::Error) -> Self {
        JailFailure {
            text: error.to_string(),
            source: error
                .source()
                .map(|inner| Box::new(JailFailure::from_ref(inner))),
        }
    }
}

impl std::fmt::Display for JailFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for JailFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|inner| inner as _)
    }
}

fn jails_of(plan: &Plan) -> usize {
    let names: std::collections::BTreeSet<&JailName> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Derive { jail }
            | Step::Forget { jail }
            | Step::Start { jail }
            | Step::Stop { jail } => Some(jail),
            _ => None,
        })
        .collect();
    names.len()
}

fn commits(plan: &Plan) -> u64 {
    plan.steps
        .iter()
        .filter(|step| matches!(step, Step::Commit { .. }))
        .count() as u64
}

fn uid() -> u32 {
    nix::unistd::getuid().as_raw()
}

fn log(what: &str, before: u64, after: u64, exit: Exit) {
    let code = exit.code();
    syslog::write(&format!(
        "uid {}: {what}: epoch {before} to {after}: exit {code}",
        uid()
    ));
}

/// What interrupts long work: SIGINT, SIGTERM or SIGHUP. Short work is finished all the same.
fn cancel() -> Cancel {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let flag = FLAG.get_or_init(|| {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // It fails only for signals that cannot be caught.
            let _registered = signal_hook::flag::register(signal, Arc::clone(&flag));
        }
        flag
    });
    Cancel::new(Arc::clone(flag))
}

/// Jail names from arguments that may have ranges.
fn names(arguments: &[String]) -> Result<Vec<JailName>, CliError> {
    let mut names = Vec::new();
    for argument in arguments {
        for name in expand(argument)? {
            names.push(JailName::parse(&name)?);
        }
    }
    Ok(names)
}

/// A line of what was done to a jail.
#[derive(Debug, Serialize)]
struct Did<'a> {
    jail: &'a JailName,
    did: &'a str,
}
