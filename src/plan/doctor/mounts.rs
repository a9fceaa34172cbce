//! The mount table: every dataset in its place with its flags, bases read-only, nothing over a jail or a base.

use std::path::{Path, PathBuf};

use super::{Examination, Facts, Site, generations, one};
use crate::model::{Flags, Generation, Half, Inventory, Mount};
use crate::name::{DatasetName, GenerationId};
use crate::plan::check::{self, Case, Check, Row};
use crate::plan::finding::{Severity, What};
use crate::plan::mount::is_open;
use crate::plan::{MountAs, PlanError, Step, ways};

/// A dataset and the place where ezz mounts it.
struct Place<'a> {
    facts: &'a Facts,
    dataset: &'a DatasetName,
    at: PathBuf,
    how: MountAs,
    /// Whether zfs says that it is mounted.
    mounted: bool,
}

/// The rows of all tables of this file.
pub(super) fn rows() -> Vec<Row> {
    [
        check::rows(&flags()),
        check::rows(&over()),
        check::rows(&place()),
        check::rows(&writable()),
        check::rows(&left()),
    ]
    .concat()
}

pub(super) fn examine(examination: &mut Examination<'_>) -> Result<(), PlanError> {
    let site = examination.site;
    let (flags, over, place, writable) = (flags(), over(), place(), writable());
    if let Some(it) = site_place(&site) {
        examination.run(&over, &it)?;
        examination.run(&flags, &it)?;
    }
    for it in halves(&site) {
        examination.run(&flags, &it)?;
    }
    for it in bases(&site) {
        examination.run(&writable, &it)?;
        examination.run(&place, &it)?;
        examination.run(&over, &it)?;
    }
    examination.run(&left(), &site)?;
    for it in jails(&site) {
        examination.run(&place, &it)?;
        examination.run(&over, &it)?;
        examination.run(&flags, &it)?;
    }
    Ok(())
}

/// The site's own dataset, if it is mounted.
fn site_place<'a>(site: &Site<'a>) -> Option<Place<'a>> {
    let found = &site.observed.inventory.site;
    found.mounted.then(|| Place {
        facts: site.facts,
        dataset: &found.layout.site,
        at: found.directory.clone(),
        how: MountAs::Site,
        mounted: true,
    })
}

/// Both halves of each generation. At boot zfs(8) also mounts a base that an interrupted command was building. A stage
/// that this repair destroys, or that a command works on, is left alone.
fn halves<'a>(site: &Site<'a>) -> Vec<Place<'a>> {
    let (inventory, facts) = (&site.observed.inventory, site.facts);
    let of = |generation: &'a Generation| {
        let how = match generation.sealed() {
            true => Some(MountAs::Base),
            false if site.derived_only && facts.abandoned.contains(&generation.id) => {
                Some(MountAs::Staged)
            }
            false => None,
        };
        let place = move |half: &'a Half, parent: &str, how| Place {
            facts,
            dataset: &half.dataset,
            at: inventory
                .site
                .directory
                .join(parent)
                .join(half.dataset.leaf()),
            how,
            mounted: half.mounted,
        };
        let halves = [
            (generation.base.as_ref(), "basejail"),
            (generation.skeleton.as_ref(), "newjail"),
        ];
        let halves = halves.map(move |(half, parent)| {
            let half = half.filter(|half| !half.pruned)?;
            Some(place(half, parent, how?))
        });
        halves.into_iter().flatten()
    };
    inventory.generations.values().flat_map(of).collect()
}

fn bases<'a>(site: &Site<'a>) -> Vec<Place<'a>> {
    let inventory = &site.observed.inventory;
    let sealed = inventory.generations.values().filter(|it| it.sealed());
    let bases = sealed.filter_map(|generation| generation.base.as_ref());
    let directory = inventory.site.directory.join("basejail");
    bases
        .map(|base| Place {
            facts: site.facts,
            dataset: &base.dataset,
            at: directory.join(base.dataset.leaf()),
            how: MountAs::Base,
            mounted: base.mounted,
        })
        .collect()
}

