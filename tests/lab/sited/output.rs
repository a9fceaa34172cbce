//! The output of verbs: JSON as their help documents it, plans of dry runs, tables, manual pages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::hosts_suite::json;
use crate::support::*;

/// The keys of each kind of object that were printed.
#[derive(Default)]
struct Printed(BTreeMap<String, BTreeSet<String>>);

impl Printed {
    /// Runs a verb, and records the keys that it prints. Its help must name each kind.
    #[track_caller]
    fn by(&mut self, verb: &[&str], args: &[&str]) -> Vec<Value> {
        let ended = ezz(&[verb, args, &["--json"]].concat()).ok();
        self.of(verb, ended.json())
    }

    #[track_caller]
    fn of(&mut self, verb: &[&str], objects: Vec<Value>) -> Vec<Value> {
        assert!(!objects.is_empty(), "{verb:?} printed nothing");
        let help = ezz(&[verb, &["--help"]].concat()).ok().stdout;
        let named = help.split("JSON:").nth(1);
        let named = named.unwrap_or_else(|| panic!("no JSON in {help}"));
        for object in &objects {
            let kind = object["kind"].as_str().expect("a kind");
            assert!(named.contains(&format!("`{kind}`")), "{kind}: {named}");
            let keys = object.as_object().expect("an object").keys();
            let keys = keys.filter(|key| !["kind", "schema", "changed"].contains(&key.as_str()));
            let known = self.0.entry(kind.to_owned()).or_default();
            known.extend(keys.cloned());
        }
        objects
    }
}

fn changed(objects: &[Value]) -> Vec<Option<bool>> {
    let of = objects.iter().map(|object| object["changed"].as_bool());
    of.collect()
}

