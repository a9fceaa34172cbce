//! Starts that are at work: who starts which jail. A start may take as long as the services of the jail take, so
//! others have to see it, and `stop` and `delete` may end it.
//!
//! The record of a start is a file that the starting process locks: it counts as long as the lock is held, hence
//! never for a process that is gone. A file beside it asks for the end of that start. The process that starts looks
//! for it, and takes this one start back. One that does not is ended itself, by signals: who holds the lock is in
//! the file, and is asked for only while the lock is held.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use rustix::process::{Pid, Signal, kill_process};

use super::{File, Held, Holder, LOOK, LockError, Locks, Wait, holder};
use crate::name::JailName;

/// A start that has been at work for so long hangs, in the eyes of a `stop` or `delete` of that jail.
const HANGS: Duration = Duration::from_secs(10);

/// How long a start may take to answer when it is asked to end: it looks twenty times a second.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a start that has answered may take to take itself back.
const BACK: Duration = Duration::from_secs(60);

/// How long the process of a start that does not end may take after each signal. What the second one leaves, the
/// next stop clears away.
const SIGNALS: [(Signal, &str, Duration); 2] = [
    (Signal::TERM, "SIGTERM", Duration::from_secs(5)),
    (Signal::KILL, "SIGKILL", Duration::from_secs(10)),
];

/// The second line of the record of a start that is being taken back.
const ENDING: &str = "ending\n";

/// How long who looks at a record may hold it.
const LOOKED_AT: Duration = Duration::from_secs(1);

/// The record of a start of this process, until it is dropped.
#[derive(Debug)]
pub struct Start {
    file: Flock<File>,
    path: PathBuf,
    end: PathBuf,
}

impl Start {
    /// The process that asked for the end of this start, if one has. From then on, the record says that this start ends.
    pub fn ended_by(&self) -> Option<String> {
        let text = fs::read_to_string(&self.end).ok()?;
        let (who, _) = Holder::parse(&text)?;
        holder::add(&self.file, ENDING);
        Some(who.to_string())
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        // While it is locked. What cannot be removed is nobody's record.
        let _left = fs::remove_file(&self.end);
        let _left = fs::remove_file(&self.path);
        holder::clear(&self.file);
    }
}

impl Locks {
    /// Records that this process starts a jail. None if that cannot be recorded, which is no reason not to start it.
    pub fn starting(&self, name: &JailName) -> Option<Start> {
        let (path, end) = self.start_files(name);
        let mut wait = Wait::new("this start", LOOKED_AT, None);
        // Who looks at the record holds it for a moment.
        let file = self.steadfast().lock(&path, &mut wait).ok()?;
        let _stale = fs::remove_file(&end);
        holder::write(&file, &self.manners.line);
        Some(Start { file, path, end })
    }

    /// The jails that are being started, by whomever.
    pub fn starts(&self) -> BTreeSet<JailName> {
        let prefix = format!("{}-start-", self.id);
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let files = entries.flatten().map(|entry| entry.file_name());
        let names = files.filter_map(|file| {
            let name = file
                .to_str()?
                .strip_prefix(&prefix)?
                .strip_suffix(".lock")?;
            JailName::parse(name).ok()
        });
        names.filter(|name| self.start_of(name).is_some()).collect()
    }

