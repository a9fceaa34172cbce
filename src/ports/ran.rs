//! How a command ended that was to change a world: its last words, and its log.

use std::path::{Path, PathBuf};

use crate::exec::{Watched, code};
use crate::model::printable;

/// How such a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldRun {
    /// Its exit code, 128 + signal if a signal ended it; none if it was stopped.
    pub code: Option<i32>,
    /// The last lines that it printed, without what would control a terminal.
    pub said: Vec<String>,
    /// All that it printed.
    pub log: PathBuf,
}

impl WorldRun {
    /// From how its process ended.
    pub fn new(ended: &Watched, log: PathBuf) -> Self {
        WorldRun {
            code: ended.status.map(code),
            said: last_lines(&ended.said),
            log,
        }
    }
}

/// How many lines of a failed updater an error shows, and how many characters of each.
const LINES: usize = 10;
const WIDTH: usize = 200;

/// The last lines of what another program has printed, without what would control the terminal of the host's root.
fn last_lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| {
        // Of a progress bar what it showed last.
        let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
        printable(line).chars().take(WIDTH).collect::<String>()
    });
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

/// How many logs of such commands a host keeps.
const LOGS: usize = 5;

/// Removes all logs of earlier commands but the newest few, from the directory that one was written in.
///
/// # Errors
/// The system's.
pub fn few_logs(log: &Path) -> std::io::Result<()> {
    let Some(directory) = log.parent() else {
        return Ok(());
    };
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            let number = name.strip_prefix("stage-")?.strip_suffix(".log")?;
            number.parse::<u32>().ok()
        });
        if let Some(number) = number {
            logs.push((number, directory.join(&name)));
        }
    }
    logs.sort();
    for (_, old) in &logs[..logs.len().saturating_sub(LOGS)] {
        match std::fs::remove_file(old) {
            Ok(()) => {}
            // Another command has removed it just now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_plain() {
        let text =
            "first\n10%\r20%\rdone\n\n\u{1b}[31mred\u{1b}[0m\n\u{202e}turned\u{200b}\n\u{202e}\n";
        assert_eq!(last_lines(text), ["first", "done", "[31mred[0m", "turned"]);
        let many: Vec<String> = (0..50)
            .map(|n| format!("{n} {}", "x".repeat(1000)))
            .collect();
        let shown = last_lines(&many.join("\n"));
        assert_eq!(shown.len(), LINES);
        assert!(shown[0].starts_with("40 x") && shown[0].len() == WIDTH);
    }

    #[test]
    fn of_the_logs_the_newest_stay() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        let others = ["web.log", "stage-x.log", "stage-1.txt"];
        let logs = [2, 9, 10, 11, 100, 101].map(|n| format!("stage-{n}.log"));
        let logs: Vec<&str> = logs.iter().map(String::as_str).collect();
        for name in others.iter().chain(&logs) {
            std::fs::write(at(name), "").expect("written");
        }
        few_logs(&at("stage-10.log")).expect("removed");
        assert!(!at("stage-2.log").exists());
        assert!(
            others
                .iter()
                .chain(&logs[1..])
                .all(|name| at(name).exists())
        );
    }
}
