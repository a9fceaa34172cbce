//! Names: the parser accepts exactly what the rules below allow, which are written independently of it, and an accepted
//! name is the same when it is parsed from its text.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use ezz::name::{DatasetName, GenerationId, JailName, SnapshotName, TrackName, expand};

/// Checks a text as every kind of name, and as a range.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let label = is_label(text);
    let letter = text.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    let reserved = matches!(text, "basejail" | "newjail" | "flavours" | "archive");
    same::<JailName>(text, label && letter && !reserved);
    same::<TrackName>(text, label);
    let short = text.len() < 256;
    same::<DatasetName>(text, short && is_dataset(text));
    let halves: Vec<&str> = text.split('@').collect();
    let snapshot =
        matches!(halves[..], [dataset, name] if is_dataset(dataset) && is_component(name));
    same::<SnapshotName>(text, short && snapshot);
    if let Ok(name) = text.parse::<DatasetName>() {
        dataset(&name);
    }
    if let Ok(name) = text.parse::<SnapshotName>() {
        let again = name.dataset().at(name.snapshot());
        assert_eq!(again.as_ref(), Ok(&name));
    }
    match GenerationId::from_component(text) {
        Some(id) => assert!(id.0 > 0 && id.to_string() == text, "{id} from {text:?}"),
        None => assert!(
            text.parse::<u32>()
                .map_or(true, |n| n == 0 || n.to_string() != text),
            "{text:?} is refused"
        ),
    }
    range(text);
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match bytes {
        [] => false,
        [only] => inner(only),
        [first, middle @ .., last] => {
            bytes.len() <= 63
                && inner(first)
                && inner(last)
                && middle.iter().all(|b| inner(b) || *b == b'-')
        }
    }
}

fn is_component(text: &str) -> bool {
    let allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.: ";
    !text.is_empty() && text.chars().all(|c| allowed.contains(c))
}

fn is_dataset(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        && text
            .split('/')
            .all(|part| is_component(part) && part != "." && part != "..")
}

/// Checks that a text is accepted exactly if expected, and that the accepted name has the same text.
fn same<T>(text: &str, expected: bool)
where
    T: FromStr + Display + Debug + PartialEq,
    T::Err: Display + Debug,
{
    match text.parse::<T>() {
        Ok(name) => {
            assert!(expected, "{name:?} is accepted");
            assert_eq!(name.to_string(), text);
            assert_eq!(name.to_string().parse::<T>().ok(), Some(name));
        }
        Err(error) => {
            assert!(!expected, "{text:?} is refused: {error}");
            // The error goes to a terminal: no control character of the name may be in it.
            let shown = error.to_string();
            assert!(!shown.chars().any(|c| c.is_control()), "{shown:?}");
        }
    }
}

fn dataset(name: &DatasetName) {
    assert!(name.contains(name));
    assert!(name.as_str().starts_with(name.pool()));
    match name.parent() {
        None => assert_eq!(name.pool(), name.as_str()),
        Some(parent) => {
            assert!(parent.contains(name) && !name.contains(&parent));
            assert_eq!(parent.child(name.leaf()).as_ref(), Ok(name));
        }
    }
}

fn range(text: &str) {
    let Ok(names) = expand(text) else {
        return;
    };
    assert!(!names.is_empty() && names.len() <= 100_000);
    let bytes: usize = names.iter().map(String::len).sum();
    // An argument of 128 KiB must not become gigabytes.
    assert!(bytes <= (64 << 20).max(text.len()), "{bytes} bytes");
    assert!(names.iter().all(|name| !name.contains(['{', '}'])));
    if !text.contains('{') {
        assert_eq!(names, [text]);
    }
    // Two ranges side by side may produce a name twice: `{1..11}{1..11}`. Sorting many names takes time that is better
    // spent on other inputs.
    if text.matches('{').count() < 2 && names.len() < 1000 {
        let unique: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }
}
