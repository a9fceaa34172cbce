//! What is below the site directory and is no dataset's mount point.

use std::path::Path;

use super::{Entry, EntryKind, Examination, Site};
use crate::model::{CACHE, Inventory};
use crate::name::{GenerationId, JailName, RESERVED};
use crate::plan::check::{Case, Check};
use crate::plan::finding::{Severity, What};
use crate::plan::{PlanError, Step};

pub(super) fn examine(examination: &mut Examination<'_>) -> Result<(), PlanError> {
    let site = examination.site;
    examination.run(&checks(), &site)
}

pub(super) fn checks<'a>() -> [Check<Site<'a>>; 3] {
    use Severity::{Debris, Info};
    [
        Check::new(What::LinkLeft, Info, links_unfinished)
            .cause("an interrupted change of a track"),
        Check::new(What::DirectoryLeft, Debris, directories_left)
            .cause("an interrupted create, delete or install"),
        Check::new(What::DirectoryForeign, Info, directories_foreign)
            .hint("move it away if you do not need it there"),
    ]
}

/// What an entry is that no dataset is mounted on.
#[derive(PartialEq, Eq)]
enum Unknown {
    Link,
    /// An empty directory that may have been a mount point of ezz; others may have a use for any other.
    MountPoint,
    Foreign,
}

fn unknown<'a>(at: &Site<'a>, wanted: Unknown) -> impl Iterator<Item = &'a Entry> {
    let (inventory, facts) = (&at.observed.inventory, at.facts);
    facts.entries.iter().filter(move |entry| {
        // A mount there is a finding about a dataset that ezz did not create, or no file system of ZFS.
        let mounted = facts.mounts.iter().any(|mount| mount.target == entry.path);
        !mounted && !is_known(inventory, &entry.path) && class(inventory, entry) == wanted
    })
}

fn class(inventory: &Inventory, entry: &Entry) -> Unknown {
    let directory = &inventory.site.directory;
    let of_track = entry.path.starts_with(directory.join("basejail/tracks"));
    if of_track && entry.path.extension().is_some_and(|it| it == "new") {
        Unknown::Link
    } else if entry.kind == EntryKind::Empty && is_mount_point(directory, &entry.path) {
        Unknown::MountPoint
    } else {
        Unknown::Foreign
    }
}

fn links_unfinished(at: &Site<'_>) -> Vec<Case> {
    let what = "an unfinished link; the next one of its track replaces it";
    unknown(at, Unknown::Link)
        .map(|entry| Case::new(entry.path.display(), what))
        .collect()
}

fn directories_left(at: &Site<'_>) -> Vec<Case> {
    unknown(at, Unknown::MountPoint)
        .map(|entry| {
            let at = entry.path.clone();
            Case::new(at.display(), "an empty directory without a dataset")
                .steps([Step::RemoveDirectory { at }])
        })
        .collect()
}

fn directories_foreign(at: &Site<'_>) -> Vec<Case> {
    unknown(at, Unknown::Foreign)
        .map(|entry| {
            let what = match entry.kind {
                EntryKind::Empty => "a directory that ezz did not create",
                EntryKind::Full => {
                    "a directory without a dataset that is not empty: it stays, and no jail can have its name"
                }
                EntryKind::Other => "not a directory, and not created by ezz: it stays",
            };
            Case::new(entry.path.display(), what)
        })
        .collect()
}

fn parts<'a>(directory: &Path, path: &'a Path) -> Option<Vec<&'a str>> {
    let below = path.strip_prefix(directory).ok()?;
    below.iter().map(|part| part.to_str()).collect()
}

fn is_known(inventory: &Inventory, path: &Path) -> bool {
    match parts(&inventory.site.directory, path).as_deref() {
        Some([name]) => {
            RESERVED.contains(name)
                || *name == CACHE
                || JailName::parse(name).is_ok_and(|jail| {
                    inventory.jails.contains_key(&jail) || inventory.debris.contains_key(&jail)
                })
                || inventory
                    .strangers
                    .iter()
                    .any(|other| other.dataset.rsplit('/').next() == Some(*name))
        }
        Some(["basejail", "tracks"]) => true,
        Some(["basejail" | "newjail", number]) => GenerationId::from_component(number)
            .is_some_and(|id| inventory.generations.contains_key(&id)),
        _ => false,
    }
}

fn is_mount_point(directory: &Path, path: &Path) -> bool {
    match parts(directory, path).as_deref() {
        Some([name]) => JailName::parse(name).is_ok(),
        Some(["basejail" | "newjail", number]) => GenerationId::from_component(number).is_some(),
        _ => false,
    }
}
