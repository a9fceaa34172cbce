//! `ezz delete`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use clap::Args;

use super::{CliError, Context, Did, DryRun, names};
use crate::model::Inventory;
use crate::plan::delete::{Below, Request, delete};
use crate::ports::{PortError, Query, Zfs};
use crate::report::Exit;
use crate::session::{Scope, Session, SessionError};

/// Delete jails with all their files; running ones are stopped first
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz delete web01 --yes\n\nJSON: one {\"jail\", \"did\": \"deleted\"} a jail"
)]
pub struct Delete {
    /// Names, or ranges such as web{01..20}
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Delete snapshots and datasets below them too that ezz did not make
    #[arg(long)]
    foreign_snapshots: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

impl Delete {
    pub(super) fn run(self, context: &Context) -> Result<Exit, CliError> {
        let names = names(&self.names)?;
        let session = context.session(self.dry_run)?;
        let scope = Scope::of(names.iter().cloned());
        let request = |inventory: &Inventory| -> Result<Request, SessionError> {
            Ok(Request {
                names: names.clone(),
                foreign: self.foreign_snapshots,
                below: below(session.zfs.as_ref(), inventory)
                    .map_err(crate::apply::ApplyError::from)?,
            })
        };
        if !self.dry_run.dry_run && !self.yes {
            // What is refused is refused before anything is asked.
            let observed = session.observe(&scope)?;
            let plan = delete(&observed, &request(&observed.inventory)?)?;
            confirm(context, &session, &plan.to_string())?;
        }
        let (outcome, exit) = context.transact(&session, "delete", &scope, |observed| {
            Ok(delete(observed, &request(&observed.inventory)?)?)
        })?;
        if session.dry_run {
            return Ok(exit);
        }
        for jail in &names {
            if !outcome.applied.failed.iter().any(|(name, _)| name == jail) {
                context.report.object(&Did {
                    jail,
                    did: "deleted",
                });
                context.report.said(format!("{jail}: deleted"));
            }
        }
        Ok(exit)
    }
}

fn confirm(context: &Context, session: &Session, plan: &str) -> Result<(), CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::NotConfirmed(
            "nobody can be asked, and --yes was not given",
        ));
    }
    context
        .report
        .note(format!("this will be done on {}:", session.site));
    if context.report.ask(plan, "Delete for good?") {
        Ok(())
    } else {
        Err(CliError::NotConfirmed("not deleted"))
    }
}

/// Snapshots and datasets below the jails, deepest first, with clones of the snapshots that live
/// elsewhere.
fn below(zfs: &dyn Zfs, inventory: &Inventory) -> Result<Vec<Below>, PortError> {
    let mut below = Vec::new();
    for jail in inventory.jails.values() {
        let rows = zfs.read(&Query {
            roots: &[jail.dataset.to_string()],
            depth: None,
            types: &["filesystem", "volume", "snapshot"],
            properties: &["guid", "clones"],
        })?;
        let inside = |name: &str| {
            name == jail.dataset.as_str()
                || name
                    .strip_prefix(jail.dataset.as_str())
                    .is_some_and(|rest| rest.starts_with(['/', '@']))
        };
        let mut found: BTreeMap<(usize, bool, String), Below> = BTreeMap::new();
        for (name, row) in rows {
            if name == jail.dataset.as_str() {
                continue;
            }
            let value = |property: &str| {
                row.0
                    .get(property)
                    .map_or("", |found| found.value.as_str())
                    .to_owned()
            };
            let clones = value("clones");
            let clones = clones
                .split(',')
                .filter(|clone| !clone.is_empty() && *clone != "-" && !inside(clone))
                .map(str::to_owned)
                .collect();
            // A filesystem goes after its snapshots and its children.
            let key = (name.matches('/').count(), name.contains('@'), name.clone());
            let guid = value("guid").parse().unwrap_or(0);
            found.insert(key, Below { name, guid, clones });
        }
        below.extend(found.into_values().rev());
    }
    Ok(below)
}
