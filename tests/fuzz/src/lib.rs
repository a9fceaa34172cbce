//! What the fuzz targets check, one module each: a function of bytes that panics at a finding.
//!
//! Included by `targets/` (with libFuzzer) and by `tests/corpus.rs` (without), so that what was
//! found stays found. Must not be here: libFuzzer, and anything that depends on time or order.

pub mod accounts;
pub mod fleet;
pub mod jailconf;
pub mod looks;
pub mod manifest;
pub mod merge;
pub mod mounts;
pub mod names;
pub mod profile;
pub mod stored;
pub mod tar;

/// A target by its name: the directory of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 11] = [
    ("accounts", accounts::check),
    ("fleet", fleet::check),
    ("jailconf", jailconf::check),
    ("looks", looks::check),
    ("manifest", manifest::check),
    ("merge", merge::check),
    ("mounts", mounts::check),
    ("names", names::check),
    ("profile", profile::check),
    ("stored", stored::check),
    ("tar", tar::check),
];
