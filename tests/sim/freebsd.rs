//! The FreeBSD host on the simulated pool: the real adapter with stand-ins for FreeBSD's programs
//! (`tests/standins/freebsd`), whose state replaces the kernel's. Code that passes here has not run on FreeBSD.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ezz::exec::ExecError;
use ezz::host::freebsd::system::System;
use ezz::host::freebsd::{FreeBsd, Places};
use ezz::ports::Host;
use ezz_zfs::{MountError, Mounted};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::SimMachine;
use super::machine::{Outside, State};

/// The programs that have a stand-in.
const PROGRAMS: [&str; 17] = [
    "jail",
    "jls",
    "jexec",
    "mount",
    "mount_nullfs",
    "umount",
    "devfs",
    "sysctl",
    "sh",
    "uname",
    "ifconfig",
    "rctl",
    "timeout",
    "ps",
    "pkill",
    "script",
    "kldstat",
];

/// A directory with the stand-ins, their state, and the files of the host.
#[derive(Debug, Clone)]
pub struct StandIns {
    directory: Arc<tempfile::TempDir>,
    zfs: Arc<Mutex<State>>,
}

impl StandIns {
    /// Gives a machine a FreeBSD host.
    pub fn on(machine: &SimMachine) -> StandIns {
        let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).expect("writable");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/standins/freebsd");
        for name in PROGRAMS {
            symlink(&program, bin.join(name)).expect("writable");
        }
        let made = StandIns {
            directory,
            zfs: Arc::clone(&machine.state),
        };
        let state = json!({
            "jails": [], "mounts": [], "rules": [], "interfaces": {}, "answers": {}, "log": [], "refused": [],
            "lies": [], "fails": [], "hangs": [], "hold": null, "old_kernel": false, "busy": 0, "last": 0,
        });
        fs::write(made.path("state.json"), state.to_string()).expect("writable");
        machine.state().outside = Some(Arc::new(made.clone()));
        made
    }

    /// Returns the path of a file of the host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Reads or changes the state of the stand-ins, while it is locked.
    pub fn with<R>(&self, act: impl FnOnce(&mut Value) -> R) -> R {
        let lock = fs::File::create(self.path("lock")).expect("writable");
        flock(&lock, FlockOperation::LockExclusive).expect("a lock");
        let at = self.path("state.json");
        let text = fs::read(&at).expect("it is there");
        let mut state = serde_json::from_slice(&text).expect("it was written whole");
        let done = act(&mut state);
        fs::write(&at, state.to_string()).expect("writable");
        done
    }

    /// Returns the mounts in the state, oldest first: source, directory, type, options.
    pub fn mounts(&self) -> Vec<[String; 4]> {
        let of =
            |mount: &Value| ["source", "target", "fstype", "options"].map(|key| text(&mount[key]));
        self.with(|state| array(&state["mounts"]).iter().map(of).collect())
    }

    /// Runs one of the stand-ins, as an administrator would.
    #[track_caller]
    pub fn run(&self, program: &str, words: &[&str]) {
        let exec = ezz::exec::Exec::at(&self.path("bin").join(program));
        exec.args(words).run().expect("it does it");
    }
}

