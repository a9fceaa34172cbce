//! Clones of a jail: they have its files and configuration, and an identity of their own; nothing is left after they
//! are deleted.

use crate::inspect;
use crate::support::*;
use crate::worlds::install_runnable;
use crate::worlds::install_small;

const ROOT: &str = "/srv/jails";

/// Returns the snapshots of jails, and whether they are destroyed with their last clone.
fn snapshots() -> Vec<String> {
    let listed = sh("zfs get -Hpr -t snapshot -o name,value defer_destroy tank/ezz/jails").ok();
    let lines = listed.stdout.lines();
    lines
        .map(|line| line.trim_start_matches("tank/ezz/jails/").to_owned())
        .collect()
}

fn epoch() -> u64 {
    let text = property(SITE, "ezz:epoch");
    text.parse().expect("a number")
}

/// Creates a jail with some files of its own, and with an identity.
fn source() {
    init();
    install_small();
    ezz(&[
        "create",
        "a",
        "--quota",
        "1G",
        "--label",
        "tier=gold",
        "--label",
        "x=1",
        "--hostname",
        "a.example.org",
        "--address",
        "10.0.0.1/24",
    ])
    .ok();
    sh(&format!(
        "cd {ROOT}/a; mkdir etc/ssh; echo key >etc/ssh/ssh_host_ed25519_key; echo conf >etc/ssh/sshd_config
         echo 0123456789abcdef >etc/machine-id; echo a.example.org >etc/hostname; echo mine >root/data"
    ))
    .ok();
}

