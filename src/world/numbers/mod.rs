//! Keeps the numbers of accounts the same throughout a site, so that no file passes from one account to another because
//! a release numbers its accounts differently.
//!
//! The [`Ledger`] has the number of each account of a family of worlds. It is stored in each sealed base and only
//! grows. [`assign`] computes from it how a new world must be renumbered, [`renumber`] applies that to the files of the
//! world, and `Owners` translates the files that a jail gets from a skeleton into the numbers of that jail.
//! This module must not know where earlier ledgers come from.

mod accounts;
mod assign;
mod jail;
mod ledger;
mod walk;

use std::collections::BTreeMap;

pub use accounts::{Accounts, Kind, rewritten};
pub use assign::{Assigned, Limits, Renumbered, assign, changed};
pub use jail::Taken;
pub(super) use jail::{Owners, Side, Skeletons};
pub(super) use ledger::FILE;
pub use ledger::{Ledger, of_base, write};
pub use walk::renumber;

use super::acl;
use super::meta::{ACL_ACCESS, ACL_DEFAULT, Meta};

/// The number that the kernel shows for owners that it cannot map; in a jail, nobody.
const OVERFLOW: u32 = 65534;

/// The greatest number that an account is given.
const LAST: u32 = 65533;

/// Lower numbers are those of system accounts.
const FIRST_OF_PEOPLE: u32 = 1000;

/// Whether a number means the same account everywhere, and never changes.
pub(in crate::world) const fn is_fixed(number: u32) -> bool {
    matches!(number, 0 | OVERFLOW)
}

/// Which numbers become which. No two numbers become the same one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// The old and new numbers of users.
    pub users: BTreeMap<u32, u32>,
    /// The old and new numbers of groups.
    pub groups: BTreeMap<u32, u32>,
}

impl Moves {
    /// Whether no number changes.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// Returns the new number, or `None` if the number stays.
    pub(super) fn moved(&self, kind: Kind, number: u32) -> Option<u32> {
        let moves = match kind {
            Kind::User => &self.users,
            Kind::Group => &self.groups,
        };
        moves.get(&number).copied()
    }

    fn of(&mut self, kind: Kind) -> &mut BTreeMap<u32, u32> {
        match kind {
            Kind::User => &mut self.users,
            Kind::Group => &mut self.groups,
        }
    }

    /// Returns the metadata of a file with new numbers in its owners and access control lists.
    pub(super) fn meta(&self, meta: &Meta) -> Meta {
        let owner = |kind, number| self.moved(kind, number).unwrap_or(number);
        let attribute = |(name, value): &(String, Vec<u8>)| {
            let list = matches!(name.as_str(), ACL_ACCESS | ACL_DEFAULT);
            let moved = list.then(|| acl::moved(value, self)).flatten();
            (name.clone(), moved.unwrap_or_else(|| value.clone()))
        };
        Meta {
            uid: owner(Kind::User, meta.uid),
            gid: owner(Kind::Group, meta.gid),
            attributes: meta.attributes.iter().map(attribute).collect(),
            ..meta.clone()
        }
    }
}
