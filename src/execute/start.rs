//! The step that starts a jail. A start is recorded while it is at work, and a signal or another command can
//! end it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::{Apply, ApplyError, Unreached};
use crate::lock::Start;
use crate::model::Changed;
use crate::ports::{HostError, JailSpec};

/// How long the start of a jail that was stopped for it goes on after a signal.
const AGAIN: Duration = Duration::from_secs(60);

impl Apply<'_> {
    /// Starts a jail, or starts it `again`: then it was up, and is to be up after a signal, too.
    pub(super) fn start(&self, spec: &JailSpec, again: bool) -> Result<Changed, ApplyError> {
        let jail = &spec.name;
        let begun = Instant::now();
        let signalled = || self.locks.stop()() && !(again && begun.elapsed() < AGAIN);
        if signalled() {
            return Err(ApplyError::Interrupted(Unreached::start_of(jail)));
        }
        let record = self.locks.starting(jail);
        let ended_by = || record.as_ref().and_then(Start::ended_by);
        // What ends it is remembered: whoever asks does so no more once the start has ended.
        let by = RefCell::new(None);
        let stop = || {
            if by.borrow().is_none() {
                *by.borrow_mut() = ended_by();
            }
            by.borrow().is_some() || signalled()
        };
        match (self.host.start(spec, &stop), by.take()) {
            (Err(HostError::Ended(jail)), Some(by)) => Err(ApplyError::StartEnded { jail, by }),
            (Err(HostError::Ended(jail)), None) => {
                Err(ApplyError::Interrupted(Unreached::start_of(&jail)))
            }
            (done, _) => Ok(done?),
        }
    }
}
