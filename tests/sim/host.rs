//! The simulated host: jails that run, end and are forgotten, and the derived files of each jail.
//!
//! In each respect it is the stricter of the two real hosts. As on FreeBSD there are derived files, the base is reached
//! through the track's link, and a dataset that a jail runs on cannot be unmounted. As on Linux a start may be found
//! half-finished, and the log stays until it is forgotten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ezz::model::{Changed, JailState, Killed};
use ezz::name::{GenerationId, JailName};
use ezz::ports::{Check, ExecRequest, Host, HostError, JailSpec, Stopping, WorldRequest, WorldRun};
use ezz::profile::Os;

use super::fault::Act;
use super::machine::State;
use super::zfs::call;

/// The state of a jail at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Running,
    /// The jail ended by itself, and its mounts still exist.
    Died,
    /// The jail does not exist any more, but the mounts of its start do.
    Left,
    /// The jail was stopped; its exit status is remembered.
    Stopped,
}

/// The state of a jail that is lost with the power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub phase: Phase,
    /// The datasets that the jail keeps busy.
    pub uses: Vec<String>,
    pub base: Option<String>,
    pub id: u32,
}

/// The state of a host.
#[derive(Debug, Clone, Default)]
pub struct HostState {
    /// The state of jails by site and name.
    pub running: BTreeMap<(String, JailName), Running>,
    /// The derived files by jail: their names do not depend on the site.
    pub derived: BTreeMap<JailName, String>,
    /// Console logs.
    pub logs: BTreeMap<(String, JailName), ()>,
    next: u32,
}

impl HostState {
    /// Loses everything that a power cut loses.
    pub fn drop_all(&mut self) {
        self.running.clear();
    }

    pub fn uses(&self, dataset: &str) -> bool {
        let mut all = self.running.values();
        all.any(|jail| jail.phase != Phase::Stopped && jail.uses.iter().any(|used| used == dataset))
    }
}

/// The host of one site.
#[derive(Debug)]
pub struct SimHost {
    pub state: Arc<Mutex<State>>,
    pub site: String,
}

impl SimHost {
    fn changing(
        &self,
        action: &'static str,
        name: &JailName,
        act: impl FnOnce(&mut State, Act) -> Result<Changed, HostError>,
    ) -> Result<Changed, HostError> {
        call(
            &self.state,
            || format!("{action} {name}"),
            true,
            || failure(action, name),
            act,
        )
    }

    fn reading<R>(&self, act: impl FnOnce(&mut State) -> R) -> Result<R, HostError> {
        call(
            &self.state,
            || unreachable!("only changes are traced"),
            false,
            || HostError::Parse {
                what: "the simulated host".to_owned(),
                why: "it is dead".to_owned(),
            },
            |state, _| Ok(act(state)),
        )
    }

    fn key(&self, name: &JailName) -> (String, JailName) {
        (self.site.clone(), name.clone())
    }
}

fn failure(action: &'static str, name: &JailName) -> HostError {
    HostError::File {
        action,
        path: PathBuf::from(name.as_str()),
        source: std::io::Error::other("a simulated failure"),
    }
}

/// Returns the text of the derived files.
fn derived(spec: &JailSpec) -> String {
    let base = spec
        .base
        .as_ref()
        .map(|base| base.path.display().to_string());
    format!(
        "root {} base {base:?} host {} addresses {:?} network {:?}",
        spec.root.display(),
        spec.config.hostname,
        spec.config.addresses,
        spec.config.network
    )
}

fn derive(state: &mut State, spec: &JailSpec) -> Changed {
    let text = derived(spec);
    match state.host.derived.insert(spec.name.clone(), text.clone()) {
        Some(old) if old == text => Changed::Already,
        Some(_) | None => Changed::Done,
    }
}

impl Host for SimHost {
    fn os(&self) -> Os {
        Os::Linux
    }

