//! Releases of FreeBSD from a mirror over TLS, and mirrors that misbehave.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::inspect;
use crate::support::*;

const MIRROR: &str = "/tmp/mirror";
const CACHE: &str = "/srv/jails/.cache/releases/14.3-RELEASE-amd64";

/// A mirror that ends with its test.
struct Mirror(Child);

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the digest of a file of the mirror.
fn digest(set: &str) -> String {
    let line = sh(&format!(
        "sha256sum {MIRROR}/releases/amd64/amd64/14.3-RELEASE/{set}.txz"
    ))
    .ok();
    line.stdout.split(' ').next().expect("a digest").to_owned()
}

fn manifest(base: &str, lib32: &str) -> String {
    format!(
        "base.txz\t{base}\t9\tbase\t\"Base system (MANDATORY)\"\ton\nlib32.txz\t{lib32}\t2\tlib32\t\"32-bit libraries\"\ton\ngone.txz\t{lib32}\t2\tgone\t\"Named and missing\"\toff\n"
    )
}

/// Creates a world that its profile accepts as FreeBSD, with a file that cannot be compressed, and serves it as the
/// sets of a mirror.
#[track_caller]
fn serve() -> Mirror {
    let script = format!(
        r#"set -e
d={MIRROR}/releases/amd64/amd64/14.3-RELEASE; mkdir -p $d /tmp/w; cd /tmp/w
mkdir -p bin sbin lib libexec usr/bin usr/lib usr/libexec usr/sbin usr/share etc/defaults var root tmp dev
printf '#!/bin/sh\nUSERLAND_VERSION="14.3-RELEASE-p2"\n' >bin/freebsd-version
cp /bin/true bin/sh; : >libexec/ld-elf.so.1; : >etc/defaults/rc.conf
head -c 600000 /dev/urandom >usr/share/large
tar -cJf $d/base.txz .
mkdir -p /tmp/l/usr/lib32; cd /tmp/l; echo 32 >usr/lib32/libc.so.7
tar -cJf $d/lib32.txz .
cd {MIRROR}
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key -out certificate -subj /CN=localhost \
    -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null"#
    );
    sh(&script).ok();
    let at = format!("{MIRROR}/releases/amd64/amd64/14.3-RELEASE/MANIFEST");
    fs::write(at, manifest(&digest("base"), &digest("lib32"))).expect("written");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/mirror.py");
    let mirror = Mirror(spawn(
        "/tmp",
        &format!("exec /usr/bin/python3 {program} {MIRROR} {MIRROR}/certificate {MIRROR}/key"),
    ));
    let begun = Instant::now();
    while !Path::new(MIRROR).join("ready").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no mirror");
        std::thread::sleep(Duration::from_millis(100));
    }
    mirror
}

/// Runs `ezz install 14.3-RELEASE` from one of the mirror's directories, trusting its certificate.
fn install(mirror: &str, more: &str) -> Ended {
    sh(&format!(
        "SSL_CERT_FILE={MIRROR}/certificate {EZZ} install 14.3-RELEASE --foreign --arch amd64 --mirror {mirror} {more}"
    ))
}

/// Returns the requests to the mirror since the last time, without the directory.
fn asked() -> Vec<String> {
    let text = fs::read_to_string(format!("{MIRROR}/log")).unwrap_or_default();
    let _ = fs::remove_file(format!("{MIRROR}/log"));
    let last = |line: &str| line.rsplit('/').next().unwrap_or_default().to_owned();
    text.lines().map(last).collect()
}

fn generations() -> usize {
    ezz(&["world", "list", "--json"]).ok().json().len()
}

const GOOD: &str = "https://localhost:8443/releases";

#[test]
fn a_release_is_fetched_checked_and_kept() {
    init();
    let _mirror = serve();
    let told = install(GOOD, "--json").ok().json();
    assert_eq!(told[0]["set"], "base");
    assert_eq!(told[0]["sha256"], digest("base"));
    let by = format!("{GOOD}/amd64/amd64/14.3-RELEASE/MANIFEST");
    assert_eq!(told[0]["vouched"], serde_json::json!([by]));
    assert_eq!(told[1]["label"], "14.3-RELEASE-p2");
    assert_eq!(told[1]["source"], digest("base"));
    assert_eq!(asked(), ["MANIFEST 0", "base.txz 0"]);
    // A cached set is not downloaded again, and except for the manifest no network is needed.
    let told = install(GOOD, "--set base --set lib32").ok();
    assert!(told.stderr.contains("lib32: SHA-256 "), "{told:#?}");
    assert_eq!(asked(), ["MANIFEST 0", "lib32.txz 0"]);
    let lib = fs::read_to_string("/srv/jails/basejail/2/usr/lib32/libc.so.7");
    assert_eq!(lib.expect("both sets are there"), "32\n");
    assert!(Path::new("/srv/jails/basejail/2/bin/freebsd-version").exists());
    // A cached file that was changed is not accepted.
    fs::write(format!("{CACHE}/base.txz"), "x").expect("written");
    install(GOOD, "").ok();
    assert_eq!(asked(), ["MANIFEST 0", "base.txz 0"]);
    // Two sources of digests, which first agree and then do not.
    let local = "/usr/local/share/freebsd/MANIFESTS";
    fs::create_dir_all(local).expect("made");
    let local = format!("{local}/amd64-amd64-14.3-RELEASE");
    fs::write(&local, manifest(&digest("base"), &digest("lib32"))).expect("written");
    let told = install(GOOD, "--json").ok().json();
    assert_eq!(told[0]["vouched"], serde_json::json!([local, by]));
    fs::write(&local, manifest(&digest("lib32"), &digest("lib32"))).expect("written");
    let before = everything();
    install(GOOD, "").refused(1, "have different digests");
    assert_eq!(everything(), before);
    assert_eq!(inspect::site(SITE), [""; 0]);
}

