//! Observation: the state of a site on the pool, read once before a plan is made.
//!
//! An observation has a scope: the site, its generations, and the jails that a command names. It reads all jails only
//! if the command needs them. It never reads the rows of skeleton snapshots, which take seconds if there are thousands
//! of clones. This module must not change or decide anything. A value that is not valid is kept as an error in its
//! place, so that one broken jail does not hide the others.

mod directories;
mod generations;
mod intents;
mod jails;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use thiserror::Error;

pub use directories::{directories, flavours};

use crate::hint::Hint;
use crate::model::Os;
use crate::model::{
    Flags, Inventory, Layout, ModelError, Site, SwapLog, Track, UnderWay, decode, property,
};
use crate::name::{DatasetName, GenerationId, JailName, NameError, TrackName};
use crate::plan::intent;
use crate::ports::{MOUNT_FLAGS, PortError, Query, Row, Source, Zfs};

/// The properties that [`Found`] is made from. Their order matters: if a value forges a row, the rest of the real row
/// does not fit.
const HEAD: [&str; 4] = [
    property::FORMAT,
    property::ID,
    "mountpoint",
    property::DELEGATED,
];

const GENERATION_PROPERTIES: [&str; 16] = [
    property::PRUNED,
    property::SEALING,
    property::POPULATED,
    property::WORLD,
    property::REJECTED,
    property::SERVED,
    property::SEALED,
    "guid",
    "mounted",
    "mountpoint",
    "referenced",
    "used",
    "written",
    "userrefs",
    "type",
    "origin",
];

/// The properties of a jail that are read besides those.
const JAIL_PROPERTIES: [&str; 4] = [
    property::JAIL,
    property::MERGING,
    "quota",
    property::DELEGATED,
];

/// The error for a site that cannot be read.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// The properties could not be read from the pool.
    #[error("cannot read {site}")]
    Zfs {
        /// The name of the site.
        site: String,
        /// The error of the port.
        source: PortError,
    },
    /// The dataset does not exist.
    #[error("there is no dataset {0}")]
    NoDataset(DatasetName),
    /// The dataset has no `ezz:format`.
    #[error("{0} is not a site of ezz: it has no local ezz:format")]
    NotASite(DatasetName),
    /// The `ezz:id` does not have the form that ezz writes.
    #[error("the ezz:id of {site} is {id:?}, which is not a UUID")]
    BadId {
        /// The name of the site.
        site: DatasetName,
        /// The beginning of its `ezz:id`.
        id: String,
    },
    /// No imported pool has a site.
    #[error("no pool of this host has a site of ezz")]
    NoSite,
    /// More than one site exists, and none was named.
    #[error("this host has several sites: {}", .0.join(", "))]
    SeveralSites(Vec<String>),
    /// A property of the site does not parse.
    #[error("the properties of {site} cannot be understood")]
    Model {
        /// The name of the site.
        site: DatasetName,
        /// The property, and the reason.
        source: ModelError,
    },
    /// A name is not valid, or too long.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Hint for ObserveError {
    fn hint(&self) -> Option<String> {
        match self {
            ObserveError::NoDataset(_) | ObserveError::NotASite(_) | ObserveError::NoSite => Some(
                "`ezz init POOL/NAME` creates a site, --site names one; is its pool imported?"
                    .to_owned(),
            ),
            ObserveError::SeveralSites(_) => {
                Some("name one with --site, EZZ_SITE or in the configuration".to_owned())
            }
            ObserveError::BadId { site, .. } => {
                let new = match Os::THIS {
                    Os::Linux => "cat /proc/sys/kernel/random/uuid",
                    Os::FreeBsd => "uuidgen",
                };
                Some(format!(
                    "restore the old one; if none of its jails is running, set a new one: `zfs set ezz:id=$({new}) {site}`"
                ))
            }
            ObserveError::Model { .. } => {
                Some("`zfs get all` shows it; was it edited by hand?".to_owned())
            }
            ObserveError::Zfs { source, .. } => source.hint(),
            ObserveError::Name(inner) => inner.hint(),
        }
    }
}

/// What a command has to know about a site before it locks and observes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The dataset of the site.
    pub site: DatasetName,
    /// The `ezz:id`, which is part of the names of the host's files for the site.
    pub id: String,
    /// The path where the site is mounted.
    pub directory: PathBuf,
}

