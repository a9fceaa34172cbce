//! Tests of the inspector itself: it finds every violation.

use std::path::Path;

use crate::inspect;
use crate::support::*;

#[track_caller]
fn finds(wanted: &str) {
    let found = inspect::site(SITE);
    assert!(
        found.iter().any(|what| what.contains(wanted)),
        "no {wanted:?}: {found:#?}"
    );
}

/// A command that breaks something, the expected violation, and a command that restores it.
const BROKEN: &[(&str, &str, &str)] = &[
    (
        "zfs set ezz:track:x='{\"current\":9}' tank/ezz/basejail",
        "track x: its current is 9, which is not sealed",
        "zfs inherit ezz:track:x tank/ezz/basejail",
    ),
    (
        "zfs set readonly=off tank/ezz/basejail/2",
        "tank/ezz/basejail/2: readonly is",
        "zfs inherit readonly tank/ezz/basejail/2",
    ),
    (
        "zfs release ezz tank/ezz/newjail/2@2",
        "tank/ezz/newjail/2@2: it is not held",
        "zfs hold ezz tank/ezz/newjail/2@2",
    ),
    (
        "mkdir /tmp/skel; mount -t zfs -o zfsutil tank/ezz/newjail/2 /tmp/skel; : >/tmp/skel/x; umount /tmp/skel",
        "generation 2: written@2 of its halves is",
        "zfs rollback tank/ezz/newjail/2@2",
    ),
    (
        "mount -o remount,rw /srv/jails/basejail/2; chmod 4777 /srv/jails/basejail/2/usr/bin/su; zpool sync",
        "generation 2: ./usr/bin/su: mode is",
        "umount /srv/jails/basejail/2; zfs rollback tank/ezz/basejail/2@2; ezz -q doctor --repair",
    ),
    (
        "zfs create -u tank/ezz/basejail/7",
        "generation 7: it was never sealed",
        "zfs destroy tank/ezz/basejail/7",
    ),
    (
        "zfs create -u tank/ezz/other",
        "tank/ezz/other: an orphan",
        "zfs destroy tank/ezz/other",
    ),
    (
        "zfs set ezz:intent:x:0=y tank/ezz/jails",
        "the intent ezz:intent:x:0 is left",
        "zfs inherit ezz:intent:x:0 tank/ezz/jails",
    ),
    (
        "zfs clone tank/ezz/newjail/2@2 tank/ezz/jails/half",
        "tank/ezz/jails/half: it has no ezz:jail of its own",
        "zfs destroy tank/ezz/jails/half",
    ),
    (
        "zfs set ezz:jail='{\"kind\":\"thick\",\"base\":{\"pin\":2},\"skel\":2,\"hostname\":\"a\"}' tank/ezz/jails/a",
        "is a clone of tank/ezz/newjail/1@1, not of tank/ezz/basejail/2@2",
        "zfs set ezz:jail='{\"kind\":\"thin\",\"base\":{\"track\":\"main\"},\"skel\":1,\"hostname\":\"a\",\"network\":\"host\"}' tank/ezz/jails/a",
    ),
    (
        "umount /srv/jails/a",
        "tank/ezz/jails/a is not mounted",
        "ezz -q doctor --repair",
    ),
    (
        "mount -o remount,dev /srv/jails/a",
        "without nodev",
        "mount -o remount,nodev /srv/jails/a",
    ),
    (
        "chmod 755 /srv/jails",
        "/srv/jails: mode 755",
        "chmod 700 /srv/jails",
    ),
    (
        "mkdir /srv/jails/gone",
        "/srv/jails/gone: a directory without a jail",
        "rmdir /srv/jails/gone",
    ),
    (
        "ln -sfn ../2 /srv/jails/basejail/tracks/main",
        "track main: its link is",
        "ln -sfn ../1 /srv/jails/basejail/tracks/main",
    ),
    (
        "ln -s ../1 /srv/jails/basejail/tracks/no",
        "tracks/no: a link without a track",
        "rm /srv/jails/basejail/tracks/no",
    ),
    (
        "zfs set ezz:seq=1 tank/ezz",
        "ezz:seq is 1, and there is generation 2",
        "zfs set ezz:seq=2 tank/ezz",
    ),
    (
        "zfs set ezz:epoch=x tank/ezz",
        "tank/ezz: ezz:epoch is",
        "zfs set ezz:epoch=9 tank/ezz",
    ),
];

