//! ezz: jails on ZFS. `ARCHITECTURE.md` has the map; imports point one way:
//! `name <- model <- plan <- ports <- apply <- cli <- main` (tests/layers.rs).
#![forbid(unsafe_code)]

pub mod exec;
pub mod model;
pub mod name;
