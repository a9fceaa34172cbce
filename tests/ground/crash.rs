//! Every command that changes something is cut off before, within and after each of its calls: by a kill, a power cut
//! or an error. Two ways continue from the same state: the command is run again, or `ezz doctor --repair` is run first.
//! All invariants hold at each moment, after the repair nothing is unfinished, and the command ends as if nothing had
//! happened.

use std::collections::BTreeSet;

use crate::sim::invariants::{Ledger, settled};
use crate::sim::machine::Saved;
use crate::sim::{Death, Dump, Fault, SimMachine, When};

/// What happens to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Kill,
    /// The power is cut, and the system mounts nothing by itself afterwards.
    PowerCut,
    /// The power is cut, and the system runs `zfs mount -a` at boot.
    PowerCutAndMount,
    /// One call fails, and the command handles the error.
    Error,
    /// One call fails, and so do all later ones.
    Errors,
}

const BLOWS: [Blow; 5] = [
    Blow::Kill,
    Blow::PowerCut,
    Blow::PowerCutAndMount,
    Blow::Error,
    Blow::Errors,
];

impl Blow {
    fn death(self) -> Death {
        match self {
            Blow::Kill | Blow::PowerCut | Blow::PowerCutAndMount => Death::Kill,
            Blow::Error => Death::Error,
            Blow::Errors => Death::Errors,
        }
    }

    /// The moments at which it strikes; of two that leave the same state, one is enough.
    fn moments(self) -> &'static [When] {
        match self {
            Blow::Kill | Blow::Error => &[When::Before, When::After],
            Blow::PowerCut | Blow::PowerCutAndMount => &[When::After],
            Blow::Errors => &[When::Before],
        }
    }

    fn ends_within(self) -> bool {
        matches!(self, Blow::Kill | Blow::PowerCut)
    }

    fn cuts_power(self) -> bool {
        matches!(self, Blow::PowerCut | Blow::PowerCutAndMount)
    }
}

/// A command, and a machine that is prepared for it.
struct Scenario<'a> {
    machine: &'a SimMachine,
    command: &'a [&'a str],
    /// Whether the end of running the command twice is as good: each `install` adds another generation.
    repeats: bool,
    /// Whether the command leaves derived files to a repair; both ways end with one then.
    repaired: bool,
    /// The blows to try.
    blows: &'a [Blow],
}

/// The faults that the crash test has found.
struct Findings {
    list: Vec<String>,
    points: usize,
}

