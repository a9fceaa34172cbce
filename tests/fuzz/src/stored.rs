//! The values of `ezz:*` properties: reading never panics, a value that is read and written again is equal, parts that
//! an older ezz does not know are kept, and no text that is unfit for a property is written.

use std::fmt::Debug;

use ezz::model::{
    Address, AddressPool, Intent, JailConfig, Label, MAX_VALUE, Merging, Populated, Rejected,
    Rollout, Seal, Swap, Track, World, decode, encode,
};
use ezz::name::DatasetName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Checks a text as every stored value.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let jail = [
        "kind",
        "base",
        "instead",
        "skel",
        "record",
        "hostname",
        "addresses",
        "network",
        "health",
        "labels",
        "todo",
    ];
    value::<JailConfig>(text, &jail);
    value::<Track>(text, &["current", "previous"]);
    value::<World>(
        text,
        &["label", "profile", "os", "arch", "source", "parent"],
    );
    value::<Seal>(text, &["manifest", "at", "skeleton"]);
    value::<Intent>(text, &["kind", "skel", "jails"]);
    value::<Rollout>(
        text,
        &[
            "from", "to", "previous", "phase", "canaries", "batch", "pause", "health", "limit",
            "failed", "spared", "at", "by", "why",
        ],
    );
    value::<Swap>(text, &["at", "by", "from", "to", "why"]);
    value::<Merging>(text, &["from", "to"]);
    value::<Populated>(text, &["track", "parent", "by", "source"]);
    value::<Rejected>(text, &["at", "why"]);
    if let Ok(label) = text.parse::<Label>() {
        assert_eq!(label.to_string().parse::<Label>(), Ok(label));
    }
    if let Ok(pool) = text.parse::<AddressPool>() {
        assert_eq!(pool.to_string().parse::<AddressPool>(), Ok(pool.clone()));
        let all = std::collections::BTreeSet::new();
        for address in pool.free(&all).take(3) {
            assert!(pool.holds(address.ip), "{address} of {pool}");
        }
    }
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse::<Address>(), Ok(address));
    }
}

fn value<T>(text: &str, known: &[&str])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let site = DatasetName::parse("tank/ezz").expect("a name");
    let Ok(value) = decode::<T>(site.as_str(), "ezz:x", text) else {
        return;
    };
    fits(text);
    // Escapes may make it longer, and a C1 control character is not escaped: such a value is refused when it is to be
    // written.
    let Ok(written) = encode(&site, "ezz:x", &value) else {
        return;
    };
    fits(&written);
    let again: T = decode(site.as_str(), "ezz:x", &written).expect("what was written is read");
    assert_eq!(again, value);
    assert_eq!(encode(&site, "ezz:x", &again).ok(), Some(written.clone()));
    let before: Value = serde_json::from_str(text).expect("JSON");
    let after: Value = serde_json::from_str(&written).expect("JSON");
    let before = before.as_object().expect("an object");
    let after = after.as_object().expect("an object");
    for (key, was) in before {
        match after.get(key) {
            Some(is) => assert!(is == was || known.contains(&key.as_str()), "{key}: {is}"),
            None => assert!(
                known.contains(&key.as_str())
                    && (was.is_null()
                        || *was == Value::Bool(false)
                        || *was == Value::Array(vec![])
                        || *was == Value::Object(serde_json::Map::new())),
                "{key} is lost"
            ),
        }
    }
}

fn fits(text: &str) {
    assert!(text.len() <= MAX_VALUE, "{} bytes", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
