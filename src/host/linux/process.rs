//! Processes by pidfd: waits for them, signals them, and distinguishes a jail's first process from another one that has
//! got its process id. This module must not start a process.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A live process that belongs to a cgroup.
#[derive(Debug)]
pub(super) struct Process {
    /// Its process id.
    pub pid: u32,
    fd: OwnedFd,
}

impl Process {
    /// Returns the process whose id is in a file, if it has not ended and is in this cgroup or below it.
    ///
    /// The id alone is not enough, because another process may have it by now. No process of the host ever moves into a
    /// jail's cgroup, and a jail cannot leave it.
    ///
    /// Some kernels do not show the cgroup of a process if its path is longer than `PATH_MAX`. Only jails nest cgroups
    /// so deep. Whether the process is of this jail is then determined by the host's id of its user, for which `owns`
    /// is called.
    pub(super) fn find(
        pid_file: &Path,
        cgroup: &str,
        owns: impl FnOnce(u32) -> bool,
    ) -> io::Result<Option<Self>> {
        match number(pid_file)? {
            Some(pid) => Process::of_cgroup(pid, cgroup, owns),
            None => Ok(None),
        }
    }

    /// Returns the process with this id, under the same conditions.
    pub(super) fn of_cgroup(
        pid: u32,
        cgroup: &str,
        owns: impl FnOnce(u32) -> bool,
    ) -> io::Result<Option<Self>> {
        let Some(process) = Process::open(pid)? else {
            return Ok(None);
        };
        // These are read after the open: if they are right, the descriptor is right too, or the process has ended.
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let inside = match told(read(&proc.join("cgroup")))? {
            Some(groups) => in_cgroup(&groups, cgroup),
            None => {
                let status = read(&proc.join("status"))?;
                status.as_deref().and_then(real_user).is_some_and(owns)
            }
        };
        let lives = read(&proc.join("stat"))?.is_some_and(|stat| !is_dead(&stat));
        Ok((inside && lives).then_some(process))
    }

    /// Returns the process with this id, if it is this program, `/conmon` or `/crun`, for this container.
    pub(super) fn of_container(
        pid: u32,
        program: &str,
        container: &str,
    ) -> io::Result<Option<Self>> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let is_it = || -> io::Result<bool> {
            // A process of the jail may have the same name, but its user is not the host's root. Its arguments are not
            // even read, because the process could delay that forever.
            if fs::metadata(&proc).map_or(true, |proc| proc.uid() != 0) {
                return Ok(false);
            }
            let words = read(&proc.join("cmdline"))?.unwrap_or_default();
            let mut words = words.split('\0');
            Ok(words.next().is_some_and(|p| p.ends_with(program))
                && words.any(|word| word == container))
        };
        if !is_it()? {
            return Ok(None);
        }
        let process = Process::open(pid)?;
        // This is checked again, because another process may have the id by now.
        Ok(if is_it()? { process } else { None })
    }

    fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(Process { pid, fd })),
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reports whether the process is in a user namespace other than ours, which means that it has ids of its own.
    pub(super) fn has_own_ids(&self) -> io::Result<bool> {
        let namespace = |process: &str| -> io::Result<(u64, u64)> {
            let met = fs::metadata(format!("/proc/{process}/ns/user"))?;
            Ok((met.dev(), met.ino()))
        };
        Ok(namespace("self")? != namespace(&self.pid.to_string())?)
    }

    /// Returns the path of its mount table, which [`mount_table`] reads.
    pub(super) fn table(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/mountinfo", self.pid))
    }

    /// Reports whether it has begun to end, but the kernel has not finished with it.
    pub(super) fn is_ending(&self) -> io::Result<bool> {
        mount_table(&self.table()).map(|table| table.is_none())
    }

    /// Waits until it has ended; returns false if it has not ended in time.
    pub(super) fn wait(&self, time: Duration) -> io::Result<bool> {
        readable(&self.fd, time)
    }

    /// Sends a signal. It is no error if the process has ended.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// What /proc shows of a process that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its process id.
    pub pid: u32,
    /// The process id of its parent; 0 if the parent is not visible.
    pub parent: u32,
    /// Whether it has a controlling terminal.
    pub terminal: bool,
    /// When it started, in clock ticks since the boot. Together with the process id this identifies a process.
    pub began: u64,
    /// Its name, which the process chooses itself.
    pub name: String,
}

impl Seen {
    /// Reads a process; returns none if it has ended.
    pub(super) fn of(pid: u32) -> io::Result<Option<Self>> {
        let stat = read(&PathBuf::from(format!("/proc/{pid}/stat")))?;
        Ok(stat.and_then(|stat| Seen::parse(pid, &stat)))
    }

