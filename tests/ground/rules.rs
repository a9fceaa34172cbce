//! The rules of jail(8), related programs and mount_nullfs(8) that concern how programs are run, one test each, on
//! stand-ins that follow them. The rules that concern written files are in `src/host/freebsd/conf/rules.rs`;
//! tests/README.md has the table of all. Nothing here has run on FreeBSD.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ezz::cli::Machine;
use serde_json::json;

use crate::hosts::FreeBsd;
use crate::hosts_suite::{Bench, Command, Ended, is_stopped, listed, runs, start_of};

fn machine() -> FreeBsd {
    FreeBsd::at("jails")
}

/// Returns the lines of the log since a moment.
fn since(machine: &FreeBsd, before: usize) -> Vec<String> {
    machine.log().split_off(before)
}

/// Checks that lines with these words occur in this order.
#[track_caller]
fn in_order(log: &[String], words: &[&str]) {
    let mut at = 0;
    for word in words {
        let found = log[at..].iter().position(|line| line.contains(word));
        at += found.unwrap_or_else(|| panic!("no {word:?} after line {at} of {log:#?}")) + 1;
    }
}

/// jail.c (startcommands): mounts come before exec.prestart, which creates the network's interfaces; they are moved
/// into the jail after exec.created, and have their addresses before rc(8) runs.
#[test]
fn the_steps_of_a_start_are_in_jails_order() {
    let machine = machine();
    machine.interfaces().expect("it has some");
    let words = [
        "create",
        "a",
        "--processes",
        "9",
        "--network",
        "vnet",
        "--address",
        "bridge0|10.0.0.2/24",
    ];
    machine.ezz(&words).ok();
    let before = machine.log().len();
    machine.ezz(&["start", "a"]).ok();
    let log = since(&machine, before);
    in_order(
        &log,
        &[
            "jail -f ",
            "mount -t nullfs",
            "mount -t devfs -oruleset=4",
            "a exec.prestart",
            "ifconfig epair create",
            "ifconfig bridge0 addm ez",
            "a exec.created",
            "rctl -a jail:a:maxproc:deny=9",
            " vnet a",
            "inet 10.0.0.2/24 alias",
            "a exec.start sh: if [ /etc/master.passwd -nt",
            "a exec.start exec: /bin/sh /etc/rc",
        ],
    );
    let before = machine.log().len();
    machine.ezz(&["stop", "a"]).ok();
    let log = since(&machine, before);
    in_order(
        &log,
        &[
            "timeout -k 5 ",
            "jail -f ",
            "a exec.stop exec: /bin/sh /etc/rc.shutdown jail",
            "a exec.poststop",
            "umount -t devfs",
            "umount -t nullfs",
        ],
    );
}

/// jail.8, rc.d/jail: a start is `jail -c` with the jail's own file, never service(8), which exits 0 when it failed;
/// `-d`, `-C`, `-m` and names with wildcards are not used, and the word after the operation is the name alone.
#[test]
fn jail_is_called_with_one_file_and_one_name() {
    let machine = machine();
    machine.ezz(&["create", "a", "b", "--start"]).ok();
    machine.ezz(&["restart", "--all"]).ok();
    machine.ezz(&["stop", "--all"]).ok();
    let log = machine.log();
    let calls: Vec<&String> = log
        .iter()
        .filter(|line| line.starts_with("jail "))
        .collect();
    assert_eq!(calls.len(), 8, "{calls:#?}");
    for call in calls {
        let words: Vec<&str> = call.split(' ').collect();
        let right = matches!(words[..], ["jail", "-f", file, "-c" | "-r", name] if file.ends_with(&format!("/{name}.conf")));
        assert!(right, "{call}");
    }
    assert!(!log.iter().any(|line| line.starts_with("service ")));
}

/// jls.c: dying jails are listed with -d only, numbers are text, and ezz requests no parameter that a release may lack.
#[test]
fn a_look_is_one_jls_with_the_dying() {
    let machine = machine();
    machine.ezz(&["create", "a", "--start"]).ok();
    machine.ezz(&["list"]).ok();
    let log = machine.log();
    let looks: Vec<&String> = log.iter().filter(|line| line.starts_with("jls ")).collect();
    assert!(!looks.is_empty());
    for look in looks {
        assert_eq!(look, "jls --libxo json -d -n jid name path dying");
    }
}

