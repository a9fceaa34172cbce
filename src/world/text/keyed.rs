//! Lists of accounts, merged name by name: two that were added at the same place are no conflict.
//!
//! passwd(5), group(5) and their like have a line for each name, with fields between colons. Lines
//! without a colon (comments) are their own names; lines of NIS begin with `+` or `-` and stay last.

use std::collections::{BTreeMap, BTreeSet};

/// Three versions of a list as one; none if both sides have made different things of one name, or, where
/// `numbered`, have given two new names one number (the third field), which would make them one account.
pub(super) fn merge(base: &str, ours: &str, theirs: &str, numbered: bool) -> Option<String> {
    let (was, own, new) = (List::parse(base)?, List::parse(ours)?, List::parse(theirs)?);
    let names: BTreeSet<&str> = own.lines.keys().chain(new.lines.keys()).copied().collect();
    let mut result = BTreeMap::new();
    for name in names {
        let (was, own, new) = (was.line(name), own.line(name), new.line(name));
        let line = if own == was || own == new {
            new
        } else if new == was {
            own
        } else {
            return None;
        };
        if let Some(line) = line {
            result.insert(name, line);
        }
    }
    if numbered && clash(&was, &result) {
        return None;
    }
    // The jail's order; what the release has added follows what it follows there.
    let mut order: Vec<&str> = own.order.clone();
    let mut before: Option<&str> = None;
    for name in &new.order {
        if !own.lines.contains_key(name) {
            let after = before.and_then(|before| order.iter().position(|at| *at == before));
            let nis = order.iter().position(|at| at.starts_with(['+', '-']));
            let at = after.map_or(0, |at| at + 1).min(nis.unwrap_or(order.len()));
            order.insert(at, name);
        }
        before = Some(name);
    }
    let lines = order.iter().filter_map(|name| result.get(name));
    Some(lines.map(|line| format!("{line}\n")).collect())
}

/// Whether a name that is new has the number of another.
fn clash(was: &List<'_>, result: &BTreeMap<&str, &str>) -> bool {
    let number = |line: &str| line.split(':').nth(2).unwrap_or_default().to_owned();
    let mut owners: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, line) in result.iter().filter(|(_, line)| line.contains(':')) {
        owners.entry(number(line)).or_default().push(name);
    }
    // root and toor are one on purpose: what was so before may stay.
    let new = |name: &&str| !was.lines.contains_key(name);
    let mut owners = owners.into_iter();
    owners.any(|(number, names)| !number.is_empty() && names.len() > 1 && names.iter().any(new))
}

/// The lines of one version by their names.
struct List<'a> {
    lines: BTreeMap<&'a str, &'a str>,
    order: Vec<&'a str>,
}

impl<'a> List<'a> {
    /// None if a name is there twice.
    fn parse(text: &'a str) -> Option<Self> {
        let mut list = List {
            lines: BTreeMap::new(),
            order: Vec::new(),
        };
        for line in text.lines() {
            let name = match line.split_once(':') {
                Some((name, _)) if !line.starts_with('#') => name,
                Some(_) | None => line,
            };
            let again = list.lines.insert(name, line).is_some();
            if again && !(line.is_empty() || line.starts_with('#')) {
                return None;
            }
            if !again {
                list.order.push(name);
            }
        }
        Some(list)
    }

    fn line(&self, name: &str) -> Option<&'a str> {
        self.lines.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "# accounts\nroot:*:0:0::/root:/bin/sh\ntoor:*:0:0::/root:\ndaemon:*:1:1::/:\nnobody:*:65534:65534::/:\n";

    fn with(after: &str, line: &str) -> String {
        let at = BASE
            .find(after)
            .and_then(|at| BASE[at..].find('\n').map(|end| at + end + 1));
        let at = at.expect("it is there");
        format!("{}{line}\n{}", &BASE[..at], &BASE[at..])
    }

    #[test]
    fn both_may_add_at_one_place() {
        let ours = format!("{BASE}alice:*:1001:1001::/home/alice:/bin/sh\n+::::\n");
        let theirs = format!("{BASE}_new:*:999:999::/:\n");
        assert_eq!(
            merge(BASE, &ours, &theirs, true),
            Some(format!(
                "{BASE}_new:*:999:999::/:\nalice:*:1001:1001::/home/alice:/bin/sh\n+::::\n"
            ))
        );
    }

    #[test]
    fn each_side_keeps_what_it_has_done() {
        let ours = BASE.replace("root:*:", "root:$6$hash:");
        let theirs = with("daemon", "_tss:*:601:601::/:").replace("nobody:*:65534:65534::/:\n", "");
        assert_eq!(
            merge(BASE, &ours, &theirs, true).as_deref(),
            Some(
                "# accounts\nroot:$6$hash:0:0::/root:/bin/sh\ntoor:*:0:0::/root:\ndaemon:*:1:1::/:\n_tss:*:601:601::/:\n"
            )
        );
        // Removed here, and untouched there.
        let ours = BASE.replace("daemon:*:1:1::/:\n", "");
        assert_eq!(merge(BASE, &ours, BASE, true), Some(ours.clone()));
        // A member of a group, and a group of the release.
        let base = "root:*:0:\nwheel:*:10:root\n";
        assert_eq!(
            merge(
                base,
                "root:*:0:\nwheel:*:10:root,alice\n",
                "root:*:0:\nvideo:*:44:\nwheel:*:10:root\n",
                true
            )
            .as_deref(),
            Some("root:*:0:\nvideo:*:44:\nwheel:*:10:root,alice\n")
        );
    }

    #[test]
    fn what_both_have_changed_is_a_conflict() {
        let ours = BASE.replace("daemon:*:1:1::/:", "daemon:*:1:1::/:/bin/sh");
        let theirs = BASE.replace("daemon:*:1:1::/:", "daemon:*:1:1::/var:");
        assert_eq!(merge(BASE, &ours, &theirs, true), None);
        let gone = BASE.replace("daemon:*:1:1::/:\n", "");
        assert_eq!(merge(BASE, &ours, &gone, true), None);
        // A name twice is no list of names.
        assert_eq!(merge(BASE, &format!("{BASE}{BASE}"), BASE, true), None);
    }

    #[test]
    fn two_new_names_do_not_become_one_account() {
        let ours = format!("{BASE}deploy:*:999:999::/home/deploy:/bin/sh\n");
        let theirs = format!("{BASE}_new:*:999:999::/:\n");
        assert_eq!(merge(BASE, &ours, &theirs, true), None);
        // In shadow the third field is a date.
        assert!(merge(BASE, &ours, &theirs, false).is_some());
    }
}
