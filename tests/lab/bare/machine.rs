//! What the Debian machine of vagrant/ gets to run the lab's tests: its runner, and its sources of packages. Both run
//! here as they do there, with the lab's guest as the machine.

use std::fs;
use std::path::Path;

use crate::support::*;

/// The directory of the scripts.
const MACHINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vagrant/machines");

/// Turns the guest into a machine without a pool `tank`, whose mounts are shared, as systemd makes them; the lab's own
/// mount is an exception, since no other machine has it.
fn machine() {
    sh("zpool destroy tank && rm /run/lab/tank.img && mount --make-rshared / && mount --make-private /run/lab")
        .ok();
}

/// Runs a command by the runner, and checks that nothing is left of it, however it ended.
#[track_caller]
fn run(settings: &str, words: &str) -> Ended {
    let around = || (mounts(), sh("zpool list -H -o name").ok().stdout);
    let before = around();
    let ended = sh(&format!(
        "{settings} EZZ_LAB_CACHE=/var/cache/ezz-lab {MACHINES}/runner {words}"
    ));
    assert_eq!(around(), before, "{ended:#?}");
    ended
}

/// Returns the mount points of the guest.
fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    let target = |line: &str| line.split(' ').nth(4).map(str::to_owned);
    table.lines().filter_map(target).collect()
}

#[test]
fn a_test_of_the_lab_passes_by_its_runner() {
    machine();
    let me = std::env::current_exe().expect("a test is a program");
    let test = "bare::init::makes_the_datasets_that_the_design_says";
    let ended = run("", &format!("{} {test} --exact", me.display())).ok();
    assert!(ended.stdout.contains("1 passed"), "{ended:#?}");
    // A command that fails there makes the runner fail.
    let ended = run(
        "",
        &format!(
            "sh -c 'rm /usr/sbin/zfs && exec {} {test} --exact'",
            me.display()
        ),
    );
    assert_eq!(ended.code, 101, "{ended:#?}");
}

#[test]
fn a_command_finds_there_what_the_lab_gives_and_leaves_nothing() {
    machine();
    let found = run(
        "EZZ_TOLD=yes OTHER=no",
        r#"sh -c 'id -un; hostname; zpool list -H -o name,size; ls /srv /usr/jails; ip -o link show up | cut -d" " -f2; echo $EZZ_LAB_GUEST $EZZ_TOLD $OTHER; pwd'"#,
    )
    .ok();
    let here = std::env::current_dir().expect("there is one");
    let wanted = format!(
        "root\nlab\ntank\t3.75G\n/srv:\n\n/usr/jails:\nlo:\n1 yes\n{}\n",
        here.display()
    );
    assert_eq!(found.stdout, wanted);

    let setting = "/sys/module/zfs/parameters/spa_slop_shift";
    let usual = fs::read_to_string(setting).expect("a parameter");
    run(
        "",
        &format!(
            r#"sh -c 'set -e; rm /usr/sbin/zfs; echo harm >/etc/harm; echo harm >/srv/harm; hostname harmed
            truncate -s 128M /run/lab/second.img; zpool create second /run/lab/second.img;
            mkdir /sys/fs/cgroup/ezz /sys/fs/cgroup/ezz/harm; echo 9 >{setting}; mkdir /run/lab/disk /mnt/harm; mount -t tmpfs disk /run/lab/disk; mount -t tmpfs harm /mnt/harm
            truncate -s 128M /run/lab/disk/third.img; zpool create third /run/lab/disk/third.img; cd /tank; sleep 1234 & cd /second; sleep 1234 &'"#
        ),
    )
    .ok();
    for gone in [
        "/etc/harm",
        "/srv/harm",
        "/sys/fs/cgroup/ezz/harm",
        "/run/lab/second.img",
    ] {
        assert!(!Path::new(gone).exists(), "{gone}");
    }
    assert!(Path::new("/usr/sbin/zfs").exists());
    assert_eq!(fs::read_to_string(setting).expect("a parameter"), usual);
    assert_eq!(sh("hostname").ok().stdout, "lab\n");
    assert_eq!(processes("sleep 1234"), [] as [u32; 0]);
}

