//! Undoing a merge on plain directories: a jail is merged, changed, and brought back.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot go on says so by a panic"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use ezz::profile::Profile;
use ezz::world::Context;
use ezz::world::merge::{
    Difference, Examined, Obstacle, Patches, Undo, carry_out, examine, examine_back, examine_undo,
};
use ezz::world::text::InProcess;

use crate::{Fail, is_root};

fn profile() -> &'static Profile {
    let mut all = Profile::builtin().iter();
    all.find(|it| it.name == "debian").expect("it is built in")
}

/// Copies a tree with owners and modes.
fn copy(from: &Path, to: &Path) -> Result<(), Fail> {
    let found = fs::symlink_metadata(from)?;
    if found.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return Ok(());
    }
    if found.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
    } else {
        fs::write(to, fs::read(from)?)?;
    }
    chown(to, Some(found.uid()), Some(found.gid()))?;
    fs::set_permissions(to, found.permissions())?;
    Ok(())
}

/// Returns a whole tree, one line for each file, with type, mode, owner and content.
fn shown(root: &Path, at: &str) -> Vec<String> {
    let path = root.join(at);
    let Ok(found) = fs::symlink_metadata(&path) else {
        return Vec::new();
    };
    let (mode, uid, gid) = (found.mode() & 0o7777, found.uid(), found.gid());
    if found.is_symlink() {
        return vec![format!(
            "{at} > {}",
            fs::read_link(&path).expect("a link").display()
        )];
    }
    let head = format!("{at} {mode:o} {uid}:{gid}");
    if !found.is_dir() {
        let text = fs::read_to_string(&path).expect("a text");
        return vec![format!("{head} {text:?}")];
    }
    let entries = fs::read_dir(&path).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    let below = names
        .iter()
        .flat_map(|name| shown(root, &format!("{at}/{name}")));
    std::iter::once(head + "/").chain(below).collect()
}

/// Two skeletons, and a jail of the first.
pub struct Trees(tempfile::TempDir);

/// Files that both skeletons have, that only the first has, and that only the second has: texts, or `> target`.
pub const OLD: &[(&str, &str)] = &[
    ("etc/changed", "old\n"),
    ("etc/lines", "a\nb\nc\nd\ne\nf\ng\n"),
    ("etc/both", "old\n"),
    ("etc/gone", "old\n"),
    ("etc/gone-dir/file", "old\n"),
    ("etc/link", "> changed"),
    ("etc/file-to-dir", "old\n"),
    ("etc/dir-to-file/deep/file", "old\n"),
    ("etc/dir-to-link/file", "old\n"),
    ("etc/sub/file", "old\n"),
    ("etc/deleted-before", "old\n"),
    (
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nold:x:50:50::/:/bin/sh\n",
    ),
    ("etc/group", "root:x:0:\nold:x:50:\n"),
    ("etc/shadow", "root:*:1::::::\nold:!:1::::::\n"),
    ("etc/ld.so.conf", "lib\n"),
    ("etc/ld.so.cache", "old\n"),
];
pub const NEW: &[(&str, &str)] = &[
    ("etc/changed", "new\n"),
    ("etc/lines", "A\nb\nc\nd\ne\nf\ng\n"),
    ("etc/both", "new\n"),
    ("etc/link", "> lines"),
    ("etc/file-to-dir/deep/file", "new\n"),
    ("etc/dir-to-file", "new\n"),
    ("etc/dir-to-link", "> sub"),
    ("etc/sub/file", "new\n"),
    ("etc/added/file", "new\n"),
    ("etc/deleted-before", "new\n"),
    (
        "etc/passwd",
        "root:x:0:0:new:/root:/bin/sh\nnew:x:99:99::/:/bin/sh\n",
    ),
    ("etc/group", "root:x:0:\nnew:x:99:\n"),
    ("etc/shadow", "root:*:1::::::\nnew:!:1::::::\n"),
    ("etc/ld.so.conf", "lib\n"),
    ("etc/ld.so.cache", "new\n"),
];

pub fn make(root: &Path, files: &[(&str, &str)]) -> Result<(), Fail> {
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("it has one"))?;
        match text.strip_prefix("> ") {
            Some(target) => symlink(target, &path)?,
            None => fs::write(&path, text)?,
        }
    }
    Ok(())
}

