use super::*;

#[track_caller]
fn read(text: &str) -> Fleet {
    Fleet::parse(text).expect("it is good")
}

/// Returns the line, the column and the message of the error.
#[track_caller]
fn wrong(text: &str) -> (usize, usize, String) {
    let error = Fleet::parse(text).expect_err("it is bad");
    (error.place.line, error.place.column, error.what)
}

#[test]
fn jails_have_the_defaults_but_for_what_they_say_themselves() {
    let fleet = read(
        r#"
fleet = "shop"
[defaults]
track = "blue"
hostname = "{name}.example.org"
ip_pools = ["10.0.0.0/24"]
labels = { tier = "front", a = "1" }
[[jail]]
name = "web{1..2}"
[[jail]]
names = ["db1", "db{2..3}"]
pin = "7"
thick = true
state = "running"
labels = { tier = "back" }
depends = ["web{1..2}"]
quota = "10G"
limits = { memory = "1G", cpus = 2, processes = 9, cpuset = "3,0-1" }
order = -1
"#,
    );
    let names: Vec<&str> = fleet.jails.keys().map(JailName::as_str).collect();
    assert_eq!(names, ["db1", "db2", "db3", "web1", "web2"]);
    let jail = |name: &str| &fleet.jails[&JailName::parse(name).expect("a name")];
    let web = jail("web2");
    assert_eq!(web.hostname.as_deref(), Some("web2.example.org"));
    assert!(matches!(&web.origin, Some(Origin::Track(track)) if track.value.as_str() == "blue"));
    let labels = |jail: &Wanted| jail.labels.as_ref().map(Labels::texts).unwrap_or_default();
    assert_eq!(labels(web), ["a=1", "tier=front"]);
    assert_eq!((web.wish, web.place.line), (None, 9));
    let db = jail("db3");
    assert!(matches!(&db.origin, Some(Origin::Pin(pin)) if pin.value == "7"));
    assert_eq!((web.kind, db.kind), (None, Some(Kind::Thick)));
    assert_eq!(labels(db), ["a=1", "tier=back"]);
    assert_eq!(
        (db.wish, db.quota, db.order),
        (Some(Wish::Running), Some(10 << 30), Some(-1))
    );
    assert_eq!(db.depends.as_ref().map(Vec::len), Some(2));
    let limits = db.limits.as_ref().map(ToString::to_string);
    assert_eq!(
        limits.as_deref(),
        Some("memory=1073741824 cpus=2 processes=9 cpuset=0-1,3")
    );
    assert_eq!(web.limits, None);
    assert_eq!(
        db.place,
        Place {
            line: 11,
            column: 17
        }
    );
}

/// A missing key differs from an empty value.
#[test]
fn what_a_file_does_not_say_stays_open() {
    let fleet = read(
        "fleet = \"f\"\n[[jail]]\nname = \"a\"\n[[jail]]\nname = \"b\"\nquota = \"none\"\nhealth = \"\"\n\
         labels = {}\nlimits = {}\naddresses = []\nparams = []\ndatasets = []\ndepends = []\norder = 0\n",
    );
    let jail = |name: &str| &fleet.jails[&JailName::parse(name).expect("a name")];
    let (a, b) = (jail("a"), jail("b"));
    assert_eq!((&a.origin, a.kind, &a.hostname), (&None, None, &None));
    assert_eq!((a.quota, &a.health, &a.labels), (None, &None, &None));
    assert_eq!((a.order, &a.limits, &a.depends), (None, &None, &None));
    assert!(!a.names_addresses() && b.names_addresses());
    assert_eq!((b.quota, b.health.as_deref()), (Some(0), Some("")));
    assert_eq!(b.limits, Some(Limits::default()));
    let none = read(
        "fleet = \"f\"\n[[jail]]\nname = \"a\"\n\
         limits = { memory = \"none\", cpus = \"none\", processes = \"none\", cpuset = \"none\" }\n",
    );
    let a = &none.jails[&JailName::parse("a").expect("a name")];
    assert_eq!(a.limits, Some(Limits::default()));
    assert_eq!((&b.datasets, b.order), (&Some(Vec::new()), Some(0)));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, line, column, words) in [
        ("", 1, 1, "missing field `fleet`"),
        ("fleet = \"A\"", 1, 9, "bad fleet name"),
        ("fleet = \"f\"\nx = 1", 2, 1, "unknown field `x`"),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\nquotta = \"1G\"",
            4,
            1,
            "unknown field `quotta`",
        ),
        ("fleet = \"f\"\n[[jail]]\nname = \"a", 3, 10, ""),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"A\"",
            3,
            8,
            "bad jail name \"A\"",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a{3..1}\"",
            3,
            8,
            "FIRST is larger than LAST",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nstate = \"running\"",
            2,
            1,
            "without `name`",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\nstate = \"on\"",
            4,
            9,
            "unknown variant `on`",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\nquota = \"x\"",
            4,
            9,
            "expected a number",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\nlimits = { processes = \"many\" }",
            4,
            24,
            "expected a number or \"none\"",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\naddresses = [\"1.2.3.4\", \"x\"]",
            4,
            25,
            "x",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a{1..2}\"\naddresses = [\"1.2.3.4\"]",
            4,
            14,
            "one jail's",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a{1..2}\"\ndatasets = [\"tank/a\"]",
            4,
            13,
            "one jail's",
        ),
        (
            "fleet = \"f\"\n[defaults]\ndatasets = [\"tank/a\"]\n[[jail]]\nname = \"a\"",
            3,
            13,
            "cannot be a default",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\ndatasets = [\"tank/a\", \"tank@a\"]",
            4,
            23,
            "tank@a",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\nip_pools = [\"1.2.3.4/8\"]",
            4,
            13,
            "bad pool",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\ntrack = \"x\"\npin = \"7\"",
            5,
            7,
            "has one",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\n[[jail]]\nnames = [\"b\", \"a\"]",
            5,
            15,
            "named already in line 3",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\nlabels = { \"ä\" = \"1\" }",
            4,
            18,
            "bad label",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\nhostname = \"{name}_\"",
            4,
            12,
            "expected letters",
        ),
        (
            "fleet = \"f\"\n[defaults]\nname = \"a\"",
            3,
            8,
            "cannot be a default",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\ndepends = [\"b\"]\n[[jail]]\nname = \"b\"\ndepends = [\"c\", \"a\"]",
            7,
            17,
            "these wait for each other: a, b, a",
        ),
        (
            "fleet = \"f\"\n[[jail]]\nname = \"a\"\ndepends = [\"a\"]",
            4,
            12,
            "each other: a, a",
        ),
    ] {
        let found = wrong(text);
        assert_eq!((found.0, found.1), (line, column), "{text}: {found:?}");
        assert!(found.2.contains(words), "{text}: {found:?}");
    }
}

#[test]
fn a_long_chain_is_no_circle() {
    let mut text = "fleet = \"f\"\n".to_owned();
    for n in 0..5000 {
        text += &format!("[[jail]]\nname = \"j{n}\"\ndepends = [\"j{}\"]\n", n + 1);
    }
    assert_eq!(read(&text).jails.len(), 5000);
}
