//! The real `Zfs`: libzfs_core makes changes, and the command `zfs` reads.
//!
//! Reading starts a process because ZFS writes every channel program, also a read-only one, to the history of the pool.
//! A command that commits writes there anyway, so it looks by a program. This module must not decide anything.

mod encode;
mod health;
mod look;
mod mounts;
pub mod rows;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use ezz_zfs::nvlist::{NvMap, Value};
use ezz_zfs::program::{Kernel, Reply};
use rayon::prelude::*;

use crate::crash;
use crate::exec::{Exec, ExecError};
use crate::model::{Changed, HOLD_TAG, Mount};
use crate::name::{DatasetName, SnapshotName};
use crate::plan::{Commit, MountAs, NewClone};
use crate::ports::{Capabilities, Check, PortError, Query, Row, Zfs};

use rows::{only_missing, parse_get};

/// The number of clones that are made at once. Each waits for its transaction group, and all that wait share one. With
/// 64, a thousand clones take some 60 groups instead of a thousand.
const CLONE_THREADS: usize = 64;

/// The largest number of datasets that one zfs(8) gets. FreeBSD limits the arguments of a program to 256 KiB
/// (`ARG_MAX`), and a name has at most 255 bytes.
const MOST_ROOTS: usize = 800;

/// The time that zfs(8) may take. On an idle machine it needs many seconds for the properties of ten thousand jails. On
/// a suspended pool it waits until an administrator clears that.
const ZFS: Duration = Duration::from_secs(600);

/// The most bytes of properties that are read at once: a hundred thousand jails with 8000 bytes each.
const ROWS: usize = 1 << 30;

/// This property is read from the mount table. Each process of zfs(8) would read the whole table, which is as long as
/// there are jails.
const MOUNTED: &str = "mounted";

/// The OpenZFS of this host. Its library is opened when it is first needed.
#[derive(Debug, Default)]
pub struct SystemZfs {
    library: OnceLock<ezz_zfs::Zfs>,
}

impl SystemZfs {
    /// Creates a pool without opening the library.
    pub fn new() -> Self {
        SystemZfs::default()
    }

    fn library(&self) -> Result<&ezz_zfs::Zfs, PortError> {
        if let Some(open) = self.library.get() {
            return Ok(open);
        }
        let open = ezz_zfs::Zfs::open().map_err(PortError::Open)?;
        Ok(self.library.get_or_init(|| open))
    }
}

impl Zfs for SystemZfs {
    fn read(&self, query: &Query<'_>) -> Result<BTreeMap<String, Row>, PortError> {
        // Without OpenZFS this fails with a clear error, before the program `zfs` is reported missing.
        self.library()?;
        let asked = query.properties.len();
        let mut by_zfs: Vec<&str> = query.properties.to_vec();
        by_zfs.retain(|property| *property != MOUNTED || asked == 1);
        let query = Query {
            properties: &by_zfs,
            ..*query
        };
        let mut rows = if query.roots.len() <= MOST_ROOTS {
            get(&query)?
        } else {
            let mut rows = BTreeMap::new();
            for roots in query.roots.chunks(MOST_ROOTS) {
                rows.extend(get(&Query { roots, ..query })?);
            }
            rows
        };
        if by_zfs.len() < asked {
            mounts::fill(&mut rows)?;
        }
        Ok(rows)
    }

    fn look(&self, query: &Query<'_>) -> Result<BTreeMap<String, Row>, PortError> {
        match self.looked(query)? {
            Some(rows) => Ok(rows),
            None => self.read(query),
        }
    }

    fn health(&self, site: &DatasetName) -> Option<Check> {
        health::of(site.as_str().split('/').next()?)
    }

    fn create(
        &self,
        dataset: &DatasetName,
        properties: &BTreeMap<String, String>,
    ) -> Result<(), PortError> {
        let typed = typed(dataset, properties)?;
        self.library()?
            .create(dataset.as_str(), &typed)
            .map_err(PortError::Call)
    }

    fn commit(&self, site: &DatasetName, commit: &Commit) -> Result<(), PortError> {
        run(self.library()?, site, commit)
    }

