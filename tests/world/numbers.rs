//! The owners of a tree are renumbered: files that need other accounts' rights belong to root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use ezz::hint::Hint as _;
use ezz::profile::Profile;
use ezz::world::merge::{Difference, Examined, Patches, What, carry_out, examine};
use ezz::world::numbers::{Accounts, Ledger, Limits, Moves, assign, of_base, renumber, write};
use ezz::world::text::InProcess;
use ezz::world::{Cancel, Context, WorldError, manifest};

use crate::{Fail, is_root};

fn profile(name: &str) -> Result<&'static Profile, Fail> {
    let mut all = Profile::builtin().iter();
    Ok(all.find(|it| it.name == name).ok_or("it is built in")?)
}

/// Returns moves that exchange 101 and 102; the group 101 becomes 999.
fn moves() -> Moves {
    let mut moves = Moves::default();
    moves.users.extend([(101, 102), (102, 101)]);
    moves.groups.extend([(101, 999)]);
    moves
}

/// Creates a file with these owners and this mode.
fn file(root: &Path, name: &str, owner: (u32, u32), mode: u32) -> Result<(), Fail> {
    let at = root.join(name);
    fs::write(&at, name)?;
    chown(&at, Some(owner.0), Some(owner.1))?;
    Ok(fs::set_permissions(&at, fs::Permissions::from_mode(mode))?)
}

/// Returns owner, group and mode.
fn is(root: &Path, name: &str) -> Result<(u32, u32, u32), Fail> {
    let found = fs::symlink_metadata(root.join(name))?;
    Ok((found.uid(), found.gid(), found.mode() & 0o7777))
}

/// Returns an access control list of version 2 with an entry for a user and one for a group.
fn list(user: u32, group: u32) -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    let entries = [
        (1_u16, 7_u16, NONE),
        (2, 4, user),
        (4, 5, NONE),
        (8, 1, group),
        (16, 5, NONE),
        (32, 0, NONE),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn everything_but_the_owner_stays() -> Result<(), Fail> {
    if !is_root("everything_but_the_owner_stays") {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let root = directory.path();
    fs::create_dir_all(root.join("etc"))?;
    let passwd = "root:x:0:0::/root:/bin/sh\ndb:x:101:101::/:\nwww:x:102:5::/:\n";
    fs::write(root.join("etc/passwd"), passwd)?;
    fs::write(root.join("etc/group"), "root:x:0:\ndb:x:101:www\n")?;
    fs::create_dir(root.join("spool"))?;
    chown(root.join("spool"), Some(101), Some(101))?;
    fs::set_permissions(root.join("spool"), fs::Permissions::from_mode(0o3775))?;
    file(root, "suid", (101, 101), 0o6755)?;
    file(root, "roots", (0, 0), 0o4755)?;
    file(root, "one", (101, 7), 0o640)?;
    fs::hard_link(root.join("one"), root.join("two"))?;
    fs::hard_link(root.join("one"), root.join("spool/three"))?;
    symlink("nowhere", root.join("link"))?;
    lchown(root.join("link"), Some(102), Some(101))?;
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), 0o620.into())?;
    chown(root.join("fifo"), Some(101), Some(101))?;
    fs::set_permissions(root.join("fifo"), fs::Permissions::from_mode(0o620))?;
    file(root, "capable", (102, 0), 0o755)?;
    // cap_net_bind_service, permitted and effective, in version 2.
    let capability = hex::decode("0100000200040000000000000000000000000000")?;
    xattr::set(root.join("capable"), "security.capability", &capability)?;
    file(root, "listed", (0, 0), 0o750)?;
    xattr::set(
        root.join("listed"),
        "system.posix_acl_access",
        &list(101, 101),
    )?;
    xattr::set(
        root.join("spool"),
        "system.posix_acl_default",
        &list(102, 5),
    )?;
    let time = fs::symlink_metadata(root.join("suid"))?.mtime_nsec();

    let context = Context::quiet();
    let changed = renumber(root, profile("debian")?, &moves(), &context)?;
    assert_eq!(changed, 7, "spool, suid, one, link, fifo, capable, listed");
    assert_eq!(is(root, "spool")?, (102, 999, 0o3775));
    assert_eq!(is(root, "suid")?, (102, 999, 0o6755));
    assert_eq!(fs::symlink_metadata(root.join("suid"))?.mtime_nsec(), time);
    assert_eq!(is(root, "roots")?, (0, 0, 0o4755));
    for name in ["one", "two", "spool/three"] {
        assert_eq!(is(root, name)?, (102, 7, 0o640), "{name}");
    }
    let (uid, gid, _) = is(root, "link")?;
    assert_eq!((uid, gid), (101, 999));
    assert_eq!(is(root, "fifo")?, (102, 999, 0o620));
    assert_eq!(is(root, "capable")?, (101, 0, 0o755));
    let found = |name: &str, attribute: &str| xattr::get(root.join(name), attribute);
    assert_eq!(found("capable", "security.capability")?, Some(capability));
    let access = found("listed", "system.posix_acl_access")?;
    assert_eq!(access, Some(list(102, 999)));
    let default = found("spool", "system.posix_acl_default")?;
    assert_eq!(default, Some(list(101, 5)));
    assert_eq!(
        fs::read_to_string(root.join("etc/passwd"))?,
        "root:x:0:0::/root:/bin/sh\ndb:x:102:999::/:\nwww:x:101:5::/:\n"
    );
    assert_eq!(
        fs::read_to_string(root.join("etc/group"))?,
        "root:x:0:\ndb:x:999:www\n"
    );
    Ok(())
}

