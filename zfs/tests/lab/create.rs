//! create: all jails of a call, or none.

use ezz_zfs::program::{Refusal, Reply, Why};
use ezz_zfs::{Errno, Limits, ProgramError};

use crate::call::{NewJail, create, destroy};
use crate::pool::{Pool, column, local, run};

fn jails(site: &str, names: impl IntoIterator<Item = String>) -> Vec<NewJail> {
    names
        .into_iter()
        .map(|name| NewJail {
            jail: format!("{{\"track\":\"main\",\"n\":\"{name}\"}}"),
            name,
            origin: format!("{site}/newjail/1@1"),
        })
        .collect()
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (1..=count).map(|n| format!("web{n}"))
}

fn refused(why: Why, dataset: &str) -> Reply {
    let dataset = Some(dataset.to_owned());
    Reply::Refused(Refusal {
        why,
        dataset,
        property: None,
        errno: None,
    })
}

/// Returns whether programs cannot clone; then a test only checks that they report that.
fn cannot_clone(pool: &Pool, site: &str) -> bool {
    if pool.zfs.capabilities(&pool.name).unwrap().sync_clone {
        return false;
    }
    let before = pool.state();
    let reply = create(site, 3, &jails(site, names(1)))
        .run(&pool.zfs)
        .unwrap();
    let Reply::Refused(refusal) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(refusal.why, Why::Unsupported);
    assert_eq!(pool.state(), before);
    true
}

#[test]
fn jails_are_clones_with_their_properties() {
    let pool = Pool::new();
    let site = pool.sealed();
    if cannot_clone(&pool, &site) {
        return;
    }
    let mut list = jails(&site, ["thin".to_owned(), "thick".to_owned()]);
    list[1].origin = format!("{site}/basejail/1@1");
    let reply = create(&site, 3, &list).run(&pool.zfs).unwrap();
    assert_eq!(
        reply,
        Reply::Ok {
            epoch: 4,
            number: None
        }
    );
    let origin = |name: &str| {
        run("zfs", &["get", "-Hp", "-o", "value", "origin", name])
            .trim()
            .to_owned()
    };
    let (thin, thick) = (format!("{site}/jails/thin"), format!("{site}/jails/thick"));
    assert_eq!(origin(&thin), format!("{site}/newjail/1@1"));
    assert_eq!(origin(&thick), format!("{site}/basejail/1@1"));
    assert_eq!(
        local(&thin, "ezz:jail").as_deref(),
        Some("{\"track\":\"main\",\"n\":\"thin\"}")
    );
    assert_eq!(
        local(&thick, "ezz:jail").as_deref(),
        Some("{\"track\":\"main\",\"n\":\"thick\"}")
    );
    assert_eq!(local(&site, "ezz:epoch").as_deref(), Some("4"));
    let parent = format!("{site}/jails");
    assert_eq!(local(&parent, "ezz:intent:3:0"), None);
    assert_eq!(local(&parent, "ezz:intent:3:1"), None);
}

#[test]
fn create_refuses_as_a_whole() {
    let pool = Pool::new();
    let site = pool.sealed();
    if cannot_clone(&pool, &site) {
        return;
    }
    pool.create("ezz/jails/web2");
    let unsealed = format!("{site}/newjail/1@mine");
    run("zfs", &["snapshot", &unsealed]);
    let unchanged = |jails: Vec<NewJail>, epoch, reply| {
        let before = pool.state();
        assert_eq!(create(&site, epoch, &jails).run(&pool.zfs).unwrap(), reply);
        assert_eq!(pool.state(), before);
    };
    unchanged(jails(&site, names(1)), 2, Reply::Stale { epoch: 3 });
    let taken = refused(Why::Present, &format!("{site}/jails/web2"));
    unchanged(jails(&site, names(3)), 3, taken);
    let with_origin = |origin: &str| {
        let mut list = jails(&site, names(1));
        list[0].origin = origin.to_owned();
        list
    };
    unchanged(with_origin(&unsealed), 3, refused(Why::Unsealed, &unsealed));
    let missing = format!("{site}/newjail/9@9");
    unchanged(with_origin(&missing), 3, refused(Why::Absent, &missing));
}

/// A clone of a jail has a snapshot as its origin that the program takes, and that is destroyed with the last clone.
#[test]
fn clones_of_a_jail() {
    let pool = Pool::new();
    let site = pool.sealed();
    if cannot_clone(&pool, &site) {
        return;
    }
    let done = |epoch| Reply::Ok {
        epoch,
        number: None,
    };
    let source = create(&site, 3, &jails(&site, names(1)));
    assert_eq!(source.run(&pool.zfs).unwrap(), done(4));
    let snapshot = format!("{site}/jails/web1@ezz-clone-4");
    let clones = |names: &[&str]| {
        let mut jails = jails(&site, names.iter().map(|name| (*name).to_owned()));
        for jail in &mut jails {
            jail.origin.clone_from(&snapshot);
        }
        create(&site, 4, &jails).with("snap", &snapshot)
    };
    // A program that fails leaves neither clones nor the snapshot.
    let before = pool.state();
    let long = "n".repeat(250);
    let failed = clones(&["a", &long]).run(&pool.zfs).unwrap();
    assert!(
        matches!(&failed, Reply::Failed(failure) if failure.undo.is_empty()),
        "{failed:?}"
    );
    assert_eq!(pool.state(), before);
    assert_eq!(clones(&["a", "b"]).run(&pool.zfs).unwrap(), done(5));
    for name in ["a", "b"] {
        let clone = format!("{site}/jails/{name}");
        let origin = run("zfs", &["get", "-Hpo", "value", "origin", &clone]);
        assert_eq!(origin.trim(), snapshot);
        pool.zfs.destroy(&clone).unwrap();
        assert_eq!(pool.zfs.exists(&snapshot), name == "a");
    }
}

