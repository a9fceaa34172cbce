//! All printing: results on standard output, everything else on standard error; the question
//! before something is deleted; and how an error becomes words, hints and an exit code.

mod json;
mod label;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde::Serialize;

use crate::model::deceptive;

use json::Envelope;
pub use json::{Kind, SCHEMA};
use label::Label;
pub use label::wants_color;

/// Width of a table where there is no terminal to ask, or it does not know.
const WIDTH: u16 = 80;

/// How a command ended (design.md §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Refused or failed, nothing half-done.
    Failed,
    /// What was typed makes no sense.
    Usage,
    /// Some jails done, others failed.
    Partly,
    /// Another ezz holds the lock.
    Locked,
    /// A bug in ezz.
    Bug,
    /// The exit code of a command that ran in a jail.
    Code(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Partly => 3,
            Exit::Locked => 4,
            Exit::Bug => 70,
            Exit::Code(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// What takes the lines of a command.
pub trait Sink: Sync + fmt::Debug {
    /// A line of the result.
    fn out(&self, line: &str);

    /// A line beside the result: a note, an error.
    fn err(&self, line: &str);

    /// Why a part of the result could not be written, if that is so. A reader that went away is no failure.
    fn lost(&self) -> Option<String> {
        None
    }
}

/// Standard output and standard error.
#[derive(Debug)]
pub struct Streams;

/// The first error of standard output.
static LOST: OnceLock<String> = OnceLock::new();

/// Remembers an error of standard output. A reader that went away (`ezz list | head`) is no failure of ours.
fn written(done: io::Result<()>) {
    if let Err(error) = done {
        if error.kind() != io::ErrorKind::BrokenPipe {
            LOST.get_or_init(|| error.to_string());
        }
    }
}

impl Sink for Streams {
    fn out(&self, line: &str) {
        let mut stream = io::stdout().lock();
        written(writeln!(stream, "{line}"));
    }

    fn lost(&self) -> Option<String> {
        written(io::stdout().lock().flush());
        LOST.get().cloned()
    }

    fn err(&self, line: &str) {
        let mut stream = io::stderr().lock();
        let _closed = writeln!(stream, "{line}");
    }
}

/// Where a command prints.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Results as JSON.
    pub json: bool,
    /// No words beside results and errors.
    pub quiet: bool,
    /// Labels of errors, warnings and hints in colour.
    pub color: bool,
    /// How wide tables are on a terminal; none, if it knows itself.
    pub width: Option<u16>,
    /// Where lines go.
    pub sink: &'static dyn Sink,
}

impl Report {
    fn out(&self, line: &str) {
        self.sink.out(&plain(line));
    }

    fn err(&self, line: &str) {
        self.sink.err(&plain(line));
    }

    /// A line of the result, for people; nothing with `--json`.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            self.out(text.as_ref());
        }
    }

    /// A line that says what was done; not with `--quiet` or `--json`.
    pub fn said(&self, text: impl AsRef<str>) {
        if !self.json && !self.quiet {
            self.out(text.as_ref());
        }
    }

    /// A line of progress, on standard error; not with `--quiet`.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.err(text.as_ref());
        }
    }

    /// Something that the user should look at, though the command goes on, on standard error; not with `--quiet`.
    pub fn warning(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.labelled(Label::Warning, text.as_ref());
        }
    }

    fn labelled(&self, label: Label, text: &str) {
        let label = label.shown(self.color);
        self.sink.err(&format!("{label} {}", plain(text)));
    }

    /// A file as the result, byte for byte.
    ///
    /// # Errors
    /// It could not be written; a reader that went away is no failure.
    pub fn file(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = io::stdout().lock();
        let written = stream.write_all(bytes).and_then(|()| stream.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Prints a question on standard error.
    pub fn ask(&self, about: &str, question: &str) {
        let mut stream = io::stderr().lock();
        for line in about.lines() {
            let _closed = writeln!(stream, "{}", plain(line));
        }
        let _closed = write!(stream, "{question} [y/N] ");
        let _closed = stream.flush();
    }

    /// Ends the line of a question that was not answered.
    pub fn unanswered(&self) {
        let _closed = writeln!(io::stderr().lock());
    }

    /// The result of a command that only reads, as one JSON object on one line; nothing without `--json`.
    pub fn object<T: Serialize>(&self, kind: Kind, value: &T) {
        self.envelope(&Envelope::new(kind, None, value));
    }

    /// The result of a command that changes something, or would: one JSON object on one line; nothing without
    /// `--json`.
    pub fn result<T: Serialize>(&self, kind: Kind, changed: bool, value: &T) {
        self.envelope(&Envelope::new(kind, Some(changed), value));
    }

    fn envelope<T: Serialize>(&self, object: &Envelope<'_, T>) {
        if self.json {
            match serde_json::to_string(object) {
                Ok(text) => self.sink.out(&plain_json(&text)),
                Err(error) => {
                    let text = format!("cannot write the result as JSON: {error}");
                    self.labelled(Label::Error, &text);
                }
            }
        }
    }

    /// A table for people; nothing with `--json`. On a terminal it fits the width; elsewhere a row is one line,
    /// however long, and nothing in it is cut.
    pub fn table(&self, head: &[&str], rows: Vec<Vec<String>>) {
        self.lines_of(Some(head), rows);
    }

    /// The same without its first line.
    pub fn rows(&self, rows: Vec<Vec<String>>) {
        self.lines_of(None, rows);
    }

    fn lines_of(&self, head: Option<&[&str]>, rows: Vec<Vec<String>>) {
        if self.json {
            return;
        }
        let plain = |cell: String| plain(&cell).into_owned();
        let rows: Vec<Vec<String>> = rows
            .into_iter()
            .map(|row| row.into_iter().map(plain).collect())
            .collect();
        let head = head.map(|head| head.iter().map(|cell| (*cell).to_owned()).collect());
        let lines = match io::stdout().is_terminal() {
            true => fitted(head, rows, self.width),
            false => aligned(head.into_iter().chain(rows).collect()),
        };
        for line in lines {
            self.out(line.trim_end());
        }
    }

    /// An error: the chain of its causes, then hints.
    pub fn error(&self, error: &dyn Error, hints: &[String]) {
        self.error_of_program(error, hints, &[]);
    }

    /// The same with the last lines of a program that has failed. The only place that prints an error.
    pub fn error_of_program(&self, error: &dyn Error, hints: &[String], said: &[String]) {
        let chain = chain(error);
        if self.json {
            #[derive(Serialize)]
            struct Failure<'a> {
                error: &'a str,
                causes: &'a [String],
                hints: &'a [String],
                #[serde(skip_serializing_if = "<[String]>::is_empty")]
                said: &'a [String],
            }
            let failure = Failure {
                error: &chain[0],
                causes: &chain[1..],
                hints,
                said,
            };
            let object = Envelope::new(Kind::Error, None, &failure);
            if let Ok(text) = serde_json::to_string(&object) {
                self.sink.err(&plain_json(&text));
            }
            return;
        }
        self.labelled(Label::Error, &chain[0]);
        for cause in &chain[1..] {
            self.err(&format!("  caused by: {cause}"));
        }
        for line in said {
            self.err(&format!("  | {line}"));
        }
        for hint in hints {
            self.labelled(Label::Hint, hint);
        }
    }
}

