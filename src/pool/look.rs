//! Reads properties by a channel program instead of a process: see [`Zfs::look`](crate::ports::Zfs::look).

use std::collections::BTreeMap;

use ezz_zfs::look::{From, Looked};

use super::{MOUNTED, SystemZfs, mounts};
use crate::model::property;
use crate::ports::{PortError, PropertyValue, Query, Row, Source};

/// The largest number of datasets that one program looks at. Its arguments stay in the history of the pool.
const MOST: usize = 64;

/// The native properties that are read when all are requested, besides all properties of ezz.
const OF_ALL: [&str; 5] = [
    "available",
    "mountpoint",
    "readonly",
    "type",
    property::DELEGATED,
];

impl SystemZfs {
    /// Returns the rows of a look; none if they must be read by zfs(8), which also reports what is wrong with a pool.
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
            // The type of a row, and the path where it should be mounted.
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

/// Returns the rows that have one of these types.
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
