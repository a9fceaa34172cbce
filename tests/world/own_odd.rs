//! Unusual conditions of a merge and its undoing: odd account files of a world, objects that a jail has planted at each
//! path that either reads or writes, and a jail that writes while it is examined. The tests need no root.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot go on says so by a panic"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ezz::profile::Profile;
use ezz::world::Context;
use ezz::world::merge::{Difference, Examined, Patches, carry_out, examine};
use ezz::world::text::InProcess;

use crate::Fail;
use crate::own_files::shown;
use crate::own_plants::plants;
use crate::undo::{NEW, OLD, Trees, edited, make};

fn profile() -> &'static Profile {
    let mut all = Profile::builtin().iter();
    all.find(|it| it.name == "debian").expect("it is built in")
}

/// Merges a jail, and returns what was found.
fn merged(old: &Path, new: &Path, jail: &Path) -> Result<Examined, Fail> {
    let context = Context::quiet();
    let difference = Difference::between(old, new, profile(), &context)?;
    let found = examine(&difference, jail, &mut InProcess, Patches::Made, &context)?;
    assert_eq!(found.obstacles, []);
    carry_out(&found, difference.newer(), jail, &context)?;
    Ok(found)
}

/// Returns the mode of the object at a path, and its size unless it is a text that is merged.
fn kind(path: &Path, what: &str) -> Option<(u32, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    let merged = ["a line of a mebibyte", "nothing in it"].contains(&what);
    Some((found.mode(), if merged { 0 } else { found.len() }))
}

/// Removes the object at a path, and creates the directories above it, so that something can be planted there.
#[expect(clippy::disallowed_methods, reason = "nothing is mounted there")]
fn cleared(at: &Path) -> Result<(), Fail> {
    let above = at.parent().expect("it has one");
    let is_directory = |path: &&Path| fs::symlink_metadata(path).is_ok_and(|it| it.is_dir());
    for other in above.ancestors().take_while(|path| !is_directory(path)) {
        let _ = fs::remove_file(other);
    }
    fs::create_dir_all(above)?;
    match fs::symlink_metadata(at) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(at)?,
        Ok(_) => fs::remove_file(at)?,
        Err(_) => {}
    }
    Ok(())
}

/// The description of the odd files, the files of the world, and its lists of accounts, if it has any.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<[&'a str; 2]>);

