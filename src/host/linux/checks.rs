//! The checks of `doctor` on a Linux host. They change nothing, with one exception: a temporary mount, which shows
//! whether ids can be mapped, and which is removed again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::boot;
use super::cgroup;
use super::crun;
use super::paths::Paths;
use super::start::{PROGRAMS, SECCOMP_PACKAGE, can_map_ids, seccomp_profile};
use crate::exec::find;
use crate::ports::{Check, Level};

/// The controllers that the limits of jails need.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// The space that the start of a jail may need below /run: its configuration, and the files of crun and conmon.
const BYTES: u64 = 256 << 10;
const FILES: u64 = 32;

/// Runs all checks.
pub(super) fn all(paths: &Paths, site_directory: &Path) -> Vec<Check> {
    let mut checks = vec![runtime()];
    checks.extend(
        PROGRAMS
            .into_iter()
            .filter(|(program, _)| *program != "crun")
            .chain([("catatonit", "catatonit")])
            .map(|(program, package)| installed(program, package)),
    );
    checks.extend([seccomp(), cgroups(), user_namespaces()]);
    checks.push(match no_room(paths.run()) {
        Some(full) => full,
        None => mapped_ids(paths, site_directory),
    });
    checks.extend(reachable(site_directory));
    checks.extend(low_ports());
    checks.extend(boot::all(Path::new("/"), site_directory));
    checks
}

pub(super) fn check(
    what: &str,
    level: Level,
    found: impl Into<String>,
    hint: Option<String>,
) -> Check {
    Check {
        what: what.to_owned(),
        level,
        found: found.into(),
        hint,
    }
}

fn install(package: &str) -> Option<String> {
    Some(format!("apt-get install {package}"))
}

fn installed(program: &str, package: &str) -> Check {
    match find(program) {
        Ok(path) => check(program, Level::Ok, path.display().to_string(), None),
        Err(_) => check(program, Level::Bad, "not installed", install(package)),
    }
}

fn runtime() -> Check {
    if find("crun").is_err() {
        return check("crun", Level::Bad, "not installed", install("crun"));
    }
    match crun::version_line() {
        Ok(line) if crun::parse(&line) >= Some(crun::FLOOR) => check("crun", Level::Ok, line, None),
        Ok(line) => {
            let hint = format!("jails need crun {} or later", crun::shown(crun::FLOOR));
            check("crun", Level::Bad, line, Some(hint))
        }
        Err(error) => check("crun", Level::Bad, error.to_string(), install("crun")),
    }
}

fn seccomp() -> Check {
    let what = "seccomp profile";
    match seccomp_profile() {
        Ok(Some((path, _))) => check(what, Level::Ok, path.display().to_string(), None),
        Ok(None) => check(what, Level::Bad, "not installed", install(SECCOMP_PACKAGE)),
        Err(error) => check(what, Level::Bad, error.to_string(), None),
    }
}

fn cgroups() -> Check {
    let what = "cgroups";
    let control = cgroup::Control::of_host();
    let found = &control.controllers;
    if found.is_empty() {
        let hint = "boot with systemd.unified_cgroup_hierarchy=1".to_owned();
        return check(what, Level::Bad, "no unified hierarchy", Some(hint));
    }
    let missing: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|wanted| !control.has(wanted))
        .collect();
    if missing.is_empty() {
        check(what, Level::Ok, found.join(" "), None)
    } else {
        let text = format!("without {}: no limits of that kind", missing.join(" "));
        check(what, Level::Warning, text, None)
    }
}

fn user_namespaces() -> Check {
    let what = "user namespaces";
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").ok();
    match most.as_deref().map(str::trim) {
        None => check(what, Level::Bad, "the kernel has none", None),
        Some("0") => {
            let hint = "sysctl -w user.max_user_namespaces=10000".to_owned();
            check(what, Level::Bad, "switched off", Some(hint))
        }
        Some(number) => check(what, Level::Ok, format!("at most {number}"), None),
    }
}

/// Returns a check if a start would not find enough space for its files in memory.
fn no_room(run: &Path) -> Option<Check> {
    let mut places = run.ancestors();
    let (at, system) = places.find_map(|at| Some((at, rustix::fs::statvfs(at).ok()?)))?;
    let bytes = system.f_bavail.saturating_mul(system.f_frsize);
    // Some file systems have no limit on the number of files.
    let files = if system.f_files == 0 {
        u64::MAX
    } else {
        system.f_favail
    };
    if bytes >= BYTES && files >= FILES {
        return None;
    }
    let at = at.display();
    let hint = format!(
        "`df -h {at}` shows which file system it is, `df -i {at}` whether it has no inodes left"
    );
    let found = format!("{at} is full: jails cannot start");
    Some(check("run directory", Level::Bad, found, Some(hint)))
}

fn mapped_ids(paths: &Paths, site_directory: &Path) -> Check {
    let what = "mapped ids";
    let at = paths.site().join("probe");
    match can_map_ids(site_directory, &at) {
        Ok(true) => check(what, Level::Ok, "each jail has users of its own", None),
        Ok(false) => check(
            what,
            Level::Warning,
            "not with this OpenZFS or kernel: root of a jail is root of the host, confined",
            Some("OpenZFS 2.2 and Linux 5.12 or later can".to_owned()),
        ),
        Err(error) => {
            let mut text = error.to_string();
            if let Some(cause) = std::error::Error::source(&error) {
                text = format!("{text}: {cause}");
            }
            check(what, Level::Bad, text, None)
        }
    }
}

/// Checks that only root can reach the files of jails. Any other user could run programs that a jail has made setuid.
fn reachable(site_directory: &Path) -> Option<Check> {
    let metadata = fs::metadata(site_directory).ok()?;
    let mode = metadata.mode() & 0o777;
    let found = format!("{} mode {mode:o}", site_directory.display());
    Some(if metadata.uid() == 0 && mode & 0o077 == 0 {
        check("site directory", Level::Ok, found, None)
    } else {
        let path = site_directory.display();
        let hint = format!("chown root {path} && chmod 0700 {path}");
        check("site directory", Level::Bad, found, Some(hint))
    })
}

/// Checks the low ports. The host's network belongs to the host's users, and the root of a jail is none of them.
fn low_ports() -> Option<Check> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok()?;
    let first: u32 = text.trim().parse().ok()?;
    let what = "low ports";
    Some(if first == 0 {
        check(what, Level::Ok, "open to jails on the host's network", None)
    } else {
        let found = format!("jails on the host's network cannot listen below {first}");
        let hint = "sysctl -w net.ipv4.ip_unprivileged_port_start=0".to_owned();
        check(what, Level::Warning, found, Some(hint))
    })
}