/// umount(8), umount(2): a file system that is busy has a user. mount(8): nullfs cannot be remounted.
#[test]
fn nothing_is_forced_or_remounted() {
    let machine = machine();
    machine.ezz(&["create", "a", "--start"]).ok();
    machine.dies("a").expect("it can");
    machine.ezz(&["start", "a"]).ok();
    machine.busy(2).expect("it can");
    machine.ezz(&["stop", "a"]).ok();
    is_stopped(&machine, "a");
    let log = machine.log();
    let mounts: Vec<&String> = log
        .iter()
        .filter(|line| line.starts_with("mount ") || line.starts_with("umount "))
        .collect();
    assert!(mounts.len() >= 6, "{mounts:#?}");
    for line in mounts {
        let forced = line
            .split(' ')
            .any(|word| ["-f", "-u", "-w"].contains(&word));
        assert!(!forced, "{line}");
    }
    // The adapter's source contains no option for it.
    for source in ["src/host/freebsd", "src/host/freebsd/conf"] {
        for entry in std::fs::read_dir(source)
            .expect("the sources are here")
            .flatten()
        {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            assert!(!text.contains("MNT_FORCE"), "{}", entry.path().display());
        }
    }
}

/// devfs(8), jail.8: a ruleset that is not loaded hides nothing, and neither does number 0; of several values jail(8)
/// takes the last.
#[test]
fn without_its_devfs_rules_no_jail_starts() {
    let machine = machine();
    for (jail, params) in [
        ("a", &["devfs_ruleset=0"][..]),
        ("b", &["devfs_ruleset=61"]),
        ("c", &["devfs_ruleset=4", "devfs_ruleset=0"]),
    ] {
        let params = params.iter().flat_map(|param| ["--param", param]);
        machine
            .ezz(
                &["create", jail]
                    .into_iter()
                    .chain(params)
                    .collect::<Vec<_>>(),
            )
            .ok();
        let refused = machine.ezz(&["start", jail]).refused(1, "devfs ruleset");
        assert!(
            refused.err.contains("service devfs restart"),
            "{refused:#?}"
        );
        is_stopped(&machine, jail);
    }
    machine
        .programs
        .with(|state| state["answers"]["devfs rule -s 4 show"] = json!(""));
    machine.ezz(&["create", "d"]).ok();
    machine.ezz(&["start", "d"]).refused(1, "is not loaded");
    machine.programs.with(|state| state["answers"] = json!({}));
    machine.ezz(&["start", "d"]).ok();
    runs(&machine, "d");
}

/// libjail, config.c: an unknown parameter fails every start; `zfs.dataset` came with 15.0, `sysvshm` with a module.
#[test]
fn a_parameter_that_this_host_does_not_know_makes_no_jail() {
    let machine = machine();
    for param in ["allow.everything", "zfs.dataset=tank/x", "meta=x"] {
        machine
            .ezz(&["create", "a", "--param", param])
            .refused(1, "jail parameters");
        assert!(!machine.directory().join("a").exists(), "{param}");
    }
    machine
        .ezz(&["create", "a", "--param", "allow.mount.nozfs", "--start"])
        .ok();
    runs(&machine, "a");
    // The module may still be loaded before the jail starts.
    let told = machine.ezz(&["create", "b", "--param", "sysvshm=new"]).ok();
    assert!(told.err.contains("kldload sysvshm"), "{told:?}");
    machine.ezz(&["start", "b"]).refused(1, "kernel module");
    is_stopped(&machine, "b");
}

/// kern_jail.c: before 14 a dying jail kept its name; ezz waits for it with longer and longer pauses.
#[test]
fn a_start_waits_for_the_jail_that_is_dying() {
    let machine = machine();
    machine.ezz(&["create", "a", "--start"]).ok();
    machine.dying().expect("it can");
    let before = machine.log().len();
    machine.ezz(&["restart", "a"]).ok();
    runs(&machine, "a");
    let log = since(&machine, before);
    let starts = log
        .iter()
        .filter(|line| line.starts_with("jail ") && line.ends_with(" -c a"));
    assert!(starts.count() >= 2, "{log:#?}");
}

/// jail.8: `-R` unmounts nothing. Mounts without a jail were left by another program, and doctor clears them away.
#[test]
fn mounts_without_a_jail_are_cleared_by_doctor() {
    let machine = machine();
    machine.ezz(&["create", "a", "--start"]).ok();
    machine.dies("a").expect("it can");
    assert_ne!(machine.mounts("a"), [""; 0]);
    machine.ezz(&["doctor", "--repair"]).ok();
    is_stopped(&machine, "a");
}

