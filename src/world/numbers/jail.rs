//! Translates the accounts of a skeleton for a jail, which may know them by other numbers. An account that the jail has
//! keeps its number there, since the jail's files carry it. A new account gets a free number if the jail has given its
//! number to another account.
//! This module must not decide what happens to a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::super::error::WorldError;
use super::super::manifest;
use super::super::meta::Meta;
use super::super::text::TEXT_MAX;
use super::accounts::{TEXTS, rewritten};
use super::assign::{Free, Limits};
use super::{Accounts, Kind, Moves, is_fixed, of_base};
use crate::profile::{Profile, RelPath};

/// The numbers of two skeletons in one jail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::world) struct Owners {
    /// The moves for the skeleton that the jail's files come from.
    old: Moves,
    /// The moves for the skeleton that the files are brought to.
    new: Moves,
    /// Accounts whose number the jail has given to another.
    taken: Vec<Taken>,
    /// The accounts in `taken` that have the same number in the old skeleton: the jail has renamed them, or given their
    /// number to another account, before this merge.
    renamed: Vec<Taken>,
    /// Whether the jail's lists are too long to be read, so that its numbers are not known.
    unread: bool,
}

/// An account of a release that owns files of the base by a number that belongs to another account in the jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Whether the account is a user or a group.
    pub kind: Kind,
    /// The account of the release.
    pub name: String,
    /// The number of the account.
    pub number: u32,
    /// The account that has this number in the jail.
    pub by: String,
}

impl Taken {
    /// Whether a path is that of the text that lists accounts of this kind.
    pub(in crate::world) fn is_in(&self, path: &RelPath) -> bool {
        path.as_bytes() == self.text().as_bytes()
    }

    /// Returns the path of the text that lists accounts of this kind.
    pub(in crate::world) fn list(&self) -> Option<RelPath> {
        RelPath::parse(self.text().as_bytes()).ok()
    }

    fn text(&self) -> &'static str {
        match self.kind {
            Kind::User => "etc/passwd",
            Kind::Group => "etc/group",
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Taken {
            kind,
            name,
            number,
            by,
        } = self;
        write!(
            f,
            "files of the release belong to the {kind} {name} by the number {number}, which is {by}'s in the jail"
        )
    }
}

/// Which skeleton a version of a file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::world) enum Side {
    /// The skeleton that the jail's files come from.
    Old,
    /// The skeleton that they are brought to.
    New,
}

/// The accounts of two skeletons, which are the same for all jails that go from one to the other.
#[derive(Debug)]
pub(in crate::world) struct Skeletons {
    old: Accounts,
    new: Accounts,
    /// The numbers that the site has used for accounts. A removed account may have left files in a jail.
    used: Vec<u32>,
}

impl Skeletons {
    /// Reads the accounts of both skeletons, and the ledger of the base of the new generation, if it is known.
    pub(in crate::world) fn read(
        old: &Path,
        new: &Path,
        base: Option<&Path>,
    ) -> Result<Skeletons, WorldError> {
        let mut used = Vec::new();
        if let Some(base) = base {
            let ledger = of_base(base)?;
            Kind::both().for_each(|kind| used.extend(ledger.numbers(kind)));
        }
        Ok(Skeletons {
            old: Accounts::read(old)?,
            new: Accounts::read(new)?,
            used,
        })
    }
}

impl Owners {
    /// Reads the accounts of a jail. If its texts are too long to be read, nothing is translated.
    pub(in crate::world) fn read(
        skeletons: &Skeletons,
        jail: &Path,
        profile: &Profile,
    ) -> Result<Owners, WorldError> {
        let Some(own) = Accounts::read_up_to(jail, TEXT_MAX)? else {
            return Ok(Owners {
                unread: true,
                ..Owners::default()
            });
        };
        let limits = Limits { ids: profile.ids };
        let Skeletons { old, new, used } = skeletons;
        Owners::of(old, new, &own, used, limits)
    }

