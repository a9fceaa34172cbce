//! init, stage, seal, commit: expected replies, and refusals and failures that change nothing.

use ezz_zfs::program::{Refusal, Reply, Why};
use ezz_zfs::{Errno, Limits, NvMap, ProgramError};

use crate::call::{Call, Change, commit, commit_if_sealed, init, seal, stage};
use crate::pool::{Pool, local, run};

const OK: fn(u64) -> Reply = |epoch| Reply::Ok {
    epoch,
    number: None,
};

fn refused(why: Why, dataset: &str) -> Reply {
    let dataset = Some(dataset.to_owned());
    Reply::Refused(Refusal {
        why,
        dataset,
        property: None,
        errno: None,
    })
}

fn differs(dataset: &str, property: &str) -> Reply {
    Reply::Refused(Refusal {
        why: Why::Differs,
        dataset: Some(dataset.into()),
        property: Some(property.into()),
        errno: None,
    })
}

/// Checks that a program ends with this reply, and leaves the pool unchanged.
fn unchanged(pool: &Pool, run: impl FnOnce() -> Reply, expected: &Reply) {
    let before = pool.state();
    assert_eq!(run(), *expected);
    assert_eq!(pool.state(), before);
}

/// The expected present value of a property.
enum Expect<'a> {
    Any,
    Absent,
    Is(&'a str),
}

fn change(dataset: &str, property: &str, expect: Expect<'_>, value: Option<&str>) -> Change {
    Change {
        dataset: dataset.into(),
        property: property.into(),
        expect: match expect {
            Expect::Any => "*".into(),
            Expect::Absent => "-".into(),
            Expect::Is(text) => format!("={text}"),
        },
        value: value.map(str::to_owned),
    }
}

/// Makes a seal change a track, too.
fn with_track(seal: Call, expect: &str, value: &str) -> Call {
    seal.with("track", "ezz:track:main")
        .with("x", expect)
        .with("v", value)
}

#[test]
fn init_makes_a_site_once() {
    let pool = Pool::new();
    let site = pool.site();
    for (property, value) in [
        ("ezz:format", "1"),
        ("ezz:id", "0c5f"),
        ("ezz:seq", "0"),
        ("ezz:epoch", "1"),
    ] {
        assert_eq!(local(&site, property).as_deref(), Some(value), "{property}");
    }
    let again = init(&site, "ffff");
    unchanged(
        &pool,
        || again.run(&pool.zfs).unwrap(),
        &refused(Why::Present, &site),
    );
    // A site within a site is refused, and the outer one is named.
    let inside = init(&format!("{site}/jails"), "ffff");
    unchanged(
        &pool,
        || inside.run(&pool.zfs).unwrap(),
        &refused(Why::Present, &site),
    );
    let nowhere = init(&pool.ds("none"), "ffff");
    let reply = refused(Why::NoSite, &pool.ds("none"));
    unchanged(&pool, || nowhere.run(&pool.zfs).unwrap(), &reply);
}

#[test]
fn init_that_fails_leaves_no_site() {
    let pool = Pool::new();
    pool.create("ezz");
    let before = pool.state();
    let long = init(&pool.ds("ezz"), &"x".repeat(8192));
    let Reply::Failed(failure) = long.run(&pool.zfs).unwrap() else {
        panic!("did not fail")
    };
    assert_eq!(
        (failure.step.as_str(), failure.property.as_deref()),
        ("set", Some("ezz:id"))
    );
    assert_eq!(failure.errno, Some(Errno(libc::E2BIG)));
    assert!(failure.undo.is_empty());
    assert_eq!(pool.state(), before);
}

#[test]
fn stage_takes_the_next_number() {
    let pool = Pool::new();
    let site = pool.site();
    let stage = |epoch, seq| stage(&site, epoch, seq).run(&pool.zfs).unwrap();
    assert_eq!(
        stage(1, 0),
        Reply::Ok {
            epoch: 2,
            number: Some(1)
        }
    );
    assert_eq!(local(&site, "ezz:seq").as_deref(), Some("1"));
    assert_eq!(local(&site, "ezz:epoch").as_deref(), Some("2"));
    unchanged(&pool, || stage(1, 1), &Reply::Stale { epoch: 2 });
    unchanged(&pool, || stage(2, 0), &differs(&site, "ezz:seq"));
    assert_eq!(
        stage(2, 1),
        Reply::Ok {
            epoch: 3,
            number: Some(2)
        }
    );
}

