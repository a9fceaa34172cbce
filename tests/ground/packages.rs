//! Worlds of FreeBSD's base packages, with a stand-in for pkg(8) that checks its arguments: pkg_config.c and pkg_repo.c
//! of pkg 2. Nothing here has run on FreeBSD.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use serde_json::json;

use crate::hosts::FreeBsd;
use crate::hosts_suite::Bench;

/// Like the real pkg(8), it writes its database even if there is nothing to do. It finds its definitions in the
/// directory of -R, merges those of a repository in the order of their files, and looks for keys only below its root.
/// The file `version` beside it is the version in the repository; `fails` names the command that fails.
const PKG: &str = r##"#!/bin/sh
home=$(dirname "$0")
echo "$*" >>"$home/said"
root= repos= cache=/var/cache/pkg abi= osversion=
while :; do case $1 in
-N) ;;
-r) root=$2; shift;;
-R) repos=$2; shift;;
-o) case $2 in
    ABI=*) abi=${2#*=};; OSVERSION=*) osversion=${2#*=};; PKG_CACHEDIR=*) cache=${2#*=};; IGNORE_OSVERSION=yes) ;;
    *) exit 64;; esac; shift;;
*) break;; esac; shift; done
[ "${1:-status}" != "$(cat "$home/fails" 2>/dev/null)" ] || { echo "pkg: $1 did not go well" >&2; exit 1; }
last() { cat "$repos"/*.conf | sed -n "s/.*$1: \"*\([^\",}]*[^\",} ]\)\"*.*/\1/p" | tail -n 1; }
case ${1:-} in
'') [ -z "$root" ] || [ -f "$root/var/db/pkg/local.sqlite" ] || exit 1;;
which) [ -f "$root/var/db/pkg/local.sqlite" ] || exit 1;;
update)
    [ "$(last enabled)" = yes ] || { echo "No repositories are enabled" >&2; exit 1; }
    [ "$(last signature_type)" = fingerprints ] || exit 65
    [ -n "$(ls "$root$(last fingerprints)/trusted")" ] || { echo "No trusted certificates" >&2; exit 1; }
    echo "$abi $osversion $(last url) $(last mirror_type)" >"$home/asked"
    mkdir -p "$root/var/db/pkg/repos/FreeBSD-base"
    date +%s%N >"$root/var/db/pkg/repos/FreeBSD-base/db";;
query) head -n 1 "$root/var/db/pkg/local.sqlite";;
rquery) cat "$home/rquery";;
install|upgrade)
    mkdir -p "$root/bin" "$root/sbin" "$root/libexec" "$root/etc/defaults" "$root/etc/pkg" "$root/usr/bin" \
        "$root/var/db/pkg" "$root/root" "$root/tmp" "$root/dev"
    { printf '\177ELF\002\001\001\011\000\000\000\000\000\000\000\000\002\000\076\000'; head -c 44 /dev/zero; } >"$root/bin/sh"
    cp "$root/bin/sh" "$root/sbin/init"
    touch "$root/libexec/ld-elf.so.1" "$root/etc/defaults/rc.conf" "$root/usr/bin/uname"
    printf 'USERLAND_VERSION="%s"\n' "$(cat "$home/version")" >"$root/bin/freebsd-version"
    printf 'root:*:0:0::0:0:Charlie:/root:/bin/sh\n' >"$root/etc/master.passwd"
    echo 'FreeBSD-base: { url: "pkg+https://own/${ABI}", mirror_type: "srv", signature_type: "fingerprints", fingerprints: "/usr/share/keys/pkgbase-15", enabled: no }' >"$root/etc/pkg/FreeBSD.conf"
    { cat "$home/version"; date +%s%N; } >"$root/var/db/pkg/local.sqlite"
    touch "$cache/fetched";;
clean) ;;
*) exit 64;; esac
"##;

struct Host {
    machine: FreeBsd,
    bin: PathBuf,
    keys: PathBuf,
}

impl Host {
    /// Creates a FreeBSD host with pkg(8), and a directory of keys.
    fn new() -> Host {
        let machine = FreeBsd::at("jails");
        let bin = machine.programs.path("bin");
        let host = Host {
            keys: machine.programs.path("my keys"),
            machine,
            bin,
        };
        host.put("pkg.sh", PKG);
        symlink(host.bin.join("pkg.sh"), host.bin.join("pkg")).expect("writable");
        host.put("version", "15.0-RELEASE\n");
        host.put("rquery", "pkg\n");
        fs::create_dir_all(host.keys.join("trusted")).expect("writable");
        fs::write(host.keys.join("trusted/one"), "function: sha256\n").expect("writable");
        host
    }

    fn put(&self, name: &str, text: &str) {
        let at = self.bin.join(name);
        fs::write(&at, text).expect("writable");
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).expect("ours");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.bin.join(name)).expect("it was written")
    }

    /// Returns the words of `ezz install`, with keys of our own.
    fn install<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let keys = self.keys.to_str().expect("text");
        let words = ["install", "15.0-RELEASE", "--packages", "--arch", "amd64"];
        [&words, &["--keys", keys, "--track", "p"][..], more].concat()
    }

    fn generations(&self) -> Vec<u64> {
        let lines = self.machine.ezz(&["world", "list", "--json"]).ok().json();
        let number = |line: &serde_json::Value| line["generation"].as_u64().expect("a number");
        lines.iter().map(number).collect()
    }

    fn base(&self, generation: u32, path: &str) -> PathBuf {
        let bases = self.machine.directory().join("basejail");
        bases.join(generation.to_string()).join(path)
    }
}

