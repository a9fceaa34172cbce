//! Finds what keeps the halves of generations: tracks, jails, roll-outs, and objects that ezz did not create.
//! This module must not decide what happens to the other generations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Request;
use crate::model::{Base, Half, Inventory, JailState, Kind};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::{Observed, lookup, track, ways};

/// Why a half of a generation stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The generation is being built.
    Staged,
    /// The generation is the current one of this track.
    Current(TrackName),
    /// The generation is the previous one of this track.
    Previous(TrackName),
    /// The generation is among the newest, which the user asked to keep.
    Newest,
    /// The generation is sealed, and no track has been at it yet: an administrator staged it, and may swap to it later.
    Untried,
    /// The user named other generations.
    NotNamed,
    /// The confirmation question did not name the generation.
    NotAsked,
    /// A jail is pinned to the generation.
    Pinned(JailName),
    /// A conflict has pinned this jail, which followed this track, to the generation.
    Held(JailName, TrackName),
    /// A thin jail starts on the generation, since its own files are at it, until they are merged; the flag is whether
    /// it runs.
    Files(JailName, bool),
    /// A jail runs on the generation.
    Runs(JailName),
    /// A thick jail is a clone of the base, and no other base could take its place.
    Thick(JailName),
    /// The base stays, so the skeleton does, too.
    Partner,
    /// A jail is a clone of the skeleton, or was merged to it.
    Skeleton(JailName),
    /// The way back of a jail's last merge leads to the generation, or to one with the same skeleton.
    WayBack(JailName),
    /// A roll-out of this track is under way.
    Rollout(TrackName),
    /// An object that ezz did not create is below the dataset.
    Foreign(String),
    /// The dataset has this many snapshots that ezz did not create; this is one of them.
    Snapshots(String, usize),
    /// Half of the generation is missing, which `doctor` examines.
    Broken,
    /// A jail that was promoted with zfs(8) has the snapshot of the seal.
    Promoted(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Staged => write!(f, "it is being built"),
            Reason::Current(track) => write!(f, "current of {track}"),
            Reason::Previous(track) => write!(f, "previous of {track}"),
            Reason::Newest => write!(f, "among the newest"),
            Reason::Untried => write!(f, "no track has been swapped to it yet"),
            Reason::NotNamed => write!(f, "it was not named"),
            Reason::NotAsked => write!(
                f,
                "it was in use when this command began; run the command again"
            ),
            Reason::Pinned(jail) => write!(f, "{jail} is pinned to it"),
            Reason::Held(jail, track) => write!(
                f,
                "a conflict has pinned {jail} to it: `ezz merge {jail} --follow {track}` frees it when {jail} is stopped"
            ),
            Reason::Files(jail, true) => write!(
                f,
                "the own files of {jail} are at it: `ezz converge {jail}` frees it"
            ),
            Reason::Files(jail, false) => write!(
                f,
                "the own files of {jail} are at it: `ezz merge {jail}` frees it"
            ),
            Reason::Runs(jail) => write!(f, "{jail} runs on it"),
            Reason::Thick(jail) => write!(f, "thick {jail} is a clone of it"),
            Reason::Partner => write!(f, "its base stays"),
            Reason::Skeleton(jail) => write!(f, "{jail} was made from it"),
            Reason::WayBack(jail) => write!(f, "the last merge of {jail} came from it"),
            Reason::Rollout(track) => write!(f, "roll-out of {track}"),
            Reason::Foreign(name) | Reason::Snapshots(name, 1) => write!(f, "{name} is not ezz's"),
            Reason::Snapshots(name, count) => {
                write!(f, "{name} and {} more snapshots are not ezz's", count - 1)
            }
            Reason::Broken => write!(f, "half of it is missing"),
            Reason::Promoted(jail) => write!(f, "{jail} was promoted and has its snapshot"),
        }
    }
}

/// What keeps the two halves of a generation; empty for a half that can be destroyed, or no longer exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// The reasons that keep the base.
    pub base: BTreeSet<Reason>,
    /// The reasons that keep the skeleton.
    pub skeleton: BTreeSet<Reason>,
}

