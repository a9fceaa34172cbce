//! What stays in a jail on the way back of a merge, and what a merge leaves alone that the jail has put in its way.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use super::merge::{files_of, snapshots_of_merges};
use crate::inspect;
use crate::support::*;

const WORLD: &str = "/tmp/small";

/// What the second generation adds: a service with its user, files that it owns below /opt and /etc, and two directories
/// of state.
const SERVICE: &str = "mkdir -p opt/svc/sub var/lib/postgresql/15/main/base var/lib/svc etc/svc
    echo new >opt/svc/file; echo new >opt/svc/sub/file; echo conf >etc/svc/conf; chown 990:990 opt/svc/file opt/svc/sub/file etc/svc/conf
    for f in PG_VERSION base/1 base/2; do echo new >var/lib/postgresql/15/main/$f; done; chown -R 990:990 var/lib/postgresql/15
    for f in data index; do echo new >var/lib/svc/$f; done; chown -R 990:990 var/lib/svc
    echo 'svc:x:990:990::/:/bin/sh' >>etc/passwd; echo 'svc:x:990:' >>etc/group; echo 'svc:!:1::::::' >>etc/shadow";

/// Packs the world after a change of it, as another generation.
#[track_caller]
fn install(change: &str) {
    sh(&format!(
        "set -e; cd {WORLD}; {change}; tar -cf {WORLD}.tar ."
    ))
    .ok();
    ezz(&["install", &format!("{WORLD}.tar")]).ok();
}

/// A site whose first generation has the lists of accounts and what `change` makes of it.
#[track_caller]
fn first(change: &str) {
    init();
    small_world(Path::new(WORLD), "12.1");
    install(&format!("echo 'root:x:0:' >etc/group; {change}"));
}

/// A jail's own files, but for the record of ezz that says which generation they are of.
fn own(jail: &str) -> Vec<String> {
    let mut files = files_of(&format!("/srv/jails/{jail}"));
    files.retain(|line| !line.contains("/basejail/.ezz-generation "));
    files
}

fn text(jail: &str, file: &str) -> String {
    fs::read_to_string(format!("/srv/jails/{jail}/{file}")).unwrap_or_default()
}

/// Merges a jail; its line of the result.
#[track_caller]
fn merged(jail: &str, code: i32) -> Value {
    let mut lines = ezz(&["merge", jail, "--json"]).exits(code).json();
    lines.remove(0)
}

/// Whether the account of the service is in each list of a jail.
fn listed(jail: &str) -> [bool; 3] {
    ["passwd", "group", "shadow"].map(|list| text(jail, &format!("etc/{list}")).contains("svc:"))
}

#[track_caller]
fn whole() {
    assert_eq!(inspect::site(SITE), [""; 0]);
    let told = ezz(&["doctor", "--json"]).ok().json();
    assert_eq!(told[0]["findings"].to_string(), "[]");
}

/// A way back, with the snapshots of the merge and without: lists of accounts come last.
#[test]
fn an_account_stays_whose_files_cannot_be_removed() {
    first("true");
    ezz(&["create", "flag", "mount", "list", "none"]).ok();
    let was = own("none");
    install(SERVICE);
    ezz(&["update", "--swap", "2"]).ok();
    ezz(&["merge"]).ok();
    // A clone has no snapshots of a merge: it comes back by another one.
    ezz(&["clone", "flag", "copy"]).ok();
    for jail in ["flag", "copy"] {
        sh(&format!("chattr +i /srv/jails/{jail}/opt/svc/file")).ok();
    }
    sh("mount -t tmpfs none /srv/jails/mount/opt/svc; echo x >/srv/jails/mount/opt/svc/file; chown 990 /srv/jails/mount/opt/svc/file").ok();
    sh("chattr +i /srv/jails/list/etc/passwd").ok();
    ezz(&["rollback", "--to", "1"]).ok();
    for jail in ["flag", "copy", "list"] {
        let told = merged(jail, 0);
        assert_eq!(listed(jail), [true; 3], "{jail}: {told:#}");
        assert_eq!(
            told["did"],
            if jail == "copy" {
                "merged"
            } else {
                "brought back"
            }
        );
        let kept = told["kept"].as_object().expect("an object");
        let why = |path: &str| kept.get(path).and_then(Value::as_str).unwrap_or_default();
        let (file, words) = match jail {
            "list" => ("etc/passwd", "a flag keeps it from being changed"),
            _ => ("opt/svc/file", "a flag keeps it from being changed"),
        };
        assert_eq!(why(file), words, "{told:#}");
        let group = match jail {
            "list" => "these are in a list that cannot be changed: svc",
            _ => "these still own files: svc",
        };
        assert_eq!(why("etc/group"), group, "{told:#}");
        let owner = |file: &str| {
            fs::metadata(format!("/srv/jails/{jail}/{file}"))
                .ok()
                .map(|it| it.uid())
        };
        let expected = if jail == "list" { None } else { Some(990) };
        assert_eq!(owner("opt/svc/file"), expected, "{told:#}");
        assert_eq!(owner("etc/svc/conf"), None, "{told:#}");
    }
    // Where a mount hides the files, they are there still.
    let told = merged("mount", 0);
    assert_eq!(listed("mount"), [true; 3], "{told:#}");
    sh("umount /srv/jails/mount/opt/svc").ok();
    assert_eq!(text("mount", "opt/svc/file"), "new\n", "{told:#}");
    // With nothing in the way all of it goes.
    merged("none", 0);
    assert_eq!(own("none"), was);
    whole();
}

