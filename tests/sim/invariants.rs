//! The invariants of the design, checked from outside: on the simulated pool, its mounts and its host, never through
//! ezz's own reading of them.
//!
//! The numbers are those of the design's invariants. Invariants 5, 9 and 10 are about commands (atomic creation, dry
//! runs, and running a command twice), and are checked where commands are run.

use std::collections::{BTreeMap, BTreeSet};

use ezz::plan::MountAs;
use serde_json::Value;

use super::SITE;
use super::files;
use super::host::Phase;
use super::machine::{SimMachine, State};
use super::pool::parent;

/// The facts about a site that one check remembers for the next.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The files of sealed generations, by the guid of their snapshot.
    sealed: BTreeMap<u64, Vec<String>>,
    /// The creations of others: the guids of datasets and snapshots, with their original names.
    pub foreign: BTreeMap<u64, String>,
    epoch: u64,
    properties: BTreeMap<(String, String), String>,
}

fn json(text: Option<&String>) -> Option<Value> {
    text.and_then(|text| serde_json::from_str(text).ok())
}

/// Returns the numbers of sealed generations.
fn sealed(state: &State) -> BTreeSet<u64> {
    sealed_in(state, "basejail")
}

/// Returns whether two skeletons have the same files according to their seals.
fn same_skeleton(state: &State, one: u64, other: u64) -> bool {
    let content = |n: u64| {
        let snapshot = state
            .pool
            .snapshots
            .get(&format!("{SITE}/newjail/{n}@{n}"))?;
        let seal = snapshot.own.local.get("ezz:sealed")?;
        let seal: serde_json::Value = serde_json::from_str(seal).ok()?;
        seal["skeleton"].as_str().map(str::to_owned)
    };
    one == other || content(one).is_some() && content(one) == content(other)
}

/// Returns the numbers of generations whose skeleton exists, also if the base was pruned.
fn skeletons(state: &State) -> BTreeSet<u64> {
    let mut found = sealed_in(state, "newjail");
    // A generation that is half destroyed does not count.
    let there = |number: &u64| {
        let base = state
            .pool
            .datasets
            .get(&format!("{SITE}/basejail/{number}"));
        base.is_some_and(|base| !base.own.local.contains_key("ezz:pruned"))
    };
    let sealed = sealed(state);
    found.retain(|number| sealed.contains(number) || !there(number));
    found
}

fn sealed_in(state: &State, half: &str) -> BTreeSet<u64> {
    let prefix = format!("{SITE}/{half}/");
    let names = state.pool.snapshots.iter().filter(|(_, found)| {
        let seal = found.own.local.get("ezz:sealed");
        seal.is_some()
    });
    names
        .filter_map(|(name, _)| {
            let (dataset, snapshot) = name.strip_prefix(&prefix)?.split_once('@')?;
            (dataset == snapshot).then(|| dataset.parse().ok())?
        })
        .collect()
}

/// Returns the jails of the site, each with its `ezz:jail` if it has a valid one of its own.
fn jails(state: &State) -> Vec<(String, Option<Value>)> {
    let top = format!("{SITE}/jails");
    let datasets = state.pool.datasets.iter();
    datasets
        .filter(|(name, _)| parent(name) == Some(&top))
        .map(|(name, found)| (name.clone(), json(found.own.local.get("ezz:jail"))))
        .collect()
}

fn unfinished(jail: &Value) -> bool {
    jail["todo"].as_array().is_some_and(|todo| !todo.is_empty())
}

/// Returns the generation that a jail is to mount, if it is to mount one.
fn due(state: &State, jail: &Value) -> Option<u64> {
    if jail["kind"] == "thick" {
        return None;
    }
    if let Some(pin) = jail["base"]["pin"].as_u64() {
        return Some(pin);
    }
    let track = jail["base"]["track"].as_str()?;
    let base = state.pool.datasets.get(&format!("{SITE}/basejail"))?;
    json(base.own.local.get(&format!("ezz:track:{track}")))?["current"].as_u64()
}

