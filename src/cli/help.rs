//! `ezz --help`: lists the verbs in groups, which clap does not support for subcommands.

use clap::builder::styling::Styles;
use clap::{Command as Arguments, Subcommand};

use super::Verb;

/// The groups, each with its verbs in the order in which they are listed.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Jails",
        &[
            "create", "clone", "apply", "list", "show", "start", "stop", "restart", "console",
            "exec", "delete",
        ],
    ),
    (
        "Worlds",
        &[
            "install", "update", "rollback", "converge", "merge", "world", "track",
        ],
    ),
    ("Site", &["init", "doctor"]),
    ("More", &["completions", "man", "help"]),
];

/// The column in which the description of a verb begins.
const COLUMN: usize = 15;

/// The last column of the description.
const WIDTH: usize = 80;

/// Returns the template of the help of ezz itself.
pub(super) fn template() -> String {
    let styles = Styles::styled();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let command = Verb::augment_subcommands(Arguments::new("ezz"));
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for (group, verbs) in GROUPS {
        text += &format!("\n{header}{group}:{header:#}\n");
        for verb in verbs {
            let blank = " ".repeat(COLUMN.saturating_sub(verb.len() + 2));
            let about = wrapped(&about(&command, verb));
            text += &format!("  {literal}{verb}{literal:#}{blank}{about}\n");
        }
    }
    text + &format!("\n{header}Options:{header:#}\n{{options}}")
}

/// Returns the first line of the help of a verb.
fn about(command: &Arguments, verb: &str) -> String {
    if verb == "help" {
        return "Print this message, or the help of a command".to_owned();
    }
    let about = command
        .find_subcommand(verb)
        .and_then(|verb| verb.get_about());
    about.map(ToString::to_string).unwrap_or_default()
}

/// Breaks a description into lines that begin in its column.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = |line: &String| line.is_empty() || COLUMN + line.len() + word.len() < WIDTH;
        match lines.last_mut().filter(|line| fits(line)) {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines.join(&format!("\n{}", " ".repeat(COLUMN)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_verb_is_in_exactly_one_group() {
        let mut listed = BTreeMap::new();
        for verb in GROUPS.iter().flat_map(|(_, verbs)| *verbs) {
            *listed.entry((*verb).to_owned()).or_insert(0) += 1;
        }
        let command = Verb::augment_subcommands(Arguments::new("ezz"));
        let verbs = command
            .get_subcommands()
            .map(|verb| verb.get_name().to_owned());
        let once: BTreeMap<String, i32> = verbs
            .chain(["help".to_owned()])
            .map(|verb| (verb, 1))
            .collect();
        assert_eq!(listed, once);
    }

    #[test]
    fn the_help_of_ezz_lists_the_verbs_with_what_they_do() {
        use clap::CommandFactory;

        let help = super::super::Cli::command().render_help().to_string();
        for part in [
            "\nUsage: ezz",
            "\nJails:\n  create       Create jails\n",
            "\nWorlds:\n",
            "\nSite:\n",
            "\nMore:\n",
            "\nOptions:\n",
            "--json",
        ] {
            assert!(help.contains(part), "no {part:?} in {help}");
        }
        assert!(!help.contains("\nCommands:"), "{help}");
    }
}
