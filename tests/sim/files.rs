//! Copies and lists small trees, without following a link.

#![allow(
    clippy::disallowed_methods,
    reason = "what is removed is below the temporary directory of a test, where nothing is mounted"
)]

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Copies a tree with modes, links and times of files. `to` must not exist.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(from)?;
    if found.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if found.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
    } else {
        fs::write(to, fs::read(from)?)?;
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(to, Some(found.uid()), Some(found.gid()))?;
    }
    fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o7777))?;
    fs::File::open(to)?.set_modified(found.modified()?)
}

/// Removes a tree, if it exists.
pub fn remove(at: &Path) -> io::Result<()> {
    match fs::remove_dir_all(at) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Returns one line for each file: its path, mode and content.
pub fn list(at: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(at, Path::new(""), &mut lines);
    lines.sort();
    lines
}

fn walk(root: &Path, below: &Path, lines: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(below)) else {
        return;
    };
    for entry in entries.flatten() {
        let path: PathBuf = below.join(entry.file_name());
        let full = root.join(&path);
        let Ok(found) = fs::symlink_metadata(&full) else {
            continue;
        };
        let mode = found.mode() & 0o7777;
        let shown = path.display();
        if found.is_symlink() {
            let target = fs::read_link(&full).unwrap_or_default();
            lines.push(format!("{shown} -> {}", target.display()));
        } else if found.is_dir() {
            lines.push(format!("{shown}/ {mode:o}"));
            walk(root, &path, lines);
        } else {
            let text = fs::read(&full).unwrap_or_default();
            lines.push(format!(
                "{shown} {mode:o} {}",
                String::from_utf8_lossy(&text).escape_debug()
            ));
        }
    }
}
