//! The slow half of invariant 2: the files of a sealed base are read, hashed and compared with its manifest. And a part
//! of invariant 13: the accounts of a base have the numbers of its ledger, and later ledgers do not contradict it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Found, Seen};

const MANIFEST: &str = ".ezz/manifest.mtree.zst";

/// Files are hashed if their base has at most this many bytes; in a larger one, only one file in [`ONE_IN`] is.
const WHOLE: u64 = 24 << 20;
const ONE_IN: usize = 12;

/// The values by keyword, for each path as the manifest writes it.
type Lines = BTreeMap<String, BTreeMap<String, String>>;

pub(super) fn check(seen: &Seen, found: &mut Found) {
    let mut ledger = BTreeMap::new();
    for (n, manifest) in &seen.sealed {
        let root = seen.directory.join("basejail").join(n.to_string());
        // A base that is not mounted is reported elsewhere.
        if !root.join(".ezz").exists() {
            continue;
        }
        match accounts(&root, &mut ledger) {
            Ok(()) => {}
            Err(why) => found.always(format!("generation {n}: {why}")),
        }
        if let Err(why) = verify(&root, manifest) {
            found.always(format!("generation {n}: {why}"));
        }
    }
}

/// The number of each account, by profile, kind and name.
type Ledger = BTreeMap<(String, String), String>;

/// Checks the accounts of a base against its ledger, and that against the ledgers of others.
fn accounts(root: &Path, known: &mut Ledger) -> Result<(), String> {
    // A base that an older ezz has sealed.
    let Ok(text) = fs::read_to_string(root.join(".ezz/accounts")) else {
        return Ok(());
    };
    // Each operating system has numbers of its own.
    let family = if root.join("bin/freebsd-version").exists() {
        "freebsd"
    } else {
        "other"
    };
    let mut own = Ledger::new();
    for line in text.lines().skip(1) {
        let (account, number) = line.rsplit_once(' ').ok_or(format!("ledger: {line:?}"))?;
        if account.ends_with(" -") {
            continue;
        }
        let key = (family.to_owned(), account.to_owned());
        let first = known
            .entry(key.clone())
            .or_insert_with(|| number.to_owned());
        if first != number {
            return Err(format!(
                "{account} is {number}, and {first} in another generation"
            ));
        }
        own.insert(key, number.to_owned());
    }
    for (file, kind) in [("etc/passwd", "user"), ("etc/group", "group")] {
        let lines = fs::read_to_string(root.join(file)).unwrap_or_default();
        for line in lines.lines() {
            let mut fields = line.split(':');
            let (name, number) = (fields.next().unwrap_or_default(), fields.nth(1));
            let key = (family.to_owned(), format!("{kind} {name}"));
            match (own.get(&key), number) {
                (Some(noted), Some(number)) if noted != number => {
                    return Err(format!(
                        "{kind} {name} is {number}, and {noted} in its ledger"
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn verify(root: &Path, sealed: &str) -> Result<(), String> {
    let packed = root.join(MANIFEST);
    let failed = |error: std::io::Error| format!("{}: {error}", packed.display());
    let mut text = String::new();
    let file = fs::File::open(&packed).map_err(failed)?;
    zstd::stream::read::Decoder::new(file)
        .and_then(|mut decoder| decoder.read_to_string(&mut text))
        .map_err(failed)?;
    let is = hex(&Sha256::digest(text.as_bytes()));
    if is != sealed {
        return Err(format!(
            "its manifest has the SHA-256 {is}, and sealed is {sealed}"
        ));
    }
    let mut lines = Lines::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let path = words.next().unwrap_or_default().to_owned();
        let words = words
            .filter_map(|word| word.split_once('='))
            .map(|(keyword, value)| (keyword.to_owned(), value.to_owned()));
        lines.insert(path, words.collect());
    }
    let size = |words: &BTreeMap<String, String>| words.get("size")?.parse::<u64>().ok();
    let whole = lines.values().filter_map(size).sum::<u64>() <= WHOLE;
    let mut files = 0;
    walk(root, root, ".", &mut |path, at| {
        let words = lines
            .remove(path)
            .ok_or_else(|| format!("{path} was added"))?;
        files += 1;
        compare(path, at, &words, whole || files % ONE_IN == 0)
    })?;
    match lines.keys().next() {
        Some(path) => Err(format!("{path} is missing")),
        None => Ok(()),
    }
}

type Visit<'a> = dyn FnMut(&str, &Path) -> Result<(), String> + 'a;

fn walk(root: &Path, at: &Path, path: &str, visit: &mut Visit<'_>) -> Result<(), String> {
    visit(path, at)?;
    let stat = fs::symlink_metadata(at).map_err(|error| format!("{path}: {error}"))?;
    if !stat.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(at).map_err(|error| format!("{path}: {error}"))? {
        let entry = entry.map_err(|error| format!("{path}: {error}"))?;
        if at == root && entry.file_name() == ".ezz" {
            // The manifest is not part of itself.
            if entry.path().join("accounts").exists() {
                visit("./.ezz/accounts", &entry.path().join("accounts"))?;
            }
            continue;
        }
        let name = escape(entry.file_name().as_bytes());
        walk(root, &entry.path(), &format!("{path}/{name}"), visit)?;
    }
    Ok(())
}

/// Escapes a name as the manifest does: three octal digits for bytes that mtree(5) cannot represent.
fn escape(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\\#*?[=".contains(&byte);
    let mut text = String::new();
    for byte in bytes {
        if plain(*byte) {
            text.push(char::from(*byte));
        } else {
            text += &format!("\\{byte:03o}");
        }
    }
    text
}

fn compare(
    path: &str,
    at: &Path,
    words: &BTreeMap<String, String>,
    content: bool,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{path}: {error}");
    let stat = fs::symlink_metadata(at).map_err(failed)?;
    let kind = stat.file_type();
    let mut is = BTreeMap::new();
    let mut add = |keyword: &str, value: String| {
        is.insert(keyword.to_owned(), value);
    };
    add(
        "type",
        if kind.is_dir() {
            "dir"
        } else if kind.is_symlink() {
            "link"
        } else {
            "file"
        }
        .to_owned(),
    );
    add("mode", format!("0{:03o}", stat.mode() & 0o7777));
    add("uid", stat.uid().to_string());
    add("gid", stat.gid().to_string());
    if path != "." {
        add("time", format!("{}.{:09}", stat.mtime(), stat.mtime_nsec()));
    }
    if kind.is_symlink() {
        let target = fs::read_link(at).map_err(failed)?;
        add("link", escape(target.as_os_str().as_bytes()));
    }
    if kind.is_file() {
        add("size", stat.size().to_string());
        add("nlink", stat.nlink().to_string());
        if content {
            add(
                "sha256digest",
                hex(&Sha256::digest(fs::read(at).map_err(failed)?)),
            );
        }
    }
    let skipped =
        |keyword: &str| keyword.starts_with("xattr.") || (keyword == "sha256digest" && !content);
    for (keyword, value) in words.iter().filter(|(keyword, _)| !skipped(keyword)) {
        if is.get(keyword) != Some(value) {
            return Err(format!(
                "{path}: {keyword} is {:?}, was {value}",
                is.get(keyword)
            ));
        }
    }
    Ok(())
}
