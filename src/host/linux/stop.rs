//! Stopping a jail, and clearing away what it or a start that was killed left behind.
//!
//! Nothing here removes a directory with its contents: below it a jail's files may be mounted.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ezz_zfs::mount::{MountError, unmount};
use rustix::process::Signal;

use super::ending::Processes;
use super::init::{self, Init};
use super::paths::{self, Paths};
use super::process::{Process, Seen, signal_number};
use super::{cgroup, file, ids, runtime, state};
use crate::crash::point;
use crate::model::{Changed, Killed};
use crate::name::JailName;
use crate::ports::{Asked, HostError, Stopping};

/// The signal that a jail without a profile gets.
const SIGNAL: &str = "SIGTERM";

/// How long the command that a jail without an init was started around may take at least, after the services.
const COMMAND: Duration = Duration::from_secs(5);

/// An init that has been the only process of its jail for so long after it was asked has done what it can: without
/// the right to reboot, most stay.
const ALONE: Duration = Duration::from_secs(6);

/// How long the kernel may take to end a killed jail.
const KILL: Duration = Duration::from_secs(30);

/// How long a jail usually takes from the end of its first process to its own.
const SOON: Duration = Duration::from_secs(1);

/// How long conmon may take to write the exit status of a jail that has ended.
const REPORT: Duration = Duration::from_secs(5);

/// How long a mount may stay busy after the last process has gone.
const BUSY: Duration = Duration::from_secs(10);

/// Stops a jail.
///
/// # Errors
/// See [`crate::ports::Host::stop`].
pub(super) fn stop(
    paths: &Paths,
    name: &JailName,
    how: Stopping<'_>,
) -> Result<Changed, HostError> {
    let Some(init) = state::init(paths, name)? else {
        clear(paths, name)?;
        // One that was asked has ended by itself.
        return Ok(match how.asked {
            Some(_) => Changed::Done,
            None => Changed::Already,
        });
    };
    // A jail whose creation was killed waits for a start that never comes, deaf to signals.
    if paths.started(name).exists() {
        let processes = Processes {
            paths,
            name,
            init: &init,
        };
        end(&processes, how)?;
    }
    point();
    send(&init, name, paths, Signal::KILL)?;
    if !wait(&init, name, paths, KILL)? {
        return Err(HostError::Timeout {
            jail: name.clone(),
            action: "end after it was killed",
            seconds: KILL.as_secs(),
        });
    }
    clear(paths, name)?;
    Ok(Changed::Done)
}

/// Asks a jail to end as its first process wants it, and does not wait.
///
/// # Errors
/// See [`crate::ports::Host::ask`].
pub(super) fn ask(
    paths: &Paths,
    name: &JailName,
    how: Stopping<'_>,
) -> Result<Option<Asked>, HostError> {
    match state::init(paths, name)? {
        Some(init) if paths.started(name).exists() => {
            let jail = Processes {
                paths,
                name,
                init: &init,
            };
            let kind = kind_of(&jail)?;
            ask_once(&jail, &kind, how)
        }
        Some(_) | None => Ok(None),
    }
}

/// Waits for a jail that was asked to end, or asks it first. Notes whom its time was too short for.
fn end(jail: &Processes<'_>, how: Stopping<'_>) -> Result<(), HostError> {
    let Processes { paths, name, .. } = *jail;
    let kind = kind_of(jail)?;
    let seconds = how.seconds(kind != Init::Own);
    let time = Duration::from_secs(seconds.into());
    let asked = match how.asked {
        Some(asked) => Some(asked.clone()),
        None => ask_once(jail, &kind, how)?,
    };
    let Some(asked) = asked else {
        return Ok(());
    };
    let killed = match kind {
        Init::Own => end_all(jail, signal_of(how), time, asked)?,
        Init::Systemd | Init::Other { .. } => end_init(jail, &kind, time, asked.at)?,
    };
    if !killed.is_empty() {
        paths.note(Killed::told(name, &killed, seconds.into()));
        paths.killed(name, killed);
    }
    Ok(())
}

fn kind_of(jail: &Processes<'_>) -> Result<Init, HostError> {
    let directory = jail.paths.jail(jail.name);
    Init::of(jail.init).map_err(file("look at the process of", &directory))
}

