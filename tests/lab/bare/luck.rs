//! Updates under bad conditions: two at once, jails that are created meanwhile, jails that do not stop, generations
//! that another program has destroyed.

use std::fs;

use super::update::{epoch, link, seen, track, update, versioned};
use crate::support::*;

/// Checks that a killed or failed command has left nothing.
#[track_caller]
/// A jail that is behind its track is no fault.
fn whole() {
    let told = ezz(&["doctor", "--json"]).ok().json();
    let mut findings = told[0]["findings"].as_array().expect("a list").clone();
    findings.retain(|found| found["kind"] != "behind");
    assert!(findings.is_empty(), "{findings:#?}");
}

/// Both are built from the first generation, so the second would undo what the first has brought.
#[test]
fn of_two_updates_at_once_one_wins_and_the_other_is_told() {
    versioned();
    let slow =
        "echo the slow one; date +%N >/usr/share/slow; while [ ! -e /run/go ]; do sleep 1; done";
    let on_host = format!(
        "{EZZ} update --on-host --run /bin/sh -c '{}' 2>/tmp/slow.err",
        slow.replace("/usr/share", "$EZZ_ROOT/usr/share")
    );
    let mut first = spawn("/", &on_host);
    wait_for("the first to be at work", 60, || {
        exists("tank/ezz/basejail/2")
    });
    let quick = "echo the quick one; echo two >/usr/share/version";
    let kept = ezz(&["update", "--run", "/bin/sh", "-c", quick]).ok();
    assert!(!kept.stderr.contains("destroying it"), "{kept:#?}");
    assert_eq!(track("main"), (3, Some(1)));
    fs::write("/run/go", "").expect("written");
    assert_eq!(first.wait().expect("it ended").code(), Some(1));
    let told = fs::read_to_string("/tmp/slow.err").expect("it said why");
    assert!(
        told.contains("no longer at generation 1, which generation 2 was made from"),
        "{told}"
    );
    assert!(told.contains("hint: run the update again"), "{told}");
    assert_eq!((track("main"), link()), ((3, Some(1)), "../3".to_owned()));
    // Each update has a log of its own.
    let log = |generation| {
        sh(&format!("cat /var/log/ezz/*/stage-{generation}.log"))
            .ok()
            .stdout
    };
    assert_eq!(
        (log(2), log(3)),
        ("the slow one\n".to_owned(), "the quick one\n".to_owned())
    );
    // Its generation exists, and can be swapped to on request.
    ezz(&["update", "--swap", "2"]).ok();
    assert_eq!(track("main"), (2, Some(3)));
    // A roll-out of a generation that was built from another one does not begin either.
    let _ = fs::remove_file("/run/go");
    let mut first = spawn("/", &on_host.replace("update ", "update --restart "));
    wait_for("it to be at work", 60, || exists("tank/ezz/basejail/4"));
    ezz(&["rollback"]).ok();
    let before = epoch();
    fs::write("/run/go", "").expect("written");
    assert_eq!(first.wait().expect("it ended").code(), Some(1));
    let told = fs::read_to_string("/tmp/slow.err").expect("it said why");
    assert!(told.contains("no longer at generation 2"), "{told}");
    assert_eq!(
        (
            track("main").0,
            source("tank/ezz/basejail", "ezz:rollout:main")
        ),
        (3, "-".to_owned())
    );
    // Only the seal, and the note that its files are complete.
    assert_eq!(epoch(), before + 2);
    whole();
}

#[test]
fn a_jail_that_comes_while_the_track_moves_is_wholly_of_one_generation() {
    versioned();
    // The skeleton also shows its generation.
    ezz(&[
        "update",
        "--stage-only",
        "--run",
        "/bin/sh",
        "-c",
        "echo two >/usr/share/version; echo two >/etc/version",
    ])
    .ok();
    let mut creator = spawn(
        "/",
        &format!(
            "n=0; while [ ! -e /run/enough ]; do n=$((n+1)); {EZZ} -q create a$n b$n || exit 1; done; echo $n >/run/made"
        ),
    );
    let mut swaps = 0;
    while !exists("tank/ezz/jails/a12") {
        ezz(&[
            "-q",
            "update",
            "--swap",
            if swaps % 2 == 0 { "2" } else { "1" },
        ])
        .ok();
        swaps += 1;
    }
    fs::write("/run/enough", "").expect("written");
    assert!(
        creator.wait().expect("it ended").success(),
        "a create failed"
    );
    assert!(swaps >= 4, "{swaps} swaps");
    let listed = zfs(&[
        "get",
        "-Hpr",
        "-o",
        "name,value",
        "origin",
        "tank/ezz/jails",
    ])
    .ok();
    let mut of = [0, 0];
    for line in listed.stdout.lines().skip(1) {
        let (name, origin) = line.split_once('\t').expect("two columns");
        let config = json_property(name, "ezz:jail");
        let skel = config["skel"].as_u64().expect("a number");
        assert_eq!(origin, format!("tank/ezz/newjail/{skel}@{skel}"), "{name}");
        let at = property(name, "mountpoint");
        let version = fs::read_to_string(format!("{at}/etc/version")).ok();
        assert_eq!(version.as_deref(), (skel == 2).then_some("two\n"), "{name}");
        of[usize::try_from(skel).expect("small") - 1] += 1;
    }
    assert!(
        of[0] > 0 && of[1] > 0,
        "of the first and the second: {of:?}"
    );
    whole();
}

