//! Simulated mounts. The files of a dataset are a directory: in the store while the dataset is not mounted, at its
//! mountpoint while it is. Files that a mount hides are kept aside and come back afterwards.
//!
//! As on Linux, a later mount hides an earlier one at the same directory or below it. Unlike there, a second mount of a
//! dataset is an empty directory.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::files;
use super::pool::{Pool, errno};
use ezz::model::Flags;
use ezz_zfs::Errno;

/// An entry of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub source: String,
    pub target: PathBuf,
    pub flags: Flags,
    /// Whether the files are here: of several mounts of one dataset, the first has them.
    files: bool,
    id: u64,
}

/// The mount table, and the places of files.
#[derive(Debug, Clone)]
pub struct Mounts {
    pub table: Vec<Mount>,
    store: PathBuf,
    next: u64,
}

impl Mounts {
    pub fn new(root: &Path) -> Mounts {
        let store = root.join("store");
        fs::create_dir_all(&store).expect("the temporary directory can be written");
        Mounts {
            table: Vec::new(),
            store,
            next: 0,
        }
    }

    fn content(&self, content: u64) -> PathBuf {
        self.store.join(format!("content-{content}"))
    }

    fn covered(&self, id: u64) -> PathBuf {
        self.store.join(format!("covered-{id}"))
    }

    /// Returns the place where the files of a dataset or snapshot are now.
    pub fn files_of(&self, pool: &Pool, name: &str) -> Option<PathBuf> {
        let content = content_of(pool, name)?;
        let mounted = self
            .table
            .iter()
            .find(|mount| mount.files && content_of(pool, &mount.source) == Some(content));
        Some(mounted.map_or_else(|| self.content(content), |mount| mount.target.clone()))
    }

    /// Returns the top mount at a directory.
    pub fn top(&self, at: &Path) -> Option<&Mount> {
        self.table.iter().rev().find(|mount| mount.target == at)
    }

    /// Returns the top mount at a directory, to change its flags.
    pub fn top_mut(&mut self, at: &Path) -> Option<&mut Mount> {
        self.table.iter_mut().rev().find(|mount| mount.target == at)
    }

    pub fn mounted(&self, source: &str) -> bool {
        self.table.iter().any(|mount| mount.source == source)
    }

    /// Mounts a dataset or snapshot, as mount(2) does.
    pub fn mount(
        &mut self,
        pool: &mut Pool,
        source: &str,
        at: &Path,
        flags: Flags,
    ) -> Result<(), Errno> {
        let read_only = flags.read_only;
        if !pool.exists(source) {
            return Err(errno("ENOENT"));
        }
        if !at.is_dir() {
            return Err(errno("ENOENT"));
        }
        let other = self.table.iter().find(|mount| mount.source == source);
        if other.is_some_and(|other| other.flags.read_only != read_only) {
            return Err(errno("EBUSY"));
        }
        let first = other.is_none();
        if first {
            self.settle(pool, source, read_only);
        }
        self.next += 1;
        let id = self.next;
        rename(at, &self.covered(id));
        let content = content_of(pool, source).expect("it exists");
        if first {
            rename(&self.content(content), at);
        } else {
            fs::create_dir(at).expect("its parent is there");
        }
        self.table.push(Mount {
            source: source.to_owned(),
            target: at.to_owned(),
            flags,
            files: first,
            id,
        });
        pool.owned.insert(source.to_owned());
        Ok(())
    }