impl Ledger {
    /// Checks what must hold at every moment, whatever was killed; returns the violations.
    pub fn always(&mut self, machine: &SimMachine) -> Vec<String> {
        let mut broken = Vec::new();
        let state = machine.state();
        if !state.pool.own_is_site() {
            return broken;
        }
        let sealed = sealed(&state);
        self.tracks(&state, &sealed, &mut broken);
        self.generations(&state, &sealed, &mut broken);
        self.ready_jails(&state, &sealed, &mut broken);
        self.foreign(&state, &mut broken);
        self.epoch(&state, &mut broken);
        broken
    }

    /// Checks invariant 1: tracks and pins name sealed generations.
    fn tracks(&self, state: &State, sealed: &BTreeSet<u64>, broken: &mut Vec<String>) {
        let Some(base) = state.pool.datasets.get(&format!("{SITE}/basejail")) else {
            return;
        };
        for (name, value) in &base.own.local {
            if !name.starts_with("ezz:track:") {
                continue;
            }
            let Some(track) = json(Some(value)) else {
                broken.push(format!("1: {name} is not JSON: {value}"));
                continue;
            };
            for field in ["current", "previous"] {
                if track[field]
                    .as_u64()
                    .is_some_and(|number| !sealed.contains(&number))
                {
                    broken.push(format!(
                        "1: {name} names {}, which is not sealed",
                        track[field]
                    ));
                }
            }
        }
        for (name, jail) in jails(state) {
            let pin = jail.and_then(|jail| jail["base"]["pin"].as_u64());
            if pin.is_some_and(|pin| !sealed.contains(&pin)) {
                broken.push(format!(
                    "1: {name} is pinned to {pin:?}, which is not sealed"
                ));
            }
        }
    }

    /// Checks invariant 2: a sealed generation never changes.
    fn generations(&mut self, state: &State, sealed: &BTreeSet<u64>, broken: &mut Vec<String>) {
        for number in sealed {
            let base = format!("{SITE}/basejail/{number}");
            let skeleton = format!("{SITE}/newjail/{number}");
            for name in [&base, &skeleton] {
                let snapshot = format!("{name}@{number}");
                let (Some(dataset), Some(found)) = (
                    state.pool.datasets.get(name),
                    state.pool.snapshots.get(&snapshot),
                ) else {
                    broken.push(format!("2: {snapshot} is missing"));
                    continue;
                };
                if !found.own.local.contains_key("ezz:sealed") {
                    broken.push(format!("2: {snapshot} has no seal"));
                }
                if dataset.written != 0 {
                    broken.push(format!("2: {name} was written to after its seal"));
                }
                let files = state.mounts.files_of(&state.pool, &snapshot);
                let files = files.map(|at| files::list(&at)).unwrap_or_default();
                match self.sealed.insert(found.guid, files.clone()) {
                    Some(old) if old != files => {
                        broken.push(format!("2: the files of {snapshot} have changed"));
                    }
                    Some(_) | None => {}
                }
            }
            let writable = state
                .mounts
                .table
                .iter()
                .any(|m| m.source == base && !m.flags.read_only);
            if writable {
                broken.push(format!("2: {base} is mounted writable"));
            }
        }
    }

    /// Checks invariants 3 and 6: everything that a ready jail needs exists, and a jail with `todo` has never run; the
    /// base of a running jail is one sealed generation.
    fn ready_jails(&self, state: &State, sealed: &BTreeSet<u64>, broken: &mut Vec<String>) {
        let skeletons = skeletons(state);
        for (name, jail) in jails(state) {
            let Some(jail) = jail else { continue };
            let short = name.rsplit('/').next().unwrap_or_default();
            let runs = state.host.running.iter().find(|((_, jail), running)| {
                jail.as_str() == short && running.phase == Phase::Running
            });
            if unfinished(&jail) {
                if runs.is_some() {
                    broken.push(format!("3: {name} runs and is not finished"));
                }
                continue;
            }
            let thin = jail["kind"] == "thin";
            let merged_to = if thin { &skeletons } else { sealed };
            if jail["skel"]
                .as_u64()
                .is_none_or(|skel| !merged_to.contains(&skel))
            {
                broken.push(format!(
                    "3: the generation {} of {name} is not there",
                    jail["skel"]
                ));
            }
            if due(state, &jail).is_some_and(|due| !sealed.contains(&due)) {
                broken.push(format!("3: the base of {name} is not there"));
            }
            if let Some((_, running)) = runs {
                let base = running
                    .base
                    .as_deref()
                    .and_then(|base| base.rsplit('/').next());
                let number = base.and_then(|number| number.parse::<u64>().ok());
                if number.is_some_and(|number| !sealed.contains(&number)) {
                    broken.push(format!("6: {name} runs on {base:?}, which is not sealed"));
                }
                let files = jail["skel"].as_u64();
                let other = |n: u64| files.is_none_or(|files| !same_skeleton(state, n, files));
                if thin && number.is_some_and(other) {
                    broken.push(format!(
                        "12: {name} runs on {base:?}, and its own files are at {files:?}"
                    ));
                }
            }
        }
    }