    /// Parses /proc/PID/stat (proc_pid_stat(5)). The name is in parentheses and may contain any character.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        if is_dead(stat) {
            return None;
        }
        let (_, rest) = stat.split_once('(')?;
        let (name, rest) = rest.rsplit_once(')')?;
        // The fields from the third one on.
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Seen {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            terminal: *fields.get(4)? != "0",
            began: fields.get(19)?.parse().ok()?,
            name: name.to_owned(),
        })
    }
}

/// Returns the ids of a process in the PID namespaces that contain it, starting with that of the host; none if the
/// process has ended.
pub(super) fn numbers(pid: u32) -> io::Result<Vec<u32>> {
    let status = read(&PathBuf::from(format!("/proc/{pid}/status")))?;
    Ok(status.as_deref().map(namespaced).unwrap_or_default())
}

fn namespaced(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers = line.unwrap_or_default().split_whitespace();
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// Waits until a descriptor can be read; returns false if it cannot in time.
pub(super) fn readable(fd: &impl AsFd, time: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other? > 0),
        }
    }
}

/// Returns the number in a file; none if the file is missing or not yet written.
pub(super) fn number(path: &Path) -> io::Result<Option<u32>> {
    Ok(read(path)?.and_then(|text| text.trim().parse().ok()))
}

