//! The classes of a jail's own files, which decide what a merge does to a path. See `docs/own-files.md`. This module
//! must not access files or compare versions of them.

use serde::Deserialize;

use super::{Pattern, Profile, RelPath};

/// How a merge treats a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The three versions are merged; a difference that cannot be merged is a conflict.
    Merged,
    /// The jail gets the new version, unless it has changed the file.
    Followed,
    /// The file is added where the jail lacks it, and never changed.
    Seeded,
    /// Like followed, but a file that the jail has changed is made again from other files.
    Derived,
    /// The file is the jail's own, whatever the skeletons contain.
    Kept,
}

/// How a merged file is divided into entries, if not simply into lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MergedBy {
    /// Each line has fields between colons, and the first field is a name.
    Name,
    /// The same, and the third field is a number that no two names may share.
    Number,
}

/// One rule. For each path the first rule that matches applies.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnRule {
    /// The class of the paths.
    pub class: Class,
    /// The reason, for people who read the profile.
    pub why: String,
    /// The paths that the rule applies to.
    pub paths: Vec<Pattern>,
    /// How the files are divided; only for merged paths.
    #[serde(default)]
    pub by: Option<MergedBy>,
    /// Whether each path is a directory that a merge treats as a unit: it comes to a jail with everything in it, or not
    /// at all. Only for seeded paths.
    #[serde(default)]
    pub whole: bool,
}

/// The rule for one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The class of the path.
    pub class: Class,
    /// How the file is divided if it is a list; none for lines.
    pub by: Option<MergedBy>,
    /// The directory that is treated as a unit, if the path is such a directory or lies in one.
    pub whole: Option<RelPath>,
}

impl OwnRule {
    /// Returns none if the rule does not match a path. If it does, the inner value is the directory that is treated as
    /// a unit, if there is one.
    fn matches(&self, path: &RelPath) -> Option<Option<RelPath>> {
        let any = |path: &RelPath| self.paths.iter().any(|pattern| pattern.matches(path));
        if !self.whole {
            return any(path).then_some(None);
        }
        let mut found = None;
        let mut above = path.clone();
        while !above.is_root() {
            if any(&above) {
                found = Some(above.clone());
            }
            above = above.parent();
        }
        found.map(Some)
    }
}

impl Profile {
    /// Returns the rule for a path. Links to the base are followed, and so are paths without a rule.
    pub fn own(&self, path: &RelPath) -> Own {
        let of_base = self.shared.contains(path);
        let rules = self.own.iter().filter(|_| !of_base);
        let found = rules
            .filter_map(|rule| Some((rule, rule.matches(path)?)))
            .next();
        match found {
            Some((rule, whole)) => Own {
                class: rule.class,
                by: rule.by,
                whole,
            },
            None => Own {
                class: Class::Followed,
                by: None,
                whole: None,
            },
        }
    }

