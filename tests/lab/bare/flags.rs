//! The flags of the host's mounts: `zfs mount -a`, which runs at every boot, mounts by the properties, which do not
//! mention set-user-ID programs.

use crate::support::*;

/// Does what a boot does: unmounts the host's mounts and mounts them by the properties. A running jail keeps its own.
#[track_caller]
fn mounted_by_zfs() {
    sh("zfs unmount -a && zfs mount -a").ok();
    // An administrator lets users look into the directories.
    opened();
}

#[track_caller]
fn opened() {
    sh("chmod 755 /srv/jails /srv/jails/basejail").ok();
}

/// Returns the user that a set-user-ID shell turns a user of the host into.
#[track_caller]
fn becomes(path: &str) -> String {
    // The program is run by a shell: setpriv(1) itself still has its capabilities when it looks its program up.
    let ran = sh(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c \"{path} -p -c 'id -u'\""
    ));
    assert_eq!(
        ran.code, 0,
        "{path} cannot be reached, which proves nothing: {ran:#?}"
    );
    ran.stdout.trim().to_owned()
}

const ROOT: &str = "0";
const NOBODY: &str = "65534";

fn of_jail(jail: &str) -> String {
    format!("/srv/jails/{jail}/home/x")
}

const OF_BASE: &str = "/srv/jails/basejail/1/usr/bin/su";

/// Checks that a jail's set-user-ID programs work inside the jail.
#[track_caller]
fn works_inside(jail: &str) {
    for program in ["/home/x", "/usr/bin/su"] {
        let ran = ezz(&[
            "exec", jail, "--user", "1000", "--", program, "-p", "-c", "id -u",
        ]);
        assert_eq!(ran.ok().stdout, "0\n", "{program} in {jail}");
    }
}

/// Returns the objects of the findings about flags, each with its severity.
fn found() -> Vec<String> {
    let told = ezz(&["doctor", "--json"]).json();
    let findings = told[0]["findings"].as_array().expect("a list");
    let flags = findings
        .iter()
        .filter(|finding| finding["kind"] == "mount-flags");
    let mut lines: Vec<String> = flags
        .map(|finding| {
            let what = finding["what"].as_str().expect("words");
            assert!(
                what.contains("nosuid") && what.contains("as root"),
                "{what}"
            );
            assert_eq!(finding["repairable"], true, "{finding}");
            format!("{} {}", finding["severity"], finding["object"]).replace('"', "")
        })
        .collect();
    lines.sort();
    lines
}

fn options(at: &str) -> Vec<String> {
    let line = mounted_at(at).unwrap_or_else(|| panic!("nothing is mounted at {at}"));
    let options = line.split(' ').nth(5).unwrap_or_default();
    options.split(',').map(str::to_owned).collect()
}

#[track_caller]
fn protected(at: &str, more: &[&str]) {
    let found = options(at);
    for flag in ["nosuid", "nodev", "noatime"].iter().chain(more) {
        assert!(found.iter().any(|option| option == flag), "{at}: {found:?}");
    }
}

/// Creates two jails with set-user-ID shells of their own, in a world that has one too.
#[track_caller]
fn planted() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a", "b", "--start"]).ok();
    for jail in ["a", "b"] {
        let script = "cp /bin/sh /home/x && chmod 4755 /home/x && chmod 755 /home";
        ezz(&["exec", jail, "--", "sh", "-c", script]).ok();
        works_inside(jail);
    }
    opened();
    for path in [&of_jail("a"), &of_jail("b"), OF_BASE] {
        assert_eq!(becomes(path), NOBODY, "{path}");
    }
}

