//! One hostile jail tries every attack that ezz was once vulnerable to, and the usual ones. Then it is deleted, and the
//! host is as before: files, devices, settings of the kernel, mounts, cgroups, listeners, processes, pool.
//!
//! The module of its kind checks what exactly stops each attack (`accounts`, `nested`, `security`, `hostile`,
//! `bare::texts`, `bare::flags`, `bare::waiting`). This test checks that nothing of it remains on the host.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use super::nested;
use crate::support::*;

/// The parts of the host that a jail must not affect.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    parts: Vec<(&'static str, BTreeSet<String>)>,
}

impl Host {
    fn look() -> Host {
        let lines = |script: &str| -> BTreeSet<String> {
            sh(script).ok().stdout.lines().map(str::to_owned).collect()
        };
        // The kernel's own threads start and end.
        let processes = "for p in /proc/[0-9]*; do [ -s $p/cmdline ] && \
            echo $(sed -n 's/^Uid:\\t\\([0-9]*\\).*/\\1/p' $p/status) $(tr '\\0' ' ' <$p/cmdline); \
            done 2>/dev/null | grep -v -e ' sh -c ' -e ' sed ' -e ' tr ' | sort; true";
        let parts = vec![
            (
                "devices",
                lines("find /dev -xdev -printf '%p %y %m %U %G %l\\n'"),
            ),
            (
                "files",
                lines(
                    "find /etc /srv /usr/local/sbin /usr/local/bin -xdev \\( -type d -printf '%p %m %U %G\\n' -o -printf '%p %y %m %U %G %s %T@ %l\\n' \\); \
                     find / /root /usr/bin /usr/sbin -xdev -maxdepth 1 ! -name tmp \\( -type d -printf '%p %m %U %G\\n' -o -printf '%p %y %m %U %G %s %l\\n' \\)",
                ),
            ),
            (
                "settings",
                lines(
                    "cd /proc/sys && for f in kernel/hostname kernel/core_pattern kernel/modprobe \
                     kernel/sysrq vm/overcommit_memory net/ipv4/ip_forward net/ipv4/ip_unprivileged_port_start \
                     fs/suid_dumpable user/max_user_namespaces; do echo $f $(cat $f 2>&1); done",
                ),
            ),
            ("mounts", lines("cut -d' ' -f4-6 /proc/self/mountinfo")),
            ("cgroups", lines("find /sys/fs/cgroup -type d")),
            (
                "listeners",
                lines(
                    "awk '$4 == \"0A\" {print $2}' /proc/net/tcp /proc/net/tcp6; awk '{print $8}' /proc/net/unix",
                ),
            ),
            ("processes", lines(processes)),
            ("run", conditions().lines().map(str::to_owned).collect()),
            (
                "pool",
                everything()
                    .lines()
                    .filter(|line| !line.contains("ezz:epoch"))
                    .map(str::to_owned)
                    .collect(),
            ),
        ];
        Host { parts }
    }

    /// Checks that the host is as before, except for the release that the test itself installs.
    #[track_caller]
    fn same_as(&self, before: &Host) {
        for ((part, then), (_, now)) in before.parts.iter().zip(&self.parts) {
            let others = |line: &&String| !of_the_release(line);
            let gone: Vec<_> = then.difference(now).filter(others).collect();
            let new: Vec<_> = now.difference(then).filter(others).collect();
            assert!(
                gone.is_empty() && new.is_empty(),
                "{part} of the host: gone {gone:#?}, new {new:#?}"
            );
        }
    }
}

/// Runs a script as root of the hostile jail.
fn evil(script: &str) -> Ended {
    ezz(&["exec", "evil", "--", "sh", "-c", script])
}

/// Runs ezz, and checks that no attack makes the administrator wait.
#[track_caller]
fn soon(args: &[&str]) -> Ended {
    let begun = Instant::now();
    let ended = ezz(args);
    assert!(begun.elapsed() < Duration::from_secs(60), "{ended:#?}");
    ended
}

/// Attacks by the numbers of accounts.
fn accounts() {
    let added = "printf 'www:x:4294967295:4294967295::/:/bin/sh\\nfar:x:65536:65536::/:/bin/sh\\n' >>/etc/passwd";
    evil(added).ok();
    for user in ["www", "far", "4294967295", "0:4294967295"] {
        let ended = ezz(&[
            "exec",
            "evil",
            "--user",
            user,
            "--",
            "touch",
            "/root/as-host",
        ]);
        assert_ne!(ended.code, 0, "{ended:#?}");
    }
    assert!(!fs::exists("/srv/jails/evil/root/as-host").expect("looked"));
}

/// Attacks on devices, kernel, processes, files and mounts of the host.
fn host() {
    for attempt in [
        "echo x >/proc/sys/kernel/core_pattern",
        "echo evil >/proc/sys/kernel/hostname",
        "echo b >/proc/sysrq-trigger",
        "mknod /root/disk b 98 0 && cat /root/disk",
        "mount -t zfs tank/ezz /mnt",
        "mount --bind /basejail /mnt && touch /mnt/usr/bin/new",
        "mount -o remount,bind,rw /basejail",
        "umount /basejail && touch /usr/new",
        "cp /bin/ls /usr/bin/su",
        "[ -c /dev/zfs ]",
        "cd /.zfs/snapshot && ls -d *",
        "mkdir /sys/fs/cgroup/../../../cgroup/evil && ls -d /cgroup/evil",
        "insmod /root/evil.ko",
        "swapoff -a && dmesg -C",
    ] {
        let ended = evil(attempt);
        assert_ne!(ended.code, 0, "{attempt}: {ended:#?}");
    }
    assert_eq!(evil("ls -A /proc/spl").ok().stdout, "");
}

