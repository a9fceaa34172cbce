//! The benchmark: what ezz costs against the ways that do without it, side by side in one boot.
//!
//! On the host it boots the lab once for each series of OpenZFS, and writes a table, JSON and plots; in the
//! guest it measures. Only ratios of one boot mean something: the guest's clock and what a process costs
//! there are not those of a machine (vagrant/lab/README.md). Run by `make bench`.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark starts programs as a user would"
)]

mod guest;
mod jails;
mod memory;
mod plot;
mod report;
mod scale;
mod worlds;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// All that one boot has measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The module's version.
    pub zfs: String,
    /// How many rounds.
    pub rounds: usize,
    /// Samples by what was measured: milliseconds, unless the name says something else.
    pub samples: BTreeMap<String, Vec<f64>>,
}

impl Measured {
    /// Adds a sample.
    pub fn add(&mut self, name: impl fmt::Display, value: f64) {
        let samples = self.samples.entry(name.to_string()).or_default();
        samples.push(value);
    }

    /// The middle of the samples.
    pub fn median(&self, name: &str) -> Option<f64> {
        let mut sorted = self.samples.get(name)?.clone();
        sorted.sort_by(f64::total_cmp);
        let at = sorted.len() / 2;
        Some(if sorted.len() % 2 == 1 {
            sorted[at]
        } else {
            f64::midpoint(sorted[at - 1], sorted[at])
        })
    }

    /// The least and the most.
    pub fn spread(&self, name: &str) -> Option<(f64, f64)> {
        let samples = self.samples.get(name)?;
        let least = samples.iter().copied().min_by(f64::total_cmp)?;
        let most = samples.iter().copied().max_by(f64::total_cmp)?;
        Some((least, most))
    }
}

/// The benchmark cannot go on.
#[derive(Debug)]
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            text += &format!(": {inner}");
            source = inner.source();
        }
        Failure(text)
    }
}

/// A line on standard error: the result goes to files.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match &words[..] {
        ["guest", world, rounds, jails] => guest::measure(world, rounds, jails),
        ["report", out, files @ ..] => report::write(&PathBuf::from(out), files),
        _ => Err(Failure(
            "usage: ezz-bench guest WORLD ROUNDS JAILS | report DIRECTORY FILE...".to_owned(),
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(why)) => {
            say(&format!("ezz-bench: {why}"));
            ExitCode::FAILURE
        }
    }
}