/// The name of the signal that asks a jail to end, if its init wants no other.
fn usual(how: Stopping<'_>) -> &str {
    how.profile.map_or(SIGNAL, |profile| &profile.stop.signal)
}

/// The signal for the processes of a jail without an init of its own.
fn signal_of(how: Stopping<'_>) -> Signal {
    let signal = signal_number(usual(how)).and_then(Signal::from_named_raw);
    signal.unwrap_or(Signal::TERM)
}

/// Asks those that are to be asked first: an init, which ends its services itself, or else all services; without any,
/// the command that the jail was started around. None if the init cannot be asked: there is nothing to wait for.
fn ask_once(
    jail: &Processes<'_>,
    kind: &Init,
    how: Stopping<'_>,
) -> Result<Option<Asked>, HostError> {
    let Processes { paths, name, init } = *jail;
    let mut asked = Asked {
        at: Instant::now(),
        processes: BTreeSet::new(),
        first: true,
    };
    if *kind == Init::Own {
        let signal = signal_of(how);
        asked.first = !jail.ask_services(signal, &mut asked.processes)?;
        if asked.first {
            // It passes the signal on to the command.
            send(init, name, paths, signal)?;
        }
        return Ok(Some(asked));
    }
    let text = kind.signal(usual(how));
    let number = signal_number(text).ok_or_else(|| HostError::Parse {
        what: format!("the signal {text} of the profile"),
        why: "no such signal".to_owned(),
    })?;
    match Signal::from_named_raw(number) {
        Some(signal) => send(init, name, paths, signal)?,
        None => {
            if let Err(error) = runtime::kill(paths, name, number) {
                paths.note(format!("{name}: {error}; it was killed instead"));
                return Ok(None);
            }
        }
    }
    Ok(Some(asked))
}

/// Without an init of its own: waits for all services, and asks those that come; then for the command that the jail was
/// started around.
fn end_all(
    jail: &Processes<'_>,
    signal: Signal,
    time: Duration,
    asked: Asked,
) -> Result<Vec<Killed>, HostError> {
    let Processes { paths, name, init } = *jail;
    let Asked {
        at,
        processes,
        first,
    } = asked;
    if !first {
        let services = jail.end(signal, at, time, processes)?;
        point();
        if !services.is_empty() {
            return Ok(services);
        }
        send(init, name, paths, signal)?;
    }
    let left = time.saturating_sub(at.elapsed()).max(COMMAND);
    if wait(init, name, paths, left)? {
        return Ok(Vec::new());
    }
    let init = init.pid;
    left_of(jail, |it| it.pid != init)
}

/// Waits for an init.
fn end_init(
    jail: &Processes<'_>,
    kind: &Init,
    time: Duration,
    asked: Instant,
) -> Result<Vec<Killed>, HostError> {
    let Processes { paths, name, init } = *jail;
    let slowly = matches!(kind, Init::Other { .. });
    let works = || -> Result<bool, HostError> {
        let all = jail.all()?;
        Ok(all.iter().any(|it| init::works(it, jail.init.pid)))
    };
    // The jail was asked before a worker was free to wait for it. It may have been alone for as long; one more look has
    // to confirm that.
    let mut alone = asked.elapsed().min(ALONE.saturating_sub(SOON * 2));
    loop {
        let left = time.saturating_sub(asked.elapsed());
        if left.is_zero() {
            let ended = init
                .wait(left)
                .map_err(file("wait for", &paths.jail(name)))?;
            // An init that never ends by itself, and whose services have ended, did what it was asked.
            return match ended || slowly && !works()? {
                true => Ok(Vec::new()),
                false => left_of(jail, |_| true),
            };
        }
        let slice = left.min(SOON * 2);
        if wait(init, name, paths, slice)? {
            return Ok(Vec::new());
        }
        let others = works()?;
        alone = if others {
            Duration::ZERO
        } else {
            alone + slice
        };
        if slowly && alone >= ALONE {
            return Ok(Vec::new());
        }
    }
}

/// Who has not ended.
fn left_of(jail: &Processes<'_>, counts: impl Fn(&Seen) -> bool) -> Result<Vec<Killed>, HostError> {
    let all = jail.all()?;
    let left = all.iter().filter(|it| counts(it));
    Ok(left.map(|it| Killed::new(it.pid, &it.name)).collect())
}

