//! destroy: everything is checked before anything is destroyed.

use ezz_zfs::program::{Refusal, Reply, Why};
use ezz_zfs::{Errno, Limits, MountFlags, NvMap, ProgramError};

use crate::call::{self, Call};
use crate::pool::{Pool, column, guid, local};

fn with_guid(name: &str) -> (String, u64) {
    (name.to_owned(), guid(name))
}

fn destroy(site: &str, epoch: u64, names: &[&str]) -> Call {
    let doomed: Vec<_> = names.iter().map(|name| with_guid(name)).collect();
    call::destroy(site, epoch, &doomed)
}

fn refused(why: Why, dataset: &str, errno: i32) -> Reply {
    Reply::Refused(Refusal {
        why,
        dataset: Some(dataset.into()),
        property: None,
        errno: Some(Errno(errno)),
    })
}

/// Creates a site with the jail `a`, its snapshots @1 and @2, and a clone `b` of @1.
fn family(pool: &Pool) -> (String, [String; 4]) {
    let site = pool.sealed();
    let jails = format!("{site}/jails");
    let [a, one, two, b] = ["a", "a@1", "a@2", "b"].map(|name| format!("{jails}/{name}"));
    let zfs = &pool.zfs;
    zfs.clone(&a, &format!("{site}/newjail/1@1"), &NvMap::new())
        .unwrap();
    zfs.snapshot(&[&one], &NvMap::new()).unwrap();
    zfs.snapshot(&[&two], &NvMap::new()).unwrap();
    zfs.clone(&b, &one, &NvMap::new()).unwrap();
    (site, [a, one, two, b])
}

#[test]
fn a_family_goes_in_one_program() {
    let pool = Pool::new();
    let (site, [a, one, two, b]) = family(&pool);
    let program = destroy(&site, 3, &[&b, &one, &two, &a]);
    assert_eq!(
        program.run(&pool.zfs).unwrap(),
        Reply::Ok {
            epoch: 4,
            number: None
        }
    );
    for name in [&a, &one, &two, &b] {
        assert!(!pool.zfs.exists(name), "{name}");
    }
    assert_eq!(local(&site, "ezz:epoch").as_deref(), Some("4"));
    assert!(pool.zfs.exists(&format!("{site}/newjail/1@1")));
}

#[test]
fn dependants_that_are_not_named_stop_everything() {
    let pool = Pool::new();
    let (site, [a, one, two, b]) = family(&pool);
    pool.create("ezz/jails/a/child");
    let child = format!("{a}/child");
    let unchanged = |names: &[&str], epoch, reply: Reply| {
        let before = pool.state();
        assert_eq!(
            destroy(&site, epoch, names).run(&pool.zfs).unwrap(),
            reply,
            "{names:?}"
        );
        assert_eq!(pool.state(), before);
    };
    unchanged(&[&two, &one], 3, refused(Why::Clone, &b, libc::EEXIST));
    // The clone must be named before the snapshot: the order counts.
    unchanged(&[&two, &one, &b], 3, refused(Why::Clone, &b, libc::EEXIST));
    unchanged(
        &[&b, &one, &two, &a],
        3,
        refused(Why::Child, &child, libc::EEXIST),
    );
    unchanged(
        &[&b, &child, &one, &a],
        3,
        refused(Why::Snapshot, &two, libc::EBUSY),
    );
    unchanged(&[&b], 2, Reply::Stale { epoch: 3 });
    pool.zfs.hold(&[(&two, "mine")]).unwrap();
    unchanged(
        &[&b, &child, &one, &two, &a],
        3,
        refused(Why::Held, &two, libc::EBUSY),
    );
}

