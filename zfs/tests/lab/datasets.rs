//! Datasets, snapshots, clones and holds.

use std::env;
use std::process::Command;

use ezz_zfs::{Errno, NvMap, OpenError, Value, Zfs, ZfsError};

use crate::pool::{Pool, local, run};

fn errno<T>(result: Result<T, ZfsError>) -> Option<&'static str> {
    result.err().and_then(|error| error.errno.name())
}

#[test]
fn create_exists_destroy() {
    let pool = Pool::new();
    let (zfs, a) = (&pool.zfs, pool.ds("a b"));
    let props = NvMap::from([
        ("ezz:note".into(), Value::Str("x y".into())),
        ("quota".into(), Value::UInt(1 << 30)),
    ]);
    zfs.create(&a, &props).unwrap();
    assert!(zfs.exists(&a));
    assert_eq!(local(&a, "ezz:note").as_deref(), Some("x y"));
    assert_eq!(local(&a, "quota").as_deref(), Some("1073741824"));
    assert_eq!(errno(zfs.create(&a, &props)), Some("EEXIST"));
    assert_eq!(
        errno(zfs.create(&pool.ds("no/child"), &props)),
        Some("ENOENT")
    );
    assert_eq!(errno(zfs.create("bad//name", &props)), Some("EINVAL"));
    assert_eq!(errno(zfs.create("nul\0", &props)), Some("EINVAL"));
    let nul = NvMap::from([("ezz:note".into(), Value::Str("\0".into()))]);
    let error = zfs.create(&pool.ds("n"), &nul).unwrap_err();
    assert_eq!(error.per, [("ezz:note".to_owned(), Errno(libc::EINVAL))]);
    zfs.destroy(&a).unwrap();
    assert!(!zfs.exists(&a));
    let error = zfs.destroy(&a).unwrap_err();
    assert_eq!(
        (error.operation, error.dataset.as_str()),
        ("destroy", a.as_str())
    );
    assert_eq!(error.errno.name(), Some("ENOENT"));
}

#[test]
fn snapshots_are_all_or_none_and_the_clash_is_named() {
    let pool = Pool::new();
    let zfs = &pool.zfs;
    pool.create("a");
    pool.create("b");
    let (a, b) = (pool.ds("a@1"), pool.ds("b@1"));
    let props = NvMap::from([("ezz:k".into(), Value::Str("v".into()))]);
    zfs.snapshot(&[&a], &props).unwrap();
    assert_eq!(local(&a, "ezz:k").as_deref(), Some("v"));
    let error = zfs.snapshot(&[&b, &a], &NvMap::new()).unwrap_err();
    assert_eq!(error.per, [(a.clone(), Errno(libc::EEXIST))]);
    assert!(!zfs.exists(&b));
    zfs.snapshot(&[&b], &NvMap::new()).unwrap();
    zfs.destroy_snaps(&[&a, &b, &pool.ds("a@none")], false)
        .unwrap();
    assert!(!zfs.exists(&a) && !zfs.exists(&b));
}

#[test]
fn clone_promote_rename_rollback() {
    let pool = Pool::new();
    let zfs = &pool.zfs;
    let (a, snap, c) = (pool.ds("a"), pool.ds("a@1"), pool.ds("c"));
    pool.create("a");
    zfs.snapshot(&[&snap], &NvMap::new()).unwrap();
    let props = NvMap::from([("ezz:jail".into(), Value::Str("{}".into()))]);
    zfs.clone(&c, &snap, &props).unwrap();
    assert_eq!(local(&c, "ezz:jail").as_deref(), Some("{}"));
    assert_eq!(errno(zfs.clone(&c, &snap, &props)), Some("EEXIST"));
    assert_eq!(
        errno(zfs.clone(&pool.ds("d"), &pool.ds("a@9"), &props)),
        Some("ENOENT")
    );
    assert_eq!(errno(zfs.destroy_snaps(&[&snap], false)), Some("EEXIST"));
    assert_eq!(errno(zfs.promote(&a)), Some("EINVAL"));

    // A snapshot with the same name on the clone prevents the promotion, and is named.
    zfs.snapshot(&[&pool.ds("c@1")], &NvMap::new()).unwrap();
    let error = zfs.promote(&c).unwrap_err();
    assert_eq!(error.errno.name(), Some("EEXIST"));
    assert_eq!(error.per.len(), 1, "{error:?}");
    assert!(error.per[0].0.ends_with('1'), "{error:?}");
    zfs.destroy(&pool.ds("c@1")).unwrap();
    zfs.promote(&c).unwrap();
    assert!(zfs.exists(&pool.ds("c@1")) && !zfs.exists(&snap));

    zfs.rename(&c, &pool.ds("e")).unwrap();
    assert!(zfs.exists(&pool.ds("e@1")));
    assert_eq!(errno(zfs.rename(&pool.ds("none"), &c)), Some("ENOENT"));
    assert_eq!(errno(zfs.rename(&pool.ds("e"), &a)), Some("EEXIST"));

    let (e, first) = (pool.ds("e"), pool.ds("e@1"));
    zfs.rollback_to(&e, &first).unwrap();
    zfs.snapshot(&[&pool.ds("e@2")], &NvMap::new()).unwrap();
    assert_eq!(errno(zfs.rollback_to(&e, &first)), Some("EEXIST"));
    assert_eq!(
        errno(zfs.rollback_to(&e, &pool.ds("e@none"))),
        Some("ESRCH")
    );
}

