//! Cgroups of jails and of their conmons, in the unified hierarchy (cgroups(7)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::file;
use crate::ports::HostError;

const ROOT: &str = "/sys/fs/cgroup";

/// How long the kernel may take to end what was killed.
const END: Duration = Duration::from_secs(10);

fn path(cgroup: &str) -> PathBuf {
    PathBuf::from(format!("{ROOT}{cgroup}"))
}

/// The controllers that the host's root has; none without a unified hierarchy.
pub(super) fn controllers() -> Vec<String> {
    let text = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// The names of the cgroups in one; none if that is missing.
pub(super) fn list(cgroup: &str) -> io::Result<Vec<String>> {
    let path = path(cgroup);
    let mut names = super::paths::list(&path)?;
    names.retain(|name| path.join(name).is_dir());
    Ok(names)
}

/// Moves a process into a cgroup, which is made if it is missing.
pub(super) fn enter(cgroup: &str, pid: u32) -> io::Result<()> {
    let path = path(cgroup);
    fs::create_dir_all(&path)?;
    fs::write(path.join("cgroup.procs"), pid.to_string())
}

/// Kills all in a cgroup and below it, and removes it, if it is there.
///
/// # Errors
/// [`HostError::File`] if it stays busy.
pub(super) fn remove(cgroup: &str) -> Result<(), HostError> {
    let path = path(cgroup);
    let mut waited = Duration::ZERO;
    let pause = Duration::from_millis(10);
    loop {
        // Since Linux 5.14; each time, since something may have been forked from outside.
        let _ = fs::write(path.join("cgroup.kill"), "1");
        match remove_tree(&path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && waited < END => {
                sleep(pause);
                waited += pause;
            }
            Err(e) => return Err(file("remove", &path)(e)),
        }
    }
}

/// Only directories can be removed, and have to be empty of directories.
fn remove_tree(path: &Path) -> io::Result<()> {
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(e) if gone(&e) => Ok(()),
        other => other,
    }
}
