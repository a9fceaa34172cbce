//! Merges lists of accounts name by name and field by field. Two names that were added at the same place do not
//! conflict. Neither do a shell that one side has changed and a comment that the other has changed.
//!
//! passwd(5), group(5) and similar files have a line for each name, with fields between colons. A line without a colon
//! (a comment) is its own name. Lines of NIS begin with `+` or `-` and stay last. A jail chose one of the texts, so the
//! work is linear in the number of lines, except for the sorting.

use std::collections::{BTreeMap, BTreeSet};

/// The index of the number's field in passwd(5) and group(5).
const NUMBER: usize = 2;

/// The index of the field in passwd(5) that has the number of the user's group.
const GROUP: usize = 3;

/// The number of fields of group(5) and gshadow(5), whose last field lists the members.
const OF_GROUPS: usize = 4;

/// Merges three versions of a list. Returns `None` if both sides have changed one field in different ways, or, with
/// `numbered`, have given one number to two new names, which would make them one account.
pub(super) fn merge(base: &str, ours: &str, theirs: &str, numbered: bool) -> Option<String> {
    let (was, own, new) = (List::parse(base)?, List::parse(ours)?, List::parse(theirs)?);
    let mut result = BTreeMap::new();
    for key in own.lines.keys().chain(new.lines.keys()) {
        if result.contains_key(key) {
            continue;
        }
        let versions = (was.line(key), own.line(key), new.line(key));
        result.insert(*key, line(versions, numbered)?);
    }
    if numbered && clash(&was, [&own, &new], &result) {
        return None;
    }
    let mut text = String::new();
    for line in order(&own, &new)
        .iter()
        .filter_map(|key| result.get(key)?.as_deref())
    {
        text.push_str(line);
        text.push('\n');
    }
    Some(text)
}

/// Merges three versions of the line of one name; returns `None` if they conflict.
fn line(
    (was, own, new): (Option<&str>, Option<&str>, Option<&str>),
    numbered: bool,
) -> Option<Option<String>> {
    if own == was || own == new {
        return Some(new.map(str::to_owned));
    }
    if new == was {
        return Some(own.map(str::to_owned));
    }
    let (own, new) = (own?, new?);
    let fields = |line: &str| -> Vec<String> { line.split(':').map(str::to_owned).collect() };
    let (own, new) = (fields(own), fields(new));
    // Both sides have added the name: a field that one has left empty gets the value of the other.
    let was = was.map_or_else(|| vec![String::new(); own.len()], fields);
    if own.len() != was.len() || own.len() != new.len() || own.len() < 2 {
        return None;
    }
    let count = own.len();
    let versions = was.iter().zip(own.iter().zip(&new)).enumerate();
    let merged = versions.map(|(at, (was, (own, new)))| match (numbered, count, at) {
        // In gshadow(5) the third field lists the administrators of the group.
        (true, OF_GROUPS, 3) | (false, OF_GROUPS, 2 | 3) => Some(members(was, own, new)),
        (true, _, NUMBER) | (true, _, GROUP) => {
            of_three(was, own, new, |a, b| number(a) == number(b))
        }
        _ => of_three(was, own, new, |a, b| a == b),
    });
    let merged: Option<Vec<String>> = merged.collect();
    merged.map(|fields| Some(fields.join(":")))
}

/// Merges three versions of a field; returns `None` if both sides have changed it.
fn of_three(was: &str, own: &str, new: &str, same: impl Fn(&str, &str) -> bool) -> Option<String> {
    if same(own, was) {
        Some(new.to_owned())
    } else if same(new, was) || same(own, new) {
        Some(own.to_owned())
    } else {
        None
    }
}

