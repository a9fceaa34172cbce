//! The configuration file of a host: which site, when none is named.
//!
//! Nothing about jails is in it: the pool is the database. It may be missing.

use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;

use crate::name::DatasetName;

/// Where it is.
pub const PATH: &str = if cfg!(target_os = "freebsd") {
    "/usr/local/etc/ezz.toml"
} else {
    "/etc/ezz.toml"
};

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The site, as with `--site`.
    pub site: Option<DatasetName>,
}

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not what ezz expects.
    #[error("cannot understand {}, line {line}: {why}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// Why not.
        why: String,
    },
}

/// Reads the configuration of this host.
///
/// # Errors
/// [`ConfigError`]; a missing file is an empty one.
pub fn load() -> Result<Config, ConfigError> {
    let path = PathBuf::from(PATH);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).map_err(|(line, why)| ConfigError::Parse { path, line, why }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

/// What it says, or in which line it makes no sense.
fn parse(text: &str) -> Result<Config, (usize, String)> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        (line, error.message().trim().replace('\n', ", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_site_or_key_is_refused() {
        assert_eq!(parse("").expect("empty"), Config::default());
        assert!(parse("site = \"tank/ezz\"").expect("valid").site.is_some());
        for bad in ["site = \"/tank\"", "sight = \"tank/ezz\"", "site = 7", "="] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let (line, why) = parse("# a comment\nsight = \"tank/ezz\"\n").expect_err("refused");
        assert_eq!(line, 2);
        assert!(why.contains("sight") && !why.contains('\n'), "{why}");
    }
}
