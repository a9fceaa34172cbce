//! The simulated machine as commands see it, and what a test can do to it.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ezz::cli::{Machine, run_on};
use ezz::config::{Config, ConfigError};
use ezz::model::Flags;
use ezz::ports::{Host, Zfs};
use ezz::report::Sink;
use ezz::world::Cancel;
use ezz::world::text::{InProcess, Texts};

use super::fault::{Fault, Faults, Killed};
use super::files;
use super::host::{HostState, SimHost};
use super::mounts::Mounts;
use super::pool::{Pool, parent};
use super::zfs::SimZfs;
use super::{SITE, world};

/// A host other than the simulated one, on the simulated pool.
pub trait Outside: fmt::Debug + Send + Sync {
    /// Returns the host of a site.
    fn host(&self, site_id: &str, site_directory: &Path) -> Box<dyn Host>;

    /// Returns whether a jail or a mount of that host needs what is mounted at a directory.
    fn uses(&self, at: &Path) -> bool;
}

/// The state of a machine, without its files.
#[derive(Debug, Clone)]
pub struct State {
    pub pool: Pool,
    pub mounts: Mounts,
    pub host: HostState,
    pub faults: Faults,
    /// Datasets in which a process that is not ezz's has a file open.
    pub open: BTreeSet<String>,
    pub outside: Option<Arc<dyn Outside>>,
}

impl State {
    /// Returns whether one of the mounts of a dataset cannot be unmounted.
    pub fn used(&self, source: &str) -> bool {
        let mut targets = self.mounts.table.iter();
        self.open.contains(source)
            || self.host.uses(source)
            || self.outside.as_ref().is_some_and(|outside| {
                targets.any(|mount| mount.source == source && outside.uses(&mount.target))
            })
    }

    /// Commits a new track, as another ezz whose locks are elsewhere would.
    pub fn another_commits(&mut self) {
        let epoch = |pool: &Pool| -> Option<u64> {
            let own = &pool.datasets.get(SITE)?.own;
            own.local.get("ezz:epoch")?.parse().ok()
        };
        let Some(epoch) = epoch(&self.pool) else {
            return;
        };
        let track = format!("ezz:track:o{epoch}");
        let base = format!("{SITE}/basejail");
        let done = self
            .pool
            .set(&base, &track, "{\"current\":null,\"previous\":null}");
        done.expect("a site has it");
        let done = self.pool.set(SITE, "ezz:epoch", &(epoch + 1).to_string());
        done.expect("it is there");
    }

    /// Removes the files of destroyed datasets; it runs after each call.
    pub fn settle(&mut self) {
        self.mounts.sweep(&self.pool);
    }
}

/// The output of a command.
#[derive(Debug, Default)]
struct Printed(Mutex<Vec<(bool, String)>>);

impl Sink for Printed {
    fn out(&self, line: &str) {
        self.lines().push((true, line.to_owned()));
    }

    fn err(&self, line: &str) {
        self.lines().push((false, line.to_owned()));
    }
}

impl Printed {
    fn lines(&self) -> MutexGuard<'_, Vec<(bool, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub command: String,
    /// The exit code; none if it was killed.
    pub code: Option<u8>,
    pub out: Vec<String>,
    pub err: Vec<String>,
}

impl Ended {
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub fn exits(self, code: u8) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// A simulated machine.
#[derive(Debug)]
pub struct SimMachine {
    pub state: Arc<Mutex<State>>,
    root: tempfile::TempDir,
    worlds: tempfile::TempDir,
    run_directory: PathBuf,
    printed: &'static Printed,
    /// Whether its commands have received a signal.
    pub signal: Arc<AtomicBool>,
    /// The number of commands that it has run.
    commands: AtomicU32,
    /// How many jails its commands work on at once. With one, calls come in the same order each time.
    pub jobs: AtomicUsize,
}

/// A saved state of a machine, to restore it from.
#[derive(Debug)]
pub struct Saved {
    state: State,
    files: tempfile::TempDir,
}

impl Machine for SimMachine {
    fn zfs(&self) -> Box<dyn Zfs> {
        Box::new(SimZfs {
            state: Arc::clone(&self.state),
        })
    }