/// Merges three versions of a list of names between commas, which is a set: the result has the names that either side
/// has added, and lacks those that either side has removed.
fn members(was: &str, own: &str, new: &str) -> String {
    fn names(text: &str) -> Vec<&str> {
        text.split(',').filter(|name| !name.is_empty()).collect()
    }
    let set = |text| -> BTreeSet<&str> { names(text).into_iter().collect() };
    let (before, ours, theirs) = (set(was), set(own), set(new));
    let stays = names(own)
        .into_iter()
        .filter(|name| theirs.contains(name) || !before.contains(name));
    let comes = names(new)
        .into_iter()
        .filter(|name| !ours.contains(name) && !before.contains(name));
    stays.chain(comes).collect::<Vec<_>>().join(",")
}

/// Returns a number as programs that look up an account read it: `0999` is 999. A text that is not a number is returned
/// as it is.
fn number(text: &str) -> Result<u64, &str> {
    let text = text.trim();
    text.parse().map_err(|_| text)
}

/// Whether the two sides have made one account of two names that are separate accounts on each side.
fn clash(
    was: &List<'_>,
    sides: [&List<'_>; 2],
    result: &BTreeMap<Key<'_>, Option<String>>,
) -> bool {
    let mut owners: BTreeMap<Result<u64, &str>, (Vec<Key<'_>>, bool)> = BTreeMap::new();
    for (key, line) in result {
        let Some(third) = line.as_deref().and_then(account) else {
            continue;
        };
        let (names, new) = owners.entry(third).or_default();
        names.push(*key);
        *new |= !was.lines.contains_key(key);
    }
    // root and toor share a number on purpose, also where one side has just added toor.
    let together = |list: &List<'_>, third: &Result<u64, &str>, names: &[Key<'_>]| {
        let mut names = names.iter();
        names.all(|key| list.line(key).and_then(account).as_ref() == Some(third))
    };
    owners.into_iter().any(|(third, (names, new))| {
        let one = || sides.iter().any(|list| together(list, &third, &names));
        names.len() > 1 && new && !one()
    })
}

/// Returns the number of an account in its line, if it has one.
fn account(line: &str) -> Option<Result<u64, &str>> {
    let third = line.split(':').nth(NUMBER).map(number);
    third.filter(|third| *third != Err(""))
}

/// Returns the keys in the jail's order; a key that the release has added follows the key that it follows there.
fn order<'a>(own: &List<'a>, new: &List<'a>) -> Vec<Key<'a>> {
    let added = |key: &Key<'a>| !own.lines.contains_key(key);
    // The key that comes after each key, if the release has added it.
    let mut after: BTreeMap<Option<Key<'a>>, Key<'a>> = BTreeMap::new();
    let mut before = None;
    for key in &new.order {
        if added(key) {
            after.insert(before, *key);
        }
        before = Some(*key);
    }
    let mut order = Vec::with_capacity(own.order.len() + after.len());
    let follow = |order: &mut Vec<Key<'a>>, after: &mut BTreeMap<_, Key<'a>>, mut at| {
        while let Some(next) = after.remove(&at) {
            order.push(next);
            at = Some(next);
        }
    };
    follow(&mut order, &mut after, None);
    let is_nis = |key: &Key<'_>| key.0.starts_with(['+', '-']);
    let mut ended = false;
    for key in &own.order {
        if is_nis(key) && !ended {
            ended = true;
            // Only lines of NIS come after the first line of NIS.
            let rest = new.order.iter().filter(|key| added(key) && !is_nis(key));
            let done: BTreeSet<Key<'a>> = order.iter().copied().collect();
            order.extend(rest.filter(|key| !done.contains(*key)));
            after.retain(|_, key| is_nis(key));
        }
        order.push(*key);
        follow(&mut order, &mut after, Some(*key));
    }
    order
}

/// The name of a line and its index among equal names, since comments and empty lines may occur more than once.
type Key<'a> = (&'a str, usize);

/// The lines of one version by their keys.
struct List<'a> {
    lines: BTreeMap<Key<'a>, &'a str>,
    order: Vec<Key<'a>>,
}

