//! The way back of a merge: a file that is what the merge wrote becomes what it was before, and a file that the
//! jail has changed since stays, with a note. Nothing of it is ever a conflict.
//!
//! What the merge wrote is the difference of two snapshots, before and after it. Only the paths at which a merge
//! of these two skeletons can have written are looked at; of the jail, its links are never followed.
//! Must not be here: which jails, and what protects them while this works.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::dirs::{DirError, Dirs};
use super::super::error::WorldError;
use super::super::progress::{Cancel, Context, Phase};
use super::super::text::{Request, Texts};
use super::accounts::{self, Fixed, Lists};
use super::aside::{settled, unwritable};
use super::beside::{BESIDE_TRIES, name_beside};
use super::difference::Difference;
use super::examine::renewed;
use super::kept::{Kept, Why};
use super::same::{There, first_written, same};
use super::state::{State, first_left, one};
use super::texts::{Ask, patch, text_of};
use super::{Change, Examined, Patches, What};
use crate::profile::{Class, MergedBy, RelPath};

/// The trees that say what a merge wrote, and the one in which that is undone.
#[derive(Debug, Clone, Copy)]
pub struct Undo<'a> {
    /// What differs between the skeleton that the jail's files came from, and go back to, and the one that the
    /// merge brought them to.
    pub merged: &'a Difference,
    /// The jail as it was before the merge.
    pub before: &'a Path,
    /// The jail as it was after the merge.
    pub after: &'a Path,
    /// The jail.
    pub jail: &'a Path,
}

/// Finds out what has to happen to a jail's files so that a merge is undone, and what keeps it from happening;
/// changes nothing. The jail may run. [`super::carry_out`] does it, with `before` as what is taken.
///
/// # Errors
/// [`WorldError`]: a tree cannot be read; interrupted.
pub fn examine_undo(
    trees: Undo<'_>,
    texts: &mut dyn Texts,
    patches: Patches,
    context: &Context<'_>,
) -> Result<Examined, WorldError> {
    let phase = Phase::start(context, "compare", None);
    let merged = trees.merged;
    let numbers = merged.owners_in(trees.before)?;
    let translated = (!numbers.agree()).then(|| merged.in_jail(&numbers));
    let merged = translated.as_ref().unwrap_or(merged);
    let mut work = Work {
        trees,
        cancel: &context.cancel,
        changes: Vec::new(),
        kept: Vec::new(),
        lists: Vec::new(),
        group: None,
        unwritten: None,
    };
    for path in candidates(merged, trees.after, &context.cancel)? {
        context.cancel.check()?;
        phase.advance(1);
        work.look(&path)?;
    }
    work.held()?;
    // Which files cannot be written is known before the lists: an account stays whose files stay.
    let found = Examined {
        changes: std::mem::take(&mut work.changes),
        kept: std::mem::take(&mut work.kept),
        ..Examined::default()
    };
    let found = settled(trees.before, trees.jail, found, &context.cancel)?;
    (work.changes, work.kept) = (found.changes, found.kept);
    let mut ask = |request: Request<'_>| texts.answer(&request, &context.cancel);
    work.lists(&mut ask)?;
    let Work { changes, kept, .. } = work;
    let found = Examined {
        changes,
        kept,
        undone: true,
        ..Examined::default()
    };
    let mut examined = settled(trees.before, trees.jail, found, &context.cancel)?;
    // Content counts only of files as large as what they are compared with.
    let upstream = |path: &RelPath| {
        let mine = one(trees.jail, path, [None, None], &context.cancel).ok()?;
        let found = one(trees.before, path, [mine.as_ref(), None], &context.cancel);
        found.ok().flatten()
    };
    let databases = &merged.profile().database;
    examined.renewed = renewed(
        &examined.changes,
        databases,
        trees.jail,
        &upstream,
        &context.cancel,
    )?;
    if patches == Patches::Made {
        for change in &mut examined.changes {
            let ours = text_of(trees.jail, &change.path)?;
            change.diff = match &change.what {
                What::Take => patch(ours, text_of(trees.before, &change.path)?, &mut ask)?,
                What::Merge(text) => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    patch(ours, Some(text), &mut ask)?
                }
                What::Remove | What::Conflict(_) | What::Left(_) => None,
            };
        }
    }
    Ok(examined)
}

