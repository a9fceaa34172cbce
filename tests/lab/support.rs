//! What the tests look with. Nothing here goes through ezz's own library.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start programs as a user would"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The built binary.
pub const EZZ: &str = env!("CARGO_BIN_EXE_ezz");

/// The site of every test.
pub const SITE: &str = "tank/ezz";

/// Where it is mounted.
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

    /// It ended with 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// It ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// It was refused as design.md §8 wants it: this exit code, these words, a hint, no panic.
    #[track_caller]
    pub fn refused(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.stderr.contains(words), "no {words:?} in {self:#?}");
        assert!(self.stderr.contains("hint: "), "no hint in {self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }

    /// Standard output as JSON lines.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {self:#?}"));
        self.stdout.lines().map(parse).collect()
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

/// One property of a dataset, from `zfs get`.
#[track_caller]
pub fn property(dataset: &str, name: &str) -> String {
    let got = sh(&format!("zfs get -Hpo value '{name}' '{dataset}'")).ok();
    got.stdout.trim_end().to_owned()
}

/// Where a property was set: `local`, `received`, `default` …
#[track_caller]
pub fn source(dataset: &str, name: &str) -> String {
    let got = sh(&format!("zfs get -Hpo source '{name}' '{dataset}'")).ok();
    got.stdout.trim_end().to_owned()
}

/// A property that holds JSON.
#[track_caller]
pub fn json_property(dataset: &str, name: &str) -> Value {
    let text = property(dataset, name);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name} of {dataset}: {e}: {text}"))
}

pub fn exists(dataset: &str) -> bool {
    sh(&format!("zfs list -H '{dataset}' >/dev/null 2>&1")).code == 0
}

/// All datasets and snapshots of the pool `tank` with all their `ezz:*` properties, guids and
/// holds: two of these are equal if nothing was changed.
pub fn everything() -> String {
    everything_of("tank")
}

/// The same of another pool.
pub fn everything_of(pool: &str) -> String {
    let mut all = sh(&format!(
        "zfs list -Hr -t all -o name,guid,origin,quota,readonly,canmount,mountpoint {pool}"
    ))
    .ok()
    .stdout;
    let properties = sh(&format!(
        "zfs get -Hrpo name,property,value,source -s local,received all {pool}"
    ))
    .ok();
    for line in properties
        .stdout
        .lines()
        .filter(|line| line.contains("ezz:"))
    {
        let _ = writeln!(all, "{line}");
    }
    all += &sh(&format!(
        "zfs list -Hr -t snapshot -o name {pool} | xargs -r zfs holds -H | cut -f1,2"
    ))
    .ok()
    .stdout;
    all
}

/// The mounts of a pool: dataset and directory.
pub fn mounts_of(pool: &str) -> Vec<String> {
    let script = format!("awk '$3 == \"zfs\" {{ print $1, $2 }}' /proc/mounts | grep '^{pool}/'");
    let mut lines: Vec<String> = sh(&script).stdout.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Makes the site of a bare pool.
#[track_caller]
pub fn init() {
    ezz(&["init", SITE]).ok();
}

/// Installs a small made-up world as the next generation: seconds matter here.
#[track_caller]
pub fn install_small() {
    let tar = small_world(Path::new("/tmp/small"), "12.1");
    ezz(&["install", tar.to_str().expect("a plain path")]).ok();
}

/// A made-up world of the Debian profile: a few files, right in shape. Returns its tar.
#[track_caller]
pub fn small_world(directory: &Path, version: &str) -> PathBuf {
    let tar = directory.with_extension("tar");
    sh(&format!(
        "set -e; rm -rf {d} {t}; mkdir -p {d}; cd {d}
         mkdir -p usr/bin usr/sbin usr/lib usr/lib64 usr/share etc var/lib/dpkg var/lib/apt root home tmp dev proc sys run opt srv mnt media boot var/log var/cache var/tmp
         ln -s usr/bin bin; ln -s usr/sbin sbin; ln -s usr/lib lib; ln -s usr/lib64 lib64
         cp /bin/busybox usr/bin/sh 2>/dev/null || cp /bin/sh usr/bin/sh
         cp usr/bin/sh usr/bin/dash; cp usr/bin/sh usr/bin/dpkg; cp usr/bin/sh usr/bin/su; chmod 4755 usr/bin/su
         printf 'ID=debian\\nVERSION_ID=\"{major}\"\\nPRETTY_NAME=\"Debian\"\\n' >usr/lib/os-release
         ln -s ../usr/lib/os-release etc/os-release
         echo {version} >etc/debian_version
         echo 'root:x:0:0:root:/root:/bin/sh' >etc/passwd
         echo 'root:*:19000:0:99999:7:::' >etc/shadow; chmod 640 etc/shadow
         : >var/lib/dpkg/status; chmod 1777 tmp var/tmp
         tar -cf {t} .",
        d = directory.display(),
        t = tar.display(),
        major = version.split('.').next().unwrap_or(version),
    ))
    .ok();
    tar
}

/// Waits until something is so.
#[track_caller]
pub fn wait_for(what: &str, seconds: u64, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !so() {
        assert!(Instant::now() < deadline, "waited {seconds} s for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The mount table's line for a directory, if something is mounted there.
pub fn mounted_at(directory: &str) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    let found = table
        .lines()
        .rev()
        .find(|line| line.split(' ').nth(4) == Some(directory));
    found.map(str::to_owned)
}

/// Processes whose command line has this text, from /proc.
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
