//! Datasets, snapshots and clones: the calls of libzfs_core, made safe. Holds are in `hold`, channel
//! programs in `channel`.
//!
//! Every call blocks until it is on disk (its transaction group), and none can be given a time
//! limit. Nothing here checks names, mounts anything or reads properties in bulk: libzfs_core has
//! no call for that. Errors per call: `libzfs_core.c` and facts of the OpenZFS sources.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use crate::errno::Errno;
use crate::error::{OpenError, ZfsError};
use crate::nvlist::{NvError, NvMap, RawList, Value};
use crate::sys::{self, Lib, NvList};

/// `ZFS_MAX_DATASET_NAME_LEN`, with the NUL.
const NAME_SPACE: usize = 256;

/// An opened OpenZFS. Cheap to hold, usable from any thread; closes with the last one.
#[derive(Debug)]
pub struct Zfs {
    pub(crate) lib: &'static Lib,
}

impl Drop for Zfs {
    fn drop(&mut self) {
        // SAFETY: pairs with the successful libzfs_core_init in `open`; the library counts them.
        unsafe { (self.lib.core.libzfs_core_fini)() }
    }
}

impl Zfs {
    /// Loads the libraries and opens `/dev/zfs`.
    ///
    /// # Errors
    /// No library, no module, no permission: each its own variant, with a hint.
    pub fn open() -> Result<Zfs, OpenError> {
        let lib = Lib::get()?;
        // SAFETY: no precondition; it takes a lock, opens the device and counts.
        match unsafe { (lib.core.libzfs_core_init)() } {
            0 => Ok(Zfs { lib }),
            code => Err(OpenError::from_errno(Errno(code))),
        }
    }

