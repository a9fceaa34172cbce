//! The simulated pool: datasets, snapshots, properties, holds, space, and the errno of OpenZFS for each refusal. This
//! module must not know mounts or files: the caller passes in which datasets are mounted.
//!
//! Sources: dsl_destroy.c (what makes a dataset busy), dsl_prop.c (sources of values), zcp_synctask.c (the space that a
//! program is assumed to need), zfs_namecheck.c.

use std::collections::{BTreeMap, BTreeSet};

use ezz_zfs::Errno;

/// The greatest length of a name, and of the value of a property.
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 8191;

/// The space that the pool itself needs for a dataset.
const DATASET_BYTES: u64 = 24 * 1024;

/// The source of a property's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    Local,
    Received,
    /// The value is set on this ancestor.
    Inherited(String),
}

/// The values that were set on one dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    pub local: BTreeMap<String, String>,
    pub received: BTreeMap<String, String>,
    /// Properties that were explicitly inherited, so that a received value does not count any more.
    pub masked: BTreeSet<String>,
}

/// A file system.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub guid: u64,
    pub own: Own,
    /// The guid of the snapshot that it is a clone of.
    pub origin: Option<u64>,
    /// The number of its files in the store.
    pub content: u64,
    /// The number of bytes written since its last snapshot.
    pub written: u64,
}

/// A snapshot.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub guid: u64,
    pub own: Own,
    pub holds: BTreeSet<String>,
    pub content: u64,
    /// Whether it is destroyed together with its last clone and hold.
    pub deferred: bool,
}

/// The pool.
#[derive(Debug, Clone)]
pub struct Pool {
    pub datasets: BTreeMap<String, Dataset>,
    pub snapshots: BTreeMap<String, Snapshot>,
    /// The total size in bytes.
    pub size: u64,
    /// Whether programs can clone, as from OpenZFS 2.4 on.
    pub sync_clone: bool,
    /// Datasets that are mounted or otherwise owned.
    pub owned: BTreeSet<String>,
    pub next_guid: u64,
    pub next_content: u64,
}

pub fn errno(name: &str) -> Errno {
    Errno::from_name(name).expect("an errno of this system")
}

type Done = Result<(), Errno>;

fn refuse<T>(name: &str) -> Result<T, Errno> {
    Err(errno(name))
}

pub fn parent(name: &str) -> Option<&str> {
    name.rsplit_once('/').map(|(parent, _)| parent)
}