    fn host(&self, site_id: &str, site_directory: &Path) -> Box<dyn Host> {
        if let Some(outside) = &self.state().outside {
            return outside.host(site_id, site_directory);
        }
        Box::new(SimHost {
            state: Arc::clone(&self.state),
            site: site_id.to_owned(),
        })
    }

    /// Returns a number greater than any process id of Linux or FreeBSD, and another one for each command: what a
    /// killed command left belongs to no process.
    fn process_id(&self) -> u32 {
        i32::MAX as u32 - self.commands.load(Ordering::Relaxed) % 1_000_000
    }

    fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }

    fn run_directory(&self) -> &Path {
        &self.run_directory
    }

    fn configuration(&self) -> Result<Config, ConfigError> {
        Ok(Config::default())
    }

    fn log(&self, _line: &str) {}

    fn now(&self) -> String {
        "2026-01-01T00:00:00Z".to_owned()
    }

    fn user(&self) -> String {
        "root".to_owned()
    }

    fn cancel(&self) -> Cancel {
        Cancel::new(Arc::clone(&self.signal))
    }

    fn texts(&self) -> Box<dyn Texts> {
        Box::new(InProcess)
    }

    fn sink(&self) -> &'static dyn Sink {
        self.printed
    }
}

/// Creates a temporary directory, in memory if possible: thousands of small trees are copied.
fn temporary() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("a temporary directory")
}

impl SimMachine {
    /// Creates a machine with an empty pool `tank`.
    pub fn bare(sync_clone: bool) -> SimMachine {
        let root = temporary();
        let mounts = Mounts::new(root.path());
        let state = State {
            pool: Pool::new("tank", sync_clone),
            mounts,
            host: HostState::default(),
            faults: Faults::default(),
            open: BTreeSet::new(),
            outside: None,
        };
        let machine = SimMachine {
            state: Arc::new(Mutex::new(state)),
            run_directory: root.path().join("run"),
            root,
            worlds: temporary(),
            printed: Box::leak(Box::default()),
            signal: Arc::default(),
            commands: AtomicU32::new(0),
            jobs: AtomicUsize::new(1),
        };
        for version in ["12.1", "12.2"] {
            world::make(&machine.world(version), version);
        }
        machine
    }

    /// Creates a machine with a site.
    pub fn site(sync_clone: bool) -> SimMachine {
        let machine = SimMachine::bare(sync_clone);
        let directory = machine.directory().display().to_string();
        machine.ezz(&["init", SITE, "--directory", &directory]).ok();
        machine
    }

    /// Creates a machine with a site and a world in it.
    pub fn installed(sync_clone: bool) -> SimMachine {
        let machine = SimMachine::site(sync_clone);
        let world = machine.world("12.1").display().to_string();
        machine.ezz(&["install", &world]).ok();
        machine
    }

    /// Returns the site directory.
    pub fn directory(&self) -> PathBuf {
        self.root.path().join("srv/jails")
    }

