//! What stays as the jail has it on a way back, since it cannot be written or is in conflict: a file at a time, so that
//! only what concerns the whole jail keeps it from coming back.
//! Must not be here: what is to be written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::error::WorldError;
use super::super::progress::Cancel;
use super::kept::{Kept, Why};
use super::obstacle::{self, Obstacle};
use super::state::{State, one};
use super::{Change, Examined, What};
use crate::profile::RelPath;

/// Makes of a merge one that keeps no jail from coming back: what is in conflict, or cannot be written, stays as
/// the jail has it.
///
/// # Errors
/// [`WorldError`].
pub(super) fn without_conflicts(
    mut examined: Examined,
    new: &Path,
    jail: &Path,
    cancel: &Cancel,
) -> Result<Examined, WorldError> {
    for change in std::mem::take(&mut examined.changes) {
        match change.what {
            What::Conflict(reason) => examined.kept.push(Kept {
                path: change.path,
                why: Why::Conflict(reason),
            }),
            What::Take | What::Remove | What::Merge(_) | What::Left(_) => {
                examined.changes.push(change);
            }
        }
    }
    settled(new, jail, examined, cancel)
}

/// Which of these files cannot be written, and why.
///
/// # Errors
/// [`WorldError`].
pub(super) fn unwritable(
    jail: &Path,
    paths: Vec<RelPath>,
) -> Result<BTreeMap<RelPath, Why>, WorldError> {
    let written = |path: &RelPath| Change {
        path: path.clone(),
        what: What::Remove,
        beside: Vec::new(),
        diff: None,
    };
    let changes: Vec<Change> = paths.iter().map(written).collect();
    let aside = flagged(obstacle::find(jail, &changes, &[], &|_| 0)?).0;
    let of = |path: RelPath| {
        let why = found_at(&aside, &path)?;
        Some((path, why))
    };
    Ok(paths.into_iter().filter_map(of).collect())
}

/// What keeps single files, by path, and what concerns the whole jail.
fn flagged(found: Vec<Obstacle>) -> (BTreeMap<RelPath, Why>, Vec<Obstacle>) {
    let (mut aside, mut rest) = (BTreeMap::new(), Vec::new());
    for obstacle in found {
        match obstacle {
            Obstacle::Immutable(path) => drop(aside.insert(path, Why::Immutable)),
            Obstacle::Mount(path) => drop(aside.insert(path, Why::Mount)),
            Obstacle::Accounts(_) | Obstacle::ReadOnly | Obstacle::Room { .. } => {
                rest.push(obstacle);
            }
        }
    }
    (aside, rest)
}

/// What keeps a file: what is found at it, or at the directory that holds it.
fn found_at(aside: &BTreeMap<RelPath, Why>, path: &RelPath) -> Option<Why> {
    let above = [path.clone(), path.parent()];
    above.iter().find_map(|it| aside.get(it)).cloned()
}

/// Sets aside what cannot be written, a file at a time: only what concerns the whole jail keeps it from coming
/// back.
pub(super) fn settled(
    new: &Path,
    jail: &Path,
    examined: Examined,
    cancel: &Cancel,
) -> Result<Examined, WorldError> {
    let Examined {
        mut changes,
        mut kept,
        ..
    } = examined;
    let mut sizes = BTreeMap::new();
    for change in changes.iter().filter(|change| change.what == What::Take) {
        if let Some(state) = one(new, &change.path, [None, None], cancel)? {
            sizes.insert(change.path.clone(), state);
        }
    }
    let bytes = |path: &RelPath| sizes.get(path).and_then(State::size).unwrap_or(0);
    let (aside, obstacles) = flagged(obstacle::find(jail, &changes, &[], &bytes)?);
    if !aside.is_empty() {
        let of = |path: &RelPath| found_at(&aside, path);
        let mut tops: BTreeSet<RelPath> = BTreeSet::new();
        for change in changes.iter().filter(|change| of(&change.path).is_some()) {
            // A file cannot come back to the place of a directory in which something stays.
            let file = |it: &&Change| {
                let directory = sizes.get(&it.path).is_some_and(State::is_directory);
                it.what == What::Take && !directory && change.path.is_within(&it.path)
            };
            tops.insert(change.path.clone());
            tops.extend(changes.iter().find(file).map(|it| it.path.clone()));
        }
        let why = |path: &RelPath| of(path).unwrap_or(Why::Immutable);
        kept.extend(tops.iter().map(|path| Kept {
            path: path.clone(),
            why: why(path),
        }));
        changes.retain(|it| {
            !tops
                .iter()
                .any(|top| it.path == *top || it.path.is_within(top))
        });
    }
    kept.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Examined {
        changes,
        obstacles,
        kept,
        ..examined
    })
}
