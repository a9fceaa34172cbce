//! Three versions of a text, separated by NULs: a merge never panics, and if one side changed nothing, the result is
//! the other side. The bytes are also read as an answer of the merging process.

use ezz::world::text::{Answer, By, Request, answer, frames};

/// Returns the merged text; none for a conflict, and for texts that exceed the bounds.
fn texts(base: &str, ours: &str, theirs: &str, by: By) -> Option<String> {
    let merge = Request::Merge {
        by,
        base,
        ours,
        theirs,
    };
    let asked = frames::request(&merge);
    if asked.len() < 1 << 20 {
        let read = frames::read_request(&mut asked.as_slice()).expect("it was written");
        assert_eq!(read.expect("it is there").request().expect("known"), merge);
    }
    match answer(&merge) {
        Answer::Text(text) => Some(text),
        Answer::Conflict | Answer::TooDifferent | Answer::NoAnswer => None,
    }
}

/// Checks data that consists of a way to merge and three texts.
pub fn check(data: &[u8]) {
    // Any bytes are an answer, an incomplete answer, or refused.
    let _ = frames::answer(data);
    let Some((by, rest)) = data.split_first() else {
        return;
    };
    let by = match by % 3 {
        0 => By::Line,
        1 => By::Name,
        _ => By::Account,
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let mut parts = text.splitn(3, '\0');
    let (Some(base), Some(ours), Some(theirs)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    let same = |merged: Option<String>, text: &str| {
        // Lists of names always end with a complete line.
        if let Some(merged) = merged {
            let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
            if by == By::Line {
                assert_eq!(merged, text);
            } else {
                let (mut is, mut was) = (lines(&merged), lines(text));
                is.sort();
                is.dedup();
                was.sort();
                was.dedup();
                assert_eq!(is, was);
            }
        }
    };
    // Patches are read by people: making one only has to end.
    let _ = answer(&Request::Patch {
        old: base,
        new: ours,
    });
    same(texts(base, base, theirs, by), theirs);
    same(texts(base, ours, base, by), ours);
    same(texts(base, ours, ours, by), ours);
    if let (By::Name | By::Account, Some(merged)) = (by, texts(base, ours, theirs, by)) {
        // Everything that one side has and the base does not have is in the result.
        for side in [ours, theirs] {
            let other = if side == ours { theirs } else { ours };
            for line in side.lines().filter(|line| !line.is_empty()) {
                let name = line.split(':').next().unwrap_or(line);
                let named = |text: &str| text.lines().any(|l| l.split(':').next() == Some(name));
                if !named(base) && !named(other) {
                    assert!(merged.lines().any(|l| l == line), "{line} is lost");
                }
            }
        }
    }
}
