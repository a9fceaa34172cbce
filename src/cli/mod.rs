//! The command line: parses and checks the arguments, and turns them into requests. Each verb has a file with its
//! arguments and one function that runs it.

mod build;
mod confirm;
mod console;
mod converge;
mod create;
mod delegated;
mod delete;
mod docs;
mod doctor;
mod error;
mod fleet;
mod freebsd_source;
mod help;
mod init;
mod input;
mod install;
mod jail_reporter;
mod list;
mod machine;
mod merge;
mod merging;
mod mistakes;
mod numbers;
mod packages;
mod power;
mod preflight;
mod progress;
mod record;
mod restart_marks;
mod rollback;
mod rollout;
mod secrets;
mod select;
mod shared_network;
mod show;
mod source;
mod taking;
mod texts;
mod track;
mod undoing;
mod update;
mod upgrade;
mod verify;
mod vouch;
mod world;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use error::CliError;
pub use machine::{Machine, ThisMachine};

use self::jail_reporter::JailReporter;
use crate::execute::ApplyError;
use crate::hint::Hint;
use crate::lock::{Locks, Manners};
use crate::model::Defaults;
use crate::name::{DatasetName, JailName};
use crate::observe;
use crate::plan::{Observed, Plan};
use crate::ports::Zfs;
use crate::report::{Exit, Kind as Json, Report, wants_color};
use crate::session::{Around, Outcome, Scope, Session, SessionError};
use crate::text::quoted;

/// Jails on ZFS: one sealed basejail, cloned skeletons, atomic world updates.
#[derive(Debug, Parser)]
#[command(name = "ezz", version, propagate_version = true, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(help_template = help::template())]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Site, e.g. tank/ezz [default: the one in the configuration file, else the only one]
    #[arg(long, global = true, env = "EZZ_SITE", value_name = "DATASET")]
    site: Option<DatasetName>,
    /// Print results as JSON, one object per line
    #[arg(long, global = true)]
    json: bool,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Width of tables on a terminal
    #[arg(
        long,
        global = true,
        env = "COLUMNS",
        hide = true,
        value_name = "COLUMNS"
    )]
    width: Option<String>,
    /// Seconds to wait for another ezz to finish
    #[arg(long, global = true, default_value_t = 30, value_name = "SECONDS")]
    wait: u64,
    /// Number of jails to work on at once [default: the one in the configuration file, else twice the
    /// processors, at least 4]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST_JOBS))]
    jobs: Option<u16>,
}

/// The most jails to work on at once: each takes a thread and a few processes.
const MOST_JOBS: i64 = crate::config::MOST_JOBS as i64;

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
    Update(update::Update),
    Rollback(rollback::Rollback),
    Converge(converge::Converge),
    Merge(merge::Merge),
    Create(create::Create),
    Clone(create::Clone),
    Apply(fleet::Apply),
    List(list::List),
    Show(show::Show),
    Start(power::Start),
    Stop(power::Stop),
    Restart(power::Restart),
    Console(console::Console),
    Exec(console::Exec),
    Delete(delete::Delete),
    #[command(subcommand)]
    World(world::WorldVerb),
    #[command(subcommand)]
    Track(track::Track),
    Doctor(doctor::Doctor),
    Completions(docs::Completions),
    Man(docs::Man),
}

/// The context of a verb.
#[derive(Debug)]
pub struct Context<'a> {
    global: Global,
    machine: &'a dyn Machine,
    /// The command line, as other commands see it that wait for this one.
    words: String,
    /// The report to which the verb prints.
    pub report: Report,
}

/// Parses the process's arguments, runs the verb and returns the exit code.
pub fn main() -> Exit {
    if texts::is_asked(std::env::args_os().nth(1).as_deref()) {
        return texts::serve();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let given: Vec<OsString> = std::env::args_os().skip(1).collect();
            return misread(error, &given);
        }
    };
    let root = nix::unistd::geteuid().is_root();
    if !root && !matches!(cli.verb, Verb::Completions(_) | Verb::Man(_)) {
        return context(&ThisMachine, cli.global, String::new()).failed(&CliError::NotRoot);
    }
    // Files that are written into jails have explicit modes, and jails start with this umask, whatever the
    // administrator's is: with 077 the users of a jail could not read its /etc/hosts.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let _handlers = ThisMachine.cancel();
    run(&ThisMachine, cli, words(std::env::args_os().skip(1)))
}

