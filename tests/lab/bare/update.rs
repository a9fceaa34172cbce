//! `ezz update`, `rollback`, `converge`: a track moves to another generation and back, and jails follow when they are
//! restarted.

use std::fs;
use std::path::Path;

use crate::support::*;
use crate::worlds::runnable_world;

/// Returns what the jail finds in its own basejail, read inside it.
#[track_caller]
pub fn seen(jail: &str) -> String {
    let asked = ezz(&["exec", jail, "--", "cat", "/usr/share/version"]).ok();
    asked.stdout.trim().to_owned()
}

/// Creates a site whose world is identified by a word in /usr/share/version.
#[track_caller]
pub fn versioned() {
    init();
    let directory = Path::new("/tmp/runnable");
    runnable_world(directory);
    repacked(directory, "one");
    ezz(&["install", "/tmp/runnable.tar"]).ok();
}

/// Packs the same world with another word.
#[track_caller]
fn repacked(directory: &Path, word: &str) {
    fs::write(directory.join("usr/share/version"), word).expect("written");
    let tar = directory.with_extension("tar");
    sh(&format!(
        "tar -cf {} -C {} .",
        tar.display(),
        directory.display()
    ))
    .ok();
}

/// Changes the word by a command in the world.
pub fn update(word: &str, more: &[&str]) -> Ended {
    let script = format!("echo {word} > /usr/share/version");
    let args = [&["update"], more, &["--run", "/bin/sh", "-c", &script]].concat();
    ezz(&args)
}

pub fn track(name: &str) -> (u64, Option<u64>) {
    let found = json_property("tank/ezz/basejail", &format!("ezz:track:{name}"));
    (
        found["current"].as_u64().expect("a number"),
        found["previous"].as_u64(),
    )
}

pub fn epoch() -> u64 {
    property(SITE, "ezz:epoch").parse().expect("a number")
}

pub fn link() -> String {
    let link = fs::read_link("/srv/jails/basejail/tracks/main").expect("a link");
    link.display().to_string()
}

#[test]
fn a_swap_is_one_commit_and_twice_returns() {
    init();
    install_small();
    install_small();
    let before = epoch();
    let planned = ezz(&["rollback", "--to", "2", "--dry-run"]).ok();
    assert!(planned.stdout.contains("ezz:track:main"), "{planned:#?}");
    assert_eq!((track("main"), epoch()), ((1, None), before));
    // There is nothing before the first generation.
    ezz(&["rollback"]).refused(1, "no previous generation");
    let swapped = ezz(&["update", "--swap", "2", "--why", "for a test", "--json"]).ok();
    let told = &swapped.json()[0];
    assert_eq!(
        (&told["from"], &told["to"], &told["did"]),
        (&1.into(), &2.into(), &"swapped".into())
    );
    assert_eq!((track("main"), link()), ((2, Some(1)), "../2".to_owned()));
    assert_eq!(epoch(), before + 1);
    ezz(&["rollback"]).ok();
    assert_eq!((track("main"), link()), ((1, Some(2)), "../1".to_owned()));
    ezz(&["rollback"]).ok();
    assert_eq!((track("main"), link()), ((2, Some(1)), "../2".to_owned()));
    assert_eq!(epoch(), before + 3);
    // A second swap reports that, and changes nothing.
    let again = ezz(&["update", "--swap", "2"]).ok();
    assert!(
        again.stderr.contains("is already at debian-12.1.2"),
        "{again:#?}"
    );
    assert_eq!(epoch(), before + 3);
    let log = json_property("tank/ezz/basejail", "ezz:swaps:main");
    let log: Vec<String> = log
        .as_array()
        .expect("a list")
        .iter()
        .map(|swap| {
            format!(
                "{}>{} {} {}",
                swap["from"], swap["to"], swap["why"], swap["by"]
            )
        })
        .collect();
    assert_eq!(
        log,
        [
            r#"1>2 "for a test" "root""#,
            r#"2>1 "rollback" "root""#,
            r#"1>2 "rollback" "root""#
        ]
    );
    let told = ezz(&["track", "log", "--json"]).ok().json();
    assert_eq!((told.len(), &told[0]["why"]), (3, &"for a test".into()));
    ezz(&["track", "log", "none"]).refused(1, "there is no track none");
    // The log does not grow without limit.
    for _ in 0..20 {
        ezz(&["rollback"]).ok();
    }
    let log = json_property("tank/ezz/basejail", "ezz:swaps:main");
    assert_eq!(log.as_array().map(Vec::len), Some(20));
    ezz(&["rollback", "--track", "none"]).refused(1, "there is no track none");
    ezz(&["rollback", "--to", "9"]).refused(1, "no sealed generation");
    ezz(&["rollback", "--why", "two\nlines"]).exits(2);
}

