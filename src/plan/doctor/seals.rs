//! The snapshots of the halves of generations: there, sealed, held.

use super::{Examination, Site, one};
use crate::model::{Generation, HOLD_TAG, Half, Inventory};
use crate::name::SnapshotName;
use crate::plan::check::{Case, Check};
use crate::plan::finding::{Severity, What};
use crate::plan::{PlanError, Step, generation};

/// A generation that is looked at.
pub(super) struct View<'a> {
    pub site: Site<'a>,
    pub generation: &'a Generation,
}

impl View<'_> {
    pub fn inventory(&self) -> &Inventory {
        &self.site.observed.inventory
    }

    pub fn case(&self, what: impl Into<String>) -> Case {
        Case::new(format!("generation {}", self.generation.display()), what)
    }

    /// Its halves whose snapshots a jail owns.
    pub fn promoted(&self) -> impl Iterator<Item = &Half> {
        let halves = [&self.generation.base, &self.generation.skeleton];
        let halves = halves.into_iter().flatten();
        halves.filter(|half| self.inventory().promoted(half).is_some())
    }
}

/// A snapshot of a half that should be sealed and held.
pub(super) struct Seal<'a> {
    view: &'a View<'a>,
    snapshot: SnapshotName,
    /// The tags of its holds; none if the snapshot is missing.
    tags: Option<&'a [String]>,
}

pub(super) fn examine(examination: &mut Examination<'_>, view: &View<'_>) -> Result<(), PlanError> {
    let checks = checks();
    for snapshot in expected(view) {
        // Not looked at.
        let Some(tags) = view.site.facts.holds.get(&snapshot) else {
            continue;
        };
        let tags = tags.as_deref();
        let seal = Seal {
            view,
            snapshot,
            tags,
        };
        examination.run(&checks, &seal)?;
    }
    Ok(())
}

/// The snapshots that a generation should have. A skeleton outlives its base, and a prune that was killed has released
/// the holds of both. A skeleton that it had begun to destroy is left to the next prune, which a hold would stop.
fn expected(view: &View<'_>) -> Vec<SnapshotName> {
    let inventory = view.inventory();
    let (layout, generation) = (&inventory.site.layout, view.generation);
    let promoted = |snapshot: &SnapshotName| {
        let mut halves = view.promoted();
        halves.any(|half| half.dataset == *snapshot.dataset())
    };
    if generation.sealed() {
        let seals = generation::seals(layout, generation.id).into_iter();
        return seals.filter(|snapshot| !promoted(snapshot)).collect();
    }
    let cut = |generation: &Generation| generation.skeleton.as_ref().is_some_and(|it| it.pruned);
    let alone = !cut(generation) && inventory.skeleton(generation.id).is_some();
    let snapshot = layout.skeleton_seal(generation.id).ok().filter(|_| alone);
    let holds = &view.site.facts.holds;
    let exists = |snapshot: &SnapshotName| matches!(holds.get(snapshot), Some(Some(_)));
    snapshot.into_iter().filter(exists).collect()
}

pub(super) fn checks<'a>() -> [Check<Seal<'a>>; 4] {
    use Severity::{Broken, Debris, Info};
    [
        Check::new(What::SnapshotMissing, Broken, snapshot_missing)
            .cause("its hold was released and it was destroyed without ezz")
            .hint("no jail can be created from this generation"),
        Check::new(What::SealMissing, Broken, seal_missing)
            .cause("something other than ezz created the snapshot or removed its ezz:sealed")
            .hint("do not create jails from this generation"),
        Check::new(What::HoldMissing, Debris, hold_missing)
            .cause("an install or a prune that was killed, or a release without ezz")
            .waits(),
        Check::new(What::HoldForeign, Info, holds_foreign)
            .hint("this generation cannot be destroyed while they exist"),
    ]
}

fn snapshot_missing(seal: &Seal<'_>) -> Vec<Case> {
    let missing = seal.tags.is_none();
    one(missing.then(|| Case::new(&seal.snapshot, "the snapshot is missing")))
}

fn seal_missing(seal: &Seal<'_>) -> Vec<Case> {
    let snapshots = &seal.view.site.facts.snapshots;
    let found = snapshots.get(&seal.snapshot.to_string());
    let unsealed = seal.tags.is_some() && found.is_some_and(|found| !found.sealed);
    let what = "the other half of its generation is sealed, but this one is not";
    one(unsealed.then(|| Case::new(&seal.snapshot, what)))
}

fn hold_missing(seal: &Seal<'_>) -> Vec<Case> {
    let missing = seal
        .tags
        .is_some_and(|tags| !tags.iter().any(|tag| tag == HOLD_TAG));
    one(missing.then(|| {
        let snapshots = vec![seal.snapshot.clone()];
        Case::new(&seal.snapshot, "ezz's hold is missing").steps([Step::Hold { snapshots }])
    }))
}

fn holds_foreign(seal: &Seal<'_>) -> Vec<Case> {
    let tags = seal.tags.unwrap_or_default().iter();
    let foreign: Vec<&String> = tags.filter(|tag| *tag != HOLD_TAG).collect();
    one((!foreign.is_empty()).then(|| {
        let what = format!("holds that ezz did not create: {foreign:?}");
        Case::new(&seal.snapshot, what)
    }))
}
