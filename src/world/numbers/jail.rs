//! The accounts of a skeleton in a jail, which may know them by other numbers: an account that the jail has
//! keeps the number it has there, since the jail's files carry it, and a new one gets a free number where the
//! jail has given its number to another.
//! Must not be here: what happens to a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::super::error::WorldError;
use super::super::manifest;
use super::super::meta::Meta;
use super::super::text::TEXT_MAX;
use super::accounts::{TEXTS, rewritten};
use super::assign::{Free, Limits};
use super::{Accounts, Kind, Moves, is_fixed};
use crate::profile::{Profile, RelPath};

/// The numbers of two skeletons in one jail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::world) struct Owners {
    /// Those of the skeleton that the jail's files come from.
    old: Moves,
    /// Those of the one that they are brought to.
    new: Moves,
    /// Accounts whose number the jail has given to another.
    taken: Vec<Taken>,
}

/// An account of a release that files of the base belong to by a number that is another account's in the jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Of users or of groups.
    pub kind: Kind,
    /// The account of the release.
    pub name: String,
    /// Its number.
    pub number: u32,
    /// Who has this number in the jail.
    pub by: String,
}

impl Taken {
    /// Whether this is the text that lists the account.
    pub(in crate::world) fn is_in(&self, path: &RelPath) -> bool {
        let text = TEXTS.iter().find(|(_, kind)| *kind == self.kind);
        text.is_some_and(|(name, _)| name.as_bytes() == path.as_bytes())
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

/// Whose version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::world) enum Side {
    /// The skeleton's that the jail's files come from.
    Old,
    /// The skeleton's that they are brought to.
    New,
}

impl Owners {
    /// Reads the accounts of both skeletons and of the jail. Where the jail's are too long to be read, nothing
    /// is translated.
    pub(in crate::world) fn read(
        old: &Path,
        new: &Path,
        jail: &Path,
        profile: &Profile,
    ) -> Result<Owners, WorldError> {
        let Some(own) = Accounts::read_up_to(jail, TEXT_MAX)? else {
            return Ok(Owners::default());
        };
        let limits = Limits { ids: profile.ids };
        Owners::of(&Accounts::read(old)?, &Accounts::read(new)?, &own, limits)
    }

    fn of(
        old: &Accounts,
        new: &Accounts,
        own: &Accounts,
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
        let mut owners = Owners::default();
        // Numbers that were found for users, which groups of the same names get too.
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
                    None => strangers.push((name, *number)),
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

    /// Whether the jail knows all accounts of the new skeleton by the numbers that they have there.
    pub(in crate::world) fn agree(&self) -> bool {
        self.new.is_empty()
    }

    /// What a file of a skeleton has, with the owners that it has in the jail.
    pub(in crate::world) fn owner_in_jail(&self, side: Side, meta: &Meta) -> Meta {
        self.moves(side).meta(meta)
    }

    /// An account file of a skeleton with the jail's numbers; other texts as they are.
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
        // Digits in the place of digits: it is as much UTF-8 as before.
        let moved = moved.and_then(|bytes| String::from_utf8(bytes).ok());
        moved.unwrap_or(text)
    }

    /// The accounts whose numbers the jail has given to others, and that shared files of the base belong to.
    /// The base is read only if there are such accounts.
    pub(in crate::world) fn taken_in(
        &self,
        base: &Path,
        profile: &Profile,
    ) -> Result<Vec<Taken>, WorldError> {
        if self.taken.is_empty() {
            return Ok(Vec::new());
        }
        let (users, groups) = manifest::owners(base, |path| profile.is_shared(path))?;
        let carried = |taken: &&Taken| match taken.kind {
            Kind::User => users.contains(&taken.number),
            Kind::Group => groups.contains(&taken.number),
        };
        Ok(self.taken.iter().filter(carried).cloned().collect())
    }

    fn moves(&self, side: Side) -> &Moves {
        match side {
            Side::Old => &self.old,
            Side::New => &self.new,
        }
    }
}

/// The accounts of one kind that a jail has.
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
        Owners::of(old, new, jail, LINUX).expect("room")
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
        // The number of www is db's in the jail.
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
        // Once it is there, it has that number, and what comes with the next release too.
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
        // A group that a user of the jail has, without an entry.
        assert_eq!(found.new.groups, BTreeMap::from([(60, 998)]));
        assert!(owners(&new, &new, &new).agree());
        // Numbers that no jail has are no numbers.
        let hostile = accounts("a:x:70000:0 b:x:4294967295:0", "");
        assert!(owners(&old, &new, &hostile).agree());
    }
}
