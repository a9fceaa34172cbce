//! Gives the accounts of a new world the numbers that they have in the site.
//!
//! A file belongs to a number. So numbers are moved, not names, and two names of one number (root and toor) move
//! together. Two numbers never become one: if a number moves to one that files of the world may have without an
//! account, those files get another number.
//! This module must not access files.

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::WorldError;
use super::{Accounts, FIRST_OF_PEOPLE, Kind, LAST, Ledger, Moves, is_fixed};

/// The lowest number that a system account can get; free numbers are looked for downwards.
const LAST_OF_SYSTEM: u32 = 100;

/// The numbers that exist in jails of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The count of ids, from 0 on; `None` if all ids of the kernel exist.
    pub ids: Option<u32>,
}

impl Limits {
    /// Whether an account with this number keeps it whatever the ledger has, and is not added to the ledger.
    pub(super) fn leaves(self, number: u32) -> bool {
        is_fixed(number) || self.ids.is_some_and(|ids| number >= ids)
    }
}

/// An account whose number differs from the one in its world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renumbered {
    /// Whether the account is a user or a group.
    pub kind: Kind,
    /// The name of the account.
    pub name: String,
    /// The number in the world.
    pub from: u32,
    /// The number in the site.
    pub to: u32,
}

/// The result of assigning numbers to a world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assigned {
    /// The new numbers of its files and account files.
    pub moves: Moves,
    /// The accounts that get another number, in the order of their texts.
    pub renumbered: Vec<Renumbered>,
    /// The ledger with the accounts of this world.
    pub ledger: Ledger,
    /// Messages for the administrator.
    pub warnings: Vec<String>,
}

/// Assigns numbers to a world's accounts by the ledger of its site.
///
/// # Errors
/// [`WorldError::NumbersUsedUp`].
pub fn assign(world: &Accounts, ledger: &Ledger, limits: Limits) -> Result<Assigned, WorldError> {
    let mut free = Free::new(
        Kind::both().flat_map(|kind| ledger.numbers(kind)),
        world,
        limits,
    );
    let mut assigned = Assigned {
        ledger: ledger.clone(),
        ..Assigned::default()
    };
    // Numbers that users got, which groups with the same names get, too.
    let mut made: BTreeMap<&str, u32> = BTreeMap::new();
    for kind in Kind::both() {
        one_kind(kind, world, limits, &mut free, &mut made, &mut assigned)?;
    }
    Ok(assigned)
}

/// Compares a world that keeps its numbers with the ledger, and returns the differences and the new ledger.
pub fn changed(world: &Accounts, ledger: &Ledger, limits: Limits) -> Assigned {
    let mut assigned = Assigned::default();
    for kind in Kind::both() {
        for (name, number) in world.of(kind) {
            let known = ledger.number(kind, name).filter(|known| known != number);
            if let Some(known) = known {
                assigned.warnings.push(format!(
                    "the {kind} {name} has the number {number}, and {known} in earlier worlds: its files in jails may become another's"
                ));
            }
        }
    }
    let mut own = Ledger::default();
    for kind in Kind::both() {
        for (name, number) in world.of(kind).iter().filter(|(_, n)| !limits.leaves(*n)) {
            own.add(kind, name, *number);
        }
    }
    assigned.ledger = ledger.clone();
    assigned.ledger.extend(&own);
    assigned
}

