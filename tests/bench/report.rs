//! The result: one JSON file, tables in Markdown, and plots.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::jails::COUNTS;
use crate::{Failure, Measured, plot, say};

/// Writes the result into a directory, given the measurements of each boot.
pub fn write(out: &Path, files: &[&str]) -> Result<(), Failure> {
    let mut all: Vec<Measured> = Vec::new();
    for file in files {
        all.push(serde_json::from_str(&fs::read_to_string(file)?)?);
    }
    if all.is_empty() {
        return Err(Failure("nothing was measured".to_owned()));
    }
    fs::create_dir_all(out)?;
    fs::write(out.join("bench.json"), serde_json::to_string_pretty(&all)?)?;
    let text = format!("{}\n{}\n{}", goals(&all), creation(&all), rest(&all));
    fs::write(out.join("bench.md"), &text)?;
    for measured in &all {
        plot::creation(&out.join(format!("create-{}.svg", measured.zfs)), measured)?;
    }
    say(&text);
    Ok(())
}

/// Computes a number from the measurements of a boot.
type Value = fn(&Measured) -> Option<f64>;

/// A goal: its words, its bound, and whether a value reaches it.
struct Goal {
    what: &'static str,
    goal: &'static str,
    good: fn(f64) -> bool,
    value: Value,
    digits: usize,
}

fn ratio(measured: &Measured, of: &str, by: &str) -> Option<f64> {
    Some(measured.median(of)? / measured.median(by)?)
}

/// Returns the greatest number of jails on the site.
fn most(measured: &Measured) -> Option<usize> {
    let names = measured.samples.keys();
    let counts = names.filter_map(|name| name.strip_prefix("list of ")?.strip_suffix(": zfs get"));
    counts.filter_map(|count| count.parse().ok()).max()
}

const GOALS: [Goal; 14] = [
    Goal {
        what: "1000 jails, created, per jail, against a `zfs clone` loop: times faster",
        goal: "≥ 100",
        good: |it| it >= 100.0,
        value: |m| ratio(m, "create 1000: loop", "create 1000: ezz, created"),
        digits: 1,
    },
    Goal {
        what: "the same for the bare program: as fast as it can be",
        goal: "",
        good: |_| true,
        value: |m| ratio(m, "create 1000: loop", "create 1000: program"),
        digits: 1,
    },
    Goal {
        what: "the same for the whole command: created, mounted, configured",
        goal: "",
        good: |_| true,
        value: |m| ratio(m, "create 1000: loop", "create 1000: ezz"),
        digits: 1,
    },
    Goal {
        what: "1000 jails, created, against a bare channel program",
        goal: "≤ 1.3",
        good: |it| it <= 1.3,
        value: |m| ratio(m, "create 1000: ezz, created", "create 1000: program"),
        digits: 2,
    },
    Goal {
        what: "1000 jails, created, against parallel lzc_clone and one program (before 2.4)",
        goal: "≤ 1.3",
        good: |it| it <= 1.3,
        value: |m| match m.median("create 1000: program") {
            Some(_) => None,
            None => ratio(m, "create 1000: ezz, created", "create 1000: raw"),
        },
        digits: 2,
    },
    Goal {
        what: "one jail, `ezz create`, against one `zfs clone`, empty site",
        goal: "≤ 2.5",
        good: |it| it <= 2.5,
        value: |m| {
            ratio(
                m,
                "one more with 0: ezz create",
                "one more with 0: zfs clone",
            )
        },
        digits: 2,
    },
    Goal {
        what: "the same on the largest site",
        goal: "< 1",
        good: |it| it < 1.0,
        value: |m| {
            let most = most(m)?;
            let (ezz, zfs) = (
                format!("one more with {most}: ezz create"),
                format!("one more with {most}: zfs clone"),
            );
            ratio(m, &ezz, &zfs)
        },
        digits: 2,
    },
    Goal {
        what: "one jail on the largest site against one on an empty site",
        goal: "≤ 2",
        good: |it| it <= 2.0,
        value: |m| {
            let there = format!("one more with {}: ezz create", most(m)?);
            ratio(m, &there, "one more with 0: ezz create")
        },
        digits: 2,
    },
    Goal {
        what: "transactions for 1000 jails",
        goal: "1 (2.4)",
        good: |it| it <= 2.0,
        value: |m| m.median("commits for 1000 jails"),
        digits: 0,
    },
    Goal {
        what: "install of a .tar.xz, digest included, against `xz -T0 -dc \\| tar x`",
        goal: "≤ 1.2",
        good: |it| it <= 1.2,
        value: |m| ratio(m, "install: ezz, with its digest", "install: xz | tar"),
        digits: 2,
    },
    Goal {
        what: "KiB on disk of a new jail",
        goal: "≤ 64",
        good: |it| it <= 64.0,
        value: |m| Some(m.median("bytes of a new jail")? / 1024.0),
        digits: 0,
    },
    Goal {
        what: "files of a new jail that were copied",
        goal: "0",
        good: |it| it == 0.0,
        value: |m| m.median("inodes of a new jail that are not shared"),
        digits: 0,
    },
    Goal {
        what: "`ezz list` of the largest site against one `zfs get -Hp` of the same properties",
        goal: "≤ 1.5",
        good: |it| it <= 1.5,
        value: |m| {
            let most = most(m)?;
            ratio(
                m,
                &format!("list of {most}: ezz list"),
                &format!("list of {most}: zfs get"),
            )
        },
        digits: 2,
    },
    Goal {
        what: "most memory of list, show, doctor and create on the largest site, MiB",
        goal: "≤ 200",
        good: |it| it <= 200.0,
        value: |m| {
            let prefix = format!("memory with {}, KiB: ", most(m)?);
            let all = m.samples.keys().filter(|name| name.starts_with(&prefix));
            let peaks = all.filter_map(|name| m.median(name));
            Some(peaks.fold(0.0, f64::max) / 1024.0)
        },
        digits: 0,
    },
];

