//! OpenZFS for ezz: libzfs_core and libnvpair, which are loaded at run time, the channel programs, and the mount calls.
//!
//! This is the only crate of ezz with `unsafe`. It knows datasets, properties and mounts. Beyond the names that its
//! channel programs use, it must not know what a jail or a world is. It prints nothing and decides nothing, and its
//! callers have already parsed every name.

#![deny(clippy::undocumented_unsafe_blocks)]

pub mod channel;
pub mod core;
pub mod errno;
pub mod error;
mod hold;
pub mod look;
pub mod mount;
pub mod mountinfo;
#[cfg(any(target_os = "freebsd", test))]
mod nmount;
pub mod nvlist;
pub mod program;
mod reply;
pub mod strip;
pub mod sys;

pub use crate::channel::{Capabilities, Limits, module_version};
pub use crate::core::Zfs;
pub use crate::errno::Errno;
pub use crate::error::{OpenError, ProgramError, ZfsError};
pub use crate::mount::{MountError, MountFlags, mount, mounted, mounted_at, unmount};
#[cfg(target_os = "linux")]
pub use crate::mount::{bind_idmapped, restrict};
pub use crate::mountinfo::{Mounted, parse_mountinfo};
pub use crate::nvlist::{NvError, NvMap, Value};
pub use crate::sys::LoadError;
