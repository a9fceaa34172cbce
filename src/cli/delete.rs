//! `ezz delete`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use super::confirm::confirm;
use super::merging::clear_left;
use super::restart_marks::RestartMarks;
use super::select::Jails;
use super::{CliError, Context, DryRun, JailReporter, error};
use crate::execute::ApplyError;
use crate::model::Inventory;
use crate::name::JailName;
use crate::plan::delete::{delete, restore as restored};
use crate::plan::deletion::{Below, Request};
use crate::plan::{Observed, Plan};
use crate::ports::{PortError, Query, Zfs};
use crate::report::Exit;
use crate::session::{Around, Scope, Session, SessionError};

/// Delete jails with all their files; running ones are stopped first
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ezz delete web01 --yes\n  ezz delete --label tier=front --dry-run\n\nJSON: a `jail-result` for each jail"
)]
pub struct Delete {
    #[command(flatten)]
    jails: Jails,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
    /// Also destroy snapshots and datasets below the jails that ezz did not create
    #[arg(long)]
    foreign_snapshots: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

impl Delete {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        self.jails.some("--label")?;
        let selected = self.jails.parse()?;
        selected.each_once()?;
        let session = context.session(self.dry_run)?;
        if !self.dry_run.dry_run {
            // A snapshot that a killed command had mounted keeps its jail.
            clear_left(context, &session)?;
        }
        let names = selected.of(&session)?;
        let scope = Scope::of(names.iter().cloned()).ending_starts();
        let moving = RestartMarks::of(context, &session);
        let request = |inventory: &Inventory| -> Result<Request, SessionError> {
            Ok(Request {
                names: names.clone(),
                foreign: self.foreign_snapshots,
                below: below(session.zfs.as_ref(), inventory, &scope.jails)
                    .map_err(crate::execute::ApplyError::from)?,
            })
        };
        if !self.dry_run.dry_run && !self.yes {
            // A refusal comes before the question.
            let observed = session.observe(&scope)?;
            let plan = delete(&observed, &request(&observed.inventory)?)?;
            let site = session.site.as_str();
            confirm(context, site, &plan.to_string(), "Delete for good?")?;
        }
        // The jails that were mounted when the last plan was made, for the way back.
        let mounted = RefCell::new(BTreeSet::new());
        let told = JailReporter::new(&context.report, &session);
        let asked: BTreeSet<&JailName> = names.iter().collect();
        let plan =
            |observed: &Observed| Ok((delete(observed, &request(&observed.inventory)?)?, ()));
        let before = |observed: &Observed, _: &mut Plan, _: &()| {
            if !session.dry_run {
                names.iter().for_each(|name| moving.forget(context, name));
            }
            let jails = observed.inventory.jails.values();
            let there = jails.filter(|jail| jail.mounted);
            mounted
                .borrow_mut()
                .extend(there.map(|jail| jail.name.clone()));
        };
        let done = |jail: &JailName, _: &()| {
            if asked.contains(jail) {
                told.say(jail, "deleted");
            }
        };
        let around = Around {
            before: &before,
            done: &done,
        };
        let (outcome, exit, ()) = context
            .transact_around(&session, "delete", &scope, plan, &around)
            .map_err(|first| {
                let busy = busy(&first).cloned();
                let error = restore(&session, &scope, &mounted.borrow(), first);
                match busy.and_then(|dataset| in_use(&session, &scope, &dataset)) {
                    Some(in_use) if !matches!(error, CliError::Undo { .. }) => in_use,
                    Some(_) | None => error,
                }
            })?;
        if session.dry_run {
            return Ok(exit);
        }
        let failed = outcome.applied.failed.iter().map(|(name, _)| name);
        let failed: BTreeSet<&JailName> = failed.collect();
        for jail in names.iter().filter(|jail| !failed.contains(jail)) {
            told.say(jail, "deleted");
        }
        Ok(exit)
    }
}

/// The dataset that was to be destroyed, and that something uses.
fn busy(error: &CliError) -> Option<&String> {
    match error {
        CliError::Session(SessionError::Apply(ApplyError::Zfs(error))) => error.busy_dataset(),
        _ => None,
    }
}

