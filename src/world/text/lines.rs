//! Computes differences of texts line by line, and the three-way merge that is based on them, with bounded work.
//!
//! The algorithm is the greedy one of E. W. Myers (*An O(ND) Difference Algorithm and Its Variations*, 1986). Its cost
//! is the number of lines times the number of edits. A jail can choose both. So a text beyond [`LINES_MAX`] or
//! [`EDITS_MAX`] gets no result, rather than a late one.
//! This module must not know files, processes, or what a result means for a jail.

use std::collections::BTreeMap;
use std::ops::Range;

/// The longest text that is compared, in lines.
pub(super) const LINES_MAX: usize = 100_000;

/// The greatest difference between texts that are compared, in lines removed and added. The search keeps the square of
/// this number in memory, 8 bytes each: 32 MiB.
pub(super) const EDITS_MAX: usize = 2_000;

/// How many lines of a difference are printed.
const PATCH_MAX: usize = 2_000;

/// Unchanged lines that are printed around a change.
const CONTEXT: usize = 3;

/// Two texts are longer or further apart than the bounds of this module allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooDifferent;

/// Lines of one text that replace lines of the other. One of the ranges may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hunk {
    old: Range<usize>,
    new: Range<usize>,
}

/// Merges line by line what two texts have made of a common base. Returns `None` if both have changed the same lines,
/// or adjacent lines, in different ways.
///
/// # Errors
/// [`TooDifferent`].
pub(super) fn merge(base: &str, ours: &str, theirs: &str) -> Result<Option<String>, TooDifferent> {
    let mut words = Words::default();
    let base = words.read(base)?;
    let sides = [words.read(ours)?, words.read(theirs)?];
    let hunks = [diff(&base, &sides[0])?, diff(&base, &sides[1])?];
    let mut ahead = [hunks[0].as_slice(), hunks[1].as_slice()];
    // How far the base is used, and how many lines more than the base each side has up to there.
    let mut at = 0;
    let mut shift = [0_isize; 2];
    let mut merged = String::new();
    while let Some(first) = ahead
        .iter()
        .filter_map(|side| side.first())
        .map(|hunk| hunk.old.start)
        .min()
    {
        merged.extend(base.lines[at..first].iter().copied());
        let mut end = first;
        let mut took = [&[][..], &[][..]];
        // Hunks that overlap or touch are one change.
        loop {
            let before = took.map(<[Hunk]>::len);
            for side in 0..2 {
                let all = &hunks[side][hunks[side].len() - ahead[side].len()..];
                let mut count = took[side].len();
                while let Some(hunk) = all.get(count).filter(|hunk| hunk.old.start <= end) {
                    end = end.max(hunk.old.end);
                    count += 1;
                }
                took[side] = &all[..count];
            }
            if took.map(<[Hunk]>::len) == before {
                break;
            }
        }
        let mut versions = [&[][..], &[][..]];
        for side in 0..2 {
            let grown: isize = took[side].iter().map(growth).sum();
            let start = first.saturating_add_signed(shift[side]);
            shift[side] += grown;
            versions[side] = &sides[side].lines[start..end.saturating_add_signed(shift[side])];
            ahead[side] = &ahead[side][took[side].len()..];
        }
        let version = match (took[0].is_empty(), took[1].is_empty()) {
            (false, true) => versions[0],
            (true, false) => versions[1],
            _ if versions[0] == versions[1] => versions[0],
            _ => return Ok(None),
        };
        merged.extend(version.iter().copied());
        at = end;
    }
    merged.extend(base.lines[at..].iter().copied());
    Ok(Some(merged))
}

fn growth(hunk: &Hunk) -> isize {
    hunk.new.len() as isize - hunk.old.len() as isize
}

