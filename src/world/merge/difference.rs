//! What differs between two skeletons, found once for all jails that come from the one to the other.
//! Must not be here: jails.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::error::WorldError;
use super::super::manifest;
use super::super::numbers::{Owners, Side, Skeletons};
use super::super::progress::{Context, Phase};
use super::super::walk::{Visit, walk};
use super::state::State;
use crate::profile::{Own, Profile, RelPath};

/// The files of a skeleton.
type Tree = BTreeMap<RelPath, State>;

/// What differs between two skeletons. Their files are read again where texts are merged and where files are copied, so
/// both must stay where they are.
#[derive(Debug)]
pub struct Difference {
    old: PathBuf,
    new: PathBuf,
    profile: Profile,
    before: Tree,
    after: Tree,
    changed: Vec<RelPath>,
    base: Option<PathBuf>,
    old_base: Option<PathBuf>,
    /// Read when the first jail is examined.
    accounts: OnceCell<Skeletons>,
}

impl Difference {
    /// Reads both skeletons, each once.
    ///
    /// # Errors
    /// [`WorldError`]: a tree cannot be read; interrupted.
    pub fn between(
        old: &Path,
        new: &Path,
        profile: &Profile,
        context: &Context<'_>,
    ) -> Result<Difference, WorldError> {
        let phase = Phase::start(context, "compare", None);
        let before = tree(old, context, &phase)?;
        let after = tree(new, context, &phase)?;
        Ok(Difference {
            old: old.to_path_buf(),
            new: new.to_path_buf(),
            profile: profile.clone(),
            changed: changed(&before, &after),
            before,
            after,
            base: None,
            old_base: None,
            accounts: OnceCell::new(),
        })
    }

    /// Adds where the base of the new generation is: files of it may belong to accounts that a jail knows by other
    /// numbers.
    pub fn with_base(self, base: PathBuf) -> Difference {
        let base = Some(base);
        Difference { base, ..self }
    }

    /// Adds where the base of the old generation is.
    pub fn with_old_base(self, base: PathBuf) -> Difference {
        let old_base = Some(base);
        Difference { old_base, ..self }
    }

    /// What differs in a jail that knows accounts by other numbers.
    pub(super) fn in_jail(&self, owners: &Owners) -> Difference {
        let translated = |tree: &Tree, side| -> Tree {
            tree.iter()
                .map(|(path, state)| (path.clone(), state.in_jail(side, owners)))
                .collect()
        };
        let before = translated(&self.before, Side::Old);
        let after = translated(&self.after, Side::New);
        Difference {
            old: self.old.clone(),
            new: self.new.clone(),
            profile: self.profile.clone(),
            changed: changed(&before, &after),
            before,
            after,
            base: self.base.clone(),
            old_base: self.old_base.clone(),
            accounts: OnceCell::new(),
        }
    }

    /// The paths that differ, a directory before what is in it.
    pub fn paths(&self) -> &[RelPath] {
        &self.changed
    }

    /// By which numbers a jail knows the accounts of both skeletons.
    ///
    /// # Errors
    /// [`WorldError`]: lists of accounts or the ledger of the base cannot be read.
    pub(super) fn owners_in(&self, jail: &Path) -> Result<Owners, WorldError> {
        let accounts = match self.accounts.get() {
            Some(accounts) => accounts,
            None => {
                let read = Skeletons::read(&self.old, &self.new, self.base.as_deref())?;
                self.accounts.get_or_init(|| read)
            }
        };
        Owners::read(accounts, jail, &self.profile)
    }

    /// Where the old skeleton is.
    pub(super) fn older(&self) -> &Path {
        &self.old
    }

    /// Where the new skeleton is.
    pub fn newer(&self) -> &Path {
        &self.new
    }

    /// Where the base of the new generation is, if that is known.
    pub(super) fn base(&self) -> Option<&Path> {
        self.base.as_deref()
    }

    /// Where the base of the old generation is, if that is known.
    pub(super) fn old_base(&self) -> Option<&Path> {
        self.old_base.as_deref()
    }

    /// Whose rules count: those of the new generation.
    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What the profile says of a path.
    pub(super) fn own(&self, path: &RelPath) -> Own {
        self.profile.own(path)
    }

    /// Whether a path is a list of accounts in both skeletons that have it.
    pub(super) fn is_list(&self, path: &RelPath) -> bool {
        let directory = |it: Option<&State>| it.is_some_and(State::is_directory);
        self.own(path).by.is_some() && !directory(self.before(path)) && !directory(self.after(path))
    }

    /// What the old skeleton has at a path.
    pub(super) fn before(&self, path: &RelPath) -> Option<&State> {
        self.before.get(path)
    }

    /// What the new skeleton has at a path.
    pub(super) fn after(&self, path: &RelPath) -> Option<&State> {
        self.after.get(path)
    }

    /// The bytes of a file of the new skeleton; 0 of what is no file.
    pub(super) fn size(&self, path: &RelPath) -> u64 {
        self.after(path).and_then(State::size).unwrap_or(0)
    }

    /// What the new skeleton has at a path and, of a directory, in it.
    pub(super) fn within<'a>(&'a self, top: &'a RelPath) -> impl Iterator<Item = &'a RelPath> {
        let from = self.after.range(top.clone()..);
        from.map(|(path, _)| path)
            .take_while(|path| path.is_within(top))
    }
}

fn changed(before: &Tree, after: &Tree) -> Vec<RelPath> {
    let paths = before.keys().chain(after.keys());
    let mut changed: Vec<RelPath> = paths
        .filter(|path| before.get(*path) != after.get(*path))
        .cloned()
        .collect();
    changed.sort();
    changed.dedup();
    changed
}

/// The files of a skeleton, without its root, and without what ezz keeps beside a manifest.
fn tree(root: &Path, context: &Context<'_>, phase: &Phase<'_>) -> Result<Tree, WorldError> {
    let mut found = Tree::new();
    walk(root, &context.cancel, &mut |node| {
        if node.path.as_bytes() == manifest::DIR.as_bytes() {
            return Ok(Visit::Skip);
        }
        if !node.path.is_root() {
            let state = State::of(node, |_| true, &context.cancel)?;
            found.insert(node.path.clone(), state);
            phase.advance(1);
        }
        Ok(Visit::Enter)
    })?;
    Ok(found)
}
