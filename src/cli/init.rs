//! `ezz init`: makes a dataset a site.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::confirm::confirm;
use super::{CliError, Context, DryRun, access};
use crate::execute::{Applied, Apply, ApplyError};
use crate::lock::Locks;
use crate::model::{Layout, property};
use crate::name::DatasetName;
use crate::observe::proper_id;
use crate::plan::{PlanError, Step, is_open, site};
use crate::ports::{PortError, Query, Source, Zfs};
use crate::report::{Exit, Kind as Json};

/// Create a site: the datasets that hold the worlds and the jails
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ezz init tank/ezz\n\nezz asks before it takes a whole pool; without a terminal, give --yes. To remove a site with all its jails and worlds: `ezz stop --all`, then `zfs list -Hrt snapshot -o name tank/ezz/basejail tank/ezz/newjail | xargs -n 1 zfs release ezz`, then `zfs destroy -r tank/ezz`.\n\nJSON: a `site-result`"
)]
pub struct Init {
    /// Dataset of the site, created if it does not exist
    dataset: DatasetName,
    /// Site directory, where jails are mounted
    #[arg(long, value_name = "DIR", default_value = default_directory())]
    directory: PathBuf,
    /// Do not ask before a whole pool becomes the site
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

fn default_directory() -> &'static str {
    if cfg!(target_os = "freebsd") {
        "/usr/jails"
    } else {
        "/srv/jails"
    }
}

#[derive(Debug, Serialize)]
struct Made<'a> {
    site: &'a DatasetName,
    id: &'a str,
    directory: &'a PathBuf,
    created: bool,
}

impl Init {
    pub(super) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let report = &context.report;
        absolute(&self.directory)?;
        let zfs = context.machine.zfs();
        let zfs = zfs.as_ref();
        let layout = Layout::new(self.dataset.clone())?;
        let request = look(zfs, layout, self.directory.clone())?;
        if !request.initialised {
            usable(zfs, &self.directory, &self.dataset)?;
            outside_of_sites(zfs, &self.directory, &self.dataset)?;
        }
        let plan = site::init(&request);
        if self.dry_run.dry_run {
            context.plan(&plan);
            return Ok(Exit::Done);
        }
        if !request.initialised && self.dataset.parent().is_none() && !self.yes {
            let pool = &self.dataset;
            let about = format!(
                "  the whole pool {pool} becomes a site of ezz, and nothing else should be kept in it\n  (`ezz init {pool}/ezz` takes a dataset of its own)\n"
            );
            confirm(context, pool.as_str(), &about, "Take the whole pool?")?;
        }
        let host = context.machine.host(&request.id, &self.directory);
        let locks = Locks::new(context.machine.run_directory(), &request.id, Duration::ZERO);
        let apply = Apply {
            zfs,
            host: host.as_ref(),
            site: &self.dataset,
            jobs: 1,
            strict: true,
            locks: &locks,
        };
        let last = plan.last_program();
        let mut applied = Applied::default();
        apply
            .run(&plan, 0..last, &mut applied, &|_| {})
            .map_err(|first| undo(zfs, &plan.steps[..last], applied.changed, first))?;
        apply.run(&plan, last..plan.steps.len(), &mut applied, &|_| {})?;
        for note in &plan.notes {
            report.note(note);
        }
        let created = !request.initialised;
        let made = Made {
            site: &self.dataset,
            id: &request.id,
            directory: &self.directory,
            created,
        };
        report.result(Json::SiteResult, made.created, &made);
        if created {
            let line = format!("init {}: epoch 0 to 1: exit 0", self.dataset);
            context.machine.log(&line);
            report.said(format!(
                "{} is a site, at {}",
                self.dataset,
                self.directory.display()
            ));
        }
        Ok(Exit::Done)
    }
}