impl Scenario<'_> {
    fn run(&self) -> Findings {
        let m = self.machine;
        let before = m.save();
        let mut found = Findings {
            list: Vec::new(),
            points: 0,
        };
        m.ezz(self.command).ok();
        let calls = m.state().faults.calls;
        let trace = m.state().faults.trace.clone();
        if self.repaired {
            m.ezz(&["doctor", "--repair"]).ok();
        }
        let mut wanted = vec![Dump::of(m)];
        if self.repeats {
            m.ezz(self.command).ok();
            wanted.push(Dump::of(m));
        }
        assert!(calls > 0, "{:?} changes nothing", self.command);
        for call in 1..=calls {
            for &blow in self.blows {
                for when in blow.moments() {
                    self.point(&before, call, *when, blow, &wanted, &trace, &mut found);
                }
                for part in 0..if blow.ends_within() { usize::MAX } else { 0 } {
                    if !self.point(
                        &before,
                        call,
                        When::Within(part),
                        blow,
                        &wanted,
                        &trace,
                        &mut found,
                    ) {
                        break;
                    }
                }
            }
        }
        found
    }

    /// Tests one cut. Returns whether the call had parts left when it was cut.
    #[expect(clippy::too_many_arguments, reason = "all that makes one point")]
    fn point(
        &self,
        before: &Saved,
        call: usize,
        when: When,
        blow: Blow,
        wanted: &[Dump],
        trace: &[String],
        found: &mut Findings,
    ) -> bool {
        let m = self.machine;
        m.restore(before);
        let mut ledger = Ledger::default();
        ledger.always(m);
        let fault = Fault {
            call,
            when,
            death: blow.death(),
        };
        let ended = m.attempt(Some(fault), self.command);
        if matches!(when, When::Within(_)) && !m.state().faults.cut {
            return false;
        }
        found.points += 1;
        let at = format!(
            "{:?}, {blow:?} {when:?} {call} ({})",
            self.command,
            trace.get(call - 1).map_or("?", String::as_str)
        );
        let mut complain = |what: String| found.list.push(format!("{at}: {what}"));
        if !m.state().faults.struck {
            complain("the fault never came".to_owned());
        }
        if ended.code == Some(70) {
            complain(format!("a bug: {:?}", ended.err));
        }
        match blow {
            Blow::PowerCut => m.power_cut(false),
            Blow::PowerCutAndMount => m.power_cut(true),
            Blow::Kill | Blow::Error | Blow::Errors => {}
        }
        if matches!(when, When::Within(_)) {
            // A program that is stopped by a signal has not raised the epoch yet (zfs/CONTRACT.md).
            ledger.accept(m);
        }
        for broken in ledger.always(m) {
            complain(format!("at once: {broken}"));
        }
        let crashed = m.save();
        let same = |m: &SimMachine| -> Option<String> {
            let now = without_runtime(Dump::of(m), blow);
            let differences: Vec<String> = wanted
                .iter()
                .map(|wanted| without_runtime(wanted.clone(), blow).difference(&now))
                .collect();
            let equal = differences.iter().any(String::is_empty);
            (!equal).then(|| format!("it does not end as it should:\n{}", differences[0]))
        };

        // The first way: the same command again.
        let mut again = ledger.clone();
        let ended = m.ezz(self.command);
        for broken in again.always(m) {
            complain(format!("again: {broken}"));
        }
        if blow.cuts_power() || self.repaired {
            // Restores what the power cut took from jails that are not part of the command.
            m.ezz(&["doctor", "--repair"]);
        }
        if let Some(what) = same(m) {
            complain(format!(
                "again (exit {:?}, {:?}): {what}",
                ended.code, ended.err
            ));
        }

        // The second way: a repair first.
        m.restore(&crashed);
        let mut repaired = ledger;
        let repair = m.ezz(&["doctor", "--repair"]);
        for broken in repaired.always(m) {
            complain(format!("repaired: {broken}"));
        }
        let bare = m.state().pool.own_is_site();
        if bare && repair.code != Some(0) {
            complain(format!(
                "the repair ends with {:?}: {:?}",
                repair.code,
                [repair.out, repair.err]
            ));
        }
        for broken in settled(m, &BTreeSet::new()) {
            complain(format!("repaired: {broken}"));
        }
        let ended = m.ezz(self.command);
        for broken in repaired.always(m) {
            complain(format!("repaired, again: {broken}"));
        }
        if self.repaired {
            m.ezz(&["doctor", "--repair"]);
        }
        if let Some(what) = same(m) {
            complain(format!(
                "repaired, again (exit {:?}, {:?}): {what}",
                ended.code, ended.err
            ));
        }
        true
    }
}

/// Returns a dump without what runs, after a power cut: nothing runs then that the command did not start.
fn without_runtime(mut dump: Dump, blow: Blow) -> Dump {
    if blow.cuts_power() {
        dump.0.retain(|line| !line.starts_with("host "));
    }
    dump
}

#[track_caller]
fn survives(machine: &SimMachine, command: &[&str]) {
    check(machine, command, false, false);
}

#[track_caller]
fn check(machine: &SimMachine, command: &[&str], repeats: bool, repaired: bool) {
    held(&Scenario {
        machine,
        command,
        repeats,
        repaired,
        blows: &BLOWS,
    });
}

#[track_caller]
fn held(scenario: &Scenario<'_>) {
    let found = scenario.run();
    let shown: Vec<&str> = found.list.iter().take(40).map(String::as_str).collect();
    assert!(
        found.list.is_empty(),
        "{} findings at {} points:\n{}",
        found.list.len(),
        found.points,
        shown.join("\n")
    );
    assert!(found.points > 0);
}

/// Runs a test on a pool whose programs can clone, and on one whose programs cannot.
fn both(test: impl Fn(bool)) {
    test(true);
    test(false);
}

#[test]
fn init() {
    both(|clone| {
        let m = SimMachine::bare(clone);
        let directory = m.directory().display().to_string();
        survives(&m, &["init", "tank/ezz", "--directory", &directory]);
    });
}

#[test]
fn install() {
    both(|clone| {
        let m = SimMachine::site(clone);
        let world = m.world("12.1").display().to_string();
        check(&m, &["install", &world], true, false);
    });
}

