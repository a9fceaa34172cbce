//! The end of a command that was to change a world: the last lines that it printed, and its log.

use std::path::{Path, PathBuf};

use crate::exec::{Watched, code};
use crate::model::printable;

/// How such a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldRun {
    /// Its exit code, or 128 + signal if a signal ended it; none if ezz stopped it.
    pub code: Option<i32>,
    /// The last lines that it printed, without characters that control a terminal.
    pub said: Vec<String>,
    /// The file with everything that it printed.
    pub log: PathBuf,
}

impl WorldRun {
    /// Creates the value from the end of the command's process.
    pub fn new(ended: &Watched, log: PathBuf) -> Self {
        WorldRun {
            code: ended.status.map(code),
            said: last_lines(&ended.said),
            log,
        }
    }
}

/// The number of lines of a failed command that an error shows, and the number of characters of each.
const LINES: usize = 10;
const WIDTH: usize = 200;

/// Returns the last lines that another program has printed, without characters that control the terminal of the host's
/// root.
fn last_lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| {
        // A progress bar overwrites its line: only its last state is kept.
        let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
        printable(line).chars().take(WIDTH).collect::<String>()
    });
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

/// The number of logs of such commands that a host keeps.
const LOGS: usize = 5;

/// Removes the logs of earlier commands, except for the newest few, from the directory of a log.
///
/// # Errors
/// Returns the error of the operating system.
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
            // Another command may have removed it at the same time.
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
