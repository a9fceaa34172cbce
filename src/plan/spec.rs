//! Makes the complete specification of a jail from an observation, so that who carries out a plan looks nothing up.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::{BaseMount, Generation, Inventory, JailConfig, JailSpec, Kind, World};
use crate::name::JailName;
use crate::plan::{PlanError, SpecError, lookup};
use crate::profile::Profile;

/// The rules of a generation's world.
///
/// # Errors
/// [`SpecError::Profile`].
pub fn profile(generation: &Generation, world: &World) -> Result<&'static Profile, SpecError> {
    let mut known = Profile::builtin().iter();
    known
        .find(|profile| profile.name == world.profile)
        .ok_or_else(|| SpecError::Profile {
            generation: generation.display(),
            profile: world.profile.clone(),
        })
}

/// The specification of a jail with this configuration. The jail may be one that the same plan makes.
///
/// # Errors
/// [`SpecError`].
pub fn spec(
    inventory: &Inventory,
    name: &JailName,
    config: &JailConfig,
) -> Result<Arc<JailSpec>, SpecError> {
    // Of a thin jail too: what its own files were brought to, and no other base.
    let id = config.skel;
    let generation = match config.kind {
        Kind::Thick => inventory.rules(id),
        Kind::Thin => inventory.sealed(id),
    };
    let no_base = || SpecError::NoBase {
        jail: name.clone(),
        generation: id,
    };
    let generation = generation.ok_or_else(no_base)?;
    let world = generation.world.clone().ok_or_else(no_base)?;
    let profile = Cow::Borrowed(profile(generation, &world)?);
    let half = generation.base.as_ref().ok_or_else(no_base)?;
    let base = (config.kind == Kind::Thin).then(|| BaseMount {
        generation: id,
        dataset: half.dataset.clone(),
        path: half.mountpoint.clone(),
    });
    // One that was never finished is mounted where new ones are.
    let there = inventory.jails.get(name).filter(|jail| {
        let found = jail.config.as_ref();
        found.is_ok_and(|found| found.todo.is_empty())
    });
    let (dataset, root) = match there {
        Some(jail) => (jail.dataset.clone(), jail.mountpoint.clone()),
        None => (
            inventory.site.layout.jail(name)?,
            inventory.site.directory.join(name.as_str()),
        ),
    };
    Ok(Arc::new(JailSpec {
        site_id: inventory.site.id.clone(),
        name: name.clone(),
        dataset,
        root,
        base,
        config: config.clone(),
        profile,
        world,
    }))
}

/// The specification of a jail as it was observed.
///
/// # Errors
/// [`PlanError`]: no such jail; one that cannot be understood; its base is not there; a profile that is not known.
pub fn observed(inventory: &Inventory, name: &JailName) -> Result<Arc<JailSpec>, PlanError> {
    let config = lookup::config(inventory, name)?;
    Ok(spec(inventory, name, config)?)
}
