//! The hosts that can run jails. Only [`this_host`] chooses between them, by the operating system.
//!
//! The FreeBSD host is built everywhere, because it works through files and programs. The Linux host is built only on
//! Linux: it resolves paths of jails with openat2(2) and watches processes by pidfd, which no other kernel has.

pub mod freebsd;
#[cfg(target_os = "linux")]
pub mod linux;

use std::path::Path;

use crate::ports::Host;

/// Returns the host for which this program was built.
#[cfg(target_os = "linux")]
pub fn this_host(site_id: &str, site_directory: &Path) -> Box<dyn Host> {
    Box::new(linux::Linux::new(site_id, site_directory))
}

/// Returns the host for which this program was built.
#[cfg(not(target_os = "linux"))]
pub fn this_host(site_id: &str, site_directory: &Path) -> Box<dyn Host> {
    Box::new(freebsd::FreeBsd::new(site_id, site_directory))
}
