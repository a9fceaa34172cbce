//! The trees that say what the last merge of a jail wrote: its snapshots before and after it, mounted for the
//! time in which it is undone.

use std::path::{Path, PathBuf};

use super::{CliError, Context};
use crate::model::Jail;
use crate::name::{DatasetName, GenerationId, SnapshotName};
use crate::plan::{Step, ways};

/// The two snapshots of a merge, and where they are mounted.
#[derive(Debug)]
pub(super) struct Pair {
    dataset: DatasetName,
    snapshots: [(SnapshotName, PathBuf); 2],
}

impl Pair {
    /// Those of a jail's merge from one generation to another.
    ///
    /// # Errors
    /// [`CliError`] if a name is too long.
    pub(super) fn of(
        context: &Context<'_>,
        jail: &Jail,
        (from, to): (GenerationId, GenerationId),
    ) -> Result<Self, CliError> {
        let run = context.machine.run_directory();
        let at = |word: &str| run.join(format!("undo-{}-{word}", context.machine.process_id()));
        let name = |found: Result<SnapshotName, _>| found.map_err(crate::plan::PlanError::from);
        Ok(Pair {
            dataset: jail.dataset.clone(),
            snapshots: [
                (name(ways::before(jail, from, to))?, at("before")),
                (name(ways::after(jail, from, to))?, at("after")),
            ],
        })
    }

    /// The jail as it was before the merge.
    pub(super) fn before(&self) -> &Path {
        &self.snapshots[0].1
    }

    /// The jail as it was after the merge.
    pub(super) fn after(&self) -> &Path {
        &self.snapshots[1].1
    }

    /// What mounts both.
    pub(super) fn mounts(&self) -> impl Iterator<Item = Step> {
        self.snapshots
            .iter()
            .map(|(snapshot, at)| Step::MountSnapshot {
                snapshot: snapshot.clone(),
                at: at.clone(),
            })
    }

    /// What unmounts both.
    pub(super) fn unmounts(&self) -> impl Iterator<Item = Step> {
        let each = self.snapshots.iter();
        each.flat_map(|(_, at)| ways::unmount(self.dataset.clone(), at.clone()))
    }
}
