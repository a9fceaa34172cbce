//! What `doctor` and `list` read from a pool and a host: whatever others have written there, no row is forged, and the
//! output has no control characters.

use std::collections::BTreeMap;

use ezz::host::freebsd::jls;
use ezz::lock::Holder;
use ezz::pool::rows::{only_missing, parse_get};
use ezz::ports::Source;

/// Checks data whose first byte selects the kind of the rest.
pub fn check(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match kind {
        b'r' => rows(rest),
        b'j' => jails(rest),
        b'h' => holder(rest),
        _ => any(rest),
    }
}

/// Checks rows as `zfs get -Hp` prints them, built from values that end with 0xff. A value of one dataset never becomes
/// a value of another, and is never cut.
fn rows(data: &[u8]) {
    const WANTED: [&str; 3] = ["ezz:jail", "quota", "type"];
    let mut text = String::new();
    let mut given = BTreeMap::new();
    for (number, value) in data.split(|byte| *byte == 0xff).enumerate() {
        // A property contains no NUL.
        let value = String::from_utf8_lossy(value).replace('\0', "");
        let name = format!("t/{number}");
        text += &format!("{name}\tezz:jail\t{value}\tlocal\n");
        text += &format!("{name}\tquota\t0\tdefault\n{name}\ttype\tfilesystem\t-\n");
        given.insert(name, value);
    }
    let Ok(read) = parse_get(&text, &WANTED) else {
        return;
    };
    for (name, row) in &read {
        let of = given
            .get(name)
            .unwrap_or_else(|| panic!("{name} is forged"));
        let value = &row.0["ezz:jail"];
        assert!(
            value.source != Source::Local || value.value == *of,
            "{name} is cut"
        );
        assert_eq!(row.0["type"].value, "filesystem");
    }
    assert_eq!(read.len(), given.len(), "a dataset is missing");
}

/// Checks the output of jls(8).
fn jails(data: &[u8]) {
    let Ok(seen) = jls::parse(data) else {
        return;
    };
    let text = String::from_utf8_lossy(data);
    assert!(seen.len() <= text.matches('{').count());
}

/// Checks a line of a lock file.
fn holder(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some((holder, _)) = Holder::parse(text) {
        let shown = holder.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(shown.chars().count() < 300, "{shown:?}");
    }
}

/// Checks that no bytes make a reader panic, and that no error of zfs(8) is taken for a missing dataset unless it names
/// that dataset.
fn any(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = parse_get(&text, &["all"]);
    let roots = ["tank/ezz".to_owned()];
    if only_missing(&text, &roots) {
        for line in text.lines() {
            assert_eq!(line, "cannot open 'tank/ezz': dataset does not exist");
        }
    }
    #[cfg(target_os = "linux")]
    linux::any(&text);
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeSet;

    use ezz::host::linux::preflight::{endpoint, read};
    use ezz::host::linux::process::{in_cgroup, is_dead, real_user};
    use ezz::host::linux::state::base_of;

    pub fn any(text: &str) {
        if let Ok(Some(source)) = base_of(text) {
            assert!(text.contains("/basejail"), "{source} is mounted nowhere");
        }
        if in_cgroup(text, "/ezz/S/a") {
            assert!(text.lines().any(|line| line.starts_with("0::/ezz/S/a")));
        }
        let _ = (is_dead(text), real_user(text), endpoint(text));
        let mut all = BTreeSet::new();
        for protocol in ["tcp", "udp"] {
            read(text.as_bytes(), protocol, &|_| None, &mut all).expect("memory can be read");
        }
        assert!(all.len() <= 2 * text.lines().count());
    }
}
