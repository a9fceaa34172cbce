//! The inspector examines a site from outside, and reports which invariants are violated.
//!
//! It reads `zfs`, the mount table, `/proc` and files, and computes everything that it compares: it uses neither ezz's
//! library nor ezz's output. Tests of the lab call it in the guest; the program `lab-guest` (tests/guest) calls it
//! after a power cut. This module must not know what a scenario expects, and must not repair anything.

mod host;
mod own;
mod pool;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The time when an invariant must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// At any moment, also right after a kill or a power cut.
    Always,
    /// After the next command or `doctor --repair`, while nothing else is at work.
    Settled,
}

/// The violations, in the order of the checks.
#[derive(Debug, Default)]
struct Found {
    list: Vec<(When, String)>,
}

impl Found {
    fn always(&mut self, what: impl Into<String>) {
        self.list.push((When::Always, what.into()));
    }

    fn settled(&mut self, what: impl Into<String>) {
        self.list.push((When::Settled, what.into()));
    }
}

/// Returns all violations on a site where no ezz is at work and debris was cleared away.
pub fn site(site: &str) -> Vec<String> {
    look(site).list.into_iter().map(|(_, what)| what).collect()
}

/// Returns violations of what must hold at any moment, also before the first command after a cut.
pub fn at_any_moment(site: &str) -> Vec<String> {
    let found = look(site).list.into_iter();
    found
        .filter(|(when, _)| *when == When::Always)
        .map(|(_, what)| what)
        .collect()
}

/// Returns the epoch of a site; none if it has none of its own, or one that is no number.
pub fn epoch(site: &str) -> Option<u64> {
    let text = run("zfs", &["get", "-Hpo", "value,source", "ezz:epoch", site]).ok()?;
    let (value, source) = text.trim_end().split_once('\t')?;
    value.parse().ok().filter(|_| source == "local")
}

fn look(site: &str) -> Found {
    let mut found = Found::default();
    match pool::read(site) {
        Err(why) => found.always(why),
        Ok(rows) => {
            let seen = pool::check(&rows, &mut found);
            host::check(&seen, &mut found);
            own::check(&seen, &mut found);
            tree::check(&seen, &mut found);
        }
    }
    found
}

/// The results of the checks of the pool, which those of the host and of files use.
#[derive(Debug)]
struct Seen {
    site: String,
    /// The whole `ezz:id`; its first part is in names on the host.
    id: String,
    directory: PathBuf,
    /// Sealed generations, each with the SHA-256 of its manifest.
    sealed: Vec<(u32, String)>,
    /// All generations that have a dataset.
    numbers: Vec<u32>,
    /// The digests of the skeletons, by their seals.
    contents: BTreeMap<u32, String>,
    /// The generation of each thin jail's own files.
    files: BTreeMap<String, u32>,
    /// The generation that each jail was last merged to, by its configuration.
    records: BTreeMap<String, u32>,
    /// Jails that are marked as being merged.
    merging: BTreeSet<String>,
    /// Tracks, each with its current generation.
    tracks: Vec<(String, Option<u32>)>,
    jails: Vec<String>,
}

impl Seen {
    /// Returns whether the skeletons of two generations have the same files.
    fn same_skeleton(&self, one: u32, other: u32) -> bool {
        let content = |n| self.contents.get(&n);
        one == other || content(one).is_some() && content(one) == content(other)
    }
}

/// Runs a program to its end; returns its output, or its error.
fn run(program: &str, args: &[&str]) -> Result<String, String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the inspector uses nothing of ezz"
    )]
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{program} {}: {}: {}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    ))
}