    fn checks(&self) -> Vec<Check> {
        Vec::new()
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    fn killed(&self, _name: &JailName) -> Vec<Killed> {
        Vec::new()
    }

    fn states(&self) -> Result<BTreeMap<JailName, JailState>, HostError> {
        self.reading(|state| {
            let own = state
                .host
                .running
                .iter()
                .filter(|((site, _), _)| *site == self.site);
            own.map(|((_, name), jail)| {
                let state = match jail.phase {
                    Phase::Starting => JailState::Starting,
                    Phase::Running => JailState::Running {
                        id: jail.id,
                        base: jail.base.clone(),
                    },
                    Phase::Died | Phase::Left => JailState::Stopped { exit: None },
                    Phase::Stopped => JailState::Stopped { exit: Some(0) },
                };
                (name.clone(), state)
            })
            .collect()
        })
    }

    fn write_config(&self, spec: &JailSpec) -> Result<Changed, HostError> {
        self.changing("derive", &spec.name, |state, _| Ok(derive(state, spec)))
    }

    fn config_drift(&self, spec: &JailSpec) -> Result<Vec<PathBuf>, HostError> {
        self.reading(|state| {
            let right = state.host.derived.get(&spec.name) == Some(&derived(spec));
            let file = PathBuf::from(format!("{}.conf", spec.name));
            if right { Vec::new() } else { vec![file] }
        })
    }

    fn derived(&self) -> Result<Vec<JailName>, HostError> {
        self.reading(|state| {
            let logs = state
                .host
                .logs
                .keys()
                .filter(|(site, _)| *site == self.site);
            let running = state
                .host
                .running
                .keys()
                .filter(|(site, _)| *site == self.site);
            let mut names: Vec<JailName> = state.host.derived.keys().cloned().collect();
            names.extend(logs.chain(running).map(|(_, name)| name.clone()));
            names.sort();
            names.dedup();
            names
        })
    }

    fn leftovers(&self) -> Result<Vec<JailName>, HostError> {
        self.reading(|state| {
            let own = state.host.running.iter();
            own.filter(|((site, _), _)| *site == self.site)
                .filter(|(_, jail)| matches!(jail.phase, Phase::Starting | Phase::Left))
                .map(|((_, name), _)| name.clone())
                .collect()
        })
    }

    fn remove_config(&self, name: &JailName) -> Result<Changed, HostError> {
        self.changing("forget", name, |state, act| {
            let key = self.key(name);
            let running = state.host.running.get(&key);
            if running.is_some_and(|jail| matches!(jail.phase, Phase::Running | Phase::Starting)) {
                return Err(HostError::Running(name.clone()));
            }
            let mut removed = state.host.running.remove(&key).is_some();
            removed |= state.host.logs.remove(&key).is_some();
            if act == Act::Partly(0) {
                state.faults.cut = true;
                return Ok(Changed::Done);
            }
            removed |= state.host.derived.remove(name).is_some();
            Ok(if removed {
                Changed::Done
            } else {
                Changed::Already
            })
        })
    }

    fn start(&self, spec: &JailSpec, _stop: &dyn Fn() -> bool) -> Result<Changed, HostError> {
        self.changing("start", &spec.name, |state, act| {
            let key = self.key(&spec.name);
            let old = state.host.running.get(&key);
            if old.is_some_and(|jail| jail.phase == Phase::Running) {
                return Ok(Changed::Already);
            }
            // The remains of a killed start or a dead jail are cleared away first.
            state.host.running.remove(&key);
            let _changed = derive(state, spec);
            let refused = |why: String| HostError::Start {
                jail: spec.name.clone(),
                why,
            };
            let mounted = |state: &State, at: &Path, dataset: &str| {
                state
                    .mounts
                    .top(at)
                    .is_some_and(|mount| mount.source == dataset)
            };
            if !mounted(state, &spec.root, spec.dataset.as_str()) {
                return Err(refused(format!("{} is not mounted", spec.dataset)));
            }
            let mut uses = vec![spec.dataset.to_string()];
            if let Some(base) = &spec.base {
                if !mounted(state, &base.path, base.dataset.as_str()) {
                    return Err(refused(format!("{} is not mounted", base.dataset)));
                }
                uses.push(base.dataset.to_string());
            }
            state.host.next += 1;
            let mut jail = Running {
                phase: Phase::Starting,
                base: spec.base.as_ref().map(|base| base.dataset.to_string()),
                id: state.host.next,
                uses,
            };
            state.host.logs.insert(key.clone(), ());
            if act == Act::Partly(0) {
                state.faults.cut = true;
            } else {
                jail.phase = Phase::Running;
            }
            state.host.running.insert(key, jail);
            Ok(Changed::Done)
        })
    }

    fn stop(&self, name: &JailName, _how: Stopping<'_>) -> Result<Changed, HostError> {
        self.changing("stop", name, |state, act| {
            let Some(jail) = state.host.running.get_mut(&self.key(name)) else {
                return Ok(Changed::Already);
            };
            match jail.phase {
                Phase::Stopped => return Ok(Changed::Already),
                Phase::Died | Phase::Left => {
                    jail.phase = Phase::Stopped;
                    return Ok(Changed::Already);
                }
                Phase::Running | Phase::Starting => {}
            }
            jail.phase = if act == Act::Partly(0) {
                Phase::Left
            } else {
                Phase::Stopped
            };
            state.faults.cut |= act == Act::Partly(0);
            Ok(Changed::Done)
        })
    }

    /// Runs a simulated command: `exit N` ends with that code, `kill -N $$` by that signal; `nosuch` does not exist,
    /// and `/` cannot be executed; every other command succeeds.
    fn exec(&self, spec: &JailSpec, request: &ExecRequest) -> Result<i32, HostError> {
        let runs = self.reading(|state| {
            let jail = state.host.running.get(&self.key(&spec.name));
            jail.is_some_and(|jail| jail.phase == Phase::Running)
        })?;
        if !runs {
            return Err(HostError::NotRunning(spec.name.clone()));
        }
        let words = request.command.last().map_or("", String::as_str);
        let words: Vec<&str> = words.split(' ').collect();
        Ok(match words[..] {
            ["exit", code] => code.parse().unwrap_or_default(),
            ["kill", signal, "$$"] => 128 - signal.parse().unwrap_or(0),
            ["nosuch"] => 127,
            ["/"] => 126,
            _ => 0,
        })
    }

    /// Runs a simulated command: `exit N` ends with that code; every other one succeeds.
    fn probe(
        &self,
        spec: &JailSpec,
        command: &[String],
        _limit: Duration,
        _stop: &dyn Fn() -> bool,
    ) -> Result<(), HostError> {
        self.exec(spec, &ExecRequest::default())?;
        let code = command.last().and_then(|word| word.strip_prefix("exit "));
        match code {
            Some(code) if code != "0" => {
                let how = format!("exited with status {code}");
                Err(HostError::unwell(&spec.name, command, &how, ""))
            }
            Some(_) | None => Ok(()),
        }
    }
    /// Runs a simulated command: `exit N` ends with that code; any other writes its words into a file of the world.
    fn run_in_world(&self, request: &WorldRequest<'_>) -> Result<WorldRun, HostError> {
        let words = request.command.join(" ");
        let code = match words.strip_prefix("exit ") {
            Some(code) => code.parse().ok(),
            None => {
                let at = request.root.join("usr/bin/changed");
                std::fs::write(&at, &words).map_err(|source| HostError::File {
                    action: "write",
                    path: at,
                    source,
                })?;
                if words == "files" {
                    // Each update writes another text.
                    let at = request.root.join("etc/changed");
                    let old = std::fs::read(&at).map_or(0, |text| text.len());
                    let text = "x".repeat(old + 1);
                    std::fs::write(&at, text).map_err(|source| HostError::File {
                        action: "write",
                        path: at,
                        source,
                    })?;
                }
                Some(0)
            }
        };
        Ok(WorldRun {
            code,
            said: Vec::new(),
            log: PathBuf::from("/dev/null"),
        })
    }

    fn clear_world(&self, _generation: GenerationId) -> Result<Changed, HostError> {
        Ok(Changed::Already)
    }
}
