//! The manifest shows what changed, and nothing else.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ezz::hint::Hint as _;
use ezz::world::manifest::{self, Change, Difference};
use ezz::world::{Context, Digest, WorldError};

use crate::archive::{Archive, unpack};
use crate::{Fail, is_root};

fn world() -> Archive {
    Archive::default()
        .dir("./")
        .dir("bin")
        .program("bin/sh", b"#!shell")
        .hard_link("bin/rsh", "bin/sh")
        .dir("etc")
        .file("etc/passwd", b"root:*:0:0::/root:/bin/sh\n")
        .symlink("etc/link", "passwd")
        .pax(&[("path", b"etc/odd #=*\\ \n\xff")])
        .file("x", b"odd")
        .pax(&[("SCHILY.xattr.user.note", b"one")])
        .file("etc/noted", b"")
}

fn sealed() -> Result<tempfile::TempDir, Fail> {
    let root = tempfile::tempdir()?;
    unpack(world().end(), root.path())?;
    let written = manifest::write(root.path(), &Context::quiet())?;
    assert_eq!((written.entries, written.bytes), (9, 43));
    let (text, digest) = manifest::read(root.path())?;
    assert_eq!(digest, written.sha256);
    assert_eq!(digest, Digest::of(text.as_bytes()));
    Ok(root)
}

fn differences(root: &Path) -> Result<Vec<Difference>, WorldError> {
    manifest::verify(root, &manifest::read(root)?.0, &Context::quiet())
}

fn shown(root: &Path) -> Result<Vec<String>, WorldError> {
    Ok(differences(root)?.iter().map(ToString::to_string).collect())
}

/// Makes a change below a directory, and restores the time of the directory.
fn keeping_times(dir: &Path, change: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<()> {
    let time = fs::metadata(dir)?.modified()?;
    change()?;
    fs::File::open(dir)?.set_modified(time)
}

#[test]
fn the_text_is_what_mtree_says() -> Result<(), Fail> {
    let root = sealed()?;
    let (text, _) = manifest::read(root.path())?;
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let time = "time=1700000000.000000000";
    let sh = Digest::of(b"#!shell");
    let odd = Digest::of(b"odd");
    let expected = [
        "#mtree v2.0 ezz 1".to_owned(),
        format!(". type=dir mode=0755 uid={uid} gid={gid}"),
        format!("./bin type=dir mode=0755 uid={uid} gid={gid} {time}"),
        format!(
            "./bin/rsh type=file mode=0755 uid={uid} gid={gid} nlink=2 size=7 {time} sha256digest={sh}"
        ),
    ];
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..4], &expected);
    assert!(
        lines.contains(
            &format!(
                "./etc/odd\\040\\043\\075\\052\\134\\040\\012\\377 type=file mode=0644 uid={uid} \
             gid={gid} nlink=1 size=3 {time} sha256digest={odd}"
            )
            .as_str()
        )
    );
    let link = format!("./etc/link type=link mode=0777 uid={uid} gid={gid} {time} link=passwd");
    assert!(lines.contains(&link.as_str()));
    assert!(text.contains(&format!("xattr.user.note={}", Digest::of(b"one"))));
    Ok(())
}

#[test]
fn nothing_changed() -> Result<(), Fail> {
    let root = sealed()?;
    assert_eq!(differences(root.path())?, []);
    // A manifest is the same if it is made twice, or from the same archive.
    let (text, digest) = manifest::read(root.path())?;
    assert_eq!(
        manifest::write(root.path(), &Context::quiet())?.sha256,
        digest
    );
    assert_eq!(manifest::read(sealed()?.path())?.0, text);
    Ok(())
}

#[test]
fn one_changed_byte_with_the_old_time() -> Result<(), Fail> {
    let root = sealed()?;
    let path = root.path().join("bin/sh");
    let time = fs::metadata(&path)?.modified()?;
    let mut file = fs::OpenOptions::new().write(true).open(&path)?;
    file.seek(SeekFrom::Start(2))?;
    file.write_all(b"S")?;
    file.set_modified(time)?;
    let (was, is) = (Digest::of(b"#!shell"), Digest::of(b"#!Shell"));
    let expected = ["bin/rsh", "bin/sh"].map(|p| format!("{p}: sha256digest is {is}, was {was}"));
    assert_eq!(shown(root.path())?, expected);
    Ok(())
}

