//! Looking by a program instead of a process: see [`Zfs::look`](crate::ports::Zfs::look).

use std::collections::BTreeMap;

use ezz_zfs::look::{From, Looked};

use super::{MOUNTED, Pool, mounts};
use crate::model::property;
use crate::ports::{PortError, PropertyValue, Query, Row, Source};

/// As many datasets are looked at by one program, whose arguments stay in the pool's history.
const MOST: usize = 64;

/// What of a dataset is looked at, beside all properties of ezz, if all are asked for.
const OF_ALL: [&str; 5] = [
    "available",
    "mountpoint",
    "readonly",
    "type",
    property::DELEGATED,
];

impl Pool {
    /// The rows of a look; nothing if it has to be read in the other way, which also knows the words
    /// for what is wrong with a pool.
    pub(super) fn looked(
        &self,
        query: &Query<'_>,
    ) -> Result<Option<BTreeMap<String, Row>>, PortError> {
        let library = self.library()?;
        let count = query.roots.len();
        if query.depth != Some(0) || count == 0 || count > MOST {
            return Ok(None);
        }
        let all = query.properties == ["all"];
        let mut properties = match all {
            true => OF_ALL.to_vec(),
            // What tells the type of a row, and where it should be mounted.
            false => [query.properties, &["type", "mountpoint"]].concat(),
        };
        properties.retain(|property| *property != MOUNTED);
        let pool = query.roots[0].split(['/', '@']).next().unwrap_or_default();
        let Ok(found) = library.look(pool, query.roots, &properties, all) else {
            return Ok(None);
        };
        let mut rows = rows(found, query.types);
        mounts::fill_at(&mut rows)?;
        Ok(Some(rows))
    }
}

/// The rows of what was looked at, of these types.
fn rows(found: Looked, types: &[&str]) -> BTreeMap<String, Row> {
    let of_type = |row: &BTreeMap<String, (String, From)>| {
        row.get("type")
            .is_some_and(|(found, _)| types.contains(&found.as_str()))
    };
    let property = |(name, (value, from))| {
        let source = match from {
            From::Local => Source::Local,
            From::Received => Source::Received,
            From::Elsewhere => Source::Elsewhere,
        };
        (name, PropertyValue { value, source })
    };
    found
        .into_iter()
        .filter(|(_, row)| of_type(row))
        .map(|(name, row)| (name, Row(row.into_iter().map(property).collect())))
        .collect()
}
