//! The site itself, its tracks, its directories, and what is in it and not ezz's.

use std::path::{Path, PathBuf};

use super::{Diagnosis, EntryKind, Facts, Finding, Severity, What};
use crate::model::{CACHE, FORMAT, Inventory, Phase, property};
use crate::name::{GenerationId, JailName, RESERVED};
use crate::plan::mount::is_open;
use crate::plan::{MountAs, Step};

pub(super) fn check(inventory: &Inventory, facts: &Facts, found: &mut Diagnosis) {
    let site = &inventory.site;
    let name = &site.layout.site;
    if site.replica {
        let finding = Finding::new(
            What::Replica,
            Severity::Info,
            name,
            "a replica: its properties came with a zfs receive, and ezz only reads it",
        );
        found.add(finding.hint("`ezz doctor --adopt` makes it a site of its own"));
    }
    if site.read_only {
        let what = "it is read-only: only mounts can be repaired";
        let finding = Finding::new(What::ReadOnly, Severity::Info, name, what);
        found.add(finding.hint("`zpool get readonly` and `zfs get readonly` show why"));
    }
    if site.format != FORMAT {
        let what = format!("its format {} is unknown", site.format);
        let finding = Finding::new(What::FormatUnknown, Severity::Broken, name, what);
        found.add(finding.hint("use the ezz that made it, or a later one"));
    }
    let mut sealed = inventory.generations.values().filter(|one| one.sealed());
    let last = sealed.next_back().map(|one| one.id);
    if let Some(last) = last.filter(|last| last.0 > site.seq) {
        let what = format!(
            "{} is {}, but generation {last} exists: the next install would use a number twice",
            property::SEQ,
            site.seq
        );
        let hint = format!("`zfs set {}={last} {name}`", property::SEQ);
        found.add(Finding::new(What::SeqBehind, Severity::Broken, name, what).hint(hint));
    }
    if !facts.datasets.is_empty() {
        let layout = &site.layout;
        for part in [&layout.basejail, &layout.newjail, &layout.jails] {
            if !facts.datasets.contains_key(part.as_str()) {
                let what = "it does not exist";
                found.add(
                    Finding::new(What::DatasetMissing, Severity::Broken, part, what)
                        .hint("`zfs create` creates an empty one, if it had no contents"),
                );
            }
        }
    }
    let mount = Step::mount(name.clone(), site.directory.clone(), MountAs::Site);
    if !site.mounted {
        let finding = Finding::new(
            What::NotMounted,
            Severity::Debris,
            name,
            "it is not mounted",
        );
        found.mend(finding, [mount.clone()]);
    }
    if let Some((mode, owner)) = facts.directory {
        if is_open(mode, owner) {
            let what = format!(
                "mode {mode:04o} and owner {owner}, not 0700 and 0: users of the host may reach files of jails"
            );
            let object = site.directory.display();
            let finding = Finding::new(What::DirectoryOpen, Severity::Debris, object, what);
            found.mend(finding, [mount]);
        }
    }
    tracks(inventory, facts, found);
    directories(inventory, facts, found);
}

