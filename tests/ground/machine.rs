//! A state machine: random commands with failures, kills, power cuts, another ezz that commits in between, and changes
//! by others. After each step all invariants hold; a repair settles everything except what others own; the command does
//! exactly what `--dry-run` has shown; and a second run of the same command changes nothing.
//!
//! A failing case is shrunk; its seed is kept in `regressions.txt` and tried first. `PROPTEST_CASES` sets the number of
//! cases, `EZZ_SIM_STEPS` the length of the longest.

use std::collections::BTreeSet;

use ezz::name::JailName;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::sim::fault::REFUSED;
use crate::sim::host::Phase;
use crate::sim::invariants::{Ledger, settled};
use crate::sim::machine::Saved;
use crate::sim::{Death, Dump, Fault, SITE, SimMachine, When};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A command line, without paths of the machine.
#[derive(Debug, Clone, PartialEq)]
enum Command {
    Create {
        names: Vec<&'static str>,
        thick: bool,
        quota: bool,
        start: bool,
    },
    Delete(Vec<&'static str>),
    Start(Vec<&'static str>),
    Stop(Vec<&'static str>),
    Restart(&'static str),
    Install {
        version: &'static str,
        track: &'static str,
    },
    Track {
        name: &'static str,
        generation: bool,
    },
    /// Adds a generation beside the current one, by a command.
    Update {
        track: &'static str,
        restart: bool,
        /// Whether the own files of jails change, too.
        files: bool,
    },
    Rollback {
        track: &'static str,
        to: Option<&'static str>,
    },
    Converge,
    Prune,
    Repair,
    Look(&'static str),
}

/// A change that ezz does not make.
#[derive(Debug, Clone, PartialEq)]
enum Meddling {
    /// Takes a snapshot of a ready jail.
    Snapshot(&'static str),
    /// Sets a hold on a sealed generation.
    Hold,
    /// Creates a dataset among the jails.
    Dataset,
    /// Destroys a jail by `zfs destroy`.
    Destroy(&'static str),
    Unmount(&'static str),
    RemoveDerived(&'static str),
    /// Edits a file of a jail's own that updates change, too.
    Edit(&'static str),
    RemoveLinks,
    Release,
    /// Lets a jail end by itself.
    Dies(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Ezz(Command),
    Cut(Command, Fault),
    /// Another ezz commits before the n-th change of this command.
    Meanwhile(Command, usize),
    PowerCut {
        mount_all: bool,
    },
    Meddle(Meddling),
}

impl Command {
    fn line(&self, m: &SimMachine) -> Vec<String> {
        let mut line: Vec<String> = Vec::new();
        let mut word = |text: &str| line.push(text.to_owned());
        match self {
            Command::Create {
                names,
                thick,
                quota,
                start,
            } => {
                word("create");
                names.iter().for_each(|name| word(name));
                if *thick {
                    word("--thick");
                }
                if *quota {
                    word("--quota");
                    word("1G");
                }
                if *start {
                    word("--start");
                }
            }
            Command::Delete(names) => {
                word("delete");
                names.iter().for_each(|name| word(name));
                word("--yes");
            }
            Command::Start(names) | Command::Stop(names) => {
                word(if matches!(self, Command::Start(_)) {
                    "start"
                } else {
                    "stop"
                });
                names.iter().for_each(|name| word(name));
                if names.is_empty() {
                    word("--all");
                }
            }
            Command::Restart(name) => {
                word("restart");
                word(name);
            }
            Command::Install { version, track } => {
                word("install");
                word(&m.world(version).display().to_string());
                word("--track");
                word(track);
            }
            Command::Track { name, generation } => {
                word("track");
                word("create");
                word(name);
                if *generation {
                    word("--generation");
                    word("1");
                }
            }
            Command::Update {
                track,
                restart,
                files,
            } => {
                let words = ["update", "--track", track];
                words.iter().for_each(|text| word(text));
                if *restart {
                    word("--restart");
                }
                word("--run");
                word(if *files { "files" } else { "new" });
            }
            Command::Rollback { track, to } => {
                ["rollback", "--track", track]
                    .iter()
                    .for_each(|text| word(text));
                if let Some(to) = to {
                    word("--to");
                    word(to);
                }
            }
            Command::Converge => word("converge"),
            Command::Prune => {
                word("world");
                word("prune");
                word("--yes");
            }
            Command::Repair => {
                word("doctor");
                word("--repair");
            }
            Command::Look(what) => what.split(' ').for_each(word),
        }
        line
    }

    fn changes(&self) -> bool {
        !matches!(self, Command::Look(_))
    }

    /// Returns whether a second run does nothing.
    fn settles(&self) -> bool {
        !matches!(
            self,
            Command::Install { .. }
                | Command::Restart(_)
                | Command::Update { .. }
                | Command::Rollback { to: None, .. }
        )
    }

    /// Returns whether the command has more than one plan; a dry run shows only the first.
    fn has_several_plans(&self) -> bool {
        matches!(
            self,
            Command::Install { .. } | Command::Update { .. } | Command::Converge
        )
    }
}

fn names() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(NAMES.to_vec(), 1..=3)
}

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(NAMES.to_vec())
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        5 => (names(), any::<(bool, bool, bool)>()).prop_map(|(names, (thick, quota, start))| {
            Command::Create { names, thick, quota, start }
        }),
        3 => names().prop_map(Command::Delete),
        2 => names().prop_map(Command::Start),
        1 => Just(Command::Start(Vec::new())),
        2 => names().prop_map(Command::Stop),
        1 => Just(Command::Stop(Vec::new())),
        1 => name().prop_map(Command::Restart),
        2 => (
            proptest::sample::select(vec!["12.1", "12.2"]),
            proptest::sample::select(vec!["main", "next"]),
        )
            .prop_map(|(version, track)| Command::Install { version, track }),
        1 => (proptest::sample::select(vec!["next", "x"]), any::<bool>())
            .prop_map(|(name, generation)| Command::Track { name, generation }),
        3 => (proptest::sample::select(vec!["main", "next"]), any::<bool>(), any::<bool>())
            .prop_map(|(track, restart, files)| Command::Update { track, restart, files }),
        2 => (
            proptest::sample::select(vec!["main", "next"]),
            proptest::option::of(proptest::sample::select(vec!["1", "2", "3"])),
        )
            .prop_map(|(track, to)| Command::Rollback { track, to }),
        1 => Just(Command::Converge),
        2 => Just(Command::Prune),
        2 => Just(Command::Repair),
        1 => proptest::sample::select(vec!["list", "doctor", "world list", "world verify --all", "track list"])
            .prop_map(Command::Look),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let when = prop_oneof![
        Just(When::Before),
        Just(When::After),
        (0..6_usize).prop_map(When::Within),
    ];
    let death = prop_oneof![
        3 => Just(Death::Kill),
        1 => Just(Death::Error),
        1 => Just(Death::Errors),
    ];
    (1..14_usize, when, death).prop_map(|(call, when, death)| Fault { call, when, death })
}

fn meddling() -> impl Strategy<Value = Meddling> {
    prop_oneof![
        name().prop_map(Meddling::Snapshot),
        Just(Meddling::Hold),
        Just(Meddling::Dataset),
        name().prop_map(Meddling::Destroy),
        name().prop_map(Meddling::Unmount),
        name().prop_map(Meddling::RemoveDerived),
        name().prop_map(Meddling::Edit),
        Just(Meddling::RemoveLinks),
        Just(Meddling::Release),
        name().prop_map(Meddling::Dies),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => command().prop_map(Step::Ezz),
        4 => (command(), fault()).prop_map(|(command, fault)| Step::Cut(command, fault)),
        1 => (command(), 1..5_usize).prop_map(|(command, call)| Step::Meanwhile(command, call)),
        1 => any::<bool>().prop_map(|mount_all| Step::PowerCut { mount_all }),
        2 => meddling().prop_map(Step::Meddle),
    ]
}

/// A machine at work, with everything that is remembered to judge it.
struct World<'a> {
    m: &'a SimMachine,
    ledger: Ledger,
    /// Datasets that are no jail.
    strange: BTreeSet<String>,
}

impl World<'_> {
    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Ezz(command) => self.whole(command)?,
            Step::Cut(command, fault) => self.cut(command, *fault)?,
            Step::Meanwhile(command, call) => self.meanwhile(command, *call)?,
            Step::PowerCut { mount_all } => self.m.power_cut(*mount_all),
            Step::Meddle(meddling) => self.meddle(meddling),
        }
        self.always(step)
    }

    fn always(&mut self, step: &dyn std::fmt::Debug) -> Result<(), TestCaseError> {
        let broken = self.ledger.always(self.m);
        prop_assert!(broken.is_empty(), "after {step:?}: {broken:#?}");
        Ok(())
    }

    fn run(&self, command: &Command) -> crate::sim::Ended {
        let line = command.line(self.m);
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        self.m.ezz(&words)
    }

    /// Runs a command without a disturbance; invariants 9 and 10.
    fn whole(&mut self, command: &Command) -> Result<(), TestCaseError> {
        let planned = self.planned(command)?;
        let ended = self.run(command);
        prop_assert!(ended.code.is_some_and(|code| code < 4), "{ended:#?}");
        let trace = self.m.state().faults.trace.clone();
        if let (Some(0), Some(planned)) = (ended.code, planned) {
            let mut done = trace;
            // The kernel refuses one call, by which ezz learns that its programs cannot clone.
            done.retain(|call| !call.ends_with(REFUSED));
            if matches!(command, Command::Start(_) | Command::Restart(_)) {
                // A start unmounts skeletons that a killed command had mounted to read them.
                done.retain(|call| !reads(call));
            }
            done.sort();
            prop_assert_eq!(
                done,
                planned,
                "9: {:?} did not do what its dry run said",
                command
            );
        }
        self.always(command)?;
        if ended.code != Some(0) || !command.settles() {
            return Ok(());
        }
        let before = Dump::of(self.m);
        let again = self.run(command);
        prop_assert!(again.code.is_some_and(|code| code < 4), "{again:#?}");
        let after = Dump::of(self.m);
        let difference = before.difference(&after);
        prop_assert!(
            difference.is_empty(),
            "10: {command:?} a second time: {difference}"
        );
        if *command == Command::Repair {
            let broken = settled(self.m, &self.strange);
            prop_assert!(broken.is_empty(), "after a repair: {broken:#?}");
        }
        Ok(())
    }

    /// Checks that a dry run changes nothing; returns the calls that it announces.
    fn planned(&self, command: &Command) -> Result<Option<Vec<String>>, TestCaseError> {
        if !command.changes() || command.has_several_plans() {
            return Ok(None);
        }
        let before = Dump::exact(self.m);
        let mut line = command.line(self.m);
        line.push("--dry-run".to_owned());
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        let told = self.m.ezz(&words);
        // To compare own files, a dry run mounts the skeletons, reads them and unmounts them.
        let mut calls = self.m.state().faults.trace.clone();
        let counted = self.m.state().faults.calls;
        prop_assert_eq!(counted, calls.len(), "9: calls of {:?}", command);
        calls.retain(|call| !reads(call));
        prop_assert!(
            calls.is_empty(),
            "9: a dry run of {command:?} changes something: {calls:#?}"
        );
        let difference = before.difference(&Dump::exact(self.m));
        prop_assert!(
            difference.is_empty(),
            "9: a dry run of {command:?}: {difference}"
        );
        // A merge has steps of its own, which are in no plan.
        let merges = |line: &String| line.contains("would be merged");
        // A merge may also be needed for a jail that is mounted only when it starts; the dry run reports that, too.
        let may_merge = |line: &String| line.contains("its own files are compared when it starts");
        let announced = told.out.iter().any(merges) || told.err.iter().any(may_merge);
        if told.code != Some(0) || announced {
            return Ok(None);
        }
        let mut calls: Vec<String> = told.out.iter().filter_map(|line| call_of(line)).collect();
        calls.sort();
        Ok(Some(calls))
    }

    fn cut(&mut self, command: &Command, mut fault: Fault) -> Result<(), TestCaseError> {
        let seals = matches!(command, Command::Install { .. } | Command::Update { .. });
        if seals && fault.when != When::Before {
            // A seal that is cut leaves a snapshot without a seal, which no command removes yet.
            fault.when = When::After;
        }
        let line = command.line(self.m);
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        let ended = self.m.attempt(Some(fault), &words);
        prop_assert!(ended.code.is_none_or(|code| code < 5), "{ended:#?}");
        if matches!(fault.when, When::Within(_)) && self.m.state().faults.struck {
            // A program that is stopped by a signal has not raised the epoch yet (zfs/CONTRACT.md).
            self.ledger.accept(self.m);
        }
        Ok(())
    }

    fn meanwhile(&mut self, command: &Command, call: usize) -> Result<(), TestCaseError> {
        let line = command.line(self.m);
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        let ended = self.m.disturbed(call, &words);
        prop_assert!(ended.code.is_some_and(|code| code < 4), "{ended:#?}");
        // The commit of the other ezz is no program of this command.
        let stale = ended
            .err
            .iter()
            .any(|line| line.contains("has changed since"));
        prop_assert!(!stale, "11: {ended:#?}");
        Ok(())
    }

    fn meddle(&mut self, meddling: &Meddling) {
        let jail = |name: &str| format!("{SITE}/jails/{name}");
        let mut guard = self.m.state();
        let state = &mut *guard;
        match meddling {
            Meddling::Snapshot(name) => {
                let name = jail(name);
                let ready = state.pool.datasets.get(&name).is_some_and(|found| {
                    let text = found.own.local.get("ezz:jail");
                    text.is_some_and(|text| !text.contains("todo"))
                });
                let intents = state.pool.datasets[&format!("{SITE}/jails")]
                    .own
                    .local
                    .keys()
                    .any(|property| property.starts_with("ezz:intent"));
                let snapshot = format!("{name}@theirs");
                if ready && !intents && state.pool.snapshot(&snapshot).is_ok() {
                    let guid = state.pool.guid_of(&snapshot).expect("it was made");
                    self.ledger.foreign.insert(guid, snapshot);
                }
            }
            Meddling::Hold => {
                let all: Vec<String> = state.pool.snapshots.keys().cloned().collect();
                for name in all.iter().filter(|name| name.contains("/basejail/")) {
                    let _there = state.pool.hold(name, "theirs");
                }
            }
            Meddling::Dataset => {
                let name = jail("theirs");
                if state.pool.create(&name, &Default::default()).is_ok() {
                    let guid = state.pool.guid_of(&name).expect("it was made");
                    self.ledger.foreign.insert(guid, name.clone());
                    self.strange.insert(name);
                }
            }
            Meddling::Destroy(name) => {
                let name = jail(name);
                if !state.used(&name) {
                    let at = state.pool.mountpoint(&name);
                    let _mounted = state.mounts.unmount(&mut state.pool, at.as_ref());
                    let _there = state.pool.destroy(&name);
                    state.settle();
                }
            }
            Meddling::Unmount(name) => {
                let name = jail(name);
                let at = state.pool.mountpoint(&name);
                let ours = state
                    .mounts
                    .top(at.as_ref())
                    .is_some_and(|m| m.source == name);
                if ours && !state.used(&name) {
                    let _busy = state.mounts.unmount(&mut state.pool, at.as_ref());
                }
            }
            Meddling::RemoveDerived(name) => {
                let name = JailName::parse(name).expect("a name");
                state.host.derived.remove(&name);
            }
            Meddling::Edit(name) => {
                let name = jail(name);
                let at = state.pool.mountpoint(&name);
                let top = state.mounts.top(at.as_ref());
                if top.is_some_and(|mount| mount.source == name) {
                    let file = std::path::Path::new(&at).join("etc/changed");
                    std::fs::write(file, "mine\n").expect("writable");
                }
            }
            Meddling::RemoveLinks => {
                let tracks = self.m.directory().join("basejail/tracks");
                for entry in std::fs::read_dir(tracks).into_iter().flatten().flatten() {
                    let _gone = std::fs::remove_file(entry.path());
                }
            }
            Meddling::Release => {
                let all: Vec<String> = state.pool.snapshots.keys().cloned().collect();
                for name in all {
                    let _held = state.pool.release(&name, "ezz");
                }
            }
            Meddling::Dies(name) => {
                for ((_, jail), running) in &mut state.host.running {
                    if jail.as_str() == *name && running.phase == Phase::Running {
                        running.phase = Phase::Died;
                    }
                }
            }
        }
        drop(guard);
        self.ledger.accept(self.m);
    }
}

/// Returns the call that a line of a dry run announces; none if the line is no call of a port.
fn call_of(line: &str) -> Option<String> {
    let (number, step) = line.trim_start().split_once(". ")?;
    number.parse::<usize>().ok()?;
    let word = |n: usize| step.split(' ').nth(n).unwrap_or_default();
    let last = step.rsplit(' ').next().unwrap_or_default();
    Some(match word(0) {
        "commit" => format!("commit {}", step.split_once(": ")?.1),
        "clone" => format!("clone to {}", word(1)),
        "mount" | "unmount" | "hold" | "release" | "destroy" | "create" | "start" | "stop" => {
            format!("{} {}", word(0), word(1))
        }
        "set" => format!("set a property of {last}"),
        "write" => format!("derive {last}"),
        "remove" if step.contains("derived files") => format!("forget {last}"),
        _ => return None,
    })
}

/// Ends each case: a repair settles whatever happened.
fn repaired(world: &mut World<'_>) -> Result<(), TestCaseError> {
    let ended = world.m.ezz(&["doctor", "--repair"]);
    prop_assert!(ended.code.is_some_and(|code| code < 2), "{ended:#?}");
    world.always(&"the last repair")?;
    let broken = settled(world.m, &world.strange);
    prop_assert!(
        broken.is_empty(),
        "after the last repair: {broken:#?}, {ended:#?}"
    );
    Ok(())
}

fn check(m: &SimMachine, start: &Saved, steps: &[Step]) -> Result<(), TestCaseError> {
    m.restore(start);
    let mut world = World {
        m,
        ledger: Ledger::default(),
        strange: BTreeSet::new(),
    };
    world.always(&"the start")?;
    for step in steps {
        world.step(step)?;
    }
    repaired(&mut world)
}

fn machine(sync_clone: bool) {
    let m = SimMachine::installed(sync_clone);
    let start = m.save();
    let most = std::env::var("EZZ_SIM_STEPS")
        .ok()
        .and_then(|steps| steps.parse().ok());
    let persistence = FileFailurePersistence::Direct("tests/ground/regressions.txt");
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() {
        default.cases
    } else {
        150
    };
    let config = ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(persistence)),
        max_shrink_iters: 4000,
        ..default
    };
    let steps = proptest::collection::vec(step(), 1..most.unwrap_or(12));
    proptest!(config, |(steps in steps)| check(&m, &start, &steps)?);
}

#[test]
fn with_programs_that_clone() {
    machine(true);
}

#[test]
fn without_programs_that_clone() {
    machine(false);
}

/// Returns whether a call mounts or unmounts a skeleton to read it: that is in no plan, and changes no file.
fn reads(call: &str) -> bool {
    call.contains("mount tank/ezz/newjail/")
}
