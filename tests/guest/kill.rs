//! Kills ezz alone, many times in one boot: the kernel, the mounts and the jails continue.

use std::iter;
use std::time::{Duration, Instant};

use crate::inspect;
use crate::judge::{Before, How, judge};
use crate::scenario::Scenario;
use crate::sys::{Failure, Random, ended, ezz, run_ezz, say, sh};

const SITE: &str = "tank/ezz";

/// More steps than any command has: a command that never ends is a fault of the test.
const MOST_STEPS: u64 = 400;

/// Kills the command `count` times, at moments that the seed determines.
pub fn at_random_moments(
    scenario: &Scenario,
    count: u64,
    seed: u64,
) -> Result<Vec<String>, Failure> {
    prepare(scenario)?;
    let whole = run_ezz(&scenario.line())?;
    if !whole.ok() {
        return Err(Failure(format!("{}: {whole:?}", scenario.command)));
    }
    let most = whole.took.as_millis() as u64 * 11 / 10;
    let mut wrong = Vec::new();
    for round in 0..count {
        let seed = seed.wrapping_add(round);
        let moment = Random(seed).below(most + 1);
        reset(scenario)?;
        let epoch = inspect::epoch(SITE).unwrap_or(0);
        let since = Instant::now();
        let mut child = ezz(&scenario.line(), &[])?;
        std::thread::sleep(Duration::from_millis(moment));
        child.kill()?;
        let killed = ended(child, since)?;
        verdict(
            scenario,
            seed,
            epoch,
            killed.ok(),
            &format!("{moment} ms"),
            &mut wrong,
        )?;
    }
    Ok(wrong)
}

/// Kills the command before its first step, then before its second, and so on, until it ends by itself. With
/// `EZZ_KILL_EVERY=N` it is killed before the first step, and then before every N-th; which steps these are depends on
/// the version of OpenZFS.
pub fn at_each_step(scenario: &Scenario) -> Result<Vec<String>, Failure> {
    prepare(scenario)?;
    let mut wrong = Vec::new();
    let every = std::env::var("EZZ_KILL_EVERY").map_or(Ok(1), |text| text.parse());
    let every: usize = every.map_err(|error| Failure(format!("EZZ_KILL_EVERY: {error}")))?;
    let odd = sh("cat /sys/module/zfs/version")?.starts_with("2.3");
    // The first step is included with each kernel: some commands have only three steps.
    let second = 1 + (if odd { every.div_ceil(2) } else { every }) as u64;
    for step in iter::once(1).chain((second..MOST_STEPS).step_by(every)) {
        let epoch = inspect::epoch(SITE).unwrap_or(0);
        let die = [("EZZ_DIE_BEFORE_STEP", step.to_string())];
        let since = Instant::now();
        let killed = ended(ezz(&scenario.line(), &die)?, since)?;
        let done = scenario.ends_so(killed.code);
        if killed.code.is_some() && !done {
            return Err(Failure(format!("{}: {killed:?}", scenario.command)));
        }
        verdict(
            scenario,
            step,
            epoch,
            done,
            &format!("step {step}"),
            &mut wrong,
        )?;
        if done {
            say(&format!("less than {step} steps"));
            if step == 1 {
                wrong.push("it was never killed: is this a debug build?".to_owned());
            }
            return Ok(wrong);
        }
        reset(scenario)?;
    }
    Err(Failure(format!("it has more than {MOST_STEPS} steps")))
}

fn prepare(scenario: &Scenario) -> Result<(), Failure> {
    std::fs::create_dir_all(crate::sys::out())?;
    sh(&scenario.prepares())?;
    sh(scenario.boot)?;
    Ok(())
}

fn reset(scenario: &Scenario) -> Result<(), Failure> {
    sh(scenario.reset)?;
    sh(scenario.boot)?;
    Ok(())
}

fn verdict(
    scenario: &Scenario,
    seed: u64,
    epoch: u64,
    acknowledged: bool,
    when: &str,
    wrong: &mut Vec<String>,
) -> Result<(), Failure> {
    // The kernel's work for a killed process ends with its transaction group.
    sh("zpool sync tank")?;
    let was = Before {
        epoch,
        seed,
        acknowledged,
        how: How::Kill,
    };
    say(&format!("killed at {when}, seed {seed}"));
    for what in judge(scenario, &was)? {
        wrong.push(format!("killed at {when}, seed {seed}: {what}"));
    }
    Ok(())
}
