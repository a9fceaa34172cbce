//! Inputs from outside: worlds of another system, archives that are no world, secrets that were allowed, and what a
//! jail is given at its first start.

use std::fs;
use std::path::Path;

use crate::inspect;
use crate::support::*;
use crate::worlds::runnable_world;

fn seq() -> String {
    property(SITE, "ezz:seq")
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn pack(directory: &str) {
    sh(&format!("tar -cf {directory}.tar -C {directory} .")).ok();
}

/// Creates a world that its profile accepts as FreeBSD.
fn freebsd() -> &'static str {
    sh(r#"set -e; mkdir -p /tmp/fbsd; cd /tmp/fbsd
       mkdir -p bin sbin lib libexec usr/bin usr/lib usr/libexec usr/sbin usr/share etc/defaults var root tmp dev
       printf '#!/bin/sh\nUSERLAND_VERSION="14.3-RELEASE-p2"\n' >bin/freebsd-version
       cp /bin/true bin/sh; : >libexec/ld-elf.so.1; : >etc/defaults/rc.conf
       tar -cf /tmp/fbsd.tar ."#)
    .ok();
    "/tmp/fbsd.tar"
}

#[test]
fn a_world_of_another_system_is_for_another_host() {
    init();
    ezz(&["create", "web"]).refused(1, "has no world yet");
    let before = everything();
    let foreign = freebsd();
    // For a directory, the error is reported before a number is taken.
    ezz(&["install", "/tmp/fbsd"]).refused(1, "needs FreeBSD, but this host runs Linux");
    assert_eq!(everything(), before);
    let refused = ezz(&["install", foreign]).refused(1, "a world of freebsd, which needs FreeBSD");
    assert!(refused.stderr.contains("--foreign"), "{refused:#?}");
    let done = ezz(&["install", foreign, "--foreign", "--json"]).ok();
    assert_eq!(done.json()[0]["current"], false);
    assert!(done.stderr.contains("ezz track create NAME 2"), "{done:#?}");
    assert!(!Path::new("/srv/jails/basejail/tracks/main").exists());
    // It can be stored, but not used; and it does not affect anything else.
    ezz(&["create", "web", "--pin", "2"]).refused(1, "14.3-RELEASE-p2.2 needs FreeBSD");
    ezz(&["create", "web"]).refused(1, "there is no track main");
    let told = ezz(&["doctor"]).ok();
    assert!(
        told.stdout.contains("its jails cannot start here"),
        "{told:#?}"
    );
    install_small();
    assert_eq!(
        json_property("tank/ezz/basejail", "ezz:track:main")["current"],
        3
    );
    ezz(&["create", "web"]).ok();
    // A track does not change from one system to the other.
    for swap in [&["update", "--swap", "2"][..], &["rollback", "--to", "2"]] {
        ezz(swap).refused(1, "14.3-RELEASE-p2.2 needs FreeBSD");
    }
    ezz(&["update", "--from", foreign]).refused(1, "needs FreeBSD");
    ezz(&["update", "--from", foreign, "--foreign"]).refused(
        1,
        "debian-12.1.3 is a world of debian, but the new world is one of freebsd",
    );
    assert_eq!(
        json_property("tank/ezz/basejail", "ezz:track:main")["current"],
        3
    );
    assert_eq!(inspect::site(SITE), [""; 0]);
    // A site that came from a FreeBSD host: its jails are reported, those of this system start.
    let world = property("tank/ezz/basejail/3", "ezz:world");
    let moved = world.replace("\"linux\"", "\"freebsd\"");
    zfs(&["set", &format!("ezz:world={moved}"), "tank/ezz/basejail/3"]).ok();
    ezz(&["start", "web"]).refused(
        1,
        "web cannot start: its world debian-12.1 needs FreeBSD, but this host runs Linux",
    );
    let told = ezz(&["doctor", "--json"]).exits(1).json();
    let findings = told[0]["findings"].as_array().expect("a list");
    let of_jail = findings.iter().find(|found| found["object"] == "jail web");
    assert_eq!(of_jail.expect("named")["kind"], "world-foreign");
    ezz(&["update", "--run", "true"]).refused(1, "needs FreeBSD");
    // A world of this system becomes current on such a track only on request.
    let native = ezz(&["install", "/tmp/small.tar"]).ok();
    assert!(native.stderr.contains("stays where it is"), "{native:#?}");
    let id = seq();
    ezz(&["update", "--swap", &id]).ok();
    ezz(&["doctor"]).ok();
}

/// Each error describes what the input is and what to do, before a generation is begun.
#[test]
fn what_is_no_world_takes_no_number() {
    init();
    small_world(Path::new("/tmp/small"), "12.1");
    sh(r#"set -e; cd /tmp
       mkdir -p image bundle alpine/etc; echo '{}' >image/oci-layout; tar -cf image.tar -C image oci-layout
       cp -a small bundle/rootfs; printf 'ID=alpine\nPRETTY_NAME="Alpine Linux v3.20"\n' >alpine/etc/os-release
       printf '!<arch>\ndebian-binary   1342000000' >package.deb
       echo '<!DOCTYPE html><html>404' >page.tar; : >empty.tar; echo text | gzip >text.gz
       head -c 600 /dev/urandom | gzip >noise.gz; tar -cf zfs.tar -C / --transform 's,^,./.zfs/,' etc/hostname"#)
    .ok();
    let before = everything();
    for (source, code, words) in [
        ("debian-12", 2, "mmdebstrap"),
        (
            "https://example.org/w/debian.tar.xz",
            2,
            "`curl -fLO 'https://example.org/w/debian.tar.xz'`, then `ezz install debian.tar.xz",
        ),
        ("/", 2, "this host's own root"),
        ("/proc/1/root", 2, "this host's own root"),
        ("/nowhere", 2, "there is no file or directory /nowhere"),
        ("/tmp/image.tar", 1, "it looks like an image of containers"),
        ("/tmp/package.deb", 1, "it looks like a Debian package"),
        ("/tmp/page.tar", 1, "it looks like a web page"),
        ("/tmp/empty.tar", 1, "it looks like an empty file"),
        ("/tmp/noise.gz", 1, "a compressed file that is no archive"),
        (
            "/tmp/alpine",
            1,
            "its os-release says that it is Alpine Linux v3.20",
        ),
        ("/tmp/bundle", 1, "install its directory rootfs"),
    ] {
        ezz(&["install", source]).refused(code, words);
        assert_eq!(everything(), before, "{source}");
    }
    ezz(&["install", "/tmp/small.tar", "--sha256", "abc"]).exits(2);
    let short = ezz(&["install", "/tmp/small.tar", "--sha256", "00"]).exits(2);
    assert!(short.stderr.contains("64 hexadecimal digits"), "{short:#?}");
    let memory = ezz(&["create", "web", "--memory", "512"]).exits(2);
    assert!(memory.stderr.contains("did you mean 512M?"), "{memory:#?}");
    assert_eq!(everything(), before);
    // Through a pipe, too.
    sh(&format!("cat /tmp/image.tar | {EZZ} install -")).refused(1, "an image of containers");
    assert_eq!(everything(), before);
    // An archive that exceeds the largest size is not unpacked, wherever it comes from.
    sh("truncate -s 1T /tmp/small/usr/share/hole; tar -cSf /tmp/hole.tar -C /tmp/small .").ok();
    for source in ["/tmp/hole.tar", "/tmp/small"] {
        ezz(&["install", source]).refused(1, "--max-size SIZE");
    }
    sh("rm /tmp/small/usr/share/hole").ok();
    ezz(&["install", "/tmp/small.tar", "--max-size", "64K"]).refused(1, "more than 65536 bytes");
    let entry = ezz(&["install", "/tmp/zfs.tar"]).refused(1, "ZFS's own directory");
    assert!(entry.stderr.contains("--exclude=./.zfs"), "{entry:#?}");
    sh("mkdir -p /tmp/small/srv/x; chown 70000:5 /tmp/small/srv/x; tar -cf /tmp/owner.tar -C /tmp/small .").ok();
    ezz(&["install", "/tmp/owner.tar"]).refused(1, "srv/x (70000:5)");
    sh("rmdir /tmp/small/srv/x; cd /tmp/small; rmdir run; ln -s var/run run; tar -cf /tmp/run.tar .").ok();
    ezz(&["install", "/tmp/run.tar"]).refused(1, "make run a directory in the world");
    // Forms that archives of worlds have, and that other readers accept.
    sh(r#"cd /tmp/small; rm run; mkdir run
        tar -cf /tmp/abs.tar -P --transform 's,^,/,S' *; tar -cf /tmp/noend.tar .
        python3 - <<'END'
import tarfile
whole = open('/tmp/noend.tar', 'rb').read()
with tarfile.open('/tmp/noend.tar') as t:
    last = max(m.offset_data + (m.size + 511) // 512 * 512 for m in t if m.isreg() or True)
open('/tmp/noend.tar', 'wb').write(whole[:last])
END
        gzip -k /tmp/noend.tar"#)
    .ok();
    ezz(&["install", "/tmp/noend.tar"]).refused(1, "before its end mark");
    for source in ["/tmp/abs.tar", "/tmp/noend.tar.gz"] {
        ezz(&["install", source]).ok();
    }
    let base = |id: &str| {
        sh(&format!(
            "cd /srv/jails/basejail/{id}; find . -path ./.ezz -prune -o -print | sort"
        ))
        .ok()
        .stdout
    };
    let last: u32 = seq().parse().expect("a number");
    assert_eq!(base(&(last - 1).to_string()), base(&last.to_string()));
}

#[test]
fn a_secret_stops_the_install_unless_allowed_and_stays_allowed() {
    init();
    small_world(Path::new("/tmp/small"), "12.1");
    let key = |word: &str| {
        let text = format!("-----BEGIN PRIVATE KEY-----\n{word}\n-----END PRIVATE KEY-----\n");
        fs::create_dir_all("/tmp/small/etc/ssl/private").expect("made");
        fs::write("/tmp/small/etc/ssl/private/my.key", text).expect("written");
    };
    key("MIIB");
    // A key that Debian creates on each machine is no secret.
    sh("cp /tmp/small/etc/ssl/private/my.key /tmp/small/etc/ssl/private/ssl-cert-snakeoil.key")
        .ok();
    pack("/tmp/small");
    let told =
        ezz(&["install", "/tmp/small.tar"]).refused(1, "etc/ssl/private/my.key: a private key");
    assert!(!told.stderr.contains("snakeoil"), "{told:#?}");
    assert!(
        !sh("zfs list -Hro name tank/ezz")
            .ok()
            .stdout
            .contains("jail/")
    );
    ezz(&["install", "/tmp/small.tar", "--allow-secrets"]).ok();
    let world = |id: &str| json_property(&format!("tank/ezz/basejail/{id}"), "ezz:world");
    let allowed = serde_json::json!(["etc/ssl/private/my.key: a private key"]);
    assert_eq!(world("2")["allowed"], allowed);
    // Every user can read the property, so it contains nothing of the secret.
    assert!(!property("tank/ezz/basejail/2", "ezz:world").contains("sha"));
    fs::write("/tmp/small/etc/motd", "new").expect("written");
    pack("/tmp/small");
    let told = ezz(&["update", "--from", "/tmp/small.tar"]).ok();
    assert!(
        told.stderr
            .contains("allowed since debian-12.1.2: etc/ssl/private/my.key"),
        "{told:#?}"
    );
    assert_eq!(world("3")["allowed"], allowed);
    ezz(&[
        "update",
        "--on-host",
        "--run",
        "sh",
        "-c",
        "echo run >$EZZ_ROOT/etc/motd",
    ])
    .ok();
    assert_eq!(world("4")["allowed"], allowed);
    // Another secret in its place, or beside it, was not allowed.
    for (make, words) in [
        (
            "sed -i s/MIIB/MIIC/ etc/ssl/private/my.key",
            "etc/ssl/private/my.key",
        ),
        (
            "cp etc/ssl/private/my.key etc/other.key",
            "etc/other.key: a private key",
        ),
        (
            "printf 'root:$y$j9T$x$y:1::::::\\n' >etc/shadow",
            "etc/shadow: a password of root",
        ),
    ] {
        let run = format!("cd $EZZ_ROOT; {make}");
        let told = ezz(&["update", "--on-host", "--run", "sh", "-c", &run]).refused(1, words);
        let list = told.stderr.split("secrets: ").nth(1).expect("a list");
        assert!(!list.contains("; "), "only what is new: {told:#?}");
    }
    // If a world no longer has the secret, it must be allowed again when it returns.
    ezz(&[
        "update",
        "--on-host",
        "--run",
        "sh",
        "-c",
        "rm $EZZ_ROOT/etc/ssl/private/my.key",
    ])
    .ok();
    ezz(&["update", "--from", "/tmp/small.tar"]).refused(1, "my.key");
    assert_eq!(inspect::site(SITE), [""; 0]);
}

/// The names, the certificate, and /tmp, which a world with an init of its own wants in memory.
#[test]
fn a_jail_gets_what_is_its_own_when_it_starts() {
    init();
    runnable_world(Path::new("/tmp/runnable"));
    sh(r#"set -e; cd /tmp/runnable; mkdir -p etc/ssl/private etc/ssl/certs
       echo '10.9.8.7 builder' >etc/hosts; echo builder >etc/hostname
       printf '#!/bin/sh\n[ "$1" = generate-default-snakeoil ] || exit 1\nread -r name </etc/hostname || exit 1\necho "key of $name" >/etc/ssl/private/ssl-cert-snakeoil.key\n' >usr/sbin/make-ssl-cert
       chmod 755 usr/sbin/make-ssl-cert; tar -cf /tmp/runnable.tar ."#)
    .ok();
    ezz(&["install", "/tmp/runnable.tar"]).ok();
    let fleet = |hostname: &str| {
        let text = format!(
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\nstate = \"running\"\nhostname = \"{hostname}\"\n"
        );
        fs::write("/tmp/fleet.toml", text).expect("written");
        ezz(&["apply", "/tmp/fleet.toml", "--restart"]).ok();
    };
    let etc = |name: &str| format!("/srv/jails/a/etc/{name}");
    let line = |names: &str| format!("127.0.1.1\t{names}\t# the name of this jail, kept by ezz\n");
    fleet("a.example.org");
    assert!(
        text(&etc("hosts")).ends_with(&line("a.example.org a")),
        "{}",
        text(&etc("hosts"))
    );
    assert!(!text(&etc("hosts")).contains("builder"));
    assert_eq!(text(&etc("hostname")), "a.example.org\n");
    assert_eq!(
        text(&etc("ssl/private/ssl-cert-snakeoil.key")),
        "key of a.example.org\n"
    );
    // A clone has its own, and the source keeps what it has.
    ezz(&["clone", "a", "b", "--start"]).ok();
    assert_eq!(
        text("/srv/jails/b/etc/ssl/private/ssl-cert-snakeoil.key"),
        "key of b\n"
    );
    assert_eq!(text("/srv/jails/b/etc/hostname"), "b\n");
    assert!(text("/srv/jails/b/etc/hosts").ends_with(&line("b")));
    assert_eq!(
        text(&etc("ssl/private/ssl-cert-snakeoil.key")),
        "key of a.example.org\n"
    );
    // Both files follow changes, beside lines that the administrator has added; but not once they are the
    // administrator's own.
    ezz(&[
        "exec",
        "a",
        "--",
        "sh",
        "-c",
        "echo '10.0.0.1 db' >>/etc/hosts",
    ])
    .ok();
    fleet("c");
    assert!(text(&etc("hosts")).ends_with(&format!("{}10.0.0.1 db\n", line("c"))));
    assert_eq!(text(&etc("hostname")), "c\n");
    fs::write(etc("hostname"), "mine\n").expect("written");
    fs::write(etc("hosts"), "127.0.0.1 mine\n").expect("written");
    fleet("d");
    assert_eq!(
        (text(&etc("hostname")), text(&etc("hosts"))),
        ("mine\n".into(), "127.0.0.1 mine\n".into())
    );
    // A lost file is created again; where that fails, the jail starts nevertheless.
    let key = "/srv/jails/b/etc/ssl/private/ssl-cert-snakeoil.key";
    sh(&format!("rm {key}")).ok();
    ezz(&["restart", "b"]).ok();
    assert_eq!(text(key), "key of b\n");
    sh(&format!(
        "rm {key} /srv/jails/b/etc/hostname; mkdir /srv/jails/b/etc/hostname"
    ))
    .ok();
    let told = ezz(&["restart", "b"]).ok();
    assert!(told.stderr.contains("make-ssl-cert failed"), "{told:#?}");
    // systemd of Debian 13 mounts /tmp, which is not allowed in a jail: every system would be degraded.
    sh(r#"set -e; cd /tmp/runnable; d=usr/lib/systemd/system/local-fs.target.wants
       mkdir -p $d; ln -s ../tmp.mount $d/tmp.mount
       printf '#!/bin/sh\ntrap "exit 0" INT TERM USR1 USR2 PWR 37\nwhile :; do sleep 1; done\n' >usr/sbin/init; chmod 755 usr/sbin/init
       tar -cf /tmp/init.tar ."#)
    .ok();
    ezz(&["install", "/tmp/init.tar", "--track", "init"]).ok();
    ezz(&["create", "i", "--track", "init", "--start"]).ok();
    let mounts = || {
        ezz(&["exec", "i", "--", "cat", "/proc/self/mounts"])
            .ok()
            .stdout
    };
    let tmp = mounts();
    let tmp = tmp
        .lines()
        .find(|line| line.split(' ').nth(1) == Some("/tmp"))
        .expect("mounted");
    for word in ["tmpfs", "nosuid", "nodev", "size=524288k"] {
        assert!(tmp.contains(word), "{tmp}");
    }
    assert!(ezz(&["exec", "i", "--", "sh", "-c", "echo x >/tmp/x"]).code == 0);
    assert!(!Path::new("/srv/jails/i/tmp/x").exists());
    ezz(&["exec", "i", "--", "mkdir", "-p", "/etc/systemd/system"]).ok();
    ezz(&[
        "exec",
        "i",
        "--",
        "ln",
        "-s",
        "/dev/null",
        "/etc/systemd/system/tmp.mount",
    ])
    .ok();
    ezz(&["restart", "i"]).ok();
    assert!(!mounts().contains(" /tmp "));
    assert_eq!(inspect::site(SITE), [""; 0]);
}

/// Worlds with very odd account files install, and their jails start; a command runs as the right account, or is
/// refused.
#[test]
fn odd_account_files_keep_nobody_from_a_jail() {
    init();
    runnable_world(Path::new("/tmp/runnable"));
    let many: String = (1..=100_000)
        .map(|n| format!("user{n}:x:{}:100::/:/bin/sh\n", n % 60_000 + 1))
        .collect();
    let root = "root:x:0:0:root:/root:/bin/sh\n";
    // The requested user, and the output of `id -u` or the reason of the refusal.
    let cases: [(&str, String, &str, Result<&str, &str>); 7] = [
        ("many", format!("{many}{root}"), "user99999", Ok("40000")),
        (
            "twice",
            format!("{root}a:x:7:7::/:/bin/sh\na:x:8:8::/:/bin/sh\n"),
            "a",
            Ok("7"),
        ),
        ("rootless", "a:x:7:7::/:/bin/sh\n".to_owned(), "a", Ok("7")),
        ("empty", String::new(), "a", Err("no user \"a\"")),
        (
            "nul",
            format!("{root}a\0b:x:9:9::/:/bin/sh\n\0\0\na:x:7:7:\0:/:/bin/sh\n"),
            "a",
            Ok("7"),
        ),
        (
            "last",
            format!("{root}a:x:65535:65535::/:/bin/sh\n"),
            "a",
            Ok("65535"),
        ),
        (
            "beyond",
            format!("{root}a:x:65536:0::/:/bin/sh\nb:x:4294967295:0::/:/bin/sh\n"),
            "b",
            Err("4294967295"),
        ),
    ];
    for (name, passwd, user, expected) in cases {
        fs::write("/tmp/runnable/etc/passwd", &passwd).expect("written");
        pack("/tmp/runnable");
        ezz(&[
            "install",
            "/tmp/runnable.tar",
            "--track",
            &format!("t{name}"),
        ])
        .ok();
        ezz(&["create", name, "--track", &format!("t{name}"), "--start"]).ok();
        let asked = ezz(&["exec", name, "--", "id", "-u"]).ok();
        assert_eq!(asked.stdout, "0\n", "{name}");
        let asked = ezz(&["exec", name, "--user", user, "--", "id", "-u"]);
        match expected {
            Ok(uid) => assert_eq!(asked.ok().stdout.trim(), uid, "{name}"),
            Err(words) => drop(asked.refused(1, words)),
        }
        ezz(&["delete", name, "--yes"]).ok();
        // The numbers of accounts are continuous in a site, also those of worlds that were deleted: the next case begins
        // with none.
        ezz(&["track", "delete", &format!("t{name}")]).ok();
        ezz(&["world", "delete", &seq(), "--yes"]).ok();
        sh(
            "for p in $(zfs get -Hs local -o property all tank/ezz/basejail | grep ezz:accounts); do
                zfs inherit $p tank/ezz/basejail || exit; done",
        )
        .ok();
    }
    assert_eq!(inspect::site(SITE), [""; 0]);
}
