//! Steps that several verbs share: what starts a jail, configures it anew, and finishes one that was made.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Inventory, JailConfig, Kind, Todo};
use crate::name::{GenerationId, JailName};
use crate::plan::due::{self, Way};
use crate::plan::{
    Commit, Epoch, MountAs, Observed, Plan, PlanError, Step, generation, lookup, sets,
};

/// Most jails in one program (design.md §5).
pub const MOST_IN_ONE: usize = 1000;

pub(super) fn start(
    plan: &mut Plan,
    observed: &Observed,
    epoch: &mut Epoch,
    name: &JailName,
    config: &JailConfig,
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let jail = lookup::jail(inventory, name)?;
    if jail.merging.is_some() {
        return Err(PlanError::Merging(name.clone()));
    }
    // Its files would be in the place of the host's, or where the host's users reach them.
    let at = inventory.site.directory.join(name.as_str());
    if jail.mountpoint != at {
        return Err(PlanError::Elsewhere {
            dataset: jail.dataset.clone(),
            found: jail.mountpoint.clone(),
            at,
        });
    }
    if !config.todo.is_empty() {
        plan.note(format!("{name} was never finished: it is finished now"));
        finish_new(plan, inventory, epoch, &[(name.clone(), config.clone())])?;
    } else if MountAs::Jail.wanted(jail.mounted, jail.flags) {
        plan.push(Step::Mount {
            dataset: jail.dataset.clone(),
            at: jail.mountpoint.clone(),
            how: MountAs::Jail,
        });
    }
    mount_base(plan, inventory, name, config)?;
    plan.push(Step::Start { jail: name.clone() });
    Ok(())
}

/// Adds the restart of jails to a plan.
pub(super) fn restart(
    plan: &mut Plan,
    epoch: &mut Epoch,
    observed: &Observed,
    names: &[JailName],
) -> Result<(), PlanError> {
    let inventory = &observed.inventory;
    let all: Vec<&JailName> = names.iter().collect();
    let moved = bring(plan, observed, epoch, &all)?;
    for name in names {
        let found = lookup::config(inventory, name)?;
        if observed.state(name).running() {
            plan.push(Step::Stop { jail: name.clone() });
        }
        let config = moved.get(name).unwrap_or(found);
        start(plan, observed, epoch, name, config)?;
    }
    Ok(())
}

/// Adds the programs by which jails are at their target whose own files are right for it as they are, and returns
/// their new configurations. A jail whose files have to be merged stays where it is.
pub(super) fn bring(
    plan: &mut Plan,
    observed: &Observed,
    epoch: &mut Epoch,
    names: &[&JailName],
) -> Result<BTreeMap<JailName, JailConfig>, PlanError> {
    let inventory = &observed.inventory;
    let mut moved = BTreeMap::new();
    for name in names {
        match due::way(observed, name)? {
            Way::There => {}
            Way::Noted(config) => {
                moved.insert((*name).clone(), *config);
            }
            Way::Files(due) => plan.note(format!(
                "{name} starts on generation {}: its own files are not brought to {} yet; `ezz converge {name}` does it",
                due.from, due.to
            )),
        }
    }
    configure(plan, inventory, epoch, &moved)?;
    Ok(moved)
}

/// Adds the programs that configure jails anew, each for a thousand at most, if what they are at is still sealed.
pub(super) fn configure(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    moved: &BTreeMap<JailName, JailConfig>,
) -> Result<(), PlanError> {
    let all: Vec<_> = moved.iter().collect();
    for chunk in all.chunks(MOST_IN_ONE) {
        let mut sets = Vec::with_capacity(chunk.len());
        for (name, after) in chunk {
            let dataset = &lookup::jail(inventory, name)?.dataset;
            sets.push(sets::set_jail(
                dataset,
                lookup::config(inventory, name)?,
                after,
            )?);
        }
        let at: BTreeSet<GenerationId> = chunk.iter().map(|(_, after)| after.skel).collect();
        let sealed = at.into_iter();
        let sealed = sealed.flat_map(|id| generation::seals(&inventory.site.layout, id));
        plan.push(Step::Commit {
            site: inventory.site.layout.site.clone(),
            commit: Commit::Set {
                epoch: epoch.take(),
                sets,
                sealed: sealed.collect(),
                adopt: false,
            },
        });
    }
    Ok(())
}

