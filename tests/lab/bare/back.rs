//! A change of release and the way back: jails in different states, whose own files are as before afterwards.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use super::merge::{files_of, snapshots_of_merges};
use crate::support::*;
use crate::worlds::runnable_world;

/// The next release: a configuration file with another default, one that both sides have changed, and a service with
/// its user, configuration and data.
const NEXT: &str = "echo 13.0 > /etc/debian_version; echo two > /usr/share/version; \
     printf 'A\\nb\\nc\\nd\\ne\\nf\\ng\\n' > /etc/lines; echo theirs > /etc/both; rm /etc/old; \
     mkdir -p /etc/svc.d; echo conf > /etc/svc.d/conf; chmod 640 /etc/svc.d/conf; \
     echo 'svc:x:990:990::/:/bin/sh' >> /etc/passwd; echo 'svc:x:990:' >> /etc/group";

const JAILS: [&str; 7] = [
    "conf", "conflict", "down", "hand", "owner", "plain", "users",
];

/// Returns the own files of a jail, without ezz's record of their generation.
fn own(jail: &str) -> Vec<String> {
    let mut files = files_of(&format!("/srv/jails/{jail}"));
    files.retain(|line| !line.contains("/basejail/.ezz-generation "));
    files
}

fn read(jail: &str, file: &str) -> String {
    fs::read_to_string(format!("/srv/jails/{jail}/{file}")).unwrap_or_default()
}

fn append(jail: &str, file: &str, text: &str) {
    let old = read(jail, file);
    fs::write(format!("/srv/jails/{jail}/{file}"), old + text).expect("written");
}

/// Returns the base of a jail, and the generation of its own files.
fn stands(jail: &str) -> String {
    let config = json_property(&format!("tank/ezz/jails/{jail}"), "ezz:jail");
    let asked = sh(&format!("{EZZ} exec {jail} -- cat /usr/share/version"));
    format!(
        "{} {} {}",
        config["base"],
        config["skel"],
        asked.stdout.trim()
    )
}

