//! Processes that had to be killed.

use serde::Serialize;

use crate::name::JailName;
use crate::text::first_few;

/// A process that had to be killed, since it did not end when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Killed {
    /// Its number on the host.
    pub pid: u32,
    /// Its name, which it has chosen itself: printable ASCII.
    pub name: String,
}

/// So many of the killed processes are named.
const NAMED: usize = 5;

impl Killed {
    /// With the name made harmless.
    pub fn new(pid: u32, name: &str) -> Self {
        let plain = |c: char| match c {
            ' '..='~' => c,
            _ => '?',
        };
        let name = name.chars().take(64).map(plain).collect();
        Killed { pid, name }
    }

    /// That they were killed after so long, in words.
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
