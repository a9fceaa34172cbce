//! ezz: jails on ZFS. `ARCHITECTURE.md` has the map; imports point one way:
//! `name <- model <- plan <- ports <- apply <- cli <- main` (tests/layers/).
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod confine;
pub mod crash;
pub mod exec;
pub mod execute;
pub mod fleet;
pub mod freebsd_release;
pub mod hint;
pub mod host;
pub mod lock;
pub mod model;
pub mod name;
pub mod observe;
pub mod plan;
pub mod pool;
pub mod ports;
pub mod profile;
pub mod report;
pub mod session;
pub mod syslog;
pub mod text;
pub mod world;
