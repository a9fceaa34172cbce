//! Shortens Lua source before it is sent, because the kernel writes every program to the pool's history.
//!
//! It removes only line comments, indentation and blank lines. It knows quoted strings, but not long brackets (`[[`,
//! `--[[`): the programs of ezz do not use them, which a test checks.

/// Returns the source without line comments, indentation, trailing blanks and blank lines.
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

/// Returns the line up to a `--` that is not inside a quoted string.
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
