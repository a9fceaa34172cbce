//! Lists of accounts, in a merge and on its way back: an account that owns files of the jail is never removed. On the
//! way back, lists are merged entry by entry.
//! Must not be here: any other file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::error::WorldError;
use super::super::numbers::{Owners as Numbers, Side, is_fixed};
use super::super::progress::{Cancel, Context};
use super::super::text::{Answer, By, Request};
use super::super::walk::{Visit, walk};
use super::difference::Difference;
use super::kept::{Kept, Why};
use super::texts::{Ask, text_of};
use crate::profile::{MergedBy, RelPath};

/// How many fields group(5) and gshadow(5) have, and no list of users.
const OF_GROUPS: usize = 4;

/// The field of a number in passwd(5) and group(5).
const NUMBER: usize = 2;

/// The field of a user's group in passwd(5).
const GROUP: usize = 3;

/// Three versions of one list.
#[derive(Debug)]
pub(super) struct List {
    /// Whether its third field is a number.
    pub(super) numbered: bool,
    /// What the merge wrote.
    pub(super) base: String,
    /// The jail's.
    pub(super) ours: String,
    /// What was before the merge.
    pub(super) theirs: String,
}

/// All lists that come back.
#[derive(Debug, Default)]
pub(super) struct Lists(BTreeMap<RelPath, List>);

/// Accounts that would be removed, and that stay.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Owners {
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
    /// Those of them that own no file, and stay since a list that has them cannot be changed.
    listed: BTreeSet<String>,
}

/// What becomes of one list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// The list; none if it stays as it is.
    pub(super) text: Option<String>,
    /// Names whose entries stay, since the jail has changed them since.
    pub(super) conflicts: Vec<String>,
    /// Names whose entries stay, since they own files.
    pub(super) own: Vec<String>,
    /// Names whose entries stay, since another list that has them cannot be changed.
    pub(super) listed: Vec<String>,
}

impl Merged {
    /// Notes an entry that stays.
    fn stays(&mut self, name: &str, owners: &Owners) {
        let names = match owners.listed.contains(name) {
            true => &mut self.listed,
            false => &mut self.own,
        };
        names.push(name.to_owned());
    }

    /// Whether entries stay that would be removed.
    pub(super) fn keeps(&self) -> bool {
        !self.own.is_empty() || !self.listed.is_empty()
    }

    /// Why entries stay that would be removed.
    pub(super) fn reasons(&self) -> impl Iterator<Item = Why> {
        let own = (!self.own.is_empty()).then(|| Why::Own(self.own.clone()));
        let listed = (!self.listed.is_empty()).then(|| Why::Listed(self.listed.clone()));
        own.into_iter().chain(listed)
    }
}