#[test]
fn install_a_second_one() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        m.ezz(&["create", "a", "--start"]).ok();
        let world = m.world("12.2").display().to_string();
        check(&m, &["install", &world, "--track", "next"], true, false);
    });
}

#[test]
fn create() {
    both(|clone| survives(&SimMachine::installed(clone), &["create", "a"]));
}

#[test]
fn create_thick() {
    both(|clone| survives(&SimMachine::installed(clone), &["create", "a", "--thick"]));
}

#[test]
fn create_with_a_quota() {
    both(|clone| {
        survives(
            &SimMachine::installed(clone),
            &["create", "a", "--quota", "1G"],
        )
    });
}

#[test]
fn create_many() {
    both(|clone| {
        survives(
            &SimMachine::installed(clone),
            &["create", "a{1..3}", "--quota", "1G"],
        )
    });
}

#[test]
fn create_and_start() {
    both(|clone| {
        survives(
            &SimMachine::installed(clone),
            &["create", "a", "b", "--start"],
        )
    });
}

#[test]
fn clone() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        m.ezz(&["create", "a", "--label", "x=1"]).ok();
        survives(&m, &["clone", "a", "b", "c"]);
    });
}

#[test]
fn clone_with_a_quota_and_start() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        m.ezz(&["create", "a", "--quota", "1G", "--start"]).ok();
        survives(&m, &["clone", "a", "b", "--start"]);
    });
}

/// One jail is removed, one changes, one is restarted, two are new, and one of these is a clone.
#[test]
fn apply() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        let file = tempfile::NamedTempFile::new().expect("made");
        let path = file.path().display().to_string();
        let write = |text: &str| std::fs::write(file.path(), text).expect("written");
        write("fleet = \"f\"\n[[jail]]\nnames = [\"a\", \"b\", \"old\"]\nstate = \"running\"\n");
        m.ezz(&["apply", &path]).ok();
        write(
            "fleet = \"f\"\n[defaults]\nlabels = { x = \"1\" }\n[[jail]]\nname = \"a\"\nstate = \"stopped\"\nquota = \"1G\"
             [[jail]]\nname = \"b\"\nhostname = \"other\"\nstate = \"running\"\n[[jail]]\nname = \"c\"\nstate = \"running\"\ndepends = [\"b\"]
             [[jail]]\nname = \"d\"\nclone = \"b\"\nquota = \"1G\"\n",
        );
        survives(&m, &["apply", &path, "--prune", "--yes", "--restart"]);
    });
}

#[test]
fn delete_of_a_clone() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        m.ezz(&["create", "a"]).ok();
        m.ezz(&["clone", "a", "b", "c"]).ok();
        survives(&m, &["delete", "b", "c", "--yes"]);
    });
}

#[test]
fn start() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        m.ezz(&["create", "a", "b"]).ok();
        survives(&m, &["start", "a", "b"]);
    });
}

#[test]
fn stop() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        m.ezz(&["create", "a", "b", "--start"]).ok();
        survives(&m, &["stop", "--all"]);
    });
}

#[test]
fn restart() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        m.ezz(&["create", "a", "b", "--start"]).ok();
        survives(&m, &["restart", "a", "b"]);
    });
}

#[test]
fn delete() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        m.ezz(&["create", "a", "b", "c", "--start"]).ok();
        survives(&m, &["delete", "a", "b", "--yes"]);
    });
}

#[test]
fn track_create() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        survives(&m, &["track", "create", "x", "--generation", "1"]);
    });
}

#[test]
fn track_delete() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        m.ezz(&["track", "create", "x", "--generation", "1"]).ok();
        survives(&m, &["track", "delete", "x"]);
    });
}

/// Returns a machine with every kind of debris at once.
fn ailing(clone: bool) -> SimMachine {
    let m = SimMachine::installed(clone);
    m.ezz(&["create", "ready", "gone", "--start"]).ok();
    m.ezz(&["stop", "gone"]).ok();
    let cut = |call, when, command: &[&str]| {
        let death = Death::Kill;
        let ended = m.attempt(Some(Fault { call, when, death }), command);
        assert_eq!(ended.code, None, "{ended:#?}");
    };
    // Each is cut off after what the next command would clear first.
    let world = m.world("12.2").display().to_string();
    cut(5, When::After, &["install", &world, "--track", "next"]);
    cut(3, When::After, &["create", "unfinished", "--quota", "1G"]);
    if clone {
        cut(1, When::Within(3), &["create", "x", "y"]);
    } else {
        cut(3, When::Within(1), &["create", "x", "y"]);
    }
    let mut guard = m.state();
    let state = &mut *guard;
    for name in ["ready", "gone"] {
        let at = m.directory().join(name);
        if name == "gone" {
            state
                .mounts
                .unmount(&mut state.pool, &at)
                .expect("it is mounted");
            state
                .pool
                .destroy("tank/ezz/jails/gone")
                .expect("nothing is below it");
        }
    }
    state
        .pool
        .release("tank/ezz/newjail/1@1", "ezz")
        .expect("it is held");
    drop(guard);
    std::fs::remove_file(m.directory().join("basejail/tracks/main")).expect("it is there");
    m
}

