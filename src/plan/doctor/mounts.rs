//! The mount table: every dataset in its place with its flags, bases read-only, nothing over a jail or a base.

use std::path::Path;

use super::generations;
use super::{Diagnosis, Facts, Finding, Severity, What};
use crate::model::{Flags, Inventory, Mount};
use crate::name::{DatasetName, GenerationId};
use crate::plan::mount::is_open;
use crate::plan::{MountAs, Step, ways};

pub(super) fn check(
    inventory: &Inventory,
    facts: &Facts,
    derived_only: bool,
    found: &mut Diagnosis,
) {
    let site = &inventory.site;
    let directory = &site.directory;
    if site.mounted {
        over(&site.layout.site, directory, facts, found);
        flags(&site.layout.site, directory, MountAs::Site, facts, found);
    }
    halves(inventory, facts, derived_only, found);
    for generation in inventory.generations.values() {
        let Some(base) = generation.base.as_ref().filter(|_| generation.sealed()) else {
            continue;
        };
        let at = directory.join("basejail").join(base.dataset.leaf());
        for mount in of(&base.dataset, facts) {
            if !mount.flags.read_only {
                let what = format!(
                    "mounted at {} so that it can be written",
                    mount.target.display()
                );
                let hint = format!(
                    "`umount {}`, then `ezz doctor --repair`",
                    mount.target.display()
                );
                found.add(
                    Finding::new(What::MountedWritable, Severity::Broken, &base.dataset, what)
                        .hint(hint),
                );
            }
        }
        place(&base.dataset, base.mounted, &at, facts, found);
    }
    for (id, at) in &facts.verify {
        verify(inventory, *id, at, facts, found);
    }
    for at in &facts.undo {
        let Some(steps) = ways::left(inventory, &facts.mounts, at) else {
            continue;
        };
        let what = "a snapshot of a jail is still mounted there".to_owned();
        let finding = Finding::new(What::HostLeft, Severity::Debris, at.display(), what);
        found.mend(finding.made_by("a `merge` that was killed"), steps);
    }
    for jail in inventory.jails.values() {
        let at = directory.join(jail.name.as_str());
        place(&jail.dataset, jail.mounted, &at, facts, found);
        flags(&jail.dataset, &at, MountAs::Jail, facts, found);
    }
}

/// Checks the flags of both halves of each generation. At boot zfs(8) also mounts a base that an interrupted
/// command was building. A stage that this repair destroys, or that a command works on, is left alone.
fn halves(inventory: &Inventory, facts: &Facts, derived_only: bool, found: &mut Diagnosis) {
    for generation in inventory.generations.values() {
        let how = match generation.sealed() {
            true => MountAs::Base,
            false if derived_only && facts.abandoned.contains(&generation.id) => MountAs::Staged,
            false => continue,
        };
        let halves = [
            (&generation.base, "basejail"),
            (&generation.skeleton, "newjail"),
        ];
        for (half, parent) in halves {
            let Some(half) = half.as_ref().filter(|half| !half.pruned) else {
                continue;
            };
            let at = inventory.site.directory.join(parent);
            flags(
                &half.dataset,
                &at.join(half.dataset.leaf()),
                how,
                facts,
                found,
            );
        }
    }
}

/// Whether the host's mount of a dataset, in its place, has the flags that ezz gives it.
fn flags(dataset: &DatasetName, at: &Path, how: MountAs, facts: &Facts, found: &mut Diagnosis) {
    let last = facts.mounts.iter().rfind(|mount| mount.target == at);
    let Some(mount) = last.filter(|mount| mount.source == dataset.as_str()) else {
        return;
    };
    let lacks = how.lacks(mount.flags);
    if !lacks.any() {
        return;
    }
    let open = facts
        .directory
        .is_some_and(|(mode, owner)| is_open(mode, owner));
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
    let what = format!(
        "mounted at {} without {}: {means}",
        at.display(),
        lacks.words().join(", ")
    );
    // `zfs mount -a` causes this at every boot: no reason for an alarm while the directory is closed.
    let severity = match open && (lacks.nosuid || lacks.nodev) {
        true => Severity::Debris,
        false => Severity::Info,
    };
    let step = Step::mount(dataset.clone(), at.to_owned(), how);
    found.mend(
        Finding::new(What::MountFlags, severity, dataset, what),
        [step],
    );
}