/// `json()` checks in every test that no undocumented key is printed; this test checks that all documented ones are.
#[test]
fn json_has_the_documented_keys() {
    let mut printed = Printed::default();
    small_world(Path::new("/tmp/small"), "12.1");
    printed.by(&["install"], &["/tmp/small.tar"]);
    sh("zfs create -u -o mountpoint=none tank/more").ok();
    printed.by(&["init"], &["tank/more/site", "--directory", "/srv/more"]);
    sh("zfs umount tank/more/site; zfs destroy -r tank/more").ok();
    printed.by(&["track", "create"], &["old", "--generation", "1"]);
    printed.by(&["track", "list"], &[]);
    printed.by(&["world", "list"], &[]);
    printed.by(&["world", "verify"], &["--quick"]);
    printed.by(&["world", "diff"], &["1", "2"]);
    printed.by(&["world", "tree"], &[]);
    printed.by(&["rollback"], &["--to", "2"]);
    printed.by(&["track", "log"], &[]);
    printed.by(&["track", "delete"], &["old"]);
    ezz(&["rollback"]).ok();
    printed.by(&["world", "prune"], &["--yes"]);
    printed.by(&["world", "show"], &["1"]);

    let planned = ezz(&["create", "a", "-n", "--json"]).ok().json();
    assert_eq!(planned[0]["kind"], "plan");
    assert_eq!(changed(&planned), [Some(true)]);
    let made = printed.by(&["create"], &["a", "dead", "--quota", "1G"]);
    assert_eq!(changed(&made), [Some(true); 2]);
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
    let planned = ezz(&["apply", "/tmp/fleet.toml", "-n", "--json"]).ok();
    assert_eq!(changed(&planned.json()), [Some(true); 2]);
    printed.of(&["apply"], planned.json());
    printed.by(&["apply"], &["/tmp/fleet.toml"]);
    printed.by(&["clone"], &["of", "twin"]);
    ezz(&["delete", "twin", "--yes"]).ok();
    sh("zfs create -u tank/ezz/jails/odd").ok();
    printed.by(&["start"], &["a", "dead"]);
    let again = printed.by(&["start"], &["a"]);
    assert_eq!(changed(&again), [Some(false)]);
    printed.by(&["restart"], &["a"]);
    sh("kill -9 $(cat /run/ezz/*/jails/dead/pid)").ok();
    wait_for("the death to be seen", 30, || {
        ezz(&["list", "dead", "--json"]).ok().json()[0]["state"] == "stopped"
    });
    // The state that a conflict leaves.
    let mut config = json_property("tank/ezz/jails/pinned", "ezz:jail");
    config["instead"] = serde_json::json!({ "track": "main", "of": 1 });
    zfs(&[
        "set",
        &format!("ezz:jail={config}"),
        "tank/ezz/jails/pinned",
    ])
    .ok();
    assert_eq!(printed.by(&["list"], &[]).len(), 6);
    printed.by(&["show"], &[]);
    for jail in ["a", "pinned"] {
        printed.by(&["show"], &[jail]);
    }
    printed.by(&["stop"], &["a"]);
    printed.by(&["delete"], &["a", "dead", "--yes"]);
    let ill = ezz(&["doctor", "--json"]).exits(1).json();
    assert_eq!(changed(&ill), [Some(false)]);
    printed.of(&["doctor"], ill);
    let adopted = ezz(&["doctor", "--adopt", "--json"]).ok().json();
    printed.of(&["doctor"], adopted);

    // Their own tests check the keys that only a merge, a roll-out, a release or a deaf jail has.
    let elsewhere = |kind: &str, key: &str| matches!((kind, key), ("jail-result", "killed"));
    for (kind, keys) in &printed.0 {
        let documented = json::keys(kind);
        let lacking = documented.iter().find(|key| !keys.contains(**key));
        let lacking = lacking.filter(|key| !elsewhere(kind, key));
        assert_eq!(lacking, None, "{kind}: {keys:?}");
    }
    let kinds = [
        "adoption",
        "change",
        "diagnosis",
        "difference",
        "freed",
        "install",
        "jail",
        "jail-result",
        "lineage",
        "plan",
        "prune-result",
        "site",
        "site-result",
        "swap",
        "swap-result",
        "track",
        "track-result",
        "verification",
        "world",
    ];
    assert_eq!(printed.0.keys().collect::<Vec<_>>(), kinds);
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
    // Messages are on standard error, so that every line of the result parses.
    ezz(&["create", "a"]).ok();
    let again = ezz(&["stop", "a", "--json"]).ok();
    assert_eq!(again.json()[0]["did"], "already");
    assert!(again.stderr.contains("already stopped"));
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
        (&["world", "prune"], "nothing to destroy"),
        (
            &["doctor", "--repair"],
            "mount tank/ezz/jails/b at /srv/jails/b",
        ),
        (&["doctor", "--adopt"], "is not a replica"),
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
    let on_terminal = |verb: &str, before: &str| {
        let script = format!(
            "script -qec 'stty rows 24 cols 80; {before}{EZZ} {verb}' /dev/null </dev/null"
        );
        sh(&script).ok().stdout.replace('\r', "")
    };
    for verb in ["list", "world list"] {
        for (before, most) in [("", 80), ("COLUMNS=60 ", 60)] {
            let text = on_terminal(verb, before);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(most), "{widest:?} columns:\n{text}");
        }
    }
    // Names are not cut, so that they can be copied.
    let text = on_terminal("list", "");
    for name in ["web01", "web02", "web03", "theirs", "debian-12.15.1"] {
        assert!(text.contains(name), "no {name}:\n{text}");
    }
    // Without a terminal each jail is one line, with everything.
    let text = ezz(&["list"]).ok().stdout;
    assert_eq!(text.lines().count(), 6, "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{long} ")));
    let line = line.unwrap_or_else(|| panic!("no {long}:\n{text}"));
    assert!(
        line.contains(&host) && addresses.iter().all(|one| line.contains(one)),
        "{line}"
    );
    assert_eq!(
        text,
        sh(&format!("COLUMNS=20 {EZZ} list | cat")).ok().stdout
    );
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
    // A full disk is reported as an error, whatever prints.
    for verb in [
        "completions bash",
        "--help",
        "list",
        "list --json",
        "list --only-names",
        "list --fleet x",
        "show",
        "show j01",
        "world list",
        "world show 1 --json",
        "track list",
        "doctor",
        "create last --json",
        "start last",
        "world prune --dry-run",
        "delete last --yes",
    ] {
        let full = sh(&format!("{EZZ} {verb} >/dev/full")).exits(1);
        let says = verb == "--help" || full.stderr.contains("No space left on device");
        assert!(says, "{full:#?}");
    }
    assert!(!exists("tank/ezz/jails/last"));
}

