//! What verbs print: JSON as their help documents it, plans of dry runs, tables, manual pages.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::*;

/// The names of the fields that a verb's help lists after `JSON:`.
#[track_caller]
fn documented(verb: &[&str]) -> BTreeSet<String> {
    let help = ezz(&[verb, &["--help"]].concat()).ok().stdout;
    let json = help
        .split("JSON:")
        .nth(1)
        .unwrap_or_else(|| panic!("no JSON in {help}"));
    // Every second piece is quoted; what follows a colon is a value. Help is wrapped.
    let pieces: Vec<&str> = json.split('"').collect();
    let quoted = pieces
        .chunks_exact(2)
        .filter(|pair| !pair[0].trim_end().ends_with(':'));
    quoted.map(|pair| pair[1].to_owned()).collect()
}

fn fields<'a>(objects: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let maps = objects
        .into_iter()
        .map(|object| object.as_object().expect("an object"));
    maps.flat_map(|map| map.keys().cloned()).collect()
}

/// The objects of a verb have exactly the fields that its help lists.
#[track_caller]
fn as_documented(verb: &[&str], args: &[&str]) -> Vec<Value> {
    let objects = ezz(&[verb, args, &["--json"]].concat()).ok().json();
    assert!(!objects.is_empty(), "{verb:?} printed nothing");
    assert_eq!(fields(&objects), documented(verb), "{verb:?}");
    objects
}

#[test]
fn json_has_the_documented_fields() {
    small_world(Path::new("/tmp/small"), "12.1");
    as_documented(&["install"], &["/tmp/small.tar"]);
    sh("zfs create -u -o mountpoint=none tank/more").ok();
    as_documented(&["init"], &["tank/more/site", "--directory", "/srv/more"]);
    sh("zfs umount tank/more/site; zfs destroy -r tank/more").ok();
    as_documented(&["track", "create"], &["old", "--generation", "1"]);
    as_documented(&["track", "list"], &[]);
    as_documented(&["worlds", "list"], &[]);
    as_documented(&["worlds", "verify"], &["--quick"]);
    as_documented(&["worlds", "diff"], &["1", "2"]);
    as_documented(&["worlds", "tree"], &[]);
    as_documented(&["rollback"], &["--to", "2"]);
    as_documented(&["track", "log"], &[]);
    as_documented(&["track", "delete"], &["old"]);
    ezz(&["rollback"]).ok();
    as_documented(&["worlds", "prune"], &["--yes"]);
    let shown = ezz(&["worlds", "show", "1", "--json"]).ok().json();
    assert_eq!(fields(&shown), documented(&["worlds", "list"]));

    as_documented(&["create"], &["a", "dead", "--quota", "1G"]);
    ezz(&[
        "create",
        "pinned",
        "--pin",
        "2",
        "--address",
        "192.0.2.7/24",
    ])
    .ok();
    ezz(&["create", "big", "--thick"]).ok();
    std::fs::write(
        "/tmp/fleet.toml",
        "fleet = \"f\"\n[[jail]]\nname = \"of\"\n",
    )
    .expect("written");
    let planned = ezz(&["apply", "/tmp/fleet.toml", "-n", "--json"])
        .ok()
        .json();
    let made = ezz(&["apply", "/tmp/fleet.toml", "--json"]).ok().json();
    let both: Vec<&Value> = planned[..1].iter().chain(&made).collect();
    assert_eq!(fields(both), documented(&["apply"]));
    as_documented(&["clone"], &["of", "twin"]);
    ezz(&["delete", "twin", "--yes"]).ok();
    sh("zfs create -u tank/ezz/jails/odd").ok();
    as_documented(&["start"], &["a", "dead"]);
    as_documented(&["restart"], &["a"]);
    sh("kill -9 $(cat /run/ezz/*/jails/dead/pid)").ok();
    wait_for("the death to be seen", 30, || {
        ezz(&["list", "dead", "--json"]).ok().json()[0]["state"] == "stopped"
    });
    let listed = as_documented(&["list"], &[]);
    assert_eq!(listed.len(), 6);
    // The fields of a site and of a jail are documented together.
    let mut shown = ezz(&["show", "--json"]).ok().json();
    for jail in ["a", "pinned"] {
        shown.extend(ezz(&["show", jail, "--json"]).ok().json());
    }
    let own = fields(&shown)
        .difference(&fields(&listed))
        .cloned()
        .collect::<BTreeSet<_>>();
    assert_eq!(own, documented(&["show"]), "beside those of list");
    as_documented(&["stop"], &["a"]);
    as_documented(&["delete"], &["a", "dead", "--yes"]);
    let doctor = ezz(&["doctor", "--json"]).exits(1).json();
    let adopted = ezz(&["doctor", "--adopt", "--json"]).ok().json();
    let both: Vec<&Value> = doctor.iter().chain(&adopted).collect();
    assert_eq!(fields(both), documented(&["doctor"]));
}

