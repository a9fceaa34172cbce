//! Runs programs and reports how they ended. This module must not know a scenario.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The scenario could not be run; this is no violation.
#[derive(Debug)]
pub struct Failure(pub String);

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure(error.to_string())
    }
}

/// Writes a line to standard output. Its reader may have been lost with the power.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Returns the directory that survives a cut: that of the host, if it gave one.
pub fn out() -> PathBuf {
    std::env::var_os("EZZ_LAB_OUT").map_or_else(|| "/tmp/out".into(), PathBuf::from)
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }
}

/// Runs a shell script that must succeed, and returns its output.
pub fn sh(script: &str) -> Result<String, Failure> {
    let output = Command::new("/bin/sh")
        .args(["-euc", script])
        .env("OUT", out())
        .env("EZZ", ezz_path())
        .env("GUEST", std::env::current_exe()?)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure(format!(
        "{script}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )))
}

fn ezz_path() -> PathBuf {
    std::env::var_os("EZZ_BIN").map_or_else(|| "ezz".into(), PathBuf::from)
}

/// Starts ezz with the words of a command line; `$OUT` in them is [`out`].
pub fn ezz(line: &str, environment: &[(&str, String)]) -> Result<Child, Failure> {
    let out = out();
    let words = line.split(' ').map(|word| {
        word.replace("$OUT", &out.to_string_lossy())
            .replace('^', " ")
    });
    // Its output goes to files: a jail's watcher that it leaves behind would hold a pipe open.
    std::fs::create_dir_all("/tmp/said")?;
    let child = Command::new(ezz_path())
        .args(words)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create("/tmp/said/out")?)
        .stderr(std::fs::File::create("/tmp/said/err")?)
        .spawn()?;
    Ok(child)
}

/// Waits for the process that [`ezz`] started.
pub fn ended(mut child: Child, since: Instant) -> Result<Ended, Failure> {
    let status = child.wait()?;
    let took = since.elapsed();
    let stderr = std::fs::read_to_string("/tmp/said/err")?;
    Ok(Ended {
        code: status.code(),
        stderr,
        took,
    })
}

/// Runs ezz to its end.
pub fn run_ezz(line: &str) -> Result<Ended, Failure> {
    let since = Instant::now();
    ended(ezz(line, &[])?, since)
}

/// Returns what the last command printed on standard output.
pub fn said() -> String {
    std::fs::read_to_string("/tmp/said/out").unwrap_or_default()
}

/// A generator of random numbers that gives the same ones for the same seed (splitmix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}
