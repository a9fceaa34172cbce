//! The output of jls(8) as data. Only jls(8) shows whether a jail is running.
//!
//! The exit statuses of other programs do not: jail(8) exits with 1 if it has removed a jail but an unmount failed, and
//! rc.d/jail exits with 0 if a start failed. This module is pure.

use std::path::PathBuf;

use serde_json::Value;

/// The arguments that print every jail, including those with which the kernel has not finished. With `-n` the keys are
/// the names of the parameters, which are the same in every release (usr.sbin/jls/jls.c).
pub const ARGUMENTS: [&str; 8] = [
    "--libxo", "json", "-d", "-n", "jid", "name", "path", "dying",
];

/// A jail in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The jail's id in the kernel.
    pub jid: u32,
    /// The full name, which begins with the parent's name for a child.
    pub name: String,
    /// The root directory.
    pub path: PathBuf,
    /// Whether it was removed, but something in the kernel still refers to it.
    pub dying: bool,
}

/// Parses the output. Numbers and booleans may be JSON values or strings, depending on the release and on the options.
///
/// # Errors
/// Returns what is wrong with the output.
pub fn parse(text: &[u8]) -> Result<Vec<Seen>, String> {
    let whole: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let list = whole
        .get("jail-information")
        .and_then(|information| information.get("jail"));
    match list {
        // In some styles libxo leaves out a list without entries.
        None if whole.get("jail-information").is_some() => Ok(Vec::new()),
        Some(Value::Array(jails)) => jails.iter().map(seen).collect(),
        _ => Err("it has no list of jails".to_owned()),
    }
}

fn seen(jail: &Value) -> Result<Seen, String> {
    let text = |key: &str| match jail.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Bool(value)) => Ok(value.to_string()),
        _ => Err(format!("a jail has no {key}: {jail}")),
    };
    let jid = text("jid")?;
    Ok(Seen {
        jid: jid
            .parse()
            .map_err(|_| format!("the jid {jid:?} is no number"))?,
        name: text("name")?,
        path: PathBuf::from(text("path")?),
        dying: match text("dying")?.as_str() {
            "true" | "1" => true,
            "false" | "0" => false,
            other => return Err(format!("dying is {other:?}")),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Written from the source that prints it, not recorded on a FreeBSD host.
    const TWO: &[u8] = br#"{"__version": "2", "jail-information": {"jail": [
        {"jid":"3","name":"web","path":"/usr/jails/web","dying":false},
        {"jid":4,"name":"web.db","path":"/usr/jails/web/x","dying":"true"}]}}
"#;

    #[test]
    fn jails_are_read() {
        let jails = parse(TWO).expect("it is well-formed");
        assert_eq!(jails.len(), 2);
        assert_eq!((jails[0].jid, jails[0].dying), (3, false));
        assert_eq!(jails[0].path, PathBuf::from("/usr/jails/web"));
        assert_eq!((jails[1].jid, jails[1].dying), (4, true));
        assert_eq!(jails[1].name, "web.db");
    }

    #[test]
    fn no_jail_is_no_error() {
        for text in [
            r#"{"__version": "2", "jail-information": {"jail": []}}"#,
            r#"{"__version": "2", "jail-information": {}}"#,
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(Vec::new()));
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (text, part) in [
            ("", "EOF"),
            ("   JID  IP Address", "expected"),
            (r#"{"jail-information": {"jail": 1}}"#, "no list"),
            (r#"{"other": 1}"#, "no list"),
            (r#"{"jail-information": {"jail": [{"jid": 1}]}}"#, "no name"),
            (
                r#"{"jail-information": {"jail": [{"jid":"x","name":"a","path":"/","dying":false}]}}"#,
                "no number",
            ),
        ] {
            let error = parse(text.as_bytes()).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
