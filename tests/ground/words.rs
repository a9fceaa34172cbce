//! What commands refuse before they begin, and how they report what they found: the real command line on a simulated
//! machine.

use serde_json::Value;

use crate::sim::{Death, Ended, Fault, SimMachine, When};

fn generations(m: &SimMachine) -> Vec<Value> {
    let ended = m.ezz(&["world", "list", "--json"]).ok();
    json(&ended)
}

fn json(ended: &Ended) -> Vec<Value> {
    let lines = ended.out.iter();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[track_caller]
fn says(ended: &Ended, words: &str) {
    let all = [ended.out.join("\n"), ended.err.join("\n")].join("\n");
    assert!(all.contains(words), "{words:?}: {ended:#?}");
}

/// A world takes minutes to build, so a wrong name of a canary is found before that.
#[test]
fn canaries_are_checked_before_a_world_is_built() {
    let m = SimMachine::installed(true);
    m.ezz(&["track", "create", "other", "--generation", "1"])
        .ok();
    m.ezz(&["create", "a", "--track", "other"]).ok();
    for (canary, words) in [
        ("a9", "there is no jail a9"),
        ("a", "a cannot be a canary: it does not follow the track"),
    ] {
        for dry_run in [&[][..], &["-n"]] {
            let line = ["--restart", "--canary", canary, "--run", "new"];
            let ended = m.ezz(&[&["update"][..], dry_run, &line[..]].concat());
            assert_ne!(ended.code, Some(0), "{ended:#?}");
            says(&ended, words);
        }
        assert_eq!(generations(&m).len(), 1);
    }
}

/// A base that a prune destroyed, and whose skeleton a jail still needs, is not broken.
#[test]
fn a_pruned_generation_is_shown_as_such() {
    let m = SimMachine::installed(true);
    m.ezz(&["create", "a", "--start"]).ok();
    for words in ["one", "two", "three"] {
        m.ezz(&["update", "--run", words]).ok();
    }
    m.ezz(&["converge"]).ok();
    m.ezz(&["world", "prune", "--yes"]).ok();
    let first = &generations(&m)[0];
    assert_eq!(first["generation"], 1, "{first}");
    assert_eq!(first["state"], "pruned", "{first}");
    assert_ne!(first["kept_by"], serde_json::json!([]), "{first}");
    let shown = m.ezz(&["world", "show", "1"]).ok();
    says(&shown, "pruned: its base is gone");
    says(&m.ezz(&["world", "list"]).ok(), "pruned");
    // No other command accepts it.
    let refused = m.ezz(&["world", "verify", "1"]);
    assert_ne!(refused.code, Some(0), "{refused:#?}");
    says(&refused, "no sealed generation");
}

#[test]
fn a_rejected_generation_is_refused_with_the_command_that_takes_it() {
    let m = SimMachine::installed(true);
    m.ezz(&["create", "a", "--start"]).ok();
    let health = ["--health", "exit 1", "--health-limit", "1"];
    let line = [&["update", "--restart"][..], &health, &["--run", "new"]].concat();
    assert_ne!(m.ezz(&line).code, Some(0));
    let label = generations(&m)[1]["label"].clone();
    let name = format!("{}.2", label.as_str().expect("a text"));
    let refused = m.ezz(&["update", "--swap", "2"]).exits(1);
    let command = format!("rollback --track main --to {name}");
    says(&refused, &format!("`ezz {command}`"));
    m.ezz(&command.split(' ').collect::<Vec<_>>()).ok();
}

/// Returns a machine where generation 2 conflicts with the running jail a, which stays at 1.
fn held() -> SimMachine {
    let m = SimMachine::installed(true);
    m.ezz(&["create", "a", "--start"]).ok();
    let mine = m.directory().join("a/etc/changed");
    std::fs::write(mine, "mine\n").expect("writable");
    m.ezz(&["update", "--run", "files"]).ok();
    m
}

#[test]
fn a_jail_that_a_conflict_holds_is_named_with_the_way_out() {
    let m = held();
    let way = "`ezz stop a && ezz merge a --follow main`";
    // A dry run does not require the jail to be stopped.
    let looked = m.ezz(&["merge", "a", "--dry-run"]).exits(3);
    says(&looked, "a: CONFLICT etc/changed (the release added it");
    says(&looked, "a runs: it has to be stopped to be merged");
    m.ezz(&["merge", "a"]).exits(1);
    let stays = m.ezz(&["converge"]).exits(3);
    says(&stays, "a stays pinned to ");
    let contradiction = "runs what it should";
    assert!(!stays.err.join("\n").contains(contradiction), "{stays:#?}");
    // Later commands report it again.
    for (line, code) in [
        (&["converge"][..], 0),
        (&["converge", "a"], 0),
        (&["merge", "a"], 3),
    ] {
        let ended = m.ezz(line).exits(code);
        says(&ended, "a is held on generation 1");
        says(&ended, way);
        let text = ended.err.join("\n");
        assert!(!text.contains(contradiction), "{ended:#?}");
        assert!(!text.contains("already merged"), "{ended:#?}");
    }
    m.ezz(&["stop", "a"]).ok();
    m.ezz(&["merge", "a", "--follow", "main"]).exits(3);
    says(&m.ezz(&["merge", "a"]).ok(), "a is already merged");
}

/// The track returns to the generation that a held jail runs.
#[test]
fn a_rollback_to_what_a_jail_runs_asks_for_no_restart_of_it() {
    let m = held();
    m.ezz(&["create", "b"]).ok();
    m.ezz(&["start", "b"]).ok();
    m.ezz(&["converge", "a"]).exits(3);
    let back = m.ezz(&["rollback", "--to", "1"]).ok();
    says(&back, "a: already on this generation");
    says(&back, "b: still on the former generation");
    m.ezz(&["converge"]).ok();
    says(
        &m.ezz(&["converge"]).ok(),
        "all running thin jails are up to date",
    );
}

#[test]
fn a_track_shows_its_roll_out() {
    let m = SimMachine::installed(true);
    m.ezz(&["create", "a", "--start"]).ok();
    m.ezz(&["update", "--stage-only", "--run", "new"]).ok();
    let list = |m: &SimMachine| m.ezz(&["track", "list"]).ok();
    assert!(!list(&m).out.join("").contains("ROLLOUT"));
    let saved = m.save();
    let found = (1..40).any(|call| {
        m.restore(&saved);
        let fault = Fault {
            call,
            when: When::After,
            death: Death::Kill,
        };
        m.attempt(Some(fault), &["update", "--swap", "2", "--restart"]);
        let shown = list(&m);
        let text = shown.out.join("\n");
        let under_way = text.contains("ROLLOUT") && text.contains("swapped, 1 to 2");
        if under_way {
            says(&shown, "`ezz update --track main --continue`");
        }
        under_way
    });
    assert!(found, "no kill leaves a roll-out");
}

#[test]
fn a_create_that_is_repeated_reports_what_it_did() {
    let m = SimMachine::installed(true);
    let create = ["create", "a", "b", "--start", "--json"];
    m.ezz(&create).ok();
    m.ezz(&["stop", "b"]).ok();
    let results = json(&m.ezz(&create).ok());
    let of = |name: &str| {
        let mut all = results.iter().filter(|it| it["jail"] == name);
        let found = all.next().expect("a result").clone();
        (found["did"].clone(), found["changed"].clone())
    };
    assert_eq!(of("a"), ("already".into(), false.into()), "{results:#?}");
    assert_eq!(of("b").1, true, "{results:#?}");
}

#[test]
fn a_pin_to_what_a_jail_runs_needs_no_restart() {
    let m = SimMachine::installed(true);
    m.ezz(&["create", "a", "--start"]).ok();
    m.ezz(&["update", "--run", "new"]).ok();
    let restart = "still runs with its old configuration";
    for (pin, needed) in [("1", false), ("2", true)] {
        let file = m.directory().join("fleet.toml");
        let text = format!("fleet = \"f\"\n[[jail]]\nname = \"a\"\npin = \"{pin}\"\n");
        std::fs::write(&file, text).expect("writable");
        let applied = m.ezz(&["apply", &file.display().to_string()]).ok();
        let text = [applied.out.join("\n"), applied.err.join("\n")].concat();
        assert_eq!(text.contains(restart), needed, "{applied:#?}");
    }
}

#[test]
fn a_console_of_a_jail_that_is_not_there_asks_for_no_terminal() {
    let m = SimMachine::installed(true);
    says(&m.ezz(&["console", "a9"]).exits(1), "there is no jail a9");
    m.ezz(&["create", "a"]).ok();
    says(&m.ezz(&["console", "a"]).exits(2), "needs a terminal");
}
