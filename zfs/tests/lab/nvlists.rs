//! nvlists through the real libnvpair; no kernel is involved.

use ezz_zfs::nvlist::through_libnvpair;
use ezz_zfs::{NvError, NvMap, Value};

fn map(pairs: &[(&str, Value)]) -> NvMap {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

#[test]
fn every_type_goes_both_ways() {
    let inner = map(&[
        ("flag", Value::Flag),
        ("text", Value::Str("ü\u{7f}\n".into())),
    ]);
    let all = map(&[
        ("", Value::Int(0)),
        ("flag", Value::Flag),
        ("yes", Value::Bool(true)),
        ("no", Value::Bool(false)),
        ("least", Value::Int(i64::MIN)),
        ("most", Value::UInt(u64::MAX)),
        ("text", Value::Str("x".repeat(100_000))),
        ("empty", Value::Str(String::new())),
        ("list", Value::List(inner.clone())),
        ("nothing", Value::List(NvMap::new())),
        (
            "texts",
            Value::StrArray(vec!["a".into(), String::new(), "c".into()]),
        ),
        ("ints", Value::IntArray(vec![i64::MAX, 0, i64::MIN])),
        ("lists", Value::ListArray(vec![inner, NvMap::new()])),
        ("no texts", Value::StrArray(vec![])),
        ("no ints", Value::IntArray(vec![])),
    ]);
    assert_eq!(through_libnvpair(&all).unwrap(), Ok(all));
}

#[test]
fn many_names_and_deep_lists() {
    let many: NvMap = (0..10_000)
        .map(|n| (format!("name{n}"), Value::Int(n)))
        .collect();
    assert_eq!(through_libnvpair(&many).unwrap(), Ok(many));
    let deep = (0..50).fold(Value::Int(1), |inner, _| Value::List(map(&[("x", inner)])));
    let deep = map(&[("deep", deep)]);
    assert_eq!(through_libnvpair(&deep).unwrap(), Ok(deep));
}

#[test]
fn a_nul_is_refused_wherever_it_is() {
    let refused = |value| through_libnvpair(&map(&[("key", value)])).unwrap();
    let nul = Err(NvError::Nul { key: "key".into() });
    assert_eq!(refused(Value::Str("a\0".into())), nul);
    assert_eq!(refused(Value::StrArray(vec!["a".into(), "\0".into()])), nul);
    assert_eq!(
        refused(Value::List(map(&[("key", Value::Str("\0".into()))]))),
        nul
    );
    let name = through_libnvpair(&map(&[("a\0", Value::Flag)])).unwrap();
    assert!(matches!(name, Err(NvError::Nul { .. })), "{name:?}");
}
