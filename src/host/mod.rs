//! The hosts that can run jails; [`this_host`] chooses by operating system, and nothing else does.
//!
//! Linux' is built only there: it resolves paths of jails with openat2(2) and watches processes by
//! pidfd, which no other kernel has.

#[cfg(target_os = "linux")]
pub mod linux;

/// The host that this program was built for.
#[cfg(target_os = "linux")]
pub fn this_host(site_id: &str, site_directory: &std::path::Path) -> Box<dyn crate::ports::Host> {
    Box::new(linux::Linux::new(site_id, site_directory))
}
