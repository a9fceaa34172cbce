//! Jails that change to another generation, of the same release or another: their own files are merged on the way, and
//! jails that cannot be merged stay where they are.

use std::fs;
use std::path::Path;

use crate::support::*;
use crate::worlds::runnable_world;

/// The next release, which conflicts with an edit of jail b.
const NEXT: &str = "echo 13.0 > /etc/debian_version; echo two > /usr/share/version; \
     printf 'A\\nb\\nc\\nd\\ne\\nf\\ng\\n' > /etc/lines; echo theirs > /etc/both";

/// Returns what the jail finds in its basejail and in its own files, read inside it.
#[track_caller]
fn seen(jail: &str) -> String {
    let script = "cat /usr/share/version; echo .; cat /etc/lines; echo .; cat /etc/both";
    let asked = ezz(&["exec", jail, "--", "/bin/sh", "-c", script]).ok();
    let parts = asked.stdout.replace('\n', "");
    parts.replace('.', " ")
}

fn config(jail: &str) -> serde_json::Value {
    json_property(&format!("tank/ezz/jails/{jail}"), "ezz:jail")
}

/// Returns the base and the skeleton of a jail.
fn stands(jail: &str) -> String {
    let config = config(jail);
    format!("{} {}", config["base"], config["skel"])
}

fn append(jail: &str, file: &str, text: &str) {
    let path = format!("/srv/jails/{jail}/etc/{file}");
    let old = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, old + text).expect("written");
}

fn started(jail: &str) -> String {
    let told = ezz(&["exec", jail, "--", "/bin/sh", "-c", "cat /dev/up"]);
    told.stdout
}

/// Creates a running jail a, whose edit can be merged, and b, whose edit cannot.
#[track_caller]
fn two_jails() {
    init();
    let directory = Path::new("/tmp/runnable");
    runnable_world(directory);
    for (file, text) in [
        ("usr/share/version", "one\n"),
        ("etc/lines", "a\nb\nc\nd\ne\nf\ng\n"),
        ("etc/both", "old\n"),
    ] {
        fs::write(directory.join(file), text).expect("written");
    }
    sh("tar -cf /tmp/runnable.tar -C /tmp/runnable .").ok();
    ezz(&["install", "/tmp/runnable.tar"]).ok();
    ezz(&["create", "a", "b", "--start"]).ok();
    append("a", "lines", "mine\n");
    append("b", "both", "mine\n");
    for jail in ["a", "b"] {
        ezz(&["exec", jail, "--", "/bin/sh", "-c", "echo yes > /dev/up"]).ok();
    }
}

#[track_caller]
fn healthy() {
    let told = ezz(&["doctor", "--json"]).ok().json();
    let findings = told[0]["findings"].as_array().expect("a list");
    // A jail that is behind or held is no fault.
    let broken = findings.iter().filter(|it| it["severity"] != "info");
    assert_eq!(broken.count(), 0, "{told:#?}");
}

