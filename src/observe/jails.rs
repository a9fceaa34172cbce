//! Reads the jails of a site from their rows. A value that is not valid is kept as an error in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{decoded, flags, number, origin, own, text};
use crate::model::{Jail, JailConfig, Layout, ModelError, Site, Stranger, decode, property};
use crate::name::{DatasetName, JailName};
use crate::ports::{Row, Source};

pub(super) fn jails(
    layout: &Layout,
    site: &Site,
    rows: &BTreeMap<String, Row>,
    strangers: &mut Vec<Stranger>,
) -> BTreeMap<JailName, Jail> {
    let mut found = BTreeMap::new();
    let prefix = format!("{}/", layout.jails);
    for (name, row) in rows {
        let Some(below) = name.strip_prefix(&prefix) else {
            continue;
        };
        let mut note = |why: &str| {
            strangers.push(Stranger {
                dataset: name.clone(),
                why: why.to_owned(),
            });
        };
        if below.contains('/') {
            if own(row, property::JAIL).is_some() {
                note(
                    "it has an ezz:jail, but it is not directly below SITE/jails, so it is not a jail",
                );
            }
            continue;
        }
        let (Ok(dataset), Ok(jail)) = (DatasetName::parse(name), JailName::parse(below)) else {
            note("its name is not a valid name of a jail");
            continue;
        };
        if text(row, property::DELEGATED) == "on" {
            note("it is delegated to a jail, so its properties cannot be trusted");
            continue;
        }
        let config = config(name, row, site.replica);
        found.insert(jail.clone(), jail_of(jail, dataset, row, config));
    }
    found
}

/// Returns the direct children of the jails' dataset that have no `ezz:jail` of their own.
pub(super) fn unmarked(layout: &Layout, rows: &BTreeMap<String, Row>) -> BTreeSet<JailName> {
    let prefix = format!("{}/", layout.jails);
    let name = |(name, row): (&String, &Row)| {
        let below = name.strip_prefix(&prefix)?;
        own(row, property::JAIL).is_none().then_some(())?;
        JailName::parse(below).ok()
    };
    rows.iter().filter_map(name).collect()
}

pub(super) fn jail_of(
    name: JailName,
    dataset: DatasetName,
    row: &Row,
    config: Result<JailConfig, String>,
) -> Jail {
    Jail {
        merging: decoded(dataset.as_str(), row, property::MERGING),
        name,
        dataset,
        guid: number(row, "guid"),
        config,
        origin: origin(row),
        mountpoint: PathBuf::from(text(row, "mountpoint")),
        mounted: text(row, "mounted") == "yes",
        flags: flags(row),
        used: number(row, "used"),
        referenced: number(row, "referenced"),
        quota: number(row, "quota"),
    }
}

fn config(name: &str, row: &Row, replica: bool) -> Result<JailConfig, String> {
    if text(row, "type") == "volume" {
        return Err("it is a volume".to_owned());
    }
    let found = row
        .0
        .get(property::JAIL)
        .filter(|found| found.source != Source::Elsewhere);
    match found {
        None => Err("it has no ezz:jail of its own".to_owned()),
        Some(found) if found.source == Source::Received && !replica => {
            Err("its ezz:jail came with a zfs receive".to_owned())
        }
        Some(found) => decode(name, property::JAIL, &found.value).map_err(|error: ModelError| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", why.unwrap_or_default())
        }),
    }
}
