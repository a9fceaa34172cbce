//! Plans as what they are: values made from an inventory and a request, without a pool or a host.
//!
//! [`told`] shows a plan as one line a step, and checks of each plan that its commits count the
//! epoch up by one from the one that was observed.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot go on says so by a panic"
)]

mod plans;