#[test]
fn what_must_not_be_swapped_to_is_refused() {
    init();
    install_small();
    install_small();
    let unchanged = |args: &[&str], code: i32, words: &str| {
        let before = everything();
        ezz(args).refused(code, words);
        assert_eq!(everything(), before);
    };
    // A rejected generation can only be named explicitly, and is not rejected any more afterwards.
    zfs(&[
        "set",
        r#"ezz:rejected={"at":"now","why":"it was bad"}"#,
        "tank/ezz/basejail/2",
    ])
    .ok();
    unchanged(&["update", "--swap", "2"], 1, "was rejected: it was bad");
    ezz(&["rollback", "--to", "2"]).ok();
    assert_eq!(track("main"), (2, Some(1)));
    assert_eq!(source("tank/ezz/basejail/2", "ezz:rejected"), "-");
    // Another generation has the number of the previous one.
    let real = property("tank/ezz/basejail", "ezz:track:main");
    let guid = property("tank/ezz/basejail/1@1", "guid");
    assert!(real.contains(&guid), "{real}");
    let other = format!("ezz:track:main={}", real.replace(&guid, "77"));
    zfs(&["set", &other, "tank/ezz/basejail"]).ok();
    unchanged(&["rollback"], 1, "not the one that the track main left");
    zfs(&[
        "set",
        &format!("ezz:track:main={real}"),
        "tank/ezz/basejail",
    ])
    .ok();
    // A generation that was written to, until it is repaired.
    sh(
        "set -e; umount /srv/jails/basejail/1; zfs set readonly=off tank/ezz/basejail/1
        mkdir -p /tmp/rw; mount -t zfs -o zfsutil,rw tank/ezz/basejail/1 /tmp/rw
        echo evil > /tmp/rw/usr/bin/dpkg; umount /tmp/rw; zfs inherit readonly tank/ezz/basejail/1",
    )
    .ok();
    unchanged(&["rollback"], 1, "differs from its seal");
    ezz(&["world", "verify", "1", "--repair"]).ok();
    assert_eq!(property("tank/ezz/basejail/1", "written@1"), "0");
    ezz(&["rollback"]).ok();
    assert_eq!(track("main"), (1, Some(2)));
    // A generation that was destroyed.
    sh("umount /srv/jails/basejail/2; zfs release ezz tank/ezz/basejail/2@2 && zfs destroy -r tank/ezz/basejail/2")
        .ok();
    unchanged(
        &["rollback"],
        1,
        "generation 2 does not exist or is not sealed",
    );
}