#[test]
fn jails_are_merged_on_the_way_and_those_that_cannot_stay() {
    two_jails();
    ezz(&["create", "down"]).ok();
    // A patch level adds files, too.
    let patch =
        "echo 12.2 > /etc/debian_version; echo patched > /usr/share/version; echo p > /etc/p";
    ezz(&["update", "--run", "/bin/sh", "-c", patch]).ok();
    let told = ezz(&["converge"]).ok();
    assert!(
        told.stdout.contains("a: merged from generation 1 to 2"),
        "{told:#?}"
    );
    assert_eq!(seen("a"), "patched abcdefgmine old");
    assert_eq!(stands("a"), r#"{"track":"main"} 2"#);
    assert_eq!(
        fs::read_to_string("/srv/jails/a/etc/p").expect("new"),
        "p\n"
    );
    for jail in ["a", "b"] {
        ezz(&["exec", jail, "--", "/bin/sh", "-c", "echo yes > /dev/up"]).ok();
    }
    ezz(&["update", "--run", "/bin/sh", "-c", NEXT]).ok();
    let planned = ezz(&["converge", "--dry-run"]).ok();
    for words in [
        "a: merge etc/lines",
        "b: CONFLICT etc/both",
        "stop a",
        "start a",
    ] {
        assert!(planned.stdout.contains(words), "{words}: {planned:#?}");
    }
    assert!(!planned.stdout.contains("stop b"), "{planned:#?}");
    assert_eq!(
        (&*seen("a"), &*started("a")),
        ("patched abcdefgmine old", "yes\n")
    );
    let told = ezz(&["converge", "--json"]).exits(3);
    let did = |jail: &str| {
        let lines = told.json();
        let found = lines.iter().filter(|line| line["jail"] == jail);
        let words = found.map(|line| line["did"].as_str().unwrap_or("").to_owned());
        words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!((&*did("a"), &*did("b")), ("merged restarted", "kept"));
    assert!(
        told.stderr.contains("b stays pinned to debian-12.2.2") && told.stderr.contains("etc/both"),
        "{told:#?}"
    );
    assert_eq!(seen("a"), "two Abcdefgmine theirs");
    assert_eq!(stands("a"), r#"{"track":"main"} 3"#);
    // It was not even stopped.
    assert_eq!(
        (&*seen("b"), &*started("b")),
        ("patched abcdefg oldmine", "yes\n")
    );
    assert_eq!(stands("b"), r#"{"pin":2} 2"#);
    assert_eq!(
        config("b")["instead"].to_string(),
        r#"{"of":3,"track":"main"}"#
    );
    let listed = ezz(&["list", "b", "--json"]).ok().json();
    assert_eq!(
        listed[0]["held"].to_string(),
        r#"{"generation":3,"track":"main"}"#
    );
    assert!(ezz(&["list"]).ok().stdout.contains("held (main 3)"));
    assert!(!Path::new("/srv/jails/b/etc/both.ezz-new").exists());
    healthy();
    // A second time nothing is done.
    let again = ezz(&["converge"]).ok();
    assert!(
        again.stderr.contains("b is held on generation 2")
            && again
                .stderr
                .contains("all other running thin jails are up to date"),
        "{again:#?}"
    );
    // A jail that was down is marked, keeps the base that it would start on, and is merged when it starts.
    let listed = ezz(&["list", "down", "--json"]).ok().json();
    assert_eq!(listed[0]["behind"], true);
    ezz(&["world", "prune", "--keep", "0", "--yes"]);
    zfs(&["list", "tank/ezz/basejail/1"]).ok();
    let told = ezz(&["start", "down"]).ok();
    assert!(
        told.stdout.contains("down: merged from generation 1 to 3"),
        "{told:#?}"
    );
    assert_eq!(seen("down"), "two Abcdefg theirs");
    assert_eq!(stands("down"), r#"{"track":"main"} 3"#);
    // The administrator settles b's conflict.
    ezz(&["merge", "b", "--follow", "main"]).refused(1, "while it is running");
    ezz(&["merge", "--follow", "main"]).exits(2);
    ezz(&["stop", "b"]).ok();
    ezz(&["merge", "b", "--follow", "nothing"]).refused(1, "no track nothing");
    let looked = ezz(&["merge", "b", "--follow", "main", "--dry-run"]).exits(3);
    assert!(looked.stdout.contains("CONFLICT etc/both"), "{looked:#?}");
    assert_eq!(stands("b"), r#"{"pin":2} 2"#);
    ezz(&["merge", "b", "--follow", "main"]).exits(3);
    assert_eq!(stands("b"), r#"{"track":"main"} 3"#);
    ezz(&["start", "b"]).ok();
    assert_eq!(seen("b"), "two Abcdefg oldmine");
    let beside = fs::read_to_string("/srv/jails/b/etc/both.ezz-new").expect("both are kept");
    assert_eq!(beside, "theirs\n");
    // The way back also crosses releases, and every jail returns.
    let told = ezz(&["rollback", "--restart"]).ok();
    assert!(
        told.stdout
            .contains("b: brought back from generation 3 to 2"),
        "{told:#?}"
    );
    assert!(!Path::new("/srv/jails/b/etc/both.ezz-new").exists());
    assert_eq!(seen("a"), "patched abcdefgmine old");
    assert_eq!(stands("a"), r#"{"track":"main"} 2"#);
    assert_eq!(seen("b"), "patched abcdefg oldmine");
    assert_eq!(stands("b"), r#"{"track":"main"} 2"#);
    healthy();
    // On the way forward b conflicts again. When its track returns to b's generation, b only follows it, without a
    // restart.
    ezz(&["exec", "b", "--", "/bin/sh", "-c", "echo yes > /dev/up"]).ok();
    ezz(&["rollback", "--restart"]).exits(3);
    assert_eq!(stands("b"), r#"{"pin":2} 2"#);
    ezz(&["rollback", "--restart"]).ok();
    assert_eq!(stands("b"), r#"{"track":"main"} 2"#);
    assert_eq!(started("b"), "yes\n");
    inspected();
}

#[track_caller]
fn inspected() {
    let broken = crate::inspect::site("tank/ezz");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Files that a package adds within a release reach every jail that starts, whoever starts it.
#[test]
fn what_an_update_brings_reaches_the_jails_that_start() {
    two_jails();
    ezz(&["create", "s", "boot"]).ok();
    zfs(&["snapshot", "tank/ezz/jails/s@mine"]).ok();
    let package = "mkdir /etc/nginx; echo conf > /etc/nginx/conf; echo on > /etc/default; \
         printf 'A\\nb\\nc\\nd\\ne\\nf\\ng\\n' > /etc/lines; echo theirs > /etc/both; echo two > /usr/share/version";
    let told = ezz(&["update", "--run", "/bin/sh", "-c", package]).ok();
    assert!(
        told.stderr
            .contains("the own files of 4 jails on the track main are merged"),
        "{told:#?}"
    );
    let has = |jail: &str| {
        let at = format!("/srv/jails/{jail}/etc/nginx/conf");
        fs::read_to_string(at).ok().as_deref() == Some("conf\n")
    };
    let version = |jail: &str| ezz(&["exec", jail, "--", "cat", "/usr/share/version"]).stdout;
    // A dry run changes nothing.
    let planned = ezz(&["restart", "a", "b", "--dry-run"]).ok();
    assert!(
        planned.stdout.contains("a: merge etc/lines"),
        "{planned:#?}"
    );
    assert!(!has("a") && stands("a") == r#"{"track":"main"} 1"#);
    // b has changed a file that the update changes: only b stays, and only b is reported.
    let told = ezz(&["restart", "a", "b"]).exits(3);
    assert!(
        told.stderr.contains("b stays pinned to debian-12.1.1"),
        "{told:#?}"
    );
    assert!(!told.stderr.contains("a stays"), "{told:#?}");
    assert_eq!((&*version("a"), &*version("b")), ("two\n", "one\n"));
    assert!(has("a") && !has("b"));
    assert_eq!(stands("b"), r#"{"pin":1} 1"#);
    ezz(&["start", "s"]).ok();
    assert!(has("s") && version("s") == "two\n");
    // A running jail is left alone.
    let again = ezz(&["start", "s"]).ok();
    assert!(again.stderr.contains("s is already running"), "{again:#?}");
    inspected();
    // As at boot; a held jail does not make it fail again.
    ezz(&["stop", "--all"]).ok();
    ezz(&["start", "--all"]).ok();
    for jail in ["a", "s", "boot"] {
        assert!(has(jail) && version(jail) == "two\n", "{jail}");
        assert_eq!(stands(jail), r#"{"track":"main"} 2"#);
    }
    assert_eq!(version("b"), "one\n");
    inspected();
    // Files that were rolled back to a time before the merge are not started on the base after it.
    ezz(&["stop", "s"]).ok();
    zfs(&["rollback", "-r", "tank/ezz/jails/s@mine"]).ok();
    ezz(&["start", "s"]).refused(1, "were rolled back with zfs(8)");
    let found = ezz(&["doctor"]).exits(1);
    assert!(found.stdout.contains("`ezz merge s`"), "{found:#?}");
    ezz(&["merge", "s"]).ok();
    assert!(has("s"));
    ezz(&["start", "s"]).ok();
    assert_eq!(version("s"), "two\n");
    zfs(&["destroy", "tank/ezz/jails/s@mine"]).ok();
    inspected();
    // Where own files do not differ nothing is merged, and all jails are one commit.
    ezz(&[
        "update",
        "--run",
        "/bin/sh",
        "-c",
        "echo three > /usr/share/version",
    ])
    .ok();
    let epoch = || {
        property("tank/ezz", "ezz:epoch")
            .parse::<u64>()
            .expect("a number")
    };
    ezz(&["stop", "b"]).ok();
    let before = epoch();
    let told = ezz(&["converge"]).ok();
    assert!(!told.stdout.contains("merged"), "{told:#?}");
    assert_eq!(epoch(), before + 1);
    for jail in ["a", "s", "boot"] {
        assert_eq!(version(jail), "three\n");
        assert_eq!(stands(jail), r#"{"track":"main"} 3"#);
    }
    // With another generation the held jail is tried again; when the track is back at its own generation, it follows.
    ezz(&["start", "b"]).exits(3);
    assert_eq!(config("b")["instead"]["of"], 3);
    ezz(&["rollback", "--to", "1", "--restart"]).ok();
    for jail in ["a", "b", "s", "boot"] {
        assert_eq!(version(jail), "one\n", "{jail}");
        assert_eq!(stands(jail), r#"{"track":"main"} 1"#, "{jail}");
        assert!(!has(jail), "{jail}");
    }
    assert!(config("b").get("instead").is_none());
    healthy();
    inspected();
}

/// Two jails that cannot be merged from the beginning, two whose files change while they stop, and one that can.
#[test]
fn a_merge_that_cannot_be_done_leaves_no_jail_down() {
    init();
    let directory = Path::new("/tmp/runnable");
    runnable_world(directory);
    // Its init runs a script that the jail has left for its stop.
    let start = "#!/bin/sh\ntrap '[ -e /etc/on-stop ] && . /etc/on-stop; exit 0' TERM INT 37\nwhile :; do sleep 3600 & wait $!; done\n";
    for (file, text) in [
        ("usr/share/version", "one\n"),
        ("usr/sbin/init", start),
        ("etc/lines", "a\nb\nc\nd\ne\nf\ng\n"),
        ("etc/both", "old\n"),
        ("etc/x/y", "old\n"),
    ] {
        fs::create_dir_all(directory.join(file).parent().expect("it has one")).expect("made");
        fs::write(directory.join(file), text).expect("written");
    }
    sh("chmod 755 /tmp/runnable/usr/sbin/init; tar -cf /tmp/runnable.tar -C /tmp/runnable .").ok();
    ezz(&["install", "/tmp/runnable.tar"]).ok();
    let all = ["busy", "fine", "fixed", "full", "odd"];
    ezz(&[&["create"][..], &all, &["--start"]].concat()).ok();
    let put = |jail: &str, file: &str, text: &str| {
        fs::write(format!("/srv/jails/{jail}/etc/{file}"), text).expect("written");
    };
    sh("chattr +i /srv/jails/fixed/etc/lines; zfs set quota=4M compression=off tank/ezz/jails/full").ok();
    put("busy", "on-stop", "echo mine >/etc/both");
    put("full", "on-stop", "head -c 8M /dev/zero >/root/full");
    put("odd", "x/mine", "mine\n");
    for jail in all {
        ezz(&["exec", jail, "--", "/bin/sh", "-c", "echo yes > /dev/up"]).ok();
    }
    // The release also replaces a directory by a link: where the jail has not changed the directory, the link is taken.
    let next = format!("{NEXT}; rm -r /etc/x; ln -s ../opt /etc/x");
    ezz(&["update", "--run", "/bin/sh", "-c", &next]).ok();
    let planned = ezz(&["converge", "--dry-run"]).ok();
    for words in [
        "etc/lines has a flag",
        "fixed would stay",
        "CONFLICT etc/x",
        "odd would stay",
    ] {
        assert!(
            (planned.stdout.clone() + &planned.stderr).contains(words),
            "{words}: {planned:#?}"
        );
    }
    let told = ezz(&["converge"]).exits(3);
    for words in [
        "fixed stays pinned to",
        "odd stays pinned to",
        "busy stays pinned to",
        "full stays pinned to",
        "etc/both",
        "0 left",
    ] {
        assert!(told.stderr.contains(words), "{words}: {told:#?}");
    }
    assert!(told.stdout.contains("fine: restarted"), "{told:#?}");
    let version = |jail: &str| {
        sh(&format!("{EZZ} exec {jail} -- cat /usr/share/version"))
            .ok()
            .stdout
    };
    assert_eq!(version("fine"), "two\n");
    let link = fs::read_link("/srv/jails/fine/etc/x").expect("a link");
    assert_eq!(link, Path::new("../opt"));
    for (jail, was_down) in [
        ("busy", true),
        ("fixed", false),
        ("full", true),
        ("odd", false),
    ] {
        assert_eq!(version(jail), "one\n", "{jail}");
        // A lack of room is known before the merge, or only when files are written: ZFS counts late.
        let failed = jail == "full" && stands(jail) == r#"{"track":"main"} 1"#;
        assert!(
            failed || stands(jail) == r#"{"pin":1} 1"#,
            "{jail}: {}",
            stands(jail)
        );
        assert_eq!(started(jail), if was_down { "" } else { "yes\n" }, "{jail}");
        let made = format!("/srv/jails/{jail}/etc");
        assert!(!Path::new(&made).join("both.ezz-new").exists(), "{jail}");
        let x = fs::symlink_metadata(Path::new(&made).join("x")).expect("it is there");
        assert!(x.is_dir(), "{jail}");
    }
    // Nothing else is left of the attempts.
    assert!(
        !sh("zfs list -Hro name -t snapshot tank/ezz/jails")
            .stdout
            .lines()
            .any(|line| !line.contains("jails/fine@"))
    );
    healthy();
    // The administrator removes the obstacle.
    sh("chattr -i /srv/jails/fixed/etc/lines").ok();
    ezz(&["stop", "fixed"]).ok();
    ezz(&["merge", "fixed", "--follow", "main"]).ok();
    ezz(&["start", "fixed"]).ok();
    assert_eq!(version("fixed"), "two\n");
    // On the way back every jail returns: a file that cannot be written stays as it is.
    sh("chattr +i /srv/jails/fine/etc/lines").ok();
    let told = ezz(&["rollback", "--restart"]).ok();
    let note = "fine: etc/lines stays: a flag keeps it from being changed";
    assert!(told.stderr.contains(note), "{told:#?}");
    assert_eq!((&*version("fine"), &*version("fixed")), ("one\n", "one\n"));
    let own = |file: &str| fs::read_to_string(format!("/srv/jails/fine/etc/{file}"));
    assert_eq!(own("lines").expect("there"), "A\nb\nc\nd\ne\nf\ng\n");
    assert_eq!(own("both").expect("there"), "old\n");
    sh("chattr -i /srv/jails/fine/etc/lines").ok();
    healthy();
}

#[test]
fn a_roll_out_of_another_release_goes_back_with_all_files() {
    two_jails();
    ezz(&["update", "--stage-only", "--run", "/bin/sh", "-c", NEXT]).ok();
    let begin = ["update", "--swap", "2", "--restart", "--batch", "1"];
    let rollout = |more: &[&str]| ezz(&[&begin[..], more].concat());
    let track = || json_property("tank/ezz/basejail", "ezz:track:main")["current"].to_string();
    // A canary that cannot be merged proves nothing; but the generation is not rejected for it.
    let ended = rollout(&["--canary", "b"]).exits(1);
    assert!(ended.stderr.contains("etc/both"), "{ended:#?}");
    assert_eq!(track(), "1");
    assert_eq!(source("tank/ezz/basejail/2", "ezz:rejected"), "-");
    assert_eq!(source("tank/ezz/basejail", "ezz:rollout:main"), "-");
    assert_eq!(stands("b"), r#"{"track":"main"} 1"#);
    assert_eq!(
        (&*seen("b"), &*started("b")),
        ("one abcdefg oldmine", "yes\n")
    );
    // A jail is not healthy on it: its files and those of the jails that had moved are restored, with all edits.
    let health = [
        "--health",
        "[ $(cat /usr/share/version) = one ]",
        "--health-limit",
        "1",
    ];
    let ended = rollout(&[&health[..], &["--canary", "a"]].concat()).exits(1);
    assert!(ended.stdout.contains("back at debian-12.1.1"), "{ended:#?}");
    assert_eq!(seen("a"), "one abcdefgmine old");
    assert_eq!(stands("a"), r#"{"track":"main"} 1"#);
    assert_eq!(source("tank/ezz/basejail/2", "ezz:rejected"), "local");
    zfs(&["inherit", "ezz:rejected", "tank/ezz/basejail/2"]).ok();
    // b does not matter without canaries: it stays, and the others move.
    rollout(&[]).exits(3);
    assert_eq!(track(), "2");
    assert_eq!(seen("a"), "two Abcdefgmine theirs");
    assert_eq!(seen("b"), "one abcdefg oldmine");
    assert_eq!(stands("b"), r#"{"pin":1} 1"#);
    healthy();
}

#[test]
fn a_converge_across_releases_that_was_killed_is_gone_on_with() {
    two_jails();
    ezz(&["delete", "b", "--yes"]).ok();
    ezz(&["update", "--run", "/bin/sh", "-c", NEXT]).ok();
    let mut cut = 0;
    for step in (1..200).step_by(9) {
        let ended = sh(&format!("EZZ_DIE_BEFORE_STEP={step} {EZZ} converge"));
        let last = ended.code == 0;
        cut += usize::from(!last);
        ezz(&["doctor", "--repair"]);
        ezz(&["converge"]).ok();
        assert_eq!(seen("a"), "two Abcdefgmine theirs", "{step}");
        assert_eq!(stands("a"), r#"{"track":"main"} 2"#, "{step}");
        healthy();
        ezz(&["rollback", "--restart"]).ok();
        assert_eq!(seen("a"), "one abcdefgmine old", "{step}");
        ezz(&["rollback"]).ok();
        if last {
            break;
        }
    }
    assert!(cut >= 3, "{cut} cuts");
}

/// The database of a text that the jail has changed stays, and the jail rebuilds it before it runs.
#[test]
fn what_is_derived_is_made_again_at_the_next_start() {
    init();
    let directory = Path::new("/tmp/runnable");
    runnable_world(directory);
    for (file, text) in [
        ("etc/ld.so.conf", "include\n"),
        ("etc/ld.so.cache", "old\n"),
        (
            "usr/sbin/ldconfig",
            "#!/bin/sh\nread text </etc/ld.so.conf; echo \"made of $text\" >/etc/ld.so.cache\n",
        ),
    ] {
        fs::write(directory.join(file), text).expect("written");
    }
    sh("cd /tmp/runnable && chmod 755 usr/sbin/ldconfig && touch -d 2020-01-01 etc/ld.so.conf && tar -cf ../runnable.tar .").ok();
    ezz(&["install", "/tmp/runnable.tar"]).ok();
    ezz(&["create", "a", "b"]).ok();
    let cache = |jail: &str| {
        fs::read_to_string(format!("/srv/jails/{jail}/etc/ld.so.cache")).expect("it is there")
    };
    fs::write("/srv/jails/a/etc/ld.so.cache", "mine\n").expect("written");
    let script = "echo new >/etc/ld.so.cache; echo two >/etc/ld.so.conf; touch -d 2020-01-01 /etc/ld.so.conf";
    ezz(&["update", "--run", "/bin/sh", "-c", script]).ok();
    let told = ezz(&["merge", "a", "b", "--json"]).ok().json();
    let left = told.iter().map(|it| it["left"].to_string());
    assert_eq!(left.collect::<Vec<_>>(), [r#"["etc/ld.so.cache"]"#, "[]"]);
    assert_eq!(
        (cache("a").as_str(), cache("b").as_str()),
        ("mine\n", "new\n")
    );
    ezz(&["start", "a", "b"]).ok();
    // The release's database fits its text.
    let expected = ("made of two\n", "new\n");
    assert_eq!((cache("a").as_str(), cache("b").as_str()), expected);
    ezz(&["stop", "a"]).ok();
    // A database that cannot be rebuilt keeps no jail down.
    sh("touch /srv/jails/a/etc/ld.so.conf; rm /srv/jails/a/etc/ld.so.cache; mkfifo /srv/jails/a/etc/ld.so.cache").ok();
    ezz(&["start", "a"]).ok();
    ezz(&["stop", "a"]).ok();
    sh("cd /srv/jails/a/etc; rm ld.so.cache; echo mine >ld.so.cache; touch -d 2020-01-01 ld.so.cache; rm ld.so.conf; mkdir ld.so.conf").ok();
    ezz(&["start", "a"]).ok();
    ezz(&["stop", "a"]).ok();
    sh("cd /srv/jails/a/etc; rmdir ld.so.conf; : >ld.so.conf; rm ../usr/sbin; ln -s nowhere ../usr/sbin").ok();
    let told = ezz(&["start", "a"]).ok();
    let words = "starts without a /etc/ld.so.cache that is as new as /etc/ld.so.conf";
    assert!(told.stderr.contains(words), "{told:#?}");
}
