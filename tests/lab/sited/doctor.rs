//! `ezz doctor`: each finding, and its repair.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::Value;

use crate::support::*;

/// Returns the findings of doctor as `severity object: what`.
#[track_caller]
fn findings(code: i32) -> Vec<String> {
    let told = ezz(&["doctor", "--json"]).exits(code).json();
    let list = told[0]["findings"].as_array().expect("a list").clone();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    list.iter()
        .map(|found| {
            let (severity, object) = (text(&found["severity"]), text(&found["object"]));
            format!("{severity} {object}: {}", text(&found["what"]))
        })
        .collect()
}

#[track_caller]
fn has(findings: &[String], wanted: &str) {
    assert!(
        findings.iter().any(|found| found.contains(wanted)),
        "no {wanted:?}: {findings:#?}"
    );
}

/// Returns the path of the host's log of a jail.
fn log(jail: &str) -> String {
    format!("/var/log/ezz/{}/{jail}.log", property(SITE, "ezz:id"))
}

/// Breaks everything that is derived, and creates every kind of debris.
fn break_all() {
    ezz(&["create", "a", "half"]).ok();
    sh(&format!(
        r#"set -e
        zfs release ezz tank/ezz/newjail/1@1
        ln -sfn ../9 /srv/jails/basejail/tracks/main
        umount /srv/jails/basejail/1
        umount /srv/jails/a
        chmod 755 /srv/jails
        zfs create -u -o readonly=off tank/ezz/basejail/7
        zfs create -u -o canmount=noauto tank/ezz/newjail/7
        zfs set ezz:jail='{{"kind":"thin","base":{{"track":"main"}},"skel":1,"hostname":"half","network":"host","todo":[{{"quota":1073741824}}]}}' tank/ezz/jails/half
        mkdir -p "$(dirname {log})"; touch {log}"#,
        log = log("gone"),
    ))
    .ok();
}

const BROKEN: &[&str] = &[
    "debris /srv/jails: mode 0755 and owner 0",
    "debris track main: its link does not point to its generation",
    "debris generation debian-12.15.1: its base is not mounted",
    "debris tank/ezz/newjail/1@1: ezz's hold is missing",
    "debris generation 7: it was never sealed",
    "debris jail a: it is not mounted",
    "debris jail half: it was never finished",
    "debris jail gone: the host keeps files of a jail that does not exist",
];

/// Returns mounts, links and files of the host; with `everything` also the rest that a repair may change.
fn host_side() -> String {
    let link = std::fs::read_link("/srv/jails/basejail/tracks/main");
    let mode = std::fs::metadata("/srv/jails").expect("it is there").mode();
    format!(
        "{:#?} {link:?} {mode:o} {}",
        mounts_of("tank"),
        Path::new(&log("gone")).exists()
    )
}

#[test]
fn everything_that_can_be_mended_is_mended_once() {
    repaired_at_boot();
    assert_eq!(findings(0), [""; 0], "a site that was just made");
    break_all();
    let found = findings(1);
    for wanted in BROKEN {
        has(&found, wanted);
    }
    assert_eq!(found.len(), BROKEN.len(), "{found:#?}");
    let before = (everything(), host_side());
    let plan = ezz(&["doctor", "--repair", "--dry-run"]).ok().stdout;
    for step in [
        "mount tank/ezz at /srv/jails",
        "link the track main to generation 1",
        "mount tank/ezz/basejail/1 at /srv/jails/basejail/1, read-only",
        "hold tank/ezz/newjail/1@1",
        "destroy tank/ezz/basejail/7",
        "mount tank/ezz/jails/a at /srv/jails/a",
        "set quota=1073741824 on tank/ezz/jails/half",
        "remove the derived files of gone",
    ] {
        assert!(plan.contains(step), "no {step:?}: {plan}");
    }
    assert_eq!(
        (everything(), host_side()),
        before,
        "a dry run changes nothing"
    );

    let told = ezz(&["doctor", "--repair"]).ok();
    assert!(told.stdout.contains("mended  track main: "), "{told:#?}");
    assert!(
        sh("zfs holds -H tank/ezz/newjail/1@1")
            .ok()
            .stdout
            .contains("\tezz\t")
    );
    let link = std::fs::read_link("/srv/jails/basejail/tracks/main").expect("a link");
    assert_eq!(link, Path::new("../1"));
    let base = mounted_at("/srv/jails/basejail/1").expect("mounted");
    assert!(base.contains(" ro,"), "{base}");
    assert!(mounted_at("/srv/jails/a").is_some());
    let mode = std::fs::metadata("/srv/jails")
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o700);
    assert!(!exists("tank/ezz/basejail/7") && !exists("tank/ezz/newjail/7"));
    assert_eq!(property("tank/ezz/jails/half", "quota"), "1073741824");
    assert!(
        json_property("tank/ezz/jails/half", "ezz:jail")
            .get("todo")
            .is_none()
    );
    assert!(!Path::new(&log("gone")).exists());

    let mended = (everything(), host_side());
    let second = ezz(&["doctor", "--repair", "--json"]).ok().json();
    assert_eq!(second[0]["repaired"], 0, "{second:#?}");
    assert_eq!(
        second[0]["findings"],
        Value::Array(Vec::new()),
        "{second:#?}"
    );
    assert_eq!((everything(), host_side()), mended);
    let nothing = ezz(&["doctor", "--repair", "--dry-run"]).ok();
    assert!(nothing.stdout.contains("nothing to do"), "{nothing:#?}");
}

