//! The hint of each error: what to do about it.

mod plan;

use std::error::Error;
use std::path::Path;

use ezz_zfs::mount::MountError;

use self::plan::{obstacle_hint, plan_hint, spec_hint};
use super::CliError;
use crate::apply::ApplyError;
use crate::config::ConfigError;
use crate::exec::ExecError;
use crate::host::THIS;
use crate::lock::{Holder, LockError};
use crate::model::GenerationError;
use crate::name::NameError;
use crate::observe::ObserveError;
use crate::plan::PlanError;
use crate::ports::{HostError, PortError};
use crate::profile::Os;
use crate::release::ReleaseError;
use crate::session::SessionError;
use crate::world::{WorldError, damage_hint};

/// The hints of an error and its causes, from the outermost that has one.
pub fn hints_of(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut current = Some(error);
    while let Some(found) = current {
        if let Some(hint) = hint(found) {
            return vec![hint];
        }
        current = found.source();
    }
    Vec::new()
}

fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    // A transparent wrapper hides what it wraps from source(): it is opened here.
    if let Some(error) = error.downcast_ref::<CliError>() {
        return match error {
            CliError::NotRoot => Some("run it with sudo or doas".to_owned()),
            CliError::Usage { hint, .. } => Some(hint.clone()),
            CliError::NotConfirmed { command, .. } => command
                .as_ref()
                .map(|command| format!("`{command} --yes` does it; --dry-run shows what it would do")),
            CliError::Secrets { .. } => Some(
                "remove them from the world, or install with --allow-secrets if every jail may have them".to_owned(),
            ),
            CliError::Fleet { .. } => {
                Some("`ezz help apply` describes fleet files".to_owned())
            }
            CliError::FleetFile { source, .. } => {
                use std::io::ErrorKind;
                let kind = source.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                Some(match kind {
                    Some(ErrorKind::NotFound) => {
                        "give the path of a fleet file, or - for standard input; `ezz list --fleet NAME > NAME.toml` writes one of the jails that are there".to_owned()
                    }
                    Some(ErrorKind::IsADirectory) => "give a file of it".to_owned(),
                    Some(ErrorKind::InvalidData) => "a fleet file is TOML, in UTF-8".to_owned(),
                    _ => "`ezz help apply` describes fleet files".to_owned(),
                })
            }
            CliError::Address(_) => Some("for example 192.0.2.7/24 or em0|2001:db8::7/64".to_owned()),
            CliError::Release { source, .. } => Some(of_release(source)),
            CliError::Name(inner) => hint(inner),
            CliError::BadNames(all) => all.first().map(|first| first.hint().to_owned()),
            CliError::NoneSuch(_) => Some("`ezz list` shows them all".to_owned()),
            CliError::Config(ConfigError::Parse { defaults: true, .. }) => {
                Some("for example: defaults = { memory = \"2G\", processes = 2000, quota = \"none\" }".to_owned())
            }
            CliError::Config(_) => {
                Some("for example: site = \"tank/ezz\"; the file may also have a table [defaults], and without the file the only site is meant".to_owned())
            }
            CliError::Observe(inner) => hint(inner),
            CliError::Session(inner) => hint(inner),
            CliError::Apply(inner) => hint(inner),
            CliError::Plan(inner) => hint(inner),
            CliError::Zfs(inner) => hint(inner),
            CliError::Host(inner) => hint(inner),
            CliError::Jail { source, .. } => source.hint.clone(),
            CliError::Lock(inner) => hint(inner),
            CliError::Generation(inner) => hint(inner),
            CliError::Tampered { generation, .. } => Some(format!(
                "`ezz worlds verify --repair {generation}` rolls its base back to its snapshot"
            )),
            CliError::Updater { log, .. } => Some(format!("all that it printed is in {log}")),
            CliError::RolloutInterrupted(track) => plan_hint(&PlanError::RolloutUnderWay(track.clone())),
            CliError::Kept { .. } => {
                Some("the same command goes on; another one clears them away".to_owned())
            }
            CliError::Damaged { .. } => Some("send it again from where it is whole".to_owned()),
            CliError::Foreign { host, .. } => Some(format!(
                "install a world of {host}; --foreign takes this one for a pool that moves to another host"
            )),
            CliError::OtherProfile { .. } => Some(
                "`ezz install SOURCE --track NAME` takes it for a track of its own".to_owned(),
            ),
            CliError::Undo { .. } => Some("`ezz doctor --repair` clears it away".to_owned()),
            CliError::RolledBack { jail, .. } => Some(format!("`ezz merge {jail}` brings them on again")),
            CliError::Obstacles { jail, obstacles } => obstacles.first().map(|first| obstacle_hint(jail, first)),
            CliError::World { .. }
            | CliError::Verify { .. }
            | CliError::Merge { .. }
            | CliError::Conflicts { .. }
            | CliError::Write { .. }
            | CliError::Output(_)
            | CliError::Interrupted => None,
            CliError::Read { .. } => Some(
                "the file has one name a line, or names separated by NUL; - is standard input".to_owned(),
            ),
        };
    }
    if let Some(error) = error.downcast_ref::<SessionError>() {
        return match error {
            SessionError::Lock(inner) => hint(inner),
            SessionError::Interrupted { changed, .. } => {
                changed.then(|| "the same command does the rest".to_owned())
            }
            SessionError::Observe(inner) => hint(inner),
            SessionError::Host(inner) => hint(inner),
            SessionError::Plan(inner) => hint(inner),
            SessionError::Apply(inner) => hint(inner),
        };
    }
    if let Some(error) = error.downcast_ref::<ApplyError>() {
        return match error {
            ApplyError::Zfs(inner) => hint(inner),
            ApplyError::Host(inner) => hint(inner),
            ApplyError::World(inner) => hint(inner),
            ApplyError::Spec(inner) => spec_hint(inner),
            ApplyError::StartEnded { jail, .. } | ApplyError::Interrupted(jail) => {
                Some(format!("`ezz start {jail}` starts it again"))
            }
            ApplyError::File { path, source, .. } => full(path, source),
        };
    }
    if let Some(error) = error.downcast_ref::<NameError>() {
        return Some(error.hint().to_owned());
    }
    if let Some(error) = error.downcast_ref::<WorldError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<LockError>() {
        return match error {
            LockError::Held { holder, .. } => Some(match holder {
                Some(Holder { pid, .. }) => format!(
                    "`ps -o pid,etime,args -p {pid}` shows what it does; --wait SECONDS waits longer"
                ),
                None => "try again, or wait longer with --wait SECONDS".to_owned(),
            }),
            LockError::File { path, source, .. } => full(path, source),
            LockError::Interrupted { .. } => None,
        };
    }
    if let Some(error) = error.downcast_ref::<ObserveError>() {
        return observe_hint(error);
    }
    if let Some(error) = error.downcast_ref::<PlanError>() {
        return plan_hint(error);
    }
    if let Some(error) = error.downcast_ref::<PortError>() {
        return port_hint(error);
    }
    if let Some(error) = error.downcast_ref::<HostError>() {
        return host_hint(error);
    }
    if let Some(error) = error.downcast_ref::<ExecError>() {
        return exec_hint(error);
    }
    if error.is::<GenerationError>() {
        return Some("`ezz worlds list` shows the generations".to_owned());
    }
    None
}

