//! Archives: whatever one contains, reading it ends, and nothing outside the root is touched.
//!
//! libFuzzer watches time and memory (`-timeout`, `-rss_limit_mb`). The tar reader does not handle compression:
//! `tests/world` tests compressed inputs.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ezz::world::{Context, Source, extract};

/// Checks bytes as a world to unpack, beside a directory that must not change.
pub fn check(data: &[u8]) {
    if is_compressed(data) {
        return;
    }
    let outside = tempfile::tempdir().expect("a directory");
    let root = outside.path().join("root");
    let victim = outside.path().join("victim");
    fs::create_dir(&root).expect("a directory");
    fs::create_dir(&victim).expect("a directory");
    fs::write(victim.join("file"), "precious").expect("a file");
    let input = Source::Stdin(Box::new(Cursor::new(data.to_vec())));
    let taken = extract(input, &root, None, &Context::quiet());
    let names = |path: &Path| -> Vec<String> {
        let entries = fs::read_dir(path).expect("a directory");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    };
    assert_eq!(names(outside.path()), ["root", "victim"]);
    assert_eq!(names(&victim), ["file"]);
    let file = victim.join("file");
    assert_eq!(fs::read(&file).expect("a file"), b"precious");
    let met = fs::symlink_metadata(&file).expect("a file");
    assert!(met.is_file());
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&met), 1);
    match taken {
        Ok(report) => {
            assert_eq!(report.input_bytes, data.len() as u64);
            let entries = report.files + report.dirs + report.links + report.dropped_devices;
            // Each entry has a header.
            assert!(entries * 512 <= report.input_bytes);
        }
        // The message may contain a name unescaped: `report` escapes it for a terminal.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    open_up(&root);
}

fn is_compressed(data: &[u8]) -> bool {
    matches!(
        data,
        [0x1f, 0x8b, ..]
            | [0x28, 0xb5, 0x2f, 0xfd, ..]
            | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]
            | [0xfd, b'7', b'z', b'X', ..]
    )
}

/// Changes modes so that a user who is not root can remove the directory too.
fn open_up(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
