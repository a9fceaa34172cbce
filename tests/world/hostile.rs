//! Archives that try to write outside the root or contain invalid entries. Each has its own error, and nothing outside
//! the root changes.

use std::fs;

use ezz::profile::{RelPath, RelPathError};
use ezz::world::{EntryError, WorldError};
use tar::EntryType;

use crate::Fail;
use crate::archive::{Archive, Entry, unpack};

/// Unpacks below a directory with a victim beside the root, checks the victim, and returns the error.
fn refuse(archive: Archive) -> Result<EntryError, Fail> {
    let outside = tempfile::tempdir()?;
    let root = outside.path().join("root");
    fs::create_dir(&root)?;
    fs::create_dir(outside.path().join("victim"))?;
    fs::write(outside.path().join("victim/file"), "precious")?;
    let result = unpack(archive.end(), &root);
    assert_eq!(
        fs::read_to_string(outside.path().join("victim/file"))?,
        "precious"
    );
    assert_eq!(fs::read_dir(outside.path().join("victim"))?.count(), 1);
    assert_eq!(fs::read_dir(outside.path())?.count(), 2);
    match result {
        Err(WorldError::Entry { source, offset, .. }) => {
            assert_eq!(offset % 512, 0);
            Ok(source)
        }
        other => Err(format!("{other:?}").into()),
    }
}

fn path(text: &str) -> Result<RelPath, RelPathError> {
    text.parse()
}

#[test]
fn names_that_leave_the_root() -> Result<(), Fail> {
    for (name, problem) in [
        ("../victim/file", RelPathError::Parent),
        ("a/../../victim/file", RelPathError::Parent),
        ("..", RelPathError::Parent),
        ("/../victim/file", RelPathError::Parent),
    ] {
        assert_eq!(
            refuse(Archive::default().file(name, b"x"))?,
            EntryError::Name(problem)
        );
        assert_eq!(
            refuse(Archive::default().dir(name))?,
            EntryError::Name(problem)
        );
        assert_eq!(
            refuse(Archive::default().symlink(name, "x"))?,
            EntryError::Name(problem)
        );
        // The same name in an extended header and in a GNU long name.
        let pax = Archive::default()
            .pax(&[("path", name.as_bytes())])
            .file("fine", b"x");
        assert_eq!(refuse(pax)?, EntryError::Name(problem));
        let long = Entry {
            name: b"././@LongLink",
            kind: EntryType::GNULongName,
            data: &[name.as_bytes(), b"\0"].concat(),
            ..Entry::default()
        };
        let gnu = Archive::default().entry(&long).file("fine", b"x");
        assert_eq!(refuse(gnu)?, EntryError::Name(problem));
    }
    Ok(())
}

#[test]
fn names_that_are_no_names() -> Result<(), Fail> {
    let nul = Archive::default()
        .pax(&[("path", b"a\0b")])
        .file("fine", b"x");
    assert_eq!(refuse(nul)?, EntryError::Name(RelPathError::Nul));
    let long = [b'x'; 256];
    let long = Archive::default()
        .pax(&[("path", &long)])
        .file("fine", b"x");
    assert_eq!(refuse(long)?, EntryError::Name(RelPathError::TooLong));
    let deep = "d/".repeat(2100);
    let deep = Archive::default()
        .pax(&[("path", deep.as_bytes())])
        .dir("fine");
    assert_eq!(refuse(deep)?, EntryError::Name(RelPathError::TooLong));
    assert_eq!(
        refuse(Archive::default().file("./", b"").symlink(".", "x"))?,
        EntryError::ReplacesRoot
    );
    Ok(())
}

/// Also links that would lead back, or to a path that does not exist: nothing is created through them.
#[test]
fn entries_through_links() -> Result<(), Fail> {
    for target in [
        "../victim",
        "/tmp",
        "none",
        "../root/usr",
        "usr/../../victim",
        "usr/..",
        "link",
        "file",
    ] {
        let start = || {
            let start = Archive::default().dir("usr").file("file", b"");
            start.symlink("link", target)
        };
        let through = EntryError::ThroughLink(path("link")?);
        assert_eq!(refuse(start().file("link/file", b"x"))?, through);
        assert_eq!(refuse(start().dir("link/dir"))?, through);
        assert_eq!(refuse(start().symlink("link/x", "y"))?, through);
        assert_eq!(
            refuse(start().file("a", b"x").hard_link("link/x", "a"))?,
            through
        );
        assert_eq!(refuse(start().hard_link("stolen", "link/file"))?, through);
    }
    let file = Archive::default().file("f", b"x").file("f/x", b"y");
    assert_eq!(refuse(file)?, EntryError::ThroughFile(path("f")?));
    Ok(())
}

