//! The jails and mounts of the kernel at one moment, and what follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ezz_zfs::Mounted;

use super::jls::{self, Seen};
use super::system::System;
use crate::model::JailState;
use crate::name::JailName;
use crate::ports::HostError;

/// The file systems that jail(8) mounts below a jail's root. ZFS is not among them: ezz must not unmount the jail's own
/// dataset, or what the administrator has mounted there.
const MOUNTED_BY_JAIL: [&str; 5] = ["nullfs", "devfs", "fdescfs", "procfs", "tmpfs"];

/// The kernel at one moment, as far as it matters to one site.
#[derive(Debug)]
pub struct View {
    /// The site directory, without links, because jls prints paths as the kernel has them.
    pub site: PathBuf,
    /// All jails, including those that are not of this site.
    pub jails: Vec<Seen>,
    /// All mounts, oldest first.
    pub mounts: Arc<Vec<Mounted>>,
}

impl View {
    /// Reads the jails and mounts from the kernel.
    ///
    /// # Errors
    /// Returns [`HostError`] if jls fails or its output does not parse, or if the mounts cannot be read.
    pub fn of_kernel(system: &dyn System, site_directory: &Path) -> Result<View, HostError> {
        let output = system
            .exec("jls")
            .and_then(|exec| exec.args(jls::ARGUMENTS).run())
            .map_err(|source| HostError::Program {
                action: "list",
                jail: "the jails".to_owned(),
                source,
            })?;
        let jails = jls::parse(&output.stdout).map_err(|why| HostError::Parse {
            what: "the output of jls".to_owned(),
            why,
        })?;
        let mounts = system.mounted().map_err(|source| HostError::Mount {
            action: "list the mounts",
            jail: "the jails".to_owned(),
            source,
        })?;
        Ok(View {
            site: std::fs::canonicalize(site_directory)
                .unwrap_or_else(|_| site_directory.to_owned()),
            jails,
            mounts,
        })
    }

    /// Returns the root of a jail of the site.
    pub fn root(&self, name: &JailName) -> PathBuf {
        self.site.join(name.as_str())
    }

    /// Returns the running jail of the site with this name. A jail with the same name but another root is not of the
    /// site.
    fn running(&self, name: &JailName) -> Option<&Seen> {
        let root = self.root(name);
        self.jails
            .iter()
            .find(|jail| !jail.dying && jail.name == name.as_str() && jail.path == root)
    }

    /// Reports whether processes of the jail may be running.
    pub fn runs(&self, name: &JailName) -> bool {
        self.running(name).is_some()
    }

    /// Returns the jid of a running jail.
    pub fn jid(&self, name: &JailName) -> Option<u32> {
        self.running(name).map(|jail| jail.jid)
    }

    /// Returns the names of the site's running jails.
    pub fn running_names(&self) -> Vec<JailName> {
        let alive = self.jails.iter().filter(|jail| !jail.dying);
        let names = alive.filter_map(|jail| {
            let name = JailName::parse(&jail.name).ok()?;
            (jail.path == self.root(&name)).then_some(name)
        });
        names.collect()
    }

    /// Returns the root of a running jail with this name that is not of this site.
    pub fn stranger(&self, name: &JailName) -> Option<&Path> {
        let root = self.root(name);
        self.jails
            .iter()
            .find(|jail| !jail.dying && jail.name == name.as_str() && jail.path != root)
            .map(|jail| jail.path.as_path())
    }

    /// Returns the states of all jails of the site that the kernel has, and of those that have ended and left mounts.
    /// Stopping one of the latter removes its mounts.
    pub fn states(&self) -> BTreeMap<JailName, JailState> {
        let mut states = BTreeMap::new();
        for jail in &self.jails {
            let Ok(name) = JailName::parse(&jail.name) else {
                continue;
            };
            if jail.path != self.root(&name) {
                continue;
            }
            if jail.dying {
                // A jail that was started again meanwhile has the same name, and runs.
                states.entry(name).or_insert(JailState::Dying);
            } else {
                let base = self.base(&jail.path);
                states.insert(name, JailState::Running { id: jail.jid, base });
            }
        }
        for name in self.left() {
            states
                .entry(name)
                .or_insert(JailState::Stopped { exit: None });
        }
        states
    }

    /// Returns the dataset that a jail has at /basejail. For nullfs the mount table has the source directory, and for
    /// ZFS the dataset that is mounted there.
    fn base(&self, root: &Path) -> Option<String> {
        let target = root.join("basejail");
        let over = self
            .mounts
            .iter()
            .rfind(|mount| mount.target == target && mount.fstype == "nullfs")?;
        self.mounts
            .iter()
            .rfind(|mount| mount.target == Path::new(&over.source) && mount.fstype == "zfs")
            .map(|mount| mount.source.clone())
    }

    /// Returns the mounts of jail(8) that still exist below the root of a jail, newest first, which is the order in
    /// which they can be unmounted.
    pub fn mounted_in(&self, name: &JailName) -> Vec<&Mounted> {
        self.mounted_below(&self.root(name))
    }