/// The jail's start rebuilds spwd.db if master.passwd is newer.
#[test]
fn a_text_that_a_database_is_made_from_becomes_newer_than_it() -> Result<(), Fail> {
    let directory = tempfile::tempdir()?;
    let root = directory.path();
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/master.passwd"), "db:*:101:5::0:0::/:\n")?;
    fs::write(root.join("etc/spwd.db"), "")?;
    let mut users = Moves::default();
    users.users.extend([(101, 102)]);
    renumber(root, profile("freebsd")?, &users, &Context::quiet())?;
    let text = fs::read_to_string(root.join("etc/master.passwd"))?;
    assert_eq!(text, "db:*:102:5::0:0::/:\n");
    let time = |name: &str| fs::metadata(root.join(name)).map(|found| found.mtime());
    assert!(time("etc/master.passwd")? > time("etc/spwd.db")?);
    Ok(())
}

#[test]
fn nothing_to_move_is_no_walk_and_a_cancelled_one_says_so() -> Result<(), Fail> {
    let directory = tempfile::tempdir()?;
    let context = Context {
        cancel: Cancel::default(),
        ..Context::quiet()
    };
    context.cancel.cancel();
    let nothing = Moves::default();
    assert_eq!(
        renumber(directory.path(), profile("debian")?, &nothing, &context)?,
        0
    );
    let refused = renumber(directory.path(), profile("debian")?, &moves(), &context);
    assert!(matches!(refused, Err(WorldError::Interrupted)));
    Ok(())
}

#[test]
fn the_ledger_is_part_of_the_manifest() -> Result<(), Fail> {
    let directory = tempfile::tempdir()?;
    let root = directory.path();
    fs::create_dir_all(root.join("etc"))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:\ndb:x:102:5::/:\n")?;
    // A base from before there were ledgers.
    let old = of_base(root)?;
    assert_eq!(old.text(), "# ezz accounts 1\nuser db 102\n");
    let context = Context::quiet();
    manifest::write(root, &context)?;
    let (before, _) = manifest::read(root)?;
    write(root, &old)?;
    assert_eq!(of_base(root)?, old);
    let found = manifest::verify(root, &before, &context)?;
    assert_eq!(found.len(), 1, "{found:?}");
    manifest::write(root, &context)?;
    let (after, _) = manifest::read(root)?;
    assert_eq!(manifest::verify(root, &after, &context)?, []);
    // The ledger is no difference between two worlds.
    assert_eq!(manifest::diff(&before, &after)?, []);
    fs::write(root.join(".ezz/accounts"), "# ezz accounts 1\n")?;
    assert!(!manifest::verify(root, &after, &context)?.is_empty());
    for (text, line) in [("nonsense", 1), ("# ezz accounts 1\nuser a\n", 2)] {
        fs::write(root.join(".ezz/accounts"), text)?;
        let refused = of_base(root);
        assert!(
            matches!(&refused, Err(it @ WorldError::Ledger { line: at, .. }) if *at == line && it.hint().is_some()),
            "{refused:?}"
        );
    }
    Ok(())
}

