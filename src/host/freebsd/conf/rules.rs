//! The rules of jail.conf(5), jail(8), mount_nullfs(8) and rc.d/jail for the content of a jail's files, with one test
//! each. The tests of the rules for the programs that are run are in `tests/ground/rules.rs`. tests/README.md has a
//! table of all rules.

use std::path::Path;

use proptest::prelude::*;

use super::reader::{read, read_fstab};
use super::*;
use crate::host::freebsd::argv;
use crate::host::freebsd::testing::spec;
use crate::model::{Limits, Params};

fn files(spec: &JailSpec) -> Files {
    let names = Names {
        fstab: Path::new("/etc/jail.conf.d/web.fstab"),
        console_log: Path::new("/var/log/ezz/web.log"),
    };
    render(spec, names).expect("it can be written")
}

/// Returns a jail that has every possible setting.
fn full() -> JailSpec {
    let mut spec = spec("web");
    spec.config.network = Network::Vnet;
    spec.config.addresses = ["bridge0|10.0.0.2/24", "bridge1|fd00::2/64"]
        .map(|address| address.parse().expect("an address"))
        .to_vec();
    spec.config.limits = Limits {
        memory: Some(512 << 20),
        cpus: Some("1.5".parse().expect("a number")),
        processes: Some(100),
        ..Limits::default()
    };
    spec.config.params = params(&[
        "allow.raw_sockets",
        "allow.mount.nozfs",
        "children.max=5",
        "devfs_ruleset=61",
        "exec.prestart=/bin/echo one; two",
        "exec.poststop=/usr/bin/rctl -r jail:other",
        "exec.poststop=/sbin/ifconfig ez0 destroy",
        "mount.nodevfs",
        "mount=/a\\040b /usr/jails/web/mnt nullfs rw",
        "securelevel=2",
    ]);
    spec
}

fn params(texts: &[&str]) -> Params {
    let all = texts.iter().map(|text| text.parse().expect("valid"));
    Params::new(all.collect::<Vec<_>>()).expect("valid")
}

fn conf(spec: &JailSpec) -> String {
    String::from_utf8(files(spec).conf).expect("text")
}

fn parameters(spec: &JailSpec) -> Vec<(String, Vec<String>)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let mut blocks = read(conf(spec).as_bytes()).expect("jail(8) can read it");
    let list = |values: Vec<Vec<u8>>| values.into_iter().map(text).collect();
    let all = blocks.remove(0).parameters.into_iter();
    all.map(|(name, values)| (text(name), list(values)))
        .collect()
}

/// jaillex.l: an unquoted word ends where a comment begins, even in its middle: `//`, `#`, `/*`.
#[test]
fn what_may_have_a_slash_or_a_blank_is_in_quotes() {
    for spec in [spec("web"), full()] {
        let text = conf(&spec);
        // The first line is ezz's own comment.
        for line in text.lines().skip(1) {
            let mut quoted = false;
            let mut escaped = false;
            for byte in line.bytes() {
                let plain = byte.is_ascii_alphanumeric() || b"_.- ={};,'".contains(&byte);
                assert!(quoted || plain, "{:?} in {line}", byte as char);
                quoted ^= byte == b'\'' && !escaped;
                escaped = byte == b'\\' && !escaped;
            }
            assert!(!quoted, "{line}");
        }
    }
}

/// jailparse.y: two strings with only blanks between them are a syntax error; commas make a list.
#[test]
fn lists_have_commas() {
    let mut block = Block::new(&JailName::parse("web").expect("a name"));
    let values = ["a", "", "b, c", "'"].map(str::to_owned);
    block.list("x", "it", &values).expect("no NUL");
    let blocks = read(&block.close()).expect("it can be read");
    let expected = values.map(String::into_bytes).to_vec();
    assert_eq!(blocks[0].parameters, [(b"x".to_vec(), expected)]);
}

/// jailparse.y: `x = ;` is an error, and the last `;` before `}` is not optional.
#[test]
fn an_empty_value_is_two_quotes_and_each_line_ends() {
    let mut spec = spec("web");
    spec.config.hostname = String::new();
    let text = conf(&spec);
    assert!(text.contains("host.hostname = '';"), "{text}");
    for line in text.lines().filter(|line| line.starts_with(' ')) {
        assert!(line.ends_with(';'), "{line}");
    }
}

