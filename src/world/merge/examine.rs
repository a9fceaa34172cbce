//! What has to happen to the files of one jail. Changes nothing.
//! Must not be here: the files of skeletons; that is the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rustix::fs::Dev;

use super::super::dirs::{DirError, Dirs};
use super::super::error::WorldError;
use super::super::numbers::{Owners, Side, Taken};
use super::super::progress::{Cancel, Context, Phase};
use super::super::text::{Answer, By, Request, TEXT_MAX, Texts};
use super::accounts::staying;
use super::aside;
use super::beside::beside;
use super::difference::Difference;
use super::obstacle::{self, Obstacle};
use super::state::{State, first_left, first_own, one};
use super::texts::{Ask, patch, text_of};
use super::{Change, Examined, Patches, Reason, What};
use crate::profile::{Class, Database, MergedBy, Own, RelPath};

/// Finds out what has to happen to a jail's files, and what keeps it from happening; changes nothing. The
/// jail may run.
///
/// # Errors
/// [`WorldError`]: a tree cannot be read; interrupted.
pub fn examine(
    difference: &Difference,
    jail: &Path,
    texts: &mut dyn Texts,
    patches: Patches,
    context: &Context<'_>,
) -> Result<Examined, WorldError> {
    examine_on(Way::Forward, difference, jail, texts, patches, context)
}

/// As [`examine`], of a jail that comes back to a generation, which nothing may keep from it: what is in conflict, or
/// cannot be written, stays as the jail has it.
///
/// # Errors
/// As [`examine`].
pub fn examine_back(
    difference: &Difference,
    jail: &Path,
    texts: &mut dyn Texts,
    patches: Patches,
    context: &Context<'_>,
) -> Result<Examined, WorldError> {
    examine_on(Way::Back, difference, jail, texts, patches, context)
}

/// What becomes of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The administrator settles it.
    Forward,
    /// The jail's version stays, with a note.
    Back,
}

fn examine_on(
    way: Way,
    difference: &Difference,
    jail: &Path,
    texts: &mut dyn Texts,
    patches: Patches,
    context: &Context<'_>,
) -> Result<Examined, WorldError> {
    let phase = Phase::start(context, "compare", None);
    let owners = difference.owners_in(jail)?;
    let mut numbers = match difference.base() {
        Some(base) => owners.taken_in(base, difference.old_base(), difference.profile())?,
        None => Vec::new(),
    };
    let translated = (!owners.agree()).then(|| difference.in_jail(&owners));
    let difference = translated.as_ref().unwrap_or(difference);
    for path in difference.paths() {
        let added = difference.before(path).is_none();
        let meta = difference
            .after(path)
            .filter(|_| added)
            .and_then(State::meta);
        if let Some(renamed) = meta.and_then(|meta| owners.renamed_owner(meta)) {
            if !numbers.contains(renamed) {
                numbers.push(renamed.clone());
            }
        }
    }
    let root = Dirs::open(jail)?.into_root();
    let root = rustix::fs::fstat(root).map_err(|e| WorldError::io("look at", jail, e))?;
    let mut work = Work {
        difference,
        owners: &owners,
        numbers,
        jail,
        device: root.st_dev,
        context,
        ask: &mut |request| texts.answer(&request, &context.cancel),
        decided: None,
        staying: BTreeMap::new(),
        changes: Vec::new(),
    };
    let mut lists = Vec::new();
    // A jail may have a million files: only those that the release has changed are looked at.
    for path in difference.paths() {
        context.cancel.check()?;
        phase.advance(1);
        if difference.is_list(path) {
            lists.push((path, work.decided.clone()));
        } else {
            work.look_at(path, patches)?;
        }
    }
    let mut kept = Vec::new();
    if way == Way::Back {
        let found = Examined {
            changes: std::mem::take(&mut work.changes),
            ..Examined::default()
        };
        let found = aside::without_conflicts(found, difference.newer(), jail, &context.cancel)?;
        (work.changes, kept) = (found.changes, found.kept);
    }
    // The lists of accounts come last: whose accounts own files is known only when it is known which files go.
    let names = lists.iter().map(|(path, _)| (*path).clone()).collect();
    let fixed = match way {
        Way::Forward => BTreeMap::new(),
        Way::Back => aside::unwritable(jail, names)?,
    };
    let staying = staying(
        difference,
        &owners,
        jail,
        (&work.removed(), &fixed),
        context,
    )?;
    work.staying = staying.texts;
    kept.extend(staying.kept);
    for (path, decided) in lists {
        context.cancel.check()?;
        work.decided = decided;
        work.look_at(path, patches)?;
    }
    work.changes.sort_by(|a, b| a.path.cmp(&b.path));
    work.add_conflicts_of_numbers();
    work.keep_directories()?;
    work.add_parents()?;
    let mut changes = work.changes;
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let databases = &difference.profile().database;
    let upstream = |path: &RelPath| difference.after(path).cloned();
    let renewed = renewed(&changes, databases, jail, &upstream, &context.cancel)?;
    let mut obstacles = obstacle::find(jail, &changes, &renewed, &|path| difference.size(path))?;
    let taken = changes.iter().filter(|change| change.what == What::Take);
    let unknown = |path: &RelPath| {
        let meta = difference.after(path).and_then(State::meta);
        meta.is_some_and(|meta| owners.unknown(meta))
    };
    let unknown = taken.map(|it| &it.path).find(|path| unknown(path));
    obstacles.extend(unknown.cloned().map(Obstacle::Accounts));
    let found = Examined {
        changes,
        renewed,
        obstacles,
        owners,
        kept,
        ..Examined::default()
    };
    match way {
        Way::Forward => Ok(found),
        Way::Back => aside::without_conflicts(found, difference.newer(), jail, &context.cancel),
    }
}

