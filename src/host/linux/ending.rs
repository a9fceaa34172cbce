//! Asks the processes of a jail to end, and waits for them.
//!
//! Where the first process is no init of the world's own, ezz has to ask all of them: if the first one ended, the
//! kernel would kill the others at once (pid_namespaces(7)). So the first process, and the command that it was
//! started around, are asked last, by who calls this.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::paths::Paths;
use super::process::{Process, Seen, numbers};
use super::{cgroup, file, ids};
use crate::model::Killed;
use crate::name::JailName;
use crate::ports::HostError;

/// Between two looks, at first and at most.
const FIRST: Duration = Duration::from_millis(10);
const PAUSE: Duration = Duration::from_millis(200);

/// The first process of a command that is started in a jail is the second of its PID namespace.
const COMMAND: u32 = 2;

/// A process, however often its number is used again.
type Key = (u32, u64);

/// The processes of one jail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Processes<'a> {
    pub(super) paths: &'a Paths,
    pub(super) name: &'a JailName,
    /// The first of them.
    pub(super) init: &'a Process,
}

impl Processes<'_> {
    /// Asks all but the first one and its command to end, and does not wait. False if there are no others.
    ///
    /// # Errors
    /// [`HostError::File`].
    pub(super) fn ask_services(
        &self,
        signal: Signal,
        asked: &mut BTreeSet<Key>,
    ) -> Result<bool, HostError> {
        let services = self.ask_due(signal, asked, false)?;
        Ok(!services.is_empty())
    }

    /// Waits until all but the first one and its command have ended, each of which is asked once. Gives those that
    /// have not ended in time, which counts from `begun`.
    ///
    /// A process that was forked meanwhile is asked, too. The child of one that was asked and lives is not, until half
    /// of the time is over: it may be what that one does in order to end, such as to save its data.
    ///
    /// # Errors
    /// [`HostError::File`].
    pub(super) fn end(
        &self,
        signal: Signal,
        begun: Instant,
        time: Duration,
        mut asked: BTreeSet<Key>,
    ) -> Result<Vec<Killed>, HostError> {
        let directory = self.paths.jail(self.name);
        let failed = file("end the processes of", &directory);
        let mut pause = FIRST;
        loop {
            let late = begun.elapsed() >= time / 2;
            let services = self.ask_due(signal, &mut asked, late)?;
            if services.is_empty() {
                return Ok(Vec::new());
            }
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let killed = services.iter().map(|it| Killed::new(it.pid, &it.name));
                return Ok(killed.collect());
            }
            // If the first process ends, all do.
            if self.init.wait(pause.min(left)).map_err(&failed)? {
                return Ok(Vec::new());
            }
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// Asks those services that are to be asked now, and gives all that live.
    fn ask_due(
        &self,
        signal: Signal,
        asked: &mut BTreeSet<Key>,
        late: bool,
    ) -> Result<Vec<Seen>, HostError> {
        let directory = self.paths.jail(self.name);
        let failed = file("end the processes of", &directory);
        let services = self.services().map_err(&failed)?;
        for pid in due(&services, asked, late) {
            self.ask(pid, signal).map_err(&failed)?;
            asked.insert((pid.pid, pid.began));
        }
        Ok(services)
    }

    /// All that live.
    ///
    /// # Errors
    /// [`HostError::File`].
    pub(super) fn all(&self) -> Result<Vec<Seen>, HostError> {
        let directory = self.paths.jail(self.name);
        self.look()
            .map_err(file("look at the processes of", &directory))
    }

    fn look(&self) -> io::Result<Vec<Seen>> {
        let mut all = Vec::new();
        for pid in cgroup::processes(&self.paths.cgroup(self.name))? {
            all.extend(Seen::of(pid)?);
        }
        Ok(all)
    }

    /// All that live, without the first one, its command, and what descends from that.
    fn services(&self) -> io::Result<Vec<Seen>> {
        let mut all = self.look()?;
        let init = self.init.pid;
        let mut own = BTreeSet::from([init]);
        for it in all.iter().filter(|it| it.parent == init) {
            if let [_, COMMAND] = numbers(it.pid)?[..] {
                own.extend(descendants(&all, it.pid));
            }
        }
        all.retain(|it| !own.contains(&it.pid));
        Ok(all)
    }

    /// Sends a process the signal; those that wait in between get what makes them take it.
    fn ask(&self, seen: &Seen, signal: Signal) -> io::Result<()> {
        let Processes { paths, name, .. } = self;
        let owns = |id| ids::owner_of(&paths.ids(), id).as_deref() == Some(&*paths.owner(name));
        let Some(process) = Process::of_cgroup(seen.pid, &paths.cgroup(name), owns)? else {
            return Ok(());
        };
        process.signal(signal)?;
        if seen.terminal {
            // A shell at a terminal ignores SIGTERM.
            process.signal(Signal::HUP)?;
        }
        // One that is stopped takes no other signal.
        process.signal(Signal::CONT)
    }
}