impl Trees {
    /// Creates a jail, lets the administrator change it by `before`, and merges it.
    pub fn merged(before: impl Fn(&Path) -> Result<(), Fail>) -> Result<Self, Fail> {
        let trees = Trees(tempfile::tempdir()?);
        make(&trees.at("old"), OLD)?;
        make(&trees.at("new"), NEW)?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(trees.at("new").join("etc/changed"), mode)?;
        copy(&trees.at("old"), &trees.at("jail"))?;
        before(&trees.at("jail"))?;
        copy(&trees.at("jail"), &trees.at("before"))?;
        let (difference, jail) = (trees.difference()?, &trees.at("jail"));
        let context = Context::quiet();
        let found = examine(&difference, jail, &mut InProcess, Patches::Left, &context)?;
        assert_eq!(found.obstacles, []);
        carry_out(&found, difference.newer(), jail, &context)?;
        copy(jail, &trees.at("after"))?;
        Ok(trees)
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// Returns the difference from the old skeleton to the new one.
    pub fn difference(&self) -> Result<Difference, Fail> {
        let (old, new) = (self.at("old"), self.at("new"));
        let context = Context::quiet();
        Ok(Difference::between(&old, &new, profile(), &context)?)
    }

    fn etc(&self, name: &str) -> PathBuf {
        self.at("jail/etc").join(name)
    }

    pub fn examine(&self) -> Result<Examined, Fail> {
        let trees = Undo {
            merged: &self.difference()?,
            before: &self.at("before"),
            after: &self.at("after"),
            jail: &self.at("jail"),
        };
        let context = Context::quiet();
        Ok(examine_undo(
            trees,
            &mut InProcess,
            Patches::Made,
            &context,
        )?)
    }

    /// Undoes the merge; returns what stays, as it is reported.
    fn back(&self) -> Result<Vec<String>, Fail> {
        let found = self.examine()?;
        assert_eq!(found.obstacles, []);
        assert!(found.undone);
        let (before, jail) = (self.at("before"), self.at("jail"));
        carry_out(&found, &before, &jail, &Context::quiet())?;
        // A second time there is nothing left to do.
        assert_eq!(self.examine()?.changes, []);
        Ok(found.kept.iter().map(ToString::to_string).collect())
    }

    /// Returns the lines in which the jail differs from its state before the merge.
    fn differs(&self) -> Vec<String> {
        let (was, is) = (
            shown(&self.at("before"), "etc"),
            shown(&self.at("jail"), "etc"),
        );
        let gone = was
            .iter()
            .filter(|line| !is.contains(line))
            .map(|line| format!("- {line}"));
        let new = is
            .iter()
            .filter(|line| !was.contains(line))
            .map(|line| format!("+ {line}"));
        gone.chain(new).collect()
    }
}

/// Makes the administrator's changes before the merge: edits that can be merged, and some that conflict.
pub fn edited(jail: &Path) -> Result<(), Fail> {
    let etc = jail.join("etc");
    fs::write(etc.join("lines"), "a\nb\nc\nd\ne\nf\nmine\n")?;
    fs::write(etc.join("both"), "mine\n")?;
    fs::write(etc.join("only-mine"), "mine\n")?;
    fs::write(etc.join("dir-to-link/mine"), "mine\n")?;
    fs::remove_file(etc.join("deleted-before"))?;
    let text = "root:x:0:0::/root:/bin/zsh\nold:x:50:50::/:/bin/sh\nalice:x:1001:1001::/:/bin/sh\n";
    fs::write(etc.join("passwd"), text)?;
    Ok(())
}

#[test]
fn what_nobody_has_written_since_is_as_it_was_before() -> Result<(), Fail> {
    let trees = Trees::merged(|_| Ok(()))?;
    assert!(trees.etc("added/file").exists());
    // A database that comes back with its text is not made again, which would leave traces.
    assert_eq!(trees.examine()?.renewed, []);
    assert_eq!(trees.back()?, [""; 0]);
    assert_eq!(trees.differs(), [""; 0]);
    // Also where the merge had put the release's versions beside the jail's.
    let trees = Trees::merged(edited)?;
    for beside in [
        "both.ezz-new",
        "deleted-before.ezz-new",
        "dir-to-link.ezz-new",
    ] {
        assert!(fs::symlink_metadata(trees.etc(beside)).is_ok(), "{beside}");
    }
    assert_eq!(trees.back()?, [""; 0]);
    assert_eq!(trees.differs(), [""; 0]);
    Ok(())
}

#[test]
fn owner_and_mode_come_back_too() -> Result<(), Fail> {
    let trees = Trees::merged(|jail| {
        let gone = jail.join("etc/gone");
        fs::set_permissions(&gone, fs::Permissions::from_mode(0o644))?;
        Ok(())
    })?;
    assert_eq!(fs::metadata(trees.etc("changed"))?.mode() & 0o777, 0o600);
    trees.back()?;
    assert_eq!(trees.differs(), [""; 0]);
    if !is_root("owner_and_mode_come_back_too") {
        return Ok(());
    }
    // The owners of a file that the release has removed, and of one in conflict that the merge has not touched.
    let trees = Trees::merged(|jail| {
        chown(jail.join("etc/both"), Some(77), Some(78))?;
        Ok(())
    })?;
    chown(trees.etc("sub/file"), Some(5), Some(6))?;
    assert_eq!(
        trees.back()?,
        ["etc/sub/file stays: the jail has changed it since"]
    );
    let found = fs::metadata(trees.etc("both"))?;
    assert_eq!((found.uid(), found.gid()), (77, 78));
    assert_eq!(fs::metadata(trees.etc("sub/file"))?.uid(), 5);
    Ok(())
}

#[test]
fn what_the_jail_has_written_since_stays_with_a_note() -> Result<(), Fail> {
    type Touch = fn(&Trees) -> std::io::Result<()>;
    let cells: &[(&str, Touch, &[&str])] = &[
        (
            "a file of the merge, changed",
            |trees| fs::write(trees.etc("changed"), "mine\n"),
            &["etc/changed stays: the jail has changed it since"],
        ),
        (
            "only its mode",
            |trees| fs::set_permissions(trees.etc("lines"), fs::Permissions::from_mode(0o640)),
            &["etc/lines stays: the jail has changed it since"],
        ),
        (
            "one that the release added, changed",
            |trees| fs::write(trees.etc("added/file"), "mine\n"),
            &[
                "etc/added stays: it holds etc/added/file",
                "etc/added/file stays: the jail has changed it since",
            ],
        ),
        (
            "deleted",
            |trees| fs::remove_file(trees.etc("sub/file")),
            &["etc/sub/file stays: the jail has deleted it since"],
        ),
        (
            "one that the release added, deleted: as before",
            |trees| {
                fs::remove_file(trees.etc("added/file"))?;
                fs::remove_dir(trees.etc("added"))
            },
            &[],
        ),
        (
            "a file became a directory",
            |trees| {
                fs::remove_file(trees.etc("changed"))?;
                fs::create_dir(trees.etc("changed"))
            },
            &["etc/changed stays: the jail has made it a directory since"],
        ),
        (
            "a file became a link",
            |trees| {
                fs::remove_file(trees.etc("changed"))?;
                symlink("/etc/passwd", trees.etc("changed"))
            },
            &["etc/changed stays: the jail has made it a symbolic link since"],
        ),
        (
            "a directory on the way became a link",
            |trees| {
                fs::remove_file(trees.etc("sub/file"))?;
                fs::remove_dir(trees.etc("sub"))?;
                symlink("gone-dir", trees.etc("sub"))
            },
            &["etc/sub/file stays: etc/sub is no directory in the jail"],
        ),
        (
            "a removed file is there again",
            |trees| fs::write(trees.etc("gone"), "mine\n"),
            &["etc/gone stays: the jail has changed it since"],
        ),
        (
            "a file of one's own in a directory of the release's",
            |trees| fs::write(trees.etc("added/mine"), "mine\n"),
            &["etc/added stays: it holds etc/added/mine"],
        ),
        (
            "the same where a file was before: all of it stays",
            |trees| fs::write(trees.etc("file-to-dir/deep/mine"), "mine\n"),
            &["etc/file-to-dir stays: it holds etc/file-to-dir/deep"],
        ),
        (
            "a directory that was removed is a file now",
            |trees| fs::write(trees.etc("gone-dir"), "mine\n"),
            &["etc/gone-dir stays: the jail has changed it since"],
        ),
        (
            "a file that was a directory, changed",
            |trees| fs::write(trees.etc("dir-to-file"), "mine\n"),
            &["etc/dir-to-file stays: the jail has changed it since"],
        ),
        (
            "a file of one's own elsewhere",
            |trees| fs::write(trees.etc("mine"), "mine\n"),
            &[],
        ),
    ];
    for (what, touch, notes) in cells {
        let trees = Trees::merged(|_| Ok(()))?;
        touch(&trees)?;
        let (touched, jail) = (shown(&trees.at("jail"), "etc"), trees.at("jail"));
        let told = trees.back()?;
        // Additional notes report directories that stay because of their contents.
        for note in *notes {
            assert!(
                told.iter().any(|it| it == note),
                "{what}: {note}: {told:#?}"
            );
        }
        assert_eq!(told.is_empty(), notes.is_empty(), "{what}: {told:#?}");
        // Each line is as it was before the merge, or as the jail had it afterwards.
        let now = shown(&jail, "etc");
        let before = shown(&trees.at("before"), "etc");
        let odd = now
            .iter()
            .filter(|it| !before.contains(it) && !touched.contains(it));
        assert_eq!(odd.count(), 0, "{what}: {now:#?}");
        let kept: Vec<&String> = now.iter().filter(|it| it.contains("mine")).collect();
        let mine: Vec<&String> = touched.iter().filter(|it| it.contains("mine")).collect();
        assert_eq!(kept, mine, "{what}: nothing of the jail's is lost");
        // Everything else has been restored.
        let left = trees.differs();
        let own = |line: &&String| line.starts_with("- ");
        assert!(left.iter().filter(own).count() <= 4, "{what}: {left:#?}");
    }
    Ok(())
}

#[test]
fn a_deleted_directory_does_not_come_back_for_a_file_in_it() -> Result<(), Fail> {
    let trees = Trees::merged(|jail| Ok(fs::write(jail.join("etc/sub/other"), "mine\n")?))?;
    fs::remove_file(trees.etc("sub/other"))?;
    fs::remove_file(trees.etc("sub/file"))?;
    fs::remove_dir(trees.etc("sub"))?;
    let told = trees.back()?;
    assert_eq!(told, ["etc/sub/file stays: the jail has deleted it since"]);
    assert!(!trees.etc("sub").exists());
    Ok(())
}

#[test]
fn accounts_come_back_field_by_field() -> Result<(), Fail> {
    let trees = Trees::merged(edited)?;
    let text = fs::read_to_string(trees.etc("passwd"))?;
    assert!(
        text.contains("new:x:99") && !text.contains("old:"),
        "{text}"
    );
    // Changes since the merge: a new user, and a new shell for a user of the release.
    let text = text + "bob:x:1002:1002::/:/bin/sh\n";
    fs::write(
        trees.etc("passwd"),
        text.replace("root:x:0:0:new:", "root:x:0:0:mine:"),
    )?;
    fs::write(trees.etc("group"), "root:x:0:bob\nnew:x:99:\n")?;
    let told = trees.back()?;
    assert_eq!(
        told,
        ["etc/passwd stays: the jail has changed the entries of root"]
    );
    let passwd = fs::read_to_string(trees.etc("passwd"))?;
    for line in [
        "root:x:0:0:mine:/root:/bin/zsh",
        "old:x:50:50:",
        "alice:",
        "bob:",
    ] {
        assert!(passwd.contains(line), "{line}: {passwd}");
    }
    assert!(!passwd.contains("new:x"), "{passwd}");
    assert_eq!(
        fs::read_to_string(trees.etc("group"))?,
        "root:x:0:bob\nold:x:50:\n"
    );
    assert_eq!(
        fs::read_to_string(trees.etc("shadow"))?,
        "root:*:1::::::\nold:!:1::::::\n"
    );
    Ok(())
}

#[test]
fn an_account_that_owns_files_stays() -> Result<(), Fail> {
    if !is_root("an_account_that_owns_files_stays") {
        return Ok(());
    }
    let trees = Trees::merged(|_| Ok(()))?;
    fs::create_dir_all(trees.at("jail/srv"))?;
    fs::write(trees.at("jail/srv/data"), "data\n")?;
    chown(trees.at("jail/srv/data"), Some(99), Some(0))?;
    let told = trees.back()?;
    assert_eq!(
        told,
        [
            "etc/group stays: these still own files: new",
            "etc/passwd stays: these still own files: new",
        ]
    );
    // The account stays with its group and its entry in shadow; everything else is as before.
    for (file, line) in [
        ("passwd", "new:x:99:99::/:/bin/sh\n"),
        ("group", "new:x:99:\n"),
        ("shadow", "new:!:1::::::\n"),
    ] {
        let text = fs::read_to_string(trees.etc(file))?;
        assert!(
            text.contains(line) && text.contains("old:"),
            "{file}: {text}"
        );
    }
    assert_eq!(trees.differs().len(), 6, "{:#?}", trees.differs());
    // Files that are removed themselves do not keep an account.
    let trees = Trees::merged(|_| Ok(()))?;
    chown(trees.etc("added/file"), Some(99), Some(99))?;
    chown(trees.at("after/etc/added/file"), Some(99), Some(99))?;
    assert_eq!(trees.back()?, [""; 0]);
    assert_eq!(trees.differs(), [""; 0]);
    // If a tree is too deep to be searched, all accounts stay.
    let trees = Trees::merged(|_| Ok(()))?;
    let name = "d".repeat(255);
    let mut dir = rustix::fs::open(
        trees.at("jail"),
        rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )?;
    for _ in 0..20 {
        rustix::fs::mkdirat(&dir, &name, rustix::fs::Mode::from_raw_mode(0o755))?;
        let flags = rustix::fs::OFlags::DIRECTORY;
        dir = rustix::fs::openat(&dir, &name, flags, rustix::fs::Mode::empty())?;
    }
    assert_eq!(trees.back()?.len(), 2);
    Ok(())
}

#[test]
fn a_way_back_without_snapshots_keeps_what_is_in_conflict() -> Result<(), Fail> {
    let trees = Trees(tempfile::tempdir()?);
    make(&trees.at("old"), NEW)?;
    make(&trees.at("new"), OLD)?;
    copy(&trees.at("old"), &trees.at("jail"))?;
    fs::write(trees.etc("both"), "mine\n")?;
    fs::write(trees.etc("lines"), "A\nb\nc\nd\ne\nf\nmine\n")?;
    let (difference, jail) = (trees.difference()?, &trees.at("jail"));
    let context = Context::quiet();
    let found = examine_back(&difference, jail, &mut InProcess, Patches::Left, &context)?;
    let told: Vec<String> = found.kept.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["etc/both stays: both have changed it"]);
    carry_out(&found, difference.newer(), jail, &context)?;
    assert_eq!(fs::read_to_string(trees.etc("both"))?, "mine\n");
    assert_eq!(
        fs::read_to_string(trees.etc("lines"))?,
        "a\nb\nc\nd\ne\nf\nmine\n"
    );
    assert!(!trees.etc("both.ezz-new").exists() && !trees.etc("added").exists());
    Ok(())
}

