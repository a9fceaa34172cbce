//! The simulated `Zfs`: it does on the simulated pool what `src/pool.rs` does by libzfs_core, `zfs get` and the mount
//! calls.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ezz::model::{Changed, Flags, HOLD_TAG, Mount};
use ezz::name::{DatasetName, SnapshotName};
use ezz::plan::{Commit, MountAs, NewClone};
use ezz::pool::{run, typed};
use ezz::ports::{Capabilities, MOUNT_FLAGS, PortError, PropertyValue, Query, Row, Source, Zfs};
use ezz_zfs::program::Kernel;
use ezz_zfs::{Errno, Limits, MountError, NvMap, ProgramError, ZfsError};

use super::fault::{Act, Begin, Death, Killed};
use super::machine::State;
use super::pool::{From, errno};

/// A handle on the simulated pool; all handles of a machine see the same one.
#[derive(Debug, Clone)]
pub struct SimZfs {
    pub state: Arc<Mutex<State>>,
}

/// Returns the value that a native property has where it was never set (zfsprops.7).
pub fn default(property: &str) -> &'static str {
    match property {
        "canmount" | "devices" | "atime" | "setuid" | "exec" | "xattr" => "on",
        "readonly" | "zoned" | "jailed" | "acltype" => "off",
        "sync" => "standard",
        "snapdir" => "hidden",
        "quota" => "0",
        _ => "-",
    }
}

/// Makes one call of a port, which may fail or be the last of its process.
pub fn call<R, E>(
    state: &Mutex<State>,
    what: impl FnOnce() -> String,
    changes: bool,
    failed: impl FnOnce() -> E,
    act: impl FnOnce(&mut State, Act) -> Result<R, E>,
) -> Result<R, E> {
    let done = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if changes && state.faults.meanwhile == Some(state.faults.calls + 1) {
            state.faults.meanwhile = None;
            state.another_commits();
        }
        match state.faults.begin(what, changes) {
            Begin::Fail(death) => Err(death),
            Begin::Go(how) => {
                let number = state.faults.calls;
                let result = act(&mut state, how);
                if changes && result.is_err() {
                    state.faults.refused();
                }
                let death = if changes {
                    state.faults.end(number)
                } else {
                    None
                };
                state.settle();
                match death {
                    Some(death) => Err(death),
                    None => Ok(result),
                }
            }
        }
    };
    match done {
        Ok(result) => result,
        Err(Death::Kill) => resume_unwind(Box::new(Killed)),
        Err(Death::Error | Death::Errors) => Err(failed()),
    }
}

fn refused(operation: &'static str, dataset: &str, errno: Errno) -> PortError {
    PortError::Call(ZfsError {
        operation,
        dataset: dataset.to_owned(),
        errno,
        per: Vec::new(),
    })
}

impl SimZfs {
    fn changing<R>(
        &self,
        operation: &'static str,
        object: &str,
        act: impl FnOnce(&mut State, Act) -> Result<R, PortError>,
    ) -> Result<R, PortError> {
        call(
            &self.state,
            || format!("{operation} {object}"),
            true,
            || refused(operation, object, errno("EIO")),
            act,
        )
    }

    fn reading<R>(
        &self,
        object: &str,
        act: impl FnOnce(&mut State) -> Result<R, PortError>,
    ) -> Result<R, PortError> {
        call(
            &self.state,
            || unreachable!("only changes are traced"),
            false,
            || refused("read", object, errno("EIO")),
            |state, _| act(state),
        )
    }

