//! Debian 12, 13, and 12 again: jails in ten states, and what each has of both releases.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::real::*;
use crate::support::*;

const CONF: &str = "etc/nginx/nginx.conf";

/// The thick one is looked at in /etc alone: it has the whole world.
const JAILS: [&str; 10] = [
    "conf", "conflict", "copy", "down", "full", "hand", "pin", "plain", "thick", "users",
];

/// What a merge from Debian 12 to 13 leaves as it was: classes kept and seeded.
const KEPT: [&str; 9] = [
    "etc/group-",
    "etc/gshadow-",
    "etc/hostname",
    "etc/hosts",
    "etc/machine-id",
    "etc/passwd-",
    "etc/shadow-",
    "var/local",
    "var/log/faillog",
];

const FOLLOWS: &str = r#"{"track":"main"}"#;

fn own(jail: &str) -> BTreeMap<String, String> {
    match jail {
        "thick" => files_below(&at(jail, "etc")),
        _ => own_files(jail),
    }
}

/// What it follows, what its files are of, and which release its programs are of if it runs.
fn stands(jail: &str) -> (String, u64, String) {
    let config = json_property(&format!("{SITE}/jails/{jail}"), "ezz:jail");
    let asked = ezz(&["exec", jail, "--", "cat", "/usr/lib/os-release"]);
    let release = asked
        .stdout
        .lines()
        .find_map(|it| it.strip_prefix("VERSION_ID="));
    (
        config["base"].to_string(),
        config["skel"].as_u64().expect("a number"),
        release.unwrap_or_default().trim_matches('"').to_owned(),
    )
}

#[track_caller]
fn is(jail: &str, base: &str, files: u64, release: &str) {
    assert_eq!(
        stands(jail),
        (base.to_owned(), files, release.to_owned()),
        "{jail}"
    );
}

/// Ten jails of Debian 12, and what their administrators have done.
#[track_caller]
fn twelve() {
    init();
    ezz(&["-q", "install", &archive("nginx-12")]).ok();
    let thin = ["conf", "conflict", "down", "full", "hand", "plain", "users"];
    ezz(&[&["create", "--network", "none"][..], &thin].concat()).ok();
    ezz(&["create", "--network", "none", "--thick", "thick"]).ok();
    ezz(&["create", "--network", "none", "--pin", "1", "pin"]).ok();
    edit("conf", CONF, "# gzip_vary on;", "gzip_vary on;");
    ezz(&["clone", "conf", "copy"]).ok();
    for jail in ["conflict", "hand"] {
        edit(jail, CONF, "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;", "TLSv1.3;");
    }
    append(
        "users",
        "etc/passwd",
        "alice:x:1000:1000::/home/alice:/bin/sh",
    );
    append("users", "etc/group", "alice:x:1000:");
    append("users", "etc/shadow", "alice:!:19000:0:99999:7:::");
    // Debian 13 gives this number to systemd-network.
    append(
        "users",
        "etc/passwd",
        "backupd:x:998:998::/var/lib/backupd:/bin/false",
    );
    append("users", "etc/group", "backupd:x:998:alice");
    sh(&format!(
        "set -e; cd {DIRECTORY}/users; mkdir home/alice var/lib/backupd; echo mine >home/alice/file
        echo mine >var/lib/backupd/file; chown -R 1000:1000 home/alice; chown -R 998:998 var/lib/backupd"
    ))
    .ok();
    let up: Vec<&str> = JAILS.into_iter().filter(|jail| *jail != "down").collect();
    ezz(&[&["start"][..], &up].concat()).ok();
    serves();
    sh(&format!(
        "zfs set quota=2M compression=off {SITE}/jails/full
        head -c 4M /dev/zero >{DIRECTORY}/full/root/full; sync; [ -s {DIRECTORY}/full/root/full ]"
    ))
    .ok();
}

/// The service accepts its configuration, whose directories it makes.
#[track_caller]
fn serves() {
    for jail in ["conf", "plain"] {
        inside(jail, "nginx -t").ok();
    }
}

#[test]
fn a_release_of_debian_and_back() {
    twelve();
    let was: BTreeMap<&str, _> = JAILS.iter().map(|jail| (*jail, own(jail))).collect();
    let told = ezz(&["--json", "update", "--from", &archive("nginx-13")]).ok();
    for words in [
        "user messagebus (996 becomes 100)",
        "group crontab (997 becomes 101)",
    ] {
        assert!(told.stderr.contains(words), "{told:#?}");
    }
    let told = ezz(&["converge"]).exits(3);
    for words in ["conflict stays ", "hand stays ", "full stays "] {
        assert!(told.stderr.contains(words), "{told:#?}");
    }
    ezz(&["stop", "hand"]).ok();
    ezz(&["merge", "hand", "--follow", "main"]).exits(3);
    ezz(&["start", "hand"]).ok();
    thirteen(&was);
    since();
    let told = ezz(&["rollback", "--restart", "--json"]).ok();
    twelve_again(&was, &told.json());
    whole();
}

