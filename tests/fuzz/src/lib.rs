//! The checks of the fuzz targets, one module each: a function of bytes that panics when it finds a fault.
//!
//! `targets/` includes these modules with libFuzzer, and `tests/corpus.rs` without it, so that what was found stays
//! found. This module must not use libFuzzer, or anything that depends on time or order.

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

/// A target: its name, which is also the name of its corpus, and its check.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
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
