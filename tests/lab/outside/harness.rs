//! Runs one scenario: it prepares an image and measures the command; each cut has a copy of the image and a judgement.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::{EZZ, Ended, number, variable};

/// The program that runs in the guest.
const GUEST: &str = env!("CARGO_BIN_EXE_lab-guest");

/// The range of moments as a multiple of the command's length: a part of the cuts comes after its end.
const BEYOND: f64 = 1.1;

/// The size of an image for a made-up world; the golden one has its own.
const SIZE: u64 = 2 << 30;

/// Runs the lab with the directory that the guest may write.
pub fn lab(out: &Path, args: &[&str]) -> Ended {
    let lab = variable("EZZ_LAB").expect("the lab's runner says where the lab is");
    #[expect(clippy::disallowed_methods, reason = "the lab is a program of its own")]
    let output = Command::new(lab)
        .args(args)
        .env("EZZ_LAB_OUT", out)
        .env("EZZ_BIN", EZZ)
        .stdin(Stdio::null())
        .output()
        .expect("the lab can be started");
    Ended::of(args.join(" "), output)
}

/// Returns the names that the guest's program knows.
pub fn scenarios() -> Vec<String> {
    #[expect(clippy::disallowed_methods, reason = "it is not ezz's to start it")]
    let output = Command::new(GUEST).arg("list").output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

/// A directory that is removed afterwards, because images are large.
pub struct Work(pub PathBuf);

impl Work {
    pub fn new(name: &str) -> Self {
        let at = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("cuts-{name}-{}", std::process::id()));
        fs::create_dir_all(at.join("out")).expect("a directory can be made");
        Work(at)
    }

    pub fn out(&self) -> PathBuf {
        self.0.join("out")
    }

    /// Returns a file that the guest wrote, if it got that far.
    fn told(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.out().join(name)).ok()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "nothing is mounted there")]
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    #[expect(clippy::disallowed_methods, reason = "std's copy fills the holes")]
    let status = Command::new("cp")
        .args(["--reflink=auto", "--sparse=always"])
        .args([from, to])
        .status()
        .expect("cp can be started");
    assert!(status.success(), "cp of {}", from.display());
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Returns the moment that a seed stands for, in a command of this length (splitmix64).
fn moment(seed: u64, took: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let part = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    (part * BEYOND * took as f64) as u64
}

/// The image that every cut starts with, the epoch on it, and the length of the command.
struct Prepared {
    image: PathBuf,
    epoch: String,
    took: u64,
}

fn prepare(name: &str, work: &Work) -> Prepared {
    let image = work.0.join("image");
    // A scenario that runs a jail needs a world with programs.
    let golden = matches!(name, "start" | "stop" | "delete-running");
    if golden {
        let found = lab(&work.out(), &["golden", "site"]).ok();
        copy(Path::new(found.stdout.trim_end()), &image);
    } else {
        let file = fs::File::create(&image).expect("an image can be made");
        file.set_len(SIZE).expect("it can be as large as that");
    }
    let pool = if golden { "import" } else { "disk" };
    let disk = text(&image);
    lab(
        &work.out(),
        &[
            "run", "--disk", disk, "--pool", pool, "--", GUEST, "setup", name,
        ],
    )
    .ok();
    let once = work.0.join("once");
    copy(&image, &once);
    let disk = text(&once);
    lab(
        &work.out(),
        &[
            "run", "--disk", disk, "--pool", "import", "--", GUEST, "measure", name,
        ],
    )
    .ok();
    fs::remove_file(&once).expect("a file can be removed");
    let told = |what| {
        work.told(what)
            .unwrap_or_else(|| panic!("the guest wrote no {what}"))
    };
    Prepared {
        epoch: told("epoch"),
        took: told("took").parse().expect("a number"),
        image,
    }
}

/// Cuts a scenario as often as requested; reports all violations at the end.
pub fn cuts(name: &str, default: u64) {
    let count = number("EZZ_CUTS").unwrap_or(default);
    let first = number("EZZ_CUT_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| now.as_micros() as u64)
    });
    let series = variable("EZZ_LAB_ZFS").unwrap_or_else(|| "2.4".to_owned());
    let records = variable("EZZ_SOAK").map(|at| PathBuf::from(at).join(series).join(name));
    if let Some(records) = &records {
        fs::create_dir_all(records).expect("a directory can be made");
    }
    let left: Vec<u64> = (0..count)
        .map(|n| first.wrapping_add(n))
        .filter(|seed| {
            !records
                .as_ref()
                .is_some_and(|at| at.join(seed.to_string()).exists())
        })
        .collect();
    if left.is_empty() {
        return;
    }
    let work = Work::new(name);
    let prepared = prepare(name, &work);
    let mut wrong = String::new();
    for seed in left {
        let begun = Instant::now();
        let after = number("EZZ_CUT_AFTER").unwrap_or_else(|| moment(seed, prepared.took));
        let (verdict, acknowledged) = cut(name, &work, &prepared, seed, after);
        let told = if verdict.is_empty() {
            "held".to_owned()
        } else {
            verdict
        };
        let line = format!(
            "{name}\tseed {seed}\tcut after {after} of {} ms\t{}\t{} s\t{told}",
            prepared.took,
            if acknowledged {
                "done"
            } else {
                "in the middle"
            },
            begun.elapsed().as_secs(),
        );
        say(&line);
        if let Some(records) = &records {
            record(&records.join(seed.to_string()), &line);
        }
        if told != "held" {
            let _ = writeln!(wrong, "{line}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[expect(clippy::print_stdout, reason = "nextest shows it when a test fails")]
fn say(line: &str) {
    println!("{line}");
}

/// Writes a record in one step: a soak may be stopped at any moment.
fn record(at: &Path, line: &str) {
    let temporary = at.with_extension("new");
    fs::write(&temporary, format!("{line}\n")).expect("a record can be written");
    fs::rename(&temporary, at).expect("a record can be renamed");
}

/// Makes one cut and judges it; returns the violations, and whether the command had ended with success.
fn cut(name: &str, work: &Work, prepared: &Prepared, seed: u64, after: u64) -> (String, bool) {
    let disk = work.0.join("disk");
    copy(&prepared.image, &disk);
    for stale in ["begun", "ended"] {
        let _ = fs::remove_file(work.out().join(stale));
    }
    let begun = work.out().join("begun");
    let (image, mark, millis) = (text(&disk), text(&begun), after.to_string());
    let options = [
        "cut", "--disk", image, "--pool", "import", "--mark", mark, "--after", &millis,
    ];
    let ended = lab(
        &work.out(),
        &[&options[..], &["--", GUEST, "run", name]].concat(),
    );
    if ended.code != 0 || !begun.exists() {
        return (format!("the plug could not be pulled: {ended:#?}"), false);
    }
    let acknowledged = work.told("ended").is_some_and(|told| told == "done");
    let flag = if acknowledged { "1" } else { "0" };
    let seed = seed.to_string();
    let options = [
        "run",
        "--disk",
        image,
        "--pool",
        "import",
        "--timeout",
        "180",
        "--",
    ];
    let words = [GUEST, "judge", name, &prepared.epoch, &seed, flag];
    let judged = lab(&work.out(), &[&options[..], &words[..]].concat());
    // Its memory file and the disk's lock disappear with the last process of the killed kernel.
    std::thread::sleep(Duration::from_millis(1));
    let verdict = match judged.code {
        0 => String::new(),
        1 => judged.stdout.replace('\n', " | "),
        _ => format!("{judged:#?}"),
    };
    (verdict, acknowledged)
}
