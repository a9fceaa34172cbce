//! What is installed: by `make install` for either system, by the FreeBSD port, and by the Debian package. The lab
//! installs and uses the package itself (`bare::package`); the port was never built.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start programs as a user would"
)]
#![expect(
    clippy::expect_used,
    reason = "a test that cannot go on says so by a panic"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const EZZ: &str = env!("CARGO_BIN_EXE_ezz");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The word in both scripts that the prefix replaces.
const WORD: &str = "@PREFIX@";

fn read(path: &str) -> String {
    let at = Path::new(ROOT).join(path);
    fs::read_to_string(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()))
}

/// Runs a target of the Makefile on an empty directory, as on that system.
fn make(target: &str, system: &str, prefix: &str, directory: &Path) {
    // GNU make, which has another name on systems with a make of their own.
    let program = if cfg!(target_os = "linux") {
        "make"
    } else {
        "gmake"
    };
    let ended = Command::new(program)
        .args(["-s", "-C", ROOT, target])
        .args([format!("SYSTEM={system}"), format!("PREFIX={prefix}")])
        .args([
            format!("BIN={EZZ}"),
            format!("DESTDIR={}", directory.display()),
        ])
        // These would come from a make that started this test.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKEOVERRIDES")
        .output()
        .expect("make can be started");
    assert!(ended.status.success(), "{ended:?}");
}

/// Runs `make install` and returns the directory with the result.
fn install(system: &str, prefix: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    make("install", system, prefix, directory.path());
    directory
}

/// Returns the files below a directory, by their names from there.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a plain name");
        if entry.file_type().expect("its type").is_dir() {
            let below = files(&entry.path());
            found.extend(below.into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            found.insert(name);
        }
    }
    found
}

/// Returns the verbs that `ezz --help` lists.
fn verbs() -> Vec<String> {
    let told = Command::new(EZZ).arg("--help").output().expect("ezz runs");
    let told = String::from_utf8(told.stdout).expect("text");
    let listed = told.lines().skip_while(|line| *line != "Jails:");
    let verbs = listed.take_while(|line| *line != "Options:");
    verbs
        // A line with another indentation continues one that was too long.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|verb| verb != "help")
        .collect()
}

#[test]
fn every_verb_has_a_manual_page_and_every_shell_its_completions() {
    let directory = install("Linux", "/usr");
    let files = files(directory.path());
    let verbs = verbs();
    assert!(verbs.len() > 20, "{verbs:?}");
    for verb in verbs {
        let page = format!("usr/share/man/man8/ezz-{verb}.8");
        assert!(files.contains(&page), "no {page}");
    }
    for file in [
        "usr/sbin/ezz",
        "usr/share/man/man8/ezz.8",
        "usr/share/bash-completion/completions/ezz",
        "usr/share/zsh/site-functions/_ezz",
        "usr/share/fish/vendor_completions.d/ezz.fish",
        "usr/share/ezz/templates/profiles/debian.toml",
        "usr/share/ezz/templates/examples/shop.toml",
        "usr/lib/systemd/system/ezz.service",
    ] {
        assert!(files.contains(file), "no {file} in {files:#?}");
    }
}

#[test]
fn what_is_installed_names_the_program_where_it_is_and_goes_away_again() {
    for (system, prefix, unit) in [
        ("Linux", "/opt/ezz", "lib/systemd/system/ezz.service"),
        ("FreeBSD", "/opt/ezz", "etc/rc.d/ezz"),
    ] {
        let directory = install(system, prefix);
        let below = directory.path().join(prefix.trim_start_matches('/'));
        for file in files(&below) {
            let content = fs::read(below.join(&file)).expect("it can be read");
            if file != "sbin/ezz" {
                let text = String::from_utf8(content).expect("text");
                assert!(!text.contains(WORD), "{WORD} in {file}");
                assert!(!text.is_empty(), "{file} is empty");
            }
        }
        let unit = fs::read_to_string(below.join(unit)).expect("the unit");
        assert!(unit.contains("/opt/ezz/sbin/ezz"), "{unit}");
        make("uninstall", system, prefix, directory.path());
        assert_eq!(files(directory.path()), BTreeSet::new(), "{system}");
    }
}

#[test]
fn the_port_lists_what_is_installed() {
    let directory = install("FreeBSD", "/usr/local");
    let files = files(&directory.path().join("usr/local"));
    // USE_RC_SUBR lists the script by itself, and the ports compress manual pages.
    let packed = files.into_iter().filter(|file| file != "etc/rc.d/ezz");
    let packed = packed.map(|file| {
        let page = file.starts_with("share/man/");
        file + if page { ".gz" } else { "" }
    });
    let packed: Vec<String> = packed.collect();
    let list = read("templates/port/pkg-plist");
    let listed: Vec<&str> = list.lines().collect();
    assert_eq!(
        listed, packed,
        "templates/port/pkg-plist is not what `make install` installs"
    );
}

#[test]
fn the_script_of_the_port_is_that_of_the_source() {
    assert!(read("templates/port/Makefile").contains("\nUSE_RC_SUBR=\tezz\n"));
    assert_eq!(
        read("templates/port/files/ezz.in"),
        read("templates/rc.d/ezz").replace(WORD, "%%PREFIX%%"),
        "templates/port/files/ezz.in is templates/rc.d/ezz with %%PREFIX%%"
    );
}

#[test]
fn port_and_package_are_of_this_version() {
    let port = read("templates/port/Makefile");
    assert!(port.contains(&format!("\nDISTVERSION=\t{VERSION}\n")));
    let documents = port.lines().find_map(|line| line.strip_prefix("PORTDOCS="));
    for document in documents.expect("PORTDOCS").split_whitespace() {
        assert!(Path::new(ROOT).join(document).exists(), "{document}");
    }
    let changes = read("templates/deb/changelog");
    assert!(
        changes.starts_with(&format!("ezz ({VERSION}-1) ")),
        "{changes}"
    );
}

#[test]
fn the_package_is_told_to_leave_jails_alone() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let deb = &manifest["package"]["metadata"]["deb"];
    let units = &deb["systemd-units"];
    assert_eq!(units["enable"].as_bool(), Some(true));
    for off in ["start", "restart-after-upgrade"] {
        assert_eq!(units[off].as_bool(), Some(false), "{off}");
    }
    // The package depends on every program that ezz looks for.
    let depends = deb["depends"].as_str().expect("a list");
    for package in ["crun (>= 1.8.1)", "conmon", "catatonit", "util-linux"] {
        assert!(depends.contains(package), "no {package} in {depends}");
    }
    let licence = read("LICENSE");
    let paper = read("templates/deb/copyright");
    let words = |text: &str| -> Vec<String> {
        let words = text.split_whitespace().filter(|word| *word != ".");
        words.map(str::to_owned).collect()
    };
    let body = licence.split_once("authors\n").expect("a holder").1;
    assert!(
        words(&paper).ends_with(&words(body)),
        "templates/deb/copyright does not end with the text of LICENSE"
    );
}
