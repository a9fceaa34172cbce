//! The text of a manifest: mtree(5) lines, whose names are escaped as in vis(3), with three octal digits. Parsing is
//! the inverse of writing, and accepts only what writing produces.

use std::collections::BTreeMap;

use rustix::fs::FileType;

use crate::profile::RelPath;
use crate::world::error::WorldError;

/// The first line: the signature that mtree(5) requires, and the version of our format.
const HEADER: &str = "#mtree v2.0 ezz 1";
/// Keywords in the order in which they are written; extended attributes follow.
const KEYWORDS: [&str; 9] = [
    "type",
    "mode",
    "uid",
    "gid",
    "nlink",
    "size",
    "time",
    "sha256digest",
    "link",
];
const TYPES: [(FileType, &str); 7] = [
    (FileType::RegularFile, "file"),
    (FileType::Directory, "dir"),
    (FileType::Symlink, "link"),
    (FileType::CharacterDevice, "char"),
    (FileType::BlockDevice, "block"),
    (FileType::Fifo, "fifo"),
    (FileType::Socket, "socket"),
];

/// The line of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) path: RelPath,
    pub(super) kind: FileType,
    /// Size of a file in bytes; it is not written from this field.
    pub(super) size: u64,
    pub(super) words: BTreeMap<String, String>,
}

impl Line {
    pub(super) fn new(path: RelPath, kind: FileType) -> Line {
        let name = TYPES
            .iter()
            .find(|(known, _)| *known == kind)
            .map_or("unknown", |(_, n)| n);
        let words = BTreeMap::from([("type".to_owned(), name.to_owned())]);
        Line {
            path,
            kind,
            size: 0,
            words,
        }
    }

    /// Sets a keyword; the caller has already escaped the value where that is necessary.
    pub(super) fn set(&mut self, keyword: &str, value: String) {
        self.words.insert(keyword.to_owned(), value);
    }
}

/// Renders the whole text.
pub(super) fn render(lines: &[Line]) -> String {
    let mut text = String::with_capacity(lines.len() * 200);
    text.push_str(HEADER);
    text.push('\n');
    for line in lines {
        render_line(line, &mut text);
        text.push('\n');
    }
    text
}

fn render_line(line: &Line, text: &mut String) {
    text.push('.');
    if !line.path.is_root() {
        text.push('/');
        text.push_str(&escape(line.path.as_bytes()));
    }
    let known = KEYWORDS.iter().filter_map(|k| line.words.get_key_value(*k));
    let attributes = line.words.iter().filter(|(k, _)| k.starts_with("xattr."));
    for (keyword, value) in known.chain(attributes) {
        text.push(' ');
        text.push_str(keyword);
        text.push('=');
        text.push_str(value);
    }
}

/// Parses a whole text.
///
/// # Errors
/// A text that [`render`] would not have written.
pub(super) fn parse(text: &str) -> Result<Vec<Line>, WorldError> {
    let bad = |at: usize, problem: String| WorldError::Manifest {
        line: at + 1,
        problem,
    };
    let body = text.strip_suffix('\n').ok_or_else(|| {
        bad(
            text.matches('\n').count(),
            "the last line has no end".to_owned(),
        )
    })?;
    let mut rows = body.split('\n').enumerate();
    if rows.next().is_none_or(|(_, first)| first != HEADER) {
        return Err(bad(0, format!("it does not begin with {HEADER}")));
    }
    let mut lines: Vec<Line> = Vec::new();
    for (at, row) in rows {
        let line = parse_line(row).map_err(|problem| bad(at, problem))?;
        let in_order = match lines.last() {
            Some(last) => last.path < line.path,
            None => line.path.is_root(),
        };
        if !in_order {
            return Err(bad(at, format!("{} is not in order", line.path)));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(bad(1, "the root is missing".to_owned()));
    }
    Ok(lines)
}

fn parse_line(row: &str) -> Result<Line, String> {
    // Everything else is escaped, so that no control character gets into a report.
    if let Some(other) = row.bytes().find(|b| *b != b' ' && !b.is_ascii_graphic()) {
        return Err(format!("it holds the byte {other:#04x}"));
    }
    let mut words = row.split(' ');
    let name = words.next().unwrap_or_default();
    let path = match name.strip_prefix("./") {
        Some(name) => {
            let raw = unescape(name).ok_or_else(|| format!("{name} is not escaped correctly"))?;
            let path = RelPath::parse(&raw).map_err(|e| format!("{name}: {e}"))?;
            if path.as_bytes() != raw || path.is_root() {
                return Err(format!("{name} is not in its normal form"));
            }
            path
        }
        None if name == "." => RelPath::root(),
        None => return Err(format!("{name} does not begin with ./")),
    };
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for word in words {
        let (keyword, value) = word
            .split_once('=')
            .ok_or_else(|| format!("{word} is not a keyword with a value"))?;
        if !KEYWORDS.contains(&keyword) && !keyword.starts_with("xattr.") {
            return Err(format!("{keyword} is an unknown keyword"));
        }
        if found.insert(keyword.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{keyword} occurs twice"));
        }
    }
    let kind = found
        .get("type")
        .and_then(|name| TYPES.iter().find(|(_, known)| known == name))
        .map(|(kind, _)| *kind)
        .ok_or("it has no type, or an unknown one")?;
    let size = match found.get("size") {
        Some(text) => match text.parse::<u64>() {
            Ok(size) if size.to_string() == *text => size,
            _ => return Err(format!("{text} is not a size")),
        },
        None => 0,
    };
    let line = Line {
        path,
        kind,
        size,
        words: found,
    };
    let mut written = String::with_capacity(row.len());
    render_line(&line, &mut written);
    if written != row {
        return Err("its keywords are not in order".to_owned());
    }
    Ok(line)
}

/// Escapes the characters that would end a word or have a meaning in mtree(5), and all that are not printable ASCII.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' | b'#' | b'*' | b'?' | b'[' | b'=' | 0..=b' ' | 0x7f.. => {
                text.push_str(&format!("\\{byte:03o}"));
            }
            byte => text.push(char::from(*byte)),
        }
    }
    text
}

