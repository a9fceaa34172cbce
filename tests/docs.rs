//! Checks the documentation against itself and the command line: links lead somewhere, commands and their options
//! exist, and each picture was made from the text beside it.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so by a panic, and asks the program as a user would"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const EZZ: &str = env!("CARGO_BIN_EXE_ezz");

/// The directories of pages.
const DIRECTORIES: [&str; 8] = [
    "",
    "docs",
    "tests",
    "vagrant",
    "vagrant/freebsd",
    "vagrant/lab",
    "vagrant/machines",
    "zfs",
];

/// Pages about earlier versions, whose commands need not exist now.
const NO_COMMANDS: [&str; 1] = ["CHANGELOG.md"];

/// Returns the pages by their paths from the root.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::new();
    for directory in DIRECTORIES {
        for entry in fs::read_dir(Path::new(ROOT).join(directory)).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|end| end == "md") {
                let text = fs::read_to_string(&path).expect("a page is UTF-8");
                let name = path.strip_prefix(ROOT).expect("it is below").to_owned();
                pages.insert(name, text);
            }
        }
    }
    assert!(pages.len() > 20, "{:?}", pages.keys());
    pages
}

/// The place of a line in a page.
#[derive(Clone, Copy, PartialEq)]
enum In {
    Text,
    /// In a block of commands that a user types, perhaps with their output.
    Console,
    /// In another block, such as a file.
    Block,
}

/// The lines of a page.
fn lines(page: &str) -> impl Iterator<Item = (&str, In)> {
    let mut place = In::Text;
    page.lines().filter_map(move |line| {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            place = match (place, language) {
                (In::Text, "console" | "sh") => In::Console,
                (In::Text, _) => In::Block,
                (In::Console | In::Block, _) => In::Text,
            };
            return None;
        }
        let indented = place == In::Text && line.starts_with("    ");
        Some((line, if indented { In::Console } else { place }))
    })
}

/// Returns the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    heading.trim().chars().filter_map(kept).collect()
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut broken = Vec::new();
    let mut count = 0;
    for (name, page) in &pages {
        for (line, place) in lines(page) {
            if place != In::Text {
                continue;
            }
            for part in line.split("](").skip(1) {
                let target = part.split(')').next().expect("a part");
                if target.contains("://") {
                    continue;
                }
                count += 1;
                let (path, wanted) = target.split_once('#').unwrap_or((target, ""));
                let from = name.parent().expect("it has one");
                let file = match path {
                    "" => Path::new(ROOT).join(name),
                    path => Path::new(ROOT).join(from).join(path),
                };
                let there = match (wanted, fs::read_to_string(&file)) {
                    ("", _) => file.exists(),
                    (wanted, Ok(text)) => lines(&text)
                        .filter(|(line, place)| *place == In::Text && line.starts_with('#'))
                        .any(|(line, _)| anchor(line.trim_start_matches('#')) == wanted),
                    (_, Err(_)) => false,
                };
                if !there {
                    broken.push(format!("{}: {target}", name.display()));
                }
            }
        }
    }
    assert!(count > 50, "only {count} links");
    assert_eq!(broken, [""; 0]);
}

/// Returns the help of a verb, or of a verb's own verb, if it exists.
fn help(words: &[&str]) -> Option<String> {
    let shown = Command::new(EZZ).arg("help").args(words).output();
    let shown = shown.expect("ezz runs");
    let text = String::from_utf8(shown.stdout).expect("text");
    shown.status.success().then_some(text)
}

/// Returns the commands of a page: lines of its blocks, and code in its text.
fn commands(page: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (line, place) in lines(page) {
        match place {
            In::Text => found.extend(line.split('`').skip(1).step_by(2)),
            In::Console => {
                let line = line.trim_start().trim_start_matches(['#', '$', ' ']);
                found.extend(line.split(['|', ';', '&']).map(str::trim));
            }
            In::Block => {}
        }
    }
    found.retain(|command| command.starts_with("ezz "));
    found
}

#[test]
fn commands_and_their_options_are_there() {
    let mut helps: BTreeMap<Vec<&str>, Option<String>> = BTreeMap::new();
    let pages = pages();
    let mut wrong = BTreeSet::new();
    let mut count = 0;
    for (name, page) in &pages {
        if NO_COMMANDS.iter().any(|other| name == Path::new(other)) {
            continue;
        }
        for command in commands(page) {
            let words = command.split_whitespace().skip(1);
            let mut options = Vec::new();
            let mut verb = Vec::new();
            let plain = |word: &str| word.bytes().all(|b| b.is_ascii_lowercase());
            let mut own = false;
            for word in words {
                // The rest belongs to another program, or is a remark.
                if word == "--" || word.starts_with(['#', '>', '<', '…']) {
                    break;
                }
                if let Some(option) = word.strip_prefix("--") {
                    let option = option.split('=').next().expect("a word");
                    options.push(option.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()));
                    if option == "run" {
                        break;
                    }
                } else if verb.is_empty() && !word.starts_with('-') {
                    verb.push(word);
                    own = ["world", "track"].contains(&word);
                } else if own && verb.len() == 1 && plain(word) {
                    verb.push(word);
                }
            }
            // `ezz --help`, `ezz VERB` and `ezz list | …` name no particular verb.
            if !verb.first().is_some_and(|verb| plain(verb)) || verb == ["help"] {
                continue;
            }
            count += 1;
            let text = helps.entry(verb.clone()).or_insert_with(|| help(&verb));
            let known = |option: &&str| {
                let text = text.as_deref().unwrap_or_default();
                text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
                    .any(|word| word.strip_prefix("--") == Some(option))
            };
            if text.is_none() || !options.iter().all(known) {
                wrong.insert(format!("{}: {command}", name.display()));
            }
        }
    }
    assert!(count > 200, "only {count} commands");
    assert_eq!(wrong, BTreeSet::new());
}

#[test]
fn pictures_are_of_the_texts_beside_them() {
    let mut count = 0;
    for entry in fs::read_dir(Path::new(ROOT).join("docs/pictures")).expect("a directory") {
        let text = entry.expect("an entry").path();
        if text.extension().is_none_or(|end| end != "dot") {
            continue;
        }
        count += 1;
        let digest = hex::encode(Sha256::digest(fs::read(&text).expect("a text")));
        let drawn = fs::read_to_string(text.with_extension("svg")).expect("its picture");
        let stale = format!("{}: run `make pictures`", text.display());
        assert!(drawn.contains(&digest), "{stale}");
    }
    assert_eq!(count, 3);
}

/// Each check of doctor has a row in docs/findings.md, and each row there describes a check.
#[test]
fn every_finding_of_doctor_is_described() {
    let text = fs::read_to_string(Path::new(ROOT).join("docs/findings.md")).expect("the page");
    let mut described = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let words: Vec<&str> = line.split('`').collect();
        let row = (words[1].to_owned(), words[3].to_owned());
        assert!(described.insert(row), "twice: {line}");
    }
    let json = |value: serde_json::Value| value.as_str().expect("a word").to_owned();
    let checks = ezz::plan::doctor::table().into_iter().map(|row| {
        let kind = serde_json::to_value(row.kind).expect("a kind");
        let severity = serde_json::to_value(row.severity).expect("a severity");
        (json(kind), json(severity))
    });
    let checks: BTreeSet<(String, String)> = checks.collect();
    assert_eq!(described, checks);
}
