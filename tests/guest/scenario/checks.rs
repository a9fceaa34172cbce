//! What must be true of a site before and after the commands of the scenarios.

use std::collections::BTreeMap;
use std::fs;

use super::own::{When, as_recorded, stands};
use crate::sys::{Failure, sh};

fn complain(so: bool, what: String) -> Vec<String> {
    if so { Vec::new() } else { vec![what] }
}

fn lines(script: &str) -> Result<Vec<String>, Failure> {
    Ok(sh(script)?.lines().map(str::to_owned).collect())
}

pub(super) fn datasets_are(below: &[&str]) -> Vec<String> {
    let mut wanted: Vec<String> = below.iter().map(|name| format!("tank/ezz{name}")).collect();
    wanted.sort();
    let found = lines("zfs list -Hr -o name tank/ezz | sort").unwrap_or_default();
    complain(
        found == wanted,
        format!("there are {found:?}, not {wanted:?}"),
    )
}

/// Checks that there are exactly this many sealed generations, and that the track is at the first.
pub(super) fn sealed_are(times: u64) -> Vec<String> {
    let script = "zfs get -Hrpo name -t snapshot -s local ezz:sealed tank/ezz/basejail | sort";
    let sealed = match lines(script) {
        Ok(sealed) => sealed,
        Err(Failure(why)) => return vec![why],
    };
    let mut wrong = complain(
        sealed.len() as u64 == times,
        format!("{times} were to be sealed, and there are {sealed:?}"),
    );
    let track = sh("zfs get -Hpo value ezz:track:main tank/ezz/basejail").unwrap_or_default();
    let first = sealed.first().and_then(|name| name.rsplit_once('@'));
    let current = first.is_some_and(|(_, n)| track.contains(&format!("\"current\":{n},")));
    if !current {
        wrong.push(format!("the track is {track}, and sealed are {sealed:?}"));
    }
    wrong
}

/// Returns the jails of the command, each with its `ezz:jail` and its quota.
fn jails() -> Result<BTreeMap<String, (String, String)>, Failure> {
    let rows = lines("zfs get -Hrp -d1 -o name,property,value ezz:jail,quota tank/ezz/jails")?;
    let mut jails: BTreeMap<String, (String, String)> = BTreeMap::new();
    for row in &rows {
        let mut columns = row.splitn(3, '\t');
        let (name, property) = (columns.next().unwrap_or_default(), columns.next());
        let value = columns.next().unwrap_or_default().to_owned();
        let Some(name) = name.strip_prefix("tank/ezz/jails/j") else {
            continue;
        };
        let jail = jails.entry(format!("j{name}")).or_default();
        match property {
            Some("quota") => jail.1 = value,
            _ => jail.0 = value,
        }
    }
    Ok(jails)
}

/// Checks that all jails of the command exist, or none, and that all or none have something left to do. A batch does
/// not count while its intent exists; its datasets are debris then.
pub(super) fn all_or_none(count: usize) -> Vec<String> {
    let intents = "zfs get -Hpo property all tank/ezz/jails | grep -c ^ezz:intent: || true";
    let (jails, intents) = match (jails(), sh(intents)) {
        (Ok(jails), Ok(intents)) => (jails, intents),
        (Err(Failure(why)), _) | (_, Err(Failure(why))) => return vec![why],
    };
    if intents != "0\n" {
        return Vec::new();
    }
    let found = jails.len();
    let unfinished = jails
        .values()
        .filter(|(config, _)| config.contains("\"todo\""))
        .count();
    let mut wrong = complain(
        found == 0 || found == count,
        format!("not atomic: {found} of {count} jails are there"),
    );
    if unfinished != 0 && unfinished != found {
        wrong.push(format!(
            "not atomic: {unfinished} of {found} jails have something to do"
        ));
    }
    wrong
}

pub(super) fn jails_are(count: usize, quota: Option<&str>) -> Vec<String> {
    match jails() {
        Ok(jails) => {
            let without = jails
                .values()
                .filter(|(_, is)| quota.is_some_and(|quota| is != quota))
                .count();
            let so = jails.len() == count && without == 0;
            complain(
                so,
                format!("{} of {count} jails, {without} without quota", jails.len()),
            )
        }
        Err(Failure(why)) => vec![why],
    }
}

