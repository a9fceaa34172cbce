//! Tests that read the files back with a reader of the real grammar.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::reader::{read, read_fstab};
use super::*;
use crate::host::freebsd::testing::spec;

fn files(spec: &JailSpec) -> Files {
    let names = Names {
        fstab: Path::new("/etc/jail.conf.d/web.fstab"),
        console_log: Path::new("/var/log/ezz/web.log"),
    };
    render(spec, names).expect("nothing in it has a NUL")
}

/// Returns the values of a parameter of the only block; none if it does not exist.
fn values(conf: &[u8], name: &str) -> Option<Vec<String>> {
    let mut blocks = read(conf).expect("jail(8) can read it");
    assert_eq!(blocks.len(), 1);
    let block = blocks.remove(0);
    let mut found = block
        .parameters
        .into_iter()
        .filter(|(parameter, _)| parameter == name.as_bytes());
    let (_, values) = found.next()?;
    assert!(found.next().is_none(), "{name} occurs twice");
    Some(
        values
            .into_iter()
            .map(|value| String::from_utf8(value).expect("text"))
            .collect(),
    )
}

fn value(conf: &[u8], name: &str) -> Option<String> {
    let mut values = values(conf, name)?;
    assert_eq!(values.len(), 1, "{name} is no scalar");
    values.pop()
}

#[test]
fn a_thin_jail() {
    let made = files(&spec("web"));
    let conf = "\
# Made by ezz for site 0f0e. Edits are lost at the next start.
web {
    path = '/usr/jails/web';
    host.hostname = 'web.example.org';
    ip4 = inherit;
    ip6 = inherit;
    osrelease = '14.3-RELEASE-p2';
    osreldate = 1403000;
    mount.fstab = '/etc/jail.conf.d/web.fstab';
    mount.devfs;
    devfs_ruleset = 4;
    enforce_statfs = 2;
    exec.clean;
    stop.timeout = 30;
    exec.start = \
'if [ /etc/master.passwd -nt /etc/spwd.db ]; then /usr/sbin/pwd_mkdb -d /etc -p /etc/master.passwd \
|| echo \\'/etc/spwd.db is older than /etc/master.passwd\\' >&2; fi', \
'if [ /etc/login.conf -nt /etc/login.conf.db ]; then /usr/bin/cap_mkdb /etc/login.conf \
|| echo \\'/etc/login.conf.db is older than /etc/login.conf\\' >&2; fi', \
'if [ /etc/services -nt /var/db/services.db ]; then /usr/sbin/services_mkdb -q -o /var/db/services.db /etc/services \
|| echo \\'/var/db/services.db is older than /etc/services\\' >&2; fi', \
'/bin/sh /etc/rc';
    exec.stop = '/bin/sh /etc/rc.shutdown jail';
    exec.consolelog = '/var/log/ezz/web.log';
    persist;
}
";
    let fstab = "\
# Made by ezz for site 0f0e. Edits are lost at the next start.
/usr/jails/basejail/7 /usr/jails/web/basejail nullfs ro 0 0
";
    assert_eq!(String::from_utf8_lossy(&made.conf), conf);
    assert_eq!(String::from_utf8_lossy(&made.fstab.expect("thin")), fstab);
}

#[test]
fn a_thick_jail_has_no_fstab() {
    let mut spec = spec("web");
    spec.base = None;
    let made = files(&spec);
    assert_eq!(made.fstab, None);
    assert_eq!(values(&made.conf, "mount.fstab"), None);
}

#[test]
fn limits_are_rules_that_go_with_the_jail() {
    let mut spec = spec("web");
    spec.config.limits = Limits {
        memory: Some(512 << 20),
        cpus: Some("1.5".parse().expect("a number")),
        processes: Some(100),
        cpuset: Some("0-3,6".parse().expect("a list")),
        ..Limits::default()
    };
    let conf = files(&spec).conf;
    let added = values(&conf, "exec.created").expect("it is there");
    assert_eq!(
        added,
        [
            "/usr/bin/rctl -a jail:web:memoryuse:deny=536870912",
            "/usr/bin/rctl -a jail:web:pcpu:deny=150",
            "/usr/bin/rctl -a jail:web:maxproc:deny=100",
            "/usr/bin/cpuset -l 0-3,6 -j web",
        ]
    );
    let removed = value(&conf, "exec.poststop").expect("it is there");
    assert_eq!(removed, "/usr/bin/rctl -r jail:web");
    // If a command has one of these, jail(8) runs it by a shell (command.c).
    let shell = |text: &str| text.contains(|c| "!\"$&'()*;<>?[\\]`{|}~".contains(c));
    assert!(!added.iter().chain([&removed]).any(|text| shell(text)));

    // The kernel does not need resource accounting for this, and removes the set with the jail.
    spec.config.limits = Limits {
        cpuset: Some("1".parse().expect("a list")),
        ..Limits::default()
    };
    let conf = files(&spec).conf;
    let added = values(&conf, "exec.created").expect("it is there");
    assert_eq!(added, ["/usr/bin/cpuset -l 1 -j web"]);
    assert_eq!(value(&conf, "exec.poststop"), None);
}

