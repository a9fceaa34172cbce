//! `create`.

use ezz::model::{
    AddressPool, AskedLimits, Defaults, JailConfig, Kind, Labels, Network, OrNone, Stranger, Todo,
};
use ezz::name::GenerationId;
use ezz::plan::create::{Of, Request, create};
use ezz::plan::new::Choice;
use ezz::plan::{Commit, Directory, Expect, MOST_IN_ONE, Plan, PlanError, SpecError, Step};

use super::inventory::*;

fn request(list: &[&str]) -> Request {
    Request {
        names: names(list),
        of: of(Kind::Thin, Choice::Track(track_name("main"))),
        hostname: None,
        addresses: Vec::new(),
        pools: Vec::new(),
        labels: Labels::default(),
        limits: AskedLimits::default(),
        params: ezz::model::Params::default(),
        datasets: Vec::new(),
        quota: None,
        defaults: Defaults::default(),
        boot: None,
        nested_userns: None,
        flavours: Vec::new(),
        start: false,
        atomic: false,
    }
}

fn of(kind: Kind, base: Choice) -> Of {
    Of::World {
        kind,
        base,
        network: Network::Host,
        health: None,
    }
}

#[track_caller]
fn planned(built: &Built, request: &Request) -> Plan {
    create(&built.0, request).expect("a plan")
}

#[track_caller]
fn refused(built: &Built, request: &Request) -> PlanError {
    create(&built.0, request).expect_err("no plan")
}

/// Returns the configurations that a plan's programs write.
fn written(plan: &Plan) -> Vec<JailConfig> {
    let jails = commits(plan).into_iter().filter_map(|commit| match commit {
        Commit::Create { jails, .. } => Some(jails),
        _ => None,
    });
    jails
        .flatten()
        .map(|jail| serde_json::from_str(&jail.config).expect("an ezz:jail"))
        .collect()
}

#[test]
fn thin_jails_are_one_program_and_their_mounts() {
    let plan = planned(&installed(), &request(&["a", "b"]));
    assert_eq!(
        told(&plan),
        [
            "epoch 5: clone a from tank/ezz/newjail/1@1 b from tank/ezz/newjail/1@1",
            "write the derived files of a",
            "write the derived files of b",
            "mount tank/ezz/jails/a at /srv/jails/a",
            "mount tank/ezz/jails/b at /srv/jails/b",
        ]
    );
    let configs = written(&plan);
    assert_eq!((&*configs[0].hostname, &*configs[1].hostname), ("a", "b"));
    assert!(configs.iter().all(|config| config.skel == GenerationId(1)));
    assert!(plan.notes.is_empty());
}

#[test]
fn a_thick_jail_is_a_clone_of_the_base() {
    let thick = Request {
        of: of(Kind::Thick, Choice::Track(track_name("main"))),
        ..request(&["a"])
    };
    let plan = planned(&installed(), &thick);
    assert_eq!(
        told(&plan)[0],
        "epoch 5: clone a from tank/ezz/basejail/1@1"
    );
}

#[test]
fn a_pin_is_written_and_needs_no_track() {
    let pinned = Request {
        of: of(Kind::Thin, Choice::Pin("debian-12.2.2".to_owned())),
        ..request(&["a"])
    };
    let plan = planned(&installed().sealed(2), &pinned);
    assert_eq!(told(&plan)[0], "epoch 5: clone a from tank/ezz/newjail/2@2");
    assert_eq!(
        written(&plan)[0].base,
        ezz::model::Base::Pin(GenerationId(2))
    );
}