/// Checks which jails run, by the processes in their cgroups.
pub(super) fn running_are(wanted: &[&str]) -> Vec<String> {
    let script = "for f in /sys/fs/cgroup/ezz/*/*/cgroup.procs /sys/fs/cgroup/ezz/*/*/*/cgroup.procs; do
        [ ! -e $f ] || [ -z \"$(cat $f 2>/dev/null)\" ] || echo $f; done | cut -d/ -f7 | grep -v ^_ | sort -u || true";
    match lines(script) {
        Ok(found) => complain(found == wanted, format!("{found:?} run, not {wanted:?}")),
        Err(Failure(why)) => vec![why],
    }
}

/// Returns the current and the previous generation of the track main, with 0 for none.
pub(super) fn track() -> Result<(u64, u64), Failure> {
    let text = sh("zfs get -Hpo value ezz:track:main tank/ezz/basejail")?;
    let number = |key: &str| {
        let rest = text.split_once(&format!("\"{key}\":"));
        let digits = rest.map_or("", |(_, rest)| {
            let end = rest.find(|c: char| !c.is_ascii_digit());
            &rest[..end.unwrap_or(rest.len())]
        });
        digits.parse().unwrap_or(0)
    };
    Ok((number("current"), number("previous")))
}

/// Checks that the track and the last entry of its log changed together.
pub(super) fn track_is_whole() -> Vec<String> {
    let log = "zfs get -Hpo value -s local ezz:swaps:main tank/ezz/basejail";
    match (track(), sh(log)) {
        (Ok((current, _)), Ok(log)) if !log.is_empty() => {
            let last = log.rsplit("\"to\":").next().unwrap_or_default();
            let so = last.starts_with(&format!("{current},"));
            complain(so, format!("the track is at {current}, its log says {log}"))
        }
        // No swap yet: the track is where the first world put it.
        (Ok((current, _)), Ok(_)) => complain(
            current == 1,
            format!("the track is at {current}, without a log"),
        ),
        (Err(Failure(why)), _) | (_, Err(Failure(why))) => vec![why],
    }
}

pub(super) fn current_is(wanted: u64) -> Vec<String> {
    let link = fs::read_link("/srv/jails/basejail/tracks/main").ok();
    let right = link.as_deref() == Some(format!("../{wanted}").as_ref());
    match track() {
        Ok((current, _)) => complain(
            current == wanted && right,
            format!("the track is at {current}, its link is {link:?}"),
        ),
        Err(Failure(why)) => vec![why],
    }
}

/// Checks that there are at least this many sealed generations, and that the track is at the last of them.
pub(super) fn newest_is_current(least: u64) -> Vec<String> {
    let script = "zfs get -Hrpo name -t snapshot -s local ezz:sealed tank/ezz/basejail | sed 's/.*@//' | sort -n";
    match lines(script) {
        Ok(sealed) => {
            let newest = sealed.last().and_then(|n| n.parse().ok()).unwrap_or(0);
            let mut wrong = current_is(newest);
            wrong.extend(complain(
                sealed.len() as u64 >= least,
                format!("{least} were to be sealed, and there are {sealed:?}"),
            ));
            wrong
        }
        Err(Failure(why)) => vec![why],
    }
}

/// Checks what a prune leaves: the bases of the track; the skeletons of these and the one that a jail is a clone of; no
/// snapshots of merges, as no track returns to the generations that they came from.
pub(super) fn two_are_left() -> Vec<String> {
    let below = |half: &str| {
        lines(&format!(
            "zfs list -Hd1 -o name tank/ezz/{half} | sed -n 's,tank/ezz/{half}/,,p' | sort -n"
        ))
    };
    let merges = "zfs list -Ho name -t snapshot -r tank/ezz/jails | grep @ezz-merge || true";
    match (track(), below("basejail"), below("newjail")) {
        (Ok((current, previous)), Ok(bases), Ok(skeletons)) => {
            let mut wanted = vec![previous, current];
            wanted.sort_unstable();
            let mut with_first = vec![1];
            with_first.extend(wanted.iter().filter(|n| **n != 1));
            let text = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>();
            let merges = sh(merges).unwrap_or_else(|Failure(why)| why);
            let so = bases == text(&wanted) && skeletons == text(&with_first) && merges.is_empty();
            complain(
                so,
                format!("bases {bases:?}, skeletons {skeletons:?}, not {wanted:?}; {merges}"),
            )
        }
        (Err(Failure(why)), ..) | (_, Err(Failure(why)), _) | (.., Err(Failure(why))) => vec![why],
    }
}

/// Checks that the track is at this generation and nothing is under way. Jails a and b follow the track and have the
/// own files of its generation; c has a conflict with the second one, and stays at the first.
pub(super) fn moved_to(wanted: u64) -> Vec<String> {
    let mut wrong = current_is(wanted);
    match sh("zfs get -Hpo property -s local all tank/ezz/basejail | grep ezz:rollout: || true") {
        Ok(left) => wrong.extend(complain(
            left.is_empty(),
            format!("under way still: {left}"),
        )),
        Err(Failure(why)) => wrong.push(why),
    }
    let held = match wanted {
        2 => r#"{"pin":1} 1"#.to_owned(),
        _ => r#"{"track":"main"} 1"#.to_owned(),
    };
    let follows = format!(r#"{{"track":"main"}} {wanted}"#);
    for (jail, right) in [("a", &follows), ("b", &follows), ("c", &held)] {
        let is = stands(jail);
        wrong.extend(complain(
            is == *right,
            format!("{jail} is at {is}, not {right}"),
        ));
    }
    wrong.extend(as_recorded(&["a", "b", "c"], When::Settled));
    wrong
}