/// A link or a directory in the place of an account file, no account file, and one of a hundred thousand lines.
#[test]
fn odd_account_files_are_taken_as_they_are() -> Result<(), Fail> {
    let directory = tempfile::tempdir()?;
    let root = directory.path();
    assert_eq!(Accounts::read(root)?, Accounts::default());
    fs::create_dir_all(root.join("etc/group"))?;
    symlink("../../etc/passwd", root.join("etc/passwd"))?;
    assert_eq!(Accounts::read(root)?, Accounts::default());
    fs::remove_file(root.join("etc/passwd"))?;
    let lines = |number: fn(u32) -> u32| -> String {
        (0..100_000)
            .map(|n| format!("n{n}:x:{}:{}::/:\n", number(n), number(n)))
            .collect()
    };
    fs::write(root.join("etc/passwd"), lines(|n| n + 1))?;
    let limits = Limits { ids: None };
    let first = assign(&Accounts::read(root)?, &Ledger::default(), limits)?;
    assert!(first.moves.is_empty());
    fs::write(root.join("etc/passwd"), lines(|n| 200_000 - n))?;
    let second = assign(&Accounts::read(root)?, &first.ledger, limits)?;
    // One of them had 65534 at first, which belongs to no account.
    assert_eq!(second.renumbered.len(), 99_999);
    renumber(root, profile("debian")?, &second.moves, &Context::quiet())?;
    let text = fs::read_to_string(root.join("etc/passwd"))?;
    assert!(text.starts_with("n0:x:1:") && text.contains("\nn99999:x:100000:"));
    Ok(())
}

/// Creates three trees with account files and merges; the jail may have an account of its own.
fn merged(new: &str, jail: &str, base: Option<&Path>) -> Result<(Examined, String), Fail> {
    let old = "root:x:0:0::/:/bin/sh\ndb:x:102:5::/:/bin/sh\n";
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    for (name, text) in [("old", old), ("new", new), ("jail", jail)] {
        fs::create_dir_all(at(name).join("etc"))?;
        fs::write(at(name).join("etc/passwd"), text)?;
    }
    let context = Context::quiet();
    let mut difference = Difference::between(&at("old"), &at("new"), profile("debian")?, &context)?;
    if let Some(base) = base {
        difference = difference.with_base(base.to_owned());
    }
    let jail = &at("jail");
    let found = examine(&difference, jail, &mut InProcess, Patches::Left, &context)?;
    carry_out(&found, difference.newer(), jail, &context)?;
    let text = fs::read_to_string(at("jail").join("etc/passwd"))?;
    Ok((found, text))
}

/// A release of an older ezz that had another number for db, and gave db's number to www.
const OTHER: &str = "root:x:0:0::/root:/bin/sh\ndb:x:101:5::/:/bin/sh\nwww:x:102:102::/:/bin/sh\n";