#[test]
fn one_changed_mode_time_or_link() -> Result<(), Fail> {
    let root = sealed()?;
    let passwd = root.path().join("etc/passwd");
    fs::set_permissions(&passwd, fs::Permissions::from_mode(0o4644))?;
    assert_eq!(shown(root.path())?, ["etc/passwd: mode is 04644, was 0644"]);
    fs::set_permissions(&passwd, fs::Permissions::from_mode(0o644))?;
    let file = fs::File::options().write(true).open(&passwd)?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))?;
    assert_eq!(
        shown(root.path())?,
        ["etc/passwd: time is 1.000000000, was 1700000000.000000000"]
    );
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))?;
    assert_eq!(shown(root.path())?, [""; 0]);

    let etc = root.path().join("etc");
    keeping_times(&etc, || {
        fs::remove_file(etc.join("link"))?;
        std::os::unix::fs::symlink("passwD", etc.join("link"))
    })?;
    let shown = shown(root.path())?;
    assert!(
        shown.contains(&"etc/link: link is passwD, was passwd".to_owned()),
        "{shown:?}"
    );
    Ok(())
}

#[test]
fn one_added_and_one_missing() -> Result<(), Fail> {
    let root = sealed()?;
    let bin = root.path().join("bin");
    keeping_times(&bin, || fs::write(bin.join("backdoor"), "x"))?;
    assert_eq!(shown(root.path())?, ["bin/backdoor: added"]);
    keeping_times(&bin, || fs::remove_file(bin.join("backdoor")))?;
    let etc = root.path().join("etc");
    keeping_times(&etc, || fs::remove_file(etc.join("noted")))?;
    assert_eq!(shown(root.path())?, ["etc/noted: missing"]);
    // The time of the directory shows it, too.
    fs::write(bin.join("backdoor"), "x")?;
    let whats: Vec<Change> = differences(root.path())?
        .into_iter()
        .map(|d| d.what)
        .collect();
    assert!(matches!(&whats[0], Change::Changed { keyword, .. } if keyword == "time"));
    assert_eq!(whats[1..], [Change::Added, Change::Missing]);
    // A file that was replaced by a directory.
    fs::remove_file(etc.join("passwd"))?;
    fs::create_dir(etc.join("passwd"))?;
    let text = shown(root.path())?.join("\n");
    assert!(text.contains("etc/passwd: type is dir, was file"), "{text}");
    Ok(())
}

#[test]
fn attributes_count() -> Result<(), Fail> {
    let root = sealed()?;
    xattr::set(root.path().join("etc/noted"), "user.note", b"two")?;
    let (was, is) = (Digest::of(b"one"), Digest::of(b"two"));
    assert_eq!(
        shown(root.path())?,
        [format!("etc/noted: xattr.user.note is {is}, was {was}")]
    );
    xattr::remove(root.path().join("etc/noted"), "user.note")?;
    assert_eq!(
        shown(root.path())?,
        [format!("etc/noted: xattr.user.note is none, was {was}")]
    );
    if cfg!(target_os = "linux") && is_root("the capability in attributes_count") {
        let cap = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        xattr::set(root.path().join("etc/passwd"), "security.capability", cap)?;
        let text = shown(root.path())?.join("\n");
        assert!(
            text.contains("etc/passwd: xattr.security.capability is"),
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn its_own_directory_is_ours_alone() -> Result<(), Fail> {
    let root = sealed()?;
    fs::write(root.path().join(".ezz/stowaway"), "x")?;
    assert_eq!(shown(root.path())?, [".ezz/stowaway: added"]);
    let again = manifest::write(root.path(), &Context::quiet());
    match again {
        Err(error @ WorldError::Occupied { .. }) => {
            assert_eq!(
                error.hint().as_deref(),
                Some("remove .ezz/stowaway from the world")
            );
        }
        other => return Err(format!("{other:?}").into()),
    }
    let linked = tempfile::tempdir()?;
    std::os::unix::fs::symlink(root.path(), linked.path().join(".ezz"))?;
    let refused = manifest::write(linked.path(), &Context::quiet());
    assert!(matches!(refused, Err(WorldError::Occupied { .. })));
    assert!(matches!(
        manifest::read(linked.path()),
        Err(WorldError::NotADirectory { .. })
    ));
    Ok(())
}

#[test]
fn damaged_and_missing_manifests() -> Result<(), Fail> {
    let root = sealed()?;
    let path = root.path().join(manifest::PATH);
    let mut packed = fs::read(&path)?;
    packed.truncate(packed.len() - 3);
    fs::write(&path, &packed)?;
    assert!(matches!(
        manifest::read(root.path()),
        Err(WorldError::Io { op: "read", .. })
    ));
    fs::remove_file(&path)?;
    assert!(matches!(
        manifest::read(root.path()),
        Err(WorldError::Io { op: "read", .. })
    ));
    let parsed = manifest::verify(root.path(), "#mtree\n", &Context::quiet());
    assert!(matches!(parsed, Err(WorldError::Manifest { line: 1, .. })));
    Ok(())
}
