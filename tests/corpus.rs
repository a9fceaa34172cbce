//! What the fuzzers found stays found: every file of their corpus goes through the same functions, without libFuzzer.
//! `make fuzz` searches for more; the checks are in tests/fuzz/src.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by a panic, and names its file before"
)]

#[path = "fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::io::Read;
use std::path::Path;

/// Runs a target over its corpus, `corpus/TARGET.tar`; a panic is preceded by the name of the file.
fn run(target: &str) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let (name, check) = fuzz::TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .expect("a target");
    let archive = fs::File::open(corpus.join(format!("{name}.tar"))).expect("a corpus");
    let mut archive = tar::Archive::new(archive);
    let mut count = 0;
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("a file");
        println!("{}", entry.path().expect("a name").display());
        check(&content);
        count += 1;
    }
    // An empty archive would always pass.
    assert!(count >= 5, "{target} has only {count} files");
}

#[test]
fn accounts() {
    run("accounts");
}

#[test]
fn fleets() {
    run("fleet");
}

#[test]
fn jail_configurations() {
    run("jailconf");
}

#[test]
fn looks_at_a_pool_and_a_host() {
    run("looks");
}

#[test]
fn manifests() {
    run("manifest");
}

#[test]
fn merged_texts() {
    run("merge");
}

#[test]
fn mount_tables() {
    run("mounts");
}

#[test]
fn names() {
    run("names");
}

#[test]
fn profiles() {
    run("profile");
}

#[test]
fn stored_values() {
    run("stored");
}

#[test]
fn archives() {
    run("tar");
}

#[test]
fn every_target_and_every_corpus_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let listed = |directory: &str| -> Vec<String> {
        let entries = fs::read_dir(root.join(directory)).expect("a directory");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.expect("an entry").path();
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    };
    let known: Vec<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed("corpus"), known);
    assert_eq!(listed("targets"), known);
}
