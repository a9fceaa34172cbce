//! A simulated machine: a pool, its mounts and a host that runs jails, in memory and in one temporary directory. The
//! same verbs run on it as on a real one (`ezz::cli::run_on`).
//!
//! It refuses what OpenZFS refuses, with the same errno. The channel programs are not imitated: the Lua of
//! `zfs/programs` itself runs on the simulated pool. Its rules were observed on real pools, and `tests/contract` keeps
//! them correct. Where it differs from the lab, it is wrong.
//!
//! In addition it simulates death at every step (`fault`): a call that is never made, that is half done, or whose reply
//! is lost, after which the process does nothing more; and power cuts.

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
