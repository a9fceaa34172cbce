//! The jail that other jails are cloned from. The clones are created like all new jails: from a snapshot that the same
//! program creates, and that is destroyed with the last of them.

use crate::model::{CLONE_SNAPSHOT, Inventory, Jail, JailConfig, Todo};
use crate::name::JailName;
use crate::plan::{PlanError, lookup};

/// Returns the configuration for clones of a jail: that of the jail, without its identity.
///
/// # Errors
/// [`PlanError`]: the jail does not exist, is not finished, is being merged or is not one of ezz's; a jail would be a
/// clone of itself.
pub(super) fn template(
    inventory: &Inventory,
    source: &JailName,
    names: &[JailName],
) -> Result<JailConfig, PlanError> {
    let jail = lookup::jail(inventory, source)?;
    let config = lookup::config(inventory, source)?;
    if names.contains(source) {
        return Err(PlanError::JailExists(source.clone()));
    }
    if !config.todo.is_empty() {
        return Err(PlanError::Interrupted(source.clone()));
    }
    if jail.merging.is_some() {
        return Err(PlanError::Merging(source.clone()));
    }
    Ok(JailConfig {
        hostname: String::new(),
        addresses: Vec::new(),
        datasets: Vec::new(),
        todo: vec![Todo::Identity],
        // A clone belongs only to a fleet whose file names it.
        fleet: None,
        ..config.clone()
    })
}

/// Whether a jail is a clone of another.
pub(super) fn is_of(inventory: &Inventory, jail: &Jail, source: &JailName) -> bool {
    let Some(source) = inventory.jails.get(source) else {
        return false;
    };
    let snapshot = format!("{}@{CLONE_SNAPSHOT}", source.dataset);
    let origin = jail.origin.as_deref();
    origin.is_some_and(|origin| origin.starts_with(&snapshot))
}
