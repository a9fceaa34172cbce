//! Errors of the kernel by name.
//!
//! OpenZFS returns an errno as a value. Linux and FreeBSD use different numbers, so only this file may compare with a
//! literal. Numbers from 1024 on belong to OpenZFS (`zfs_errno_t` in `sys/fs/zfs.h`) and are the same everywhere.

use std::fmt;

/// An errno that OpenZFS returned. It is displayed as `EBUSY: Device or resource busy`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

impl std::error::Error for Errno {}

macro_rules! names {
    ($($name:ident),* $(,)?) => {
        &[$((libc::$name, stringify!($name))),*]
    };
}

/// The errnos that an OpenZFS call or a mount can return, and that both systems have.
const NAMES: &[(i32, &str)] = names![
    EPERM,
    ENOENT,
    ESRCH,
    EINTR,
    EIO,
    ENXIO,
    E2BIG,
    ENOEXEC,
    EBADF,
    ECHILD,
    EAGAIN,
    ENOMEM,
    EACCES,
    EFAULT,
    ENOTBLK,
    EBUSY,
    EEXIST,
    EXDEV,
    ENODEV,
    ENOTDIR,
    EISDIR,
    EINVAL,
    ENFILE,
    EMFILE,
    ENOTTY,
    ETXTBSY,
    EFBIG,
    ENOSPC,
    ESPIPE,
    EROFS,
    EMLINK,
    EPIPE,
    EDOM,
    ERANGE,
    EDEADLK,
    ENOLCK,
    ECANCELED,
    ENOTSUP,
    EDQUOT,
    ENAMETOOLONG,
    ENOSYS,
    ENOTEMPTY,
    ELOOP,
    EOVERFLOW,
    EILSEQ,
    ESTALE,
    EALREADY,
    EINPROGRESS,
    ETIMEDOUT,
    EPROTO,
    EBADMSG,
    EOPNOTSUPP,
];

/// The errnos that only Linux has. On FreeBSD the SPL maps ECHRNG to ENXIO and ETIME to ETIMEDOUT, and checksum errors
/// to its own EINTEGRITY (`os/freebsd/spl/sys/ccompile.h`).
#[cfg(target_os = "linux")]
const SYSTEM_NAMES: &[(i32, &str)] = names![
    ECHRNG,
    ETIME,
    EBADE,
    EBADR,
    ENOANO,
    ENODATA,
    EREMOTEIO,
    ENOTUNIQ,
    ENOKEY,
    EKEYREJECTED,
    EREMCHG,
    ENOMEDIUM,
    EUCLEAN,
];
#[cfg(target_os = "freebsd")]
const SYSTEM_NAMES: &[(i32, &str)] = &[(97, "EINTEGRITY"), (libc::ENOTCAPABLE, "ENOTCAPABLE")];
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
const SYSTEM_NAMES: &[(i32, &str)] = &[];

/// The errors of `zfs_errno_t` from 1024 on, in order, each with its meaning.
const ZFS_NAMES: &[(&str, &str)] = &[
    ("ZFS_ERR_CHECKPOINT_EXISTS", "the pool has a checkpoint"),
    (
        "ZFS_ERR_DISCARDING_CHECKPOINT",
        "a checkpoint is being discarded",
    ),
    ("ZFS_ERR_NO_CHECKPOINT", "the pool has no checkpoint"),
    ("ZFS_ERR_DEVRM_IN_PROGRESS", "a device is being removed"),
    ("ZFS_ERR_VDEV_TOO_BIG", "a device is too big"),
    (
        "ZFS_ERR_IOC_CMD_UNAVAIL",
        "the module does not know this operation",
    ),
    (
        "ZFS_ERR_IOC_ARG_UNAVAIL",
        "the module does not know an argument",
    ),
    ("ZFS_ERR_IOC_ARG_REQUIRED", "the module misses an argument"),
    (
        "ZFS_ERR_IOC_ARG_BADTYPE",
        "the module wants another type for an argument",
    ),
    (
        "ZFS_ERR_WRONG_PARENT",
        "the parent cannot hold such a dataset",
    ),
    (
        "ZFS_ERR_FROM_IVSET_GUID_MISSING",
        "the stream lacks the guid of its initialisation vectors",
    ),
    (
        "ZFS_ERR_FROM_IVSET_GUID_MISMATCH",
        "the initialisation vectors do not match",
    ),
    (
        "ZFS_ERR_SPILL_BLOCK_FLAG_MISSING",
        "the stream lacks the spill block flag",
    ),
    (
        "ZFS_ERR_UNKNOWN_SEND_STREAM_FEATURE",
        "the stream has an unknown feature",
    ),
    ("ZFS_ERR_EXPORT_IN_PROGRESS", "the pool is being exported"),
    (
        "ZFS_ERR_BOOKMARK_SOURCE_NOT_ANCESTOR",
        "the source of the bookmark is no ancestor",
    ),
    ("ZFS_ERR_STREAM_TRUNCATED", "the stream is cut off"),
    (
        "ZFS_ERR_STREAM_LARGE_BLOCK_MISMATCH",
        "the stream differs in its large blocks",
    ),
    ("ZFS_ERR_RESILVER_IN_PROGRESS", "a resilver is running"),
    ("ZFS_ERR_REBUILD_IN_PROGRESS", "a rebuild is running"),
    ("ZFS_ERR_BADPROP", "bad property value"),
    ("ZFS_ERR_VDEV_NOTSUP", "the device does not support it"),
    ("ZFS_ERR_NOT_USER_NAMESPACE", "not a user namespace"),
    ("ZFS_ERR_RESUME_EXISTS", "a partly received state exists"),
    ("ZFS_ERR_CRYPTO_NOTSUP", "not supported with encryption"),
    (
        "ZFS_ERR_RAIDZ_EXPAND_IN_PROGRESS",
        "a raidz expansion is running",
    ),
    ("ZFS_ERR_ASHIFT_MISMATCH", "the sector sizes differ"),
    (
        "ZFS_ERR_STREAM_LARGE_MICROZAP",
        "the stream has large micro ZAPs",
    ),
];

