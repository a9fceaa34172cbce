//! Tests of the scripts of vagrant/machines that run beside Vagrant, with stand-ins for the programs that they call.
//! They do not show what happens inside the machines: see vagrant/machines/README.md.

#![cfg(target_os = "linux")]
#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so by a panic, and starts programs as a user would"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

const MACHINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vagrant/machines");

/// A directory for the stand-ins, the log of their calls, and the files that the scripts write.
struct Stage(TempDir);

impl Stage {
    fn new() -> Self {
        let stage = Stage(TempDir::new().expect("a directory"));
        fs::create_dir(stage.0.path().join("bin")).expect("made");
        stage
    }

    /// Returns the names in the tar archive that a machine received.
    fn uploaded(&self) -> String {
        let list = Command::new("tar")
            .arg("-tf")
            .arg(self.0.path().join("log.tar"))
            .output()
            .expect("tar");
        String::from_utf8_lossy(&list.stdout).into_owned()
    }

    /// Writes a stand-in as a shell script.
    fn program(&self, name: &str, script: &str) {
        executable(
            &self.0.path().join("bin").join(name),
            &format!("#!/bin/sh\n{script}\n"),
        );
    }

    /// Runs a script with these settings; returns its exit status, its output, and the logged calls of stand-ins.
    fn run(&self, words: &[&str], settings: &[(&str, &str)]) -> (i32, String, Vec<String>) {
        let at = self.0.path();
        let log = at.join("log");
        let _ = fs::remove_file(&log);
        let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", at.join("bin").display());
        let output = Command::new(words[0])
            .args(&words[1..])
            .env("PATH", path)
            .env("LOG", &log)
            .env("CARGO_TARGET_DIR", at.join("target"))
            .env_remove("EZZ_VM_ZFS")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        let said = [output.stdout, output.stderr].concat();
        let calls = fs::read_to_string(&log).unwrap_or_default();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&said).into_owned(),
            calls.lines().map(str::to_owned).collect(),
        )
    }
}

fn executable(at: &Path, content: &str) {
    fs::create_dir_all(at.parent().expect("it has one")).expect("made");
    fs::write(at, content).expect("written");
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).expect("set");
}

/// A stand-in for Vagrant: it logs its words, accepts what is uploaded, and exits with STATUS if the words contain
/// FAIL. The call that asks whether the machine is ready is not logged.
const VAGRANT: &str = r#"case "$*" in *"sudo -n true"*) exit 0 ;; esac
echo "$*" >>"$LOG"
case "$1" in upload) cp "$2" "$LOG.tar" ;; ssh) echo "said by the machine" ;; esac
case "$*" in *"$FAIL"*) exit "$STATUS" ;; esac"#;

fn stage() -> Stage {
    let stage = Stage::new();
    stage.program("vagrant", VAGRANT);
    executable(
        &stage
            .0
            .path()
            .join("target/x86_64-unknown-freebsd/release/ezz"),
        "#!/bin/sh\n",
    );
    stage
}

/// Returns the calls without paths.
fn shown(calls: &[String]) -> String {
    let short = |call: &String| match call.split_once(" --no-tty -c sudo -n ") {
        Some((_, command)) => format!("in it: {command}"),
        None if call.starts_with("upload") => "upload".to_owned(),
        None => call.clone(),
    };
    calls.iter().map(short).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_freebsd_machine_is_made_anew_and_rebooted_between_both_halves() {
    let stage = stage();
    let run = format!("{MACHINES}/run");
    let nothing = [("FAIL", "nothing"), ("STATUS", "0")];
    let (status, said, calls) = stage.run(&[&run, "freebsd14"], &nothing);
    assert_eq!(status, 0, "{said}");
    assert_eq!(
        shown(&calls),
        "--version
destroy --force freebsd14
up freebsd14 --no-provision
upload
provision freebsd14
reload freebsd14 --no-provision
in it: sh /var/ezz/freebsd.sh first
reload freebsd14 --no-provision
in it: sh /var/ezz/freebsd.sh booted
halt freebsd14"
    );
    let report = stage.0.path().join("target/vm/freebsd14/report.txt");
    let report = fs::read_to_string(report).expect("a report");
    assert_eq!(report.matches("said by the machine").count(), 2, "{report}");
    let list = stage.uploaded();
    let mut names: Vec<&str> = list
        .lines()
        .map(|name| name.trim_start_matches("./"))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "",
            "ezz",
            "freebsd.sh",
            "rc.d",
            "scenarios.sh",
            "scenarios/",
            "scenarios/checks.sh",
            "scenarios/host.sh",
            "scenarios/jails.sh",
            "scenarios/worlds.sh"
        ]
    );
}

