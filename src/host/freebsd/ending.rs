//! Whom the end of a jail kills. jail(8) asks each process by SIGTERM, waits for `stop.timeout`, removes the jail, which
//! kills the others, and says nothing about it (`term_procs` in usr.sbin/jail/command.c). So ezz looks at the
//! processes of the jail while jail(8) is at work.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::FreeBsd;
use super::ops::{Pause, outcome};
use super::view::View;
use crate::exec::ExecError;
use crate::model::Killed;
use crate::name::JailName;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// How long a look may take.
const PS: Duration = Duration::from_secs(5);

/// The processes of a jail, looked at again and again.
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

    /// Looks, if the last look was a while ago.
    pub(super) fn again(&self) {
        if self.last.get().elapsed() < LOOK {
            return;
        }
        // That it cannot be told who is killed keeps nobody from stopping the jail.
        let found = self.host.processes(self.jid).unwrap_or_default();
        self.last.set(Instant::now());
        // After its end jail(8) still has to unmount what was in it.
        let view = self.host.look_again();
        let there = |view: Arc<View>| view.jails.iter().any(|it| it.jid == self.jid && !it.dying);
        if !found.is_empty() || view.is_ok_and(there) {
            *self.found.borrow_mut() = found;
        }
    }

    /// Those that were there at the last look, if the jail was stopped only after its time was over.
    pub(super) fn killed(self, timeout: Duration) -> Vec<Killed> {
        match self.begun.elapsed() >= timeout {
            true => self.found.into_inner(),
            false => Vec::new(),
        }
    }
}

impl FreeBsd {
    /// The processes of a jail that live.
    fn processes(&self, jid: u32) -> Result<Vec<Killed>, ExecError> {
        let ps = self.system.exec("ps")?.limit(PS);
        let jid = jid.to_string();
        let ps = ps.args(["-x", "-J", &jid, "-o", "pid=", "-o", "stat=", "-o", "comm="]);
        // It fails if there are none.
        let ended = ps.ended()?;
        let text = String::from_utf8_lossy(&ended.stdout);
        Ok(text.lines().filter_map(process).collect())
    }

    /// Asks the processes of a jail to end, and waits as long as its time allows; those that are left.
    pub(super) fn ask_processes(&self, jid: u32, time: Duration) -> Result<Vec<Killed>, ExecError> {
        let pkill = self.system.exec("pkill")?.limit(PS);
        // With the jail as its only condition. That there is none is a failure to it.
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

    /// Says who was killed.
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

/// A line of ps(1): number, state, name, which may have blanks. A zombie has ended.
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