/// Finds the only site of this host. Replicas count only if there is no other site. A dataset that is delegated to a
/// jail never counts, because the jail's root can set any property on it.
///
/// # Errors
/// [`ObserveError::NoSite`], [`ObserveError::SeveralSites`], [`ObserveError::Zfs`];
/// [`ObserveError::NotASite`] if it has no `ezz:id`.
pub fn only_site(zfs: &dyn Zfs) -> Result<Found, ObserveError> {
    let rows = zfs
        .read(&Query {
            roots: &[],
            depth: None,
            types: &["filesystem"],
            properties: &HEAD,
        })
        .map_err(|source| ObserveError::Zfs {
            site: "the pools".to_owned(),
            source,
        })?;
    let with = |source: Source| -> Vec<String> {
        let has = |row: &Row| {
            row.0
                .get(property::FORMAT)
                .is_some_and(|found| found.source == source)
                && text(row, property::DELEGATED) != "on"
        };
        rows.iter()
            .filter(|(_, row)| has(row))
            .map(|(name, _)| name.clone())
            .collect()
    };
    let mut sites = with(Source::Local);
    if sites.is_empty() {
        sites = with(Source::Received);
    }
    match (sites.pop(), sites.is_empty()) {
        (None, _) => Err(ObserveError::NoSite),
        (Some(only), true) => found(DatasetName::parse(&only)?, &rows[&only]),
        (Some(last), false) => {
            sites.push(last);
            Err(ObserveError::SeveralSites(sites))
        }
    }
}

/// Finds the site with this name.
///
/// # Errors
/// [`ObserveError::NoDataset`], [`ObserveError::NotASite`], [`ObserveError::Zfs`].
pub fn named_site(zfs: &dyn Zfs, name: &DatasetName) -> Result<Found, ObserveError> {
    let rows = zfs
        .read(&Query {
            roots: &[name.to_string()],
            depth: Some(0),
            types: &["filesystem"],
            properties: &HEAD,
        })
        .map_err(|source| ObserveError::Zfs {
            site: name.to_string(),
            source,
        })?;
    let row = rows
        .get(name.as_str())
        .ok_or_else(|| ObserveError::NoDataset(name.clone()))?;
    found(name.clone(), row)
}

fn found(site: DatasetName, row: &Row) -> Result<Found, ObserveError> {
    let (Some(_), Some(id)) = (own(row, property::FORMAT), own(row, property::ID)) else {
        return Err(ObserveError::NotASite(site));
    };
    proper_id(&site, id)?;
    Ok(Found {
        id: id.to_owned(),
        directory: PathBuf::from(text(row, "mountpoint")),
        site,
    })
}

/// Checks that an id is a UUID, because locks, run directories and logs of the host have it in their names.
///
/// # Errors
/// [`ObserveError::BadId`].
pub fn proper_id(site: &DatasetName, id: &str) -> Result<(), ObserveError> {
    let parsed = uuid::Uuid::try_parse(id);
    // Only one form is accepted: two ids with the same meaning would be two locks.
    match parsed.is_ok_and(|parsed| parsed.hyphenated().to_string() == id) {
        true => Ok(()),
        false => Err(ObserveError::BadId {
            site: site.clone(),
            id: id.chars().take(60).collect(),
        }),
    }
}

/// All properties of a site's own three datasets. If they were read before the site was locked, they may be old; the
/// epoch in them is then old too, and no program commits on it.
#[derive(Debug)]
pub struct Top(BTreeMap<String, Row>);

/// Reads these properties. With `looks` it reads them for a command that will commit, see [`Zfs::look`].
///
/// # Errors
/// [`ObserveError::Zfs`], [`ObserveError::Name`].
pub fn top(zfs: &dyn Zfs, site: &DatasetName, looks: bool) -> Result<Top, ObserveError> {
    let layout = Layout::new(site.clone())?;
    let query = Query {
        roots: &[
            layout.site.to_string(),
            layout.basejail.to_string(),
            layout.jails.to_string(),
        ],
        depth: Some(0),
        types: &["filesystem"],
        properties: &["all"],
    };
    rows(zfs, site, looks, &query).map(Top)
}

