//! The own files of jails: recorded while nothing interferes, and compared with the record after an interruption.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::Value;

use crate::sys::{Failure, out, sh};

/// The file that ezz keeps in a jail's own files: it has the number of the generation.
const RECORD: &str = "/basejail/.ezz-generation";

/// The moment at which jails are examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Right after an interruption: a merge may be half done, if its mark says so.
    Interrupted,
    /// After everything was completed or repaired.
    Settled,
}

/// Records the own files of jails at their generation; for a jail that has a record already, returns the differences.
pub fn record(jails: &[&str]) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    for jail in jails {
        let at = kept(jail, skeleton(&config(jail)?))?;
        if at.exists() {
            wrong.extend(differences(jail)?);
            continue;
        }
        fs::create_dir_all(at.parent().unwrap_or(&at))?;
        fs::write(at, serde_json::to_vec(&files(jail)?).unwrap_or_default())?;
    }
    Ok(wrong)
}

/// Checks that each of these jails has exactly the files that were recorded for its generation.
pub(super) fn as_recorded(jails: &[&str], when: When) -> Vec<String> {
    let mut wrong = Vec::new();
    for jail in jails {
        let marked = sh(&format!(
            "zfs get -Hpo source ezz:merging tank/ezz/jails/{jail}"
        ));
        let mounted = sh(&format!("mountpoint -q /srv/jails/{jail}")).is_ok();
        let whole = marked.is_ok_and(|source| source != "local\n") && mounted;
        match (whole, when) {
            (false, When::Interrupted) => {}
            (false, When::Settled) => wrong.push(format!("{jail} is half merged, or not mounted")),
            (true, _) => match differences(jail) {
                Ok(found) => wrong.extend(found),
                Err(Failure(why)) => wrong.push(why),
            },
        }
    }
    wrong
}

/// Returns the base that a jail is to run on, and the generation of its own files.
pub(super) fn stands(jail: &str) -> String {
    match config(jail) {
        Ok(config) => format!("{} {}", config["base"], config["skel"]),
        Err(Failure(why)) => why,
    }
}

fn config(jail: &str) -> Result<Value, Failure> {
    let text = sh(&format!(
        "zfs get -Hpo value ezz:jail tank/ezz/jails/{jail}"
    ))?;
    serde_json::from_str(&text).map_err(|error| Failure(format!("{jail}: {error}: {text}")))
}

fn skeleton(config: &Value) -> u64 {
    config["skel"].as_u64().unwrap_or(0)
}

fn kept(jail: &str, skeleton: u64) -> Result<std::path::PathBuf, Failure> {
    Ok(out().join("own").join(format!("{jail}.{skeleton}")))
}

fn differences(jail: &str) -> Result<Vec<String>, Failure> {
    let skeleton = skeleton(&config(jail)?);
    let bytes = fs::read(kept(jail, skeleton)?)
        .map_err(|error| Failure(format!("{jail} was never at {skeleton}: {error}")))?;
    let was: BTreeMap<String, String> = serde_json::from_slice(&bytes)
        .map_err(|error| Failure(format!("{jail} at {skeleton}: {error}")))?;
    let is = files(jail)?;
    let paths = was.keys().chain(is.keys());
    let mut paths: Vec<&String> = paths
        .filter(|path| was.get(*path) != is.get(*path))
        .collect();
    paths.sort();
    paths.dedup();
    let told = |path: &&String| {
        let (was, is) = (was.get(*path), is.get(*path));
        format!("{jail} at {skeleton}: {path} is {is:?}, and was {was:?}")
    };
    // The first few differences show what is wrong.
    Ok(paths.iter().take(5).map(told).collect())
}

/// Returns the path of each file, with its type, mode, owner and content.
fn files(jail: &str) -> Result<BTreeMap<String, String>, Failure> {
    let root = Path::new("/srv/jails").join(jail);
    let mut found = BTreeMap::new();
    add(&root, "", &mut found)?;
    found.remove(RECORD);
    Ok(found)
}

fn add(root: &Path, at: &str, found: &mut BTreeMap<String, String>) -> Result<(), Failure> {
    let path = Path::new(root).join(at.trim_start_matches('/'));
    let stat = fs::symlink_metadata(&path)?;
    let kind = stat.file_type();
    let what = if kind.is_symlink() {
        format!("{:?}", fs::read_link(&path)?)
    } else if kind.is_file() {
        format!("{:?}", String::from_utf8_lossy(&fs::read(&path)?))
    } else if kind.is_fifo() || kind.is_socket() {
        "special".to_owned()
    } else {
        String::new()
    };
    let owner = format!("{}:{}", stat.uid(), stat.gid());
    found.insert(at.to_owned(), format!("{:o} {owner} {what}", stat.mode()));
    if kind.is_dir() {
        for entry in fs::read_dir(&path)? {
            let name = entry?.file_name();
            add(root, &format!("{at}/{}", name.to_string_lossy()), found)?;
        }
    }
    Ok(())
}
