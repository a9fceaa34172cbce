//! The derived files on the host: which site owns a file, and how a file is written in one step.
//!
//! The directory is shared with the administrator's own files and with other sites. ezz never overwrites or removes a
//! file that does not name this site in its first line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::conf;
use crate::model::Changed;
use crate::ports::HostError;

/// The longest derived file that is read, in bytes. A longer one is not ezz's.
const MAX: u64 = 1 << 20;

/// Returns the content of a file; none if it does not exist.
///
/// # Errors
/// [`HostError::File`] if it cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, HostError> {
    let failed = |source| file_error("read", path, source);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut text = Vec::new();
    file.take(MAX).read_to_end(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Writes a text into a file of this site.
///
/// # Errors
/// [`HostError::File`] if the file cannot be written, or is not this site's.
pub fn put(path: &Path, site_id: &str, text: &[u8]) -> Result<Changed, HostError> {
    match read(path)? {
        Some(now) if now == text => return Ok(Changed::Already),
        Some(now) => ours(path, site_id, &now)?,
        None => {}
    }
    write(path, text).map_err(|source| file_error("write", path, source))?;
    Ok(Changed::Done)
}

/// Removes a file, if it is one of this site.
///
/// # Errors
/// [`HostError::File`] if it cannot be read or removed.
pub fn remove(path: &Path, site_id: &str) -> Result<Changed, HostError> {
    if !is_of(path, site_id)? {
        return Ok(Changed::Already);
    }
    fs::remove_file(path).map_err(|source| file_error("remove", path, source))?;
    Ok(Changed::Done)
}

/// Reports whether a file exists and is this site's.
///
/// # Errors
/// [`HostError::File`] if it cannot be read.
pub fn is_of(path: &Path, site_id: &str) -> Result<bool, HostError> {
    Ok(read(path)?.is_some_and(|text| conf::owner(&text) == Some(site_id)))
}

/// Returns the error for an operation on a file.
pub fn file_error(action: &'static str, path: &Path, source: io::Error) -> HostError {
    HostError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

fn ours(path: &Path, site_id: &str, text: &[u8]) -> Result<(), HostError> {
    let why = match conf::owner(text) {
        Some(owner) if owner == site_id => return Ok(()),
        Some(owner) => format!("it belongs to the site {owner}"),
        None => "ezz did not make it".to_owned(),
    };
    let source = io::Error::new(io::ErrorKind::AlreadyExists, why);
    Err(file_error("replace", path, source))
}

/// Writes a new file beside the old one and renames it, so that a reader sees either the old text or the new one, even
/// after a crash.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let temporary = temporary(path);
    let written = write_new(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        // The first error is the one to report. The next attempt reuses the name.
        drop(fs::remove_file(&temporary));
    }
    written
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)?
        }
        other => other?,
    };
    file.write_all(text)?;
    file.sync_all()
}

/// The name is not `*.conf`, because jail.conf may include all of those.
fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &[u8] = b"# Made by ezz for site A. x\nweb {\n}\n";

    #[test]
    fn twice_is_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("web.conf");
        let changed = |changed: Result<Changed, HostError>| changed.expect("it is ours");
        assert_eq!(changed(put(&path, "A", OURS)), Changed::Done);
        assert_eq!(changed(put(&path, "A", OURS)), Changed::Already);
        assert_eq!(fs::read(&path).expect("it is there"), OURS);
        assert_eq!(changed(remove(&path, "A")), Changed::Done);
        assert_eq!(changed(remove(&path, "A")), Changed::Already);
        let left = fs::read_dir(directory.path()).expect("a directory").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn the_files_of_others_are_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("web.conf");
        for foreign in [
            &b"web { path = /x; }\n"[..],
            b"# Made by ezz for site B. x\n",
            b"",
        ] {
            fs::write(&path, foreign).expect("it can be written");
            let error = put(&path, "A", OURS).expect_err("it is not ours");
            assert!(matches!(
                error,
                HostError::File {
                    action: "replace",
                    ..
                }
            ));
            assert_eq!(remove(&path, "A").expect("it is left"), Changed::Already);
            assert_eq!(fs::read(&path).expect("it is there"), foreign);
        }
    }

    #[test]
    fn a_temporary_file_left_by_a_crash_is_no_obstacle() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("web.conf");
        let left = temporary(&path);
        assert!(!left.to_string_lossy().ends_with(".conf"));
        fs::write(&left, "half").expect("it can be written");
        assert_eq!(put(&path, "A", OURS).expect("it is new"), Changed::Done);
        assert!(!left.exists());
    }
}
