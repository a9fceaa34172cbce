//! Jails whose own files skip a generation, come back one or two, change their track, and are pinned and let go.

use std::fs;
use std::path::Path;

use super::merge::{files_of, snapshots_of_merges};
use crate::inspect;
use crate::support::*;
use crate::worlds::runnable_world;

const WORLD: &str = "/tmp/runnable";

/// The second and the third generation: each has another user, other files and another type at one path; both have
/// changed what jail c has edited.
const SECOND: &str = "echo two >usr/share/version; echo two >etc/version; echo two >etc/both; mkdir etc/two; echo x >etc/two/file
     printf 'A\\nb\\nc\\nd\\ne\\nf\\ng\\nh\\n' >etc/lines; rm etc/turns; mkdir etc/turns; echo x >etc/turns/file
     echo 'two:x:992:992::/:/bin/sh' >>etc/passwd; echo 'two:x:992:' >>etc/group";
const THIRD: &str = "echo three >usr/share/version; echo three >etc/version; echo three >etc/both; rm -rf etc/two etc/turns; mkdir etc/three
     printf 'A\\nb\\nc\\nD\\ne\\nf\\ng\\nh\\n' >etc/lines; ln -s lines etc/turns
     echo 'three:x:993:993::/:/bin/sh' >>etc/passwd; echo 'three:x:993:' >>etc/group; mkdir var/lib/three; chown 993:993 var/lib/three";

/// The updater: a script in the root of the world.
fn script(text: &str) -> [String; 5] {
    let text = format!("set -e; cd $EZZ_ROOT; {text}");
    ["--on-host", "--run", "/bin/sh", "-c", &text].map(str::to_owned)
}

/// A site whose first generation has what the others change.
#[track_caller]
fn first() {
    init();
    let directory = Path::new(WORLD);
    runnable_world(directory);
    for (file, text) in [
        ("usr/share/version", "one\n"),
        ("etc/version", "one\n"),
        ("etc/both", "one\n"),
        ("etc/turns", "one\n"),
        ("etc/lines", "a\nb\nc\nd\ne\nf\ng\nh\n"),
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
    ] {
        fs::write(directory.join(file), text).expect("written");
    }
    sh(&format!("tar -cf {WORLD}.tar -C {WORLD} .")).ok();
    ezz(&["install", &format!("{WORLD}.tar")]).ok();
}

#[track_caller]
fn update(track: &str, text: &str) -> Ended {
    let script = script(text);
    let script = script.iter().map(String::as_str);
    let words: Vec<&str> = ["update", "--track", track]
        .into_iter()
        .chain(script)
        .collect();
    ezz(&words).ok()
}

/// What its administrator has done to each jail.
#[track_caller]
fn edited(jail: &str) {
    sh(&format!(
        "cd /srv/jails/{jail}/etc; sed -i 's/^h$/H mine/' lines; echo mine >own
         echo 'alice:x:1001:1001::/:/bin/sh' >>passwd; echo 'alice:x:1001:' >>group"
    ))
    .ok();
}

/// A conflict with the second and with the third.
fn in_conflict(jail: &str) {
    fs::write(format!("/srv/jails/{jail}/etc/both"), "mine\n").expect("written");
}

/// Its own files, but for the record of ezz that says which generation they are of.
fn own(jail: &str) -> Vec<String> {
    let mut files = files_of(&format!("/srv/jails/{jail}"));
    files.retain(|line| !line.contains("/basejail/.ezz-generation "));
    files
}

fn version(jail: &str) -> String {
    let asked = ezz(&["exec", jail, "--", "cat", "/usr/share/version"]).ok();
    asked.stdout.trim().to_owned()
}

/// How `list` shows it: what it runs on, what its own files are at, what is due, and why not.
fn listed(jail: &str) -> String {
    let lines = ezz(&["list", "--json", jail]).ok().json();
    let cell = |name: &str| lines[0][name].to_string().replace('"', "");
    let cells = ["generation", "skeleton", "due", "behind", "held"].map(cell);
    cells.join(" ")
}

fn base(jail: &str) -> String {
    json_property(&format!("tank/ezz/jails/{jail}"), "ezz:jail")["base"].to_string()
}

#[track_caller]
fn whole() {
    assert_eq!(inspect::site(SITE), [""; 0]);
    let told = ezz(&["doctor", "--json"]).ok().json();
    let findings = told[0]["findings"].as_array().expect("a list");
    // That a jail is behind or held is no fault.
    let broken = findings.iter().filter(|it| it["severity"] != "info");
    assert_eq!(broken.count(), 0, "{told:#?}");
}