#[test]
fn after_a_release_and_back_own_files_are_as_they_were() {
    init();
    let directory = Path::new("/tmp/runnable");
    runnable_world(directory);
    for (file, text) in [
        ("usr/share/version", "one\n"),
        ("etc/lines", "a\nb\nc\nd\ne\nf\ng\n"),
        ("etc/both", "old\n"),
        ("etc/old", "old\n"),
    ] {
        fs::write(directory.join(file), text).expect("written");
    }
    sh(
        "cd /tmp/runnable; [ -e etc/passwd ] || echo 'root:x:0:0::/root:/bin/sh' >etc/passwd
        [ -e etc/group ] || echo 'root:x:0:' >etc/group; tar -cf /tmp/runnable.tar .",
    )
    .ok();
    ezz(&["install", "/tmp/runnable.tar"]).ok();
    ezz(&[&["create"][..], &JAILS].concat()).ok();
    let up = JAILS.map(|jail| if jail == "down" { "plain" } else { jail });
    ezz(&[
        "start", "conf", "conflict", "hand", "owner", "plain", "users",
    ])
    .ok();
    append("conf", "etc/lines", "mine\n");
    append("conflict", "etc/both", "mine\n");
    append("hand", "etc/both", "mine\n");
    let was = JAILS.map(own);
    let as_it_was = |jail: &str| {
        let at = JAILS
            .iter()
            .position(|it| *it == jail)
            .expect("one of them");
        assert_eq!(own(jail), was[at], "{jail}");
    };
    ezz(&["update", "--run", "/bin/sh", "-c", NEXT]).ok();
    ezz(&["converge"]).exits(3);
    ezz(&["stop", "hand"]).ok();
    ezz(&["merge", "hand", "--follow", "main"]).exits(3);
    ezz(&["start", "hand"]).ok();
    assert_eq!(stands("plain"), r#"{"track":"main"} 2 two"#);
    assert_eq!(stands("conflict"), r#"{"pin":1} 1 one"#);
    assert_eq!(read("plain", "etc/svc.d/conf"), "conf\n");
    assert!(read("users", "etc/passwd").contains("svc:"));
    assert_eq!(read("conf", "etc/lines"), "A\nb\nc\nd\ne\nf\ng\nmine\n");
    assert_eq!(read("hand", "etc/both.ezz-new"), "theirs\n");
    // Changes that are made after the merge.
    append("users", "etc/passwd", "alice:x:1001:1001::/:/bin/sh\n");
    append("conf", "etc/lines", "later\n");
    append("owner", "etc/data", "data\n");
    chown("/srv/jails/owner/etc/data", Some(990), Some(990)).expect("root may");
    let told = ezz(&["rollback", "--restart", "--json"]).ok();
    let kept = |jail: &str| {
        let lines = told.json();
        let mut lines = lines.iter().filter(|it| it["jail"] == jail);
        let found = lines.find(|it| it["did"] == "brought back");
        found.unwrap_or_else(|| panic!("{jail}: {told:#?}"))["kept"].to_string()
    };
    for jail in up.iter().filter(|jail| **jail != "conflict") {
        assert_eq!(stands(jail), r#"{"track":"main"} 1 one"#);
        assert_eq!(snapshots_of_merges(jail), "", "{jail}");
    }
    // Nothing was written since: everything is as before, including conflicts and the files beside them.
    for jail in ["plain", "hand", "conflict", "down"] {
        as_it_was(jail);
    }
    assert_eq!((&*kept("plain"), &*kept("hand")), ("null", "null"));
    // The other jails: what was written stays, and everything else is as before.
    assert_eq!(kept("users"), "null");
    let passwd = read("users", "etc/passwd");
    assert!(
        passwd.contains("alice:") && !passwd.contains("svc:"),
        "{passwd}"
    );
    fs::write(
        "/srv/jails/users/etc/passwd",
        passwd.replace("alice:x:1001:1001::/:/bin/sh\n", ""),
    )
    .expect("written");
    as_it_was("users");
    assert_eq!(
        kept("conf"),
        r#"{"etc/lines":"the jail has changed it since"}"#
    );
    assert_eq!(
        read("conf", "etc/lines"),
        "A\nb\nc\nd\ne\nf\ng\nmine\nlater\n"
    );
    fs::write("/srv/jails/conf/etc/lines", "a\nb\nc\nd\ne\nf\ng\nmine\n").expect("written");
    as_it_was("conf");
    let stays = "these still own files: svc";
    assert_eq!(
        kept("owner"),
        format!(r#"{{"etc/group":"{stays}","etc/passwd":"{stays}"}}"#)
    );
    for file in ["etc/passwd", "etc/group"] {
        assert!(read("owner", file).contains("svc:"), "{file}");
    }
    assert_eq!(read("owner", "etc/svc.d/conf"), "");
    let findings = ezz(&["doctor", "--json"]).ok().json();
    assert_eq!(findings[0]["findings"].to_string(), "[]", "{findings:#?}");
    // Only the last merge of a jail can be undone, and only as long as a track can go back there.
    ezz(&["stop", "plain"]).ok();
    for generation in ["2", "1", "2"] {
        ezz(&["update", "--swap", generation]).ok();
        ezz(&["merge", "plain"]).ok();
    }
    let pair = "tank/ezz/jails/plain@ezz-merge-1-2 tank/ezz/jails/plain@ezz-merged-1-2";
    assert_eq!(snapshots_of_merges("plain"), pair);
    ezz(&["world", "prune", "--yes"]).ok();
    assert_eq!(snapshots_of_merges("plain"), pair);
    ezz(&[
        "update",
        "--run",
        "/bin/sh",
        "-c",
        "echo 3 > /etc/debian_version",
    ])
    .ok();
    let dry = ezz(&["world", "prune", "--dry-run"]).ok();
    assert!(dry.stdout.contains("@ezz-merged-1-2"), "{dry:#?}");
    ezz(&["world", "prune", "--yes"]).ok();
    assert_eq!(snapshots_of_merges("plain"), "");
}
