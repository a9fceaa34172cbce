//! Profiles: the data that distinguish one operating system from another.
//!
//! A profile describes how a world of that system is recognised, what jails share of it, what must not be shared by
//! accident (scrub list, secrets), how its version is read, and how it starts, stops and is updated. The built-in
//! profiles are `templates/profiles/*.toml`; a new file there adds an operating system. This module must not access
//! files, and must not know of any particular operating system.

mod own;
mod relpath;

pub use own::{Class, MergedBy, Own, OwnRule};
pub use relpath::{COMPONENT_MAX, PATH_MAX, RelPath, RelPathError};

use std::sync::LazyLock;

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;

const TEMPLATES: [(&str, &str); 2] = [
    (
        "freebsd.toml",
        include_str!("../templates/profiles/freebsd.toml"),
    ),
    (
        "debian.toml",
        include_str!("../templates/profiles/debian.toml"),
    ),
];

/// The error for a profile file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The text is not TOML, or does not have the fields of a profile.
    #[error("cannot read profile {origin}, line {line}, column {column}: {message}")]
    Syntax {
        /// The name of the file, as the user knows it.
        origin: String,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// Every field is well-formed, but some of them contradict each other.
    #[error("profile {origin} is not usable: {problem}")]
    Unusable {
        /// The name of the file, as the user knows it.
        origin: String,
        /// The contradiction.
        problem: String,
    },
}

/// The operating system whose kernel a world needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Os {
    /// FreeBSD, which runs jails.
    FreeBsd,
    /// Linux, which runs OCI containers.
    Linux,
}

impl Os {
    /// The system for which this program was built.
    pub const THIS: Os = if cfg!(target_os = "linux") {
        Os::Linux
    } else {
        Os::FreeBsd
    };

    /// Returns the name that profiles and properties use.
    pub fn as_str(self) -> &'static str {
        match self {
            Os::FreeBsd => "freebsd",
            Os::Linux => "linux",
        }
    }
}

impl Os {
    /// Returns the longest path that its kernel takes, in bytes: `PATH_MAX` without the NUL.
    pub fn path_max(self) -> usize {
        match self {
            Os::FreeBsd => 1023,
            Os::Linux => PATH_MAX,
        }
    }
}

/// Writes the name as people write it.
impl std::fmt::Display for Os {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Os::FreeBsd => "FreeBSD",
            Os::Linux => "Linux",
        })
    }
}

/// A glob over paths below the root: `*` does not match a slash, `**` does.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(GlobMatcher);

impl Pattern {
    /// Reports whether the path matches.
    pub fn matches(&self, path: &RelPath) -> bool {
        self.0.is_match(path.as_path())
    }

    /// Returns the text of the pattern.
    pub fn as_str(&self) -> &str {
        self.0.glob().glob()
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Pattern, String> {
        if text.starts_with('/') {
            return Err(format!("the pattern {text} begins with a slash"));
        }
        GlobBuilder::new(&text)
            .literal_separator(true)
            .build()
            .map(|glob| Pattern(glob.compile_matcher()))
            .map_err(|e| e.to_string())
    }
}

/// How a world is recognised: all of these paths must exist.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detect {
    /// Files or directories; links do not count.
    pub exist: Vec<RelPath>,
}

/// What a scrub does to a path of a staged world.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScrubAction {
    /// Removes the file, or the directory with everything in it.
    Remove,
    /// Keeps the directory, and removes everything in it.
    Empty,
    /// Keeps the file, and removes its content.
    Truncate,
    /// Gives the file this content, if it exists.
    Reset(String),
}

/// One rule of the scrub list. For each path the first rule that matches applies.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubRule {
    /// The paths that the rule applies to.
    pub path: Pattern,
    /// What is done to them.
    pub action: ScrubAction,
    /// Whether the paths are part of a machine's identity. If so, they are also removed from a clone of a jail; that
    /// requires that only the last component of the path is a pattern.
    #[serde(default)]
    pub identity: bool,
}

impl ScrubRule {
    /// Returns the directory that contains the rule's files, if only the last component of the path is a pattern.
    pub fn directory(&self) -> Option<RelPath> {
        let directory = match self.path.as_str().rsplit_once('/') {
            Some((directory, _)) => directory,
            None => "",
        };
        let plain = !directory.contains(['*', '?', '[', '{', '\\']);
        plain.then(|| RelPath::parse(directory.as_bytes()).ok())?
    }

    /// Reports whether the rule is about the identity, but its files cannot be found without a search of the whole
    /// tree.
    fn nowhere(&self) -> bool {
        self.identity && (self.directory().is_none() || self.path.as_str().contains("**"))
    }
}

/// The secrets of this system, besides those that every system has (private keys).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// Files that are a secret unless they are empty.
    pub paths: Vec<Pattern>,
    /// Password files: lines of fields separated by `:`, with a hash in the second field.
    pub shadow: Vec<RelPath>,
    /// Files that look like a secret, but are known not to be one.
    pub allow: Vec<Pattern>,
}

