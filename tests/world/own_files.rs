//! The table of docs/own-files.md, row by row, on plain directories. The tests need no root.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot go on says so by a panic"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use ezz::profile::Profile;
use ezz::world::Context;
use ezz::world::merge::{Change, Difference, Examined, Patches, What, carry_out, examine};
use ezz::world::text::InProcess;

use crate::Fail;

const DOC: &str = include_str!("../../docs/own-files.md");

pub const CLASSES: [&str; 5] = ["merged", "followed", "seeded", "derived", "kept"];

/// The Debian profile, with a directory for each class.
static PROFILE: LazyLock<Profile> = LazyLock::new(|| {
    let rule = |class: &str| {
        format!("[[own]]\nclass = \"{class}\"\nwhy = \"a test\"\npaths = [\"t/{class}/**\"]\n")
    };
    let rules: String = CLASSES.into_iter().map(rule).collect();
    let whole =
        "[[own]]\nclass = \"seeded\"\nwhole = true\nwhy = \"a test\"\npaths = [\"t/whole/*\"]\n";
    let database =
        "[[database]]\nfrom = \"t/merged/text\"\nmade = \"t/derived/made\"\ncommand = \"x\"\n";
    let text = include_str!("../../templates/profiles/debian.toml");
    let text = text.replacen("[[own]]", &format!("{whole}{rules}{database}[[own]]"), 1);
    Profile::parse(&text, "test").expect("it is one")
});

#[derive(Debug, Clone, Copy, PartialEq)]
enum Type {
    File,
    Link,
    Directory,
}

use Type::{Directory, File, Link};

const TYPES: [Type; 3] = [File, Link, Directory];

/// The version of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum By {
    Old,
    New,
    Mine,
    /// The jail's version, changed in other lines than the new one.
    Beside,
    /// The old version of a directory, with a file of the jail's own.
    With,
}

type Version = Option<(Type, By)>;

/// The jail's object at the path.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mine {
    Has(Version),
    /// The directory above is an object of this type.
    Blocked(Type),
}

type Case = (Version, Version, Mine);

pub fn text(by: By) -> String {
    let (first, last) = match by {
        By::Old | By::With => ("1", "9"),
        By::New => ("1 new", "9"),
        By::Mine => ("1 mine", "9"),
        By::Beside => ("1", "9 mine"),
    };
    format!("{first}\n2\n3\n4\n5\n6\n7\n8\n{last}\n")
}

