//! Channel programs: how one is run, its limits and errors, and what the running kernel supports.
//!
//! A channel program is Lua code that the kernel runs in one transaction group. The programs of ezz are in `program`;
//! this module must not know what they do.

use std::ffi::CString;
use std::ptr;

use crate::core::Zfs;
use crate::errno::Errno;
use crate::error::ProgramError;
use crate::nvlist::{self, NvError, NvMap, RawList, Value};

/// The resources that a channel program may use. The kernel refuses more than ten times the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The number of Lua instructions, checked every 100 instructions.
    pub instructions: u64,
    /// The memory in bytes, including arguments and reply.
    pub memory: u64,
}

impl Limits {
    /// The largest limits that an unmodified module accepts (`ZCP_MAX_INSTRLIMIT`, `ZCP_MAX_MEMLIMIT`).
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

/// What the OpenZFS of the running kernel supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether programs can clone (`zfs.sync.clone`): OpenZFS 2.4 and later.
    pub sync_clone: bool,
    /// The version that the module reports, such as `2.4.4-1`; `None` if it reports none.
    pub module: Option<String>,
}

impl Zfs {
    /// Runs a channel program in one transaction group, and returns its result: a map with the single name `return`, or
    /// an empty map if the program returned nothing.
    ///
    /// The source and the arguments remain in the pool's history, which root can read.
    ///
    /// # Errors
    /// See [`ProgramError`]; after some of them the changes of the program remain.
    pub fn program(
        &self,
        pool: &str,
        source: &str,
        args: &NvMap,
        limits: Limits,
    ) -> Result<NvMap, ProgramError> {
        self.run_program("(unnamed)", pool, source, args, limits, true)
    }

    /// Runs a channel program that only reads, outside a transaction. The kernel writes it to the pool's history like
    /// any other program, and refuses it on a read-only pool.
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

    /// Finds out by one read-only program what the kernel supports; once per command is enough.
    ///
    /// # Errors
    /// See [`ProgramError`].
    pub fn capabilities(&self, pool: &str) -> Result<Capabilities, ProgramError> {
        // The table zfs.sync exists in open context, too; only calling its functions is an error.
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

    /// Runs a program. This is the only function that does so; `name` is for the errors.
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
        // SAFETY: the library is initialised; strings and list outlive the call; `reply` receives a list that we own,
        // also on an error: then it holds the message.
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
        // SAFETY: as above: no other code frees or uses the list.
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

/// Converts a non-zero return of lzc_channel_program to an error (zcp.c, zfs_ioctl.c).
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
        // zcp_pool_error(): the sync task itself could not start, which has the form of a Lua error.
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

/// Returns the errno in `Could not open pool: NAME errno: N`.
fn pool_errno(message: &str) -> Option<i32> {
    let rest = message.strip_prefix("Could not open pool: ")?;
    rest.rsplit_once(" errno: ")?.1.trim().parse().ok()
}

/// Returns the version of the loaded module, such as `2.4.4-1`, without accessing a pool.
#[cfg(target_os = "linux")]
pub fn module_version() -> Option<String> {
    let text = std::fs::read_to_string("/sys/module/zfs/version").ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Returns the version of the loaded module, such as `2.4.4-1`, without accessing a pool.
#[cfg(target_os = "freebsd")]
pub fn module_version() -> Option<String> {
    let mut buffer = [0u8; 128];
    let mut length = buffer.len();
    // SAFETY: the name is a C string, the buffer has the given length, and no value is set.
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
    let text = std::ffi::CStr::from_bytes_until_nul(&buffer)
        .ok()?
        .to_string_lossy();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Returns the version of the loaded module, such as `2.4.4-1`, without accessing a pool.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub fn module_version() -> Option<String> {
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
