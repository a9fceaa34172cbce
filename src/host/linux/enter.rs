//! Runs commands in a running jail.
//!
//! With a terminal, the command gets a terminal of the jail (`relay`). Without one, it gets the streams of ezz, except
//! for streams that are a terminal of the host: those are relayed through pipes here. crun gets a whole process
//! specification, because with single options an ordinary user would get the jail's capabilities.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, getpgid, getpgrp, kill_process, kill_process_group};
use rustix::termios::tcgetwinsize;
use serde::Deserialize;

use super::bundle::{INSIDE, PATH};
use super::inside::Inside;
use super::jail_id::JailIds;
use super::lookup::{self, NoCommand};
use super::paths::Paths;
use super::relay::Console;
use super::users::{Account, AccountError, Wanted};
use super::{crun, file, ping, process, program, runtime, state};
use crate::exec::signals::Caught;
use crate::exec::{Exec, ExecError, Watch, Watched, code};
use crate::model::{JailState, Network, printable};
use crate::name::JailName;
use crate::ports::{ExecRequest, HostError, JailSpec};

/// The most bytes of an account file that are read.
const ACCOUNTS_MAX: u64 = 16 << 20;

/// The descriptors that crun gets: the process specification and its log.
const SPECIFICATION: i32 = 3;
const LOG: i32 = 4;

/// The most bytes of crun's log that are read.
const LOG_MOST: u64 = 64 << 10;

/// A line of crun's log.
#[derive(Deserialize)]
struct Line {
    msg: String,
    level: String,
}

/// Runs a command in a jail.
///
/// # Errors
/// See [`crate::ports::Host::exec`].
pub(super) fn exec(
    paths: &Paths,
    spec: &JailSpec,
    request: &ExecRequest,
) -> Result<i32, HostError> {
    let name = &spec.name;
    if !matches!(state::of(paths, name)?, JailState::Running { .. }) {
        return Err(HostError::NotRunning(name.clone()));
    }
    let program = program("run a command in", name);
    let directory = paths.exits();
    let console = request
        .terminal
        .then(|| Console::new(&directory))
        .transpose()
        .map_err(file("make a socket in", &directory))?;
    let options = console
        .iter()
        .flat_map(|console| [OsStr::new("--console-socket"), console.path().as_os_str()]);
    look_up(paths, spec, request)?;
    let call = Call::new(paths, spec, request, options)?;
    let run = |console: Option<&Console>| -> io::Result<(ExitStatus, Option<String>)> {
        let (command, log) = call.command()?;
        let status = match console {
            Some(console) => console.run(command)?,
            None => without_terminal(command)?,
        };
        Ok((status, failure(log)?))
    };
    let (status, why) = run(console.as_ref()).map_err(|source| {
        program(ExecError::Start {
            command: call.exec.shown(),
            source,
        })
    })?;
    if let (false, Some(why)) = (status.success(), why) {
        return Err(failed(paths, request, name, &why)?);
    }
    if !status.success() && spec.config.network == Network::Host {
        let pid = || state::init(paths, name).ok().flatten().map(|init| init.pid);
        let note = ping::closed(&request.command, pid);
        note.into_iter().for_each(|note| paths.note(note));
    }
    Ok(code(status))
}

/// Returns the error for a crun that failed. It has the reason only if crun has not written that on the standard error
/// of ezz itself.
fn failed(
    paths: &Paths,
    request: &ExecRequest,
    name: &JailName,
    said: &str,
) -> Result<HostError, HostError> {
    let refused = refused(paths, name, said)?;
    let HostError::Command { why, .. } = refused else {
        return Ok(refused);
    };
    let mut why = match crun::repeats_errors() {
        true => "crun reports the reason above".to_owned(),
        false => why,
    };
    if let Some(cause) = lookup::cause(said) {
        why = format!("{why}: {cause}");
    }
    Ok(match lookup::meaning(said) {
        Some(NoCommand::Missing(_)) => no_command(name, request, NoCommand::Missing(why)),
        Some(NoCommand::Unfit(_)) => no_command(name, request, NoCommand::Unfit(why)),
        None => HostError::Command {
            jail: name.clone(),
            why,
        },
    })
}

