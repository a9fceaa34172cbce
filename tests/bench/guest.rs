//! The part that runs in the guest: the rounds, and the timing.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{Failure, Measured, jails, memory, say, scale, worlds};

/// The site of the golden image.
pub const SITE: &str = "tank/ezz";
/// The snapshot that thin jails are cloned from.
pub const ORIGIN: &str = "tank/ezz/newjail/1@1";
/// The dataset for the jails of the ways without ezz.
pub const PEER: &str = "tank/peer";

/// Measures everything, and writes the result where the host finds it.
pub fn measure(world: &str, rounds: &str, most: &str) -> Result<(), Failure> {
    let rounds: usize = rounds.parse()?;
    let most: usize = most.parse()?;
    let mut measured = Measured {
        zfs: sh("cat /sys/module/zfs/version")?.trim().to_owned(),
        rounds,
        ..Measured::default()
    };
    for round in 1..=rounds {
        say(&format!("round {round} of {rounds}"));
        jails::round(&mut measured, round)?;
        worlds::round(&mut measured, world)?;
    }
    say("disk and memory");
    memory::measure(&mut measured)?;
    say("scale");
    scale::measure(&mut measured, most, rounds)?;
    let out = std::env::var_os("EZZ_LAB_OUT").map_or_else(|| "/tmp".into(), PathBuf::from);
    std::fs::write(out.join("bench.json"), serde_json::to_string(&measured)?)?;
    Ok(())
}

/// Returns the path of the binary that is measured.
pub fn ezz() -> String {
    std::env::var("EZZ_BIN").unwrap_or_else(|_| "ezz".to_owned())
}

/// Runs a script that must succeed, and returns its output.
pub fn sh(script: &str) -> Result<String, Failure> {
    let output = Command::new("/bin/bash")
        .args(["-euc", script])
        .env("EZZ", ezz())
        .env("EZZ_SITE", SITE)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Failure(format!("{script}: {}: {stderr}", output.status)))
}

/// Runs ezz with the words of a command line.
pub fn run(line: &str) -> Result<(), Failure> {
    sh(&format!("exec $EZZ -q {line} >/dev/null")).map(drop)
}

/// Returns how long something takes, in milliseconds.
pub fn timed<T>(act: impl FnOnce() -> Result<T, Failure>) -> Result<f64, Failure> {
    let begun = Instant::now();
    act()?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// Returns how long a script takes, without the start of the shell, which is no part of the measured work.
pub fn timed_sh(script: &str) -> Result<f64, Failure> {
    let text = format!("begun=$EPOCHREALTIME; {script}\nprintf '\\n%s %s' $begun $EPOCHREALTIME");
    let told = sh(&text)?;
    let last = told.lines().last().unwrap_or_default();
    let mut times = last
        .split(' ')
        .map(|time| time.replace(',', ".").parse::<f64>());
    match (times.next(), times.next()) {
        (Some(Ok(start)), Some(Ok(end))) => Ok((end - start) * 1e3),
        _ => Err(Failure(format!("{script}: no times in {last:?}"))),
    }
}

/// Returns a number that a script prints.
pub fn number(script: &str) -> Result<f64, Failure> {
    let told = sh(script)?;
    Ok(told.trim().parse()?)
}
