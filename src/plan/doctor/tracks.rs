//! Tracks: the generations that they name, their links, their roll-outs.

use std::path::PathBuf;

use super::{Examination, Site};
use crate::model::{Phase, Rollout};
use crate::name::TrackName;
use crate::plan::check::{Case, Check};
use crate::plan::finding::{Severity, What};
use crate::plan::{PlanError, Step};

pub(super) fn examine(examination: &mut Examination<'_>) -> Result<(), PlanError> {
    let site = examination.site;
    examination.run(&checks(), &site)
}

pub(super) fn checks<'a>() -> [Check<Site<'a>>; 5] {
    use Severity::{Broken, Debris, Info};
    [
        Check::new(What::TrackBroken, Broken, broken).hint(
            "`ezz world list` shows the generations; `ezz help track` describes the commands that set it",
        ),
        Check::new(What::LinkWrong, Debris, link_wrong),
        Check::new(What::Rollout, Info, under_way),
        Check::new(What::Rollout, Broken, unreadable)
            .hint("`zfs get all` of the site's basejail shows it; was it edited by hand?"),
        Check::new(What::LinkLeft, Debris, link_left).cause("an interrupted deletion of a track"),
    ]
}

fn case(track: &TrackName, what: impl Into<String>) -> Case {
    Case::new(format!("track {track}"), what)
}

fn broken(at: &Site<'_>) -> Vec<Case> {
    let inventory = &at.observed.inventory;
    let mut cases = Vec::new();
    for (name, track) in &inventory.tracks {
        let named = [track.current, track.previous].into_iter().flatten();
        for id in named.filter(|id| inventory.sealed(*id).is_none()) {
            let what = format!("it names generation {id}, which does not exist or is not sealed");
            cases.push(case(name, what));
        }
    }
    cases
}

fn link_wrong(at: &Site<'_>) -> Vec<Case> {
    let inventory = &at.observed.inventory;
    let tracks = inventory.tracks.iter();
    let wrong = tracks.filter_map(|(name, track)| {
        let generation = track.current?;
        let target = PathBuf::from(format!("../{generation}"));
        let there = at.facts.links.get(name).and_then(Option::as_ref);
        if there == Some(&target) {
            return None;
        }
        let step = Step::Link {
            track: name.clone(),
            generation,
            directory: inventory.site.directory.clone(),
        };
        Some(case(name, "its link does not point to its generation").steps([step]))
    });
    wrong.collect()
}

fn under_way(at: &Site<'_>) -> Vec<Case> {
    let rollouts = at.observed.inventory.rollouts.iter();
    let readable = rollouts.filter_map(|(name, it)| Some((name, it.rollout.as_ref().ok()?)));
    let case = |(name, rollout): (&TrackName, &Rollout)| {
        let progress = match rollout.phase {
            Phase::Canaries => "canaries are being checked",
            Phase::Swapped => "jails are being restarted",
            Phase::Back => "jails are being rolled back",
        };
        let (from, to) = (rollout.from, rollout.to);
        let what = format!("a roll-out from generation {from} to {to} is under way: {progress}");
        case(name, what).hint(format!(
            "`ezz update --track {name} --continue` resumes an interrupted one, --abort rolls it back"
        ))
    };
    readable.map(case).collect()
}

fn unreadable(at: &Site<'_>) -> Vec<Case> {
    let rollouts = at.observed.inventory.rollouts.iter();
    let unreadable = rollouts.filter_map(|(name, it)| Some((name, it.rollout.as_ref().err()?)));
    unreadable
        .map(|(name, why)| case(name, format!("its roll-out cannot be read: {why}")))
        .collect()
}

fn link_left(at: &Site<'_>) -> Vec<Case> {
    let inventory = &at.observed.inventory;
    let left = at.facts.links.iter().filter(|(name, link)| {
        let wanted = inventory.tracks.get(name).and_then(|track| track.current);
        link.is_some() && wanted.is_none()
    });
    left.map(|(name, _)| {
        let step = Step::Unlink {
            track: name.clone(),
            directory: inventory.site.directory.clone(),
        };
        let what = "it has a link, but no generation, or it does not exist";
        case(name, what).steps([step])
    })
    .collect()
}
