//! Profiles: what is particular to one operating system, as data.
//!
//! A profile says how a world of that system is recognised, what of it jails share, what must not
//! be shared by accident (scrub list, secrets), how its version is read, and how it starts, stops
//! and updates. The built-in ones are `templates/profiles/*.toml`; adding an OS is adding a file.
//! Must not be here: file access, and any knowledge of a particular OS.

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

/// A profile file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The text is no TOML, or does not say what a profile says.
    #[error("cannot read profile {origin}, line {line}, column {column}: {message}")]
    Syntax {
        /// The file, as the user knows it.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// Every field is well-formed, but they do not fit each other.
    #[error("profile {origin} is not usable: {problem}")]
    Unusable {
        /// The file, as the user knows it.
        origin: String,
        /// What does not fit.
        problem: String,
    },
}

/// The kernel a world needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Os {
    /// FreeBSD: jails.
    FreeBsd,
    /// Linux: OCI containers.
    Linux,
}

impl Os {
    /// The system that this program was built for.
    pub const THIS: Os = if cfg!(target_os = "linux") {
        Os::Linux
    } else {
        Os::FreeBsd
    };

    /// The name used in profiles and properties.
    pub fn as_str(self) -> &'static str {
        match self {
            Os::FreeBsd => "freebsd",
            Os::Linux => "linux",
        }
    }
}

impl Os {
    /// The longest path that its kernel takes: `PATH_MAX` without the NUL.
    pub fn path_max(self) -> usize {
        match self {
            Os::FreeBsd => 1023,
            Os::Linux => PATH_MAX,
        }
    }
}

/// As people write it.
impl std::fmt::Display for Os {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Os::FreeBsd => "FreeBSD",
            Os::Linux => "Linux",
        })
    }
}

/// A glob over paths below the root: `*` does not cross a slash, `**` does.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(GlobMatcher);

impl Pattern {
    /// Whether the path matches.
    pub fn matches(&self, path: &RelPath) -> bool {
        self.0.is_match(path.as_path())
    }

    /// The text it was made from.
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

/// How a world is recognised: every one of these must be there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detect {
    /// Files or directories, not links.
    pub exist: Vec<RelPath>,
}

/// What to do with a file of a new world, before it is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScrubAction {
    /// Remove it, and all below it.
    Remove,
    /// Keep the directory, remove all in it.
    Empty,
    /// Keep the file, with no content.
    Truncate,
    /// Give the file this content, if it is there.
    Reset(String),
}

/// One line of the scrub list; for each file the first one that matches counts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubRule {
    /// Which files.
    pub path: Pattern,
    /// What happens to them.
    pub action: ScrubAction,
    /// Whether they are part of a machine's identity: then they are cleared away of the clones of a jail
    /// too, for which only the last component may be a pattern.
    #[serde(default)]
    pub identity: bool,
}

impl ScrubRule {
    /// The directory of its files, if only the last component of the path is a pattern.
    pub fn directory(&self) -> Option<RelPath> {
        let directory = match self.path.as_str().rsplit_once('/') {
            Some((directory, _)) => directory,
            None => "",
        };
        let plain = !directory.contains(['*', '?', '[', '{', '\\']);
        plain.then(|| RelPath::parse(directory.as_bytes()).ok())?
    }

    /// Whether it is of the identity, and cannot be found without looking everywhere.
    fn nowhere(&self) -> bool {
        self.identity && (self.directory().is_none() || self.path.as_str().contains("**"))
    }
}

/// What is a secret in this system, besides what looks like one everywhere (private keys).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// A file that matches and is not empty is a secret.
    pub paths: Vec<Pattern>,
    /// Password files, `:`-separated, with the hash in the second field.
    pub shadow: Vec<RelPath>,
    /// Looks like a secret, but is known not to be one.
    pub allow: Vec<Pattern>,
}

/// One piece of a version label.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelPart {
    /// The file that holds it.
    pub file: RelPath,
    /// `KEY="value"` of that file; without it, its first line.
    pub key: Option<String>,
}

/// A condition on the text of a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelWhen {
    /// The file.
    pub file: RelPath,
    /// The key in it.
    pub key: String,
    /// The value it must have.
    pub value: String,
}

