//! Finds the processes that are killed when a jail ends. jail(8) sends SIGTERM to each process, waits for
//! `stop.timeout`, and removes the jail, which kills the remaining processes. It does not report them (`term_procs` in
//! usr.sbin/jail/command.c). So ezz looks at the processes of the jail while jail(8) is at work.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::FreeBsd;
use super::ops::{Pause, outcome};
use super::view::View;
use crate::exec::ExecError;
use crate::model::Killed;
use crate::name::JailName;

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// The time that a look may take.
const PS: Duration = Duration::from_secs(5);

/// Repeated looks at the processes of a jail.
#[derive(Debug)]
pub(super) struct Looks<'a> {
    host: &'a FreeBsd,
    jid: u32,
    begun: Instant,
    last: Cell<Instant>,
    found: RefCell<Vec<Killed>>,
}

impl<'a> Looks<'a> {
    pub(super) fn new(host: &'a FreeBsd, jid: u32) -> Self {
        let now = Instant::now();
        Looks {
            host,
            jid,
            begun: now,
            last: Cell::new(now),
            found: RefCell::default(),
        }
    }

    /// Looks again, if the last look was long enough ago.
    pub(super) fn again(&self) {
        if self.last.get().elapsed() < LOOK {
            return;
        }
        // If the processes cannot be read, the jail can still be stopped.
        let found = self.host.processes(self.jid).unwrap_or_default();
        self.last.set(Instant::now());
        // After the jail has ended, jail(8) still has to unmount what was in it.
        let view = self.host.look_again();
        let there = |view: Arc<View>| view.jails.iter().any(|it| it.jid == self.jid && !it.dying);
        if !found.is_empty() || view.is_ok_and(there) {
            *self.found.borrow_mut() = found;
        }
    }

    /// Returns the processes of the last look, if the jail ended only after the timeout.
    pub(super) fn killed(self, timeout: Duration) -> Vec<Killed> {
        match self.begun.elapsed() >= timeout {
            true => self.found.into_inner(),
            false => Vec::new(),
        }
    }
}

impl FreeBsd {
    /// Returns the processes of a jail that have not ended.
    fn processes(&self, jid: u32) -> Result<Vec<Killed>, ExecError> {
        let ps = self.system.exec("ps")?.limit(PS);
        let jid = jid.to_string();
        let ps = ps.args(["-x", "-J", &jid, "-o", "pid=", "-o", "stat=", "-o", "comm="]);
        // ps(1) fails if there are none.
        let ended = ps.ended()?;
        let text = String::from_utf8_lossy(&ended.stdout);
        Ok(text.lines().filter_map(process).collect())
    }

    /// Sends SIGTERM to the processes of a jail, waits until they have ended or the time is over, and returns those
    /// that are left.
    pub(super) fn ask_processes(&self, jid: u32, time: Duration) -> Result<Vec<Killed>, ExecError> {
        let pkill = self.system.exec("pkill")?.limit(PS);
        // The jail is the only condition. pkill(1) fails if no process matches.
        outcome(pkill.args(["-TERM", "-j", &jid.to_string()]))?;
        let begun = Instant::now();
        let mut pause = Pause::new();
        loop {
            let left = self.processes(jid)?;
            if left.is_empty() || begun.elapsed() >= time {
                return Ok(left);
            }
            pause.wait();
        }
    }

    /// Reports the processes that were killed.
    pub(super) fn killed_in(&self, name: &JailName, killed: Vec<Killed>, time: Duration) {
        if killed.is_empty() {
            return;
        }
        self.note(Killed::told(name, &killed, time.as_secs()));
        let mut all = self.killed.lock();
        if let Ok(all) = &mut all {
            all.insert(name.clone(), killed);
        }
    }
}

/// Parses a line of ps(1): process id, state, and name, which may contain blanks. A zombie has ended.
fn process(line: &str) -> Option<Killed> {
    let (pid, rest) = line.trim_start().split_once(' ')?;
    let (state, name) = rest.trim_start().split_once(' ')?;
    let lives = !state.starts_with('Z');
    Some(Killed::new(pid.parse().ok()?, name.trim())).filter(|_| lives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ps_is_a_process() {
        assert_eq!(
            process(" 4711 SJ   my daemon"),
            Some(Killed::new(4711, "my daemon"))
        );
        assert_eq!(process("4711 ZJ <defunct>"), None);
        assert_eq!(process(""), None);
        assert_eq!(process("x SJ y"), None);
    }
}
