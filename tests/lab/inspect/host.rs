//! The state of the host: mounts, directories, links, files that are kept for jails, and processes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::pool::is_name;
use super::{Found, Seen};

/// The time in which an ended process must disappear from the process table.
const SETTLES: Duration = Duration::from_secs(3);

/// A line of the mount table.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) target: PathBuf,
    pub(super) source: String,
    fstype: String,
    options: Vec<String>,
}

/// Reverts the escapes in mountinfo.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escaped, byte) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        plain = plain.replace(escaped, byte);
    }
    plain
}

pub(super) fn mounts_of(process: &str) -> Vec<Mount> {
    let table = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    let parse = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(4);
        let (target, options) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (fstype, source) = (after.next()?, after.next()?);
        Some(Mount {
            target: PathBuf::from(unescape(target)),
            source: unescape(source),
            fstype: fstype.to_owned(),
            options: options.split(',').map(str::to_owned).collect(),
        })
    };
    table.lines().filter_map(parse).collect()
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Checks that the host's state belongs to the pool's, and the reverse.
pub(super) fn check(seen: &Seen, found: &mut Found) {
    mounts(seen, found);
    directories(seen, found);
    kept(seen, found);
    let deadline = Instant::now() + SETTLES;
    let mut strange = processes(seen);
    while !strange.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        strange = processes(seen);
    }
    for what in strange {
        found.settled(what);
    }
}

fn flags(mount: &Mount, wanted: &[&str], found: &mut Found) {
    for flag in wanted {
        if !mount.options.iter().any(|option| option == flag) {
            let (source, target) = (&mount.source, mount.target.display());
            found.always(format!("{source} is mounted at {target} without {flag}"));
        }
    }
}

/// Checks that each mount belongs to the site and has its flags, and that each dataset is mounted that should be.
fn mounts(seen: &Seen, found: &mut Found) {
    let mut wanted: BTreeMap<PathBuf, (String, &[&str])> = BTreeMap::new();
    wanted.insert(seen.directory.clone(), (seen.site.clone(), &["nodev"]));
    for (n, _) in &seen.sealed {
        let at = seen.directory.join("basejail").join(n.to_string());
        wanted.insert(
            at,
            (format!("{}/basejail/{n}", seen.site), &["ro", "nodev"]),
        );
    }
    for jail in &seen.jails {
        let dataset = format!("{}/jails/{jail}", seen.site);
        wanted.insert(seen.directory.join(jail), (dataset, &["nodev"]));
    }
    let run = Path::new("/run/ezz").join(&seen.id).join("jails");
    for mount in mounts_of("self") {
        let ours =
            mount.source == seen.site || mount.source.starts_with(&format!("{}/", seen.site));
        let here = mount.target.starts_with(&seen.directory);
        if !ours || mount.fstype != "zfs" {
            if here {
                found.settled(format!(
                    "{} is mounted at {}",
                    mount.source,
                    mount.target.display()
                ));
            }
            continue;
        }
        if let Ok(below) = mount.target.strip_prefix(&run) {
            in_run(seen, below, &mount, found);
            continue;
        }
        match wanted.remove(&mount.target) {
            Some((dataset, options)) if dataset == mount.source => flags(&mount, options, found),
            // The mount is a second one, at the place of another dataset, or at no place of the site.
            _ => found.settled(format!(
                "{} is mounted at {}",
                mount.source,
                mount.target.display()
            )),
        }
    }
    for (at, (dataset, _)) in wanted {
        found.settled(format!("{dataset} is not mounted at {}", at.display()));
    }
}

/// Checks the private mounts of a running jail: its own files, and a sealed base.
fn in_run(seen: &Seen, below: &Path, mount: &Mount, found: &mut Found) {
    let mut parts = below.iter().map(|part| part.to_string_lossy().into_owned());
    let (jail, half) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let base = |source: &str| {
        let mut sealed = seen.sealed.iter();
        sealed.any(|(n, _)| source == format!("{}/basejail/{n}", seen.site))
    };
    let right = match half.as_str() {
        "root" => mount.source == format!("{}/jails/{jail}", seen.site),
        "base" => base(&mount.source),
        _ => false,
    };
    if !right || !seen.jails.contains(&jail) {
        found.settled(format!(
            "{} is mounted at {}",
            mount.source,
            mount.target.display()
        ));
    }
    flags(
        mount,
        if half == "base" {
            &["ro", "nodev"]
        } else {
            &["nodev"]
        },
        found,
    );
}

