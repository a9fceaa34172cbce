//! `ezz init`.

use std::os::unix::fs::MetadataExt;

use crate::inspect;
use crate::support::*;

#[test]
fn makes_the_datasets_that_the_design_says() {
    let made = ezz(&["init", SITE, "--json"]).ok().json();
    assert_eq!(made[0]["site"], SITE);
    assert_eq!(made[0]["created"], true);
    for (dataset, name, value) in [
        (SITE, "ezz:format", "1"),
        (SITE, "ezz:seq", "0"),
        (SITE, "ezz:epoch", "1"),
        (SITE, "devices", "off"),
        (SITE, "mountpoint", DIRECTORY),
        ("tank/ezz/basejail", "canmount", "off"),
        ("tank/ezz/basejail", "readonly", "on"),
        ("tank/ezz/basejail", "snapdir", "disabled"),
        ("tank/ezz/basejail", "com.sun:auto-snapshot", "false"),
        ("tank/ezz/newjail", "canmount", "off"),
        ("tank/ezz/newjail", "com.sun:auto-snapshot", "false"),
        ("tank/ezz/jails", "canmount", "off"),
        ("tank/ezz/jails", "mountpoint", DIRECTORY),
    ] {
        assert_eq!(property(dataset, name), value, "{name} of {dataset}");
        assert_eq!(source(dataset, name), "local", "{name} of {dataset}");
    }
    assert_eq!(
        property(SITE, "ezz:id"),
        made[0]["id"].as_str().expect("text")
    );
    let directory = std::fs::metadata(DIRECTORY).expect("mounted");
    assert_eq!(directory.mode() & 0o7777, 0o700);
    assert!(mounted_at(DIRECTORY).is_some_and(|line| line.contains("nodev")));
}

#[test]
fn twice_is_once_and_says_so() {
    init();
    let before = everything();
    let again = ezz(&["init", SITE]).ok();
    assert!(again.stderr.contains("is already a site"), "{again:#?}");
    assert_eq!(everything(), before);
    // The state that a power cut before its last step leaves.
    sh(&format!("chmod 0755 {DIRECTORY}")).ok();
    let planned = ezz(&["init", SITE, "--dry-run"]).ok();
    assert!(planned.stdout.contains("mount tank/ezz"), "{planned:#?}");
    ezz(&["init", SITE]).ok();
    let directory = std::fs::metadata(DIRECTORY).expect("mounted");
    assert_eq!(directory.mode() & 0o7777, 0o700);
    ezz(&["doctor"]).ok();
}

#[test]
fn a_dry_run_changes_nothing_and_prints_the_plan() {
    let before = everything();
    let plan = ezz(&["init", SITE, "--dry-run"]).ok();
    assert!(
        plan.stdout.contains("create tank/ezz/basejail"),
        "{plan:#?}"
    );
    assert_eq!(everything(), before);
    assert!(mounted_at(DIRECTORY).is_none());
}

#[test]
fn an_interrupted_one_is_finished() {
    sh("zfs create -u -o mountpoint=/srv/jails -o devices=off tank/ezz && zfs create -u tank/ezz/basejail").ok();
    ezz(&["init", SITE]).ok();
    assert_eq!(property(SITE, "ezz:format"), "1");
    assert!(exists("tank/ezz/jails"));
}

/// A dataset is created in one transaction and gets its properties in the next, so a power cut can leave it without
/// them; the next import mounts it by the defaults.
#[test]
fn one_that_was_cut_before_the_properties_is_finished() {
    for made in [
        "zfs create tank/ezz",
        "zfs create tank/ezz; zfs create tank/ezz/basejail; zfs create tank/ezz/newjail; zfs create tank/ezz/jails",
    ] {
        sh(&format!("set -e; {made}")).ok();
        init();
        assert_eq!(inspect::site(SITE), [""; 0], "{made}");
        assert_eq!(sh("ls -A /srv/jails; ls -A /tank").stdout, "");
        sh("zfs destroy -r tank/ezz").ok();
    }
}

#[test]
fn bad_input_is_refused_and_leaves_nothing() {
    sh("zfs create tank/used && zfs create tank/used/mine").ok();
    sh("mkdir -p /srv/full && touch /srv/full/file").ok();
    let before = everything();
    ezz(&["init", "nopool/ezz"]).refused(1, "there is no dataset nopool");
    ezz(&["init", "tank/used"]).refused(1, "it has tank/used/mine");
    ezz(&["init", "tank/ezz", "--directory", "relative"]).refused(2, "is not valid");
    for control in ["/srv/a\tb", "/srv/a\nb"] {
        ezz(&["init", "tank/ezz", "--directory", control]).refused(2, "is not valid");
    }
    ezz(&["init", "tank/ezz", "--directory", "/srv/full"]).refused(2, "is not empty");
    ezz(&["init", "tank/../x"]).exits(2);
    ezz(&["init", "tank/a%b"]).exits(2);
    ezz(&["init"]).exits(2);
    assert_eq!(everything(), before);
}