#[test]
fn a_track_is_brought_to_a_release() {
    init();
    let _mirror = serve();
    // No track points to it without a request: jails of this host could not run it.
    let told = install(GOOD, "--json").ok().json();
    assert_eq!(told[1]["current"], false);
    ezz(&["track", "create", "main", "--generation", "1"]).ok();
    let update = |more: &str| {
        sh(&format!(
            "SSL_CERT_FILE={MIRROR}/certificate {EZZ} update --from 14.3-RELEASE --foreign --arch amd64 --mirror {more}"
        ))
    };
    let told = update(&format!("{GOOD} --set base --set lib32 --dry-run")).ok();
    let plan = told.stdout + &told.stderr;
    assert!(
        plan.contains("14.3-RELEASE (base, lib32) is fetched"),
        "{plan}"
    );
    assert_eq!(generations(), 1);
    // A mirror that lacks the release leaves nothing, and the track stays where it is.
    let before = everything();
    update("https://localhost:8443/broken").refused(1, "500");
    assert_eq!(everything(), before);
    let told = update(&format!("{GOOD} --set base --set lib32 --json"))
        .ok()
        .json();
    let sets: Vec<_> = told.iter().filter_map(|it| it["set"].as_str()).collect();
    assert_eq!(sets, ["base", "lib32"]);
    assert_eq!(told[2]["generation"], 2);
    assert_eq!(told[2]["parent"], 1);
    assert_eq!(told[3]["to"], 2);
    let lib = fs::read_to_string("/srv/jails/basejail/2/usr/lib32/libc.so.7");
    assert_eq!(lib.expect("both sets are there"), "32\n");
    ezz(&["update", "--set", "base", "--swap", "1"]).exits(2);
    ezz(&["update", "--set", "base"]).exits(2);
    assert_eq!(inspect::site(SITE), [""; 0]);
}

#[test]
fn a_mirror_that_lies_or_lacks_leaves_nothing() {
    init();
    let _mirror = serve();
    let before = everything();
    let unchanged = || {
        assert_eq!(everything(), before);
        let kept = sh(&format!("ls -A {CACHE} 2>/dev/null")).stdout;
        assert_eq!(kept, "", "nothing that is not verified is kept");
    };
    // The server's certificate is not valid for it.
    ezz(&[
        "install",
        "14.3-RELEASE",
        "--foreign",
        "--arch",
        "amd64",
        "--mirror",
        GOOD,
    ])
    .refused(1, "certificate");
    unchanged();
    install("https://127.0.0.2:8443/releases", "").refused(1, "cannot fetch");
    unchanged();
    // A set does not match the mirror's own manifest.
    let at = format!("{MIRROR}/releases/amd64/amd64/14.3-RELEASE/MANIFEST");
    let good = fs::read_to_string(&at).expect("it is there");
    fs::write(&at, manifest(&digest("lib32"), &digest("lib32"))).expect("written");
    let told = install(GOOD, "").refused(1, "the SHA-256 of https:");
    assert!(told.stderr.contains(&digest("base")) && told.stderr.contains(&digest("lib32")));
    unchanged();
    for (text, words) in [("", "it is empty"), ("<html>\n", "line 1: expected a file")] {
        fs::write(&at, text).expect("written");
        install(GOOD, "").refused(1, words);
        unchanged();
    }
    fs::write(&at, vec![b'x'; 100_000]).expect("written");
    install(GOOD, "").refused(1, "far too long");
    fs::write(&at, good).expect("written");
    // The set, file, release or architecture does not exist.
    install(GOOD, "--set src").refused(1, "has no set src; it has base, gone, lib32");
    install(GOOD, "--set gone").refused(1, "the mirror has no https://");
    let other = format!(
        "SSL_CERT_FILE={MIRROR}/certificate {EZZ} install 14.9-RELEASE --foreign --arch amd64 --mirror {GOOD}"
    );
    sh(&other).refused(1, "the mirror has no https://");
    install(GOOD, "--sha256 00").exits(2);
    let digests = format!("--sha256 {}", "0".repeat(64));
    install(GOOD, &digests).refused(1, "have different digests");
    install("https://localhost:8443/broken", "").refused(1, "500");
    install("https://localhost:8443/loop", "").refused(1, "cannot fetch");
    install("https://localhost:1/", "").refused(1, "cannot fetch");
    unchanged();
    // Without TLS the mirror's manifest does not vouch for anything.
    let plain = "http://localhost:8080/releases";
    install(plain, "").refused(1, "cannot verify base");
    unchanged();
    install(plain, &format!("--sha256 {}", digest("base"))).ok();
    // There are no releases of this host's system, which is reported before anything is downloaded.
    asked();
    let native = [
        "install",
        "14.3-RELEASE",
        "--arch",
        "amd64",
        "--mirror",
        GOOD,
    ];
    ezz(&native).refused(1, "needs FreeBSD, but this host runs Linux");
    assert_eq!(asked(), [""; 0]);
    // Invalid arguments.
    for (args, words) in [
        ("install 14.3-RELEASE --mirror ftp://x", "bad mirror"),
        ("install 14.3-RELEASE --set base --set base", "named twice"),
        (
            "install 14.3-RELEASE --set base --set src --sha256 0000000000000000000000000000000000000000000000000000000000000000",
            "is of one file",
        ),
        ("install 14.3-STABLE --set base", "is not a release"),
        ("install /tmp/w --set base", "is not a release"),
        (
            "install 14.3-STABLE",
            "there is no file or directory 14.3-STABLE",
        ),
    ] {
        sh(&format!("{EZZ} {args}")).refused(2, words);
    }
    sh(&format!("{EZZ} install 14.3-RELEASE --arch vax")).exits(2);
    sh(&format!("{EZZ} install 14.3-RELEASE --set ../base")).exits(2);
}

