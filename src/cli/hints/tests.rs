//! Hints that depend on the host, and on what is full.

use std::io::ErrorKind;

use super::*;

#[test]
fn a_hint_names_what_the_host_has() {
    let at = Path::new("/srv/jails/web");
    let (linux, freebsd) = (users_of(at, Os::Linux), users_of(at, Os::FreeBsd));
    assert!(linux.contains("`fuser -vm /srv/jails/web`"), "{linux}");
    assert!(freebsd.contains("`fstat -f /srv/jails/web`"), "{freebsd}");
    let install = "install the package that has zfs";
    assert_eq!(program_of(Os::Linux, install), install);
    assert!(!program_of(Os::FreeBsd, install).contains("package"));
    assert!(!unvouched(Os::Linux).contains("misc/"));
    assert!(unvouched(Os::FreeBsd).contains("misc/"));
}

/// /run is memory, and can be full while the pool is not.
#[test]
fn what_is_full_is_named() {
    let file = |path: &str, kind: ErrorKind| HostError::File {
        action: "write",
        path: path.into(),
        source: kind.into(),
    };
    let hint = |error: &HostError| hints_of(error).join("\n");
    let full = hint(&file(
        "/run/ezz/s/jails/a/config.json",
        ErrorKind::StorageFull,
    ));
    assert!(
        full.starts_with(
            "the file system that holds /run/ezz/s/jails/a is full: `df -h /run/ezz/s/jails/a`"
        ),
        "{full}"
    );
    assert!(!full.contains("pool"), "{full}");
    let quota = hint(&file("/srv/jails/a/etc/hosts", ErrorKind::QuotaExceeded));
    assert!(quota.contains("quota"), "{quota}");
    let lock = LockError::File {
        path: "/run/ezz/s.lock".into(),
        source: ErrorKind::StorageFull.into(),
    };
    assert!(hints_of(&lock)[0].contains("holds /run/ezz is full"));
}