/// A kill before the last commit leaves `todo`, which means that the jail has never run.
#[test]
fn a_quota_is_left_to_do_until_it_is_set() {
    let with_quota = Request {
        quota: Some(OrNone(Some(1 << 30))),
        ..request(&["a", "b"])
    };
    let plan = planned(&installed(), &with_quota);
    let told = told(&plan);
    // The mounts of all jails are one step.
    assert_eq!(told[4], "mount tank/ezz/jails/b at /srv/jails/b");
    assert_eq!(told[5], "set quota=1073741824 on tank/ezz/jails/a");
    assert!(
        told[7].starts_with("epoch 6: ezz:jail of tank/ezz/jails/a to "),
        "{told:?}"
    );
    assert_eq!(told.len(), 8);
    let [
        Commit::Create { jails, .. },
        Commit::Set { sets, adopt, .. },
    ] = commits(&plan)[..]
    else {
        panic!("{plan}");
    };
    assert!(!adopt);
    for (jail, set) in jails.iter().zip(sets) {
        assert!(jail.config.contains(r#""todo":[{"quota":1073741824}]"#));
        assert_eq!(
            set.expect,
            Expect::Value(jail.config.clone()),
            "compare and set"
        );
        assert!(!set.value.as_deref().expect("a value").contains("todo"));
    }
}

#[test]
fn a_start_mounts_the_base_once_and_comes_last() {
    let start = Request {
        start: true,
        ..request(&["a", "b"])
    };
    let plan = planned(&installed().unmounted_base(1), &start);
    assert_eq!(
        told(&plan)[5..],
        [
            "mount tank/ezz/basejail/1 at /srv/jails/basejail/1, read-only",
            "start a",
            "start b",
        ]
    );
}

#[test]
fn debris_of_the_same_name_is_destroyed_first() {
    let plan = planned(&installed().unfinished("b"), &request(&["a", "b"]));
    assert_eq!(
        told(&plan)[..4],
        [
            "unmount tank/ezz/jails/b from /srv/jails/b",
            "remove the empty directory /srv/jails/b",
            "epoch 5: destroy tank/ezz/jails/b",
            "epoch 6: clone a from tank/ezz/newjail/1@1 b from tank/ezz/newjail/1@1",
        ]
    );
    assert_eq!(plan.notes, ["b was never finished; creating it again"]);
}

/// A command that was cut off after its program is completed by the same command, and not refused.
#[test]
fn what_a_killed_create_made_is_finished_by_the_same_command() {
    let start = Request {
        start: true,
        ..request(&["a", "b"])
    };
    let mut made = installed().thin("a").thin("b");
    for name in ["a", "b"] {
        made.with_jail(name, |jail| {
            jail.config.as_mut().expect("valid").hostname = name.to_owned();
        });
    }
    let plan = planned(&made.clone().unmounted("b"), &request(&["a", "b"]));
    assert_eq!(
        told(&plan),
        [
            "write the derived files of a",
            "write the derived files of b",
            "mount tank/ezz/jails/b at /srv/jails/b",
        ]
    );
    assert_eq!(plan.notes[0], "a already exists; completing its setup");
    let plan = planned(&made.clone().running("a"), &start);
    assert_eq!(told(&plan).last().map(String::as_str), Some("start b"));
    // Either nothing is missing, or the jail is another one.
    for (site, request) in [
        (made.clone(), request(&["a", "b"])),
        (made.clone().running("a").running("b"), start),
        (
            made.unmounted("b"),
            Request {
                quota: Some(OrNone(Some(1 << 30))),
                ..request(&["b"])
            },
        ),
    ] {
        assert!(matches!(
            refused(&site, &request),
            PlanError::JailExists(_) | PlanError::JailsExist(_)
        ));
    }
}

#[test]
fn programs_have_a_thousand_jails_at_most() {
    for count in [1, MOST_IN_ONE, MOST_IN_ONE + 1, 2 * MOST_IN_ONE + 500] {
        let wanted: Vec<String> = (0..count).map(|n| format!("j{n}")).collect();
        let list: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let quota = Some(OrNone(Some(1 << 20)));
        let plan = planned(
            &installed(),
            &Request {
                quota,
                ..request(&list)
            },
        );
        told(&plan);
        let mut made = Vec::new();
        for commit in commits(&plan) {
            match commit {
                Commit::Create { jails, .. } => {
                    assert!(jails.len() <= MOST_IN_ONE);
                    made.extend(jails.iter().map(|jail| jail.name.clone()));
                }
                Commit::Set { sets, .. } => assert!(sets.len() <= MOST_IN_ONE),
                other => panic!("{other}"),
            }
        }
        assert_eq!(made, names(&list), "each once, in order");
    }
}

#[test]
fn what_is_in_the_way_is_refused() {
    let site = installed().thin("old").stranger("odd").track("empty", None);
    let one = |list: &[&str]| refused(&site, &request(list)).to_string();
    assert_eq!(one(&["a", "old"]), "the jail old already exists");
    assert_eq!(one(&["a", "a"]), "the jail a is named twice");
    assert_eq!(
        one(&["empty"]),
        "empty is the name of a track, and cannot be the name of a jail"
    );
    assert!(one(&["odd"]).ends_with("it is odd"));
    let mut given = installed();
    given.0.inventory.strangers.push(Stranger {
        dataset: "tank/ezz/jails/given".to_owned(),
        why: "it is delegated".to_owned(),
    });
    let why = refused(&given, &request(&["given"])).to_string();
    assert!(why.ends_with("it is delegated"), "{why}");
    for (directory, words) in [
        (Directory::Occupied, "not an empty directory"),
        (Directory::Mounted, "mounted there"),
    ] {
        let site = site.clone().directory("a", directory);
        let why = refused(&site, &request(&["a"])).to_string();
        assert!(why.contains("/srv/jails/a") && why.contains(words), "{why}");
    }
    planned(
        &site.clone().directory("a", Directory::Free),
        &request(&["a"]),
    );
}

#[test]
fn a_base_that_is_not_there_is_refused() {
    let on = |base| Request {
        of: of(Kind::Thin, base),
        ..request(&["a"])
    };
    let site = installed().staged(2).track("empty", None);
    let why = |base| refused(&site, &on(base)).to_string();
    let track = |name| Choice::Track(track_name(name));
    assert_eq!(why(track("none")), "there is no track none");
    assert_eq!(why(track("empty")), "the track empty has no generation yet");
    let staged = why(Choice::Pin("2".to_owned()));
    assert_eq!(staged, r#"there is no sealed generation "2""#);
    // A track that names a generation that is not sealed is broken: no jail can be created from it.
    let broken = refused(&site.clone().track("main", Some(2)), &request(&["a"]));
    assert!(
        matches!(broken, PlanError::Spec(SpecError::NoBase { .. })),
        "{broken}"
    );
}

#[test]
fn one_of_a_kind_is_given_to_one_jail() {
    let address = "192.0.2.7/24".parse().expect("an address");
    let two = Request {
        hostname: Some("h".to_owned()),
        ..request(&["a", "b"])
    };
    assert!(matches!(refused(&installed(), &two), PlanError::OnlyOne(_)));
    let two = Request {
        addresses: vec![address],
        ..request(&["a", "b"])
    };
    assert!(matches!(refused(&installed(), &two), PlanError::OnlyOne(_)));
    let mut site = installed().thin("old");
    let other_prefix = "em0|192.0.2.7/32".parse().expect("an address");
    site.with_jail("old", |jail| {
        let config = jail.config.as_mut().expect("valid");
        config.addresses = vec![other_prefix];
    });
    let taken = Request {
        names: names(&["a"]),
        ..two
    };
    let why = refused(&site, &taken).to_string();
    assert_eq!(why, "the address 192.0.2.7/24 belongs to the jail old");
}

#[test]
fn too_little_space_is_refused_before_anything_is_done() {
    let mut site = installed();
    site.0.inventory.site.available = 2 * 240 * 1024;
    planned(&site, &request(&["a", "b"]));
    let why = refused(&site, &request(&["a", "b", "c"]));
    assert!(matches!(why, PlanError::Space { .. }), "{why}");
}

#[test]
fn a_replica_and_another_format_are_left_alone() {
    let why = refused(&installed().replica(), &request(&["a"]));
    assert!(matches!(why, PlanError::Replica(_)), "{why}");
    let mut newer = installed();
    newer.0.inventory.site.format = 2;
    let why = refused(&newer, &request(&["a"])).to_string();
    assert_eq!(why, "tank/ezz has format 2, but this ezz supports 1");
}

/// Returns the network of each jail, with its addresses, as a plan writes it.
fn addresses(plan: &Plan) -> Vec<String> {
    let commits = plan.steps.iter().filter_map(|step| match step {
        Step::Commit {
            commit: Commit::Create { jails, .. },
            ..
        } => Some(jails),
        _ => None,
    });
    let configs = commits.flatten().map(|jail| {
        let config: serde_json::Value = serde_json::from_str(&jail.config).expect("JSON");
        let list = config["addresses"].as_array().cloned().unwrap_or_default();
        let texts = list.iter().filter_map(|address| address.as_str());
        format!("{}: {}", jail.name, texts.collect::<Vec<_>>().join(" "))
    });
    configs.collect()
}

#[test]
fn a_pool_gives_what_no_jail_of_the_site_has() {
    let mut old = config(Kind::Thin, 1);
    old.addresses = vec!["10.0.0.2/24".parse().expect("it is good")];
    let site = installed().jail("old", old);
    let pool = |text: &str| text.parse::<AddressPool>().expect("it is good");
    let two = Request {
        pools: vec![pool("em0|10.0.0.0/29"), pool("fd00::/64")],
        ..request(&["a", "b"])
    };
    assert_eq!(
        addresses(&planned(&site, &two)),
        [
            "a: em0|10.0.0.1/29 fd00::1/64",
            "b: em0|10.0.0.3/29 fd00::2/64"
        ]
    );
    // If one network is named twice, each jail gets two addresses of it.
    let twice = Request {
        pools: vec![pool("10.0.0.0/29"), pool("10.0.0.0/29")],
        ..request(&["a", "b"])
    };
    assert_eq!(
        addresses(&planned(&site, &twice)),
        ["a: 10.0.0.1/29 10.0.0.4/29", "b: 10.0.0.3/29 10.0.0.5/29"]
    );
    let many = Request {
        pools: vec![pool("10.0.0.0/29")],
        ..request(&["a", "b", "c", "d", "e", "f"])
    };
    let error = create(&site.0, &many).expect_err("five are free");
    assert_eq!(
        error.to_string(),
        "10.0.0.0/29 has 5 free addresses, but 6 jails need one each"
    );
}

#[test]
fn all_names_that_are_taken_are_told() {
    let site = installed().jail("a", config(Kind::Thin, 1));
    let site = site.jail("b", config(Kind::Thin, 1));
    let error = create(&site.0, &request(&["b", "new", "a"])).expect_err("two are taken");
    assert_eq!(error.to_string(), "2 jails already exist: a, b");
}

#[test]
fn atomic_is_one_program_or_none() {
    let names = |count: usize| (1..=count).map(|n| format!("j{n}")).collect::<Vec<_>>();
    let of = |count: usize, atomic| {
        let names = names(count);
        let list: Vec<&str> = names.iter().map(String::as_str).collect();
        let request = Request {
            atomic,
            ..request(&list)
        };
        let plan = create(&installed().0, &request)?;
        let commits = plan
            .steps
            .iter()
            .filter(|step| matches!(step, Step::Commit { .. }));
        Ok::<_, PlanError>(commits.count())
    };
    assert_eq!(
        (of(1500, false).ok(), of(1500, true).ok()),
        (Some(2), Some(1))
    );
    let error = of(2001, true).expect_err("too many");
    assert_eq!(
        error.to_string(),
        "cannot create 2001 jails in one transaction: the maximum is 2000"
    );
}

#[test]
fn a_dataset_of_the_site_or_of_another_jail_is_refused() {
    let mut has = config(Kind::Thin, 1);
    has.datasets = vec![dataset("tank/data/old")];
    let site = installed().jail("old", has);
    let of = |name: &str, list: &[&str]| Request {
        datasets: list.iter().map(|name| dataset(name)).collect(),
        ..request(&[name])
    };
    // The site, a part of it, and a dataset that contains it.
    for name in ["tank/ezz", "tank/ezz/jails/b", "tank/ezz/basejail", "tank"] {
        let error = refused(&site, &of("a", &["tank/data/a", name]));
        assert!(
            matches!(&error, PlanError::SiteDataset { dataset, .. } if dataset.as_str() == name),
            "{name}: {error:?}"
        );
    }
    for name in ["tank/data/old", "tank/data", "tank/data/old/x"] {
        let error = refused(&site, &of("a", &[name]));
        assert!(
            matches!(&error, PlanError::DatasetTaken { owner, .. } if owner.as_str() == "old"),
            "{name}: {error:?}"
        );
    }
    let plan = planned(&site, &of("a", &["tank/data/older", "tank/ezz2", "other"]));
    let names: Vec<String> = written(&plan)[0]
        .datasets
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["tank/data/older", "tank/ezz2", "other"]);
    let two = Request {
        datasets: vec![dataset("tank/data/a")],
        ..request(&["a", "b"])
    };
    assert!(matches!(refused(&site, &two), PlanError::OnlyOne(_)));
    // A clone has none of its source's datasets.
    let cloned = Request {
        of: Of::Jail(jail_name("old")),
        ..request(&["c"])
    };
    assert!(written(&planned(&site, &cloned))[0].datasets.is_empty());
}

/// The defaults of the configuration file are written into the jail; options of the command override them, and a clone
/// is configured like its source.
#[test]
fn new_jails_have_the_defaults_of_the_host() {
    let defaults = Defaults {
        memory: Some(512 << 20),
        processes: Some(300),
        quota: Some(1 << 30),
    };
    let plain = Request {
        defaults,
        ..request(&["a"])
    };
    let made = |built: &Built, request: &Request| {
        let config = written(&planned(built, request)).remove(0);
        (config.limits.to_string(), config.todo)
    };
    let quota = vec![Todo::Quota(1 << 30)];
    assert_eq!(
        made(&installed(), &plain),
        ("memory=536870912 processes=300".to_owned(), quota)
    );
    let own = Request {
        limits: AskedLimits {
            memory: Some(OrNone(Some(1 << 30))),
            processes: Some(OrNone(None)),
            ..AskedLimits::default()
        },
        quota: Some(OrNone(None)),
        ..plain.clone()
    };
    assert_eq!(
        made(&installed(), &own),
        ("memory=1073741824".to_owned(), Vec::new())
    );

    let mut built = installed().thin("source");
    built.with_jail("source", |jail| jail.quota = 2 << 30);
    let clone = Request {
        of: Of::Jail(jail_name("source")),
        ..plain
    };
    let todo = vec![Todo::Identity, Todo::Quota(2 << 30)];
    assert_eq!(made(&built, &clone), (String::new(), todo));
    let unlimited = Request {
        quota: Some(OrNone(None)),
        ..clone
    };
    let todo = vec![Todo::Identity];
    assert_eq!(made(&built, &unlimited), (String::new(), todo));
}