#[test]
fn a_line_that_breaks_is_gone_on_with() {
    init();
    let _mirror = serve();
    for (how, least) in [("moved", 2), ("cut", 3), ("busy", 3), ("slow", 2)] {
        sh(&format!("rm -rf {CACHE}")).ok();
        let before = generations();
        install(&format!("https://localhost:8443/{how}"), "").ok();
        assert_eq!(generations(), before + 1, "{how}");
        let asked = asked();
        assert!(asked.len() >= least, "{how}: {asked:?}");
        let resumed = asked
            .iter()
            .any(|line| line.starts_with("base.txz ") && !line.ends_with(" 0"));
        assert_eq!(resumed, how == "cut", "{how}: {asked:?}");
    }
    // The download of a killed command is continued; a part that does not fit is downloaded again.
    let slow = format!(
        "SSL_CERT_FILE={MIRROR}/certificate {EZZ} install 14.3-RELEASE --foreign --arch amd64 --mirror https://localhost:8443/slow"
    );
    sh(&format!(
        "rm -rf {CACHE}; {slow} & pid=$!; sleep 4; kill -9 $pid; wait $pid; true"
    ))
    .ok();
    let part = format!("{CACHE}/base.part");
    assert!(
        fs::metadata(&part).is_ok_and(|found| found.len() > 0),
        "{asked:?}",
        asked = asked()
    );
    asked();
    install(GOOD, "").ok();
    assert!(!asked().contains(&"base.txz 0".to_owned()));
    for (mirror, wrong) in [
        (GOOD, 5000),
        ("https://localhost:8443/norange", 5000),
        (GOOD, 900_000),
    ] {
        sh(&format!("rm -rf {CACHE}/*")).ok();
        fs::write(&part, vec![b'x'; wrong]).expect("written");
        install(mirror, "").ok();
        assert_eq!(sh(&format!("ls {CACHE}")).ok().stdout, "base.txz\n");
    }
    // Ctrl-C takes effect at once, also while no data arrives.
    sh(&format!("rm -rf {CACHE}")).ok();
    let before = everything();
    let begun = Instant::now();
    let silent = slow.replace("/slow", "/silent");
    let told = sh(&format!(
        "{silent} 2>/tmp/said & pid=$!; sleep 4; kill -INT $pid; wait $pid; code=$?; cat /tmp/said; exit $code"
    ));
    assert_eq!(told.code, 1, "{told:#?}");
    assert!(told.stdout.contains("interrupted"), "{told:#?}");
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(everything(), before);
    assert_eq!(inspect::site(SITE), [""; 0]);
}

/// Base packages need the pkg(8) of a FreeBSD host: this is reported before anything is created, also for an update.
#[test]
fn base_packages_are_refused_here() {
    init();
    let world = small_world(Path::new("/tmp/small"), "12.1");
    let world = world.to_str().expect("text");
    ezz(&["install", world]).ok();
    let before = everything();
    let asked = ["15.0-RELEASE", "--packages"];
    for verb in [&["install"][..], &["update", "--from"]] {
        ezz(&[verb, &asked].concat()).refused(1, "pkg(8)");
        ezz(&[verb, &asked, &["--dry-run"]].concat()).refused(1, "pkg(8)");
    }
    ezz(&["install", world, "--packages"]).refused(2, "is not a release");
    ezz(&["install", "15.0-RELEASE", "--keys", "/tmp"]).exits(2);
    assert_eq!(everything(), before);
}
