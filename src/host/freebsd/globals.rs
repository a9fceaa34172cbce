//! The parts of /etc/jail.conf that apply to every jail in addition to its own block: global parameters, wildcard
//! blocks, and included files.
//!
//! rc.d/jail starts the jails by /etc/jail.conf if that includes their files, so these parts apply to the jails. If
//! jail(8) were given a jail's own file, it would know none of them. If it were given /etc/jail.conf, it would also
//! start and stop what the jail depends on. So ezz gives jail(8) a second file: /etc/jail.conf with the block of this
//! one jail in the place of the include. This module must not interpret values. Statements keep their text and order,
//! and jail(8) decides what they mean.

mod grammar;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::{FreeBsd, conf, files};
use crate::name::JailName;
use crate::ports::HostError;
use grammar::{Statement, statements};

/// The content of /etc/jail.conf without the jails of this site.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Globals {
    /// The statements that apply to the jails, in their order.
    pieces: Vec<Piece>,
    /// The jails that it defines itself.
    jails: BTreeSet<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// The text of a statement.
    Text(Vec<u8>),
    /// An include of files in the directory of the jails' own files: the pattern of their names, and the statements in
    /// files of the administrator that apply to the jails, by the name of the file.
    Jails(String, Vec<(String, Vec<u8>)>),
}

/// The error for a file that cannot be parsed. jail(8) would not accept it either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum GlobalsError {
    /// The file does not follow the grammar.
    #[error("{path}: line {line}: {what}", path = path.display())]
    Syntax {
        /// The path of the file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The file cannot be read.
    #[error("{path}: {why}", path = path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// Why it cannot be read.
        why: String,
    },
}

impl FreeBsd {
    /// Returns what applies to all jails; it is read once for a command.
    fn globals(&self) -> &Result<Globals, GlobalsError> {
        self.globals
            .get_or_init(|| Globals::of(&self.places.main_conf, &self.places.conf))
    }

    /// Returns the text that ezz gives to jail(8) for a jail; none if the jail's own file is enough.
    pub(super) fn framed(&self, name: &JailName, text: &[u8]) -> Option<Vec<u8>> {
        let globals = self.globals().as_ref().ok()?;
        globals.around(name, text)
    }

    /// Refuses to start a jail if /etc/jail.conf cannot be read, because it may have what protects the host from the
    /// jail.
    pub(super) fn knows_globals(&self) -> Result<(), HostError> {
        match self.globals() {
            Ok(_) => Ok(()),
            Err(why) => Err(HostError::Missing {
                what: format!("a configuration that jail(8) can read: {why}"),
                hint: format!(
                    "`jail -f {} -e ' '` shows what jail(8) says of it",
                    self.places.main_conf.display()
                ),
            }),
        }
    }

    /// Reports whether rc.d/jail starts the jails of the site by /etc/jail.conf.
    pub(super) fn included(&self) -> bool {
        let globals = self.globals().as_ref();
        globals.is_ok_and(|all| all.pieces.iter().any(|it| matches!(it, Piece::Jails(..))))
    }

    /// Reports whether /etc/jail.conf has a block of its own for a jail.
    pub(super) fn defined_by_hand(&self, name: &JailName) -> bool {
        let globals = self.globals().as_ref();
        globals.is_ok_and(|all| all.jails.contains(name.as_str().as_bytes()))
    }
}

impl Globals {
    /// Reads a file; `jails` is the directory of the jails' own files.
    fn of(main: &Path, jails: &Path) -> Result<Self, GlobalsError> {
        let Some(text) = read(main)? else {
            return Ok(Globals::default());
        };
        let (mut pieces, mut defined) = (Vec::new(), BTreeSet::new());
        for statement in statements(&text, main)? {
            match statement {
                Statement::Include(path) => {
                    let path = absolute(&path, main);
                    match path.file_name().and_then(OsStr::to_str) {
                        Some(names) if path.parent().is_some_and(|at| same(at, jails)) => {
                            let others = others(jails, names)?;
                            pieces.push(Piece::Jails(names.to_owned(), others));
                        }
                        _ => pieces.push(Piece::Text(include(&path))),
                    }
                }
                Statement::Other(text) => pieces.push(Piece::Text(text.to_vec())),
                Statement::Jail(name) => {
                    defined.insert(name);
                }
            }
        }
        Ok(Globals {
            pieces,
            jails: defined,
        })
    }

