//! Reads the accounts of a tree as passwd(5), group(5) and master.passwd(5) list them, and rewrites these texts with
//! other numbers.
//!
//! A world or a jail wrote these texts. They are handled as bytes, and a line that is not an account stays as it is.
//! This module must not decide which number an account gets.

use std::path::Path;

use super::super::dirs::Dirs;
use super::super::error::WorldError;
use super::Moves;
use crate::profile::RelPath;

/// The kind of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A user.
    User,
    /// A group.
    Group,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::User => "user",
            Kind::Group => "group",
        })
    }
}

/// The texts that list accounts, and the kind of the first number in their lines.
pub(super) const TEXTS: [(&str, Kind); 3] = [
    ("etc/passwd", Kind::User),
    ("etc/group", Kind::Group),
    ("etc/master.passwd", Kind::User),
];

/// The largest account file that is read.
const TEXT_MAX: u64 = 16 << 20;

/// The field with the number of an account.
const NUMBER: usize = 2;
/// The field with the number of a user's group.
const GROUP: usize = 3;

/// The number that chown(2) takes for "leave it as it is".
const NO_ID: u32 = u32::MAX;

/// The accounts of a tree, in the order of their texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// The names and numbers of users.
    pub users: Vec<(String, u32)>,
    /// The names and numbers of groups.
    pub groups: Vec<(String, u32)>,
    /// The primary groups of users, whether or not these groups have names.
    pub primary: Vec<u32>,
}

impl Accounts {
    /// Reads the accounts of a tree. A text that does not exist, or is not a regular file, lists nothing.
    ///
    /// # Errors
    /// A text cannot be read, or is larger than 16 MiB.
    pub fn read(root: &Path) -> Result<Accounts, WorldError> {
        Accounts::read_up_to(root, TEXT_MAX)?.ok_or_else(|| {
            let error = std::io::Error::other("an account file is larger than 16 MiB");
            WorldError::io("read", root.join("etc"), error)
        })
    }

    /// Reads the accounts of a tree; returns `None` if a text has more than `most` bytes.
    pub(super) fn read_up_to(root: &Path, most: u64) -> Result<Option<Accounts>, WorldError> {
        let mut accounts = Accounts::default();
        for (path, kind) in TEXTS {
            match text_of(root, path, most)? {
                Some(text) if text.len() as u64 > most => return Ok(None),
                Some(text) => accounts.add(&text, kind),
                None => {}
            }
        }
        Ok(Some(accounts))
    }

    /// Adds the accounts of a text. As with getpwnam(3), the first line of a name counts.
    pub fn add(&mut self, text: &[u8], kind: Kind) {
        let list = match kind {
            Kind::User => &mut self.users,
            Kind::Group => &mut self.groups,
        };
        let mut seen: std::collections::BTreeSet<String> =
            list.iter().map(|(name, _)| name.clone()).collect();
        for line in text.split(|byte| *byte == b'\n') {
            let Some(fields) = fields(line) else { continue };
            if let (Kind::User, Some(group)) = (kind, fields.get(GROUP).and_then(|f| number(f))) {
                self.primary.push(group);
            }
            let name = fields.first().and_then(|field| name(field));
            let number = fields.get(NUMBER).and_then(|field| number(field));
            if let (Some(name), Some(number)) = (name, number) {
                if seen.insert(name.to_owned()) {
                    list.push((name.to_owned(), number));
                }
            }
        }
    }

    /// Returns the accounts of one kind.
    pub(super) fn of(&self, kind: Kind) -> &[(String, u32)] {
        match kind {
            Kind::User => &self.users,
            Kind::Group => &self.groups,
        }
    }
}

/// Reads a text, at most `most` + 1 bytes.
pub(super) fn text_of(root: &Path, path: &str, most: u64) -> Result<Option<Vec<u8>>, WorldError> {
    let path = RelPath::parse(path.as_bytes()).unwrap_or_default();
    Dirs::open(root)?.read(&path, most + 1)
}

/// Returns the fields of a line that names an account, and `None` for a comment or a line of NIS.
fn fields(line: &[u8]) -> Option<Vec<&[u8]>> {
    let first = line.first()?;
    if matches!(first, b'#' | b'+' | b'-') {
        return None;
    }
    Some(line.split(|byte| *byte == b':').collect())
}