struct Work<'a> {
    difference: &'a Difference,
    owners: &'a Owners,
    /// Accounts whose numbers the jail has given to others, and that files of the base belong to.
    numbers: Vec<Taken>,
    jail: &'a Path,
    device: Dev,
    context: &'a Context<'a>,
    ask: &'a mut Ask<'a>,
    /// A directory that decides for all that is in it: whether that is taken.
    decided: Option<(RelPath, bool)>,
    /// Lists of accounts as the release has them, with the entries of accounts that it removes and that own files of
    /// the jail.
    staying: BTreeMap<RelPath, String>,
    changes: Vec<Change>,
}

/// What upstream had, what it has, and what the jail has.
#[derive(Clone, Copy)]
struct Versions<'a> {
    was: Option<&'a State>,
    is: Option<&'a State>,
    mine: Option<&'a State>,
}

impl Work<'_> {
    /// The files that are removed. A directory may stay for its contents.
    fn removed(&self) -> BTreeSet<RelPath> {
        let directory = |path| {
            self.difference
                .before(path)
                .is_some_and(State::is_directory)
        };
        let changes = self.changes.iter();
        let removed = changes.filter(|it| it.what == What::Remove && !directory(&it.path));
        removed.map(|it| it.path.clone()).collect()
    }

    fn look_at(&mut self, path: &RelPath, patches: Patches) -> Result<(), WorldError> {
        let (difference, jail) = (self.difference, self.jail);
        let decided = self.decided.take().filter(|(top, _)| path.is_within(top));
        let taken = decided.as_ref().map(|(_, taken)| *taken);
        self.decided = decided;
        let own = difference.own(path);
        if own.class == Class::Kept || taken == Some(false) {
            return Ok(());
        }
        let (was, is) = (difference.before(path), difference.after(path));
        let mine = match (taken, is) {
            // It comes into a directory that is not there yet.
            (Some(true), Some(_)) => None,
            _ => one(jail, path, [was, is], &self.context.cancel)?,
        };
        let versions = Versions {
            was,
            is,
            mine: mine.as_ref(),
        };
        if versions.mine == is {
            return Ok(());
        }
        if let Some((whole, reason)) = self.not_added(&own, versions)? {
            self.decided = Some((whole.clone(), false));
            self.add(whole, What::Left(reason), Vec::new(), None);
            return Ok(());
        }
        // Taken as it is, it would give the jail's accounts other numbers.
        let by_number = own.by == Some(MergedBy::Number);
        let renumbered = by_number && mine.is_some() && !self.owners.agree();
        let stays = self.staying.contains_key(path);
        let untouched = (versions.mine == was || taken == Some(true)) && !renumbered && !stays;
        let directory = |state: Option<&State>| state.is_some_and(State::is_directory);
        let number = self.numbers.iter().find(|taken| taken.is_in(path));
        let what = match number {
            Some(taken) if is.is_some() => Some(What::Conflict(Reason::Taken(taken.clone()))),
            _ => self.what(path, &own, versions, untouched)?,
        };
        let Some(what) = what else {
            // State that became a directory stays what it is, and nothing comes into it.
            if directory(is) && !directory(was) && !directory(versions.mine) {
                self.decided = Some((path.clone(), false));
            }
            return Ok(());
        };
        if let What::Merge(text) = &what {
            // Numbers that the jail has otherwise may have been all that the release has changed.
            if text_of(jail, path)?.is_some_and(|mine| mine.as_bytes() == text) {
                return Ok(());
            }
        }
        let what = self.not_elsewhere(path, &own, what)?;
        // One that it has deleted comes back where something is added in it.
        let deleted = what == What::Left(Reason::Deleted) && directory(was);
        let upstream = directory(is.or(was));
        // What the release has removed with a directory is not looked at where something else stays in its place.
        let replaced = is.is_some() && directory(was) && !directory(is) && what != What::Take;
        let decides = upstream != directory(versions.mine) || replaced;
        if taken.is_none() && decides && !deleted {
            self.decided = Some((path.clone(), what == What::Take));
        }
        let diff = match (&what, patches) {
            (What::Remove | What::Left(_), _) | (_, Patches::Left) => None,
            (What::Merge(text), Patches::Made) => {
                let text = String::from_utf8_lossy(text).into_owned();
                patch(text_of(jail, path)?, Some(text), self.ask)?
            }
            (What::Take | What::Conflict(_), Patches::Made) => patch(
                text_of(jail, path)?,
                text_of(difference.newer(), path)?,
                self.ask,
            )?,
        };
        let beside = match what {
            What::Conflict(_) => {
                let whole = directory(is) && !directory(versions.mine);
                beside(jail, path, whole, difference, &self.context.cancel)?
            }
            What::Take | What::Remove | What::Merge(_) | What::Left(_) => Vec::new(),
        };
        self.add(path.clone(), what, beside, diff);
        Ok(())
    }

    /// Adds the conflicts about numbers in lists of accounts that the release has not changed.
    fn add_conflicts_of_numbers(&mut self) {
        for taken in self.numbers.clone() {
            let Some(path) = taken.list() else {
                continue;
            };
            if !self.changes.iter().any(|change| change.path == path) {
                let what = What::Conflict(Reason::Taken(taken));
                self.add(path, what, Vec::new(), None);
            }
        }
    }

    fn add(
        &mut self,
        path: RelPath,
        what: What,
        beside: Vec<(RelPath, RelPath)>,
        diff: Option<String>,
    ) {
        self.changes.push(Change {
            path,
            what,
            beside,
            diff,
        });
    }

    /// The cell of the table (`docs/own-files.md`), of a file of which the jail has not what the release has. None
    /// where nothing happens.
    fn what(
        &mut self,
        path: &RelPath,
        own: &Own,
        versions: Versions<'_>,
        untouched: bool,
    ) -> Result<Option<What>, WorldError> {
        let Versions { was, is, mine } = versions;
        Ok(match (own.class, is, untouched) {
            (Class::Kept, ..) => None,
            (Class::Seeded, Some(_), _) if was.is_none() => Some(match mine {
                None => What::Take,
                Some(_) => What::Left(left(versions)),
            }),
            (Class::Seeded, ..) => None,
            (_, None, true) => Some(What::Remove),
            (_, None, false) => match mine {
                // It went with a directory that is something else now, as the release has it.
                Some(State::Blocked(by)) if self.is_of_the_release(by)? => None,
                _ => Some(What::Left(left(versions))),
            },
            (class, Some(is), true) => Some(match (self.own_in(path, is, mine)?, class) {
                (None, _) => What::Take,
                (Some(held), Class::Merged) => What::Conflict(Reason::Holds(is.kind(), held)),
                (Some(held), _) => What::Left(Reason::Holds(is.kind(), held)),
            }),
            (Class::Merged, Some(is), false) => Some(self.merged(path, own.by, (was, is, mine))?),
            (Class::Followed | Class::Derived, Some(_), false) => Some(What::Left(left(versions))),
        })
    }

    /// The three versions merged line by line or name by name, if they are texts and it can be done.
    fn merged(
        &mut self,
        path: &RelPath,
        by: Option<MergedBy>,
        (was, is, mine): (Option<&State>, &State, Option<&State>),
    ) -> Result<What, WorldError> {
        let conflict = |reason| Ok(What::Conflict(reason));
        let (Some(State::File(..)), State::File(..), Some(State::File(_, size, _))) =
            (was, is, mine)
        else {
            let is = Some(is);
            return conflict(left(Versions { was, is, mine }));
        };
        if *size > TEXT_MAX {
            return conflict(Reason::TooDifferent);
        }
        let (Some(base), Some(ours), Some(theirs)) = (
            text_of(self.difference.older(), path)?,
            text_of(self.jail, path)?,
            text_of(self.difference.newer(), path)?,
        ) else {
            return conflict(Reason::BothChanged);
        };
        let base = self.owners.text_in_jail(Side::Old, path, base);
        let theirs = match self.staying.get(path) {
            Some(text) => text.clone(),
            None => self.owners.text_in_jail(Side::New, path, theirs),
        };
        let by = match by {
            Some(MergedBy::Number) => By::Account,
            Some(MergedBy::Name) => By::Name,
            None => By::Line,
        };
        let answer = (self.ask)(Request::Merge {
            by,
            base: &base,
            ours: &ours,
            theirs: &theirs,
        })?;
        Ok(match answer {
            Answer::Text(text) => What::Merge(text.into_bytes()),
            Answer::Conflict => What::Conflict(Reason::BothChanged),
            Answer::TooDifferent => What::Conflict(Reason::TooDifferent),
            Answer::NoAnswer => What::Conflict(Reason::NoAnswer),
        })
    }

    /// Whether the jail has at a path what the release has.
    fn is_of_the_release(&self, path: &RelPath) -> Result<bool, WorldError> {
        let is = self.difference.after(path);
        let mine = one(self.jail, path, [is, None], &self.context.cancel)?;
        Ok(is.is_some() && mine.as_ref() == is)
    }

    /// What is the jail's own in a directory that becomes something else.
    fn own_in(
        &self,
        path: &RelPath,
        is: &State,
        mine: Option<&State>,
    ) -> Result<Option<RelPath>, WorldError> {
        if is.is_directory() || !mine.is_some_and(State::is_directory) {
            return Ok(None);
        }
        first_own(self.jail, path, self.difference, &self.context.cancel)
    }

    /// The directory that is one thing, if a file would be added to a part of it: to the jail's own, or to nothing where
    /// the jail has removed the one that it had.
    fn not_added(
        &self,
        own: &Own,
        versions: Versions<'_>,
    ) -> Result<Option<(RelPath, Reason)>, WorldError> {
        let Some(whole) = &own.whole else {
            return Ok(None);
        };
        if versions.was.is_some() || versions.mine.is_some() {
            return Ok(None);
        }
        let filled = |root: &Path| -> Result<bool, WorldError> {
            Ok(first_left(root, whole, &|_| false)?.is_some())
        };
        let reason = match (filled(self.jail)?, filled(self.difference.older())?) {
            (true, _) => Reason::Whole,
            (false, true) => Reason::Deleted,
            (false, false) => return Ok(None),
        };
        Ok(Some((whole.clone(), reason)))
    }

    /// What is not merged text is not written to another file system, and does not stop a merge because of one.
    fn not_elsewhere(&self, path: &RelPath, own: &Own, what: What) -> Result<What, WorldError> {
        if own.class == Class::Merged || !matches!(what, What::Take | What::Remove) {
            return Ok(what);
        }
        let mut dirs = Dirs::open(self.jail)?;
        let mut at = path.clone();
        loop {
            match dirs.stat(&at) {
                Ok(Some(stat)) if stat.st_dev != self.device => {
                    return Ok(What::Left(Reason::Mounted(at)));
                }
                Ok(Some(_)) => return Ok(what),
                // What is in the way is found where it is, above.
                Ok(None) | Err(DirError::Missing(_) | DirError::Link(_) | DirError::File(_)) => {
                    at = at.parent();
                }
                Err(DirError::Sys(error)) => return Err(error),
            }
        }
    }

    /// A directory that the release has removed stays if something in it does.
    fn keep_directories(&mut self) -> Result<(), WorldError> {
        let removed = self.changes.iter().filter(|it| it.what == What::Remove);
        let mut goes: BTreeSet<RelPath> = removed.map(|it| it.path.clone()).collect();
        // The deepest first: what stays keeps what it is in.
        for change in self.changes.iter_mut().rev() {
            let was = self.difference.before(&change.path);
            if change.what != What::Remove || !was.is_some_and(State::is_directory) {
                continue;
            }
            self.context.cancel.check()?;
            if let Some(held) = first_left(self.jail, &change.path, &|path| goes.contains(path))? {
                goes.remove(&change.path);
                change.what = What::Left(Reason::NotEmpty(held));
            }
        }
        Ok(())
    }

    /// What is written below a directory that the jail has deleted brings that directory, as the skeleton has it.
    fn add_parents(&mut self) -> Result<(), WorldError> {
        let mut dirs = Dirs::open(self.jail)?;
        let taken = self.changes.iter().filter(|it| it.what == What::Take);
        let mut come: BTreeSet<RelPath> = taken.map(|it| it.path.clone()).collect();
        let mut missing = Vec::new();
        for change in &self.changes {
            let written = match &change.what {
                What::Take => Some(&change.path),
                What::Conflict(_) => change.put_beside(),
                What::Remove | What::Merge(_) | What::Left(_) => None,
            };
            let mut above = written.map_or_else(RelPath::root, RelPath::parent);
            while !above.is_root() && !come.contains(&above) {
                match dirs.stat(&above) {
                    Ok(None) | Err(DirError::Missing(_)) => {}
                    // What is in the way has been found before, or ends the merge.
                    Ok(Some(_)) | Err(DirError::Link(_) | DirError::File(_)) => break,
                    Err(DirError::Sys(error)) => return Err(error),
                }
                come.insert(above.clone());
                missing.push(above.clone());
                above = above.parent();
            }
        }
        for path in missing {
            // What is to stay deleted comes nevertheless, since something in it does.
            self.changes.retain(|change| change.path != path);
            self.add(path, What::Take, Vec::new(), None);
        }
        Ok(())
    }
}

