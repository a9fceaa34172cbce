//! A jail's account files: whatever they contain, a command in the jail runs with ids of the jail.
//!
//! The check covers the way from the bytes of the files to the JSON that crun gets. Only Linux reads these files; on
//! FreeBSD jexec(8) looks users up after it has entered the jail.

/// Checks data that is separated by RS: options (`h` for a jail with the host's ids, `n` for no user, `t` for a
/// terminal), the requested user, passwd, group.
#[cfg(target_os = "linux")]
pub fn check(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == 0x1e);
    let mut part = || parts.next().unwrap_or_default();
    let (options, user, passwd, group) = (part(), part(), part(), part());
    // The user is an argument of a program.
    let Ok(user) = std::str::from_utf8(user) else {
        return;
    };
    if user.contains('\0') {
        return;
    }
    let has = |option| options.contains(&option);
    linux::check(
        Some(user).filter(|_| !has(b'n')),
        passwd,
        group,
        if has(b'h') {
            linux::JailIds::OfHost
        } else {
            linux::JailIds::Own
        },
        has(b't'),
    );
}

/// Checks nothing: only Linux reads these files.
#[cfg(not(target_os = "linux"))]
pub fn check(_data: &[u8]) {}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;

    use ezz::host::linux::command::Command;
    pub use ezz::host::linux::jail_id::JailIds;
    use ezz::host::linux::users::{AccountError, Wanted};
    use serde_json::Value;

    pub fn check(user: Option<&str>, passwd: &[u8], group: &[u8], ids: JailIds, terminal: bool) {
        let found = Wanted::parse(user, ids).and_then(|wanted| {
            let account = wanted.account(passwd, group, ids);
            // No account file can prevent a command whose user and group are numbers.
            if !wanted.needs_passwd() && !wanted.needs_group() {
                assert!(account.is_ok(), "{account:?}");
            }
            account
        });
        let account = match found {
            Ok(account) => account,
            Err(error) => return refused(&error),
        };
        let command = Command {
            words: vec!["id".to_owned()],
            directory: Path::new("/"),
            environment: vec!["TERM=dumb".to_owned()],
            terminal: terminal.then_some((24, 80)),
        };
        let json = command.specification(&account).expect("it can be written");
        let process: Value = serde_json::from_slice(&json).expect("crun can read it");
        let (uid, gid, groups) = numbers(&process);
        for id in [uid, gid].iter().chain(&groups) {
            let most = if ids == JailIds::Own {
                65_535
            } else {
                4_294_967_294
            };
            assert!(*id <= most, "{id} is none of the jail's: {process}");
        }
        assert!(groups.len() <= 65_536, "more groups than the kernel takes");
        environment(&process);
        capabilities(&process, uid);
        meant(user, passwd, &process, uid);
    }

    /// Checks that a refusal names something, and is short enough to read.
    fn refused(error: &AccountError) {
        let text = error.to_string();
        assert!(
            text.len() > 10 && text.len() < 4096 + 10 * user_length(error),
            "{text}"
        );
        assert!(!text.contains(char::is_control), "{text:?}");
    }

    /// Returns the length of the name that was given, which the error repeats.
    fn user_length(error: &AccountError) -> usize {
        match error {
            AccountError::NoUser(name) | AccountError::NoGroup(name) => name.len(),
            _ => 0,
        }
    }

    fn numbers(process: &Value) -> (u64, u64, Vec<u64>) {
        let user = &process["user"];
        let number = |value: &Value| value.as_u64().expect("a number");
        let groups = match &user["additionalGids"] {
            Value::Null => Vec::new(),
            list => list
                .as_array()
                .expect("a list")
                .iter()
                .map(number)
                .collect(),
        };
        (number(&user["uid"]), number(&user["gid"]), groups)
    }

    /// Checks that each variable occurs once, on one line, and that there are no unexpected ones.
    fn environment(process: &Value) {
        let list = process["env"].as_array().expect("a list");
        let mut names = Vec::new();
        for variable in list {
            let variable = variable.as_str().expect("a text");
            assert!(!variable.contains(char::is_control), "{variable:?}");
            assert!(
                variable.len() < 8192,
                "a variable of {} bytes",
                variable.len()
            );
            let (name, value) = variable.split_once('=').expect("NAME=value");
            assert!(name != "HOME" || value.starts_with('/'), "{variable}");
            names.push(name);
        }
        let known = ["PATH", "HOME", "USER", "LOGNAME", "TERM"];
        match names.len() {
            5 => assert_eq!(names, known),
            _ => assert_eq!(names, ["PATH", "HOME", "TERM"]),
        }
    }

    /// Checks that an ordinary user has no capabilities.
    fn capabilities(process: &Value, uid: u64) {
        for set in ["effective", "permitted", "inheritable", "ambient"] {
            let list = process["capabilities"][set].as_array();
            let none = list.is_none_or(Vec::is_empty);
            assert!(
                none || uid == 0 && set != "inheritable" && set != "ambient",
                "{process}"
            );
        }
    }

    /// Checks that no user becomes another: a number is that number, no user means root, and a name has the id of the
    /// first entry with that name.
    fn meant(user: Option<&str>, passwd: &[u8], process: &Value, uid: u64) {
        let name = match user {
            None => return assert_eq!(uid, 0),
            Some(user) => user.split(':').next().unwrap_or_default(),
        };
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            return assert_eq!(name.trim_start_matches('0').parse().unwrap_or(0), uid);
        }
        let list = process["env"].as_array().expect("a list");
        assert!(list.contains(&format!("USER={name}").into()), "{process}");
        let said = passwd.split(|byte| *byte == b'\n').any(|line| {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
            let number = fields
                .get(2)
                .and_then(|field| std::str::from_utf8(field).ok());
            fields[0] == name.as_bytes() && number.and_then(|text| text.parse().ok()) == Some(uid)
        });
        assert!(said, "{name} has no uid {uid}");
    }
}