/// Parses a name that a ledger can hold: a word of printable characters.
pub(super) fn name(field: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(field).ok()?;
    let odd = |c: char| c.is_whitespace() || c.is_control();
    (!name.is_empty() && name.len() <= 255 && !name.starts_with(['#', '+', '-']))
        .then_some(name)
        .filter(|name| !name.contains(odd))
}

/// Parses a number as getpwnam(3) does, also with blanks or a plus before it. Returns `None` if no file can have it.
pub(super) fn number(field: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(field).ok()?.trim();
    let digits = text.strip_prefix('+').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| plain)?;
    (number != NO_ID).then_some(number)
}

/// Returns a text with other numbers, and all other bytes as they were; `None` if nothing changes.
pub fn rewritten(text: &[u8], kind: Kind, moves: &Moves) -> Option<Vec<u8>> {
    let mut changed = false;
    let mut result = Vec::with_capacity(text.len() + 64);
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if at > 0 {
            result.push(b'\n');
        }
        let Some(fields) = fields(line) else {
            result.extend_from_slice(line);
            continue;
        };
        for (at, field) in fields.iter().enumerate() {
            if at > 0 {
                result.push(b':');
            }
            let of = match (kind, at) {
                (kind, NUMBER) => Some(kind),
                (Kind::User, GROUP) => Some(Kind::Group),
                _ => None,
            };
            let moved = of.and_then(|kind| moves.moved(kind, number(field)?));
            match moved {
                Some(number) => {
                    changed = true;
                    result.extend_from_slice(number.to_string().as_bytes());
                }
                None => result.extend_from_slice(field),
            }
        }
    }
    changed.then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves() -> Moves {
        let mut moves = Moves::default();
        moves.users.extend([(102, 101), (101, 102)]);
        moves.groups.extend([(102, 999)]);
        moves
    }

    #[test]
    fn only_numbers_that_move_are_rewritten() {
        let text = b"root:x:0:0:root:/root:/bin/sh\ndb:x:101:102:d\xffb:/:/bin/sh\n# c:x:101:1\n\n+nis:x:101:1::\nwww:x:0102:7\nshort:x\nno end:x: 102:102";
        let told = rewritten(text, Kind::User, &moves()).expect("it changes");
        let wanted = b"root:x:0:0:root:/root:/bin/sh\ndb:x:102:999:d\xffb:/:/bin/sh\n# c:x:101:1\n\n+nis:x:101:1::\nwww:x:101:7\nshort:x\nno end:x:101:999";
        assert_eq!(
            told.escape_ascii().to_string(),
            wanted.escape_ascii().to_string()
        );
        let group = b"adm:x:4:102\nwww:x:102:a,b\n";
        assert_eq!(
            rewritten(group, Kind::Group, &moves()).as_deref(),
            Some(&b"adm:x:4:102\nwww:x:999:a,b\n"[..])
        );
        // master.passwd(5) has more fields, and the same first four.
        assert_eq!(
            rewritten(b"db:*:101:5::101:0:D:/:/bin/sh\n", Kind::User, &moves()).as_deref(),
            Some(&b"db:*:102:5::101:0:D:/:/bin/sh\n"[..])
        );
        assert_eq!(rewritten(b"", Kind::User, &moves()), None);
        assert_eq!(rewritten(text, Kind::User, &Moves::default()), None);
    }

    #[test]
    fn what_is_no_account_is_none() {
        let mut accounts = Accounts::default();
        let text = b"root:x:0:0::/:\na b:x:5:5\n:x:6:6\nminus:x:-1:7\nbig:x:4294967295:1\nbigger:x:4294967296:1\nnul\0:x:8:8\nnulled:x:9\0:9\n+:::\n-x:x:1:1\n#c:x:2:2\nplus:x:+10:10\nblank:x: 11:11\nroot:x:12:12\nhex:x:0x10:1\nlast:x:4294967294:4294967295";
        accounts.add(text, Kind::User);
        let shown: Vec<String> = accounts
            .users
            .iter()
            .map(|(name, number)| format!("{name}={number}"))
            .collect();
        assert_eq!(shown, ["root=0", "plus=10", "blank=11", "last=4294967294"]);
        accounts.add(b"adm:x:4:syslog\nroot:x:0:\n", Kind::Group);
        assert_eq!(accounts.groups.len(), 2);
    }
}
