//! The text of the ledger, and its place in a sealed base.
//! This module must not decide which number a new account gets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use super::super::dirs::Dirs;
use super::super::error::WorldError;
use super::super::manifest::DIR;
use super::super::meta::Meta;
use super::super::writer::{WriteError, Writer};
use super::accounts::name;
use super::{Accounts, Kind, is_fixed};
use crate::profile::RelPath;

/// The name of the ledger in the directory that ezz owns in each base.
pub(in crate::world) const FILE: &str = "accounts";

/// The beginning of the text; the version follows.
const HEADER: &str = "# ezz accounts ";
const VERSION: &str = "1";

/// The name in a line for a number that an account of the site once had, and that no other account gets.
const USED: &str = "-";

/// The largest ledger that is read.
const SIZE_MAX: u64 = 16 << 20;

/// The numbers of the accounts of a family of worlds. A ledger only grows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    users: Table,
    groups: Table,
}

/// The numbers of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Table {
    by_name: BTreeMap<String, u32>,
    /// All names of each number.
    by_number: BTreeMap<u32, BTreeSet<String>>,
    used: BTreeSet<u32>,
}

impl Ledger {
    /// Makes the ledger of a base that has none: its accounts with the numbers that they have.
    pub fn of(accounts: &Accounts) -> Ledger {
        let mut ledger = Ledger::default();
        for kind in [Kind::User, Kind::Group] {
            for (name, number) in accounts.of(kind) {
                ledger.add(kind, name, *number);
            }
        }
        ledger
    }

    /// Parses the text of a ledger.
    ///
    /// # Errors
    /// [`WorldError::Ledger`]: a text that [`Ledger::text`] would not have written.
    pub fn parse(text: &str) -> Result<Ledger, WorldError> {
        let bad = |at: usize, problem: String| WorldError::Ledger {
            line: at + 1,
            problem,
        };
        let mut ledger = Ledger::default();
        let mut lines = text.split_inclusive('\n').enumerate();
        let first = lines.next().map_or("", |(_, line)| line);
        match first.trim_end().strip_prefix(HEADER) {
            Some(VERSION) => {}
            Some(other) => {
                let problem = format!("it is of version {other}, and this ezz knows {VERSION}");
                return Err(bad(0, problem));
            }
            None => return Err(bad(0, format!("it does not begin with {HEADER}{VERSION}"))),
        }
        for (at, line) in lines {
            let Some(line) = line.strip_suffix('\n') else {
                return Err(bad(at, "the line has no end".to_owned()));
            };
            let words: Vec<&str> = line.split(' ').collect();
            let [kind, word, number] = words[..] else {
                return Err(bad(
                    at,
                    "expected `user NAME NUMBER` or `group NAME NUMBER`".to_owned(),
                ));
            };
            let kind = match kind {
                "user" => Kind::User,
                "group" => Kind::Group,
                other => return Err(bad(at, format!("{other:?} is neither user nor group"))),
            };
            let plain = number.bytes().all(|byte| byte.is_ascii_digit());
            let number = number.parse().ok().filter(|it| plain && *it != u32::MAX);
            let number = number.filter(|number| !is_fixed(*number));
            let number = number.ok_or_else(|| bad(at, "no account has this number".to_owned()))?;
            let table = ledger.table_mut(kind);
            if word == USED {
                table.used.insert(number);
            } else if name(word.as_bytes()).is_none() {
                return Err(bad(at, format!("{word:?} is not the name of an account")));
            } else if table.by_name.contains_key(word) {
                return Err(bad(at, format!("the {kind} {word} occurs twice")));
            } else {
                table.insert(word, number);
            }
        }
        Ok(ledger)
    }

    /// Renders the text of the ledger.
    pub fn text(&self) -> String {
        let mut text = format!("{HEADER}{VERSION}\n");
        for (kind, table) in [(Kind::User, &self.users), (Kind::Group, &self.groups)] {
            for (name, number) in &table.by_name {
                let _ = writeln!(text, "{kind} {name} {number}");
            }
            for number in &table.used {
                let _ = writeln!(text, "{kind} {USED} {number}");
            }
        }
        text
    }

    /// What this one knows and another does not: in words, so many bytes a text at the most. [`Ledger::parse_words`]
    /// reads such a text.
    pub fn words_without(&self, other: &Ledger, most: usize) -> Vec<String> {
        let text = self.text();
        let unknown = |line: &&str| {
            let words: Vec<&str> = line.split(' ').collect();
            let [kind, name, number] = words[..] else {
                return false;
            };
            let kind = if kind == "user" {
                Kind::User
            } else {
                Kind::Group
            };
            let number = number.parse().ok();
            match name {
                USED => number.is_some_and(|number| !other.has(kind, number)),
                // A number is also known with another name of its account.
                name => {
                    other.number(kind, name).is_none()
                        || number.is_some_and(|number| !other.has(kind, number))
                }
            }
        };
        let mut texts: Vec<String> = Vec::new();
        for line in text.lines().skip(1).filter(unknown) {
            match texts.last_mut() {
                Some(last) if last.len() + line.len() < most => {
                    last.push(' ');
                    last.push_str(line);
                }
                _ => texts.push(line.to_owned()),
            }
        }
        texts
    }

