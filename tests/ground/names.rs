//! Names of jails that are not free: they belong to files of another site, to the administrator's jails, to a running
//! jail, or to what a killed command left.

use crate::hosts::FreeBsd;
use crate::hosts_suite::Bench;
use crate::sim::{Death, Fault, SimMachine, When};

fn kinds(machine: &FreeBsd, site: &str) -> Vec<(String, String)> {
    let told = machine.ezz(&["--site", site, "doctor", "--json"]).json();
    let findings = told[0]["findings"].as_array().expect("a list").clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let of = findings.iter().filter(|it| it["severity"] == "broken");
    of.map(|it| (text(&it["kind"]), text(&it["hint"])))
        .collect()
}

/// A replica is adopted beside the site that it was sent from.
#[test]
fn a_replica_beside_its_original_knows_whose_the_names_are() {
    let machine = FreeBsd::at("jails");
    machine.ezz(&["create", "s1", "s2"]).ok();
    {
        let mut state = machine.machine.state();
        state.pool.replicate("tank/ezz", "tank/copy");
    }
    let at = machine.directory().with_file_name("copies");
    let at = at.to_str().expect("a plain path");
    let adopted = machine
        .ezz(&[
            "--site",
            "tank/copy",
            "doctor",
            "--adopt",
            "--directory",
            at,
        ])
        .ok();
    for words in [
        "s1 cannot start by this name",
        "/s1.conf belongs to the site with the id ",
        "zfs get -s local ezz:id",
        "zfs rename tank/copy/jails/s1 tank/copy/jails/NEW",
    ] {
        assert!(adopted.err.contains(words), "no {words:?} in {adopted:#?}");
    }
    let found = kinds(&machine, "tank/copy");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found
            .iter()
            .all(|(kind, hint)| kind == "name-taken" && hint.contains("zfs rename"))
    );
    let repaired = machine.ezz(&["--site", "tank/copy", "doctor", "--repair"]);
    assert!(!repaired.err.contains("cannot replace"), "{repaired:#?}");
    let refused = machine
        .ezz(&["--site", "tank/copy", "start", "s1"])
        .refused(1, "the name s1 is in use on this host");
    assert!(
        refused.err.contains("zfs rename tank/copy/jails/s1"),
        "{refused:#?}"
    );
    machine.ezz(&["--site", "tank/ezz", "create", "new"]).ok();
    machine
        .ezz(&["--site", "tank/copy", "create", "other", "new"])
        .refused(1, "the name new is in use on this host");
    assert!(!std::path::Path::new(at).join("other").exists());
    // The original continues to work, and the copy's jails do not touch its files.
    machine.ezz(&["--site", "tank/ezz", "start", "s1"]).ok();
    machine
        .ezz(&["--site", "tank/copy", "delete", "s2", "--yes"])
        .ok();
    assert_eq!(machine.files("s2").map(|files| files.len()), Ok(2));
    // If the old pool were lost, its files would still be there: the hint frees the name.
    machine.ezz(&["--site", "tank/ezz", "stop", "s1"]).ok();
    let (_, hint) = kinds(&machine, "tank/copy").remove(0);
    let remove = hint
        .split('`')
        .find(|it| it.starts_with("rm "))
        .expect("it is said");
    for path in remove.split(' ').skip(1) {
        std::fs::remove_file(path).expect("it is there");
    }
    machine.ezz(&["--site", "tank/copy", "start", "s1"]).ok();
}

