//! The settings of /etc/jail.conf for all jails apply to a jail whoever starts it: rc.d/jail, which reads that file, or
//! ezz. The tests use stand-ins for FreeBSD's programs; nothing here has run on FreeBSD.

use serde_json::Value;

use crate::hosts::FreeBsd;
use crate::hosts_suite::{Bench, is_stopped, runs};

/// Returns a machine whose /etc/jail.conf contains this text, followed by the include of the jails' files.
fn with(globals: &str) -> FreeBsd {
    let machine = FreeBsd::at("jails");
    say(&machine, globals);
    machine
}

fn say(machine: &FreeBsd, globals: &str) {
    let jails = machine.programs.path("jail.conf.d");
    let text = format!("{globals}\n.include \"{}/*.conf\";\n", jails.display());
    std::fs::write(machine.programs.path("jail.conf"), text).expect("writable");
}

const HARDENED: &str = "allow.raw_sockets;\n$done = \"ran\";\n\
    * { securelevel = 2; exec.poststart = \"say $done $name\"; exec.prestop = \"say bye\"; }\n\
    other { path = /; exec.start = x; }";

fn main_conf(machine: &FreeBsd) -> String {
    machine.programs.path("jail.conf").display().to_string()
}

/// Starts or stops a jail as rc.d/jail does.
fn service(machine: &FreeBsd, how: &str, jail: &str) {
    let main = main_conf(machine);
    machine.programs.run("jail", &["-f", &main, how, jail]);
}

/// Returns the kernel's parameters of the jail, and the commands of the host that were run for it since a moment.
fn has(machine: &FreeBsd, before: usize) -> (Value, Vec<String>) {
    let params = machine.programs.with(|state| {
        let mut params = state["jails"][0]["params"].clone();
        // The number differs between starts.
        params.as_object_mut().expect("a table").remove("jid");
        params
    });
    let log = machine.log().split_off(before);
    let own = log.into_iter();
    (
        params,
        own.filter(|line| line.starts_with("a exec.")).collect(),
    )
}

fn findings(machine: &FreeBsd, kind: &str) -> Vec<String> {
    let told = machine.ezz(&["doctor", "--json"]).json();
    let findings = told[0]["findings"].as_array().expect("a list").clone();
    let of = findings.into_iter().filter(|it| it["kind"] == kind);
    of.map(|it| format!("{}: {}", it["object"], it["what"]))
        .collect()
}

/// rc.d/jail (parse_options) starts jails by /etc/jail.conf if that includes the jails' files.
#[test]
fn a_jail_is_the_same_whoever_starts_it() {
    let machine = with(HARDENED);
    machine.ezz(&["create", "a"]).ok();
    let before = machine.log().len();
    service(&machine, "-c", "a");
    let by_service = has(&machine, before);
    assert_eq!(by_service.0["securelevel"], "2");
    assert_eq!(by_service.0["allow.raw_sockets"], "true");
    assert_eq!(
        by_service.1.last().map(String::as_str),
        Some("a exec.poststart exec: say ran a")
    );
    runs(&machine, "a");
    let before = machine.log().len();
    machine.ezz(&["stop", "a"]).ok();
    is_stopped(&machine, "a");
    let stopped = has_run(&machine, before);
    assert!(
        stopped[0].contains("exec.prestop exec: say bye"),
        "{stopped:#?}"
    );

    let before = machine.log().len();
    machine.ezz(&["start", "a"]).ok();
    assert_eq!(has(&machine, before), by_service);
    assert_eq!(findings(&machine, "parameters-differ"), [""; 0]);
    assert_eq!(findings(&machine, "derived-wrong"), [""; 0]);
    // Stopped by rc.d/jail after ezz has started it: both ways to stop it run the same commands.
    let before = machine.log().len();
    service(&machine, "-r", "a");
    assert_eq!(has_run(&machine, before), stopped);
    is_stopped(&machine, "a");
    // With a jail that depends on it: by /etc/jail.conf jail(8) would start and stop both.
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let fleet =
        "fleet = \"x\"\n[[jail]]\nname = \"b\"\ndepends = [\"a\"]\n[[jail]]\nname = \"a\"\n";
    std::fs::write(file.path(), fleet).expect("writable");
    machine
        .ezz(&["apply", file.path().to_str().expect("a plain path")])
        .ok();
    machine.ezz(&["start", "a", "b"]).ok();
    machine.ezz(&["restart", "a"]).ok();
    assert_eq!(machine.running().len(), 2, "{:?}", machine.running());
    assert_eq!(findings(&machine, "parameters-differ"), [""; 0]);
    machine.ezz(&["delete", "a", "--yes"]).ok();
    machine.ezz(&["restart", "b"]).ok();
    assert_eq!(findings(&machine, "parameters-differ"), [""; 0]);
}

fn has_run(machine: &FreeBsd, before: usize) -> Vec<String> {
    let log = machine.log().split_off(before).into_iter();
    log.filter(|line| line.starts_with("a exec.")).collect()
}

/// The settings were added after the jail had started: they apply from its next start on, and until then doctor reports
/// the difference.
#[test]
fn a_running_jail_that_lacks_what_jail_conf_says_is_named() {
    let machine = with("");
    machine.ezz(&["create", "a", "b", "--start"]).ok();
    machine.ezz(&["stop", "b"]).ok();
    say(&machine, HARDENED);
    assert_eq!(
        findings(&machine, "parameters-differ"),
        [
            "\"jail a\": \"its running parameters differ from its configuration: allow.raw_sockets is off, \
             not on, securelevel is -1, not 2\""
        ]
    );
    // The jail is stopped by the present text of the file, as service(8) does it.
    let before = machine.log().len();
    machine.ezz(&["restart", "a"]).ok();
    assert!(has_run(&machine, before)[0].contains("say bye"));
    assert_eq!(findings(&machine, "parameters-differ"), [""; 0]);
    // The settings are removed again.
    say(&machine, "");
    machine.ezz(&["restart", "a"]).ok();
    assert_eq!(has(&machine, 0).0["securelevel"], Value::Null);
    assert!(!machine.programs.path("jail.conf.d/a.alone").exists());
}

/// Without an include rc.d/jail uses a jail's own file alone, and the settings of /etc/jail.conf are those of its own
/// jails.
#[test]
fn without_an_include_a_jail_has_its_own_file_alone() {
    let machine = FreeBsd::at("jails");
    std::fs::write(machine.programs.path("jail.conf"), HARDENED).expect("writable");
    machine.ezz(&["create", "a", "--start"]).ok();
    assert_eq!(has(&machine, 0).0["securelevel"], Value::Null);
    assert!(!machine.programs.path("jail.conf.d/a.alone").exists());
    assert_eq!(findings(&machine, "parameters-differ"), [""; 0]);
}

/// Text that ezz does not understand might be what protects the host.
#[test]
fn without_a_jail_conf_that_can_be_read_no_jail_starts() {
    let machine = with(HARDENED);
    machine.ezz(&["create", "a", "b", "--start"]).ok();
    say(&machine, "* { securelevel = 2;");
    machine.ezz(&["create", "c"]).ok();
    let refused = machine.ezz(&["start", "c"]).refused(1, "jail.conf: line 1");
    assert!(refused.err.contains(" -e ' '`"), "{refused:#?}");
    is_stopped(&machine, "c");
    // A running jail can be stopped and deleted.
    machine.ezz(&["stop", "a"]).ok();
    is_stopped(&machine, "a");
    machine.ezz(&["delete", "b", "c", "--yes"]).ok();
    let told = machine.ezz(&["doctor"]);
    assert!(!told.err.contains("panicked"), "{told:#?}");
}
