//! The intent of a `create`: which clones are being made and are no jails yet; and how the clones
//! are cleared away that never became jails.
//!
//! One program sets the intent, makes the jails and removes it; where programs cannot clone it is two,
//! see `fallback.rs`. A clone that an intent names is debris, also with an `ezz:jail`: a signal can stop a program in its
//! middle, and what it had set stays (zcp.c, `zcp_eval_sig`). So the first part of an intent is
//! the mark: while it is there nothing of the batch counts, once it is gone everything does. Who
//! plans this holds the site lock, as its maker did from intent to commit, so the intent is dead;
//! and if that lock did not work, the epoch that the clearing raises makes the maker's commit stale.
//! Only what was observed as debris is destroyed, never what merely has a name that an intent has;
//! and whatever plan brings a dataset to a jail's name clears dead intents first.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Intent, Inventory, Jail, JailConfig, Kind, Layout, MAX_VALUE, encode, property,
};
use crate::name::{GenerationId, JailName, NameError, SnapshotName};
use crate::plan::{Commit, Doomed, Epoch, Expect, Plan, PlanError, Set, Step, destroy};
use crate::text::first_few;

/// What an intent's JSON has beside its names, generously.
const FRAME: usize = 100;

/// The intents of a batch. The batch is named by the epoch that its first program finds: no other
/// can ever find the same.
pub(super) fn intents(
    layout: &Layout,
    batch: u64,
    jails: &[(JailName, JailConfig)],
    source: Option<&JailName>,
) -> Result<BTreeMap<String, String>, PlanError> {
    let mut origins: BTreeMap<(Kind, GenerationId), Vec<&JailName>> = BTreeMap::new();
    for (name, config) in jails {
        let names = origins.entry((config.kind, config.skel)).or_default();
        names.push(name);
    }
    let mut intents = BTreeMap::new();
    for ((kind, skel), names) in origins {
        let mut part = Intent {
            kind,
            skel,
            source: source.cloned(),
            jails: Vec::new(),
            guids: Vec::new(),
            other: serde_json::Map::new(),
        };
        let mut length = FRAME;
        let mut parts = Vec::new();
        for name in names {
            // Two quotes and a comma.
            let more = name.as_str().len() + 3;
            if length + more > MAX_VALUE {
                let next = Intent {
                    jails: Vec::new(),
                    ..part.clone()
                };
                parts.push(std::mem::replace(&mut part, next));
                length = FRAME;
            }
            length += more;
            part.jails.push(name.clone());
        }
        parts.push(part);
        for part in parts {
            let property = format!("{}{batch}:{}", property::INTENT, intents.len());
            let text = encode(&layout.jails, &property, &part)?;
            intents.insert(property, text);
        }
    }
    Ok(intents)
}

/// The intents of a deletion, named by the epoch that its program finds.
///
/// # Errors
/// [`PlanError::Model`].
pub(super) fn deleting(
    layout: &Layout,
    batch: u64,
    jails: &[&Jail],
) -> Result<BTreeMap<String, String>, PlanError> {
    // A name, a guid of twenty digits, quotes and commas: so many fit in any case.
    const IN_ONE: usize = (MAX_VALUE - FRAME) / (63 + 25);
    let mut intents = BTreeMap::new();
    for part in jails.chunks(IN_ONE) {
        let intent = Intent {
            kind: Kind::Thin,
            skel: GenerationId(0),
            source: None,
            jails: part.iter().map(|jail| jail.name.clone()).collect(),
            guids: part.iter().map(|jail| jail.guid).collect(),
            other: serde_json::Map::new(),
        };
        let property = format!("{}{batch}:{}", property::INTENT, intents.len());
        let text = encode(&layout.jails, &property, &intent)?;
        intents.insert(property, text);
    }
    Ok(intents)
}

/// The first part of the batch that an intent belongs to.
pub fn mark(property: &str) -> String {
    let batch = property
        .rsplit_once(':')
        .map_or(property, |(batch, _)| batch);
    format!("{batch}:0")
}

/// The snapshot that the clones of an intent are of.
///
/// # Errors
/// [`NameError`] if the path is too long, or the property's name is none of ezz's.
pub fn origin(layout: &Layout, property: &str, intent: &Intent) -> Result<SnapshotName, NameError> {
    let Some(source) = &intent.source else {
        return layout.origin(intent.kind, intent.skel);
    };
    let mut parts = property[property::INTENT.len().min(property.len())..].split(':');
    let batch = parts.next().and_then(|batch| batch.parse().ok());
    layout.clone_snapshot(source, batch.unwrap_or(0))
}

/// Snapshots that interrupted clones left, but for those whose clones stay.
pub(super) fn left<'a>(
    inventory: &'a Inventory,
    named: &'a [JailName],
) -> impl Iterator<Item = Doomed> + 'a {
    let stays: BTreeSet<String> = stays(inventory, named).collect();
    let left = inventory.left.iter();
    left.filter(move |left| !stays.contains(&left.mark))
        .map(|left| Doomed {
            name: left.name.clone(),
            guid: left.guid,
        })
}

/// The intents of debris that stays, and their marks.
fn stays<'a>(inventory: &'a Inventory, named: &'a [JailName]) -> impl Iterator<Item = String> + 'a {
    inventory
        .debris
        .values()
        .filter(|debris| !debris.below.is_empty() && !named.contains(&debris.jail.name))
        .flat_map(|debris| [debris.intent.clone(), mark(&debris.intent)])
}

/// Adds the steps that clear away what dead intents left, and the intents.
pub fn clear(plan: &mut Plan, inventory: &Inventory, epoch: &mut Epoch) {
    let jails: Vec<&Jail> = clearable(inventory, &[]).collect();
    note(plan, &jails);
    let left: Vec<Doomed> = left(inventory, &[]).collect();
    if !jails.is_empty() || !left.is_empty() {
        destroy::destroy_unfinished(plan, inventory, epoch, &jails, left);
    }
    forget(plan, inventory, epoch, &[]);
}

/// Debris that nothing stands on, but for the jails named, which are dealt with elsewhere.
pub(super) fn clearable<'a>(
    inventory: &'a Inventory,
    but: &'a [JailName],
) -> impl Iterator<Item = &'a Jail> {
    inventory
        .debris
        .values()
        .filter(|debris| debris.below.is_empty() && !but.contains(&debris.jail.name))
        .map(|debris| &debris.jail)
}

/// Says what is cleared away; of many only the first few.
pub(super) fn note(plan: &mut Plan, jails: &[&Jail]) {
    if !jails.is_empty() {
        let few = first_few(jails.iter().map(|jail| &jail.name), 3, ", ");
        plan.note(format!("{few}: cleaning up after an interrupted command"));
    }
}

/// Adds the program that removes the intents, but for those of debris that stays and their marks;
/// a mark goes last. What is below the jails named goes too.
pub(super) fn forget(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    named: &[JailName],
) {
    let layout = &inventory.site.layout;
    let stays: BTreeSet<String> = stays(inventory, named).collect();
    let sets: Vec<Set> = inventory
        .intents
        .iter()
        .rev()
        .filter(|(name, _)| !stays.contains(*name))
        .map(|(name, text)| gone(layout, name, text))
        .collect();
    if !sets.is_empty() {
        plan.push(Step::commit(inventory, Commit::set(epoch.take(), sets)));
    }
}

/// The removal of an intent.
pub(super) fn gone(layout: &Layout, name: &str, text: &str) -> Set {
    Set {
        dataset: layout.jails.to_string(),
        property: name.to_owned(),
        expect: Expect::Value(text.to_owned()),
        value: None,
    }
}
