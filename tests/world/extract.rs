//! The contents of ordinary archives exist after unpacking.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Mutex;

use ezz::world::{Cancel, Context, Digest, Progress, Source, WorldError, extract};
use tar::EntryType;

use crate::archive::{Archive, Entry, unpack};
use crate::{Fail, is_root};

#[test]
fn modes_times_links_and_counts() -> Result<(), Fail> {
    let root = tempfile::tempdir()?;
    let setuid = Entry {
        name: b"bin/su",
        mode: 0o4755,
        data: b"#!",
        ..Entry::default()
    };
    let dir = Entry {
        name: b"tmp/",
        kind: EntryType::Directory,
        mode: 0o1777,
        mtime: 5,
        ..Entry::default()
    };
    let node = |name| Entry {
        name,
        kind: EntryType::Char,
        ..Entry::default()
    };
    let fifo = Entry {
        name: b"dev/fifo",
        kind: EntryType::Fifo,
        ..Entry::default()
    };
    let archive = Archive::default()
        .dir("./")
        .dir("./bin")
        .entry(&setuid)
        .hard_link("bin/su2", "./bin/su")
        .symlink("sh", "bin/../../../etc/passwd")
        .entry(&dir)
        .pax(&[("mtime", b"-1.5")])
        .file("tmp/x", b"new directory time")
        .entry(&node(b"dev/null"))
        .entry(&node(b"dev/zero"))
        .hard_link("dev/zero2", "dev/zero")
        .entry(&fifo)
        .pax(&[("SCHILY.fflags", b"schg,uarch")])
        .file("lib/libc.so.7", b"elf")
        .file("no/parent/entry", b"x")
        .file("twice", b"first and longer")
        .file("twice", b"second")
        .end();
    let length = archive.len() as u64;
    let digest = Digest::of(&archive);
    // The umask must not affect any mode.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let report = unpack(archive, root.path())?;

    let su = root.path().join("bin/su").metadata()?;
    assert_eq!(
        (su.mode() & 0o7777, su.nlink(), su.mtime()),
        (0o4755, 2, 1_700_000_000)
    );
    assert_eq!(su.ino(), root.path().join("bin/su2").metadata()?.ino());
    assert_eq!(
        fs::read_link(root.path().join("sh"))?,
        Path::new("bin/../../../etc/passwd")
    );
    assert_eq!(
        root.path().join("sh").symlink_metadata()?.mtime(),
        1_700_000_000
    );
    let tmp = root.path().join("tmp").metadata()?;
    assert_eq!((tmp.mode() & 0o7777, tmp.mtime()), (0o1777, 5));
    let x = root.path().join("tmp/x").metadata()?;
    assert_eq!((x.mtime(), x.mtime_nsec()), (-2, 500_000_000));
    assert!(!root.path().join("dev").exists());
    assert_eq!(fs::read_to_string(root.path().join("twice"))?, "second");
    assert_eq!(
        root.path().join("no").metadata()?.permissions().mode() & 0o777,
        0o755
    );

    assert_eq!((report.files, report.dirs, report.links), (6, 3, 2));
    assert_eq!((report.dropped_devices, report.dropped_flags), (3, 1));
    assert_eq!((report.sha256, report.input_bytes), (Some(digest), length));
    Ok(())
}

#[test]
fn long_names_of_all_kinds() -> Result<(), Fail> {
    let root = tempfile::tempdir()?;
    let deep = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let other = format!("{}/{}", "d".repeat(200), "g".repeat(200));
    let long = |kind, data: &[u8]| {
        let entry = Entry {
            name: b"././@LongLink",
            kind,
            data,
            ..Entry::default()
        };
        Archive::default().entry(&entry).cut()
    };
    let name = [deep.as_bytes(), b"\0"].concat();
    let mut archive = Archive::default()
        .raw(&long(EntryType::GNULongName, &name))
        .file("short", b"gnu")
        .raw(&long(EntryType::GNULongLink, &name))
        .hard_link("hard", "short")
        .pax(&[("path", other.as_bytes())])
        .file("short", b"pax")
        .pax(&[("path", b"sp ace\n\xff=")])
        .file("short", b"odd")
        .cut();
    // ustar has a field for a prefix.
    let mut header = tar::Header::new_ustar();
    header.set_path(format!("{}/{}", "p".repeat(90), "q".repeat(90)))?;
    header.set_mode(0o600);
    header.set_size(0);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    header.set_mtime(0);
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
    unpack(Archive::default().raw(&archive).end(), root.path())?;
    assert_eq!(fs::read_to_string(root.path().join(&deep))?, "gnu");
    assert_eq!(fs::read_to_string(root.path().join("hard"))?, "gnu");
    assert_eq!(fs::read_to_string(root.path().join(&other))?, "pax");
    let odd = std::ffi::OsStr::from_bytes(b"sp ace\n\xff=");
    assert_eq!(fs::read_to_string(root.path().join(odd))?, "odd");
    assert!(
        root.path()
            .join("p".repeat(90))
            .join("q".repeat(90))
            .exists()
    );
    Ok(())
}

