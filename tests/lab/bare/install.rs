//! `ezz install` with small made-up worlds.

use std::path::Path;

use crate::support::*;

/// Checks that nothing of a failed install is left: no generation, no mount, no directory.
#[track_caller]
fn nothing_left() {
    assert!(
        !sh("zfs list -Hro name tank/ezz")
            .ok()
            .stdout
            .contains("jail/")
    );
    assert!(mounted_at("/srv/jails/basejail/1").is_none());
    assert!(!Path::new("/srv/jails/basejail/1").exists());
    assert!(!Path::new("/srv/jails/newjail/1").exists());
}

#[test]
fn a_sealed_generation_is_as_the_design_says() {
    init();
    let tar = small_world(Path::new("/tmp/small"), "12.1");
    let digest = sh("sha256sum /tmp/small.tar | cut -d' ' -f1")
        .ok()
        .stdout
        .trim()
        .to_owned();
    let done = ezz(&[
        "install",
        tar.to_str().expect("plain"),
        "--sha256",
        &digest,
        "--json",
    ])
    .ok();
    let done = &done.json()[0];
    assert_eq!(done["label"], "debian-12.1");
    assert_eq!(done["source"], digest.as_str());
    for snapshot in ["tank/ezz/basejail/1@1", "tank/ezz/newjail/1@1"] {
        let seal = json_property(snapshot, "ezz:sealed");
        assert_eq!(seal["manifest"], done["manifest"], "{snapshot}");
        assert_eq!(source(snapshot, "ezz:sealed"), "local");
        let holds = sh(&format!("zfs holds -H {snapshot}")).ok().stdout;
        assert!(holds.contains("\tezz\t"), "{holds}");
    }
    assert_eq!(
        json_property("tank/ezz/basejail/1", "ezz:world")["label"],
        "debian-12.1"
    );
    assert_eq!(
        json_property("tank/ezz/basejail", "ezz:track:main")["current"],
        1
    );
    assert_eq!(property("tank/ezz/basejail/1", "readonly"), "on");
    assert_eq!(
        source("tank/ezz/basejail/1", "readonly"),
        "inherited from tank/ezz/basejail"
    );
    assert_eq!(property("tank/ezz/newjail/1", "canmount"), "noauto");
    assert_eq!(property("tank/ezz/basejail/1", "sync"), "standard");
    sh("zpool sync").ok();
    assert_eq!(property("tank/ezz/basejail/1", "written@1"), "0");
    assert_eq!(property("tank/ezz/newjail/1", "written@1"), "0");
    let line = mounted_at("/srv/jails/basejail/1").expect("mounted");
    assert!(line.contains(" ro,") && line.contains("nodev"), "{line}");
    assert!(
        mounted_at("/srv/jails/newjail/1").is_none(),
        "a sealed skeleton is not mounted"
    );
    let link = std::fs::read_link("/srv/jails/basejail/tracks/main").expect("a link");
    assert_eq!(link, Path::new("../1"));
    assert!(
        sh("touch /srv/jails/basejail/1/x")
            .stderr
            .contains("Read-only")
    );
}

#[test]
fn the_skeleton_is_the_unshared_part_with_relative_links() {
    init();
    install_small();
    sh("mkdir /tmp/skel && mount -t zfs -o ro tank/ezz/newjail/1@1 /tmp/skel").ok();
    let link = |path: &str| std::fs::read_link(Path::new("/tmp/skel").join(path)).expect("a link");
    assert_eq!(link("usr/bin"), Path::new("../basejail/usr/bin"));
    assert_eq!(link("bin"), Path::new("usr/bin"));
    assert!(Path::new("/tmp/skel/basejail").is_dir());
    assert!(Path::new("/tmp/skel/etc/passwd").is_file());
    assert!(
        !Path::new("/tmp/skel/usr/lib/os-release").exists(),
        "shared, and not mounted here"
    );
    assert_eq!(
        sh("stat -c %a /tmp/skel/tmp /tmp/skel/etc/shadow")
            .ok()
            .stdout,
        "1777\n640\n"
    );
}