/// bsdinstall's pkgbase script, and the release notes of 15.1 for a release that is not the host's.
#[test]
fn base_packages_become_a_world() {
    let host = Host::new();
    let plan = host.machine.ezz(&host.install(&["--dry-run"])).ok();
    assert!(
        plan.out
            .contains("pkg(8) installs FreeBSD-set-base-jail of 15.0-RELEASE into it"),
        "{plan:#?}"
    );
    assert_eq!(host.generations(), [1]);

    let mirror = ["--mirror", "file:///repositories/", "--json"];
    let made = host.machine.ezz(&host.install(&mirror)).ok().json();
    let told = made.last().expect("an object");
    assert_eq!(
        (&told["generation"], &told["label"], &told["source"]),
        (&json!(2), &json!("15.0-RELEASE"), &json!(null))
    );
    assert!(told["files"].as_u64() > Some(8), "{told}");
    assert_eq!(
        host.read("asked"),
        "FreeBSD:15:amd64 1500000 file:///repositories/FreeBSD:15:amd64/base_release_0 none\n"
    );
    let said = host.read("said");
    let installed = said.lines().filter(|line| line.contains(" install "));
    let installed: Vec<&str> = installed.collect();
    assert!(
        matches!(installed[..], [it] if it.ends_with("install -U -y -r FreeBSD-base FreeBSD-set-base-jail pkg")),
        "{said}"
    );
    // The world contains nothing of the work, but it knows where its packages came from.
    assert!(!host.base(2, ".ezz-repos").exists());
    assert!(!host.base(2, "var/db/pkg/repos").exists());
    assert!(host.base(2, "var/db/pkg/local.sqlite").exists());
    assert!(host.base(2, "usr/share/keys/ezz-base/trusted/one").exists());
    let own = host.base(2, "usr/local/etc/pkg/repos/FreeBSD-base.conf");
    let own = fs::read_to_string(own).expect("it is there");
    assert!(own.contains("enabled: no"), "jails cannot write it: {own}");
    let cache = host
        .machine
        .directory()
        .join(".cache/packages/15.0-RELEASE-amd64");
    assert!(cache.join("fetched").exists(), "downloads stay on the host");
    // A jail of this world, and an update.
    host.machine
        .ezz(&["create", "a", "--track", "p", "--start"])
        .ok();
    let same = host.machine.ezz(&["update", "--track", "p"]).ok();
    assert!(
        same.out.contains("nothing") || same.err.contains("nothing"),
        "{same:#?}"
    );
    assert_eq!(host.generations(), [1, 2]);
    host.put("version", "15.0-RELEASE-p1\n");
    host.machine.ezz(&["update", "--track", "p"]).ok();
    // Generation 3 was not sealed.
    assert_eq!(host.generations(), [1, 2, 4]);
    // The update uses the definition in the world: the mirror, enabled.
    let asked = host.read("asked");
    assert_eq!(
        asked.trim(),
        "file:///repositories/FreeBSD:15:amd64/base_release_0 none"
    );
    assert!(!host.base(4, ".ezz-repos").exists());
}

/// `update --from` does the same for an existing track.
#[test]
fn a_track_changes_to_packages_of_another_release() {
    let host = Host::new();
    host.put("rquery", "");
    let keys = host.keys.to_str().expect("text");
    let words = [
        "update",
        "--from",
        "15.1-RELEASE",
        "--packages",
        "--arch",
        "arm64",
        "--keys",
        keys,
        "--set",
        "minimal-jail",
        "--set",
        "lib32",
    ];
    host.put("version", "15.1-RELEASE\n");
    host.machine.ezz(&words).ok();
    assert_eq!(
        host.read("asked"),
        "FreeBSD:15:aarch64 1501000 pkg+https://pkg.FreeBSD.org/FreeBSD:15:aarch64/base_release_1 srv\n"
    );
    // A repository that was built from source does not contain pkg.
    let said = host.read("said");
    assert!(
        said.contains("FreeBSD-base FreeBSD-set-minimal-jail FreeBSD-set-lib32\n"),
        "{said}"
    );
    assert_eq!(host.generations(), [1, 2]);
}

#[test]
fn what_cannot_be_installed_leaves_nothing() {
    let host = Host::new();
    for command in ["update", "install"] {
        host.put("fails", command);
        let failed = host
            .machine
            .ezz(&host.install(&[]))
            .refused(1, "did not go well");
        assert!(
            failed.err.contains("FreeBSD-set-base-jail of 15.0-RELEASE"),
            "{failed:#?}"
        );
        assert_eq!(host.generations(), [1]);
        assert!(!host.base(2, "").exists());
    }
    fs::remove_file(host.bin.join("fails")).expect("it was there");
    // Without keys no signature would be accepted.
    let none = ["install", "15.0-RELEASE", "--packages", "--arch", "amd64"];
    host.machine
        .ezz(&none)
        .refused(1, "keys of base packages in /usr/share/keys/pkgbase-15");
    let old = ["install", "14.3-RELEASE", "--packages", "--arch", "amd64"];
    host.machine.ezz(&old).refused(2, "from 15.0 on");
    let bad = ["--mirror", "https://a\"; enabled: no"];
    host.machine
        .ezz(&host.install(&bad))
        .refused(2, "bad mirror");
    let digest = ["--sha256", &"0".repeat(64)];
    host.machine
        .ezz(&host.install(&digest))
        .refused(2, "--sha256 is of one file");
    let twice = ["--set", "lib32", "--set", "lib32"];
    host.machine
        .ezz(&host.install(&twice))
        .refused(2, "named twice");
    let archive = ["install", "/dev/null", "--packages"];
    host.machine.ezz(&archive).refused(2, "is not a release");
    // pkg(7) alone would fetch the real one unasked.
    host.put("fails", "status");
    host.machine.ezz(&host.install(&[])).refused(1, "pkg(8)");
    assert_eq!(host.generations(), [1]);
}
