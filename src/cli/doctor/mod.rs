//! `ezz doctor`: diagnoses the host and the site, and repairs derived files and debris.

mod adopt;
pub(super) mod facts;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::restart_marks::RestartMarks;
use super::{CliError, Context, DryRun, build, init};
use crate::execute;
use crate::model::property;
use crate::name::{DatasetName, JailName};
use crate::plan::Observed;
use crate::plan::doctor::{Diagnosis, diagnose};
use crate::plan::finding::{Finding, Severity, What};
use crate::ports::{Capabilities, Check, Level, Query, Row, Source};
use crate::report::{Exit, Kind as Json};
use crate::session::{Around, Scope, Session, SessionError};
use facts::{Idle, facts};

/// Diagnose the host and the site; repair derived files and clear debris
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz doctor --repair\n\nWithout --repair, `ezz doctor` changes nothing. With it, ezz restores what is derived (mounts, links, files of the host), and clears what interrupted commands left. Broken invariants and objects that ezz did not create are reported, never changed. For generations, it checks the seal and whether anything was written since; `ezz world verify` compares every file. For the host, it checks the features that jails need, and conflicts: addresses that no interface has or that several jails have, services that listen on them, host names that are taken. `ezz create` and `ezz start` warn about the same conflicts.\n\nThe exit code is 1 if something is still broken or left over, or if the host cannot run jails.\n\nJSON: a `diagnosis`; with --adopt an `adoption`. The kinds of findings keep their names. mended lists the findings that --repair has resolved."
)]
pub struct Doctor {
    /// Restore what is derived, and clear what interrupted commands left
    #[arg(long)]
    repair: bool,
    /// With --repair, restore only what is derived, as at boot
    #[arg(long, requires = "repair")]
    derived: bool,
    /// Make a replica that arrived by zfs receive a site of its own
    #[arg(long, conflicts_with = "repair")]
    adopt: bool,
    /// New site directory, with --adopt
    #[arg(long, requires = "adopt", value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    site: &'a DatasetName,
    /// `None` on a pool that was imported read-only.
    capabilities: Option<&'a Capabilities>,
    checks: &'a [Check],
    findings: &'a [Finding],
    mended: &'a [Finding],
    repaired: usize,
}

impl Doctor {
    pub(super) fn run(self, context: &Context) -> Result<Exit, CliError> {
        if let Some(directory) = &self.directory {
            init::absolute(directory)?;
        }
        let session = context.session(self.dry_run)?;
        if self.adopt {
            return self.adopt(context, &session);
        }
        if self.repair {
            return self.repair(context, &session);
        }
        let diagnosis = examine(&session, false)?;
        tell(context, &session, &diagnosis, &[], 0)
    }

    fn repair(&self, context: &Context<'_>, session: &Session) -> Result<Exit, CliError> {
        // The content of the site directory can only be seen while the site is mounted.
        let unmounted = !session.inventory(&Scope::none())?.site.mounted;
        let (mut before, mut changed, exit) = self.repair_once(context, session)?;
        if session.dry_run || exit != Exit::Done {
            return Ok(exit);
        }
        if unmounted {
            let (more, also, exit) = self.repair_once(context, session)?;
            if exit != Exit::Done {
                return Ok(exit);
            }
            before.extend(more);
            changed += also;
        }
        tidy(context, session)?;
        let diagnosis = examine(session, self.derived)?;
        // A finding that still exists was not repaired, whatever its step reported.
        before.retain(|finding| finding.repairable && !diagnosis.findings.contains(finding));
        // After every boot each dataset has such a finding.
        let (flags, others): (Vec<_>, Vec<_>) =
            before.iter().partition(|it| it.kind == What::MountFlags);
        if !flags.is_empty() {
            context.report.said(format!(
                "mended  flags of mounts, such as nosuid, which `zfs mount` leaves out: {}",
                flags.len()
            ));
        }
        for finding in others {
            context.report.said(format!(
                "mended  {}: {}{}",
                finding.object,
                finding.what,
                cause(finding)
            ));
        }
        tell(context, session, &diagnosis, &before, changed)
    }

    /// Diagnoses and repairs; returns the findings and the number of steps that changed something.
    fn repair_once(
        &self,
        context: &Context<'_>,
        session: &Session,
    ) -> Result<(Vec<Finding>, usize, Exit), CliError> {
        let mut jails = left(session)?;
        jails.extend(interrupted_merges(session, marked(session)?)?);
        let scope = Scope {
            jails,
            ..Scope::all()
        };
        let plan = |observed: &Observed| {
            // Of the jails that are locked now, keep those that no other command has cleared meanwhile.
            let mut left: BTreeSet<JailName> = session.host.leftovers()?.into_iter().collect();
            left.retain(|name| scope.jails.contains(name));
            let idle = Idle {
                left: &left,
                merges: &scope.jails,
            };
            let facts =
                facts(session, observed, self.derived, idle).map_err(|error| match error {
                    CliError::Session(inner) => inner,
                    other => crate::session::SessionError::Apply(execute::ApplyError::File {
                        action: "examine",
                        path: PathBuf::from(session.site.as_str()),
                        source: std::io::Error::other(super::error::one_line(&other)),
                    }),
                })?;
            let diagnosis = diagnose(observed, &facts, self.derived)?;
            Ok((diagnosis.plan, diagnosis.findings))
        };
        let nothing = Around::nothing();
        let (outcome, exit, before) =
            context.transact_around(session, "doctor --repair", &scope, plan, &nothing)?;
        Ok((before, outcome.applied.changed, exit))
    }
}

