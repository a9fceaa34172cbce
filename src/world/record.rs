//! The record, in a jail's own files, of the generation that they were last merged to.
//!
//! If an administrator rolls the dataset back, the record goes back with the files, but the properties of the jail do
//! not. The record lies in the directory that the base is mounted on, so a running jail sees the mounted base instead
//! and cannot reach it.
//! This module must not decide what follows from the record.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::dirs::Dirs;
use super::error::WorldError;
use crate::profile::RelPath;

/// The path of the record below the root of a jail.
const PATH: &str = "basejail/.ezz-generation";

/// The longest record: a number and a line break are shorter.
const SIZE_MAX: u64 = 16;

fn path() -> RelPath {
    RelPath::parse(PATH.as_bytes()).unwrap_or_default()
}

/// Reads the record; returns `None` if it does not exist or is not valid.
///
/// # Errors
/// The system refuses an operation.
pub fn read(root: &Path) -> Result<Option<u32>, WorldError> {
    let bytes = Dirs::open(root)?.read(&path(), SIZE_MAX)?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|text| text.strip_suffix('\n')?.parse().ok()))
}

/// Writes the record, through no link, and replaces an existing one.
///
/// # Errors
/// The system refuses an operation.
pub fn write(root: &Path, generation: u32) -> Result<(), WorldError> {
    let path = path();
    let host = path.under(root);
    let failed = |error: io::Error| WorldError::io("write", &host, error);
    let mut dirs = Dirs::open(root)?;
    let parent = dirs.parent(&path, true).map_err(|e| e.in_tree(root))?;
    match rustix::fs::unlinkat(parent, path.name(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed(errno.into())),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, path.name(), flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| failed(errno.into()))?;
    let mut file = File::from(fd);
    file.write_all(format!("{generation}\n").as_bytes())
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let root = tempfile::tempdir().expect("a directory");
        let at = root.path();
        assert!(matches!(read(at), Ok(None)));
        write(at, 7).expect("written");
        write(at, 12).expect("written again");
        assert!(matches!(read(at), Ok(Some(12))));
        let file = at.join(PATH);
        for odd in ["", "12", "-1\n", "4294967296\n", "1\n1\n"] {
            std::fs::write(&file, odd).expect("writable");
            assert!(matches!(read(at), Ok(None)), "{odd:?}");
        }
        // Neither reading nor writing follows a link.
        std::fs::remove_file(&file).expect("it is there");
        std::fs::write(at.join("other"), "3\n").expect("writable");
        std::os::unix::fs::symlink("../other", &file).expect("a link");
        assert!(matches!(read(at), Ok(None)));
        write(at, 4).expect("written");
        let other = std::fs::read_to_string(at.join("other")).expect("readable");
        assert_eq!(other, "3\n");
        // A fifo is not waited for, and an endless file is not read.
        std::fs::remove_file(&file).expect("it is there");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, mode).expect("a fifo");
        assert!(matches!(read(at), Ok(None)));
        write(at, 5).expect("written");
        assert!(matches!(read(at), Ok(Some(5))));
        let long = File::create(&file).expect("writable");
        long.set_len(1 << 40).expect("sparse");
        assert!(matches!(read(at), Ok(None)));
        // The error names the path that cannot be replaced.
        for odd in ["basejail/.ezz-generation/mine", "basejail"] {
            let root = tempfile::tempdir().expect("a directory");
            let at = root.path().join(odd);
            std::fs::create_dir_all(at.parent().expect("it has one")).expect("made");
            std::fs::write(&at, "mine\n").expect("written");
            assert!(matches!(read(root.path()), Ok(None)), "{odd}");
            let refused = write(root.path(), 6).expect_err("it is in the way");
            assert!(refused.to_string().contains("basejail"), "{refused}");
        }
    }
}
