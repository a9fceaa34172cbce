//! `ezz world delete`: destroys one generation that nothing needs.

use clap::Args;

use super::prune::{Ask, How, id, take};
use crate::cli::{CliError, Context, DryRun};
use crate::plan::Observed;
use crate::plan::prune::{Request, delete};
use crate::report::Exit;
use crate::session::{Scope, Session};

/// Destroy one generation, even if no track has been swapped to it yet
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz world delete 7 --dry-run\n  ezz world delete debian-12.15.7 --yes\n\nezz refuses, with the reasons, while the generation is the current or previous one of a track, while a jail is pinned to it or runs on it, or while a roll-out needs it. Its skeleton stays as long as jails need it.\n\nJSON: a `prune-result` for each generation, then `freed`"
)]
pub struct Delete {
    /// Generation: a number, LABEL.N or a label
    generation: String,
    #[command(flatten)]
    how: How,
}

impl Delete {
    pub(super) fn dry_run(&self) -> DryRun {
        self.how.dry_run
    }

    pub(super) fn run(&self, context: &Context<'_>, session: &Session) -> Result<Exit, CliError> {
        let inventory = session.inventory(&Scope::none())?;
        let id = id(&inventory, &self.generation)?;
        let ask = Ask {
            named: [id].into(),
            foreign: self.how.foreign_snapshots,
            ..Ask::default()
        };
        let plan = |observed: &Observed, request: &Request| delete(observed, id, request);
        take(context, session, "world delete", &self.how, ask, &plan)
    }
}
