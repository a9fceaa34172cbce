//! A jail's account files: whatever they say, a command in the jail runs with ids of the jail.
//!
//! From the bytes of the files to the JSON that crun gets. Only Linux has this way in; on FreeBSD jexec(8)
//! looks users up in the jail, after it has entered that.

/// Separated by RS: options (`h` for a jail with the host's ids, `n` for nobody named, `t` for a terminal),
/// the user that is wanted, passwd, group.
#[cfg(target_os = "linux")]
pub fn check(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == 0x1e);
    let mut part = || parts.next().unwrap_or_default();
    let (options, user, passwd, group) = (part(), part(), part(), part());
    // An argument of a program.
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

/// See the other one.
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
            // Two numbers are a way in that no file closes.
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

    /// A refusal names something, and is no longer than a person reads.
    fn refused(error: &AccountError) {
        let text = error.to_string();
        assert!(
            text.len() > 10 && text.len() < 4096 + 10 * user_length(error),
            "{text}"
        );
        assert!(!text.contains(char::is_control), "{text:?}");
    }

    /// Of the name that was typed, which is repeated.
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

    /// Each variable once, on one line, none but those that it should have.
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

    /// An ordinary user has none.
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

    /// Nobody becomes another: a number is that number, nobody named is root, and a name is what the first
    /// entry of that name says.
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
