//! Reads properties by a channel program: this needs no process, and all values are of the same moment. The kernel
//! writes the program to the pool's history, so only commands that change the pool anyway use it.

use std::collections::BTreeMap;

use crate::channel::Limits;
use crate::core::Zfs;
use crate::error::ProgramError;
use crate::nvlist::{NvMap, Value};
use crate::strip::strip;

const LOOK: &str = include_str!("../programs/look.lua");

/// The source that the kernel reports for a received property (`ZPROP_SOURCE_VAL_RECVD`).
const RECEIVED: &str = "$recvd";

/// The source of a property's value, as far as ezz distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The property is set on this dataset.
    Local,
    /// The property was received.
    Received,
    /// Inherited, a default, or computed.
    Elsewhere,
}

/// The properties of each dataset: the values as in `zfs get -p`, and their sources. A property that is not set, or
/// does not apply to the dataset, is absent.
pub type Looked = BTreeMap<String, BTreeMap<String, (String, From)>>;

impl Zfs {
    /// Reads properties of datasets and snapshots of one pool, and with `own` all properties of ezz. Datasets that do
    /// not exist are absent. `mountpoint` includes the pool's altroot, as in zfs-get(8) (`dsl_get_mountpoint`). The
    /// kernel does not report `mounted` (zcp_get.c).
    ///
    /// # Errors
    /// See [`ProgramError`]; it also fails on a read-only pool, and for users other than root.
    pub fn look(
        &self,
        pool: &str,
        datasets: &[String],
        properties: &[&str],
        own: bool,
    ) -> Result<Looked, ProgramError> {
        let properties = properties.iter().map(|&name| name.to_owned()).collect();
        let args = NvMap::from([
            ("ds".to_owned(), Value::StrArray(datasets.to_vec())),
            ("p".to_owned(), Value::StrArray(properties)),
            ("own".to_owned(), Value::Bool(own)),
        ]);
        let reply =
            self.run_program("look", pool, &strip(LOOK), &args, Limits::default(), false)?;
        read(&reply).ok_or_else(|| ProgramError::Reply {
            program: "look".to_owned(),
            reply: format!("{reply:?}"),
        })
    }
}

fn read(reply: &NvMap) -> Option<Looked> {
    let one = |(name, found): (&String, &Value)| {
        let found = found.as_list()?;
        let (values, sources) = (found.get("v")?.as_list()?, found.get("s")?.as_list()?);
        let properties = values.iter().map(|(property, value)| {
            let source = match sources.get(property).and_then(Value::as_str) {
                Some(source) if source == name => From::Local,
                Some(RECEIVED) => From::Received,
                Some(_) | None => From::Elsewhere,
            };
            Some((property.clone(), (text(value)?, source)))
        });
        Some((name.clone(), properties.collect::<Option<_>>()?))
    };
    reply.get("return")?.as_list()?.iter().map(one).collect()
}

/// Lua has only signed numbers, so a guid may be negative there.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.clone()),
        Value::Int(number) => Some(u64::from_ne_bytes(number.to_ne_bytes()).to_string()),
        Value::UInt(number) => Some(number.to_string()),
        Value::Bool(_)
        | Value::Flag
        | Value::List(_)
        | Value::StrArray(_)
        | Value::IntArray(_)
        | Value::ListArray(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(pairs: &[(&str, Value)]) -> Value {
        let pairs = pairs.iter().cloned();
        Value::List(
            pairs
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    #[test]
    fn a_reply_has_values_and_where_they_are_from() {
        let str = |text: &str| Value::Str(text.to_owned());
        let values = list(&[
            ("ezz:id", str("x")),
            ("ezz:old", str("y")),
            ("ezz:up", str("z")),
            ("guid", Value::Int(-1)),
        ]);
        let sources = list(&[
            ("ezz:id", str("t/a")),
            ("ezz:old", str("$recvd")),
            ("ezz:up", str("t")),
        ]);
        let row = list(&[("v", values), ("s", sources)]);
        let reply = NvMap::from([("return".to_owned(), list(&[("t/a", row)]))]);
        let found = read(&reply).expect("well-formed");
        let row = &found["t/a"];
        assert_eq!(row["ezz:id"], ("x".to_owned(), From::Local));
        assert_eq!(row["ezz:old"], ("y".to_owned(), From::Received));
        assert_eq!(row["ezz:up"], ("z".to_owned(), From::Elsewhere));
        assert_eq!(row["guid"], (u64::MAX.to_string(), From::Elsewhere));
        assert_eq!(read(&NvMap::from([("return".to_owned(), str("no"))])), None);
    }
}
