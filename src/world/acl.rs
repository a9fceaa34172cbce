//! Converts POSIX access control lists from the text of archives to the bytes of Linux's extended attribute.
//!
//! The layout is that of `include/uapi/linux/posix_acl_xattr.h`: version 2, then entries of tag, permissions and id,
//! little-endian, sorted by tag and id. GNU tar writes names even if it is asked for numbers. They are looked up in the
//! world's own account files, as text, because the host's accounts are not those of the world.

use std::collections::BTreeMap;
use std::io;

use super::dirs::Dirs;
use super::error::{EntryError, WorldError};
use super::numbers::{Kind, Moves};
use crate::profile::RelPath;

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The largest account file that is read.
const ACCOUNTS_MAX: u64 = 16 << 20;

/// The accounts of a world.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Accounts {
    /// Reads `etc/passwd` and `etc/group`; a missing file has no names.
    pub(super) fn read(dirs: &mut Dirs) -> Result<Accounts, WorldError> {
        let mut table = |path: &[u8]| -> Result<BTreeMap<String, u32>, WorldError> {
            let path = RelPath::parse(path).unwrap_or_default();
            let text = dirs.read(&path, ACCOUNTS_MAX + 1)?.unwrap_or_default();
            if text.len() as u64 > ACCOUNTS_MAX {
                // A truncated file can have another meaning: `10` is the beginning of `1000`.
                let error = io::Error::other("it is larger than 16 MiB");
                return Err(WorldError::io("read", path.under(dirs.root()), error));
            }
            Ok(table_of(&String::from_utf8_lossy(&text)))
        };
        Ok(Accounts {
            users: table(b"etc/passwd")?,
            groups: table(b"etc/group")?,
        })
    }
}

/// Parses names and their numbers. As with getpwnam(3), the first line of a name counts.
fn table_of(text: &str) -> BTreeMap<String, u32> {
    let mut table = BTreeMap::new();
    for (name, id) in text.lines().filter_map(account) {
        table.entry(name.to_owned()).or_insert(id);
    }
    table
}

/// Parses name and number, the first and third field of both files.
fn account(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    Some((name, id(fields.nth(1)?)?))
}

/// Parses a number that an entry of a list can have: only digits, and not the number that means "no id".
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok().filter(|_| digits)?;
    (id != NO_ID).then_some(id)
}

/// Converts a list such as `user::rwx,user:1000:r-x,mask::rwx` to the attribute; returns `None` if the list has only
/// what the mode has, too.
///
/// # Errors
/// The list cannot be understood; [`EntryError::AclName`]: it has a name that is not an account of the world.
pub(super) fn from_text(text: &[u8], known: &Accounts) -> Result<Option<Vec<u8>>, EntryError> {
    let bad = || EntryError::Field {
        what: "access control list",
        value: text.escape_ascii().to_string(),
    };
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    let mut entries: Vec<(u16, u32, u16)> = Vec::new();
    for line in text.split([',', '\n']) {
        let line = line.split('#').next().unwrap_or(line).trim();
        if line.is_empty() {
            continue;
        }
        let fields: Vec<&str> = line.split(':').collect();
        // `other:r-x` is the short form that Solaris and libarchive use for `other::r-x`.
        let (tag, name, perms, number) = match fields[..] {
            [tag, perms] if matches!(tag, "other" | "mask") => (tag, "", perms, None),
            [tag, name, perms] => (tag, name, perms, None),
            [tag, name, perms, number] => (tag, name, perms, Some(number)),
            _ => return Err(bad()),
        };
        let tag = match (tag, name.is_empty() && number.is_none()) {
            ("user" | "u", true) => USER_OBJ,
            ("user" | "u", false) => USER,
            ("group" | "g", true) => GROUP_OBJ,
            ("group" | "g", false) => GROUP,
            ("mask" | "m", true) => MASK,
            ("other" | "o", true) => OTHER,
            _ => return Err(bad()),
        };
        let number = match (tag, number) {
            (USER | GROUP, Some(number)) => id(number).ok_or_else(bad)?,
            (USER | GROUP, None) => {
                let names = if tag == USER {
                    &known.users
                } else {
                    &known.groups
                };
                // Digits are a number and not a name, whatever the account files contain.
                match name.bytes().all(|byte| byte.is_ascii_digit()) {
                    true => id(name).ok_or_else(bad)?,
                    false => names
                        .get(name)
                        .copied()
                        .ok_or_else(|| EntryError::AclName(name.escape_default().to_string()))?,
                }
            }
            _ => NO_ID,
        };
        let mut bits = 0;
        for c in perms.bytes() {
            bits |= match c {
                b'r' => 4,
                b'w' => 2,
                b'x' => 1,
                b'-' => 0,
                _ => return Err(bad()),
            };
        }
        entries.push((tag, number, bits));
    }
    if entries
        .iter()
        .all(|(tag, ..)| matches!(*tag, USER_OBJ | GROUP_OBJ | OTHER))
    {
        return Ok(None);
    }
    Ok(Some(to_bytes(entries)))
}

