//! The processes that use a file system by a descriptor, a directory or a root, in whatever jail they are. A process can
//! pass a descriptor on to one of another jail (SCM_RIGHTS in unix(7)).
//!
//! No file is opened: a jail can have files whose file system it answers for itself (FUSE), and never does.
//! Must not be here: what is done about them.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::paths::Paths;
use super::process;
use crate::name::JailName;
use crate::ports::Holder;

/// The processes that use the file system that is mounted at a directory, other than this one.
pub(super) fn holders(paths: &Paths, at: &Path) -> Vec<Holder> {
    let Some(device) = device(at) else {
        return Vec::new();
    };
    let own = std::process::id();
    let numbers = entries(Path::new("/proc"));
    let numbers = numbers.filter_map(|it| it.file_name()?.to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let places = ["cwd", "root"].map(|it| proc.join(it)).into_iter();
        let descriptors = proc.join("fd");
        let mut places = places.chain(entries(&descriptors));
        *pid != own && places.any(|it| self::device(&it) == Some(device))
    };
    let holder = |pid: u32| {
        let read = |file: &str| {
            let path = PathBuf::from(format!("/proc/{pid}/{file}"));
            process::read(&path).ok().flatten().unwrap_or_default()
        };
        let jail = jail_of(&read("cgroup"), &paths.cgroups());
        let command = read("comm").trim_end().to_owned();
        Holder { pid, command, jail }
    };
    let mut found: Vec<Holder> = numbers.filter(holds).map(holder).collect();
    found.sort_by_key(|holder| holder.pid);
    found
}

/// What is in a directory; nothing of a process that has ended.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// The device of the file system of a file, by what the kernel knows already: who answers for the file system may never
/// do so.
fn device(at: &Path) -> Option<(u32, u32)> {
    let found = statx(CWD, at, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).ok()?;
    Some((found.stx_dev_major, found.stx_dev_minor))
}

/// The jail of a process, by its /proc/PID/cgroup and the cgroup that those of the jails are in.
fn jail_of(text: &str, of_jails: &str) -> Option<JailName> {
    let mut paths = text.lines().filter_map(|line| line.strip_prefix("0::"));
    let below = paths.find_map(|path| path.strip_prefix(of_jails)?.strip_prefix('/'))?;
    JailName::parse(below.split('/').next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jail_is_known_by_the_cgroup_of_its_process() {
        let jail = |text| jail_of(text, "/ezz/S").map(|jail| jail.to_string());
        assert_eq!(jail("0::/ezz/S/web1\n").as_deref(), Some("web1"));
        assert_eq!(jail("0::/ezz/S/web1/user/1\n").as_deref(), Some("web1"));
        for other in [
            "0::/ezz/S\n",
            "0::/ezz/T/web1\n",
            "0::/ezz/S/_web1\n",
            "1:x:/ezz/S/web1\n",
            "",
        ] {
            assert_eq!(jail(other), None, "{other:?}");
        }
    }
}