    /// Checks invariant 7: what others created still exists, under whatever name.
    fn foreign(&self, state: &State, broken: &mut Vec<String>) {
        for (guid, name) in &self.foreign {
            if state.pool.guid_of(name) != Some(*guid) {
                broken.push(format!("7: {name} was not ezz's, and is gone"));
            }
        }
    }

    /// Checks invariant 11: every change of an `ezz:*` property raises the epoch.
    fn epoch(&mut self, state: &State, broken: &mut Vec<String>) {
        let mut now = BTreeMap::new();
        for (name, found) in &state.pool.datasets {
            let leaf = name.rsplit('/').next().unwrap_or_default();
            let half_gone = found.own.local.contains_key("ezz:pruned")
                && !state.pool.exists(&format!("{name}@{leaf}"));
            // What a seal that was stopped has left of a stage is cleared away like any other stage.
            let sealing = found.own.local.contains_key("ezz:sealing");
            for (property, value) in &found.own.local {
                if half_gone || sealing {
                    continue;
                }
                // A stage belongs to the command that builds it, which holds a lock for it; `ezz:populated` is removed
                // with it.
                let counts = property.starts_with("ezz:")
                    && !["ezz:epoch", "ezz:populated"].contains(&property.as_str());
                if counts && name.starts_with(SITE) {
                    now.insert((name.clone(), property.clone()), value.clone());
                }
            }
        }
        let site = &state.pool.datasets[SITE].own.local;
        let epoch = site
            .get("ezz:epoch")
            .and_then(|epoch| epoch.parse().ok())
            .unwrap_or(0);
        if epoch < self.epoch || epoch == self.epoch && now != self.properties {
            broken.push(format!(
                "11: something changed, and the epoch went from {} to {epoch}",
                self.epoch
            ));
        }
        self.epoch = epoch;
        self.properties = now;
    }

    /// Accepts the present state as the one to compare with; a test calls this after it has changed `ezz:*` itself.
    pub fn accept(&mut self, machine: &SimMachine) {
        let mut ignored = Vec::new();
        let state = machine.state();
        if state.pool.own_is_site() {
            self.epoch(&state, &mut ignored);
        }
    }
}