/// A jail with an account of its own is merged to a world whose account files are odd, and back again.
#[test]
fn odd_account_files_of_a_world_are_merged_and_come_back() -> Result<(), Fail> {
    let plain = [
        (
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\ndb:x:102:102::/:\n",
        ),
        ("etc/group", "root:x:0:\ndb:x:102:\n"),
        ("etc/other", "old\n"),
    ];
    let own = ["alice:x:1001:1001::/:\n", "alice:x:1001:\n"];
    let cases: [Case<'_>; 4] = [
        (
            "two names with one number",
            &[
                (
                    "etc/passwd",
                    "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:\ndb:x:102:102::/:\nbackup:x:102:102::/:\n",
                ),
                ("etc/group", "root:x:0:\nwheel:x:0:\ndb:x:102:\n"),
            ],
            Some([
                "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:\ndb:x:102:102::/:\nbackup:x:102:102::/:\n",
                "root:x:0:\nwheel:x:0:\ndb:x:102:\n",
            ]),
        ),
        (
            "numbers that no jail has",
            &[
                (
                    "etc/passwd",
                    "root:x:0:0::/root:/bin/sh\ndb:x:102:102::/:\nbig:x:70000:70000::/:\nlast:x:65536:65535::/:\n",
                ),
                ("etc/group", "root:x:0:\ndb:x:102:\nbig:x:70000:\n"),
            ],
            Some([
                "root:x:0:0::/root:/bin/sh\ndb:x:102:102::/:\nbig:x:70000:70000::/:\nlast:x:65536:65535::/:\n",
                "root:x:0:\ndb:x:102:\nbig:x:70000:\n",
            ]),
        ),
        ("no files", &[], None),
        (
            "files without accounts",
            &[("etc/passwd", ""), ("etc/group", "\n# none\n")],
            Some(["", "\n# none\n"]),
        ),
    ];
    for (what, odd, lists) in cases {
        let there = tempfile::tempdir()?;
        let at = |name: &str| there.path().join(name);
        make(&at("old"), &plain)?;
        make(&at("new"), &[("etc/other", "new\n")])?;
        make(&at("new"), odd)?;
        for (jail, has_own) in [("untouched", false), ("edited", true)] {
            make(&at(jail), &plain)?;
            let texts = [at(jail).join("etc/passwd"), at(jail).join("etc/group")];
            let read = || texts.clone().map(|text| fs::read_to_string(text).ok());
            if has_own {
                for (text, line) in texts.iter().zip(own) {
                    fs::write(text, fs::read_to_string(text)? + line)?;
                }
            }
            let was = read();
            let found = merged(&at("old"), &at("new"), &at(jail))?;
            let conflicts = found.changes.iter().filter(|it| it.conflict().is_some());
            assert_eq!(conflicts.count(), 0, "{what}, {jail}: {found:?}");
            assert_eq!(fs::read_to_string(at(jail).join("etc/other"))?, "new\n");
            let is = read();
            match (lists, has_own) {
                // The jail's own list stays if the world does not have one any more.
                (None, true) => assert_eq!(is, was, "{what}, {jail}"),
                (None, false) => assert_eq!(is, [None, None], "{what}, {jail}"),
                (Some(lists), _) => {
                    for ((is, list), own) in is.iter().zip(lists).zip(own) {
                        let is = is.as_deref().unwrap_or_default();
                        let lines: BTreeSet<&str> = is.lines().collect();
                        let own = has_own.then_some(own.trim_end());
                        let wanted: BTreeSet<&str> = list.lines().chain(own).collect();
                        assert_eq!(lines, wanted, "{what}, {jail}");
                    }
                }
            }
            // Then the way back to the previous world.
            let found = merged(&at("new"), &at("old"), &at(jail))?;
            let conflicts: Vec<String> = found
                .changes
                .iter()
                .filter(|it| it.conflict().is_some())
                .map(ToString::to_string)
                .collect();
            let lines = |texts: &[Option<String>; 2]| {
                texts.clone().map(|text| {
                    let text = text.unwrap_or_default();
                    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                    lines.sort();
                    lines
                })
            };
            if conflicts.is_empty() {
                assert_eq!(lines(&read()), lines(&was), "{what}, {jail}");
            } else {
                // A conflict is possible only where the world adds lists, and the jail has kept its own.
                assert_eq!((lists, has_own), (None, true), "{what}: {conflicts:?}");
                assert_eq!(read(), was, "{what}, {jail}");
            }
        }
    }
    Ok(())
}

/// Creates a directory of the host, which no merge may reach.
fn outside(at: &Path) -> Result<PathBuf, Fail> {
    let outside = at.join("outside");
    fs::create_dir(&outside)?;
    for name in ["file", "passwd", "group", "shadow", "changed", "sub"] {
        fs::write(outside.join(name), "root:x:0:0:precious:/root:/bin/sh\n")?;
    }
    Ok(outside)
}

/// Account lists are read before anything else is decided.
#[test]
fn what_is_planted_in_the_place_of_an_account_list_stays() -> Result<(), Fail> {
    for list in ["etc/passwd", "etc/group", "etc/shadow", "etc"] {
        for number in 0..plants(Path::new("x"), Path::new("y")).len() {
            let there = tempfile::tempdir()?;
            let at = |name: &str| there.path().join(name);
            make(&at("old"), OLD)?;
            make(&at("new"), NEW)?;
            make(&at("jail"), OLD)?;
            let outside = outside(there.path())?;
            let planted = at("jail").join(list);
            cleared(&planted)?;
            let plants = plants(&planted, &outside);
            let (what, plant) = &plants[number];
            plant()?;
            let (was, beyond) = (kind(&planted, what), shown(&outside));
            let told = format!("{what} at {list}");
            let found = merged(&at("old"), &at("new"), &at("jail"));
            found.map_err(|error| format!("{told}: {error}"))?;
            assert_eq!(kind(&planted, what), was, "{told}");
            assert_eq!(shown(&outside), beyond, "{told}");
        }
    }
    Ok(())
}

