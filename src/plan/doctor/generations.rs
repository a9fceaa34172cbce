//! Generations: sealed ones whole, others debris of an install. Their snapshots are in `seals`.

use std::path::Path;

use super::seals::{self, View};
use super::{Examination, one};
use crate::model::{Base, Generation, Half, Inventory};
use crate::name::SnapshotName;
use crate::plan::check::{self, Case, Check, Mend, Row};
use crate::plan::finding::{Severity, What};
use crate::plan::{MountAs, PlanError, Step, generation};

/// The rows of all tables of this file.
pub(super) fn rows() -> Vec<Row> {
    [
        check::rows(&any()),
        check::rows(&foreign()),
        check::rows(&sealed()),
        check::rows(&staged()),
    ]
    .concat()
}

pub(super) fn examine(examination: &mut Examination<'_>) -> Result<(), PlanError> {
    let site = examination.site;
    let (any, sealed, staged, foreign) = (any(), sealed(), staged(), foreign());
    for generation in site.observed.inventory.generations.values() {
        let view = View { site, generation };
        examination.run(&any, &view)?;
        let base = generation.base.as_ref();
        if !view.promoted().any(|half| Some(half) == base) {
            match generation.sealed() {
                true => examination.run(&sealed, &view)?,
                false => examination.run(&staged, &view)?,
            }
            seals::examine(examination, &view)?;
        }
        if !site.derived_only {
            examination.run(&foreign, &view)?;
        }
    }
    Ok(())
}

fn any<'a>() -> [Check<View<'a>>; 2] {
    [
        Check::new(What::SealMarked, Severity::Debris, seal_marked)
            .cause("an install that was killed")
            .waits(),
        Check::new(What::Promoted, Severity::Broken, promoted)
            .cause("that jail was promoted with zfs"),
    ]
}

fn foreign<'a>() -> [Check<View<'a>>; 1] {
    [Check::new(
        What::WorldForeign,
        Severity::Info,
        world_foreign,
    )]
}

fn sealed<'a>() -> [Check<View<'a>>; 4] {
    use Severity::{Broken, Debris};
    [
        Check::new(What::WorldMissing, Broken, world_missing)
            .hint("no jail starts on it; install the world again and move its jails to that"),
        Check::new(What::Half, Broken, skeleton_missing)
            .cause("it was destroyed without ezz: no command of ezz leaves half a generation")
            .hint("no jail can be created from it; existing jails keep working"),
        Check::new(What::Written, Broken, written)
            .hint("`ezz world verify` shows which files differ"),
        Check::new(What::NotMounted, Debris, not_mounted),
    ]
}

fn staged<'a>() -> [Check<View<'a>>; 9] {
    use Severity::{Broken, Debris, Info};
    const DESTROYED: &str =
        "it was destroyed without ezz: no command of ezz leaves half a generation";
    [
        Check::new(What::Unsealed, Debris, |it: &View<'_>| {
            it.reaped_if(Staged::SkeletonCut, "its skeleton is half destroyed")
        })
        .cause("a prune that was killed")
        .waits(),
        Check::new(What::SkeletonAlone, Info, |it: &View<'_>| {
            let what = "its base does not exist, and no jail needs its skeleton";
            it.case_if(Staged::SkeletonAlone, what)
        })
        .hint("`ezz world prune` destroys it"),
        Check::new(What::Half, Broken, base_missing)
            .cause(DESTROYED)
            .hint("its thin jails cannot start; ezz does not change it"),
        Check::new(What::SnapshotMissing, Broken, |it: &View<'_>| {
            let what = "it was sealed, but its snapshot is missing";
            it.case_if(Staged::SnapshotMissing, what)
        })
        .cause("something other than ezz released the hold and destroyed the snapshot")
        .hint("its jails cannot start; ezz does not change it"),
        Check::new(What::SealMissing, Broken, |it: &View<'_>| {
            it.case_if(
                Staged::SealMissing,
                "it has its snapshot, but no seal on it",
            )
        })
        .cause("something other than ezz created the snapshot or removed its ezz:sealed")
        .hint("it is not a generation; destroy it with zfs if you do not need its contents"),
        Check::new(What::Half, Broken, |it: &View<'_>| {
            it.case_if(
                Staged::Neither,
                "it was sealed, but its snapshot is missing",
            )
        })
        .cause("it was destroyed without ezz: no command of ezz leaves this state")
        .hint("ezz does not change it; destroy it with zfs if you do not need its contents"),
        Check::new(What::Building, Info, |it: &View<'_>| {
            it.case_if(Staged::Building, "it is being built")
        }),
        Check::new(What::Unsealed, Debris, |it: &View<'_>| {
            it.reaped_if(Staged::BaseCut, "its base is half destroyed")
        })
        .cause("a prune that was killed")
        .waits(),
        Check::new(What::Unsealed, Debris, |it: &View<'_>| {
            let what = "it was never sealed, and no command is building it";
            it.reaped_if(Staged::Abandoned, what)
        })
        .cause("an install or update that was killed")
        .waits(),
    ]
}

