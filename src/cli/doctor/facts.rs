//! Collects the facts that doctor needs beyond an observation. Each read covers many objects at once, because a site
//! may have a thousand jails. This module must not decide what the facts mean.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{CliError, build};
use crate::cli::restart_marks::RestartMarks;
use crate::cli::{access, delegated, error, merging, record};
use crate::model::{Inventory, property, track_link};
use crate::name::{GenerationId, JailName, SnapshotName, TrackName};
use crate::plan::doctor::{Dataset, Entry, EntryKind, Facts, Setting, Snapshot};
use crate::plan::{Observed, generation, spec};
use crate::ports::{PortError, Query, Source};
use crate::profile::Os;
use crate::session::Session;

/// The native properties that are read. The last one cannot contain a line break.
const NATIVE: [&str; 9] = [
    "mountpoint",
    "readonly",
    "sync",
    "devices",
    "setuid",
    "exec",
    "sharenfs",
    "sharesmb",
    "canmount",
];

/// Jails that no command is working on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle<'a> {
    /// The jails of which the host has leftovers.
    pub(super) left: &'a BTreeSet<JailName>,
    /// The jails with the mark of a merge, which was therefore interrupted.
    pub(super) merges: &'a BTreeSet<JailName>,
}

/// Collects the facts. At boot, where only derived files are repaired, the pool's snapshots are not read: with
/// thousands of clones that takes seconds.
///
/// # Errors
/// [`CliError`] if the pool or the host cannot be read.
pub(super) fn facts(
    session: &Session,
    observed: &Observed,
    derived_only: bool,
    idle: Idle<'_>,
) -> Result<Facts, CliError> {
    let inventory = &observed.inventory;
    let mut facts = Facts {
        abandoned: build::abandoned(session, inventory)?
            .iter()
            .map(|generation| generation.id)
            .collect(),
        mounts: session.zfs.mounts()?,
        freebsd: session.host.os() == Os::FreeBsd,
        verify: left_by_readers(session.locks.directory()),
        undo: left_by_undo(session.locks.directory()),
        ..Facts::default()
    };
    // A replica has the id of the site that it was copied from, whose jails may run on this host.
    if !inventory.site.replica {
        facts.derived = session.host.derived()?;
        facts.left = idle.left.iter().cloned().collect();
        for name in idle.merges {
            let jail = inventory.jails.get(name);
            if jail.is_some_and(|jail| jail.merging.is_some()) {
                let found = merging::snapshots(session.zfs.as_ref(), inventory, name)?;
                facts.interrupted.insert(name.clone(), found);
            }
        }
        for (name, jail) in &inventory.jails {
            if let Some(config) = record::look(observed, jail)? {
                facts.rolled_back.insert(name.clone(), config.skel);
            }
        }
        let names: Vec<&JailName> = inventory.jails.keys().collect();
        facts.taken = session.host.taken(&names)?;
        facts.moving = RestartMarks::at(session.locks.directory(), session).abandoned()?;
        if !derived_only {
            let jails = inventory.jails.iter();
            let jails = jails.filter_map(|(name, jail)| Some((name, jail.config.as_ref().ok()?)));
            let jails: Vec<_> = jails.collect();
            facts.around = session.host.conditions(&jails);
            facts.without_limits = session.host.without_limits()?;
            match session.host.differing() {
                Ok(differing) => facts.differing = differing,
                Err(error) => {
                    let why = error::one_line(&error);
                    let what = format!("parameters of running jails cannot be compared: {why}");
                    facts.around.unread.push(what);
                }
            }
            // A host that gives jails no datasets reports it when such a jail is started.
            if session.host.delegation_property().is_ok() {
                let theirs = jails.iter().flat_map(|(_, config)| &config.datasets);
                facts.lacking = delegated::lacking(session, &theirs.collect::<Vec<_>>())?;
            }
        }
    }
    let all = datasets(session, inventory).and_then(|datasets| {
        let read = !derived_only;
        let snapshots = read.then(|| snapshots(session, inventory)).transpose()?;
        Ok((datasets, snapshots.unwrap_or_default()))
    });
    match all {
        Ok((datasets, snapshots)) => (facts.datasets, facts.snapshots) = (datasets, snapshots),
        Err(PortError::Parse { why, .. }) => facts.unreadable = Some(why),
        Err(other) => return Err(other.into()),
    }
    let layout = &inventory.site.layout;
    for generation in inventory.generations.values() {
        let snapshots = if generation.sealed() {
            generation::seals(layout, generation.id)
        } else if inventory.skeleton(generation.id).is_some() {
            // The base of the generation was pruned.
            layout.skeleton_seal(generation.id).into_iter().collect()
        } else {
            Vec::new()
        };
        for snapshot in snapshots {
            let tags = tags(session, &snapshot)?;
            facts.holds.insert(snapshot, tags);
        }
    }
    for name in inventory.jails.keys() {
        // A jail whose configuration is not valid is a finding of its own.
        let Ok(spec) = spec::observed(inventory, name) else {
            continue;
        };
        facts
            .drift
            .insert(name.clone(), session.host.config_drift(&spec)?);
    }
    directories(inventory, &mut facts);
    Ok(facts)
}