fn head(all: &[Measured], first: &str) -> String {
    let names: Vec<&str> = all.iter().map(|m| m.zfs.as_str()).collect();
    let line = "|---".repeat(names.len());
    format!("| {first} | {} |\n|---{line}|\n", names.join(" | "))
}

fn goals(all: &[Measured]) -> String {
    let mut text = head(all, "ratios and sizes | goal").replacen("|---|", "|---|---|", 1);
    for goal in &GOALS {
        let _ = write!(text, "| {} | {} |", goal.what, goal.goal);
        for measured in all {
            match (goal.value)(measured) {
                None => text += " – |",
                Some(value) => {
                    let miss = if (goal.good)(value) { "" } else { " (missed)" };
                    let _ = write!(text, " {value:.*}{miss} |", goal.digits);
                }
            }
        }
        text.push('\n');
    }
    text
}

/// Returns the median of samples with their spread.
fn shown(measured: &Measured, name: &str) -> String {
    match (measured.median(name), measured.spread(name)) {
        (Some(middle), Some((least, most))) if least < most => {
            format!("{middle:.0} ({least:.0}–{most:.0})")
        }
        (Some(middle), _) => format!("{middle:.0}"),
        (None, _) => "–".to_owned(),
    }
}

fn creation(all: &[Measured]) -> String {
    let mut text = head(all, "milliseconds for so many jails: median (least–most)");
    for count in COUNTS {
        let prefix = format!("create {count}: ");
        let mut names: Vec<&String> = all.iter().flat_map(|m| m.samples.keys()).collect();
        names.retain(|name| name.starts_with(&prefix));
        names.sort();
        names.dedup();
        for name in names {
            let cells: Vec<String> = all.iter().map(|m| shown(m, name)).collect();
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        }
    }
    text
}

fn rest(all: &[Measured]) -> String {
    let mut text = head(all, "all else: milliseconds unless said otherwise");
    let mut names: Vec<&String> = all.iter().flat_map(|m| m.samples.keys()).collect();
    names.retain(|name| !name.starts_with("create "));
    names.sort();
    names.dedup();
    for name in names {
        let cells: Vec<String> = all.iter().map(|m| shown(m, name)).collect();
        let _ = writeln!(
            text,
            "| {} | {} |",
            name.replace('|', "\\|"),
            cells.join(" | ")
        );
    }
    text
}
