//! Recognises typical mistakes on the command line, and suggests what was meant: verbs of other programs, verbs that
//! ezz does not have, options of another verb. The suggestions of clap only consider the spelling.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use super::{Cli, CliError};

/// Verbs of other programs, and the verb of ezz that does the same.
const SAME: [(&str, &str); 14] = [
    ("add", "create"),
    ("destroy", "delete"),
    ("remove", "delete"),
    ("rm", "delete"),
    ("info", "show"),
    ("inspect", "show"),
    ("jls", "list"),
    ("ls", "list"),
    ("ps", "list"),
    ("status", "list"),
    ("shell", "console"),
    ("run", "exec"),
    ("upgrade", "update"),
    ("worlds", "world"),
];

/// What ezz cannot do yet, and what to use until then.
const NOT_YET: [(&[&str], &str); 14] = [
    (
        &["set", "config", "edit", "modify"],
        "`ezz list --fleet NAME JAIL > NAME.toml` writes what it has; change that, and `ezz apply NAME.toml`",
    ),
    (
        &["rename", "mv"],
        "`ezz clone OLD NEW` makes the same jail under another name, without host keys and addresses; then `ezz delete OLD`",
    ),
    (
        &["cp", "copy"],
        "`ezz exec JAIL -- tar -cf - -C / DIR | tar -xf -`, or the other way round",
    ),
    (
        &["snapshot", "undo", "undelete"],
        "`zfs snapshot SITE/jails/JAIL@NAME` makes one; `ezz show JAIL` has the dataset",
    ),
    (
        &[
            "archive",
            "backup",
            "export",
            "send",
            "replicate",
            "move",
            "migrate",
        ],
        "`zfs snapshot -r SITE@NAME` and `zfs send -R SITE@NAME` send a whole site; `ezz doctor --adopt` takes it over there",
    ),
    (
        &["restore", "receive", "import"],
        "`zfs receive` takes a whole site, and `ezz doctor --adopt` makes it one of this host",
    ),
    (
        &["logs", "log", "events"],
        "the console output of jails is in /var/log/ezz; ezz logs its changes in the system's log",
    ),
    (
        &["stats", "top", "metrics", "usage"],
        "`ezz list --sort used` shows what jails take of the pool; on Linux, `systemd-cgtop` the rest",
    ),
    (
        &["mount", "volume"],
        "on FreeBSD, `ezz create --dataset` gives a jail a dataset of its own",
    ),
    (
        &["network", "publish"],
        "ezz has only --network and --address of `ezz create`",
    ),
    (
        &["pkg", "apt"],
        "`ezz update --run COMMAND` changes the world of all thin jails; a thick jail (`ezz create --thick`) has a package manager of its own",
    ),
    (
        &["service"],
        "`ezz exec JAIL -- service NAME start`, or systemctl, as the jail has it",
    ),
    (
        &["health"],
        "`ezz create --health COMMAND` sets a command, which `ezz converge` and roll-outs run",
    ),
    (
        &["flavour", "profile", "unlock", "recreate"],
        "flavours are directories of the site, and profiles come with ezz: see docs/jails.md and docs/worlds.md",
    ),
];

/// What an option that a verb does not have means there.
const OPTIONS: [(&str, &str, &str); 6] = [
    ("delete", "--all", "`ezz delete '*'` names all jails"),
    (
        "create",
        "--name",
        "the name has no option: `ezz create NAME`",
    ),
    ("create", "--ip4", "`ezz create NAME --address ADDRESS`"),
    (
        "list",
        "--all",
        "`ezz list` lists all jails, running or not",
    ),
    ("list", "-a", "`ezz list` lists all jails, running or not"),
    (
        "list",
        "-l",
        "`ezz list --columns` chooses the columns, `ezz show NAME` shows all of one jail",
    ),
];

