//! Commands that wait for other commands, for answers, or for jails. A signal ends every such wait, and the holder of a
//! lock is named.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs as a user would"
)]

use std::fs::File;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::update::{seen, track, update, versioned};
use crate::support::*;

/// A command that was started.
struct Begun {
    child: Child,
    command: String,
    /// The file with its standard error.
    said: String,
}

impl Begun {
    #[track_caller]
    fn new(args: &[&str]) -> Begun {
        let said = format!("/tmp/said-{}", args.join("-").replace('/', "."));
        let child = Command::new(EZZ)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&said).expect("writable"))
            .spawn()
            .expect("ezz can be started");
        Begun {
            child,
            command: format!("ezz {}", args.join(" ")),
            said,
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).expect("readable")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    /// Waits until the command has printed these words.
    #[track_caller]
    fn until(&mut self, words: &str) {
        wait_for(&format!("{words:?} of {}", self.command), 20, || {
            let ended = self.child.try_wait().expect("a child");
            assert_eq!(ended, None, "{}: {}", self.command, self.said());
            self.said().contains(words)
        });
    }

    /// Returns how the command ends, which must be within two seconds.
    #[track_caller]
    fn ends(mut self) -> Ended {
        let begun = Instant::now();
        while self.child.try_wait().expect("a child").is_none() {
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "{}: {}",
                self.command,
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.waited()
    }

    /// Returns how the command ends.
    fn waited(mut self) -> Ended {
        let status = self.child.wait().expect("a child");
        let mut stdout = Vec::new();
        let mut pipe = self.child.stdout.take().expect("piped");
        pipe.read_to_end(&mut stdout).expect("readable");
        let output = std::process::Output {
            status,
            stdout,
            stderr: self.said().into_bytes(),
        };
        Ended::of(self.command, output)
    }
}

fn lock(name: &str) -> String {
    let id = property(SITE, "ezz:id");
    format!("/run/ezz/{id}-{name}.lock")
}

/// Holds locks like another ezz that could not write its name.
#[track_caller]
fn hold(names: &[String]) -> Vec<Flock<File>> {
    let one = |name: &String| {
        let file = File::create(lock(name)).expect("/run can be written");
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .expect("nobody else has it")
    };
    names.iter().map(one).collect()
}