/// Shows people how one text becomes another, in the unified format of diff(1), with at most [`PATCH_MAX`] lines.
///
/// # Errors
/// [`TooDifferent`].
pub(super) fn patch(old: &str, new: &str) -> Result<String, TooDifferent> {
    let mut words = Words::default();
    let (old, new) = (words.read(old)?, words.read(new)?);
    let hunks = diff(&old, &new)?;
    let mut lines = vec!["--- original".to_owned(), "+++ modified".to_owned()];
    let mut rest = hunks.as_slice();
    while let Some(first) = rest.first() {
        // Changes that are close to each other are printed together.
        let near = |pair: &[Hunk]| pair[1].old.start - pair[0].old.end <= 2 * CONTEXT;
        let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
        let (group, others) = rest.split_at(count);
        let last = group.last().unwrap_or(first);
        let start = first.old.start.saturating_sub(CONTEXT);
        let end = (last.old.end + CONTEXT).min(old.lines.len());
        let lead = first.old.start - start;
        let new_start = first.new.start - lead;
        let new_end = last.new.end + (end - last.old.end);
        lines.push(format!(
            "@@ -{} +{} @@",
            span(&(start..end)),
            span(&(new_start..new_end))
        ));
        let mut at = start;
        for hunk in group {
            lines.extend(old.lines[at..hunk.old.start].iter().map(|l| shown(' ', l)));
            lines.extend(old.lines[hunk.old.clone()].iter().map(|l| shown('-', l)));
            lines.extend(new.lines[hunk.new.clone()].iter().map(|l| shown('+', l)));
            at = hunk.old.end;
        }
        lines.extend(old.lines[at..end].iter().map(|l| shown(' ', l)));
        rest = others;
    }
    let more = lines.len().saturating_sub(PATCH_MAX);
    lines.truncate(PATCH_MAX);
    if more > 0 {
        lines.push(format!("({more} more lines)"));
    }
    Ok(lines.join("\n") + "\n")
}

/// Formats a range of lines as diff(1) does: it counts from 1, and an empty range has the number of the line before it.
fn span(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => (range.start + 1).to_string(),
        count => format!("{},{count}", range.start + 1),
    }
}

fn shown(sign: char, line: &str) -> String {
    match line.strip_suffix('\n') {
        Some(line) => format!("{sign}{line}"),
        None => format!("{sign}{line}\n\\ No newline at end of file"),
    }
}

/// A text as numbered lines: equal lines of the texts of one [`Words`] have the same number.
struct Text<'a> {
    lines: Vec<&'a str>,
    numbers: Vec<u32>,
}

#[derive(Default)]
struct Words<'a>(BTreeMap<&'a str, u32>);

impl<'a> Words<'a> {
    fn read(&mut self, text: &'a str) -> Result<Text<'a>, TooDifferent> {
        let lines: Vec<&str> = text.split_inclusive('\n').take(LINES_MAX + 1).collect();
        if lines.len() > LINES_MAX {
            return Err(TooDifferent);
        }
        let mut number = |line: &'a str| {
            let next = self.0.len() as u32;
            *self.0.entry(line).or_insert(next)
        };
        let numbers = lines.iter().map(|line| number(line)).collect();
        Ok(Text { lines, numbers })
    }
}

/// Returns the hunks that turn one text into the other, in order; no two of them touch.
fn diff(old: &Text<'_>, new: &Text<'_>) -> Result<Vec<Hunk>, TooDifferent> {
    let (a, b) = (old.numbers.as_slice(), new.numbers.as_slice());
    let same = |pair: &(&u32, &u32)| pair.0 == pair.1;
    let head = a.iter().zip(b).take_while(same).count();
    let (a, b) = (&a[head..], &b[head..]);
    let tail = a.iter().rev().zip(b.iter().rev()).take_while(same).count();
    let (a, b) = (&a[..a.len() - tail], &b[..b.len() - tail]);
    let kept = if a.is_empty() || b.is_empty() {
        Vec::new()
    } else {
        snakes(a, b)?
    };
    let mut hunks = Vec::new();
    let (mut x, mut y) = (0, 0);
    for (at, to, length) in kept.into_iter().chain([(a.len(), b.len(), 0)]) {
        if x < at || y < to {
            hunks.push(Hunk {
                old: head + x..head + at,
                new: head + y..head + to,
            });
        }
        (x, y) = (at + length, to + length);
    }
    Ok(hunks)
}