#[test]
fn a_debian_machine_gets_the_source_and_runs_the_tests_last() {
    let stage = stage();
    let run = format!("{MACHINES}/run");
    let settings = [("FAIL", "nothing"), ("STATUS", "0"), ("EZZ_VM_ZFS", "2.4")];
    let (status, said, calls) = stage.run(&[&run, "debian13", "bare::init"], &settings);
    assert_eq!(status, 0, "{said}");
    let script = "EZZ_VM_ZFS=2.4 bash /usr/src/ezz/vagrant/machines/debian.sh";
    let wanted = format!(
        "reload debian13 --no-provision
in it: {script} first
reload debian13 --no-provision
in it: {script} booted
in it: {script} tests bare::init
halt debian13"
    );
    assert!(shown(&calls).ends_with(&wanted), "{calls:#?}");
    let list = stage.uploaded();
    for name in [
        "Cargo.lock",
        "vagrant/machines/debian.sh",
        "tests/lab/golden",
    ] {
        assert!(
            list.lines()
                .any(|line| line.trim_start_matches("./") == name),
            "{name}"
        );
    }
    assert!(!list.contains("target/"), "{list}");
}

/// 1 means that something failed in the machine, 2 that the machine could not be reached.
#[test]
fn the_exit_status_is_that_of_the_scenarios() {
    let stage = stage();
    let run = format!("{MACHINES}/run");
    for (fail, code, wanted, words) in [
        ("sh first", "1", 1, "first has ended with 1"),
        ("sh booted", "3", 1, "booted has ended with 3"),
        ("sh first", "255", 2, "does not answer any more"),
        (
            "provision freebsd15",
            "1",
            2,
            "`vagrant provision freebsd15` has failed",
        ),
        ("up freebsd15", "1", 2, "has failed"),
    ] {
        let settings = [("FAIL", fail), ("STATUS", code)];
        let (status, said, calls) = stage.run(&[&run, "freebsd15"], &settings);
        assert_eq!(status, wanted, "{fail}: {said}");
        assert!(said.contains(words), "{fail}: {said}");
        // After a failed half the next one is still tried, but nothing after a failed machine.
        let booted = calls.iter().any(|call| call.ends_with("booted"));
        assert_eq!(booted, wanted == 1, "{fail}: {calls:#?}");
    }
    let settings = [("FAIL", "nothing"), ("STATUS", "0")];
    assert_eq!(stage.run(&[&run, "openbsd"], &settings).0, 2);
    fs::remove_file(
        stage
            .0
            .path()
            .join("target/x86_64-unknown-freebsd/release/ezz"),
    )
    .expect("gone");
    let (status, said, calls) = stage.run(&[&run, "freebsd15"], &settings);
    assert_eq!((status, calls.len()), (2, 0), "{said}");
    assert!(said.contains("`make freebsd` makes it"), "{said}");
}

/// `kern.disks` names all disks, the newest first; gpart(8) fails on one without partitions, fstyp(8) on one without
/// a file system (FreeBSD sbin/sysctl, lib/geom/part, usr.sbin/fstyp).
#[test]
fn on_freebsd_the_disk_for_the_pool_is_the_one_that_is_empty() {
    let stage = Stage::new();
    stage.program("sysctl", r#"[ "$*" = "-n kern.disks" ] && echo "$DISKS""#);
    stage.program("gpart", r#"[ "$*" = "show vtbd0" ]"#);
    stage.program("fstyp", r#"[ "$*" = "/dev/vtbd2" ] && echo cd9660"#);
    let script = format!("{MACHINES}/freebsd.sh");
    for (disks, code, words) in [
        ("vtbd1 vtbd0", 0, "/dev/vtbd1\n"),
        ("vtbd2 cd0 vtbd1 vtbd0", 0, "/dev/vtbd1\n"),
        ("vtbd0", 2, "there are 0: none"),
        ("ada1 vtbd1 vtbd0", 2, "there are 2: /dev/ada1 /dev/vtbd1"),
    ] {
        let (status, said, _) = stage.run(&["sh", &script, "disk"], &[("DISKS", disks)]);
        assert_eq!(status, code, "{disks}: {said}");
        assert!(said.contains(words), "{disks}: {said}");
    }
}
