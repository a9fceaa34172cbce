//! From an archive to base and skeleton, for a world of each built-in profile.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ezz::hint::Hint as _;
use ezz::profile::{Os, Profile, RelPath};
use ezz::world::{
    Context, FindingKind, WorldError, detect, find_secrets, label, make_skeleton, manifest, scrub,
};

use crate::archive::{Archive, Entry, unpack};
use crate::{Fail, is_root};

/// Returns the header of a little-endian ELF file for a machine.
fn elf(machine: u8) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    header.extend_from_slice(&[machine, 0]);
    header.resize(64, 0);
    header
}

/// Returns an archive with the special features of FreeBSD's sets: hard links within a shared directory, within the
/// private part, and between the two; relative links between them; and flags.
fn freebsd() -> Archive {
    let version = b"#!/bin/sh\nset -e\nUSERLAND_VERSION=\"14.3-RELEASE-p2\"\n: ${ROOT:=}\n";
    let mut archive = Archive::default().dir("./");
    for dir in [
        "bin",
        "boot",
        "etc",
        "etc/defaults",
        "etc/ssl",
        "etc/ssl/certs",
        "lib",
        "libexec",
        "rescue",
        "root",
        "sbin",
        "usr",
        "usr/bin",
        "usr/lib",
        "usr/local",
        "usr/share",
        "usr/share/certs",
        "var",
        "var/log",
        "var/run",
        "var/db",
        "var/db/entropy",
        "dev",
        "tmp",
    ] {
        archive = archive.dir(dir);
    }
    archive
        .program("bin/sh", &elf(62))
        .program("bin/freebsd-version", version)
        .program("rescue/sh", b"crunched")
        .hard_link("rescue/ls", "rescue/sh")
        .pax(&[("SCHILY.fflags", b"schg")])
        .program("libexec/ld-elf.so.1", &elf(62))
        .program("sbin/init", &elf(62))
        .program("usr/bin/su", b"su")
        .file("usr/share/certs/a.pem", b"-----BEGIN CERTIFICATE-----\n")
        .file("etc/defaults/rc.conf", b"defaults\n")
        .symlink("etc/ssl/certs/a.0", "../../../usr/share/certs/a.pem")
        .symlink("sys", "usr/src/sys")
        .file("etc/hosts", b"10.0.0.1 builder\n")
        .file("etc/resolv.conf", b"nameserver 10.0.0.1\n")
        .file("etc/ssh_note", b"kept")
        .file(
            "etc/master.passwd",
            b"root::0:0::0:0::/root:/bin/sh\ndaemon:*:1:1::0:0::/:/x\n",
        )
        .file("root/.cshrc", b"alias\n")
        .hard_link(".cshrc", "root/.cshrc")
        .file("root/.history", b"secret commands\n")
        .hard_link("var/db/su-copy", "usr/bin/su")
        .file("var/log/messages", b"old\n")
        .file("var/db/entropy/seed", b"random")
        .file("boot/entropy", b"random")
        .file("tmp/leftover", b"x")
}

fn debian() -> Archive {
    let mut archive = Archive::default().dir("./");
    for dir in [
        "dev",
        "etc",
        "etc/alternatives",
        "etc/ssh",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "usr/local",
        "usr/sbin",
        "usr/share",
        "var",
        "var/lib",
        "var/lib/dpkg",
        "var/lib/apt",
        "var/lib/apt/lists",
        "var/cache",
        "var/log",
    ] {
        archive = archive.dir(dir);
    }
    archive
        .symlink("bin", "usr/bin")
        .symlink("sbin", "usr/sbin")
        .symlink("lib", "usr/lib")
        .symlink("lib64", "usr/lib64")
        .program("usr/bin/dpkg", &elf(183))
        .program("usr/bin/dash", &elf(183))
        .symlink("usr/bin/sh", "dash")
        .symlink("usr/bin/awk", "/etc/alternatives/awk")
        .symlink("etc/alternatives/awk", "/usr/bin/mawk")
        .file(
            "usr/lib/os-release",
            b"NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n",
        )
        .symlink("etc/os-release", "../usr/lib/os-release")
        .file("etc/debian_version", b"12.15\n")
        .file("etc/hostname", b"builder\n")
        .file("etc/machine-id", b"0123456789abcdef0123456789abcdef\n")
        .file("etc/shadow", b"root:*:1::::::\n")
        .file("etc/ssh/ssh_host_rsa_key", b"key")
        .file("var/lib/dpkg/status", b"Package: dpkg\n")
        .file("var/lib/apt/lists/deb_InRelease", b"x")
        .file("var/log/dpkg.log", b"x")
        .file("var/log/wtmp", b"x")
}

