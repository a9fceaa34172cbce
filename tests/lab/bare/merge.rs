//! `ezz merge`: a jail's own files, three-way.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::support::*;

const WORLD: &str = "/tmp/small";
const JAIL: &str = "/srv/jails/j";

fn put(root: &str, files: &[(&str, &str)]) {
    for (name, text) in files {
        let at = Path::new(root).join("etc").join(name);
        fs::create_dir_all(at.parent().expect("it has one")).expect("made");
        fs::write(at, text).expect("written");
    }
}

fn has(name: &str) -> Option<String> {
    fs::read_to_string(Path::new(JAIL).join("etc").join(name)).ok()
}

#[track_caller]
fn install() {
    sh(&format!("tar -cf {WORLD}.tar -C {WORLD} .")).ok();
    ezz(&["install", &format!("{WORLD}.tar")]).ok();
}

/// Two generations whose /etc differs, and a jail of the first, stopped, that is due on the second.
#[track_caller]
fn two_releases() {
    init();
    small_world(Path::new(WORLD), "12.1");
    let first = [
        ("release", "one\n"),
        ("lines", "a\nb\nc\nd\ne\nf\ng\nh\n"),
        ("both", "1\n2\n3\n"),
        ("mine", "theirs\n"),
        ("gone", "old\n"),
        ("gone-mine", "old\n"),
        ("deleted", "old\n"),
        ("sub/file", "1\n"),
        ("tool", "#!\n"),
        ("ssl/certs/own", "made\n"),
        ("becomes-directory", "old\n"),
        ("becomes-link/file", "old\n"),
        ("becomes-file/deep/file", "old\n"),
        ("mine-becomes-directory", "old\n"),
        ("mine-becomes-link/file", "old\n"),
    ];
    put(WORLD, &first);
    symlink("release", format!("{WORLD}/etc/link")).expect("made");
    install();
    ezz(&["create", "j"]).ok();
    let second = [
        ("release", "two\n"),
        ("lines", "A\nb\nc\nd\ne\nf\ng\nh\n"),
        ("both", "1\n2 theirs\n3\n"),
        ("deleted", "new\n"),
        ("added/file", "new\n"),
        ("sub/file", "2\n"),
        ("ssl/certs/own", "changed\n"),
        ("becomes-directory/file", "new\n"),
        ("becomes-file", "new\n"),
        ("mine-becomes-directory/file", "new\n"),
        (
            "passwd",
            "root:x:0:0:root:/root:/bin/sh\n_new:x:99:99::/:\n",
        ),
    ];
    sh(&format!("cd {WORLD}/etc && rm -r becomes-* mine-becomes-* && ln -s sub becomes-link && ln -s sub mine-becomes-link")).ok();
    put(WORLD, &second);
    for gone in ["gone", "gone-mine", "link"] {
        fs::remove_file(format!("{WORLD}/etc/{gone}")).expect("removed");
    }
    symlink("lines", format!("{WORLD}/etc/link")).expect("made");
    let tool = fs::Permissions::from_mode(0o755);
    fs::set_permissions(format!("{WORLD}/etc/tool"), tool).expect("set");
    install();
    ezz(&["update", "--swap", "2"]).ok();
}

/// What its administrator did.
fn edited() {
    put(
        JAIL,
        &[
            ("lines", "a\nb\nc\nd\ne\nf\ng\nH mine\n"),
            ("both", "1\n2 mine\n3\n"),
            ("mine", "mine\n"),
            ("gone-mine", "mine\n"),
            ("only-mine", "mine\n"),
            ("mine-becomes-directory", "mine\n"),
            ("mine-becomes-link/mine", "mine\n"),
            (
                "passwd",
                "root:x:0:0:root:/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\n",
            ),
        ],
    );
    fs::remove_file(format!("{JAIL}/etc/deleted")).expect("removed");
}

/// What the jail has, but for the record of ezz that says which generation its files are of.
fn own_files() -> Vec<String> {
    let mut files = files_of(JAIL);
    files.retain(|line| !line.contains("/basejail/.ezz-generation "));
    files
}

