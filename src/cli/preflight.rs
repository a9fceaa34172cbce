//! Warns about conflicts of jails with the host when they are created, configured or started. A conflict is never a
//! reason to refuse.

use crate::model::JailConfig;
use crate::name::JailName;
use crate::plan::{Observed, Plan, preflight};
use crate::session::Session;

/// Examines the host for the jails of a plan, and adds the warnings about them to the plan.
pub(super) fn warn(session: &Session, observed: &Observed, plan: &mut Plan) {
    let jails = preflight::concerned(plan, &observed.inventory);
    if jails.is_empty() {
        return;
    }
    let named: Vec<(&JailName, &JailConfig)> = jails.iter().collect();
    let around = session.host.conditions(&named);
    plan.warnings
        .extend(preflight::notes(observed, &jails, &around));
}