/// Checks that the site directory is root's own, with a directory for each dataset and no other.
fn directories(seen: &Seen, found: &mut Found) {
    let at = seen.directory.display();
    if !mounts_of("self")
        .iter()
        .any(|mount| mount.source == seen.site)
    {
        return;
    }
    match fs::symlink_metadata(&seen.directory) {
        Ok(stat) if stat.mode() & 0o7777 == 0o700 && stat.uid() == 0 => {}
        Ok(stat) => {
            let what = format!(
                "{at}: mode {:o} and owner {}",
                stat.mode() & 0o7777,
                stat.uid()
            );
            found.settled(what);
        }
        Err(error) => found.settled(format!("{at}: {error}")),
    }
    for name in names_in(&seen.directory) {
        let kept = ["basejail", "newjail", "flavours", "archive"].contains(&name.as_str());
        if !kept && is_name(&name) && !seen.jails.contains(&name) {
            found.settled(format!("{at}/{name}: a directory without a jail"));
        }
    }
    for half in ["basejail", "newjail"] {
        for name in names_in(&seen.directory.join(half)) {
            let links = half == "basejail" && name == "tracks";
            if !links && !name.parse().is_ok_and(|n: u32| seen.numbers.contains(&n)) {
                found.settled(format!(
                    "{at}/{half}/{name}: a directory without a generation"
                ));
            }
        }
    }
    let links = seen.directory.join("basejail").join("tracks");
    for (track, current) in &seen.tracks {
        let is = fs::read_link(links.join(track)).ok();
        let wanted = current.map(|n| PathBuf::from(format!("../{n}")));
        if is != wanted {
            found.settled(format!("track {track}: its link is {is:?}, not {wanted:?}"));
        }
    }
    for name in names_in(&links) {
        if !seen.tracks.iter().any(|(track, _)| *track == name) {
            found.settled(format!(
                "{}/{name}: a link without a track",
                links.display()
            ));
        }
    }
}

/// Checks that what the host keeps for jails belongs to existing jails.
fn kept(seen: &Seen, found: &mut Found) {
    let run = Path::new("/run/ezz").join(&seen.id);
    let short = seen.id.get(..8).unwrap_or(&seen.id);
    let container = format!("ezz-{short}-");
    let mut check = |at: PathBuf, jail: Option<&str>| {
        if !jail.is_some_and(|jail| seen.jails.iter().any(|known| known == jail)) {
            found.settled(format!(
                "{}: kept of a jail that is not there",
                at.display()
            ));
        }
    };
    for name in names_in(&run.join("jails")) {
        check(run.join("jails").join(&name), Some(&name));
    }
    for half in ["exit", "crun"] {
        for name in names_in(&run.join(half)) {
            check(run.join(half).join(&name), name.strip_prefix(&container));
        }
    }
    let logs = Path::new("/var/log/ezz").join(&seen.id);
    for name in names_in(&logs) {
        check(logs.join(&name), name.strip_suffix(".log"));
    }
    let ids = Path::new("/run/ezz/ids");
    for slot in names_in(ids) {
        let owner = fs::read_link(ids.join(&slot)).unwrap_or_default();
        if let Ok(jail) = owner.strip_prefix(&seen.id) {
            check(ids.join(&slot), jail.to_str());
        }
    }
    for name in names_in(Path::new("/run/ezz")) {
        if name.starts_with("verify-") {
            found.settled(format!("/run/ezz/{name} is left"));
        }
    }
}

/// Checks the processes of jails by their cgroups: the jail must exist, must have been started, and must run on one
/// sealed base; and there must be no conmon without its jail.
fn processes(seen: &Seen) -> Vec<String> {
    let short = seen.id.get(..8).unwrap_or(&seen.id);
    let prefix = format!("0::/ezz/{short}/");
    let mut jails: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let pids = names_in(Path::new("/proc"));
    for pid in pids
        .iter()
        .filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()))
    {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let ours = cgroup.lines().find_map(|line| line.strip_prefix(&prefix));
        if let Some(name) = ours.and_then(|name| name.split('/').next()) {
            jails.entry(name.to_owned()).or_default().push(pid.clone());
        }
    }
    let run = Path::new("/run/ezz").join(&seen.id).join("jails");
    let mut strange = Vec::new();
    for (group, pids) in &jails {
        let jail = group.strip_prefix('_').unwrap_or(group);
        if !seen.jails.iter().any(|known| known == jail) {
            strange.push(format!(
                "processes {pids:?} of {group}, and there is no such jail"
            ));
        } else if !jails.contains_key(jail) {
            strange.push(format!(
                "processes {pids:?} watch {jail}, which does not run"
            ));
        } else if !run.join(jail).join("started").exists() {
            strange.push(format!(
                "processes {pids:?} of {group}, which was never started"
            ));
        }
    }
    left(seen, &run, &jails, &mut strange);
    for name in names_in(&run) {
        // conmon writes this file: the first process of the jail, as the host sees it.
        let pid = fs::read_to_string(run.join(&name).join("pid")).unwrap_or_default();
        let pids = jails.get(&name);
        if pids.is_some_and(|pids| pids.iter().any(|known| known == pid.trim())) {
            strange.extend(base_in(seen, &name, pid.trim()));
        }
    }
    strange
}

