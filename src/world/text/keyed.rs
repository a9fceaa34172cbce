//! Lists of accounts, merged name by name and field by field: two names that were added at the same place
//! are no conflict, nor is a shell that one side has changed and a comment that the other has.
//!
//! passwd(5), group(5) and their like have a line for each name, with fields between colons. Lines
//! without a colon (comments) are their own names; lines of NIS begin with `+` or `-` and stay last. A jail
//! chose one of the texts: the work is linear in their lines, but for the sorting.

use std::collections::{BTreeMap, BTreeSet};

/// The field of a number in passwd(5) and group(5).
const NUMBER: usize = 2;

/// The number of a user's group in passwd(5).
const GROUP: usize = 3;

/// How many fields group(5) and gshadow(5) have; the last are the members.
const OF_GROUPS: usize = 4;

/// Three versions of a list as one; none if both sides have made different things of one field, or, where
/// `numbered`, have given two new names one number, which would make them one account.
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

/// Three versions of the line of one name: what becomes of it, or none if they are in conflict.
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
    // Both have added the name: what one has left empty, the other has said.
    let was = was.map_or_else(|| vec![String::new(); own.len()], fields);
    if own.len() != was.len() || own.len() != new.len() || own.len() < 2 {
        return None;
    }
    let count = own.len();
    let versions = was.iter().zip(own.iter().zip(&new)).enumerate();
    let merged = versions.map(|(at, (was, (own, new)))| match (numbered, count, at) {
        // In gshadow(5) the third are the administrators of the group.
        (true, OF_GROUPS, 3) | (false, OF_GROUPS, 2 | 3) => Some(members(was, own, new)),
        (true, _, NUMBER) | (true, _, GROUP) => {
            of_three(was, own, new, |a, b| number(a) == number(b))
        }
        _ => of_three(was, own, new, |a, b| a == b),
    });
    let merged: Option<Vec<String>> = merged.collect();
    merged.map(|fields| Some(fields.join(":")))
}

/// Three versions of a field, if not both have changed it.
fn of_three(was: &str, own: &str, new: &str, same: impl Fn(&str, &str) -> bool) -> Option<String> {
    if same(own, was) {
        Some(new.to_owned())
    } else if same(new, was) || same(own, new) {
        Some(own.to_owned())
    } else {
        None
    }
}

/// Three versions of a list of names between commas, which is a set: what either has added is there, what
/// either has removed is not.
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

/// A number as who looks an account up reads it: `0999` is 999. What is none is its text.
fn number(text: &str) -> Result<u64, &str> {
    let text = text.trim();
    text.parse().map_err(|_| text)
}

/// Whether the two sides have made one account of two names that are not one on either side.
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
    // root and toor are one on purpose, also where one side has just made toor.
    let together = |list: &List<'_>, third: &Result<u64, &str>, names: &[Key<'_>]| {
        let mut names = names.iter();
        names.all(|key| list.line(key).and_then(account).as_ref() == Some(third))
    };
    owners.into_iter().any(|(third, (names, new))| {
        let one = || sides.iter().any(|list| together(list, &third, &names));
        names.len() > 1 && new && !one()
    })
}

/// The number of an account in its line, if it has one.
fn account(line: &str) -> Option<Result<u64, &str>> {
    let third = line.split(':').nth(NUMBER).map(number);
    third.filter(|third| *third != Err(""))
}

/// The jail's order; what the release has added follows what it follows there.
fn order<'a>(own: &List<'a>, new: &List<'a>) -> Vec<Key<'a>> {
    let added = |key: &Key<'a>| !own.lines.contains_key(key);
    // What comes after each, if that is added.
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
            // Nothing but lines of NIS comes after the first of them.
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

/// The name of a line, and the how manieth it is: of comments and empty lines there may be several.
type Key<'a> = (&'a str, usize);

/// The lines of one version by their names.
struct List<'a> {
    lines: BTreeMap<Key<'a>, &'a str>,
    order: Vec<Key<'a>>,
}

