//! Stopping a jail, and clearing away what it or a start that was killed left behind.
//!
//! Nothing here removes a directory with its contents: below it a jail's files may be mounted.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use ezz_zfs::mount::{MountError, unmount};
use oci_spec::runtime::Spec;
use rustix::process::Signal;

use super::bundle::OWN_INIT;
use super::paths::{self, Paths};
use super::process::{Process, signal_number};
use super::{cgroup, file, ids, runtime, state};
use crate::crash::point;
use crate::model::Changed;
use crate::name::JailName;
use crate::ports::HostError;
use crate::profile::Profile;

/// Until a jail without a profile is killed.
const PATIENCE: Duration = Duration::from_secs(10);

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
    profile: Option<&Profile>,
) -> Result<Changed, HostError> {
    let Some(init) = state::init(paths, name)? else {
        clear(paths, name)?;
        return Ok(Changed::Already);
    };
    let signal = profile.map_or("SIGTERM", |profile| {
        let stop = &profile.stop;
        match &stop.init_signal {
            Some(signal) if has_own_init(&paths.jail(name)) => signal,
            _ => &stop.signal,
        }
    });
    let mut patience = profile.map_or(PATIENCE, |p| Duration::from_secs(p.stop.timeout.into()));
    let number = signal_number(signal).ok_or_else(|| HostError::Parse {
        what: format!("the signal {signal} of the profile"),
        why: "no such signal".to_owned(),
    })?;
    // A jail whose creation was killed waits for a start that never comes, deaf to signals.
    if paths.started(name).exists() {
        match Signal::from_named_raw(number) {
            Some(signal) => send(&init, name, paths, signal)?,
            None => {
                if let Err(error) = runtime::kill(paths, name, number) {
                    // It was never asked: nothing to wait for.
                    patience = Duration::ZERO;
                    paths.note(format!("{name}: {error}; it was killed instead"));
                }
            }
        }
        if !wait(&init, name, paths, patience)? {
            send(&init, name, paths, Signal::KILL)?;
        }
    } else {
        send(&init, name, paths, Signal::KILL)?;
    }
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

/// Whether the jail was started with its world's own init.
fn has_own_init(bundle: &Path) -> bool {
    Spec::load(bundle.join("config.json")).is_ok_and(|spec| {
        let args = spec.process().as_ref().and_then(|p| p.args().as_ref());
        args.is_some_and(|args| args.first().is_some_and(|first| first != OWN_INIT))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_init_is_read_from_the_bundle() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert!(!has_own_init(directory.path()));
        let config = directory.path().join("config.json");
        for (args, own) in [
            (r#"["/sbin/init"]"#, true),
            (r#"["/dev/init", "--"]"#, false),
        ] {
            let text = format!(
                r#"{{"ociVersion": "1.0.2", "process": {{"user": {{}}, "cwd": "/", "args": {args}}}}}"#
            );
            fs::write(&config, text).expect("written");
            assert_eq!(has_own_init(directory.path()), own, "{args}");
        }
    }
}