fn observe_hint(error: &ObserveError) -> Option<String> {
    match error {
        ObserveError::NoDataset(_) | ObserveError::NotASite(_) | ObserveError::NoSite => Some(
            "`ezz init POOL/NAME` makes a site; --site names one; is its pool imported?".to_owned(),
        ),
        ObserveError::SeveralSites(_) => {
            Some("name one with --site, EZZ_SITE or in the configuration".to_owned())
        }
        ObserveError::BadId { site, .. } => {
            let new = match cfg!(target_os = "linux") {
                true => "cat /proc/sys/kernel/random/uuid",
                false => "uuidgen",
            };
            Some(format!(
                "set the one that it had; if no jail of it runs, a new one will do: `zfs set ezz:id=$({new}) {site}`"
            ))
        }
        ObserveError::Model { .. } => {
            Some("`zfs get all` shows it; was it edited by hand?".to_owned())
        }
        ObserveError::Zfs { source, .. } => port_hint(source),
        ObserveError::Name(inner) => Some(inner.hint().to_owned()),
    }
}

fn port_hint(error: &PortError) -> Option<String> {
    use ezz_zfs::program::Why;
    match error {
        PortError::Open(inner) => Some(inner.hint().to_owned()),
        PortError::Busy { at, .. } => Some(users_of(at, THIS)),
        PortError::Occupied { at, .. } => Some(format!(
            "unmount what is at {}, or is it another site's directory?",
            at.display()
        )),
        PortError::Covered { at, .. } => Some(format!("`umount {}` first", at.display())),
        PortError::Stale { .. } => Some("other commands are at work: run it again".to_owned()),
        PortError::Refused { reason, .. } => match reason {
            Why::Space => Some("free space in the pool".to_owned()),
            Why::Busy => {
                Some("something on this host uses it; unmount it, or stop what uses it".to_owned())
            }
            _ => Some("`ezz doctor` tells more".to_owned()),
        },
        PortError::Failed { why, .. } => ["ENOSPC", "EDQUOT"]
            .into_iter()
            .find(|name| why.contains(name))
            .and_then(errno_hint)
            .or_else(|| Some("`ezz doctor` tells what is there now".to_owned())),
        PortError::Program {
            source: ezz_zfs::ProgramError::Suspended { pool },
            ..
        } => Some(suspended(pool)),
        PortError::Program { source, .. } => source.hint().map(str::to_owned),
        PortError::Command { source, .. } => match source {
            ExecError::NotFound(_) => {
                Some(program_of(THIS, "install OpenZFS's own programs (on Debian: zfsutils-linux)"))
            }
            ExecError::Failed { stderr, .. } if stderr.contains("suspended") => {
                let dataset = stderr.split('\'').nth(1).unwrap_or("POOL");
                Some(suspended(dataset))
            }
            ExecError::TimedOut { .. } => Some(
                "`zpool status -x` shows whether a device of the pool is the reason; then run the command again".to_owned(),
            ),
            ExecError::Failed { .. }
            | ExecError::Start { .. }
            | ExecError::Flooded { .. }
            | ExecError::Stopped { .. }
            | ExecError::Open { .. } => None,
        },
        PortError::Call(error) if error.errno.name() == Some("EAGAIN") => {
            Some(suspended(&error.dataset))
        }
        PortError::Call(error) => error.errno.name().and_then(errno_hint),
        PortError::Directory { path, source } => full(path, source),
        PortError::Parse { .. } => {
            Some("`zfs get -r -s local all` shows it, and `zfs inherit` takes it away".to_owned())
        }
        PortError::Mount { .. } | PortError::Property { .. } => None,
    }
}

