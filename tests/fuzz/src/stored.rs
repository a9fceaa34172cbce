//! What `ezz:*` properties hold: reading never panics, what is read and written again says the
//! same, what an older ezz does not know is kept, and nothing unfit for a property gets through.

use std::fmt::Debug;

use ezz::model::{Address, Intent, JailConfig, MAX_VALUE, Seal, Track, World, decode, encode};
use ezz::name::DatasetName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A text as every stored value.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let jail = [
        "kind",
        "base",
        "skel",
        "hostname",
        "addresses",
        "network",
        "todo",
    ];
    value::<JailConfig>(text, &jail);
    value::<Track>(text, &["current", "previous"]);
    value::<World>(
        text,
        &["label", "profile", "os", "arch", "source", "parent"],
    );
    value::<Seal>(text, &["manifest", "at"]);
    value::<Intent>(text, &["kind", "skel", "jails"]);
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
    // Escapes may become longer, and a C1 control character is not escaped: such a value is
    // refused when it is to be written.
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
                known.contains(&key.as_str()) && (was.is_null() || *was == Value::Array(vec![])),
                "{key} is lost"
            ),
        }
    }
}

fn fits(text: &str) {
    assert!(text.len() <= MAX_VALUE, "{} bytes", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
