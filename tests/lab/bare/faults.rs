//! I/O errors of the pool: damaged blocks of files and metadata, which their checksums reveal when they are read, and a
//! device that accepts no more writes, after which the pool is suspended until an administrator clears that.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::inspect;
use crate::support::*;
use crate::worlds::{install_runnable, small_world};

/// The directory of the pool's file.
const PLACE: &str = "/run/faulty";
const IMAGE: &str = "/run/faulty/image";

fn faulty(args: &[&str]) -> Ended {
    ezz(&[&["--site", "faulty/ezz"], args].concat())
}

/// Creates a site on a pool of its own, whose file lies on a tmpfs of this size.
#[track_caller]
fn site(size: &str) {
    sh(&format!(
        "set -e; mkdir -p {PLACE}; mount -t tmpfs -o size={size} none {PLACE}; truncate -s 512M {IMAGE}
         zpool create -O compression=off -O atime=off faulty {IMAGE}"
    ))
    .ok();
    ezz(&["init", "faulty/ezz", "--directory", "/srv/faulty"]).ok();
    // The texts to look for must be on the device as they were written.
    zfs(&["inherit", "-r", "compression", "faulty/ezz"]).ok();
}

/// Installs a world with these files.
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

/// Changes a byte of each block that begins with one of the texts, on the device only.
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
    import().ok();
}

/// Imports the pool again, and lets ezz repair what the export has removed.
fn import() -> Ended {
    sh(&format!("zpool import -d {PLACE} faulty; zfs mount -a"));
    faulty(&["doctor", "--repair"])
}

/// Changes a byte in each copy of the metadata that contains these words. The metadata is compressed by LZ4, which
/// leaves a word without a similar predecessor as it is, except for its ends: a last `z` with the following zeros may
/// have occurred before.
#[track_caller]
fn damage_metadata(words: &[&str]) -> Ended {
    sh("zpool sync faulty; zpool export faulty").ok();
    let options = fs::OpenOptions::new().read(true).write(true).open(IMAGE);
    let file = options.expect("the image");
    let length = file.metadata().expect("the image").len();
    let mut found = vec![0; words.len()];
    // A word may cross the boundary of a part.
    let (step, more) = (1 << 20, 64);
    let mut part = vec![0; step + more];
    for at in (0..length).step_by(step) {
        let read = file.read_at(&mut part, at).expect("read");
        let bytes = &part[..read];
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        for (word, found) in words.iter().zip(&mut found) {
            let word = &word.as_bytes()[3..word.len() - 3];
            for place in (0..step.min(read)).filter(|place| bytes[*place..].starts_with(word)) {
                file.write_all_at(b"\xff", at + place as u64)
                    .expect("written");
                *found += 1;
            }
        }
    }
    assert!(
        found.iter().all(|copies| *copies >= 2),
        "{found:?} copies of {words:?}"
    );
    import()
}

/// Checks that doctor reports the errors of the pool, and treats them as more than information.
#[track_caller]
fn doctor_names_the_errors() {
    let found = faulty(&["doctor"]).exits(1);
    let words = "bad     pool: faulty is ONLINE, ";
    assert!(found.stdout.contains(words), "{found:#?}");
    let words = "hint: `zpool scrub faulty` reads all data again, and then";
    assert!(found.stdout.contains(words), "{found:#?}");
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
    // The file that cannot be read is named, and what was begun is undone.
    for verb in [
        &["merge", "a"][..],
        &["merge", "a", "--dry-run"],
        &["world", "verify", "1"],
    ] {
        faulty(verb).refused(1, says);
        assert_eq!(everything(), before, "{verb:?}");
    }
    let merged = faulty(&["merge", "a"]).exits(1);
    assert!(
        merged.stderr.contains("/srv/faulty/a/etc/both"),
        "{merged:#?}"
    );
    // One of several fails: the others are merged.
    let merged = faulty(&["merge", "a", "b"]).exits(3);
    assert!(merged.stderr.contains(says), "{merged:#?}");
    let skel = |jail: &str| {
        json_property(&format!("faulty/ezz/jails/{jail}"), "ezz:jail")["skel"].to_string()
    };
    assert_eq!((&*skel("a"), &*skel("b")), ("1", "2"));
    // A world that is built from a damaged one is not sealed, and nothing is left of it.
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
    // Commands that read no damaged block work, including the way out.
    faulty(&["create", "e"]).ok();
    faulty(&["clone", "c", "f"]).ok();
    faulty(&["list"]).ok();
    doctor_names_the_errors();
    faulty(&["delete", "--yes", "a", "e", "f"]).ok();
    let left = faulty(&["list", "--only-names"]).ok().stdout;
    assert_eq!(left, "b\nc\n");
}

