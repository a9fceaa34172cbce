//! Invariants 12 and 13, on the own files of jails that were merged: which generation they belong to, and who owns
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::host::mounts_of;
use super::{Found, Seen};

/// The file that a merge writes into the jail when it is complete.
const RECORD: &str = "basejail/.ezz-generation";

/// The number of the user nobody.
const NOBODY: u32 = 65534;

/// Checks each jail that a merge has brought to a generation. A jail that is being merged has files of two.
pub(super) fn check(seen: &Seen, found: &mut Found) {
    let mounts = mounts_of("self");
    for (jail, record) in &seen.records {
        let root = seen.directory.join(jail);
        let dataset = format!("{}/jails/{jail}", seen.site);
        let there = mounts
            .iter()
            .rfind(|mount| mount.target == root)
            .is_some_and(|mount| mount.source == dataset);
        if !there || seen.merging.contains(jail) {
            continue;
        }
        let is = fs::read_to_string(root.join(RECORD)).unwrap_or_default();
        if is.trim_end() != record.to_string() {
            found.always(format!(
                "{jail} was merged to {record}, and its files are of {is:?}"
            ));
        }
        let Some(files) = seen.files.get(jail) else {
            continue;
        };
        if seen.contents.contains_key(record) && !seen.same_skeleton(*record, *files) {
            found.always(format!(
                "{jail} was merged to {record}, and its own files are at {files}"
            ));
        }
        let base = seen.directory.join("basejail").join(files.to_string());
        for (kind, file) in [("user", "etc/passwd"), ("group", "etc/group")] {
            let accounts = Accounts {
                kind,
                base: names(&base.join(file)),
                jail: names(&root.join(file)),
            };
            let before = found.list.len();
            owners(&accounts, &root, &base, "", &mut |what| {
                // A few of many are enough.
                if found.list.len() < before + 3 {
                    found.always(format!("{jail}: {what}"));
                }
            });
        }
    }
}

/// Names and numbers of accounts.
type Names = Vec<(String, u32)>;

struct Accounts {
    kind: &'static str,
    base: Names,
    jail: Names,
}

fn names(file: &Path) -> Names {
    let regular = fs::symlink_metadata(file).is_ok_and(|found| found.is_file());
    let text = match regular {
        true => fs::read(file).unwrap_or_default(),
        false => Vec::new(),
    };
    let text = String::from_utf8_lossy(&text);
    let account = |line: &str| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        Some((name.to_owned(), number.parse().ok()?))
    };
    text.lines().filter_map(account).collect()
}

/// Checks that a file that the world gives to an account belongs to the account of that name in the jail, if there is
/// one.
fn owners(accounts: &Accounts, root: &Path, base: &Path, at: &str, told: &mut dyn FnMut(String)) {
    let entries = fs::read_dir(root.join(at)).into_iter().flatten().flatten();
    let mut below: BTreeMap<String, _> = BTreeMap::new();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if at.is_empty() {
            name
        } else {
            format!("{at}/{name}")
        };
        if let Ok(stat) = fs::symlink_metadata(root.join(&path)) {
            below.insert(path, stat);
        }
    }
    for (path, mine) in below {
        let Ok(theirs) = fs::symlink_metadata(base.join(&path)) else {
            continue;
        };
        if theirs.file_type() != mine.file_type() || theirs.is_symlink() {
            continue;
        }
        let of = |stat: &fs::Metadata| match accounts.kind {
            "user" => stat.uid(),
            _ => stat.gid(),
        };
        let (wanted, is) = (of(&theirs), of(&mine));
        let named = |name: &String| {
            let mut base = accounts.base.iter();
            base.any(|(it, number)| it == name && *number == wanted)
        };
        let jail = accounts.jail.iter();
        let known: Vec<&(String, u32)> = jail.filter(|(name, _)| named(name)).collect();
        let right = known.is_empty() || known.iter().any(|(_, number)| *number == is);
        // A file that root of the jail has created or taken belongs to no other account.
        if ![0, NOBODY].contains(&wanted) && is != 0 && !right {
            let kind = accounts.kind;
            told(format!(
                "{path} belongs to the {kind} {is}, and to {known:?} by the world"
            ));
        }
        if mine.is_dir() {
            owners(accounts, root, base, &path, told);
        }
    }
}
