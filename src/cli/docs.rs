//! `ezz completions` and `ezz man`: texts that are made from the command line's own description.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};

use super::{Cli, CliError, Context};
use crate::report::Exit;

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz completions bash > /etc/bash_completion.d/ezz")]
pub struct Completions {
    /// Name of the shell
    shell: clap_complete::Shell,
}

/// Write the manual pages into a directory
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ezz man /usr/local/share/man/man8")]
pub struct Man {
    /// Directory for the pages
    directory: PathBuf,
}

impl Completions {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ezz", &mut text);
        text.extend_from_slice(jails(self.shell).as_bytes());
        context
            .report
            .file(&text)
            .map_err(|source| CliError::Write {
                path: "standard output".to_owned(),
                source,
            })?;
        Ok(Exit::Done)
    }
}

/// Returns the shell code that completes the names of jails, which the command line's description does not have.
fn jails(shell: clap_complete::Shell) -> &'static str {
    match shell {
        clap_complete::Shell::Bash => include_str!("../../templates/completions/ezz.bash"),
        clap_complete::Shell::Fish => include_str!("../../templates/completions/ezz.fish"),
        clap_complete::Shell::Zsh => include_str!("../../templates/completions/ezz.zsh"),
        _ => "",
    }
}

impl Man {
    pub(super) fn run(self) -> Result<Exit, CliError> {
        let mut command = Cli::command();
        command.build();
        write_pages(&self.directory, &command)?;
        Ok(Exit::Done)
    }
}

fn write_pages(directory: &Path, command: &clap::Command) -> Result<(), CliError> {
    let page = clap_mangen::Man::new(command.clone()).section("8");
    let path = directory.join(page.get_filename());
    let failed = |source| CliError::Write {
        path: path.display().to_string(),
        source,
    };
    let mut file = File::create(&path).map_err(failed)?;
    page.render(&mut file).map_err(failed)?;
    for verb in command
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help")
    {
        write_pages(directory, verb)?;
    }
    Ok(())
}
