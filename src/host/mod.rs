//! The hosts that can run jails; [`this_host`] chooses by operating system, and nothing else does.
//!
//! FreeBSD's is built everywhere, since it works through files and programs. Linux' is built only
//! there: it resolves paths of jails with openat2(2) and watches processes by pidfd, which no
//! other kernel has.

pub mod freebsd;
#[cfg(target_os = "linux")]
pub mod linux;

use std::path::Path;

use crate::ports::Host;

/// The host that this program was built for.
#[cfg(target_os = "linux")]
pub fn this_host(site_id: &str, site_directory: &Path) -> Box<dyn Host> {
    Box::new(linux::Linux::new(site_id, site_directory))
}

/// The host that this program was built for.
#[cfg(not(target_os = "linux"))]
pub fn this_host(site_id: &str, site_directory: &Path) -> Box<dyn Host> {
    Box::new(freebsd::FreeBsd::new(site_id, site_directory))
}
