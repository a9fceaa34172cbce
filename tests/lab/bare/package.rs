//! The Debian package: installed by dpkg, used, upgraded while jails run, shut down and booted with its unit, and
//! purged. `vagrant/lab/suite` builds it from this binary.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::support::*;
use crate::worlds::runnable_world;

/// The path of the installed program.
const INSTALLED: &str = "/usr/sbin/ezz";

const UNIT: &str = "/usr/lib/systemd/system/ezz.service";

/// The directories where its scripts leave files for the units of systemd.
const STATE: &str = "/etc/systemd/system /var/lib/systemd";

/// The file where the stand-ins for systemctl and deb-systemd-invoke log their calls.
const ASKED: &str = "/tmp/asked";

fn package() -> PathBuf {
    let at = Path::new(EZZ).with_file_name("ezz.deb");
    assert!(
        at.exists(),
        "no {}: `make target/debug/ezz.deb` makes it",
        at.display()
    );
    at
}

/// Runs dpkg with a database of its own: the host's may be unreadable here, and lacks the packages that the lab has
/// unpacked.
fn dpkg(args: &str) -> Ended {
    let database = "/tmp/dpkg";
    sh(&format!(
        "mkdir -p {database}/info {database}/updates && touch {database}/status && \
         dpkg --admindir={database} --force-depends --force-unsafe-io {args}"
    ))
}

/// Pretends that the host has a running systemd; calls to it are logged. Units are enabled by the real systemctl if
/// there is one, else by deb-systemd-helper itself; the presets are Debian's.
fn pretend_systemd() {
    sh(&format!(
        "set -e; mkdir -p /run/systemd/system /usr/local/sbin /etc/systemd/system-preset
        echo 'enable *' >/etc/systemd/system-preset/00-debian.preset
        for name in systemctl deb-systemd-invoke; do
            printf '#!/bin/sh\ncase \"$*\" in *preset*) exec /usr/bin/systemctl \"$@\";; esac
                echo %s \"$*\" >>{ASKED}\n' $name >/usr/local/sbin/$name
            chmod 755 /usr/local/sbin/$name
        done; : >{ASKED}"
    ))
    .ok();
}

/// Returns the command lines of the unit under a key, as systemd would run them; after a `-`, a failure does not count.
fn unit(key: &str) -> Vec<(bool, String)> {
    let text = fs::read_to_string(UNIT).expect("the unit is installed");
    let lines = text.lines().filter_map(|line| line.strip_prefix(key));
    let lines = lines.filter_map(|line| line.strip_prefix('='));
    let found: Vec<(bool, String)> = lines
        .map(|line| match line.strip_prefix('-') {
            Some(line) => (false, line.to_owned()),
            None => (true, line.to_owned()),
        })
        .collect();
    assert!(!found.is_empty(), "no {key} in {text}");
    found
}

#[track_caller]
fn run_unit(key: &str) {
    for (counts, line) in unit(key) {
        let ended = sh(&line);
        assert!(ended.code == 0 || !counts, "{ended:#?}");
    }
}

#[track_caller]
fn states() -> Vec<String> {
    let listed = ezz(&["list", "--json"]).ok().json();
    let states = listed.iter().map(|jail| jail["state"].as_str());
    states
        .map(|state| state.unwrap_or_default().to_owned())
        .collect()
}

