//! `ezz doctor`: what is wrong, and the repair of what is derived or debris.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{CliError, Context, DryRun, init, install};
use crate::apply;
use crate::model::{Inventory, property, track_link};
use crate::name::{DatasetName, SnapshotName};
use crate::plan::doctor::{Diagnosis, Facts, Severity, diagnose};
use crate::plan::{Observed, site};
use crate::ports::{Capabilities, Level, Query, Source};
use crate::report::Exit;
use crate::session::{Scope, Session};

/// Check the host and the site; mend what is derived or left over
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz doctor --repair\n\nThe exit code is 1 if something is broken or left over afterwards.\n\nJSON: {\"site\", \"capabilities\", \"checks\", \"findings\", \"repaired\"}; with --adopt {\"site\", \"did\"}"
)]
pub struct Doctor {
    /// Mend what is derived, and clear away what interrupted commands left
    #[arg(long)]
    repair: bool,
    /// With --repair: only what is derived, as at boot
    #[arg(long, requires = "repair")]
    derived: bool,
    /// Make a replica that came by zfs receive a site of its own
    #[arg(long, conflicts_with = "repair")]
    adopt: bool,
    /// With --adopt: the site directory from now on
    #[arg(long, requires = "adopt", value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    site: &'a DatasetName,
    capabilities: &'a Capabilities,
    checks: &'a [crate::ports::Check],
    findings: &'a [crate::plan::doctor::Finding],
    repaired: usize,
}

#[derive(Debug, Serialize)]
struct Adopted<'a> {
    site: &'a DatasetName,
    did: &'a str,
}

impl Doctor {
    pub(super) fn run(self, context: &Context) -> Result<Exit, CliError> {
        let session = context.session(self.dry_run)?;
        if self.adopt {
            return self.adopt(context, &session);
        }
        if self.repair {
            return self.repair(context, &session);
        }
        let diagnosis = examine(&session, false)?;
        tell(context, &session, &diagnosis, 0)
    }

    fn repair(&self, context: &Context, session: &Session) -> Result<Exit, CliError> {
        let mut before = Vec::new();
        let (outcome, exit) =
            context.transact(session, "doctor --repair", &Scope::all(), |observed| {
                let facts = facts(session, observed).map_err(|error| match error {
                    CliError::Session(inner) => inner,
                    other => crate::session::SessionError::Apply(apply::ApplyError::File {
                        action: "examine",
                        path: PathBuf::from(session.site.as_str()),
                        source: std::io::Error::other(super::error::one_line(&other)),
                    }),
                })?;
                let diagnosis = diagnose(observed, &facts, self.derived)?;
                before = diagnosis.findings;
                Ok(diagnosis.plan)
            })?;
        if session.dry_run || exit != Exit::Done {
            return Ok(exit);
        }
        for finding in before.iter().filter(|finding| finding.repairable) {
            context
                .report
                .said(format!("mended  {}: {}", finding.object, finding.what));
        }
        let diagnosis = examine(session, self.derived)?;
        tell(context, session, &diagnosis, outcome.applied.changed)
    }

    fn adopt(&self, context: &Context, session: &Session) -> Result<Exit, CliError> {
        let observed = session.observe(&Scope::all())?;
        let diagnosis = diagnose(&observed, &facts(session, &observed)?, false)?;
        if observed.inventory.site.replica {
            let came = &observed.inventory.site.directory;
            let directory = self.directory.as_ref().unwrap_or(came);
            init::usable(directory, &session.site)?;
        }
        let mut broken: Vec<String> = diagnosis
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Broken)
            .map(|finding| format!("{}: {}", finding.object, finding.what))
            .filter(|_| observed.inventory.site.replica)
            .collect();
        if observed.inventory.site.replica {
            broken.extend(unsealed(session, &observed.inventory)?);
        }
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
        context.report.object(&Adopted {
            site: &session.site,
            did: if adopted { "adopted" } else { "already" },
        });
        if adopted {
            context.report.said(format!(
                "{} is a site of its own; `ezz doctor --repair` restores what is derived",
                session.site
            ));
        }
        Ok(exit)
    }
}

fn examine(session: &Session, derived_only: bool) -> Result<Diagnosis, CliError> {
    let observed = session.observe(&Scope::all())?;
    Ok(diagnose(
        &observed,
        &facts(session, &observed)?,
        derived_only,
    )?)
}