/// The paths at which a merge from one skeleton to another can have written, parents first: those at which they
/// differ, the release's versions that were put beside the jail's, and the directories made for either.
fn candidates(
    merged: &Difference,
    after: &Path,
    cancel: &Cancel,
) -> Result<BTreeSet<RelPath>, WorldError> {
    let differ = merged.paths();
    let mut found: BTreeSet<RelPath> = differ.iter().cloned().collect();
    let mut dirs = Dirs::open(after)?;
    for path in differ {
        cancel.check()?;
        for number in 0..BESIDE_TRIES {
            let Some(top) = name_beside(path, number) else {
                break;
            };
            match dirs.stat(&top) {
                Ok(Some(_)) => {}
                Ok(None) | Err(DirError::Missing(_) | DirError::Link(_) | DirError::File(_)) => {
                    continue;
                }
                Err(DirError::Sys(error)) => return Err(error),
            }
            for from in merged.within(path) {
                let rest = &from.as_bytes()[path.as_bytes().len()..];
                found.extend(RelPath::parse(&[top.as_bytes(), rest].concat()).ok());
            }
            found.insert(top);
        }
    }
    let above: Vec<RelPath> = found
        .iter()
        .flat_map(|path| {
            let parents = std::iter::successors(Some(path.parent()), |it| Some(it.parent()));
            parents.take_while(|it| !it.is_root())
        })
        .collect();
    found.extend(above);
    Ok(found)
}

struct Work<'a> {
    trees: Undo<'a>,
    cancel: &'a Cancel,
    changes: Vec<Change>,
    kept: Vec<Kept>,
    /// Lists of accounts, which come last: whose accounts own files is known only when it is known which files
    /// go.
    lists: Vec<RelPath>,
    /// What decides for all that is in it: whether that comes back with it, or stays with it.
    group: Option<(RelPath, bool)>,
    /// A directory of state in which the jail has written nothing since the merge.
    unwritten: Option<RelPath>,
}

