//! The jail that others are to be clones of. The clones themselves are made like all new jails:
//! of a snapshot that the same program makes, and that goes with the last of them.

use crate::model::{CLONE_SNAPSHOT, Inventory, Jail, JailConfig, Todo};
use crate::name::JailName;
use crate::plan::{PlanError, lookup};

/// The configuration that clones of a jail have: its own, but for the identity.
///
/// # Errors
/// [`PlanError`]: no such jail, one that is not finished, being merged or no jail of ezz's; a clone of
/// itself.
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
        // Of none that did not name it.
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
