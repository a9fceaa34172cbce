//! Parses the output and the errors of `zfs get`. This module must not start it, or interpret a row.

use std::collections::{BTreeMap, BTreeSet};

use crate::ports::{PropertyValue, Row, Source};

/// Reports whether all errors of `zfs get` are about roots that do not exist. Every line must name one of them in the
/// words of libzfs; any other line stays an error.
pub fn only_missing(stderr: &str, roots: &[String]) -> bool {
    let roots: BTreeSet<&str> = roots.iter().map(String::as_str).collect();
    let known = |line: &str| {
        line.strip_prefix("cannot open '")
            .and_then(|rest| rest.strip_suffix("': dataset does not exist"))
            .is_some_and(|root| roots.contains(root))
    };
    !stderr.trim().is_empty() && stderr.lines().all(known)
}

/// Parses the output of `zfs get`: for each dataset, the requested properties in the requested order. A value with a
/// line break could look like a row of another dataset. But the rest of the real row then does not fit, as long as the
/// last property is a native one. `all` has no such order, and is only for datasets whose properties no jail can write.
///
/// # Errors
/// Returns a line that `zfs get` does not print, with the reason.
pub fn parse_get(text: &str, wanted: &[&str]) -> Result<BTreeMap<String, Row>, String> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let ordered = wanted != ["all"];
    let mut at = (0, "");
    for line in text.lines() {
        let mut columns = line.splitn(4, '\t');
        let (Some(name), Some(property), Some(value), Some(source)) = (
            columns.next(),
            columns.next(),
            columns.next(),
            columns.next(),
        ) else {
            return Err(format!("a line of zfs get has no four columns: {line:?}"));
        };
        if ordered {
            let (index, of) = at;
            let again = index == 0 && rows.contains_key(name);
            if wanted[index] != property || again || index > 0 && of != name {
                return Err(format!(
                    "a property of {of} or {name} has a line break in its value: {line:?}"
                ));
            }
            at = ((index + 1) % wanted.len(), name);
        }
        let source = match source {
            "local" => Source::Local,
            "received" => Source::Received,
            _ => Source::Elsewhere,
        };
        rows.entry(name.to_owned()).or_default().0.insert(
            property.to_owned(),
            PropertyValue {
                value: value.to_owned(),
                source,
            },
        );
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_value_and_source() {
        let text = "tank/ezz\tezz:id\tabc\tlocal\ntank/ezz\tatime\toff\tinherited from tank\n\
                    tank/ezz\tezz:x\ta b\treceived\n";
        let rows = parse_get(text, &["all"]).expect("well-formed");
        let row = &rows["tank/ezz"].0;
        assert_eq!(row["ezz:id"].source, Source::Local);
        assert_eq!(row["atime"].source, Source::Elsewhere);
        assert_eq!(
            row["ezz:x"],
            PropertyValue {
                value: "a b".into(),
                source: Source::Received
            }
        );
        assert!(parse_get("tank\tx\n", &["all"]).is_err());
    }

    #[test]
    fn a_value_with_a_line_break_makes_no_row_of_another() {
        let wanted = ["ezz:jail", "quota", "type"];
        let block = |name: &str, config: &str| {
            format!(
                "{name}\tezz:jail\t{config}\tlocal\n{name}\tquota\t0\tdefault\n{name}\ttype\tfilesystem\t-\n"
            )
        };
        let plain = block("t/a", "{}") + &block("t/b", "-");
        assert_eq!(parse_get(&plain, &wanted).expect("well-formed").len(), 2);
        for forged in [
            "x\tlocal\nt/b\tezz:jail\t{}",
            "x\tlocal\nt/a\tquota\t0\tdefault\nt/a\ttype\tfilesystem\t-\nt/b\tezz:jail\t{}",
            "x\tlocal\nt/a\tquota\t0\tdefault\nt/a\ttype\tfilesystem\t-\nt/b\tezz:jail\t{}\tlocal\nt/b\tquota\t9\t-\nt/b\ttype\tfilesystem",
            "x\nt/b",
            "x\tlocal\nt/a\tezz:jail\t{}",
            // It forges all rows of the dataset itself, a second time.
            "x\tlocal\nt/a\tquota\t0\tdefault\nt/a\ttype\tfilesystem\t-\nt/a\tezz:jail\t{}",
        ] {
            let text = block("t/a", forged) + &block("t/b", "-");
            assert!(parse_get(&text, &wanted).is_err(), "{forged:?}");
        }
    }

    #[test]
    fn only_the_expected_names_may_be_missing() {
        let roots = ["tank/ezz/jails/a".to_owned()];
        assert!(only_missing(
            "cannot open 'tank/ezz/jails/a': dataset does not exist\n",
            &roots
        ));
        for other in [
            "",
            "cannot open 'tank/other': dataset does not exist\n",
            "cannot open 'tank/ezz/jails/a': pool I/O is currently suspended\n",
            "cannot open 'tank/ezz/jails/a': dataset does not exist\ninternal error\n",
        ] {
            assert!(!only_missing(other, &roots), "{other:?}");
        }
    }
}