/// What must be there when it is done.
#[track_caller]
fn is_merged() {
    let text = |name: &str| has(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(text("release"), "two\n");
    assert_eq!(text("lines"), "A\nb\nc\nd\ne\nf\ng\nH mine\n");
    assert_eq!(text("both"), "1\n2 mine\n3\n");
    assert_eq!(text("both.ezz-new"), "1\n2 theirs\n3\n");
    // Both have added a name at the end.
    assert_eq!(
        text("passwd"),
        "root:x:0:0:root:/root:/bin/sh\n_new:x:99:99::/:\nalice:x:1001:1001::/home/alice:/bin/sh\n"
    );
    assert_eq!(text("mine"), "mine\n");
    assert_eq!(text("only-mine"), "mine\n");
    assert_eq!(
        (has("gone"), text("gone-mine")),
        (None, "mine\n".to_owned())
    );
    assert_eq!(
        (has("deleted"), text("deleted.ezz-new")),
        (None, "new\n".to_owned())
    );
    assert_eq!(text("added/file"), "new\n");
    // Derived, and untouched.
    assert_eq!(text("ssl/certs/own"), "changed\n");
    let link = |name: &str| fs::read_link(Path::new(JAIL).join("etc").join(name)).ok();
    assert_eq!(link("link").as_deref(), Some(Path::new("lines")));
    // What it has not touched may become anything, and what it has touched stays what it was.
    assert_eq!(text("becomes-directory/file"), "new\n");
    assert_eq!(link("becomes-link").as_deref(), Some(Path::new("sub")));
    assert_eq!(text("becomes-file"), "new\n");
    assert_eq!(text("mine-becomes-directory"), "mine\n");
    assert_eq!(text("mine-becomes-directory.ezz-new/file"), "new\n");
    assert_eq!(text("mine-becomes-link/file"), "old\n");
    assert_eq!(
        link("mine-becomes-link.ezz-new").as_deref(),
        Some(Path::new("sub"))
    );
    let mode = fs::metadata(format!("{JAIL}/etc/tool"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(json_property("tank/ezz/jails/j", "ezz:jail")["skel"], 2);
    assert_eq!(source("tank/ezz/jails/j", "ezz:merging"), "-");
}

/// The snapshots that merges have left of a jail.
pub fn snapshots_of_merges(jail: &str) -> String {
    let all = sh(&format!(
        "zfs list -Hro name -t snapshot tank/ezz/jails/{jail}"
    ))
    .stdout;
    let own = all.lines().filter(|line| line.contains("@ezz-merge"));
    own.collect::<Vec<_>>().join(" ")
}

/// A jail's own files, a line each: name, type, mode, owner and content.
pub fn files_of(root: &str) -> Vec<String> {
    fn add(at: &Path, lines: &mut Vec<String>) {
        let entries = fs::read_dir(at).expect("a directory");
        let mut paths: Vec<_> = entries.map(|it| it.expect("an entry").path()).collect();
        paths.sort();
        for path in paths {
            let found = fs::symlink_metadata(&path).expect("it is there");
            let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
            let what = match (found.is_symlink(), found.is_file()) {
                (true, _) => format!("{:?}", fs::read_link(&path).expect("a link")),
                (_, true) => format!("{:?}", fs::read(&path).expect("a file")),
                _ => String::new(),
            };
            lines.push(format!("{} {mode:o} {uid}:{gid} {what}", path.display()));
            if found.is_dir() {
                add(&path, lines);
            }
        }
    }
    let mut lines = Vec::new();
    add(Path::new(root), &mut lines);
    lines
}

#[test]
fn what_both_have_changed_is_merged_and_nothing_is_lost() {
    two_releases();
    edited();
    let before = (everything(), has("release"));
    let planned = ezz(&["merge", "j", "--dry-run"]).exits(3);
    for line in [
        "j: take etc/release",
        "j: remove etc/gone",
        "j: CONFLICT etc/both (both have changed it)",
        "    +A",
    ] {
        assert!(planned.stdout.contains(line), "no {line:?} in {planned:#?}");
    }
    assert_eq!((everything(), has("release")), before);
    assert_eq!(
        mounts_of("tank")
            .iter()
            .filter(|m| m.contains("newjail"))
            .count(),
        0
    );
    let told = ezz(&["merge", "j", "--json"]).exits(3).json();
    assert_eq!(
        told[0]["merged"].to_string(),
        r#"["etc/lines","etc/passwd"]"#
    );
    assert_eq!(
        told[0]["conflicts"].to_string(),
        r#"["etc/both","etc/deleted","etc/mine-becomes-directory","etc/mine-becomes-link"]"#
    );
    let why = &told[0]["reasons"]["etc/mine-becomes-link"];
    assert_eq!(
        why,
        "the release made it a symbolic link, and etc/mine-becomes-link/mine is yours"
    );
    let removed = told[0]["removed"].to_string();
    assert!(removed.contains(r#""etc/gone""#), "{removed}");
    is_merged();
    // The way back is there, and does not keep the jail from being deleted.
    let old = fs::read_to_string("/srv/jails/j/.zfs/snapshot/ezz-merge-1-2/etc/release");
    assert!(exists("tank/ezz/jails/j@ezz-merge-1-2"), "{old:?}");
    assert!(exists("tank/ezz/jails/j@ezz-merged-1-2"));
    let again = ezz(&["merge", "j"]).ok();
    assert!(again.stderr.contains("j is already merged"), "{again:#?}");
    let findings = ezz(&["doctor", "--json"]).ok().json();
    assert_eq!(findings[0]["findings"].to_string(), "[]");
    sh("umount /srv/jails/j/.zfs/snapshot/* 2>/dev/null; true").ok();
    ezz(&["delete", "--yes", "j"]).ok();
}

#[test]
fn a_link_of_the_jail_leads_nowhere() {
    two_releases();
    fs::create_dir("/tmp/outside").expect("made");
    for (name, text) in [("file", "1\n"), ("release", "one\n")] {
        fs::write(Path::new("/tmp/outside").join(name), text).expect("written");
    }
    // A directory on the way, and a file itself, as an administrator of the jail may plant them.
    sh(
        "set -e; cd /srv/jails/j/etc; rm -r sub; ln -s /tmp/outside sub
        rm release; ln -s /tmp/outside/release release
        rm lines; mkfifo lines",
    )
    .ok();
    let told = ezz(&["merge", "j", "--json"]).exits(3).json();
    let conflicts = told[0]["conflicts"].to_string();
    for name in ["etc/release", "etc/lines"] {
        assert!(conflicts.contains(name), "{conflicts}");
    }
    let outside = |name: &str| fs::read_to_string(Path::new("/tmp/outside").join(name)).ok();
    assert_eq!(outside("file").as_deref(), Some("1\n"));
    assert_eq!(outside("release").as_deref(), Some("one\n"));
    assert_eq!(fs::read_dir("/tmp/outside").expect("there").count(), 2);
}

#[test]
fn one_that_is_interrupted_is_taken_back_and_begun_anew() {
    two_releases();
    edited();
    let own = own_files();
    let (mut steps, mut refused) = (0, 0);
    for step in 1..60 {
        let ended = sh(&format!("EZZ_DIE_BEFORE_STEP={step} {EZZ} merge j"));
        if ended.code != 137 {
            // The last that was killed may have been done but for its end.
            let done = ended.stderr.contains("j is already merged");
            assert_eq!(ended.code, if done { 0 } else { 3 }, "{ended:#?}");
            break;
        }
        steps = step;
        // By what has begun, and not by the mark: that is what must be there.
        let half_way = exists("tank/ezz/jails/j@ezz-merge-1-2")
            && json_property("tank/ezz/jails/j", "ezz:jail")["skel"] == 1;
        if half_way {
            refused += 1;
            assert_eq!(source("tank/ezz/jails/j", "ezz:merging"), "local");
            // A start would take it back, and merge again.
            ezz(&["clone", "j", "k"]).refused(1, "is under way, or was interrupted");
            let told = ezz(&["doctor"]).stdout;
            assert!(told.contains("merge"), "{told}");
        }
    }
    assert!(steps > 5 && refused >= 2, "{refused} of {steps}");
    is_merged();
    // What it had mounted to read is unmounted by a repair.
    ezz(&["doctor", "--repair"]).ok();
    undone_at_last(&own);
    repaired_and_interrupted();
    let left: Vec<String> = mounts_of("tank")
        .into_iter()
        .filter(|m| m.contains("/merge-"))
        .collect();
    assert_eq!(left, [""; 0]);
}

/// The merged jail goes back to generation 1, killed at each step: then its files are as before the merge.
#[track_caller]
fn undone_at_last(own: &[String]) {
    ezz(&["rollback", "--to", "1"]).ok();
    let (mut steps, mut marked) = (0, 0);
    for step in 1..90 {
        let ended = sh(&format!("EZZ_DIE_BEFORE_STEP={step} {EZZ} merge j"));
        if ended.code != 137 {
            assert_eq!(ended.code, 0, "{ended:#?}");
            break;
        }
        steps = step;
        let skel = &json_property("tank/ezz/jails/j", "ezz:jail")["skel"];
        if source("tank/ezz/jails/j", "ezz:merging") == "local" {
            assert_eq!(*skel, 2, "{step}");
            marked += 1;
        }
        // Until it is over, both snapshots of the merge are there.
        let both = ["ezz-merge-1-2", "ezz-merged-1-2"];
        let there = both
            .iter()
            .all(|it| exists(&format!("tank/ezz/jails/j@{it}")));
        assert!(there || *skel == 1, "{step}");
    }
    assert!(steps > 10 && marked >= 3, "{marked} of {steps}");
    assert_eq!(own_files(), own, "as before the merge");
    ezz(&["doctor", "--repair"]).ok();
    let mounts = mounts_of("tank");
    assert!(
        !mounts.iter().any(|mount| mount.contains("/undo-")),
        "{mounts:#?}"
    );
    // A kill after the last commit leaves snapshots, which the next prune clears.
    ezz(&["world", "prune", "--yes"]).ok();
    assert_eq!(snapshots_of_merges("j"), "");
}

/// The same jail, back on generation 1: a repair takes back a merge that was killed, a signal leaves nothing.
#[track_caller]
fn repaired_and_interrupted() {
    let state = || {
        let lines = everything();
        // The way back of an earlier merge stays until the next has ended.
        let lines = lines.lines().filter(|line| !line.contains("ezz:epoch"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let to_the_first = || {
        ezz(&["rollback", "--to", "1"]).ok();
        ezz(&["merge", "j"]).ok();
        ezz(&["rollback", "--to", "2"]).ok();
        (state(), has("release"))
    };
    let (before, release) = to_the_first();
    let mark = || source("tank/ezz/jails/j", "ezz:merging");
    let mut mended = 0;
    for step in 1..60 {
        let ended = sh(&format!("EZZ_DIE_BEFORE_STEP={step} {EZZ} merge j"));
        if ended.code != 137 {
            break;
        }
        if mark() == "-" {
            continue;
        }
        mended += 1;
        let told = ezz(&["doctor"]).exits(1);
        assert!(
            told.stdout.contains("debris  jail j: the merge"),
            "{told:#?}"
        );
        let dry = ezz(&["doctor", "--repair", "--dry-run"]).ok();
        assert!(dry.stdout.contains("tank/ezz/jails/j"), "{dry:#?}");
        ezz(&["doctor", "--repair"]).ok();
        assert_eq!(
            (state(), has("release"), mark()),
            (before.clone(), release.clone(), "-".to_owned()),
            "{step}"
        );
    }
    assert!(mended >= 2, "{mended}");
    let (before, release) = to_the_first();
    let mut interrupted = 0;
    for step in 1..60 {
        let ended = sh(&format!("EZZ_INTERRUPT_BEFORE_STEP={step} {EZZ} merge j"));
        if json_property("tank/ezz/jails/j", "ezz:jail")["skel"] == 2 {
            // It came too late.
            assert_eq!(ended.code, 3, "{ended:#?}");
            break;
        }
        interrupted += 1;
        assert_eq!(ended.code, 1, "{ended:#?}");
        assert_eq!(
            (state(), has("release")),
            (before.clone(), release.clone()),
            "{step}: {ended:#?}"
        );
    }
    assert!(interrupted >= 3, "{interrupted}");
    // Snapshots that others make of what is half merged keep it from being taken back, and are named.
    ezz(&["rollback", "--to", "1"]).ok();
    for step in 1..60 {
        let ended = sh(&format!("EZZ_DIE_BEFORE_STEP={step} {EZZ} merge j"));
        assert_eq!(ended.code, 137, "{ended:#?}");
        if exists("tank/ezz/jails/j@ezz-merge-2-1") && mark() == "local" {
            break;
        }
    }
    zfs(&["snapshot", "tank/ezz/jails/j@hourly"]).ok();
    let refused = ezz(&["merge", "j"]).refused(1, "the first is tank/ezz/jails/j@hourly");
    assert!(
        refused
            .stderr
            .contains("zfs destroy tank/ezz/jails/j@hourly"),
        "{refused:#?}"
    );
    let told = ezz(&["doctor", "--repair"]).exits(1);
    assert!(
        told.stdout.contains("broken  jail j: the merge"),
        "{told:#?}"
    );
    zfs(&["destroy", "tank/ezz/jails/j@hourly"]).ok();
    ezz(&["doctor", "--repair"]).ok();
    ezz(&["rollback", "--to", "2"]).ok();
    assert_eq!((has("release").as_deref(), &*mark()), (Some("two\n"), "-"));
}

#[test]
fn what_cannot_be_merged_is_refused() {
    two_releases();
    ezz(&["create", "thick", "--thick"]).ok();
    ezz(&["create", "new"]).ok();
    let before = everything();
    ezz(&["merge", "thick"]).refused(1, "it is thick");
    ezz(&["merge", "nobody"]).refused(1, "no jail nobody");
    let already = ezz(&["merge", "new"]).ok();
    assert!(already.stderr.contains("already merged"), "{already:#?}");
    assert_eq!(everything(), before);
    // What keeps it from being carried out is known before anything is changed, and named.
    ezz(&["create", "other"]).ok();
    ezz(&["rollback", "--to", "1"]).ok();
    ezz(&["merge", "other"]).ok();
    ezz(&["rollback", "--to", "2"]).ok();
    for (make, words, undo) in [
        (
            "chattr +i etc/lines",
            "etc/lines has a flag",
            "chattr -i etc/lines",
        ),
        (
            "chattr +i etc/sub",
            "etc/sub has a flag",
            "chattr -i etc/sub",
        ),
        (
            "mount -t tmpfs none etc/sub && echo 1 >etc/sub/file",
            "mounted at etc/sub",
            "umount etc/sub",
        ),
        (
            "zfs set readonly=on tank/ezz/jails/j",
            "is read-only",
            "zfs inherit readonly tank/ezz/jails/j",
        ),
        (
            "zfs set quota=2M compression=off tank/ezz/jails/j; head -c 4M /dev/zero >root/full 2>/dev/null; sync; true",
            "bytes, and it has 0 left",
            "rm root/full; zfs set quota=none tank/ezz/jails/j; zfs inherit compression tank/ezz/jails/j; zpool sync",
        ),
    ] {
        sh(&format!("cd {JAIL}; {make}")).ok();
        let dry = ezz(&["merge", "j", "--dry-run"]).refused(1, words);
        assert!(dry.stdout.contains("j: take etc/release"), "{dry:#?}");
        // The other is merged, whatever keeps this one.
        let told = ezz(&["merge", "j", "other"]).exits(3);
        assert!(told.stderr.contains(words), "{told:#?}");
        assert_eq!(json_property("tank/ezz/jails/other", "ezz:jail")["skel"], 2);
        sh(&format!("cd {JAIL}; {undo}")).ok();
        ezz(&["merge", "other"]).ok();
        assert_eq!(source("tank/ezz/jails/j", "ezz:merging"), "-");
        assert!(!exists("tank/ezz/jails/j@ezz-merge-1-2"));
        assert_eq!(has("release").as_deref(), Some("one\n"), "{words}");
    }
    // Without a name, all that need it.
    let all = ezz(&["merge", "--json"]).ok().json();
    assert_eq!((all.len(), &all[0]["jail"]), (1, &"j".into()));
    let none = ezz(&["merge"]).ok();
    assert!(
        none.stderr.contains("no stopped jail needs a merge"),
        "{none:#?}"
    );
}

/// VFS_CAP_REVISION_2 of linux/capability.h: cap_net_bind_service, effective and permitted.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Two generations: the second has a service that comes with a user, a data directory and a program in /opt.
#[track_caller]
fn a_service_comes() {
    init();
    small_world(Path::new(WORLD), "12.1");
    let at = |script: &str| sh(&format!("set -e; umask 022; cd {WORLD}; {script}")).ok();
    at("mkdir -p var/lib/x var/lib/main/base opt srv var/cache etc/ssl/certs
        for f in changed mine gone gone-mine gone-dir/file linked; do
          mkdir -p $(dirname opt/$f); echo old >opt/$f; done
        echo old >var/lib/x/state; echo old >var/lib/x/queue; echo old >var/cache/made; echo old >etc/ssl/certs/own
        mkdir -p var/lib/postgresql/16/main; echo old >var/lib/postgresql/16/main/1
        printf 'root:x:0:0:root:/root:/bin/sh\\n' >etc/passwd; printf 'root:x:0:\\n' >etc/group");
    sh(&format!("tar -cf {WORLD}.tar -C {WORLD} .")).ok();
    ezz(&["install", &format!("{WORLD}.tar")]).ok();
    ezz(&["create", "j", "other"]).ok();
    at("echo 'svc:x:990:990::/var/lib/svc:/bin/false' >>etc/passwd; echo 'svc:x:990:' >>etc/group
        mkdir -p var/lib/svc/deep etc/svc opt/svc; echo conf >etc/svc/conf; echo seed >var/lib/svc/deep/seed
        echo prog >opt/svc/prog; chown -R 990:990 var/lib/svc; chmod 750 var/lib/svc; chmod 2770 var/lib/svc/deep
        chown 990:990 opt/svc/prog; chmod 4755 opt/svc/prog
        echo new >var/lib/x/queue; echo new >var/lib/x/added; echo new >var/cache/made; echo new >etc/ssl/certs/own
        echo new >opt/changed; echo new >opt/mine; rm opt/linked; ln -s changed opt/linked; rm -r opt/gone*
        echo new >var/lib/postgresql/16/main/1; echo new >var/lib/postgresql/16/main/2");
    xattr::set(
        format!("{WORLD}/opt/svc/prog"),
        "security.capability",
        &CAPABILITY,
    )
    .expect("set");
    sh(&format!(
        "tar --xattrs --xattrs-include='*' -cf {WORLD}.tar -C {WORLD} ."
    ))
    .ok();
    ezz(&["install", &format!("{WORLD}.tar")]).ok();
    ezz(&["update", "--swap", "2"]).ok();
}

#[test]
fn the_class_of_a_path_decides() {
    a_service_comes();
    sh(&format!(
        "set -e; cd {JAIL}; echo mine >opt/mine; echo mine >opt/gone-mine; echo mine >opt/gone-dir/own
         echo mine >var/lib/x/state; rm var/lib/x/queue; echo mine >var/cache/made; echo mine >var/lib/postgresql/16/main/1
         echo 'me:x:1000:1000::/home/me:/bin/sh' >>etc/passwd; mkdir -p home/me; echo mine >home/me/file"
    ))
    .ok();
    let before = everything();
    let dry = ezz(&["merge", "j", "--dry-run"]).ok();
    for line in [
        "j: take opt/svc/prog",
        "j: take var/lib/svc/deep/seed",
        "j: leave opt/mine (both have changed it)",
        "j: leave opt/gone-dir (the release removed it, and opt/gone-dir/own stays)",
        "j: leave var/lib/postgresql/16/main (you have one",
    ] {
        assert!(dry.stdout.contains(line), "no {line:?} in {dry:#?}");
    }
    assert_eq!(everything(), before);
    // An immutable file stops it, of whatever class.
    sh(&format!("chattr +i {JAIL}/opt/changed")).ok();
    ezz(&["merge", "j"]).refused(1, "opt/changed has a flag");
    sh(&format!("chattr -i {JAIL}/opt/changed")).ok();
    let told = ezz(&["merge", "j", "--json"]).ok().json();
    assert_eq!(
        told[0]["left"].to_string(),
        r#"["opt/gone-dir","opt/gone-mine","opt/mine","var/cache/made","var/lib/postgresql/16/main"]"#
    );
    assert_eq!(
        (&told[0]["conflicts"], &told[0]["merged"]),
        (&serde_json::json!([]), &serde_json::json!(["etc/passwd"]))
    );
    let why = &told[0]["reasons"]["opt/gone-mine"];
    assert_eq!(why, "the release removed it, and you have changed it");
    let files = sh(&format!(
        "cd {JAIL}; for f in etc/svc/conf etc/ssl/certs/own opt/changed opt/mine opt/gone opt/gone-mine opt/gone-dir/file \
         opt/gone-dir/own var/lib/x/state var/lib/x/queue var/lib/x/added var/cache/made var/lib/postgresql/16/main/1 \
         var/lib/postgresql/16/main/2 home/me/file; do echo $f $(cat $f 2>/dev/null); done; readlink opt/linked; cat etc/passwd
         stat -c '%n %u:%g %a' var/lib/svc var/lib/svc/deep var/lib/svc/deep/seed opt/svc/prog"
    ))
    .ok();
    assert_eq!(
        files.stdout,
        "etc/svc/conf conf\netc/ssl/certs/own new\nopt/changed new\nopt/mine mine\nopt/gone\nopt/gone-mine mine\n\
         opt/gone-dir/file\nopt/gone-dir/own mine\nvar/lib/x/state mine\nvar/lib/x/queue\nvar/lib/x/added new\n\
         var/cache/made mine\nvar/lib/postgresql/16/main/1 mine\nvar/lib/postgresql/16/main/2\nhome/me/file mine\nchanged\n\
         root:x:0:0:root:/root:/bin/sh\nsvc:x:990:990::/var/lib/svc:/bin/false\nme:x:1000:1000::/home/me:/bin/sh\n\
         var/lib/svc 990:990 750\nvar/lib/svc/deep 990:990 2770\nvar/lib/svc/deep/seed 990:990 644\nopt/svc/prog 990:990 4755\n"
    );
    let capability = xattr::get(format!("{JAIL}/opt/svc/prog"), "security.capability");
    assert_eq!(
        capability.expect("it can be read").as_deref(),
        Some(&CAPABILITY[..])
    );
    assert_eq!(json_property("tank/ezz/jails/j", "ezz:jail")["skel"], 2);
    a_mount_below_a_jail_gets_nothing();
}

/// The other jail has state on a dataset of its own, a link and a device: what it would get there is left.
#[track_caller]
fn a_mount_below_a_jail_gets_nothing() {
    let jail = "/srv/jails/other";
    sh(&format!(
        "set -e; zfs create -o mountpoint={jail}/var/lib/x tank/state; ln -s /tmp {jail}/var/lib/svc; mknod {jail}/opt/svc c 1 3; test -z \"$(ls {jail}/var/lib/x)\""
    ))
    .ok();
    let told = ezz(&["merge", "other", "--json"]).ok().json();
    assert_eq!(
        told[0]["left"].to_string(),
        r#"["opt/svc","var/lib/postgresql/16/main","var/lib/svc","var/lib/x/added"]"#
    );
    let why = &told[0]["reasons"]["var/lib/x/added"];
    assert_eq!(why, "another file system is mounted at var/lib/x");
    let there = sh(&format!(
        "ls {jail}/var/lib/x /tmp/deep 2>/dev/null; stat -c %F {jail}/opt/svc; cat {jail}/opt/changed"
    ));
    let expected = format!("{jail}/var/lib/x:\ncharacter special file\nnew\n");
    assert_eq!(there.stdout, expected);
    assert_eq!(
        mounts_of("tank")
            .iter()
            .filter(|m| m.contains("newjail"))
            .count(),
        0
    );
}
