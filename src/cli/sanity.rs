//! What jails will run into on the host, told when they are made, configured or started. Never a reason
//! not to do it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::model::{JailConfig, Surroundings};
use crate::name::JailName;
use crate::plan::{Observed, Plan, sanity};
use crate::session::Session;

/// The look around of one command. A plan that is made again, since the site has changed meanwhile or its
/// programs cannot clone, does not look again.
#[derive(Debug, Default)]
pub(super) struct Sanity {
    seen: RefCell<Option<(BTreeMap<JailName, JailConfig>, Surroundings)>>,
}

impl Sanity {
    /// Adds to a plan the warnings about its jails on this host.
    pub(super) fn warn(&self, session: &Session, observed: &Observed, plan: &mut Plan) {
        let jails = sanity::concerned(plan, &observed.inventory);
        if jails.is_empty() {
            return;
        }
        let mut seen = self.seen.borrow_mut();
        if seen.as_ref().is_none_or(|(of, _)| *of != jails) {
            let named: Vec<(&JailName, &JailConfig)> = jails.iter().collect();
            let around = session.host.surroundings(&named);
            *seen = Some((jails, around));
        }
        if let Some((jails, around)) = &*seen {
            plan.warnings = sanity::notes(observed, jails, around);
        }
    }
}