#[test]
fn a_jails_accounts_keep_their_numbers_whatever_the_release_says() -> Result<(), Fail> {
    // The jail has not changed db, but its files carry the number.
    let untouched = "root:x:0:0::/:/bin/sh\ndb:x:102:5::/:/bin/sh\n";
    let (found, text) = merged(OTHER, untouched, None)?;
    assert_eq!(
        text,
        "root:x:0:0::/root:/bin/sh\ndb:x:102:5::/:/bin/sh\nwww:x:999:102::/:/bin/sh\n"
    );
    assert_eq!(found.changes.len(), 1, "{found:?}");
    // The jail has another shell for db, and an account with 999.
    let changed = "root:x:0:0::/:/bin/sh\ndb:x:102:5::/:/bin/zsh\nmine:x:999:999::/:/bin/sh\n";
    let (_, text) = merged(OTHER, changed, None)?;
    assert_eq!(
        text,
        "root:x:0:0::/root:/bin/sh\ndb:x:102:5::/:/bin/zsh\nwww:x:998:102::/:/bin/sh\nmine:x:999:999::/:/bin/sh\n"
    );
    // A difference in numbers alone is no change.
    let renumbered = "root:x:0:0::/:/bin/sh\ndb:x:77:5::/:/bin/sh\n";
    let (found, text) = merged(renumbered, untouched, None)?;
    assert_eq!((found.changes.len(), text.as_str()), (0, untouched));
    Ok(())
}

