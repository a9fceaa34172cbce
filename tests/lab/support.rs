//! The means by which tests examine a site. This module must not use ezz's own library.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use crate::worlds::{install_runnable, install_small, small_world};

/// The path of the binary that is tested.
pub const EZZ: &str = env!("CARGO_BIN_EXE_ezz");

/// The site of every test.
pub const SITE: &str = "tank/ezz";

/// The site directory.
pub const DIRECTORY: &str = "/srv/jails";

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    #[expect(dead_code, reason = "shown when a test fails")]
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn of(command: String, output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Ended {
            command,
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Asserts a refusal as design.md §8 requires it: this exit code, these words, a hint, no panic.
    #[track_caller]
    pub fn refused(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.stderr.contains(words), "no {words:?} in {self:#?}");
        assert!(self.stderr.contains("hint: "), "no hint in {self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }

    /// Returns the log that the hint of a failed updater names.
    #[track_caller]
    pub fn log(&self) -> String {
        let at = self.stderr.split("is in ").last().map(str::trim);
        std::fs::read_to_string(at.unwrap_or_default()).expect("the log is where the hint says")
    }

    /// Returns standard output as JSON lines.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        crate::hosts_suite::json::lines(&self.stdout)
    }
}

/// Runs ezz with nothing on standard input.
pub fn ezz(args: &[&str]) -> Ended {
    let output = Command::new(EZZ)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("ezz can be started");
    Ended::of(format!("ezz {}", args.join(" ")), output)
}

/// Runs a shell script as root of the guest.
pub fn sh(script: &str) -> Ended {
    let output = Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .output()
        .expect("sh can be started");
    Ended::of(script.to_owned(), output)
}

/// Starts a shell script in a directory, and does not wait for it.
pub fn spawn(directory: &str, script: &str) -> Child {
    Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir(directory)
        .stdin(Stdio::null())
        .spawn()
        .expect("sh can be started")
}

/// Runs `zfs`, without a shell: starting one takes a tenth of a second in the lab.
pub fn zfs(args: &[&str]) -> Ended {
    let output = Command::new("zfs")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("zfs can be started");
    Ended::of(format!("zfs {}", args.join(" ")), output)
}

/// Returns a property of a dataset, by `zfs get`.
#[track_caller]
pub fn property(dataset: &str, name: &str) -> String {
    let got = zfs(&["get", "-Hpo", "value", name, dataset]).ok();
    got.stdout.trim_end().to_owned()
}

/// Returns the source of a property: `local`, `received`, `default` …
#[track_caller]
pub fn source(dataset: &str, name: &str) -> String {
    let got = zfs(&["get", "-Hpo", "source", name, dataset]).ok();
    got.stdout.trim_end().to_owned()
}

/// Returns a property that contains JSON.
#[track_caller]
pub fn json_property(dataset: &str, name: &str) -> Value {
    let text = property(dataset, name);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name} of {dataset}: {e}: {text}"))
}

pub fn exists(dataset: &str) -> bool {
    zfs(&["list", "-H", dataset]).code == 0
}

/// Exports the pool, which the kernel finds busy for a moment after something was unmounted.
#[track_caller]
pub fn export() {
    sh("i=0; until zpool export tank; do [ $i -lt 20 ] || exit 1; i=$((i + 1)); sleep 0.1; done")
        .ok();
}

/// Returns a variable of the environment, unless it is empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns a variable of the environment as a number.
pub fn number(name: &str) -> Option<u64> {
    variable(name).map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number"))
    })
}

/// Returns whether this kernel's programs can clone: OpenZFS 2.4 and later (tests/lab runs on both).
pub fn sync_clone() -> bool {
    let version = std::fs::read_to_string("/sys/module/zfs/version").expect("OpenZFS is there");
    let mut numbers = version
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(2), Some(4))
}

/// Returns the number of commits of a `create`: without a program that clones, the intent is another one.
pub fn commits_of_create() -> u64 {
    if sync_clone() { 1 } else { 2 }
}

/// Returns all datasets and snapshots of the pool `tank` with all their `ezz:*` properties, guids and holds: two of
/// these texts are equal if nothing was changed.
pub fn everything() -> String {
    everything_of("tank")
}

