//! What users can do about errors of hosts and of ZFS.

use super::{HostError, PortError};
use crate::exec::ExecError;
use crate::hint::{self, Hint};
use crate::profile::Os;
use crate::text::quoted;

impl Hint for HostError {
    fn hint(&self) -> Option<String> {
        match self {
        HostError::Missing { hint, .. }
        | HostError::Account { hint, .. }
        | HostError::Taken { hint, .. } => Some(hint.clone()),
        HostError::NoCommand { jail, command, .. } if command.contains(char::is_whitespace) => {
            Some(format!(
                "`ezz exec {jail} -- {command}`: the command and its arguments are separate words; for a shell command line, `ezz exec {jail} -- sh -c {}`",
                quoted(command)
            ))
        }
        HostError::NoCommand { command, why, .. } if why.contains("capabilities") => Some(format!(
            "`ezz update --run sh -c 'setcap -r \"$(command -v {command})\"'` removes them from a file of the basejail"
        )),
        HostError::NoCommand { .. } => None,
        HostError::Foreign { needs, .. } => Some(format!(
            "it can start on a host with {needs}: move the pool there, or create a jail of a world of this host's system"
        )),
        HostError::Running(name) => Some(format!("`ezz stop {name}`")),
        HostError::NotRunning(name) => Some(format!("`ezz start {name}`")),
        // This path exists only on Linux. The next stop continues the removal where this one failed.
        HostError::File { path, .. } if path.starts_with("/sys/fs/cgroup") => Some(format!(
            "`find {} -name cgroup.procs -exec cat {{}} +` lists the processes that keep it; stop the jail again when they have ended",
            path.display()
        )),
        HostError::File { path, source, .. } => hint::file_failed(path, source),
        HostError::Mount {
            source: ezz_zfs::MountError::Busy { at, .. },
            ..
        } => Some(hint::users_of_mount(at, Os::THIS)),
        HostError::Timeout { .. } => Some(
            "`ps` shows what it waits for: a device, or a process of the host that has started one in it and is suspended; then stop it again".to_owned(),
        ),
        HostError::Start { .. } => Some("`ezz doctor` checks what the host has".to_owned()),
        HostError::Program { source, .. } => source.hint(),
        HostError::Ended(name) => Some(format!("`ezz start {name}` starts it again")),
        HostError::Command { .. }
        | HostError::Mount { .. }
        | HostError::Unwell { .. }
        | HostError::Parse { .. } => None,
    }
    }
}

impl Hint for PortError {
    fn hint(&self) -> Option<String> {
        use ezz_zfs::program::Why;
        match self {
        PortError::Open(inner) => Some(inner.hint().to_owned()),
        PortError::Busy { at, .. } => Some(hint::users_of_mount(at, Os::THIS)),
        PortError::Occupied { at, .. } => Some(format!(
            "unmount what is at {}, or is it another site's directory?",
            at.display()
        )),
        PortError::Covered { at, .. } => Some(format!("`umount {}` first", at.display())),
        PortError::Stale { .. } => Some("other commands have changed the site; run the command again".to_owned()),
        PortError::Refused { reason, .. } => match reason {
            Why::Space => Some("free space in the pool".to_owned()),
            Why::Busy => {
                Some("a process on this host uses it; unmount it, or stop that process".to_owned())
            }
            _ => Some("`ezz doctor` reports more".to_owned()),
        },
        PortError::Failed { why, .. } => ["ENOSPC", "EDQUOT"]
            .into_iter()
            .find(|name| why.contains(name))
            .and_then(hint::errno)
            .or_else(|| Some("`ezz doctor` shows the current state".to_owned())),
        PortError::Program {
            source: ezz_zfs::ProgramError::Suspended { pool },
            ..
        } => Some(hint::pool_suspended(pool)),
        PortError::Program { source, .. } => source.hint().map(str::to_owned),
        PortError::Command { source, .. } => match source {
            ExecError::NotFound(_) => {
                Some(hint::missing_program(Os::THIS, "install OpenZFS's own programs (on Debian: zfsutils-linux)"))
            }
            ExecError::Failed { stderr, .. } if stderr.contains("suspended") => {
                let dataset = stderr.split('\'').nth(1).unwrap_or("POOL");
                Some(hint::pool_suspended(dataset))
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
            Some(hint::pool_suspended(&error.dataset))
        }
        PortError::Call(error) => error.errno.name().and_then(hint::errno),
        PortError::Directory { path, source } => hint::file_failed(path, source),
        PortError::Parse { .. } => {
            Some("`zfs get -r -s local all` shows it, and `zfs inherit` removes it".to_owned())
        }
        PortError::Mount { .. } | PortError::Property { .. } => None,
    }
    }
}