    fn set_holds(
        &self,
        operation: &'static str,
        snapshots: &[SnapshotName],
        wanted: bool,
    ) -> Result<Changed, PortError> {
        let first = snapshots
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        self.changing(operation, &first, |state, _| {
            let mut change = Vec::new();
            for snapshot in snapshots {
                let name = snapshot.to_string();
                let Some(found) = state.pool.snapshots.get(&name) else {
                    return Err(refused("list the holds of", &name, errno("ENOENT")));
                };
                if found.holds.contains(HOLD_TAG) != wanted {
                    change.push(name);
                }
            }
            for name in &change {
                let done = if wanted {
                    state.pool.hold(name, HOLD_TAG)
                } else {
                    state.pool.release(name, HOLD_TAG)
                };
                done.map_err(|why| refused(operation, name, why))?;
            }
            Ok(if change.is_empty() {
                Changed::Already
            } else {
                Changed::Done
            })
        })
    }
}

/// The pool as seen by the code that runs the programs of one commit.
struct Programs<'a> {
    state: std::cell::RefCell<&'a mut State>,
    cut: Option<usize>,
}

impl Kernel for Programs<'_> {
    fn run_program(
        &self,
        name: &str,
        pool: &str,
        source: &str,
        args: &NvMap,
        _limits: Limits,
    ) -> Result<NvMap, ProgramError> {
        let mut state = self.state.borrow_mut();
        if !state.pool.datasets.contains_key(pool) {
            return Err(ProgramError::NoPool {
                pool: pool.to_owned(),
            });
        }
        let result = super::lua::run(&mut state.pool, name, source, args, self.cut);
        if matches!(result, Err(ProgramError::Interrupted { .. })) {
            state.faults.cut = true;
        }
        result
    }
}

impl Zfs for SimZfs {
    fn read(&self, query: &Query<'_>) -> Result<BTreeMap<String, Row>, PortError> {
        let first = query.roots.first().cloned().unwrap_or_default();
        self.reading(&first, |state| {
            if let Some(pool) = state.faults.read() {
                state.pool = pool;
            }
            Ok(read(state, query))
        })
    }

    fn create(
        &self,
        dataset: &DatasetName,
        properties: &BTreeMap<String, String>,
    ) -> Result<(), PortError> {
        self.changing("create", dataset.as_str(), |state, _| {
            typed(dataset, properties)?;
            let done = state.pool.create(dataset.as_str(), properties);
            done.map_err(|why| refused("create", dataset.as_str(), why))
        })
    }

    fn commit(&self, site: &DatasetName, commit: &Commit) -> Result<(), PortError> {
        self.changing("commit", &commit.to_string(), |state, how| {
            let cut = match how {
                Act::Fully => None,
                Act::Partly(parts) => Some(parts),
            };
            let programs = Programs {
                state: std::cell::RefCell::new(state),
                cut,
            };
            run(&programs, site, commit)
        })
    }

    /// Clones all; each clone is a part of the call. They are created at the same time, and a death leaves some of
    /// them.
    fn clone_all(&self, clones: &[NewClone]) -> Result<(), PortError> {
        let first = clones.first().map(|clone| clone.dataset.to_string());
        self.changing("clone to", &first.unwrap_or_default(), |state, act| {
            for (done, clone) in clones.iter().enumerate() {
                if act == Act::Partly(done) {
                    state.faults.cut = true;
                    break;
                }
                let origin = clone.origin.to_string();
                let made = state.pool.clone_to(&origin, clone.dataset.as_str());
                made.map_err(|why| refused("clone to", clone.dataset.as_str(), why))?;
            }
            Ok(())
        })
    }

    fn destroy(&self, dataset: &DatasetName) -> Result<(), PortError> {
        self.changing("destroy", dataset.as_str(), |state, _| {
            let done = state.pool.destroy(dataset.as_str());
            done.map_err(|why| refused("destroy", dataset.as_str(), why))
        })
    }

    fn snapshot(&self, snapshot: &SnapshotName) -> Result<(), PortError> {
        self.changing("snapshot", &snapshot.to_string(), |state, _| {
            let done = state.pool.snapshot(&snapshot.to_string());
            done.map_err(|why| refused("snapshot", snapshot.dataset().as_str(), why))
        })
    }