/// Returns what keeps each generation.
pub fn kept(observed: &Observed, request: &Request) -> BTreeMap<GenerationId, Kept> {
    let inventory = &observed.inventory;
    let mut all: BTreeMap<GenerationId, Kept> = BTreeMap::new();
    for generation in inventory.generations.values() {
        let kept = all.entry(generation.id).or_default();
        let pruned = generation.base.as_ref().is_some_and(|half| half.pruned);
        let promoted = |half: &Option<Half>| {
            let jail = half.as_ref().and_then(|half| inventory.promoted(half));
            jail.map(|jail| Reason::Promoted(jail.to_owned()))
        };
        let over_base = promoted(&generation.base);
        kept.skeleton.extend(promoted(&generation.skeleton));
        if let Some(reason) = over_base {
            kept.base.insert(reason);
        } else if generation.staged() && !pruned {
            kept.base.insert(Reason::Staged);
        } else if !generation.sealed() && !pruned && generation.base.is_some() {
            kept.base.insert(Reason::Broken);
        }
    }
    let sealed = inventory.generations.values().rev().filter(|g| g.sealed());
    for generation in sealed.take(request.newest) {
        base(&mut all, generation.id, Reason::Newest);
    }
    for generation in inventory.generations.values() {
        let id = generation.id;
        let named = request.named.contains(&id);
        let asked = request.asked.as_ref().is_none_or(|all| all.contains(&id));
        let left_out = [
            (!request.named.is_empty() && !named, Reason::NotNamed),
            (!asked, Reason::NotAsked),
        ];
        for (_, reason) in left_out.into_iter().filter(|(out, _)| *out) {
            base(&mut all, id, reason.clone());
            skeleton(&mut all, id, reason);
        }
        // Both times are RFC 3339 in UTC, to the second, so the order of the texts is that of the times.
        let old = request.older.as_ref().is_some_and(|than| {
            let seal = generation.seal();
            seal.is_some_and(|seal| seal.at.as_str() <= than.as_str())
        });
        if !named && !old && track::untried(inventory, generation) {
            base(&mut all, id, Reason::Untried);
        }
    }
    for (name, track) in &inventory.tracks {
        if let Some(id) = track.current {
            base(&mut all, id, Reason::Current(name.clone()));
        }
        if let Some(id) = track.previous {
            base(&mut all, id, Reason::Previous(name.clone()));
        }
    }
    for (name, found) in &inventory.rollouts {
        for rollout in found.rollout.iter() {
            for id in [rollout.from, rollout.to]
                .into_iter()
                .chain(rollout.previous)
            {
                base(&mut all, id, Reason::Rollout(name.clone()));
            }
        }
    }
    let goes = |name: &str| request.doomed.is_some() && name.contains('@');
    // The names of the snapshots of each half, of which the first one is shown with their number.
    let mut snapshots: BTreeMap<(GenerationId, bool), BTreeSet<&str>> = BTreeMap::new();
    for (id, names) in &request.foreign {
        let names = names.iter().map(String::as_str).filter(|name| !goes(name));
        snapshots.entry((*id, false)).or_default().extend(names);
    }
    let strangers = inventory.strangers.iter();
    for stranger in strangers.filter(|other| !goes(&other.dataset)) {
        let below = stranger
            .dataset
            .strip_prefix(inventory.site.layout.site.as_str());
        let mut parts = below.unwrap_or_default().split(['/', '@']).skip(1);
        let (half, number) = (parts.next(), parts.next());
        let is_base = match half {
            Some("basejail") => true,
            Some("newjail") => false,
            _ => continue,
        };
        let Some(id) = number.and_then(GenerationId::from_component) else {
            continue;
        };
        if stranger.dataset.contains('@') {
            let names = snapshots.entry((id, is_base)).or_default();
            names.insert(&stranger.dataset);
        } else {
            let add = if is_base { base } else { skeleton };
            add(&mut all, id, Reason::Foreign(stranger.dataset.clone()));
        }
    }
    for ((id, is_base), names) in snapshots {
        let Some(first) = names.first() else { continue };
        let add = if is_base { base } else { skeleton };
        let reason = Reason::Snapshots((*first).to_owned(), names.len());
        add(&mut all, id, reason);
    }
    jails(&mut all, observed);
    for (id, jail) in ways::lead_to(inventory, &request.of_merges) {
        // With its base: only there the digest of its skeleton is recorded, by which the way back is recognised.
        base(&mut all, id, Reason::WayBack(jail.clone()));
        skeleton(&mut all, id, Reason::WayBack(jail));
    }
    let heirs = heirs(inventory);
    for jail in inventory.jails.values() {
        let origin = jail.origin.as_deref().unwrap_or_default();
        let id = origin
            .split_once('@')
            .and_then(|(dataset, _)| lookup::generation_of(inventory, dataset));
        // If other bases are clones of the base, the newest of them takes over the snapshot that the jail is a clone
        // of.
        if let Some(id) = id.filter(|id| !heirs.contains_key(id)) {
            base(&mut all, id, Reason::Thick(jail.name.clone()));
        }
    }
    for kept in all.values_mut() {
        if !kept.base.is_empty() {
            kept.skeleton.insert(Reason::Partner);
        }
    }
    all
}

