//! Where everything of a site is at run time, and how its containers and cgroups are called.

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
        // A UUID by rights; but it is read from a pool, and becomes a part of paths.
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

    /// Takes the notes.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut notes)
    }

    /// Remembers what a stop had to kill: see [`crate::ports::Host::killed`].
    pub(super) fn killed(&self, name: &JailName, processes: Vec<Killed>) {
        let mut killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        killed.insert(name.clone(), processes);
    }

    /// What the last stop of a jail had to kill.
    pub(super) fn killed_of(&self, name: &JailName) -> Vec<Killed> {
        let killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        killed.get(name).cloned().unwrap_or_default()
    }

    /// Those of the worlds that are being built, as if they were jails of another site: no jail's
    /// name can be in the way of theirs.
    pub(super) fn worlds(&self) -> Paths {
        Paths {
            site: format!("w{}", self.site),
            ..self.clone()
        }
    }

    /// Those of all sites that have jails here, or had.
    pub(super) fn sites(&self) -> io::Result<Vec<Paths>> {
        let of = |site: String| Paths {
            site,
            ..self.clone()
        };
        let mut all: Vec<Paths> = list(&self.run)?.into_iter().map(of).collect();
        all.retain(|paths| paths.jails().is_dir());
        Ok(all)
    }

    /// Of all sites.
    pub(super) fn run(&self) -> &Path {
        &self.run
    }

    /// All of the site.
    pub(super) fn site(&self) -> PathBuf {
        self.run.join(&self.site)
    }

    /// One directory for each jail that runs or left something behind.
    pub(super) fn jails(&self) -> PathBuf {
        self.site().join("jails")
    }

    /// The bundle of a jail, and conmon's files.
    pub(super) fn jail(&self, name: &JailName) -> PathBuf {
        self.jails().join(name.as_str())
    }

    /// Where the jail's files are mounted with its ids.
    pub(super) fn root(&self, name: &JailName) -> PathBuf {
        self.jail(name).join("root")
    }

    /// Where its basejail is mounted with its ids.
    pub(super) fn base(&self, name: &JailName) -> PathBuf {
        self.jail(name).join("base")
    }

    /// Where the downloads of a world that is being built are mounted with its ids.
    pub(super) fn cache(&self, name: &JailName) -> PathBuf {
        self.jail(name).join("cache")
    }

    /// There once its first process was let go. crun's own word is no help: it calls a container
    /// running whose making was killed.
    pub(super) fn started(&self, name: &JailName) -> PathBuf {
        self.jail(name).join("started")
    }

    /// What crun knows; not the bundle.
    pub(super) fn crun(&self) -> PathBuf {
        self.site().join("crun")
    }

    /// What crun knows of one jail.
    pub(super) fn crun_state(&self, name: &JailName) -> PathBuf {
        self.crun().join(self.container(name))
    }

    /// One file for each jail that ended, with its exit status.
    pub(super) fn exits(&self) -> PathBuf {
        self.site().join("exit")
    }

    /// The exit status of one jail.
    pub(super) fn exit(&self, name: &JailName) -> PathBuf {
        self.exits().join(self.container(name))
    }

    /// The slots of ids, which all sites of the host share.
    pub(super) fn ids(&self) -> PathBuf {
        self.run.join("ids")
    }

    /// Who owns a slot of ids.
    pub(super) fn owner(&self, name: &JailName) -> String {
        format!("{}{name}", self.owners())
    }

    /// What the owners of this site begin with.
    pub(super) fn owners(&self) -> String {
        format!("{}/", self.site)
    }

    /// The consoles' logs.
    pub(super) fn logs(&self) -> PathBuf {
        self.log.join(&self.site)
    }

    /// What a jail's first process prints.
    pub(super) fn log(&self, name: &JailName) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// The container's id.
    pub(super) fn container(&self, name: &JailName) -> String {
        format!("ezz-{}-{name}", self.short())
    }

    /// The jail whose container has this id.
    pub(super) fn jail_of(&self, container: &str) -> Option<JailName> {
        let name = container.strip_prefix(&format!("ezz-{}-", self.short()))?;
        JailName::parse(name).ok()
    }

    /// The cgroup of a jail, below the host's root.
    pub(super) fn cgroup(&self, name: &JailName) -> String {
        format!("{}/{name}", self.cgroups())
    }

    /// The cgroup that those of the site's jails are in.
    pub(super) fn cgroups(&self) -> String {
        format!("/ezz/{}", self.short())
    }

    /// The cgroup of its conmon, and of crun while that makes it. No jail can be called so.
    pub(super) fn watcher(&self, name: &JailName) -> String {
        format!("/ezz/{}/_{name}", self.short())
    }

    fn short(&self) -> &str {
        self.site.get(..8).unwrap_or(&self.site)
    }

    /// Makes the directories. The way to the jails can be passed, not listed: crun opens a root as
    /// the jail's own root user, who is nobody on the host. Each jail's is closed to all but him.
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

/// The names in a directory; none if it is missing.
pub(super) fn list(directory: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Removes a file; false if it was missing.
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