    fn of(
        old: &Accounts,
        new: &Accounts,
        own: &Accounts,
        used: &[u32],
        limits: Limits,
    ) -> Result<Owners, WorldError> {
        let numbers = |accounts: &Accounts| -> Vec<u32> {
            let listed = Kind::both()
                .flat_map(|kind| accounts.of(kind))
                .map(|(_, n)| *n);
            listed.chain(accounts.primary.iter().copied()).collect()
        };
        let mut free = Free::new(numbers(own).into_iter(), new, limits);
        free.avoid(numbers(old).into_iter());
        free.avoid(used.iter().copied());
        let mut owners = Owners::default();
        // Numbers that users got, which groups with the same names get, too.
        let mut made: BTreeMap<&str, u32> = BTreeMap::new();
        for kind in Kind::both() {
            let jail = Listed::of(own, kind);
            let known = |name: &str| {
                let number = jail.by_name.get(name).copied();
                number.filter(|number| limits.ids.is_none_or(|ids| *number < ids))
            };
            for (name, number) in old.of(kind).iter().filter(|(_, n)| !is_fixed(*n)) {
                if let Some(is) = known(name).filter(|is| is != number) {
                    owners.old.of(kind).entry(*number).or_insert(is);
                }
            }
            let before: BTreeMap<&str, u32> = old
                .of(kind)
                .iter()
                .filter(|(_, n)| !is_fixed(*n))
                .map(|(name, n)| (name.as_str(), *n))
                .collect();
            let moves = owners.new.of(kind);
            let mut seen = BTreeSet::new();
            let mut strangers = Vec::new();
            for (name, number) in new.of(kind).iter().filter(|(_, n)| !is_fixed(*n)) {
                match known(name) {
                    Some(is) if is == *number => {
                        seen.insert(*number);
                    }
                    Some(is) if seen.insert(*number) => {
                        moves.insert(*number, is);
                        owners.taken.extend(jail.taken(kind, name, *number));
                    }
                    Some(_) => {}
                    // The jail has renamed or removed the account, and its files of the account carry the old number.
                    None => match before.get(name.as_str()) {
                        Some(was) if seen.insert(*number) => {
                            if was == number {
                                owners.renamed.extend(jail.taken(kind, name, *number));
                            } else {
                                moves.insert(*number, *was);
                                owners.taken.extend(jail.taken(kind, name, *number));
                            }
                        }
                        Some(_) => {}
                        None => strangers.push((name, *number)),
                    },
                }
            }
            for (name, number) in strangers {
                if !seen.contains(&number) && jail.has(number) {
                    let to = match made.get(name.as_str()).filter(|_| kind == Kind::Group) {
                        Some(to) => *to,
                        None => free.take(number, kind)?,
                    };
                    made.insert(name, to);
                    moves.insert(number, to);
                    owners.taken.extend(jail.taken(kind, name, number));
                    seen.insert(number);
                }
            }
        }
        Ok(owners)
    }

    /// Whether a file of the release would belong to an account of which the jail's number is not known.
    pub(in crate::world) fn unknown(&self, meta: &Meta) -> bool {
        self.unread && !(is_fixed(meta.uid) && is_fixed(meta.gid))
    }

    /// Whether the jail knows all accounts of both skeletons by the numbers that they have there.
    pub(in crate::world) fn agree(&self) -> bool {
        self.old.is_empty() && self.new.is_empty()
    }

    /// Returns the metadata of a skeleton's file with the owners that it has in the jail.
    pub(in crate::world) fn owner_in_jail(&self, side: Side, meta: &Meta) -> Meta {
        self.moves(side).meta(meta)
    }

    /// Returns an account file of a skeleton with the jail's numbers; other texts stay as they are.
    pub(in crate::world) fn text_in_jail(
        &self,
        side: Side,
        path: &RelPath,
        text: String,
    ) -> String {
        let kind = TEXTS
            .iter()
            .find(|(name, _)| name.as_bytes() == path.as_bytes());
        let moved = kind.and_then(|(_, kind)| rewritten(text.as_bytes(), *kind, self.moves(side)));
        // Digits replace digits, so a text that was UTF-8 still is.
        let moved = moved.and_then(|bytes| String::from_utf8(bytes).ok());
        moved.unwrap_or(text)
    }

    /// Returns the accounts whose numbers the jail has given to other accounts, and that own shared files of the base.
    /// If the old skeleton already had the number, an account counts only if it owns no shared file of the old base:
    /// for the others nothing changes. The bases are read only if there are such accounts.
    pub(in crate::world) fn taken_in(
        &self,
        base: &Path,
        old_base: Option<&Path>,
        profile: &Profile,
    ) -> Result<Vec<Taken>, WorldError> {
        if self.taken.is_empty() && self.renamed.is_empty() {
            return Ok(Vec::new());
        }
        let owners = |base: &Path| manifest::owners(base, |path| profile.is_shared(path));
        let (users, groups) = owners(base)?;
        let carried = |taken: &&Taken| match taken.kind {
            Kind::User => users.contains(&taken.number),
            Kind::Group => groups.contains(&taken.number),
        };
        let mut all: Vec<Taken> = self.taken.iter().filter(carried).cloned().collect();
        let renamed: Vec<&Taken> = self.renamed.iter().filter(carried).collect();
        if let (false, Some(old_base)) = (renamed.is_empty(), old_base) {
            let (users, groups) = owners(old_base)?;
            let as_before = |taken: &&Taken| match taken.kind {
                Kind::User => users.contains(&taken.number),
                Kind::Group => groups.contains(&taken.number),
            };
            let new = renamed.into_iter().filter(|taken| !as_before(taken));
            all.extend(new.cloned());
        }
        Ok(all)
    }

