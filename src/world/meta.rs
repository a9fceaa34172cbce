//! The metadata of a file: owner, mode, time and extended attributes.
//!
//! One list says which extended attributes belong to a world; extraction, copies and the manifest all use it. The list
//! does not have attributes that only the host that set them understands (`security.selinux`, `trusted.*`), nor those
//! that the host cannot store (extattr(9) of FreeBSD knows only `user` and `system`).

use std::fs::File;
use std::io;

use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use xattr::FileExt;

use super::dirs::wide;
use super::error::WorldError;
use crate::profile::RelPath;

/// Linux keeps POSIX access control lists in these; FreeBSD has system calls for them instead.
pub(super) const ACL_ACCESS: &str = "system.posix_acl_access";
/// The default access control list of a directory; see [`ACL_ACCESS`].
pub(super) const ACL_DEFAULT: &str = "system.posix_acl_default";

/// The most bytes of attributes that are read of one file: Linux alone would allow 9000 attributes of 64 KiB each
/// (xattr(7)).
const ATTRIBUTES_MAX: usize = 1 << 20;

/// The owner or group that chown(2) takes for "leave it as it is".
pub(super) const NO_CHANGE: u32 = u32::MAX;

/// Name and value of an extended attribute.
pub(super) type Attribute = (String, Vec<u8>);

/// All metadata of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    /// The permissions, with setuid, setgid and sticky.
    pub(super) mode: u32,
    /// The numeric owner.
    pub(super) uid: u32,
    /// The numeric group.
    pub(super) gid: u32,
    /// Modification time, seconds.
    pub(super) mtime: i64,
    /// Modification time, nanoseconds.
    pub(super) nsec: u32,
    /// The extended attributes that belong to a world, sorted by name.
    pub(super) attributes: Vec<Attribute>,
}

/// Whether an extended attribute belongs to a world.
pub(super) fn is_kept(name: &str) -> bool {
    let of_linux = ["security.capability", ACL_ACCESS, ACL_DEFAULT];
    name.starts_with("user.") || (cfg!(target_os = "linux") && of_linux.contains(&name))
}

impl Meta {
    /// Returns owner, mode and time from a status, without attributes.
    pub(super) fn of(stat: &Stat) -> Meta {
        Meta {
            mode: (wide(stat.st_mode) & 0o7777) as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: stat.st_mtime,
            nsec: stat.st_mtime_nsec as u32,
            attributes: Vec::new(),
        }
    }

    /// Returns the metadata of a file that ezz adds to a base: the owner of this process, and no time of its own.
    pub(super) fn own(mode: u32) -> Meta {
        Meta {
            mode,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mtime: 0,
            nsec: 0,
            attributes: Vec::new(),
        }
    }

    /// Returns the metadata of an open file, with its attributes.
    pub(super) fn of_file(stat: &Stat, file: &File) -> io::Result<Meta> {
        Ok(Meta {
            attributes: attributes(file)?,
            ..Meta::of(stat)
        })
    }

    /// Returns the modification time for the system; the access time stays.
    pub(super) fn times(&self) -> Timestamps {
        Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT as _,
            },
            last_modification: Timespec {
                tv_sec: self.mtime as _,
                tv_nsec: self.nsec as _,
            },
        }
    }

    /// Returns the owner for chown(2).
    fn owner(&self, path: &RelPath) -> Result<(Uid, Gid), WorldError> {
        if [self.uid, self.gid].contains(&NO_CHANGE) {
            return Err(WorldError::Owner {
                path: path.clone(),
                uid: self.uid,
                gid: self.gid,
            });
        }
        Ok((Uid::from_raw(self.uid), Gid::from_raw(self.gid)))
    }

    /// Sets all metadata on an open file or directory. The order matters: chown(2) clears setuid and capabilities, and
    /// all other steps change the time.
    pub(super) fn apply(
        &self,
        file: &File,
        path: &RelPath,
        host: &RelHost,
    ) -> Result<(), WorldError> {
        let sys = |op, e: rustix::io::Errno| WorldError::io(op, host(path), e);
        let (uid, gid) = self.owner(path)?;
        rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(|e| sys("set the owner of", e))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode as rustix::fs::RawMode))
            .map_err(|e| sys("set the mode of", e))?;
        for (name, value) in &self.attributes {
            file.set_xattr(name, value)
                .map_err(|source| WorldError::Attribute {
                    attribute: name.clone(),
                    path: path.clone(),
                    source,
                })?;
        }
        rustix::fs::futimens(file, &self.times()).map_err(|e| sys("set the time of", e))
    }

    /// Removes from an open file or directory the attributes that are not in `self`: a new file inherits some from a
    /// default access control list above it.
    pub(super) fn strip(&self, file: &File, path: &RelPath) -> Result<(), WorldError> {
        let failed = |attribute: &str, source| WorldError::Attribute {
            attribute: attribute.to_owned(),
            path: path.clone(),
            source,
        };
        let there = match attributes(file) {
            Ok(there) => there,
            // The file has more attributes than any release has.
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge => return Ok(()),
            Err(e) => return Err(failed("the list", e)),
        };
        let has = |name: &str| self.attributes.iter().any(|(it, _)| it == name);
        for (name, _) in there.iter().filter(|(name, _)| !has(name)) {
            file.remove_xattr(name).map_err(|e| failed(name, e))?;
        }
        Ok(())
    }

    /// Sets the metadata that a symbolic link can have.
    pub(super) fn apply_to_link(
        &self,
        parent: impl std::os::fd::AsFd,
        path: &RelPath,
        host: &RelHost,
    ) -> Result<(), WorldError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = self.owner(path)?;
        rustix::fs::chownat(&parent, path.name(), Some(uid), Some(gid), flags)
            .map_err(|e| WorldError::io("set the owner of", host(path), e))?;
        rustix::fs::utimensat(&parent, path.name(), &self.times(), flags)
            .map_err(|e| WorldError::io("set the time of", host(path), e))
    }
}

/// Returns the path on the host, for messages.
pub(super) type RelHost<'a> = dyn Fn(&RelPath) -> std::path::PathBuf + 'a;

/// Returns the attributes of an open file that belong to a world, sorted. Fails with `FileTooLarge` if they have more
/// than [`ATTRIBUTES_MAX`] bytes.
pub(super) fn attributes(file: &File) -> io::Result<Vec<Attribute>> {
    let names = match file.list_xattr() {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::Unsupported => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    let mut bytes = 0;
    for name in names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| is_kept(name))
    {
        if let Some(value) = file.get_xattr(&name)? {
            bytes += name.len() + value.len();
            if bytes > ATTRIBUTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            found.push((name, value));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The owner comes from an archive or a file system; without this check the file would silently stay root's.
    #[test]
    fn no_file_keeps_its_owner_for_want_of_a_number() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let path = RelPath::parse(b"file")?;
        let file = File::create(directory.path().join("file"))?;
        let root = File::open(directory.path())?;
        let host = |path: &RelPath| path.under(directory.path());
        let own = Meta::of(&rustix::fs::fstat(&file)?);
        own.apply(&file, &path, &host)?;
        for (uid, gid) in [(NO_CHANGE, own.gid), (own.uid, NO_CHANGE)] {
            let meta = Meta {
                uid,
                gid,
                ..own.clone()
            };
            for refused in [
                meta.apply(&file, &path, &host),
                meta.apply_to_link(&root, &path, &host),
            ] {
                assert!(matches!(refused, Err(WorldError::Owner { .. })));
            }
        }
        Ok(())
    }
}