#[test]
fn seal_makes_both_snapshots_and_moves_the_track() {
    let pool = Pool::new();
    let site = pool.staged();
    let halves = ["basejail/1", "newjail/1"].map(|half| format!("{site}/{half}"));
    run("zfs", &["set", "sync=disabled", &halves[0], &halves[1]]);
    let program = with_track(seal(&site, 2), "-", "={\"current\":1}");
    assert_eq!(program.run(&pool.zfs).unwrap(), OK(3));
    let (base, skeleton) = (format!("{site}/basejail/1"), format!("{site}/newjail/1"));
    for snapshot in [format!("{base}@1"), format!("{skeleton}@1")] {
        assert_eq!(
            local(&snapshot, "ezz:sealed").as_deref(),
            Some("{\"manifest\":\"ab\"}")
        );
    }
    assert_eq!(
        local(&base, "ezz:world").as_deref(),
        Some("{\"label\":\"x\"}")
    );
    let parent = format!("{site}/basejail");
    assert_eq!(
        local(&parent, "ezz:track:main").as_deref(),
        Some("{\"current\":1}")
    );
    assert_eq!(local(&base, "readonly"), None);
    assert_eq!(local(&base, "sync"), None);
    assert_eq!(local(&skeleton, "sync"), None);
    let readonly = run("zfs", &["get", "-Hp", "-o", "value", "readonly", &base]);
    assert_eq!(readonly.trim(), "on");
    let written = run("zfs", &["get", "-Hp", "-o", "value", "written@1", &base]);
    assert_eq!(written.trim(), "0");
    let again = || seal(&site, 3).run(&pool.zfs).unwrap();
    unchanged(&pool, again, &refused(Why::Present, &format!("{base}@1")));
}

#[test]
fn seal_refuses_and_nothing_changes() {
    let pool = Pool::new();
    let site = pool.staged();
    let zfs = &pool.zfs;
    let base = format!("{site}/basejail/1");
    unchanged(
        &pool,
        || seal(&site, 9).run(zfs).unwrap(),
        &Reply::Stale { epoch: 2 },
    );

    let other = seal(&site, 2).with("number", "7");
    let reply = refused(Why::Absent, &format!("{site}/basejail/7"));
    unchanged(&pool, || other.run(zfs).unwrap(), &reply);

    let tracked = with_track(seal(&site, 2), "={}", "=x");
    let reply = differs(&format!("{site}/basejail"), "ezz:track:main");
    unchanged(&pool, || tracked.run(zfs).unwrap(), &reply);

    std::fs::create_dir_all("/tmp/staged").unwrap();
    ezz_zfs::mount(
        &base,
        "/tmp/staged".as_ref(),
        ezz_zfs::MountFlags::default(),
    )
    .unwrap();
    let busy = Reply::Refused(Refusal {
        why: Why::Busy,
        dataset: Some(base.clone()),
        property: None,
        errno: Some(Errno(libc::EBUSY)),
    });
    unchanged(&pool, || seal(&site, 2).run(zfs).unwrap(), &busy);
    // The same with a foreign snapshot, where a destroy would fail as busy anyway.
    zfs.snapshot(&[&format!("{base}@auto")], &NvMap::new())
        .unwrap();
    unchanged(&pool, || seal(&site, 2).run(zfs).unwrap(), &busy);
    ezz_zfs::unmount("/tmp/staged".as_ref()).unwrap();

    run("zfs", &["set", "readonly=off", &format!("{site}/basejail")]);
    let reply = refused(Why::Writable, &format!("{site}/basejail"));
    unchanged(&pool, || seal(&site, 2).run(zfs).unwrap(), &reply);
    run("zfs", &["set", "readonly=on", &format!("{site}/basejail")]);
    assert_eq!(seal(&site, 2).run(zfs).unwrap(), OK(3));
}

