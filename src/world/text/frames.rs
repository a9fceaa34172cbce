//! Encodes requests and answers as bytes in a pipe: a kind, then each text behind its length.
//!
//! Neither side trusts the other: a length that no text can have ends the exchange.

use std::io::{self, Read, Write};

use super::{Answer, By, Request, TEXT_MAX};

/// The longest text of an answer in bytes: a merge of three texts, or a patch, which has a sign before each line.
const ANSWER_MAX: u64 = 8 * TEXT_MAX;

/// A request that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    kind: u8,
    texts: Vec<String>,
}

impl Asked {
    /// Decodes the request.
    ///
    /// # Errors
    /// `InvalidData`: no request has this kind or this number of texts.
    pub fn request(&self) -> io::Result<Request<'_>> {
        Ok(match (self.kind, self.texts.as_slice()) {
            (kind @ b'L'..=b'N', [base, ours, theirs]) => Request::Merge {
                by: match kind {
                    b'L' => By::Line,
                    b'M' => By::Name,
                    _ => By::Account,
                },
                base,
                ours,
                theirs,
            },
            (b'P', [old, new]) => Request::Patch { old, new },
            _ => return Err(invalid("a request of an unknown kind")),
        })
    }
}

/// Encodes a request.
pub fn request(request: &Request<'_>) -> Vec<u8> {
    match *request {
        Request::Merge {
            by,
            base,
            ours,
            theirs,
        } => {
            let kind = match by {
                By::Line => b'L',
                By::Name => b'M',
                By::Account => b'N',
            };
            frame(kind, &[base, ours, theirs])
        }
        Request::Patch { old, new } => frame(b'P', &[old, new]),
    }
}

/// Reads a request; returns `None` at the end of the stream.
///
/// # Errors
/// The errors of the reader; `InvalidData`.
pub fn read_request(from: &mut impl Read) -> io::Result<Option<Asked>> {
    let Some(kind) = read_kind(from)? else {
        return Ok(None);
    };
    let count = match kind {
        b'L'..=b'N' => 3,
        b'P' => 2,
        _ => return Err(invalid("a request of an unknown kind")),
    };
    let texts = (0..count).map(|_| read_text(from, TEXT_MAX));
    let texts = texts.collect::<io::Result<_>>()?;
    Ok(Some(Asked { kind, texts }))
}

/// Writes an answer.
///
/// # Errors
/// The errors of the writer.
pub fn write_answer(to: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let bytes = match answer {
        Answer::Text(text) => frame(b'T', &[text]),
        Answer::Conflict => vec![b'C'],
        Answer::TooDifferent => vec![b'D'],
        Answer::NoAnswer => vec![b'G'],
    };
    to.write_all(&bytes)?;
    to.flush()
}

/// Decodes the answer in the bytes that have arrived so far; returns `None` if more bytes are needed.
///
/// # Errors
/// `InvalidData`: the bytes are not an answer, or are more than one.
pub fn answer(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let Some((kind, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let (answer, rest) = match kind {
        b'T' => {
            let Some((length, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            let length = length_of(*length, ANSWER_MAX)?;
            let Some((text, rest)) = rest.split_at_checked(length) else {
                return Ok(None);
            };
            (Answer::Text(text_of(text.to_vec())?), rest)
        }
        b'C' => (Answer::Conflict, rest),
        b'D' => (Answer::TooDifferent, rest),
        b'G' => (Answer::NoAnswer, rest),
        _ => return Err(invalid("an answer of an unknown kind")),
    };
    if !rest.is_empty() {
        return Err(invalid("more than one answer"));
    }
    Ok(Some(answer))
}

fn frame(kind: u8, texts: &[&str]) -> Vec<u8> {
    let mut bytes = vec![kind];
    for text in texts {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

fn read_kind(from: &mut impl Read) -> io::Result<Option<u8>> {
    let mut kind = Vec::new();
    from.take(1).read_to_end(&mut kind)?;
    Ok(kind.first().copied())
}

fn read_text(from: &mut impl Read, most: u64) -> io::Result<String> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let mut bytes = vec![0; length_of(length, most)?];
    from.read_exact(&mut bytes)?;
    text_of(bytes)
}

fn length_of(bytes: [u8; 8], most: u64) -> io::Result<usize> {
    let length = u64::from_le_bytes(bytes);
    let length = usize::try_from(length).ok().filter(|_| length <= most);
    length.ok_or_else(|| invalid("a text that is too long"))
}

fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| invalid("a text that is not UTF-8"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_and_answered_comes_back() {
        let requests = [
            Request::Merge {
                by: By::Line,
                base: "",
                ours: "b\n",
                theirs: "c",
            },
            Request::Merge {
                by: By::Account,
                base: "a",
                ours: "",
                theirs: "",
            },
            Request::Patch { old: "x", new: "" },
        ];
        let stream: Vec<u8> = requests.iter().flat_map(request).collect();
        let mut from = stream.as_slice();
        for wanted in requests {
            let asked = read_request(&mut from).expect("read").expect("there");
            assert_eq!(asked.request().expect("known"), wanted);
        }
        assert_eq!(read_request(&mut from).expect("the end"), None);
        for wanted in [
            Answer::Text("t\n".to_owned()),
            Answer::Conflict,
            Answer::TooDifferent,
            Answer::NoAnswer,
        ] {
            let mut bytes = Vec::new();
            write_answer(&mut bytes, &wanted).expect("written");
            for short in 0..bytes.len() {
                assert_eq!(answer(&bytes[..short]).expect("not yet"), None);
            }
            assert_eq!(answer(&bytes).expect("whole"), Some(wanted));
            bytes.push(b'C');
            assert!(answer(&bytes).is_err());
        }
    }

    #[test]
    fn lies_end_the_conversation() {
        let long = [&b"T"[..], &u64::MAX.to_le_bytes()].concat();
        assert!(answer(&long).is_err());
        assert!(answer(b"X").is_err());
        let long = [&b"P"[..], &(TEXT_MAX + 1).to_le_bytes()].concat();
        assert!(read_request(&mut long.as_slice()).is_err());
        assert!(read_request(&mut &b"Q"[..]).is_err());
        let binary = [&b"T"[..], &1_u64.to_le_bytes(), b"\xff"].concat();
        assert!(answer(&binary).is_err());
    }
}