/// A forgotten word does not give a whole pool away, and there is a way back.
#[test]
fn a_whole_pool_is_taken_when_told_and_given_back_as_documented() {
    let before = everything();
    let refused = ezz(&["init", "tank"]).refused(1, "cannot ask for confirmation");
    assert!(
        refused.stderr.contains("`ezz init tank --yes`"),
        "{refused:#?}"
    );
    let asked = |answer: &str| {
        sh(&format!(
            "(sleep 1; echo {answer}; sleep 3) | script -qec '{EZZ} init tank' /dev/null"
        ))
    };
    let told = asked("n").exits(1).stdout;
    assert!(
        told.contains("the whole pool tank becomes a site") && told.contains("`ezz init tank/ezz`"),
        "{told}"
    );
    assert_eq!(everything(), before);
    // A pool that is not empty is refused, and no hint suggests destroying anything.
    zfs(&["create", "tank/mine"]).ok();
    let refused = ezz(&["init", "tank", "--yes"]).refused(1, "it has tank/mine");
    assert!(
        refused.stderr.contains("`ezz init tank/ezz`") && !refused.stderr.contains("destroy"),
        "{refused:#?}"
    );
    zfs(&["destroy", "tank/mine"]).ok();
    asked("y").exits(0);
    assert_eq!(property("tank", "ezz:format"), "1");
    sh("zfs destroy -r tank/basejail; zfs destroy -r tank/newjail; zfs destroy -r tank/jails").ok();
    sh("for p in format id seq epoch; do zfs inherit ezz:$p tank; done; zfs set mountpoint=none tank").ok();
    // The way back, as the help describes it.
    init();
    ezz(&["create", "a"]).refused(1, "tank/ezz has no world yet");
    let told = ezz(&["create", "a"]).stderr;
    assert!(told.contains("`ezz install "), "{told}");
    install_runnable(SITE);
    ezz(&["create", "a", "thick", "--start"]).ok();
    ezz(&["create", "b", "--thick"]).ok();
    ezz(&["clone", "a", "c"]).ok();
    ezz(&[
        "update",
        "-q",
        "--on-host",
        "--run",
        "sh",
        "-c",
        "echo x >$EZZ_ROOT/etc/new",
    ])
    .ok();
    ezz(&["stop", "--all"]).ok();
    let help = ezz(&["init", "--help"]).ok().stdout.replace('\n', " ");
    let commands = [
        "zfs list -Hrt snapshot -o name tank/ezz/basejail tank/ezz/newjail | xargs -n 1 zfs release ezz",
        "zfs destroy -r tank/ezz",
    ];
    for command in commands {
        let plain: Vec<&str> = help.split_whitespace().collect();
        assert!(plain.join(" ").contains(command), "{help}");
        sh(command).ok();
    }
    assert!(!exists("tank/ezz"));
    init();
}

#[test]
fn a_site_inside_a_site_is_refused() {
    init();
    ezz(&["init", "tank/ezz/jails/inner"]).refused(1, "inside the site tank/ezz");
}

#[test]
fn without_a_site_every_verb_says_how_to_make_one() {
    for verb in [
        &["list"][..],
        &["create", "a"],
        &["doctor"],
        &["world", "list"],
        &["track", "list"],
    ] {
        ezz(verb).refused(1, "no pool of this host has a site");
    }
    ezz(&["--site", "tank", "list"]).refused(1, "is not a site of ezz");
    ezz(&["--site", "tank/none", "list"]).refused(1, "there is no dataset tank/none");
}

#[test]
fn two_sites_are_told_apart() {
    init();
    ezz(&["init", "tank/other", "--directory", "/srv/other"]).ok();
    let both = ezz(&["list"]).refused(1, "several sites");
    assert!(both.stderr.contains("tank/ezz") && both.stderr.contains("tank/other"));
    ezz(&["--site", "tank/other", "list"]).ok();
    sh(&format!("EZZ_SITE=tank/ezz {EZZ} list")).ok();
}

#[test]
fn only_root_may() {
    let denied = sh(&format!("setpriv --reuid 65534 --clear-groups {EZZ} list"));
    denied.refused(1, "must be run as root");
}