/// At boot: a host must not destroy anything before an administrator has seen it.
#[test]
fn derived_only_neither_destroys_nor_commits() {
    break_all();
    let before = everything();
    let told = ezz(&["doctor", "--repair", "--derived"]).exits(1);
    assert!(
        told.stdout
            .contains("debris  generation 7: it was never sealed"),
        "{told:#?}"
    );
    assert_eq!(
        everything(),
        before,
        "no dataset, no hold, no property, no epoch"
    );
    assert!(mounted_at("/srv/jails/basejail/1").is_some());
    assert!(mounted_at("/srv/jails/a").is_some());
    let link = std::fs::read_link("/srv/jails/basejail/tracks/main").expect("a link");
    assert_eq!(link, Path::new("../1"));
    ezz(&["doctor", "--derived"]).exits(2);
}

#[test]
fn a_site_that_is_not_mounted_is_mounted_with_all_below_it() {
    ezz(&["create", "a", "big", "--thick"]).ok();
    let before = mounts_of("tank");
    sh("zfs unmount -f tank/ezz/jails/a; zfs unmount -f tank/ezz/jails/big; zfs unmount tank/ezz/basejail/1; zfs unmount tank/ezz").ok();
    assert_eq!(mounts_of("tank"), Vec::<String>::new());
    has(&findings(1), "debris tank/ezz: it is not mounted");
    ezz(&["doctor", "--repair", "--derived"]).ok();
    assert_eq!(mounts_of("tank"), before);
}

