//! Determines which jails a command is about.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use globset::{GlobBuilder, GlobMatcher};

use super::{CliError, input};
use crate::model::{Label, hostname};
use crate::name::{JailName, NameError, expand};
use crate::plan::PlanError;
use crate::session::{Scope, Session};
use crate::text::quoted;

/// More names than this are taken for a mistake, unless the user confirms the number.
const MANY: usize = 10_000;
/// The longest file that is read, in bytes.
const LONG: u64 = 64 << 20;

/// The existing jails that a command is about.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Jails {
    /// Names, ranges such as web{01..20}, or patterns such as 'web*'
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// File with names, one per line or separated by NUL; - for standard input
    #[arg(long, value_name = "FILE")]
    names_from: Option<PathBuf>,
    /// Label that selects jails, e.g. tier=front; repeated, jails must have all of them
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
}

/// The names of new jails.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct NewJails {
    /// Names, or ranges such as web{01..20}
    #[arg(value_name = "NAME", required_unless_present_any = ["count", "names_from"])]
    names: Vec<String>,
    /// File with names, one per line or separated by NUL; - for standard input
    #[arg(long, help_heading = "More options", value_name = "FILE")]
    names_from: Option<PathBuf>,
    /// Number of jails, named by --prefix and a number from 1
    #[arg(long, help_heading = "More options", value_name = "N", requires = "prefix", value_parser = clap::value_parser!(u32).range(1..=99_999))]
    count: Option<u32>,
    /// Beginning of the names that --count makes
    #[arg(long, help_heading = "More options", requires = "count")]
    prefix: Option<String>,
    /// Allow creating more than 10,000 jails
    #[arg(long, help_heading = "More options")]
    force_count: bool,
}

impl Jails {
    /// Whether neither names nor labels are given.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.names_from.is_none() && self.labels.is_empty()
    }

    /// Refuses a command without any jail.
    ///
    /// # Errors
    /// [`CliError::Usage`], which names what else could be given.
    pub(super) fn some(&self, or: &str) -> Result<(), CliError> {
        if self.is_empty() {
            return Err(CliError::Usage {
                what: "no jails were named".to_owned(),
                hint: format!("give names, --names-from, {or}"),
            });
        }
        Ok(())
    }

    /// Parses the names, patterns and labels without reading the site.
    ///
    /// # Errors
    /// [`CliError`]: all names that are not valid; a bad pattern.
    pub(super) fn parse(&self) -> Result<Selection, CliError> {
        let words = words(&self.names, self.names_from.as_deref())?;
        let is_pattern = |word: &&String| word.contains(['*', '?', '[']);
        let patterns = words.iter().filter(is_pattern);
        Ok(Selection {
            names: parse(words.iter().filter(|word| !is_pattern(word)))?,
            patterns: patterns
                .map(|pattern| Ok((pattern.clone(), glob(pattern)?)))
                .collect::<Result<_, CliError>>()?,
            labels: self.labels.clone(),
        })
    }
}

/// Existing jails, selected by valid names, patterns and labels.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    names: Vec<JailName>,
    patterns: Vec<(String, GlobMatcher)>,
    labels: Vec<Label>,
}

impl Selection {
    /// Refuses names that are given twice.
    ///
    /// # Errors
    /// [`PlanError::Twice`].
    pub(super) fn each_once(&self) -> Result<(), CliError> {
        let mut seen = BTreeSet::new();
        match self.names.iter().find(|name| !seen.insert(*name)) {
            Some(twice) => Err(PlanError::Twice(twice.clone()).into()),
            None => Ok(()),
        }
    }

