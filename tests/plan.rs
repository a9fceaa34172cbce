//! Plans are values: they are made here from an inventory and a request, without a pool or a host.
//!
//! [`told`] shows a plan with one line for each step. It also checks that the commits of each plan count the epoch up
//! by one, beginning with the epoch that was observed.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot go on says so by a panic"
)]

mod plans;
