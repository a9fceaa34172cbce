//! `ezz track`, and jails that follow or are pinned.

use std::path::Path;

use crate::support::*;

fn link(track: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(Path::new("/srv/jails/basejail/tracks").join(track)).ok()
}

#[test]
fn a_track_is_a_property_and_a_link() {
    init();
    install_small();
    install_small();
    ezz(&["track", "create", "next", "--generation", "2"]).ok();
    let property = json_property("tank/ezz/basejail", "ezz:track:next");
    assert_eq!(
        (&property["current"], property["previous"].is_null()),
        (&2.into(), true)
    );
    assert_eq!(link("next").as_deref(), Some(Path::new("../2")));
    assert_eq!(link("main").as_deref(), Some(Path::new("../1")));
    // An empty track has no link until a world is installed into it.
    ezz(&["track", "create", "15"]).ok();
    assert_eq!(link("15"), None);
    ezz(&["create", "early", "--track", "15"]).refused(1, "the track 15 has no generation yet");
    ezz(&["install", "/tmp/small.tar", "--track", "15"]).ok();
    assert_eq!(link("15").as_deref(), Some(Path::new("../3")));
    assert_eq!(
        json_property("tank/ezz/basejail", "ezz:track:15")["current"],
        3
    );
    // So does `install`, for a track that was not created before.
    ezz(&["install", "/tmp/small.tar", "--track", "own"]).ok();
    let listed = ezz(&["track", "list", "--json"]).ok().json();
    let rows: Vec<String> = listed
        .iter()
        .map(|row| format!("{} {}", row["track"], row["current"]))
        .collect();
    assert_eq!(
        rows,
        [r#""15" 3"#, r#""main" 1"#, r#""next" 2"#, r#""own" 4"#]
    );
}

#[test]
fn twice_is_once_and_another_generation_is_refused() {
    init();
    install_small();
    install_small();
    ezz(&["track", "create", "x", "--generation", "debian-12.1.1"]).ok();
    let before = everything();
    let again = ezz(&["track", "create", "x", "--generation", "1", "--json"]).ok();
    assert_eq!(again.json()[0]["did"], "already");
    assert!(
        again.stderr.contains("the track x already exists"),
        "{again:#?}"
    );
    ezz(&["track", "create", "x", "--generation", "2"]).refused(1, "already exists, at another");
    ezz(&["track", "create", "y", "--generation", "9"]).refused(1, "no sealed generation");
    ezz(&["track", "create", "y", "--generation", "debian-12.1"]).refused(1, "several");
    for bad in ["Upper", "a.b", "-x", "x-", "a b", "", &"t".repeat(64)] {
        ezz(&["track", "create", "--", bad]).exits(2);
    }
    assert_eq!(everything(), before);
}

#[test]
fn a_track_that_nobody_follows_can_go() {
    init();
    install_small();
    install_small();
    ezz(&["track", "create", "next", "--generation", "1"]).ok();
    // The track gets a log, and downloads of an update.
    ezz(&["rollback", "--track", "next", "--to", "2"]).ok();
    let downloads = Path::new("/srv/jails/.cache/updates/next");
    std::fs::create_dir_all(downloads.join("lists/partial")).expect("made");
    ezz(&["create", "follows", "--track", "next"]).ok();
    ezz(&["create", "pinned", "--pin", "2"]).ok();
    let before = everything();
    let delete = ["track", "delete", "next"];
    ezz(&delete).refused(1, "the track next is followed by follows");
    ezz(&["track", "delete", "none"]).refused(1, "there is no track none");
    assert_eq!(everything(), before);
    ezz(&["merge", "follows", "--follow", "main"]).ok();
    let before = everything();
    let planned = ezz(&["track", "delete", "next", "--dry-run"]).ok().stdout;
    assert!(
        planned.contains("ezz:track:next of tank/ezz/basejail to nothing"),
        "{planned}"
    );
    assert_eq!(everything(), before);
    assert!(downloads.exists());
    let done = ezz(&["track", "delete", "next", "--json"]).ok().json();
    assert_eq!(done[0]["did"], "deleted");
    for property_ in ["ezz:track:next", "ezz:swaps:next"] {
        assert_eq!(property("tank/ezz/basejail", property_), "-");
    }
    assert_eq!(link("next"), None);
    assert!(!downloads.exists());
    assert_eq!(link("main").as_deref(), Some(Path::new("../1")));
    ezz(&delete).refused(1, "there is no track next");
    assert_eq!(
        ezz(&["doctor", "--json"]).ok().json()[0]["findings"].to_string(),
        "[]"
    );
    // Its name is free, and its generation belongs to the pinned jail.
    ezz(&["create", "next"]).ok();
    ezz(&["world", "prune", "--yes"]).ok();
    assert!(exists("tank/ezz/basejail/2"));
    ezz(&["delete", "pinned", "--yes"]).ok();
    ezz(&["world", "prune", "--yes"]).ok();
    assert!(!exists("tank/ezz/basejail/2"));
    // Once its jails are deleted, main can be deleted; without it no jail can be created.
    ezz(&["delete", "next", "follows", "--yes"]).ok();
    ezz(&["track", "delete", "main"]).ok();
    ezz(&["create", "web"]).refused(1, "there is no track main");
    ezz(&["install", "/tmp/small.tar"]).ok();
    ezz(&["create", "web"]).ok();
}

#[test]
fn of_a_new_jail_and_the_end_of_its_track_one_comes_too_late() {
    init();
    install_small();
    let mut both = [false; 2];
    for round in 0..8 {
        ezz(&["track", "create", "x", "--generation", "1"]).ok();
        let ended = sh(&format!(
            "sleep 0.0{}; {EZZ} -q track delete x & a=$!; sleep 0.0{}; {EZZ} -q create j --track x; b=$?; wait $a; echo $? $b",
            round % 4,
            3 - round % 4
        ));
        let jail = match ended.stdout.trim() {
            "1 0" => true,
            "0 1" => false,
            _ => panic!("{ended:#?}"),
        };
        both[usize::from(jail)] = true;
        let words = if jail {
            "is followed by j"
        } else {
            "there is no track x"
        };
        assert!(ended.stderr.contains(words), "{ended:#?}");
        assert_eq!(exists("tank/ezz/jails/j"), jail);
        assert_eq!(property("tank/ezz/basejail", "ezz:track:x") != "-", jail);
        if jail {
            ezz(&["delete", "j", "--yes"]).ok();
            ezz(&["track", "delete", "x"]).ok();
        }
    }
    eprintln!(
        "the track went first: {}, the jail came first: {}",
        both[0], both[1]
    );
    assert_eq!(
        ezz(&["doctor", "--json"]).ok().json()[0]["findings"].to_string(),
        "[]"
    );
}

#[test]
fn jails_and_tracks_share_their_names() {
    init();
    install_small();
    ezz(&["create", "web"]).ok();
    ezz(&["track", "create", "web"]).refused(1, "the name of a jail");
    ezz(&["track", "create", "db"]).ok();
    ezz(&["create", "db"]).refused(1, "the name of a track");
}

#[test]
fn a_jail_follows_its_track_or_is_pinned() {
    init();
    install_small();
    install_small();
    ezz(&["track", "create", "next", "--generation", "2"]).ok();
    ezz(&["create", "follows", "--track", "next"]).ok();
    ezz(&["create", "pinned", "--pin", "2"]).ok();
    ezz(&["create", "default"]).ok();
    for (jail, generation, base) in [
        ("follows", 2, r#"{"track":"next"}"#),
        ("pinned", 2, r#"{"pin":2}"#),
        ("default", 1, r#"{"track":"main"}"#),
    ] {
        let dataset = format!("tank/ezz/jails/{jail}");
        let config = json_property(&dataset, "ezz:jail");
        assert_eq!(config["base"].to_string(), base);
        assert_eq!(config["skel"], generation);
        let origin = format!("tank/ezz/newjail/{generation}@{generation}");
        assert_eq!(property(&dataset, "origin"), origin);
    }
    let listed = ezz(&["track", "list", "--json"]).ok().json();
    assert_eq!(
        (&listed[0]["followers"], &listed[1]["followers"]),
        (&1.into(), &1.into())
    );
    let shown = ezz(&["list", "pinned", "--json"]).ok().json();
    assert_eq!((&shown[0]["pin"], &shown[0]["due"]), (&2.into(), &2.into()));
    assert!(shown[0].get("track").is_none());
    // A track that moves takes its followers along, and no other jail.
    sh(r#"zfs set ezz:track:next='{"current":1,"previous":2}' tank/ezz/basejail"#).ok();
    let due = |jail: &str| ezz(&["list", jail, "--json"]).ok().json()[0]["due"].clone();
    assert_eq!([due("follows"), due("pinned"), due("default")], [1, 2, 1]);
    ezz(&["create", "p", "--pin", "1", "--track", "next"]).exits(2);
}