#[test]
fn errors_are_json_too_and_results_stay_clean() {
    let refused = ezz(&["create", "main", "--json"]).exits(1);
    assert_eq!(refused.stdout, "");
    let error: Value = serde_json::from_str(&refused.stderr).expect("one object");
    assert!(
        error["error"]
            .as_str()
            .is_some_and(|text| text.contains("the name of a track"))
    );
    assert_eq!(error["hints"][0], "choose another name");
    assert!(error["causes"].is_array());
    // Words beside the result are on standard error, so that every line of the result parses.
    ezz(&["create", "a"]).ok();
    let again = ezz(&["stop", "a", "--json"]).ok();
    assert_eq!(again.json()[0]["did"], "already");
    assert!(again.stderr.contains("stopped already"));
}

#[test]
fn a_table_needs_no_size_of_the_terminal() {
    ezz(&["create", "a"]).ok();
    let list = |before: &str| {
        sh(&format!(
            "script -qec '{before}{EZZ} list' /dev/null </dev/null"
        ))
        .ok()
        .stdout
        .replace('\r', "")
    };
    // As on a serial console.
    assert_eq!(
        list("stty rows 0 cols 0; "),
        ezz(&["list"]).ok().stdout,
        "on one without a size it is that of a file"
    );
    assert_ne!(list("stty rows 24 cols 20; "), ezz(&["list"]).ok().stdout);
}

#[test]
fn a_dry_run_of_every_verb_names_its_steps_and_changes_nothing() {
    small_world(Path::new("/tmp/small"), "12.1");
    ezz(&["create", "a", "b"]).ok();
    ezz(&["track", "create", "next", "--generation", "1"]).ok();
    sh("umount /srv/jails/b").ok();
    let before = (everything(), mounts_of("tank"));
    let cases: &[(&[&str], &str)] = &[
        (
            &["init", "tank/other", "--directory", "/srv/other"],
            "create tank/other/jails",
        ),
        (
            &["install", "/tmp/small.tar"],
            "take the generation number 2",
        ),
        (
            &["create", "c", "d", "--quota", "1G", "--start"],
            "set quota=1073741824 on tank/ezz/jails/d",
        ),
        (
            &["clone", "a", "c"],
            "clear away what c has of the identity of its source",
        ),
        (&["start", "b"], "mount tank/ezz/jails/b at /srv/jails/b"),
        (&["stop", "--all"], "nothing to do"),
        (&["restart", "a"], "start a"),
        (
            &["delete", "a", "b"],
            "destroy tank/ezz/jails/a tank/ezz/jails/b",
        ),
        (
            &["track", "create", "x", "--generation", "1"],
            "ezz:track:x of tank/ezz/basejail",
        ),
        (
            &["track", "delete", "next"],
            "remove the link and the downloads of the track next",
        ),
        (
            &["update", "--from", "/tmp/small.tar"],
            "take the generation number 2",
        ),
        (
            &["update", "--swap", "1"],
            "link the track main to generation 1",
        ),
        (&["converge"], "nothing to do"),
        (&["worlds", "prune"], "nothing can go"),
        (
            &["doctor", "--repair"],
            "mount tank/ezz/jails/b at /srv/jails/b",
        ),
        (&["doctor", "--adopt"], "is no replica"),
    ];
    for (verb, step) in cases {
        let plan = ezz(&[verb, &["--dry-run"][..]].concat()).ok();
        assert!(plan.stdout.contains(step), "no {step:?}: {plan:#?}");
        let json = ezz(&[verb, &["-n", "--json"][..]].concat()).ok().json();
        assert_eq!(json.len(), 1, "{verb:?}: a plan is one object");
        let steps = json[0]["steps"].as_array().expect("steps");
        assert!(
            steps.iter().all(|step| step["step"].is_string()),
            "{json:#?}"
        );
        assert!(json[0]["notes"].is_array(), "{json:#?}");
        // Numbered lines are its steps, one each.
        let numbered = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
        assert_eq!(
            plan.stdout.lines().filter(numbered).count(),
            steps.len(),
            "{verb:?}"
        );
    }
    assert_eq!((everything(), mounts_of("tank")), before);
    assert!(processes("conmon").is_empty());
}