#[test]
fn seal_that_fails_in_the_middle_takes_its_snapshots_back() {
    let pool = Pool::new();
    let site = pool.staged();
    let before = pool.state();
    let program = seal(&site, 2).with("world", &"x".repeat(8192));
    let Reply::Failed(failure) = program.run(&pool.zfs).unwrap() else {
        panic!("did not fail")
    };
    assert_eq!(failure.property.as_deref(), Some("ezz:world"));
    assert_eq!(failure.undo, []);
    assert_eq!(pool.state(), before);
}

#[test]
fn commit_sets_inherits_and_compares() {
    let pool = Pool::new();
    let site = pool.sealed();
    let (base, snapshot) = (format!("{site}/basejail"), format!("{site}/basejail/1@1"));
    let is = Expect::Is;
    let first = vec![
        change(
            &base,
            "ezz:track:main",
            Expect::Absent,
            Some("{\"current\":1}"),
        ),
        change(&snapshot, "ezz:note", Expect::Any, Some("")),
    ];
    assert_eq!(commit(&site, 3, first).run(&pool.zfs).unwrap(), OK(4));
    assert_eq!(local(&snapshot, "ezz:note").as_deref(), Some(""));
    let second = vec![
        change(
            &base,
            "ezz:track:main",
            is("{\"current\":1}"),
            Some("{\"current\":2}"),
        ),
        change(&snapshot, "ezz:note", is(""), None),
    ];
    assert_eq!(commit(&site, 4, second).run(&pool.zfs).unwrap(), OK(5));
    assert_eq!(
        local(&base, "ezz:track:main").as_deref(),
        Some("{\"current\":2}")
    );
    assert_eq!(local(&snapshot, "ezz:note"), None);
    assert_eq!(commit(&site, 5, vec![]).run(&pool.zfs).unwrap(), OK(6));
}

#[test]
fn commit_refuses_as_a_whole() {
    let pool = Pool::new();
    let site = pool.sealed();
    let jails = format!("{site}/jails");
    let good = || change(&jails, "ezz:a", Expect::Absent, Some("1"));
    let run = |epoch, changes| commit(&site, epoch, changes).run(&pool.zfs).unwrap();
    let wrong = change(&jails, "ezz:b", Expect::Is("x"), Some("1"));
    unchanged(
        &pool,
        || run(3, vec![good(), wrong]),
        &differs(&jails, "ezz:b"),
    );
    // An inherited property counts as absent.
    let inherited = change(&jails, "ezz:id", Expect::Is("0c5f"), None);
    unchanged(
        &pool,
        || run(3, vec![good(), inherited]),
        &differs(&jails, "ezz:id"),
    );
    let there = change(&site, "ezz:id", Expect::Absent, None);
    unchanged(
        &pool,
        || run(3, vec![good(), there]),
        &differs(&site, "ezz:id"),
    );
    let nowhere = change(&pool.ds("none"), "ezz:a", Expect::Any, Some("1"));
    let reply = refused(Why::Absent, &pool.ds("none"));
    unchanged(&pool, || run(3, vec![good(), nowhere]), &reply);
    unchanged(&pool, || run(2, vec![good()]), &Reply::Stale { epoch: 3 });
}

#[test]
fn commit_asks_for_the_seals_it_was_given() {
    let pool = Pool::new();
    let site = pool.staged();
    let track = |sealed: &[String], epoch| {
        let base = format!("{site}/basejail");
        let track = change(&base, "ezz:track:x", Expect::Absent, Some("{}"));
        commit_if_sealed(&site, epoch, vec![track], sealed)
    };
    let halves = ["basejail", "newjail"].map(|half| format!("{site}/{half}/1@1"));
    let absent = refused(Why::Absent, &halves[0]);
    unchanged(&pool, || track(&halves, 2).run(&pool.zfs).unwrap(), &absent);
    // A snapshot with that name is no seal, and neither is an inherited property.
    let snapshots = [halves[0].as_str(), halves[1].as_str()];
    pool.zfs.snapshot(&snapshots, &NvMap::new()).unwrap();
    run(
        "zfs",
        &["set", "ezz:sealed={}", &format!("{site}/basejail/1")],
    );
    let unsealed = refused(Why::Unsealed, &halves[0]);
    unchanged(
        &pool,
        || track(&halves, 2).run(&pool.zfs).unwrap(),
        &unsealed,
    );
    for snapshot in snapshots {
        run("zfs", &["set", "ezz:sealed={}", snapshot]);
    }
    assert_eq!(track(&halves, 2).run(&pool.zfs).unwrap(), OK(3));
}

