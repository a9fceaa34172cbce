//! A jail's own files, from one skeleton to another: three-way, with the old skeleton as what both
//! come from.
//!
//! What only the release has changed is taken, what only the administrator has changed stays, and what
//! both have changed is merged line by line or is a conflict: then the jail's version stays, and the
//! release's is put beside it. The jail must not run; its links are never followed.
//! Must not be here: which jails, and what protects them while this works.

mod carry;
mod obstacle;
mod state;

use std::fmt;
use std::path::Path;

use super::dirs::{DirError, Dirs};
use super::error::WorldError;
use super::progress::{Context, Phase};
use super::text::{Answer, By, Request, TEXT_MAX, Texts};
use crate::profile::{Profile, RelPath};

pub use carry::carry_out;
pub use obstacle::Obstacle;
pub use state::Type;

use state::{State, Tree, first_own, one, tree};

/// What the release's version of a conflict is called: the name and this.
const BESIDE: &str = ".ezz-new";

/// How many names are tried if what has that name is a directory, and a file is to be put there, or the
/// reverse.
const BESIDE_TRIES: u32 = 9;

/// What happens to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The release's is taken.
    Take,
    /// It goes, as it went from the release.
    Remove,
    /// Both have changed it, in different lines.
    Merge(Vec<u8>),
    /// Both have changed it: the jail's stays, the release's is put beside it.
    Conflict(Reason),
}

/// Why the versions of a file are in conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Both have changed the same part of it, or it is no text.
    BothChanged,
    /// The release made something of another type of it, and the jail has changed it.
    Became(Type),
    /// The release made something else of a directory, and what is named here, in it, is the jail's own.
    Holds(Type, RelPath),
    /// What is named here, above it, is no directory in the jail.
    InTheWay(RelPath),
    /// It is too long, or the versions are too different, to be compared line by line.
    TooDifferent,
    /// The process that compares texts ended, or exceeded its time.
    NoAnswer,
}

/// A file that is not simply left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub path: RelPath,
    /// What happens to it.
    pub what: What,
    /// Of a conflict, what of the release is put where: the file itself, then all in it if it is a
    /// directory. Empty where a link of the jail's would lead it away, or no name for it is free.
    pub beside: Vec<(RelPath, RelPath)>,
    /// How its lines change, where they do: for people.
    pub diff: Option<String>,
}

/// What a merge would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// What changes, a directory before what is in it.
    pub changes: Vec<Change>,
    /// What keeps it from being done.
    pub obstacles: Vec<Obstacle>,
}

impl Change {
    /// Where the release's version of a conflict is put.
    pub fn put_beside(&self) -> Option<&RelPath> {
        self.beside.first().map(|(_, to)| to)
    }

    /// Why it is in conflict, if it is.
    pub fn reason(&self) -> Option<&Reason> {
        match &self.what {
            What::Conflict(reason) => Some(reason),
            What::Take | What::Remove | What::Merge(_) => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::BothChanged => write!(f, "both have changed it"),
            Reason::Became(kind) => {
                write!(f, "the release made it {kind}, and you have changed it")
            }
            Reason::Holds(kind, own) => {
                write!(f, "the release made it {kind}, and {own} is yours")
            }
            Reason::InTheWay(path) => write!(f, "{path} is no directory in the jail"),
            Reason::TooDifferent => write!(f, "too long or too different to compare"),
            Reason::NoAnswer => write!(f, "the comparison did not end"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match &self.what {
            What::Take => "take",
            What::Remove => "remove",
            What::Merge(_) => "merge",
            What::Conflict(_) => "CONFLICT",
        };
        write!(f, "{word} {}", self.path)?;
        match self.reason() {
            None | Some(Reason::BothChanged) => Ok(()),
            Some(reason) => write!(f, " ({reason})"),
        }
    }
}

/// Whose files are compared.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// The skeleton that the jail's files come from.
    pub old: &'a Path,
    /// The skeleton that they are brought to.
    pub new: &'a Path,
    /// The jail.
    pub jail: &'a Path,
}

/// Whether the changes come with the lines that change, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patches {
    /// They do.
    Made,
    /// They do not; it is work that nothing depends on.
    Left,
}