#[test]
fn sparse_files_of_all_kinds() -> Result<(), Fail> {
    let root = tempfile::tempdir()?;
    let size = 10 << 20;
    let text = size.to_string();
    let map = format!("0,5,{},5", size - 5);
    // pax 0.1: the map is in the header.
    let v01: [(&str, &[u8]); 3] = [
        ("GNU.sparse.size", text.as_bytes()),
        ("GNU.sparse.map", map.as_bytes()),
        ("GNU.sparse.name", b"v01"),
    ];
    // pax 0.0: there is one pair of records for each piece.
    let last = (size - 5).to_string();
    let v00: [(&str, &[u8]); 6] = [
        ("GNU.sparse.size", text.as_bytes()),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"0"),
        ("GNU.sparse.numbytes", b"5"),
        ("GNU.sparse.offset", last.as_bytes()),
        ("GNU.sparse.numbytes", b"5"),
    ];
    // pax 1.0: the map precedes the data.
    let v10: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"v10"),
        ("GNU.sparse.realsize", text.as_bytes()),
    ];
    let mut mapped = format!("2\n0\n5\n{last}\n5\n").into_bytes();
    mapped.resize(512, 0);
    mapped.extend_from_slice(b"beginfinal");
    // Old GNU: the map is at the end of the header.
    let mut gnu = tar::Header::new_gnu();
    gnu.set_path("gnu")?;
    gnu.set_entry_type(EntryType::GNUSparse);
    gnu.set_mode(0o644);
    gnu.set_mtime(0);
    gnu.set_uid(rustix::process::geteuid().as_raw().into());
    gnu.set_gid(rustix::process::getegid().as_raw().into());
    gnu.set_size(10);
    {
        let raw = gnu.as_mut_bytes();
        let octal = |n: u64| format!("{n:011o}\0");
        for (at, n) in [
            (386, 0),
            (398, 5),
            (410, size as u64 - 5),
            (422, 5),
            (483, size as u64),
        ] {
            raw[at..at + 12].copy_from_slice(octal(n).as_bytes());
        }
    }
    gnu.set_cksum();
    let archive = Archive::default()
        .pax(&v01)
        .file("GNUSparseFile.0/v01", b"beginfinal")
        .pax(&v00)
        .file("v00", b"beginfinal")
        .pax(&v10)
        .file("GNUSparseFile.0/v10", &mapped)
        .raw(gnu.as_bytes())
        .data(b"beginfinal")
        .file("after", b"still in step");
    unpack(archive.end(), root.path())?;
    for name in ["v00", "v01", "v10", "gnu"] {
        let file = fs::File::open(root.path().join(name))?;
        let meta = file.metadata()?;
        assert_eq!(meta.len(), size as u64, "{name}");
        let mut ends = [0; 10];
        file.read_exact_at(&mut ends[..5], 0)?;
        file.read_exact_at(&mut ends[5..], size as u64 - 5)?;
        assert_eq!(&ends, b"beginfinal", "{name}");
        let mut middle = [1; 4096];
        file.read_exact_at(&mut middle, 5)?;
        assert_eq!(middle, [0; 4096], "{name}");
        assert!(
            meta.blocks() * 512 < 1 << 20,
            "{name} is not sparse: {}",
            meta.blocks()
        );
    }
    assert_eq!(
        fs::read_to_string(root.path().join("after"))?,
        "still in step"
    );
    Ok(())
}