/// The first number that belongs to OpenZFS.
const ZFS_FIRST: i32 = 1024;

impl Errno {
    /// A channel program ended with a Lua error: ECHRNG, which is ENXIO on FreeBSD.
    #[cfg(not(target_os = "freebsd"))]
    pub const PROGRAM_FAILED: Errno = Errno(libc::ECHRNG);
    /// A channel program ended with a Lua error: ECHRNG, which is ENXIO on FreeBSD.
    #[cfg(target_os = "freebsd")]
    pub const PROGRAM_FAILED: Errno = Errno(libc::ENXIO);
    /// A channel program reached its instruction limit: ETIME, which is ETIMEDOUT on FreeBSD.
    #[cfg(not(target_os = "freebsd"))]
    pub const PROGRAM_TIMED_OUT: Errno = Errno(libc::ETIME);
    /// A channel program reached its instruction limit: ETIME, which is ETIMEDOUT on FreeBSD.
    #[cfg(target_os = "freebsd")]
    pub const PROGRAM_TIMED_OUT: Errno = Errno(libc::ETIMEDOUT);

    /// Returns the errno of the calling thread, right after a failed system call.
    pub(crate) fn last() -> Errno {
        Errno(
            std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO),
        )
    }

    /// Returns the name of the errno on this system, if it has one.
    pub fn name(self) -> Option<&'static str> {
        if let Some(own) = self.zfs() {
            return Some(own.0);
        }
        NAMES
            .iter()
            .chain(SYSTEM_NAMES)
            .find(|(number, _)| *number == self.0)
            .map(|(_, name)| *name)
    }

    /// Returns the errno with this name on this system.
    pub fn from_name(name: &str) -> Option<Errno> {
        let own = ZFS_NAMES.iter().position(|(own, _)| *own == name);
        if let Some(index) = own.and_then(|index| i32::try_from(index).ok()) {
            return Some(Errno(ZFS_FIRST + index));
        }
        NAMES
            .iter()
            .chain(SYSTEM_NAMES)
            .find(|(_, known)| *known == name)
            .map(|(number, _)| Errno(*number))
    }

    fn zfs(self) -> Option<(&'static str, &'static str)> {
        let index = usize::try_from(self.0.checked_sub(ZFS_FIRST)?).ok()?;
        ZFS_NAMES.get(index).copied()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, meaning)) = self.zfs() {
            return write!(f, "{name}: {meaning}");
        }
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        match self.name() {
            Some(name) => write!(f, "{name}: {text}"),
            None => write!(f, "error {}: {text}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_this_system() {
        assert_eq!(Errno(libc::EBUSY).name(), Some("EBUSY"));
        assert!(Errno(libc::EBUSY).to_string().starts_with("EBUSY: "));
        assert!(!Errno(libc::EBUSY).to_string().contains("os error"));
        assert_eq!(Errno(-7).name(), None);
        assert!(Errno(99_999).to_string().starts_with("error 99999: "));
    }

    #[test]
    fn names_of_openzfs_start_at_1024() {
        assert_eq!(Errno(1024).name(), Some("ZFS_ERR_CHECKPOINT_EXISTS"));
        assert_eq!(Errno(1029).name(), Some("ZFS_ERR_IOC_CMD_UNAVAIL"));
        assert_eq!(Errno(1033).name(), Some("ZFS_ERR_WRONG_PARENT"));
        assert_eq!(Errno(1051).name(), Some("ZFS_ERR_STREAM_LARGE_MICROZAP"));
        assert_eq!(
            Errno(1033).to_string(),
            "ZFS_ERR_WRONG_PARENT: the parent cannot hold such a dataset"
        );
        assert_eq!(Errno(1023).name(), None);
    }

    #[test]
    fn every_name_reads_back() {
        for (number, name) in NAMES.iter().chain(SYSTEM_NAMES) {
            let back = Errno::from_name(name);
            assert_eq!(back, Some(Errno(*number)), "{name}");
        }
        for (index, (name, _)) in (1024..).zip(ZFS_NAMES) {
            assert_eq!(Errno::from_name(name), Some(Errno(index)), "{name}");
        }
        assert_eq!(Errno::from_name("EWHAT"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_two_numbers_of_programs() {
        assert_eq!(Errno::PROGRAM_FAILED.name(), Some("ECHRNG"));
        assert_eq!(Errno::PROGRAM_TIMED_OUT.name(), Some("ETIME"));
    }
}