fn params(texts: &[&str]) -> crate::model::Params {
    let all = texts.iter().map(|text| text.parse().expect("valid"));
    crate::model::Params::new(all.collect::<Vec<_>>()).expect("valid")
}

#[test]
fn parameters_replace_what_ezz_would_say_and_stand_beside_what_it_does() {
    let mut spec = spec("web");
    spec.config.params = params(&[
        "allow.raw_sockets",
        "mount.nodevfs",
        "devfs_ruleset=61",
        "enforce_statfs=1",
        "children.max=5",
        "exec.start=/bin/true",
        "exec.stop=/bin/sh -c 'x \"$y\"; #'",
        "exec.prestart=first",
        "exec.prestart=second",
        "exec.poststop=/usr/bin/rctl -r jail:other",
        "meta=a\nb",
    ]);
    let conf = files(&spec).conf;
    let one = |name: &str| value(&conf, name);
    assert_eq!(values(&conf, "allow.raw_sockets"), Some(vec![]));
    assert_eq!(values(&conf, "mount.devfs"), None);
    assert_eq!(values(&conf, "mount.nodevfs"), Some(vec![]));
    assert_eq!(one("devfs_ruleset").as_deref(), Some("61"));
    assert_eq!(one("enforce_statfs").as_deref(), Some("1"));
    assert_eq!(one("children.max").as_deref(), Some("5"));
    assert_eq!(
        one("exec.stop").as_deref(),
        Some("/bin/sh -c 'x \"$y\"; #'")
    );
    assert_eq!(one("meta").as_deref(), Some("a\nb"));
    let before = values(&conf, "exec.prestart").expect("it is there");
    assert_eq!(before, ["first", "second"]);
    let start = values(&conf, "exec.start").expect("it is there");
    assert_eq!(start.last().map(String::as_str), Some("/bin/true"));
    assert_eq!(start.len(), 4, "the databases are made all the same");
}

#[test]
fn a_network_of_its_own_is_made_before_it_and_goes_after_it() {
    let mut spec = spec("web");
    spec.config.network = Network::Vnet;
    spec.config.addresses = ["bridge0|10.0.0.2/24", "bridge0|fd00::2/64"]
        .map(|address| address.parse().expect("an address"))
        .to_vec();
    spec.config.limits.processes = Some(9);
    spec.config.params = params(&["exec.poststop=/bin/mine", "vnet.interface=em1"]);
    let made = files(&spec).conf;
    assert_eq!(values(&made, "vnet"), Some(vec![]));
    assert_eq!(values(&made, "ip4"), None);
    assert_eq!(values(&made, "ip4.addr"), None);
    let interfaces = values(&made, "vnet.interface").expect("it is there");
    assert!(interfaces[0].starts_with("ez") && interfaces[1] == "em1");
    let start = values(&made, "exec.start").expect("it is there");
    assert!(start[1].ends_with(" inet 10.0.0.2/24 alias"), "{start:?}");
    assert!(start[2].ends_with(" inet6 fd00::2/64 alias"), "{start:?}");
    let before = value(&made, "exec.prestart").expect("it is there");
    assert!(before.contains("/sbin/ifconfig bridge0 addm ez"));
    let after = values(&made, "exec.poststop").expect("it is there");
    assert_eq!(after.len(), 3);
    // ezz undoes the same if jail(8) did not get there, and does not run the user's commands.
    let text = std::str::from_utf8(&made).expect("text");
    let undone = undone(text, &spec.site_id, &spec.name);
    assert!(undone[0].starts_with("/sbin/ifconfig ez") && undone[0].ends_with("0a destroy"));
    assert_eq!(undone[1..], ["/usr/bin/rctl -r jail:web"]);

    spec.config.addresses = vec!["10.0.0.2/24".parse().expect("an address")];
    let names = Names {
        fstab: Path::new("/f"),
        console_log: Path::new("/l"),
    };
    assert_eq!(render(&spec, names), Err(ConfError::Bridge));
}

#[test]
fn both_families_are_always_said() {
    let mut spec = spec("web");
    let conf = files(&spec).conf;
    assert_eq!(value(&conf, "ip4").as_deref(), Some("inherit"));
    assert_eq!(value(&conf, "ip6").as_deref(), Some("inherit"));

    spec.config.addresses = ["em0|192.0.2.7/24", "192.0.2.8/24"]
        .map(|address| address.parse().expect("an address"))
        .to_vec();
    let conf = files(&spec).conf;
    assert_eq!(value(&conf, "ip4").as_deref(), Some("new"));
    assert_eq!(
        values(&conf, "ip4.addr"),
        Some(vec!["em0|192.0.2.7/24".to_owned(), "192.0.2.8".to_owned()])
    );
    assert_eq!(value(&conf, "ip6").as_deref(), Some("disable"));
    assert_eq!(values(&conf, "ip6.addr"), None);

    spec.config.addresses = vec!["2001:db8::7".parse().expect("an address")];
    let conf = files(&spec).conf;
    assert_eq!(value(&conf, "ip4").as_deref(), Some("disable"));
    assert_eq!(value(&conf, "ip6.addr").as_deref(), Some("2001:db8::7"));

    spec.config.network = Network::None;
    let conf = files(&spec).conf;
    assert_eq!(value(&conf, "ip4").as_deref(), Some("disable"));
    assert_eq!(value(&conf, "ip6").as_deref(), Some("disable"));
    assert_eq!(values(&conf, "ip6.addr"), None);
}