fn base(archive: Archive) -> Result<tempfile::TempDir, Fail> {
    let root = tempfile::tempdir()?;
    unpack(archive.end(), root.path())?;
    Ok(root)
}

fn read(root: &Path, path: &str) -> Result<String, std::io::Error> {
    fs::read_to_string(root.join(path))
}

fn paths(found: &[RelPath]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn a_freebsd_world() -> Result<(), Fail> {
    let base = base(freebsd())?;
    let base = base.path();
    let context = Context::quiet();
    let profile = detect(base)?;
    let world = label(base, profile)?;
    assert_eq!(
        (world.label.as_str(), world.os, world.arch),
        ("14.3-RELEASE-p2", Os::FreeBsd, "amd64")
    );

    let report = scrub(base, profile, &context)?;
    assert_eq!(
        paths(&report.removed),
        [
            "boot/entropy",
            "etc/resolv.conf",
            "root/.history",
            "tmp/leftover",
            "var/db/entropy/seed"
        ]
    );
    assert_eq!(paths(&report.truncated), ["var/log/messages"]);
    assert_eq!(paths(&report.reset), ["etc/hosts"]);
    assert!(read(base, "etc/hosts")?.contains("localhost"));
    assert_eq!(base.join("etc").metadata()?.mtime(), 1_700_000_000);
    assert_eq!(base.join("etc/hosts").metadata()?.mtime(), 1_700_000_000);
    assert_eq!(
        base.join("var/db/entropy").metadata()?.mtime(),
        1_700_000_000
    );
    assert!(
        scrub(base, profile, &context)?.is_empty(),
        "the second time there is nothing to do"
    );
    assert_eq!(find_secrets(base, profile, &context)?, []);

    let skeleton = tempfile::tempdir()?;
    let skeleton = skeleton.path();
    let report = make_skeleton(base, skeleton, profile, &context)?;
    assert_eq!(
        paths(&report.shared),
        [
            "bin",
            "boot",
            "lib",
            "libexec",
            "rescue",
            "sbin",
            "usr/bin",
            "usr/lib",
            "usr/share"
        ]
    );
    assert_eq!(
        fs::read_link(skeleton.join("bin"))?,
        Path::new("basejail/bin")
    );
    assert_eq!(
        fs::read_link(skeleton.join("usr/bin"))?,
        Path::new("../basejail/usr/bin")
    );
    for dir in ["basejail", "dev", "proc", "tmp", "usr/local", "var/run"] {
        assert!(skeleton.join(dir).symlink_metadata()?.is_dir(), "{dir}");
    }
    assert_eq!(fs::read_dir(skeleton.join("basejail"))?.count(), 0);
    // Hard links are kept within the private part; a link from it into the shared part becomes a copy.
    let (a, b) = (
        skeleton.join(".cshrc").metadata()?,
        skeleton.join("root/.cshrc").metadata()?,
    );
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    assert_eq!(skeleton.join("var/db/su-copy").metadata()?.nlink(), 1);
    assert_eq!(read(skeleton, "var/db/su-copy")?, "su");
    assert_eq!(report.broken_links, 1);
    assert_eq!(skeleton.join("etc").metadata()?.mtime(), 1_700_000_000);
    assert_eq!(
        skeleton.join("usr/bin").symlink_metadata()?.mtime(),
        1_700_000_000
    );

    // With the base in its place, links from the private part into the shared one work as before.
    fs::remove_dir(skeleton.join("basejail"))?;
    std::os::unix::fs::symlink(base, skeleton.join("basejail"))?;
    assert_eq!(read(skeleton, "usr/bin/su")?, "su");
    assert!(read(skeleton, "etc/ssl/certs/a.0")?.contains("CERTIFICATE"));
    assert_eq!(
        fs::read_link(skeleton.join("sys"))?,
        Path::new("usr/src/sys")
    );
    Ok(())
}

#[test]
fn a_debian_world() -> Result<(), Fail> {
    let base = base(debian())?;
    let base = base.path();
    let context = Context::quiet();
    let profile = detect(base)?;
    let world = label(base, profile)?;
    assert_eq!(
        (world.label.as_str(), world.os, world.arch),
        ("debian-12.15", Os::Linux, "arm64")
    );

    let report = scrub(base, profile, &context)?;
    assert_eq!(
        paths(&report.removed),
        [
            "etc/hostname",
            "etc/ssh/ssh_host_rsa_key",
            "var/lib/apt/lists/deb_InRelease",
            "var/log/dpkg.log"
        ]
    );
    assert_eq!(paths(&report.truncated), ["etc/machine-id", "var/log/wtmp"]);
    assert_eq!(find_secrets(base, profile, &context)?, []);

    let skeleton = tempfile::tempdir()?;
    let skeleton = skeleton.path();
    let report = make_skeleton(base, skeleton, profile, &context)?;
    assert_eq!(
        paths(&report.shared),
        [
            "usr/bin",
            "usr/lib",
            "usr/lib64",
            "usr/sbin",
            "usr/share",
            "var/lib/apt",
            "var/lib/dpkg"
        ]
    );
    assert_eq!(fs::read_link(skeleton.join("bin"))?, Path::new("usr/bin"));
    assert_eq!(
        fs::read_link(skeleton.join("var/lib/dpkg"))?,
        Path::new("../../basejail/var/lib/dpkg")
    );
    assert_eq!(
        fs::read_link(skeleton.join("etc/alternatives/awk"))?,
        Path::new("/usr/bin/mawk")
    );
    assert_eq!(report.broken_links, 0);

    let written = manifest::write(base, &context)?;
    assert_eq!(
        manifest::verify(base, &manifest::read(base)?.0, &context)?,
        []
    );
    // The manifest belongs to the base alone: no jail gets a copy.
    let again = tempfile::tempdir()?;
    make_skeleton(base, again.path(), profile, &context)?;
    assert!(!again.path().join(".ezz").exists());
    assert!(written.entries > 30);
    Ok(())
}

#[test]
fn labels_of_derivatives_and_unreleased() -> Result<(), Fail> {
    let label_of = |release: &[u8], version: &[u8]| -> Result<String, Fail> {
        let base = base(
            debian()
                .file("usr/lib/os-release", release)
                .file("etc/debian_version", version),
        )?;
        Ok(label(base.path(), detect(base.path())?)?.label)
    };
    assert_eq!(
        label_of(b"ID=debian\n", b"forky/sid\n")?,
        "debian-forky-sid"
    );
    assert_eq!(
        label_of(b"ID=ubuntu\nVERSION_ID=\"24.04\"\n", b"trixie/sid\n")?,
        "ubuntu-24.04"
    );
    match label_of(b"ID=\"$(id)\"\n", b"12\n") {
        Err(error) => assert!(
            error.to_string().contains("os-release does not say ID"),
            "{error}"
        ),
        Ok(label) => return Err(label.into()),
    }
    Ok(())
}

#[test]
fn a_version_is_not_read_through_a_link() -> Result<(), Fail> {
    let world = freebsd().symlink("bin/freebsd-version", "/etc/hostname");
    let base = base(world)?;
    assert!(matches!(
        detect(base.path()),
        Err(WorldError::Unknown { .. })
    ));
    let profile = &Profile::builtin()[0];
    assert!(matches!(
        label(base.path(), profile),
        Err(WorldError::Label { .. })
    ));
    Ok(())
}

#[test]
fn unknown_and_unusable_worlds() -> Result<(), Fail> {
    let empty = tempfile::tempdir()?;
    match detect(empty.path()) {
        Err(error @ WorldError::Unknown { .. }) => {
            assert!(error.to_string().contains("freebsd, debian"), "{error}");
            assert!(error.hint().is_some());
        }
        other => return Err(format!("{other:?}").into()),
    }
    // The error describes the archive as far as possible.
    let below = debian().dir("rootfs").dir("rootfs/var");
    let below = base(below)?;
    for name in ["etc", "usr"] {
        fs::rename(
            below.path().join(name),
            below.path().join("rootfs").join(name),
        )?;
    }
    fs::rename(
        below.path().join("var/lib"),
        below.path().join("rootfs/var/lib"),
    )?;
    let other = Archive::default().dir("etc").file(
        "etc/os-release",
        b"ID=alpine\nPRETTY_NAME=\"Alpine Linux v3.20\"\n",
    );
    for (tree, words, hint) in [
        (
            below,
            "its directory rootfs is one (debian)",
            "its directory rootfs",
        ),
        (
            base(other)?,
            "its os-release says that it is Alpine Linux v3.20",
            "mmdebstrap",
        ),
    ] {
        match detect(tree.path()) {
            Err(error @ WorldError::Unknown { .. }) => {
                assert!(error.to_string().contains(words), "{error}");
                assert!(
                    error.hint().is_some_and(|it| it.contains(hint)),
                    "{error:?}"
                );
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
    let base = base(debian().dir("basejail"))?;
    let skeleton = tempfile::tempdir()?;
    let profile = detect(base.path())?;
    let refused = make_skeleton(base.path(), skeleton.path(), profile, &Context::quiet());
    assert!(matches!(refused, Err(WorldError::Occupied { .. })));
    Ok(())
}

/// A path that Linux accepts and FreeBSD does not; npm and bazel create such paths.
#[test]
fn long_paths_are_for_the_worlds_own_kernel_to_take() -> Result<(), Fail> {
    let long = format!("root/{}x", format!("{}/", "d".repeat(250)).repeat(5));
    let with = |world: Archive| base(world.pax(&[("path", long.as_bytes())]).file("x", b"deep"));
    let linux = with(debian())?;
    let profile = detect(linux.path())?;
    scrub(linux.path(), profile, &Context::quiet())?;
    let skeleton = tempfile::tempdir()?;
    make_skeleton(linux.path(), skeleton.path(), profile, &Context::quiet())?;
    manifest::write(linux.path(), &Context::quiet())?;
    let found = manifest::verify(
        linux.path(),
        &manifest::read(linux.path())?.0,
        &Context::quiet(),
    )?;
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(read(skeleton.path(), &long)?, "deep");
    let freebsd = with(freebsd())?;
    let profile = detect(freebsd.path())?;
    match scrub(freebsd.path(), profile, &Context::quiet()) {
        Err(
            error @ WorldError::PathTooLong {
                most: 1023,
                os: Os::FreeBsd,
                ..
            },
        ) => {
            assert!(error.hint().is_some());
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

/// In every jail these files would belong to no account. Files that the scrub removes do not count.
#[test]
fn owners_that_no_jail_has_are_named() -> Result<(), Fail> {
    if !is_root("owners_that_no_jail_has_are_named") {
        return Ok(());
    }
    let owned = |name: &'static [u8], owner| Entry {
        name,
        owner,
        ..Entry::default()
    };
    let world = |last: (u64, u64)| {
        debian()
            .entry(&owned(b"etc/most", (65_535, 65_535)))
            .entry(&owned(b"tmp/gone", (70_000, 0)))
            .entry(&owned(b"etc/owner", (65_536, 0)))
            .entry(&owned(b"usr/share/group", last))
    };
    let base = base(world((0, 4_294_967_294)))?;
    let profile = detect(base.path())?;
    let report = scrub(base.path(), profile, &Context::quiet())?;
    match report.owners_known(profile) {
        Err(error @ WorldError::Owners { count: 2, .. }) => {
            let words = "above 65535, which do not exist in jails: etc/owner (65536:0), usr/share/group (0:4294967294)";
            assert!(error.to_string().ends_with(words), "{error}");
            assert!(error.hint().is_some());
        }
        other => return Err(format!("{other:?}").into()),
    }
    // Jails on FreeBSD have all ids.
    report.owners_known(&Profile::builtin()[0])?;
    Ok(())
}

#[test]
fn a_mount_point_that_is_a_link_is_refused() -> Result<(), Fail> {
    let base = base(debian().symlink("srv", "x"))?;
    let dev = base.path().join("dev");
    fs::remove_dir(&dev)?;
    std::os::unix::fs::symlink("/etc", &dev)?;
    let skeleton = tempfile::tempdir()?;
    let profile = detect(base.path())?;
    let refused = make_skeleton(base.path(), skeleton.path(), profile, &Context::quiet());
    match refused {
        Err(error @ WorldError::NotADirectory { .. }) => {
            assert!(
                error
                    .hint()
                    .is_some_and(|hint| hint.starts_with("make dev a directory"))
            );
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

#[test]
fn secrets_are_found_where_jails_would_share_them() -> Result<(), Fail> {
    let key = ["-----BEGIN OPENSSH PRIVATE ", "KEY-----\nAAAA\n"].concat();
    let world = debian()
        .dir("usr/share/doc")
        .file("usr/share/doc/example.pem", key.as_bytes())
        .file("etc/ssl.key", key.as_bytes())
        .file("srv/deploy", key.as_bytes())
        .file("etc/shadow", b"root:$y$j9T$x$y:1::::::\ndaemon:*:1::::::\n")
        .file("home/joe/.netrc", b"machine x password y\n")
        .file("etc/ssl/private/ssl-cert-snakeoil.key", key.as_bytes())
        .file("etc/ssl/certs/ssl-cert-snakeoil.pem", b"certificate")
        .file("root/.ssh/id_ed25519", key.as_bytes());
    let base = base(world)?;
    let profile = detect(base.path())?;
    let context = Context::quiet();
    scrub(base.path(), profile, &context)?;
    let found: Vec<(String, FindingKind)> = find_secrets(base.path(), profile, &context)?
        .into_iter()
        .map(|finding| (finding.path.to_string(), finding.kind))
        .collect();
    let password = FindingKind::Password {
        account: "root".to_owned(),
    };
    assert_eq!(
        found,
        [
            ("etc/shadow".to_owned(), password),
            ("etc/ssl.key".to_owned(), FindingKind::PrivateKey),
            ("home/joe/.netrc".to_owned(), FindingKind::Credentials),
            ("srv/deploy".to_owned(), FindingKind::PrivateKey),
        ]
    );
    assert!(!base.path().join("root/.ssh").exists());
    // Files that belong to one machine: each jail creates them at its first start.
    for name in [
        "private/ssl-cert-snakeoil.key",
        "certs/ssl-cert-snakeoil.pem",
    ] {
        assert!(!base.path().join("etc/ssl").join(name).exists(), "{name}");
    }
    Ok(())
}

#[test]
fn scrubbing_follows_no_link() -> Result<(), Fail> {
    let outside = tempfile::tempdir()?;
    fs::write(outside.path().join("precious"), "x")?;
    let target = outside.path().display().to_string();
    let world = debian()
        .symlink("run/out", &target)
        .symlink("etc/hostname", &format!("{target}/precious"))
        .symlink("etc/machine-id", &format!("{target}/precious"))
        .symlink("var/tmp", &target)
        .entry(&Entry {
            name: b"dev/x",
            ..Entry::default()
        });
    let base = base(world)?;
    let fifo = base.path().join("usr/share/fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR)?;
    let profile = detect(base.path())?;
    let report = scrub(base.path(), profile, &Context::quiet())?;
    assert_eq!(report.devices, 1);
    assert!(!fifo.exists());
    assert_eq!(read(outside.path(), "precious")?, "x");
    assert!(base.path().join("etc/hostname").symlink_metadata().is_err());
    assert_eq!(fs::read_dir(base.path().join("dev"))?.count(), 0);
    assert_eq!(fs::read_dir(base.path().join("run"))?.count(), 0);
    Ok(())
}

#[test]
fn a_reset_breaks_a_hard_link_and_not_its_other_name() -> Result<(), Fail> {
    let base = base(
        debian()
            .file("etc/keep", b"10.0.0.1 x\n")
            .hard_link("etc/hosts", "etc/keep"),
    )?;
    let profile = detect(base.path())?;
    scrub(base.path(), profile, &Context::quiet())?;
    assert_eq!(read(base.path(), "etc/keep")?, "10.0.0.1 x\n");
    assert!(read(base.path(), "etc/hosts")?.starts_with("127.0.0.1"));
    Ok(())
}
