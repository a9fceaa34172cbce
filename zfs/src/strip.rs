//! Shortens Lua source before it is sent: every program is written to the pool's history whole.
//!
//! Removes line comments, indentation and blank lines, and nothing else. It knows quoted strings,
//! not long brackets (`[[`, `--[[`): the programs of ezz use none, and a test holds them to it.

/// The source without line comments, indentation, trailing blanks and blank lines.
pub fn strip(source: &str) -> String {
    let mut short = String::with_capacity(source.len());
    for line in source.lines() {
        let code = without_comment(line).trim();
        if !code.is_empty() {
            short.push_str(code);
            short.push('\n');
        }
    }
    short
}

/// The line up to a `--` that is not inside a quoted string.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut previous = None;
    let mut characters = line.char_indices();
    while let Some((at, character)) = characters.next() {
        match quote {
            Some(_) if character == '\\' => {
                characters.next();
            }
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if character == '"' || character == '\'' => quote = Some(character),
            None if character == '-' && previous == Some('-') => return &line[..at - 1],
            None => {}
        }
        previous = Some(character);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_indentation_and_blank_lines_go() {
        let source = "-- head\nlocal a = ...   -- input\n\n  if a then\n    return 1 - -1\n  end\n";
        assert_eq!(
            strip(source),
            "local a = ...\nif a then\nreturn 1 - -1\nend\n"
        );
    }

    #[test]
    fn strings_stay_whole() {
        assert_eq!(strip("return \"a--b\" -- c"), "return \"a--b\"\n");
        assert_eq!(
            strip("return 'a--b' .. \"\\\"--\" -- c"),
            "return 'a--b' .. \"\\\"--\"\n"
        );
        assert_eq!(strip("return \"$recvd\""), "return \"$recvd\"\n");
    }
}