/// One part of a label.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelPart {
    /// The file that contains it.
    pub file: RelPath,
    /// The key, if the file has lines of the form `KEY="value"`; none to take the first line of the file.
    pub key: Option<String>,
}

/// A condition on the text of a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelWhen {
    /// The file that is read.
    pub file: RelPath,
    /// The key in the file.
    pub key: String,
    /// The value that the key must have.
    pub value: String,
}

/// A rule that makes the label of a world. The first rule applies whose condition holds and whose parts all exist. The
/// parts are joined with `-`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRule {
    /// The condition of the rule; none if it always holds.
    pub when: Option<LabelWhen>,
    /// The parts that are joined.
    pub parts: Vec<LabelPart>,
    /// The text with which a patch level begins. The label up to its first occurrence is the release. If it is none,
    /// each label is a release of its own.
    pub patch: Option<String>,
}

/// How a jail of this system starts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Linux: the absolute paths of programs that can be the jail's init. The first that exists is used.
    #[serde(default)]
    pub init: Vec<String>,
    /// Linux: the command that runs under a small init if none of those programs exists.
    #[serde(default)]
    pub command: Vec<String>,
    /// FreeBSD: `exec.start`.
    pub exec: Option<String>,
    /// FreeBSD: the seconds that a start may take before it is undone.
    pub timeout: Option<u32>,
}

/// How a jail of this system stops.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// FreeBSD: `exec.stop`.
    pub exec: Option<String>,
    /// The signal that asks a process to end.
    pub signal: String,
    /// The seconds after which the processes that have not ended are killed.
    pub timeout: u32,
    /// Linux: the same for a world with an init of its own, which waits for its services one after the other.
    pub init_timeout: Option<u32>,
}

/// The command that brings a world up to date.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables of the environment, as `NAME=value`.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Whether the command runs on the host and gets the path of the world. Otherwise it runs with the world as its
    /// root.
    #[serde(default)]
    pub on_host: bool,
    /// The directory where the world keeps its downloads. A directory from outside of the world is mounted there, so
    /// that the downloads stay available and become part of no generation.
    #[serde(default)]
    pub cache: Option<RelPath>,
}

/// The command that makes a world from base packages. It runs on the host, whose package manager does the work.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables of the environment, as `NAME=value`.
    #[serde(default)]
    pub environment: Vec<String>,
}

/// The numbers that the accounts of a profile's worlds get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Numbering {
    /// Each account keeps the number under which the site first saw it.
    #[default]
    Continuous,
    /// Each world has its own numbers.
    AsGiven,
}

/// A database that is made from a text file. The jail makes it at its start if the text file is newer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The text file.
    pub from: RelPath,
    /// The database.
    pub made: RelPath,
    /// The command that makes the database, for the jail's shell.
    pub command: String,
}

/// The rules for the worlds of one operating system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The name, as in `--profile`.
    pub name: String,
    /// The operating system whose kernel its worlds need.
    pub os: Os,
    /// The number of user and group ids that a jail has, from 0; none for all that exist.
    #[serde(default)]
    pub ids: Option<u32>,
    /// How a world is recognised.
    pub detect: Detect,
    /// The directories that jails share. One is shared where it is a real directory. Where it is a link (`bin` with a
    /// merged /usr), the jail has that link too. None of them lies below another.
    pub shared: Vec<RelPath>,
    /// The directories that a jail needs to start. They are created where the world lacks them.
    pub mount_points: Vec<RelPath>,
    /// The scrub list. It is applied to the base before the seal, and thus to everything that is made from the base.
    #[serde(default)]
    pub scrub: Vec<ScrubRule>,
    /// The secrets that stop an install.
    #[serde(default)]
    pub secrets: Secrets,
    /// How the label is read.
    pub label: Vec<LabelRule>,
    /// Executables whose ELF header shows the architecture. They must be regular files.
    pub arch: Vec<RelPath>,
    /// How a jail starts.
    pub start: Start,
    /// How a jail stops.
    pub stop: Stop,
    /// The command that `ezz console` runs in the jail.
    pub console: Vec<String>,
    /// How a world is updated, if a single command can do that.
    #[serde(default)]
    pub update: Option<Update>,
    /// How a world is made from packages, if that is possible.
    #[serde(default)]
    pub packages: Option<Packages>,
    /// What each jail generates at its first start, such as `machine-id`, `hostid` or `ssh-host-keys`.
    #[serde(default)]
    pub generate: Vec<String>,
    /// The numbers that the accounts of its worlds get.
    #[serde(default)]
    pub accounts: Numbering,
    /// The rules for a merge of a jail's own files.
    #[serde(default)]
    pub own: Vec<OwnRule>,
    /// The databases that are out of date after a merge.
    #[serde(default)]
    pub database: Vec<Database>,
}

