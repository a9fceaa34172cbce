//! Determines the account as which a command in a jail runs, from the request and the text of the jail's passwd(5) and
//! group(5). This module is pure.
//!
//! The jail's own resolver (NSS, LDAP) is not asked, because that would run its code on the host. Both files are
//! hostile: they are read in linear time, and a number that the jail does not have is an error and never another
//! identity.

use std::collections::BTreeSet;

use super::jail_id::{JailId, JailIds, Outside};
use crate::name::JailName;
use crate::ports::HostError;

/// The number of groups that a process can have besides its own: `NGROUPS_MAX` of Linux, setgroups(2).
const GROUPS_MAX: usize = 65_536;

/// The longest name and the longest home directory, in bytes: `LOGIN_NAME_MAX` and `PATH_MAX` of Linux.
const NAME_MAX: usize = 256;
const HOME_MAX: usize = 4096;

/// The names of the files in messages.
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The account as which a command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name of the user, where it is known.
    pub name: Option<String>,
    /// The user id in the jail.
    pub uid: JailId,
    /// The group id in the jail.
    pub gid: JailId,
    /// The supplementary groups.
    pub groups: Vec<JailId>,
    /// The home directory.
    pub home: String,
}

/// The error for an account that cannot be determined from a jail's files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The request has a number that the jail does not have.
    #[error("{number} is not a {kind} id of this jail, whose ids are {ids}")]
    Asked {
        /// `user` or `group`.
        kind: &'static str,
        /// The number in the request.
        number: Outside,
        /// The ids that the jail has.
        ids: JailIds,
    },
    /// The jail has no user of that name.
    #[error("it has no user {0:?}")]
    NoUser(String),
    /// The jail has no group of that name.
    #[error("it has no group {0:?}")]
    NoGroup(String),
    /// One of the files has a number that the jail does not have.
    #[error("its {file} gives {whose} the {kind} id {number}, but the ids of this jail are {ids}")]
    Outside {
        /// The path of the file.
        file: &'static str,
        /// The owner of the number, such as `the user www` or `the group adm`.
        whose: String,
        /// `user` or `group`.
        kind: &'static str,
        /// The number in the file.
        number: Outside,
        /// The ids that the jail has.
        ids: JailIds,
    },
    /// One of the files is longer than the most that is read.
    #[error("its {0} is larger than 16 MiB")]
    TooLarge(String),
    /// The user is in more groups than a process can have.
    #[error("its {GROUP} lists the user {0:?} in more than {GROUPS_MAX} groups")]
    Groups(String),
}

impl AccountError {
    /// Converts it into the error for a command in a jail.
    pub(super) fn in_jail(self, jail: &JailName) -> HostError {
        let hint = match &self {
            AccountError::NoUser(_) | AccountError::NoGroup(_) => {
                format!("to see those that it has: ezz exec {jail} -- cat /etc/passwd /etc/group")
            }
            AccountError::Asked { .. } => {
                format!("to run it as the jail's root: ezz exec {jail} --user 0:0 -- COMMAND")
            }
            AccountError::Outside { .. } | AccountError::TooLarge(_) | AccountError::Groups(_) => {
                format!("to correct it as the jail's root: ezz exec {jail} --user 0:0 -- COMMAND")
            }
        };
        let asked = matches!(self, AccountError::Asked { .. });
        HostError::Account {
            jail: jail.clone(),
            why: self.to_string(),
            asked,
            hint,
        }
    }
}

/// The requested user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// No user was requested: the jail's root.
    Root,
    /// `USER` or `USER:GROUP`.
    User {
        /// The user, by name or by number.
        user: Id<'a>,
        /// The group, which replaces all groups of the user.
        group: Option<Id<'a>>,
    },
}