/// Returns an error of the command line with a suggestion, if the intention is clear; otherwise the error of clap
/// without misleading suggestions.
pub(super) fn explained(mut error: Error, verb: Option<&str>) -> Result<CliError, Error> {
    let invalid = |error: &Error, kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.clone()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = invalid(&error, ContextKind::InvalidSubcommand).unwrap_or_default();
            match verb_like(&word) {
                Some(meant) => Ok(meant),
                None => Err(error),
            }
        }
        ErrorKind::UnknownArgument => {
            let word = invalid(&error, ContextKind::InvalidArg).unwrap_or_default();
            let option = word.split(['=', ' ']).next().unwrap_or_default();
            let known = OPTIONS
                .iter()
                .find(|(of, name, _)| Some(*of) == verb && *name == option);
            if let (Some((of, _, hint)), Some(_)) = (known, verb) {
                return Ok(CliError::Usage {
                    what: format!("`ezz {of}` has no option {option}"),
                    hint: (*hint).to_owned(),
                });
            }
            // "to pass '--sort' as a value, use '-- --sort'" is never what was meant.
            error.remove(ContextKind::Suggested);
            if let Some(near) = invalid(&error, ContextKind::SuggestedArg) {
                if !is_like(option, &near) {
                    error.remove(ContextKind::SuggestedArg);
                }
            }
            Err(error)
        }
        _ => Err(error),
    }
}

/// Returns an error for a verb of another program, or one that ezz does not have.
fn verb_like(word: &str) -> Option<CliError> {
    let what = format!("ezz has no verb {word:?}");
    if let Some((_, verb)) = SAME.iter().find(|(other, _)| *other == word) {
        let command = Cli::command();
        let about = command
            .find_subcommand(verb)
            .and_then(|verb| verb.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        return Some(CliError::Usage {
            what,
            hint: format!("`ezz {verb}`: {}", about.trim()),
        });
    }
    let (_, hint) = NOT_YET.iter().find(|(words, _)| words.contains(&word))?;
    Some(CliError::Usage {
        what: format!("{what} yet"),
        hint: (*hint).to_owned(),
    })
}

/// Whether one option may be a misspelling of another: at most two letters differ.
fn is_like(one: &str, other: &str) -> bool {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, from) in one.chars().enumerate() {
        let mut before = row[0];
        row[0] = above + 1;
        for (at, to) in other.iter().enumerate() {
            let changed = before + usize::from(from != *to);
            before = row[at + 1];
            row[at + 1] = changed.min(row[at] + 1).min(before + 1);
        }
    }
    row.last().is_some_and(|distance| *distance <= 2)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::hint::Hint as _;

    fn told(line: &[&str]) -> Result<String, String> {
        let words = std::iter::once("ezz").chain(line.iter().copied());
        let error = Cli::try_parse_from(words).expect_err("a mistake");
        match explained(error, line.first().copied()) {
            Ok(meant) => Ok(meant.hint().unwrap_or_default()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn verbs_are_taken_by_their_meaning() {
        let verbs: Vec<String> = Cli::command()
            .get_subcommands()
            .map(|verb| verb.get_name().to_owned())
            .collect();
        for (other, verb) in SAME {
            assert!(verbs.contains(&verb.to_owned()), "{verb}");
            assert!(!verbs.contains(&other.to_owned()), "{other}");
            let hint = told(&[other, "web1"]).expect("known");
            assert!(hint.starts_with(&format!("`ezz {verb}`: ")), "{hint}");
        }
        for (words, hint) in NOT_YET {
            for word in words {
                assert!(!verbs.contains(&(*word).to_owned()), "ezz has {word} now");
                assert_eq!(told(&[word, "web1"]).as_deref(), Ok(hint));
            }
        }
        let text = told(&["craete", "web1"]).expect_err("clap's");
        assert!(text.contains("create"), "{text}");
    }

    #[test]
    fn tips_for_options_make_sense() {
        assert_eq!(
            told(&["delete", "--all"]).as_deref(),
            Ok("`ezz delete '*'` names all jails")
        );
        let text = told(&["list", "--stat", "x"]).expect_err("clap's");
        assert!(text.contains("--state"), "{text}");
        for line in [
            &["list", "--filter", "x"][..],
            &["show", "--sort", "x"],
            &["stop", "--sort"],
        ] {
            let text = told(line).expect_err("clap's");
            assert!(!text.contains("tip:"), "{line:?}: {text}");
        }
    }
}