/// Names of accounts that a list has and that would be removed from it, although it cannot be changed.
#[derive(Debug, Default)]
pub(super) struct Fixed {
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl Fixed {
    /// Adds those that the merge wrote into a list, and that were not in it before.
    pub(super) fn add(&mut self, base: &str, theirs: &str) {
        let theirs = entries(theirs);
        for (name, line) in entries(base) {
            if !theirs.contains_key(name) {
                let names = match is_group(line) {
                    true => &mut self.groups,
                    false => &mut self.users,
                };
                names.insert(name.to_owned());
            }
        }
    }
}

impl Lists {
    pub(super) fn add(
        &mut self,
        path: RelPath,
        numbered: bool,
        base: String,
        ours: String,
        theirs: String,
    ) {
        let list = List {
            numbered,
            base,
            ours,
            theirs,
        };
        self.0.insert(path, list);
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (&RelPath, &List)> {
        self.0.iter()
    }

    /// Which of the accounts that would be removed own files of the jail, other than those that are removed
    /// themselves, or are in a list that cannot be changed. The jail is walked only if an account would be removed.
    /// Where the walk cannot be completed, or something is mounted, all of them count.
    pub(super) fn owners(
        &self,
        jail: &Path,
        goes: &dyn Fn(&RelPath) -> bool,
        fixed: &Fixed,
        cancel: &Cancel,
    ) -> Result<Owners, WorldError> {
        let (mut users, mut groups) = (BTreeMap::new(), BTreeMap::new());
        for list in self.0.values().filter(|list| list.numbered) {
            let (ours, theirs) = (entries(&list.ours), entries(&list.theirs));
            let base = entries(&list.base);
            // Two names of one number, such as root and toor: the number stays an account's with either.
            let shared: BTreeSet<u32> = theirs
                .iter()
                .filter_map(|(name, line)| {
                    let was = number(base.get(name)?, NUMBER);
                    was.filter(|was| number(line, NUMBER) == Some(*was))
                })
                .collect();
            for (name, line) in base {
                let its = number(line, NUMBER);
                if theirs.contains_key(name)
                    || !ours.contains_key(name)
                    || its.is_some_and(|its| is_fixed(its) || shared.contains(&its))
                {
                    continue;
                }
                match (is_group(line), number(line, NUMBER)) {
                    (true, Some(gid)) => drop(groups.insert(name, gid)),
                    (false, Some(uid)) => drop(users.insert(name, (uid, number(line, GROUP)))),
                    (_, None) => {}
                }
            }
        }
        let mut owners = Owners::default();
        if users.is_empty() && groups.is_empty() {
            owners.stay(fixed);
            return Ok(owners);
        }
        let of_users: BTreeSet<u32> = users.values().map(|(uid, _)| *uid).collect();
        let of_groups: BTreeSet<u32> = groups.values().copied().collect();
        let (mut uids, mut gids) = (BTreeSet::new(), BTreeSet::new());
        let walked = walk(jail, cancel, &mut |node| {
            // What is on another file system is not looked at, and a mount may hide files.
            if node.is_mount {
                uids.extend(&of_users);
                gids.extend(&of_groups);
            }
            if !goes(node.path) {
                uids.extend(of_users.get(&node.stat.st_uid));
                gids.extend(of_groups.get(&node.stat.st_gid));
            }
            let all = uids.len() == of_users.len() && gids.len() == of_groups.len();
            Ok(if all { Visit::Skip } else { Visit::Enter })
        });
        match walked {
            Ok(()) => {}
            Err(WorldError::Interrupted) => return Err(WorldError::Interrupted),
            // The jail runs, or has made a tree that is deeper than a path can be long.
            Err(_) => (uids, gids) = (of_users, of_groups),
        }
        for (name, (uid, group)) in users {
            if uids.contains(&uid) {
                owners.users.insert(name.to_owned());
            }
            // The group of an account that stays.
            if uids.contains(&uid) || fixed.users.contains(name) {
                gids.extend(group);
            }
        }
        let stays = groups.into_iter().filter(|(_, gid)| gids.contains(gid));
        owners.groups.extend(stays.map(|(name, _)| name.to_owned()));
        owners.stay(fixed);
        Ok(owners)
    }
}

impl Owners {
    /// Adds the accounts of a list that cannot be changed.
    fn stay(&mut self, fixed: &Fixed) {
        for (own, fixed) in [
            (&mut self.users, &fixed.users),
            (&mut self.groups, &fixed.groups),
        ] {
            let listed = fixed.difference(own).cloned().collect::<BTreeSet<_>>();
            own.extend(listed.iter().cloned());
            self.listed.extend(listed);
        }
    }
}

impl List {
    /// The entries that would be removed, of accounts that stay.
    fn staying(&self, owners: &Owners) -> Vec<(&str, &str)> {
        let (ours, theirs) = (entries(&self.ours), entries(&self.theirs));
        let stays = |(name, line): &(&str, &str)| {
            let of = if is_group(line) {
                &owners.groups
            } else {
                &owners.users
            };
            of.contains(*name) && !theirs.contains_key(name) && ours.contains_key(name)
        };
        entries(&self.base).into_iter().filter(stays).collect()
    }