/// Why what the jail has stays, in words for who reads it.
fn left(versions: Versions<'_>) -> Reason {
    match (versions.was, versions.is, versions.mine) {
        (_, _, Some(State::Blocked(by))) => Reason::InTheWay(by.clone()),
        (_, None, _) => Reason::Removed,
        (_, Some(_), None) => Reason::Deleted,
        (None, Some(_), Some(_)) => Reason::BothAdded,
        (Some(was), Some(is), Some(_)) if was.kind() != is.kind() => Reason::Became(is.kind()),
        (_, Some(is), Some(mine)) if mine.kind() != is.kind() => Reason::Made(mine.kind()),
        (_, Some(_), Some(_)) => Reason::BothChanged,
    }
}

/// The texts whose databases the jail has to make again: those of which text or database changes, unless both are
/// the release's then.
pub(super) fn renewed(
    changes: &[Change],
    databases: &[Database],
    jail: &Path,
    upstream: &dyn Fn(&RelPath) -> Option<State>,
    cancel: &Cancel,
) -> Result<Vec<RelPath>, WorldError> {
    let what = |path: &RelPath| {
        changes
            .iter()
            .find(|it| it.path == *path)
            .map(|it| &it.what)
    };
    let mut texts = Vec::new();
    for Database { from, made, .. } in databases {
        let untouched = |path| matches!(what(path), None | Some(What::Conflict(_)));
        if untouched(from) && untouched(made) {
            continue;
        }
        let of_the_release = |path: &RelPath| -> Result<bool, WorldError> {
            let is = upstream(path);
            Ok(what(path) == Some(&What::Take)
                || one(jail, path, [is.as_ref(), None], cancel)? == is)
        };
        if !(of_the_release(from)? && of_the_release(made)?) {
            texts.push(from.clone());
        }
    }
    texts.sort();
    texts.dedup();
    Ok(texts)
}
