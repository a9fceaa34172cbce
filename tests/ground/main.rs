//! The ground under ezz: the real command line on a simulated machine (`tests/sim`), killed at every
//! step, meddled with, and looked at from the outside.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot go on says so by a panic"
)]

#[path = "../contract/mod.rs"]
mod contract_suite;
#[path = "../hosts/mod.rs"]
mod hosts_suite;
#[path = "../sim/mod.rs"]
mod sim;

mod contract;
mod crash;
mod globals;
mod hosts;
mod lanes;
mod looks;
mod machine;
mod names;
mod packages;
mod rules;
mod usage;
mod words;
