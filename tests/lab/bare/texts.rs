//! Texts that a jail has written to disturb a merge: merging them ends in time, obeys signals, and is done by a process
//! that has no rights.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::*;

const WORLD: &str = "/tmp/small";
const ETC: &str = "/srv/jails/j/etc";

/// Creates two generations whose texts differ, and a stopped jail of the first that is due on the second.
#[track_caller]
fn two_releases(names: &[String], text: impl Fn(&str, usize) -> String) {
    init();
    small_world(Path::new(WORLD), "12.1");
    for release in 1..=2 {
        for name in names {
            fs::write(format!("{WORLD}/etc/{name}"), text(name, release)).expect("written");
        }
        sh(&format!("tar -cf {WORLD}.tar -C {WORLD} .")).ok();
        ezz(&["install", &format!("{WORLD}.tar")]).ok();
        if release == 1 {
            ezz(&["create", "j"]).ok();
        }
    }
    ezz(&["update", "--swap", "2"]).ok();
}

fn short(name: &str, release: usize) -> String {
    format!("release {release}\nof {name}\n")
}

/// Returns different lines without a pattern.
fn noise(lines: usize, seed: u64) -> String {
    let mut state = seed;
    let mut text = String::new();
    for _ in 0..lines {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text += &format!("{:x}\n", state % 16);
    }
    text
}

/// Writes hostile texts into files that the release changes, as a jail can.
fn write_hostile_texts() {
    let many = noise(520_000, 7);
    assert!(many.len() > 1_030_000 && many.len() < 1 << 20);
    fs::write(format!("{ETC}/many-lines"), many).expect("written");
    sh(&format!(
        "set -e; cd {ETC}; truncate -s 4000000000000000000 sparse
         truncate -s 17 sizes; head -c 1000000 /dev/zero | tr '\\0' x >wide; rm attributes; : >attributes"
    ))
    .ok();
    // 9000 of them would take half a gibibyte.
    let value = vec![b'x'; 60_000];
    for n in 0..40 {
        let name = format!("user.a{n}");
        xattr::set(format!("{ETC}/attributes"), name, &value).expect("set");
    }
}

#[test]
fn hostile_texts_are_conflicts_in_a_bounded_time() {
    let names = [
        "many-lines",
        "sparse",
        "sizes",
        "wide",
        "attributes",
        "plain",
    ];
    two_releases(&names.map(str::to_owned), short);
    write_hostile_texts();
    for args in [&["merge", "j", "--dry-run"][..], &["merge", "j"]] {
        let begun = Instant::now();
        let merged = ezz(args).exits(3);
        assert!(begun.elapsed() < Duration::from_secs(60), "{merged:#?}");
        let said = merged.stdout + &merged.stderr;
        for name in ["many-lines", "sparse", "wide"] {
            let line = format!("CONFLICT etc/{name}");
            assert!(said.contains(&line), "no {line:?}: {said}");
        }
        for name in ["many-lines", "sparse"] {
            let line = format!("etc/{name} (too long or too different to compare)");
            assert!(said.contains(&line), "no {line:?}: {said}");
        }
    }
    // The jail's own file is untouched, the release's is beside it, and files that were not hostile were taken.
    let size = |name: &str| fs::metadata(format!("{ETC}/{name}")).expect("there").len();
    assert_eq!(size("sparse"), 4_000_000_000_000_000_000);
    for name in ["many-lines", "sparse", "sizes", "wide", "attributes"] {
        let beside = fs::read_to_string(format!("{ETC}/{name}.ezz-new")).expect("beside it");
        assert_eq!(beside, short(name, 2));
    }
    let plain = fs::read_to_string(format!("{ETC}/plain")).expect("there");
    assert_eq!(plain, short("plain", 2));
    assert_eq!(json_property("tank/ezz/jails/j", "ezz:jail")["skel"], 2);
    assert_eq!(processes("--text-worker"), [0_u32; 0]);
}