#[test]
fn create_that_fails_in_the_middle_leaves_nothing() {
    let pool = Pool::new();
    let site = pool.sealed();
    if cannot_clone(&pool, &site) {
        return;
    }
    let before = pool.state();
    let failure = |jails: Vec<NewJail>| {
        let Reply::Failed(failure) = create(&site, 3, &jails).run(&pool.zfs).unwrap() else {
            panic!("did not fail")
        };
        assert_eq!(failure.undo, []);
        assert_eq!(pool.state(), before);
        failure
    };
    // A name that occurs twice passes the checks, and fails at the second clone.
    let twice = failure(jails(&site, names(50).chain(["web7".to_owned()])));
    assert_eq!(
        (twice.step.as_str(), twice.errno),
        ("clone", Some(Errno(libc::EEXIST)))
    );
    let mut list = jails(&site, names(50));
    list[49].jail = "x".repeat(8192);
    let large = failure(list);
    assert_eq!(
        (large.step.as_str(), large.errno),
        ("set", Some(Errno(libc::E2BIG)))
    );
}

#[test]
fn a_thousand_jails_are_one_program() {
    let pool = Pool::new();
    let site = pool.sealed();
    if cannot_clone(&pool, &site) {
        return;
    }
    let reply = create(&site, 3, &jails(&site, names(1000)))
        .run(&pool.zfs)
        .unwrap();
    assert_eq!(
        reply,
        Reply::Ok {
            epoch: 4,
            number: None
        }
    );
    let made = column(&format!("{site}/jails"), "ezz:jail", "local");
    assert_eq!(made.len(), 1000);
    assert_eq!(
        local(&pool.ds("ezz/jails/web1000"), "ezz:jail").as_deref(),
        Some("{\"track\":\"main\",\"n\":\"web1000\"}")
    );
}

#[test]
fn a_thousand_jails_in_too_small_a_pool_are_none() {
    let pool = Pool::of_size("256M");
    let site = pool.sealed();
    if cannot_clone(&pool, &site) {
        return;
    }
    let before = pool.state();
    let reply = create(&site, 3, &jails(&site, names(1000)))
        .run(&pool.zfs)
        .unwrap();
    let Reply::Failed(failure) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(failure.errno, Some(Errno(libc::ENOSPC)));
    assert_eq!(failure.undo, []);
    assert_eq!(pool.state(), before);
}

#[test]
fn a_create_that_is_cut_short_leaves_debris_that_can_be_told_and_removed() {
    let pool = Pool::new();
    let site = pool.sealed();
    if cannot_clone(&pool, &site) {
        return;
    }
    let program = create(&site, 3, &jails(&site, names(100)));
    let limits = Limits {
        instructions: 4_000,
        ..Limits::default()
    };
    let error = program.run_within(&pool.zfs, limits).unwrap_err();
    assert!(
        matches!(error, ProgramError::Instructions { .. }),
        "{error:?}"
    );
    assert!(error.may_have_changed());

    let parent = format!("{site}/jails");
    let mut made = column(&parent, "guid", "none");
    made.remove(&parent);
    assert!(
        !made.is_empty() && made.len() < 100,
        "{} were made",
        made.len()
    );
    let marked = column(&parent, "ezz:jail", "local");
    assert!(made.len() - marked.len() <= 1, "{made:?} {marked:?}");
    assert_eq!(local(&site, "ezz:epoch").as_deref(), Some("3"));
    // The intent names everything that was created, also datasets that have their ezz:jail.
    assert_eq!(local(&parent, "ezz:intent:3:0").as_deref(), Some("{}"));
    assert_eq!(local(&parent, "ezz:intent:3:1").as_deref(), Some("[]"));

    // Recovery: what was created is destroyed, then the same command runs as if it were the first.
    let doomed: Vec<_> = made
        .into_iter()
        .map(|(name, guid)| (name, guid.parse().unwrap()))
        .collect();
    assert_eq!(
        destroy(&site, 3, &doomed).run(&pool.zfs).unwrap(),
        Reply::Ok {
            epoch: 4,
            number: None
        }
    );
    assert_eq!(
        program.with("epoch", "4").run(&pool.zfs).unwrap(),
        Reply::Ok {
            epoch: 5,
            number: None
        }
    );
    assert!(pool.zfs.exists(&format!("{site}/jails/web100")));
}
