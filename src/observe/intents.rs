//! The intents of a site, and the datasets that they name. This module recognises debris by its name, its origin and
//! its mark; the plans decide what happens to it.

use std::collections::{BTreeMap, BTreeSet};

use super::jails::jail_of;
use super::{GENERATION_PROPERTIES, JAIL_PROPERTIES, ObserveError, number, text};
use crate::model::{Debris, Intent, Layout, LeftSnapshot, Stranger, decode, property};
use crate::name::JailName;
use crate::plan::intent;
use crate::ports::{Query, Row, Source};

/// Returns the intents of a site: each property with its text and its meaning. An intent whose mark does not exist is a
/// remainder, and has no meaning.
pub(super) fn intents(
    layout: &Layout,
    replica: bool,
    row: &Row,
    strangers: &mut Vec<Stranger>,
) -> BTreeMap<String, (String, Option<Intent>)> {
    let mut found = BTreeMap::new();
    for (name, value) in &row.0 {
        let counts = match value.source {
            Source::Local => true,
            Source::Received => replica,
            Source::Elsewhere => false,
        };
        if !counts || !name.starts_with(property::INTENT) {
            continue;
        }
        match decode(layout.jails.as_str(), name, &value.value) {
            Ok(meaning) => {
                let marked = row.0.contains_key(&intent::mark(name));
                let meaning = Some(meaning).filter(|_| marked);
                found.insert(name.clone(), (value.value.clone(), meaning));
            }
            Err(error) => strangers.push(Stranger {
                dataset: layout.jails.to_string(),
                why: format!("{error}; ezz leaves the objects that it names alone"),
            }),
        }
    }
    found
}

/// Returns the jails that were being deleted.
pub(super) fn deleting(intents: &BTreeMap<String, (String, Option<Intent>)>) -> BTreeSet<JailName> {
    let meant = intents.values().filter_map(|(_, intent)| intent.as_ref());
    let deleting = meant.filter(|intent| !intent.guids.is_empty());
    deleting.flat_map(|intent| intent.jails.clone()).collect()
}

/// What identifies a dataset as the one that an intent means.
enum Mark {
    Origin(String),
    Guid(u64),
}