    /// Returns the path of a made-up world: `12.1` or `12.2`.
    pub fn world(&self, version: &str) -> PathBuf {
        self.worlds.path().join(version)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn ezz(&self, arguments: &[&str]) -> Ended {
        self.attempt(None, arguments)
    }

    /// Runs a command with a fault. The state shows whether it struck.
    #[track_caller]
    pub fn attempt(&self, fault: Option<Fault>, arguments: &[&str]) -> Ended {
        self.run(
            Faults {
                armed: fault,
                ..Faults::default()
            },
            arguments,
        )
    }

    /// Runs a command; another ezz commits before its n-th change.
    #[track_caller]
    pub fn disturbed(&self, call: usize, arguments: &[&str]) -> Ended {
        self.run(
            Faults {
                meanwhile: Some(call),
                ..Faults::default()
            },
            arguments,
        )
    }

    /// Runs a command; before each of these reads the pool is replaced by another.
    #[track_caller]
    pub fn overtaken(&self, becomes: Vec<(usize, Pool)>, arguments: &[&str]) -> Ended {
        self.run(
            Faults {
                becomes,
                ..Faults::default()
            },
            arguments,
        )
    }

    #[track_caller]
    fn run(&self, faults: Faults, arguments: &[&str]) -> Ended {
        self.commands.fetch_add(1, Ordering::Relaxed);
        self.state().faults = faults;
        let done = self.line(arguments);
        done.unwrap_or_else(|usage| panic!("{arguments:?}: {usage}"))
    }

    /// Runs a command line, which may be invalid.
    ///
    /// # Errors The message of clap, for which ezz exits with 2.
    pub fn line(&self, arguments: &[&str]) -> Result<Ended, String> {
        self.printed.lines().clear();
        let line = ["--wait", "0"].into_iter().chain(arguments.iter().copied());
        let line: Vec<&str> = line.collect();
        let done = catch_unwind(AssertUnwindSafe(|| run_on(self, line.iter().copied())));
        let code = match done {
            Ok(Ok(exit)) => Some(exit.code()),
            Ok(Err(usage)) => return Err(usage.to_string()),
            Err(payload) => {
                killed(payload);
                None
            }
        };
        let lines = std::mem::take(&mut *self.printed.lines());
        let of = |wanted: bool| {
            let own = lines.iter().filter(|(out, _)| *out == wanted);
            own.map(|(_, line)| line.clone()).collect()
        };
        let mut state = self.state();
        state.faults.armed = None;
        state.faults.meanwhile = None;
        state.faults.dead = None;
        Ok(Ended {
            command: format!("ezz {}", arguments.join(" ")),
            code,
            out: of(true),
            err: of(false),
        })
    }

    /// Cuts the power and boots: nothing is mounted and nothing runs. With `mount_all` the system mounts what
    /// `zfs mount -a` mounts.
    pub fn power_cut(&self, mount_all: bool) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.open.clear();
        state.mounts.drop_all(&mut state.pool);
        state.host.drop_all();
        files::remove(&self.run_directory).expect("it is ours");
        if mount_all {
            boot(state);
        }
    }

    /// Saves the present state of the machine.
    pub fn save(&self) -> Saved {
        let files = temporary();
        files::copy(self.root.path(), &files.path().join("root")).expect("a copy");
        let state = self.state().clone();
        Saved { state, files }
    }

    /// Restores a saved state.
    pub fn restore(&self, saved: &Saved) {
        *self.state() = saved.state.clone();
        for entry in std::fs::read_dir(self.root.path())
            .expect("readable")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                files::remove(&path).expect("it is ours");
            } else {
                std::fs::remove_file(&path).expect("it is ours");
            }
        }
        let from = saved.files.path().join("root");
        for entry in std::fs::read_dir(&from).expect("readable").flatten() {
            let name = entry.file_name();
            files::copy(&from.join(&name), &self.root.path().join(&name)).expect("a copy");
        }
    }
}

/// Mounts what `zfs mount -a` mounts: datasets with a mountpoint and `canmount=on`, parents first.
fn boot(state: &mut State) {
    let mut all: Vec<(PathBuf, String)> = state
        .pool
        .datasets
        .keys()
        .filter(|name| {
            let canmount = state.pool.datasets[*name].own.local.get("canmount");
            let received = state.pool.datasets[*name].own.received.get("canmount");
            canmount.or(received).is_none_or(|value| value == "on")
        })
        .map(|name| (PathBuf::from(state.pool.mountpoint(name)), name.clone()))
        // The pool's own root would be mounted at /tank of the real host.
        .filter(|(at, name)| at.is_absolute() && parent(name).is_some())
        .collect();
    all.sort();
    for (at, name) in all {
        let is = |property: &str, wanted: &str| {
            let found = state.pool.property(&name, property);
            found.is_some_and(|(value, _)| value == wanted)
        };
        // zfs(8) mounts by the properties.
        let flags = Flags {
            read_only: is("readonly", "on"),
            nosuid: is("setuid", "off"),
            nodev: is("devices", "off"),
            noatime: is("atime", "off"),
        };
        std::fs::create_dir_all(&at).expect("writable");
        let done = state.mounts.mount(&mut state.pool, &name, &at, flags);
        done.expect("it is not mounted yet");
    }
}

/// Continues unwinding unless the panic is the simulated death.
fn killed(payload: Box<dyn Any + Send>) {
    if !payload.is::<Killed>() {
        resume_unwind(payload);
    }
}
