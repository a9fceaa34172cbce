//! Wording that several modules share.

use std::fmt::Display;

/// Returns the first items of a list, and the number of the others: `a, b and 3 more`.
pub fn first_few<T: Display>(
    items: impl IntoIterator<Item = T>,
    most: usize,
    between: &str,
) -> String {
    let mut items = items.into_iter();
    let shown: Vec<String> = items
        .by_ref()
        .take(most)
        .map(|item| item.to_string())
        .collect();
    let shown = shown.join(between);
    match items.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Returns a word with the quotes that a shell needs to read it as one word.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_left_out_is_counted() {
        assert_eq!(first_few([""; 0], 2, ", "), "");
        assert_eq!(first_few(["a", "b"], 2, ", "), "a, b");
        assert_eq!(first_few(["a", "b", "c", "d"], 2, "; "), "a; b and 2 more");
    }
}
