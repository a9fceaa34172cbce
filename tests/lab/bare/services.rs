//! Services of Debian that updates install, change and remove: what jails have of them, and that they serve.

use std::collections::BTreeMap;
use std::fs;

use crate::real::*;
use crate::support::*;

const CONF: &str = "etc/nginx/nginx.conf";

const JAILS: [&str; 4] = ["changed", "mine", "plain", "taken"];

/// As documentation has it. What scripts of packages are told is part of the profile.
const INSTALL: &str = r#"
[ "$DEBIAN_FRONTEND/$RUNLEVEL" = noninteractive/1 ] || exit 9
apt-get update && apt-get install -y nginx cron dbus"#;

#[track_caller]
fn update(script: &str) {
    ezz(&["update", "--run", "/bin/sh", "-ec", script]).ok();
}

fn stands(jail: &str) -> String {
    let config = json_property(&format!("{SITE}/jails/{jail}"), "ezz:jail");
    format!("{} {}", config["base"], config["skel"])
}

fn all() -> BTreeMap<&'static str, BTreeMap<String, String>> {
    JAILS.iter().map(|jail| (*jail, own_files(jail))).collect()
}

#[test]
fn a_service_comes_changes_and_goes() {
    init();
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").expect("written");
    ezz(&["-q", "install", &archive("debian-12")]).ok();
    ezz(&[
        &["create", "--network", "host"][..],
        &JAILS,
        &["--start"][..],
    ]
    .concat())
    .ok();
    it_comes();
    it_serves();
    its_default_changes();
    it_goes_and_comes_back();
    whole();
}

