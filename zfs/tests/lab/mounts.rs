//! Mounting: flags, mounts that are busy, names with blanks, mapped ids.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use ezz_zfs::{
    MountError, MountFlags, Mounted, bind_idmapped, mount, mounted, mounted_at, unmount,
};

use crate::pool::Pool;

fn directory(pool: &Pool, name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("{}-{name}", pool.name));
    fs::create_dir_all(&path).unwrap();
    path
}

/// Returns the mount at a directory, found in the whole table and by a single look, which must agree.
#[track_caller]
fn entry(at: &Path) -> Option<Mounted> {
    let found = mounted().unwrap();
    let found = found.iter().rfind(|mount| mount.target == at).cloned();
    assert_eq!(mounted_at(at).unwrap(), found, "{}", at.display());
    found
}

#[test]
fn one_look_tells_what_the_table_tells() {
    let pool = Pool::new();
    pool.create("a");
    let dataset = pool.ds("a");
    let at = directory(&pool, "odd \\ name\tand more");
    assert_eq!(entry(&at), None);
    assert_eq!(entry(&at.join("missing/below")), None);
    mount(&dataset, &at, MountFlags::default()).unwrap();
    assert_eq!(entry(&at).unwrap().source, dataset);
    assert_eq!(entry(&at.join("missing")), None);
    // A bind mount of one of its directories, a mount over it, and a link to it.
    let (inner, bound) = (at.join("inner"), directory(&pool, "bound"));
    fs::create_dir(&inner).unwrap();
    assert_eq!(entry(&inner), None);
    crate::pool::run(
        "mount",
        &["--bind", inner.to_str().unwrap(), bound.to_str().unwrap()],
    );
    let found = entry(&bound).unwrap();
    assert_eq!(
        (found.source, found.root),
        (dataset, PathBuf::from("/inner"))
    );
    crate::pool::run(
        "mount",
        &[
            "-t",
            "tmpfs",
            "-o",
            "ro,noexec",
            "odd source",
            bound.to_str().unwrap(),
        ],
    );
    let found = entry(&bound).unwrap();
    assert_eq!(
        (found.source.as_str(), found.fstype.as_str()),
        ("odd source", "tmpfs")
    );
    let link = bound.with_extension("link");
    std::os::unix::fs::symlink(&bound, &link).unwrap();
    assert_eq!(entry(&link), None);
    for at in [&bound, &bound, &at] {
        unmount(at).unwrap();
        entry(at);
    }
}

#[test]
fn mount_and_unmount_with_flags() {
    let pool = Pool::new();
    pool.create("a b");
    let (dataset, at) = (pool.ds("a b"), directory(&pool, "with blank"));
    let flags = MountFlags {
        nosuid: true,
        nodev: true,
        noatime: true,
        ..MountFlags::default()
    };
    mount(&dataset, &at, flags).unwrap();
    let found = entry(&at).unwrap();
    assert_eq!(
        (found.source.as_str(), found.fstype.as_str()),
        (dataset.as_str(), "zfs")
    );
    assert_eq!(
        (found.read_only, found.nosuid, found.nodev, found.noexec),
        (false, true, true, false)
    );
    fs::write(at.join("file"), "x").unwrap();

    let open = File::open(at.join("file")).unwrap();
    let error = unmount(&at).unwrap_err();
    assert!(matches!(error, MountError::Busy { .. }), "{error:?}");
    assert!(entry(&at).is_some(), "neither lazily nor by force");
    drop(open);
    unmount(&at).unwrap();
    assert_eq!(entry(&at), None);
    let error = unmount(&at).unwrap_err();
    assert!(matches!(error, MountError::NotMounted { .. }), "{error:?}");

    let read_only = MountFlags {
        read_only: true,
        noexec: true,
        ..MountFlags::default()
    };
    mount(&dataset, &at, read_only).unwrap();
    let found = entry(&at).unwrap();
    assert_eq!(
        (found.read_only, found.nosuid, found.nodev, found.noexec),
        (true, false, false, true)
    );
    let error = fs::write(at.join("file"), "y").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    unmount(&at).unwrap();
}

#[test]
fn a_snapshot_is_mounted_read_only() {
    let pool = Pool::new();
    pool.create("a");
    let at = directory(&pool, "at");
    mount(&pool.ds("a"), &at, MountFlags::default()).unwrap();
    fs::write(at.join("file"), "old").unwrap();
    let snapshot = pool.ds("a@1");
    pool.zfs
        .snapshot(&[&snapshot], &ezz_zfs::NvMap::new())
        .unwrap();
    let view = directory(&pool, "view");
    mount(
        &snapshot,
        &view,
        MountFlags {
            read_only: true,
            ..MountFlags::default()
        },
    )
    .unwrap();
    assert_eq!(fs::read_to_string(view.join("file")).unwrap(), "old");
    assert!(entry(&view).unwrap().read_only);
    unmount(&view).unwrap();
    unmount(&at).unwrap();
}

