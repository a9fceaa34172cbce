//! Snapshots, bookmarks and datasets of others. A host that replicates, or takes snapshots by a timer, has
//! thousands: they are few findings, however many there are.

use std::collections::{BTreeMap, BTreeSet};

use super::{Examination, Facts, Site, Snapshot};
use crate::model::{Inventory, Jail, property};
use crate::name::DatasetName;
use crate::plan::check::{Case, Check};
use crate::plan::finding::{Severity, What};
use crate::plan::{PlanError, deletion};

/// So many datasets are a finding each; more are one.
const EACH: usize = 3;

/// So many names are in the text of a finding.
const SHOWN: usize = 3;

/// What others have put on one dataset.
struct Group<'a> {
    /// What it is called.
    object: String,
    dataset: &'a DatasetName,
    /// Names, and how many holds are on each.
    names: BTreeMap<&'a str, u64>,
}

pub(super) fn examine(examination: &mut Examination<'_>) -> Result<(), PlanError> {
    let site = examination.site;
    examination.run(&checks(), &site)
}

pub(super) fn checks<'a>() -> [Check<Site<'a>>; 5] {
    const INFO: Severity = Severity::Info;
    [
        Check::new(What::SnapshotForeign, INFO, snapshots_of_worlds).hint(
            "`ezz world prune` keeps the generations that have them, unless you give --foreign-snapshots; com.sun:auto-snapshot is false there, and docs/recovery.md describes how sanoid, zrepl and `zfs snapshot -r` skip them",
        ),
        Check::new(What::SnapshotForeign, INFO, snapshots_of_jails)
            .hint("`ezz delete` destroys them with the jail only with --foreign-snapshots"),
        Check::new(What::SnapshotForeign, INFO, |it: &Site<'_>| {
            datasets(it, What::SnapshotForeign)
        }),
        Check::new(What::DatasetForeign, INFO, |it: &Site<'_>| {
            datasets(it, What::DatasetForeign)
        }),
        Check::new(What::JailIgnored, INFO, |it: &Site<'_>| datasets(it, What::JailIgnored)),
    ]
}

fn snapshots_of_worlds(site: &Site<'_>) -> Vec<Case> {
    let inventory = &site.observed.inventory;
    let parent = inventory.site.layout.basejail.to_string();
    cases(
        worlds(inventory, site.facts),
        parent,
        "halves of generations",
    )
}

fn snapshots_of_jails(site: &Site<'_>) -> Vec<Case> {
    let inventory = &site.observed.inventory;
    let parent = inventory.site.layout.jails.to_string();
    cases(jails(inventory, site.facts), parent, "jails")
}

/// On bases and skeletons. Those of bases are known by the observation, those of skeletons only by the facts.
fn worlds<'a>(inventory: &'a Inventory, facts: &'a Facts) -> Vec<Group<'a>> {
    let generations = inventory.generations.values();
    let halves = generations.flat_map(|it| [&it.base, &it.skeleton].into_iter().flatten());
    let mut groups = Vec::new();
    for half in halves {
        let prefix = format!("{}@", half.dataset);
        // The snapshot of a pruned base that a thick jail is a clone of.
        let own = |name: &str| {
            let number = name.strip_prefix(&prefix);
            number.is_some_and(|number| {
                number == half.dataset.leaf()
                    || half.moved.keys().any(|it| number == it.to_string())
            })
        };
        let mut names: BTreeMap<&str, u64> = snapshots_of(&half.dataset, facts)
            .filter(|(name, _)| !own(name))
            .map(|(name, snapshot)| (name.as_str(), snapshot.holds))
            .collect();
        for stranger in &inventory.strangers {
            if stranger.dataset.starts_with(&prefix) {
                names.entry(&stranger.dataset).or_insert(0);
            }
        }
        groups.push(Group {
            object: half.dataset.to_string(),
            dataset: &half.dataset,
            names,
        });
    }
    groups.retain(|group| !group.names.is_empty());
    groups
}

fn jails<'a>(inventory: &'a Inventory, facts: &'a Facts) -> Vec<Group<'a>> {
    let jails = inventory.jails.values();
    let ready = jails.filter(|jail| jail.config.as_ref().is_ok_and(|it| it.todo.is_empty()));
    // Those of a jail that was promoted over its generation are reported there.
    let halves = inventory.generations.values();
    let halves = halves.flat_map(|it| [&it.base, &it.skeleton].into_iter().flatten());
    let promoted: BTreeSet<&str> = halves.filter_map(|half| half.origin.as_deref()).collect();
    let group = |jail: &'a Jail| Group {
        object: format!("jail {}", jail.name),
        dataset: &jail.dataset,
        names: snapshots_of(&jail.dataset, facts)
            .filter(|(name, _)| {
                !deletion::is_own_snapshot(jail, name) && !promoted.contains(name.as_str())
            })
            .map(|(name, snapshot)| (name.as_str(), snapshot.holds))
            .collect(),
    };
    let mut groups: Vec<Group<'a>> = ready.map(group).collect();
    groups.retain(|group| !group.names.is_empty());
    groups
}