/// Reports what is wrong with the arguments, or prints the help that they ask for.
fn misread(error: clap::Error, given: &[OsString]) -> Exit {
    let has = |wanted: &str| given.iter().any(|word| word == wanted);
    let command = Cli::command();
    let verb = given
        .iter()
        .filter_map(|word| word.to_str())
        .find(|word| command.find_subcommand(word).is_some());
    let wanted = error.exit_code() == 0;
    let error = match mistakes::explained(error, verb) {
        Ok(meant) => {
            let report = Report {
                json: has("--json"),
                quiet: false,
                color: wants_color(),
                width: None,
                sink: ThisMachine.sink(),
            };
            report.error(&meant, meant.hint().as_slice());
            return meant.exit();
        }
        Err(error) => error,
    };
    let lost = error.print().is_err_and(|error| {
        // `ezz --help | head`
        error.kind() != std::io::ErrorKind::BrokenPipe
    });
    match (wanted, lost) {
        (true, true) => Exit::Failed,
        (true, false) => Exit::Done,
        (false, _) => Exit::Usage,
    }
}

/// Runs a command on a machine as `main` does on this one, whoever the user is: for tests. The arguments do not contain
/// the program's name.
///
/// # Errors
/// The error in the arguments, as it would be printed.
pub fn run_on<A: Into<OsString> + Clone>(
    machine: &dyn Machine,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Exit, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let program = std::iter::once(OsString::from("ezz"));
    let cli = Cli::try_parse_from(program.chain(arguments.iter().cloned()))?;
    Ok(run(machine, cli, words(arguments)))
}

/// Quotes a command line as one string, which a shell reads as the same words.
fn words(arguments: impl IntoIterator<Item = OsString>) -> String {
    let arguments = arguments.into_iter();
    let words = arguments.map(|word| quoted(&word.to_string_lossy()));
    let program = std::iter::once("ezz".to_owned());
    program.chain(words).collect::<Vec<_>>().join(" ")
}

fn context(machine: &dyn Machine, global: Global, words: String) -> Context<'_> {
    let report = Report {
        json: global.json,
        quiet: global.quiet,
        color: wants_color(),
        width: global
            .width
            .as_ref()
            .and_then(|text| text.trim().parse().ok()),
        sink: machine.sink(),
    };
    Context {
        global,
        machine,
        words,
        report,
    }
}

fn run(machine: &dyn Machine, cli: Cli, words: String) -> Exit {
    let context = context(machine, cli.global, words);
    let exit = verb(&context, cli.verb).unwrap_or_else(|error| context.failed(&error));
    match context.report.sink.lost() {
        // A script that depends on the output must not continue.
        Some(why) => {
            let lost = context.failed(&CliError::Output(why));
            if exit == Exit::Done { lost } else { exit }
        }
        None => exit,
    }
}

fn verb(context: &Context<'_>, verb: Verb) -> Result<Exit, CliError> {
    match verb {
        Verb::Init(args) => args.run(context),
        Verb::Install(args) => args.run(context),
        Verb::Update(args) => args.run(context),
        Verb::Rollback(args) => args.run(context),
        Verb::Converge(args) => args.run(context),
        Verb::Merge(args) => args.run(context),
        Verb::Create(args) => args.run(context),
        Verb::Clone(args) => args.run(context),
        Verb::Apply(args) => args.run(context),
        Verb::List(args) => args.run(context),
        Verb::Show(args) => args.run(context),
        Verb::Start(args) => args.run(context),
        Verb::Stop(args) => args.run(context),
        Verb::Restart(args) => args.run(context),
        Verb::Console(args) => args.run(context),
        Verb::Exec(args) => args.run(context),
        Verb::Delete(args) => args.run(context),
        Verb::World(args) => args.run(context),
        Verb::Track(args) => args.run(context),
        Verb::Doctor(args) => args.run(context),
        Verb::Completions(args) => args.run(context),
        Verb::Man(args) => args.run(),
    }
}