/// A process and all that descend from it.
fn descendants(all: &[Seen], first: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([first]);
    loop {
        let children = all.iter().filter(|it| found.contains(&it.parent));
        let more: Vec<u32> = children
            .map(|it| it.pid)
            .filter(|pid| !found.contains(pid))
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Those that are to be asked now.
fn due<'a>(services: &'a [Seen], asked: &BTreeSet<Key>, late: bool) -> Vec<&'a Seen> {
    let key = |it: &Seen| (it.pid, it.began);
    let by_pid: BTreeMap<u32, Key> = services.iter().map(|it| (it.pid, key(it))).collect();
    let ending = |pid| {
        by_pid
            .get(&pid)
            .is_some_and(|parent| asked.contains(parent))
    };
    let due = services.iter().filter(|it| !asked.contains(&key(it)));
    due.filter(|it| late || !ending(it.parent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: u32, parent: u32, began: u64) -> Seen {
        Seen {
            pid,
            parent,
            terminal: false,
            began,
            name: "x".to_owned(),
        }
    }

    fn pids(due: &[&Seen]) -> Vec<u32> {
        due.iter().map(|it| it.pid).collect()
    }

    #[test]
    fn what_was_forked_meanwhile_is_asked_and_what_one_does_to_end_is_not() {
        let mut all = vec![seen(10, 1, 5), seen(11, 10, 5)];
        let mut asked = BTreeSet::new();
        assert_eq!(pids(&due(&all, &asked, false)), [10, 11]);
        asked.extend([(10, 5), (11, 5)]);
        assert_eq!(pids(&due(&all, &asked, false)), [0; 0]);
        // A child of one that was asked and lives; one that lost its parent; a number that is used again.
        all.extend([seen(12, 10, 6), seen(13, 1, 6)]);
        all[1].began = 7;
        assert_eq!(pids(&due(&all, &asked, false)), [13]);
        assert_eq!(pids(&due(&all, &asked, true)), [11, 12, 13]);
        // Its parent has ended, and the first process has taken it over.
        all.remove(0);
        all[0].parent = 1;
        all[1].parent = 1;
        assert_eq!(pids(&due(&all, &asked, false)), [11, 12, 13]);
    }

    #[test]
    fn descendants_are_found_in_any_order() {
        let all = [seen(9, 8, 1), seen(8, 7, 1), seen(7, 1, 1), seen(6, 1, 1)];
        assert_eq!(descendants(&all, 7), BTreeSet::from([7, 8, 9]));
        assert_eq!(descendants(&all, 6), BTreeSet::from([6]));
        // No circle keeps it.
        let circle = [seen(3, 4, 1), seen(4, 3, 1)];
        assert_eq!(descendants(&circle, 3), BTreeSet::from([3, 4]));
    }
}
