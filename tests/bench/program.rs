//! The benchmark compares ezz with the ways that do without it, side by side in one boot.
//!
//! On the host this program boots the lab once for each series of OpenZFS, and writes a table, JSON and plots; in the
//! guest it measures. Only ratios within one boot are meaningful: the guest's clock and its cost of processes are not
//! those of a real machine (vagrant/lab/README.md). Run it by `make bench`.

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

/// The measurements of one boot.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The version of the ZFS module.
    pub zfs: String,
    /// The number of rounds.
    pub rounds: usize,
    /// The samples by their names: milliseconds, unless the name has another unit.
    pub samples: BTreeMap<String, Vec<f64>>,
}

impl Measured {
    /// Adds a sample.
    pub fn add(&mut self, name: impl fmt::Display, value: f64) {
        let samples = self.samples.entry(name.to_string()).or_default();
        samples.push(value);
    }

    /// Returns the median of the samples.
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

    /// Returns the least and the greatest sample.
    pub fn spread(&self, name: &str) -> Option<(f64, f64)> {
        let samples = self.samples.get(name)?;
        let least = samples.iter().copied().min_by(f64::total_cmp)?;
        let most = samples.iter().copied().max_by(f64::total_cmp)?;
        Some((least, most))
    }
}

/// An error that ends the benchmark.
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

/// Prints a line on standard error; the result is written to files.
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
