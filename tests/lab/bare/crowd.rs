//! Many ezz at once on one site: what each reported agrees with the history of the pool.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;

/// Random numbers; the tests print the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A command, and how it ended.
#[derive(Debug)]
struct Entry {
    verb: &'static str,
    name: String,
    ended: Ended,
}

/// The history of the pool: the changes of datasets and of the epoch, in their order. The kernel writes it in the
/// transaction itself.
#[derive(Debug, Default)]
struct History {
    /// For each jail `clone` and `destroy`, in their order.
    jails: BTreeMap<String, Vec<&'static str>>,
    /// Every epoch that was set.
    epochs: Vec<u64>,
    /// The number of programs that ran, whatever their result.
    programs: usize,
}

fn history() -> History {
    let mut found = History::default();
    for line in sh("zpool history -i tank").ok().stdout.lines() {
        if line.contains("ioctl") && line.contains("channel_program") {
            found.programs += 1;
        }
        if let Some((_, value)) = line.split_once("ezz:epoch=") {
            let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
            found.epochs.push(digits.parse().expect("an epoch"));
        }
        for what in ["clone", "destroy"] {
            let marker = format!("] {what} tank/ezz/jails/");
            if let Some((_, rest)) = line.split_once(&marker) {
                let name: String = rest.chars().take_while(|c| !c.is_whitespace()).collect();
                found.jails.entry(name).or_default().push(what);
            }
        }
    }
    found
}

/// Checks that each epoch occurs once, and that none is left out.
#[track_caller]
fn epochs_are_consecutive(history: &History) {
    let last = property(SITE, "ezz:epoch")
        .parse::<u64>()
        .expect("a number");
    let expected: Vec<u64> = (1..=last).collect();
    assert_eq!(history.epochs, expected);
}

/// Checks for each jail that the reports agree with the history: clones and destroys alternate, and there are as many
/// as reported. A kernel whose programs cannot clone makes clones before their commit. Where locks do not work
/// (`again`), that may be too late, so clones are destroyed and made again.
#[track_caller]
fn nothing_was_lost(entries: &[Entry], history: &History, again: bool) {
    let said = |verb: &str, name: &str| {
        entries
            .iter()
            .filter(|entry| entry.verb == verb && entry.name == name && entry.ended.code == 0)
            .count()
    };
    let mut names: Vec<&String> = entries
        .iter()
        .filter(|entry| ["create", "delete"].contains(&entry.verb))
        .map(|entry| &entry.name)
        .collect();
    names.sort();
    names.dedup();
    let none = Vec::new();
    for name in names {
        let events = history.jails.get(name).unwrap_or(&none);
        for (index, event) in events.iter().enumerate() {
            let expected = ["clone", "destroy"][index % 2];
            assert_eq!(*event, expected, "{name}: {events:?}");
        }
        let clones = events.iter().filter(|event| **event == "clone").count();
        let (created, deleted) = (said("create", name), said("delete", name));
        let destroys = events.len() - clones;
        let made_again = if again { clones - created } else { 0 };
        assert_eq!(created + made_again, clones, "creates of {name}");
        assert_eq!(deleted + made_again, destroys, "deletes of {name}");
        let there = exists(&format!("tank/ezz/jails/{name}"));
        assert_eq!(there, events.len() % 2 == 1, "{name}");
    }
}

#[track_caller]
fn whole() {
    let repaired = ezz(&["--wait", "0", "doctor", "--repair", "--json"]);
    assert_eq!(repaired.code, 0, "{repaired:#?}");
    let told = ezz(&["--wait", "0", "doctor", "--json"]).json();
    assert_eq!(told[0]["findings"].to_string(), "[]");
}

