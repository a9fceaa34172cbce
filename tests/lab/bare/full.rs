//! Pools and quotas without room: a refused command leaves nothing, and the way out works.

use std::fs;
use std::path::Path;

use crate::support::*;

/// The directory whose files fill the pool.
const FILL: &str = "/fill";

/// Creates a pool that is small enough to be filled.
fn pool(size: &str) {
    sh(&format!(
        "set -e; truncate -s {size} /run/lab/tiny.img
         zpool create -f -O compression=off -O atime=off tiny /run/lab/tiny.img
         zfs create -o mountpoint={FILL} tiny/fill"
    ))
    .ok();
}

fn tiny(args: &[&str]) -> Ended {
    ezz(&[&["--site", "tiny/ezz"], args].concat())
}

fn init() -> Ended {
    ezz(&["init", "tiny/ezz", "--directory", "/srv/tiny"])
}

/// Writes files of a size until there is no room for another one; returns their number.
fn write(prefix: &str, size: usize) -> usize {
    let content = vec![0x5a; size];
    let mut written = 0;
    loop {
        let path = format!("{FILL}/{prefix}{written:05}");
        if fs::write(&path, &content).is_err() {
            // The file exists without its content, or does not exist.
            let _ = fs::remove_file(&path);
            return written;
        }
        written += 1;
    }
}

/// Fills the pool up to the last block that is not reserved for administration.
fn fill() {
    for (round, size) in [1 << 20, 1 << 20, 64 << 10, 64 << 10, 4 << 10, 4 << 10]
        .into_iter()
        .enumerate()
    {
        write(&format!("{round}-"), size);
        settle();
    }
}

/// Waits until freed blocks are available and written ones are counted.
fn settle() {
    sh("for i in 1 2 3 4; do zpool sync tiny; done").ok();
}

/// Removes `count` of the files of 64 KiB.
fn free(count: usize) {
    let mut files: Vec<_> = fs::read_dir(FILL)
        .expect("there")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.metadata().is_ok_and(|found| found.len() == 64 << 10))
        .collect();
    files.sort();
    for path in files.iter().rev().take(count) {
        fs::remove_file(path).expect("a file can be removed from a full pool");
    }
    settle();
}

/// Removes all of these files.
fn empty() {
    sh(&format!("find {FILL} -type f -delete")).ok();
    settle();
}

