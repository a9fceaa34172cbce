//! The specification that `crun exec` gets for a command in a running jail. This module is pure.

use std::path::Path;

use super::bundle::exec_process;
use super::users::Account;

/// A command and its context.
#[derive(Debug, Clone)]
pub struct Command<'a> {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The working directory in the jail.
    pub directory: &'a Path,
    /// Environment variables besides those of the account, as `NAME=value`.
    pub environment: Vec<String>,
    /// The rows and columns of its terminal; none if it gets no terminal.
    pub terminal: Option<(u16, u16)>,
}

impl Command<'_> {
    /// Returns the process specification (config.md of the OCI runtime specification, `process`) as JSON.
    ///
    /// # Errors
    /// Returns a message for a part that the specification does not allow.
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
