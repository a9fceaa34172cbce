//! The plans of `world prune` and `world delete`, which destroy generations that nothing needs, bases and skeletons
//! separately.
//!
//! A base may be a clone of another base and the origin of others. Such clones do not keep it, since the newest of them
//! takes its snapshot over (promote). Skeletons are copies, and never promoted.

mod kept;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Generation, Half, Inventory};
use crate::name::GenerationId;
use crate::plan::{
    Commit, Doomed, Epoch, Expect, Observed, Plan, PlanError, Set, Step, generation, lookup, ways,
    writable,
};

pub use kept::{Kept, Reason, kept};

/// The request of `prune`, with what was found on the pool.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The number of newest generations that are kept in addition.
    pub newest: usize,
    /// The generations that may be destroyed, even if no track has been at them; if none is named, all.
    pub named: BTreeSet<GenerationId>,
    /// The generations that a confirmation question named; `None` if no question was asked.
    pub asked: Option<BTreeSet<GenerationId>>,
    /// A generation that was sealed up to this time may be destroyed although no track has been at it: RFC 3339 in UTC.
    pub older: Option<String>,
    /// Snapshots that an earlier promotion has moved and that have clones, whoever created those.
    pub cloned: BTreeSet<String>,
    /// Snapshots that ezz did not create, of skeletons that could otherwise be destroyed.
    pub foreign: BTreeMap<GenerationId, Vec<String>>,
    /// Snapshots that ezz created of jails for merges. Those that are no longer needed are all destroyed, unless
    /// generations are named.
    pub of_merges: Vec<Doomed>,
    /// Accounts that only the ledgers of generations have that go, as properties of the site.
    pub accounts: BTreeMap<String, String>,
    /// Snapshots that ezz did not make, and that are to go with what they are of; none if they keep it.
    pub doomed: Option<Vec<Doomed>>,
}

/// Returns the snapshots that an earlier promotion has moved.
pub fn moved(inventory: &Inventory) -> Vec<Doomed> {
    let bases = inventory
        .generations
        .values()
        .filter_map(|generation| generation.base.as_ref());
    let of = |half: &Half| -> Vec<Doomed> {
        let all = half.moved.iter();
        all.map(|(number, guid)| Doomed {
            name: format!("{}@{number}", half.dataset),
            guid: *guid,
        })
        .collect()
    };
    bases.flat_map(of).collect()
}

/// Plans to destroy everything that nothing keeps.
///
/// # Errors
/// [`PlanError`]: a replica; a name that is too long.
pub fn prune(observed: &Observed, request: &Request) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let kept = kept(observed, request);
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    let goes = |id: &GenerationId, half: fn(&Kept) -> &BTreeSet<Reason>| {
        kept.get(id).is_none_or(|kept| half(kept).is_empty())
    };
    let mut family = Family::of(inventory);
    let gone = |half: &&Half, id: &GenerationId, of: fn(&Kept) -> &BTreeSet<Reason>| {
        goes(id, of) && !half.half_gone()
    };
    let bases = inventory.generations.values().filter_map(|found| {
        let half = found.base.as_ref();
        half.filter(|half| gone(half, &found.id, |k| &k.base))
    });
    let skeletons = inventory.generations.values().filter_map(|found| {
        let half = found.skeleton.as_ref();
        half.filter(|half| gone(half, &found.id, |k| &k.skeleton))
    });
    let halves: BTreeSet<&str> = bases
        .chain(skeletons)
        .map(|half| half.dataset.as_str())
        .collect();
    let foreign = request.doomed.iter().flatten().filter(|doomed| {
        let of = doomed.name.split_once('@');
        of.is_some_and(|(dataset, _)| halves.contains(dataset))
    });
    let foreign: Vec<Doomed> = foreign.cloned().collect();
    // No account may get a number that files of jails have from another.
    if !request.accounts.is_empty() {
        let set = |(property, value): (&String, &String)| Set {
            dataset: inventory.site.layout.basejail.to_string(),
            property: property.clone(),
            expect: Expect::Absent,
            value: Some(value.clone()),
        };
        let sets = request.accounts.iter().map(set).collect();
        plan.push(Step::commit(inventory, Commit::set(epoch.take(), sets)));
    }
    if !foreign.is_empty() {
        plan.push(Step::Commit {
            site: inventory.site.layout.site.clone(),
            commit: Commit::Destroy {
                intents: BTreeMap::new(),
                epoch: epoch.take(),
                doomed: foreign,
            },
        });
    }
    // The newest come first, so that a clone is destroyed before its origin.
    for generation in inventory.generations.values().rev() {
        if generation.base.as_ref().is_some_and(Half::half_gone) {
            family.remove(generation.id);
            plan.extend(generation::reap(generation).steps);
        } else if let Some(half) = generation
            .base
            .as_ref()
            .filter(|_| goes(&generation.id, |k| &k.base))
        {
            let heir = family.remove(generation.id);
            drop_half(&mut plan, inventory, &mut epoch, generation, half, heir)?;
        }
    }
    for generation in inventory.generations.values().rev() {
        let half = generation.skeleton.as_ref();
        if let Some(half) = half.filter(|_| goes(&generation.id, |k| &k.skeleton)) {
            drop_half(&mut plan, inventory, &mut epoch, generation, half, None)?;
        }
    }
    // The snapshots of a base that is destroyed now are destroyed with it, or passed to its heir.
    let stays = |doomed: &Doomed| {
        !plan.steps.iter().any(|step| {
            matches!(step, Step::Commit { commit: Commit::Prune { dataset, .. }, .. }
                if doomed.name.split_once('@').is_some_and(|(base, _)| base == dataset.as_str()))
        })
    };
    let left: Vec<Doomed> = moved(inventory)
        .into_iter()
        .filter(|doomed| stays(doomed) && !request.cloned.contains(&doomed.name))
        .collect();
    if !left.is_empty() {
        plan.push(Step::Commit {
            site: inventory.site.layout.site.clone(),
            commit: Commit::Destroy {
                intents: std::collections::BTreeMap::new(),
                epoch: epoch.take(),
                doomed: left,
            },
        });
    }
    let ways = ways::unneeded(inventory, request.of_merges.clone());
    if request.named.is_empty() && !ways.is_empty() {
        plan.push(Step::Commit {
            site: inventory.site.layout.site.clone(),
            commit: Commit::Destroy {
                intents: BTreeMap::new(),
                epoch: epoch.take(),
                doomed: ways,
            },
        });
    }
    if plan
        .steps
        .iter()
        .all(|step| !matches!(step, Step::Commit { .. }))
    {
        plan.note("nothing to destroy");
    }
    if let Some((id, reason)) = only_snapshots(&kept) {
        plan.note(format!(
            "generation {id} stays only because of snapshots that ezz did not create: {reason}; --foreign-snapshots destroys them, too"
        ));
    }
    Ok(plan)
}

