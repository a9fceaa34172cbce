//! Extended (pax) headers: records `LENGTH KEY=VALUE\n` with what a ustar header cannot express.
//!
//! The keys are those of POSIX.1-2001 pax; `SCHILY.*` as star and libarchive write them; `LIBARCHIVE.xattr.*` (name
//! percent-encoded, value base64); `GNU.sparse.*` in the three versions that GNU tar documents.
//! This module must not read blocks (`tarball`).

use super::acl::{self, Accounts};
use super::error::EntryError;
use super::meta::{ACL_ACCESS, ACL_DEFAULT, Attribute, is_kept};

/// A sparse file: where its data are, and how long it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Offset and length of each piece of data.
    pub(super) map: Vec<(u64, u64)>,
    /// The length of the file in bytes.
    pub(super) size: u64,
    /// Whether the map is at the beginning of the data (version 1.0).
    pub(super) map_in_data: bool,
}

/// The values of the records of one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) attributes: Vec<Attribute>,
    /// Access control lists with names, which the world's account files must resolve.
    pub(super) named_acls: Vec<(&'static str, Vec<u8>)>,
    pub(super) sparse: Option<Sparse>,
    /// Whether the entry has FreeBSD file flags or Linux inode flags, which are not restored.
    pub(super) flags: bool,
    /// The number of extended attributes and lists that do not belong to this world or system.
    pub(super) dropped: u64,
}

/// Parses the records of a header.
pub(super) fn parse(data: &[u8]) -> Result<Pax, EntryError> {
    let mut pax = Pax::default();
    let mut sparse = SparseKeys::default();
    // Some archives have padding NULs behind the last record.
    let mut rest = data;
    while rest.first().is_some_and(|b| *b != 0) {
        let (key, value, next) = record(rest).ok_or_else(|| field("extended header", rest))?;
        rest = next;
        match key {
            b"path" => pax.path = Some(value.to_vec()),
            b"linkpath" => pax.linkpath = Some(value.to_vec()),
            b"size" => pax.size = Some(number("size", value)?),
            b"uid" => pax.uid = Some(number("owner", value)?),
            b"gid" => pax.gid = Some(number("group", value)?),
            b"mtime" => pax.mtime = Some(time(value)?),
            b"SCHILY.fflags" => pax.flags = true,
            b"SCHILY.acl.access" => pax.acl(ACL_ACCESS, value)?,
            b"SCHILY.acl.default" => pax.acl(ACL_DEFAULT, value)?,
            b"SCHILY.acl.ace" => pax.dropped += 1,
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    pax.attribute(name, value.to_vec());
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let decoded =
                        base64(value).ok_or_else(|| field("extended attribute", value))?;
                    pax.attribute(&percent(name), decoded);
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    sparse.key(name, value)?;
                }
                // The other keys (atime, ctime, uname, comment, …) are not restored.
            }
        }
    }
    if pax.attributes.iter().any(|(name, _)| name.contains('\0')) {
        return Err(field("extended attribute", data));
    }
    pax.attributes.sort();
    sparse.finish(&mut pax)?;
    Ok(pax)
}

impl Pax {
    fn attribute(&mut self, name: &[u8], value: Vec<u8>) {
        match std::str::from_utf8(name) {
            Ok(name) if is_kept(name) => {
                // libarchive writes each attribute in both encodings.
                if !self.attributes.iter().any(|(known, _)| known == name) {
                    self.attributes.push((name.to_owned(), value));
                }
            }
            _ => self.dropped += 1,
        }
    }

