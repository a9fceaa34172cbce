//! Verifies that a generation is as it was sealed: by the properties of ZFS, and by its manifest.

use std::path::Path;

use super::progress::Shown;
use super::{CliError, Context};
use crate::model::Generation;
use crate::plan::{MountAs, Plan, PlanError, Step};
use crate::ports::Query;
use crate::session::Session;
use crate::world::{Context as Work, WorldError, manifest};

/// Finds writes after the seal that ZFS itself reports: `written@N` of both halves (zfsprops.7).
///
/// # Errors
/// [`CliError`]: the pool cannot be read.
pub(super) fn quick(session: &Session, generation: &Generation) -> Result<Vec<String>, CliError> {
    let property = format!("written@{}", generation.id);
    let halves = [&generation.base, &generation.skeleton];
    let halves: Vec<String> = halves
        .into_iter()
        .flatten()
        .map(|half| half.dataset.to_string())
        .collect();
    let rows = session.zfs.read(&Query {
        roots: &halves,
        depth: Some(0),
        types: &["filesystem"],
        properties: &[&property],
    })?;
    let mut differences = Vec::new();
    for half in halves {
        let value = rows
            .get(&half)
            .and_then(|row| row.0.get(&property))
            .map_or("-", |found| found.value.as_str());
        match value.parse::<u64>() {
            Ok(0) => {}
            Ok(count) => {
                differences.push(format!(
                    "{count} bytes of {half} were written after the seal"
                ));
            }
            Err(_) => differences.push(format!("{half} has no snapshot")),
        }
    }
    Ok(differences)
}

/// Verifies everything: what [`quick`] does, and each file of the base against the sealed manifest.
///
/// # Errors
/// [`CliError`]: the pool or a file cannot be read, or the work was interrupted.
pub(super) fn whole(
    context: &Context<'_>,
    session: &Session,
    generation: &Generation,
) -> Result<Vec<String>, CliError> {
    let mut differences = quick(session, generation)?;
    differences.extend(whole_base(context, session, generation)?);
    Ok(differences)
}

/// Verifies each file of the base against the sealed manifest, and the manifest against its seal.
///
/// # Errors
/// Those of [`whole`].
pub(super) fn whole_base(
    context: &Context<'_>,
    session: &Session,
    generation: &Generation,
) -> Result<Vec<String>, CliError> {
    let Some(seal) = generation.seal() else {
        return Ok(Vec::new());
    };
    with_base(context, session, generation, |at| {
        compare(context, generation, at, &seal.manifest)
    })
}

/// Returns the text of a generation's manifest.
///
/// # Errors
/// [`CliError::Tampered`] if it is not the sealed one; [`CliError`].
pub(super) fn sealed_manifest(
    context: &Context<'_>,
    session: &Session,
    generation: &Generation,
) -> Result<String, CliError> {
    with_base(context, session, generation, |at| {
        let failed = |source: WorldError| CliError::Verify {
            generation: generation.display(),
            source,
        };
        let (text, digest) = manifest::read(at).map_err(failed)?;
        let sealed = generation.seal().map(|seal| seal.manifest.as_str());
        if sealed != Some(digest.to_string().as_str()) {
            return Err(CliError::Tampered {
                generation: generation.display(),
                list: vec!["its manifest is not the sealed one".to_owned()],
            });
        }
        Ok(text)
    })
}

/// Calls a closure with the directory at which a base is mounted.
///
/// # Errors
/// [`CliError`]: that of the closure; the base does not exist.
pub(super) fn with_base<T>(
    context: &Context<'_>,
    session: &Session,
    generation: &Generation,
    work: impl FnOnce(&Path) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let base = generation
        .base
        .as_ref()
        .ok_or(PlanError::NotSealed(generation.id))?;
    if base.mounted {
        return work(&base.mountpoint);
    }
    // It is mounted at a place of its own while it is read: the base of a replica has the mountpoint of the site of
    // origin, which may be on this host.
    let at = context.machine.run_directory().join(format!(
        "verify-{}-{}",
        context.machine.process_id(),
        generation.id
    ));
    let dataset = base.dataset.clone();
    let mount = Step::mount(dataset.clone(), at.clone(), MountAs::Base);
    let unmount = Step::unmount(dataset, at.clone());
    let run = |steps: Vec<Step>| session.run_always(&Plan::from_steps(steps));
    run(vec![mount])?;
    let found = work(&at);
    run(vec![unmount, Step::RemoveDirectory { at }])?;
    found
}

/// Compares the files in a directory with the manifest there, and the manifest with the sealed digest.
fn compare(
    context: &Context<'_>,
    generation: &Generation,
    at: &Path,
    sealed: &str,
) -> Result<Vec<String>, CliError> {
    let failed = |source| match source {
        WorldError::Interrupted => CliError::Interrupted,
        source => CliError::Verify {
            generation: generation.display(),
            source,
        },
    };
    let progress = Shown::new(context.report);
    let work = Work {
        progress: &progress,
        cancel: context.machine.cancel(),
    };
    let (text, digest) = manifest::read(at).map_err(failed)?;
    if digest.to_string() != sealed {
        return Ok(vec![format!(
            "its manifest is not the sealed one: {digest}"
        )]);
    }
    let found = manifest::verify(at, &text, &work).map_err(failed)?;
    Ok(found.iter().map(ToString::to_string).collect())
}