#[test]
fn attributes_and_lists() -> Result<(), Fail> {
    let root = tempfile::tempdir()?;
    let archive = Archive::default()
        .pax(&[
            ("SCHILY.xattr.user.note", b"a\0b"),
            ("SCHILY.xattr.security.selinux", b"x"),
        ])
        .file("f", b"x")
        .pax(&[("LIBARCHIVE.xattr.user.b64", b"AAEC")])
        .file("g", b"x")
        .pax(&[
            (
                "SCHILY.acl.access",
                b"user::rwx,user:1234:r-x,group::r-x,mask::r-x,other::---",
            ),
            (
                "SCHILY.acl.default",
                b"user::rwx,user:1234:rwx,group::r-x,mask::rwx,other::---",
            ),
        ])
        .dir("d")
        .file("d/inside", b"gets no default list")
        // GNU tar stores names of accounts, which come before the account files that define them.
        .pax(&[(
            "SCHILY.acl.access",
            b"user::rw-,group::r--,group:adm:r--,mask::r--,other::---",
        )])
        .file("named", b"")
        .pax(&[(
            "SCHILY.acl.access",
            b"user::rw-,user:nobody-knows:r--,mask::r--",
        )])
        .file("replaced", b"")
        .file("replaced", b"has no list")
        .dir("etc")
        .file("etc/group", b"root:x:0:\nadm:x:4:\n");
    let report = unpack(archive.end(), root.path())?;
    assert_eq!(
        xattr::get(root.path().join("f"), "user.note")?.as_deref(),
        Some(&b"a\0b"[..])
    );
    assert_eq!(
        xattr::get(root.path().join("g"), "user.b64")?.as_deref(),
        Some(&[0, 1, 2][..])
    );
    if cfg!(target_os = "linux") {
        assert_eq!(report.dropped_attributes, 1);
        let dir = root.path().join("d");
        assert!(xattr::get(&dir, "system.posix_acl_access")?.is_some_and(|acl| acl.len() == 44));
        assert!(xattr::get(&dir, "system.posix_acl_default")?.is_some());
        assert!(xattr::get(dir.join("inside"), "system.posix_acl_access")?.is_none());
        let named = xattr::get(root.path().join("named"), "system.posix_acl_access")?;
        let adm = [8, 0, 4, 0, 4, 0, 0, 0];
        assert!(named.is_some_and(|acl| acl[4..].chunks(8).any(|entry| entry == adm)));
        let replaced = root.path().join("replaced");
        assert!(xattr::get(replaced, "system.posix_acl_access")?.is_none());
    }
    Ok(())
}

#[test]
fn owners_and_capabilities() -> Result<(), Fail> {
    if !is_root("owners_and_capabilities") {
        return Ok(());
    }
    let root = tempfile::tempdir()?;
    let owned = Entry {
        name: b"f",
        owner: (12_345, 54_321),
        mode: 0o6755,
        data: b"x",
        ..Entry::default()
    };
    let cap = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut header = tar::Header::new_gnu();
    header.set_path("big")?;
    header.set_uid(3_000_000_000);
    header.set_gid(3_000_000_001);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_size(0);
    header.set_cksum();
    let archive = Archive::default()
        .pax(&[("SCHILY.xattr.security.capability", cap)])
        .entry(&owned)
        .pax(&[("uid", b"70000"), ("gid", b"70001")])
        .symlink("l", "f")
        .raw(header.as_bytes());
    unpack(archive.end(), root.path())?;
    let f = root.path().join("f").metadata()?;
    assert_eq!(
        (f.uid(), f.gid(), f.mode() & 0o7777),
        (12_345, 54_321, 0o6755)
    );
    let l = root.path().join("l").symlink_metadata()?;
    assert_eq!((l.uid(), l.gid()), (70_000, 70_001));
    let big = root.path().join("big").metadata()?;
    assert_eq!((big.uid(), big.gid()), (3_000_000_000, 3_000_000_001));
    if cfg!(target_os = "linux") {
        let found = xattr::get(root.path().join("f"), "security.capability")?;
        assert_eq!(found.as_deref(), Some(&cap[..]));
    }
    Ok(())
}