/// A user or a group as it was typed. Digits are always a number, never a name. Otherwise a jail could name a user
/// `1000` and give it the id 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id<'a> {
    /// An id, given in digits.
    Number(JailId),
    /// A name, to be looked up in passwd or group.
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    /// Parses the text that was typed; without one, the request is for root.
    ///
    /// # Errors
    /// [`AccountError::Asked`] for a number that the jail does not have.
    pub fn parse(text: Option<&'a str>, ids: JailIds) -> Result<Self, AccountError> {
        let Some(text) = text else {
            return Ok(Wanted::Root);
        };
        let id = |text: &'a str, kind| match ids.read(text.as_bytes()) {
            Some(Ok(id)) => Ok(Id::Number(id)),
            Some(Err(number)) => Err(AccountError::Asked { kind, number, ids }),
            None => Ok(Id::Name(text)),
        };
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(id(group, "group")?)),
            None => (text, None),
        };
        Ok(Wanted::User {
            user: id(user, "user")?,
            group,
        })
    }

    /// Reports whether passwd decides which account it is, and does not only add a name and a home directory.
    pub fn needs_passwd(&self) -> bool {
        !matches!(
            self,
            Wanted::User {
                user: Id::Number(_),
                group: Some(_)
            }
        )
    }

    /// Reports whether group decides which account it is.
    pub fn needs_group(&self) -> bool {
        !matches!(
            self,
            Wanted::User {
                group: Some(Id::Number(_)),
                ..
            }
        )
    }

    /// Returns the account, from the text of both files. As with getpwnam(3), the first entry of a name or a number
    /// counts, and a line that is not an entry is skipped.
    ///
    /// A user who is requested by a number needs no entry, and root needs none at all. Without an entry, both have
    /// group 0.
    ///
    /// # Errors
    /// Returns [`AccountError`] if the account cannot be determined.
    pub fn account(
        &self,
        passwd: &[u8],
        group: &[u8],
        ids: JailIds,
    ) -> Result<Account, AccountError> {
        let (user, wanted_group) = match *self {
            Wanted::Root => (Id::Number(JailId::ROOT), None),
            Wanted::User { user, group } => (user, group),
        };
        let mut users = lines(passwd).filter_map(|line| User::of(line, ids));
        let entry = users.find(|found| match user {
            Id::Number(uid) => found.uid == Ok(uid),
            Id::Name(name) => found.name == name,
        });
        let uid = match (user, &entry) {
            (Id::Number(uid), _) => uid,
            (Id::Name(_), Some(entry)) => entry.checked("user", &entry.uid, ids)?,
            (Id::Name(name), None) => return Err(AccountError::NoUser(name.to_owned())),
        };
        let gid = match (wanted_group, &entry) {
            (Some(Id::Number(gid)), _) => gid,
            (Some(Id::Name(name)), _) => {
                let mut groups = lines(group).filter_map(|line| Group::of(line, ids));
                let found = groups.find(|found| found.name == name);
                let found = found.ok_or_else(|| AccountError::NoGroup(name.to_owned()))?;
                found.checked(ids)?
            }
            (None, Some(entry)) => entry.checked("group", &entry.gid, ids)?,
            (None, None) => JailId::ROOT,
        };
        let groups = match (wanted_group, &entry) {
            (None, Some(entry)) => supplementary(group, entry.name, ids)?,
            (None, None) | (Some(_), _) => Vec::new(),
        };
        Ok(match entry {
            Some(entry) => Account {
                name: Some(entry.name.to_owned()),
                uid,
                gid,
                groups,
                home: entry.home.to_owned(),
            },
            None => {
                let root = uid == JailId::ROOT;
                Account {
                    name: root.then(|| "root".to_owned()),
                    uid,
                    gid,
                    groups,
                    home: if root { "/root" } else { "/" }.to_owned(),
                }
            }
        })
    }
}

/// Returns the groups that list a user as a member, each once.
fn supplementary(group: &[u8], user: &str, ids: JailIds) -> Result<Vec<JailId>, AccountError> {
    let mut gids = BTreeSet::new();
    for found in lines(group).filter_map(|line| Group::of(line, ids)) {
        let mut members = found.members.split(|byte| *byte == b',');
        if members.any(|member| member == user.as_bytes()) {
            gids.insert(found.checked(ids)?);
            if gids.len() > GROUPS_MAX {
                return Err(AccountError::Groups(user.to_owned()));
            }
        }
    }
    Ok(gids.into_iter().collect())
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// An entry of passwd.
struct User<'a> {
    name: &'a str,
    uid: Result<JailId, Outside>,
    gid: Result<JailId, Outside>,
    home: &'a str,
}

impl<'a> User<'a> {
    /// Parses a line; returns none if it is not an entry. That is so for another number of fields, for a name or a home
    /// directory that no environment should have, and for ids that are not numbers.
    fn of(line: &'a [u8], ids: JailIds) -> Option<Self> {
        let [name, _, uid, gid, _, home, _] = fields(line)?;
        let home = printable(home, HOME_MAX)?;
        Some(User {
            name: name_of(name)?,
            uid: ids.read(uid)?,
            gid: ids.read(gid)?,
            home: if home.starts_with('/') { home } else { "/" },
        })
    }

    /// Returns one of its ids, or an error if the jail does not have that id.
    fn checked(
        &self,
        kind: &'static str,
        id: &Result<JailId, Outside>,
        ids: JailIds,
    ) -> Result<JailId, AccountError> {
        id.clone().map_err(|number| AccountError::Outside {
            file: PASSWD,
            whose: format!("the user {:?}", self.name),
            kind,
            number,
            ids,
        })
    }
}

/// An entry of group.
struct Group<'a> {
    name: &'a str,
    gid: Result<JailId, Outside>,
    members: &'a [u8],
}

impl<'a> Group<'a> {
    fn of(line: &'a [u8], ids: JailIds) -> Option<Self> {
        let ([name, _, gid], members) = match fields(line) {
            Some([name, password, gid, members]) => ([name, password, gid], members),
            None => (fields(line)?, &line[..0]),
        };
        Some(Group {
            name: name_of(name)?,
            gid: ids.read(gid)?,
            members,
        })
    }

    /// Returns its id, or an error if the jail does not have that id.
    fn checked(&self, ids: JailIds) -> Result<JailId, AccountError> {
        self.gid.clone().map_err(|number| AccountError::Outside {
            file: GROUP,
            whose: format!("the group {:?}", self.name),
            kind: "group",
            number,
            ids,
        })
    }
}

/// Returns the fields of a line that has exactly `N` of them.
fn fields<const N: usize>(line: &[u8]) -> Option<[&[u8]; N]> {
    let mut rest = line.split(|byte| *byte == b':');
    let mut all = [&line[..0]; N];
    for field in &mut all {
        *field = rest.next()?;
    }
    rest.next().is_none().then_some(all)
}

/// Returns a text if it is a name. A text that begins like a comment, like a line of NIS (nss_files of glibc) or with a
/// blank is not.
fn name_of(text: &[u8]) -> Option<&str> {
    let name = printable(text, NAME_MAX)?;
    (!name.is_empty() && !name.starts_with(['#', '+', '-', ' '])).then_some(name)
}

/// Returns a text if it has less than `limit` bytes and no control characters.
fn printable(text: &[u8], limit: usize) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    (text.len() < limit && !text.contains(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests;
