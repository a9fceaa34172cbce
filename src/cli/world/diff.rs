//! `ezz world diff`: compares two generations by their manifests.

use clap::Args;
use serde::Serialize;

use crate::cli::{CliError, Context, verify};
use crate::report::{Exit, Kind as Json, bytes};
use crate::session::{Scope, Session};
use crate::world::manifest::{self, Step};

/// Show how the files of two generations differ
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz world diff 6 7\n  ezz world diff 7\n\nA difference in times alone does not count.\n\nJSON: a `difference` for each file"
)]
pub struct Diff {
    /// Generation: a number, LABEL.N or a label; alone, it is compared with its parent
    first: String,
    /// Generation to compare with
    second: Option<String>,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    path: String,
    did: &'a str,
    r#type: &'a str,
    before: Option<u64>,
    after: Option<u64>,
    keywords: &'a [String],
}

impl Diff {
    pub(super) fn run(&self, context: &Context<'_>, session: &Session) -> Result<Exit, CliError> {
        let inventory = session.inventory(&Scope::none())?;
        let first = inventory.find_generation(&self.first)?;
        let (before, after) = match &self.second {
            Some(second) => (first, inventory.find_generation(second)?),
            None => {
                let parent = first.world.as_ref().and_then(|world| world.parent);
                let parent = parent.and_then(|id| inventory.sealed(id));
                let parent = parent.ok_or_else(|| CliError::Usage {
                    what: format!("{} was not made from another generation", first.display()),
                    hint: "name two of those that `ezz world list` shows".to_owned(),
                })?;
                (parent, first)
            }
        };
        let read = |generation| verify::sealed_manifest(context, session, generation);
        let (old, new) = (read(before)?, read(after)?);
        let steps = manifest::diff(&old, &new).map_err(|source| CliError::Verify {
            generation: after.display(),
            source,
        })?;
        tell(context, &steps);
        Ok(Exit::Done)
    }
}

fn tell(context: &Context<'_>, steps: &[Step]) {
    let (mut added, mut removed, mut changed) = (0_u64, 0_u64, 0_u64);
    let mut more = 0_i128;
    for step in steps {
        let (sign, did, count) = match (&step.before, &step.after) {
            (None, _) => ('+', "added", &mut added),
            (Some(_), None) => ('-', "removed", &mut removed),
            (Some(_), Some(_)) => ('~', "changed", &mut changed),
        };
        *count += 1;
        let size = |side: &Option<(String, u64)>| side.as_ref().map(|(_, size)| *size);
        let (before, after) = (size(&step.before), size(&step.after));
        more += i128::from(after.unwrap_or(0)) - i128::from(before.unwrap_or(0));
        let kind = step.after.as_ref().or(step.before.as_ref());
        let path = step.path.to_string();
        context.report.object(
            Json::Difference,
            &Line {
                did,
                r#type: kind.map_or("", |(kind, _)| kind.as_str()),
                before,
                after,
                keywords: &step.keywords,
                path: path.clone(),
            },
        );
        let what = if step.keywords.is_empty() {
            bytes(after.or(before).unwrap_or(0))
        } else {
            step.keywords.join(", ")
        };
        context.report.line(format!("{sign} {path} ({what})"));
    }
    let sign = if more < 0 { "-" } else { "+" };
    let size = bytes(u64::try_from(more.unsigned_abs()).unwrap_or(u64::MAX));
    context.report.line(format!(
        "{added} added, {removed} removed, {changed} changed: {sign}{size}"
    ));
}
