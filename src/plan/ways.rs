//! The two snapshots of a merge: the way back. Their names, whether a jail has both of its last merge, and
//! which of them nothing needs any more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{Base, Inventory, Jail, MERGE_SNAPSHOT, MERGED_SNAPSHOT, Mount, Phase};
use crate::name::{DatasetName, GenerationId, JailName, NameError, SnapshotName};
use crate::plan::due::Due;
use crate::plan::{Doomed, Step};

/// How a jail's own files come to another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By a merge, whose conflicts are the administrator's.
    Forward,
    /// By a merge to a generation that the jail comes back to: what is in conflict stays as it is.
    Back,
    /// What the last merge wrote is undone. It was between these generations, whose skeletons are those of the way.
    Undo {
        /// The generation that the merge left.
        from: GenerationId,
        /// The generation that the merge went to.
        to: GenerationId,
    },
}

/// What a jail has of snapshots, as far as a merge minds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// Those that merges have made: the ways back.
    pub of_merges: Vec<Doomed>,
    /// Those that others made after an interrupted merge had made its own. A rollback past them would
    /// destroy them.
    pub newer: Vec<String>,
    /// From where to where the last merge was, if both of its snapshots are there.
    pub last: Option<(GenerationId, GenerationId)>,
}

/// When a snapshot was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
}

/// A snapshot that ezz made of a jail for a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Made {
    when: When,
    from: GenerationId,
    to: GenerationId,
}

impl Made {
    /// From the name of a snapshot, with its dataset.
    fn parse(name: &str) -> Option<Self> {
        let (_, snapshot) = name.split_once('@')?;
        let (when, numbers) = match snapshot.strip_prefix(MERGED_SNAPSHOT) {
            Some(numbers) => (When::After, numbers),
            None => (When::Before, snapshot.strip_prefix(MERGE_SNAPSHOT)?),
        };
        let (from, to) = numbers.split_once('-')?;
        Some(Made {
            when,
            from: GenerationId::from_component(from)?,
            to: GenerationId::from_component(to)?,
        })
    }
}

/// The snapshot of a jail before its merge: it takes back what an interrupted merge has done.
///
/// # Errors
/// [`NameError`] if its name is too long.
pub fn before(
    jail: &Jail,
    from: GenerationId,
    to: GenerationId,
) -> Result<SnapshotName, NameError> {
    jail.dataset.at(&format!("{MERGE_SNAPSHOT}{from}-{to}"))
}

/// The snapshot of a jail after its merge.
///
/// # Errors
/// [`NameError`] if its name is too long.
pub fn after(jail: &Jail, from: GenerationId, to: GenerationId) -> Result<SnapshotName, NameError> {
    jail.dataset.at(&format!("{MERGED_SNAPSHOT}{from}-{to}"))
}

/// Whether a snapshot is one that ezz made of a jail for a merge.
pub fn of_merge(jail: &Jail, snapshot: &str) -> bool {
    let name = snapshot.strip_prefix(jail.dataset.as_str());
    let name = name.and_then(|rest| rest.strip_prefix('@'));
    name.is_some_and(|name| {
        [MERGE_SNAPSHOT, MERGED_SNAPSHOT]
            .iter()
            .any(|it| name.starts_with(it))
    })
}

/// Whether a snapshot has the name of one that ezz makes for a merge.
pub fn is_of_merge(snapshot: &str) -> bool {
    Made::parse(snapshot).is_some()
}

/// From where to where the last merge of a jail was, if both of its snapshots are there: of those for
/// merges, in the order in which they were made.
pub fn last(in_order: &[&str]) -> Option<(GenerationId, GenerationId)> {
    let made = Made::parse(in_order.last()?)?;
    let partner = Made {
        when: When::Before,
        ..made
    };
    let complete = in_order
        .iter()
        .any(|name| Made::parse(name) == Some(partner));
    (made.when == When::After && complete).then_some((made.from, made.to))
}