/// What a generation without a seal is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Staged {
    /// A prune was destroying its skeleton.
    SkeletonCut,
    /// What `prune` leaves for jails that were made from it.
    SkeletonNeeded,
    /// No jail needs what `prune` has left.
    SkeletonAlone,
    BaseMissing,
    SnapshotMissing,
    SealMissing,
    /// Neither sealed nor staged.
    Neither,
    Building,
    /// A prune was destroying its base.
    BaseCut,
    Abandoned,
}

impl View<'_> {
    fn staged(&self) -> Staged {
        let (inventory, generation) = (self.inventory(), self.generation);
        let pruned = |half: &Option<Half>| half.as_ref().is_some_and(|half| half.pruned);
        let (of_base, of_skeleton) = (self.base_snapshot(), self.skeleton_snapshot());
        let base_pruned = pruned(&generation.base);
        if generation.base.is_none() {
            match of_skeleton {
                false if pruned(&generation.skeleton) => Staged::SkeletonCut,
                true if !is_named(inventory, generation) => {
                    match is_needed(inventory, generation) {
                        true => Staged::SkeletonNeeded,
                        false => Staged::SkeletonAlone,
                    }
                }
                true | false => Staged::BaseMissing,
            }
        } else if !of_base && generation.world.is_some() && !generation.staged() {
            Staged::SnapshotMissing
        } else if (of_base || of_skeleton) && !generation.sealing && !base_pruned {
            Staged::SealMissing
        } else if !generation.staged() {
            Staged::Neither
        } else if !self.site.facts.abandoned.contains(&generation.id) {
            Staged::Building
        } else if base_pruned {
            Staged::BaseCut
        } else {
            Staged::Abandoned
        }
    }

    /// Whether the base has the snapshot of a seal.
    fn base_snapshot(&self) -> bool {
        let base = self.generation.base.as_ref();
        let layout = &self.inventory().site.layout;
        base.is_some_and(|half| half.snapshot.is_some())
            || self.exists(layout.base_seal(self.generation.id).ok())
    }

    /// Whether the skeleton has the snapshot of a seal.
    fn skeleton_snapshot(&self) -> bool {
        let layout = &self.inventory().site.layout;
        self.exists(layout.skeleton_seal(self.generation.id).ok())
    }

    fn exists(&self, snapshot: Option<SnapshotName>) -> bool {
        let snapshots = &self.site.facts.snapshots;
        snapshot.is_some_and(|snapshot| snapshots.contains_key(&snapshot.to_string()))
    }

    fn case_if(&self, staged: Staged, what: &str) -> Vec<Case> {
        one((self.staged() == staged).then(|| self.case(what)))
    }

    /// A case whose repair destroys the generation.
    fn reaped_if(&self, staged: Staged, what: &str) -> Vec<Case> {
        let cases = self.case_if(staged, what).into_iter();
        cases
            .map(|case| case.steps(generation::reap(self.generation).steps))
            .collect()
    }
}