#[test]
fn two_steps_through_a_replaced_directory() -> Result<(), Fail> {
    // CVE-2025-45582 and similar ones: a directory becomes a link, and then something is written below it.
    let swap = Archive::default()
        .dir("d")
        .symlink("d", "../victim")
        .file("d/file", b"x");
    assert_eq!(refuse(swap)?, EntryError::ReplacesDirectory);
    let file = Archive::default().dir("d").file("d", b"x");
    assert_eq!(refuse(file)?, EntryError::ReplacesDirectory);
    let hard = Archive::default()
        .dir("d")
        .file("f", b"x")
        .hard_link("d", "f");
    assert_eq!(refuse(hard)?, EntryError::ReplacesDirectory);
    // Two links in a row.
    let chain = Archive::default()
        .symlink("a", "../victim")
        .symlink("b", "a/x")
        .file("b/file", b"x");
    assert_eq!(refuse(chain)?, EntryError::ThroughLink(path("a")?));
    let circle = Archive::default()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/file", b"x");
    assert!(matches!(refuse(circle)?, EntryError::ThroughLink(_)));
    Ok(())
}

/// As tar(1) does, in a world with a merged /usr; an absolute target is one in the world.
#[test]
fn entries_through_links_of_the_world_are_there() -> Result<(), Fail> {
    let outside = tempfile::tempdir()?;
    let root = outside.path().join("root");
    fs::create_dir(&root)?;
    let archive = Archive::default()
        .dir("usr/bin")
        .dir("usr/lib/x")
        .symlink("bin", "usr/bin")
        .symlink("lib", "/usr/lib")
        .symlink("usr/lib/back", "../bin")
        .symlink("here", ".")
        .program("bin/sh", b"shell")
        .hard_link("bin/dash", "bin/sh")
        .file("lib/x/y", b"y")
        .file("lib/back/z", b"z")
        .dir("bin/new")
        .symlink("bin/link", "sh")
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .file("here/here/top", b"top")
        .end();
    let report = unpack(archive, &root)?;
    for (name, text) in [
        ("usr/bin/sh", "shell"),
        ("usr/bin/dash", "shell"),
        ("usr/bin/link", "shell"),
        ("usr/lib/x/y", "y"),
        ("usr/bin/z", "z"),
        ("top", "top"),
    ] {
        let at = root.join(name);
        assert_eq!(fs::read_to_string(at).ok().as_deref(), Some(text), "{name}");
    }
    assert!(root.join("usr/bin/new").is_dir());
    assert!(root.join("bin").symlink_metadata()?.is_symlink());
    assert_eq!((report.files, report.dirs), (4, 3));
    assert_eq!(fs::read_dir(outside.path())?.count(), 1);
    Ok(())
}

/// `tar -P` writes such names, and every tar removes the slash.
#[test]
fn absolute_names_are_those_of_the_world() -> Result<(), Fail> {
    let outside = tempfile::tempdir()?;
    let root = outside.path().join("root");
    fs::create_dir(&root)?;
    let archive = Archive::default()
        .dir("/")
        .dir("/etc")
        .file("/etc/passwd", b"the world's")
        .hard_link("//etc/again", "/etc/passwd")
        .pax(&[("path", b"///etc/pax")])
        .file("x", b"pax")
        .end();
    unpack(archive, &root)?;
    for (name, text) in [
        ("passwd", "the world's"),
        ("again", "the world's"),
        ("pax", "pax"),
    ] {
        assert_eq!(fs::read_to_string(root.join("etc").join(name))?, text);
    }
    assert_eq!(fs::read_dir(outside.path())?.count(), 1);
    Ok(())
}

