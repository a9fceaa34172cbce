//! `ezz world`: a base that was written to without ezz.

use serde_json::{Value, json};

use crate::support::*;

/// A small second generation: ten operations on it take seconds.
const SMALL: &str = "tank/ezz/basejail/2";

/// Mounts the base of the second generation writable at /tmp/rw, as root could.
#[track_caller]
fn writable() {
    sh(&format!(
        "set -e; umount /srv/jails/basejail/2 2>/dev/null || true
         zfs set readonly=off {SMALL}; mkdir -p /tmp/rw; mount -t zfs -o zfsutil,rw {SMALL} /tmp/rw"
    ))
    .ok();
}

/// Rolls a base back to the snapshot of its seal.
#[track_caller]
fn rolled_back(generation: u32) {
    let base = format!("tank/ezz/basejail/{generation}");
    sh(&format!(
        "zfs rollback {base}@{generation} && zfs inherit readonly {base}"
    ))
    .ok();
}

#[track_caller]
fn verified(args: &[&str], code: i32) -> Vec<Value> {
    let all = [&["world", "verify", "--json"], args].concat();
    ezz(&all).exits(code).json()
}

/// Returns the differences that a full verification finds, without ZFS's own report of writes.
#[track_caller]
fn differences(verified: &Value) -> Vec<String> {
    let list = verified["differences"].as_array().expect("a list");
    let texts = list
        .iter()
        .map(|text| text.as_str().expect("text").to_owned());
    texts
        .filter(|text| !text.ends_with("after the seal"))
        .collect()
}

#[test]
fn each_kind_of_tampering_is_found_and_named() {
    install_small();
    let capability = [
        1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0_u8,
    ];
    // A script in the base, and the one difference that it causes. The times of directories are restored, as an
    // attacker would do.
    let cases: &[(&str, &str)] = &[
        (
            "touch -r usr/bin/dpkg /tmp/t; printf X | dd of=usr/bin/dpkg bs=1 seek=99 conv=notrunc 2>&1; touch -r /tmp/t usr/bin/dpkg",
            "usr/bin/dpkg: sha256",
        ),
        (
            "chmod 755 usr/bin/su",
            "usr/bin/su: mode is 0755, was 04755",
        ),
        (
            "touch -r usr/lib /tmp/t; touch usr/lib/evil; touch -r /tmp/t usr/lib",
            "usr/lib/evil: added",
        ),
        (
            "touch -r etc /tmp/t; rm etc/passwd; touch -r /tmp/t etc",
            "etc/passwd: missing",
        ),
        (
            "chown 1000 usr/bin/dash",
            "usr/bin/dash: uid is 1000, was 0",
        ),
        (
            "chgrp 1000 usr/bin/dash",
            "usr/bin/dash: gid is 1000, was 0",
        ),
        (
            "touch -r . /tmp/t; ln -sfn usr/sbin bin; touch -r /tmp/t .; touch -h -d @0 bin",
            "bin: link is usr/sbin, was usr/bin",
        ),
        ("true", "usr/bin/dash: xattr.security.capability is "),
        ("touch .ezz/evil", ".ezz/evil: added"),
    ];
    for (script, expected) in cases {
        writable();
        if *script == "true" {
            xattr::set("/tmp/rw/usr/bin/dash", "security.capability", &capability).expect("set");
        }
        sh(&format!("cd /tmp/rw && {{ {script}\n}}")).ok();
        sh("umount /tmp/rw").ok();
        let quick = &verified(&["2", "--quick"], 1)[0];
        assert_eq!(
            (&quick["ok"], &quick["quick"]),
            (&json!(false), &json!(true))
        );
        let told = verified(&["2"], 1);
        assert_eq!(told.len(), 1, "{expected}");
        assert_eq!(
            (&told[0]["ok"], &told[0]["quick"]),
            (&json!(false), &json!(false))
        );
        let found: Vec<String> = differences(&told[0])
            .into_iter()
            .filter(|text| !(text.starts_with("bin: time ") && expected.starts_with("bin: ")))
            .collect();
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{expected:?}: {found:#?}"
        );
        rolled_back(2);
        let quick = &verified(&["2", "--quick"], 0)[0];
        assert_eq!(quick["differences"], json!([]), "{expected}");
    }
    let whole = &verified(&["2"], 0)[0];
    assert_eq!(
        (&whole["ok"], &whole["differences"]),
        (&json!(true), &json!([]))
    );
    assert!(
        mounted_at("/srv/jails/basejail/2").is_none(),
        "it reads, and leaves no mount behind"
    );
    assert_eq!(sh("ls -d /run/ezz/verify-* 2>/dev/null").stdout, "");
}

