//! Mounting on Linux: mount(2), umount2(2), and the file-descriptor calls for mapped ids.
//!
//! This module must not name anything of a jail, and has nothing of the FreeBSD half (`mount_freebsd.rs`).

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_ulong};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use super::{MountError, MountFlags};
use crate::errno::Errno;
use crate::mountinfo::{Mounted, parse_mountinfo};

/// `struct mount_attr` of linux/mount.h in its first version (32 bytes).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

// linux/mount.h
const OPEN_TREE_CLONE: c_uint = 1;
const OPEN_TREE_CLOEXEC: c_uint = libc::O_CLOEXEC as c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x0000_0004;
pub(super) const MOUNT_ATTR_RDONLY: u64 = 0x0000_0001;
pub(super) const MOUNT_ATTR_NOSUID: u64 = 0x0000_0002;
pub(super) const MOUNT_ATTR_NODEV: u64 = 0x0000_0004;
pub(super) const MOUNT_ATTR_NOEXEC: u64 = 0x0000_0008;
/// All bits of the access time setting; relatime is 0.
pub(super) const MOUNT_ATTR_ATIME: u64 = 0x0000_0070;
pub(super) const MOUNT_ATTR_NOATIME: u64 = 0x0000_0010;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

impl MountFlags {
    /// Returns the flags for mount(2). Linux keeps these per mount, which is also why libzfs passes them.
    fn mount_bits(self) -> c_ulong {
        let mut bits = if self.noatime {
            libc::MS_NOATIME
        } else {
            libc::MS_RELATIME
        };
        for (on, bit) in [
            (self.read_only, libc::MS_RDONLY),
            (self.nosuid, libc::MS_NOSUID),
            (self.nodev, libc::MS_NODEV),
            (self.noexec, libc::MS_NOEXEC),
        ] {
            if on {
                bits |= bit;
            }
        }
        bits
    }

    /// Returns the attributes for mount_setattr(2): those to set and those to clear.
    fn attributes(self) -> (u64, u64) {
        let (mut set, mut clear) = (0, MOUNT_ATTR_ATIME);
        if self.noatime {
            set |= MOUNT_ATTR_NOATIME;
        }
        for (on, bit) in [
            (self.read_only, MOUNT_ATTR_RDONLY),
            (self.nosuid, MOUNT_ATTR_NOSUID),
            (self.nodev, MOUNT_ATTR_NODEV),
            (self.noexec, MOUNT_ATTR_NOEXEC),
        ] {
            if on {
                set |= bit;
            } else {
                clear |= bit;
            }
        }
        (set, clear)
    }
}

pub(super) fn mount(dataset: &str, at: &Path, flags: MountFlags) -> Result<(), (Errno, String)> {
    let plain = |errno| (errno, String::new());
    let source = CString::new(dataset).map_err(|_| plain(Errno(libc::EINVAL)))?;
    let target = c_path(at).map_err(plain)?;
    // SAFETY: the strings outlive the call; no data is passed.
    let code = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            c"zfs".as_ptr(),
            flags.mount_bits(),
            ptr::null(),
        )
    };
    if code == 0 {
        Ok(())
    } else {
        Err(plain(Errno::last()))
    }
}

/// Adds flags to one mount and removes none. Other mounts of the same file system keep their flags.
///
/// # Errors
/// [`MountError::Restrict`]; EBUSY if the mount is to become read-only and a file is open for writing.
pub fn restrict(at: &Path, flags: MountFlags) -> Result<(), MountError> {
    let failed = |errno: Errno| MountError::Restrict {
        at: at.to_owned(),
        errno,
    };
    let path = c_path(at).map_err(failed)?;
    let (attr_set, _) = flags.attributes();
    let mut attr = MountAttr {
        attr_set,
        // The access time setting is one value, which must be cleared before it can be set (mount_setattr(2)).
        attr_clr: if flags.noatime { MOUNT_ATTR_ATIME } else { 0 },
        propagation: 0,
        userns_fd: 0,
    };
    let done = mount_setattr(libc::AT_FDCWD, &path, libc::AT_SYMLINK_NOFOLLOW, &mut attr);
    match done {
        // Linux before 5.12 has no mount_setattr(2).
        Err(Errno(libc::ENOSYS)) => remount(at, &path, flags),
        other => other.map_err(failed),
    }
}

/// Adds flags by mount(2), which also needs the flags that stay.
fn remount(at: &Path, path: &CString, flags: MountFlags) -> Result<(), MountError> {
    let table = mounted()?;
    let now = table.iter().rfind(|mount| mount.target == at);
    let now = now.ok_or_else(|| MountError::NotMounted { at: at.to_owned() })?;
    let all = MountFlags {
        read_only: flags.read_only || now.read_only,
        nosuid: flags.nosuid || now.nosuid,
        nodev: flags.nodev || now.nodev,
        noexec: flags.noexec || now.noexec,
        noatime: flags.noatime || now.noatime,
    };
    let bits = libc::MS_REMOUNT | libc::MS_BIND | all.mount_bits();
    // SAFETY: the string outlives the call; a remount reads no other argument.
    let code = unsafe { libc::mount(ptr::null(), path.as_ptr(), ptr::null(), bits, ptr::null()) };
    if code == 0 {
        return Ok(());
    }
    Err(MountError::Restrict {
        at: at.to_owned(),
        errno: Errno::last(),
    })
}

