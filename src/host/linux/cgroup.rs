//! Cgroups of jails and of their conmons, in the unified hierarchy (cgroups(7)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::file;
use crate::model::Limits;
use crate::ports::HostError;

const ROOT: &str = "/sys/fs/cgroup";

/// How long the kernel may take to end what was killed.
const END: Duration = Duration::from_secs(10);

fn path(cgroup: &str) -> PathBuf {
    PathBuf::from(format!("{ROOT}{cgroup}"))
}

/// What the host can limit.
#[derive(Debug, Clone, Default)]
pub(super) struct Control {
    /// The controllers that its root has; none without a unified hierarchy.
    pub(super) controllers: Vec<String>,
    /// Whether there is swap.
    pub(super) swap: bool,
}

impl Control {
    /// Looks.
    pub(super) fn of_host() -> Self {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let controllers = read(&Path::new(ROOT).join("cgroup.controllers"));
        Control {
            controllers: controllers.split_whitespace().map(str::to_owned).collect(),
            // One line says what the columns are.
            swap: read(Path::new("/proc/swaps")).lines().count() > 1,
        }
    }

    /// Whether there is a controller.
    pub(super) fn has(&self, name: &str) -> bool {
        self.controllers.iter().any(|it| it == name)
    }

    /// Refuses limits that cannot be kept.
    ///
    /// # Errors
    /// [`HostError::Missing`].
    pub(super) fn can(&self, limits: &Limits) -> Result<(), HostError> {
        let needed = [
            ("memory", limits.memory.is_some()),
            ("cpu", limits.cpus.is_some()),
            ("pids", limits.processes.is_some()),
            ("cpuset", limits.cpuset.is_some()),
        ];
        match needed.into_iter().find(|(name, is)| *is && !self.has(name)) {
            None => Ok(()),
            Some((name, _)) => Err(HostError::Missing {
                what: format!("the cgroup controller {name}, for the limits of the jail"),
                hint: format!(
                    "see `ezz doctor`; Linux may need cgroup_enable={name} on its command line"
                ),
            }),
        }
    }
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