#[test]
fn a_mounted_one_stops_everything_with_and_without_snapshots() {
    let pool = Pool::new();
    let (site, [a, one, two, b]) = family(&pool);
    let stopped = |mounted: &str, names: &[&str]| {
        let at = format!("/tmp/mounted-{}", pool.name);
        std::fs::create_dir_all(&at).unwrap();
        ezz_zfs::mount(mounted, at.as_ref(), MountFlags::default()).unwrap();
        let before = pool.state();
        let reply = destroy(&site, 3, names).run(&pool.zfs).unwrap();
        assert_eq!(reply, refused(Why::Busy, mounted, libc::EBUSY));
        assert_eq!(pool.state(), before);
        ezz_zfs::unmount(at.as_ref()).unwrap();
    };
    stopped(&b, &[&b]);
    stopped(&a, &[&b, &one, &two, &a]);
    stopped(&two, &[&b, &one, &two, &a]);
    let program = destroy(&site, 3, &[&b, &one, &two, &a]);
    assert_eq!(
        program.run(&pool.zfs).unwrap(),
        Reply::Ok {
            epoch: 4,
            number: None
        }
    );
}

#[test]
fn another_dataset_of_that_name_is_left_alone() {
    let pool = Pool::new();
    let (site, [.., b]) = family(&pool);
    let (name, guid) = with_guid(&b);
    let program = call::destroy(&site, 3, &[(name, guid ^ 1)]);
    let before = pool.state();
    let reply = program.run(&pool.zfs).unwrap();
    let expected = Reply::Refused(Refusal {
        why: Why::Differs,
        dataset: Some(b.clone()),
        property: Some("guid".into()),
        errno: None,
    });
    assert_eq!(reply, expected);
    let program = call::destroy(&site, 3, &[(format!("{site}/jails/none"), 1)]);
    let Reply::Refused(refusal) = program.run(&pool.zfs).unwrap() else {
        panic!("not refused")
    };
    assert_eq!(refusal.why, Why::Absent);
    assert_eq!(pool.state(), before);
}

#[test]
fn guids_on_both_sides_of_the_sign_bit_are_compared_rightly() {
    let pool = Pool::new();
    let site = pool.sealed();
    // Guids are random: after some datasets both kinds have occurred.
    let mut seen = [false; 2];
    for n in 0..64 {
        let epoch = 3 + n;
        let name = format!("{site}/jails/n{n}");
        pool.create(&format!("ezz/jails/n{n}"));
        seen[usize::from(guid(&name) >> 63 == 1)] = true;
        let reply = destroy(&site, epoch, &[&name]).run(&pool.zfs).unwrap();
        assert_eq!(
            reply,
            Reply::Ok {
                epoch: epoch + 1,
                number: None
            }
        );
        if seen == [true; 2] {
            return;
        }
    }
    panic!("64 guids of one sign");
}

#[test]
fn a_destroy_that_is_cut_short_has_raised_the_epoch_and_goes_on() {
    let pool = Pool::new();
    let site = pool.sealed();
    for n in 0..60 {
        let (name, origin) = (format!("{site}/jails/n{n}"), format!("{site}/newjail/1@1"));
        pool.zfs.clone(&name, &origin, &NvMap::new()).unwrap();
    }
    let doomed = || -> Vec<(String, u64)> {
        let parent = format!("{site}/jails");
        let mut found = column(&parent, "guid", "none");
        found.remove(&parent);
        found
            .into_iter()
            .map(|(name, guid)| (name, guid.parse().unwrap()))
            .collect()
    };
    let plan = |epoch| call::destroy(&site, epoch, &doomed());
    let mut epoch = 3;
    let mut program = plan(epoch);
    for instructions in (900..).step_by(300) {
        let limits = Limits {
            instructions,
            ..Limits::default()
        };
        let result = program.run_within(&pool.zfs, limits);
        assert!(
            matches!(result, Err(ProgramError::Instructions { .. })),
            "{result:?}"
        );
        let (before, left) = (epoch, doomed().len());
        epoch = local(&site, "ezz:epoch").unwrap().parse().unwrap();
        assert!(
            epoch > before || left == 60,
            "nothing goes before the epoch is raised"
        );
        if left < 60 {
            assert!(left > 0, "cut only after all was gone");
            break;
        }
        program = plan(epoch);
    }
    // The old plan is stale now; a new one destroys what is left.
    assert_eq!(program.run(&pool.zfs).unwrap(), Reply::Stale { epoch });
    assert_eq!(
        plan(epoch).run(&pool.zfs).unwrap(),
        Reply::Ok {
            epoch: epoch + 1,
            number: None
        }
    );
    assert!(doomed().is_empty());
}