/// Refuses a command that the jail does not have. If the look itself fails, the command is tried, and crun finds out.
fn look_up(paths: &Paths, spec: &JailSpec, request: &ExecRequest) -> Result<(), HostError> {
    let Some(word) = request.command.first() else {
        return Ok(());
    };
    let Some(init) = state::init(paths, &spec.name)? else {
        return Err(HostError::NotRunning(spec.name.clone()));
    };
    let Ok(inside) = Inside::of_process(init.pid) else {
        return Ok(());
    };
    // If the jail has ended since, another process may have its process id.
    if init.wait(Duration::ZERO).unwrap_or(true) {
        return Err(HostError::NotRunning(spec.name.clone()));
    }
    let given = request.environment.iter().rev().map(String::as_str);
    let mut paths = given
        .chain([PATH])
        .filter_map(|variable| variable.strip_prefix("PATH="));
    let root = Path::new("/");
    let directory = root.join(request.directory.as_deref().unwrap_or(root));
    lookup::look(&inside, word, &directory, paths.next().unwrap_or_default())
        .map_err(|why| no_command(&spec.name, request, why))
}

fn no_command(name: &JailName, request: &ExecRequest, why: NoCommand) -> HostError {
    let (why, missing) = match why {
        NoCommand::Missing(why) => (why, true),
        NoCommand::Unfit(why) => (why, false),
    };
    HostError::NoCommand {
        jail: name.clone(),
        command: request.command.first().cloned().unwrap_or_default(),
        why,
        missing,
    }
}

/// Runs a command in a jail without input, for a limited time.
///
/// # Errors
/// Returns the errors of [`crate::ports::Host::probe`].
pub(super) fn probe(
    paths: &Paths,
    spec: &JailSpec,
    command: &[String],
    limit: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<(), HostError> {
    let name = &spec.name;
    if !matches!(state::of(paths, name)?, JailState::Running { .. }) {
        return Err(HostError::NotRunning(name.clone()));
    }
    let request = ExecRequest {
        command: command.to_vec(),
        ..ExecRequest::default()
    };
    let pid = paths.jail(name).join("probe.pid");
    let options = [OsStr::new("--pid-file"), pid.as_os_str()];
    let call = Call::new(paths, spec, &request, options)?;
    let watch = Watch {
        limit,
        stop,
        log: None,
    };
    let run = || -> io::Result<(Watched, Option<String>)> {
        let (mut command, log) = call.command()?;
        // All streams are pipes, because crun gives its standard streams to the jail's root.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        drop(command);
        drop(child.stdin.take());
        let ended = watch.over(&mut child, || kill(&pid))?;
        Ok((ended, failure(log)?))
    };
    let ended = run();
    let forgotten = fs::remove_file(&pid);
    let (Watched { status, said }, why) = ended.map_err(|source| {
        program("run a command in", name)(ExecError::Start {
            command: call.exec.shown(),
            source,
        })
    })?;
    if let Err(error) = forgotten {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(file("remove", &pid)(error));
        }
    }
    let how = match status {
        Some(status) if status.success() => return Ok(()),
        Some(status) => match why {
            Some(why) => return Err(refused(paths, name, &why)?),
            None => format!("exited with status {}", code(status)),
        },
        None => format!("did not end within {} s", limit.as_secs()),
    };
    Err(HostError::unwell(name, command, &how, &said))
}