/// Finds out what has to happen to a jail's files, and what keeps it from happening; changes nothing. The
/// jail may run.
///
/// # Errors
/// [`WorldError`]: a tree cannot be read; interrupted.
pub fn examine(
    sides: Sides<'_>,
    profile: &Profile,
    texts: &mut dyn Texts,
    patches: Patches,
    context: &Context<'_>,
) -> Result<Examined, WorldError> {
    let Sides { old, new, jail } = sides;
    let phase = Phase::start(context, "compare", None);
    let before = tree(old, profile, context)?;
    let after = tree(new, profile, context)?;
    // A jail may have a million files: only those that the release has changed are looked at.
    let mut changed: Vec<&RelPath> = before
        .keys()
        .chain(after.keys())
        .filter(|path| before.get(*path) != after.get(*path))
        .collect();
    changed.sort();
    changed.dedup();
    let mut ask = |request: Request<'_>| texts.answer(&request, &context.cancel);
    let mut changes = Vec::new();
    // A directory that comes or goes by a change of type decides for all in it.
    let mut type_change: Option<(&RelPath, bool)> = None;
    for path in changed {
        context.cancel.check()?;
        phase.advance(1);
        type_change = type_change.filter(|(top, _)| path.is_within(top));
        let (was, is) = (before.get(path), after.get(path));
        let own = match (type_change, is) {
            (Some((_, false)), _) => continue,
            // It comes into a directory that is not there yet.
            (Some((_, true)), Some(_)) => None,
            (Some((_, true)) | None, _) => one(jail, path, [was, is], &context.cancel)?,
        };
        if own.as_ref() == is {
            continue;
        }
        let untouched = own.as_ref() == was || matches!(type_change, Some((_, true)));
        let what = match (is, untouched) {
            (Some(is), true) => match cleared(jail, path, own.as_ref(), is, &before, context)? {
                Some(own) => What::Conflict(Reason::Holds(is.kind(), own)),
                None => What::Take,
            },
            (None, true) => What::Remove,
            // What the release has dropped, and the jail has made its own, is the jail's.
            (None, false) => continue,
            (Some(is), false) => merged(sides, profile, path, (was, is, own.as_ref()), &mut ask)?,
        };
        let directory = |state: Option<&State>| state.is_some_and(State::is_directory);
        let (is_directory, was_there) = (directory(is), directory(own.as_ref()));
        if type_change.is_none() && is.is_some() && is_directory != was_there {
            type_change = Some((path, what == What::Take));
        }
        let diff = match (&what, patches) {
            (What::Remove, _) | (_, Patches::Left) => None,
            (What::Merge(text), Patches::Made) => patch(
                text_of(jail, path)?,
                Some(String::from_utf8_lossy(text).into_owned()),
                &mut ask,
            )?,
            (What::Take | What::Conflict(_), Patches::Made) => {
                patch(text_of(jail, path)?, text_of(new, path)?, &mut ask)?
            }
        };
        let whole = is_directory && !was_there;
        let beside = match what {
            What::Conflict(_) => beside(jail, path, whole, &after)?,
            What::Take | What::Remove | What::Merge(_) => Vec::new(),
        };
        let path = path.clone();
        changes.push(Change {
            path,
            what,
            beside,
            diff,
        });
    }
    let obstacles = obstacle::find(jail, &changes, &after)?;
    Ok(Examined { changes, obstacles })
}

/// Whether an untouched file of the jail can give way to the release's: what is the jail's own in a
/// directory that becomes something else.
fn cleared(
    jail: &Path,
    path: &RelPath,
    own: Option<&State>,
    is: &State,
    before: &Tree,
    context: &Context<'_>,
) -> Result<Option<RelPath>, WorldError> {
    if is.is_directory() || !own.is_some_and(State::is_directory) {
        return Ok(None);
    }
    first_own(jail, path, before, &context.cancel)
}

