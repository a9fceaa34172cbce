//! Readers of jail.conf(5) and of jail(8)'s fstab, for tests. They follow the rules of usr.sbin/jail (jaillex.l,
//! jailparse.y, config.c, command.c), and not the behaviour of the writer.

/// A block: its name, and each parameter with its values. A flag has no values.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadBlock {
    pub name: Vec<u8>,
    pub parameters: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(Vec<u8>),
    Mark(u8),
    PlusEquals,
}

/// Reads blocks `name { parameter; … }`.
pub fn read(text: &[u8]) -> Result<Vec<ReadBlock>, String> {
    let tokens = lex(text)?;
    let mut at = 0;
    let mut blocks = Vec::new();
    while at < tokens.len() {
        let name = word(&tokens, &mut at)?;
        mark(&tokens, &mut at, b'{')?;
        let mut parameters = Vec::new();
        while tokens.get(at) != Some(&Token::Mark(b'}')) {
            parameters.push(parameter(&tokens, &mut at)?);
        }
        at += 1;
        blocks.push(ReadBlock { name, parameters });
    }
    Ok(blocks)
}

type Parameter = (Vec<u8>, Vec<Vec<u8>>);

fn parameter(tokens: &[Token], at: &mut usize) -> Result<Parameter, String> {
    let name = word(tokens, at)?;
    let mut values = Vec::new();
    match tokens.get(*at) {
        Some(Token::Mark(b'=') | Token::PlusEquals) => {
            *at += 1;
            values.push(word(tokens, at)?);
            while tokens.get(*at) == Some(&Token::Mark(b',')) {
                *at += 1;
                values.push(word(tokens, at)?);
            }
        }
        Some(Token::Text(_)) => values.push(word(tokens, at)?),
        _ => {}
    }
    mark(tokens, at, b';')?;
    Ok((name, values))
}

fn word(tokens: &[Token], at: &mut usize) -> Result<Vec<u8>, String> {
    match tokens.get(*at) {
        Some(Token::Text(text)) => {
            *at += 1;
            Ok(text.clone())
        }
        other => Err(format!("a word was expected, not {other:?}")),
    }
}

fn mark(tokens: &[Token], at: &mut usize, byte: u8) -> Result<(), String> {
    if tokens.get(*at) != Some(&Token::Mark(byte)) {
        return Err(format!(
            "{:?} expected, not {:?}",
            byte as char,
            tokens.get(*at)
        ));
    }
    *at += 1;
    Ok(())
}

/// Splits a text into tokens. Adjacent pieces form one word, and a comment can begin in the middle of an unquoted word.
fn lex(text: &[u8]) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let byte = rest[0];
        if byte == b'#' || rest.starts_with(b"//") {
            at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
            continue;
        }
        if rest.starts_with(b"/*") {
            let end = rest.windows(2).skip(2).position(|two| two == b"*/");
            at += end.ok_or("a comment without an end")? + 4;
            continue;
        }
        if byte == b'\'' || byte == b'"' {
            let piece = open.get_or_insert_default();
            at += 1 + quoted(&rest[1..], byte, piece)?;
            continue;
        }
        if plain(byte) && !rest.starts_with(b"+=") {
            if byte == b'$'
                && rest
                    .get(1)
                    .is_some_and(|b| b.is_ascii_alphabetic() || b"_{".contains(b))
            {
                return Err("a variable".to_owned());
            }
            open.get_or_insert_default().push(byte);
            at += 1;
            continue;
        }
        tokens.extend(open.take().map(Token::Text));
        if rest.starts_with(b"+=") {
            tokens.push(Token::PlusEquals);
            at += 2;
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {}
            b'{' | b'}' | b';' | b'=' | b',' => tokens.push(Token::Mark(byte)),
            _ => return Err(format!("byte {byte:#x} outside quotes")),
        }
        at += 1;
    }
    tokens.extend(open.take().map(Token::Text));
    Ok(tokens)
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_!%&()-.:<>?@[]^`|~$*+/\\".contains(&byte)
}

/// Reads up to the closing quote, and returns the number of bytes that it has read, including the quote.
fn quoted(text: &[u8], quote: u8, out: &mut Vec<u8>) -> Result<usize, String> {
    let mut at = 0;
    loop {
        let byte = *text.get(at).ok_or("a quote without an end")?;
        at += 1;
        if byte == quote {
            return Ok(at);
        }
        if byte == b'$' && quote == b'"' {
            return Err("a variable".to_owned());
        }
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let escaped = *text.get(at).ok_or("a backslash at the end")?;
        at += 1;
        match escaped {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'\n' => {}
            b'0'..=b'7' => {
                let digits = digits(&text[at - 1..], 3, 8);
                at += digits.1 - 1;
                out.push(digits.0);
            }
            b'x' if text.get(at).is_some_and(u8::is_ascii_hexdigit) => {
                let digits = digits(&text[at..], 2, 16);
                at += digits.1;
                out.push(digits.0);
            }
            other => out.push(other),
        }
    }
}

fn digits(text: &[u8], most: usize, radix: u32) -> (u8, usize) {
    let mut value = 0;
    let mut count = 0;
    for &byte in text.iter().take(most) {
        let Some(digit) = char::from(byte).to_digit(radix) else {
            break;
        };
        value = value * radix + digit;
        count += 1;
    }
    (u8::try_from(value & 0xff).unwrap_or(0), count)
}

/// Reads the lines of an fstab as jail(8) does: four words, the first two decoded by strunvis(3).
pub fn read_fstab(text: &[u8]) -> Vec<Vec<Vec<u8>>> {
    text.split(|&byte| byte == b'\n')
        .map(|line| line.split(|&byte| byte == b'#').next().unwrap_or_default())
        .map(|line| {
            line.split(|byte| b" \t\x0c\x0b\r".contains(byte))
                .filter(|word| !word.is_empty())
                .take(4)
                .enumerate()
                .map(|(index, word)| {
                    if index < 2 {
                        unvis(word)
                    } else {
                        word.to_vec()
                    }
                })
                .collect::<Vec<_>>()
        })
        .filter(|words| !words.is_empty())
        .collect()
}

/// Decodes the octal escapes of unvis(3). ezz writes no others.
fn unvis(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = word.get(at) {
        at += 1;
        if byte == b'\\' {
            let (value, count) = digits(&word[at..], 3, 8);
            assert!(count > 0, "an escape that is not octal");
            at += count;
            out.push(value);
        } else {
            out.push(byte);
        }
    }
    out
}
