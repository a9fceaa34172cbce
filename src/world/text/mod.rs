//! Texts that both a jail and its release have changed: what becomes of them.
//!
//! A jail chose the bytes of one of the texts, so the work on them is bounded (`lines`) and can be done
//! by a process that may do nothing else: a [`Request`] and its [`Answer`] travel through pipes
//! ([`frames`]). [`InProcess`] answers without one.
//! Must not be here: files of a jail, processes.

pub mod frames;
mod keyed;
mod lines;

use super::error::WorldError;
use super::progress::Cancel;

/// Longer texts are not merged, in bytes.
pub const TEXT_MAX: u64 = 1 << 20;

/// What is compared when texts are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Lines and their neighbours.
    Line,
    /// The name that each line begins with.
    Name,
    /// The name too, and no two names may get one number.
    Account,
}

/// One question about texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// What both sides have made of a base, as one text.
    Merge {
        /// How.
        by: By,
        /// What both come from.
        base: &'a str,
        /// The jail's.
        ours: &'a str,
        /// The release's.
        theirs: &'a str,
    },
    /// How a text becomes another, for people.
    Patch {
        /// The one.
        old: &'a str,
        /// The other.
        new: &'a str,
    },
}

/// What becomes of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The merged text, or the patch.
    Text(String),
    /// Both sides have changed the same part in different ways.
    Conflict,
    /// They are too long or too different to be compared.
    TooDifferent,
    /// The process that does the work ended, or did not answer in its time.
    NoAnswer,
}

/// Who answers.
pub trait Texts {
    /// Answers one request.
    ///
    /// # Errors
    /// [`WorldError::Interrupted`]; [`WorldError::Worker`]: there is no process that could answer.
    fn answer(&mut self, request: &Request<'_>, cancel: &Cancel) -> Result<Answer, WorldError>;
}

/// Answers in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct InProcess;

impl Texts for InProcess {
    fn answer(&mut self, request: &Request<'_>, cancel: &Cancel) -> Result<Answer, WorldError> {
        cancel.check()?;
        Ok(answer(request))
    }
}

/// Answers a request: a pure function, with bounded work.
pub fn answer(request: &Request<'_>) -> Answer {
    match *request {
        Request::Merge {
            by: By::Line,
            base,
            ours,
            theirs,
        } => match lines::merge(base, ours, theirs) {
            Ok(Some(text)) => Answer::Text(text),
            Ok(None) => Answer::Conflict,
            Err(lines::TooDifferent) => Answer::TooDifferent,
        },
        Request::Merge {
            by,
            base,
            ours,
            theirs,
        } => keyed::merge(base, ours, theirs, by == By::Account)
            .map_or(Answer::Conflict, Answer::Text),
        Request::Patch { old, new } => match lines::patch(old, new) {
            Ok(text) => Answer::Text(text),
            Err(lines::TooDifferent) => Answer::TooDifferent,
        },
    }
}
