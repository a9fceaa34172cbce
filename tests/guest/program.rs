//! The tests of crashes run this program in the guest. It is a program of its own, because a power cut would end the
//! test itself, and a kill must hit ezz and nothing else.
//!
//! The host's half is in tests/lab/outside. Exit code 1 means violations, one a line of output; 2 means that the
//! scenario itself does not work. By hand, in a guest: `lab-guest inspect tank/ezz`.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs as a user would"
)]

#[path = "../lab/inspect/mod.rs"]
mod inspect;
mod judge;
mod kill;
mod scenario;
mod sys;

use std::process::ExitCode;

use scenario::Scenario;
use sys::{Failure, say};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let violations = match run(&words) {
        Ok(violations) => violations,
        Err(Failure(why)) => {
            say(&format!("lab-guest: {why}"));
            return ExitCode::from(2);
        }
    };
    for what in &violations {
        say(&format!("violation: {what}"));
    }
    ExitCode::from(u8::from(!violations.is_empty()))
}

fn run(words: &[&str]) -> Result<Vec<String>, Failure> {
    match words {
        ["inspect", site] => Ok(inspect::site(site)),
        ["list"] => {
            for scenario in scenario::all() {
                say(scenario.name);
            }
            Ok(Vec::new())
        }
        ["own", jails @ ..] => scenario::own::record(jails),
        ["setup", name] => judge::set_up(named(name)?),
        ["measure", name] => judge::measure(named(name)?),
        ["run", name] => judge::run_until_cut(named(name)?),
        ["judge", name, epoch, seed, acknowledged] => {
            let was = judge::Before {
                epoch: number(epoch)?,
                seed: number(seed)?,
                acknowledged: *acknowledged == "1",
                how: judge::How::Cut,
            };
            judge::judge(named(name)?, &was)
        }
        ["kill", name, count, seed] => {
            kill::at_random_moments(named(name)?, number(count)?, number(seed)?)
        }
        ["steps", name] => kill::at_each_step(named(name)?),
        _ => Err(Failure("usage: see tests/guest/program.rs".to_owned())),
    }
}

fn named(name: &str) -> Result<&'static Scenario, Failure> {
    let mut all = scenario::all();
    all.find(|scenario| scenario.name == name)
        .ok_or_else(|| Failure(format!("there is no scenario {name}")))
}

fn number(text: &str) -> Result<u64, Failure> {
    text.parse()
        .map_err(|_| Failure(format!("{text} is no number")))
}