    /// Returns the renamed account that owns a file that the release adds, if there is one. An account whose number the
    /// jail has given to another counts as renamed.
    pub(in crate::world) fn renamed_owner(&self, meta: &Meta) -> Option<&Taken> {
        self.renamed.iter().find(|taken| match taken.kind {
            Kind::User => taken.number == meta.uid,
            Kind::Group => taken.number == meta.gid,
        })
    }

    fn moves(&self, side: Side) -> &Moves {
        match side {
            Side::Old => &self.old,
            Side::New => &self.new,
        }
    }
}

/// The accounts of one kind in a jail.
struct Listed<'a> {
    by_name: BTreeMap<&'a str, u32>,
    by_number: BTreeMap<u32, Vec<&'a str>>,
    primary: BTreeSet<u32>,
}

impl<'a> Listed<'a> {
    fn of(accounts: &'a Accounts, kind: Kind) -> Self {
        let mut by_number: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for (name, number) in accounts.of(kind) {
            by_number.entry(*number).or_default().push(name);
        }
        let of_users = accounts.primary.iter().filter(|_| kind == Kind::Group);
        Listed {
            by_name: accounts
                .of(kind)
                .iter()
                .map(|(name, n)| (name.as_str(), *n))
                .collect(),
            by_number,
            primary: of_users.copied().collect(),
        }
    }

    fn has(&self, number: u32) -> bool {
        self.by_number.contains_key(&number) || self.primary.contains(&number)
    }

    fn taken(&self, kind: Kind, name: &str, number: u32) -> Option<Taken> {
        let by = match self.by_number.get(&number) {
            Some(names) if names.contains(&name) => return None,
            Some(names) => names.first().copied().unwrap_or_default(),
            None if self.primary.contains(&number) => "a user without a group entry",
            None => return None,
        };
        Some(Taken {
            kind,
            name: name.to_owned(),
            number,
            by: by.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: Limits = Limits { ids: Some(65536) };

    fn accounts(users: &str, groups: &str) -> Accounts {
        let mut accounts = Accounts::default();
        let lines = |text: &str| text.replace(' ', "\n");
        accounts.add(lines(users).as_bytes(), Kind::User);
        accounts.add(lines(groups).as_bytes(), Kind::Group);
        accounts
    }

    fn owners(old: &Accounts, new: &Accounts, jail: &Accounts) -> Owners {
        Owners::of(old, new, jail, &[], LINUX).expect("room")
    }

    #[test]
    fn an_account_that_the_jail_has_keeps_its_number() {
        let old = accounts("root:x:0:0 db:x:102:102", "db:x:102:");
        let new = accounts(
            "root:x:0:0 db:x:101:101 www:x:102:102",
            "db:x:101: www:x:102:",
        );
        let found = owners(&old, &new, &old);
        assert!(found.old.is_empty() && !found.agree());
        // In the jail, db has the number of www.
        assert_eq!(found.new.users, BTreeMap::from([(101, 102), (102, 999)]));
        assert_eq!(found.new.groups, BTreeMap::from([(101, 102), (102, 999)]));
        let path = RelPath::parse(b"etc/passwd").expect("a path");
        assert_eq!(
            found.text_in_jail(
                Side::New,
                &path,
                "db:x:101:101::\nwww:x:102:102::\n".to_owned()
            ),
            "db:x:102:102::\nwww:x:999:999::\n"
        );
        let told: Vec<String> = found.taken.iter().map(ToString::to_string).collect();
        assert!(
            told[0].contains("user www by the number 102, which is db's"),
            "{told:?}"
        );
        assert_eq!(told.len(), 2);
        // An account that the jail has keeps its number, also in the next release.
        let jail = accounts(
            "root:x:0:0 db:x:102:102 www:x:999:999",
            "db:x:102: www:x:999:",
        );
        let next = owners(&new, &new, &jail);
        assert_eq!((&next.old, &next.new), (&found.new, &found.new));
    }

    #[test]
    fn what_the_jail_does_not_have_keeps_its_number_where_that_is_free() {
        let old = accounts("", "");
        let new = accounts("a:x:50:60 b:x:51:51 n:x:65534:65534", "a:x:60:");
        let jail = accounts("mine:x:51:60 n:x:5:5", "");
        let found = owners(&old, &new, &jail);
        assert_eq!(found.new.users, BTreeMap::from([(51, 999)]));
        // The primary group of a user of the jail that has no entry.
        assert_eq!(found.new.groups, BTreeMap::from([(60, 998)]));
        assert!(owners(&new, &new, &new).agree());
        // Numbers that cannot exist in jails are ignored.
        let hostile = accounts("a:x:70000:0 b:x:4294967295:0", "");
        assert!(owners(&old, &new, &hostile).agree());
    }
}