fn verify(
    inventory: &Inventory,
    id: GenerationId,
    at: &Path,
    facts: &Facts,
    found: &mut Diagnosis,
) {
    let site = &inventory.site;
    let name = at.file_name().unwrap_or_default().as_encoded_bytes();
    let of_merge = name.starts_with(b"merge-");
    let half = if of_merge {
        site.layout.skeleton(id)
    } else {
        site.layout.base(id)
    };
    let Ok(dataset) = half else { return };
    let there = facts.mounts.iter().rfind(|mount| mount.target == at);
    // Another site of this host has generations of the same numbers.
    if there.is_some_and(|mount| mount.source != dataset.as_str()) {
        return;
    }
    let finding = Finding::new(
        What::HostLeft,
        Severity::Debris,
        at.display(),
        format!("generation {id} is still mounted there"),
    )
    .made_by(if of_merge {
        "a `merge` that was killed"
    } else {
        "a `world verify` that was killed"
    });
    let at = at.to_owned();
    let unmount = there.map(|_| Step::unmount(dataset.clone(), at.clone()));
    let remove = Step::RemoveDirectory { at };
    let home = site.directory.join("basejail").join(dataset.leaf());
    let base = inventory
        .sealed(id)
        .and_then(|generation| generation.base.as_ref());
    // Its only mount was that one, so that it did not count as unmounted.
    let again = base
        .filter(|_| !of_merge)
        .filter(|base| base.mounted && base.mountpoint == home)
        .filter(|_| !of(&dataset, facts).any(|mount| mount.target == home))
        .map(|base| generations::mount(base, &home));
    found.mend(finding, unmount.into_iter().chain([remove]).chain(again));
}

fn of<'a>(dataset: &'a DatasetName, facts: &'a Facts) -> impl Iterator<Item = &'a Mount> {
    facts
        .mounts
        .iter()
        .filter(move |mount| mount.source == dataset.as_str())
}

/// That a mounted dataset is where it should be, and nothing else is.
fn place(dataset: &DatasetName, mounted: bool, at: &Path, facts: &Facts, found: &mut Diagnosis) {
    if facts.mounts.is_empty() {
        return;
    }
    let there = of(dataset, facts).any(|mount| mount.target == at);
    let read = |mount: &Mount| facts.verify.iter().any(|(_, at)| mount.target == *at);
    let elsewhere = of(dataset, facts).find(|mount| mount.whole && !read(mount));
    let only_read = elsewhere.is_none() && of(dataset, facts).any(read);
    if mounted && !there && !only_read {
        let what = match elsewhere {
            Some(mount) => format!(
                "mounted at {}, not at {}",
                mount.target.display(),
                at.display()
            ),
            None => format!("mounted, but not at {}", at.display()),
        };
        let hint = format!("unmount it there, then `ezz doctor --repair`: {dataset}");
        found.add(Finding::new(What::MountedElsewhere, Severity::Broken, dataset, what).hint(hint));
    }
    over(dataset, at, facts, found);
}

/// What hides a directory is what was mounted there last.
fn over(dataset: &DatasetName, at: &Path, facts: &Facts, found: &mut Diagnosis) {
    let last = facts.mounts.iter().rfind(|mount| mount.target == at);
    if let Some(mount) = last.filter(|mount| mount.source != dataset.as_str()) {
        let what = format!("{} is mounted over it, at {}", mount.source, at.display());
        let hint = format!("`umount {}`", at.display());
        found.add(Finding::new(What::MountedOver, Severity::Broken, dataset, what).hint(hint));
    }
}