/// The way on which a jail comes to what is due. `last` is from where to where its last merge was.
pub fn way(inventory: &Inventory, due: &Due, last: Option<(GenerationId, GenerationId)>) -> Way {
    let config = inventory.jails.get(&due.jail);
    let config = config.and_then(|jail| jail.config.as_ref().ok());
    let track = match config.map(|config| &config.base) {
        Some(Base::Track(track)) if due.follow.is_none() => Some(track),
        Some(Base::Track(_) | Base::Pin(_)) | None => None,
    };
    let moved = track.and_then(|track| inventory.rollouts.get(track)?.rollout.as_ref().ok());
    let of_rollout = moved.is_some_and(|it| it.to == due.from && it.from == due.to);
    let turned = of_rollout && moved.is_some_and(|it| it.phase == Phase::Back);
    let older = due.to < due.from;
    // A generation with the skeleton of another needs no merge, so the last merge may have other numbers.
    let undoes = |(from, to): &(GenerationId, GenerationId)| {
        inventory.same_skeleton(*from, due.to) && inventory.same_skeleton(*to, due.from)
    };
    if let Some((from, to)) = last.filter(undoes).filter(|_| older || turned) {
        return Way::Undo { from, to };
    }
    // A jail may also come to an older number by another track, which is no way back.
    let left = inventory.generations.get(&due.from);
    let left = left.and_then(|left| left.served.as_ref());
    let served = left.is_some_and(|left| Some(&left.track) == track);
    match turned || older && served {
        true => Way::Back,
        false => Way::Forward,
    }
}

/// Those of the snapshots of merges that nothing needs any more: of a merge that is not the jail's last, or from a
/// skeleton that no track goes back to.
pub fn unneeded(inventory: &Inventory, all: Vec<Doomed>) -> Vec<Doomed> {
    // After a rollback a track is there already, and the jail is to come.
    let comes_back = |id: GenerationId| {
        let tracks = inventory.tracks.values();
        let rollouts = inventory.rollouts.values();
        let same = |it: GenerationId| inventory.same_skeleton(it, id);
        tracks
            .flat_map(|track| [track.current, track.previous])
            .flatten()
            .any(same)
            || rollouts
                .filter_map(|found| found.rollout.as_ref().ok())
                .any(|it| same(it.from) || it.previous.is_some_and(same))
    };
    let goes = |snapshot: &Doomed| {
        let Some(made) = Made::parse(&snapshot.name) else {
            return false;
        };
        let mut jails = inventory.jails.values();
        let jail = jails.find(|jail| of_merge(jail, &snapshot.name));
        let Some(jail) = jail.filter(|jail| jail.merging.is_none()) else {
            return false;
        };
        let Ok(config) = &jail.config else {
            return false;
        };
        !inventory.same_skeleton(made.to, config.skel) || !comes_back(made.from)
    };
    all.into_iter().filter(goes).collect()
}

/// The generations that the merges left whose snapshots are needed, with the jail: by the skeleton of such a
/// generation it is known where the way back leads.
pub fn lead_to(inventory: &Inventory, all: &[Doomed]) -> BTreeMap<GenerationId, JailName> {
    let go = unneeded(inventory, all.to_vec());
    let of = |snapshot: &Doomed| {
        let made = Made::parse(&snapshot.name)?;
        let mut jails = inventory.jails.values();
        let jail = jails.find(|jail| of_merge(jail, &snapshot.name))?;
        Some((made.from, jail.name.clone()))
    };
    let needed = all.iter().filter(|it| !go.contains(it));
    needed.filter_map(of).collect()
}

/// What takes away a snapshot that was mounted at a directory to be read.
pub fn unmount(dataset: DatasetName, at: PathBuf) -> [Step; 2] {
    let from = at.clone();
    [Step::unmount(dataset, from), Step::RemoveDirectory { at }]
}

/// What takes away what an undoing that was killed had mounted at a directory; none if a snapshot of another site
/// is there.
pub fn left(inventory: &Inventory, mounts: &[Mount], at: &Path) -> Option<Vec<Step>> {
    let at = at.to_owned();
    let Some(mount) = mounts.iter().rfind(|mount| mount.target == at) else {
        return Some(vec![Step::RemoveDirectory { at }]);
    };
    let mut jails = inventory.jails.values();
    let jail = jails.find(|jail| of_merge(jail, &mount.source))?;
    Some(unmount(jail.dataset.clone(), at).into())
}
