//! Jails whose own files were rolled back with zfs(8). Their configuration is a property, which a rollback does not
//! change, so it still describes a merge that the files have lost. The record in the files was rolled back with them.

use super::CliError;
use crate::model::{Jail, JailConfig, JailState};
use crate::name::{GenerationId, JailName};
use crate::plan::merge::rolled_back;
use crate::plan::{Observed, Plan, lookup, merge};
use crate::session::{Scope, Session};
use crate::world::record;

/// Returns the configuration that fits the files of a jail that were rolled back. Returns `None` if the files are what
/// they should be, and also if the jail runs or is not mounted: then its record cannot be read.
///
/// # Errors
/// [`CliError::Merge`] if the record cannot be read.
pub(super) fn look(observed: &Observed, jail: &Jail) -> Result<Option<JailConfig>, CliError> {
    let Ok(config) = &jail.config else {
        return Ok(None);
    };
    let down = matches!(observed.state(&jail.name), JailState::Stopped { .. });
    if config.record.is_none() || jail.merging.is_some() || !down || !jail.mounted {
        return Ok(None);
    }
    let found = record::read(&jail.mountpoint).map_err(|source| CliError::Merge {
        jail: jail.name.clone(),
        source,
    })?;
    Ok(rolled_back(
        &observed.inventory,
        jail,
        config,
        found.map(GenerationId),
    ))
}

/// Refuses to start a jail whose files were rolled back.
///
/// # Errors
/// [`CliError::RolledBack`].
pub(super) fn check(observed: &Observed, name: &JailName) -> Result<(), CliError> {
    let jail = lookup::jail(&observed.inventory, name)?;
    match look(observed, jail)? {
        None => Ok(()),
        Some(config) => Err(CliError::RolledBack {
            jail: name.clone(),
            files: config.skel,
        }),
    }
}

/// Sets the configuration of a jail to fit its files, if they were rolled back; returns whether they were. A dry run
/// changes only the observation.
///
/// # Errors
/// [`CliError`].
pub(super) fn accept(
    session: &Session,
    observed: &mut Observed,
    name: &JailName,
) -> Result<Option<GenerationId>, CliError> {
    let jail = lookup::jail(&observed.inventory, name)?;
    let Some(config) = look(observed, jail)? else {
        return Ok(None);
    };
    let files = config.skel;
    if session.dry_run {
        if let Some(jail) = observed.inventory.jails.get_mut(name) {
            jail.config = Ok(config);
        }
        return Ok(Some(files));
    }
    let _site = session.lock_site()?;
    let inventory = session.inventory(&Scope::of([name.clone()]))?;
    let plan: Plan = merge::accept(&inventory, name, &config)?;
    session.run(&plan)?;
    Ok(Some(files))
}
