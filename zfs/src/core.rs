//! Safe wrappers for the calls of libzfs_core on datasets, snapshots and clones. Holds are in `hold`, channel programs
//! in `channel`.
//!
//! Every call blocks until its transaction group is on disk, and no call accepts a time limit. This module does not
//! check names, mount anything or read properties in bulk: libzfs_core has no call for that. The errors of each call
//! are from `libzfs_core.c` and the OpenZFS sources.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use crate::errno::Errno;
use crate::error::{OpenError, ZfsError};
use crate::nvlist::{NvError, NvMap, RawList, Value};
use crate::sys::{self, Lib, NvList};

/// `ZFS_MAX_DATASET_NAME_LEN`, with the NUL.
const NAME_SPACE: usize = 256;

/// An open handle of OpenZFS. It is cheap to hold and usable from any thread; the last one closes the library.
#[derive(Debug)]
pub struct Zfs {
    pub(crate) lib: &'static Lib,
}

impl Drop for Zfs {
    fn drop(&mut self) {
        // SAFETY: pairs with the successful libzfs_core_init in `open`; the library counts these calls.
        unsafe { (self.lib.core.libzfs_core_fini)() }
    }
}

impl Zfs {
    /// Loads the libraries and opens `/dev/zfs`.
    ///
    /// # Errors
    /// The library or the module is missing, or permission is denied; each is a variant with a hint.
    pub fn open() -> Result<Zfs, OpenError> {
        let lib = Lib::get()?;
        // SAFETY: there is no precondition; the call takes a lock, opens the device and counts.
        match unsafe { (lib.core.libzfs_core_init)() } {
            0 => Ok(Zfs { lib }),
            code => Err(OpenError::from_errno(Errno(code))),
        }
    }

    /// Creates a file system, then sets its properties. These are two transactions; if the properties are refused, the
    /// file system is destroyed again. Native properties have the form that the kernel expects: `UInt` for numbers and
    /// indices.
    ///
    /// # Errors
    /// EEXIST; ENOENT if the parent is missing; EINVAL; ENOSPC; and the general ones.
    pub fn create(&self, name: &str, props: &NvMap) -> Result<(), ZfsError> {
        let call = Call {
            operation: "create",
            dataset: name,
        };
        let (c_name, list) = (call.c_string(name)?, call.list(self.lib, props)?);
        // SAFETY: the library is initialised; both pointers outlive the call; no wrapping key is given.
        call.check(unsafe {
            (self.lib.core.lzc_create)(
                c_name.as_ptr(),
                sys::LZC_DATSET_TYPE_ZFS,
                list.as_ptr(),
                ptr::null_mut(),
                0,
            )
        })
    }

    /// Clones a snapshot. With properties these are two transactions: a crash between them leaves the clone without its
    /// properties (zfs_ioctl.c, `zfs_ioc_clone`).
    ///
    /// # Errors
    /// EEXIST; ENOENT if parent or origin is missing; EINVAL if the origin is not a snapshot; EXDEV; EDQUOT;
    /// ENAMETOOLONG; ENOSPC.
    pub fn clone(&self, name: &str, origin: &str, props: &NvMap) -> Result<(), ZfsError> {
        let call = Call {
            operation: "clone to",
            dataset: name,
        };
        let (c_name, c_origin) = (call.c_string(name)?, call.c_string(origin)?);
        let list = call.list(self.lib, props)?;
        // SAFETY: the library is initialised; the pointers outlive the call.
        call.check(unsafe {
            (self.lib.core.lzc_clone)(c_name.as_ptr(), c_origin.as_ptr(), list.as_ptr())
        })
    }