/// Reads properties; with `looks` for a command that will commit.
fn rows(
    zfs: &dyn Zfs,
    site: &DatasetName,
    looks: bool,
    query: &Query<'_>,
) -> Result<BTreeMap<String, Row>, ObserveError> {
    let rows = match looks {
        true => zfs.look(query),
        false => zfs.read(query),
    };
    rows.map_err(|source| ObserveError::Zfs {
        site: site.to_string(),
        source,
    })
}

impl Top {
    /// Returns the site.
    ///
    /// # Errors
    /// Returns the errors of [`named_site`].
    pub fn found(&self, site: &DatasetName) -> Result<Found, ObserveError> {
        let row = self.0.get(site.as_str());
        found(
            site.clone(),
            row.ok_or_else(|| ObserveError::NoDataset(site.clone()))?,
        )
    }
}

/// What an observation reads of a site.
#[derive(Debug, Default)]
pub struct Reading<'a> {
    /// The names of the jails to read; none means all.
    pub jails: Option<&'a BTreeSet<JailName>>,
    /// Whether to read only the generations that tracks point to, which takes one process less.
    pub current: bool,
    /// Whether it is for a command that commits, see [`Zfs::look`].
    pub looks: bool,
    /// The site's own properties, if they have been read already.
    pub top: Option<Top>,
}

/// Reads a site with its tracks, its generations, and the named jails or all jails.
///
/// # Errors
/// Returns [`ObserveError`] if the site cannot be read.
pub fn inventory(
    zfs: &dyn Zfs,
    site: &DatasetName,
    reading: Reading<'_>,
) -> Result<Inventory, ObserveError> {
    let scope = reading.jails;
    let layout = Layout::new(site.clone())?;
    let read = |query: &Query<'_>| rows(zfs, site, reading.looks, query);
    let Top(top) = match reading.top {
        Some(top) => top,
        None => self::top(zfs, site, reading.looks)?,
    };
    let row = top
        .get(site.as_str())
        .ok_or_else(|| ObserveError::NoDataset(site.clone()))?;
    let found = site_of(&layout, row)?;
    let empty = Row::default();
    let row = top.get(layout.basejail.as_str()).unwrap_or(&empty);
    let tracks = tracks(&layout, row)?;
    let swaps = swaps(&layout, row);
    let rollouts = rollouts(&layout, row);
    let accounts = accounts(row);

    let mut strangers = Vec::new();
    let row = top.get(layout.jails.as_str()).unwrap_or(&empty);
    let mut intents = intents::intents(&layout, found.replica, row, &mut strangers);
    let mut debris = intents::debris(&layout, &intents, read)?;
    let mut left = intents::left(&layout, &intents, read)?;
    if !debris.is_empty() || !left.is_empty() {
        // The observation may not have the site lock. A batch that was committed since the first read is not debris.
        let again = read(&Query {
            roots: &[layout.jails.to_string()],
            depth: Some(0),
            types: &["filesystem"],
            properties: &["all"],
        })?;
        let row = again.get(layout.jails.as_str()).unwrap_or(&empty);
        intents.retain(|name, _| row.0.contains_key(name));
        debris.retain(|_, debris| row.0.contains_key(&intent::mark(&debris.intent)));
        left.retain(|left| row.0.contains_key(&left.mark));
    }

    let of_all = [&GENERATION_PROPERTIES[..], &JAIL_PROPERTIES].concat();
    let mut named = Vec::new();
    for name in scope.into_iter().flatten() {
        named.push(layout.jail(name)?.to_string());
    }
    let (bases, mut rest) = if reading.current && scope.is_some() {
        let mut roots = named;
        for id in tracks.values().filter_map(|track| track.current) {
            let base = layout.base(id)?;
            roots.extend([base.to_string(), layout.base_seal(id)?.to_string()]);
            roots.push(layout.skeleton(id)?.to_string());
        }
        let rows = read(&Query {
            roots: &roots,
            depth: Some(0),
            types: &["filesystem", "volume", "snapshot"],
            properties: &of_all,
        })?;
        let below = format!("{}/", layout.basejail);
        let of_bases = |(name, _): &(String, Row)| name.starts_with(&below);
        rows.into_iter().partition(of_bases)
    } else {
        let bases = read(&Query {
            roots: &[layout.basejail.to_string()],
            depth: Some(2),
            types: &["filesystem", "snapshot"],
            properties: &GENERATION_PROPERTIES,
        })?;
        // Datasets below a jail may be delegated to it, and are not read: the value of a property can look like rows of
        // other datasets. A jail must not be able to use that to keep itself from being stopped.
        let (depth, roots) = if scope.is_none() {
            let both = vec![layout.newjail.to_string(), layout.jails.to_string()];
            (1, both)
        } else {
            let bases = bases.keys().filter_map(|name| {
                let below = name.strip_prefix(layout.basejail.as_str())?;
                let number = below.strip_prefix('/')?;
                GenerationId::from_component(number).map(|_| format!("{}/{number}", layout.newjail))
            });
            (0, bases.chain(named).collect())
        };
        let rest = read(&Query {
            roots: &roots,
            depth: Some(depth),
            // A volume with a jail's name is in the way of that jail, and `zfs get` fails for a volume if the types
            // leave it out.
            types: &["filesystem", "volume"],
            properties: &of_all,
        })?;
        (bases, rest)
    };
    let unmarked = jails::unmarked(&layout, &rest);
    if unmarked.iter().any(|name| !debris.contains_key(name)) {
        let young = intents::unfinished(&layout, found.replica, &intents, &unmarked, read)?;
        for name in &unmarked {
            rest.remove(layout.jail(name)?.as_str());
        }
        rest.extend(young.rows);
        intents.extend(young.intents);
        debris.extend(young.debris);
    }
    let generations =
        generations::generations(&layout, found.replica, &bases, &rest, &mut strangers);
    let mut jails = jails::jails(&layout, &found, &rest, &mut strangers);
    jails.retain(|name, _| !debris.contains_key(name));
    let mut inventory = Inventory {
        site: found,
        tracks,
        swaps,
        accounts,
        rollouts,
        generations,
        deleting: intents::deleting(&intents),
        intents: intents
            .into_iter()
            .map(|(name, (text, _))| (name, text))
            .collect(),
        debris,
        left,
        jails,
        scope: scope.cloned(),
        strangers,
    };
    generations::unseal(&mut inventory);
    Ok(inventory)
}