#[test]
fn a_number_that_shared_files_carry_is_a_conflict_where_it_is_anothers() -> Result<(), Fail> {
    if !is_root("a_number_that_shared_files_carry_is_a_conflict_where_it_is_anothers") {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let base = directory.path();
    fs::create_dir_all(base.join("usr/bin"))?;
    file(base, "usr/bin/www", (0, 102), 0o2755)?;
    let untouched = "root:x:0:0::/:/bin/sh\ndb:x:102:5::/:/bin/sh\n";
    manifest::write(base, &Context::quiet())?;
    // 102 is a group in the base, but a user here.
    let (found, _) = merged(OTHER, untouched, Some(base))?;
    assert!(matches!(found.changes[0].what, What::Merge(_)), "{found:?}");
    chown(base.join("usr/bin/www"), Some(102), Some(0))?;
    manifest::write(base, &Context::quiet())?;
    let (found, text) = merged(OTHER, untouched, Some(base))?;
    let told = found.changes[0].to_string();
    assert!(
        told.starts_with("CONFLICT etc/passwd (files of the release belong to the user www by the number 102, which is db's"),
        "{told}"
    );
    assert_eq!(text, untouched);
    Ok(())
}

/// On a way back without snapshots, or in a release without an account that the previous one had: its number must not
/// become free while files of the jail carry it.
#[test]
fn an_account_that_the_release_removes_stays_while_files_carry_its_number() -> Result<(), Fail> {
    if !is_root("an_account_that_the_release_removes_stays_while_files_carry_its_number") {
        return Ok(());
    }
    let both = "root:x:0:0::/root:/bin/sh\nnewy:x:997:997::/:/bin/sh\n";
    let one = "root:x:0:0::/root:/bin/sh\n";
    for (owner, stays) in [(Some(999), true), (None, false)] {
        let trees = tempfile::tempdir()?;
        let at = |tree: &str| trees.path().join(tree).join("etc");
        let lists = |tree: &str, passwd: &str, group: &str, shadow: &str| -> std::io::Result<()> {
            fs::create_dir_all(at(tree))?;
            fs::write(at(tree).join("passwd"), passwd)?;
            fs::write(at(tree).join("group"), group)?;
            fs::write(at(tree).join("shadow"), shadow)
        };
        let shadow = "root:*:1::::::\n";
        lists(
            "old",
            both,
            "root:x:0:\nnewy:x:997:\n",
            "root:*:1::::::\nnewy:!:1::::::\n",
        )?;
        lists("new", one, "root:x:0:\n", shadow)?;
        // In the jail, newy got 999, because 997 is the user mine of the jail.
        lists(
            "jail",
            "root:x:0:0::/root:/bin/sh\nmine:x:997:997::/:/bin/sh\nnewy:x:999:999::/:/bin/sh\n",
            "root:x:0:\nmine:x:997:\nnewy:x:999:\n",
            "root:*:1::::::\nnewy:!:1::::::\n",
        )?;
        let jail = trees.path().join("jail");
        fs::create_dir_all(jail.join("var/lib/newy"))?;
        fs::write(jail.join("var/lib/newy/row"), "row")?;
        if let Some(owner) = owner {
            chown(jail.join("var/lib/newy/row"), Some(owner), Some(owner))?;
        }
        let context = Context::quiet();
        let difference = Difference::between(
            &trees.path().join("old"),
            &trees.path().join("new"),
            profile("debian")?,
            &context,
        )?;
        let examined = examine(&difference, &jail, &mut InProcess, Patches::Left, &context)?;
        carry_out(&examined, difference.newer(), &jail, &context)?;
        for (file, line) in [
            ("passwd", "newy:x:999:999::/:/bin/sh\n"),
            ("group", "newy:x:999:\n"),
            ("shadow", "newy:!:1::::::\n"),
        ] {
            let text = fs::read_to_string(jail.join("etc").join(file))?;
            assert_eq!(text.contains(line), stays, "{file}: {text}");
        }
        let notes: Vec<String> = examined.kept.iter().map(ToString::to_string).collect();
        let wanted: &[&str] = if stays {
            &[
                "etc/group stays: these still own files: newy",
                "etc/passwd stays: these still own files: newy",
            ]
        } else {
            &[]
        };
        assert_eq!(notes, wanted);
    }
    Ok(())
}

/// A jail that has another name for an account, or has given its number to another account.
struct Renamed {
    trees: tempfile::TempDir,
}

impl Renamed {
    /// Creates skeletons with db as 102, and a jail in which dbadm has 102; both have a file of 102.
    fn new() -> Result<Self, Fail> {
        let renamed = Renamed {
            trees: tempfile::tempdir()?,
        };
        for (tree, name) in [("old", "db"), ("new", "db"), ("jail", "dbadm")] {
            let root = renamed.at(tree);
            fs::create_dir_all(root.join("etc"))?;
            fs::create_dir_all(root.join("opt/db"))?;
            let passwd = format!("root:x:0:0::/root:/bin/sh\n{name}:x:102:102::/:/bin/sh\n");
            fs::write(root.join("etc/passwd"), passwd)?;
            fs::write(
                root.join("etc/group"),
                format!("root:x:0:\n{name}:x:102:\n"),
            )?;
            fs::write(root.join("opt/db/data"), "data")?;
            chown(root.join("opt/db/data"), Some(102), Some(102))?;
        }
        Ok(renamed)
    }

    fn at(&self, tree: &str) -> std::path::PathBuf {
        self.trees.path().join(tree)
    }

    fn merge(&self, bases: [Option<&str>; 2]) -> Result<Examined, Fail> {
        let context = Context::quiet();
        let (old, new, jail) = (self.at("old"), self.at("new"), self.at("jail"));
        let mut found = Difference::between(&old, &new, profile("debian")?, &context)?;
        if let Some(base) = bases[0] {
            found = found.with_old_base(self.at(base));
        }
        if let Some(base) = bases[1] {
            found = found.with_base(self.at(base));
        }
        let examined = examine(&found, &jail, &mut InProcess, Patches::Left, &context)?;
        carry_out(&examined, found.newer(), &jail, &context)?;
        Ok(examined)
    }
}

fn conflicts(examined: &Examined) -> Vec<String> {
    let all = examined.changes.iter();
    all.filter(|change| change.conflict().is_some())
        .map(|change| format!("{}", change.path))
        .collect()
}

#[test]
fn the_files_of_a_renamed_account_stay_its_own() -> Result<(), Fail> {
    if !is_root("the_files_of_a_renamed_account_stay_its_own") {
        return Ok(());
    }
    let trees = Renamed::new()?;
    fs::write(trees.at("new/etc/motd"), "new")?;
    let found = trees.merge([None, None])?;
    assert_eq!(conflicts(&found), [""; 0]);
    assert_eq!(found.changes.len(), 1, "{found:?}");
    assert_eq!(is(&trees.at("jail"), "opt/db/data")?.0, 102);
    // The administrator must decide who owns a new file of db.
    let trees = Renamed::new()?;
    fs::write(trees.at("new/opt/db/more"), "more")?;
    chown(trees.at("new/opt/db/more"), Some(102), Some(0))?;
    let found = trees.merge([None, None])?;
    assert_eq!(conflicts(&found), ["etc/passwd"]);
    Ok(())
}

#[test]
fn a_base_that_gives_files_to_anothers_number_is_a_conflict_also_where_lists_do_not_change()
-> Result<(), Fail> {
    if !is_root("a_base_that_gives_files_to_anothers_number_is_a_conflict") {
        return Ok(());
    }
    let trees = Renamed::new()?;
    fs::write(trees.at("new/etc/motd"), "new")?;
    for base in ["base1", "base2"] {
        let root = trees.at(base);
        fs::create_dir_all(root.join("usr/bin"))?;
        fs::create_dir_all(root.join("etc"))?;
        fs::copy(trees.at("new/etc/passwd"), root.join("etc/passwd"))?;
        fs::copy(trees.at("new/etc/group"), root.join("etc/group"))?;
        fs::write(root.join("usr/bin/tool"), base)?;
    }
    let tool = trees.at("base2/usr/bin/tool");
    chown(&tool, Some(0), Some(102))?;
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o2755))?;
    for base in ["base1", "base2"] {
        write(&trees.at(base), &Ledger::default())?;
        manifest::write(&trees.at(base), &Context::quiet())?;
    }
    // Files of the previous base already had the number, so this is no new conflict.
    assert_eq!(
        conflicts(&trees.merge([Some("base2"), Some("base2")])?),
        [""; 0]
    );
    let found = trees.merge([Some("base1"), Some("base2")])?;
    assert_eq!(conflicts(&found), ["etc/group"]);
    Ok(())
}