#[test]
fn a_site_is_made_once_and_each_test_has_a_copy() {
    machine();
    let world = small_world(Path::new("/tmp/small"), "12.1");
    let missing = run("", "sh -c true sited::some::test");
    assert_eq!(missing.code, 125, "{missing:#?}");
    assert!(missing.stderr.contains("--site WORLD"), "{missing:#?}");
    run(
        "",
        &format!(
            "--site {} {EZZ} {}/tests/lab/golden",
            world.display(),
            env!("CARGO_MANIFEST_DIR")
        ),
    )
    .ok();
    for _ in 0..2 {
        let ended = run(
            "",
            &format!(
                "sh -c 'zfs list -H -o name -r tank/ezz/basejail && {EZZ} create a && zfs list tank/ezz/jails/a >/dev/null' sited::some::test"
            ),
        )
        .ok();
        assert!(
            ended
                .stdout
                .starts_with("tank/ezz/basejail\ntank/ezz/basejail/1\n"),
            "{ended:#?}"
        );
    }
}

#[test]
fn its_exit_status_says_whose_failure_it_was() {
    machine();
    assert_eq!(run("", "sh -c 'exit 7'").code, 7);
    assert_eq!(run("", "sh -c 'kill -KILL $$'").code, 137);
    let late = run("EZZ_LAB_TIMEOUT=3", "sh -c 'sleep 100 & sleep 100'");
    assert_eq!(late.code, 124, "{late:#?}");
    assert!(late.stderr.contains("lab: no end after 3 s"), "{late:#?}");
    let outside = run("", "sh -c true outside::cut::init");
    assert_eq!(outside.code, 125, "{outside:#?}");
    assert!(outside.stderr.contains("needs the lab"), "{outside:#?}");
    // An existing pool is not touched.
    sh("truncate -s 128M /tmp/theirs && zpool create tank /tmp/theirs && zfs create tank/theirs")
        .ok();
    let taken = run("", "sh -c true");
    assert_eq!(taken.code, 125, "{taken:#?}");
    assert!(taken.stderr.contains("there is a pool tank"), "{taken:#?}");
    assert!(exists("tank/theirs"));
}

/// OpenZFS comes from the source of the system's own packages; no other source is named.
#[test]
fn openzfs_comes_from_where_the_system_has_the_rest() {
    sh(&format!(
        "EZZ_VM_ZFS=2.4 {MACHINES}/debian.sh sources /tmp/etc"
    ))
    .ok();
    let own = sh("apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages'")
        .ok()
        .stdout;
    let release = sh(". /etc/os-release; echo $VERSION_CODENAME").ok().stdout;
    let release = release.trim();
    let line = own
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{release} main ")));
    let archive = line.expect("the system has a source").trim_end_matches('/');
    // The addresses that apt would download from, as it reads the sources.
    let fetched = sh("apt-get update --print-uris -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/tmp/etc/sources.list.d")
        .ok()
        .stdout;
    let mut fetched: Vec<&str> = fetched
        .lines()
        .filter_map(|line| Some(line.split('\'').nth(1)?.split_once("/binary-amd64/")?.0))
        .collect();
    fetched.sort_unstable();
    let wanted = ["-backports/contrib", "-backports/main", "/contrib"];
    let wanted = wanted.map(|part| format!("{archive}/dists/{release}{part}"));
    assert_eq!(fetched, wanted);
    let pins = fs::read_to_string("/tmp/etc/preferences.d/ezz").expect("written");
    assert_eq!(
        pins,
        "Package: src:zfs-linux\nPin: version 2.4.*\nPin-Priority: 990\n"
    );
    sh(&format!("{MACHINES}/debian.sh sources /tmp/etc")).ok();
    assert!(!Path::new("/tmp/etc/preferences.d/ezz").exists());
}