/// A way to make the version label; the first whose condition holds and whose parts are all there
/// is used. The parts are joined with `-`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRule {
    /// Only if this holds.
    pub when: Option<LabelWhen>,
    /// What is joined.
    pub parts: Vec<LabelPart>,
    /// What the patch level begins with; what is before the first of it is the release. Without it,
    /// every label is a release of its own.
    pub patch: Option<String>,
}

/// How a jail of this system starts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Linux: programs that may be the jail's init, absolute, in order.
    #[serde(default)]
    pub init: Vec<String>,
    /// Linux: run this (under a small init of ours) when there is none.
    #[serde(default)]
    pub command: Vec<String>,
    /// FreeBSD: `exec.start`.
    pub exec: Option<String>,
    /// FreeBSD: seconds that a start may take; then it is taken back.
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
    /// Seconds until what has not ended is killed.
    pub timeout: u32,
    /// Linux: the same where the world has an init of its own, which waits for its services in turn.
    pub init_timeout: Option<u32>,
}

/// The command that brings a world up to date.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables, `NAME=value`.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Whether it runs on the host, which is told where the world is, and not with the world as its
    /// root.
    #[serde(default)]
    pub on_host: bool,
    /// Where the world keeps what it downloads: a directory from outside the world is mounted there,
    /// so that it is there the next time and in no generation.
    #[serde(default)]
    pub cache: Option<RelPath>,
}

/// The command that makes a world of base packages. It runs on the host, whose package manager does the work.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables, `NAME=value`.
    #[serde(default)]
    pub environment: Vec<String>,
}

/// How the accounts of a profile's worlds are numbered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Numbering {
    /// Those under which the site first saw them.
    #[default]
    Continuous,
    /// Those that each world gives them.
    AsGiven,
}

/// A database that is made from a text: in the jail, at its start, if the text is newer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The text.
    pub from: RelPath,
    /// What is made from it.
    pub made: RelPath,
    /// The command that makes it, for the jail's shell.
    pub command: String,
}

/// One operating system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name, as in `--profile`.
    pub name: String,
    /// The kernel it needs.
    pub os: Os,
    /// How many user and group ids a jail of it has, from 0; all that there are if it does not say.
    #[serde(default)]
    pub ids: Option<u32>,
    /// How it is recognised.
    pub detect: Detect,
    /// Directories that jails share. One counts where it is a real directory; where it is a link
    /// (usr-merged `bin`) the jail has that link too. None lies below another.
    pub shared: Vec<RelPath>,
    /// Directories that a jail must have to be started; made where the world has none.
    pub mount_points: Vec<RelPath>,
    /// Applied to the base before it is sealed, hence also to what is made from it.
    #[serde(default)]
    pub scrub: Vec<ScrubRule>,
    /// What stops an install.
    #[serde(default)]
    pub secrets: Secrets,
    /// How the version is read.
    pub label: Vec<LabelRule>,
    /// Executables (regular files) whose ELF header tells the architecture.
    pub arch: Vec<RelPath>,
    /// How it starts.
    pub start: Start,
    /// How it stops.
    pub stop: Stop,
    /// What `ezz console` runs inside.
    pub console: Vec<String>,
    /// How its world is brought up to date, if that is one command.
    #[serde(default)]
    pub update: Option<Update>,
    /// How its world is made of packages, if it can be.
    #[serde(default)]
    pub packages: Option<Packages>,
    /// Names of the things made for each jail at its first start (`machine-id`, `ssh-host-keys`,
    /// `ssl-cert-snakeoil`).
    #[serde(default)]
    pub generate: Vec<String>,
    /// Which numbers the accounts of its worlds get.
    #[serde(default)]
    pub accounts: Numbering,
    /// What a merge does to which of a jail's own files.
    #[serde(default)]
    pub own: Vec<OwnRule>,
    /// Databases that a merge leaves old.
    #[serde(default)]
    pub database: Vec<Database>,
}

impl Profile {
    /// Parses a profile file; `origin` names it in errors.
    ///
    /// # Errors
    /// What is no TOML, an unknown or missing field, a bad path or glob (all with line and column),
    /// and lists that contradict themselves.
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

    /// The profiles that ezz carries, in the order in which they are tried.
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

    /// Whether the path is shared: one of the shared directories, or below one.
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

/// Line and column of a byte of a text, both from 1.
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
        // Of a list the parser knows where it begins; the message has the element.
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
