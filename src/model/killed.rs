//! Processes that had to be killed when a jail was stopped.

use serde::Serialize;

use crate::name::JailName;
use crate::text::first_few;

/// A process that had to be killed, because it did not end when it got the stop signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Killed {
    /// Its process id on the host.
    pub pid: u32,
    /// Its name, reduced to printable ASCII, because the process chooses its name itself.
    pub name: String,
}

/// The largest number of killed processes that a message names.
const NAMED: usize = 5;

impl Killed {
    /// Creates a value with a name that is safe to print.
    pub fn new(pid: u32, name: &str) -> Self {
        let plain = |c: char| match c {
            ' '..='~' => c,
            _ => '?',
        };
        let name = name.chars().take(64).map(plain).collect();
        Killed { pid, name }
    }

    /// Returns a message that these processes were killed after so many seconds.
    pub fn told(jail: &JailName, killed: &[Killed], seconds: u64) -> String {
        let names = killed.iter().map(|it| format!("{} ({})", it.name, it.pid));
        let names = first_few(names, NAMED, ", ");
        let (many, were) = match killed.len() {
            1 => ("1 process".to_owned(), "was"),
            n => (format!("{n} processes"), "were"),
        };
        format!("jail {jail}: {many} did not end within {seconds} s and {were} killed: {names}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_named_and_no_name_moves_the_cursor() {
        let jail = JailName::parse("web1").expect("valid");
        let one = [Killed::new(7, "a\u{1b}[2J\nezz: \u{202e}ü")];
        assert_eq!(
            Killed::told(&jail, &one, 30),
            "jail web1: 1 process did not end within 30 s and was killed: a?[2J?ezz: ?? (7)"
        );
        let many: Vec<Killed> = (1..9).map(|pid| Killed::new(pid, "sh")).collect();
        let told = Killed::told(&jail, &many, 2);
        assert!(
            told.starts_with(
                "jail web1: 8 processes did not end within 2 s and were killed: sh (1)"
            )
        );
        assert!(told.ends_with("sh (5) and 3 more"), "{told}");
        assert!(Killed::new(7, &"x".repeat(10_000)).name.len() < 100);
    }
}