    /// Returns the text of a jail's file, `block`, with everything else that applies to the jail; none if there is
    /// nothing else, or if the file is not included.
    fn around(&self, name: &JailName, block: &[u8]) -> Option<Vec<u8>> {
        let own = format!("{name}.conf");
        let (mark, block) = conf::marked(block)?;
        let mut out = mark.to_vec();
        let (mut placed, mut more) = (false, false);
        let mut put = |text: &[u8]| {
            out.extend_from_slice(text);
            out.push(b'\n');
        };
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => {
                    more = true;
                    put(text);
                }
                Piece::Jails(pattern, others) => {
                    let after = others.partition_point(|(other, _)| *other < own);
                    let (before, after) = others.split_at(after);
                    before.iter().for_each(|(_, text)| put(text));
                    if !placed && fits(pattern, &own) {
                        placed = true;
                        put(block.trim_ascii_end());
                    }
                    after.iter().for_each(|(_, text)| put(text));
                    more |= !others.is_empty();
                }
            }
        }
        (placed && more).then_some(out)
    }
}

/// Returns the statements that apply to all jails in the administrator's files beside the jails' own, by the name of
/// the file.
fn others(directory: &Path, pattern: &str) -> Result<Vec<(String, Vec<u8>)>, GlobalsError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| fits(pattern, name)) else {
            continue;
        };
        let path = directory.join(name);
        let text = read(&path)?.unwrap_or_default();
        if conf::owner(&text).is_some() {
            continue;
        }
        let mut said: Vec<u8> = Vec::new();
        for statement in statements(&text, &path)? {
            let text = match statement {
                Statement::Include(at) => include(&absolute(&at, &path)),
                Statement::Other(text) => text.to_vec(),
                Statement::Jail(_) => continue,
            };
            said.extend(text);
            said.push(b'\n');
        }
        if !said.is_empty() {
            all.push((name.to_owned(), said.trim_ascii_end().to_vec()));
        }
    }
    all.sort();
    Ok(all)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, GlobalsError> {
    files::read(path).map_err(|error| GlobalsError::Read {
        path: path.to_owned(),
        why: std::error::Error::source(&error).map_or_else(String::new, ToString::to_string),
    })
}

/// Returns an absolute path: for jail(8) a path is relative to the directory of the file that includes it.
fn absolute(path: &[u8], by: &Path) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(path));
    by.parent().unwrap_or(Path::new("/")).join(path)
}

fn same(one: &Path, other: &Path) -> bool {
    let plain = |path: &Path| -> PathBuf {
        let parts = path.components();
        parts.filter(|part| *part != Component::CurDir).collect()
    };
    plain(one) == plain(other)
}

fn include(path: &Path) -> Vec<u8> {
    let mut text = b".include ".to_vec();
    text.extend(conf::in_quotes(path.as_os_str()));
    text.push(b';');
    text
}

