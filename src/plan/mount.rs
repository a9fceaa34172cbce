//! How datasets are mounted on the host, and with which flags.

use serde::Serialize;

use crate::model::Flags;

/// The role of a mounted dataset, which determines the flags of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountAs {
    /// The site, whose directory belongs to root.
    Site,
    /// A generation that is being built: writable.
    Staged,
    /// A sealed base: read-only.
    Base,
    /// A jail's files.
    Jail,
}

impl MountAs {
    /// Returns the flags that ezz gives such a mount.
    pub fn flags(self) -> Flags {
        self.flags_on(cfg!(target_os = "linux"))
    }

    /// Returns the flags for one system. On Linux a jail has its own mounts of its files and its base, which allow
    /// set-user-ID programs even if the host's mounts do not. On FreeBSD the jail's root is the host's mount.
    fn flags_on(self, linux: bool) -> Flags {
        Flags {
            read_only: self == MountAs::Base,
            nosuid: linux || self == MountAs::Site,
            nodev: true,
            noatime: true,
        }
    }

    /// Returns the flags that such a mount lacks and that ezz adds: zfs(8) mounts by the properties, which are less
    /// strict. There are none on FreeBSD, where a jail may run on the mount. `read_only` is not among them: if a base
    /// can be written, its property was changed, which doctor reports, and a read-only mount would hide the change.
    pub fn lacks(self, has: Flags) -> Flags {
        match cfg!(target_os = "linux") {
            true => Flags {
                read_only: false,
                ..self.flags().without(has)
            },
            false => Flags::default(),
        }
    }

    /// Whether a plan has to mount a dataset: it is not mounted, or its mount lacks flags.
    pub fn wanted(self, mounted: bool, has: Option<Flags>) -> bool {
        !mounted || has.is_some_and(|has| self.lacks(has).any())
    }
}

/// Whether a site directory with these permissions (without the file type) and this owner can be entered by users other
/// than root.
pub fn is_open(mode: u32, owner: u32) -> bool {
    mode != 0o700 || owner != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_has_its_flags() {
        let words = |linux| {
            let all = [MountAs::Site, MountAs::Staged, MountAs::Base, MountAs::Jail];
            all.map(|how| how.flags_on(linux).words().join(","))
        };
        let (protected, base) = ("nosuid,nodev,noatime", "ro,nosuid,nodev,noatime");
        assert_eq!(words(true), [protected, protected, base, protected]);
        // A jail's root or base is mounted there, and su(1) must work in the jail.
        let (open, base) = ("nodev,noatime", "ro,nodev,noatime");
        assert_eq!(words(false), [protected, open, base, open]);
    }

    #[test]
    fn what_lacks_a_flag_is_to_be_mounted() {
        let how = MountAs::Jail;
        assert!(how.wanted(false, None));
        assert!(!how.wanted(true, None));
        assert!(!how.wanted(true, Some(how.flags())));
        let more = Flags {
            read_only: true,
            ..how.flags()
        };
        assert!(!how.wanted(true, Some(more)));
        let linux = cfg!(target_os = "linux");
        assert_eq!(how.wanted(true, Some(Flags::parse("nodev"))), linux);
    }
}
