//! Which module may use which: a map of `src`, which these tests compare with the sources.
//!
//! A module may import only modules of rows above its own, so the direction of `src/lib.rs` needs no second rule. A row
//! lists exactly what its module imports, so the map cannot become outdated. Tests in a module are exempt: they may use
//! more than the code does.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot go on says so by a panic"
)]

mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use graph::Graph;

/// The layers from the lowest up. `main` is the binary.
const LAYERS: &[(&str, &[&str])] = &[
    ("text", &[]),
    // Points where a debug build can be made to die; every module that changes something uses them.
    ("crash", &[]),
    ("profile", &[]),
    // What to do about an error: a trait that every error implements, and hints that several share.
    ("hint", &["profile"]),
    ("name", &["hint"]),
    ("model", &["hint", "name", "profile", "text"]),
    ("fleet", &["model", "name"]),
    (
        "plan",
        &["fleet", "hint", "model", "name", "profile", "text"],
    ),
    ("exec", &["hint", "profile"]),
    ("confine", &[]),
    ("lock", &["hint", "name"]),
    ("config", &["hint", "model", "name"]),
    ("syslog", &["model"]),
    ("report", &["model"]),
    // Worlds are files in directories: no plan, no ZFS, no host.
    ("world", &["hint", "profile"]),
    // Fetches and checks archives that may become worlds; only this module uses the network.
    ("freebsd_release", &["hint", "profile", "world"]),
    (
        "ports",
        &["exec", "hint", "model", "name", "plan", "profile", "text"],
    ),
    ("observe", &["hint", "model", "name", "plan", "ports"]),
    ("pool", &["crash", "exec", "model", "name", "plan", "ports"]),
    // A host knows how a jail is run, but not why: no plan, no world.
    (
        "host",
        &[
            "crash", "exec", "lock", "model", "name", "ports", "profile", "text",
        ],
    ),
    (
        "execute",
        &[
            "crash", "hint", "lock", "model", "name", "plan", "ports", "world",
        ],
    ),
    (
        "session",
        &[
            "execute", "hint", "lock", "model", "name", "observe", "plan", "ports",
        ],
    ),
    (
        "cli",
        &[
            "execute",
            "config",
            "confine",
            "crash",
            "exec",
            "fleet",
            "hint",
            "host",
            "lock",
            "model",
            "name",
            "observe",
            "plan",
            "pool",
            "ports",
            "profile",
            "freebsd_release",
            "report",
            "session",
            "syslog",
            "text",
            "world",
        ],
    ),
    ("main", &["cli", "report"]),
];

/// Words that only these files may have (a folder ends with a slash), and why.
const ONLY: &[(&str, &[&str], &str)] = &[
    ("Command::new", &["exec.rs"], "one place starts processes"),
    ("Flock", &["lock.rs", "lock/"], "one place locks"),
    ("println!", &[], "report writes to streams it has locked"),
    ("print!", &[], "report writes to streams it has locked"),
    (
        "stdout().lock",
        &["report.rs", "host/linux/relay.rs"],
        "one place prints; the relay passes on what a command in a jail prints",
    ),
    ("stderr().lock", &["report.rs"], "one place prints"),
    ("stdout().write_all", &["report.rs"], "one place prints"),
    ("stderr().write_all", &["report.rs"], "one place prints"),
    (
        "fuser ",
        &["hint.rs"],
        "a hint names what the host has: beside it is what FreeBSD has",
    ),
    (
        "cgroups below",
        &["plan/doctor/jails.rs", "host/linux/"],
        "a hint names what the host has: beside it is what FreeBSD has",
    ),
    (
        "jail -R",
        &["plan/doctor/jails.rs", "host/freebsd/"],
        "a hint names what the host has: beside it is what Linux has",
    ),
    ("comfy_table", &["report.rs"], "one place prints"),
    ("indicatif", &["cli/progress.rs"], "one place draws bars"),
    (
        "ezz_zfs",
        &[
            "ports/error.rs",
            "ports/hints.rs",
            "pool.rs",
            "pool/encode.rs",
            "pool/look.rs",
            "pool/mounts.rs",
            "host/",
        ],
        "what decides knows no system call",
    ),
    (
        "SystemTime",
        &[],
        "a plan has no clock; the time of a seal or a swap comes from jiff",
    ),
    (
        "ureq",
        &["freebsd_release/fetch.rs"],
        "one place asks the network",
    ),
    ("jiff", &["cli/machine.rs"], "one place asks for the time"),
    (
        "env::var",
        &["host/"],
        "options come from the command line; a console asks for TERM",
    ),
    (
        "env::var_os",
        &["exec.rs", "host/", "crash.rs", "report/label.rs"],
        "options come from the command line; a program needs the loader's path, and colours what the terminal says of itself",
    ),
    ("unsafe", &[], "only the crate in zfs/ may"),
];

/// Words that a pure module must not use.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::process",
    "std::time",
    "std::env",
    "std::net::Tcp",
    "std::thread",
    "nix::",
    "rustix::",
    "jiff::",
    "uuid::",
    "ezz_zfs",
];
const PURE: &[&str] = &["name", "model", "plan"];