fn tell(
    context: &Context,
    session: &Session,
    diagnosis: &Diagnosis,
    repaired: usize,
) -> Result<Exit, CliError> {
    let report = &context.report;
    let capabilities = session.zfs.capabilities(&session.site)?;
    let checks = session.host.checks();
    report.object(&Told {
        site: &session.site,
        capabilities: &capabilities,
        checks: &checks,
        findings: &diagnosis.findings,
        repaired,
    });
    let clone = if capabilities.sync_clone {
        "clones in programs"
    } else {
        "no clones in programs"
    };
    report.line(format!("ok      OpenZFS: {}, {clone}", capabilities.module));
    let mut exit = Exit::Done;
    for check in &checks {
        let level = match check.level {
            Level::Ok => "ok     ",
            Level::Warning => "warning",
            Level::Bad => "bad    ",
        };
        report.line(format!("{level} {}: {}", check.what, check.found));
        if let (Some(hint), Level::Warning | Level::Bad) = (&check.hint, check.level) {
            report.line(format!("        hint: {hint}"));
        }
        if check.level == Level::Bad {
            exit = Exit::Failed;
        }
    }
    let mut mendable = false;
    for finding in &diagnosis.findings {
        let word = match finding.severity {
            Severity::Info => "info   ",
            Severity::Debris => "debris ",
            Severity::Broken => "broken ",
        };
        report.line(format!("{word} {}: {}", finding.object, finding.what));
        mendable |= finding.repairable;
        if finding.severity > Severity::Info {
            exit = Exit::Failed;
        }
    }
    if mendable {
        report.line("        hint: `ezz doctor --repair` mends what is debris");
    }
    if diagnosis.findings.is_empty() {
        report.line(format!("ok      {}: nothing to mend", session.site));
    }
    Ok(exit)
}

fn facts(session: &Session, observed: &Observed) -> Result<Facts, CliError> {
    let inventory = &observed.inventory;
    let mut facts = Facts {
        abandoned: install::abandoned(session, inventory)?
            .iter()
            .map(|generation| generation.id)
            .collect(),
        ..Facts::default()
    };
    // A replica has the id of the site it came from, whose jails this host may run.
    if !inventory.site.replica {
        facts.derived = session.host.derived()?;
    }
    for track in inventory.tracks.keys() {
        let link = track_link(&inventory.site.directory, track);
        facts
            .links
            .insert(track.clone(), std::fs::read_link(link).ok());
    }
    let sealed = inventory
        .generations
        .values()
        .filter(|generation| generation.sealed());
    let snapshots: Vec<SnapshotName> = sealed
        .flat_map(|generation| site::holds(&inventory.site.layout, generation.id))
        .collect();
    for snapshot in snapshots {
        let tags = match session.zfs.holds(&snapshot) {
            Ok(tags) => Some(tags),
            Err(error) if error.no_such_dataset() => None,
            Err(error) => return Err(error.into()),
        };
        facts.holds.insert(snapshot, tags);
    }
    for name in inventory.jails.keys() {
        // A jail that cannot be understood is a finding of its own.
        let Ok(spec) = apply::spec(inventory, name) else {
            continue;
        };
        facts.drift.insert(name.clone(), session.host.drift(&spec)?);
    }
    facts.directory = std::fs::metadata(&inventory.site.directory)
        .ok()
        .filter(|_| inventory.site.mounted)
        .map(|found| (found.mode() & 0o7777, found.uid()));
    facts.deep = deep(session, inventory)?;
    Ok(facts)
}

/// Datasets below jails that carry an `ezz:jail` of their own.
fn deep(session: &Session, inventory: &Inventory) -> Result<Vec<String>, CliError> {
    let jails = &inventory.site.layout.jails;
    let rows = session.zfs.read(&Query {
        roots: &[jails.to_string()],
        depth: None,
        types: &["filesystem", "volume"],
        properties: &[property::JAIL],
    })?;
    let depth = jails.as_str().matches('/').count() + 1;
    Ok(rows
        .into_iter()
        .filter(|(name, _)| name.matches('/').count() > depth)
        .filter(|(_, row)| {
            row.0
                .get(property::JAIL)
                .is_some_and(|found| found.source != Source::Elsewhere)
        })
        .map(|(name, _)| name)
        .collect())
}

/// Skeletons of sealed generations that have no seal. An observation leaves them out, since to
/// read a snapshot with thousands of clones takes seconds; a site is adopted once.
fn unsealed(session: &Session, inventory: &Inventory) -> Result<Vec<String>, CliError> {
    let layout = &inventory.site.layout;
    let sealed = inventory
        .generations
        .values()
        .filter(|found| found.sealed());
    let snapshots: Vec<String> = sealed
        .filter_map(|generation| layout.skeleton_seal(generation.id).ok())
        .map(|snapshot| snapshot.to_string())
        .collect();
    if snapshots.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session.zfs.read(&Query {
        roots: &snapshots,
        depth: Some(0),
        types: &["snapshot"],
        properties: &[property::SEALED],
    })?;
    let has = |name: &String| {
        rows.get(name)
            .and_then(|row| row.0.get(property::SEALED))
            .is_some_and(|found| found.source == Source::Received)
    };
    Ok(snapshots
        .into_iter()
        .filter(|name| !has(name))
        .map(|name| format!("{name}: it has no seal"))
        .collect())
}

/// Every `ezz:*` property that came with the receive, and counts.
fn received(
    session: &Session,
    inventory: &Inventory,
) -> Result<Vec<(String, String, String)>, crate::session::SessionError> {
    let layout = &inventory.site.layout;
    let mut roots = vec![layout.site.to_string(), layout.basejail.to_string()];
    for generation in inventory
        .generations
        .values()
        .filter(|found| found.sealed())
    {
        let base = generation.base.iter().map(|half| half.dataset.to_string());
        roots.extend(base);
        roots.extend(
            site::holds(layout, generation.id)
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
        .map_err(apply::ApplyError::from)?;
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