fn one_kind<'a>(
    kind: Kind,
    world: &'a Accounts,
    limits: Limits,
    free: &mut Free,
    made: &mut BTreeMap<&'a str, u32>,
    assigned: &mut Assigned,
) -> Result<(), WorldError> {
    // The names of each number, and the numbers in the order of the text.
    let mut names: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    let mut order = Vec::new();
    for (name, number) in world.of(kind) {
        let of = names.entry(*number).or_default();
        if of.is_empty() {
            order.push(*number);
        }
        of.push(name);
    }
    let known = assigned.ledger.clone();
    let mut targets: BTreeMap<u32, u32> = BTreeMap::new();
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    // The accounts that the site knows.
    for number in &order {
        let names = &names[number];
        let mut numbers = names.iter().filter_map(|name| known.number(kind, name));
        let Some(to) = numbers.next() else { continue };
        if limits.leaves(*number) {
            if to != *number {
                let warning = format!(
                    "the {kind} {} has the number {number} now, and {to} in earlier worlds",
                    names.join(", ")
                );
                assigned.warnings.push(warning);
            }
        } else if taken.insert(to) {
            if numbers.any(|other| other != to) {
                let warning = format!(
                    "{} are one {kind} now, and had numbers of their own in earlier worlds",
                    names.join(" and ")
                );
                assigned.warnings.push(warning);
            }
            targets.insert(*number, to);
        } else {
            let warning = format!(
                "the {kind} {} has a number of its own now, and shared {to} with another in earlier worlds",
                names.join(", ")
            );
            assigned.warnings.push(warning);
        }
    }
    // New accounts that can keep their numbers, then those that cannot.
    let new = |targets: &BTreeMap<u32, u32>| {
        let open = |number: &&u32| !limits.leaves(**number) && !targets.contains_key(*number);
        order.iter().filter(open).copied().collect::<Vec<_>>()
    };
    for number in new(&targets) {
        if !known.has(kind, number) && taken.insert(number) {
            targets.insert(number, number);
        }
    }
    for number in new(&targets) {
        let like = names[&number]
            .iter()
            .find_map(|name| made.get(name).copied());
        let to = match like.filter(|to| !taken.contains(to)) {
            Some(to) => to,
            None => free.take(number, kind)?,
        };
        taken.insert(to);
        targets.insert(number, to);
        if kind == Kind::User {
            made.extend(names[&number].iter().map(|name| (*name, to)));
        }
    }
    for number in &order {
        let Some(to) = targets.get(number).copied() else {
            continue;
        };
        for name in &names[number] {
            assigned.ledger.add(kind, name, to);
            if to != *number {
                assigned.renumbered.push(Renumbered {
                    kind,
                    name: (*name).to_owned(),
                    from: *number,
                    to,
                });
            }
        }
    }
    let moves: BTreeMap<u32, u32> = targets
        .into_iter()
        .filter(|(from, to)| from != to)
        .collect();
    // Files that have such a number without an account must not become the account's. They get the number that became
    // free at the other end, unless that belongs to another account.
    let from: BTreeMap<u32, u32> = moves.iter().map(|(from, to)| (*to, *from)).collect();
    for end in moves.values().filter(|to| !names.contains_key(to)) {
        let mut left = *end;
        while let Some(before) = from.get(&left) {
            left = *before;
        }
        let to = if known.has(kind, left) {
            free.take(left, kind)?
        } else {
            left
        };
        assigned.moves.of(kind).insert(*end, to);
    }
    assigned.moves.of(kind).extend(moves);
    Ok(())
}

impl Kind {
    /// Iterates over users, then groups.
    pub(super) fn both() -> impl Iterator<Item = Kind> {
        [Kind::User, Kind::Group].into_iter()
    }
}

/// Finds numbers that neither users nor groups have.
pub(super) struct Free {
    used: BTreeSet<u32>,
    last: u32,
    /// The next number to try for a system account, downwards.
    system: u32,
    /// The next number to try for people, upwards.
    people: u32,
}

impl Free {
    pub(super) fn new(used: impl Iterator<Item = u32>, world: &Accounts, limits: Limits) -> Free {
        let own = Kind::both()
            .flat_map(|kind| world.of(kind))
            .map(|(_, number)| *number);
        let last = limits
            .ids
            .map_or(LAST, |ids| LAST.min(ids.saturating_sub(1)));
        Free {
            used: used
                .chain(own)
                .chain(world.primary.iter().copied())
                .collect(),
            last,
            system: FIRST_OF_PEOPLE - 1,
            people: FIRST_OF_PEOPLE,
        }
    }

    /// Marks numbers that no account may get.
    pub(super) fn avoid(&mut self, numbers: impl Iterator<Item = u32>) {
        self.used.extend(numbers);
    }