    fn destroy_deferred(&self, snapshot: &SnapshotName) -> Result<(), PortError> {
        self.changing("hand over", &snapshot.to_string(), |state, _| {
            let done = state.pool.destroy_deferred(&snapshot.to_string());
            done.map_err(|why| refused("hand over", snapshot.dataset().as_str(), why))
        })
    }

    fn rollback(&self, snapshot: &SnapshotName) -> Result<(), PortError> {
        self.changing("roll back to", &snapshot.to_string(), |state, _| {
            let done = state.pool.rollback(&snapshot.to_string());
            done.map_err(|why| refused("roll back to", snapshot.dataset().as_str(), why))
        })
    }

    fn hold(&self, snapshots: &[SnapshotName]) -> Result<Changed, PortError> {
        self.set_holds("hold", snapshots, true)
    }

    fn release(&self, snapshots: &[SnapshotName]) -> Result<Changed, PortError> {
        self.set_holds("release", snapshots, false)
    }

    fn holds(&self, snapshot: &SnapshotName) -> Result<Vec<String>, PortError> {
        let name = snapshot.to_string();
        self.reading(&name, |state| match state.pool.snapshots.get(&name) {
            Some(found) => Ok(found.holds.iter().cloned().collect()),
            None => Err(refused("list the holds of", &name, errno("ENOENT"))),
        })
    }

    fn set(&self, dataset: &DatasetName, property: &str, value: &str) -> Result<(), PortError> {
        self.changing("set a property of", dataset.as_str(), |state, _| {
            let failed = |why| refused("set a property of", dataset.as_str(), why);
            let name = dataset.as_str();
            if !state.pool.datasets.contains_key(name) {
                return Err(failed(errno("ENOENT")));
            }
            if property == "mountpoint" {
                return move_mounts(state, name, value).map_err(failed);
            }
            let user = property.contains(':');
            if property == "quota" && value.parse::<u64>().is_err()
                || !user && default(property) == "-"
            {
                return Err(failed(errno("EINVAL")));
            }
            state.pool.set(name, property, value).map_err(failed)
        })
    }

    fn mount(&self, dataset: &DatasetName, at: &Path, how: MountAs) -> Result<Changed, PortError> {
        self.changing("mount", dataset.as_str(), |state, act| {
            let mut changed = Changed::Already;
            match state.mounts.top(at) {
                Some(other) if other.source != dataset.as_str() => {
                    return Err(PortError::Occupied {
                        dataset: dataset.to_string(),
                        at: at.to_owned(),
                        by: other.source.clone(),
                    });
                }
                Some(mount) => {
                    let lacks = how.lacks(mount.flags);
                    if lacks.any() {
                        let mount = state.mounts.top_mut(at).expect("it is there");
                        mount.flags = Flags {
                            read_only: mount.flags.read_only || lacks.read_only,
                            nosuid: mount.flags.nosuid || lacks.nosuid,
                            nodev: mount.flags.nodev || lacks.nodev,
                            noatime: mount.flags.noatime || lacks.noatime,
                        };
                        changed = Changed::Done;
                    }
                }
                None => {
                    make_directory(at, how)?;
                    if act == Act::Partly(0) {
                        state.faults.cut = true;
                        return Ok(changed);
                    }
                    let done =
                        state
                            .mounts
                            .mount(&mut state.pool, dataset.as_str(), at, how.flags());
                    done.map_err(|errno| PortError::Mount {
                        action: "mount",
                        dataset: dataset.to_string(),
                        source: MountError::Mount {
                            dataset: dataset.to_string(),
                            at: at.to_owned(),
                            detail: String::new(),
                            errno,
                        },
                    })?;
                    changed = Changed::Done;
                }
            }
            if act == Act::Partly(1) {
                state.faults.cut = how == MountAs::Site;
                return Ok(changed);
            }
            if how == MountAs::Site && protect(at)? {
                changed = Changed::Done;
            }
            Ok(changed)
        })
    }

