//! The fields of a tar header. The layouts are those of POSIX.1-2001 ustar, and of the GNU tar manual, "Basic Tar
//! Format".
//! This module must not know what an entry means (`tarball`).

/// All sizes in a tar archive are multiples of this.
pub(super) const BLOCK: usize = 512;

/// Offset and length of a field.
pub(super) type Field = (usize, usize);
pub(super) const NAME: Field = (0, 100);
pub(super) const MODE: Field = (100, 8);
pub(super) const UID: Field = (108, 8);
pub(super) const GID: Field = (116, 8);
pub(super) const SIZE: Field = (124, 12);
pub(super) const MTIME: Field = (136, 12);
pub(super) const CHECKSUM: Field = (148, 8);
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Field = (157, 100);
pub(super) const PREFIX: Field = (345, 155);

/// A block that is a header or a part of one.
pub(super) struct Header(pub(super) [u8; BLOCK]);

impl Header {
    /// Returns the bytes of a field.
    pub(super) fn field(&self, (start, length): Field) -> &[u8] {
        &self.0[start..start + length]
    }

    /// Returns a text field up to its NUL, if it has one.
    pub(super) fn text(&self, at: Field) -> &[u8] {
        let bytes = self.field(at);
        &bytes[..bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len())]
    }

    /// Returns the name, with the prefix of ustar.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(NAME);
        // The magic of GNU tar has no NUL here, and its header has other fields where ustar has the prefix.
        let prefix = if &self.0[257..263] == b"ustar\0" {
            self.text(PREFIX)
        } else {
            &[]
        };
        if prefix.is_empty() {
            name.to_vec()
        } else {
            [prefix, b"/", name].concat()
        }
    }
}

/// Parses a number: octal text, or GNU tar's big-endian binary form, whose top bit is set.
pub(super) fn numeric(bytes: &[u8]) -> Option<i64> {
    let (first, rest) = bytes.split_first()?;
    if first & 0x80 != 0 {
        // 0x80 marks a positive number, 0xff a negative one; the value uses all bits below.
        let mut value: i128 = if first & 0x40 != 0 { -1 } else { 0 };
        value = (value << 6) | i128::from(first & 0x3f);
        for byte in rest {
            value = (value << 8) | i128::from(*byte);
        }
        return i64::try_from(value).ok();
    }
    let text = bytes.trim_ascii_start();
    let digits = text.iter().take_while(|b| !matches!(b, 0 | b' ')).copied();
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(&digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}

/// Whether the block has the checksum of a header. Old programs summed signed bytes.
pub(super) fn checksum_is_right(block: &[u8]) -> bool {
    let (start, length) = CHECKSUM;
    let Some(expected) = block.get(start..start + length).and_then(numeric) else {
        return false;
    };
    let covered = || {
        block.iter().enumerate().map(|(at, byte)| {
            if (start..start + length).contains(&at) {
                b' '
            } else {
                *byte
            }
        })
    };
    let unsigned: i64 = covered().map(i64::from).sum();
    let signed: i64 = covered().map(|byte| i64::from(byte as i8)).sum();
    block.iter().any(|b| *b != 0) && (unsigned == expected || signed == expected)
}

#[cfg(test)]
mod tests {
    use super::numeric;

    #[test]
    fn numbers() {
        assert_eq!(numeric(b"0000755\0"), Some(0o755));
        assert_eq!(numeric(b"  755 \0\0"), Some(0o755));
        assert_eq!(numeric(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(numeric(b"\x80\0\0\0\0\0\x10\0"), Some(4096));
        assert_eq!(numeric(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(numeric(b"77777777777\0"), Some(0o77777777777));
        assert_eq!(numeric(b"0000789\0"), None);
        assert_eq!(
            numeric(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            None
        );
    }
}
