//! The generations of a site, from the rows of its bases and skeletons.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{decoded, flags, number, origin, own, text};
use crate::model::{Generation, Half, Inventory, Layout, Stranger, decode, property};
use crate::name::{DatasetName, GenerationId};
use crate::plan::track;
use crate::ports::{Row, Source};

/// Takes the seals from generations whose seal was stopped in its middle: the mark is there, and no track has been at
/// them. What has a hold was sealed, whatever is said of tracks.
pub(super) fn unseal(inventory: &mut Inventory) {
    let held = |it: &Generation| it.base.as_ref().is_some_and(|half| half.held);
    let marked = inventory.generations.values().filter(|it| it.sealing);
    let unsealed = marked.filter(|it| !held(it) && track::untried(inventory, it));
    let unsealed: Vec<GenerationId> = unsealed.map(|it| it.id).collect();
    for id in unsealed {
        if let Some(generation) = inventory.generations.get_mut(&id) {
            let halves = [&mut generation.base, &mut generation.skeleton];
            halves
                .into_iter()
                .flatten()
                .for_each(|half| half.seal = None);
        }
    }
}

pub(super) fn generations(
    layout: &Layout,
    replica: bool,
    bases: &BTreeMap<String, Row>,
    rest: &BTreeMap<String, Row>,
    strangers: &mut Vec<Stranger>,
) -> BTreeMap<GenerationId, Generation> {
    let mut found: BTreeMap<GenerationId, Generation> = BTreeMap::new();
    let mut note = |name: &str, why: &str| {
        strangers.push(Stranger {
            dataset: name.to_owned(),
            why: why.to_owned(),
        });
    };
    for (parent, rows) in [(&layout.basejail, bases), (&layout.newjail, rest)] {
        for (name, row) in rows {
            let Some(below) = name.strip_prefix(&format!("{parent}/")) else {
                continue;
            };
            let (component, snapshot) = match below.split_once('@') {
                Some((component, snapshot)) => (component, Some(snapshot)),
                None => (below, None),
            };
            let Some(id) = GenerationId::from_component(component) else {
                note(name, "it is not a generation's number");
                continue;
            };
            if text(row, "type") == "volume" {
                note(name, "it is a volume");
                continue;
            }
            if let Some(snapshot) = snapshot {
                let number = GenerationId::from_component(snapshot);
                if number.is_none() || *parent == layout.newjail && number != Some(id) {
                    note(name, "a snapshot that ezz did not create");
                }
                continue;
            }
            let Ok(dataset) = DatasetName::parse(name) else {
                continue;
            };
            let sealed_row = rows.get(&format!("{name}@{component}"));
            let seal = sealed_row.and_then(|row| {
                let value = row.0.get(property::SEALED)?;
                let counts = match value.source {
                    Source::Local => true,
                    Source::Received => replica,
                    Source::Elsewhere => false,
                };
                counts.then(|| decode(name, property::SEALED, &value.value).ok())?
            });
            let own_snapshots = format!("{name}@");
            let moved = rows
                .range(own_snapshots.clone()..)
                .map_while(|(name, row)| {
                    let snapshot = name.strip_prefix(&own_snapshots)?;
                    Some((GenerationId::from_component(snapshot), row))
                });
            let half = Half {
                pruned: own(row, property::PRUNED).is_some(),
                moved: moved
                    .filter_map(|(found, row)| Some((found.filter(|found| *found != id)?, row)))
                    .map(|(found, row)| (found, number(row, "guid")))
                    .collect(),
                dataset,
                guid: number(row, "guid"),
                mounted: text(row, "mounted") == "yes",
                flags: flags(row),
                mountpoint: PathBuf::from(text(row, "mountpoint")),
                referenced: number(row, "referenced"),
                used: number(row, "used"),
                origin: origin(row),
                snapshot: sealed_row.map(|row| number(row, "guid")),
                seal,
                written: number(row, "written"),
                held: sealed_row.is_some_and(|row| number(row, "userrefs") > 0),
            };
            let generation = found.entry(id).or_insert_with(|| Generation {
                id,
                world: None,
                populated: None,
                rejected: None,
                served: None,
                sealing: false,
                base: None,
                skeleton: None,
            });
            if *parent == layout.basejail {
                generation.world = decoded(name, row, property::WORLD);
                generation.populated = decoded(name, row, property::POPULATED);
                generation.rejected = decoded(name, row, property::REJECTED);
                generation.served = decoded(name, row, property::SERVED);
                generation.sealing = own(row, property::SEALING).is_some();
                generation.base = Some(half);
            } else {
                generation.skeleton = Some(half);
            }
        }
    }
    found
}
