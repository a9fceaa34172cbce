//! The options by which nmount(2) of FreeBSD mounts a dataset, as data, so that they are tested on every system.
//!
//! This module must not make the call itself (`mount_freebsd`).

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::errno::Errno;
use crate::mount::MountFlags;

/// Options with their values. An option without a value is a flag.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options(Vec<(&'static CStr, Option<CString>)>);

impl Options {
    /// Makes the options for a dataset: the three that zmount() of libzfs passes, and flags.
    ///
    /// # Errors
    /// EINVAL: a name contains a NUL.
    pub(crate) fn of(dataset: &str, at: &Path, flags: MountFlags) -> Result<Self, Errno> {
        let value = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno(libc::EINVAL));
        let mut all = vec![
            (c"fstype", Some(c"zfs".to_owned())),
            (c"fspath", Some(value(at.as_os_str().as_bytes())?)),
            (c"from", Some(value(dataset.as_bytes())?)),
        ];
        // The kernel no longer has nodev: device nodes work only in devfs.
        all.extend(
            [
                (flags.read_only, c"ro"),
                (flags.nosuid, c"nosuid"),
                (flags.noexec, c"noexec"),
                (flags.noatime, c"noatime"),
            ]
            .into_iter()
            .filter_map(|(on, name)| on.then_some((name, None))),
        );
        Ok(Options(all))
    }

    /// Returns names and values in turn, which is an even number of parts (vfs_buildopts() of vfs_mount.c). The NUL of
    /// a text counts as a part of it; the value of a flag is empty.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flat_map(|(name, value)| {
            let value = value.as_deref().map(CStr::to_bytes_with_nul);
            [name.to_bytes_with_nul(), value.unwrap_or_default()]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_in_turn_each_with_its_nul() {
        let options = Options::of("tank/ezz/a b", Path::new("/srv/a b"), MountFlags::default());
        let parts: Vec<Vec<u8>> = options
            .expect("no NUL")
            .parts()
            .map(<[u8]>::to_vec)
            .collect();
        assert_eq!(
            parts,
            [
                &b"fstype\0"[..],
                b"zfs\0",
                b"fspath\0",
                b"/srv/a b\0",
                b"from\0",
                b"tank/ezz/a b\0"
            ]
        );
    }

    #[test]
    fn flags_have_no_value() {
        let flags = MountFlags {
            read_only: true,
            nosuid: true,
            nodev: true,
            noexec: true,
            noatime: true,
        };
        let options = Options::of("t", Path::new("/t"), flags).expect("no NUL");
        let parts: Vec<&[u8]> = options.parts().skip(6).collect();
        let none = &b""[..];
        assert_eq!(
            parts,
            [
                &b"ro\0"[..],
                none,
                b"nosuid\0",
                none,
                b"noexec\0",
                none,
                b"noatime\0",
                none
            ]
        );
    }

    #[test]
    fn a_name_that_would_end_early_is_refused() {
        let flags = MountFlags::default();
        for (dataset, at) in [("tank\0/x", "/t"), ("tank", "/t\0ro")] {
            let refused = Options::of(dataset, Path::new(at), flags);
            assert_eq!(refused, Err(Errno(libc::EINVAL)));
        }
    }
}
