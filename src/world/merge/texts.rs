//! The texts of the files that a merge compares, and who compares them.
//! Must not be here: what becomes of a file.

use std::path::Path;

use super::super::dirs::Dirs;
use super::super::error::WorldError;
use super::super::text::{Answer, Request, TEXT_MAX};
use crate::profile::RelPath;

/// Asks who compares texts.
pub(super) type Ask<'a> = dyn FnMut(Request<'_>) -> Result<Answer, WorldError> + 'a;

/// How the lines of one text become another's, where there are both.
pub(super) fn patch(
    old: Option<String>,
    new: Option<String>,
    ask: &mut Ask<'_>,
) -> Result<Option<String>, WorldError> {
    let (Some(old), Some(new)) = (old, new) else {
        return Ok(None);
    };
    if old == new {
        return Ok(None);
    }
    let (old, new) = (old.as_str(), new.as_str());
    Ok(match ask(Request::Patch { old, new })? {
        Answer::Text(text) => Some(text),
        Answer::Conflict | Answer::TooDifferent | Answer::NoAnswer => None,
    })
}

/// A regular file that is a text and not too long.
pub(super) fn text_of(root: &Path, path: &RelPath) -> Result<Option<String>, WorldError> {
    let bytes = Dirs::open(root)?.read(path, TEXT_MAX + 1)?;
    let text = bytes.filter(|bytes| bytes.len() as u64 <= TEXT_MAX && !bytes.contains(&0));
    Ok(text.and_then(|bytes| String::from_utf8(bytes).ok()))
}
