//! Mounting datasets, by system calls: libzfs_core has no call for it, and the `zfs` command
//! cannot mount where it is told.
//!
//! Never lazily and never by force: a lazily unmounted dataset stays busy, invisibly. Which flags
//! a jail needs is not known here. The table of mounts is `mountinfo`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::errno::Errno;
use crate::mountinfo::{Mounted, ParseError};

#[cfg(target_os = "freebsd")]
#[path = "mount_freebsd.rs"]
mod os;
#[cfg(target_os = "linux")]
#[path = "mount_linux.rs"]
mod os;

#[cfg(target_os = "linux")]
#[path = "mount_at_linux.rs"]
mod one;

#[cfg(target_os = "linux")]
pub use os::{bind_idmapped, restrict};

/// Flags of one mount. `false` means that the flag is off, not "as it was".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountFlags {
    /// Nothing can be written.
    pub read_only: bool,
    /// Set-user-ID bits have no effect.
    pub nosuid: bool,
    /// Device nodes have no effect. FreeBSD has no such nodes outside devfs.
    pub nodev: bool,
    /// Nothing can be executed.
    pub noexec: bool,
    /// Reading does not update access times.
    pub noatime: bool,
}

/// A mount or unmount was refused.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Mounting a dataset.
    #[error("cannot mount {dataset} at {}{}", .at.display(), detail_text(.detail))]
    Mount {
        /// The dataset or snapshot.
        dataset: String,
        /// Where.
        at: PathBuf,
        /// What else the kernel said, on FreeBSD.
        detail: String,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// Something in the mount is in use: an open file, a working directory, a mount below it.
    #[error("cannot unmount {}: it is in use", .at.display())]
    Busy {
        /// Where.
        at: PathBuf,
    },
    /// Nothing is mounted there.
    #[error("cannot unmount {}: nothing is mounted there", .at.display())]
    NotMounted {
        /// Where.
        at: PathBuf,
    },
    /// Unmounting failed for another reason.
    #[error("cannot unmount {}", .at.display())]
    Unmount {
        /// Where.
        at: PathBuf,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// Flags could not be added to a mount.
    #[error("cannot change the flags of the mount at {}", .at.display())]
    Restrict {
        /// Where.
        at: PathBuf,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// The file system or the kernel cannot map ids: OpenZFS before 2.2, Linux before 5.12.
    #[error("the file system of {} cannot be mounted with mapped ids", .source_dir.display())]
    IdmapUnsupported {
        /// The directory to bind.
        source_dir: PathBuf,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// One of the steps of a bind mount with mapped ids.
    #[error("cannot bind {} to {} ({step})", .source_dir.display(), .at.display())]
    Bind {
        /// The directory to bind.
        source_dir: PathBuf,
        /// Where.
        at: PathBuf,
        /// The system call.
        step: &'static str,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// The table of mounts cannot be read.
    #[error("cannot read the table of mounts")]
    Table(#[source] std::io::Error),
    /// The table of mounts is not understood.
    #[error("cannot read the table of mounts")]
    Parse(#[from] ParseError),
}

fn detail_text(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(" ({detail})")
    }
}

/// Mounts a dataset or a snapshot. The flags are those of this mount alone: the dataset's
/// properties (`devices`, `setuid`, `exec`, `atime`) are not read.
///
/// # Errors
/// [`MountError::Mount`]: ENOENT no such dataset or directory; EPERM; EACCES its key is not loaded;
/// EBUSY on FreeBSD it is mounted elsewhere, on Linux elsewhere with another `read_only`.
pub fn mount(dataset: &str, at: &Path, flags: MountFlags) -> Result<(), MountError> {
    os::mount(dataset, at, flags).map_err(|(errno, detail)| MountError::Mount {
        dataset: dataset.to_owned(),
        at: at.to_owned(),
        detail,
        errno,
    })
}

/// Unmounts what is mounted at a directory. Linux does not follow the last component if it is a
/// link; FreeBSD does.
///
/// # Errors
/// In use, not mounted, or something else: each its own variant.
pub fn unmount(at: &Path) -> Result<(), MountError> {
    os::unmount(at).map_err(|errno| match errno.0 {
        libc::EBUSY => MountError::Busy { at: at.to_owned() },
        libc::EINVAL => MountError::NotMounted { at: at.to_owned() },
        _ => MountError::Unmount {
            at: at.to_owned(),
            errno,
        },
    })
}

/// The mounts that this process sees.
///
/// # Errors
/// The table cannot be read or is not understood.
pub fn mounted() -> Result<Arc<Vec<Mounted>>, MountError> {
    os::mounted()
}

/// What is mounted at a directory, the last of several; nothing, also if there is no such directory. Where the
/// kernel tells that of one directory, the table of all mounts is not read.
///
/// # Errors
/// As [`mounted`].
pub fn mounted_at(at: &Path) -> Result<Option<Mounted>, MountError> {
    #[cfg(target_os = "linux")]
    if let Some(found) = one::mounted_at(at) {
        return Ok(found);
    }
    let table = mounted()?;
    Ok(table.iter().rfind(|mount| mount.target == at).cloned())
}