/// Forward, too: what stays on another file system keeps its account.
#[test]
fn an_account_stays_whose_files_are_on_another_file_system() {
    first(SERVICE);
    ezz(&["create", "j"]).ok();
    install("rm -r opt/svc; sed -i /svc/d etc/passwd etc/group etc/shadow; rm -r etc/svc");
    ezz(&["update", "--swap", "2"]).ok();
    sh("mount -t tmpfs none /srv/jails/j/opt/svc; echo x >/srv/jails/j/opt/svc/file; chown 990 /srv/jails/j/opt/svc/file
        rm -r /srv/jails/j/var/lib/svc /srv/jails/j/var/lib/postgresql").ok();
    let told = merged("j", 0);
    assert_eq!(listed("j"), [true; 3], "{told:#}");
    sh("umount /srv/jails/j/opt/svc").ok();
    whole();
}

/// A database is its files together: what a merge has added of one stays or goes as a whole.
#[test]
fn a_directory_of_state_that_the_jail_has_written_to_stays_as_a_whole() {
    first("true");
    ezz(&["create", "used", "new", "deleted", "none"]).ok();
    let was = own("none");
    install(SERVICE);
    ezz(&["update", "--swap", "2"]).ok();
    ezz(&["merge"]).ok();
    // A cluster that is in use has changed one of its files, and another service has written a new one.
    sh("cd /srv/jails; echo mine >>used/var/lib/postgresql/15/main/base/1; echo mine >new/var/lib/svc/more
        rm deleted/var/lib/svc/index").ok();
    let state = |jail: &str| {
        let mut files = files_of(&format!("/srv/jails/{jail}/var/lib"));
        files.retain(|line| !line.contains("/dpkg") && !line.contains("/apt"));
        files
    };
    let written = ["used", "new", "deleted"].map(state);
    ezz(&["rollback", "--to", "1"]).ok();
    for (jail, written, (top, gone), changed) in [
        (
            "used",
            &written[0],
            ("postgresql", "svc"),
            "var/lib/postgresql/15/main/base/1",
        ),
        (
            "new",
            &written[1],
            ("svc", "postgresql"),
            "var/lib/svc/more",
        ),
        (
            "deleted",
            &written[2],
            ("svc", "postgresql"),
            "var/lib/svc/index",
        ),
    ] {
        let told = merged(jail, 0);
        let of_top: Vec<&String> = written
            .iter()
            .filter(|line| line.contains(&format!("/var/lib/{top}")))
            .collect();
        assert_eq!(state(jail).iter().collect::<Vec<_>>(), of_top, "{told:#}");
        assert!(!Path::new(&format!("/srv/jails/{jail}/var/lib/{gone}")).exists());
        let kept = told["kept"].to_string();
        let words = format!("its files belong together, and the jail has changed {changed} since");
        assert!(kept.contains(&words), "{told:#}");
        // Whose files they are is known.
        assert_eq!(listed(jail), [true; 3], "{told:#}");
    }
    merged("none", 0);
    assert_eq!(own("none"), was);
    whole();
}

/// A generation with the same skeleton needs no merge, and does not hide the way back.
#[test]
fn a_merge_is_undone_across_a_generation_with_the_same_skeleton() {
    const CHANGED: &str = "printf 'A\\nb\\nc\\n' >etc/both; echo new >etc/added";
    first("printf 'a\\nb\\nc\\n' >etc/both");
    ezz(&["create", "one", "two"]).ok();
    for jail in ["one", "two"] {
        fs::write(format!("/srv/jails/{jail}/etc/both"), "mine\n").expect("written");
    }
    let was = ["one", "two"].map(own);
    // The second has the skeleton of the first, and the fourth that of the third.
    install("echo 2 >usr/share/version");
    install(&format!("{CHANGED}; echo 3 >usr/share/version"));
    install("echo 4 >usr/share/version");
    for generation in ["2", "3"] {
        ezz(&["update", "--swap", generation]).ok();
    }
    // From the first to the third, and back to the second.
    merged("one", 3);
    assert!(snapshots_of_merges("one").contains("@ezz-merged-1-3"));
    assert!(Path::new("/srv/jails/one/etc/both.ezz-new").exists());
    ezz(&["rollback"]).ok();
    ezz(&["world", "prune", "--yes"]).ok();
    let told = merged("one", 0);
    assert_eq!(
        (&told["did"], &told["to"]),
        (&"brought back".into(), &2.into()),
        "{told:#}"
    );
    assert_eq!(own("one"), was[0]);
    // From the first to the third, on to the fourth without a merge, and back.
    ezz(&["rollback"]).ok();
    merged("two", 3);
    ezz(&["update", "--swap", "4"]).ok();
    ezz(&["merge", "two"]).ok();
    assert_eq!(json_property("tank/ezz/jails/two", "ezz:jail")["skel"], 4);
    ezz(&["rollback", "--to", "1"]).ok();
    let told = merged("two", 0);
    assert_eq!(told["did"], "brought back", "{told:#}");
    assert_eq!(own("two"), was[1]);
    ezz(&["merge", "one"]).ok();
    assert_eq!(own("one"), was[0]);
    whole();
}

/// Directories of the run directory that commands mount in to read.
fn left() -> Vec<String> {
    let names = fs::read_dir("/run/ezz").expect("there").flatten();
    let names = names.map(|it| it.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| {
            ["merge-", "undo-", "verify-"]
                .iter()
                .any(|it| name.starts_with(it))
        })
        .collect()
}

#[test]
fn what_a_killed_command_has_mounted_to_read_keeps_nothing() {
    first("echo old >etc/file");
    ezz(&["create", "j"]).ok();
    install("echo new >etc/file");
    ezz(&["update", "--swap", "2"]).ok();
    // A dry run works beside it, and the next command that may change something clears it away.
    let mut kept = 0;
    for step in 1..20 {
        let ended = sh(&format!(
            "EZZ_DIE_BEFORE_STEP={step} {EZZ} merge j --dry-run"
        ));
        if ended.code != 137 {
            break;
        }
        kept += usize::from(!left().is_empty());
        ezz(&["merge", "j", "--dry-run"]).ok();
        ezz(&["converge"]).ok();
        assert_eq!(left(), [""; 0], "{step}");
    }
    assert!(kept > 1, "{kept}");
    ezz(&["merge", "j"]).ok();
    ezz(&["rollback"]).ok();
    // A snapshot that is mounted there does not keep its jail.
    for step in 1..60 {
        let ended = sh(&format!("EZZ_DIE_BEFORE_STEP={step} {EZZ} merge j"));
        assert_eq!(ended.code, 137, "{ended:#?}");
        if mounts_of("tank")
            .iter()
            .any(|it| it.contains("@ezz-merged-1-2 /run/ezz/undo-"))
        {
            break;
        }
    }
    assert!(left().len() > 1, "{:?}", left());
    ezz(&["delete", "j", "--yes"]).ok();
    assert_eq!(left(), [""; 0]);
    whole();
}

/// What the jail has where ezz would put the release's version of a conflict.
#[test]
fn what_a_jail_has_beside_a_file_in_conflict_is_not_lost() {
    first("echo old >etc/both; mkdir etc/dir; echo old >etc/dir/file");
    let plants = ["full", "empty", "fifo", "link", "sparse", "mine", "release"];
    ezz(&[&["create"][..], &plants].concat()).ok();
    for jail in plants {
        let plant = match jail {
            "full" => "mkdir both.ezz-new; echo mine >both.ezz-new/file",
            "empty" => "mkdir both.ezz-new",
            "fifo" => "mkfifo both.ezz-new",
            "link" => "ln -s /etc/shadow both.ezz-new",
            "sparse" => "truncate -s 1T both.ezz-new",
            "mine" => "echo mine >both.ezz-new",
            // What an earlier merge has put there, of the version before.
            _ => "echo old >both.ezz-new",
        };
        sh(&format!(
            "cd /srv/jails/{jail}/etc; echo mine >both; {plant}"
        ))
        .ok();
    }
    let planted = |jail: &str| {
        let mut files = own(jail);
        files.retain(|line| line.contains("/etc/both.ezz-new"));
        files.retain(|line| !line.contains("/etc/both.ezz-new.1"));
        files
    };
    // A file without end is not read.
    let plants_but = plants.map(|jail| if jail == "sparse" { "mine" } else { jail });
    let was = plants_but.map(planted);
    install("echo new >etc/both");
    ezz(&["update", "--swap", "2"]).ok();
    for (jail, was) in plants_but.into_iter().zip(&was) {
        let told = ezz(&["merge", jail, "--json"]).json();
        if told[0]["did"] == "already" {
            continue;
        }
        let beside = if jail == "release" {
            "both.ezz-new"
        } else {
            "both.ezz-new.1"
        };
        assert_eq!(
            text(jail, &format!("etc/{beside}")),
            "new\n",
            "{jail}: {told:#?}"
        );
        if jail != "release" {
            assert_eq!(planted(jail), *was, "{jail}");
        }
    }
    ezz(&["merge", "sparse"]).exits(3);
    let found = fs::metadata("/srv/jails/sparse/etc/both.ezz-new").expect("there");
    assert_eq!((found.len(), found.blocks() < 100), (1 << 40, true));
    assert_eq!(text("sparse", "etc/both.ezz-new.1"), "new\n");
    // The way back takes away what the merge has put there, and nothing else.
    ezz(&["rollback"]).ok();
    for (jail, was) in plants_but.into_iter().zip(&was) {
        ezz(&["merge", jail]).ok();
        assert_eq!(planted(jail), *was, "{jail}");
        assert_eq!(text(jail, "etc/both.ezz-new.1"), "", "{jail}");
    }
    ezz(&["merge", "sparse"]).ok();
    whole();
}

/// Few descriptors, deep trees, and lists of accounts that are too long to be compared.
#[test]
fn few_descriptors_and_long_lists_end_in_no_loss() {
    let deep = "d=opt/deep; for i in $(seq 100); do d=$d/d; done; mkdir -p $d; echo old >$d/file";
    first(&format!("{deep}; {SERVICE}"));
    ezz(&["create", "deep", "long"]).ok();
    // Its own directories are deeper than there are descriptors.
    sh("cd /srv/jails/deep/srv; for i in $(seq 300); do mkdir d && cd d || exit 1; done; echo mine >file; chown 990 file").ok();
    sh("cd /srv/jails/long/etc; { cat passwd; yes 'x:x:5000:5000::/:/bin/sh' | head -n 60000; } >p; cat p >passwd; rm p").ok();
    let was = own("long");
    install("d=opt/deep; for i in $(seq 100); do d=$d/d; done; echo new >$d/file
        rm -r opt/svc etc/svc var/lib/svc var/lib/postgresql; sed -i /svc/d etc/passwd etc/group etc/shadow");
    ezz(&["update", "--swap", "2"]).ok();
    let told = sh(&format!("ulimit -n 64; {EZZ} merge deep --json"));
    assert_eq!(told.code, 0, "{told:#?}");
    let deepest = format!("opt/deep{}/file", "/d".repeat(100));
    assert_eq!(text("deep", &deepest), "new\n", "{told:#?}");
    // Only the account that owns a file stays.
    assert_eq!(listed("deep"), [true; 3], "{told:#?}");
    let told = ezz(&["merge", "long"]).exits(3);
    assert!(
        told.stderr
            .contains("etc/passwd (too long or too different to compare)"),
        "{told:#?}"
    );
    assert!(text("long", "etc/passwd").starts_with(&text("deep", "etc/passwd")[..20]));
    // And back, with the list as it is.
    ezz(&["rollback"]).ok();
    let told = sh(&format!("ulimit -n 64; {EZZ} merge deep long"));
    assert_eq!(told.code, 0, "{told:#?}");
    assert_eq!(text("deep", &deepest), "old\n");
    assert_eq!(own("long").len(), was.len());
    assert_eq!(own("long"), was);
    whole();
}
