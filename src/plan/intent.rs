//! Intents, and the clearing of clones that never became jails. The intent of a `create` names the clones that are
//! being created and are not jails yet; that of a `delete` names the jails that it destroys.
//!
//! One program sets the intent, creates the jails and removes the intent; where programs cannot clone there are two
//! programs, see `fallback.rs`. A clone that an intent names is debris, even if it has an `ezz:jail`: a signal can stop
//! a program half-way, and what it had set remains (zcp.c, `zcp_eval_sig`). So the first part of an intent is the mark:
//! while it exists nothing of the batch counts, and once it is removed everything does. The command that makes this
//! plan holds the site lock, which the intent's owner held from intent to commit, so the intent is dead. If that lock
//! did not work, the epoch that the clearing raises makes the owner's commit stale. Only datasets that were observed as
//! debris are destroyed, never one that merely has a name from an intent. Every plan that creates a dataset with a
//! jail's name clears dead intents first.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Intent, Inventory, Jail, JailConfig, Kind, Layout, MAX_VALUE, encode, property,
};
use crate::name::{GenerationId, JailName, NameError, SnapshotName};
use crate::plan::{Commit, Doomed, Epoch, Expect, Plan, PlanError, Set, Step, destroy};
use crate::text::first_few;

/// The size of an intent's JSON without the names, rounded up.
const FRAME: usize = 100;

/// Returns the intents of a batch. The batch is named by the epoch that its first program finds, which no other program
/// can find.
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
            // The name is followed by two quotes and a comma.
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

/// Returns the intents of a deletion, which are named by the epoch that its program finds.
///
/// # Errors
/// [`PlanError::Model`].
pub(super) fn deleting(
    layout: &Layout,
    batch: u64,
    jails: &[&Jail],
) -> Result<BTreeMap<String, String>, PlanError> {
    // The most jails that fit in any case, each with a name, a guid of twenty digits, quotes and commas.
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

/// Returns the name of the first part of the batch that an intent belongs to.
pub fn mark(property: &str) -> String {
    let batch = property
        .rsplit_once(':')
        .map_or(property, |(batch, _)| batch);
    format!("{batch}:0")
}

/// Returns the snapshot that the clones of an intent are made from.
///
/// # Errors
/// [`NameError`] if the path is too long, or if the property's name is not one that ezz uses.
pub fn origin(layout: &Layout, property: &str, intent: &Intent) -> Result<SnapshotName, NameError> {
    let Some(source) = &intent.source else {
        return layout.origin(intent.kind, intent.skel);
    };
    let mut parts = property[property::INTENT.len().min(property.len())..].split(':');
    let batch = parts.next().and_then(|batch| batch.parse().ok());
    layout.clone_snapshot(source, batch.unwrap_or(0))
}

/// Returns snapshots that interrupted clones left, except for those whose clones stay.
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

/// Returns the intents of debris that stays, and their marks.
fn stays<'a>(inventory: &'a Inventory, named: &'a [JailName]) -> impl Iterator<Item = String> + 'a {
    inventory
        .debris
        .values()
        .filter(|debris| !debris.below.is_empty() && !named.contains(&debris.jail.name))
        .flat_map(|debris| [debris.intent.clone(), mark(&debris.intent)])
}

/// Adds the steps that destroy the remains of dead intents, and the intents.
pub fn clear(plan: &mut Plan, inventory: &Inventory, epoch: &mut Epoch) {
    let jails: Vec<&Jail> = clearable(inventory, &[]).collect();
    note(plan, &jails);
    let left: Vec<Doomed> = left(inventory, &[]).collect();
    if !jails.is_empty() || !left.is_empty() {
        destroy::destroy_unfinished(plan, inventory, epoch, &jails, left);
    }
    forget(plan, inventory, epoch, &[]);
}

/// Returns debris on which nothing depends, except for the named jails, which the caller handles.
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

/// Adds a note about what is cleared away; of many jails it names only the first few.
pub(super) fn note(plan: &mut Plan, jails: &[&Jail]) {
    if !jails.is_empty() {
        let few = first_few(jails.iter().map(|jail| &jail.name), 3, ", ");
        plan.note(format!("{few}: cleaning up after an interrupted command"));
    }
}

/// Adds the program that removes the intents, except for those of debris that stays, and their marks; a mark is removed
/// last. Intents of the named jails are removed, too.
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

/// Returns the change that removes an intent.
pub(super) fn gone(layout: &Layout, name: &str, text: &str) -> Set {
    Set {
        dataset: layout.jails.to_string(),
        property: name.to_owned(),
        expect: Expect::Value(text.to_owned()),
        value: None,
    }
}