    /// Creates all these snapshots of one pool in one transaction, or none of them. Only user properties are possible,
    /// which are the same on all of them.
    ///
    /// # Errors
    /// EEXIST, ENOENT, EDQUOT and so on in `per`; EXDEV for two snapshots of one file system, or of two pools.
    pub fn snapshot(&self, snapshots: &[&str], props: &NvMap) -> Result<(), ZfsError> {
        let call = Call {
            operation: "snapshot",
            dataset: first(snapshots),
        };
        let list = call.list(self.lib, &flags(snapshots))?;
        let props = call.list(self.lib, props)?;
        let mut failed = ptr::null_mut();
        // SAFETY: the library is initialised; both lists outlive the call; `failed` receives a list that `check_each`
        // owns.
        let code =
            unsafe { (self.lib.core.lzc_snapshot)(list.as_ptr(), props.as_ptr(), &raw mut failed) };
        // SAFETY: we own the list that the call returned, and no other code uses it.
        unsafe { call.check_each(self.lib, code, failed) }
    }

    /// Destroys one file system without children or snapshots, or one snapshot.
    ///
    /// # Errors
    /// EBUSY if it is mounted, in use, or has snapshots; EEXIST if it has children or clones; ENOENT.
    pub fn destroy(&self, name: &str) -> Result<(), ZfsError> {
        let call = Call {
            operation: "destroy",
            dataset: name,
        };
        let c_name = call.c_string(name)?;
        // SAFETY: the library is initialised; the pointer outlives the call.
        call.check(unsafe { (self.lib.core.lzc_destroy)(c_name.as_ptr()) })
    }

    /// Destroys all these snapshots of one pool, or none of them; snapshots that do not exist are ignored. With
    /// `defer`, held and cloned snapshots are destroyed when their last hold is released and their last clone is
    /// destroyed.
    ///
    /// # Errors
    /// In `per`: EBUSY if a snapshot is held or mounted, EEXIST if it has clones.
    pub fn destroy_snaps(&self, snapshots: &[&str], defer: bool) -> Result<(), ZfsError> {
        let call = Call {
            operation: "destroy",
            dataset: first(snapshots),
        };
        let list = call.list(self.lib, &flags(snapshots))?;
        let mut failed = ptr::null_mut();
        // SAFETY: the library is initialised; the list outlives the call; `failed` receives a list that `check_each`
        // owns.
        let code = unsafe {
            (self.lib.core.lzc_destroy_snaps)(list.as_ptr(), defer.into(), &raw mut failed)
        };
        // SAFETY: we own the list that the call returned, and no other code uses it.
        unsafe { call.check_each(self.lib, code, failed) }
    }

    /// Makes a clone the owner of its origin snapshot and of all older ones.
    ///
    /// # Errors
    /// EINVAL if it is not a clone; EEXIST if a snapshot of the same name exists, which is named in `per`; EBUSY if a
    /// snapshot that would move is in use; ENOSPC; EDQUOT.
    pub fn promote(&self, clone: &str) -> Result<(), ZfsError> {
        let call = Call {
            operation: "promote",
            dataset: clone,
        };
        let c_name = call.c_string(clone)?;
        let mut clash = [0 as c_char; NAME_SPACE];
        // SAFETY: the library is initialised; the name outlives the call; the buffer has the given length, and the
        // library writes a C string into it only for EEXIST.
        let code = unsafe {
            (self.lib.core.lzc_promote)(c_name.as_ptr(), clash.as_mut_ptr(), NAME_SPACE as c_int)
        };
        call.check(code).map_err(|mut error| {
            // SAFETY: the buffer was zeroed, and strlcpy terminates what it writes with a NUL.
            let name = unsafe { CStr::from_ptr(clash.as_ptr()) }.to_string_lossy();
            if !name.is_empty() {
                error.per.push((name.into_owned(), Errno(libc::EEXIST)));
            }
            error
        })
    }

