//! The plan of a swap: a track gets another current generation, forwards or backwards.
//!
//! One program compares and sets the track, its log and the epoch, and requires that the target is sealed. Running
//! jails are not touched: they follow when they are started again (`converge`).

use crate::model::{Inventory, property};
use crate::plan::track::{self, Request};
use crate::plan::{Expect, Plan, PlanError, Set, Step, generation, lookup, sets, writable};

/// Plans a swap.
///
/// # Errors
/// Those of [`track::target`]; a replica; a roll-out of the track; a log that cannot be encoded.
pub fn swap(inventory: &Inventory, request: &Request) -> Result<Plan, PlanError> {
    writable(inventory)?;
    lookup::ensure_no_rollout(inventory, &request.track)?;
    let target = track::target(inventory, request)?;
    let (name, id) = (&request.track, target.id);
    let mut plan = Plan::on(inventory);
    generation::add_missing(&mut plan, inventory, target);
    if lookup::track(inventory, name)?.current == Some(id) {
        plan.note(format!(
            "the track {name} is already at {}",
            target.display()
        ));
    } else {
        let mut all = Vec::new();
        if target.rejected.is_some() {
            // A generation that the user has named is no longer rejected.
            all.push(Set {
                dataset: inventory.site.layout.base(id)?.to_string(),
                property: property::REJECTED.to_owned(),
                expect: Expect::Any,
                value: None,
            });
        }
        all.extend(track::sets(
            inventory,
            request,
            &track::moved(inventory, name, id)?,
        )?);
        plan.push(sets::commit_at(inventory, all, id));
    }
    plan.push(Step::Link {
        track: name.clone(),
        generation: id,
        directory: inventory.site.directory.clone(),
    });
    Ok(plan)
}
