//! Tests that begin with a site and a real Debian world.

mod create;