    /// Creates a file system, then sets its properties (two transactions; destroyed again if they
    /// are refused). Native properties as the kernel wants them: `UInt` for numbers and indices.
    ///
    /// # Errors
    /// EEXIST; ENOENT without parent; EINVAL; ENOSPC; and the general ones.
    pub fn create(&self, name: &str, props: &NvMap) -> Result<(), ZfsError> {
        let call = Call {
            operation: "create",
            dataset: name,
        };
        let (c_name, list) = (call.c_string(name)?, call.list(self.lib, props)?);
        // SAFETY: initialised; both pointers outlive the call; no wrapping key is given.
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

    /// Clones a snapshot. With properties these are two transactions: a crash between them leaves
    /// the clone without (zfs_ioctl.c, `zfs_ioc_clone`).
    ///
    /// # Errors
    /// EEXIST; ENOENT for parent or origin; EINVAL when origin is no snapshot; EXDEV; EDQUOT;
    /// ENAMETOOLONG; ENOSPC.
    pub fn clone(&self, name: &str, origin: &str, props: &NvMap) -> Result<(), ZfsError> {
        let call = Call {
            operation: "clone to",
            dataset: name,
        };
        let (c_name, c_origin) = (call.c_string(name)?, call.c_string(origin)?);
        let list = call.list(self.lib, props)?;
        // SAFETY: initialised; the pointers outlive the call.
        call.check(unsafe {
            (self.lib.core.lzc_clone)(c_name.as_ptr(), c_origin.as_ptr(), list.as_ptr())
        })
    }

    /// Makes all these snapshots, of one pool, in one transaction, or none. User properties only,
    /// the same on all.
    ///
    /// # Errors
    /// EEXIST, ENOENT, EDQUOT and so on in `per`; EXDEV for two of one file system or two pools.
    pub fn snapshot(&self, snapshots: &[&str], props: &NvMap) -> Result<(), ZfsError> {
        let call = Call {
            operation: "snapshot",
            dataset: first(snapshots),
        };
        let list = call.list(self.lib, &flags(snapshots))?;
        let props = call.list(self.lib, props)?;
        let mut failed = ptr::null_mut();
        // SAFETY: initialised; both lists outlive the call; `failed` receives a list that
        // `check_each` owns.
        let code =
            unsafe { (self.lib.core.lzc_snapshot)(list.as_ptr(), props.as_ptr(), &raw mut failed) };
        // SAFETY: the list that the call gave is ours and used nowhere else.
        unsafe { call.check_each(self.lib, code, failed) }
    }

    /// Destroys one file system without children or snapshots, or one snapshot.
    ///
    /// # Errors
    /// EBUSY mounted, in use, or has snapshots; EEXIST has children or clones; ENOENT.
    pub fn destroy(&self, name: &str) -> Result<(), ZfsError> {
        let call = Call {
            operation: "destroy",
            dataset: name,
        };
        let c_name = call.c_string(name)?;
        // SAFETY: initialised; the pointer outlives the call.
        call.check(unsafe { (self.lib.core.lzc_destroy)(c_name.as_ptr()) })
    }

    /// Destroys all these snapshots, of one pool, or none; those that do not exist are ignored.
    /// With `defer`, held and cloned ones go when the last hold and clone is gone.
    ///
    /// # Errors
    /// In `per`: EBUSY held or mounted, EEXIST has clones.
    pub fn destroy_snaps(&self, snapshots: &[&str], defer: bool) -> Result<(), ZfsError> {
        let call = Call {
            operation: "destroy",
            dataset: first(snapshots),
        };
        let list = call.list(self.lib, &flags(snapshots))?;
        let mut failed = ptr::null_mut();
        // SAFETY: initialised; the list outlives the call; `failed` receives a list that
        // `check_each` owns.
        let code = unsafe {
            (self.lib.core.lzc_destroy_snaps)(list.as_ptr(), defer.into(), &raw mut failed)
        };
        // SAFETY: the list that the call gave is ours and used nowhere else.
        unsafe { call.check_each(self.lib, code, failed) }
    }

    /// Makes a clone the owner of its origin snapshot and of all older ones.
    ///
    /// # Errors
    /// EINVAL no clone; EEXIST a snapshot of that name is there, named in `per`; EBUSY a snapshot
    /// that would move is in use; ENOSPC; EDQUOT.
    pub fn promote(&self, clone: &str) -> Result<(), ZfsError> {
        let call = Call {
            operation: "promote",
            dataset: clone,
        };
        let c_name = call.c_string(clone)?;
        let mut clash = [0 as c_char; NAME_SPACE];
        // SAFETY: initialised; the name outlives the call; the buffer has the length given, and
        // the library writes a C string into it only for EEXIST.
        let code = unsafe {
            (self.lib.core.lzc_promote)(c_name.as_ptr(), clash.as_mut_ptr(), NAME_SPACE as c_int)
        };
        call.check(code).map_err(|mut error| {
            // SAFETY: the buffer was zeroed, and strlcpy ends what it writes with a NUL.
            let name = unsafe { CStr::from_ptr(clash.as_ptr()) }.to_string_lossy();
            if !name.is_empty() {
                error.per.push((name.into_owned(), Errno(libc::EEXIST)));
            }
            error
        })
    }

    /// Renames a dataset and all below it, in one transaction. Mounts stay as they are.
    ///
    /// # Errors
    /// EEXIST, ENOENT, EINVAL into its own child or other pool, EACCES out of an encryption root.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), ZfsError> {
        let call = Call {
            operation: "rename",
            dataset: from,
        };
        let (c_from, c_to) = (call.c_string(from)?, call.c_string(to)?);
        // SAFETY: initialised; the pointers outlive the call.
        call.check(unsafe { (self.lib.core.lzc_rename)(c_from.as_ptr(), c_to.as_ptr()) })
    }

    /// Takes a file system back to this snapshot (its full name), which must be the latest.
    ///
    /// # Errors
    /// ESRCH not a snapshot of it; EEXIST a later snapshot or bookmark exists; EBUSY.
    pub fn rollback_to(&self, filesystem: &str, snapshot: &str) -> Result<(), ZfsError> {
        let call = Call {
            operation: "roll back",
            dataset: filesystem,
        };
        let (c_name, c_snapshot) = (call.c_string(filesystem)?, call.c_string(snapshot)?);
        // SAFETY: initialised; the pointers outlive the call.
        call.check(unsafe { (self.lib.core.lzc_rollback_to)(c_name.as_ptr(), c_snapshot.as_ptr()) })
    }

    /// Whether a dataset or snapshot exists. *Any* error reads as "no", that of a suspended pool
    /// too: never take a "no" for permission to destroy something.
    pub fn exists(&self, name: &str) -> bool {
        let Ok(c_name) = CString::new(name) else {
            return false;
        };
        // SAFETY: initialised; the pointer outlives the call.
        unsafe { (self.lib.core.lzc_exists)(c_name.as_ptr()) != 0 }
    }
}

/// One call, for its errors.
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

    /// Checks a call that reports per object; a report with return value 0 is an error too.
    ///
    /// # Safety
    /// `failed` is null or a list that nobody else frees or uses.
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
                // N_MORE_ERRORS is a count of errors that did not fit, not one of them.
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