    /// Returns a message if the rules are not usable.
    pub(super) fn problem_of_own(&self) -> Option<String> {
        for (at, rule) in self.own.iter().enumerate() {
            let named = || match rule.paths.first() {
                Some(first) => format!("the [[own]] rule for {}", first.as_str()),
                None => format!("[[own]] rule {}", at + 1),
            };
            if rule.paths.is_empty() {
                return Some(format!("{} has no paths", named()));
            }
            if rule.why.trim().is_empty() {
                return Some(format!("{} has an empty `why`", named()));
            }
            if rule.by.is_some() && rule.class != Class::Merged {
                return Some(format!(
                    "{} has `by`, which only class = \"merged\" takes",
                    named()
                ));
            }
            if rule.whole && rule.class != Class::Seeded {
                return Some(format!(
                    "{} has `whole`, which only class = \"seeded\" takes",
                    named()
                ));
            }
            let earlier = || self.own[..at].iter().flat_map(|rule| &rule.paths);
            let twice = |pattern: &&Pattern| earlier().any(|it| it.as_str() == pattern.as_str());
            if let Some(pattern) = rule.paths.iter().find(twice) {
                return Some(format!(
                    "two [[own]] rules have the pattern {}",
                    pattern.as_str()
                ));
            }
        }
        let lost = self
            .database
            .iter()
            .find(|database| self.own(&database.made).class != Class::Derived);
        lost.map(|database| {
            format!(
                "a [[database]] makes {}, and no [[own]] rule says that it is derived",
                database.made
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Profile, ProfileError};
    use super::{Class, MergedBy};

    fn class(profile: &Profile, path: &str) -> Class {
        profile.own(&path.parse().expect("a path")).class
    }

    fn builtin(name: &str) -> &'static Profile {
        let mut all = Profile::builtin().iter();
        all.find(|it| it.name == name).expect("it is built in")
    }

    #[track_caller]
    fn are(profile: &str, expected: Class, paths: &[&str]) {
        for path in paths {
            assert_eq!(class(builtin(profile), path), expected, "{path}");
        }
    }

    #[test]
    fn debian_has_each_path_in_its_class() {
        are(
            "debian",
            Class::Kept,
            &[
                "etc/machine-id",
                "var/lib/dbus/machine-id",
                "etc/hostname",
                "etc/hosts",
                "etc/mailname",
                "etc/ssh/ssh_host_ed25519_key.pub",
                "etc/ssl/private/ssl-cert-snakeoil.key",
                "etc/ssl/certs/ssl-cert-snakeoil.pem",
                "etc/passwd-",
                "var/lib/systemd/random-seed",
            ],
        );
        are(
            "debian",
            Class::Derived,
            &[
                "etc/ssl/certs",
                "etc/ssl/certs/ca-certificates.crt",
                "etc/ssl/certs/deep/file",
                "etc/ld.so.cache",
                "etc/aliases.db",
                "var/cache/man/index.db",
            ],
        );
        are(
            "debian",
            Class::Merged,
            &[
                "etc/nginx/nginx.conf",
                "etc/ssl/openssl.cnf",
                "etc/ssh/sshd_config",
                "root/.bashrc",
                "root/.config/x",
                "etc/passwd",
            ],
        );
        are(
            "debian",
            Class::Followed,
            &[
                // Links to the base are followed, although their parent has another rule.
                "var/lib/dpkg",
                "usr/bin",
                "opt/vendor/program",
                "usr/local/bin/x",
                "etc",
                "var/lib/pam/auth",
                "var/lib/systemd/deb-systemd-helper-enabled/cron.service.dsh-also",
            ],
        );
        are(
            "debian",
            Class::Seeded,
            &[
                "var",
                "var/run",
                "var/lib/nginx/body",
                "var/spool/cron/crontabs/root",
                "srv/www/index.html",
                "home",
                "home/x/.profile",
                "root/notes",
                "root",
            ],
        );
        let by = |path: &str| builtin("debian").own(&path.parse().expect("a path")).by;
        assert_eq!(by("etc/passwd"), Some(MergedBy::Number));
        assert_eq!(by("etc/group"), Some(MergedBy::Number));
        assert_eq!(by("etc/shadow"), Some(MergedBy::Name));
        assert_eq!(by("etc/services"), None);
    }

    #[test]
    fn freebsd_has_each_path_in_its_class() {
        are(
            "freebsd",
            Class::Kept,
            &[
                "etc/hostid",
                "etc/machine-id",
                "etc/ssh/ssh_host_rsa_key",
                "entropy",
                "var/db/entropy/saved-entropy.1",
                "var/db/hostid",
            ],
        );
        are(
            "freebsd",
            Class::Derived,
            &[
                "etc/pwd.db",
                "etc/spwd.db",
                "etc/login.conf.db",
                "etc/mail/aliases.db",
                "var/db/services.db",
                "etc/ssl/certs/0179095f.0",
                "etc/ssl/untrusted/x",
                "etc/ssl/cert.pem",
                "var/cache/fontconfig/x",
            ],
        );
        are(
            "freebsd",
            Class::Merged,
            &[
                "etc/rc.conf",
                "etc/ssl/openssl.cnf",
                "usr/local/etc/nginx/nginx.conf",
                "root/.cshrc",
                ".profile",
                "etc/master.passwd",
            ],
        );
        are(
            "freebsd",
            Class::Followed,
            &[
                "usr/bin",
                "usr/local/bin/nginx",
                "usr/local/www/app/index.php",
                "var/db/pkg",
                "var/db/pkg/local.sqlite",
                "opt/x",
                "usr",
            ],
        );
        are(
            "freebsd",
            Class::Seeded,
            &[
                "var",
                "var/db/postgres/data16/PG_VERSION",
                "var/log/messages",
                "var/cron/tabs/root",
                "home",
                "usr/home/x/.shrc",
                "root/notes",
            ],
        );
        let by = |path: &str| builtin("freebsd").own(&path.parse().expect("a path")).by;
        assert_eq!(by("etc/master.passwd"), Some(MergedBy::Number));
    }

    #[test]
    fn a_cluster_is_one_thing() {
        let whole = |profile: &str, path: &str| {
            let own = builtin(profile).own(&path.parse().expect("a path"));
            own.whole.map(|whole| whole.to_string())
        };
        let main = "var/lib/postgresql/16/main";
        let deep = format!("{main}/base/1/1259");
        assert_eq!(whole("debian", &deep).as_deref(), Some(main));
        assert_eq!(whole("debian", main).as_deref(), Some(main));
        assert_eq!(whole("debian", "var/lib/postgresql/16"), None);
        assert_eq!(whole("debian", "var/lib/nginx/body"), None);
        let data = "var/db/postgres/data16";
        let deep = format!("{data}/PG_VERSION");
        assert_eq!(whole("freebsd", &deep).as_deref(), Some(data));
    }

    /// In a skeleton, the files of the identity do not exist or are empty, because the world was scrubbed. A merge must
    /// not bring that to a jail.
    #[test]
    fn what_is_identity_is_kept() {
        for profile in Profile::builtin() {
            for rule in profile.scrub.iter().filter(|rule| rule.identity) {
                let text = rule.path.as_str();
                let names = match (text.find('{'), text.find('}')) {
                    (Some(from), Some(to)) => text[from + 1..to]
                        .split(',')
                        .map(|name| format!("{}{name}{}", &text[..from], &text[to + 1..]))
                        .collect(),
                    _ => vec![text.to_owned()],
                };
                for name in names {
                    // A shared directory is a part of the base.
                    let path = name.replace('*', "x").parse().expect("a path");
                    let kept = profile.own(&path).class == Class::Kept;
                    assert!(kept || profile.is_shared(&path), "{}: {name}", profile.name);
                }
            }
        }
    }

    #[test]
    fn every_rule_says_why() {
        for profile in Profile::builtin() {
            assert!(profile.own.len() > 5);
            for rule in &profile.own {
                assert!(rule.why.split_whitespace().count() > 3, "{rule:?}");
                assert!(!rule.why.ends_with('.'), "{rule:?}");
            }
        }
    }

    #[test]
    fn bad_rules_are_refused_with_the_reason() {
        let text = include_str!("../../templates/profiles/debian.toml");
        let with = |rule: &str| match Profile::parse(&format!("{text}\n{rule}\n"), "x.toml") {
            Err(ProfileError::Syntax { message, .. }) => message,
            Err(ProfileError::Unusable { problem, .. }) => problem,
            Ok(_) => "it is taken".to_owned(),
        };
        for (rule, words) in [
            (
                "[[own]]\nclass = \"merged\"\nwhy = \"x\"\npaths = []",
                "has no paths",
            ),
            (
                "[[own]]\nclass = \"merged\"\nwhy = \" \"\npaths = [\"a\"]",
                "rule for a has an empty `why`",
            ),
            (
                "[[own]]\nclass = \"merged\"\npaths = [\"a\"]",
                "missing field `why`",
            ),
            (
                "[[own]]\nclass = \"mine\"\nwhy = \"x\"\npaths = [\"a\"]",
                "unknown variant `mine`, expected one of `merged`, `followed`, `seeded`, `derived`, `kept`",
            ),
            (
                "[[own]]\nclass = \"seeded\"\nby = \"name\"\nwhy = \"x\"\npaths = [\"a\"]",
                "has `by`, which only class = \"merged\" takes",
            ),
            (
                "[[own]]\nclass = \"merged\"\nby = \"colour\"\nwhy = \"x\"\npaths = [\"a\"]",
                "unknown variant `colour`, expected `name` or `number`",
            ),
            (
                "[[own]]\nclass = \"followed\"\nwhole = true\nwhy = \"x\"\npaths = [\"a\"]",
                "has `whole`, which only class = \"seeded\" takes",
            ),
            (
                "[[own]]\nclass = \"kept\"\nwhy = \"x\"\npaths = [\"a\", \"etc/**\"]",
                "two [[own]] rules have the pattern etc/**",
            ),
            (
                "[[own]]\nclass = \"kept\"\nwhy = \"x\"\npaths = [\"/etc\"]",
                "begins with a slash",
            ),
            (
                "[[own]]\nclass = \"kept\"\nwhy = \"x\"\npaths = [\"a{\"]",
                "a{",
            ),
            (
                "[[database]]\nfrom = \"etc/a\"\nmade = \"etc/b\"\ncommand = \"x\"",
                "makes etc/b, and no [[own]] rule says that it is derived",
            ),
            ("[merge]\npaths = []", "unknown field `merge`"),
        ] {
            let message = with(rule);
            assert!(message.contains(words), "{rule}: {message}");
        }
    }
}