/// The directory of a jail's /etc, the dnode of a file, and a file of a running jail.
#[test]
fn a_jail_whose_files_are_damaged_is_named_stopped_and_deleted() {
    site("512M");
    install_runnable("faulty/ezz");
    faulty(&["create", "directory", "dnode", "file", "well"]).ok();
    let (entry, target, content) = ("Zq7vXk2wPd9sLm4tRb", "Yh3nGc8fTj5xWe6uQz", "JAILFILE");
    // The damaged files were written by each jail itself, and are not shared with the others.
    sh(&format!(
        "cd /srv/faulty; echo x >directory/etc/{entry}
         ln -s {target} dnode/etc/link
         printf '%-4096s' {content} >file/root/data"
    ))
    .ok();
    install("13.0", &[("etc/new", "new\n")]);
    faulty(&["update", "--swap", "2"]).ok();
    damage(&[content]);
    let says = "Input/output error";
    // The dnodes beside the damaged one are those of the root and of what a mount needs.
    let repaired = damage_metadata(&[entry, target]).exits(1);
    let told = [&*repaired.stdout, &*repaired.stderr].concat();
    assert!(
        told.contains("dnode") && told.contains(says),
        "{repaired:#?}"
    );
    let before = everything();
    let hint = "hint: `zpool status -v` shows whether the pool has damaged files";
    faulty(&["merge", "directory"]).refused(1, hint);
    assert_eq!(everything(), before);
    faulty(&["rollback", "--to", "1"]).ok();
    let before = everything();
    // A jail that cannot start reports why, and nothing of it runs; the others start.
    faulty(&["start", "directory"]).refused(1, hint);
    faulty(&["start", "file", "well"]).ok();
    let running = || {
        let listed = faulty(&["list", "--json"]).ok().json();
        let up = listed.iter().filter(|it| it["state"] == "running");
        up.map(|it| it["jail"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(running(), ["file", "well"]);
    assert_eq!(processes("--name directory "), Vec::<u32>::new());
    let started = faulty(&["start", "dnode"]).exits(1);
    assert!(started.stderr.contains(says), "{started:#?}");
    let read = faulty(&["exec", "file", "--", "cat", "/root/data"]).exits(1);
    assert!(read.stderr.contains(says), "{read:#?}");
    assert_eq!(everything(), before);
    doctor_names_the_errors();
    // Running jails are stopped and deleted, and nothing that belongs to another is destroyed with them.
    faulty(&["stop", "file"]).ok();
    faulty(&["start", "file"]).ok();
    faulty(&["delete", "--yes", "directory", "dnode", "file"]).ok();
    assert_eq!(running(), ["well"]);
    faulty(&["exec", "well", "--", "cat", "/etc/debian_version"]).ok();
    faulty(&["restart", "well"]).ok();
    assert_eq!(inspect::site("faulty/ezz"), [""; 0]);
    assert_eq!(faulty(&["list", "--only-names"]).ok().stdout, "well\n");
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

fn suspended() -> bool {
    sh("zpool list -Ho health faulty").stdout.trim() == "SUSPENDED"
}

/// A service that ends when the test allows it: the /run of its jail is in memory.
const SERVICE: &str = "(trap 'echo >/run/asked; while [ -e /run/asked ]; do sleep 0.1; done; exit' TERM; while :; do sleep 0.1; done)";

/// Begins a command that asks a running jail to end, and waits until the jail was asked. Returns the command, and a
/// function that lets the jail end.
#[track_caller]
fn begin_to_end(jail: &str, command: &str) -> (Child, impl Fn()) {
    let service = format!("{SERVICE} </dev/null >/dev/null 2>&1 &");
    faulty(&["exec", jail, "--", "sh", "-c", &service]).ok();
    let run = format!("/proc/$(cat /run/ezz/*/jails/{jail}/pid)/root/run");
    let run = sh(&format!("echo {run}")).ok().stdout.trim().to_owned();
    let child = begin(&format!(
        "exec {EZZ} --site faulty/ezz {command} >/tmp/ends-{jail} 2>&1"
    ));
    let asked = format!("{run}/asked");
    wait_for("it to be asked", 20, || Path::new(&asked).exists());
    (child, move || fs::remove_file(&asked).expect("removed"))
}

#[test]
fn a_suspended_pool_is_named_at_once_and_nothing_is_lost() {
    site("128M");
    install_runnable("faulty/ezz");
    faulty(&["create", "a", "b", "stops", "goes", "runs"]).ok();
    faulty(&["start", "stops", "goes", "runs"]).ok();
    install("13.0", &[("etc/new", "new\n")]);
    faulty(&["update", "--swap", "2"]).ok();
    sh("zpool sync faulty").ok();
    let before = everything();
    let (mut stop, stops) = begin_to_end("stops", "stop stops");
    // The device accepts no more blocks, so a command at work waits for the pool.
    sh(&format!("cat /dev/zero >{PLACE}/fill 2>/dev/null; true")).ok();
    let mut waits = begin(&format!(
        "exec {EZZ} --site faulty/ezz create z >/tmp/waits 2>&1"
    ));
    let begun = Instant::now();
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
    // A stop that is at work ends the jail nevertheless.
    stops();
    let code = ends(&mut stop, "stop");
    assert_eq!(code, 0, "{}", sh("cat /tmp/ends-stops").stdout);
    assert_eq!(processes("--name stops "), Vec::<u32>::new());
    // A command that begins now is refused at once and changes nothing; the reason is not that another command holds
    // the lock.
    let runs = processes("--name runs ");
    for verb in ["stop runs", "stop --all", "restart runs", "converge runs"] {
        let told = sh(&format!(
            "timeout -s KILL 60 {EZZ} --wait 1 --site faulty/ezz {verb} </dev/null"
        ));
        let told = told.refused(1, "suspended");
        assert!(
            told.stderr.contains("zpool clear faulty"),
            "{verb}: {told:#?}"
        );
        assert!(!told.stdout.contains("stopped"), "{verb}: {told:#?}");
        assert_eq!(processes("--name runs "), runs, "{verb}");
    }
    for verb in [
        "delete --yes runs",
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
        "world prune",
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
    // The administrator repairs the device.
    sh(&format!("rm {PLACE}/fill; zpool clear faulty")).ok();
    assert_eq!(
        ends(&mut waits, "create"),
        0,
        "{}",
        sh("cat /tmp/waits").stdout
    );
    faulty(&["delete", "--yes", "z"]).ok();
    assert_eq!(everything(), before);
    // The jail has not noticed anything.
    faulty(&["exec", "runs", "--", "sh", "-c", "true"]).ok();
    assert_eq!(processes("--name runs "), runs);
    // The same while a jail is deleted: it is stopped, and the rest is done once the pool resumes.
    let (mut delete, goes) = begin_to_end("goes", "delete --yes goes");
    sh(&format!("cat /dev/zero >{PLACE}/fill 2>/dev/null; true")).ok();
    let mut writes = begin("head -c 1000000 /dev/urandom >/srv/faulty/a/x; zpool sync faulty");
    wait_for("it to be suspended", 120, suspended);
    goes();
    wait_for("the end of the jail", 60, || {
        processes("--name goes ").is_empty()
    });
    assert_eq!(delete.try_wait().expect("it is ours"), None);
    sh(&format!("rm {PLACE}/fill; zpool clear faulty")).ok();
    ends(&mut writes, "zpool sync");
    let code = ends(&mut delete, "delete");
    assert_eq!(code, 0, "{}", sh("cat /tmp/ends-goes").stdout);
    assert!(!exists("faulty/ezz/jails/goes"));
    faulty(&["stop", "runs"]).ok();
    // The pool remembers failed writes until two scrubs have found no errors.
    doctor_names_the_errors();
    sh("zpool scrub -w faulty; zpool scrub -w faulty").ok();
    faulty(&["doctor", "--repair"]).ok();
    faulty(&["merge", "a", "b"]).ok();
    let read = fs::read_to_string("/srv/faulty/a/etc/new").expect("it is merged");
    assert_eq!(read, "new\n");
}
