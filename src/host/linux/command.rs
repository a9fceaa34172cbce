//! What `crun exec` is told of a command in a running jail. Pure.

use std::path::Path;

use super::bundle::exec_process;
use super::users::Account;

/// A command and what surrounds it.
#[derive(Debug, Clone)]
pub struct Command<'a> {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The directory in the jail.
    pub directory: &'a Path,
    /// Variables beside those of the account, `NAME=value`.
    pub environment: Vec<String>,
    /// Rows and columns of its terminal, if it gets one.
    pub terminal: Option<(u16, u16)>,
}

impl Command<'_> {
    /// The process specification (config.md of the OCI runtime specification, `process`), as JSON.
    ///
    /// # Errors
    /// A part that the specification does not allow, in words.
    pub fn specification(self, account: &Account) -> Result<Vec<u8>, String> {
        let Command {
            words,
            directory,
            environment,
            terminal,
        } = self;
        exec_process(words, account, directory, environment, terminal)
            .map_err(|error| error.to_string())
            .and_then(|process| serde_json::to_vec(&process).map_err(|error| error.to_string()))
    }
}
