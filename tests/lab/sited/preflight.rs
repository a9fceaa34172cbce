//! Problems that jails will have on their host are reported when they are created and started, and by doctor; they
//! prevent nothing.

use std::net::{TcpListener, UdpSocket};

use serde_json::Value;

use crate::support::*;

/// Returns the findings of doctor of one kind: objects and words.
#[track_caller]
fn found(kind: &str) -> Vec<(String, String)> {
    let told = ezz(&["doctor", "--json"]).ok().json();
    let findings = told[0]["findings"].as_array().expect("a list");
    let text = |it: &Value, field: &str| it[field].as_str().expect("text").to_owned();
    findings
        .iter()
        .filter(|it| it["kind"] == kind)
        .map(|it| {
            assert_eq!(it["severity"], "info", "{it}");
            (text(it, "object"), text(it, "what"))
        })
        .collect()
}

#[track_caller]
fn note(ended: &Ended, words: &str) {
    let mut lines = ended.stderr.lines();
    assert!(
        lines.any(|line| line.starts_with("warning: ") && line.contains(words)),
        "no {words:?} in {ended:#?}"
    );
}

#[test]
fn addresses_that_the_host_has_not_or_that_are_somebodys() {
    sh("ip link set lo up; ip address add 192.0.2.7/32 dev lo").ok();
    let made = ezz(&[
        "create",
        "a",
        "--network",
        "host",
        "--address",
        "192.0.2.7/24",
        "--start",
    ])
    .ok();
    assert_eq!(made.stderr, "", "all is well");
    assert_eq!(ezz(&["doctor"]).ok().stderr, "");
    assert_eq!(found("address-missing"), []);

    let made = ezz(&["create", "b", "--address", "192.0.2.99/24"]).ok();
    let words = "jail b: no interface of this host has 192.0.2.99 (`ip address add 192.0.2.99/24 dev INTERFACE`)";
    note(&made, words);
    assert_eq!(made.stdout, "b: created\n");
    note(
        &ezz(&["start", "b"]).ok(),
        "no interface of this host has 192.0.2.99",
    );
    assert_eq!(
        ezz(&["list", "b", "--json"]).ok().json()[0]["state"],
        "running"
    );
    let missing = found("address-missing");
    assert_eq!(missing.len(), 1, "{missing:#?}");
    assert_eq!(missing[0].0, "jail b");

    // The address is set by hand, since ezz itself gives no address twice.
    ezz(&["create", "c"]).ok();
    let config = property("tank/ezz/jails/a", "ezz:jail");
    let config = config.replace(r#""hostname":"a""#, r#""hostname":"c""#);
    zfs(&["set", &format!("ezz:jail={config}"), "tank/ezz/jails/c"]).ok();
    let started = ezz(&["start", "c"]).ok();
    note(
        &started,
        "address 192.0.2.7: several have this address: jail a, jail c",
    );
    assert_eq!(
        found("address-shared"),
        [(
            "address 192.0.2.7".to_owned(),
            "several have this address: jail a, jail c".to_owned()
        )]
    );
    // Also a jail that still runs with an address that was removed from its configuration.
    ezz(&["stop", "c"]).ok();
    zfs(&[
        "set",
        &format!("ezz:jail={}", config.replace("192.0.2.7", "192.0.2.8")),
        "tank/ezz/jails/a",
    ])
    .ok();
    note(
        &ezz(&["start", "c"]).ok(),
        "192.0.2.7: several have this address: jail a, jail c",
    );
}

#[test]
fn what_listens_on_the_host_or_in_another_jail() {
    sh("ip link set lo up; ip address add 192.0.2.7/32 dev lo").ok();
    let everywhere = TcpListener::bind(("0.0.0.0", 2222)).expect("it is free");
    let there = UdpSocket::bind(("192.0.2.7", 514)).expect("it is free");
    let elsewhere = TcpListener::bind(("127.0.0.1", 2223)).expect("it is free");
    // Connections do not count as listeners.
    let client = std::net::TcpStream::connect(("127.0.0.1", 2222)).expect("it listens");

    let made = ezz(&[
        "create",
        "a",
        "--network",
        "host",
        "--address",
        "192.0.2.7",
        "--start",
    ])
    .ok();
    note(
        &made,
        "jail a: services listen on every address of this host, including those of the jails: tcp 2222",
    );
    note(&made, "jail a: services listen on 192.0.2.7: udp 514");
    assert!(!made.stderr.contains("2223"), "{made:#?}");
    assert_eq!(made.stdout, "a: created and started\n");
    let listens = found("service-listens");
    assert_eq!(listens.len(), 2, "{listens:#?}");
    drop((everywhere, there, elsewhere, client));
    assert_eq!(found("service-listens"), []);

    // A plan reports it too, and --quiet and --json have their effect.
    let _again = TcpListener::bind(("::", 2224)).expect("it is free");
    let planned = ezz(&["create", "b", "--address", "192.0.2.7", "-n"]);
    planned.refused(1, "belongs to the jail a");
    let planned = ezz(&["restart", "a", "-n", "--json"]).ok().json();
    let warnings = planned[0]["warnings"].as_array().expect("warnings");
    assert!(
        warnings
            .iter()
            .any(|it| it.as_str().is_some_and(|it| it.contains("tcp 2224"))),
        "{planned:#?}"
    );
    let restarted = ezz(&["restart", "a", "--json"]).ok();
    note(&restarted, "tcp 2224");
    assert_eq!(restarted.json().len(), 1);
    assert_eq!(ezz(&["restart", "a", "--quiet"]).ok().stderr, "");
    // Jails without an address use all of the host's.
    assert_eq!(
        ezz(&["create", "none", "--network", "host", "--start"])
            .ok()
            .stderr,
        ""
    );
    assert_eq!(
        ezz(&[
            "create",
            "off",
            "--network",
            "none",
            "--address",
            "192.0.2.9"
        ])
        .ok()
        .stderr,
        ""
    );
}

#[test]
fn a_fleet_is_told_of_in_few_words() {
    sh("ip link set lo up").ok();
    let _everywhere = TcpListener::bind(("0.0.0.0", 2222)).expect("it is free");
    let fleet = "fleet = \"f\"\n[[jail]]\nname = \"web{01..20}\"\nip_pools = [\"10.9.0.0/24\"]\n";
    std::fs::write("/tmp/f.toml", fleet).expect("written");
    let planned = ezz(&["apply", "/tmp/f.toml", "-n"]).ok();
    assert!(
        planned.stdout.contains("no interface of this host has"),
        "{planned:#?}"
    );
    let made = ezz(&["apply", "/tmp/f.toml"]).ok();
    note(
        &made,
        "jails web01, web02, web03, web04, web05 and 15 more: no interface of this host has 10.9.0.1, ",
    );
    note(&made, "those of the jails: tcp 2222");
    note(&made, "new jails share this host's network");
    assert_eq!(made.stderr.lines().count(), 3, "{made:#?}");
    assert_eq!(
        ezz(&["apply", "/tmp/f.toml"]).ok().stderr,
        "",
        "nothing is done, nothing is told"
    );
    sh("hostname host-1").ok();
    let made = ezz(&["create", "h", "--hostname", "host-1"]).ok();
    note(
        &made,
        "jail h: its host name host-1 is also that of this host",
    );
    assert_eq!(found("hostname-shared").len(), 1);
}
