//! Checks whether datasets that jails are to administer exist, and are marked for it. ezz only reports: the mark
//! excludes a dataset from the host's own mounts, so its owner must set it.

use std::collections::BTreeMap;

use super::CliError;
use crate::model::Lack;
use crate::name::DatasetName;
use crate::plan::delegated::beside;
use crate::ports::{HostError, Query};
use crate::session::Session;

/// Refuses datasets that cannot belong to a jail.
///
/// # Errors
/// [`HostError::Missing`]: the host gives jails no datasets, or one does not exist or is not marked;
/// [`CliError::Plan`]: one is part of the site; [`CliError`] if the pool cannot be read.
pub(super) fn check<'a>(
    session: &Session,
    datasets: impl IntoIterator<Item = &'a DatasetName>,
) -> Result<(), CliError> {
    let datasets: Vec<&DatasetName> = datasets.into_iter().collect();
    if !datasets.is_empty() {
        session.host.delegation_property()?;
    }
    // This comes first, so that no hint says to mark a dataset of the site.
    for dataset in &datasets {
        beside(&session.site, dataset)?;
    }
    match lacking(session, &datasets)?.into_iter().next() {
        None => Ok(()),
        Some((_, Lack { what, hint })) => Err(HostError::Missing { what, hint }.into()),
    }
}

/// Returns the datasets that do not exist or are not marked, with what to do about each.
///
/// # Errors
/// [`HostError::Missing`]: the host gives jails no datasets; [`CliError`] if the pool cannot be read.
pub(super) fn lacking(
    session: &Session,
    datasets: &[&DatasetName],
) -> Result<BTreeMap<DatasetName, Lack>, CliError> {
    if datasets.is_empty() {
        return Ok(BTreeMap::new());
    }
    let property = session.host.delegation_property()?;
    let roots: Vec<String> = datasets.iter().map(ToString::to_string).collect();
    let rows = session.zfs.read(&Query {
        roots: &roots,
        depth: Some(0),
        types: &["filesystem", "volume"],
        properties: &[property],
    })?;
    let lack = |dataset: &DatasetName| {
        let value = rows.get(dataset.as_str()).map(|row| row.0.get(property));
        let (what, hint) = match value.map(|found| found.map(|found| found.value.as_str())) {
            Some(Some("on")) => return None,
            Some(_) => (
                format!("the mark of {dataset} as a jail's: its {property} is not on"),
                format!("`zfs set {property}=on {dataset}`; the host does not mount it then"),
            ),
            None => (
                format!("the dataset {dataset}"),
                format!("`zfs create -o {property}=on {dataset}`"),
            ),
        };
        Some((dataset.clone(), Lack { what, hint }))
    };
    Ok(datasets.iter().filter_map(|it| lack(it)).collect())
}
