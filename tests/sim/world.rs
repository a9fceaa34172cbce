//! A made-up world of the Debian profile, as small as the profile allows.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Creates the world of this point release as a directory.
pub fn make(at: &Path, version: &str) {
    let write = |path: &str, text: &[u8], mode: u32| {
        let path = at.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
        fs::write(&path, text).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
    };
    // ELF, little-endian, amd64: ezz reads the architecture from this header.
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0".to_vec();
    elf.resize(64, 0);
    write("usr/bin/dash", &elf, 0o755);
    write("usr/bin/dpkg", b"dpkg", 0o755);
    write(
        "usr/lib/os-release",
        b"ID=debian\nVERSION_ID=\"12\"\n",
        0o644,
    );
    write(
        "etc/debian_version",
        format!("{version}\n").as_bytes(),
        0o644,
    );
    write("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644);
    write("var/lib/dpkg/status", b"", 0o644);
    for directory in ["dev", "proc", "sys", "run", "tmp", "root"] {
        fs::create_dir(at.join(directory)).expect("writable");
    }
    symlink("usr/bin", at.join("bin")).expect("writable");
}
