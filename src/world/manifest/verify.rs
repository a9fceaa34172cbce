//! Comparing a tree with a manifest.
//! This module must not know where the manifest comes from, nor whether it is the right one.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use super::super::error::WorldError;
use super::super::progress::Context;
use super::text::{self, Line};
use super::{foreign, is_own, scan};
use crate::profile::RelPath;

/// How a file differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The file exists, but is not in the manifest.
    Added,
    /// The file is in the manifest, but does not exist.
    Missing,
    /// One keyword of the file has another value.
    Changed {
        /// The keyword of mtree(5), or `xattr.NAME`.
        keyword: String,
        /// The value in the manifest; `None` if the manifest has no such keyword for the file.
        expected: Option<String>,
        /// The value that the file has; `None` if it has none.
        found: Option<String>,
    },
}

/// One difference between a tree and its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The file that differs.
    pub path: RelPath,
    /// How the file differs.
    pub what: Change,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Change::Added => write!(f, "{}: added", self.path),
            Change::Missing => write!(f, "{}: missing", self.path),
            Change::Changed {
                keyword,
                expected,
                found,
            } => {
                let or_none = |value: &Option<String>| value.clone().unwrap_or("none".to_owned());
                let (expected, found) = (or_none(expected), or_none(found));
                write!(f, "{}: {keyword} is {found}, was {expected}", self.path)
            }
        }
    }
}

/// Compares a tree with the text of a manifest; returns all differences, sorted by path.
///
/// # Errors
/// The text is not a manifest, or the tree cannot be read.
pub fn verify(
    root: &Path,
    manifest: &str,
    context: &Context<'_>,
) -> Result<Vec<Difference>, WorldError> {
    let expected = text::parse(manifest)?;
    let found = scan(root, context)?;
    let mut differences: Vec<Difference> = foreign(root)?
        .into_iter()
        .map(|path| Difference {
            path,
            what: Change::Added,
        })
        .collect();
    pairs(expected, found, |pair| match pair {
        (Some(was), Some(is)) => compare(&was, &is, &mut differences),
        (Some(was), None) => differences.push(Difference {
            path: was.path,
            what: Change::Missing,
        }),
        (None, Some(is)) => differences.push(Difference {
            path: is.path,
            what: Change::Added,
        }),
        (None, None) => {}
    });
    differences.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(differences)
}

/// How a file differs between two manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The file that differs.
    pub path: RelPath,
    /// Type and size in bytes before; `None` if the file did not exist.
    pub before: Option<(String, u64)>,
    /// Type and size in bytes after; `None` if the file no longer exists.
    pub after: Option<(String, u64)>,
    /// The mtree(5) keywords whose values differ, for a file that is in both manifests.
    pub keywords: Vec<String>,
}

/// Compares two manifests; returns all files that differ, sorted by path. A file whose time alone differs does not
/// count, because a file that is unpacked again gets another time. Neither do the files that ezz itself has put there.
///
/// # Errors
/// One of the texts is not a manifest.
pub fn diff(before: &str, after: &str) -> Result<Vec<Step>, WorldError> {
    let side = |line: &Line| {
        let word = |name: &str| line.words.get(name).cloned().unwrap_or_default();
        (word("type"), word("size").parse().unwrap_or(0))
    };
    let mut steps = Vec::new();
    pairs(text::parse(before)?, text::parse(after)?, |(was, is)| {
        let Some(path) = is.as_ref().or(was.as_ref()).map(|line| line.path.clone()) else {
            return;
        };
        if is_own(&path) {
            return;
        }
        let mut differences = Vec::new();
        if let (Some(was), Some(is)) = (&was, &is) {
            compare(was, is, &mut differences);
        }
        let keywords: Vec<String> = differences
            .into_iter()
            .filter_map(|difference| match difference.what {
                Change::Changed { keyword, .. } => Some(keyword),
                Change::Added | Change::Missing => None,
            })
            .filter(|keyword| keyword != "time")
            .collect();
        if was.is_some() && is.is_some() && keywords.is_empty() {
            return;
        }
        steps.push(Step {
            path,
            before: was.as_ref().map(side),
            after: is.as_ref().map(side),
            keywords,
        });
    });
    Ok(steps)
}

/// Walks two sorted lists at once, and passes the lines of one path together.
fn pairs(was: Vec<Line>, is: Vec<Line>, mut each: impl FnMut((Option<Line>, Option<Line>))) {
    let (mut was, mut is) = (was.into_iter().peekable(), is.into_iter().peekable());
    loop {
        let order = match (was.peek(), is.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.path.cmp(&b.path),
        };
        let before = if order.is_le() { was.next() } else { None };
        let after = if order.is_ge() { is.next() } else { None };
        each((before, after));
    }
}

fn compare(was: &Line, is: &Line, differences: &mut Vec<Difference>) {
    let keywords: BTreeSet<&String> = was.words.keys().chain(is.words.keys()).collect();
    for keyword in keywords {
        let (expected, found) = (was.words.get(keyword), is.words.get(keyword));
        if expected != found {
            differences.push(Difference {
                path: was.path.clone(),
                what: Change::Changed {
                    keyword: keyword.clone(),
                    expected: expected.cloned(),
                    found: found.cloned(),
                },
            });
        }
    }
}
