//! `apply`: the differences between a site and a fleet file.

use ezz::fleet::{Fleet, Written};
use ezz::model::{Defaults, Todo};
use ezz::name::FleetName;
use ezz::plan::fleet::{Diff, Does, Request, Seen, diff};

use super::inventory::*;

fn request(text: &str) -> Request {
    Request {
        fleet: Fleet::parse(text).expect("a fleet file"),
        prune: false,
        restart: false,
        defaults: Defaults::default(),
    }
}

/// Returns the difference between a site and a file.
#[track_caller]
fn different(built: &Built, request: &Request) -> Diff {
    diff(&built.0, request, &Seen::default()).expect("a difference")
}

/// Returns the change of a jail as it is shown.
#[track_caller]
fn shown(diff: &Diff, name: &str) -> String {
    diff.changes[&jail_name(name)].shown(&jail_name(name))
}

#[test]
fn user_namespaces_of_jails_follow_a_file_that_names_them() {
    let on = request("fleet = \"f\"\n[[jail]]\nname = \"a\"\nnested_userns = true\n");
    let created = different(&installed(), &on);
    assert!(created.new[0].config.nested_userns);
    assert!(
        shown(&created, "a").contains("nested_userns on"),
        "{created:?}"
    );

    // A running jail gets them at its next start.
    let there = installed().thin("a").running("a");
    let changed = different(&there, &on);
    let words = "~ a: change: nested_userns off > on";
    assert!(shown(&changed, "a").starts_with(words), "{changed:?}");
    assert!(changed.notes[0].contains("ezz restart a"), "{changed:?}");
    let restarted = different(
        &there,
        &Request {
            restart: true,
            ..on
        },
    );
    assert_eq!(
        restarted.changes[&jail_name("a")].does,
        [Does::Change, Does::Restart]
    );

    // A file that does not name them leaves them as they are; `list --fleet` names them where they are on.
    let mut built = installed().thin("a").thin("b");
    built.with_jail("a", |jail| {
        let config = jail.config.as_mut().expect("a configuration");
        config.nested_userns = true;
    });
    let silent = request("fleet = \"f\"\n[[jail]]\nname = \"a\"\n");
    let kept = different(&built, &silent);
    assert_eq!(shown(&kept, "a"), "~ a: change: fleet none > f");
    let mut file = Written::new(&FleetName::parse("f").expect("a name"));
    for name in ["a", "b"] {
        let jail = &built.0.inventory.jails[&jail_name(name)];
        file.add(jail, jail.config.as_ref().expect("a configuration"), false);
    }
    let text = file.text().expect("TOML");
    assert_eq!(text.matches("nested_userns = true").count(), 1, "{text}");
    assert!(!text.contains("nested_userns = false"), "{text}");
    let wanted = request(&text);
    for (name, is) in [("a", Some(true)), ("b", None)] {
        assert_eq!(wanted.fleet.jails[&jail_name(name)].nested_userns, is);
    }
}

#[test]
fn only_new_jails_have_the_defaults_of_the_host() {
    let with_defaults = |jail: &str| Request {
        defaults: Defaults {
            memory: Some(512 << 20),
            processes: Some(300),
            quota: Some(1 << 30),
        },
        ..request(&format!("fleet = \"f\"\n[[jail]]\nname = \"a\"\n{jail}\n"))
    };
    for (jail, limits, quota) in [
        ("", "memory=536870912 processes=300", Some(1 << 30)),
        // The limits of a file replace all limits of the jail.
        ("limits = { cpus = 2 }", "cpus=2", Some(1 << 30)),
        ("limits = { memory = \"none\" }", "", Some(1 << 30)),
        ("quota = \"none\"", "memory=536870912 processes=300", None),
        (
            "quota = \"2G\"",
            "memory=536870912 processes=300",
            Some(2 << 30),
        ),
    ] {
        let wanted = with_defaults(jail);
        let created = different(&installed(), &wanted);
        let config = &created.new[0].config;
        assert_eq!(config.limits.to_string(), limits, "{jail}");
        let todo: Vec<Todo> = quota.into_iter().map(Todo::Quota).collect();
        assert_eq!(config.todo, todo, "{jail}");

        // A jail that was created with these defaults matches the file.
        let mut config = config.clone();
        config.todo.clear();
        let mut built = installed().jail("a", config.clone());
        built.with_jail("a", |jail| jail.quota = quota.unwrap_or(0));
        let again = different(&built, &wanted);
        assert!(again.changes.is_empty(), "{jail}: {again:?}");
    }
    // So does a jail that was created without defaults.
    let mut older = installed().thin("a");
    older.with_jail("a", |jail| {
        let config = jail.config.as_mut().expect("a configuration");
        config.fleet = Some(FleetName::parse("f").expect("a name"));
    });
    let nothing = different(&older, &with_defaults(""));
    assert!(nothing.changes.is_empty(), "{nothing:?}");
}
