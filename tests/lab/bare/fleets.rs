//! Many jails of one track, of which each tenth is in conflict with its next generation: twenty, or as many as EZZ_FLEET
//! says.
//!
//! So many cannot run in a guest. The first ten run, and of the others those that are in conflict, which only a start
//! pins.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::merge::files_of;
use crate::inspect;
use crate::support::*;
use crate::worlds::runnable_world;

const RUN: u32 = 10;
const NEXT: &str = "set -e; cd $EZZ_ROOT; echo two >usr/share/version; echo theirs >etc/both; mkdir etc/svc; echo conf >etc/svc/conf
     echo 'svc:x:990:990::/:/bin/sh' >>etc/passwd; echo 'svc:x:990:' >>etc/group; mkdir var/lib/svc; chown 990:990 var/lib/svc";

fn jails() -> u32 {
    number("EZZ_FLEET").map_or(20, |jails| jails as u32)
}

fn name(n: u32) -> String {
    format!("j{n:03}")
}

fn in_conflict(n: u32) -> bool {
    n % 10 == 1
}

/// How many jails `list` shows at each generation, and how many of them are held.
fn counted() -> BTreeMap<String, usize> {
    let lines = ezz(&["list", "--json"]).ok().json();
    let mut counts = BTreeMap::new();
    for line in &lines {
        let held = !line["held"].is_null();
        assert!(!held || line["pin"] == line["skeleton"], "{line}");
        let what = format!("{} {}", line["skeleton"], if held { "held" } else { "" });
        *counts.entry(what.trim_end().to_owned()).or_insert(0) += 1;
    }
    counts
}

fn own(n: u32) -> Vec<String> {
    let mut files = files_of(&format!("/srv/jails/{}", name(n)));
    files.retain(|line| !line.contains("/basejail/.ezz-generation "));
    files
}

#[test]
fn of_ten_jails_one_stays_and_all_come_back() {
    let jails = jails();
    let held = jails / 10;
    init();
    let directory = Path::new("/tmp/runnable");
    runnable_world(directory);
    for (file, text) in [
        ("usr/share/version", "one\n"),
        ("etc/both", "old\n"),
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
    ] {
        fs::write(directory.join(file), text).expect("written");
    }
    sh("tar -cf /tmp/runnable.tar -C /tmp/runnable .").ok();
    ezz(&["install", "/tmp/runnable.tar"]).ok();
    ezz(&["create", &format!("j{{001..{jails:03}}}")]).ok();
    for n in 1..=jails {
        let at = |file: &str| format!("/srv/jails/{}/etc/{file}", name(n));
        match n % 3 {
            0 => fs::write(at("own"), "mine\n").expect("written"),
            1 => {
                let text = "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/:/bin/sh\n";
                fs::write(at("passwd"), text).expect("written");
            }
            _ => {}
        }
        if in_conflict(n) {
            fs::write(at("both"), "mine\n").expect("written");
        }
    }
    ezz(&["start", &format!("j{{001..{RUN:03}}}")]).ok();
    let seen = [1, 2, 3, 4, 12, 13, 14, jails];
    let was = seen.map(own);
    let told = ezz(&["update", "--on-host", "--run", "/bin/sh", "-c", NEXT]).ok();
    let words =
        format!("the own files of {jails} jails on the track main are merged at the next start");
    assert!(told.stderr.contains(&words), "{told:#?}");

    // Those that run, by one command.
    let told = ezz(&["converge", "--batch", "100", "--json"]).exits(3);
    let lines = told.json();
    let did = |what: &str| lines.iter().filter(|line| line["did"] == what).count() as u32;
    assert_eq!((did("restarted"), did("kept")), (RUN - RUN / 10, RUN / 10));
    // Those in conflict that do not run, by another; each is named.
    let stopped: Vec<String> = (RUN + 1..=jails)
        .filter(|n| in_conflict(*n))
        .map(name)
        .collect();
    let words: Vec<&str> = stopped.iter().map(String::as_str).collect();
    let started = ezz(&[&["start"][..], &words].concat()).exits(3);
    let named = told.stderr + &started.stderr;
    for n in (1..=jails).filter(|n| in_conflict(*n)) {
        let words = format!(
            "{} stays pinned to debian-12.1.1 and is not merged to debian-12.1.2",
            name(n)
        );
        assert!(named.contains(&words), "{words}: {named}");
    }
    assert_eq!(
        named.matches(" stays pinned to ").count() as u32,
        held,
        "{named}"
    );
    // All others, by a third.
    let told = ezz(&["merge", "--json"]).ok().json();
    assert_eq!(told.len() as u32, (jails - RUN) * 9 / 10);
    assert!(told.iter().all(|line| line["did"] == "merged"));
    let expected = [
        ("1 held".to_owned(), held as usize),
        ("2".to_owned(), (jails - held) as usize),
    ];
    assert_eq!(counted(), BTreeMap::from(expected));
    for (n, was) in seen.into_iter().zip(&was) {
        assert_eq!(own(n) == *was, in_conflict(n), "{}", name(n));
    }
    assert_eq!(inspect::site(SITE), [""; 0]);

    // And back.
    let told = ezz(&["rollback", "--restart", "--batch", "100"]).ok();
    assert_eq!(
        told.stdout.matches("restarted").count() as u32,
        RUN - RUN / 10,
        "{told:#?}"
    );
    let told = ezz(&["merge", "--json"]).ok().json();
    assert_eq!(told.len() as u32, (jails - RUN) * 9 / 10);
    assert!(
        told.iter()
            .all(|line| line["did"] == "brought back" && line["kept"].is_null())
    );
    assert_eq!(
        counted(),
        BTreeMap::from([("1".to_owned(), jails as usize)])
    );
    assert_eq!(seen.map(own), was);
    assert_eq!(inspect::site(SITE), [""; 0]);
    let told = ezz(&["doctor", "--json"]).ok().json();
    assert_eq!(told[0]["findings"].to_string(), "[]");
}