#[test]
fn repair() {
    both(|clone| survives(&ailing(clone), &["doctor", "--repair"]));
}

#[test]
fn repair_of_what_is_derived() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        m.ezz(&["create", "a", "b"]).ok();
        m.power_cut(false);
        survives(&m, &["doctor", "--repair", "--derived"]);
    });
}

#[test]
fn adopt() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        m.ezz(&["create", "a"]).ok();
        m.power_cut(false);
        {
            let mut state = m.state();
            state.host = Default::default();
            state.pool.replicate("tank/ezz", "tank/sent");
            state.pool.forget("tank/ezz");
            state.pool.replicate("tank/sent", "tank/ezz");
            state.pool.forget("tank/sent");
        }
        m.ezz(&["create", "b"]).exits(1);
        check(&m, &["doctor", "--adopt"], false, true);
    });
}

/// Returns a machine with a second generation, and two jails that run on the first.
fn with_two(clone: bool) -> SimMachine {
    let m = SimMachine::installed(clone);
    let world = m.world("12.2").display().to_string();
    m.ezz(&["install", &world]).ok();
    m.ezz(&["create", "a", "b", "--start"]).ok();
    m
}

#[test]
fn rollback() {
    both(|clone| survives(&with_two(clone), &["rollback", "--to", "2"]));
}

#[test]
fn converge() {
    both(|clone| {
        // Generations whose own files differ, and generations whose own files do not.
        let all = &[Blow::Kill, Blow::Error, Blow::Errors][..];
        for (moves, blows) in [
            (&["rollback", "--to", "2"][..], &all[..1]),
            (&["update", "--run", "new"], all),
        ] {
            let m = with_two(clone);
            m.ezz(moves).ok();
            // No power cuts: after one, no jail runs that would have to be restarted.
            held(&Scenario {
                machine: &m,
                command: &["converge", "--batch", "1"],
                repeats: false,
                repaired: false,
                blows,
            });
        }
    });
}

/// As at boot: the own files of jails are merged to their track's generation before they start.
#[test]
fn start_of_what_is_behind() {
    // A merge does not depend on how jails were cloned.
    let m = with_two(true);
    m.ezz(&["delete", "b", "--yes"]).ok();
    m.ezz(&["stop", "--all"]).ok();
    m.ezz(&["rollback", "--to", "2"]).ok();
    // No errors: after one the jail starts on its old generation, which is another outcome.
    held(&Scenario {
        machine: &m,
        command: &["start", "--all"],
        repeats: false,
        repaired: false,
        blows: &[Blow::Kill, Blow::PowerCut, Blow::PowerCutAndMount],
    });
}

#[test]
fn rollout() {
    both(|clone| {
        let m = with_two(clone);
        if !clone {
            // A generation with the same own files, because the other way takes long.
            m.ezz(&["world", "delete", "2", "--yes"]).ok();
            m.ezz(&["update", "--stage-only", "--run", "new"]).ok();
        }
        let swap = if clone { "2" } else { "3" };
        // No errors: a jail that cannot be restarted turns the roll-out back, which is another outcome.
        held(&Scenario {
            machine: &m,
            command: &["update", "--swap", swap, "--restart", "--canary", "b"],
            repeats: false,
            repaired: false,
            blows: &[Blow::Kill],
        });
    });
}

#[test]
fn update() {
    both(|clone| {
        let m = SimMachine::installed(clone);
        check(&m, &["update", "--run", "new"], true, false);
    });
}

#[test]
fn prune() {
    both(|clone| {
        let m = with_two(clone);
        for words in ["one", "two", "three"] {
            m.ezz(&["update", "--run", words]).ok();
        }
        m.ezz(&["converge"]).ok();
        survives(&m, &["world", "prune", "--yes"]);
    });
}
