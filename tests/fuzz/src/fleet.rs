//! Fleet files: an error has its place, and an accepted file is complete and has no circular dependencies.

use ezz::fleet::{Fleet, Wish};

/// Checks a text as a fleet file.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Two short lines can name a hundred thousand jails, which is valid but slow.
    if text.contains("..") {
        return;
    }
    let within = |line: usize, column: usize| {
        let found = text.split('\n').nth(line.wrapping_sub(1));
        let most = found.map_or(0, |line| line.chars().count() + 1);
        assert!((1..=most).contains(&column), "line {line}, column {column}");
    };
    let fleet = match Fleet::parse(text) {
        Err(error) => {
            assert!(!error.what.contains('\n'), "{error}");
            return within(error.place.line, error.place.column);
        }
        Ok(fleet) => fleet,
    };
    for (name, jail) in &fleet.jails {
        within(jail.place.line, jail.place.column);
        let hostname = jail.hostname.as_deref();
        assert!(hostname != Some(""), "{name} has no host name");
        // The jails that a jail waits for can be started: none of them waits for that jail.
        let mut reached = vec![name];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(at) = reached.pop() {
            let found = fleet
                .jails
                .get(at)
                .filter(|jail| jail.wish != Some(Wish::Absent));
            for on in found.iter().flat_map(|jail| jail.depends.iter().flatten()) {
                assert!(on.value != *name, "{name} waits for itself");
                if seen.insert(&on.value) {
                    reached.push(&on.value);
                }
            }
        }
    }
}