/// Names, states and columns for scripts, and a jail that follows no track.
#[test]
fn a_list_has_what_was_asked_for() {
    ezz(&["create", "web1", "web2", "db", "--label", "tier=front"]).ok();
    ezz(&["create", "off", "--boot", "off"]).ok();
    ezz(&["create", "big", "--thick"]).ok();
    ezz(&["start", "web2", "big"]).ok();
    sh("head -c 3000000 /dev/urandom >/srv/jails/db/root/x; sync").ok();
    let listed = |args: &[&str]| ezz(&[&["list"], args].concat()).ok().stdout;
    assert_eq!(listed(&["--only-names"]), "big\ndb\noff\nweb1\nweb2\n");
    assert_eq!(listed(&["--only-names", "web*"]), "web1\nweb2\n");
    assert_eq!(
        listed(&["--only-names", "--label", "tier=front", "d*"]),
        "db\n"
    );
    assert_eq!(
        listed(&["--only-names", "--state", "running"]),
        "big\nweb2\n"
    );
    assert_eq!(
        listed(&["--only-names", "--state", "running,stopped", "db"]),
        "db\n"
    );
    let by_size = listed(&["--only-names", "--sort", "used", "db", "web1"]);
    assert_eq!(by_size, "web1\ndb\n");
    assert_eq!(
        listed(&["-o", "name,boot,kind,base", "--no-header"]),
        "big   on   thick  own\ndb    on   thin   main\noff   off  thin   main\nweb1  on   thin   main\nweb2  on   thin   main\n"
    );
    let objects = ezz(&["list", "--json", "--state", "stopped", "--sort", "name"])
        .ok()
        .json();
    assert_eq!(objects.len(), 3);
    ezz(&["list", "--state", "x"]).exits(2);
    // A jail that follows no track does not look as if it did.
    let thick = ezz(&["list", "big", "--json"]).ok().json();
    assert!(
        thick[0]["track"].is_null() && thick[0]["generation"] == 1,
        "{thick:#?}"
    );
    let shown = ezz(&["show", "big"]).ok().stdout;
    assert!(
        shown.contains("follows      no track") && shown.contains("made from    1"),
        "{shown}"
    );
    let worlds = ezz(&["world", "list", "--json"]).ok().json();
    assert_eq!(
        (&worlds[0]["following"], &worlds[0]["running"]),
        (&4.into(), &1.into())
    );
    let told = ezz(&["converge"]).ok();
    assert!(told.stderr.contains("big: a thick jail"), "{told:#?}");
    let told = ezz(&["converge", "big"]).ok();
    assert!(
        told.stderr.contains("updates do not affect it"),
        "{told:#?}"
    );
    // A jail that does not start with the host.
    let told = ezz(&["start", "--all"]).ok();
    assert!(
        told.stderr.contains("skipped: 1 with boot off"),
        "{told:#?}"
    );
    assert_eq!(listed(&["--only-names", "--state", "stopped"]), "off\n");
    std::fs::write(
        "/tmp/fleet.toml",
        "fleet = 'f'\n[[jail]]\nname = 'spare'\nstate = 'stopped'\n[[jail]]\nname = 'off'\nboot = true\n",
    )
    .expect("written");
    ezz(&["apply", "/tmp/fleet.toml"]).ok();
    ezz(&["start", "--all"]).ok();
    assert_eq!(listed(&["--only-names", "--state", "stopped"]), "spare\n");
    let exported = ezz(&["list", "--fleet", "f"]).ok().stdout;
    assert!(
        !exported.contains("boot"),
        "it follows from the state: {exported}"
    );
    ezz(&["start", "spare"]).ok();
    let exported = ezz(&["list", "--fleet", "f", "spare"]).ok().stdout;
    assert!(exported.contains("boot = false"), "{exported}");
    ezz(&["restart", "--all"]).ok();
    assert_eq!(
        ezz(&["apply", "/tmp/fleet.toml"]).ok().stdout,
        "spare: stopped\n"
    );
}

