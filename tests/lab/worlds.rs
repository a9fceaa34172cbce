//! Made-up worlds that are created quickly: starting a program takes a tenth of a second in the lab, so the test itself
//! writes the files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::{ezz, sh};

/// The programs of a runnable world, besides its shell.
const PROGRAMS: [&str; 15] = [
    "sleep", "cat", "id", "ls", "mkdir", "rm", "ln", "mv", "touch", "chmod", "cp", "tail", "head",
    "mkfifo", "mknod",
];

/// Installs a small made-up world as the next generation.
#[track_caller]
pub fn install_small() {
    let tar = small_world(Path::new("/tmp/small"), "12.1");
    ezz(&["install", tar.to_str().expect("a plain path")]).ok();
}

/// Creates a made-up world of the Debian profile: a few files, in the right shape. Returns its tar.
#[track_caller]
pub fn small_world(directory: &Path, version: &str) -> PathBuf {
    make(directory, version).expect("there is room for a small world");
    pack(directory)
}

/// Installs a made-up world that can run: a shell, a few programs and their libraries.
#[track_caller]
pub fn install_runnable(site: &str) {
    let tar = runnable_world(Path::new("/tmp/runnable"));
    let tar = tar.to_str().expect("a plain path");
    ezz(&["--site", site, "install", tar]).ok();
}

/// Creates a runnable world, and returns its tar.
#[track_caller]
pub fn runnable_world(directory: &Path) -> PathBuf {
    make(directory, "12.1").expect("there is room for a small world");
    let bin = directory.join("usr/bin");
    let mut programs = vec!["/bin/sh".to_owned()];
    for name in PROGRAMS {
        let path = ["/usr/bin", "/bin"].map(|bin| format!("{bin}/{name}"));
        let found = path.iter().find(|path| Path::new(path).exists());
        let found = found.unwrap_or_else(|| panic!("the host has no {name}"));
        fs::copy(found, bin.join(name)).expect("copied");
        programs.push(found.clone());
    }
    let told = sh(&format!("ldd {}", programs.join(" "))).ok();
    for word in told.stdout.split_whitespace() {
        let library = word.trim_end_matches(':');
        if library.starts_with("/lib") || library.starts_with("/usr/lib") {
            let at = directory.join(library.trim_start_matches('/'));
            fs::create_dir_all(at.parent().expect("it has one")).expect("made");
            fs::copy(library, at).expect("copied");
        }
    }
    pack(directory)
}

fn make(directory: &Path, version: &str) -> std::io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "nothing is mounted in it")]
    let _ = fs::remove_dir_all(directory);
    for name in [
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "usr/share",
        "etc",
        "var/lib/dpkg",
        "var/lib/apt",
        "root",
        "home",
        "tmp",
        "dev",
        "proc",
        "sys",
        "run",
        "opt",
        "srv",
        "mnt",
        "media",
        "boot",
        "var/log",
        "var/cache",
        "var/tmp",
    ] {
        fs::create_dir_all(directory.join(name))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), directory.join(name))?;
    }
    for name in ["sh", "dash", "dpkg", "su"] {
        fs::copy("/bin/sh", directory.join("usr/bin").join(name))?;
    }
    let major = version.split('.').next().unwrap_or(version);
    let release = format!("ID=debian\nVERSION_ID=\"{major}\"\nPRETTY_NAME=\"Debian\"\n");
    symlink("../usr/lib/os-release", directory.join("etc/os-release"))?;
    for (name, content, mode) in [
        ("usr/lib/os-release", release.as_str(), 0o644),
        ("etc/debian_version", &format!("{version}\n"), 0o644),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644),
        ("etc/shadow", "root:*:19000:0:99999:7:::\n", 0o640),
        ("var/lib/dpkg/status", "", 0o644),
    ] {
        fs::write(directory.join(name), content)?;
        set_mode(&directory.join(name), mode)?;
    }
    set_mode(&directory.join("usr/bin/su"), 0o4755)?;
    set_mode(&directory.join("tmp"), 0o1777)?;
    set_mode(&directory.join("var/tmp"), 0o1777)
}

fn set_mode(at: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(at, fs::Permissions::from_mode(mode))
}

#[track_caller]
fn pack(directory: &Path) -> PathBuf {
    let tar = directory.with_extension("tar");
    sh(&format!(
        "tar -cf {} -C {} .",
        tar.display(),
        directory.display()
    ))
    .ok();
    tar
}