#[test]
fn two_updates_before_a_restart_are_one_merge_and_come_back_in_one_or_two() {
    first();
    // What a first start adds is there before they are looked at.
    ezz(&["create", "a", "c", "down", "--start"]).ok();
    ezz(&["stop", "down"]).ok();
    for jail in ["a", "c", "down"] {
        edited(jail);
    }
    in_conflict("c");
    let at_one = ["a", "c", "down"].map(own);
    update("main", SECOND);
    let told = update("main", THIRD);
    let words = "the own files of 3 jails on the track main are merged at the next start";
    assert!(told.stderr.contains(words), "{told:#?}");
    assert_eq!(listed("a"), "1 1 3 true null");
    assert_eq!(listed("down"), "null 1 3 true null");
    // From the first to the third at once.
    let told = ezz(&["converge"]).exits(3);
    let words = "a: merged from generation 1 to 3";
    assert!(told.stdout.contains(words), "{told:#?}");
    assert!(told.stderr.contains("c stays pinned to"), "{told:#?}");
    assert_eq!(listed("a"), "3 3 3 false null");
    assert_eq!(listed("c"), "1 1 1 false {generation:3,track:main}");
    let column = ezz(&["list", "c"]).ok().stdout;
    assert!(column.contains("held (main 3)"), "{column}");
    let pair = "tank/ezz/jails/a@ezz-merge-1-3 tank/ezz/jails/a@ezz-merged-1-3";
    assert_eq!(snapshots_of_merges("a"), pair);
    let script = "cat /etc/version /etc/lines; [ -h /etc/turns ] && echo link; ls -d /etc/t*; cat /etc/own; \
         while IFS=: read -r name rest; do echo $name; done </etc/passwd";
    let asked = ezz(&["exec", "a", "--", "sh", "-c", script]).ok();
    assert_eq!(
        asked.stdout,
        "three\nA\nb\nc\nD\ne\nf\ng\nH mine\nlink\n/etc/three\n/etc/turns\nmine\nroot\ntwo\nthree\nalice\n"
    );
    assert_eq!(own("c"), at_one[1]);
    whole();
    let at_three = own("a");

    // Once back: to the second, where it has never been. Its own work stays.
    ezz(&["rollback"]).ok();
    assert_eq!(listed("a"), "3 3 2 true null");
    assert_eq!(listed("c"), "1 1 2 true {generation:3,track:main}");
    let told = ezz(&["converge"]).exits(3);
    assert!(told.stderr.contains("c stays pinned to"), "{told:#?}");
    assert_eq!((version("a"), version("c")), ("two".into(), "one".into()));
    assert_eq!(listed("a"), "2 2 2 false null");
    assert_eq!(listed("c"), "1 1 1 false {generation:2,track:main}");
    // The account three stays: files of it below /var are the jail's.
    let asked = ezz(&["exec", "a", "--", "sh", "-c", script]).ok();
    assert_eq!(
        asked.stdout,
        "two\nA\nb\nc\nd\ne\nf\ng\nH mine\n/etc/turns\n/etc/two\nmine\nroot\ntwo\nthree\nalice\n"
    );
    // A second time returns to the third.
    ezz(&["rollback"]).ok();
    ezz(&["converge"]).exits(3);
    assert_eq!(listed("a"), "3 3 3 false null");
    assert_eq!(own("a"), at_three);
    assert_eq!(listed("c"), "1 1 1 false {generation:3,track:main}");
    // And to the first: all as before, the one in conflict follows again, and the one that was down never left it.
    ezz(&["rollback", "--to", "1", "--restart"]).ok();
    for jail in ["a", "c"] {
        assert_eq!(listed(jail), "1 1 1 false null");
        assert_eq!(base(jail), r#"{"track":"main"}"#);
    }
    ezz(&["start", "down"]).ok();
    assert_eq!(listed("down"), "1 1 1 false null");
    assert_eq!(["c", "down"].map(own), at_one[1..]);
    // In the one that was at the third, the account stays whose directory below /var stays.
    let of_three = |line: &String| {
        ["/etc/passwd", "/etc/group", "/var/lib/three"]
            .iter()
            .any(|it| line.contains(it))
    };
    let without = |mut files: Vec<String>| {
        files.retain(|line| !of_three(line));
        files
    };
    assert_eq!(without(own("a")), without(at_one[0].clone()));
    for list in ["passwd", "group"] {
        let text = fs::read_to_string(format!("/srv/jails/a/etc/{list}")).expect("there");
        let names = text.lines().filter_map(|line| line.split(':').next());
        assert_eq!(
            names.collect::<Vec<_>>(),
            ["root", "three", "alice"],
            "{text}"
        );
    }
    whole();
}

/// A fleet file for these jails, each with a line that says what it is made of.
#[track_caller]
fn apply(jails: &[(&str, &str)]) -> Ended {
    let mut text = "fleet = \"f\"\n".to_owned();
    for (name, origin) in jails {
        text += &format!("[[jail]]\nname = \"{name}\"\n{origin}\n");
    }
    fs::write("/tmp/fleet.toml", text).expect("written");
    ezz(&["apply", "/tmp/fleet.toml"]).ok()
}

#[test]
fn own_files_follow_a_jail_to_another_track_and_to_a_pin_and_back() {
    first();
    ezz(&["track", "create", "14", "--generation", "1"]).ok();
    ezz(&["track", "create", "15", "--generation", "1"]).ok();
    update("15", SECOND);
    let jails = ["a", "c", "p", "s"];
    ezz(&[&["create", "--track", "14", "--start"][..], &jails].concat()).ok();
    ezz(&["stop", "s"]).ok();
    jails.into_iter().for_each(edited);
    in_conflict("c");
    let was = jails.map(own);

    // The base of a jail changes at once, its own files when it starts next.
    let told = apply(&[
        ("a", "track = \"15\""),
        ("c", "track = \"15\""),
        ("p", "pin = \"1\""),
    ]);
    assert!(told.stderr.contains("ezz restart"), "{told:#?}");
    for jail in ["a", "c"] {
        assert_eq!(listed(jail), "1 1 2 true null");
        assert_eq!(base(jail), r#"{"track":"15"}"#);
    }
    assert_eq!(
        (listed("p"), base("p")),
        ("1 1 1 false null".into(), r#"{"pin":1}"#.into())
    );
    let told = ezz(&["converge"]).exits(3);
    assert!(
        told.stdout.contains("a: merged from generation 1 to 2"),
        "{told:#?}"
    );
    assert!(
        told.stderr.contains("c stays pinned to") && told.stderr.contains("etc/both"),
        "{told:#?}"
    );
    assert_eq!((version("a"), version("c")), ("two".into(), "one".into()));
    assert_eq!(listed("c"), "1 1 1 false {generation:2,track:15}");
    assert_eq!(own("c"), was[1]);
    let column = ezz(&["list", "c"]).ok().stdout;
    assert!(column.contains("held (15 2)"), "{column}");
    // One that is stopped.
    ezz(&["merge", "s", "--follow", "15"]).ok();
    assert_eq!(
        (listed("s"), base("s")),
        ("null 2 2 false null".into(), r#"{"track":"15"}"#.into())
    );

    // Its pin keeps a jail where it is, whatever its former track does.
    update("14", THIRD);
    assert_eq!(listed("p"), "1 1 1 false null");
    ezz(&["restart", "p"]).ok();
    assert_eq!((version("p"), own("p")), ("one".into(), was[2].clone()));
    // Lifted, its own files follow.
    apply(&[("p", "track = \"14\"")]);
    assert_eq!(listed("p"), "1 1 3 true null");
    let told = ezz(&["converge", "p"]).ok();
    assert!(
        told.stdout.contains("p: merged from generation 1 to 3"),
        "{told:#?}"
    );
    assert_eq!(
        (version("p"), listed("p")),
        ("three".into(), "3 3 3 false null".into())
    );
    let read =
        |jail: &str, file: &str| fs::read_to_string(format!("/srv/jails/{jail}/etc/{file}")).ok();
    assert_eq!(read("p", "own").as_deref(), Some("mine\n"));
    assert_eq!(read("p", "version").as_deref(), Some("three\n"));
    // A pin to another generation than the one it has brings them, too: back to the first.
    apply(&[("p", "pin = \"1\"")]);
    assert_eq!(listed("p"), "3 3 1 true null");
    ezz(&["restart", "p"]).ok();
    assert_eq!((version("p"), own("p")), ("one".into(), was[2].clone()));

    // Back to a track at the first generation: what the merges wrote goes, and c, which never left, follows again.
    ezz(&["rollback", "--track", "14", "--to", "1"]).ok();
    apply(&[
        ("a", "track = \"14\""),
        ("c", "track = \"14\""),
        ("s", "track = \"14\""),
    ]);
    assert_eq!(listed("c"), "1 1 1 false null");
    assert_eq!(listed("a"), "2 2 1 true null");
    ezz(&["converge"]).ok();
    ezz(&["start", "s"]).ok();
    assert_eq!(jails.map(own), was);
    for jail in ["a", "c", "s"] {
        assert_eq!(
            (version(jail), base(jail)),
            ("one".into(), r#"{"track":"14"}"#.into())
        );
    }
    whole();
}

/// A jail that a conflict holds, and a file that pins it to where it is: its track does not take it back.
#[test]
fn a_pin_that_a_file_sets_is_not_the_pin_of_a_conflict() {
    first();
    ezz(&["create", "c", "--start"]).ok();
    in_conflict("c");
    update("main", SECOND);
    ezz(&["converge"]).exits(3);
    assert_eq!(listed("c"), "1 1 1 false {generation:2,track:main}");
    apply(&[("c", "pin = \"1\"")]);
    assert_eq!(listed("c"), "1 1 1 false null");
    // The track goes on, and the jail does not.
    update("main", "echo one >etc/both; echo x >etc/more");
    ezz(&["restart", "c"]).ok();
    assert_eq!(
        (version("c"), base("c")),
        ("one".into(), r#"{"pin":1}"#.into())
    );
    whole();
}

/// A roll-out that turns back leaves a jail as it was that had a conflict with the former generation already.
#[test]
fn a_roll_out_that_turns_back_forces_nothing_on_a_jail_that_is_held() {
    first();
    ezz(&["create", "c", "w", "--start"]).ok();
    in_conflict("c");
    let was = own("c");
    update("main", SECOND);
    ezz(&["converge"]).exits(3);
    assert_eq!(listed("c"), "1 1 1 false {generation:2,track:main}");
    let health = "[ $(cat /usr/share/version) != three ]";
    let begin = [
        "update",
        "--restart",
        "--batch",
        "1",
        "--health",
        health,
        "--health-limit",
        "15",
    ];
    let script = script(THIRD);
    let words = begin.into_iter().chain(script.iter().map(String::as_str));
    let told = ezz(&words.collect::<Vec<_>>());
    // Jail c, which comes first, is named each time, and no more.
    assert_eq!(told.code, 3, "{told:#?}");
    assert!(told.stderr.contains("c stays pinned to"), "{told:#?}");
    assert!(told.stdout.contains("back at debian-12.1.2"), "{told:#?}");
    assert_eq!(
        (version("w"), listed("w")),
        ("two".into(), "2 2 2 false null".into())
    );
    assert_eq!((version("c"), own("c")), ("one".into(), was));
    assert_eq!(listed("c"), "1 1 1 false {generation:2,track:main}");
    whole();
}

/// What a merge would find in a base is looked for, whether or not that is mounted, and nothing stays mounted.
#[test]
fn a_dry_run_foresees_a_number_that_shared_files_carry() {
    first();
    ezz(&["create", "j"]).ok();
    sh("cd /srv/jails/j/etc; echo 'mine:x:990:990::/:/bin/sh' >>passwd; echo 'mine:x:990:' >>group").ok();
    let service = "echo 'svc:x:990:990::/:/bin/sh' >>etc/passwd; echo 'svc:x:990:' >>etc/group; \
         cp usr/bin/cat usr/bin/svc; chown 990:990 usr/bin/svc";
    update("main", service);
    let words = "files of the release belong to the user svc by the number 990, which is mine's in the jail";
    let looked = |told: Ended| {
        let told = told.exits(3);
        let said = told.stdout.clone() + &told.stderr;
        assert!(said.contains(words), "{told:#?}");
    };
    looked(ezz(&["merge", "j", "--dry-run"]));
    sh("umount /srv/jails/basejail/2").ok();
    let (before, around) = (everything(), conditions());
    looked(ezz(&["merge", "j", "--dry-run"]));
    assert_eq!((everything(), conditions()), (before, around));
    looked(ezz(&["merge", "j"]));
    whole();
    assert!(
        !mounts_of("tank").iter().any(|it| it.contains("/run/ezz")),
        "{:#?}",
        mounts_of("tank")
    );
}

/// As after an import without mounts: what is not mounted is not an empty jail.
#[test]
fn the_own_files_of_a_jail_that_is_not_mounted_are_not_taken_for_none() {
    first();
    ezz(&["create", "j", "k"]).ok();
    ["j", "k"].into_iter().for_each(edited);
    let was = own("j");
    update("main", SECOND);
    ezz(&["merge", "k"]).ok();
    let merged = own("k");
    sh("umount /srv/jails/j").ok();
    ezz(&["merge", "j", "--dry-run"]).refused(1, "the own files of j are not mounted");
    ezz(&["merge", "j"]).ok();
    let renamed = |files: Vec<String>| -> Vec<String> {
        files
            .iter()
            .map(|line| line.replacen("/k/", "/j/", 1))
            .collect()
    };
    assert_eq!(own("j"), renamed(merged));
    ezz(&["rollback", "--to", "1"]).ok();
    sh("umount /srv/jails/j").ok();
    ezz(&["merge", "j"]).ok();
    assert_eq!(own("j"), was);
    whole();
}
