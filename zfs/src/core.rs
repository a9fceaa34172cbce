//! Datasets, snapshots, holds and channel programs: the calls of libzfs_core, made safe.
//!
//! Every call blocks until it is on disk (its transaction group), and none can be given a time
//! limit. Nothing here checks names, mounts anything or reads properties in bulk: libzfs_core has
//! no call for that. Errors per call: `libzfs_core.c` and facts of the OpenZFS sources.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use crate::errno::Errno;
use crate::error::{OpenError, ProgramError, ZfsError};
use crate::nvlist::{self, NvError, NvMap, RawList, Value};
use crate::sys::{self, Lib, NvList};

/// `ZFS_MAX_DATASET_NAME_LEN`, with the NUL.
const NAME_SPACE: usize = 256;

/// An opened OpenZFS. Cheap to hold, usable from any thread; closes with the last one.
#[derive(Debug)]
pub struct Zfs {
    lib: &'static Lib,
}

/// How much a channel program may use. The kernel refuses more than ten times the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Lua instructions, checked every 100.
    pub instructions: u64,
    /// Bytes, arguments and reply included.
    pub memory: u64,
}

impl Limits {
    /// The most that an unchanged module accepts (`ZCP_MAX_INSTRLIMIT`, `ZCP_MAX_MEMLIMIT`).
    pub const MAX: Limits = Limits {
        instructions: 100_000_000,
        memory: 100 << 20,
    };
}

impl Default for Limits {
    /// The module's own defaults (`ZCP_DEFAULT_INSTRLIMIT`, `ZCP_DEFAULT_MEMLIMIT`).
    fn default() -> Limits {
        Limits {
            instructions: 10_000_000,
            memory: 10 << 20,
        }
    }
}

