//! Profiles: an error has its place, and an accepted profile obeys the rules of its fields.

use ezz::profile::{Os, Profile, ProfileError, RelPath};

/// Checks a text as a profile.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Profile::parse(text, "x.toml") {
        Err(ProfileError::Syntax { line, column, .. }) => {
            let lines = text.matches('\n').count() + 1;
            assert!((1..=lines).contains(&line), "line {line} of {lines}");
            let longest = text.split('\n').map(|l| l.chars().count()).max();
            assert!(
                (1..=longest.unwrap_or(0) + 1).contains(&column),
                "column {column}"
            );
        }
        Err(ProfileError::Unusable { problem, .. }) => assert!(!problem.is_empty()),
        Ok(profile) => accepted(&profile),
    }
}

fn accepted(profile: &Profile) {
    assert!(!profile.name.is_empty() && !profile.detect.exist.is_empty());
    assert!(!profile.console.is_empty() && !profile.label.is_empty());
    match profile.os {
        Os::FreeBsd => assert!(profile.start.exec.is_some()),
        Os::Linux => assert!(profile.start.init.len() + profile.start.command.len() > 0),
    }
    for (at, dir) in profile.shared.iter().enumerate() {
        assert!(!dir.is_root() && profile.is_shared(dir));
        for (other, outer) in profile.shared.iter().enumerate() {
            assert!(
                at == other || dir == outer || !below(dir, outer),
                "{dir} in {outer}"
            );
        }
    }
    let paths = [
        &profile.shared,
        &profile.mount_points,
        &profile.detect.exist,
        &profile.arch,
        &profile.secrets.shadow,
    ];
    for path in paths.into_iter().flatten() {
        assert_eq!(RelPath::parse(path.as_bytes()).as_ref(), Ok(path));
        assert!(
            !path
                .components()
                .any(|part| part == b".." || part == b"." || part.contains(&0))
        );
        for rule in &profile.scrub {
            let _ = rule.path.matches(path);
        }
    }
    assert!(
        !profile
            .mount_points
            .iter()
            .any(|path| profile.is_shared(path))
    );
}

fn below(path: &RelPath, dir: &RelPath) -> bool {
    let (path, dir): (Vec<_>, Vec<_>) = (path.components().collect(), dir.components().collect());
    path.starts_with(&dir)
}