/// Destroys the datasets that a failed `init` has created, which are those of the first steps that were done. If the
/// program was interrupted, its changes are unknown, and the datasets stay; the next `init` continues from there.
fn undo(zfs: &dyn Zfs, steps: &[Step], done: usize, first: ApplyError) -> CliError {
    let unknown = matches!(&first, ApplyError::Zfs(PortError::Program { source, .. })
        if source.may_have_changed());
    let made = steps.iter().take(if unknown { 0 } else { done }).rev();
    let cleared = made
        .filter_map(|step| match step {
            Step::Create { dataset, .. } => Some(dataset),
            _ => None,
        })
        .try_for_each(|dataset| zfs.destroy(dataset));
    match cleared {
        Ok(()) => first.into(),
        Err(undo) => CliError::Undo {
            first: Box::new(first.into()),
            undo: super::error::one_line(&undo),
        },
    }
}

/// Refuses a directory inside another site's directory: it would be a jail's root, or a jail's own file.
fn outside_of_sites(zfs: &dyn Zfs, directory: &Path, site: &DatasetName) -> Result<(), CliError> {
    let rows = zfs.read(&Query {
        roots: &[],
        depth: None,
        types: &["filesystem"],
        properties: &[property::FORMAT, "mountpoint", property::DELEGATED],
    })?;
    let inside = rows.iter().find(|(name, row)| {
        let value = |property: &str| row.0.get(property).map_or("-", |found| &found.value);
        name.as_str() != site.as_str()
            && value(property::DELEGATED) != "on"
            && value(property::FORMAT) != "-"
            && directory.starts_with(value("mountpoint"))
    });
    match inside {
        None => Ok(()),
        Some((name, _)) => Err(CliError::Usage {
            what: format!(
                "the directory {} is inside the site of {name}",
                directory.display()
            ),
            hint: "choose another with --directory".to_owned(),
        }),
    }
}

/// Checks that a path can be a site directory.
///
/// # Errors
/// [`CliError::Usage`].
pub(super) fn absolute(directory: &Path) -> Result<(), CliError> {
    // `zfs get` prints the path between tabs, one line for each value.
    let plain = |text: &str| !text.contains(char::is_control);
    let text = directory.to_str().is_some_and(plain);
    if directory.is_absolute() && directory != Path::new("/") && text {
        return Ok(());
    }
    Err(CliError::Usage {
        what: format!("the site directory {directory:?} is not valid"),
        hint: "give an absolute path of its own with --directory, such as /srv/jails".to_owned(),
    })
}

/// Checks that a site can be mounted at a directory, whose content would be hidden.
///
/// # Errors
/// [`CliError::Usage`]; [`CliError::Zfs`] if the mounts cannot be read.
pub(super) fn usable(zfs: &dyn Zfs, directory: &Path, site: &DatasetName) -> Result<(), CliError> {
    absolute(directory)?;
    let mut entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(_) => None,
        Ok(entries) => Some(entries),
    };
    let mounts = zfs.mounts()?;
    let there = mounts.iter().rfind(|mount| mount.target == directory);
    if let Some(mount) = there.filter(|mount| mount.source != site.as_str()) {
        return Err(CliError::Usage {
            what: format!(
                "{} is mounted at the site directory {}",
                mount.source,
                directory.display()
            ),
            hint: "choose another with --directory".to_owned(),
        });
    }
    let empty = entries
        .as_mut()
        .is_some_and(|entries| entries.next().is_none());
    if empty || there.is_some() {
        return Ok(());
    }
    Err(CliError::Usage {
        what: format!("the site directory {} is not empty", directory.display()),
        hint: "empty it, or choose another with --directory".to_owned(),
    })
}

