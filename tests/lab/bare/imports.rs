//! Pools that are imported read-only or below another root, and several sites on one host.

use crate::support::*;

fn again(options: &str) {
    export();
    sh(&format!("zpool import {options} -d /run/lab tank")).ok();
}

#[test]
fn a_pool_that_is_read_only_is_read_and_not_changed() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a", "b", "--start"]).ok();
    ezz(&["stop", "a", "b"]).ok();
    again("-o readonly=on");
    let before = everything();
    for look in [
        &["list"][..],
        &["show", "a"],
        &["world", "list"],
        &["world", "verify", "1"],
        &["track", "list"],
        &["doctor"],
        &["stop", "a"],
    ] {
        ezz(look).ok();
    }
    let told = ezz(&["doctor", "--json"]).ok().json();
    assert!(told[0]["capabilities"].is_null(), "{told:?}");
    assert!(
        told[0]["findings"].to_string().contains("read-only"),
        "{told:?}"
    );
    let around = conditions();
    for change in [
        &["create", "c"][..],
        &["create", "c", "--start", "--quota", "1G"],
        &["install", "/tmp/runnable.tar"],
        &["start", "a"],
        &["restart", "a"],
        &["delete", "b", "--yes"],
        &["track", "create", "new"],
        &["init", "tank/other", "--directory", "/srv/other"],
    ] {
        ezz(change).refused(1, "read-only");
        assert_eq!(conditions(), around, "{change:?}");
    }
    // Mounts and derived files are repaired nevertheless.
    sh("umount /srv/jails/a").ok();
    let repaired = ezz(&["doctor", "--repair"]);
    assert!(mounted_at("/srv/jails/a").is_some(), "{repaired:#?}");
    assert_eq!(everything(), before);
    again("");
    ezz(&["doctor", "--repair"]).ok();
    ezz(&["start", "a"]).ok();
    ezz(&["delete", "b", "--yes"]).ok();
    ezz(&["doctor"]).ok();
}

/// No path is stored: the same pool works below another root, and at its own place again.
#[test]
fn with_an_altroot_all_is_below_it() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a"]).ok();
    again("-R /mnt/other");
    let home = sh("find /srv | sort").ok().stdout;
    ezz(&["doctor", "--repair"]).ok();
    ezz(&["start", "a"]).ok();
    ezz(&["exec", "a", "--", "touch", "/root/was-here"]).ok();
    assert!(std::path::Path::new("/mnt/other/srv/jails/a/root/was-here").exists());
    ezz(&["create", "b", "--start"]).ok();
    ezz(&["install", "/tmp/runnable.tar"]).ok();
    ezz(&["track", "create", "second", "--generation", "2"]).ok();
    ezz(&["create", "c", "--track", "second", "--thick", "--start"]).ok();
    let listed = ezz(&["list", "--json"]).ok().json();
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert!(
        listed.iter().all(|jail| jail["state"] == "running"),
        "{listed:?}"
    );
    let shown = ezz(&["show", "b"]).ok();
    assert!(
        shown.stdout.contains("/mnt/other/srv/jails/b"),
        "{shown:#?}"
    );
    ezz(&["delete", "b", "--yes"]).ok();
    assert!(!std::path::Path::new("/mnt/other/srv/jails/b").exists());
    assert_eq!(
        sh("find /srv | sort").ok().stdout,
        home,
        "something was made at home"
    );
    ezz(&["stop", "--all"]).ok();
    assert!(
        mounts_of("tank")
            .iter()
            .all(|line| line.contains(" /mnt/other/")),
        "{:?}",
        mounts_of("tank")
    );
    ezz(&["doctor"]).ok();
    again("");
    ezz(&["doctor", "--repair"]).ok();
    ezz(&["start", "a", "c"]).ok();
    assert!(std::path::Path::new("/srv/jails/a/root/was-here").exists());
    ezz(&["doctor"]).ok();
}

#[test]
fn two_sites_on_a_host_do_not_meet() {
    init();
    install_runnable(SITE);
    for (directory, words) in [
        ("/srv/jails", "is mounted at the site directory"),
        ("/srv/jails/x", "inside the site of tank/ezz"),
        ("/srv/jails/a/home", "inside the site of tank/ezz"),
    ] {
        ezz(&["init", "tank/other", "--directory", directory]).refused(2, words);
        assert!(!exists("tank/other"));
    }
    ezz(&["init", "tank/ezz/inner", "--directory", "/srv/inner"]).refused(1, "inside the site");
    ezz(&["init", "tank/other", "--directory", "/srv/other"]).ok();
    install_runnable("tank/other");
    ezz(&["list"]).refused(1, "several sites: tank/ezz, tank/other");
    let first = |args: &[&str]| ezz(&[&["--site", SITE], args].concat());
    let second = |args: &[&str]| ezz(&[&["--site", "tank/other"], args].concat());
    first(&["create", "a", "b", "--start"]).ok();
    second(&["create", "a", "--start"]).ok();
    first(&["exec", "a", "--", "touch", "/root/of-the-first"]).ok();
    assert_ne!(
        second(&["exec", "a", "--", "ls", "/root/of-the-first"]).code,
        0
    );
    second(&["doctor", "--repair"]).ok();
    second(&["stop", "--all"]).ok();
    second(&["delete", "a", "--yes"]).ok();
    let listed = first(&["list", "--json"]).ok().json();
    assert!(
        listed.iter().all(|jail| jail["state"] == "running"),
        "{listed:?}"
    );
    assert_eq!(listed.len(), 2);
    first(&["doctor"]).ok();
}