fn jails<'a>(site: &Site<'a>) -> Vec<Place<'a>> {
    let inventory = &site.observed.inventory;
    let jails = inventory.jails.values();
    jails
        .map(|jail| Place {
            facts: site.facts,
            dataset: &jail.dataset,
            at: inventory.site.directory.join(jail.name.as_str()),
            how: MountAs::Jail,
            mounted: jail.mounted,
        })
        .collect()
}

/// `zfs mount -a` causes missing flags at every boot: no reason for an alarm while the site directory is closed.
fn flags<'a>() -> [Check<Place<'a>>; 2] {
    [
        Check::new(What::MountFlags, Severity::Debris, |it: &Place<'_>| {
            it.lacks_flags(true)
        }),
        Check::new(What::MountFlags, Severity::Info, |it: &Place<'_>| {
            it.lacks_flags(false)
        }),
    ]
}

fn over<'a>() -> [Check<Place<'a>>; 1] {
    [Check::new(
        What::MountedOver,
        Severity::Broken,
        mounted_over,
    )]
}

fn place<'a>() -> [Check<Place<'a>>; 1] {
    [Check::new(
        What::MountedElsewhere,
        Severity::Broken,
        mounted_elsewhere,
    )]
}

fn writable<'a>() -> [Check<Place<'a>>; 1] {
    [Check::new(
        What::MountedWritable,
        Severity::Broken,
        mounted_writable,
    )]
}

fn left<'a>() -> [Check<Site<'a>>; 2] {
    [
        Check::new(What::HostLeft, Severity::Debris, generations_left),
        Check::new(What::HostLeft, Severity::Debris, snapshots_left)
            .cause("a `merge` that was killed"),
    ]
}

impl Place<'_> {
    /// All mounts of its dataset.
    fn mounts(&self) -> impl Iterator<Item = &Mount> {
        mounts_of(self.dataset, self.facts)
    }

    /// The mount that is seen in its place.
    fn visible(&self) -> Option<&Mount> {
        let mounts = self.facts.mounts.iter();
        mounts.rev().find(|mount| mount.target == self.at)
    }

    /// Whether the mount of its dataset, in its place, lacks flags that ezz gives it; with `exposed`, flags that
    /// nothing else makes up for.
    fn lacks_flags(&self, exposed: bool) -> Vec<Case> {
        let visible = self.visible();
        let mount = visible.filter(|mount| mount.source == self.dataset.as_str());
        let lacks = mount.map(|mount| self.how.lacks(mount.flags));
        let Some(lacks) = lacks.filter(|lacks| lacks.any()) else {
            return Vec::new();
        };
        let directory = self.facts.directory;
        let open = directory.is_some_and(|(mode, owner)| is_open(mode, owner));
        if exposed != (open && (lacks.nosuid || lacks.nodev)) {
            return Vec::new();
        }
        let means = match (lacks, open) {
            (Flags { nosuid: true, .. }, true) => {
                "users of the host can run its set-user-ID programs as root"
            }
            (Flags { nodev: true, .. }, true) => "users of the host can use device nodes in it",
            (Flags { nosuid: true, .. } | Flags { nodev: true, .. }, false) => {
                "only the mode of the site directory protects its contents from users of the host"
            }
            _ => "reading its files writes to the pool",
        };
        let (at, words) = (self.at.display(), lacks.words().join(", "));
        let what = format!("mounted at {at} without {words}: {means}");
        let step = Step::mount(self.dataset.clone(), self.at.clone(), self.how);
        vec![Case::new(self.dataset, what).steps([step])]
    }
}

fn mounts_of<'a>(dataset: &'a DatasetName, facts: &'a Facts) -> impl Iterator<Item = &'a Mount> {
    let mounts = facts.mounts.iter();
    mounts.filter(move |mount| mount.source == dataset.as_str())
}

fn mounted_writable(place: &Place<'_>) -> Vec<Case> {
    let writable = place.mounts().filter(|mount| !mount.flags.read_only);
    writable
        .map(|mount| {
            let target = mount.target.display();
            let what = format!("mounted at {target} so that it can be written");
            Case::new(place.dataset, what)
                .hint(format!("`umount {target}`, then `ezz doctor --repair`"))
        })
        .collect()
}