#[test]
fn commit_that_fails_restores_what_was_there() {
    let pool = Pool::new();
    let site = pool.sealed();
    let jails = format!("{site}/jails");
    let old = vec![change(&jails, "ezz:old", Expect::Any, Some("was"))];
    assert_eq!(commit(&site, 3, old).run(&pool.zfs).unwrap(), OK(4));
    let before = pool.state();
    let changes = vec![
        change(&jails, "ezz:old", Expect::Any, Some("is")),
        change(&jails, "ezz:new", Expect::Any, Some("is")),
        change(&jails, "ezz:old", Expect::Any, None),
        change(&jails, "ezz:big", Expect::Any, Some(&"x".repeat(8192))),
    ];
    let Reply::Failed(failure) = commit(&site, 4, changes).run(&pool.zfs).unwrap() else {
        panic!("did not fail")
    };
    assert_eq!(failure.property.as_deref(), Some("ezz:big"));
    assert_eq!(failure.errno, Some(Errno(libc::E2BIG)));
    assert_eq!(failure.undo, []);
    assert_eq!(pool.state(), before);
}

#[test]
fn of_two_commits_with_one_epoch_one_is_stale() {
    let pool = Pool::new();
    let site = pool.sealed();
    let one = |value: &'static str| {
        let changes = vec![change(&site, "ezz:a", Expect::Any, Some(value))];
        commit(&site, 3, changes).run(&pool.zfs).unwrap()
    };
    let replies = std::thread::scope(|scope| {
        let threads = ["x", "y", "z"].map(|value| scope.spawn(move || (value, one(value))));
        threads.map(|thread| thread.join().unwrap())
    });
    let won: Vec<&str> = replies
        .iter()
        .filter(|(_, reply)| *reply == OK(4))
        .map(|(value, _)| *value)
        .collect();
    let stale = replies
        .iter()
        .filter(|(_, reply)| *reply == Reply::Stale { epoch: 4 })
        .count();
    assert_eq!((won.len(), stale), (1, 2), "{replies:?}");
    assert_eq!(local(&site, "ezz:a").as_deref(), Some(won[0]));
}

#[test]
fn a_replica_is_refused_until_it_is_adopted() {
    let pool = Pool::new();
    let site = pool.sealed();
    run("zfs", &["snapshot", "-r", &format!("{site}@copy")]);
    let copy = pool.ds("copy");
    let script = format!("zfs send -R '{site}@copy' | zfs receive -u '{copy}'");
    run("sh", &["-c", &script]);
    let row = |property: &str| {
        run(
            "zfs",
            &["get", "-Hp", "-o", "value,source", property, &copy],
        )
        .trim()
        .to_owned()
    };
    assert_eq!(row("ezz:epoch"), "3\treceived");

    let write = |adopt| {
        let received = ["ezz:format", "ezz:id", "ezz:seq"].map(|property| {
            let value = row(property).split('\t').next().unwrap().to_owned();
            change(&copy, property, Expect::Is(&value), Some(&value))
        });
        let Call(program, args) = commit(&copy, 3, received.to_vec());
        Call(program, args.bool("adopt", adopt))
            .run(&pool.zfs)
            .unwrap()
    };
    unchanged(&pool, || write(false), &refused(Why::NoEpoch, &copy));
    let again = init(&copy, "ffff");
    unchanged(
        &pool,
        || again.run(&pool.zfs).unwrap(),
        &refused(Why::Present, &copy),
    );
    assert_eq!(write(true), OK(4));
    for property in ["ezz:format", "ezz:id", "ezz:seq", "ezz:epoch"] {
        assert!(
            row(property).ends_with("\tlocal"),
            "{property}: {}",
            row(property)
        );
    }
    let note = vec![change(&copy, "ezz:note", Expect::Absent, Some("mine"))];
    assert_eq!(commit(&copy, 4, note).run(&pool.zfs).unwrap(), OK(5));
}

