//! The site itself: its properties, its datasets, its directory.

use super::{Examination, Site, one};
use crate::model::{FORMAT, property};
use crate::plan::check::{Case, Check};
use crate::plan::finding::{Severity, What};
use crate::plan::mount::is_open;
use crate::plan::{MountAs, PlanError, Step};

pub(super) fn examine(examination: &mut Examination<'_>) -> Result<(), PlanError> {
    let site = examination.site;
    examination.run(&checks(), &site)
}

pub(super) fn checks<'a>() -> [Check<Site<'a>>; 8] {
    use Severity::{Broken, Debris, Info};
    [
        Check::new(What::PropertyUnreadable, Broken, unreadable)
            .cause("someone who may set properties below the site, such as root of a jail with a dataset of its own")
            .hint("find it with `zfs get -r -s local all`, and remove it with `zfs inherit`"),
        Check::new(What::Replica, Info, replica)
            .hint("`ezz doctor --adopt` makes it a site of its own"),
        Check::new(What::ReadOnly, Info, read_only)
            .hint("`zpool get readonly` and `zfs get readonly` show why"),
        Check::new(What::FormatUnknown, Broken, format_unknown)
            .hint("use the ezz that made it, or a later one"),
        Check::new(What::SeqBehind, Broken, seq_behind),
        Check::new(What::DatasetMissing, Broken, datasets_missing)
            .hint("`zfs create` creates an empty one, if it had no contents"),
        Check::new(What::NotMounted, Debris, not_mounted),
        Check::new(What::DirectoryOpen, Debris, directory_open),
    ]
}

fn case(at: &Site<'_>, what: impl Into<String>) -> Case {
    Case::new(&at.observed.inventory.site.layout.site, what)
}

fn unreadable(at: &Site<'_>) -> Vec<Case> {
    let why = at.facts.unreadable.as_ref();
    one(why.map(|why| {
        let what =
            format!("the datasets below it were not examined, and the pool is not repaired: {why}");
        case(at, what)
    }))
}

fn replica(at: &Site<'_>) -> Vec<Case> {
    let what = "a replica: it arrived by zfs receive, and ezz does not change it";
    let replica = at.observed.inventory.site.replica;
    one(replica.then(|| case(at, what)))
}

fn read_only(at: &Site<'_>) -> Vec<Case> {
    let what = "it is read-only: only mounts can be repaired";
    let read_only = at.observed.inventory.site.read_only;
    one(read_only.then(|| case(at, what)))
}

fn format_unknown(at: &Site<'_>) -> Vec<Case> {
    let format = at.observed.inventory.site.format;
    one((format != FORMAT).then(|| case(at, format!("its format {format} is unknown"))))
}

fn seq_behind(at: &Site<'_>) -> Vec<Case> {
    let inventory = &at.observed.inventory;
    let (name, seq) = (&inventory.site.layout.site, inventory.site.seq);
    let mut sealed = inventory.generations.values().filter(|one| one.sealed());
    let last = sealed.next_back().map(|one| one.id);
    one(last.filter(|last| last.0 > seq).map(|last| {
        let property = property::SEQ;
        let what = format!(
            "{property} is {seq}, but generation {last} exists: the next install would use a number twice"
        );
        case(at, what).hint(format!("`zfs set {property}={last} {name}`"))
    }))
}

fn datasets_missing(at: &Site<'_>) -> Vec<Case> {
    let datasets = &at.facts.datasets;
    if datasets.is_empty() {
        return Vec::new();
    }
    let layout = &at.observed.inventory.site.layout;
    [&layout.basejail, &layout.newjail, &layout.jails]
        .into_iter()
        .filter(|part| !datasets.contains_key(part.as_str()))
        .map(|part| Case::new(part, "it does not exist"))
        .collect()
}

/// Mounting it also closes its directory.
fn mount(at: &Site<'_>) -> Step {
    let site = &at.observed.inventory.site;
    Step::mount(
        site.layout.site.clone(),
        site.directory.clone(),
        MountAs::Site,
    )
}

fn not_mounted(at: &Site<'_>) -> Vec<Case> {
    let mounted = at.observed.inventory.site.mounted;
    one((!mounted).then(|| case(at, "it is not mounted").steps([mount(at)])))
}

fn directory_open(at: &Site<'_>) -> Vec<Case> {
    let directory = at.facts.directory;
    let open = directory.filter(|(mode, owner)| is_open(*mode, *owner));
    one(open.map(|(mode, owner)| {
        let what = format!(
            "mode {mode:04o} and owner {owner}, not 0700 and 0: users of the host may reach files of jails"
        );
        let object = at.observed.inventory.site.directory.display();
        Case::new(object, what).steps([mount(at)])
    }))
}
