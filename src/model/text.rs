//! Values that users write as text: host names and sizes.

/// RFC 1123: labels of letters, digits and '-', joined by dots, at most 253 bytes. Linux keeps
/// 64 of them (`sethostname(2)`), so longer ones are refused there.
///
/// # Errors
/// What is expected.
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

/// A size in bytes, with K, M, G or T in powers of 1024, as `zfs set quota` takes it.
///
/// # Errors
/// What is expected.
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn hostnames_are_labels() {
        for good in ["www", "www.example.org", "a-1"] {
            assert!(hostname(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a_b", "a b", "a\n", &"a".repeat(300)] {
            assert!(hostname(bad).is_err(), "{bad:?}");
        }
    }
}