/// Returns the names of all jails, including those whose files are not complete yet. It leaves out the datasets that
/// the intent of a create or delete names, if the command was interrupted or is still at work. It reads only one
/// property of each jail.
///
/// # Errors
/// Returns [`ObserveError`] if the site cannot be read.
pub fn names(zfs: &dyn Zfs, site: &DatasetName) -> Result<Vec<JailName>, ObserveError> {
    let layout = Layout::new(site.clone())?;
    let read = |depth, properties| {
        let rows = zfs.read(&Query {
            roots: &[layout.jails.to_string()],
            depth: Some(depth),
            types: &["filesystem"],
            properties,
        });
        rows.map_err(|source| ObserveError::Zfs {
            site: site.to_string(),
            source,
        })
    };
    let rows = read(1, &[property::JAIL])?;
    // The intents are read after the jails: what is committed in between is a jail.
    let top = read(0, &["all"])?;
    let row = top.get(layout.jails.as_str()).cloned().unwrap_or_default();
    let intents = intents::intents(&layout, false, &row, &mut Vec::new());
    let meant = intents.into_values().filter_map(|(_, intent)| intent);
    let no_jails: BTreeSet<JailName> = meant.flat_map(|intent| intent.jails).collect();
    let prefix = format!("{}/", layout.jails);
    let jails = rows.iter().filter_map(|(name, row)| {
        own(row, property::JAIL)?;
        let name = JailName::parse(name.strip_prefix(&prefix)?).ok()?;
        (!no_jails.contains(&name)).then_some(name)
    });
    Ok(jails.collect())
}

/// Returns a property that was set on this dataset itself, or received with it.
fn own<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.0
        .get(name)
        .filter(|found| found.source != Source::Elsewhere)
        .map(|found| found.value.as_str())
}

/// Returns the flags of the dataset's mount, if they were read.
fn flags(row: &Row) -> Option<Flags> {
    let found = row.0.get(MOUNT_FLAGS)?;
    Some(Flags::parse(&found.value))
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.0.get(name).map_or("", |found| found.value.as_str())
}

