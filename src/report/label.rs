//! The labels of errors, warnings and hints, which look like those of cargo and jj.

use std::io::{IsTerminal, stderr};

use clap::builder::styling::{AnsiColor, Style};

/// The kind of a line on standard error.
#[derive(Debug, Clone, Copy)]
pub(super) enum Label {
    Error,
    Warning,
    Hint,
}

impl Label {
    /// Returns the label with its colon, in colour if requested.
    pub(super) fn shown(self, color: bool) -> String {
        let (word, of) = match self {
            Label::Error => ("error", AnsiColor::Red),
            Label::Warning => ("warning", AnsiColor::Yellow),
            Label::Hint => ("hint", AnsiColor::Cyan),
        };
        let style = match color {
            true => of.on_default().bold(),
            false => Style::new(),
        };
        format!("{style}{word}:{style:#}")
    }
}

/// Reports whether standard error shows colours: it is a terminal that can show them, and the user has not set
/// `NO_COLOR` to a value that is not empty (no-color.org).
pub fn wants_color() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    stderr().is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_a_colour_only_where_it_is_wanted() {
        assert_eq!(Label::Hint.shown(false), "hint:");
        assert_eq!(
            Label::Error.shown(true),
            "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m"
        );
    }
}