#[test]
fn a_number_that_the_site_has_used_is_not_given_to_a_new_account_of_a_jail() -> Result<(), Fail> {
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    for (tree, passwd) in [
        ("old", ""),
        ("new", "web:x:500:500::/:/bin/sh\n"),
        ("jail", "mine:x:500:500::/:/bin/sh\n"),
        ("base", "web:x:500:500::/:/bin/sh\n"),
    ] {
        fs::create_dir_all(at(tree).join("etc"))?;
        let text = format!("root:x:0:0::/root:/bin/sh\n{passwd}");
        fs::write(at(tree).join("etc/passwd"), text)?;
    }
    // The site once had an account svc, which was removed.
    write(
        &at("base"),
        &Ledger::parse("# ezz accounts 1\nuser svc 999\nuser web 500\n")?,
    )?;
    manifest::write(&at("base"), &Context::quiet())?;
    let context = Context::quiet();
    let found = Difference::between(&at("old"), &at("new"), profile("debian")?, &context)?;
    let found = found.with_base(at("base"));
    let examined = examine(&found, &at("jail"), &mut InProcess, Patches::Left, &context)?;
    carry_out(&examined, found.newer(), &at("jail"), &context)?;
    let text = fs::read_to_string(at("jail/etc/passwd"))?;
    assert!(text.contains("web:x:998:"), "{text}");
    Ok(())
}

#[test]
fn what_the_release_removes_goes_also_where_the_jail_has_another_number() -> Result<(), Fail> {
    if !is_root("what_the_release_removes_goes_also_where_the_jail_has_another_number") {
        return Ok(());
    }
    let trees = Renamed::new()?;
    // In the jail, db has 999.
    let passwd = "root:x:0:0::/root:/bin/sh\ndb:x:999:999::/:/bin/sh\n";
    fs::write(trees.at("jail/etc/passwd"), passwd)?;
    fs::write(trees.at("jail/etc/group"), "root:x:0:\ndb:x:999:\n")?;
    chown(trees.at("jail/opt/db/data"), Some(999), Some(999))?;
    fs::write(trees.at("new/etc/passwd"), "root:x:0:0::/root:/bin/sh\n")?;
    fs::write(trees.at("new/etc/group"), "root:x:0:\n")?;
    fs::remove_file(trees.at("new/opt/db/data"))?;
    let found = trees.merge([None, None])?;
    assert_eq!(conflicts(&found), [""; 0]);
    assert!(!trees.at("jail/opt/db/data").exists(), "{found:?}");
    let text = fs::read_to_string(trees.at("jail/etc/passwd"))?;
    assert!(!text.contains("db:"), "{text}");
    Ok(())
}