#[test]
fn what_a_jail_could_have_written_is_ignored_and_reported() {
    ezz(&["create", "a"]).ok();
    let evil = r#"{"kind":"thick","base":{"pin":1},"skel":1,"hostname":"evil","network":"host"}"#;
    sh(&format!(
        "set -e; zfs create -u -o zoned=on tank/ezz/jails/given; zfs set ezz:jail='{evil}' tank/ezz/jails/given
         zfs create -u -o zoned=on tank/ezz/jails/a/deep; zfs set ezz:jail='{evil}' tank/ezz/jails/a/deep
         zfs create -u tank/ezz/jails/a/deep/er; zfs set ezz:jail='{evil}' tank/ezz/jails/a/deep/er"
    ))
    .ok();
    let names = |jails: &[Value]| -> Vec<String> {
        jails.iter().map(|jail| jail["jail"].to_string()).collect()
    };
    assert_eq!(names(&ezz(&["list", "--json"]).ok().json()), [r#""a""#]);
    let found = findings(0);
    has(
        &found,
        "info tank/ezz/jails/given: it is delegated to a jail",
    );
    has(
        &found,
        "info tank/ezz/jails/a/deep: it has an ezz:jail, but",
    );
    has(
        &found,
        "info tank/ezz/jails/a/deep/er: it has an ezz:jail, but it is not directly",
    );
    let before = everything();
    for refused in [
        &["start", "given"][..],
        &["delete", "given", "--yes"],
        &["show", "given"],
    ] {
        ezz(refused).refused(1, "there is no jail given");
    }
    ezz(&["create", "given"]).refused(1, "tank/ezz/jails/given");
    ezz(&["doctor", "--repair"]).ok();
    assert_eq!(everything(), before);
    // A child that another product created is deleted with its jail only on request.
    ezz(&["delete", "a", "--yes"]).refused(1, "tank/ezz/jails/a/deep");
}

#[test]
fn what_others_made_is_named_and_stays() {
    sh(
        "set -e; zfs snapshot tank/ezz/basejail/1@theirs; zfs hold theirs tank/ezz/basejail/1@1
        zfs create -u tank/ezz/basejail/notes; zfs create -u tank/ezz/jails/Upper",
    )
    .ok();
    let found = findings(0);
    has(
        &found,
        "info tank/ezz/basejail/1@theirs: a snapshot that ezz did not create",
    );
    has(
        &found,
        r#"info tank/ezz/basejail/1@1: holds that ezz did not create: ["theirs"]"#,
    );
    has(
        &found,
        "info tank/ezz/basejail/notes: it is not a generation's number",
    );
    has(
        &found,
        "info tank/ezz/jails/Upper: its name is not a valid name of a jail",
    );
    let before = everything();
    ezz(&["doctor", "--repair"]).ok();
    ezz(&["world", "verify"]).ok();
    assert_eq!(everything(), before);
}

#[test]
fn what_is_broken_is_told_and_the_rest_goes_on() {
    ezz(&["create", "a", "odd", "lost", "pinned"]).ok();
    let lost = |base: &str| {
        format!(r#"{{"kind":"thin","base":{base},"skel":1,"hostname":"x","network":"host"}}"#)
    };
    sh(&format!(
        "set -e; zfs set ezz:jail='{{\"kind\":' tank/ezz/jails/odd
         zfs set ezz:jail='{}' tank/ezz/jails/lost; zfs set ezz:jail='{}' tank/ezz/jails/pinned
         zfs set ezz:track:bad='{{\"current\":8,\"previous\":null}}' tank/ezz/basejail",
        lost(r#"{"track":"nosuch"}"#),
        lost(r#"{"pin":9}"#),
    ))
    .ok();
    let found = findings(1);
    has(&found, "broken track bad: it names generation 8");
    has(
        &found,
        "broken jail odd: ezz:jail on tank/ezz/jails/odd is not valid",
    );
    has(&found, "broken jail lost: there is no track nosuch");
    has(
        &found,
        "broken jail pinned: it is pinned to 9, which does not exist",
    );
    let listed = ezz(&["list", "--json"]).ok().json();
    assert_eq!(listed.len(), 4);
    let odd = listed
        .iter()
        .find(|jail| jail["jail"] == "odd")
        .expect("it is listed");
    assert!(
        odd["problem"]
            .as_str()
            .is_some_and(|why| why.contains("is not valid")),
        "{odd}"
    );
    for (jail, words) in [
        ("odd", "is not valid"),
        ("lost", "no track nosuch"),
        ("pinned", "generation 9"),
    ] {
        ezz(&["start", jail]).refused(1, words);
    }
    ezz(&["create", "new"]).ok();
    ezz(&["delete", "lost", "pinned", "--yes"]).ok();
    ezz(&["delete", "odd", "--yes"]).refused(1, "is not valid");
    assert!(exists("tank/ezz/jails/odd"));
}

/// Its mounts still exist at the host's own place; nothing else may be left of it.
#[test]
fn a_jail_that_died_by_itself_can_be_deleted() {
    repaired_at_boot();
    ezz(&["create", "dead", "--start"]).ok();
    sh("kill -9 $(cat /run/ezz/*/jails/dead/pid)").ok();
    wait_for("the death to be seen", 30, || {
        ezz(&["list", "dead", "--json"]).ok().json()[0]["state"] == "stopped"
    });
    ezz(&["delete", "dead", "--yes"]).ok();
    assert!(!exists("tank/ezz/jails/dead"));
    let left = sh("grep -c dead /proc/self/mountinfo; ls -d /run/ezz/*/jails/dead 2>/dev/null");
    assert_eq!(left.stdout, "0\n");
    assert_eq!(findings(0), [""; 0]);
}