fn papers(files: &[&str]) {
    for file in [
        "/usr/sbin/ezz",
        "/usr/share/man/man8/ezz.8.gz",
        "/usr/share/man/man8/ezz-create.8.gz",
        "/usr/share/bash-completion/completions/ezz",
        "/usr/share/zsh/vendor-completions/_ezz",
        "/usr/share/fish/vendor_completions.d/ezz.fish",
        "/usr/share/ezz/templates/profiles/debian.toml",
        "/usr/share/ezz/templates/examples/shop.toml",
        "/usr/share/doc/ezz/changelog.Debian.gz",
        "/usr/share/doc/ezz/changelog.gz",
        "/usr/share/doc/ezz/copyright",
        UNIT,
    ] {
        assert!(files.contains(&file), "no {file} in {files:#?}");
    }
    let plain = files.iter().filter(|file| Path::new(file).is_file());
    let texts = plain.clone().filter(|file| !file.ends_with(".gz"));
    for file in texts.filter(|file| **file != INSTALLED) {
        let text = fs::read_to_string(file).expect("text");
        assert!(!text.contains("@PREFIX@"), "@PREFIX@ in {file}");
    }
    for file in plain {
        let found = fs::metadata(file).expect("it is there");
        let owner = (found.uid(), found.gid());
        assert_eq!(owner, (0, 0), "{file}");
        assert_eq!(found.mode() & 0o022, 0, "{file} can be written by others");
    }
    // If systemd is installed, it must understand the unit.
    sh(&format!(
        "if command -v systemd-analyze; then systemd-analyze verify --man=no {UNIT}; fi"
    ))
    .ok();
}

#[test]
fn it_is_installed_used_upgraded_and_purged() {
    let deb = package();
    let install = format!("--install {}", deb.display());
    pretend_systemd();
    dpkg(&install).ok();
    let same = fs::read(INSTALLED).expect("installed") == fs::read(EZZ).expect("built");
    assert!(
        same,
        "{} is of another binary: make it again",
        deb.display()
    );
    let listed = dpkg("--listfiles ezz").ok().stdout;
    // The first name is `/.`; directories that other packages have too stay.
    let files: Vec<&str> = listed.lines().collect();
    papers(&files);
    let wanted = "/etc/systemd/system/multi-user.target.wants/ezz.service";
    let target = fs::read_link(wanted).expect("the unit is enabled");
    assert!(target.ends_with("systemd/system/ezz.service"), "{target:?}");
    // The unit is enabled, and does no harm without a site.
    run_unit("ExecStartPre");
    run_unit("ExecStart");

    let world = runnable_world(Path::new("/tmp/runnable"));
    let world = world.to_str().expect("a plain path");
    sh(&format!(
        "set -e; PATH=/usr/sbin:$PATH; ezz init {SITE}; ezz install {world}; ezz create a b; ezz start a b; ezz list"
    ))
    .ok();
    assert_eq!(states(), ["running", "running"]);
    let before = (everything(), processes("conmon"));
    assert!(before.1.len() >= 2, "{before:?}");
    dpkg(&install).ok();
    assert_eq!((everything(), processes("conmon")), before, "an upgrade");

    // The host is shut down and booted: only the pool remains.
    run_unit("ExecStop");
    assert_eq!(states(), ["stopped", "stopped"]);
    export();
    let mounts = fs::read_to_string("/proc/mounts").expect("proc is mounted");
    assert!(!mounts.contains(" /run/ezz"), "{mounts}");
    sh("rm -r /run/ezz && zpool import -d /run/lab tank").ok();
    run_unit("ExecStartPre");
    run_unit("ExecStart");
    assert_eq!(states(), ["running", "running"]);

    let before = (everything(), processes("conmon"));
    dpkg("--remove ezz").ok();
    assert!(!Path::new(INSTALLED).exists());
    dpkg("--purge ezz").ok();
    assert_eq!((everything(), processes("conmon")), before, "the removal");
    assert_eq!(states(), ["running", "running"]);
    let left = files.iter().filter(|file| Path::new(file).is_file());
    assert_eq!(left.collect::<Vec<_>>(), Vec::<&&str>::new());
    let left = sh(&format!("find {STATE} -name '*ezz*'")).ok().stdout;
    assert_eq!(left, "", "the state of the unit");
    let asked = fs::read_to_string(ASKED).expect("the stand-ins write it");
    assert!(!asked.is_empty(), "systemd was never told of the new unit");
    let reload = |line: &str| line.starts_with("systemctl ") && line.ends_with(" daemon-reload");
    assert!(asked.lines().all(reload), "{asked}");
    ezz(&["stop", "--all"]).ok();
}
