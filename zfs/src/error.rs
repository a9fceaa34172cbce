//! The errors of calls of OpenZFS.
//!
//! Each error names the operation and the object; `hint()` says what to do about it. `Display` never repeats the
//! source. This module must not decide whether an error is fatal; the caller does.

use crate::errno::Errno;
use crate::nvlist::NvError;
use crate::sys::LoadError;

/// OpenZFS cannot be used at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The libraries are missing.
    #[error("OpenZFS is not installed")]
    Library(#[from] LoadError),
    /// `/dev/zfs` does not exist: the kernel module is not loaded, or this process is in a container.
    #[error("cannot open /dev/zfs: the OpenZFS kernel module is not loaded")]
    NoDevice(#[source] Errno),
    /// This user may not open `/dev/zfs`, or not in this container.
    #[error("cannot open /dev/zfs: permission denied")]
    Permission(#[source] Errno),
    /// Opening `/dev/zfs` failed with another error.
    #[error("cannot open /dev/zfs")]
    Device(#[source] Errno),
}

impl OpenError {
    pub(crate) fn from_errno(errno: Errno) -> OpenError {
        match errno.0 {
            libc::ENOENT | libc::ENXIO | libc::ENODEV => OpenError::NoDevice(errno),
            libc::EPERM | libc::EACCES => OpenError::Permission(errno),
            _ => OpenError::Device(errno),
        }
    }

    /// Returns what the user can do.
    pub fn hint(&self) -> &'static str {
        match self {
            OpenError::Library(_) => {
                if cfg!(target_os = "freebsd") {
                    "libzfs_core is part of the base system: this installation lacks it"
                } else {
                    "install OpenZFS (on Debian: the packages zfsutils-linux and zfs-dkms)"
                }
            }
            OpenError::NoDevice(_) => {
                if cfg!(target_os = "freebsd") {
                    "load the module: kldload zfs"
                } else {
                    "load the module: modprobe zfs"
                }
            }
            OpenError::Permission(_) => "run as root, on the host and not inside a container",
            OpenError::Device(_) => "look at the kernel's messages: dmesg",
        }
    }
}

/// An operation on datasets was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation} {dataset}{}", per_text(.per))]
pub struct ZfsError {
    /// The operation, as a verb.
    pub operation: &'static str,
    /// The dataset or snapshot; if there are several, the first one.
    pub dataset: String,
    /// The error of the kernel.
    #[source]
    pub errno: Errno,
    /// If one call covers several objects, those that were refused, each with its error.
    pub per: Vec<(String, Errno)>,
}

fn per_text(per: &[(String, Errno)]) -> String {
    if per.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = per
        .iter()
        .take(3)
        .map(|(name, errno)| format!("{name}: {errno:?}"))
        .collect();
    let more = per.len() - shown.len();
    if more == 0 {
        format!(" ({})", shown.join(", "))
    } else {
        format!(" ({}, and {more} more)", shown.join(", "))
    }
}

/// A channel program did not complete.
///
/// The changes that it made before that remain, unless the variant says otherwise: see `CONTRACT.md`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// An argument cannot be passed. The program did not run.
    #[error("cannot pass the arguments of the channel program {program}")]
    Arguments {
        /// The name of the program.
        program: String,
        /// The argument and why it cannot be passed.
        #[source]
        source: NvError,
    },
    /// The program is not valid Lua, or the limits are out of range. The program did not run.
    #[error("the kernel does not accept the channel program {program}: {message}")]
    Rejected {
        /// The name of the program.
        program: String,
        /// The message of the kernel.
        message: String,
    },
    /// The program raised an error.
    #[error("the channel program {program} failed: {message}")]
    Lua {
        /// The name of the program.
        program: String,
        /// The message of Lua.
        message: String,
        /// The Lua stack, one line each.
        traceback: Vec<String>,
    },
    /// The program reached its instruction limit.
    #[error("the channel program {program} reached its limit of {limit} instructions")]
    Instructions {
        /// The name of the program.
        program: String,
        /// The limit in instructions.
        limit: u64,
    },
    /// The program reached its memory limit.
    #[error("the channel program {program} reached its limit of {limit} bytes")]
    Memory {
        /// The name of the program.
        program: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A signal stopped the program.
    #[error("the channel program {program} was interrupted")]
    Interrupted {
        /// The name of the program.
        program: String,
    },
    /// The pool has too little space even to start a program. The program did not run.
    #[error("the pool {pool} is too full for a channel program")]
    NoSpace {
        /// The pool.
        pool: String,
    },
    /// The pool is suspended after I/O errors. The program did not run.
    #[error("the pool {pool} is suspended")]
    Suspended {
        /// The pool.
        pool: String,
    },
    /// The pool is imported read-only. The program did not run.
    #[error("the pool {pool} is read-only")]
    ReadOnly {
        /// The pool.
        pool: String,
    },
    /// The pool does not exist. The program did not run.
    #[error("there is no pool {pool}")]
    NoPool {
        /// The pool.
        pool: String,
    },
    /// Only root of the host may run channel programs. The program did not run.
    #[error("not permitted to run a channel program on the pool {pool}")]
    Permission {
        /// The pool.
        pool: String,
    },
    /// This OpenZFS lacks a function that the program needs. The program did not run.
    #[error("the channel program {program} needs {needs}")]
    Unsupported {
        /// The name of the program.
        program: String,
        /// The missing function.
        needs: &'static str,
    },
    /// The program ran, but its reply is not understood.
    #[error("the channel program {program} gave a reply that is not understood: {reply}")]
    Reply {
        /// The name of the program.
        program: String,
        /// The reply, as text.
        reply: String,
    },
    /// The kernel returned another error.
    #[error("cannot run the channel program {program} on the pool {pool}")]
    Syscall {
        /// The name of the program.
        program: String,
        /// The pool.
        pool: String,
        /// The error of the kernel.
        #[source]
        errno: Errno,
    },
}

impl ProgramError {
    /// Whether the program may have changed the pool before it stopped.
    pub fn may_have_changed(&self) -> bool {
        match self {
            ProgramError::Lua { .. }
            | ProgramError::Instructions { .. }
            | ProgramError::Memory { .. }
            | ProgramError::Interrupted { .. }
            | ProgramError::Reply { .. }
            | ProgramError::Syscall { .. } => true,
            ProgramError::Arguments { .. }
            | ProgramError::Rejected { .. }
            | ProgramError::NoSpace { .. }
            | ProgramError::Suspended { .. }
            | ProgramError::ReadOnly { .. }
            | ProgramError::NoPool { .. }
            | ProgramError::Permission { .. }
            | ProgramError::Unsupported { .. } => false,
        }
    }

    /// Returns what the user can do, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ProgramError::Suspended { .. } => Some("bring the device back, then: zpool clear POOL"),
            ProgramError::ReadOnly { .. } => Some("import the pool writable"),
            ProgramError::NoPool { .. } => Some("import the pool: zpool import POOL"),
            ProgramError::Permission { .. } => Some("run as root, on the host"),
            ProgramError::NoSpace { .. } => Some("free space in the pool, for example snapshots"),
            ProgramError::Arguments { .. }
            | ProgramError::Rejected { .. }
            | ProgramError::Lua { .. }
            | ProgramError::Instructions { .. }
            | ProgramError::Memory { .. }
            | ProgramError::Interrupted { .. }
            | ProgramError::Unsupported { .. }
            | ProgramError::Reply { .. }
            | ProgramError::Syscall { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zfs_error_names_operation_object_and_parts_but_not_its_source() {
        let error = ZfsError {
            operation: "snapshot",
            dataset: "tank/a@1".into(),
            errno: Errno(libc::EEXIST),
            per: (1..=5)
                .map(|n| (format!("tank/a@{n}"), Errno(libc::EEXIST)))
                .collect(),
        };
        assert_eq!(
            error.to_string(),
            "cannot snapshot tank/a@1 (tank/a@1: EEXIST, tank/a@2: EEXIST, tank/a@3: EEXIST, and 2 more)"
        );
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert!(source.is_some_and(|text| text.starts_with("EEXIST: ")));
    }

    #[test]
    fn the_three_ways_not_to_open_are_told_apart() {
        assert!(matches!(
            OpenError::from_errno(Errno(libc::ENOENT)),
            OpenError::NoDevice(_)
        ));
        assert!(matches!(
            OpenError::from_errno(Errno(libc::EACCES)),
            OpenError::Permission(_)
        ));
        assert!(matches!(
            OpenError::from_errno(Errno(libc::EIO)),
            OpenError::Device(_)
        ));
    }
}