#[test]
fn jails_see_the_old_one_until_they_are_restarted() {
    versioned();
    ezz(&["create", "a", "b", "late", "--start"]).ok();
    ezz(&["create", "pinned", "--pin", "1", "--start"]).ok();
    ezz(&["create", "stopped"]).ok();
    let updated = update("two", &["--json"]).ok();
    let told = &updated.json()[0];
    assert_eq!(
        (&told["generation"], &told["parent"]),
        (&2.into(), &1.into())
    );
    assert!(updated.stderr.contains("ezz converge"), "{updated:#?}");
    assert_eq!(track("main"), (2, Some(1)));
    // The update is a clone: it costs what it changed, and its manifest.
    assert_eq!(
        property("tank/ezz/basejail/2", "origin"),
        "tank/ezz/basejail/1@1"
    );
    assert_eq!(property("tank/ezz/basejail/2", "written@2"), "0");
    assert_eq!(
        source("tank/ezz/basejail/2", "readonly"),
        "inherited from tank/ezz/basejail"
    );
    ezz(&["world", "verify", "--all"]).ok();
    for jail in ["a", "b", "late", "pinned"] {
        assert_eq!(seen(jail), "one", "{jail}");
    }
    // A stopped jail simply starts on the new generation.
    ezz(&["start", "stopped"]).ok();
    assert_eq!(seen("stopped"), "two");
    let listed = ezz(&["list", "a", "--json"]).ok().json();
    assert_eq!(
        (&listed[0]["generation"], &listed[0]["due"]),
        (&1.into(), &2.into())
    );
    let moved = ezz(&["converge", "a", "stopped", "--json"]).ok().json();
    let moved: Vec<String> = moved
        .iter()
        .map(|m| format!("{} {}", m["jail"], m["did"]))
        .collect();
    assert_eq!(moved, [r#""a" "restarted""#, r#""stopped" "already""#]);
    assert_eq!((seen("a"), seen("b")), ("two".to_owned(), "one".to_owned()));
    let all = ezz(&["converge"]).ok();
    assert!(!all.stdout.contains("pinned"), "{all:#?}");
    for (jail, word) in [("b", "two"), ("late", "two"), ("pinned", "one")] {
        assert_eq!(seen(jail), word, "{jail}");
    }
    let none = ezz(&["converge"]).ok();
    assert!(
        none.stderr
            .contains("all running thin jails are up to date"),
        "{none:#?}"
    );
    // The way back, together with the jails.
    ezz(&["rollback", "--restart"]).ok();
    for jail in ["a", "b", "late", "stopped"] {
        assert_eq!(seen(jail), "one", "{jail}");
    }
}

#[test]
fn a_batch_that_is_not_well_ends_it() {
    versioned();
    ezz(&["create", "a", "b", "c", "--start"]).ok();
    let health = "[ $(cat /usr/share/version) != bad ]";
    ezz(&["create", "own", "--start", "--health", health]).ok();
    update("bad", &[]).ok();
    let ended = ezz(&[
        "converge",
        "a",
        "b",
        "c",
        "--batch",
        "2",
        "--health",
        health,
        "--health-limit",
        "1",
        "--json",
    ]);
    let ended = ended.exits(1);
    assert!(
        ended.stderr.contains("a failed its health check"),
        "{ended:#?}"
    );
    assert!(
        ended.stderr.contains("b failed its health check"),
        "{ended:#?}"
    );
    let left: Vec<String> = ended
        .json()
        .iter()
        .map(|m| format!("{} {}", m["jail"], m["did"]))
        .collect();
    assert_eq!(left, [r#""c" "left""#]);
    assert_eq!((seen("b"), seen("c")), ("bad".to_owned(), "one".to_owned()));
    // A jail's own health command runs without being given.
    let own = ezz(&["converge", "own", "--health-limit", "1"]).exits(1);
    assert!(
        own.stderr.contains("own failed its health check"),
        "{own:#?}"
    );
    // A command that never ends is killed, and its output is reported.
    let slow = [
        "converge",
        "c",
        "--health",
        "echo so slow; sleep 1000",
        "--health-limit",
        "1",
    ];
    let slow = ezz(&slow).exits(1);
    assert!(
        slow.stderr.contains("did not end within 1 s: so slow"),
        "{slow:#?}"
    );
    assert_eq!(processes("sleep 1000"), Vec::<u32>::new());
    // Jails that are not healthy block nothing: the way back repairs them.
    ezz(&["rollback", "--restart"]).ok();
    assert_eq!(
        (seen("a"), seen("own")),
        ("one".to_owned(), "one".to_owned())
    );
}

/// A health command runs as root, whose number the jail writes: no number gives it an id of the host.
#[test]
fn a_health_command_runs_as_nobody_that_a_jail_made_up() {
    versioned();
    ezz(&["create", "a", "--start"]).ok();
    let passwd = "/srv/jails/a/etc/passwd";
    fs::write(passwd, "root:x:0:4294967295::/root:/bin/sh\n").expect("written");
    update("two", &[]).ok();
    let converge = [
        "converge",
        "a",
        "--health",
        "echo > /tmp/ran",
        "--health-limit",
        "1",
    ];
    let ended = ezz(&converge).exits(1);
    for words in [
        "the group id 4294967295",
        "0 to 65535",
        "hint: to correct it as the jail's root: ezz exec a --user 0:0 -- COMMAND",
    ] {
        assert!(ended.stderr.contains(words), "{ended:#?}");
    }
    assert!(!Path::new("/srv/jails/a/tmp/ran").exists());
    fs::write(passwd, "root:x:0:0::/root:/bin/sh\n").expect("written");
    ezz(&["rollback", "--restart"]).ok();
    ezz(&["rollback"]).ok();
    ezz(&converge).ok();
    assert!(Path::new("/srv/jails/a/tmp/ran").exists());
}

#[test]
fn an_updater_that_fails_leaves_nothing() {
    versioned();
    ezz(&["create", "a", "--start"]).ok();
    let before = (everything(), conditions());
    let seq = property(SITE, "ezz:seq");
    let run = |more: &[&str], script: &str| {
        ezz(&[&["update"], more, &["--run", "/bin/sh", "-c", script]].concat())
    };
    let failed = run(
        &[],
        "echo half > /usr/share/version; echo no luck >&2; exit 3",
    );
    let failed = failed.refused(
        1,
        "exited with status 3; nothing was changed\n  | no luck\nhint: ",
    );
    let log = failed.log();
    assert_eq!(log, "no luck\n");
    // The last lines, each on its own, and as JSON.
    let many =
        "i=0; while [ $i -lt 100 ]; do i=$((i + 1)); echo $i; done; printf 'a\\033[2Jb\\n'; exit 1";
    let told = run(&["--json"], many).exits(1);
    let told: serde_json::Value = serde_json::from_str(
        told.stderr
            .lines()
            .find(|line| line.starts_with('{'))
            .expect("an object"),
    )
    .expect("JSON");
    let said = told["said"].as_array().expect("a list");
    assert_eq!(
        (said.len(), &said[8], &said[9]),
        (10, &"100".into(), &"a[2Jb".into())
    );
    run(&["--limit", "1"], "sleep 1000").refused(1, "did not end within 1 s");
    assert_eq!(processes("sleep 1000"), Vec::<u32>::new());
    ezz(&["update", "--run", "/no/such/program"]).refused(1, "no/such/program");
    // Files that the command adds are checked like those of an install.
    let key = "echo '-----BEGIN OPENSSH PRIVATE KEY-----' > /etc/key";
    run(&[], key).refused(1, "look like secrets");
    ezz(&["update", "--from", "/nowhere"]).exits(2);
    let after = everything().replace(
        &format!("ezz:seq\t{}", property(SITE, "ezz:seq")),
        &format!("ezz:seq\t{seq}"),
    );
    let epochs = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains("ezz:epoch"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(epochs(&after), epochs(&before.0));
    // Without the directories of such commands, which stay like those of jails.
    let around: Vec<String> = conditions().lines().map(str::to_owned).collect();
    let around: Vec<String> = around
        .into_iter()
        .filter(|line| !line.starts_with("/run/ezz/w") || line.matches('/').count() > 4)
        .collect();
    assert_eq!(around.join("\n"), before.1);
    assert_eq!((track("main"), seen("a")), ((1, None), "one".to_owned()));
    // The world is its root, and its environment has nothing of the host that it does not need.
    let script = "[ \"$EZZ_ROOT\" = / ] && [ -z \"$EZZ_SITE\" ] && [ ! -e /basejail/etc ] && id -u > /usr/share/version";
    run(&[], script).ok();
    ezz(&["restart", "a"]).ok();
    assert_eq!(seen("a"), "0");
    let owner = zfs(&["mount"]).ok();
    assert!(owner.stdout.contains("tank/ezz/basejail/"), "{owner:#?}");
    sh("[ $(stat -c %u /srv/jails/basejail/*/usr/share/version | sort -u) = 0 ]").ok();
    // On the host, with the path in its environment.
    let on_host = [
        "update",
        "--on-host",
        "--run",
        "/bin/sh",
        "-c",
        "echo host > $EZZ_ROOT/usr/share/version",
    ];
    ezz(&on_host).ok();
    ezz(&["restart", "a"]).ok();
    assert_eq!(seen("a"), "host");
}

#[test]
fn one_that_is_killed_is_begun_again_or_gone_on_with() {
    versioned();
    // Killed in the middle of its command.
    let mut slow = spawn(
        "/",
        &format!("{EZZ} update --run /bin/sh -c 'touch /usr/share/begun; sleep 1000'"),
    );
    wait_for("the command", 60, || {
        Path::new("/srv/jails/basejail/2/usr/share/begun").exists()
    });
    sh("pkill -KILL -x ezz").ok();
    slow.wait().expect("it ends");
    // The next update ends its processes, and begins anew.
    update("two", &[]).ok();
    assert_eq!(processes("sleep 1000"), Vec::<u32>::new());
    assert!(!exists("tank/ezz/basejail/2"));
    assert_eq!(track("main"), (3, Some(1)));
    assert!(!Path::new("/srv/jails/basejail/3/usr/share/begun").exists());
    // Killed after its files are complete: the same command continues, and does not run the updater again.
    let script = "echo run >> /usr/share/runs; echo three > /usr/share/version";
    let args = format!("update --json --run /bin/sh -c '{script}'");
    let complete = (10..100).step_by(3).find(|step| {
        let ended = sh(&format!("EZZ_DIE_BEFORE_STEP={step} {EZZ} {args}"));
        assert_eq!(ended.code, 137, "{ended:#?}");
        let base = format!("tank/ezz/basejail/{}", property(SITE, "ezz:seq"));
        exists(&base) && source(&base, "ezz:populated") == "local"
    });
    assert!(complete.is_some(), "it was never complete and not sealed");
    assert_eq!(track("main"), (3, Some(1)));
    let done = sh(&format!("{EZZ} {args}")).ok();
    assert_eq!(done.json()[0]["resumed"], true);
    let (current, previous) = track("main");
    assert_eq!(previous, Some(3));
    let runs = fs::read_to_string(format!("/srv/jails/basejail/{current}/usr/share/runs"));
    assert_eq!(runs.expect("it was written"), "run\n");
    ezz(&["world", "verify"]).ok();
    ezz(&["create", "a", "--start"]).ok();
    assert_eq!(seen("a"), "three");
    let told = ezz(&["doctor", "--json"]).ok().json();
    assert_eq!(told[0]["findings"].to_string(), "[]");
}

#[test]
fn tracks_have_worlds_of_their_own() {
    versioned();
    ezz(&["install", "/tmp/runnable.tar", "--track", "web"]).ok();
    ezz(&["create", "a", "--start"]).ok();
    ezz(&["create", "w", "--track", "web", "--start"]).ok();
    update("web two", &["--track", "web", "--restart"]).ok();
    assert_eq!((track("main"), track("web")), ((1, None), (3, Some(2))));
    assert_eq!(
        (seen("a"), seen("w")),
        ("one".to_owned(), "web two".to_owned())
    );
    repacked(Path::new("/tmp/runnable"), "main two");
    ezz(&["update", "--from", "/tmp/runnable.tar", "--restart"]).ok();
    assert_eq!((track("main"), track("web")), ((4, Some(1)), (3, Some(2))));
    assert_eq!(
        (seen("a"), seen("w")),
        ("main two".to_owned(), "web two".to_owned())
    );
    assert_eq!(
        json_property("tank/ezz/basejail/4", "ezz:world")["parent"],
        1
    );
    ezz(&["rollback", "--track", "web", "--restart"]).ok();
    assert_eq!(
        (seen("a"), seen("w")),
        ("main two".to_owned(), "one".to_owned())
    );
    // A generation that is sealed, and not swapped to.
    update("three", &["--stage-only"]).ok();
    assert_eq!(track("main"), (4, Some(1)));
    ezz(&["update", "--swap", "5", "--restart"]).ok();
    assert_eq!(seen("a"), "three");
}

#[test]
fn a_roll_out_proves_canaries_and_goes_back_by_itself() {
    versioned();
    let health = "[ $(cat /usr/share/version) != bad ]";
    ezz(&["create", "a", "b", "c", "d", "--start"]).ok();
    ezz(&["create", "pinned", "--pin", "1", "--start"]).ok();
    let all = |word: &str| {
        for jail in ["a", "b", "c", "d"] {
            assert_eq!(seen(jail), word, "{jail}");
        }
    };
    let rollout = |word: &str, more: &[&str]| {
        let pace = [
            "--restart",
            "--health",
            health,
            "--health-limit",
            "1",
            "--batch",
            "2",
        ];
        update(word, &[&pace[..], more].concat())
    };
    // A canary that is not healthy: the track never moves.
    let swaps = || property("tank/ezz/basejail", "ezz:swaps:main");
    let before = swaps();
    let ended = rollout("bad", &["--canary", "c"]).exits(1);
    assert!(ended.stdout.contains("back at debian-12.1.1"), "{ended:#?}");
    assert_eq!((track("main"), swaps()), ((1, None), before));
    all("one");
    let config = json_property("tank/ezz/jails/c", "ezz:jail");
    assert_eq!(config["base"].to_string(), r#"{"track":"main"}"#);
    let rejected = json_property("tank/ezz/basejail/2", "ezz:rejected");
    assert!(
        rejected["why"]
            .as_str()
            .is_some_and(|why| why.contains("c failed its health check")),
        "{rejected}"
    );
    ezz(&["update", "--swap", "2", "--restart"]).refused(1, "was rejected");
    // Without canaries a batch finds the fault, and the jails that had moved return.
    let ended = rollout("bad", &["--json"]).exits(1);
    let lines = ended.json();
    let last = lines.last().expect("a line");
    assert_eq!(
        (&last["did"], &last["to"]),
        (&"went back".into(), &3.into())
    );
    assert!(
        lines
            .iter()
            .any(|line| line["jail"] == "c" && line["did"] == "left"),
        "{lines:?}"
    );
    assert_eq!(track("main"), (1, None));
    assert_eq!(link(), "../1");
    all("one");
    // A good generation: the canary first, then all followers.
    rollout("good", &["--canary", "d"]).ok();
    assert_eq!(track("main"), (4, Some(1)));
    all("good");
    assert_eq!(seen("pinned"), "one");
    assert_eq!(source("tank/ezz/basejail", "ezz:rollout:main"), "-");
    // Jails that cannot be canaries.
    ezz(&["create", "thick", "--thick", "--start"]).ok();
    let before = everything();
    for (jail, words) in [
        ("pinned", "does not follow the track"),
        ("thick", "it is thick"),
        ("nobody", "no jail nobody"),
    ] {
        let args = ["update", "--swap", "1", "--restart", "--canary", jail];
        ezz(&args).refused(1, words);
    }
    ezz(&["update", "--continue"]).refused(1, "no roll-out of the track main");
    ezz(&["update", "--swap", "1", "--canary", "a"]).exits(2);
    assert_eq!(everything(), before);
    let told = ezz(&["doctor", "--json"]).ok().json();
    assert_eq!(told[0]["findings"].to_string(), "[]");
}

#[test]
fn a_roll_out_is_gone_on_with_or_back_from_wherever_it_was_killed() {
    versioned();
    ezz(&["create", "a", "b", "--start"]).ok();
    update("two", &["--stage-only"]).ok();
    let begin = "update --swap 2 --restart --canary a --batch 1";
    let under_way = || source("tank/ezz/basejail", "ezz:rollout:main") == "local";
    let mut phases = std::collections::BTreeSet::new();
    for step in (1..200).step_by(23) {
        let ended = sh(&format!("EZZ_DIE_BEFORE_STEP={step} {EZZ} {begin}"));
        if ended.code == 0 {
            break;
        }
        if under_way() {
            let phase = json_property("tank/ezz/basejail", "ezz:rollout:main")["phase"].clone();
            let phase = phase.as_str().expect("a word").to_owned();
            // No other command moves the track meanwhile; the refusal names the roll-out.
            ezz(&["rollback", "--to", "1"]).refused(1, "a roll-out of the track main is under way");
            ezz(&["update", "--run", "true"]).refused(1, "is under way");
            let told = ezz(&["doctor"]).stdout;
            assert!(told.contains("roll-out"), "{told}");
            let kept = ezz(&["world", "prune", "--dry-run"]).ok().stdout;
            assert!(kept.contains("nothing to destroy"), "{kept}");
            // In turns, one roll-out is continued and the next goes back.
            let way = if phases.len() % 2 == 0 {
                "--continue"
            } else {
                "--abort"
            };
            ezz(&["update", way]).ok();
            assert!(!under_way());
            let word = if way == "--continue" { "two" } else { "one" };
            assert_eq!(
                (seen("a"), seen("b")),
                (word.to_owned(), word.to_owned()),
                "{step} {way}"
            );
            phases.insert(format!("{phase} {way}"));
        }
        assert_eq!(source("tank/ezz/basejail/2", "ezz:rejected"), "-", "{step}");
        ezz(&["rollback", "--to", "1", "--restart"]).ok();
        ezz(&["start", "--all"]).ok();
        assert_eq!(
            (seen("a"), seen("b")),
            ("one".to_owned(), "one".to_owned()),
            "{step}"
        );
        let told = ezz(&["doctor", "--json"]).ok().json();
        assert_eq!(told[0]["findings"].to_string(), "[]", "{step}");
    }
    eprintln!("{phases:?}");
    assert!(phases.len() >= 2, "{phases:?}");
}