/// Removes the marks of jails that no longer exist, and the directory of marks if it is empty.
fn tidy(context: &Context<'_>, session: &Session) -> Result<(), CliError> {
    let moving = RestartMarks::of(context, session);
    moving.tidy();
    let marks = moving.names()?;
    if marks.is_empty() {
        return Ok(());
    }
    let inventory = session.inventory(&Scope::of(marks.iter().cloned()))?;
    let gone = marks
        .iter()
        .filter(|name| !inventory.jails.contains_key(*name));
    gone.for_each(|name| moving.forget(context, name));
    Ok(())
}

/// Returns the cause of a finding, to be printed after it.
fn cause(finding: &Finding) -> String {
    finding
        .cause
        .map(|cause| format!(" (from {cause})"))
        .unwrap_or_default()
}

fn examine(session: &Session, derived_only: bool) -> Result<Diagnosis, CliError> {
    let observed = session.observe_settled(&Scope::all())?;
    let left = left(session)?;
    let merging = observed.inventory.jails.values();
    let merging = merging.filter(|jail| jail.merging.is_some());
    let merging = merging.map(|jail| jail.name.clone()).collect();
    let idle = Idle {
        left: &left,
        merges: &interrupted_merges(session, merging)?,
    };
    Ok(diagnose(
        &observed,
        &facts(session, &observed, derived_only, idle)?,
        derived_only,
    )?)
}

/// Returns the jails that have the mark of a merge.
fn marked(session: &Session) -> Result<Vec<JailName>, CliError> {
    let jails = format!("{}/jails/", session.site);
    let rows = session.zfs.read(&Query {
        roots: &[jails.trim_end_matches('/').to_owned()],
        depth: Some(1),
        types: &["filesystem"],
        properties: &[property::MERGING],
    })?;
    let name = |(dataset, row): &(&String, &Row)| {
        let found = row.0.get(property::MERGING)?;
        let own = found.source == Source::Local;
        let name = dataset.strip_prefix(&jails)?;
        own.then(|| JailName::parse(name).ok())?
    };
    Ok(rows.iter().filter_map(|row| name(&row)).collect())
}

/// Returns the jails with the mark of a merge that no command is working on.
fn interrupted_merges(
    session: &Session,
    marked: Vec<JailName>,
) -> Result<BTreeSet<JailName>, CliError> {
    let mut found = BTreeSet::new();
    for name in marked {
        let free = session.locks.jail_is_free(&name);
        if free.map_err(SessionError::Lock)? {
            found.insert(name);
        }
    }
    Ok(found)
}

/// Returns the jails of which the host has leftovers, and that no command is working on.
fn left(session: &Session) -> Result<BTreeSet<JailName>, CliError> {
    let mut left = BTreeSet::new();
    for name in session.host.leftovers().map_err(SessionError::from)? {
        if session
            .locks
            .jail_is_free(&name)
            .map_err(SessionError::Lock)?
        {
            left.insert(name);
        }
    }
    if !left.is_empty() {
        // A command that worked on one of them may have finished since.
        let still = session.host.leftovers().map_err(SessionError::from)?;
        left.retain(|name| still.contains(name));
    }
    Ok(left)
}

fn tell(
    context: &Context<'_>,
    session: &Session,
    diagnosis: &Diagnosis,
    mended: &[Finding],
    repaired: usize,
) -> Result<Exit, CliError> {
    let report = &context.report;
    // The capabilities are read by a program, which a pool that was imported read-only does not run.
    let capabilities = match session.zfs.capabilities(&session.site) {
        Ok(found) => Some(found),
        Err(error) if error.read_only() => None,
        Err(error) => return Err(error.into()),
    };
    let mut checks = session.host.checks();
    checks.extend(session.zfs.health(&session.site));
    report.result(
        Json::Diagnosis,
        repaired > 0,
        &Told {
            site: &session.site,
            capabilities: capabilities.as_ref(),
            checks: &checks,
            findings: &diagnosis.findings,
            mended,
            repaired,
        },
    );
    report.line(match &capabilities {
        Some(found) => {
            let clone = if found.sync_clone {
                "clones in programs"
            } else {
                "no clones in programs: `create` announces them, clones in parallel and commits once"
            };
            format!("ok      OpenZFS: {}, {clone}", found.module)
        }
        None => "ok      OpenZFS: the pool is read-only, so ezz cannot check whether programs can clone".to_owned(),
    });
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
        report.line(format!(
            "{word} {}: {}{}",
            finding.object,
            finding.what,
            cause(finding)
        ));
        if let Some(hint) = &finding.hint {
            report.line(format!("        hint: {hint}"));
        }
        mendable |= finding.repairable;
        if finding.severity > Severity::Info {
            exit = Exit::Failed;
        }
    }
    if mendable {
        report.line("        hint: `ezz doctor --repair` clears the debris");
    }
    if diagnosis.findings.is_empty() {
        report.line(format!("ok      {}: no findings", session.site));
    }
    Ok(exit)
}
