//! Who holds a lock: what the holder writes into the lock file, and what a waiter may believe of it.
//!
//! The text helps people. A holder that cannot write it still holds the lock, and a text that does not belong to a
//! live process is ignored. It decides one thing, see `starts`: which process a signal is for that ends a start.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::process::{Pid, test_kill_process};

/// A lock file has at most this many bytes.
const MOST: u64 = 512;

/// The rest of a longer command line is not written.
const LONGEST: usize = 120;

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// Since when, as the holder wrote it.
    pub since: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "pid {} ({}, since {})",
            self.pid, self.command, self.since
        )
    }
}

/// The line that this process writes into the files that it locks.
pub(super) fn own_line(command: &str, since: &str) -> String {
    let pid = std::process::id();
    let begun = begun(pid).unwrap_or(0);
    let command = printable(command);
    format!("{pid} {begun} {} {command}\n", printable(since))
}

/// Writes the holder's line. This empties the file first, which works on a full /run too: the line of an
/// earlier holder must not stay.
pub(super) fn write(file: &File, line: &str) {
    clear(file);
    // Without it a waiter reports that another ezz holds the lock.
    let _unnamed = file.write_all_at(line.as_bytes(), 0);
}

/// Adds a second line, once.
pub(super) fn add(file: &File, line: &str) {
    let mut text = [0; MOST as usize];
    let length = file.read_at(&mut text, 0).unwrap_or_default();
    if !text[..length].ends_with(line.as_bytes()) {
        // As above.
        let _unnamed = file.write_all_at(line.as_bytes(), length as u64);
    }
}

/// Removes the line.
pub(super) fn clear(file: &File) {
    let _unnamed = file.set_len(0);
}

/// The process that holds the lock on a file, if that is certain.
pub(super) fn read(file: &mut File) -> Option<Holder> {
    let mut bytes = Vec::new();
    file.rewind().ok()?;
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    Holder::at_work(&text)
}

impl Holder {
    /// The process that wrote a line, if it still runs.
    pub fn at_work(line: &str) -> Option<Self> {
        let (holder, begun) = Holder::parse(line)?;
        alive(holder.pid, begun).then_some(holder)
    }

    /// Reads the first line of a lock file: the holder, and when its process started, in clock ticks since the boot. What it
    /// shows has no control characters, whoever wrote the file.
    pub fn parse(text: &str) -> Option<(Holder, u64)> {
        let (text, _) = text.split_once('\n')?;
        let mut words = text.splitn(4, ' ');
        let pid = words.next()?.parse().ok()?;
        let begun = words.next()?.parse().ok()?;
        let since = printable(words.next()?);
        let command = printable(words.next()?);
        let holder = Holder {
            pid,
            command,
            since,
        };
        Some((holder, begun))
    }
}

/// Whether the process that wrote a line still runs, and its number was not reused.
fn alive(pid: u32, begun_then: u64) -> bool {
    if cfg!(target_os = "linux") {
        return begun(pid).is_some_and(|now| now == begun_then);
    }
    // FreeBSD has no procfs by default. Only a holder that was killed leaves its line behind.
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    id.is_some_and(|id| test_kill_process(id).is_ok())
}

/// When a process started, in clock ticks since the boot: the 22nd field of proc_pid_stat(5). None without procfs.
fn begun(pid: u32) -> Option<u64> {
    let path = Path::new("/proc").join(pid.to_string()).join("stat");
    let text = std::fs::read(path).ok()?;
    // The second field is the name in parentheses, which may contain blanks and parentheses.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    rest.split(' ').nth(19)?.parse().ok()
}

/// Letters, digits, blanks and ASCII punctuation, up to a limit.
fn printable(text: &str) -> String {
    let plain = |c: char| match c {
        ' ' => ' ',
        c if c.is_ascii_graphic() || c.is_alphanumeric() => c,
        _ => '?',
    };
    let mut short: String = text.chars().take(LONGEST).map(plain).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(text: &str) -> File {
        let file = tempfile::tempfile().expect("a temporary file");
        write(&file, text);
        file
    }

    #[test]
    fn a_holder_that_runs_is_named() {
        let mut file = file_with(&own_line("ezz stop web1", "2026-01-01T12:00:03Z"));
        let holder = read(&mut file).expect("this process runs");
        let pid = std::process::id();
        assert_eq!(
            holder.to_string(),
            format!("pid {pid} (ezz stop web1, since 2026-01-01T12:00:03Z)")
        );
        clear(&file);
        assert_eq!(read(&mut file), None);
    }

    #[test]
    fn a_line_of_a_process_that_ended_names_nobody() {
        // Greater than any process id on Linux and FreeBSD.
        let gone = i32::MAX;
        assert_eq!(
            read(&mut file_with(&format!("{gone} 7 t ezz stop\n"))),
            None
        );
        if cfg!(target_os = "linux") {
            // Another process has the number now.
            let pid = std::process::id();
            assert_eq!(read(&mut file_with(&format!("{pid} 1 t ezz stop\n"))), None);
        }
    }

    #[test]
    fn what_is_no_line_names_nobody() {
        let pid = std::process::id();
        let begun = begun(pid).unwrap_or(0);
        for text in [
            String::new(),
            "x".to_owned(),
            format!("{pid} {begun} t ezz stop"),
            format!("{pid} {begun} t\n"),
            "a".repeat(100_000),
        ] {
            assert_eq!(read(&mut file_with(&text)), None, "{text:.40}");
        }
    }

    #[test]
    fn a_command_line_is_bounded_and_printable() {
        let line = own_line("ezz stop \u{1b}[31m\u{202e}\n web1", "t");
        assert!(line.ends_with("ezz stop ?[31m?? web1\n"), "{line:?}");
        let long = own_line(&"ü".repeat(10_000), "t");
        assert!(
            long.len() < usize::try_from(MOST).unwrap_or(0),
            "{}",
            long.len()
        );
        assert!(Holder::parse(&long).is_some());
    }
}
