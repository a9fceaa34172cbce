//! Numbers of accounts, which are continuous in a site: no file passes from one account to another because a
//! release gives its accounts other numbers.
//!
//! The [`Ledger`] says which number each account of a family of worlds has. It lies in each sealed base and
//! only grows. [`assign`] finds out how a new world has to be renumbered by it, [`renumber`] does that to its
//! files, and `Owners` translates what a jail takes of a skeleton into that jail's own numbers.
//! Must not be here: where earlier ledgers come from.

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

/// The kernel's number for owners that it cannot show; a jail's nobody.
const OVERFLOW: u32 = 65534;

/// The last number that an account is given.
const LAST: u32 = 65533;

/// Numbers below are those of a system's own accounts.
const FIRST_OF_PEOPLE: u32 = 1000;

/// Whether a number means the same account everywhere, and stays what it is.
pub(in crate::world) const fn is_fixed(number: u32) -> bool {
    matches!(number, 0 | OVERFLOW)
}

/// Which numbers become which. No two become the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// Those of users.
    pub users: BTreeMap<u32, u32>,
    /// Those of groups.
    pub groups: BTreeMap<u32, u32>,
}

impl Moves {
    /// Whether all numbers stay.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// What a number becomes, if it does not stay.
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

    /// What a file has, with the owners and the entries of its access control lists moved.
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