#[test]
fn the_release_is_told_only_when_its_number_is_known() {
    for (label, number) in [
        ("14.0-RELEASE-p6", Some(1_400_097)),
        ("14.3-RELEASE-p2", Some(1_403_000)),
        ("15.0-RELEASE", Some(1_500_068)),
        ("15.1-RELEASE", Some(1_501_000)),
        ("16.0-RELEASE", None),
        ("15.0-CURRENT", None),
        ("13.5-RELEASE", None),
        ("14.3", None),
        ("debian-12.15", None),
        ("99999999999.1-RELEASE", None),
    ] {
        assert_eq!(osreldate(label), number, "{label}");
    }
    let mut spec = spec("web");
    spec.world.label = format!("14.3-RELEASE-{}", "x".repeat(40));
    let conf = files(&spec).conf;
    assert_eq!(values(&conf, "osrelease"), None);
    assert_eq!(values(&conf, "osreldate"), None);
}

#[test]
fn a_nul_is_refused() {
    let mut spec = spec("web");
    spec.config.hostname = "a\0b".to_owned();
    let names = Names {
        fstab: Path::new("/f"),
        console_log: Path::new("/l"),
    };
    let error = render(&spec, names).expect_err("a C string ends there");
    assert_eq!(
        error,
        ConfError::Nul {
            what: "the host name"
        }
    );
}

#[test]
fn values_cannot_break_out() {
    for hostile in [
        "x'; exec.prestart = 'id",
        "\\",
        "\\'; }",
        "${path}",
        "a // b # c /* d",
        "a\nb\tc\u{b}",
        "é",
        "",
    ] {
        let mut spec = spec("web");
        spec.config.hostname = hostile.to_owned();
        let conf = files(&spec).conf;
        assert_eq!(value(&conf, "host.hostname").as_deref(), Some(hostile));
        assert_eq!(values(&conf, "exec.prestart"), None);
    }
}

#[test]
fn the_owner_is_in_the_first_line() {
    let made = files(&spec("web"));
    assert_eq!(owner(&made.conf), Some("0f0e"));
    assert_eq!(owner(&made.fstab.expect("thin")), Some("0f0e"));
    assert_eq!(owner(b"web { path = /x; }\n"), None);
    assert_eq!(owner(b"# Made by hand\n"), None);
    assert_eq!(owner(b""), None);
    assert_eq!(owner(b"\xff\n"), None);
}

#[test]
fn the_reader_knows_the_grammar() {
    // These cases of jaillex.l were tried with the real lexer: they are facts, not habits of this writer.
    let one = |text: &str| read(format!("j {{ x = {text}; }}").as_bytes());
    let x = |text: &str| one(text).map(|blocks| blocks[0].parameters[0].1[0].clone());
    assert_eq!(x("'a\\tb'"), Ok(b"a\tb".to_vec()));
    assert_eq!(x("'\\\\'"), Ok(b"\\".to_vec()));
    assert_eq!(x("'\\''"), Ok(b"'".to_vec()));
    assert_eq!(x("\"a\"b"), Ok(b"ab".to_vec()));
    assert_eq!(x("'\\101\\x42\\q'"), Ok(b"ABq".to_vec()));
    assert_eq!(x("'$y'"), Ok(b"$y".to_vec()));
    for bad in [
        "é",
        "/x#y",
        "/usr//local",
        "/x/*",
        "",
        "'a' 'b'",
        "\"$y\"",
        "${y}",
    ] {
        assert!(one(bad).is_err(), "{bad}");
    }
    assert!(read(b"my jail { x; }").is_err());
    assert!(read(b"j { x }").is_err());
}

proptest! {
    #[test]
    fn any_string_comes_back(bytes in prop::collection::vec(1u8..=255, 0..64)) {
        let mut block = Block::new(&JailName::parse("j").expect("a name"));
        block.text("x", "it", OsStr::from_bytes(&bytes)).expect("no NUL");
        block.flag("after");
        let blocks = read(&block.close()).expect("it can be read");
        prop_assert_eq!(&blocks[0].parameters[0], &(b"x".to_vec(), vec![bytes]));
        prop_assert_eq!(&blocks[0].parameters[1], &(b"after".to_vec(), vec![]));
    }

    #[test]
    fn any_path_comes_back_from_fstab(
        source in prop::collection::vec(1u8..=255, 1..64),
        target in prop::collection::vec(1u8..=255, 1..64),
    ) {
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let line = nullfs_line(&path(&source), &path(&target), "ro").expect("no NUL");
        let read = read_fstab(&line);
        let words = [source, target, b"nullfs".to_vec(), b"ro".to_vec()];
        prop_assert_eq!(read, [words.to_vec()]);
    }
}