/// Returns the datasets that intents name, if they have the origin of the intent, or the guid of the jail that was
/// being deleted, and are not delegated. Any other dataset with such a name is not debris.
pub(super) fn debris(
    layout: &Layout,
    intents: &BTreeMap<String, (String, Option<Intent>)>,
    read: impl Fn(&Query<'_>) -> Result<BTreeMap<String, Row>, ObserveError>,
) -> Result<BTreeMap<JailName, Debris>, ObserveError> {
    let mut wanted = BTreeMap::new();
    for (property, (_, intent)) in intents {
        let Some(intent) = intent else {
            continue;
        };
        let origin = intent::origin(layout, property, intent)?.to_string();
        for (index, name) in intent.jails.iter().enumerate() {
            let dataset = layout.jail(name)?;
            let mark = match intent.guids.get(index) {
                Some(guid) => Mark::Guid(*guid),
                None => Mark::Origin(origin.clone()),
            };
            wanted.insert(dataset, (name.clone(), mark, property.clone()));
        }
    }
    let mut found = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let roots: Vec<String> = wanted.keys().map(ToString::to_string).collect();
    let rows = read(&Query {
        roots: &roots,
        depth: None,
        types: &["filesystem", "volume", "snapshot"],
        properties: &[&GENERATION_PROPERTIES[..], &JAIL_PROPERTIES].concat(),
    })?;
    for (dataset, (name, mark, intent)) in wanted {
        let Some(row) = rows.get(dataset.as_str()) else {
            continue;
        };
        let meant = match &mark {
            Mark::Origin(origin) => text(row, "origin") == origin,
            Mark::Guid(guid) => number(row, "guid") == *guid,
        };
        if !meant || text(row, property::DELEGATED) == "on" {
            continue;
        }
        // The rows of a jail follow each other, except that names such as a-b, which is not below a, can be among them.
        let below = rows
            .range(dataset.to_string()..)
            .take_while(|(row, _)| row.starts_with(dataset.as_str()))
            .filter(|(row, _)| row[dataset.as_str().len()..].starts_with(['/', '@']))
            .map(|(row, _)| row.clone())
            .collect();
        let deleted = matches!(mark, Mark::Guid(_));
        let what = if deleted { "deletion" } else { "creation" };
        let config = Err(format!("its {what} was interrupted"));
        let jail = jail_of(name.clone(), dataset, row, config);
        let debris = Debris {
            jail,
            intent,
            deleted,
            below,
        };
        found.insert(name, debris);
    }
    Ok(found)
}

/// The results of a second look at datasets without `ezz:jail`.
pub(super) struct Unfinished {
    /// The intents that the first look did not find.
    pub intents: BTreeMap<String, (String, Option<Intent>)>,
    /// The datasets that intents name now.
    pub debris: BTreeMap<JailName, Debris>,
    /// The present rows of the other datasets. A dataset that no longer exists has no row.
    pub rows: BTreeMap<String, Row>,
}

/// Looks again at datasets that had no `ezz:jail` and that no intent named. Where channel programs cannot clone, a
/// create for which the reader holds no locks may have written its intent after the reader had read the intents, and
/// made its clones before the reader read the jails. Its commit sets `ezz:jail` and removes the intent at once. So a
/// dataset that no intent names now, and that has no `ezz:jail` afterwards, is not ezz's.
pub(super) fn unfinished(
    layout: &Layout,
    replica: bool,
    known: &BTreeMap<String, (String, Option<Intent>)>,
    unmarked: &BTreeSet<JailName>,
    read: impl Fn(&Query<'_>) -> Result<BTreeMap<String, Row>, ObserveError>,
) -> Result<Unfinished, ObserveError> {
    let top = read(&Query {
        roots: &[layout.jails.to_string()],
        depth: Some(0),
        types: &["filesystem"],
        properties: &["all"],
    })?;
    let row = top.get(layout.jails.as_str()).cloned().unwrap_or_default();
    let mut intents = intents(layout, replica, &row, &mut Vec::new());
    // Also the datasets of intents that were known: more of their clones may exist by now.
    let debris = debris(layout, &intents, &read)?;
    intents.retain(|property, _| !known.contains_key(property));
    let roots: Result<Vec<String>, _> = unmarked
        .iter()
        .map(|name| layout.jail(name).map(|dataset| dataset.to_string()))
        .collect();
    let rows = read(&Query {
        roots: &roots?,
        depth: Some(0),
        types: &["filesystem", "volume"],
        properties: &[&GENERATION_PROPERTIES[..], &JAIL_PROPERTIES].concat(),
    })?;
    Ok(Unfinished {
        intents,
        debris,
        rows,
    })
}

/// Returns the snapshots of jails that intents record, and that are not yet destroyed with their last clone.
pub(super) fn left(
    layout: &Layout,
    intents: &BTreeMap<String, (String, Option<Intent>)>,
    read: impl Fn(&Query<'_>) -> Result<BTreeMap<String, Row>, ObserveError>,
) -> Result<Vec<LeftSnapshot>, ObserveError> {
    let mut wanted = BTreeMap::new();
    for (property, (_, found)) in intents {
        if let Some(found) = found.as_ref().filter(|found| found.source.is_some()) {
            let origin = intent::origin(layout, property, found)?;
            wanted.insert(origin.to_string(), intent::mark(property));
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let roots: Vec<String> = wanted.keys().cloned().collect();
    let rows = read(&Query {
        roots: &roots,
        depth: Some(0),
        types: &["snapshot"],
        properties: &["guid", "defer_destroy"],
    })?;
    let left = wanted.into_iter().filter_map(|(name, mark)| {
        let row = rows.get(&name)?;
        let guid = number(row, "guid");
        (text(row, "defer_destroy") != "on").then_some(LeftSnapshot { name, guid, mark })
    });
    Ok(left.collect())
}
