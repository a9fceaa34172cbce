//! Mount tables: any bytes are read or refused, and a table that is written as the kernel writes it is read back
//! unchanged.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use ezz_zfs::parse_mountinfo;

/// Checks bytes as a table, and as the fields of one, which end with 0xff.
pub fn check(data: &[u8]) {
    let lines = data.split(|b| *b == b'\n').count();
    match parse_mountinfo(data) {
        Ok(mounts) => assert!(mounts.len() <= lines),
        Err(error) => assert!((1..=lines).contains(&error.line)),
    }
    let fields: Vec<&[u8]> = data.split(|b| *b == 0xff).collect();
    let mut text = Vec::new();
    let mut made = Vec::new();
    for field in fields.chunks_exact(5) {
        let [root, target, source, kind, flags] = *field else {
            return;
        };
        // A C string contains no NUL.
        if field.iter().any(|bytes| bytes.contains(&0)) {
            continue;
        }
        let flags = flags.first().copied().unwrap_or_default();
        write(&mut text, root, target, source, kind, flags);
        made.push((root, target, source, kind, flags));
    }
    let mounts = parse_mountinfo(&text).expect("what the kernel writes is read");
    assert_eq!(mounts.len(), made.len());
    for (mount, (root, target, source, kind, flags)) in mounts.iter().zip(made) {
        assert_eq!(mount.root.as_os_str(), OsStr::from_bytes(root));
        assert_eq!(mount.target.as_os_str(), OsStr::from_bytes(target));
        assert_eq!(mount.source, String::from_utf8_lossy(source));
        assert_eq!(mount.fstype, String::from_utf8_lossy(kind));
        assert_eq!(mount.read_only, flags & 1 != 0 || flags & 16 != 0);
        assert_eq!(mount.nosuid, flags & 2 != 0);
        assert_eq!(mount.nodev, flags & 4 != 0);
        assert_eq!(mount.noexec, flags & 8 != 0);
        assert_eq!(mount.noatime, flags & 64 != 0);
    }
}

/// Writes one line as fs/proc_namespace.c does.
fn write(text: &mut Vec<u8>, root: &[u8], target: &[u8], source: &[u8], kind: &[u8], flags: u8) {
    text.extend_from_slice(b"36 35 98:0 ");
    escape(text, root);
    text.push(b' ');
    escape(text, target);
    text.extend_from_slice(if flags & 1 != 0 { b" ro" } else { b" rw" });
    for (bit, name) in [
        (2, ",nosuid"),
        (4, ",nodev"),
        (8, ",noexec"),
        (64, ",noatime"),
    ] {
        if flags & bit != 0 {
            text.extend_from_slice(name.as_bytes());
        }
    }
    text.extend_from_slice(if flags & 32 != 0 {
        b" shared:7 master:2 - "
    } else {
        b" - "
    });
    escape(text, kind);
    text.push(b' ');
    escape(text, source);
    text.extend_from_slice(if flags & 16 != 0 {
        b" ro,xattr\n"
    } else {
        b" rw,xattr\n"
    });
}

/// Escapes a field as `mangle` of the kernel does (include/linux/seq_file.h, `" \t\n\\#"`).
fn escape(text: &mut Vec<u8>, field: &[u8]) {
    for byte in field {
        if b" \t\n\\#".contains(byte) {
            text.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        } else {
            text.push(*byte);
        }
    }
}
