//! Accesses files of a jail from the host without leaving the jail.
//!
//! A jail's root may place any link, device or pipe in it. All access starts from one descriptor of its root and uses
//! openat2(2): reading resolves links as in a chroot, and writing follows none. This module must not run or interpret
//! what it finds.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;

/// The root directory of a jail or of a basejail.
#[derive(Debug)]
pub(super) struct Inside(OwnedFd);

/// What exists at a path, after following links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing exists there.
    Missing,
    /// A regular file that is executable for some user.
    Program,
    /// A directory.
    Directory,
    /// Any other file.
    Other,
}

impl Inside {
    /// Opens a root; the last component of its path must not be a link.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Inside(openat(rustix::fs::CWD, root, flags, Mode::empty())?))
    }

    /// Opens the root of a running process, with the mounts that the process has.
    pub(super) fn of_process(pid: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = format!("/proc/{pid}/root");
        Ok(Inside(openat(rustix::fs::CWD, root, flags, Mode::empty())?))
    }

    /// Returns what exists at a path. It follows links, also into other mounts.
    pub(super) fn kind(&self, path: &str) -> io::Result<Kind> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = match openat2(&self.0, path, flags, Mode::empty(), resolve) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Kind::Missing),
            Err(errno) => return Err(errno.into()),
        };
        let mode = fstat(&fd)?.st_mode;
        Ok(match FileType::from_raw_mode(mode) {
            FileType::RegularFile if mode & 0o111 != 0 => Kind::Program,
            FileType::Directory => Kind::Directory,
            _ => Kind::Other,
        })
    }

    /// Returns the whole content of a regular file; none if there is no such file. A file of more than `most` bytes is
    /// an error, [`io::ErrorKind::FileTooLarge`], because a part of a text can mean something else than the whole.
    pub(super) fn read(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        // Non-blocking, because it may be a pipe without a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Some(fd) = self.resolve(path, flags)? else {
            return Ok(None);
        };
        if !is_file(&fd)? {
            return Ok(None);
        }
        let mut content = Vec::new();
        let read = File::from(fd).take(most + 1).read_to_end(&mut content)?;
        if read as u64 > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(content))
    }

    /// Returns the first bytes of a regular file. It follows links, also into other mounts.
    pub(super) fn head(&self, path: &str, bytes: u64) -> io::Result<Vec<u8>> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = openat2(&self.0, path, flags, Mode::empty(), resolve)?;
        if !is_file(&fd)? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut head = Vec::new();
        File::from(fd).take(bytes).read_to_end(&mut head)?;
        Ok(head)
    }

    /// Reports whether a path leads to a regular file that is executable for some user. It follows links.
    pub(super) fn is_program(&self, path: &str) -> io::Result<bool> {
        let Some(fd) = self.resolve(path, OFlags::PATH | OFlags::CLOEXEC)? else {
            return Ok(false);
        };
        Ok(is_file(&fd)? && fstat(&fd)?.st_mode & 0o111 != 0)
    }

    /// Returns when a regular file was last changed, in seconds and nanoseconds; none if there is no such file. It
    /// follows links.
    pub(super) fn modified(&self, path: &str) -> io::Result<Option<(i64, u64)>> {
        let Some(fd) = self.resolve(path, OFlags::PATH | OFlags::CLOEXEC)? else {
            return Ok(None);
        };
        let stat = fstat(&fd)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Ok(is_file.then_some((stat.st_mtime, stat.st_mtime_nsec as u64)))
    }

    /// Reports whether a path is a directory that is reached through no link.
    pub(super) fn is_directory(&self, path: &str) -> bool {
        self.directory(path).is_ok()
    }

    /// Creates a directory, if it is missing, in the root or in real directories below it. The error is `NotADirectory`
    /// if the directory or one of its parents is a link or another file.
    pub(super) fn ensure_directory(&self, path: &str) -> io::Result<()> {
        match mkdirat(&self.0, path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.directory(path).map(drop),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Creates a file in a directory of the root; returns false if the name exists already, whatever it is.
    pub(super) fn create(&self, directory: &str, name: &str, content: &[u8]) -> io::Result<bool> {
        let directory = self.directory(directory)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        match openat(
            &directory,
            name,
            flags | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        ) {
            Ok(fd) => File::from(fd).write_all(content).map(|()| true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes the content of an empty file; returns false if the file is missing, not empty, or not a regular file.
    pub(super) fn fill(&self, directory: &str, name: &str, content: &[u8]) -> io::Result<bool> {
        let directory = self.directory(directory)?;
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        match openat(&directory, name, flags | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) if is_file(&fd)? && fstat(&fd)?.st_size == 0 => {
                File::from(fd).write_all(content).map(|()| true)
            }
            Ok(_) | Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Returns the whole content of a regular file in a directory of the root, through no link; none if there is no
    /// such file, or if it has more than `most` bytes.
    pub(super) fn read_own(
        &self,
        directory: &str,
        name: &str,
        most: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        let directory = self.directory(directory)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let fd = match openat(&directory, name, flags | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        if !is_file(&fd)? {
            return Ok(None);
        }
        let mut content = Vec::new();
        let read = File::from(fd).take(most + 1).read_to_end(&mut content)?;
        Ok((read as u64 <= most).then_some(content))
    }

    /// Replaces a regular file in one step; returns false if there is none of that name.
    pub(super) fn replace(&self, directory: &str, name: &str, content: &[u8]) -> io::Result<bool> {
        let opened = self.directory(directory)?;
        match statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        let new = format!(".{name}.ezz-new");
        // The remains of a killed start.
        match unlinkat(&opened, &*new, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        match self.create(directory, &new, content) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => {
                // An incomplete file must not take up the last free space.
                let _ = unlinkat(&opened, &*new, AtFlags::empty());
                return Err(error);
            }
        }
        renameat(&opened, &*new, &opened, name)?;
        Ok(true)
    }

    /// Reports whether a name in a directory is a link with this target.
    pub(super) fn is_link_to(&self, directory: &str, name: &str, target: &[u8]) -> bool {
        let found = self
            .directory(directory)
            .map(|directory| readlinkat(directory, name, Vec::new()));
        matches!(found, Ok(Ok(found)) if found.as_bytes() == target)
    }

    /// Reports whether anything exists at a path. It follows links in the root; a link that leads nowhere counts too.
    pub(super) fn exists(&self, path: &str) -> io::Result<bool> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(self.resolve(path, flags)?.is_some())
    }

    /// Reports whether a name in a directory of the root is missing, or is an empty regular file.
    pub(super) fn is_vacant(&self, directory: &str, name: &str) -> io::Result<bool> {
        let directory = self.directory(directory)?;
        match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(
                FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0,
            ),
            Err(Errno::NOENT) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.0, path, flags, Mode::empty(), resolve).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
                io::Error::new(io::ErrorKind::NotADirectory, "not a directory")
            }
            other => other.into(),
        })
    }

    fn resolve(&self, path: &str, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        match openat2(&self.0, path, flags, Mode::empty(), resolve) {
            Ok(fd) => Ok(Some(fd)),
            // LOOP and XDEV: links in a circle, or into another mount.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn is_file(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::RegularFile)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, Inside) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join("etc")).expect("created");
        let inside = Inside::open(directory.path()).expect("opened");
        (directory, inside)
    }

    #[test]
    fn links_do_not_lead_out() {
        let (directory, inside) = root();
        let etc = directory.path().join("etc");
        std::fs::write(etc.join("real"), "in").expect("written");
        symlink("/etc/real", etc.join("absolute")).expect("linked");
        symlink("../../../../../../etc/real", etc.join("up")).expect("linked");
        symlink("/etc/passwd", etc.join("passwd")).expect("linked");
        for name in ["etc/absolute", "etc/up"] {
            assert_eq!(inside.read(name, 2).expect("read"), Some(b"in".to_vec()));
        }
        // In the jail it is a link to itself; the host's file must not be read.
        assert_eq!(inside.read("etc/passwd", 9).expect("read"), None);
        assert_eq!(inside.read("etc/missing", 9).expect("read"), None);
    }

    /// A part of `1000` could be read as `10`.
    #[test]
    fn no_file_is_cut() {
        let (directory, inside) = root();
        let passwd = directory.path().join("etc/passwd");
        std::fs::write(&passwd, "x:*:1000:1000").expect("written");
        let whole = inside.read("etc/passwd", 13).expect("read");
        assert_eq!(whole.as_deref(), Some(&b"x:*:1000:1000"[..]));
        let cut = inside.read("etc/passwd", 12).map_err(|error| error.kind());
        assert_eq!(cut, Err(io::ErrorKind::FileTooLarge));
        // A sparse file of any length takes no more time.
        let file = File::options().write(true).open(&passwd).expect("opened");
        file.set_len(1 << 40).expect("set");
        let hole = inside.read("etc/passwd", 12).map_err(|error| error.kind());
        assert_eq!(hole, Err(io::ErrorKind::FileTooLarge));
    }

    #[test]
    fn writing_follows_no_link() {
        let (directory, inside) = root();
        let victim = tempfile::tempdir().expect("a temporary directory");
        let target = victim.path().join("target");
        symlink(&target, directory.path().join("etc/hostname")).expect("linked");
        assert!(!inside.create("etc", "hostname", b"x").expect("refused"));
        assert!(!inside.fill("etc", "hostname", b"x").expect("refused"));
        assert!(!inside.is_vacant("etc", "hostname").expect("looked"));
        symlink(victim.path(), directory.path().join("dev")).expect("linked");
        for result in [
            inside.ensure_directory("dev"),
            inside.create("dev", "file", b"x").map(drop),
        ] {
            assert_eq!(
                result.map_err(|e| e.kind()),
                Err(io::ErrorKind::NotADirectory)
            );
        }
        assert_eq!(std::fs::read_dir(victim.path()).expect("read").count(), 0);
    }

    #[test]
    fn only_files_are_replaced() {
        let (directory, inside) = root();
        let at = |name: &str| directory.path().join("etc").join(name);
        assert!(!inside.replace("etc", "hosts", b"new").expect("looked"));
        std::fs::write(at("hosts"), "old").expect("written");
        // The remains of a killed start, or something that a jail has placed there.
        symlink("/etc/passwd", at(".hosts.ezz-new")).expect("linked");
        let old = inside.read_own("etc", "hosts", 3).expect("read");
        assert_eq!(old.as_deref(), Some(&b"old"[..]));
        assert_eq!(inside.read_own("etc", "hosts", 2).expect("read"), None);
        assert!(inside.replace("etc", "hosts", b"new").expect("replaced"));
        assert_eq!(std::fs::read(at("hosts")).expect("read"), b"new");
        assert!(!at(".hosts.ezz-new").exists());
        // A link is not replaced, and neither is its target.
        symlink("hosts", at("link")).expect("linked");
        assert_eq!(inside.read_own("etc", "link", 9).expect("read"), None);
        assert!(!inside.replace("etc", "link", b"x").expect("looked"));
        assert!(inside.is_link_to("etc", "link", b"hosts"));
        assert!(!inside.is_link_to("etc", "hosts", b"hosts"));
        assert!(inside.exists("etc/link").expect("looked"));
        assert!(!inside.exists("etc/none").expect("looked"));
    }

    #[test]
    fn files_are_made_and_filled_once() {
        let (directory, inside) = root();
        assert!(inside.is_vacant("etc", "id").expect("looked"));
        assert!(inside.create("etc", "id", b"").expect("created"));
        assert!(inside.is_vacant("etc", "id").expect("looked"));
        assert!(inside.fill("etc", "id", b"1").expect("filled"));
        assert!(!inside.fill("etc", "id", b"2").expect("left"));
        assert!(!inside.create("etc", "id", b"3").expect("left"));
        let text = std::fs::read(directory.path().join("etc/id")).expect("read");
        assert_eq!(text, b"1");
    }

    #[test]
    fn pipes_and_directories_are_no_files() {
        let (directory, inside) = root();
        let pipe = directory.path().join("etc/passwd");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert_eq!(inside.read("etc/passwd", 9).expect("read"), None);
        assert_eq!(inside.read("etc", 9).expect("read"), None);
    }

    #[test]
    fn programs_are_found_through_links() {
        let (directory, inside) = root();
        let program = directory.path().join("etc/systemd");
        std::fs::write(&program, "").expect("written");
        symlink("/etc/systemd", directory.path().join("init")).expect("linked");
        assert!(!inside.is_program("/init").expect("looked"));
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("set");
        assert!(inside.is_program("/init").expect("looked"));
        assert!(!inside.is_program("/etc").expect("looked"));
    }
}