fn mounted_elsewhere(place: &Place<'_>) -> Vec<Case> {
    let facts = place.facts;
    if facts.mounts.is_empty() {
        return Vec::new();
    }
    let there = place.mounts().any(|mount| mount.target == place.at);
    let read = |mount: &Mount| facts.verify.iter().any(|(_, at)| mount.target == *at);
    let elsewhere = place.mounts().find(|mount| mount.whole && !read(mount));
    let only_read = elsewhere.is_none() && place.mounts().any(read);
    one((place.mounted && !there && !only_read).then(|| {
        let at = place.at.display();
        let what = match elsewhere {
            Some(mount) => format!("mounted at {}, not at {at}", mount.target.display()),
            None => format!("mounted, but not at {at}"),
        };
        let dataset = place.dataset;
        Case::new(dataset, what).hint(format!(
            "unmount it there, then `ezz doctor --repair`: {dataset}"
        ))
    }))
}

/// The mount that came last hides the others.
fn mounted_over(place: &Place<'_>) -> Vec<Case> {
    let visible = place.visible();
    let other = visible.filter(|mount| mount.source != place.dataset.as_str());
    one(other.map(|mount| {
        let at = place.at.display();
        Case::new(
            place.dataset,
            format!("{} is mounted over it, at {at}", mount.source),
        )
        .hint(format!("`umount {at}`"))
    }))
}

fn generations_left(site: &Site<'_>) -> Vec<Case> {
    let left = site.facts.verify.iter();
    left.filter_map(|(id, at)| generation_left(site, *id, at))
        .collect()
}

/// A base or skeleton that a command had mounted below /run to read it.
fn generation_left(at: &Site<'_>, id: GenerationId, target: &Path) -> Option<Case> {
    let (inventory, facts) = (&at.observed.inventory, at.facts);
    let site = &inventory.site;
    let name = target.file_name().unwrap_or_default().as_encoded_bytes();
    let of_merge = name.starts_with(b"merge-");
    let half = match of_merge {
        true => site.layout.skeleton(id),
        false => site.layout.base(id),
    };
    let dataset = half.ok()?;
    let mut mounts = facts.mounts.iter().rev();
    let there = mounts.find(|mount| mount.target == target);
    // Another site of this host has generations with the same numbers.
    if there.is_some_and(|mount| mount.source != dataset.as_str()) {
        return None;
    }
    let unmount = there.map(|_| Step::unmount(dataset.clone(), target.to_owned()));
    let remove = Step::RemoveDirectory {
        at: target.to_owned(),
    };
    let again = match of_merge {
        true => None,
        false => mount_again(inventory, facts, id, &dataset),
    };
    let cause = match of_merge {
        true => "a `merge` that was killed",
        false => "a `world verify` that was killed",
    };
    let what = format!("generation {id} is still mounted there");
    let steps = unmount.into_iter().chain([remove]).chain(again);
    Some(Case::new(target.display(), what).cause(cause).steps(steps))
}

/// Mounts a base in its place whose only mount was elsewhere, so that it did not count as unmounted.
fn mount_again(
    inventory: &Inventory,
    facts: &Facts,
    id: GenerationId,
    dataset: &DatasetName,
) -> Option<Step> {
    let directory = inventory.site.directory.join("basejail");
    let home = directory.join(dataset.leaf());
    let base = inventory.sealed(id)?.base.as_ref()?;
    let mut mounts = mounts_of(dataset, facts);
    let due = base.mounted && base.mountpoint == home && !mounts.any(|mount| mount.target == home);
    due.then(|| generations::mount(base, &home))
}

fn snapshots_left(site: &Site<'_>) -> Vec<Case> {
    let left = site.facts.undo.iter();
    left.filter_map(|at| {
        let steps = ways::left(&site.observed.inventory, &site.facts.mounts, at)?;
        let what = "a snapshot of a jail is still mounted there";
        Some(Case::new(at.display(), what).steps(steps))
    })
    .collect()
}