    fn acl(&mut self, name: &'static str, text: &[u8]) -> Result<(), EntryError> {
        if !is_kept(name) {
            self.dropped += 1;
            return Ok(());
        }
        match acl::from_text(text, &Accounts::default()) {
            Ok(Some(value)) => {
                self.attributes.retain(|(known, _)| known != name);
                self.attributes.push((name.to_owned(), value));
            }
            Ok(None) => {}
            Err(EntryError::AclName(_)) => self.named_acls.push((name, text.to_vec())),
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

#[derive(Default)]
struct SparseKeys {
    sparse: Option<Sparse>,
    name: Option<Vec<u8>>,
    offset: Option<u64>,
}

impl SparseKeys {
    fn key(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryError> {
        let sparse = self.sparse.get_or_insert_default();
        match key {
            b"major" => sparse.map_in_data = number("sparse version", value)? == 1,
            b"realsize" | b"size" => sparse.size = number("sparse size", value)?,
            b"name" => self.name = Some(value.to_vec()),
            b"offset" => self.offset = Some(number("sparse map", value)?),
            b"numbytes" => {
                let offset = self
                    .offset
                    .take()
                    .ok_or_else(|| field("sparse map", value))?;
                sparse.map.push((offset, number("sparse map", value)?));
            }
            b"map" => {
                let numbers = value
                    .split(|b| *b == b',')
                    .map(|part| number("sparse map", part))
                    .collect::<Result<Vec<u64>, EntryError>>()?;
                if numbers.len() % 2 != 0 {
                    return Err(field("sparse map", value));
                }
                sparse.map = numbers
                    .chunks_exact(2)
                    .map(|pair| (pair[0], pair[1]))
                    .collect();
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, pax: &mut Pax) -> Result<(), EntryError> {
        if let Some(sparse) = self.sparse {
            if self.name.is_some() {
                pax.path = self.name;
            }
            pax.sparse = Some(sparse);
        }
        Ok(())
    }
}

/// Checks that a sparse map is in order and within the file; returns the size of its data.
pub(super) fn check_map(map: &[(u64, u64)], size: u64) -> Result<u64, EntryError> {
    let mut end = 0u64;
    let mut data = 0u64;
    for (offset, length) in map {
        let next = offset.checked_add(*length);
        match next {
            Some(next) if *offset >= end && next <= size => end = next,
            _ => return Err(field("sparse map", format!("{offset}+{length}").as_bytes())),
        }
        data += length;
    }
    Ok(data)
}

/// The error for a field that cannot be understood.
pub(super) fn field(what: &'static str, value: &[u8]) -> EntryError {
    let shown = &value[..value.len().min(60)];
    EntryError::Field {
        what,
        value: shown.escape_ascii().to_string(),
    }
}

/// Returns the key and the value of one record, and the bytes after it.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(12).position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let body = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &data[length..]))
}

/// Parses a decimal number.
pub(super) fn number(what: &'static str, value: &[u8]) -> Result<u64, EntryError> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| field(what, value))
}

/// Parses seconds with a fraction, perhaps before 1970.
fn time(value: &[u8]) -> Result<(i64, u32), EntryError> {
    let bad = || field("time", value);
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let mut nsec = 0;
    for digit in fraction.bytes().chain(std::iter::repeat(b'0')).take(9) {
        nsec = nsec * 10 + u32::from(digit - b'0');
    }
    // -1.25 is a quarter before -1, while the system's fraction counts forward.
    if whole.starts_with('-') && nsec > 0 {
        Ok((
            seconds.checked_sub(1).ok_or_else(bad)?,
            1_000_000_000 - nsec,
        ))
    } else {
        Ok((seconds, nsec))
    }
}

fn percent(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let escaped = if *first == b'%' { tail.get(..2) } else { None };
        let mut byte = [0];
        match escaped.map(|digits| hex::decode_to_slice(digits, &mut byte)) {
            Some(Ok(())) => {
                out.push(byte[0]);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.iter().filter(|b| !matches!(b, b'=' | b'\n')) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{base64, check_map, parse, percent, time};

    fn records(pairs: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in pairs {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            out.extend_from_slice(format!("{length} {key}=").as_bytes());
            out.extend_from_slice(value);
            out.push(b'\n');
        }
        out
    }

    #[test]
    fn values_are_bytes() -> Result<(), Box<dyn std::error::Error>> {
        let pax = parse(&records(&[
            ("path", b"a=b\nc"),
            ("SCHILY.xattr.user.x", b"\x00\n="),
            ("LIBARCHIVE.xattr.user.y%3dz", b"AAH/"),
            ("SCHILY.xattr.security.selinux", b"label"),
            ("mtime", b"12.5"),
            ("SCHILY.fflags", b"schg"),
        ]))?;
        assert_eq!(pax.path.as_deref(), Some(&b"a=b\nc"[..]));
        let expected: Vec<(String, Vec<u8>)> = vec![
            ("user.x".into(), b"\x00\n=".to_vec()),
            ("user.y=z".into(), vec![0, 1, 255]),
        ];
        assert_eq!(pax.attributes, expected);
        assert_eq!(
            (pax.dropped, pax.flags, pax.mtime),
            (1, true, Some((12, 500_000_000)))
        );
        Ok(())
    }

    #[test]
    fn damaged_records_are_errors() {
        for bad in [
            &b"5 a=b"[..],
            b"99 path=x\n",
            b"x path=y\n",
            b"9 path=xy\n",
            b"8 nokey\n",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(parse(&records(&[("size", b"-1")])).is_err());
        assert!(parse(&records(&[("uid", b"root")])).is_err());
    }

    #[test]
    fn times() {
        assert_eq!(time(b"1").ok(), Some((1, 0)));
        assert_eq!(time(b"-1.25").ok(), Some((-2, 750_000_000)));
        assert_eq!(time(b"7.1234567899").ok(), Some((7, 123_456_789)));
        assert!(time(b"1.x").is_err());
    }

    #[test]
    fn maps_are_checked() {
        assert_eq!(check_map(&[(0, 5), (10, 5)], 20), Ok(10));
        for bad in [&[(5, 5), (0, 5)][..], &[(0, 21)], &[(u64::MAX, 2)]] {
            assert!(check_map(bad, 20).is_err());
        }
    }

    #[test]
    fn encodings() {
        assert_eq!(percent(b"a%20b%zz%4"), b"a b%zz%4");
        assert_eq!(base64(b"aGk=").as_deref(), Some(&b"hi"[..]));
        assert_eq!(base64(b"!"), None);
    }
}