/// Folders whose files still use each other in a circle. No other folder may have one.
const CIRCLES_LEFT: &[&str] = &["cli", "host/freebsd", "host/linux", "world"];

/// The plans of the verbs, below `plan`. What two verbs need is in a file of its own, which must not know a verb.
const VERBS: &[&str] = &[
    "converge", "create", "delete", "doctor", "fleet", "merge", "prune", "rollout", "power",
    "site", "swap", "world",
];

/// One source file, without comments and tests.
struct Source {
    /// The path below `src`.
    path: String,
    code: String,
}

impl Source {
    /// Returns the module: `plan` for `plan.rs` and everything below `plan/`.
    fn module(&self) -> &str {
        let first = self
            .path
            .split('/')
            .next()
            .expect("a path has a first part");
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Returns the name of every module in a `crate::MODULE` or `ezz::MODULE`.
    fn imports(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for prefix in ["crate::", "ezz::"] {
            for (at, _) in self.code.match_indices(prefix) {
                let before = self.code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                let rest = &self.code[at + prefix.len()..];
                match rest.strip_prefix('{') {
                    None => found.extend(word(rest)),
                    Some(group) => found.extend(heads(group)),
                }
            }
        }
        found.remove(self.module());
        found
    }
}

/// Returns the identifier at the beginning of a text.
fn word(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    Some(text[..end].to_owned()).filter(|word| !word.is_empty())
}

/// Returns the first words of the items of `{a::b, c, d::{e, f}}`, after its opening brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut begins) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && (c.is_alphabetic() || c == '_') => {
                heads.extend(word(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    heads
}

/// Returns the text without comments, and without the module of tests that follows `#[cfg(test)]`.
fn code(text: &str) -> String {
    let text = text
        .find("\n#[cfg(test)]\nmod tests")
        .map_or(text, |at| &text[..at]);
    text.lines()
        .map(|line| {
            let comment = line
                .match_indices("//")
                .map(|(at, _)| at)
                // `//` in a string or an address follows a colon or a quote.
                .find(|at| !line[..*at].ends_with([':', '"']));
            comment.map_or(line, |at| &line[..at])
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns all Rust files below a directory, without build output.
fn rust_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).expect("sources can be read");
        for path in entries.map(|entry| entry.expect("sources can be read").path()) {
            if path.is_dir() && !path.ends_with("target") {
                directories.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let own = rust_below(&root).into_iter().filter(|path| !of_tests(path));
    let found: Vec<Source> = own
        .map(|path| {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let below = path.strip_prefix(&root).expect("it was found there");
            Source {
                path: below.to_string_lossy().into_owned(),
                code: code(&text),
            }
        })
        .collect();
    assert!(found.len() > 50, "only {} sources were found", found.len());
    found
}

/// Returns whether a whole file is a module of tests.
fn of_tests(path: &Path) -> bool {
    ["tests.rs", "testing.rs"]
        .map(PathBuf::from)
        .iter()
        .any(|name| path.ends_with(name))
}

#[test]
fn the_map_is_what_is_imported() {
    let mut real: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| source.path != "lib.rs") {
        let imports = real.entry(source.module().to_owned()).or_default();
        imports.extend(source.imports());
    }
    let map: BTreeMap<String, BTreeSet<String>> = LAYERS
        .iter()
        .map(|(module, imports)| {
            let imports = imports.iter().map(|name| (*name).to_owned()).collect();
            ((*module).to_owned(), imports)
        })
        .collect();
    for (module, imports) in &real {
        let known = map
            .get(module)
            .unwrap_or_else(|| panic!("{module} is not in LAYERS"));
        let new: Vec<_> = imports.difference(known).collect();
        let gone: Vec<_> = known.difference(imports).collect();
        assert!(
            new.is_empty(),
            "{module} imports {new:?}, which LAYERS does not allow"
        );
        assert!(
            gone.is_empty(),
            "{module} does not import {gone:?} any more: take it out"
        );
    }
    let modules = |map: &BTreeMap<String, _>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(modules(&real), modules(&map));
}

#[test]
fn imports_point_one_way() {
    for (index, (module, imports)) in LAYERS.iter().enumerate() {
        for import in *imports {
            let below = LAYERS[..index].iter().any(|(lower, _)| lower == import);
            assert!(below, "{module} is below {import}, or beside it");
        }
    }
}

#[test]
fn what_decides_looks_at_nothing() {
    for source in sources() {
        if PURE.contains(&source.module()) {
            for impure in IMPURE {
                assert!(!source.code.contains(impure), "{}: {impure}", source.path);
            }
        }
    }
}

#[test]
fn each_power_has_one_place() {
    for source in sources() {
        for (text, places, why) in ONLY {
            let allowed = places.iter().any(|place| {
                source.path == *place || place.ends_with('/') && source.path.starts_with(place)
            });
            assert!(
                allowed || !has(&source.code, text),
                "{} has {text}: {why}",
                source.path
            );
        }
    }
}

/// Returns whether a text contains these words, but not as a part of longer ones.
fn has(code: &str, words: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(words).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + words.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[test]
fn no_file_knows_itself_through_others() {
    let sources: Vec<Source> = sources();
    let graph = Graph::of(&sources);
    let edges: usize = graph.edges.values().map(BTreeSet::len).sum();
    assert!(edges > 500, "only {edges} edges were found");
    let circles = graph.in_circles();
    let is_in = |folder: &&str, path: &str| path.starts_with(&format!("{folder}/"));
    let new = circles
        .iter()
        .filter(|path| !CIRCLES_LEFT.iter().any(|folder| is_in(folder, path)));
    assert_eq!(new.collect::<Vec<_>>(), [&""; 0]);
    let gone = CIRCLES_LEFT
        .iter()
        .filter(|folder| !circles.iter().any(|path| is_in(folder, path)));
    assert_eq!(gone.collect::<Vec<_>>(), [&""; 0], "take it out");
}

#[test]
fn no_plan_of_a_verb_knows_another() {
    let sources = sources();
    let graph = Graph::of(&sources);
    let verb = |module: &str| -> Option<&&str> {
        let below = module.strip_prefix("plan::")?;
        let first = below.split("::").next()?;
        VERBS.iter().find(|verb| **verb == first)
    };
    let seen: BTreeSet<&&str> = graph.paths.keys().filter_map(|it| verb(it)).collect();
    assert_eq!(seen.len(), VERBS.len(), "{seen:?}");
    for (module, edges) in &graph.edges {
        if module == "plan" || !module.starts_with("plan::") {
            continue;
        }
        let own = verb(module);
        for edge in edges {
            let other = verb(edge);
            assert!(other.is_none() || other == own, "{module} knows {edge}");
        }
    }
}

/// Tests are named in the last cells of the tables of tests/README.md; the last word of a path counts.
#[test]
fn the_tests_that_are_named_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut all, mut modules) = (String::new(), BTreeSet::new());
    for path in ["src", "zfs", "tests"]
        .map(|part| rust_below(&root.join(part)))
        .concat()
    {
        all += &fs::read_to_string(&path).expect("sources are UTF-8");
        let names = path
            .components()
            .map(|part| part.as_os_str().to_string_lossy());
        modules.extend(names.map(|name| name.trim_end_matches(".rs").to_owned()));
    }
    let text = fs::read_to_string(root.join("tests/README.md")).expect("it is there");
    let cells = text
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.rsplit('|').nth(1));
    let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let is_name = |word: &&str| {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:*".contains(c);
        word.contains(['_', ':']) && word.chars().all(known)
    };
    let names: BTreeSet<&str> = words.filter(is_name).collect();
    assert!(names.len() > 150, "only {} tests are named", names.len());
    let missing = names.into_iter().filter(|name| {
        let last = name.rsplit("::").next().unwrap_or(name);
        let there = match last.strip_suffix('*') {
            Some(begin) => all.contains(&format!("fn {begin}")),
            // A function, a scenario of `outside`, or a module.
            None => {
                let made = [format!("fn {last}("), format!("{last}: \"")];
                modules.contains(last) || made.iter().any(|text| all.contains(text))
            }
        };
        !there
    });
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0]);
}