#[test]
fn only_what_concerns_the_whole_jail_is_in_the_way() -> Result<(), Fail> {
    // Links, pipes and sockets in the place of files that would be read.
    let trees = Trees::merged(|_| Ok(()))?;
    let outside = trees.at("outside");
    fs::create_dir(&outside)?;
    fs::write(outside.join("file"), "new\n")?;
    fs::remove_file(trees.etc("lines"))?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        trees.etc("lines"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )?;
    fs::remove_file(trees.etc("sub/file"))?;
    fs::remove_dir(trees.etc("sub"))?;
    symlink(&outside, trees.etc("sub"))?;
    fs::remove_file(trees.etc("passwd"))?;
    symlink(outside.join("file"), trees.etc("passwd"))?;
    let told = trees.back()?;
    for path in ["etc/lines", "etc/sub/file", "etc/passwd"] {
        assert!(
            told.iter().any(|it| it.starts_with(path)),
            "{path}: {told:#?}"
        );
    }
    assert_eq!(fs::read_to_string(outside.join("file"))?, "new\n");
    assert_eq!(fs::read_dir(&outside)?.count(), 1);
    // Too little room would be an obstacle; here there is enough.
    assert!(
        !trees
            .examine()?
            .obstacles
            .iter()
            .any(|it| matches!(it, Obstacle::Room { .. }))
    );
    Ok(())
}