    /// Returns the jails; without a pattern or label the site is not read.
    ///
    /// # Errors
    /// [`CliError`]: no jail has the pattern or the label.
    pub(super) fn of(&self, session: &Session) -> Result<Vec<JailName>, CliError> {
        let mut found = self.names.clone();
        if self.patterns.is_empty() && self.labels.is_empty() {
            return Ok(found);
        }
        let inventory = session.inventory(&Scope::all())?;
        let there = inventory.jails.values().filter(|jail| jail.config.is_ok());
        let there: Vec<_> = there.collect();
        let mut seen: BTreeSet<JailName> = found.iter().cloned().collect();
        for (pattern, matcher) in &self.patterns {
            let mut any = false;
            for jail in &there {
                if matcher.is_match(jail.name.as_str()) {
                    any = true;
                    if seen.insert(jail.name.clone()) {
                        found.push(jail.name.clone());
                    }
                }
            }
            if !any {
                return Err(CliError::NoneSuch(format!("matches {pattern}")));
            }
        }
        if self.labels.is_empty() {
            return Ok(found);
        }
        let labelled = there.iter().filter(|jail| {
            let config = jail.config.as_ref();
            config.is_ok_and(|config| self.labels.iter().all(|label| config.labels.has(label)))
        });
        let labelled: BTreeSet<JailName> = labelled.map(|jail| jail.name.clone()).collect();
        if self.names.is_empty() && self.patterns.is_empty() {
            found = labelled.into_iter().collect();
        } else {
            // A named jail that does not exist is reported by the caller.
            found.retain(|name| labelled.contains(name) || !inventory.jails.contains_key(name));
        }
        if found.is_empty() {
            let labels: Vec<String> = self.labels.iter().map(Label::to_string).collect();
            return Err(CliError::NoneSuch(format!(
                "has the label {}",
                labels.join(", ")
            )));
        }
        Ok(found)
    }
}

impl NewJails {
    /// Returns the names of the new jails.
    ///
    /// # Errors
    /// [`CliError`]: all names that are not valid; too many names.
    pub(super) fn parse(&self, command: &str) -> Result<Vec<JailName>, CliError> {
        let mut words = words(&self.names, self.names_from.as_deref())?;
        if let (Some(count), Some(prefix)) = (self.count, &self.prefix) {
            let width = count.to_string().len();
            words.extend((1..=count).map(|n| format!("{prefix}{n:0width$}")));
        }
        meant(command, &words)?;
        let names = parse(words.iter())?;
        if names.len() > MANY && !self.force_count {
            return Err(CliError::Usage {
                what: format!("these are {} jails", names.len()),
                hint: "--force-count allows more than 10,000".to_owned(),
            });
        }
        Ok(names)
    }
}

/// Refuses words that are not valid names, with a hint where the intention is clear: an address, which ezjail accepts
/// after the name, or a host name.
fn meant(command: &str, words: &[String]) -> Result<(), CliError> {
    let usage = |what: String, hint: String| Err(CliError::Usage { what, hint });
    let is_address = |word: &&String| {
        let ip = word.rsplit('|').next().unwrap_or(word);
        let ip = ip.split_once('/').map_or(ip, |(ip, _)| ip);
        ip.parse::<std::net::IpAddr>().is_ok()
    };
    let addresses: Vec<&String> = words.iter().filter(is_address).collect();
    if let Some(first) = addresses.first() {
        let names = words.iter().filter(|word| !is_address(word));
        let names = names.map(|name| format!(" {}", quoted(name)));
        let given = addresses.iter();
        let given = given.map(|address| format!(" --address {}", quoted(address)));
        return usage(
            format!("{first} is an address, not the name of a jail"),
            format!(
                "`{command}{}{}`",
                names.collect::<String>(),
                given.collect::<String>()
            ),
        );
    }
    let [word] = words else { return Ok(()) };
    let Err(error) = JailName::parse(word) else {
        return Ok(());
    };
    let Some(name) = nearest(word) else {
        return Ok(());
    };
    // A word with dots was meant as a host name.
    let hostname = match word.contains('.') && hostname(word).is_ok() {
        true => format!(" --hostname {word}"),
        false => String::new(),
    };
    usage(error.to_string(), format!("`{command} {name}{hostname}`"))
}