    /// Parses the words of a ledger on one line.
    ///
    /// # Errors
    /// As [`Ledger::parse`].
    pub fn parse_words(words: &str) -> Result<Ledger, WorldError> {
        let words: Vec<&str> = words.split(' ').collect();
        let lines = words.chunks(3).map(|words| words.join(" ") + "\n");
        Ledger::parse(&format!("{HEADER}{VERSION}\n{}", lines.collect::<String>()))
    }

    /// The number of an account.
    pub fn number(&self, kind: Kind, name: &str) -> Option<u32> {
        self.table(kind).by_name.get(name).copied()
    }

    /// Whether an account of the site has or has had this number.
    pub fn has(&self, kind: Kind, number: u32) -> bool {
        let table = self.table(kind);
        table.by_number.contains_key(&number) || table.used.contains(&number)
    }

    /// Returns all numbers that accounts of the site have or have had.
    pub(super) fn numbers(&self, kind: Kind) -> impl Iterator<Item = u32> {
        let table = self.table(kind);
        table.by_number.keys().chain(&table.used).copied()
    }

    /// Adds an account, unless the ledger has it or its number means the same account everywhere.
    pub(super) fn add(&mut self, kind: Kind, name: &str, number: u32) {
        let table = self.table_mut(kind);
        if !is_fixed(number) && !table.by_name.contains_key(name) {
            table.insert(name, number);
        }
    }

    /// Adds the accounts of another ledger; where the two differ, this one wins.
    pub fn extend(&mut self, other: &Ledger) {
        for kind in [Kind::User, Kind::Group] {
            let theirs = other.table(kind);
            let before = self.table(kind).clone();
            let table = self.table_mut(kind);
            for number in &theirs.used {
                table.used.insert(*number);
            }
            for (number, names) in &theirs.by_number {
                // If several names share the number in the other ledger and one of them has it here, all of them get
                // it. Otherwise a number that belongs to another account here is not shared.
                let shared = before
                    .by_number
                    .get(number)
                    .is_none_or(|known| known.iter().any(|name| names.contains(name)));
                let free = shared && !before.used.contains(number);
                for name in names {
                    if free && !table.by_name.contains_key(name) {
                        table.insert(name, *number);
                    }
                }
                if !table.by_number.contains_key(number) {
                    table.used.insert(*number);
                }
            }
        }
    }

    /// Returns an account that two ledgers of one site know differently, so that a file could pass to another account.
    pub fn differs(&self, other: &Ledger) -> Option<(Kind, String)> {
        [Kind::User, Kind::Group].into_iter().find_map(|kind| {
            let (ours, theirs) = (self.table(kind), other.table(kind));
            let odd = theirs.by_name.iter().find(|(name, number)| {
                let moved = ours.by_name.get(*name).is_some_and(|own| own != *number);
                let passed = ours.by_number.get(number).is_some_and(|names| {
                    let known = &theirs.by_number[number];
                    names.iter().all(|name| !known.contains(name))
                });
                moved || passed
            });
            odd.map(|(name, _)| (kind, name.clone()))
        })
    }

    fn table(&self, kind: Kind) -> &Table {
        match kind {
            Kind::User => &self.users,
            Kind::Group => &self.groups,
        }
    }

    fn table_mut(&mut self, kind: Kind) -> &mut Table {
        match kind {
            Kind::User => &mut self.users,
            Kind::Group => &mut self.groups,
        }
    }
}

impl Table {
    fn insert(&mut self, name: &str, number: u32) {
        self.by_name.insert(name.to_owned(), number);
        self.by_number
            .entry(number)
            .or_default()
            .insert(name.to_owned());
    }
}