impl Context<'_> {
    /// Waits between two steps.
    ///
    /// # Errors
    /// [`CliError::Interrupted`] as soon as a signal arrives.
    fn pause(&self, length: Duration) -> Result<(), CliError> {
        let cancel = self.machine.cancel();
        let until = Instant::now() + length;
        loop {
            cancel.check().map_err(|_| CliError::Interrupted)?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    fn failed(&self, error: &CliError) -> Exit {
        let (hint, said) = (error.hint(), error.said());
        self.report.error_of_program(error, hint.as_slice(), said);
        error.exit()
    }

    /// Finds the site of the command.
    ///
    /// # Errors
    /// [`CliError`]: the configuration is not valid, or there is no site or more than one.
    fn site(&self, zfs: &dyn Zfs) -> Result<observe::Found, CliError> {
        Ok(match self.named()? {
            Some(site) => observe::named_site(zfs, &site)?,
            None => observe::only_site(zfs)?,
        })
    }

    /// Returns the site that the user or the configuration has named.
    fn named(&self) -> Result<Option<DatasetName>, CliError> {
        Ok(match &self.global.site {
            Some(site) => Some(site.clone()),
            None => self.machine.configuration()?.site,
        })
    }

    /// Returns the defaults for values that are not given for new jails.
    ///
    /// # Errors
    /// [`CliError`]: the configuration is not valid.
    fn defaults(&self) -> Result<Defaults, CliError> {
        Ok(self.machine.configuration()?.defaults)
    }

    /// How many jails are worked on at once.
    fn jobs(&self) -> usize {
        // A file that cannot be read is an error where something depends on it, and no reason not to stop a jail.
        let configured = || self.machine.configuration().ok()?.jobs;
        let jobs = self.global.jobs.or_else(configured);
        let jobs = jobs.map_or_else(|| self.machine.jobs(), usize::from);
        jobs.min(self.machine.most_jobs())
    }

    /// Opens the site for a command.
    ///
    /// # Errors
    /// [`CliError`].
    fn session(&self, dry_run: DryRun) -> Result<Session, CliError> {
        let zfs = self.machine.zfs();
        let found = self.site(zfs.as_ref())?;
        Ok(self.session_of(zfs, found, None, dry_run))
    }

    /// Opens the site for a command whose plans commit. If the site is named, the read that finds it is the beginning
    /// of the first observation.
    ///
    /// # Errors
    /// [`CliError`].
    fn session_to_commit(&self, dry_run: DryRun) -> Result<Session, CliError> {
        let Some(site) = self.named()? else {
            return self.session(dry_run);
        };
        let zfs = self.machine.zfs();
        let top = observe::top(zfs.as_ref(), &site, !dry_run.dry_run)?;
        let found = top.found(&site)?;
        Ok(self.session_of(zfs, found, Some(top), dry_run))
    }

    fn session_of(
        &self,
        zfs: Box<dyn Zfs>,
        found: observe::Found,
        top: Option<observe::Top>,
        dry_run: DryRun,
    ) -> Session {
        let wait = Duration::from_secs(self.global.wait);
        let (cancel, report) = (self.machine.cancel(), self.report);
        let manners = Manners::new(
            move || cancel.is_cancelled(),
            move |text| report.note(text),
            &self.words,
            &self.machine.now(),
        );
        let locks = Locks::new(self.machine.run_directory(), &found.id, wait).with(manners);
        Session {
            looks: top.is_some() && !dry_run.dry_run,
            top: Mutex::new(top),
            zfs,
            host: self.machine.host(&found.id, &found.directory),
            site: found.site,
            id: found.id.clone(),
            locks,
            jobs: self.jobs(),
            dry_run: dry_run.dry_run,
            no_sync_clone: AtomicBool::new(false),
            changed: AtomicBool::new(false),
        }
    }

    /// Makes and applies a plan, prints the result, and writes a line to the log.
    ///
    /// # Errors
    /// [`CliError`].
    fn transact(
        &self,
        session: &Session,
        verb: &'static str,
        scope: &Scope,
        plan: impl Fn(&Observed) -> Result<Plan, SessionError>,
    ) -> Result<(Outcome, Exit), CliError> {
        let plan = |observed: &Observed| Ok((plan(observed)?, ()));
        let (outcome, exit, ()) =
            self.transact_around(session, verb, scope, plan, &Around::nothing())?;
        Ok((outcome, exit))
    }

    /// Does what [`Context::transact`] does, for a plan that comes with a value of its own.
    ///
    /// # Errors
    /// [`CliError`].
    fn transact_around<T>(
        &self,
        session: &Session,
        verb: &'static str,
        scope: &Scope,
        plan: impl Fn(&Observed) -> Result<(Plan, T), SessionError>,
        around: &Around<'_, T>,
    ) -> Result<(Outcome, Exit, T), CliError> {
        let done = session.transact_around(scope, plan, around);
        self.host_notes(session);
        let names: Vec<&str> = scope.jails.iter().map(JailName::as_str).collect();
        let what = format!("{verb} {} on {}", names.join(" "), session.site);
        match done {
            Ok((outcome, of_plan)) => {
                let exit = self.tell(session, verb, &outcome);
                if !session.dry_run && outcome.applied.changed > 0 {
                    let commits = outcome.plan.programs().count() as u64;
                    let (before, after) = (outcome.epoch, outcome.epoch + commits);
                    let code = exit.code();
                    self.machine.log(&format!(
                        "uid {}: {what}: epoch {before} to {after}: exit {code}",
                        uid()
                    ));
                }
                Ok((outcome, exit, of_plan))
            }
            Err(error) => {
                if !session.dry_run {
                    self.machine
                        .log(&format!("uid {}: {what}: failed: {error}", uid()));
                }
                if let SessionError::Interrupted { failed, .. } = &error {
                    self.tell_failed(verb, failed);
                }
                Err(error.into())
            }
        }
    }

    /// Reports what did not go as usual on the host, here and in the log.
    fn host_notes(&self, session: &Session) {
        for note in session.host.notes() {
            self.report.warning(&note);
            self.machine.log(&note);
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
        for warning in &outcome.plan.warnings {
            self.report.warning(warning);
        }
        let failed = &outcome.applied.failed;
        self.tell_failed(verb, failed);
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

    /// Reports the jails that failed.
    fn tell_failed(&self, verb: &'static str, failed: &[(JailName, ApplyError)]) {
        for (jail, error) in failed {
            self.report.error(
                &CliError::Jail {
                    verb,
                    jail: jail.clone(),
                    source: JailFailure::from_ref(error),
                },
                error.hint().as_slice(),
            );
        }
    }

    /// Prints a plan.
    fn plan(&self, plan: &Plan) {
        self.report.result(Json::Plan, !plan.steps.is_empty(), plan);
        if plan.steps.is_empty() {
            self.report.line("nothing to do");
        }
        for line in plan.to_string().lines() {
            self.report.line(line);
        }
    }
}

/// The failure of one jail, for printing: its text and those of its causes.
#[derive(Debug)]
pub struct JailFailure {
    text: String,
    hint: Option<String>,
    source: Option<Box<JailFailure>>,
}

impl JailFailure {
    fn from_ref(error: &(impl std::error::Error + Hint)) -> Self {
        JailFailure {
            hint: error.hint(),
            ..JailFailure::words_of(error)
        }
    }

    fn words_of(error: &dyn std::error::Error) -> Self {
        JailFailure {
            text: error.to_string(),
            hint: None,
            source: error
                .source()
                .map(|cause| Box::new(JailFailure::words_of(cause))),
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
    let names: BTreeSet<&JailName> = plan.lane_steps().map(|(jail, _)| jail).collect();
    names.len()
}

fn uid() -> u32 {
    nix::unistd::getuid().as_raw()
}

/// Returns the permissions and the owner of a directory, if it exists. The owner is reported as root if the user that
/// runs ezz owns it: that is root, or on a simulated machine the user that runs the test.
fn access(directory: &Path) -> Option<(u32, u32)> {
    let found = std::fs::metadata(directory).ok()?;
    let own = found.uid() == nix::unistd::geteuid().as_raw();
    Some((found.mode() & 0o7777, if own { 0 } else { found.uid() }))
}