/// What this kernel's OpenZFS can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Programs can clone (`zfs.sync.clone`): OpenZFS 2.4 and later.
    pub sync_clone: bool,
    /// The module's version as it gives it, such as `2.4.4-1`; `None` where it gives none.
    pub module: Option<String>,
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

    /// Holds snapshots, each `(snapshot, tag)`. One call of the library takes one tag for a
    /// snapshot, so several tags for one snapshot are several calls, each all or nothing.
    ///
    /// # Errors
    /// In `per`: EEXIST the tag is there and E2BIG it is longer than 255 bytes, then none is held;
    /// ENOENT no such snapshot, and then the *others are held*.
    pub fn hold(&self, holds: &[(&str, &str)]) -> Result<(), ZfsError> {
        let mut rest: Vec<(&str, &str)> = holds.to_vec();
        while let Some(&(dataset, _)) = rest.first() {
            let call = Call {
                operation: "hold",
                dataset,
            };
            let mut round = NvMap::new();
            let mut later = Vec::new();
            for (snapshot, tag) in rest {
                if round.contains_key(snapshot) {
                    later.push((snapshot, tag));
                } else {
                    round.insert(snapshot.to_owned(), Value::Str(tag.to_owned()));
                }
            }
            let list = call.list(self.lib, &round)?;
            let mut failed = ptr::null_mut();
            // SAFETY: initialised; the list outlives the call; -1 means no cleanup descriptor;
            // `failed` receives a list that `check_each` owns.
            let code = unsafe { (self.lib.core.lzc_hold)(list.as_ptr(), -1, &raw mut failed) };
            // SAFETY: the list that the call gave is ours and used nowhere else.
            unsafe { call.check_each(self.lib, code, failed)? };
            rest = later;
        }
        Ok(())
    }

    /// Releases holds, each `(snapshot, tag)`, in one call.
    ///
    /// # Errors
    /// In `per`: ENOENT no such snapshot, or, named `SNAPSHOT#TAG`, no such tag on it; the *others
    /// are released*.
    pub fn release(&self, holds: &[(&str, &str)]) -> Result<(), ZfsError> {
        let Some(&(dataset, _)) = holds.first() else {
            return Ok(());
        };
        let call = Call {
            operation: "release",
            dataset,
        };
        let mut tags: BTreeMap<&str, NvMap> = BTreeMap::new();
        for (snapshot, tag) in holds {
            tags.entry(snapshot)
                .or_default()
                .insert((*tag).to_owned(), Value::Flag);
        }
        let tags: NvMap = tags
            .into_iter()
            .map(|(name, tags)| (name.to_owned(), Value::List(tags)))
            .collect();
        let list = call.list(self.lib, &tags)?;
        let mut failed = ptr::null_mut();
        // SAFETY: initialised; the list outlives the call; `failed` receives a list that
        // `check_each` owns.
        let code = unsafe { (self.lib.core.lzc_release)(list.as_ptr(), &raw mut failed) };
        // SAFETY: the list that the call gave is ours and used nowhere else.
        unsafe { call.check_each(self.lib, code, failed) }
    }

    /// The holds of a snapshot: tag, and when it was made, in seconds since 1970.
    ///
    /// # Errors
    /// ENOENT no such snapshot; EINVAL not a snapshot.
    pub fn holds(&self, snapshot: &str) -> Result<Vec<(String, i64)>, ZfsError> {
        let call = Call {
            operation: "list the holds of",
            dataset: snapshot,
        };
        let c_name = call.c_string(snapshot)?;
        let mut found = ptr::null_mut();
        // SAFETY: initialised; the name outlives the call; `found` receives a list that is ours.
        let code = unsafe { (self.lib.core.lzc_get_holds)(c_name.as_ptr(), &raw mut found) };
        // SAFETY: as above: nobody else frees or uses it.
        let found = unsafe { RawList::adopt(self.lib, found) };
        call.check(code)?;
        let Some(found) = found else {
            return Ok(Vec::new());
        };
        let map = found.to_map().map_err(|error| call.conversion(&error))?;
        Ok(map
            .into_iter()
            .map(|(tag, when)| (tag, when.as_int().unwrap_or(0)))
            .collect())
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

    /// Runs a channel program in one transaction group, and returns what it returned: a map whose
    /// one name is `return`, or none when it returned nothing.
    ///
    /// The source and the arguments stay in the pool's history, readable by root.
    ///
    /// # Errors
    /// See [`ProgramError`]; after some of them what the program did stays done.
    pub fn program(
        &self,
        pool: &str,
        source: &str,
        args: &NvMap,
        limits: Limits,
    ) -> Result<NvMap, ProgramError> {
        self.run_program("(unnamed)", pool, source, args, limits, true)
    }

    /// Runs a channel program that only reads, outside a transaction. It is written to the pool's
    /// history like any other, and refused on a read-only pool.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn program_readonly(
        &self,
        pool: &str,
        source: &str,
        args: &NvMap,
        limits: Limits,
    ) -> Result<NvMap, ProgramError> {
        self.run_program("(unnamed)", pool, source, args, limits, false)
    }

    /// Asks the kernel what it can do, by one read-only program: once per command is enough.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn capabilities(&self, pool: &str) -> Result<Capabilities, ProgramError> {
        // The table zfs.sync is there in open context too; only calling it is an error.
        const PROBE: &str = "return zfs.sync.clone ~= nil";
        let reply = self.run_program(
            "probe",
            pool,
            PROBE,
            &NvMap::new(),
            Limits::default(),
            false,
        )?;
        let Some(Value::Bool(sync_clone)) = reply.get("return") else {
            return Err(ProgramError::Reply {
                program: "probe".into(),
                reply: format!("{reply:?}"),
            });
        };
        Ok(Capabilities {
            sync_clone: *sync_clone,
            module: module_version(),
        })
    }

    /// The one place that runs programs; `name` is for the errors.
    pub(crate) fn run_program(
        &self,
        name: &str,
        pool: &str,
        source: &str,
        args: &NvMap,
        limits: Limits,
        sync: bool,
    ) -> Result<NvMap, ProgramError> {
        let arguments = |source: NvError| ProgramError::Arguments {
            program: name.to_owned(),
            source,
        };
        let nul = |key: &str| {
            arguments(NvError::Nul {
                key: key.to_owned(),
            })
        };
        nvlist::check_for_program(args).map_err(arguments)?;
        let list = RawList::from_map(self.lib, args).map_err(arguments)?;
        let c_pool = CString::new(pool).map_err(|_| nul("pool"))?;
        let c_source = CString::new(source).map_err(|_| nul("source"))?;
        let call = if sync {
            self.lib.core.lzc_channel_program
        } else {
            self.lib.core.lzc_channel_program_nosync
        };
        let mut reply = ptr::null_mut();
        // SAFETY: initialised; strings and list outlive the call; `reply` receives a list that is
        // ours, also on an error: there it holds the message.
        let code = unsafe {
            call(
                c_pool.as_ptr(),
                c_source.as_ptr(),
                limits.instructions,
                limits.memory,
                list.as_ptr(),
                &raw mut reply,
            )
        };
        // SAFETY: as above: nobody else frees or uses it.
        let reply = match unsafe { RawList::adopt(self.lib, reply) } {
            Some(reply) => reply.to_map().map_err(|error| ProgramError::Reply {
                program: name.to_owned(),
                reply: error.to_string(),
            })?,
            None => NvMap::new(),
        };
        match code {
            0 => Ok(reply),
            code => Err(program_error(name, pool, limits, Errno(code), &reply)),
        }
    }
}

