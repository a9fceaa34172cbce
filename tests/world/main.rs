//! Worlds on plain directories: archives that are made here, valid and hostile, and the result of unpacking them. The
//! tests work without root, except those that report that they were skipped.

mod archive;
mod compress;
mod extract;
mod hostile;
mod manifest;
mod merge;
mod numbers;
mod own_files;
mod own_odd;
mod own_plants;
mod pipeline;
mod undo;

/// The error of a test.
pub type Fail = Box<dyn std::error::Error>;

/// Returns whether the test runs as root; if not, reports that it was skipped.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "skipped {test}: needs root");
    }
    root
}