#[test]
fn a_list_is_readable_at_eighty_columns() {
    let long = format!("l{}", "o".repeat(61) + "g");
    let host = format!("{}.example.org", "h".repeat(52));
    let mut args = vec!["create", &long, "--hostname", &host];
    let addresses: Vec<String> = (1..=6)
        .map(|n| format!("2001:db8:1234:5678:9abc:def0:1234:{n}/64"))
        .collect();
    for address in &addresses {
        args.extend(["--address", address]);
    }
    ezz(&args).ok();
    ezz(&["create", "web{01..03}"]).ok();
    ezz(&["track", "create", &"t".repeat(63), "--generation", "1"]).ok();
    sh("zfs create -u tank/ezz/jails/theirs").ok();
    for verb in [&["list"][..], &["worlds", "list"], &["track", "list"]] {
        let text = ezz(verb).ok().stdout;
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{widest:?} columns:\n{text}");
    }
    // A name that is not cut anywhere can be copied.
    let text = ezz(&["list"]).ok().stdout;
    for name in ["web01", "web02", "web03", "theirs", "debian-12.15.1"] {
        assert!(text.contains(name), "no {name}:\n{text}");
    }
    let shown = ezz(&["show", &long]).ok().stdout;
    assert!(shown.contains(&long) && shown.contains(&host) && shown.contains(&addresses[5]));
}

#[test]
fn quiet_is_quiet_and_a_closed_pipe_is_no_failure() {
    for verb in [
        &["create", "a", "--quiet"][..],
        &["track", "create", "x", "--quiet"],
        &["track", "create", "x", "-q"],
        &["stop", "a", "-q"],
        &["delete", "a", "--yes", "-q"],
    ] {
        let done = ezz(verb).ok();
        assert_eq!((&*done.stdout, &*done.stderr), ("", ""), "{verb:?}");
    }
    let refused = ezz(&["delete", "a", "--yes", "-q"]).exits(1);
    assert!(
        refused.stderr.contains("there is no jail a"),
        "errors are told all the same"
    );
    ezz(&["create", "j{01..30}"]).ok();
    for verb in [
        "list",
        "list --json",
        "completions bash",
        "doctor",
        "create --help",
    ] {
        let script =
            format!("set -o pipefail; {EZZ} {verb} | head -n 1; echo ${{PIPESTATUS[0]}} >&2");
        let done = sh(&format!("bash -c '{script}'"));
        assert!(!done.stderr.contains("panicked"), "{done:#?}");
        assert_eq!(done.stderr, "0\n", "{verb}");
        assert_eq!(done.stdout.lines().count(), 1, "{verb}");
    }
    // A full disk is one.
    let full = sh(&format!("{EZZ} completions bash >/dev/full"));
    full.exits(1);
}