#[test]
fn every_source_and_format_works() {
    init();
    small_world(Path::new("/tmp/small"), "12.1");
    sh("cd /tmp && gzip -k small.tar && xz -k small.tar && zstd -q -k small.tar").ok();
    for (generation, source) in (1..).zip([
        "/tmp/small",
        "/tmp/small.tar",
        "/tmp/small.tar.gz",
        "/tmp/small.tar.xz",
        "/tmp/small.tar.zst",
    ]) {
        let done = ezz(&["install", source, "--json"]).ok();
        assert_eq!(done.json()[0]["generation"], generation, "{source}");
    }
    sh(&format!("xz -dc /tmp/small.tar.xz | {EZZ} install -")).ok();
    // The files are the same, whichever way they came.
    let manifest = |n: u32| {
        json_property(&format!("tank/ezz/basejail/{n}@{n}"), "ezz:sealed")["manifest"].clone()
    };
    for n in 3..=6 {
        assert_eq!(manifest(n), manifest(2), "generation {n}");
    }
    let shown = ezz(&["world", "list", "--json"]).ok().json();
    assert_eq!(shown.len(), 6);
    assert_eq!(
        json_property("tank/ezz/basejail", "ezz:track:main")["current"],
        1
    );
    ezz(&["world", "show", "debian-12.1"]).refused(1, "several generations");
    ezz(&["world", "show", "debian-12.1.4"]).ok();
}

