//! Worlds on plain directories: archives made here, honest and hostile, and what becomes of them.
//! Works without root, save what says so.

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

/// Errors of a test.
pub type Fail = Box<dyn std::error::Error>;

/// Whether this runs as root; if not, says that a test was skipped.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "skipped {test}: needs root");
    }
    root
}