impl Work<'_> {
    fn look(&mut self, path: &RelPath) -> Result<(), WorldError> {
        let Undo {
            before,
            after,
            jail,
            ..
        } = self.trees;
        let was = There::at(before, path, self.cancel)?;
        let wrote = There::at(after, path, self.cancel)?;
        if same(
            path,
            (before, was.as_ref()),
            (after, wrote.as_ref()),
            self.cancel,
        )? {
            return Ok(());
        }
        self.group = self.group.take().filter(|(top, _)| path.is_within(top));
        let comes = match &self.group {
            Some((_, false)) => return Ok(()),
            Some((_, true)) => true,
            None => false,
        };
        // What is in a link or a file that becomes a directory again is not there.
        let blocked = match one(jail, path, [None, None], self.cancel)? {
            Some(State::Blocked(by)) if !comes => Some(by),
            Some(_) | None => None,
        };
        let now = There::at(jail, path, self.cancel)?;
        let directory = |it: Option<&There>| it.is_some_and(|it| it.1.is_directory());
        let is_as = |other| same(path, (jail, now.as_ref()), other, self.cancel);
        let as_it_was = is_as((before, was.as_ref()))?;
        if as_it_was && (blocked.is_none() || was.is_none()) {
            return Ok(());
        }
        let untouched = is_as((after, wrote.as_ref()))?;
        let gone = untouched && now.is_none() && !comes && !self.has_parent(path)?;
        if let Some(dir) = self.written_state(path, was.as_ref(), wrote.as_ref())? {
            self.group = Some((dir, false));
            return Ok(());
        }
        let listed = self.trees.merged.own(path).by.is_some();
        if let Some(by) = blocked {
            self.keep(path, Why::InTheWay(by));
        } else if gone {
            self.keep(path, Why::Deleted);
        } else if listed && now.is_some() && was.is_some() {
            self.lists.push(path.clone());
        } else if untouched {
            self.change(
                path,
                if was.is_some() {
                    What::Take
                } else {
                    What::Remove
                },
            );
        } else {
            self.keep(
                path,
                match (&now, &wrote) {
                    (None, _) => Why::Deleted,
                    (Some(now), Some(wrote)) if now.1.kind() != wrote.1.kind() => {
                        Why::Became(now.1.kind())
                    }
                    (Some(_), _) => Why::Changed,
                },
            );
        }
        if self.group.is_none() && directory(was.as_ref()) != directory(wrote.as_ref()) {
            let kept = self.kept.last().is_some_and(|kept| kept.path == *path);
            let whole = was.is_some() || !directory(now.as_ref());
            if directory(was.as_ref()) || kept && whole {
                self.group = Some((path.clone(), !kept));
            }
        }
        Ok(())
    }

    /// The directory of state that a file belongs to, if the merge has made all of it, and the jail has written in it
    /// since. All of it stays, with a note: a database without some of its files is lost.
    fn written_state(
        &mut self,
        path: &RelPath,
        was: Option<&There>,
        wrote: Option<&There>,
    ) -> Result<Option<RelPath>, WorldError> {
        let own = self.trees.merged.own(path);
        let made = was.is_none() && wrote.is_some_and(|it| it.1.is_directory());
        let dir = match own.whole {
            Some(whole) => whole,
            None if made && own.class == Class::Seeded => path.clone(),
            None => return Ok(None),
        };
        if self.group.is_some() || self.unwritten.as_ref().is_some_and(|it| dir.is_within(it)) {
            return Ok(None);
        }
        let Undo { after, jail, .. } = self.trees;
        match first_written(after, jail, &dir, self.cancel)? {
            None => {
                self.unwritten = Some(dir);
                Ok(None)
            }
            Some(written) => {
                self.keep(&dir, Why::Together(written));
                Ok(Some(dir))
            }
        }
    }

    /// Whether the directory that holds a path is there, or comes back.
    fn has_parent(&self, path: &RelPath) -> Result<bool, WorldError> {
        let parent = path.parent();
        let comes = |change: &Change| change.path == parent && change.what == What::Take;
        if self.changes.iter().any(comes) {
            return Ok(true);
        }
        match Dirs::open(self.trees.jail)?.dir(&parent, false) {
            Ok(_) => Ok(true),
            Err(DirError::Sys(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    fn keep(&mut self, path: &RelPath, why: Why) {
        let path = path.clone();
        self.kept.push(Kept { path, why });
    }

    fn change(&mut self, path: &RelPath, what: What) {
        self.changes.push(Change {
            path: path.clone(),
            what,
            beside: Vec::new(),
            diff: None,
        });
    }

    /// A directory that the merge made stays while something of the jail's is in it; if a file had its place,
    /// with all that the merge put there.
    fn held(&mut self) -> Result<(), WorldError> {
        let mut goes: BTreeSet<RelPath> = BTreeSet::new();
        let mut whole: Vec<RelPath> = Vec::new();
        for change in self.changes.iter().rev() {
            let path = &change.path;
            let takes = change.what == What::Take;
            let mut dirs = Dirs::open(self.trees.jail)?;
            let stat = dirs.stat(path).map_err(|e| e.in_tree(self.trees.jail));
            let directory = matches!(&stat, Ok(Some(stat)) if State::is_directory_by(stat));
            let stays = match There::at(self.trees.before, path, self.cancel)? {
                Some(There(_, State::Directory(_))) => false,
                Some(_) | None => directory,
            };
            let own = match stays {
                true => first_left(self.trees.jail, path, &|path| goes.contains(path))?,
                false => None,
            };
            match own {
                None => drop(goes.insert(path.clone())),
                Some(own) => {
                    if takes {
                        whole.push(path.clone());
                    }
                    let path = path.clone();
                    self.kept.push(Kept {
                        path,
                        why: Why::Holds(own),
                    });
                }
            }
        }
        let dropped = |path: &RelPath| whole.iter().any(|top| path.is_within(top));
        self.changes
            .retain(|it| goes.contains(&it.path) && !dropped(&it.path));
        Ok(())
    }

    /// The lists of accounts, field by field.
    fn lists(&mut self, ask: &mut Ask<'_>) -> Result<(), WorldError> {
        if self.lists.is_empty() {
            return Ok(());
        }
        let Undo {
            before,
            after,
            jail,
            ..
        } = self.trees;
        let (mut lists, mut fixed) = (Lists::default(), Fixed::default());
        let cannot = unwritable(jail, self.lists.clone())?;
        for path in std::mem::take(&mut self.lists) {
            let (base, ours) = (text_of(after, &path)?, text_of(jail, &path)?);
            let (Some(base), Some(theirs)) = (base, text_of(before, &path)?) else {
                self.keep(&path, Why::Changed);
                continue;
            };
            if cannot.contains_key(&path) || ours.is_none() {
                fixed.add(&base, &theirs);
            }
            match ours {
                Some(ours) => {
                    let numbered = self.trees.merged.own(&path).by == Some(MergedBy::Number);
                    lists.add(path, numbered, base, ours, theirs);
                }
                None => self.keep(&path, Why::Changed),
            }
        }
        let goes: BTreeSet<&RelPath> = self.changes.iter().map(|change| &change.path).collect();
        let owners = lists.owners(jail, &|path| goes.contains(path), &fixed, self.cancel)?;
        for (path, list) in lists.each() {
            let (now, was) = (
                There::at(jail, path, self.cancel)?,
                There::at(before, path, self.cancel)?,
            );
            let wrote = There::at(after, path, self.cancel)?;
            let untouched = same(
                path,
                (jail, now.as_ref()),
                (after, wrote.as_ref()),
                self.cancel,
            )?;
            if let Some(why) = cannot.get(path) {
                self.keep(path, why.clone());
                continue;
            }
            let merged = accounts::back(list, &owners, ask)?;
            if !merged.keeps() && untouched && was.is_some() {
                self.change(path, What::Take);
                continue;
            }
            // Once for users and once for groups.
            if list.numbered {
                merged.reasons().for_each(|why| self.keep(path, why));
            }
            match merged.text {
                None => self.keep(path, Why::Changed),
                Some(text) => {
                    if !merged.conflicts.is_empty() {
                        self.keep(path, Why::Entries(merged.conflicts));
                    }
                    if text != list.ours {
                        self.change(path, What::Merge(text.into_bytes()));
                    }
                }
            }
        }
        self.changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }
}
