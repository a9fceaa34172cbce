//! `ezz doctor --adopt`: makes a replica a site of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::facts::{Idle, facts};
use super::{CliError, Context, Doctor, init};
use crate::execute;
use crate::model::Inventory;
use crate::name::{DatasetName, JailName};
use crate::plan::doctor::diagnose;
use crate::plan::finding::Severity;
use crate::plan::{generation, site};
use crate::ports::{Query, Source};
use crate::report::{Exit, Kind as Json};
use crate::session::{Scope, Session};

#[derive(Debug, Serialize)]
struct Adopted<'a> {
    site: &'a DatasetName,
    did: &'a str,
}

impl Doctor {
    pub(super) fn adopt(&self, context: &Context<'_>, session: &Session) -> Result<Exit, CliError> {
        let observed = session.observe(&Scope::all())?;
        let none = BTreeSet::new();
        let idle = Idle {
            left: &none,
            merges: &none,
        };
        let diagnosis = diagnose(&observed, &facts(session, &observed, false, idle)?, false)?;
        if observed.inventory.site.replica {
            let came = &observed.inventory.site.directory;
            let directory = self.directory.as_ref().unwrap_or(came);
            init::usable(session.zfs.as_ref(), directory, &session.site)?;
        }
        let broken: Vec<String> = diagnosis
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Broken)
            .map(|finding| format!("{}: {}", finding.object, finding.what))
            .filter(|_| observed.inventory.site.replica)
            .collect();
        if !broken.is_empty() {
            return Err(CliError::Damaged {
                site: session.site.clone(),
                list: broken,
            });
        }
        let id = uuid::Uuid::new_v4().to_string();
        let (outcome, exit) =
            context.transact(session, "doctor --adopt", &Scope::all(), |observed| {
                let inventory = &observed.inventory;
                let request = site::Adopt {
                    received: received(session, inventory)?,
                    id: id.clone(),
                    directory: self.directory.clone(),
                };
                Ok(site::adopt(inventory, &request))
            })?;
        if session.dry_run {
            return Ok(exit);
        }
        let adopted = !outcome.plan.steps.is_empty();
        context.report.result(
            Json::Adoption,
            adopted,
            &Adopted {
                site: &session.site,
                did: if adopted { "adopted" } else { "already" },
            },
        );
        if adopted {
            context.report.said(format!(
                "{} is a site of its own; `ezz doctor --repair` restores what is derived",
                session.site
            ));
            self.names(context, &id, &observed.inventory)?;
        }
        Ok(exit)
    }
}

impl Doctor {
    /// Warns about jails that cannot start here because of their names: the site of origin may be on this host, too.
    fn names(
        &self,
        context: &Context<'_>,
        id: &str,
        inventory: &Inventory,
    ) -> Result<(), CliError> {
        let came = &inventory.site.directory;
        let directory = self.directory.as_ref().unwrap_or(came);
        let names: Vec<&JailName> = inventory.jails.keys().collect();
        let taken = context.machine.host(id, directory).taken(&names)?;
        const SHOWN: usize = 3;
        for (name, taken) in taken.iter().take(SHOWN) {
            let by = &taken.by;
            let hint = inventory.jails.get(name);
            let hint = hint.map_or_else(String::new, |jail| taken.hint_for(&jail.dataset));
            let text = format!("{name} cannot start by this name: {by} ({hint})");
            context.report.warning(&text);
        }
        let more = taken.len().saturating_sub(SHOWN);
        if more > 0 {
            let text = format!(
                "{more} more names of jails are taken on this host: `ezz doctor` lists them"
            );
            context.report.warning(&text);
        }
        Ok(())
    }
}

/// Returns every received `ezz:*` property, and counts.
fn received(
    session: &Session,
    inventory: &Inventory,
) -> Result<Vec<(String, String, String)>, crate::session::SessionError> {
    let layout = &inventory.site.layout;
    let mut roots = vec![
        layout.site.to_string(),
        layout.basejail.to_string(),
        layout.jails.to_string(),
    ];
    for generation in inventory
        .generations
        .values()
        .filter(|found| found.sealed())
    {
        let base = generation.base.iter().map(|half| half.dataset.to_string());
        roots.extend(base);
        roots.extend(
            generation::seals(layout, generation.id)
                .iter()
                .map(ToString::to_string),
        );
    }
    roots.extend(
        inventory
            .jails
            .values()
            .map(|jail| jail.dataset.to_string()),
    );
    let rows: BTreeMap<String, crate::ports::Row> = session
        .zfs
        .read(&Query {
            roots: &roots,
            depth: Some(0),
            types: &["filesystem", "snapshot"],
            properties: &["all"],
        })
        .map_err(execute::ApplyError::from)?;
    Ok(rows
        .into_iter()
        .flat_map(|(dataset, row)| {
            row.0
                .into_iter()
                .filter(|(name, found)| {
                    name.starts_with("ezz:") && found.source == Source::Received
                })
                .map(move |(name, found)| (dataset.clone(), name, found.value))
        })
        .collect())
}