/// Kills the process whose id crun has written, and its process group, which another process of crun's led. crun is its
/// parent and waits for it, so no other process has the id yet.
fn kill(pid: &Path) {
    let number = process::number(pid).ok().flatten();
    let id = number.and_then(|number| Pid::from_raw(i32::try_from(number).ok()?));
    let Some(id) = id else {
        return;
    };
    // Any of this may fail because the process has just ended.
    let group = getpgid(Some(id)).ok().filter(|group| *group != getpgrp());
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = kill_process(id, Signal::KILL);
}

/// Returns the error for a crun that failed.
fn refused(paths: &Paths, name: &JailName, why: &str) -> Result<HostError, HostError> {
    if state::init(paths, name)?.is_none() {
        return Ok(HostError::NotRunning(name.clone()));
    }
    Ok(HostError::Command {
        jail: name.clone(),
        why: why.replace(&format!("{INSIDE}/../.."), ""),
    })
}

/// A call of `crun exec`.
struct Call {
    exec: Exec,
    specification: Vec<u8>,
}

impl Call {
    fn new<'a>(
        paths: &Paths,
        spec: &JailSpec,
        request: &ExecRequest,
        options: impl IntoIterator<Item = &'a OsStr>,
    ) -> Result<Self, HostError> {
        let exec = runtime::crun_for_command(paths)
            .map_err(program("run a command in", &spec.name))?
            .arg(format!("--log=/proc/self/fd/{LOG}"))
            .arg("--log-format=json")
            .arg("exec")
            .args(options)
            .arg(format!("--process=/proc/self/fd/{SPECIFICATION}"))
            .arg(paths.container(&spec.name));
        let specification = specification(paths, spec, request)?;
        Ok(Call {
            exec,
            specification,
        })
    }

    /// Returns the command with its descriptors, and the file for its log.
    fn command(&self) -> io::Result<(Command, File)> {
        let mut specification = memory("process")?;
        specification.write_all(&self.specification)?;
        let log = memory("log")?;
        let mut command = self.exec.command();
        command
            .fd_mappings(vec![
                FdMapping {
                    parent_fd: specification.into(),
                    child_fd: SPECIFICATION,
                },
                FdMapping {
                    parent_fd: log.try_clone()?.into(),
                    child_fd: LOG,
                },
            ])
            .map_err(io::Error::other)?;
        Ok((command, log))
    }
}

/// Returns the errors in crun's log. If there are any, crun itself failed, and not the command.
fn failure(mut log: File) -> io::Result<Option<String>> {
    log.rewind()?;
    let mut said = Vec::new();
    log.take(LOG_MOST).read_to_end(&mut said)?;
    Ok(errors(&String::from_utf8_lossy(&said)))
}

fn errors(log: &str) -> Option<String> {
    let errors: Vec<String> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .filter(|line| line.level == "error")
        .map(|line| line.msg.trim().to_owned())
        .collect();
    (!errors.is_empty()).then(|| printable(&errors.join("; ")))
}

/// Returns the process specification as JSON.
fn specification(
    paths: &Paths,
    spec: &JailSpec,
    request: &ExecRequest,
) -> Result<Vec<u8>, HostError> {
    let ids = ids(paths, &spec.name)?;
    let account = account(spec, request.user.as_deref(), ids)?;
    let words = if request.command.is_empty() {
        spec.profile.console.clone()
    } else {
        request.command.clone()
    };
    let refused = |why| HostError::Command {
        jail: spec.name.clone(),
        why,
    };
    let mut environment = Vec::new();
    let mut terminal = None;
    if request.terminal {
        let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
        environment.push(format!("TERM={term}"));
        let window = tcgetwinsize(io::stdin())
            .map_err(|errno| refused(format!("standard input is not a terminal: {errno}")))?;
        terminal = Some((window.ws_row, window.ws_col));
    }
    environment.extend(request.environment.iter().cloned());
    let command = super::command::Command {
        words,
        directory: request.directory.as_deref().unwrap_or(Path::new("/")),
        environment,
        terminal,
    };
    command.specification(&account).map_err(refused)
}