    /// Renames a dataset and all datasets below it in one transaction. Mounts stay as they are.
    ///
    /// # Errors
    /// EEXIST, ENOENT, EINVAL if the target is below it or in another pool, EACCES if it would leave an encryption
    /// root.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), ZfsError> {
        let call = Call {
            operation: "rename",
            dataset: from,
        };
        let (c_from, c_to) = (call.c_string(from)?, call.c_string(to)?);
        // SAFETY: the library is initialised; the pointers outlive the call.
        call.check(unsafe { (self.lib.core.lzc_rename)(c_from.as_ptr(), c_to.as_ptr()) })
    }

    /// Rolls a file system back to this snapshot (its full name), which must be the latest one.
    ///
    /// # Errors
    /// ESRCH if it is not a snapshot of the file system; EEXIST if a later snapshot or bookmark exists; EBUSY.
    pub fn rollback_to(&self, filesystem: &str, snapshot: &str) -> Result<(), ZfsError> {
        let call = Call {
            operation: "roll back",
            dataset: filesystem,
        };
        let (c_name, c_snapshot) = (call.c_string(filesystem)?, call.c_string(snapshot)?);
        // SAFETY: the library is initialised; the pointers outlive the call.
        call.check(unsafe { (self.lib.core.lzc_rollback_to)(c_name.as_ptr(), c_snapshot.as_ptr()) })
    }

    /// Whether a dataset or snapshot exists. *Any* error gives `false`, also that of a suspended pool: never destroy
    /// something because of a `false`.
    pub fn exists(&self, name: &str) -> bool {
        let Ok(c_name) = CString::new(name) else {
            return false;
        };
        // SAFETY: the library is initialised; the pointer outlives the call.
        unsafe { (self.lib.core.lzc_exists)(c_name.as_ptr()) != 0 }
    }
}

/// One call and its object, for the errors.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static str,
    pub(crate) dataset: &'a str,
}

impl Call<'_> {
    fn error(&self, errno: Errno) -> ZfsError {
        ZfsError {
            operation: self.operation,
            dataset: self.dataset.to_owned(),
            errno,
            per: vec![],
        }
    }

    pub(crate) fn conversion(&self, error: &NvError) -> ZfsError {
        let (key, errno) = match error {
            NvError::Refused { key, errno } => (key, *errno),
            NvError::TooLong { key } => (key, Errno(libc::E2BIG)),
            NvError::Nul { key }
            | NvError::NotForPrograms { key }
            | NvError::UnknownType { key, .. } => (key, Errno(libc::EINVAL)),
        };
        ZfsError {
            per: vec![(key.clone(), errno)],
            ..self.error(errno)
        }
    }

    pub(crate) fn c_string(&self, text: &str) -> Result<CString, ZfsError> {
        CString::new(text).map_err(|_| self.error(Errno(libc::EINVAL)))
    }

    pub(crate) fn list(&self, lib: &'static Lib, map: &NvMap) -> Result<RawList, ZfsError> {
        RawList::from_map(lib, map).map_err(|error| self.conversion(&error))
    }

    pub(crate) fn check(&self, code: c_int) -> Result<(), ZfsError> {
        match code {
            0 => Ok(()),
            code => Err(self.error(Errno(code))),
        }
    }

    /// Checks a call that reports errors per object; a report with return value 0 is an error, too.
    ///
    /// # Safety
    /// `failed` is null or a list that no other code frees or uses.
    pub(crate) unsafe fn check_each(
        &self,
        lib: &'static Lib,
        code: c_int,
        failed: *mut NvList,
    ) -> Result<(), ZfsError> {
        // SAFETY: by the contract of this function.
        let per: Vec<(String, Errno)> = match unsafe { RawList::adopt(lib, failed) } {
            Some(list) => list
                .to_map()
                .map_err(|error| self.conversion(&error))?
                .into_iter()
                // N_MORE_ERRORS is a count of errors that did not fit, and not one of the errors.
                .filter(|(name, _)| name != "N_MORE_ERRORS")
                .filter_map(|(name, value)| {
                    let number = i32::try_from(value.as_int()?).ok()?;
                    Some((name, Errno(number)))
                })
                .collect(),
            None => Vec::new(),
        };
        match (code, per.first()) {
            (0, None) => Ok(()),
            (0, Some(&(_, errno))) => Err(ZfsError {
                per,
                ..self.error(errno)
            }),
            (code, _) => Err(ZfsError {
                per,
                ..self.error(Errno(code))
            }),
        }
    }
}

fn first<'a>(names: &[&'a str]) -> &'a str {
    names.first().copied().unwrap_or_default()
}

fn flags(names: &[&str]) -> NvMap {
    names
        .iter()
        .map(|name| ((*name).to_owned(), Value::Flag))
        .collect()
}