/// Plans to destroy one generation. Its skeleton stays if jails need it.
///
/// # Errors
/// [`PlanError`]: a replica; something keeps the generation.
pub fn delete(observed: &Observed, id: GenerationId, request: &Request) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    let request = Request {
        named: BTreeSet::from([id]),
        ..request.clone()
    };
    let kept = kept(observed, &request).remove(&id).unwrap_or_default();
    let generation = inventory
        .generations
        .get(&id)
        .ok_or(PlanError::NoGeneration(id))?;
    let reasons = match &generation.base {
        Some(half) if !half.half_gone() => &kept.base,
        Some(_) | None => &kept.skeleton,
    };
    if !reasons.is_empty() {
        return Err(PlanError::GenerationKept {
            generation: generation.display(),
            reasons: reasons.iter().map(ToString::to_string).collect(),
        });
    }
    prune(observed, &request)
}

/// Returns the first generation of which only snapshots that ezz did not create keep a half.
fn only_snapshots(kept: &BTreeMap<GenerationId, Kept>) -> Option<(GenerationId, &Reason)> {
    let theirs = |it: &&Reason| matches!(it, Reason::Snapshots(..));
    let halves = kept
        .iter()
        .flat_map(|(id, kept)| [(*id, &kept.base), (*id, &kept.skeleton)]);
    let mut only = halves.filter(|(_, reasons)| reasons.iter().all(|it| theirs(&it)));
    only.find_map(|(id, reasons)| Some((id, reasons.first()?)))
}

/// Which base is a clone of which, while some are destroyed.
struct Family(BTreeMap<GenerationId, GenerationId>);

impl Family {
    fn of(inventory: &Inventory) -> Self {
        let parent = |generation: &Generation| {
            let origin = generation.base.as_ref()?.origin.as_deref()?;
            Some((
                generation.id,
                lookup::generation_of(inventory, origin.split_once('@')?.0)?,
            ))
        };
        Family(inventory.generations.values().filter_map(parent).collect())
    }

    /// Removes a base; its newest clone inherits its place, and is returned.
    fn remove(&mut self, id: GenerationId) -> Option<GenerationId> {
        let origin = self.0.remove(&id);
        let heir = self
            .0
            .iter()
            .rev()
            .find(|(_, of)| **of == id)
            .map(|(id, _)| *id)?;
        match origin {
            Some(origin) => self.0.insert(heir, origin),
            None => self.0.remove(&heir),
        };
        for of in self.0.values_mut().filter(|of| **of == id) {
            *of = heir;
        }
        Some(heir)
    }
}

fn drop_half(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    generation: &Generation,
    half: &Half,
    heir: Option<GenerationId>,
) -> Result<(), PlanError> {
    let layout = &inventory.site.layout;
    plan.push(Step::unmount(half.dataset.clone(), half.mountpoint.clone()));
    plan.push(Step::RemoveDirectory {
        at: half.mountpoint.clone(),
    });
    // A killed prune has released the hold, and may have destroyed the snapshot.
    if !half.half_gone() {
        plan.push(Step::Release {
            snapshots: vec![half.dataset.at(&generation.id.to_string())?],
        });
    }
    plan.push(Step::Commit {
        site: layout.site.clone(),
        commit: Commit::Prune {
            epoch: epoch.take(),
            dataset: half.dataset.clone(),
            guid: half.guid,
            heir: heir.map(|heir| layout.base(heir)).transpose()?,
        },
    });
    Ok(())
}
