//! Checks the datasets that jails are to administer themselves.

use crate::model::Inventory;
use crate::name::{DatasetName, JailName};
use crate::plan::PlanError;

/// Refuses a dataset that contains the site or a part of it, or is one, and a dataset that overlaps with one of another
/// jail. `takers` are jails that the same plan creates or configures.
///
/// # Errors
/// [`PlanError::SiteDataset`], [`PlanError::DatasetTaken`].
pub(super) fn may_have<'a>(
    inventory: &Inventory,
    name: Option<&JailName>,
    dataset: &DatasetName,
    takers: impl Fn(&JailName) -> Option<&'a [DatasetName]>,
) -> Result<(), PlanError> {
    beside(&inventory.site.layout.site, dataset)?;
    for (owner, jail) in inventory.jails.iter().filter(|(it, _)| Some(*it) != name) {
        let config = jail.config.as_ref();
        let theirs = takers(owner).or(config.ok().map(|config| config.datasets.as_slice()));
        if theirs.is_some_and(|list| list.iter().any(|it| overlap(it, dataset))) {
            return Err(PlanError::DatasetTaken {
                dataset: dataset.clone(),
                owner: owner.clone(),
            });
        }
    }
    Ok(())
}

/// Refuses a dataset that is a part of the site, or contains it.
///
/// # Errors
/// [`PlanError::SiteDataset`].
pub fn beside(site: &DatasetName, dataset: &DatasetName) -> Result<(), PlanError> {
    if !overlap(site, dataset) {
        return Ok(());
    }
    Err(PlanError::SiteDataset {
        dataset: dataset.clone(),
        site: site.clone(),
    })
}

/// Whether the two are the same dataset, or one contains the other.
pub(super) fn overlap(one: &DatasetName, other: &DatasetName) -> bool {
    one.contains(other) || other.contains(one)
}