/// Finds what is left of the run of a jail that does not run: its directory, mounts, ids, cgroups and the runtime's
/// container; and marks of restarts that belong to no command.
fn left(seen: &Seen, run: &Path, jails: &BTreeMap<String, Vec<String>>, strange: &mut Vec<String>) {
    let short = seen.id.get(..8).unwrap_or(&seen.id);
    let mut check = |at: PathBuf, jail: Option<&str>| {
        if jail.is_some_and(|jail| !jails.contains_key(jail)) {
            strange.push(format!("{}: left of a run", at.display()));
        }
    };
    for name in names_in(run) {
        check(run.join(&name), Some(&name));
    }
    for mount in mounts_of("self") {
        let below = mount.target.strip_prefix(run).ok();
        let jail = below.and_then(|below| below.iter().next()?.to_str());
        check(mount.target.clone(), jail);
    }
    let ids = Path::new("/run/ezz/ids");
    for slot in names_in(ids) {
        let owner = fs::read_link(ids.join(&slot)).unwrap_or_default();
        let jail = owner.strip_prefix(&seen.id).ok();
        check(ids.join(&slot), jail.and_then(Path::to_str));
    }
    let crun = Path::new("/run/ezz").join(&seen.id).join("crun");
    let container = format!("ezz-{short}-");
    for id in names_in(&crun) {
        check(crun.join(&id), id.strip_prefix(&container));
    }
    let groups = Path::new("/sys/fs/cgroup/ezz").join(short);
    for group in names_in(&groups) {
        if groups.join(&group).is_dir() {
            check(
                groups.join(&group),
                Some(group.strip_prefix('_').unwrap_or(&group)),
            );
        }
    }
    let moving = Path::new("/run/ezz").join(format!("{}-moving", seen.id));
    let marks = names_in(&moving);
    if marks.is_empty() && moving.exists() {
        strange.push(format!("{}: an empty directory of marks", moving.display()));
    }
    for jail in marks.iter().filter(|jail| !seen.jails.contains(jail)) {
        strange.push(format!("{}/{jail}: of no jail", moving.display()));
    }
    let requests = names_in(Path::new("/run/ezz"));
    for name in requests
        .iter()
        .filter(|name| name.contains("-start-") && name.ends_with(".end"))
    {
        strange.push(format!("/run/ezz/{name}: asks for the end of no start"));
    }
}

/// Checks invariant 6: a running jail has one sealed base at /basejail, read-only. And invariant 12: this is the base
/// of the skeleton that its own files were merged to.
fn base_in(seen: &Seen, jail: &str, pid: &str) -> Option<String> {
    let table = mounts_of(pid);
    let bases: Vec<&Mount> = table
        .iter()
        .filter(|mount| mount.fstype == "zfs" && mount.target.starts_with("/basejail"))
        .collect();
    let sealed = |mount: &Mount| {
        let mut numbers = seen.sealed.iter();
        numbers.any(|(n, _)| mount.source == format!("{}/basejail/{n}", seen.site))
    };
    let brought = |mount: &Mount| {
        let number = mount.source.rsplit('/').next().and_then(|n| n.parse().ok());
        let files = seen.files.get(jail);
        files.is_some_and(|files| number.is_some_and(|n| seen.same_skeleton(n, *files)))
    };
    match bases[..] {
        [] => None,
        [base] if sealed(base) && !brought(base) => Some(format!(
            "{jail} runs on {}, and its own files are at {:?}",
            base.source,
            seen.files.get(jail)
        )),
        [base] if sealed(base) && base.options.iter().any(|option| option == "ro") => None,
        _ => Some(format!("{jail} runs with {bases:?}")),
    }
}