fn to_bytes(mut entries: Vec<(u16, u32, u16)>) -> Vec<u8> {
    entries.sort_unstable();
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, id, bits) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&bits.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// Returns the attribute with other numbers; `None` if no number changes, or if this ezz does not know the format.
pub(super) fn moved(attribute: &[u8], moves: &Moves) -> Option<Vec<u8>> {
    let (version, rest) = attribute.split_first_chunk()?;
    let rows = rest.chunks_exact(8);
    if !rows.remainder().is_empty() {
        return None;
    }
    if u32::from_le_bytes(*version) != VERSION {
        return None;
    }
    let mut changed = false;
    let entries = rows.filter_map(|row| {
        let [t0, t1, p0, p1, id @ ..] = *row.first_chunk::<8>()?;
        let (tag, id) = (u16::from_le_bytes([t0, t1]), u32::from_le_bytes(id));
        let kind = match tag {
            USER => Some(Kind::User),
            GROUP => Some(Kind::Group),
            _ => None,
        };
        let moved = kind.and_then(|kind| moves.moved(kind, id));
        changed |= moved.is_some();
        Some((tag, moved.unwrap_or(id), u16::from_le_bytes([p0, p1])))
    });
    let entries = entries.collect();
    changed.then(|| to_bytes(entries))
}

#[cfg(test)]
mod tests {
    use super::{Accounts, EntryError, Moves, from_text, moved, table_of};

    #[test]
    fn named_user() {
        // As getxattr returned it after `setfacl -m u:1000:r-x` on a file of mode 0750.
        let expected = hex::decode(concat!(
            "02000000",
            "01000700ffffffff",
            "02000500e8030000",
            "04000500ffffffff",
            "10000500ffffffff",
            "20000000ffffffff",
        ));
        let text = b"user::rwx,group::r-x,other::---,mask::r-x,user:1000:r-x";
        assert_eq!(
            from_text(text, &Accounts::default()),
            Ok(expected.clone().ok())
        );
        let by_number = b"user::rwx\ngroup::r-x\nuser:joe:r-x:1000\nmask::r-x\nother::---\n";
        assert_eq!(
            from_text(by_number, &Accounts::default()),
            Ok(expected.ok())
        );
    }

    #[test]
    fn names_of_the_world() {
        let known = Accounts {
            users: table_of("joe:x:1000:100::/:/bin/sh\njoe:x:0:0::/:/bin/sh\n"),
            groups: table_of("adm:x:4:joe\nrubbish\n:x:5:\n"),
        };
        let named = b"user::rwx,user:joe:r--,group::r-x,group:adm:r-x,mask::r-x,other::---";
        let numbered = b"user::rwx,user:1000:r--,group::r-x,group:4:r-x,mask::r-x,other::---";
        assert_eq!(
            from_text(named, &known),
            from_text(numbered, &Accounts::default())
        );
        let crossed = b"user::rwx,user:adm:r--,mask::r-x";
        assert_eq!(
            from_text(crossed, &known),
            Err(EntryError::AclName("adm".to_owned()))
        );
    }

    /// 4294967295 stands for "no id" in the attribute.
    #[test]
    fn numbers_that_are_no_ids_are_refused() {
        let known = Accounts {
            users: table_of("evil:x:4294967295:0::/:\nplus:x:+5:0::/:\n1000:x:0:0::/:\n"),
            groups: table_of(""),
        };
        let list = |entry: &str| from_text(format!("{entry},mask::rwx").as_bytes(), &known);
        for number in ["4294967295", "4294967296", "99999999999999999999"] {
            for entry in [
                format!("user:{number}:rwx"),
                format!("group:{number}:rwx"),
                format!("user:joe:rwx:{number}"),
            ] {
                let refused = list(&entry);
                assert!(matches!(refused, Err(EntryError::Field { .. })), "{entry}");
            }
        }
        assert!(matches!(
            list("user:joe:rwx:+5"),
            Err(EntryError::Field { .. })
        ));
        for name in ["evil", "plus", "+5", "-1"] {
            let refused = list(&format!("user:{name}:rwx"));
            assert_eq!(refused, Err(EntryError::AclName(name.to_owned())));
        }
        // A user whose name is `1000` is not meant.
        assert_eq!(
            list("user:1000:rwx"),
            from_text(b"user:1000:rwx,mask::rwx", &Accounts::default())
        );
    }

    #[test]
    fn numbers_of_entries_move_and_stay_sorted() {
        let list = |text: &str| from_text(text.as_bytes(), &Accounts::default());
        let before =
            list("user::rwx,user:5:r--,user:7:rwx,group::r-x,group:5:--x,mask::rwx,other::---");
        let after =
            list("user::rwx,user:9:r--,user:7:rwx,group::r-x,group:3:--x,mask::rwx,other::---");
        let mut moves = Moves::default();
        moves.users.extend([(5, 9), (u32::MAX, 1)]);
        moves.groups.extend([(5, 3)]);
        let before = before.expect("a list").expect("an attribute");
        assert_eq!(moved(&before, &moves), after.expect("a list"));
        assert_eq!(moved(&before, &Moves::default()), None);
        for odd in [
            &b""[..],
            b"\x02\0\0",
            &before[..before.len() - 1],
            b"\x03\0\0\0",
        ] {
            assert_eq!(moved(odd, &moves), None);
        }
    }

    #[test]
    fn what_the_mode_says_too_is_nothing() {
        assert_eq!(
            from_text(b"user::rw-,group::r--,other::r--", &Accounts::default()),
            Ok(None)
        );
    }

    #[test]
    fn names_and_rubbish_are_refused() {
        assert_eq!(
            from_text(b"user:joe:rwx", &Accounts::default()),
            Err(EntryError::AclName("joe".to_owned()))
        );
        assert!(from_text(b"user:1:rwz", &Accounts::default()).is_err());
        assert!(from_text(b"everyone@:r:allow", &Accounts::default()).is_err());
    }
}