/// Returns a valid name that is similar to an invalid word.
fn nearest(word: &str) -> Option<JailName> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let lower = word.to_ascii_lowercase();
    let name: String = lower
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .collect();
    let name = name.trim_matches('-');
    let known = name.chars().filter(|c| fits(*c)).count();
    let name = JailName::parse(name).ok()?;
    // A name that has little in common with the word is no help.
    (known * 2 >= word.chars().count()).then_some(name)
}

/// Returns the words of a command line and of a file, with their ranges expanded.
fn words(names: &[String], from: Option<&Path>) -> Result<Vec<String>, CliError> {
    let mut all = names.to_vec();
    if let Some(path) = from {
        let text = read(path)?;
        let end = if text.contains('\0') { '\0' } else { '\n' };
        let lines = text.split(end).map(str::trim);
        all.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
    }
    let mut words = Vec::new();
    for word in all {
        words.extend(expand(&word)?);
    }
    Ok(words)
}

fn read(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::Read {
        path: path.display().to_string(),
        source,
    };
    text_of(path, "give the names in several commands", failed)
}

/// Returns the text of a file, or of standard input with `-`; `hint` says what to do about a text that is too long.
pub(super) fn text_of(
    path: &Path,
    hint: &str,
    failed: impl Fn(std::io::Error) -> CliError,
) -> Result<String, CliError> {
    let text = if path == Path::new("-") {
        input::text(LONG, failed)?
    } else {
        let file = std::fs::File::open(path).map_err(&failed)?;
        let mut text = String::new();
        file.take(LONG).read_to_string(&mut text).map_err(failed)?;
        text
    };
    if text.len() as u64 == LONG {
        return Err(CliError::Usage {
            what: format!("{} is longer than {} MiB", path.display(), LONG >> 20),
            hint: hint.to_owned(),
        });
    }
    Ok(text)
}

/// Parses names; the error has all that are not valid.
fn parse<'a>(words: impl Iterator<Item = &'a String>) -> Result<Vec<JailName>, CliError> {
    let mut names = Vec::new();
    let mut bad: Vec<NameError> = Vec::new();
    for word in words {
        match JailName::parse(word) {
            Ok(name) => names.push(name),
            Err(error) => bad.push(error),
        }
    }
    match bad.len() {
        0 => Ok(names),
        1 => Err(bad.remove(0).into()),
        _ => Err(CliError::BadNames(bad)),
    }
}

fn glob(pattern: &str) -> Result<GlobMatcher, CliError> {
    let glob = GlobBuilder::new(pattern).build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|error| CliError::Usage {
            what: format!("bad pattern {pattern:?}: {}", error.kind()),
            hint: "in a pattern * is any text, ? one character, [abc] one of these".to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::Hint as _;

    #[test]
    fn what_was_meant_is_said() {
        let of = |line: &[&str]| {
            let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
            meant("ezz create", &words).map_err(|error| error.hint().unwrap_or_default())
        };
        for (line, hint) in [
            (
                &["www", "10.0.0.1"][..],
                "`ezz create www --address 10.0.0.1`",
            ),
            (
                &["www", "em0|10.0.0.1/24", "2001:db8::1"],
                "`ezz create www --address 'em0|10.0.0.1/24' --address 2001:db8::1`",
            ),
            (
                &["www.example.com"],
                "`ezz create www-example-com --hostname www.example.com`",
            ),
            (&["www_1"], "`ezz create www-1`"),
            (&["Web"], "`ezz create web`"),
        ] {
            assert_eq!(of(line), Err(hint.to_owned()));
        }
        // Otherwise the rule for names is given, as for other commands.
        for line in [
            &["www"][..],
            &["1"],
            &["a b c d e", "www"],
            &["$(id)!;"],
            &["basejail"],
        ] {
            assert_eq!(of(line), Ok(()), "{line:?}");
        }
    }
}