/// Returns the ids of a running jail. The kernel is asked, because a configuration file could be from another start.
fn ids(paths: &Paths, name: &JailName) -> Result<JailIds, HostError> {
    let gone = || HostError::NotRunning(name.clone());
    let init = state::init(paths, name)?.ok_or_else(gone)?;
    let own = init.has_own_ids();
    let proc = Path::new("/proc");
    // After its end, another process may have its process id.
    if init.wait(Duration::ZERO).map_err(file("look at", proc))? {
        return Err(gone());
    }
    match own.map_err(file("look at", proc))? {
        true => Ok(JailIds::Own),
        false => Ok(JailIds::OfHost),
    }
}

/// Returns the account of the jail as which a command runs.
fn account(spec: &JailSpec, user: Option<&str>, ids: JailIds) -> Result<Account, HostError> {
    let refused = |error: AccountError| error.in_jail(&spec.name);
    let wanted = Wanted::parse(user, ids).map_err(refused)?;
    let inside = Inside::open(&spec.root).map_err(file("open", &spec.root))?;
    let read = |path: &str, needed: bool| match inside.read(path, ACCOUNTS_MAX) {
        Ok(text) => Ok(text.unwrap_or_default()),
        Err(_) if !needed => Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Err(refused(AccountError::TooLarge(format!("/{path}"))))
        }
        Err(error) => Err(file("read", &spec.root.join(path))(error)),
    };
    let passwd = read("etc/passwd", wanted.needs_passwd())?;
    let group = if wanted.needs_group() {
        read("etc/group", true)?
    } else {
        Vec::new()
    };
    wanted.account(&passwd, &group, ids).map_err(refused)
}

fn memory(name: &str) -> io::Result<File> {
    Ok(memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

/// There is no limit, because the administrator has requested the command.
fn without_terminal(mut command: Command) -> io::Result<ExitStatus> {
    let caught = Caught::new(false)?;
    let piped = |terminal: bool| {
        if terminal {
            Stdio::piped()
        } else {
            Stdio::inherit()
        }
    };
    let mut child = command
        .stdin(piped(io::stdin().is_terminal()))
        .stdout(piped(io::stdout().is_terminal()))
        .stderr(piped(io::stderr().is_terminal()))
        .spawn()?;
    drop(command);
    let relays = relays(&mut child)?;
    let status = caught.until_ended(&mut child)?;
    for relay in relays {
        // A relay that panicked has nothing more to copy.
        let _ = relay.join();
    }
    Ok(status)
}

/// Copies between the child's pipes and the terminal of ezz. The thread that reads from the terminal is not joined: it
/// ends with the process.
fn relays(child: &mut Child) -> io::Result<Vec<JoinHandle<()>>> {
    let copy = |from: OwnedFd, to: OwnedFd| {
        std::thread::spawn(move || {
            // The copy ends at the end of its input, or when its output has no reader.
            let _ = io::copy(&mut File::from(from), &mut File::from(to));
        })
    };
    let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
    let mut relays = Vec::new();
    if let Some(pipe) = child.stdin.take() {
        drop(copy(own(io::stdin().as_fd())?, pipe.into()));
    }
    if let Some(pipe) = child.stdout.take() {
        relays.push(copy(pipe.into(), own(io::stdout().as_fd())?));
    }
    if let Some(pipe) = child.stderr.take() {
        relays.push(copy(pipe.into(), own(io::stderr().as_fd())?));
    }
    Ok(relays)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_crun_are_its_failure() {
        let log = "{\"msg\":\"executable file `x` not found in $PATH\",\"level\":\"error\",\"time\":\"t\"}\n";
        assert_eq!(
            errors(log),
            Some("executable file `x` not found in $PATH".to_owned())
        );
        assert_eq!(errors(""), None);
        assert_eq!(
            errors("{\"msg\":\"m\",\"level\":\"warning\"}\nnoise\n"),
            None
        );
    }
}
