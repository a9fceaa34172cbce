//! The grammar of jail.conf(5), as far as it separates statements: words, quotes, comments and braces. This module is
//! pure, and must not interpret values.

use std::path::Path;

use super::GlobalsError;

/// A top-level statement of jail.conf(5).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Statement<'a> {
    /// The path of an include, without its quotes.
    Include(Vec<u8>),
    /// The block of one jail, by its name.
    Jail(Vec<u8>),
    /// The text of a parameter, a variable or a wildcard block.
    Other(&'a [u8]),
}

/// A token of the grammar.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// A word: adjacent pieces, without their quotes.
    Text(Vec<u8>),
    /// One of `{};,=`, or `+=` as `+`.
    Mark(u8),
}

/// Splits a text into statements (usr.sbin/jail/jaillex.l, jailparse.y).
pub(super) fn statements<'a>(
    text: &'a [u8],
    path: &Path,
) -> Result<Vec<Statement<'a>>, GlobalsError> {
    let wrong = |at: usize, what| GlobalsError::Syntax {
        path: path.to_owned(),
        line: 1 + text[..at].iter().filter(|byte| **byte == b'\n').count(),
        what,
    };
    let mut found = Vec::new();
    let mut words = Words { text, at: 0 };
    let mut begin = None;
    let mut first: Vec<Vec<u8>> = Vec::new();
    let mut depth = 0_usize;
    loop {
        let (from, word) = match words.take() {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err(what) => return Err(wrong(words.at, what)),
        };
        let begun = *begin.get_or_insert(from);
        let whole = &text[begun..words.at];
        let ends = match word {
            Word::Text(word) => {
                if depth == 0 {
                    first.push(word);
                }
                false
            }
            Word::Mark(b'{') => {
                depth += 1;
                false
            }
            Word::Mark(b'}') => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| wrong(from, "a } too many"))?;
                depth == 0
            }
            Word::Mark(b';') => depth == 0,
            Word::Mark(_) => false,
        };
        if !ends {
            continue;
        }
        let block = text[words.at - 1] == b'}';
        match first.split_first() {
            Some((name, [path])) if name == b".include" && !block => {
                found.push(Statement::Include(path.clone()));
            }
            Some((name, _)) if block && !name.contains(&b'*') => {
                found.push(Statement::Jail(name.clone()));
            }
            Some(_) => found.push(Statement::Other(whole)),
            // The statement is only a `;`.
            None => {}
        }
        begin = None;
        first.clear();
    }
    match begin {
        Some(begun) => Err(wrong(begun, "a statement without its end")),
        None => Ok(found),
    }
}

struct Words<'a> {
    text: &'a [u8],
    at: usize,
}

impl Words<'_> {
    /// Returns the next word and the offset where it begins, or the error in the text.
    fn take(&mut self) -> Result<Option<(usize, Word)>, &'static str> {
        self.skip()?;
        let from = self.at;
        let mut word: Option<Vec<u8>> = None;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'\'' | b'"' => {
                    let piece = self.quoted(byte)?;
                    word.get_or_insert_default().extend(piece);
                }
                b'{' | b'}' | b';' | b',' | b'=' => {
                    if word.is_none() {
                        self.at += 1;
                        return Ok(Some((from, Word::Mark(byte))));
                    }
                    break;
                }
                b'+' if self.text.get(self.at + 1) == Some(&b'=') => {
                    if word.is_none() {
                        self.at += 2;
                        return Ok(Some((from, Word::Mark(b'+'))));
                    }
                    break;
                }
                b'$' if self.text.get(self.at + 1) == Some(&b'{') => {
                    let rest = &self.text[self.at..];
                    let end = rest.iter().position(|byte| *byte == b'}');
                    let end = end.ok_or("a ${ without its end")?;
                    word.get_or_insert_default().extend(&rest[..=end]);
                    self.at += end + 1;
                }
                _ if byte.is_ascii_whitespace() || self.comment().is_some() => break,
                _ => {
                    word.get_or_insert_default().push(byte);
                    self.at += 1;
                }
            }
        }
        Ok(word.map(|word| (from, Word::Text(word))))
    }

    /// Skips blanks and comments.
    fn skip(&mut self) -> Result<(), &'static str> {
        loop {
            let rest = &self.text[self.at..];
            let end = match rest.first() {
                Some(byte) if byte.is_ascii_whitespace() => 1,
                Some(_) => match self.comment() {
                    Some(b"*/") => {
                        let end = rest[2..].windows(2).position(|two| two == b"*/");
                        end.ok_or("a comment without its end")? + 4
                    }
                    Some(_) => {
                        let end = rest.iter().position(|byte| *byte == b'\n');
                        end.unwrap_or(rest.len())
                    }
                    None => return Ok(()),
                },
                None => return Ok(()),
            };
            self.at += end;
        }
    }

    /// Returns the end of a comment that begins here, which may be in the middle of a word; none if no comment begins
    /// here.
    fn comment(&self) -> Option<&'static [u8]> {
        match &self.text[self.at..] {
            [b'#', ..] | [b'/', b'/', ..] => Some(b"\n"),
            [b'/', b'*', ..] => Some(b"*/"),
            _ => None,
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<Vec<u8>, &'static str> {
        let mut piece = Vec::new();
        self.at += 1;
        loop {
            match self.text.get(self.at..) {
                Some([b'\\', byte, ..]) => {
                    piece.push(*byte);
                    self.at += 2;
                }
                Some([byte, ..]) => {
                    self.at += 1;
                    if *byte == quote {
                        return Ok(piece);
                    }
                    piece.push(*byte);
                }
                Some([]) | None => return Err("a quote without its end"),
            }
        }
    }
}