#[test]
fn each_thing_that_is_not_right_is_found() {
    init();
    install_small();
    install_small();
    ezz(&["create", "a"]).ok();
    each_is_found(BROKEN);
}

#[track_caller]
fn each_is_found(broken: &[(&str, &str, &str)]) {
    for (damage, told, back) in broken {
        sh(&format!("set -e; {damage}")).ok();
        finds(told);
        let path = Path::new(EZZ).parent().expect("a directory");
        sh(&format!("PATH={}:$PATH; {back}", path.display())).ok();
        assert_eq!(inspect::site(SITE), [""; 0], "after {back}");
    }
}

/// The same for a jail whose own files a merge has brought to another generation.
const BROKEN_FILES: &[(&str, &str, &str)] = &[
    (
        "echo 1 >/srv/jails/a/basejail/.ezz-generation",
        "a was merged to 2, and its files are of \"1\\n\"",
        "echo 2 >/srv/jails/a/basejail/.ezz-generation",
    ),
    (
        "zfs get -Hpo value ezz:jail tank/ezz/jails/a >/tmp/was; zfs set ezz:jail=\"$(sed s/skel.:2/skel\\\":1/ /tmp/was)\" tank/ezz/jails/a",
        "a was merged to 2, and its own files are at 1",
        "zfs set ezz:jail=\"$(cat /tmp/was)\" tank/ezz/jails/a",
    ),
    (
        "zfs set ezz:merging='{\"from\":1,\"to\":2}' tank/ezz/jails/a",
        "tank/ezz/jails/a: its merge was interrupted",
        "zfs inherit ezz:merging tank/ezz/jails/a",
    ),
    (
        "chown 33 /srv/jails/a/var/lib/svc/data",
        "a: var/lib/svc/data belongs to the user 33",
        "chown 990 /srv/jails/a/var/lib/svc/data",
    ),
    (
        "sed -i s/990/991/ /srv/jails/a/etc/group",
        "a: var/lib/svc belongs to the group 990",
        "sed -i s/991/990/ /srv/jails/a/etc/group",
    ),
];

#[test]
fn own_files_of_another_generation_or_account_are_found() {
    init();
    install_small();
    ezz(&["create", "a"]).ok();
    sh("set -e; cd /tmp/small; mkdir var/lib/svc; echo x >var/lib/svc/data; chown -R 990:990 var/lib/svc
        echo svc:x:990:990::/:/bin/sh >>etc/passwd; echo svc:x:990: >>etc/group; tar -cf /tmp/small.tar .")
    .ok();
    ezz(&["update", "--from", "/tmp/small.tar"]).ok();
    ezz(&["merge", "a"]).ok();
    assert_eq!(inspect::site(SITE), [""; 0]);
    each_is_found(BROKEN_FILES);
}

/// A process in a jail's cgroup, and files that the host keeps, without a jail.
#[test]
fn what_the_host_has_without_a_jail_is_found() {
    init();
    let id = property(SITE, "ezz:id");
    sh(&format!(
        "set -e; mkdir -p /sys/fs/cgroup/ezz/{short}/ghost /run/ezz/{id}/jails/ghost
         sh -c 'echo $$ >/sys/fs/cgroup/ezz/{short}/ghost/cgroup.procs; exec sleep 100' >/dev/null 2>&1 &",
        short = &id[..8]
    ))
    .ok();
    finds("of ghost, and there is no such jail");
    finds("jails/ghost: kept of a jail that is not there");
}
