//! Signals that ezz passes on to a command which the administrator runs in a jail, so that
//! `timeout(1)`, a supervisor or a script can end it by its `ezz exec`.

use std::io;
use std::process::{Child, ExitStatus};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::{Handle, Signals};

/// Signals that are caught, and wait to be passed on.
#[derive(Debug)]
pub struct Caught {
    signals: Signals,
    shares_terminal: bool,
}

impl Caught {
    /// Catches them from now on. A command that has the terminal itself gets those of its keys from there:
    /// then they are not passed on a second time.
    ///
    /// # Errors
    /// The system's.
    pub fn new(shares_terminal: bool) -> io::Result<Self> {
        let all = [SIGHUP, SIGTERM, SIGUSR1, SIGUSR2, SIGINT, SIGQUIT, SIGWINCH];
        Ok(Caught {
            // Those of keys, too: Ctrl-\ must not end ezz before the command.
            signals: Signals::new(all)?,
            shares_terminal,
        })
    }

    /// Passes them on to a child until it has ended, and takes its exit status. There is no limit.
    ///
    /// # Errors
    /// The system's.
    #[expect(
        clippy::disallowed_methods,
        reason = "a command that the administrator runs may take as long as it likes"
    )]
    pub fn until_ended(self, child: &mut Child) -> io::Result<ExitStatus> {
        let pid = Pid::from_child(child);
        let passing = Passing::to(self, pid);
        // Not reaped yet: until no signal is passed on any more its number must not be another's.
        let ended = loop {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(pid), options) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other,
            }
        };
        drop(passing);
        ended?;
        child.wait()
    }
}

/// The thread that passes them on, until this is dropped.
struct Passing {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Passing {
    fn to(caught: Caught, pid: Pid) -> Self {
        let Caught {
            mut signals,
            shares_terminal,
        } = caught;
        let handle = signals.handle();
        let pass = move || {
            let of_keys = [SIGINT, SIGQUIT, SIGWINCH];
            for signal in signals.forever() {
                if shares_terminal && of_keys.contains(&signal) {
                    continue;
                }
                if let Some(signal) = Signal::from_named_raw(signal) {
                    // It may have ended just now.
                    let _ = kill_process(pid, signal);
                }
            }
        };
        let thread = Some(std::thread::spawn(pass));
        Passing { handle, thread }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It cannot panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::exec::Exec;

    #[test]
    fn a_signal_reaches_the_command_and_its_status_comes_back() {
        let caught = Caught::new(false).expect("caught");
        let shell = Exec::new("sh").expect("every host has sh");
        // The signal is sent by the command itself, when it is ready for it.
        let script = "trap 'exit 7' USR1; kill -USR1 $PPID; while :; do sleep 0.05; done";
        let mut child = shell
            .args(["-c", script])
            .command()
            .spawn()
            .expect("started");
        let status = caught.until_ended(&mut child).expect("waited");
        assert_eq!(status.code(), Some(7));
        // And none is passed on to whoever gets its number.
        let caught = Caught::new(false).expect("caught");
        let shell = Exec::new("sh").expect("every host has sh");
        let mut child = shell
            .args(["-c", "kill -TERM $$"])
            .command()
            .spawn()
            .expect("started");
        let status = caught.until_ended(&mut child).expect("waited");
        assert_eq!(status.signal(), Some(15));
    }
}