impl<'a> List<'a> {
    /// Parses a text; returns `None` if a name occurs twice.
    fn parse(text: &'a str) -> Option<Self> {
        let mut list = List {
            lines: BTreeMap::new(),
            order: Vec::new(),
        };
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for line in text.lines() {
            let name = match line.split_once(':') {
                Some((name, _)) if !line.starts_with('#') => name,
                Some(_) | None => line,
            };
            let count = seen.entry(name).or_insert(0);
            if *count > 0 && !(line.is_empty() || line.starts_with('#')) {
                return None;
            }
            let key = (name, *count);
            *count += 1;
            list.lines.insert(key, line);
            list.order.push(key);
        }
        Some(list)
    }

    fn line(&self, key: &Key<'_>) -> Option<&'a str> {
        self.lines.get(key).copied()
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
        // The jail has removed a line that the release has not touched.
        let ours = BASE.replace("daemon:*:1:1::/:\n", "");
        assert_eq!(merge(BASE, &ours, BASE, true), Some(ours.clone()));
        // The jail has added a member to a group, and the release has added a group.
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
        let ours = BASE.replace("daemon:*:1:1::/:", "daemon:*:1:1::/mine:");
        let theirs = BASE.replace("daemon:*:1:1::/:", "daemon:*:1:1::/var:");
        assert_eq!(merge(BASE, &ours, &theirs, true), None);
        let gone = BASE.replace("daemon:*:1:1::/:\n", "");
        assert_eq!(merge(BASE, &ours, &gone, true), None);
        // A text that has a name twice is not a list of names.
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

    #[test]
    fn names_that_one_side_has_under_one_number_are_no_conflict() {
        let base = "root:x:0:0::/root:/bin/sh\ndb:x:102:102::/:\n";
        let both = format!("{base}toor:x:0:0::/root:\nbackup:x:102:102::/:\n");
        let theirs = base.replace("db:x:102:102::", "db:x:102:102:new:");
        let merged = both.replace("db:x:102:102::", "db:x:102:102:new:");
        // The jail has both names, or the release brings both.
        assert_eq!(merge(base, &both, &theirs, true), Some(merged.clone()));
        assert_eq!(merge(base, &theirs, &both, true), Some(merged));
        // One name from each side are still two accounts.
        let (ours, theirs) = (
            format!("{base}a:x:0:0::/:\n"),
            format!("{base}b:x:0:0::/:\n"),
        );
        assert_eq!(merge(base, &ours, &theirs, true), None);
    }

    #[test]
    fn fields_are_merged_by_themselves() {
        // The jail has changed the shell, and the release the comment.
        let base = "root:x:0:0:root:/root:/bin/sh\nd:x:1:1::/:\n";
        let ours = "root:x:0:0:root:/root:/bin/zsh\nd:x:1:1::/:\n";
        let theirs = "root:x:0:0:Charlie Root:/root:/bin/sh\nd:x:1:1::/:\n";
        assert_eq!(
            merge(base, ours, theirs, true).as_deref(),
            Some("root:x:0:0:Charlie Root:/root:/bin/zsh\nd:x:1:1::/:\n")
        );
        // A field that both have changed is a conflict, and so is a line of another form.
        let sh = |shell: &str| base.replace("/bin/sh", shell);
        assert_eq!(merge(base, &sh("/a"), &sh("/b"), true), None);
        assert_eq!(merge(base, &sh("/a:more"), &sh("/b"), true), None);
        assert_eq!(merge(base, &sh("/a"), &sh("/a"), true), Some(sh("/a")));
        // Both have added a name: fields that differ conflict, unless one of them is empty.
        let (a, b) = (
            base.to_owned() + "n:x:9:9:::\n",
            base.to_owned() + "n:x:9:9:N::\n",
        );
        assert_eq!(merge(base, &a, &b, true), Some(b.clone()));
        assert_eq!(merge(base, &a, &b.replace(":9:9", ":8:8"), true), None);
    }

    #[test]
    fn members_of_a_group_are_a_set() {
        let of = |members: &str| format!("wheel:*:0:{members}\n");
        for (was, own, new, merged) in [
            ("root", "root,alice", "root,bob", "root,alice,bob"),
            ("root,a,b", "root,b", "root,a,b,c", "root,b,c"),
            ("root,a,b", "b,a,root,x", "root,b", "b,root,x"),
            ("a", "", "a,b", "b"),
            ("", "a", "a", "a"),
            ("a,b", "b", "a", ""),
        ] {
            let told = merge(&of(was), &of(own), &of(new), true);
            assert_eq!(told, Some(of(merged)), "{was:?} {own:?} {new:?}");
        }
        // Administrators in gshadow(5) are merged, too.
        let told = merge("g:!:a:\n", "g:!:a,b:m\n", "g:!:a,c:n\n", false);
        assert_eq!(told.as_deref(), Some("g:!:a,b,c:m,n\n"));
        // Both have added the same group.
        let told = merge("r:x:0:\n", "r:x:0:\ng:x:5:a\n", "r:x:0:\ng:x:5:b\n", true);
        assert_eq!(told.as_deref(), Some("r:x:0:\ng:x:5:a,b\n"));
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let ours = format!("{BASE}deploy:*:0999:0999::/home/deploy:/bin/sh\n");
        let theirs = format!("{BASE}_new:*:999:999::/:\n");
        assert_eq!(
            merge(BASE, &ours, &theirs, true),
            None,
            "one account of two"
        );
        let ours = BASE.replace("daemon:*:1:1::/:", "daemon:*:01:001::/:/bin/sh");
        let theirs = BASE.replace("daemon:*:1:1:", "daemon:*:1:2:");
        let told = merge(BASE, &ours, &theirs, true).expect("it is the same number");
        assert!(told.contains("daemon:*:1:2::/:/bin/sh\n"), "{told}");
        // In shadow(5) the numbers are dates, which are compared as text.
        assert_eq!(merge("a:*:1:\n", "a:*:2:\n", "a:*:3:\n", true), None);
    }

    #[test]
    fn comments_and_odd_lines_stay() {
        let base = "#\n# a\n#\n\nroot:*:0:0::/root:/bin/sh\n\n";
        let theirs = format!("{base}new:*:5:5::/:\n");
        let ours = base.replace("# a", "# mine");
        let told = merge(base, &ours, &theirs, true).expect("no conflict");
        assert_eq!(told, format!("{ours}new:*:5:5::/:\n"));
        // A text without root, an empty text, one with a NUL, and one without a last newline are accepted as they are.
        assert_eq!(
            merge(base, "", &theirs, true).as_deref(),
            Some("new:*:5:5::/:\n")
        );
        assert_eq!(merge("", "", "", true).as_deref(), Some(""));
        assert_eq!(
            merge("", "a:\0:1:1", "", true).as_deref(),
            Some("a:\0:1:1\n")
        );
        // Lines of NIS stay last, also if other lines follow them in the release.
        assert_eq!(
            merge("a:x\n+\n", "a:x\n+\n", "a:x\n+\nb:x\n", false).as_deref(),
            Some("a:x\nb:x\n+\n")
        );
    }

    /// Quadratic work would take minutes.
    #[test]
    fn a_hundred_thousand_lines_take_a_moment() {
        let lines = |range: std::ops::Range<u32>| -> String {
            range.map(|n| format!("n{n}:*:{n}:{n}::/:\n")).collect()
        };
        let (ours, theirs) = (lines(0..100_000), lines(50_000..150_000));
        let begun = std::time::Instant::now();
        let told = merge("", &ours, &theirs, true).expect("no conflict");
        assert_eq!(told.lines().count(), 150_000);
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
        // The same holds for members.
        let of = |range: std::ops::Range<u32>| -> String {
            let names: Vec<String> = range.map(|n| format!("n{n}")).collect();
            format!("g:*:1:{}\n", names.join(","))
        };
        let told = merge("g:*:1:\n", &of(0..90_000), &of(45_000..130_000), true);
        assert_eq!(told.map(|told| told.matches('n').count()), Some(130_000));
    }
}