/// A process of the host uses the jail's files: they cannot be unmounted, so the jail is not down.
#[test]
fn a_jail_that_does_not_stop_turns_the_roll_out_back() {
    versioned();
    ezz(&["create", "a", "b", "--start"]).ok();
    update("two", &["--stage-only"]).ok();
    let root = sh("ls -d /run/ezz/*/jails/b/root").ok().stdout;
    let mut holder = spawn(root.trim(), "exec sleep 1000");
    let ended = ezz(&[
        "update",
        "--swap",
        "2",
        "--restart",
        "--batch",
        "1",
        "--json",
    ]);
    assert_ne!(ended.code, 0, "{ended:#?}");
    assert!(ended.stderr.contains("cannot converge b"), "{ended:#?}");
    assert_eq!((track("main"), link()), ((1, None), "../1".to_owned()));
    assert_eq!(seen("a"), "one");
    let rejected = json_property("tank/ezz/basejail/2", "ezz:rejected");
    assert!(
        rejected["why"]
            .as_str()
            .is_some_and(|why| why.contains('b')),
        "{rejected}"
    );
    // The jail is reported, and the next command brings it back once nothing uses its files.
    let listed = ezz(&["list", "b", "--json"]).ok().json();
    assert_ne!(listed[0]["generation"], 2, "{listed:?}");
    holder.kill().expect("it can be killed");
    let _ = holder.wait();
    ezz(&["converge"]).ok();
    ezz(&["start", "b"]).ok();
    assert_eq!((seen("a"), seen("b")), ("one".to_owned(), "one".to_owned()));
    ezz(&["doctor", "--repair"]).ok();
    whole();
}

/// `zfs destroy` by an administrator: each half of each generation that a command needs.
#[test]
fn what_somebody_has_destroyed_is_missed_before_anything_is_changed() {
    versioned();
    ezz(&["create", "a", "--start"]).ok();
    ezz(&["create", "merged"]).ok();
    for word in ["two", "three", "four"] {
        update(word, &["--stage-only"]).ok();
    }
    let refused = |args: &[&str], words: &str| {
        let before = everything();
        ezz(args).refused(1, words);
        assert_eq!(everything(), before, "{args:?}");
    };
    // The skeleton's seal of the target: no jails could be created from it.
    sh("zfs release ezz tank/ezz/newjail/2@2; zfs destroy tank/ezz/newjail/2@2").ok();
    refused(&["update", "--swap", "2"], "newjail/2@2");
    refused(
        &["update", "--swap", "2", "--restart", "--canary", "a"],
        "newjail/2@2",
    );
    refused(&["create", "x", "--pin", "2"], "newjail/2@2");
    // The base of the target.
    sh("umount /srv/jails/basejail/3; zfs release ezz tank/ezz/basejail/3@3; zfs destroy -r tank/ezz/basejail/3").ok();
    refused(
        &["update", "--swap", "3", "--restart"],
        "no sealed generation",
    );
    refused(&["rollback", "--to", "3"], "no sealed generation");
    // The skeleton that a jail's files are to be merged to; nothing of the jail is touched.
    ezz(&["update", "--swap", "4"]).ok();
    sh("zfs release ezz tank/ezz/newjail/4@4; zfs destroy -r tank/ezz/newjail/4").ok();
    refused(&["merge", "merged"], "the skeleton of generation 4");
    refused(&["create", "x"], "newjail/4@4");
    assert_eq!((seen("a"), track("main")), ("one".to_owned(), (4, Some(1))));
    ezz(&["rollback"]).ok();
    ezz(&["start", "merged"]).ok();
    assert_eq!(seen("merged"), "one");
}

/// The generation that a roll-out would return to was destroyed: this is reported, and the roll-out can be continued.
#[test]
fn a_roll_out_whose_way_back_is_gone_can_be_gone_on_with() {
    versioned();
    ezz(&["create", "a", "b", "--start"]).ok();
    update("two", &[]).ok();
    update("three", &["--stage-only"]).ok();
    ezz(&["converge"]).ok();
    let begin = "update --swap 3 --restart --canary a --batch 1";
    let mut step = 40;
    let phase = || {
        (source("tank/ezz/basejail", "ezz:rollout:main") == "local")
            .then(|| json_property("tank/ezz/basejail", "ezz:rollout:main")["phase"].clone())
    };
    while phase().is_none() {
        let ended = sh(&format!("EZZ_DIE_BEFORE_STEP={step} {EZZ} {begin}"));
        assert_ne!(ended.code, 0, "it was over before: {ended:#?}");
        step += 10;
        assert!(step < 200);
    }
    // Its base cannot be destroyed, because running jails use it; its skeleton can.
    sh("zfs release ezz tank/ezz/newjail/2@2; zfs destroy tank/ezz/newjail/2@2").ok();
    ezz(&["update", "--abort"]).refused(1, "generation 2");
    ezz(&["doctor"]).exits(1);
    ezz(&["update", "--continue"]).ok();
    assert_eq!(
        (seen("a"), seen("b")),
        ("three".to_owned(), "three".to_owned())
    );
    assert_eq!(source("tank/ezz/basejail", "ezz:rollout:main"), "-");
}

