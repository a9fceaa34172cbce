//! `ezz console` and `ezz exec`: commands inside a running jail. No lock is taken.

use std::io::{IsTerminal, stdin, stdout};
use std::path::PathBuf;

use clap::Args;

use super::error::one_line;
use super::{CliError, Context, DryRun, uid};
use crate::name::JailName;
use crate::plan::spec;
use crate::ports::{ExecRequest, HostError};
use crate::report::Exit;
use crate::session::{Scope, Session};
use crate::text::quoted;

/// Open a shell in a running jail
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz console www\n\nThe exit code is the shell's.")]
pub struct Console {
    /// Name of the running jail
    name: JailName,
    /// User in the jail: a name or number, on Linux also USER:GROUP [default: root]
    #[arg(long, short)]
    user: Option<String>,
}

/// Run a command in a running jail
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz exec www -- tail -n 3 /var/log/messages\n\nThe exit code is that of the command, or 128 plus the number of the signal that killed it; 127 if the jail has no such command, 126 if it cannot be executed.\n\nezz passes SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 and SIGWINCH on to the command. If ezz itself is killed, the command gets SIGTERM (on FreeBSD it keeps running)."
)]
pub struct Exec {
    /// Name of the running jail
    name: JailName,
    /// User in the jail: a name or number, on Linux also USER:GROUP [default: root]
    #[arg(long, short)]
    user: Option<String>,
    /// Working directory in the jail
    #[arg(long, short)]
    directory: Option<PathBuf>,
    /// Environment variable, NAME=VALUE; repeatable
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<String>,
    /// Give the command a terminal of its own
    #[arg(long, short)]
    tty: bool,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Console {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            // If the jail does not exist, that is reported instead.
            let session = context.session(DryRun::default())?;
            let observed = session.observe(&Scope::of([self.name.clone()]))?;
            spec::observed(&observed.inventory, &self.name)?;
            return Err(CliError::Usage {
                what: "a console needs a terminal".to_owned(),
                hint: format!(
                    "`ezz exec {} -- COMMAND` runs a command without one",
                    self.name
                ),
            });
        }
        let request = ExecRequest {
            user: self.user,
            terminal: true,
            ..ExecRequest::default()
        };
        execute(context, &self.name, &request)
    }
}

impl Exec {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        if self.tty && !stdin().is_terminal() {
            return Err(CliError::Usage {
                what: "--tty needs a terminal".to_owned(),
                hint: "omit --tty if standard input is not a terminal".to_owned(),
            });
        }
        let request = ExecRequest {
            command: self.command,
            user: self.user,
            directory: self.directory,
            environment: self.env,
            terminal: self.tty,
        };
        execute(context, &self.name, &request)
    }
}

fn execute(
    context: &Context<'_>,
    name: &JailName,
    request: &ExecRequest,
) -> Result<Exit, CliError> {
    let session = context.session(DryRun::default())?;
    let observed = session.observe(&Scope::of([name.clone()]))?;
    let spec = spec::observed(&observed.inventory, name)?;
    if !observed.state(name).running() {
        return Err(HostError::NotRunning(name.clone()).into());
    }
    // A signal that has already arrived cannot reach the command, so it ends ezz here.
    let cancel = context.machine.cancel();
    cancel.check().map_err(|_| CliError::Interrupted)?;
    let audit = Audit::new(context, &session, name, request);
    audit.write("begun");
    let done = session.host.exec(&spec, request).map_err(CliError::from);
    match done {
        Ok(code) => {
            audit.write(&format!("exit {code}"));
            context.host_notes(&session);
            Ok(Exit::Code(
                u8::try_from(code.rem_euclid(256)).unwrap_or(255),
            ))
        }
        Err(error) => {
            audit.write(&format!("failed: {}", one_line(&error)));
            Err(error)
        }
    }
}

/// The lines in the system's log about one command: one at its start, since it may run for days, and one at its end.
/// They do not contain variables.
struct Audit<'a> {
    context: &'a Context<'a>,
    what: String,
    words: String,
}

impl<'a> Audit<'a> {
    fn new(
        context: &'a Context<'a>,
        session: &Session,
        name: &JailName,
        request: &ExecRequest,
    ) -> Self {
        let verb = match request.command.is_empty() {
            true => "console",
            false => "exec",
        };
        let words: Vec<String> = request.command.iter().map(|word| quoted(word)).collect();
        Audit {
            context,
            what: format!(
                "uid {} ({}): {verb} in {name} of {} as {}",
                uid(),
                context.machine.user(),
                session.site,
                request.user.as_deref().unwrap_or("root")
            ),
            words: words.join(" "),
        }
    }

    /// The event precedes the command line, which may be too long for the log.
    fn write(&self, how: &str) {
        let colon = if self.words.is_empty() { "" } else { ": " };
        let line = format!("{}: {how}{colon}{}", self.what, self.words);
        self.context.machine.log(&line);
    }
}

fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() && !text.contains('\0') => Ok(text.to_owned()),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
