//! The host's memory, processors and processes that jails may use.

use crate::support::*;

const FILE: &str = "/tmp/limits.toml";

/// Returns the kernel's value in a cgroup file of a running jail.
#[track_caller]
fn kernel(jail: &str, file: &str) -> String {
    let text = sh(&format!("cat /sys/fs/cgroup/ezz/*/{jail}/{file}")).ok();
    text.stdout.trim().to_owned()
}

/// Returns the memory that a jail without a limit may use: the host's less one eighth, in whole pages.
fn built_in_memory() -> u64 {
    let words = sh("grep ^MemTotal: /proc/meminfo").ok().stdout;
    let kibibytes = words.split_whitespace().nth(1).map(str::parse::<u64>);
    let bytes = 1024
        * kibibytes
            .expect("a second word")
            .expect("a number of kibibytes");
    (bytes - bytes / 8) / 4096 * 4096
}

fn limits(jail: &str) -> serde_json::Value {
    ezz(&["show", jail, "--json"]).ok().json()[0]["limits"].clone()
}

#[test]
fn the_kernel_has_the_limits_of_a_jail_and_keeps_them() {
    let limited = ["--memory", "64M", "--cpus", "0.5", "--processes", "40"];
    ezz(&[&["create", "l"], &limited[..], &["--start"]].concat()).ok();
    ezz(&["create", "free", "--start"]).ok();
    assert_eq!(kernel("l", "memory.max"), "67108864");
    assert_eq!(kernel("l", "cpu.max"), "50000 100000");
    assert_eq!(kernel("l", "pids.max"), "40");
    assert_eq!(kernel("free", "memory.max"), built_in_memory().to_string());
    assert_eq!(kernel("free", "pids.max"), "16384");
    let shown = ezz(&["show", "l"]).ok().stdout;
    let line = "limits       memory 64.0M, processors 0.5, processes 40";
    assert!(shown.lines().any(|it| it == line), "{shown}");
    assert_eq!(limits("free"), serde_json::json!({}));
    let shown = ezz(&["show", "free"]).ok().stdout;
    let line = shown.lines().find(|it| it.starts_with("limits "));
    let words = " (built-in), processes 16384 (built-in)";
    assert!(line.is_some_and(|it| it.ends_with(words)), "{shown}");
    let shown = ezz(&["show", "free", "--json"]).ok().json();
    let memory = shown[0]["built_in_limits"]["memory"].as_u64();
    assert_eq!(memory.map(|it| it / 4096 * 4096), Some(built_in_memory()));

    // The files in its /run use memory. A process that uses too much of it is killed, and others are not.
    let killed = ezz(&[
        "exec",
        "l",
        "--",
        "/bin/sh",
        "-c",
        "head -c 120M /dev/zero >/run/fill",
    ]);
    assert_ne!(killed.code, 0, "{killed:#?}");
    let events = kernel("l", "memory.events");
    let kills = events.lines().find(|line| line.starts_with("oom_kill "));
    assert!(kills.is_some_and(|line| line != "oom_kill 0"), "{events}");
    let fills = "head -c 120M /dev/zero >/run/fill && rm /run/fill";
    ezz(&["exec", "free", "--", "/bin/sh", "-c", fills]).ok();

    // A clone has the limits of its source, except those that are given.
    ezz(&["clone", "l", "m", "--memory", "128M", "--start"]).ok();
    assert_eq!(
        limits("m"),
        serde_json::json!({"memory": 128 << 20, "cpus": 0.5, "processes": 40})
    );
    assert_eq!(kernel("m", "memory.max"), "134217728");
    // The same command again after it was cut off before the start: the same limits are accepted.
    ezz(&["stop", "m"]).ok();
    ezz(&["clone", "l", "m", "--start"]).refused(1, "the jail m already exists");
    ezz(&["clone", "l", "m", "--memory", "128M", "--start"]).ok();
    ezz(&["restart", "l"]).ok();
    assert_eq!(kernel("l", "memory.max"), "67108864");
    ezz(&["clone", "l", "n", "--memory", "none"]).ok();
    assert_eq!(
        limits("n"),
        serde_json::json!({"cpus": 0.5, "processes": 40})
    );
    configured();
}