/// Checks invariant 4, which must hold after a repair or a command that succeeded: nothing is unfinished, nothing lacks
/// an owner, and all derived files exist. `strange` are datasets and snapshots that others created.
pub fn settled(machine: &SimMachine, strange: &BTreeSet<String>) -> Vec<String> {
    let mut broken = Vec::new();
    let directory = machine.directory();
    let state = machine.state();
    if !state.pool.own_is_site() {
        return broken;
    }
    let sealed = sealed(&state);
    let mounted_at = |name: &str| {
        let at = state.pool.mountpoint(name);
        let how = match name {
            SITE => MountAs::Site,
            _ if name.starts_with(&format!("{SITE}/jails/")) => MountAs::Jail,
            _ => MountAs::Base,
        };
        state
            .mounts
            .top(std::path::Path::new(&at))
            .is_some_and(|mount| mount.source == name && !how.lacks(mount.flags).any())
    };
    for (half, sealed) in [("basejail", &sealed), ("newjail", &skeletons(&state))] {
        let top = format!("{SITE}/{half}");
        for child in state.pool.children(&top) {
            let number = child
                .rsplit('/')
                .next()
                .and_then(|number| number.parse().ok());
            if number.is_none_or(|number| !sealed.contains(&number)) && !strange.contains(child) {
                broken.push(format!("4: {child} was never sealed"));
            }
        }
    }
    for number in &sealed {
        for half in ["basejail", "newjail"] {
            let snapshot = format!("{SITE}/{half}/{number}@{number}");
            let held = state
                .pool
                .snapshots
                .get(&snapshot)
                .is_some_and(|s| s.holds.contains("ezz"));
            if !held {
                broken.push(format!("4: {snapshot} is not held"));
            }
        }
        if !mounted_at(&format!("{SITE}/basejail/{number}")) {
            broken.push(format!(
                "4: the base {number} is not mounted, or lacks flags"
            ));
        }
    }
    if !mounted_at(SITE) {
        broken.push("4: the site is not mounted, or lacks flags".to_owned());
    }
    let mut names = BTreeSet::new();
    for (name, jail) in jails(&state) {
        if strange.contains(&name) {
            continue;
        }
        let short = name.rsplit('/').next().unwrap_or_default().to_owned();
        match jail {
            None => broken.push(format!("4: {name} is no jail")),
            Some(jail) if unfinished(&jail) => broken.push(format!("4: {name} is not finished")),
            Some(_) => {
                let derived = state.host.derived.keys().any(|jail| jail.as_str() == short);
                // The mounts of a running jail are restored after it has stopped.
                let runs = state.host.running.iter().any(|((_, jail), running)| {
                    let up = matches!(running.phase, Phase::Running | Phase::Starting);
                    jail.as_str() == short && up
                });
                if !derived && !runs {
                    broken.push(format!("4: {name} has no derived files"));
                }
                if !mounted_at(&name) {
                    broken.push(format!("4: {name} is not mounted, or lacks flags"));
                }
            }
        }
        names.insert(short);
    }
    for (name, found) in &state.pool.snapshots {
        // A dump shows several of a jail as one, because their numbers are epochs.
        let of_clones = name.contains("@ezz-clone-");
        if of_clones && (!found.deferred || state.pool.clones_of(name).is_empty()) {
            broken.push(format!("4: {name} does not go with its last clone"));
        }
    }
    for ((_, name), jail) in &state.host.running {
        if matches!(jail.phase, Phase::Starting | Phase::Left) {
            broken.push(format!("4: a run of {name} is left half-done"));
        }
    }
    let intents = state.pool.datasets.get(&format!("{SITE}/jails"));
    for property in intents.iter().flat_map(|found| found.own.local.keys()) {
        if property.starts_with("ezz:intent:") {
            broken.push(format!("4: {property} is left over"));
        }
    }
    let kept = state
        .host
        .derived
        .keys()
        .chain(state.host.logs.keys().map(|(_, name)| name));
    for name in kept.chain(state.host.running.keys().map(|(_, name)| name)) {
        if !names.contains(name.as_str()) {
            broken.push(format!(
                "4: the host keeps files of {name}, which is not there"
            ));
        }
    }
    links(&state, &directory, &mut broken);
    for entry in std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = ["basejail", "newjail"].contains(&name.as_str()) || names.contains(&name);
        let strange = strange
            .iter()
            .any(|other| other.ends_with(&format!("/{name}")));
        if !known && !strange {
            broken.push(format!("4: the directory {name} belongs to nobody"));
        }
    }
    broken
}

fn links(state: &State, directory: &std::path::Path, broken: &mut Vec<String>) {
    let Some(base) = state.pool.datasets.get(&format!("{SITE}/basejail")) else {
        return;
    };
    for (property, value) in &base.own.local {
        let Some(track) = property.strip_prefix("ezz:track:") else {
            continue;
        };
        let current = json(Some(value)).and_then(|track| track["current"].as_u64());
        let link = std::fs::read_link(directory.join("basejail/tracks").join(track)).ok();
        let wanted = current.map(|current| std::path::PathBuf::from(format!("../{current}")));
        if link != wanted {
            broken.push(format!(
                "4: the link of the track {track} is {link:?}, not {wanted:?}"
            ));
        }
    }
}