/// Returns the state of the pool without values that every attempt increases.
fn content() -> String {
    everything_of("tiny")
        .lines()
        .filter(|line| !line.contains("ezz:seq") && !line.contains("ezz:epoch"))
        .filter(|line| !line.contains("tiny/fill"))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn an_init_without_room_leaves_nothing() {
    pool("192M");
    // Files of 64 KiB only: each gives the same room back.
    write("x", 64 << 10);
    settle();
    fill();
    let before = everything_of("tiny");
    let around = conditions();
    let mut refused = 0;
    loop {
        let told = init();
        if told.code == 0 {
            break;
        }
        let told = told.refused(1, "No space left on device");
        assert!(told.stderr.contains("zfs list -o space"), "{told:#?}");
        assert_eq!(everything_of("tiny"), before);
        assert_eq!(conditions().lines().count(), around.lines().count());
        refused += 1;
        assert!(refused < 80, "{told:#?}");
        free(1);
    }
    assert!(refused > 0, "the pool was not full");
    tiny(&["list"]).ok();
    assert_eq!(property("tiny/ezz", "ezz:epoch"), "1");
}

/// Creates a world whose skeleton is much larger than the steps in which room is given back, so that it is certainly
/// the skeleton that does not fit: the room that a pool counts for unwritten data differs each time.
fn world() -> String {
    let tar = small_world(Path::new("/tmp/mid"), "12.1");
    sh("set -e; cd /tmp/mid; mkdir etc/many
        for i in $(seq 16); do head -c 262144 /dev/urandom >etc/many/f$i; done
        for i in $(seq 40); do echo $i >usr/share/a-file-with-a-long-name-for-the-manifest-$i; done
        head -c 1M /dev/urandom >usr/share/big; tar -cf /tmp/mid.tar .")
    .ok();
    tar.display().to_string()
}

/// Returns whether writing the skeleton failed; an error of a copy names the original.
fn in_skeleton(told: &str) -> bool {
    told.contains("/newjail/") || told.contains("cannot write the copy of")
}

fn in_base(told: &str) -> bool {
    told.contains("/basejail/") && !in_skeleton(told)
}

#[test]
fn an_install_without_room_leaves_nothing_wherever_it_fails() {
    pool("192M");
    init().ok();
    let world = world();
    write("x", 64 << 10);
    settle();
    fill();
    let before = content();
    let around = conditions();
    let mut failures = Vec::new();
    loop {
        let told = tiny(&["-q", "install", &world]);
        if told.code == 0 {
            break;
        }
        assert_eq!(told.code, 1, "{told:#?}");
        assert!(told.stderr.contains("hint: "), "{told:#?}");
        assert!(!told.stderr.contains("the cleanup failed"), "{told:#?}");
        assert_eq!(content(), before, "{told:#?}");
        assert_eq!(conditions(), around, "{told:#?}");
        failures.push(told.stderr);
        assert!(failures.len() < 90, "{failures:#?}");
        free(32);
    }
    assert!(
        failures.iter().any(|told| in_base(told)),
        "not in the base: {failures:#?}"
    );
    assert!(
        failures.iter().any(|told| in_skeleton(told)),
        "not in the skeleton: {failures:#?}"
    );
    let sealed = tiny(&["world", "list", "--json"]).ok().json();
    assert_eq!(sealed.len(), 1, "{sealed:?}");
    tiny(&["world", "verify", &sealed[0]["generation"].to_string()]).ok();
    empty();
    tiny(&["create", "a"]).ok();
    tiny(&["doctor"]).ok();
}

/// Down to the part of the pool that is reserved for administration, jails cannot be created, and everything that frees
/// room works.
#[test]
fn on_a_full_pool_jails_can_be_deleted_and_tracks_made() {
    pool("192M");
    init().ok();
    small_world(Path::new("/tmp/small"), "12.1");
    tiny(&["install", "/tmp/small.tar"]).ok();
    tiny(&["create", "d{1..3}", "--quota", "10M"]).ok();
    write("x", 64 << 10);
    settle();
    fill();
    let before = everything_of("tiny");
    for create in [
        &["create", "a"][..],
        &["create", "a", "--quota", "1G"],
        &["create", "a", "--thick"],
        &["create", "a{01..40}"],
    ] {
        tiny(create).refused(1, "free space");
        assert_eq!(everything_of("tiny"), before, "{create:?}");
    }
    tiny(&["list"]).ok();
    tiny(&["track", "create", "new"]).ok();
    sh("umount /srv/tiny/d1; zfs release ezz tiny/ezz/basejail/1@1").ok();
    tiny(&["doctor", "--repair"]).ok();
    assert!(mounted_at("/srv/tiny/d1").is_some());
    tiny(&["delete", "d1", "--yes"]).ok();
    assert!(!exists("tiny/ezz/jails/d1"));
    // Room is freed step by step: with each amount of it, everything is created or nothing.
    let mut refused = 0;
    loop {
        let told = tiny(&["create", "q1", "q2", "--quota", "1M"]);
        if told.code == 0 {
            break;
        }
        assert_eq!(told.code, 1, "{told:#?}");
        assert!(told.stderr.contains("hint: "), "{told:#?}");
        assert!(
            !exists("tiny/ezz/jails/q1") && !exists("tiny/ezz/jails/q2"),
            "{told:#?}"
        );
        refused += 1;
        assert!(refused < 40, "{told:#?}");
        free(1);
    }
    assert!(refused > 0);
    assert_eq!(property("tiny/ezz/jails/q2", "quota"), "1048576");
    tiny(&["delete", "d2", "d3", "q1", "q2", "--yes"]).ok();
    empty();
    tiny(&["create", "a{01..40}"]).ok();
    tiny(&["doctor"]).ok();
}

/// Below half of the part that is reserved for administration not even a property can be set, so nothing can be
/// recorded. The test enlarges the reserved part (spa_slop_shift), because writing never reaches it.
#[test]
fn below_what_is_kept_for_administration_nothing_changes() {
    pool("640M");
    init().ok();
    small_world(Path::new("/tmp/small"), "12.1");
    tiny(&["install", "/tmp/small.tar"]).ok();
    tiny(&["create", "d1", "d2"]).ok();
    fill();
    sh("zfs release ezz tiny/ezz/basejail/1@1; umount /srv/tiny/d2").ok();
    let shift = "/sys/module/zfs/parameters/spa_slop_shift";
    let usual = fs::read_to_string(shift).expect("a parameter");
    fs::write(shift, "1").expect("set");
    let before = everything_of("tiny");
    let around = conditions();
    for change in [
        &["create", "a"][..],
        &["track", "create", "new"],
        &["delete", "d1", "--yes"],
        &["install", "/tmp/small.tar"],
    ] {
        tiny(change).refused(1, "space");
        assert_eq!(everything_of("tiny"), before, "{change:?}");
        assert_eq!(conditions(), around, "{change:?}");
    }
    tiny(&["doctor", "--repair"]).refused(1, "No space left on device");
    assert_eq!(everything_of("tiny"), before);
    for look in [&["list"][..], &["show", "d1"], &["world", "verify", "1"]] {
        tiny(look).ok();
    }
    assert_eq!(tiny(&["doctor"]).code, 1, "the hold is missing");
    fs::write(shift, usual).expect("set");
    tiny(&["delete", "d1", "--yes"]).ok();
    tiny(&["doctor", "--repair"]).ok();
    empty();
    tiny(&["create", "a"]).ok();
}

#[test]
fn a_quota_on_the_site_or_on_its_jails_is_kept_and_named() {
    pool("192M");
    init().ok();
    small_world(Path::new("/tmp/small"), "12.1");
    tiny(&["install", "/tmp/small.tar"]).ok();
    tiny(&["create", "d1", "d2"]).ok();
    // One jail has taken all room of the jails' quota.
    sh("zfs set quota=4M tiny/ezz/jails; dd if=/dev/zero of=/srv/tiny/d1/fill bs=64k 2>/dev/null; zpool sync tiny").ok();
    let before = everything_of("tiny");
    let made = tiny(&["create", "a", "b"]);
    if made.code == 0 {
        // A clone needs no room by itself, so it may fit.
        tiny(&["delete", "a", "b", "--yes"]).ok();
    } else {
        made.refused(1, "quota");
        assert_eq!(everything_of("tiny"), before);
    }
    tiny(&["delete", "d1", "--yes"]).ok();
    sh("zfs set quota=none tiny/ezz/jails").ok();
    // The quota of the site itself.
    sh("zfs set quota=$(($(zfs get -Hpo value used tiny/ezz) + 1000)) tiny/ezz").ok();
    let before = content();
    let around = conditions();
    tiny(&["create", "a"]).refused(1, "free space");
    tiny(&["install", "/tmp/small.tar"]).refused(1, "quota");
    assert_eq!(content(), before);
    assert_eq!(conditions(), around);
    tiny(&["track", "create", "new"]).ok();
    tiny(&["delete", "d2", "--yes"]).ok();
    sh("zfs set quota=none tiny/ezz").ok();
    tiny(&["install", "/tmp/small.tar"]).ok();
    tiny(&["create", "a", "b"]).ok();
    tiny(&["doctor"]).ok();
}

/// The files of a jail's run are written at its start: without room it does not start, and nothing of the start is
/// left; running jails continue, and can be stopped and deleted.
#[test]
fn a_jail_does_not_start_without_room() {
    crate::support::init();
    install_runnable(SITE);
    ezz(&["create", "a"]).ok();
    ezz(&["create", "b", "c", "--start"]).ok();
    // Other datasets cannot use what a dataset reserves: this is the quickest way to a full pool.
    sh("set -e; zfs create -o mountpoint=none tank/filler; zpool sync tank; sleep 6; zpool sync tank
        zfs set refreservation=$(zfs get -Hpo value available tank) tank/filler
        for size in 64k 4k 512; do dd if=/dev/urandom of=/srv/jails/b/fill-$size bs=$size 2>/dev/null || true; zpool sync tank; done").ok();
    let before = everything();
    let around = conditions();
    let told = ezz(&["start", "a"]).refused(1, "No space left on device");
    assert!(told.stderr.contains("zfs list -o space"), "{told:#?}");
    assert_eq!(everything(), before);
    assert_eq!(conditions(), around, "nothing is left of the start");
    ezz(&["create", "d", "--start"]).refused(1, "free space");
    assert_eq!(ezz(&["exec", "b", "--", "id", "-u"]).ok().stdout, "0\n");
    ezz(&["stop", "b"]).ok();
    ezz(&["start", "b"]).ok();
    ezz(&["delete", "c", "--yes"]).ok();
    sh("zfs destroy tank/filler").ok();
    // /run is in memory: if it is full, the pool is not.
    ezz(&["stop", "b"]).ok();
    sh("mount -t tmpfs -o size=8k none /run/ezz; head -c 8192 /dev/zero >/run/ezz/theirs").ok();
    let told = ezz(&["start", "a"]).refused(1, "the file system that holds /run/ezz/");
    assert!(!told.stderr.contains("pool"), "{told:#?}");
    sh("umount /run/ezz").ok();
    ezz(&["start", "a"]).ok();
    ezz(&["doctor"]).ok();
}

/// An update consists of a clone, a command that writes, a skeleton, a manifest and a seal: at every amount of room it
/// is complete, or nothing of it is left. The same is true of a merge.
#[test]
fn an_update_and_a_merge_without_room_leave_nothing_wherever_they_fail() {
    pool("160M");
    init().ok();
    let directory = Path::new("/tmp/small");
    small_world(directory, "12.1");
    fs::write(directory.join("etc/big"), vec![b'1'; 3 << 20]).expect("written");
    sh("tar -cf /tmp/small.tar -C /tmp/small .").ok();
    tiny(&["install", "/tmp/small.tar"]).ok();
    tiny(&["create", "j"]).ok();
    // Files of the jail's own: half of the changes in the merge are merged by lines.
    fs::write("/srv/tiny/j/etc/passwd", "root:x:0:0:mine:/root:/bin/sh\n").expect("written");
    write("x", 64 << 10);
    settle();
    fill();
    let script = "head -c 6000000 /dev/zero | tr '\\0' 2 >$EZZ_ROOT/etc/big && \
        head -c 6000000 /dev/zero | tr '\\0' 2 >$EZZ_ROOT/usr/share/big && \
        echo _new:x:99:99::/: >>$EZZ_ROOT/etc/passwd";
    let update = [
        "-q",
        "update",
        "--on-host",
        "--run",
        "/bin/sh",
        "-c",
        script,
    ];
    let before = content();
    let mut failures = Vec::new();
    let mut until = |args: &[&str], before: &str| {
        failures.clear();
        loop {
            let told = tiny(args);
            if told.code == 0 {
                break std::mem::take(&mut failures);
            }
            assert_eq!(told.code, 1, "{told:#?}");
            assert!(!told.stderr.contains("the cleanup failed"), "{told:#?}");
            assert_eq!(content(), before, "{told:#?}");
            failures.push(told.stderr);
            assert!(failures.len() < 60, "{failures:#?}");
            free(24);
        }
    };
    let failed = until(&update, &before);
    let by = |words: &str| failed.iter().any(|told| told.contains(words));
    assert!(by("nothing was changed"), "not in its command: {failed:#?}");
    let in_copy = failed.iter().any(|told| in_skeleton(told));
    assert!(in_copy, "not in the skeleton: {failed:#?}");
    tiny(&["world", "verify", "--all"]).ok();
    let list = tiny(&["world", "list", "--json"]).ok().json();
    assert_eq!(list.len(), 2, "{list:?}");
    // The pool is full again, with the new generation on it.
    write("y", 64 << 10);
    settle();
    fill();
    let before = content();
    let digest = || {
        sh("cd /srv/tiny/j && find . -type f -exec sha256sum {} + | sort")
            .ok()
            .stdout
    };
    let files = digest();
    let mut failures = 0;
    loop {
        let told = tiny(&["-q", "merge", "j"]);
        if told.code == 0 {
            break;
        }
        assert_eq!(told.code, 1, "{told:#?}");
        assert!(!told.stderr.contains("the cleanup failed"), "{told:#?}");
        assert_eq!(digest(), files, "{told:#?}");
        assert_eq!(content(), before, "{told:#?}");
        failures += 1;
        assert!(failures < 60, "{told:#?}");
        free(24);
    }
    assert!(failures > 0, "there was room for the merge at once");
    let passwd = fs::read_to_string("/srv/tiny/j/etc/passwd").expect("there");
    assert_eq!(passwd, "root:x:0:0:mine:/root:/bin/sh\n_new:x:99:99::/:\n");
    empty();
    tiny(&["doctor"]).ok();
}
