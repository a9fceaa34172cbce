//! The host's ids for the users of jails: 65536 for each running jail, from a range that no other program uses, and a
//! user namespace that maps them.
//!
//! A slot is a link `RUN/ids/SLOT -> SITE/JAIL`. One system call creates it, so it never exists without its owner. It
//! belongs to the jail until the jail's remains are removed. A jail that already has a slot, because its start was
//! killed, gets the same slot again. All slots are gone after a reboot.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::process::readable;
use crate::exec::{Exec, ExecError, GONE, LIMIT, gone};

/// The number of ids of one jail.
pub(super) const COUNT: u32 = 65_536;

/// From here to the foreign ids, no other program takes any: docs/UIDS-GIDS.md of systemd.
const FIRST: u32 = 0x7000_0000;
const SLOTS: u32 = 0x0FFE;

/// The range of a jail's ids on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdRange(u32);

impl IdRange {
    /// Returns the range of a slot; none if there is no such slot.
    pub(super) fn from_slot(slot: u32) -> Option<Self> {
        (slot < SLOTS).then_some(IdRange(slot))
    }

    /// Returns the host's id of the jail's root.
    pub(super) fn first(self) -> u32 {
        FIRST + self.0 * COUNT
    }
}

/// Takes a slot for `owner`, and prefers one that it already has; none if all slots are taken.
pub(super) fn take(directory: &Path, owner: &str) -> io::Result<Option<IdRange>> {
    fs::create_dir_all(directory)?;
    let links = links(directory)?;
    if let Some((slot, _)) = links.iter().find(|(_, of)| of == Path::new(owner)) {
        return Ok(IdRange::from_slot(*slot));
    }
    // A jail mostly gets the same ids again, which makes the host's listings easier to follow.
    let first = hash(owner) % SLOTS;
    for slot in (first..SLOTS).chain(0..first) {
        if links.iter().any(|(taken, _)| *taken == slot) {
            continue;
        }
        match std::os::unix::fs::symlink(owner, directory.join(slot.to_string())) {
            Ok(()) => return Ok(IdRange::from_slot(slot)),
            // Another start has taken it since the look.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// Returns the owners of slots whose names begin with a prefix, without the prefix.
pub(super) fn owners(directory: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let links = links(directory)?.into_iter();
    Ok(links
        .filter_map(|(_, of)| Some(of.to_str()?.strip_prefix(prefix)?.to_owned()))
        .collect())
}

/// Returns the owner of the slot that contains an id of the host; none if no slot does.
pub(super) fn owner_of(directory: &Path, id: u32) -> Option<String> {
    let slot = id.checked_sub(FIRST)? / COUNT;
    let range = IdRange::from_slot(slot)?;
    let owner = fs::read_link(directory.join(range.0.to_string())).ok()?;
    owner.to_str().map(str::to_owned)
}

/// Frees the slots of `owner`.
pub(super) fn free(directory: &Path, owner: &str) -> io::Result<()> {
    for (slot, of) in links(directory)? {
        if of == Path::new(owner) {
            fs::remove_file(directory.join(slot.to_string()))?;
        }
    }
    Ok(())
}

fn links(directory: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut links = Vec::new();
    for entry in entries {
        let entry = entry?;
        let slot = entry.file_name().to_str().and_then(|s| s.parse().ok());
        // A link that cannot be read was freed since, or is not ezz's.
        if let (Some(slot), Ok(owner)) = (slot, fs::read_link(entry.path())) {
            links.push((slot, owner));
        }
    }
    Ok(links)
}

fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// A user namespace that maps a range. A process keeps it until this value is dropped.
#[derive(Debug)]
pub(super) struct UserNamespace {
    /// An open /proc/PID/ns/user.
    pub fd: OwnedFd,
    helper: Child,
}

impl UserNamespace {
    /// Creates a user namespace. Mounts that were made with it stay when it ends.
    pub(super) fn new(ids: IdRange) -> Result<Self, NamespaceError> {
        // The helper becomes cat only after it has left the host's namespace, which its echo shows.
        let exec = Exec::new("unshare")?
            .args(["--user", "--"])
            .arg(crate::exec::find("cat")?);
        let mut helper = exec
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| ExecError::Start {
                command: exec.shown(),
                source,
            })?;
        match open(&mut helper, ids) {
            Ok(fd) => Ok(UserNamespace { fd, helper }),
            Err(source) => {
                end(&mut helper);
                Err(NamespaceError::Map(source))
            }
        }
    }
}

/// The error for a user namespace that could not be created.
#[derive(Debug, thiserror::Error)]
pub(super) enum NamespaceError {
    /// The process that keeps it failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Its maps could not be written.
    #[error("cannot map ids in a user namespace")]
    Map(#[source] io::Error),
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        end(&mut self.helper);
    }
}

fn open(helper: &mut Child, ids: IdRange) -> io::Result<OwnedFd> {
    let (Some(input), Some(output)) = (&mut helper.stdin, &mut helper.stdout) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    input.write_all(b"x")?;
    if !readable(&*output, LIMIT)? {
        let why = format!("its helper did not answer within {} s", LIMIT.as_secs());
        return Err(io::Error::new(io::ErrorKind::TimedOut, why));
    }
    output.read_exact(&mut [0])?;
    let proc = PathBuf::from(format!("/proc/{}", helper.id()));
    let map = format!("0 {} {COUNT}\n", ids.first());
    // Each map must be written by one write(2).
    fs::write(proc.join("uid_map"), &map)?;
    fs::write(proc.join("gid_map"), &map)?;
    Ok(fs::File::open(proc.join("ns/user"))?.into())
}

fn end(helper: &mut Child) {
    drop(helper.stdin.take());
    // A failure does not matter: without its standard input the process ends by itself.
    let _ = helper.kill();
    let _ = gone(helper, GONE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_owned() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ids = directory.path().join("ids");
        let a = take(&ids, "s/a").expect("taken").expect("free");
        assert_eq!(take(&ids, "s/a").expect("again"), Some(a));
        let b = take(&ids, "s/b").expect("taken").expect("free");
        assert_ne!(a, b);
        let mut owned = owners(&ids, "s/").expect("listed");
        owned.sort();
        assert_eq!(owned, ["a", "b"]);
        assert_eq!(owners(&ids, "t/").expect("listed"), [""; 0]);
        free(&ids, "s/a").expect("freed");
        free(&ids, "s/a").expect("freed twice");
        assert_eq!(take(&ids, "s/a").expect("taken"), Some(a));
    }

    #[test]
    fn a_slot_of_somebody_else_is_passed_over() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ids = directory.path();
        let wanted = hash("s/a") % SLOTS;
        std::os::unix::fs::symlink("s/x", ids.join(wanted.to_string())).expect("linked");
        let a = take(ids, "s/a").expect("taken").expect("free");
        assert_eq!(Some(a), IdRange::from_slot((wanted + 1) % SLOTS));
        free(ids, "s/a").expect("freed");
        assert!(ids.join(wanted.to_string()).is_symlink());
    }

    #[test]
    fn ranges_stay_below_the_foreign_ids() {
        assert_eq!(
            IdRange::from_slot(0).map(IdRange::first),
            Some(1_879_048_192)
        );
        let last = IdRange::from_slot(SLOTS - 1).expect("a slot").first();
        assert!(last + COUNT - 1 < 0x7FFE_0000);
        assert_eq!(IdRange::from_slot(SLOTS), None);
    }
}
