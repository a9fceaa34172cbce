//! Worlds of Debian with services, as mmdebstrap makes them (`vagrant/lab/lab world services`), and a look at what jails
//! have of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::support::*;

/// The archive of one of these worlds.
pub fn archive(name: &str) -> String {
    let directory =
        variable("EZZ_LAB_SERVICES").expect("`vagrant/lab/lab world services` makes it");
    format!("{directory}/{name}.tar")
}

/// Where a file of a jail is on the host.
pub fn at(jail: &str, path: &str) -> String {
    format!("{DIRECTORY}/{jail}/{path}")
}

/// Where a file of a base is on the host.
pub fn base(generation: u32, path: &str) -> String {
    format!("{DIRECTORY}/basejail/{generation}/{path}")
}

/// A text of a jail; an empty one if there is none.
pub fn text(jail: &str, path: &str) -> String {
    fs::read_to_string(at(jail, path)).unwrap_or_default()
}

/// Changes a text of a jail as its administrator would. Owner and mode stay.
#[track_caller]
pub fn edit(jail: &str, path: &str, from: &str, to: &str) {
    let old = text(jail, path);
    assert!(old.contains(from), "no {from:?} in {path} of {jail}: {old}");
    fs::write(at(jail, path), old.replacen(from, to, 1)).expect("written");
}

/// Adds a line to a text of a jail.
#[track_caller]
pub fn append(jail: &str, path: &str, line: &str) {
    fs::write(at(jail, path), text(jail, path) + line + "\n").expect("written");
}

/// Runs a script in a jail.
pub fn inside(jail: &str, script: &str) -> Ended {
    ezz(&["exec", jail, "--", "/bin/sh", "-c", script])
}

/// User, group and mode of a file.
#[track_caller]
pub fn owner(path: &str) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

/// The number of a name in an account file.
#[track_caller]
pub fn account(file: &str, name: &str) -> u32 {
    let text = fs::read_to_string(file).expect("it is there");
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = lines.find(|fields| fields[0] == name);
    found
        .and_then(|fields| fields[2].parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// All of a jail's own files: path to type, mode, owner and digest of the content. Not the record of ezz that says
/// which generation they are of.
pub fn own_files(jail: &str) -> BTreeMap<String, String> {
    let mut files = files_below(&at(jail, ""));
    files.remove("basejail/.ezz-generation");
    files
}

/// The same of any directory.
pub fn files_below(root: &str) -> BTreeMap<String, String> {
    fn add(root: &Path, at: &Path, files: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(at).expect("a directory") {
            let path = entry.expect("an entry").path();
            let found = fs::symlink_metadata(&path).expect("it is there");
            let content = if found.is_symlink() {
                fs::read_link(&path).expect("a link").display().to_string()
            } else if found.is_file() {
                digest(&fs::read(&path).expect("a file"))
            } else {
                String::new()
            };
            let name = path.strip_prefix(root).expect("it is below");
            let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
            files.insert(
                name.display().to_string(),
                format!("{mode:o} {uid}:{gid} {content}"),
            );
            if found.is_dir() {
                add(root, &path, files);
            }
        }
    }
    let mut files = BTreeMap::new();
    add(Path::new(root), Path::new(root), &mut files);
    files
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What differs between two states of a jail's own files, a line each.
pub fn difference(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, was) in before {
        match after.get(path) {
            None => lines.push(format!("- {path} {was}")),
            Some(is) if is != was => lines.push(format!("! {path} {was} -> {is}")),
            Some(_) => {}
        }
    }
    for (path, is) in after {
        if !before.contains_key(path) {
            lines.push(format!("+ {path} {is}"));
        }
    }
    lines
}

/// What a server at a port of the host answers to a request for its first page.
#[track_caller]
pub fn first_page(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("something listens there");
    stream
        .write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

/// No invariant is broken, and doctor has nothing to report.
#[track_caller]
pub fn whole() {
    assert_eq!(crate::inspect::site(SITE), Vec::<String>::new());
    let findings = ezz(&["doctor", "--json"]).ok().json();
    assert_eq!(findings[0]["findings"].to_string(), "[]", "{findings:#?}");
}