    /// Gives a dataset files of its own: an empty directory, or a copy of the files that it shares with others, if it
    /// is going to be written or those are mounted.
    fn settle(&mut self, pool: &mut Pool, source: &str, read_only: bool) {
        let content = content_of(pool, source).expect("it exists");
        let datasets = pool
            .datasets
            .iter()
            .map(|(name, found)| (name, found.content));
        let snapshots = pool
            .snapshots
            .iter()
            .map(|(name, found)| (name, found.content));
        let shared = datasets
            .chain(snapshots)
            .any(|(name, other)| other == content && name != source);
        let now = self.files_of(pool, source).expect("it exists");
        if shared && (!read_only || now != self.content(content)) {
            pool.next_content += 1;
            let own = pool.next_content;
            if now.exists() {
                files::copy(&now, &self.content(own)).expect("a copy of its files");
            }
            if let Some(found) = pool.datasets.get_mut(source) {
                found.content = own;
            } else if let Some(found) = pool.snapshots.get_mut(source) {
                found.content = own;
            }
        }
        let content = content_of(pool, source).expect("it exists");
        let directory = self.content(content);
        if !directory.exists() {
            fs::DirBuilder::new()
                .mode(0o755)
                .create(&directory)
                .expect("the store can be written");
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
    }

    /// Unmounts the top mount at a directory, as umount(2) does.
    pub fn unmount(&mut self, pool: &mut Pool, at: &Path) -> Result<(), Errno> {
        let Some(index) = self.table.iter().rposition(|mount| mount.target == at) else {
            return Err(errno("EINVAL"));
        };
        let later = &self.table[index + 1..];
        if later.iter().any(|mount| mount.target.starts_with(at)) {
            return Err(errno("EBUSY"));
        }
        // A mount that a later one hides cannot be reached by its path.
        if later.iter().any(|mount| at.starts_with(&mount.target)) {
            return Err(errno("EINVAL"));
        }
        self.take_off(pool, index);
        Ok(())
    }

    fn take_off(&mut self, pool: &mut Pool, index: usize) {
        let mount = self.table.remove(index);
        let content = content_of(pool, &mount.source);
        match content.filter(|_| mount.files) {
            Some(content) => rename(&mount.target, &self.content(content)),
            None => files::remove(&mount.target).expect("it is empty"),
        }
        rename(&self.covered(mount.id), &mount.target);
        match self
            .table
            .iter_mut()
            .find(|other| other.source == mount.source)
        {
            None => {
                pool.owned.remove(&mount.source);
            }
            Some(other) if mount.files => {
                let place = other.target.clone();
                other.files = true;
                files::remove(&place).expect("it is empty");
                let content = content.expect("a mounted dataset exists");
                rename(&self.content(content), &place);
            }
            Some(_) => {}
        }
    }

    /// Removes all mounts, the last first, as a power cut does.
    pub fn drop_all(&mut self, pool: &mut Pool) {
        while !self.table.is_empty() {
            self.take_off(pool, self.table.len() - 1);
        }
    }

    /// Removes files that no dataset uses any more.
    pub fn sweep(&self, pool: &Pool) {
        let datasets = pool.datasets.values().map(|found| found.content);
        let used: Vec<u64> = datasets
            .chain(pool.snapshots.values().map(|found| found.content))
            .collect();
        for entry in fs::read_dir(&self.store)
            .expect("the store can be read")
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let content = name.strip_prefix("content-").and_then(|n| n.parse().ok());
            if content.is_some_and(|content| !used.contains(&content)) {
                files::remove(&entry.path()).expect("it is ours");
            }
        }
    }

    /// Returns the table as `ports::Zfs::mounts` does.
    pub fn listed(&self) -> Vec<ezz::model::Mount> {
        let all = self.table.iter();
        all.map(|mount| ezz::model::Mount {
            whole: true,
            source: mount.source.clone(),
            target: mount.target.clone(),
            flags: mount.flags,
        })
        .collect()
    }
}

fn content_of(pool: &Pool, name: &str) -> Option<u64> {
    let dataset = pool.datasets.get(name).map(|found| found.content);
    dataset.or_else(|| pool.snapshots.get(name).map(|found| found.content))
}

#[track_caller]
fn rename(from: &Path, to: &Path) {
    if let Err(error) = fs::rename(from, to) {
        panic!(
            "the simulated mount of {} at {}: {error}",
            from.display(),
            to.display()
        );
    }
}
