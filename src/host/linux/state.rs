//! Determines which jails run, from conmon's files, the process table and the mount table of each jail. This module
//! must not start a process or change anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use ezz_zfs::mountinfo::parse_mountinfo;

use super::paths::{self, Paths};
use super::process::{self, Process};
use super::{cgroup, file, ids};
use crate::model::JailState;
use crate::name::JailName;
use crate::ports::HostError;

/// Returns the first process of a jail, if it has not ended.
pub(super) fn init(paths: &Paths, name: &JailName) -> Result<Option<Process>, HostError> {
    let pid = paths.jail(name).join("pid");
    let group = paths.cgroup(name);
    let owns = |id| ids::owner_of(&paths.ids(), id).as_deref() == Some(&*paths.owner(name));
    let look = || -> io::Result<Option<Process>> {
        let found = Process::find(&pid, &group, owns)?;
        if found.is_some() {
            return Ok(found);
        }
        // The file may be lost. The first process has the id 1 in the PID namespace below that of the host.
        for number in cgroup::processes(&group)? {
            if let [_, 1] = process::numbers(number)?[..] {
                let found = Process::of_cgroup(number, &group, owns)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    };
    look().map_err(file("look for the process of", &pid))
}

/// Returns the jails for which the host has a run directory, ids, a cgroup or a container: they run, or have left these
/// behind.
pub(super) fn kept(paths: &Paths) -> Result<BTreeSet<JailName>, HostError> {
    let jails = paths.jails();
    let mut all = paths::list(&jails).map_err(file("list", &jails))?;
    let slots = paths.ids();
    all.extend(ids::owners(&slots, &paths.owners()).map_err(file("list", &slots))?);
    let groups = paths.cgroups();
    let found = cgroup::list(&groups).map_err(file("list", Path::new(&groups)))?;
    let jail = |group: String| group.strip_prefix('_').map(str::to_owned).unwrap_or(group);
    all.extend(found.into_iter().map(jail));
    let mut names: BTreeSet<JailName> = all
        .iter()
        .filter_map(|name| JailName::parse(name).ok())
        .collect();
    let crun = paths.crun();
    let containers = paths::list(&crun).map_err(file("list", &crun))?;
    names.extend(containers.iter().filter_map(|id| paths.jail_of(id)));
    Ok(names)
}

/// Returns the jails that run, that have left something behind, or whose exit status is known.
pub(super) fn known(paths: &Paths) -> Result<BTreeSet<JailName>, HostError> {
    let mut names = kept(paths)?;
    let exits = paths.exits();
    let all = paths::list(&exits).map_err(file("list", &exits))?;
    names.extend(all.iter().filter_map(|id| paths.jail_of(id)));
    Ok(names)
}

/// Returns those of [`kept`] that do not run, or whose run directory does not record that they were started.
pub(super) fn left(paths: &Paths) -> Result<Vec<JailName>, HostError> {
    let mut left = Vec::new();
    for name in kept(paths)? {
        if !paths.started(&name).exists() || init(paths, &name)?.is_none() {
            left.push(name);
        }
    }
    Ok(left)
}

/// Returns the states of all of them.
pub(super) fn all(paths: &Paths) -> Result<BTreeMap<JailName, JailState>, HostError> {
    known(paths)?
        .into_iter()
        .map(|name| {
            let state = of(paths, &name)?;
            Ok((name, state))
        })
        .collect()
}

/// Returns the state of one jail.
pub(super) fn of(paths: &Paths, name: &JailName) -> Result<JailState, HostError> {
    let Some(init) = init(paths, name)? else {
        return Ok(JailState::Stopped {
            exit: exit(paths, name)?,
        });
    };
    if unstarted(paths, name) {
        return Ok(JailState::Stopped { exit: None });
    }
    if !paths.started(name).exists() {
        return Ok(JailState::Starting);
    }
    let table = init.table();
    let Some(text) = process::mount_table(&table).map_err(file("read", &table))? else {
        return Ok(JailState::Dying);
    };
    let base = base_of(&text).map_err(|why| HostError::Parse {
        what: table.display().to_string(),
        why,
    })?;
    Ok(JailState::Running { id: init.pid, base })
}

/// Reports whether a container was created but never started. crun's pipe, at which the first process waits, then still
/// exists (`exec.fifo` in crun's state directory). A start that was killed between the two steps leaves such a
/// container. It is no running jail, and the next start removes it.
fn unstarted(paths: &Paths, name: &JailName) -> bool {
    paths.crun_state(name).join("exec.fifo").exists()
}

/// Returns the exit status that conmon has written.
pub(super) fn exit(paths: &Paths, name: &JailName) -> Result<Option<i32>, HostError> {
    let path = paths.exit(name);
    let text = process::read(&path).map_err(file("read", &path))?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

/// Returns what is mounted at /basejail in a jail, according to the mount table of one of its processes.
///
/// # Errors
/// Returns an error for a line that is not one of a mount table.
pub fn base_of(mountinfo: &str) -> Result<Option<String>, String> {
    let mounts = parse_mountinfo(mountinfo).map_err(|e| e.to_string())?;
    let base = mounts
        .into_iter()
        .rfind(|mount| mount.target == Path::new("/basejail"));
    Ok(base.map(|mount| mount.source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_basejail_is_read_from_the_mount_table() {
        let table = "\
            58 57 0:34 / / rw,nodev,relatime,idmapped - zfs my\\040tank/ezz/jails/t1 rw,xattr\n\
            59 58 0:51 / /proc rw - proc proc rw\n\
            60 58 0:36 / /basejail ro,nodev,relatime,idmapped - zfs my\\040tank/ezz/basejail/7 ro\n\
            61 60 0:70 / /basejail/.zfs ro - tmpfs tmpfs ro\n";
        assert_eq!(
            base_of(table),
            Ok(Some("my tank/ezz/basejail/7".to_owned()))
        );
        assert_eq!(base_of("58 57 0:34 / / rw - zfs tank/k1 rw\n"), Ok(None));
        assert!(base_of("nonsense\n").is_err());
    }

    #[test]
    fn what_ended_is_remembered_with_its_status() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let paths = Paths::new("0f8b6a52-93cf", directory.path(), directory.path());
        assert_eq!(all(&paths).expect("nothing yet"), BTreeMap::new());
        paths.create().expect("created");
        let (web, db) = ("web-1", "db");
        std::fs::write(paths.exits().join("ezz-0f8b6a52-web-1"), "137").expect("written");
        std::fs::write(paths.exits().join("strange"), "1").expect("written");
        std::fs::create_dir(paths.jails().join(db)).expect("created");
        std::fs::write(paths.jails().join(db).join("pid"), "1").expect("written");
        let expected = BTreeMap::from([
            (
                JailName::parse(db).expect("valid"),
                JailState::Stopped { exit: None },
            ),
            (
                JailName::parse(web).expect("valid"),
                JailState::Stopped { exit: Some(137) },
            ),
        ]);
        assert_eq!(all(&paths).expect("read"), expected);
    }
}
