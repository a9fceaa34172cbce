//! A /run without room: it is in memory, and others write there too.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::inspect;
use crate::support::*;

const RUN: &str = "/run/ezz";

/// The kind of room that /run lacks: for a byte, or for another file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Full {
    Bytes,
    Files,
}

#[track_caller]
fn fill(full: Full) {
    let at = Path::new(RUN).join("fill");
    let error = match full {
        Full::Bytes => fs::write(&at, vec![0; 4 << 20]),
        Full::Files => {
            fs::create_dir(&at).expect("made");
            let mut all = (0..2000).map(|n| fs::write(at.join(n.to_string()), ""));
            all.find(Result::is_err).unwrap_or(Ok(()))
        }
    };
    let kind = error.expect_err("no room").kind();
    assert_eq!(kind, ErrorKind::StorageFull);
}

#[track_caller]
fn state(jail: &str) -> String {
    let listed = ezz(&["list", jail, "--json"]).ok().json();
    listed[0]["state"].as_str().expect("a state").to_owned()
}

/// Returns what ezz has on the host, without the files that fill /run.
fn around() -> String {
    let all = conditions();
    let lines = all.lines().filter(|line| !line.contains("/run/ezz/fill"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn without_room_in_run_nothing_is_lost() {
    sh(&format!(
        "mkdir {RUN}; mount -t tmpfs -o mode=711,size=2M,nr_inodes=1000 none {RUN}"
    ))
    .ok();
    init();
    install_runnable(SITE);
    for full in [Full::Bytes, Full::Files] {
        let shown = format!("{full:?}");
        ezz(&["create", "a"]).ok();
        ezz(&["create", "b", "c", "d", "--start"]).ok();
        let before = everything();
        let files = around();
        fill(full);
        // A running jail is shown as such, and continues.
        assert_eq!(state("b"), "running", "{shown}");
        let found = ezz(&["doctor"]).exits(1);
        let words = "bad     run directory: /run/ezz is full: jails cannot start";
        assert!(found.stdout.contains(words), "{found:#?}");
        assert!(found.stdout.contains("`df -i /run/ezz`"), "{found:#?}");
        let refused = ezz(&["start", "a"]).refused(1, "No space left on device");
        assert!(refused.stderr.contains("`df -h /run/ezz"), "{refused:#?}");
        assert_eq!(everything(), before, "{shown}");
        assert_eq!(around(), files, "{shown}: something is left of the start");
        // Commands that need no room work.
        ezz(&["stop", "b"]).ok();
        assert_eq!(state("b"), "stopped", "{shown}");
        ezz(&["delete", "c", "--yes"]).ok();
        assert!(!exists("tank/ezz/jails/c"), "{shown}");
        // A restart can use the room of the previous run.
        ezz(&["restart", "d"]).ok();
        assert_eq!(state("d"), "running", "{shown}");
        sh(&format!("rm -r {RUN}/fill")).ok();
        // With room again, all jails start as they should.
        ezz(&["start", "--all"]).ok();
        for jail in ["a", "b", "d"] {
            assert_eq!(state(jail), "running", "{shown}");
            assert_eq!(ezz(&["exec", jail, "--", "id", "-u"]).ok().stdout, "0\n");
        }
        ezz(&["doctor"]).ok();
        assert_eq!(inspect::site(SITE), [""; 0], "{shown}");
        ezz(&["delete", "a", "b", "d", "--yes"]).ok();
    }
}
