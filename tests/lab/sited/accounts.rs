//! A jail's account files against the host: whatever numbers they have, a command in the jail runs with ids of the
//! jail, or is refused.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::support::*;

/// The number of ids that a jail has.
const COUNT: u32 = 65_536;

/// A word in the command line of the attempt, by which its processes are found.
const MARK: &str = "word-of-the-attempt";

fn append(file: &str, lines: &str) {
    let path = format!("/srv/jails/a/etc/{file}");
    let old = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, old + lines).expect("written");
}

/// Returns the host's id of a jail's root.
fn first_id(jail: &str) -> u32 {
    let pid = sh(&format!("cat /run/ezz/*/jails/{jail}/pid")).ok().stdout;
    let map = fs::read_to_string(format!("/proc/{}/uid_map", pid.trim())).expect("it runs");
    let mut numbers = map.split_whitespace().map(|word| word.parse::<u32>());
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(0)), Some(Ok(first)), Some(Ok(COUNT))) => first,
        _ => panic!("a jail without ids of its own: {map}"),
    }
}

/// Returns every id of the present processes of the attempt, as the host sees them.
fn ids_of_attempt() -> BTreeSet<u32> {
    let mut ids = BTreeSet::new();
    for pid in processes(MARK) {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // The command line of ezz has the same words.
        if !line.starts_with(b"sh\0") {
            continue;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        for line in status.lines() {
            if let Some((_, list)) = line
                .split_once(':')
                .filter(|(key, _)| ["Uid", "Gid", "Groups"].contains(key))
            {
                ids.extend(
                    list.split_whitespace()
                        .map(|id| id.parse::<u32>().expect("an id")),
                );
            }
        }
    }
    ids
}

/// Runs a command in the jail a with these options; returns how it ended, and every id that its processes ever had.
fn attempt(options: &[&str]) -> (Ended, BTreeSet<u32>) {
    let script = "touch /tmp/ran; sleep 1; id -u; id -g; id -G";
    let command = ["--", "sh", "-c", script, MARK];
    let args = [&["exec", "a"], options, &command].concat();
    std::thread::scope(|scope| {
        let attempt = scope.spawn(|| ezz(&args));
        let mut ids = BTreeSet::new();
        while !attempt.is_finished() {
            ids.append(&mut ids_of_attempt());
            std::thread::sleep(Duration::from_millis(10));
        }
        (attempt.join().expect("it ends"), ids)
    })
}

/// Checks that the command is refused with these words, and that nothing was run.
#[track_caller]
fn refused(options: &[&str], code: i32, words: &str) {
    let (ended, ids) = attempt(options);
    assert_eq!(ids, BTreeSet::new(), "processes of {ended:#?}");
    let ended = ended.refused(code, words);
    assert!(ended.stderr.contains("in a: "), "{ended:#?}");
    assert!(ended.stderr.contains("0 to 65535"), "{ended:#?}");
    let way_in = "ezz exec a --user 0:0 -- COMMAND";
    assert!(ended.stderr.contains(way_in), "{ended:#?}");
    assert!(
        !fs::exists("/srv/jails/a/tmp/ran").expect("looked"),
        "{ended:#?}"
    );
}

/// Checks that the command runs with these ids in the jail, and with no others on the host.
#[track_caller]
fn runs(options: &[&str], expected: &str) {
    let first = first_id("a");
    let (ended, ids) = attempt(options);
    let ended = ended.ok();
    assert_eq!(ended.stdout, expected, "{ended:#?}");
    assert!(!ids.is_empty(), "nobody has seen {ended:#?}");
    let own = first..first + COUNT;
    assert!(
        ids.iter().all(|id| own.contains(id)),
        "{ids:?} of {own:?}: {ended:#?}"
    );
    fs::remove_file("/srv/jails/a/tmp/ran").expect("it was run");
}

/// 4294967295 is (uid_t)-1, which setresuid(2) takes for "no change": a process with it stayed uid 0 of the host on its
/// way into a jail.
#[test]
fn no_number_of_a_jail_makes_a_command_the_hosts() {
    ezz(&["create", "a", "--start"]).ok();
    append(
        "passwd",
        "www:x:4294967295:4294967295::/:/bin/sh\nhalf:x:1000:4294967295::/:/bin/sh\n\
         far:x:65536:65536::/:/bin/sh\nwrap:x:4294967296:4294967296::/:/bin/sh\n\
         last:x:65535:65535::/:/bin/sh\njoe:x:1001:1001::/:/bin/sh\nmember:x:1002:1002::/:/bin/sh\n\
         1001:x:0:0::/:/bin/sh\n",
    );
    append(
        "group",
        "evil:x:4294967295:member\nbeyond:x:65536:\nextra:x:1003:joe\ntop:x:65535:joe\n1003:x:0:\n",
    );
    // The jail's files have the number.
    for (user, words) in [
        (
            "www",
            "its /etc/passwd gives the user \"www\" the user id 4294967295",
        ),
        (
            "half",
            "its /etc/passwd gives the user \"half\" the group id 4294967295",
        ),
        (
            "1000",
            "its /etc/passwd gives the user \"half\" the group id 4294967295",
        ),
        (
            "far",
            "its /etc/passwd gives the user \"far\" the user id 65536",
        ),
        (
            "wrap",
            "its /etc/passwd gives the user \"wrap\" the user id 4294967296",
        ),
        (
            "member",
            "its /etc/group gives the group \"evil\" the group id 4294967295",
        ),
        (
            "joe:evil",
            "its /etc/group gives the group \"evil\" the group id 4294967295",
        ),
        (
            "0:beyond",
            "its /etc/group gives the group \"beyond\" the group id 65536",
        ),
    ] {
        refused(&["--user", user], 1, words);
    }
    // The administrator gives the number.
    for (user, words) in [
        ("4294967295", "4294967295 is not a user id of this jail"),
        ("0:4294967295", "4294967295 is not a group id of this jail"),
        ("4294967295:4294967295", "4294967295 is not a"),
        ("65536", "65536 is not a user id"),
        ("joe:65536", "65536 is not a group id"),
        (
            "99999999999999999999",
            "99999999999999999999 is not a user id",
        ),
    ] {
        refused(&["--user", user], 2, words);
    }
    // Valid accounts still work; and digits are a number, whatever names exist.
    runs(&["--user", "joe"], "1001\n1001\n1001 1003 65535\n");
    runs(&["--user", "1001"], "1001\n1001\n1001 1003 65535\n");
    runs(&["--user", "joe:1003"], "1001\n1003\n1003\n");
    runs(&["--user", "last"], "65535\n65535\n65535\n");
    runs(&[], "0\n0\n0\n");
}

/// Plain `exec` and `console` run as root, whose numbers the jail writes, too; two numbers always give access.
#[test]
fn roots_own_entry_makes_nobody_the_hosts() {
    ezz(&["create", "a", "--start"]).ok();
    let (passwd, group) = ("/srv/jails/a/etc/passwd", "/srv/jails/a/etc/group");
    let good = fs::read_to_string(passwd).expect("it is there");
    let bad = good.replace("root:x:0:0:", "root:x:0:4294967295:");
    assert_ne!(good, bad);
    fs::write(passwd, &bad).expect("written");
    let words = "its /etc/passwd gives the user \"root\" the group id 4294967295";
    for options in [&[][..], &["--user", "root"], &["--user", "0"]] {
        refused(options, 1, words);
    }
    for user in ["", "--user 0"] {
        let console = sh(&format!("script -qec '{EZZ} console a {user}' /dev/null"));
        assert_eq!(console.code, 1, "{console:#?}");
        assert!(console.stdout.contains(words), "{console:#?}");
        assert!(console.stdout.contains("0 to 65535"), "{console:#?}");
    }
    runs(&["--user", "0:0"], "0\n0\n0\n");
    // By a group with that number that has root as a member.
    fs::write(passwd, &good).expect("written");
    append("group", "evil:x:4294967295:root\n");
    refused(
        &[],
        1,
        "its /etc/group gives the group \"evil\" the group id 4294967295",
    );
    runs(&["--user", "0:0"], "0\n0\n0\n");
    // A root entry that is invalid is an error; without any entry, root is 0:0.
    fs::write(
        passwd,
        good.replace("root:x:0:0:", "root:x:4294967295:4294967295:"),
    )
    .expect("written");
    runs(&[], "0\n0\n0\n");
    refused(
        &["--user", "root"],
        1,
        "the user \"root\" the user id 4294967295",
    );
    // A file that is too large is not read in part.
    for file in [passwd, group] {
        fs::write(passwd, &good).expect("written");
        fs::write(group, "root:x:0:\n").expect("written");
        let whole = fs::OpenOptions::new()
            .write(true)
            .open(file)
            .expect("opened");
        whole.set_len((16 << 20) + 1).expect("set");
        let ended = ezz(&["exec", "a", "--", "id"]).refused(1, "is larger than 16 MiB");
        assert!(ended.stderr.contains("--user 0:0"), "{ended:#?}");
        runs(&["--user", "0:0"], "0\n0\n0\n");
    }
}

/// A file of a large site: the accounts beyond the first MiB count too, and none is cut.
#[test]
fn a_hundred_thousand_accounts_are_read() {
    ezz(&["create", "a", "--start"]).ok();
    let (mut passwd, mut group) = (String::new(), String::new());
    for number in 0..100_000 {
        let id = 1000 + number % 60_000;
        passwd += &format!("user{number}:x:{id}:{id}::/home/user{number}:/bin/sh\n");
        group += &format!("group{number}:x:{id}:many\n");
    }
    append(
        "passwd",
        &(passwd + "last:x:61234:61234::/:/bin/sh\nmany:x:61235:61235::/:/bin/sh\n"),
    );
    append("group", &(group + "tail:x:61236:last\n"));
    let asked = [
        "exec",
        "a",
        "--user",
        "last",
        "--",
        "grep",
        "-E",
        "^(Uid|Gid|Groups):",
        "/proc/self/status",
    ];
    let told = ezz(&asked).ok();
    let words: Vec<&str> = told.stdout.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "Uid:", "61234", "61234", "61234", "61234", "Gid:", "61234", "61234", "61234", "61234",
            "Groups:", "61236",
        ]
    );
    // The most groups that a process can have.
    let asked = [
        "exec",
        "a",
        "--user",
        "many",
        "--",
        "grep",
        "^Groups:",
        "/proc/self/status",
    ];
    let told = ezz(&asked).ok();
    assert_eq!(told.stdout.split_whitespace().count(), 60_001);
}