fn tracks(inventory: &Inventory, facts: &Facts, found: &mut Diagnosis) {
    for (name, track) in &inventory.tracks {
        let object = format!("track {name}");
        for id in [track.current, track.previous].into_iter().flatten() {
            if inventory.sealed(id).is_none() {
                let what =
                    format!("it names generation {id}, which does not exist or is not sealed");
                found.add(
                    Finding::new(What::TrackBroken, Severity::Broken, &object, what).hint(
                        "`ezz world list` shows the generations; `ezz help track` describes the commands that set it",
                    ),
                );
            }
        }
        let Some(current) = track.current else {
            continue;
        };
        let target = PathBuf::from(format!("../{current}"));
        if facts.links.get(name).and_then(Option::as_ref) != Some(&target) {
            let finding = Finding::new(
                What::LinkWrong,
                Severity::Debris,
                object,
                "its link does not point to its generation",
            );
            let step = Step::Link {
                track: name.clone(),
                generation: current,
                directory: inventory.site.directory.clone(),
            };
            found.mend(finding, [step]);
        }
    }
    for (name, under_way) in &inventory.rollouts {
        let object = format!("track {name}");
        found.add(match &under_way.rollout {
            Ok(rollout) => {
                let how_far = match rollout.phase {
                    Phase::Canaries => "canaries are being checked",
                    Phase::Swapped => "jails are being restarted",
                    Phase::Back => "jails are being rolled back",
                };
                let what = format!(
                    "a roll-out from generation {} to {} is under way: {how_far}",
                    rollout.from, rollout.to
                );
                Finding::new(What::Rollout, Severity::Info, object, what).hint(format!(
                    "`ezz update --track {name} --continue` resumes an interrupted one, --abort rolls it back"
                ))
            }
            Err(why) => {
                let what = format!("its roll-out cannot be read: {why}");
                Finding::new(What::Rollout, Severity::Broken, object, what)
                    .hint("`zfs get all` of the site's basejail shows it; was it edited by hand?")
            }
        });
    }
    for (name, link) in &facts.links {
        let wanted = inventory.tracks.get(name).and_then(|track| track.current);
        if link.is_some() && wanted.is_none() {
            let finding = Finding::new(
                What::LinkLeft,
                Severity::Debris,
                format!("track {name}"),
                "it has a link, but no generation, or it does not exist",
            )
            .made_by("an interrupted deletion of a track");
            let step = Step::Unlink {
                track: name.clone(),
                directory: inventory.site.directory.clone(),
            };
            found.mend(finding, [step]);
        }
    }
}

/// What is below the site directory and is no dataset's mount point.
fn directories(inventory: &Inventory, facts: &Facts, found: &mut Diagnosis) {
    let site = &inventory.site;
    for entry in &facts.entries {
        // What is mounted there is told as a dataset of others, or is none of ZFS's.
        let mounted = facts.mounts.iter().any(|mount| mount.target == entry.path);
        if mounted || is_known(inventory, &entry.path) {
            continue;
        }
        let object = entry.path.display();
        if entry.path.extension().is_some_and(|ext| ext == "new")
            && entry
                .path
                .starts_with(site.directory.join("basejail/tracks"))
        {
            let what = "an unfinished link; the next one of its track replaces it";
            found.add(
                Finding::new(What::LinkLeft, Severity::Info, object, what)
                    .made_by("an interrupted change of a track"),
            );
            continue;
        }
        let what = match entry.kind {
            // Only what may have been a mount point of ezz's: somebody may have use for others.
            EntryKind::Empty if could_be_ours(&site.directory, &entry.path) => {
                let finding = Finding::new(
                    What::DirectoryLeft,
                    Severity::Debris,
                    object,
                    "an empty directory without a dataset",
                )
                .made_by("an interrupted create, delete or install");
                let at = entry.path.clone();
                found.mend(finding, [Step::RemoveDirectory { at }]);
                continue;
            }
            EntryKind::Empty => "a directory that ezz did not create",
            EntryKind::Full => {
                "a directory without a dataset that is not empty: it stays, and no jail can have its name"
            }
            EntryKind::Other => "not a directory, and not created by ezz: it stays",
        };
        found.add(
            Finding::new(What::DirectoryForeign, Severity::Info, object, what)
                .hint("move it away if you do not need it there"),
        );
    }
}

fn parts<'a>(directory: &Path, path: &'a Path) -> Option<Vec<&'a str>> {
    let below = path.strip_prefix(directory).ok()?;
    below.iter().map(|part| part.to_str()).collect()
}

fn is_known(inventory: &Inventory, path: &Path) -> bool {
    match parts(&inventory.site.directory, path).as_deref() {
        Some([name]) => {
            RESERVED.contains(name)
                || *name == CACHE
                || JailName::parse(name).is_ok_and(|jail| {
                    inventory.jails.contains_key(&jail) || inventory.debris.contains_key(&jail)
                })
                || inventory
                    .strangers
                    .iter()
                    .any(|other| other.dataset.rsplit('/').next() == Some(*name))
        }
        Some(["basejail", "tracks"]) => true,
        Some(["basejail" | "newjail", number]) => GenerationId::from_component(number)
            .is_some_and(|id| inventory.generations.contains_key(&id)),
        _ => false,
    }
}

fn could_be_ours(directory: &Path, path: &Path) -> bool {
    match parts(directory, path).as_deref() {
        Some([name]) => JailName::parse(name).is_ok(),
        Some(["basejail" | "newjail", number]) => GenerationId::from_component(number).is_some(),
        _ => false,
    }
}
