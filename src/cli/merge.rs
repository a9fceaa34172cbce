//! `ezz merge`: brings a jail's own files to the generation that it runs on.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::merging::{Conflicts, Differences, clear_left, merge};
use super::select::Jails;
use super::upgrade::few;
use super::{CliError, Context, DryRun};
use crate::hint::Hint as _;
use crate::name::{GenerationId, JailName, TrackName};
use crate::plan::due::Due;
use crate::plan::lookup;
use crate::plan::merge::{due, due_now};
use crate::report::{Exit, Kind as Json};
use crate::session::{Scope, Session};
use crate::world::merge::{Examined, What};

/// Merge a release's changes into the files of stopped jails: the named ones, or all that need it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz merge web01 --dry-run\n  ezz merge 'web{01..20}'\n\nezz merge compares three versions of each file: the one that the jail began with, the one of the new release, and the jail's own. A file that you have not changed follows the release, even if it becomes a directory or a symbolic link. If both sides have changed a file, the class of its path decides:\n  merged    configuration (/etc): both changes become one text, line by line; accounts\n            name by name. If they cannot, that is a conflict: your file stays,\n            and ezz puts the release's beside it as NAME.ezz-new, a directory with\n            all its contents.\n  followed  files of packages (/opt, /usr/local): yours stays.\n  seeded    state (/var, /srv, /home): missing files are added; nothing that exists\n            is replaced or removed.\n  derived   caches and databases (/etc/ld.so.cache): yours stays, and is rebuilt at the\n            next start if the profile knows how.\n  kept      host keys, machine-id, host name: never touched.\nThe output names files that stay although the release has changed them; they do not hold the jail back. The snapshots ezz-merge-OLD-NEW and ezz-merged-OLD-NEW of the jail make the merge reversible: when the jail is due to run on OLD again, ezz undoes the merge. A file that has not changed since the merge gets its old contents back; a file that you have changed since stays, with a note.\n\nIf a merge fails for lack of space, or because of an immutable file or a mount, nothing in that jail changes.\n\n--dry-run also examines running jails.\n\nThe exit code is 3 if there are conflicts, if an earlier conflict holds a jail that --follow does not bring along, or if some jails could be merged and others could not.\n\nJSON: a `merge` for each jail"
)]
pub struct Merge {
    #[command(flatten)]
    jails: Jails,
    /// Track to follow from now on; the jails are merged to its current generation
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
    /// The files that stay although the release has changed them.
    left: Vec<String>,
    conflicts: Vec<String>,
    /// The reasons for each conflict and for each file in `left`.
    reasons: BTreeMap<String, String>,
    /// The files that stay on the way back, with the reasons.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    kept: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    obstacles: Vec<String>,
}

impl Merge {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let selected = self.jails.parse()?;
        let session = context.session(self.dry_run)?;
        clear_left(context, &session)?;
        let mut wanted = selected.of(&session)?;
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
        // All jails are examined before any is changed.
        let observed = session.observe(&Scope::of(wanted.iter().cloned()))?;
        for name in &wanted {
            let follow = self.follow.as_ref();
            match session.dry_run {
                true => due(&observed.inventory, name, follow)?,
                false => due_now(&observed, name, follow)?,
            };
        }
        let (mut done, mut conflicts, mut failed) = (0_usize, false, None);
        let differences = Differences::new(context, &session);
        for name in &wanted {
            match self.one(context, &session, &differences, name) {
                Ok(conflict) => {
                    done += 1;
                    conflicts |= conflict;
                }
                Err(error) if error.interrupted() => return Err(error),
                // The other jails do not depend on this one. All errors except the last one are printed here.
                Err(error) => {
                    if let Some(earlier) = failed.replace(error) {
                        context.report.error(&earlier, earlier.hint().as_slice());
                    }
                }
            }
        }
        match failed {
            None if conflicts => Ok(Exit::Partly),
            None => Ok(Exit::Done),
            Some(error) if done == 0 => Err(error),
            Some(error) => {
                context.report.error(&error, error.hint().as_slice());
                Ok(Exit::Partly)
            }
        }
    }

    /// Merges one jail; returns whether there were conflicts, or an earlier one holds it.
    fn one(
        &self,
        context: &Context<'_>,
        session: &Session,
        differences: &Differences<'_>,
        name: &JailName,
    ) -> Result<bool, CliError> {
        let follow = self.follow.as_ref();
        let both = Conflicts::KeepBoth;
        let Some((due, examined)) = merge(context, session, name, follow, both, differences)?
        else {
            let inventory = session.inventory(&Scope::of([name.clone()]))?;
            let held = lookup::held(&inventory, name);
            match &held {
                Some(held) => context.report.warning(held),
                None => context.report.note(format!("{name} is already merged")),
            }
            let jail = Some(name);
            context.report.result(
                Json::Merge,
                false,
                &Told {
                    jail,
                    did: if held.is_some() { "held" } else { "already" },
                    ..Told::default()
                },
            );
            return Ok(held.is_some());
        };
        let conflicts = tell(context, session.dry_run, &due, &examined);
        match examined.obstacles {
            none if none.is_empty() => Ok(conflicts),
            obstacles => Err(CliError::Obstacles {
                jail: name.clone(),
                obstacles,
            }),
        }
    }
}

