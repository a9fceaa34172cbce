//! Mounting on FreeBSD: nmount(2), unmount(2), getfsstat(2).
//!
//! This module must not mount nullfs and devfs for jails (jail(8) does), and has nothing of the Linux half.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use super::{MountError, MountFlags};
use crate::errno::Errno;
use crate::mountinfo::Mounted;
use crate::nmount::Options;

/// The kernel writes at most this many bytes of a message (vfs_mount.c).
const MESSAGE_SPACE: usize = 255;

pub(super) fn mount(dataset: &str, at: &Path, flags: MountFlags) -> Result<(), (Errno, String)> {
    let plain = |errno| (errno, String::new());
    let options = Options::of(dataset, at, flags).map_err(plain)?;
    let mut message = [0u8; MESSAGE_SPACE];
    let mut iov: Vec<libc::iovec> = options.parts().map(part).collect();
    iov.push(part(c"errmsg".to_bytes_with_nul()));
    iov.push(libc::iovec {
        iov_base: message.as_mut_ptr().cast(),
        iov_len: MESSAGE_SPACE,
    });
    let count = c_uint::try_from(iov.len()).map_err(|_| plain(Errno(libc::E2BIG)))?;
    // SAFETY: every entry points to a string or buffer of the given length that outlives the call; the kernel writes
    // only into the message buffer, which is ours and writable.
    let code = unsafe { libc::nmount(iov.as_mut_ptr(), count, 0) };
    if code == 0 {
        return Ok(());
    }
    let errno = Errno::last();
    let detail = CStr::from_bytes_until_nul(&message)
        .map(|text| text.to_string_lossy().into_owned())
        .unwrap_or_default();
    Err((errno, detail))
}

fn part(bytes: &[u8]) -> libc::iovec {
    let base = if bytes.is_empty() {
        ptr::null_mut()
    } else {
        bytes.as_ptr().cast_mut().cast::<c_void>()
    };
    libc::iovec {
        iov_base: base,
        iov_len: bytes.len(),
    }
}

pub(super) fn unmount(at: &Path) -> Result<(), Errno> {
    let target = c_path(at)?;
    // SAFETY: the string outlives the call.
    let code = unsafe { libc::unmount(target.as_ptr(), 0) };
    if code == 0 {
        Ok(())
    } else {
        Err(Errno::last())
    }
}

pub(super) fn mounted() -> Result<Arc<Vec<Mounted>>, MountError> {
    let failed = || MountError::Table(std::io::Error::last_os_error());
    let mut table: Vec<libc::statfs> = Vec::new();
    // getmntinfo would use one buffer for all threads; getfsstat does not.
    loop {
        // SAFETY: with a null buffer the call returns only the number of mounts.
        let count = unsafe { libc::getfsstat(ptr::null_mut(), 0, libc::MNT_NOWAIT) };
        let count = usize::try_from(count).map_err(|_| failed())?;
        // A mount may be added in between: allow one more, and try again if that place is filled, too.
        let places = count + 1;
        table.reserve(places);
        let bytes = places * size_of::<libc::statfs>();
        // SAFETY: the buffer has space for `places` structures, and its size is given.
        let filled = unsafe {
            libc::getfsstat(
                table.as_mut_ptr(),
                bytes.try_into().unwrap_or(libc::c_long::MAX),
                libc::MNT_NOWAIT,
            )
        };
        let filled = usize::try_from(filled).map_err(|_| failed())?;
        if filled < places {
            // SAFETY: the kernel has filled that many structures.
            unsafe { table.set_len(filled) };
            return Ok(Arc::new(table.iter().map(entry).collect()));
        }
    }
}

fn entry(stat: &libc::statfs) -> Mounted {
    let on = |flag: c_int| u64::try_from(flag).is_ok_and(|flag| stat.f_flags & flag != 0);
    let read = |field: &[c_char]| -> Vec<u8> {
        field
            .iter()
            .take_while(|&&byte| byte != 0)
            .map(|&byte| byte as u8)
            .collect()
    };
    let lossy = |field: &[c_char]| String::from_utf8_lossy(&read(field)).into_owned();
    let target = read(&stat.f_mntonname);
    Mounted {
        source: lossy(&stat.f_mntfromname),
        root: PathBuf::from("/"),
        target: PathBuf::from(std::ffi::OsStr::from_bytes(&target)),
        fstype: lossy(&stat.f_fstypename),
        read_only: on(libc::MNT_RDONLY),
        nosuid: on(libc::MNT_NOSUID),
        nodev: true,
        noexec: on(libc::MNT_NOEXEC),
        noatime: on(libc::MNT_NOATIME),
    }
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno(libc::EINVAL))
}
