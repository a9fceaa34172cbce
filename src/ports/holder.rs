//! Processes that use a file system.

use std::collections::BTreeSet;
use std::fmt;

use crate::name::JailName;
use crate::text::first_few;

/// A process that uses a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number on the host.
    pub pid: u32,
    /// The name of its program, as the process says it.
    pub command: String,
    /// The jail of this site that it belongs to, if it belongs to one.
    pub jail: Option<JailName>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}", self.pid, self.command.escape_debug())?;
        match &self.jail {
            Some(jail) => write!(f, " in jail {jail})"),
            None => write!(f, ")"),
        }
    }
}

/// Which processes use the files of a jail, for an error.
pub fn in_use(holders: &[Holder]) -> String {
    match holders {
        [] => String::new(),
        all => format!(" by {}", first_few(all, 3, ", ")),
    }
}

/// What to do about processes that use the files of a jail that is to be deleted.
pub fn in_use_hint(jail: &JailName, holders: &[Holder]) -> String {
    let of_jails: BTreeSet<&JailName> = holders.iter().filter_map(|it| it.jail.as_ref()).collect();
    let jails: Vec<String> = of_jails.iter().map(ToString::to_string).collect();
    let others = holders.iter().filter(|it| it.jail.is_none());
    let others: Vec<String> = others.map(|it| it.pid.to_string()).collect();
    let mut ways = Vec::new();
    if !jails.is_empty() {
        ways.push(format!("`ezz stop {}`", jails.join(" ")));
    }
    if !others.is_empty() {
        ways.push(format!("`kill {}`", others.join(" ")));
    }
    format!("{}, then `ezz delete {jail}` again", ways.join(" and "))
}
