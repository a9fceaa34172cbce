//! The lab tests: the built `ezz` on a real OpenZFS kernel, one kernel a test.
//!
//! A test runs the binary and then examines the pool, the mounts and the processes itself, by `zfs`, `/proc` and the
//! file system; ezz's output is never the only evidence. The first module of a test's name determines what the guest
//! has when it starts (vagrant/lab/runner): `bare` an empty pool `tank`; `sited` a pool with the site `tank/ezz` and a
//! real Debian world, installed as generation 1; `outside` nothing, because it runs on the host and controls the lab.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot go on says so by a panic"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests start programs as a user would, and the lab limits each test"
)]

mod bare;
#[path = "../contract/mod.rs"]
mod contract_suite;
#[path = "../hosts/mod.rs"]
mod hosts_suite;
mod inspect;
mod outside;
mod real;
mod sited;
mod support;
mod worlds;