/// Where the release's version of a conflict is put: beside the jail's; of a directory, `whole`, with all
/// that is in it.
fn beside(
    jail: &Path,
    path: &RelPath,
    whole: bool,
    after: &Tree,
) -> Result<Vec<(RelPath, RelPath)>, WorldError> {
    let Some(is) = after.get(path) else {
        return Ok(Vec::new());
    };
    let parent = path.parent();
    let mut dirs = Dirs::open(jail)?;
    match dirs.dir(&parent, false) {
        Ok(_) | Err(DirError::Missing(_)) => {}
        // Not where a link of the jail's leads away: that one is named and no more.
        Err(DirError::Link(_) | DirError::File(_)) => return Ok(Vec::new()),
        Err(DirError::Sys(error)) => return Err(error),
    }
    for number in 0..BESIDE_TRIES {
        let mut name = [path.name().as_encoded_bytes(), BESIDE.as_bytes()].concat();
        if number > 0 {
            name.extend(format!(".{number}").into_bytes());
        }
        let Ok(top) = parent.join(&name) else {
            break;
        };
        let there = dirs.stat(&top).map_err(|e| e.in_tree(jail))?;
        let fits = |stat| State::is_directory_by(&stat) == is.is_directory();
        if there.is_none_or(fits) {
            let within = after
                .keys()
                .filter(|from| *from == path || whole && from.is_within(path));
            let to = |from: &RelPath| {
                let rest = &from.as_bytes()[path.as_bytes().len()..];
                let to = [top.as_bytes(), rest].concat();
                Some((from.clone(), RelPath::parse(&to).ok()?))
            };
            return Ok(within.map(to).collect::<Option<_>>().unwrap_or_default());
        }
    }
    Ok(Vec::new())
}

/// Asks who compares texts.
type Ask<'a> = dyn FnMut(Request<'_>) -> Result<Answer, WorldError> + 'a;

/// The three versions merged line by line or name by name, if they are texts and it can be done.
fn merged(
    sides: Sides<'_>,
    profile: &Profile,
    path: &RelPath,
    (was, is, own): (Option<&State>, &State, Option<&State>),
    ask: &mut Ask<'_>,
) -> Result<What, WorldError> {
    let conflict = |reason| Ok(What::Conflict(reason));
    let (Some(State::File(..)), State::File(..), Some(State::File(_, size, _))) = (was, is, own)
    else {
        return conflict(match own {
            Some(State::Blocked(by)) => Reason::InTheWay(by.clone()),
            Some(own) if own.kind() != is.kind() => Reason::Became(is.kind()),
            Some(_) | None => Reason::BothChanged,
        });
    };
    if *size > TEXT_MAX {
        return conflict(Reason::TooDifferent);
    }
    let (Some(base), Some(ours), Some(theirs)) = (
        text_of(sides.old, path)?,
        text_of(sides.jail, path)?,
        text_of(sides.new, path)?,
    ) else {
        return conflict(Reason::BothChanged);
    };
    let by = if profile.merge.numbered.contains(path) {
        By::Account
    } else if profile.merge.keyed.contains(path) {
        By::Name
    } else {
        By::Line
    };
    let answer = ask(Request::Merge {
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

/// How the lines of one text become another's, where there are both.
fn patch(
    old: Option<String>,
    new: Option<String>,
    ask: &mut Ask<'_>,
) -> Result<Option<String>, WorldError> {
    let (Some(old), Some(new)) = (old, new) else {
        return Ok(None);
    };
    if old == new {
        return Ok(None);
    }
    let (old, new) = (old.as_str(), new.as_str());
    Ok(match ask(Request::Patch { old, new })? {
        Answer::Text(text) => Some(text),
        Answer::Conflict | Answer::TooDifferent | Answer::NoAnswer => None,
    })
}

/// A regular file that is a text and not too long.
fn text_of(root: &Path, path: &RelPath) -> Result<Option<String>, WorldError> {
    let bytes = Dirs::open(root)?.read(path, TEXT_MAX + 1)?;
    let text = bytes.filter(|bytes| bytes.len() as u64 <= TEXT_MAX && !bytes.contains(&0));
    Ok(text.and_then(|bytes| String::from_utf8(bytes).ok()))
}
