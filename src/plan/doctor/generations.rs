//! Generations: sealed ones whole and held, others debris of an install.

use std::path::Path;

use super::{Diagnosis, Facts, Finding, Severity, What};
use crate::model::{Base, Generation, HOLD_TAG, Half, Inventory, Os};
use crate::name::SnapshotName;
use crate::plan::{MountAs, Step, generation};

pub(super) fn check(
    inventory: &Inventory,
    generation: &Generation,
    facts: &Facts,
    derived_only: bool,
    found: &mut Diagnosis,
) {
    let name = format!("generation {}", generation.display());
    let promoted: Vec<&Half> = [&generation.base, &generation.skeleton]
        .into_iter()
        .flatten()
        .filter(|half| inventory.promoted(half).is_some())
        .collect();
    for half in &promoted {
        let Some(jail) = inventory.promoted(half) else {
            continue;
        };
        let snapshot = half.origin.as_deref().unwrap_or_default();
        let what = format!(
            "the jail {jail} owns its snapshot, as {snapshot}: no jail can be created from it"
        );
        found.add(
            Finding::new(What::Promoted, Severity::Broken, &half.dataset, what)
                .made_by("that jail was promoted with zfs")
                .hint(format!("`zfs promote {}` reverts that", half.dataset)),
        );
    }
    if promoted
        .iter()
        .any(|half| Some(*half) == generation.base.as_ref())
    {
        return;
    }
    if !generation.sealed() {
        staged(inventory, generation, facts, derived_only, name, found);
        // A skeleton outlives its base; a prune that was killed has released the holds of both. One that it had begun to
        // destroy is the next prune's, which a hold would refuse.
        let begun = generation.skeleton.as_ref().is_some_and(|half| half.pruned);
        let alone = !begun && inventory.skeleton(generation.id).is_some();
        let alone = alone.then(|| inventory.site.layout.skeleton_seal(generation.id).ok());
        if let Some(snapshot) = alone
            .flatten()
            .filter(|it| matches!(facts.holds.get(it), Some(Some(_))))
        {
            seal(&snapshot, facts, derived_only, found);
        }
        return;
    }
    if generation.world.is_none() {
        found.add(
            Finding::new(
                What::WorldMissing,
                Severity::Broken,
                &name,
                "its ezz:world is missing or not valid",
            )
            .hint("no jail starts on it; install the world again and move its jails to that"),
        );
    }
    if generation.skeleton.is_none() {
        found.add(
            Finding::new(
                What::Half,
                Severity::Broken,
                &name,
                "its skeleton is missing",
            )
            .made_by("it was destroyed without ezz: no command of ezz leaves half a generation")
            .hint("no jail can be created from it; existing jails keep working"),
        );
    }
    if let Some(base) = &generation.base {
        self::base(inventory, &name, base, found);
    }
    for snapshot in generation::seals(&inventory.site.layout, generation.id) {
        if promoted
            .iter()
            .any(|half| half.dataset == *snapshot.dataset())
        {
            continue;
        }
        seal(&snapshot, facts, derived_only, found);
    }
}

/// A world that no jail of this host can run.
pub(super) fn foreign(generation: &Generation, os: Os, found: &mut Diagnosis) {
    let Some(world) = generation.world.as_ref().filter(|it| !it.runs_on(os)) else {
        return;
    };
    let name = format!("generation {}", generation.display());
    let what = format!(
        "its world needs {}, but this host runs {os}: its jails cannot start here",
        world.system()
    );
    found.add(
        Finding::new(What::WorldForeign, Severity::Info, name, what).hint(format!(
            "`ezz install` a world of {os} for jails of this host"
        )),
    );
}

/// A generation without a seal: being built, debris, or something that no command of ezz makes.
fn staged(
    inventory: &Inventory,
    generation: &Generation,
    facts: &Facts,
    derived_only: bool,
    name: String,
    found: &mut Diagnosis,
) {
    let layout = &inventory.site.layout;
    let has = |snapshot: Option<SnapshotName>| {
        snapshot.is_some_and(|snapshot| facts.snapshots.contains_key(&snapshot.to_string()))
    };
    let of_base = generation
        .base
        .as_ref()
        .is_some_and(|half| half.snapshot.is_some())
        || has(layout.base_seal(generation.id).ok());
    let of_skeleton = has(layout.skeleton_seal(generation.id).ok());
    let skeleton = generation.skeleton.as_ref();
    if generation.base.is_none() && !of_skeleton && skeleton.is_some_and(|half| half.pruned) {
        let what = "its skeleton is half destroyed";
        let finding = Finding::new(What::Unsealed, Severity::Debris, name, what)
            .made_by("a prune that was killed");
        if derived_only {
            found.add(finding);
        } else {
            found.mend(finding, generation::reap(generation).steps);
        }
    } else if generation.base.is_none() && of_skeleton && !named(inventory, generation) {
        // What `prune` leaves for jails that were made from it.
        if !needed(inventory, generation) {
            found.add(
                Finding::new(
                    What::SkeletonAlone,
                    Severity::Info,
                    name,
                    "its base does not exist, and no jail needs its skeleton",
                )
                .hint("`ezz world prune` destroys it"),
            );
        }
    } else if generation.base.is_none() {
        let what = if of_skeleton {
            "its base is missing, and its skeleton is sealed"
        } else {
            "its base is missing"
        };
        found.add(
            Finding::new(What::Half, Severity::Broken, name, what)
                .made_by("it was destroyed without ezz: no command of ezz leaves half a generation")
                .hint("its thin jails cannot start; ezz does not change it"),
        );
    } else if !of_base && generation.world.is_some() && !generation.staged() {
        let what = "it was sealed, but its snapshot is missing";
        found.add(
            Finding::new(What::SnapshotMissing, Severity::Broken, name, what)
                .made_by("the hold was released and the snapshot destroyed without ezz: only a seal sets ezz:world")
                .hint("its jails cannot start; ezz does not change it"),
        );
    } else if (of_base || of_skeleton) && !generation.base.as_ref().is_some_and(|half| half.pruned)
    {
        let what = "it has its snapshot, but no seal on it";
        found.add(
            Finding::new(What::SealMissing, Severity::Broken, name, what)
                .made_by("the snapshot was created, or the seal removed, without ezz: a seal is one transaction")
                .hint("it is not a generation; destroy it with zfs if you do not need its contents"),
        );
    } else if !generation.staged() {
        let what = match &generation.base {
            None => "its base is missing",
            Some(_) => "it was sealed, but its snapshot is missing",
        };
        found.add(
            Finding::new(What::Half, Severity::Broken, name, what)
                .made_by("it was destroyed without ezz: no command of ezz leaves this state")
                .hint(
                    "ezz does not change it; destroy it with zfs if you do not need its contents",
                ),
        );
    } else if !facts.abandoned.contains(&generation.id) {
        found.add(Finding::new(
            What::Building,
            Severity::Info,
            name,
            "it is being built",
        ));
    } else {
        let pruned = generation.base.as_ref().is_some_and(|half| half.pruned);
        let (what, by) = if pruned {
            ("its base is half destroyed", "a prune that was killed")
        } else {
            (
                "it was never sealed, and no command is building it",
                "an install or update that was killed",
            )
        };
        let finding = Finding::new(What::Unsealed, Severity::Debris, name, what).made_by(by);
        if derived_only {
            found.add(finding);
        } else {
            found.mend(finding, generation::reap(generation).steps);
        }
    }
}