#[test]
fn a_commit_that_is_cut_short_keeps_its_epoch_and_runs_again() {
    let pool = Pool::new();
    let site = pool.sealed();
    let jails = format!("{site}/jails");
    let changes: Vec<Change> = (0..100)
        .map(|n| change(&jails, &format!("ezz:p{n}"), Expect::Any, Some("1")))
        .collect();
    let program = commit(&site, 3, changes);
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
    let set = run(
        "zfs",
        &["get", "-Hp", "-s", "local", "-o", "property", "all", &jails],
    );
    let set = set
        .lines()
        .filter(|property| property.starts_with("ezz:p"))
        .count();
    assert!(set > 0 && set < 100, "{set} of 100 were set");
    assert_eq!(local(&site, "ezz:epoch").as_deref(), Some("3"));
    // Recovery: observe, plan again, run again.
    assert_eq!(program.run(&pool.zfs).unwrap(), OK(4));
    assert_eq!(local(&jails, "ezz:p99").as_deref(), Some("1"));
}

#[test]
fn a_big_commit_without_room_for_its_undo_is_refused() {
    let pool = Pool::of_size("256M");
    let site = pool.sealed();
    let jails = format!("{site}/jails");
    let changes: Vec<Change> = (0..2000)
        .map(|n| change(&jails, &format!("ezz:p{n}"), Expect::Any, Some("1")))
        .collect();
    let reply = Reply::Refused(Refusal {
        why: Why::Space,
        dataset: Some(site.clone()),
        property: None,
        errno: Some(Errno(libc::ENOSPC)),
    });
    unchanged(
        &pool,
        || commit(&site, 3, changes).run(&pool.zfs).unwrap(),
        &reply,
    );
}

#[test]
fn a_seal_that_is_cut_short_can_be_told_at_every_point() {
    let pool = Pool::new();
    let site = pool.staged();
    let (base, skeleton) = (
        format!("{site}/basejail/1@1"),
        format!("{site}/newjail/1@1"),
    );
    let program = seal(&site, 2);
    let mut seen = Vec::new();
    for instructions in (100..).step_by(100) {
        let result = program.run_within(
            &pool.zfs,
            Limits {
                instructions,
                ..Limits::default()
            },
        );
        if let Ok(reply) = result {
            assert_eq!(reply, OK(3));
            break;
        }
        assert!(
            matches!(result, Err(ProgramError::Instructions { .. })),
            "{result:?}"
        );
        let made = [&base, &skeleton].map(|snapshot| pool.zfs.exists(snapshot));
        let sealed = made[0] && local(&base, "ezz:sealed").is_some();
        let [marked, tracked] = [
            (format!("{site}/basejail/1"), "ezz:sealing"),
            (format!("{site}/basejail"), "ezz:track:main"),
        ]
        .map(|(dataset, property)| local(&dataset, property).is_some());
        // Whatever there is of it, the mark says that a track decides whether it is sealed.
        assert!(marked || !made[0] && !made[1] || tracked);
        if tracked {
            let halves = ["basejail", "newjail"].map(|half| format!("{site}/{half}/1"));
            for (dataset, property) in [
                (&base, "ezz:sealed"),
                (&skeleton, "ezz:sealed"),
                (&halves[0], "ezz:world"),
            ] {
                assert!(local(dataset, property).is_some(), "{dataset}: {property}");
            }
            assert_eq!(local(&site, "ezz:epoch").as_deref(), Some("3"));
            for half in &halves {
                assert_eq!(local(half, "sync"), None, "{half}");
            }
            assert_eq!(local(&halves[0], "readonly"), None);
            seen.push((made, sealed));
            break;
        }
        seen.push((made, sealed));
        // Back to staged, to be cut later next time.
        pool.zfs.destroy_snaps(&[&base, &skeleton], false).unwrap();
        let half = format!("{site}/basejail/1");
        run("zfs", &["set", "ezz:epoch=2", &site]);
        run("zfs", &["inherit", "ezz:sealing", &half]);
        run("zfs", &["set", "readonly=off", &half]);
    }
    assert!(
        seen.contains(&([true; 2], false)),
        "never cut before the seal: {seen:?}"
    );
    assert_eq!(
        local(&base, "ezz:sealed").as_deref(),
        Some("{\"manifest\":\"ab\"}")
    );
}
