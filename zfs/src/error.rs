//! What can go wrong when OpenZFS is asked for something.
//!
//! Each error names the operation and the object; what to do about it is `hint()`. `Display` never
//! repeats the source. No decision is taken here: whether an error is fatal is for the caller.

use crate::errno::Errno;
use crate::nvlist::NvError;
use crate::sys::LoadError;

/// OpenZFS cannot be used at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The libraries are not there.
    #[error("OpenZFS is not installed")]
    Library(#[from] LoadError),
    /// There is no `/dev/zfs`: the kernel module is not loaded, or this is inside a container.
    #[error("cannot open /dev/zfs: the OpenZFS kernel module is not loaded")]
    NoDevice(#[source] Errno),
    /// `/dev/zfs` may not be opened by this user, or not in this container.
    #[error("cannot open /dev/zfs: permission denied")]
    Permission(#[source] Errno),
    /// Anything else that opening it said.
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

    /// What the user can do.
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
    /// The verb.
    pub operation: &'static str,
    /// The dataset or snapshot; for several, the first.
    pub dataset: String,
    /// Why.
    #[source]
    pub errno: Errno,
    /// Where one call covers several objects: those that were refused, each with its reason.
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

/// A channel program did not end by itself.
///
/// What it had done until then stays done, unless the variant says otherwise: see `CONTRACT.md`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// An argument cannot be passed. Nothing ran.
    #[error("cannot pass the arguments of the channel program {program}")]
    Arguments {
        /// The program.
        program: String,
        /// Which and why.
        #[source]
        source: NvError,
    },
    /// The program is not Lua, or the limits are out of range. Nothing ran.
    #[error("the kernel does not accept the channel program {program}: {message}")]
    Rejected {
        /// The program.
        program: String,
        /// What the kernel said.
        message: String,
    },
    /// The program raised an error.
    #[error("the channel program {program} failed: {message}")]
    Lua {
        /// The program.
        program: String,
        /// The Lua message.
        message: String,
        /// The Lua stack, one line each.
        traceback: Vec<String>,
    },
    /// The program reached its instruction limit.
    #[error("the channel program {program} reached its limit of {limit} instructions")]
    Instructions {
        /// The program.
        program: String,
        /// The limit.
        limit: u64,
    },
    /// The program reached its memory limit.
    #[error("the channel program {program} reached its limit of {limit} bytes")]
    Memory {
        /// The program.
        program: String,
        /// The limit.
        limit: u64,
    },
    /// A signal stopped the program.
    #[error("the channel program {program} was interrupted")]
    Interrupted {
        /// The program.
        program: String,
    },
    /// The pool has no room left even to start a program. Nothing ran.
    #[error("the pool {pool} is too full for a channel program")]
    NoSpace {
        /// The pool.
        pool: String,
    },
    /// The pool is suspended after I/O errors. Nothing ran.
    #[error("the pool {pool} is suspended")]
    Suspended {
        /// The pool.
        pool: String,
    },
    /// The pool is imported read-only. Nothing ran.
    #[error("the pool {pool} is read-only")]
    ReadOnly {
        /// The pool.
        pool: String,
    },
    /// There is no such pool. Nothing ran.
    #[error("there is no pool {pool}")]
    NoPool {
        /// The pool.
        pool: String,
    },
    /// Channel programs are for root of the host only. Nothing ran.
    #[error("not permitted to run a channel program on the pool {pool}")]
    Permission {
        /// The pool.
        pool: String,
    },
    /// This OpenZFS cannot do what the program needs. Nothing ran.
    #[error("the channel program {program} needs {needs}")]
    Unsupported {
        /// The program.
        program: String,
        /// The missing function.
        needs: &'static str,
    },
    /// The program ran, but its reply is not understood.
    #[error("the channel program {program} gave a reply that is not understood: {reply}")]
    Reply {
        /// The program.
        program: String,
        /// What came.
        reply: String,
    },
    /// Anything else that the kernel said.
    #[error("cannot run the channel program {program} on the pool {pool}")]
    Syscall {
        /// The program.
        program: String,
        /// The pool.
        pool: String,
        /// Why.
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

    /// What the user can do, where there is something.
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