fn send(init: &Process, name: &JailName, paths: &Paths, signal: Signal) -> Result<(), HostError> {
    init.signal(signal)
        .map_err(file("signal the process of", &paths.jail(name)))
}

/// Waits for the end. A jail that does not get there, because somebody's session in it is suspended, is
/// helped.
fn wait(init: &Process, name: &JailName, paths: &Paths, time: Duration) -> Result<bool, HostError> {
    let directory = paths.jail(name);
    let failed = file("wait for the process of", &directory);
    let mut left = time;
    loop {
        let now = left.min(SOON);
        if init.wait(now).map_err(&failed)? {
            return Ok(true);
        }
        left -= now;
        if left.is_zero() {
            return Ok(false);
        }
        if init.is_ending().map_err(&failed)? {
            // Once: it looks through all processes of the host.
            runtime::wake_sessions(paths, name)?;
            return init.wait(left).map_err(&failed);
        }
    }
}

/// Forgets a stopped jail.
///
/// # Errors
/// See [`crate::ports::Host::forget`].
pub(super) fn forget(paths: &Paths, name: &JailName) -> Result<Changed, HostError> {
    if state::init(paths, name)?.is_some() {
        return Err(HostError::Running(name.clone()));
    }
    let log = paths.log(name);
    let mut removed = clear(paths, name)?;
    removed |= forget_exit(paths, name)?;
    removed |= paths::remove(&log).map_err(file("remove", &log))?;
    Ok(if removed {
        Changed::Done
    } else {
        Changed::Already
    })
}

/// Removes the exit status of an earlier run.
pub(super) fn forget_exit(paths: &Paths, name: &JailName) -> Result<bool, HostError> {
    let exit = paths.exit(name);
    paths::remove(&exit).map_err(file("remove", &exit))
}

/// Kills what is left of a jail and undoes all that a start makes, whatever of it is there; keeps
/// the exit status and the log. False if there was nothing.
pub(super) fn clear(paths: &Paths, name: &JailName) -> Result<bool, HostError> {
    let directory = paths.jail(name);
    let mut found = directory.exists() || paths.crun_state(name).exists();
    if let Some(init) = state::init(paths, name)? {
        send(&init, name, paths, Signal::KILL)?;
        wait(&init, name, paths, KILL)?;
    }
    // All of it, also what has no first process any more; conmon sees the end of it.
    cgroup::kill(&paths.cgroup(name));
    point();
    // It writes the exit status before it ends.
    runtime::end_conmon(paths, name, REPORT)?;
    if found && !paths.started(name).exists() {
        runtime::end_strays(paths, name)?;
    }
    point();
    // Before crun is asked to: a jail can nest cgroups so deep that `crun delete` does not end.
    cgroup::remove(&paths.cgroup(name))?;
    point();
    runtime::delete(paths, name)?;
    for at in [paths.cache(name), paths.base(name), paths.root(name)] {
        point();
        detach(&at, name)?;
    }
    point();
    let slots = paths.ids();
    ids::free(&slots, &paths.owner(name)).map_err(file("free the ids in", &slots))?;
    for left in paths::list(&directory).map_err(file("list", &directory))? {
        point();
        let left = directory.join(left);
        found = true;
        // Sockets, pipes and files; both mount points are gone.
        paths::remove(&left).map_err(file("remove", &left))?;
    }
    point();
    match fs::remove_dir(&directory) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(found),
        Err(e) => Err(file("remove", &directory)(e)),
    }
}

/// Unmounts a mount point and removes it. Never lazily: the dataset would stay busy, invisibly.
fn detach(at: &Path, name: &JailName) -> Result<(), HostError> {
    let failed = |source| HostError::Mount {
        action: "unmount the files",
        jail: name.to_string(),
        source,
    };
    let mut pause = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while at.exists() {
        match unmount(at) {
            // There may be one more below it, of a start that was killed.
            Ok(()) => {}
            Err(MountError::NotMounted { .. }) => {
                return fs::remove_dir(at).map_err(file("remove", at));
            }
            Err(MountError::Busy { .. }) if waited < BUSY => {
                sleep(pause);
                waited += pause;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
            Err(other) => return Err(failed(other)),
        }
    }
    Ok(())
}
