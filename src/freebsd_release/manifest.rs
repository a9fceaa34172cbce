//! Parses MANIFEST, which has a line with the digest of each set (release/scripts/make-manifest.sh of FreeBSD).

use std::collections::BTreeMap;

use thiserror::Error;

use crate::world::Digest;

/// The longest manifest that is read, in bytes; a real one has ten lines.
pub const MOST: u64 = 64 << 10;

/// The digests of the sets of one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digests by file name, such as `base.txz`.
    pub sets: BTreeMap<String, Digest>,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// The manifest is empty.
    #[error("it is empty")]
    Empty,
    /// The manifest is not UTF-8 text.
    #[error("it is not text")]
    Text,
    /// A line does not have the expected form.
    #[error("line {0}: expected a file and its SHA-256, separated by a tab")]
    Line(usize),
    /// A file occurs in two lines.
    #[error("line {0}: {1} occurs twice")]
    Twice(usize, String),
}

impl Manifest {
    /// Parses a manifest: fields separated by tabs, of which the first two are used.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let text = std::str::from_utf8(text).map_err(|_| ManifestError::Text)?;
        let mut sets = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let at = index + 1;
            if line.trim().is_empty() {
                continue;
            }
            let mut fields = line.split('\t');
            let name = fields.next().unwrap_or_default();
            let digest = fields.next().unwrap_or_default().trim();
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            let digest: Digest = match digest.parse() {
                Ok(digest) if !name.is_empty() && name.bytes().all(plain) => digest,
                _ => return Err(ManifestError::Line(at)),
            };
            if sets.insert(name.to_owned(), digest).is_some() {
                return Err(ManifestError::Twice(at, name.to_owned()));
            }
        }
        if sets.is_empty() {
            return Err(ManifestError::Empty);
        }
        Ok(Manifest { sets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_real_one() {
        let one = "a".repeat(64);
        let text = format!(
            "base-dbg.txz\t{one}\t1735\tbase_dbg\t\"Base system (Debugging)\"\toff\nbase.txz\t{}\t26582\tbase\t\"Base system (MANDATORY)\"\ton\n",
            "B".repeat(64)
        );
        let read = Manifest::parse(text.as_bytes()).expect("valid");
        assert_eq!(read.sets.len(), 2);
        assert_eq!(read.sets["base.txz"].to_string(), "b".repeat(64));
        for (bad, error) in [
            (String::new(), ManifestError::Empty),
            ("\n\n".to_owned(), ManifestError::Empty),
            ("<html>".to_owned(), ManifestError::Line(1)),
            (format!("base.txz {one}"), ManifestError::Line(1)),
            (format!("base.txz\t{}", &one[1..]), ManifestError::Line(1)),
            (format!("../base.txz\t{one}"), ManifestError::Line(1)),
            (
                format!("a\t{one}\na\t{one}\n"),
                ManifestError::Twice(2, "a".to_owned()),
            ),
        ] {
            assert_eq!(Manifest::parse(bad.as_bytes()), Err(error), "{bad}");
        }
        assert_eq!(Manifest::parse(b"\xff"), Err(ManifestError::Text));
    }
}