/// A module that is misspelt in the Makefile would silently run on one OpenZFS series only.
#[test]
fn the_modules_that_run_on_each_series_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("Makefile")).expect("it is there");
    let (_, list) = text.split_once("SERIES_ONES :=").expect("the list");
    let (list, _) = list.split_once(")))/))").expect("its end");
    let modules: Vec<&str> = list
        .split_whitespace()
        .filter_map(|word| word.strip_suffix("::").or(word.strip_suffix("::)))/))")))
        .map(|word| word.trim_end_matches("::"))
        .collect();
    assert!(
        modules.contains(&"outside") && modules.len() > 15,
        "{modules:?}"
    );
    let missing = modules.iter().filter(|module| {
        let file = root.join("tests/lab").join(module.replace("::", "/"));
        !file.is_dir() && !file.with_extension("rs").is_file()
    });
    assert_eq!(missing.collect::<Vec<_>>(), [&""; 0]);
}

/// A test of the reader itself: a check that sees nothing would always pass.
#[test]
fn the_reader_reads() {
    let source = Source {
        path: "plan/made_up.rs".to_owned(),
        code: code(
            "//! crate::comment\nuse crate::model::{A, B};\nuse crate::{name::{C, D}, ports, pool as p};\n\
             fn f() { crate::host::x() } // crate::late\nlet x = mycrate::y;\n\
             \n#[cfg(test)]\nmod tests { use crate::session; }\n",
        ),
    };
    let imports: Vec<String> = source.imports().into_iter().collect();
    assert_eq!(imports, ["host", "model", "name", "pool", "ports"]);
    assert!(has("a println!(", "println!") && !has("eprintln!(", "println!"));
    assert!(has("use ezz_zfs::x", "ezz_zfs") && !has("my_ezz_zfs", "ezz_zfs"));
    assert!(has("unsafe {", "unsafe") && !has("forbid(unsafe_code)", "unsafe"));
}