/// The packages bring groups and users, and files for them. A jail has given the number of a group already.
#[track_caller]
fn it_comes() {
    append("taken", "etc/group", "staffers:x:101:");
    append("taken", "etc/passwd", "staffer:x:101:101::/home:/bin/sh");
    update(INSTALL);
    let group = |name| account(&base(2, "etc/group"), name);
    assert_eq!(
        owner(&base(2, "usr/bin/crontab")),
        (0, group("crontab"), 0o2755)
    );
    assert_eq!(
        owner(&base(2, "usr/lib/dbus-1.0/dbus-daemon-launch-helper")),
        (0, group("messagebus"), 0o4754)
    );
    // A program of the base has setgid by a number that is another group's in that jail.
    let told = ezz(&["converge"]).exits(3);
    let words = [
        "etc/group (files of the release belong to the group ",
        " by the number 101, which is staffers's in the jail",
    ];
    let named = words.iter().all(|words| told.stderr.contains(words));
    assert!(named, "{told:#?}");
    assert_eq!(stands("taken"), r#"{"pin":1} 1"#);
    assert_eq!(text("taken", CONF), "");
    edit("taken", "etc/group", "staffers:x:101:", "staffers:x:1101:");
    edit("taken", "etc/passwd", ":101:101:", ":1101:1101:");
    ezz(&["stop", "taken"]).ok();
    ezz(&["merge", "taken", "--follow", "main"]).ok();
    ezz(&["start", "taken"]).ok();
    for jail in JAILS {
        assert_eq!(stands(jail), r#"{"track":"main"} 2"#);
        let skeleton = fs::read_to_string(base(2, CONF)).expect("the world has it");
        assert_eq!(text(jail, CONF), skeleton);
        let group = |name| account(&at(jail, "etc/group"), name);
        let user = |name| account(&at(jail, "etc/passwd"), name);
        let of = |path| owner(&at(jail, path));
        assert_eq!(of("var/lib/nginx"), (0, 0, 0o755));
        assert_eq!(of("var/log/nginx"), (0, group("adm"), 0o755));
        assert_eq!(
            of("var/log/nginx/access.log"),
            (user("www-data"), group("adm"), 0o640)
        );
        assert_eq!(of("var/spool/cron/crontabs"), (0, group("crontab"), 0o1730));
        assert_eq!(
            user("messagebus"),
            account(&base(2, "etc/passwd"), "messagebus")
        );
        assert!(text(jail, "etc/shadow").contains("\nmessagebus:!"));
    }
    assert_eq!(account(&at("taken", "etc/group"), "staffers"), 1101);
}

/// In a running thin jail: a web server, and a program with setgid that a user calls.
#[track_caller]
fn it_serves() {
    inside("plain", "nginx").ok();
    assert!(first_page(80).contains("Welcome to nginx!"));
    let script = "echo '0 0 * * * true' | crontab - && crontab -l";
    let asked = ezz(&[
        "exec", "-u", "www-data", "plain", "--", "/bin/sh", "-c", script,
    ]);
    assert!(asked.ok().stdout.contains("0 0 * * * true"));
    let crontab = account(&at("plain", "etc/group"), "crontab");
    let www = account(&at("plain", "etc/passwd"), "www-data");
    assert_eq!(
        owner(&at("plain", "var/spool/cron/crontabs/www-data")),
        (www, crontab, 0o600)
    );
}

/// A newer package has another default in a conffile.
#[track_caller]
fn its_default_changes() {
    edit("mine", CONF, "# server_tokens off;", "server_tokens off;");
    edit(
        "changed",
        CONF,
        "worker_connections 768;",
        "worker_connections 700;",
    );
    update("dpkg -i /usr/share/packages/next/nginx-common.deb");
    let told = ezz(&["converge"]).exits(3);
    assert!(
        told.stderr.contains("changed stays pinned to debian-12"),
        "{told:#?}"
    );
    for jail in ["taken", "plain"] {
        let skeleton = fs::read_to_string(base(3, CONF)).expect("the world has it");
        assert_eq!(text(jail, CONF), skeleton, "{jail}");
    }
    let mine = text("mine", CONF);
    assert!(mine.contains("worker_connections 512;"), "{mine}");
    assert!(mine.contains("\tserver_tokens off;"), "{mine}");
    assert!(text("changed", CONF).contains("worker_connections 700;"));
    assert_eq!(stands("changed"), r#"{"pin":2} 2"#);
    ezz(&["stop", "changed"]).ok();
    ezz(&["merge", "changed", "--follow", "main"]).exits(3);
    ezz(&["start", "changed"]).ok();
    let new = text("changed", &format!("{CONF}.ezz-new"));
    assert!(new.contains("worker_connections 512;"), "{new}");
    assert!(text("changed", CONF).contains("worker_connections 700;"));
}

/// The packages are purged. What a jail has changed, and its state, stays; and a rollback brings all of it back.
#[track_caller]
fn it_goes_and_comes_back() {
    let before = all();
    update("dpkg --purge nginx nginx-common cron");
    ezz(&["converge"]).ok();
    assert_eq!(inside("plain", "command -v nginx crontab").stdout, "");
    let gone = difference(&before["plain"], &own_files("plain"));
    let gone: Vec<&str> = gone
        .iter()
        .filter_map(|line| line.strip_prefix("- "))
        .collect();
    for path in [CONF, "etc/nginx", "etc/default/cron", "etc/init.d/nginx"] {
        let found = gone
            .iter()
            .any(|line| line.starts_with(&format!("{path} ")));
        assert!(found, "{path} stays: {gone:#?}");
    }
    let state = ["var/lib/nginx", "var/log/", "var/spool/", "var/www/"];
    let state = |line: &&&str| state.iter().any(|path| line.starts_with(path));
    assert_eq!(gone.iter().find(state), None);
    assert!(text("plain", "var/spool/cron/crontabs/www-data").contains("true"));
    assert!(text("mine", CONF).contains("\tserver_tokens off;"));
    assert!(text("changed", CONF).contains("worker_connections 700;"));
    ezz(&["rollback", "--restart"]).ok();
    for jail in JAILS {
        assert_eq!(stands(jail), r#"{"track":"main"} 3"#);
        let differs = difference(&before[jail], &own_files(jail));
        assert_eq!(differs, [""; 0], "{jail}");
    }
    inside("plain", "nginx && crontab -u www-data -l").ok();
    assert!(first_page(80).contains("Welcome to nginx!"));
}
