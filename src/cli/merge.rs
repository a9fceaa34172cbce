//! `ezz merge`: a jail's own files follow the generation that it runs on.

use clap::Args;
use serde::Serialize;

use super::merging::{Conflicts, merge};
use super::select::Jails;
use super::{CliError, Context, DryRun};
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::merge::{Due, due_now};
use crate::report::Exit;
use crate::session::{Scope, Session};
use crate::world::merge::{BESIDE, Change, What};

/// Bring the own files of stopped jails to the generation that they start on: of those that are named,
/// or of all that need it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz merge web01 --dry-run\n  ezz merge 'web{01..20}'\n\nThree-way, with the skeleton that the jail comes from: what only the release has changed is taken, what only you have changed stays, and what both have changed is merged line by line. Where that cannot be done it is a conflict: your file stays, and the release's is put beside it as NAME.ezz-new. The snapshot ezz-merge-OLD-NEW of the jail is the way back.\n\nThe exit code is 3 if there are conflicts.\n\nJSON: one {\"jail\", \"from\", \"to\", \"did\", \"taken\", \"removed\", \"merged\", \"conflicts\"} a jail"
)]
pub struct Merge {
    #[command(flatten)]
    jails: Jails,
    /// Bring them to what this track has, and let them follow it from then on
    #[arg(long, value_name = "TRACK", requires = "names")]
    follow: Option<TrackName>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Default, Serialize)]
struct Told<'a> {
    jail: Option<&'a JailName>,
    from: Option<GenerationId>,
    to: Option<GenerationId>,
    did: &'a str,
    taken: Vec<String>,
    removed: Vec<String>,
    merged: Vec<String>,
    conflicts: Vec<String>,
}

impl Merge {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let session = context.session(self.dry_run)?;
        let mut wanted = self.jails.select(&session)?;
        if self.jails.is_empty() {
            let observed = session.observe(&Scope::all())?;
            let needs = |name: &&JailName| matches!(due_now(&observed, name, None), Ok(Some(_)));
            wanted = observed
                .inventory
                .jails
                .keys()
                .filter(needs)
                .cloned()
                .collect();
            if wanted.is_empty() {
                context.report.note("no stopped jail needs a merge");
            }
        }
        // All are looked at before any is touched.
        let observed = session.observe(&Scope::of(wanted.iter().cloned()))?;
        for name in &wanted {
            due_now(&observed, name, self.follow.as_ref())?;
        }
        let mut exit = Exit::Done;
        for name in &wanted {
            if self.one(context, &session, name)? {
                exit = Exit::Partly;
            }
        }
        Ok(exit)
    }
    /// Merges one jail; whether there were conflicts.
    fn one(
        &self,
        context: &Context<'_>,
        session: &Session,
        name: &JailName,
    ) -> Result<bool, CliError> {
        let follow = self.follow.as_ref();
        let Some((due, changes)) = merge(context, session, name, follow, Conflicts::KeepBoth)?
        else {
            context.report.note(format!("{name} is merged already"));
            let jail = Some(name);
            context.report.object(&Told {
                jail,
                did: "already",
                ..Told::default()
            });
            return Ok(false);
        };
        Ok(tell(context, session.dry_run, &due, &changes))
    }
}

/// Says what was done, or would be; whether there were conflicts.
pub(super) fn tell(context: &Context<'_>, dry_run: bool, due: &Due, changes: &[Change]) -> bool {
    let of = |wanted: &dyn Fn(&What) -> bool| -> Vec<String> {
        let all = changes.iter().filter(|change| wanted(&change.what));
        all.map(|change| change.path.to_string()).collect()
    };
    let told = Told {
        jail: Some(&due.jail),
        from: Some(due.from),
        to: Some(due.to),
        did: if dry_run { "would be merged" } else { "merged" },
        taken: of(&|what| *what == What::Take),
        removed: of(&|what| *what == What::Remove),
        merged: of(&|what| matches!(what, What::Merge(_))),
        conflicts: of(&|what| matches!(what, What::Conflict(_))),
    };
    context.report.object(&told);
    for change in changes {
        if dry_run {
            context.report.line(format!("{}: {change}", due.jail));
            for line in change.diff.iter().flat_map(|diff| diff.lines()) {
                context.report.line(format!("    {line}"));
            }
        } else if matches!(change.what, What::Conflict(_)) {
            context.report.note(format!(
                "{}: {change}: yours stays, the release's is beside it as {}{BESIDE}",
                due.jail, change.path
            ));
        }
    }
    context.report.said(format!(
        "{}: {} from generation {} to {}: {} taken, {} removed, {} merged, {} in conflict",
        due.jail,
        told.did,
        due.from,
        due.to,
        told.taken.len(),
        told.removed.len(),
        told.merged.len(),
        told.conflicts.len()
    ));
    !told.conflicts.is_empty()
}
