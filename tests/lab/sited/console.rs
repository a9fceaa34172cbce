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

/// A command in the jail that reports when it is ready, and which signal it got.
const WAITS: &str = r#"for s in TERM HUP INT QUIT USR1 USR2; do trap "echo got $s; exit 7" $s; done; echo ready; while :; do sleep 0.1; done"#;

/// Runs ezz with its output in a file, and waits until the file contains a word.
fn begun(args: &[&str], at: &str, word: &str) -> std::process::Child {
    let out = std::fs::File::create(at).expect("writable");
    let child = std::process::Command::new(EZZ)
        .args(args)
        .stdin(std::process::Stdio::null())
        .stdout(out)
        .spawn()
        .expect("started");
    wait_for(word, 30, || {
        std::fs::read_to_string(at).is_ok_and(|text| text.contains(word))
    });
    child
}

#[track_caller]
fn said(at: &str) -> String {
    std::fs::read_to_string(at).expect("readable")
}

/// The log also shows who ran the command.
#[test]
fn signals_reach_the_command_and_its_end_comes_back() {
    use std::os::unix::process::ExitStatusExt;

    let log = std::os::unix::net::UnixDatagram::bind("/dev/log").expect("nobody else has it");
    log.set_nonblocking(true).expect("set");
    let logged = || {
        let mut lines = Vec::new();
        let mut line = [0; 2048];
        while let Ok(length) = log.recv(&mut line) {
            lines.push(String::from_utf8_lossy(&line[..length]).into_owned());
        }
        lines
    };
    ezz(&["create", "a", "--start"]).ok();
    logged();
    let exec = ["exec", "a", "--", "sh", "-c", WAITS];
    let mut lines = Vec::new();
    for signal in ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2"] {
        let mut child = begun(&exec, "/tmp/out", "ready");
        sh(&format!("kill -{signal} {}", child.id())).ok();
        assert_eq!(child.wait().expect("it ends").code(), Some(7), "{signal}");
        assert_eq!(said("/tmp/out"), format!("ready\ngot {signal}\n"));
        // The kernel keeps ten of them.
        lines.extend(logged());
    }
    let of = |how: &str| lines.iter().filter(|line| line.contains(how)).count();
    assert_eq!(
        (of(": begun: sh -c '"), of(": exit 7: sh -c '")),
        (6, 6),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .all(|line| line.contains("exec in a of tank/ezz as root: ")),
        "{lines:#?}"
    );
    // A command that a signal ends has the exit status that a shell gives it.
    let mut child = begun(
        &["exec", "a", "sh", "-c", "echo ready; exec sleep 4711"],
        "/tmp/out",
        "ready",
    );
    sh(&format!("kill -TERM {}", child.id())).ok();
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
    let timed = sh(&format!(
        "time -p timeout --foreground 1 {EZZ} exec a -- sleep 4711"
    ));
    assert_eq!(timed.code, 124, "{timed:#?}");
    assert!(processes("sleep 4711").is_empty());
    // ezz is killed, and the command gets SIGTERM.
    let mut child = begun(&exec, "/tmp/out", "ready");
    child.kill().expect("it runs");
    assert_eq!(child.wait().expect("it ends").signal(), Some(9));
    wait_for("the end of the command", 10, || {
        said("/tmp/out") == "ready\ngot TERM\n"
    });
    wait_for("no crun is left", 10, || {
        processes("crun --root").is_empty()
    });
    // On a terminal; Ctrl-C has a test of its own.
    for (signal, end) in [("TERM", 7), ("HUP", 7), ("KILL", 137)] {
        std::fs::write(
            "/tmp/exec",
            format!("{EZZ} exec --tty a -- sh -c '{WAITS}'"),
        )
        .expect("written");
        let script = "script -qec 'sh /tmp/exec; echo ended $?' /dev/null >/tmp/out 2>&1";
        // The output of the previous command must not be mistaken for this one's.
        std::fs::write("/tmp/out", "").expect("written");
        let mut child = spawn("/", script);
        wait_for("ready", 30, || said("/tmp/out").contains("ready"));
        sh(&format!("kill -{signal} $(pgrep -f '^{EZZ} exec --tty')")).ok();
        child.wait().expect("it ends");
        let out = said("/tmp/out");
        assert!(out.contains(&format!("ended {end}")), "{signal}: {out}");
        wait_for("no command is left", 10, || {
            processes("trap \"echo got").is_empty()
        });
    }
}

#[test]
fn a_command_that_is_not_there_ends_as_in_a_shell() {
    ezz(&["create", "a", "--start"]).ok();
    let root = "/srv/jails/a/root";
    sh(&format!(
        "echo x >{root}/data; printf '\\177ELFx' >{root}/odd; echo '#!/bin/nosuch' >{root}/script; chmod 755 {root}/odd {root}/script"
    ))
    .ok();
    for (words, code, why) in [
        (
            &["nosuch"][..],
            127,
            "cannot run \"nosuch\" in a: it is in none of /usr/local/sbin:",
        ),
        (&["/bin/nosuch", "x"], 127, "there is no such file"),
        (&["/root/data"], 126, "it is not executable"),
        (&["/etc"], 126, "it is a directory"),
        (
            &["-d", "/nosuch", "ls"],
            126,
            "there is no directory /nosuch",
        ),
        (&["-e", "PATH=/none", "ls"], 127, "it is in none of /none"),
        (
            &["/root/odd"],
            126,
            "it is neither a program that this host",
        ),
        (&["/root/script"], 127, "there is no /bin/nosuch, the inter"),
    ] {
        let ended = ezz(&[&["exec", "a"], words].concat()).exits(code);
        assert!(ended.stderr.contains(why), "{ended:#?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
    }
    // crun notices what ezz's own look does not. The reason is reported once, whether crun writes it on the command's
    // standard error or not; what the command writes there arrives unchanged.
    sh(&format!(
        "cp /bin/true {root}/../usr/local/bin/own; chmod 700 {root}/../usr/local/bin/own"
    ))
    .ok();
    for words in [&["exec", "a"][..], &["exec", "--tty", "a"]] {
        let line = [words, &["--user", "nobody", "own"]].concat().join(" ");
        let script = format!("script -qec '{EZZ} {line}' /dev/null </dev/null 2>&1");
        let plain = format!("{EZZ} {line} 2>&1");
        let ended = sh(if words.len() > 2 { &script } else { &plain }).exits(126);
        let told = ended.stdout.matches("Permission denied").count();
        assert_eq!(told, 1, "{ended:#?}");
        assert!(
            ended.stdout.contains("cannot run \"own\" in a: "),
            "{ended:#?}"
        );
    }
    let bytes = format!(
        "head -c 300000 /dev/urandom >/tmp/in; {EZZ} exec a -- sh -c 'cat >&2; exit 127' </tmp/in 2>/tmp/err; code=$?; cmp /tmp/in /tmp/err && exit $code"
    );
    assert_eq!(sh(&bytes).exits(127).stdout, "");
    ezz(&["exec", "a", "--", "cat /etc/passwd"]).refused(127, "cat /etc/passwd");
    let told = ezz(&["exec", "a", "cat /etc/hostname"]).stderr;
    assert!(told.contains("`ezz exec a -- cat /etc/hostname`"), "{told}");
    // With and without the dashes; options after the command belong to it.
    assert_eq!(
        ezz(&["exec", "a", "echo", "-n", "--json"]).ok().stdout,
        "--json"
    );
    assert_eq!(ezz(&["exec", "a", "--", "id", "-u"]).ok().stdout, "0\n");
}