    fn clone_all(&self, clones: &[NewClone]) -> Result<(), PortError> {
        let library = self.library()?;
        let none = NvMap::new();
        let clone = |clone: &NewClone| {
            crash::point();
            let origin = clone.origin.to_string();
            library
                .clone(clone.dataset.as_str(), &origin, &none)
                .map_err(PortError::Call)
        };
        let threads = CLONE_THREADS.min(clones.len());
        match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
            Ok(pool) => pool.install(|| clones.par_iter().with_max_len(1).try_for_each(clone)),
            Err(_) => clones.iter().try_for_each(clone),
        }
    }

    fn destroy(&self, dataset: &DatasetName) -> Result<(), PortError> {
        self.library()?
            .destroy(dataset.as_str())
            .map_err(PortError::Call)
    }

    fn snapshot(&self, snapshot: &SnapshotName) -> Result<(), PortError> {
        self.library()?
            .snapshot(&[&snapshot.to_string()], &NvMap::new())
            .map_err(PortError::Call)
    }

    fn destroy_deferred(&self, snapshot: &SnapshotName) -> Result<(), PortError> {
        self.library()?
            .destroy_snaps(&[&snapshot.to_string()], true)
            .map_err(PortError::Call)
    }

    fn rollback(&self, snapshot: &SnapshotName) -> Result<(), PortError> {
        self.library()?
            .rollback_to(snapshot.dataset().as_str(), &snapshot.to_string())
            .map_err(PortError::Call)
    }

    fn hold(&self, snapshots: &[SnapshotName]) -> Result<Changed, PortError> {
        let mut missing = Vec::new();
        for snapshot in snapshots {
            if !self.holds(snapshot)?.iter().any(|tag| tag == HOLD_TAG) {
                missing.push(snapshot.to_string());
            }
        }
        if missing.is_empty() {
            return Ok(Changed::Already);
        }
        let pairs: Vec<(&str, &str)> = missing
            .iter()
            .map(|name| (name.as_str(), HOLD_TAG))
            .collect();
        self.library()?.hold(&pairs).map_err(PortError::Call)?;
        Ok(Changed::Done)
    }

    fn release(&self, snapshots: &[SnapshotName]) -> Result<Changed, PortError> {
        let mut present = Vec::new();
        for snapshot in snapshots {
            if self.holds(snapshot)?.iter().any(|tag| tag == HOLD_TAG) {
                present.push(snapshot.to_string());
            }
        }
        if present.is_empty() {
            return Ok(Changed::Already);
        }
        let pairs: Vec<(&str, &str)> = present
            .iter()
            .map(|name| (name.as_str(), HOLD_TAG))
            .collect();
        self.library()?.release(&pairs).map_err(PortError::Call)?;
        Ok(Changed::Done)
    }

    fn holds(&self, snapshot: &SnapshotName) -> Result<Vec<String>, PortError> {
        let holds = self
            .library()?
            .holds(&snapshot.to_string())
            .map_err(PortError::Call)?;
        Ok(holds.into_iter().map(|(tag, _)| tag).collect())
    }

    fn set(&self, dataset: &DatasetName, property: &str, value: &str) -> Result<(), PortError> {
        let failed = |source| PortError::Command {
            action: "set a property of",
            dataset: dataset.to_string(),
            source,
        };
        Exec::new("zfs")
            .map_err(failed)?
            .arg("set")
            .arg(format!("{property}={value}"))
            .arg(dataset.as_str())
            .limit(ZFS)
            .run()
            .map_err(failed)?;
        Ok(())
    }

    fn mount(&self, dataset: &DatasetName, at: &Path, how: MountAs) -> Result<Changed, PortError> {
        let done = self.mount_all(&[(dataset, at, how)])?;
        Ok(if done > 0 {
            Changed::Done
        } else {
            Changed::Already
        })
    }

    fn mount_snapshot(&self, snapshot: &SnapshotName, at: &Path) -> Result<Changed, PortError> {
        mounts::mount_snapshot(snapshot, at)
    }

    fn mount_all(&self, what: &[(&DatasetName, &Path, MountAs)]) -> Result<usize, PortError> {
        mounts::mount_all(what)
    }

    fn unmount(&self, dataset: &DatasetName, at: &Path) -> Result<Changed, PortError> {
        let done = self.unmount_all(&[(dataset, at)])?;
        Ok(if done > 0 {
            Changed::Done
        } else {
            Changed::Already
        })
    }

    fn unmount_all(&self, what: &[(&DatasetName, &Path)]) -> Result<usize, PortError> {
        mounts::unmount_all(what)
    }

    fn mounts(&self) -> Result<Vec<Mount>, PortError> {
        let mounts = ezz_zfs::mounted().map_err(mounts::unread("this host"))?;
        Ok(mounts.iter().map(mounts::seen).collect())
    }

    fn mounted_at(&self, at: &Path) -> Result<Option<Mount>, PortError> {
        let found = ezz_zfs::mounted_at(at).map_err(mounts::unread("this host"))?;
        Ok(found.as_ref().map(mounts::seen))
    }

    fn capabilities(&self, site: &DatasetName) -> Result<Capabilities, PortError> {
        let found = self
            .library()?
            .capabilities(site.pool())
            .map_err(|source| PortError::Program {
                program: "capabilities",
                site: site.clone(),
                source,
            })?;
        Ok(Capabilities {
            module: found.module.unwrap_or_default(),
            sync_clone: found.sync_clone,
        })
    }
}