#[test]
fn a_directory_is_copied_like_an_archive() -> Result<(), Fail> {
    let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let archive = Archive::default()
        .dir("a")
        .program("a/x", b"data")
        .hard_link("y", "a/x")
        .symlink("l", "../../outside")
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .file("z", b"");
    unpack(archive.end(), from.path())?;
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        from.path().join("fifo"),
        rustix::fs::Mode::RUSR,
    )?;
    let big = fs::File::create(from.path().join("big"))?;
    big.set_len(8 << 20)?;
    big.write_all_at(b"end", (8 << 20) - 3)?;

    let context = Context::quiet();
    let report = extract(Source::Dir(from.path().into()), to.path(), None, &context)?;
    assert_eq!(
        (
            report.files,
            report.dirs,
            report.links,
            report.dropped_devices
        ),
        (3, 2, 2, 1)
    );
    assert_eq!(report.sha256, None);
    let (x, y) = (
        to.path().join("a/x").metadata()?,
        to.path().join("y").metadata()?,
    );
    assert_eq!((x.ino(), x.nlink(), x.mode() & 0o777), (y.ino(), 2, 0o755));
    assert_eq!(x.mtime(), 1_700_000_000);
    assert_eq!(to.path().join("a").metadata()?.mtime(), 1_700_000_000);
    assert_eq!(
        fs::read_link(to.path().join("l"))?,
        Path::new("../../outside")
    );
    assert_eq!(
        xattr::get(to.path().join("z"), "user.note")?.as_deref(),
        Some(&b"kept"[..])
    );
    let big = to.path().join("big").metadata()?;
    assert_eq!(big.len(), 8 << 20);
    assert!(big.blocks() * 512 < 1 << 20);

    let refused = extract(
        Source::Dir(from.path().into()),
        to.path(),
        Some(Digest::of(b"")),
        &context,
    );
    assert!(matches!(refused, Err(WorldError::DigestOfDirectory { .. })));
    Ok(())
}

/// The name, the total, the amount that was reported, and whether the phase was finished.
type Phase = (String, Option<u64>, u64, bool);

#[derive(Default)]
struct Recorder {
    phases: Mutex<Vec<Phase>>,
}

impl Progress for Recorder {
    fn start(&self, phase: &str, total: Option<u64>) {
        if let Ok(mut phases) = self.phases.lock() {
            phases.push((phase.to_owned(), total, 0, false));
        }
    }
    fn advance(&self, n: u64) {
        if let Ok(mut phases) = self.phases.lock() {
            phases
                .iter_mut()
                .last()
                .map(|phase| phase.2 += n)
                .unwrap_or_default();
        }
    }
    fn finish(&self) {
        if let Ok(mut phases) = self.phases.lock() {
            phases
                .iter_mut()
                .last()
                .map(|phase| phase.3 = true)
                .unwrap_or_default();
        }
    }
}

#[test]
fn progress_counts_the_input_and_cancel_stops() -> Result<(), Fail> {
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root");
    fs::create_dir(&root)?;
    let file = dir.path().join("world.tar");
    let archive = Archive::default().file("x", &[7; 3 << 20]).end();
    fs::write(&file, &archive)?;
    let recorder = Recorder::default();
    let context = Context {
        progress: &recorder,
        cancel: Cancel::default(),
    };
    extract(Source::File(file.clone()), &root, None, &context)?;
    let length = archive.len() as u64;
    let expected = vec![("extract".to_owned(), Some(length), length, true)];
    assert_eq!(
        recorder.phases.lock().map(|phases| phases.clone()).ok(),
        Some(expected)
    );

    context.cancel.cancel();
    let stopped = extract(Source::File(file), &root, None, &context);
    assert!(matches!(stopped, Err(WorldError::Interrupted)));
    Ok(())
}

/// A pipe whose writer sends nothing.
struct Stalled(std::sync::mpsc::Receiver<()>);

impl std::io::Read for Stalled {
    fn read(&mut self, _buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(self.0.recv().map_or(0, |()| 0))
    }
}

#[test]
fn a_stalled_pipe_can_be_interrupted() -> Result<(), Fail> {
    let root = tempfile::tempdir()?;
    let (writer, reader) = std::sync::mpsc::channel();
    let cancel = Cancel::default();
    let context = Context {
        progress: &ezz::world::Quiet,
        cancel: cancel.clone(),
    };
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        cancel.cancel();
    });
    let stopped = extract(
        Source::Stdin(Box::new(Stalled(reader))),
        root.path(),
        None,
        &context,
    );
    assert!(matches!(stopped, Err(WorldError::Interrupted)));
    drop(writer);
    stopper.join().map_err(|_| "the stopper panicked")?;
    Ok(())
}