/// Tells apart what a non-zero return of lzc_channel_program means (zcp.c, zfs_ioctl.c).
fn program_error(
    name: &str,
    pool: &str,
    limits: Limits,
    errno: Errno,
    reply: &NvMap,
) -> ProgramError {
    let (program, pool) = (name.to_owned(), pool.to_owned());
    let message = reply.get("error").map(|error| match error {
        Value::Str(text) => text.clone(),
        other => format!("{other:?}"),
    });
    if errno == Errno::PROGRAM_FAILED {
        let message = message.unwrap_or_default();
        // zcp_pool_error(): the sync task itself could not start, in the same clothes.
        if let Some(code) = pool_errno(&message) {
            return match code {
                libc::ENOENT => ProgramError::NoPool { pool },
                libc::ENOSPC => ProgramError::NoSpace { pool },
                libc::EROFS => ProgramError::ReadOnly { pool },
                code => ProgramError::Syscall {
                    program,
                    pool,
                    errno: Errno(code),
                },
            };
        }
        let mut lines = message.lines().map(str::trim);
        let first = lines.next().unwrap_or_default().to_owned();
        let traceback = lines
            .filter(|line| *line != "stack traceback:")
            .map(str::to_owned)
            .collect();
        return ProgramError::Lua {
            program,
            message: first,
            traceback,
        };
    }
    if errno == Errno::PROGRAM_TIMED_OUT {
        return ProgramError::Instructions {
            program,
            limit: limits.instructions,
        };
    }
    match (errno.0, message) {
        (libc::EINVAL, Some(message)) => ProgramError::Rejected { program, message },
        (libc::EINVAL, None) => ProgramError::Rejected {
            program,
            message: format!(
                "limits of {} instructions and {} bytes, or the name of the pool",
                limits.instructions, limits.memory
            ),
        },
        (libc::ENOSPC | libc::ENOMEM, _) => ProgramError::Memory {
            program,
            limit: limits.memory,
        },
        (libc::EINTR, _) => ProgramError::Interrupted { program },
        (libc::EAGAIN, _) => ProgramError::Suspended { pool },
        (libc::EROFS, _) => ProgramError::ReadOnly { pool },
        (libc::ENOENT, _) => ProgramError::NoPool { pool },
        (libc::EPERM | libc::EACCES, _) => ProgramError::Permission { pool },
        _ => ProgramError::Syscall {
            program,
            pool,
            errno,
        },
    }
}

/// The errno in `Could not open pool: NAME errno: N`.
fn pool_errno(message: &str) -> Option<i32> {
    let rest = message.strip_prefix("Could not open pool: ")?;
    rest.rsplit_once(" errno: ")?.1.trim().parse().ok()
}

