//! The numbers of accounts are continuous in a site: no file passes from one account to another.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::inspect;
use crate::support::*;
use crate::worlds::runnable_world;

const WORLD: &str = "/tmp/runnable";

/// Creates the world with these accounts, whose database belongs to one of them. Returns its tar.
#[track_caller]
fn world(version: &str, passwd: &str, group: &str, db: u32) -> String {
    let root = "root:x:0:0:root:/root:/bin/sh\n";
    let at = |name: &str| Path::new(WORLD).join(name);
    fs::write(at("etc/debian_version"), format!("{version}\n")).expect("written");
    fs::write(at("etc/passwd"), format!("{root}{passwd}")).expect("written");
    fs::write(at("etc/group"), format!("root:x:0:\n{group}")).expect("written");
    fs::create_dir_all(at("var/lib/db")).expect("made");
    fs::write(at("usr/bin/spool"), "a program").expect("written");
    chown(at("var/lib/db"), Some(db), Some(db)).expect("given away");
    chown(at("usr/bin/spool"), Some(db), Some(db)).expect("given away");
    let set = |name: &str, mode| {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("set");
    };
    set("var/lib/db", 0o700);
    set("usr/bin/spool", 0o6755);
    let tar = format!("/tmp/{version}.tar");
    sh(&format!("tar -cf {tar} -C {WORLD} .")).ok();
    tar
}

fn ask(jail: &str, user: &str, script: &str) -> Ended {
    ezz(&["exec", "-u", user, jail, "--", "/bin/sh", "-c", script])
}

fn owner(path: &str) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

fn base(n: u64, path: &str) -> String {
    format!("/srv/jails/basejail/{n}/{path}")
}