/// jaillex.l: `$` begins a variable outside of quotes and in double quotes. An unknown variable marks the jail as
/// failed, and then `jail -r` does nothing. rc.d/jail parses each file alone, so variables of other files do not exist.
#[test]
fn there_are_no_variables_no_double_quotes_and_no_includes() {
    let text = conf(&full());
    let mut quoted = false;
    for byte in text.bytes().skip_while(|byte| *byte != b'\n') {
        quoted ^= byte == b'\'';
        assert!(quoted || !b"$\"".contains(&byte), "{text}");
    }
    assert!(!text.contains(".include"));
    assert_eq!(read(text.as_bytes()).map(|blocks| blocks.len()), Ok(1));
}

/// config.c (equalopts): `allow.mount` and `allow.nomount` are one parameter, and so are two lines of one parameter.
/// The last one counts.
#[test]
fn each_parameter_is_there_once() {
    for spec in [spec("web"), full()] {
        let mut seen = std::collections::BTreeSet::new();
        for (name, _) in parameters(&spec) {
            let (node, last) = name.rsplit_once('.').unwrap_or(("", &name));
            let known = seen.contains(&name) || seen.contains(&format!("{node}.no{last}"));
            let positive = last.strip_prefix("no").map(|last| format!("{node}.{last}"));
            let contrary = positive.is_some_and(|name| seen.contains(name.trim_start_matches('.')));
            assert!(!known && !contrary, "{name} occurs twice");
            seen.insert(name);
        }
    }
}

/// jailparse.y and jail.8: a block whose name has only digits sets the jid; a dot makes a child; `*` is a wildcard; on
/// the command line `a=b` is a parameter and `-x` an option. rc.d/jail asks for `a_b` when it is given `a.b`, and uses
/// one variable for `a-b` and `a_b`. The kernel allows 255 bytes.
#[test]
fn no_name_of_a_jail_is_taken_for_something_else() {
    for bad in [
        "1", "007", "a.b", "a_b", "*", "a*", "x=y", "-c", "a b", "a/b", "a{", "é", "",
    ] {
        assert!(JailName::parse(bad).is_err(), "{bad}");
    }
    assert!(JailName::parse(&"a".repeat(256)).is_err());
}

proptest! {
    #[test]
    fn every_name_of_a_jail_is_one_token(text in "[a-z][a-z0-9-]{0,61}[a-z0-9]") {
        let name = JailName::parse(&text).expect("a name");
        let blocks = read(&Block::new(&name).close()).expect("it can be read");
        prop_assert_eq!(&blocks[0].name, text.as_bytes());
    }
}

/// kern_jail.c: a name may have 255 bytes, and its last part must not be a number.
#[test]
fn the_jail_of_a_stage_has_a_name_that_the_kernel_takes() {
    let site = "0f0e0d0c-0b0a-0908-0706-050403020100";
    let words = argv::create_stage(&format!("ezz_{site}_4294967295"), Path::new("/x"));
    let name = words
        .iter()
        .find_map(|word| word.to_str()?.strip_prefix("name="));
    let name = name.expect("it has one");
    assert!(name.len() <= 255 && !name.contains('.'), "{name}");
    assert!(
        name.starts_with(|c: char| c.is_ascii_alphabetic()),
        "{name}"
    );
}

/// config.c, command.c: the path of a mount is compared with the path of the jail as text. It is absolute, and does not
/// end with a slash.
#[test]
fn what_is_mounted_in_a_jail_is_below_its_path_as_text() {
    let spec = spec("web");
    let root = spec.root.display().to_string();
    assert!(root.starts_with('/') && !root.ends_with('/'));
    let fstab = files(&spec).fstab;
    for words in read_fstab(&fstab.expect("thin")) {
        assert!(words[1].starts_with(format!("{root}/").as_bytes()));
    }
}

