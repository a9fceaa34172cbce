//! Removes the rights that a process does not need from a process that works on what a jail wrote.
//!
//! The process can still read and write its open descriptors, and use a bounded amount of memory and processor time. It
//! cannot get the other rights back, so this is only for a process that does nothing else.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use thiserror::Error;

/// The address space, in bytes. Three texts of a mebibyte, and the tables to compare them, take a tenth of this.
const MEMORY: u64 = 512 << 20;

/// The processor time in seconds, for all requests to the process.
const PROCESSOR: u64 = 120;

/// A user that owns no files. It is a number, the same on both systems, because a look-up by name would read the host's
/// accounts.
const NOBODY: u32 = 65534;

/// The error for a right that could not be removed.
#[derive(Debug, Error)]
#[error("cannot {action}: {source}")]
pub struct ConfineError {
    action: &'static str,
    source: io::Error,
}

fn failed<E: Into<io::Error>>(action: &'static str) -> impl Fn(E) -> ConfineError {
    move |source| ConfineError {
        action,
        source: source.into(),
    }
}

/// Confines this process. Root becomes nobody; the user of any other process stays the same. Landlock forbids files and
/// sockets where the kernel has it (Linux 5.13). Without it, the process keeps an unprivileged user's rights to the
/// files of other users.
///
/// # Errors
/// Returns [`ConfineError`] if the process still has more rights than it should. It must then end.
pub fn confine() -> Result<(), ConfineError> {
    if nix::unistd::geteuid().is_root() {
        become_nobody().map_err(failed("become nobody"))?;
    }
    forbid_files_and_sockets()?;
    let limits = [
        (Resource::As, MEMORY),
        (Resource::Cpu, PROCESSOR),
        // The process cannot extend a file, open one, start a process or write a core.
        (Resource::Fsize, 0),
        (Resource::Nofile, 0),
        (Resource::Nproc, 0),
        (Resource::Core, 0),
    ];
    for (resource, most) in limits {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).map_err(failed("set a resource limit"))?;
    }
    Ok(())
}

fn become_nobody() -> nix::Result<()> {
    let (uid, gid) = (
        nix::unistd::Uid::from_raw(NOBODY),
        nix::unistd::Gid::from_raw(NOBODY),
    );
    nix::unistd::setgroups(&[gid])?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)
}

#[cfg(target_os = "linux")]
fn forbid_files_and_sockets() -> Result<(), ConfineError> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope,
    };
    rustix::thread::set_no_new_privs(true).map_err(failed("forbid new privileges"))?;
    // With `BestEffort`, landlock uses those of these rules that the kernel knows.
    let abi = ABI::V6;
    let forbid = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .restrict_self()
    };
    forbid()
        .map(drop)
        .map_err(|error| failed("use landlock")(io::Error::other(error)))
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "Linux can fail here")]
fn forbid_files_and_sockets() -> Result<(), ConfineError> {
    Ok(())
}
