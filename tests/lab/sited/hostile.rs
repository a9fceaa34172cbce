//! A jail whose root is an attacker: what it plants at each path that the host reads, writes or mounts on, before the
//! start, while it runs, and in a race. Nothing outside of the jail changes.
//!
//! The jail itself plants these if it can run; otherwise root does so in its directory, which can plant more than a
//! jail could.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::*;

/// A directory of the host that no jail may reach, with files that a jail would like to overwrite, and files of the
/// host itself. `changed` reports any difference in name, mode, owner, size, inode, time of change or content. Files
/// that a start would fill or add in an `etc` are empty or missing there.
const VICTIM: &str = "/srv/victim";

fn victims() {
    sh(&format!(
        "set -e; mkdir -p {VICTIM}/etc {VICTIM}/ssh {VICTIM}/empty; cd {VICTIM}
         for f in file etc/hosts etc/passwd etc/group; do echo secret-of-the-host >$f; done
         : >blank; : >etc/machine-id; mkfifo pipe"
    ))
    .ok();
}

fn host() -> String {
    sh(&format!(
        "cd /; find {VICTIM} /etc/shadow /etc/passwd /etc/hostname /etc/hosts /etc/resolv.conf /etc/machine-id -exec stat -c '%n %f %u %g %s %i %Z' {{}} + 2>/dev/null | sort
         stat -c '%n %f %u %g' /dev/null /dev/zero /dev/tty; ls -A / /srv
         find {VICTIM} /etc/shadow /etc/passwd /etc/hosts -type f -exec cksum {{}} + 2>/dev/null"
    ))
    .stdout
}

/// Returns mounts of the host that are not at a place of ezz.
fn mounts() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|at| !at.starts_with("/srv/jails/") && !at.starts_with("/run/ezz/"))
        .map(str::to_owned)
        .collect()
}

fn root(jail: &str, script: &str) -> Ended {
    ezz(&["exec", jail, "--", "sh", "-c", script])
}

/// Runs a command on a hostile jail, and checks that it ends in time, succeeds or is refused with a message, and
/// reveals nothing.
#[track_caller]
fn tame(args: &[&str]) -> Ended {
    let begun = Instant::now();
    let ended = ezz(args);
    assert!(begun.elapsed() < Duration::from_secs(60), "{ended:#?}");
    assert!([0, 1, 3, 124, 126, 127].contains(&ended.code), "{ended:#?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:#?}");
    assert!(!ended.stdout.contains("secret-of-the-host"), "{ended:#?}");
    assert!(!ended.stderr.contains("secret-of-the-host"), "{ended:#?}");
    assert!(!ended.stderr.contains('\u{1b}'), "{ended:#?}");
    ended
}

/// Places in a jail that the host reads.
const PLACES: [&str; 24] = [
    "etc",
    "etc/hostname",
    "etc/hosts",
    "etc/machine-id",
    "etc/resolv.conf",
    "etc/passwd",
    "etc/group",
    "etc/ssh",
    "etc/ssh/ssh_host_ed25519_key",
    "basejail",
    "proc",
    "dev",
    "sys",
    "run",
    "tmp",
    "root",
    "usr",
    "bin",
    "sbin",
    "sbin/init",
    "lib",
    "lib64",
    ".zfs",
    "home",
];

/// Commands that plant something at a place P.
const PLANTS: [&str; 11] = [
    "ln -s /srv/victim/etc P",
    "ln -s /srv/victim/file P",
    "ln -s /srv/victim/blank P",
    "ln -s ../../../../../../../../srv/victim/etc P",
    "ln -s / P",
    "ln -s P P",
    "ln -s /proc/self/root/srv/victim P",
    "mkfifo P",
    "mkdir -p P/a/b/c",
    "printf '\\033]0;x\\007x' >P",
    "mknod P b 8 0",
];

