//! How often a command looks at the kernel of a FreeBSD host: once for all its jails, not once for each. The tests
//! count programs and do not measure times; they use stand-ins.

use crate::hosts::FreeBsd;
use crate::hosts_suite::Bench;

/// Returns how many programs of each name a command starts.
fn started(machine: &FreeBsd, words: &[&str]) -> Vec<(String, usize)> {
    let before = machine.log().len();
    machine.ezz(words).ok();
    let mut counts = std::collections::BTreeMap::new();
    // The log lists commands of jails with the jail's name in front.
    let log = machine.log().split_off(before);
    for line in log.iter().filter(|line| !line.contains(" exec.")) {
        let program = line.split(' ').next().unwrap_or_default();
        *counts.entry(program.to_owned()).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

#[test]
fn the_programs_of_a_command_do_not_grow_with_its_jails() {
    let of = |most: usize| {
        let machine = FreeBsd::at("jails");
        let jails = format!("j{{01..{most:02}}}");
        let mut all = Vec::new();
        for words in [
            &["create", jails.as_str()][..],
            &["list"],
            &["doctor"],
            &["doctor", "--repair"],
            &["stop", "--all"],
            &["delete", &jails, "--yes"],
        ] {
            all.push((words[0].to_owned(), started(&machine, words)));
        }
        all
    };
    let (few, many) = (of(2), of(12));
    assert_eq!(few, many);
    let looks = |verb: &str| -> usize {
        let (_, programs) = many.iter().find(|(it, _)| it == verb).expect("it is there");
        let jls = programs.iter().find(|(name, _)| name == "jls");
        jls.map_or(0, |(_, count)| *count)
    };
    assert_eq!((looks("list"), looks("delete")), (1, 1), "{many:#?}");
}

/// A start and a stop change the state of the kernel, so one look follows each of them.
#[test]
fn a_start_and_a_stop_are_each_followed_by_one_look() {
    let machine = FreeBsd::at("jails");
    machine.ezz(&["create", "j{1..4}"]).ok();
    let looks = |words: &[&str]| {
        let all = started(&machine, words).into_iter();
        let jls = all.filter(|(name, _)| name == "jls");
        jls.map(|(_, count)| count).sum::<usize>()
    };
    for words in [["start", "--all"], ["stop", "--all"]] {
        let looks = looks(&words);
        // One look at the beginning for all jails, and one with the locks held.
        assert!(looks <= 2 + 4, "{words:?}: {looks}");
    }
}