#[test]
fn a_list_of_accounts_that_is_too_long_gives_no_file_to_another() -> Result<(), Fail> {
    if !is_root("a_list_of_accounts_that_is_too_long_gives_no_file_to_another") {
        return Ok(());
    }
    let trees = Trees(tempfile::tempdir()?);
    let root = "root:x:0:0::/root:/bin/sh\n";
    for tree in ["old", "new", "jail"] {
        make(&trees.at(tree), &[("etc/passwd", root), ("opt/file", tree)])?;
    }
    fs::write(trees.at("jail/opt/file"), "old")?;
    chown(trees.at("new/opt/file"), Some(99), Some(99))?;
    let difference = trees.difference()?;
    let (jail, context) = (trees.at("jail"), Context::quiet());
    let looked = || examine(&difference, &jail, &mut InProcess, Patches::Left, &context);
    assert_eq!(looked()?.obstacles, []);
    // In this jail 99 may be anybody's.
    let mine = "mine:x:99:99::/:\n".repeat(80_000);
    fs::write(trees.etc("passwd"), format!("{root}{mine}"))?;
    let path = "opt/file".parse().expect("a path");
    assert_eq!(looked()?.obstacles, [Obstacle::Accounts(path)]);
    // Nothing keeps a jail from coming back.
    let back = examine_back(&difference, &jail, &mut InProcess, Patches::Left, &context)?;
    assert_eq!(back.obstacles, []);
    Ok(())
}
