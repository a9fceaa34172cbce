//! Lanes: many jails at once, on a host that notes what is asked of it and can hold it up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::ThreadId;
use std::time::Duration;

use ezz::model::{Changed, JailState, Killed};
use ezz::name::{GenerationId, JailName};
use ezz::ports::{
    Asked, Check, ExecRequest, Host, HostError, JailSpec, Stopping, WorldRequest, WorldRun,
};
use ezz::profile::Os;

use crate::sim::SimMachine;
use crate::sim::machine::{Ended, Outside};

/// A test that would hang fails after this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the host has noted.
#[derive(Debug, Default)]
struct Noted {
    /// `ask a`, `stop a`, `stopped a`, `start a`, `started a`, in their order.
    events: Vec<String>,
    running: BTreeSet<String>,
    /// Which threads have moved jails, and how many do so now and did at most.
    threads: BTreeMap<String, ThreadId>,
    now: usize,
    most: usize,
    /// Jails whose start or stop fails.
    fails: BTreeSet<String>,
    /// Jails that end at once after their start.
    ends: BTreeSet<String>,
    /// So many jails have to be asked before a stop ends.
    asked_first: usize,
    /// So many starts have to be at work before one of them ends.
    together: usize,
    /// The starts of these jails end only after the jails were looked at that they name.
    waits_for_look_at: BTreeMap<String, String>,
}

/// A host without jails.
#[derive(Debug, Default, Clone)]
struct Notes(Arc<(Mutex<Noted>, Condvar)>);

impl Notes {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.0.lock().expect("no test has failed")
    }

    fn event(&self, what: &str, name: &JailName) {
        self.noted().events.push(format!("{what} {name}"));
        self.0.1.notify_all();
    }

    /// Waits until something is so.
    fn until(&self, what: &str, is: impl Fn(&Noted) -> bool) {
        let wait = self
            .0
            .1
            .wait_timeout_while(self.noted(), PATIENCE, |noted| !is(noted));
        let (noted, _) = wait.expect("no test has failed");
        assert!(is(&noted), "{what}: {noted:#?}");
    }

    fn begin(&self, what: &str, name: &JailName) -> bool {
        let mut noted = self.noted();
        noted.events.push(format!("{what} {name}"));
        noted.now += 1;
        noted.most = noted.most.max(noted.now);
        let id = std::thread::current().id();
        noted.threads.insert(name.to_string(), id);
        let fails = noted.fails.contains(name.as_str());
        self.0.1.notify_all();
        fails
    }

    fn end(&self, what: &str, name: &JailName, runs: bool) {
        let mut noted = self.noted();
        noted.now -= 1;
        noted.events.push(format!("{what} {name}"));
        match runs {
            true => noted.running.insert(name.to_string()),
            false => noted.running.remove(name.as_str()),
        };
        self.0.1.notify_all();
    }

    /// What was noted since this was called last.
    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.noted().events)
    }
}

fn refused(name: &JailName) -> HostError {
    HostError::Start {
        jail: name.clone(),
        why: "the test says so".to_owned(),
    }
}

impl Outside for Notes {
    fn host(&self, _site_id: &str, _site_directory: &Path) -> Box<dyn Host> {
        Box::new(self.clone())
    }

    fn uses(&self, _at: &Path) -> bool {
        false
    }
}

impl Host for Notes {
    fn os(&self) -> Os {
        Os::Linux
    }

    fn checks(&self) -> Vec<Check> {
        Vec::new()
    }

    fn states(&self) -> Result<BTreeMap<JailName, JailState>, HostError> {
        let noted = self.noted();
        let names = noted.running.iter().flat_map(|name| JailName::parse(name));
        let state = JailState::Running { id: 1, base: None };
        Ok(names.map(|name| (name, state.clone())).collect())
    }

    fn write_config(&self, _spec: &JailSpec) -> Result<Changed, HostError> {
        Ok(Changed::Already)
    }

    fn config_drift(&self, _spec: &JailSpec) -> Result<Vec<PathBuf>, HostError> {
        Ok(Vec::new())
    }

    fn derived(&self) -> Result<Vec<JailName>, HostError> {
        Ok(Vec::new())
    }

