//! What users can do about errors. Each error has its hints beside it, as its [`Hint`]; here are those
//! that several errors share.

use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::io::Errno;

use crate::profile::Os;

/// An error about which users can do something.
pub trait Hint {
    /// What they can do, to be shown after `hint:`; that of its cause, if only the cause has one.
    fn hint(&self) -> Option<String>;
}

/// What to do about a file that could not be written. It may lie in the pool or in another file system, such as
/// /run, which is memory.
pub fn file_failed(path: &Path, error: &io::Error) -> Option<String> {
    let directory = path.parent().unwrap_or(path).display();
    if let Some(hint) = damaged(error) {
        return Some(hint);
    }
    match error.kind() {
        ErrorKind::StorageFull => {
            let mut hint = format!(
                "the file system that holds {directory} is full: `df -h {directory}` shows which one, `df -i {directory}` whether it has no inodes left"
            );
            // df does not show what takes room in a pool, such as snapshots.
            if !["/run", "/var/run"]
                .iter()
                .any(|memory| path.starts_with(memory))
            {
                hint += "; of a pool, `zfs list -o space`";
            }
            Some(hint)
        }
        ErrorKind::QuotaExceeded => errno("EDQUOT"),
        ErrorKind::ReadOnlyFilesystem => Some(format!(
            "the file system that holds {directory} is read-only: `findmnt -T {directory}` or `mount` shows it"
        )),
        _ => None,
    }
}

/// What OpenZFS answers if the checksum of a block is wrong and a directory or the like cannot be read (`ECKSUM`): EBADE
/// on Linux, shown as *Invalid exchange*, and EINTEGRITY on FreeBSD.
const CHECKSUM: i32 = if cfg!(target_os = "linux") { 52 } else { 97 };

/// What to do about files that cannot be read because they, or what leads to them, are damaged.
pub fn damaged(source: &io::Error) -> Option<String> {
    let is_damage =
        Errno::from_io_error(source) == Some(Errno::IO) || source.raw_os_error() == Some(CHECKSUM);
    is_damage.then(|| {
        "`zpool status -v` shows whether the pool has damaged files: restore them from a backup or a snapshot"
            .to_owned()
    })
}

/// What to do about a pool or quota that is full, or cannot be written.
pub fn errno(name: &str) -> Option<String> {
    let hint = match name {
        "ENOSPC" => {
            "the pool is full: `zfs list -o space` shows what uses it; if files cannot be removed, `zfs destroy` a snapshot"
        }
        "EDQUOT" => "a quota is exceeded: `zfs get -r quota,refquota` shows which one",
        "EEXIST" | "EBUSY" => "`ezz doctor` shows the current state",
        "EROFS" => "it is read-only: `zpool get readonly` and `zfs get readonly` show why",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What goes on with the pool of a dataset or snapshot that is suspended after I/O errors.
pub fn pool_suspended(dataset: &str) -> String {
    let pool = dataset.split(['/', '@']).next().unwrap_or(dataset);
    format!(
        "`zpool status {pool}` shows which device failed; reattach it, then `zpool clear {pool}`; commands that wait for the pool resume"
    )
}

/// How the processes are found that use what is mounted at a directory. fuser(1) of FreeBSD has other options
/// than that of Linux.
pub fn users_of_mount(at: &Path, os: Os) -> String {
    let at = at.display();
    match os {
        Os::Linux => format!("`fuser -vm {at}` lists the processes that use it"),
        Os::FreeBsd => format!("`fstat -f {at}` lists the processes that use it"),
    }
}

/// What to do for want of a program.
pub fn missing_program(os: Os, install: &str) -> String {
    match os {
        Os::Linux => install.to_owned(),
        Os::FreeBsd => "it is part of FreeBSD's base system: this installation lacks it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_what_the_host_has() {
        let at = Path::new("/srv/jails/web");
        let (linux, freebsd) = (
            users_of_mount(at, Os::Linux),
            users_of_mount(at, Os::FreeBsd),
        );
        assert!(linux.contains("`fuser -vm /srv/jails/web`"), "{linux}");
        assert!(freebsd.contains("`fstat -f /srv/jails/web`"), "{freebsd}");
        let install = "install the package that has zfs";
        assert_eq!(missing_program(Os::Linux, install), install);
        assert!(!missing_program(Os::FreeBsd, install).contains("package"));
    }

    /// /run is memory, and can be full while the pool is not.
    #[test]
    fn what_is_full_is_named() {
        let hint = |path: &str, kind: ErrorKind| {
            file_failed(Path::new(path), &kind.into()).unwrap_or_default()
        };
        let full = hint("/run/ezz/s/jails/a/config.json", ErrorKind::StorageFull);
        assert!(
            full.starts_with(
                "the file system that holds /run/ezz/s/jails/a is full: `df -h /run/ezz/s/jails/a`"
            ),
            "{full}"
        );
        assert!(!full.contains("pool"), "{full}");
        let quota = hint("/srv/jails/a/etc/hosts", ErrorKind::QuotaExceeded);
        assert!(quota.contains("quota"), "{quota}");
        let lock = hint("/run/ezz/s.lock", ErrorKind::StorageFull);
        assert!(lock.contains("holds /run/ezz is full"));
    }
}
