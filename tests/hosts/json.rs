//! Compares the output of `ezz --json` with `docs/json.md`: every object that any test reads is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::Value;

const PAGE: &str = include_str!("../../docs/json.md");

/// Returns the keys of each kind, as the page lists them.
fn documented() -> &'static BTreeMap<&'static str, BTreeSet<&'static str>> {
    static KINDS: OnceLock<BTreeMap<&'static str, BTreeSet<&'static str>>> = OnceLock::new();
    KINDS.get_or_init(|| {
        let mut kinds = BTreeMap::new();
        for section in PAGE.split("\n### ").skip(1) {
            let kind = section.lines().next().expect("a heading").trim_matches('`');
            let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
            let keys = rows.filter_map(|row| row.split('`').next());
            kinds.insert(kind, keys.collect());
        }
        kinds
    })
}

/// Returns the documented keys of a kind.
///
/// # Panics If `docs/json.md` does not have the kind.
#[track_caller]
#[allow(dead_code, reason = "only the lab asks")]
pub fn keys(kind: &str) -> &'static BTreeSet<&'static str> {
    let found = documented().get(kind);
    found.unwrap_or_else(|| panic!("docs/json.md has no kind {kind}"))
}

/// Reads JSON lines of ezz.
///
/// # Panics If a line is no object, or has a kind or a key that `docs/json.md` does not have.
#[track_caller]
pub fn lines(text: &str) -> Vec<Value> {
    let read = |line| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let objects: Vec<Value> = text.lines().map(read).collect();
    for object in &objects {
        assert_eq!(object["schema"], 1, "{object}");
        let kind = object["kind"].as_str().expect("a kind");
        let keys = keys(kind);
        let all = object.as_object().expect("an object").keys();
        let unknown = all
            .filter(|key| !["kind", "schema", "changed"].contains(&key.as_str()))
            .find(|key| !keys.contains(key.as_str()));
        assert_eq!(unknown, None, "docs/json.md, {kind}: {object}");
    }
    objects
}
