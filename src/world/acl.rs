//! POSIX access control lists: the text of archives to the bytes of Linux's extended attribute.
//!
//! The layout is that of `include/uapi/linux/posix_acl_xattr.h`: version 2, then entries of tag,
//! permissions and id, little-endian, sorted by tag and id. GNU tar writes
//! names even when it is asked for numbers; they are looked up in the world's own account files,
//! as text: the host's accounts are not the world's.

use std::collections::BTreeMap;

use super::dirs::Dirs;
use super::error::{EntryError, WorldError};
use crate::profile::RelPath;

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// No account file is larger.
const ACCOUNTS_MAX: u64 = 16 << 20;

/// The accounts of a world.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Accounts {
    /// Reads `etc/passwd` and `etc/group`; what is not there has no names.
    pub(super) fn read(dirs: &mut Dirs) -> Result<Accounts, WorldError> {
        let mut table = |path: &[u8]| -> Result<BTreeMap<String, u32>, WorldError> {
            let path = RelPath::parse(path).unwrap_or_default();
            let text = dirs.read(&path, ACCOUNTS_MAX)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&text)
                .lines()
                .filter_map(account)
                .collect())
        };
        Ok(Accounts {
            users: table(b"etc/passwd")?,
            groups: table(b"etc/group")?,
        })
    }
}

/// Name and number, the first and third field of both files.
fn account(line: &str) -> Option<(String, u32)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
}

/// The attribute for a list such as `user::rwx,user:1000:r-x,mask::rwx`; none if the list says only
/// what the mode says too.
///
/// # Errors
/// It cannot be understood; or, [`EntryError::AclName`], it has a name that is not among the accounts.
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
        // `other:r-x` is solaris' and libarchive's short form of `other::r-x`.
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
        let id = match (tag, number) {
            (USER | GROUP, Some(number)) => number.parse().map_err(|_| bad())?,
            (USER | GROUP, None) => {
                let names = if tag == USER {
                    &known.users
                } else {
                    &known.groups
                };
                let number = name.parse().ok().or_else(|| names.get(name).copied());
                number.ok_or_else(|| EntryError::AclName(name.escape_default().to_string()))?
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
        entries.push((tag, id, bits));
    }
    if entries
        .iter()
        .all(|(tag, ..)| matches!(*tag, USER_OBJ | GROUP_OBJ | OTHER))
    {
        return Ok(None);
    }
    entries.sort_unstable();
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, id, bits) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&bits.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::{Accounts, EntryError, account, from_text};

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
            users: ["joe:x:1000:100::/:/bin/sh"]
                .into_iter()
                .filter_map(account)
                .collect(),
            groups: ["adm:x:4:joe", "rubbish"]
                .into_iter()
                .filter_map(account)
                .collect(),
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