/// Whether a track or a jail is to run on it.
fn named(inventory: &Inventory, generation: &Generation) -> bool {
    let id = Some(generation.id);
    let mut tracks = inventory.tracks.values();
    let mut configs = inventory
        .jails
        .values()
        .filter_map(|jail| jail.config.as_ref().ok());
    tracks.any(|track| track.current == id || track.previous == id)
        || configs.any(|config| config.base == Base::Pin(generation.id))
}

/// Whether a jail was made from its skeleton, or merged to it.
fn needed(inventory: &Inventory, generation: &Generation) -> bool {
    let seal = inventory.site.layout.skeleton_seal(generation.id);
    let seal = seal.map(|seal| seal.to_string()).ok();
    let debris = inventory.debris.values().map(|debris| &debris.jail);
    inventory.jails.values().chain(debris).any(|jail| {
        let config = jail.config.as_ref();
        jail.origin == seal || config.is_ok_and(|config| config.skel == generation.id)
    })
}

fn base(inventory: &Inventory, name: &str, base: &Half, found: &mut Diagnosis) {
    if base.written > 0 {
        let what = format!(
            "{} bytes were written to its base after the seal",
            base.written
        );
        found.add(
            Finding::new(What::Written, Severity::Broken, name, what)
                .hint("`ezz world verify` shows which files differ"),
        );
    }
    if base.mounted {
        return;
    }
    let at = inventory
        .site
        .directory
        .join("basejail")
        .join(base.dataset.leaf());
    if base.mountpoint != at {
        // Of `mountpoint=none` too; the property is a finding of its own.
        let what = "its base is not mounted";
        found.add(Finding::new(What::NotMounted, Severity::Debris, name, what));
        return;
    }
    let finding = Finding::new(
        What::NotMounted,
        Severity::Debris,
        name,
        "its base is not mounted",
    );
    found.mend(finding, [mount(base, &at)]);
}

pub(super) fn mount(base: &Half, at: &Path) -> Step {
    Step::mount(base.dataset.clone(), at.to_owned(), MountAs::Base)
}

/// The snapshot of a half: there, sealed, held.
fn seal(snapshot: &SnapshotName, facts: &Facts, derived_only: bool, found: &mut Diagnosis) {
    let tags = match facts.holds.get(snapshot) {
        None => return,
        Some(None) => {
            found.add(
                Finding::new(
                    What::SnapshotMissing,
                    Severity::Broken,
                    snapshot,
                    "the snapshot is missing",
                )
                .made_by("its hold was released and it was destroyed without ezz")
                .hint("no jail can be created from this generation"),
            );
            return;
        }
        Some(Some(tags)) => tags,
    };
    let sealed = facts.snapshots.get(&snapshot.to_string());
    if sealed.is_some_and(|found| !found.sealed) {
        found.add(
            Finding::new(
                What::SealMissing,
                Severity::Broken,
                snapshot,
                "the other half of its generation is sealed, but this one is not",
            )
            .made_by("the snapshot was created, or the seal removed, without ezz: a seal is one transaction")
            .hint("do not create jails from this generation"),
        );
    }
    if !tags.iter().any(|tag| tag == HOLD_TAG) {
        let finding = Finding::new(
            What::HoldMissing,
            Severity::Debris,
            snapshot,
            "ezz's hold is missing",
        )
        .made_by("an install or a prune that was killed, or a release without ezz");
        if derived_only {
            found.add(finding);
        } else {
            let snapshots = vec![snapshot.clone()];
            found.mend(finding, [Step::Hold { snapshots }]);
        }
    }
    let foreign: Vec<&String> = tags.iter().filter(|tag| *tag != HOLD_TAG).collect();
    if !foreign.is_empty() {
        let what = format!("holds that ezz did not create: {foreign:?}");
        found.add(
            Finding::new(What::HoldForeign, Severity::Info, snapshot, what)
                .hint("this generation cannot be destroyed while they exist"),
        );
    }
}
