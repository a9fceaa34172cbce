//! The three-way merge of a jail's own files on plain directories, especially changes of type. The tests need no root.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot go on says so by a panic"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ezz::profile::Profile;
use ezz::world::Context;
use ezz::world::merge::{
    Change, Difference, Examined, Obstacle, Patches, What, carry_out, examine,
};
use ezz::world::text::InProcess;

use crate::Fail;

/// The object at `etc/x`: a text, a link, or a directory with the files `y` and `z`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    Nothing,
    File,
    Link,
    Directory,
}

const ALL: [Is; 4] = [Is::Nothing, Is::File, Is::Link, Is::Directory];

fn profile() -> &'static Profile {
    let mut all = Profile::builtin().iter();
    all.find(|it| it.name == "debian").expect("it is built in")
}

/// Creates a tree with `etc/x`, with this text in its files.
fn make(root: &Path, is: Is, text: &str) -> Result<(), Fail> {
    let x = root.join("etc/x");
    fs::create_dir_all(root.join("etc"))?;
    match is {
        Is::Nothing => {}
        Is::File => fs::write(&x, text)?,
        Is::Link => symlink(text, &x)?,
        Is::Directory => {
            fs::create_dir_all(x.join("deep"))?;
            fs::write(x.join("y"), text)?;
            fs::write(x.join("deep/z"), text)?;
        }
    }
    Ok(())
}

/// Returns a tree as text; whether a link leads to anything is not checked.
fn shown(root: &Path, at: &str) -> String {
    let path = root.join(at);
    let Ok(found) = fs::symlink_metadata(&path) else {
        return String::new();
    };
    let text = if found.is_symlink() {
        format!("> {}", fs::read_link(&path).expect("a link").display())
    } else if found.is_dir() {
        let entries = fs::read_dir(&path).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        let below = names
            .iter()
            .map(|name| shown(root, &format!("{at}/{name}")));
        return format!("{at}/\n{}", below.collect::<String>());
    } else {
        fs::read_to_string(&path).expect("a text")
    };
    format!("{at} {text}\n")
}

struct Trees(tempfile::TempDir);