/// Reports what was done or would be done; returns whether there were conflicts.
pub(super) fn tell(context: &Context<'_>, dry_run: bool, due: &Due, examined: &Examined) -> bool {
    let changes = &examined.changes;
    let of = |wanted: &dyn Fn(&What) -> bool| -> Vec<String> {
        let all = changes.iter().filter(|change| wanted(&change.what));
        all.map(|change| change.path.to_string()).collect()
    };
    let told = Told {
        jail: Some(&due.jail),
        from: Some(due.from),
        to: Some(due.to),
        did: match (dry_run, examined.obstacles.is_empty(), examined.undone) {
            (_, false, _) => "cannot be merged",
            (true, true, false) => "would be merged",
            (false, true, false) => "merged",
            (true, true, true) => "would be brought back",
            (false, true, true) => "brought back",
        },
        taken: of(&|what| *what == What::Take),
        removed: of(&|what| *what == What::Remove),
        merged: of(&|what| matches!(what, What::Merge(_))),
        left: of(&|what| matches!(what, What::Left(_))),
        conflicts: of(&|what| matches!(what, What::Conflict(_))),
        reasons: changes
            .iter()
            .filter_map(|change| Some((change.path.to_string(), change.reason()?.to_string())))
            .collect(),
        kept: examined
            .kept
            .iter()
            .map(|kept| (kept.path.to_string(), kept.why.to_string()))
            .collect(),
        obstacles: examined.obstacles.iter().map(ToString::to_string).collect(),
    };
    context
        .report
        .result(Json::Merge, examined.obstacles.is_empty(), &told);
    for change in changes {
        if dry_run {
            context.report.line(format!("{}: {change}", due.jail));
            for line in change.diff.iter().flat_map(|diff| diff.lines()) {
                context.report.line(format!("    {line}"));
            }
        } else if matches!(change.what, What::Conflict(_)) {
            let beside = match change.put_beside() {
                Some(beside) => format!("is beside it as {beside}"),
                None => "is not written".to_owned(),
            };
            context.report.warning(format!(
                "{}: {change}: yours stays, the release's {beside}",
                due.jail
            ));
        }
    }
    if !dry_run && !told.left.is_empty() {
        context.report.note(format!(
            "{}: yours stays, although the release has changed it: {}",
            due.jail,
            few(&told.left)
        ));
    }
    for kept in &examined.kept {
        context.report.note(format!("{}: {kept}", due.jail));
    }
    if told.did.ends_with("brought back") {
        context.report.said(format!(
            "{}: {} from generation {} to {}: {} taken, {} removed, {} merged, {} stay as they are",
            due.jail,
            told.did,
            due.from,
            due.to,
            told.taken.len(),
            told.removed.len(),
            told.merged.len(),
            told.kept.len()
        ));
        return false;
    }
    context.report.said(format!(
        "{}: {} from generation {} to {}: {} taken, {} removed, {} merged, {} left, {} in conflict",
        due.jail,
        told.did,
        due.from,
        due.to,
        told.taken.len(),
        told.removed.len(),
        told.merged.len(),
        told.left.len(),
        told.conflicts.len()
    ));
    !told.conflicts.is_empty()
}
