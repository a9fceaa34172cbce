//! `ezz console` on a terminal, by script(1).

use crate::support::*;

/// Types lines into a command that runs on a terminal of 33 rows and 99 columns.
fn typed(command: &str, lines: &str) -> Ended {
    std::fs::write("/tmp/typed", lines).expect("writable");
    sh(&format!(
        "(sleep 1; while IFS= read -r line; do printf '%s\\n' \"$line\"; sleep 0.7; done </tmp/typed; sleep 2) |
         script -qec 'stty rows 33 cols 99; {command}' /dev/null"
    ))
}

#[test]
fn it_has_a_terminal_of_its_own() {
    ezz(&["create", "a", "--start"]).ok();
    let ended = typed(
        &format!("{EZZ} console a"),
        "tty\nstty size\nid -u\nexit 5\n",
    );
    assert_eq!(ended.code, 5, "{ended:#?}");
    assert!(ended.stdout.contains("/dev/pts/"), "{ended:#?}");
    assert!(ended.stdout.contains("33 99"), "{ended:#?}");
}

#[test]
fn ctrl_c_reaches_the_command_and_not_ezz() {
    ezz(&["create", "a", "--start"]).ok();
    let ended = typed(
        &format!("{EZZ} exec --tty a -- sh"),
        "sleep 100\n\u{3}\necho al\"\"ive\nexit 6\n",
    );
    assert_eq!(ended.code, 6, "{ended:#?}");
    assert!(ended.stdout.contains("alive"), "{ended:#?}");
}

#[test]
fn without_a_terminal_it_says_so() {
    ezz(&["create", "a", "--start"]).ok();
    ezz(&["console", "a"]).refused(2, "needs a terminal");
    ezz(&["exec", "--tty", "a", "--", "sh"]).refused(2, "needs a terminal");
}

/// A jail's process must not get the host's terminal: it could type on it (TIOCSTI).
#[test]
fn a_command_never_holds_the_terminal_of_the_host() {
    ezz(&["create", "a", "--start"]).ok();
    let ended = typed(
        &format!("{EZZ} exec a -- sh -c \"ls -l /proc/self/fd; tty\""),
        "",
    );
    assert!(!ended.stdout.contains("/dev/pts/"), "{ended:#?}");
}
