//! Finds the mount at one directory without the table of all mounts: statx(2) reports whether there is one, and
//! statmount(2) which one. Linux 6.13 and later report the dataset; on other kernels the table is read.

use std::ffi::{CStr, CString, OsStr, c_long};
use std::mem::{MaybeUninit, offset_of};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use super::os::{
    MOUNT_ATTR_ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
};
use crate::mountinfo::Mounted;

/// The system call number, which is the same on every architecture that Rust supports except Alpha, which has no
/// OpenZFS.
const SYS_STATMOUNT: c_long = 457;

// linux/stat.h
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

// linux/mount.h
const SB_BASIC: u64 = 0x001;
const MNT_BASIC: u64 = 0x002;
const MNT_ROOT: u64 = 0x008;
const FS_TYPE: u64 = 0x020;
const SB_SOURCE: u64 = 0x200;
const WANTED: u64 = SB_BASIC | MNT_BASIC | MNT_ROOT | FS_TYPE | SB_SOURCE;
const SB_RDONLY: u32 = 0x1;

/// `struct mnt_id_req` of linux/mount.h in its first version.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mnt_id: u64,
    param: u64,
}

/// `struct statmount` of linux/mount.h, with space for the texts: a dataset, a path and a type. Fields that are not
/// read here have the names of the header, too.
#[repr(C)]
struct Answer {
    size: u32,
    mnt_opts: u32,
    mask: u64,
    sb_dev: [u32; 2],
    sb_magic: u64,
    sb_flags: u32,
    fs_type: u32,
    mnt_ids: [u64; 2],
    mnt_ids_old: [u32; 2],
    mnt_attr: u64,
    propagation: [u64; 4],
    mnt_root: u32,
    mnt_point: u32,
    mnt_ns_id: u64,
    fs_subtype: u32,
    sb_source: u32,
    spare: [u64; 48],
    text: [u8; TEXT],
}

const TEXT: usize = 8192;
const _: () = assert!(offset_of!(Answer, sb_source) == 124 && offset_of!(Answer, text) == 512);

/// Returns the mount at a directory, the last one if there are several. The outer `None` means that this kernel does
/// not report it, or not in this case.
pub(super) fn mounted_at(at: &Path) -> Option<Option<Mounted>> {
    let path = CString::new(at.as_os_str().as_bytes()).ok()?;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the string and the buffer for the answer outlive the call.
    let code = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT,
            STATX_MNT_ID_UNIQUE,
            found.as_mut_ptr(),
        )
    };
    if code != 0 {
        let missing = std::io::Error::last_os_error().kind() == std::io::ErrorKind::NotFound;
        return missing.then_some(None);
    }
    // SAFETY: the value was zeroed, which is valid for integers, and the kernel has filled it.
    let found = unsafe { found.assume_init() };
    if found.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT == 0 {
        return None;
    }
    if found.stx_attributes & STATX_ATTR_MOUNT_ROOT == 0 {
        return Some(None);
    }
    if found.stx_mask & STATX_MNT_ID_UNIQUE == 0 {
        return None;
    }
    let answer = statmount(found.stx_mnt_id)?;
    if answer.mask & WANTED != WANTED {
        return None;
    }
    let attribute = |bit: u64| answer.mnt_attr & bit != 0;
    Some(Some(Mounted {
        source: text(&answer, answer.sb_source)?.to_str()?.to_owned(),
        root: PathBuf::from(text(&answer, answer.mnt_root)?),
        target: at.to_owned(),
        fstype: text(&answer, answer.fs_type)?.to_str()?.to_owned(),
        read_only: attribute(MOUNT_ATTR_RDONLY) || answer.sb_flags & SB_RDONLY != 0,
        nosuid: attribute(MOUNT_ATTR_NOSUID),
        nodev: attribute(MOUNT_ATTR_NODEV),
        noexec: attribute(MOUNT_ATTR_NOEXEC),
        noatime: answer.mnt_attr & MOUNT_ATTR_ATIME == MOUNT_ATTR_NOATIME,
    }))
}

fn statmount(mnt_id: u64) -> Option<Box<Answer>> {
    let request = Request {
        size: u32::try_from(size_of::<Request>()).ok()?,
        spare: 0,
        mnt_id,
        param: WANTED,
    };
    let mut answer = Box::new(MaybeUninit::<Answer>::zeroed());
    // SAFETY: the request and the buffer for the answer outlive the call, and their sizes are given.
    let code = unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            ptr::from_ref(&request),
            answer.as_mut_ptr(),
            size_of::<Answer>(),
            0,
        )
    };
    // SAFETY: the value was zeroed, which is valid for its integers, whatever the kernel has written.
    (code == 0).then(|| unsafe { answer.assume_init() })
}

/// Returns one of the texts, given the offset of its beginning.
fn text(answer: &Answer, begin: u32) -> Option<&OsStr> {
    let rest = answer.text.get(usize::try_from(begin).ok()?..)?;
    let text = CStr::from_bytes_until_nul(rest).ok()?;
    Some(OsStr::from_bytes(text.to_bytes()))
}