/// Returns a list in the state.
pub fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns a text in the state.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl System for StandIns {
    fn program(&self, name: &str) -> Result<PathBuf, ExecError> {
        let path = self.path("bin").join(name);
        let known = path.is_symlink().then_some(path);
        known.ok_or_else(|| ExecError::NotFound(name.to_owned()))
    }

    fn mounted(&self) -> Result<Arc<Vec<Mounted>>, MountError> {
        let of = |source: String, target: PathBuf, fstype: String, read_only| Mounted {
            source,
            root: "/".into(),
            target,
            fstype,
            read_only,
            nosuid: false,
            nodev: true,
            noexec: false,
            noatime: false,
        };
        let zfs = self.zfs.lock().unwrap_or_else(PoisonError::into_inner);
        let datasets = zfs.mounts.table.iter();
        let datasets = datasets.map(|mount| {
            of(
                mount.source.clone(),
                mount.target.clone(),
                "zfs".to_owned(),
                mount.flags.read_only,
            )
        });
        let others = self
            .mounts()
            .into_iter()
            .map(|[source, target, fstype, options]| {
                of(
                    source,
                    target.into(),
                    fstype,
                    options.split(',').any(|option| option == "ro"),
                )
            });
        Ok(Arc::new(datasets.chain(others).collect()))
    }

    /// Unmounts a file system that the stand-ins have mounted, as umount(2) does.
    fn unmount(&self, at: &Path) -> Result<(), MountError> {
        let program = ezz::exec::Exec::at(&self.path("bin").join("umount"));
        let Err(error) = program.arg(at).run() else {
            return Ok(());
        };
        let at = at.to_owned();
        Err(match error.to_string() {
            why if why.contains("Device busy") => MountError::Busy { at },
            why if why.contains("not a file system root") => MountError::NotMounted { at },
            why => panic!("{why}"),
        })
    }
}

impl Outside for StandIns {
    fn host(&self, site_id: &str, site_directory: &Path) -> Box<dyn Host> {
        let places = Places {
            conf: self.path("jail.conf.d"),
            main_conf: self.path("jail.conf"),
            log: self.path("log"),
            patience: Duration::from_secs(4),
            start: Duration::from_secs(15),
            helper: Duration::from_secs(15),
        };
        Box::new(FreeBsd::on(
            site_id,
            site_directory,
            places,
            Arc::new(self.clone()),
        ))
    }

    fn uses(&self, at: &Path) -> bool {
        let below = |path: &Value| Path::new(&text(path)).starts_with(at);
        self.with(|state| {
            let mut jails = array(&state["jails"]).iter();
            let mut mounts = array(&state["mounts"]).iter();
            jails.any(|jail| below(&jail["params"]["path"]))
                || mounts.any(|mount| below(&mount["source"]) || below(&mount["target"]))
        })
    }
}

/// Creates a made-up world of the FreeBSD profile as a directory.
pub fn world(at: &Path, patch: u32) {
    for directory in [
        "bin",
        "boot",
        "etc/defaults",
        "lib",
        "libexec",
        "sbin",
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/libexec",
        "usr/share",
        "usr/local",
        "var/run",
        "var/log",
        "var/tmp",
        "var/db",
        "dev",
        "proc",
        "tmp",
        "root",
        "mnt",
    ] {
        fs::create_dir_all(at.join(directory)).expect("writable");
    }
    // ELF, little-endian, amd64, FreeBSD: ezz reads the architecture from this header.
    let mut elf = b"\x7fELF\x02\x01\x01\x09\0\0\0\0\0\0\0\0\x02\0\x3e\0".to_vec();
    elf.resize(64, 0);
    let version = format!("#!/bin/sh\nUSERLAND_VERSION=\"14.3-RELEASE-p{patch}\"\n");
    for (path, text) in [
        ("bin/sh", elf.as_slice()),
        ("sbin/init", &elf),
        ("libexec/ld-elf.so.1", &elf),
        ("bin/freebsd-version", version.as_bytes()),
        ("etc/defaults/rc.conf", b"jail_enable=\"NO\"\n"),
        ("etc/passwd", b"root:*:0:0:Charlie &:/root:/bin/sh\n"),
        (
            "etc/master.passwd",
            b"root:*:0:0::0:0:Charlie &:/root:/bin/sh\n",
        ),
        ("etc/group", b"wheel:*:0:root\n"),
        ("etc/services", b"ssh 22/tcp\n"),
        ("etc/login.conf", b"default:\\\n\t:path=/bin:\n"),
    ] {
        fs::write(at.join(path), text).expect("writable");
        fs::set_permissions(at.join(path), fs::Permissions::from_mode(0o755)).expect("ours");
    }
}