fn tags(session: &Session, snapshot: &SnapshotName) -> Result<Option<Vec<String>>, CliError> {
    match session.zfs.holds(snapshot) {
        Ok(tags) => Ok(Some(tags)),
        Err(error) if error.no_such_dataset() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn datasets(
    session: &Session,
    inventory: &Inventory,
) -> Result<BTreeMap<String, Dataset>, PortError> {
    let mut properties = vec![property::JAIL];
    properties.extend(NATIVE);
    let rows = session.zfs.read(&Query {
        roots: &[inventory.site.layout.site.to_string()],
        depth: None,
        types: &["filesystem", "volume"],
        properties: &properties,
    })?;
    let setting = |(name, found): (String, crate::ports::PropertyValue)| {
        let own = found.source != Source::Elsewhere;
        let value = found.value;
        (name, Setting { value, own })
    };
    Ok(rows
        .into_iter()
        .map(|(name, row)| (name, row.0.into_iter().map(setting).collect()))
        .collect())
}

fn snapshots(
    session: &Session,
    inventory: &Inventory,
) -> Result<BTreeMap<String, Snapshot>, PortError> {
    let rows = session.zfs.read(&Query {
        roots: &[inventory.site.layout.site.to_string()],
        depth: None,
        types: &["snapshot", "bookmark"],
        properties: &[property::SEALED, "userrefs"],
    })?;
    let replica = inventory.site.replica;
    Ok(rows
        .into_iter()
        .map(|(name, row)| {
            let sealed = row.0.get(property::SEALED).map(|found| found.source);
            let holds = row.0.get("userrefs").map(|found| found.value.parse());
            let snapshot = Snapshot {
                sealed: sealed == Some(Source::Local)
                    || replica && sealed == Some(Source::Received),
                holds: holds.and_then(Result::ok).unwrap_or(0),
            };
            (name, snapshot)
        })
        .collect())
}

/// Returns the directories `verify-PID-GENERATION` and `merge-PID-GENERATION` whose process no longer exists.
pub(in crate::cli) fn left_by_readers(run: &Path) -> Vec<(GenerationId, PathBuf)> {
    let left = |name: String| {
        let own = name.strip_prefix("verify-").or(name.strip_prefix("merge-"));
        let (pid, number) = own?.split_once('-')?;
        let pid = rustix::process::Pid::from_raw(pid.parse().ok()?)?;
        let gone = rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
        let id = GenerationId::from_component(number)?;
        gone.then(|| (id, run.join(name)))
    };
    names(run).into_iter().filter_map(left).collect()
}

/// Returns the directories `undo-PID-before` and `undo-PID-after` whose process no longer exists.
pub(in crate::cli) fn left_by_undo(run: &Path) -> Vec<PathBuf> {
    let left = |name: &String| {
        let pid = name
            .strip_prefix("undo-")
            .and_then(|rest| rest.split_once('-'));
        let pid = pid.and_then(|(pid, _)| rustix::process::Pid::from_raw(pid.parse().ok()?));
        pid.is_some_and(|pid| {
            rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
        })
    };
    let names = names(run).into_iter().filter(left);
    names.map(|name| run.join(name)).collect()
}

fn directories(inventory: &Inventory, facts: &mut Facts) {
    let site = &inventory.site;
    for track in inventory.tracks.keys() {
        let link = track_link(&site.directory, track);
        facts
            .links
            .insert(track.clone(), std::fs::read_link(link).ok());
    }
    if !site.mounted {
        return;
    }
    facts.directory = access(&site.directory);
    let bases = site.directory.join("basejail");
    for name in names(&bases.join("tracks")) {
        let path = bases.join("tracks").join(&name);
        match (TrackName::parse(&name), std::fs::read_link(&path)) {
            (Ok(track), Ok(target)) => drop(facts.links.insert(track, Some(target))),
            _ => facts.entries.extend(entry(&path)),
        }
    }
    for directory in [&site.directory, &bases, &site.directory.join("newjail")] {
        for name in names(directory) {
            // The root of a jail is not examined.
            let jail = JailName::parse(&name).ok();
            if !jail.is_some_and(|jail| inventory.jails.contains_key(&jail)) {
                facts.entries.extend(entry(&directory.join(name)));
            }
        }
    }
}

/// Returns the names in a directory, sorted; empty if it cannot be read.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn entry(path: &Path) -> Option<Entry> {
    let found = std::fs::symlink_metadata(path).ok()?;
    let kind = if !found.is_dir() {
        EntryKind::Other
    } else if names(path).is_empty() {
        EntryKind::Empty
    } else {
        EntryKind::Full
    };
    let path = path.to_owned();
    Some(Entry { path, kind })
}