/// Returns the record of a jail's start, if one is at work.
fn record(machine: &FreeBsd, jail: &str) -> Option<std::path::PathBuf> {
    let entries = std::fs::read_dir(machine.machine.run_directory()).into_iter();
    let mut paths = entries.flatten().flatten().map(|entry| entry.path());
    let end = format!("-start-{jail}.lock");
    paths.find(|path| path.to_string_lossy().ends_with(&end))
}

/// Starts a jail whose exec.start hangs, and returns how that ended after `act` has ended it.
fn ended(machine: &FreeBsd, jail: &str, act: impl FnOnce()) -> Ended {
    let hangs = machine.command("exec.start", Command::Hangs);
    hangs.expect("it can");
    let before = machine.log().len();
    let ended = std::thread::scope(|scope| {
        let start = scope.spawn(|| machine.ezz(&["start", jail]));
        let limit = Instant::now() + Duration::from_secs(10);
        let line = format!("{jail} exec.start");
        while !since(machine, before)
            .iter()
            .any(|it| it.starts_with(&line))
        {
            assert!(Instant::now() < limit, "it does not come so far");
            std::thread::sleep(Duration::from_millis(20));
        }
        act();
        start.join().expect("it ends")
    });
    assert_eq!(record(machine, jail), None);
    assert_eq!(start_of(machine, jail), None);
    assert_eq!(machine.mounts(jail), [""; 0]);
    let works = machine.command("exec.start", Command::Works);
    works.expect("it can");
    ended
}

/// exec.start is the jail's whole rc(8), which may never end. Other commands see such a start; a stop or a delete of
/// the jail ends it, and so does a signal.
#[test]
fn a_start_that_hangs_is_ended_by_who_wants_the_jail_down() {
    let machine = machine();
    machine.ezz(&["create", "a", "b", "c"]).ok();
    machine.ezz(&["start", "c"]).ok();
    for (jail, words) in [("a", &["stop", "a"][..]), ("b", &["delete", "b", "--yes"])] {
        let said = std::cell::RefCell::new(String::new());
        let start = ended(&machine, jail, || {
            assert_eq!(listed(&machine, jail).0, "starting");
            assert_eq!(listed(&machine, "c").0, "running");
            // A start that has just begun is not ended.
            machine.ezz(words).exits(4);
            let path = record(&machine, jail).expect("it is at work");
            let file = std::fs::File::open(path).expect("it is there");
            file.set_modified(std::time::UNIX_EPOCH).expect("ours");
            *said.borrow_mut() = machine.ezz(words).ok().err;
        });
        // Both commands print into the same buffer.
        let said = format!("{}\n{}", said.take(), start.err);
        for words in [
            &format!("ending the start of {jail} by pid "),
            &format!("the start of {jail} was interrupted by pid "),
            &format!("(ezz --wait 0 {}, since ", words.join(" ")),
        ] {
            assert!(said.contains(words), "no {words:?} in {said}");
        }
        start.exits(1);
    }
    assert!(!machine.directory().join("b").exists());
    let start = ended(&machine, "a", || {
        machine.machine.signal.store(true, Ordering::Relaxed);
    });
    machine.machine.signal.store(false, Ordering::Relaxed);
    let start = start.exits(1);
    assert!(
        start.err.contains("interrupted; a was not started"),
        "{start:#?}"
    );
    runs(&machine, "c");
    machine.ezz(&["start", "a"]).ok();
    runs(&machine, "a");
    machine.end();
}

/// jail.8: an exec.stop that does not end keeps jail(8) from the rest, but every process still gets its signal.
#[test]
fn a_stop_whose_commands_hang_asks_every_process() {
    let machine = machine();
    machine
        .ezz(&["create", "a", "--param", "stop.timeout=1", "--start"])
        .ok();
    machine.deaf("a").expect("it can");
    machine
        .command("exec.stop", Command::Hangs)
        .expect("it can");
    let before = machine.log().len();
    let stopped = machine.ezz(&["stop", "a"]).ok();
    in_order(
        &since(&machine, before),
        &["pkill -TERM -j ", "ps -x -J ", "jail -R "],
    );
    let words = "jail a: 1 process did not end within 1 s and was killed: deaf?[2J one (412)";
    assert!(stopped.err.contains(words), "{stopped:#?}");
    is_stopped(&machine, "a");
}

/// rctl(8): without `kern.racct.enable` no rule is enforced.
#[test]
fn limits_that_the_kernel_does_not_keep_are_refused() {
    let machine = machine();
    let off = json!({"sysctl -n kern.racct.enable": "0\n"});
    machine.programs.with(|state| state["answers"] = off);
    machine.ezz(&["create", "a", "--processes", "9"]).ok();
    machine.ezz(&["start", "a"]).refused(1, "kern.racct.enable");
    is_stopped(&machine, "a");
}