/// Returns the number of a name in an account file.
#[track_caller]
fn number(file: &str, name: &str) -> u32 {
    let text = fs::read_to_string(file).expect("it is there");
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = lines.find(|fields| fields[0] == name);
    found
        .and_then(|fields| fields[2].parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[track_caller]
fn whole() {
    assert_eq!(inspect::site(SITE), Vec::<String>::new());
    ezz(&["world", "verify", "--all"]).ok();
}

/// Creates a site whose generation 1 has db as 102, with the jails a and k.
#[track_caller]
fn twelve() {
    init();
    runnable_world(Path::new(WORLD));
    let db = "db:x:102:102:db:/var/lib/db:/bin/sh\n";
    let tar = world("12.1", db, "db:x:102:\n", 102);
    ezz(&["install", &tar]).ok();
}

/// Creates release 13, which has db as 101 and gives 102 to www.
fn thirteen() -> String {
    fs::write(Path::new(WORLD).join("etc/www.conf"), "a secret of www\n").expect("written");
    chown(Path::new(WORLD).join("etc/www.conf"), Some(102), Some(102)).expect("given away");
    fs::set_permissions(
        Path::new(WORLD).join("etc/www.conf"),
        fs::Permissions::from_mode(0o600),
    )
    .expect("set");
    let passwd = "db:x:101:101:db:/var/lib/db:/bin/sh\nwww:x:102:102:www:/:/bin/sh\n";
    world("13.0", passwd, "db:x:101:\nwww:x:102:\n", 101)
}

/// found/reports.md R1, and the numbers that a jail has assigned meanwhile.
#[test]
fn a_change_of_release_gives_no_file_to_another_account() {
    twelve();
    ezz(&["create", "j", "k", "--start"]).ok();
    ask("j", "db", "umask 077; echo precious >/var/lib/db/f").ok();
    // An account of this jail's own has a number that www will get.
    for (file, line) in [
        ("passwd", "mine:x:999:999::/:/bin/sh"),
        ("group", "mine:x:999:"),
    ] {
        ask("k", "root", &format!("echo {line} >>/etc/{file}")).ok();
    }
    ask("k", "root", "umask 077; echo own >/opt/f").ok();
    chown("/srv/jails/k/opt/f", Some(999), Some(999)).expect("given away");

    let told = ezz(&["--json", "update", "--from", &thirteen()]).ok();
    assert_eq!(told.json()[0]["renumbered"], 4, "{told:#?}");
    assert!(
        told.stderr.contains("user db (101 becomes 102)"),
        "{told:#?}"
    );
    assert_eq!(number(&base(2, "etc/passwd"), "db"), 102);
    assert_eq!(number(&base(2, "etc/passwd"), "www"), 999);
    assert_eq!(owner(&base(2, "usr/bin/spool")), (102, 102, 0o6755));
    assert_eq!(owner(&base(2, "etc/www.conf")), (999, 999, 0o600));
    whole();

    ezz(&["converge"]).ok();
    assert_eq!(
        ask("j", "db", "cat /var/lib/db/f").ok().stdout,
        "precious\n"
    );
    assert_ne!(ask("j", "www", "cat /var/lib/db/f").code, 0);
    assert_eq!(
        ask("j", "www", "cat /etc/www.conf").ok().stdout,
        "a secret of www\n"
    );
    // In k, www has another number, and so does its file.
    assert_eq!(number("/srv/jails/k/etc/passwd", "mine"), 999);
    let www = number("/srv/jails/k/etc/passwd", "www");
    assert!(![101, 102, 999].contains(&www), "{www}");
    assert_eq!(owner("/srv/jails/k/etc/www.conf"), (www, www, 0o600));
    assert_eq!(
        ask("k", "www", "cat /etc/www.conf").ok().stdout,
        "a secret of www\n"
    );
    assert_ne!(ask("k", "www", "cat /opt/f").code, 0);
    assert_ne!(ask("k", "mine", "cat /etc/www.conf").code, 0);
    assert_eq!(ask("k", "mine", "cat /opt/f").ok().stdout, "own\n");

    // A program of the next release belongs to a group by a number that is www's in k.
    let told = ezz(&["update", "--on-host", "--run", "/bin/sh", "-c", MAIL]).ok();
    let mail = number(&base(3, "etc/group"), "mail");
    assert!(told.stderr.contains("mail (999 becomes 998)"), "{told:#?}");
    assert_eq!((mail, www), (998, 998));
    let told = ezz(&["converge"]).exits(3);
    assert!(
        told.stderr.contains("k stays")
            && told.stderr.contains("by the number 998, which is www's"),
        "{told:#?}"
    );
    assert_eq!(number("/srv/jails/j/etc/group", "mail"), 998);
    assert_eq!(number("/srv/jails/k/etc/passwd", "www"), www);
    assert_eq!(
        ask("j", "db", "cat /var/lib/db/f").ok().stdout,
        "precious\n"
    );
}

/// A command that changes the world: www is removed, and mail gets the number that www had.
const MAIL: &str = r#"
set -e; cd "$EZZ_ROOT"
echo 14.0 >etc/debian_version
sed -i /^www:/d etc/passwd etc/group
echo mail:x:999:999:mail:/:/bin/sh >>etc/passwd
echo mail:x:999: >>etc/group
rm -f etc/www.conf
for f in mailer listed capable; do cp usr/bin/cat usr/bin/$f; done
chown 0:999 usr/bin/mailer; chmod 2755 usr/bin/mailer
chown 999:999 usr/bin/capable; setcap cap_net_bind_service+ep usr/bin/capable
mkdir -p srv/spool; chown 999:999 srv/spool; chmod 3775 srv/spool
ln -s spool srv/link; chown -h 999:999 srv/link
ln usr/bin/mailer usr/share/again
python3 -c '
import os, struct
entries = [(1, 7, 2**32 - 1), (2, 4, 999), (4, 5, 2**32 - 1), (16, 5, 2**32 - 1), (32, 5, 2**32 - 1)]
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
os.setxattr("usr/bin/listed", "system.posix_acl_access", acl)'
"#;

/// Checks a base that MAIL has changed: its group has the number, and everything else is as before.
#[track_caller]
fn mail_is(n: u64, mail: u32) {
    assert_eq!(number(&base(n, "etc/passwd"), "mail"), mail);
    assert_eq!(number(&base(n, "etc/group"), "mail"), mail);
    for name in ["usr/bin/mailer", "usr/share/again"] {
        assert_eq!(owner(&base(n, name)), (0, mail, 0o2755), "{name}");
    }
    assert_eq!(owner(&base(n, "srv/spool")), (mail, mail, 0o3775));
    let (uid, gid, _) = owner(&base(n, "srv/link"));
    assert_eq!((uid, gid), (mail, mail));
    let (uid, gid, _) = owner(&base(n, "usr/bin/capable"));
    assert_eq!((uid, gid), (mail, mail));
    let told = sh(&format!("getcap {}", base(n, "usr/bin/capable"))).ok();
    assert!(told.stdout.contains("cap_net_bind_service"), "{told:#?}");
    let list = xattr::get(base(n, "usr/bin/listed"), "system.posix_acl_access");
    let list = list.expect("it can be read").expect("it is there");
    assert_eq!(list[16..20], mail.to_le_bytes(), "{list:?}");
    let skeleton = fs::read_to_string(base(n, ".ezz/accounts")).expect("a ledger");
    assert!(
        skeleton.contains(&format!("group mail {mail}\n")),
        "{skeleton}"
    );
}

/// An account gets no number that an account of an earlier world had, even if that world was destroyed. A stage that is
/// killed while it is renumbered is built again.
#[test]
fn numbers_of_accounts_that_went_are_not_given_again() {
    twelve();
    ezz(&["update", "--from", &thirteen()]).ok();
    // Nothing is renumbered without need, and nothing is sealed without a change.
    ezz(&["update", "--run", "/bin/sh", "-c", "true"]).ok();
    assert!(!exists("tank/ezz/basejail/3"));

    // Each try has another script, so that it does not continue the stage of an earlier one.
    let update = |script: u32, variables: &str| {
        let script = format!(": {script}; {MAIL}").replace('\'', r"'\''");
        let line = format!("{variables} {EZZ} --json update --on-host --run /bin/sh -c '{script}'");
        sh(&line)
    };
    let half = (10..100).find(|step| {
        let ended = update(*step, &format!("EZZ_DIE_BEFORE_STEP={step}"));
        assert_eq!(ended.code, 137, "{ended:#?}");
        let n = property(SITE, "ezz:seq").parse().expect("a number");
        let passwd = fs::read_to_string(base(n, "etc/passwd")).unwrap_or_default();
        let dataset = format!("tank/ezz/basejail/{n}");
        passwd.contains("mail:x:998:") && source(&dataset, "ezz:populated") != "local"
    });
    let half = half.expect("it was killed while it was renumbered");
    let killed = property(SITE, "ezz:seq");
    let done = update(half, "").ok();
    assert_eq!(done.json()[0]["resumed"], false, "{done:#?}");
    let made = done.json()[0]["generation"].as_u64().expect("a number");
    assert!(!exists(&format!("tank/ezz/basejail/{killed}")));
    mail_is(made, 998);
    whole();

    // The generation that brought www is destroyed.
    ezz(&[
        "update",
        "--run",
        "/bin/sh",
        "-c",
        "echo more >/usr/share/more",
    ])
    .ok();
    ezz(&["world", "prune", "--keep", "0", "--yes"]).ok();
    assert!(!exists("tank/ezz/basejail/2"));
    let more =
        "echo ftp:x:999:999::/:/bin/sh >>/etc/passwd; echo www:x:500:500::/:/bin/sh >>/etc/passwd";
    let told = ezz(&["--json", "update", "--run", "/bin/sh", "-c", more]).ok();
    let made = told.json()[0]["generation"].as_u64().expect("a number");
    assert_eq!(number(&base(made, "etc/passwd"), "ftp"), 997);
    assert_eq!(number(&base(made, "etc/passwd"), "www"), 999);
    whole();
    // A changed ledger is detected.
    let dataset = format!("tank/ezz/basejail/{made}");
    sh(&format!(
        "zfs set readonly=off {dataset}; mkdir /tmp/rw; mount -t zfs -o zfsutil,rw {dataset} /tmp/rw"
    ))
    .ok();
    fs::write("/tmp/rw/.ezz/accounts", "# ezz accounts 9\n").expect("written");
    let refused = ezz(&["update", "--run", "/bin/sh", "-c", "echo x >/usr/share/x"]);
    refused.refused(1, "version 9");
    let told = ezz(&["world", "verify", &made.to_string()]).exits(1);
    assert!(told.stdout.contains(".ezz/accounts"), "{told:#?}");
}

/// The newest generation goes before another is sealed: the number of its account stays used.
#[test]
fn the_accounts_of_a_pruned_generation_are_kept() {
    twelve();
    let plus = |name: &str| {
        let passwd = format!("db:x:102:102:db:/var/lib/db:/bin/sh\n{name}:x:103:103::/:/bin/sh\n");
        world("12.1", &passwd, &format!("db:x:102:\n{name}:x:103:\n"), 102)
    };
    ezz(&["install", &plus("www")]).ok();
    let kept = || property("tank/ezz/basejail", "ezz:accounts:debian:1");
    let dry = ezz(&["world", "prune", "2", "--dry-run"]).ok();
    assert!(dry.stdout.contains("ezz:accounts:debian:1"), "{dry:#?}");
    assert_eq!(kept(), "-");
    ezz(&["world", "prune", "2", "--yes"]).ok();
    assert_eq!(kept(), "user www 103 group www 103");
    whole();
    // Another account by that number gets one of its own, and the former its own again.
    let told = ezz(&["install", &plus("mail")]).ok();
    assert!(
        told.stderr.contains("user mail (103 becomes 999)"),
        "{told:#?}"
    );
    assert_eq!(number(&base(3, "etc/passwd"), "mail"), 999);
    let ledger = fs::read_to_string(base(3, ".ezz/accounts")).expect("it is there");
    assert!(ledger.contains("user www 103\n"), "{ledger}");
    // What is known elsewhere is not kept again.
    ezz(&["world", "prune", "3", "--yes"]).ok();
    assert_eq!(
        property("tank/ezz/basejail", "ezz:accounts:debian:2"),
        "user mail 999 group mail 999"
    );
    ezz(&["install", &plus("www")]).ok();
    assert_eq!(number(&base(4, "etc/passwd"), "www"), 103);
    ezz(&["world", "prune", "4", "--yes"]).ok();
    assert_eq!(property("tank/ezz/basejail", "ezz:accounts:debian:3"), "-");
    whole();
}

/// Two worlds that give one number to different accounts, while neither knows of the other.
#[test]
fn of_two_worlds_that_are_sealed_at_once_one_is_refused() {
    twelve();
    let plus = |version: &str, name: &str| {
        let passwd = format!("db:x:102:102:db:/var/lib/db:/bin/sh\n{name}:x:103:103::/:/bin/sh\n");
        world(
            version,
            &passwd,
            &format!("db:x:102:\n{name}:x:103:\n"),
            102,
        )
    };
    let (www, mail) = (plus("12.2", "www"), plus("12.3", "mail"));
    let first = Command::new(EZZ)
        .args(["install", &www])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    // It has its numbers, and is not sealed.
    let begun = std::time::Instant::now();
    while !Path::new(&base(2, ".ezz/accounts")).exists() {
        assert!(begun.elapsed().as_secs() < 60, "no ledger");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let signal = |name: &str| sh(&format!("kill -{name} {}", first.id())).ok();
    signal("STOP");
    assert!(!exists("tank/ezz/basejail/2@2"), "it was quicker");
    ezz(&["install", &mail]).ok();
    signal("CONT");
    let ended = first.wait_with_output().expect("it ends");
    let ended = Ended::of("ezz install".to_owned(), ended);
    ended.refused(1, "debian-12.3.3 was sealed in the meantime");
    assert!(!exists("tank/ezz/basejail/2"));
    whole();
    let told = ezz(&["install", &www]).ok();
    assert!(
        told.stderr.contains("user www (103 becomes 999)"),
        "{told:#?}"
    );
    whole();
}
