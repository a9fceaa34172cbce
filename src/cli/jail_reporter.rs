//! What a command reports of the jails that it is about.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::Killed;
use crate::name::JailName;
use crate::ports::Host;
use crate::report::{Kind as Json, Report};
use crate::session::Session;

/// Reports what was done to jails: each jail once, as soon as it is done.
pub(super) struct JailReporter<'a> {
    report: &'a Report,
    host: &'a dyn Host,
    told: RefCell<BTreeSet<JailName>>,
}

impl<'a> JailReporter<'a> {
    pub(super) fn new(report: &'a Report, session: &'a Session) -> Self {
        JailReporter {
            report,
            host: session.host.as_ref(),
            told: RefCell::default(),
        }
    }

    pub(super) fn say(&self, jail: &JailName, did: &str) {
        if self.told.borrow_mut().insert(jail.clone()) {
            done(self.report, self.host, jail, did, true);
        }
    }

    /// Reports with `--json` alone that nothing had to be done.
    pub(super) fn already(&self, jail: &JailName) {
        if self.told.borrow_mut().insert(jail.clone()) {
            let (did, killed) = ("already", Vec::new());
            self.report
                .result(Json::JailResult, false, &Did { jail, did, killed });
        }
    }
}

/// Reports what was done to a jail, whether that changed it, and which processes its stop had to kill.
pub(super) fn done(report: &Report, host: &dyn Host, jail: &JailName, did: &str, changed: bool) {
    let killed = host.killed(jail);
    report.result(Json::JailResult, changed, &Did { jail, did, killed });
    report.said(format!("{jail}: {did}"));
}

/// A line of what was done to a jail.
#[derive(Debug, Serialize)]
struct Did<'a> {
    jail: &'a JailName,
    did: &'a str,
    /// The processes that its stop had to kill.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    killed: Vec<Killed>,
}