/// jail.8: `-R` ends a jail whose file cannot be used, and runs no command: before it, jexec(8) runs the jail's own
/// shutdown.
#[test]
fn a_jail_without_its_file_is_shut_down_all_the_same() {
    let machine = machine();
    machine.ezz(&["create", "a", "--start"]).ok();
    let conf = machine.files("a").expect("it has some").remove(0).0;
    std::fs::remove_file(conf).expect("it is there");
    let before = machine.log().len();
    machine.ezz(&["stop", "a"]).ok();
    let log = since(&machine, before);
    in_order(
        &log,
        &[
            "timeout -k 5 ",
            "jexec -l 1 /bin/sh -c /bin/sh /etc/rc.shutdown jail",
            "jail -R 1",
        ],
    );
    is_stopped(&machine, "a");
}

/// command.c (exec.stop): a stop that does not end is ended, and the jail with it; jail(8) did not reach its mounts.
#[test]
fn a_shutdown_has_the_profiles_time_and_rc_shutdowns() {
    let machine = machine();
    machine.ezz(&["create", "a", "--start"]).ok();
    let before = machine.log().len();
    machine.ezz(&["stop", "a"]).ok();
    // 30 s of the profile, and more than the 90 s of rcshutdown_timeout.
    in_order(&since(&machine, before), &["timeout -k 5 150 "]);
}

/// ifconfig(8): the cause is the missing bridge, not the long command that needs it.
#[test]
fn a_bridge_that_is_not_there_is_named_with_what_makes_it() {
    let machine = machine();
    machine.interfaces().expect("it has some");
    let on = |name: &str, bridge: &str, ip: &str| {
        let address = format!("{bridge}|{ip}/24");
        let words = ["create", name, "--network", "vnet", "--address", &address];
        machine.ezz(&words).ok();
        machine.ezz(&["start", name])
    };
    let refused = on("a", "none", "10.0.0.2").refused(1, "this host lacks the bridge none");
    assert!(
        refused.err.contains("ifconfig bridge create name none"),
        "{refused:#?}"
    );
    assert!(!refused.err.contains("epair"), "{refused:#?}");
    is_stopped(&machine, "a");
    // An interface that disappears between the look and the start.
    let there = serde_json::json!({"ifconfig -l": "lo0 gone\n"});
    machine.programs.with(|state| state["answers"] = there);
    let failed = on("b", "gone", "10.0.0.3").exits(1);
    let cause = "b did not start: ifconfig: interface gone does not exist (";
    assert!(failed.err.contains(cause), "{failed:#?}");
    is_stopped(&machine, "b");
    assert_eq!(machine.interfaces().map(|all| all.len()), Ok(1));
}

/// jail.8: jail(8) ends a jail that runs without a dataset; cgroups belong to another system.
#[test]
fn hints_are_of_this_system() {
    let machine = machine();
    machine.ezz(&["create", "a", "--start"]).ok();
    {
        let mut state = machine.machine.state();
        let at = machine.directory().join("a");
        let state = &mut *state;
        let _ = state.mounts.unmount(&mut state.pool, &at);
        state
            .pool
            .destroy("tank/ezz/jails/a")
            .expect("nothing is below it");
    }
    let told = machine.ezz(&["doctor"]);
    let text = format!("{}{}", told.out, told.err);
    assert!(
        text.contains("it is running, but has no dataset"),
        "{told:#?}"
    );
    assert!(text.contains("`jail -R a` ends it"), "{told:#?}");
    assert!(!text.contains("cgroup"), "{told:#?}");
    machine.programs.run("jail", &["-R", "a"]);
    machine.ezz(&["doctor", "--repair"]).ok();
    assert_eq!(machine.mounts("a"), [""; 0]);
}

/// jexec.c: 14.0 has no -d; the jail is given by number, since another jail may have the name by then; -l clears the
/// environment.
#[test]
fn a_command_is_given_to_jexec_by_number() {
    let machine = machine();
    machine.ezz(&["create", "a", "--start"]).ok();
    let before = machine.log().len();
    let words = [
        "exec",
        "a",
        "--user",
        "root",
        "--directory",
        "/tmp",
        "--env",
        "A=1 2",
        "--",
        "/bin/echo",
        "x y",
    ];
    machine.ezz(&words).ok();
    let log = since(&machine, before);
    in_order(
        &log,
        &[
            "jexec -l -U root 1 /usr/bin/env A=1 2 /bin/sh -c cd -- \"$1\" || exit 126; shift; exec \"$@\" sh /tmp /bin/echo x y",
        ],
    );
    machine
        .ezz(&["exec", "a", "--user", "nobody", "--", "/bin/ls"])
        .exits(1);
}

