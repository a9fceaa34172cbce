//! I/O errors of the pool: damaged blocks, which their checksums show when they are read, and a device that
//! takes no more writes, after which the pool is suspended until somebody clears that.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::*;
use crate::worlds::small_world;

/// Where the pool's file lies.
const PLACE: &str = "/run/faulty";
const IMAGE: &str = "/run/faulty/image";

fn faulty(args: &[&str]) -> Ended {
    ezz(&[&["--site", "faulty/ezz"], args].concat())
}

/// A site on a pool of its own, whose file lies on a tmpfs of this size.
#[track_caller]
fn site(size: &str) {
    sh(&format!(
        "set -e; mkdir -p {PLACE}; mount -t tmpfs -o size={size} none {PLACE}; truncate -s 512M {IMAGE}
         zpool create -O compression=off -O atime=off faulty {IMAGE}"
    ))
    .ok();
    ezz(&["init", "faulty/ezz", "--directory", "/srv/faulty"]).ok();
    // What is looked for on the device must be there as it was written.
    zfs(&["inherit", "-r", "compression", "faulty/ezz"]).ok();
}

/// A world with these files.
#[track_caller]
fn install(version: &str, files: &[(&str, &str)]) {
    let directory = Path::new("/tmp/faulty");
    small_world(directory, version);
    for (name, text) in files {
        fs::write(directory.join(name), text).expect("written");
    }
    sh("tar -cf /tmp/faulty.tar -C /tmp/faulty .").ok();
    faulty(&["install", "/tmp/faulty.tar"]).ok();
}

/// Changes a byte of each block that begins with a text, on the device alone.
#[track_caller]
fn damage(texts: &[&str]) {
    sh("zpool sync faulty; zpool export faulty").ok();
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(IMAGE)
        .expect("the image");
    let length = file.metadata().expect("the image").len();
    let mut found = vec![0; texts.len()];
    let mut part = vec![0; 1 << 20];
    for at in (0..length).step_by(part.len()) {
        file.read_exact_at(&mut part, at).expect("read");
        for (block, bytes) in part.chunks(512).enumerate() {
            let text = texts.iter().position(|it| bytes.starts_with(it.as_bytes()));
            if let Some(text) = text {
                let byte = at + block as u64 * 512 + 1;
                file.write_all_at(b"\xff", byte).expect("written");
                found[text] += 1;
            }
        }
    }
    assert!(!found.contains(&0), "{found:?} blocks begin with {texts:?}");
    sh(&format!("zpool import -d {PLACE} faulty")).ok();
    sh("zfs mount -a").ok();
    faulty(&["doctor", "--repair"]).ok();
}

