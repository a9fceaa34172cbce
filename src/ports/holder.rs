//! Processes that use a file system.

use std::fmt;

use crate::name::JailName;

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