#[test]
fn clones_have_the_files_and_the_configuration_and_an_identity_of_their_own() {
    source();
    // Otherwise doctor reports that the host lacks the addresses of its jails.
    sh("ip link set lo up; for n in 1 2 3 4; do ip address add 10.0.0.$n/32 dev lo; done").ok();
    let before = everything();
    let planned = ezz(&["clone", "a", "b", "--dry-run"]).ok();
    for words in [
        "snapshot tank/ezz/jails/a@ezz-clone-",
        "the identity of its source",
    ] {
        assert!(planned.stdout.contains(words), "{planned:#?}");
    }
    assert_eq!(everything(), before, "a dry run changes nothing");
    let at = epoch();
    let told = ezz(&[
        "clone",
        "a",
        "b",
        "c{1..2}",
        "--ip-pool",
        "10.0.0.0/24",
        "--label",
        "x=2",
        "--json",
    ])
    .ok();
    assert_eq!(told.json()[2]["did"], "cloned");
    // The clones exist and are complete.
    assert_eq!(epoch(), at + commits_of_create() + 1);
    for (name, address) in [
        ("b", "10.0.0.2/24"),
        ("c1", "10.0.0.3/24"),
        ("c2", "10.0.0.4/24"),
    ] {
        let dataset = format!("{SITE}/jails/{name}");
        let config = json_property(&dataset, "ezz:jail");
        assert_eq!(config["hostname"], name);
        assert_eq!(config["addresses"][0], address);
        assert_eq!(config["labels"].to_string(), r#"{"tier":"gold","x":"2"}"#);
        assert!(config.get("todo").is_none(), "{config}");
        assert_eq!(property(&dataset, "quota"), "1073741824");
        let found = sh(&format!(
            "cd {ROOT}/{name}; cat root/data etc/ssh/sshd_config; wc -c <etc/machine-id; ls etc/ssh etc/hostname 2>&1"
        ));
        assert_eq!(
            found.stdout.lines().collect::<Vec<_>>(),
            [
                "mine",
                "conf",
                "0",
                "ls: cannot access 'etc/hostname': No such file or directory",
                "etc/ssh:",
                "sshd_config"
            ],
        );
        let used: u64 = property(&dataset, "used").parse().expect("a number");
        // Two directories and a file are the clone's own.
        assert!(used <= 96 << 10, "{name} costs {used} bytes");
    }
    assert_eq!(
        sh(&format!("cat {ROOT}/a/etc/ssh/ssh_host_ed25519_key"))
            .ok()
            .stdout,
        "key\n"
    );
    let listed = snapshots();
    assert!(
        matches!(&listed[..], [one] if one.starts_with("a@ezz-clone-") && one.ends_with("\ton")),
        "{listed:?}"
    );
    assert_eq!(inspect::site(SITE), [""; 0]);
    assert_eq!(
        ezz(&["doctor", "--json"]).ok().json()[0]["findings"].to_string(),
        "[]"
    );
    // A clone of a clone, and a name that exists.
    ezz(&["clone", "c1", "d"]).ok();
    ezz(&["clone", "a", "b"]).refused(1, "the jail b already exists");
    assert_eq!(snapshots().len(), 2);
    // A jail with clones stays unless they are deleted with it; the snapshots are destroyed with the last of them.
    let told = ezz(&["delete", "a", "--yes"]).refused(1, "tank/ezz/jails/b");
    assert!(told.stderr.contains("c1"), "{told:#?}");
    ezz(&["delete", "b", "--yes"]).ok();
    ezz(&["delete", "a", "c1", "c2", "--yes"]).refused(1, "tank/ezz/jails/d");
    ezz(&["delete", "a", "c1", "c2", "d", "--yes"]).ok();
    assert_eq!(
        sh("zfs list -Hr -t all -o name tank/ezz/jails").ok().stdout,
        "tank/ezz/jails\n"
    );
    assert_eq!(inspect::site(SITE), [""; 0]);
}

#[test]
fn the_snapshot_goes_with_the_last_clone() {
    source();
    ezz(&["clone", "a", "b{1..3}"]).ok();
    ezz(&["delete", "b1", "b2", "--yes"]).ok();
    assert_eq!(snapshots().len(), 1);
    ezz(&["delete", "b3", "--yes"]).ok();
    assert_eq!(snapshots().len(), 0);
    ezz(&["delete", "a", "--yes"]).ok();
}

#[test]
fn what_cannot_be_cloned_is_refused_and_nothing_is_left() {
    source();
    ezz(&["create", "there"]).ok();
    let before = everything();
    let unchanged = |args: &[&str], code: i32, words: &str| {
        ezz(args).refused(code, words);
        assert_eq!(everything(), before, "{args:?}");
    };
    unchanged(&["clone", "none", "b"], 1, "there is no jail none");
    unchanged(&["clone", "a", "a"], 1, "the jail a already exists");
    unchanged(
        &["clone", "a", "b", "there"],
        1,
        "the jail there already exists",
    );
    unchanged(&["clone", "a", "b", "b"], 2, "named twice");
    unchanged(
        &["clone", "a", "b{1..2001}", "--atomic"],
        2,
        "in one transaction",
    );
    unchanged(&["clone", "a", "b", "Bad"], 2, "Bad");
    unchanged(
        &["clone", "a", "b", "--address", "10.0.0.1/24"],
        1,
        "10.0.0.1/24",
    );
    ezz(&["clone", "a"]).exits(2);
    // A jail that is being merged, and one that was never finished.
    sh("zfs set ezz:merging='{\"from\":1,\"to\":1}' tank/ezz/jails/there").ok();
    ezz(&["clone", "there", "b"]).refused(1, "merge");
    sh("zfs inherit ezz:merging tank/ezz/jails/there; zfs set ezz:jail=\"$(zfs get -Hpo value ezz:jail tank/ezz/jails/there | sed 's/}$/,\"todo\":[\"identity\"]}/')\" tank/ezz/jails/there").ok();
    ezz(&["clone", "there", "b"]).refused(1, "interrupted");
    // Doctor finishes the latter.
    ezz(&["doctor", "--repair"]).ok();
    assert!(
        json_property("tank/ezz/jails/there", "ezz:jail")
            .get("todo")
            .is_none()
    );
    ezz(&["clone", "there", "b"]).ok();
}

/// A link in the place of files that are cleared away leads nowhere.
#[test]
fn a_jail_cannot_make_the_host_clear_away_what_is_not_its_own() {
    source();
    sh(&format!(
        "mkdir -p /srv/victim; cd /srv/victim; echo v >ssh_host_key; echo v >machine-id; echo v >hostname
         cd {ROOT}/a; rm -r etc/ssh etc/machine-id etc/hostname; ln -s /srv/victim etc/ssh; ln -s /srv/victim/machine-id etc/machine-id
         mkdir etc/hostname; echo x >etc/hostname/x; mkdir -p var/lib/systemd; mkfifo var/lib/systemd/random-seed"
    ))
    .ok();
    ezz(&["clone", "a", "b"]).ok();
    assert_eq!(sh("cat /srv/victim/*").ok().stdout, "v\nv\nv\n");
    let left = sh(&format!(
        "cd {ROOT}/b; ls -d etc/ssh etc/hostname/x var/lib/systemd/* etc/machine-id 2>/dev/null"
    ));
    assert_eq!(left.stdout, "etc/hostname/x\netc/ssh\n");
}

#[test]
fn a_running_jail_is_cloned_as_it_is_and_its_clones_run() {
    init();
    install_runnable(SITE);
    ezz(&["create", "a", "--start"]).ok();
    ezz(&[
        "exec",
        "a",
        "--",
        "/bin/sh",
        "-c",
        "echo inside >/root/data",
    ])
    .ok();
    ezz(&["clone", "a", "b{1..2}", "--start"]).ok();
    for name in ["a", "b1", "b2"] {
        let told = ezz(&[
            "exec",
            name,
            "--",
            "/bin/sh",
            "-c",
            "cat /root/data /etc/hostname",
        ])
        .ok();
        assert_eq!(told.stdout, format!("inside\n{name}\n"), "{name}");
    }
    let ids = sh(&format!("cat {ROOT}/*/etc/machine-id | sort -u | wc -l")).ok();
    assert_eq!(ids.stdout.trim(), "3", "each has its own");
    ezz(&["stop", "a", "b1", "b2"]).ok();
    ezz(&["clone", "b1", "t"]).ok();
    assert_eq!(inspect::site(SITE), [""; 0]);
}