impl Trees {
    fn new(old: Is, new: Is) -> Result<Self, Fail> {
        let trees = Trees(tempfile::tempdir()?);
        make(&trees.at("old"), old, "old")?;
        make(&trees.at("jail"), old, "old")?;
        make(&trees.at("new"), new, "new")?;
        Ok(trees)
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn jail(&self, path: &str) -> std::path::PathBuf {
        self.at("jail").join(path)
    }

    fn difference(&self) -> Result<Difference, Fail> {
        let (old, new) = (self.at("old"), self.at("new"));
        Ok(Difference::between(
            &old,
            &new,
            profile(),
            &Context::quiet(),
        )?)
    }

    fn examine(&self) -> Result<Examined, Fail> {
        let (context, patches) = (Context::quiet(), Patches::Made);
        let (difference, jail) = (self.difference()?, self.at("jail"));
        Ok(examine(
            &difference,
            &jail,
            &mut InProcess,
            patches,
            &context,
        )?)
    }

    /// Merges, and returns the changes that were found.
    fn merge(&self) -> Result<Vec<Change>, Fail> {
        let examined = self.examine()?;
        assert_eq!(examined.obstacles, []);
        let (difference, jail) = (self.difference()?, self.at("jail"));
        carry_out(&examined, difference.newer(), &jail, &Context::quiet())?;
        Ok(examined.changes)
    }
}

fn conflicts(changes: &[Change]) -> Vec<String> {
    let all = changes.iter();
    all.filter(|it| matches!(it.what, What::Conflict(_)))
        .map(ToString::to_string)
        .collect()
}

#[test]
fn what_the_jail_has_not_touched_becomes_what_the_release_made_it() -> Result<(), Fail> {
    for old in ALL {
        for new in ALL {
            let trees = Trees::new(old, new)?;
            let changes = trees.merge()?;
            assert_eq!(conflicts(&changes), [""; 0], "{old:?} to {new:?}");
            let (jail, expected) = (trees.at("jail"), trees.at("new"));
            assert_eq!(
                shown(&jail, "etc"),
                shown(&expected, "etc"),
                "{old:?} to {new:?}"
            );
            // The jail already has what the release has.
            let again = trees.examine()?;
            assert_eq!(again, Examined::default(), "{old:?} to {new:?}");
        }
    }
    Ok(())
}

#[test]
fn what_the_jail_has_touched_stays_and_the_releases_is_beside_it() -> Result<(), Fail> {
    let types = [Is::File, Is::Link, Is::Directory];
    for old in types {
        for new in types.into_iter().filter(|new| *new != old) {
            let trees = Trees::new(old, new)?;
            let x = trees.jail("etc/x");
            match old {
                Is::Nothing => {}
                Is::File => fs::write(&x, "mine")?,
                Is::Link => {
                    fs::remove_file(&x)?;
                    symlink("mine", &x)?;
                }
                Is::Directory => fs::write(x.join("deep/mine"), "mine")?,
            }
            let before = shown(&trees.at("jail"), "etc/x");
            let changes = trees.merge()?;
            let what = format!("{old:?} to {new:?}: {changes:?}");
            assert_eq!(shown(&trees.at("jail"), "etc/x"), before, "{what}");
            let beside = shown(&trees.at("new"), "etc/x").replace("etc/x", "etc/x.ezz-new");
            assert_eq!(shown(&trees.at("jail"), "etc/x.ezz-new"), beside, "{what}");
            let kind = match new {
                Is::File => "a file",
                Is::Link => "a symbolic link",
                Is::Directory | Is::Nothing => "a directory",
            };
            let why = match old {
                Is::Directory => "etc/x/deep/mine is yours",
                _ => "you have changed it",
            };
            let told = format!("CONFLICT etc/x (the release made it {kind}, and {why})");
            assert_eq!(conflicts(&changes), [told], "one for all that is in it");
            assert_eq!(changes.len(), 1, "{what}");
        }
    }
    Ok(())
}

#[test]
fn a_conflict_says_who_did_what() -> Result<(), Fail> {
    type Touch = fn(&Path) -> std::io::Result<()>;
    let cases: [(Is, Touch, &str); 4] = [
        (Is::File, |x| fs::write(x, "mine"), "both have changed it"),
        (
            Is::File,
            |x| {
                fs::remove_file(x)?;
                fs::create_dir(x)
            },
            "the release changed it, and you have made it a directory",
        ),
        (
            Is::File,
            |x| fs::remove_file(x),
            "the release changed it, and you have deleted it",
        ),
        (
            Is::Nothing,
            |x| fs::write(x, "mine"),
            "the release added it, and you have one of your own",
        ),
    ];
    for (old, touch, why) in cases {
        let trees = Trees::new(old, Is::File)?;
        touch(&trees.jail("etc/x"))?;
        let changes = trees.merge()?;
        assert_eq!(conflicts(&changes), [format!("CONFLICT etc/x ({why})")]);
    }
    Ok(())
}

#[test]
fn a_directory_of_the_jails_own_is_found_wherever_it_differs() -> Result<(), Fail> {
    type Touch = fn(&Path) -> std::io::Result<()>;
    let differ: [(&str, Touch); 5] = [
        ("etc/x/deep/z", |x| fs::write(x.join("deep/z"), "mine")),
        ("etc/x/deep/z", |x| {
            fs::set_permissions(x.join("deep/z"), fs::Permissions::from_mode(0o600))
        }),
        ("etc/x/deep", |x| {
            fs::set_permissions(x.join("deep"), fs::Permissions::from_mode(0o700))
        }),
        ("etc/x/empty", |x| fs::create_dir(x.join("empty"))),
        ("etc/x/y", |x| {
            fs::remove_file(x.join("y"))?;
            symlink("/etc/passwd", x.join("y"))
        }),
    ];
    for (path, touch) in differ {
        let trees = Trees::new(Is::Directory, Is::Link)?;
        touch(&trees.jail("etc/x"))?;
        let changes = trees.merge()?;
        let told =
            format!("CONFLICT etc/x (the release made it a symbolic link, and {path} is yours)");
        assert_eq!(conflicts(&changes), [told]);
    }
    // A file that the jail has removed does not conflict.
    let trees = Trees::new(Is::Directory, Is::Link)?;
    fs::remove_file(trees.jail("etc/x/y"))?;
    assert_eq!(conflicts(&trees.merge()?), [""; 0]);
    assert_eq!(shown(&trees.at("jail"), "etc/x"), "etc/x > new\n");
    // Paths of the class *kept*, such as host keys, belong to the jail, whatever the release contains.
    let trees = Trees::new(Is::Nothing, Is::Nothing)?;
    for root in ["old", "jail"] {
        fs::create_dir_all(trees.at(root).join("etc/ssh"))?;
        fs::write(trees.at(root).join("etc/ssh/ssh_host_key"), "key")?;
    }
    symlink("elsewhere", trees.at("new").join("etc/ssh"))?;
    assert_eq!(
        conflicts(&trees.merge()?),
        [
            "CONFLICT etc/ssh (the release made it a symbolic link, and etc/ssh/ssh_host_key is yours)"
        ]
    );
    Ok(())
}

#[test]
fn a_link_above_a_file_leads_nowhere() -> Result<(), Fail> {
    let trees = Trees::new(Is::Directory, Is::Directory)?;
    let outside = trees.at("outside");
    fs::create_dir_all(outside.join("deep"))?;
    #[expect(clippy::disallowed_methods, reason = "nothing is mounted in it")]
    fs::remove_dir_all(trees.jail("etc/x"))?;
    symlink(&outside, trees.jail("etc/x"))?;
    let changes = trees.merge()?;
    assert_eq!(
        conflicts(&changes),
        [
            "CONFLICT etc/x/deep/z (etc/x is no directory in the jail)",
            "CONFLICT etc/x/y (etc/x is no directory in the jail)",
        ]
    );
    assert!(changes.iter().all(|it| it.put_beside().is_none()));
    assert_eq!(fs::read_dir(outside.join("deep"))?.count(), 0);
    Ok(())
}

#[test]
fn what_is_put_beside_finds_a_name() -> Result<(), Fail> {
    // An earlier conflict left a directory with that name, and now a file is to be put there.
    let trees = Trees::new(Is::File, Is::File)?;
    fs::write(trees.jail("etc/x"), "mine")?;
    fs::create_dir(trees.jail("etc/x.ezz-new"))?;
    let changes = trees.merge()?;
    let beside = changes[0].put_beside().map(ToString::to_string);
    assert_eq!(beside.as_deref(), Some("etc/x.ezz-new.1"));
    assert_eq!(fs::read_to_string(trees.jail("etc/x.ezz-new.1"))?, "new");
    // What the jail has by that name stays, and through a link nothing is written.
    let trees = Trees::new(Is::File, Is::File)?;
    fs::write(trees.jail("etc/x"), "mine")?;
    fs::write(trees.at("outside"), "untouched")?;
    symlink(trees.at("outside"), trees.jail("etc/x.ezz-new"))?;
    let link = shown(&trees.at("jail"), "etc/x.ezz-new");
    trees.merge()?;
    assert_eq!(shown(&trees.at("jail"), "etc/x.ezz-new"), link);
    assert_eq!(
        shown(&trees.at("jail"), "etc/x.ezz-new.1"),
        "etc/x.ezz-new.1 new\n"
    );
    assert_eq!(fs::read_to_string(trees.at("outside"))?, "untouched");
    // What an earlier merge has put there, a version of the release, is replaced.
    let trees = Trees::new(Is::File, Is::File)?;
    fs::write(trees.jail("etc/x"), "mine")?;
    let old = trees.at("old").join("etc/x");
    fs::copy(old, trees.jail("etc/x.ezz-new"))?;
    trees.merge()?;
    assert_eq!(
        shown(&trees.at("jail"), "etc/x.ezz-new"),
        "etc/x.ezz-new new\n"
    );
    assert!(!trees.jail("etc/x.ezz-new.1").exists());
    // A name that is too long is none: the conflict is only named.
    let trees = Trees::new(Is::Nothing, Is::Nothing)?;
    let name = format!("etc/{}", "n".repeat(252));
    for (root, text) in [("old", "old"), ("jail", "mine"), ("new", "new")] {
        fs::write(trees.at(root).join(&name), text)?;
    }
    let changes = trees.merge()?;
    assert_eq!(
        (conflicts(&changes).len(), changes[0].put_beside()),
        (1, None)
    );
    Ok(())
}

/// The change needs more room than any file system has.
#[test]
fn what_does_not_fit_is_known_before() -> Result<(), Fail> {
    let trees = Trees::new(Is::File, Is::File)?;
    fs::File::create(trees.at("new").join("etc/x"))?.set_len(1 << 20)?;
    let found = trees.examine()?;
    assert_eq!(found.obstacles, []);
    let room = Obstacle::Room { needs: 2, free: 1 };
    assert_eq!(
        room.to_string(),
        "the release's files need 2 bytes, and it has 1 left"
    );
    Ok(())
}
