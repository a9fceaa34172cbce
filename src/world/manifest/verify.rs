//! Comparing a tree with a manifest.
//! Must not be here: where the manifest comes from, and whether it is the right one.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use super::super::error::WorldError;
use super::super::progress::Context;
use super::text::{self, Line};
use super::{foreign, scan};
use crate::profile::RelPath;

/// How a file differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is there, and not in the manifest.
    Added,
    /// It is in the manifest, and not there.
    Missing,
    /// One of its keywords has another value.
    Changed {
        /// The keyword of mtree(5), or `xattr.NAME`.
        keyword: String,
        /// What the manifest says; none if it has no such keyword.
        expected: Option<String>,
        /// What is there.
        found: Option<String>,
    },
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub path: RelPath,
    /// How.
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

/// Compares a tree with the text of a manifest; all differences, sorted by path.
///
/// # Errors
/// The text is no manifest; the tree cannot be read.
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
    let mut expected = expected.into_iter().peekable();
    let mut found = found.into_iter().peekable();
    loop {
        let order = match (expected.peek(), found.peek()) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.path.cmp(&b.path),
        };
        let (mut was, mut is) = (None, None);
        if order.is_le() {
            was = expected.next();
        }
        if order.is_ge() {
            is = found.next();
        }
        match (was, is) {
            (Some(was), Some(is)) => compare(&was, &is, &mut differences),
            (Some(was), None) => {
                differences.push(Difference {
                    path: was.path,
                    what: Change::Missing,
                });
            }
            (None, Some(is)) => {
                differences.push(Difference {
                    path: is.path,
                    what: Change::Added,
                });
            }
            (None, None) => {}
        }
    }
    differences.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(differences)
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
