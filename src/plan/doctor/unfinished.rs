//! What interrupted creations, deletions and merges left of jails.

use super::{Examination, Site, one};
use crate::model::{Jail, JailConfig, Merging};
use crate::name::{GenerationId, JailName};
use crate::plan::check::{self, Case, Check, Mend, Row};
use crate::plan::finding::{Severity, What};
use crate::plan::ways::Snapshots;
use crate::plan::{Epoch, Plan, PlanError, undo};

/// A jail whose creation was not finished.
pub(super) struct Unfinished<'a> {
    pub site: Site<'a>,
    pub jail: &'a Jail,
    pub config: &'a JailConfig,
}

/// A jail with the mark of a merge.
pub(super) struct Marked<'a> {
    pub site: Site<'a>,
    pub jail: &'a Jail,
    pub merging: &'a Merging,
}

/// The rows of all tables of this file.
pub(super) fn rows() -> Vec<Row> {
    [
        check::rows(&merging()),
        check::rows(&uncommitted()),
        check::rows(&checks()),
    ]
    .concat()
}

/// Reports what has no commit, then the jails that were committed and never finished.
pub(super) fn examine(
    examination: &mut Examination<'_>,
    unfinished: &[Unfinished<'_>],
) -> Result<(), PlanError> {
    let site = examination.site;
    examination.run(&uncommitted(), &site)?;
    let checks = checks();
    for jail in unfinished {
        examination.run(&checks, jail)?;
    }
    Ok(())
}

/// With the mark a jail does not start.
pub(super) fn merging<'a>() -> [Check<Marked<'a>>; 3] {
    use Severity::{Broken, Debris, Info};
    const KILLED: &str = "a merge that was killed, or a power failure during it";
    [
        Check::new(What::Merging, Info, at_work),
        Check::new(What::Merging, Debris, interrupted)
            .cause(KILLED)
            .waits(),
        Check::new(What::Merging, Broken, stuck).cause(KILLED).hint(
            "`zfs list -t snapshot` shows the snapshots of the jail; then `ezz doctor --repair`",
        ),
    ]
}

impl Marked<'_> {
    /// The snapshots that take the merge back, if no command works on it.
    fn interrupted(&self) -> Option<&Snapshots> {
        self.site.facts.interrupted.get(&self.jail.name)
    }

    fn case(&self, what: impl Into<String>) -> Case {
        Case::new(format!("jail {}", self.jail.name), what)
    }

    fn way(&self) -> String {
        let (from, to): (GenerationId, GenerationId) = (self.merging.from, self.merging.to);
        format!("from generation {from} to {to}")
    }

    /// Why the merge cannot be taken back.
    fn refusal(&self, snapshots: &Snapshots) -> Option<PlanError> {
        let inventory = &self.site.observed.inventory;
        let (mut plan, mut epoch) = (Plan::default(), Epoch::of(inventory));
        undo::undo(&mut plan, &mut epoch, inventory, self.jail, snapshots).err()
    }
}

fn at_work(marked: &Marked<'_>) -> Vec<Case> {
    one(marked.interrupted().is_none().then(|| {
        let way = marked.way();
        marked.case(format!(
            "its files are being merged {way}: it cannot start until then"
        ))
    }))
}

fn interrupted(marked: &Marked<'_>) -> Vec<Case> {
    let snapshots = marked.interrupted();
    let undone = snapshots.filter(|it| marked.refusal(it).is_none());
    one(undone.map(|_| {
        let way = marked.way();
        let mend = Mend::UndoMerge(marked.jail.name.clone());
        let what = format!("the merge of its files {way} was interrupted: it cannot start");
        marked.case(what).mend(mend)
    }))
}

