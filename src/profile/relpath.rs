//! `RelPath`: a path below the root of a world, checked once.
//!
//! Everything that names a file of a world (an archive, a profile, a manifest) is parsed into this
//! type at the edge, so that no later code has to think of `..`, of absolute names or of names that
//! no FreeBSD kernel would take. Bytes, not text: a world may hold names in any encoding.
//! Must not be here: anything that looks at a file system.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest component that FreeBSD and Linux take (`NAME_MAX`).
pub const COMPONENT_MAX: usize = 255;
/// The longest path below a root: Linux' `PATH_MAX` is 4096 with its NUL. What FreeBSD takes is shorter, see
/// [`crate::profile::Os::path_max`].
pub const PATH_MAX: usize = 4095;

/// Why some bytes are no path below a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelPathError {
    /// The path begins with a slash.
    #[error("the path is absolute")]
    Absolute,
    /// A component is `..`.
    #[error("the path has a `..` component")]
    Parent,
    /// The path holds a NUL byte.
    #[error("the path holds a NUL byte")]
    Nul,
    /// The path or one component of it is too long.
    #[error("the path is longer than {PATH_MAX} bytes, or a part of it than {COMPONENT_MAX}")]
    TooLong,
}

/// A normal path below a root: no leading slash, no `.`, `..` or empty component. The root itself
/// is the empty path. Sorted component by component, which is the order of a tree walk.
#[derive(Clone, PartialEq, Eq, Hash, Default, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// The root itself.
    pub fn root() -> RelPath {
        RelPath(Vec::new())
    }

    /// Parses bytes; `./`, doubled and trailing slashes are dropped.
    ///
    /// # Errors
    /// Absolute paths, `..`, NUL bytes, and what is too long for a kernel.
    pub fn parse(bytes: &[u8]) -> Result<RelPath, RelPathError> {
        if bytes.first() == Some(&b'/') {
            return Err(RelPathError::Absolute);
        }
        let mut path = Vec::with_capacity(bytes.len());
        for part in bytes.split(|b| *b == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(RelPathError::Parent),
                part if part.contains(&0) => return Err(RelPathError::Nul),
                part if part.len() > COMPONENT_MAX => return Err(RelPathError::TooLong),
                part => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(part);
                }
            }
        }
        if path.len() > PATH_MAX {
            return Err(RelPathError::TooLong);
        }
        Ok(RelPath(path))
    }

    /// The path of a child of this directory. `name` comes from a directory listing, hence is one
    /// component; only the total length can be wrong.
    ///
    /// # Errors
    /// Everything that [`RelPath::parse`] refuses.
    pub fn join(&self, name: &[u8]) -> Result<RelPath, RelPathError> {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        RelPath::parse(&path)
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as `std` types know it; empty for the root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The path below a root directory of the host, for messages and mounts. Never open what this
    /// returns in a tree that somebody else made: it follows links.
    pub fn under(&self, root: &Path) -> PathBuf {
        if self.is_root() {
            root.to_path_buf()
        } else {
            root.join(self.as_path())
        }
    }

    /// The directory that holds it; the root is its own parent.
    pub fn parent(&self) -> RelPath {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => RelPath(self.0[..at].to_vec()),
            None => RelPath::root(),
        }
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &OsStr {
        let start = self
            .0
            .iter()
            .rposition(|b| *b == b'/')
            .map_or(0, |at| at + 1);
        OsStr::from_bytes(&self.0[start..])
    }

    /// The components, outermost first; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|part| !part.is_empty())
    }

    /// How many components there are.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Whether it is `dir` or lies below it.
    pub fn is_within(&self, dir: &RelPath) -> bool {
        dir.is_root()
            || (self.0.starts_with(&dir.0)
                && (self.0.len() == dir.0.len() || self.0[dir.0.len()] == b'/'))
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash sorts before every byte that a name can hold: children follow their directory.
        let key = |b: &u8| if *b == b'/' { 0 } else { *b };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<String> for RelPath {
    /// With the text in it, since a parser may know no more than the list it is in.
    type Error = String;
    fn try_from(text: String) -> Result<RelPath, String> {
        RelPath::parse(text.as_bytes()).map_err(|e| format!("cannot use {text}: {e}"))
    }
}

impl std::str::FromStr for RelPath {
    type Err = RelPathError;
    fn from_str(text: &str) -> Result<RelPath, RelPathError> {
        RelPath::parse(text.as_bytes())
    }
}

impl fmt::Display for RelPath {
    /// For messages: `.` for the root, odd bytes escaped as Rust does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            f.write_str(".")
        } else {
            write!(f, "{}", self.0.escape_ascii())
        }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::{RelPath, RelPathError};

    #[test]
    fn normal_form() {
        for (text, normal) in [
            ("./usr/bin/", "usr/bin"),
            ("usr//./bin", "usr/bin"),
            ("./", ""),
            ("", ""),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(
                RelPath::parse(text.as_bytes()).map(|p| p.0),
                Ok(normal.as_bytes().to_vec())
            );
        }
    }

    #[test]
    fn refused() {
        let long = "a/".repeat(2048) + "a";
        for (text, error) in [
            (&b"/etc"[..], RelPathError::Absolute),
            (b"../x", RelPathError::Parent),
            (b"a/../b", RelPathError::Parent),
            (b"a\0b", RelPathError::Nul),
            (&[b'x'; 256], RelPathError::TooLong),
            (long.as_bytes(), RelPathError::TooLong),
        ] {
            assert_eq!(RelPath::parse(text), Err(error));
        }
    }

    #[test]
    fn order_is_that_of_a_walk() {
        let mut paths: Vec<RelPath> = ["a-b", "a/b", "a", "a.c", "", "a/b/c", "b"]
            .iter()
            .filter_map(|t| t.parse().ok())
            .collect();
        paths.sort();
        let text: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(text, [".", "a", "a/b", "a/b/c", "a-b", "a.c", "b"]);
    }

    #[test]
    fn within_is_by_component() -> Result<(), RelPathError> {
        let dir: RelPath = "usr/bin".parse()?;
        assert!("usr/bin/x".parse::<RelPath>()?.is_within(&dir));
        assert!("usr/bin".parse::<RelPath>()?.is_within(&dir));
        assert!(!"usr/bin2".parse::<RelPath>()?.is_within(&dir));
        assert!(dir.is_within(&RelPath::root()));
        Ok(())
    }
}
