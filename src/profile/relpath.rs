//! `RelPath`: a path below the root of a world, checked once.
//!
//! Every name of a file in a world (from an archive, a profile or a manifest) is parsed into this type at the edge. No
//! later code has to consider `..`, absolute paths, or names that are too long for a kernel. A path is bytes and not
//! text, because a world may have names in any encoding. This module must not access the file system.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest component that FreeBSD and Linux accept (`NAME_MAX`).
pub const COMPONENT_MAX: usize = 255;
/// The longest path below a root: `PATH_MAX` of Linux is 4096 with its NUL. FreeBSD has a shorter limit, see
/// [`crate::profile::Os::path_max`].
pub const PATH_MAX: usize = 4095;

/// Why some bytes are not a path below a root.
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
    /// The path or one of its components is too long.
    #[error("the path is longer than {PATH_MAX} bytes, or a part of it than {COMPONENT_MAX}")]
    TooLong,
}

/// A normalised path below a root: no leading slash, no `.`, `..` or empty component. The root itself is the empty
/// path. Paths are sorted component by component, in the order of a tree walk.
#[derive(Clone, PartialEq, Eq, Hash, Default, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// Returns the root itself.
    pub fn root() -> RelPath {
        RelPath(Vec::new())
    }

    /// Parses bytes. It drops `./`, and doubled and trailing slashes.
    ///
    /// # Errors
    /// Returns an error for an absolute path, `..`, a NUL byte, and a path that is too long for a kernel.
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

    /// Returns the path of a child of this directory. `name` comes from a directory listing, so it is one component,
    /// and only the total length can be wrong.
    ///
    /// # Errors
    /// Returns the errors of [`RelPath::parse`].
    pub fn join(&self, name: &[u8]) -> Result<RelPath, RelPathError> {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        RelPath::parse(&path)
    }

    /// Reports whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the path as a type of `std`; empty for the root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Returns the path below a root directory of the host, for messages and mounts. Do not use it to open a file in a
    /// tree that a jail or an archive has written: an open follows links.
    pub fn under(&self, root: &Path) -> PathBuf {
        if self.is_root() {
            root.to_path_buf()
        } else {
            root.join(self.as_path())
        }
    }

    /// Returns the directory that contains the path; the root is its own parent.
    pub fn parent(&self) -> RelPath {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => RelPath(self.0[..at].to_vec()),
            None => RelPath::root(),
        }
    }

    /// Returns the last component; empty for the root.
    pub fn name(&self) -> &OsStr {
        let start = self
            .0
            .iter()
            .rposition(|b| *b == b'/')
            .map_or(0, |at| at + 1);
        OsStr::from_bytes(&self.0[start..])
    }

    /// Returns the components, outermost first; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|part| !part.is_empty())
    }

    /// Returns the number of components.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Reports whether the path is `dir` or lies below it.
    pub fn is_within(&self, dir: &RelPath) -> bool {
        dir.is_root()
            || (self.0.starts_with(&dir.0)
                && (self.0.len() == dir.0.len() || self.0[dir.0.len()] == b'/'))
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash sorts before every byte that a name can have, so children directly follow their directory.
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
    /// The error has the text, because a parser may know only the list that contains it.
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
    /// Writes `.` for the root, and escapes bytes that are not printable as Rust does.
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