/// The lines of a table whose columns are as wide as what is in them.
fn aligned(rows: Vec<Vec<String>>) -> Vec<String> {
    const GAP: usize = 2;
    let width = |cell: &String| cell.chars().count();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(width).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        cells
            .map(|(cell, width)| format!("{cell:<0$}", width + GAP))
            .collect()
    };
    rows.iter().map(line).collect()
}

/// The lines of a table that fits a terminal.
fn fitted(head: Option<Vec<String>>, rows: Vec<Vec<String>>, width: Option<u16>) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .add_rows(rows);
    if let Some(head) = head {
        table.set_header(head);
    }
    // A serial console has no columns.
    let own = table.width().filter(|width| *width > 0);
    table.set_width(width.or(own).unwrap_or(WIDTH));
    keep_short_columns_whole(&mut table);
    table.to_string().lines().map(str::to_owned).collect()
}

/// Where a table is too narrow for a long name, only columns with long cells are wrapped.
fn keep_short_columns_whole(table: &mut Table) {
    const GAP: u16 = 2;
    const SHORT: u16 = 22;
    const LEAST: u16 = 8;
    let widths = table.column_max_content_widths();
    let least = |width: &u16| GAP + if *width <= SHORT { *width } else { LEAST };
    let fits = table
        .width()
        .is_none_or(|all| widths.iter().map(least).sum::<u16>() <= all);
    for (column, width) in table.column_iter_mut().zip(widths) {
        column.set_padding((0, GAP));
        if fits && width <= SHORT {
            // The padding is a part of a column's width.
            let whole = Width::Fixed(width + GAP);
            column.set_constraint(ColumnConstraint::LowerBoundary(whole));
        }
    }
}