/// Returns the text of a file; none if the file does not exist, or its process has ended.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e)
            if e.kind() == io::ErrorKind::NotFound
                || e.raw_os_error() == Some(nix::libc::ESRCH) =>
        {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Returns the mount table in a process's /proc/PID/mountinfo; none if the process has ended, or has begun to end.
///
/// A process that ends leaves its mount namespace, but its directory in /proc exists until the last process of its PID
/// namespace is waited for. In between, an open of the table fails with `EINVAL`, and before that with `ENOENT`
/// (`mounts_open_common` in Linux's fs/proc_namespace.c).
pub(super) fn mount_table(path: &Path) -> io::Result<Option<String>> {
    match read(path) {
        Err(e) if e.raw_os_error() == Some(nix::libc::EINVAL) => Ok(None),
        other => other,
    }
}

/// Returns the content of /proc/PID/cgroup, which is empty for a process that has ended. It is none if the kernel does
/// not show it because it is too long (`proc_cgroup_show` in kernel/cgroup/cgroup.c of Linux 6.1; 7.2 cuts it off).
fn told(groups: io::Result<Option<String>>) -> io::Result<Option<String>> {
    match groups {
        Err(e) if e.raw_os_error() == Some(nix::libc::ENAMETOOLONG) => Ok(None),
        groups => groups.map(|groups| Some(groups.unwrap_or_default())),
    }
}

/// Reports whether /proc/PID/cgroup (cgroups(7)) has this cgroup or one below it; `0::/PATH` is the unified hierarchy.
pub fn in_cgroup(text: &str, cgroup: &str) -> bool {
    text.lines()
        .filter_map(|line| line.strip_prefix("0::"))
        .filter_map(|path| path.strip_prefix(cgroup))
        .any(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the real user id in /proc/PID/status (proc_pid_status(5)), as it is in the reader's user namespace. A
/// process cannot get an id that the namespace of its jail does not map.
pub fn real_user(status: &str) -> Option<u32> {
    let mut lines = status.lines();
    let ids = lines.find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().next()?.parse().ok()
}

/// Reports whether a process has ended, from /proc/PID/stat. The state follows the name, which is in parentheses and
/// may contain any character.
pub fn is_dead(stat: &str) -> bool {
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_none_or(|state| state.starts_with(['Z', 'X', 'x']))
}

/// Returns the number of a signal by its name, `SIGTERM` or `SIGRTMIN+3`. Real-time signals are numbered as in glibc.
pub(super) fn signal_number(name: &str) -> Option<i32> {
    if let Some(offset) = name.strip_prefix("SIGRTMIN") {
        let offset: i32 = if offset.is_empty() {
            0
        } else {
            offset.strip_prefix('+')?.parse().ok()?
        };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    name.parse::<nix::sys::signal::Signal>()
        .ok()
        .map(|s| s as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_match_by_component() {
        assert!(in_cgroup("0::/ezz/S/web1\n", "/ezz/S/web1"));
        assert!(in_cgroup(
            "1:name=x:/\n0::/ezz/S/web1/init.scope\n",
            "/ezz/S/web1"
        ));
        for other in ["0::/ezz/S/web10\n", "0::/\n", "1:cpu:/ezz/S/web1\n", ""] {
            assert!(!in_cgroup(other, "/ezz/S/web1"), "{other:?}");
        }
    }

    #[test]
    fn the_dead_are_told_from_the_living() {
        assert!(!is_dead("7 (sh) S 1 7 7"));
        assert!(!is_dead("7 (a) Z) R 1 7 7"));
        for dead in ["7 (sh) Z 1 7 7", "7 (x) X 1", "", "7 (sh"] {
            assert!(is_dead(dead), "{dead:?}");
        }
    }

    #[test]
    fn a_process_chooses_its_name_and_nothing_else() {
        let stat = "7 (a) Z 1 (b) S 3 7 7 34816 7 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 5 6";
        let seen = Seen::parse(7, stat).expect("it lives");
        assert_eq!(
            seen,
            Seen {
                pid: 7,
                parent: 3,
                terminal: true,
                began: 4711,
                name: "a) Z 1 (b".to_owned(),
            }
        );
        assert_eq!(Seen::parse(7, "7 (sh) Z 1 7 7"), None);
        assert_eq!(Seen::parse(7, "7 (sh) S 1"), None);
        let own = Seen::of(std::process::id()).expect("read");
        assert!(own.is_some_and(|own| own.parent > 0 && own.began > 0));
        assert_eq!(Seen::of(4_194_304_999).expect("looked"), None);
    }

    #[test]
    fn a_process_has_a_number_in_each_namespace() {
        assert_eq!(namespaced("Name:\tNSpid:\nNSpid:\t812\t1\n"), [812, 1]);
        assert_eq!(namespaced("Name:\tx\n"), [0; 0]);
        let own = numbers(std::process::id()).expect("read");
        assert!(own.contains(&std::process::id()));
    }

    #[test]
    fn a_process_is_found_by_its_cgroup() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("pid");
        let find = |cgroup: &str| Process::find(&file, cgroup, |_| true).expect("looked");
        assert!(find("/").is_none());
        fs::write(&file, std::process::id().to_string()).expect("written");
        assert!(find("/no/such").is_none());
        fs::write(&file, "0").expect("written");
        assert!(find("").is_none());
        fs::write(&file, "4194304999").expect("written");
        assert!(find("").is_none());
    }

    #[test]
    fn a_path_that_is_too_long_is_no_failure() {
        let long = io::Error::from_raw_os_error(nix::libc::ENAMETOOLONG);
        assert_eq!(told(Err(long)).expect("none"), None);
        assert_eq!(told(Ok(None)).expect("gone"), Some(String::new()));
        let text = "0::/ezz/S/web1\n".to_owned();
        assert_eq!(told(Ok(Some(text.clone()))).expect("told"), Some(text));
        let other = io::Error::from_raw_os_error(nix::libc::EIO);
        assert!(told(Err(other)).is_err());
    }

    #[test]
    fn a_process_has_a_user() {
        let own = fs::read_to_string("/proc/self/status").expect("read");
        assert_eq!(real_user(&own), Some(nix::unistd::getuid().as_raw()));
        let jail = "Name:\tUid:\t0\nUid:\t1879048192\t0\t0\t0\nGid:\t0\t0\t0\t0\n";
        assert_eq!(real_user(jail), Some(1_879_048_192));
        assert_eq!(real_user("Name:\tx\n"), None);
    }

    #[test]
    fn one_of_ours_has_our_ids() {
        let own = Process::open(std::process::id()).expect("looked");
        assert!(!own.expect("it is there").has_own_ids().expect("looked"));
    }

    #[test]
    fn one_that_has_ended_has_no_mount_table() {
        let own = mount_table(Path::new("/proc/self/mountinfo")).expect("looked");
        assert!(own.is_some_and(|table| table.contains(" / ")));
        let program = crate::exec::Exec::new("true").expect("found");
        let mut child = program.command().spawn().expect("started");
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        let process = Process::open(child.id()).expect("opened").expect("there");
        assert!(process.wait(Duration::from_secs(10)).expect("waited for"));
        // Its exit status was not requested, so it still exists.
        assert!(is_dead(
            &fs::read_to_string(proc.join("stat")).expect("there")
        ));
        assert_eq!(mount_table(&proc.join("mountinfo")).expect("looked"), None);
        let status = crate::exec::gone(&mut child, Duration::from_secs(10)).expect("waited for");
        assert!(status.is_some_and(|status| status.success()));
        assert_eq!(mount_table(&proc.join("mountinfo")).expect("looked"), None);
    }

    #[test]
    fn signals_have_numbers() {
        assert_eq!(signal_number("SIGTERM"), Some(15));
        assert_eq!(signal_number("SIGRTMIN+3"), Some(37));
        for bad in ["", "TERM", "SIGRTMIN3", "SIGRTMIN+99", "SIGNOSUCH"] {
            assert_eq!(signal_number(bad), None, "{bad:?}");
        }
    }
}
