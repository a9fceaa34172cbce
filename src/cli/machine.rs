//! The machine that a command works on: its pools, its host, its locks and its output. It is one value, so that the
//! same verbs run on this machine and on a simulated one.

use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use rustix::process::{Resource, getrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::texts::Worker;
use crate::config::{Config, ConfigError};
use crate::lock::RUN_DIRECTORY;
use crate::pool::SystemZfs;
use crate::ports::{Host, Zfs};
use crate::report::{Sink, Streams};
use crate::world::Cancel;
use crate::world::text::Texts;
use crate::{config, host, syslog};

/// The format of times, in which the order of the texts is that of the times.
const TIME: &str = "%Y-%m-%dT%H:%M:%SZ";

/// A machine that commands run on.
pub trait Machine: Sync + fmt::Debug {
    /// Returns the pools of the machine.
    fn zfs(&self) -> Box<dyn Zfs>;

    /// Returns the host that runs the jails of a site.
    fn host(&self, site_id: &str, site_directory: &Path) -> Box<dyn Host>;

    /// Returns the process id, which is unique on the machine.
    fn process_id(&self) -> u32;

    /// How many jails are worked on at once if nothing else is said: most of the time jails are waited for.
    fn jobs(&self) -> usize {
        let processors = std::thread::available_parallelism();
        processors
            .map_or(1, usize::from)
            .saturating_mul(2)
            .clamp(4, 64)
    }

    /// As many jails can be worked on at once without running out of file descriptors. A start needs ten of them at most,
    /// and the command itself about forty: its locks, the pool, its streams.
    fn most_jobs(&self) -> usize {
        let soft = getrlimit(Resource::Nofile).current;
        let soft = soft.map_or(usize::MAX, |soft| {
            usize::try_from(soft).unwrap_or(usize::MAX)
        });
        (soft.saturating_sub(44) / 10).max(1)
    }

    /// Where ezz keeps what does not outlive a boot.
    fn run_directory(&self) -> &Path;

    /// Reads the configuration of the machine.
    ///
    /// # Errors
    /// [`ConfigError`]; a missing configuration is an empty one.
    fn configuration(&self) -> Result<Config, ConfigError>;

    /// Writes a line to the log of the machine.
    fn log(&self, line: &str);

    /// Returns the current time, RFC 3339 in UTC, to the second.
    fn now(&self) -> String;

    /// Returns the time this many days ago, in the same form. If the clock is not usable, nothing counts as old.
    fn days_ago(&self, days: u32) -> String {
        let length = jiff::SignedDuration::from_hours(i64::from(days) * 24);
        let now = self.now().parse::<jiff::Timestamp>().ok();
        let then = now.and_then(|now| now.checked_sub(length).ok());
        then.map_or_else(String::new, |then| then.strftime(TIME).to_string())
    }

    /// Returns the name of the user.
    fn user(&self) -> String;

    /// Returns the flag that interrupts long work.
    fn cancel(&self) -> Cancel;

    /// Returns the object that compares texts of jails.
    fn texts(&self) -> Box<dyn Texts>;

    /// Returns the sink to which commands print.
    fn sink(&self) -> &'static dyn Sink;
}

/// The machine that this process runs on.
#[derive(Debug)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn zfs(&self) -> Box<dyn Zfs> {
        Box::new(SystemZfs::new())
    }

    fn host(&self, site_id: &str, site_directory: &Path) -> Box<dyn Host> {
        host::this_host(site_id, site_directory)
    }

    fn process_id(&self) -> u32 {
        std::process::id()
    }

    fn run_directory(&self) -> &Path {
        Path::new(RUN_DIRECTORY)
    }

    fn configuration(&self) -> Result<Config, ConfigError> {
        config::load()
    }

    fn log(&self, line: &str) {
        syslog::write(line);
    }

    fn now(&self) -> String {
        jiff::Timestamp::now().strftime(TIME).to_string()
    }

    /// Returns the user who logged in, where the system records that (Linux: proc_pid_loginuid(5)), and not the user
    /// that they became by sudo or su.
    fn user(&self) -> String {
        let login = std::fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
        let login = login.trim().parse().ok().filter(|uid| *uid != u32::MAX);
        let uid = login.map_or_else(nix::unistd::getuid, nix::unistd::Uid::from_raw);
        let known = nix::unistd::User::from_uid(uid).ok().flatten();
        known.map_or_else(|| uid.to_string(), |user| user.name)
    }

    /// Returns the flag that SIGINT, SIGTERM and SIGHUP set. Short work is finished nevertheless.
    fn cancel(&self) -> Cancel {
        static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
        let flag = FLAG.get_or_init(|| {
            let flag = Arc::new(AtomicBool::new(false));
            for signal in [SIGINT, SIGTERM, SIGHUP] {
                // It fails only for signals that cannot be caught.
                let _registered = signal_hook::flag::register(signal, Arc::clone(&flag));
            }
            flag
        });
        Cancel::new(Arc::clone(flag))
    }

    fn texts(&self) -> Box<dyn Texts> {
        Box::new(Worker::new())
    }

    fn sink(&self) -> &'static dyn Sink {
        &Streams
    }
}