/// Attacks on services of the host, from a jail that was created without a network.
fn network() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = tcp.local_addr().expect("bound").port();
    let name = SocketAddr::from_abstract_name("ezz-of-the-host").expect("a name");
    let _unix = UnixListener::bind_addr(&name).expect("bound");
    let reached = evil(&format!(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2>/dev/null && echo reached; \
         grep -c ezz-of-the-host /proc/net/unix"
    ));
    assert_eq!(reached.stdout, "0\n", "{reached:#?}");
}

/// Programs that run as their owner, after an administrator has opened the directory and mounted by zfs(8).
fn set_user_id() {
    evil("cp /bin/bash /home/x && chmod 4755 /home/x && chmod 755 /home").ok();
    sh("chmod 755 /srv/jails; mount -o remount,bind,suid,dev /srv/jails/evil").ok();
    soon(&["restart", "evil"]).ok();
    let became = sh("setpriv --reuid 65534 --regid 65534 --clear-groups \
        sh -c \"/srv/jails/evil/home/x -p -c 'id -u'\"");
    assert_eq!(became.stdout, "65534\n", "{became:#?}");
    sh("chmod 700 /srv/jails").ok();
}

/// Links and other objects in the places where ezz writes at a start.
fn planted() {
    evil(
        "cd /etc && rm -rf hosts hostname resolv.conf machine-id && ln -s /../../../etc/hosts hosts && \
         ln -s ../../../../../../root/from-evil hostname && mkfifo resolv.conf && ln -s /etc/machine-id machine-id; \
         mv /root /root.old; ln -s ../../../../../root /root; rm -rf /tmp; ln -s ../../../../../etc /tmp",
    )
    .ok();
    // The jail may fail to start; that harms only itself.
    let _ = soon(&["restart", "evil"]);
    let _ = soon(&["stop", "evil"]);
    sh("cd /srv/jails/evil && rm -f etc/hosts etc/hostname etc/resolv.conf etc/machine-id root tmp && \
        mv root.old root && mkdir -m 1777 tmp && touch etc/hostname")
    .ok();
    soon(&["start", "evil"]).ok();
}

/// Texts that a merge reads.
fn texts() {
    let hostile = "i=0; while [ $i -lt 4000 ]; do echo $i$i; i=$((i + 7)); done >/etc/many; \
        while [ $(stat -c %s /etc/many) -lt 900000 ]; do cat /etc/many /etc/many >/tmp/m; cp /tmp/m /etc/many; done; \
        truncate -s 4000000000000000000 /etc/sparse";
    evil(hostile).ok();
    soon(&["stop", "evil"]).ok();
    let merged = soon(&["merge", "evil"]).exits(3);
    let said = format!("{}{}", merged.stdout, merged.stderr);
    for name in ["many", "sparse"] {
        let line = format!("CONFLICT etc/{name}");
        assert!(said.contains(&line), "{merged:#?}");
    }
    soon(&["start", "evil"]).ok();
}

#[test]
fn a_hostile_jail_leaves_nothing_on_the_host() {
    // Two generations that differ in files which the hostile jail will fill.
    let texts_of = |n: u32| {
        format!(
            "for f in many sparse; do echo release {n} >\"$EZZ_ROOT\"/etc/$f; done; chmod 644 \"$EZZ_ROOT\"/etc/many"
        )
    };
    ezz(&["update", "--run", "/bin/sh", "-c", &texts_of(1)]).ok();
    ezz(&["create", "good", "--network", "none", "--start"]).ok();
    let before = Host::look();
    let warned = ezz(&["create", "warned"]).ok();
    assert!(
        warned.stderr.contains("share this host's network"),
        "{warned:#?}"
    );
    ezz(&["delete", "warned", "--yes"]).ok();
    let silent = ezz(&[
        "create",
        "evil",
        "--network",
        "none",
        "--nested-userns",
        "on",
        "--start",
    ])
    .ok();
    assert!(!silent.stderr.contains("network"), "{silent:#?}");

    accounts();
    host();
    network();
    set_user_id();
    planted();
    nested::attack("evil");
    soon(&["restart", "evil"]).ok();
    ezz(&["update", "--run", "/bin/sh", "-c", &texts_of(2)]).ok();
    texts();
    ezz(&["rollback"]).ok();

    // The other jail is not affected.
    ezz(&["exec", "good", "--", "true"]).ok();
    nested::attack("evil");
    soon(&["delete", "evil", "--yes"]).ok();
    ezz(&["world", "prune", "--dry-run"]).ok();
    ezz(&["doctor"]).ok();
    Host::look().same_as(&before);
}

/// Returns whether a line belongs to the update of this test.
fn of_the_release(line: &str) -> bool {
    [
        "basejail/3",
        "newjail/3",
        "ezz:track:",
        "ezz:swaps:",
        "ezz:served",
        "ezz:seq",
        "/srv/jails/.cache",
        "basejail/tracks",
    ]
    .iter()
    .any(|of| line.contains(of))
}
