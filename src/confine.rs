//! Giving up, in a process that works on what a jail wrote, all that this work does not need.
//!
//! What stays is reading and writing the open descriptors, memory and processor time, both bounded.
//! There is no way back, so only a process that does nothing else calls this.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use thiserror::Error;

/// Bytes of address space: three texts of a mebibyte and the tables to compare them take a tenth.
const MEMORY: u64 = 512 << 20;

/// Seconds of processor time, over all that the process is asked.
const PROCESSOR: u64 = 120;

/// Owner of no file, by its number on both systems: a lookup by name would read the host's accounts.
const NOBODY: u32 = 65534;

/// A right could not be given up.
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

/// Confines this process. Root becomes nobody; a process that is not root stays who it is. Landlock, where
/// the kernel has it (Linux 5.13), forbids files and sockets; without it an unprivileged user's rights to
/// other users' files remain.
///
/// # Errors
/// [`ConfineError`]: the process has more rights than it should, and must end.
pub fn confine() -> Result<(), ConfineError> {
    if nix::unistd::geteuid().is_root() {
        become_nobody().map_err(failed("become nobody"))?;
    }
    forbid_files_and_sockets()?;
    let limits = [
        (Resource::As, MEMORY),
        (Resource::Cpu, PROCESSOR),
        // No file grows, none is opened, no process is started, no core is written.
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
    // The newest rules that this kernel knows, of those.
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
