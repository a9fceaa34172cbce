//! The plans of `start`, `stop` and `restart`.
//!
//! A thin jail starts on the generation that its own files were brought to, and on no other. What brings them to its
//! target comes before these plans, which only note a target whose skeleton has the same files.

use crate::model::JailState;
use crate::name::JailName;
use crate::plan::steps::{From, ToStart};
use crate::plan::{Epoch, Observed, Plan, PlanError, lookup, order, steps, writable};

/// Plans the start of jails. One that was never finished is finished first.
///
/// # Errors
/// [`PlanError`]: no such jail, or its base is not there.
pub fn start(observed: &Observed, names: &[JailName]) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let mut plan = Plan::on(inventory);
    let mut epoch = Epoch::of(inventory);
    // One that is dying is started: the host waits until the kernel is done with it.
    let runs = |name: &&JailName| matches!(observed.state(name), JailState::Running { .. });
    let down: Vec<&JailName> = names.iter().filter(|name| !runs(name)).collect();
    let moved = steps::bring(&mut plan, observed, &mut epoch, &down)?;
    let mut jails = Vec::with_capacity(down.len());
    for name in order::start_order(names, |name| lookup::config(inventory, name).ok()) {
        let found = lookup::config(inventory, &name)?;
        if runs(&&name) {
            plan.note(format!("{name} is already running"));
            continue;
        }
        jails.push(ToStart {
            config: moved.get(&name).unwrap_or(found).clone(),
            from: From::Down,
            name,
        });
    }
    steps::start(&mut plan, &mut epoch, observed, &jails)?;
    arrange(&mut plan, observed);
    Ok(plan)
}

/// Plans the stop of jails.
///
/// # Errors
/// [`PlanError::NoJail`].
pub fn stop(observed: &Observed, names: &[JailName]) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    let mut plan = Plan::of(inventory);
    for name in &order::stop_order(names, |name| lookup::config(inventory, name).ok()) {
        lookup::jail(&observed.inventory, name)?;
        match observed.state(name) {
            JailState::Stopped { .. } => {
                plan.note(format!("{name} is already stopped"));
                // One that died, or whose stop was killed, may have left its mounts.
                if observed.known_to_host(name) {
                    plan.push_for(name, steps::stop(inventory, name));
                }
            }
            JailState::Running { .. } | JailState::Starting | JailState::Dying => {
                plan.push_for(name, steps::stop(inventory, name));
            }
        }
    }
    arrange(&mut plan, observed);
    Ok(plan)
}

/// Plans stop and start of each jail. It is down as short as can be: those that depend on each other as long as the
/// restart of all of them takes, others while they themselves are restarted.
///
/// # Errors
/// As [`start`].
pub fn restart(observed: &Observed, names: &[JailName]) -> Result<Plan, PlanError> {
    let inventory = &observed.inventory;
    writable(inventory)?;
    let mut plan = Plan::on(inventory);
    steps::restart(&mut plan, &mut Epoch::of(inventory), observed, names)?;
    arrange(&mut plan, observed);
    Ok(plan)
}

fn arrange(plan: &mut Plan, observed: &Observed) {
    order::arrange(plan, |name| lookup::config(&observed.inventory, name).ok());
}