/// Old tars repeat the size of the file, and pax may repeat its data.
#[test]
fn further_names_may_say_a_size() -> Result<(), Fail> {
    let root = tempfile::tempdir()?;
    let link = |name| Entry {
        name,
        link: b"f",
        kind: EntryType::Link,
        ..Entry::default()
    };
    let archive = Archive::default()
        .file("f", b"content")
        .header(&link(b"old"), 7)
        .entry(&Entry {
            data: b"content",
            ..link(b"pax")
        })
        .file("next", b"next")
        .header(&link(b"last"), 7)
        .end();
    unpack(archive, root.path())?;
    for name in ["f", "old", "pax", "last"] {
        assert_eq!(fs::read_to_string(root.path().join(name))?, "content");
    }
    assert_eq!(fs::read_to_string(root.path().join("next"))?, "next");
    Ok(())
}

#[test]
fn the_directory_of_zfs_is_no_ones() -> Result<(), Fail> {
    for archive in [
        Archive::default().dir("./.zfs"),
        Archive::default().file("/.zfs/snapshot/x", b""),
        Archive::default().file("f", b"").hard_link(".zfs", "f"),
    ] {
        assert_eq!(refuse(archive)?, EntryError::OfZfs);
    }
    let root = tempfile::tempdir()?;
    unpack(Archive::default().dir("home/.zfs").end(), root.path())?;
    Ok(())
}

#[test]
fn hard_links_that_leave_the_root() -> Result<(), Fail> {
    for (target, problem) in [
        ("../victim/file", RelPathError::Parent),
        ("/../victim/file", RelPathError::Parent),
    ] {
        let error = EntryError::HardLinkName {
            target: target.to_owned(),
            problem,
        };
        assert_eq!(refuse(Archive::default().hard_link("x", target))?, error);
    }
    let host = Archive::default().hard_link("x", "/etc/shadow");
    let missing = EntryError::MissingTarget(path("etc/shadow")?);
    assert_eq!(refuse(host)?, missing);
    let missing = Archive::default().hard_link("x", "y");
    assert_eq!(refuse(missing)?, EntryError::MissingTarget(path("y")?));
    let dir = Archive::default().dir("d").hard_link("x", "d");
    assert_eq!(refuse(dir)?, EntryError::DirectoryTarget(path("d")?));
    let own = Archive::default().file("x", b"x").hard_link("x", "./x");
    assert_eq!(refuse(own)?, EntryError::SelfLink);
    Ok(())
}

#[test]
fn writing_over_a_link_replaces_the_link() -> Result<(), Fail> {
    let outside = tempfile::tempdir()?;
    let root = outside.path().join("root");
    fs::create_dir(&root)?;
    fs::write(outside.path().join("file"), "precious")?;
    let archive = Archive::default()
        .symlink("a", "../file")
        .file("a", b"new")
        .symlink("d", "..")
        .dir("d")
        .file("d/inside", b"x")
        // A hard link to a symbolic link is another link, not another name of its target.
        .symlink("s", "../file")
        .hard_link("h", "s")
        .file("h", b"own");
    unpack(archive.end(), &root)?;
    assert_eq!(fs::read_to_string(outside.path().join("file"))?, "precious");
    assert_eq!(fs::read_to_string(root.join("a"))?, "new");
    assert!(root.join("d").symlink_metadata()?.is_dir());
    assert!(root.join("s").symlink_metadata()?.is_symlink());
    assert_eq!(fs::read_to_string(root.join("h"))?, "own");
    assert_eq!(fs::read_dir(outside.path())?.count(), 2);
    Ok(())
}

#[test]
fn the_link_in_the_way_may_be_there_before() -> Result<(), Fail> {
    let outside = tempfile::tempdir()?;
    let root = outside.path().join("root");
    fs::create_dir(&root)?;
    fs::create_dir(outside.path().join("victim"))?;
    std::os::unix::fs::symlink("../victim", root.join("etc"))?;
    let result = unpack(Archive::default().file("etc/passwd", b"x").end(), &root);
    assert!(matches!(
        result,
        Err(WorldError::Entry {
            source: EntryError::ThroughLink(_),
            ..
        })
    ));
    assert_eq!(fs::read_dir(outside.path().join("victim"))?.count(), 0);
    Ok(())
}

