//! Removes or visits a tree of directories that contains no files, such as a tree of cgroups.
//!
//! A hostile jail may have created the tree: thousands of directories deep, with paths that exceed `PATH_MAX`, or with
//! thousands of directories side by side. So this module uses names and `..` instead of paths, three descriptors
//! however deep the tree is, and no recursion.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The calls that a removal makes to its caller.
pub(super) trait Pace {
    /// Is called before each step.
    ///
    /// # Errors
    /// Returns an error when the time is over.
    fn step(&mut self) -> io::Result<()>;

    /// Is called after each directory that was removed.
    fn removed(&mut self) {}

    /// Is called when a directory cannot be removed although there is none below it. It waits a moment.
    ///
    /// # Errors
    /// Returns an error when it has waited long enough.
    fn busy(&mut self) -> io::Result<()>;
}

/// Removes a directory and those below it. The directory may be missing.
///
/// # Errors
/// Returns the error of the operating system, or of [`Pace`].
pub(super) fn remove(path: &Path, pace: &mut dyn Pace) -> io::Result<()> {
    loop {
        let root = match openat(CWD, path, DIRECTORY, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        match remove_below(root, pace) {
            Ok(()) => {}
            // Another process removes the tree too: start again at its top.
            Err(e) if e.kind() == io::ErrorKind::NotFound => pace.busy()?,
            Err(e) => return Err(e),
        }
        match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => pace.busy()?,
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Calls a function for each directory of a tree, for at most `most` of them. The tree may be missing.
///
/// # Errors
/// Returns the error of the operating system or of the function.
pub(super) fn visit(
    path: &Path,
    most: usize,
    each: &mut dyn FnMut(&OwnedFd) -> io::Result<()>,
) -> io::Result<()> {
    let mut here = match openat(CWD, path, DIRECTORY, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    each(&here)?;
    let mut seen = 1;
    // The directories that remain to be visited, for each level on the way to `here`.
    let mut pending = vec![children(&here)?];
    while let Some(names) = pending.last_mut() {
        let Some(name) = names.pop() else {
            pending.pop();
            if !pending.is_empty() {
                here = openat(&here, c"..", DIRECTORY, Mode::empty())?;
            }
            continue;
        };
        match openat(&here, &name, DIRECTORY, Mode::empty()) {
            Ok(child) if seen < most => {
                seen += 1;
                each(&child)?;
                pending.push(children(&child)?);
                here = child;
            }
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Returns the names of the directories in a directory; none if it is being removed.
fn children(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = match entry {
            Err(Errno::NOENT) => break,
            other => other?,
        };
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Returns the text of a file in a directory; none if it does not exist, or cannot be read in its present state.
///
/// # Errors
/// Returns the error of the operating system.
pub(super) fn read(directory: &OwnedFd, name: &CStr) -> io::Result<Option<String>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(directory, name, flags, Mode::empty()).map_err(io::Error::from);
    let mut text = String::new();
    match opened.and_then(|file| File::from(file).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            _ => Err(error),
        },
    }
}

fn remove_below(root: OwnedFd, pace: &mut dyn Pace) -> io::Result<()> {
    let mut here = root;
    // The names on the way from the root to `here`.
    let mut names: Vec<CString> = Vec::new();
    loop {
        if let Some(name) = remove_children(&here, pace)? {
            match openat(&here, &name, DIRECTORY, Mode::empty()) {
                Ok(child) => {
                    here = child;
                    names.push(name);
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
            continue;
        }
        let Some(name) = names.pop() else {
            return Ok(());
        };
        here = openat(&here, c"..", DIRECTORY, Mode::empty())?;
        match unlinkat(&here, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => pace.removed(),
            // It contains processes, or something was created in it since.
            Err(Errno::BUSY | Errno::NOTEMPTY) => pace.busy()?,
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Removes the directories in a directory, up to the first that cannot be removed, and returns the name of that one.
fn remove_children(directory: &OwnedFd, pace: &mut dyn Pace) -> io::Result<Option<CString>> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() != FileType::Directory || name == c"." || name == c".." {
            continue;
        }
        pace.step()?;
        match unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => pace.removed(),
            Err(Errno::BUSY | Errno::NOTEMPTY) => return Ok(Some(name.to_owned())),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use rustix::fs::mkdirat;

    use super::*;

    /// A pace that gives up when a directory stays busy.
    #[derive(Default)]
    struct Counted {
        steps: usize,
        most: Option<usize>,
    }

    impl Pace for Counted {
        fn step(&mut self) -> io::Result<()> {
            self.steps += 1;
            match self.most {
                Some(most) if self.steps > most => Err(io::ErrorKind::TimedOut.into()),
                Some(_) | None => Ok(()),
            }
        }

        fn busy(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::ResourceBusy.into())
        }
    }

    /// Creates nested directories with names so long that the path exceeds every limit.
    fn nest(root: &Path, depth: usize) {
        let name = "d".repeat(200);
        let mut here = openat(CWD, root, DIRECTORY, Mode::empty()).expect("opened");
        for _ in 0..depth {
            mkdirat(&here, &*name, Mode::RWXU).expect("made");
            here = openat(&here, &*name, DIRECTORY, Mode::empty()).expect("opened");
        }
    }

    #[test]
    fn trees_go_however_deep_and_wide_they_are() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("tree");
        remove(&root, &mut Counted::default()).expect("there is none");
        std::fs::create_dir(&root).expect("made");
        nest(&root, 300);
        for number in 0..500 {
            let sibling = root.join(number.to_string());
            std::fs::create_dir_all(sibling.join("a/b")).expect("made");
        }
        let mut pace = Counted::default();
        remove(&root, &mut pace).expect("removed");
        assert!(!root.exists());
        // Each directory is tried a few times, and not once for each of the others.
        assert!(pace.steps < 8000, "{}", pace.steps);
    }

    #[test]
    fn each_directory_is_visited_once_and_no_more_than_the_most() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("tree");
        let count = |most: usize| {
            let mut found = Vec::new();
            let mut each = |at: &OwnedFd| {
                found.extend(read(at, c"number")?);
                Ok(())
            };
            visit(&root, most, &mut each).expect("visited");
            found.sort();
            found
        };
        assert_eq!(count(9), [""; 0]);
        for (number, at) in ["", "a", "a/b", "a/b/c", "a/d", "e"].iter().enumerate() {
            std::fs::create_dir(root.join(at)).expect("made");
            std::fs::write(root.join(at).join("number"), number.to_string()).expect("written");
        }
        std::os::unix::fs::symlink(directory.path(), root.join("link")).expect("linked");
        assert_eq!(count(9), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(count(3).len(), 3);
        nest(&root.join("e"), 300);
        assert_eq!(count(1000).len(), 6);
    }

    #[test]
    fn it_ends_when_its_time_is_over_and_can_go_on() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("tree");
        std::fs::create_dir(&root).expect("made");
        nest(&root, 100);
        let mut pace = Counted {
            most: Some(20),
            ..Counted::default()
        };
        let error = remove(&root, &mut pace).expect_err("it takes longer");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // A directory that is in use stays, and so do its parents.
        let file = root.join("d".repeat(200)).join("file");
        std::fs::write(&file, "").expect("written");
        let error = remove(&root, &mut Counted::default()).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(file.exists());
        std::fs::remove_file(&file).expect("removed");
        remove(&root, &mut Counted::default()).expect("removed");
        assert!(!root.exists());
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let other = directory.path().join("other/inner");
        std::fs::create_dir_all(&other).expect("made");
        let root = directory.path().join("tree");
        std::fs::create_dir(&root).expect("made");
        std::os::unix::fs::symlink(directory.path().join("other"), root.join("link"))
            .expect("linked");
        let error = remove(&root, &mut Counted::default()).expect_err("a link is in it");
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(other.exists());
    }
}