    /// Locks jails. A start of one of them that keeps the lock and hangs is ended, after the user was told.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn jails_ending_starts(&self, names: &BTreeSet<JailName>) -> Result<Held, LockError> {
        let end = || self.end_hanging(names);
        self.take_jails(names, Some(&end))
    }

    /// Ends those starts of these jails that hang; whether one did.
    fn end_hanging(&self, names: &BTreeSet<JailName>) -> Result<bool, LockError> {
        let starts = self.starts();
        let mut ended = false;
        for name in starts.intersection(names) {
            let (path, _) = self.start_files(name);
            let begun = fs::metadata(path).and_then(|found| found.modified());
            let age = begun.ok().and_then(|begun| begun.elapsed().ok());
            if age.is_some_and(|age| age >= HANGS) {
                ended |= self.end_start(name)?;
            }
        }
        Ok(ended)
    }

    fn start_files(&self, name: &JailName) -> (PathBuf, PathBuf) {
        let file = |end: &str| {
            self.directory
                .join(format!("{}-start-{name}.{end}", self.id))
        };
        (file("lock"), file("end"))
    }

    /// Who starts a jail: some process holds the lock of its record, and its name is known or not.
    fn start_of(&self, name: &JailName) -> Option<Option<Holder>> {
        let (path, _) = self.start_files(name);
        let file = File::open(path).ok()?;
        match Flock::lock(file, nix::fcntl::FlockArg::LockSharedNonblock) {
            Err((mut file, nix::errno::Errno::EAGAIN)) => Some(holder::read(&mut file)),
            Ok(_) | Err(_) => None,
        }
    }

    /// Ends the start of a jail that is at work, if one is; false if none is.
    ///
    /// # Errors
    /// [`LockError::Held`] if it does not end; [`LockError::Interrupted`].
    fn end_start(&self, name: &JailName) -> Result<bool, LockError> {
        let Some(first) = self.start_of(name) else {
            return Ok(false);
        };
        let who = first.as_ref().map(Holder::to_string);
        let who = who.unwrap_or_else(|| "another ezz".to_owned());
        (self.manners.tell)(&format!("ending the start of {name} by {who}"));
        let (_, end) = self.start_files(name);
        // Without room for it the signals are left.
        let _unasked = fs::write(&end, &self.manners.line);
        let done = self.end_start_of(name, first.as_ref());
        let _left = fs::remove_file(&end);
        match done? {
            true => Ok(true),
            false => Err(LockError::Held {
                what: "the start of this jail",
                holder: first,
            }),
        }
    }

    fn end_start_of(&self, name: &JailName, first: Option<&Holder>) -> Result<bool, LockError> {
        // One that is suspended, as by Ctrl-Z in a shell, cannot answer.
        self.signal_start(name, first, Signal::CONT);
        let begun = Instant::now();
        while !self.answers(name) && begun.elapsed() < ANSWER {
            if self.start_ends(name, first, Duration::ZERO)? {
                return Ok(true);
            }
            self.pause(LOOK, "a start to end")?;
        }
        if self.answers(name) && self.start_ends(name, first, BACK)? {
            return Ok(true);
        }
        for (signal, word, time) in SIGNALS {
            let Some(who) = first.filter(|_| self.signal_start(name, first, signal)) else {
                break;
            };
            (self.manners.tell)(&format!(
                "{who} does not end the start of {name}; ezz sent it {word}"
            ));
            if self.start_ends(name, first, time)? {
                return Ok(true);
            }
        }
        self.start_ends(name, first, Duration::ZERO)
    }

    /// Sends a signal to the process of a start: to the very one that holds the lock at this moment, and has held it
    /// before. False if there is none.
    fn signal_start(&self, name: &JailName, first: Option<&Holder>, signal: Signal) -> bool {
        let now = self.start_of(name).flatten();
        let same = now.filter(|now| Some(now) == first);
        let pid = same.and_then(|who| Pid::from_raw(i32::try_from(who.pid).ok()?));
        let Some(pid) = pid else {
            return false;
        };
        // It may have ended just now.
        let _gone = kill_process(pid, signal);
        true
    }

    /// Whether the start of a jail has seen that it is to end.
    fn answers(&self, name: &JailName) -> bool {
        let (path, _) = self.start_files(name);
        fs::read_to_string(path).is_ok_and(|text| text.ends_with(ENDING))
    }

    /// Waits until a process no longer starts a jail.
    fn start_ends(
        &self,
        name: &JailName,
        first: Option<&Holder>,
        time: Duration,
    ) -> Result<bool, LockError> {
        let begun = Instant::now();
        loop {
            match self.start_of(name) {
                Some(now) if now.as_ref() == first => {}
                Some(_) | None => return Ok(true),
            }
            if begun.elapsed() >= time {
                return Ok(false);
            }
            self.pause(LOOK, "a start to end")?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::super::Manners;
    use super::*;

    fn locks(directory: &std::path::Path, said: &Arc<Mutex<Vec<String>>>) -> Locks {
        let said = Arc::clone(said);
        let tell = move |text: &str| {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.push(text.to_owned());
        };
        let manners = Manners::new(|| false, tell, "ezz stop a", "2026-01-01T12:00:03Z");
        Locks::new(directory, "id", Duration::ZERO).with(manners)
    }

    fn name(text: &str) -> JailName {
        JailName::parse(text).expect("valid")
    }

    #[test]
    fn a_start_is_seen_while_it_is_at_work() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let locks = locks(directory.path(), &Arc::default());
        assert_eq!(locks.starts(), BTreeSet::new());
        let start = locks.starting(&name("a")).expect("recorded");
        assert_eq!(locks.starts(), BTreeSet::from([name("a")]));
        assert!(locks.starting(&name("a")).is_none(), "it is another's");
        assert_eq!(start.ended_by(), None);
        drop(start);
        assert_eq!(locks.starts(), BTreeSet::new());
        // What a process left that was killed.
        let (path, end) = locks.start_files(&name("a"));
        fs::write(&path, &locks.manners.line).expect("written");
        fs::write(&end, &locks.manners.line).expect("written");
        assert_eq!(locks.starts(), BTreeSet::new());
        let start = locks.starting(&name("a")).expect("recorded");
        assert_eq!(start.ended_by(), None, "that was for another start");
        drop(start);
        let left = fs::read_dir(directory.path()).expect("listed").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_start_is_told_to_end_and_another_is_left_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let said = Arc::default();
        let locks = locks(directory.path(), &said);
        let all = BTreeSet::from([name("a")]);
        let held = locks.jails(&all).expect("free");
        let other = locks.starting(&name("b")).expect("recorded");
        let error = locks.jails_ending_starts(&all).expect_err("it is held");
        assert!(matches!(error, LockError::Held { .. }), "{error}");
        assert_eq!(other.ended_by(), None);
        let start = locks.starting(&name("a")).expect("recorded");
        let error = locks.jails_ending_starts(&all).expect_err("it is held");
        assert!(matches!(error, LockError::Held { .. }), "{error}");
        assert_eq!(start.ended_by(), None, "it has just begun");
        assert!(!locks.answers(&name("a")));
        let long_ago = std::time::UNIX_EPOCH;
        start.file.set_modified(long_ago).expect("it is ours");
        let taken = std::thread::scope(|scope| {
            scope.spawn(|| {
                while start.ended_by().is_none() {
                    std::thread::sleep(LOOK);
                }
                let by = start.ended_by();
                assert!(by.is_some_and(|by| by.contains("(ezz stop a, since")));
                assert!(locks.answers(&name("a")));
                assert!(
                    locks.start_of(&name("a")).flatten().is_some(),
                    "it is named"
                );
                drop(start);
                drop(held);
            });
            locks.jails_ending_starts(&all)
        });
        drop(taken.expect("it is free then"));
        let said = said.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            said[0].starts_with("ending the start of a by pid "),
            "{said:?}"
        );
        assert_eq!(other.ended_by(), None);
    }
}
