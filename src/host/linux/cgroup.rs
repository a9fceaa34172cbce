//! The cgroups of jails and of their conmons, in the unified hierarchy (cgroups(7)).

mod tree;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::file;
use crate::model::Limits;
use crate::ports::HostError;

const ROOT: &str = "/sys/fs/cgroup";

/// The number of levels of cgroups that a jail may nest below its own.
///
/// A jail's root can create cgroups. systemd does so for services and sessions, and so can every user who may create a
/// user namespace. systemd needs five levels for a user's services; a container of that user with a systemd and users
/// of its own needs eleven. Fifteen is the most that keeps the path of each of them, with names of 255 bytes, below
/// `PATH_MAX`. A longer path in /proc/PID/cgroup cannot be read on some kernels (`proc_cgroup_show` in Linux's
/// kernel/cgroup/cgroup.c), and is cut off on others.
pub(super) const DEPTH: u32 = 15;

/// The number of cgroups that a jail may have below its own. A Debian world with its own init has about forty, and a
/// session of a user adds about six. The host has 65535 ids for cgroups with a memory controller, which all of its
/// jails share (`MEM_CGROUP_ID_MAX`).
pub(super) const DESCENDANTS: u32 = 1024;

const MAX_DEPTH: &str = "cgroup.max.depth";
const MAX_DESCENDANTS: &str = "cgroup.max.descendants";

/// The limits of each jail's cgroup, as files and their content. The files belong to the host's root, and the kernel
/// applies the limits to the whole tree below.
pub(super) const LIMITS: [(&str, u32); 2] = [(MAX_DEPTH, DEPTH), (MAX_DESCENDANTS, DESCENDANTS)];

/// The largest number of processes of a jail without a limit of its own.
pub(super) const PROCESSES: u32 = 16_384;

/// The part of the host's memory that a jail without a limit of its own cannot have: an eighth.
const KEPT: u64 = 8;

/// The time that the kernel may take to end killed processes.
const END: Duration = Duration::from_secs(10);

/// The time that the removal of a tree of cgroups may take. Jails of an ezz that set no limits may have as many cgroups
/// as the kernel's memory holds.
const REMOVE: Duration = Duration::from_secs(120);

/// The pause between two attempts to remove a cgroup that is in use.
const PAUSE: Duration = Duration::from_millis(10);

fn path(cgroup: &str) -> PathBuf {
    PathBuf::from(format!("{ROOT}{cgroup}"))
}

/// The limits that the host supports.
#[derive(Debug, Clone, Default)]
pub(super) struct Control {
    /// The controllers of the host's root cgroup; none without a unified hierarchy.
    pub(super) controllers: Vec<String>,
    /// Whether the host has swap.
    pub(super) swap: bool,
    /// The host's memory in bytes; none if it cannot be read.
    pub(super) memory: Option<u64>,
}

impl Control {
    /// Reads the values from the host.
    pub(super) fn of_host() -> Self {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let controllers = read(&Path::new(ROOT).join("cgroup.controllers"));
        Control {
            controllers: controllers.split_whitespace().map(str::to_owned).collect(),
            // The first line has the names of the columns.
            swap: read(Path::new("/proc/swaps")).lines().count() > 1,
            memory: total(&read(Path::new("/proc/meminfo"))),
        }
    }

    /// Returns the limits of a jail that has none of its own, as far as the host can enforce them. With them, no single
    /// jail can take the host's last process id, or so much memory that the kernel kills processes outside of that
    /// jail. They depend on this host at this moment, and are never stored.
    pub(super) fn built_in(&self) -> Limits {
        let memory = self.memory.filter(|_| self.has("memory"));
        Limits {
            memory: memory.map(|bytes| bytes - bytes / KEPT),
            processes: self.has("pids").then_some(PROCESSES),
            ..Limits::default()
        }
    }

    /// Reports whether the host has the unified hierarchy.
    pub(super) fn unified(&self) -> bool {
        !self.controllers.is_empty()
    }

    /// Reports whether the host has a controller.
    pub(super) fn has(&self, name: &str) -> bool {
        self.controllers.iter().any(|it| it == name)
    }

    /// Refuses limits that the host cannot enforce.
    ///
    /// # Errors
    /// [`HostError::Missing`] if a controller is missing.
    pub(super) fn can(&self, limits: &Limits) -> Result<(), HostError> {
        match self.missing_for(limits) {
            None => Ok(()),
            Some(name) => Err(HostError::Missing {
                what: format!("the cgroup controller {name}, which a limit of the jail needs"),
                hint: controller_hint(name),
            }),
        }
    }

    /// Returns a controller that these limits need and that the host lacks; none if it has all of them.
    pub(super) fn missing_for(&self, limits: &Limits) -> Option<&'static str> {
        let needed = [
            ("memory", limits.memory.is_some()),
            ("cpu", limits.cpus.is_some()),
            ("pids", limits.processes.is_some()),
            ("cpuset", limits.cpuset.is_some()),
        ];
        let mut missing = needed
            .into_iter()
            .filter(|(name, is)| *is && !self.has(name));
        missing.next().map(|(name, _)| name)
    }
}

