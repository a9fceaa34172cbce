//! The simulated tests: the real command line on a simulated machine (`tests/sim`), which is killed at every step,
//! changed by others, and inspected from outside.

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