    /// Returns the same for any root.
    pub fn mounted_below(&self, root: &Path) -> Vec<&Mounted> {
        let below = |mount: &&Mounted| mount.target != *root && mount.target.starts_with(root);
        // The cheap test comes first, because a site may have thousands of mounted datasets.
        self.mounts
            .iter()
            .rev()
            .filter(|mount| mounted_by_jail(mount))
            .filter(below)
            .collect()
    }

    /// Returns the jid of the jail whose root is this path, whatever its name.
    pub fn jid_at(&self, root: &Path) -> Option<u32> {
        let mut jails = self.jails.iter();
        let found = jails.find(|jail| !jail.dying && jail.path == *root);
        found.map(|jail| jail.jid)
    }

    /// Returns the jails that the kernel does not have, alive or dying, but that have mounts of jail(8) below their
    /// roots. It reads the mounts once, however many jails there are.
    pub fn left(&self) -> Vec<JailName> {
        let in_kernel: BTreeSet<(&str, &Path)> = self
            .jails
            .iter()
            .map(|jail| (jail.name.as_str(), jail.path.as_path()))
            .collect();
        let ours = self.mounts.iter().filter(|mount| mounted_by_jail(mount));
        let below = ours.filter_map(|mount| {
            let mut parts = mount.target.strip_prefix(&self.site).ok()?.iter();
            let name = parts.next()?.to_str()?;
            // A mount on the root itself is not one of jail(8).
            parts.next().map(|_| name)
        });
        let names: BTreeSet<&str> = below.collect();
        names
            .into_iter()
            .filter_map(|name| JailName::parse(name).ok())
            .filter(|name| !in_kernel.contains(&(name.as_str(), &*self.root(name))))
            .collect()
    }
}

fn mounted_by_jail(mount: &Mounted) -> bool {
    MOUNTED_BY_JAIL.contains(&mount.fstype.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{jail, mount};
    use super::*;

    fn view() -> View {
        View {
            site: "/usr/jails".into(),
            jails: vec![
                jail(1, "web", "/usr/jails/web", false),
                jail(2, "web", "/usr/jails/web", true),
                jail(3, "db", "/usr/jails/db", true),
                jail(4, "mail", "/home/mail", false),
                jail(5, "web.child", "/usr/jails/web/x", false),
                jail(6, "Other", "/usr/jails/Other", false),
            ],
            mounts: Arc::new(vec![
                mount("tank/ezz", "/usr/jails", "zfs"),
                mount("tank/ezz/basejail/6", "/usr/jails/basejail/6", "zfs"),
                mount("tank/ezz/basejail/7", "/usr/jails/basejail/7", "zfs"),
                mount("tank/ezz/jails/web", "/usr/jails/web", "zfs"),
                mount("/usr/jails/basejail/7", "/usr/jails/web/basejail", "nullfs"),
                mount("devfs", "/usr/jails/web/dev", "devfs"),
                mount("fdescfs", "/usr/jails/web/dev/fd", "fdescfs"),
                mount("tank/data", "/usr/jails/web/data", "zfs"),
                mount(
                    "/usr/jails/basejail/6",
                    "/usr/jails/web2/basejail",
                    "nullfs",
                ),
            ]),
        }
    }

    fn name(text: &str) -> JailName {
        JailName::parse(text).expect("a name")
    }

    #[test]
    fn jails_of_the_site_have_their_roots_there() {
        let states = view().states();
        let names: Vec<_> = states.keys().map(JailName::as_str).collect();
        assert_eq!(names, ["db", "web", "web2"]);
        let left = JailState::Stopped { exit: None };
        assert_eq!(states[&name("web2")], left, "its mounts are there still");
        assert_eq!(states[&name("db")], JailState::Dying);
        assert_eq!(
            states[&name("web")],
            JailState::Running {
                id: 1,
                base: Some("tank/ezz/basejail/7".to_owned())
            }
        );
        assert_eq!(
            view().stranger(&name("mail")),
            Some(Path::new("/home/mail"))
        );
        assert_eq!(view().stranger(&name("web")), None);
        assert_eq!(view().jid(&name("web")), Some(1));
        assert_eq!(view().jid(&name("db")), None);
        assert!(!view().runs(&name("mail")));
    }

    #[test]
    fn what_is_mounted_in_no_jail_is_left() {
        let mut view = view();
        assert_eq!(view.left(), [name("web2")]);
        view.jails.clear();
        assert_eq!(view.left(), [name("web"), name("web2")]);
    }

    #[test]
    fn only_what_jail_mounts_is_unmounted_and_the_newest_first() {
        let view = view();
        let targets: Vec<_> = view
            .mounted_in(&name("web"))
            .iter()
            .map(|mount| mount.target.to_str().expect("text").to_owned())
            .collect();
        assert_eq!(
            targets,
            [
                "/usr/jails/web/dev/fd",
                "/usr/jails/web/dev",
                "/usr/jails/web/basejail"
            ]
        );
    }
}
