//! Calls crun and conmon, and reports their failures.
//!
//! conmon starts `crun create`, and passes the process id or crun's error through a pipe. It stays with the jail: it
//! outlives ezz and its terminal, keeps the log, and writes the exit status.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::fcntl::OFlag;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;
use serde::Deserialize;

use super::paths::{self, Paths};
use super::process::{Process, readable};
use super::{cgroup, file, program};
use crate::exec::{Exec, ExecError, GONE, Watch, Watched, gone};
use crate::model::printable;
use crate::name::JailName;
use crate::ports::HostError;

/// The size in bytes at which the console's log is cut.
const LOG_SIZE: u64 = 4 << 20;

/// The time that `crun create` may take; it waits only for the kernel.
const CREATE: Duration = Duration::from_secs(120);

/// The interval at which `stop` is called meanwhile.
const ASK: Duration = Duration::from_millis(50);

/// The time that `crun delete` may take. It only has to remove a few files, because the processes and the cgroup of the
/// container no longer exist.
const DELETE: Duration = Duration::from_secs(30);

/// The time that the command may take that prepares a jail. The generation of keys for ssh takes a second, but much
/// more on a machine that is slow or busy.
pub(super) const ONCE: Duration = Duration::from_secs(300);

/// The most bytes of the output of crun or conmon that are kept.
const WORDS: u64 = 64 << 10;

/// The descriptors that conmon gets.
const SYNC: i32 = 3;
const START: i32 = 4;

/// What conmon writes into the pipe.
#[derive(Deserialize)]
struct Report {
    data: i64,
    #[serde(default)]
    message: Option<String>,
}

/// Returns `crun` with the options that all its commands need.
pub(super) fn crun(paths: &Paths) -> Result<Exec, ExecError> {
    Ok(dying_with_us("crun")?.args(crun_options(paths)))
}

/// Returns one of its commands on a container, which finishes even if the user presses Ctrl-C meanwhile.
fn crun_on(paths: &Paths, name: &JailName, command: &[&str]) -> Result<Exec, ExecError> {
    let exec = crun(paths)?.args(command);
    Ok(exec.arg(paths.container(name)))
}

fn crun_options(paths: &Paths) -> [OsString; 4] {
    [
        "--root".into(),
        paths.crun().into(),
        "--cgroup-manager".into(),
        "cgroupfs".into(),
    ]
}

/// Returns `crun` for a command in a jail. If ezz is killed, crun gets SIGTERM and passes it on to the command, as it
/// does with every signal (`wait_for_process` in crun's container.c). If crun were killed, it would leave the command
/// behind.
pub(super) fn crun_for_command(paths: &Paths) -> Result<Exec, ExecError> {
    Ok(signalled_after_us("crun", "TERM")?.args(crun_options(paths)))
}

/// Returns a program that is killed when this process ends. Otherwise its further work would interfere with the next
/// ezz.
fn dying_with_us(program: &str) -> Result<Exec, ExecError> {
    signalled_after_us(program, "KILL")
}

/// Returns a program that gets a signal when this process ends.
fn signalled_after_us(program: &str, signal: &str) -> Result<Exec, ExecError> {
    Ok(Exec::new("setpriv")?
        .args(["--pdeathsig", signal, "--"])
        .arg(crate::exec::find(program)?))
}