/// An error and its causes, each once: transparent wrappers say the same twice.
fn chain(error: &dyn Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if chain.last() != Some(&text) {
            chain.push(text);
        }
        cause = inner.source();
    }
    chain
}

/// Names of files come from archives and manifests, values from properties that others can set, lines of
/// programs from jails: none of them may move the cursor of root's terminal, or look like a line of ours.
fn plain(line: &str) -> Cow<'_, str> {
    escaped(line, |c| c.escape_default().to_string())
}

/// The same in JSON, where such characters are only in strings: serde_json leaves most.
fn plain_json(text: &str) -> Cow<'_, str> {
    escaped(text, |c| {
        let units = c.encode_utf16(&mut [0; 2]).to_vec();
        units.iter().map(|unit| format!("\\u{unit:04x}")).collect()
    })
}

fn escaped(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(deceptive) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match deceptive(c) {
            true => plain += &escape(c),
            false => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// Bytes for people: `87.7M`, in powers of 1024, as `zfs list` shows them.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if count < 1024 {
        return format!("{count}B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 100.0 { 1 } else { 0 };
    format!("{value:.digits$}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_moves_the_cursor() {
        assert_eq!(plain("a b ü \\"), "a b ü \\");
        assert_eq!(
            plain("a\nhint: x\u{1b}[2J\u{9b}"),
            "a\\nhint: x\\u{1b}[2J\\u{9b}"
        );
        assert_eq!(plain("a\u{202e}b\u{200b}"), "a\\u{202e}b\\u{200b}");
        let value = serde_json::json!({"name": "a\n\u{7f}\u{9b}2J\u{202e}\u{e0041}"});
        let text = serde_json::to_string(&value).expect("JSON");
        let shown = plain_json(&text);
        assert!(!shown.contains(deceptive), "{shown:?}");
        let again: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(again, value);
    }

    #[test]
    fn a_row_is_one_line_whatever_is_in_it() {
        let rows = [["NAME", "ADDRESS"], ["a", "192.0.2.7"], ["long-name", "-"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec()).to_vec();
        assert_eq!(
            aligned(rows),
            [
                "NAME       ADDRESS    ",
                "a          192.0.2.7  ",
                "long-name  -          "
            ]
        );
        let long = "x".repeat(300);
        let narrow = fitted(None, vec![vec!["a".to_owned(), long.clone()]], Some(40));
        assert!(narrow.len() > 1 && narrow.iter().all(|line| line.chars().count() <= 40));
        assert_eq!(aligned(vec![vec!["a".to_owned(), long]]).len(), 1);
    }

    #[test]
    fn bytes_are_short() {
        for (count, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (87_700_000, "83.6M"),
            (1 << 30, "1.0G"),
            (1_048_575, "1.0M"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