impl<'a> List<'a> {
    /// None if a name is there twice.
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
        let ours = BASE.replace("daemon:*:1:1::/:", "daemon:*:1:1::/mine:");
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

    #[test]
    fn names_that_one_side_has_under_one_number_are_no_conflict() {
        let base = "root:x:0:0::/root:/bin/sh\ndb:x:102:102::/:\n";
        let both = format!("{base}toor:x:0:0::/root:\nbackup:x:102:102::/:\n");
        let theirs = base.replace("db:x:102:102::", "db:x:102:102:new:");
        let merged = both.replace("db:x:102:102::", "db:x:102:102:new:");
        // The jail has them, or the release brings them.
        assert_eq!(merge(base, &both, &theirs, true), Some(merged.clone()));
        assert_eq!(merge(base, &theirs, &both, true), Some(merged));
        // One from each side are two accounts still.
        let (ours, theirs) = (
            format!("{base}a:x:0:0::/:\n"),
            format!("{base}b:x:0:0::/:\n"),
        );
        assert_eq!(merge(base, &ours, &theirs, true), None);
    }

    #[test]
    fn fields_are_merged_by_themselves() {
        // Your shell, and the release's comment.
        let base = "root:x:0:0:root:/root:/bin/sh\nd:x:1:1::/:\n";
        let ours = "root:x:0:0:root:/root:/bin/zsh\nd:x:1:1::/:\n";
        let theirs = "root:x:0:0:Charlie Root:/root:/bin/sh\nd:x:1:1::/:\n";
        assert_eq!(
            merge(base, ours, theirs, true).as_deref(),
            Some("root:x:0:0:Charlie Root:/root:/bin/zsh\nd:x:1:1::/:\n")
        );
        // One field that both have changed is a conflict, as is a line of another form.
        let sh = |shell: &str| base.replace("/bin/sh", shell);
        assert_eq!(merge(base, &sh("/a"), &sh("/b"), true), None);
        assert_eq!(merge(base, &sh("/a:more"), &sh("/b"), true), None);
        assert_eq!(merge(base, &sh("/a"), &sh("/a"), true), Some(sh("/a")));
        // Both have added a name: what is not the same is a conflict, or was left open by one.
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
        // In gshadow(5) administrators are, too.
        let told = merge("g:!:a:\n", "g:!:a,b:m\n", "g:!:a,c:n\n", false);
        assert_eq!(told.as_deref(), Some("g:!:a,b,c:m,n\n"));
        // A group that both have added.
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
        // In shadow(5) they are dates, and those are texts.
        assert_eq!(merge("a:*:1:\n", "a:*:2:\n", "a:*:3:\n", true), None);
    }

    #[test]
    fn comments_and_odd_lines_stay() {
        let base = "#\n# a\n#\n\nroot:*:0:0::/root:/bin/sh\n\n";
        let theirs = format!("{base}new:*:5:5::/:\n");
        let ours = base.replace("# a", "# mine");
        let told = merge(base, &ours, &theirs, true).expect("no conflict");
        assert_eq!(told, format!("{ours}new:*:5:5::/:\n"));
        // No root, nothing at all, a NUL, no newline at the end: as they are.
        assert_eq!(
            merge(base, "", &theirs, true).as_deref(),
            Some("new:*:5:5::/:\n")
        );
        assert_eq!(merge("", "", "", true).as_deref(), Some(""));
        assert_eq!(
            merge("", "a:\0:1:1", "", true).as_deref(),
            Some("a:\0:1:1\n")
        );
        // Lines of NIS stay last, also behind what follows them in the release.
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
        // Members are no less.
        let of = |range: std::ops::Range<u32>| -> String {
            let names: Vec<String> = range.map(|n| format!("n{n}")).collect();
            format!("g:*:1:{}\n", names.join(","))
        };
        let told = merge("g:*:1:\n", &of(0..90_000), &of(45_000..130_000), true);
        assert_eq!(told.map(|told| told.matches('n').count()), Some(130_000));
    }
}
