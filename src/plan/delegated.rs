//! Datasets that jails are to administer themselves: which they may not be.

use crate::model::Inventory;
use crate::name::{DatasetName, JailName};
use crate::plan::PlanError;

/// Refuses a dataset that has a part of the site in it, or is one, and one that another jail has or has a
/// part of. `takers` are jails that are made or configured by the same plan.
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

/// Refuses a dataset that is a part of the site, or has it below itself.
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

/// Whether one is the other or lies below it.
pub(super) fn overlap(one: &DatasetName, other: &DatasetName) -> bool {
    one.contains(other) || other.contains(one)
}