/// Returns the part before `@`.
pub fn filesystem(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

impl Pool {
    pub fn new(name: &str, sync_clone: bool) -> Pool {
        let mut pool = Pool {
            datasets: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            size: 4 << 30,
            sync_clone,
            owned: BTreeSet::new(),
            next_guid: 1,
            next_content: 1,
        };
        let root = pool.fresh();
        pool.datasets.insert(name.to_owned(), root);
        pool
    }

    /// Returns a new guid. It is below 2^53, since Lua's numbers are doubles outside of the kernel.
    fn guid(&mut self) -> u64 {
        self.next_guid += 1;
        self.next_guid.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12
    }

    fn fresh(&mut self) -> Dataset {
        self.next_content += 1;
        Dataset {
            guid: self.guid(),
            own: Own::default(),
            origin: None,
            content: self.next_content,
            written: 0,
        }
    }

    pub fn exists(&self, name: &str) -> bool {
        self.datasets.contains_key(name) || self.snapshots.contains_key(name)
    }

    pub fn guid_of(&self, name: &str) -> Option<u64> {
        let dataset = self.datasets.get(name).map(|found| found.guid);
        dataset.or_else(|| self.snapshots.get(name).map(|found| found.guid))
    }

    fn own(&self, name: &str) -> Option<&Own> {
        let dataset = self.datasets.get(name).map(|found| &found.own);
        dataset.or_else(|| self.snapshots.get(name).map(|found| &found.own))
    }

    pub fn own_mut(&mut self, name: &str) -> Option<&mut Own> {
        if let Some(found) = self.datasets.get_mut(name) {
            return Some(&mut found.own);
        }
        self.snapshots.get_mut(name).map(|found| &mut found.own)
    }

    /// Returns a value that can be inherited, and its source.
    pub fn property(&self, name: &str, property: &str) -> Option<(String, From)> {
        let mut at = name;
        loop {
            if let Some(own) = self.own(at) {
                let inherits = at != name;
                if inherits && !inheritable(property) {
                    return None;
                }
                let found = own.local.get(property).map(|value| (value, From::Local));
                let found = found.or_else(|| {
                    let value = own.received.get(property)?;
                    (!own.masked.contains(property)).then_some((value, From::Received))
                });
                if let Some((value, from)) = found {
                    if !inherits {
                        return Some((value.clone(), from));
                    }
                    return Some((value.clone(), From::Inherited(at.to_owned())));
                }
            }
            at = match at.split_once('@') {
                Some((dataset, _)) => dataset,
                None => parent(at)?,
            };
        }
    }

    /// Returns the names of all user properties that a dataset has or inherits.
    pub fn user_properties(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut at = Some(name);
        while let Some(here) = at {
            if let Some(own) = self.own(here) {
                let names = own.local.keys().chain(own.received.keys());
                found.extend(names.filter(|name| name.contains(':')).cloned());
            }
            at = match here.split_once('@') {
                Some((dataset, _)) => Some(dataset),
                None => parent(here),
            };
        }
        found.retain(|property| self.property(name, property).is_some());
        found
    }

    /// Returns the mountpoint: an inherited one ends with the part of the name below the ancestor.
    pub fn mountpoint(&self, name: &str) -> String {
        match self.property(name, "mountpoint") {
            None => format!("/{name}"),
            Some((value, From::Inherited(from))) if value.starts_with('/') => {
                let below = name.strip_prefix(&from).unwrap_or_default();
                format!("{}{below}", value.trim_end_matches('/'))
            }
            Some((value, _)) => value,
        }
    }

    pub fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a String> {
        self.datasets
            .keys()
            .filter(move |child| parent(child) == Some(name))
    }

    pub fn snapshots_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a String> {
        self.snapshots
            .keys()
            .filter(move |snapshot| filesystem(snapshot) == name)
    }

    pub fn clones_of(&self, snapshot: &str) -> Vec<String> {
        let Some(found) = self.snapshots.get(snapshot) else {
            return Vec::new();
        };
        let clones = self.datasets.iter();
        clones
            .filter(|(_, dataset)| dataset.origin == Some(found.guid))
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub fn snapshot_by_guid(&self, guid: u64) -> Option<&String> {
        let mut all = self.snapshots.iter();
        all.find(|(_, found)| found.guid == guid)
            .map(|(name, _)| name)
    }

    pub fn available(&self) -> u64 {
        let count = self.datasets.len() + self.snapshots.len();
        self.size.saturating_sub(count as u64 * DATASET_BYTES)
    }

    fn room(&self) -> Done {
        if self.available() < 2 * DATASET_BYTES {
            return refuse("ENOSPC");
        }
        Ok(())
    }

    fn new_name(&self, name: &str) -> Done {
        if name.len() > MAX_NAME {
            return refuse("ENAMETOOLONG");
        }
        match parent(name) {
            Some(parent) if self.datasets.contains_key(parent) => {}
            _ => return refuse("ENOENT"),
        }
        if self.datasets.contains_key(name) {
            return refuse("EEXIST");
        }
        Ok(())
    }

    pub fn create(&mut self, name: &str, properties: &BTreeMap<String, String>) -> Done {
        self.new_name(name)?;
        self.room()?;
        let mut dataset = self.fresh();
        dataset.own.local = properties.clone();
        self.datasets.insert(name.to_owned(), dataset);
        Ok(())
    }

    pub fn check_clone(&self, origin: &str, name: &str) -> Done {
        self.new_name(name)?;
        if !origin.contains('@') {
            return refuse("EINVAL");
        }
        if !self.snapshots.contains_key(origin) {
            return refuse("ENOENT");
        }
        self.room()
    }

    pub fn clone_to(&mut self, origin: &str, name: &str) -> Done {
        self.check_clone(origin, name)?;
        let mut dataset = self.fresh();
        let snapshot = &self.snapshots[origin];
        dataset.origin = Some(snapshot.guid);
        dataset.content = snapshot.content;
        self.datasets.insert(name.to_owned(), dataset);
        Ok(())
    }

    pub fn check_snapshot(&self, name: &str) -> Done {
        if name.len() > MAX_NAME {
            return refuse("ENAMETOOLONG");
        }
        if !self.datasets.contains_key(filesystem(name)) {
            return refuse("ENOENT");
        }
        if self.snapshots.contains_key(name) {
            return refuse("EEXIST");
        }
        self.room()
    }

    pub fn snapshot(&mut self, name: &str) -> Done {
        self.check_snapshot(name)?;
        let guid = self.guid();
        let dataset = self
            .datasets
            .get_mut(filesystem(name))
            .expect("it was looked for");
        dataset.written = 0;
        let snapshot = Snapshot {
            guid,
            own: Own::default(),
            holds: BTreeSet::new(),
            content: dataset.content,
            deferred: false,
        };
        self.snapshots.insert(name.to_owned(), snapshot);
        Ok(())
    }

    /// Checks a destroy as `dsl_destroy_head_check_impl` and `dsl_destroy_snapshot_check_impl` do.
    pub fn check_destroy(&self, name: &str) -> Done {
        if name.contains('@') {
            // The destroy of a snapshot that does not exist succeeds (dsl_destroy.c).
            let Some(snapshot) = self.snapshots.get(name) else {
                return Ok(());
            };
            if self.owned.contains(name) || !snapshot.holds.is_empty() {
                return refuse("EBUSY");
            }
            if !self.clones_of(name).is_empty() {
                return refuse("EEXIST");
            }
            return Ok(());
        }
        if !self.datasets.contains_key(name) {
            return refuse("ENOENT");
        }
        if self.owned.contains(name) || self.snapshots_of(name).next().is_some() {
            return refuse("EBUSY");
        }
        if self.children(name).next().is_some() {
            return refuse("EEXIST");
        }
        Ok(())
    }

    pub fn destroy(&mut self, name: &str) -> Done {
        self.check_destroy(name)?;
        let gone = self.datasets.remove(name);
        self.snapshots.remove(name);
        let origin = gone.and_then(|gone| gone.origin);
        let origin = origin.and_then(|guid| self.snapshot_by_guid(guid)).cloned();
        if let Some(origin) = origin {
            self.reap(&origin);
        }
        Ok(())
    }

    /// Destroys a snapshot as soon as nothing keeps it.
    pub fn destroy_deferred(&mut self, name: &str) -> Done {
        if let Some(snapshot) = self.snapshots.get_mut(name) {
            snapshot.deferred = true;
            self.reap(name);
        }
        Ok(())
    }

    /// Destroys a snapshot that was marked for a deferred destroy, if nothing keeps it any more.
    fn reap(&mut self, name: &str) {
        let waits = self.snapshots.get(name).is_some_and(|found| found.deferred);
        if waits && self.check_destroy(name).is_ok() {
            self.snapshots.remove(name);
        }
    }

    /// Checks a rollback: mounts count, but not what the rollback would lose.
    pub fn check_rollback(&self, name: &str) -> Done {
        if !self.datasets.contains_key(name) {
            return refuse("ENOENT");
        }
        if self.snapshots_of(name).next().is_none() {
            return refuse("ESRCH");
        }
        if self.owned.contains(name) {
            return refuse("EBUSY");
        }
        Ok(())
    }

    /// Rolls a dataset back to a snapshot, if there is no later one (`dsl_dataset_rollback_check`).
    pub fn rollback(&mut self, snapshot: &str) -> Done {
        let name = filesystem(snapshot).to_owned();
        self.check_rollback(&name)?;
        let Some(found) = self.snapshots.get(snapshot) else {
            return refuse("ESRCH");
        };
        let (guid, content) = (found.guid, found.content);
        if self
            .snapshots_of(&name)
            .any(|other| self.snapshots[other].guid > guid)
        {
            return refuse("EEXIST");
        }
        let dataset = self.datasets.get_mut(&name).expect("it was looked for");
        dataset.content = content;
        dataset.written = 0;
        Ok(())
    }

    /// Returns the name of the snapshot that a dataset is a clone of.
    pub fn origin(&self, name: &str) -> Option<&String> {
        let guid = self.datasets.get(name)?.origin?;
        self.snapshot_by_guid(guid)
    }

    /// Promotes a clone as `dsl_dataset_promote_check` and `_sync` do: the clone gets its origin and all older
    /// snapshots.
    pub fn promote(&mut self, name: &str) -> Done {
        let Some(dataset) = self.datasets.get(name) else {
            return refuse("ENOENT");
        };
        let Some(origin) = dataset.origin else {
            return refuse("EINVAL");
        };
        let old = self
            .origin(name)
            .map(|snapshot| filesystem(snapshot).to_owned());
        let Some(old) = old else {
            return refuse("EINVAL");
        };
        let moved: Vec<String> = self
            .snapshots_of(&old)
            .filter(|snapshot| self.snapshots[*snapshot].guid <= origin)
            .cloned()
            .collect();
        let renamed = |snapshot: &str| snapshot.replacen(&old, name, 1);
        if moved
            .iter()
            .any(|snapshot| self.snapshots.contains_key(&renamed(snapshot)))
        {
            return refuse("EEXIST");
        }
        for snapshot in moved {
            let found = self.snapshots.remove(&snapshot).expect("it was looked for");
            self.snapshots.insert(renamed(&snapshot), found);
        }
        let above = self.datasets.get(&old).and_then(|old| old.origin);
        for (which, origin) in [(name, above), (old.as_str(), Some(origin))] {
            if let Some(dataset) = self.datasets.get_mut(which) {
                dataset.origin = origin;
            }
        }
        Ok(())
    }

    /// Checks a change by a program or `zfs set`: only user properties may be set.
    pub fn check_user_property(&self, name: &str, property: &str, value: &str) -> Done {
        if !self.exists(name) {
            return refuse("ENOENT");
        }
        if property.len() > MAX_NAME {
            return refuse("ENAMETOOLONG");
        }
        if !property.contains(':') || !valid_property(property) {
            return refuse("EINVAL");
        }
        if value.len() > MAX_VALUE {
            return refuse("E2BIG");
        }
        Ok(())
    }

    pub fn set(&mut self, name: &str, property: &str, value: &str) -> Done {
        let Some(own) = self.own_mut(name) else {
            return refuse("ENOENT");
        };
        own.local.insert(property.to_owned(), value.to_owned());
        Ok(())
    }

    pub fn inherit(&mut self, name: &str, property: &str) -> Done {
        let Some(own) = self.own_mut(name) else {
            return refuse("ENOENT");
        };
        own.local.remove(property);
        if own.received.contains_key(property) {
            own.masked.insert(property.to_owned());
        }
        Ok(())
    }

    pub fn hold(&mut self, name: &str, tag: &str) -> Done {
        let Some(snapshot) = self.snapshots.get_mut(name) else {
            return refuse("ENOENT");
        };
        if !snapshot.holds.insert(tag.to_owned()) {
            return refuse("EEXIST");
        }
        Ok(())
    }

    pub fn release(&mut self, name: &str, tag: &str) -> Done {
        let snapshot = self.snapshots.get_mut(name);
        if snapshot.is_some_and(|found| found.holds.remove(tag)) {
            return Ok(());
        }
        refuse("ENOENT")
    }

    /// Does what `zfs send -R | zfs receive -u` of a site does: the same snapshots under other datasets, every property
    /// received, no holds, nothing mounted.
    pub fn replicate(&mut self, from: &str, to: &str) {
        let below = |name: &str| {
            let rest = name.strip_prefix(from)?;
            (rest.is_empty() || rest.starts_with(['/', '@'])).then(|| format!("{to}{rest}"))
        };
        let received = |own: &Own| Own {
            received: own
                .received
                .clone()
                .into_iter()
                .chain(own.local.clone())
                .collect(),
            ..Own::default()
        };
        let datasets: Vec<(String, Dataset)> = self
            .datasets
            .iter()
            .filter_map(|(name, found)| Some((below(name)?, found.clone())))
            .collect();
        let snapshots: Vec<(String, Snapshot)> = self
            .snapshots
            .iter()
            .filter_map(|(name, found)| Some((below(name)?, found.clone())))
            .collect();
        for (name, found) in datasets {
            let guid = self.guid();
            let own = received(&found.own);
            self.datasets.insert(name, Dataset { guid, own, ..found });
        }
        for (name, found) in snapshots {
            let own = received(&found.own);
            let holds = BTreeSet::new();
            self.snapshots.insert(
                name,
                Snapshot {
                    own,
                    holds,
                    ..found
                },
            );
        }
    }

    /// Removes a dataset and everything below it: an export, or the pool of another host.
    pub fn forget(&mut self, root: &str) {
        let below = |name: &str| {
            name.strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']))
        };
        self.datasets.retain(|name, _| !below(name));
        self.snapshots.retain(|name, _| !below(name));
        self.owned.retain(|name| !below(name));
    }
}

/// Returns whether a name can be that of a user property (zprop_valid_char).
pub fn valid_property(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b":-._".contains(&b);
    name.bytes().all(plain)
}

/// Returns whether children inherit a property. Of the native properties only those that ezz uses are known.
fn inheritable(property: &str) -> bool {
    property.contains(':') || !matches!(property, "canmount" | "quota")
}

impl Pool {
    /// Returns whether the site of the test is a site and no replica.
    pub fn own_is_site(&self) -> bool {
        let site = self.datasets.get(super::SITE);
        site.is_some_and(|site| site.own.local.contains_key("ezz:format"))
    }
}
