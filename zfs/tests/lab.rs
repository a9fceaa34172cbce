//! The real OpenZFS: every call and every program on a real pool, in the lab.
#![cfg(feature = "lab")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test looks at the pool by other means than its own"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "lab/call.rs"]
mod call;
#[path = "lab/pool.rs"]
mod pool;

#[path = "lab/channel.rs"]
mod channel;
#[path = "lab/create.rs"]
mod create;
#[path = "lab/datasets.rs"]
mod datasets;
#[path = "lab/destroy.rs"]
mod destroy;
#[path = "lab/mounts.rs"]
mod mounts;
#[path = "lab/nvlists.rs"]
mod nvlists;
#[path = "lab/programs.rs"]
mod programs;
