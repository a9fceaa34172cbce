//! The version of crun that ezz requires. The minimum follows crun's advisories: it has the fix of each one that could
//! reach a jail. For the other advisories the table gives the reason why they cannot, and tests verify that.

use std::sync::OnceLock;

use crate::exec::{Exec, ExecError};
use crate::ports::HostError;

/// A version: major, minor and patch number.
pub(super) type Version = (u32, u32, u32);

/// The oldest crun with which ezz starts jails: that of Debian 12, which the tests run.
pub(super) const FLOOR: Version = (1, 8, 1);

/// The first crun that writes nothing on the command's standard error when it has a log. Earlier ones write their
/// errors there, too (`log_also_to_stderr` in their `src/libcrun/error.c`).
const QUIET: Version = (1, 17, 0);

/// Reports whether the installed crun writes its errors on the command's standard error as well as into its log.
pub(super) fn repeats_errors() -> bool {
    let version = version_line().ok().and_then(|line| parse(&line));
    version.is_some_and(|version| version < QUIET)
}

/// A published vulnerability of crun.
#[derive(Debug, Clone, Copy)]
struct Advisory {
    /// Its CVE number.
    id: &'static str,
    /// The first release that has the fix; none if no release had it in November 2026.
    fixed: Option<Version>,
    /// Why it cannot reach a jail in any release; none if it can.
    unreachable: Option<&'static str>,
}

/// The advisories, newest first. Sources: the advisories of containers/crun, and Red Hat's tracker for those of 2026.
const ADVISORIES: [Advisory; 6] = [
    Advisory {
        id: "CVE-2026-88265",
        fixed: None,
        unreachable: Some("it follows a link at /dev/null, and a jail's /dev is a new tmpfs"),
    },
    Advisory {
        id: "CVE-2026-88264",
        fixed: None,
        unreachable: Some("it follows a link at /dev/console, and a jail's /dev is a new tmpfs"),
    },
    Advisory {
        id: "CVE-2026-30892",
        fixed: Some((1, 27, 0)),
        unreachable: Some("`crun exec --user 1` becomes root, and ezz gives a process file"),
    },
    Advisory {
        id: "CVE-2025-24965",
        fixed: Some((1, 20, 0)),
        unreachable: Some("only the krun handler has it, and ezz asks for no handler"),
    },
    Advisory {
        id: "CVE-2022-27650",
        fixed: Some((1, 4, 4)),
        unreachable: None,
    },
    Advisory {
        id: "CVE-2019-18837",
        fixed: Some((0, 10, 5)),
        unreachable: None,
    },
];

/// Parses a line such as `crun version 1.8.1` or `crun version 1.21`.
pub(super) fn parse(line: &str) -> Option<Version> {
    let mut numbers = line
        .strip_prefix("crun version ")?
        .trim()
        .split(['.', '-', '+']);
    let mut next = || numbers.next().unwrap_or("0").parse().ok();
    Some((next()?, next()?, next().unwrap_or(0)))
}

/// Returns the first line that the installed crun prints for `--version`.
///
/// # Errors
/// [`ExecError`] if crun does not exist or fails.
pub(super) fn version_line() -> Result<String, ExecError> {
    let output = Exec::new("crun")?.arg("--version").run()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Refuses a crun below the minimum. A command asks only once, however many jails it starts.
///
/// # Errors
/// [`HostError::Missing`], which names the version that is installed and the one that is required.
pub(super) fn require() -> Result<(), HostError> {
    static LINE: OnceLock<String> = OnceLock::new();
    let line = match LINE.get() {
        Some(line) => line,
        None => {
            let line = version_line().map_err(|error| HostError::Missing {
                what: format!("a crun that reports its version: {error}"),
                hint: "apt-get install --reinstall crun".to_owned(),
            })?;
            LINE.get_or_init(|| line)
        }
    };
    let version = parse(line);
    if version >= Some(FLOOR) {
        return Ok(());
    }
    let reached = version.map(reached).unwrap_or_default();
    let reached = match reached.is_empty() {
        true => String::new(),
        false => format!(" ({})", reached.join(", ")),
    };
    Err(HostError::Missing {
        what: format!("crun {} or later; it has {line:?}{reached}", shown(FLOOR)),
        hint: "apt-get install --only-upgrade crun".to_owned(),
    })
}

/// Returns the advisories that reach jails if this version starts them.
fn reached(version: Version) -> Vec<&'static str> {
    let reaches =
        |it: &&Advisory| it.unreachable.is_none() && it.fixed.is_none_or(|fixed| version < fixed);
    ADVISORIES.iter().filter(reaches).map(|it| it.id).collect()
}

/// Returns the version as text, such as `1.8.1`.
pub(super) fn shown((major, minor, patch): Version) -> String {
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (line, expected) in [
            ("crun version 1.8.1", Some((1, 8, 1))),
            ("crun version 1.21", Some((1, 21, 0))),
            ("crun version 1.14.1-dirty", Some((1, 14, 1))),
            ("runc version 1.1.5", None),
            ("", None),
        ] {
            assert_eq!(parse(line), expected, "{line:?}");
        }
        assert!(parse("crun version 1.21") >= Some(FLOOR));
        assert!(parse("crun version 1.8") < Some(FLOOR));
        assert!(parse("runc version 9.9.9") < Some(FLOOR));
    }

    #[test]
    fn no_advisory_reaches_a_jail() {
        assert_eq!(reached(FLOOR), [""; 0]);
        assert_eq!(reached((1, 4, 3)), ["CVE-2022-27650"]);
        assert_eq!(reached((0, 9, 0)), ["CVE-2022-27650", "CVE-2019-18837"]);
    }
}
