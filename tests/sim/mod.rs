//! A simulated machine: a pool, its mounts, a host that runs jails, in memory and in one temporary
//! directory. The same verbs run on it as on a real one (`ezz::cli::run_on`).
//!
//! It refuses what OpenZFS refuses, with its errno; the channel programs are not imitated: the very
//! Lua of `zfs/programs` runs on the simulated pool. What it knows was seen on real pools, and
//! `tests/contract` is what keeps it so. Where it differs from the lab, it is wrong.
//!
//! What it adds is death at every step (`fault`): a call that is never made, half-made or whose
//! reply is lost, and then nothing more of that process; and power cuts.

pub mod dump;
pub mod fault;
pub mod files;
pub mod freebsd;
pub mod host;
pub mod invariants;
pub mod lua;
pub mod machine;
pub mod mounts;
pub mod pool;
pub mod world;
pub mod zfs;

pub use dump::Dump;
pub use fault::{Death, Fault, When};
pub use machine::{Ended, SimMachine};

/// The site of every test.
pub const SITE: &str = "tank/ezz";