/// A program that can write to the base can also write a matching manifest; the seal is on the snapshot.
#[test]
fn another_manifest_is_not_the_sealed_one() {
    install_small();
    writable();
    sh("set -e; cd /tmp/rw; m=.ezz/manifest.mtree.zst
        zstd -qdc $m >/tmp/m; chmod 755 usr/bin/su
        sed -i '/usr\\/bin\\/su /s/mode=04755/mode=0755/' /tmp/m
        zstd -qc /tmp/m >/tmp/m.zst; cat /tmp/m.zst >$m; cd /; umount /tmp/rw")
    .ok();
    assert!(
        sh("grep -c mode=0755 /tmp/m").code == 0,
        "the manifest was changed"
    );
    let found = differences(&verified(&["2"], 1)[0]);
    assert!(
        found[0].starts_with("its manifest is not the sealed one: "),
        "{found:?}"
    );
    // A missing manifest, or one that is invalid, is not accepted either.
    for script in [
        "rm .ezz/manifest.mtree.zst",
        "echo x >.ezz/manifest.mtree.zst",
    ] {
        rolled_back(2);
        writable();
        sh(&format!("cd /tmp/rw && {script} && cd / && umount /tmp/rw")).ok();
        let ended = ezz(&["world", "verify", "2"]).exits(1);
        assert!(
            ended.stderr.contains("cannot verify debian-12.1.2"),
            "{ended:#?}"
        );
    }
}

#[test]
fn a_skeleton_that_was_written_to_is_found() {
    sh(
        "set -e; mkdir /tmp/skel; mount -t zfs -o zfsutil,rw tank/ezz/newjail/1 /tmp/skel
        echo evil >/tmp/skel/etc/evil; umount /tmp/skel",
    )
    .ok();
    for args in [&["1"][..], &["1", "--quick"]] {
        let told = verified(args, 1)[0]["differences"][0].clone();
        let told = told.as_str().expect("text");
        assert!(
            told.contains("bytes of tank/ezz/newjail/1 were written"),
            "{told}"
        );
    }
    sh("zfs rollback tank/ezz/newjail/1@1").ok();
    verified(&["1", "--quick"], 0);
}

/// The real world at its own place, while a jail uses it.
#[test]
fn one_byte_of_a_real_base_is_found_where_it_is_mounted() {
    ezz(&["create", "a"]).ok();
    let base = "/srv/jails/basejail/1";
    sh(&format!(
        "set -e; mount -o remount,rw {base}; cd {base}; touch -r usr/bin/su /tmp/t
         printf X | dd of=usr/bin/su bs=1 seek=5000 conv=notrunc; touch -r /tmp/t usr/bin/su
         cd /; zpool sync; mount -o remount,ro {base}"
    ))
    .ok();
    let found = differences(&verified(&[], 1)[0]);
    assert!(
        found.len() == 1 && found[0].starts_with("usr/bin/su: sha256"),
        "{found:#?}"
    );
    let told = ezz(&["doctor"]).exits(1);
    assert!(
        told.stdout
            .contains("were written to its base after the seal"),
        "{told:#?}"
    );
    // Doctor does not repair this: an administrator must decide.
    ezz(&["doctor", "--repair"]).exits(1);
    let text = ezz(&["world", "verify", "--quick"]).exits(1).stdout;
    assert!(
        text.contains("debian-12.15.1: DIFFERS from what was sealed"),
        "{text}"
    );
    sh(&format!(
        "umount {base} && zfs rollback tank/ezz/basejail/1@1"
    ))
    .ok();
    verified(&["1"], 0);
    ezz(&["doctor", "--repair"]).ok();
}

#[test]
fn intact_bases_pass_before_and_after_an_export() {
    install_small();
    let all = verified(&["--all"], 0);
    let numbers: Vec<&Value> = all.iter().map(|line| &line["generation"]).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(
        verified(&[], 0).len(),
        1,
        "only what a track has as current"
    );
    export();
    sh("zpool import -d /dev -d /run/lab tank").ok();
    for generation in [1, 2] {
        for half in ["basejail", "newjail"] {
            let dataset = format!("tank/ezz/{half}/{generation}");
            let written = property(&dataset, &format!("written@{generation}"));
            assert_eq!(written, "0", "{dataset}");
        }
    }
    assert_eq!(verified(&["--all"], 0), all);
    ezz(&["doctor", "--repair"]).ok();
    assert_eq!(verified(&["--all", "--quick"], 0).len(), 2);
}

#[test]
fn list_and_show_say_what_the_pool_says() {
    install_small();
    ezz(&["create", "a", "b"]).ok();
    ezz(&["create", "c", "--pin", "2"]).ok();
    let listed = ezz(&["world", "list", "--json"]).ok().json();
    for (line, id) in listed.iter().zip([1, 2]) {
        let base = format!("tank/ezz/basejail/{id}");
        let world = json_property(&base, "ezz:world");
        let seal = json_property(&format!("{base}@{id}"), "ezz:sealed");
        assert_eq!(line["generation"], id);
        for name in ["label", "profile", "os", "arch", "source"] {
            assert_eq!(line[name], world[name], "{name}");
        }
        assert_eq!(
            (&line["sealed"], &line["manifest"]),
            (&seal["at"], &seal["manifest"])
        );
        let size = |dataset: &str| {
            property(dataset, "referenced")
                .parse::<u64>()
                .expect("bytes")
        };
        let both = size(&base) + size(&format!("tank/ezz/newjail/{id}"));
        assert_eq!(line["size"], both);
        let shown = ezz(&["world", "show", &id.to_string(), "--json"])
            .ok()
            .json();
        assert_eq!(&shown[0], line);
    }
    let counts = |line: &Value| [line["following"].clone(), line["pinned"].clone()];
    assert_eq!(counts(&listed[0]), [2, 0]);
    assert_eq!(counts(&listed[1]), [0, 1]);
    assert_eq!(
        (&listed[0]["tracks"], &listed[1]["tracks"]),
        (&json!(["main"]), &json!([]))
    );
    // A generation that is being built exists, too, but is not sealed.
    sh("zfs create -u tank/ezz/basejail/3").ok();
    let listed = ezz(&["world", "list", "--json"]).ok().json();
    assert_eq!(
        (&listed[2]["generation"], &listed[2]["sealed"]),
        (&json!(3), &Value::Null)
    );
    let shown = ezz(&["world", "show", "3"]).ok().stdout;
    assert!(shown.contains("state        staged"), "{shown}");
    ezz(&["world", "verify", "3"]).refused(1, "no sealed generation");
    assert!(ezz(&["world", "list"]).ok().stdout.contains("staged"));
}