/// Each path at which a merge has written, the directories above it, and the names beside it.
#[test]
fn what_is_planted_after_a_merge_stays_on_the_way_back() -> Result<(), Fail> {
    let files = OLD.iter().chain(NEW).map(|(path, _)| *path);
    let paths: BTreeSet<PathBuf> = files
        .chain(["etc/both.ezz-new", "etc/dir-to-link.ezz-new"])
        .flat_map(|path| Path::new(path).ancestors())
        .filter(|path| path.components().count() > 1)
        .map(Path::to_owned)
        .collect();
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        for number in 0..plants(Path::new("x"), Path::new("y")).len() {
            let trees = Trees::merged(edited)?;
            let outside = outside(trees.root())?;
            let planted = trees.at("jail").join(&path);
            cleared(&planted)?;
            let plants = plants(&planted, &outside);
            let (what, plant) = &plants[number];
            plant()?;
            let (was, beyond) = (kind(&planted, what), shown(&outside));
            let told = format!("{what} at {}", path.display());
            let found = trees.examine().map_err(|e| format!("{told}: {e}"))?;
            assert_eq!(found.obstacles, [], "{told}");
            let before = trees.at("before");
            carry_out(&found, &before, &trees.at("jail"), &Context::quiet())
                .map_err(|e| format!("{told}: {e}"))?;
            assert_eq!(kind(&planted, what), was, "{told}: {:?}", found.kept);
            assert_eq!(shown(&outside), beyond, "{told}");
        }
    }
    Ok(())
}

/// Changes paths of a jail again and again while ezz examines it.
fn writes(jail: &Path, outside: &Path, ended: &AtomicBool) {
    let paths = [
        "etc/changed",
        "etc/lines",
        "etc/passwd",
        "etc/sub",
        "etc/sub/file",
        "etc/dir-to-link",
    ];
    for round in 0_usize.. {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let at = jail.join(paths[round % paths.len()]);
        // Errors do not matter: the previous round may have left something else there.
        let _ = cleared(&at);
        let _ = match round / paths.len() % 5 {
            0 => fs::write(&at, format!("root:x:0:0:{round}:/root:/bin/sh\n")),
            1 => symlink(outside, &at),
            2 => fs::create_dir(&at).and_then(|()| fs::write(at.join("own"), "mine\n")),
            3 => fs::File::create(&at).and_then(|file| file.set_len(1 << 40)),
            _ => Ok(()),
        };
    }
}

/// The merge may be refused, because what it examines disappears; it ends, and nothing outside is read or written.
#[test]
fn a_jail_that_writes_while_it_is_looked_at_is_merged_when_it_has_stopped() -> Result<(), Fail> {
    let trees = Trees::merged(edited)?;
    let outside = outside(trees.root())?;
    let beyond = shown(&outside);
    make(&trees.at("other"), OLD)?;
    let (context, difference) = (Context::quiet(), trees.difference()?);
    let looked = |what: Result<Examined, Fail>| match what {
        Ok(found) => {
            let told = format!("{found:?}");
            assert!(!told.contains("precious"), "{told}");
        }
        Err(error) => {
            let told = error.to_string();
            let change = [
                "No such file",
                "Stale",
                "Not a directory",
                "not a directory",
            ];
            assert!(change.iter().any(|it| told.contains(it)), "{told}");
        }
    };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for jail in ["jail", "other"] {
            let (jail, outside, ended) = (trees.at(jail), &outside, &ended);
            scope.spawn(move || writes(&jail, outside, ended));
        }
        for _ in 0..300 {
            let jail = trees.at("other");
            let found = examine(&difference, &jail, &mut InProcess, Patches::Made, &context);
            looked(found.map_err(Into::into));
            looked(trees.examine());
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert_eq!(shown(&outside), beyond);
    // Nothing writes any more.
    merged(&trees.at("old"), &trees.at("new"), &trees.at("other"))?;
    assert_eq!(
        fs::read_to_string(trees.at("other/etc/added/file"))?,
        "new\n"
    );
    let found = trees.examine()?;
    carry_out(&found, &trees.at("before"), &trees.at("jail"), &context)?;
    assert!(fs::symlink_metadata(trees.at("jail/etc/added")).is_err());
    assert_eq!(shown(&outside), beyond);
    Ok(())
}