/// Runs zfs-get(8) for at most [`MOST_ROOTS`] datasets.
fn get(query: &Query<'_>) -> Result<BTreeMap<String, Row>, PortError> {
    let of = || {
        query
            .roots
            .first()
            .cloned()
            .unwrap_or_else(|| "the pools".to_owned())
    };
    let failed = |source| PortError::Command {
        action: "read the properties of",
        dataset: of(),
        source,
    };
    let mut exec = Exec::new("zfs").map_err(failed)?.args(["get", "-Hp"]);
    exec = match query.depth {
        Some(depth) => exec.arg("-d").arg(depth.to_string()),
        None if query.roots.is_empty() => exec,
        None => exec.arg("-r"),
    };
    let exec = exec
        .args([
            "-t",
            &query.types.join(","),
            "-o",
            "name,property,value,source",
        ])
        .arg(query.properties.join(","))
        .args(query.roots);
    let exec = exec.limit(ZFS).at_most(ROWS);
    let output = exec.ended().map_err(failed)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !only_missing(&stderr, query.roots) {
        return Err(failed(exec.failed(output.status, &output.stderr)));
    }
    if !output.whole {
        return Err(failed(ExecError::Open {
            command: exec.shown(),
        }));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    parse_get(&text, query.properties).map_err(|why| PortError::Parse { dataset: of(), why })
}

/// Runs the program of a commit and reads its reply.
///
/// # Errors
/// Returns the errors of [`Zfs::commit`].
pub fn run(kernel: &dyn Kernel, site: &DatasetName, commit: &Commit) -> Result<(), PortError> {
    let (program, args) = encode::program(site, commit);
    let name = program.name();
    let reply = program
        .run(kernel, &args)
        .map_err(|source| PortError::Program {
            program: name,
            site: site.clone(),
            source,
        })?;
    answer(name, site, commit.epoch().unwrap_or_default(), reply)
}

fn answer(
    program: &'static str,
    site: &DatasetName,
    expected: u64,
    reply: Reply,
) -> Result<(), PortError> {
    match reply {
        Reply::Ok { .. } => Ok(()),
        Reply::Stale { epoch } => Err(PortError::Stale {
            site: site.clone(),
            expected,
            found: epoch.to_string(),
        }),
        Reply::Refused(refusal) => {
            let dataset = refusal.dataset.unwrap_or_else(|| site.to_string());
            let mut why = refusal.why.as_str().to_owned();
            if let Some(property) = refusal.property {
                why = format!("{why} ({property})");
            }
            if let Some(errno) = refusal.errno {
                why = format!("{why}: {errno}");
            }
            Err(PortError::Refused {
                program,
                dataset,
                reason: refusal.why,
                why,
            })
        }
        Reply::Failed(failure) => {
            let dataset = failure.dataset.unwrap_or_else(|| site.to_string());
            let why = match failure.errno {
                Some(errno) => format!("{}: {errno}", failure.step),
                None => failure.step,
            };
            let left: Vec<String> = failure
                .undo
                .iter()
                .map(|(what, errno)| format!("{what}: {errno}"))
                .collect();
            Err(PortError::Failed {
                program,
                dataset,
                why,
                left: left.join(", "),
            })
        }
    }
}

/// Converts properties into the types that the kernel requires.
///
/// # Errors
/// [`PortError::Property`] for a property that ezz cannot convert.
pub fn typed(
    dataset: &DatasetName,
    properties: &BTreeMap<String, String>,
) -> Result<NvMap, PortError> {
    let one = |(name, value): (&String, &String)| {
        let typed = typed_property(name, value).ok_or_else(|| PortError::Property {
            dataset: dataset.clone(),
            property: name.clone(),
            value: value.clone(),
        })?;
        Ok((name.clone(), typed))
    };
    properties.iter().map(one).collect()
}

/// Converts the value of a property into the type that the kernel requires. An index is a number (zfs_prop.c); user
/// properties and paths are text.
fn typed_property(name: &str, value: &str) -> Option<Value> {
    let index = |table: &[(&str, u64)]| {
        table
            .iter()
            .find(|(text, _)| *text == value)
            .map(|(_, number)| Value::UInt(*number))
    };
    match name {
        "mountpoint" => Some(Value::Str(value.to_owned())),
        "canmount" => index(&[("off", 0), ("on", 1), ("noauto", 2)]),
        "readonly" | "devices" | "atime" => index(&[("off", 0), ("on", 1)]),
        "sync" => index(&[("standard", 0), ("always", 1), ("disabled", 2)]),
        "snapdir" => index(&[("hidden", 0), ("visible", 1), ("disabled", 2)]),
        "acltype" => index(&[("off", 0), ("posix", 1), ("nfsv4", 2)]),
        "xattr" => index(&[("off", 0), ("on", 1), ("sa", 2)]),
        _ if name.contains(':') => Some(Value::Str(value.to_owned())),
        _ => None,
    }
}