fn base(all: &mut BTreeMap<GenerationId, Kept>, id: GenerationId, reason: Reason) {
    all.entry(id).or_default().base.insert(reason);
}

fn skeleton(all: &mut BTreeMap<GenerationId, Kept>, id: GenerationId, reason: Reason) {
    all.entry(id).or_default().skeleton.insert(reason);
}

fn jails(all: &mut BTreeMap<GenerationId, Kept>, observed: &Observed) {
    let inventory = &observed.inventory;
    let debris = inventory.debris.values().map(|debris| &debris.jail);
    for jail in inventory.jails.values().chain(debris) {
        if let JailState::Running {
            base: Some(dataset),
            ..
        } = observed.state(&jail.name)
        {
            if let Some(id) = lookup::generation_of(inventory, &dataset) {
                base(all, id, Reason::Runs(jail.name.clone()));
            }
        }
        let origin = jail.origin.as_deref().unwrap_or_default();
        let below = origin.strip_prefix(inventory.site.layout.newjail.as_str());
        let number = below.and_then(|below| below.strip_prefix('/')?.split('@').next());
        if let Some(id) = number.and_then(GenerationId::from_component) {
            skeleton(all, id, Reason::Skeleton(jail.name.clone()));
        }
        for id in jail
            .merging
            .iter()
            .flat_map(|merging| [merging.from, merging.to])
        {
            skeleton(all, id, Reason::Skeleton(jail.name.clone()));
        }
        let Ok(config) = &jail.config else { continue };
        if let Base::Pin(id) = config.base {
            let name = jail.name.clone();
            let reason = match config.held() {
                Some(held) => Reason::Held(name, held.track.clone()),
                None => Reason::Pinned(name),
            };
            base(all, id, reason);
        }
        match config.kind {
            Kind::Thin => {
                // A jail at the generation that is due adds no reason: its track or its pin keeps that generation.
                let (name, id) = (&jail.name, config.skel);
                if !lookup::target(inventory, config).is_ok_and(|target| target == (id, None)) {
                    let running = observed.state(name).running();
                    base(all, id, Reason::Files(name.clone(), running));
                }
                skeleton(all, id, Reason::Skeleton(name.clone()));
            }
            // The rules of its world are read from the generation.
            Kind::Thick => base(all, config.skel, Reason::Thick(jail.name.clone())),
        }
    }
}

/// Returns for each base that has clones the newest of these.
fn heirs(inventory: &Inventory) -> BTreeMap<GenerationId, GenerationId> {
    let mut heirs = BTreeMap::new();
    for generation in inventory.generations.values() {
        let origin = generation
            .base
            .as_ref()
            .and_then(|half| half.origin.as_deref());
        let of = origin
            .and_then(|origin| origin.split_once('@'))
            .and_then(|(dataset, _)| lookup::generation_of(inventory, dataset));
        if let Some(of) = of {
            // They are sorted by number, so a later one replaces an earlier one.
            heirs.insert(of, generation.id);
        }
    }
    heirs
}