/// One call, for its errors.
#[derive(Clone, Copy)]
struct Call<'a> {
    operation: &'static str,
    dataset: &'a str,
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

    fn conversion(&self, error: &NvError) -> ZfsError {
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

    fn c_string(&self, text: &str) -> Result<CString, ZfsError> {
        CString::new(text).map_err(|_| self.error(Errno(libc::EINVAL)))
    }

    fn list(&self, lib: &'static Lib, map: &NvMap) -> Result<RawList, ZfsError> {
        RawList::from_map(lib, map).map_err(|error| self.conversion(&error))
    }

    fn check(&self, code: c_int) -> Result<(), ZfsError> {
        match code {
            0 => Ok(()),
            code => Err(self.error(Errno(code))),
        }
    }

    /// Checks a call that reports per object; a report with return value 0 is an error too.
    ///
    /// # Safety
    /// `failed` is null or a list that nobody else frees or uses.
    unsafe fn check_each(
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

/// The version text of the loaded module.
#[cfg(target_os = "linux")]
fn module_version() -> Option<String> {
    let text = std::fs::read_to_string("/sys/module/zfs/version").ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The version text of the loaded module.
#[cfg(target_os = "freebsd")]
fn module_version() -> Option<String> {
    let mut buffer = [0u8; 128];
    let mut length = buffer.len();
    // SAFETY: the name is a C string, the buffer has the length given, nothing is set.
    let code = unsafe {
        libc::sysctlbyname(
            c"vfs.zfs.version.module".as_ptr(),
            buffer.as_mut_ptr().cast(),
            &raw mut length,
            ptr::null(),
            0,
        )
    };
    if code != 0 {
        return None;
    }
    let text = CStr::from_bytes_until_nul(&buffer).ok()?.to_string_lossy();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The version text of the loaded module.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn module_version() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lua(message: &str) -> NvMap {
        NvMap::from([("error".to_owned(), Value::Str(message.to_owned()))])
    }

    fn told(errno: Errno, reply: &NvMap) -> ProgramError {
        program_error("seal", "tank", Limits::default(), errno, reply)
    }

    #[test]
    fn a_lua_error_keeps_message_and_traceback() {
        let reply = lua("[string \"channel program\"]:1: boom\nstack traceback:\n\t[C]: in ?");
        assert_eq!(
            told(Errno::PROGRAM_FAILED, &reply),
            ProgramError::Lua {
                program: "seal".into(),
                message: "[string \"channel program\"]:1: boom".into(),
                traceback: vec!["[C]: in ?".into()],
            }
        );
    }

    #[test]
    fn a_pool_that_cannot_be_opened_is_not_a_lua_error() {
        let full = format!("Could not open pool: tank errno: {}", libc::ENOSPC);
        let full = told(Errno::PROGRAM_FAILED, &lua(&full));
        assert_eq!(
            full,
            ProgramError::NoSpace {
                pool: "tank".into()
            }
        );
        let gone = format!("Could not open pool: tank errno: {}", libc::ENOENT);
        let gone = told(Errno::PROGRAM_FAILED, &lua(&gone));
        assert_eq!(
            gone,
            ProgramError::NoPool {
                pool: "tank".into()
            }
        );
    }

    #[test]
    fn the_states_of_a_pool_are_told_apart() {
        let none = NvMap::new();
        let pool = || "tank".to_owned();
        assert_eq!(
            told(Errno(libc::EAGAIN), &none),
            ProgramError::Suspended { pool: pool() }
        );
        assert_eq!(
            told(Errno(libc::EROFS), &none),
            ProgramError::ReadOnly { pool: pool() }
        );
        assert_eq!(
            told(Errno(libc::ENOENT), &none),
            ProgramError::NoPool { pool: pool() }
        );
        assert_eq!(
            told(Errno(libc::EPERM), &none),
            ProgramError::Permission { pool: pool() }
        );
        assert!(matches!(
            told(Errno(libc::ENOSPC), &none),
            ProgramError::Memory { .. }
        ));
        assert!(matches!(
            told(Errno(libc::EINTR), &none),
            ProgramError::Interrupted { .. }
        ));
        assert!(matches!(
            told(Errno::PROGRAM_TIMED_OUT, &none),
            ProgramError::Instructions { .. }
        ));
        assert!(matches!(
            told(Errno(libc::EINVAL), &lua("x")),
            ProgramError::Rejected { .. }
        ));
        assert!(matches!(
            told(Errno(libc::EIO), &none),
            ProgramError::Syscall { .. }
        ));
    }
}