/// The inverse of [`escape`]; returns `None` for a text that `escape` does not produce.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..3)?;
        if !digits.iter().all(|b| (b'0'..=b'7').contains(b)) {
            return None;
        }
        let value = digits
            .iter()
            .fold(0u16, |value, b| value * 8 + u16::from(b - b'0'));
        bytes.push(u8::try_from(value).ok()?);
        rest = &rest[3..];
    }
    (escape(&bytes) == text).then_some(bytes)
}

/// Returns the number of the line that holds a byte, counted from 1.
pub(super) fn line_of(bytes: &[u8], at: usize) -> usize {
    bytes[..at].iter().filter(|b| **b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::{FileType, HEADER, Line, escape, parse, render, unescape};
    use crate::profile::RelPath;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = escape(&bytes);
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert!(!text.contains(['#', '=', '*', '?', '[']));
            prop_assert_eq!(unescape(&text), Some(bytes));
        }

        #[test]
        fn what_is_unescaped_is_what_escape_makes(text in "[ -~]{0,20}") {
            if let Some(bytes) = unescape(&text) {
                prop_assert_eq!(escape(&bytes), text);
            }
        }

        #[test]
        fn texts_come_back(names in proptest::collection::btree_set("[a-c /=#é]{1,12}", 0..12)) {
            let mut paths: Vec<RelPath> = names
                .iter()
                .filter_map(|name| RelPath::parse(name.trim_start_matches('/').as_bytes()).ok())
                .collect();
            paths.push(RelPath::root());
            paths.sort();
            paths.dedup();
            let lines: Vec<Line> = paths
                .into_iter()
                .map(|path| {
                    let mut line = Line::new(path, FileType::RegularFile);
                    line.set("mode", "0644".to_owned());
                    line.set("xattr.user.x", "00".to_owned());
                    line
                })
                .collect();
            let text = render(&lines);
            prop_assert_eq!(parse(&text).map_err(|e| e.to_string()), Ok(lines));
        }
    }

    #[test]
    fn only_what_is_written_is_read() {
        let good = format!("{HEADER}\n. type=dir mode=0755\n./a type=file size=1\n");
        assert!(parse(&good).is_ok());
        for (bad, line) in [
            (good.replace("#mtree", "#mtreee"), 1),
            (good.replace("./a ", "./../a "), 3),
            (good.replace("./a ", "./a/ "), 3),
            (good.replace("./a ", "./\\141 "), 3),
            (good.replace("./a ", "/a "), 3),
            (good.replace("size=1", "size=x"), 3),
            (good.replace("size=1", "size=1 size=1"), 3),
            (good.replace("size=1", "size=+1"), 3),
            (good.replace("size=1", "size=01"), 3),
            (good.replace("type=dir mode=0755", "mode=0755 type=dir"), 2),
            (good.replace("size=1", "size=1 link=a\u{1b}"), 3),
            (good.replace("size=1", "size=1 link=\u{e4}"), 3),
            (good.replace("size=1", "flags=schg"), 3),
            (good.replace("type=file", "type=door"), 3),
            (good.replace("type=file ", ""), 3),
            (good.replace(". type=dir", "./b type=dir"), 2),
            (good.trim_end().to_owned(), 3),
            (format!("{HEADER}\n"), 2),
        ] {
            match parse(&bad) {
                Err(super::WorldError::Manifest { line: found, .. }) => {
                    assert_eq!(found, line, "{bad}")
                }
                other => panic!("{bad}: {other:?}"),
            }
        }
    }
}
