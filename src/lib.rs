//! ezz: jails on ZFS. See `ARCHITECTURE.md` for the map.
#![forbid(unsafe_code)]

pub mod profile;
pub mod world;