/// Returns the words of a line in /proc/PID/status.
fn status(pid: u32, word: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find(|line| line.starts_with(word));
    line.unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map(str::to_owned)
        .collect()
}

#[test]
fn who_compares_has_no_rights_and_a_signal_ends_it() {
    // As much work as the bounds allow, several times: the process runs for some seconds and can be found.
    let names: Vec<String> = (0..8).map(|n| format!("letters-{n}")).collect();
    let letters = |_: &str, release| format!("release {release}\n{}", "a\n".repeat(99_000));
    two_releases(&names, letters);
    for name in &names {
        let text = format!("x\n{}y\n", "a\n".repeat(96_000));
        fs::write(format!("{ETC}/{name}"), text).expect("written");
    }
    let before = (everything(), sh(&format!("cksum {ETC}/*")).stdout);
    for signal in ["INT", "TERM"] {
        let mut merge = spawn("/", &format!("exec {EZZ} merge j"));
        wait_for("the process that compares", 60, || {
            processes("--text-worker").len() == 1
        });
        let pid = processes("--text-worker")[0];
        // The process is stopped once it has given up its rights, so that it does not end.
        wait_for("its confinement", 60, || {
            status(pid, "Uid:")
                .first()
                .is_some_and(|uid| uid == "65534")
        });
        sh(&format!("kill -STOP {pid}")).ok();
        assert_eq!(status(pid, "Uid:"), ["65534"; 4]);
        assert_eq!(status(pid, "Gid:"), ["65534"; 4]);
        assert_eq!(status(pid, "Groups:"), ["65534"]);
        assert_eq!(status(pid, "CapEff:"), ["0000000000000000"]);
        assert_eq!(status(pid, "CapPrm:"), ["0000000000000000"]);
        let begun = Instant::now();
        sh(&format!("kill -{signal} {}", merge.id())).ok();
        let ended = merge.wait().expect("waited for");
        assert_eq!(ended.code(), Some(1));
        assert!(begun.elapsed() < Duration::from_secs(20), "SIG{signal}");
        assert_eq!(processes("--text-worker"), [0_u32; 0]);
        let now = (everything(), sh(&format!("cksum {ETC}/*")).stdout);
        assert_eq!(rest(&now.0), rest(&before.0));
        assert_eq!(now.1, before.1);
    }
}

/// Returns the state of the pool, without the epoch and the snapshot that the next try begins from.
fn rest(all: &str) -> Vec<&str> {
    let kept = |line: &&str| !line.contains("ezz:epoch") && !line.contains("@ezz-merge");
    all.lines().filter(kept).collect()
}

/// The test's own process is confined, and tries what a text could make a broken process do.
#[test]
fn a_confined_process_reaches_nothing() {
    let (mut read, mut write) = std::io::pipe().expect("a pipe");
    sh("mkdir -m 1777 /tmp/open && echo x >/tmp/open/file && chmod 666 /tmp/open/file").ok();
    assert!(File::open("/tmp/open/file").is_ok());
    ezz::confine::confine().expect("confined");
    // These are refused by Landlock: the modes of the files would allow them.
    for refused in [
        fs::create_dir("/tmp/open/new"),
        fs::rename("/tmp/open/file", "/tmp/open/other"),
        fs::remove_file("/tmp/open/file"),
        std::os::unix::fs::symlink("x", "/tmp/open/link"),
    ] {
        let error = refused.expect_err("refused");
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    }
    assert!(File::open("/tmp/open/file").is_err());
    assert!(File::open("/etc/passwd").is_err());
    assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err());
    assert!(std::os::unix::net::UnixStream::pair().is_err());
    assert!(std::thread::Builder::new().spawn(|| ()).is_err());
    assert!(std::io::pipe().is_err());
    assert!(nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).is_err());
    // Files that are already open stay usable.
    write.write_all(b"x").expect("written");
    read.read_exact(&mut [0]).expect("read");
    let huge = Vec::<u8>::new().try_reserve_exact(1 << 30);
    assert!(huge.is_err(), "memory is not bounded");
}