    /// The new version of the list with the entries of accounts that stay, and why they do. None if there are no such
    /// accounts.
    fn with_staying(&self, owners: &Owners) -> Option<(String, Merged)> {
        let staying = self.staying(owners);
        if staying.is_empty() {
            return None;
        }
        let mut text = self.theirs.clone();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let mut merged = Merged::default();
        for (name, line) in staying {
            text.push_str(line);
            text.push('\n');
            merged.stays(name, owners);
        }
        Some((text, merged))
    }
}

/// Three versions of a list as one, in which what the jail has changed since stays, and what owns files.
///
/// # Errors
/// [`WorldError::Interrupted`]; there is no process that could answer.
pub(super) fn back(list: &List, owners: &Owners, ask: &mut Ask<'_>) -> Result<Merged, WorldError> {
    let mut merged = Merged::default();
    let mut theirs: Vec<&str> = list.theirs.lines().collect();
    let (base, ours) = (entries(&list.base), entries(&list.ours));
    let before = entries(&list.theirs);
    for (name, line) in list.staying(owners) {
        theirs.push(line);
        merged.stays(name, owners);
    }
    let by = if list.numbered { By::Account } else { By::Name };
    let mut merge = |base: &str, ours: &str, theirs: &str| {
        ask(Request::Merge {
            by,
            base,
            ours,
            theirs,
        })
    };
    let text = |lines: &[&str]| {
        lines
            .iter()
            .flat_map(|line| [line, "\n"])
            .collect::<String>()
    };
    match merge(&list.base, &list.ours, &text(&theirs))? {
        Answer::Text(text) => {
            merged.text = Some(text);
            return Ok(merged);
        }
        Answer::Conflict => {}
        Answer::TooDifferent | Answer::NoAnswer => return Ok(merged),
    }
    // One entry after the other: what is in conflict is as if the merge had not written it.
    let names: BTreeSet<&str> = base.keys().chain(before.keys()).copied().collect();
    for name in names {
        let versions = [base.get(name), ours.get(name), before.get(name)];
        let [was, own, new] = versions.map(|line| line.map_or("", |line| *line));
        let mut staying = merged.own.iter().chain(&merged.listed);
        if was == new || own == was || own == new || staying.any(|it| it == name) {
            continue;
        }
        if matches!(merge(was, own, new)?, Answer::Text(_)) {
            continue;
        }
        theirs.retain(|line| name_of(line) != Some(name));
        theirs.extend(base.get(name));
        merged.conflicts.push(name.to_owned());
    }
    if list.numbered {
        // A number that another account of the jail has by now.
        let taken: BTreeSet<u32> = ours.values().filter_map(|it| number(it, NUMBER)).collect();
        let comes = |name: &str| !base.contains_key(name) && !ours.contains_key(name);
        theirs.retain(|line| {
            let Some(name) = name_of(line).filter(|name| comes(name)) else {
                return true;
            };
            let free = number(line, NUMBER).is_none_or(|number| !taken.contains(&number));
            if !free {
                merged.conflicts.push(name.to_owned());
            }
            free
        });
    }
    if let Answer::Text(text) = merge(&list.base, &list.ours, &text(&theirs))? {
        merged.text = Some(text);
    }
    Ok(merged)
}

/// What a merge does about accounts that the release removes and that own files of the jail.
pub(super) struct Staying {
    /// Lists as the release has them, with the entries of these accounts.
    pub(super) texts: BTreeMap<RelPath, String>,
    /// The notes about them.
    pub(super) kept: Vec<Kept>,
}

/// Finds the accounts that the release removes and whose numbers files of the jail carry. They stay in all lists: without
/// them the files would belong to the next account that gets the number. `removed` are the files that go with the
/// accounts, `fixed` the lists that cannot be changed.
///
/// # Errors
/// [`WorldError`]: a list cannot be read; interrupted.
pub(super) fn staying(
    difference: &Difference,
    numbers: &Numbers,
    jail: &Path,
    (removed, fixed): (&BTreeSet<RelPath>, &BTreeMap<RelPath, Why>),
    context: &Context<'_>,
) -> Result<Staying, WorldError> {
    let (mut lists, mut stays) = (Lists::default(), Fixed::default());
    for path in difference.paths() {
        let Some(by) = difference.own(path).by else {
            continue;
        };
        let (Some(base), Some(theirs)) = (
            text_of(difference.older(), path)?,
            text_of(difference.newer(), path)?,
        ) else {
            continue;
        };
        let base = numbers.text_in_jail(Side::Old, path, base);
        let theirs = numbers.text_in_jail(Side::New, path, theirs);
        if fixed.contains_key(path) {
            stays.add(&base, &theirs);
        }
        if let Some(ours) = text_of(jail, path)? {
            lists.add(path.clone(), by == MergedBy::Number, base, ours, theirs);
        }
    }
    let owners = lists.owners(
        jail,
        &|path| removed.contains(path),
        &stays,
        &context.cancel,
    )?;
    let mut staying = Staying {
        texts: BTreeMap::new(),
        kept: Vec::new(),
    };
    for (path, list) in lists.each() {
        if let Some((text, merged)) = list.with_staying(&owners) {
            if list.numbered {
                let path = || path.clone();
                let kept = merged.reasons().map(|why| Kept { path: path(), why });
                staying.kept.extend(kept);
            }
            staying.texts.insert(path.clone(), text);
        }
    }
    Ok(staying)
}

/// The lines of accounts by their names.
fn entries(text: &str) -> BTreeMap<&str, &str> {
    let named = |line| Some((name_of(line)?, line));
    text.lines().filter_map(named).collect()
}

fn name_of(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(':')?;
    (!line.starts_with(['#', '+', '-'])).then_some(name)
}

fn is_group(line: &str) -> bool {
    line.split(':').count() == OF_GROUPS
}

fn number(line: &str, field: usize) -> Option<u32> {
    line.split(':').nth(field)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(numbered: bool, [base, ours, theirs]: [&str; 3], owners: &Owners) -> Merged {
        let list = List {
            numbered,
            base: base.to_owned(),
            ours: ours.to_owned(),
            theirs: theirs.to_owned(),
        };
        let mut ask = |request: Request<'_>| Ok(super::super::super::text::answer(&request));
        back(&list, owners, &mut ask).expect("it answers")
    }

    #[test]
    fn what_the_merge_made_goes_and_what_it_removed_comes_back() {
        let base = "root:x:0:0::/root:/bin/sh\nnew:x:99:99::/:\n";
        let ours = "root:x:0:0::/root:/bin/zsh\nnew:x:99:99::/:\nalice:x:1001:1001::/:\n";
        let theirs = "root:x:0:0::/root:/bin/sh\nold:x:50:50::/:\n";
        let found = merged(true, [base, ours, theirs], &Owners::default());
        assert_eq!(
            found.text.as_deref(),
            Some("root:x:0:0::/root:/bin/zsh\nold:x:50:50::/:\nalice:x:1001:1001::/:\n")
        );
        assert_eq!((found.conflicts, found.own), (vec![], vec![]));
    }

    #[test]
    fn an_entry_that_the_jail_has_changed_since_keeps_no_other_from_coming_back() {
        let base = "root:x:0:0:new:/root:/bin/sh\nnew:x:99:99::/:\nd:x:1:1:new:/:\n";
        let ours = "root:x:0:0:mine:/root:/bin/sh\nnew:x:99:99::/mine:\nd:x:1:1:new:/:\n";
        let theirs = "root:x:0:0:old:/root:/bin/sh\nd:x:1:1:old:/:\n";
        let found = merged(true, [base, ours, theirs], &Owners::default());
        assert_eq!(
            found.text.as_deref(),
            Some("root:x:0:0:mine:/root:/bin/sh\nnew:x:99:99::/mine:\nd:x:1:1:old:/:\n")
        );
        assert_eq!(found.conflicts, ["new", "root"]);
        // An account does not come back to a number that another has by now.
        let base = "root:x:0:0:::\n";
        let found = merged(
            true,
            [
                base,
                "root:x:0:0:::\nmine:x:50:50:::\n",
                "root:x:0:0:::\nold:x:50:50:::\n",
            ],
            &Owners::default(),
        );
        assert_eq!(
            found.text.as_deref(),
            Some("root:x:0:0:::\nmine:x:50:50:::\n")
        );
        assert_eq!(found.conflicts, ["old"]);
        // What is no list of names stays as it is.
        let twice = "root:x:0:0:::\nroot:x:0:0:::\n";
        let found = merged(true, [base, twice, "root:x:0:0:a::\n"], &Owners::default());
        assert_eq!(found.text, None);
    }

    #[test]
    fn an_account_that_owns_files_stays_in_all_lists() {
        let owners = Owners {
            users: ["new".to_owned()].into(),
            groups: ["new".to_owned()].into(),
            ..Owners::default()
        };
        let lists = [
            (true, "new:x:99:99::/:\n"),
            (true, "new:x:99:\n"),
            (false, "new:!:1::::::\n"),
            (false, "new:!::\n"),
        ];
        for (numbered, line) in lists {
            let found = merged(numbered, [line, line, ""], &owners);
            assert_eq!(found.text.as_deref(), Some(line));
            assert_eq!(found.own, ["new"], "{line}");
            // One that the jail has removed itself does not come back.
            let found = merged(numbered, [line, "", ""], &owners);
            assert_eq!(
                (found.text.as_deref(), found.own),
                (Some(""), vec![]),
                "{line}"
            );
        }
    }
}