/// The configuration file gives limits and a quota to new jails, which keep them.
#[track_caller]
fn configured() {
    let configuration = |text: &str| std::fs::write("/etc/ezz.toml", text).expect("written");
    let quota = |jail: &str| property(&format!("{SITE}/jails/{jail}"), "quota");
    configuration("[defaults]\nmemory = \"96M\"\nprocesses = 60\nquota = \"1G\"\n");
    ezz(&["create", "d", "--start"]).ok();
    assert_eq!(kernel("d", "memory.max"), "100663296");
    assert_eq!(kernel("d", "pids.max"), "60");
    assert_eq!(quota("d"), "1073741824");
    let own = ["--memory", "none", "--processes", "none", "--quota", "none"];
    ezz(&[&["create", "own"], &own[..]].concat()).ok();
    assert_eq!(limits("own"), serde_json::json!({}));
    assert_eq!(quota("own"), "0");
    let fleet = "fleet = \"f\"\n[[jail]]\nname = \"fleet\"\n[[jail]]\nname = \"cpus\"\nlimits = { cpus = 1 }\n";
    std::fs::write(FILE, fleet).expect("written");
    ezz(&["apply", FILE]).ok();
    let given = serde_json::json!({"memory": 96 << 20, "processes": 60});
    assert_eq!(
        (limits("fleet"), quota("fleet")),
        (given.clone(), quota("d"))
    );
    assert_eq!(limits("cpus"), serde_json::json!({"cpus": 1.0}));

    // Another configuration affects only other jails.
    configuration("[defaults]\nmemory = \"48M\"\n");
    assert_eq!(ezz(&["apply", FILE]).ok().stdout, "nothing to do\n");
    ezz(&["restart", "d"]).ok();
    assert_eq!((limits("d"), quota("d")), (given, quota("fleet")));
    assert_eq!(kernel("d", "memory.max"), "100663296");

    configuration("site = \"tank/ezz\"\n[defaults]\nmemory = \"48\"\n");
    let before = everything();
    let refused = ezz(&["create", "bad"]).refused(1, "/etc/ezz.toml, line 3: ");
    assert!(
        refused
            .stderr
            .contains("hint: the table [defaults] has the keys memory, processes and quota"),
        "{refused:#?}"
    );
    assert_eq!(everything(), before);
    std::fs::remove_file("/etc/ezz.toml").expect("removed");
}

#[test]
fn a_fleet_changes_limits_at_the_next_start() {
    let write = |text: &str| std::fs::write(FILE, text).expect("written");
    let fleet = |limits: &str| {
        format!(
            "fleet = \"f\"\n[defaults]\nlimits = {{ processes = 50 }}\n[[jail]]\nname = \"a\"\nstate = \"running\"\n{limits}"
        )
    };
    write(&fleet("limits = { memory = \"64M\", cpus = 1.5 }\n"));
    ezz(&["apply", FILE]).ok();
    assert_eq!(kernel("a", "memory.max"), "67108864");
    assert_eq!(kernel("a", "cpu.max"), "150000 100000");
    assert_eq!(kernel("a", "pids.max"), "16384");
    // The present jails as a file lead to no change.
    sh(&format!("{EZZ} list --fleet f >{FILE}")).ok();
    assert_eq!(ezz(&["apply", FILE]).ok().stdout, "nothing to do\n");

    write(&fleet("nested_userns = true\n"));
    let planned = ezz(&["apply", FILE, "--dry-run"]).ok();
    let words =
        "~ a: change: limits memory=67108864 cpus=1.5 > processes=50; nested_userns off > on\n";
    assert!(planned.stdout.contains(words), "{planned:#?}");
    let unshare = ["exec", "a", "--", "unshare", "-U", "true"];
    let denied = ezz(&unshare).exits(1);
    assert!(denied.stderr.contains("not permitted"), "{denied:#?}");
    let told = ezz(&["apply", FILE]).ok();
    assert!(
        told.stderr
            .contains("still runs with its old configuration"),
        "{told:#?}"
    );
    assert_eq!(kernel("a", "memory.max"), "67108864");
    let told = ezz(&["apply", FILE, "--restart"]).ok();
    assert_eq!(told.stdout, "a: restarted\n");
    ezz(&unshare).ok();
    let written = ezz(&["list", "--fleet", "f"]).ok().stdout;
    assert!(written.contains("\nnested_userns = true\n"), "{written}");
    assert_eq!(kernel("a", "memory.max"), built_in_memory().to_string());
    assert_eq!(kernel("a", "pids.max"), "50");
    assert_eq!(
        ezz(&["apply", FILE, "--restart"]).ok().stdout,
        "nothing to do\n"
    );

    for (limits, words) in [
        (
            "limits = { cpuset = \"3-1\" }",
            "line 7, column 21: expected numbers of processors",
        ),
        (
            "limits = { memory = \"0\" }",
            "line 7, column 21: 0 is no limit",
        ),
        (
            "limits = { memory = \"much\" }",
            "line 7, column 21: expected a number with K",
        ),
        (
            "limits = { cpus = 1.234 }",
            "line 7, column 19: expected a number of processors",
        ),
        ("limits = { processes = 0 }", "line 7, column 24: "),
        (
            "limits = { disk = \"1G\" }",
            "line 7, column 12: unknown field",
        ),
    ] {
        write(&fleet(limits));
        let before = everything();
        ezz(&["apply", FILE]).refused(1, words);
        assert_eq!(everything(), before);
    }
    for bad in [
        ["--memory", "0"],
        ["--cpus", "0"],
        ["--cpus", "1.234"],
        ["--processes", "0"],
        ["--cpuset", "0-"],
    ] {
        ezz(&["create", "b", bad[0], bad[1]]).exits(2);
    }
}