#[test]
fn holds() {
    let pool = Pool::new();
    let zfs = &pool.zfs;
    pool.create("a");
    let (one, two) = (pool.ds("a@1"), pool.ds("a@2"));
    zfs.snapshot(&[&one], &NvMap::new()).unwrap();
    zfs.snapshot(&[&two], &NvMap::new()).unwrap();
    zfs.hold(&[(&one, "ezz"), (&two, "ezz"), (&one, "other")])
        .unwrap();
    let tags = |snapshot: &str| -> Vec<String> {
        zfs.holds(snapshot)
            .unwrap()
            .into_iter()
            .map(|(tag, _)| tag)
            .collect()
    };
    assert_eq!(tags(&one), ["ezz", "other"]);
    assert_eq!(tags(&two), ["ezz"]);
    assert!(
        zfs.holds(&one).unwrap()[0].1 > 1_600_000_000,
        "the time of the hold"
    );
    assert_eq!(errno(zfs.hold(&[(&one, "ezz")])), Some("EEXIST"));
    assert_eq!(errno(zfs.destroy(&one)), Some("EBUSY"));

    // A snapshot that does not exist is reported, although the others get their holds.
    let missing = pool.ds("a@9");
    let error = zfs.hold(&[(&missing, "more"), (&two, "more")]).unwrap_err();
    assert_eq!(error.per, [(missing.clone(), Errno(libc::ENOENT))]);
    assert_eq!(tags(&two), ["ezz", "more"]);

    zfs.release(&[(&one, "ezz"), (&one, "other"), (&two, "ezz")])
        .unwrap();
    assert_eq!(tags(&one), Vec::<String>::new());
    let error = zfs.release(&[(&two, "never"), (&two, "more")]).unwrap_err();
    assert_eq!(error.per, [(format!("{two}#never"), Errno(libc::ENOENT))]);
    assert_eq!(tags(&two), Vec::<String>::new());
    assert_eq!(errno(zfs.holds(&missing)), Some("ENOENT"));
    zfs.destroy(&one).unwrap();
    zfs.hold(&[]).unwrap();
    zfs.release(&[]).unwrap();
}

#[test]
fn a_deferred_snapshot_goes_with_its_last_clone() {
    let pool = Pool::new();
    let zfs = &pool.zfs;
    pool.create("a");
    let (snap, clone) = (pool.ds("a@ezz-clone-1"), pool.ds("c"));
    zfs.snapshot(&[&snap], &NvMap::new()).unwrap();
    zfs.clone(&clone, &snap, &NvMap::new()).unwrap();
    zfs.destroy_snaps(&[&snap], true).unwrap();
    assert!(zfs.exists(&snap));
    zfs.destroy(&clone).unwrap();
    assert!(!zfs.exists(&snap));
}

#[test]
fn a_mounted_dataset_is_busy() {
    let pool = Pool::new();
    let a = pool.ds("a");
    run("zfs", &["create", "-o", "mountpoint=/tmp/busy-a", &a]);
    assert_eq!(errno(pool.zfs.destroy(&a)), Some("EBUSY"));
    run("zfs", &["unmount", &a]);
    pool.zfs.destroy(&a).unwrap();
}

/// Runs itself with something missing; the copy finds `EZZ_TEST_OPEN`, and reports how it ended.
#[test]
fn what_is_missing_to_open_is_told_apart() {
    if let Ok(expected) = env::var("EZZ_TEST_OPEN") {
        let error = Zfs::open().unwrap_err();
        let found = match &error {
            OpenError::Library(_) => "library",
            OpenError::NoDevice(_) => "no device",
            OpenError::Permission(_) => "permission",
            OpenError::Device(_) => "device",
        };
        assert_eq!(found, expected, "{error:?}");
        assert!(!error.hint().is_empty());
        return;
    }
    drop(Zfs::open().unwrap());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let library = maps
        .split_whitespace()
        .find(|word| word.contains("/libzfs_core.so"))
        .unwrap();
    let device = run("stat", &["-c", "%Hr %Lr", "/dev/zfs"]);
    let cases = [
        ("library", format!("mount --bind /dev/null '{library}'")),
        ("no device", "mount -t tmpfs none /dev".to_owned()),
        (
            "permission",
            format!("mount -t tmpfs none /dev && mknod -m 600 /dev/zfs c {device}"),
        ),
    ];
    for (expected, take_away) in cases {
        let user = if expected == "permission" {
            "65534"
        } else {
            "0"
        };
        let script = format!(
            "{} && exec setpriv --reuid={user} \"$0\" --exact --nocapture \
             datasets::what_is_missing_to_open_is_told_apart",
            take_away.trim_end()
        );
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .arg(env::current_exe().unwrap())
            .env("EZZ_TEST_OPEN", expected)
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{expected}: {said}");
        assert!(said.contains("1 passed"), "{expected}: {said}");
    }
}