/// Creates the container from the bundle in the jail's directory. Its first process waits.
///
/// # Errors
/// [`HostError::Start`] with crun's own message.
pub(super) fn create(
    paths: &Paths,
    name: &JailName,
    console: bool,
    stop: &dyn Fn() -> bool,
) -> Result<(), HostError> {
    let program = program("start", name);
    let conmon = conmon(paths, name, console).map_err(&program)?;
    let shown = conmon.shown();
    let pipe = |()| nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from);
    let spawn = || -> io::Result<(Child, OwnedFd, OwnedFd, File)> {
        let (sync, sync_write) = pipe(())?;
        let (start_read, start) = pipe(())?;
        // conmon gets a copy of our end, because it takes the end of the file as the sign to continue.
        let never_ends = start.try_clone()?;
        let errors = File::from(memfd_create("conmon", MemfdFlags::CLOEXEC)?);
        let mut command = conmon.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.try_clone()?)
            .fd_mappings(vec![
                FdMapping {
                    parent_fd: sync_write,
                    child_fd: SYNC,
                },
                FdMapping {
                    parent_fd: start_read,
                    child_fd: START,
                },
                FdMapping {
                    parent_fd: never_ends,
                    child_fd: START + 1,
                },
            ])
            .map_err(io::Error::other)?;
        // The command, which has our copies of conmon's ends, is dropped here.
        Ok((command.spawn()?, sync, start, errors))
    };
    let (mut child, sync, start, mut errors) = spawn().map_err(|source| {
        program(ExecError::Start {
            command: shown,
            source,
        })
    })?;
    let outcome = handshake(&paths.watcher(name), &mut child, (sync, start), stop);
    let refused = |why: String| HostError::Start {
        jail: name.clone(),
        why,
    };
    match outcome {
        Ok(Report { data, .. }) if data > 0 => {
            let null = Path::new("/dev/null");
            null_to_root(null).map_err(file("take back", null))
        }
        Ok(Report {
            message: Some(message),
            ..
        }) => Err(refused(plain(&message))),
        Ok(Report { message: None, .. }) | Err(_) => {
            let mut text = Vec::new();
            let read = errors
                .rewind()
                .and_then(|()| errors.take(WORDS).read_to_end(&mut text));
            let said = if read.is_ok() {
                plain(&String::from_utf8_lossy(&text))
            } else {
                String::new()
            };
            Err(refused(match outcome {
                _ if !said.is_empty() => said,
                Err(error) => format!("conmon: {error}"),
                Ok(_) => "crun gave no reason".to_owned(),
            }))
        }
    }
}

/// Gives /dev/null back to the host's root. crun gives the files of its standard streams to the jail's root, and with a
/// console that is the host's /dev/null (seen with 1.8.1). The jail has that device too, and could change its mode.
/// Nothing of the jail runs yet.
fn null_to_root(null: &Path) -> io::Result<()> {
    let metadata = fs::metadata(null)?;
    if metadata.uid() != 0 || metadata.gid() != 0 {
        chown(null, Some(0), Some(0))?;
    }
    Ok(())
}

fn conmon(paths: &Paths, name: &JailName, console: bool) -> Result<Exec, ExecError> {
    let container = paths.container(name);
    let directory = paths.jail(name);
    let mut exec = dying_with_us("conmon")?
        .env("_OCI_SYNCPIPE", SYNC.to_string())
        .env("_OCI_STARTPIPE", START.to_string())
        .args(["--api-version", "1", "--log-level", "error"])
        .args([
            "--cid",
            &container,
            "--cuuid",
            &container,
            "--name",
            name.as_str(),
        ])
        // Standard input is a pipe where that is possible: see `null_to_root`.
        .arg(if console { "--terminal" } else { "--stdin" })
        .arg("--full-attach")
        .arg("--bundle")
        .arg(&directory)
        .arg("--persist-dir")
        .arg(&directory)
        .arg("--container-pidfile")
        .arg(directory.join("pid"))
        .arg("--conmon-pidfile")
        .arg(directory.join("conmon.pid"))
        .arg("--exit-dir")
        .arg(paths.exits())
        .arg("--log-path")
        .arg(format!("k8s-file:{}", paths.log(name).display()))
        .args(["--log-size-max", &LOG_SIZE.to_string()])
        .arg("--runtime")
        .arg(crate::exec::find("crun")?);
    for word in crun_options(paths) {
        exec = exec.arg("--runtime-arg").arg(word);
    }
    Ok(exec)
}

/// Moves conmon out of our cgroup, lets it continue, and waits for its report.
fn handshake(
    cgroup: &str,
    child: &mut Child,
    (sync, start): (OwnedFd, OwnedFd),
    stop: &dyn Fn() -> bool,
) -> io::Result<Report> {
    // Otherwise conmon would end with the service or the session from which ezz was called.
    let moved = cgroup::enter(cgroup, child.id());
    let report = moved.and_then(|()| {
        File::from(start).write_all(b"x")?;
        let line = read_line(File::from(sync), stop)?;
        serde_json::from_slice(&line).map_err(io::Error::from)
    });
    if report.is_err() {
        child.kill()?;
    }
    // It has left behind a child that continues.
    if gone(child, GONE)?.is_none() {
        child.kill()?;
        return Err(io::ErrorKind::TimedOut.into());
    }
    report
}