/// Forged properties change no line of the output and no file of the host.
#[test]
fn what_is_in_the_pool_does_not_deceive() {
    ezz(&["create", "a", "b"]).ok();
    let before = property("tank/ezz/jails/a", "ezz:jail");
    for evil in [
        "x\\nroot  running",
        "x\u{202e}gnp",
        "x\\u200by",
        "x\\u001b[2J",
    ] {
        let forged = before.replace(r#""hostname":"a""#, &format!(r#""hostname":"{evil}""#));
        assert_ne!(forged, before);
        zfs(&["set", &format!("ezz:jail={forged}"), "tank/ezz/jails/a"]).ok();
        let listed = ezz(&["list"]).ok();
        assert_eq!(listed.stdout.lines().count(), 3, "{listed:#?}");
        assert!(
            listed.stdout.contains("the host name has the character U+"),
            "{listed:#?}"
        );
        for ended in [
            listed,
            ezz(&["show", "a"]),
            ezz(&["list", "--json"]),
            ezz(&["doctor"]),
        ] {
            let both = format!("{}{}", ended.stdout, ended.stderr);
            let bad = |c: char| c != '\n' && c.is_control() || "\u{202e}\u{200b}".contains(c);
            assert!(!both.contains(bad), "{ended:#?}");
        }
        ezz(&["start", "a"]).exits(1);
    }
    // The label of a world, as the sender of a replica may set it.
    zfs(&["set", &format!("ezz:jail={before}"), "tank/ezz/jails/a"]).ok();
    let world = property("tank/ezz/basejail/1", "ezz:world");
    let forged = world.replace("debian-12.15", "debian\\n12\u{202e}15");
    zfs(&["set", &format!("ezz:world={forged}"), "tank/ezz/basejail/1"]).ok();
    let listed = ezz(&["world", "list"]).ok().stdout;
    assert!(
        listed.lines().count() == 2 && listed.contains("\\n12\\u{202e}15"),
        "{listed}"
    );
    zfs(&["set", &format!("ezz:world={world}"), "tank/ezz/basejail/1"]).ok();
    let id = property("tank/ezz", "ezz:id");
    for bad in [
        "",
        "..",
        "x",
        "../../etc",
        &id.replace('-', ""),
        &format!("{{{id}}}"),
    ] {
        zfs(&["set", &format!("ezz:id={bad}"), "tank/ezz"]).ok();
        for verb in [
            &["list"][..],
            &["start", "a"],
            &["init", "tank/ezz"],
            &["--site", "tank/ezz", "create", "c"],
        ] {
            ezz(verb).refused(1, "which is not a UUID");
        }
    }
    zfs(&["set", &format!("ezz:id={id}"), "tank/ezz"]).ok();
    ezz(&["start", "a"]).ok();
}

/// The hint says what was probably meant, as a command that can be typed.
#[test]
fn typical_mistakes_get_an_answer() {
    ezz(&["create", "web1", "--start"]).ok();
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["create", "www", "10.0.0.1"],
            2,
            "`ezz create www --address 10.0.0.1`",
        ),
        (
            &["create", "www.example.com"],
            2,
            "`ezz create www-example-com --hostname www.example.com`",
        ),
        (&["create", "www_1"], 2, "`ezz create www-1`"),
        (&["create", "help"], 1, "choose another name"),
        (
            &["clone", "web1", "10.0.0.1"],
            2,
            "`ezz clone web1 --address 10.0.0.1`",
        ),
        (&["destroy", "web1"], 2, "`ezz delete`"),
        (&["status"], 2, "`ezz list`"),
        (&["set", "web1", "quota=1G"], 2, "`ezz apply NAME.toml`"),
        (&["rename", "web1", "web2"], 2, "`ezz clone OLD NEW`"),
        (&["delete", "--all"], 2, "`ezz delete '*'`"),
        (
            &["apply", "/nonexistent"],
            1,
            "give the path of a fleet file",
        ),
        (&["apply", "/tmp"], 1, "give a file"),
        (
            &["update", "--run", "true", "--restart"],
            2,
            "`ezz update --restart --run true`",
        ),
        (
            &["update", "--run", "apt-get install -y nginx"],
            2,
            "`--run apt-get install -y nginx`",
        ),
    ];
    let before = everything();
    for (line, code, hint) in cases {
        ezz(line).refused(*code, hint);
        let json = ezz(&[&["--json"], *line].concat()).exits(*code);
        let error: Value = serde_json::from_str(&json.stderr).expect("one object");
        assert!(
            error["hints"][0]
                .as_str()
                .is_some_and(|text| text.contains(hint)),
            "{json:#?}"
        );
    }
    for (address, why) in [
        ("10.0.0.1/33", "a number from 0 to 32"),
        ("2001:db8::1/129", "a number from 0 to 128"),
        ("no dots|10.0.0.1", "the name of an interface"),
        ("10.0.0", "expected [INTERFACE|]ADDRESS[/PREFIX]"),
    ] {
        let told = ezz(&["create", "www", "--address", address])
            .exits(2)
            .stderr;
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(everything(), before);
    let told = ezz(&["create", "www", "--ip", "lo|10.0.0.4/24"])
        .ok()
        .stderr;
    assert!(
        told.contains("`ip address add 10.0.0.4/24 dev lo`"),
        "{told}"
    );
    // The hint names a clone that was left out, in a command that deletes it too.
    ezz(&["clone", "web1", "copy"]).ok();
    let told = ezz(&["delete", "web*", "--yes"]).refused(1, "`ezz delete web1 copy`");
    assert!(!told.stderr.contains("depend on"), "{told:#?}");
    std::fs::write("/etc/ezz.toml", "# ours\nsight = 'tank/ezz'\n").expect("written");
    let told = ezz(&["list"]).refused(1, "line 2");
    assert!(!told.stderr.contains("\\n"), "{told:#?}");
    std::fs::remove_file("/etc/ezz.toml").expect("removed");
    // A running jail is merged after a stop, and the progress of the merge names it.
    ezz(&[
        "update",
        "-q",
        "--on-host",
        "--run",
        "sh",
        "-c",
        "echo x >>$EZZ_ROOT/etc/issue",
    ])
    .ok();
    ezz(&["merge", "web1"]).refused(1, "`ezz stop web1`");
    ezz(&["stop", "web1"]).ok();
    let told = ezz(&["merge", "web1"]).ok().stderr;
    assert!(told.contains("web1: compare ..."), "{told}");
    // An update whose command changes nothing creates no generation.
    let before = everything();
    let told = ezz(&["update", "--run", "true"]).ok();
    assert!(!exists("tank/ezz/basejail/3"), "{told:#?}");
    let names = |text: &str| text.lines().filter(|line| !line.contains("ezz:")).count();
    assert_eq!(names(&everything()), names(&before));
}

/// Each verb obeys the shell's limit of open files, with more jails than that at once.
#[test]
fn sixty_four_descriptors_are_enough() {
    small_world(Path::new("/tmp/small"), "12.1");
    let run = |verb: &str| sh(&format!("ulimit -n 64; {EZZ} {verb}"));
    for verb in [
        "create 'j{001..100}'",
        "start 'j*'",
        "list",
        "list --json",
        "show j001",
        "exec j001 -- true",
        "clone j001 twin",
        "restart j001",
        "doctor",
        "install /tmp/small.tar",
        "update -q --stage-only --from /tmp/small.tar",
        "update --swap 3",
        "world verify",
        "world list",
        "rollback",
        "converge",
        "doctor --repair",
        "stop 'j0*'",
        "merge 'j0*' twin",
        "delete twin 'j*' --yes",
        "world prune --yes",
    ] {
        run(verb).ok();
    }
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
    "world",
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
        "world-list",
        "world-show",
        "world-verify",
        "world-delete",
        "world-diff",
        "world-tree",
        "world-prune",
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
        if !["world", "track"].contains(verb) {
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