/// What uses the files of a jail that is mounted again.
fn in_use(session: &Session, scope: &Scope, dataset: &str) -> Option<CliError> {
    let inventory = session.inventory(scope).ok()?;
    let jail = (inventory.jails.values()).find(|jail| jail.dataset.as_str() == dataset)?;
    let holders = match jail.mounted {
        true => session.host.holders(&jail.mountpoint),
        false => Vec::new(),
    };
    let jail = jail.name.clone();
    // Without a process the error of the kernel says more: what is busy, and where.
    (!holders.is_empty()).then_some(CliError::InUse { jail, holders })
}

/// Mounts the jails again that a failed deletion had unmounted; keeps both causes if that fails too.
fn restore(
    session: &Session,
    scope: &Scope,
    mounted: &BTreeSet<JailName>,
    first: CliError,
) -> CliError {
    let begun = matches!(
        first,
        CliError::Session(SessionError::Apply(_) | SessionError::Interrupted { changed: true, .. })
    );
    if session.dry_run || !begun {
        return first;
    }
    let scope = scope.clone().steadfast();
    match session.transact(&scope, |observed| Ok(restored(observed, mounted))) {
        Ok(_) => first,
        Err(undo) => CliError::Undo {
            first: Box::new(first),
            undo: error::one_line(&undo),
        },
    }
}

/// Returns snapshots and datasets below these jails, deepest first, with the clones of the snapshots that are
/// elsewhere.
pub(super) fn below(
    zfs: &dyn Zfs,
    inventory: &Inventory,
    named: &BTreeSet<JailName>,
) -> Result<Vec<Below>, PortError> {
    let debris = inventory.debris.values().map(|debris| &debris.jail);
    let jails: BTreeSet<String> = inventory
        .jails
        .values()
        .chain(debris)
        .filter(|jail| named.contains(&jail.name))
        .map(|jail| jail.dataset.to_string())
        .collect();
    if jails.is_empty() {
        return Ok(Vec::new());
    }
    // One process reads all of them: with one each, deleting 200 jails takes twenty seconds.
    let rows = zfs.read(&Query {
        roots: &jails.iter().cloned().collect::<Vec<_>>(),
        depth: None,
        types: &["filesystem", "volume", "snapshot"],
        properties: &["guid", "clones", "userrefs"],
    })?;
    let depth = inventory.site.layout.jails.as_str().matches('/').count() + 1;
    // Sorted by jail; in each, a file system follows its snapshots and its children.
    let mut found: BTreeMap<(String, usize, bool, String), Below> = BTreeMap::new();
    for (name, row) in rows {
        let jail = jail_of(&name, depth);
        if name == jail || !jails.contains(jail) {
            continue;
        }
        let value = |property: &str| row.0.get(property).map_or("", |found| &found.value);
        let clones = value("clones")
            .split(',')
            .filter(|clone| !clone.is_empty() && *clone != "-" && jail_of(clone, depth) != jail)
            .map(str::to_owned)
            .collect();
        let key = (
            jail.to_owned(),
            name.matches('/').count(),
            name.contains('@'),
            name.clone(),
        );
        let guid = value("guid").parse().unwrap_or(0);
        let held = value("userrefs")
            .parse::<u64>()
            .is_ok_and(|holds| holds > 0);
        found.insert(
            key,
            Below {
                name,
                guid,
                clones,
                held,
            },
        );
    }
    Ok(found.into_values().rev().collect())
}

/// Returns the dataset of the jail that a name below SITE/jails belongs to: its first components.
fn jail_of(name: &str, depth: usize) -> &str {
    let end = name
        .char_indices()
        .filter(|(_, c)| *c == '/')
        .nth(depth)
        .map(|(at, _)| at);
    let end = end.or_else(|| name.find('@')).unwrap_or(name.len());
    let own = &name[..end];
    own.split_once('@').map_or(own, |(own, _)| own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_jail_is_told_by_its_first_components() {
        for (name, jail) in [
            ("tank/ezz/jails/a", "tank/ezz/jails/a"),
            ("tank/ezz/jails/a@s", "tank/ezz/jails/a"),
            ("tank/ezz/jails/a/b@s", "tank/ezz/jails/a"),
            ("tank/ezz/jails/a/b/c", "tank/ezz/jails/a"),
            ("tank/ezz/jails/ab", "tank/ezz/jails/ab"),
            ("tank/other@x", "tank/other"),
        ] {
            assert_eq!(jail_of(name, 3), jail);
        }
    }
}
