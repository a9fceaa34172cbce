//! Tells of each jail when the last step of a plan that is about it is done.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use crate::name::{DatasetName, JailName};
use crate::plan::{Commit, Step};

/// How many steps of a plan each jail still waits for.
pub struct Ready<'a> {
    site: &'a DatasetName,
    left: RefCell<BTreeMap<JailName, usize>>,
    tell: &'a dyn Fn(&JailName),
}

impl<'a> Ready<'a> {
    /// Of a whole plan.
    pub fn new(site: &'a DatasetName, plan: &[Step], tell: &'a dyn Fn(&JailName)) -> Self {
        let mut left = BTreeMap::new();
        for step in plan {
            about(site, step, &mut |jail| *left.entry(jail).or_default() += 1);
        }
        let left = RefCell::new(left);
        Ready { site, left, tell }
    }

    /// A step is done.
    pub(super) fn done(&self, step: &Step) {
        about(self.site, step, &mut |jail| {
            let mut left = self.left.borrow_mut();
            let waits = left.get_mut(&jail).map(|waits| {
                *waits = waits.saturating_sub(1);
                *waits
            });
            if waits == Some(0) {
                left.remove(&jail);
                drop(left);
                (self.tell)(&jail);
            }
        });
    }
}

impl fmt::Debug for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// The jails that a step is about.
fn about(site: &DatasetName, step: &Step, each: &mut dyn FnMut(JailName)) {
    let mut of = |dataset: &str| jail_of(site, dataset).into_iter().for_each(&mut *each);
    match step {
        Step::Mount { dataset, .. }
        | Step::Unmount { dataset, .. }
        | Step::Create { dataset, .. }
        | Step::Destroy { dataset }
        | Step::Property { dataset, .. } => of(dataset.as_str()),
        Step::Clone { clones } => clones.iter().for_each(|clone| of(clone.dataset.as_str())),
        Step::Commit { commit, .. } => match commit {
            Commit::Create { jails, .. } => jails.iter().for_each(|jail| each(jail.name.clone())),
            Commit::Set { sets, .. } => sets.iter().for_each(|set| of(&set.dataset)),
            Commit::Destroy { doomed, .. } => doomed.iter().for_each(|it| of(&it.name)),
            Commit::Init { .. }
            | Commit::Stage { .. }
            | Commit::Seal { .. }
            | Commit::Prune { .. } => {}
        },
        Step::Derive { jail }
        | Step::ClearIdentity { jail }
        | Step::Flavour { jail, .. }
        | Step::Forget { jail }
        | Step::Start { jail }
        | Step::Stop { jail } => each(jail.clone()),
        Step::Hold { .. }
        | Step::Release { .. }
        | Step::RemoveDirectory { .. }
        | Step::Snapshot { .. }
        | Step::MountSnapshot { .. }
        | Step::HandOver { .. }
        | Step::Rollback { .. }
        | Step::Link { .. }
        | Step::Unlink { .. }
        | Step::ClearWorld { .. } => {}
    }
}

/// The jail whose dataset that is.
pub(super) fn jail_of(site: &DatasetName, dataset: &str) -> Option<JailName> {
    let below = dataset.strip_prefix(site.as_str())?;
    JailName::parse(below.strip_prefix("/jails/")?).ok()
}