/// jail.8, devfs.rules: the jail in which a world is changed has no file and few devices, and ends with its command.
#[test]
fn the_jail_of_an_update_is_gone_with_its_command() {
    let machine = machine();
    machine.ezz(&["create", "a", "--start"]).ok();
    let before = machine.log().len();
    let world = machine.directory().join("basejail/2");
    machine
        .ezz(&["update", "--run", "sh", "-c", "mkdir etc/new"])
        .ok();
    let log = since(&machine, before);
    let made = log
        .iter()
        .find(|line| line.starts_with("jail -c name=ezz_"))
        .expect("a jail");
    assert!(
        made.contains(" devfs_ruleset=4 enforce_statfs=2 persist"),
        "{made}"
    );
    assert!(
        made.contains(&format!("path={} ", world.display())),
        "{made}"
    );
    in_order(
        &log,
        &[
            "jail -c name=ezz_",
            "mount -t devfs -oruleset=4 . ",
            "jexec -l ",
            "jail -R ",
            "umount ",
        ],
    );
    assert_eq!(machine.running().len(), 1, "{:?}", machine.running());
    assert!(world.join("etc/new").is_dir());
    let failed = machine
        .ezz(&["update", "--run", "sh", "-c", "exit 9"])
        .exits(1);
    assert!(failed.err.contains("exited with status 9"), "{failed:#?}");
    assert_eq!(machine.running().len(), 1, "{:?}", machine.running());
    assert!(start_of(&machine, "a").is_some());
}

/// No kernel runs the programs of another system: such a world is stored on request, but not used.
#[test]
fn a_world_of_linux_is_for_another_host() {
    let machine = machine();
    let linux = machine.machine.world("12.1").display().to_string();
    machine.ezz(&["install", &linux]).refused(
        1,
        "a world of debian, which needs Linux, but this host runs FreeBSD",
    );
    machine
        .ezz(&["install", &linux, "--foreign", "--track", "linux"])
        .ok();
    machine
        .ezz(&["create", "l", "--track", "linux"])
        .refused(1, "there is no track linux");
    machine
        .ezz(&["create", "l", "--pin", "debian-12.1"])
        .refused(1, "needs Linux, but this host runs FreeBSD");
    machine
        .ezz(&["update", "--swap", "debian-12.1"])
        .refused(1, "needs Linux");
    machine.ezz(&["create", "a", "--start"]).ok();
    runs(&machine, "a");
}

/// zfs-jail(8): a dataset without the mark of a jail cannot be given to one. doctor reports it before the next start
/// does.
#[test]
fn the_datasets_of_jails_are_looked_at() {
    let machine = machine();
    let set = |value: &str| {
        let mut state = machine.machine.state();
        let done = state.pool.set("tank/given", "jailed", value);
        done.expect("it can be set");
    };
    let create = || {
        let mut state = machine.machine.state();
        let done = state
            .pool
            .create("tank/given", &std::collections::BTreeMap::new());
        done.expect("it can be made");
    };
    let words = ["create", "a", "--dataset", "tank/given"];
    machine.ezz(&words).refused(1, "the dataset tank/given");
    create();
    machine.ezz(&words).refused(1, "its jailed is not on");
    set("on");
    machine.ezz(&words).ok();
    let lacks = || -> Vec<String> {
        let told = machine.ezz(&["doctor", "--json"]).json();
        let findings = told[0]["findings"].as_array().expect("a list").clone();
        let mut of = findings.into_iter();
        of.by_ref()
            .filter(|it| it["kind"] == "own-dataset-lacking")
            .map(|it| format!("{}: {}", it["object"], it["what"]))
            .collect()
    };
    assert_eq!(lacks(), [""; 0]);
    set("off");
    let found = lacks();
    assert!(
        matches!(&found[..], [it] if it.contains("jail a") && it.contains("jailed is not on")),
        "{found:?}"
    );
    machine
        .machine
        .state()
        .pool
        .destroy("tank/given")
        .expect("it is there");
    let found = lacks();
    assert!(
        matches!(&found[..], [it] if it.contains("this host lacks the dataset tank/given")),
        "{found:?}"
    );
    machine.ezz(&["delete", "a", "--yes"]).ok();
    assert_eq!(lacks(), [""; 0]);
}