/// There is one jail for each place, and in each round another plant. By default one round runs, a different one on
/// each series; `EZZ_ROUNDS` sets the number of rounds.
#[test]
fn nothing_planted_before_a_start_leads_out() {
    victims();
    let first = usize::from(!sync_clone());
    let rounds = number("EZZ_ROUNDS").map_or(1, |rounds| rounds as usize);
    let outside = mounts();
    ezz(&["create", "good", "--start"]).ok();
    let before = host();
    for round in first..first + rounds {
        ezz(&["create", "-q", "h{00..23}"]).ok();
        let mut planted = Vec::new();
        for (index, place) in PLACES.into_iter().enumerate() {
            let plant =
                PLANTS[(index + 3 * round) % PLANTS.len()].replace('P', &format!("./{place}"));
            sh(&format!(
                "cd /srv/jails/h{index:02} && rm -rf ./{place} && mkdir -p \"$(dirname ./{place})\" && {plant}"
            ));
            planted.push(plant);
        }
        let started = tame(&["start", "h{00..23}"]);
        let listed = ezz(&["list", "--json"]).ok().json();
        for (index, plant) in planted.iter().enumerate() {
            let name = format!("h{index:02}");
            let jail = listed
                .iter()
                .find(|jail| jail["jail"] == *name || jail["name"] == *name);
            let state = jail.expect("it is listed")["state"].clone();
            if state == "running" {
                tame(&[
                    "exec",
                    &name,
                    "--",
                    "timeout",
                    "5",
                    "cat",
                    "/etc/hostname",
                    "/etc/hosts",
                    "/srv/victim/file",
                ]);
            } else {
                assert!(
                    started.stderr.contains(&format!("cannot start {name}")),
                    "{plant}: {started:#?}"
                );
                let left = sh(&format!("ls -d /run/ezz/*/jails/{name}"));
                assert_ne!(left.code, 0, "{plant}: something of it is left: {left:#?}");
            }
        }
        tame(&["exec", "h05", "--user", "joe", "--", "id"]);
        tame(&["exec", "h06", "--user", "joe", "--", "id"]);
        tame(&["stop", "h{00..23}"]);
        ezz(&["delete", "-q", "h{00..23}", "--yes"]).ok();
        assert_eq!(host(), before, "{planted:#?}");
        assert_eq!(mounts(), outside, "{planted:#?}");
    }
    assert_eq!(ezz(&["exec", "good", "--", "id", "-u"]).ok().stdout, "0\n");
}

/// What a jail's own root can do while it runs, and what the host then does to the jail.
#[test]
fn a_running_jail_plants_in_vain() {
    victims();
    let before = host();
    let outside = mounts();
    let plants: [&str; 14] = [
        "rm -rf /etc/passwd /etc/group; ln -s /srv/victim/etc/passwd /etc/passwd; ln -s /srv/victim/etc/group /etc/group",
        "rm -f /etc/passwd; mkfifo /etc/passwd",
        "head -c 3000000 /dev/zero | tr '\\0' a >/etc/passwd",
        "rm -rf /etc; ln -s /srv/victim/etc /etc",
        "rmdir /basejail 2>/dev/null; mv /basejail /old; ln -s /srv/victim /basejail",
        "mv /proc /p; mv /dev /d; ln -s /srv/victim /dev; ln -s / /proc",
        "rm -f /etc/hostname /etc/hosts /etc/machine-id; for f in hostname hosts machine-id; do ln -s /srv/victim/blank /etc/$f; done",
        "rm -f /etc/resolv.conf; ln -s /srv/victim/blank /etc/resolv.conf",
        "mkdir -p /etc/ssh; rm -f /etc/ssh/ssh_host_*; ln -s /srv/victim/ssh /etc/ssh.new; rm -rf /etc/ssh; mv /etc/ssh.new /etc/ssh",
        "rm -rf /run /tmp 2>/dev/null; ln -s /srv/victim /tmp",
        "d=/deep; for i in $(seq 60); do d=$d/$(printf %060d $i); done; mkdir -p $d 2>/dev/null; cd /deep && i=0; while [ $i -lt 80 ]; do mkdir -p $(printf %0200d $i) && cd $(printf %0200d $i) || break; i=$((i+1)); done; true",
        "chattr +i /etc /etc/hostname /home 2>/dev/null; chattr +a /etc/hosts /root 2>/dev/null; true",
        "ln /basejail/etc/passwd /hard 2>/dev/null; ln /usr/bin/su /hard 2>/dev/null; ls /hard 2>/dev/null && exit 9; true",
        "for k in 'b 8 0' 'c 10 249' 'c 1 1'; do mknod /root/d $k 2>/dev/null && cat /root/d >/dev/null 2>&1 && exit 9; rm -f /root/d; done; true",
    ];
    ezz(&["create", "-q", "h{00..13}", "--start"]).ok();
    for (index, plant) in plants.into_iter().enumerate() {
        let name = format!("h{index:02}");
        let planted = root(&name, plant);
        assert_ne!(planted.code, 9, "{planted:#?}");
        tame(&["exec", &name, "--", "true"]);
        tame(&["exec", &name, "--user", "joe", "--", "id"]);
        assert_eq!(host(), before, "{plant}");
    }
    tame(&["list"]);
    tame(&["restart", "h{00..13}"]);
    tame(&["stop", "h{00..13}"]);
    ezz(&["delete", "-q", "h{00..13}", "--yes"]).ok();
    assert_eq!(host(), before);
    assert_eq!(mounts(), outside);
    assert!(!sh("ls /srv/jails").ok().stdout.contains('h'));
    ezz(&["doctor"]).ok();
}

