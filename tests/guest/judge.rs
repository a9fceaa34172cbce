//! The work in a guest around an interrupted command: prepare the pool, measure the command, run it until it is
//! interrupted, and judge what it left.

use std::fs;
use std::time::{Duration, Instant};

use crate::inspect;
use crate::scenario::Scenario;
use crate::sys::{Failure, out, run_ezz, said, say, sh};

const SITE: &str = "tank/ezz";

/// The facts about the time before the interruption.
#[derive(Debug)]
pub struct Before {
    /// The epoch before the command; 0 if there was no site.
    pub epoch: u64,
    pub seed: u64,
    /// Whether the command had reported success.
    pub acknowledged: bool,
    pub how: How,
}

/// The kind of interruption. A full judgement costs seconds, and there are many interruptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The power was cut: the pool is scrubbed, and the whole site is inspected twice.
    Cut,
    /// ezz was killed; the next round repeats the same command.
    Kill,
}

/// Creates the state of the pool that the scenario begins with, and records the epoch.
pub fn set_up(scenario: &Scenario) -> Result<Vec<String>, Failure> {
    fs::create_dir_all(out())?;
    sh(&scenario.prepares())?;
    let epoch = inspect::epoch(SITE).unwrap_or(0);
    fs::write(out().join("epoch"), epoch.to_string())?;
    sh("cd /; zpool sync tank; zpool export tank")?;
    Ok(Vec::new())
}

/// Runs the command undisturbed, measures how long it takes, and checks the result.
pub fn measure(scenario: &Scenario) -> Result<Vec<String>, Failure> {
    sh(scenario.boot)?;
    let ended = run_ezz(&scenario.line())?;
    if ended.code != scenario.codes.first().copied() {
        return Err(Failure(format!("{}: {ended:?}", scenario.command)));
    }
    fs::write(out().join("took"), ended.took.as_millis().to_string())?;
    let mut wrong = (scenario.end)(1);
    wrong.extend(scenario.are_up());
    wrong.extend(inspect::site(SITE));
    Ok(wrong)
}

/// Runs the command; the power is to be cut before this function returns.
pub fn run_until_cut(scenario: &Scenario) -> Result<Vec<String>, Failure> {
    sh(scenario.boot)?;
    fs::write(out().join("begun"), "")?;
    let ended = run_ezz(&scenario.line())?;
    let done = ended.code == scenario.codes.first().copied();
    fs::write(out().join("ended"), if done { "done" } else { "failed" })?;
    say(&format!("{}: {ended:?}", scenario.command));
    std::thread::sleep(Duration::from_secs(120));
    Err(Failure("the power was not cut".to_owned()))
}

/// Judges what an interruption left, and returns the violations.
pub fn judge(scenario: &Scenario, was: &Before) -> Result<Vec<String>, Failure> {
    let begun = Instant::now();
    let mut wrong = Vec::new();
    if was.how == How::Cut {
        pool(&mut wrong)?;
    }
    // Before an `init` there is no site; before an adoption there is none with an epoch of its own.
    let is_site = epoch(was.epoch, &mut wrong);
    if is_site && was.how == How::Cut {
        wrong.extend(inspect::at_any_moment(SITE));
    }
    wrong.extend((scenario.atomic)());
    // The next command is the repair or, for some seeds, the same command again.
    let repairs = is_site && (was.seed % 2 == 0 || was.how == How::Cut && was.seed % 4 != 1);
    if repairs {
        repair(&mut wrong)?;
        wrong.extend(inspect::site(SITE));
    }
    let finished = (scenario.end)(1);
    if was.acknowledged && scenario.durable && repairs && !finished.is_empty() {
        wrong.push(format!("it had said that it was done: {finished:?}"));
    }
    let again = run_ezz(&scenario.line())?;
    let refused = !scenario.already.is_empty()
        && again.code == Some(1)
        && again.stderr.contains(scenario.already)
        && finished.is_empty();
    if !scenario.ends_so(again.code) && !refused {
        let line = scenario.command;
        wrong.push(format!("{line} again: {again:?}, before: {finished:?}"));
    }
    if !repairs && refused || scenario.name == "adopt" {
        // A refused command restores nothing; an adoption leaves the mounts to the repair, and reports that.
        repair(&mut wrong)?;
    }
    if was.how == How::Cut && !scenario.after_boot.is_empty() {
        let started = run_ezz(scenario.after_boot)?;
        // A jail that a conflict keeps at its generation makes the exit code 3.
        if !matches!(started.code, Some(0 | 3)) {
            wrong.push(format!("{}: {started:?}", scenario.after_boot));
        }
    }
    let times = if finished.is_empty() { 2 } else { 1 };
    wrong.extend((scenario.end)(times));
    wrong.extend(scenario.are_up());
    // Findings such as foreign snapshots are reported, but do not make `doctor` fail.
    if was.how == How::Cut && !run_ezz("doctor")?.ok() {
        wrong.push(format!("doctor: {}", said().trim_end()));
    }
    if was.how == How::Cut || !repairs {
        wrong.extend(inspect::site(SITE));
        epoch(was.epoch, &mut wrong);
    }
    say(&format!("judged in {} ms", begun.elapsed().as_millis()));
    Ok(wrong)
}

/// Checks every block of the pool.
fn pool(wrong: &mut Vec<String>) -> Result<(), Failure> {
    let status = sh("zpool scrub -w tank; zpool status -v tank")?;
    if !status.contains("errors: No known data errors") || !status.contains("with 0 errors") {
        wrong.push(format!("after a scrub: {status}"));
    }
    Ok(())
}

fn repair(wrong: &mut Vec<String>) -> Result<(), Failure> {
    let ended = run_ezz("doctor --repair")?;
    // The repair does not decide whether a jail that a move has left down is to run.
    let said = said();
    let mut bad = said.lines().filter(|line| {
        ["broken ", "debris ", "bad "]
            .iter()
            .any(|word| line.starts_with(word))
    });
    let named = ended.code == Some(1) && bad.all(|line| line.contains("it was not started again"));
    if !ended.ok() && !named {
        wrong.push(format!("doctor --repair: {ended:?}: {}", said.trim_end()));
    }
    Ok(())
}

/// Checks that the epoch is not smaller than before; returns whether there is a site with an epoch of its own.
fn epoch(before: u64, wrong: &mut Vec<String>) -> bool {
    let now = inspect::epoch(SITE);
    if now.is_some_and(|now| now < before) {
        wrong.push(format!("the epoch is {now:?}, and was {before}"));
    }
    now.is_some()
}