/// Matches one name as glob(3) does, except for brackets and backslashes. The name of a jail's file has neither, and a
/// pattern with them counts as a match.
fn fits(pattern: &str, name: &str) -> bool {
    if pattern.contains(['[', '\\']) {
        return true;
    }
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    fn rest(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', more)), _) => {
                rest(more, name)
                    || name
                        .split_first()
                        .is_some_and(|(_, name)| rest(pattern, name))
            }
            (Some((b'?', pattern)), Some((_, name))) => rest(pattern, name),
            (Some((one, pattern)), Some((other, name))) => one == other && rest(pattern, name),
            _ => false,
        }
    }
    rest(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[u8] = b"# Made by ezz for site A. x\nweb {\n    path = '/x';\n}\n";

    fn globals(main: &str, more: &[(&str, &str)]) -> Result<Globals, GlobalsError> {
        let directory = tempfile::tempdir().expect("a directory");
        let jails = directory.path().join("jail.conf.d");
        fs::create_dir(&jails).expect("writable");
        for (name, text) in more {
            fs::write(jails.join(name), text).expect("writable");
        }
        let at = directory.path().join("jail.conf");
        let main = main.replace("DIR", &jails.display().to_string());
        fs::write(&at, main).expect("writable");
        Globals::of(&at, &jails)
    }

    fn around(main: &str, more: &[(&str, &str)]) -> Option<String> {
        let name = JailName::parse("web").expect("a name");
        let text = globals(main, more).expect("readable").around(&name, OWN)?;
        Some(String::from_utf8(text).expect("text"))
    }

    const WEB: &str = "web {\n    path = '/x';\n}\n";
    const MARK: &str = "# Made by ezz for site A. x\n";

    #[test]
    fn what_holds_for_all_jails_is_there_in_its_order() {
        let main = "# global\nallow.raw_sockets; ; $x = 1;\n* {\n\tsecurelevel = 2; exec.poststart = \"touch /tmp/$name };\";\n}\n\
                    mail { path = /m; }\n.include \"DIR/*.conf\";\nchildren.max = 0; /* a */";
        let expected = format!(
            "{MARK}allow.raw_sockets;\n$x = 1;\n* {{\n\tsecurelevel = 2; exec.poststart = \"touch /tmp/$name }};\";\n}}\n\
             {WEB}children.max = 0;\n"
        );
        assert_eq!(around(main, &[]), Some(expected));
        // Without an include, or with nothing besides it, the jail's own file is enough, as for rc.d/jail.
        for none in [
            "allow.raw_sockets;",
            "",
            "# .include \"DIR/*.conf\";\nallow.raw_sockets;",
            ".include \"DIR/*.conf\";",
            ".include \"DIR/*.conf\";\nmail { path = /m; }\n'other.child' { }",
            "securelevel = 2; .include \"DIR/other*.conf\";",
        ] {
            assert_eq!(around(none, &[]), None, "{none}");
        }
        assert_eq!(globals("", &[]), Ok(Globals::default()));
    }

    #[test]
    fn files_of_the_administrator_are_where_glob_puts_them() {
        let more = [
            ("00-all.conf", "securelevel = 2;\n.include 'more';\n"),
            ("zz.conf", "*{ children.max = 1; } other { path = /; }"),
            ("mail.conf", "mail { path = /m; }"),
            ("db.conf", "# Made by ezz for site B. x\ndb {\n}\n"),
            ("db.alone", "enforce_statfs = 0;"),
        ];
        let text = around(".include 'DIR/*.conf';", &more).expect("there is more");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "securelevel = 2;");
        assert!(lines[2].starts_with(".include '/") && lines[2].ends_with("/jail.conf.d/more';"));
        assert_eq!(lines[3..6].join("\n") + "\n", WEB);
        assert_eq!(lines[6..], ["*{ children.max = 1; }"]);
    }

    #[test]
    fn includes_of_other_places_stay_with_their_whole_paths() {
        let text = around("a;.include 'x/*.conf' ;.include DIR/web.conf;", &[]).expect("more");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "a;");
        assert!(lines[2].starts_with(".include '/") && lines[2].ends_with("/x/*.conf';"));
    }

    #[test]
    fn what_jail_would_not_read_is_an_error() {
        for (text, what) in [
            ("a = 'b;", "line 1: a quote without its end"),
            ("a;\n* {\nb;", "line 2: a statement without its end"),
            ("a;\n}\n", "line 2: a } too many"),
            ("/* a", "line 1: a comment without its end"),
            ("a = /usr//local;", "line 1: a statement without its end"),
            ("a = ${b;", "line 1: a ${ without its end"),
        ] {
            let error = globals(text, &[]).expect_err(text).to_string();
            assert!(error.ends_with(what), "{error}");
        }
    }

    #[test]
    fn names_fit_as_for_glob() {
        for (pattern, name, whether) in [
            ("*.conf", "web.conf", true),
            ("*.conf", ".web.conf", false),
            ("*.conf", "web.alone", false),
            ("w?b.conf", "web.conf", true),
            ("web.conf", "web.conf", true),
            ("web.conf", "web2.conf", false),
            ("*b*", "web.conf", true),
        ] {
            assert_eq!(fits(pattern, name), whether, "{pattern} {name}");
        }
    }
}
