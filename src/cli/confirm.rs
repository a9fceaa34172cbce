//! The question before something is destroyed: it is asked on a terminal; elsewhere `--yes` answers it.

use std::io::{self, IsTerminal};

use super::{CliError, Context, input};

/// Asks for confirmation. The lines in `about` say what will be done.
///
/// # Errors
/// [`CliError::NotConfirmed`]; [`CliError::Interrupted`].
pub(super) fn confirm(
    context: &Context<'_>,
    on: &str,
    about: &str,
    question: &str,
) -> Result<(), CliError> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CliError::NotConfirmed {
            what: "cannot ask for confirmation without a terminal",
            command: Some(context.words.clone()),
        });
    }
    context.report.note(format!("changes to {on}:"));
    context.report.ask(about, question);
    let answer = input::line().inspect_err(|_| context.report.unanswered())?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::NotConfirmed {
            what: "not confirmed; nothing was changed",
            command: None,
        }),
    }
}