    /// Returns a free number for an account that had the number `like`.
    pub(super) fn take(&mut self, like: u32, kind: Kind) -> Result<u32, WorldError> {
        while like < FIRST_OF_PEOPLE && self.system >= LAST_OF_SYSTEM {
            let number = self.system;
            self.system -= 1;
            if self.used.insert(number) {
                return Ok(number);
            }
        }
        while self.people <= self.last {
            let number = self.people;
            self.people += 1;
            if self.used.insert(number) {
                return Ok(number);
            }
        }
        Err(WorldError::NumbersUsedUp { kind })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINUX: Limits = Limits { ids: Some(65536) };

    fn accounts(users: &str, groups: &str) -> Accounts {
        let list = |text: &str| -> String {
            text.split_whitespace()
                .map(|word| word.replace('=', ":x:") + ":\n")
                .collect()
        };
        let mut accounts = Accounts::default();
        accounts.add(list(users).as_bytes(), Kind::User);
        accounts.add(list(groups).as_bytes(), Kind::Group);
        accounts
    }

    fn told(assigned: &Assigned) -> String {
        let of = |it: &Renumbered| format!("{} {} {}>{}", it.kind, it.name, it.from, it.to);
        assigned
            .renumbered
            .iter()
            .map(of)
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn after(first: &Accounts, second: &Accounts) -> Assigned {
        let ledger = assign(first, &Ledger::default(), LINUX)
            .expect("room")
            .ledger;
        assign(second, &ledger, LINUX).expect("room")
    }

    #[test]
    fn a_known_account_keeps_its_number_and_a_new_one_gets_a_free_one() {
        let first = accounts("root=0 db=102 nobody=65534", "root=0 db=102");
        let second = accounts(
            "root=0 db=101 www=102 nobody=65534",
            "root=0 db=101 www=102",
        );
        let found = after(&first, &second);
        assert_eq!(
            told(&found),
            "user db 101>102; user www 102>999; group db 101>102; group www 102>999"
        );
        // Files that have 999 without an account do not become www's.
        assert_eq!(
            found.moves.users,
            BTreeMap::from([(101, 102), (102, 999), (999, 101)])
        );
        assert_eq!(found.warnings, [""; 0]);
        // A third world gets the numbers of the second.
        let third = assign(&second, &found.ledger, LINUX).expect("room");
        assert_eq!((told(&third), &third.ledger), (told(&found), &found.ledger));
        // A world that has its numbers already keeps them.
        let done = accounts("root=0 db=102 www=999", "root=0 db=102 www=999");
        let again = assign(&done, &found.ledger, LINUX).expect("room");
        assert!(again.moves.is_empty() && again.ledger == found.ledger);
    }

    #[test]
    fn the_number_of_an_account_that_went_is_no_others() {
        let ledger = after(&accounts("a=998 b=1000", ""), &accounts("", "")).ledger;
        let found = assign(&accounts("c=998 d=1000 e=999", ""), &ledger, LINUX).expect("room");
        // 999 is the number of an account that is new.
        assert_eq!(told(&found), "user c 998>997; user d 1000>1001");
    }

    #[test]
    fn names_of_one_number_move_together() {
        let found = after(
            &accounts("root=0 toor=0 a=50 z=60", ""),
            &accounts("root=0 toor=0 a=40 b=40 c=50 z=0", ""),
        );
        assert_eq!(told(&found), "user a 40>50; user b 40>50; user c 50>999");
        assert_eq!(found.ledger.number(Kind::User, "b"), Some(50));
        assert_eq!(found.ledger.number(Kind::User, "z"), Some(60));
        assert!(
            found.warnings[0].contains("z has the number 0 now, and 60"),
            "{found:?}"
        );
        // Accounts that shared a number and now have two, and accounts that had two and now share one.
        let apart = assign(&accounts("a=50 b=51", ""), &found.ledger, LINUX).expect("room");
        assert_eq!(told(&apart), "");
        assert!(apart.warnings[0].contains("shared 50"), "{apart:?}");
        let one = after(&accounts("a=5 b=6", ""), &accounts("a=6 b=6", ""));
        assert_eq!(told(&one), "user a 6>5; user b 6>5");
        assert!(one.warnings[0].contains("a and b are one user"), "{one:?}");
    }

    #[test]
    fn files_without_an_account_do_not_become_an_accounts() {
        let found = after(&accounts("db=102", ""), &accounts("db=101", ""));
        // 102 has no account in the new world, and may have files there.
        assert_eq!(found.moves.users, BTreeMap::from([(101, 102), (102, 101)]));
        assert_eq!(told(&found), "user db 101>102");
        // 101 once belonged to another account.
        let mut ledger = assign(&accounts("db=102", ""), &Ledger::default(), LINUX)
            .expect("room")
            .ledger;
        ledger.add(Kind::User, "gone", 101);
        let found = assign(&accounts("db=101", ""), &ledger, LINUX).expect("room");
        assert_eq!(found.moves.users, BTreeMap::from([(101, 102), (102, 999)]));
    }

    #[test]
    fn what_no_jail_has_and_what_means_the_same_everywhere_stays() {
        let first = accounts("nobody=65534 huge=100000 root=0", "nogroup=65534");
        let ledger = assign(&first, &Ledger::default(), LINUX)
            .expect("room")
            .ledger;
        assert_eq!(ledger, Ledger::default());
        let second = accounts("nobody=99 huge=70000 root=5", "");
        let found = assign(&second, &ledger, LINUX).expect("room");
        assert_eq!(told(&found), "");
        assert_eq!(found.ledger.number(Kind::User, "huge"), None);
        // On a system without a limit all numbers exist in jails.
        let all = assign(&first, &ledger, Limits { ids: None }).expect("room");
        assert_eq!(all.ledger.number(Kind::User, "huge"), Some(100_000));
        // No world at all.
        let none = assign(&Accounts::default(), &found.ledger, LINUX).expect("room");
        assert_eq!(none.ledger, found.ledger);
    }

    #[test]
    fn used_up_numbers_are_told() {
        let many = |range: std::ops::RangeInclusive<u32>, name: &str| {
            let words: Vec<String> = range.map(|n| format!("{name}{n}={n}")).collect();
            accounts(&words.join(" "), "")
        };
        let found =
            assign(&many(1..=100_000, "a"), &Ledger::default(), LINUX).expect("as they are");
        assert!(found.moves.is_empty());
        let refused = assign(&many(1..=3, "b"), &found.ledger, LINUX);
        assert!(matches!(
            refused,
            Err(WorldError::NumbersUsedUp { kind: Kind::User })
        ));
        // A hundred thousand accounts that all move.
        let free = Limits { ids: None };
        let ledger = assign(&many(1..=20_000, "a"), &Ledger::default(), free)
            .expect("room")
            .ledger;
        let found = assign(&many(1..=20_000, "b"), &ledger, free).expect("room");
        assert_eq!(found.renumbered.len(), 20_000);
    }

    #[test]
    fn numbers_that_are_kept_are_compared() {
        let first = accounts("db=102 huge=70000", "");
        let ledger = changed(&first, &Ledger::default(), LINUX).ledger;
        assert_eq!(ledger.text(), "# ezz accounts 1\nuser db 102\n");
        let found = changed(&accounts("db=101 www=5", ""), &ledger, LINUX);
        assert!(
            found.moves.is_empty() && found.warnings.len() == 1,
            "{found:?}"
        );
        assert!(found.warnings[0].contains("db has the number 101, and 102"));
        assert_eq!(found.ledger.number(Kind::User, "www"), Some(5));
    }

    fn world() -> impl Strategy<Value = Accounts> {
        let list = || proptest::collection::vec(("[a-h]", 0_u32..12), 0..10);
        let fixed = |list: Vec<(String, u32)>| {
            let of = |(name, number): (String, u32)| match number {
                10 => (name, 65534),
                11 => (name, 70_000),
                other => (name, other),
            };
            let mut seen = BTreeSet::new();
            let list = list.into_iter().map(of);
            list.filter(|(name, _)| seen.insert(name.clone())).collect()
        };
        (list(), list()).prop_map(move |(users, groups)| Accounts {
            users: fixed(users),
            groups: fixed(groups),
            primary: Vec::new(),
        })
    }

    proptest! {
        /// For any sequence of worlds, an account that has a number keeps it, and no number gets a second account
        /// unless the world itself has both under one number.
        #[test]
        fn no_file_passes_from_one_account_to_another(worlds in proptest::collection::vec(world(), 1..6)) {
            let mut ledger = Ledger::default();
            for world in worlds {
                let found = assign(&world, &ledger, LINUX).expect("room");
                for kind in Kind::both() {
                    let moves = if kind == Kind::User { &found.moves.users } else { &found.moves.groups };
                    let to: BTreeSet<u32> = moves.values().copied().collect();
                    prop_assert_eq!(to.len(), moves.len());
                    prop_assert!(moves.keys().chain(&to).all(|n| !LINUX.leaves(*n)));
                    // The number that moves away from a target does not stay there.
                    prop_assert!(to.iter().all(|n| moves.contains_key(n)
                        || !world.of(kind).iter().any(|(_, own)| own == n)));
                    for number in ledger.numbers(kind) {
                        prop_assert!(found.ledger.has(kind, number));
                    }
                    for (name, number) in world.of(kind).iter().filter(|(_, n)| !LINUX.leaves(*n)) {
                        let is = moves.get(number).copied().unwrap_or(*number);
                        let known = ledger.number(kind, name);
                        let alone = world.of(kind).iter().filter(|(_, n)| n == number).count() == 1;
                        let once = known.is_some_and(|known| {
                            "abcdefgh".chars().filter(|c| ledger.number(kind, &c.to_string()) == Some(known)).count() == 1
                        });
                        if alone && once {
                            prop_assert_eq!(Some(is), known);
                        }
                        if alone && known.is_none() {
                            prop_assert!(!ledger.has(kind, is));
                        }
                    }
                }
                let again = Ledger::parse(&found.ledger.text()).expect("a ledger");
                prop_assert_eq!(&again, &found.ledger);
                ledger = found.ledger;
            }
        }
    }
}
