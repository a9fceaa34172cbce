//! Decides about suspected secrets in a new world: they are refused, allowed, or allowed since an earlier generation.
//!
//! `ezz:world` stores the paths of the allowed secrets, but no digest of them: every user can read properties, and a
//! short secret can be found from its digest. Whether a secret is still the same is decided by the files of the
//! previous generation.

use std::collections::BTreeSet;

use super::build::Wanted;
use super::verify::with_base;
use super::{CliError, Context};
use crate::profile::Profile;
use crate::session::Session;
use crate::world::{self, Finding, WorldError};

/// The most bytes of the list that `ezz:world` stores: the property has other values, too.
const KEPT: usize = 5000;

/// Decides about the secrets that were found. Returns the list for `ezz:world`.
///
/// # Errors
/// [`CliError::Secrets`]; [`CliError`]: the previous generation cannot be read.
pub(super) fn allowed(
    context: &Context<'_>,
    session: &Session,
    wanted: &Wanted<'_>,
    (profile, secrets): (&Profile, Vec<Finding>),
) -> Result<Vec<String>, CliError> {
    let known = match wanted.taking.allow_secrets || secrets.is_empty() {
        true => BTreeSet::new(),
        false => before(context, session, wanted, profile)?,
    };
    let is_new = |secret: &&Finding| !known.contains(*secret);
    let new: Vec<String> = secrets
        .iter()
        .filter(is_new)
        .map(ToString::to_string)
        .collect();
    if !wanted.taking.allow_secrets && !new.is_empty() {
        return Err(CliError::Secrets { list: new });
    }
    let since = match wanted.parent {
        Some(parent) if !known.is_empty() => format!(" since {}", parent.display()),
        _ => String::new(),
    };
    let mut kept = Vec::new();
    let mut length = 0;
    for secret in &secrets {
        let secret = secret.to_string();
        context.report.note(format!("allowed{since}: {secret}"));
        length += secret.len() + 4;
        if length <= KEPT {
            kept.push(secret);
        }
    }
    if length > KEPT {
        context
            .report
            .warning("these are too many to remember: the next update needs --allow-secrets again");
    }
    Ok(kept)
}

/// Returns the secrets that were allowed in the previous generation, as they are there.
fn before(
    context: &Context<'_>,
    session: &Session,
    wanted: &Wanted<'_>,
    profile: &Profile,
) -> Result<BTreeSet<Finding>, CliError> {
    let parent = wanted.parent.and_then(|it| Some((it, it.world.as_ref()?)));
    let Some((parent, world)) = parent.filter(|(_, world)| !world.allowed.is_empty()) else {
        return Ok(BTreeSet::new());
    };
    let found = with_base(context, session, parent, |at| {
        let work = world::Context {
            cancel: context.machine.cancel(),
            ..world::Context::quiet()
        };
        world::find_secrets(at, profile, &work).map_err(|source| match source {
            WorldError::Interrupted => CliError::Interrupted,
            source => CliError::Verify {
                generation: parent.display(),
                source,
            },
        })
    })?;
    let allowed = |secret: &Finding| world.allowed.contains(&secret.to_string());
    Ok(found.into_iter().filter(allowed).collect())
}
