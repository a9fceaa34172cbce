//! The ids of users and groups in a jail. This module is pure.
//!
//! The jail's own root controls the account files, so a number in them becomes a [`JailId`] before anything uses it. A
//! [`JailId`] cannot hold a number that the jail does not have.

use std::fmt;

use super::ids::COUNT;

/// The number of digits of the largest id.
const DIGITS: usize = 10;

/// The number of digits of a number that are shown.
const SHOWN: usize = 20;

/// The ids that a jail has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JailIds {
    /// 0 to 65535, mapped by a user namespace of its own.
    Own,
    /// The ids of the host, except for 4294967295. The jail has no user namespace, because OpenZFS before 2.2 cannot
    /// mount its files with other ids.
    OfHost,
}

impl JailIds {
    /// Returns the largest of these ids.
    pub fn last(self) -> u32 {
        match self {
            JailIds::Own => COUNT - 1,
            JailIds::OfHost => u32::MAX - 1,
        }
    }

    /// Reads a text as an id: a number that the jail has, or one that it does not have; none if the text is not a
    /// number. An id has only decimal digits, without a sign or blanks.
    pub fn read(self, text: &[u8]) -> Option<Result<JailId, Outside>> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let zeros = text.iter().take_while(|digit| **digit == b'0').count();
        let digits = &text[zeros.min(text.len() - 1)..];
        // A number with one digit more than an id is too large, whatever follows.
        let value = digits
            .iter()
            .take(DIGITS + 1)
            .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
        Some(match u32::try_from(value) {
            Ok(id) if id <= self.last() => Ok(JailId(id)),
            _ => Err(Outside::of(digits)),
        })
    }
}

impl fmt::Display for JailIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0 to {}", self.last())
    }
}

/// The id of a user or of a group in a jail.
///
/// It is never 4294967295. That is `(uid_t)-1`, for which setresuid(2), setresgid(2) and chown(2) leave the id as it
/// is: a process that enters a jail would stay the host's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JailId(u32);

impl JailId {
    /// Root, or root's group.
    pub const ROOT: JailId = JailId(0);

    /// Returns the number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// A number that the jail does not have. It holds only the first digits, because the text may be as long as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside(String);

impl Outside {
    fn of(digits: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&digits[..digits.len().min(SHOWN)]);
        let more = if digits.len() > SHOWN { "…" } else { "" };
        Outside(format!("{text}{more}"))
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(ids: JailIds, text: &str) -> Option<u32> {
        ids.read(text.as_bytes())?.ok().map(JailId::get)
    }

    fn outside(ids: JailIds, text: &str) -> Option<String> {
        let read = ids.read(text.as_bytes())?;
        read.err().map(|number| number.to_string())
    }

    #[test]
    fn the_range_has_two_ends() {
        for (text, own, of_host) in [
            ("0", Some(0), Some(0)),
            ("65535", Some(65_535), Some(65_535)),
            ("65536", None, Some(65_536)),
            ("2147483647", None, Some(2_147_483_647)),
            ("2147483648", None, Some(2_147_483_648)),
            ("4294967294", None, Some(4_294_967_294)),
            ("4294967295", None, None),
            ("4294967296", None, None),
            ("4295032831", None, None),
            ("18446744073709551615", None, None),
            ("18446744073709551616", None, None),
            ("18446744073709617151", None, None),
        ] {
            for (ids, expected) in [(JailIds::Own, own), (JailIds::OfHost, of_host)] {
                assert_eq!(value(ids, text), expected, "{text}");
                let refused = expected.is_none().then(|| text.to_owned());
                assert_eq!(outside(ids, text), refused, "{text}");
            }
        }
    }

    #[test]
    fn an_id_is_digits() {
        for text in [
            "", "-1", "+1", "+", "-", " 1", "1 ", "0x10", "1e3", "1_0", "\u{661}", "1\0",
        ] {
            assert_eq!(JailIds::OfHost.read(text.as_bytes()), None, "{text:?}");
        }
        for (text, id) in [
            ("00", 0),
            ("0033", 33),
            ("000000000000000000065535", 65_535),
        ] {
            assert_eq!(value(JailIds::Own, text), Some(id), "{text}");
        }
        assert_eq!(value(JailIds::OfHost, "004294967295"), None);
    }

    #[test]
    fn a_long_number_is_shown_in_short() {
        let long = "9".repeat(1 << 20);
        let shown = format!("{}…", "9".repeat(20));
        assert_eq!(outside(JailIds::Own, &long), Some(shown));
    }

    #[test]
    fn the_range_is_shown() {
        assert_eq!(JailIds::Own.to_string(), "0 to 65535");
        assert_eq!(JailIds::OfHost.to_string(), "0 to 4294967294");
    }
}