    fn mount_snapshot(&self, snapshot: &SnapshotName, at: &Path) -> Result<Changed, PortError> {
        let name = snapshot.to_string();
        self.changing("mount", &name, |state, _| {
            match state.mounts.top(at) {
                Some(mount) if mount.source == name => return Ok(Changed::Already),
                Some(other) => {
                    return Err(PortError::Occupied {
                        dataset: name.clone(),
                        at: at.to_owned(),
                        by: other.source.clone(),
                    });
                }
                None => make_directory(at, MountAs::Base)?,
            }
            let flags = MountAs::Base.flags();
            let done = state.mounts.mount(&mut state.pool, &name, at, flags);
            done.map_err(|errno| PortError::Mount {
                action: "mount",
                dataset: name.clone(),
                source: MountError::Mount {
                    dataset: name.clone(),
                    at: at.to_owned(),
                    detail: String::new(),
                    errno,
                },
            })?;
            Ok(Changed::Done)
        })
    }

    fn unmount(&self, dataset: &DatasetName, at: &Path) -> Result<Changed, PortError> {
        self.changing("unmount", dataset.as_str(), |state, act| {
            let own = |source: &str| {
                source
                    .strip_prefix(dataset.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']))
            };
            let mut targets: Vec<(PathBuf, usize)> = state
                .mounts
                .table
                .iter()
                .enumerate()
                .filter(|(_, mount)| own(&mount.source) && mount.target.starts_with(at))
                .map(|(index, mount)| (mount.target.clone(), index))
                .collect();
            for (target, index) in &targets {
                let mut mounts = state.mounts.table.iter().enumerate();
                let over = mounts.find(|(other, mount)| {
                    let on = mount.target == *target && other > index;
                    let below = mount.target != *target && mount.target.starts_with(target);
                    !own(&mount.source) && (on || below)
                });
                if let Some((_, mount)) = over {
                    return Err(PortError::Covered {
                        dataset: dataset.to_string(),
                        at: mount.target.clone(),
                        by: mount.source.clone(),
                    });
                }
            }
            targets.sort_by_key(|(target, index)| {
                std::cmp::Reverse((target.components().count(), *index))
            });
            let changed = if targets.is_empty() {
                Changed::Already
            } else {
                Changed::Done
            };
            for (done, (target, _)) in targets.into_iter().enumerate() {
                if act == Act::Partly(done) {
                    state.faults.cut = true;
                    return Ok(changed);
                }
                unmount_one(state, dataset, &target)?;
            }
            Ok(changed)
        })
    }

    fn mounts(&self) -> Result<Vec<Mount>, PortError> {
        self.reading("the mounts", |state| Ok(state.mounts.listed()))
    }

    fn capabilities(&self, _site: &DatasetName) -> Result<Capabilities, PortError> {
        self.reading("the capabilities", |state| {
            let sync_clone = state.pool.sync_clone;
            let module = if sync_clone { "2.4.4-1" } else { "2.3.2-2" };
            Ok(Capabilities {
                module: module.to_owned(),
                sync_clone,
            })
        })
    }
}

fn unmount_one(state: &mut State, dataset: &DatasetName, target: &Path) -> Result<(), PortError> {
    let source = state.mounts.top(target).map(|mount| mount.source.clone());
    let busy = || PortError::Busy {
        dataset: dataset.to_string(),
        at: target.to_owned(),
    };
    if source.is_some_and(|source| state.used(&source)) {
        return Err(busy());
    }
    match state.mounts.unmount(&mut state.pool, target) {
        Ok(()) => Ok(()),
        Err(why) if why == errno("EBUSY") => Err(busy()),
        Err(_) => Err(PortError::Mount {
            action: "unmount",
            dataset: dataset.to_string(),
            source: MountError::NotMounted {
                at: target.to_owned(),
            },
        }),
    }
}

/// Does what `zfs set mountpoint` does: what is mounted below the old directory is mounted below the new one.
fn move_mounts(state: &mut State, name: &str, value: &str) -> Result<(), Errno> {
    let below = |other: &str| {
        other
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let affected: Vec<(String, Flags)> = state
        .mounts
        .table
        .iter()
        .filter(|mount| below(&mount.source))
        .filter(|mount| mount.target == Path::new(&state.pool.mountpoint(&mount.source)))
        .map(|mount| (mount.source.clone(), mount.flags))
        .collect();
    if affected.iter().any(|(source, _)| state.used(source)) {
        return Err(errno("EBUSY"));
    }
    for (source, _) in affected.iter().rev() {
        let at = PathBuf::from(state.pool.mountpoint(source));
        state.mounts.unmount(&mut state.pool, &at)?;
    }
    state.pool.set(name, "mountpoint", value)?;
    for (source, flags) in affected {
        let at = PathBuf::from(state.pool.mountpoint(&source));
        fs::create_dir_all(&at).map_err(|_| errno("EIO"))?;
        state.mounts.mount(&mut state.pool, &source, &at, flags)?;
    }
    Ok(())
}

fn read(state: &State, query: &Query<'_>) -> BTreeMap<String, Row> {
    let pool = &state.pool;
    let wanted = |name: &str| {
        let kind = if name.contains('@') {
            "snapshot"
        } else {
            "filesystem"
        };
        query.types.contains(&kind)
    };
    // The depth of a name below another; a snapshot is one deeper than its dataset.
    let depth = |root: &str, name: &str| -> Option<u32> {
        let rest = name.strip_prefix(root)?;
        if rest.is_empty() {
            return Some(0);
        }
        rest.starts_with(['/', '@'])
            .then(|| u32::try_from(rest.matches(['/', '@']).count()).unwrap_or(u32::MAX))
    };
    let in_scope = |name: &str| {
        query.roots.is_empty()
            || query.roots.iter().any(|root| {
                pool.exists(root)
                    && depth(root, name)
                        .is_some_and(|found| query.depth.is_none_or(|most| found <= most))
            })
    };
    let names = pool.datasets.keys().chain(pool.snapshots.keys());
    names
        .filter(|name| wanted(name) && in_scope(name))
        .map(|name| (name.clone(), row(state, name, query.properties)))
        .collect()
}

fn row(state: &State, name: &str, properties: &[&str]) -> Row {
    const NATIVE: [&str; 15] = [
        "type",
        "guid",
        "used",
        "referenced",
        "available",
        "written",
        "origin",
        "mounted",
        "mountpoint",
        "quota",
        "readonly",
        "canmount",
        "userrefs",
        "clones",
        "defer_destroy",
    ];
    let mut names: Vec<String> = Vec::new();
    for property in properties {
        if *property == "all" {
            names.extend(NATIVE.map(str::to_owned));
            names.extend(state.pool.user_properties(name));
        } else {
            names.push((*property).to_owned());
        }
    }
    let values = names.into_iter().map(|property| {
        let value = value(state, name, &property);
        (property, value)
    });
    let mut row = Row(values.collect());
    let at = PathBuf::from(state.pool.mountpoint(name));
    let here = state.mounts.top(&at).filter(|mount| mount.source == name);
    if let (true, Some(mount)) = (row.0.contains_key("mounted"), here) {
        let flags = PropertyValue {
            value: mount.flags.words().join(","),
            source: Source::Elsewhere,
        };
        row.0.insert(MOUNT_FLAGS.to_owned(), flags);
    }
    row
}

/// Returns a value as `zfs get -Hp` prints it: `-` if this kind of dataset does not have it, or if it is not set.
fn value(state: &State, name: &str, property: &str) -> PropertyValue {
    let elsewhere = |value: String| PropertyValue {
        value,
        source: Source::Elsewhere,
    };
    if let Some(value) = statistic(state, name, property) {
        // `zfs get` reports this source for it.
        let local = property.starts_with("written@") && value != "-";
        let source = if local {
            Source::Local
        } else {
            Source::Elsewhere
        };
        return PropertyValue { value, source };
    }
    let pool = &state.pool;
    if name.contains('@') && !property.contains(':') {
        return elsewhere("-".to_owned());
    }
    let source = match pool.property(name, property) {
        Some((_, From::Local)) => Source::Local,
        Some((_, From::Received)) => Source::Received,
        Some((_, From::Inherited(_))) | None => Source::Elsewhere,
    };
    if property == "mountpoint" {
        let value = pool.mountpoint(name);
        return PropertyValue { value, source };
    }
    match pool.property(name, property) {
        Some((value, _)) => PropertyValue { value, source },
        None => elsewhere(default(property).to_owned()),
    }
}

/// Returns the value of a property that cannot be set.
fn statistic(state: &State, name: &str, property: &str) -> Option<String> {
    let pool = &state.pool;
    let snapshot = pool.snapshots.get(name);
    let dataset = pool.datasets.get(name);
    if let Some(of) = property.strip_prefix("written@") {
        let there = dataset.is_some() && pool.snapshots.contains_key(&format!("{name}@{of}"));
        let written = dataset.map_or(0, |found| found.written).to_string();
        return Some(if there { written } else { "-".to_owned() });
    }
    let of_filesystem = |value: String| {
        if dataset.is_some() {
            value
        } else {
            "-".to_owned()
        }
    };
    Some(match property {
        "type" => if snapshot.is_some() {
            "snapshot"
        } else {
            "filesystem"
        }
        .to_owned(),
        "guid" => pool.guid_of(name)?.to_string(),
        // Each is created in a transaction of its own, and guids are assigned in that order.
        "createtxg" => pool.guid_of(name)?.to_string(),
        "used" | "referenced" => "24576".to_owned(),
        "available" => of_filesystem(pool.available().to_string()),
        "written" => dataset.map_or(0, |found| found.written).to_string(),
        "origin" => {
            let origin = dataset.and_then(|found| found.origin);
            let found = origin.and_then(|guid| pool.snapshot_by_guid(guid));
            found.cloned().unwrap_or_else(|| "-".to_owned())
        }
        "mounted" => of_filesystem(
            if state.mounts.mounted(name) {
                "yes"
            } else {
                "no"
            }
            .to_owned(),
        ),
        "userrefs" => snapshot.map_or("-".to_owned(), |found| found.holds.len().to_string()),
        "defer_destroy" => match snapshot {
            Some(found) if found.deferred => "on".to_owned(),
            Some(_) => "off".to_owned(),
            None => "-".to_owned(),
        },
        "clones" => match snapshot {
            Some(_) => pool.clones_of(name).join(","),
            None => "-".to_owned(),
        },
        _ => return None,
    })
}

fn make_directory(at: &Path, how: MountAs) -> Result<(), PortError> {
    if at.is_dir() {
        return Ok(());
    }
    let failed = |source| PortError::Directory {
        path: at.to_owned(),
        source,
    };
    if let Some(parent) = at.parent() {
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(parent)
            .map_err(failed)?;
    }
    fs::DirBuilder::new()
        .mode(0o700)
        .recursive(how == MountAs::Site)
        .create(at)
        .map_err(failed)
}

/// Changes the mode only: the user who runs the test owns all files.
fn protect(at: &Path) -> Result<bool, PortError> {
    let failed = |source| PortError::Directory {
        path: at.to_owned(),
        source,
    };
    let found = fs::metadata(at).map_err(failed)?;
    if found.mode() & 0o7777 == 0o700 {
        return Ok(false);
    }
    fs::set_permissions(at, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    Ok(true)
}