/// Every option of the verbs that change what jails run on.
#[test]
fn bad_values_change_nothing() {
    init();
    install_small();
    install_small();
    ezz(&["create", "a"]).ok();
    let before = everything();
    let long = "x".repeat(2000);
    for args in [
        &["update", "--track", "No!"][..],
        &["update", "--from", "/nowhere"],
        &["update", "--from", "/tmp/small.tar", "--sha256", "12"],
        &["update", "--from", "/tmp/small.tar", "--profile", "none"],
        &["update", "--from", "/tmp/small.tar", "--swap", "2"],
        &["update", "--from", "/tmp/small.tar", "--run", "true"],
        &["update", "--sha256", &"0".repeat(64)],
        &["update", "--run"],
        &["update", "--on-host"],
        &["update", "--limit", "0", "--run", "true"],
        &["update", "--limit", "soon", "--run", "true"],
        &["update", "--stage-only", "--restart", "--run", "true"],
        &["update", "--stage-only", "--swap", "2"],
        &["update", "--swap", "2", "--canary", "a"],
        &["update", "--swap", "2", "--restart", "--batch", "0"],
        &["update", "--swap", "2", "--restart", "--pause", "-1"],
        &["update", "--swap", "2", "--restart", "--health-limit", "0"],
        &["update", "--swap", "2", "--why", "two\nlines"],
        &["update", "--swap", "2", "--why", &long],
        &["update", "--continue", "--abort"],
        &["update", "--continue", "--swap", "2"],
        &["rollback", "--track", "No!"],
        &["rollback", "--batch", "none"],
        &["converge", "--batch", "0", "a"],
        &["converge", "A!"],
        &["merge", "--follow", "No!", "a"],
        &["world", "prune", "--keep", "-1"],
        &["world", "diff"],
    ] {
        ezz(args).exits(2);
        assert_eq!(everything(), before, "{args:?}");
    }
    for (args, words) in [
        (
            &["update", "--track", "none", "--run", "true"][..],
            "there is no track none",
        ),
        (&["update", "--swap", "9"], "no sealed generation"),
        (&["update", "--swap", "12.9"], "no sealed generation"),
        (
            &["update", "--swap", "2", "--restart", "--canary", "nobody"],
            "no jail nobody",
        ),
        (
            &["update", "--restart", "--canary", "nobody", "--run", "true"],
            "no jail nobody",
        ),
        (&["update", "--continue"], "no roll-out"),
        (&["update", "--abort"], "no roll-out"),
        (&["rollback"], "no previous generation"),
        (&["rollback", "--track", "none"], "there is no track none"),
        (&["rollback", "--to", "debian"], "no sealed generation"),
        (&["converge", "nobody"], "no jail nobody"),
        (&["converge", "b*"], "no jail matches"),
        (&["merge", "nobody"], "no jail nobody"),
        (
            &["merge", "a", "--follow", "none"],
            "there is no track none",
        ),
        (&["world", "show", "9"], "no sealed generation"),
        (&["world", "verify", "9"], "no sealed generation"),
        (&["world", "diff", "1", "9"], "no sealed generation"),
        (&["track", "log", "none"], "there is no track none"),
    ] {
        ezz(args).refused(1, words);
        assert_eq!(everything(), before, "{args:?}");
    }
    ezz(&["world", "diff", "1"]).refused(2, "was not made from another generation");
    assert_eq!(everything(), before);
    // A wrong digest is detected when everything was read: nothing of the world stays.
    let digest = "0".repeat(64);
    ezz(&["update", "--from", "/tmp/small.tar", "--sha256", &digest]).refused(1, "SHA-256");
    assert_eq!(track("main"), (1, None));
    assert!(!exists("tank/ezz/basejail/3"));
    whole();
}

/// After Ctrl-C during its command the update ends, and nothing of the stage is left.
#[test]
fn one_that_is_interrupted_says_so_and_leaves_nothing() {
    versioned();
    let before = (track("main"), link());
    let mut slow = spawn(
        "/",
        &format!("exec {EZZ} update --run /bin/sh -c 'sleep 1000' 2>/tmp/slow.err"),
    );
    wait_for("its command to run", 60, || {
        !processes("sleep 1000").is_empty() && exists("tank/ezz/basejail/2")
    });
    sh(&format!("kill -INT {}", slow.id())).ok();
    assert_eq!(slow.wait().expect("it ended").code(), Some(1));
    let told = fs::read_to_string("/tmp/slow.err").expect("it said why");
    assert!(
        told.contains("interrupted; nothing was left behind"),
        "{told}"
    );
    assert_eq!(processes("sleep 1000"), Vec::<u32>::new());
    assert!(!exists("tank/ezz/basejail/2"));
    assert_eq!((track("main"), link()), before);
    whole();
}