/// Adds the start of jails that the same plan makes from one configuration.
///
/// # Errors
/// [`PlanError::NoBase`].
pub fn start_new(
    plan: &mut Plan,
    inventory: &Inventory,
    config: &JailConfig,
    names: &[JailName],
) -> Result<(), PlanError> {
    // The same for all.
    if let Some(name) = names.first() {
        mount_base(plan, inventory, name, config)?;
    }
    let starts = names.iter().map(|name| Step::Start { jail: name.clone() });
    plan.steps.extend(starts);
    Ok(())
}

/// Adds what mounts the base that a jail starts on, unless the plan has it already.
pub(super) fn mount_base(
    plan: &mut Plan,
    inventory: &Inventory,
    name: &JailName,
    config: &JailConfig,
) -> Result<(), PlanError> {
    limits_known(name, config)?;
    if config.kind == Kind::Thick {
        return Ok(());
    }
    let missing = || PlanError::NoBase {
        jail: name.clone(),
        generation: config.skel,
    };
    let half = inventory
        .sealed(config.skel)
        .and_then(|generation| generation.base.as_ref())
        .ok_or_else(missing)?;
    if MountAs::Base.wanted(half.mounted, half.flags) {
        let step = Step::Mount {
            dataset: half.dataset.clone(),
            at: half.mountpoint.clone(),
            how: MountAs::Base,
        };
        if !plan.steps.contains(&step) {
            plan.push(step);
        }
    }
    Ok(())
}

/// Refuses to start a jail with limits that nobody would hold it to; before anything is stopped for it.
fn limits_known(name: &JailName, config: &JailConfig) -> Result<(), PlanError> {
    let unknown = config.limits.unknown();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(PlanError::UnknownLimits {
        jail: name.clone(),
        limits: unknown.join(", "),
    })
}

/// Adds the steps that finish jails whose clones are there: derived files, mounts, what is in
/// `todo`, and the program that says that nothing is left. All of it can be done twice.
///
/// # Errors
/// [`PlanError`]: a name or value too long.
pub fn finish_new(
    plan: &mut Plan,
    inventory: &Inventory,
    epoch: &mut Epoch,
    jails: &[(JailName, JailConfig)],
) -> Result<(), PlanError> {
    let layout = &inventory.site.layout;
    // Before the mounts: what is mounted has all that is derived.
    plan.steps.extend(
        jails
            .iter()
            .map(|(name, _)| Step::Derive { jail: name.clone() }),
    );
    // Side by side: they are many, and none waits for another.
    for (name, _) in jails {
        plan.push(Step::Mount {
            dataset: layout.jail(name)?,
            at: inventory.site.directory.join(name.as_str()),
            how: MountAs::Jail,
        });
    }
    let clones = jails
        .iter()
        .filter(|(_, config)| config.todo.contains(&Todo::Identity));
    plan.steps
        .extend(clones.map(|(name, _)| Step::ClearIdentity { jail: name.clone() }));
    for (name, config) in jails {
        for todo in &config.todo {
            if let Todo::Flavour(flavour) = todo {
                let (jail, flavour) = (name.clone(), flavour.clone());
                plan.push(Step::Flavour { jail, flavour });
            }
        }
    }
    let mut sets = Vec::new();
    for (name, config) in jails {
        let dataset = layout.jail(name)?;
        for todo in &config.todo {
            match todo {
                Todo::Quota(bytes) => plan.push(Step::Property {
                    dataset: dataset.clone(),
                    property: "quota".to_owned(),
                    value: bytes.to_string(),
                }),
                // Those of all jails side by side, above.
                Todo::Identity | Todo::Flavour(_) => {}
            }
        }
        if !config.todo.is_empty() {
            let ready = JailConfig {
                todo: Vec::new(),
                ..config.clone()
            };
            sets.push(sets::set_jail(&dataset, config, &ready)?);
        }
    }
    if !sets.is_empty() {
        plan.push(Step::Commit {
            site: layout.site.clone(),
            commit: Commit::Set {
                epoch: epoch.take(),
                sets,
                sealed: Vec::new(),
                adopt: false,
            },
        });
    }
    Ok(())
}