#[test]
fn unknown_types_and_values() -> Result<(), Fail> {
    let typed = |byte| {
        let kind = EntryType::new(byte);
        Archive::default().entry(&Entry {
            name: b"x",
            kind,
            ..Entry::default()
        })
    };
    for byte in *b"DMNVXAz" {
        let shown = byte.escape_ascii().to_string();
        assert_eq!(refuse(typed(byte))?, EntryError::UnknownType(shown));
    }
    for target in [&b""[..], b"a\0b"] {
        let link = Archive::default()
            .pax(&[("linkpath", target)])
            .symlink("x", "y");
        assert_eq!(refuse(link)?, EntryError::LinkTarget);
    }
    for (key, value) in [
        ("uid", "-1"),
        ("size", "x"),
        ("mtime", "soon"),
        ("GNU.sparse.map", "0,1,2"),
    ] {
        let archive = Archive::default()
            .pax(&[(key, value.as_bytes())])
            .file("x", b"");
        assert!(
            matches!(refuse(archive)?, EntryError::Field { .. }),
            "{key}={value}"
        );
    }
    // Other systems cannot store them, and drop them.
    if cfg!(target_os = "linux") {
        let bad = Archive::default()
            .pax(&[("SCHILY.acl.access", b"user::zzz")])
            .file("x", b"");
        assert!(matches!(refuse(bad)?, EntryError::Field { .. }));
        let named = Archive::default()
            .pax(&[("SCHILY.acl.access", b"user:joe:rwx")])
            .file("x", b"");
        assert_eq!(refuse(named)?, EntryError::AclName("joe".to_owned()));
    }
    Ok(())
}

/// chown(2) takes 4294967295 for "leave it as it is": the file would silently belong to root.
#[test]
fn owners_that_no_file_can_have() -> Result<(), Fail> {
    for id in [4_294_967_295, 4_294_967_296, 1 << 40] {
        for kind in [
            EntryType::Regular,
            EntryType::Directory,
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Fifo,
        ] {
            // The number is larger than seven octal digits, so it is written as GNU's binary number.
            for (what, owner) in [("owner", (id, 0)), ("group", (0, id))] {
                let archive = Archive::default().entry(&Entry {
                    name: b"x",
                    link: b"y",
                    kind,
                    owner,
                    ..Entry::default()
                });
                assert_eq!(refuse(archive)?, EntryError::Owner { what, id });
            }
        }
        for (key, what) in [("uid", "owner"), ("gid", "group")] {
            let value = id.to_string();
            let archive = Archive::default()
                .pax(&[(key, value.as_bytes())])
                .file("x", b"");
            assert_eq!(refuse(archive)?, EntryError::Owner { what, id });
        }
    }
    Ok(())
}

/// Returns the error of an archive with invalid headers.
fn malformed(archive: Archive) -> Result<String, Fail> {
    let root = tempfile::tempdir()?;
    match unpack(archive.end(), root.path()) {
        Err(WorldError::Malformed { problem, .. }) => Ok(problem),
        other => Err(format!("{other:?}").into()),
    }
}

#[test]
fn headers_that_lie() -> Result<(), Fail> {
    let huge = Entry {
        name: b"x",
        kind: EntryType::XHeader,
        ..Entry::default()
    };
    assert!(malformed(Archive::default().header(&huge, 1 << 40))?.contains("too large"));
    let long = Entry {
        name: b"x",
        kind: EntryType::GNULongName,
        ..Entry::default()
    };
    assert!(malformed(Archive::default().header(&long, 1 << 40))?.contains("too large"));

    let mut wrong = Archive::default().file("x", b"").cut();
    wrong[0] = b'y';
    assert!(malformed(Archive::default().file("a", b"").raw(&wrong))?.contains("checksum"));

    let record = b"17 path=a/secret\n";
    let kind = EntryType::XGlobalHeader;
    let global = Entry {
        name: b"g",
        kind,
        data: &record[..],
        ..Entry::default()
    };
    let global = Archive::default().entry(&global).file("x", b"");
    assert!(malformed(global)?.contains("global header"));

    let kind = EntryType::Symlink;
    let link = Entry {
        name: b"x",
        link: b"y",
        kind,
        data: b"z",
        ..Entry::default()
    };
    assert!(malformed(Archive::default().entry(&link))?.contains("has data"));

    let sparse: [(&str, &[u8]); 3] = [
        ("GNU.sparse.map", b"0,5,100,5"),
        ("GNU.sparse.size", b"200"),
        ("GNU.sparse.name", b"s"),
    ];
    let short = Archive::default().pax(&sparse).file("x", b"12345");
    assert!(malformed(short)?.contains("as long as its map"));
    Ok(())
}
