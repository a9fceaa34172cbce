//! Recognises the first process of a jail by the program that it runs, and determines how to request that it shuts down
//! its system. A jail controls what this module reads, so it must decide only how the jail is asked to stop.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::bundle::OWN_INIT;
use super::process::{Process, Seen};

/// Inits that need another signal than SIGTERM for a shutdown: the name of the program, and the signal.
///
/// systemd(1); busybox `init/init.c`. init(8) of sysvinit and `openrc-init` run their `ctrlaltdel` and their `reboot`
/// runlevel, which ends services as a halt does; so does runit(8).
const SIGNALS: [(&str, &str); 5] = [
    ("systemd", SYSTEMD),
    ("busybox", "SIGUSR2"),
    ("init", "SIGINT"),
    ("openrc-init", "SIGINT"),
    ("runit", "SIGINT"),
];

/// The signal that starts `halt.target`.
const SYSTEMD: &str = "SIGRTMIN+3";

/// The program that Debian's inittab for sysvinit runs at the console after a reboot has failed
/// (`z6:6:respawn:/sbin/sulogin`). All services have ended by then.
const AFTER_ALL: &str = "sulogin";

/// Reports whether an init that is shutting down still waits for this process of its jail.
pub(super) fn works(process: &Seen, init: u32) -> bool {
    let after_all = process.parent == init && process.name == AFTER_ALL;
    process.pid != init && !after_all
}

/// The first process of a jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Init {
    /// The small init of the host with a command; it passes no signal to the services of the jail.
    Own,
    /// systemd, which ends by itself.
    Systemd,
    /// Any other program. An init that has ended its services, but cannot end itself without the right to reboot,
    /// stays.
    Other {
        /// The signal that requests its shutdown; none if it is not a known init.
        signal: Option<&'static str>,
    },
}

impl Init {
    /// Determines the kind of a process.
    pub(super) fn of(process: &Process) -> io::Result<Self> {
        let link = PathBuf::from(format!("/proc/{}/exe", process.pid));
        match fs::read_link(&link) {
            Ok(program) => Ok(Init::by_program(&program)),
            // The process has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Init::Own),
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(Init::Own),
            Err(error) => Err(error),
        }
    }

    /// Determines the kind by the path of the program, as the jail has it.
    fn by_program(program: &Path) -> Self {
        let text = program.to_string_lossy();
        // The kernel adds this after an upgrade of the package.
        let path = text.strip_suffix(" (deleted)").unwrap_or(&text);
        let name = path.rsplit('/').next().unwrap_or_default();
        let known = SIGNALS.iter().find(|(known, _)| *known == name);
        match known {
            _ if path == OWN_INIT => Init::Own,
            Some((_, SYSTEMD)) => Init::Systemd,
            known => Init::Other {
                signal: known.map(|(_, signal)| *signal),
            },
        }
    }

    /// Returns the signal that requests its shutdown.
    pub(super) fn signal<'a>(&self, usual: &'a str) -> &'a str {
        match self {
            Init::Systemd => SYSTEMD,
            Init::Other { signal } => signal.unwrap_or(usual),
            Init::Own => usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_known_by_its_program() {
        let of = |path: &str| Init::by_program(Path::new(path));
        for (path, signal) in [
            ("/usr/lib/systemd/systemd", "SIGRTMIN+3"),
            ("/usr/lib/systemd/systemd (deleted)", "SIGRTMIN+3"),
            ("/bin/busybox", "SIGUSR2"),
            ("/sbin/init", "SIGINT"),
            ("/usr/sbin/openrc-init", "SIGINT"),
            ("/usr/bin/dash", "SIGTERM"),
            ("/dev/init", "SIGTERM"),
            ("systemd/", "SIGTERM"),
        ] {
            assert_eq!(of(path).signal("SIGTERM"), signal, "{path}");
        }
        assert_eq!(of("/dev/init"), Init::Own);
        assert_eq!(of("/basejail/usr/lib/systemd/systemd"), Init::Systemd);
        assert_eq!(
            of("/usr/dev/init"),
            Init::Other {
                signal: Some("SIGINT")
            }
        );
    }

    #[test]
    fn an_init_waits_for_all_but_itself_and_the_login_after_a_failed_reboot() {
        let seen = |pid, parent, name: &str| Seen {
            pid,
            parent,
            terminal: false,
            began: 1,
            name: name.to_owned(),
        };
        for (process, waits) in [
            (seen(10, 1, "init"), false),
            (seen(11, 10, "sulogin"), false),
            (seen(11, 10, "rc"), true),
            (seen(12, 11, "sulogin"), true),
        ] {
            assert_eq!(works(&process, 10), waits, "{process:?}");
        }
    }

    #[test]
    fn a_running_process_has_a_program() {
        let own = Process::of_cgroup(std::process::id(), "", |_| true);
        let own = own.expect("looked").expect("it runs");
        assert_eq!(
            Init::of(&own).expect("looked"),
            Init::Other { signal: None }
        );
    }
}