/// A loop swaps a directory and a link while the host starts, enters and stops the jail, for `EZZ_RACE` seconds each.
#[test]
fn a_race_of_links_is_lost_by_the_jail() {
    victims();
    let before = host();
    let outside = mounts();
    let seconds = number("EZZ_RACE").unwrap_or(4);
    for name in ["etc", "basejail", "dev", "run"] {
        ezz(&["create", "h"]).ok();
        // The swaps are made by root of the host in the jail's directory: faster than by a jail, and before it runs.
        let mut swapper = spawn(
            "/srv/jails/h",
            &format!(
                "mv {name} {name}.dir; ln -s {VICTIM}/etc {name}.link
exec python3 -c '
import os
n=\"{name}\"
while True:
    try:
        os.rename(n+\".dir\", n); os.rename(n, n+\".dir\")
        os.rename(n+\".link\", n); os.rename(n, n+\".link\")
    except OSError: pass
'"
            ),
        );
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut started = 0;
        while Instant::now() < until {
            if tame(&["start", "h"]).code == 0 {
                started += 1;
                tame(&[
                    "exec",
                    "h",
                    "--user",
                    "root",
                    "--",
                    "timeout",
                    "5",
                    "cat",
                    "/etc/hostname",
                ]);
            }
            tame(&["stop", "h"]);
        }
        swapper
            .kill()
            .and_then(|()| swapper.wait().map(drop))
            .expect("it ends");
        ezz(&["delete", "h", "--yes"]).ok();
        assert_eq!(host(), before, "{name}, {started} starts");
        assert_eq!(mounts(), outside, "{name}, {started} starts");
    }
}

/// The jail's processes do not end, are too many, and fill what they can.
#[test]
fn a_jail_that_resists_ends() {
    ezz(&["create", "h", "good", "--start"]).ok();
    // Processes that ignore signals, also in sessions of their own, with open files of the jail.
    root(
        "h",
        "for i in 1 2 3; do setsid sh -c 'trap \"\" TERM INT HUP QUIT; exec 7>/root/open; cd /root; while :; do sleep 1; done' >/dev/null 2>&1 & done; sleep 1",
    )
    .ok();
    let begun = Instant::now();
    ezz(&["delete", "h", "--yes"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(!exists("tank/ezz/jails/h") && !Path::new("/srv/jails/h").exists());

    // A fork bomb is bounded, and the host can still start programs.
    ezz(&["create", "h", "--start"]).ok();
    let limit = sh("cat /sys/fs/cgroup/ezz/*/h/pids.max").ok().stdout;
    assert_eq!(limit, "16384\n");
    sh("echo 60 >$(ls -d /sys/fs/cgroup/ezz/*/h)/pids.max").ok();
    root(
        "h",
        "bomb() { bomb | bomb & sleep 100; }; (bomb) >/dev/null 2>&1 & sleep 2; true",
    );
    let processes = sh("cat /sys/fs/cgroup/ezz/*/h/pids.current").ok().stdout;
    assert!(
        processes
            .trim()
            .parse::<u32>()
            .is_ok_and(|count| count <= 60),
        "{processes}"
    );
    assert_eq!(ezz(&["exec", "good", "--", "id", "-u"]).ok().stdout, "0\n");
    tame(&["exec", "h", "--", "id"]);
    ezz(&["stop", "h"]).ok();
    assert!(
        sh("cat /sys/fs/cgroup/ezz/*/h/pids.current").code != 0,
        "its cgroup is gone"
    );

    // The jail fills its temporary file systems: they are bounded by limits of their own, not by the host's memory.
    ezz(&["start", "h"]).ok();
    for at in ["/run", "/dev", "/dev/shm"] {
        let filled = root(
            "h",
            &format!("head -c 3000M /dev/zero >{at}/fill; ls -s {at}/fill; rm {at}/fill"),
        );
        assert!(
            filled.stderr.contains("No space left"),
            "{at} is not bounded: {filled:#?}"
        );
    }
    ezz(&["delete", "h", "--yes"]).ok();
    ezz(&["doctor"]).ok();
}

/// The output of the first process is kept, up to a size.
#[test]
fn the_log_of_a_console_is_bounded() {
    ezz(&["create", "h", "--start"]).ok();
    // The first process's own streams, which a jail's root can open.
    root(
        "h",
        "head -c 20000000 /dev/zero | tr '\\0' x | fold -w 1000 >/proc/1/fd/1",
    )
    .ok();
    let size = sh("sleep 2; stat -c %s /var/log/ezz/*/h.log").ok().stdout;
    let size: u64 = size.trim().parse().expect("a number");
    assert!(size <= 5 << 20, "{size}");
    let mode = sh("stat -c '%a %u' /var/log/ezz/*/h.log; stat -c '%a %u' /var/log/ezz/*/")
        .ok()
        .stdout;
    assert!(
        mode.lines().last().is_some_and(|line| line == "700 0"),
        "{mode}"
    );
    ezz(&["stop", "h"]).ok();
    ezz(&["delete", "h", "--yes"]).ok();
    assert!(!sh("ls /var/log/ezz/*/").ok().stdout.contains("h.log"));
}

/// The kernel mounts a snapshot on the host when its directory is entered: a jail cannot do that, and such mounts of
/// the administrator do not prevent a delete of the jail.
#[test]
fn snapshot_mounts_do_not_keep_a_jail() {
    ezz(&["create", "h", "t", "--start"]).ok();
    ezz(&["delete", "t", "--yes"]).ok();
    ezz(&["create", "t", "--thick", "--start"]).ok();
    sh("zfs snapshot tank/ezz/jails/h@s tank/ezz/jails/t@s").ok();
    for jail in ["h", "t"] {
        for path in [
            "/.zfs/snapshot/s/etc",
            "/../.zfs/snapshot/s/etc",
            "/basejail/.zfs/snapshot/1/etc",
        ] {
            assert_ne!(root(jail, &format!("ls {path}")).code, 0, "{jail}: {path}");
        }
    }
    let automounts = || sh("grep -c '@' /proc/mounts").stdout.trim().to_owned();
    assert_eq!(automounts(), "0");
    sh("ls /srv/jails/h/.zfs/snapshot/s/etc /srv/jails/t/.zfs/snapshot/s/etc >/dev/null").ok();
    assert_ne!(automounts(), "0");
    ezz(&["stop", "h"]).ok();
    ezz(&["delete", "h", "t", "--yes", "--foreign-snapshots"]).ok();
    assert!(!exists("tank/ezz/jails/h") && !exists("tank/ezz/jails/t"));
    ezz(&["doctor"]).ok();
}