/// The administrator has a jail with that name: in a file, in /etc/jail.conf, or running.
#[test]
fn a_jail_of_the_administrator_keeps_its_name() {
    let machine = FreeBsd::at("jails");
    let conf = machine.programs.path("jail.conf.d");
    std::fs::create_dir_all(&conf).expect("writable");
    std::fs::write(conf.join("mail.conf"), "mail { path = /; }").expect("writable");
    std::fs::write(machine.programs.path("jail.conf"), "www { path = /; }").expect("writable");
    std::fs::write(machine.programs.path("jail.old.conf"), "old { path = /; }").expect("writable");
    machine.stranger("busy", true).expect("it can");
    for (name, by) in [
        ("mail", "ezz did not make"),
        ("www", "defines a jail of that name"),
        ("old", "rc.d/jail starts a jail of that name by "),
        ("busy", "does not belong to this site"),
    ] {
        machine.ezz(&["create", "free", name]).refused(1, by);
        assert!(!machine.directory().join("free").exists(), "{name}");
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "fleet = \"x\"\n[[jail]]\nname = \"www\"\n").expect("writable");
    let path = file.path().to_str().expect("a plain path");
    machine
        .ezz(&["apply", path])
        .refused(1, "the name www is in use on this host");
}

/// After `kill -9` in the middle of a create, the dataset that it made is no jail, and no list shows it.
#[test]
fn what_a_killed_create_made_is_in_no_list_of_jails() {
    let m = SimMachine::installed(true);
    m.ezz(&["create", "a"]).ok();
    let fault = Fault {
        call: 1,
        when: When::Within(7),
        death: Death::Kill,
    };
    let ended = m.attempt(Some(fault), &["create", "x{1..3}"]);
    assert_eq!(ended.code, None, "{ended:#?}");
    assert_eq!(m.ezz(&["list", "--only-names"]).ok().out, ["a"]);
    let listed = m.ezz(&["list", "--json"]).ok().out;
    let mut left = 0;
    for line in &listed {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        if line["jail"] == "a" {
            assert_eq!(line["state"], "stopped");
            continue;
        }
        left += 1;
        assert_eq!(line["state"], "unfinished", "{line}");
        let problem = line["problem"].as_str().expect("it says why");
        assert_eq!(problem, "its creation was interrupted, or is still at work");
    }
    assert!(left > 0, "{listed:#?}");
    m.ezz(&["start", "--all"]).ok();
    m.ezz(&["doctor", "--repair"]).ok();
    assert_eq!(m.ezz(&["list", "--only-names"]).ok().out, ["a"]);
}

/// Where programs cannot clone, a create writes its intent, clones, and commits in three steps. Commands that only read
/// run in between, without its locks.
#[test]
fn a_jail_that_is_created_while_a_command_reads_is_a_jail_or_none() {
    let machine = SimMachine::installed(false);
    let before = machine.state().pool.clone();
    let jail = "tank/ezz/jails/c6";
    let mut call = 1;
    let during = loop {
        let fault = Fault {
            call,
            when: When::After,
            death: Death::Kill,
        };
        assert_eq!(machine.attempt(Some(fault), &["create", "c6"]).code, None);
        let cut = std::mem::replace(&mut machine.state().pool, before.clone());
        if cut.datasets.contains_key(jail) {
            break cut;
        }
        call += 1;
    };
    let unmarked = &during.datasets[jail].own.local;
    assert!(!unmarked.contains_key("ezz:jail"), "{unmarked:?}");
    machine.ezz(&["create", "c6"]).ok();
    let after = machine.state().pool.clone();
    assert!(after.datasets[jail].own.local.contains_key("ezz:jail"));
    let mut refusals = 0;
    for (first, second) in (1..9).flat_map(|n| (n..9).map(move |m| (n, m))) {
        machine.state().pool = before.clone();
        let pools = vec![(first, during.clone()), (second, after.clone())];
        let ended = machine.overtaken(pools, &["start", "--dry-run", "c6"]);
        let said = ended.err.concat();
        let refused = ended.code == Some(1)
            && (said.contains("there is no jail c6") || said.contains("or is under way"));
        refusals += u32::from(refused);
        assert!(
            ended.code == Some(0) || refused,
            "{first} {second}: {ended:#?}"
        );
    }
    assert!(refusals > 0, "the jail was always there");
}