/// A case for each of a few datasets; one for many.
fn cases(groups: Vec<Group<'_>>, parent: String, many: &str) -> Vec<Case> {
    let case = |object: String, what: String, names: Vec<&str>| {
        let objects = match names.len() {
            1 => Vec::new(),
            _ => names.into_iter().map(str::to_owned).collect(),
        };
        Case::new(object, what).of(objects)
    };
    if groups.is_empty() {
        return Vec::new();
    }
    if groups.len() <= EACH {
        let mut found = Vec::new();
        for Group {
            object,
            dataset,
            names,
        } in groups
        {
            let all: Vec<&str> = names.keys().copied().collect();
            let (object, what) = match all[..] {
                [one] if *dataset.as_str() == *object => {
                    let kind = if one.contains('#') {
                        "bookmark"
                    } else {
                        "snapshot"
                    };
                    let what = format!("a {kind} that ezz did not create{}", held(names.values()));
                    (one.to_owned(), what)
                }
                _ => {
                    let shown = all.iter().take(SHOWN);
                    let shown: Vec<&str> = shown.map(|it| &it[dataset.as_str().len()..]).collect();
                    let more = if all.len() > SHOWN { " …" } else { "" };
                    let what = format!(
                        "{} that ezz did not create{}: {}{more}",
                        count(all.len()),
                        held(names.values()),
                        shown.join(", ")
                    );
                    (object, what)
                }
            };
            found.push(case(object, what, all));
        }
        return found;
    }
    let all: Vec<&str> = groups
        .iter()
        .flat_map(|it| it.names.keys().copied())
        .collect();
    let what = format!(
        "{} on {} {many} that ezz did not create{}, such as {}",
        count(all.len()),
        groups.len(),
        held(groups.iter().flat_map(|it| it.names.values())),
        all.first().copied().unwrap_or_default()
    );
    vec![case(parent, what, all)]
}

fn count(number: usize) -> String {
    match number {
        1 => "a snapshot or bookmark".to_owned(),
        n => format!("{n} snapshots and bookmarks"),
    }
}

fn held<'n>(holds: impl Iterator<Item = &'n u64>) -> String {
    match holds.filter(|holds| **holds > 0).count() {
        0 => String::new(),
        n => format!(", {n} of them held"),
    }
}

/// Snapshots and bookmarks of exactly this dataset.
fn snapshots_of<'a>(
    dataset: &'a DatasetName,
    facts: &'a Facts,
) -> impl Iterator<Item = (&'a String, &'a Snapshot)> {
    // `#` and `@` sort before letters and after the blank: two short ranges, not the whole map.
    ['#', '@'].into_iter().flat_map(move |mark| {
        let prefix = format!("{dataset}{mark}");
        facts
            .snapshots
            .range(prefix.clone()..)
            .take_while(move |(name, _)| name.starts_with(&prefix))
    })
}

/// Datasets that ezz did not create, and what else the observation has found, of one kind.
fn datasets(site: &Site<'_>, wanted: What) -> Vec<Case> {
    let (inventory, facts) = (&site.observed.inventory, site.facts);
    let mut all: BTreeMap<(What, &str), Vec<&str>> = BTreeMap::new();
    let known = |dataset: &str| {
        let halves = inventory.generations.values();
        let mut halves = halves.flat_map(|it| [&it.base, &it.skeleton].into_iter().flatten());
        halves.any(|half| half.dataset.as_str() == dataset)
    };
    for stranger in &inventory.strangers {
        let kind = match stranger.dataset.split_once('@') {
            // Reported with its generation.
            Some((dataset, _)) if known(dataset) => continue,
            Some(_) => What::SnapshotForeign,
            None => What::DatasetForeign,
        };
        let names = all.entry((kind, &stranger.why)).or_default();
        names.push(&stranger.dataset);
    }
    let layout = &inventory.site.layout;
    let own = [&layout.basejail, &layout.newjail, &layout.jails];
    let prefix = format!("{}/", layout.site);
    for (dataset, settings) in &facts.datasets {
        let Some(below) = dataset.strip_prefix(&prefix) else {
            continue;
        };
        let parts: Vec<&str> = below.split('/').collect();
        let ignored = settings.get(property::JAIL).is_some_and(|found| found.own);
        let what = match parts[..] {
            [_] if own.iter().any(|part| part.as_str() == dataset) => continue,
            // Jails, generations, and what the observation has found already.
            ["basejail" | "newjail" | "jails", _] => continue,
            ["jails", ..] if ignored => {
                "it has an ezz:jail, but it is not directly below SITE/jails, so it is not a jail"
            }
            ["jails", ..] => {
                "a dataset below a jail: `ezz delete` destroys it only with --foreign-snapshots"
            }
            ["basejail", _, _] => continue,
            _ => "a dataset that ezz did not create",
        };
        let kind = if ignored {
            What::JailIgnored
        } else {
            What::DatasetForeign
        };
        all.entry((kind, what)).or_default().push(dataset);
    }
    all.retain(|(kind, _), _| *kind == wanted);
    let mut found = Vec::new();
    for ((_, what), names) in all {
        match names[..] {
            [] => {}
            [first, ref rest @ ..] if rest.len() >= EACH => {
                let what = format!("{what}; {} more are like it", rest.len());
                let objects = names.iter().map(|it| (*it).to_owned()).collect();
                found.push(Case::new(first, what).of(objects));
            }
            _ => found.extend(names.into_iter().map(|name| Case::new(name, what))),
        }
    }
    found
}