const VERBS: &[&str] = &[
    "init",
    "install",
    "create",
    "list",
    "show",
    "start",
    "stop",
    "restart",
    "console",
    "exec",
    "delete",
    "update",
    "rollback",
    "apply",
    "clone",
    "converge",
    "merge",
    "worlds",
    "track",
    "doctor",
    "completions",
    "man",
];

#[test]
fn every_verb_has_a_page_an_example_and_completions() {
    let root = ezz(&["--help"]).ok().stdout;
    sh(&format!("mkdir /tmp/man && {EZZ} man /tmp/man")).ok();
    let nested = [
        "worlds-list",
        "worlds-show",
        "worlds-verify",
        "worlds-delete",
        "worlds-diff",
        "worlds-tree",
        "worlds-prune",
        "track-list",
        "track-create",
        "track-delete",
        "track-log",
    ];
    let pages: BTreeSet<String> = std::fs::read_dir("/tmp/man")
        .expect("it was made")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let expected: BTreeSet<String> = VERBS
        .iter()
        .chain(&nested)
        .map(|verb| format!("ezz-{verb}.8"))
        .chain(["ezz.8".to_owned()])
        .collect();
    assert_eq!(pages, expected);
    for verb in VERBS {
        assert!(
            root.contains(&format!("\n  {verb}")),
            "no {verb} in the help"
        );
        let page = std::fs::read_to_string(format!("/tmp/man/ezz-{verb}.8")).expect("readable");
        assert!(page.contains(&format!("ezz\\-{verb}")), "{verb}: {page}");
        if !["worlds", "track"].contains(verb) {
            let help = ezz(&[verb, "--help"]).ok().stdout;
            assert!(help.contains("Example"), "no example in {help}");
            assert!(page.contains("Example"), "no example in the page of {verb}");
        }
    }
    if sh("command -v groff").code == 0 {
        let lint =
            sh("for page in /tmp/man/*.8; do groff -man -Tutf8 -ww -z $page || exit 1; done");
        assert_eq!((lint.code, &*lint.stderr), (0, ""), "{lint:#?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let text = ezz(&["completions", shell]).ok().stdout;
        for verb in VERBS {
            assert!(text.contains(verb), "{shell} does not complete {verb}");
        }
        std::fs::write(format!("/tmp/ezz.{shell}"), text).expect("writable");
        if sh(&format!("command -v {shell}")).code == 0 {
            sh(&format!("{shell} -n /tmp/ezz.{shell}")).ok();
        }
    }
    let completed = sh(
        "bash -c '. /tmp/ezz.bash; COMP_WORDS=(ezz doc); COMP_CWORD=1; _ezz ezz doc ezz; echo ${COMPREPLY[*]}'",
    );
    assert_eq!(completed.ok().stdout, "doctor\n");
    ezz(&["create", "web1", "web2", "db"]).ok();
    assert_eq!(
        ezz(&["list", "--only-names"]).ok().stdout,
        "db\nweb1\nweb2\n"
    );
    let jails = ezz(&["list", "--only-names", "--json"]).ok().json();
    assert_eq!(jails[2]["jail"], "web2");
    let completed = sh(&format!(
        "mkdir -p /tmp/bin; ln -sf {EZZ} /tmp/bin/ezz; PATH=/tmp/bin:$PATH bash -c '. /tmp/ezz.bash; COMP_WORDS=(ezz stop we); COMP_CWORD=2; _ezz_jails ezz we stop; echo ${{COMPREPLY[*]}}'"
    ));
    assert_eq!(completed.ok().stdout, "web1 web2\n");
    ezz(&["completions", "csh"]).exits(2);
    ezz(&["man", "/tmp/nosuch"]).exits(1);
}
