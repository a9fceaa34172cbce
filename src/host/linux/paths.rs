//! The paths of everything that a site has at run time, and the names of its containers and cgroups.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::Killed;
use crate::name::JailName;

/// The directories of one site.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    run: PathBuf,
    log: PathBuf,
    site: String,
    notes: Arc<Mutex<Vec<String>>>,
    killed: Arc<Mutex<BTreeMap<JailName, Vec<Killed>>>>,
}

impl Paths {
    pub(super) fn new(site_id: &str, run: &Path, log: &Path) -> Self {
        // It should be a UUID, but it is read from a pool and becomes a part of paths.
        let site = site_id
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        Paths {
            run: run.to_owned(),
            log: log.to_owned(),
            site,
            notes: Arc::default(),
            killed: Arc::default(),
        }
    }

    /// Keeps a note for the user: see [`crate::ports::Host::notes`].
    pub(super) fn note(&self, text: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(text);
    }

    /// Returns the notes, and forgets them.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut notes)
    }

    /// Remembers the processes that a stop had to kill: see [`crate::ports::Host::killed`].
    pub(super) fn killed(&self, name: &JailName, processes: Vec<Killed>) {
        let mut killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        killed.insert(name.clone(), processes);
    }

    /// Returns the processes that the last stop of a jail had to kill.
    pub(super) fn killed_of(&self, name: &JailName) -> Vec<Killed> {
        let killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        killed.get(name).cloned().unwrap_or_default()
    }

    /// Returns the paths of the worlds that are being staged. They are those of another site, so that their names
    /// cannot collide with a jail's name.
    pub(super) fn worlds(&self) -> Paths {
        Paths {
            site: format!("w{}", self.site),
            ..self.clone()
        }
    }

    /// Returns the paths of all sites that have jails on this host, or had some.
    pub(super) fn sites(&self) -> io::Result<Vec<Paths>> {
        let of = |site: String| Paths {
            site,
            ..self.clone()
        };
        let mut all: Vec<Paths> = list(&self.run)?.into_iter().map(of).collect();
        all.retain(|paths| paths.jails().is_dir());
        Ok(all)
    }

    /// Returns the directory of all sites.
    pub(super) fn run(&self) -> &Path {
        &self.run
    }

    /// Returns the directory of this site.
    pub(super) fn site(&self) -> PathBuf {
        self.run.join(&self.site)
    }

    /// Returns the directory that has one directory for each jail that runs or has left something behind.
    pub(super) fn jails(&self) -> PathBuf {
        self.site().join("jails")
    }

    /// Returns the directory of a jail's bundle and of conmon's files.
    pub(super) fn jail(&self, name: &JailName) -> PathBuf {
        self.jails().join(name.as_str())
    }

    /// Returns the path where the jail's files are mounted with its ids.
    pub(super) fn root(&self, name: &JailName) -> PathBuf {
        self.jail(name).join("root")
    }

    /// Returns the path where its basejail is mounted with its ids.
    pub(super) fn base(&self, name: &JailName) -> PathBuf {
        self.jail(name).join("base")
    }

    /// Returns the path where the downloads of a world that is being staged are mounted with its ids.
    pub(super) fn cache(&self, name: &JailName) -> PathBuf {
        self.jail(name).join("cache")
    }

    /// Returns the path of a file that exists once the jail's first process was allowed to run. crun does not show
    /// that: it also reports a container as running whose creation was killed.
    pub(super) fn started(&self, name: &JailName) -> PathBuf {
        self.jail(name).join("started")
    }

    /// Returns the directory of crun's state, which does not include the bundles.
    pub(super) fn crun(&self) -> PathBuf {
        self.site().join("crun")
    }

    /// Returns the directory of crun's state for one jail.
    pub(super) fn crun_state(&self, name: &JailName) -> PathBuf {
        self.crun().join(self.container(name))
    }

    /// Returns the directory that has one file for each jail that has ended, with its exit status.
    pub(super) fn exits(&self) -> PathBuf {
        self.site().join("exit")
    }

    /// Returns the path of the file with the exit status of one jail.
    pub(super) fn exit(&self, name: &JailName) -> PathBuf {
        self.exits().join(self.container(name))
    }

    /// Returns the directory of the slots of ids, which all sites of the host share.
    pub(super) fn ids(&self) -> PathBuf {
        self.run.join("ids")
    }

    /// Returns the name of a jail as the owner of a slot of ids.
    pub(super) fn owner(&self, name: &JailName) -> String {
        format!("{}{name}", self.owners())
    }

    /// Returns the beginning of the names of this site's owners.
    pub(super) fn owners(&self) -> String {
        format!("{}/", self.site)
    }

    /// Returns the directory of the console logs.
    pub(super) fn logs(&self) -> PathBuf {
        self.log.join(&self.site)
    }

    /// Returns the path of the log of what a jail's first process prints.
    pub(super) fn log(&self, name: &JailName) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Returns the id of a jail's container.
    pub(super) fn container(&self, name: &JailName) -> String {
        format!("ezz-{}-{name}", self.short())
    }

    /// Returns the jail whose container has this id.
    pub(super) fn jail_of(&self, container: &str) -> Option<JailName> {
        let name = container.strip_prefix(&format!("ezz-{}-", self.short()))?;
        JailName::parse(name).ok()
    }

    /// Returns the cgroup of a jail, below the host's root cgroup.
    pub(super) fn cgroup(&self, name: &JailName) -> String {
        format!("{}/{name}", self.cgroups())
    }

    /// Returns the cgroup that contains those of the site's jails.
    pub(super) fn cgroups(&self) -> String {
        format!("/ezz/{}", self.short())
    }

    /// Returns the cgroup of a jail's conmon, and of crun while crun creates the container. No jail can have this name.
    pub(super) fn watcher(&self, name: &JailName) -> String {
        format!("/ezz/{}/_{name}", self.short())
    }

    fn short(&self) -> &str {
        self.site.get(..8).unwrap_or(&self.site)
    }

    /// Creates the directories. The parents of the jails' directories can be passed through, but not listed: crun opens
    /// a root as the jail's own root user, who has no rights on the host. Each jail's directory is closed to all other
    /// users.
    pub(super) fn create(&self) -> io::Result<()> {
        for path in [&self.run, &self.site(), &self.jails()] {
            DirBuilder::new().mode(0o711).recursive(true).create(path)?;
            fs::set_permissions(path, Permissions::from_mode(0o711))?;
        }
        for path in [self.crun(), self.exits(), self.ids(), self.logs()] {
            DirBuilder::new().mode(0o700).recursive(true).create(path)?;
        }
        Ok(())
    }
}

/// Returns the names in a directory; none if it is missing.
pub(super) fn list(directory: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Removes a file; returns false if it was missing.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_site_id_stays_below() {
        let paths = Paths::new(
            "../../etc",
            Path::new("/run/ezz"),
            Path::new("/var/log/ezz"),
        );
        assert_eq!(paths.site(), Path::new("/run/ezz/______etc"));
        let name = JailName::parse("web1").expect("valid");
        let paths = Paths::new(
            "0f8b6a52-93cf-4a55-9a4c-0d6c4f1a2b3c",
            Path::new("/run/ezz"),
            Path::new("/l"),
        );
        assert_eq!(paths.container(&name), "ezz-0f8b6a52-web1");
        assert_eq!(paths.jail_of("ezz-0f8b6a52-web1"), Some(name.clone()));
        assert_eq!(paths.jail_of("ezz-0f8b6a53-web1"), None);
        assert_eq!(paths.cgroup(&name), "/ezz/0f8b6a52/web1");
        assert_eq!(paths.watcher(&name), "/ezz/0f8b6a52/_web1");
        assert!(JailName::parse("_web1").is_err());
    }
}