fn base_missing(view: &View<'_>) -> Vec<Case> {
    let what = match view.skeleton_snapshot() {
        true => "its base is missing, and its skeleton is sealed",
        false => "its base is missing",
    };
    view.case_if(Staged::BaseMissing, what)
}

/// A generation whose seal is done but for its last call.
fn seal_marked(view: &View<'_>) -> Vec<Case> {
    let marked = view.generation.sealing && view.generation.sealed();
    let what = "it is sealed, but still has the mark of a seal that is under way";
    one(marked.then(|| view.case(what).mend(Mend::UnmarkSeal(view.generation.id))))
}

fn promoted(view: &View<'_>) -> Vec<Case> {
    let case = |half: &Half| {
        let jail = view.inventory().promoted(half)?;
        let snapshot = half.origin.as_deref().unwrap_or_default();
        let what = format!(
            "the jail {jail} owns its snapshot, as {snapshot}: no jail can be created from it"
        );
        let hint = format!("`zfs promote {}` reverts that", half.dataset);
        Some(Case::new(&half.dataset, what).hint(hint))
    };
    view.promoted().filter_map(case).collect()
}

/// A world that no jail of this host can run.
fn world_foreign(view: &View<'_>) -> Vec<Case> {
    let os = view.site.observed.os;
    let world = view.generation.world.as_ref();
    one(world.filter(|world| !world.runs_on(os)).map(|world| {
        let what = format!(
            "its world needs {}, but this host runs {os}: its jails cannot start here",
            world.system()
        );
        view.case(what).hint(format!(
            "`ezz install` a world of {os} for jails of this host"
        ))
    }))
}

fn world_missing(view: &View<'_>) -> Vec<Case> {
    let missing = view.generation.world.is_none();
    one(missing.then(|| view.case("its ezz:world is missing or not valid")))
}

fn skeleton_missing(view: &View<'_>) -> Vec<Case> {
    let missing = view.generation.skeleton.is_none();
    one(missing.then(|| view.case("its skeleton is missing")))
}

fn written(view: &View<'_>) -> Vec<Case> {
    let base = view.generation.base.as_ref();
    one(base.filter(|base| base.written > 0).map(|base| {
        let bytes = base.written;
        view.case(format!(
            "{bytes} bytes were written to its base after the seal"
        ))
    }))
}

fn not_mounted(view: &View<'_>) -> Vec<Case> {
    let base = view.generation.base.as_ref();
    one(base.filter(|base| !base.mounted).map(|base| {
        let directory = &view.inventory().site.directory;
        let at = directory.join("basejail").join(base.dataset.leaf());
        let case = view.case("its base is not mounted");
        // Otherwise its property mountpoint was changed, `none` included, which is a finding of its own.
        match base.mountpoint == at {
            true => case.steps([mount(base, &at)]),
            false => case,
        }
    }))
}

pub(super) fn mount(base: &Half, at: &Path) -> Step {
    Step::mount(base.dataset.clone(), at.to_owned(), MountAs::Base)
}

/// Whether a track or a jail is to run on it.
fn is_named(inventory: &Inventory, generation: &Generation) -> bool {
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
fn is_needed(inventory: &Inventory, generation: &Generation) -> bool {
    let seal = inventory.site.layout.skeleton_seal(generation.id);
    let seal = seal.map(|seal| seal.to_string()).ok();
    let debris = inventory.debris.values().map(|debris| &debris.jail);
    inventory.jails.values().chain(debris).any(|jail| {
        let config = jail.config.as_ref();
        jail.origin == seal || config.is_ok_and(|config| config.skel == generation.id)
    })
}