/// Reads the ledger of a sealed base; for a base that was sealed before ezz wrote ledgers, its accounts.
///
/// # Errors
/// [`WorldError::Ledger`], or the system refuses an operation.
pub fn of_base(root: &Path) -> Result<Ledger, WorldError> {
    let Some(bytes) = Dirs::open(root)?.read(&path(), SIZE_MAX + 1)? else {
        return Accounts::read(root).map(|accounts| Ledger::of(&accounts));
    };
    let damaged = |problem: &str| WorldError::Ledger {
        line: 1,
        problem: problem.to_owned(),
    };
    if bytes.len() as u64 > SIZE_MAX {
        return Err(damaged("it is larger than 16 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    Ledger::parse(&text)
}

/// Writes the ledger into a base that is being made, replacing an existing one.
///
/// # Errors
/// The system refuses an operation.
pub fn write(root: &Path, ledger: &Ledger) -> Result<(), WorldError> {
    let path = path();
    let host = path.under(root);
    let failed = |e: io::Error| WorldError::io("write", &host, e);
    let refused = |e: WriteError| {
        e.of_entry(|problem| WorldError::io("write", &host, io::Error::other(problem)))
    };
    let mut writer = Writer::open(root)?;
    let own = Meta::own;
    writer.dir(&path.parent(), own(0o755)).map_err(refused)?;
    let mut file = writer.create(&path).map_err(refused)?;
    file.write_all(ledger.text().as_bytes()).map_err(failed)?;
    writer.close(&path, &file, &own(0o644))?;
    writer.finish()
}

fn path() -> RelPath {
    RelPath::parse(format!("{DIR}/{FILE}").as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(lines: &str) -> Ledger {
        Ledger::parse(&format!("# ezz accounts 1\n{lines}")).expect("a ledger")
    }

    #[test]
    fn what_is_written_is_read() {
        let text = "# ezz accounts 1\nuser _apt 42\nuser db 102\nuser - 7\ngroup db 103\n";
        let parsed = Ledger::parse(text).expect("a ledger");
        assert_eq!(parsed.text(), text);
        assert_eq!(parsed.number(Kind::User, "db"), Some(102));
        assert_eq!(parsed.number(Kind::Group, "_apt"), None);
        assert!(parsed.has(Kind::User, 7) && !parsed.has(Kind::Group, 7));
    }

    #[test]
    fn what_is_no_ledger_is_refused_with_its_line() {
        for (text, line, words) in [
            ("", 1, "does not begin"),
            ("user a 1\n", 1, "does not begin"),
            ("# ezz accounts 2\n", 1, "version 2"),
            ("# ezz accounts 1\nuser a 1", 2, "no end"),
            ("# ezz accounts 1\nuser a 1\nuser a 2\n", 3, "twice"),
            ("# ezz accounts 1\nuser a\n", 2, "expected"),
            ("# ezz accounts 1\nuser a b 1\n", 2, "expected"),
            ("# ezz accounts 1\nrole a 1\n", 2, "neither"),
            ("# ezz accounts 1\nuser a 0\n", 2, "no account"),
            ("# ezz accounts 1\nuser a -1\n", 2, "no account"),
            ("# ezz accounts 1\nuser a 4294967295\n", 2, "no account"),
            ("# ezz accounts 1\nuser a\0\t 5\n", 2, "not the name"),
            ("# ezz accounts 1\nuser +a 5\n", 2, "not the name"),
        ] {
            let Err(WorldError::Ledger { line: at, problem }) = Ledger::parse(text) else {
                panic!("{text:?} was taken");
            };
            assert_eq!(at, line, "{text:?}: {problem}");
            assert!(problem.contains(words), "{text:?}: {problem}");
        }
    }

    #[test]
    fn the_first_counts_and_no_number_gets_a_second_name() {
        let mut first = ledger("user db 102\nuser toor2 50\nuser x2 50\n");
        // A site that sealed a release before ezz wrote ledgers.
        first.extend(&ledger(
            "user db 101\nuser www 102\nuser x2 50\nuser x3 50\nuser new 7\n",
        ));
        assert_eq!(
            first.text(),
            "# ezz accounts 1\nuser db 102\nuser new 7\nuser toor2 50\nuser x2 50\nuser x3 50\nuser - 101\n"
        );
        assert!(first.has(Kind::User, 101));
        assert_eq!(first.number(Kind::User, "www"), None);
        // A number that belonged to another account is never given again.
        first.extend(&ledger("user late 101\n"));
        assert_eq!(first.number(Kind::User, "late"), None);
        let again = first.clone();
        first.extend(&again);
        assert_eq!(first, again);
    }

    #[test]
    fn what_another_ledger_does_not_know_is_kept_in_words() {
        let one = ledger("user db 102\nuser www 999\nuser - 7\ngroup db 102\n");
        let other = ledger("user db 102\nuser x 7\n");
        let words = one.words_without(&other, 8000);
        assert_eq!(words, ["user www 999 group db 102"]);
        let parsed = Ledger::parse_words(&words[0]).expect("a ledger");
        assert_eq!(parsed, ledger("user www 999\ngroup db 102\n"));
        // Many are several texts.
        let words = one.words_without(&Ledger::default(), 20);
        assert_eq!(words.len(), 4);
        let mut all = Ledger::default();
        for words in &words {
            assert!(words.len() <= 20, "{words}");
            all.extend(&Ledger::parse_words(words).expect("a ledger"));
        }
        assert_eq!(all, one);
        assert_eq!(one.words_without(&one, 8000), [""; 0]);
        assert!(Ledger::parse_words("user www").is_err());
    }

    #[test]
    fn ledgers_that_contradict_each_other_are_told() {
        let one = ledger("user db 102\nuser a 5\nuser b 5\n");
        for (other, odd) in [
            ("user db 103\n", Some("db")),
            ("user www 102\n", Some("www")),
            ("user db 102\nuser www 103\n", None),
            ("user b 5\nuser c 5\n", None),
            ("group www 102\n", None),
        ] {
            let told = one.differs(&ledger(other)).map(|(_, name)| name);
            assert_eq!(told.as_deref(), odd, "{other}");
        }
    }
}