/// Returns the runs of equal lines on a shortest path from one text to the other: where each begins in both texts, and
/// its length, which is never 0.
fn snakes(a: &[u32], b: &[u32]) -> Result<Vec<(usize, usize, usize)>, TooDifferent> {
    let (n, m) = (a.len() as isize, b.len() as isize);
    let most = (a.len() + b.len()).min(EDITS_MAX) as isize;
    // How far each diagonal reaches, in lines of `a`; diagonal k is at k + most + 1.
    let mut reach = vec![0_isize; 2 * most as usize + 3];
    let index = |k: isize| (k + most + 1) as usize;
    let mut trace: Vec<Vec<isize>> = Vec::new();
    let mut found = false;
    'edits: for d in 0..=most {
        // Keep what the previous step has reached, for the way back.
        trace.push(reach[index(-d)..=index(d)].to_vec());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || (k != d && reach[index(k - 1)] < reach[index(k + 1)]);
            let mut x = if down {
                reach[index(k + 1)]
            } else {
                reach[index(k - 1)] + 1
            };
            while x < n && x - k < m && x >= k && a[x as usize] == b[(x - k) as usize] {
                x += 1;
            }
            reach[index(k)] = x;
            if x >= n && x - k >= m {
                found = true;
                break 'edits;
            }
        }
    }
    if !found {
        return Err(TooDifferent);
    }
    let mut runs = Vec::new();
    let (mut x, mut y) = (n, m);
    for d in (0..trace.len() as isize).rev() {
        let k = x - y;
        // `before[i]` is the diagonal i - d.
        let before = &trace[d as usize];
        let at = |k: isize| before[(k + d) as usize];
        let (start, from) = if d == 0 {
            (0, (0, 0))
        } else if k == -d || (k != d && at(k - 1) < at(k + 1)) {
            (at(k + 1), (at(k + 1), at(k + 1) - (k + 1)))
        } else {
            (at(k - 1) + 1, (at(k - 1), at(k - 1) - (k - 1)))
        };
        if x > start {
            let length = x - start;
            runs.push((start as usize, (start - k) as usize, length as usize));
        }
        (x, y) = from;
    }
    runs.reverse();
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(old: &str, new: &str) -> String {
        let mut words = Words::default();
        let (old, new) = (
            words.read(old).expect("short"),
            words.read(new).expect("short"),
        );
        let mut text = String::new();
        let mut at = 0;
        let mut last: Option<Hunk> = None;
        for hunk in diff(&old, &new).expect("near") {
            assert!(!hunk.old.is_empty() || !hunk.new.is_empty());
            if let Some(last) = last {
                assert!(last.old.end < hunk.old.start && last.new.end < hunk.new.start);
            }
            text.extend(old.lines[at..hunk.old.start].iter().copied());
            text.extend(new.lines[hunk.new.clone()].iter().copied());
            at = hunk.old.end;
            last = Some(hunk);
        }
        text.extend(old.lines[at..].iter().copied());
        text
    }

    #[test]
    fn changes_in_different_lines_are_merged() {
        let base = "a\nb\nc\nd\ne\n";
        for (ours, theirs, merged) in [
            (
                "A\nb\nc\nd\ne\n",
                "a\nb\nC\nd\ne\n",
                Some("A\nb\nC\nd\ne\n"),
            ),
            (
                "a\nc\nd\ne\n",
                "a\nb\nc\nd\ne\nf\n",
                Some("a\nc\nd\ne\nf\n"),
            ),
            (
                "x\na\nb\nc\nd\ne\n",
                "a\nb\nc\nD\n",
                Some("x\na\nb\nc\nD\n"),
            ),
            (
                "a\nX\nc\nd\ne\n",
                "a\nX\nc\nD\ne\n",
                Some("a\nX\nc\nD\ne\n"),
            ),
            ("", "", Some("")),
            ("a\nB\nc\nd\ne\n", "a\nbb\nc\nd\ne\n", None),
            // Adjacent changes: the merge cannot know whether they belong together.
            ("a\nB\nc\nd\ne\n", "a\nb\nC\nd\ne\n", None),
            ("a\nx\nb\nc\nd\ne\n", "a\ny\nb\nc\nd\ne\n", None),
            ("", "a\nb\nC\nd\ne\n", None),
        ] {
            assert_eq!(merge(base, ours, theirs), Ok(merged.map(str::to_owned)));
            assert_eq!(merge(base, theirs, ours), Ok(merged.map(str::to_owned)));
        }
        // A missing newline at the end of the last line is a change, too.
        assert_eq!(merge("a\nb", "a\nb\n", "a\nb\nc"), Ok(None));
        assert_eq!(
            merge("a\nb", "a\nb\n", "x\na\nb"),
            Ok(Some("x\na\nb\n".to_owned()))
        );
    }

    #[test]
    fn a_patch_is_read_by_people() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";
        let new = "1\n2\n3\nfour\n5\n6\n7\n8\n9\n10\n11\ntwelve";
        assert_eq!(
            patch(old, new).as_deref(),
            Ok(
                "--- original\n+++ modified\n@@ -1,7 +1,7 @@\n 1\n 2\n 3\n-4\n+four\n 5\n 6\n 7\n@@ -9,4 +9,4 @@\n 9\n 10\n 11\n-12\n+twelve\n\\ No newline at end of file\n"
            )
        );
        assert_eq!(
            patch("", "a\n").as_deref(),
            Ok("--- original\n+++ modified\n@@ -0,0 +1 @@\n+a\n")
        );
        let long: String = (0..5000).map(|n| format!("{n}\n")).collect();
        let text = patch("", &long).expect("one hunk");
        assert!(text.ends_with("more lines)\n"));
        assert!(text.lines().count() <= PATCH_MAX + 1);
    }

    #[test]
    fn what_is_beyond_the_bounds_has_no_result() {
        let mut seed = 88_172_645_463_325_252_u64;
        let mut random = |letters: u64, lines: usize| -> String {
            let line = |_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                format!("{:x}\n", seed % letters)
            };
            (0..lines).map(line).collect()
        };
        let short = random(1000, 10);
        // 520 000 short lines in a mebibyte, and 90 000 that are within the bound of lines.
        for long in [random(16, 520_000), random(16, 90_000)] {
            let other = random(16, 90_000);
            assert_eq!(merge(&short, &long, &other), Err(TooDifferent));
            assert_eq!(patch(&long, &other), Err(TooDifferent));
        }
        // A long text with few edits is accepted.
        let long = random(1_000_000, 90_000);
        let ours = format!("{long}ours\n");
        let theirs = format!("theirs\n{long}");
        assert_eq!(
            merge(&long, &ours, &theirs),
            Ok(Some(format!("theirs\n{long}ours\n")))
        );
        // One letter: every diagonal runs to its end.
        let letters = "a\n".repeat(90_000);
        let framed = |count| format!("x\n{}y\n", "a\n".repeat(count));
        assert_eq!(
            merge(&letters, &framed(80_000), &letters),
            Err(TooDifferent)
        );
        let near = framed(89_500);
        assert_eq!(merge(&letters, &near, &letters), Ok(Some(near.clone())));
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(0..6_u8, 0..20).prop_map(|lines| {
            let line = |n: u8| {
                if n == 5 {
                    "end".to_owned()
                } else {
                    format!("{n}\n")
                }
            };
            lines.into_iter().map(line).collect()
        })
    }

    proptest! {
        #[test]
        fn a_difference_makes_the_other_text(old in text(), new in text()) {
            prop_assert_eq!(apply(&old, &new), new);
        }

        #[test]
        fn the_edits_are_as_few_as_can_be(old in text(), new in text()) {
            let mut words = Words::default();
            let (a, b) = (words.read(&old).expect("short"), words.read(&new).expect("short"));
            let hunks = diff(&a, &b).expect("near");
            let edits: usize = hunks.iter().map(|h| h.old.len() + h.new.len()).sum();
            // The longest common subsequence, by the table.
            let mut table = vec![vec![0; b.numbers.len() + 1]; a.numbers.len() + 1];
            for (i, x) in a.numbers.iter().enumerate() {
                for (j, y) in b.numbers.iter().enumerate() {
                    table[i + 1][j + 1] = if x == y { table[i][j] + 1 } else { table[i][j + 1].max(table[i + 1][j]) };
                }
            }
            let common = table[a.numbers.len()][b.numbers.len()];
            prop_assert_eq!(edits, a.numbers.len() + b.numbers.len() - 2 * common);
        }

        #[test]
        fn a_side_that_did_nothing_does_not_count(base in text(), other in text()) {
            prop_assert_eq!(merge(&base, &base, &other), Ok(Some(other.clone())));
            prop_assert_eq!(merge(&base, &other, &base), Ok(Some(other.clone())));
            prop_assert_eq!(merge(&base, &other, &other), Ok(Some(other)));
        }

        #[test]
        fn the_sides_are_equal(base in text(), ours in text(), theirs in text()) {
            prop_assert_eq!(merge(&base, &ours, &theirs), merge(&base, &theirs, &ours));
        }
    }
}
