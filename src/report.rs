//! All printing: results go to standard output, and everything else to standard error. This includes the question
//! before something is destroyed, and the conversion of an error into messages, hints and an exit code.

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

/// The width of a table if there is no terminal, or if the terminal does not know its width.
const WIDTH: u16 = 80;

/// The result of a command, which decides its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command did what was requested.
    Done,
    /// The command refused or failed, and left nothing half-done.
    Failed,
    /// The arguments are not valid.
    Usage,
    /// The command succeeded for some jails and failed for others.
    Partly,
    /// Another ezz process holds the lock.
    Locked,
    /// The command found a bug in ezz.
    Bug,
    /// A command that ran in a jail ended with this exit code.
    Code(u8),
}

impl Exit {
    /// Returns the exit code.
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

/// The destination of a command's output.
pub trait Sink: Sync + fmt::Debug {
    /// Writes a line of the result.
    fn out(&self, line: &str);

    /// Writes a line that is not a part of the result, such as a note or an error.
    fn err(&self, line: &str);

    /// Returns why a part of the result could not be written; none if everything was written. A reader that closed its
    /// pipe is no failure.
    fn lost(&self) -> Option<String> {
        None
    }
}

/// Writes to standard output and standard error.
#[derive(Debug)]
pub struct Streams;

/// The first error of a write to standard output.
static LOST: OnceLock<String> = OnceLock::new();

/// Records an error of a write to standard output. A reader that closed its pipe (`ezz list | head`) is no failure.
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

/// Prints the output of a command.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Whether results are printed as JSON.
    pub json: bool,
    /// Whether only results and errors are printed.
    pub quiet: bool,
    /// Whether the labels of errors, warnings and hints are in colour.
    pub color: bool,
    /// The width of tables on a terminal; none to ask the terminal.
    pub width: Option<u16>,
    /// The destination of the lines.
    pub sink: &'static dyn Sink,
}

impl Report {
    fn out(&self, line: &str) {
        self.sink.out(&plain(line));
    }

    fn err(&self, line: &str) {
        self.sink.err(&plain(line));
    }

    /// Prints a line of the result for people; prints nothing with `--json`.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            self.out(text.as_ref());
        }
    }

    /// Prints a line that reports what was done; prints nothing with `--quiet` or `--json`.
    pub fn said(&self, text: impl AsRef<str>) {
        if !self.json && !self.quiet {
            self.out(text.as_ref());
        }
    }

    /// Prints a line of progress on standard error; prints nothing with `--quiet`.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.err(text.as_ref());
        }
    }

    /// Prints a warning on standard error: something that the user should look at, although the command continues.
    /// Prints nothing with `--quiet`.
    pub fn warning(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.labelled(Label::Warning, text.as_ref());
        }
    }

    fn labelled(&self, label: Label, text: &str) {
        let label = label.shown(self.color);
        self.sink.err(&format!("{label} {}", plain(text)));
    }

    /// Writes a file as the result, byte for byte.
    ///
    /// # Errors
    /// Returns the error of the write. A reader that closed its pipe is no failure.
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

    /// Ends the line of a question that has got no answer.
    pub fn unanswered(&self) {
        let _closed = writeln!(io::stderr().lock());
    }

    /// Prints the result of a command that only reads, as one JSON object on one line; prints nothing without `--json`.
    pub fn object<T: Serialize>(&self, kind: Kind, value: &T) {
        self.envelope(&Envelope::new(kind, None, value));
    }

    /// Prints the result of a command that changes something, or would with `--dry-run`, as one JSON object on one
    /// line; prints nothing without `--json`.
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

    /// Prints a table for people; prints nothing with `--json`. On a terminal the table fits the width. Elsewhere each
    /// row is one line, however long, and nothing is cut.
    pub fn table(&self, head: &[&str], rows: Vec<Vec<String>>) {
        self.lines_of(Some(head), rows);
    }

    /// Prints a table without a header line.
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

    /// Prints an error with its causes, then the hints.
    pub fn error(&self, error: &dyn Error, hints: &[String]) {
        self.error_of_program(error, hints, &[]);
    }

    /// Prints an error, and the last lines of the program that failed. All errors are printed here.
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

/// Returns the lines of a table in which each column is as wide as its longest cell.
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

/// Returns the lines of a table that fits a terminal.
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

/// Makes sure that only columns with long cells are wrapped if the table is too wide.
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
            // The padding counts as a part of a column's width.
            let whole = Width::Fixed(width + GAP);
            column.set_constraint(ColumnConstraint::LowerBoundary(whole));
        }
    }
}

/// Returns the messages of an error and its causes. A message that repeats the one before it is left out, because a
/// transparent wrapper has the message of its source.
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

/// Escapes the deceptive characters of a line. Names of files come from archives and manifests, values from properties
/// that others can set, and lines of programs from jails. None of them may move the cursor on root's terminal, or look
/// like a line that ezz has printed.
fn plain(line: &str) -> Cow<'_, str> {
    escaped(line, |c| c.escape_default().to_string())
}

/// Escapes the same characters in JSON, where they occur only in strings. serde_json does not escape most of them.
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

/// Returns a number of bytes as `zfs list` shows it, in powers of 1024, such as `87.7M`.
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