    fn leftovers(&self) -> Result<Vec<JailName>, HostError> {
        Ok(Vec::new())
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    fn killed(&self, _name: &JailName) -> Vec<Killed> {
        Vec::new()
    }

    fn remove_config(&self, _name: &JailName) -> Result<Changed, HostError> {
        Ok(Changed::Already)
    }

    fn start(&self, spec: &JailSpec, _stop: &dyn Fn() -> bool) -> Result<Changed, HostError> {
        let fails = self.begin("start", &spec.name);
        let together = self.noted().together;
        if together > 0 {
            self.until("starts at once", |noted| noted.most >= together);
        }
        let looked_at = self
            .noted()
            .waits_for_look_at
            .get(spec.name.as_str())
            .cloned();
        if let Some(other) = looked_at {
            let look = format!("look at {other}");
            self.until("a look waits for no worker", |noted| {
                noted.events.contains(&look)
            });
        }
        self.end("started", &spec.name, !fails);
        match fails {
            true => Err(refused(&spec.name)),
            false => Ok(Changed::Done),
        }
    }

    fn settles(&self) -> Duration {
        Duration::from_millis(20)
    }

    fn ensure_up(&self, spec: &JailSpec) -> Result<(), HostError> {
        self.event("look at", &spec.name);
        let mut noted = self.noted();
        if noted.ends.contains(spec.name.as_str()) {
            noted.running.remove(spec.name.as_str());
            return Err(refused(&spec.name));
        }
        Ok(())
    }

    fn ask(&self, name: &JailName, _how: Stopping<'_>) -> Result<Option<Asked>, HostError> {
        self.event("ask", name);
        Ok(None)
    }

    fn stop(&self, name: &JailName, _how: Stopping<'_>) -> Result<Changed, HostError> {
        let fails = self.begin("stop", name);
        let first = self.noted().asked_first;
        let asked = |noted: &Noted| {
            let asked = noted.events.iter().filter(|it| it.starts_with("ask "));
            asked.count() >= first
        };
        self.until("all are asked before one has ended", asked);
        self.end("stopped", name, fails);
        match fails {
            true => Err(refused(name)),
            false => Ok(Changed::Done),
        }
    }

    fn exec(&self, spec: &JailSpec, _request: &ExecRequest) -> Result<i32, HostError> {
        Err(HostError::NotRunning(spec.name.clone()))
    }

    fn probe(
        &self,
        _spec: &JailSpec,
        _command: &[String],
        _limit: Duration,
        _stop: &dyn Fn() -> bool,
    ) -> Result<(), HostError> {
        Ok(())
    }

    fn run_in_world(&self, _request: &WorldRequest<'_>) -> Result<WorldRun, HostError> {
        unreachable!("no world is changed here")
    }

    fn clear_world(&self, _generation: GenerationId) -> Result<Changed, HostError> {
        Ok(Changed::Already)
    }
}

/// A machine with the jails of a fleet, which works on so many at once.
fn machine(jobs: usize, fleet: &str) -> (SimMachine, Notes) {
    let machine = SimMachine::installed(true);
    let notes = Notes::default();
    machine.state().outside = Some(Arc::new(notes.clone()));
    machine.jobs.store(jobs, Ordering::Relaxed);
    let file = tempfile::NamedTempFile::new().expect("made");
    std::fs::write(file.path(), format!("fleet = \"f\"\n{fleet}")).expect("written");
    machine
        .ezz(&["apply", &file.path().display().to_string()])
        .ok();
    notes.events();
    (machine, notes)
}

/// Twenty jails that depend on one.
const WEBS: &str = "[[jail]]\nname = \"db\"\nstate = \"running\"
    [[jail]]\nnames = [\"web{01..20}\"]\nstate = \"running\"\ndepends = [\"db\"]\n";

fn at(events: &[String], event: &str) -> usize {
    let found = events.iter().position(|it| it == event);
    found.unwrap_or_else(|| panic!("no {event:?} in {events:#?}"))
}

fn says(ended: &Ended, words: &str) {
    let all = ended.err.join("\n");
    assert!(all.contains(words), "no {words:?} in {all}");
}

#[test]
fn all_jails_of_a_level_are_asked_before_one_has_ended() {
    let (machine, notes) = machine(3, WEBS);
    {
        let mut noted = notes.noted();
        noted.threads.clear();
        noted.most = 0;
        noted.asked_first = 20;
    }
    let ended = machine.ezz(&["stop", "--all"]).ok();
    assert_eq!(ended.out.len(), 21, "{ended:#?}");
    assert_eq!(ended.out[20], "db: stopped");
    let events = notes.events();
    let asks: Vec<bool> = events.iter().map(|it| it.starts_with("ask web")).collect();
    let stopped = events.iter().position(|it| it.starts_with("stopped "));
    assert_eq!(asks.iter().filter(|it| **it).count(), 20);
    assert!(asks.iter().rposition(|it| *it) < stopped, "{events:#?}");
    // What they depend on is asked when they all have ended.
    let last = events.iter().rposition(|it| it.starts_with("stopped web"));
    assert!(last < Some(at(&events, "ask db")), "{events:#?}");
    let noted = notes.noted();
    let threads: BTreeSet<String> = noted.threads.values().map(|id| format!("{id:?}")).collect();
    assert!(threads.len() <= 3, "{threads:?}");
    assert!(noted.most <= 3, "{}", noted.most);
}

#[test]
fn jails_start_at_once_after_what_they_depend_on() {
    let (machine, notes) = machine(4, WEBS);
    machine.ezz(&["stop", "--all"]).ok();
    notes.events();
    let started = machine.ezz(&["start", "db"]).ok();
    assert_eq!(started.out, ["db: started"]);
    notes.noted().together = 4;
    machine.ezz(&["start", "--all"]).ok();
    assert_eq!(notes.noted().most, 4);
    notes.noted().together = 0;
    machine.ezz(&["stop", "--all"]).ok();
    notes.events();
    let started = machine.ezz(&["start", "--all"]).ok();
    assert_eq!(started.out[0], "db: started");
    let events = notes.events();
    let first = events.iter().position(|it| it.starts_with("start web"));
    assert!(Some(at(&events, "look at db")) < first, "{events:#?}");
}

#[test]
fn a_thousand_jails_make_few_threads() {
    let fleet = "[[jail]]\nnames = [\"j{001..400}\"]\nstate = \"running\"\n";
    let (machine, notes) = machine(6, fleet);
    machine.ezz(&["stop", "--all"]).ok();
    notes.noted().threads.clear();
    notes.noted().most = 0;
    machine.ezz(&["start", "--all"]).ok();
    let noted = notes.noted();
    let threads: BTreeSet<String> = noted.threads.values().map(|id| format!("{id:?}")).collect();
    assert_eq!((noted.threads.len(), noted.running.len()), (400, 400));
    assert!(threads.len() <= 6 && noted.most <= 6, "{threads:?}");
}

#[test]
fn what_depends_on_a_failure_is_skipped_and_named() {
    let fleet = "[[jail]]\nname = \"a\"\n[[jail]]\nname = \"b\"\ndepends = [\"a\"]
        [[jail]]\nname = \"c\"\ndepends = [\"b\"]\n[[jail]]\nnames = [\"d\", \"e\"]\n";
    let (machine, notes) = machine(4, fleet);
    notes.noted().fails.insert("a".to_owned());
    let started = machine.ezz(&["start", "--all"]).exits(3);
    says(&started, "cannot start a");
    says(&started, "b depends on a, which was not started");
    says(&started, "c depends on b, which was not started");
    says(&started, "`ezz start b c` tries both again");
    let mut out = started.out.clone();
    out.sort();
    assert_eq!(out, ["d: started", "e: started"]);
    let events = notes.events();
    assert!(
        !events
            .iter()
            .any(|it| it.ends_with(" b") || it.ends_with(" c"))
    );
    // One that ends at once has not started either.
    notes.noted().fails.clear();
    notes.noted().ends.insert("a".to_owned());
    let started = machine.ezz(&["start", "a", "b"]).exits(1);
    says(&started, "b depends on a, which was not started");
    assert_eq!(notes.events(), ["start a", "started a", "look at a"]);
    notes.noted().ends.clear();
    machine.ezz(&["start", "--all"]).ok();
    // What another needs stays while that one does.
    notes.noted().fails.insert("c".to_owned());
    let stopped = machine.ezz(&["stop", "--all"]).exits(3);
    says(&stopped, "c, which depends on b, was not stopped");
    says(&stopped, "b, which depends on a, was not stopped");
    let running = notes.noted().running.clone();
    assert_eq!(running, ["a", "b", "c"].map(str::to_owned).into());
}

#[test]
fn those_that_depend_on_each_other_are_restarted_together() {
    let fleet = "[[jail]]\nname = \"web\"\nstate = \"running\"\ndepends = [\"db\"]
        [[jail]]\nname = \"db\"\nstate = \"running\"\n[[jail]]\nname = \"x\"\nstate = \"running\"\n";
    let (machine, notes) = machine(4, fleet);
    machine.ezz(&["restart", "db", "web", "x"]).ok();
    let mut events = notes.events();
    events.retain(|it| !it.ends_with(" x") && !it.starts_with("ask "));
    let expected = [
        "stop web",
        "stopped web",
        "stop db",
        "stopped db",
        "start db",
        "started db",
        "look at db",
        "start web",
        "started web",
        "look at web",
    ];
    assert_eq!(events, expected);
    let told = machine.ezz(&["restart", "web", "x", "--dry-run"]).ok();
    assert_eq!(told.out.len(), 4, "{told:#?}");
}

#[test]
fn the_order_is_obeyed_both_ways() {
    let fleet = "[[jail]]\nname = \"a\"\norder = 5\n[[jail]]\nnames = [\"b\", \"c\"]\norder = 1
        [[jail]]\nname = \"d\"\norder = 3\ndepends = [\"a\"]\n";
    let (machine, notes) = machine(4, fleet);
    machine.ezz(&["start", "--all"]).ok();
    let mut events = notes.events();
    events.retain(|it| it.starts_with("start "));
    events[..2].sort();
    assert_eq!(events, ["start b", "start c", "start a", "start d"]);
    machine.ezz(&["restart", "--all"]).ok();
    let mut events = notes.events();
    events.retain(|it| it.starts_with("start "));
    events[..2].sort();
    assert_eq!(events, ["start b", "start c", "start a", "start d"]);
    machine.ezz(&["stop", "--all"]).ok();
    let mut events = notes.events();
    events.retain(|it| it.starts_with("stop "));
    events[2..].sort();
    assert_eq!(events, ["stop d", "stop a", "stop b", "stop c"]);
}

#[test]
fn a_signal_begins_no_lane_and_names_the_jails_that_are_left() {
    let fleet = "[[jail]]\nnames = [\"j{1..6}\"]\n[[jail]]\nname = \"z\"\norder = 9\n";
    let (machine, notes) = machine(2, fleet);
    notes.noted().together = 3;
    let started = std::thread::scope(|scope| {
        let start = scope.spawn(|| machine.ezz(&["start", "--all"]));
        notes.until("two starts", |noted| noted.now == 2);
        machine.signal.store(true, Ordering::Relaxed);
        notes.noted().most = 3;
        notes.0.1.notify_all();
        start.join().expect("it ends")
    });
    machine.signal.store(false, Ordering::Relaxed);
    let started = started.exits(3);
    says(
        &started,
        "interrupted; j3, j4, j5, j6 and z were not started; finished changes are kept",
    );
    let mut out = started.out.clone();
    out.sort();
    assert_eq!(out, ["j1: started", "j2: started"]);
    assert_eq!(notes.noted().running.len(), 2);
    notes.noted().together = 0;
    machine.ezz(&["start", "--all"]).ok();
    // A failure is reported beside the signal.
    machine.ezz(&["stop", "--all"]).ok();
    notes.noted().together = 3;
    notes.noted().most = 0;
    notes.noted().fails.insert("j1".to_owned());
    let started = std::thread::scope(|scope| {
        let start = scope.spawn(|| machine.ezz(&["start", "j1", "j2", "j3"]));
        notes.until("two starts", |noted| noted.now == 2);
        machine.signal.store(true, Ordering::Relaxed);
        notes.noted().most = 3;
        notes.0.1.notify_all();
        start.join().expect("it ends")
    });
    machine.signal.store(false, Ordering::Relaxed);
    let started = started.exits(3);
    says(&started, "cannot start j1");
    says(&started, "interrupted; j3 was not started");
}

/// All workers are busy: a jail that was started is looked at nevertheless.
#[test]
fn a_look_at_a_jail_waits_for_no_worker() {
    let (m, notes) = machine(2, "[[jail]]\nnames = [\"a\", \"b\", \"c\"]\n");
    for busy in ["b", "c"] {
        let mut noted = notes.noted();
        noted
            .waits_for_look_at
            .insert(busy.to_owned(), "a".to_owned());
    }
    m.ezz(&["start", "a", "b", "c"]).ok();
}

/// What the jail needs could not be stopped, so it still runs, and the jail is started again.
#[test]
fn a_failed_stop_leaves_no_other_jail_down() {
    let fleet = "[[jail]]\nname = \"web\"\ndepends = [\"db\"]\n[[jail]]\nname = \"db\"\n";
    let (m, notes) = machine(4, fleet);
    m.ezz(&["start", "db", "web"]).ok();
    notes.events();
    notes.noted().fails.insert("db".to_owned());
    let ended = m.ezz(&["restart", "db", "web"]).exits(3);
    says(&ended, "the test says so");
    let events = notes.events();
    assert!(
        at(&events, "stopped db") < at(&events, "start web"),
        "{events:?}"
    );
    assert!(!events.contains(&"start db".to_owned()), "{events:?}");
}

/// A delete ends with the first failure, and that is the one which is reported.
#[test]
fn a_delete_reports_the_failure_and_not_what_it_kept_from_being_done() {
    let fleet = "[[jail]]\nname = \"web\"\ndepends = [\"db\"]\n[[jail]]\nname = \"db\"\n";
    let (m, notes) = machine(4, fleet);
    m.ezz(&["start", "db", "web"]).ok();
    notes.noted().fails.insert("web".to_owned());
    let ended = m.ezz(&["delete", "db", "web", "--yes"]).exits(1);
    says(&ended, "the test says so");
}
