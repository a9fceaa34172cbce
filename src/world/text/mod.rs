//! Merges texts that both a jail and its release have changed.
//!
//! A jail chose the bytes of one of the texts. So the work is bounded (`lines`), and can be done by a process that has
//! no other rights: a [`Request`] and its [`Answer`] travel through pipes ([`frames`]). [`InProcess`] answers without
//! such a process.
//! This module must not access files of a jail, nor start processes.

pub mod frames;
mod keyed;
mod lines;

use super::error::WorldError;
use super::progress::Cancel;

/// The longest text that is merged, in bytes.
pub const TEXT_MAX: u64 = 1 << 20;

/// The unit by which texts are compared in a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Lines and their neighbours.
    Line,
    /// The name that each line begins with.
    Name,
    /// The name, as in `Name`; in addition, no two names may get one number.
    Account,
}

/// One question about texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Merges what both sides have made of a base into one text.
    Merge {
        /// The unit of comparison.
        by: By,
        /// The version that both sides come from.
        base: &'a str,
        /// The version of the jail.
        ours: &'a str,
        /// The version of the release.
        theirs: &'a str,
    },
    /// Shows people how one text becomes another.
    Patch {
        /// The text before the change.
        old: &'a str,
        /// The text after the change.
        new: &'a str,
    },
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The merged text, or the patch.
    Text(String),
    /// Both sides have changed the same part in different ways.
    Conflict,
    /// The texts are too long or too different to be compared.
    TooDifferent,
    /// The process that does the work has ended, or did not answer in time.
    NoAnswer,
}

/// Something that answers requests about texts.
pub trait Texts {
    /// Answers one request.
    ///
    /// # Errors
    /// [`WorldError::Interrupted`]; [`WorldError::Worker`]: no process that could answer exists.
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

/// Answers a request. This is a pure function with bounded work.
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