pub(super) fn unmount(at: &Path) -> Result<(), Errno> {
    let target = c_path(at)?;
    // SAFETY: the string outlives the call.
    let code = unsafe { libc::umount2(target.as_ptr(), libc::UMOUNT_NOFOLLOW) };
    if code == 0 {
        Ok(())
    } else {
        Err(Errno::last())
    }
}

/// The table as it was read last, and the file by which a change is noticed.
struct Table {
    file: File,
    mounts: Arc<Vec<Mounted>>,
}

/// Returns the table of mounts. With ten thousand jails the kernel takes a tenth of a second to write it. poll(2)
/// reports whether it has changed (proc_pid_mounts(5)). The poll comes before the read, so that a change during the
/// read is noticed the next time.
pub(super) fn mounted() -> Result<Arc<Vec<Mounted>>, MountError> {
    static LAST: Mutex<Option<Table>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(table) = last.as_ref().filter(|table| !has_changed(&table.file)) {
        return Ok(Arc::clone(&table.mounts));
    }
    let mut file = match last.take() {
        Some(table) => table.file,
        None => File::open("/proc/self/mountinfo").map_err(MountError::Table)?,
    };
    let mut bytes = Vec::new();
    file.rewind().map_err(MountError::Table)?;
    file.read_to_end(&mut bytes).map_err(MountError::Table)?;
    let mounts = Arc::new(parse_mountinfo(&bytes)?);
    let found = Arc::clone(&mounts);
    *last = Some(Table { file, mounts });
    Ok(found)
}

/// Whether the table has changed since the last call; also true if that cannot be found out.
fn has_changed(table: &File) -> bool {
    let mut poll = libc::pollfd {
        fd: table.as_raw_fd(),
        events: libc::POLLPRI,
        revents: 0,
    };
    // SAFETY: there is one initialised entry, which outlives the call; the call does not wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) != 0 }
}

/// Binds a directory to another one with the ids of a user namespace, and with exactly these flags.
///
/// The clone is created detached, changed, and only then attached, so that no process sees it unfinished. Its flags do
/// not depend on those of the host's own mount, which may be nosuid or read-only. It does not share mount events with
/// the original, and does not contain the mounts below the source.
///
/// # Errors
/// [`MountError::IdmapUnsupported`] if the file system or the kernel cannot map ids; otherwise [`MountError::Bind`]
/// with the step.
pub fn bind_idmapped(
    source: &Path,
    at: &Path,
    userns: BorrowedFd<'_>,
    flags: MountFlags,
) -> Result<(), MountError> {
    let failed = |step| {
        move |errno| MountError::Bind {
            source_dir: source.to_owned(),
            at: at.to_owned(),
            step,
            errno,
        }
    };
    let from = c_path(source).map_err(failed("open_tree"))?;
    let to = c_path(at).map_err(failed("move_mount"))?;
    let tree = open_tree(&from).map_err(failed("open_tree"))?;
    let (attr_set, attr_clr) = flags.attributes();
    let mut attr = MountAttr {
        attr_set: attr_set | MOUNT_ATTR_IDMAP,
        attr_clr,
        propagation: libc::MS_PRIVATE,
        userns_fd: u64::try_from(userns.as_raw_fd()).unwrap_or(u64::MAX),
    };
    let here = tree.as_raw_fd();
    mount_setattr(here, c"", libc::AT_EMPTY_PATH, &mut attr).map_err(|errno| match errno.0 {
        // EINVAL: the file system has no FS_ALLOW_IDMAP (do_idmap_mount in fs/namespace.c).
        libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP => MountError::IdmapUnsupported {
            source_dir: source.to_owned(),
            errno,
        },
        _ => failed("mount_setattr")(errno),
    })?;
    move_mount(tree.as_raw_fd(), &to).map_err(failed("move_mount"))
}

/// Calls open_tree(2): clones one mount detached, without the mounts below it.
fn open_tree(path: &CString) -> Result<OwnedFd, Errno> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    // SAFETY: the string outlives the call; the arguments are those of the system call.
    let code: c_long =
        unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = RawFd::try_from(code).map_err(|_| Errno(libc::EBADF))?;
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call returned a new descriptor, which no other code owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Calls mount_setattr(2) on the mount at a path relative to a descriptor.
fn mount_setattr(
    from: RawFd,
    path: &CStr,
    flags: c_int,
    attr: &mut MountAttr,
) -> Result<(), Errno> {
    // SAFETY: the string and the structure outlive the call, and the size of the structure is given.
    let code = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            from,
            path.as_ptr(),
            flags,
            ptr::from_mut(attr),
            size_of::<MountAttr>(),
        )
    };
    if code == 0 {
        Ok(())
    } else {
        Err(Errno::last())
    }
}

/// Calls move_mount(2), which attaches a detached mount.
fn move_mount(tree: RawFd, to: &CString) -> Result<(), Errno> {
    let empty: *const c_char = c"".as_ptr();
    let here: c_int = libc::AT_FDCWD;
    // SAFETY: both strings outlive the call; the arguments are those of the system call.
    let code = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree,
            empty,
            here,
            to.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if code == 0 {
        Ok(())
    } else {
        Err(Errno::last())
    }
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))
}