#[test]
fn a_signal_ends_every_wait_and_nothing_happens_afterwards() {
    versioned();
    ezz(&["create", "a", "--start"]).ok();
    ezz(&["create", "b", "m"]).ok();
    ezz(&["stop", "b"]).ok();
    update("two", &[]).ok();
    assert_eq!(track("main"), (2, Some(1)));
    ezz(&["track", "create", "other", "--generation", "1"]).ok();
    std::fs::write("/tmp/fleet.toml", "fleet = \"f\"\n[[jail]]\nname = \"z\"\n").expect("writable");
    let (before, around_before) = (everything(), conditions());
    let jails: Vec<String> = (0..64).map(|n| format!("jail-{n:02}")).collect();
    let site = "to finish with this site";
    let those = "to finish with these jails";
    let waits: &[(&[&str], &str)] = &[
        (&["start", "b"], those),
        (&["stop", "a"], those),
        (&["restart", "a"], those),
        (&["create", "c"], those),
        (&["clone", "b", "c"], those),
        (&["delete", "b", "--yes"], those),
        (&["apply", "/tmp/fleet.toml"], those),
        (&["merge", "m"], those),
        (&["converge"], those),
        (&["rollback"], site),
        (&["update", "--run", "true"], site),
        (&["update", "--swap", "1"], site),
        (
            &["update", "--swap", "1", "--restart"],
            "to finish with this track's roll-out",
        ),
        (&["install", "/tmp/runnable.tar"], site),
        // A jail of that name would prevent it.
        (&["track", "create", "t"], those),
        (&["track", "delete", "other"], site),
        (&["world", "prune", "--yes"], site),
        (&["doctor", "--repair"], site),
        (&["start", "b", "--dry-run"], those),
    ];
    let mut names = jails.clone();
    names.extend(["site".to_owned(), "rollout-main".to_owned()]);
    let held = hold(&names);
    for (index, (args, whom)) in waits.iter().enumerate() {
        let mut begun = Begun::new(&[&["--wait", "600"], *args].concat());
        let words = format!("waiting for another ezz {whom}");
        let words = words.replace("with these jails", "with ");
        begun.until(words.trim_end());
        // Each verb gets another signal than the one before it.
        let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
        begun.signal(signals[index % 3]);
        let ended = begun.ends().exits(1);
        assert!(
            ended
                .stderr
                .contains("interrupted while waiting for another ezz to finish with")
                && ended.stderr.contains("; nothing was changed"),
            "{ended:#?}"
        );
        assert_eq!(ended.stderr.matches("waiting for").count(), 2, "{ended:#?}");
        assert_eq!(everything(), before, "{args:?}");
    }
    // As JSON, and without messages.
    let begun = Begun::new(&["--json", "--quiet", "--wait", "600", "start", "b"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(begun.said(), "");
    begun.signal(Signal::SIGTERM);
    let ended = begun.ends().exits(1);
    assert_eq!(ended.stdout, "");
    let error: serde_json::Value = serde_json::from_str(ended.stderr.trim()).expect("JSON");
    assert!(
        error["error"]
            .as_str()
            .is_some_and(|text| text.contains("interrupted"))
    );
    // The jails are free, but the site is not.
    drop(held);
    let held = hold(&["site".to_owned()]);
    for args in [
        &["start", "b"][..],
        &["stop", "a"],
        &["create", "c"],
        &["delete", "b", "--yes"],
        &["apply", "/tmp/fleet.toml"],
        &["merge", "m"],
        &["converge", "a"],
    ] {
        let mut begun = Begun::new(&[&["--wait", "600"], args].concat());
        begun.until("waiting for another ezz to finish with this site");
        begun.signal(Signal::SIGTERM);
        let ended = begun.ends().exits(1);
        assert!(ended.stderr.contains("; nothing was changed"), "{ended:#?}");
    }
    drop(held);
    // No lock was left behind.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(everything(), before);
    assert_eq!(conditions(), around_before);
    assert_eq!(seen("a"), "one");
    assert!(processes("--wait 600").is_empty());
    ezz(&["start", "b"]).ok();
}

#[test]
fn the_holder_is_named_and_one_that_is_gone_is_not() {
    versioned();
    ezz(&["create", "web1", "--start"]).ok();
    // A command that is really at work, and does not end.
    let stops = Begun::new(&["stop", "web1"]);
    let jail = "/run/ezz/*-jail-*.lock";
    wait_for("the holder to write its name", 20, || {
        sh(&format!("cat {jail}")).stdout.contains("ezz stop web1")
    });
    stops.signal(Signal::SIGSTOP);
    let pid = stops.child.id();
    let who = format!("pid {pid} (ezz stop web1, since 20");
    let refused = ezz(&["--wait", "2", "start", "web1"]);
    let refused = refused.refused(4, &format!("another ezz is working on these jails: {who}"));
    let waiting = format!("waiting for {who}");
    assert_eq!(refused.stderr.matches(&waiting).count(), 1, "{refused:#?}");
    let hint = format!("`ps -o pid,etime,args -p {pid}`");
    assert!(refused.stderr.contains(&hint), "{refused:#?}");
    let shown = sh(&format!("ps -o pid,etime,args -p {pid}")).ok().stdout;
    assert!(shown.contains("stop web1"), "{shown}");
    let quiet = ezz(&["--quiet", "--json", "--wait", "1", "start", "web1"]).exits(4);
    assert_eq!(quiet.stdout, "");
    assert_eq!(quiet.stderr.lines().count(), 1, "{quiet:#?}");
    let mode = sh(&format!("stat -c %a {jail} | sort -u")).ok().stdout;
    assert_eq!(mode, "600\n");
    // It is killed, and its name stays in the file. Another takes the lock and cannot write its own name.
    stops.signal(Signal::SIGKILL);
    stops.waited();
    let line = sh(&format!("cat {jail}")).ok().stdout;
    assert!(line.contains("ezz stop web1"), "{line}");
    let path = sh(&format!("grep -l 'ezz stop web1' {jail}")).ok().stdout;
    let file = File::open(path.trim()).expect("there");
    let _held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
    let refused = ezz(&["--wait", "0", "start", "web1"]);
    let refused = refused.refused(4, "another ezz is working on these jails\n");
    assert!(!refused.stderr.contains("web1,"), "{refused:#?}");
    drop(_held);
    ezz(&["start", "web1"]).ok();
    ezz(&["stop", "web1"]).ok();
    let left = sh(&format!("cat {jail} /run/ezz/*-site.lock")).ok().stdout;
    assert_eq!(left, "", "a command that ended has left its name");
}

#[test]
fn a_signal_ends_the_wait_for_an_answer_or_a_jail() {
    versioned();
    ezz(&["create", "a", "b", "--start"]).ok();
    // Names that never arrive.
    for args in [&["create", "--names-from", "-"][..], &["apply", "-"]] {
        let begun = Begun::new(args);
        std::thread::sleep(Duration::from_millis(500));
        begun.signal(Signal::SIGINT);
        let ended = begun.ends().exits(1);
        assert!(ended.stderr.contains("interrupted"), "{ended:#?}");
    }
    // A question that is never answered.
    sh("mkfifo /tmp/never").ok();
    // Opened for reading and writing, so that there is no end of the file, which would be an answer.
    let mut asks = spawn(
        "/",
        &format!("script -qec '{EZZ} delete a' /dev/null <>/tmp/never >/tmp/asked 2>&1"),
    );
    wait_for("the question", 20, || {
        std::fs::read_to_string("/tmp/asked").is_ok_and(|text| text.contains("[y/N]"))
    });
    let ours = processes(&format!("{EZZ} delete a"));
    let ours = ours.iter().find(|pid| {
        // script(1) and its shell have these words too, and are left out.
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.starts_with(format!("{EZZ}\0").as_bytes())
    });
    let pid = i32::try_from(*ours.expect("it runs")).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
    wait_for("the end of it", 2, || {
        asks.try_wait().expect("a child").is_some()
    });
    assert!(exists("tank/ezz/jails/a"));
    // A health command that does not end. The jail has moved, and is asked again later.
    update("two", &[]).ok();
    let health = "sleep 301";
    let begun = Begun::new(&["converge", "a", "--health", health, "--health-limit", "600"]);
    wait_for("the health command", 20, || !inside(health).is_empty());
    begun.signal(Signal::SIGTERM);
    let ended = begun.ends().exits(1);
    assert!(
        ended
            .stderr
            .contains("a: restarted, but its health was not checked")
            && ended.stderr.contains("interrupted"),
        "{ended:#?}"
    );
    wait_for("the end of the health command", 5, || {
        inside(health).is_empty()
    });
    assert_eq!((seen("a"), seen("b")), ("two".to_owned(), "one".to_owned()));
    let again = ezz(&["converge", "a", "b", "--batch", "1", "--health", "exit 0"]).ok();
    assert!(
        again.stdout.contains("a: already") && again.stdout.contains("b: restarted"),
        "{again:#?}"
    );
    let none = ezz(&["converge"]).ok();
    assert!(
        none.stderr
            .contains("all running thin jails are up to date"),
        "{none:#?}"
    );
    // The pause between two batches.
    update("three", &[]).ok();
    let mut begun = Begun::new(&["converge", "--batch", "1", "--pause", "600"]);
    wait_for("the first batch to begin", 30, || {
        sh("ls -d /run/ezz/*-moving").code == 0
    });
    wait_for("the first batch", 30, || {
        assert_eq!(
            begun.child.try_wait().expect("a child"),
            None,
            "{}",
            begun.said()
        );
        // The directory is removed with the mark of the last jail.
        sh("ls -d /run/ezz/*-moving").code != 0 && seen("a") == "three"
    });
    begun.signal(Signal::SIGINT);
    let ended = begun.ends().exits(1);
    assert!(ended.stdout.contains("b: left"), "{ended:#?}");
    assert_eq!(seen("b"), "two");
}

/// Returns the processes with this command line, without the ezz that was started with it.
fn inside(words: &str) -> Vec<u32> {
    let all = processes(words).into_iter();
    all.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        !String::from_utf8_lossy(&line).contains("converge")
    })
    .collect()
}

#[test]
fn a_lock_file_that_is_removed_keeps_nobody_waiting() {
    init();
    install_small();
    let held = hold(&["site".to_owned()]);
    let mut begun = Begun::new(&["--wait", "600", "create", "a"]);
    begun.until("waiting for another ezz");
    std::fs::remove_file(lock("site")).expect("it is there");
    begun.waited().ok();
    assert!(exists("tank/ezz/jails/a"));
    // The new file is the lock from now on.
    let refused = {
        let _held = hold(&["site".to_owned()]);
        ezz(&["--wait", "0", "create", "b"])
    };
    refused.refused(4, "another ezz is working on this site");
    drop(held);
    ezz(&["create", "b"]).ok();
}
