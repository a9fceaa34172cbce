//! Many jails by one command: their names, how they are selected and addressed, and that all are created or none.

use std::collections::BTreeSet;

use crate::support::*;

fn jails() -> Vec<String> {
    let listed = sh("zfs list -Hd1 -o name -r tank/ezz/jails | sed 1d").ok();
    let names = listed.stdout.lines();
    names
        .map(|name| name.trim_start_matches("tank/ezz/jails/").to_owned())
        .collect()
}

fn listed(args: &[&str]) -> Vec<String> {
    let told = ezz(&[&["list", "--json"], args].concat()).ok().json();
    let names = told
        .iter()
        .map(|line| line["jail"].as_str().expect("a name"));
    names.map(str::to_owned).collect()
}

#[test]
fn jails_are_named_in_many_ways() {
    init();
    install_small();
    ezz(&["create", "a", "b{1..2}"]).ok();
    ezz(&["create", "--count", "10", "--prefix", "n"]).ok();
    std::fs::write("/tmp/names", "c1\n\n  c2 \nc{3..4}\n").expect("written");
    ezz(&["create", "--names-from", "/tmp/names"]).ok();
    sh(&format!(
        "printf 'z1\\0z2\\0' | {EZZ} create --names-from - --label tier=front --label x=1"
    ))
    .ok();
    ezz(&["create", "z3", "--label", "tier=back"]).ok();
    let made = "a b1 b2 c1 c2 c3 c4 n01 n02 n03 n04 n05 n06 n07 n08 n09 n10 z1 z2 z3";
    assert_eq!(jails().join(" "), made);
    // Jails are selected.
    for (args, found) in [
        (&["b*"][..], "b1 b2"),
        (&["n0[1-3]", "a"], "a n01 n02 n03"),
        (&["--label", "tier=front"], "z1 z2"),
        (&["--label", "tier=front", "--label", "x=2"], ""),
        (&["z2", "a", "--label", "tier=front"], "z2"),
        (&["?"], "a"),
        (&["--names-from", "/tmp/names"], "c1 c2 c3 c4"),
    ] {
        if found.is_empty() {
            ezz(&[&["list"], args].concat()).refused(1, "no jail has the label");
        } else {
            assert_eq!(listed(args).join(" "), found, "{args:?}");
        }
    }
    let labels = &ezz(&["list", "z1", "--json"]).ok().json()[0]["labels"];
    assert_eq!(labels.to_string(), r#"{"tier":"front","x":"1"}"#);
    // Jails are deleted by the same selections.
    ezz(&["delete", "--yes", "n*", "--label", "none=1"]).refused(1, "no jail has the label none=1");
    let planned = ezz(&["delete", "--yes", "--label", "tier=back", "--dry-run"]).ok();
    assert!(planned.stdout.contains("z3"), "{planned:#?}");
    ezz(&[
        "delete",
        "--yes",
        "n*",
        "b{1..2}",
        "--names-from",
        "/tmp/names",
    ])
    .ok();
    ezz(&["delete", "--yes", "--label", "tier=front"]).ok();
    assert_eq!(jails().join(" "), "a z3");
}

#[test]
fn bad_names_are_told_all_at_once_and_nothing_is_made() {
    init();
    install_small();
    ezz(&["create", "there", "too"]).ok();
    let before = everything();
    let unchanged = |args: &[&str], code: i32, words: &str| {
        let told = ezz(args).refused(code, words);
        assert_eq!(everything(), before, "{args:?}");
        told
    };
    let typo = |args: &[&str], words: &str| {
        let told = ezz(args).exits(2);
        assert!(told.stderr.contains(words), "{told:#?}");
        assert_eq!(everything(), before, "{args:?}");
    };
    let told = unchanged(
        &["create", "good", "Bad", "also_bad", "9"],
        2,
        "3 bad names",
    );
    assert!(
        told.stderr.contains("Bad") && told.stderr.contains("also_bad"),
        "{told:#?}"
    );
    unchanged(
        &["create", "new", "there", "too"],
        1,
        "2 jails already exist: there, too",
    );
    unchanged(&["create", "new", "new"], 2, "new");
    unchanged(&["create", "n{9..1}"], 2, "FIRST is larger than LAST");
    unchanged(&["create", "n{1..10001}"], 2, "these are 10001 jails");
    unchanged(
        &["create", "n{1..100001}", "--force-count"],
        2,
        "more than 100000 names",
    );
    unchanged(
        &["create", "n{1..2001}", "--atomic"],
        2,
        "in one transaction: the maximum is 2000",
    );
    typo(&["create", "--count", "3"], "--prefix");
    unchanged(
        &["create", "--count", "3", "--prefix", "Bad"],
        2,
        "3 bad names",
    );
    unchanged(
        &["create", "--names-from", "/nowhere"],
        1,
        "cannot read /nowhere",
    );
    typo(&["create"], "NAME");
    typo(&["create", "n", "--label", "bad"], "expected KEY=VALUE");
    typo(
        &["create", "n", "--ip-pool", "10.0.0.1/24"],
        "bits below the prefix are set",
    );
    unchanged(&["delete", "--yes"], 2, "no jails were named");
    unchanged(
        &["delete", "--yes", "nothing*"],
        1,
        "no jail matches nothing*",
    );
    unchanged(&["delete", "--yes", "the[re"], 2, "bad pattern");
    unchanged(&["start"], 2, "no jails were named");
    typo(&["start", "--all", "there"], "cannot be used with");
    sh(r"printf '\377\n' > /tmp/names").ok();
    unchanged(
        &["create", "--names-from", "/tmp/names"],
        1,
        "cannot read /tmp/names",
    );
    // There is room for only half of them: none is created.
    unchanged(
        &[
            "create",
            "--count",
            "20000",
            "--prefix",
            "n",
            "--force-count",
        ],
        1,
        "space",
    );
}

#[test]
fn two_hundred_with_distinct_addresses() {
    init();
    install_small();
    ezz(&["create", "fixed", "--address", "10.0.0.7/22"]).ok();
    let pools = ["--ip-pool", "em0|10.0.0.0/22", "--ip-pool", "fd00::/64"];
    let args = [&["create", "--count", "200", "--prefix", "n"], &pools[..]].concat();
    ezz(&args).ok();
    let addresses = || -> BTreeSet<String> {
        let told = ezz(&["list", "--json"]).ok().json();
        assert_eq!(told.len(), 201);
        let all = told
            .iter()
            .flat_map(|line| line["addresses"].as_array().expect("a list"));
        let ips = all.map(|text| {
            let text = text.as_str().expect("text");
            let text = text.rsplit('|').next().unwrap_or(text);
            text.split('/').next().unwrap_or(text).to_owned()
        });
        ips.collect()
    };
    let before = addresses();
    assert_eq!(before.len(), 401, "no address twice");
    assert!(before.contains("10.0.0.7") && !before.contains("10.0.0.0"));
    // The addresses of deleted jails are free again, and given to the next ones.
    ezz(&["delete", "--yes", "n01*", "n100"]).ok();
    let again = [&["create", "m{1..11}"], &pools[..]].concat();
    ezz(&again).ok();
    assert_eq!(addresses(), before);
    // The same command again is refused, and takes no address.
    ezz(&again).refused(1, "11 jails already exist");
    let small = ["create", "s{1..7}", "--ip-pool", "192.0.2.0/29"];
    ezz(&small).refused(
        1,
        "192.0.2.0/29 has 6 free addresses, but 7 jails need one each",
    );
}

#[test]
fn a_thousand_come_and_go_by_one_command_each() {
    init();
    install_small();
    let epoch = || {
        property(SITE, "ezz:epoch")
            .parse::<u64>()
            .expect("a number")
    };
    let before = epoch();
    let told = ezz(&["create", "--count", "1000", "--prefix", "j", "--json"]).ok();
    assert_eq!(told.json().len(), 1000);
    assert_eq!(epoch(), before + commits_of_create());
    assert_eq!(jails().len(), 1000);
    let mounted = sh("grep -c ' /srv/jails/j' /proc/self/mountinfo").ok();
    assert_eq!(mounted.stdout.trim(), "1000");
    let told = ezz(&["doctor", "--json"]).ok().json();
    assert_eq!(told[0]["findings"].to_string(), "[]");
    ezz(&["delete", "--yes", "j*"]).ok();
    assert_eq!(jails().len(), 0);
    assert_eq!(sh("ls /srv/jails").ok().stdout.trim(), "basejail\nnewjail");
    // All of two thousand jails are created, too, or none.
    let before = epoch();
    ezz(&["create", "--count", "2000", "--prefix", "k", "--atomic"]).ok();
    assert_eq!(epoch(), before + commits_of_create());
    assert_eq!(jails().len(), 2000);
    // A fifth of ten thousand jails, in a fifth of the memory that those may take; this includes the `zfs` that ezz
    // starts, and the kernel enforces it.
    sh("mkdir /sys/fs/cgroup/bounded && echo 40M >/sys/fs/cgroup/bounded/memory.max").ok();
    for (command, lines) in [
        ("list", 2001),
        ("list --json", 2000),
        ("list --only-names", 2000),
        ("show k0777 --json", 1),
        ("doctor --json", 1),
        ("create one --network host --json", 1),
        ("stop 'k*'", 2000),
        ("delete one --yes --json", 1),
    ] {
        let bounded =
            format!("echo $$ >/sys/fs/cgroup/bounded/cgroup.procs && exec {EZZ} {command}");
        let told = sh(&bounded).ok();
        let said = told.stdout.lines().count() + told.stderr.lines().count();
        assert_eq!(said, lines, "{command}: {told:#?}");
    }
    let killed = sh("cat /sys/fs/cgroup/bounded/memory.events").ok().stdout;
    assert!(killed.contains("\noom_kill 0\n"), "{killed}");
}

/// For two hundred jails, threads make the mounts, the derived files and, before 2.4, the clones: several threads, but
/// not one for each jail.
#[test]
fn threads_are_bounded() {
    init();
    install_small();
    sh("echo +pids >/sys/fs/cgroup/cgroup.subtree_control").ok();
    for (command, least) in [
        ("create --count 200 --prefix t", 10),
        ("delete --yes 't*'", 1),
    ] {
        let group = format!("/sys/fs/cgroup/counted{least}");
        sh(&format!(
            "mkdir {group} && echo $$ >{group}/cgroup.procs && exec {EZZ} {command}"
        ))
        .ok();
        // The kernel's own count of the most processes and threads at once.
        let peak = sh(&format!("cat {group}/pids.peak")).ok().stdout;
        let peak: u32 = peak.trim().parse().expect("a number");
        assert!((least..=80).contains(&peak), "{command}: {peak} at once");
    }
}

/// After the next command, all of the jails exist or none.
#[test]
fn an_interrupt_in_the_middle_of_a_thousand_leaves_no_half() {
    init();
    install_small();
    let interrupt = |command: &str, after: &str| {
        let script = format!(
            "{EZZ} -q {command} >/tmp/said 2>&1 & pid=$!; sleep {after}; kill -INT $pid; wait $pid; true"
        );
        sh(&script).ok();
        ezz(&["doctor", "--repair"]).ok();
        let found = jails().len();
        assert!(found == 0 || found == 1000, "{command}, {after} s: {found}");
        assert_eq!(crate::inspect::site(SITE), [""; 0], "{command}, {after} s");
        found
    };
    for after in ["0.3", "2"] {
        if interrupt("create 'j{1..1000}'", after) == 1000 {
            ezz(&["delete", "--yes", "j*"]).ok();
        }
    }
    ezz(&["create", "j{1..1000}"]).ok();
    for after in ["1.5"] {
        if interrupt("delete --yes 'j*'", after) == 0 {
            ezz(&["create", "j{1..1000}"]).ok();
        }
    }
}

/// The scripts in `templates/examples` work as they are.
#[test]
fn the_example_scripts_do_what_they_say() {
    init();
    install_runnable(SITE);
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/templates/examples");
    let run = |script: &str| {
        sh(&format!(
            "mkdir -p /tmp/bin; ln -sf {EZZ} /tmp/bin/ezz; PATH=/tmp/bin:$PATH; cd {examples}; {script}"
        ))
    };
    std::fs::write(
        "/tmp/list",
        "# name tier\nacme gold\nbolt iron\ncore gold\n",
    )
    .expect("written");
    let made = run("./customers.sh /tmp/list 10.0.0.0/29").ok();
    assert_eq!(
        made.stdout,
        "acme: made, tier gold\ncore: made, tier gold\nbolt: made, tier iron\n"
    );
    std::fs::write("/tmp/list", "acme gold\nbolt iron\ncore gold\nduna iron\n").expect("written");
    assert_eq!(
        run("./customers.sh /tmp/list 10.0.0.0/29").ok().stdout,
        "duna: made, tier iron\n"
    );
    assert_eq!(listed(&["--label", "tier=gold"]).join(" "), "acme core");
    let addresses: BTreeSet<String> = ezz(&["list", "--json"])
        .ok()
        .json()
        .iter()
        .map(|line| line["addresses"][0].to_string())
        .collect();
    assert_eq!(addresses.len(), 4);
    // Jobs: two that succeed and one that fails; nothing is left.
    let ran = run("printf 'id -u\\nexit 7\\nls /\\n' | ./jobs.sh batch").exits(1);
    assert!(ran.stdout.contains("batch-1: done"), "{ran:#?}");
    assert!(ran.stderr.contains("batch-2: failed with 7"), "{ran:#?}");
    assert!(ran.stdout.contains("batch-3: done"), "{ran:#?}");
    assert_eq!(jails().join(" "), "acme bolt core duna");
    run("./jobs.sh batch </dev/null").exits(2);
    // A batch whose name is taken creates nothing.
    ezz(&["create", "again-2"]).ok();
    run("printf 'id\\nid\\n' | ./jobs.sh again").exits(1);
    assert_eq!(jails().join(" "), "acme again-2 bolt core duna");
    // A fleet.
    let told = run("ezz apply shop.toml").ok();
    let mut order: Vec<&str> = told
        .stdout
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    // Those that depend on db start at once, in any order.
    order[1..].sort_unstable();
    assert_eq!(order, ["db", "web01", "web02", "web03"]);
    assert_eq!(run("ezz apply shop.toml").ok().stdout, "nothing to do\n");
    assert_eq!(
        ezz(&["list", "web03", "--json"]).ok().json()[0]["addresses"][0],
        "10.20.0.4/24"
    );
}
