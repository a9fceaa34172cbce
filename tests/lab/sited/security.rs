//! What a jail can and cannot do to the host and to its basejail.

use crate::support::*;

fn root(jail: &str, script: &str) -> Ended {
    ezz(&["exec", jail, "--", "sh", "-c", script])
}

#[test]
fn the_basejail_cannot_be_changed() {
    ezz(&["create", "a", "--start"]).ok();
    for script in [
        "cp /bin/ls /usr/bin/su",
        "echo x >/basejail/etc/passwd",
        "rm /basejail/usr/bin/su",
        "chmod 777 /basejail/usr/bin",
        "touch /usr/bin/new",
    ] {
        let refused = root("a", script);
        assert_ne!(refused.code, 0, "{refused:#?}");
        assert!(
            refused.stderr.contains("Read-only file system"),
            "{refused:#?}"
        );
    }
    for script in [
        "mount -o remount,rw /basejail",
        "mount -o remount,bind,rw /basejail",
        "umount /basejail",
    ] {
        assert_ne!(root("a", script).code, 0, "{script}");
    }
    sh("zpool sync").ok();
    assert_eq!(property("tank/ezz/basejail/1", "written@1"), "0");
}

#[test]
fn its_root_is_nobody_on_the_host() {
    ezz(&["create", "a", "b", "--start"]).ok();
    let uid = |jail: &str| -> u32 {
        let pid = sh(&format!("cat /run/ezz/*/jails/{jail}/pid")).ok().stdout;
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).expect("runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("Uid:"))
            .expect("Uid");
        line.split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .expect("a number")
    };
    assert!(uid("a") > 65536 && uid("b") > 65536);
    assert!(uid("a").abs_diff(uid("b")) >= 65536, "their ids overlap");
    assert_eq!(root("a", "id -u").ok().stdout, "0\n");
    // On disk the files belong to root, so that another host can run the jail with other ids.
    root(
        "a",
        "touch /root/mine; chown 1000:1000 /root/mine; stat -c %u:%g /root/mine",
    )
    .ok();
    assert_eq!(
        sh("stat -c %u:%g /srv/jails/a/root/mine").ok().stdout,
        "1000:1000\n"
    );
}

#[test]
fn su_and_chown_work_inside() {
    ezz(&["create", "a", "--start"]).ok();
    root(
        "a",
        "echo 'joe:x:1000:1000::/tmp:/bin/sh' >>/etc/passwd; echo joe:x:1000: >>/etc/group
               sed -i 's/^root:[^:]*:/root::/' /etc/shadow",
    )
    .ok();
    let su = ezz(&[
        "exec",
        "a",
        "--user",
        "joe",
        "--",
        "su",
        "root",
        "-c",
        "id -u; touch /root/by-su",
    ]);
    assert_eq!(su.ok().stdout, "0\n");
    let not = ezz(&["exec", "a", "--user", "joe", "--", "touch", "/root/by-joe"]);
    assert_ne!(not.code, 0, "{not:#?}");
}

#[test]
fn a_setuid_file_of_a_jail_is_no_way_to_root_of_the_host() {
    ezz(&["create", "a", "--start"]).ok();
    root(
        "a",
        "cp /bin/bash /home/x && chmod 4755 /home/x && chmod 755 /home",
    )
    .ok();
    // The program is run by a shell: setpriv(1) itself still has its capabilities when it looks its program up.
    let as_nobody = |path: &str| {
        sh(&format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c \"{path} -p -c 'id -u'\""
        ))
    };
    for path in [
        "/srv/jails/a/home/x".to_owned(),
        sh("ls -d /run/ezz/*/jails/a/root")
            .ok()
            .stdout
            .trim()
            .to_owned()
            + "/home/x",
    ] {
        let refused = as_nobody(&path);
        assert_ne!(refused.stdout, "0\n", "{refused:#?}");
        assert_ne!(refused.code, 0, "{path} was reached: {refused:#?}");
    }
    // Also where an administrator has opened the directory: the mount is nosuid.
    sh("chmod 755 /srv/jails").ok();
    let reached = as_nobody("/srv/jails/a/home/x");
    assert_eq!(reached.stdout, "65534\n", "{reached:#?}");
}