#[test]
fn what_cannot_be_mounted_is_named() {
    let pool = Pool::new();
    let at = directory(&pool, "at");
    let error = mount(&pool.ds("none"), &at, MountFlags::default()).unwrap_err();
    let MountError::Mount { dataset, errno, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (dataset.as_str(), errno.name()),
        (pool.ds("none").as_str(), Some("ENOENT"))
    );
    pool.create("a");
    let error = mount(
        &pool.ds("a"),
        Path::new("/tmp/nowhere"),
        MountFlags::default(),
    );
    assert!(matches!(error, Err(MountError::Mount { .. })), "{error:?}");
}

/// A process in a user namespace of its own, with ids from 100000 on.
struct Namespace(Child);

impl Namespace {
    fn new() -> Namespace {
        let child = Command::new("unshare")
            .args(["--user", "sleep", "600"])
            .spawn()
            .unwrap();
        let path = |name: &str| format!("/proc/{}/{name}", child.id());
        let own = fs::read_link("/proc/self/ns/user").unwrap();
        while fs::read_link(path("ns/user")).is_ok_and(|namespace| namespace == own) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        for map in ["uid_map", "gid_map"] {
            File::options()
                .write(true)
                .open(path(map))
                .unwrap()
                .write_all(b"0 100000 65536")
                .unwrap();
        }
        Namespace(child)
    }

    fn open(&self) -> File {
        File::open(format!("/proc/{}/ns/user", self.0.id())).unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ids_are_mapped_and_flags_are_exactly_those_asked_for() {
    let pool = Pool::new();
    pool.create("a");
    let (host, jail) = (directory(&pool, "host"), directory(&pool, "jail"));
    let strict = MountFlags {
        nosuid: true,
        nodev: true,
        ..MountFlags::default()
    };
    mount(&pool.ds("a"), &host, strict).unwrap();
    let namespace = Namespace::new();
    let userns = namespace.open();
    fs::write(host.join("root"), "x").unwrap();
    fs::write(host.join("www"), "x").unwrap();
    chown(host.join("www"), Some(33), Some(33)).unwrap();

    // Without nosuid, although the host's mount has it.
    let flags = MountFlags {
        nodev: true,
        noatime: true,
        ..MountFlags::default()
    };
    bind_idmapped(&host, &jail, userns.as_fd(), flags).unwrap();
    let found = entry(&jail).unwrap();
    assert_eq!(
        (found.read_only, found.nosuid, found.nodev, found.noexec),
        (false, false, true, false)
    );
    let owner = |path: PathBuf| {
        let data = fs::symlink_metadata(path).unwrap();
        (data.uid(), data.gid())
    };
    assert_eq!(owner(jail.join("root")), (100_000, 100_000));
    assert_eq!(owner(jail.join("www")), (100_033, 100_033));
    assert_eq!(owner(host.join("www")), (33, 33));

    // A file that an id of the namespace creates through the mapped mount is stored with the id inside.
    fs::set_permissions(&host, fs::Permissions::from_mode(0o777)).unwrap();
    let made = jail.join("made");
    let status = Command::new("setpriv")
        .args([
            "--reuid=100007",
            "--regid=100007",
            "--clear-groups",
            "touch",
        ])
        .arg(&made)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(owner(host.join("made")), (7, 7));
    unmount(&jail).unwrap();

    let read_only = MountFlags {
        read_only: true,
        nosuid: true,
        ..MountFlags::default()
    };
    bind_idmapped(&host, &jail, userns.as_fd(), read_only).unwrap();
    let found = entry(&jail).unwrap();
    assert_eq!(
        (found.read_only, found.nosuid, found.nodev, found.noexec),
        (true, true, false, false)
    );
    let error = fs::write(jail.join("root"), "y").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    fs::write(host.join("root"), "y").unwrap();

    // The dataset stays busy as long as the mapped mount exists.
    unmount(&host).unwrap();
    let busy = pool.zfs.destroy(&pool.ds("a")).unwrap_err();
    assert_eq!(busy.errno.name(), Some("EBUSY"));
    unmount(&jail).unwrap();
    pool.zfs.destroy(&pool.ds("a")).unwrap();
}

#[test]
fn a_file_system_that_cannot_map_ids_is_its_own_error() {
    let pool = Pool::new();
    let at = directory(&pool, "at");
    let namespace = Namespace::new();
    let error = bind_idmapped(
        Path::new("/proc"),
        &at,
        namespace.open().as_fd(),
        MountFlags::default(),
    );
    assert!(
        matches!(error, Err(MountError::IdmapUnsupported { .. })),
        "{error:?}"
    );
    assert_eq!(entry(&at), None);
    let missing = bind_idmapped(
        Path::new("/no/such"),
        &at,
        namespace.open().as_fd(),
        MountFlags::default(),
    );
    let Err(MountError::Bind { step, errno, .. }) = missing else {
        panic!("{missing:?}")
    };
    assert_eq!((step, errno.name()), ("open_tree", Some("ENOENT")));
}
