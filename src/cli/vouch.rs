//! Checks the health of jails that were restarted on another basejail.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::converge::{Failure, Moved, Pace, did, runs};
use super::restart_marks::RestartMarks;
use super::{CliError, Context, JailFailure, error};
use crate::hint::Hint as _;
use crate::model::Inventory;
use crate::name::JailName;
use crate::plan::converge::needs_merge;
use crate::plan::{Observed, spec};
use crate::ports::HostError;
use crate::session::{Outcome, Session};
use crate::text::quoted;

/// The pause between two runs of a health command.
const AGAIN: Duration = Duration::from_secs(1);

/// Checks the jails of a batch after their restart.
pub(super) struct Asks<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) session: &'a Session,
    pub(super) pace: &'a Pace,
    pub(super) moving: &'a RestartMarks,
    /// The jails that are being brought to another generation.
    pub(super) down: &'a BTreeSet<JailName>,
    /// The jails that keep their old basejail.
    pub(super) stayed: &'a BTreeSet<JailName>,
    /// The outcome of the restart.
    pub(super) outcome: &'a Outcome,
    /// The site after the restart.
    pub(super) after: &'a Observed,
}

impl Asks<'_> {
    /// Checks one jail and reports the result; returns `false` if a signal came before the jail answered.
    ///
    /// # Errors
    /// [`CliError::Write`].
    pub(super) fn one(&self, jail: &JailName, moved: &mut Moved) -> Result<bool, CliError> {
        let Asks { outcome, after, .. } = self;
        let broken = outcome.applied.failed.iter().find(|(name, _)| name == jail);
        let broken = broken.map(|(_, why)| error::one_line(why));
        let moved_on = || {
            let again = needs_merge(after, jail, self.down).is_ok_and(|due| due.is_some());
            let again = again && !self.stayed.contains(jail);
            again.then(|| "its track was swapped to another generation in the meantime".to_owned())
        };
        if let Some(why) = broken.or_else(moved_on) {
            moved.failed.push((jail.clone(), Failure::Unwell(why)));
            return Ok(true);
        }
        let starts = outcome.plan.starts(jail);
        moved.restarted += usize::from(starts);
        let up = runs(after, jail);
        let stays = self.stayed.contains(jail);
        let word = match (starts, up) {
            _ if stays => "kept",
            (true, _) => "restarted",
            (false, true) => "already",
            (false, false) => "stopped",
        };
        let well = if up || starts {
            self.well(&after.inventory, jail)
        } else {
            Ok(())
        };
        if let Err(why) = &well {
            if why.interrupted() {
                // Because of the mark, the next `converge` checks the jail again; the command of this call is not
                // stored.
                let health = self.pace.health.as_ref();
                let health = health.map(|health| format!(" --health {}", quoted(health)));
                self.context.report.warning(format!(
                    "{jail}: {word}, but its health was not checked; `ezz converge {jail}{}` checks it",
                    health.unwrap_or_default()
                ));
                self.moving.add(jail)?;
                return Ok(false);
            }
        }
        self.moving.remove(jail)?;
        if let Err(why) = well {
            self.context.report.error(&why, why.hint().as_slice());
            let words = std::error::Error::source(&why).map(error::one_line);
            let why = Failure::Unwell(words.unwrap_or_default());
            moved.failed.push((jail.clone(), why));
            return Ok(true);
        }
        did(self.context, self.session, std::slice::from_ref(jail), word);
        match stays {
            true => moved.stayed.push(jail.clone()),
            false => moved.well.push(jail.clone()),
        }
        Ok(true)
    }

    /// Checks the health of a running jail by the command of this call, or else by the jail's own. A jail without a
    /// health command is healthy if it runs.
    ///
    /// # Errors
    /// [`CliError::Jail`] if it is not healthy or cannot be checked; [`CliError::Interrupted`].
    fn well(&self, inventory: &Inventory, jail: &JailName) -> Result<(), CliError> {
        let unwell = |source: JailFailure| CliError::Jail {
            verb: "converge",
            jail: jail.clone(),
            source,
        };
        let Asks { session, pace, .. } = self;
        let spec = spec::observed(inventory, jail)
            .map_err(|error| unwell(JailFailure::from_ref(&error)))?;
        let Some(health) = pace.health.as_ref().or(spec.config.health.as_ref()) else {
            return Ok(());
        };
        let command = ["/bin/sh".to_owned(), "-c".to_owned(), health.clone()];
        let begun = Instant::now();
        let limit = Duration::from_secs(pace.health_limit);
        let cancel = self.context.machine.cancel();
        let stop = || cancel.is_cancelled();
        loop {
            // A service needs a moment until it answers.
            let left = limit.saturating_sub(begun.elapsed()).max(AGAIN);
            match session.host.probe(&spec, &command, left, &stop) {
                Ok(()) => return Ok(()),
                Err(_) if stop() => return Err(CliError::Interrupted),
                Err(HostError::Unwell { .. }) if begun.elapsed() + AGAIN < limit => {
                    self.context.pause(AGAIN)?;
                }
                Err(error) => return Err(unwell(JailFailure::from_ref(&error))),
            }
        }
    }
}