/// Returns the same for another pool.
pub fn everything_of(pool: &str) -> String {
    let columns = "name,guid,origin,quota,readonly,canmount,mountpoint";
    let mut all = zfs(&["list", "-Hr", "-t", "all", "-o", columns, pool])
        .ok()
        .stdout;
    let names = all.lines().filter_map(|line| line.split('\t').next());
    let snapshots: Vec<String> = names
        .filter(|name| name.contains('@'))
        .map(str::to_owned)
        .collect();
    let columns = "name,property,value,source";
    let sources = "local,received";
    let properties = zfs(&["get", "-Hrpo", columns, "-s", sources, "all", pool]).ok();
    for line in properties.stdout.lines() {
        if line.contains("ezz:") {
            let _ = writeln!(all, "{line}");
        }
    }
    if !snapshots.is_empty() {
        let mut args = vec!["holds", "-H"];
        args.extend(snapshots.iter().map(String::as_str));
        for line in zfs(&args).ok().stdout.lines() {
            let columns: Vec<&str> = line.split('\t').take(2).collect();
            let _ = writeln!(all, "{}", columns.join("\t"));
        }
    }
    all
}

/// Returns the mounts of a pool: dataset and directory.
pub fn mounts_of(pool: &str) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/mounts").expect("proc is mounted");
    let prefix = format!("{pool}/");
    let zfs = table.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (source, target) = (words.next()?, words.next()?);
        let ours = words.next() == Some("zfs") && source.starts_with(&prefix);
        ours.then(|| format!("{source} {target}"))
    });
    let mut lines: Vec<String> = zfs.collect();
    lines.sort();
    lines
}

/// Creates the site of a bare pool.
#[track_caller]
pub fn init() {
    ezz(&["init", SITE]).ok();
}

/// Returns what the host has of the site: mounts of the pool, directories, and everything below /run/ezz, without locks
/// and the directories that generations are mounted in.
pub fn conditions() -> String {
    let table = std::fs::read_to_string("/proc/mounts").expect("proc is mounted");
    let of_the_site = |line: &&str| {
        let words: Vec<&str> = line.split(' ').collect();
        words[2] == "zfs" || words[1].starts_with("/run/ezz") || words[1].starts_with("/srv")
    };
    let shown = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        format!("{} {} {}", words[0], words[1], words[3])
    };
    let mut lines: Vec<String> = table.lines().filter(of_the_site).map(shown).collect();
    let known = |at: &Path| {
        let inside = at.starts_with("/srv/jails/basejail/1") && !at.ends_with("basejail/1");
        inside || at.ends_with("basejail") || at.ends_with("newjail")
    };
    let lock = |at: &Path| at.extension().is_some_and(|end| end == "lock");
    let srv = below(Path::new("/srv"), 3);
    lines.extend(
        srv.iter()
            .filter(|at| !known(at))
            .map(|at| at.display().to_string()),
    );
    let run = below(Path::new("/run/ezz"), usize::MAX);
    lines.extend(
        run.iter()
            .filter(|at| !lock(at))
            .map(|at| at.display().to_string()),
    );
    lines.sort();
    lines.join("\n")
}

/// Returns what is below a directory, without mounts in `/run`, which belong to a jail.
fn below(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let at = entry.path();
        let mounted = at.starts_with("/run") && mounted_at(&at.display().to_string()).is_some();
        if depth > 1 && !mounted && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&at, depth - 1));
        }
        found.push(at);
    }
    found
}

/// Waits until a condition is true.
#[track_caller]
pub fn wait_for(what: &str, seconds: u64, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !so() {
        assert!(Instant::now() < deadline, "waited {seconds} s for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the line of the mount table for a directory, if something is mounted there.
pub fn mounted_at(directory: &str) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    let found = table
        .lines()
        .rev()
        .find(|line| line.split(' ').nth(4) == Some(directory));
    found.map(str::to_owned)
}

/// Does what the unit does at a boot: the guest has just imported the pool, and zfs(8) mounts by properties, which do
/// not mention set-user-ID programs.
pub fn repaired_at_boot() {
    ezz(&["doctor", "--repair", "--derived"]).ok();
}

/// Returns the processes whose command line contains this text, from /proc.
pub fn processes(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("proc is mounted");
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .replace('\0', " ")
            .contains(text)
    })
    .collect()
}