impl Profile {
    /// Parses a profile file; `origin` names it in errors.
    ///
    /// # Errors
    /// Returns [`ProfileError::Syntax`] for a text that is not TOML, an unknown or missing field, and a bad path or
    /// glob, and [`ProfileError::Unusable`] for fields that contradict each other.
    pub fn parse(text: &str, origin: &str) -> Result<Profile, ProfileError> {
        let profile: Profile = toml::from_str(text).map_err(|e| {
            let (line, column) = position(text, e.span().map_or(0, |span| span.start));
            let message = e.message().to_owned();
            ProfileError::Syntax {
                origin: origin.to_owned(),
                line,
                column,
                message,
            }
        })?;
        match profile.problem() {
            Some(problem) => Err(ProfileError::Unusable {
                origin: origin.to_owned(),
                problem,
            }),
            None => Ok(profile),
        }
    }

    /// Returns the profiles that ezz contains, in the order in which they are tried.
    #[expect(
        clippy::expect_used,
        reason = "they are part of the program; a test parses them"
    )]
    pub fn builtin() -> &'static [Profile] {
        static BUILTIN: LazyLock<Vec<Profile>> = LazyLock::new(|| {
            TEMPLATES
                .iter()
                .map(|(origin, text)| Profile::parse(text, origin).expect("a built-in profile"))
                .collect()
        });
        &BUILTIN
    }

    /// Reports whether a path is one of the shared directories, or lies below one.
    pub fn is_shared(&self, path: &RelPath) -> bool {
        self.shared.iter().any(|dir| path.is_within(dir))
    }

    fn problem(&self) -> Option<String> {
        let of_lists = self.problem_of_lists().map(str::to_owned);
        of_lists.or_else(|| self.problem_of_own())
    }

    fn problem_of_lists(&self) -> Option<&'static str> {
        let nested = |a: &RelPath| self.shared.iter().any(|b| a != b && a.is_within(b));
        let init_missing = self.start.init.is_empty() && self.start.command.is_empty();
        if self.name.is_empty() {
            Some("the name is empty")
        } else if self.detect.exist.is_empty() {
            Some("detect.exist is empty, so that every directory would be such a world")
        } else if self.shared.iter().any(|dir| dir.is_root() || nested(dir)) {
            Some("a shared directory is the root, or lies below another")
        } else if self.mount_points.iter().any(|dir| self.is_shared(dir)) {
            Some("a mount point lies in a shared directory")
        } else if self.label.is_empty() || self.label.iter().any(|rule| rule.parts.is_empty()) {
            Some("it does not say how the version is read")
        } else if self.scrub.iter().any(ScrubRule::nowhere) {
            Some("a file of the identity is not in one directory")
        } else if self.console.is_empty() {
            Some("the console command is empty")
        } else if match self.os {
            Os::FreeBsd => self.start.exec.is_none(),
            Os::Linux => init_missing,
        } {
            Some("it does not say how a jail starts")
        } else {
            None
        }
    }
}

/// Returns the line and column of a byte in a text, both from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[start..].chars().count() + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::{Os, Profile, ProfileError, RelPath, ScrubAction};

    #[test]
    fn builtin_profiles_parse() -> Result<(), ProfileError> {
        for (origin, text) in super::TEMPLATES {
            Profile::parse(text, origin)?;
        }
        let profiles = Profile::builtin();
        let names: Vec<&str> = profiles.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["freebsd", "debian"]);
        assert_eq!(profiles[0].os, Os::FreeBsd);
        for profile in profiles {
            assert!(
                profile
                    .mount_points
                    .iter()
                    .any(|p| p.as_bytes() == b"basejail")
            );
            assert!(
                profile
                    .scrub
                    .iter()
                    .any(|r| matches!(r.action, ScrubAction::Reset(_)))
            );
        }
        Ok(())
    }

    #[test]
    fn errors_name_line_and_column() {
        let text = include_str!("../templates/profiles/debian.toml");
        let bad = text.replace("\"usr/sbin\"", "\"usr/../sbin\"");
        assert_ne!(text, bad);
        // The parser knows only where a list begins; the message has the element.
        let line = bad
            .lines()
            .position(|l| l.starts_with("shared"))
            .map(|n| n + 1);
        match Profile::parse(&bad, "x.toml") {
            Err(ProfileError::Syntax {
                line: found,
                column,
                message,
                ..
            }) => {
                assert_eq!(Some(found), line);
                assert!(column > 1, "{column}");
                assert!(message.contains("usr/../sbin"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let text = include_str!("../templates/profiles/debian.toml");
        let nested = text.replace("\"usr/sbin\"", "\"usr/bin/x\"");
        let unknown = text.replace("[stop]", "[stop]\nspeed = 3");
        assert!(matches!(
            Profile::parse(&nested, "x"),
            Err(ProfileError::Unusable { .. })
        ));
        assert!(matches!(
            Profile::parse(&unknown, "x"),
            Err(ProfileError::Syntax { .. })
        ));
    }

    #[test]
    fn globs_do_not_cross_directories() -> Result<(), Box<dyn std::error::Error>> {
        let pattern = super::Pattern::try_from("root/.*_history".to_owned())?;
        assert!(pattern.matches(&"root/.bash_history".parse::<RelPath>()?));
        assert!(!pattern.matches(&"root/.x/y_history".parse::<RelPath>()?));
        assert!(super::Pattern::try_from("/etc/*".to_owned()).is_err());
        Ok(())
    }
}