/// jail.8: without `ip4` and `ip6`, the network of a jail depends on the kernel and on its addresses. With a vnet,
/// neither may be given.
#[test]
fn an_address_has_its_interface_only_where_jail_is_to_add_it() {
    let mut spec = spec("web");
    spec.config.addresses = vec!["em0|192.0.2.7/24".parse().expect("an address")];
    let of = |spec: &JailSpec, name: &str| parameters(spec).into_iter().find(|(it, _)| it == name);
    let (_, values) = of(&spec, "ip4.addr").expect("it is there");
    assert_eq!(values, ["em0|192.0.2.7/24"]);
    // Without an interface, jail(8) would not understand the prefix, and the kernel would refuse it.
    spec.config.addresses = vec!["192.0.2.7/24".parse().expect("an address")];
    let (_, values) = of(&spec, "ip4.addr").expect("it is there");
    assert_eq!(values, ["192.0.2.7"]);
    spec.config.network = Network::Vnet;
    spec.config.addresses.clear();
    assert!(of(&spec, "ip4").is_none() && of(&spec, "ip6").is_none());
}

/// jail.8: `exec.consolelog` is opened as root and appended to. Outside of the jail, jail(8) does not check for links.
#[test]
fn the_console_log_is_not_in_the_jail() {
    let spec = spec("web");
    let log = parameters(&spec)
        .into_iter()
        .find(|(name, _)| name == "exec.consolelog");
    let (_, values) = log.expect("it is there");
    assert!(!Path::new(&values[0]).starts_with(&spec.root));
}

/// jail.8: JID, JNAME and JPATH were added to the environment of commands after 14.0, and `exec.clean` removes all of
/// it.
#[test]
fn no_command_needs_the_environment_of_a_later_release() {
    let text = conf(&full());
    assert!(
        !["JID", "JNAME", "JPATH"]
            .iter()
            .any(|name| text.contains(name)),
        "{text}"
    );
}

/// jail.8: a jail ceases to exist when its processes have ended, unless it has `persist`.
#[test]
fn a_jail_persists() {
    assert!(parameters(&spec("web")).contains(&("persist".to_owned(), Vec::new())));
}

/// command.c: the first four fields are read, and the fifth and the sixth are not; the fourth is `-o`. mount_nullfs(8):
/// what jails share must not be writable, and a mount cannot be made read-only later.
#[test]
fn a_base_is_always_mounted_read_only() {
    for name in ["web", "a-b"] {
        let fstab = files(&spec(name)).fstab;
        let lines = read_fstab(&fstab.expect("thin"));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0][2..], [b"nullfs".to_vec(), b"ro".to_vec()]);
    }
}

/// mount_nullfs.c: a mount is refused if its source lies in its target, or the other way round. The directory of a base
/// is beside those of all jails, because no jail can have its name.
#[test]
fn a_base_is_never_inside_its_jail() {
    for reserved in ["basejail", "newjail", "flavours", "archive"] {
        assert!(JailName::parse(reserved).is_err(), "{reserved}");
    }
    let base = spec("web").base.expect("thin");
    let root = spec("web").root;
    assert!(!base.path.starts_with(&root) && !root.starts_with(&base.path));
}

/// rc.d/jail and `.include "/etc/jail.conf.d/*.conf"`: only the block of a jail may have a name that matches.
#[test]
fn only_the_conf_is_found_by_the_glob_of_an_include() {
    let parameters = parameters(&spec("web"));
    let fstab = parameters.iter().find(|(name, _)| name == "mount.fstab");
    let (_, values) = fstab.expect("thin");
    assert!(!values[0].ends_with(".conf"));
}

/// command.c (next_command): no exec.poststop is run after a start that failed. So ezz undoes what its own commands
/// did, but does not run the commands that the user wants at a stop.
#[test]
fn only_what_ezz_did_for_this_jail_is_undone() {
    let spec = full();
    let undone = undone(&conf(&spec), &spec.site_id, &spec.name);
    assert_eq!(undone.len(), 3, "{undone:?}");
    assert!(
        undone[..2]
            .iter()
            .all(|it| it.starts_with("/sbin/ifconfig ez") && it.ends_with("a destroy"))
    );
    assert!(!undone.contains(&"/sbin/ifconfig ez0 destroy".to_owned()));
    assert_eq!(undone[2], "/usr/bin/rctl -r jail:web");
    let all = own(&spec.site_id, &spec.name);
    assert!(undone.iter().all(|command| all.contains(command)));
    // Quotes in a command of the user cannot smuggle in another one.
    let mut hostile = spec.clone();
    hostile.config.limits = Limits::default();
    hostile.config.params = params(&["exec.poststop=x '/usr/bin/rctl -r jail:other' y"]);
    assert_eq!(
        super::undone(&conf(&hostile), &hostile.site_id, &hostile.name).len(),
        2
    );
}