/// Returns what the user can do about a missing controller.
pub(super) fn controller_hint(name: &str) -> String {
    format!("Linux may need cgroup_enable={name} on its command line")
}

/// Returns the bytes of memory in a text of /proc/meminfo.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Returns the names of the cgroups in a cgroup; none if it does not exist.
pub(super) fn list(cgroup: &str) -> io::Result<Vec<String>> {
    let path = path(cgroup);
    let mut names = super::paths::list(&path)?;
    names.retain(|name| path.join(name).is_dir());
    Ok(names)
}

/// Reports whether a cgroup lacks one of [`LIMITS`], because an older ezz created it or an administrator changed it;
/// false if it does not exist.
pub(super) fn lacks_limits(cgroup: &str) -> io::Result<bool> {
    for (name, limit) in LIMITS {
        let path = path(cgroup).join(name);
        let Some(text) = super::process::read(&path)? else {
            return Ok(false);
        };
        // `max` means no limit.
        if text.trim().parse().map_or(true, |found: u32| found > limit) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Moves a process into a cgroup, and creates the cgroup if it is missing.
pub(super) fn enter(cgroup: &str, pid: u32) -> io::Result<()> {
    let path = path(cgroup);
    fs::create_dir_all(&path)?;
    fs::write(path.join("cgroup.procs"), pid.to_string())
}

/// Writes to a file of the kernel. It does not create a file.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// The largest number of a jail's cgroups in which its processes are looked for. It exceeds [`DESCENDANTS`], because
/// jails of an older ezz can have more. Processes in the other cgroups are killed without a signal that asks them to
/// end.
const LOOK: usize = 8192;

/// Returns the processes in a cgroup and below it; none if it does not exist.
///
/// # Errors
/// Returns the error of the operating system.
pub(super) fn processes(cgroup: &str) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    tree::visit(&path(cgroup), LOOK, &mut |directory| {
        // The file cannot be read in a cgroup that is being removed, or whose processes have their threads in several
        // cgroups.
        if let Some(text) = tree::read(directory, c"cgroup.procs")? {
            // 0 stands for a process that this one cannot see.
            let pids = text.lines().filter_map(|line| line.parse::<u32>().ok());
            found.extend(pids.filter(|pid| *pid != 0));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Kills all processes in a cgroup and below it, if it exists. Linux supports this from 5.14 on.
pub(super) fn kill(cgroup: &str) {
    // On older kernels, the end of a jail's first process ends the others.
    let _ = write(&path(cgroup).join("cgroup.kill"), "1");
}

/// Kills all processes in a cgroup and below it, and removes it, if it exists.
///
/// # Errors
/// [`HostError::File`] if the cgroup stays busy, or if the removal takes too long.
pub(super) fn remove(cgroup: &str) -> Result<(), HostError> {
    let path = path(cgroup);
    // Processes that are still running cannot create more cgroups.
    let _ = write(&path.join(MAX_DESCENDANTS), "0");
    kill(cgroup);
    let mut removal = Removal {
        cgroup,
        begun: Instant::now(),
        idle: Duration::ZERO,
    };
    tree::remove(&path, &mut removal).map_err(file("remove", &path))
}

/// A removal in progress.
struct Removal<'a> {
    cgroup: &'a str,
    begun: Instant,
    /// The time that it has waited for processes since it last removed something.
    idle: Duration,
}

impl tree::Pace for Removal<'_> {
    fn step(&mut self) -> io::Result<()> {
        if self.begun.elapsed() < REMOVE {
            Ok(())
        } else {
            Err(io::ErrorKind::TimedOut.into())
        }
    }

    fn removed(&mut self) {
        self.idle = Duration::ZERO;
    }

    fn busy(&mut self) -> io::Result<()> {
        if self.idle >= END {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        // This is repeated, because a process may have been forked, or moved here from outside.
        kill(self.cgroup);
        sleep(PAUSE);
        self.idle += PAUSE;
        self.step()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jail_without_limits_cannot_have_all_of_the_host() {
        let text = "MemTotal:        1048576 kB\nMemFree:          12345 kB\n";
        assert_eq!(total(text), Some(1 << 30));
        for bad in ["", "MemFree: 1 kB", "MemTotal:", "MemTotal: x kB"] {
            assert_eq!(total(bad), None, "{bad:?}");
        }
        let host = |controllers: &[&str]| Control {
            controllers: controllers.iter().map(|it| (*it).to_owned()).collect(),
            swap: false,
            memory: total(text),
        };
        let limits = host(&["cpu", "memory", "pids"]).built_in();
        assert_eq!(limits.memory, Some((1 << 30) / 8 * 7));
        assert_eq!(limits.processes, Some(PROCESSES));
        assert_eq!((limits.cpus, limits.cpuset), (None, None));
        assert!(host(&[]).built_in().is_empty());
    }
}