fn number(row: &Row, name: &str) -> u64 {
    text(row, name).parse().unwrap_or(0)
}

fn site_of(layout: &Layout, row: &Row) -> Result<Site, ObserveError> {
    let site = &layout.site;
    let model = |source| ObserveError::Model {
        site: site.clone(),
        source,
    };
    let required = |name: &str| -> Result<&str, ObserveError> {
        own(row, name).ok_or_else(|| ObserveError::NotASite(site.clone()))
    };
    fn parsed<T: std::str::FromStr>(
        site: &DatasetName,
        property: &str,
        value: &str,
    ) -> Result<T, ModelError> {
        value.parse().map_err(|_| ModelError::Number {
            dataset: site.to_string(),
            property: property.to_owned(),
            value: value.to_owned(),
        })
    }
    let format = required(property::FORMAT)?;
    let received = row
        .0
        .get(property::FORMAT)
        .is_some_and(|found| found.source == Source::Received);
    let id = required(property::ID)?;
    proper_id(site, id)?;
    Ok(Site {
        layout: layout.clone(),
        id: id.to_owned(),
        format: parsed(site, property::FORMAT, format).map_err(model)?,
        seq: parsed(site, property::SEQ, required(property::SEQ)?).map_err(model)?,
        epoch: parsed(site, property::EPOCH, required(property::EPOCH)?).map_err(model)?,
        replica: received,
        directory: PathBuf::from(text(row, "mountpoint")),
        mounted: text(row, "mounted") == "yes",
        available: number(row, "available"),
        read_only: text(row, "readonly") == "on",
    })
}

fn tracks(layout: &Layout, row: &Row) -> Result<BTreeMap<TrackName, Track>, ObserveError> {
    let mut tracks = BTreeMap::new();
    for name in row.0.keys() {
        let Some(track) = name.strip_prefix(property::TRACK) else {
            continue;
        };
        let Some(value) = own(row, name) else {
            continue;
        };
        let parsed = decode(layout.basejail.as_str(), name, value).map_err(|source| {
            ObserveError::Model {
                site: layout.site.clone(),
                source,
            }
        })?;
        tracks.insert(TrackName::parse(track)?, parsed);
    }
    Ok(tracks)
}

/// Returns the logs of swaps. One that does not parse is empty, and has no other effect.
fn swaps(layout: &Layout, row: &Row) -> BTreeMap<TrackName, SwapLog> {
    let log = |name: &String| {
        let track = TrackName::parse(name.strip_prefix(property::SWAPS)?).ok()?;
        let text = own(row, name)?.to_owned();
        let swaps = decode(layout.basejail.as_str(), name, &text).unwrap_or_default();
        Some((track, SwapLog { text, swaps }))
    };
    row.0.keys().filter_map(log).collect()
}

/// What is kept of the ledgers of pruned generations, as it is.
fn accounts(row: &Row) -> BTreeMap<String, String> {
    let names = row.0.keys();
    let names = names.filter(|name| name.starts_with(property::ACCOUNTS));
    let kept = |name: &String| Some((name.clone(), own(row, name)?.to_owned()));
    names.filter_map(kept).collect()
}

/// A property of its own that holds JSON, if it parses.
fn decoded<T: for<'a> serde::Deserialize<'a>>(name: &str, row: &Row, property: &str) -> Option<T> {
    own(row, property).and_then(|value| decode(name, property, value).ok())
}

/// Returns the roll-outs that are under way. One that does not parse counts too, so that nothing is swapped while it
/// exists.
fn rollouts(layout: &Layout, row: &Row) -> BTreeMap<TrackName, UnderWay> {
    let one = |name: &String| {
        let track = TrackName::parse(name.strip_prefix(property::ROLLOUT)?).ok()?;
        let text = own(row, name)?.to_owned();
        let rollout = decode(layout.basejail.as_str(), name, &text).map_err(|e| e.to_string());
        Some((track, UnderWay { text, rollout }))
    };
    row.0.keys().filter_map(one).collect()
}

/// Returns the snapshot that a dataset is a clone of; none if it is not a clone.
fn origin(row: &Row) -> Option<String> {
    Some(text(row, "origin").to_owned()).filter(|origin| !origin.is_empty() && origin != "-")
}