#[test]
fn snapshots_and_devices_are_out_of_reach() {
    ezz(&["create", "a", "t", "--start"]).ok();
    sh("ls /proc/spl/kstat/zfs/tank/objset-*").ok();
    for jail in ["a", "t"] {
        assert_eq!(root(jail, "ls -A /.zfs").stdout, "");
        assert_ne!(root(jail, "ls -d /.zfs/snapshot").code, 0);
        assert_eq!(root(jail, "ls -A /basejail/.zfs 2>/dev/null").stdout, "");
        // The kernel's counters there name every dataset of every pool.
        assert_eq!(root(jail, "ls -A /proc/spl").ok().stdout, "");
        let made = root(jail, "mknod /root/sda b 8 0 && cat /root/sda");
        assert_ne!(made.code, 0, "{made:#?}");
        let devices = root(jail, "ls /dev").ok().stdout;
        for device in ["zfs", "mem", "ubda", "kmsg"] {
            assert!(
                !devices.split_whitespace().any(|name| name == device),
                "{devices}"
            );
        }
        assert_ne!(root(jail, "echo c >/proc/sysrq-trigger").code, 0);
        assert_ne!(root(jail, "mount -t tmpfs none /mnt").code, 0);
    }
    assert!(
        sh("zfs list -H -t snapshot -r tank/ezz/jails")
            .ok()
            .stdout
            .is_empty()
    );
}

#[test]
fn a_jail_sees_only_itself() {
    ezz(&["create", "a", "--network", "none"]).ok();
    ezz(&["create", "b"]).ok();
    ezz(&["start", "a", "b"]).ok();
    let processes = root("a", "ls -d /proc/[0-9]* | wc -l").ok().stdout;
    assert!(
        processes.trim().parse::<u32>().expect("a number") < 10,
        "{processes}"
    );
    // The kernel creates a tunnel device (sit0) in every network namespace; it does not lead outside.
    let devices = root("a", "cut -d: -f1 /proc/net/dev | tail -n +3")
        .ok()
        .stdout;
    assert!(
        devices
            .split_whitespace()
            .all(|name| name == "lo" || name == "sit0"),
        "{devices}"
    );
    assert_eq!(root("a", "tail -n +2 /proc/net/route").ok().stdout, "");
    assert_ne!(root("a", "ls /srv/jails/b").code, 0);
    let host = std::process::id();
    assert_ne!(
        root("a", &format!("kill -0 {host}")).code,
        0,
        "it sees a process of the host"
    );
    assert_eq!(root("b", "hostname").ok().stdout, "b\n");
    let groups = sh("cat /sys/fs/cgroup/ezz/*/a/cgroup.procs | wc -l")
        .ok()
        .stdout;
    assert!(
        groups.trim().parse::<u32>().expect("a number") >= 1,
        "it has no cgroup of its own"
    );
}

/// Links at every place that the host reads, writes or mounts on (after vulnerabilities of similar tools): nothing
/// outside the jail changes, and nothing of the host gets into the jail.
#[test]
fn planted_links_lead_nowhere() {
    sh("mkdir -p /tmp/victim/etc && echo secret >/tmp/victim/etc/hostname && echo secret >/tmp/victim/file
        cp -a /tmp/victim /tmp/before").ok();
    let plants = [
        "rm -rf etc && ln -s /tmp/victim/etc etc",
        "rm -f etc/hostname etc/hosts etc/resolv.conf etc/machine-id; for f in hostname hosts resolv.conf machine-id; do ln -s /tmp/victim/file etc/$f; done",
        "rm -f etc/passwd etc/group; ln -s /tmp/victim/file etc/passwd; ln -s /tmp/victim/file etc/group",
        "rm -rf dev && ln -s /tmp/victim dev",
        "rm -rf proc && ln -s /tmp/victim proc",
        "rm -rf sys && ln -s /tmp/victim sys",
        "rm -rf run && ln -s /tmp/victim run",
        "rm -rf basejail && ln -s /tmp/victim basejail",
        "rm -rf tmp && ln -s /tmp/victim tmp",
        "ln -s /tmp/victim sbin.new; rm -f sbin; ln -s /tmp/victim sbin",
    ];
    for (index, plant) in plants.iter().enumerate() {
        let name = format!("h{index}");
        ezz(&["create", &name]).ok();
        sh(&format!("cd /srv/jails/{name} && {plant}")).ok();
        let started = ezz(&["start", &name]);
        assert!(!started.stderr.contains("panicked"), "{started:#?}");
        if started.code == 0 {
            let got = root(&name, "cat /etc/hostname /tmp/victim/file 2>/dev/null");
            assert!(!got.stdout.contains("secret"), "{plant}: {got:#?}");
        }
        ezz(&["exec", &name, "--user", "joe", "--", "id"]);
        ezz(&["stop", &name]).ok();
        ezz(&["delete", &name, "--yes"]).ok();
        let same =
            sh("diff -r --no-dereference /tmp/before /tmp/victim && find /tmp/victim | wc -l");
        assert_eq!(same.ok().stdout, "4\n", "{plant}");
    }
    assert!(
        sh("cut -d' ' -f5 /proc/self/mountinfo")
            .ok()
            .stdout
            .lines()
            .all(|at| !at.starts_with("/tmp/victim"))
    );
}