/// The guest's kernel has one processor and so no controller for it (CPUSETS depends on SMP): the limit is kept and
/// reported, and a start without it is refused.
#[test]
fn processors_that_the_host_cannot_keep_a_jail_on_are_refused_at_its_start() {
    let controllers = sh("cat /sys/fs/cgroup/cgroup.controllers").ok().stdout;
    assert!(
        !controllers.contains("cpuset"),
        "then start the jail: {controllers}"
    );
    let words = "the cgroup controller cpuset";
    ezz(&["create", "p", "--cpuset", "0"]).ok();
    ezz(&["start", "p"]).refused(1, words);
    assert_eq!(
        ezz(&["list", "p", "--json"]).ok().json()[0]["state"],
        "stopped"
    );
    assert_eq!(limits("p"), serde_json::json!({"cpuset": "0"}));
    let shown = ezz(&["show", "p"]).ok().stdout;
    assert!(shown.contains(" (built-in), on 0\n"), "{shown}");
    ezz(&["clone", "p", "q"]).ok();
    assert_eq!(limits("q"), serde_json::json!({"cpuset": "0"}));
    ezz(&["delete", "q", "--yes"]).ok();
    std::fs::write(
        FILE,
        "fleet = \"f\"\n[[jail]]\nname = \"p\"\nlimits = { cpuset = \"0\" }\n",
    )
    .expect("written");
    ezz(&["apply", FILE]).ok();
    sh(&format!(
        "{EZZ} list --fleet f >{FILE}; grep -q 'cpuset = \"0\"' {FILE}"
    ))
    .ok();
    assert_eq!(ezz(&["apply", FILE]).ok().stdout, "nothing to do\n");
}

/// A newer ezz may know more limits: they are kept and reported, and the jail does not start without them.
#[test]
fn limits_that_are_not_known_are_kept_and_told() {
    ezz(&["create", "n", "--memory", "64M", "--start"]).ok();
    let dataset = "tank/ezz/jails/n";
    let newer = property(dataset, "ezz:jail").replace(
        r#""limits":{"memory":67108864"#,
        r#""limits":{"memory":67108864,"io":{"read":7}"#,
    );
    assert!(newer.contains("read"), "{newer}");
    zfs(&["set", &format!("ezz:jail={newer}"), dataset]).ok();
    assert_eq!(
        limits("n"),
        serde_json::json!({"memory": 64 << 20, "io": {"read": 7}})
    );
    let shown = ezz(&["show", "n"]).ok().stdout;
    assert!(
        shown.contains("memory 64.0M, processes 16384 (built-in), io (unknown to this ezz)"),
        "{shown}"
    );
    // The jail continues to run: it is not stopped for a start that would be refused.
    let words = "n has limits that this ezz does not know: io";
    ezz(&["restart", "n"]).refused(1, words);
    assert_eq!(
        ezz(&["list", "n", "--json"]).ok().json()[0]["state"],
        "running"
    );
    let told = ezz(&["doctor", "--json"]).exits(1).json();
    let findings = told[0]["findings"].as_array().expect("a list");
    assert!(
        findings
            .iter()
            .any(|it| it["kind"] == "limits-unknown" && it["object"] == "jail n")
    );
    ezz(&["stop", "n"]).ok();
    ezz(&["start", "n"]).refused(1, words);
    ezz(&["clone", "n", "m", "--start"]).refused(1, "m has limits that this ezz does not know: io");
    assert!(!exists("tank/ezz/jails/m"));
    // A file cannot name such limits, and removes none.
    std::fs::write(
        FILE,
        "fleet = \"f\"\n[[jail]]\nname = \"n\"\nlimits = { memory = \"32M\" }\n",
    )
    .expect("written");
    ezz(&["apply", FILE]).ok();
    assert_eq!(
        limits("n"),
        serde_json::json!({"memory": 32 << 20, "io": {"read": 7}})
    );
}

