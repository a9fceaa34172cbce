//! Host names and sizes, which users write as text; and the characters of a text that are safe to show.

use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, de::Error};

/// Reports whether a character can make a text look like another one, or like several lines. These are control
/// characters, characters that change the direction of writing, and invisible ones (Unicode's
/// Default_Ignorable_Code_Point, and the separators of lines and paragraphs).
pub fn deceptive(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0xAD | 0x34F | 0x61C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F
            | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164
            | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB
            | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}

/// Returns a text without its deceptive characters. Text from a jail or from another program is shown on the terminal
/// of the host's root.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !deceptive(*c)).collect()
}

/// Reads a text of the pool that is shown in lists, and refuses deceptive characters in it.
pub(super) fn plain<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    match text.chars().find(|c| deceptive(*c)) {
        None => Ok(text),
        Some(c) => Err(D::Error::custom(format!(
            "the host name has the character U+{:04X}",
            u32::from(c)
        ))),
    }
}

/// Checks a host name by RFC 1123: labels of letters, digits and '-', joined by dots, at most 253 bytes. Linux keeps
/// only 64 bytes (`sethostname(2)`), so longer names are refused there.
///
/// # Errors
/// Returns a text that says what is expected.
pub fn hostname(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let most = if cfg!(target_os = "linux") { 64 } else { 253 };
    if text.len() <= most && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected letters, digits, '-' and '.', at most {most} characters"
        ))
    }
}

/// Parses a size in bytes, with K, M, G or T for powers of 1024, as `zfs set quota` does.
///
/// # Errors
/// Returns a text that says what is expected.
pub fn size(text: &str) -> Result<u64, String> {
    let bad = || "expected a number with K, M, G or T, such as 10G".to_owned();
    let upper = text.to_ascii_uppercase();
    let upper = upper.strip_suffix('B').unwrap_or(&upper);
    let (digits, shift) = match upper.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(digits) => {
            let unit = upper.as_bytes()[digits.len()];
            (
                digits,
                [(b'K', 10), (b'M', 20), (b'G', 30), (b'T', 40)]
                    .iter()
                    .find(|u| u.0 == unit)
                    .map_or(0, |u| u.1),
            )
        }
        None => (upper, 0),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    if number == 0 {
        return Err("0 is no limit: leave it out".to_owned());
    }
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// Writes a number of bytes so that [`size`] can read it, in the largest unit of which it is a multiple.
pub fn in_units(bytes: u64) -> String {
    let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    let whole = |shift: u32| bytes > 0 && bytes.trailing_zeros() >= shift;
    match units.into_iter().find(|(_, shift)| whole(*shift)) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// The smallest limit of memory, in bytes. With less, the kernel kills the first process of a jail when it starts.
/// Other container programs have the same limit.
pub const MEMORY_LEAST: u64 = 6 << 20;

/// Parses a limit of memory.
///
/// # Errors
/// Returns the errors of [`size`], and an error for less than [`MEMORY_LEAST`], with which no jail starts.
pub fn memory(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes < MEMORY_LEAST {
        let mut problem =
            format!("{bytes} bytes are too little for a jail to start: 6M is the least");
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            problem += &format!("; did you mean {text}M?");
        }
        return Err(problem);
    }
    Ok(bytes)
}

/// Parses a number of processes.
///
/// # Errors
/// Returns a text that says what is expected.
pub fn processes(text: &str) -> Result<u32, String> {
    let number = text.parse::<NonZeroU32>().map(NonZeroU32::get);
    number.map_err(|_| "expected a number from 1 on, such as 500".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1"),
            (1023, "1023"),
            (1 << 10, "1K"),
            (1536, "1536"),
            (3 << 29, "1536M"),
            (1 << 30, "1G"),
            (5 << 40, "5T"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(in_units(bytes), text);
            assert!(bytes == 0 || size(text) == Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size("10G"), Ok(10 << 30));
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("1mb"), Ok(1 << 20));
        for bad in ["", "0", "G", "-1", "1.5G", "99999999T", "1 G"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_nobody_sees_is_known() {
        for c in "\n\t\u{1b}\u{7f}\u{9b}\u{ad}\u{200b}\u{200d}\u{200f}\u{2028}\u{202e}\u{2066}\u{feff}\u{e0041}".chars() {
            assert!(deceptive(c), "{c:?}");
        }
        assert!(!"a Z~ü漢🙂".chars().any(deceptive));
    }

    #[test]
    fn no_jail_has_less_memory_than_it_needs() {
        assert_eq!(memory("6M"), Ok(MEMORY_LEAST));
        assert_eq!(memory("512M"), Ok(512 << 20));
        let bare = memory("512").unwrap_err();
        assert!(
            bare.contains("512 bytes") && bare.contains("512M"),
            "{bare}"
        );
        assert!(!memory("5M").unwrap_err().contains("did you mean"));
        assert!(memory("0").is_err());
    }

    #[test]
    fn hostnames_are_labels() {
        for good in ["www", "www.example.org", "a-1"] {
            assert!(hostname(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a_b", "a b", "a\n", &"a".repeat(300)] {
            assert!(hostname(bad).is_err(), "{bad:?}");
        }
    }
}