fn everything() -> String {
    let all = everything_of("faulty");
    let counters = ["ezz:epoch", "ezz:seq"];
    let lines = all
        .lines()
        .filter(|line| !counters.iter().any(|it| line.contains(it)));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn files_that_cannot_be_read_are_named_and_nothing_is_lost() {
    site("512M");
    let text = |word: &str| format!("{word:<4096}");
    let first = [
        ("etc/both", &*text("SKELETON")),
        ("usr/share/read", &*text("BASEFILE")),
    ];
    install("12.1", &first);
    faulty(&["create", "a", "b", "c"]).ok();
    fs::write("/srv/faulty/a/etc/both", text("JAILFILE")).expect("written");
    install("13.0", &[("etc/both", &*text("RELEASE2"))]);
    faulty(&["update", "--swap", "2"]).ok();
    damage(&["JAILFILE", "BASEFILE"]);
    let before = everything();
    let says = "Input/output error";
    // What is read is named, and what was begun is taken back.
    for verb in [
        &["merge", "a"][..],
        &["merge", "a", "--dry-run"],
        &["worlds", "verify", "1"],
    ] {
        faulty(verb).refused(1, says);
        assert_eq!(everything(), before, "{verb:?}");
    }
    let merged = faulty(&["merge", "a"]).exits(1);
    assert!(
        merged.stderr.contains("/srv/faulty/a/etc/both"),
        "{merged:#?}"
    );
    // One of several: the others are merged.
    let merged = faulty(&["merge", "a", "b"]).exits(3);
    assert!(merged.stderr.contains(says), "{merged:#?}");
    let skel = |jail: &str| {
        json_property(&format!("faulty/ezz/jails/{jail}"), "ezz:jail")["skel"].to_string()
    };
    assert_eq!((&*skel("a"), &*skel("b")), ("1", "2"));
    // What is made of a damaged world is not sealed, and leaves nothing.
    faulty(&["rollback", "--to", "1"]).ok();
    let before = everything();
    let change = [
        "--on-host",
        "--run",
        "/bin/sh",
        "-c",
        "echo x >$EZZ_ROOT/etc/new",
    ];
    faulty(&[&["update"][..], &change].concat()).refused(1, says);
    assert_eq!(everything(), before);
    // What reads none of it works, the way out too.
    faulty(&["create", "e"]).ok();
    faulty(&["clone", "c", "f"]).ok();
    faulty(&["list"]).ok();
    faulty(&["doctor"]).ok();
    faulty(&["delete", "--yes", "a", "e", "f"]).ok();
    let left = faulty(&["list", "--only-names"]).ok().stdout;
    assert_eq!(left, "b\nc\n");
}

/// Starts a command that may hang until the pool is cleared.
fn begin(command: &str) -> Child {
    let mut child = Command::new("/bin/sh");
    child.args(["-c", command]).spawn().expect("it starts")
}

#[track_caller]
fn ends(child: &mut Child, what: &str) -> i32 {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(120) {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return status.code().unwrap_or(-1);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} does not end");
}

#[test]
fn a_suspended_pool_is_named_at_once_and_nothing_is_lost() {
    site("128M");
    install("12.1", &[]);
    faulty(&["create", "a", "b"]).ok();
    install("13.0", &[("etc/new", "new\n")]);
    faulty(&["update", "--swap", "2"]).ok();
    sh("zpool sync faulty").ok();
    let before = everything();
    // The device takes no more blocks: who is at work then waits for the pool.
    sh(&format!("cat /dev/zero >{PLACE}/fill 2>/dev/null; true")).ok();
    let mut waits = begin(&format!(
        "exec {EZZ} --site faulty/ezz create z >/tmp/waits 2>&1"
    ));
    let begun = Instant::now();
    let suspended = || sh("zpool list -Ho health faulty").stdout.trim() == "SUSPENDED";
    while !suspended() {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "it is not suspended"
        );
        assert_eq!(
            waits.try_wait().expect("it is ours"),
            None,
            "nothing was written"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    for verb in [
        "list",
        "create y",
        "delete --yes a",
        "merge a",
        "start a",
        "doctor",
        "doctor --repair",
        "install /tmp/faulty.tar",
        "update --swap 1",
        "rollback",
        "worlds prune",
        "clone a y",
    ] {
        let begun = Instant::now();
        let told = sh(&format!(
            "timeout -s KILL 60 {EZZ} --wait 1 --site faulty/ezz {verb} </dev/null"
        ));
        let took = begun.elapsed();
        assert!(
            matches!(told.code, 1 | 4),
            "{verb} after {took:?}: {told:#?}"
        );
        assert!(took < Duration::from_secs(50), "{verb} took {took:?}");
        if told.code == 1 {
            assert!(told.stderr.contains("suspended"), "{verb}: {told:#?}");
            assert!(
                told.stderr.contains("zpool clear faulty"),
                "{verb}: {told:#?}"
            );
        }
    }
    // The administrator mends the device.
    sh(&format!("rm {PLACE}/fill; zpool clear faulty")).ok();
    assert_eq!(
        ends(&mut waits, "create"),
        0,
        "{}",
        sh("cat /tmp/waits").stdout
    );
    faulty(&["delete", "--yes", "z"]).ok();
    assert_eq!(everything(), before);
    faulty(&["doctor", "--repair"]).ok();
    faulty(&["merge", "a", "b"]).ok();
    let read = fs::read_to_string("/srv/faulty/a/etc/new").expect("it is merged");
    assert_eq!(read, "new\n");
}