/// Parameters of jail(8) and networks of jails exist on FreeBSD only: they are refused before anything is created.
#[test]
fn what_only_freebsd_has_is_refused_here_and_nothing_is_made() {
    let fleet = |entry: &str| {
        let text = format!("fleet = \"f\"\n[[jail]]\nname = \"a\"\n{entry}\n");
        std::fs::write(FILE, text).expect("written");
    };
    let before = everything();
    let args = [
        "create",
        "a",
        "--param",
        "allow.raw_sockets",
        "--param",
        "children.max=5",
    ];
    let words = "this host lacks the parameters allow.raw_sockets children.max=5";
    let refused = ezz(&args).refused(1, words);
    assert!(!refused.stderr.contains("cannot ask"), "{refused:#?}");
    ezz(&["create", "a", "--network", "vnet"]).refused(1, "their network is the host's or none");
    fleet("params = [\"allow.raw_sockets\"]");
    ezz(&["apply", FILE]).refused(
        1,
        "line 3, column 8: this host lacks the parameters allow.raw_sockets",
    );
    fleet("network = \"vnet\"");
    ezz(&["apply", FILE, "--dry-run"]).refused(1, "line 3, column 8: this host lacks networks");
    assert_eq!(everything(), before);
    // The kind of dataset does not matter.
    sh("zfs create -u tank/data").ok();
    let before = everything();
    let words = "this host lacks datasets that jails administer themselves";
    for dataset in ["tank/data", "tank/none", SITE] {
        ezz(&["create", "a", "--dataset", dataset]).refused(1, words);
        fleet(&format!("datasets = [\"{dataset}\"]"));
        ezz(&["apply", FILE]).refused(1, &format!("line 4, column 13: {words}"));
    }
    ezz(&["create", "a", "--dataset", "tank//data"]).exits(2);
    fleet("datasets = [\"tank/a%b\"]");
    ezz(&["apply", FILE]).refused(1, "line 4, column 13: ");
    for (params, words) in [
        (
            "[\"path=/\"]",
            "line 4, column 11: ezz sets the parameter path itself",
        ),
        ("[\"a b\"]", "line 4, column 11: bad parameter name"),
        (
            "[\"allow.mount\", \"allow.nomount\"]",
            "line 4, column 10: the parameters allow.mount and allow.nomount",
        ),
    ] {
        fleet(&format!("params = {params}"));
        ezz(&["apply", FILE]).refused(1, words);
    }
    for bad in ["name=x", "noname", "a=\u{1}\n;", "A", "x y=1"] {
        let told = ezz(&["create", "a", "--param", bad]);
        assert_ne!(told.code, 0, "{bad:?}: {told:#?}");
    }
    let both = [
        "create",
        "a",
        "--param",
        "allow.mount",
        "--param",
        "allow.nomount",
    ];
    ezz(&both).refused(2, "contradict each other");
    assert_eq!(everything(), before);
}

/// A jail that came from FreeBSD with a dataset of its own.
#[test]
fn a_jail_with_a_dataset_does_not_start_here() {
    ezz(&["create", "d"]).ok();
    let dataset = "tank/ezz/jails/d";
    let config = property(dataset, "ezz:jail");
    let config = config.replacen('{', r#"{"datasets":["tank/data"],"#, 1);
    zfs(&["set", &format!("ezz:jail={config}"), dataset]).ok();
    let shown = ezz(&["show", "d", "--json"]).ok().json();
    assert_eq!(shown[0]["datasets"], serde_json::json!(["tank/data"]));
    assert!(
        ezz(&["show", "d"])
            .ok()
            .stdout
            .contains("datasets     tank/data")
    );
    ezz(&["start", "d"]).refused(
        1,
        "this host lacks datasets that jails administer themselves",
    );
    ezz(&["create", "e"]).ok();
    ezz(&["delete", "d", "e", "--yes"]).ok();
}