#[test]
fn a_bad_archive_is_refused_and_nothing_is_left() {
    init();
    let before = everything();
    small_world(Path::new("/tmp/small"), "12.1");
    sh("cd /tmp && xz -k small.tar && zstd -q -k small.tar && gzip -k small.tar").ok();
    let cases: &[(&str, &str)] = &[
        ("head -c 30000 small.tar >bad.tar", "bad.tar"),
        ("head -c 20000 small.tar.xz >bad.xz", "bad.xz"),
        ("head -c 20000 small.tar.zst >bad.zst", "bad.zst"),
        ("head -c 20000 small.tar.gz >bad.gz", "bad.gz"),
        (
            "cp small.tar.xz flip.xz && printf X | dd of=flip.xz bs=1 seek=9000 conv=notrunc 2>/dev/null",
            "flip.xz",
        ),
        ("echo '<!DOCTYPE html><html>404' >page.tar", "page.tar"),
        (": >empty.tar", "empty.tar"),
        (
            "mkdir -p nw/etc && tar -cf noworld.tar -C nw .",
            "noworld.tar",
        ),
    ];
    for (make, file) in cases {
        sh(&format!("cd /tmp && {make}")).ok();
        let refused = ezz(&["install", &format!("/tmp/{file}")]).exits(1);
        assert!(refused.stderr.contains("error: "), "{refused:#?}");
        assert!(!refused.stderr.contains("panicked"), "{refused:#?}");
        nothing_left();
    }
    ezz(&["install", "/tmp/page.tar"]).refused(1, "");
    ezz(&["install", "/tmp/nosuch.tar"]).refused(2, "there is no file");
    let wrong = "0".repeat(64);
    ezz(&["install", "/tmp/small.tar", "--sha256", &wrong]).refused(1, &wrong);
    ezz(&["install", "/tmp/small.tar", "--sha256", "xyz"]).exits(2);
    nothing_left();
    // Numbers are never used twice, so the sequence has advanced; everything else is unchanged.
    let kept = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.contains("ezz:seq") && !line.contains("ezz:epoch"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(kept(&everything()), kept(&before));
    ezz(&["install", "/tmp/small.tar"]).ok();
}

#[test]
fn a_hostile_archive_writes_nothing_outside() {
    init();
    sh("mkdir /tmp/victim && echo safe >/tmp/victim/file").ok();
    let python = r#"
import tarfile, io, sys
def entry(t, name, type=tarfile.REGTYPE, link='', data=b'evil', mode=0o644):
    e = tarfile.TarInfo(name); e.type = type; e.linkname = link; e.mode = mode
    e.size = len(data) if type == tarfile.REGTYPE else 0
    t.addfile(e, io.BytesIO(data) if e.size else None)
cases = {
  'dotdot': [('../../../../tmp/victim/file', tarfile.REGTYPE, '')],
  'middle': [('etc/../../../../../tmp/victim/file', tarfile.REGTYPE, '')],
  'absolute': [('/tmp/victim/file', tarfile.REGTYPE, '')],
  'throughlink': [('way', tarfile.SYMTYPE, '/tmp/victim'), ('way/file', tarfile.REGTYPE, '')],
  'relativelink': [('way', tarfile.SYMTYPE, '../../../../tmp/victim'), ('way/file', tarfile.REGTYPE, '')],
  'hardlink': [('way', tarfile.LNKTYPE, '/tmp/victim/file'), ('way', tarfile.REGTYPE, '')],
  'hardlinkup': [('way', tarfile.LNKTYPE, '../../../../tmp/victim/file')],
  'hardthrough': [('way', tarfile.SYMTYPE, '/tmp/victim'), ('x', tarfile.LNKTYPE, 'way/file')],
}
for name, entries in cases.items():
    with tarfile.open(f'/tmp/{name}.tar', 'w') as t:
        for n, ty, l in entries: entry(t, n, ty, l)
print(' '.join(cases))
"#;
    std::fs::write("/tmp/hostile.py", python).expect("writable");
    let cases = sh("python3 /tmp/hostile.py").ok().stdout;
    for case in cases.split_whitespace() {
        ezz(&["install", &format!("/tmp/{case}.tar")]).exits(1);
        nothing_left();
        assert_eq!(sh("cat /tmp/victim/file").ok().stdout, "safe\n", "{case}");
        assert_eq!(sh("ls /tmp/victim").ok().stdout, "file\n", "{case}");
    }
}

/// Creates a world whose beginning is enough for ezz to recognise an archive and begin a generation.
fn large_world() {
    small_world(Path::new("/tmp/small"), "12.1");
    sh("head -c 4M /dev/urandom >/tmp/small/usr/share/large && tar -cf /tmp/small.tar -C /tmp/small .").ok();
}

#[test]
fn a_killed_install_is_cleared_away_by_the_next() {
    init();
    large_world();
    // The pipe never ends, so ezz is killed in the middle of the extraction.
    sh(&format!(
        "mkfifo /tmp/pipe; (head -c 3000000 /tmp/small.tar; sleep 60) >/tmp/pipe 2>/dev/null &
         {EZZ} install - </tmp/pipe & pid=$!
         for i in $(seq 100); do zfs list tank/ezz/newjail/1 >/dev/null 2>&1 && break; sleep 0.2; done
         sleep 1; kill -9 $pid; wait $pid; true"
    ))
    .ok();
    assert!(
        exists("tank/ezz/basejail/1"),
        "it was killed too late for this test"
    );
    assert!(!exists("tank/ezz/basejail/1@1"));
    let told = ezz(&["doctor"]).exits(1);
    assert!(
        told.stdout.contains("generation 1: it was never sealed"),
        "{told:#?}"
    );
    let done = ezz(&["install", "/tmp/small.tar"]).ok();
    assert!(
        done.stderr.contains("generation 1 was never sealed"),
        "{done:#?}"
    );
    assert!(!exists("tank/ezz/basejail/1"));
    assert!(exists("tank/ezz/basejail/2@2"));
    ezz(&["doctor"]).ok();
}

#[test]
fn ctrl_c_leaves_nothing() {
    init();
    large_world();
    let ended = sh(&format!(
        "mkfifo /tmp/pipe; (cat /tmp/small.tar; sleep 60) >/tmp/pipe 2>/dev/null &
         {EZZ} install - </tmp/pipe 2>/tmp/err & pid=$!
         for i in $(seq 100); do zfs list tank/ezz/newjail/1 >/dev/null 2>&1 && break; sleep 0.2; done
         sleep 1; kill -INT $pid; wait $pid; code=$?; cat /tmp/err >&2; exit $code"
    ));
    assert_eq!(ended.code, 1, "{ended:#?}");
    assert!(ended.stderr.contains("interrupted"), "{ended:#?}");
    nothing_left();
}

#[test]
fn a_full_pool_leaves_nothing() {
    init();
    small_world(Path::new("/tmp/small"), "12.1");
    sh("head -c 40M /dev/urandom >/tmp/small/usr/share/big && tar -cf /tmp/big.tar -C /tmp/small .").ok();
    sh("zfs set quota=20M tank/ezz").ok();
    ezz(&["install", "/tmp/big.tar"]).refused(1, "");
    nothing_left();
    sh("zfs set quota=none tank/ezz").ok();
    ezz(&["install", "/tmp/big.tar"]).ok();
}

#[test]
fn a_second_one_at_the_same_time_gets_its_own_generation() {
    init();
    small_world(Path::new("/tmp/small"), "12.1");
    sh(&format!(
        "{EZZ} install /tmp/small.tar & a=$!; {EZZ} install /tmp/small.tar & b=$!; wait $a && wait $b"
    ))
    .ok();
    let shown = ezz(&["world", "list", "--json"]).ok().json();
    assert_eq!(shown.len(), 2);
    assert!(
        shown.iter().all(|line| line["sealed"].is_string()),
        "{shown:?}"
    );
}
