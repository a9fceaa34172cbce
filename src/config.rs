//! The configuration file of a host: the site that commands use when none is named, and the defaults of new jails.
//!
//! It has nothing about existing jails, because the pool is the database. The file may be missing.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use crate::hint::Hint;
use crate::model::{Defaults, OrNone, memory, size};
use crate::name::DatasetName;

/// The path of the configuration file.
pub const PATH: &str = if cfg!(target_os = "freebsd") {
    "/usr/local/etc/ezz.toml"
} else {
    "/etc/ezz.toml"
};

/// The most jails that can be worked on at once.
pub const MOST_JOBS: u16 = 256;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The site, as with `--site`.
    pub site: Option<DatasetName>,
    /// How many jails are worked on at once, as with `--jobs`.
    pub jobs: Option<u16>,
    /// What new jails have.
    pub defaults: Defaults,
}

/// The file as TOML.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    site: Option<DatasetName>,
    jobs: Option<Spanned<u16>>,
    defaults: Table,
}

/// The table of defaults. Its values have the form that the options of `create` take.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    memory: Option<Spanned<String>>,
    processes: Option<OrNone<NonZeroU32>>,
    quota: Option<Spanned<String>>,
}

/// The error for a configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not a valid configuration.
    #[error("cannot understand {}, line {line}: {why}", path.display())]
    Parse {
        /// The path of the file.
        path: PathBuf,
        /// The line of the error, from 1.
        line: usize,
        /// What is wrong in that line.
        why: String,
        /// Whether the error is in the table of defaults.
        defaults: bool,
    },
}

impl Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            ConfigError::Parse { defaults: true, .. } => {
                "the table [defaults] has the keys memory, processes and quota: memory = \"2G\", processes = 2000, quota = \"none\", a line for each"
            }
            ConfigError::Parse { .. } | ConfigError::Read { .. } => {
                "for example: site = \"tank/ezz\", and jobs = 8; the other keys, memory, processes and quota, stand in the table [defaults], below a line that says so"
            }
        };
        Some(hint.to_owned())
    }
}

/// Reads the configuration of this host; a missing file is an empty one.
///
/// # Errors
/// Returns [`ConfigError`] if the file cannot be read or is not valid.
pub fn load() -> Result<Config, ConfigError> {
    let path = PathBuf::from(PATH);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).map_err(|wrong| ConfigError::Parse {
            path,
            line: wrong.line,
            why: wrong.why,
            defaults: wrong.defaults,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

/// An error in the file.
#[derive(Debug)]
struct Wrong {
    line: usize,
    why: String,
    defaults: bool,
}

/// Parses the text of a configuration file.
fn parse(text: &str) -> Result<Config, Wrong> {
    let wrong = |at: usize, why: &str| {
        let before = text.get(..at).unwrap_or_default();
        let begun = |line: &str| line.trim_start_matches([' ', '[']).starts_with("defaults");
        Wrong {
            line: before.matches('\n').count() + 1,
            why: why.trim().replace('\n', ", "),
            defaults: before.lines().any(begun),
        }
    };
    let file: File = toml::from_str(text).map_err(|error: toml::de::Error| {
        wrong(error.span().map_or(0, |span| span.start), error.message())
    })?;
    let bytes = |value: Option<&Spanned<String>>, parse: fn(&str) -> Result<u64, String>| {
        let Some(value) = value else {
            return Ok(None);
        };
        OrNone::parse(value.get_ref(), parse)
            .map(|it| it.0)
            .map_err(|why| wrong(value.span().start, &why))
    };
    let table = &file.defaults;
    if let Some(jobs) = &file.jobs {
        if !(1..=MOST_JOBS).contains(jobs.get_ref()) {
            let why = format!("jobs: expected a number from 1 to {MOST_JOBS}");
            return Err(wrong(jobs.span().start, &why));
        }
    }
    Ok(Config {
        site: file.site,
        jobs: file.jobs.map(Spanned::into_inner),
        defaults: Defaults {
            memory: bytes(table.memory.as_ref(), memory)?,
            processes: table.processes.and_then(|it| it.0).map(NonZeroU32::get),
            quota: bytes(table.quota.as_ref(), size)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_site_or_key_is_refused() {
        assert_eq!(parse("").expect("empty"), Config::default());
        assert!(parse("site = \"tank/ezz\"").expect("valid").site.is_some());
        for bad in [
            "site = \"/tank\"",
            "sight = \"tank/ezz\"",
            "site = 7",
            "=",
            "jobs = 0",
            "jobs = 257",
            "jobs = \"8\"",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("jobs = 8").expect("valid").jobs, Some(8));
        let wrong = parse("# a comment\nsight = \"tank/ezz\"\n").expect_err("refused");
        assert_eq!((wrong.line, wrong.defaults), (2, false));
        assert!(
            wrong.why.contains("sight") && !wrong.why.contains('\n'),
            "{wrong:?}"
        );
    }

    #[test]
    fn new_jails_have_the_defaults() {
        let read = |text: &str| parse(text).expect("valid").defaults;
        let all = "[defaults]\nmemory = \"2G\"\nprocesses = 500\nquota = \"10G\"\n";
        assert_eq!(
            read(all),
            Defaults {
                memory: Some(2 << 30),
                processes: Some(500),
                quota: Some(10 << 30),
            }
        );
        let none = "[defaults]\nmemory = \"none\"\nprocesses = \"none\"\nquota = \"none\"\n";
        assert_eq!(read(none), Defaults::default());
        assert_eq!(read("[defaults]"), Defaults::default());
        let wrong = parse("defaults = { quota = \"1\", memory = \"x\" }").expect_err("refused");
        assert!(wrong.defaults && wrong.line == 1, "{wrong:?}");
        for (bad, words) in [
            ("memory = \"512\"", "did you mean 512M?"),
            ("memory = \"much\"", "expected a number with K, M, G or T"),
            ("memory = 512", "expected a string"),
            ("processes = 0", "expected a nonzero u32"),
            ("processes = -1", "expected a nonzero u32"),
            ("processes = \"many\"", "expected a number or \"none\""),
            ("quota = \"0\"", "0 is no limit"),
            ("quotas = \"1G\"", "unknown field `quotas`"),
        ] {
            let text = format!("site = \"tank/ezz\"\n[defaults]\n{bad}\n");
            let wrong = parse(&text).expect_err(bad);
            assert_eq!((wrong.line, wrong.defaults), (3, true), "{wrong:?}");
            assert!(wrong.why.contains(words), "{bad}: {wrong:?}");
        }
    }
}