fn stuck(marked: &Marked<'_>) -> Vec<Case> {
    let snapshots = marked.interrupted();
    one(snapshots.and_then(|it| marked.refusal(it)).map(|refusal| {
        let why = match &refusal {
            PlanError::MergedBefore { first, count, .. } => {
                format!("since that would destroy {count} newer snapshots, such as {first}")
            }
            other => format!("since {other}"),
        };
        let way = marked.way();
        let what = format!(
            "the merge of its files {way} was interrupted: it cannot start; it cannot be undone, {why}"
        );
        let case = marked.case(what);
        match refusal {
            PlanError::MergedBefore { .. } => case.hint(
                "destroy these snapshots with zfs if you do not need their half-merged files; then `ezz doctor --repair`",
            ),
            _ => case,
        }
    }))
}

fn uncommitted<'a>() -> [Check<Site<'a>>; 3] {
    const KILLED: &str = "a create or delete that was killed";
    let debris = |find| Check::new(What::Uncommitted, Severity::Debris, find).cause(KILLED);
    [
        debris(clones as fn(&Site<'a>) -> Vec<Case>).waits(),
        debris(intents).waits(),
        debris(clones_with_foreign),
    ]
}

/// What is reported of clones that no command committed, with or without objects that ezz did not create below them.
fn uncommitted_clones<'a>(
    at: &Site<'a>,
    foreign: bool,
) -> impl Iterator<Item = (&'a JailName, &'a [String], &'static str)> {
    let debris = at.observed.inventory.debris.iter();
    debris
        .filter(move |(_, debris)| debris.below.is_empty() != foreign)
        .map(|(name, debris)| {
            let what = match debris.deleted {
                true => "its deletion was interrupted, and it is not a jail",
                false => "its creation was interrupted, and it is not a jail",
            };
            (name, debris.below.as_slice(), what)
        })
}

fn clones(at: &Site<'_>) -> Vec<Case> {
    uncommitted_clones(at, false)
        .map(|(name, _, what)| Case::new(format!("jail {name}"), what).mend(Mend::Clear))
        .collect()
}

fn clones_with_foreign(at: &Site<'_>) -> Vec<Case> {
    uncommitted_clones(at, true)
        .map(|(name, below, what)| {
            let list = below.join(", ");
            let what =
                format!("{what}; it stays because of objects that ezz did not create: {list}");
            let hint = format!("`ezz delete {name} --foreign-snapshots`");
            Case::new(format!("jail {name}"), what).hint(hint)
        })
        .collect()
}

/// Intents whose clones do not exist.
fn intents(at: &Site<'_>) -> Vec<Case> {
    let inventory = &at.observed.inventory;
    let alone = inventory.intents.keys().filter(|name| {
        let mut debris = inventory.debris.values();
        debris.all(|debris| debris.intent != **name)
    });
    alone
        .map(|name| {
            let what = format!("{name} is left over from an interrupted command");
            Case::new(&inventory.site.layout.jails, what).mend(Mend::Clear)
        })
        .collect()
}

/// An unfinished jail is finished in place, not made again: if it were destroyed for that, a kill would leave nothing.
fn checks<'a>() -> [Check<Unfinished<'a>>; 2] {
    use Severity::{Broken, Debris};
    const KILLED: &str = "a create that was killed";
    [
        Check::new(What::Unfinished, Broken, without_generation).cause(KILLED),
        Check::new(What::Unfinished, Debris, to_finish)
            .cause(KILLED)
            .waits(),
    ]
}

fn without_generation(unfinished: &Unfinished<'_>) -> Vec<Case> {
    let (name, skel) = (&unfinished.jail.name, unfinished.config.skel);
    let missing = !unfinished.site.has_skeleton(unfinished.config);
    one(missing.then(|| {
        let what = format!("it was never finished, and generation {skel} does not exist");
        Case::new(format!("jail {name}"), what).hint(format!("`ezz delete {name}`"))
    }))
}

fn to_finish(unfinished: &Unfinished<'_>) -> Vec<Case> {
    let name = &unfinished.jail.name;
    let found = unfinished.site.has_skeleton(unfinished.config);
    one(found.then(|| {
        let mend = Mend::Finish(name.clone());
        Case::new(format!("jail {name}"), "it was never finished").mend(mend)
    }))
}
