//! The health of a pool's devices and data, as zpool(8) reports it.

use crate::exec::Exec;
use crate::ports::{Check, Level};

/// Runs zpool(8); returns none if it fails.
pub(super) fn of(pool: &str) -> Option<Check> {
    let status = Exec::new("zpool").ok()?.args(["status", pool]);
    let output = status.run().ok()?;
    parse(pool, &String::from_utf8_lossy(&output.stdout))
}

/// Parses the lines `state:` and `errors:` (zpool-status(8)). Every version prints both or neither.
fn parse(pool: &str, text: &str) -> Option<Check> {
    let value = |key: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.trim_start().strip_prefix(key))
    };
    let (state, errors) = (value("state: ")?.trim(), value("errors: ")?);
    let errors = errors.split(", use ").next().unwrap_or(errors).trim();
    let whole = errors == "No known data errors";
    let level = match state {
        "ONLINE" if whole => Level::Ok,
        "DEGRADED" if whole => Level::Warning,
        _ => Level::Bad,
    };
    let hint = match whole {
        true => format!("`zpool status {pool}` names the device that failed"),
        false => format!(
            "`zpool scrub {pool}` reads all data again, and then `zpool status -v {pool}` names the files that are damaged: restore them from a backup or a snapshot"
        ),
    };
    Some(Check {
        what: "pool".to_owned(),
        level,
        found: format!("{pool} is {state}, {}", lower(errors)),
        hint: (level != Level::Ok).then_some(hint),
    })
}

fn lower(text: &str) -> String {
    match text.strip_prefix("No ") {
        Some(rest) => format!("no {rest}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_zpool_says_is_understood() {
        let text = |state: &str, errors: &str| {
            format!(
                "  pool: tank\n state: {state}\nconfig:\n\n\tNAME  STATE  READ WRITE CKSUM\n\ttank  {state}  0 0 0\n\nerrors: {errors}\n"
            )
        };
        for (state, errors, level, found) in [
            (
                "ONLINE",
                "No known data errors",
                Level::Ok,
                "tank is ONLINE, no known data errors",
            ),
            (
                "DEGRADED",
                "No known data errors",
                Level::Warning,
                "tank is DEGRADED, no known data errors",
            ),
            (
                "ONLINE",
                "3 data errors, use '-v' for a list",
                Level::Bad,
                "tank is ONLINE, 3 data errors",
            ),
            (
                "SUSPENDED",
                "No known data errors",
                Level::Bad,
                "tank is SUSPENDED, no known data errors",
            ),
        ] {
            let check = parse("tank", &text(state, errors)).expect("understood");
            assert_eq!((check.level, &*check.found), (level, found));
            assert_eq!(check.hint.is_some(), level != Level::Ok);
        }
        assert_eq!(parse("tank", "cannot open 'tank': no such pool\n"), None);
    }
}
