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
    // An empty one has nothing to point to, until a world is installed into it.
    ezz(&["track", "create", "15"]).ok();
    assert_eq!(link("15"), None);
    ezz(&["create", "early", "--track", "15"]).refused(1, "the track 15 has no generation yet");
    ezz(&["install", "/tmp/small.tar", "--track", "15"]).ok();
    assert_eq!(link("15").as_deref(), Some(Path::new("../3")));
    assert_eq!(
        json_property("tank/ezz/basejail", "ezz:track:15")["current"],
        3
    );
    // So does `install`, for a track that nobody made.
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
        again.stderr.contains("the track x exists already"),
        "{again:#?}"
    );
    ezz(&["track", "create", "x", "--generation", "2"]).refused(1, "exists already, at another");
    ezz(&["track", "create", "y", "--generation", "9"]).refused(1, "no sealed generation");
    ezz(&["track", "create", "y", "--generation", "debian-12.1"]).refused(1, "several");
    for bad in ["Upper", "a.b", "-x", "x-", "a b", "", &"t".repeat(64)] {
        ezz(&["track", "create", "--", bad]).exits(2);
    }
    assert_eq!(everything(), before);
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
    // A track that moves takes its followers along, and nobody else.
    sh(r#"zfs set ezz:track:next='{"current":1,"previous":2}' tank/ezz/basejail"#).ok();
    let due = |jail: &str| ezz(&["list", jail, "--json"]).ok().json()[0]["due"].clone();
    assert_eq!([due("follows"), due("pinned"), due("default")], [1, 2, 1]);
    ezz(&["create", "p", "--pin", "1", "--track", "next"]).exits(2);
}