/// How the processes are found that use what is mounted at a directory. fuser(1) of FreeBSD has other options
/// than that of Linux.
fn users_of(at: &Path, os: Os) -> String {
    let at = at.display();
    match os {
        Os::Linux => format!("`fuser -vm {at}` lists the processes that use it"),
        Os::FreeBsd => format!("`fstat -f {at}` lists the processes that use it"),
    }
}

/// Who else may vouch for a release; the port is FreeBSD's.
fn unvouched(os: Os) -> &'static str {
    match os {
        Os::Linux => "use an https mirror, or give --sha256",
        Os::FreeBsd => {
            "use an https mirror, install misc/freebsd-release-manifests, or give --sha256"
        }
    }
}

/// What to do for want of a program.
fn program_of(os: Os, install: &str) -> String {
    match os {
        Os::Linux => install.to_owned(),
        Os::FreeBsd => "it is part of FreeBSD's base system: this installation lacks it".to_owned(),
    }
}

fn exec_hint(error: &ExecError) -> Option<String> {
    match error {
        ExecError::NotFound(program) => Some(program_of(
            THIS,
            &format!("install the package that has {program}"),
        )),
        ExecError::TimedOut {
            left: Some(pid), ..
        } => Some(format!(
            "`ps -o pid,stat,wchan,args -p {pid}` shows what it waits for; run the command again when it has ended"
        )),
        ExecError::TimedOut { left: None, .. } => Some(
            "run the command again; if that does not help, `ezz doctor` checks what the host has"
                .to_owned(),
        ),
        ExecError::Failed { .. }
        | ExecError::Start { .. }
        | ExecError::Flooded { .. }
        | ExecError::Stopped { .. }
        | ExecError::Open { .. } => None,
    }
}

/// What goes on with the pool of a dataset or snapshot that is suspended after I/O errors.
fn suspended(dataset: &str) -> String {
    let pool = dataset.split(['/', '@']).next().unwrap_or(dataset);
    format!(
        "`zpool status {pool}` shows which device failed; bring it back, then `zpool clear {pool}`: commands that wait for the pool go on"
    )
}