/// Each jail is as the table of docs/own-files.md says.
#[track_caller]
fn thirteen(was: &BTreeMap<&str, BTreeMap<String, String>>) {
    for jail in ["conf", "copy", "hand", "plain", "users"] {
        is(jail, FOLLOWS, 2, "13");
    }
    serves();
    for jail in ["conflict", "full", "pin"] {
        is(jail, r#"{"pin":1}"#, 1, "12");
        assert_eq!(difference(&was[jail], &own(jail)), [""; 0], "{jail}");
    }
    is("down", FOLLOWS, 1, "");
    assert_eq!(stands("thick").2, "12");
    assert_eq!(difference(&was["thick"], &own("thick")), [""; 0]);
    // One that has touched nothing has what a new jail has, but for what it is known by, and for state.
    ezz(&["create", "--network", "none", "fresh"]).ok();
    let differs = difference(&own("fresh"), &own("plain"));
    let paths = differs.iter().filter_map(|it| it.split(' ').nth(1));
    let paths: BTreeSet<&str> = paths
        .filter(|path| !path.starts_with("var/lib/nginx/"))
        .collect();
    assert_eq!(paths, BTreeSet::from(KEPT), "{differs:#?}");
    ezz(&["delete", "--yes", "fresh"]).ok();
    for jail in ["conf", "copy"] {
        let conf = text(jail, CONF);
        for line in [
            "\tgzip_vary on;",
            "ssl_protocols TLSv1.2 TLSv1.3;",
            "worker_cpu_affinity auto;",
        ] {
            assert!(conf.contains(line), "no {line} in {conf}");
        }
    }
    assert!(text("hand", CONF).contains("ssl_protocols TLSv1.3;"));
    let new = text("hand", &format!("{CONF}.ezz-new"));
    assert!(new.contains("ssl_protocols TLSv1.2 TLSv1.3;"), "{new}");
    // Accounts of its own keep their numbers and their files; the release's get free ones.
    let user = |name| account(&at("users", "etc/passwd"), name);
    assert_eq!((user("alice"), user("backupd")), (1000, 998));
    assert!(![998, 1000].contains(&user("systemd-network")));
    assert_eq!(owner(&at("users", "var/lib/backupd/file")).0, 998);
    assert_eq!(owner(&at("users", "home/alice/file")).0, 1000);
    let crontab = account(&at("users", "etc/group"), "crontab");
    assert_eq!(
        owner(&at("users", "var/spool/cron/crontabs")),
        (0, crontab, 0o1730)
    );
    let asked = "echo '0 0 * * * true' | crontab - && crontab -l && crontab -r";
    ezz(&["exec", "-u", "alice", "users", "--", "/bin/sh", "-c", asked]).ok();
}

/// What is written on Debian 13.
#[track_caller]
fn since() {
    append("users", "etc/passwd", "bob:x:1001:1001::/home/bob:/bin/sh");
    sh(&format!(
        "mkdir {DIRECTORY}/users/home/bob; chown 1001:1001 {DIRECTORY}/users/home/bob"
    ))
    .ok();
    edit("copy", CONF, "# multi_accept on;", "multi_accept on;");
}

/// Nothing of the way to Debian 13 is left but what was written on it.
#[track_caller]
fn twelve_again(was: &BTreeMap<&str, BTreeMap<String, String>>, told: &[Value]) {
    let kept = |jail: &str| {
        let mut lines = told.iter().filter(|it| it["jail"] == jail);
        let found = lines.find(|it| it["did"] == "brought back");
        found.map_or(Value::Null, |it| it["kept"].clone())
    };
    for jail in JAILS {
        match jail {
            "down" => is(jail, FOLLOWS, 1, ""),
            "pin" => is(jail, r#"{"pin":1}"#, 1, "12"),
            "thick" => assert_eq!(stands(jail).2, "12"),
            _ => is(jail, FOLLOWS, 1, "12"),
        }
        let differs = difference(&was[jail], &own(jail));
        let paths: Vec<&str> = differs
            .iter()
            .filter_map(|it| it.split(' ').nth(1))
            .collect();
        let written: &[&str] = match jail {
            "users" => &["etc/passwd", "home/bob"],
            "copy" => &[CONF],
            _ => &[],
        };
        assert_eq!(paths, written, "{jail}: {differs:#?}");
        let notes = match jail {
            "copy" => format!("{{{CONF:?}:\"the jail has changed it since\"}}"),
            _ => "null".to_owned(),
        };
        assert_eq!(kept(jail).to_string(), notes, "{jail}");
    }
    let passwd = text("users", "etc/passwd");
    let names: Vec<&str> = passwd
        .lines()
        .filter_map(|it| it.split(':').next())
        .collect();
    assert!(
        names.ends_with(&["messagebus", "alice", "backupd", "bob"]),
        "{names:?}"
    );
    serves();
}
