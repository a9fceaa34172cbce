//! Mounts datasets by system calls: libzfs_core has no call for it, and the `zfs` command cannot mount at a given path.
//!
//! Nothing is unmounted lazily or by force: a dataset that was unmounted lazily stays busy, invisibly. This module must
//! not know which flags a jail needs. The table of mounts is in `mountinfo`.

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

/// The flags of one mount. `false` means that the flag is off, not that it stays as it was.
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

/// A mount or an unmount was refused.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A dataset could not be mounted.
    #[error("cannot mount {dataset} at {}{}", .at.display(), detail_text(.detail))]
    Mount {
        /// The dataset or snapshot.
        dataset: String,
        /// The directory to mount at.
        at: PathBuf,
        /// The message of the kernel, on FreeBSD.
        detail: String,
        /// The error of the kernel.
        #[source]
        errno: Errno,
    },
    /// A file of the mount is in use: an open file, a working directory, or a mount below it.
    #[error("cannot unmount {}: it is in use", .at.display())]
    Busy {
        /// The directory of the mount.
        at: PathBuf,
    },
    /// Nothing is mounted at the directory.
    #[error("cannot unmount {}: nothing is mounted there", .at.display())]
    NotMounted {
        /// The directory.
        at: PathBuf,
    },
    /// Unmounting failed for another reason.
    #[error("cannot unmount {}", .at.display())]
    Unmount {
        /// The directory of the mount.
        at: PathBuf,
        /// The error of the kernel.
        #[source]
        errno: Errno,
    },
    /// Flags could not be added to a mount.
    #[error("cannot change the flags of the mount at {}", .at.display())]
    Restrict {
        /// The directory of the mount.
        at: PathBuf,
        /// The error of the kernel.
        #[source]
        errno: Errno,
    },
    /// The file system or the kernel cannot map ids: OpenZFS before 2.2, Linux before 5.12.
    #[error("the file system of {} cannot be mounted with mapped ids", .source_dir.display())]
    IdmapUnsupported {
        /// The directory to bind.
        source_dir: PathBuf,
        /// The error of the kernel.
        #[source]
        errno: Errno,
    },
    /// A step of a bind mount with mapped ids failed.
    #[error("cannot bind {} to {} ({step})", .source_dir.display(), .at.display())]
    Bind {
        /// The directory to bind.
        source_dir: PathBuf,
        /// The directory to mount at.
        at: PathBuf,
        /// The system call that failed.
        step: &'static str,
        /// The error of the kernel.
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

/// Mounts a dataset or a snapshot. The flags hold for this mount only: the dataset's properties (`devices`, `setuid`,
/// `exec`, `atime`) are ignored.
///
/// # Errors
/// [`MountError::Mount`]: ENOENT if the dataset or the directory does not exist; EPERM; EACCES if its key is not
/// loaded; EBUSY on FreeBSD if it is mounted elsewhere, on Linux if it is mounted elsewhere with another `read_only`.
pub fn mount(dataset: &str, at: &Path, flags: MountFlags) -> Result<(), MountError> {
    os::mount(dataset, at, flags).map_err(|(errno, detail)| MountError::Mount {
        dataset: dataset.to_owned(),
        at: at.to_owned(),
        detail,
        errno,
    })
}

/// Unmounts the file system that is mounted at a directory. If the last component is a link, Linux does not follow it;
/// FreeBSD does.
///
/// # Errors
/// The mount is in use, nothing is mounted, or another error; each is a variant.
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

/// Returns the mounts that this process sees.
///
/// # Errors
/// The table cannot be read or is not understood.
pub fn mounted() -> Result<Arc<Vec<Mounted>>, MountError> {
    os::mounted()
}

/// Returns the mount at a directory, the last one if there are several; `None` if there is none or the directory does
/// not exist. If the kernel can report a single mount, the table of all mounts is not read.
///
/// # Errors
/// Those of [`mounted`].
pub fn mounted_at(at: &Path) -> Result<Option<Mounted>, MountError> {
    #[cfg(target_os = "linux")]
    if let Some(found) = one::mounted_at(at) {
        return Ok(found);
    }
    let table = mounted()?;
    Ok(table.iter().rfind(|mount| mount.target == at).cloned())
}