/// Returns the first line from a pipe, if it comes within the time of `crun create`.
fn read_line(mut pipe: File, stop: &dyn Fn() -> bool) -> io::Result<Vec<u8>> {
    let begun = Instant::now();
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = CREATE.saturating_sub(begun.elapsed());
        if !readable(&pipe.as_fd(), left.min(ASK))? {
            if stop() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if left > ASK {
                continue;
            }
            let why = format!("no response within {} s", CREATE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        let count = pipe.read(&mut buffer)?;
        line.extend_from_slice(&buffer[..count]);
        if count == 0 && line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if count == 0 || line.contains(&b'\n') || line.len() as u64 > WORDS {
            return Ok(line);
        }
    }
}

/// Runs the bundle's command to its end, without conmon.
///
/// # Errors
/// [`HostError::Start`] with the last lines that it printed.
pub(super) fn run_once(
    paths: &Paths,
    name: &JailName,
    limit: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<(), HostError> {
    let watch = Watch {
        limit,
        stop,
        log: None,
    };
    let ended = watched(paths, name, watch, program("prepare", name))?;
    let why = match ended.status {
        Some(status) if status.success() => return Ok(()),
        Some(_) => plain(&ended.said),
        None => format!(
            "the command that prepares it did not end within {} s and was killed",
            limit.as_secs()
        ),
    };
    Err(HostError::Start {
        jail: name.clone(),
        why,
    })
}

/// Runs the bundle's command, without conmon and without input, until it ends or is to stop. Its output goes into a
/// log.
///
/// # Errors
/// [`HostError::Program`] if crun could not be started.
pub(super) fn run_watched(
    paths: &Paths,
    name: &JailName,
    watch: Watch<'_>,
) -> Result<Watched, HostError> {
    watched(paths, name, watch, program("run a command in", name))
}

fn watched(
    paths: &Paths,
    name: &JailName,
    watch: Watch<'_>,
    program: impl Fn(ExecError) -> HostError,
) -> Result<Watched, HostError> {
    let exec = crun(paths)
        .map_err(&program)?
        .args(["run", "--bundle"])
        .arg(paths.jail(name))
        .arg(paths.container(name));
    let run = || -> io::Result<Watched> {
        // All streams are pipes: see `null_to_root`.
        let mut child = exec
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        drop(child.stdin.take());
        // crun ends when its container has ended; the remains are removed afterwards.
        watch.over(&mut child, || cgroup::kill(&paths.cgroup(name)))
    };
    run().map_err(|source| {
        program(ExecError::Start {
            command: exec.shown(),
            source,
        })
    })
}

/// Lets the first process of a created container run.
///
/// # Errors
/// [`HostError::Start`] with crun's own message.
pub(super) fn start(
    paths: &Paths,
    name: &JailName,
    stop: &dyn Fn() -> bool,
) -> Result<(), HostError> {
    let program = program("start", name);
    let exec = crun_on(paths, name, &["start"]).map_err(&program)?;
    let ended = exec.ended_unless(stop).map_err(&program)?;
    if ended.status.success() {
        return Ok(());
    }
    Err(match plain(&String::from_utf8_lossy(&ended.stderr)) {
        why if why.is_empty() => program(exec.failed(ended.status, &ended.stderr)),
        why => HostError::Start {
            jail: name.clone(),
            why,
        },
    })
}

/// Sends a signal by its number to the first process, for signals that have no name in POSIX.
pub(super) fn kill(paths: &Paths, name: &JailName, signal: i32) -> Result<(), ExecError> {
    let kill = crun_on(paths, name, &["kill"])?;
    kill.arg(signal.to_string()).run().map(drop)
}

/// Removes crun's state of a container whose processes and cgroup no longer exist. It uses crun, which knows what
/// exists, and does without crun if that fails or does not end. A jail must be stopped whatever crun does.
pub(super) fn delete(paths: &Paths, name: &JailName) -> Result<(), HostError> {
    let state = paths.crun_state(name);
    if !state.exists() {
        return Ok(());
    }
    // Without it, the creation of the container was killed. crun then has only a directory, which it cannot read.
    let whole = state.join("status").exists();
    let delete = crun_on(paths, name, &["delete", "--force"]);
    let result = delete.and_then(|delete| delete.limit(DELETE).run());
    let Err(error) = result else {
        return Ok(());
    };
    if !state.exists() {
        return Ok(());
    }
    for left in paths::list(&state).map_err(file("list", &state))? {
        let left = state.join(left);
        fs::remove_file(&left).map_err(file("remove", &left))?;
    }
    fs::remove_dir(&state).map_err(file("remove", &state))?;
    if whole {
        paths.note(format!(
            "{name}: {error}; ezz has removed its container without crun"
        ));
    }
    Ok(())
}

/// Waits until a jail's conmon has ended. If it does not end, it is killed, together with a crun that it has started.
pub(super) fn end_conmon(paths: &Paths, name: &JailName, time: Duration) -> Result<(), HostError> {
    let pid = paths.jail(name).join("conmon.pid");
    let watcher = paths.watcher(name);
    let error = file("end the conmon of", &pid);
    if let Some(conmon) = Process::find(&pid, &watcher, |_| false).map_err(&error)? {
        conmon.wait(time).map_err(&error)?;
    }
    cgroup::remove(&watcher)
}

/// Ends a conmon that waits for the sign to continue, which will not come: the ezz that started it was killed before it
/// could move conmon into its cgroup.
pub(super) fn end_strays(paths: &Paths, name: &JailName) -> Result<(), HostError> {
    signal_all(paths, name, "/conmon", Signal::KILL)
}

/// Continues each `crun exec` that is suspended, as by Ctrl-Z in a shell. Each has started a process in the jail and
/// has to wait for its end; until it does, the kernel does not end the jail (`zap_pid_ns_processes` in Linux's
/// kernel/pid_namespace.c).
pub(super) fn wake_sessions(paths: &Paths, name: &JailName) -> Result<(), HostError> {
    signal_all(paths, name, "/crun", Signal::CONT)
}

/// Signals each process of a program that belongs to this jail.
fn signal_all(
    paths: &Paths,
    name: &JailName,
    program: &str,
    signal: Signal,
) -> Result<(), HostError> {
    let proc = Path::new("/proc");
    let container = paths.container(name);
    for pid in paths::list(proc).map_err(file("list", proc))? {
        let Ok(pid) = pid.parse::<u32>() else {
            continue;
        };
        let found = Process::of_container(pid, program, &container);
        if let Some(found) = found.map_err(file("look at", proc))? {
            found
                .signal(signal)
                .map_err(file("signal a process in", proc))?;
        }
    }
    Ok(())
}

/// Returns the last lines of the console's log, without conmon's stamps.
pub(super) fn log_tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(without_stamp).collect();
    printable(&lines[lines.len().saturating_sub(5)..].join("; "))
}

/// Removes the stamp of a line in conmon's format k8s-file, `TIME STREAM TAG TEXT`.
fn without_stamp(line: &str) -> &str {
    line.splitn(4, ' ').nth(3).unwrap_or(line)
}

/// Returns a message as one line, without the name and the time that crun and conmon put before it.
fn plain(message: &str) -> String {
    let lines: Vec<&str> = message
        .lines()
        .map(|line| {
            let line = line.trim();
            let words = line.strip_prefix("[conmon:e]: ").unwrap_or(line);
            match words.split_once(": ") {
                Some((time, rest)) if time.starts_with("20") && time.ends_with('Z') => rest,
                _ => words,
            }
        })
        .map(|line| line.strip_prefix("crun: ").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .collect();
    printable(&lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_their_decoration() {
        for (text, expected) in [
            ("crun: cannot open `x`\n", "cannot open `x`"),
            (
                "2026-11-25T00:17:59.555338Z: mount `a` to `b`: No such file\n",
                "mount `a` to `b`: No such file",
            ),
            ("[conmon:e]: Failed to open\ncrun: y\n", "Failed to open; y"),
            ("\u{1b}]0;title\u{7}\r\n", "]0;title"),
            ("\n", ""),
        ] {
            assert_eq!(plain(text), expected);
        }
    }

    #[test]
    fn the_log_is_shown_without_stamps() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let log = directory.path().join("x.log");
        assert_eq!(log_tail(&log), "");
        fs::write(
            &log,
            "2026-11-25T00:17:59.5+00:00 stderr F sh: not found\nodd\n",
        )
        .expect("written");
        assert_eq!(log_tail(&log), "sh: not found; odd");
    }
}