#[test]
fn a_start_closes_what_a_boot_has_opened() {
    planted();
    ezz(&["stop", "a", "b"]).ok();
    mounted_by_zfs();
    // These are the ways that the flags must close.
    for path in [&of_jail("a"), &of_jail("b"), OF_BASE] {
        assert_eq!(becomes(path), ROOT, "{path}");
    }
    assert_eq!(
        found(),
        [
            "debris tank/ezz",
            "debris tank/ezz/basejail/1",
            "debris tank/ezz/jails/a",
            "debris tank/ezz/jails/b"
        ]
    );
    let before = everything();
    ezz(&["start", "a"]).ok();
    assert_eq!(becomes(&of_jail("a")), NOBODY);
    assert_eq!(becomes(OF_BASE), NOBODY);
    works_inside("a");
    protected("/srv/jails/a", &[]);
    protected("/srv/jails/basejail/1", &["ro"]);
    assert_eq!(found(), ["debris tank/ezz", "debris tank/ezz/jails/b"]);
    // The flags are not stored on the pool, where another host would read them.
    assert_eq!(everything(), before);
    // The host's mount of a running jail loses its flags in another way: a restart corrects them, and so does a
    // merge of a stopped jail.
    sh("mount -o remount,bind,suid,dev /srv/jails/a").ok();
    assert_eq!(becomes(&of_jail("a")), ROOT);
    works_inside("a");
    ezz(&["restart", "a", "b"]).ok();
    for jail in ["a", "b"] {
        assert_eq!(becomes(&of_jail(jail)), NOBODY);
        works_inside(jail);
    }
}

#[test]
fn a_repair_closes_it_for_running_and_stopped_jails() {
    planted();
    ezz(&["stop", "b"]).ok();
    // The mounts as the jail itself sees them: `zfs unmount -a` removes those in /run from the host.
    let pid = sh("cat /run/ezz/*/jails/a/pid").ok().stdout;
    let own = || -> Vec<String> {
        let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", pid.trim()));
        let table = table.expect("the jail runs");
        let at = |line: &&str| matches!(line.split(' ').nth(4), Some("/" | "/basejail"));
        table.lines().filter(at).map(str::to_owned).collect()
    };
    let before = own();
    assert_eq!(before.len(), 2, "{before:?}");
    // First as the unit does it at boot, then as an administrator does.
    for repair in [
        &["doctor", "--repair", "--derived"][..],
        &["doctor", "--repair"],
    ] {
        mounted_by_zfs();
        for path in [&of_jail("a"), &of_jail("b"), OF_BASE] {
            assert_eq!(becomes(path), ROOT, "{path}");
        }
        assert_eq!(found().len(), 4);
        ezz(repair).ok();
        // The repair has closed the directory as well; it is opened again.
        opened();
        for path in [&of_jail("a"), &of_jail("b"), OF_BASE] {
            assert_eq!(becomes(path), NOBODY, "{path}");
        }
        for at in ["/srv/jails", "/srv/jails/a", "/srv/jails/b"] {
            protected(at, &[]);
        }
        protected("/srv/jails/basejail/1", &["ro"]);
        assert!(found().is_empty());
        // The mounts of the running jail are its own.
        assert_eq!(own(), before);
        works_inside("a");
    }
    // A mount by mount(8) that lacks one flag.
    sh("mount -o remount,bind,nosuid,dev,noatime /srv/jails/b").ok();
    let told = ezz(&["doctor"]).exits(1);
    assert!(
        told.stdout
            .contains("mounted at /srv/jails/b without nodev"),
        "{told:#?}"
    );
    // An additional flag of an administrator stays.
    sh("mount -o remount,bind,suid,nodev,noexec /srv/jails/b").ok();
    ezz(&["doctor", "--repair"]).ok();
    protected("/srv/jails/b", &["noexec"]);
    // The properties that zfs(8) mounts by.
    sh("zfs set atime=on tank/ezz && zfs set devices=off tank/ezz/jails/b && zfs set readonly=on tank/ezz/basejail/1").ok();
    ezz(&["doctor", "--repair"]);
    protected("/srv/jails/b", &[]);
    protected("/srv/jails/basejail/1", &["ro"]);
    ezz(&["stop", "a"]).ok();
    export();
    sh("zpool import -d /run/lab tank").ok();
    opened();
    assert_eq!(becomes(&of_jail("a")), ROOT);
    ezz(&["start", "a"]).ok();
    assert_eq!(becomes(&of_jail("a")), NOBODY);
}
