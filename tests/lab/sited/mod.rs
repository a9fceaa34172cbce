//! Tests that begin with a site and a real Debian world.

mod console;
mod create;
mod run;
mod security;