/// Finds out what exists already.
fn look(zfs: &dyn Zfs, layout: Layout, directory: PathBuf) -> Result<site::Init, CliError> {
    let mut roots = Vec::new();
    let mut above = layout.site.parent();
    while let Some(parent) = above {
        above = parent.parent();
        roots.push(parent);
    }
    roots.reverse();
    let pool = roots
        .first()
        .cloned()
        .unwrap_or_else(|| layout.site.clone());
    let own = [
        &layout.site,
        &layout.basejail,
        &layout.newjail,
        &layout.jails,
    ];
    let all: Vec<String> = roots.iter().chain(own).map(ToString::to_string).collect();
    let rows = zfs.read(&Query {
        roots: &all,
        depth: Some(0),
        types: &["filesystem"],
        properties: &[
            property::FORMAT,
            property::ID,
            "mounted",
            "mountpoint",
            "type",
        ],
    })?;
    if !rows.contains_key(pool.as_str()) {
        return Err(CliError::Observe(crate::observe::ObserveError::NoDataset(
            pool,
        )));
    }
    let local = |dataset: &DatasetName, name: &str| {
        rows.get(dataset.as_str())
            .and_then(|row| row.0.get(name))
            .filter(|found| found.source != Source::Elsewhere)
            .map(|found| found.value.clone())
    };
    if let Some(outer) = roots
        .iter()
        .find(|root| local(root, property::FORMAT).is_some())
    {
        return Err(CliError::Plan(PlanError::Stranger {
            dataset: layout.site.clone(),
            why: format!("it would be inside the site {outer}"),
        }));
    }
    let exists = |dataset: &&DatasetName| rows.contains_key(dataset.as_str());
    let initialised = local(&layout.site, property::FORMAT).is_some();
    let id = local(&layout.site, property::ID);
    if let Some(id) = id.as_ref().filter(|_| initialised) {
        proper_id(&layout.site, id)?;
    }
    let known: Vec<DatasetName> = own.into_iter().filter(exists).cloned().collect();
    if !initialised && known.contains(&layout.site) {
        only_ours(zfs, &layout)?;
    }
    let value = |name: &str| -> Option<String> {
        let found = rows.get(layout.site.as_str())?.0.get(name)?;
        Some(found.value.clone())
    };
    let open = |at: &PathBuf| access(at).is_some_and(|(mode, owner)| is_open(mode, owner));
    let capabilities = zfs.capabilities(&layout.site)?;
    let native = if cfg!(target_os = "linux") {
        BTreeMap::from([
            ("acltype".to_owned(), "posix".to_owned()),
            ("xattr".to_owned(), "sa".to_owned()),
        ])
    } else {
        BTreeMap::new()
    };
    Ok(site::Init {
        // An interrupted init may have set it.
        id: id
            .filter(|id| proper_id(&layout.site, id).is_ok())
            .unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        existing: known,
        parents: roots.iter().filter(|root| !exists(root)).cloned().collect(),
        initialised,
        unready: value("mountpoint")
            .map(PathBuf::from)
            .filter(|at| initialised && (value("mounted").as_deref() == Some("no") || open(at))),
        native,
        snapdir_disabled: version_at_least(&capabilities.module, (2, 3)),
        directory,
        layout,
    })
}

/// Refuses an existing dataset that is not a site, unless everything below it can be the work of an interrupted `init`.
fn only_ours(zfs: &dyn Zfs, layout: &Layout) -> Result<(), CliError> {
    let rows = zfs.read(&Query {
        roots: &[layout.site.to_string()],
        depth: None,
        types: &["filesystem", "snapshot", "volume"],
        properties: &["type"],
    })?;
    let own = [
        &layout.site,
        &layout.basejail,
        &layout.newjail,
        &layout.jails,
    ];
    let strange = rows
        .keys()
        .find(|name| !own.iter().any(|dataset| dataset.as_str() == *name));
    match strange {
        None => Ok(()),
        Some(name) => Err(CliError::Plan(PlanError::NotEmpty {
            dataset: layout.site.clone(),
            has: name.clone(),
        })),
    }
}

/// Whether a module's version, e.g. `2.4.4-1` or `v2.2.9-FreeBSD_g…`, is at least this one.
fn version_at_least(text: &str, least: (u32, u32)) -> bool {
    let mut numbers = text
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version_at_least("2.4.4-1", (2, 3)));
        assert!(version_at_least("v2.10.0-FreeBSD_g1", (2, 3)));
        assert!(!version_at_least("2.2.9", (2, 3)));
        assert!(!version_at_least("", (2, 3)));
    }
}