/// Sixteen commands at a time for a minute, with overlapping names.
#[test]
fn sixteen_that_do_everything_at_once_lose_nothing() {
    const NAMES: u64 = 10;
    init();
    install_runnable(SITE);
    let seed = u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15;
    eprintln!("seed {seed}");
    let entries = Mutex::new(Vec::new());
    let until = Instant::now() + Duration::from_secs(60);
    thread::scope(|scope| {
        for worker in 0..16_u64 {
            let entries = &entries;
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_add(worker * 0x1234_5678_9abc) | 1);
                while Instant::now() < until {
                    let name = format!("c{}", random.below(NAMES));
                    let verb = match random.below(20) {
                        0..=6 => "create",
                        7..=10 => "delete",
                        11..=14 => "start",
                        15..=17 => "stop",
                        18 => "list",
                        _ if worker < 2 => "install",
                        _ => "show",
                    };
                    let mut args = vec!["--wait", "200", "-q", verb];
                    match verb {
                        "list" => args.push("--json"),
                        "install" => args.push("/tmp/runnable.tar"),
                        "delete" => args.extend([name.as_str(), "--yes"]),
                        _ => args.push(&name),
                    }
                    let ended = ezz(&args);
                    let entry = Entry { verb, name, ended };
                    entries.lock().expect("nobody panicked").push(entry);
                }
            });
        }
    });
    let late = Instant::now().saturating_duration_since(until);
    let entries = entries.into_inner().expect("nobody panicked");
    let mut counts: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for entry in &entries {
        *counts.entry((entry.verb, entry.ended.code)).or_default() += 1;
        let expected = match (entry.verb, entry.ended.code) {
            (_, 0) => true,
            ("create", 1) => entry.ended.stderr.contains("already exists"),
            ("delete" | "start" | "stop" | "show", 1) => {
                entry.ended.stderr.contains("there is no jail")
            }
            _ => false,
        };
        assert!(expected, "{entry:#?}");
    }
    eprintln!("{counts:?}, the last ended {late:?} late");
    assert!(late < Duration::from_secs(120), "{late:?}");
    for verb in ["create", "delete", "start", "stop", "list"] {
        assert!(counts.contains_key(&(verb, 0)), "no {verb}: {counts:?}");
    }
    let history = history();
    epochs_are_consecutive(&history);
    nothing_was_lost(&entries, &history, false);
    let installed = counts.get(&("install", 0)).copied().unwrap_or(0) + 1;
    let generations = ezz(&["world", "list", "--json"]).ok().json();
    assert_eq!(generations.len(), installed);
    whole();
    // Each jail is in the state that ezz reports: it starts, or runs.
    ezz(&["--wait", "0", "start", "--all"]).ok();
    let missing = !exists("tank/ezz/jails/c0");
    ezz(&["--wait", "0", "delete", "--yes", "c0"]).exits(i32::from(missing));
}

/// Where programs cannot clone, another command may remove the intent of a `create` before its clone is made. Then
/// nothing shows whose clone it is, so ezz reports it and leaves it alone. The administrator destroys it, as this
/// function does.
#[track_caller]
fn left_alone(entry: &Entry) {
    let stranger = entry
        .ended
        .stderr
        .contains("it has no ezz:jail of its own\nhint:");
    let after_it = entry.verb == "delete" && entry.ended.stderr.contains("there is no jail");
    assert_eq!(entry.ended.code, 1, "{entry:#?}");
    assert!(stranger || after_it, "{entry:#?}");
    let dataset = format!("tank/ezz/jails/{}", entry.name);
    if exists(&dataset) {
        sh(&format!("zfs destroy {dataset}")).ok();
    }
}

/// Another program removes the lock files, so that only the epoch keeps five commands apart.
#[test]
fn without_locks_the_epoch_keeps_them_apart() {
    init();
    install_small();
    let before = history();
    let entries = Mutex::new(Vec::new());
    let done = Mutex::new(false);
    thread::scope(|scope| {
        let remover = scope.spawn(|| {
            while !*done.lock().expect("nobody panicked") {
                for file in std::fs::read_dir("/run/ezz")
                    .into_iter()
                    .flatten()
                    .flatten()
                {
                    if file.path().extension().is_some_and(|end| end == "lock") {
                        // Another thread may have removed it already.
                        let _ = std::fs::remove_file(file.path());
                    }
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        let workers: Vec<_> = (0..5)
            .map(|worker| {
                let entries = &entries;
                scope.spawn(move || {
                    for round in 0..2 {
                        let name = format!("w{worker}-{round}");
                        for verb in ["create", "delete"] {
                            let mut args = vec!["-q", verb, &name];
                            args.extend((verb == "delete").then_some("--yes"));
                            let ended = ezz(&args);
                            let entry = Entry {
                                verb,
                                name: name.clone(),
                                ended,
                            };
                            entries.lock().expect("nobody panicked").push(entry);
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("it did not panic");
        }
        *done.lock().expect("nobody panicked") = true;
        remover.join().expect("it did not panic");
    });
    let entries = entries.into_inner().expect("nobody panicked");
    for entry in &entries {
        if sync_clone() || entry.ended.code == 0 {
            assert_eq!(entry.ended.code, 0, "{entry:#?}");
        } else {
            left_alone(entry);
        }
    }
    let history = history();
    epochs_are_consecutive(&history);
    nothing_was_lost(&entries, &history, !sync_clone());
    let ran = history.programs - before.programs;
    let conflicts = ran - (history.epochs.len() - before.epochs.len());
    eprintln!("{} commands, {conflicts} conflicts", entries.len());
    assert!(conflicts > 0, "they never met: {ran} programs");
    whole();
}
