//! The checks of the next boot: whether the pool is imported, and whether the unit starts the jails. They change
//! nothing. On a host that does not boot by systemd, they report that.

use std::fs;
use std::path::{Path, PathBuf};

use super::checks::check;
use crate::exec::Exec;
use crate::ports::{Check, Level};

/// The directories where systemd looks for units, the administrator's first (systemd.unit(5)).
const UNITS: [&str; 4] = [
    "etc/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
const UNIT: &str = "ezz.service";
const CACHE: &str = "etc/zfs/zpool.cache";

/// Runs all checks; `root` is the root directory of the host.
pub(super) fn all(root: &Path, site_directory: &Path) -> Vec<Check> {
    let mut checks = vec![unit(root)];
    checks.extend(pool(site_directory).map(|pool| import(root, &pool, cache_file(&pool))));
    checks
}

/// Checks the unit, which mounts the datasets, restores the derived files, and starts every jail.
fn unit(root: &Path) -> Check {
    let what = "start at boot";
    let found = UNITS
        .iter()
        .map(|directory| root.join(directory).join(UNIT))
        .find(|path| fs::symlink_metadata(path).is_ok());
    let Some(path) = found else {
        let hint = "`make install` installs ezz.service; then `systemctl enable ezz`";
        return check(
            what,
            Level::Warning,
            "no jail: ezz.service is not installed",
            Some(hint.to_owned()),
        );
    };
    if fs::read_link(&path).is_ok_and(|target| target == Path::new("/dev/null")) {
        let hint = "`systemctl unmask ezz` if they should start".to_owned();
        return check(
            what,
            Level::Warning,
            "no jail: ezz.service is masked",
            Some(hint),
        );
    }
    let wanted = root
        .join("etc/systemd/system/multi-user.target.wants")
        .join(UNIT);
    if fs::symlink_metadata(wanted).is_ok() {
        check(what, Level::Ok, "every jail, by ezz.service", None)
    } else {
        let hint = "`systemctl enable ezz`".to_owned();
        check(
            what,
            Level::Warning,
            "no jail: ezz.service is not enabled",
            Some(hint),
        )
    }
}

/// Returns the pool of the dataset that is mounted at the site directory.
fn pool(site_directory: &Path) -> Option<String> {
    let mounts = ezz_zfs::mounted().ok()?;
    let mount = mounts
        .iter()
        .rfind(|mount| mount.target == site_directory && mount.fstype == "zfs")?;
    mount.source.split('/').next().map(str::to_owned)
}

/// Returns the pool's property `cachefile`; `-` means the default file.
fn cache_file(pool: &str) -> Option<String> {
    let exec = Exec::new("zpool").ok()?;
    let output = exec
        .args(["get", "-H", "-o", "value", "cachefile", pool])
        .run()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Checks that the pool is imported at boot. zfs-import-cache imports the pools in the cache file. If there is no cache
/// file, zfs-import-scan imports all pools that it finds (etc/systemd/system/*.service.in of OpenZFS).
fn import(root: &Path, pool: &str, cachefile: Option<String>) -> Check {
    let what = "import at boot";
    let cache = root.join(CACHE);
    let named = match fs::read(&cache) {
        Ok(bytes) => Some(has_name(&bytes, pool)),
        Err(_) => None,
    };
    match (cachefile.as_deref(), named) {
        (Some("-"), Some(true)) => check(
            what,
            Level::Ok,
            format!("{pool} is in {}", shown(&cache, root).display()),
            None,
        ),
        (_, None) => check(
            what,
            Level::Ok,
            "there is no cache file: zfs-import-scan looks for pools",
            None,
        ),
        _ => {
            let hint = format!("`zpool set cachefile=/{CACHE} {pool}`");
            let found = format!("{pool} is not in /{CACHE}: it is not imported at boot");
            check(what, Level::Warning, found, Some(hint))
        }
    }
}

fn shown(path: &Path, root: &Path) -> PathBuf {
    let below = path.strip_prefix(root).unwrap_or(path);
    Path::new("/").join(below)
}

/// Reports whether the cache file names a pool. The file is a packed nvlist whose names are the pools
/// (`spa_write_cachefile`). Modules write it as it is in memory: size of the name with its NUL, a spare, one element,
/// type 19 (nvlist), the name (`nvpair_t` in sys/nvpair.h). Older modules wrote XDR: length, text, padding. Only a
/// whole name counts, so `tank2` does not stand for `tank`.
fn has_name(cache: &[u8], pool: &str) -> bool {
    let (Ok(length), Ok(size)) = (u32::try_from(pool.len()), i16::try_from(pool.len() + 1)) else {
        return false;
    };
    let native = [
        &size.to_ne_bytes()[..],
        &0_i16.to_ne_bytes(),
        &1_i32.to_ne_bytes(),
        &19_i32.to_ne_bytes(),
        pool.as_bytes(),
        b"\0",
    ];
    let xdr = [&length.to_be_bytes()[..], pool.as_bytes()];
    let holds = |needle: &[u8]| cache.windows(needle.len()).any(|window| window == needle);
    holds(&native.concat()) || holds(&xdr.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(root: &Path, path: &str, content: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("below")).expect("made");
        fs::write(path, content).expect("written");
    }

    #[test]
    fn the_unit_is_missing_installed_enabled_or_masked() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path();
        let level = |root: &Path| (unit(root).level, unit(root).found);
        assert_eq!(
            level(root),
            (
                Level::Warning,
                "no jail: ezz.service is not installed".to_owned()
            )
        );
        file(root, "lib/systemd/system/ezz.service", b"[Unit]\n");
        assert!(level(root).1.ends_with("is not enabled"));
        file(
            root,
            "etc/systemd/system/multi-user.target.wants/ezz.service",
            b"",
        );
        assert_eq!(level(root).0, Level::Ok);
        std::os::unix::fs::symlink("/dev/null", root.join("etc/systemd/system/ezz.service"))
            .expect("linked");
        assert!(level(root).1.ends_with("is masked"));
    }

    #[test]
    fn a_pool_is_imported_by_the_cache_or_by_a_scan() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path();
        let usual = || Some("-".to_owned());
        assert_eq!(import(root, "tank", usual()).level, Level::Ok);
        let cache = [&5u32.to_be_bytes()[..], b"tank2\0\0\0"].concat();
        file(root, CACHE, &cache);
        assert_eq!(import(root, "tank2", usual()).level, Level::Ok);
        let other = import(root, "tank", usual());
        assert_eq!(other.level, Level::Warning);
        assert!(
            other
                .hint
                .is_some_and(|hint| hint.contains("cachefile=/etc/zfs/zpool.cache tank"))
        );
        // The beginning of a file that OpenZFS 2.3.9 wrote on x86_64.
        let written =
            b"\0\x01\0\0\0\0\0\0\x01\0\0\0\x30\0\0\0\x05\0\0\0\x01\0\0\0\x13\0\0\0tank\0\0\0\0";
        if cfg!(target_endian = "little") {
            file(root, CACHE, written);
            assert_eq!(import(root, "tank", usual()).level, Level::Ok);
            for other in ["tan", "ank", "tank2"] {
                assert_eq!(import(root, other, usual()).level, Level::Warning);
            }
        }
        file(root, CACHE, &cache);
        let none = import(root, "tank2", Some("none".to_owned()));
        assert_eq!(none.level, Level::Warning);
    }
}