/// What to do about a pool or quota that is full, or cannot be written.
fn errno_hint(name: &str) -> Option<String> {
    let hint = match name {
        "ENOSPC" => {
            "the pool is full: `zfs list -o space` tells of what; `zfs destroy` of a snapshot gives space back where removing files is refused"
        }
        "EDQUOT" => "a quota is used up: `zfs get -r quota,refquota` tells which",
        "EEXIST" | "EBUSY" => "`ezz doctor` tells what is there now",
        "EROFS" => "it is read-only: `zpool get readonly` and `zfs get readonly` tell why",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about a file that could not be written. It may lie in the pool or in another file system, such as
/// /run, which is memory.
fn full(path: &Path, error: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind;
    let directory = path.parent().unwrap_or(path).display();
    if let Some(hint) = damage_hint(error) {
        return Some(hint);
    }
    match error.kind() {
        ErrorKind::StorageFull => {
            let mut hint = format!(
                "the file system that holds {directory} is full: `df -h {directory}` shows which one, `df -i {directory}` whether it has no inodes left"
            );
            // Of a pool df does not tell what takes the room, such as snapshots.
            if !["/run", "/var/run"]
                .iter()
                .any(|memory| path.starts_with(memory))
            {
                hint += "; of a pool, `zfs list -o space`";
            }
            Some(hint)
        }
        ErrorKind::QuotaExceeded => errno_hint("EDQUOT"),
        ErrorKind::ReadOnlyFilesystem => Some(format!(
            "the file system that holds {directory} is read-only: `findmnt -T {directory}` or `mount` shows it"
        )),
        _ => None,
    }
}

fn host_hint(error: &HostError) -> Option<String> {
    match error {
        HostError::Missing { hint, .. }
        | HostError::Account { hint, .. }
        | HostError::Taken { hint, .. } => Some(hint.clone()),
        HostError::NoCommand { jail, command, .. } if command.contains(char::is_whitespace) => {
            Some(format!(
                "`ezz exec {jail} -- {command}`: the command and its arguments are words of their own; for a line of a shell, `ezz exec {jail} -- sh -c {}`",
                super::quoted(command)
            ))
        }
        HostError::NoCommand { command, why, .. } if why.contains("capabilities") => Some(format!(
            "`ezz update --run sh -c 'setcap -r \"$(command -v {command})\"'` takes them from a file of the basejail"
        )),
        HostError::NoCommand { .. } => None,
        HostError::Foreign { needs, .. } => Some(format!(
            "it can start on a host with {needs}: move the pool there, or create a jail of a world of this host's system"
        )),
        HostError::Running(name) => Some(format!("`ezz stop {name}`")),
        HostError::NotRunning(name) => Some(format!("`ezz start {name}`")),
        // Where Linux has them; a removal goes on where the last one had to stop.
        HostError::File { path, .. } if path.starts_with("/sys/fs/cgroup") => Some(format!(
            "`find {} -name cgroup.procs -exec cat {{}} +` lists the processes that keep it; stop the jail again when they have ended",
            path.display()
        )),
        HostError::File { path, source, .. } => full(path, source),
        HostError::Mount {
            source: MountError::Busy { at, .. },
            ..
        } => Some(users_of(at, THIS)),
        HostError::Timeout { .. } => Some(
            "`ps` shows what it waits for: a device, or a process of the host that has started one in it and is suspended; then stop it again".to_owned(),
        ),
        HostError::Start { .. } => Some("`ezz doctor` checks what the host has".to_owned()),
        HostError::Program { source, .. } => exec_hint(source),
        HostError::Ended(name) => Some(format!("`ezz start {name}` starts it again")),
        HostError::Command { .. }
        | HostError::Mount { .. }
        | HostError::Unwell { .. }
        | HostError::Parse { .. } => None,
    }
}

fn of_release(error: &ReleaseError) -> String {
    match error {
        ReleaseError::NotThere { .. } => {
            "is there such a release for this architecture? Old ones are kept elsewhere: --mirror"
                .to_owned()
        }
        ReleaseError::Fetch { .. } => {
            "try again, which goes on where it broke off, or another --mirror".to_owned()
        }
        ReleaseError::NoSet { .. } => "name one that is there with --set".to_owned(),
        ReleaseError::Unvouched { .. } => unvouched(THIS).to_owned(),
        ReleaseError::Manifest { .. } => {
            "is it the directory of releases? try another --mirror".to_owned()
        }
        ReleaseError::Disagree { .. } | ReleaseError::Digest { .. } => {
            "do not trust this mirror: use another, or fetch the file again".to_owned()
        }
        ReleaseError::File { .. } | ReleaseError::Interrupted => {
            "what has been fetched is kept for the next try".to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