fn mode(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Creates a version of a file. Versions of a directory differ in its mode and everything in it.
fn make(at: &Path, version: Version) -> Result<(), Fail> {
    let Some((kind, by)) = version else {
        return Ok(());
    };
    match kind {
        File => fs::write(at, text(by))?,
        Link => symlink(format!("{by:?}"), at)?,
        Directory => {
            fs::create_dir_all(at.join("deep"))?;
            fs::write(at.join("y"), text(by))?;
            fs::write(at.join("deep/z"), text(by))?;
            if by == By::With {
                fs::write(at.join("deep/own"), "mine")?;
            }
            mode(
                at,
                match by {
                    By::Old | By::With => 0o755,
                    By::New => 0o750,
                    By::Mine | By::Beside => 0o700,
                },
            )?;
        }
    }
    Ok(())
}

/// Returns the object at a path as text, with modes, following no link. Files that a conflict has put beside others are
/// left out.
pub fn shown(path: &Path) -> String {
    let Ok(found) = fs::symlink_metadata(path) else {
        return "nothing".to_owned();
    };
    if found.is_symlink() {
        return format!("> {}", fs::read_link(path).expect("a link").display());
    }
    let mode = found.mode() & 0o7777;
    if found.is_file() {
        return format!("{mode:o} {:?}", fs::read_to_string(path).expect("a text"));
    }
    if !found.is_dir() {
        return "special".to_owned();
    }
    let entries = fs::read_dir(path).expect("a directory");
    let beside = |it: &PathBuf| it.extension().is_some_and(|it| it == "ezz-new");
    let paths = entries.map(|it| it.expect("an entry").path());
    let names: BTreeSet<PathBuf> = paths.filter(|it| !beside(it)).collect();
    let within: Vec<String> = names
        .iter()
        .map(|at| {
            format!(
                "{}: {}",
                at.file_name().expect("a name").to_string_lossy(),
                shown(at)
            )
        })
        .collect();
    format!("{mode:o} {{{}}}", within.join(", "))
}

/// Two skeletons and a jail.
pub struct Trees(tempfile::TempDir);

impl Trees {
    pub fn new() -> Result<Self, Fail> {
        let trees = Trees(tempfile::tempdir()?);
        for root in ["old", "new", "jail"] {
            for class in CLASSES.into_iter().chain(["whole"]) {
                fs::create_dir_all(trees.at(root, &format!("t/{class}")))?;
            }
        }
        Ok(trees)
    }

    pub fn at(&self, root: &str, path: &str) -> PathBuf {
        self.0.path().join(root).join(path)
    }

    pub fn put(&self, roots: &[&str], path: &str, text: &str) -> Result<(), Fail> {
        for root in roots {
            let at = self.at(root, path);
            fs::create_dir_all(at.parent().expect("it has one"))?;
            fs::write(at, text)?;
        }
        Ok(())
    }

    pub fn difference(&self) -> Result<Difference, Fail> {
        let (old, new) = (self.at("old", ""), self.at("new", ""));
        Ok(Difference::between(
            &old,
            &new,
            &PROFILE,
            &Context::quiet(),
        )?)
    }

    pub fn merge(&self) -> Result<Examined, Fail> {
        let (difference, jail) = (self.difference()?, self.at("jail", ""));
        let context = Context::quiet();
        let made = Patches::Made;
        let examined = examine(&difference, &jail, &mut InProcess, made, &context)?;
        assert_eq!(examined.obstacles, []);
        carry_out(&examined, difference.newer(), &jail, &context)?;
        Ok(examined)
    }
}

pub fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

/// Returns the cases that a cell of the table stands for.
fn cases(upstream: &str, has: &str) -> Vec<Case> {
    use By::{Beside, Mine as Own, New, Old, With};
    let others = |kind: Type| TYPES.into_iter().filter(move |it| *it != kind);
    let each = |of: &dyn Fn(Type) -> Case| TYPES.into_iter().map(of).collect::<Vec<_>>();
    let pairs = || {
        TYPES
            .into_iter()
            .flat_map(|a| others(a).map(move |b| (a, b)))
    };
    let any = || TYPES.into_iter().flat_map(|a| TYPES.map(|b| (a, b)));
    let (old, new, mine) = (
        |kind| Some((kind, Old)),
        |kind| Some((kind, New)),
        |kind| Mine::Has(Some((kind, Own))),
    );
    let has_old = |kind| Mine::Has(old(kind));
    let none = Mine::Has(None);
    let blocked = |was: fn(Type) -> Version, is: fn(Type) -> Version| {
        let by = [Link, File];
        let all = TYPES.into_iter().flat_map(|it| by.map(|by| (it, by)));
        all.map(|(it, by)| (was(it), is(it), Mine::Blocked(by)))
            .collect()
    };
    let with = |is: Version| (old(Directory), is, Mine::Has(Some((Directory, With))));
    let in_the_way = "a link or a file instead of a directory above it";
    match (upstream, has) {
        ("added", "nothing") => each(&|it| (None, new(it), none)),
        ("added", "the same") => each(&|it| (None, new(it), Mine::Has(new(it)))),
        ("added", "something else") => any().map(|(a, b)| (None, new(a), mine(b))).collect(),
        ("added", other) if other == in_the_way => blocked(|_| None, |it| Some((it, New))),
        ("changed", "the old version") => each(&|it| (old(it), new(it), has_old(it))),
        ("changed", "the new version") => each(&|it| (old(it), new(it), Mine::Has(new(it)))),
        ("changed", "a version with other changes, which go together") => {
            vec![(old(File), new(File), Mine::Has(Some((File, Beside))))]
        }
        ("changed", "a version with other changes, which do not go together") => {
            each(&|it| (old(it), new(it), mine(it)))
        }
        ("changed", "nothing: it was deleted") => each(&|it| (old(it), new(it), none)),
        ("changed", "something of another type") => {
            pairs().map(|(a, b)| (old(a), new(a), mine(b))).collect()
        }
        ("changed", other) if other == in_the_way => {
            blocked(|it| Some((it, Old)), |it| Some((it, New)))
        }
        ("removed", "the old version") => each(&|it| (old(it), None, has_old(it))),
        ("removed", "a version of its own") => each(&|it| (old(it), None, mine(it))),
        ("removed", "the old directory, with files of its own in it") => vec![with(None)],
        ("removed", "nothing: it was deleted") => each(&|it| (old(it), None, none)),
        ("removed", "something of another type") => {
            pairs().map(|(a, b)| (old(a), None, mine(b))).collect()
        }
        ("removed", other) if other == in_the_way => blocked(|it| Some((it, Old)), |_| None),
        ("another type", "the old version") => {
            pairs().map(|(a, b)| (old(a), new(b), has_old(a))).collect()
        }
        ("another type", "the new version") => pairs()
            .map(|(a, b)| (old(a), new(b), Mine::Has(new(b))))
            .collect(),
        ("another type", "a version of its own, of the old type") => {
            pairs().map(|(a, b)| (old(a), new(b), mine(a))).collect()
        }
        ("another type", "the old directory, with files of its own in it") => {
            [File, Link].map(|it| with(new(it))).to_vec()
        }
        ("another type", "nothing: it was deleted") => {
            pairs().map(|(a, b)| (old(a), new(b), none)).collect()
        }
        ("another type", "something of a third type") => pairs()
            .flat_map(|(a, b)| others(a).filter(move |c| *c != b).map(move |c| (a, b, c)))
            .map(|(a, b, c)| (old(a), new(b), mine(c)))
            .collect(),
        other => panic!("no cases for {other:?}"),
    }
}

/// Carries out one case in a class, and returns the table's word for the result.
fn outcome(class: &str, (was, is, mine): Case) -> Result<String, Fail> {
    let trees = Trees::new()?;
    let path = format!("t/{class}/above/x");
    for (root, version) in [("old", was), ("new", is)] {
        fs::create_dir(trees.at(root, &format!("t/{class}/above")))?;
        make(&trees.at(root, &path), version)?;
    }
    let outside = trees.at("outside", "");
    fs::create_dir(&outside)?;
    let above = trees.at("jail", &format!("t/{class}/above"));
    match mine {
        Mine::Has(version) => {
            fs::create_dir(&above)?;
            make(&trees.at("jail", &path), version)?;
        }
        Mine::Blocked(Link) => {
            // The link leads to a file like that of the old skeleton, which must not be mistaken for the jail's.
            symlink(&outside, &above)?;
            make(&outside.join("x"), was)?;
        }
        Mine::Blocked(_) => fs::write(&above, "in the way")?,
    }
    let at = trees.at("jail", &path);
    let (before, jail) = (shown(&at), shown(&trees.at("jail", "")));
    let beyond = shown(&outside);
    let Examined { changes, .. } = trees.merge()?;
    let after = shown(&at);
    assert_eq!(shown(&outside), beyond, "nothing follows a link");
    let said = lines(&changes);
    let some = |wanted: &dyn Fn(&What) -> bool| changes.iter().any(|it| wanted(&it.what));
    let conflict = some(&|what| matches!(what, What::Conflict(_)));
    let left = some(&|what| matches!(what, What::Left(_)));
    let unchanged = before == after;
    let word = if changes.is_empty() {
        assert_eq!(shown(&trees.at("jail", "")), jail);
        "–"
    } else if conflict {
        assert!(unchanged && !left, "{said:?}");
        let beside = trees.at("jail", &format!("{path}.ezz-new"));
        if let Mine::Has(_) = mine {
            let new = shown(&trees.at("new", &path));
            let files = is.is_some_and(|(kind, _)| kind != Directory);
            // If both have a directory, each file in it has its own copy beside it.
            if files || !fs::symlink_metadata(&at).is_ok_and(|it| it.is_dir()) {
                assert_eq!(shown(&beside), new, "{said:?}");
            }
        }
        "conflict"
    } else if left {
        if let Mine::Has(Some((_, By::With))) = mine {
            assert!(at.join("deep/own").is_file());
            let gone = is.is_none();
            assert_eq!(at.join("y").exists(), !gone, "{said:?}");
        } else {
            assert!(unchanged, "{said:?}: {before} became {after}");
            assert_eq!(shown(&trees.at("jail", "")), jail);
        }
        "stays"
    } else if some(&|what| matches!(what, What::Merge(_))) {
        assert!(
            after.contains("1 new") && after.contains("9 mine"),
            "{after}"
        );
        "merged"
    } else if some(&|what| *what == What::Take) {
        assert_eq!(after, shown(&trees.at("new", &path)), "{said:?}");
        "taken"
    } else {
        assert_eq!(after, "nothing", "{said:?}");
        "removed"
    };
    // The merge is complete: a second one finds the same conflicts, and has nothing else to do.
    let again = trees.merge()?.changes;
    let done = |it: &Change| matches!(it.what, What::Conflict(_) | What::Left(_) | What::Merge(_));
    assert!(again.iter().all(done), "{:?}", lines(&again));
    Ok(word.to_owned())
}

#[test]
fn each_cell_of_the_table_is_true() -> Result<(), Fail> {
    let rows = DOC.lines().filter(|line| line.starts_with('|'));
    let rows = rows.map(|line| -> Vec<&str> {
        let cells = line.trim_matches('|').split('|');
        cells.map(str::trim).collect()
    });
    let mut count = 0;
    let mut table = rows.skip_while(|cells| cells.first() != Some(&"upstream"));
    let head = table.next().expect("the table");
    assert_eq!(head[2..], CLASSES);
    for cells in table.skip(1) {
        let cases = cases(cells[0], cells[1]);
        assert!(!cases.is_empty(), "{cells:?}");
        for (class, expected) in CLASSES.into_iter().zip(&cells[2..]) {
            for case in &cases {
                let word = outcome(class, *case)?;
                assert_eq!(word, *expected, "{class}: {cells:?}: {case:?}");
                count += 1;
            }
        }
    }
    assert!(count > 400, "{count} cases");
    Ok(())
}

#[test]
fn what_is_added_brings_its_directories_with_mode_and_attributes() -> Result<(), Fail> {
    for class in ["merged", "followed", "seeded", "derived"] {
        let trees = Trees::new()?;
        let path = format!("t/{class}/a/b/file");
        trees.put(&["new"], &path, "new")?;
        for root in ["old", "new"] {
            for (dir, bits) in [("a/b", 0o1770), ("a", 0o2750)] {
                let at = trees.at(root, &format!("t/{class}/{dir}"));
                fs::create_dir_all(&at)?;
                mode(&at, bits)?;
                // Not every file system has extended attributes.
                let _ = xattr::set(&at, "user.ezz", b"value");
            }
        }
        // The jail has deleted both, and upstream has not changed them.
        let said = lines(&trees.merge()?.changes);
        let taken = [&path[..path.len() - 7], &path[..path.len() - 5], &path];
        assert_eq!(said, taken.map(|path| format!("take {path}")));
        let at = |root| trees.at(root, &format!("t/{class}/a"));
        assert_eq!(shown(&at("jail")), shown(&at("new")));
        let of = |at: PathBuf| xattr::get(at.join("b"), "user.ezz").ok().flatten();
        assert_eq!(of(at("jail")), of(at("new")));
    }
    Ok(())
}

#[test]
fn a_database_comes_as_a_whole_or_not_at_all() -> Result<(), Fail> {
    let two = |trees: &Trees| -> Result<(), Fail> {
        trees.put(&["old"], "t/whole/main/base/1", "old")?;
        for file in ["base/1", "base/2", "wal/2"] {
            trees.put(&["new"], &format!("t/whole/main/{file}"), "new")?;
        }
        Ok(())
    };
    // The jail's own database stays, changed or not, and gets no parts of the other.
    for text in ["old", "mine"] {
        let trees = Trees::new()?;
        two(&trees)?;
        trees.put(&["jail"], "t/whole/main/base/1", text)?;
        let before = shown(&trees.at("jail", ""));
        let said = lines(&trees.merge()?.changes);
        let why = "you have one, and parts of another do not fit into it";
        assert_eq!(said, [format!("leave t/whole/main ({why})")]);
        assert_eq!(shown(&trees.at("jail", "")), before);
    }
    // A database that the jail does not have is added, also into an empty directory.
    for empty in [false, true] {
        let trees = Trees::new()?;
        for file in ["base/1", "wal/2"] {
            trees.put(&["new"], &format!("t/whole/main/{file}"), "new")?;
        }
        if empty {
            fs::create_dir(trees.at("jail", "t/whole/main"))?;
        }
        trees.merge()?;
        let whole = |root| shown(&trees.at(root, "t/whole"));
        assert_eq!(whole("jail"), whole("new"));
    }
    // One that the jail has removed or emptied gets no part of the other.
    for empty in [false, true] {
        let trees = Trees::new()?;
        two(&trees)?;
        if empty {
            fs::create_dir(trees.at("jail", "t/whole/main"))?;
        }
        let before = shown(&trees.at("jail", ""));
        let said = lines(&trees.merge()?.changes);
        let why = "the release changed it, and you have deleted it";
        assert_eq!(said, [format!("leave t/whole/main ({why})")]);
        assert_eq!(shown(&trees.at("jail", "")), before);
    }
    Ok(())
}

#[test]
fn texts_of_databases_that_stay_get_a_new_time() -> Result<(), Fail> {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let cases = [
        // The text and the database: of the old skeleton, the jail, and the new one. Here the release's versions win:
        (["a\n", "a\n", "b\n"], ["1", "1", "2"], false),
        (["a\n", "a\n", "a\n"], ["1", "1", "2"], false),
        // Here the jail has its own version of at least one of them.
        (["a\n", "a\n", "b\n"], ["1", "mine", "1"], true),
        (["a\n", "a\n", "a\n"], ["1", "mine", "2"], true),
        (["a\n", "b\n", "a\n"], ["1", "mine", "2"], true),
        (["a\n", "b\n", "a\n"], ["1", "1", "2"], true),
        (["a\n", "b\n", "a\n"], ["1", "mine", "1"], false),
    ];
    for (from, made, renewed) in cases {
        let trees = Trees::new()?;
        for (at, root) in ["old", "jail", "new"].into_iter().enumerate() {
            for (path, text) in [("t/merged/text", from[at]), ("t/derived/made", made[at])] {
                trees.put(&[root], path, text)?;
                fs::File::options()
                    .write(true)
                    .open(trees.at(root, path))?
                    .set_modified(then)?;
            }
        }
        let examined = trees.merge()?;
        let time = fs::metadata(trees.at("jail", "t/merged/text"))?.modified()?;
        assert_eq!(!examined.renewed.is_empty(), renewed, "{from:?} {made:?}");
        assert_eq!(time > then, renewed, "{from:?} {made:?}");
    }
    Ok(())
}

#[test]
fn deleted_parents_at_every_depth_are_no_error() -> Result<(), Fail> {
    for class in CLASSES {
        for depth in ["a", "a/b", "a/b/c"] {
            let trees = Trees::new()?;
            for (root, text) in [("old", "old"), ("new", "new"), ("jail", "old")] {
                for file in ["changed", "added", "removed"] {
                    let there = match root {
                        "new" => file != "removed",
                        _ => file != "added",
                    };
                    if there {
                        trees.put(&[root], &format!("t/{class}/a/b/c/{file}"), text)?;
                    }
                }
            }
            #[expect(clippy::disallowed_methods, reason = "nothing is mounted in it")]
            fs::remove_dir_all(trees.at("jail", &format!("t/{class}/{depth}")))?;
            let changes = trees.merge()?.changes;
            let at = |file: &str| trees.at("jail", &format!("t/{class}/a/b/c/{file}"));
            let has = ["changed", "added", "removed"].map(|file| at(file).exists());
            assert_eq!(
                has,
                [false, class != "kept", false],
                "{:?}",
                lines(&changes)
            );
            assert_eq!(at("changed.ezz-new").exists(), class == "merged");
        }
    }
    Ok(())
}

#[test]
fn one_difference_serves_many_jails() -> Result<(), Fail> {
    let trees = Trees::new()?;
    trees.put(&["old"], "t/followed/x", "old")?;
    trees.put(&["new"], "t/followed/x", "new")?;
    let difference = trees.difference()?;
    for (name, text, expected) in [
        ("a", "old", "new"),
        ("b", "mine", "mine"),
        ("c", "old", "new"),
    ] {
        let jail = trees.at(name, "");
        trees.put(&[name], "t/followed/x", text)?;
        let (context, patches) = (Context::quiet(), Patches::Left);
        let examined = examine(&difference, &jail, &mut InProcess, patches, &context)?;
        carry_out(&examined, difference.newer(), &jail, &context)?;
        assert_eq!(fs::read_to_string(jail.join("t/followed/x"))?, expected);
    }
    Ok(())
}
